"""Channels that scatter more than others from spectrum to spectrum: atmospheric lines, interference, bad channels.

Numbers are the reference pipeline's (2026). Spectra come in blocks; only sums by channel are kept.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.ranges import SpectralRanges

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_GROW_SIGMA = 2.0
_CLIP_SIGMA = 3.0
_ROUNDS = 10


@attrs.define
class Scatter:
    """Collects spectra [..., channel] and gives the standard deviation over them, by channel."""

    count: FloatArray
    total: FloatArray
    square: FloatArray

    @classmethod
    def of(cls, n_chan: int) -> Scatter:
        return cls(np.zeros(n_chan), np.zeros(n_chan), np.zeros(n_chan))

    def add(self, data: NDArray[np.float32], flags: BoolArray) -> None:
        """Add spectra [spectrum, channel]; each loses the median of its samples near its median first."""
        good = ~flags
        level = clipped_median(data, good)
        centred = np.where(good, data - level[:, None], 0.0).astype(np.float64)
        self.count += good.sum(axis=0)
        self.total += centred.sum(axis=0)
        self.square += np.einsum("ij,ij->j", centred, centred)

    @property
    def deviation(self) -> FloatArray:
        """Standard deviation by channel; NaN where fewer than two samples count."""
        n = np.where(self.count > 1, self.count, np.nan)
        mean = self.total / n
        return np.sqrt(np.maximum(self.square / n - mean**2, 0.0))


def clipped_median(data: NDArray[np.float32], good: BoolArray) -> FloatArray:
    """Median of the samples within 3 standard deviations of the median, by spectrum; 0 where none is good."""
    if not data.size:
        return np.zeros(len(data))
    # What is bad sorts to the end, so one sort serves both medians: those near the median are neighbours.
    ordered = np.sort(np.where(good, data, np.float32(np.inf)), axis=1)
    count = np.count_nonzero(good, axis=1)
    middle = _middle_of(ordered, np.zeros_like(count), count)
    centred = np.where(good, data - middle[:, None].astype(np.float32), np.float32(0))
    spread = np.sqrt(np.einsum("ij,ij->i", centred, centred) / np.maximum(count, 1))
    low = np.count_nonzero(ordered < (middle - _CLIP_SIGMA * spread)[:, None], axis=1)
    high = np.minimum(np.count_nonzero(ordered <= (middle + _CLIP_SIGMA * spread)[:, None], axis=1), count)
    return _middle_of(ordered, low, high)


def _middle_of(ordered: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64]) -> FloatArray:
    """Median of the samples from position low up to before high, by spectrum; 0 where there are none."""
    rows, n = np.arange(len(ordered)), high - low
    last = ordered.shape[1] - 1
    one = ordered[rows, np.clip(low + (n - 1) // 2, 0, last)].astype(np.float64)
    other = ordered[rows, np.clip(low + n // 2, 0, last)].astype(np.float64)
    return np.where(n > 0, (one + other) / 2, 0.0)


def deviation_mask(deviation: FloatArray, sigma: float = 5.0) -> SpectralRanges:
    """Return the channels whose scatter exceeds the typical one by ``sigma`` standard deviations.

    The typical scatter and its spread are median and standard deviation over channels, clipped upwards at 3 until
    stable; each range grows outwards while the scatter is above 2.
    """
    known = np.isfinite(deviation)
    kept = known.copy()
    if not kept.any():
        return SpectralRanges()
    middle = spread = 0.0
    for _ in range(_ROUNDS):
        middle, spread = float(np.median(deviation[kept])), float(np.std(deviation[kept]))
        left = known & (deviation <= middle + _CLIP_SIGMA * spread)
        if np.array_equal(left, kept):
            break
        kept = left
    if spread == 0:
        return SpectralRanges()
    core = known & (deviation >= middle + sigma * spread)
    wide = known & (deviation > middle + _GROW_SIGMA * spread)
    grown = SpectralRanges.from_mask(wide | core).spans
    return SpectralRanges(tuple((a, b) for a, b in grown if core[int(a) : int(b) + 1].any()))
