"""The house style: figures, colours, axes, legends, and points by the million."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.dates import MINUTELY, SECONDLY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
T = TypeVar("T")

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
    "axes.titley": 1.0,  # nothing stands between plot and title; to look for it costs a sixth of a plot's time
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

AGGREGATE_ABOVE = 20_000  # points in a panel above which counts per pixel are drawn instead of markers
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
        fig = new_figure(width, height, margins)
        yield fig
        save(fig, path, margins)


@contextmanager
def kept_figure(
    path: Path | str, key: Hashable, build: Callable[[Figure], T], width: float, height: float,
    margins: tuple[float, float, float, float],
) -> Iterator[T]:  # fmt: skip
    """Give what ``build`` made of a figure, to show other data in it, and write the figure when the block ends well.

    Figure, axes and legend are made once for each ``key``: of hundreds of pictures that differ in their points alone,
    each takes half the time.  The block must set everything that differs.
    """
    with rc_context(STYLE):
        if key not in _KEPT:
            fig = new_figure(width, height, margins)
            _KEPT[key] = fig, build(fig)
        fig, made = _KEPT[key]
        yield made
        save(fig, path, margins)


_KEPT: dict[Hashable, tuple[Figure, Any]] = {}


def new_figure(width: float, height: float, margins: tuple[float, float, float, float] | None) -> Figure:
    """Return an empty figure with a canvas, in the style in force; see ``figure``."""
    fig = Figure(figsize=(width, height), layout=None if margins else ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    FigureCanvasAgg(fig)
    if margins:
        left, right, bottom, top = margins
        fig.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, 0.12, 0.1)
    return fig


def save(fig: Figure, path: Path | str, margins: tuple[float, float, float, float] | None) -> None:
    """Write a figure, in the style in force."""
    if margins:
        width, height = fig.get_size_inches()
        _place_labels(fig, margins[0] / width, margins[2] / height)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # No date and no version in the file: the same data give the same bytes.
    metadata = {"Date": None} if str(path).endswith(".svg") else {"Software": None}
    # Level 1 compresses three times as fast as the default, into files that are a fifth larger.
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 1}} if str(path).endswith(".png") else {}
    fig.savefig(str(path), dpi=DPI, metadata=metadata, **options)


def _place_labels(fig: Figure, left: float, bottom: float) -> None:
    """Put the labels of the outer axes at the edges of a figure with these margins (parts of its size).

    Where they would go by themselves depends on the size of the tick labels, which then are all measured.
    """
    width, height = fig.get_size_inches()
    for ax in fig.axes:
        box = ax.get_position()
        if abs(box.x0 - left) < 1e-6 and str(ax.yaxis.get_label_position()) == "left" and ax.get_ylabel():
            ax.yaxis.set_label_coords((0.25 / width - box.x0) / box.width, 0.5)
        if abs(box.y0 - bottom) < 1e-6 and ax.xaxis.get_label_position() == "bottom" and ax.get_xlabel():
            ax.xaxis.set_label_coords(0.5, (0.2 / height - box.y0) / box.height)


def margins_for(
    title: str, labels: Sequence[str] = (), left: float = 0.82, right: float = 0.25, bottom: float = 0.55
) -> tuple[float, float, float, float]:
    """Margins in inches, with room for a legend on the right when there is more than one label."""
    if len(labels) > 1:
        longest = max(len(clip(name, 24)) for name in labels)
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


def time_axis(ax: Any, label: str = "Time (UTC)") -> None:
    locator = AutoDateLocator(minticks=4, maxticks=8)
    for unit in (MINUTELY, SECONDLY):  # without 2, nine minutes have one tick
        locator.intervald[unit] = [1, 2, 5, 10, 15, 30]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, usetex=False))
    ax.xaxis.get_offset_text().set_fontsize(8.5)
    ax.set_xlabel(label)


def with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def titles(fig: Figure, ax: Any, title: str, subtitle: str = "") -> None:
    if title:
        ax.set_title(clip(title, 90))
    if subtitle:
        # What the title leaves of the width; characters of these sizes are about so wide, in inches.
        room = ax.get_position().width * fig.get_figwidth() - 0.095 * min(len(title), 90) - 0.15
        shown = clip(subtitle, max(8, int(room / 0.066)))
        ax.set_title(shown, loc="right", fontsize=8.5, fontweight="normal", color=MUTED)


def clip(text: str, limit: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def legend(ax: Any, labels: Sequence[str], palette: Sequence[Any], outside: bool = True) -> None:
    if len(labels) < 2:
        return
    from matplotlib.lines import Line2D

    shown = list(labels[:_LEGEND_MAX])
    handles = [Line2D([], [], marker="o", linestyle="", markersize=4.5, color=c) for c in palette[: len(shown)]]
    names = [clip(s, 24) for s in shown]
    if len(labels) > len(shown):
        handles.append(Line2D([], [], linestyle=""))
        names.append(f"and {len(labels) - len(shown)} more")
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if outside else {"loc": "best"}
    ax.legend(handles, names, handletextpad=0.2, borderaxespad=0.0, labelspacing=0.35, **place)


def no_data(ax: Any, message: str = "no unflagged data") -> None:
    ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def series_of(values: ArrayLike, flags: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    array = np.atleast_2d(np.asarray(values))
    good: NDArray[np.bool_] = np.isfinite(array)
    if flags is not None:
        good &= ~np.atleast_2d(np.asarray(flags, dtype=bool))
    return array, good


def names_of(labels: Sequence[str], count: int) -> list[str]:
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
        no_data(ax)
        return
    if x.size <= AGGREGATE_ABOVE:
        for kind in np.unique(kinds):
            chosen = kinds == kind
            ax.plot(x[chosen], y[chosen], color=palette[int(kind) % len(palette)], **points_style(x.size))
        return
    _draw_counts(ax, x, y, kinds, palette)


def points_style(count: int) -> dict[str, Any]:
    """Return how ``count`` points are drawn as markers."""
    return {
        "marker": "o", "linestyle": "", "markersize": 2.6 if count > 2000 else 3.4, "markeredgewidth": 0, "alpha": 0.75,
        "rasterized": True,
    }  # fmt: skip


def _draw_counts(ax: Any, x: FloatArray, y: FloatArray, kinds: Array, palette: Sequence[Any]) -> None:
    nx, ny = (300, 150) if x.size < 200_000 else (520, 260)  # a lone point in a sparse plot must not be a speck
    x0, x1 = padded(float(x.min()), float(x.max()), 0.02)
    y0, y1 = padded(float(y.min()), float(y.max()), 0.04)
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


def padded(low: float, high: float, fraction: float) -> tuple[float, float]:
    if not low < high:
        pad = abs(low) * 0.05 or 1.0
        return low - pad, high + pad
    pad = (high - low) * fraction
    return low - pad, high + pad


def draw_limits(ax: Any, limits: Sequence[float]) -> None:
    for limit in limits:
        ax.axhline(limit, color=BAD, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
