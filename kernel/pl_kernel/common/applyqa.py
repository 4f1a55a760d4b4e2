"""Score of applied calibration (map: reference pipeline, 2026)."""

from __future__ import annotations

from ..qa import AppliesTo, QAScore, linear, scorer
from .applycal import ApplycalResult


@scorer(ApplycalResult)
def applied_flags(result: ApplycalResult) -> list[QAScore]:
    """Target data that lost their calibration: 1 up to 24 % newly flagged, 0 from 79 %.

    Uncalibrated fields 0.33, a table without solutions 0.33.
    """
    scores: list[QAScore] = []
    for vis, after in result.after.items():
        before = result.before[vis]
        names = result.target_fields.get(vis, ())
        f0 = sum(before.by.get("field", {}).get(n, (0.0, 0.0))[0] for n in names)
        f1, total = (sum(after.by.get("field", {}).get(n, (0.0, 0.0))[i] for n in names) for i in (0, 1))
        if names:
            new = (f1 - f0) / total if total else 1.0
            scores.append(
                QAScore(
                    metric="applycal.newly_flagged", value=new, score=linear(new, 0.24, 0.79, 1.0, 0.0),
                    short=f"{100 * new:.1f} % newly flagged",
                    long=f"{100 * new:.1f} % of the target data of {vis} were flagged for want of a solution; "
                    f"{100 * f1 / total if total else 100:.1f} % are flagged now.", applies_to=AppliesTo(vis=vis),
                )
            )  # fmt: skip
        for name in result.uncalibrated.get(vis, ()):
            scores.append(
                QAScore(
                    metric="applycal.uncalibrated", value=name, score=0.33, short=f"{name} uncalibrated",
                    long=f"No calibration is registered for {name} of {vis}.",
                    applies_to=AppliesTo(vis=vis, field=name),
                )
            )  # fmt: skip
        for table in result.dropped.get(vis, ()):
            scores.append(
                QAScore(
                    metric="applycal.dropped", value=table, score=0.33, short="A caltable was left out",
                    long=f"{table} holds no solution; {vis} was calibrated without it.",
                    applies_to=AppliesTo(vis=vis),
                )
            )  # fmt: skip
    return scores
