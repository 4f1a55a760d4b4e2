"""Scores of the applied single-dish calibration (maps: reference pipeline, 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pl_hsd.stages.applycal import Deviation, HsdApplycalResult
from pl_kernel import QAScore, scorer
from pl_kernel.ms.virtual import RealSpw, VirtualSpws
from pl_kernel.qa import AppliesTo

if TYPE_CHECKING:
    from pl_kernel.context import Context


@scorer(HsdApplycalResult)
def polarizations_agree(result: HsdApplycalResult, context: Context) -> list[QAScore]:
    """1 where XX and YY agree within 15 sigma; 0.9 to 0.67 up to 100 sigma; 0.66 to 0.34 when Trec shows it, too.

    One polarization entirely flagged 0.34. Where all data are flagged nothing can be said here: other scores do.
    """
    virtual = VirtualSpws.of(context.measurement_sets)
    return [_deviation(item, virtual) for item in result.deviations]


def _deviation(item: Deviation, virtual: VirtualSpws) -> QAScore:
    v = item.verdict
    spw = virtual.to_virtual(RealSpw(item.spw), item.vis)
    scan = "" if item.scan < 0 else f", scan {item.scan}"
    place = f"antenna {item.antenna}, spw {spw}, {item.field}{scan} of {item.vis}"
    if v.note:
        short, long = v.note.capitalize(), f"XX and YY of {place} could not be compared: {v.note}."
    elif v.score < 1:
        also = f" The receiver temperatures deviate there, too ({v.receiver_sigma:.0f} sigma)."
        short = f"XX−YY deviates by {v.sigma:.0f} sigma"
        long = f"XX and YY of {place} differ by {v.sigma:.1f} sigma at {item.frequency_hz / 1e9:.4f} GHz." + (
            also if v.receiver_sigma > 5 else ""
        )
    else:
        short, long = "XX and YY agree", f"XX and YY of {place} agree within {v.sigma:.1f} sigma."
    return QAScore(
        metric="XX-YY.deviation", value=v.sigma, unit="sigma", score=v.score, short=short, long=long,
        applies_to=AppliesTo(
            vis=item.vis, field=item.field, antenna=item.antenna, spw=() if spw is None else str(spw),
            scan=() if item.scan < 0 else str(item.scan), pol=("XX", "YY"),
        ),
    )  # fmt: skip


@scorer(HsdApplycalResult)
def data_left(result: HsdApplycalResult, context: Context) -> list[QAScore]:
    """0.8 for every antenna and window whose target data are all flagged; 0.65 where there is nothing to be shown."""
    virtual = VirtualSpws.of(context.measurement_sets)
    scores = []
    for item in result.calibrated:
        spw = virtual.to_virtual(RealSpw(item.spw), item.vis)
        gone = not item.good > 0
        scores.append(
            QAScore(
                metric="AmpVsTimePlotQuality", value=item.good, score=0.8 if gone else 1.0,
                short="All target data flagged" if gone else f"{100 * item.good:.0f} % of the spectra left",
                long=f"All target data of antenna {item.antenna}, spw {spw} of {item.vis} are flagged." if gone
                else f"{100 * item.good:.1f} % of the spectra of antenna {item.antenna}, spw {spw} of {item.vis} "
                "have good channels.",
                applies_to=AppliesTo(vis=item.vis, antenna=item.antenna, spw=() if spw is None else str(spw)),
            )
        )  # fmt: skip
    for vis in result.after:
        if not any(item.vis == vis for item in result.calibrated):
            scores.append(
                QAScore(
                    metric="AmpVsTimePlotQuality", score=0.65, short="Nothing to show", applies_to=AppliesTo(vis=vis),
                    long=f"{vis} has no spectra on the source that could be shown.",
                )
            )  # fmt: skip
    return scores


@scorer(HsdApplycalResult)
def units_known(result: HsdApplycalResult) -> list[QAScore]:
    """1 when all targets are in one physical unit; 0.33 for a mixture or for raw units."""
    scores = []
    for vis, unit in result.units.items():
        kinds = result.mixed_units.get(vis, ())
        scores.append(
            QAScore(
                metric="applycal.unit", value=unit or "/".join(kinds) or "raw", score=1.0 if unit else 0.33,
                short=f"Spectra in {unit}" if unit else "Units are mixed" if kinds else "Raw units",
                long=f"The calibrated spectra of {vis} are in {unit}." if unit
                else f"The targets of {vis} are in different units ({', '.join(kinds)})." if kinds
                else f"Tsys or sky calibration of {vis} is missing; its spectra have no physical unit.",
                applies_to=AppliesTo(vis=vis),
            )
        )  # fmt: skip
    return scores
