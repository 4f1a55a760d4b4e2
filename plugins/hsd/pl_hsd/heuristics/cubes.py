"""What is read off an image cube: planes, valid pixels, spectra, moments. A few planes are held at a time.

A cube is anything that looks like an array [channel, y, x], NaN where masked; a memory-mapped file is fine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.ranges import IMAGE, SpectralRanges

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
BLOCK_VALUES = 4_000_000
"""Values of a cube that are held at once: 16 MB as single precision."""


def blocks(cube: Any, channels: BoolArray | None = None) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Walk a cube in blocks of whole planes; with `channels` [channel], blocks without any of these are passed over."""
    planes = max(1, BLOCK_VALUES // max(1, cube.shape[1] * cube.shape[2]))
    for first in range(0, cube.shape[0], planes):
        part = slice(first, min(first + planes, cube.shape[0]))
        if channels is None or channels[part].any():
            yield part, np.asarray(cube[part])


def valid_counts(cube: Any) -> NDArray[np.int64]:
    """Number of valid pixels in every channel."""
    counts = np.zeros(cube.shape[0], np.int64)
    for part, data in blocks(cube):
        counts[part] = np.isfinite(data).sum(axis=(1, 2))
    return counts


def extra_edges(counts: ArrayLike) -> tuple[int, int]:
    """Leading and trailing channels with fewer valid pixels than the median channel (reference pipeline, 2026).

    The Doppler shift moves channels between observations, so the outermost ones lack some of the spectra.
    """
    number = np.asarray(counts)
    full = np.flatnonzero(number >= np.median(number)) if number.size else np.zeros(0, int)
    if not full.size:
        return 0, 0
    return int(full[0]), int(number.size - 1 - full[-1])


def inside(count: int, edges: tuple[int, int]) -> BoolArray:
    """[channel]: True but for the edges."""
    mask = np.ones(count, bool)
    mask[: edges[0]] = False
    mask[count - edges[1] :] = False
    return mask


def spans_of(mask: ArrayLike) -> tuple[tuple[int, int], ...]:
    """Runs of True, both ends included."""
    return tuple((int(a), int(b)) for a, b in SpectralRanges.from_mask(np.asarray(mask, bool), IMAGE).spans)


def weighted_spectrum(cube: Any, weight: ArrayLike) -> FloatArray:
    """Mean spectrum over pixels, weighted by a map [y, x]; NaN where no valid pixel has weight."""
    heavy = np.nan_to_num(np.asarray(weight, float))
    chosen = heavy > 0
    heavy = heavy[chosen]
    spectrum = np.full(cube.shape[0], np.nan)
    for part, data in blocks(cube):
        values = data[:, chosen].astype(float)
        good = np.isfinite(values)
        total = (good * heavy).sum(axis=1)
        np.divide((np.where(good, values, 0.0) * heavy).sum(axis=1), total, out=spectrum[part], where=total > 0)
    return spectrum


@attrs.frozen(eq=False)
class Moments:
    """Maps [y, x] over a range of channels; NaN where masked.

    integrated: sum × channel width (unit km/s); velocity: mean velocity (km/s) of what is above the clip; peak:
    largest value.
    """

    integrated: FloatArray
    velocity: FloatArray
    peak: FloatArray


def moments(cube: Any, velocity_km_s: ArrayLike, channels: BoolArray, clip: ArrayLike) -> Moments:
    """Moments over `channels` [channel]; the mean velocity takes voxels above `clip`, a number or a map [y, x]."""
    velocity = np.asarray(velocity_km_s, float)
    step = float(np.median(np.abs(np.diff(velocity)))) if velocity.size > 1 else 1.0
    shape = cube.shape[1:]
    total, above, moment = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    number, peak = np.zeros(shape, int), np.full(shape, -np.inf)
    for part, block in blocks(cube, channels):
        data, here = block[channels[part]].astype(float), velocity[part][channels[part]]
        good = np.isfinite(data)
        filled = np.where(good, data, 0.0)
        total += filled.sum(axis=0)
        number += good.sum(axis=0)
        bright = np.where(good & (data > clip), data, 0.0)
        above += bright.sum(axis=0)
        moment += (bright * here[:, None, None]).sum(axis=0)
        peak = np.maximum(peak, np.where(good, data, -np.inf).max(axis=0, initial=-np.inf))
    empty = number == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(above > 0, moment / above, np.nan)
    return Moments(np.where(empty, np.nan, total * step), mean, np.where(empty, np.nan, peak))


def binned_planes(cube: Any, bins: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Mean planes [bin, y, x] over channel spans (ends included); NaN where a span has no valid value."""
    planes = np.full((len(bins), *cube.shape[1:]), np.nan, np.float32)
    for k, (low, high) in enumerate(bins):
        total, number = np.zeros(cube.shape[1:]), np.zeros(cube.shape[1:], int)
        for channel in range(max(low, 0), min(high + 1, cube.shape[0])):
            data = np.asarray(cube[channel], float)
            good = np.isfinite(data)
            total += np.where(good, data, 0.0)
            number += good
        np.divide(total, number, out=planes[k], where=number > 0, casting="unsafe")
    return planes


def channel_bins(low: int, high: int, most: int) -> list[tuple[int, int]]:
    """Split channels low … high (included) into at most `most` spans of equal width that cover the centre evenly."""
    count = high - low + 1
    width = -(-count // most)
    number = -(-count // width)
    first = low - (number * width - count) // 2
    return [(first + k * width, first + (k + 1) * width - 1) for k in range(number)]


def sparse_edges(first: int, last: int, pixels: int, most: int = 7) -> list[int]:
    """Edges of at most `most` cells of equal width that cover pixels first … last (included), each ≥ `pixels` wide.

    The last edge is one beyond the last pixel of the last cell; cells keep the middle of the range in their middle.
    """
    count = last - first + 1
    number = max(1, min(most, count // max(1, pixels)))
    width = max(1, count // number)
    start = first + (count - number * width) // 2
    return [start + k * width for k in range(number + 1)]


def cell_spectra(cube: Any, edges_x: Sequence[int], edges_y: Sequence[int]) -> NDArray[np.float32]:
    """Mean spectra [row, column, channel] of rectangles of pixels; NaN where a rectangle has no valid pixel.

    edges_x, edges_y : first pixel of every rectangle, and the end of the last.
    """
    found = np.full((len(edges_y) - 1, len(edges_x) - 1, cube.shape[0]), np.nan, np.float32)
    starts_x, starts_y = np.asarray(edges_x[:-1]), np.asarray(edges_y[:-1])
    for part, block in blocks(cube):
        data = block[:, edges_y[0] : edges_y[-1], edges_x[0] : edges_x[-1]].astype(float)
        good = np.isfinite(data)
        sums, counts = (
            np.add.reduceat(np.add.reduceat(a, starts_y - edges_y[0], axis=1), starts_x - edges_x[0], axis=2)
            for a in (np.where(good, data, 0.0), good.astype(float))
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, :, part] = np.moveaxis(np.where(counts > 0, sums / counts, np.nan), 0, -1)
    return found
