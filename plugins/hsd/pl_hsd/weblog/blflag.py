"""Page of hsd_blflag: who was flagged why, and the statistics behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.spectrumjudging import REASONS, PolJudgement
from pl_hsd.stages.blflag import BlflagResult
from pl_kernel import renderer

_STATISTICS = {
    "pofr": "rms_after", "prfr": "rms_before", "pofrm": "mean_after", "prfrm": "mean_before", "pofre": "rms_after",
    "prfre": "rms_before", "tsys": "tsys",
}  # fmt: skip

_LABELS = {"tsys": "Tsys (K)", "pofrm": "Rms of the deviation", "prfrm": "Rms of the deviation"}


@attrs.frozen(kw_only=True)
class StatisticPlot:
    """One rule for one member."""

    file: str
    rule: str
    ms: str
    spw: int
    field: str
    antenna: str
    correlations: tuple[str, ...]
    limits: tuple[float | None, ...]
    threshold: float

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}-{self.rule}"


@renderer(BlflagResult)
def blflag_page(page: Any, ctx: Any, result: BlflagResult) -> None:
    """Tables by reason and by window, then one section of plots for each kind of statistic."""
    page.section("Flagged spectra")
    if not result.baselined:
        page.note("No baselines have been subtracted: only the rules for spectra before are used.", "warning")
    rules = [rule for rule in REASONS if any(rule in j.by_rule for j in result.judged)]
    _summary(
        page, result, rules, ("Data",), "Share of the spectra that each rule rejects (several may reject one), and of "
        "all samples before and after this stage.",
    )  # fmt: skip
    _summary(page, result, rules, ("Field", "Spw"), "The same by field and window, all data and antennas together.")
    page.table(
        ["Data", "Field", "Spw", "Antenna", "Pol", "Spectra", "Flagged", "Reasons", "Before", "Additional", "Total"],
        [
            [j.ms, j.field, j.spw, j.antenna, j.pol, j.spectra, j.flagged, _reasons(j), 100 * j.before,
             100 * j.additional, 100 * j.total]
            for j in result.judged
        ],
        units={"Before": "%", "Additional": "%", "Total": "%"}, filters=("Data", "Field", "Spw", "Antenna"),
        formats={"Before": ".2f", "Additional": ".2f", "Total": ".2f"},
    )  # fmt: skip
    for ms, name in result.commands.items():
        page.download(f"stages/{ctx.stage_dir.name}/{name}", f"Flag commands of {ms}")
    if not result.plotted:
        return
    for rule in rules:
        page.section(REASONS[rule].capitalize(), anchor=rule, level="detail")
        page.plots(draw_statistic, _plots(ctx, result, rule), caption=_caption, tags=_tags, name=f"blflag-{rule}")


_KEYS: dict[str, Callable[[PolJudgement], str | int]] = {
    "Data": lambda j: j.ms, "Field": lambda j: j.field, "Spw": lambda j: j.spw,
}  # fmt: skip


def _summary(page: Any, result: BlflagResult, rules: list[str], keys: tuple[str, ...], caption: str) -> None:
    """Table of the rules' shares, one row for everything that has the same ``keys``."""
    parts: dict[tuple[str | int, ...], list[PolJudgement]] = {}
    for judged in result.judged:
        parts.setdefault(tuple(_KEYS[key](judged) for key in keys), []).append(judged)
    shares = [*(REASONS[r].capitalize() for r in rules), "Before", "Additional", "Total"]
    page.table(
        [*keys, *shares],
        [
            [*key, *(_percent(mine, r) for r in rules), *(_share(mine, k) for k in ("before", "additional", "total"))]
            for key, mine in parts.items()
        ],
        units=dict.fromkeys(shares, "%"), formats=dict.fromkeys(shares, ".2f"), caption=caption,
    )  # fmt: skip


def _plots(ctx: Any, result: BlflagResult, rule: str) -> list[StatisticPlot]:
    found: dict[str, StatisticPlot] = {}
    for judged in result.judged:
        own = [j for j in result.judged if j.file == judged.file]
        if rule in judged.by_rule and (ctx.stage_dir / judged.file).is_file():
            found.setdefault(
                judged.file,
                StatisticPlot(
                    file=str(ctx.stage_dir / judged.file), rule=rule, ms=judged.ms, spw=judged.spw, field=judged.field,
                    antenna=judged.antenna, correlations=tuple(j.pol for j in own),
                    limits=tuple(j.limits.get(rule) for j in own), threshold=result.thresholds[rule],
                ),
            )  # fmt: skip
    return list(found.values())


def draw_statistic(_ctx: Any, item: StatisticPlot, path: Path) -> dict[str, Any] | bool:
    """One statistic against time; what it rejects is marked."""
    from pl_kernel.weblog.plots.style import BAD, colours, draw_points, figure, legend, margins_for, time_axis, titles
    from pl_kernel.weblog.plots.style import mjd_seconds_to_dates as dates

    with np.load(item.file, allow_pickle=False) as arrays:
        values = arrays[_STATISTICS[item.rule]].astype(float)
        time, bad, dead, expected = arrays["time_s"], arrays[f"bad_{item.rule}"], arrays["dead"], arrays["expected"]
    values = np.where((values < 0) | dead, np.nan, values)
    against = item.rule.endswith("e")
    if against:
        values = np.where(expected > 0, values / np.where(expected > 0, expected, 1), np.nan)
    if not np.isfinite(values).any():
        return False
    palette = colours(len(item.correlations))
    kinds = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    rejected = bad & ~dead & np.isfinite(values)
    with figure(path, 7.2, 3.6, margins_for("title", item.correlations)) as fig:
        ax = fig.subplots()
        when = np.repeat(dates(time), values.shape[1])
        draw_points(ax, when, values.ravel(), kinds.ravel(), palette)
        if rejected.any():
            ax.plot(when[rejected.ravel()], values[rejected], "x", color=BAD, markersize=6, zorder=4)
        for limit, colour in zip(item.limits, palette, strict=True):
            if limit is not None or against:
                ax.axhline(item.threshold if against else limit, color=BAD if against else colour, linewidth=0.9,
                           linestyle=(0, (5, 3)))  # fmt: skip
        ax.set_ylabel("Rms over expected noise" if against else _LABELS.get(item.rule, "Rms"))
        ax.set_ylim(bottom=0)
        time_axis(ax)
        legend(ax, item.correlations, palette)
        titles(fig, ax, f"{item.field}, spw {item.spw}: {REASONS[item.rule]}", item.antenna)
    return {"Rejected": f"{int(rejected.sum())} of {int(np.isfinite(values).sum())}"}


def _caption(item: StatisticPlot) -> str:
    return f"{item.antenna}, spw {item.spw}, {item.field}, {item.ms}"


def _tags(item: StatisticPlot) -> dict[str, str]:
    return {"vis": item.ms, "field": item.field, "spw": str(item.spw), "antenna": item.antenna}


def _reasons(judged: PolJudgement) -> str:
    return "; ".join(f"{REASONS[rule]}: {n}" for rule, n in judged.by_rule.items() if n)


def _percent(judged: list[PolJudgement], rule: str) -> float | None:
    total = sum(j.spectra for j in judged)
    return 100 * sum(j.by_rule.get(rule, 0) for j in judged) / total if total else None


def _share(judged: list[PolJudgement], name: str) -> float | None:
    return 100 * sum(getattr(j, name) for j in judged) / len(judged) if judged else None
