"""The parts of a measurement set as frozen records. Angles in radians, frequencies in Hz, lengths in m, UTC."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from functools import cached_property

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_kernel.ms.selection import clean_name, quote_name
from pl_kernel.ms.virtual import RealSpw

_NO_LENGTH = float("nan")


class Frame(enum.Enum):
    """Spectral reference frames; the values are the codes of SPECTRAL_WINDOW.MEAS_FREQ_REF (SOURCE: of pl)."""

    REST = 0
    LSRK = 1
    LSRD = 2
    BARY = 3
    GEO = 4
    TOPO = 5
    GALACTO = 6
    LGROUP = 7
    CMB = 8
    UNDEFINED = 64
    SOURCE = 99


@attrs.frozen
class Antenna:
    """`position_m`: geocentric ITRF x, y, z; `offset_m`: axis offset, x, y, z."""

    id: int
    name: str
    station: str
    diameter_m: float
    position_m: tuple[float, float, float]
    offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mount: str = ""


@attrs.frozen(slots=False)
class AntennaArray:
    """The antennas that took data; `name` is OBSERVATION.TELESCOPE_NAME."""

    name: str
    antennas: tuple[Antenna, ...]

    @cached_property
    def positions_m(self) -> NDArray[np.float64]:
        """Positions, shape (antennas, 3)."""
        return np.array([a.position_m for a in self.antennas], dtype=float).reshape(-1, 3)

    @cached_property
    def baseline_lengths_m(self) -> NDArray[np.float64]:
        """Lengths between all pairs, shape (antennas, antennas), zero on the diagonal."""
        # Differences first: |a|² + |b|² - 2 a·b of geocentric vectors would lose centimetres.
        differences = self.positions_m[:, None, :] - self.positions_m[None, :, :]
        return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", differences, differences)), dtype=float)

    def lengths_m(self) -> NDArray[np.float64]:
        """Length of each baseline once, ascending."""
        upper = np.triu_indices(len(self.antennas), k=1)
        return np.sort(self.baseline_lengths_m[upper])

    @property
    def min_baseline_m(self) -> float:
        """Shortest baseline; NaN for a single antenna."""
        lengths = self.lengths_m()
        return float(lengths[0]) if lengths.size else _NO_LENGTH

    @property
    def max_baseline_m(self) -> float:
        """Longest baseline; NaN for a single antenna."""
        lengths = self.lengths_m()
        return float(lengths[-1]) if lengths.size else _NO_LENGTH

    def percentile_m(self, percent: float) -> float:
        """Length that `percent` of the baselines do not exceed, linearly interpolated; NaN without baselines."""
        lengths = self.lengths_m()
        return float(np.percentile(lengths, percent)) if lengths.size else _NO_LENGTH

    @property
    def l80_m(self) -> float:
        """80th percentile of the baseline lengths, the usual measure of an array's extent."""
        return self.percentile_m(80.0)

    @property
    def centre_m(self) -> tuple[float, float, float]:
        """Mean position of the antennas, geocentric x, y, z."""
        x, y, z = self.positions_m.mean(axis=0) if self.antennas else np.zeros(3)
        return float(x), float(y), float(z)

    def local_enu_m(self) -> NDArray[np.float64]:
        """Positions relative to the centre as east, north, up, shape (antennas, 3).

        Uses the geodetic latitude of WGS 84 in Bowring's closed form, good to a millimetre on the ground.
        """
        x, y, z = self.centre_m
        a, f = 6378137.0, 1 / 298.257223563
        b, e2 = a * (1 - f), f * (2 - f)
        p = np.hypot(x, y)
        theta = np.arctan2(z * a, p * b)
        second_e2 = e2 / (1 - e2)
        lat = np.arctan2(z + second_e2 * b * np.sin(theta) ** 3, p - e2 * a * np.cos(theta) ** 3)
        lon = np.arctan2(y, x)
        rotation = np.array(
            [
                [-np.sin(lon), np.cos(lon), 0.0],
                [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)],
                [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)],
            ]
        )
        return np.asarray((self.positions_m - np.array([x, y, z])) @ rotation.T, dtype=float)


@attrs.frozen
class Source:
    """One source of the SOURCE subtable; `rest_frequencies_hz`, `transitions` and velocity by spw (real id)."""

    id: int
    name: str
    ra_rad: float
    dec_rad: float
    frame: str = "J2000"
    proper_motion_rad_s: tuple[float, float] = (0.0, 0.0)
    rest_frequencies_hz: Mapping[int, tuple[float, ...]] = attrs.field(factory=dict)
    transitions: Mapping[int, tuple[str, ...]] = attrs.field(factory=dict)
    velocity_m_s: Mapping[int, float] = attrs.field(factory=dict)
    is_moving: bool = False


@attrs.frozen
class Field:
    """One pointing. `intents` and `spws` (real ids): what it was observed with; `is_moving`: it has an ephemeris."""

    id: int
    name: str
    source_id: int
    ra_rad: float
    dec_rad: float
    frame: str = "J2000"
    code: str = ""
    intents: frozenset[str] = frozenset()
    spws: frozenset[int] = frozenset()
    is_moving: bool = False

    @property
    def clean_name(self) -> str:
        """The name as it appears in file names."""
        return clean_name(self.name)

    @property
    def quoted_name(self) -> str:
        """The name as it goes into a CASA selection."""
        return quote_name(self.name)


@attrs.frozen(slots=False)
class SpectralWindow:
    """One spectral window.

    Channel centres are `first_hz + i * step_hz` (a negative step: lower sideband order), or `irregular_centres_hz`
    where the axis is not linear. `sideband` is NET_SIDEBAND (1 LSB, 2 USB, 3 DSB; -1 or 0 unknown).
    """

    id: RealSpw
    name: str
    n_channels: int
    first_hz: float
    step_hz: float
    resolution_hz: float
    bandwidth_hz: float
    ref_frequency_hz: float
    frame: Frame = Frame.TOPO
    irregular_centres_hz: tuple[float, ...] = ()
    sideband: int = 0
    baseband: int = 0
    band: str = ""
    online_binning: int = 1
    correlation_bits: str = ""
    intents: frozenset[str] = frozenset()

    @cached_property
    def centres_hz(self) -> NDArray[np.float64]:
        """Channel centres in channel order, shape (channels,)."""
        if self.irregular_centres_hz:
            return np.array(self.irregular_centres_hz, dtype=float)
        return np.asarray(self.first_hz + self.step_hz * np.arange(self.n_channels), dtype=float)

    @cached_property
    def edges_hz(self) -> NDArray[np.float64]:
        """Lower and upper edge of each channel, shape (channels, 2), lower first whatever the orientation."""
        half = abs(self.step_hz) / 2
        if self.irregular_centres_hz and self.n_channels > 1:
            gaps = np.abs(np.gradient(self.centres_hz)) / 2
            return np.stack([self.centres_hz - gaps, self.centres_hz + gaps], axis=1)
        return np.stack([self.centres_hz - half, self.centres_hz + half], axis=1)

    @property
    def is_reversed(self) -> bool:
        """Whether frequency falls with channel number."""
        return self.step_hz < 0

    @property
    def min_hz(self) -> float:
        """Lower edge of the window."""
        return float(self.edges_hz.min())

    @property
    def max_hz(self) -> float:
        """Upper edge of the window."""
        return float(self.edges_hz.max())

    @property
    def centre_hz(self) -> float:
        """Middle of the window."""
        return (self.min_hz + self.max_hz) / 2

    @property
    def channel_width_hz(self) -> float:
        """Distance of neighbouring channels, positive."""
        return abs(self.step_hz)


@attrs.frozen
class Polarization:
    """Correlations of a data description, as names: ``("RR", "RL", "LR", "LL")``."""

    id: int
    correlations: tuple[str, ...]


@attrs.frozen
class DataDescription:
    """DATA_DESC_ID → window and polarization."""

    id: int
    spw_id: RealSpw
    polarization_id: int


@attrs.frozen
class State:
    """One row of STATE and what its OBS_MODE means; `words`: the intent of each of its items that has one."""

    id: int
    obs_mode: str
    intents: frozenset[str] = frozenset()
    words: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Scan:
    """One scan number: what was observed and when. Ids are real ids.

    `intent_sets` gives the sets of intents under which each of its fields was observed: rows of one state share a
    set, and a scan may have several (on the source and off it). `interval_s` and `exposure_s` are the median INTERVAL
    and EXPOSURE by spw.
    """

    id: int
    start: dt.datetime
    end: dt.datetime
    field_ids: tuple[int, ...]
    spw_ids: tuple[RealSpw, ...]
    antenna_ids: tuple[int, ...]
    n_rows: int
    intent_sets: Mapping[int, frozenset[frozenset[str]]] = attrs.field(factory=dict)
    state_ids: tuple[int, ...] = ()
    data_description_ids: tuple[int, ...] = ()
    interval_s: Mapping[int, float] = attrs.field(factory=dict)
    exposure_s: Mapping[int, float] = attrs.field(factory=dict)

    @property
    def intents(self) -> frozenset[str]:
        """All intents of the scan."""
        return frozenset().union(*self.intents_by_field.values())

    @property
    def intents_by_field(self) -> dict[int, frozenset[str]]:
        """All intents of each field."""
        return {field: frozenset().union(*sets) for field, sets in self.intent_sets.items()}

    @property
    def duration_s(self) -> float:
        """From the start of the first to the end of the last integration."""
        return (self.end - self.start).total_seconds()


@attrs.frozen
class WeatherSummary:
    """Medians of the WEATHER subtable over the observation; None where not recorded (K, hPa, %, m/s)."""

    n_rows: int
    temperature_k: float | None = None
    pressure_hpa: float | None = None
    humidity_percent: float | None = None
    wind_m_s: float | None = None
