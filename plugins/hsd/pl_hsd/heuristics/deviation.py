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
    values = data.astype(np.float64) if good.all() else np.where(good, data, np.nan)
    middle = _nanmedian(values)
    spread = _rms(values - middle[:, None], good)
    near = good & (np.abs(values - middle[:, None]) <= _CLIP_SIGMA * spread[:, None])
    return np.nan_to_num(_nanmedian(np.where(near, values, np.nan)))


def _rms(values: FloatArray, good: BoolArray) -> FloatArray:
    counted = np.where(good, values, 0.0)
    return np.sqrt(np.einsum("ij,ij->i", counted, counted) / np.maximum(good.sum(axis=1), 1))


def _nanmedian(values: FloatArray) -> FloatArray:
    # NaN sorts last: much faster than numpy's nanmedian, and silent about empty spectra.
    ordered = np.sort(values, axis=1)
    n = np.count_nonzero(~np.isnan(ordered), axis=1)
    rows = np.arange(len(values))
    low, high = ordered[rows, np.maximum(n - 1, 0) // 2], ordered[rows, np.minimum(n // 2, values.shape[1] - 1)]
    return np.where(n > 0, (low + high) / 2, np.nan)


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
