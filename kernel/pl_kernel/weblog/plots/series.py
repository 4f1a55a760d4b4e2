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
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pl_kernel.weblog.plots.style import (
    AGGREGATE_ABOVE,
    MUTED,
    PALETTE,
    Array,
    clip,
    colours,
    draw_limits,
    draw_points,
    figure,
    kept_figure,
    legend,
    margins_for,
    mjd_seconds_to_dates,
    names_of,
    no_data,
    points_style,
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
    _amp_phase(
        path, freq, values, good, labels, title, subtitle, with_unit(amplitude_label, unit), "Frequency (GHz)",
        [(low / 1e9, high / 1e9) for low, high in ranges_hz],
    )  # fmt: skip


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
    _amp_phase(path, dates, values, good, labels, title, subtitle, with_unit(amplitude_label, unit), "")


def _amp_phase(
    path: Path | str, x: Array, values: Array, good: NDArray[np.bool_], labels: Sequence[str], title: str,
    subtitle: str, ylabel: str, xlabel: str, ranges: Sequence[tuple[float, float]] = (),
) -> None:  # fmt: skip
    """Amplitude above phase; without ``xlabel`` against time."""
    count, names = len(values), tuple(names_of(labels, len(values)) if labels else [])
    margins = margins_for(title or subtitle, labels)
    amplitude, phase = np.abs(values), np.degrees(np.angle(values))
    if ranges or count > len(PALETTE) or not good.any() or good.sum() > AGGREGATE_ABOVE:
        kinds = np.broadcast_to(np.arange(count)[:, None], values.shape)[good]
        with figure(path, 7.2, 4.8, margins) as fig:
            panels = _AmpPhase(fig, ylabel, xlabel, names, count)
            for ax, y in ((panels.top, amplitude), (panels.bottom, phase)):
                for low, high in ranges:
                    ax.axvspan(low, high, color="#e69f00", alpha=0.15, linewidth=0)
                draw_points(ax, x[good], y[good], kinds, panels.palette)
            panels.finish(title, subtitle, bool(good.any()))
        return
    key = ("amplitude and phase", margins, ylabel, xlabel, names, count)
    with kept_figure(path, key, lambda fig: _AmpPhase(fig, ylabel, xlabel, names, count), 7.2, 4.8, margins) as panels:
        panels.show(x, amplitude, phase, good)
        panels.finish(title, subtitle)


class _AmpPhase:
    """Two axes, one above the other; ``show`` draws points of few series in them, again and again."""

    def __init__(self, fig: Figure, ylabel: str, xlabel: str, names: Sequence[str], count: int) -> None:
        self.figure = fig
        self.top, self.bottom = fig.subplots(2, 1, sharex=True)
        self.palette = colours(count)
        self.lines: list[tuple[Any, Any]] = []
        self.top.set_ylabel(ylabel)
        self.bottom.set_ylabel("Phase (deg)")
        if xlabel:
            self.bottom.set_xlabel(xlabel)
        else:
            time_axis(self.bottom)
        legend(self.top, names, self.palette)

    def show(self, x: Array, amplitude: Array, phase: Array, good: NDArray[np.bool_]) -> None:
        style = points_style(int(good.sum()))
        while len(self.lines) < len(x):
            colour = self.palette[len(self.lines)]
            self.lines.append(tuple(ax.plot([], [], color=colour, **style)[0] for ax in (self.top, self.bottom)))
        for lines, own_x, a, p, ok in zip(self.lines, x, amplitude, phase, good, strict=True):
            for line, y in zip(lines, (a, p), strict=True):
                line.set_data(own_x[ok], y[ok])
                line.set_markersize(style["markersize"])
        for ax in (self.top, self.bottom):
            ax.autoscale(True)
            ax.relim()
            ax.autoscale_view()

    def finish(self, title: str, subtitle: str, has_data: bool = True) -> None:
        titles(self.figure, self.top, title or " ", subtitle or " ")
        low, high = self.top.get_ylim()
        if has_data and low > 0 and low < 0.5 * high:
            self.top.set_ylim(bottom=0)
        self.bottom.set_ylim(-185, 185)
        self.bottom.set_yticks([-180, -90, 0, 90, 180])


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
