"""Raster rows and maps from directions alone.

Rules and numbers of the reference pipeline (2026), ``rasterscan``: steps that are too long or go another way separate
rows, a jump back towards the start separates maps.  Two things are done better.  Angles are counted on a circle of
180 degrees, where a sweep forth and one back are the same: the reference counts on a line of 360 and has to turn it
when a peak lies at its ends.  And maps swept along one axis, then along another (basket weaving) are understood: where
the axis changes, a map ends.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.heuristics.grouping import Grouping, from_gaps
from pl_hsd.heuristics.pointing_outlier import FACTOR

DISTANCE_FACTOR = 75.0
"""Times the scatter of the steps: longer steps are gaps."""
_CLIP_LOOPS = 3
_LEAST_SCATTER = 0.02
"""Of the median step: simulated and some real tracks have no scatter at all."""
OUTSIDE_PEAKS = 0.3
MOST_BINS = 0.5
TURN_DEG = 45.0
"""A step that deviates by more from the axis of the scan belongs to no row."""
MAP_GAP = 0.05
ONE_ROW_MAPS = 0.6
_MAD_TO_SIGMA = 1.4826
_BINS = 180
_BRIDGE = 5
"""Empty or low bins between parts of one peak."""
_MOST_AXES = 2
_WINDOW = 5
"""Steps before and after that say along which axis the telescope sweeps."""


class RasterFailure(Exception):
    """The directions are no raster that can be understood; the text says why."""


@attrs.frozen(eq=False)
class ScanAxes:
    """Axes of the sweeps: position angles 0..180 degrees counted from x towards y; ``label`` of each step: its axis.

    A step that goes along none has the label -1, a step of no length -2.
    """

    angles_deg: tuple[float, ...]
    label: NDArray[np.int64]


def group_by_direction(x_deg: ArrayLike, y_deg: ArrayLike) -> Grouping:
    """Rows and maps of spectra in order of time; x is an angle like right ascension, y like declination.

    Raises:
        RasterFailure: there is no preferred axis, or the maps cannot be told apart.
    """
    y = np.asarray(y_deg, dtype=float)
    x = np.asarray(x_deg, dtype=float) * math.cos(math.radians(float(np.median(y)))) if y.size else y
    if y.size < 4:
        raise RasterFailure(f"{y.size} spectra are too few for a raster")
    dx, dy = np.diff(x), np.diff(y)
    jumps = distance_gaps(np.hypot(dx, dy))
    axes = scan_axes(dx, dy, jumps)
    gaps = np.flatnonzero(jumps | off_axis(axes.label))
    starts = join_short_rows(np.concatenate(([0], gaps + 1)), y.size)
    maps = map_starts(x, y, starts, axes)
    return from_gaps(y.size, starts[1:], starts[maps][1:])


def distance_gaps(step: ArrayLike) -> NDArray[np.bool_]:
    """Steps that are gaps: beyond the median by 75 times the scatter, both measured without the gaps, three times."""
    length = np.asarray(step, dtype=float)
    gap = length <= -1.0
    for _ in range(_CLIP_LOOPS):
        inside = length[~gap & (length > 0)]
        if not inside.size:
            break
        middle = float(np.median(inside))
        scatter = max(_MAD_TO_SIGMA * float(np.median(np.abs(inside - middle))), _LEAST_SCATTER * middle)
        gap = length > middle + DISTANCE_FACTOR * scatter
    return np.asarray(gap, dtype=bool)


def scan_axes(dx: NDArray[np.float64], dy: NDArray[np.float64], jumps: NDArray[np.bool_]) -> ScanAxes:
    """The one or two axes along which most steps go.

    Raises:
        RasterFailure: the telescope hardly moves, steps go in all directions, or along more than two axes.
    """
    moving = ~jumps & (np.hypot(dx, dy) > 0)
    if moving.sum() < max(3, 0.5 * (~jumps).sum()):
        raise RasterFailure("the telescope stands still more often than it moves")
    angle = np.degrees(np.arctan2(dy, dx)) % 180.0
    peaks = angle_peaks(angle[moving])
    distance = np.array([_apart(angle, peak) for peak in peaks])
    label = np.argmin(distance, axis=0)
    label[distance.min(axis=0) > TURN_DEG] = -1
    label[np.hypot(dx, dy) == 0] = -2
    return ScanAxes(tuple(peaks), label)


def angle_peaks(angle_deg: NDArray[np.float64]) -> list[float]:
    """Centres (0..180 degrees, strongest first) of the peaks of the distribution of scan angles.

    Bins of a degree are taken from the highest on, each with its shoulders, until at most 0.3 of the steps are left.

    Raises:
        RasterFailure: half of all bins do not suffice, or there are more than two peaks.
    """
    count = np.bincount(np.floor(angle_deg).astype(int) % _BINS, minlength=_BINS)
    taken = np.zeros(_BINS, dtype=bool)
    while count[~taken].sum() > OUTSIDE_PEAKS * count.sum():
        top = int(np.argmax(np.where(taken, -1, count)))
        taken[top] = True
        for way in (-1, 1):
            here = top
            while not taken[(here + way) % _BINS] and 0 < count[(here + way) % _BINS] <= count[here % _BINS]:
                here += way
                taken[here % _BINS] = True
        if taken.sum() > MOST_BINS * _BINS:
            raise RasterFailure("the steps go in all directions")
    peaks = [(count[run].sum(), _centre(run, count)) for run in _circular_runs(taken)]
    if len(peaks) > _MOST_AXES:
        raise RasterFailure(f"the steps go along {len(peaks)} axes")
    return [centre for _, centre in sorted(peaks, reverse=True)]


def off_axis(label: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Steps along no axis, or along another one than the steps around them: the turns between rows."""
    if not (label >= 0).any():
        return np.ones(len(label), dtype=bool)
    kernel = np.ones(2 * min(_WINDOW, (len(label) - 1) // 2) + 1)
    votes = np.array([np.convolve(label == axis, kernel, mode="same") for axis in range(int(label.max()) + 1)])
    return (label == -1) | ((label >= 0) & (label != np.argmax(votes, axis=0)))


def join_short_rows(starts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """First spectra of rows after joining neighbours shorter than the most frequent length (ties: the longer).

    A short piece between whole rows stays as it is: it is a row that was cut off.
    """
    lengths = np.diff(np.append(starts, count))
    typical = most_frequent(lengths)
    kept: list[int] = []
    pending = 0
    for start, length in zip(starts, lengths, strict=True):
        if length >= typical or not 0 < pending < typical:
            kept.append(int(start))
            pending = 0
        pending += int(length) if length < typical else 0
    return np.array(kept, dtype=np.int64)


def most_frequent(values: ArrayLike) -> int:
    """The value that occurs most often; of several, the largest."""
    found, counts = np.unique(np.asarray(values), return_counts=True)
    return int(found[counts == counts.max()].max())


def map_starts(
    x: NDArray[np.float64], y: NDArray[np.float64], starts: NDArray[np.int64], axes: ScanAxes
) -> NDArray[np.int64]:
    """Numbers of the rows with which maps begin: where the sweep turns to another axis or jumps back to the start.

    Rows far from the map (an antenna that looked elsewhere for a while) begin and end nothing.

    Raises:
        RasterFailure: the telescope maps to and fro, so that most maps would have a single row.
    """
    counts = np.diff(np.append(starts, x.size))
    centre = np.stack([np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts], axis=1)
    axis = np.array([_majority(axes.label[s : s + n - 1]) for s, n in zip(starts, counts, strict=True)])
    near = np.flatnonzero(_near(centre, x, y))
    centre, axis = centre[near], axis[near]
    turns = np.flatnonzero((axis[1:] != axis[:-1]) & (axis[1:] >= 0) & (axis[:-1] >= 0)) + 1
    begins = []
    for first, last in zip((0, *turns), (*turns, len(near)), strict=True):
        begins += [int(first), *(int(first) + k for k in _returns(centre[first:last]))]
    single = (np.diff([*begins, len(near)]) == 1).sum()
    if len(begins) > 1 and single > ONE_ROW_MAPS * (len(begins) - 1) and len(near) > len(begins):
        raise RasterFailure("the telescope maps to and fro, and no row is the first of a map")
    return np.array([0, *near[begins[1:]]], dtype=np.int64)


def _near(centre: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows whose centre is not further from the middle of the map than pointing outliers are."""
    middle = np.array([np.median(x), np.median(y)])
    limit = FACTOR * float(np.median(np.hypot(x - middle[0], y - middle[1])))
    return np.asarray(np.hypot(*(centre - middle).T) <= limit)


def _returns(centre: NDArray[np.float64]) -> list[int]:
    """Rows before which the distance from the first one fails to grow."""
    if len(centre) < 2:
        return []
    growth = np.diff(np.hypot(*(centre - centre[0]).T))
    return [int(k) for k in np.flatnonzero(growth < MAP_GAP * np.median(growth)) + 1]


def _majority(labels: NDArray[np.int64]) -> int:
    usable = labels[labels >= 0]
    return int(np.argmax(np.bincount(usable))) if usable.size else -1


def _apart(angle_deg: NDArray[np.float64], other_deg: float) -> NDArray[np.float64]:
    """Angle between axes, 0..90 degrees."""
    return np.abs((angle_deg - other_deg + 90.0) % 180.0 - 90.0)


def _circular_runs(taken: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Runs of true bins on a circle; runs not further apart than the bridge are one."""
    bins = np.flatnonzero(taken)
    breaks = np.flatnonzero(np.diff(np.append(bins, bins[0] + _BINS)) > _BRIDGE)
    if not breaks.size:
        return [bins]
    rolled = np.roll(bins, -(int(breaks[0]) + 1))
    unrolled = np.where(rolled < rolled[0], rolled + _BINS, rolled)
    cuts = np.flatnonzero(np.diff(unrolled) > _BRIDGE) + 1
    return [part % _BINS for part in np.split(unrolled, cuts)]


def _centre(run: NDArray[np.int64], count: NDArray[np.int64]) -> float:
    # Twice the angle: the mean of directions on a circle of 180 degrees.
    phase = np.radians(2 * (run + 0.5))
    mean = np.degrees(np.arctan2((count[run] * np.sin(phase)).sum(), (count[run] * np.cos(phase)).sum())) / 2
    return float(mean % 180.0)
