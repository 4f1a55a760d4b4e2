"""Scores of the sky calibration."""

from __future__ import annotations

from pl_hsd.heuristics.skylevel import LIMIT_DEG
from pl_hsd.stages.skycal import SkycalResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo


@scorer(SkycalResult)
def sky_calibrated(result: SkycalResult) -> list[QAScore]:
    """1 when every target has a sky to be compared with; 0 for each that has none."""
    scores = [
        QAScore(
            metric="skycal.calibrated", value=t.solutions, score=1.0, short="Sky calibrated",
            long=f"All targets of {t.vis} have sky calibration ({t.solutions} solutions).",
            applies_to=AppliesTo(vis=t.vis),
        )
        for t in result.tables
        if t.vis not in result.missing and t.references
    ]  # fmt: skip
    for vis, fields in result.missing.items():
        for field, reason in fields.items():
            scores.append(
                QAScore(
                    metric="skycal.calibrated", value=0, score=0.0, short=f"{field}: no sky",
                    long=f"{field} of {vis} cannot be calibrated: {reason}.",
                    applies_to=AppliesTo(vis=vis, field=field),
                )
            )  # fmt: skip
    if not scores:
        scores.append(QAScore(metric="skycal.calibrated", score=0.0, short="No sky", long="No sky table was made."))
    return scores


@scorer(SkycalResult)
def elevation_difference(result: SkycalResult) -> list[QAScore]:
    """1 when ON and OFF of an antenna are less than 3 degrees apart in elevation, else 0.8 (reference pipeline, 2026).

    Every antenna is judged by its own rows; there, the worst so far counts for all that come later.
    """
    return [
        QAScore(
            metric="OnOffElevationDifference", value=gap.largest_deg, unit="deg",
            score=1.0 if gap.largest_deg < LIMIT_DEG else 0.8,
            short=f"ON−OFF {gap.largest_deg:.1f} deg in elevation",
            long=f"The elevations of ON and OFF of antenna {gap.antenna} on {gap.field} of {gap.vis} differ by up to "
            f"{gap.largest_deg:.2f} deg" + ("." if gap.largest_deg < LIMIT_DEG
            else f", more than {LIMIT_DEG:.0f} deg: the air above them is not the same."),
            applies_to=AppliesTo(vis=gap.vis, field=gap.field, antenna=gap.antenna),
        )
        for gap in result.gaps
    ]  # fmt: skip
