"""What is measured in a single-dish cube: noise, edges, lines, contamination; and what its pictures need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import imagenoise
from pl_hsd.groups import Member
from pl_hsd.heuristics import contamination, cubes, missedlines, sensitivity
from pl_hsd.imagenoise import RasterProblem
from pl_hsd.imageplan import MapPlan
from pl_hsd.mapmaking import Cube, forget, read_cube
from pl_hsd.ranges import IMAGE, SpectralRanges
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

    `is_raster`: whether the source was mapped, and not looked at in a few points: else there is no theoretical rms;
    `flux`: integral over the map and the line channels, in Jy km/s (per beam of the telescope) or K km/s arcsec²;
    `extra_edges`: channels at either end without all spectra; `theory_missing`: why there is no theoretical rms.
    """

    unit: str
    is_raster: bool
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

    `contamination_depth` is None where it cannot be judged: no pixel, or no map with empty parts.
    `masked_fraction`: of voxels where spectra were taken, but for the edges; None where nothing was observed.
    """

    masked_fraction: float | None
    contaminated: bool
    contamination_depth: float | None
    contamination_velocity_km_s: tuple[tuple[float, float], ...]
    at_peak: Emission | None
    extended: Emission | None


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
    stokes: str = "I"
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
    extents, problems = imagenoise.raster_extents(plan, subject.members)
    region = imagenoise.noise_region(plan, extents, cube)
    observed = sensitivity.observed_rms(values, region, free)
    theory, missing = imagenoise.theoretical_noise(plan, subject.members, extents, cube)
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
    if plan.opacity is not None:
        low, high = plan.edge[0], nchan - plan.edge[1]
        through = np.exp(-plan.opacity[low:high])
        arrays["transmission"] = through[::-1] if plan.is_reversed else through
    judgement = None
    spectra_used = 0
    if combined:
        near, spectra_used = imagenoise.baseline_noise(ctx, plan, subject.members, cube, arrays)
        judgement = _judge(cube, plan.is_raster, near, lines.mask(count), inner, air, edges, arrays)
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
    least, most = (float(f.reduce(values, axis=None)) for f in (np.fmin, np.fmax))
    label(
        ctx, subject.plan, subject.image, subject.stokes,
        {"datamin": least, "datamax": most, "datarms": numbers.observed_rms},
    )  # fmt: skip
    return Analysis(
        name=subject.image, numbers=numbers, judgement=judgement, problems=problems,
        arrays=str(file.relative_to(ctx.stage_dir)),
    )  # fmt: skip


def label(
    ctx: ItemContext, plan: MapPlan, image: str, stokes: str, measured: Mapping[str, float | None] | None = None
) -> None:
    """Write into the image what it is of, in the keywords of the reference pipeline (at most 68 characters each).

    ``measured`` are numbers (CASA writes no FITS file where DATAMIN and DATAMAX are text); what is unknown is left out.
    """
    words = {
        "field": plan.group.field_name, "spw": plan.group.spw_name, "datatype": plan.datatype, "intent": "TARGET",
        "type": "singledish", "specmode": "cube", "stokes": stokes, "level": "member", "obspatt": "sd", "arrays": "TP",
        "session": ",".join(plan.sessions),
    }  # fmt: skip
    values = {"effbw": plan.bandwidth_hz, **(measured or {})}
    facts = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
    with ctx.casa.image(image) as opened:
        opened.setmiscinfo({**opened.miscinfo(), **{key: text[:68] for key, text in words.items() if text}, **facts})


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
        unit=cube.unit, is_raster=plan.is_raster, beam=cube.beam, cell_arcsec=cube.cell_arcsec,
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


def _judge(
    cube: Cube, mapped: bool, near: NDArray[np.bool_], lines: NDArray[np.bool_], inner: NDArray[np.bool_],
    air: NDArray[np.bool_], edges: tuple[int, int], arrays: dict[str, Any],
) -> Judgement:  # fmt: skip
    values, velocity = cube.values, cube.velocity_km_s
    masked = None
    if near.any() and inner.any():
        bad = sum(int((~np.isfinite(block[inner[part]][:, near])).sum()) for part, block in cubes.blocks(values, inner))
        masked = bad / (int(inner.sum()) * int(near.sum()))
    dirt = contamination.judge(values, edges, air) if mapped else None
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
        contamination_depth=dirt.depth if dirt else None,
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
        edges_x, edges_y = (cubes.sparse_edges(a, b, pixels, most) for a, b in ((x0, x1), (y0, y1)))
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
