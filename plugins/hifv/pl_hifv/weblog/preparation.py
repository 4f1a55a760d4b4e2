"""Pages of hifv_hanning and hifv_syspower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.occupancy import virtual_ids
from pl_hifv.stages.hanning import HanningResult
from pl_hifv.stages.syspower import BandCompression, SyspowerResult
from pl_kernel.weblog.page import Page, renderer


@renderer(HanningResult)
def hanning_page(page: Page, ctx: Any, result: HanningResult) -> None:
    """Window by window: smoothed or not, and why."""
    page.section("Windows", anchor="windows")
    known = {ms.name: virtual_ids(ctx, ms) for ms in ctx.context.measurement_sets}
    rows = [
        [s.vis, known.get(s.vis, {}).get(w.spw, w.spw), w.name, w.centre_hz / 1e9, w.bandwidth_hz / 1e6,
         w.channel_hz / 1e3, "yes" if w.smoothed else "no", w.reason]
        for s in result.sets for w in s.windows
    ]  # fmt: skip
    page.table(
        ["Measurement set", "Spw", "Name", "Centre", "Bandwidth", "Channel", "Smoothed", "Reason"], rows,
        units={"Centre": "GHz", "Bandwidth": "MHz", "Channel": "kHz"}, filters=("spw", "smoothed"),
        formats={"Centre": ".4f", "Bandwidth": ".3f", "Channel": ".3f"}, caption="Hanning smoothing",
    )  # fmt: skip
    for one in result.sets:
        if one.path:
            page.text(f"The smoothed data of {one.vis} are {one.path}; the raw data are untouched.")


@attrs.frozen(kw_only=True)
class BandPlot:
    """A band and where its templates are."""

    band: BandCompression
    file: str
    clip: tuple[float, float]


@renderer(SyspowerResult)
def syspower_page(page: Page, ctx: Any, result: SyspowerResult) -> None:
    """Compression by band: summary against time, boxes and flags by antenna, switched power."""
    page.section("Compression", anchor="compression")
    for vis, reason in result.skipped.items():
        page.note(f"{vis}: {reason}")
    if not result.bands:
        return
    page.text(
        "The requantizer gains are multiplied by the template." if result.applied
        else "The template is measured only; the requantizer gains stay as they are."
    )  # fmt: skip
    items = [BandPlot(band=b, file=str(ctx.stage_dir / b.file), clip=result.clip) for b in result.bands]

    def tags(item: BandPlot) -> dict[str, str]:
        return {"vis": item.band.vis, "band": item.band.band}

    def caption(item: BandPlot) -> str:
        return f"{item.band.vis}, band {item.band.band}"

    page.plots(draw_summary, items, caption, tags, name="compression", title="Template against time, over antennas")
    page.plots(draw_boxes, items, caption, tags, name="boxes", title="Template by antenna")
    page.plots(draw_flags, items, caption, tags, name="flagged", title="Flagged template by antenna")
    page.plots(draw_power, items, caption, tags, name="power", title="Median switched power")
    page.table(
        ["Measurement set", "Band", "Antenna", "Lowest", "Median", "Highest", "Outside", "Flagged"],
        [[b.vis, b.band, a.antenna, a.quartiles[0], a.quartiles[2], a.quartiles[4], 100 * a.outside_fraction,
          100 * a.flagged_fraction] for b in result.bands for a in b.antennas],
        units={"Outside": "%", "Flagged": "%"}, filters=("band", "antenna"),
        formats={"Lowest": ".3f", "Median": ".3f", "Highest": ".3f", "Outside": ".1f", "Flagged": ".1f"},
        caption="Template by antenna",
    )  # fmt: skip
    page.table(
        ["Measurement set", "Band", "Baseband", "From", "To"],
        [[b.vis, b.band, k, low / 1e9, high / 1e9] for b in result.bands for k, (low, high) in b.basebands.items()],
        units={"From": "GHz", "To": "GHz"}, formats={"From": ".3f", "To": ".3f"}, caption="Basebands",
    )  # fmt: skip


def _load(item: BandPlot) -> dict[str, np.ndarray]:
    with np.load(item.file, allow_pickle=False) as stored:
        return {k: stored[k] for k in stored.files}


def draw_summary(ctx_item: Any, item: BandPlot, path: Path) -> None:
    """Draw the lowest, median and highest template over antennas against time."""
    from pl_kernel.weblog import plots

    data = _load(item)
    values = np.where(data["flags"], np.nan, data["values"])
    flat = np.moveaxis(values, 0, -1)  # baseband, pol, time, antenna
    rows, labels = [], []
    for b, name in enumerate(item.band.basebands):
        for pol, hand in enumerate(("RR", "LL")):
            part = flat[b, pol]
            known = np.isfinite(part).any(axis=-1)
            for word, function in (("min", np.nanmin), ("median", np.nanmedian), ("max", np.nanmax)):
                row = np.full(part.shape[0], np.nan)
                row[known] = function(part[known], axis=-1)
                rows.append(row)
                labels.append(f"{name} {hand} {word}")
    plots.vs_time(
        path, data["times"], np.array(rows), labels=labels, ylabel="Gain relative to the reference",
        limits=item.clip, title=f"Compression, band {item.band.band}", subtitle=item.band.vis,
    )  # fmt: skip


def draw_boxes(ctx_item: Any, item: BandPlot, path: Path) -> None:
    """Draw quartiles of the template by antenna."""
    from pl_kernel.weblog import plots

    boxes = [
        {"whislo": q[0], "q1": q[1], "med": q[2], "q3": q[3], "whishi": q[4], "label": a.antenna}
        for a in item.band.antennas
        if np.isfinite((q := a.quartiles)[2])
    ]
    with plots.figure(path, max(5.0, 0.3 * len(boxes) + 1.5), 3.6, (0.8, 0.2, 0.75, 0.4)) as fig:
        ax = fig.subplots()
        if boxes:
            ax.bxp(boxes, showfliers=False)
        ax.tick_params(axis="x", rotation=60)
        for limit in item.clip:
            ax.axhline(limit, linestyle="--", linewidth=0.8, color=plots.BAD)
        ax.set_ylabel("Gain relative to the reference")
        ax.set_title(f"Template by antenna, band {item.band.band}")


def draw_flags(ctx_item: Any, item: BandPlot, path: Path) -> None:
    """Draw the flagged part of the template by antenna."""
    from pl_kernel.weblog import plots

    plots.bars(
        path, [a.antenna for a in item.band.antennas], [100 * a.flagged_fraction for a in item.band.antennas],
        ylabel="Flagged", unit="%", title=f"Flagged template, band {item.band.band}",
    )  # fmt: skip


def draw_power(ctx_item: Any, item: BandPlot, path: Path) -> None:
    """Draw the median switched power of the band against time."""
    from pl_kernel.weblog import plots

    data = _load(item)
    plots.vs_time(
        path, data["times"], data["diff"], ylabel="Median switched power", title=f"Band {item.band.band}",
        subtitle=item.band.vis,
    )  # fmt: skip
