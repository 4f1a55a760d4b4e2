"""Scores of delivery and restore, for the stages of every telescope."""

from __future__ import annotations

from ..qa import AppliesTo, QAScore, scorer
from .exportdata import ExportdataResult
from .restoredata import NEVER_THERE, RestoredataResult

NOTHING = {
    "fits": "The run made no image that could be delivered.",
    "flags": "The run has no measurement set whose flags could be delivered.",
}


@scorer(ExportdataResult)
def products_written(result: ExportdataResult) -> list[QAScore]:
    """Existing products of each kind against those asked for; what is missing is named."""
    scores = []
    for kind, expected in result.expected.items():
        made = sum(1 for p in result.products if p.kind == kind and p.size_bytes > 0)
        if not expected:
            scores.append(
                QAScore(
                    metric=f"export.{kind}", value=0, score=0.0, short=f"No {kind}",
                    long=NOTHING.get(kind, f"There is no {kind} to deliver."),
                )
            )  # fmt: skip
            continue
        missing = [f"{f.item} ({f.reason.rstrip('.')})" for f in result.failures if f.item.startswith(f"{kind} of ")]
        named = f" Missing: {'; '.join(missing[:3])}." if missing else ""
        if kind == "caltables" and made < expected and not missing:
            named = " Nothing was applied to the data of the others."
        scores.append(
            QAScore(
                metric=f"export.{kind}", value=made, score=min(1.0, made / expected),
                short=f"{made} of {expected} {kind}",
                long=f"{made} of {expected} products of kind {kind} were written.{named}",
            )
        )  # fmt: skip
    return scores


@scorer(RestoredataResult, topic="dataset")
def calibration_restored(result: RestoredataResult) -> list[QAScore]:
    """1 where everything was there; a restore that had to do without something says what.

    0.8 where that is only what the observatories do not deliver: nobody can do anything about it.
    """
    return [
        QAScore(
            metric="restore.complete", value=len(r.missing),
            score=1.0 if not r.missing else 0.8 if NEVER_THERE.issuperset(r.missing) else 0.3,
            short="restored" if not r.missing else f"{len(r.missing)} items missing",
            long=f"The calibration of {r.vis} was restored with {len(r.tables)} caltables"
            + (f", without {', '.join(r.missing)}." if r.missing else "."), applies_to=AppliesTo(vis=r.vis),
        )
        for r in result.sets
    ]  # fmt: skip
