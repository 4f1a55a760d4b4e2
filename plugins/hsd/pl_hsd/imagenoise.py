"""Noise of single-dish images, from rasters, tables of rows and spectra: what it should be, and the baselines'."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import spectra
from pl_hsd.groups import Member
from pl_hsd.heuristics import sensitivity
from pl_hsd.heuristics.sensitivity import PolarizationData, RasterExtent
from pl_hsd.imageplan import MapPlan
from pl_hsd.mapmaking import Cube
from pl_kernel.stage_context import ItemContext


@attrs.frozen(kw_only=True)
class RasterProblem:
    """A raster that could not be analysed: `kind` is gap (no rows or maps are known) or incomplete."""

    ms: str
    antenna: str
    kind: str


def raster_extents(
    plan: MapPlan, members: tuple[Member, ...]
) -> tuple[dict[Member, tuple[RasterExtent, ...]], list[RasterProblem]]:
    """Rasters of the members that have one, and those that cannot be analysed."""
    found: dict[Member, tuple[RasterExtent, ...]] = {}
    problems: list[RasterProblem] = []
    for member in members if plan.is_raster else ():
        rows, table = plan.rows_of(member), plan.tables[member.origin]
        rows = rows[np.asarray(table["online_valid"][rows]).any(axis=1)]
        ra, dec = plan.positions(member, rows)
        row_id, map_id = (np.asarray(table[c][rows]) for c in ("raster_row", "raster_map"))
        if not ((row_id >= 0) & (map_id >= 0)).any():
            problems.append(RasterProblem(ms=member.origin, antenna=member.antenna_name, kind="gap"))
            continue
        extents = sensitivity.raster_extents(ra, dec, table["interval_s"][rows], row_id, map_id)
        if not extents:
            problems.append(RasterProblem(ms=member.origin, antenna=member.antenna_name, kind="incomplete"))
        else:
            found[member] = extents
    return found, problems


def noise_region(
    plan: MapPlan, extents: dict[Member, tuple[RasterExtent, ...]], cube: Cube
) -> NDArray[np.bool_]:
    """Pixels [y, x] in which the noise of an image is measured: inside the rasters of all members, less a beam.

    The reference takes one box of median size; beams that look beside each other overlap in less than that. Where
    members share no part that is a tenth of the box, the box it is. Sources that are not mapped: around the points.
    """
    shape = cube.values.shape[1:]
    if not plan.is_raster:
        return np.asarray(cube.weight >= 0.5 * cube.weight.max(initial=0.0))
    beam, cell = cube.beam[0], cube.cell_arcsec
    every = [e for found in extents.values() for e in found]
    box = sensitivity.inner_region(shape, every, cell, beam, (cube.x0, cube.y0))
    common = np.ones(shape, bool)
    for found in extents.values():
        # A moving source is at the middle of its own map: its offsets are those from the reference pixel.
        x, y = plan.geometry.pixels(found[0].ra_deg, found[0].dec_deg)
        common &= sensitivity.inner_region(shape, found, cell, beam, (float(x), float(y)))
    return common if extents and common.sum() >= 0.1 * box.sum() else box


def theoretical_noise(
    plan: MapPlan, members: tuple[Member, ...], extents: dict[Member, tuple[RasterExtent, ...]], cube: Cube
) -> tuple[float | None, str]:
    """The theoretical rms, and why it is missing."""
    if not plan.is_raster:
        return None, "the source was not mapped as a raster"
    parts, missing = [], set()
    jansky = cube.unit.lower().startswith("jy")
    for member in members:
        if member not in extents:
            missing.add("the raster of an antenna could not be analysed")
            continue
        if member not in plan.off_s:
            missing.add("no sky caltable tells how long the OFFs were")
            continue
        rows, table = plan.rows_of(member), plan.tables[member.origin]
        exposure = np.asarray(table["exposure_s"][rows], float)
        if exposure.size and exposure.max() < sensitivity.SHORTEST_INTEGRATION_S:
            missing.add("integrations are too short")
            continue
        valid = np.asarray(table["row_valid"][rows])
        for pol, name in enumerate(plan.correlations):
            factor = plan.factors.get((member, name)) if jansky else 1.0
            if factor is None:
                missing.add("Jy/K factors are missing")
                continue
            good = valid[:, pol]
            if not good.any():
                continue
            for extent in extents[member]:
                on_s = float(exposure[good].sum()) * extent.share
                tsys = float(np.mean(table["tsys_k"][rows][good, pol]))
                parts.append(
                    PolarizationData(
                        on_s=on_s, off_s=plan.off_s[member], factor=factor, tsys_k=tsys,
                        bandwidth_hz=plan.bandwidth_hz, extent=extent,
                    )
                )  # fmt: skip
    rules = plan.rules
    value = sensitivity.theoretical_rms(parts, cube.cell_arcsec, rules.kernel_1d, rules.kernel_2d)
    return value, "" if value is not None else "; ".join(sorted(missing)) or "no valid spectrum"


def baseline_noise(
    ctx: ItemContext, plan: MapPlan, members: tuple[Member, ...], cube: Cube, arrays: dict[str, Any]
) -> tuple[NDArray[np.bool_], int]:
    """Put maps of the baselines' rms and of the number of spectra into `arrays`; return the pixels [y, x] where spectra
    were taken, and the number of valid ones.

    Spectra that a later stage flagged were taken, too: a hole that flags tear into an image must show. Those that the
    telescope, or the import of its flags, declared bad were not.
    """
    x, y, rms, taken = [], [], [], []
    for member in members:
        rows, table = plan.rows_of(member), plan.tables[member.origin]
        there = plan.derived[member.ms][rows]
        rows, there = rows[there >= 0], there[there >= 0]
        if not rows.size:
            continue
        px, py = plan.geometry.pixels(*plan.positions(member, rows))
        x.append(px)
        y.append(py)
        rms.append(row_noise(ctx, plan, member, rows, there))
        taken.append(np.asarray(table["online_valid"][rows]).any(axis=1))
    shape = cube.values.shape[1:]
    px, py, noise = (np.concatenate(v) if v else np.zeros(0) for v in (x, y, rms))
    found = sensitivity.noise_map(px, py, noise, shape, cube.cell_arcsec, plan.geometry.beam_arcsec)
    arrays["noise_map"], arrays["number_map"] = found.rms, found.number
    good = np.isfinite(noise)
    seen = np.concatenate(taken) & good.any() if taken else np.zeros(0, bool)
    near = sensitivity.covered_pixels(px[seen], py[seen], shape)
    arrays["covered"] = near
    return near, int(good.sum())


def row_noise(
    ctx: ItemContext, plan: MapPlan, member: Member, rows: NDArray[np.int64], there: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Rms of each spectrum [row] over its channels without line, mean of the polarizations; NaN where all is flagged.

    rows: indices in the table of rows; there: row numbers in the imaged measurement set.
    """
    table = plan.tables[member.origin]
    offsets, spans = table.ragged("line_mask")
    nchan = plan.group.nchan
    common = plan.lines.union(plan.deviation[member]).mask(nchan)
    common[: plan.edge[0]] = True
    common[nchan - plan.edge[1] :] = True
    found = np.full(rows.size, np.nan)
    for block in spectra.blocks(ctx.casa, plan.paths[member.ms], plan.columns[member.ms], there):
        here = rows[block.positions]
        hidden = common | _masks(offsets, spans, here, nchan)
        good = ~block.flags & ~hidden[:, None, :]
        number = good.sum(axis=2)
        data = np.where(good, block.data, 0.0).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = (data**2).sum(axis=2) / number - (data.sum(axis=2) / number) ** 2
            variance = np.where((number > 1) & np.asarray(table["row_valid"][here])[:, : number.shape[1]],
                                np.maximum(variance, 0.0), np.nan)  # fmt: skip
            valid = np.isfinite(variance)
            mean = np.where(valid, variance, 0.0).sum(axis=1) / valid.sum(axis=1)
        found[block.positions] = np.sqrt(mean)
    return found


def _masks(
    offsets: NDArray[np.int64], spans: NDArray[np.int32], rows: NDArray[np.int64], nchan: int
) -> NDArray[np.bool_]:
    """[row, channel]: True within the line ranges of a row."""
    steps = np.zeros((rows.size, nchan + 1), np.int32)
    counts = offsets[rows + 1] - offsets[rows]
    which = np.repeat(np.arange(rows.size), counts)
    if which.size:
        index = np.concatenate([np.arange(offsets[r], offsets[r + 1]) for r in rows[counts > 0]])
        np.add.at(steps, (which, np.clip(spans[index, 0], 0, nchan)), 1)
        np.add.at(steps, (which, np.clip(spans[index, 1] + 1, 0, nchan)), -1)
    return np.asarray(np.cumsum(steps, axis=1)[:, :nchan] > 0)
