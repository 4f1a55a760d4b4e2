"""Whether a cluster of lines is real on the sky, and where the line is in the channels at each position of the map.

The four maps (detection, validation, smoothing, final) and all numbers are those of the reference pipeline (2026).
Maps are [y, x] on the grid of cells; channels are those of the whole window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.clustering import Cluster
from pl_hsd.heuristics.lines import MIN_WIDTH, Detections
from pl_hsd.heuristics.skygrid import PLANES

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

VALID, MARGINAL, QUESTIONABLE = 0.5, 0.35, 0.2
STAGES = ("detection", "validation", "smoothing", "final")
_SAME_OVERLAP = 0.7
_VOTES = 0.7
_MOST_ORDER, _CLIP_SIGMA, _CLIP_ROUNDS = 5, 3.0, 3
_MARGIN = 5.0  # channels by which a fitted edge may leave what was seen
_FEWEST_CELLS = 3


@attrs.frozen(eq=False)
class Surface:
    """First and last channel of a line over a connected part of the map: polynomials in x and y (cells)."""

    cells: BoolArray
    """[y, x]: where the line is masked; ``core`` is where it was seen, the rest is a rim of unseen wings."""
    core: BoolArray
    middle: tuple[float, float]
    scale: tuple[float, float]
    order: tuple[int, int]
    first: FloatArray
    last: FloatArray
    limits: tuple[float, float, float, float]

    def edges(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First and last channel at places in cells."""
        terms = _terms((x - self.middle[0]) / self.scale[0], (y - self.middle[1]) / self.scale[1], self.order)
        low, high, low_last, high_last = self.limits
        return np.clip(terms @ self.first, low, high), np.clip(terms @ self.last, low_last, high_last)


@attrs.frozen(eq=False)
class LineOnSky:
    """A cluster after validation: ``reason`` says where it failed (empty: valid); the maps as far as they were made.

    centre, width : representative channels of the cluster.
    """

    centre: float
    width: float
    reason: str
    maps: Mapping[str, FloatArray]
    surfaces: tuple[Surface, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.reason


def confirmed(lines: Detections, planes_filled: IntArray) -> Detections:
    """Keep a line of a cell with three spectra only when it is found in all three.

    Lines are the same when they were found with the same binning and share 0.7 of their channels.
    """
    cell = lines.spectrum // PLANES
    voting = planes_filled[cell] == PLANES
    keep = ~voting
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    for group in np.split(order, starts[1:]) if len(lines) else []:
        if voting[group[0]]:
            keep[group] = _votes(lines.chosen(group)) >= _VOTES * PLANES
    return lines.chosen(keep)


def _votes(lines: Detections) -> IntArray:
    """In how many planes each line of one cell is found."""
    shared = np.minimum.outer(lines.last, lines.last) - np.maximum.outer(lines.first, lines.first) + 1
    union = np.maximum.outer(lines.last, lines.last) - np.minimum.outer(lines.first, lines.first) + 1
    same = (np.equal.outer(lines.binning, lines.binning)) & (shared >= _SAME_OVERLAP * union)
    plane = lines.spectrum % PLANES
    return np.stack([(same & (plane == p)).any(axis=1) for p in range(PLANES)]).sum(axis=0)


def validate(
    cluster: Cluster, lines: Detections, planes_filled: IntArray, shape: tuple[int, int], fewest: int = 0,
    band: tuple[int, int] | None = None,
) -> LineOnSky:  # fmt: skip
    """Judge one cluster.

    planes_filled : number of spectra in each cell.  shape : (n_y, n_x).
    fewest : valid members of the largest cluster, from ``most_valid``; smaller parts than half of it are dropped.
    band : first and last channel with data. What reaches one of them may be the bend of a baseline that a raster row
    shares; such a line needs three positions beside each other, where the reference pipeline takes a single one.
    """
    own = lines.chosen(cluster.members)
    maps: dict[str, FloatArray] = {}
    spectra = planes_filled.reshape(shape).astype(np.float64)

    def rejected(reason: str) -> LineOnSky:
        return LineOnSky(cluster.centre, cluster.width, reason, maps)

    maps["detection"] = detection_map(own, shape)
    maps["validation"] = validation_map(maps["detection"], spectra)
    if not (maps["validation"] > QUESTIONABLE).any():
        return rejected("not repeated in the spectra of any position")
    maps["smoothing"] = smoothing_map(maps["validation"], spectra > 0)
    if not (maps["smoothing"] > QUESTIONABLE).any():
        return rejected("without neighbours on the sky")
    maps["final"] = np.where(maps["smoothing"] > MARGINAL, maps["smoothing"], 0.0)
    if not maps["final"].any():
        return rejected("marginal at every position")
    surfaces = []
    at_edge = band is not None and bool(np.median(own.first) <= band[0] or np.median(own.last) >= band[1])
    need = _FEWEST_CELLS if at_edge else min(0.5 * fewest, _FEWEST_CELLS)
    for part in connected(maps["final"] > 0):
        core = part & (maps["final"] > VALID)
        lonely = part.sum() == 1 and spectra[part].sum() <= 1
        if not core.any() or lonely or core.sum() < need:
            maps["final"] = np.where(part, 0.0, maps["final"])
            continue
        surface = _surface(own, part, core, maps["final"])
        if surface is not None:
            surfaces.append(surface)
    if not surfaces:
        return rejected("too few positions beside each other")
    return LineOnSky(cluster.centre, cluster.width, "", maps, tuple(surfaces))


def most_valid(clusters: Sequence[Cluster], lines: Detections, planes_filled: IntArray, shape: tuple[int, int]) -> int:
    """Largest number of valid positions that any cluster has."""
    spectra = planes_filled.reshape(shape).astype(np.float64)
    counts = [
        int((validation_map(detection_map(lines.chosen(c.members), shape), spectra) > VALID).sum()) for c in clusters
    ]
    return max(counts, default=0)


# ---- maps ----------------------------------------------------------------------------------------------------------


def detection_map(lines: Detections, shape: tuple[int, int]) -> FloatArray:
    """Detections per cell: 1 each, 0.5 for a binned one (two offsets); the largest sum over the binnings."""
    cell = lines.spectrum // PLANES
    best = np.zeros(shape[0] * shape[1])
    for binning in np.unique(lines.binning):
        here = cell[lines.binning == binning]
        best = np.maximum(best, np.bincount(here, minlength=best.size) * (1.0 if binning == 1 else 0.5))
    return best.reshape(shape)


def validation_map(detection: FloatArray, spectra: FloatArray) -> FloatArray:
    """Detections per spectrum of the cell, at most 1."""
    return np.minimum(np.divide(detection, spectra, out=np.zeros_like(detection), where=spectra > 0), 1.0)


def smoothing_map(validation: FloatArray, present: BoolArray) -> FloatArray:
    """Twice the weighted mean over neighbours: weight 6 in the middle, 1 / distance squared up to three steps away."""
    from scipy.ndimage import convolve

    y, x = np.mgrid[-2:3, -2:3]
    kernel = np.where(np.abs(x) + np.abs(y) <= 3, 1.0 / np.maximum(x**2 + y**2, 1), 0.0)
    kernel[2, 2] = 6.0
    total = convolve(validation * present, kernel, mode="constant")
    weight = convolve(present.astype(np.float64), kernel, mode="constant")
    return 2.0 * np.divide(total, weight, out=np.zeros_like(total), where=present & (weight > 0))


def connected(mask: BoolArray) -> list[BoolArray]:
    """Parts of a map that hang together, diagonals included."""
    from scipy.ndimage import label

    labels, count = label(mask, structure=np.ones((3, 3)))
    return [labels == i for i in range(1, count + 1)]


def with_rim(core: BoolArray) -> BoolArray:
    """The valid cells and all within a disc around them: a line fades before it ends.

    Its radius, sqrt(N / pi) * 0.3 + 1.5 cells, grows with the number N of valid cells.
    """
    from scipy.ndimage import binary_dilation

    radius = math.sqrt(core.sum() / math.pi) * 0.3 + 1.5
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return binary_dilation(core, structure=np.hypot(x, y) <= radius)


# ---- surfaces ------------------------------------------------------------------------------------------------------


def _surface(lines: Detections, part: BoolArray, core: BoolArray, final: FloatArray) -> Surface | None:
    """Fit first and last channel of the detections in valid cells; None when no order gives a usable answer."""
    n_x = part.shape[1]
    spectrum, first, last = _outer_limits(lines)
    cell = spectrum // PLANES
    seen = core.ravel()[cell]
    if not seen.any():
        return None
    cell, first, last = cell[seen], first[seen], last[seen]
    x, y = (cell % n_x).astype(np.float64), (cell // n_x).astype(np.float64)
    middle = float(x.mean()), float(y.mean())
    scale = max(float(np.ptp(x)) / 2, 1.0), max(float(np.ptp(y)) / 2, 1.0)
    u, v = (x - middle[0]) / scale[0], (y - middle[1]) / scale[1]
    order = min(_longest_run(core) - 1, _MOST_ORDER), min(_longest_run(core.T) - 1, _MOST_ORDER)
    while True:
        answer = _fit(u, v, first, last, order)
        if answer is not None:
            break
        if order == (0, 0):
            return None
        order = max(order[0] - 1, 0), max(order[1] - 1, 0)
    limits = (
        float(first.min()) - _MARGIN, float(first.max()) + _MARGIN, float(last.min()) - _MARGIN,
        float(last.max()) + _MARGIN,
    )  # fmt: skip
    return Surface(with_rim(core) | core, core, middle, scale, order, *answer, limits)


def _outer_limits(lines: Detections) -> tuple[IntArray, FloatArray, FloatArray]:
    """First and last channel over all binnings, for each spectrum with a line."""
    spectrum, place = np.unique(lines.spectrum, return_inverse=True)
    first, last = np.full(spectrum.size, np.inf), np.full(spectrum.size, -np.inf)
    np.minimum.at(first, place.ravel(), lines.first)
    np.maximum.at(last, place.ravel(), lines.last)
    return spectrum, first, last


def _fit(
    u: FloatArray, v: FloatArray, first: FloatArray, last: FloatArray, order: tuple[int, int]
) -> tuple[FloatArray, FloatArray] | None:
    kept = np.ones(u.size, dtype=bool)
    n_terms = (order[0] + 1) * (order[1] + 1)
    values = np.column_stack([first, last])
    terms = _terms(u, v, order)
    answer = np.zeros((n_terms, 2))
    for _ in range(_CLIP_ROUNDS + 1):
        if kept.sum() < n_terms:
            return None
        answer = np.linalg.lstsq(terms[kept], values[kept], rcond=1e-6)[0]
        residual = np.hypot(*(values - terms @ answer).T)
        width = np.maximum((last - first)[kept].mean() + 1, 1.0)
        if residual[kept].mean() / width >= 1.0:
            return None
        left = residual <= residual[kept].mean() + _CLIP_SIGMA * residual[kept].std() + 1e-9
        if np.array_equal(left, kept):
            break
        kept = left
    return answer[:, 0], answer[:, 1]


def _terms(u: FloatArray, v: FloatArray, order: tuple[int, int]) -> FloatArray:
    one, two = np.polynomial.legendre.legvander(u, order[0]), np.polynomial.legendre.legvander(v, order[1])
    return (one[:, :, None] * two[:, None, :]).reshape(len(u), -1)


def _longest_run(mask: BoolArray) -> int:
    """Longest run of True along the last axis."""
    longest, running = 0, np.zeros(mask.shape[0], dtype=np.int64)
    for column in mask.T:
        running = (running + 1) * column
        longest = max(longest, int(running.max(initial=0)))
    return longest


# ---- masks of rows -------------------------------------------------------------------------------------------------


def allowance(width: FloatArray, n_chan: int) -> FloatArray:
    """Half width of the mask for a line of this full width: 10 channels for the narrowest, half of the widest.

    ``n_chan`` is the number of channels without the edges; its third is the widest line.
    """
    low, high = float(MIN_WIDTH), max(n_chan / 3, MIN_WIDTH + 1.0)
    return ((high - width) * (2 * low + 10) + (width - low) * high) / (high - low) / 2


def row_masks(
    line: LineOnSky, x: FloatArray, y: FloatArray, n_chan: int, edge: tuple[int, int]
) -> tuple[IntArray, IntArray]:
    """First and last masked channel of one line at places (cells of the grid); first > last: no mask there.

    Where the line was seen its edges are taken at the very place, on the rim those of the nearest cell where it was.
    """
    from scipy.ndimage import distance_transform_edt

    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    for surface in line.surfaces:
        n_y, n_x = surface.cells.shape
        i, j = np.floor(x + 0.5).astype(np.int64), np.floor(y + 0.5).astype(np.int64)
        inside = (i >= 0) & (i < n_x) & (j >= 0) & (j < n_y)
        inside[inside] &= surface.cells[j[inside], i[inside]]
        if not inside.any():
            continue
        at_i, at_j = i[inside], j[inside]
        core = surface.core[at_j, at_i]
        nearest = distance_transform_edt(~surface.core, return_distances=False, return_indices=True)
        px = np.where(core, x[inside], nearest[1][at_j, at_i])
        py = np.where(core, y[inside], nearest[0][at_j, at_i])
        first, last = surface.edges(px, py)
        width = last - first + core
        wide = width >= MIN_WIDTH
        centre, half = (first + last) / 2, allowance(width, n_chan - edge[0] - edge[1])
        places = np.flatnonzero(inside)[wide]
        low[places] = np.minimum(low[places], (centre - half)[wide])
        high[places] = np.maximum(high[places], (centre + half)[wide])
    masked = low <= high
    first_channel = np.where(masked, np.clip(np.round(np.where(masked, low, 0)), 0, n_chan - 1), 1)
    last_channel = np.where(masked, np.clip(np.round(np.where(masked, high, 0)), 0, n_chan - 1), 0)
    return first_channel.astype(np.int64), last_channel.astype(np.int64)


def channel_range(line: LineOnSky) -> tuple[float, float]:
    """Centre and full width of the channels that a line occupies anywhere on the map.

    The width is the excursion of the line's centre over the valid cells plus the line's own width.
    """
    centres = []
    for surface in line.surfaces:
        j, i = np.nonzero(surface.core)
        first, last = surface.edges(i.astype(np.float64), j.astype(np.float64))
        centres.append((first + last) / 2)
    if not centres:
        return line.centre, line.width
    every = np.concatenate(centres)
    return float((every.max() + every.min()) / 2), float(np.ptp(every) + line.width)


def lines_at_positions(
    lines: Detections, n_cells: int, n_chan: int, edge: tuple[int, int]
) -> list[list[tuple[int, int]]]:
    """Masks of each cell from its own lines, for observations of single positions, where nothing can be compared."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(n_cells)]
    half = np.round(allowance(lines.width.astype(np.float64), n_chan - edge[0] - edge[1]))
    for cell, centre, reach in zip(lines.spectrum // PLANES, lines.centre, half, strict=True):
        found[int(cell)].append((max(int(centre - reach), 0), min(int(centre + reach), n_chan - 1)))
    return found
