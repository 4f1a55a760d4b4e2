"""Deterministic flags of VLA data: which edges, how much of a scan's beginning."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import attrs

_SETTLING_S = 10.0
"""The antennas of the VLA are on source within this time after the first dump of a scan."""
_WORDS = {3: "three", 4: "four"}


@attrs.frozen(kw_only=True)
class ScanTiming:
    """A scan as the quack rule sees it."""

    id: int
    field: int
    spws: tuple[int, ...]
    integrations: int


def edge_channels(channels: int, fraction: float) -> tuple[int, ...]:
    """Channels to flag at both edges of a window: max(1, int(fraction·n)) each (reference pipeline, 2026).

    A window of fewer than eight channels has no edge to lose.
    """
    if channels < 8 or fraction <= 0:
        return ()
    n = max(1, int(fraction * channels))
    return (*range(n), *range(channels - n, channels))


def edge_selection(windows: Sequence[tuple[int, int]], fraction: float) -> str:
    """CASA selection of the edge channels of windows given as (spw id, number of channels)."""
    parts = []
    for spw, channels in windows:
        n = len(edge_channels(channels, fraction)) // 2
        if n:
            parts.append(f"{spw}:0~{n - 1};{channels - n}~{channels - 1}")
    return ",".join(parts)


@attrs.frozen(kw_only=True)
class Window:
    """A spectral window as the baseband rule sees it; frequencies of its outer edges in Hz."""

    id: int
    baseband: int
    low_hz: float
    high_hz: float
    channels: int
    is_reversed: bool = False


def baseband_edges(windows: Sequence[Window], edge_hz: float = 20e6, least_hz: float = 1e9) -> str:
    """CASA selection of the outer ``edge_hz`` of every baseband wider than ``least_hz`` (reference pipeline, 2026).

    Windows of one baseband that touch (within 1 Hz) belong together; at least one channel goes at each end.
    """
    groups: list[list[Window]] = []
    for window in sorted(windows, key=lambda w: w.low_hz):
        last = groups[-1][-1] if groups else None
        if last is not None and last.baseband == window.baseband and abs(window.low_hz - last.high_hz) < 1.0:
            groups[-1].append(window)
        else:
            groups.append([window])
    parts = []
    for group in groups:
        if group[-1].high_hz - group[0].low_hz > least_hz:
            parts.append(_edge(group[0], edge_hz, low=True))
            parts.append(_edge(group[-1], edge_hz, low=False))
    return ",".join(parts)


def _edge(window: Window, edge_hz: float, *, low: bool) -> str:
    width = (window.high_hz - window.low_hz) / window.channels
    n = min(window.channels, max(1, int(edge_hz / width)))
    first = low != window.is_reversed  # the low end is the first channel, unless frequency falls with channel number
    return f"{window.id}:0~{n - 1}" if first else f"{window.id}:{window.channels - n}~{window.channels - 1}"


def matching_intents(patterns: str, obs_modes: Sequence[str]) -> tuple[str, ...]:
    """Those of the comma-separated patterns (``*`` is added at both ends where absent) that some OBS_MODE matches.

    An OBS_MODE is itself a comma-separated list; a scan also observed for something useful is not flagged for one of
    its other purposes: every item of it must match one of the patterns.
    """
    wanted = [f"*{p.strip().strip('*')}*" for p in patterns.split(",") if p.strip().strip("*")]
    found = []
    for mode in obs_modes:
        items = [item.strip() for item in mode.split(",") if item.strip()]
        hits = [next((p for p in wanted if fnmatch.fnmatchcase(item, p)), None) for item in items]
        if items and all(hits):
            found += [p for p in hits if p]
    return tuple(p for p in dict.fromkeys(wanted) if p in found)


def online_command(command: str, reason: str) -> str:
    """One row of FLAG_CMD as a line of a flag list: its mode and its reason are said in it."""
    text = command.strip()
    if "mode=" not in text:
        text = f"mode='manual' {text}"
    if "reason=" not in text:
        clean = "".join(c if c.isalnum() or c in "_-" else "_" for c in reason.strip())
        text = f"{text} reason='{clean or 'online'}'"
    return text


def not_on_source(commands: Sequence[str]) -> tuple[list[str], list[str]]:
    """Online flags of antennas that were not on source, and the others."""
    moving = [c for c in commands if "ANTENNA_NOT_ON_SOURCE" in c]
    return moving, [c for c in commands if "ANTENNA_NOT_ON_SOURCE" not in c]


def time_buffer_s(how: str, integration_s: float, given_s: Sequence[float]) -> list[float]:
    """How far online flags are widened before and after, in seconds (reference pipeline, 2026).

    Half an integration, less 48 ms before (the flags' own resolution); 1.5 integrations; or as given, one time for both
    ends or one for each.
    """
    if how == "manual" or integration_s <= 0:
        return [given_s[0], given_s[-1]] if given_s else [0.0, 0.0]
    if how == "1.5int":
        return [1.5 * integration_s, 1.5 * integration_s]
    return [max(0.5 * integration_s - 0.048, 0.0), 0.5 * integration_s]


def quack(scans: Sequence[ScanTiming], integration_s: float) -> tuple[float, tuple[int, ...], str]:
    """How much of the beginning of which scans to flag.

    Returns the interval in seconds, the scans, and the reason. A scan qualifies when its field or its windows differ
    from those of the scan before it (the first always does): only then did the antennas move or the receivers change.

    The reference pipeline flags 1.5 integrations, meaning the first dump, of a few seconds. On data averaged to more
    than 10 s that would cost most of a short calibrator scan for a settling time that the first average mostly hides:
    half an integration (exactly the first dump) is flagged there, and scans of fewer than four dumps are left whole.
    Of faster data, scans of one or two dumps are left whole, too: nothing would remain of them.
    """
    moved = []
    before: ScanTiming | None = None
    for scan in scans:
        if before is None or scan.field != before.field or scan.spws != before.spws:
            moved.append(scan)
        before = scan
    short_dumps = integration_s <= _SETTLING_S
    least = 3 if short_dumps else 4
    long_enough = [s for s in moved if s.integrations >= least]
    spared = len(moved) - len(long_enough)
    what = "1.5 integrations" if short_dumps else f"the first dump of {integration_s:g} s"
    reason = f"{what} after each change of field or setup"
    if spared:
        reason += f"; {spared} scan{'s' if spared > 1 else ''} of fewer than {_WORDS[least]} dumps spared"
    return (1.5 if short_dumps else 0.5) * integration_s, tuple(s.id for s in long_enough), reason
