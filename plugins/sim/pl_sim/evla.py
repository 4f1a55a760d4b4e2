"""What makes an observation one of the VLA: pads, receivers, calibrators, switched power, gain curves, online flags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import frozen

from pl_sim.casa import data_file, open_table
from pl_sim.engine import Chunk, Extension, Run
from pl_sim.instrument import Corruptions, Instrument, elevations
from pl_sim.mswriter import repeat
from pl_sim.noise import smooth_process
from pl_sim.observation import Antenna, Array, Component, Observation, Receiver, Source
from pl_sim.regions import Region
from pl_sim.schedule import all_times, casa_time, time_range, timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECEIVERS = {
    name: Receiver(f"EVLA_{name}", low * 1e9, high * 1e9)
    for name, low, high in (
        ("L", 1, 2),
        ("S", 1.98, 4.1),
        ("C", 4, 8),
        ("X", 8, 12),
        ("KU", 12, 18),
        ("K", 18, 26.5),
        ("KA", 26.5, 40),
        ("Q", 40, 50),
    )
}
BBC_NUMBERS = {"A0C0": 12, "B0D0": 15, "A1C1": 10, "A2C2": 11, "B1D1": 13, "B2D2": 14}
"""BBC_NO as EVLA data carry it."""

# Typical zenith SEFD (Jy), noise diode (K), aperture efficiency as K/Jy, zenith opacity in fair weather, per band:
# VLA Observational Status Summary; opacities from the seasonal model for 5 mm of water vapour.
_BANDS = {
    "L": (420.0, 1.0, 0.080, 0.004),
    "S": (370.0, 1.2, 0.110, 0.004),
    "C": (280.0, 1.5, 0.110, 0.005),
    "X": (260.0, 1.6, 0.108, 0.006),
    "KU": (320.0, 2.0, 0.100, 0.012),
    "K": (500.0, 3.0, 0.090, 0.04),
    "KA": (700.0, 3.5, 0.078, 0.03),
    "Q": (1300.0, 5.0, 0.060, 0.06),
}
SWITCHED_POWER_DIGITAL_FACTOR = (0.932 * 1.176) ** 0.5
"""Factor in the gains that CASA derives from requantizer gains and switched power."""


def opacities() -> dict[str, float]:
    """Zenith opacity by receiver name."""
    return {RECEIVERS[band].name: values[3] for band, values in _BANDS.items()}


def _calibrator(
    name: str,
    code: str,
    ra: tuple[float, float, float],
    dec: tuple[float, float, float],
    log_flux: tuple[float, ...],
    **polarization: float,
) -> Source:
    """A standard: the polynomial log10 S(Jy) in log10 nu(GHz), the shape of CASA's images of it."""
    ra_deg = 15 * (ra[0] + ra[1] / 60 + ra[2] / 3600)
    dec_deg = dec[0] + dec[1] / 60 + dec[2] / 3600
    component = Component(10 ** log_flux[0], 1e9, log_flux[1:], name=name, **polarization)
    return Source(name, ra_deg, dec_deg, (component,), code=code, shape=name.rpartition("=")[2])


# Perley & Butler (2017), ApJS 230, 7, table 6; polarization from Perley & Butler (2013), ApJS 206, 16.
FLUX_CALIBRATORS = {
    "3C286": _calibrator(
        "1331+305=3C286",
        "A",
        (13, 31, 8.2879),
        (30, 30, 32.958),
        (1.2481, -0.4507, -0.1798, 0.0357),
        polarized_fraction=0.11,
        polarization_angle_deg=33.0,
    ),
    "3C48": _calibrator("0137+331=3C48", "A", (1, 37, 41.2994), (33, 9, 35.133), (1.3253, -0.7553, -0.1914, 0.0498)),
    "3C147": _calibrator("0542+498=3C147", "A", (5, 42, 36.1379), (49, 51, 7.234), (1.4516, -0.6961, -0.2007, 0.0640)),
}


def vla_array(configuration: str, count: int = 27) -> Array:
    """`count` antennas on the pads of a configuration (`A` … `D`), spread evenly over the three arms."""
    pads: list[tuple[str, tuple[float, float, float]]] = []
    for line in data_file(f"alma/simmos/vla.{configuration.lower()}.cfg").read_text().splitlines():
        columns = line.split()
        if columns and not columns[0].startswith("#"):
            x, y, z = (float(c) for c in columns[:3])
            pads.append((columns[4], (x, y, z)))
    chosen = np.unique(np.linspace(0, len(pads) - 1, count).round().astype(int))
    # Antenna numbers have no order along the arms.
    numbers = np.random.default_rng(27).permutation(np.arange(1, 29))[: len(chosen)]
    order = np.argsort(numbers)
    antennas = tuple(Antenna(f"ea{numbers[i]:02d}", pads[chosen[i]][0], pads[chosen[i]][1], 25.0) for i in order)
    return Array("EVLA", configuration, antennas, elevation_limit_deg=8.0, beam_factor=1.02)


@frozen
class VlaInstrument(Instrument):
    """Circular feeds, switched noise diodes, requantizers, gain curves of the dishes."""

    leakage: float = 0.05
    delay_ns: float = 3.0
    system_temperature_scatter: float = 0.06
    gain_curves: bool = True

    def realise(self, observation: Observation) -> Corruptions:
        times = all_times(observation)
        na, ns = len(observation.array.antennas), len(observation.spws)
        bands = [_BANDS[spw.receiver.name.partition("_")[2]] for spw in observation.spws]
        rng = self._rng(observation, "vla receivers")
        kelvin_per_jy = np.array([b[2] for b in bands]) * np.exp(0.04 * rng.standard_normal((na, 2, 1)))
        sefd = np.array([b[0] for b in bands])
        tsys = sefd * np.array([b[2] for b in bands])
        tsys = tsys * np.exp(self.system_temperature_scatter * rng.standard_normal((na, 2, ns)))
        tcal = np.array([b[1] for b in bands]) * np.exp(0.1 * rng.standard_normal((na, 2, ns)))
        requantizer = self._requantizers(observation)
        # Counts per kelvin: a constant of the receiver and a slow drift, common to the spws of a receptor.
        counts = 2e-5 * np.exp(self.gain_scatter * rng.standard_normal((na, 2, ns)))
        drift = smooth_process(rng, times, 2 * self.gain_drift, self.gain_drift_s, (na, 2, 1))
        switched = counts * (1 + drift)
        base = super().realise(observation)
        phase = np.exp(1j * np.angle(base.gain))
        gain = np.sqrt(kelvin_per_jy * switched) * requantizer * phase
        return attrs.evolve(
            base,
            gain=gain,
            sefd_jy=[(tsys / kelvin_per_jy)[:, :, s, None] for s in range(ns)],
            extra={
                "switched_gain": switched,
                "requantizer": requantizer,
                "tsys_k": tsys,
                "tcal_k": tcal,
                "kelvin_per_jy": np.broadcast_to(kelvin_per_jy, (na, 2, ns)).copy(),
            },
        )

    def _requantizers(self, obs: Observation) -> NDArray[np.float64]:
        """(antenna, receptor, spw), the same in all spws of a baseband."""
        keys = [(s.receiver.name, s.baseband) for s in obs.spws]
        unique = list(dict.fromkeys(keys))
        values = self._rng(obs, "requantizer").uniform(18, 24, (len(obs.array.antennas), 2, len(unique)))
        return values[:, :, [unique.index(k) for k in keys]]

    def _transmission(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.float64]:
        transmission = super()._transmission(obs, times)
        if not self.gain_curves:
            return transmission
        zenith_angle = 90 - np.degrees(elevations(obs))
        coefficients = gain_curves(obs.array.names, [s.receiver.name for s in obs.spws], times.mean())
        curve = sum(coefficients[None, :, :, k] * (zenith_angle**k)[:, None, None] for k in range(4))
        return transmission * curve


def gain_curves(antennas: tuple[str, ...], receivers: list[str], time: float) -> NDArray[np.float64]:
    """Voltage gain against zenith angle (degrees): polynomial coefficients (antenna, receiver, 4).

    From the table that CASA itself uses (GainCurves of its VLA data); receptor R.
    """
    letters = {"KU": "U", "KA": "A"}
    with open_table(data_file("nrao/VLA/GainCurves")) as tb:
        band, antenna, gain = tb.getcol("BANDNAME"), tb.getcol("ANTENNA"), tb.getcol("GAIN")
        valid = (tb.getcol("BTIME") <= time) & (tb.getcol("ETIME") > time)
    out = np.zeros((len(antennas), len(receivers), 4))
    for column, receiver in enumerate(receivers):
        name = receiver.partition("_")[2]
        inside = valid & (band == letters.get(name, name))
        for row, antenna_name in enumerate(antennas):
            number = re.sub(r"\D", "", antenna_name).lstrip("0") or "0"
            match = np.nonzero(inside & (antenna == number))[0]
            if not len(match):
                match = np.nonzero(inside & (antenna == "0"))[0]
            if len(match):
                out[row, column] = gain[:, 0, match[-1]]
            else:
                out[row, column, 0] = 1.0
    return out


@frozen
class SwitchedPower(Extension):
    """SYSPOWER and CALDEVICE of the noise diodes: what CASA turns into requantizer and switched-power gains."""

    interval_s: float = 0.0
    """Spacing of the records; 0: the integration time."""
    jitter: float = 0.003
    subtables = ("SYSPOWER", "CALDEVICE")

    def start(self, run: Run) -> None:
        obs, extra = run.observation, run.corruptions.extra
        na, ns = len(obs.array.antennas), len(obs.spws)
        start, end = time_range(obs)
        count = na * ns
        antenna, spw = (a.ravel() for a in np.indices((na, ns)))
        run.writer.subtable(
            "CALDEVICE",
            {
                "ANTENNA_ID": antenna,
                "FEED_ID": repeat(count, 0),
                "SPECTRAL_WINDOW_ID": spw,
                "TIME": repeat(count, (start + end) / 2),
                "INTERVAL": repeat(count, end - start + 120),
                "NUM_CAL_LOAD": repeat(count, 2),
                "CAL_LOAD_NAMES": repeat(count, np.array(["NOISE_TUBE_LOAD", "SOLAR_FILTER"])),
                "NUM_RECEPTOR": repeat(count, 2),
                "CAL_EFF": np.ones((count, 2, 2), np.float32),
                # One value per receptor: CASA's switched-power code accepts nothing else.
                "NOISE_CAL": extra["tcal_k"].transpose(0, 2, 1).reshape(count, 2).astype(np.float32),
                "TEMPERATURE_LOAD": np.zeros((count, 2)),
            },
        )
        step = self.interval_s or obs.integration_s
        times = np.arange(start + step / 2, end, step)
        dead = run.corruptions.coupling == 0
        for a in range(na):
            # (time, spw, receptor): one antenna at a time keeps memory small.
            switched = np.stack(
                [
                    [np.interp(times, run.corruptions.times, extra["switched_gain"][:, a, r, s]) for s in range(ns)]
                    for r in (0, 1)
                ]
            ).transpose(2, 1, 0)
            rq, tsys, tcal = (extra[k][a].T[None] for k in ("requantizer", "tsys_k", "tcal_k"))
            noise = 1 + self.jitter * run.noise_rng("switched power", a).standard_normal(switched.shape)
            difference = np.where(dead[a], 0.0, switched * rq**2 * tcal * noise)
            total = switched * rq**2 * (2 * tsys + tcal)
            rows = len(times) * ns
            run.writer.subtable(
                "SYSPOWER",
                {
                    "ANTENNA_ID": repeat(rows, a),
                    "FEED_ID": repeat(rows, 0),
                    "SPECTRAL_WINDOW_ID": np.tile(np.arange(ns), len(times)),
                    "TIME": np.repeat(times, ns),
                    "INTERVAL": repeat(rows, step),
                    "SWITCHED_DIFF": difference.reshape(rows, 2).astype(np.float32),
                    "SWITCHED_SUM": total.reshape(rows, 2).astype(np.float32),
                    "REQUANTIZER_GAIN": np.broadcast_to(rq, switched.shape).reshape(rows, 2).astype(np.float32),
                },
                append=True,
            )

    def truth(self, run: Run) -> dict[str, Any]:
        return {"digital_factor": SWITCHED_POWER_DIGITAL_FACTOR}


@frozen
class LateAntenna(Extension):
    """An antenna that arrives late at every scan; the online system says so in FLAG_CMD, and the data are bad."""

    antenna: str
    seconds: float

    def _spans(self, obs: Observation) -> list[tuple[int, float, float]]:
        half = obs.integration_s / 2
        count = max(1, round(self.seconds / obs.integration_s))
        return [
            (e.scan.number, float(e.times[0] - half), float(e.times[min(count, len(e.times)) - 1] + half))
            for e in timeline(obs)
            if e.number == 1
        ]

    def start(self, run: Run) -> None:
        spans = self._spans(run.observation)
        commands = [f"antenna='{self.antenna}&&*' timerange='{casa_time(a)}~{casa_time(b)}'" for _, a, b in spans]
        count = len(spans)
        run.writer.subtable(
            "FLAG_CMD",
            {
                "TIME": np.array([(a + b) / 2 for _, a, b in spans]),
                "INTERVAL": np.array([b - a for _, a, b in spans]),
                "TYPE": repeat(count, "FLAG"),
                "REASON": repeat(count, "ANTENNA_NOT_ON_SOURCE"),
                "LEVEL": repeat(count, 0),
                "SEVERITY": repeat(count, 0),
                "APPLIED": repeat(count, False),
                "COMMAND": np.array(commands),
            },
        )
        run.regions += tuple(
            Region("antenna not on source", "online", scans=(n,), antennas=(self.antenna,), times=(a, b))
            for n, a, b in spans
        )

    def after_chunk(self, run: Run, chunk: Chunk) -> None:
        for region in run.regions:
            if region.reason == "antenna not on source" and region.scans == (chunk.entry.scan.number,):
                index = chunk.select(region)
                if index is not None:
                    chunk.data[index] *= 0.05

    def truth(self, run: Run) -> dict[str, Any]:
        return {"antenna": self.antenna, "seconds": self.seconds}
