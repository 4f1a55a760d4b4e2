"""Scores of lines, masks and baselines, and of what their statistics flag: maps of the reference pipeline (2026)."""

from __future__ import annotations

from collections.abc import Iterable

from pl_hsd.baselining import PolFit
from pl_hsd.linesearch import TOO_WIDE
from pl_hsd.ranges import SpectralRanges
from pl_hsd.spectrumjudging import PolJudgement
from pl_hsd.stages.baseline import BaselineResult, GroupLines
from pl_hsd.stages.blflag import BlflagResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo, linear

EDGE_LINE, WIDE_LINE, NO_LINE = 0.55, 0.6, 0.8
_WIDE_SHARE = 1 / 3


@scorer(BaselineResult)
def lines_found(result: BaselineResult) -> list[QAScore]:
    """Lines that reach the edge of the band, or fill more than a third of it; nothing found anywhere."""
    scores = []
    for group in result.groups:
        ranges = _ranges(group)
        if not ranges:
            if any(line.reason == TOO_WIDE for line in group.lines):
                scores.append(_too_wide(group))
            continue
        first, last = group.edge[0], group.nchan - 1 - group.edge[1]
        at_edge = any(a <= first or b >= last for a, b in ranges.spans)
        wide = ranges.width > _WIDE_SHARE * (group.nchan - sum(group.edge))
        score = EDGE_LINE if at_edge else WIDE_LINE if wide else 1.0
        kinds = [name for name, there in (("edge line", at_edge), ("wide line", wide)) if there]
        what = {
            (): "lines lie well inside the window",
            ("edge line",): "a line reaches the edge of the window: nothing holds the baseline on that side",
            ("wide line",): "lines fill more than a third of the window: little is left for the baseline",
            ("edge line", "wide line"): "a wide line reaches the edge of the window",
        }[tuple(kinds)]
        scores.append(
            QAScore(
                metric="SpectralLines", value=group.image_ranges, unit="channel", score=score,
                short=", ".join(kinds) or "lines found",
                long=f"Spw {group.spw}, {group.field}: {what} (image channels {group.image_ranges}).",
                applies_to=AppliesTo(vis=group.vis, field=group.field, spw=group.spw),
            )
        )  # fmt: skip
    if not scores:
        scores.append(
            QAScore(
                metric="SpectralLines", value="", score=NO_LINE, short="no lines found",
                long="No spectral line was found or given in any reduction group; one wider than half of its window "
                "would not be told from a baseline.",
            )
        )  # fmt: skip
    return scores


@scorer(BaselineResult)
def deviation_masks(result: BaselineResult) -> list[QAScore]:
    """Channels masked for their scatter: explained by a line or the atmosphere 0.88, else 0.65."""
    scores = []
    for mask in result.deviation:
        for (a, b), overlap in zip(mask.spans, mask.overlaps, strict=True):
            why = {
                "line": "where a line varies over the map", "atmosphere": "at a line of the atmosphere",
                "": "for no known reason",
            }[overlap]  # fmt: skip
            scores.append(
                QAScore(
                    metric="DeviationMask", value=f"{a}~{b}", unit="channel", score=0.88 if overlap else 0.65,
                    short="deviation mask" if overlap else "unexplained scatter",
                    long=f"{mask.vis}, {mask.antenna}, spw {mask.spw}, {mask.field}: channels {a}~{b} scatter more "
                    f"than others from spectrum to spectrum, {why}.",
                    applies_to=AppliesTo(vis=mask.vis, field=mask.field, spw=mask.spw, antenna=mask.antenna),
                )
            )  # fmt: skip
    return scores


@scorer(BaselineResult)
def baseline_flatness(result: BaselineResult) -> list[QAScore]:
    """How much the binned mean spectrum varies after subtraction, in its own scatter: 1.8 good, 3.6 bad."""
    scores = []
    for fit in result.fits:
        if fit.flatness is None:
            continue
        score = linear(fit.flatness, 1.8, 3.6, 1.0, 0.33)
        word = "poor" if score <= 0.66 else "moderate" if score <= 0.9 else "good"
        scores.append(
            QAScore(
                metric="BaselineFlatness", value=fit.flatness, score=score, short=f"{word} flatness",
                long=f"{_name(fit)}: the mean spectrum after subtraction varies by {fit.flatness:.2f} times its "
                f"scatter ({word}).",
                applies_to=_where(fit),
            )
        )  # fmt: skip
    return scores


@scorer(BaselineResult)
def ripple_left(result: BaselineResult) -> list[QAScore]:
    """Rms after subtraction over the noise of channel differences: 1.2 is good, 2 is 0.5, 3 is 0.

    The reference pipeline has no such score. Ripples of changing phase cancel in the mean spectrum, where the flatness
    does not see them.
    """
    scores = []
    for fit in result.fits:
        if not fit.noise or fit.rms_after is None:
            continue
        ratio = fit.rms_after / fit.noise
        score = linear(ratio, 1.2, 2.0, 1.0, 0.5) if ratio <= 2 else linear(ratio, 2.0, 3.0, 0.5, 0.0)
        scores.append(
            QAScore(
                metric="BaselineRipple", value=ratio, score=score,
                short="thermal residuals" if score > 0.9 else "ripples left in the spectra",
                long=f"{_name(fit)}: the rms after subtraction is {ratio:.2f} times the noise of neighbouring channels"
                + ("." if score > 0.9 else ": ripples are left that no baseline follows."),
                applies_to=_where(fit),
            )
        )  # fmt: skip
    return scores


@scorer(BaselineResult)
def spectra_fitted(result: BaselineResult) -> list[QAScore]:
    """Spectra that could not be fitted and were flagged: none 1, all 0."""
    scores = []
    for fit in result.fits:
        total = fit.spectra + fit.failed
        share = fit.spectra / total if total else 0.0
        if share < 1:
            long = f"{_name(fit)}: {fit.failed} of {total} spectra have too few channels to fit; they are flagged."
            scores.append(
                QAScore(
                    metric="FittedSpectra", value=share, score=share, short="spectra without baseline",
                    long=long if total else f"{_name(fit)}: all spectra were flagged before.", applies_to=_where(fit),
                )
            )  # fmt: skip
    return scores


@scorer(BlflagResult)
def flagged_by_statistics(result: BlflagResult) -> list[QAScore]:
    """Newly flagged fraction by field and window: up to 5 % 1; 50 % 0.5; more 0."""
    parts: dict[tuple[str, int], list[PolJudgement]] = {}
    for judged in result.judged:
        parts.setdefault((judged.field, judged.spw), []).append(judged)
    scores = []
    for (field, spw), members in parts.items():
        weight = sum(m.spectra for m in members)
        share = sum(m.additional * m.spectra for m in members) / weight if weight else 0.0
        score = 0.0 if share > 0.5 or not weight else linear(share, 0.05, 0.5, 1.0, 0.5)
        long = f"{field}, spw {spw}: {100 * share:.2g} % of the data were flagged by their statistics."
        scores.append(
            QAScore(
                metric="BlflagFraction", value=share, score=score, short=f"{100 * share:.2g} % flagged",
                long=long if weight else f"{field}, spw {spw}: nothing was left to be judged.",
                applies_to=AppliesTo(
                    vis=_names(m.ms for m in members), field=field, spw=spw,
                    antenna=_names(m.antenna for m in members),
                ),
            )
        )  # fmt: skip
    return scores


def _too_wide(group: GroupLines) -> QAScore:
    return QAScore(
        metric="SpectralLines", value="", unit="channel", score=WIDE_LINE, short="line or baseline",
        long=f"Spw {group.spw}, {group.field}: neighbouring positions share structure as wide as the window: a line "
        "and a baseline cannot be told apart, and what was subtracted may be emission.",
        applies_to=AppliesTo(vis=group.vis, field=group.field, spw=group.spw),
    )  # fmt: skip


def _ranges(group: GroupLines) -> SpectralRanges:
    spans = [(line.centre - line.width / 2, line.centre + line.width / 2) for line in group.lines if line.valid]
    return SpectralRanges.of([(max(round(a), 0), max(round(b), 0)) for a, b in spans]).clipped(group.nchan)


def _name(fit: PolFit) -> str:
    return f"{fit.ms}, {fit.antenna}, spw {fit.spw}, {fit.field}, {fit.pol}"


def _where(fit: PolFit) -> AppliesTo:
    return AppliesTo(vis=fit.ms, field=fit.field, spw=fit.spw, antenna=fit.antenna, pol=fit.pol)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
