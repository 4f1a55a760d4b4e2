"""Interference that comes and goes: integrations in which the whole array sees more than it did before and after."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

EXCESS = 1.3
"""A burst is so much brighter than the median of its scan …"""
SIGMAS = 6.0
"""… and stands out by so much from the scatter of the scan, and of its channel (1.4826·MAD)."""
FEWEST = 6
"""Integrations a scan must have: the median of fewer may be of the burst itself."""


def bursts(amplitude: ArrayLike, scans: ArrayLike) -> np.ndarray:
    """(times, channels) True where interference switched on.

    amplitude : (times, channels) median of |V| over the baselines and parallel hands, NaN where there is none. Of a
        median half of the baselines must see the burst: a bad antenna or baseline is none, and all may be flagged.
    scans : (times,) their numbers.

    What lasts for more than half of a scan is in its median and is found by its spectrum instead: it wanders all the
    time, which is no burst. The scatter of a channel is that below its median, where no burst adds to it. To flag a
    burst where it is found spares its neighbours: sliding windows, as rflag's of three integrations, take two more on
    each side.
    """
    values, numbers = np.asarray(amplitude, float), np.asarray(scans)
    found = np.zeros(values.shape, bool)
    for scan in np.unique(numbers):
        mine = np.flatnonzero(numbers == scan)
        part = values[mine]
        enough = np.isfinite(part).sum(axis=0) >= FEWEST
        if not enough.any():
            continue
        level = np.full(part.shape[1], np.nan)
        level[enough] = np.nanmedian(part[:, enough], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = part / np.where(level > 0, level, np.nan)
        known = ratio[np.isfinite(ratio)]
        if not known.size:
            continue
        scatter = 1.4826 * float(np.median(np.abs(known - np.median(known))))
        limit = np.maximum(EXCESS, 1 + SIGMAS * np.maximum(scatter, _below(ratio)))
        found[mine] = np.nan_to_num(ratio, nan=0.0) > limit
    return found


def _below(ratio: np.ndarray) -> np.ndarray:
    """1.4826 times the median distance below 1 of what is below it, by channel."""
    return np.array([1.4826 * np.median(1 - c[c <= 1]) if np.any(c <= 1) else 0.0 for c in ratio.T])
