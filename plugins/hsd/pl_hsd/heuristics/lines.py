"""Spectral lines in grid spectra: runs of channels far from the median, with their wings, at several binnings.

Emission and absorption count alike. Numbers are the reference pipeline's (2026); its last run of a spectrum had to be
a channel longer than others, which is an accident and not so here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

THRESHOLD = 7.5
"""In units of the deviation scale, which is 0.52 standard deviations of Gaussian noise: 3.9 sigma."""

MIN_WIDTH = 5
"""Channels; the narrowest thing that is called a line."""

_LOW_SHARE = 0.8
_MIN_RUN = 2
_ROUNDS = 10
_BINNING = 4
_FEWEST_BINS = 50
_WING_BINS = 12


@attrs.frozen(eq=False)
class Detections:
    """Lines found, one entry each: [line].

    spectrum : which grid spectrum.  first, last : inclusive channels.  binning : channels averaged for the search.
    """

    spectrum: IntArray
    first: IntArray
    last: IntArray
    binning: IntArray

    @property
    def width(self) -> IntArray:
        return self.last - self.first + 1

    @property
    def centre(self) -> FloatArray:
        return (self.first + self.last) / 2

    def __len__(self) -> int:
        return int(self.spectrum.size)

    def chosen(self, which: NDArray[np.generic]) -> Detections:
        """These of the lines (a mask or positions)."""
        return Detections(self.spectrum[which], self.first[which], self.last[which], self.binning[which])

    @classmethod
    def none(cls) -> Detections:
        empty = np.zeros(0, dtype=np.int64)
        return cls(empty, empty, empty, empty)

    @classmethod
    def joined(cls, parts: list[Detections]) -> Detections:
        if not parts:
            return cls.none()
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in attrs.fields(cls)))


def finest(lines: Detections) -> Detections:
    """Of a line that several binnings show, the finest: coarser ones follow the wings by bins of noise.

    A coarser range that overlaps a finer one of the same spectrum is dropped unless it goes on for more than
    `_WING_BINS` of its own bins beyond it: then it shows a pedestal that only averaging brings out.
    """
    keep = np.ones(len(lines), dtype=bool)
    for i in range(len(lines)):
        finer = (lines.spectrum == lines.spectrum[i]) & (lines.binning < lines.binning[i])
        finer &= (lines.first <= lines.last[i]) & (lines.last >= lines.first[i])
        if finer.any():
            beyond = max(lines.first[finer].min() - lines.first[i], lines.last[i] - lines.last[finer].max())
            keep[i] = beyond > _WING_BINS * lines.binning[i]
    return lines.chosen(keep)


def widest_line(n_chan: int) -> int:
    """The widest run that can be a line and not a baseline, of ``n_chan`` channels without the edges."""
    return n_chan // 2


def find_lines(
    data: NDArray[np.float32], good: BoolArray, *, edge: tuple[int, int] = (0, 0), threshold: float = THRESHOLD
) -> Detections:
    """Find lines in spectra [spectrum, channel]; ``good`` says which samples count.

    Each spectrum is also searched after averaging 4, 16 ... channels, from channel 0 and from half a bin on.
    """
    n_chan = data.shape[1]
    stop = n_chan - edge[1]
    inner, inner_good = data[:, edge[0] : stop], good[:, edge[0] : stop]
    width = stop - edge[0]
    found = []
    for bins, offset in binnings(width):
        if bins == 1:
            values, valid = np.where(inner_good, inner, 0).astype(np.float64), inner_good
        else:
            values, valid = _binned(inner, inner_good, bins, offset)
        lines = _find(values, valid, threshold + math.sqrt(bins) - 1)
        first = lines.first * bins + offset
        last = np.minimum((lines.last + 1) * bins + offset, width) - 1
        size = last - first + 1
        keep = (size >= MIN_WIDTH) & (size <= widest_line(width))
        found.append(
            Detections(
                lines.spectrum[keep], first[keep] + edge[0], last[keep] + edge[0], np.full(int(keep.sum()), bins)
            )
        )
    return Detections.joined(found)


def binnings(n_chan: int) -> Iterator[tuple[int, int]]:
    """Pairs of channels per bin and first channel that are searched in ``n_chan`` channels."""
    yield 1, 0
    rounds = math.ceil(math.log(max(n_chan / _FEWEST_BINS, 1), _BINNING))
    for i in range(1, rounds):
        bins = _BINNING**i
        yield bins, 0
        yield bins, bins // 2


def _binned(data: NDArray[np.float32], good: BoolArray, bins: int, offset: int) -> tuple[FloatArray, BoolArray]:
    count = (data.shape[1] - offset) // bins
    part = slice(offset, offset + count * bins)
    shape = (data.shape[0], count, bins)
    valid = good[:, part].reshape(shape)
    total = np.where(valid, data[:, part].reshape(shape), 0).sum(axis=2, dtype=np.float64)
    n = valid.sum(axis=2)
    # A bin with few good channels is noisier than its neighbours.
    enough = n * 2 >= bins
    return np.divide(total, n, out=np.zeros_like(total), where=enough), enough


def line_scale(values: FloatArray, valid: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return median, and the median of the lowest 80 % of deviations from it, of each spectrum."""
    middle = _median(values, valid)
    deviation = np.abs(values - middle[:, None])
    return middle, _median(deviation, valid, _LOW_SHARE)


def _median(values: FloatArray, valid: BoolArray, share: float = 1.0) -> FloatArray:
    ordered = np.sort(np.where(valid, values, np.inf), axis=1)
    n = np.maximum((valid.sum(axis=1) * share).astype(np.int64), 1)
    rows = np.arange(len(values))
    result = (ordered[rows, (n - 1) // 2] + ordered[rows, np.minimum(n // 2, values.shape[1] - 1)]) / 2
    return np.where(np.isfinite(result), result, 0.0)


def _find(values: FloatArray, valid: BoolArray, threshold: float) -> Detections:
    """Runs of outlying samples with their wings, in bins."""
    if not values.size:
        return Detections.none()
    quiet = valid.copy()
    active = np.flatnonzero(valid.any(axis=1))
    middle, scale = np.zeros(len(values)), np.full(len(values), np.inf)
    for _ in range(_ROUNDS):
        new_middle, new_scale = line_scale(values[active], quiet[active])
        better = new_scale <= scale[active]
        active, new_middle, new_scale = active[better], new_middle[better], new_scale[better]
        if not active.size:
            break
        middle[active], scale[active] = new_middle, new_scale
        left = valid[active] & (np.abs(values[active] - new_middle[:, None]) <= threshold * new_scale[:, None])
        changed = (left != quiet[active]).any(axis=1) & left.any(axis=1)
        quiet[active[changed]] = left[changed]
        active = active[changed]
        if not active.size:
            break
    outlying = valid & (np.abs(values - middle[:, None]) > threshold * scale[:, None])
    spectrum, first, last = _runs(outlying & (values > middle[:, None]))
    spectrum2, first2, last2 = _runs(outlying & (values < middle[:, None]))
    spectrum = np.concatenate([spectrum, spectrum2])
    first, last = np.concatenate([first, first2]), np.concatenate([last, last2])
    deviation = np.abs(values[spectrum] - middle[spectrum, None])
    first = _grown(deviation, first, -1)
    last = _grown(deviation, last, 1)
    return Detections(*_merged(spectrum, first, last), binning=np.zeros(0, dtype=np.int64))


def _runs(mask: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Spectrum, first and last channel of runs of at least two True."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1)
    spectrum, first = np.nonzero(step == 1)
    last = np.nonzero(step == -1)[1] - 1
    long = last - first + 1 >= _MIN_RUN
    return spectrum[long], first[long], last[long]


def _grown(deviation: FloatArray, start: IntArray, step: int) -> IntArray:
    """Follow each run into its wing while the level falls towards the median; one channel may rise again.

    deviation : [line, channel], distance from the median on the line's own spectrum.
    """
    n_chan = deviation.shape[1]
    position, end = start.copy(), start.copy()
    level = deviation[np.arange(start.size), start] if start.size else np.zeros(0)
    spare = np.ones(start.size, dtype=np.int64)
    active = np.arange(start.size)
    while active.size:
        position[active] += step
        active = active[(position[active] >= 0) & (position[active] < n_chan)]
        here = deviation[active, position[active]]
        falls = here < level[active]
        level[active[falls]] = here[falls]
        end[active[falls]] = position[active[falls]]
        spare[active[~falls]] -= 1
        active = active[falls | (spare[active] >= 0)]
    return end


def _merged(spectrum: IntArray, first: IntArray, last: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Join ranges of one spectrum that overlap or touch."""
    if not spectrum.size:
        return spectrum, first, last
    order = np.lexsort((first, spectrum))
    spectrum, first, last = spectrum[order], first[order], last[order]
    # The furthest end so far within each spectrum: offsets keep spectra apart.
    span = int(last.max()) + 2
    reach = np.maximum.accumulate(last + spectrum * span) - spectrum * span
    begins = np.ones(spectrum.size, dtype=bool)
    begins[1:] = (spectrum[1:] != spectrum[:-1]) | (first[1:] > reach[:-1] + 1)
    starts = np.flatnonzero(begins)
    return spectrum[starts], first[starts], np.maximum.reduceat(last, starts)
