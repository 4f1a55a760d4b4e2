"""Scores of hifv_solint."""

from __future__ import annotations

from collections.abc import Sequence

from pl_hifv.qa.bpdcals import failures, nothing
from pl_hifv.solves import flagged_median
from pl_hifv.stages.solint import BandIntervals, SolintResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo, linear

LONG_FACTOR = 1.5
CLOSE = 0.66
"""Score of a short interval that is shorter than the long one, but hardly."""


@scorer(SolintResult)
def solution_intervals(result: SolintResult) -> list[QAScore]:
    """Short below long, long no more than 1.5 calibrator scans, few flagged gains (reference pipeline, 2026).

    The scan length is the median of all calibrator scans, consecutive ones joined as they are for the long interval;
    the reference pipeline keeps only the last one's. A short interval within the longest one tried of the long one,
    and phase scans that are gone, are scored here and only logged there.
    """
    scores = failures(result.failures)
    for band in result.bands:
        scores += _band(band)
    return scores or [nothing("solution interval")]


def _band(band: BandIntervals) -> list[QAScore]:
    data = f"{band.vis}, {band.band} band"
    applies = AppliesTo(vis=band.vis)
    short, long = band.short.seconds, band.long.seconds
    bad_short = short >= long or band.short.solint == "inf"
    bad_long = long > LONG_FACTOR * band.scan_s
    flagged = flagged_median(band.table) if band.short.limited else band.choice.trial.flagged
    close = band.close and not bad_short
    return [
        QAScore(
            metric="solint.short", value=short, unit="s", score=0.3 if bad_short else CLOSE if close else 1.0,
            short=f"short {short:.4g} s of {long:.4g} s",
            long=f"{data}: the short solution interval, {short:.4g} s ({band.short.reason}), is"
            + (" not shorter than" if bad_short else " hardly shorter than" if close else " shorter than")
            + f" the long one, {long:.4g} s.",
            applies_to=applies,
        ),
        QAScore(
            metric="solint.long", value=long, unit="s", score=0.3 if bad_long else 1.0, short=f"long {long:.4g} s",
            long=f"{data}: the long solution interval is {long:.4g} s, a calibrator scan lasts {band.scan_s:.4g} s in"
            f" the median" + (f"; more than {LONG_FACTOR} of it." if bad_long else "."),
            applies_to=applies,
        ),
        QAScore(
            metric="solint.flagged", value=flagged, score=linear(flagged, 0.05, 0.6, 1.0, 0.0),
            short=f"{100 * flagged:.1f} % of gains flagged",
            long=f"{data}: with {band.short.solint}, asked for by the user, {100 * flagged:.1f} % of the solutions are"
            " flagged." if band.short.limited else f"{data}: {band.choice.reason}.", applies_to=applies,
        ),
        *_missing_scans(band, data),
    ]  # fmt: skip


def _missing_scans(band: BandIntervals, data: str) -> list[QAScore]:
    """Targets beside a lost phase scan take gains from further away."""
    gone = band.missing_scans
    if not gone:
        return []
    part = len(gone) / max(band.phase_scans, len(gone))
    return [
        QAScore(
            metric="solint.missing_scans", value=len(gone), score=linear(part, 0.0, 0.5, 0.89, 0.4),
            short=f"{len(gone)} phase scans flagged",
            long=f"{data}: {_scans(gone)} of the phase calibrator lost to flags; targets beside take gains from"
            " further away.",
            applies_to=AppliesTo(vis=band.vis, scan=[str(s) for s in gone]),
        )
    ]  # fmt: skip


def _scans(numbers: Sequence[int]) -> str:
    return f"{len(numbers)} scan{'s' * (len(numbers) > 1)} ({', '.join(map(str, numbers))})"
