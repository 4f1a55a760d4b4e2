"""The plot toolkit: numpy arrays in, one quiet and readable picture out.

Every function writes one picture to ``path`` and needs no CASA and no display.  Matplotlib is used through its
objects, never through pyplot, so that plots can be drawn side by side in processes and threads and nothing is
left behind.  Pictures are light panels with dark ink: they read on a light page, on a dark one, and on paper.

Conventions
    frequencies in Hz, times in seconds of MJD (UTC, as in a measurement set), positions in metres, phases in degrees
    on the axes; ``flags`` are True where data are bad, and flagged points are not drawn.
    Colours are those of Okabe & Ito (2008), told apart with all common kinds of colour blindness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import AsinhNorm, Normalize, to_rgb, to_rgba
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

INK, MUTED, GRID, PANEL = "#1f2933", "#5b6673", "#e3e7eb", "#ffffff"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6673", "#8c510a")
BAD, GOOD = "#d55e00", "#0072b2"
SEQUENTIAL, DIVERGING = "magma", "PuOr_r"
DPI = 110

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a field may be called "$x$": names are data
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.facecolor": PANEL,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "figure.facecolor": PANEL,
    "figure.dpi": DPI,
    "savefig.facecolor": PANEL,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "image.origin": "lower",
    "image.interpolation": "nearest",
    "svg.hashsalt": "pl",
}

_AGGREGATE_ABOVE = 20_000  # points in a panel above which counts per pixel are drawn instead of markers
_LEGEND_MAX = 12


# ---- figures, colours, axes ----------------------------------------------------------------------------------------


@contextmanager
def figure(
    path: Path | str,
    width: float = 7.2,
    height: float = 4.2,
    margins: tuple[float, float, float, float] | None = None,
) -> Iterator[Figure]:
    """Give a figure in the house style (inches at 110 dpi) and write it to `path` when the block ends well.

    margins : left, right, bottom, top in inches.  Without them the layout is computed, which always fits but doubles
    the time of a plot.
    """
    with rc_context(STYLE):
        engine = None if margins else ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
        fig = Figure(figsize=(width, height), layout=engine)
        FigureCanvasAgg(fig)
        if margins:
            left, right, bottom, top = margins
            fig.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, 0.12, 0.1)
        yield fig
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # No date and no version in the file: the same data give the same bytes.
        metadata = {"Date": None} if str(path).endswith(".svg") else {"Software": None}
        fig.savefig(str(path), dpi=DPI, metadata=metadata)
        fig.clear()


def _margins(
    title: str, labels: Sequence[str] = (), left: float = 0.82, right: float = 0.25, bottom: float = 0.55
) -> tuple[float, float, float, float]:
    """Margins in inches, with room for a legend on the right when there is more than one label."""
    if len(labels) > 1:
        longest = max(len(_clip(name, 24)) for name in labels)
        right = 0.45 + 0.085 * max(longest, 12 if len(labels) > _LEGEND_MAX else 6)
    return left, right, bottom, 0.4 if title else 0.2


def colours(count: int) -> list[str | tuple[float, ...]]:
    """Return `count` colours: the palette as far as it goes, then steps along a colour-blind safe ramp."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    from matplotlib import colormaps

    return [tuple(c) for c in colormaps["viridis"](np.linspace(0.02, 0.93, count))]


def mjd_seconds_to_dates(time_s: ArrayLike) -> FloatArray:
    """Convert MJD seconds to matplotlib's days since 1970-01-01 (MJD 40587)."""
    return np.asarray(time_s, dtype=np.float64) / 86400.0 - 40587.0


def _time_axis(ax: Any, label: str = "Time (UTC)") -> None:
    locator = AutoDateLocator(minticks=4, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, usetex=False))
    ax.xaxis.get_offset_text().set_fontsize(8.5)
    ax.set_xlabel(label)


def _label(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _titles(fig: Figure, ax: Any, title: str, subtitle: str = "") -> None:
    if title:
        ax.set_title(_clip(title, 90))
    if subtitle:
        ax.set_title(_clip(subtitle, 70), loc="right", fontsize=8.5, fontweight="normal", color=MUTED)


def _clip(text: str, limit: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _legend(ax: Any, labels: Sequence[str], palette: Sequence[Any], outside: bool = True) -> None:
    if len(labels) < 2:
        return
    from matplotlib.lines import Line2D

    shown = list(labels[:_LEGEND_MAX])
    handles = [Line2D([], [], marker="o", linestyle="", markersize=4.5, color=c) for c in palette[: len(shown)]]
    names = [_clip(s, 24) for s in shown]
    if len(labels) > len(shown):
        handles.append(Line2D([], [], linestyle=""))
        names.append(f"and {len(labels) - len(shown)} more")
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if outside else {"loc": "best"}
    ax.legend(handles, names, handletextpad=0.2, borderaxespad=0.0, labelspacing=0.35, **place)


def _no_data(ax: Any, message: str = "no unflagged data") -> None:
    ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def _series(values: ArrayLike, flags: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    array = np.atleast_2d(np.asarray(values))
    good: NDArray[np.bool_] = np.isfinite(array)
    if flags is not None:
        good &= ~np.atleast_2d(np.asarray(flags, dtype=bool))
    return array, good


def _names_of(labels: Sequence[str], count: int) -> list[str]:
    return [str(labels[i]) if i < len(labels) else f"{i}" for i in range(count)]


# ---- points: few as markers, many as counts ------------------------------------------------------------------------


def draw_points(
    ax: Any, x: ArrayLike, y: ArrayLike, categories: ArrayLike | None = None, palette: Sequence[Any] = PALETTE
) -> None:
    """Draw points on `ax`, coloured by whole-number `categories`; millions of them are drawn as counts per pixel.

    x, y, categories : one-dimensional arrays of equal length; points that are not finite are left out.
    """
    x, y = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    kinds = np.zeros(x.size, dtype=np.int64) if categories is None else np.asarray(categories, dtype=np.int64).ravel()
    good = np.isfinite(x) & np.isfinite(y)
    x, y, kinds = x[good], y[good], kinds[good]
    if not x.size:
        _no_data(ax)
        return
    if x.size <= _AGGREGATE_ABOVE:
        for kind in np.unique(kinds):
            chosen = kinds == kind
            ax.plot(
                x[chosen], y[chosen], "o", markersize=2.6 if x.size > 2000 else 3.4, markeredgewidth=0,
                alpha=0.75, color=palette[int(kind) % len(palette)], rasterized=True,
            )  # fmt: skip
        return
    _draw_counts(ax, x, y, kinds, palette)


def _draw_counts(ax: Any, x: FloatArray, y: FloatArray, kinds: Array, palette: Sequence[Any]) -> None:
    nx, ny = (300, 150) if x.size < 200_000 else (520, 260)  # a lone point in a sparse plot must not be a speck
    x0, x1 = _padded(float(x.min()), float(x.max()), 0.02)
    y0, y1 = _padded(float(y.min()), float(y.max()), 0.04)
    column = np.minimum(((x - x0) * (nx / (x1 - x0))).astype(np.int64), nx - 1)
    row = np.minimum(((y - y0) * (ny / (y1 - y0))).astype(np.int64), ny - 1)
    pixel = row * nx + column
    total = np.zeros(nx * ny)
    blend = np.zeros((nx * ny, 3))
    for kind in np.unique(kinds):
        counts = np.bincount(pixel[kinds == kind], minlength=nx * ny).astype(np.float64)
        total += counts
        blend += counts[:, None] * np.asarray(to_rgb(palette[int(kind) % len(palette)]))
    hit = total > 0
    image = np.ones((nx * ny, 4))
    image[:, 3] = 0.0
    image[hit, :3] = blend[hit] / total[hit, None]
    # A single point must stay visible among pixels with thousands: opacity goes with the logarithm, from 0.35 up.
    image[hit, 3] = 0.35 + 0.65 * np.log1p(total[hit] - 1) / max(math.log1p(total.max() - 1), 1.0)
    ax.imshow(image.reshape(ny, nx, 4), extent=(x0, x1, y0, y1), aspect="auto", interpolation="nearest", zorder=2)
    ax.set_xlim(x0, x1)
    ax.set_ylim(y0, y1)


def _padded(low: float, high: float, fraction: float) -> tuple[float, float]:
    if not low < high:
        pad = abs(low) * 0.05 or 1.0
        return low - pad, high + pad
    pad = (high - low) * fraction
    return low - pad, high + pad


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
    values, good = _series(gains, flags)
    freq = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64) / 1e9, values.shape)
    palette = colours(len(values))
    with figure(path, 7.2, 4.8, _margins(title or subtitle, labels)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        _titles(fig, top, title, subtitle)
        for low, high in ranges_hz:
            for ax in (top, bottom):
                ax.axvspan(low / 1e9, high / 1e9, color="#e69f00", alpha=0.15, linewidth=0)
        _complex_panels(top, bottom, freq, values, good, palette)
        top.set_ylabel(_label(amplitude_label, unit))
        bottom.set_xlabel("Frequency (GHz)")
        _legend(top, _names_of(labels, len(values)) if labels else [], palette)


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
    values, good = _series(gains, flags)
    dates = np.broadcast_to(mjd_seconds_to_dates(time_s), values.shape)
    palette = colours(len(values))
    with figure(path, 7.2, 4.8, _margins(title or subtitle, labels)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        _titles(fig, top, title, subtitle)
        _complex_panels(top, bottom, dates, values, good, palette)
        top.set_ylabel(_label(amplitude_label, unit))
        _time_axis(bottom)
        _legend(top, _names_of(labels, len(values)) if labels else [], palette)


def _complex_panels(
    top: Any, bottom: Any, x: Array, values: Array, good: NDArray[np.bool_], palette: Sequence[Any]
) -> None:
    if not good.any():
        _no_data(top)
        _no_data(bottom)
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
    array, good = _series(values, flags)
    dates = np.broadcast_to(mjd_seconds_to_dates(time_s), array.shape)
    with figure(path, 7.2, 3.8, _margins(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        _lines_or_points(ax, dates, array, good, labels, join)
        _limits(ax, limits)
        ax.set_ylabel(_label(ylabel, unit))
        _time_axis(ax)


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
    array, good = _series(values, flags)
    freq = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64) / 1e9, array.shape)
    with figure(path, 7.2, 3.8, _margins(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        _lines_or_points(ax, freq, array, good, labels, join)
        _limits(ax, limits)
        ax.set_xlabel("Frequency (GHz)")
        ax.set_ylabel(_label(ylabel, unit))


def _limits(ax: Any, limits: Sequence[float]) -> None:
    for limit in limits:
        ax.axhline(limit, color=BAD, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)


def _lines_or_points(
    ax: Any, x: Array, values: Array, good: NDArray[np.bool_], labels: Sequence[str], join: bool
) -> None:
    palette = colours(len(values))
    if not good.any():
        _no_data(ax)
    elif join:
        segments = [np.column_stack([x[i], np.where(good[i], values[i], np.nan)]) for i in range(len(values))]
        ax.add_collection(LineCollection(segments, colors=[to_rgba(c) for c in palette], linewidths=1.1))
        ax.autoscale_view()
    else:
        kinds = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
        draw_points(ax, x[good], values[good], kinds[good], palette)
    _legend(ax, _names_of(labels, len(values)) if labels else [], palette)


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
    array, good = _series(values, None)
    x = np.asarray(axis, dtype=np.float64)
    palette = colours(len(array))
    with figure(path, 7.2, 3.6, _margins(title or subtitle)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        for n, (low, high) in enumerate(ranges):
            ax.axvspan(low, high, color="#56b4e9", alpha=0.18, linewidth=0, label=range_label if n == 0 else None)
        if rms is not None and math.isfinite(rms):
            ax.axhspan(-rms, rms, color=MUTED, alpha=0.15, linewidth=0, label=f"± rms {rms:.3g} {unit}".rstrip())
        names = _names_of(labels, len(array)) if labels else [None] * len(array)
        for i, row in enumerate(array):
            ax.step(x, np.where(good[i], row, np.nan), where="mid", color=palette[i], label=names[i])
        ax.axhline(0, color=MUTED, linewidth=0.6)
        if x.size > 1:
            ax.set_xlim(float(x.min()), float(x.max()))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper right")
        ax.set_xlabel(axis_label)
        ax.set_ylabel(_label(ylabel, unit))


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
    with figure(path, 7.2, 4.2, _margins(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        draw_points(ax, mjd_seconds_to_dates(x) if time else x, y, categories, palette)
        _limits(ax, limits)
        ax.set_xlabel(_label(xlabel, xunit))
        ax.set_ylabel(_label(ylabel, yunit))
        if time:
            _time_axis(ax)
        _legend(ax, labels, palette)


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
    left, right, bottom, _ = _margins(title, labels, left=0.75)
    with figure(path, 2.2 * columns + left + right, 1.6 * rows + 1.1, (left, right, bottom, 0.65)) as fig:
        fig.subplots_adjust(hspace=0.28)
        axes = fig.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
        for ax in axes.ravel()[len(panels) :]:
            ax.set_visible(False)
        for ax, panel in zip(axes.ravel(), panels, strict=False):
            x = (np.asarray(panel.x, dtype=np.float64) - start) / 3600.0 if time else panel.x
            draw_points(ax, x, panel.y, panel.categories, palette)
            ax.set_title(_clip(panel.title, 28), fontsize=9, pad=3)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.yaxis.set_major_locator(MaxNLocator(4))
        if title:
            fig.suptitle(_clip(title, 90), x=0.01, y=0.995, ha="left", va="top", fontsize=10.5, fontweight="bold")
        fig.supxlabel(xlabel, fontsize=9.5, y=0.02, va="bottom")
        fig.supylabel(ylabel, fontsize=9.5, x=0.01)
        if len(labels) > 1 and panels:
            _legend(axes[0, -1], labels, palette)


def _date_text(mjd_s: float) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=float(mjd_seconds_to_dates(mjd_s)))
    return moment.strftime("%Y-%m-%d %H:%M")


# ---- images --------------------------------------------------------------------------------------------------------


@attrs.frozen
class SkyFrame:
    """Where an image lies on the sky (projection SIN, north up, east left).

    ra_deg, dec_deg : of the reference pixel.  cell_arcsec : pixel size (positive).
    x0, y0 : reference pixel, counted from 0, in column and row.
    """

    ra_deg: float
    dec_deg: float
    cell_arcsec: float
    x0: float
    y0: float


def image_statistics(data: ArrayLike, mask: ArrayLike | None = None) -> dict[str, float]:
    """Return peak, minimum, robust rms (1.4826 × median absolute deviation), mean, sum and number of finite pixels.

    mask : True where pixels are good.  All values are NaN (count 0) when no pixel is good.
    """
    array = np.asarray(data, dtype=np.float64)
    good = np.isfinite(array) if mask is None else np.isfinite(array) & np.asarray(mask, dtype=bool)
    values = array[good]
    if not values.size:
        return {"peak": math.nan, "minimum": math.nan, "rms": math.nan, "mean": math.nan, "sum": math.nan, "pixels": 0}
    return {
        "peak": float(values.max()),
        "minimum": float(values.min()),
        "rms": robust_rms(values),
        "mean": float(values.mean()),
        "sum": float(values.sum()),
        "pixels": int(values.size),
    }


def robust_rms(values: ArrayLike) -> float:
    """Return 1.4826 × the median absolute deviation from the median: the rms of a Gaussian, blind to outliers."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return math.nan
    return float(1.4826 * np.median(np.abs(array - np.median(array))))


def image_panel(
    path: Path | str,
    data: ArrayLike,
    *,
    frame: SkyFrame | None = None,
    beam: tuple[float, float, float] | None = None,
    unit: str = "Jy/beam",
    title: str = "",
    subtitle: str = "",
    contours: ArrayLike | None = None,
    colour_map: str = "sequential",
    limits: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Draw an image with sky coordinates, beam ellipse and colour bar; return its statistics.

    data : (ny, nx), north up, east left (the transpose of what CASA's image tool gives); NaN where masked.
    beam : major and minor axis in arcsec, position angle in degrees east of north.
    contours : a mask or second image of the same shape, outlined at half its maximum.
    colour_map : "sequential" or "diverging" (residuals, velocities).
    limits : colour range; default −3 … 25 robust rms or the peak; the scale is asinh above a dynamic range of 50.
    """
    array = np.asarray(data, dtype=np.float64)
    stats = image_statistics(array)
    norm = _image_norm(array, stats, colour_map == "diverging", limits)
    ny, nx = array.shape
    side = 4.4
    tall = side * min(1.6, max(0.4, ny / max(nx, 1)))
    with figure(path, side + 2.4, tall + 1.0, (0.95, 0.92, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        ax.grid(False)
        _titles(fig, ax, title, subtitle)
        shown = ax.imshow(
            np.ma.masked_invalid(array), cmap=DIVERGING if colour_map == "diverging" else SEQUENTIAL, norm=norm,
            aspect="equal", interpolation="nearest",
        )  # fmt: skip
        ax.set_facecolor("#d9dee3")
        if contours is not None and np.asarray(contours).any():
            outline = np.nan_to_num(np.asarray(contours, dtype=np.float64))
            ax.contour(outline, levels=[0.5 * outline.max()], colors=["#56b4e9"], linewidths=0.9)
        if frame is not None:
            _sky_axes(ax, frame, nx, ny)
            if beam is not None:
                _beam(ax, beam, frame.cell_arcsec, nx, ny)
        else:
            ax.set_xlabel("Pixel")
            ax.set_ylabel("Pixel")
        bar = fig.colorbar(shown, ax=ax, fraction=0.046, pad=0.02, ticks=_asinh_ticks(norm), format=_plain_number)
        bar.set_label(unit)
        bar.outline.set_linewidth(0.5)
    return stats


def _image_norm(array: Array, stats: Mapping[str, float], diverging: bool, limits: tuple[float, float] | None) -> Any:
    if limits is not None:
        return Normalize(*limits)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return Normalize(0, 1)
    rms, peak, low = stats["rms"], stats["peak"], stats["minimum"]
    if diverging:
        middle = float(np.median(finite)) if low > 0 or peak < 0 else 0.0
        reach = float(np.percentile(np.abs(finite - middle), 99.8)) or 1.0
        return Normalize(middle - reach, middle + reach)
    if not rms > 0:  # mostly constant: a mask, a model
        return Normalize(low, peak if peak > low else low + 1.0)
    bottom = max(low, -3.0 * rms) if low < 0 else low
    if peak / rms > 50:
        return AsinhNorm(linear_width=3.0 * rms, vmin=bottom, vmax=peak)
    return Normalize(bottom, max(peak, bottom + rms))


def _plain_number(value: float, _position: object = None) -> str:
    return f"{value:.4g}"


def _asinh_ticks(norm: Any) -> list[float] | None:
    """Powers of ten on both sides of zero, as far as the colours reach and no closer than the linear part."""
    if not isinstance(norm, AsinhNorm) or norm.vmin is None or norm.vmax is None:
        return None
    low, high = float(norm.vmin), float(norm.vmax)
    powers = [10.0**k for k in range(math.floor(math.log10(norm.linear_width)) + 1, math.ceil(math.log10(high)) + 1)]
    ticks = [t for t in (*(-p for p in powers), *powers) if low <= t <= high]
    return sorted([0.0, *ticks, high])


_STEPS_ARCSEC = [
    a * u for u in (1e-3, 1e-2, 0.1, 1, 60, 3600) for a in (1, 2, 3, 5, 10, 15, 20, 30) if a < 10 or u >= 1
]  # fmt: skip
_STEPS_RA_S = [a * u for u in (1e-4, 1e-3, 1e-2, 0.1, 1, 60, 3600) for a in (1, 2, 3, 5, 10, 15, 20, 30)]


def _sky_axes(ax: Any, frame: SkyFrame, nx: int, ny: int) -> None:
    """Label the axes with right ascension and declination where their lines cross the lower and left edges."""
    cell = math.radians(frame.cell_arcsec / 3600.0)
    ra0, dec0 = math.radians(frame.ra_deg), math.radians(frame.dec_deg)
    width = cell * max(nx, ny)
    if abs(dec0) + width > math.radians(88) or width > 0.5:
        _offset_axes(ax, frame, nx, ny)
        return
    low_m, left_l = (-0.5 - frame.y0) * cell, (frame.x0 + 0.5) * cell  # direction cosines of the two edges
    span_ra = width * 206264.806 / 15.0 / math.cos(dec0)
    ra_s = _round_values(math.degrees(ra0) * 240.0, span_ra * nx / max(nx, ny), _STEPS_RA_S, 4)
    places = []
    for value in ra_s:
        dra = math.radians(value / 240.0) - ra0
        a, b = math.cos(dec0), math.sin(dec0) * math.cos(dra)
        dec = math.asin(max(-1.0, min(1.0, low_m / math.hypot(a, b)))) + math.atan2(b, a)
        places.append(frame.x0 - math.cos(dec) * math.sin(dra) / cell)
    step_s = ra_s[1] - ra_s[0] if len(ra_s) > 1 else 1.0
    inside = [(p, v) for p, v in zip(places, ra_s, strict=True) if -0.5 <= p <= nx - 0.5]
    ax.set_xticks([p for p, _ in inside], [_sexagesimal(v, step_s, "hms", wrap=86400.0) for _, v in inside])
    dec_as = _round_values(frame.dec_deg * 3600.0, width * 206264.806 * ny / max(nx, ny), _STEPS_ARCSEC, 6)
    step_as = dec_as[1] - dec_as[0] if len(dec_as) > 1 else 1.0
    rows = []
    for value in dec_as:
        dec = math.radians(value / 3600.0)
        sine = left_l / math.cos(dec)
        cosine = math.sqrt(max(0.0, 1.0 - sine * sine))
        m = math.sin(dec) * math.cos(dec0) - math.cos(dec) * math.sin(dec0) * cosine
        rows.append(frame.y0 + m / cell)
    inside = [(p, v) for p, v in zip(rows, dec_as, strict=True) if -0.5 <= p <= ny - 0.5]
    ax.set_yticks([p for p, _ in inside], [_sexagesimal(v, step_as, "dms") for _, v in inside])
    ax.set_xlabel("Right ascension")
    ax.set_ylabel("Declination")


def _offset_axes(ax: Any, frame: SkyFrame, nx: int, ny: int) -> None:
    offsets = _round_values(0.0, frame.cell_arcsec * max(nx, ny), _STEPS_ARCSEC, 6)
    ax.set_xticks([frame.x0 - v / frame.cell_arcsec for v in offsets], [f"{v:g}" for v in offsets])
    ax.set_yticks([frame.y0 + v / frame.cell_arcsec for v in offsets], [f"{v:g}" for v in offsets])
    ax.set_xlim(-0.5, nx - 0.5)
    ax.set_ylim(-0.5, ny - 0.5)
    ax.set_xlabel("Offset east (arcsec)")
    ax.set_ylabel("Offset north (arcsec)")


def _round_values(centre: float, span: float, steps: Sequence[float], count: int) -> list[float]:
    step = next((s for s in sorted(steps) if span / s <= count), max(steps))
    first = math.ceil((centre - span) / step)
    return [k * step for k in range(first, math.floor((centre + span) / step) + 1)]


def _sexagesimal(value: float, step: float, kind: str, wrap: float = 0.0) -> str:
    """Write seconds of time or of arc; fields below the step are left out."""
    if wrap:
        value %= wrap
    sign = "-" if value < 0 else ""
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
    value = round(abs(value), digits)
    whole, rest = divmod(value, 3600.0)
    minutes, seconds = divmod(rest, 60.0)
    units = ("h", "m", "s") if kind == "hms" else ("°", "′", "″")
    text = f"{sign}{int(whole):d}{units[0]}"
    if step < 3600:
        text += f"{int(minutes):02d}{units[1]}"
    if step < 60:
        text += f"{seconds:0{3 + digits if digits else 2}.{digits}f}{units[2]}"
    return text


def _beam(ax: Any, beam: tuple[float, float, float], cell_arcsec: float, nx: int, ny: int) -> None:
    major, minor, angle = beam
    a, b = major / cell_arcsec, minor / cell_arcsec
    if not (math.isfinite(a) and math.isfinite(b)) or a > 0.5 * min(nx, ny):
        return
    pad = 0.03 * min(nx, ny) + a / 2
    box = Rectangle((pad - a * 0.72, pad - a * 0.72), a * 1.44, a * 1.44, facecolor="white", alpha=0.85, linewidth=0)
    ax.add_patch(box)
    # Position angle runs from north through east; east is to the left, so a positive angle turns counter-clockwise.
    ax.add_patch(Ellipse((pad, pad), b, a, angle=angle, facecolor=INK, edgecolor="none"))


def histogram(
    path: Path | str,
    values: ArrayLike,
    *,
    unit: str = "",
    label: str = "Value",
    title: str = "",
    subtitle: str = "",
    bins: int = 120,
) -> dict[str, float]:
    """Draw how often values occur, on a logarithmic scale, with the Gaussian that fits the noise.

    The Gaussian is fitted by iterated clipping: mean and standard deviation of the values within 3 σ of the mean
    until they stand still, with σ corrected for the clipped tails (0.9866 of the true σ remain after a cut at 3 σ).
    Returns ``noise_mean``, ``noise_sigma``, and the statistics of :func:`image_statistics`.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[np.isfinite(array)]
    stats = image_statistics(array)
    mean, sigma = fit_noise(array)
    with figure(path, 7.2, 3.6, _margins(title or subtitle)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        if not array.size:
            _no_data(ax)
        else:
            counts, edges = np.histogram(array, bins=bins)
            ax.stairs(counts, edges, fill=True, color="#9fc5e0", linewidth=0)
            ax.stairs(counts, edges, color=PALETTE[0], linewidth=0.9)
            if sigma > 0:
                x = np.linspace(edges[0], edges[-1], 600)
                peak = array.size * (edges[1] - edges[0]) / (sigma * math.sqrt(2 * math.pi))
                curve = peak * np.exp(-0.5 * ((x - mean) / sigma) ** 2)
                text = f"noise: mean {mean:.3g}, σ {sigma:.3g} {unit}".rstrip()
                ax.plot(x, np.where(curve > 0.3, curve, np.nan), color=BAD, label=text)
                ax.legend(loc="upper right")
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(_plain_number)
            ax.set_ylim(bottom=0.5)
        ax.set_xlabel(_label(label, unit))
        ax.set_ylabel("Number of pixels")
    return {"noise_mean": mean, "noise_sigma": sigma, **stats}


def fit_noise(values: ArrayLike) -> tuple[float, float]:
    """Return mean and standard deviation of the Gaussian core of `values` (see :func:`histogram`)."""
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[np.isfinite(array)]
    if not array.size:
        return math.nan, math.nan
    mean, sigma = float(np.median(array)), robust_rms(array)
    for _ in range(20):
        kept = array[np.abs(array - mean) <= 3.0 * sigma]
        if kept.size < 10:
            break
        # Standard deviation of a Gaussian cut at ±3 σ: sqrt(1 − 6 φ(3) / (2 Φ(3) − 1)) = 0.98658 σ.
        new_mean, new_sigma = float(kept.mean()), float(kept.std()) / 0.98658
        done = abs(new_sigma - sigma) <= 1e-6 * sigma and abs(new_mean - mean) <= 1e-6 * sigma
        mean, sigma = new_mean, new_sigma
        if done:
            break
    return mean, sigma


# ---- the array and the observation ---------------------------------------------------------------------------------


def antenna_map(
    path: Path | str,
    names: Sequence[str],
    east_m: ArrayLike,
    north_m: ArrayLike,
    *,
    reference: str = "",
    values: ArrayLike | None = None,
    value_label: str = "",
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw where the antennas stand, in metres east and north of the array centre.

    reference : antenna to be marked.  values : one number per antenna shown as colour (flagged fraction, for example).
    """
    east, north = np.asarray(east_m, dtype=np.float64), np.asarray(north_m, dtype=np.float64)
    scale, unit = (1e3, "km") if max(np.ptp(east), np.ptp(north), 1.0) >= 3000 else (1.0, "m")
    with figure(path, 6.4, 5.4, (0.82, 0.35, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        x, y = east / scale, north / scale
        if values is None:
            ax.plot(x, y, "o", color=PALETTE[0], markersize=6.5, markeredgecolor="white", markeredgewidth=0.8)
        else:
            shown = ax.scatter(x, y, c=np.asarray(values, dtype=np.float64), cmap="cividis", s=46, zorder=3)
            fig.colorbar(shown, ax=ax, fraction=0.046, pad=0.02).set_label(value_label)
        for name, px, py in zip(names, x, y, strict=True):
            marked = name == reference
            if marked:
                ax.plot(
                    [px], [py], "o", markersize=13, markerfacecolor="none", markeredgecolor=BAD, markeredgewidth=1.6
                )
            ax.annotate(
                _clip(name, 14) + (" (reference)" if marked else ""), (px, py), xytext=(6, 4),
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
    left = 0.4 + 0.08 * max((len(_clip(f, 24)) for f in fields), default=4)
    with figure(path, 8.6, 0.4 * max(len(fields), 2) + 1.4, _margins(title or " ", intents, left)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        boxes, shades = [], []
        for scan in scans:
            x0, x1 = mjd_seconds_to_dates([scan.start_s, scan.end_s])
            row = fields.index(scan.field)
            boxes.append([(x0, row - 0.36), (x1, row - 0.36), (x1, row + 0.36), (x0, row + 0.36)])
            shades.append(to_rgba(palette[(scan.intents or ("none",))[0]]))
        ax.add_collection(PolyCollection(boxes, facecolors=shades, edgecolors="white", linewidths=0.4))
        if scans:
            _number_scans(ax, scans, fields)
        ax.set_yticks(range(len(fields)), [_clip(f, 24) for f in fields])
        ax.set_ylim(len(fields) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        _time_axis(ax)
        _legend(ax, intents, list(palette.values()))


def _number_scans(ax: Any, scans: Sequence[ScanBar], fields: Sequence[str]) -> None:
    first, last = min(s.start_s for s in scans), max(s.end_s for s in scans)
    x0, x1 = mjd_seconds_to_dates([first, last])
    ax.set_xlim(*_padded(float(x0), float(x1), 0.015))
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
        _titles(fig, ax, title, subtitle)
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
) -> None:
    """Draw elevation against time, coloured by field (whole numbers into `labels`)."""
    palette = colours(max(len(labels), 1))
    with figure(path, 7.2, 3.6, _margins(title or subtitle, labels)) as fig:
        ax = fig.subplots()
        _titles(fig, ax, title, subtitle)
        draw_points(ax, mjd_seconds_to_dates(time_s), elevation_deg, fields, palette)
        ax.set_ylim(0, 90)
        ax.set_yticks([0, 15, 30, 45, 60, 75, 90])
        ax.set_ylabel("Elevation (deg)")
        _time_axis(ax)
        _legend(ax, labels, palette)


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
    height = min(9.0, 0.27 * max(len(rows), 3) + 1.5)
    width = min(12.0, max(4.6, 0.42 * len(columns) + 2.6))
    with figure(path, width, height) as fig:
        ax = fig.subplots()
        ax.grid(False)
        _titles(fig, ax, title, subtitle)
        shown = ax.imshow(
            np.ma.masked_invalid(array), cmap="cividis_r", norm=Normalize(*limits) if limits else None,
            aspect="auto", origin="upper", interpolation="nearest",
        )  # fmt: skip
        ax.set_facecolor("#eef1f4")
        _sparse_ticks(ax.set_yticks, [_clip(r, 18) for r in rows], 40)
        _sparse_ticks(ax.set_xticks, [_clip(c, 14) for c in columns], 26)
        if max((len(c) for c in columns), default=0) > 4:
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
        _titles(fig, ax, title, subtitle)
        ax.bar(range(len(names)), heights, yerr=errors, color=PALETTE[0], width=0.7, ecolor=INK, capsize=2)
        _limits(ax, limits)
        _sparse_ticks(ax.set_xticks, [_clip(n, 14) for n in names], 40)
        if max((len(n) for n in names), default=0) > 4:
            ax.tick_params(axis="x", rotation=60)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.grid(axis="x", visible=False)
        ax.set_ylabel(_label(ylabel, unit))
