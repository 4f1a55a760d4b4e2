"""Emission too wide for the search for lines: structure over the whole window that belongs to places on the sky.

A line that fills most of its window has no baseline beside it, and no median of its spectrum is free of it. What tells
that something is there: the averages of a position agree on a shape that most of the map has not. Whether it is a line
or a baseline that changes over the map cannot be told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.linemap import connected
from pl_hsd.heuristics.lines import THRESHOLD
from pl_hsd.heuristics.skygrid import PLANES
from pl_hsd.heuristics.spectralstats import difference_noise

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BINS = 16
"""Wide enough that noise and narrow lines average out; a line of half the window fills several."""

FEWEST_CELLS = 3
_NORMAL = 1.4826


def broad_cells(
    data: NDArray[np.float32], good: BoolArray, shape: tuple[int, int], edge: tuple[int, int] = (0, 0)
) -> BoolArray:
    """Cells [y, x] of which all averages agree on a broad shape, at least three beside each other.

    data, good : averages [cell * 3 + plane, channel] of a grid of ``shape`` (n_y, n_x). The shape that most of the map
    has is taken out first, and the mean of each spectrum: the sky drifts. The strength of what is left is the mean
    product of different averages, to which noise contributes nothing; it counts from 7.5 times its scatter over the
    map, or over thermal noise, whichever is more.
    """
    n_chan = data.shape[1] - sum(edge)
    inner = slice(edge[0], edge[0] + n_chan)
    nothing = np.zeros(shape, dtype=bool)
    if n_chan < BINS:
        return nothing
    values, known = _binned(data[:, inner], good[:, inner])
    whole = known.all(axis=1).reshape(-1, PLANES).all(axis=1)
    if whole.sum() <= FEWEST_CELLS:
        return nothing
    noise = difference_noise(data[:, inner], good[:, inner]).reshape(-1, PLANES).max(axis=1)
    noise = noise[whole] / np.sqrt(n_chan / BINS)
    form = values.reshape(-1, PLANES, BINS)[whole]
    form = form - np.median(form, axis=(0, 1))
    form = form - form.mean(axis=2, keepdims=True)
    pairs = [(p, q) for p in range(PLANES) for q in range(p)]
    strength = np.mean([(form[:, p] * form[:, q]).mean(axis=1) for p, q in pairs], axis=0)
    middle = float(np.median(strength))
    scatter = _NORMAL * float(np.median(np.abs(strength - middle)))
    seen = strength - middle > THRESHOLD * np.maximum(scatter, noise**2 / np.sqrt(len(pairs) * BINS))
    cells = np.zeros(whole.size, dtype=bool)
    cells[np.flatnonzero(whole)[seen]] = True
    found = nothing
    for part in connected(cells.reshape(shape)):
        if part.sum() >= FEWEST_CELLS:
            found = found | part
    return found


def _binned(data: NDArray[Any], good: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Means of `BINS` parts of the spectra, and whether at least half of a part is good."""
    edges = np.linspace(0, data.shape[1], BINS + 1).astype(int)
    count = np.add.reduceat(good.astype(np.int64), edges[:-1], axis=1)
    total = np.add.reduceat(np.where(good, data, 0).astype(np.float64), edges[:-1], axis=1)
    return total / np.maximum(count, 1), 2 * count >= np.diff(edges)
