"""What antennas and receivers do to the signal.

An `Instrument` describes it with a few numbers; `realise` turns them into the `Corruptions` of every antenna, receptor
and spw at every integration. These arrays are the truth that calibration should find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field, frozen

from pl_sim.geometry import Geometry
from pl_sim.noise import frozen_screen, smooth_process, stream
from pl_sim.observation import SPEED_OF_LIGHT
from pl_sim.schedule import all_times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.observation import Observation


@define
class Corruptions:
    """Everything that multiplies the signal, and the noise of each antenna.

    The raw visibility of antennas p, q, receptors a, b is
    V = g_pa g_qb* [ (D_p S D_q^H)_ab + n sqrt(SEFD_pa SEFD_qb) ], with
    g(t, nu) = gain(t) B(nu) exp(2 pi i [delay (nu - nu_ref) - path(t) nu / c]).
    """

    times: NDArray[np.float64]
    """(time,) midpoints of all integrations, MJD s UTC."""
    gain: NDArray[np.complex128]
    """(time, antenna, receptor, spw) complex, counts per sqrt(Jy)."""
    delay_s: NDArray[np.float64]
    """(antenna, receptor, spw)."""
    delay_reference_hz: NDArray[np.float64]
    """(spw,) frequency at which the delay adds no phase."""
    bandpass: list[NDArray[np.complex128]]
    """per spw: (antenna, receptor, channel), of mean amplitude one and no delay."""
    leakage: list[NDArray[np.complex128]]
    """per spw: (antenna, receptor, channel or 1)."""
    sefd_jy: list[NDArray[np.float64]]
    """per spw: (antenna, receptor, channel or 1), below the atmosphere's extra attenuation."""
    path_m: NDArray[np.float64]
    """(time, antenna) tropospheric path at the elevation observed."""
    transmission: NDArray[np.float64]
    """(time, antenna, spw) voltage attenuation by opacity and gain curve; 1 without."""
    coupling: NDArray[np.float64]
    """(antenna, receptor) share of the sky signal that arrives; 0 for a dead receiver, whose noise goes on."""
    extra: dict[str, NDArray] = field(factory=dict)
    """Arrays of particular instruments (switched power …), written to the truth under their names."""

    def sefd(self, spw: int, index: slice) -> NDArray[np.float64]:
        """SEFD (time or 1, antenna, receptor, channel or 1) in Jy for these integrations."""
        return self.sefd_jy[spw][None]

    def jones(self, spw: int, frequency_hz: NDArray[np.float64], index: slice) -> NDArray[np.complex64]:
        """Antenna gains g(t, nu), shape (time, antenna, receptor, channel), for these integrations."""
        offset = frequency_hz - self.delay_reference_hz[spw]
        static = self.bandpass[spw] * np.exp(2j * np.pi * self.delay_s[:, :, spw, None] * offset)
        gain = self.gain[index, :, :, spw, None] * self.transmission[index, :, None, spw, None] * static[None]
        path = self.path_m[index]
        if np.any(path):
            gain = gain * np.exp((-2j * np.pi / SPEED_OF_LIGHT) * path[:, :, None, None] * frequency_hz)
        return gain.astype(np.complex64)


@frozen
class Instrument:
    """A generic interferometer; telescopes override `realise`, or parts of it."""

    sefd_jy: dict[str, float] | float = 400.0
    """Zenith SEFD, one value or one per receiver name."""
    sefd_scatter: float = 0.06
    gain_amplitude: float = 1.0
    """Mean counts per sqrt(Jy)."""
    gain_scatter: float = 0.08
    """Scatter of the amplitude between antennas and receptors."""
    gain_drift: float = 0.006
    gain_drift_s: float = 3000.0
    phase_drift_deg: float = 40.0
    """Smooth phase variation of each antenna, the same in both receptors."""
    phase_drift_s: float = 3000.0
    phase_jitter_deg: float = 2.0
    phase_jitter_s: float = 60.0
    delay_ns: float = 4.0
    """Rms delay per antenna, receptor and baseband."""
    bandpass_ripple: float = 0.06
    bandpass_phase_deg: float = 2.0
    bandpass_edge: float = 1.5
    """Channels over which the response falls at the edge of a spw."""
    leakage: float = 0.0
    """Rms modulus of the D-terms."""

    def realise(self, observation: Observation) -> Corruptions:
        """Draw the corruptions; a function of the observation (and its model seed) alone."""
        times = all_times(observation)
        sefd = [self._sefd(observation, s) for s in range(len(observation.spws))]
        return Corruptions(
            times=times,
            gain=self._gain(observation, times),
            delay_s=self._delay(observation),
            delay_reference_hz=self._delay_reference(observation),
            bandpass=[self._bandpass(observation, s) for s in range(len(observation.spws))],
            leakage=[self._leakage(observation, s) for s in range(len(observation.spws))],
            sefd_jy=sefd,
            path_m=self._path(observation, times),
            transmission=self._transmission(observation, times),
            coupling=np.ones((len(observation.array.antennas), 2)),
        )

    def _rng(self, observation: Observation, purpose: str, *indices: int) -> np.random.Generator:
        return stream(observation.model_seed, purpose, *indices)

    def _gain(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.complex128]:
        na, ns = len(obs.array.antennas), len(obs.spws)
        rng = self._rng(obs, "gain amplitude")
        mean = self.gain_amplitude * np.exp(self.gain_scatter * rng.standard_normal((na, 2, ns)))
        drift = smooth_process(rng, times, self.gain_drift, self.gain_drift_s, (na, 2, 1))
        amplitude = mean * (1 + drift)
        rng = self._rng(obs, "gain phase")
        offset = rng.uniform(-np.pi, np.pi, (na, 2, ns))
        phase = smooth_process(rng, times, np.radians(self.phase_drift_deg), self.phase_drift_s, (na,))
        phase += smooth_process(rng, times, np.radians(self.phase_jitter_deg), self.phase_jitter_s, (na,), terms=12)
        return amplitude * np.exp(1j * (offset + phase[:, :, None, None]))

    def _delay_reference(self, obs: Observation) -> NDArray[np.float64]:
        """Low edge of the first spw of the same baseband."""
        first: dict[str, float] = {}
        for spw in obs.spws:
            first.setdefault(spw.baseband or spw.name, float(spw.frequencies_hz[0]))
        return np.array([first[spw.baseband or spw.name] for spw in obs.spws])

    def _delay(self, obs: Observation) -> NDArray[np.float64]:
        na = len(obs.array.antennas)
        per_baseband: dict[str, NDArray[np.float64]] = {}
        for spw in obs.spws:
            key = f"{spw.receiver.name} {spw.baseband}"
            if key not in per_baseband:
                rng = self._rng(obs, "delay", len(per_baseband))
                per_baseband[key] = self.delay_ns * 1e-9 * rng.standard_normal((na, 2))
        return np.stack([per_baseband[f"{s.receiver.name} {s.baseband}"] for s in obs.spws], axis=-1)

    def _bandpass(self, obs: Observation, spw: int) -> NDArray[np.complex128]:
        na, nc = len(obs.array.antennas), obs.spws[spw].channels
        if nc == 1:
            return np.ones((na, 2, 1), complex)
        rng = self._rng(obs, "bandpass", spw)
        x = np.linspace(-1, 1, nc)
        wave = rng.uniform(0.5, 2.5, (2, na, 2, 1)), rng.uniform(-1, 1, (2, na, 2, 1))
        slope = rng.uniform(-1, 1, (na, 2, 1))
        edge = 1 / (1 + np.exp(-(nc / 2 * (1 - np.abs(x)) - self.bandpass_edge) * 1.2)) if self.bandpass_edge else 1.0
        amplitude = 1 + self.bandpass_ripple * (np.cos(np.pi * (wave[0][0] * x + wave[1][0])) + slope * x)
        amplitude /= amplitude.mean(axis=-1, keepdims=True)
        phase = np.radians(self.bandpass_phase_deg) * np.sin(np.pi * (wave[0][1] * x + wave[1][1]))
        phase -= phase.mean(axis=-1, keepdims=True)
        # No delay in the inner bandpass, where delays are solved: calibration could not tell it from the delay.
        inner = (np.abs(x) <= 0.8) * x
        phase -= x * (phase * inner).sum(axis=-1, keepdims=True) / (inner * x).sum()
        return amplitude * edge * np.exp(1j * phase)

    def _leakage(self, obs: Observation, spw: int) -> NDArray[np.complex128]:
        rng = self._rng(obs, "leakage", spw)
        shape = (len(obs.array.antennas), 2, 1)
        return self.leakage / np.sqrt(2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))

    def _sefd(self, obs: Observation, spw: int) -> NDArray[np.float64]:
        base = self.sefd_jy if isinstance(self.sefd_jy, (int, float)) else self.sefd_jy[obs.spws[spw].receiver.name]
        rng = self._rng(obs, "sefd", spw)
        return base * np.exp(self.sefd_scatter * rng.standard_normal((len(obs.array.antennas), 2, 1)))

    def _path(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.float64]:
        na = len(obs.array.antennas)
        if not obs.atmosphere.phase_screen_m:
            return np.zeros((len(times), na))
        geometry = Geometry(obs.array.positions_m)
        east_north = geometry.local(obs.array.positions_m)[:, :2]
        screen = frozen_screen(
            self._rng(obs, "phase screen"),
            east_north,
            times,
            obs.atmosphere.phase_screen_m,
            obs.atmosphere.screen_wind_ms,
            obs.atmosphere.screen_scale_m,
        )
        return screen / np.sin(elevations(obs))[:, None]

    def _transmission(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.float64]:
        opacity = np.array([obs.atmosphere.opacity.get(spw.receiver.name, 0.0) for spw in obs.spws])
        airmass = 1 / np.sin(elevations(obs))
        transmission = np.exp(-0.5 * opacity * airmass[:, None])
        return np.repeat(transmission[:, None, :], len(obs.array.antennas), axis=1)


def elevations(observation: Observation) -> NDArray[np.float64]:
    """Elevation of the observed field at every integration, radians, shape (time,)."""
    from pl_sim.schedule import timeline

    geometry = Geometry(observation.array.positions_m)
    parts = []
    for entry in timeline(observation):
        fld = observation.fields[entry.field]
        parts.append(geometry.azel(entry.times, np.radians(fld.ra_deg), np.radians(fld.dec_deg))[1])
    return np.concatenate(parts)
