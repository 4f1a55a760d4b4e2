"""Score of the correction for the atmosphere."""

from __future__ import annotations

from pl_hsd.stages.atmcor import AtmcorResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo


@scorer(AtmcorResult)
def atmosphere_corrected(result: AtmcorResult) -> list[QAScore]:
    """1 for every measurement set that was corrected or need not be, 0 for every one that could not be, as in the
    reference pipeline (2026)."""
    scores = []
    for item in result.corrected:
        how = {"Y": "the best of the models tried", "Fallback": f"the default, because {item.reason}", "N": "as asked"}
        scores.append(
            QAScore(
                metric="atmcor.corrected", value=str(item.model), score=1.0,
                short="Atmosphere corrected" + (" with the default model" if item.status == "Fallback" else ""),
                long=f"{item.vis} was corrected with the model {item.model}: {how[item.status]}.",
                applies_to=AppliesTo(vis=item.vis),
            )
        )  # fmt: skip
    for vis, reason in result.unneeded.items():
        scores.append(
            QAScore(
                metric="atmcor.corrected", value="none", score=1.0, short="No correction needed",
                long=f"{vis} was not corrected for the atmosphere: {reason}.", applies_to=AppliesTo(vis=vis),
            )
        )  # fmt: skip
    for vis, reason in result.uncorrected.items():
        scores.append(
            QAScore(
                metric="atmcor.corrected", value="none", score=0.0, short="Atmosphere not corrected",
                long=f"{vis} could not be corrected for the atmosphere: {reason}.", applies_to=AppliesTo(vis=vis),
            )
        )  # fmt: skip
    if not scores:
        scores.append(
            QAScore(metric="atmcor.corrected", score=0.0, short="Nothing corrected", long="There were no data.")
        )
    return scores
