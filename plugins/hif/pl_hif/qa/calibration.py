"""Scores of the calibration stages. Maps are those of the reference pipeline (2026) unless said otherwise."""

from __future__ import annotations

import math

from pl_hif.solve import Caltable, SolutionStats
from pl_hif.stages.bandpass import BandpassResult
from pl_hif.stages.fluxscale import FluxscaleResult
from pl_hif.stages.gaincal import GaincalResult
from pl_hif.stages.refant import RefantResult
from pl_kernel import QAScore, scorer
from pl_kernel.common.applyqa import applied_flags
from pl_kernel.qa import AppliesTo, linear

__all__ = ["applied_flags", "bandpass_solutions", "flux_scale", "gain_solutions", "refant_found"]


@scorer(RefantResult)
def refant_found(result: RefantResult) -> list[QAScore]:
    """1 with a reference antenna, 0 without; at most 0.6 when the best has lost half of its calibrator data."""
    scores = []
    for ranking in result.rankings:
        where = AppliesTo(vis=ranking.vis)
        if not ranking.ranked:
            scores.append(
                QAScore(
                    metric="refant.found", value=0, score=0.0, short="No reference antenna",
                    long=f"No antenna of {ranking.vis} can serve as phase reference.", applies_to=where,
                )
            )  # fmt: skip
            continue
        best = ranking.ranked[0]
        scores.append(
            QAScore(
                metric="refant.found", value=len(ranking.ranked), score=1.0 if best.good_fraction >= 0.5 else 0.6,
                short=f"Reference antenna {best.name}", long=f"{best.name} of {ranking.vis} is {best.reason}.",
                applies_to=AppliesTo(vis=ranking.vis, antenna=best.name),
            )
        )  # fmt: skip
    return scores


def snr_score(snr: float) -> float:
    """erf(snr/√2): the probability that a solution of this strength is no noise."""
    return math.erf(max(snr, 0.0) / math.sqrt(2)) if math.isfinite(snr) else 0.0


def jump_score(fraction: float) -> float:
    """Score of the fraction of outlying phase steps: erf(0.03/(f·√2)), stretched so that the usual bands fit."""
    if fraction <= 0:
        return 1.0
    d = math.erf(0.03 / (fraction * math.sqrt(2)))
    if d <= 0.2:
        return linear(d, 0.0212, 0.2, 0.34, 0.66)
    if d <= 0.3:
        return linear(d, 0.2, 0.3, 0.67, 0.90)
    return linear(d, 0.3, 1.0, 0.91, 1.0)


def flag_score(fraction: float) -> float:
    """1 up to 5 % flagged, 0.5 at 50 %, 0 above (fraction newly flagged)."""
    return 0.0 if fraction > 0.5 else linear(fraction, 0.05, 0.5, 1.0, 0.5)


@scorer(BandpassResult)
def bandpass_solutions(result: BandpassResult) -> list[QAScore]:
    """Per window the worst antenna's strength and smoothness, and the antennas without a bandpass."""
    scores: list[QAScore] = []
    for table in result.tables:
        scores.append(_missing_antennas(table, "bandpass"))
        good = [s for s in table.stats if s.flagged < s.solutions]
        for spw in sorted({s.spw for s in table.stats}):
            here = [s for s in good if s.spw == spw]
            if not here:
                scores.append(
                    QAScore(
                        metric="bandpass.snr", value=0.0, score=0.0, short=f"spw {spw}: no bandpass",
                        long=f"Spw {spw} of {table.vis} has no bandpass solution.",
                        applies_to=AppliesTo(vis=table.vis, spw=spw),
                    )
                )  # fmt: skip
                continue
            weak = min(here, key=lambda s: s.snr)
            rough = max(here, key=lambda s: s.phase_jumps)
            scores += [
                QAScore(
                    metric="bandpass.snr", value=weak.snr, score=snr_score(weak.snr),
                    short=f"SNR {weak.snr:.0f} or more",
                    long=f"The weakest bandpass of spw {spw} is that of {_who(weak)} with a signal-to-noise ratio of "
                    f"{weak.snr:.1f} per channel.", applies_to=AppliesTo(vis=table.vis, spw=spw, antenna=weak.antenna),
                ),
                QAScore(
                    metric="bandpass.phase_jumps", value=rough.phase_jumps, score=jump_score(rough.phase_jumps),
                    short=f"{100 * rough.phase_jumps:.1f} % phase jumps",
                    long=f"In the bandpass of {_who(rough)}, spw {spw}, {100 * rough.phase_jumps:.1f} % of the "
                    f"steps of the phase "
                    "between channels are outliers.",
                    applies_to=AppliesTo(vis=table.vis, spw=spw, antenna=rough.antenna),
                ),
            ]  # fmt: skip
    if not result.tables:
        scores.append(QAScore(metric="bandpass.snr", score=0.0, short="No bandpass", long="No bandpass was solved."))
    return scores


@scorer(GaincalResult)
def gain_solutions(result: GaincalResult) -> list[QAScore]:
    """Flagged solutions, antennas without any, and the weakest antenna's strength."""
    scores: list[QAScore] = []
    for table in result.tables:
        f = table.flagged_fraction
        where = AppliesTo(vis=table.vis)
        scores += [
            QAScore(
                metric="gains.flagged", value=f, score=flag_score(f), short=f"{100 * f:.1f} % flagged",
                long=f"{100 * f:.1f} % of the solutions ({table.kind}) of {table.vis} are flagged.", applies_to=where,
            ),
            _missing_antennas(table, table.kind),
        ]  # fmt: skip
        good = [s for s in table.stats if s.flagged < s.solutions]
        if good:
            weak = min(good, key=lambda s: s.snr)
            scores.append(
                QAScore(
                    metric="gains.snr", value=weak.snr, score=snr_score(weak.snr), short=f"SNR {weak.snr:.0f} or more",
                    long=f"The weakest solutions are those of {_who(weak)}, spw {weak.spw}: signal-to-noise ratio "
                    f"{weak.snr:.1f}.",
                    applies_to=AppliesTo(vis=table.vis, antenna=weak.antenna, spw=weak.spw),
                )
            )  # fmt: skip
    if not result.tables:
        scores.append(QAScore(metric="gains.flagged", score=0.0, short="No gains", long="No gains were solved."))
    return scores


@scorer(FluxscaleResult)
def flux_scale(result: FluxscaleResult) -> list[QAScore]:
    """All fields measured; relative errors (1 up to 1 %, then 1 − error); agreement of antennas; steep spectra 0.33."""
    scores: list[QAScore] = []
    measured = {m.field for m in result.measurements}
    missing = [f for f in dict.fromkeys(result.expected) if f not in measured]
    if result.expected:
        scores.append(
            QAScore(
                metric="fluxscale.measured", value=len(measured), score=1 - len(missing) / len(set(result.expected)),
                short=f"{len(measured)} flux densities",
                long="Every secondary calibrator has a flux density." if not missing
                else f"No flux density could be derived for {', '.join(missing)}.",
            )
        )  # fmt: skip
    for m in result.measurements:
        error = m.error_jy / m.flux_jy if m.flux_jy > 0 else math.inf
        where = AppliesTo(vis=m.vis, field=m.field, spw=m.spw)
        scores.append(
            QAScore(
                metric="fluxscale.error", value=error, score=1.0 if error < 0.01 else max(0.0, 1 - error),
                short=f"{m.field}: ±{100 * error:.2f} %",
                long=f"{m.field}, spw {m.spw}: {m.flux_jy:.4g} ± {m.error_jy:.2g} Jy from {m.solutions} solutions.",
                applies_to=where,
            )
        )  # fmt: skip
        if math.isfinite(m.gain_scatter):
            # Antennas of a healthy array agree within a few per cent; at 30 % one cannot speak of a scale (our choice).
            scores.append(
                QAScore(
                    metric="fluxscale.antenna_scatter", value=m.gain_scatter,
                    score=linear(m.gain_scatter, 0.05, 0.30, 1.0, 0.33),
                    short=f"antennas agree to {100 * m.gain_scatter:.1f} %",
                    long=f"The flux densities of {m.field} that single antennas give scatter by "
                    f"{100 * m.gain_scatter:.1f} %.",
                    applies_to=where,
                )
            )  # fmt: skip
    for fit in result.fits:
        if fit.spectral_index and abs(fit.spectral_index[0]) > 5:
            scores.append(
                QAScore(
                    metric="fluxscale.spectral_index", value=fit.spectral_index[0], score=0.33,
                    short=f"{fit.field}: steep",
                    long=f"The spectral index {fit.spectral_index[0]:.1f} of {fit.field} is not credible.",
                    applies_to=AppliesTo(vis=fit.vis, field=fit.field),
                )
            )  # fmt: skip
    return scores


def _missing_antennas(table: Caltable, what: str) -> QAScore:
    """Each antenna without a solution costs twice its share of the array: so many baselines are gone."""
    antennas = len({s.antenna for s in table.stats})
    gone = table.antennas_without()
    score = max(0.0, 1 - 2 * len(gone) / antennas) if antennas else 0.0
    return QAScore(
        metric=f"{what.split()[0]}.antennas", value=len(gone), score=score,
        short="All antennas solved" if not gone else f"{len(gone)} antennas without solution",
        long=f"Every antenna of {table.vis} has solutions ({what})." if not gone
        else f"Without any solution ({what}): {', '.join(gone)}.", applies_to=AppliesTo(vis=table.vis, antenna=gone),
    )  # fmt: skip


def _who(stats: SolutionStats) -> str:
    return f"antenna {stats.antenna}, receptor {stats.pol}"
