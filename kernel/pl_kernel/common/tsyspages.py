"""Pages of the Tsys stages: who takes whose Tsys, the spectra, and what was flagged in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from ..ms.model import MeasurementSet
from ..ms.selection import compact_ids
from ..weblog.page import renderer
from .calspectra import CalSpectra, read_spectra
from .tsyscal import TsyscalResult
from .tsysflag import TsysFlagResult


@attrs.frozen(eq=False, kw_only=True)
class TsysPlot:
    """One picture: spectra [series, channel] in K with a label each."""

    vis: str
    spw: int
    antenna: str
    kind: str
    frequency_hz: Any
    values_k: Any
    labels: tuple[str, ...]


@renderer(TsyscalResult)
def tsyscal_page(page: Any, ctx: Any, result: TsyscalResult) -> None:
    """The mapping of windows and fields, medians, and spectra."""
    page.section("System temperatures")
    rows = []
    for t in result.tables:
        ms = ctx.context.measurement_set(t.vis)
        for spw in sorted({*t.mapped, *t.unmapped}):
            tsys = t.mapped.get(spw)
            window = ms.spw(spw)
            rows.append(
                [t.vis, str(spw), window.name, window.centre_hz / 1e9, window.n_channels,
                 "none" if tsys is None else str(tsys), "" if tsys is None else ms.spw(tsys).name]
            )  # fmt: skip
    page.table(
        ["Measurement set", "Science spw", "Name", "Centre", "Channels", "Tsys spw", "Tsys spw name"], rows,
        caption="Science windows and the windows whose Tsys they take", units={"Centre": "GHz"},
        formats={"Centre": ".4f"},
    )  # fmt: skip
    page.table(
        ["Measurement set", "Data", "Intent", "Spw", "Tsys of field"],
        [[t.vis, _some([_name(ctx, t.vis, f) for f in u.fields]), u.intent, compact_ids(u.spws),
          _name(ctx, t.vis, u.tsys_field)] for t in result.tables for u in t.uses],
        caption="Whose Tsys calibrates what",
    )  # fmt: skip
    for t in result.tables:
        for field, spw in t.missing:
            page.note(f"{t.vis}: no Tsys can calibrate {field}, spw {spw}.", "error")
    plots = [p for t in result.tables for p in _pictures(ctx, t.vis, t.table, set(t.mapped.values()), "Tsys")]
    _spectra(page, plots)
    page.section("Antennas", level="detail")
    page.table(
        ["Measurement set", "Antenna", "Tsys spw", "Median", "Largest", "Scans", "Flagged"],
        [[t.vis, s.antenna, str(s.spw), s.median_k, s.worst_k, s.scans, 100 * s.flagged]
         for t in result.tables for s in t.summary],
        units={"Median": "K", "Largest": "K", "Flagged": "%"}, filters=("Antenna", "Tsys spw"),
        formats={"Median": ".1f", "Largest": ".1f", "Flagged": ".1f"},
    )  # fmt: skip


@renderer(TsysFlagResult)
def tsysflag_page(page: Any, ctx: Any, result: TsysFlagResult) -> None:
    """Flagged shares step by step, and the spectra before and after."""
    page.section("Flagged system temperatures")
    page.table(
        ["Measurement set", "Step", "Flagged", "New", "Commands"],
        [[t.vis, s.name, 100 * s.flagged, 100 * (s.flagged - (t.steps[k - 1].flagged if k else s.flagged)),
          len(s.commands)] for t in result.tables for k, s in enumerate(t.steps)],
        caption="Each step sees the flags of those before", units={"Flagged": "%", "New": "%"},
        formats={"Flagged": ".2f", "New": ".2f"},
    )  # fmt: skip
    for t in result.tables:
        if t.ended:
            page.note(f"{t.vis}: nothing was left to judge after '{t.ended}'.", "error")
        for antenna in sorted({a for a, _ in t.lost}):
            spws = compact_ids(s for a, s in t.lost if a == antenna)
            page.note(f"{t.vis}: {antenna} has no Tsys left in spw {spws}; its data are lost there.", "warning")
        for step in t.steps:
            if step.note:
                page.note(f"{t.vis}, {step.name}: {step.note}", "info")
    page.plots(
        draw_steps, result.tables, caption=lambda t: f"{t.vis}: flagged share of each antenna after each step",
        tags=lambda t: {"vis": t.vis}, name="steps", title="Flags by antenna",
    )  # fmt: skip
    plots = []
    for t in result.tables:
        used = set(dict((ctx.value("h.tsyscal") or {}).get(t.vis, {}).get("mapped", ())).values()) or None
        plots += [*_pictures(ctx, t.vis, t.original, used, "before"), *_pictures(ctx, t.vis, t.table, used, "after")]
    _spectra(page, sorted(plots, key=lambda p: (p.vis, p.spw, p.antenna)))
    page.section("Flag commands", level="detail")
    for t in result.tables:
        for step in t.steps:
            if step.commands:
                page.code("\n".join(step.commands), f"{t.vis}: {step.name}")


def _spectra(page: Any, plots: list[TsysPlot]) -> None:
    page.plots(
        draw_tsys, [p for p in plots if not p.antenna], title="Tsys against frequency", name="tsys",
        caption=lambda p: f"{p.vis}, spw {p.spw}, {p.kind}: all antennas, median over scans and polarizations",
        tags=lambda p: {"vis": p.vis, "spw": str(p.spw), "type": p.kind},
    )  # fmt: skip
    page.section("Spectra by antenna", level="detail")
    page.plots(
        draw_tsys, [p for p in plots if p.antenna], name="tsys-antenna", size="small",
        caption=lambda p: f"{p.antenna}, spw {p.spw}, {p.kind}: each polarization of each scan",
        tags=lambda p: {"vis": p.vis, "antenna": p.antenna, "spw": str(p.spw), "type": p.kind},
    )  # fmt: skip


def _pictures(ctx: Any, vis: str, table: str, spws: Iterable[int] | None, kind: str) -> list[TsysPlot]:
    ms: MeasurementSet = ctx.context.measurement_set(vis)
    names = {a.id: a.name for a in ms.antennas}
    found = []
    for spw, s in read_spectra(ctx.casa, table).items():
        if spws is not None and spw not in set(spws):
            continue
        values = s.masked
        antennas = [int(a) for a in np.unique(s.antenna)]
        medians = np.stack([_median(values[s.antenna == a], (0, 1)) for a in antennas])
        shown = {"vis": vis, "spw": spw, "kind": kind, "frequency_hz": s.frequency_hz}
        labels = tuple(names.get(a, str(a)) for a in antennas)
        found.append(TsysPlot(antenna="", values_k=medians, labels=labels, **shown))  # type: ignore[arg-type]
        for antenna, label in zip(antennas, labels, strict=True):
            found.append(TsysPlot(antenna=label, **_of_antenna(s, values, antenna), **shown))  # type: ignore[arg-type]
    return found


def _of_antenna(s: CalSpectra, values: Any, antenna: int, most: int = 24) -> dict[str, Any]:
    rows = s.rows(antenna=antenna)
    rows = rows[np.linspace(0, rows.size - 1, min(rows.size, most)).astype(int)]
    polarizations = values.shape[1]
    return {
        "values_k": values[rows].reshape(-1, values.shape[2]),
        "labels": tuple(f"scan {s.scan[r]}, pol {p}" for r in rows for p in range(polarizations)),
    }


def draw_tsys(ctx: Any, item: TsysPlot, path: Path) -> dict[str, str]:
    """Spectra as lines; Tsys that is one number as points."""
    from ..weblog import plots

    plots.vs_frequency(
        path, item.frequency_hz, item.values_k, labels=item.labels, ylabel="Tsys", unit="K",
        title=f"Spw {item.spw}" + (f", {item.antenna}" if item.antenna else ""), subtitle=item.kind,
        join=len(item.frequency_hz) > 1,
    )  # fmt: skip
    good = item.values_k[np.isfinite(item.values_k)]
    return {"Median": f"{np.median(good):.1f} K" if good.size else "all flagged"}


def draw_steps(ctx: Any, item: Any, path: Path) -> None:
    """Antenna × step, flagged share as colour."""
    from ..weblog import plots

    antennas = list(item.steps[0].by_antenna)
    values = [[s.by_antenna.get(a, float("nan")) for s in item.steps] for a in antennas]
    plots.matrix(
        path, values, antennas, [s.name for s in item.steps], label="Flagged", limits=(0.0, 1.0), write=".1%",
        row_title="Antenna", column_title="After step", title="Flagged share of Tsys", subtitle=item.vis,
    )  # fmt: skip


def _median(values: Any, axes: tuple[int, ...]) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # channels without good values are NaN
        return np.nanmedian(values, axis=axes)


def _name(ctx: Any, vis: str, field: int) -> str:
    return str(ctx.context.measurement_set(vis).field(field).name)


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
