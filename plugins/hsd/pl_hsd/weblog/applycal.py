"""Page of the applied single-dish calibration: tables, flags, units, and what the spectra look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.deviations import FILE as DEVIATIONS
from pl_hsd.stages.applycal import Deviation, HsdApplycalResult
from pl_kernel import renderer
from pl_kernel.common.applypages import antenna_flags, applied_tables
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.virtual import RealSpw, VirtualSpws


@attrs.frozen(eq=False, kw_only=True)
class Curves:
    """Curves [series, points] over frequency (Hz) or time (MJD s), for one picture."""

    vis: str
    spw: str
    antenna: str
    field: str
    unit: str
    x: Any
    values: Any
    labels: tuple[str, ...]


@attrs.frozen(eq=False, kw_only=True)
class Pair:
    """XX and YY of one average, with what was found in them."""

    item: Deviation
    spw: str
    unit: str
    frequency_hz: Any
    spectra: Any


@renderer(HsdApplycalResult)
def applycal_page(page: Any, ctx: Any, result: HsdApplycalResult) -> None:
    """Applied tables, flags, units, spectra, levels against time, XX−YY."""
    applied_tables(page, result)
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    page.section("Calibrated spectra")
    for vis, kinds in result.mixed_units.items():
        page.note(f"The targets of {vis} are in different units: {', '.join(kinds)}.", "warning")
    page.table(
        ["Measurement set", "Antenna", "Spw", "Unit", "Tsys", "Good spectra"],
        [[c.vis, c.antenna, _spw(virtual, c.vis, c.spw), result.units.get(c.vis) or "raw",
          None if np.isnan(c.tsys_k) else c.tsys_k, 100 * c.good] for c in result.calibrated],
        units={"Tsys": "K", "Good spectra": "%"}, formats={"Tsys": ".1f", "Good spectra": ".1f"},
        filters=("Antenna", "Spw"),
    )  # fmt: skip
    frequency, time, pairs = _pictures(ctx, result, virtual)
    tags = lambda c: {"vis": c.vis, "spw": c.spw, "antenna": c.antenna, "field": c.field}  # noqa: E731
    page.plots(
        draw_frequency, frequency, title="Amplitude against frequency", name="frequency", tags=tags,
        caption=lambda c: f"{c.vis}, {c.field}, spw {c.spw}: mean of all spectra on the source, by antenna",
    )  # fmt: skip
    page.plots(
        draw_time, [c for c in time if not c.antenna], title="Amplitude against time", name="time", tags=tags,
        caption=lambda c: f"{c.vis}, spw {c.spw}: mean over channels and polarizations of every spectrum",
    )  # fmt: skip
    page.section("XX against YY")
    bad = [d for d in result.deviations if d.verdict.score < 1]
    if not result.deviations:
        page.text("The data do not have both XX and YY.")
    elif not bad:
        page.text("Both polarizations agree within 15 sigma everywhere.")
    page.table(
        ["Measurement set", "Antenna", "Spw", "Field", "Scan", "Deviation", "Frequency", "Trec", "Remark"],
        [[d.vis, d.antenna, _spw(virtual, d.vis, d.spw), d.field, "all" if d.scan < 0 else str(d.scan),
          d.verdict.sigma, None if np.isnan(d.frequency_hz) else d.frequency_hz / 1e9, d.verdict.receiver_sigma,
          d.verdict.note] for d in sorted(result.deviations, key=lambda d: (d.verdict.score, -d.verdict.sigma))],
        units={"Deviation": "sigma", "Frequency": "GHz", "Trec": "sigma"}, filters=("Antenna", "Spw"),
        formats={"Deviation": ".1f", "Frequency": ".4f", "Trec": ".1f"},
        caption="Largest difference outside lines, worst first; Trec: that of the receiver temperatures there",
    )  # fmt: skip
    if (ctx.stage_dir / DEVIATIONS).is_file():
        page.download(ctx.stage_dir / DEVIATIONS, "The same as a file")
    page.plots(
        draw_pair, pairs, title="Polarizations that deviate", name="xxyy",
        caption=lambda p: f"{p.item.vis}, {p.item.antenna}, {p.item.field}: {p.item.verdict.sigma:.0f} sigma",
        tags=lambda p: {"vis": p.item.vis, "spw": p.spw, "antenna": p.item.antenna, "field": p.item.field},
    )  # fmt: skip
    page.section("Amplitude against time by antenna", level="detail")
    page.plots(
        draw_time, [c for c in time if c.antenna], name="time-antenna", size="small", tags=tags,
        caption=lambda c: f"{c.antenna}, spw {c.spw}: mean over channels of every spectrum",
    )  # fmt: skip
    antenna_flags(page, result)


def _spw(virtual: VirtualSpws, vis: str, spw: int) -> str:
    found = virtual.to_virtual(RealSpw(spw), vis)
    return str(spw if found is None else found)


def _pictures(
    ctx: Any, result: HsdApplycalResult, virtual: VirtualSpws
) -> tuple[list[Curves], list[Curves], list[Pair]]:
    frequency: list[Curves] = []
    time: list[Curves] = []
    pairs: list[Pair] = []
    for vis, name in result.overviews.items():
        ms = ctx.context.measurement_set(vis)
        unit = result.units.get(vis) or "raw"
        with np.load(ctx.work / name, allow_pickle=False) as stored:
            spws = sorted({int(key.partition(".")[0][3:]) for key in stored.files})
            for spw in spws:
                data = {k: stored[f"spw{spw}.{k}"] for k in ("pairs", "spectrum", "level", "time_s", "antenna")}
                place = {"vis": vis, "spw": _spw(virtual, vis, spw), "unit": unit}
                frequency += _by_frequency(ms, spw, data, place)
                time += _by_time(ms, spw, data, place)
                pairs += _deviating(ms, spw, data, result, place)
    return frequency, time, pairs


def _by_frequency(ms: MeasurementSet, spw: int, data: dict[str, Any], place: dict[str, str]) -> list[Curves]:
    found = []
    for field in np.unique(data["pairs"][:, 1]):
        own = data["pairs"][:, 1] == field
        found.append(
            Curves(
                antenna="", field=ms.field(int(field)).name, x=ms.spw(spw).centres_hz,
                values=_mean(data["spectrum"][own], 1), **place,
                labels=tuple(ms.antenna(int(a)).name for a in data["pairs"][own, 0]),
            )
        )  # fmt: skip
    return found


def _by_time(ms: MeasurementSet, spw: int, data: dict[str, Any], place: dict[str, str]) -> list[Curves]:
    antennas = [int(a) for a in np.unique(data["antenna"])]
    names = tuple(ms.antenna(a).name for a in antennas)
    correlations = ms.polarization_of(ms.spw(spw).id).correlations
    times = np.unique(data["time_s"])
    together = np.full((len(antennas), times.size), np.nan)
    found = []
    for k, (antenna, name) in enumerate(zip(antennas, names, strict=True)):
        own = data["antenna"] == antenna
        together[k, np.searchsorted(times, data["time_s"][own])] = _mean(data["level"][own], 1)
        levels = data["level"][own].T
        found.append(
            Curves(antenna=name, field="", x=data["time_s"][own], values=levels, labels=correlations, **place)
        )
    return [Curves(antenna="", field="", x=times, values=together, labels=names, **place), *found]


def _deviating(
    ms: MeasurementSet, spw: int, data: dict[str, Any], result: HsdApplycalResult, place: dict[str, str]
) -> list[Pair]:
    names = ms.polarization_of(ms.spw(spw).id).correlations
    found = []
    for d in result.deviations:
        if d.vis != place["vis"] or d.spw != spw or d.scan >= 0 or d.verdict.score >= 0.95 or d.verdict.channel < 0:
            continue
        for (antenna, field), spectra in zip(data["pairs"], data["spectrum"], strict=True):
            if ms.antenna(int(antenna)).name == d.antenna and ms.field(int(field)).name == d.field:
                both = spectra[[names.index("XX"), names.index("YY")]]
                found.append(
                    Pair(
                        item=d, spw=place["spw"], unit=place["unit"], frequency_hz=ms.spw(spw).centres_hz, spectra=both
                    )
                )
    return found


def _mean(values: Any, axis: int) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all flagged: NaN
        return np.nanmean(values, axis=axis)


def draw_frequency(ctx: Any, item: Curves, path: Path) -> dict[str, str]:
    """Mean spectra of all antennas."""
    from pl_kernel.weblog import plots

    plots.vs_frequency(
        path, item.x, item.values, labels=item.labels, ylabel="Amplitude", unit=item.unit,
        title=f"{item.field}, spw {item.spw}",
    )  # fmt: skip
    good = item.values[np.isfinite(item.values)]
    return {"Largest": f"{good.max():.4g} {item.unit}" if good.size else "all flagged"}


def draw_time(ctx: Any, item: Curves, path: Path) -> dict[str, str]:
    """Mean over channels against time."""
    from pl_kernel.weblog import plots

    plots.vs_time(
        path, item.x, item.values, labels=item.labels, ylabel="Mean amplitude", unit=item.unit,
        title=f"Spw {item.spw}" + (f", {item.antenna}" if item.antenna else ""),
    )  # fmt: skip
    good = item.values[np.isfinite(item.values)]
    return {"Scatter": f"{good.std():.3g} {item.unit}" if good.size else "all flagged"}


def draw_pair(ctx: Any, item: Pair, path: Path) -> dict[str, str]:
    """XX and YY above their difference; lines that were masked are shaded, the deviation is marked."""
    from pl_kernel.weblog.plots import BAD, PALETTE, figure

    frequency, verdict = np.asarray(item.frequency_hz) / 1e9, item.item.verdict
    with figure(path, 7.2, 4.4, (0.82, 0.25, 0.55, 0.45)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        top.set_title(f"{item.item.antenna}, spw {item.spw}, {item.item.field}")
        for k, name in enumerate(("XX", "YY")):
            top.plot(frequency, item.spectra[k], color=PALETTE[k], label=name)
        bottom.plot(frequency, item.spectra[0] - item.spectra[1], color=PALETTE[2], label="XX − YY")
        for ax in (top, bottom):
            for first, last in verdict.lines:
                ax.axvspan(frequency[first], frequency[last], color=PALETTE[4], alpha=0.15, linewidth=0)
            ax.axvline(frequency[verdict.channel], color=BAD, linewidth=0.8, linestyle="--")
            ax.legend(loc="upper right")
            ax.set_ylabel(f"Amplitude ({item.unit})")
        bottom.set_xlabel("Frequency (GHz)")
    return {"Deviation": f"{verdict.sigma:.1f} sigma", "Score": f"{verdict.score:.2f}"}
