"""hsd_skycal: the level of the blank sky, which the spectra on the source are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from pl_hsd.heuristics.skylevel import ElevationDifferences, elevation_differences
from pl_hsd.rows import RowTable
from pl_hsd.strategy import Strategy, strategy
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common.calspectra import read_spectra
from pl_kernel.common.tablenames import check_table_name
from pl_kernel.effects import Effect, RegisterCalibration, UnregisterCalibration
from pl_kernel.errors import CasaError, DataError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import compact_ids
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

_CALTYPES = {"ps": "ps", "otf": "otf", "otfraster": "otfraster"}


class SkycalInputs(Inputs):
    calmode: str = param(
        "auto", choices=("auto", "ps", "otf", "otfraster"),
        doc="ps: an OFF position; otf, otfraster: the edge of the map is the OFF; auto: as the data were taken.",
    )  # fmt: skip
    fraction: str = param("10%", doc="otf, otfraster: part of each row that counts as OFF.")
    noff: int = param(-1, doc="otf, otfraster: integrations per row that count as OFF; -1 takes the fraction.")
    width: float = param(0.5, minimum=0, doc="otf: width of the edge in units of the separation of rows.")
    elongated: bool = param(False, doc="otf: the map is elongated.")
    field: str = param("", doc="Fields of the OFF, as a CASA selection; default those of the calibration strategy.")
    spw: str = param("", doc="Windows, as a CASA selection of real ids; default all science windows.")
    scan: str = param("", doc="Scans, as a CASA selection; default all.")
    outfile: str | None = param(None, doc="Name of the caltable; default: made from the measurement set's name.")


@attrs.frozen(kw_only=True)
class SkyTable:
    """The sky table of one measurement set: OFF field by target field (names), windows, antennas with solutions."""

    vis: str
    table: str
    caltype: str
    references: dict[str, str]
    spws: tuple[int, ...]
    antennas: tuple[str, ...]
    solutions: int


@attrs.frozen(kw_only=True)
class ElevationGap:
    """Largest |elevation of ON − elevation of OFF| (degrees) of an antenna on a field, and when (MJD s)."""

    vis: str
    field: str
    antenna: str
    largest_deg: float
    time_s: float


class SkycalResult(Result):
    """The tables; ``missing`` are (measurement set, target) without sky calibration, with the reason."""

    tables: tuple[SkyTable, ...] = ()
    gaps: tuple[ElevationGap, ...] = ()
    missing: dict[str, dict[str, str]] = attrs.field(factory=dict)


class Skycal(Stage[SkycalInputs, SkycalResult]):
    """Make caltables of the sky level from the OFF positions.

    One table per measurement set. Each target field takes the sky of its own reference field, linear in time; it is
    registered only when the table really has solutions of that field. A target without is named and scored 0: its
    spectra cannot be calibrated and should be left out of what follows.

    The air above ON and OFF differs where they are at different elevations; the largest difference of every antenna
    is measured from the pointing.
    """

    name = "hsd_skycal"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True

    def sets(self, ctx: StageContext, inputs: SkycalInputs) -> Sequence[MeasurementSet]:
        return tuple(ms for ms in ctx.measurement_sets(inputs.vis) if not ms.origin)

    def check(self, ctx: StageContext, inputs: SkycalInputs) -> None:
        sets = self.sets(ctx, inputs)
        check_table_name(ctx, inputs.outfile, sets, "outfile")
        for ms in sets:
            mode = strategy(ctx, ms).calmode
            if inputs.calmode == "auto" and mode not in _CALTYPES:
                raise PlError(
                    f"{ms.name} was not observed with an OFF position (mode '{mode}'); set calmode to otf or otfraster "
                    "to take the edges of the map for it."
                )

    def run(self, ctx: StageContext, inputs: SkycalInputs) -> SkycalResult:
        tables, gaps, failures = [], [], []
        missing: dict[str, dict[str, str]] = {}
        effects: list[Effect] = []
        for ms in self.sets(ctx, inputs):
            plan = strategy(ctx, ms)
            mode = plan.calmode if inputs.calmode == "auto" else inputs.calmode
            gaps += elevation_gaps(ctx, ms, plan) if mode == "ps" else []
            targets = {ms.field(t).name for t in plan.reference_fields}
            try:
                table = self._solve(ctx, ms, plan, mode, inputs)
            except (CasaError, DataError) as error:
                failures.append(ItemFailure(ms.name, str(error)))
                missing[ms.name] = dict.fromkeys(sorted(targets), str(error))
                ctx.log.error(f"{ms.name} has no sky calibration: {error}")
                continue
            record, found, left = self._register(ctx, ms, plan, mode, table)
            tables.append(record)
            effects += found
            if left:
                missing[ms.name] = left
        return SkycalResult(
            tables=tuple(tables), gaps=tuple(gaps), missing=missing, failures=tuple(failures), effects=tuple(effects)
        )

    def _solve(
        self, ctx: StageContext, ms: MeasurementSet, plan: Strategy, mode: str, inputs: SkycalInputs
    ) -> str:
        table = inputs.outfile or ctx.path(ms, ext="skycal.tbl")
        ctx.files.rmtree(table)
        targets = sorted(plan.reference_fields)
        if not targets:
            raise DataError(f"no field of {ms.name} can be the OFF of its targets")
        if mode == "ps":
            offs = inputs.field or compact_ids(sorted(set(plan.reference_fields.values())))
            self._sdcal(ctx, ms, table, mode, inputs, offs)
            return table
        for target in targets:  # sdcal writes the edges of all maps with the field that comes first in the data
            part = table if target == targets[0] else f"{table}.{target}"
            self._sdcal(ctx, ms, part, mode, inputs, inputs.field or ms.field_selection([ms.field(target)]))
            with ctx.casa.table(part, nomodify=False) as made:
                made.putcol("FIELD_ID", np.full(made.nrows(), target))
                if mode == "otf":
                    # applycal (CASA 6.7) refuses SDSKY_OTF; it holds what tables of rasters do, and is applied alike.
                    made.putkeyword("VisCal", "SDSKY_RASTER")
                    made.putinfo({**made.info(), "subType": "SDSKY_RASTER"})
                if part != table:
                    made.copyrows(str(ctx.work / table))
            if part != table:
                ctx.files.rmtree(part)
        return table

    def _sdcal(
        self, ctx: StageContext, ms: MeasurementSet, table: str, mode: str, inputs: SkycalInputs, field: str
    ) -> None:
        on_source = ms.observing_modes("TARGET") if mode != "ps" else ()
        ctx.casa.sdcal(
            infile=ms.path, outfile=table, calmode=mode, fraction=inputs.fraction, noff=inputs.noff,
            width=inputs.width, elongated=inputs.elongated, field=field, spw=inputs.spw or ms.science_spw_selection,
            scan=inputs.scan, intent=",".join(on_source), overwrite=True,
        )  # fmt: skip
        if not (ctx.work / table).is_dir():
            raise DataError(f"sdcal wrote no table for {ms.name}")

    def _register(
        self, ctx: StageContext, ms: MeasurementSet, plan: Strategy, mode: str, table: str
    ) -> tuple[SkyTable, list[Effect], dict[str, str]]:
        spectra = read_spectra(ctx.casa, table)
        effects: list[Effect] = [UnregisterCalibration(older) for older in _older(ctx, ms, table)]
        left: dict[str, str] = {}
        references: dict[str, str] = {}
        for target, reference in plan.reference_fields.items():
            off = reference if mode == "ps" else target
            with_sky = [s for s, c in spectra.items() if (c.field == off).any() and not c.flags[c.field == off].all()]
            name, off_name = ms.field(target).name, ms.field(off).name
            if not with_sky:
                left[name] = f"the sky table has no solution of its OFF field {off_name}"
                ctx.log.warning(f"{ms.name}: {left[name]}; {name} should be excluded from what follows.")
                continue
            references[name] = off_name
            to = CalTo(
                ms.name, field=ms.field_selection([ms.field(target)]), spw=compact_ids(with_sky), intent="TARGET"
            )
            cal = CalFrom(table, gainfield=str(off), interp="linear,linear", caltype=_CALTYPES[mode])
            effects.append(RegisterCalibration(CalApplication(to, cal, origin=ctx.stage_name)))
        antennas = sorted({int(a) for c in spectra.values() for a in np.unique(c.antenna[~c.flags.all(axis=(1, 2))])})
        record = SkyTable(
            vis=ms.name, table=table, caltype=mode, references=references, spws=tuple(spectra),
            antennas=tuple(ms.antenna(a).name for a in antennas),
            solutions=sum(c.time_s.size for c in spectra.values()),
        )  # fmt: skip
        return record, effects, left


def _older(ctx: StageContext, ms: MeasurementSet, table: str) -> list[str]:
    """Sky tables of an earlier run of the stage: two of them would divide by the sky twice."""
    rows = ctx.calibration.active.of(ms.name).registrations
    found = [c.gaintable for r in rows for c in r.calfroms if c.caltype in _CALTYPES.values()]
    return [t for t in dict.fromkeys(found) if t != table]


def gap_series(
    rows: RowTable, antenna: int, field: int, reference: int
) -> tuple[np.ndarray, ElevationDifferences]:
    """Times of the valid ON rows of an antenna (in its first window), and their differences from the OFF."""
    on = rows.select(antenna=antenna, field=field, on_source=True, valid=True)
    off = rows.select(antenna=antenna, field=reference, on_source=False, valid=True)
    if on.size:
        window = rows["spw"][on[0]]
        on, off = on[rows["spw"][on] == window], off[rows["spw"][off] == window]
    time, elevation = np.asarray(rows["time_s"]), np.asarray(rows["el_deg"])
    return time[on], elevation_differences(time[on], elevation[on], time[off], elevation[off])


def elevation_gaps(ctx: StageContext, ms: MeasurementSet, plan: Strategy) -> list[ElevationGap]:
    """Largest difference of every antenna on every target; each is measured for itself."""
    rows = RowTable.open(ctx, ms)
    found = []
    for field, reference in plan.reference_fields.items():
        for antenna in sorted({a for a, _, f in rows.header.members if f == field}):
            time, differences = gap_series(rows, antenna, field, reference)
            if not np.isfinite(differences.largest):
                continue
            worst = np.nanmax(np.abs([differences.before_deg, differences.after_deg]), axis=0)
            found.append(
                ElevationGap(
                    vis=ms.name, field=ms.field(field).name, antenna=ms.antenna(antenna).name,
                    largest_deg=differences.largest, time_s=float(time[np.nanargmax(worst)]),
                )
            )  # fmt: skip
    return found
