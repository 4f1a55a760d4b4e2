"""Pages of the stages from the application of the calibration to its delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from pl_hifv.heuristics.antenna_weights import Box, shaded
from pl_hifv.stages.applycals import ApplycalsResult
from pl_hifv.stages.flagtargetsdata import FlagtargetsdataResult
from pl_hifv.stages.mstransform import MstransformResult
from pl_hifv.stages.statwt import BandWeights, StatwtResult
from pl_hifv.weblog.interference import flag_tables
from pl_kernel.common.delivery_pages import applied_table
from pl_kernel.weblog.page import Page, renderer


@renderer(ApplycalsResult)
def applycals_page(page: Page, ctx: Any, result: ApplycalsResult) -> None:
    """What was applied to what, and what that flagged."""
    page.section("Applied calibration", anchor="applied")
    for vis, tables in result.dropped.items():
        page.note(f"{vis}: applied without {', '.join(tables)}, which have no solutions.", "error")
    for vis, names in result.uncalibrated.items():
        page.note(f"{vis}: no calibration is registered for {', '.join(names)}.", "warning")
    applied_table(page, result.applied)
    page.section("Flags by field", anchor="fields")
    page.table(
        ["Measurement set", "Field", "Before", "After", "Newly"],
        [[vis, f, *_fractions(result.before[vis].by_field.get(f, (0, 0)), counts)]
         for vis, after in result.after.items() for f, counts in after.by_field.items()],
        units={"Before": "%", "After": "%", "Newly": "%"}, filters=("field",),
        formats={"Before": ".2f", "After": ".2f", "Newly": ".2f"}, caption="Flagged data by field",
    )  # fmt: skip
    flag_tables(page, [(vis, result.before[vis], after) for vis, after in result.after.items()])


def _fractions(before: tuple[float, float], after: tuple[float, float]) -> tuple[float, float, float]:
    one = 100 * before[0] / before[1] if before[1] else 0.0
    two = 100 * after[0] / after[1] if after[1] else 0.0
    return one, two, two - one


WHISKERS = 3.944
"""Reach of whiskers beyond the box in its lengths: 6 σ of Gaussian noise (reference pipeline, 2026)."""
COLUMNS = {
    "Median": "median", "Q1": "q1", "Q3": "q3", "Mean": "mean", "Deviation": "deviation", "Lowest": "low",
    "Highest": "high",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class BoxPlot:
    """Boxes of one band by antenna, window or scan."""

    vis: str
    band: str
    kind: str
    when: str
    boxes: tuple[Box, ...]


@renderer(StatwtResult)
def statwt_page(page: Page, ctx: Any, result: StatwtResult) -> None:
    """Boxes of antenna weights by antenna, window and scan, as plots and tables."""
    page.section("Antenna weights", anchor="weights")
    page.text(
        "Weights of baselines are split into antennas, w = g₁·g₂; boxes span the quartiles, whiskers reach 6 σ; the"
        " extremes are in the tables."
    )
    page.table(
        ["Measurement set", "Band", "Mean before", "Mean after", "Variance after"],
        [[b.vis, b.band, a.mean, b.mean, b.variance] for a, b in zip(result.before, result.after, strict=True)],
        formats={"Mean before": ".4g", "Mean after": ".4g", "Variance after": ".4g"}, caption="All antennas",
    )  # fmt: skip
    shown = [("after", b) for b in result.after]
    if result.mode != "VLA":
        shown = [("before", b) for b in result.before] + shown
    items = [p for when, band in shown for p in _plots(when, band)]
    page.plots(
        draw_boxes, items, lambda i: f"{i.vis}, band {i.band}, by {i.kind}, {i.when}",
        lambda i: {"vis": i.vis, "band": i.band, "type": i.kind}, name="weights",
    )  # fmt: skip
    for kind in ("antenna", "spw", "scan"):
        rows = []
        for band in result.after:
            # Scans and windows without weights say nothing; an antenna without any is worth a row.
            boxes = [b for b in _boxes(band, kind) if b.count or kind == "antenna"]
            marks = [shaded([getattr(b, c) for b in boxes]) for c in COLUMNS.values()]
            rows += [
                [band.vis, band.band, b.name, *(getattr(b, c) for c in COLUMNS.values()),
                 ", ".join(n.lower() for n, m in zip(COLUMNS, marks, strict=True) if m[i])]
                for i, b in enumerate(boxes)
            ]  # fmt: skip
        names = list(COLUMNS)
        page.table(
            ["Measurement set", "Band", kind.capitalize(), *names, "Off"], rows, filters=("band", kind),
            formats=dict.fromkeys(names, ".4g"), caption=f"Antenna weights by {kind}; the last column names what is"
            " more than 3 robust deviations off the median of its column",
        )  # fmt: skip
    page.section("Flags", anchor="flags-statwt", level="detail")
    flag_tables(page, [(vis, result.flags_before[vis], after) for vis, after in result.flags_after.items()])


def _boxes(band: BandWeights, kind: str) -> tuple[Box, ...]:
    return {"antenna": band.antennas, "spw": band.spws, "scan": band.scans}[kind]


def _plots(when: str, band: BandWeights) -> list[BoxPlot]:
    found = []
    for kind in ("antenna", "spw", "scan"):
        boxes = tuple(b for b in _boxes(band, kind) if b.count)
        for start in range(0, len(boxes), 75):
            found.append(
                BoxPlot(vis=band.vis, band=band.band, kind=kind, when=when, boxes=boxes[start : start + 75])
            )
    return found


def draw_boxes(ctx_item: Any, item: BoxPlot, path: Path) -> None:
    """Draw boxes of antenna weights."""
    from pl_kernel.weblog import plots

    stats = [
        {
            "whislo": max(b.low, b.q1 - WHISKERS * (b.q3 - b.q1)), "q1": b.q1, "med": b.median, "q3": b.q3,
            "whishi": min(b.high, b.q3 + WHISKERS * (b.q3 - b.q1)), "label": b.name,
        }
        for b in item.boxes
    ]  # fmt: skip
    with plots.figure(path, min(12.0, max(5.0, 0.22 * len(stats) + 1.8)), 3.6, (0.8, 0.2, 0.75, 0.4)) as fig:
        ax = fig.subplots()
        ax.bxp(stats, showfliers=False)
        ax.tick_params(axis="x", rotation=60 if item.kind == "antenna" or len(stats) > 20 else 0)
        ax.set_xlabel(item.kind.capitalize())
        ax.set_ylabel("Antenna weight")
        ax.set_title(f"Weights by {item.kind}, {item.when}, band {item.band}")


@renderer(MstransformResult)
def mstransform_page(page: Page, ctx: Any, result: MstransformResult) -> None:
    """The measurement sets made."""
    page.section("Measurement sets", anchor="made")
    page.table(
        ["From", "Kind", "Name", "Fields", "Spw", "Rows", "Size", "Remark"],
        [[s.vis, s.kind, s.name or "none", ", ".join(s.fields), s.spw, s.rows, s.size_bytes / 1e6, s.reason]
         for s in result.splits],
        units={"Size": "MB"}, formats={"Size": ".1f"}, caption="Targets split off",
    )  # fmt: skip


@renderer(FlagtargetsdataResult)
def flagtargetsdata_page(page: Page, ctx: Any, result: FlagtargetsdataResult) -> None:
    """The user's commands and what they flagged."""
    page.section("Flags of the user", anchor="commands")
    page.table(
        ["Measurement set", "File", "Commands", "Before", "After"],
        [[s.vis, s.file or "none", len(s.commands), 100 * s.before.fraction, 100 * s.after.fraction]
         for s in result.sets],
        units={"Before": "%", "After": "%"}, formats={"Before": ".2f", "After": ".2f"}, caption="Flagged data",
    )  # fmt: skip
    for one in result.sets:
        if one.commands:
            page.code("\n".join(one.commands), f"Commands for {one.vis}")
    flagged = [(s.vis, s.before, s.after) for s in result.sets if s.commands]
    if flagged:
        flag_tables(page, flagged)
