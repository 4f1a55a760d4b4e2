"""Make the listed images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from pl_hif import cleaning, cubeparts, grids, measure
from pl_hif.cleaning import Attempt, Dirty, Settings
from pl_hif.heuristics.taper import parse_uvtaper
from pl_hif.heuristics.uvrange import parse_uvrange
from pl_hif.islandflux import IslandFlux, island_fluxes
from pl_hif.measure import ImageNumbers
from pl_hif.targets import CLEAN_LIST, CleanTarget
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.context import Beam, ImageRecord
from pl_kernel.effects import Effect, RegisterImage, SetValue
from pl_kernel.serialize import from_json
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import ItemContext, StageContext

KINDS = ("image", "image.pbcor", "residual", "mask", "psf", "pb", "model", "alpha", "alpha.error")


class MakeimagesInputs(Inputs):
    hm_masking: str = param(
        "auto", choices=("auto", "peaks", "multithresh", "regions", "centralregion", "manual", "none"),
        doc="Clean within islands of significant emission (peaks), within masks that CASA finds (multithresh), within "
        "the line regions of hif_findcont (regions), within the inner primary beam, within a given mask (manual), or "
        "everywhere. auto, and regions where there are none: peaks for one plane, multithresh for cubes.",
    )  # fmt: skip
    mask: tuple[str, ...] = param((), doc="Mask images or CASA regions to clean within; hm_masking is manual then.")
    hm_nsigma: float | None = param(
        None,
        unit="sigma",
        doc="Clean down to this multiple of the residual's noise; default 2 in islands, 3 in regions, 4 in automatic "
        "masks, else 5.",
        minimum=0.5,
    )
    threshold: float | None = param(
        None, unit="Jy", doc="Clean down to this flux density per beam instead.", minimum=0.0
    )
    tlimit: float | None = param(
        None, doc="Clean down to this multiple of the noise that the visibilities promise instead.", minimum=0.1
    )
    drcorrect: float | None = param(None, doc="Factor on tlimit for images limited in dynamic range.", minimum=0.1)
    cleancontranges: bool = param(
        False, doc="Clean the central region of cubes (hm_masking='centralregion') in continuum channels, too."
    )
    hm_sidelobethreshold: float | None = param(None, doc="CASA's sidelobethreshold for automatic masks.", hidden=True)
    hm_noisethreshold: float | None = param(None, doc="CASA's noisethreshold for automatic masks.", hidden=True)
    hm_lownoisethreshold: float | None = param(None, doc="CASA's lownoisethreshold for automatic masks.", hidden=True)
    hm_negativethreshold: float | None = param(None, doc="CASA's negativethreshold for automatic masks.", hidden=True)
    hm_minbeamfrac: float | None = param(None, doc="CASA's minbeamfrac for automatic masks.", hidden=True)
    hm_growiterations: int | None = param(None, doc="CASA's growiterations for automatic masks.", hidden=True)
    hm_dogrowprune: bool | None = param(None, doc="CASA's dogrowprune for automatic masks.", hidden=True)
    hm_minpercentchange: float | None = param(None, doc="CASA's minpercentchange for automatic masks.", hidden=True)
    hm_fastnoise: bool | None = param(None, doc="CASA's fastnoise for automatic masks.", hidden=True)
    hm_cyclefactor: float | None = param(None, doc="CASA's cyclefactor; larger is more careful.", minimum=0.1)
    hm_minpsffraction: float | None = param(None, doc="CASA's minpsffraction: shallowest major cycle.", hidden=True)
    hm_maxpsffraction: float | None = param(None, doc="CASA's maxpsffraction: deepest major cycle.", hidden=True)
    hm_nmajor: int | None = param(None, doc="Most major cycles of a call of clean; default 300.", hidden=True)
    hm_weighting: str = param(
        "", choices=("", "briggs", "natural", "uniform", "briggsbwtaper"), doc="Weighting; default that of the list."
    )
    hm_npixels: int = param(0, doc="CASA's npixels: cells that count as one.", minimum=0, hidden=True)
    hm_perchanweightdensity: bool | None = param(None, doc="Weight each channel of a cube by itself; default yes.")
    hm_mosweight: bool | None = param(None, doc="Weight each pointing of a mosaic by itself; default as CASA does.")
    niter: int | None = param(None, doc="Most minor cycles; default from mask and peak.", minimum=0)
    retries: int = param(1, doc="How often a diverging image is tried again, more carefully.", minimum=0, maximum=3)
    hm_cleaning: str = param("", choices=("", "rms", "manual"), doc="Accepted for old recipes.", hidden=True)
    masklimit: float = param(2.0, doc="Accepted for old recipes.", hidden=True)
    calcsb: bool = param(False, doc="Accepted for old recipes.", hidden=True)
    overwrite_on_export: bool = param(True, doc="Accepted for old recipes.", hidden=True)
    parallel: str = param("automatic", doc="Accepted for old recipes.", hidden=True)

    def check_together(self) -> None:
        if self.hm_masking == "manual" and not self.mask:
            raise InputError("hm_masking='manual' needs a mask: give the parameter mask.")
        if self.mask and self.hm_masking not in ("auto", "manual"):
            raise InputError(f"A mask is given, and hm_masking is {self.hm_masking}: only manual uses a mask.")
        if self.threshold is not None and self.tlimit is not None:
            raise InputError("threshold and tlimit exclude each other: give one of them.")

    @property
    def masking(self) -> str:
        """The kind of masks: a mask makes it manual, parameters of CASA's automatic masks make it these."""
        if self.hm_masking != "auto":
            return self.hm_masking
        if self.mask:
            return "manual"
        return "multithresh" if self.automask else "auto"

    @property
    def automask(self) -> dict[str, Any]:
        """What the user sets of CASA's automatic masks. -999 is the observatories' word for unset."""
        return {
            name: value for name in AUTOMASK if (value := getattr(self, f"hm_{name}")) is not None and value != _UNSET
        }

    @property
    def tclean(self) -> dict[str, Any]:
        """Arguments of CASA's tclean that the user sets by hand, but for those that change the weights."""
        given = {
            "minpsffraction": self.hm_minpsffraction, "maxpsffraction": self.hm_maxpsffraction,
            "nmajor": self.hm_nmajor,
        }  # fmt: skip
        return {k: v for k, v in given.items() if v is not None and v != _UNSET}


AUTOMASK = (
    "sidelobethreshold", "noisethreshold", "lownoisethreshold", "negativethreshold", "minbeamfrac", "growiterations",
    "dogrowprune", "minpercentchange", "fastnoise",
)  # fmt: skip
_UNSET = -999


@attrs.frozen(kw_only=True)
class MadeImage:
    """One image: its target, files in the work folder by kind, numbers, and how clean went.

    ``islands`` are the brightest islands of a target's continuum image, with what clean left of each.
    """

    target: CleanTarget
    name: str
    files: dict[str, str]
    numbers: ImageNumbers
    dirty_peak: float
    attempts: tuple[Attempt, ...] = attrs.field(converter=tuple)
    sidelobe: float = 0.0
    moments: dict[str, str] = attrs.field(factory=dict)
    islands: tuple[IslandFlux, ...] = attrs.field(default=(), converter=tuple)

    @property
    def diverged(self) -> bool:
        return self.attempts[-1].diverged


class MakeimagesResult(Result):
    """Images made; those that failed are among the failures."""

    images: tuple[MadeImage, ...]
    expected: int


class Makeimages(Stage[MakeimagesInputs, MakeimagesResult]):
    """Make the listed images.

    For each target a dirty image first; its peak, sidelobes and noise decide how cleaning goes on.

    An image of one plane is cleaned in rounds: islands above the noise that the visibilities promise, above the noise
    of their surroundings, and above what sidelobes can reach; cleaned as deep as the sidelobes of the rest allow; then
    the residual is searched again. A calibrator's image gets a last pass over its central region. Cubes are cleaned
    within CASA's automatic masks or the line regions of hif_findcont, down to a multiple of the noise of the line-free
    channels; where the automatic masks find nothing, within islands of the highest channel. Cubes of 48 channels and
    more are made in ranges of channels, side by side when the run has several workers. All masks are CASA's own or
    regions given as text, so that CASA alone can repeat every image. A residual that grew, or a stop code of
    divergence, has the image tried again with half the gain and twice the cyclefactor, and is reported if that fails.

    The reference pipeline uses automatic masks throughout and stops at CASA's noise estimate, which takes sidelobes
    for noise when the antennas are few: it finds no mask, or stops early.

    CASA's automatic masks, where they are asked for in a continuum image of a target, are used as the reference does
    for the VLA: a shallow look of 50 minor cycles, then thresholds and depth raised by how much noisier the
    surroundings of the sources are than the rest. Planes of a cube whose beams are unlike the others do not spoil the
    common beam.

    Noise is measured where the primary beam is between 0.2 and 0.3, outside the mask; for cubes as the median over the
    channels free of lines (reference pipeline, 2026). Cubes get moment images over their line channels: integrated
    intensity (0), velocity (1, above 5 sigma) and peak (8). One failing image does not stop the others; it is a
    failure of the result and scores 0.
    """

    name = "hif_makeimages"
    page_reads = frozenset()
    topic = "imaging"

    def check(self, ctx: StageContext, inputs: MakeimagesInputs) -> None:
        if ctx.value(CLEAN_LIST) is None:
            raise PlError("There is no list of images to make: run hif_makeimlist before hif_makeimages.")

    def run(self, ctx: StageContext, inputs: MakeimagesInputs) -> MakeimagesResult:
        pending = [from_json(t, CleanTarget) for t in ctx.value(CLEAN_LIST) or []]
        jobs = []
        for target in pending:
            masks = ctx.heuristic("imaging.automask", band=target.band)(
                target.intent, target.specmode, target.baseline_75_m
            )
            named = attrs.evolve(target, imagename=target.imagename.replace("STAGENUMBER", str(ctx.stage_number)))
            weighted = _weighted(ctx, named, inputs)
            jobs.append(_Job(target=weighted, inputs=inputs, automask={**masks, **inputs.automask}))
        made = _make_all(ctx, jobs)
        images = [m for m in made if isinstance(m, MadeImage)]
        failures = [m for m in made if isinstance(m, ItemFailure)]
        failures += [
            ItemFailure(i.name, f"clean diverged and did not recover: {i.attempts[-1].reason}")
            for i in images
            if i.diverged
        ]
        for failure in failures:
            ctx.log.error(f"{failure.item}: {failure.reason}")
        effects: list[Effect] = [SetValue(CLEAN_LIST, None)]
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


def _make_all(ctx: StageContext, jobs: list[_Job]) -> list[MadeImage | ItemFailure]:
    """Images side by side, each by one worker; then large cubes one by one, each by all workers."""
    large = [len(cubeparts.parts_of(job.target)) > 1 for job in jobs]
    others = iter(
        ctx.map(make_one, [j for j, big in zip(jobs, large, strict=True) if not big], label="images",
                on_error="collect")
    )  # fmt: skip
    made: list[MadeImage | ItemFailure] = []
    for job, big in zip(jobs, large, strict=True):
        if not big:
            made.append(next(others))
            continue
        try:
            dirty, attempts = cubeparts.make_cube(ctx, job.target, _settings(job), job.inputs.retries)
            made.append(_finished(ctx, job.target, dirty, attempts))
        except PlError as error:
            made.append(ItemFailure(job.name, error.sentence))
    return made


def make_one(ctx: ItemContext, job: _Job) -> MadeImage:
    """Make one image: dirty, cleaned, tried again if need be, measured."""
    target, stem = job.target, job.target.imagename
    cleaning.remove_products(ctx, stem)
    dirty = cleaning.make_dirty(ctx, target)
    attempts: list[Attempt] = []
    for number in range(1 + job.inputs.retries):
        if number:
            ctx.log.warning(f"{stem}: {attempts[-1].reason}; trying again with a lower gain.")
            cleaning.remove_products(ctx, stem)
        attempts.append(cleaning.deconvolve(ctx, target, _settings(job), dirty, number))
        if not attempts[-1].diverged:
            break
    return _finished(ctx, target, dirty, tuple(attempts))


def _finished(ctx: Any, target: CleanTarget, dirty: Dirty, attempts: tuple[Attempt, ...]) -> MadeImage:
    """Measure an image that is made; moments of a cube."""
    stem = target.imagename
    numbers = measure.image_numbers(ctx, stem, target, dirty.thermal, dirty.antennas)
    files = {k: path for k in KINDS if Path(path := measure.image_path(stem, k)).is_dir()}
    if "image" not in files:
        raise PlError(f"CASA made no image of {target.field}; its log says why.")
    last = attempts[-1]
    depth = last.threshold_jy or (last.rounds[-1].threshold if last.rounds else last.nsigma * numbers.rms)
    moments = measure.moments(ctx, stem, target, numbers) if target.specmode == "cube" else {}
    return MadeImage(
        target=target,
        name=stem,
        files=files,
        numbers=numbers,
        dirty_peak=dirty.peak,
        sidelobe=dirty.sidelobe,
        attempts=attempts,
        moments=moments,
        islands=island_fluxes(ctx, stem, target, dirty.thermal, depth),
    )


_ROBUST = {"natural": 2.0, "uniform": -2.0}
"""What Briggs' robustness is for the two ends, as far as noise goes."""


def _weighted(ctx: StageContext, target: CleanTarget, inputs: MakeimagesInputs) -> CleanTarget:
    """The target with the weights that the user wants, and the noise that goes with them."""
    changes: dict[str, Any] = {}
    if inputs.hm_weighting and inputs.hm_weighting != target.weighting:
        changes["weighting"] = inputs.hm_weighting
        names = {s.vis for s in target.selections}
        sets = [ms for ms in ctx.context.measurement_sets if ms.name in names]
        samples = grids.selected(
            grids.uv_samples(ctx, sets, target.field, target.spws), parse_uvrange(target.uvrange)
        )
        changes["noise_factor"] = grids.noise_factor(
            samples, _ROBUST.get(inputs.hm_weighting, target.robust), max(target.imsize) * target.cell_arcsec,
            target.specmode == "cube", parse_uvtaper(target.uvtaper),
        )  # fmt: skip
    if inputs.hm_npixels:
        changes["npixels"] = inputs.hm_npixels
    if inputs.hm_perchanweightdensity is not None and target.specmode == "cube":
        changes["perchanweightdensity"] = inputs.hm_perchanweightdensity
    if inputs.hm_mosweight is not None and target.gridder == "mosaic":
        changes["mosweight"] = inputs.hm_mosweight
    return attrs.evolve(target, **changes) if changes else target


def _settings(job: _Job) -> Settings:
    i = job.inputs
    return Settings(
        masking=i.masking, nsigma=i.hm_nsigma, threshold_jy=i.threshold, cyclefactor=i.hm_cyclefactor,
        niter=i.niter, automask=job.automask, tlimit=i.tlimit, drcorrect=i.drcorrect, mask=i.mask, more=i.tclean,
        clean_continuum=i.cleancontranges,
    )  # fmt: skip


def _records(image: MadeImage, stage: str) -> list[ImageRecord]:
    t, n = image.target, image.numbers
    beam = Beam(major_arcsec=n.beam[0], minor_arcsec=n.beam[1], pa_deg=n.beam[2]) if n.beam else None
    statistics = {
        "peak": n.peak, "rms": n.rms, "minimum": n.minimum, "residual_peak": image.attempts[-1].residual_peak,
        "cell_arcsec": t.cell_arcsec, "bandwidth_hz": n.bandwidth_hz,
        "effective_bandwidth_hz": n.effective_bandwidth_hz, "theoretical_rms": n.expected_rms,
    }  # fmt: skip
    # Zero: nobody could tell.
    statistics = {k: v for k, v in statistics.items() if v or not k.startswith(("theoretical", "bandw", "effective"))}
    found = [*image.files.items(), *image.moments.items()]
    return [
        ImageRecord(
            name=path, field=t.field, intent=t.intent, spws=t.spws, specmode=t.specmode, stokes=t.stokes,
            kind={"image.pbcor": "pbcor"}.get(kind, kind), stage=stage, beam=beam, unit=n.unit,
            statistics=statistics if kind == "image" else {},
        )
        for kind, path in found
    ]  # fmt: skip
