"""Single dish: raster patterns, the sky as a beam sees it, and the engine that records total power.

Offsets are (east, north) in arcsec on the sky from the map centre; velocities are LSRK, radio convention, in km/s.
Recorded power is g(t) |B(nu)|^2 [T_rx + T_sky + eta e^(-tau) (T_A* + baseline)] / 300 K, so that (ON - OFF) / OFF
times
T_sys is T_A* above the air.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from pl_sim.engine import CORRELATED_ROLES, Extension, register_engine
from pl_sim.errors import ImpossibleObservation
from pl_sim.geometry import Geometry, offset_direction
from pl_sim.mswriter import repeat
from pl_sim.observation import SPEED_OF_LIGHT, Scan, Subscan
from pl_sim.schedule import timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Run
    from pl_sim.observation import Observation
    from pl_sim.schedule import Entry

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
GAUSSIAN_AREA = math.sqrt(math.pi / (4.0 * math.log(2.0)))
"""Area of a Gaussian of unit height and unit FWHM (1.0645); its square (1.1331) is the solid angle of a round one."""

POWER_UNIT_K = 300.0
"""Power that is recorded as one."""


@frozen
class Raster:
    """An on-the-fly map: rows swept back and forth, an OFF before every `rows_per_off` rows and after the last.

    width is along the sweep, height across (arcsec). angle_deg: position angle of the sweep, east through north;
    every
    second map is turned by 90 degrees when `basket_weave` is set, so that scan effects average out.
    """

    width: float
    height: float
    samples: int
    rows: int
    off: tuple[float, float]
    off_integrations: int = 10
    rows_per_off: int = 1
    maps: int = 1
    angle_deg: float = 0.0
    basket_weave: bool = True
    turnaround_s: float = 2.5

    def track(self, row: int, map_index: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Offsets (east, north) of the two ends of a row, in the order of the sweep."""
        half = self.width / 2 if row % 2 == 0 else -self.width / 2
        across = -self.height / 2 + self.height * row / max(self.rows - 1, 1)
        angle = math.radians(self.angle_deg + (90.0 if self.basket_weave and map_index % 2 else 0.0))
        cosine, sine = math.cos(angle), math.sin(angle)
        first, last = ((along * cosine - across * sine, along * sine + across * cosine) for along in (-half, half))
        return first, last

    def scan(
        self,
        number: int,
        map_index: int,
        spws: tuple[int, ...],
        integration_s: float,
        target: str,
        off: str,
        on_intents: tuple[str, ...],
        off_intents: tuple[str, ...],
    ) -> Scan:
        """One map as one scan. `off` may be the target itself: the OFF is then reached by an offset."""
        away = (self.off, self.off) if off == target else None
        nothing = Subscan(
            off,
            self.off_integrations * integration_s,
            off_intents,
            kind="off",
            track_arcsec=away,
            gap_s=self.turnaround_s,
        )
        subscans: list[Subscan] = []
        for row in range(self.rows):
            if row % self.rows_per_off == 0:
                subscans.append(nothing)
            subscans.append(
                Subscan(
                    target,
                    self.samples * integration_s,
                    on_intents,
                    kind="on",
                    track_arcsec=self.track(row, map_index),
                    gap_s=self.turnaround_s,
                )
            )
        return Scan(number, (*subscans, nothing), spws, gap_s=8.0)


@frozen
class LineCloud:
    """A round Gaussian cloud with a Gaussian line: the truth of a map.

    peak_k: peak of the unsmeared cloud (T_A* above the air, K); fwhm: arcsec; velocity, width (FWHM): km/s, LSRK;
    gradient: change of the line centre along the east offset, km/s per arcsec; x, y: offset of the cloud, arcsec.
    """

    rest_hz: float
    peak_k: float = 4.0
    fwhm: float = 45.0
    velocity: float = 30.0
    width: float = 20.0
    gradient: float = 0.05
    x: float = 8.0
    y: float = -6.0

    def observed_fwhm(self, beam: float) -> float:
        """FWHM (arcsec) of the cloud seen by a Gaussian beam (arcsec)."""
        return math.hypot(self.fwhm, beam)

    def spectrum_k(
        self, x: NDArray[np.float64], y: NDArray[np.float64], velocity: NDArray[np.float64], beam: float
    ) -> NDArray[np.float64]:
        """T_A* seen by a Gaussian beam (arcsec) at offsets [...] and velocities [channel]: shape [..., channel].

        Exact for Gaussians: the beam dilutes the peak by (fwhm / observed)^2, shrinks the apparent gradient by the
        same
        factor, and widens the line by the velocities that it hides.
        """
        observed = self.observed_fwhm(beam)
        shrink = (self.fwhm / observed) ** 2
        radius2 = (x - self.x) ** 2 + (y - self.y) ** 2
        column = self.peak_k * shrink * np.exp(-radius2 * FWHM_PER_SIGMA**2 / (2 * observed**2))
        hidden = self.gradient * self.fwhm / FWHM_PER_SIGMA * math.sqrt(1.0 - shrink)
        intrinsic = self.width / FWHM_PER_SIGMA
        sigma = math.hypot(intrinsic, hidden)
        centre = self.velocity + self.gradient * shrink * (x - self.x)
        profile = np.exp(-((velocity - centre[..., None]) ** 2) / (2 * sigma**2))
        return (column * intrinsic / sigma)[..., None] * profile

    def map_integral(self) -> float:
        """Integral over the map and the line, K km/s arcsec^2: does not depend on the beam."""
        return self.peak_k * self.width * GAUSSIAN_AREA * GAUSSIAN_AREA**2 * self.fwhm**2

    def flux_jy(self, jy_per_k: float, beam: float) -> float:
        """Flux density of the whole cloud at the line centre (gradient ignored) for a dish of this gain and beam."""
        return jy_per_k * self.peak_k * (self.fwhm / beam) ** 2


@frozen
class BaselineShape:
    """Residual baseline of one spectrum: K at each order of a polynomial on [-1, 1], plus a standing wave.

    polynomial_k: rms of the coefficients, lowest order first; ripple_k: amplitude; ripple_cycles: periods over the
    window.
    """

    polynomial_k: tuple[float, ...] = ()
    ripple_k: float = 0.0
    ripple_cycles: float = 2.0

    def draw(self, rng: np.random.Generator, count: int, channels: int) -> NDArray[np.float64]:
        """`count` independent baselines: [count, channels] K."""
        axis = np.linspace(-1.0, 1.0, channels)
        shape = np.zeros((count, channels))
        for order, rms in enumerate(self.polynomial_k):
            shape += rms * rng.standard_normal((count, 1)) * axis**order
        if self.ripple_k:
            phase = rng.uniform(0, 2 * np.pi, (count, 1))
            shape += self.ripple_k * np.sin(np.pi * self.ripple_cycles * axis + phase)
        return shape


@frozen
class SingleDish(Extension):
    """What makes an observation of kind `single-dish`: the clouds in the sky and the beams that look at them.

    Engine of `Observation(engine="single-dish")`: subscans of kind "on" and "off" are recorded by every antenna.
    Faults may have `pointing_error(observation, antenna, entry) -> (east, north) arcsec`, by which the beam misses
    the
    recorded direction, and `change_temperature(run, entry, spw, kelvin)`, which alters T_A* [time, antenna, channel,
    polarization] in place.
    """

    clouds: tuple[LineCloud, ...]
    baseline: BaselineShape = BaselineShape()
    beam_factor: float = 1.13
    """FWHM of the beam in lambda/D."""
    beam_offsets: tuple[tuple[float, float], ...] = ()
    """Where each antenna (a beam of a multi-beam receiver) looks relative to the telescope, arcsec."""
    efficiencies: tuple[float, ...] = ()
    """By which the sky signal of each antenna is too weak; 1 without."""
    pointing_frame: str = "AZELGEO"

    def beam_arcsec(self, obs: Observation, frequency_hz: float) -> float:
        """FWHM of the beam."""
        width = self.beam_factor * SPEED_OF_LIGHT / frequency_hz / obs.array.antennas[0].diameter_m
        return math.degrees(width) * 3600

    def offsets(self, obs: Observation, entry: Entry) -> NDArray[np.float64]:
        """Where each antenna is said to look, from the field: [time, antenna, 2] arcsec."""
        antennas = len(obs.array.antennas)
        track = np.repeat(entry.track_arcsec()[:, None, :], antennas, axis=1)
        if entry.subscan.kind == "on" and self.beam_offsets:
            track = track + np.array(self.beam_offsets)[None]
        return track

    def antenna_temperature(self, run: Run, entry: Entry, spw: int) -> NDArray[np.float64]:
        """T_A* above the air [time, antenna, channel, polarization], without noise: the sky, baselines and faults."""
        obs = run.observation
        window = obs.spws[spw]
        receptors = len(window.correlations)
        antennas, times = len(obs.array.antennas), len(entry.times)
        kelvin = np.zeros((times, antennas, window.channels, receptors))
        if entry.subscan.kind == "on":
            kelvin += self._clouds(run, entry, spw)[..., None]
            if self.efficiencies:
                kelvin *= np.array(self.efficiencies)[None, :, None, None]
            rng = run.model_rng("baseline", entry.first, spw)
            shape = self.baseline.draw(rng, times * antennas * receptors, window.channels)
            kelvin += shape.reshape(times, antennas, receptors, window.channels).swapaxes(2, 3)
        for fault in run.faults:
            change = getattr(fault, "change_temperature", None)
            if change:
                change(run, entry, spw, kelvin)
        return kelvin

    def _clouds(self, run: Run, entry: Entry, spw: int) -> NDArray[np.float64]:
        obs = run.observation
        window = obs.spws[spw]
        place = self.offsets(obs, entry)
        for fault in run.faults:
            error = getattr(fault, "pointing_error", None)
            if error:
                for antenna in range(place.shape[1]):
                    place[:, antenna] += error(obs, antenna, entry)
        beam = self.beam_arcsec(obs, window.centre_hz)
        total = np.zeros((*place.shape[:2], window.channels))
        for cloud in self.clouds:
            velocity = self.velocity_kms(run, entry, spw, cloud.rest_hz)
            if np.abs(velocity - cloud.velocity).min() < 4 * cloud.width:
                total += cloud.spectrum_k(place[..., 0], place[..., 1], velocity, beam)
        return total

    def velocity_kms(self, run: Run, entry: Entry, spw: int, rest_hz: float) -> NDArray[np.float64]:
        """LSRK radio velocity of every channel."""
        window = run.observation.spws[spw]
        frequency = window.frequencies_hz
        if window.frame == "TOPO":
            frequency = frequency / run.doppler(entry)
        return SPEED_OF_LIGHT / 1e3 * (1 - frequency / rest_hz)

    def start(self, run: Run) -> None:
        self.write_pointing(run)

    def write_pointing(self, run: Run) -> None:
        """POINTING: one row per antenna and integration, in the frame of the backend."""
        obs = run.observation
        dishes = [Geometry(position[None], position) for position in np.unique(obs.array.positions_m, axis=0)]
        which = [
            next(k for k, dish in enumerate(dishes) if np.allclose(dish.reference, position))
            for position in obs.array.positions_m
        ]
        antennas = len(which)
        times, directions = [], []
        for entry in timeline(obs):
            fld = obs.fields[entry.field]
            east, north = np.moveaxis(self.offsets(obs, entry), -1, 0)
            ra, dec = offset_direction(math.radians(fld.ra_deg), math.radians(fld.dec_deg), east, north)
            times.append(entry.times)
            directions.append(np.stack([ra, dec], -1))
        clock, places = np.concatenate(times), np.concatenate(directions)
        # One call per dish for all times: what costs is the orientation of the Earth, not its application.
        horizon = [dishes[which[a]].azel(clock, places[:, a, 0], places[:, a, 1]) for a in range(antennas)]
        encoder = np.stack([np.stack(azel, -1) for azel in horizon], axis=1).reshape(-1, 2)
        time, sky = np.repeat(clock, antennas), places.reshape(-1, 2)
        shown = encoder if self.pointing_frame == "AZELGEO" else sky
        count = len(time)
        columns: dict[str, Any] = {
            "ANTENNA_ID": np.tile(np.arange(antennas), count // antennas),
            "TIME": time,
            "INTERVAL": repeat(count, obs.integration_s),
            "NAME": repeat(count, ""),
            "NUM_POLY": repeat(count, 0),
            "TIME_ORIGIN": time,
            "DIRECTION": shown[:, :, None],
            "TARGET": shown[:, :, None],
            "TRACKING": repeat(count, True),
        }
        if self.pointing_frame == "AZELGEO":
            columns |= {
                "POINTING_OFFSET": np.zeros((count, 2, 1)),
                "ENCODER": encoder,
                "ON_SOURCE": repeat(count, True),
                "OVER_THE_TOP": repeat(count, False),
            }
        run.writer.subtable("POINTING", columns)

    def truth(self, run: Run) -> dict[str, Any]:
        """Clouds and beams; velocities are LSRK, temperatures T_A* above the air."""
        obs = run.observation
        return {
            "frame": "LSRK",
            "clouds": [
                {
                    "rest_hz": c.rest_hz,
                    "peak_k": c.peak_k,
                    "fwhm_arcsec": c.fwhm,
                    "velocity_kms": c.velocity,
                    "width_kms": c.width,
                    "gradient_kms_per_arcsec": c.gradient,
                    "offset_arcsec": [c.x, c.y],
                    "map_integral_k_kms_arcsec2": c.map_integral(),
                }
                for c in self.clouds
            ],
            "beam_arcsec": {
                s: self.beam_arcsec(obs, w.centre_hz) for s, w in enumerate(obs.spws) if w.role in CORRELATED_ROLES
            },
            "efficiencies": list(self.efficiencies) or [1.0] * len(obs.array.antennas),
        }


def single_dish(obs: Observation) -> SingleDish:
    """The single-dish part of an observation."""
    for extension in obs.extensions:
        if isinstance(extension, SingleDish):
            return extension
    raise ImpossibleObservation(
        f"{obs.name} is to be recorded by single dishes, but has no extension that describes them."
    )


@register_engine("single-dish")
def record(run: Run) -> None:
    """Autocorrelation rows of every integration of subscans of kind "on" and "off"."""
    obs = run.observation
    dish = single_dish(obs)
    total = run.corruptions.times.size
    for entry in timeline(obs):
        for extension in obs.extensions:
            extension.before_subscan(run, entry)
        if entry.subscan.kind in ("on", "off"):
            for spw in entry.scan.spws:
                if obs.spws[spw].role in CORRELATED_ROLES:
                    _record_spw(run, dish, entry, spw)
        for extension in obs.extensions:
            extension.after_subscan(run, entry)
        if run.progress:
            run.progress((entry.first + len(entry.times)) / total)


def _record_spw(run: Run, dish: SingleDish, entry: Entry, spw: int) -> None:
    obs, c = run.observation, run.corruptions
    window = obs.spws[spw]
    index = slice(entry.first, entry.first + len(entry.times))
    receptors = [a for a, _ in window.receptor_pairs]
    kelvin = dish.antenna_temperature(run, entry, spw)
    power = np.empty_like(kelvin)
    # The air is that of each integration's elevation, so that ON and OFF differ as they do on the sky.
    sky, above = c.sky_power_k(spw, index)  # type: ignore[attr-defined]
    for number, receptor in enumerate(receptors):
        power[..., number] = sky[:, :, receptor] + above * kelvin[..., number]
        gain = np.abs(c.gain[index, :, receptor, spw]) ** 2
        response = np.abs(c.bandpass[spw][:, receptor]) ** 2
        power[..., number] *= gain[:, :, None] * response[None] / POWER_UNIT_K
    if obs.noise.scale:
        relative = obs.noise.scale / obs.noise.efficiency
        relative /= math.sqrt(abs(window.channel_hz) * obs.integration_s)
        rng = run.noise_rng("total power", entry.scan.number, entry.number, spw)
        power *= 1 + relative * rng.standard_normal(power.shape, dtype=np.float32)
    times, antennas = power.shape[:2]
    columns = {
        "TIME": np.repeat(entry.times, antennas),
        "ANTENNA1": np.tile(np.arange(antennas), times),
        "ANTENNA2": np.tile(np.arange(antennas), times),
        "FIELD_ID": entry.field,
        "SCAN_NUMBER": entry.scan.number,
        "STATE_ID": entry.state,
        "INTERVAL": obs.integration_s,
    }
    data = power.reshape(times * antennas, window.channels, -1).astype(np.float32)
    weight = abs(window.channel_hz) * obs.integration_s
    run.writer.append(data, {**columns, "DATA_DESC_ID": spw}, weight=weight)
    follower = obs.spws[spw + 1] if spw + 1 < len(obs.spws) else None
    if follower is not None and follower.role == "average":
        mean = data.mean(axis=1, keepdims=True)
        run.writer.append(mean, {**columns, "DATA_DESC_ID": spw + 1}, weight=weight * window.channels)
