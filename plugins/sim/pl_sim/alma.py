"""The instrument of ALMA's interferometers: system temperatures that follow the air, a turbulent wet screen,
radiometers.

Raw visibilities are correlation coefficients: V_raw = g_p g_q* V / (Gamma sqrt(Tsys_p Tsys_q)) + noise, with Gamma in
Jy/K and noise of 1 / (efficiency sqrt(2 dnu tau)).  Multiplying by sqrt(Tsys_p Tsys_q), as applying a Tsys table
does,
leaves gains g / sqrt(Gamma) for the calibrators to find.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import attrs
import numpy as np
from attrs import define, field, frozen

from pl_sim.atmosphere import CHAJNANTOR, Air, FrozenScreen, Site, pwv_series
from pl_sim.geometry import Geometry
from pl_sim.instrument import Corruptions, Instrument
from pl_sim.noise import stream
from pl_sim.schedule import timeline
from pl_sim.syscal import Receivers, TsysModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.observation import Observation


@define(eq=False)
class AlmaCorruptions(Corruptions):
    """Corruptions whose noise and scale follow the system temperature, constant over a subscan."""

    tsys: TsysModel = field(kw_only=True)
    jy_per_k: float = field(kw_only=True)
    elevation: NDArray[np.float64] = field(kw_only=True)
    """(time,) mean elevation of the subscan an integration belongs to, rad."""
    windows: list[tuple[int, NDArray[np.float64]]] = field(kw_only=True)
    """per spw: baseband number and channel frequencies (Hz)."""
    _tsys_cache: dict[tuple[int, float], NDArray[np.float64]] = field(factory=dict, init=False)

    def tsys_k(self, spw: int, elevation: float) -> NDArray[np.float64]:
        """T_sys (antenna, receptor, channel), K."""
        key = (spw, float(elevation))
        if key not in self._tsys_cache:
            baseband, frequency = self.windows[spw]
            self._tsys_cache[key] = self.tsys.tsys_k(baseband, frequency, elevation)
        return self._tsys_cache[key]

    def sefd(self, spw: int, index: slice) -> NDArray[np.float64]:
        """System equivalent flux density (time or 1, antenna, receptor, channel), Jy."""
        elevations = np.unique(self.elevation[index])
        if len(elevations) == 1:
            return self.jy_per_k * self.tsys_k(spw, elevations[0])[None]
        return self.jy_per_k * np.stack([self.tsys_k(spw, e) for e in self.elevation[index]])

    def jones(self, spw: int, frequency_hz: NDArray[np.float64], index: slice) -> NDArray[np.complex64]:
        """Antenna gains (time, antenna, receptor, channel) in correlation coefficient per sqrt(Jy)."""
        gains = super().jones(spw, frequency_hz, index)
        return (gains / np.sqrt(self.sefd(spw, index))).astype(np.complex64)


@frozen
class AlmaInstrument(Instrument):
    """ALMA antennas: everything of `Instrument`, plus receivers, air and water."""

    gain_scatter: float = 0.05
    gain_drift: float = 0.005
    phase_drift_deg: float = 12.0
    """Drift of the electronics, which no radiometer sees."""
    phase_drift_s: float = 5000.0
    phase_jitter_deg: float = 1.0
    delay_ns: float = 0.08
    """What is left after the online delay calibration."""
    bandpass_ripple: float = 0.04
    bandpass_phase_deg: float = 6.0
    jy_per_k: float = 40.0
    receiver_k: float = 50.0
    receiver_scatter: float = 0.10
    site: Site = CHAJNANTOR
    pwv_mm: float = 1.5
    pwv_drift_mm: float = 0.03
    """Rms of the slow change that all antennas see alike."""
    fluctuation_mm: float = 0.060
    """Rms difference of the column between antennas `fluctuation_baseline_m` apart."""
    fluctuation_baseline_m: float = 300.0

    @property
    def air(self) -> Air:
        return Air(self.site, self.pwv_mm)

    def receivers(self, obs: Observation) -> Receivers:
        """Receiver temperatures, the same in all windows of a baseband."""
        basebands = max(spw.bbc_no for spw in obs.spws)
        rng = stream(obs.model_seed, "receivers")
        return Receivers.draw(rng, len(obs.array.antennas), 2, basebands, self.receiver_k, self.receiver_scatter)

    def tsys_model(self, obs: Observation) -> TsysModel:
        return TsysModel(self.receivers(obs), self.air)

    def water(self, obs: Observation) -> Water:
        """The water over every antenna of this observation."""
        return Water(obs, self)

    def realise(self, observation: Observation) -> AlmaCorruptions:
        base = super().realise(observation)
        values = {a.name: getattr(base, a.name) for a in attrs.fields(Corruptions)}
        return AlmaCorruptions(
            **values,
            tsys=self.tsys_model(observation),
            jy_per_k=self.jy_per_k,
            elevation=subscan_elevations(observation),
            windows=[(spw.bbc_no, spw.frequencies_hz) for spw in observation.spws],
        )

    def _delay_reference(self, obs: Observation) -> NDArray[np.float64]:
        """Middle of the spw: the online system leaves no phase step there."""
        return np.array([spw.centre_hz for spw in obs.spws])

    def _sefd(self, obs: Observation, spw: int) -> NDArray[np.float64]:
        """At the zenith; the data use `AlmaCorruptions.sefd`."""
        window = obs.spws[spw]
        if window.role == "wvr":
            return np.ones((len(obs.array.antennas), 2, 1))
        return self.jy_per_k * self.tsys_model(obs).tsys_k(window.bbc_no, window.frequencies_hz, np.pi / 2)

    def _path(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.fluctuation_mm:
            return np.zeros((len(times), len(obs.array.antennas)))
        science = [spw.centre_hz for spw in obs.spws if spw.role == "science"]
        path_m = 1e-3 * self.air.path_per_mm(float(np.mean(science)))
        column = self.water(obs).fluctuation_mm(times, obs.integration_s)
        return path_m * column / np.sin(subscan_elevations(obs))[:, None]

    def _transmission(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """1: the attenuation of the air is part of T_sys."""
        return np.ones((len(times), len(obs.array.antennas), len(obs.spws)))


class Water:
    """The column of water above each antenna: a mean, a slow drift of the whole site and a turbulent screen."""

    def __init__(self, obs: Observation, instrument: AlmaInstrument) -> None:
        times = [entry.times for entry in timeline(obs)]
        self._start, self._end = float(times[0][0]), float(times[-1][-1])
        self._instrument = instrument
        geometry = Geometry(obs.array.positions_m)
        self._place = geometry.local(obs.array.positions_m)[:, :2]
        self._screen = FrozenScreen.kolmogorov(
            stream(obs.model_seed, "wet screen"),
            instrument.fluctuation_mm,
            instrument.fluctuation_baseline_m,
            epoch_s=self._start,
            wind=obs.atmosphere.screen_wind_ms,
        )
        self._seed = obs.model_seed

    @cached_property
    def _slow(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        clock = np.arange(self._start - 60.0, self._end + 120.0, 20.0)
        mean, rms = self._instrument.pwv_mm, self._instrument.pwv_drift_mm
        return clock, pwv_series(stream(self._seed, "slow water"), clock, mean, rms)

    def mean_mm(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Column averaged over the site, (time,) mm."""
        return np.interp(times, *self._slow)

    def fluctuation_mm(self, times: NDArray[np.float64], width_s: float) -> NDArray[np.float64]:
        """Deviation from the long-term mean averaged over `width_s`, (time, antenna) mm."""
        screen = self._screen.mean_over(self._place, times, width_s).T
        return screen + (self.mean_mm(times) - self._instrument.pwv_mm)[:, None]

    def column_mm(self, times: NDArray[np.float64], width_s: float) -> NDArray[np.float64]:
        """Zenith column (time, antenna), mm."""
        return self._instrument.pwv_mm + self.fluctuation_mm(times, width_s)


def subscan_elevations(obs: Observation) -> NDArray[np.float64]:
    """Mean elevation (rad) of the subscan that every integration belongs to, (time,)."""
    geometry = Geometry(obs.array.positions_m)
    parts = []
    for entry in timeline(obs):
        fld = obs.fields[entry.field]
        elevation = geometry.azel(entry.times, np.radians(fld.ra_deg), np.radians(fld.dec_deg))[1]
        parts.append(np.full(len(entry.times), elevation.mean()))
    return np.concatenate(parts)
