"""What is measured in a single-dish cube: noise, edges, lines, contamination; and what its pictures need."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import spectra
from pl_hsd.groups import Member
from pl_hsd.heuristics import contamination, cubes, missedlines, sensitivity
from pl_hsd.heuristics.sensitivity import PolarizationData, RasterExtent
from pl_hsd.imageplan import MapPlan
from pl_hsd.mapmaking import Cube, forget, read_cube
from pl_hsd.ranges import IMAGE, SpectralRanges
from pl_hsd.weblog.profilemaps import sparse_edges
from pl_kernel.params import as_tuple
from pl_kernel.stage_context import ItemContext

PANELS = 12
"""Channel maps of a line."""
DETAIL_CHANNELS = 1024
"""Most channels of a detailed profile; wider spectra are averaged."""
Spans = tuple[tuple[int, int], ...]


@attrs.frozen(kw_only=True)
class MapNumbers:
    """What was measured in one cube. Channels are those of the image, both ends included; angles in degrees, arcsec.

    `flux`: integral over the map and the line channels, in Jy km/s (per beam of the telescope) or K km/s arcsec²;
    `extra_edges`: channels at either end without all spectra; `theory_missing`: why there is no theoretical rms.
    """

    unit: str
    beam: tuple[float, float, float]
    cell_arcsec: float
    size: tuple[int, int]
    channels: int
    frequency_hz: tuple[float, float]
    velocity_km_s: tuple[float, float]
    frame: str
    restfreq_hz: float
    channel_width_hz: float
    effective_bandwidth_hz: float
    peak: float
    peak_velocity_km_s: float
    peak_ra_deg: float
    peak_dec_deg: float
    flux: float
    observed_rms: float | None
    theoretical_rms: float | None
    theory_missing: str
    free_channels: Spans
    line_channels: Spans
    extra_edges: tuple[int, int]
    spectra: int


@attrs.frozen(kw_only=True)
class Emission:
    """Emission outside the line channels, looked for in one way."""

    found: bool
    significance: float
    spans: Spans
    velocity_km_s: tuple[tuple[float, float], ...]


@attrs.frozen(kw_only=True)
class Judgement:
    """What is judged in combined images.

    `masked_fraction`: of voxels where spectra were taken, but for the edges; None where nothing was observed.
    """

    masked_fraction: float | None
    contaminated: bool
    contamination_depth: float
    contamination_velocity_km_s: tuple[tuple[float, float], ...]
    at_peak: Emission | None
    extended: Emission | None


@attrs.frozen(kw_only=True)
class RasterProblem:
    """A raster that could not be analysed: `kind` is gap (no rows or maps are known) or incomplete."""

    ms: str
    antenna: str
    kind: str


@attrs.frozen(kw_only=True)
class Analysis:
    """Numbers of one image, and the file (in the stage's folder) with the arrays of its pictures."""

    name: str
    numbers: MapNumbers
    judgement: Judgement | None
    problems: tuple[RasterProblem, ...] = attrs.field(converter=as_tuple)
    arrays: str


@attrs.frozen(eq=False, kw_only=True)
class Subject:
    """An image to look at: the combined one of a plan, or that of one antenna."""

    plan: MapPlan
    image: str
    antenna: str = ""

    @property
    def name(self) -> str:
        return self.image

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(m for m in self.plan.members if self.antenna in ("", m.antenna_name))


def analyse(ctx: ItemContext, subject: Subject) -> Analysis:
    """Measure one image; arrays for the pictures go to a file in the stage's folder."""
    scratch = ctx.stage_dir / "scratch" / subject.image
    try:
        cube = read_cube(ctx, subject.image, scratch / "cube.npy")
        return _analyse(ctx, subject, cube)
    finally:
        forget(scratch)


def _analyse(ctx: ItemContext, subject: Subject, cube: Cube) -> Analysis:
    plan, values = subject.plan, cube.values
    count = values.shape[0]
    nchan = plan.group.nchan
    combined = not subject.antenna
    lines = plan.lines.to_image(nchan, plan.edge, plan.is_reversed)
    deviation = SpectralRanges.of([s for m in subject.members for s in plan.deviation[m].spans])
    wild = deviation.to_image(nchan, plan.edge, plan.is_reversed).mask(count)
    air = plan.atmosphere.to_image(nchan, plan.edge, plan.is_reversed).mask(count)
    counts = cubes.valid_counts(values)
    edges = cubes.extra_edges(counts)
    inner = cubes.inside(count, edges)
    free = inner & ~lines.mask(count) & ~wild
    extents, problems = _extents(plan, subject.members)
    region = sensitivity.inner_region(
        values.shape[1:], list(extents.values()), cube.cell_arcsec, cube.beam[0], (cube.x0, cube.y0)
    )
    observed = sensitivity.observed_rms(values, region, free)
    theory, missing = _theory(plan, subject.members, extents, cube)
    velocity = cube.velocity_km_s
    wanted = lines.mask(count) if lines else inner
    clip = _clip(5 * (observed or theory or 0.0), cube.weight)
    whole = cubes.moments(values, velocity, wanted, clip)
    arrays: dict[str, Any] = {
        "integrated": whole.integrated, "velocity": whole.velocity, "peak": whole.peak, "weight": cube.weight,
        "frequency_hz": cube.frequency_hz, "velocity_km_s": velocity,
        "spectrum": cubes.weighted_spectrum(values, cube.weight), "region": region,
        "sky": np.array([cube.ra_deg, cube.dec_deg, cube.cell_arcsec, cube.x0, cube.y0, *cube.beam]),
    }  # fmt: skip
    judgement = None
    spectra_used = 0
    if combined:
        near, spectra_used = _baselines(ctx, subject, cube, arrays)
        judgement = _judge(cube, near, lines.mask(count), inner, air, edges, arrays)
        for k, (low, high) in enumerate(_shown(lines.spans, count)):
            bins = cubes.channel_bins(low, high, PANELS)
            arrays[f"line{k}_bins"] = np.array(bins)
            arrays[f"line{k}_planes"] = cubes.binned_planes(values, bins)
            moments = cubes.moments(values, velocity, SpectralRanges.of([(low, high)], IMAGE).mask(count), clip)
            arrays[f"line{k}_integrated"], arrays[f"line{k}_velocity"] = moments.integrated, moments.velocity
    _profiles(cube, arrays, detailed=combined)
    file = ctx.stage_dir / "arrays" / f"{subject.image}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    numbers = _numbers(subject, cube, whole, observed, theory, missing, free, lines, edges, spectra_used)
    return Analysis(
        name=subject.image, numbers=numbers, judgement=judgement, problems=problems,
        arrays=str(file.relative_to(ctx.stage_dir)),
    )  # fmt: skip


def _clip(level: float, weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """A level for pixels of median weight, higher where noise is: it goes with one over the root of the weight."""
    some = weight[weight > 0]
    middle = float(np.median(some)) if some.size else 1.0
    return np.asarray(level * np.sqrt(middle / np.where(weight > 0, weight, np.inf).clip(max=middle)), float)


def _numbers(
    subject: Subject, cube: Cube, whole: cubes.Moments, observed: float | None, theory: float | None, missing: str,
    free: NDArray[np.bool_], lines: SpectralRanges, edges: tuple[int, int], spectra_used: int,
) -> MapNumbers:  # fmt: skip
    plan, velocity = subject.plan, cube.velocity_km_s
    peak = np.nan_to_num(whole.peak, nan=-np.inf)
    row, column = (int(v) for v in np.unravel_index(int(np.argmax(peak)), peak.shape))
    at_peak = np.nan_to_num(np.asarray(cube.values[:, row, column], float), nan=-np.inf)
    within = lines.mask(velocity.size) if lines else np.ones(velocity.size, bool)
    channel = int(np.argmax(np.where(within, at_peak, -np.inf)))
    ra, dec = _sky(cube, column, row)
    area = cube.cell_arcsec**2
    total = float(np.nansum(whole.integrated)) * area
    if cube.unit.lower().startswith("jy"):
        total /= math.pi / (4 * math.log(2)) * plan.geometry.beam_arcsec**2
    return MapNumbers(
        unit=cube.unit, beam=cube.beam, cell_arcsec=cube.cell_arcsec,
        size=(int(cube.values.shape[2]), int(cube.values.shape[1])), channels=int(cube.values.shape[0]),
        frequency_hz=(float(cube.frequency_hz[0]), float(cube.frequency_hz[-1])),
        velocity_km_s=(float(velocity[0]), float(velocity[-1])), frame=cube.frame, restfreq_hz=cube.restfreq_hz,
        channel_width_hz=plan.channel_width_hz, effective_bandwidth_hz=plan.bandwidth_hz,
        peak=float(whole.peak[row, column]), peak_velocity_km_s=float(velocity[channel]), peak_ra_deg=ra,
        peak_dec_deg=dec, flux=total, observed_rms=observed, theoretical_rms=theory, theory_missing=missing,
        free_channels=cubes.spans_of(free), line_channels=tuple((int(a), int(b)) for a, b in lines.spans),
        extra_edges=edges, spectra=spectra_used,
    )  # fmt: skip


def _sky(cube: Cube, column: int, row: int) -> tuple[float, float]:
    """Direction of a pixel (SIN projection)."""
    cell = math.radians(cube.cell_arcsec / 3600)
    east, north = (cube.x0 - column) * cell, (row - cube.y0) * cell
    dec0 = math.radians(cube.dec_deg)
    height = math.sqrt(max(0.0, 1 - east**2 - north**2))
    dec = math.asin(north * math.cos(dec0) + height * math.sin(dec0))
    ra = math.radians(cube.ra_deg) + math.atan2(east, height * math.cos(dec0) - north * math.sin(dec0))
    return math.degrees(ra) % 360.0, math.degrees(dec)


def _extents(
    plan: MapPlan, members: tuple[Member, ...]
) -> tuple[dict[Member, RasterExtent], list[RasterProblem]]:
    """Rasters of the members that have one, and those that cannot be analysed."""
    found, problems = {}, []
    for member in members:
        rows, table = plan.rows_of(member), plan.tables[member.origin]
        rows = rows[np.asarray(table["online_valid"][rows]).any(axis=1)]
        ra, dec = plan.positions(member, rows)
        row_id, map_id = (np.asarray(table[c][rows]) for c in ("raster_row", "raster_map"))
        if not ((row_id >= 0) & (map_id >= 0)).any():
            problems.append(RasterProblem(ms=member.origin, antenna=member.antenna_name, kind="gap"))
            continue
        extent = sensitivity.raster_extent(ra, dec, table["interval_s"][rows], row_id, map_id)
        if extent is None:
            problems.append(RasterProblem(ms=member.origin, antenna=member.antenna_name, kind="incomplete"))
        else:
            found[member] = extent
    return found, problems


def _theory(
    plan: MapPlan, members: tuple[Member, ...], extents: dict[Member, RasterExtent], cube: Cube
) -> tuple[float | None, str]:
    """The theoretical rms, and why it is missing."""
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
            parts.append(
                PolarizationData(
                    on_s=float(exposure[good].sum()), off_s=plan.off_s[member], factor=factor,
                    tsys_k=float(np.mean(table["tsys_k"][rows][good, pol])), bandwidth_hz=plan.bandwidth_hz,
                    extent=extents[member],
                )
            )  # fmt: skip
    rules = plan.rules
    value = sensitivity.theoretical_rms(parts, cube.cell_arcsec, rules.kernel_1d, rules.kernel_2d)
    return value, "" if value is not None else "; ".join(sorted(missing)) or "no valid spectrum"


def _baselines(ctx: ItemContext, subject: Subject, cube: Cube, arrays: dict[str, Any]) -> tuple[Any, int]:
    """Rms of the baselines and number of spectra over the map; return the pixels where spectra were taken.

    Spectra that a later stage flagged were taken, too: a hole that flags tear into an image must show. Those that the
    telescope, or the import of its flags, declared bad were not.
    """
    plan = subject.plan
    x, y, rms, taken = [], [], [], []
    for member in subject.members:
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


def _judge(
    cube: Cube, near: NDArray[np.bool_], lines: NDArray[np.bool_], inner: NDArray[np.bool_], air: NDArray[np.bool_],
    edges: tuple[int, int], arrays: dict[str, Any],
) -> Judgement:  # fmt: skip
    values, velocity = cube.values, cube.velocity_km_s
    masked = None
    if near.any() and inner.any():
        bad = sum(int((~np.isfinite(block[inner[part]][:, near])).sum()) for part, block in cubes.blocks(values, inner))
        masked = bad / (int(inner.sum()) * int(near.sum()))
    dirt = contamination.judge(values, edges, air)
    if dirt is not None:
        arrays["dirt_snr"], arrays["dirt_mask"], arrays["dirt_spectrum"] = dirt.peak_snr, dirt.mask, dirt.spectrum
        arrays["dirt_noise"] = np.array(dirt.noise)
    # A deviation mask hides no channels here: a strong line that nobody found is what makes one.
    missed = missedlines.search(values, cube.weight, inner & ~lines & ~air, cube.beam_pixels)
    for name, look in (("peak", missed.peak), ("extended", missed.extended)):
        if look is not None:
            arrays[f"missed_{name}_where"], arrays[f"missed_{name}_spectrum"] = look.where, look.spectrum
    return Judgement(
        masked_fraction=masked, contaminated=bool(dirt and dirt.contaminated),
        contamination_depth=dirt.depth if dirt else 0.0,
        contamination_velocity_km_s=_velocities(dirt.spans if dirt else (), velocity),
        at_peak=_emission(missed.peak, velocity), extended=_emission(missed.extended, velocity),
    )  # fmt: skip


def _emission(look: missedlines.Missed | None, velocity: NDArray[np.float64]) -> Emission | None:
    if look is None:
        return None
    return Emission(
        found=look.found, significance=look.significance, spans=look.spans,
        velocity_km_s=_velocities(look.spans, velocity),
    )  # fmt: skip


def _velocities(spans: Spans, velocity: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    return tuple((float(min(velocity[a], velocity[b])), float(max(velocity[a], velocity[b]))) for a, b in spans)


def _shown(spans: Any, count: int) -> list[tuple[int, int]]:
    """Channels of the channel maps of each line: a fifth more on either side, to see where it ends."""
    found = []
    for low, high in spans:
        pad = max(2, int(0.2 * (high - low + 1)))
        found.append((max(0, int(low) - pad), min(count - 1, int(high) + pad)))
    return found


def _profiles(cube: Cube, arrays: dict[str, Any], *, detailed: bool) -> None:
    """Mean spectra of cells: a few beams wide, and half a beam wide."""
    filled = np.flatnonzero((cube.weight > 0).any(axis=0)), np.flatnonzero((cube.weight > 0).any(axis=1))
    if not (filled[0].size and filled[1].size):
        return
    (x0, x1), (y0, y1) = ((int(v[0]), int(v[-1])) for v in filled)
    beam = cube.beam[0] if math.isfinite(cube.beam[0]) else 9 * cube.cell_arcsec
    half = max(1, round(beam / cube.cell_arcsec / 2))
    for name, pixels, most in (("sparse", half, 7), ("detail", half, 48)):
        if name == "detail" and not detailed:
            continue
        edges_x, edges_y = sparse_edges(x0, x1, pixels, most), sparse_edges(y0, y1, pixels, most)
        profile = cubes.cell_spectra(cube.values, edges_x, edges_y)
        group = math.ceil(profile.shape[2] / DETAIL_CHANNELS)
        if group > 1:
            whole = profile.shape[2] // group * group
            profile = profile[:, :, :whole].reshape(*profile.shape[:2], -1, group).mean(axis=3)
        arrays[name], arrays[f"{name}_group"] = profile, np.array(group)
        centres = [(np.array(e[:-1]) + np.array(e[1:]) - 1) / 2 for e in (edges_x, edges_y)]
        arrays[f"{name}_x"] = (cube.x0 - centres[0]) * cube.cell_arcsec
        arrays[f"{name}_y"] = (centres[1] - cube.y0) * cube.cell_arcsec


def load(stage_dir: Path, analysis: Analysis) -> Any:
    """The arrays of an analysis, read on demand by name."""
    return np.load(stage_dir / analysis.arrays, allow_pickle=False)
