"""Deterministic flags of VLA data: which edges, how much of a scan's beginning."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

_SETTLING_S = 10.0
"""The antennas of the VLA are on source within this time after the first dump of a scan."""


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


def quack(scans: Sequence[ScanTiming], integration_s: float) -> tuple[float, tuple[int, ...], str]:
    """How much of the beginning of which scans to flag.

    Returns the interval in seconds, the scans, and the reason. A scan qualifies when its field or its windows differ
    from those of the scan before it (the first always does): only then did the antennas move or the receivers change.

    The reference pipeline flags 1.5 integrations, meaning the first dump, of a few seconds. On data averaged to more
    than 10 s that would cost most of a short calibrator scan for a settling time that the first average mostly hides:
    half an integration (exactly the first dump) is flagged there, and scans of fewer than four dumps are left whole.
    """
    moved = []
    before: ScanTiming | None = None
    for scan in scans:
        if before is None or scan.field != before.field or scan.spws != before.spws:
            moved.append(scan)
        before = scan
    if integration_s <= _SETTLING_S:
        return 1.5 * integration_s, tuple(s.id for s in moved), "1.5 integrations after each change of field or setup"
    long_enough = [s for s in moved if s.integrations >= 4]
    spared = len(moved) - len(long_enough)
    reason = f"the first dump of {integration_s:g} s after each change of field or setup"
    if spared:
        reason += f"; {spared} scan{'s' if spared > 1 else ''} of fewer than four dumps spared"
    return 0.5 * integration_s, tuple(s.id for s in long_enough), reason
