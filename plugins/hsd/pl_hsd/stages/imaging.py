"""Make cubes from single-dish spectra, and judge them."""

from __future__ import annotations

from typing import Any

import attrs

from pl_hsd import mapmaking
from pl_hsd.imageanalysis import Analysis, Judgement, MapNumbers, Subject, analyse, label
from pl_hsd.imagenoise import RasterProblem
from pl_hsd.imageplan import MapPlan, plan_maps
from pl_hsd.mapmaking import GridJob
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.context import Beam, ImageRecord
from pl_kernel.effects import Effect, RegisterImage
from pl_kernel.errors import CasaError
from pl_kernel.params import as_tuple
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import ItemContext, StageContext


class ImagingInputs(Inputs):
    mode: str = param(
        "line", choices=("line", "ampcal"),
        doc="line: one image of all execution blocks per antenna, and their combination; ampcal: one image per "
        "measurement set and antenna.",
    )  # fmt: skip
    restfreq: dict[str, str] | str = param(
        "", doc="Rest frequency such as 230.538GHz, for all windows or by virtual spw; default that of the source."
    )
    field: str = param("", doc="Fields to image, by name; empty: all targets.")
    spw: str = param("", doc="Virtual spws to image, such as 17,19; empty: all science windows.")


@attrs.frozen(kw_only=True)
class SdImage:
    """One image: file in the work folder, what it is of, and what was measured in it.

    `antenna` is empty for combined images; `spw` is a virtual id; `vis` are the imported measurement sets. `numbers`
    are missing for images of single correlations.
    """

    name: str
    label: str
    field: str
    spw: int
    antenna: str
    stokes: str
    vis: tuple[str, ...] = attrs.field(converter=as_tuple)
    numbers: MapNumbers | None = None
    judgement: Judgement | None = None
    arrays: str = ""

    @property
    def combined(self) -> bool:
        """Whether all antennas are in it."""
        return not self.antenna


@attrs.frozen(kw_only=True)
class Absent:
    """An antenna of which no spectra are left for a map: all were flagged before."""

    label: str
    antenna: str
    field: str
    spw: int


class ImagingResult(Result):
    """Images, the number of maps that were to be made, antennas without any spectra, and rasters that could not be
    analysed."""

    images: tuple[SdImage, ...]
    expected: int
    absent: tuple[Absent, ...] = ()
    raster_problems: tuple[RasterProblem, ...] = ()


class Imaging(Stage[ImagingInputs, ImagingResult]):
    """Make a cube per antenna, combine them, and judge the images.

    For every science window and target the spectra of all execution blocks are gridded (tsdimaging with a spheroidal
    function) antenna by antenna, then averaged with the weights of the gridding; pixels with less than a tenth of the
    median weight are masked. The map holds the positions of all antennas, with 9 pixels per beam (the observatory's
    rules may differ), and its channels ascend in frequency, LSRK. Correlations XX and YY give Stokes I.

    Measured are the noise of the channels without lines, inside the raster, and the noise that the radiometer equation
    promises; for combined images also masked pixels, emission at the OFF position (a dip where the map is empty), and
    lines outside the ranges that hsd_baseline found. Each image is read once. Formulas and thresholds are those of the
    reference pipeline (2026), but for what the functions in pl_hsd.heuristics say; the latest hsd_baseline counts for
    edges and line ranges.
    """

    name = "hsd_imaging"
    topic = "imaging"
    page_reads = frozenset()

    def run(self, ctx: StageContext, inputs: ImagingInputs) -> ImagingResult:
        split = inputs.mode == "ampcal"
        plans, problems = plan_maps(
            ctx, vis=inputs.vis, field=inputs.field, spw=inputs.spw, restfreq=inputs.restfreq, split=split
        )
        failures = [ItemFailure(p.partition(":")[0], p.partition(": ")[2]) for p in problems]
        made, failed, absent = _make(ctx, plans, split)
        failures += failed
        for other in (m for m in made if m.subject is None):
            label(ctx, other.plan, other.name, other.stokes)
        subjects = [s for s in made if isinstance(s.subject, Subject)]
        analyses = ctx.map(analyse, [s.subject for s in subjects], label="analysis", on_error="collect")
        known: dict[str, Analysis] = {a.name: a for a in analyses if isinstance(a, Analysis)}
        failures += [a for a in analyses if isinstance(a, ItemFailure)]
        for failure in failures:
            ctx.log.error(f"{failure.item}: {failure.reason}")
        for vis in _old_bandwidths(ctx, plans):
            ctx.log.attention(
                f"{vis} was observed before October 2015, when effective bandwidths were written wrong: the theoretical"
                " noise of its images is not reliable."
            )
        images = [_image(m, known.get(m.name)) for m in made]
        rasters = dict.fromkeys(p for a in known.values() for p in a.problems)
        effects: list[Effect] = [
            RegisterImage(r) for m, i in zip(made, images, strict=True) for r in _records(m, i, self.name)
        ]
        return ImagingResult(
            images=tuple(images), expected=len(plans) + len(problems), absent=absent, raster_problems=tuple(rasters),
            failures=tuple(failures), effects=tuple(effects),
        )  # fmt: skip


def _old_bandwidths(ctx: StageContext, plans: list[MapPlan]) -> list[str]:
    """Measurement sets from ALMA's cycles 0 to 2, in which EFFECTIVE_BW is not right (reference pipeline, 2026)."""
    names = dict.fromkeys(m.origin for p in plans for m in p.members)
    sets = [ctx.context.measurement_set(name) for name in names]
    old = [ms for ms in sets if (ms.start.year, ms.start.month) < (2015, 10)]
    return [ms.name for ms in old if ctx.telescope(ms).is_called("ALMA")]


_NO_ROWS = "Data selection ended with 0 rows"
"""What CASA says of an antenna whose spectra were all flagged before the baselines: none of them came through."""


@attrs.frozen(eq=False, kw_only=True)
class _Made:
    """An image that exists."""

    plan: MapPlan
    name: str
    stokes: str
    antenna: str
    subject: Subject | None


@attrs.frozen(eq=False, kw_only=True)
class _Combination:
    plan: MapPlan
    stokes: str
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.plan.image_name(self.stokes)


def _make(
    ctx: StageContext, plans: list[MapPlan], split: bool
) -> tuple[list[_Made], list[ItemFailure], tuple[Absent, ...]]:  # fmt: skip
    """Grid every antenna and combine them; return what exists, what failed, and antennas that have no spectra."""
    jobs = [(p, s, a, p.grid_job(s, a)) for p in plans for s in _stokes(p) for a in p.antennas]
    gridded = ctx.map(_grid_one, [j for *_, j in jobs], label="gridding", on_error="collect")
    failures = [g for g in gridded if isinstance(g, ItemFailure)]
    good = [job for job, answer in zip(jobs, gridded, strict=True) if isinstance(answer, str) and answer]
    gone = {(id(p), a): p for (p, _, a, _), answer in zip(jobs, gridded, strict=True) if answer == ""}
    absent = tuple(
        Absent(label=p.label, antenna=a, field=p.group.field_name, spw=int(p.group.spw)) for (_, a), p in gone.items()
    )
    for one in absent:
        ctx.log.attention(f"{one.label}: no spectra of {one.antenna} are left, so there is no image of it.")
    single = [
        _Made(plan=p, name=j.name, stokes=s, antenna=a,
              subject=Subject(plan=p, image=j.name, stokes=s, antenna=a) if s == _stokes(p)[0] else None)
        for p, s, a, j in good
    ]  # fmt: skip
    if split:
        return single, failures, absent
    unions = [
        _Combination(plan=p, stokes=s, parts=tuple(j.name for q, t, _, j in good if q is p and t == s))
        for p in plans
        for s in _stokes(p)
    ]
    for union in unions:
        if not union.parts:
            failures.append(ItemFailure(union.plan.label, "no antenna has an image"))
    unions = [u for u in unions if u.parts]
    answers = ctx.map(_combine_one, unions, label="combination", on_error="collect")
    failures += [a for a in answers if isinstance(a, ItemFailure)]
    whole = [
        _Made(plan=u.plan, name=u.name, stokes=u.stokes, antenna="",
              subject=Subject(plan=u.plan, image=u.name, stokes=u.stokes) if u.stokes == _stokes(u.plan)[0] else None)
        for u, answer in zip(unions, answers, strict=True)
        if not isinstance(answer, ItemFailure)
    ]  # fmt: skip
    return [*whole, *single], failures, absent


def _stokes(plan: MapPlan) -> list[str]:
    """Planes to image: the sum of both correlations, or the only one; each by itself where the rules say so."""
    both = len(plan.correlations) >= 2
    first = "I" if both else plan.correlations[0]
    return [first, "".join(plan.correlations[:2])] if both and plan.rules.raw_correlations else [first]


def _grid_one(ctx: ItemContext, job: GridJob) -> str:
    """Name of the image; empty when no spectra are left to grid, since all were flagged."""
    try:
        problem = mapmaking.grid(ctx, job)
    except CasaError as error:
        if _NO_ROWS not in f"{error} {error.detail}":
            raise
        return ""
    if problem:
        raise PlError(f"{problem}.")
    return job.name


def _combine_one(ctx: ItemContext, union: _Combination) -> str:
    problem = mapmaking.combine(ctx, list(union.parts), union.name)
    if problem:
        raise PlError(f"{problem}.")
    return union.name


def _image(made: _Made, analysis: Analysis | None) -> SdImage:
    group = made.plan.group
    return SdImage(
        name=made.name, label=made.plan.label, field=group.field_name, spw=int(group.spw), antenna=made.antenna,
        stokes=made.stokes,
        vis=tuple(dict.fromkeys(m.origin for m in made.plan.members if made.antenna in ("", m.antenna_name))),
        numbers=analysis.numbers if analysis else None, judgement=analysis.judgement if analysis else None,
        arrays=analysis.arrays if analysis else "",
    )  # fmt: skip


def _records(made: _Made, image: SdImage, stage: str) -> list[ImageRecord]:
    """Products: combined images with their weights; those of single antennas where the rules say so."""
    if made.antenna and not made.plan.rules.register_antennas:
        return []
    n = image.numbers
    statistics: dict[str, float] = {}
    if n:
        found: dict[str, Any] = {
            "rms": n.observed_rms, "peak": n.peak, "theoretical_rms": n.theoretical_rms,
            "bandwidth_hz": n.channel_width_hz, "effective_bandwidth_hz": n.effective_bandwidth_hz,
            "cell_arcsec": n.cell_arcsec,
        }  # fmt: skip
        statistics = {key: value for key, value in found.items() if value is not None}
    beam = Beam(major_arcsec=n.beam[0], minor_arcsec=n.beam[1], pa_deg=n.beam[2]) if n else None
    common: dict[str, Any] = {
        "field": image.field, "intent": "TARGET", "spws": (image.spw,), "specmode": "cube", "stokes": image.stokes,
        "stage": stage,
    }  # fmt: skip
    unit = n.unit if n else ""
    return [
        ImageRecord(name=image.name, kind="image", beam=beam, unit=unit, statistics=statistics, **common),
        ImageRecord(name=f"{image.name}.weight", kind="weight", **common),
    ]
