"""Pictures of hifv_plotsummary, drawn from the averages that the stage keeps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.occupancy import PARALLEL

CROSS = ("RL", "LR", "XY", "YX")
_SHOWN_APART = 5
"""Antennas at most that a picture tells from the others."""
_OTHERS = "#9aa5b1"


@attrs.frozen(kw_only=True)
class SummaryPlot:
    """One picture of a field: the windows (virtual ids) of a band or baseband, and which correlations."""

    vis: str
    field: str
    intents: tuple[str, ...]
    file: str
    group: str
    spws: tuple[int, ...]
    correlations: tuple[str, ...] = PARALLEL


@attrs.frozen(kw_only=True)
class BandsPlot:
    """One picture of a field with the windows of all bands."""

    vis: str
    field: str
    intents: tuple[str, ...]
    file: str
    bands: dict[str, tuple[int, ...]]


@attrs.frozen(kw_only=True)
class FieldsPlot:
    """One picture of all calibrators: names and files, of one band."""

    vis: str
    band: str
    fields: tuple[str, ...]
    files: tuple[str, ...]


# ---- reading what is kept ------------------------------------------------------------------------------------------


def _hands(values: np.ndarray, names: Iterable[str], wanted: Iterable[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Values (rows, names) of the correlations wanted one below the other, (n,), with row and correlation of each."""
    names = [str(n) for n in names]
    labels = [n for n in names if n in set(wanted)]
    if not labels:
        return np.zeros(0, complex), np.zeros((2, 0), int), []
    chosen = values[:, [names.index(n) for n in labels]].T
    kind, row = np.nonzero(np.isfinite(chosen))
    return chosen[kind, row], np.stack([row, kind]), labels


def _by_scan(
    file: str, spws: Iterable[int], correlations: Iterable[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Rows, values, correlations (places in the labels) and labels of the averages per scan of some windows."""
    with np.load(file, allow_pickle=False) as stored:
        rows, values, names = stored["rows"], stored["values"], stored["names"]
    chosen = np.isin(rows[:, 0], list(spws))
    found, (row, kind), labels = _hands(values[chosen], names, correlations)
    return rows[chosen][row], found, kind, labels


def _series(file: str, band: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Times, values, correlations and labels of the parallel hands of a band."""
    with np.load(file, allow_pickle=False) as stored:
        rows, values, names = stored["series_rows"], stored["series"], stored["names"]
        bands = [str(b) for b in stored["bands"]]
    chosen = rows[:, 0] == (bands.index(band) if band in bands else -1)
    found, (row, kind), labels = _hands(values[chosen], names, PARALLEL)
    return rows[chosen][row, 1], found, kind, labels


# ---- against time and baseline -------------------------------------------------------------------------------------


def draw_phases(ctx_item: Any, item: FieldsPlot, path: Path) -> bool | None:
    """Draw the phases of all calibrators against time, coloured by field."""
    from pl_kernel.weblog import plots

    parts = [_series(file, item.band) for file in item.files]
    if not any(p[0].size for p in parts):
        return False
    phase = np.degrees(np.angle(np.concatenate([p[1] for p in parts])))
    kinds = np.concatenate([np.full(p[0].size, k) for k, p in enumerate(parts)])
    palette = plots.colours(len(item.fields))
    with plots.figure(path, 8.6, 4.2, _margins(item.fields)) as fig:
        ax = fig.subplots()
        plots.draw_points(ax, plots.mjd_seconds_to_dates(np.concatenate([p[0] for p in parts])), phase, kinds, palette)
        reach = min(185.0, max(20.0, 1.15 * float(np.abs(phase).max())))
        ax.set_ylim(-reach, reach)
        ax.set_ylabel("Phase (deg)")
        plots.time_axis(ax)
        _finish(fig, ax, f"All calibrators, band {item.band}", item.vis, item.fields, palette)
    return None


def draw_time(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw amplitude and phase of one field and band against time."""
    from pl_kernel.weblog import plots

    times, values, kinds, labels = _series(item.file, item.group)
    if not times.size:
        return False
    x = plots.mjd_seconds_to_dates(times)
    _amp_phase(path, item, x, values, kinds, labels, plots.PALETTE, time=True)
    return None


def draw_uv(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw the amplitude of the averages against baseline length."""
    from pl_kernel.weblog import plots

    rows, values, kinds, labels = _by_scan(item.file, item.spws, item.correlations)
    if not values.size:
        return False
    plots.scatter(
        path, rows[:, 5] / 1e3, np.abs(values), categories=kinds, labels=labels, xlabel="Baseline", xunit="kλ",
        ylabel="Amplitude", yunit="Jy", title=f"{item.field}, {item.group}", subtitle=item.vis,
    )  # fmt: skip
    return None


def draw_uv_bands(ctx_item: Any, item: BandsPlot, path: Path) -> bool | None:
    """Draw the amplitudes of all bands against baseline length, coloured by band."""
    from pl_kernel.weblog import plots

    parts = [_by_scan(item.file, spws, PARALLEL) for spws in item.bands.values()]
    if not any(p[1].size for p in parts):
        return False
    plots.scatter(
        path, np.concatenate([p[0][:, 5] for p in parts]) / 1e3, np.abs(np.concatenate([p[1] for p in parts])),
        categories=np.concatenate([np.full(p[1].size, k) for k, p in enumerate(parts)]), xlabel="Baseline", xunit="kλ",
        labels=[f"band {b}" for b in item.bands], ylabel="Amplitude", yunit="Jy", title=f"{item.field}, all bands",
        subtitle=item.vis,
    )  # fmt: skip
    return None


# ---- against frequency ---------------------------------------------------------------------------------------------


def _spectra(item: SummaryPlot) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Frequencies in GHz, means over all baselines, correlations and labels."""
    x, y, kinds = [], [], []
    labels: list[str] = []
    with np.load(item.file, allow_pickle=False) as stored:
        for spw in item.spws:
            if f"spectrum_{spw}" not in stored.files:
                continue
            for i, name in enumerate(str(n) for n in stored[f"correlations_{spw}"]):
                if name in item.correlations:
                    labels += [name] if name not in labels else []
                    x.append(stored[f"frequency_{spw}"] / 1e9)
                    y.append(stored[f"spectrum_{spw}"][i])
                    kinds.append(np.full(x[-1].size, labels.index(name)))
    if not x:
        return np.zeros(0), np.zeros(0, complex), np.zeros(0, int), []
    frequency, values, kind = np.concatenate(x), np.concatenate(y), np.concatenate(kinds)
    good = np.isfinite(values)
    return frequency[good], values[good], kind[good], labels


def draw_spectrum(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw amplitude and phase of the mean over time and baselines against frequency, by correlation."""
    from pl_kernel.weblog import plots

    frequency, values, kinds, labels = _spectra(item)
    if not frequency.size:
        return False
    _amp_phase(path, item, frequency, values, kinds, labels, plots.PALETTE, whole_turn=item.correlations == CROSS)
    return None


def draw_amplitudes(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw the amplitude of the mean over time and baselines against frequency, by correlation."""
    from pl_kernel.weblog import plots

    frequency, values, kinds, labels = _spectra(item)
    if not frequency.size:
        return False
    plots.scatter(
        path, frequency, np.abs(values), categories=kinds, labels=labels, xlabel="Frequency", xunit="GHz",
        ylabel="Amplitude", yunit="Jy", title=f"{item.field}, {item.group}", subtitle=item.vis,
    )  # fmt: skip
    return None


def draw_antennas(ctx_item: Any, item: SummaryPlot, path: Path) -> bool | None:
    """Draw amplitude and phase of each antenna's mean over its baselines; antennas that stand out in colours."""
    from pl_kernel.weblog import plots

    x, y = [], []
    with np.load(item.file, allow_pickle=False) as stored:
        names = [str(n) for n in stored["antenna_names"]]
        for spw in item.spws:
            if f"antennas_{spw}" in stored.files and stored[f"antennas_{spw}"].size:
                part = stored[f"antennas_{spw}"]  # (hands, channels, antennas)
                x.append(np.tile(stored[f"frequency_{spw}"] / 1e9, part.shape[0]))
                y.append(part.reshape(-1, part.shape[2]))
    if not x or not any(np.isfinite(part).any() for part in y):
        return False
    frequency, values = np.concatenate(x), np.concatenate(y)
    odd = standing_out(values)
    kind = np.array([odd.index(a) + 1 if a in odd else 0 for a in range(len(names))])
    order = np.argsort(kind, kind="stable")  # what stands out is drawn last, on top
    kinds = np.broadcast_to(kind[order], values.shape)
    good = np.isfinite(values[:, order])
    labels = ["others" if odd else "antennas", *(names[a] for a in odd)]
    palette = [_OTHERS if odd else plots.PALETTE[0], *(plots.PALETTE[k] for k in (1, 0, 2, 3, 4))]
    where = np.broadcast_to(frequency[:, None], values.shape)[good]
    _amp_phase(path, item, where, values[:, order][good], kinds[good], labels, palette)
    return None


def standing_out(values: np.ndarray) -> list[int]:
    """Antennas whose spectra (points, antennas) differ most from the median antenna, worst first; none if none does.

    The deviation of an antenna is the median over points of |S/S_median - 1|; it stands out where it is above 2 %
    and three times that of the antenna in the middle.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # points or antennas without data are NaN
            typical = np.nanmedian(values.real, axis=1) + 1j * np.nanmedian(values.imag, axis=1)
            off = np.nanmedian(np.abs(values / typical[:, None] - 1), axis=0)
            limit = max(0.02, 3 * float(np.nanmedian(off)))
    return [int(a) for a in np.argsort(-np.nan_to_num(off)) if off[a] > limit][:_SHOWN_APART]


# ---- both ----------------------------------------------------------------------------------------------------------


def _margins(labels: Iterable[str]) -> tuple[float, float, float, float]:
    longest = max((min(len(n), 24) for n in labels), default=0)
    return 0.82, 0.45 + 0.085 * max(longest, 6), 0.55, 0.4


def _amp_phase(
    path: Path, item: SummaryPlot, x: np.ndarray, values: np.ndarray, kinds: np.ndarray, labels: list[str],
    palette: Any, *, time: bool = False, whole_turn: bool = False,
) -> None:  # fmt: skip
    from pl_kernel.weblog import plots

    with plots.figure(path, 7.2, 4.8, _margins(labels)) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True)
        phase = np.degrees(np.angle(values))
        plots.draw_points(top, x, np.abs(values), kinds, palette)
        plots.draw_points(bottom, x, phase, kinds, palette)
        low, high = top.get_ylim()
        if 0 < low < 0.5 * high:
            top.set_ylim(bottom=0)
        reach = 185.0 if whole_turn else min(185.0, max(10.0, 1.15 * float(np.abs(phase).max())))
        bottom.set_ylim(-reach, reach)
        if reach > 180:
            bottom.set_yticks([-180, -90, 0, 90, 180])
        top.set_ylabel("Amplitude (Jy)")
        bottom.set_ylabel("Phase (deg)")
        if time:
            plots.time_axis(bottom)
        else:
            bottom.set_xlabel("Frequency (GHz)")
        _finish(fig, top, f"{item.field}, {item.group}", item.vis, labels, palette)


def _finish(fig: Any, ax: Any, title: str, vis: str, labels: Iterable[str], palette: Any) -> None:
    from pl_kernel.weblog import plots

    plots.titles(fig, ax, title, vis)
    plots.legend(ax, list(labels), palette)
