"""Scores of the stages from the application of the calibration to its delivery."""

from __future__ import annotations

import math

from pl_hifv.heuristics.antenna_weights import HIGH_WEIGHT, outlying
from pl_hifv.stages.applycals import ApplycalsResult
from pl_hifv.stages.flagtargetsdata import FlagtargetsdataResult
from pl_hifv.stages.mstransform import MstransformResult
from pl_hifv.stages.plotsummary import PlotsummaryResult
from pl_hifv.stages.statwt import BandWeights, StatwtResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo, linear

FEW = 6
"""More names than that are not listed in a sentence: a mosaic has thousands."""
LINES_FLAGGED = 0.5
TEMPLATE_USED = 0.3
"""As in hifv_flagdata (reference pipeline, 2026)."""
OFTEN = 0.01
"""Part of an antenna's weights that may be high by chance: single integrations may have few channels or baselines."""
WEIGHTS_HIGH = 0.45


@scorer(ApplycalsResult, topic="calibration")
def calibration_applied(result: ApplycalsResult) -> list[QAScore]:
    """Newly flagged part of the targets (0.24 → 1, 0.79 → 0, reference pipeline), and what could not be applied."""
    scores = []
    for vis, after in result.after.items():
        before = result.before[vis]
        fields = [f for f in dict.fromkeys(result.target_fields.get(vis, ())) if f in after.by_field]
        fields = fields or list(after.by_field)
        what = ", ".join(fields) if len(fields) <= FEW else f"{len(fields)} fields"
        newly = _part(after.by_field, fields) - _part(before.by_field, fields)
        lost = {a: after.by_antenna()[a] - before.by_antenna()[a] for a in after.antennas}
        worst = max(lost, key=lambda a: lost[a], default="")
        named = f" Most was lost on {worst}: {100 * lost[worst]:.1f}%." if worst and newly > 0.01 else ""
        scores.append(
            QAScore(
                metric="applycals.newly_flagged", value=newly, score=linear(newly, 0.24, 0.79, 1.0, 0.0),
                short=f"{100 * newly:.1f}% newly flagged",
                long=f"Applying the calibration flagged {100 * newly:.2f}% of {what} of {vis};"
                f" {100 * _part(after.by_field, fields):.1f}% are flagged now.{named}",
                applies_to=AppliesTo(vis=vis, field=fields, antenna=(worst,) if named else ()),
            )
        )  # fmt: skip
        gone = [a for a in after.antennas if after.by_antenna()[a] >= 0.999 > before.by_antenna()[a]]
        if gone:
            score = linear(len(gone), 0, len(after.antennas) / 2, 0.9, 0.0)
            scores.append(
                QAScore(
                    metric="applycals.lost_antennas", value=len(gone), score=score,
                    short=f"no calibration for {', '.join(gone)}", applies_to=AppliesTo(vis=vis, antenna=gone),
                    long=f"{', '.join(gone)} of {vis} {'has' if len(gone) == 1 else 'have'} no calibration:"
                    " flagged entirely.",
                )
            )  # fmt: skip
    if not result.after:
        scores.append(
            QAScore(metric="applycals.newly_flagged", score=1.0, short="flags not counted",
                    long="Counting of flags was switched off.")
        )  # fmt: skip
    scores += [
        QAScore(
            metric="applycals.dropped", value=len(tables), score=0.3, short=f"{len(tables)} tables left out",
            long=f"The calibration of {vis} was applied without {', '.join(tables)}: no solutions.",
            applies_to=AppliesTo(vis=vis),
        )
        for vis, tables in result.dropped.items()
    ]  # fmt: skip
    scores += [
        QAScore(
            metric="applycals.uncalibrated", value=len(names), score=0.5, short=f"{len(names)} fields uncalibrated",
            long=f"No calibration is registered for {', '.join(names)} of {vis}.",
            applies_to=AppliesTo(vis=vis, field=names),
        )
        for vis, names in result.uncalibrated.items()
    ]  # fmt: skip
    return scores


def _part(counts: dict[str, tuple[float, float]], fields: list[str]) -> float:
    total = sum(counts[f][1] for f in fields if f in counts)
    return sum(counts[f][0] for f in fields if f in counts) / total if total else 1.0


@scorer(StatwtResult, topic="calibration")
def weights_plausible(result: StatwtResult) -> list[QAScore]:
    """Mean and variance of the antenna weights, antennas that stand out, and what statwt flagged.

    Any weight above 150 scores 0.9 (reference pipeline, 2026), and 0.45 where more than 1 % of an antenna's are.
    """
    scores = []
    for band in result.after:
        if math.isfinite(band.mean):
            scores += [_mean(band), _variance(band), *_antennas(band)]
        else:
            scores.append(
                QAScore(
                    metric="statwt.mean", value=None, score=0.0, short="no weights", applies_to=AppliesTo(vis=band.vis),
                    long=f"No antenna weight of {band.vis}, band {band.band}, could be derived: its data are flagged.",
                )
            )  # fmt: skip
    for vis, after in result.flags_after.items():
        newly = max(0.0, after.fraction - result.flags_before[vis].fraction)
        scores.append(
            QAScore(
                metric="statwt.newly_flagged", value=newly, score=0.4 if newly > 0.02 else 1.0,
                short=f"{100 * newly:.1f}% flagged by statwt", applies_to=AppliesTo(vis=vis),
                long=f"statwt flagged {100 * newly:.2f}% of {vis}.",
            )
        )  # fmt: skip
    scores += [
        QAScore(
            metric="statwt.contdat", score=1.0, short="cont.dat used", applies_to=AppliesTo(vis=vis, field=fields),
            long=f"The scatter of {', '.join(fields)} was taken from the continuum channels of cont.dat.",
        )
        for vis, fields in result.contdat.items()
    ]  # fmt: skip
    return scores


def mean_score(mean: float) -> float:
    """max(1 − (|log₁₀ m| / 6)^3.5, 0), reference pipeline (2026); 0 for a mean that is no positive number."""
    if not (math.isfinite(mean) and mean > 0):
        return 0.0
    return max(1 - (abs(math.log10(mean)) / 6) ** 3.5, 0.0)


def variance_score(variance: float, mean: float) -> float:
    """max(1 − (log₁₀ v / 5.9)⁴, 0), at most 0.9 where v > m².

    A variance below 1 scores 1: the even power of the reference pipeline's formula punishes steady weights.
    """
    if not math.isfinite(variance):
        return 0.0
    score = max(1 - (max(math.log10(variance), 0.0) / 5.9) ** 4, 0.0) if variance > 0 else 1.0
    return min(score, 0.9) if variance > mean**2 else score


def _mean(band: BandWeights) -> QAScore:
    score = mean_score(band.mean)
    word = "plausible" if score > 0.9 else "elevated" if score > 0.75 else "high" if score > 0.5 else "very high"
    if math.isfinite(band.mean) and band.mean < 1 and score <= 0.9:
        word = {"elevated": "lowered", "high": "low", "very high": "very low"}.get(word, word)
    return QAScore(
        metric="statwt.mean", value=band.mean, score=score, short=f"mean weight {band.mean:.3g}",
        long=f"The antenna weights of {band.vis}, band {band.band}, are {word}: {band.mean:.3g} in the mean.",
        applies_to=AppliesTo(vis=band.vis),
    )  # fmt: skip


def _variance(band: BandWeights) -> QAScore:
    return QAScore(
        metric="statwt.variance", value=band.variance, score=variance_score(band.variance, band.mean),
        short=f"variance {band.variance:.3g}", applies_to=AppliesTo(vis=band.vis),
        long=f"The antenna weights of {band.vis}, band {band.band}, have a variance of {band.variance:.3g}.",
    )  # fmt: skip


def _antennas(band: BandWeights) -> list[QAScore]:
    scores = []
    high = [b for b in band.antennas if b.count and b.high > HIGH_WEIGHT]
    if high:
        often = [b for b in high if b.above > OFTEN]
        listed = [b.name for b in often or high]
        worst = max(high, key=lambda b: b.above)
        scores.append(
            QAScore(
                metric="statwt.high", value=worst.above, score=WEIGHTS_HIGH if often else 0.9,
                short=f"weights above {HIGH_WEIGHT:g}",
                long=f"Antenna weights above {HIGH_WEIGHT:g} {'are frequent' if often else 'occur'} on"
                f" {', '.join(listed) if len(listed) <= FEW else f'{len(listed)} antennas'} of {band.vis}, band"
                f" {band.band}: {100 * worst.above:.2g}% of those of"
                f" {worst.name}." + (" Its noise cannot be that low; look at the flux scale." if often else ""),
                applies_to=AppliesTo(vis=band.vis, antenna=listed),
            )
        )  # fmt: skip
    odd = outlying(band.antennas)
    if odd:
        scores.append(
            QAScore(
                metric="statwt.outlying", value=len(odd), score=0.85, short=f"unusual weights: {', '.join(odd)}",
                long=f"The weights of {', '.join(odd)} of {band.vis}, band {band.band}, differ from those of the other"
                " antennas by more than a factor of three.", applies_to=AppliesTo(vis=band.vis, antenna=odd),
            )
        )  # fmt: skip
    return scores


@scorer(PlotsummaryResult, topic="calibration")
def summary_drawn(result: PlotsummaryResult) -> list[QAScore]:
    """Phases of calibrators should be zero and their spread small, once calibrated: a last look at the whole."""
    scores = []
    for one in result.calibrators:
        score = linear(one.phase_rms_deg, 20.0, 90.0, 1.0, 0.3)
        scores.append(
            QAScore(
                metric="summary.phase_rms", value=one.phase_rms_deg, unit="deg", score=score,
                short=f"{one.field}: phases {one.phase_rms_deg:.0f} deg",
                long=f"The calibrated phases of {one.field} of {one.vis} scatter by {one.phase_rms_deg:.1f} degrees"
                f" per scan and baseline; worst is antenna {one.worst_antenna} with {one.worst_rms_deg:.1f} degrees.",
                applies_to=AppliesTo(vis=one.vis, field=one.field, antenna=one.worst_antenna),
            )
        )  # fmt: skip
    return scores


@scorer(MstransformResult, topic="dataset")
def targets_split(result: MstransformResult) -> list[QAScore]:
    """Whether the continuum measurement sets exist; 0.5 where lines may have been flagged as interference."""
    doubtful = [
        QAScore(
            metric="mstransform.line_flags", value=s.vis, score=LINES_FLAGGED, short="lines may be flagged",
            long=f"The line windows of {s.vis} were {s.reason}", applies_to=AppliesTo(vis=s.vis),
        )
        for s in result.splits if s.doubtful
    ]  # fmt: skip
    return doubtful + [
        QAScore(
            metric="mstransform.made", value=s.rows, score=1.0 if s.rows else 0.0, short=f"{s.name}",
            long=f"{s.name} holds {s.rows} rows of {', '.join(s.fields)}." if s.rows
            else f"The targets of {s.vis} could not be split off.", applies_to=AppliesTo(vis=s.vis),
        )
        for s in result.splits if s.kind == "continuum"
    ]  # fmt: skip


@scorer(FlagtargetsdataResult, topic="flagging")
def user_flags(result: FlagtargetsdataResult) -> list[QAScore]:
    """0.3 where the user's file had commands, as in hifv_flagdata: an operator must know that somebody helped."""
    return [
        QAScore(
            metric="flagtargets.newly_flagged", value=s.after.fraction - s.before.fraction,
            score=TEMPLATE_USED if s.commands else 1.0,
            short=_commands(s.commands), applies_to=AppliesTo(vis=s.vis),
            long=f"{_commands(s.commands)} of the user flagged"
            f" {100 * (s.after.fraction - s.before.fraction):.2f}% of {s.vis}.",
        )
        for s in result.sets
    ]  # fmt: skip


def _commands(commands: tuple[str, ...]) -> str:
    return f"{len(commands)} command{'' if len(commands) == 1 else 's'}"
