"""Page of hifv_fluxboot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv import calibrators
from pl_hifv.qa.bpdcals import SpwNames
from pl_hifv.solves import correlations
from pl_hifv.stages.fluxboot import FluxbootResult, FluxPoint
from pl_hifv.weblog import solutions
from pl_kernel import renderer


@attrs.frozen(kw_only=True, eq=False)
class SpectrumPicture:
    """Flux densities of the calibrators of a measurement set with their fits; frequencies in Hz, Jy."""

    vis: str
    what: str
    field: str
    names: tuple[str, ...]
    frequency_hz: tuple[np.ndarray, ...]
    flux_jy: tuple[np.ndarray, ...]
    error_jy: tuple[np.ndarray, ...]
    fit_hz: tuple[np.ndarray, ...]
    fit_jy: tuple[np.ndarray, ...]


@attrs.frozen(kw_only=True, eq=False)
class CloudPicture:
    """Points against frequency (Hz), coloured by category."""

    vis: str
    what: str
    unit: str
    frequency_hz: np.ndarray
    values: np.ndarray
    categories: np.ndarray
    labels: tuple[str, ...]


@renderer(FluxbootResult)
def fluxboot_page(page: Any, ctx: Any, result: FluxbootResult) -> None:
    """Spectra of the secondary calibrators, every flux density with its residual, and the gains behind them."""
    models = _model_pictures(ctx, result)
    page.data_read()
    page.section("Spectra of the calibrators", "spectra")
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    if result.relative:
        page.note("No flux calibrator was to be used: flux densities are relative, amplitudes are shown below.", "info")
    for key, names in () if result.relative else result.references.items():
        page.text(f"{key} band: flux scale of {', '.join(names) or 'nothing'}.")
    highest = max((s.fit.order for s in result.spectra), default=0)
    orders = ("Spectral index", "Curvature", "Gamma", "Delta")[:highest]
    page.table(
        ["Measurement set", "Source", "Order", "Band", "Centre", "Flux density", "Error",
         *(c for o in orders for c in (o, f"{o} error")), "Why this order"],
        [
            [s.vis, s.field, s.fit.order, s.band, s.fit.reference_hz / 1e9, s.fit.flux_jy, s.fit.flux_error_jy,
             *(v for i in range(1, highest + 1) for v in _coefficient(s.fit, i)), s.reason]
            for s in result.spectra
        ],
        caption="log S = log S₀ + α x + β x² …, x = log ν/ν₀, ν₀ at the centre of the band.",
        units={"Centre": "GHz", "Flux density": "Jy", "Error": "Jy"},
        formats={"Centre": ".3f", "Flux density": ".4f", "Error": ".4f",
                 **{c: ".3f" for o in orders for c in (o, f"{o} error")}},
    )  # fmt: skip
    page.plots(
        draw_spectrum, _pictures(result), caption=lambda i: f"{i.field or i.vis}: {i.what}",
        tags=lambda i: {"vis": i.vis, "field": i.field, "type": i.what}, name="spectra", size="large",
    )  # fmt: skip
    _points(page, ctx, result)
    page.section("Models and gains against frequency", "frequency")
    page.plots(
        draw_cloud, [*models, *_gain_pictures(ctx, result)],
        caption=lambda i: f"{i.vis}: {i.what} against frequency", tags=lambda i: {"vis": i.vis, "type": i.what},
        name="frequency",
    )  # fmt: skip
    _gains(page, ctx, result)


def _coefficient(fit: Any, power: int) -> tuple[float | None, float | None]:
    return (fit.coefficients[power], fit.error(power)) if power <= fit.order else (None, None)


def _points(page: Any, ctx: Any, result: FluxbootResult) -> None:
    spws = SpwNames(ctx.context)
    page.section("Flux densities by window", "points")
    page.table(
        ["Measurement set", "Source", "Band", "Spw", "Frequency", "Data", "Error", "Fit", "Residual", "Solutions"],
        [
            [p.vis, p.field, p.band, spws(p.vis, [p.spw])[0], p.frequency_hz / 1e9, p.flux_jy, p.error_jy, p.fitted_jy,
             100 * p.residual, p.solutions]
            for p in result.points
        ],
        units={"Frequency": "GHz", "Data": "Jy", "Error": "Jy", "Fit": "Jy", "Residual": "%"},
        formats={"Frequency": ".3f", "Data": ".4f", "Error": ".4f", "Fit": ".4f", "Residual": ".2f"},
        filters=("source", "spw"),
    )  # fmt: skip


def _gains(page: Any, ctx: Any, result: FluxbootResult) -> None:
    page.section("Amplitudes of the calibrators", "gains", level="detail")
    items = []
    for table in result.tables:
        spws = sorted({s.spw for s in table.stats})
        if not spws:
            continue
        ms = ctx.context.measurement_set(table.vis)
        found = solutions.windows(ctx, table.path, spws)
        band = ms.spw(spws[0]).band
        pictures = solutions.against_time(ms, band, found, correlations(ms, spws), "gains for the flux densities")
        items += solutions.grids(pictures, phase=False)
    solutions.add_grids(page, items, "fluxgains", "Amplitudes against time")
    outliers = [(vis, g) for vis, gains in result.flagged_gains.items() for g in gains]
    if outliers:
        names = SpwNames(ctx.context)
        page.table(
            ["Measurement set", "Antenna", "Spw", "Receptor", "Scan", "Gain / mean"],
            [[vis, g.antenna, names(vis, [g.spw])[0], g.pol, g.scan, g.amplitude] for vis, g in outliers],
            caption="Times flagged in the copy of the calibrators, because the gain is more than 10 % off its mean.",
            filters=("antenna", "spw", "scan"), formats={"Gain / mean": ".3f"},
        )  # fmt: skip


def _model_pictures(ctx: Any, result: FluxbootResult) -> list[CloudPicture]:
    """Model amplitudes of all calibrators: one visibility of each window tells, for sources that are nearly points."""
    items = []
    for vis in dict.fromkeys(key.rpartition(" ")[0] for key in result.references):
        ms = ctx.context.measurement_set(vis)
        path = calibrators.state_of(ctx, ms).calibrators_path
        x, y, kind, names = [], [], [], []
        with ctx.casa.table(path) as table:
            if "MODEL_DATA" not in table.colnames():
                continue
            for field in calibrators.selection(ms).calibrator_fields:
                names.append(ms.field(field).name)
                for description in ms.data_descriptions:
                    row = table.query(f"FIELD_ID=={field} && DATA_DESC_ID=={description.id} && ANTENNA1!=ANTENNA2")
                    try:
                        if row.nrows():
                            model = np.abs(row.getcol("MODEL_DATA", 0, 1)[0, :, 0])
                            set_ = model > 0  # setjy leaves flagged channels at zero
                            x.append(ms.spw(int(description.spw_id)).centres_hz[set_])
                            y.append(model[set_])
                            kind.append(np.full(set_.sum(), len(names) - 1))
                    finally:
                        row.close()
        if x:
            items.append(
                CloudPicture(
                    vis=vis, what="model amplitude", unit="Jy", frequency_hz=np.concatenate(x),
                    values=np.concatenate(y), categories=np.concatenate(kind), labels=tuple(names),
                )
            )  # fmt: skip
    return items


def _gain_pictures(ctx: Any, result: FluxbootResult) -> list[CloudPicture]:
    """Median amplitude gain of every antenna, window and receptor: the data behind the flux densities."""
    items = []
    for table in result.tables:
        good = [s for s in table.stats if s.flagged < s.solutions]
        if not good:
            continue
        ms = ctx.context.measurement_set(table.vis)
        items.append(
            CloudPicture(
                vis=table.vis, what=f"amplitude gain, {ms.spw(good[0].spw).band} band", unit="",
                frequency_hz=np.array([ms.spw(s.spw).centre_hz for s in good]),
                values=np.array([s.amplitude for s in good]), categories=np.array([s.pol for s in good]),
                labels=correlations(ms, sorted({s.spw for s in good})),
            )
        )  # fmt: skip
    return items


def draw_cloud(ctx: Any, item: CloudPicture, path: Path) -> None:
    """Points against frequency."""
    from pl_kernel.weblog import plots

    plots.scatter(
        path, item.frequency_hz / 1e9, item.values, categories=item.categories, labels=item.labels, xlabel="Frequency",
        xunit="GHz", ylabel=item.what.split(",")[0].capitalize(), yunit=item.unit, title=item.what, subtitle=item.vis,
    )  # fmt: skip


def _pictures(result: FluxbootResult) -> list[SpectrumPicture]:
    items = []
    for vis in dict.fromkeys(p.vis for p in result.points):
        names = list(dict.fromkeys(p.field for p in result.points if p.vis == vis))
        by_name = {n: [p for p in result.points if p.vis == vis and p.field == n] for n in names}
        items.append(_picture(result, vis, "flux densities and fits", by_name))
        for name, points in by_name.items():
            items.append(_picture(result, vis, "residuals", {name: points}, name))
    return items


def _picture(
    result: FluxbootResult, vis: str, what: str, by_name: dict[str, list[FluxPoint]], field: str = ""
) -> SpectrumPicture:
    fits = {}
    for name, points in by_name.items():
        fit = next(s.fit for s in result.spectra if s.vis == vis and s.field == name)
        low, high = min(p.frequency_hz for p in points), max(p.frequency_hz for p in points)
        x = np.geomspace(low, high * (1 + 1e-9), 50)
        fits[name] = (x, fit.at(x))
    return SpectrumPicture(
        vis=vis, what=what, field=field, names=tuple(by_name),
        frequency_hz=tuple(np.array([p.frequency_hz for p in v]) for v in by_name.values()),
        flux_jy=tuple(
            np.array([100 * p.residual if what == "residuals" else p.flux_jy for p in v]) for v in by_name.values()
        ),
        error_jy=tuple(
            np.array([100 * p.error_jy / p.flux_jy if what == "residuals" else p.error_jy for p in v])
            for v in by_name.values()
        ),
        fit_hz=tuple(x for x, _ in fits.values()), fit_jy=tuple(y for _, y in fits.values()),
    )  # fmt: skip


def draw_spectrum(ctx: Any, item: SpectrumPicture, path: Path) -> None:
    """Flux densities with errors against frequency, both logarithmic, and the fits; or residuals in percent."""
    from pl_kernel.weblog import plots

    palette = plots.colours(len(item.names))
    with plots.figure(path, 7.2, 4.4) as fig:
        ax = fig.subplots()
        for i, name in enumerate(item.names):
            ax.errorbar(
                item.frequency_hz[i] / 1e9, item.flux_jy[i], yerr=item.error_jy[i], fmt="o", markersize=4,
                color=palette[i], capsize=2, label=name,
            )  # fmt: skip
            if item.what != "residuals":
                ax.plot(item.fit_hz[i] / 1e9, item.fit_jy[i], color=palette[i])
        ax.set_xlabel("Frequency (GHz)")
        if item.what == "residuals":
            ax.axhline(0, color=plots.MUTED, linewidth=0.8)
            ax.set_ylabel("(data - fit) / data (%)")
        else:
            ax.set_xscale("log")
            ax.set_yscale("log")
            _plain_ticks(ax)
            ax.set_ylabel("Flux density (Jy)")
        ax.legend()
        ax.set_title(f"{item.field or item.vis}: {item.what}")


def _plain_ticks(ax: Any) -> None:
    """Readable numbers on logarithmic axes, more of them where they span less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        if high / low < 12:
            axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())
