"""Scores of the stages that prepare data before solving: smoothing, switched power."""

from __future__ import annotations

from pl_hifv.stages.hanning import HanningResult
from pl_hifv.stages.importdata import ImportdataResult
from pl_hifv.stages.syspower import SyspowerResult
from pl_kernel import QAScore, scorer
from pl_kernel.common.earth import earth_scores
from pl_kernel.qa import AppliesTo

COMPRESSED = 0.1
"""Part of an antenna's time in compression that an operator has to look at."""


@scorer(ImportdataResult)
def earth_rotation_known(result: ImportdataResult) -> list[QAScore]:
    """How far CASA's tables of the Earth's orientation go."""
    return earth_scores(result.imported)


@scorer(HanningResult, topic="dataset")
def smoothing_done(result: HanningResult) -> list[QAScore]:
    """1 when done; data that were smoothed before deserve a look, for the raw spectrum is gone."""
    scores = []
    for one in result.sets:
        smoothed = [str(w.spw) for w in one.windows if w.smoothed]
        if one.already:
            text = f"{one.vis} was smoothed before this run and was left alone."
        elif smoothed:
            text = f"{len(smoothed)} of {len(one.windows)} windows of {one.vis} were smoothed."
        else:
            text = f"No window of {one.vis} needed smoothing."
        scores.append(
            QAScore(
                metric="hanning.smoothed", value=float(len(smoothed)), score=0.9 if one.already else 1.0,
                short="smoothed before" if one.already else f"{len(smoothed)} spws smoothed", long=text,
                applies_to=AppliesTo(vis=one.vis),
            )
        )  # fmt: skip
    return scores


@scorer(SyspowerResult, topic="calibration")
def compression_found(result: SyspowerResult) -> list[QAScore]:
    """Part of the good template values outside the limits, by band; the worst antenna is named.

    0.45 where antennas have more than 10 % outside (our own score: the share of a whole array hides them). Masked and
    unobserved samples are left out (the reference pipeline counts them as compressed).
    """
    scores = []
    for band in result.bands:
        part = band.outside / band.samples if band.samples else 0.0
        worst = max(band.antennas, key=lambda a: a.outside_fraction, default=None)
        named = f"; worst is {worst.antenna} with {100 * worst.outside_fraction:.1f}%" if worst and part else ""
        scores.append(
            QAScore(
                metric="syspower.compression", value=part, score=max(0.0, 1.0 - part),
                short=f"band {band.band}: {100 * part:.1f}% out of range",
                long=f"In band {band.band} of {band.vis} {100 * part:.1f}% of the compression template lie outside"
                f" {result.clip[0]:g} to {result.clip[1]:g}{named}.",
                applies_to=AppliesTo(
                    vis=band.vis, spw=band.spws, antenna=(worst.antenna,) if worst and part else ()
                ),
            )
        )  # fmt: skip
        bad = [a.antenna for a in band.antennas if a.outside_fraction > COMPRESSED]
        if bad:
            scores.append(
                QAScore(
                    metric="syspower.antennas", value=len(bad), score=0.45, short=f"compressed: {', '.join(bad)}",
                    long=f"In band {band.band} of {band.vis} the compression template of {', '.join(bad)} is outside"
                    f" {result.clip[0]:g} to {result.clip[1]:g} for more than {100 * COMPRESSED:g}% of the time.",
                    applies_to=AppliesTo(vis=band.vis, spw=band.spws, antenna=bad),
                )
            )  # fmt: skip
    for vis, reason in result.skipped.items():
        scores.append(
            QAScore(
                metric="syspower.skipped", score=1.0, short="no switched power", long=f"{vis}: {reason}",
                applies_to=AppliesTo(vis=vis),
            )
        )  # fmt: skip
    return scores
