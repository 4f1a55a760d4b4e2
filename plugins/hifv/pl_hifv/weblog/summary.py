"""Page of hifv_plotsummary: the calibrated data at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.occupancy import PARALLEL
from pl_hifv.stages.plotsummary import FieldSummary, PlotsummaryResult
from pl_kernel.weblog.page import Page, renderer

CROSS = ("RL", "LR", "XY", "YX")


@attrs.frozen(kw_only=True)
class SummaryPlot:
    """One picture: a field, the windows of a band, and which correlations."""

    summary: FieldSummary
    file: str
    band: str
    spws: tuple[int, ...]
    correlations: tuple[str, ...] = PARALLEL


@renderer(PlotsummaryResult)
def plotsummary_page(page: Page, ctx: Any, result: PlotsummaryResult) -> None:
    """Phases of calibrators against time, amplitudes against baseline, amplitude and phase against frequency."""
    page.section("Calibrators", anchor="calibrators")
    page.table(
        ["Measurement set", "Field", "Intents", "Phase scatter", "Worst antenna", "Its scatter"],
        [[s.vis, s.field, ", ".join(s.intents), s.phase_rms_deg, s.worst_antenna, s.worst_rms_deg]
         for s in result.calibrators],
        units={"Phase scatter": "deg", "Its scatter": "deg"}, filters=("field",),
        formats={"Phase scatter": ".1f", "Its scatter": ".1f"},
        caption="Calibrated phases per scan, baseline and window, about zero",
    )  # fmt: skip
    calibrators = _items(ctx, result.calibrators)
    targets = _items(ctx, result.targets)
    _plots(page, draw_time, calibrators, "time", "Amplitude and phase against time")
    _plots(page, draw_uv, calibrators, "uv", "Amplitude against baseline")
    _plots(page, draw_frequency, calibrators, "frequency", "Amplitude and phase against frequency")
    if result.polarized:
        page.section("Cross hands", anchor="polarization")
        crossed = [attrs.evolve(i, correlations=CROSS) for i in calibrators if _is_polarized(i.summary)]
        _plots(page, draw_frequency, crossed, "crosshands", "Cross hands against frequency")
    page.section("Targets", anchor="targets")
    if result.not_shown:
        page.note(f"{result.not_shown} targets are not shown.")
    _plots(page, draw_frequency, targets, "target", "Amplitude and phase against frequency, inner half of the uv range")
    _plots(page, draw_uv, targets, "targetuv", "Amplitude against baseline")


def _is_polarized(summary: FieldSummary) -> bool:
    return bool({"POLARIZATION", "POLANGLE", "POLLEAKAGE"} & set(summary.intents))


def _items(ctx: Any, summaries: tuple[FieldSummary, ...]) -> list[SummaryPlot]:
    return [
        SummaryPlot(summary=s, file=str(ctx.stage_dir / s.file), band=band, spws=spws)
        for s in summaries for band, spws in s.bands.items()
    ]  # fmt: skip


def _plots(page: Page, function: Any, items: list[SummaryPlot], name: str, title: str) -> None:
    page.plots(
        function, items, lambda i: f"{i.summary.field} ({', '.join(i.summary.intents)}), band {i.band}",
        lambda i: {"vis": i.summary.vis, "field": i.summary.field, "band": i.band, "type": name}, name=name,
        title=title,
    )  # fmt: skip


def _points(item: SummaryPlot) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]] | None:
    """Rows (spw, scan, antennas, time, uv), values and categories of the correlations shown, flattened."""
    with np.load(item.file, allow_pickle=False) as stored:
        rows, values, names = stored["rows"], stored["values"], [str(n) for n in stored["names"]]
    chosen = np.isin(rows[:, 0], item.spws)
    shown = [n for n in names if n in item.correlations]
    if not chosen.any() or not shown:
        return None
    picked = [(rows[chosen], values[chosen, names.index(n)], np.full(int(chosen.sum()), i))
              for i, n in enumerate(shown)]  # fmt: skip
    where, data, kind = (np.concatenate([p[k] for p in picked]) for k in range(3))
    good = np.isfinite(data)
    return where[good], data[good], kind[good], shown


def draw_time(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw amplitude and phase of the averages against time."""
    from pl_kernel.weblog import plots

    points = _points(item)
    if points is None or not points[0].size:
        return False
    rows, values, kinds, labels = points
    with plots.figure(path, 7.2, 4.8, (0.82, 0.9, 0.55, 0.4)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        x = plots.mjd_seconds_to_dates(rows[:, 4])
        plots.draw_points(top, x, np.abs(values), kinds)
        plots.draw_points(bottom, x, np.degrees(np.angle(values)), kinds)
        _finish(top, bottom, item, labels)
        bottom.xaxis_date()
        bottom.set_xlabel("Time (UTC)")
    return None


def draw_uv(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw the amplitude of the averages against baseline length."""
    from pl_kernel.weblog import plots

    points = _points(item)
    if points is None or not points[0].size:
        return False
    rows, values, kinds, labels = points
    plots.scatter(
        path, rows[:, 5] / 1e3, np.abs(values), categories=kinds, labels=labels, xlabel="Baseline", xunit="kλ",
        ylabel="Amplitude", yunit="Jy", title=item.summary.field, subtitle=f"band {item.band}",
    )  # fmt: skip
    return None


def draw_frequency(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw amplitude and phase of the mean over time and baselines against frequency."""
    from pl_kernel.weblog import plots

    x, y, kinds, labels = [], [], [], []
    with np.load(item.file, allow_pickle=False) as stored:
        for spw in item.spws:
            if f"spectrum_{spw}" not in stored.files:
                continue
            for i, name in enumerate(str(n) for n in stored[f"correlations_{spw}"]):
                if name not in item.correlations:
                    continue
                if name not in labels:
                    labels.append(name)
                x.append(stored[f"frequency_{spw}"])
                y.append(stored[f"spectrum_{spw}"][i])
                kinds.append(np.full(x[-1].size, labels.index(name)))
    if not x:
        return False
    frequency, values, kind = np.concatenate(x) / 1e9, np.concatenate(y), np.concatenate(kinds)
    good = np.isfinite(values)
    with plots.figure(path, 7.2, 4.8, (0.82, 0.9, 0.55, 0.4)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        plots.draw_points(top, frequency[good], np.abs(values[good]), kind[good])
        plots.draw_points(bottom, frequency[good], np.degrees(np.angle(values[good])), kind[good])
        _finish(top, bottom, item, labels)
        bottom.set_xlabel("Frequency (GHz)")
    return None


def _finish(top: Any, bottom: Any, item: SummaryPlot, labels: list[str]) -> None:
    from matplotlib.lines import Line2D

    from pl_kernel.weblog import plots

    low, high = top.get_ylim()
    if 0 < low < 0.5 * high:
        top.set_ylim(bottom=0)
    top.set_ylabel("Amplitude (Jy)")
    bottom.set_ylabel("Phase (deg)")
    top.set_title(f"{item.summary.field}, band {item.band}", loc="left")
    top.set_title(item.summary.vis, loc="right", fontsize=8.5)
    colours = plots.PALETTE[: len(labels)]
    handles = [Line2D([], [], marker="o", linestyle="", markersize=4, color=c) for c in colours]
    top.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
