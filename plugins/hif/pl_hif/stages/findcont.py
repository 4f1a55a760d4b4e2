"""Find the continuum channels of the targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import scipy

from pl_hif import grids, linefree, sizelimits
from pl_hif.heuristics import continuum as finder
from pl_hif.heuristics import imaging
from pl_hif.targets import CONTINUUM, ContinuumRecord, LineRegion, continuum_key
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.ms.contfile import ContAnswer, ContFile, ContRanges, read_contfile
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.serialize import to_json
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

TYPES = (
    DataType.SELFCAL_CONTLINE_SCIENCE, DataType.REGCAL_CONTLINE_SCIENCE, DataType.REGCAL_CONTLINE_ALL, DataType.RAW,
)  # fmt: skip
_ROBUST = 1.0
_PIXELS_PER_BEAM = 4.0


class FindcontInputs(Inputs):
    field: str = param("", doc="Names of targets, separated by commas; default all.")
    contfile: Path | None = param(
        None, doc="A cont.dat whose ranges are taken as they are; windows it does not name are searched."
    )
    robust: float = param(_ROBUST, doc="Briggs' robustness of the dirty cubes.", minimum=-2.0, maximum=2.0)
    sigma: float | None = param(
        None,
        unit="sigma",
        doc="Half-width of the band of quiet channels; default from the strength of the line.",
        minimum=0.5,
    )


@attrs.frozen(kw_only=True)
class FoundContinuum:
    """What was found in one field and window. Frequencies in Hz in ``record.frame``; spectrum in Jy per beam."""

    record: ContinuumRecord
    status: str
    frequency_hz: tuple[float, ...] = attrs.field(converter=tuple)
    spectrum: tuple[float, ...] = attrs.field(converter=tuple)
    cube_ranges: tuple[tuple[int, int], ...] = attrs.field(converter=lambda v: tuple(map(tuple, v)))
    line_hz: tuple[tuple[float, float], ...] = attrs.field(converter=lambda v: tuple(map(tuple, v)))
    threshold_high: float
    threshold_low: float
    noise: float
    peak_snr: float
    mask_pixels: int
    fraction: float
    restfreq_hz: float | None
    image: str
    reason: str


class FindcontResult(Result):
    """Continuum by field and window; what failed is among the failures.

    ``skipped``: why there was nothing to do; ``refusal``: why nothing was done.
    """

    found: tuple[FoundContinuum, ...]
    expected: int
    datatype: str
    skipped: str = ""
    refusal: str = ""


class Findcont(Stage[FindcontInputs, FindcontResult]):
    """Find the continuum channels of the targets.

    For every target and window: a small dirty cube in LSRK; a mask of the pixels that stand out in its mean or its
    largest channel; the mean spectrum within the mask; the noise of its quiet channels; runs of channels within that
    noise, trimmed where they meet a line. With the continuum subtracted from the cube, the pixels that still stand out
    give the regions of line emission.

    Ranges of a cont.dat given by the user are taken as they are. What was found is written to cont.dat (version 3), and
    so is where there is no continuum: such a window is left out of continuum images, and nothing is subtracted in it.

    Fields that hif_checkproductsize left out are not searched. There is nothing to do where the targets were split off
    for continuum only.

    The steps and the numbers are those of the reference pipeline's continuum finder (2026), without its repeats for
    line forests and bad atmosphere. The emission regions are handed on to the imaging as region text, so that CASA
    alone can repeat it.
    """

    name = "hif_findcont"
    page_reads = frozenset()
    topic = "imaging"

    def run(self, ctx: StageContext, inputs: FindcontInputs) -> FindcontResult:
        refused = sizelimits.refusal(ctx)
        if refused:
            ctx.log.error(refused)
            return FindcontResult(found=(), expected=0, datatype="", refusal=refused)
        if linefree.continuum_only(ctx.measurement_sets(inputs.vis)):
            ctx.log.info(linefree.NO_LINES)
            return FindcontResult(found=(), expected=0, datatype="", skipped=linefree.NO_LINES)
        datatype, sets = grids.best_type(ctx.measurement_sets(inputs.vis), TYPES)
        if datatype is None:
            raise PlError("There are no visibilities to look for a continuum in.")
        if datatype is DataType.RAW:
            ctx.log.warning("The data are not calibrated: the continuum channels may be wrong.")
        wanted = {n.strip() for n in inputs.field.split(",") if n.strip()} or set(
            sizelimits.decided(ctx).get("fields", ())
        )
        names = dict.fromkeys(f.name for ms in sets for f in ms.fields_with_intent("TARGET"))
        if wanted - set(names):
            raise PlError(f"There is no target called {', '.join(sorted(wanted - set(names)))}.")
        if inputs.contfile is not None and not inputs.contfile.is_file():
            raise PlError(f"There is no file of continuum ranges {inputs.contfile}.")
        given = read_contfile(inputs.contfile) if inputs.contfile is not None else ContFile()
        found: list[FoundContinuum] = []
        failures: list[ItemFailure] = []
        jobs = [
            (name, spw, having)
            for name in names
            if not wanted or name in wanted
            for spw, having in grids.windows_of(ctx, sets, name).items()
        ]
        if not jobs:
            raise PlError("No scan has the intent TARGET, so there is no target to find the continuum of.")
        for count, (name, spw, having) in enumerate(jobs, 1):
            try:
                found.append(self._one(ctx, inputs, name, spw, having, datatype, given))
            except PlError as error:
                failures.append(ItemFailure(f"{name}, spw {spw}", error.sentence))
                ctx.log.warning(f"No continuum of {name}, spw {spw}: {error.sentence}")
            ctx.progress(count, len(jobs), f"{name} spw {spw}")
        _contfile(ctx, found, failures, jobs).write(ctx.work / "cont.dat")
        records = [f.record for f in found]
        done = {r.key for r in records}
        records += [_without(name, spw) for name, spw, _ in jobs if continuum_key(name, int(spw)) not in done]
        known = {**ctx.value(CONTINUUM, {}), **{r.key: to_json(r) for r in records}}
        return FindcontResult(
            found=tuple(found), expected=len(jobs), datatype=datatype.name, failures=tuple(failures),
            effects=(SetValue(CONTINUUM, known),),
        )  # fmt: skip

    def _one(
        self, ctx: StageContext, inputs: FindcontInputs, name: str, spw: VirtualSpw, sets: Sequence[MeasurementSet],
        datatype: DataType, given: ContFile,
    ) -> FoundContinuum:  # fmt: skip
        virtual = VirtualSpws.of(ctx.context.measurement_sets)
        covered = []
        for ms in sets:
            window = ms.spw(int(virtual.to_real(spw, ms.name)))  # type: ignore[arg-type]
            field = next(f for f in ms.fields if f.name == name)
            covered.append(grids.coverage(ctx, ms, field, window))
        grid = grids.cube_grid(covered)
        beam = grids.beam_arcsec(grids.uv_samples(ctx, sets, name, [spw]), inputs.robust)
        cell = imaging.cell_arcsec(beam, _PIXELS_PER_BEAM)
        low, spread = float(grid.centres_hz().min()), grids.pointing(sets, name).spread_arcsec
        width = imaging.field_of_view_arcsec(low, grids.dish_m(sets), spread_arcsec=spread)
        size = imaging.good_size(width / cell, 64)
        image = self._dirty_cube(ctx, inputs, name, spw, sets, datatype, grid, cell, size)
        cube, response, world = _read_cube(ctx, image)
        observed = np.abs(cube).max(axis=(0, 1)) > 0
        mask, emission = finder.emission_mask(cube, response, np.flatnonzero(observed), 1.133 * _PIXELS_PER_BEAM**2)
        spectrum = np.where(observed, cube[mask].mean(axis=0), np.nan)
        seen = f"{int(mask.sum())} pixels " + (
            "with emission" if emission else "of the inner primary beam, without emission"
        )
        result = finder.find(spectrum, observed, int(mask.sum()), inputs.sigma, reason=seen)
        centres, half = grid.centres_hz(), abs(grid.width_hz) / 2
        names = virtual.names.get(spw, "")
        answer = given.query(name, spw, names)
        if answer.selection is not None:
            result = _as_given(result, answer, centres, observed, grid.outframe)
        ranges_hz = [(float(centres[a] - half), float(centres[b] + half)) for a, b in result.ranges]
        line = finder.line_channels(result.ranges, observed.tolist())
        regions: tuple[LineRegion, ...] = ()
        if result.ranges and line:
            regions = _line_regions(cube, _dirty_beam(ctx, image), response, result.ranges, line, world)
        record = ContinuumRecord(
            field=name, spw=int(spw), frame=grid.outframe, ranges_hz=ranges_hz,
            channels={
                c.vis: tuple(r for low_hz, high_hz in ranges_hz if (r := c.channels(low_hz, high_hz)) is not None)
                for c in covered
            },
            all_continuum=result.all_continuum, low_bandwidth=result.low_bandwidth, low_spread=result.low_spread,
            fit_order=result.fit_order, regions=regions,
        )  # fmt: skip
        if not result.ranges:
            raise PlError(result.reason[:1].upper() + result.reason[1:] + ".")
        field = next(f for f in sets[0].fields if f.name == name)
        source = next((s for s in sets[0].sources if s.id == field.source_id), None)
        rest = next(iter((source.rest_frequencies_hz if source else {}).get(covered[0].spw, ())), None)
        status = "all continuum" if result.all_continuum else "found"
        if answer.selection is not None:
            status = "given"
        return FoundContinuum(
            record=record, status=status, frequency_hz=centres.tolist(),
            spectrum=spectrum.tolist(), cube_ranges=result.ranges,
            line_hz=[(float(centres[a] - half), float(centres[b] + half)) for a, b in line],
            threshold_high=result.threshold_high, threshold_low=result.threshold_low, noise=result.noise,
            peak_snr=result.peak_snr, mask_pixels=result.mask_pixels,
            fraction=result.channels / max(int(observed.sum()), 1), restfreq_hz=rest, image=image, reason=result.reason,
        )  # fmt: skip

    def _dirty_cube(
        self, ctx: StageContext, inputs: FindcontInputs, name: str, spw: VirtualSpw, sets: Sequence[MeasurementSet],
        datatype: DataType, grid: grids.CubeGrid, cell: float, size: int,
    ) -> str:  # fmt: skip
        parts = grids.selections(ctx, sets, datatype, name, [spw])
        where = grids.pointing(sets, name)
        stem = ctx.path(name, f"spw{spw}", "dirty", ext="")
        for ending in ("residual", "psf", "pb", "sumwt", "gridwt", "model", "image", "mask"):
            ctx.files.rmtree(f"{stem}.{ending}")
        ctx.casa.tclean(
            vis=[p.path for p in parts], field=[p.field for p in parts], spw=[p.spw for p in parts],
            datacolumn=parts[0].column, imagename=stem, specmode="cube", start=f"{grid.start_hz:.3f}Hz",
            width=f"{grid.width_hz:.6f}Hz", nchan=grid.nchan, outframe=grid.outframe, interpolation=grid.interpolation,
            imsize=[size, size], cell=f"{cell}arcsec", gridder=where.gridder, phasecenter=where.phasecenter,
            weighting="briggs", robust=inputs.robust,
            perchanweightdensity=False, niter=0, restoration=False, pblimit=0.2, deconvolver="hogbom", stokes="I",
            parallel=False,
        )  # fmt: skip
        return stem


def _without(name: str, spw: int) -> ContinuumRecord:
    """A window without continuum channels."""
    return ContinuumRecord(
        field=name, spw=int(spw), frame="", ranges_hz=(), channels={}, all_continuum=False, low_bandwidth=True,
        low_spread=True, fit_order=0,
    )  # fmt: skip


def _as_given(
    result: finder.ContinuumRanges, answer: ContAnswer, centres: np.ndarray, observed: np.ndarray, frame: str
) -> finder.ContinuumRanges:
    """The ranges of the user's file in place of those found; the spectrum and its noise stay."""
    selection = answer.selection
    assert selection is not None
    if selection.frame.name != frame:
        raise PlError(f"The ranges of the file are in {selection.frame.name}; they must be in {frame}.")
    chosen = np.zeros(len(centres), bool)
    for low, high in selection.ranges_hz:
        chosen |= (centres >= low) & (centres <= high)
    ranges = finder.runs(chosen & observed)
    if not ranges:
        raise PlError("The ranges of the file lie outside the observed channels.")
    return attrs.evolve(
        result, ranges=tuple(ranges), all_continuum=answer.all_continuum, low_bandwidth=answer.low_bandwidth,
        low_spread=answer.low_spread, reason="ranges given by the user",
    )  # fmt: skip


def _contfile(
    ctx: StageContext, found: Sequence[FoundContinuum], failures: Sequence[ItemFailure], jobs: Sequence[Any]
) -> ContFile:
    """Everything known, for the products and for hand edits; windows without continuum say NONE."""
    names = VirtualSpws.of(ctx.context.measurement_sets).names
    done = {(f.record.field, f.record.spw): f.record for f in found}
    file = ContFile()
    for name, spw, _ in jobs:
        record = done.get((name, int(spw)))
        file = file.with_entry(
            ContRanges(
                field=name, spw=spw, spw_name=names.get(spw, ""), ranges_hz=record.ranges_hz if record else (),
                all_continuum=bool(record and record.all_continuum),
                low_bandwidth=bool(record and record.low_bandwidth),
                low_spread=bool(record and record.low_spread), none=record is None,
            )
        )  # fmt: skip
    return file


def _read_cube(ctx: StageContext, stem: str) -> tuple[np.ndarray, np.ndarray, Any]:
    """The dirty cube (nx, ny, nchan), one plane of the primary beam, and a function from pixels to degrees."""
    with ctx.casa.image(f"{stem}.residual") as image:
        cube = np.asarray(image.getchunk(dropdeg=False)[:, :, 0, :], dtype=np.float32)
        system = image.coordsys()
        reference = system.referencepixel()["numeric"]

        def world(x: float, y: float) -> tuple[float, float]:
            pixel = [float(x), float(y), *[float(v) for v in list(reference)[2:]]]
            values = system.toworld(pixel, "n")["numeric"]
            return float(np.degrees(values[0]) % 360), float(np.degrees(values[1]))

        # The tool is closed when this block ends: positions are sampled now.
        nx, ny = cube.shape[:2]
        converted = _WorldGrid.sample(world, nx, ny)
        system.done()
    with ctx.casa.image(f"{stem}.pb") as image:
        shape = image.shape()
        middle = int(shape[3]) // 2
        response = np.asarray(image.getchunk([0, 0, 0, middle], [int(shape[0]) - 1, int(shape[1]) - 1, 0, middle]))
    return cube, response.reshape(response.shape[0], response.shape[1]), converted


def _dirty_beam(ctx: StageContext, stem: str) -> np.ndarray:
    """The dirty beam of the middle plane."""
    with ctx.casa.image(f"{stem}.psf") as image:
        shape = [int(n) for n in image.shape()]
        middle = shape[3] // 2
        plane = image.getchunk([0, 0, 0, middle], [shape[0] - 1, shape[1] - 1, 0, middle])
    return np.asarray(plane).reshape(shape[0], shape[1])


@attrs.frozen(kw_only=True)
class _WorldGrid:
    """Sky position of pixels by interpolation on a coarse grid: the projection is smooth."""

    step: int
    ra_deg: np.ndarray
    dec_deg: np.ndarray

    @classmethod
    def sample(cls, world: Any, nx: int, ny: int, step: int = 16) -> _WorldGrid:
        xs, ys = range(0, nx + step, step), range(0, ny + step, step)
        points = np.array([[world(x, y) for y in ys] for x in xs])
        ra = np.degrees(np.unwrap(np.radians(points[..., 0]), axis=0))
        return cls(step=step, ra_deg=ra, dec_deg=points[..., 1])

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        at = np.array([[x / self.step], [y / self.step]])
        ra = float(scipy.ndimage.map_coordinates(self.ra_deg, at, order=1, mode="nearest")[0])
        dec = float(scipy.ndimage.map_coordinates(self.dec_deg, at, order=1, mode="nearest")[0])
        return ra % 360, dec


def _line_regions(
    cube: np.ndarray, beam: np.ndarray, response: np.ndarray, ranges: Sequence[tuple[int, int]],
    line: Sequence[tuple[int, int]], world: Any,
) -> tuple[LineRegion, ...]:  # fmt: skip
    """Boxes, one beam wider on each side, around what is left in the line channels without the continuum."""
    quiet = np.concatenate([np.arange(a, b + 1) for a, b in ranges])
    loud = np.concatenate([np.arange(a, b + 1) for a, b in line])
    # A straight line through each pixel's continuum channels.
    x = quiet - quiet.mean()
    mean = cube[:, :, quiet].mean(axis=2)
    slope = (cube[:, :, quiet] * x).sum(axis=2) / max(float((x * x).sum()), 1e-30)
    bare = cube[:, :, loud] - mean[..., None] - slope[..., None] * (loud - quiet.mean())
    mask = finder.line_mask(bare, beam, response, 1.133 * _PIXELS_PER_BEAM**2)
    if not mask.any():
        return ()
    margin = int(np.ceil(_PIXELS_PER_BEAM))
    # Neighbours closer than two beams share a box.
    labels, count = scipy.ndimage.label(scipy.ndimage.binary_dilation(mask, iterations=margin))
    found = []
    for box in scipy.ndimage.find_objects(labels, count):
        xs, ys = box
        x1, x2 = max(xs.start, 0), min(xs.stop - 1, mask.shape[0] - 1)
        y1, y2 = max(ys.start, 0), min(ys.stop - 1, mask.shape[1] - 1)
        found.append(((x2 - x1 + 1) * (y2 - y1 + 1), LineRegion(corners_deg=(world(x1, y1), world(x2, y2)))))
    return tuple(region for _, region in sorted(found, key=lambda f: -f[0]))
