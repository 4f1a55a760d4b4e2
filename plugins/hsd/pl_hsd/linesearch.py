"""Looking for the lines of one reduction group: reads its spectra once, grids them, and masks what is found.

All antennas, execution blocks and polarizations of the group count together; the masks are for each of their rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import spectra
from pl_hsd.heuristics.broad import broad_cells
from pl_hsd.heuristics.clustering import find_clusters
from pl_hsd.heuristics.deviation import Scatter, deviation_mask
from pl_hsd.heuristics.linemap import (
    STAGES,
    LineOnSky,
    channel_range,
    confirmed,
    lines_at_positions,
    most_valid,
    row_masks,
    validate,
)
from pl_hsd.heuristics.lines import Detections, find_lines, finest
from pl_hsd.heuristics.skygrid import GridSpectra, SkyGrid, grid_weights
from pl_hsd.ranges import SpectralRanges, edge_ranges
from pl_kernel.stage_context import ItemContext

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

TOO_WIDE = "as wide as the window: it cannot be told from a baseline"
"""Reason of a line that is not valid, and of which nothing can be masked."""


@attrs.frozen(eq=False, kw_only=True)
class SearchMember:
    """Spectra of one member on the source, all arrays [row].

    key : "antenna/field/spw" with the ids of the imported measurement set.  rows : numbers in the measurement set that
    is read (-1: not there).  ra_deg, dec_deg : where the beam was, with the motion of the source taken out.
    tsys_k, valid : [row, polarization].  given : line ranges of the user, in channels.
    deviation : the mask an earlier baseline stage found; None: to be found now.
    """

    key: str
    origin: str
    path: str
    column: str
    rows: IntArray
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    exposure_s: NDArray[np.float64]
    tsys_k: NDArray[np.float64]
    valid: BoolArray
    given: SpectralRanges = attrs.field(factory=SpectralRanges)
    deviation: SpectralRanges | None = None


@attrs.frozen(eq=False, kw_only=True)
class SearchJob:
    """One reduction group; ``detect``: look for lines; ``raster``: compare neighbours on the sky; ``too_wide``: an
    earlier stage saw emission as wide as the window, which is gone with the baselines it subtracted."""

    group: int
    n_chan: int
    cell_deg: float
    members: tuple[SearchMember, ...]
    edge: tuple[int, int] = (0, 0)
    detect: bool = True
    mask_deviation: bool = True
    deviation_sigma: float = 5.0
    algorithm: str = "hierarchy"
    raster: bool = True
    too_wide: bool = False
    file: str = ""

    @property
    def name(self) -> str:
        return f"reduction group {self.group}"


@attrs.frozen(kw_only=True)
class LineRange:
    """One line of a group in channels: centre and full width anywhere on the map; ``reason`` why it is not valid."""

    centre: float
    width: float
    valid: bool
    reason: str = ""
    detections: int = 0
    origin: str = "found"


@attrs.frozen(eq=False, kw_only=True)
class SearchOutcome:
    """What was found: masks by member (offsets [row + 1], spans), deviation masks by member, ranges for the maps."""

    group: int
    lines: tuple[LineRange, ...]
    masks: tuple[tuple[IntArray, IntArray], ...]
    deviation: tuple[SpectralRanges, ...]
    grid: SkyGrid
    flagged_edges: tuple[int, int]
    n_detections: int


def search_group(ctx: ItemContext, job: SearchJob) -> SearchOutcome:
    """Find the lines of one group."""
    ra = np.concatenate([m.ra_deg for m in job.members])
    dec = np.concatenate([m.dec_deg for m in job.members])
    grid = SkyGrid.around(ra, dec, job.cell_deg)
    gridded = GridSpectra.empty(grid.n_cells, job.n_chan)
    deviation = []
    for member in job.members:
        looked_for = job.mask_deviation and member.deviation is None
        scatter = Scatter.of(job.n_chan) if looked_for else None
        if looked_for or job.detect:
            _gather(ctx, member, grid, gridded, scatter)
        mask = deviation_mask(scatter.deviation, job.deviation_sigma) if scatter else member.deviation
        deviation.append(mask if mask is not None and job.mask_deviation else SpectralRanges())
    lines: list[LineRange] = []
    found: list[LineOnSky] = []
    detections = Detections.none()
    edges = _flagged_edges(gridded.good) if job.detect else (0, 0)
    if job.detect:
        detections = confirmed(find_lines(gridded.data, gridded.good, edge=job.edge), gridded.planes_filled)
        if not job.raster:
            detections = finest(detections)
        if job.raster:
            band = max(edges[0], job.edge[0]), job.n_chan - 1 - max(edges[1], job.edge[1])
            found, clustered = _on_sky(detections, gridded.planes_filled, grid, job, band)
            for line, size in zip(found, clustered, strict=True):
                centre, width = channel_range(line)
                lines.append(
                    LineRange(centre=centre, width=width, valid=line.valid, reason=line.reason, detections=size)
                )
        else:
            lines += _lines_of_positions(detections, job)
    given = SpectralRanges().union(*(m.given for m in job.members))
    lines += [
        LineRange(centre=(a + b) / 2, width=b - a + 1, valid=True, origin="given") for a, b in given.spans
    ]
    if job.detect and not any(line.valid for line in lines):
        lines += _too_wide(gridded, grid, job)
    masks = tuple(_member_masks(member, found, detections, grid, job) for member in job.members)
    if job.file:
        _save(Path(job.file), job, gridded, detections, found, grid)
    return SearchOutcome(
        group=job.group, lines=tuple(lines), masks=masks, deviation=tuple(deviation), grid=grid, flagged_edges=edges,
        n_detections=len(detections),
    )  # fmt: skip


def _gather(
    ctx: ItemContext, member: SearchMember, grid: SkyGrid, gridded: GridSpectra, scatter: Scatter | None
) -> None:
    present = np.flatnonzero(member.rows >= 0)
    cells = grid.cells(member.ra_deg[present], member.dec_deg[present])
    for block in spectra.blocks(ctx.casa, member.path, member.column, member.rows[present]):
        here = present[block.positions]
        n, n_pol, n_chan = block.data.shape
        flags = block.flags | ~member.valid[here, :n_pol, None]
        data, flags = block.data.reshape(n * n_pol, n_chan), flags.reshape(n * n_pol, n_chan)
        weights = grid_weights(np.repeat(member.exposure_s[here], n_pol), member.tsys_k[here, :n_pol].ravel())
        gridded.add(data, flags, np.repeat(cells[block.positions], n_pol), weights)
        if scatter is not None:
            scatter.add(data, flags)


def _on_sky(
    detections: Detections, planes_filled: IntArray, grid: SkyGrid, job: SearchJob, band: tuple[int, int]
) -> tuple[list[LineOnSky], list[int]]:
    shape = (grid.n_y, grid.n_x)
    clusters = find_clusters(detections.width, detections.centre, job.n_chan, job.algorithm)
    fewest = most_valid(clusters, detections, planes_filled, shape)
    judged = [validate(cluster, detections, planes_filled, shape, fewest, band) for cluster in clusters]
    return judged, [int(c.members.size) for c in clusters]


def _too_wide(gridded: GridSpectra, grid: SkyGrid, job: SearchJob) -> list[LineRange]:
    """Emission that has no baseline beside it, on a map without any other line."""
    cells = int(broad_cells(gridded.data, gridded.good, (grid.n_y, grid.n_x), job.edge).sum()) if job.raster else 0
    if not cells and not job.too_wide:
        return []
    width = job.n_chan - sum(job.edge)
    middle = job.edge[0] + (width - 1) / 2
    return [LineRange(centre=middle, width=width, valid=False, reason=TOO_WIDE, detections=cells)]


def _lines_of_positions(detections: Detections, job: SearchJob) -> list[LineRange]:
    """Single positions have nothing to compare with: what was found is taken."""
    spans = [(int(a), int(b)) for a, b in zip(detections.first, detections.last, strict=True)]
    return [
        LineRange(centre=(a + b) / 2, width=b - a + 1, valid=True, detections=len(detections))
        for a, b in SpectralRanges.of(spans).spans
    ]


def _member_masks(
    member: SearchMember, found: list[LineOnSky], detections: Detections, grid: SkyGrid, job: SearchJob
) -> tuple[IntArray, IntArray]:
    """Masked channels of every row: offsets and inclusive spans."""
    n = member.rows.size
    x, y = grid.places(member.ra_deg, member.dec_deg)
    parts: list[tuple[IntArray, IntArray, IntArray]] = []
    for line in found:
        if line.valid:
            first, last = row_masks(line, x, y, job.n_chan, job.edge)
            masked = np.flatnonzero(first <= last)
            parts.append((masked, first[masked], last[masked]))
    if job.detect and not job.raster:
        by_cell = lines_at_positions(detections, grid.n_cells, job.n_chan, job.edge)
        cells = grid.cells(member.ra_deg, member.dec_deg)
        for cell, spans in enumerate(by_cell):
            here = np.flatnonzero(cells == cell)
            parts += [(here, np.full(here.size, a), np.full(here.size, b)) for a, b in spans]
    every = np.arange(n)
    parts += [(every, np.full(n, int(a)), np.full(n, int(b))) for a, b in member.given.spans]
    return joined_masks(n, parts)


def joined_masks(n: int, parts: list[tuple[IntArray, IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    """Spans (row, first, last) from several sources as offsets [n + 1] and spans [m, 2]; overlapping ones joined."""
    if not parts:
        return np.zeros(n + 1, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    row, first, last = (np.concatenate([p[i] for p in parts]).astype(np.int64) for i in range(3))
    if not row.size:
        return np.zeros(n + 1, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    order = np.lexsort((first, row))
    row, first, last = row[order], first[order], last[order]
    span = int(last.max()) + 2
    reach = np.maximum.accumulate(last + row * span) - row * span
    begins = np.ones(row.size, dtype=bool)
    begins[1:] = (row[1:] != row[:-1]) | (first[1:] > reach[:-1] + 1)
    starts = np.flatnonzero(begins)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[starts], minlength=n))])
    return offsets.astype(np.int64), np.column_stack([first[starts], np.maximum.reduceat(last, starts)])


def _flagged_edges(good: BoolArray) -> tuple[int, int]:
    """Channels at either end that no spectrum has."""
    known = good.any(axis=0)
    if not known.any():
        return 0, 0
    return int(np.argmax(known)), int(np.argmax(known[::-1]))


def _save(
    path: Path, job: SearchJob, gridded: GridSpectra, detections: Detections, found: list[LineOnSky], grid: SkyGrid
) -> None:
    """Keep what the web log shows of the search."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "width": detections.width, "centre": detections.centre, "binning": detections.binning,
        "planes_filled": gridded.planes_filled.reshape(grid.n_y, grid.n_x), "cell_deg": np.array(grid.cell_deg),
        "lines": np.array([(line.centre, line.width, line.valid) for line in found], dtype=np.float64).reshape(-1, 3),
    }  # fmt: skip
    for number, line in enumerate(found):
        for stage in STAGES:
            if stage in line.maps:
                arrays[f"{stage}_{number}"] = line.maps[stage]
    np.savez_compressed(path, **arrays)


def masks_by_channel(offsets: IntArray, spans: IntArray, rows: NDArray[Any], n_chan: int) -> BoolArray:
    """Spans of these rows as [row, channel], True where masked."""
    counts = offsets[rows + 1] - offsets[rows]
    which = np.repeat(np.arange(len(rows)), counts)
    place = np.repeat(offsets[rows] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
    steps = np.zeros((len(rows), n_chan + 1), dtype=np.int8)
    chosen = np.asarray(spans, dtype=np.int64)[place] if counts.sum() else np.zeros((0, 2), dtype=np.int64)
    # Spans of a row are disjoint and do not touch, so each channel opens or closes at most one.
    np.add.at(steps, (which, np.clip(chosen[:, 0], 0, n_chan)), 1)
    np.add.at(steps, (which, np.clip(chosen[:, 1] + 1, 0, n_chan)), -1)
    return np.cumsum(steps[:, :-1], axis=1, dtype=np.int8) > 0


def edge_mask(n_chan: int, edge: tuple[int, int]) -> BoolArray:
    """True for the channels at the ends that are left out."""
    return edge_ranges(n_chan, edge).mask(n_chan)
