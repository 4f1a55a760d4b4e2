"""Profile maps: many spectra at their places on the sky, in one picture, below their average.

A sparse map has a spectrum for every few beams and fits on a page; a detailed one has every position, in several
pictures. All spectra of a picture are drawn as one collection of lines, which is fifty times faster than panels with
axes of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.cubes import sparse_edges as sparse_edges

FloatArray = NDArray[np.float64]
Spans = Sequence[Sequence[float]]
_POINTS = 240
"""Most channels per spectrum in a picture; wider spectra show smallest and largest value of groups of channels."""
_LEAST_AIR = 4.0
"""Smallest range of the axis of transmissions, percent."""
_BAND = "#cfe8dc"
_DEVIATION = "#f6d5c4"


@attrs.frozen(eq=False, kw_only=True)
class ProfileMap:
    """Spectra on a grid.

    spectra : [row, column, channel], row 0 in the south, column 0 in the east; NaN where there is nothing.
    frequency_hz : [channel], ascending or descending.
    x_offset, y_offset : [column], [row] centres of the cells, arcsec east and north of `centre`.
    average : [channel] spectrum shown on top; default the mean of all.
    overlay : a second set like `spectra` drawn on top (a fitted baseline).
    line_masks : {(row, column): channel spans} or one list of spans for all cells, ends included.
    deviation : channel spans of a deviation mask, for all cells.
    atmosphere : [channel] transmission, 0 to 1, drawn over the average.
    """

    spectra: NDArray[Any]
    frequency_hz: FloatArray
    x_offset: FloatArray
    y_offset: FloatArray
    unit: str = "K"
    average: FloatArray | None = None
    overlay: NDArray[Any] | None = None
    line_masks: Mapping[tuple[int, int], Spans] | Spans = ()
    deviation: Spans = ()
    atmosphere: FloatArray | None = None
    centre: str = ""

    def part(self, rows: slice, columns: slice) -> ProfileMap:
        """Some of the cells; the average stays that of all."""
        masks = self.line_masks
        if isinstance(masks, Mapping):
            masks = {
                (r - rows.start, c - columns.start): spans
                for (r, c), spans in masks.items()
                if rows.start <= r < rows.stop and columns.start <= c < columns.stop
            }
        return attrs.evolve(
            self, spectra=self.spectra[rows, columns], x_offset=self.x_offset[columns], y_offset=self.y_offset[rows],
            overlay=None if self.overlay is None else self.overlay[rows, columns], line_masks=masks,
            average=self.mean_spectrum(),
        )  # fmt: skip

    def mean_spectrum(self) -> FloatArray:
        """The spectrum shown on top."""
        if self.average is not None:
            return np.asarray(self.average, float)
        flat = self.spectra.reshape(-1, self.spectra.shape[-1]).astype(float)
        good = np.isfinite(flat)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(good, flat, 0).sum(axis=0) / good.sum(axis=0)
        return np.asarray(np.where(good.any(axis=0), mean, np.nan))


def pages(rows: int, columns: int, side: int = 8) -> list[tuple[slice, slice]]:
    """Split a detailed map into pictures of at most `side` × `side` cells, of about equal size."""

    def parts(count: int) -> list[slice]:
        number = max(1, math.ceil(count / side))
        edges = np.linspace(0, count, number + 1).round().astype(int)
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]

    return [(r, c) for r in reversed(parts(rows)) for c in parts(columns)]


def draw_profile_map(
    path: Path | str, profiles: ProfileMap, *, title: str = "", subtitle: str = "", scale: str = "common"
) -> dict[str, Any]:
    """Draw the average on top and every spectrum at its place below; return facts for the caption.

    scale : "common" gives all spectra one range, "each" its own (spectra before the baseline fit).
    """
    from matplotlib.collections import LineCollection, PolyCollection

    from pl_kernel.weblog.plots.style import MUTED, PALETTE, figure

    n_rows, n_columns, _ = profiles.spectra.shape
    side = min(1.25, 9.0 / max(n_columns, 1))
    wide = max(5.2, side * n_columns)
    tall = max(1.0, side * 0.82) * n_rows
    left, right, top, gap, strip, bottom = 0.85, 0.25 if profiles.atmosphere is None else 0.75, 0.45, 0.62, 1.35, 0.55
    height = top + strip + gap + tall + bottom
    with figure(path, left + wide + right, height, (left, right, bottom, top)) as fig:
        width = left + wide + right
        above = fig.add_axes((left / width, (bottom + tall + gap) / height, wide / width, strip / height))
        _draw_average(above, profiles, title, subtitle)
        ax = fig.add_axes((left / width, bottom / height, wide / width, tall / height))
        ax.grid(False)
        ax.set_xlim(0, n_columns)
        ax.set_ylim(0, n_rows)
        low, high = _limits(profiles.spectra, profiles.overlay)
        lines, over, bands, empty = [], [], [], []
        where = _positions(profiles.frequency_hz)
        for row in range(n_rows):
            for column in range(n_columns):
                spectrum = np.asarray(profiles.spectra[row, column], float)
                if not np.isfinite(spectrum).any():
                    empty.append((row, column))
                    continue
                if scale == "each":
                    second = None if profiles.overlay is None else profiles.overlay[row, column][None]
                    low, high = _limits(spectrum[None], second)
                bands += [(s, row, column, _DEVIATION) for s in profiles.deviation]
                bands += [(s, row, column, _BAND) for s in _spans_at(profiles.line_masks, row, column)]
                lines.append(_in_cell(where, spectrum, row, column, low, high))
                if profiles.overlay is not None:
                    over.append(_in_cell(where, np.asarray(profiles.overlay[row, column], float), row, column, low,
                                         high))  # fmt: skip
        if bands:
            shapes = [_band(span, where, row, column) for span, row, column, _ in bands]
            ax.add_collection(PolyCollection(shapes, facecolors=[b[3] for b in bands], linewidths=0, zorder=1))
        if empty:
            shapes = [[(c, r), (c + 1, r), (c + 1, r + 1), (c, r + 1)] for r, c in empty]
            ax.add_collection(PolyCollection(shapes, facecolors="#eef1f4", linewidths=0, zorder=1))
        if scale == "common" and low < 0 < high:
            zero = -low / (high - low)
            level = [[(0, r + _MARGIN + (1 - 2 * _MARGIN) * zero), (n_columns, r + _MARGIN + (1 - 2 * _MARGIN) * zero)]
                     for r in range(n_rows)]  # fmt: skip
            ax.add_collection(LineCollection(level, colors="#c5ccd3", linewidths=0.6, zorder=1.5))
        thin = 0.9 if n_columns <= 8 else 0.7
        ax.add_collection(LineCollection(lines, colors=PALETTE[0], linewidths=thin, zorder=3))
        if over:
            ax.add_collection(LineCollection(over, colors=PALETTE[1], linewidths=thin, zorder=4))
        frames = [[(c, 0), (c, n_rows)] for c in range(n_columns + 1)]
        frames += [[(0, r), (n_columns, r)] for r in range(n_rows + 1)]
        ax.add_collection(LineCollection(frames, colors="#9aa5b1", linewidths=0.6, zorder=5, clip_on=False))
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        ax.set_xticks(np.arange(n_columns) + 0.5, [_offset(v) for v in profiles.x_offset])
        ax.set_yticks(np.arange(n_rows) + 0.5, [_offset(v) for v in profiles.y_offset])
        about = f" of {profiles.centre}" if profiles.centre else ""
        ax.set_xlabel(f"East{about}")
        ax.set_ylabel("North")
        if scale == "common":
            note = f"every panel: {low:.3g} … {high:.3g} {profiles.unit}"
        else:
            note = "every panel has a range of its own"
        ax.set_title(note, loc="right", fontsize=8.5, fontweight="normal", color=MUTED, pad=4)
    facts = {"Spectra": len(lines)}
    return facts | ({"Range": f"{low:.3g} … {high:.3g} {profiles.unit}"} if scale == "common" else {})


_MARGIN = 0.07


def _draw_average(ax: Any, profiles: ProfileMap, title: str, subtitle: str) -> None:
    from pl_kernel.weblog.plots.style import INK, MUTED, PALETTE, clip

    frequency, average = profiles.frequency_hz / 1e9, profiles.mean_spectrum()
    for span in profiles.deviation:
        ax.axvspan(*_ends(span, frequency), color=_DEVIATION, linewidth=0)
    if not isinstance(profiles.line_masks, Mapping):
        for span in profiles.line_masks:
            ax.axvspan(*_ends(span, frequency), color=_BAND, linewidth=0)
    ax.axhline(0, color="#c5ccd3", linewidth=0.7, zorder=1)
    ax.plot(frequency, average, color=INK, linewidth=0.9)
    ax.set_xlim(float(frequency.min()), float(frequency.max()))
    ax.set_xlabel("Frequency (GHz)", labelpad=1)
    ax.set_ylabel(f"Mean ({profiles.unit})")
    ax.set_title(clip(title, 70))
    ax.set_title(clip(subtitle, 60), loc="right", fontsize=8.5, fontweight="normal", color=MUTED)
    if profiles.atmosphere is not None:
        air = ax.twinx()
        air.grid(False)
        air.plot(frequency, 100 * profiles.atmosphere, color=PALETTE[3], linewidth=0.8)
        low, high = air.get_ylim()
        half = max(high - low, _LEAST_AIR) / 2  # a flat curve must look flat
        air.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
        air.set_ylabel("Transmission (%)", color=PALETTE[3], fontsize=8)
        air.tick_params(axis="y", colors=PALETTE[3], labelsize=7.5)


def _limits(*sets: Any) -> tuple[float, float]:
    """A range for all values of which a thousandth may stick out: a single spike must not flatten the rest."""
    values = np.concatenate([np.asarray(s, float).ravel() for s in sets if s is not None])
    values = values[np.isfinite(values)]
    if not values.size:
        return -1.0, 1.0
    low, high = (float(v) for v in np.percentile(values, [0.05, 99.95]))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _positions(frequency_hz: FloatArray) -> FloatArray:
    """Of the channels across a panel, 0 … 1, frequency to the right."""
    low, high = float(frequency_hz.min()), float(frequency_hz.max())
    return np.asarray((frequency_hz - low) / (high - low) if high > low else np.full(frequency_hz.shape, 0.5))


def _in_cell(where: FloatArray, spectrum: FloatArray, row: int, column: int, low: float, high: float) -> FloatArray:
    x, y = _thinned(where, spectrum)
    y = np.clip((y - low) / (high - low), -0.5 * _MARGIN, 1 + 0.5 * _MARGIN)
    return np.stack([column + _MARGIN + (1 - 2 * _MARGIN) * x, row + _MARGIN + (1 - 2 * _MARGIN) * y], axis=1)


def _thinned(where: FloatArray, spectrum: FloatArray) -> tuple[FloatArray, FloatArray]:
    group = math.ceil(2 * spectrum.size / _POINTS)
    if spectrum.size <= _POINTS:
        return where, spectrum
    whole = spectrum.size // group * group
    blocks = spectrum[:whole].reshape(-1, group)
    good = np.isfinite(blocks)
    low, high = np.where(good, blocks, np.inf).min(axis=1), np.where(good, blocks, -np.inf).max(axis=1)
    y = np.stack([low, high], axis=1).ravel()
    x = np.repeat(where[:whole].reshape(-1, group).mean(axis=1), 2)
    return x, np.where(np.isfinite(y), y, np.nan)


def _spans_at(masks: Mapping[tuple[int, int], Spans] | Spans, row: int, column: int) -> Spans:
    return masks.get((row, column), ()) if isinstance(masks, Mapping) else masks


def _ends(span: Sequence[float], axis: FloatArray) -> tuple[float, float]:
    half = abs(float(axis[-1] - axis[0])) / max(axis.size - 1, 1) / 2
    first, last = (float(axis[min(max(int(c), 0), axis.size - 1)]) for c in span[:2])
    return min(first, last) - half, max(first, last) + half


def _band(span: Sequence[float], where: FloatArray, row: int, column: int) -> list[tuple[float, float]]:
    first, last = (column + _MARGIN + (1 - 2 * _MARGIN) * v for v in _ends(span, where))
    first, last = max(first, column), min(last, column + 1)
    return [(first, row), (last, row), (last, row + 1), (first, row + 1)]


def _offset(value: float) -> str:
    return f"{value:+.0f}″" if round(value) else "0″"
