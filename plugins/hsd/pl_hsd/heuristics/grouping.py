"""Which spectra share a position, a raster row, a raster map: from times and directions alone.

Rules and numbers of the reference pipeline (2026), ``grouping2``.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

GAP = 5.0
"""Times the median step: a longer one is a gap."""
POSITION_GAP = 10.0
"""Times the median motion: a longer one is a jump."""
ALLOWANCE = 0.1
"""Of the combining radius: smaller differences of position are none."""
_STILL = 1e-3
"""Of the combining radius: a smaller step is no motion, but the noise of the encoders.

The reference compares the step with the square of its allowance (in degrees), which comes to the same smallness."""


@attrs.frozen(eq=False)
class Grouping:
    """Raster rows and maps: ids 0, 1, … of each spectrum, in order of time; a map has whole rows.

    ``small`` and ``large`` are the indices of the first spectrum behind each gap.
    """

    row: NDArray[np.int32]
    map: NDArray[np.int32]
    small: NDArray[np.int64]
    large: NDArray[np.int64]


def position_groups(ra_deg: ArrayLike, dec_deg: ArrayLike, radius_deg: float) -> NDArray[np.int32]:
    """Positions on a lattice of cells two radii wide: ids 0, 1, … in order of first appearance.

    The lattice is centred on the south-western corner of the positions, so that repeated pointings with errors much
    smaller than the radius stay together.
    """
    ra, dec = np.asarray(ra_deg, dtype=float), np.asarray(dec_deg, dtype=float)
    if not ra.size:
        return np.zeros(0, dtype=np.int32)
    x = ra * math.cos(math.radians(float(np.median(dec))))
    cell = 2.0 * radius_deg
    shift = 0.5 + ALLOWANCE / 2
    column = np.floor((x - x.min()) / cell + shift).astype(np.int64)
    line = np.floor((dec - dec.min()) / cell + shift).astype(np.int64)
    _, first, inverse = np.unique(column * (line.max() + 1) + line, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.ravel()]


def position_gaps(ra_deg: ArrayLike, dec_deg: ArrayLike, radius_deg: float) -> NDArray[np.int64]:
    """Indices of spectra to which the telescope jumped: steps above ten times the median motion."""
    ra, dec = np.asarray(ra_deg, dtype=float), np.asarray(dec_deg, dtype=float)
    if ra.size < 3:
        return np.zeros(0, dtype=np.int64)
    step = np.hypot(np.diff(ra) * np.cos(np.radians((dec[1:] + dec[:-1]) / 2)), np.diff(dec))
    moving = step[step > _STILL * radius_deg]
    if not moving.size:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(step > POSITION_GAP * np.median(moving)) + 1


def time_gaps(time_s: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of spectra behind small and large gaps of time (``time_s`` ascends).

    Small: above five times the median step.  Large: above five times the median of the small ones; when no step is
    small, there is none.
    """
    time = np.asarray(time_s, dtype=float)
    step = np.diff(time)
    moving = step[step > 0]
    if not moving.size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    threshold = GAP * np.median(moving)
    breaks = step[step > threshold]
    large = GAP * np.median(breaks) if breaks.size else threshold
    return np.flatnonzero(step > threshold) + 1, np.flatnonzero(step > large) + 1


def group_by_time(
    time_s: ArrayLike, ra_deg: ArrayLike, dec_deg: ArrayLike, radius_deg: float
) -> Grouping:
    """Rows between small gaps of time or jumps of position, maps between large gaps of time."""
    time = np.asarray(time_s, dtype=float)
    small, large = time_gaps(time)
    small = np.union1d(np.union1d(small, large), position_gaps(ra_deg, dec_deg, radius_deg)).astype(np.int64)
    return from_gaps(time.size, small, large)


def with_maps_that_start_over(found: Grouping, starts: ArrayLike) -> Grouping:
    """The same rows, in maps that begin only where the scan starts over: pauses for an OFF amid a map end none.

    ``starts`` are the indices with which maps begin by the direction of the scan; a gap of time within a row's length
    of one is the same. (The reference takes every long pause for the end of a map.)
    """
    begins = np.asarray(starts, dtype=np.int64)
    row = int(np.median(np.diff(np.concatenate(([0], found.small, [found.row.size])))))
    kept = [int(g) for g in found.large if (np.abs(begins - g) <= row).any()]
    return from_gaps(found.row.size, found.small, np.array(kept, dtype=np.int64))


def from_gaps(count: int, small: NDArray[np.int64], large: NDArray[np.int64]) -> Grouping:
    """The groups of ``count`` spectra between gaps; every large gap is a small one too."""
    small = np.union1d(small, large).astype(np.int64)
    index = np.arange(count)
    return Grouping(
        row=np.searchsorted(small, index, side="right").astype(np.int32),
        map=np.searchsorted(large, index, side="right").astype(np.int32),
        small=small,
        large=np.asarray(large, dtype=np.int64),
    )
