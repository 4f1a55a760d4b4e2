"""Scores of the Tsys stages (maps: reference pipeline, 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ms.selection import compact_ids
from ..qa import AppliesTo, QAScore, linear, scorer
from .tsyscal import TsyscalResult
from .tsysflag import TsysFlagResult

if TYPE_CHECKING:
    from ..context import Context


@scorer(TsyscalResult)
def windows_mapped(result: TsyscalResult, context: Context) -> list[QAScore]:
    """Share of the science windows that have Tsys; data that nobody's Tsys can calibrate 0.33."""
    scores = []
    for table in result.tables:
        science = len(table.mapped) + len(table.unmapped)
        share = len(table.mapped) / science if science else 0.0
        scores.append(
            QAScore(
                metric="tsyscal.mapped", value=share, score=share,
                short=f"{len(table.mapped)} of {science} windows have Tsys",
                long=f"All {science} science windows of {table.vis} have system temperatures."
                if science and not table.unmapped
                else f"No Tsys was measured for spw {compact_ids(table.unmapped)} of {table.vis}."
                if science else f"{table.vis} has no science window.",
                applies_to=AppliesTo(vis=table.vis, spw=_virtual(context, table.vis, table.unmapped)),
            )
        )  # fmt: skip
        for field in sorted({f for f, _ in table.missing}):
            spws = tuple(s for f, s in table.missing if f == field)
            scores.append(
                QAScore(
                    metric="tsyscal.missing", value=field, score=0.33, short=f"{field} without Tsys",
                    long=f"No Tsys can calibrate {field}, spw {compact_ids(spws)} of {table.vis}.",
                    applies_to=AppliesTo(vis=table.vis, field=field, spw=_virtual(context, table.vis, spws)),
                )
            )  # fmt: skip
    return scores or [QAScore(metric="tsyscal.mapped", score=0.0, short="No Tsys", long="No Tsys table was made.")]


def newly_flagged(fraction: float) -> float:
    """1 up to 5 %, down to 0.5 at 50 %, 0 above."""
    return 0.0 if fraction > 0.5 else linear(fraction, 0.05, 0.5, 1.0, 0.5)


@scorer(TsysFlagResult)
def tsys_flags(result: TsysFlagResult, context: Context) -> list[QAScore]:
    """Newly flagged share of a table; antennas without any Tsys left in a window 0.8; nothing left to judge 0."""
    scores = []
    for table in result.tables:
        where = AppliesTo(vis=table.vis)
        scores.append(
            QAScore(
                metric="%TsysCaltableFlags", value=table.added, score=newly_flagged(table.added), unit="%",
                short=f"{100 * table.added:.1f} % of Tsys newly flagged",
                long=f"{100 * table.added:.2f} % of the system temperatures of {table.vis} were newly flagged; "
                f"{100 * table.steps[-1].flagged:.2f} % are flagged now.", applies_to=where,
            )
        )  # fmt: skip
        if table.ended:
            scores.append(
                QAScore(
                    metric="tsysflag.ended", value=table.ended, score=0.0, short="No Tsys left",
                    long=f"All Tsys spectra of {table.vis} were flagged after '{table.ended}'.", applies_to=where,
                )
            )  # fmt: skip
        for antenna in sorted({a for a, _ in table.lost}):
            spws = tuple(s for a, s in table.lost if a == antenna)
            scores.append(
                QAScore(
                    metric="tsysflag.antenna_lost", value=antenna, score=0.8, short=f"{antenna} without Tsys",
                    long=f"All Tsys of antenna {antenna} in spw {compact_ids(spws)} of {table.vis} is flagged; "
                    "its data cannot be calibrated there.",
                    applies_to=AppliesTo(vis=table.vis, antenna=antenna, spw=_virtual(context, table.vis, spws)),
                )
            )  # fmt: skip
    return scores


def _virtual(context: Context, vis: str, spws: tuple[int, ...]) -> tuple[str, ...]:
    from ..ms.virtual import RealSpw, VirtualSpws

    known = VirtualSpws.of(context.measurement_sets)
    return tuple(str(v) for v in (known.to_virtual(RealSpw(s), vis) for s in spws) if v is not None)
