"""Pictures of hsd_baseline and hsd_blflag, from the arrays the stages keep."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.flatness import binned
from pl_hsd.heuristics.linemap import MARGINAL, QUESTIONABLE, STAGES, VALID
from pl_hsd.ranges import SpectralRanges
from pl_hsd.weblog.profilemaps import ProfileMap, draw_profile_map, pages, sparse_edges

_LINE, _DEVIATION = "#cfe8dc", "#f6d5c4"


@attrs.frozen(kw_only=True)
class Shown:
    """One member; ``frequency_hz`` are the centres of the first and last channel, ``air`` the file of transmissions."""

    file: str
    ms: str
    spw: int
    field: str
    antenna: str
    correlations: tuple[str, ...]
    frequency_hz: tuple[float, float]
    nchan: int
    edge: tuple[int, int]
    unit: str
    air: str = ""
    kind: str = ""
    index: int = 0

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}-{self.kind}{self.index}".rstrip("-")

    @property
    def frequencies(self) -> NDArray[np.float64]:
        return np.linspace(*self.frequency_hz, self.nchan)


@attrs.frozen(kw_only=True)
class ClusterPlot:
    """The search of one group, or one of its clusters."""

    file: str
    spw: int
    field: str
    group: int
    nchan: int
    line: int = 0

    @property
    def name(self) -> str:
        return f"group{self.group}-{self.line}"


def caption(item: Shown) -> str:
    """Whose spectra."""
    part = f" {item.kind} subtraction" if item.kind else ""
    return f"{item.antenna}, spw {item.spw}, {item.field}, {item.ms}{part}"


def tags(item: Shown) -> dict[str, str]:
    """What links of scores and filters find."""
    return {"vis": item.ms, "field": item.field, "spw": str(item.spw), "antenna": item.antenna}


def cluster_caption(item: ClusterPlot) -> str:
    """Which group."""
    return f"Group {item.group}: spw {item.spw}, {item.field}"


def cluster_tags(item: ClusterPlot) -> dict[str, str]:
    """What filters find."""
    return {"field": item.field, "spw": str(item.spw)}


# ---- profile maps --------------------------------------------------------------------------------------------------


def sparse_map(_ctx: Any, item: Shown, path: Path) -> dict[str, Any] | bool:
    """At most seven by seven mean spectra, before with what was fitted, or after."""
    with np.load(item.file, allow_pickle=False) as arrays:
        profiles = _profiles(arrays, item, most=7)
        if not np.isfinite(profiles.spectra).any():
            return False
        return draw_profile_map(
            path, profiles, title=f"{item.field}, spw {item.spw}, {item.kind}", subtitle=item.antenna
        )


def detailed_map(_ctx: Any, item: Shown, path: Path) -> dict[str, Any] | bool:
    """One page of all positions."""
    with np.load(item.file, allow_pickle=False) as arrays:
        profiles = _profiles(arrays, item, most=10_000)
    parts = pages(*profiles.spectra.shape[:2])
    profiles = profiles.part(*parts[item.index])
    if not np.isfinite(profiles.spectra).any():
        return False
    title = f"{item.field}, spw {item.spw}, {item.kind}"
    return draw_profile_map(
        path, profiles, title=title, subtitle=f"{item.antenna}, part {item.index + 1} of {len(parts)}"
    )


def detail_pages(item: Shown) -> int:
    """Number of pictures with all positions."""
    with np.load(item.file, allow_pickle=False) as arrays:
        n_y, n_x = (int(v) for v in arrays["shape"])
    return len(pages(n_y, n_x))


def _profiles(arrays: Mapping[str, NDArray[Any]], item: Shown, most: int) -> ProfileMap:
    n_y, n_x = (int(v) for v in arrays["shape"])
    # East is on the left of a map of the sky; the grid's x runs east.
    cube = arrays[item.kind].reshape(n_y, n_x, item.nchan)[:, ::-1]
    model = (arrays["before"] - arrays["after"]).reshape(n_y, n_x, item.nchan)[:, ::-1]
    masks = arrays["masks"].reshape(n_y, n_x, item.nchan)[:, ::-1]
    rows, columns = (sparse_edges(0, n - 1, 1, most) for n in (n_y, n_x))
    cube, model = (_averaged(c, rows, columns) for c in (cube, model))
    spans = {}
    for r in range(len(rows) - 1):
        for c in range(len(columns) - 1):
            part = masks[rows[r] : rows[r + 1], columns[c] : columns[c + 1]]
            spans[(r, c)] = SpectralRanges.from_mask(part.reshape(-1, item.nchan).any(axis=0)).spans
    cell = float(arrays["cell_deg"]) * 3600
    x0, y0, _ra, _dec = arrays["origin"]
    x = (float(x0) * 3600 + cell * np.arange(n_x))[::-1]
    y = float(y0) * 3600 + cell * np.arange(n_y)
    return ProfileMap(
        spectra=cube, frequency_hz=item.frequencies, unit=item.unit,
        x_offset=np.array([x[a:b].mean() for a, b in itertools.pairwise(columns)]),
        y_offset=np.array([y[a:b].mean() for a, b in itertools.pairwise(rows)]),
        average=np.nanmean(arrays[f"total_{item.kind}"], axis=0) if np.isfinite(arrays["total_after"]).any() else None,
        overlay=model if item.kind == "before" else None, line_masks=spans,
        deviation=[(int(a), int(b)) for a, b in arrays["deviation"]],
        atmosphere=np.load(item.air, allow_pickle=False) if item.air else None,
    )  # fmt: skip


def _averaged(cube: NDArray[Any], rows: list[int], columns: list[int]) -> NDArray[np.float64]:
    out = np.full((len(rows) - 1, len(columns) - 1, cube.shape[2]), np.nan)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            part = cube[rows[r] : rows[r + 1], columns[c] : columns[c + 1]].reshape(-1, cube.shape[2])
            good = np.isfinite(part)
            count = good.sum(axis=0)
            out[r, c] = np.divide(
                np.where(good, part, 0).sum(axis=0), count, out=np.full(cube.shape[2], np.nan), where=count > 0
            )
    return out


# ---- flatness and noise --------------------------------------------------------------------------------------------


def flatness(_ctx: Any, item: Shown, path: Path) -> dict[str, Any] | bool:
    """The mean spectrum after subtraction with its bins, one panel for each polarization."""
    from pl_kernel.weblog.plots.style import BAD, INK, MUTED, figure, titles

    with np.load(item.file, allow_pickle=False) as arrays:
        spectra, lines, deviation = arrays["total_after"], arrays["lines"], arrays["deviation"]
    if not np.isfinite(spectra).any():
        return False
    out = SpectralRanges.of([*lines.tolist(), *deviation.tolist()]).mask(item.nchan)
    out[: item.edge[0]] = True
    out[item.nchan - item.edge[1] :] = True
    frequency = item.frequencies / 1e9
    facts = {}
    with figure(path, 7.2, 1.2 + 1.7 * len(spectra)) as fig:
        axes = np.atleast_1d(fig.subplots(len(spectra), 1, sharex=True))
        for ax, spectrum, pol in zip(axes, spectra, item.correlations, strict=True):
            _shade(ax, frequency, lines, _LINE)
            _shade(ax, frequency, deviation, _DEVIATION)
            ax.plot(frequency, spectrum, color=MUTED, linewidth=0.7)
            found = binned(spectrum, ~out)
            if found is not None:
                place = np.interp(found.centre, np.arange(item.nchan), frequency)
                ax.errorbar(place, found.mean, found.deviation, fmt="o", color=BAD, markersize=3.5, linewidth=0.9)
                level = float(np.nanmax(np.abs(found.mean)) + 4 * found.spread)
                ax.set_ylim(-level, level)
                facts[f"Peak to peak over scatter, {pol}"] = f"{np.ptp(found.mean) / max(found.spread, 1e-30):.2f}"
            ax.axhline(0, color=INK, linewidth=0.6)
            ax.set_ylabel(f"{pol} ({item.unit})")
        axes[-1].set_xlabel("Frequency (GHz)")
        titles(fig, axes[0], f"{item.field}, spw {item.spw}", item.antenna)
    return facts


def _shade(ax: Any, frequency: NDArray[np.float64], spans: Any, colour: str) -> None:
    half = abs(frequency[1] - frequency[0]) / 2 if frequency.size > 1 else 0.0
    for a, b in spans:
        ends = sorted((frequency[min(int(a), frequency.size - 1)], frequency[min(int(b), frequency.size - 1)]))
        ax.axvspan(ends[0] - half, ends[1] + half, color=colour, linewidth=0)


def noise(_ctx: Any, item: Shown, path: Path) -> dict[str, Any] | bool:
    """Rms of every spectrum against time, before and after."""
    from pl_kernel.weblog.plots.style import colours, draw_points, figure, legend, margins_for, time_axis, titles
    from pl_kernel.weblog.plots.style import mjd_seconds_to_dates as dates

    with np.load(item.file, allow_pickle=False) as arrays:
        time, rms = arrays["time_s"], arrays["rms"][:, :, :2]
    if not np.isfinite(rms).any():
        return False
    n_pol = rms.shape[1]
    labels = [f"{pol} {when}" for pol in item.correlations for when in ("before", "after")]
    palette = colours(len(labels))
    values = rms.reshape(len(time), 2 * n_pol)
    kinds = np.broadcast_to(np.arange(2 * n_pol), values.shape)
    with figure(path, 7.2, 3.6, margins_for("title", labels)) as fig:
        ax = fig.subplots()
        draw_points(ax, np.repeat(dates(time), 2 * n_pol), values.ravel(), kinds.ravel(), palette)
        ax.set_ylabel(f"Rms ({item.unit})")
        ax.set_ylim(bottom=0)
        time_axis(ax)
        legend(ax, labels, palette)
        titles(fig, ax, f"{item.field}, spw {item.spw}", item.antenna)
    middle = np.nanmedian(values, axis=0)
    return {label: f"{value:.3g} {item.unit}" for label, value in zip(labels, middle, strict=True)}


# ---- clusters ------------------------------------------------------------------------------------------------------


def properties(_ctx: Any, item: ClusterPlot, path: Path) -> dict[str, Any]:
    """Width against centre of all detections, with what stands for each cluster."""
    from pl_kernel.weblog.plots.style import BAD, GOOD, MUTED, figure, no_data, titles

    with np.load(item.file, allow_pickle=False) as arrays:
        width, centre, lines = arrays["width"], arrays["centre"], arrays["lines"]
    with figure(path, 7.2, 3.6) as fig:
        ax = fig.subplots()
        if not width.size:
            no_data(ax, "no line was found in all spectra of a position")
        ax.plot(centre, width, "o", markersize=3, markeredgewidth=0, alpha=0.5, color=MUTED)
        for x, y, valid in lines:
            ax.plot([x], [y], "D" if valid else "X", markersize=8, color=GOOD if valid else BAD)
            ax.plot([x - y / 2, x + y / 2], [y, y], color=GOOD if valid else BAD, linewidth=1.2)
        ax.set_xlim(0, item.nchan - 1)
        ax.set_xlabel("Centre (channel)")
        ax.set_ylabel("Full width (channels)")
        titles(fig, ax, f"{item.field}, spw {item.spw}", "diamonds: valid, crosses: rejected")
    return {"Detections": int(width.size), "Clusters": len(lines)}


def stages(_ctx: Any, item: ClusterPlot, path: Path) -> dict[str, Any]:
    """The four maps of one cluster side by side."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    from pl_kernel.weblog.plots.style import figure

    with np.load(item.file, allow_pickle=False) as arrays:
        centre, width, valid = arrays["lines"][item.line]
        maps = {s: arrays[f"{s}_{item.line}"] for s in STAGES if f"{s}_{item.line}" in arrays}
    palette = ListedColormap(["#f4f6f8", "#c9dbe8", "#6fa8cf", "#0072b2"])
    norm = BoundaryNorm([0, QUESTIONABLE, MARGINAL, VALID, 10], palette.N)
    with figure(path, 8.6, 2.7) as fig:
        shown = None
        for ax, stage in zip(fig.subplots(1, 4), STAGES, strict=True):
            ax.set_title(stage.capitalize(), fontsize=9)
            ax.grid(False)
            ax.set_xticks([])
            ax.set_yticks([])
            if stage not in maps:
                ax.text(0.5, 0.5, "not reached", ha="center", va="center", transform=ax.transAxes, fontsize=8)
                continue
            if stage == "detection":
                grid = maps[stage][:, ::-1]
                ax.imshow(grid, origin="lower", cmap="Greys", vmin=0, vmax=max(3.0, float(grid.max())))
            else:
                shown = ax.imshow(maps[stage][:, ::-1], origin="lower", cmap=palette, norm=norm)
        if shown is not None:
            bar = fig.colorbar(shown, ax=fig.axes, fraction=0.03, ticks=[0.1, 0.275, 0.425, 5])
            bar.ax.set_yticklabels(["nothing", "questionable", "marginal", "valid"], fontsize=8)
    return {"Centre": f"channel {centre:.1f}", "Width": f"{width:.1f} channels", "Valid": "yes" if valid else "no"}
