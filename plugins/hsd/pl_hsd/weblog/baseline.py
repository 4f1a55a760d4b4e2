"""Page of hsd_baseline: lines on the sky, baselines before and after, noise and flatness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.baselining import PolFit
from pl_hsd.linesearch import LineRange
from pl_hsd.stages.baseline import BaselineResult, GroupLines
from pl_hsd.weblog import baselineplots as draw
from pl_kernel import renderer


@renderer(BaselineResult)
def baseline_page(page: Any, ctx: Any, result: BaselineResult) -> None:
    """Lines, then fits, then pictures; clusters and single positions among the details."""
    searched = "baselined spectra of the stage before" if result.iteration > 1 else "calibrated spectra"
    page.section("Lines")
    page.text(
        f"Lines were looked for in the {searched}, averaged on a grid of beams. A line counts when all three averages "
        "of a position have it, others like it lie near in the band, and its neighbours on the sky have it, too."
    )
    _line_table(page, result)
    if result.masks_unchanged is not None:
        page.facts({"Spectra whose line mask is that of the stage before": f"{100 * result.masks_unchanged:.0f} %"})
    if result.deviation:
        page.table(
            ["Data", "Antenna", "Field", "Spw", "Channels", "Overlaps"],
            [
                [m.vis, m.antenna, m.field, m.spw, f"{a}~{b}", overlap or "nothing known"]
                for m in result.deviation
                for (a, b), overlap in zip(m.spans, m.overlaps, strict=True)
            ],
            caption="Channels that scatter more than others from spectrum to spectrum; no baseline is fitted to them.",
            filters=("Antenna", "Spw"),
        )
    _fit_table(page, result)
    members = _members(ctx, result)
    page.section("Baselines before and after", anchor="profiles")
    page.text(
        "Mean spectra at their places. Green: line masks; red: channels that scatter; curve: what was fitted; above, "
        "where the site is known: transmission of the air at zenith with 1 mm of water."
    )
    for kind in ("before", "after"):
        items = [attrs.evolve(m, kind=kind) for m in members]
        page.plots(draw.sparse_map, items, caption=draw.caption, tags=draw.tags, name=f"sparse-{kind}", size="large",
                   title=f"Spectra {kind} subtraction")  # fmt: skip
    page.section("Flatness and noise", anchor="flatness")
    page.plots(draw.flatness, members, caption=draw.caption, tags=draw.tags, name="flatness",
               title="Mean spectrum after subtraction, and its bins")  # fmt: skip
    page.plots(draw.noise, members, caption=draw.caption, tags=draw.tags, name="noise",
               title="Rms of single spectra before and after")  # fmt: skip
    _cluster_section(page, ctx, result)
    page.section("Every position", anchor="detail", level="detail")
    pages = [attrs.evolve(m, kind="after", index=i) for m in members for i in range(draw.detail_pages(m))]
    page.plots(draw.detailed_map, pages, caption=draw.caption, tags=draw.tags, name="detail", size="large")
    page.section("Files", level="detail")
    page.text(
        "The parameter file makes sdbaseline fit the same functions to the same channels; the baseline table makes it "
        "subtract the same baselines (blmode apply)."
    )
    for parent, name in result.parameters.items():
        page.download(f"stages/{ctx.stage_dir.name}/{name}", f"Parameters of {parent}")
    page.facts({f"Baseline table of {p}": t for p, t in result.tables.items()})


def _line_table(page: Any, result: BaselineResult) -> None:
    rows = []
    for g in result.groups:
        step = (g.freq_max_hz - g.freq_min_hz) / g.nchan * (-1 if g.is_reversed else 1)
        start = g.freq_max_hz if g.is_reversed else g.freq_min_hz
        for line in g.lines:
            rows.append(
                [g.id, g.field, g.spw, line.centre, line.width, (start + (line.centre + 0.5) * step) / 1e9,
                 _verdict(line), line.detections]
            )  # fmt: skip
        if not g.lines:
            rows.append([g.id, g.field, g.spw, None, None, None, "none found" if g.searched else "not searched", 0])
    page.table(
        ["Group", "Field", "Spw", "Centre", "Width", "Frequency", "Line", "Detections"], rows,
        units={"Centre": "channel", "Width": "channel", "Frequency": "GHz"}, filters=("Field", "Spw"),
        formats={"Centre": ".1f", "Width": ".1f", "Frequency": ".6f"},
        caption="Frequencies are those of the data (topocentric); widths include how far a line moves on the map.",
    )  # fmt: skip


def _verdict(line: LineRange) -> str:
    if line.origin == "given":
        return "given"
    return "valid" if line.valid else f"no: {line.reason}"


def _fit_table(page: Any, result: BaselineResult) -> None:
    page.section("Fits", anchor="fits")
    unit = " or ".join(dict.fromkeys(result.units.values()))
    page.table(
        ["Data", "Field", "Spw", "Antenna", "Pol", "Spectra", "Rejected", "Flagged", "Functions", "Rms before",
         "Rms after", "Noise", "Flatness"],
        [
            [f.ms, f.field, f.spw, f.antenna, f.pol, f.spectra, f.rejected, f.failed, _functions(f), f.rms_before,
             f.rms_after, f.noise, f.flatness]
            for f in result.fits
        ],
        units={"Rms before": unit, "Rms after": unit, "Noise": unit}, filters=("Data", "Field", "Spw", "Antenna"),
        formats={"Rms before": ".4g", "Rms after": ".4g", "Noise": ".4g", "Flatness": ".2f"},
        caption="Rms: median over spectra, of the channels that were fitted; noise: from differences of channels. "
        "Rejected: by an earlier hsd_blflag; they count in no mean. Flagged: too few channels for a fit.",
    )  # fmt: skip


def _functions(fit: PolFit) -> str:
    ordered = sorted(fit.functions.items(), key=lambda item: -item[1])
    shown = [f"{text}: {count}" for text, count in ordered[:4] if count]
    return "; ".join(shown) + (" …" if len(ordered) > 4 else "")


def _members(ctx: Any, result: BaselineResult) -> list[draw.Shown]:
    """One per member: its polarizations share a file."""
    frequency = {(g.spw, g.field): g for g in result.groups}
    found: dict[str, draw.Shown] = {}
    for fit in result.fits:
        group = frequency[(fit.spw, fit.field)]
        found.setdefault(
            fit.file,
            draw.Shown(
                file=str(ctx.stage_dir / fit.file), ms=fit.ms, spw=fit.spw, field=fit.field, antenna=fit.antenna,
                correlations=tuple(f.pol for f in result.fits if f.file == fit.file),
                frequency_hz=_ends(group), nchan=group.nchan, edge=group.edge, unit=result.units.get(fit.ms, "K"),
                air=str(ctx.stage_dir / result.air[str(fit.spw)]) if str(fit.spw) in result.air else "",
            ),
        )  # fmt: skip
    return [m for m in found.values() if Path(m.file).is_file()]


def _ends(group: GroupLines) -> tuple[float, float]:
    """Centres of the first and last channel, Hz."""
    half = (group.freq_max_hz - group.freq_min_hz) / group.nchan / 2
    ends = group.freq_min_hz + half, group.freq_max_hz - half
    return (ends[1], ends[0]) if group.is_reversed else ends


def _cluster_section(page: Any, ctx: Any, result: BaselineResult) -> None:
    page.section("Clusters of detections", anchor="clusters", level="detail")
    items = [draw.ClusterPlot(file=str(ctx.stage_dir / g.file), spw=g.spw, field=g.field, group=g.id, nchan=g.nchan)
             for g in result.groups if g.searched and (ctx.stage_dir / g.file).is_file()]  # fmt: skip
    if not items:
        page.text("No search was made: all line windows were given.")
        return
    page.plots(draw.properties, items, caption=draw.cluster_caption, tags=draw.cluster_tags, name="properties",
               title="Width and centre of detections")  # fmt: skip
    maps = []
    for item in items:
        with np.load(item.file, allow_pickle=False) as arrays:
            count = len(arrays["lines"])
        maps += [attrs.evolve(item, line=k) for k in range(count)]
    page.plots(draw.stages, maps, caption=draw.cluster_caption, tags=draw.cluster_tags, name="stages", size="large",
               title="From detection to validation")  # fmt: skip
