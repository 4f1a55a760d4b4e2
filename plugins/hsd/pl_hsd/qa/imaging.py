"""Scores of single-dish images. Maps are those of the reference pipeline (2026) unless said otherwise."""

from __future__ import annotations

from pl_hsd.heuristics.dips import extrapolated
from pl_hsd.imageanalysis import Emission
from pl_hsd.imagenoise import RasterProblem
from pl_hsd.stages.imaging import ImagingResult, SdImage
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo, linear

RATIO_LOW, RATIO_HIGH = 0.9, 1.6
ABSENT = 0.8
"""As for an antenna whose data could not be calibrated (hsd_applycal)."""


@scorer(ImagingResult)
def images_made(result: ImagingResult) -> list[QAScore]:
    """Combined images made of those expected (in mode ampcal: maps), 0 for none; what failed is named."""
    done = {i.label for i in result.images if i.numbers is not None}
    share = min(1.0, len(done) / result.expected) if result.expected else 0.0
    failed = "".join(f" {f.item}: {f.reason}" for f in result.failures)
    worst = min(share, 0.5) if result.failures else share
    return [
        QAScore(
            metric="SingleDishImages", value=len(done), score=worst, short=f"{len(done)} of {result.expected} maps",
            long=f"{len(done)} of {result.expected} maps were made and measured.{failed}",
        )
    ]  # fmt: skip


@scorer(ImagingResult)
def antennas_absent(result: ImagingResult) -> list[QAScore]:
    """0.8 for each antenna of which no spectra are left for a map: the map is made of fewer, and noisier."""
    return [
        QAScore(
            metric="SingleDishAbsentAntenna", value=one.antenna, score=ABSENT, short=f"no image of {one.antenna}",
            long=f"{one.label}: no spectra of {one.antenna} are left, all were flagged before; the map was made "
            "without it.", applies_to=AppliesTo(field=one.field, spw=one.spw, antenna=one.antenna),
        )
        for one in result.absent
    ]  # fmt: skip


@scorer(ImagingResult)
def masked_pixels(result: ImagingResult) -> list[QAScore]:
    """Where spectra were taken: no masked pixel 1; 0.5 at 0 % falling to 0 at 10 %; nothing observed 0."""
    scores = []
    for image in _combined(result):
        share = image.judgement.masked_fraction if image.judgement else None
        if share is None:
            score, short = 0.0, "Nothing observed"
            long = f"{image.label}: the image has no pixel with a valid spectrum."
        elif share == 0:
            score, short = 1.0, "No masked pixel"
            long = f"{image.label}: no pixel is masked where spectra were taken."
        else:
            score, short = linear(share, 0.0, 0.1, 0.5, 0.0), "Masked pixels"
            long = f"{image.label}: {100 * share:.2g} % of the pixels where spectra were taken are masked."
        scores.append(
            QAScore(
                metric="SingleDishImageMaskedPixels", value=share, score=score, short=short, long=long,
                applies_to=_where(image),
            )
        )  # fmt: skip
    return scores


@scorer(ImagingResult)
def missed_lines(result: ImagingResult) -> list[QAScore]:
    """Emission outside the line ranges, at the brightest voxel and extended: 0.6 each."""
    scores = []
    for image in _combined(result):
        if image.judgement is None:
            continue
        for metric, where, look in (
            ("SingleDishMissedLinePeak", "at the brightest position", image.judgement.at_peak),
            ("SingleDishMissedLineExtended", "over an extended area", image.judgement.extended),
        ):
            scores.append(_missed(image, metric, where, look))
    return scores


def _missed(image: SdImage, metric: str, where: str, look: Emission | None) -> QAScore:
    found = look is not None and look.found
    if found and look is not None:
        speeds = ", ".join(f"{a:.1f} … {b:.1f}" for a, b in look.velocity_km_s)
        short = "Emission outside the line ranges"
        long = (
            f"{image.label}: there is emission outside the identified line ranges {where}, at {speeds} km/s "
            f"({look.significance:.0f} σ)."
        )
    else:
        short = "No emission missed"
        long = f"{image.label}: no emission outside the identified line ranges {where}."
    return QAScore(
        metric=metric, value=look.significance if look else None, score=0.6 if found else 1.0, short=short, long=long,
        unit="sigma", applies_to=_where(image),
    )  # fmt: skip


@scorer(ImagingResult)
def contamination(result: ImagingResult) -> list[QAScore]:
    """Emission at the OFF position: 0.65."""
    scores = []
    for image in _combined(result):
        j = image.judgement
        if j is None:
            continue
        if j.contaminated:
            speeds = ", ".join(f"{a:.1f} … {b:.1f}" for a, b in j.contamination_velocity_km_s)
            short = "Possible astronomical line contamination"
            long = (
                f"{image.label}: the emptiest part of the map has a dip of {j.contamination_depth:.1f} σ at {speeds} "
                f"km/s: {_reason_of_dip(image)}."
            )
        elif j.contamination_depth is None:
            short = "Contamination not judged"
            long = f"{image.label}: without a map there is no empty part where emission at the OFF position would show."
        else:
            short, long = "No contamination", f"{image.label}: no sign of line emission at the OFF position."
        known = 0.65 if j.contaminated else 1.0
        scores.append(
            QAScore(
                metric="SingleDishImageContamination", value=j.contamination_depth,
                score=None if j.contamination_depth is None else known, short=short, long=long, unit="sigma",
                applies_to=_where(image),
            )
        )  # fmt: skip
    return scores


def _reason_of_dip(image: SdImage) -> str:
    n, j = image.numbers, image.judgement
    if n and j and extrapolated(n.velocity_km_s, n.channels, n.line_channels, j.contamination_velocity_km_s):
        return (
            "a line reaches the end of the band there and nothing holds the baseline, which may be bent; or there is "
            "line emission at the OFF position"
        )
    return "there is probably line emission at the OFF position"


@scorer(ImagingResult)
def sensitivity_ratio(result: ImagingResult) -> list[QAScore]:
    """Observed over theoretical rms: within 0.9 and 1.6 1, else 0.5.

    The reference replaces all scores of an image by an error where there is no theoretical rms; here the ratio alone
    is unknown, and scores 0.5; nothing can be said of sources that were not mapped.
    """
    scores = []
    for image in _combined(result):
        n = image.numbers
        if n is None:
            continue
        if n.observed_rms is None or n.theoretical_rms is None:
            reason = n.theory_missing if n.theoretical_rms is None else "no line-free pixel inside the raster"
            ratio, score, short = None, 0.5 if n.is_raster else None, "Sensitivity unknown"
            long = f"{image.label}: observed and theoretical noise cannot be compared: {reason}."
        else:
            ratio = n.observed_rms / n.theoretical_rms
            good = RATIO_LOW < ratio < RATIO_HIGH
            score, short = (1.0, "Noise as expected") if good else (0.5, "Noise not as expected")
            long = (
                f"{image.label}: the noise is {n.observed_rms:.3g} {n.unit}, {ratio:.2f} times the theoretical "
                f"{n.theoretical_rms:.3g}" + ("." if good else f"; {RATIO_LOW} to {RATIO_HIGH} times is expected.")
            )
        scores.append(
            QAScore(
                metric="SingleDishSensitivityRatio", value=ratio, score=score, short=short, long=long,
                applies_to=_where(image),
            )
        )  # fmt: skip
    return scores


@scorer(ImagingResult)
def rasters_analysed(result: ImagingResult) -> list[QAScore]:
    """0.8 for every execution block with antennas whose raster has no gaps that could be found, or is incomplete."""
    texts = {
        "gap": ("Raster gap not identified", "rows and maps of the raster could not be told apart"),
        "incomplete": ("Raster analysis incomplete", "the raster has no two full rows beside each other"),
    }
    found: dict[tuple[str, str], list[RasterProblem]] = {}
    for problem in result.raster_problems:
        found.setdefault((problem.ms, problem.kind), []).append(problem)
    scores = []
    for (ms, kind), problems in found.items():
        antennas = tuple(dict.fromkeys(p.antenna for p in problems))
        short, reason = texts[kind]
        scores.append(
            QAScore(
                metric=f"SingleDishRaster.{kind}", value=len(antennas), score=0.8, short=short,
                long=f"{ms}, antennas {', '.join(antennas)}: {reason}; the theoretical noise lacks them.",
                applies_to=AppliesTo(vis=ms, antenna=antennas),
            )
        )  # fmt: skip
    return scores


def _combined(result: ImagingResult) -> list[SdImage]:
    """Combined images that were measured."""
    return [i for i in result.images if i.combined and i.numbers is not None]


def _where(image: SdImage) -> AppliesTo:
    return AppliesTo(vis=image.vis, field=image.field, spw=(image.spw,), intent="TARGET")
