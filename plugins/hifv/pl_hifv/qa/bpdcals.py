"""Scores of the stages that solve for delays, bandpass and gains.

Limits are the reference pipeline's (2026) where it has one; scores that it lacks say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pl_hif.solve import Caltable
from pl_hifv.heuristics.deformatter import BadBaseband
from pl_hifv.heuristics.delays import LARGE_NS, delay_score
from pl_hifv.qa.interference import burst_scores, ranges
from pl_hifv.solves import BandSolutions
from pl_hifv.stages.finalcals import FinalBand, FinalcalsResult
from pl_hifv.stages.semifinalbpdcals import SemiFinalBPdcalsResult
from pl_hifv.stages.testbpdcals import TestBand, TestBPdcalsResult, describe
from pl_kernel import QAScore, scorer
from pl_kernel.context import Context
from pl_kernel.ms.virtual import VirtualSpws
from pl_kernel.qa import AppliesTo, linear
from pl_kernel.stage import ItemFailure

FLAGGED = (0.05, 0.6)
"""Flagged solutions: full score up to the first, none from the second on."""
DTS_ANTENNAS = 4
BAD_ANTENNAS = 0.3
LOST_ANTENNA = 0.85
"""Score of an antenna without solutions: one in an array of 27 moves no average, but should be looked at."""


@scorer(TestBPdcalsResult)
def first_calibration(result: TestBPdcalsResult, context: Context) -> list[QAScore]:
    """Scores of hifv_testBPdcals: solutions, delays, deformatters, reference antennas."""
    spws = SpwNames(context)
    scores = failures(result.failures)
    for band in result.bands:
        scores += _band(band, spws)
        scores += _deformatters(band, len(result.antennas[band.vis]), spws)
        scores += burst_scores(band.bursts, band.vis)
        scores += [_avoided(band, spw, spws) for spw in band.avoided]
        scores += [_refants(band), _median_delay(band, spws)]
    return scores or [nothing("first bandpass and delays")]


@scorer(SemiFinalBPdcalsResult)
def second_calibration(result: SemiFinalBPdcalsResult, context: Context) -> list[QAScore]:
    """Scores of hifv_semiFinalBPdcals: solutions, delays, windows whose delays fail."""
    spws = SpwNames(context)
    scores = failures(result.failures)
    for band in result.bands:
        scores += _band(band, spws)
        scores.append(_delays_by_spw(band, spws))
    return scores or [nothing("second bandpass and delays")]


@scorer(FinalcalsResult)
def final_calibration(result: FinalcalsResult, context: Context) -> list[QAScore]:
    """Scores of hifv_finalcals: solutions, delays, gains against time, models."""
    spws = SpwNames(context)
    scores = failures(result.failures)
    for band in result.bands:
        scores += _band(band, spws)
        for what, table in (("phases", band.phase), ("amplitudes", band.amplitude)):
            scores.append(_flagged(band, table, f"final {what}", spws))
        scores.append(_jumps(band, spws))
    for model in result.unit:
        scores.append(
            QAScore(
                metric="calibration.model", value=1.0, unit="Jy", score=0.33, short=f"{model.field} has no model",
                long=f"{model.field} in {model.vis} has no model; it was calibrated as a source of 1 Jy.",
                applies_to=AppliesTo(vis=model.vis, field=model.field, spw=spws(model.vis, model.spws)),
            )
        )  # fmt: skip
    return scores or [nothing("final calibration")]


# ---- what they share -----------------------------------------------------------------------------------------------


class SpwNames:
    """Translates windows of a measurement set into those of the run."""

    def __init__(self, context: Context) -> None:
        self._table = VirtualSpws.of(context.measurement_sets)

    def __call__(self, vis: str, spws: Iterable[int]) -> tuple[str, ...]:
        virtual = {int(r): int(v) for v, r in self._table.real.get(vis, {}).items()}
        return tuple(str(virtual.get(int(s), int(s))) for s in spws)


def nothing(what: str) -> QAScore:
    """The score of a stage that has nothing to show: a missing result never looks like success."""
    return QAScore(
        metric="calibration.missing", value=0, score=0.0, short=f"No {what}", long=f"There is no {what} at all."
    )


def failures(items: Sequence[ItemFailure]) -> list[QAScore]:
    """One score of 0 for each band or field that could not be calibrated."""
    return [
        QAScore(
            metric="calibration.missing", value=f.item, score=0.0, short=f"{f.item} is not calibrated",
            long=f"{f.item} could not be calibrated: {f.reason}",
            applies_to=AppliesTo(vis=f.item.split(" ")[0]),
        )
        for f in items
    ]  # fmt: skip


def where(band: BandSolutions) -> str:
    """The data of a band in words."""
    return f"{band.vis}, {band.band} band"


def _band(band: BandSolutions, spws: SpwNames) -> list[QAScore]:
    return [
        _flagged(band, band.bandpass.table, "bandpass", spws),
        _flagged(band, band.gain, "gains before the bandpass", spws),
        *_lost(band, spws),
        _largest_delay(band, spws),
        *_averaged(band, spws),
        *_line_windows(band, spws),
    ]


def _flagged(band: BandSolutions, table: Caltable, what: str, spws: SpwNames) -> QAScore:
    """Median over the antennas of the flagged part of the solutions."""
    from pl_hifv.solves import flagged_median

    fraction = flagged_median(table)
    score = 0.0 if fraction > FLAGGED[1] else linear(fraction, *FLAGGED, 1.0, 0.0)
    return QAScore(
        metric=f"calibration.flagged.{what.replace(' ', '_')}", value=fraction, score=score,
        short=f"{100 * fraction:.1f} % of {what} flagged",
        long=f"{where(band)}: {100 * fraction:.1f} % of the {what} solutions of the median antenna are flagged.",
        applies_to=AppliesTo(vis=band.vis, spw=spws(band.vis, band.spws)),
    )  # fmt: skip


def _lost(band: BandSolutions, spws: SpwNames) -> list[QAScore]:
    """Antennas without bandpass, altogether or in a hand of two windows or more (our own scores)."""
    lost: dict[str, dict[int, set[int]]] = {}
    total: dict[str, int] = {}
    for s in band.bandpass.table.stats:
        total[s.antenna] = total.get(s.antenna, 0) + 1
        if s.flagged >= s.solutions:
            lost.setdefault(s.antenna, {}).setdefault(s.pol, set()).add(s.spw)
    scores = []
    for antenna, hands in sorted(lost.items()):
        gone = sorted(set().union(*hands.values()))
        names = spws(band.vis, gone)
        which = [band.correlations[p] if p < len(band.correlations) else str(p) for p in sorted(hands)]
        if sum(len(g) for g in hands.values()) == total[antenna]:
            what, score = f"{antenna} has no bandpass solution at all", LOST_ANTENNA
        elif max(len(g) for g in hands.values()) >= 2:
            what = f"{antenna} has no bandpass solution for {', '.join(which)} in spws {', '.join(names)}"
            score = LOST_ANTENNA + 0.03
        else:
            continue
        scores.append(
            QAScore(
                metric="calibration.lost_antenna", value=len(gone), score=score, short=what,
                long=f"{where(band)}: {what}; its data there will be flagged.",
                applies_to=AppliesTo(vis=band.vis, antenna=antenna, spw=names, pol=which),
            )
        )  # fmt: skip
    return scores


def _largest_delay(band: BandSolutions, spws: SpwNames) -> QAScore:
    stats = [s for s in band.delay.table.stats if s.flagged < s.solutions]
    worst = max(stats, key=lambda s: s.amplitude, default=None)
    if worst is None:
        return QAScore(
            metric="calibration.delay", score=0.0, short="no delays",
            long=f"{where(band)}: there is no delay solution.",
            applies_to=AppliesTo(vis=band.vis),
        )  # fmt: skip
    large = worst.amplitude >= LARGE_NS
    return QAScore(
        metric="calibration.delay", value=worst.amplitude, unit="ns", score=delay_score(worst.amplitude),
        short=f"largest delay {worst.amplitude:.1f} ns",
        long=f"{where(band)}: the largest delay is {worst.amplitude:.1f} ns ({worst.antenna}, spw"
        f" {spws(band.vis, [worst.spw])[0]}); the median is {band.delay.median_ns:.1f} ns.",
        applies_to=AppliesTo(
            vis=band.vis, antenna=worst.antenna if large else (),
            spw=spws(band.vis, [worst.spw] if large else band.spws),
        ),
    )  # fmt: skip


def _median_delay(band: BandSolutions, spws: SpwNames) -> QAScore:
    """Many large delays; the reference pipeline means 15 ns here but compares milliseconds, so that it never warns."""
    middle = band.delay.median_ns
    large = not middle <= LARGE_NS
    return QAScore(
        metric="calibration.median_delay", value=middle, unit="ns", score=0.33 if large else 1.0,
        short=f"median delay {middle:.1f} ns",
        long=f"{where(band)}: the median delay is {middle:.1f} ns"
        + (f", more than {LARGE_NS:g} ns." if large else "."),
        applies_to=AppliesTo(vis=band.vis, spw=spws(band.vis, band.spws)),
    )  # fmt: skip


def _averaged(band: BandSolutions, spws: SpwNames) -> list[QAScore]:
    low = {s: n for s, n in band.bandpass.channels.items() if n > 1}
    if not low:
        return []
    names = spws(band.vis, low)
    text = ", ".join(f"{name} ({n} channels)" for name, n in zip(names, low.values(), strict=True))
    return [
        QAScore(
            metric="calibration.bandpass_channels", value=max(low.values()), unit="channels", score=0.33,
            short="weak bandpass", long=f"{where(band)}: the bandpass calibrator is weak; channels were averaged in"
            f" spws {text}.",
            applies_to=AppliesTo(vis=band.vis, spw=names),
        )
    ]  # fmt: skip


def _line_windows(band: BandSolutions, spws: SpwNames) -> list[QAScore]:
    """Line windows without any bandpass: the reference pipeline only warns."""
    lost = []
    for spw in band.line_spws:
        mine = [s for s in band.bandpass.table.stats if s.spw == spw]
        if all(s.flagged >= s.solutions for s in mine):
            lost.append(spw)
    if not lost:
        return []
    names = spws(band.vis, lost)
    return [
        QAScore(
            metric="calibration.line_spw", value=len(lost), score=0.33,
            short=f"no bandpass in line spws {', '.join(names)}",
            long=f"{where(band)}: the spectral-line spws {', '.join(names)} have no bandpass solution.",
            applies_to=AppliesTo(vis=band.vis, spw=names),
        )
    ]  # fmt: skip


def _avoided(band: TestBand, spw: int, spws: SpwNames) -> QAScore:
    """Channels in which interference outshines the calibrators all the time: none of their data will be of use."""
    (name,), channels = spws(band.vis, [spw]), list(band.avoided[spw])
    return QAScore(
        metric="calibration.interference", value=len(channels), score=LOST_ANTENNA, short=f"spw {name}: interference",
        long=f"Channels {ranges(channels)} of spw {name} of {band.vis} are spoiled by interference that lasts; delays"
        " and gains were solved for without them.",
        applies_to=AppliesTo(vis=band.vis, spw=name),
    )  # fmt: skip


def _few(antennas: Iterable[str]) -> str:
    """Names of up to four antennas, or how many there are."""
    names = sorted(antennas)
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} antennas"


def _deformatters(band: TestBand, antennas: int, spws: SpwNames) -> list[QAScore]:
    bad: dict[str, list[BadBaseband]] = {}
    for item in band.bad:
        bad.setdefault(item.antenna, []).append(item)
    fraction = len(bad) / antennas if antennas else 1.0
    listed = [describe(i) for items in bad.values() for i in items]
    done = " Flagged." if band.applied else ""
    scores = [
        QAScore(
            metric="deformatter.antennas", value=fraction, score=linear(fraction, 0.0, BAD_ANTENNAS, 1.0, 0.0),
            short=f"bad deformatter: {_few(bad)}" if bad else "no bad deformatter",
            long=f"{where(band)}: " + ("; ".join(listed) + "." + done if bad else "no antenna has a bad deformatter."),
            applies_to=AppliesTo(
                vis=band.vis, antenna=sorted(bad),
                spw=spws(band.vis, sorted({s for i in band.bad for s in i.spws}) or band.spws),
            ),
        )
    ]  # fmt: skip
    if bad and scores[0].score is not None and scores[0].score > LOST_ANTENNA:
        # In a large array one bad antenna leaves the fraction small; it must be seen all the same.
        scores.append(
            QAScore(
                metric="deformatter.found", value=len(bad), score=LOST_ANTENNA, short=scores[0].short,
                long=scores[0].long, applies_to=scores[0].applies_to,
            )
        )  # fmt: skip
    if len(bad) > DTS_ANTENNAS:
        scores.append(
            QAScore(
                metric="deformatter.many", value=len(bad), score=0.33,
                short=f"{len(bad)} antennas with a bad deformatter",
                long=f"{where(band)}: more than {DTS_ANTENNAS} antennas show bad deformatters:"
                f" {', '.join(sorted(bad))}.",
                applies_to=AppliesTo(vis=band.vis, antenna=sorted(bad)),
            )
        )  # fmt: skip
    return scores


def _refants(band: TestBand) -> QAScore:
    gone = (*band.rejected, *band.delay.dropped)
    return QAScore(
        metric="calibration.refant", value=", ".join(gone) or band.refant, score=0.33 if gone else 1.0,
        short=f"reference antenna {', '.join(gone)} rejected" if gone else f"reference antenna {band.refant}",
        long=f"{where(band)}: "
        + (f"{', '.join(gone)} could not be used as reference antenna; {band.refant} is." if gone else
           f"{band.refant} is the reference antenna."),
        applies_to=AppliesTo(vis=band.vis, antenna=gone),
    )  # fmt: skip


def _delays_by_spw(band: BandSolutions, spws: SpwNames) -> QAScore:
    """More than half of the windows with flagged delays on more than half of the antennas."""
    flagged: dict[str, set[int]] = {}
    everything: dict[str, set[int]] = {}
    for s in band.delay.table.stats:
        everything.setdefault(s.antenna, set()).add(s.spw)
        if s.flagged:
            flagged.setdefault(s.antenna, set()).add(s.spw)
    bad = sorted(a for a, seen in flagged.items() if len(seen) > 0.5 * len(everything[a]))
    many = len(bad) > 0.5 * len(everything) or not everything
    return QAScore(
        metric="calibration.delay_spws", value=len(bad), score=0.33 if many else 1.0,
        short=f"{len(bad)} antennas with flagged delays",
        long=f"{where(band)}: {len(bad)} of {len(everything)} antennas have flagged delays in more than half of their"
        f" spws{' (' + ', '.join(bad) + ')' if bad else ''}.",
        applies_to=AppliesTo(vis=band.vis, antenna=bad if many else (), spw=spws(band.vis, band.spws)),
    )  # fmt: skip


def _jumps(band: FinalBand, spws: SpwNames) -> QAScore:
    """Steps of phase within a scan (our own score): the antenna's data in that scan are not calibrated."""
    seen: dict[tuple[str, int], list[float]] = {}
    windows: set[int] = set()
    for jump in band.jumps:
        seen.setdefault((jump.antenna, jump.scan), []).append(jump.degrees)
        windows.add(jump.spw)
    if not seen:
        return QAScore(
            metric="calibration.phase_jump", value=0, score=1.0, short="no phase jumps",
            long=f"{where(band)}: no antenna's phase jumps within a calibrator scan.",
            applies_to=AppliesTo(vis=band.vis, spw=spws(band.vis, band.spws)),
        )  # fmt: skip
    parts = [f"{a} in scan {s} by {max(map(abs, d)):.0f}°" for (a, s), d in sorted(seen.items())]
    names = sorted({a for a, _ in seen})
    largest = max(abs(j.degrees) for j in band.jumps)
    score = 0.66 if len(names) > 1 or math.isnan(largest) else 0.8
    return QAScore(
        metric="calibration.phase_jump", value=largest, unit="deg", score=score,
        short=f"phase jumps of {', '.join(names)}",
        long=f"{where(band)}: the phase jumps within a scan: {'; '.join(parts[:8])}"
        + (f" and {len(parts) - 8} more." if len(parts) > 8 else "."),
        applies_to=AppliesTo(
            vis=band.vis, antenna=names, scan=sorted({s for _, s in seen}), spw=spws(band.vis, sorted(windows))
        ),
    )  # fmt: skip
