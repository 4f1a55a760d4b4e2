"""Pictures that the pages of all calibration stages share: solutions of one antenna, calibrated visibilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.solve import Solutions, read_solutions
from pl_hif.visibilities import pieces
from pl_kernel.ms.model import MeasurementSet

_MOST_ROWS = 6_000
"""Rows per window that an overview of calibrated data is made from; more only thicken the cloud."""

_SAME_S = 10.0


@attrs.frozen(kw_only=True, eq=False)
class AntennaPicture:
    """Solutions of one antenna: ``x`` are Hz or MJD seconds (n,), ``gain`` and ``flag`` (receptors, n)."""

    vis: str
    band: str
    antenna: str
    what: str
    against: str
    x: np.ndarray
    gain: np.ndarray
    flag: np.ndarray
    labels: tuple[str, ...]
    spw: str = ""
    phase_only: bool = False


@attrs.frozen(kw_only=True, eq=False)
class DelayPicture:
    """Delays of all antennas and windows of a band in ns, (antennas, columns)."""

    vis: str
    band: str
    antennas: tuple[str, ...]
    columns: tuple[str, ...]
    delay_ns: np.ndarray


@attrs.frozen(kw_only=True, eq=False)
class CalibratedPicture:
    """Calibrated amplitude of a field against frequency, one point per baseline, channel and correlation."""

    vis: str
    band: str
    field: str
    frequency_hz: np.ndarray
    amplitude: np.ndarray
    antenna: np.ndarray
    antennas: tuple[str, ...]
    spw: str = ""


@attrs.frozen(kw_only=True, eq=False)
class GridPicture:
    """Amplitudes or phases (degrees) of up to twelve antennas against time, one small panel each."""

    vis: str
    band: str
    what: str
    ylabel: str
    panels: tuple[tuple[str, np.ndarray, np.ndarray, np.ndarray], ...]
    labels: tuple[str, ...]


# ---- collecting ----------------------------------------------------------------------------------------------------


def windows(ctx: Any, path: str, spws: Iterable[int]) -> dict[int, Solutions]:
    """Solutions of a table by window, without windows that have none; nothing when there is no table."""
    if not Path(path).is_dir():
        return {}
    found = {int(s): read_solutions(ctx, path, int(s)) for s in spws}
    return {s: solutions for s, solutions in found.items() if solutions.rows}


def against_frequency(
    ms: MeasurementSet, band: str, found: dict[int, Solutions], labels: Sequence[str], what: str, spw: str = ""
) -> Iterator[AntennaPicture]:
    """One picture per antenna, all windows side by side."""
    for antenna in ms.antennas:
        x, gain, flag = [], [], []
        for window, s in found.items():
            for row in np.flatnonzero(s.antenna == antenna.id):
                channels = s.gain.shape[1]
                frequency = s.frequency_hz[window]
                if len(frequency) != channels:  # averaged channels
                    frequency = np.linspace(frequency[0], frequency[-1], channels)
                x.append(frequency)
                gain.append(s.gain[:, :, row])
                flag.append(s.flag[:, :, row])
        if x:
            yield AntennaPicture(
                vis=ms.name, band=band, antenna=antenna.name, what=what, against="frequency", x=np.concatenate(x),
                gain=np.concatenate(gain, axis=1), flag=np.concatenate(flag, axis=1), labels=tuple(labels), spw=spw,
            )  # fmt: skip


def against_time(
    ms: MeasurementSet, band: str, found: dict[int, Solutions], labels: Sequence[str], what: str, spw: str = "",
    phase_only: bool = False,
) -> Iterator[AntennaPicture]:  # fmt: skip
    """One picture per antenna, all windows together."""
    for antenna in ms.antennas:
        parts = [(s, np.flatnonzero(s.antenna == antenna.id)) for s in found.values()]
        parts = [(s, rows) for s, rows in parts if rows.size]
        if parts:
            yield AntennaPicture(
                vis=ms.name, band=band, antenna=antenna.name, what=what, against="time",
                x=np.concatenate([s.time_s[rows] for s, rows in parts]),
                gain=np.concatenate([s.gain[:, 0, rows] for s, rows in parts], axis=1),
                flag=np.concatenate([s.flag[:, 0, rows] for s, rows in parts], axis=1), labels=tuple(labels), spw=spw,
                phase_only=phase_only,
            )  # fmt: skip


def together(amplitude: dict[int, Solutions], phase: dict[int, Solutions]) -> dict[int, Solutions]:
    """Amplitudes of one table with the phases of another, where both have a solution: one picture instead of two."""
    joined = {}
    for spw, a in amplitude.items():
        p = phase.get(spw)
        if p is None:
            continue
        pairs = []
        for i, (antenna, time) in enumerate(zip(a.antenna, a.time_s, strict=True)):
            own = np.flatnonzero(p.antenna == antenna)
            if own.size:
                nearest = own[np.argmin(np.abs(p.time_s[own] - time))]
                # The time of a solution is that of its data: both tables may differ by a few integrations.
                if abs(p.time_s[nearest] - time) < _SAME_S:
                    pairs.append((i, int(nearest)))
        if not pairs:
            continue
        mine, its = (np.array(side) for side in zip(*pairs, strict=True))
        joined[spw] = attrs.evolve(
            a, time_s=a.time_s[mine], antenna=a.antenna[mine], field=a.field[mine], spw=a.spw[mine], scan=a.scan[mine],
            gain=np.abs(a.gain[:, :, mine]) * np.exp(1j * np.angle(p.gain[:, :, its])),
            flag=a.flag[:, :, mine] | p.flag[:, :, its], snr=np.minimum(a.snr[:, :, mine], p.snr[:, :, its]),
        )  # fmt: skip
    return joined


def grids(pictures: Iterable[AntennaPicture], phase: bool) -> list[GridPicture]:
    """Pictures of single antennas as panels, twelve to a picture: a third of the time, for tables of passage."""
    items = list(pictures)
    made = []
    for start in range(0, len(items), 12):
        part = items[start : start + 12]
        panels = []
        for item in part:
            good = ~item.flag
            values = np.degrees(np.angle(item.gain)) if phase else np.abs(item.gain)
            receptor = np.broadcast_to(np.arange(len(item.gain))[:, None], good.shape)
            x = np.broadcast_to(item.x, good.shape)
            panels.append((item.antenna, x[good], values[good], receptor[good]))
        made.append(
            GridPicture(
                vis=part[0].vis, band=part[0].band, what=part[0].what, panels=tuple(panels), labels=part[0].labels,
                ylabel="Phase (deg)" if phase else "Amplitude",
            )
        )  # fmt: skip
    return made


def delays(ms: MeasurementSet, band: str, found: dict[int, Solutions], labels: Sequence[str]) -> DelayPicture:
    """All delays of a band."""
    columns = tuple(f"{spw} {label}" for spw in found for label in labels)
    values = np.full((len(ms.antennas), len(columns)), np.nan)
    place = {a.id: i for i, a in enumerate(ms.antennas)}
    for k, s in enumerate(found.values()):
        for row in range(s.rows):
            for pol in range(min(s.gain.shape[0], len(labels))):
                if not s.flag[pol, 0, row] and int(s.antenna[row]) in place:
                    values[place[int(s.antenna[row])], k * len(labels) + pol] = float(np.real(s.gain[pol, 0, row]))
    return DelayPicture(vis=ms.name, band=band, antennas=ms.antenna_names, columns=columns, delay_ns=values)


def calibrated(
    ctx: Any, ms: MeasurementSet, band: str, fields: Iterable[int], spws: Sequence[int], scans: Iterable[int],
    spw: str = "",
) -> Iterator[CalibratedPicture]:  # fmt: skip
    """Corrected data of each field, vector-averaged in time per baseline; parallel hands only."""
    scans = tuple(scans)
    for field in fields:
        frequency, amplitude, antenna = [], [], []
        for window in spws:
            total, count, rows = _averaged(ctx, ms, field, window, scans)
            if total is None:
                continue
            good = count > 0
            mean = np.abs(np.divide(total, count, out=np.zeros_like(total), where=good))
            pairs, _, channels = np.nonzero(good)
            frequency.append(ms.spw(window).centres_hz[channels])
            amplitude.append(mean[good])
            antenna.append(rows[pairs])
        if frequency:
            yield CalibratedPicture(
                vis=ms.name, band=band, field=ms.field(field).name, frequency_hz=np.concatenate(frequency),
                amplitude=np.concatenate(amplitude), antenna=np.concatenate(antenna), antennas=ms.antenna_names,
                spw=spw,
            )  # fmt: skip


def _averaged(
    ctx: Any, ms: MeasurementSet, field: int, spw: int, scans: Sequence[int]
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Sum (pairs, hands, channels) and count of good samples, and the place of antenna 2 of each pair."""
    number = len(ms.antennas)
    place = np.zeros(max((a.id for a in ms.antennas), default=0) + 1, int)
    place[[a.id for a in ms.antennas]] = np.arange(number)
    total = count = None
    seen = 0
    hands = [i for i, c in enumerate(ms.polarization_of(ms.spw(spw).id).correlations) if c in ("RR", "LL", "XX", "YY")]
    columns = ["CORRECTED_DATA", "FLAG", "ANTENNA1", "ANTENNA2"]
    for piece in pieces(ctx, ms, columns, [field], [spw], scans, rows=_MOST_ROWS):
        pair = place[piece.columns["ANTENNA1"]] * number + place[piece.columns["ANTENNA2"]]
        order = np.argsort(pair, kind="stable")
        present, first = np.unique(pair[order], return_index=True)
        good = ~piece.columns["FLAG"][hands][:, :, order]
        data = np.where(good, piece.columns["CORRECTED_DATA"][hands][:, :, order], 0)
        if total is None or count is None:
            total = np.zeros((number * number, len(hands), data.shape[1]), complex)
            count = np.zeros(total.shape, int)
        # Rows of a pair are neighbours now: one sum per pair, much faster than adding row by row.
        total[present] += np.add.reduceat(data, first, axis=2).transpose(2, 0, 1)
        count[present] += np.add.reduceat(good.astype(int), first, axis=2).transpose(2, 0, 1)
        seen += len(pair)
        if seen >= _MOST_ROWS:
            break
    return total, count if count is not None else np.zeros(0), np.tile(np.arange(number), number)


# ---- drawing -------------------------------------------------------------------------------------------------------


def draw_antenna(ctx: Any, item: AntennaPicture, path: Path) -> None:
    """Amplitude and phase of the solutions of one antenna."""
    from pl_kernel.weblog import plots

    if item.phase_only:
        plots.vs_time(
            path, item.x, np.degrees(np.angle(item.gain)), flags=item.flag, labels=item.labels[: len(item.gain)],
            ylabel="Phase", unit="deg", title=f"{item.antenna}: {item.what}",
            subtitle=f"{item.vis}, {item.band} band" + _spw(item.spw),
        )  # fmt: skip
        return
    draw = plots.amp_phase_vs_frequency if item.against == "frequency" else plots.amp_phase_vs_time
    draw(
        path, item.x, item.gain, flags=item.flag, labels=item.labels[: len(item.gain)],
        title=f"{item.antenna}: {item.what}", subtitle=f"{item.vis}, {item.band} band" + _spw(item.spw),
    )  # fmt: skip


def draw_grid(ctx: Any, item: GridPicture, path: Path) -> bool | None:
    """Small panels, one per antenna."""
    from pl_kernel.weblog import plots

    if not any(len(x) for _, x, _, _ in item.panels):
        return False
    plots.scatter_grid(
        path, [plots.Panel(name, x, y, kinds) for name, x, y, kinds in item.panels], columns=4, labels=item.labels,
        ylabel=item.ylabel, title=f"{item.what}, {item.vis}, {item.band} band", time=True,
    )  # fmt: skip
    return None


def draw_delays(ctx: Any, item: DelayPicture, path: Path) -> None:
    """Delays by antenna, window and receptor."""
    from pl_kernel.weblog import plots

    plots.matrix(
        path, item.delay_ns, item.antennas, item.columns, label="Delay (ns)", row_title="Antenna",
        column_title="Spectral window, hand", title="Delays", subtitle=f"{item.vis}, {item.band} band", write=".1f",
    )  # fmt: skip


def draw_calibrated(ctx: Any, item: CalibratedPicture, path: Path) -> None:
    """Calibrated amplitude against frequency, coloured by the second antenna."""
    from pl_kernel.weblog import plots

    plots.scatter(
        path, item.frequency_hz / 1e9, item.amplitude, categories=item.antenna, labels=item.antennas,
        xlabel="Frequency", xunit="GHz", ylabel="Calibrated amplitude", title=item.field,
        subtitle=f"{item.vis}, {item.band} band{_spw(item.spw)}",
    )  # fmt: skip


def _spw(name: str) -> str:
    return f", spw {name}" if name else ""


# ---- adding to a page ----------------------------------------------------------------------------------------------


def add_antennas(page: Any, items: Iterable[AntennaPicture], name: str, title: str) -> None:
    """Add one picture per antenna, with the tags that links of scores look for."""
    page.plots(
        draw_antenna, list(items), caption=lambda i: f"{i.antenna}, {i.band} band{_spw(i.spw)}: {i.what}",
        tags=lambda i: {"vis": i.vis, "band": i.band, "antenna": i.antenna, "spw": i.spw}, name=name, title=title,
    )  # fmt: skip


def add_grids(page: Any, items: Iterable[GridPicture], name: str, title: str) -> None:
    """Add grids of antennas."""
    page.plots(
        draw_grid, list(items),
        caption=lambda i: f"{i.panels[0][0]} to {i.panels[-1][0]}, {i.band} band: {i.what}, {i.ylabel}",
        tags=lambda i: {"vis": i.vis, "band": i.band, "type": i.ylabel.split(" ")[0].lower()}, name=name, title=title,
        size="large",
    )  # fmt: skip


def add_delays(page: Any, items: Iterable[DelayPicture]) -> None:
    """Add the delays of each band."""
    page.plots(
        draw_delays, list(items), caption=lambda i: f"Delays of {i.band} band in ns, {i.vis}",
        tags=lambda i: {"vis": i.vis, "band": i.band, "type": "delay"}, name="delays", size="large",
    )  # fmt: skip


def add_calibrated(page: Any, items: Iterable[CalibratedPicture]) -> None:
    """Add calibrated amplitudes of each field."""
    page.plots(
        draw_calibrated, list(items), caption=lambda i: f"{i.field}, {i.band} band{_spw(i.spw)}: calibrated amplitude, "
        "averaged in time; colours tell the second antenna",
        tags=lambda i: {"vis": i.vis, "band": i.band, "field": i.field, "spw": i.spw}, name="calibrated", size="large",
    )  # fmt: skip
