"""Score of the predicted image sizes."""

from __future__ import annotations

from pl_hif.stages.checkproductsize import CheckproductsizeResult
from pl_kernel import QAScore, scorer

SCORES = {"OK": 1.0, "MITIGATED": 0.85, "ERROR": 0.0}
"""Reference pipeline (2026)."""


@scorer(CheckproductsizeResult, topic="imaging")
def sizes_fit(result: CheckproductsizeResult) -> QAScore:
    """1 where everything fits, 0.85 where it was made to fit, 0 where it cannot."""
    return QAScore(
        metric="productsize.status", value=result.status, score=SCORES[result.status],
        short={"OK": "sizes fit", "MITIGATED": "made smaller", "ERROR": "too large"}[result.status],
        long=result.reason,
    )  # fmt: skip
