"""The array and the observation: antennas, scans, uv plane, and tables drawn as colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pl_kernel.weblog.plots.style import (
    BAD,
    INK,
    MUTED,
    PALETTE,
    FloatArray,
    clip,
    colours,
    draw_limits,
    draw_points,
    figure,
    legend,
    margins_for,
    mjd_seconds_to_dates,
    padded,
    time_axis,
    titles,
    with_unit,
)


def antenna_map(
    path: Path | str,
    names: Sequence[str],
    east_m: ArrayLike,
    north_m: ArrayLike,
    *,
    reference: str = "",
    values: ArrayLike | None = None,
    value_label: str = "",
    limits: tuple[float, float] | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw where the antennas stand, in metres east and north of the array centre.

    reference : antenna to be marked.  values : one number per antenna shown as colour (flagged fraction, for example),
    the dark end of the ramp for high ones, between ``limits`` if given.
    """
    east, north = np.asarray(east_m, dtype=np.float64), np.asarray(north_m, dtype=np.float64)
    scale, unit = (1e3, "km") if max(np.ptp(east), np.ptp(north), 1.0) >= 3000 else (1.0, "m")
    with figure(path, 6.4, 5.4, (0.82, 0.35 if values is None else 0.75, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        x, y = east / scale, north / scale
        if values is None:
            ax.plot(x, y, "o", color=PALETTE[0], markersize=6.5, markeredgecolor="white", markeredgewidth=0.8)
        else:
            shown = ax.scatter(
                x, y, c=np.asarray(values, dtype=np.float64), cmap="cividis_r", s=46, zorder=3, edgecolors=MUTED,
                linewidths=0.6, norm=Normalize(*limits) if limits else None,
            )  # fmt: skip
            fig.colorbar(shown, ax=ax, fraction=0.046, pad=0.02).set_label(value_label)
        for name, px, py in zip(names, x, y, strict=True):
            marked = name == reference
            if marked:
                ax.plot(
                    [px], [py], "o", markersize=13, markerfacecolor="none", markeredgecolor=BAD, markeredgewidth=1.6
                )
            ax.annotate(
                clip(name, 14) + (" (reference)" if marked else ""), (px, py), xytext=(6, 4),
                textcoords="offset points", fontsize=8, color=BAD if marked else MUTED,
            )  # fmt: skip
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(0.12)
        ax.set_xlabel(f"East ({unit})")
        ax.set_ylabel(f"North ({unit})")


@attrs.frozen
class ScanBar:
    """One scan of a timeline: MJD seconds, field, intents in the words of the reader."""

    number: int
    start_s: float
    end_s: float
    field: str
    intents: tuple[str, ...] = ()


def timeline(path: Path | str, scans: Sequence[ScanBar], *, title: str = "", subtitle: str = "") -> None:
    """Draw the scans as bars, one row per field, coloured by their first intent."""
    fields = list(dict.fromkeys(s.field for s in scans))
    intents = list(dict.fromkeys((s.intents or ("none",))[0] for s in scans))
    palette = dict(zip(intents, colours(len(intents)), strict=True))
    left = 0.4 + 0.08 * max((len(clip(f, 24)) for f in fields), default=4)
    with figure(path, 8.6, 0.4 * max(len(fields), 2) + 1.4, margins_for(title or " ", intents, left)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        boxes, shades = [], []
        for scan in scans:
            x0, x1 = mjd_seconds_to_dates([scan.start_s, scan.end_s])
            row = fields.index(scan.field)
            boxes.append([(x0, row - 0.36), (x1, row - 0.36), (x1, row + 0.36), (x0, row + 0.36)])
            shades.append(to_rgba(palette[(scan.intents or ("none",))[0]]))
        ax.add_collection(PolyCollection(boxes, facecolors=shades, edgecolors="white", linewidths=0.4))
        if scans:
            _number_scans(ax, scans, fields)
        ax.set_yticks(range(len(fields)), [clip(f, 24) for f in fields])
        ax.set_ylim(len(fields) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        time_axis(ax)
        legend(ax, intents, list(palette.values()))


def _number_scans(ax: Any, scans: Sequence[ScanBar], fields: Sequence[str]) -> None:
    first, last = min(s.start_s for s in scans), max(s.end_s for s in scans)
    x0, x1 = mjd_seconds_to_dates([first, last])
    ax.set_xlim(*padded(float(x0), float(x1), 0.015))
    for scan in scans:
        if scan.end_s - scan.start_s > 0.02 * (last - first):  # room for the number
            centre = mjd_seconds_to_dates([(scan.start_s + scan.end_s) / 2])[0]
            ax.text(
                centre, fields.index(scan.field), str(scan.number), ha="center", va="center", fontsize=7, color="white"
            )


def uv_coverage(
    path: Path | str,
    u_m: ArrayLike,
    v_m: ArrayLike,
    *,
    wavelength_m: float | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw the uv plane, both of each pair of points, in metres or (given a wavelength) in kilo-wavelengths."""
    u, v = np.asarray(u_m, dtype=np.float64).ravel(), np.asarray(v_m, dtype=np.float64).ravel()
    if wavelength_m:
        u, v, unit = u / wavelength_m / 1e3, v / wavelength_m / 1e3, "kλ"
    else:
        unit = "m"
    with figure(path, 5.6, 5.3, (0.75, 0.25, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        reach = float(np.nanmax(np.hypot(u, v))) * 1.05 if u.size else 1.0
        draw_points(ax, np.concatenate([u, -u]), np.concatenate([v, -v]))
        ax.set_xlim(reach, -reach)
        ax.set_ylim(-reach, reach)
        ax.set_aspect("equal")
        ax.set_xlabel(f"u ({unit})")
        ax.set_ylabel(f"v ({unit})")


def elevation(
    path: Path | str,
    time_s: ArrayLike,
    elevation_deg: ArrayLike,
    fields: ArrayLike,
    labels: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    ylabel: str = "Elevation (deg)",
    ticks: Sequence[float] = (0, 15, 30, 45, 60, 75, 90),
) -> None:
    """Draw elevation, or another angle, against time, coloured by field (whole numbers into `labels`)."""
    palette = colours(max(len(labels), 1))
    with figure(path, 7.2, 3.6, margins_for(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        draw_points(ax, mjd_seconds_to_dates(time_s), elevation_deg, fields, palette)
        ax.set_ylim(ticks[0], ticks[-1])
        ax.set_yticks(list(ticks))
        ax.set_ylabel(ylabel)
        time_axis(ax)
        legend(ax, labels, palette)


def matrix(
    path: Path | str,
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str = "",
    limits: tuple[float, float] | None = None,
    row_title: str = "",
    column_title: str = "",
    title: str = "",
    subtitle: str = "",
    write: str = "",
) -> None:
    """Draw a table of numbers as colours: flagged fraction by antenna and spw, for example.

    values : (nrows, ncolumns), NaN where there is nothing.  write : format such as ".0%" to write the numbers as well
    (left out when there are more than 400 cells).
    """
    array = np.asarray(values, dtype=np.float64).reshape(len(rows), len(columns))
    row_names, column_names = [clip(r, 18) for r in rows], [clip(c, 14) for c in columns]
    longest = max((len(c) for c in column_names), default=0)
    rotated = longest > 4
    left = 0.45 + 0.078 * max((len(r) for r in row_names), default=0)
    bottom = 0.5 + (0.09 + 0.068 * longest if rotated else 0.05)
    height = min(9.0, 0.27 * max(len(rows), 3) + 0.45 + bottom)
    width = min(12.0, max(4.6, 0.42 * len(columns) + 1.6 + left))
    with figure(path, width, height, (left, 0.75 if label else 0.5, bottom, 0.4)) as fig:
        ax = fig.subplots()
        ax.grid(False)
        titles(fig, ax, title, subtitle)
        shown = ax.imshow(
            np.ma.masked_invalid(array), cmap="cividis_r", norm=Normalize(*limits) if limits else None,
            aspect="auto", origin="upper", interpolation="nearest",
        )  # fmt: skip
        ax.set_facecolor("#eef1f4")
        _sparse_ticks(ax.set_yticks, row_names, 40)
        _sparse_ticks(ax.set_xticks, column_names, 26)
        if rotated:
            ax.tick_params(axis="x", rotation=60)
        ax.set_xlabel(column_title)
        ax.set_ylabel(row_title)
        if write and array.size <= 400:
            _write_numbers(ax, array, write, shown)
        fig.colorbar(shown, ax=ax, fraction=0.05, pad=0.02).set_label(label)


def _sparse_ticks(setter: Callable[..., Any], names: Sequence[str], most: int) -> None:
    step = max(1, math.ceil(len(names) / most))
    setter(range(0, len(names), step), names[::step])


def _write_numbers(ax: Any, array: FloatArray, spec: str, shown: Any) -> None:
    for (row, column), value in np.ndenumerate(array):
        if math.isfinite(value):
            red, green, blue, _ = shown.cmap(shown.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            ax.text(
                column, row, format(value, spec), ha="center", va="center", fontsize=7, color="white" if dark else INK
            )


def bars(
    path: Path | str,
    names: Sequence[str],
    values: ArrayLike,
    *,
    errors: ArrayLike | None = None,
    ylabel: str = "",
    unit: str = "",
    limits: Sequence[float] = (),
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw one bar per name, with error bars and thresholds where given."""
    heights = np.asarray(values, dtype=np.float64)
    with figure(path, min(12.0, max(5.0, 0.3 * len(names) + 1.5)), 3.6) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        ax.bar(range(len(names)), heights, yerr=errors, color=PALETTE[0], width=0.7, ecolor=INK, capsize=2)
        draw_limits(ax, limits)
        _sparse_ticks(ax.set_xticks, [clip(n, 14) for n in names], 40)
        if max((len(n) for n in names), default=0) > 4:
            ax.tick_params(axis="x", rotation=60)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.grid(axis="x", visible=False)
        ax.set_ylabel(with_unit(ylabel, unit))
