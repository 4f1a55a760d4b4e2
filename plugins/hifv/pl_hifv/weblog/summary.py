"""Page of hifv_plotsummary: the calibration that was applied, and the calibrated data at a glance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from pl_hifv.selections import CALIBRATORS
from pl_hifv.stages.plotsummary import AppliedTable, FieldSummary, PlotsummaryResult
from pl_hifv.weblog import summaryplots as draw
from pl_hifv.weblog.summaryplots import CROSS, BandsPlot, FieldsPlot, SummaryPlot
from pl_kernel.weblog.page import Page, renderer

POLARIZATION = frozenset({"POLARIZATION", "POLANGLE", "POLLEAKAGE"})

_PURPOSES = frozenset({*CALIBRATORS.split(","), "TARGET"})


@renderer(PlotsummaryResult)
def plotsummary_page(page: Page, ctx: Any, result: PlotsummaryResult) -> None:
    """What was applied; calibrators against time, baseline and frequency; cross hands; targets."""
    _applied(page, result.applied)
    page.section("Calibrators", anchor="calibrators")
    page.table(
        ["Measurement set", "Field", "Intents", "Phase scatter", "Worst antenna", "Its scatter"],
        [[s.vis, s.field, ", ".join(s.intents), s.phase_rms_deg, s.worst_antenna, s.worst_rms_deg]
         for s in result.calibrators],
        units={"Phase scatter": "deg", "Its scatter": "deg"}, filters=("field",),
        formats={"Phase scatter": ".1f", "Its scatter": ".1f"},
        caption="Calibrated phases per scan, baseline and window, about zero",
    )  # fmt: skip
    page.plots(
        draw.draw_phases, _together(ctx, result.calibrators), name="phases", size="large",
        title="Phase against time, all calibrators",
        caption=lambda i: f"All calibrators, band {i.band}: all baselines, windows together",
        tags=lambda i: {"vis": i.vis, "band": i.band, "type": "time"},
    )  # fmt: skip
    _uv(page, ctx, result.calibrators, "uv")
    _plots(
        page, draw.draw_antennas, _by_baseband(ctx, result.calibrators), "frequency",
        "Amplitude and phase against frequency", "by antenna, over its baselines; what stands out in colours",
    )  # fmt: skip
    crossed = [attrs.evolve(i, correlations=CROSS) for i in _by_baseband(ctx, _polarized(result.calibrators))]
    if result.polarized and crossed:
        page.section("Polarization", anchor="polarization")
        page.text("Cross hands of the polarization calibrators, over all baselines.")
        _plots(page, draw.draw_spectrum, crossed, "crosshands", "Cross hands against frequency", "cross hands")
    page.section("Targets", anchor="targets")
    if result.not_shown:
        page.note(f"{result.not_shown} of {result.not_shown + len(result.targets)} targets are not shown.")
    _plots(
        page, draw.draw_amplitudes, _by_baseband(ctx, result.targets), "target", "Amplitude against frequency",
        "mean over the inner half of the uv range",
    )  # fmt: skip
    _uv(page, ctx, result.targets, "targetuv")
    page.section("Single calibrators against time", anchor="calibrators-time", level="detail")
    _plots(page, draw.draw_time, _by_band(ctx, result.calibrators), "time", "", "all baselines, windows together")


def _applied(page: Page, applied: tuple[AppliedTable, ...]) -> None:
    page.section("Applied calibration", anchor="applied")
    if not applied:
        page.note("No calibration is known to have been applied to the data.", "warning")
        return
    columns = {
        "Intent": [a.intent for a in applied], "Field": [a.field for a in applied], "Spw": [a.spw for a in applied],
        "Antenna": [a.antenna for a in applied], "Gain field": [a.gainfield for a in applied],
        "Spw map": [",".join(map(str, a.spwmap)) for a in applied],
    }  # fmt: skip
    # What is the same everywhere needs a word, and not a column: names of tables are long.
    shown = {name: values for name, values in columns.items() if any(values)}
    for sentence in _the_same(set(columns) - set(shown)):
        page.text(sentence)
    page.table(
        ["Measurement set", *shown, "Type", "Interpolation", "Weights", "Table"],
        [[a.vis, *(values[k] or ("none" if name == "Spw map" else "all") for name, values in shown.items()), a.kind,
          a.interp or "default", "changed" if a.calwt else "kept", a.table] for k, a in enumerate(applied)],
        caption="Tables in the order of application", filters=("type",),
    )  # fmt: skip


def _the_same(left_out: set[str]) -> list[str]:
    """A paragraph for columns that would say the same in every row."""
    words = {"Intent": "intents", "Field": "fields", "Spw": "windows", "Antenna": "antennas"}
    of_data = [word for name, word in words.items() if name in left_out]
    said = [f"All tables hold for all {', '.join(of_data)}."] if of_data else []
    said += ["Gains are of all fields."] if "Gain field" in left_out else []
    said += ["There are no spw maps."] if "Spw map" in left_out else []
    return [" ".join(said)] if said else []


# ---- what to draw --------------------------------------------------------------------------------------------------


def _polarized(summaries: Iterable[FieldSummary]) -> list[FieldSummary]:
    return [s for s in summaries if POLARIZATION & set(s.intents)]


def _by_band(ctx: Any, summaries: Iterable[FieldSummary]) -> list[SummaryPlot]:
    return [_plot(ctx, s, group, spws) for s in summaries for group, spws in s.bands.items()]


def _by_baseband(ctx: Any, summaries: Iterable[FieldSummary]) -> list[SummaryPlot]:
    return [_plot(ctx, s, group, spws) for s in summaries for group, spws in s.basebands.items()]


def _purposes(s: FieldSummary) -> tuple[str, ...]:
    """Intents without those of scans for set-up, which are not shown."""
    return tuple(i for i in s.intents if i in _PURPOSES)


def _plot(ctx: Any, s: FieldSummary, group: str, spws: tuple[int, ...]) -> SummaryPlot:
    return SummaryPlot(
        vis=s.vis, field=s.field, intents=_purposes(s), file=str(ctx.stage_dir / s.file), group=group, spws=spws
    )


def _together(ctx: Any, summaries: Iterable[FieldSummary]) -> list[FieldsPlot]:
    """One picture for each measurement set and band."""
    groups: dict[tuple[str, str], list[FieldSummary]] = {}
    for s in summaries:
        for band in s.bands:
            groups.setdefault((s.vis, band), []).append(s)
    return [
        FieldsPlot(
            vis=vis, band=band, fields=tuple(s.field for s in group),
            files=tuple(str(ctx.stage_dir / s.file) for s in group),
        )
        for (vis, band), group in groups.items()
    ]  # fmt: skip


def _uv(page: Page, ctx: Any, summaries: tuple[FieldSummary, ...], name: str) -> None:
    """Amplitude against baseline, by band, and of all bands where there are several."""
    _plots(page, draw.draw_uv, _by_band(ctx, summaries), name, "Amplitude against baseline", "averages of scans")
    several = [
        BandsPlot(vis=s.vis, field=s.field, intents=_purposes(s), file=str(ctx.stage_dir / s.file), bands=s.bands)
        for s in summaries if len(s.bands) > 1
    ]  # fmt: skip
    if several:
        page.plots(
            draw.draw_uv_bands, several, lambda i: f"{i.field} ({', '.join(i.intents)}), all bands: averages of scans",
            lambda i: {"vis": i.vis, "field": i.field, "band": "all", "type": name}, name=f"{name}all",
            title="Amplitude against baseline, all bands",
        )  # fmt: skip


def _plots(page: Page, function: Any, items: list[SummaryPlot], name: str, title: str, what: str) -> None:
    if items:
        page.plots(
            function, items, lambda i: f"{i.field} ({', '.join(i.intents)}), {i.group}: {what}",
            lambda i: {"vis": i.vis, "field": i.field, "band": i.group.split(" ")[0], "type": name}, name=name,
            title=title,
        )  # fmt: skip
