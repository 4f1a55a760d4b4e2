"""Page of the sky calibration: tables, OFF positions, level of the sky, elevations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.heuristics.skylevel import LIMIT_DEG
from pl_hsd.rows import RowTable
from pl_hsd.stages.skycal import SkycalResult, gap_series
from pl_hsd.strategy import strategy
from pl_kernel import renderer
from pl_kernel.common.calspectra import read_spectra
from pl_kernel.common.tsysmaps import separation
from pl_kernel.ms.selection import compact_ids


@attrs.frozen(eq=False, kw_only=True)
class Series:
    """Curves [series, points] over one axis (Hz or MJD s), for one picture."""

    vis: str
    spw: str
    antenna: str
    field: str
    x: Any
    values: Any
    labels: tuple[str, ...]


@renderer(SkycalResult)
def skycal_page(page: Any, ctx: Any, result: SkycalResult) -> None:
    """Tables and pictures."""
    page.section("Sky calibration")
    page.table(
        ["Measurement set", "Type", "Targets", "OFF", "Antennas", "Spw", "Solutions", "Caltable"],
        [[t.vis, t.caltype, ", ".join(t.references), ", ".join(dict.fromkeys(t.references.values())),
          ", ".join(t.antennas), compact_ids(t.spws), t.solutions, t.table] for t in result.tables],
    )  # fmt: skip
    for vis, fields in result.missing.items():
        for field, reason in fields.items():
            page.note(f"{field} of {vis} has no sky calibration: {reason}.", "error")
    page.table(
        ["Measurement set", "Target", "OFF", "OFF RA", "OFF Dec", "Distance"], _references(ctx, result),
        caption="Where the OFF positions are; an OFF that is an offset of its target has no coordinates of its own",
        units={"OFF RA": "deg", "OFF Dec": "deg", "Distance": "arcmin"},
        formats={"OFF RA": ".5f", "OFF Dec": ".5f", "Distance": ".2f"},
    )  # fmt: skip
    by_frequency, by_time = [], []
    for t in result.tables:
        frequency, time = _levels(ctx, t.vis, t.table)
        by_frequency += frequency
        by_time += time
    tags = lambda s: {"vis": s.vis, "spw": s.spw, "antenna": s.antenna, "field": s.field}  # noqa: E731
    page.plots(
        draw_frequency, [s for s in by_frequency if not s.antenna], title="Sky level against frequency",
        caption=lambda s: f"{s.vis}, spw {s.spw}: median over time and polarization", tags=tags, name="sky-frequency",
    )  # fmt: skip
    page.plots(
        draw_time, by_time, title="Sky level against time", name="sky-time", tags=tags,
        caption=lambda s: f"{s.vis}, spw {s.spw}: median over channels, relative to the median over time",
    )  # fmt: skip
    page.plots(
        draw_elevation, _elevations(ctx, result), title="Elevation difference", name="elevation", tags=tags,
        caption=lambda s: f"{s.vis}, {s.field}: ON minus OFF; the doubtful range begins at ±{LIMIT_DEG:.0f} deg",
    )  # fmt: skip
    page.section("Sky level by antenna", level="detail")
    page.plots(
        draw_frequency, [s for s in by_frequency if s.antenna], name="sky-antenna", size="small", tags=tags,
        caption=lambda s: f"{s.antenna}, spw {s.spw}: each polarization, several OFF visits",
    )  # fmt: skip


def _references(ctx: Any, result: SkycalResult) -> list[list[Any]]:
    rows = []
    for t in result.tables:
        ms = ctx.context.measurement_set(t.vis)
        for target, off in t.references.items():
            if target == off:
                rows.append([t.vis, target, off, None, None, None])
                continue
            one, other = (next(f for f in ms.fields if f.name == name) for name in (target, off))
            rows.append(
                [t.vis, target, off, math.degrees(other.ra_rad) % 360, math.degrees(other.dec_rad),
                 math.degrees(separation(one, other)) * 60]
            )  # fmt: skip
    return rows


def _levels(ctx: Any, vis: str, table: str, most: int = 12) -> tuple[list[Series], list[Series]]:
    ms = ctx.context.measurement_set(vis)
    frequency, time = [], []
    for spw, c in read_spectra(ctx.casa, table).items():
        values = np.where(c.flags, np.nan, c.values)
        antennas = [int(a) for a in np.unique(c.antenna)]
        names = tuple(ms.antenna(a).name for a in antennas)
        place = {"vis": vis, "spw": str(spw), "field": ""}
        spectra = np.stack([_median(values[c.antenna == a], (0, 1)) for a in antennas])
        frequency.append(Series(antenna="", x=c.frequency_hz, values=spectra, labels=names, **place))
        for antenna, name in zip(antennas, names, strict=True):
            own = c.rows(antenna=antenna)
            own = own[np.linspace(0, own.size - 1, min(most, own.size)).astype(int)]
            curves = values[own].reshape(-1, values.shape[2])
            labels = tuple(f"scan {c.scan[r]}, pol {p}" for r in own for p in range(values.shape[1]))
            frequency.append(Series(antenna=name, x=c.frequency_hz, values=curves, labels=labels, **place))
        times = np.unique(c.time_s)
        levels = np.full((len(antennas), times.size), np.nan)
        for k, antenna in enumerate(antennas):
            own = c.rows(antenna=antenna)
            level = _median(values[own], (1, 2))
            levels[k, np.searchsorted(times, c.time_s[own])] = level / np.nanmedian(level)
        time.append(Series(antenna="", x=times, values=levels, labels=names, **place))
    return frequency, time


def _elevations(ctx: Any, result: SkycalResult) -> list[Series]:
    found = []
    for vis in dict.fromkeys(g.vis for g in result.gaps):
        ms = ctx.context.measurement_set(vis)
        rows = RowTable.open(ctx, ms)
        for field, reference in strategy(ctx, ms).reference_fields.items():
            for antenna in sorted({a for a, _, f in rows.header.members if f == field}):
                time, d = gap_series(rows, antenna, field, reference)
                found.append(
                    Series(
                        vis=vis, spw="", antenna=ms.antenna(antenna).name, field=ms.field(field).name, x=time,
                        values=np.stack([d.before_deg, d.after_deg]), labels=("OFF before", "OFF after"),
                    )
                )  # fmt: skip
    return found


def _median(values: Any, axes: tuple[int, ...]) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where all is flagged there is no median
        return np.nanmedian(values, axis=axes)


def draw_frequency(ctx: Any, item: Series, path: Path) -> None:
    """Level of the blank sky against frequency."""
    from pl_kernel.weblog import plots

    plots.vs_frequency(
        path, item.x, item.values, labels=item.labels, ylabel="Sky level (raw)", title=f"Spw {item.spw}",
        subtitle=item.antenna,
    )  # fmt: skip


def draw_time(ctx: Any, item: Series, path: Path) -> dict[str, str]:
    """Level of the blank sky against time."""
    from pl_kernel.weblog import plots

    plots.vs_time(
        path, item.x, item.values, labels=item.labels, ylabel="Relative sky level", title=f"Spw {item.spw}", join=True
    )
    return {"Scatter": f"{100 * np.nanstd(item.values):.2f} %"}


def draw_elevation(ctx: Any, item: Series, path: Path) -> dict[str, str]:
    """Elevation of ON minus that of the OFF before and after it."""
    from pl_kernel.weblog import plots

    largest = float(np.nanmax(np.abs(item.values)))
    limits = (-LIMIT_DEG, LIMIT_DEG) if largest > 0.5 * LIMIT_DEG else ()
    plots.vs_time(
        path, item.x, item.values, labels=item.labels, ylabel="Elevation ON − OFF", unit="deg", limits=limits,
        title=f"{item.antenna}, {item.field}",
    )  # fmt: skip
    return {"Largest": f"{largest:.2f} deg"}
