"""What the run learns when calibration has been applied: unit, tables, valid spectra and the Tsys of each.

Used after applycal, and by whoever restores a calibration.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from pl_hsd import online
from pl_hsd.heuristics import rowtsys
from pl_hsd.heuristics.jyperk import Key
from pl_hsd.rows import RowTable
from pl_kernel.common.calspectra import CalSpectra, read_spectra
from pl_kernel.effects import Effect, SetValue
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

UNIT = "hsd.unit"
CALTABLES = "hsd.caltables"
COLUMN = "CORRECTED_DATA"
_KINDS = {"tsys": "tsys", "ps": "sky", "otf": "sky", "otfraster": "sky", "amp": "jyperk"}


@attrs.frozen(kw_only=True)
class Learnt:
    """Unit of the spectra (empty: raw or mixed) and all units found; tables (tsys, sky, jyperk); Tsys of every row."""

    unit: str
    kinds: tuple[str, ...]
    tables: dict[str, str]
    tsys_k: np.ndarray
    effects: tuple[Effect, ...]


def learn(ctx: StageContext, ms: MeasurementSet) -> Learnt:
    """Write the unit to the data columns, read the flags again, give every row its Tsys.

    The calibration that was applied is what ``ctx.calibration`` holds as active. The effects update the table of rows;
    ``remember`` makes those for unit and tables.
    """
    unit, kinds = set_unit(ctx, ms)
    tsys = row_tsys(ctx, ms)
    rows = RowTable.open(ctx, ms)
    effects = (*online.refresh_online(ctx, ms), *rows.with_columns(ctx, {"tsys_k": tsys}))
    return Learnt(unit=unit, kinds=kinds, tables=applied_tables(ctx, ms), tsys_k=tsys, effects=effects)


def remember(
    ctx: StageContext, units: Mapping[str, str], tables: Mapping[str, Mapping[str, str]]
) -> tuple[SetValue, ...]:
    """Effects that keep units and tables by measurement set, beside those known already."""
    return (
        SetValue(UNIT, {**ctx.value(UNIT, {}), **units}),
        SetValue(CALTABLES, {**ctx.value(CALTABLES, {}), **tables}),
    )


def factors_of(ctx: StageContext, ms: MeasurementSet, table: str) -> dict[Key, float]:
    """Jy/K that a caltable holds (1/gain²), without what is flagged: by spw, antenna name, correlation."""
    with ctx.casa.table(table) as opened:
        antenna, spw = opened.getcol("ANTENNA1"), opened.getcol("SPECTRAL_WINDOW_ID")
        column = "CPARAM" if "CPARAM" in opened.colnames() else "FPARAM"
        gain, bad = opened.getcol(column).real[:, 0, :], opened.getcol("FLAG")[:, 0, :]
    science, names = {int(s) for s in ms.science_spw_ids}, {a.id: a.name for a in ms.antennas}
    found: dict[Key, float] = {}
    for row in range(antenna.size):
        if int(spw[row]) in science and int(antenna[row]) in names:
            for pol, correlation in enumerate(ms.polarization_of(ms.spw(int(spw[row])).id).correlations):
                if pol < gain.shape[0] and not bad[pol, row] and gain[pol, row] > 0:
                    found[(int(spw[row]), names[int(antenna[row])], correlation)] = float(gain[pol, row] ** -2)
    return found


def targets(ms: MeasurementSet) -> list[tuple[int, int, str]]:
    """(field, science window, set of intents) of the spectra on the source."""
    science = {int(s) for s in ms.science_spw_ids}
    return sorted((f, s, i) for f, s, i in ms.observed if "TARGET" in i.split(",") and s in science)


def applied_tables(ctx: StageContext, ms: MeasurementSet) -> dict[str, str]:
    """The tables that calibrate the targets: tsys, sky, jyperk."""
    found: dict[str, str] = {}
    for field, spw, label in targets(ms):
        for antenna in ms.antennas:
            for cal in ctx.calibration.active.at(ms, antenna.id, spw, field, label):
                if cal.caltype in _KINDS:
                    found.setdefault(_KINDS[cal.caltype], cal.gaintable)
    return found


def set_unit(ctx: StageContext, ms: MeasurementSet) -> tuple[str, tuple[str, ...]]:
    """Write the unit of the corrected spectra to the data columns; return it (empty: raw or mixed), and all units."""
    kinds = []
    for field, spw, label in targets(ms):
        cals = {c.caltype for a in ms.antennas for c in ctx.calibration.active.at(ms, a.id, spw, field, label)}
        known = {_KINDS[c] for c in cals if c in _KINDS}
        kinds.append("Jy" if known >= {"tsys", "sky", "jyperk"} else "K" if known >= {"tsys", "sky"} else "raw")
    units = tuple(sorted(set(kinds)))
    unit = units[0] if len(units) == 1 and units[0] != "raw" else ""
    if unit:
        with ctx.casa.table(ms.path, nomodify=False) as main:
            for column in {COLUMN, "DATA", "FLOAT_DATA"} & set(main.colnames()):
                main.putcolkeyword(column, "UNIT", unit)
    return unit, units


def row_tsys(ctx: StageContext, ms: MeasurementSet) -> np.ndarray:
    """Tsys of every row [row, polarization]; 1 where none was applied (OFF positions), NaN never."""
    rows = RowTable.open(ctx, ms)
    found = np.array(rows["tsys_k"], dtype=np.float32)
    opened: dict[str, dict[int, CalSpectra]] = {}
    for field, spw, label in targets(ms):
        window = ms.spw(spw)
        for antenna in ms.antennas:
            cal = next(
                (c for c in ctx.calibration.active.at(ms, antenna.id, spw, field, label) if c.caltype == "tsys"), None
            )
            own = rows.select(antenna=antenna.id, spw=spw, field=field, on_source=True)
            if cal is None or not own.size:
                continue
            if cal.gaintable not in opened:
                opened[cal.gaintable] = read_spectra(ctx.casa, cal.gaintable)
            source = cal.spwmap[spw] if spw < len(cal.spwmap) else spw
            if source not in opened[cal.gaintable]:
                continue
            values = _measured(opened[cal.gaintable][source], antenna.id, cal.gainfield, (window.min_hz, window.max_hz))
            tsys = rowtsys.at_times(*values, np.asarray(rows["time_s"])[own])[:, : found.shape[1]]
            good = np.isfinite(tsys)
            part = found[own][:, : tsys.shape[1]]
            found[np.ix_(own, range(tsys.shape[1]))] = np.where(good, tsys, part)
    return found


def _measured(
    spectra: CalSpectra, antenna: int, gainfield: str, limits: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    own = spectra.rows(antenna=antenna, field=int(gainfield)) if gainfield.isdigit() else spectra.rows(antenna=antenna)
    part = attrs.evolve(
        spectra, values=spectra.values[own], flags=spectra.flags[own], antenna=spectra.antenna[own],
        field=spectra.field[own], scan=spectra.scan[own], time_s=spectra.time_s[own],
    )  # fmt: skip
    return part.time_s, rowtsys.mean_tsys(part, *limits)
