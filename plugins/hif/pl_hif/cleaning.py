"""Deconvolution of one image: dirty image, masks, thresholds, rounds of cleaning, health."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hif import beams, measure
from pl_hif.heuristics import imaging, masks, nearfield
from pl_hif.targets import CleanTarget
from pl_kernel import PlError
from pl_kernel.stage_context import ItemContext

NSIGMA = {
    "auto": 4.0, "multithresh": 4.0, "peaks": 2.0, "regions": 3.0, "manual": 5.0, "centralregion": 5.0, "none": 5.0,
}  # fmt: skip
"""How deep to clean, by the trust in the mask; of automatic masks and the last two, the reference pipeline's (2026).
Islands fit so tightly that there is no noise to fit; at 3 sigma an extended source lost 1 % more."""
MOST_ROUNDS = 10
MOST_MAJOR_CYCLES = 300
"""What the observatory's pipeline allows for the VLA (2026): an image that needs more does not converge."""
SHALLOW_ITERATIONS = 50
"""Minor cycles of a first look with automatic masks in a continuum image (reference pipeline, 2026)."""
MINOR_DEPTH = 0.3
"""Within islands, the minor cycles of one major cycle may go down to this part of the peak. It is what the
observatory's cyclefactor of 3 means for a full array, with sidelobes of 10 %; with the sidelobes of few antennas the
same cyclefactor would ask for three times the major cycles and change nothing. At 0.1 images of two Taylor terms
diverged."""
SIDELOBE_DEPTH = 0.5
"""A round ends at this part of the sidelobes of the highest peak that is not in the mask yet."""
_SKY = (
    "image", "image.pbcor", "residual", "mask", "psf", "pb", "model", "sumwt", "gridwt", "weight", "alpha",
    "alpha.error",
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Settings:
    """What the user may set; None leaves it to the rules."""

    masking: str = "auto"
    nsigma: float | None = None
    threshold_jy: float | None = None
    cyclefactor: float | None = None
    niter: int | None = None
    tlimit: float | None = None
    drcorrect: float | None = None
    clean_continuum: bool = False
    """Clean the central region of a cube in channels of the continuum, too."""
    mask: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """Files or region text to clean within, where the masking is manual."""
    more: dict[str, Any] = attrs.field(factory=dict)
    """Arguments of CASA's tclean that the user sets by hand."""
    restoring_beam: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """Beam of a cube's planes (major, minor, angle), where the cube is a part of a larger one; else CASA finds it."""
    automask: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Round:
    """One call of clean within islands: what it found, how deep it went; Jy/beam."""

    islands: int
    mask_pixels: int
    level: float
    noise: float
    peak: float
    threshold: float
    iterations: int
    major_cycles: int
    residual_peak: float


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
    rounds: tuple[Round, ...] = attrs.field(default=(), converter=tuple)


@attrs.frozen(kw_only=True)
class Dirty:
    """The dirty image: peak and noise, what the visibilities promise (0: not known), antennas that have some that are
    not flagged, sidelobes, beam in pixels."""

    peak: float
    mad_sigma: float
    thermal: float
    antennas: int = 0
    sidelobe: float = 0.0
    beam_px: float = 0.0


def common_arguments(target: CleanTarget) -> dict[str, Any]:
    """Arguments of tclean that are the same in every call for a target."""
    arguments: dict[str, Any] = {
        "vis": [s.path for s in target.selections], "field": [s.field for s in target.selections],
        "spw": [s.spw for s in target.selections], "datacolumn": target.selections[0].column,
        "imagename": target.imagename, "imsize": list(target.imsize), "cell": f"{target.cell_arcsec}arcsec",
        "stokes": target.stokes, "specmode": "cube" if target.specmode == "cube" else "mfs", "gridder": target.gridder,
        "deconvolver": target.deconvolver, "weighting": target.weighting, "robust": target.robust,
        "pblimit": target.pblimit, "savemodel": "none", "parallel": False,
    }  # fmt: skip
    if target.npixels:
        arguments["npixels"] = target.npixels
    if target.mosweight is not None:
        arguments["mosweight"] = target.mosweight
    if target.uvrange:
        arguments["uvrange"] = target.uvrange
    if target.uvtaper:
        arguments["uvtaper"] = list(target.uvtaper)
    if target.gridder == "wproject":
        arguments["wprojplanes"] = target.wprojplanes
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


def make_dirty(ctx: ItemContext, target: CleanTarget) -> Dirty:
    """Make the dirty image and look at it; raises PlError when it is empty."""
    stem = target.imagename
    ctx.casa.tclean(**common_arguments(target), niter=0, restoration=False, calcpsf=True, calcres=True)
    seen = measure.plane_statistics(ctx, f"{stem}.residual", target)
    if not seen.peak > 0:
        raise PlError(f"The dirty image of {target.field}, spw {','.join(map(str, target.spws))} is empty.")
    promised = measure.expected_noise(ctx, target)
    dirty = Dirty(
        peak=seen.peak, mad_sigma=seen.mad_sigma, thermal=promised.rms * target.noise_factor,
        antennas=promised.antennas,
    )  # fmt: skip
    if target.specmode == "cube":
        return dirty
    beam = measure.beam_of(ctx, measure.image_path(stem, "psf"))
    if beam is None:
        raise PlError(f"CASA found no beam for {target.field}: the point spread function has no main lobe.")
    pixels = (beam[0] / target.cell_arcsec, beam[1] / target.cell_arcsec, beam[2])
    return attrs.evolve(
        dirty, beam_px=pixels[1],
        sidelobe=masks.sidelobe_level(measure.plane(ctx, measure.image_path(stem, "psf")), pixels),
    )  # fmt: skip


def deconvolve(ctx: ItemContext, target: CleanTarget, settings: Settings, dirty: Dirty, number: int) -> Attempt:
    """Clean; ``number`` counts the attempts, each half as bold as the one before."""
    masking = _masking(target, settings.masking)
    nsigma = settings.nsigma or NSIGMA[masking]
    gain = 0.1 / 2**number
    cyclefactor = (settings.cyclefactor or 1.0) * 2**number
    task = common_arguments(target) | {
        "gain": gain, "cyclefactor": cyclefactor, "interactive": False, "nmajor": MOST_MAJOR_CYCLES
    } | settings.more  # fmt: skip
    settings = _deepened(settings, dirty)
    if number:
        ctx.casa.tclean(**common_arguments(target), niter=0, restoration=False, calcpsf=True, calcres=True)
    rounds: list[Round] = []
    report: dict[str, Any] = {}
    threshold = settings.threshold_jy
    if target.specmode != "cube" and masking in ("peaks", "centralregion"):
        rounds, report = _clean_islands(ctx, target, settings, dirty, task, central=masking == "centralregion")
        threshold = rounds[-1].threshold if rounds else threshold
    if masking != "peaks" or target.specmode == "cube":
        threshold = settings.threshold_jy
        # CASA's nsigma takes the noise of each plane with its sidelobes; the line-free planes know the noise of a cube
        # better.
        if threshold is None and target.specmode == "cube" and target.continuum and dirty.mad_sigma > 0:
            threshold = float(f"{nsigma * dirty.mad_sigma:.4g}")
        if masking == "multithresh" and target.specmode != "cube" and target.intent == "TARGET":
            report, nsigma = _clean_automatic(ctx, target, settings, dirty, task, nsigma, threshold)
        else:
            report = _clean_once(ctx, target, settings, dirty, task, masking, nsigma, threshold)
        empty = int(report.get("stopcode", 0)) == 7 and masking == "multithresh"
        if empty and target.specmode != "cube":
            # CASA's masks take the sidelobes of few antennas for noise, and find nothing.
            masking, nsigma = "peaks", NSIGMA["peaks"]
            rounds, report = _clean_islands(ctx, target, settings, dirty, task, central=False)
            threshold = rounds[-1].threshold if rounds else threshold
        elif empty:
            found = _cube_islands(ctx, target, dirty)
            if found:
                masking, nsigma = "peaks", NSIGMA["peaks"]
                threshold = settings.threshold_jy or float(f"{nsigma * max(dirty.mad_sigma, dirty.thermal):.4g}")
                report = _clean_once(ctx, target, settings, dirty, task, masking, nsigma, threshold, found)
    if target.specmode != "cube":
        _correct_for_beam(ctx, target)
    after = measure.largest(ctx, f"{target.imagename}.residual")
    stop = int(report.get("stopcode", 0))
    health = imaging.clean_health(dirty.peak, after, stop)
    majors, minors = sum(r.major_cycles for r in rounds), sum(r.iterations for r in rounds)
    if masking != "peaks" or not rounds:
        majors, minors = majors + int(report.get("nmajordone", 0)), minors + int(report.get("iterdone", 0))
    return Attempt(
        gain=gain, cyclefactor=cyclefactor, nsigma=nsigma, niter=_niter(target, settings, dirty, nsigma),
        masking=masking, stop_code=stop, iterations=minors, major_cycles=majors, residual_peak=after,
        threshold_jy=threshold, diverged=health.diverged, reason=health.reason, rounds=rounds,
    )  # fmt: skip


def _deepened(settings: Settings, dirty: Dirty) -> Settings:
    """The threshold of ``tlimit``: a multiple of the noise that the visibilities promise, times ``drcorrect``."""
    if settings.threshold_jy is not None or settings.tlimit is None or not dirty.thermal > 0:
        return settings
    return attrs.evolve(
        settings, threshold_jy=float(f"{settings.tlimit * dirty.thermal * (settings.drcorrect or 1.0):.4g}")
    )


def _masking(target: CleanTarget, wanted: str) -> str:
    """The kind of masks for an image: islands for one plane, CASA's automatic masks for the planes of a cube."""
    if wanted == "regions" and target.regions and target.specmode == "cube":
        return wanted
    if wanted in ("auto", "regions"):
        return "multithresh" if target.specmode == "cube" else "peaks"
    if wanted == "peaks" and target.specmode == "cube":
        return "multithresh"
    return wanted


def _niter(target: CleanTarget, settings: Settings, dirty: Dirty, nsigma: float) -> int:
    floor = settings.threshold_jy or nsigma * (dirty.thermal or dirty.mad_sigma)
    if settings.niter is not None:
        return settings.niter
    return imaging.iterations(
        target.imsize[0], target.cell_arcsec, target.beam_estimate_arcsec, dirty.peak, floor
    )


def _clean_once(
    ctx: ItemContext, target: CleanTarget, settings: Settings, dirty: Dirty, task: dict[str, Any], masking: str,
    nsigma: float, threshold: float | None, regions: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Clean within one mask, down to a threshold or a multiple of the noise."""
    mask: dict[str, Any] | None = {}
    if masking == "multithresh":
        mask = {"usemask": "auto-multithresh", **settings.automask}
    elif masking in ("regions", "peaks"):
        mask = {"usemask": "user", "mask": regions or list(target.regions)}
    elif masking == "manual":
        mask = {"usemask": "user", "mask": list(settings.mask)}
    elif masking == "centralregion":
        mask = _central_mask(ctx, target, settings)
    _remove_mask(ctx, target.imagename)
    most = _niter(target, settings, dirty, nsigma) if mask is not None else 0
    report = ctx.casa.tclean(
        **task, **(mask or {}), niter=most, calcpsf=False, calcres=False, restoration=True,
        pbcor=target.specmode == "cube", restoringbeam=_restoring(ctx, target, settings),
        nsigma=0.0 if threshold else nsigma, threshold=f"{threshold or 0.0}Jy",
    )  # fmt: skip
    return report or {}


_CENTRAL = 0.3
"""Where the primary beam is above this is the central region."""


def _central_mask(ctx: ItemContext, target: CleanTarget, settings: Settings) -> dict[str, Any] | None:
    """The inner primary beam; in a cube with known continuum only in the channels outside that, None without any.

    Of mosaics, whose response is no circle, every channel is cleaned.
    """
    whole = {"usemask": "pb", "pbmask": _CENTRAL}
    if target.specmode != "cube" or not target.continuum or settings.clean_continuum or target.gridder == "mosaic":
        return whole
    response = np.nan_to_num(measure.plane(ctx, measure.image_path(target.imagename, "pb")))
    radius = float(np.sqrt((response > _CENTRAL).sum() / np.pi))
    x, y = (n // 2 for n in target.imsize)
    runs = masks.line_channels(target.start_hz or 0.0, target.width_hz or 0.0, target.nchan, target.continuum)
    if not runs:
        return None
    if not radius:
        return whole
    circle = f"circle[[{x}pix,{y}pix],{radius:.1f}pix]"
    return {"usemask": "user", "mask": [f"{circle}, range=[{a}chan,{b}chan]" for a, b in runs]}


def _clean_automatic(
    ctx: ItemContext, target: CleanTarget, settings: Settings, dirty: Dirty, task: dict[str, Any], nsigma: float,
    threshold: float | None,
) -> tuple[dict[str, Any], float]:  # fmt: skip
    """Clean a continuum image of a target within CASA's automatic masks: a shallow look, then the real thing.

    The look (50 minor cycles, no pruning of small islands) shows how much noisier the surroundings of the sources are
    than the rest; mask thresholds and depth of the second call are raised by that (reference pipeline, 2026). Returns
    the report and the depth in sigma.
    """
    first = attrs.evolve(settings, automask=settings.automask | {"minbeamfrac": 0.0}, niter=SHALLOW_ITERATIONS)
    report = _clean_once(ctx, target, first, dirty, task, "multithresh", nsigma, threshold)
    if int(report.get("stopcode", 0)) in (5, 6, 7):
        return report, nsigma
    ratio = _near_field_ratio(ctx, target)
    if ratio > 1:
        ctx.log.info(f"{target.imagename}: the noise near the sources is {ratio:.2f} times that elsewhere.")
    raised = {
        k: v * ratio if k in ("noisethreshold", "lownoisethreshold", "negativethreshold") else v
        for k, v in settings.automask.items()
    }
    depth = nsigma if settings.nsigma else nsigma * ratio
    return _clean_once(
        ctx, target, attrs.evolve(settings, automask=raised), dirty, task, "multithresh", depth, threshold
    ), depth


def _near_field_ratio(ctx: Any, target: CleanTarget) -> float:
    """How much noisier the surroundings of the mask are than the rest of the image; at least 1."""
    stem = target.imagename
    image, psf = (measure.image_path(stem, kind) for kind in ("image", "psf"))
    beam = measure.beam_of(ctx, image)
    if beam is None or not Path(f"{stem}.mask").is_dir():
        return 1.0
    width = beam[0] / target.cell_arcsec
    scale = nearfield.las_arcsec(measure.wavelength_m(ctx, image), target.baseline_5_m) / target.cell_arcsec
    return nearfield.near_field_ratio(
        measure.plane(ctx, image), measure.plane(ctx, f"{stem}.mask") > 0.5, width,
        nearfield.largest_scale_px(measure.plane(ctx, psf), width, scale),
    )  # fmt: skip


def restoring_beam(ctx: Any, psfs: Sequence[str]) -> tuple[str, ...]:
    """Beam of a cube for CASA, with a word about planes whose beam is too unusual to count; empty where there is none.
    """
    found = beams.common_beam(ctx, psfs)
    if found is None:
        return ()
    if found.left_out:
        listed = ", ".join(map(str, found.left_out[:10])) + (" ..." if len(found.left_out) > 10 else "")
        ctx.log.warning(
            f"{len(found.left_out)} planes have beams unlike the others (channels {listed}): the cube is restored with "
            f"{found.text[0]} x {found.text[1]}, the common beam without them."
        )
    return found.text


def _restoring(ctx: Any, target: CleanTarget, settings: Settings) -> str | list[str] | None:
    if target.specmode != "cube":
        return None
    return list(settings.restoring_beam or restoring_beam(ctx, [f"{target.imagename}.psf"])) or "common"


def _clean_islands(
    ctx: ItemContext, target: CleanTarget, settings: Settings, dirty: Dirty, task: dict[str, Any], central: bool
) -> tuple[list[Round], dict[str, Any]]:
    """Clean in islands of significant emission, round by round, until there is nothing new and nothing left in them.

    The first rounds see only what stands out of the sidelobes of the brightest sources; when these are cleaned, the
    sidelobes are gone and fainter sources show.
    """
    stem = target.imagename
    response = np.nan_to_num(measure.plane(ctx, measure.image_path(stem, "pb")))
    # A calibrator's mask is the main lobe; a target's field reaches into the sidelobes of the primary beam.
    allowed = response > (0.3 if central else target.pblimit)
    core = np.zeros(response.shape, bool)
    islands = 0
    rounds: list[Round] = []
    report: dict[str, Any] = {}
    for k in range(MOST_ROUNDS):
        residual = measure.plane(ctx, measure.image_path(stem, "residual"))
        restored = measure.plane(ctx, measure.image_path(stem, "image")) if k else None
        found = masks.significant(
            residual, restored=restored, response=response, known=core, thermal=dirty.thermal, sidelobe=dirty.sidelobe,
            beam_px=dirty.beam_px, allowed=allowed,
        )  # fmt: skip
        threshold = settings.threshold_jy or _threshold(settings, found, residual, dirty, not rounds)
        peak = float(np.nanmax(residual[found.mask])) if found.count else 0.0
        finished = found.count <= islands and (peak < 1.3 * threshold or threshold > 0.7 * rounds[-1].threshold)
        if rounds and finished:
            break
        if not found.count and not central:
            ctx.log.info(f"{stem}: no emission above the noise; the image is the dirty one.")
        core, islands = found.core, found.count
        _remove_mask(ctx, stem)
        boxes = masks.rectangles(found.mask, max(1, round(dirty.beam_px / 3)))
        report = ctx.casa.tclean(
            **{"maxpsffraction": MINOR_DEPTH, **task}, usemask="user", mask=masks.region_text(boxes), calcpsf=False,
            calcres=False, restoration=True, niter=_niter(target, settings, dirty, 3.0) if boxes else 0,
            threshold=f"{threshold:.4g}Jy",
        ) or {}  # fmt: skip
        rounds.append(
            Round(
                islands=found.count, mask_pixels=int(found.mask.sum()), level=found.level, noise=found.noise, peak=peak,
                threshold=float(f"{threshold:.4g}"), iterations=int(report.get("iterdone", 0)),
                major_cycles=int(report.get("nmajordone", 0)), residual_peak=measure.largest(ctx, f"{stem}.residual"),
            )
        )  # fmt: skip
        ctx.log.info(
            f"{stem}: round {k + 1}, {found.count} islands of {int(found.mask.sum())} pixels, "
            f"cleaned from {peak:.3g} to {threshold:.3g} Jy/beam."
        )
        if not boxes or int(report.get("stopcode", 0)) in (1, 5, 6) or rounds[-1].residual_peak > 1.1 * dirty.peak:
            break
    return rounds, report


def _threshold(
    settings: Settings, found: masks.Islands, residual: NDArray[np.floating], dirty: Dirty, first: bool
) -> float:
    """A few sigma of the whole residual, but no deeper than the sidelobes of what is not yet in the mask.

    Before anything is cleaned the noise of the residual is sidelobes, and may be near the peak: the first round cleans
    at least the upper half of it, as far as that is above the noise that the visibilities promise.
    """
    nsigma = settings.nsigma or NSIGMA["peaks"]
    sigma = max(masks.robust_sigma(residual), dirty.thermal)
    deep = max(nsigma * sigma, SIDELOBE_DEPTH * dirty.sidelobe * found.unmasked_peak)
    return max(nsigma * dirty.thermal, min(deep, 0.5 * dirty.peak)) if first else deep


def _cube_islands(ctx: ItemContext, target: CleanTarget, dirty: Dirty) -> list[str]:
    """Where CASA's automatic masks found nothing in a cube: islands of the highest channel of each pixel."""
    stem = target.imagename
    peak = np.fmax.reduce(list(measure.planes(ctx, f"{stem}.residual")))
    response = np.nan_to_num(measure.plane(ctx, f"{stem}.pb"))
    beam = measure.beam_of(ctx, f"{stem}.psf")
    if beam is None:
        return []
    pixels = (beam[0] / target.cell_arcsec, beam[1] / target.cell_arcsec, beam[2])
    found = masks.significant(
        peak, restored=None, response=response, known=np.zeros(peak.shape, bool), beam_px=pixels[1],
        # The highest of many channels is noisier than one of them; a sigma more covers hundreds of channels.
        thermal=1.2 * max(dirty.mad_sigma, dirty.thermal),
        sidelobe=masks.sidelobe_level(measure.plane(ctx, f"{stem}.psf"), pixels),
    )  # fmt: skip
    return masks.region_text(masks.rectangles(found.mask, max(1, round(pixels[1] / 3))))


def _correct_for_beam(ctx: ItemContext, target: CleanTarget) -> None:
    """Divide the image by the primary beam, once, after the last round (what clean itself does, in every call)."""
    image, pb = (measure.image_path(target.imagename, kind) for kind in ("image", "pb"))
    if Path(image).is_dir() and Path(pb).is_dir():
        ctx.files.rmtree(f"{image}.pbcor")
        ctx.casa.immath(
            imagename=[image, pb], mode="evalexpr", expr="IM0/IM1", imagemd=image, outfile=f"{image}.pbcor"
        )


def _remove_mask(ctx: ItemContext, stem: str) -> None:
    """Remove the mask of an earlier call: clean would go on using it."""
    if Path(f"{stem}.mask").is_dir():
        ctx.files.rmtree(f"{stem}.mask")


def remove_products(ctx: ItemContext, stem: str) -> None:
    """Remove what an earlier attempt left: clean would go on from it."""
    for kind in _SKY:
        terms = (f"{stem}.{kind}.tt{i}" for i in range(5))  # nterms = 3 has five of the point spread function
        for path in (f"{stem}.{kind}", *terms, f"{stem}.image.tt0.pbcor"):
            if Path(path).exists():
                ctx.files.rmtree(path)
