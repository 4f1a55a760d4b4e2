"""How flexible a baseline must be: from the Fourier spectrum of a raster row, and from what its masks leave free.

Numbers are the reference pipeline's (2026).
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_QUIET, _WAVY, _STRONG = 3.0, 5.0, 10.0
_HIGHEST = 15 / 2048  # of the channels: faster ripples are no baseline
_BROADEST_SHARE = 1.4
_CHUNK_SAMPLES = 262_144


def mean_power(data: NDArray[np.float32], use: BoolArray, groups: ArrayLike, n_groups: int) -> FloatArray:
    """Average the Fourier amplitudes of spectra over groups (raster rows), each divided by its mean.

    data, use : [spectrum, channel]; channels that do not count are taken as the mean of the others.
    groups : [spectrum], number of the group.  Returns [group, channel // 2 + 1]; 0 for groups without data.
    """
    from scipy.fft import rfft  # of single precision in single precision, several at once
    from scipy.sparse import csr_array

    index = np.asarray(groups, dtype=np.int64)
    n_chan = data.shape[1]
    total = np.zeros((n_groups, n_chan // 2 + 1), dtype=np.float32)
    step = max(1, _CHUNK_SAMPLES // max(n_chan, 1))
    for first in range(0, len(data), step):
        part = slice(first, first + step)
        values = np.where(use[part], data[part], np.float32(0))
        count = np.maximum(np.count_nonzero(use[part], axis=1), 1).astype(np.float32)
        values -= (values.sum(axis=1) / count)[:, None]
        values *= use[part]
        amplitude = np.abs(rfft(values, axis=1, overwrite_x=True))
        own, place = np.unique(index[part], return_inverse=True)
        one = np.ones(place.size, dtype=np.float32)
        total[own] += csr_array((one, (place.ravel(), np.arange(place.size)))) @ amplitude
    return normalised(total.astype(np.float64))


def normalised(total: FloatArray) -> FloatArray:
    """Divide each spectrum of amplitudes by its mean; sums of amplitudes serve as well as means."""
    mean = total.mean(axis=1, keepdims=True)
    return np.divide(total, mean, out=np.zeros_like(total), where=mean > 0)


def polynomial_orders(power: FloatArray, n_chan: int) -> IntArray:
    """Return the order for each group from its normalised Fourier amplitudes (``mean_power``).

    A ripple of k cycles over the window that dominates (more than ten times the mean) needs order 2 k + 1.
    """
    limit = max(int(n_chan * _HIGHEST), 1)
    low = power[:, :limit] if power.shape[1] > limit else power
    largest = low.max(axis=1, initial=0.0)
    x = np.select([largest < _QUIET, largest < _WAVY, largest < _STRONG], [1.0, 1.5, 2.0], default=0.0)
    strong = low > _STRONG
    highest = np.where(strong.any(axis=1), low.shape[1] - 1 - np.argmax(strong[:, ::-1], axis=1), 0)
    above = np.arange(low.shape[1]) > highest[:, None]
    halves = np.where(((low > _WAVY) & above).any(axis=1), 0.5, 0.0)
    x = np.where(largest < _STRONG, x, np.maximum(highest, 2) + halves)
    return (2 * x + 1.5).astype(np.int64)


def capped(orders: ArrayLike, n_chan: int, widest_mask: ArrayLike) -> IntArray:
    """Limit orders so that a baseline cannot swing inside the widest line mask (channels; 0: no line)."""
    width = np.maximum(np.asarray(widest_mask, dtype=np.float64) / _BROADEST_SHARE, 1.0)
    return np.minimum(np.asarray(orders, dtype=np.int64), (n_chan // width).astype(np.int64) + 1)


def spline_pieces(orders: ArrayLike, n_chan: int, n_free: ArrayLike) -> IntArray:
    """Return the number of cubic pieces for an order, given how many of ``n_chan`` channels are free."""
    order, free = np.asarray(orders, dtype=np.float64), np.asarray(n_free, dtype=np.float64)
    return np.maximum(np.minimum(order * free / max(n_chan, 1) + 0.5, 0.1 * free).astype(np.int64), 1)


@attrs.frozen(eq=False)
class Functions:
    """What is fitted to each spectrum: ``polynomial`` (else a spline), with ``number`` its order or its pieces."""

    polynomial: BoolArray
    number: IntArray


def choose_functions(orders: ArrayLike, use: BoolArray, n_chan: int, *, spline: bool, switchpoly: bool) -> Functions:
    """Choose order or pieces for each spectrum.

    use : [spectrum, channel] of the whole window.  n_chan : channels without the edges.
    With ``switchpoly``, a spectrum whose widest masked stretch lies at an end of the band and takes half of it is
    fitted with a straight line, a quarter of it with a parabola: nothing holds a spline there.
    """
    order = np.asarray(orders, dtype=np.int64)
    if not spline:
        return Functions(np.ones(len(use), dtype=bool), order.copy())
    number = spline_pieces(order, n_chan, use.sum(axis=1))
    polynomial = np.zeros(len(use), dtype=bool)
    if switchpoly:
        width = use.shape[1]
        half = width // 2 + width % 2
        quarter = -(-width // 4)
        stretch = np.maximum(_leading(~use), _leading(~use[:, ::-1]))
        polynomial = stretch >= quarter
        number = np.where(stretch >= half, 1, np.where(polynomial, 2, number))
    return Functions(polynomial, number)


def _leading(masked: BoolArray) -> IntArray:
    """Number of True before the first False."""
    return np.where(masked.all(axis=1), masked.shape[1], np.argmin(masked, axis=1))
