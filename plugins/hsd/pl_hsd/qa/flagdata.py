"""Scores of the deterministic flags of single dishes."""

from __future__ import annotations

from pl_hsd.heuristics.flagging import casa_time
from pl_hsd.stages.flagdata import FlagdataResult
from pl_kernel import AppliesTo, QAScore, scorer
from pl_kernel.qa import linear

UNPLANNED = ("before", "online", "qa0", "qa2", "shadow", "template")
"""Agents whose flags nobody planned when the observation was."""
FEW, MOST = 0.24, 0.79
OUTLIER = 0.83


@scorer(FlagdataResult)
def unplanned_flags(result: FlagdataResult) -> list[QAScore]:
    """1 up to 24 % of the data on the target, falling linearly to 0 at 79 % (reference pipeline, 2026)."""
    scores = []
    for one in result.sets:
        share = sum(one.newly(agent) for agent in UNPLANNED)
        scores.append(
            QAScore(
                metric="%OnlineShadowTemplateFlags", value=100 * share, unit="%",
                score=min(1.0, max(0.0, linear(share, FEW, MOST, 1.0, 0.0))),
                short=f"{100 * share:.1f} % flagged",
                long=f"{100 * share:.1f} % of the data of {one.vis} on the target came flagged, or were flagged by the"
                " observatory, for shadowing, or by the template.",
                applies_to=AppliesTo(vis=one.vis),
            )
        )  # fmt: skip
    return scores


@scorer(FlagdataResult)
def data_left(result: FlagdataResult) -> list[QAScore]:
    """0 for a measurement set of which all data on the target are flagged; no score otherwise."""
    return [
        QAScore(
            metric="flags.all", value=1.0, score=0.0, short="nothing is left",
            long=f"All data of {one.vis} on the target are flagged.", applies_to=AppliesTo(vis=one.vis),
        )
        for one in result.sets
        if one.counts and one.counts[-1].fraction >= 1.0
    ]  # fmt: skip


@scorer(FlagdataResult)
def pointing_outliers(result: FlagdataResult) -> list[QAScore]:
    """0.83 for each field and antenna with spectra far from the map (reference pipeline, 2026)."""
    scores = []
    for one in result.sets:
        for found in one.outliers:
            times = f"{casa_time(found.ranges_s[0][0])[:19]} to {casa_time(found.ranges_s[-1][1])[:19]}"
            scores.append(
                QAScore(
                    metric="NumberOfPointingOutliers", value=float(found.n_integrations), score=OUTLIER,
                    short="pointing outliers",
                    long=f"{found.antenna} was up to {found.largest_arcsec:.0f} arcsec from the middle of the map of"
                    f" {found.field} (limit {found.limit_arcsec:.0f}) in {found.n_integrations} integrations of"
                    f" {one.vis}, {times}."
                    + ("" if one.pointing_applied else " They were not flagged: flagging by pointing is off."),
                    applies_to=AppliesTo(vis=one.vis, field=found.field, antenna=found.antenna),
                )
            )  # fmt: skip
        if not one.outliers:
            scores.append(
                QAScore(
                    metric="NumberOfPointingOutliers", value=0.0, score=1.0, short="no pointing outliers",
                    long=f"No antenna of {one.vis} left the map.", applies_to=AppliesTo(vis=one.vis),
                )
            )  # fmt: skip
    return scores
