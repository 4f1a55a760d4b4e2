"""What counts as a failed delay solve, and as a poor one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

ATTEMPTS = 4
"""Reference antennas that are tried for the delays."""
BASE_FRACTION = 0.9
LARGE_NS = 15.0
"""A delay above this deserves a look."""


def critical_fraction(names: Sequence[str], bands: Sequence[str]) -> float:
    """Largest acceptable part of flagged delay solutions: 0.9 shared among the basebands.

    names, bands : name and band of each window. Names with ``#`` tell the baseband; without, a baseband is taken to
    have eight windows (reference pipeline, 2026).
    """
    if not names:
        return BASE_FRACTION
    if all("#" in n for n in names):
        basebands = {(band, baseband_of(name)) for name, band in zip(names, bands, strict=True)}
        return BASE_FRACTION / len(basebands)
    return BASE_FRACTION / (len(names) // 8 if len(names) >= 8 else len(names))


def baseband_of(name: str) -> str:
    """Baseband of a window by its name: ``EVLA_X#A0C0#5`` → ``A0C0``; other names stand for themselves."""
    parts = name.split("#")
    return parts[1] if len(parts) >= 3 else name


def delay_score(largest_ns: float) -> float:
    """1 below 15 ns; above, from 0.49 down by 0.01 per ns, not below 0.3 (reference pipeline, 2026)."""
    if math.isnan(largest_ns):
        return 0.0
    if abs(largest_ns) < LARGE_NS:
        return 1.0
    return round(max(0.3, 0.49 - 0.01 * (abs(largest_ns) - LARGE_NS)), 2)


def median_over_antennas(flagged: Mapping[str, int], total: Mapping[str, int]) -> float:
    """Median over the antennas of their part of flagged solutions; 1 when there is no solution at all."""
    parts = sorted(flagged.get(a, 0) / n for a, n in total.items() if n)
    if not parts:
        return 1.0
    middle = len(parts) // 2
    return parts[middle] if len(parts) % 2 else (parts[middle - 1] + parts[middle]) / 2
