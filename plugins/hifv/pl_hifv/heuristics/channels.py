"""Channels that interference spoils so plainly that no solve should see them, before anything is calibrated."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

EXCESS = 1.3
"""A spoiled channel is so much brighter than its surroundings …"""
SIGMAS = 6.0
"""… and stands out from their scatter (1.4826·MAD) by so much."""
FEWEST = 1 / 3
"""Of a selection at least this part must be left; else all of it is used."""


def spoiled(amplitude: ArrayLike) -> tuple[int, ...]:
    """Channels whose mean amplitude, (channels,) of uncalibrated data, rises above that of their surroundings.

    The surroundings are a running median over a quarter of the window (at least seven channels), which follows the
    bandpass but not a few bright channels. Channels without data are NaN.
    """
    values = np.asarray(amplitude, float)
    if np.isfinite(values).sum() < 8:
        return ()
    half = max(values.size // 8, 3)
    level = np.array(
        [np.nanmedian(values[max(0, i - half) : i + half + 1]) if np.isfinite(v) else np.nan
         for i, v in enumerate(values)]
    )  # fmt: skip
    ratio = np.divide(values, level, out=np.ones_like(values), where=np.isfinite(level) & (level > 0))
    scatter = 1.4826 * float(np.median(np.abs(ratio - np.median(ratio))))
    bright = (ratio > EXCESS) & (ratio > 1 + SIGMAS * scatter)
    return tuple(int(i) for i in np.flatnonzero(bright))


def selection(spw: int, first: int, last: int, avoid: Iterable[int]) -> str:
    """CASA's selection of channels first … last without some, ``"3:10~14;18~22"``; all of them when too few remain."""
    gone = set(avoid)
    left = [c for c in range(first, last + 1) if c not in gone]
    if len(left) < max(1.0, FEWEST * (last - first + 1)):
        left = list(range(first, last + 1))
    runs: list[list[int]] = []
    for channel in left:
        if runs and channel == runs[-1][1] + 1:
            runs[-1][1] = channel
        else:
            runs.append([channel, channel])
    return f"{spw}:" + ";".join(f"{a}~{b}" for a, b in runs)
