"""Make the listed images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from pl_hif import measure
from pl_hif.heuristics import imaging
from pl_hif.measure import ImageNumbers
from pl_hif.targets import CLEAN_LIST, CleanTarget
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.context import Beam, ImageRecord
from pl_kernel.effects import Effect, RegisterImage, SetValue
from pl_kernel.serialize import from_json
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import ItemContext, StageContext

KINDS = ("image", "image.pbcor", "residual", "mask", "psf", "pb", "model", "alpha", "alpha.error")
_NSIGMA = {"auto": 4.0, "regions": 3.0, "centralregion": 5.0, "none": 5.0}
"""How deep to clean, by the trust in the mask; auto and the last two are the reference pipeline's (2026)."""
_SKY = (
    "image",
    "image.pbcor",
    "residual",
    "mask",
    "psf",
    "pb",
    "model",
    "sumwt",
    "gridwt",
    "weight",
    "alpha",
    "alpha.error",
)


class MakeimagesInputs(Inputs):
    hm_masking: str = param(
        "auto", choices=("auto", "regions", "centralregion", "none"),
        doc="Clean within masks that CASA finds (auto), within the line regions of hif_findcont (regions; auto "
        "where there are none),"
        " within the inner primary beam, or everywhere.",
    )  # fmt: skip
    hm_nsigma: float | None = param(
        None,
        unit="sigma",
        doc="Clean down to this multiple of the residual's noise; default 3 in regions, 4 in automatic masks, else 5.",
        minimum=0.5,
    )
    threshold: float | None = param(
        None, unit="Jy", doc="Clean down to this flux density per beam instead.", minimum=0.0
    )
    hm_cyclefactor: float | None = param(None, doc="CASA's cyclefactor; larger is more careful.", minimum=0.1)
    niter: int | None = param(None, doc="Most minor cycles; default from mask and peak.", minimum=0)
    retries: int = param(1, doc="How often a diverging image is tried again, more carefully.", minimum=0, maximum=3)


@attrs.frozen(kw_only=True)
class Attempt:
    """One deconvolution: how careful, how it ended."""

    gain: float
    cyclefactor: float
    nsigma: float
    niter: int
    masking: str
    stop_code: int
    iterations: int
    major_cycles: int
    residual_peak: float
    threshold_jy: float | None
    diverged: bool
    reason: str


@attrs.frozen(kw_only=True)
class MadeImage:
    """One image: its target, files in the work folder by kind, numbers, and how clean went."""

    target: CleanTarget
    name: str
    files: dict[str, str]
    numbers: ImageNumbers
    dirty_peak: float
    attempts: tuple[Attempt, ...] = attrs.field(converter=tuple)
    moments: dict[str, str] = attrs.field(factory=dict)

    @property
    def diverged(self) -> bool:
        return self.attempts[-1].diverged


class MakeimagesResult(Result):
    """Images made; those that failed are among the failures."""

    images: tuple[MadeImage, ...]
    expected: int


class Makeimages(Stage[MakeimagesInputs, MakeimagesResult]):
    """Make the listed images.

    For each target a dirty image first; its peak and noise decide how many cycles cleaning may take. Then clean,
    within masks, down to a multiple of the noise: of the residual as CASA sees it, or of the line-free channels of a
    cube. Masks are CASA's own automatic ones, or regions given as text, so that CASA alone can repeat every image. A
    residual that grew, or a stop code of divergence, has the image tried again with half the gain and twice the
    cyclefactor, and is reported if that fails.

    Noise is measured where the primary beam is between 0.2 and 0.3, outside the mask; for cubes as the median over the
    channels free of lines (reference pipeline, 2026). Cubes get moment images over their line channels: integrated
    intensity (0), velocity (1, above 5 sigma) and peak (8). One failing image does not stop the others; it is a
    failure of the result and scores 0.
    """

    name = "hif_makeimages"
    topic = "imaging"

    def check(self, ctx: StageContext, inputs: MakeimagesInputs) -> None:
        if not ctx.value(CLEAN_LIST, []):
            raise PlError("There is no list of images to make: run hif_makeimlist before hif_makeimages.")

    def run(self, ctx: StageContext, inputs: MakeimagesInputs) -> MakeimagesResult:
        pending = [from_json(t, CleanTarget) for t in ctx.value(CLEAN_LIST, [])]
        jobs = []
        for target in pending:
            masks = ctx.heuristic("imaging.automask", band=target.band)(
                target.intent, target.specmode, target.baseline_75_m
            )
            named = attrs.evolve(target, imagename=target.imagename.replace("STAGENUMBER", str(ctx.stage_number)))
            jobs.append(_Job(target=named, inputs=inputs, automask=masks))
        made = ctx.map(make_one, jobs, label="images", on_error="collect")
        images = [m for m in made if isinstance(m, MadeImage)]
        failures = [m for m in made if isinstance(m, ItemFailure)]
        failures += [
            ItemFailure(i.name, f"clean diverged and did not recover: {i.attempts[-1].reason}")
            for i in images
            if i.diverged
        ]
        for failure in failures:
            ctx.log.error(f"{failure.item}: {failure.reason}")
        effects: list[Effect] = [SetValue(CLEAN_LIST, [])]
        effects += [RegisterImage(r) for image in images for r in _records(image, self.name)]
        return MakeimagesResult(
            images=tuple(images), expected=len(jobs), failures=tuple(failures), effects=tuple(effects)
        )


@attrs.frozen(kw_only=True)
class _Job:
    target: CleanTarget
    inputs: MakeimagesInputs
    automask: dict[str, Any]

    @property
    def name(self) -> str:
        return self.target.imagename


def make_one(ctx: ItemContext, job: _Job) -> MadeImage:
    """Make one image: dirty, cleaned, tried again if need be, measured."""
    target, stem = job.target, job.target.imagename
    _remove(ctx, stem)
    common = _common(target)
    ctx.casa.tclean(**common, niter=0, restoration=False, calcpsf=True, calcres=True)
    dirty = measure.plane_statistics(ctx, f"{stem}.residual", target)
    if not dirty.peak > 0:
        raise PlError(f"The dirty image of {target.field}, spw {','.join(map(str, target.spws))} is empty.")
    attempts: list[Attempt] = []
    for number in range(1 + job.inputs.retries):
        if number:
            ctx.log.warning(f"{stem}: {attempts[-1].reason}; trying again with a lower gain.")
            _remove(ctx, stem)
        attempts.append(_clean(ctx, job, common, dirty, number))
        if not attempts[-1].diverged:
            break
    numbers = measure.image_numbers(ctx, stem, target)
    files = {k: path for k in KINDS if Path(path := measure.image_path(stem, k)).is_dir()}
    if "image" not in files:
        raise PlError(f"CASA made no image of {target.field}; its log says why.")
    moments = measure.moments(ctx, stem, target, numbers) if target.specmode == "cube" else {}
    return MadeImage(
        target=target,
        name=stem,
        files=files,
        numbers=numbers,
        dirty_peak=dirty.peak,
        attempts=attempts,
        moments=moments,
    )


def _common(target: CleanTarget) -> dict[str, Any]:
    """Arguments of tclean that are the same in every call for a target."""
    arguments: dict[str, Any] = {
        "vis": [s.path for s in target.selections], "field": [s.field for s in target.selections],
        "spw": [s.spw for s in target.selections], "datacolumn": target.selections[0].column,
        "imagename": target.imagename, "imsize": list(target.imsize), "cell": f"{target.cell_arcsec}arcsec",
        "stokes": target.stokes, "specmode": "cube" if target.specmode == "cube" else "mfs", "gridder": target.gridder,
        "deconvolver": target.deconvolver, "weighting": target.weighting, "robust": target.robust,
        "pblimit": target.pblimit, "savemodel": "none", "parallel": False,
    }  # fmt: skip
    if target.phasecenter:
        arguments["phasecenter"] = target.phasecenter
    if target.deconvolver == "mtmfs":
        arguments["nterms"] = target.nterms
    if target.specmode == "cube" and target.start_hz is not None and target.width_hz is not None:
        arguments |= {
            "start": f"{target.start_hz:.3f}Hz", "width": f"{target.width_hz:.6f}Hz", "nchan": target.nchan,
            "outframe": target.outframe, "interpolation": target.interpolation,
            "perchanweightdensity": target.perchanweightdensity, "restfreq": f"{target.restfreq_hz:.3f}Hz",
        }  # fmt: skip
    return arguments


def _clean(ctx: ItemContext, job: _Job, common: dict[str, Any], dirty: measure.PlaneStatistics, number: int) -> Attempt:
    """One deconvolution; ``number`` counts the attempts, each half as bold as the one before."""
    target, inputs = job.target, job.inputs
    masking = inputs.hm_masking
    if masking == "regions" and not target.regions:
        masking = "auto"
    mask: dict[str, Any] = {}
    if masking == "auto":
        mask = {"usemask": "auto-multithresh", **job.automask}
    elif masking == "regions":
        mask = {"usemask": "user", "mask": list(target.regions)}
    elif masking == "centralregion":
        mask = {"usemask": "pb", "pbmask": 0.3}
    nsigma = inputs.hm_nsigma or _NSIGMA[masking]
    gain = 0.1 / 2**number
    cyclefactor = (inputs.hm_cyclefactor or 1.0) * 2**number
    # CASA's nsigma takes the noise of each plane with its sidelobes; the line-free planes know the noise of a cube
    # better.
    threshold = inputs.threshold
    if threshold is None and target.specmode == "cube" and target.continuum and dirty.mad_sigma > 0:
        threshold = float(f"{nsigma * dirty.mad_sigma:.4g}")
    floor = threshold or nsigma * dirty.mad_sigma
    niter = inputs.niter or imaging.iterations(
        target.imsize[0], target.cell_arcsec, target.beam_estimate_arcsec, dirty.peak, floor
    )
    fresh = number > 0
    report = ctx.casa.tclean(
        **common, **mask, niter=niter, gain=gain, cyclefactor=cyclefactor, interactive=False, calcpsf=fresh,
        calcres=fresh,
        restoration=True, pbcor=True, restoringbeam="common" if target.specmode == "cube" else None,
        nsigma=0.0 if threshold else nsigma, threshold=f"{threshold or 0.0}Jy",
    )  # fmt: skip
    report = report or {}
    after = measure.largest(ctx, f"{target.imagename}.residual")
    stop = int(report.get("stopcode", 0))
    health = imaging.clean_health(dirty.peak, after, stop)
    return Attempt(
        gain=gain, cyclefactor=cyclefactor, nsigma=nsigma, niter=niter, masking=masking, stop_code=stop,
        iterations=int(report.get("iterdone", 0)), major_cycles=int(report.get("nmajordone", 0)),
        residual_peak=after, threshold_jy=threshold, diverged=health.diverged, reason=health.reason,
    )  # fmt: skip


def _remove(ctx: ItemContext, stem: str) -> None:
    """Remove what an earlier attempt left: tclean would go on from it."""
    for kind in _SKY:
        terms = (f"{stem}.{kind}.tt{i}" for i in range(5))  # nterms = 3 has five of the point spread function
        for path in (f"{stem}.{kind}", *terms, f"{stem}.image.tt0.pbcor"):
            if Path(path).exists():
                ctx.files.rmtree(path)


def _records(image: MadeImage, stage: str) -> list[ImageRecord]:
    t, n = image.target, image.numbers
    beam = Beam(major_arcsec=n.beam[0], minor_arcsec=n.beam[1], pa_deg=n.beam[2]) if n.beam else None
    statistics = {"peak": n.peak, "rms": n.rms, "minimum": n.minimum, "residual_peak": image.attempts[-1].residual_peak}
    found = [*image.files.items(), *image.moments.items()]
    return [
        ImageRecord(
            name=path, field=t.field, intent=t.intent, spws=t.spws, specmode=t.specmode, stokes=t.stokes,
            kind={"image.pbcor": "pbcor"}.get(kind, kind), stage=stage, beam=beam, unit=n.unit,
            statistics=statistics if kind == "image" else {},
        )
        for kind, path in found
    ]  # fmt: skip
