"""Scores of the factors from kelvin to jansky."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pl_hsd.stages.k2jycal import FactorsOfMS, K2jycalResult
from pl_kernel import QAScore, scorer
from pl_kernel.ms.virtual import RealSpw, VirtualSpws
from pl_kernel.qa import AppliesTo

if TYPE_CHECKING:
    from pl_kernel.context import Context


@scorer(K2jycalResult)
def factors_known(result: K2jycalResult, context: Context) -> list[QAScore]:
    """1 when every window, antenna and correlation has a factor, 0 otherwise (reference pipeline, 2026)."""
    virtual = VirtualSpws.of(context.measurement_sets)
    scores = [_score(found, virtual) for found in result.sets]
    return scores or [
        QAScore(metric="k2jycal.factors", value=0, score=0.0, short="No Jy/K factors", long="There are no data.")
    ]


def _score(found: FactorsOfMS, virtual: VirtualSpws) -> QAScore:
    antennas = tuple(sorted({antenna for _, antenna, _ in found.missing}))
    spws = sorted({virtual.to_virtual(RealSpw(spw), found.vis) for spw, _, _ in found.missing} - {None})  # type: ignore[type-var]
    total = len(found.missing) + len(found.factors)
    if not found.missing and found.factors:
        short, long = "All Jy/K factors known", f"All {total} Jy/K factors of {found.vis} are known."
    elif not found.factors:
        short, long = "No Jy/K factors", f"No Jy/K factor of {found.vis} is known; its data stay in kelvin."
    else:
        short = f"{len(found.missing)} Jy/K factors missing"
        long = (
            f"{len(found.missing)} of {total} Jy/K factors of {found.vis} are missing ({', '.join(antennas)}); "
            "the data concerned are flagged."
        )
    return QAScore(
        metric="k2jycal.factors", value=len(found.factors), score=1.0 if total and not found.missing else 0.0,
        short=short, long=long,
        applies_to=AppliesTo(vis=found.vis, antenna=antennas, spw=tuple(str(s) for s in spws)),
    )  # fmt: skip


@scorer(K2jycalResult)
def service_answered(result: K2jycalResult) -> list[QAScore]:
    """1 when the service answered, 0 when it was asked and did not; no score when nobody asked."""
    return [
        QAScore(
            metric="k2jycal.service", value=found.service, score=1.0 if found.service == "ok" else 0.0,
            short="Jy/K service answered" if found.service == "ok" else "No answer of the Jy/K service",
            long=f"The Jy/K service gave the factors of {found.vis}." if found.service == "ok" else found.service,
            applies_to=AppliesTo(vis=found.vis),
        )
        for found in result.sets
        if found.service
    ]  # fmt: skip
