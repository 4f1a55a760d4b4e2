"""Pages of the stages that solve: what was found for every antenna, in one look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.solve import Caltable, Solutions, read_solutions
from pl_hif.stages.bandpass import BandpassResult
from pl_hif.stages.fluxscale import FluxscaleResult
from pl_hif.stages.gaincal import GaincalResult
from pl_hif.stages.refant import RefantResult
from pl_kernel import renderer

RECEPTORS = ("first receptor", "second receptor")
_GRID = 8  # antennas side by side


@attrs.frozen(kw_only=True)
class Grid:
    """A picture with one small panel per antenna."""

    vis: str
    spw: int
    kind: str
    caltable: str
    title: str
    names: tuple[str, ...]
    x: tuple[Any, ...]
    y: tuple[Any, ...]
    categories: tuple[Any, ...]
    labels: tuple[str, ...]
    xlabel: str
    ylabel: str
    time: bool


@renderer(RefantResult)
def refant_page(page: Any, ctx: Any, result: RefantResult) -> None:
    """Ranking with its reasons, and where the antennas stand."""
    for ranking in result.rankings:
        page.section(f"Ranking of {ranking.vis}")
        if not ranking.ranked:
            page.note("No antenna can serve as phase reference.", "error")
            continue
        best = ranking.ranked[0]
        page.text(
            f"Reference antenna is {best.name}: {best.reason}. The others follow in this order when it has no data."
            if not result.manual else f"The user chose {best.name} as reference antenna."
        )  # fmt: skip
        page.table(
            ["Rank", "Antenna", "Score", "Geometry", "Flags", "Distance", "Good data", "Why"],
            [
                [i, a.name, a.score, a.geometry, a.flagging, a.distance_m, 100 * a.good_fraction, a.reason]
                for i, a in enumerate(ranking.ranked, 1)
            ],
            caption="Geometry and flags count up to the number of antennas each; the sum decides.",
            units={"Distance": "m", "Good data": "%"},
            formats={"Score": ".1f", "Geometry": ".1f", "Flags": ".1f", "Distance": ".0f", "Good data": ".1f"},
        )  # fmt: skip
        for sentence in ranking.left_out:
            page.note(sentence)
        ms = ctx.context.measurement_set(ranking.vis)
        scores = {a.name: a.score for a in ranking.ranked}
        item = _Map(
            vis=ranking.vis, names=ms.antenna_names, enu=ms.array.local_enu_m(), reference=best.name,
            values=np.array([scores.get(n, np.nan) for n in ms.antenna_names]),
        )  # fmt: skip
        page.plots(
            draw_map, [item], caption="Antennas, coloured by their score; the reference is marked.", size="large"
        )


@attrs.frozen(kw_only=True)
class _Map:
    vis: str
    names: tuple[str, ...]
    enu: Any
    reference: str
    values: Any


def draw_map(ctx: Any, item: _Map, path: Path) -> None:
    """Where the antennas stand."""
    from pl_kernel.weblog import plots

    plots.antenna_map(
        path, item.names, item.enu[:, 0], item.enu[:, 1], reference=item.reference, values=item.values,
        value_label="score", title="Antennas", subtitle=item.vis,
    )  # fmt: skip


@renderer(BandpassResult)
def bandpass_page(page: Any, ctx: Any, result: BandpassResult) -> None:
    """Amplitude and phase of the bandpass of every antenna, and the phases they were solved with."""
    page.section("Tables")
    page.text(f"The bandpass was solved on the fields with intent {result.intent}.")
    _table_of_tables(page, (*result.phaseup, *result.tables), result.refants)
    page.section("Bandpass of every antenna")
    for table in result.tables:
        grids = []
        for spw, solutions in _by_spw(ctx, table):
            frequency = solutions.frequency_hz[spw] / 1e6
            grids += [
                _against_frequency(ctx, table, spw, solutions, frequency, "amplitude"),
                _against_frequency(ctx, table, spw, solutions, frequency, "phase"),
            ]
        page.plots(
            draw_grid, grids, caption=lambda g: f"{g.vis}, spw {g.spw}: {g.kind}",
            tags=lambda g: {"vis": g.vis, "spw": str(g.spw), "type": g.kind, "caltable": g.caltable}, size="large",
            name="bandpass",
        )  # fmt: skip
    if result.phaseup:
        page.section("Phases applied before", level="detail")
        grids = [
            _against_time(ctx, table, spw, solutions, "phase")
            for table in result.phaseup
            for spw, solutions in _by_spw(ctx, table)
        ]
        page.plots(
            draw_grid, grids, caption=lambda g: f"{g.vis}, spw {g.spw}: {g.kind} against time",
            tags=lambda g: {"vis": g.vis, "spw": str(g.spw)}, size="large", name="phaseup",
        )  # fmt: skip
    page.section("Solutions by antenna", level="detail")
    _table_of_antennas(page, result.tables)


@renderer(GaincalResult)
def gaincal_page(page: Any, ctx: Any, result: GaincalResult) -> None:
    """Gains of every antenna against time."""
    page.section("Tables")
    where = {"all": "all fields", "calibrators": "the calibrators", "targets": "the targets", "none": "nothing"}
    what = {"p": "Phases", "a": "Amplitudes", "ap": "Amplitudes and phases"}[result.calmode]
    page.text(f"{what} with solution interval '{result.solint}', registered for {where[result.apply_to]}.")
    _table_of_tables(page, result.tables, result.refants)
    if result.targets:
        page.table(
            ["Measurement set", "Target", "Gains from", "Distance"],
            [[t.vis, t.target, t.calibrator, t.separation_deg] for t in result.targets],
            caption="Which calibrator serves which target.", units={"Distance": "deg"}, formats={"Distance": ".2f"},
        )  # fmt: skip
    page.section("Gains of every antenna")
    kinds = {"p": ("phase",), "a": ("amplitude",), "ap": ("amplitude", "phase")}[result.calmode]
    grids = [
        _against_time(ctx, table, spw, solutions, kind)
        for table in result.tables
        for spw, solutions in _by_spw(ctx, table)
        for kind in kinds
    ]
    page.plots(
        draw_grid, grids, caption=lambda g: f"{g.vis}, spw {g.spw}: {g.kind} against time",
        tags=lambda g: {"vis": g.vis, "spw": str(g.spw), "type": g.kind, "caltable": g.caltable}, size="large",
        name="gains",
    )  # fmt: skip
    page.section("Solutions by antenna", level="detail")
    _table_of_antennas(page, result.tables)


@renderer(FluxscaleResult)
def fluxscale_page(page: Any, ctx: Any, result: FluxscaleResult) -> None:
    """Flux densities with errors, and how well the antennas agree."""
    page.section("Flux densities")
    if not result.measurements:
        page.text("Every calibrator is a standard: there was no flux density to derive.")
        return
    references = ", ".join(sorted({n for names in result.references.values() for n in names}))
    page.text(f"Derived from the gains relative to {references}, whose models are known.")
    page.table(
        ["Measurement set", "Field", "Spw", "Frequency", "Flux density", "Error", "Relative", "Solutions",
         "Antenna scatter"],
        [
            [m.vis, m.field, m.spw, m.frequency_hz / 1e9, m.flux_jy, m.error_jy, 100 * m.error_jy / m.flux_jy,
             m.solutions,
             100 * m.gain_scatter]
            for m in result.measurements
        ],
        units={"Frequency": "GHz", "Flux density": "Jy", "Error": "Jy", "Relative": "%", "Antenna scatter": "%"},
        filters=("Field", "Spw"),
        formats={"Frequency": ".5f", "Flux density": ".4f", "Error": ".4f", "Relative": ".2f",
            "Antenna scatter": ".1f"},
    )  # fmt: skip
    page.table(
        ["Field", "Flux density", "at", "Spectral index", "Order", "Why this order"],
        [
            [f.field, f.flux_jy, f.frequency_hz / 1e9, ", ".join(f"{c:.3f}" for c in f.spectral_index) or "–", f.order,
             f.reason]
            for f in result.fits
        ],
        caption="Models set for the solves that follow.", units={"Flux density": "Jy", "at": "GHz"},
        formats={"Flux density": ".4f", "at": ".5f"},
    )  # fmt: skip
    page.section("Flux density by antenna")
    items = []
    for m in result.measurements:
        chosen = [a for a in result.by_antenna if (a.vis, a.field, a.spw) == (m.vis, m.field, m.spw)]
        items.append(
            _Fluxes(
                vis=m.vis, field=m.field, spw=m.spw, names=tuple(f"{a.antenna}/{a.pol}" for a in chosen),
                values=np.array([a.flux_jy for a in chosen]), flux=m.flux_jy, error=m.error_jy,
            )
        )  # fmt: skip
    page.plots(
        draw_fluxes, items,
        caption=lambda i: f"{i.field}, spw {i.spw}: what each antenna and receptor says; the line is the "
        "adopted value", tags=lambda i: {"vis": i.vis, "field": i.field, "spw": str(i.spw)}, size="large",
    )  # fmt: skip
    page.section("Tables of passage", level="detail")
    _table_of_tables(page, result.tables, {})


@attrs.frozen(kw_only=True)
class _Fluxes:
    vis: str
    field: str
    spw: int
    names: tuple[str, ...]
    values: Any
    flux: float
    error: float


def draw_fluxes(ctx: Any, item: _Fluxes, path: Path) -> dict[str, str]:
    """Flux density by antenna and receptor."""
    from pl_kernel.weblog import plots

    antennas = [n.rpartition("/")[0] for n in item.names]
    index = {n: i for i, n in enumerate(dict.fromkeys(antennas))}
    plots.scatter(
        path, [index[a] for a in antennas], item.values, categories=[int(n.rpartition("/")[2]) for n in item.names],
        labels=RECEPTORS, xlabel="Antenna, in the order of the table", ylabel="Flux density", yunit="Jy",
        title=f"{item.field}, spw {item.spw}", subtitle=f"{item.flux:.4g} ± {item.error:.2g} Jy", limits=(item.flux,),
    )  # fmt: skip
    return {"Points": str(len(item.values))}


# ---- shared --------------------------------------------------------------------------------------------------------


def draw_grid(ctx: Any, grid: Grid, path: Path) -> None:
    """One panel per antenna, drawn as one picture."""
    draw_panels(path, grid)


def draw_panels(path: Path, grid: Grid) -> None:
    """Small panels with common axes, in a single set of axes: fifty axes would take seconds."""
    from pl_kernel.weblog import plots

    columns = min(_GRID, max(1, len(grid.names)))
    rows = -(-len(grid.names) // columns)
    good = [np.isfinite(y) for y in grid.y]
    xs = np.concatenate([x[g] for x, g in zip(grid.x, good, strict=True)]) if grid.x else np.zeros(0)
    ys = np.concatenate([y[g] for y, g in zip(grid.y, good, strict=True)]) if grid.y else np.zeros(0)
    if xs.size == 0:
        raise ValueError("no unflagged solutions")
    x0, x1 = _limits(xs)
    y0, y1 = _phase_limits(ys) if grid.kind == "phase" else _limits(ys)
    size = 2.2 if max(int(g.sum()) for g in good) > 60 else 4.5
    with plots.figure(path, 1.25 * columns + 1.0, 1.1 * rows + 1.0, (0.75, 0.2, 0.55, 0.5)) as fig:
        ax = fig.subplots()
        for i, (x, y, kind, ok) in enumerate(zip(grid.x, grid.y, grid.categories, good, strict=True)):
            column, row = i % columns, rows - 1 - i // columns
            u = column + 0.08 + 0.84 * (x[ok] - x0) / (x1 - x0)
            v = row + 0.06 + 0.74 * (np.clip(y[ok], y0, y1) - y0) / (y1 - y0)
            for k, colour in enumerate(plots.PALETTE[:2]):
                here = kind[ok] == k
                ax.plot(u[here], v[here], ".", markersize=size, color=colour, markeredgewidth=0, rasterized=True)
            ax.text(column + 0.09, row + 0.97, grid.names[i], ha="left", va="top", fontsize=7.5, fontweight="bold")
        for edge in range(columns + 1):
            ax.axvline(edge, color=plots.GRID, linewidth=0.7)
        for edge in range(rows + 1):
            ax.axhline(edge, color=plots.GRID, linewidth=0.7)
        ax.set_xlim(0, columns)
        ax.set_ylim(0, rows)
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_yticks([0.06, 0.43, 0.80], [f"{v:.3g}" for v in (y0, (y0 + y1) / 2, y1)])
        ax.set_xticks([0.08, 0.92], [_x_text(grid, x0, x0), _x_text(grid, x1, x0)], fontsize=7.5)
        ax.set_xlabel(f"{grid.xlabel} (axes as in the lower left panel, common to all)", loc="left")
        ax.set_ylabel(grid.ylabel, loc="bottom")
        ax.set_title(grid.title)
        for k, label in enumerate(grid.labels[:2]):
            ax.plot([], [], ".", color=plots.PALETTE[k], label=label, markersize=8)
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2, handletextpad=0.1)


def _x_text(grid: Grid, value: float, start: float) -> str:
    if grid.time:
        return f"{(value - start) / 60:.0f}"
    return f"{value:.1f}"


def _phase_limits(values: np.ndarray) -> tuple[float, float]:
    """Symmetric around zero: at least ±5 degrees, and the whole circle when the phases fill much of it."""
    largest = float(np.abs(values).max())
    reach = 180.0 if largest > 90 else max(5.0, 5 * np.ceil(1.1 * largest / 5))
    return -float(reach), float(reach)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def _by_spw(ctx: Any, table: Caltable) -> list[tuple[int, Solutions]]:
    if not Path(table.path).is_dir():
        return []
    return [(spw, read_solutions(ctx, table.path, spw)) for spw in sorted({s.spw for s in table.stats})]


def _names(ctx: Any, vis: str) -> dict[int, str]:
    return {a.id: a.name for a in ctx.context.measurement_set(vis).antennas}


def _values(solutions: Solutions, kind: str) -> np.ndarray:
    values = np.abs(solutions.gain) if kind == "amplitude" else np.degrees(np.angle(solutions.gain))
    return np.where(solutions.flag, np.nan, values)


def _against_frequency(
    ctx: Any, table: Caltable, spw: int, solutions: Solutions, frequency_mhz: np.ndarray, kind: str
) -> Grid:
    values = _values(solutions, kind)
    names = _names(ctx, table.vis)
    antennas = sorted(set(solutions.antenna.tolist()) & set(names))
    x, y, categories = [], [], []
    for antenna in antennas:
        rows = solutions.antenna == antenna
        block = values[:, :, rows]
        x.append(np.broadcast_to(frequency_mhz[None, :, None], block.shape).ravel())
        y.append(block.ravel())
        categories.append(np.broadcast_to(np.arange(len(block))[:, None, None], block.shape).ravel())
    return Grid(
        vis=table.vis, spw=spw, kind=kind, caltable=table.path, title=f"Bandpass {kind}, spw {spw}",
        names=tuple(names[a] for a in antennas), x=tuple(x), y=tuple(y), categories=tuple(categories),
        labels=RECEPTORS, xlabel="MHz", ylabel="Amplitude" if kind == "amplitude" else "Phase (deg)", time=False,
    )  # fmt: skip


def _against_time(ctx: Any, table: Caltable, spw: int, solutions: Solutions, kind: str) -> Grid:
    values = _values(solutions, kind)[:, 0, :]
    names = _names(ctx, table.vis)
    antennas = sorted(set(solutions.antenna.tolist()) & set(names))
    x, y, categories = [], [], []
    for antenna in antennas:
        rows = solutions.antenna == antenna
        block = values[:, rows]
        x.append(np.broadcast_to(solutions.time_s[rows][None, :], block.shape).ravel())
        y.append(block.ravel())
        categories.append(np.broadcast_to(np.arange(len(block))[:, None], block.shape).ravel())
    return Grid(
        vis=table.vis, spw=spw, kind=kind, caltable=table.path,
        title=f"Gain {kind}, spw {spw}, {', '.join(table.fields)}",
        names=tuple(names[a] for a in antennas), x=tuple(x), y=tuple(y), categories=tuple(categories),
        labels=RECEPTORS, xlabel="Minutes since the first solution",
        ylabel="Amplitude" if kind == "amplitude" else "Phase (deg)", time=True,
    )  # fmt: skip


def _table_of_tables(page: Any, tables: tuple[Caltable, ...], refants: dict[str, str]) -> None:
    page.table(
        ["Measurement set", "Kind", "Fields", "Interval", "Rows", "Flagged", "Reference antenna", "Applied before",
         "Table"],
        [
            [t.vis, t.kind, ", ".join(t.fields), t.solint, t.rows, 100 * t.flagged_fraction,
             refants.get(t.vis, "").split(",")[0], ", ".join(p.split(".")[-2] for p in t.preapplied) or "–", t.path]
            for t in tables
        ],
        units={"Flagged": "%"}, formats={"Flagged": ".1f"},
    )  # fmt: skip


def _table_of_antennas(page: Any, tables: tuple[Caltable, ...]) -> None:
    page.table(
        ["Measurement set", "Antenna", "Spw", "Receptor", "Solutions", "Flagged", "SNR", "Amplitude", "Amplitude rms",
         "Phase rms"],
        [
            [t.vis, s.antenna, s.spw, s.pol, s.solutions, 100 * s.flagged_fraction, s.snr, s.amplitude,
             100 * s.amplitude_rms,
             s.phase_rms_deg]
            for t in tables
            for s in t.stats
        ],
        units={"Flagged": "%", "Amplitude rms": "%", "Phase rms": "deg"}, filters=("Antenna", "Spw"),
        formats={"Flagged": ".1f", "SNR": ".0f", "Amplitude": ".4g", "Amplitude rms": ".2f", "Phase rms": ".2f"},
    )  # fmt: skip
