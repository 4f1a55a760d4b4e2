"""The subtables every measurement set has, from the description of the observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pl_sim.mswriter import FREQUENCY_CODES, ICRS_CODE, MSWriter, repeat
from pl_sim.observation import CORRELATION_CODES, Observation
from pl_sim.schedule import time_range, timeline

if TYPE_CHECKING:
    from pl_sim.geometry import Geometry

_FOREVER_S = 1e10


def write_metadata(writer: MSWriter, obs: Observation, geometry: Geometry) -> None:
    """Write ANTENNA … WEATHER. An extension may rewrite any of them afterwards."""
    start, end = time_range(obs)
    middle = (start + end) / 2
    _antennas(writer, obs)
    _spectral_windows(writer, obs)
    _feeds(writer, obs, middle)
    _fields(writer, obs, start)
    _sources(writer, obs, middle, end - start)
    _states(writer, obs)
    _observation(writer, obs, start, end)
    if obs.notes.get("pointing", True):
        _pointing(writer, obs)
    _weather(writer, obs, geometry, start, end)


def _antennas(writer: MSWriter, obs: Observation) -> None:
    antennas = obs.array.antennas
    count = len(antennas)
    writer.subtable(
        "ANTENNA",
        {
            "NAME": np.array([a.name for a in antennas]),
            "STATION": np.array([a.station for a in antennas]),
            "TYPE": repeat(count, "GROUND-BASED"),
            "MOUNT": repeat(count, obs.array.mount),
            "POSITION": obs.array.positions_m,
            "OFFSET": np.zeros((count, 3)),
            "DISH_DIAMETER": np.array([a.diameter_m for a in antennas]),
            "FLAG_ROW": repeat(count, False),
        },
    )


def _spectral_windows(writer: MSWriter, obs: Observation) -> None:
    spws = obs.spws
    count = len(spws)
    widths = [np.full(s.channels, s.channel_hz) for s in spws]
    frequencies = [s.frequencies_hz for s in spws]
    writer.subtable(
        "SPECTRAL_WINDOW",
        {
            "NAME": np.array([s.name for s in spws]),
            "NUM_CHAN": np.array([s.channels for s in spws]),
            "REF_FREQUENCY": np.array([f[0] for f in frequencies]),
            "CHAN_FREQ": frequencies,
            "CHAN_WIDTH": widths,
            "EFFECTIVE_BW": [np.abs(w) for w in widths],
            "RESOLUTION": [np.abs(w) for w in widths],
            "TOTAL_BANDWIDTH": np.array([s.bandwidth_hz for s in spws]),
            "MEAS_FREQ_REF": np.array([FREQUENCY_CODES[s.frame] for s in spws]),
            "NET_SIDEBAND": np.array([s.net_sideband for s in spws]),
            "IF_CONV_CHAIN": repeat(count, 0),
            "FREQ_GROUP": repeat(count, 0),
            "FREQ_GROUP_NAME": repeat(count, ""),
            "FLAG_ROW": repeat(count, False),
            "BBC_NO": np.array([s.bbc_no for s in spws]),
            "SDM_NUM_BIN": np.array([s.num_bin for s in spws]),
            "SDM_WINDOW_FUNCTION": np.array([s.window_function for s in spws]),
            "SDM_CORR_BIT": np.array([s.correlator_bits for s in spws]),
        },
    )
    setups = obs.correlation_setups
    writer.subtable(
        "DATA_DESCRIPTION",
        {
            "SPECTRAL_WINDOW_ID": np.arange(count),
            "POLARIZATION_ID": np.array([setups.index(s.correlations) for s in spws]),
            "FLAG_ROW": repeat(count, False),
        },
    )
    receptors = {"R": 0, "X": 0, "L": 1, "Y": 1}
    writer.subtable(
        "POLARIZATION",
        {
            "NUM_CORR": np.array([len(c) for c in setups]),
            "CORR_TYPE": [np.array([CORRELATION_CODES[x] for x in c], np.int32) for c in setups],
            "CORR_PRODUCT": [np.array([[receptors[x[0]], receptors[x[1]]] for x in c], np.int32).T for c in setups],
            "FLAG_ROW": repeat(len(setups), False),
        },
    )


def _feeds(writer: MSWriter, obs: Observation, middle: float) -> None:
    na, ns = len(obs.array.antennas), len(obs.spws)
    count = na * ns
    types = np.array([["R", "L"] if s.feeds == "circular" else ["X", "Y"] for s in obs.spws])
    angle = np.radians(obs.notes.get("receptor_angle_deg", (0.0, 0.0)))
    writer.subtable(
        "FEED",
        {
            "ANTENNA_ID": np.repeat(np.arange(na), ns),
            "FEED_ID": repeat(count, 0),
            "SPECTRAL_WINDOW_ID": np.tile(np.arange(ns), na),
            "TIME": repeat(count, middle),
            "INTERVAL": repeat(count, _FOREVER_S),
            "NUM_RECEPTORS": repeat(count, 2),
            "BEAM_ID": repeat(count, -1),
            "BEAM_OFFSET": np.zeros((count, 2, 2)),
            "POLARIZATION_TYPE": np.tile(types, (na, 1)),
            "POL_RESPONSE": repeat(count, np.eye(2, dtype=np.complex64)),
            "POSITION": np.zeros((count, 3)),
            "RECEPTOR_ANGLE": repeat(count, angle),
        },
    )


def _fields(writer: MSWriter, obs: Observation, start: float) -> None:
    count = len(obs.fields)
    direction = np.radians([[f.ra_deg, f.dec_deg] for f in obs.fields])[:, :, None]
    names = [s.name for s in obs.sources]
    columns: dict[str, Any] = {
        "NAME": np.array([f.name for f in obs.fields]),
        "CODE": np.array([f.code for f in obs.fields]),
        "TIME": repeat(count, start),
        "NUM_POLY": repeat(count, 0),
        "DELAY_DIR": direction,
        "PHASE_DIR": direction,
        "REFERENCE_DIR": direction,
        "SOURCE_ID": np.array([names.index(f.source) for f in obs.fields]),
        "FLAG_ROW": repeat(count, False),
    }
    if obs.direction_frame == "ICRS":
        columns |= {f"{name}_Ref": repeat(count, ICRS_CODE) for name in ("DelayDir", "PhaseDir", "RefDir")}
    writer.subtable("FIELD", columns)


def _sources(writer: MSWriter, obs: Observation, middle: float, span: float) -> None:
    ns = len(obs.spws)
    rows = [(i, source, k) for i, source in enumerate(obs.sources) for k in range(ns)]
    rest, transition, velocity = [], [], []
    for _, source, k in rows:
        spw = obs.spws[k]
        half = spw.bandwidth_hz / 2
        inside = [line for line in source.lines if abs(line.rest_hz - spw.centre_hz) < half + 2e-3 * line.rest_hz]
        rest.append(inside[0].rest_hz if inside else source.rest_hz or spw.centre_hz)
        transition.append(inside[0].transition if inside else obs.notes.get("no_transition", ""))
        velocity.append(inside[0].velocity_ms if inside else source.velocity_ms)
    count = len(rows)
    writer.subtable(
        "SOURCE",
        {
            "SOURCE_ID": np.array([i for i, _, _ in rows]),
            "TIME": repeat(count, middle),
            "INTERVAL": repeat(count, span),
            "SPECTRAL_WINDOW_ID": np.array([k for _, _, k in rows]),
            "NUM_LINES": repeat(count, 1),
            "NAME": np.array([s.name for _, s, _ in rows]),
            "CALIBRATION_GROUP": repeat(count, 0),
            "CODE": np.array([s.code for _, s, _ in rows]),
            "DIRECTION": np.radians([[s.ra_deg, s.dec_deg] for _, s, _ in rows]),
            "PROPER_MOTION": np.zeros((count, 2)),
            "POSITION": np.zeros((count, 3)),
            "TRANSITION": np.array(transition)[:, None],
            "REST_FREQUENCY": np.array(rest)[:, None],
            "SYSVEL": np.array(velocity)[:, None],
        },
    )


def _states(writer: MSWriter, obs: Observation) -> None:
    modes = obs.obs_modes
    count = len(modes)
    off = np.array(["OFF_SOURCE" in mode and "OBSERVE_TARGET" in mode for mode, _ in modes])
    writer.subtable(
        "STATE",
        {
            "SIG": ~off,
            "REF": off,
            "CAL": repeat(count, 0.0),
            "LOAD": repeat(count, 0.0),
            "SUB_SCAN": np.array([number for _, number in modes]),
            "OBS_MODE": np.array([mode for mode, _ in modes]),
            "FLAG_ROW": repeat(count, False),
        },
    )


def _observation(writer: MSWriter, obs: Observation, start: float, end: float) -> None:
    writer.subtable(
        "OBSERVATION",
        {
            "TELESCOPE_NAME": repeat(1, obs.array.telescope),
            "TIME_RANGE": np.array([[start, end]]),
            "OBSERVER": repeat(1, obs.observer),
            "LOG": np.array([["simulated"]]),
            "SCHEDULE_TYPE": repeat(1, obs.array.telescope),
            "SCHEDULE": np.array([[f"SchedulingBlock {obs.scheduling_block}", f"ExecBlock {obs.execution_block}"]]),
            "PROJECT": repeat(1, obs.project),
            "RELEASE_DATE": repeat(1, 0.0),
            "FLAG_ROW": repeat(1, False),
        },
    )
    count = len(obs.processor)
    writer.subtable(
        "PROCESSOR",
        {
            "TYPE": np.array([kind for kind, _ in obs.processor]),
            "SUB_TYPE": np.array([sub for _, sub in obs.processor]),
            "TYPE_ID": repeat(count, -1),
            "MODE_ID": repeat(count, -1),
            "FLAG_ROW": repeat(count, False),
        },
    )
    writer.subtable(
        "HISTORY",
        {
            "TIME": repeat(1, start),
            "OBSERVATION_ID": repeat(1, 0),
            "MESSAGE": repeat(1, f"simulated: {obs.name}"),
            "PRIORITY": repeat(1, "INFO"),
            "ORIGIN": repeat(1, "pl-sim"),
            "OBJECT_ID": repeat(1, 0),
            "APPLICATION": repeat(1, "pl-sim"),
            "CLI_COMMAND": np.array([[""]]),
            "APP_PARAMS": np.array([[""]]),
        },
    )


def _pointing(writer: MSWriter, obs: Observation) -> None:
    """One row per antenna and subscan, on the field."""
    entries = list(timeline(obs))
    na = len(obs.array.antennas)
    count = len(entries) * na
    fields = [obs.fields[e.field] for e in entries]
    times = np.repeat([e.times.mean() for e in entries], na)
    direction = np.repeat(np.radians([[f.ra_deg, f.dec_deg] for f in fields]), na, axis=0)[:, :, None]
    writer.subtable(
        "POINTING",
        {
            "ANTENNA_ID": np.tile(np.arange(na), len(entries)),
            "TIME": times,
            "INTERVAL": np.repeat([len(e.times) * obs.integration_s for e in entries], na),
            "NAME": np.repeat([f.name for f in fields], na),
            "NUM_POLY": repeat(count, 0),
            "TIME_ORIGIN": times,
            "DIRECTION": direction,
            "TARGET": direction,
            "TRACKING": repeat(count, True),
        },
    )


def _weather(writer: MSWriter, obs: Observation, geometry: Geometry, start: float, end: float) -> None:
    step = float(obs.notes.get("weather_interval_s", 60.0))
    times = np.arange(start - step, end + step, step)
    count = len(times)
    weather = obs.atmosphere
    # A slow diurnal-like swing, so that plots against time are not a line.
    swing = np.sin((times - start) / 1800.0)
    values = {
        "PRESSURE": weather.pressure_hpa + 0.3 * swing,
        "TEMPERATURE": weather.temperature_k + 0.5 * swing,
        "DEW_POINT": repeat(count, weather.dew_point_k),
        "REL_HUMIDITY": weather.humidity_percent - 1.5 * swing,
        "WIND_DIRECTION": weather.wind_direction_rad + 0.1 * swing,
        "WIND_SPEED": weather.wind_speed_ms * (1 + 0.2 * swing),
    }
    writer.subtable(
        "WEATHER",
        {
            "ANTENNA_ID": repeat(count, -1),
            "TIME": times,
            "INTERVAL": repeat(count, step),
            **{k: v.astype(np.float32) for k, v in values.items()},
            **{f"{k}_FLAG": repeat(count, False) for k in values},
            "NS_WX_STATION_ID": repeat(count, 0),
            "NS_WX_STATION_POSITION": repeat(count, geometry.reference),
        },
    )
