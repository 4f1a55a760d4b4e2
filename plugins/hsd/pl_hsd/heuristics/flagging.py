"""Flag commands of single-dish data as text: times, edges, online flags. Nothing here reads data."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pl_kernel.errors import InputError

JOIN_S = 1e-4
"""Integrations that follow each other within this time are flagged with one command (reference pipeline, 2026)."""
_SAME_PLACE_M = 1.0
_MJD_ORIGIN = dt.datetime(1858, 11, 17)
_UNITS_HZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_TIME = re.compile(r"(\d{4})/(\d\d?)/(\d\d?)/(\d\d?):(\d\d?):(\d\d?(?:\.\d*)?)")


def casa_time(mjd_s: float) -> str:
    """MJD seconds as CASA writes times, to the nanosecond: ``2015/01/01/00:00:00.000000000``."""
    whole = math.floor(mjd_s)
    fraction = round((mjd_s - whole) * 1e9)
    if fraction == 1_000_000_000:
        whole, fraction = whole + 1, 0
    moment = _MJD_ORIGIN + dt.timedelta(seconds=whole)
    return f"{moment:%Y/%m/%d/%H:%M:%S}.{fraction:09d}"


def merged_ranges(
    time_s: ArrayLike, half_s: ArrayLike, join_s: float = JOIN_S
) -> list[tuple[float, float]]:
    """Ranges of time that cover integrations centred at ``time_s``; those that touch or overlap are joined."""
    time = np.asarray(time_s, dtype=float)
    half = np.broadcast_to(np.asarray(half_s, dtype=float), time.shape)
    ranges: list[list[float]] = []
    for k in np.argsort(time, kind="stable"):
        start, end = float(time[k] - half[k]), float(time[k] + half[k])
        if ranges and start <= ranges[-1][1] + join_s:
            ranges[-1][1] = max(ranges[-1][1], end)
        else:
            ranges.append([start, end])
    return [(a, b) for a, b in ranges]


def time_commands(selection: str, ranges: Iterable[tuple[float, float]], reason: str) -> list[str]:
    """One line of a flag list for each range of time."""
    return [
        f"mode='manual' {selection} timerange='{casa_time(start)}~{casa_time(end)}' reason='{reason}'"
        for start, end in ranges
    ]


def edge_fraction(rule: str | float, bandwidth_hz: float) -> float:
    """Fraction of the channels to flag at each side of a window.

    ``rule`` is a fraction, or a bandwidth as text (``"1.875GHz"``) that is all that may be left of a wider window.

    Raises:
        InputError: the rule is neither.
    """
    text = str(rule).strip()
    match = re.fullmatch(r"([\d.]+(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)", text)
    unit = match[2].lower() if match else "?"
    if match is None or (unit and unit not in _UNITS_HZ):
        raise InputError(f"fracspw is a fraction such as 0.03 or a bandwidth such as 1.875GHz, not '{text}'.")
    value = float(match[1])
    if not unit:
        if not 0 <= value <= 0.5:
            raise InputError(f"fracspw is a fraction of 0 to 0.5 of each side, not {value:g}.")
        return value
    return max(0.0, 0.5 * (bandwidth_hz - value * _UNITS_HZ[unit]) / bandwidth_hz)


FPS_CHANNELS = (62, 124, 248)
"""Numbers of channels of windows that the correlator made of whole sub-bands (reference pipeline, 2026)."""


def edge_channels(
    rule: Sequence[str | float], bandwidth_hz: float, channels: int, fps: float | None = None
) -> tuple[int, int]:
    """Channels to flag at the first and the last edge; a single rule serves both.

    Rounded to whole channels; a window of which nothing would be left loses none. Where the rule is a fraction, windows
    of `FPS_CHANNELS` take the fraction ``fps`` instead.
    """
    fraction = all(re.fullmatch(r"[\d.eE+-]+", str(r).strip()) for r in rule)
    rules = (fps, fps) if fps is not None and fraction and channels in FPS_CHANNELS else (rule[0], rule[-1])
    low, high = (round(edge_fraction(r, bandwidth_hz) * channels) for r in rules)
    return (low, high) if low + high < channels else (0, 0)


def edge_selection(edges: dict[int, tuple[int, int]], channels: dict[int, int]) -> str:
    """CASA selection of the edge channels: spw id → channels at each side, spw id → number of channels."""
    parts = []
    for spw, (low, high) in sorted(edges.items()):
        pieces = [f"0~{low - 1}"] if low else []
        if high:
            pieces.append(f"{channels[spw] - high}~{channels[spw] - 1}")
        if pieces:
            parts.append(f"{spw}:{';'.join(pieces)}")
    return ",".join(parts)


def beams_of_one_dish(baselines_m: ArrayLike) -> bool:
    """Whether "antennas" stand at one place (lengths of all baselines in m): the beams of a receiver, each an antenna.

    CASA would flag all but the first as shadowed.
    """
    lengths = np.asarray(baselines_m, dtype=float)
    return bool((lengths < _SAME_PLACE_M).any())


def split_online(lines: Iterable[str]) -> dict[str, list[str]]:
    """The observatory's flags by kind: those of its first and second quality assurance, and the others (online)."""
    kinds: dict[str, list[str]] = {"qa0": [], "qa2": [], "online": []}
    for line in lines:
        reason = line.upper().partition("REASON=")[2]
        kinds["qa0" if "QA0" in reason else "qa2" if "QA2" in reason else "online"].append(line)
    return kinds


def widened(line: str, before_s: float, after_s: float) -> str:
    """A flag command with its time range made longer at both ends; a command without one stays as it is."""
    match = re.search(r"timerange='([^'~]*)~([^'~]*)'", line)
    ends = [_TIME.fullmatch(part.strip()) for part in match.groups()] if match else []
    if match is None or None in ends or not (before_s or after_s):
        return line
    seconds = [_seconds(end) for end in ends if end is not None]
    text = f"timerange='{casa_time(seconds[0] - before_s)}~{casa_time(seconds[1] + after_s)}'"
    return line[: match.start()] + text + line[match.end() :]


def _seconds(match: re.Match[str]) -> float:
    year, month, day, hour, minute = (int(match[k]) for k in range(1, 6))
    days = (dt.datetime(year, month, day) - _MJD_ORIGIN).days
    return days * 86400.0 + hour * 3600.0 + minute * 60.0 + float(match[6])


def time_buffer_s(how: str, integration_s: float, given_s: float) -> tuple[float, float]:
    """How far online flags are widened before and after, in seconds (reference pipeline, 2026)."""
    if how == "manual" or integration_s <= 0:
        return given_s, given_s
    if how == "1.5int":
        return 1.5 * integration_s, 1.5 * integration_s
    return max(0.5 * integration_s - 0.048, 0.0), 0.5 * integration_s
