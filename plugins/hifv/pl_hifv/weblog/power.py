"""Switched power on the page of hifv_priorcals: gains and system temperatures of every antenna."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.heuristics.compression import gain_and_tsys
from pl_hifv.heuristics.delays import baseband_of
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.weblog.observation import mjd_seconds

_MOST_TIMES = 1500
"""Times of an antenna that a picture shows; more only thicken the line."""
_MOST_IN_GRID = 400
_NOT_SCIENCE = {"POINTING", "FOCUS", "SYSTEM_CONFIGURATION"}
_HANDS = ("R", "L")
NOISY_FROM_HZ = 18e9
"""Receivers from here on are up to 200 K warm, those below up to 100 K: the usual scales of the plots."""


@attrs.frozen(kw_only=True, eq=False)
class PowerPicture:
    """One quantity of a window and hand against MJD seconds, (antennas, times); NaN where not measured."""

    vis: str
    band: str
    baseband: str
    spw: int
    hand: str
    what: str
    antennas: tuple[str, ...]
    times: np.ndarray
    values: np.ndarray
    scale: tuple[float, float]


@attrs.frozen(kw_only=True, eq=False)
class PowerGrid:
    """One quantity of a window by antenna: both hands, (hands, antennas, times), for up to twelve antennas."""

    vis: str
    band: str
    baseband: str
    spw: int
    what: str
    antennas: tuple[str, ...]
    times: np.ndarray
    values: np.ndarray
    scale: tuple[float, float]


def switched_power(page: Any, ctx: Any, sets: Sequence[str], selection: str = "") -> None:
    """Gains and system temperatures from the switched power of the windows selected, or of one of each baseband."""
    pictures: list[PowerPicture] = []
    for vis in sets:
        ms = ctx.context.measurement_set(vis)
        if {"SYSPOWER", "CALDEVICE"} <= set(ms.subtables):
            chosen = set(ms.spw_ids(selection)) if selection else None
            for window in middle_windows(ms) if chosen is None else [w for w in ms.spws if w.id in chosen]:
                pictures += _pictures(ctx, ms, window)
    if not pictures:
        return
    page.section("Switched power", "switched-power")
    windows = f"Windows {selection}" if selection else "One window in the middle of each baseband"
    page.text(f"{windows}; scans for pointing and set-up are left out.")
    rows = []
    for tsys in (p for p in pictures if p.what == "Tsys"):
        for name, values in zip(tsys.antennas, tsys.values, strict=True):
            good = values[np.isfinite(values)]
            if good.size:
                low, middle, high = np.percentile(good, [5, 50, 95])
                rows.append([tsys.vis, name, tsys.band, tsys.baseband, tsys.hand, middle, low, high])
    page.table(
        ["Measurement set", "Antenna", "Band", "Baseband", "Hand", "Median", "5 %", "95 %"], rows,
        caption="System temperatures from the switched power.", filters=("antenna", "band", "hand"),
        units={"Median": "K", "5 %": "K", "95 %": "K"}, formats={"Median": ".1f", "5 %": ".1f", "95 %": ".1f"},
    )  # fmt: skip
    page.plots(
        draw_power, pictures, name="switchedpower", title="Switched power against time",
        caption=lambda p: f"{p.vis}, {p.band} band, {p.baseband} (spw {p.spw}), {p.hand}: {p.what}",
        tags=lambda p: {"vis": p.vis, "band": p.band, "type": p.what},
    )  # fmt: skip
    page.section("Switched power by antenna", "switched-power-antennas", level="detail")
    page.plots(
        draw_power_grid, grids(pictures), name="powerbyantenna", size="large",
        caption=lambda p: f"{p.antennas[0]} to {p.antennas[-1]}, {p.band} band, {p.baseband} (spw {p.spw}): {p.what}",
        tags=lambda p: {"vis": p.vis, "band": p.band, "type": p.what},
    )  # fmt: skip


def grids(pictures: Sequence[PowerPicture]) -> list[PowerGrid]:
    """Both hands of a window together, twelve antennas at a time."""
    groups: dict[tuple[str, int, str], list[PowerPicture]] = {}
    for one in pictures:
        groups.setdefault((one.vis, one.spw, one.what), []).append(one)
    found = []
    for group in groups.values():
        first, step = group[0], max(1, group[0].times.size // _MOST_IN_GRID)
        values = np.stack([p.values[:, ::step] for p in group])
        for start in range(0, len(first.antennas), 12):
            found.append(
                PowerGrid(
                    vis=first.vis, band=first.band, baseband=first.baseband, spw=first.spw, what=first.what,
                    antennas=first.antennas[start : start + 12], times=first.times[::step],
                    values=values[:, start : start + 12], scale=first.scale,
                )
            )  # fmt: skip
    return found


def middle_windows(ms: MeasurementSet) -> list[SpectralWindow]:
    """The window in the middle of each baseband: what switched power shows is common to all of them."""
    groups: dict[tuple[str, str], list[SpectralWindow]] = {}
    for window in sorted(ms.science_spws, key=lambda w: w.centre_hz):
        groups.setdefault((window.band, baseband_of(window.name)), []).append(window)
    return [group[len(group) // 2] for group in groups.values()]


def _pictures(ctx: Any, ms: MeasurementSet, window: SpectralWindow) -> list[PowerPicture]:
    where = f"SPECTRAL_WINDOW_ID=={int(window.id)}"
    with ctx.casa.table(f"{ms.path}/SYSPOWER") as table:
        part = table.query(where)
        try:
            if not part.nrows():
                return []
            time, antenna = part.getcol("TIME"), part.getcol("ANTENNA_ID")
            difference, total = part.getcol("SWITCHED_DIFF"), part.getcol("SWITCHED_SUM")
        finally:
            part.close()
    noise = _noise(ctx, ms, where)
    science = np.zeros(time.size, bool)
    for scan in ms.scans:
        if not set(scan.intents) <= _NOT_SCIENCE:
            science |= (time >= mjd_seconds(scan.start)) & (time <= mjd_seconds(scan.end))
    known = {a.id: a.name for a in ms.antennas}
    names = tuple(known[i] for i in sorted(known) if i in noise and np.any(antenna[science] == i))
    ids = [i for i in sorted(known) if known[i] in names]
    times = np.unique(np.round(time[science], 1))
    times = times[:: max(1, -(-times.size // _MOST_TIMES))]
    if not names:
        return []
    found = []
    for hand in range(difference.shape[0]):
        values = np.full((2, len(names), times.size), np.nan)
        for row, i in enumerate(ids):
            mine = science & (antenna == i)
            stamps = np.round(time[mine], 1)
            place = np.minimum(np.searchsorted(times, stamps), times.size - 1)
            hit = times[place] == stamps
            both = gain_and_tsys(difference[hand][mine][hit], total[hand][mine][hit], noise[i][hand])
            values[:, row, place[hit]] = both
        for what, one, top in (
            ("gain", values[0], 1.0), ("Tsys", values[1], 200.0 if window.max_hz >= NOISY_FROM_HZ else 100.0),
        ):  # fmt: skip
            found.append(
                PowerPicture(
                    vis=ms.name, band=window.band, baseband=baseband_of(window.name), spw=int(window.id),
                    hand=_HANDS[hand], what=what, antennas=names, times=times, values=one, scale=(0.0, top),
                )
            )  # fmt: skip
    return found


def _noise(ctx: Any, ms: MeasurementSet, where: str) -> dict[int, np.ndarray]:
    """Temperatures of the noise diodes by antenna, (2,) in K for R and L; of one hand for both where there is one."""
    found: dict[int, np.ndarray] = {}
    with ctx.casa.table(f"{ms.path}/CALDEVICE") as table:
        part = table.query(where)
        try:
            for row in range(part.nrows()):
                cell = np.atleast_1d(np.asarray(part.getcell("NOISE_CAL", row), float))
                hands = cell[:, 0] if cell.ndim > 1 else cell
                found.setdefault(int(part.getcell("ANTENNA_ID", row)), np.resize(hands, 2))
        finally:
            part.close()
    return found


def draw_power(ctx_item: Any, item: PowerPicture, path: Path) -> bool | None:
    """Draw all antennas against time; what leaves the usual scale lies at its edge, the outlier one looks for."""
    from pl_kernel.weblog import plots

    if not np.isfinite(item.values).any():
        return False
    plots.vs_time(
        path, item.times, np.clip(item.values, *item.scale) if item.what == "Tsys" else item.values,
        flags=~np.isfinite(item.values), labels=item.antennas, ylabel=item.what,
        unit="K" if item.what == "Tsys" else "", title=f"{item.band} band, {item.baseband}, {item.hand}",
        subtitle=item.vis,
    )  # fmt: skip
    return None


def draw_power_grid(ctx_item: Any, item: PowerGrid, path: Path) -> bool | None:
    """Draw a small panel for each antenna, coloured by hand."""
    from pl_kernel.weblog import plots

    if not np.isfinite(item.values).any():
        return False
    values = np.clip(item.values, *item.scale) if item.what == "Tsys" else item.values
    x = np.concatenate([item.times] * len(values))
    hands = np.repeat(np.arange(len(values)), item.times.size)
    panels = [plots.Panel(name, x, values[:, k].ravel(), hands) for k, name in enumerate(item.antennas)]
    plots.scatter_grid(
        path, panels, columns=4, labels=_HANDS[: len(values)], ylabel="Tsys (K)" if item.what == "Tsys" else item.what,
        title=f"{item.what}, {item.band} band, {item.baseband}", time=True,
    )  # fmt: skip
    return None
