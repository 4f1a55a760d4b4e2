"""System temperatures: receiver + sky + spillover, the load subscans they are measured with, and the SYSCAL rows.

T_sys = (T_rx + eta T_sky + (1 - eta) T_amb) exp(tau A) / eta   for sideband-separating receivers
(ALMA Technical Handbook, section on system temperature, with sideband gain ratio 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from pl_sim.atmosphere import Air, FloatArray

FORWARD_EFFICIENCY = 0.95
HOT_LOAD_K = 350.0
AMBIENT_LOAD_K = 290.0


@attrs.frozen(eq=False)
class Receivers:
    """Receiver temperatures of an array.

    base_k: [antennas, polarizations, basebands + 1]; index of the last axis is the baseband number (0 unused).
    Every spectrum has a gentle ripple of `ripple` (fraction) over its window, with a phase per antenna, so that
    Tsys tables are not flat.
    """

    base_k: FloatArray
    ripple: float = 0.02

    @classmethod
    def draw(
        cls, rng: np.random.Generator, antennas: int, polarizations: int, basebands: int, mean_k: float, spread: float
    ) -> Receivers:
        """Receivers with a relative scatter `spread` between antennas, polarizations and basebands."""
        scatter = np.clip(rng.standard_normal((antennas, polarizations, basebands + 1)), -2.5, 2.5)
        return cls(mean_k * (1.0 + spread * scatter))

    def spectrum_k(self, baseband: int, freq_hz: FloatArray) -> FloatArray:
        """Receiver temperature [antennas, polarizations, channels]; the ripple has a period of 1.3 GHz, whatever
        the window."""
        base = self.base_k[:, :, baseband]
        antenna = np.arange(base.shape[0])[:, None, None]
        wave = np.sin(2 * np.pi * np.asarray(freq_hz) / 1.3e9 + antenna)
        return base[:, :, None] * (1.0 + self.ripple * wave)


@attrs.frozen(eq=False)
class TsysModel:
    """System temperature of every antenna as a function of frequency and elevation."""

    receivers: Receivers
    air: Air
    forward_efficiency: float = FORWARD_EFFICIENCY

    def tsys_k(self, baseband: int, freq_hz: FloatArray, elevation: float) -> FloatArray:
        """T_sys [antennas, polarizations, channels] in K, referred to above the air, at an elevation (rad)."""
        return self._before_air(baseband, freq_hz, elevation) / self.arriving(freq_hz, elevation)

    def measured_tsys_k(self, baseband: int, freq_hz: FloatArray, elevation: float) -> FloatArray:
        """T_sys [antennas, polarizations, channels] as channels that may be wider than sky lines measure it: the ratio
        of mean powers, since powers are what a channel averages."""
        before = self.air.channel_mean(lambda f: self._before_air(baseband, f, elevation), freq_hz)
        return before / self.air.channel_mean(lambda f: self.arriving(f, elevation), freq_hz)

    def arriving(self, freq_hz: FloatArray, elevation: float) -> FloatArray:
        """Share of a temperature above the air that the receiver sees: eta exp(-tau A), [channels]."""
        return self.forward_efficiency * self.air.transmission(freq_hz, elevation)

    def _before_air(self, baseband: int, freq_hz: FloatArray, elevation: float) -> FloatArray:
        eta = self.forward_efficiency
        sky = eta * self.air.sky_temperature_k(freq_hz, elevation) + (1.0 - eta) * self.air.site.temperature_k
        return self.receivers.spectrum_k(baseband, freq_hz) + sky

    def load_power_k(self, load: str, baseband: int, freq_hz: FloatArray, elevation: float) -> FloatArray:
        """Power per unit gain (K) while the receiver looks at "OFF_SOURCE" (sky), "AMBIENT" or "HOT": [antennas,
        polarizations, channels]."""
        if load == "OFF_SOURCE":
            return self._before_air(baseband, freq_hz, elevation)
        temperature = {"AMBIENT": AMBIENT_LOAD_K, "HOT": HOT_LOAD_K}[load]
        return self.receivers.spectrum_k(baseband, freq_hz) + temperature


@attrs.frozen(eq=False)
class TsysMeasurement:
    """One atmospheric calibration of one spw: what the online system would put in SYSCAL.

    tsys_k, trx_k: [antennas, polarizations, channels]; time_s is the middle and interval_s the length of the scan.
    """

    scan: int
    spw: int
    time_s: float
    interval_s: float
    elevation: float
    tsys_k: FloatArray
    trx_k: FloatArray


def measure(
    rng: np.random.Generator,
    model: TsysModel,
    scans: Sequence[tuple[int, float, float, float]],
    spws: Mapping[int, tuple[int, FloatArray]],
    error: float = 0.003,
    alter: Callable[[TsysMeasurement], TsysMeasurement] | None = None,
) -> list[TsysMeasurement]:
    """Tsys spectra of every (scan, spw).

    scans: (number, mid time s, length s, elevation rad); spws: id -> (baseband, channel frequencies Hz); error:
    relative noise per channel;
    alter: what a fault does to a measurement (the true system temperature, and so the data, stay as they are).
    """
    found = []
    for number, time, length, elevation in scans:
        for spw, (baseband, freq) in spws.items():
            truth = model.measured_tsys_k(baseband, freq, elevation)
            noisy = truth * (1.0 + error * rng.standard_normal(truth.shape))
            item = TsysMeasurement(
                number, spw, time, length, elevation, noisy, model.receivers.spectrum_k(baseband, freq)
            )
            found.append(alter(item) if alter else item)
    return found


def syscal_columns(measurements: Sequence[TsysMeasurement]) -> dict[str, object]:
    """Columns of SYSCAL: one row per (scan, spw, antenna); spectra are lists of [polarizations, channels] float32."""
    antenna = np.concatenate([np.arange(len(m.tsys_k)) for m in measurements])
    repeat = [len(m.tsys_k) for m in measurements]
    tsys = [row.astype(np.float32) for m in measurements for row in m.tsys_k]
    trx = [row.astype(np.float32) for m in measurements for row in m.trx_k]
    rows = len(antenna)
    flags = {f"{name}_FLAG": np.zeros(rows, bool) for name in ("TSYS", "TRX", "TSKY", "TCAL")}
    return {
        "ANTENNA_ID": antenna,
        "FEED_ID": np.zeros(rows, int),
        "SPECTRAL_WINDOW_ID": np.repeat([m.spw for m in measurements], repeat),
        "TIME": np.repeat([m.time_s for m in measurements], repeat),
        "INTERVAL": np.repeat([m.interval_s for m in measurements], repeat),
        "TSYS_SPECTRUM": tsys,
        "TRX_SPECTRUM": trx,
        "TSKY_SPECTRUM": [np.maximum(a - b, 1.0).astype(np.float32) for a, b in zip(tsys, trx, strict=True)],
        "TCAL_SPECTRUM": [np.ones_like(a) for a in tsys],
        **flags,
    }
