"""Scores of the stages from continuum to images.

Maps are those of the reference pipeline (2026) unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pl_hif.stages.findcont import FindcontResult
from pl_hif.stages.makeimages import MadeImage, MakeimagesResult
from pl_hif.stages.makeimlist import MakeimlistResult
from pl_hif.stages.uvcontsub import UvcontsubResult
from pl_hif.targets import CONTINUUM, SIZE_MITIGATION, CleanTarget
from pl_kernel import QAScore, scorer
from pl_kernel.context import Context
from pl_kernel.qa import AppliesTo, erf_score, linear
from pl_kernel.stage import ItemFailure

DYNAMIC_RANGE = 1000.0
"""What calibration by a nearby source allows with 27 antennas; observatories' guides say a few hundred to a thousand,
and the rules for images of calibrators use it, too."""
_BASELINES = 27 * 26 / 2


def attainable_range(antennas: int) -> float:
    """Dynamic range that an array reaches without self-calibration: errors of antennas average over the baselines.

    It grows with the square root of their number (Perley 1999, ASP Conf. Ser. 180, 275); 0 antennas: not known.
    """
    baselines = antennas * (antennas - 1) / 2 if antennas > 1 else _BASELINES
    return DYNAMIC_RANGE * min(1.0, math.sqrt(baselines / _BASELINES))


@scorer(FindcontResult)
def continuum_found(result: FindcontResult) -> list[QAScore]:
    """Found of expected; a single range below 5 % of the channels 0.6; none where there was nothing to look for."""
    if result.skipped or result.refusal:
        return [_nothing("findcont.found", result.skipped, result.refusal)]
    count = len(result.found)
    scores = [
        QAScore(
            metric="findcont.found", value=count, score=count / result.expected if result.expected else 0.0,
            short=f"{count} of {result.expected} found",
            long=f"The continuum was found in {count} of {result.expected} combinations of target and window."
            + _named(result.failures),
        )
    ]  # fmt: skip
    for f in result.found:
        narrow = len(f.cube_ranges) == 1 and f.fraction < 0.05
        scores.append(
            QAScore(
                metric="findcont.fraction", value=f.fraction, score=0.6 if narrow else 1.0,
                short=f"{100 * f.fraction:.0f} % continuum",
                long=f"{f.record.field}, spw {f.record.spw}: {100 * f.fraction:.0f} % of the channels are "
                f"continuum, in "
                f"{len(f.cube_ranges)} ranges.", applies_to=AppliesTo(field=f.record.field, spw=f.record.spw),
            )
        )  # fmt: skip
    return scores


@scorer(UvcontsubResult)
def continuum_subtracted(result: UvcontsubResult) -> QAScore:
    """Windows in which the continuum was subtracted, of all; none where there was nothing to subtract."""
    if result.skipped or result.refusal:
        return _nothing("uvcontsub.applied", result.skipped, result.refusal)
    done = len(result.subtractions)
    expected = done + len(result.failures)
    return QAScore(
        metric="uvcontsub.applied", value=done, score=done / expected if done else 0.0,
        short=f"{done} of {expected} fits" if done else "Nothing subtracted",
        long=(f"The continuum was subtracted in {done} of {expected} combinations of field and window."
              if done else "The continuum was subtracted nowhere.") + _named(result.failures),
    )  # fmt: skip


def _nothing(metric: str, skipped: str, refusal: str) -> QAScore:
    """No score where there was nothing to do, 0 where the images would be too large."""
    return QAScore(
        metric=metric, value=0, score=0.0 if refusal else None,
        short="Images too large" if refusal else "Nothing to do", long=refusal or skipped,
    )  # fmt: skip


def _named(failures: Sequence[ItemFailure]) -> str:
    """The first failures, as sentences."""
    return "".join(f" {f.item}: {f.reason.rstrip('.')}." for f in failures[:3])


@scorer(MakeimlistResult)
def images_listed(result: MakeimlistResult, context: Context) -> list[QAScore]:
    """Listed of expected; continuum images with windows whose continuum nobody knows.

    The latter counts only where hif_findcont has looked: a continuum recipe uses all channels on purpose. One window of
    several 0.9, half of them 0.6, more 0.5, all 0.3 (reference pipeline, 2026). Where hif_checkproductsize refused, 0.
    Short spacings that the telescope's rule leaves out 0.9: flux density of extended emission is missing then.
    """
    if result.refusal:
        return [QAScore(metric="imlist.listed", value=0, score=0.0, short="Images too large", long=result.refusal)]
    if not result.expected:
        return [
            QAScore(
                metric="imlist.listed", value=0, score=None, short="Nothing to image",
                long=result.nothing or "There is nothing to image.",
            )
        ]  # fmt: skip
    count = len(result.targets)
    scores = [
        QAScore(
            metric="imlist.listed", value=count, score=min(1.0, count / result.expected),
            short=f"{count} of {result.expected} listed",
            long=f"{count} of {result.expected} images could be listed." + "".join(f" {f.item}: "
            f"{f.reason}" for f in result.failures),
        )
    ]  # fmt: skip
    for t in result.targets:
        if t.uvrange and "uvrange" in t.reasons:
            scores.append(
                QAScore(
                    metric="imlist.uvrange", value=t.uvrange, score=0.9, short="Short spacings left out",
                    long=f"{t.field}: {t.reasons['uvrange']}. With uvrange='>0.0lambda' all are used.",
                    applies_to=AppliesTo(field=t.field, spw=t.spws),
                )
            )  # fmt: skip
        if t.intent == "TARGET" and t.specmode in ("cont", "mfs") and CONTINUUM in context.values:
            score, text = _continuum_score(t)
            scores.append(
                QAScore(
                    metric="imlist.continuum", value=len(t.without_continuum), score=score,
                    short="Continuum known" if score == 1.0 else "Continuum unknown", long=f"{t.field}: {text}.",
                    applies_to=AppliesTo(field=t.field, spw=t.spws),
                )
            )  # fmt: skip
    return scores


def _continuum_score(t: CleanTarget) -> tuple[float, str]:
    """How many of the windows of a continuum image have no known continuum."""
    lacking = len(t.without_continuum)
    count = len(set(t.spws) | set(t.without_continuum))
    if not lacking:
        return 1.0, f"{len(t.continuum)} continuum ranges are used"
    if lacking == count:
        return 0.3, "no continuum ranges are known, so lines may be in the continuum image"
    text = f"{lacking} of {count} windows are left out, as no continuum was found in them"
    if lacking == 1 and lacking < count / 2:
        return 0.9, text
    return (0.6 if lacking == 2 or 2 * lacking == count else 0.5), text


@scorer(MakeimagesResult)
def images_made(result: MakeimagesResult, context: Context | None = None) -> list[QAScore]:
    """Made of expected; failed or diverged 0; noise against what is to be expected; what is left in the residual, and
    what of it belongs to sources; dynamic range.

    The noise ratio is 1 at 1 and falls to 0.34 at 5 (the reference's map for its images with known sensitivity).
    Expected is what the visibilities' own scatter promises, and a thousandth of the peak (more for few antennas):
    calibration without self-calibration leaves about that. The VLA's map of dynamic range (0 at 5, 1 at 100) is
    applied to calibrators; a faint target is no fault of the image.
    """
    if not result.expected:
        refused = context is not None and (context.values.get(SIZE_MITIGATION) or {}).get("status") == "ERROR"
        text = "The images would be too large: hif_checkproductsize says why." if refused else "No image was listed."
        return [
            QAScore(
                metric="images.made", value=0, score=0.0 if refused else None, short="Nothing to image", long=text
            )
        ]
    made = [i for i in result.images if not i.diverged]
    scores = [
        QAScore(
            metric="images.made", value=len(made), score=len(made) / result.expected,
            short=f"{len(made)} of {result.expected} images", long=f"{len(made)} of {result.expected} images were made."
            + "".join(f" {f.item}: {f.reason}." for f in result.failures),
        )
    ]  # fmt: skip
    for image in result.images:
        scores += _image_scores(image)
    return scores


def _image_scores(image: MadeImage) -> list[QAScore]:
    n, t = image.numbers, image.target
    where = AppliesTo(field=t.field, spw=t.spws, intent=t.intent)
    label = f"{t.field} {t.specmode}"
    if image.diverged:
        return [
            QAScore(
                metric="image.diverged", value=image.attempts[-1].residual_peak, score=0.0, short=f"{label}: diverged",
                long=f"Clean of {image.name} diverged: {image.attempts[-1].reason}.", applies_to=where,
            )
        ]  # fmt: skip
    scores = []
    if n.expected_rms > 0 and math.isfinite(n.rms):
        best = attainable_range(n.antennas or t.antennas)
        limit = n.peak / best
        expected = math.hypot(n.expected_rms, limit)
        ratio = n.rms / expected
        scores.append(
            QAScore(
                metric="image.noise_ratio", value=ratio, score=erf_score(ratio, 1.0, 5.0, 0.34),
                short=f"{label}: noise {ratio:.2f} × expected",
                long=f"The noise of {image.name} is {_jy(n.rms)}, {ratio:.2f} times what is to be expected: the "
                f"scatter of the visibilities promises {_jy(n.expected_rms)}"
                + (f", a dynamic range of {best:.0f} at a peak of {_jy(n.peak)} allows {_jy(limit)}."
                   if limit > 2 * n.expected_rms else ".") + _cause(n.rms, n.expected_rms, limit), applies_to=where,
            )
        )  # fmt: skip
        left = image.attempts[-1].residual_peak / expected
        scores.append(
            QAScore(
                metric="image.residual", value=left, score=erf_score(left, 15.0, 60.0, 0.34),
                short=f"{label}: residual peak {left:.0f} × noise",
                long=f"The largest residual of {image.name} is {_jy(image.attempts[-1].residual_peak)}, {left:.0f} "
                "times the expected noise." + (" The cleaning is too shallow." if left > 30 else ""), applies_to=where,
            )
        )  # fmt: skip
    else:
        scores.append(
            QAScore(
                metric="image.noise_ratio", value=n.rms, score=0.0, short=f"{label}: no noise",
                long=f"The noise of {image.name} could not be measured.", applies_to=where,
            )
        )  # fmt: skip
    if image.islands:
        scores.append(_convergence(image))
    if t.intent != "TARGET" and n.rms > 0:
        dynamic = n.peak / n.rms
        scores.append(
            QAScore(
                metric="image.dynamic_range", value=dynamic, score=linear(dynamic, 5.0, 100.0, 0.0, 1.0),
                short=f"{label}: dynamic range {dynamic:.0f}",
                long=f"The peak of {image.name} is {dynamic:.0f} times its noise.", applies_to=where,
            )
        )  # fmt: skip
    return scores


def _cause(rms: float, thermal: float, limit: float) -> str:
    """What is to be done about noise that is not that of the receivers: more than twice it.

    Up to twice what errors of calibration leave of the peak they explain it; more than that they do not.
    """
    if rms <= 2 * thermal:
        return ""
    if rms <= 2 * limit:
        return " Errors of the calibration that are left explain it; self-calibration would lower it."
    return (
        " Errors of the calibration do not explain it: sidelobes do, of what was not cleaned or lies outside the "
        "image, or bad data that were not flagged."
    )


def _convergence(image: MadeImage) -> QAScore:
    """What clean failed to find of the worst island, relative to the brightest: 1 up to 2 %, 0.34 at 5 %.

    The fit cannot see what fits the data as well as the truth does; on simulated fields it saw a half to a quarter of
    what was missing, so that 5 % seen are 10 % and more.
    """
    brightest = max(i.flux_jy for i in image.islands)
    worst = max(image.islands, key=lambda i: i.lost * i.flux_jy)
    off = worst.lost * worst.flux_jy / brightest
    score = max(0.34, linear(off, 0.02, 0.05, 1.0, 0.34))
    where = f"the source at pixel ({worst.pixel[0]}, {worst.pixel[1]})"
    return QAScore(
        metric="image.convergence", value=off, score=score, short=f"{image.target.field}: {100 * off:.1f} % left over",
        long=f"The residual of {image.name} fits {100 * worst.missing:.1f} % of the flux density of {where}, "
        f"{100 * off:.1f} % of the brightest source beyond noise and what is below clean's threshold."
        + (f" Clean could not separate the sources, whose sidelobes reach {100 * image.sidelobe:.0f} %: flux densities "
           "and spectral indices are off by as much or more. Image more data together." if score < 0.9 else ""),
        applies_to=AppliesTo(field=image.target.field, spw=image.target.spws, intent=image.target.intent),
    )  # fmt: skip


def _jy(value: float) -> str:
    """A flux density per beam in the unit one reads it in."""
    if abs(value) >= 1:
        return f"{value:.3g} Jy/beam"
    return f"{1e3 * value:.3g} mJy/beam" if abs(value) >= 1e-3 else f"{1e6 * value:.3g} µJy/beam"
