"""Scores of hifv_fluxboot."""

from __future__ import annotations

import math

from pl_hifv.heuristics.fluxboot import SUSPICIOUS_INDEX, indices_absurd
from pl_hifv.qa.bpdcals import SpwNames, failures
from pl_hifv.stages.fluxboot import BandSpectrum, FluxbootResult, FluxPoint
from pl_kernel import QAScore, scorer
from pl_kernel.context import Context
from pl_kernel.qa import AppliesTo

GOOD_RESIDUAL = 0.01
LARGE_RESIDUAL = 0.3
HALF = 0.5
WARNING = 0.66
RELATIVE = WARNING
"""Score of a flux scale that is relative by decision: nobody may take the numbers for Jy."""
NEEDLESSLY_RELATIVE = 0.5


@scorer(FluxbootResult)
def flux_densities(result: FluxbootResult, context: Context) -> list[QAScore]:
    """Residuals of the fits, spectral indices, missing flux densities, flags and models."""
    spws = SpwNames(context)
    return [
        *failures(result.failures),
        *(_relative(result) if result.relative else _residuals(result, spws)),
        *_missing(result),
        *_indices(result),
        *_flags(result, spws),
        *_models(result, spws),
    ]


def _relative(result: FluxbootResult) -> list[QAScore]:
    """Nothing was asked for and nothing is missing, unless the data could have had a flux scale."""
    scores = []
    if not result.tables:
        return [
            QAScore(
                metric="flux.scale", score=0.0, short="no amplitudes",
                long="The amplitudes of no band could be solved for.",
            )
        ]  # fmt: skip
    for key, names in result.references.items():
        vis, _, band = key.rpartition(" ")
        text = (
            f"{', '.join(names)} could set the flux scale: run recipe hifv, which uses it."
            if names
            else "there is no flux calibrator, and the recipe expects none."
        )
        scores.append(
            QAScore(
                metric="flux.scale", score=NEEDLESSLY_RELATIVE if names else RELATIVE, short="relative flux scale",
                long=f"{vis}, {band} band: flux densities are relative; {text}",
                applies_to=AppliesTo(vis=vis, field=names),
            )
        )  # fmt: skip
    return scores


def _residuals(result: FluxbootResult, spws: SpwNames) -> list[QAScore]:
    """1 - largest |residual|, and 1 below 1 %; the reference pipeline takes the largest signed one.

    More than 30 % is a warning at least (it logs one). Windows enter as they are measured; a calibrator that is weak
    shows here.
    """
    scores = []
    expected = sum(len(v) for v in result.expected.values())
    if not result.points:
        if expected:
            return [
                QAScore(
                    metric="flux.residual", score=0.0, short="no flux densities",
                    long=f"No flux density of any of {expected} secondary calibrators could be derived.",
                )
            ]  # fmt: skip
        return [
            QAScore(
                metric="flux.residual", score=1.0, short="nothing to derive",
                long="Every calibrator is a standard; there is no flux density to derive.",
            )
        ]  # fmt: skip
    for vis in dict.fromkeys(p.vis for p in result.points):
        points = [p for p in result.points if p.vis == vis and math.isfinite(p.residual)]
        if not points:
            scores.append(
                QAScore(
                    metric="flux.residual", score=0.0, short="no fit", long=f"{vis}: no flux density could be fitted.",
                    applies_to=AppliesTo(vis=vis),
                )
            )  # fmt: skip
            continue
        worst: FluxPoint = max(points, key=lambda p: abs(p.residual))
        size = abs(worst.residual)
        score = 1.0 if size < GOOD_RESIDUAL else max(0.0, 1.0 - size)
        score = min(score, WARNING) if size > LARGE_RESIDUAL else score
        indices = [s.fit.spectral_index[0] for s in result.spectra if s.vis == vis and s.fit.order > 0]
        absurd = len({p.spw for p in points}) > 1 and indices_absurd(indices)
        spw = spws(vis, [worst.spw])[0]
        scores.append(
            QAScore(
                metric="flux.residual", value=worst.residual, score=0.0 if absurd else score,
                short=f"largest residual {100 * size:.2g} %",
                long=f"{vis}: the flux density of {worst.field} in spw {spw} is {100 * size:.2g} % off its fit, the"
                " largest of all" + ("; and all spectral indices are absurd." if absurd else "."),
                applies_to=AppliesTo(vis=vis, field=worst.field, spw=spw),
            )
        )  # fmt: skip
    return scores


def _missing(result: FluxbootResult) -> list[QAScore]:
    """Calibrators without a flux density in a band are failures already; here their share."""
    expected = [(key.rpartition(" "), name) for key, names in result.expected.items() for name in names]
    found = {(p.vis, p.band, p.field) for p in result.points}
    if not expected:
        return []
    lost = [(vis, band, name) for (vis, _, band), name in expected if (vis, band, name) not in found]
    score = 1.0 - len(lost) / len(expected)
    text = ", ".join(f"{name} ({vis}, {band} band)" for vis, band, name in lost)
    return [
        QAScore(
            metric="flux.derived", value=len(expected) - len(lost), score=score,
            short=f"{len(expected) - len(lost)} of {len(expected)} flux densities",
            long=f"Flux densities were derived for {len(expected) - len(lost)} of {len(expected)} secondary calibrators"
            " and bands" + (f"; there is none of {text}." if lost else "."),
            applies_to=AppliesTo(field=[name for _, _, name in lost]),
        )
    ]  # fmt: skip


def _indices(result: FluxbootResult) -> list[QAScore]:
    def index(s: BandSpectrum) -> float:
        return s.fit.spectral_index[0]

    wild = [s for s in result.spectra if s.fit.order > 0 and abs(index(s)) > SUSPICIOUS_INDEX]
    return [
        QAScore(
            metric="flux.spectral_index", value=index(s), score=0.33, short=f"spectral index {index(s):.1f}",
            long=f"{s.vis}: {s.field} has a spectral index of {index(s):.1f} in {s.band} band; none is beyond"
            f" ±{SUSPICIOUS_INDEX:g}.",
            applies_to=AppliesTo(vis=s.vis, field=s.field),
        )
        for s in wild
    ]  # fmt: skip


def _flags(result: FluxbootResult, spws: SpwNames) -> list[QAScore]:
    scores = []
    for vis, seen in result.flag_counts.items():
        # The copy holds no fully flagged rows; what is left of flags counts against the calibrators as a whole.
        scores.append(
            QAScore(
                metric="flux.flagged", value=seen.fraction, score=1.0 - seen.fraction,
                short=f"{100 * seen.fraction:.1f} % of the calibrators flagged",
                long=f"{vis}: {100 * seen.fraction:.1f} % of the calibrators' data are flagged where the flux densities"
                " are derived.",
                applies_to=AppliesTo(vis=vis),
            )
        )  # fmt: skip
        half = [
            s for s, (flagged, total) in seen.by.get("spw", {}).items() if total and flagged / total > HALF
        ]
        lost = sorted({*(int(s) for s in half), *result.lost_spws.get(vis, ())})
        for spw in lost:
            part = 1.0 - seen.fraction_of("spw", str(spw))
            name = spws(vis, [spw])[0]
            scores.append(
                QAScore(
                    metric="flux.lost_spw", value=1.0 - part, score=min(0.33, part),
                    short=f"spw {name} flagged",
                    long=f"{vis}: {100 * (1 - part):.0f} % of the calibrators' data in spw {name} are flagged.",
                    applies_to=AppliesTo(vis=vis, spw=name),
                )
            )  # fmt: skip
    return scores


def _models(result: FluxbootResult, spws: SpwNames) -> list[QAScore]:
    return [
        QAScore(
            metric="flux.model", value=1.0, unit="Jy", score=0.33, short=f"{m.field} has a model of 1 Jy",
            long=f"{m.vis}: the model of {m.field} is still 1 Jy in spws {', '.join(spws(m.vis, m.spws))}.",
            applies_to=AppliesTo(vis=m.vis, field=m.field, spw=spws(m.vis, m.spws)),
        )
        for m in result.unit
    ]  # fmt: skip
