"""Scores of the imports of single dishes that are about the measurement sets, not about how the sky was mapped."""

from __future__ import annotations

from pl_hsd.importing import SingleDishResult
from pl_kernel import AppliesTo, QAScore, scorer

PROCESSING = ("applycal", "sdatmcor", "sdbaseline", "hanningsmooth", "hanningsmooth2", "pipeline")
"""Words of HISTORY.ORIGIN that say that flags or spectra are no longer as they were observed."""


@scorer(SingleDishResult)
def windows_match(result: SingleDishResult) -> list[QAScore]:
    """1 when execution blocks with the same target have the same windows; 0 for every window that one of them lacks.

    The reference pipeline (2026) gives one 0 for all. Such windows are imaged, but apart: less deep than was meant.
    """
    names = [i.ms.name for i in result.imported]
    if len(names) < 2:
        return []
    observed: dict[str, list[str]] = {}
    for group in result.groups:
        known = observed.setdefault(group.field_name, [])
        known += [name for name in group.ms_names if name not in known]
    scores = []
    for group in result.groups:
        lacking = tuple(name for name in observed[group.field_name] if name not in group.ms_names)
        if lacking:
            scores.append(
                QAScore(
                    metric="import.windows", value=float(len(lacking)), score=0.0,
                    short=f"spw {int(group.spw)} not in all data",
                    long=f"Spw {int(group.spw)} ({group.spw_name}) of {', '.join(group.ms_names)} has no window like it"
                    f" in {', '.join(lacking)}, which observed {group.field_name}, too: they will not be combined.",
                    applies_to=AppliesTo(vis=lacking, field=group.field_name, spw=str(int(group.spw))),
                )
            )  # fmt: skip
    if not scores:
        scores.append(
            QAScore(
                metric="import.windows", value=0.0, score=1.0, short="windows match",
                long="Measurement sets with the same target have the same windows.", applies_to=AppliesTo(vis=names),
            )
        )  # fmt: skip
    return scores


@scorer(SingleDishResult)
def not_processed_before(result: SingleDishResult) -> list[QAScore]:
    """1, less 0.5/n for each of n measurement sets whose history tells of calibration or baselines."""
    found = {
        i.ms.name: sorted({o for o in i.ms.history_origins if o.lower() in PROCESSING})
        for i in result.imported
    }
    old = {name: words for name, words in found.items() if words}
    told = "; ".join(f"{name} ({', '.join(words)})" for name, words in old.items())
    return [
        QAScore(
            metric="import.processed_before", value=float(len(old)), score=1 - 0.5 * len(old) / max(len(found), 1),
            short=f"{len(old)} processed before" if old else "unprocessed data",
            long=f"The history tells of earlier processing: {told}. Flags and spectra may not be as they were observed."
            if old else "The history tells of no earlier calibration.",
            applies_to=AppliesTo(vis=tuple(old)),
        )
    ]  # fmt: skip


@scorer(SingleDishResult)
def targets_have_coordinates(result: SingleDishResult) -> list[QAScore]:
    """1, less 1/n for each target at exactly 0h, 0° in n measurement sets: an ephemeris that nobody attached."""
    zero = [
        (i.ms.name, f.name)
        for i in result.imported
        for f in i.ms.fields_with_intent("TARGET")
        if f.ra_rad == 0.0 and f.dec_rad == 0.0 and not f.is_moving
    ]
    told = ", ".join(f"{field} of {vis}" for vis, field in zero)
    return [
        QAScore(
            metric="import.coordinates", value=float(len(zero)), score=max(0.0, 1 - len(zero) / len(result.imported)),
            short=f"{len(zero)} targets without coordinates" if zero else "targets have coordinates",
            long=f"{told}: the coordinates are exactly zero; an ephemeris may be missing." if zero
            else "No target is at exactly 0h, 0 deg.",
            applies_to=AppliesTo(vis=sorted({v for v, _ in zero}), field=sorted({f for _, f in zero})),
        )
    ]  # fmt: skip
