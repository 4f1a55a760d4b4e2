"""Values against frequency, time, or each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pl_kernel.weblog.plots.style import (
    MUTED,
    Array,
    clip,
    colours,
    draw_limits,
    draw_points,
    figure,
    legend,
    margins_for,
    mjd_seconds_to_dates,
    names_of,
    no_data,
    series_of,
    time_axis,
    titles,
    with_unit,
)

# ---- against frequency, channel, time ------------------------------------------------------------------------------


def amp_phase_vs_frequency(
    path: Path | str,
    frequency_hz: ArrayLike,
    gains: ArrayLike,
    *,
    flags: ArrayLike | None = None,
    labels: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    amplitude_label: str = "Amplitude",
    unit: str = "",
    ranges_hz: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw amplitude above phase against frequency.

    frequency_hz : (nchan,) or one row per series.  gains : complex (nseries, nchan) or (nchan,).
    labels : one per series.  ranges_hz : frequency ranges to be shaded (lines, continuum).
    """
    values, good = series_of(gains, flags)
    freq = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64) / 1e9, values.shape)
    palette = colours(len(values))
    with figure(path, 7.2, 4.8, margins_for(title or subtitle, labels)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        titles(fig, top, title, subtitle)
        for low, high in ranges_hz:
            for ax in (top, bottom):
                ax.axvspan(low / 1e9, high / 1e9, color="#e69f00", alpha=0.15, linewidth=0)
        _complex_panels(top, bottom, freq, values, good, palette)
        top.set_ylabel(with_unit(amplitude_label, unit))
        bottom.set_xlabel("Frequency (GHz)")
        legend(top, names_of(labels, len(values)) if labels else [], palette)


def amp_phase_vs_time(
    path: Path | str,
    time_s: ArrayLike,
    gains: ArrayLike,
    *,
    flags: ArrayLike | None = None,
    labels: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    amplitude_label: str = "Amplitude",
    unit: str = "",
) -> None:
    """Draw amplitude above phase against time.

    time_s : (ntime,) or one row per series, MJD seconds.  gains : complex (nseries, ntime) or (ntime,).
    """
    values, good = series_of(gains, flags)
    dates = np.broadcast_to(mjd_seconds_to_dates(time_s), values.shape)
    palette = colours(len(values))
    with figure(path, 7.2, 4.8, margins_for(title or subtitle, labels)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        titles(fig, top, title, subtitle)
        _complex_panels(top, bottom, dates, values, good, palette)
        top.set_ylabel(with_unit(amplitude_label, unit))
        time_axis(bottom)
        legend(top, names_of(labels, len(values)) if labels else [], palette)


def _complex_panels(
    top: Any, bottom: Any, x: Array, values: Array, good: NDArray[np.bool_], palette: Sequence[Any]
) -> None:
    if not good.any():
        no_data(top)
        no_data(bottom)
    else:
        kinds = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
        draw_points(top, x[good], np.abs(values[good]), kinds[good], palette)
        draw_points(bottom, x[good], np.degrees(np.angle(values[good])), kinds[good], palette)
        low, high = top.get_ylim()
        if low > 0 and low < 0.5 * high:
            top.set_ylim(bottom=0)
    bottom.set_ylim(-185, 185)
    bottom.set_yticks([-180, -90, 0, 90, 180])
    bottom.set_ylabel("Phase (deg)")


def vs_time(
    path: Path | str,
    time_s: ArrayLike,
    values: ArrayLike,
    *,
    flags: ArrayLike | None = None,
    labels: Sequence[str] = (),
    ylabel: str = "",
    unit: str = "",
    title: str = "",
    subtitle: str = "",
    limits: Sequence[float] = (),
    join: bool = False,
) -> None:
    """Draw real values against time.

    time_s : (ntime,) or one row per series, MJD seconds.  values : (nseries, ntime) or (ntime,).
    limits : horizontal lines (thresholds).  join : connect the points of a series.
    """
    array, good = series_of(values, flags)
    dates = np.broadcast_to(mjd_seconds_to_dates(time_s), array.shape)
    with figure(path, 7.2, 3.8, margins_for(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        _lines_or_points(ax, dates, array, good, labels, join)
        draw_limits(ax, limits)
        ax.set_ylabel(with_unit(ylabel, unit))
        time_axis(ax)


def vs_frequency(
    path: Path | str,
    frequency_hz: ArrayLike,
    values: ArrayLike,
    *,
    flags: ArrayLike | None = None,
    labels: Sequence[str] = (),
    ylabel: str = "",
    unit: str = "",
    title: str = "",
    subtitle: str = "",
    limits: Sequence[float] = (),
    join: bool = True,
) -> None:
    """Draw real values against frequency.  Shapes as in :func:`amp_phase_vs_frequency`."""
    array, good = series_of(values, flags)
    freq = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64) / 1e9, array.shape)
    with figure(path, 7.2, 3.8, margins_for(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        _lines_or_points(ax, freq, array, good, labels, join)
        draw_limits(ax, limits)
        ax.set_xlabel("Frequency (GHz)")
        ax.set_ylabel(with_unit(ylabel, unit))


def _lines_or_points(
    ax: Any, x: Array, values: Array, good: NDArray[np.bool_], labels: Sequence[str], join: bool
) -> None:
    palette = colours(len(values))
    if not good.any():
        no_data(ax)
    elif join:
        segments = [np.column_stack([x[i], np.where(good[i], values[i], np.nan)]) for i in range(len(values))]
        ax.add_collection(LineCollection(segments, colors=[to_rgba(c) for c in palette], linewidths=1.1))
        ax.autoscale_view()
    else:
        kinds = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
        draw_points(ax, x[good], values[good], kinds[good], palette)
    legend(ax, names_of(labels, len(values)) if labels else [], palette)


def spectrum(
    path: Path | str,
    axis: ArrayLike,
    values: ArrayLike,
    *,
    axis_label: str = "Frequency (GHz)",
    ylabel: str = "Flux density",
    unit: str = "Jy",
    ranges: Sequence[tuple[float, float]] = (),
    range_label: str = "continuum",
    rms: float | None = None,
    labels: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw spectra as steps, with shaded ranges of the axis and a band of ± rms.

    axis : (nchan,) channel centres in the unit of `axis_label`.  values : (nchan,) or (nseries, nchan).
    """
    array, good = series_of(values, None)
    x = np.asarray(axis, dtype=np.float64)
    palette = colours(len(array))
    with figure(path, 7.2, 3.6, margins_for(title or subtitle)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        for n, (low, high) in enumerate(ranges):
            ax.axvspan(low, high, color="#56b4e9", alpha=0.18, linewidth=0, label=range_label if n == 0 else None)
        if rms is not None and math.isfinite(rms):
            ax.axhspan(-rms, rms, color=MUTED, alpha=0.15, linewidth=0, label=f"± rms {rms:.3g} {unit}".rstrip())
        names = names_of(labels, len(array)) if labels else [None] * len(array)
        for i, row in enumerate(array):
            ax.step(x, np.where(good[i], row, np.nan), where="mid", color=palette[i], label=names[i])
        ax.axhline(0, color=MUTED, linewidth=0.6)
        if x.size > 1:
            ax.set_xlim(float(x.min()), float(x.max()))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper right")
        ax.set_xlabel(axis_label)
        ax.set_ylabel(with_unit(ylabel, unit))


# ---- scatter -------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Panel:
    """One panel of a grid: points, and what they are coloured by (whole numbers into the labels of the grid)."""

    title: str
    x: Array
    y: Array
    categories: Array | None = None


def scatter(
    path: Path | str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    categories: ArrayLike | None = None,
    labels: Sequence[str] = (),
    xlabel: str = "",
    ylabel: str = "",
    xunit: str = "",
    yunit: str = "",
    title: str = "",
    subtitle: str = "",
    time: bool = False,
    limits: Sequence[float] = (),
) -> None:
    """Draw points, coloured by `categories` (whole numbers into `labels`); fit for millions of points.

    time : x are MJD seconds.  limits : horizontal lines.
    """
    palette = colours(max(len(labels), 1))
    with figure(path, 7.2, 4.2, margins_for(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        draw_points(ax, mjd_seconds_to_dates(x) if time else x, y, categories, palette)
        draw_limits(ax, limits)
        ax.set_xlabel(with_unit(xlabel, xunit))
        ax.set_ylabel(with_unit(ylabel, yunit))
        if time:
            time_axis(ax)
        legend(ax, labels, palette)


def scatter_grid(
    path: Path | str,
    panels: Sequence[Panel],
    *,
    columns: int = 3,
    labels: Sequence[str] = (),
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    time: bool = False,
    share_y: bool = True,
) -> None:
    """Draw small panels side by side with common axes, for example one per antenna."""
    columns = max(1, min(columns, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    palette = colours(max(len(labels), 1))
    start = min((float(np.nanmin(p.x)) for p in panels if len(p.x)), default=0.0) if time else 0.0
    if time and not xlabel:
        xlabel = f"Hours since {_date_text(start)} UTC"
    left, right, bottom, _ = margins_for(title, labels, left=0.75)
    with figure(path, 2.2 * columns + left + right, 1.6 * rows + 1.1, (left, right, bottom, 0.65)) as fig:
        fig.subplots_adjust(hspace=0.28)
        axes = fig.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
        for ax in axes.ravel()[len(panels) :]:
            ax.set_visible(False)
        for ax, panel in zip(axes.ravel(), panels, strict=False):
            x = (np.asarray(panel.x, dtype=np.float64) - start) / 3600.0 if time else panel.x
            draw_points(ax, x, panel.y, panel.categories, palette)
            ax.set_title(clip(panel.title, 28), fontsize=9, pad=3)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_locator(MaxNLocator(4))
        if title:
            fig.suptitle(clip(title, 90), x=0.01, y=0.995, ha="left", va="top", fontsize=10.5, fontweight="bold")
        fig.supxlabel(xlabel, fontsize=9.5, y=0.02, va="bottom")
        fig.supylabel(ylabel, fontsize=9.5, x=0.01)
        if len(labels) > 1 and panels:
            legend(axes[0, -1], labels, palette)


def _date_text(mjd_s: float) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=float(mjd_seconds_to_dates(mjd_s)))
    return moment.strftime("%Y-%m-%d %H:%M")
