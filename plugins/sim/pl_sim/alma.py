"""The instrument of ALMA's interferometers: system temperatures that follow the air, a turbulent wet screen,
radiometers.

Raw visibilities are correlation coefficients: V_raw = g_p g_q* V / (Gamma sqrt(Tsys_p Tsys_q)) + noise, with Gamma in
Jy/K and noise of 1 / (efficiency sqrt(2 dnu tau)).  Multiplying by sqrt(Tsys_p Tsys_q), as applying a Tsys table
does,
leaves gains g / sqrt(Gamma) for the calibrators to find.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
from attrs import define, field, frozen

from pl_sim import asdm, wvr
from pl_sim.atmosphere import CHAJNANTOR, Air, FrozenScreen, Site, pwv_series
from pl_sim.engine import CORRELATED_ROLES, Extension
from pl_sim.errors import ImpossibleObservation
from pl_sim.geometry import Geometry
from pl_sim.instrument import Corruptions, Instrument
from pl_sim.mswriter import repeat
from pl_sim.noise import stream
from pl_sim.schedule import time_range, timeline
from pl_sim.syscal import Receivers, TsysMeasurement, TsysModel, measure, syscal_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Chunk, Run
    from pl_sim.observation import Observation
    from pl_sim.schedule import Entry

LOAD_UNIT_K = 300.0
"""Temperature that gives an autocorrelation of one."""


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

    def sky_power_k(self, spw: int, index: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Power of the blank sky and the receiver [1, antenna, receptor, channel] in K, and the share [1, 1,
        channel] of a
        temperature above the air that arrives; for integrations of one subscan."""
        baseband, frequency = self.windows[spw]
        elevation = float(self.elevation[index.start])
        sky = self.tsys.load_power_k("OFF_SOURCE", baseband, frequency, elevation)
        return sky[None], self.tsys.arriving(frequency, elevation)[None, None]

    def jones(self, spw: int, frequency_hz: NDArray[np.float64], index: slice) -> NDArray[np.complex64]:
        """Antenna gains (time, antenna, receptor, channel) in correlation coefficient per sqrt(Jy)."""
        gains = super().jones(spw, frequency_hz, index)
        return (gains * np.sqrt(self.jy_per_k / self.sefd(spw, index))).astype(np.complex64)


@frozen
class AlmaInstrument(Instrument):
    """ALMA antennas: everything of `Instrument`, plus receivers, air and water."""

    gain_scatter: float = 0.05
    gain_drift: float = 0.005
    phase_drift_deg: float = 8.0
    """Drift of the electronics, which no radiometer sees."""
    phase_drift_s: float = 5000.0
    phase_jitter_deg: float = 0.5
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
    fluctuation_mm: float = 0.025
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

    def _gain(self, obs: Observation, times: NDArray[np.float64]) -> NDArray[np.complex128]:
        """(time, antenna, receptor, spw) in K^(1/2) per Jy^(1/2): what solving finds once a Tsys table is applied."""
        scale = np.sqrt(self.jy_per_k) if obs.engine == "interferometer" else 1.0
        return super()._gain(obs, times) / scale

    def _delay_reference(self, obs: Observation) -> NDArray[np.float64]:
        """Middle of the spw: the online system leaves no phase step there."""
        return np.array([spw.centre_hz for spw in obs.spws])

    def _sefd(self, obs: Observation, spw: int) -> NDArray[np.float64]:
        """At the mean elevation; the data use `AlmaCorruptions.sefd`."""
        window = obs.spws[spw]
        if window.role == "wvr":
            return np.ones((len(obs.array.antennas), 2, 1))
        elevation = float(subscan_elevations(obs).mean())
        return self.jy_per_k * self.tsys_model(obs).tsys_k(window.bbc_no, window.frequencies_hz, elevation)

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


_last_elevations: tuple[Observation, NDArray[np.float64]] | None = None


def subscan_elevations(obs: Observation) -> NDArray[np.float64]:
    """Mean elevation (rad) of the subscan that every integration belongs to, (time,).

    Every spw asks for those of the same observation; the answer for the last one is kept.
    """
    global _last_elevations
    if _last_elevations is not None and _last_elevations[0] is obs:
        return _last_elevations[1]
    entries = list(timeline(obs))
    counts = np.array([len(entry.times) for entry in entries])
    fields = [obs.fields[entry.field] for entry in entries]
    places = np.repeat(np.radians([[fld.ra_deg, fld.dec_deg] for fld in fields]), counts, axis=0)
    # One call for all times: what costs is the orientation of the Earth, not its application.
    _, elevation = Geometry(obs.array.positions_m).azel(np.concatenate([e.times for e in entries]), *places.T)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    found = np.repeat(np.add.reduceat(elevation, starts) / counts, counts)
    found.flags.writeable = False
    _last_elevations = (obs, found)
    return found


@frozen
class AlmaSystem(Extension):
    """What ALMA records beside the visibilities: radiometers, loads, channel averages, POINTING, SYSCAL and ASDM_*
    tables.

    Faults may have `change_radiometer(observation, entry, times, brightness)`, which alters brightness temperatures
    [4, time, antenna] in place, and `change_tsys(observation, measurement) -> measurement`.
    """

    project: asdm.Project
    tsys_error: float = 0.003
    """Relative noise of a channel of a Tsys spectrum."""
    radiometers: bool = True

    subtables: ClassVar[tuple[str, ...]] = ("SYSCAL",)  # type: ignore[misc]

    def start(self, run: Run) -> None:
        obs, instrument = run.observation, _instrument(run.observation)
        start, end = time_range(obs)
        measurements = self._measure(run)
        run.shared["tsys"] = measurements
        run.shared["water"] = instrument.water(obs)
        if measurements:
            run.writer.subtable("SYSCAL", syscal_columns(measurements))
        asdm.write_project(run.writer, obs, self.project, start, end)
        # All pointings of a mosaic carry the name of their source.
        run.writer.subtable("FIELD", {"NAME": np.array([fld.source for fld in obs.fields])})
        calibrations = sorted(
            {(m.scan, m.time_s - m.interval_s / 2, m.time_s + m.interval_s / 2) for m in measurements}
        )
        if calibrations:
            rows = [(name, scan, first, last) for scan, first, last in calibrations for name in obs.array.names]
            middle = np.array([(first + last) / 2 for _, _, first, last in rows])
            water = run.shared["water"].mean_mm(middle) * 1e-3
            frequency = float(np.mean([spw.centre_hz for spw in obs.spws if spw.role == "science"]))
            asdm.write_calwvr(run.writer, rows, water, instrument.air.path_per_mm(frequency))
            windows, air = {m.spw: obs.spws[m.spw].frequencies_hz for m in measurements}, instrument.air
            asdm.write_calatmosphere(
                run.writer,
                obs,
                measurements,
                instrument.pwv_mm * 1e-3,
                {s: air.channel_mean(air.tau, f) for s, f in windows.items()},
                {s: air.channel_mean(air.mean_temperature_k, f) for s, f in windows.items()},
                (instrument.site.temperature_k, instrument.site.pressure_hpa, instrument.site.humidity_percent),
                self.project.band,
            )
        if obs.engine == "interferometer":
            write_pointing(run)

    def _measure(self, run: Run) -> list[TsysMeasurement]:
        obs, c = run.observation, _corruptions(run)
        scans: dict[int, list[Entry]] = {}
        for entry in timeline(obs):
            if entry.subscan.kind == "load":
                scans.setdefault(entry.scan.number, []).append(entry)
        half = obs.integration_s / 2
        found: list[TsysMeasurement] = []
        for number, entries in scans.items():
            first, last = entries[0].times[0] - half, entries[-1].times[-1] + half
            elevation = float(c.elevation[entries[0].first])
            windows = {s: c.windows[s] for s in entries[0].scan.spws if obs.spws[s].role in CORRELATED_ROLES}
            rng = run.noise_rng("tsys", number)
            scan = [(number, (first + last) / 2, last - first, elevation)]
            found += measure(rng, c.tsys, scan, windows, self.tsys_error)
        for fault in run.faults:
            change = getattr(fault, "change_tsys", None)
            if change:
                found = [change(obs, m) for m in found]
        return found

    def after_chunk(self, run: Run, chunk: Chunk) -> None:
        """Channel-averaged rows of the visibilities just made."""
        target = averaged_window(run.observation, chunk.spw)
        if target is None:
            return
        nt, nb, _, ncorr = chunk.data.shape
        obs = run.observation
        run.writer.append(
            chunk.data.mean(axis=2).reshape(nt * nb, 1, ncorr),
            {
                "TIME": np.repeat(chunk.times, nb),
                "ANTENNA1": np.tile(chunk.antenna1, nt),
                "ANTENNA2": np.tile(chunk.antenna2, nt),
                "DATA_DESC_ID": target,
                "FIELD_ID": chunk.entry.field,
                "SCAN_NUMBER": chunk.entry.scan.number,
                "STATE_ID": chunk.entry.state,
                "INTERVAL": obs.integration_s,
                "UVW": chunk.uvw.reshape(-1, 3),
            },
            weight=2 * obs.spws[chunk.spw].bandwidth_hz * obs.integration_s,
        )

    def after_subscan(self, run: Run, entry: Entry) -> None:
        if entry.subscan.kind == "load":
            write_load(run, entry)
        if self.radiometers:
            self._write_radiometers(run, entry)

    def _write_radiometers(self, run: Run, entry: Entry) -> None:
        obs, instrument = run.observation, _instrument(run.observation)
        spws = [s for s in entry.scan.spws if obs.spws[s].role == "wvr"]
        half = obs.integration_s / 2
        times = wvr.sample_times(entry.times[0] - half, entry.times[-1] + half, run.corruptions.times[0] - half)
        if not spws or not len(times):
            return
        column = run.shared["water"].column_mm(times, wvr.SAMPLE_S)
        elevation = float(_corruptions(run).elevation[entry.first])
        rng = run.noise_rng("radiometer", entry.scan.number, entry.number)
        sky = wvr.Radiometer(instrument.site).observe_k(rng, column, elevation)
        for fault in run.faults:
            change = getattr(fault, "change_radiometer", None)
            if change:
                change(obs, entry, times, sky)
        nt, na = column.shape
        antennas = np.tile(np.arange(na), nt)
        run.writer.append(
            sky.transpose(1, 2, 0).reshape(nt * na, 4, 1).astype(np.complex64),
            {
                "TIME": np.repeat(times, na),
                "ANTENNA1": antennas,
                "ANTENNA2": antennas,
                "DATA_DESC_ID": spws[0],
                "PROCESSOR_ID": 1,
                "FIELD_ID": entry.field,
                "SCAN_NUMBER": entry.scan.number,
                "STATE_ID": entry.state,
                "INTERVAL": wvr.SAMPLE_S,
            },
        )

    def truth(self, run: Run) -> dict[str, Any]:
        """Opacity, water and the Tsys spectra, as a Tsys table should show them (K, antenna by polarization, mean
        over channels)."""
        obs, c, instrument = run.observation, _corruptions(run), _instrument(run.observation)
        centres = {s: w.centre_hz for s, w in enumerate(obs.spws) if w.role in CORRELATED_ROLES}
        return {
            "pwv_mm": instrument.pwv_mm,
            "jy_per_k": instrument.jy_per_k,
            "path_mm_per_mm": {s: instrument.air.path_per_mm(nu) for s, nu in centres.items()},
            "zenith_opacity": {s: float(instrument.air.tau(c.windows[s][1]).mean()) for s in centres},
            "tsys_k": [
                {
                    "scan": m.scan,
                    "spw": m.spw,
                    "time_s": m.time_s,
                    "elevation_deg": float(np.degrees(m.elevation)),
                    "mean_k": c.tsys_k(m.spw, m.elevation).mean(axis=-1),
                }
                for m in run.shared.get("tsys", [])
            ],
        }


def _corruptions(run: Run) -> AlmaCorruptions:
    if not isinstance(run.corruptions, AlmaCorruptions):
        raise ImpossibleObservation(f"{run.observation.name} records ALMA's auxiliary data without ALMA's receivers.")
    return run.corruptions


def _instrument(obs: Observation) -> AlmaInstrument:
    if not isinstance(obs.instrument, AlmaInstrument):
        raise ImpossibleObservation(
            f"{obs.name} records ALMA's auxiliary data with an instrument that has no receivers."
        )
    return obs.instrument


def averaged_window(obs: Observation, spw: int) -> int | None:
    """Index of the channel-averaged companion of a window, which follows it, or None."""
    follower = obs.spws[spw + 1] if spw + 1 < len(obs.spws) else None
    return spw + 1 if follower is not None and follower.role == "average" else None


def write_load(run: Run, entry: Entry) -> None:
    """Autocorrelations of a load subscan: total power of sky, ambient or hot load, and their channel averages.

    Power is in units of the receiver looking at `LOAD_UNIT_K`; its noise is that of the radiometer equation.
    """
    obs, c = run.observation, _corruptions(run)
    na, nt = len(obs.array.antennas), len(entry.times)
    antennas = np.tile(np.arange(na), nt)
    for s in entry.scan.spws:
        window = obs.spws[s]
        if window.role not in CORRELATED_ROLES:
            continue
        baseband, frequency = c.windows[s]
        power = c.tsys.load_power_k(entry.subscan.label, baseband, frequency, c.elevation[entry.first]) / LOAD_UNIT_K
        power = power * np.abs(c.bandpass[s]) ** 2
        rng = run.noise_rng("load", entry.scan.number, entry.number, s)
        relative = 1 / np.sqrt(abs(window.channel_hz) * obs.integration_s)
        pairs = [(a, b) for a, b in window.receptor_pairs]
        data = np.zeros((nt, na, window.channels, len(pairs)), np.complex64)
        for number, (a, b) in enumerate(pairs):
            if a == b:
                noise = 1 + relative * rng.standard_normal((nt, na, window.channels))
                data[..., number] = power[None, :, a] * noise
        columns = {
            "TIME": np.repeat(entry.times, na),
            "ANTENNA1": antennas,
            "ANTENNA2": antennas,
            "FIELD_ID": entry.field,
            "SCAN_NUMBER": entry.scan.number,
            "STATE_ID": entry.state,
            "INTERVAL": obs.integration_s,
        }
        recorded: NDArray[Any] = data.reshape(nt * na, window.channels, len(pairs))
        if run.writer.data_column == "FLOAT_DATA":
            recorded = recorded.real
        weight = 2 * abs(window.channel_hz) * obs.integration_s
        run.writer.append(recorded, {**columns, "DATA_DESC_ID": s}, weight=weight)
        target = averaged_window(obs, s)
        if target is not None:
            mean = recorded.mean(axis=1, keepdims=True)
            run.writer.append(mean, {**columns, "DATA_DESC_ID": target}, weight=weight * window.channels)


def write_pointing(run: Run, every: int = 3) -> None:
    """POINTING in AZELGEO: one row per antenna for every few integrations, on the field."""
    obs = run.observation
    times, places, names = [], [], []
    for entry in timeline(obs):
        fld = obs.fields[entry.field]
        at = entry.times[::every]
        times.append(at)
        places.append(np.repeat(np.radians([[fld.ra_deg, fld.dec_deg]]), len(at), axis=0))
        names += [fld.name] * len(at)
    azimuth, elevation = run.geometry.azel(np.concatenate(times), *np.concatenate(places).T)
    na = len(obs.array.antennas)
    time = np.repeat(np.concatenate(times), na)
    direction = np.repeat(np.stack([azimuth, elevation], axis=-1), na, axis=0)
    count = len(time)
    run.writer.subtable(
        "POINTING",
        {
            "ANTENNA_ID": np.tile(np.arange(na), count // na),
            "TIME": time,
            "INTERVAL": repeat(count, every * obs.integration_s),
            "NAME": np.repeat(names, na),
            "NUM_POLY": repeat(count, 0),
            "TIME_ORIGIN": time,
            "DIRECTION": direction[:, :, None],
            "TARGET": direction[:, :, None],
            "TRACKING": repeat(count, True),
            "POINTING_OFFSET": np.zeros((count, 2, 1)),
            "ENCODER": direction,
            "ON_SOURCE": repeat(count, True),
            "OVER_THE_TOP": repeat(count, False),
        },
    )
