"""What hsd_baseline is to do: jobs of plain data for its workers, from groups, tables of rows and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.baselining import FitChoice, FitJob, FitMember
from pl_hsd.geometry import beam_arcsec
from pl_hsd.groups import Member, ReductionGroup, iteration, reduction_groups
from pl_hsd.linesearch import TOO_WIDE, SearchJob, SearchMember, SearchOutcome
from pl_hsd.linewindow import WindowLines, lines_for
from pl_hsd.ranges import MS, SpectralRanges
from pl_hsd.rowmap import rows_in
from pl_hsd.rows import RowTable, origin_name
from pl_hsd.strategy import strategy
from pl_kernel.errors import InputError, PlError, UnknownName
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.frames import measures_converter
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.records import SpectralWindow
from pl_kernel.stage_context import StageContext

INPUT_TYPES = (DataType.ATMCORR, DataType.REGCAL_CONTLINE_ALL, DataType.RAW)
"""Data to be baselined, best first."""
DEVIATION_MASKS = "hsd.deviation_masks"
KINDS = {
    "spline": "cspline", "cspline": "cspline", "poly": "poly", "polynomial": "poly", "sinusoid": "sinusoid",
}  # fmt: skip


@attrs.frozen(eq=False)
class Work:
    """The groups chosen, and what is needed to find rows: tables by imported set, row numbers by set."""

    groups: tuple[ReductionGroup, ...]
    tables: Mapping[str, RowTable]
    indices: Mapping[Member, NDArray[np.int64]]

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the measurement sets to be baselined."""
        return tuple(dict.fromkeys(m.ms for g in self.groups for m in g.members))


def plan_work(ctx: StageContext, inputs: Any) -> Work:
    """Choose the groups and members.

    Raises
    ------
    PlError : nothing is left by the selection.
    """
    origins = {origin_name(ctx, ms) for ms in ctx.measurement_sets(inputs.vis)} if inputs.vis else None
    groups, tables, indices = [], {}, {}
    for group in reduction_groups(ctx, types=INPUT_TYPES):
        if group.nchan == 1 or (inputs.spw and int(group.spw) not in numbers(inputs.spw, "spw")):
            continue
        kept = []
        for member in group.members:
            if origins is not None and member.origin not in origins:
                continue
            parent = ctx.context.measurement_set(member.ms)
            if inputs.field and member.field not in parent.field_ids(inputs.field):
                continue
            if inputs.antenna and member.antenna not in parent.antenna_ids(inputs.antenna):
                continue
            if member.origin not in tables:
                tables[member.origin] = RowTable.open(ctx, member.origin)
            rows = tables[member.origin].select(
                antenna=member.antenna, spw=int(member.origin_spw), field=member.origin_field, on_source=True,
                valid=True,
            )  # fmt: skip
            if rows.size:
                indices[member] = rows
                kept.append(member)
        if kept:
            groups.append(attrs.evolve(group, members=tuple(kept)))
    if not groups:
        raise PlError("There are no spectra to be baselined: the selection leaves nothing, or all of it is flagged.")
    return Work(tuple(groups), tables, indices)


def check_polarizations(ctx: StageContext, inputs: Any) -> None:
    """Raise UnknownName for a polarization that no science window has."""
    windows = [(ms, spw.id) for ms in ctx.measurement_sets(inputs.vis) for spw in ms.science_spws]
    known = {name for ms, spw in windows for name in ms.polarization_of(spw).correlations}
    for name in inputs.pol:
        if name not in known:
            raise UnknownName("polarization", name, sorted(known))


def chosen_polarizations(correlations: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[int, ...]:
    """Their numbers; all when none is named."""
    return tuple(k for k, name in enumerate(correlations) if not wanted or name in wanted)


def numbers(text: str, what: str) -> set[int]:
    """A list of numbers such as "17,19".  Raises InputError for anything else."""
    try:
        return {int(part) for part in str(text).split(",") if part.strip()}
    except ValueError:
        raise InputError(f"'{text}' is no list of numbers for the parameter {what}; write 17,19.") from None


# ---- search for lines ------------------------------------------------------------------------------------------------


def search_jobs(ctx: StageContext, inputs: Any, work: Work, lines: Mapping[int | None, WindowLines]) -> list[SearchJob]:
    """One job per group.  After a first baseline stage lines are looked for in the baselined spectra."""
    source = _baselined(ctx) if iteration(ctx) else {}
    columns: dict[str, tuple[MeasurementSet, str, NDArray[np.int64]]] = {}
    jobs = []
    for group in work.groups:
        given = lines_for(lines, int(group.spw))
        detect = given is None or (inputs.linewindowmode == "merge" and not given.no_lines)
        members = []
        for member in group.members:
            name = source.get(member.ms, member.ms)
            if name not in columns:
                record = ctx.context.measurement_set(name)
                table = work.tables[member.origin]
                columns[name] = (record, column_of_spectra(record), rows_in(ctx, record, np.asarray(table["row"])))
            record, column, rows = columns[name]
            members.append(_search_member(ctx, inputs, work, member, record, column, rows, given))
        first = group.members[0]
        origin = ctx.context.measurement_set(first.origin)
        window = origin.spw(int(first.origin_spw))
        pattern = strategy(ctx, first.origin).pattern_of(first.antenna, int(first.origin_spw), first.origin_field)
        jobs.append(
            SearchJob(
                group=group.id, n_chan=group.nchan, members=tuple(members), edge=inputs.edge,
                cell_deg=beam_arcsec(origin.antenna(first.antenna).diameter_m, window.centre_hz) / 3600,
                detect=detect, mask_deviation=inputs.deviationmask,
                deviation_sigma=inputs.deviationmask_sigma_threshold, algorithm=inputs.clusteringalgorithm,
                raster=pattern in ("RASTER", ""), too_wide=_was_too_wide(ctx, group),
                file=str(ctx.stage_dir / "search" / f"group{group.id}.npz"),
            )
        )  # fmt: skip
    return jobs


def _was_too_wide(ctx: StageContext, group: ReductionGroup) -> bool:
    known = ctx.value("hsd.line_ranges", {}).get(group.key, [])
    return any(line.get("reason") == TOO_WIDE for line in known)


def _baselined(ctx: StageContext) -> dict[str, str]:
    """Baselined measurement sets by the name of what they were made from."""
    found = {}
    for ms in ctx.context.measurement_sets:
        if ms.column_of(DataType.BASELINED) is not None and ms.origin:
            found[ms.origin] = ms.name
    return found


def column_of_spectra(ms: MeasurementSet) -> str:
    """Column of the spectra furthest along in the reduction."""
    for kind in (DataType.BASELINED, *INPUT_TYPES):
        column = ms.column_of(kind)
        if column is not None:
            return column
    raise PlError(f"{ms.name} has no data that could be baselined.")


def _search_member(
    ctx: StageContext, inputs: Any, work: Work, member: Member, record: MeasurementSet, column: str,
    rows: NDArray[np.int64], given: WindowLines | None,
) -> SearchMember:  # fmt: skip
    table, index = work.tables[member.origin], work.indices[member]
    known = ctx.value(DEVIATION_MASKS, {}).get(member.origin, {}).get(key_of(member))
    correlations = ctx.context.measurement_set(member.origin).polarization_of(member.origin_spw).correlations
    wanted = np.isin(np.arange(table["row_valid"].shape[1]), chosen_polarizations(correlations, inputs.pol))
    return SearchMember(
        key=key_of(member), origin=member.origin, path=record.path, column=column, rows=rows[index],
        ra_deg=table["ofs_ra_deg"][index], dec_deg=table["ofs_dec_deg"][index],
        exposure_s=table["exposure_s"][index], tsys_k=table["tsys_k"][index], valid=table["row_valid"][index] & wanted,
        given=SpectralRanges() if given is None else _given_channels(ctx, member, given),
        deviation=None if known is None else SpectralRanges.of(known, MS),
    )  # fmt: skip


def key_of(member: Member) -> str:
    """Key of a member in values of the run: antenna, field and spw ids of the imported measurement set."""
    return f"{member.antenna}/{member.origin_field}/{int(member.origin_spw)}"


def _given_channels(ctx: StageContext, member: Member, given: WindowLines) -> SpectralRanges:
    origin = ctx.context.measurement_set(member.origin)

    def centres(window: SpectralWindow, frame: str) -> NDArray[np.float64]:
        measures = ctx.casa.tool("measures")
        try:
            convert = measures_converter(measures, origin, origin.field(member.origin_field))
            return np.asarray(convert(window.centres_hz, window.frame.name, frame))
        finally:
            measures.done()

    return given.channels(origin.spw(int(member.origin_spw)), centres)


# ---- fits ------------------------------------------------------------------------------------------------------------


def known_functions(value: str | Mapping[int, str]) -> None:
    """Raise InputError for a function, or one of a mapping by window, that baselines are not fitted with."""
    for function in value.values() if isinstance(value, Mapping) else (value,):
        if function.lower() not in KINDS:
            raise InputError(f"'{function}' is no function for baselines; use one of {', '.join(KINDS)}.")


def fit_choice(inputs: Any, spw: int) -> FitChoice:
    """What to fit in a virtual spw.

    Raises
    ------
    InputError : a sinusoid without wave numbers.
    """
    kind = KINDS[_of_window(inputs.fitfunc, spw, "cspline").lower()]
    order = _of_window(inputs.fitorder, spw, -1)
    waves = _of_window(inputs.wave_number, spw, ())
    if kind == "sinusoid" and not waves:
        raise InputError("A sinusoid needs its wave numbers: give wave_number, for example [0, 1, 2].")
    return FitChoice(
        kind=kind, order=None if order < 0 else order, switchpoly=inputs.switchpoly,
        waves=tuple(sorted({int(w) for w in waves or ()})),
    )  # fmt: skip


def _of_window(value: Any, spw: int, default: Any) -> Any:
    if isinstance(value, Mapping):
        return {int(k): v for k, v in value.items()}.get(spw, default)
    return default if value is None else value


def fit_jobs(
    ctx: StageContext, inputs: Any, work: Work, outcomes: Mapping[int, SearchOutcome],
    made: Mapping[str, MeasurementSet],
) -> list[FitJob]:  # fmt: skip
    """One job per new measurement set (``made`` by the name of its parent)."""
    jobs = []
    for parent, record in made.items():
        column = column_of_spectra(record)
        origin = origin_name(ctx, parent)
        rows = rows_in(ctx, record, np.asarray(work.tables[origin]["row"]))
        members = []
        for group in work.groups:
            outcome = outcomes[group.id]
            for number, member in enumerate(group.members):
                if member.ms == parent:
                    members.append(_fit_member(ctx, inputs, work, group, member, number, outcome, rows))
        jobs.append(
            FitJob(
                ms=origin, path=record.path, column=column, edge=inputs.edge, members=tuple(members),
                parameters=str(ctx.stage_dir / f"{record.stem}.blparam.txt"),
                table=ctx.path(parent, ext="bl.tbl"),
            )
        )  # fmt: skip
    return jobs


def _fit_member(
    ctx: StageContext, inputs: Any, work: Work, group: ReductionGroup, member: Member, number: int,
    outcome: SearchOutcome, rows: NDArray[np.int64],
) -> FitMember:  # fmt: skip
    table, index = work.tables[member.origin], work.indices[member]
    origin = ctx.context.measurement_set(member.origin)
    offsets, spans = outcome.masks[number]
    lines = SpectralRanges.of(line_spans(outcome))
    correlations = origin.polarization_of(member.origin_spw).correlations
    scalars = {"SCANNO": "scan", "BEAMNO": "feed", "ANTNO": "antenna", "TIME": "time_s"}
    keys = {name: np.asarray(table[column][index]) for name, column in scalars.items()}
    return FitMember(
        spw=int(group.spw), field=group.field_name, antenna=member.antenna_name, n_chan=group.nchan,
        rows=rows[index], raster_row=np.asarray(table["raster_row"][index], dtype=np.int64), mask_offsets=offsets,
        mask_spans=spans, ra_deg=np.asarray(table["ofs_ra_deg"][index]),
        dec_deg=np.asarray(table["ofs_dec_deg"][index]), time_s=np.asarray(table["time_s"][index]),
        keys={**keys, "IFNO": np.full(index.size, int(member.spw))},
        deviation=outcome.deviation[number], lines=lines.clipped(group.nchan), grid=outcome.grid,
        choice=fit_choice(inputs, int(group.spw)), correlations=correlations,
        pols=chosen_polarizations(correlations, inputs.pol), valid=np.asarray(table["row_valid"][index]),
        file=str(ctx.stage_dir / "spectra" / f"group{group.id}.member{number}.npz"),
    )  # fmt: skip


def line_spans(outcome: SearchOutcome) -> list[tuple[int, int]]:
    """Channels of the valid lines of a group."""
    return [
        (max(int(np.floor(line.centre - line.width / 2)), 0), max(int(np.ceil(line.centre + line.width / 2)), 0))
        for line in outcome.lines
        if line.valid
    ]
