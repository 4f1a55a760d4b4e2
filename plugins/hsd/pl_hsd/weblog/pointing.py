"""Where the antennas looked: raster tracks, OFF positions, flagged and wild directions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.geometry import beam_arcsec
from pl_hsd.rows import RowTable
from pl_kernel.ms.model import MeasurementSet

ON, OFF, FLAGGED, MISSING, OUTLIER = "on the target", "OFF position", "flagged", "no direction", "outlier"
_MARKS = {OFF: ("#0072b2", "D", 5.0), FLAGGED: ("#999999", "x", 4.0), MISSING: ("#cc79a7", "v", 6.0),
          OUTLIER: ("#d55e00", "o", 5.0)}  # fmt: skip
_MOST_POINTS = 20_000


@attrs.frozen(kw_only=True, eq=False)
class PointingMap:
    """One picture: offsets in arcsec from the middle of the map, by what the spectra are.

    ``tracks`` holds the raster rows in order of time, one array (n, 2) each; ``others`` further points by kind.
    """

    vis: str
    antenna: str
    field: str
    spw: int
    centre_deg: tuple[float, float]
    frame: str
    beam_arcsec: float
    tracks: tuple[NDArray[np.float64], ...]
    maps: tuple[int, ...]
    others: dict[str, NDArray[np.float64]]
    moving: bool = False

    @property
    def name(self) -> str:
        return f"{self.vis} {self.antenna} {self.field}"


def pointing_maps(ms: MeasurementSet, rows: RowTable, *, with_off: bool) -> Iterable[PointingMap]:
    """One picture for each antenna and target field, of its first window (the others look the same way)."""
    seen = set()
    for antenna, spw, field in rows.header.members:
        if (antenna, field) in seen:
            continue
        seen.add((antenna, field))
        yield _one(ms, rows, antenna, spw, field, with_off)


def _one(ms: MeasurementSet, rows: RowTable, antenna: int, spw: int, field: int, with_off: bool) -> PointingMap:
    moving = field in rows.header.org_direction_deg
    prefix = "ofs" if moving else "shift"
    own = rows.select(antenna=antenna, spw=spw, field=field, on_source=True)
    ra, dec = np.asarray(rows[f"{prefix}_ra_deg"]), np.asarray(rows[f"{prefix}_dec_deg"])
    centre = float(np.median(ra[own])), float(np.median(dec[own]))
    cosine = math.cos(math.radians(centre[1]))

    def offsets(which: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack([(ra[which] - centre[0]) * cosine, dec[which] - centre[1]], axis=1) * 3600

    bad = ~np.asarray(rows["online_valid"])[own].any(axis=1)
    wild = np.asarray(rows["pointing_outlier"])[own] if "pointing_outlier" in rows else np.zeros(own.size, dtype=bool)
    lost = ~np.asarray(rows["pointing_ok"])[own]
    others = {FLAGGED: offsets(own[bad & ~wild & ~lost]), OUTLIER: offsets(own[wild]), MISSING: offsets(own[lost])}
    if with_off:
        others[OFF] = offsets(rows.select(antenna=antenna, spw=spw, on_source=False))
    good = own[~wild & ~lost]
    row, map_ = np.asarray(rows["raster_row"])[good], np.asarray(rows["raster_map"])[good]
    cuts = np.flatnonzero(np.diff(row)) + 1
    parts = np.split(np.arange(good.size), cuts) if good.size else []
    step = max(1, good.size // _MOST_POINTS)
    window = ms.spw(spw)
    return PointingMap(
        vis=ms.name, antenna=ms.antenna(antenna).name, field=ms.field(field).name, spw=spw, centre_deg=centre,
        frame=rows.header.frame, beam_arcsec=beam_arcsec(ms.antenna(antenna).diameter_m, window.centre_hz),
        tracks=tuple(offsets(good[p])[::step] for p in parts), maps=tuple(int(map_[p[0]]) for p in parts),
        others={kind: places for kind, places in others.items() if len(places)}, moving=moving,
    )  # fmt: skip


def draw_pointing(ctx: Any, item: PointingMap, path: Path) -> dict[str, str]:
    """Draw one map of directions; raster rows are lines in the order they were swept, dark to light."""
    from matplotlib.patches import Ellipse

    from pl_kernel.weblog.plots import colours, figure
    from pl_kernel.weblog.plots.style import legend, titles

    with figure(path, 5.8, 5.0) as fig:
        ax = fig.subplots()
        shades = colours(max(len(item.tracks), 9))[: len(item.tracks)] if len(item.tracks) > 8 else None
        for number, track in enumerate(item.tracks):
            colour = shades[number] if shades else "#009e73"
            ax.plot(track[:, 0], track[:, 1], "-", color=colour, linewidth=0.8, alpha=0.8)
            ax.plot(track[:, 0], track[:, 1], ".", color=colour, markersize=3.2, markeredgewidth=0)
        names = [ON]
        palette = [shades[len(shades) // 2] if shades else "#009e73"]
        for kind, places in item.others.items():
            colour, marker, size = _MARKS[kind]
            ax.plot(
                places[:, 0], places[:, 1], marker, color=colour, markersize=size, linestyle="none",
                markerfacecolor="none" if marker in "oD" else colour, markeredgewidth=1.0,
            )  # fmt: skip
            names.append(kind)
            palette.append(colour)
        ax.set_aspect("equal", adjustable="datalim")
        ax.invert_xaxis()
        ax.margins(0.08)
        fig.canvas.draw()
        _beam(ax, Ellipse, item.beam_arcsec)
        ax.set_xlabel("Offset east (arcsec)")
        ax.set_ylabel("Offset north (arcsec)")
        where = "relative to the moving source" if item.moving else f"{_place(item)} {item.frame}"
        titles(fig, ax, f"{item.antenna}, {item.field}", where)
        legend(ax, names, palette)
    return {
        "Rows": str(len(item.tracks)), "Maps": str(len(set(item.maps))), "Beam": f"{item.beam_arcsec:.1f} arcsec",
        **{kind: str(len(places)) for kind, places in item.others.items()},
    }  # fmt: skip


def _beam(ax: Any, ellipse: Any, width: float) -> None:
    (x0, x1), (y0, y1) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    if width < 0.4 * (x1 - x0):
        place = x1 - 0.7 * width - 0.02 * (x1 - x0), y0 + 0.7 * width + 0.02 * (y1 - y0)
        ax.add_patch(ellipse(place, width, width, facecolor="none", edgecolor="#444444", hatch="////", linewidth=0.8))


def _place(item: PointingMap) -> str:
    return f"middle {item.centre_deg[0] % 360:.5f}, {item.centre_deg[1]:+.5f} deg"
