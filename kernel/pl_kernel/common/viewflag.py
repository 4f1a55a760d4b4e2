"""Rules that find bad points in views of data: matrices and spectra. Arrays in, masks out.

A view is an array of values and a mask ``bad`` of the same shape: flagged already, or without data. A rule returns
the mask of points that *it* finds bad (never those that are bad already); the caller joins them and goes on to the
next rule, which then no longer sees them. Statistics are the median and the *unscaled* median absolute deviation of the
good points. Limits are those of the reference pipeline (2026) unless said otherwise.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@attrs.frozen
class Statistics:
    """Median and unscaled median absolute deviation of the good points, and how many there are."""

    median: float
    mad: float
    count: int


def statistics(values: ArrayLike, bad: ArrayLike) -> Statistics:
    """Statistics of the good points; NaN when there are none."""
    good = np.asarray(values, dtype=float)[~np.asarray(bad, dtype=bool)]
    if not good.size:
        return Statistics(float("nan"), float("nan"), 0)
    median = float(np.median(good))
    return Statistics(median, float(np.median(np.abs(good - median))), int(good.size))


def low_median(values: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Array:
    """The lower of the two middle values where their number is even; NaN are left out.

    The mean of both, of two antennas one of which is three times too high, lies between right and wrong and tells
    neither. Faults of Tsys raise it.
    """
    array = np.asarray(values, dtype=float)
    axes = tuple(range(array.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    kept = [i for i in range(array.ndim) if i not in axes]
    moved = np.transpose(array, (*kept, *axes)).reshape(*(array.shape[i] for i in kept), -1)
    ordered = np.sort(moved, axis=-1)  # NaN go last
    count = np.isfinite(ordered).sum(axis=-1)
    where = np.maximum((count - 1) // 2, 0)
    if not ordered.shape[-1]:
        return np.full(ordered.shape[:-1], np.nan)
    return np.where(count > 0, np.take_along_axis(ordered, where[..., None], axis=-1)[..., 0], np.nan)


# ---- rules for any view ----------------------------------------------------------------------------------------------


def above(values: Array, bad: Mask, limit: float) -> Mask:
    """|x| > limit."""
    return ~bad & (np.abs(values) > limit)


def below(values: Array, bad: Mask, limit: float) -> Mask:
    """|x| < limit."""
    return ~bad & (np.abs(values) < limit)


def beside_median(values: Array, bad: Mask, low: float = 0.7, high: float = 1.3, median: float | None = None) -> Mask:
    """x < low × median or x > high × median."""
    middle = statistics(values, bad).median if median is None else median
    with np.errstate(invalid="ignore"):
        return ~bad & ((values < low * middle) | (values > high * middle))


def outliers(
    values: Array, bad: Mask, limit: float = 5.0, minimum: int = 5, *, side: str = "both", spared: Mask | None = None
) -> Mask:
    """Points further than limit × MAD from the median; ``side`` is both, high or low.

    Nothing is found among fewer than ``minimum`` good points; ``spared`` points (atmospheric lines) are never found.
    """
    stats = statistics(values, bad)
    if stats.count < minimum:
        return np.zeros_like(bad)
    away = np.where(bad, 0.0, values - stats.median)
    away = {"both": np.abs(away), "high": away, "low": -away}[side]
    found = ~bad & (away > limit * stats.mad)
    return found if spared is None else found & ~spared


# ---- rules for matrices ----------------------------------------------------------------------------------------------


def bad_columns(
    values: Array, bad: Mask, low: float = 7.0, fraction: float = 0.05, number: int = 3, minimum: int = 5
) -> Mask:
    """Antennas (columns) with ``number`` or more low outliers, or more than ``fraction`` of their points: all of it."""
    low_points = outliers(values, bad, low, minimum, side="low")
    counts, points = low_points.sum(axis=0), np.maximum((~bad).sum(axis=0), 1)
    guilty = (counts >= number) | (counts > fraction * points)
    return np.asarray(~bad & guilty[None, :])


def bad_quadrants(
    values: Array, bad: Mask, antennas: ArrayLike, limit: float = 7.0, antenna_fraction: float = 0.5,
    baseline_fraction: float = 0.5, spared: Mask | None = None,
) -> Mask:  # fmt: skip
    """Quarters of the channel range [channel, baseline] that are full of outliers, by antenna, then by baseline.

    ``antennas`` is [baseline, 2]. Outliers are points beyond limit × MAD outside ``spared`` channels. When more than
    ``antenna_fraction`` of what was good on all baselines of an antenna is an outlier, the quarter of that antenna is
    bad; otherwise the quarter of each baseline with more than ``baseline_fraction``. Other outliers are forgotten.
    """
    pairs = np.asarray(antennas)
    wild = outliers(values, bad, limit, 1)
    if spared is not None:
        wild &= ~spared[:, None]
    found = np.zeros_like(bad)
    for channels in np.array_split(np.arange(values.shape[0]), 4):
        part = slice(channels[0], channels[-1] + 1) if channels.size else slice(0, 0)
        new, good = wild[part].sum(axis=0), (~bad[part]).sum(axis=0)
        for antenna in np.unique(pairs):
            own = (pairs == antenna).any(axis=1)
            if good[own].sum() and new[own].sum() > antenna_fraction * good[own].sum():
                found[part, own] = True
        alone = (good > 0) & (new > baseline_fraction * good)
        found[part, alone] = True
    return found & ~bad


def full_rows(bad: Mask, missing: Mask, limit: float, excess: float = 1e7) -> Mask:
    """Rows (first axis) of whose existing points more than ``limit`` are bad, or ``excess`` more than the median row.

    Returns the points of these rows that are still good.
    """
    there = (~missing).sum(axis=1)
    gone = (bad & ~missing).sum(axis=1)
    median = float(np.median(gone[there > 0])) if (there > 0).any() else 0.0
    guilty = (there > 0) & ((gone > limit * there) | (gone > median + excess))
    return np.asarray(guilty[:, None] & ~bad & ~missing)


def entirely_bad(bad: Mask, missing: Mask, limit: float) -> bool:
    """Whether the share of rows (of those with data) that are entirely bad reaches ``limit``."""
    there = ~missing.all(axis=1)
    gone = there & (bad | missing).all(axis=1)
    return bool(there.any() and gone.sum() >= limit * there.sum())


# ---- rules for spectra -----------------------------------------------------------------------------------------------


def steps(spectrum: Array, bad: Mask) -> tuple[Array, NDArray[np.int64]]:
    """Differences of neighbouring good channels, and the channel before each of them."""
    good = np.flatnonzero(~bad)
    return np.diff(np.asarray(spectrum, dtype=float)[good]), good[:-1]


def edges(
    spectrum: Array, bad: Mask, limit: float = 2.0, spared: Mask | None = None
) -> tuple[Mask, bool]:
    """Channels at both ends where the spectrum is steep, and whether an edge ended within its quarter.

    Walking in from an end, the spectrum begins at the first good channel of the outer quarter whose step to the next
    good one is less than limit × the median step. When there is none, one channel is taken and the answer's second part
    is False. An end that overlaps ``spared`` channels is left alone: a line of the atmosphere is steep, and no edge.
    """
    n = spectrum.size
    found = np.zeros(n, dtype=bool)
    difference, before = steps(spectrum, bad)
    if difference.size < 4:
        return found, True
    size = np.abs(difference)
    allowed = limit * float(np.median(size))
    after = before + np.diff(np.flatnonzero(~bad))
    whole = True
    # A flat spectrum has steps of zero: nothing is steep there.
    quiet = size < allowed if allowed > 0 else size <= 0
    first = before[quiet & (before < n // 4)]
    if first.size:
        found[: first[0]] = True
    else:
        found[0], whole = True, False
    last = after[quiet & (after >= n - n // 4)]
    if last.size:
        found[last[-1] + 1 :] = True
    else:
        found[-1], whole = True, False
    for first_channel, last_channel in runs(found) if spared is not None else ():
        block = slice(first_channel, last_channel + 1)
        if spared is not None and spared[block].any():
            found[block] = False
    return found & ~bad, whole


def sharps(spectrum: Array, bad: Mask, limit: float = 0.05, spared: Mask | None = None) -> Mask:
    """Channels of features that begin and end with steps larger than ``limit``, and around steps without a partner.

    A step up and a step down (or the reverse) are a feature when all channels between them stand off the line that
    joins their feet by more than ``limit``: the flat top of a broad spike has no steps of its own. Each step belongs to
    the shortest feature that it can be part of. A step without a partner takes both of its channels, and is widened
    while the steps beside it exceed twice the median step. Blocks that overlap ``spared`` channels (atmospheric
    lines) are dropped.
    """
    found = np.zeros(spectrum.size, dtype=bool)
    good = np.flatnonzero(~bad)
    values = np.asarray(spectrum, dtype=float)[good]
    difference = np.diff(values)
    sharp = np.flatnonzero(np.abs(difference) > limit)
    if not sharp.size:
        return found
    inside, alone = _features(values, good, difference, sharp, limit)
    size, wide = np.abs(difference), 2.0 * float(np.median(np.abs(difference)))
    for k in alone:
        low, high = k, k + 1
        while low > 0 and size[low - 1] > wide:
            low -= 1
        while high < size.size and size[high] > wide:
            high += 1
        inside[low : high + 1] = True
    found[good[inside]] = True
    for first, last in runs(found) if spared is not None else ():
        if spared is not None and spared[first : last + 1].any():
            found[first : last + 1] = False
    return found


def _features(
    values: Array, channels: Array, difference: Array, sharp: Array, limit: float
) -> tuple[Mask, list[int]]:
    """Points between paired steps, and the steps without a partner; positions count good channels only."""
    inside = np.zeros(values.size, dtype=bool)
    pairs = sorted(
        (int(other - one), int(one), int(other))
        for k, one in enumerate(sharp) for other in sharp[k + 1 : k + 6]
        if np.sign(difference[one]) != np.sign(difference[other]) and other - one < values.size // 2
    )  # fmt: skip
    used: set[int] = set()
    for _, one, other in pairs:
        if one in used or other in used:
            continue
        block = slice(one + 1, other + 1)
        line = np.interp(channels[block], channels[[one, other + 1]], values[[one, other + 1]])
        if (np.abs(values[block] - line) > limit).all():
            inside[block] = True
            used |= {one, other}
    return inside, [int(k) for k in sharp if int(k) not in used and not (inside[k] and inside[k + 1])]


def wild_steps(spectrum: Array, bad: Mask, limit: float = 10.0, number: int = 4) -> Mask:
    """Channels around steps that deviate by more than limit × MAD; with ``number`` of them the whole spectrum."""
    found = np.zeros(spectrum.size, dtype=bool)
    difference, before = steps(spectrum, bad)
    wild = outliers(difference, np.zeros(difference.shape, dtype=bool), limit, 1)
    if wild.sum() >= number:
        return ~bad
    good = np.flatnonzero(~bad)
    for k in np.flatnonzero(wild):
        found[[before[k], good[k + 1]]] = True
    return found & ~bad


def full_spectrum(bad: Mask, fraction: float = 0.1, number: int = 4) -> Mask:
    """The rest of a spectrum of which ``fraction`` or ``number`` channels are bad."""
    guilty = bad.sum() >= min(fraction * bad.size, number)
    return ~bad if guilty else np.zeros_like(bad)


def runs(mask: Mask) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    ends = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(mask, dtype=np.int8), [0]))))
    return [(int(a), int(b) - 1) for a, b in ends.reshape(-1, 2)]
