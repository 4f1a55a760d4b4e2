"""Page of the imports of single dishes: what was imported, reduction groups, calibration strategy, where it looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pl_hsd.importing import SingleDishResult
from pl_hsd.rows import RowTable
from pl_hsd.weblog.pointing import draw_pointing, pointing_maps
from pl_kernel import renderer
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.weblog.observation import observation_plots
from pl_kernel.weblog.page import Link

_MODES = {
    "ps": "OFF positions (position switching)",
    "fs": "frequency switching",
    "none": "none: there are no OFF spectra",
}


@renderer(SingleDishResult)
def importdata_page(page: Any, ctx: Any, result: SingleDishResult) -> None:
    """Data, groups, strategy, tracks."""
    _data(page, result)
    for vis, sentences in getattr(result, "repairs", {}).items():
        for sentence in sentences:
            page.note(f"{vis}: {sentence}", "warning")
    for vis in getattr(result, "calibrated", ()):
        page.note(
            f"{vis} has no OFF spectra: its data are taken as calibrated already, and Tsys, sky and gain calibration"
            " are left out.", "warning",
        )  # fmt: skip
    _troubles(page, result)
    _groups(page, result)
    _strategies(page, result)
    page.section("Where the antennas looked")
    items = [m for i in result.imported for m in pointing_maps(i.ms, RowTable.open(ctx, i.ms), with_off=False)]
    page.plots(
        draw_pointing, items, caption=lambda m: f"{m.antenna} on {m.field}: raster rows in the order they were swept",
        tags=lambda m: {"vis": m.vis, "antenna": m.antenna, "field": m.field}, name="pointing",
    )  # fmt: skip
    page.section("With the OFF positions", level="detail")
    items = [m for i in result.imported for m in pointing_maps(i.ms, RowTable.open(ctx, i.ms), with_off=True)]
    page.plots(
        draw_pointing, items, caption=lambda m: f"{m.antenna} on {m.field} and its OFF",
        tags=lambda m: {"vis": m.vis, "antenna": m.antenna, "field": m.field}, name="pointing-off",
    )  # fmt: skip
    for item in result.imported:
        page.section(f"Observation: {item.ms.name}", level="detail")
        observation_plots(page, item.ms)


def _data(page: Any, result: SingleDishResult) -> None:
    page.section("Data")
    versions = getattr(result, "merge_versions", None)
    page.table(
        ["Measurement set", "From", "Kind", "How", "Begin (UTC)", "Minutes", "Antennas", "Targets", "Spectra", "Size",
         *(["Converter"] if versions is not None else [])],
        [
            [Link(i.ms.name, f"ms:{i.ms.name}"), Path(i.source).name, i.kind, i.how,
             i.ms.start.strftime("%Y-%m-%d %H:%M"), i.ms.duration_s / 60, len(i.ms.antennas),
             ", ".join(f.name for f in i.ms.fields_with_intent("TARGET")), rows.n_rows, i.ms.size_bytes / 1e6,
             *([versions.get(i.ms.name) or "not recorded"] if versions is not None else [])]
            for i, rows in zip(result.imported, result.rows, strict=True)
        ],
        units={"Size": "MB"}, formats={"Minutes": ".1f", "Size": ".1f"},
        caption="Spectra: autocorrelations of science windows, on targets and at OFF positions.",
    )  # fmt: skip


def _troubles(page: Any, result: SingleDishResult) -> None:
    for rows in result.rows:
        for antenna, count in rows.missing_pointing.items():
            page.note(f"{rows.vis}: POINTING does not say where {antenna} looked in {count} integrations.", "warning")
        for trouble in rows.trouble:
            page.note(
                f"{rows.vis}, {trouble.antenna}, spw {trouble.spw}, {trouble.field}: raster rows could not be found by"
                f" {trouble.domain}: {trouble.reason}.", "warning",
            )  # fmt: skip
        for odd in rows.odd_maps:
            where = f"{rows.vis}, {odd.antenna}, {odd.field}"
            page.note(f"{where}: map {odd.map + 1} is for hsd_flagdata to flag: {odd.reason}.", "warning")
        for remark in rows.remarks:
            page.note(f"{rows.vis}: {remark}", "info")


def _groups(page: Any, result: SingleDishResult) -> None:
    page.section("Reduction groups")
    page.text("Spectra of one window and field, of all antennas and execution blocks, are searched for lines together.")
    page.table(
        ["Group", "Field", "Spw", "From", "To", "Channels", "Measurement set", "Antennas", "Own spw"],
        [
            [g.id, g.field_name, int(g.spw), g.freq_min_hz / 1e6, g.freq_max_hz / 1e6, g.nchan, vis,
             ", ".join(m.antenna_name for m in g.members if m.ms == vis),
             ", ".join(str(s) for s in dict.fromkeys(int(m.spw) for m in g.members if m.ms == vis))]
            for g in result.groups for vis in g.ms_names
        ],
        units={"From": "MHz", "To": "MHz"}, formats={"From": ".3f", "To": ".3f"}, filters=("Field", "Spw"),
        caption="Spw: id in this run; own spw: id in that measurement set.",
    )  # fmt: skip


def _strategies(page: Any, result: SingleDishResult) -> None:
    page.section("Calibration strategy")
    page.table(
        ["Measurement set", "Antennas", "Sky subtraction", "Tsys window of each", "OFF of each target", "Pattern"],
        [
            [i.ms.name, ", ".join(i.ms.antenna_names), _MODES.get(plan.calmode, plan.calmode),
             ", ".join(f"{s} ← {t}" for s, t in sorted(plan.tsys_spw.items())) or "–",
             "; ".join(f"{_name(i.ms, a)} ← {_name(i.ms, b)}" for a, b in sorted(plan.reference_fields.items())) or "–",
             ", ".join(dict.fromkeys(plan.pattern.values())) or "–"]
            for i in result.imported
            for plan in (result.strategies[i.ms.name],)
        ],
        caption="Ids are those of each measurement set.",
    )  # fmt: skip


def _name(ms: MeasurementSet, field: int) -> str:
    return ms.field(field).name
