"""What is observed: a frozen description of array, spectral windows, sky, schedule and instrument.

An `Observation` holds everything the simulator needs and nothing it computes. It is validated as a whole, and what
a telescope could not do is refused with one sentence. Units are in the names; angles are degrees or arcseconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import field, frozen

from pl_sim.errors import ImpossibleObservation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Extension
    from pl_sim.instrument import Instrument

SPEED_OF_LIGHT = 299_792_458.0

CIRCULAR = ("RR", "RL", "LR", "LL")
LINEAR = ("XX", "XY", "YX", "YY")
CORRELATION_CODES = {"RR": 5, "RL": 6, "LR": 7, "LL": 8, "XX": 9, "XY": 10, "YX": 11, "YY": 12}
"""casacore Stokes enumeration."""


@frozen
class Antenna:
    """One antenna: name, pad and geocentric (ITRF) position in metres."""

    name: str
    station: str
    position_m: tuple[float, float, float]
    diameter_m: float = 25.0


@frozen
class Array:
    """Antennas of one telescope in one configuration."""

    telescope: str
    configuration: str
    antennas: tuple[Antenna, ...]
    elevation_limit_deg: float = 8.0
    mount: str = "ALT-AZ"
    beam_factor: float = 1.13
    """FWHM of the primary beam in lambda/D."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(antenna.name for antenna in self.antennas)

    @property
    def positions_m(self) -> NDArray[np.float64]:
        """Geocentric positions, shape (antenna, 3)."""
        return np.array([antenna.position_m for antenna in self.antennas], dtype=float)

    def subset(self, names: tuple[str, ...]) -> Array:
        """The same array with only these antennas, in this order."""
        by_name = {antenna.name: antenna for antenna in self.antennas}
        return attrs.evolve(self, antennas=tuple(by_name[name] for name in names))


@frozen
class Receiver:
    """A receiver and the sky frequencies it can tune to."""

    name: str
    low_hz: float
    high_hz: float


@frozen
class Spw:
    """A spectral window. `start_hz` is the centre of channel 0; `channel_hz` is negative for a descending axis."""

    name: str
    receiver: Receiver
    start_hz: float
    channel_hz: float
    channels: int
    baseband: str = ""
    bbc_no: int = 1
    correlations: tuple[str, ...] = CIRCULAR
    net_sideband: int = 2
    frame: str = "TOPO"
    role: str = "science"
    """`science`, `pointing`, or a role of an extension (`wvr`, `average` …) whose rows the correlator does not make."""
    correlator_bits: str = "BITS_2x2"
    window_function: str = "UNIFORM"
    num_bin: int = 1
    frequencies_hz_override: tuple[float, ...] = ()
    """Channel centres of a window whose channels are not evenly spaced (a water vapour radiometer)."""

    @property
    def frequencies_hz(self) -> NDArray[np.float64]:
        """Channel centres, shape (channel,)."""
        if self.frequencies_hz_override:
            return np.array(self.frequencies_hz_override, dtype=float)
        return self.start_hz + self.channel_hz * np.arange(self.channels, dtype=float)

    @property
    def centre_hz(self) -> float:
        return float(self.frequencies_hz.mean())

    @property
    def bandwidth_hz(self) -> float:
        return abs(self.channel_hz) * self.channels

    @property
    def feeds(self) -> str:
        """`circular` or `linear`."""
        return "circular" if self.correlations[0][0] in "RL" else "linear"

    @property
    def receptor_pairs(self) -> tuple[tuple[int, int], ...]:
        """Receptor indices (of antenna 1, of antenna 2) of every correlation."""
        return tuple(("LY".count(c[0]), "LY".count(c[1])) for c in self.correlations)


@frozen
class Component:
    """A point or elliptical Gaussian with a log-polynomial spectrum and linear polarization.

    log10 S(nu) = log10 flux_jy + sum_k spectrum[k] * log10(nu / reference_hz)^(k+1): the form in which the calibrator
    scales are published (Perley & Butler 2017, ApJS 230, 7). Offsets are east and north of the source position.
    """

    flux_jy: float
    reference_hz: float
    spectrum: tuple[float, ...] = ()
    east_arcsec: float = 0.0
    north_arcsec: float = 0.0
    major_arcsec: float = 0.0
    minor_arcsec: float = 0.0
    position_angle_deg: float = 0.0
    polarized_fraction: float = 0.0
    polarization_angle_deg: float = 0.0
    rotation_measure: float = 0.0
    """rad/m^2; the polarization angle is the one at `reference_hz`."""
    name: str = ""

    def flux(self, frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Stokes I flux density in Jy."""
        x = np.log10(np.asarray(frequency_hz, dtype=float) / self.reference_hz)
        return self.flux_jy * 10.0 ** np.polynomial.polynomial.polyval(x, (0.0, *self.spectrum))

    def linear_polarization(self, frequency_hz: NDArray[np.float64] | float) -> NDArray[np.complex128]:
        """Q + iU in Jy."""
        nu = np.asarray(frequency_hz, dtype=float)
        lambda_squared = (SPEED_OF_LIGHT / nu) ** 2 - (SPEED_OF_LIGHT / self.reference_hz) ** 2
        angle = math.radians(self.polarization_angle_deg) + self.rotation_measure * lambda_squared
        return self.polarized_fraction * self.flux(nu) * np.exp(2j * angle)


@frozen
class Line:
    """A spectral line from a point or circular Gaussian, with a velocity gradient. Velocity: LSRK, radio convention."""

    rest_hz: float
    peak_jy: float
    velocity_ms: float
    width_ms: float
    """Full width at half maximum."""
    east_arcsec: float = 0.0
    north_arcsec: float = 0.0
    size_arcsec: float = 0.0
    """FWHM of the Gaussian; 0 for a point."""
    gradient_arcsec_per_kms: float = 0.0
    gradient_angle_deg: float = 0.0
    """Direction (north through east) in which the emission moves with increasing velocity."""
    transition: str = ""
    name: str = ""

    @property
    def integrated_jy_kms(self) -> float:
        """Velocity-integrated flux of the Gaussian profile."""
        return self.peak_jy * self.width_ms / 1e3 * math.sqrt(math.pi / (4 * math.log(2)))


@frozen
class Source:
    """Something in the sky: continuum components and lines around one position (J2000/ICRS degrees)."""

    name: str
    ra_deg: float
    dec_deg: float
    components: tuple[Component, ...] = ()
    lines: tuple[Line, ...] = ()
    code: str = "NONE"
    velocity_ms: float = 0.0
    """Systemic LSRK velocity written to the SOURCE table."""
    rest_hz: float | None = None
    shape: str = ""
    """A standard calibrator of the VLA, such as 3C286, whose image gives each component its shape; "": none."""

    def flux(self, frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Total continuum flux density in Jy."""
        return np.sum([c.flux(frequency_hz) for c in self.components], axis=0)


@frozen
class Field:
    """A phase centre. A mosaic has many fields on one source."""

    name: str
    source: str
    ra_deg: float
    dec_deg: float
    code: str = "NONE"


@frozen
class Subscan:
    """A time span on one field with one set of intents."""

    field: str
    seconds: float
    intents: tuple[str, ...]
    kind: str = "sky"
    """`sky`: correlated by the engine. Anything else (a load, a raster row) is the work of an extension."""
    track_arcsec: tuple[tuple[float, float], tuple[float, float]] | None = None
    """On-the-fly: (east, north) offsets from the field at the start and at the end; None: on the field."""
    gap_s: float = 0.0
    """Time lost after this subscan."""
    label: str = ""


@frozen
class Scan:
    """A numbered scan: its subscans, and the spectral windows recorded."""

    number: int
    subscans: tuple[Subscan, ...]
    spws: tuple[int, ...]
    gap_s: float = 20.0
    """Slew and settling time after the scan."""

    @classmethod
    def simple(
        cls,
        number: int,
        field: str,
        seconds: float,
        intents: tuple[str, ...],
        spws: tuple[int, ...],
        gap_s: float = 20.0,
    ) -> Scan:
        """A scan of one subscan."""
        return cls(number, (Subscan(field, seconds, intents),), spws, gap_s)


@frozen
class Atmosphere:
    """Weather and troposphere. `opacity` maps receiver names to zenith opacities in neper."""

    temperature_k: float = 285.0
    pressure_hpa: float = 788.0
    humidity_percent: float = 35.0
    dew_point_k: float = 270.0
    wind_speed_ms: float = 3.0
    wind_direction_rad: float = 1.2
    pwv_mm: float = 5.0
    opacity: dict[str, float] = field(factory=dict)
    phase_screen_m: float = 0.0
    """Rms path fluctuation of a frozen turbulent screen, metres; 0 for none."""
    screen_wind_ms: tuple[float, float] = (7.0, 3.0)
    screen_scale_m: tuple[float, float] = (100.0, 6000.0)
    """Shortest and longest wavelength of the screen's modes."""


@frozen
class Noise:
    """Thermal noise from the radiometer equation; `scale` multiplies it (0 switches it off)."""

    efficiency: float = 0.92
    scale: float = 1.0


@frozen
class Observation:
    """All that is needed to simulate one execution block."""

    name: str
    array: Array
    spws: tuple[Spw, ...]
    sources: tuple[Source, ...]
    scans: tuple[Scan, ...]
    start: str
    """UTC, ISO: `2023-05-10T04:50:00`."""
    integration_s: float
    instrument: Instrument
    fields: tuple[Field, ...] = ()
    """Default: one field per source, at its position."""
    atmosphere: Atmosphere = Atmosphere()
    noise: Noise = Noise()
    extensions: tuple[Extension, ...] = ()
    """Whatever a telescope adds to the correlator's rows: switched power, radiometers, verbatim tables."""
    primary_beam: bool = False
    """Attenuate components by the primary beam of their field."""
    model_seed: int = 1
    """Seed of everything that is truth (gains, delays, screen …). The seed of `simulate` moves only the noise."""
    direction_frame: str = "J2000"
    observer: str = "Sim Observer"
    project: str = "uid://evla/pdb/90000000"
    scheduling_block: str = "uid://evla/pdb/90000001"
    execution_block: str = "uid://evla/pdb/90000002"
    processor: tuple[tuple[str, str], ...] = (("CORRELATOR", "NRAO_WIDAR"),)
    engine: str = "interferometer"
    """Name of the engine that makes the rows: `interferometer`, or one registered with `engine.register_engine`."""
    notes: dict[str, Any] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not self.fields:
            object.__setattr__(
                self, "fields", tuple(Field(s.name, s.name, s.ra_deg, s.dec_deg, s.code) for s in self.sources)
            )
        validate(self)

    # ---- look-ups
    def source(self, name: str) -> Source:
        return next(s for s in self.sources if s.name == name)

    def field_index(self, name: str) -> int:
        return next(i for i, f in enumerate(self.fields) if f.name == name)

    def scan(self, number: int) -> Scan:
        return next(s for s in self.scans if s.number == number)

    def scans_with_intent(self, intent: str) -> tuple[Scan, ...]:
        """Scans of which a subscan has an intent containing this word."""
        return tuple(s for s in self.scans if any(intent in i for sub in s.subscans for i in sub.intents))

    @property
    def obs_modes(self) -> tuple[tuple[str, int], ...]:
        """Distinct (OBS_MODE, subscan number) pairs in order of appearance: the rows of STATE."""
        modes: dict[tuple[str, int], None] = {}
        for scan in self.scans:
            for number, sub in enumerate(scan.subscans, start=1):
                modes[(",".join(sub.intents), number if len(scan.subscans) > 1 else 1)] = None
        return tuple(modes)

    @property
    def correlation_setups(self) -> tuple[tuple[str, ...], ...]:
        """Distinct correlation products in order of appearance: the rows of POLARIZATION."""
        return tuple(dict.fromkeys(spw.correlations for spw in self.spws))


def validate(observation: Observation) -> None:
    """Refuse what no telescope could do; each refusal is one sentence.

    Raises:
        ImpossibleObservation: names the offending scan, source or spw and says what to do.
    """
    _validate_spws(observation)
    _validate_sources(observation)
    _validate_schedule(observation)
    _validate_elevations(observation)


def _validate_spws(obs: Observation) -> None:
    if len(obs.array.antennas) < 1:
        raise ImpossibleObservation(f"{obs.name} has no antennas; give the array at least one.")
    if len(set(obs.array.names)) < len(obs.array.names):
        raise ImpossibleObservation(f"{obs.name} names an antenna twice; antenna names must be unique.")
    if obs.integration_s <= 0:
        raise ImpossibleObservation(
            f"The integration time of {obs.name} is {obs.integration_s} s; it must be positive."
        )
    for index, spw in enumerate(obs.spws):
        half = abs(spw.channel_hz) / 2
        low, high = spw.frequencies_hz.min() - half, spw.frequencies_hz.max() + half
        if spw.channels < 1 or spw.channel_hz == 0:
            raise ImpossibleObservation(f"Spw {index} ({spw.name}) has no channels.")
        if low < spw.receiver.low_hz - 1 or high > spw.receiver.high_hz + 1:
            raise ImpossibleObservation(
                f"Spw {index} ({spw.name}) spans {low / 1e9:.4f}-{high / 1e9:.4f} GHz, outside the "
                f"{spw.receiver.low_hz / 1e9:g}-{spw.receiver.high_hz / 1e9:g} GHz of receiver {spw.receiver.name}; "
                "choose another receiver or frequency."
            )


def _validate_sources(obs: Observation) -> None:
    for source in obs.sources:
        if abs(source.dec_deg) > 90:
            raise ImpossibleObservation(f"Source {source.name} has declination {source.dec_deg} deg.")
        for component in source.components:
            if component.flux_jy < 0:
                raise ImpossibleObservation(
                    f"Source {source.name} has a component of {component.flux_jy} Jy; flux densities are not negative."
                )
            if not 0 <= component.polarized_fraction <= 1:
                raise ImpossibleObservation(
                    f"Source {source.name} has a component polarized by {component.polarized_fraction:g}; "
                    "the fraction must be between 0 and 1."
                )
        for line in source.lines:
            if line.width_ms <= 0:
                raise ImpossibleObservation(
                    f"A line of {source.name} has width {line.width_ms} m/s; it must be positive."
                )
    names = {s.name for s in obs.sources}
    for fld in obs.fields:
        if fld.source not in names:
            raise ImpossibleObservation(f"Field {fld.name} is on source {fld.source}, which is not described.")


def _validate_schedule(obs: Observation) -> None:
    if not obs.scans:
        raise ImpossibleObservation(f"{obs.name} has no scans.")
    names = {f.name for f in obs.fields}
    last = 0
    for scan in obs.scans:
        if scan.number <= last:
            raise ImpossibleObservation(f"Scan {scan.number} does not come after scan {last}; numbers must increase.")
        last = scan.number
        for index in scan.spws:
            if not 0 <= index < len(obs.spws):
                raise ImpossibleObservation(f"Scan {scan.number} records spw {index}, which is not described.")
        for sub in scan.subscans:
            if sub.field not in names:
                raise ImpossibleObservation(f"Scan {scan.number} observes field {sub.field}, which is not described.")
            if sub.seconds < obs.integration_s * 0.999:
                raise ImpossibleObservation(
                    f"Scan {scan.number} has {sub.seconds:g} s on {sub.field}, shorter than one integration "
                    f"of {obs.integration_s:g} s."
                )


def _validate_elevations(obs: Observation) -> None:
    from pl_sim.geometry import Geometry
    from pl_sim.schedule import timeline

    geometry = Geometry(obs.array.positions_m)
    for entry in timeline(obs):
        fld = obs.fields[entry.field]
        ends = np.array([entry.times[0], entry.times[-1]])
        _, elevation = geometry.azel(ends, math.radians(fld.ra_deg), math.radians(fld.dec_deg))
        lowest = math.degrees(float(elevation.min()))
        if lowest < obs.array.elevation_limit_deg:
            where = "below the horizon" if lowest < 0 else f"below the limit of {obs.array.elevation_limit_deg:g} deg"
            raise ImpossibleObservation(
                f"Field {fld.name} is at elevation {lowest:.1f} deg in scan {entry.scan.number}, {where}; "
                "move the start time or choose another source."
            )
