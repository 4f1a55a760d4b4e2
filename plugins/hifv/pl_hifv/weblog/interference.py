"""Pages of the stages that flag interference."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.occupancy import FlagMap, Spectrum
from pl_hifv.stages.checkflag import Checked, CheckflagResult
from pl_hifv.stages.targetflag import TargetflagResult
from pl_kernel.weblog.page import Page, renderer


@attrs.frozen(kw_only=True)
class SpectrumPlot:
    """Spectra of one window before and after, on one scale."""

    vis: str
    spw: int
    before: tuple[Spectrum, ...]
    after: tuple[Spectrum, ...]


@attrs.frozen(kw_only=True)
class MapPlot:
    """Flagged part by antenna and window."""

    vis: str
    title: str
    counts: FlagMap


@renderer(CheckflagResult)
def checkflag_page(page: Page, ctx: Any, result: CheckflagResult) -> None:
    """Summary by measurement set, maps of antennas and windows, spectra before and after."""
    page.section("Summary", anchor="summary")
    for vis in result.empty:
        page.note(f"{vis} has no data for mode '{result.mode}'.")
    _page(page, result.sets)


@renderer(TargetflagResult)
def targetflag_page(page: Page, ctx: Any, result: TargetflagResult) -> None:
    """The same for the plain flagging."""
    page.section("Summary", anchor="summary")
    page.note("This stage is kept for old recipes; hifv_checkflag('target-vla') does the same and more.")
    _page(page, result.sets)


def _page(page: Page, sets: tuple[Checked, ...]) -> None:
    rows = [
        [c.vis, ", ".join(c.fields), ", ".join(map(str, c.scans)), 100 * c.before.fraction, 100 * c.after.fraction,
         100 * c.newly, c.version]
        for c in sets
    ]  # fmt: skip
    page.table(
        ["Measurement set", "Fields", "Scans", "Before", "After", "Newly", "Flags saved as"], rows,
        units={"Before": "%", "After": "%", "Newly": "%"},
        formats={"Before": ".2f", "After": ".2f", "Newly": ".2f"}, caption="Flagged data of the selection",
    )  # fmt: skip
    jumps = [[c.vis, j.antenna, j.field, j.scan, j.degrees, j.end_s - j.start_s] for c in sets for j in c.jumps]
    if jumps:
        page.table(
            ["Measurement set", "Antenna", "Field", "Scan", "Step", "Flagged"], jumps,
            units={"Step": "deg", "Flagged": "s"}, formats={"Step": ".0f", "Flagged": ".1f"},
            caption="Steps of antenna phases within scans",
        )  # fmt: skip
    flag_tables(page, [(c.vis, c.before, c.after) for c in sets])
    page.section("Spectra", anchor="spectra")
    page.plots(
        draw_spectra, [s for c in sets for s in _spectra(c)], name="spectra", title="Amplitude before and after",
        caption=lambda s: f"{s.vis}, spw {s.spw}", tags=lambda s: {"vis": s.vis, "spw": s.spw},
    )  # fmt: skip
    page.section("Steps", anchor="steps", level="detail")
    page.table(
        ["Measurement set", "Algorithm", "Correlation", "Column", "Fields", "Thresholds", "Pulled down"],
        [[c.vis, s.algorithm, s.correlation, s.column, s.fields, s.thresholds or None, s.lowered or None]
         for c in sets for s in c.steps],
        caption="What was asked of CASA; thresholds pulled down to the median of their baseband",
        filters=("algorithm", "correlation"),
    )  # fmt: skip


def flag_tables(page: Page, sets: list[tuple[str, FlagMap, FlagMap]]) -> None:
    """Maps of antennas and windows, and the same as tables, for pairs of counts (before, after)."""
    page.section("Flags by antenna and spw", anchor="flags")
    items = [MapPlot(vis=v, title=t, counts=c) for v, b, a in sets for t, c in (("before", b), ("after", a))]
    page.plots(
        draw_map, items, name="flagmap", title="Flagged part by antenna and spw",
        caption=lambda m: f"{m.vis}, {m.title}", tags=lambda m: {"vis": m.vis, "type": m.title},
    )  # fmt: skip
    for kind, rows in (
        ("Antenna", [[v, k, *_percent(b.by_antenna()[k], f)] for v, b, a in sets for k, f in a.by_antenna().items()]),
        ("Spw", [[v, k, *_percent(b.by_spw()[k], f)] for v, b, a in sets for k, f in a.by_spw().items()]),
        ("Correlation", [
            [v, k, *_percent(_share(b.by_correlation.get(k)), _share(counts))]
            for v, b, a in sets for k, counts in a.by_correlation.items()
        ]),
    ):  # fmt: skip
        page.table(
            ["Measurement set", kind, "Before", "After", "Newly"], rows, caption=f"Flagged data by {kind.lower()}",
            units={"Before": "%", "After": "%", "Newly": "%"}, filters=(kind.lower(),),
            formats={"Before": ".2f", "After": ".2f", "Newly": ".2f"},
        )  # fmt: skip


def _share(counts: tuple[float, float] | None) -> float:
    return counts[0] / counts[1] if counts and counts[1] else 0.0


def _percent(before: float, after: float) -> tuple[float, float, float]:
    return 100 * before, 100 * after, 100 * (after - before)


def _spectra(checked: Checked) -> list[SpectrumPlot]:
    spws = dict.fromkeys(s.spw for s in (*checked.spectra_before, *checked.spectra_after))
    return [
        SpectrumPlot(
            vis=checked.vis, spw=spw, before=tuple(s for s in checked.spectra_before if s.spw == spw),
            after=tuple(s for s in checked.spectra_after if s.spw == spw),
        )
        for spw in spws
    ]  # fmt: skip


def draw_map(ctx_item: Any, item: MapPlot, path: Path) -> None:
    """Draw the flagged part by antenna and window."""
    from pl_kernel.weblog import plots

    plots.matrix(
        path, 100 * item.counts.matrix, item.counts.antennas, [str(s) for s in item.counts.spws],
        label="Flagged (%)", limits=(0, 100), row_title="Antenna", column_title="Spw", title=f"Flags {item.title}",
        subtitle=item.vis, write=".0f",
    )  # fmt: skip


def draw_spectra(ctx_item: Any, item: SpectrumPlot, path: Path) -> bool | None:
    """Draw the largest and the mean amplitude against frequency: before above, after below, the same scale."""
    from pl_kernel.weblog import plots

    if not any(np.isfinite(np.asarray(s.peak)).any() for s in item.before):
        return False
    hands = tuple(max(([s.correlation for s in side] for side in (item.before, item.after)), key=len))
    key = ("before and after", hands)
    with plots.kept_figure(path, key, lambda fig: _Panels(fig, hands), 7.2, 4.8, (0.82, 1.25, 0.55, 0.4)) as panels:
        panels.show(item)
    return None


class _Panels:
    """Spectra before above those after; ``show`` draws those of a window."""

    def __init__(self, fig: Any, correlations: tuple[str, ...]) -> None:
        from pl_kernel.weblog import plots

        self.axes = fig.subplots(2, 1, sharex=True, sharey=True)
        fig.subplots_adjust(hspace=0.2)
        self.lines = []
        for ax in self.axes:
            for colour, name in zip(plots.PALETTE, correlations, strict=False):
                peak = ax.plot([], [], ".", markersize=3, color=colour, label=f"{name} largest")[0]
                self.lines.append((peak, ax.plot([], [], "-", linewidth=1.2, color=colour, label=f"{name} mean")[0]))
            ax.set_ylabel("Amplitude (Jy)")
        self.axes[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, fontsize=7.5)
        self.axes[0].set_title("before", loc="left", fontsize=9.5)
        self.axes[1].set_title("after", loc="left", fontsize=9.5)
        self.axes[1].set_xlabel("Frequency (GHz)")

    def show(self, item: SpectrumPlot) -> None:
        half = len(self.lines) // 2
        for lines, spectra in ((self.lines[:half], item.before), (self.lines[half:], item.after)):
            for (peak, mean), s in itertools.zip_longest(lines, spectra[:half]):
                x = np.asarray(s.frequency_hz) / 1e9 if s else np.zeros(0)
                peak.set_data(x, s.peak if s else x)
                mean.set_data(x, s.mean if s else x)
        values = np.concatenate([np.asarray(s.peak) for s in item.before]) if item.before else np.array([1.0])
        good = values[np.isfinite(values)]
        # Interference would press everything else onto the axis.
        scale = "log" if good.size and good.min() > 0 and good.max() > 20 * np.median(good) else "linear"
        for ax in self.axes:
            if ax.get_yscale() != scale:
                ax.set_yscale(scale)
                if scale == "log":
                    ax.minorticks_off()
                    ax.yaxis.set_major_formatter(lambda value, _place: f"{value:g}")
            ax.relim()
            ax.autoscale_view()
        self.axes[0].set_title(f"{item.vis}, spw {item.spw}", loc="right", fontsize=8.5)
