"""Find spectral lines and subtract baselines beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.baselineplan import (
    DEVIATION_MASKS,
    INPUT_TYPES,
    Work,
    check_polarizations,
    fit_choice,
    fit_jobs,
    known_functions,
    line_spans,
    plan_work,
    search_jobs,
)
from pl_hsd.baselining import FitJob, PolFit, fit_measurement_set
from pl_hsd.groups import ITERATION, iteration
from pl_hsd.linesearch import LineRange, SearchJob, SearchOutcome, search_group
from pl_hsd.linewindow import parse_linewindow
from pl_hsd.ranges import SpectralRanges
from pl_hsd.rows import origin_name
from pl_hsd.transmission import sky_lines, write_transmissions
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.effects import AddMeasurementSet, Effect, RemoveMeasurementSet, SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.reader import read_measurement_set
from pl_kernel.stage_context import ItemContext, StageContext

ON_SOURCE = "OBSERVE_TARGET#ON_SOURCE*"
BASELINE_TABLES = "hsd.baseline_tables"


def edges_of(value: Any) -> tuple[int, int]:
    """Channels at both ends from one number or two.  Raises InputError for anything else."""
    pair = (value, value) if isinstance(value, (int, float, str)) else tuple(value)
    if len(pair) == 1:
        pair = (pair[0], pair[0])
    try:
        low, high = (int(v) for v in pair)
    except (TypeError, ValueError):
        raise InputError(f"edge takes one number of channels or two, not {value!r}.") from None
    if low < 0 or high < 0:
        raise InputError(f"edge takes numbers of channels from 0 on, not {value!r}.")
    return low, high


class BaselineInputs(Inputs):
    """How baselines are fitted, and what is known of lines."""

    fitfunc: str | dict[int, str] = param(
        "cspline", check=known_functions,
        doc="Function: cspline (or spline), poly (or polynomial), sinusoid; or a mapping by spw.",
    )  # fmt: skip
    fitorder: int | dict[int, int] = param(
        -1, doc="Order of the polynomial, or of the spline before its pieces are counted; negative: found from the "
        "spectra of each raster row. A mapping gives it by spw. 0 is a constant."
    )  # fmt: skip
    switchpoly: bool = param(True, doc="Fit a low polynomial where a line mask covers an end of the band.")
    linewindow: Any = param(
        (), check=parse_linewindow,
        doc="Where lines are: [300, 500] (channels), the same in Hz or as [\"230.1GHz\", \"230.2GHz\"] (LSRK), a "
        "mapping {spw: window or None}, or a selection such as 17:30~50;300~500 (frame of the data).",
    )  # fmt: skip
    linewindowmode: str = param(
        "replace", choices=("replace", "merge"), doc="Whether linewindow replaces the search for lines or adds to it."
    )
    edge: tuple[int, ...] = param(
        (0, 0), check=edges_of,
        doc="Channels left out at the beginning and the end of a window; one number for both.",
    )  # fmt: skip
    broadline: bool = param(True, hidden=True, doc="Accepted for old scripts; it has no effect.")
    wave_number: dict[int, tuple[int, ...]] | tuple[int, ...] | None = param(
        None, doc="Numbers of waves over the window, for a sinusoid; or a mapping by spw."
    )
    clusteringalgorithm: str = param(
        "hierarchy", choices=("hierarchy", "kmean", "both"), doc="How detections are grouped into lines."
    )
    deviationmask: bool = param(True, doc="Mask channels that scatter more than others from spectrum to spectrum.")
    deviationmask_sigma_threshold: float = param(
        5.0, doc="Standard deviations above the typical scatter from which a channel is masked.", minimum=0.0
    )
    field: str = param("", doc="Fields to work on, as a CASA selection; default all targets.")
    antenna: str = param("", doc="Antennas to work on; default all.")
    spw: str = param("", doc="Spectral windows to work on, by their number in the run; default all science windows.")
    pol: tuple[str, ...] = param(
        (), doc="Polarizations to work on, such as XX; default all. Others are flagged in the new measurement set."
    )

    def check_together(self) -> None:
        """Raise InputError for a sinusoid without wave numbers."""
        named = [self.fitfunc, self.fitorder, self.wave_number]
        spws = {spw for value in named if isinstance(value, dict) for spw in value}
        for spw in sorted(spws) or [0]:
            fit_choice(self, spw)


@attrs.frozen(kw_only=True)
class GroupLines:
    """Lines of one reduction group.

    spw : number in the run.  edge : channels at the ends without data or left out.  lines in channels of the
    measurement set; ``image_ranges`` are those of valid lines in channels of an image (ascending frequency, no edges).
    """

    id: int
    spw: int
    spw_name: str
    field: str
    nchan: int
    is_reversed: bool
    freq_min_hz: float
    freq_max_hz: float
    members: tuple[str, ...]
    vis: tuple[str, ...]
    edge: tuple[int, int]
    lines: tuple[LineRange, ...]
    image_ranges: str
    detections: int
    searched: bool
    file: str


@attrs.frozen(kw_only=True)
class DeviationMask:
    """Channels of one member that scatter too much; ``overlaps`` a line, the atmosphere or nothing, by range."""

    vis: str
    antenna: str
    field: str
    spw: int
    spans: tuple[tuple[int, int], ...]
    overlaps: tuple[str, ...]


class BaselineResult(Result):
    """Lines and fits; measurement sets and baseline tables by the name of what they were made from.

    air : files of the transmission of the atmosphere by window (number in the run).
    """

    iteration: int
    groups: tuple[GroupLines, ...]
    deviation: tuple[DeviationMask, ...]
    fits: tuple[PolFit, ...]
    outputs: dict[str, str]
    tables: dict[str, str]
    parameters: dict[str, str]
    units: dict[str, str]
    masks_unchanged: float | None = None
    air: dict[str, str] = attrs.field(factory=dict)


class Baseline(Stage[BaselineInputs, BaselineResult]):
    """Find spectral lines and subtract baselines beside them.

    The spectra of a reduction group (one window and field, all antennas and execution blocks) are averaged on a grid of
    beams, three averages per position. Lines must be found in all three, form a cluster in width and position in the
    band, and repeat among neighbours on the sky. Their edges are fitted as surfaces over the map, so that every
    spectrum has the mask of its own position. Channels that scatter more than others are masked, too.

    Each raster row gets the flexibility that its Fourier spectrum asks for; cubic splines, polynomials or sinusoids are
    fitted to each spectrum with one round of clipping, and subtracted. The functions are those of CASA's sdbaseline:
    the parameter file and the baseline table that this stage leaves repeat the subtraction with that task. Later stages
    take the new measurement set; a repeated stage looks for lines in the spectra baselined before, starts from
    the calibrated data again, and replaces it.
    """

    name = "hsd_baseline"
    topic = "misc"
    page_reads = frozenset()

    def check(self, ctx: StageContext, inputs: BaselineInputs) -> None:
        parse_linewindow(inputs.linewindow)
        edge = edges_of(inputs.edge)
        check_polarizations(ctx, inputs)
        for group in plan_work(ctx, attrs.evolve(inputs, edge=edge)).groups:
            fit_choice(inputs, int(group.spw))
            if sum(edge) >= group.nchan:
                raise InputError(f"edge {list(edge)} leaves nothing of the {group.nchan} channels of spw {group.spw}.")

    def run(self, ctx: StageContext, inputs: BaselineInputs) -> BaselineResult:
        inputs = attrs.evolve(inputs, edge=edges_of(inputs.edge))
        work = plan_work(ctx, inputs)
        jobs = search_jobs(ctx, inputs, work, parse_linewindow(inputs.linewindow))
        found = ctx.map(search_group, jobs, label="looking for lines")
        outcomes: dict[int, SearchOutcome] = {outcome.group: outcome for outcome in found}
        made = self._copies(ctx, work)
        fits_todo = fit_jobs(ctx, inputs, work, outcomes, made)
        for job in fits_todo:
            ctx.files.rmtree(job.table)
        fits = [fit for part in ctx.map(fit_measurement_set, fits_todo, label="fitting baselines") for fit in part]
        if not any(fit.spectra for fit in fits):
            raise PlError("No spectrum has enough channels beside its lines and flags for a baseline.")
        for job, (parent, record) in zip(fits_todo, made.items(), strict=True):
            _repeatable(ctx, job, record)
            ctx.log.info(f"{parent}: baselines subtracted in {record.name}.")
        groups = tuple(_group_lines(ctx, work, job, outcomes[job.group], inputs.edge) for job in jobs)
        masks, unchanged = _mask_effects(ctx, work, outcomes)
        return BaselineResult(
            iteration=iteration(ctx) + 1, groups=groups, deviation=_deviation(ctx, work, jobs, outcomes),
            fits=tuple(fits), outputs={p: m.name for p, m in made.items()},
            tables={p: j.table for p, j in zip(made, fits_todo, strict=True)},
            parameters={p: Path(j.parameters).name for p, j in zip(made, fits_todo, strict=True)},
            units={origin_name(ctx, p): str(ctx.value("hsd.unit", {}).get(origin_name(ctx, p), "K")) for p in made},
            masks_unchanged=unchanged, air=write_transmissions(ctx, work.groups),
            effects=(*_effects(ctx, work, inputs, jobs, outcomes, made, fits_todo), *masks),
        )  # fmt: skip

    def _copies(self, ctx: StageContext, work: Work) -> dict[str, MeasurementSet]:
        """New measurement sets with the spectra on the source, by the name of their parents."""
        parents = [ctx.context.measurement_set(name) for name in work.parents]
        number = iteration(ctx) + 1
        names = [f"{ms.name}_bl" + (str(number) if number > 1 else "") for ms in parents]
        orders = []
        for ms, name in zip(parents, names, strict=True):
            members = [m for g in work.groups for m in g.members if m.ms == ms.name]
            kind = next(k for k in INPUT_TYPES if ms.column_of(k) is not None)
            ctx.files.rmtree(name)
            orders.append(
                (ms.path, name, ms.column_of(kind), ",".join(str(s) for s in sorted({int(m.spw) for m in members})),
                 ",".join(str(f) for f in sorted({m.field for m in members})),
                 ";".join(f"{a}&&&" for a in sorted({m.antenna_name for m in members})))
            )  # fmt: skip
        ctx.map(copy_spectra, orders, label="copying spectra")
        made = {}
        for ms, name in zip(parents, names, strict=True):
            record = read_measurement_set(
                ctx.work / name, ctx.telescopes, name=name, session=ms.session, relative_to=ctx.work,
                open_table=ctx.casa.table,
            )  # fmt: skip
            if ms.intents_from == "rules":
                record = record.with_intents({f.id: ms.field(f.id).intents for f in record.fields})
            column = "FLOAT_DATA" if "FLOAT_DATA" in record.columns else "DATA"
            record = attrs.evolve(record, data_types=(), origin=ms.name)
            made[ms.name] = record.with_data_type(DataType.BASELINED, column, overwrite=True)
        return made


def copy_spectra(ctx: ItemContext, order: tuple[str, str, str, str, str, str]) -> None:
    """Copy the spectra on the source: path, new name, column, spws, fields, antennas."""
    path, name, column, spw, field, antenna = order
    words = {"CORRECTED_DATA": "corrected", "DATA": "data", "FLOAT_DATA": "float_data"}
    ctx.casa.mstransform(
        vis=path, outputvis=name, datacolumn=words[column], spw=spw, field=field, antenna=antenna, intent=ON_SOURCE,
        reindex=False,
    )  # fmt: skip
    if not Path(name).is_dir():
        raise PlError(f"CASA copied no spectra on the source from {path}; its log says why.")


def _repeatable(ctx: StageContext, job: FitJob, record: MeasurementSet) -> None:
    """Write down how CASA alone does the same: the parameter file holds every spectrum's function and channels."""
    fitted = f"{record.name}.fitted"
    column = "float_data" if job.column == "FLOAT_DATA" else "data"
    ctx.casa.record(
        "sdbaseline", infile=record.path, datacolumn=column, outfile=fitted, blmode="fit", dosubtract=True,
        blformat="", blfunc="variable", blparam=job.parameters, updateweight=True, reindex=False, overwrite=True,
    )  # fmt: skip
    ctx.files.record("rmtree", record.path)
    ctx.files.record("move", fitted, record.path)


def _group_lines(
    ctx: StageContext, work: Work, job: SearchJob, outcome: SearchOutcome, edge: tuple[int, int]
) -> GroupLines:
    group = next(g for g in work.groups if g.id == job.group)
    window = ctx.context.measurement_set(group.members[0].origin).spw(int(group.members[0].origin_spw))
    outer = max(edge[0], outcome.flagged_edges[0]), max(edge[1], outcome.flagged_edges[1])
    ranges = SpectralRanges.of(line_spans(outcome)).clipped(group.nchan)
    return GroupLines(
        id=group.id, spw=int(group.spw), spw_name=group.spw_name, field=group.field_name, nchan=group.nchan,
        is_reversed=window.is_reversed, freq_min_hz=group.freq_min_hz, freq_max_hz=group.freq_max_hz,
        members=tuple(dict.fromkeys(m.antenna_name for m in group.members)),
        vis=tuple(dict.fromkeys(m.origin for m in group.members)), edge=outer, lines=outcome.lines,
        image_ranges=ranges.to_image(group.nchan, outer, window.is_reversed).to_text(),
        detections=outcome.n_detections, searched=job.detect, file=f"search/{Path(job.file).name}",
    )  # fmt: skip


def _deviation(
    ctx: StageContext, work: Work, jobs: list[SearchJob], outcomes: dict[int, SearchOutcome]
) -> tuple[DeviationMask, ...]:
    found = []
    for job in jobs:
        group = next(g for g in work.groups if g.id == job.group)
        lines = SpectralRanges.of(line_spans(outcomes[group.id])).clipped(group.nchan)
        for member, ranges in zip(group.members, outcomes[group.id].deviation, strict=True):
            if not ranges:
                continue
            sky = sky_lines(ctx, ctx.context.measurement_set(member.origin), member.origin_spw)
            spans = tuple((int(a), int(b)) for a, b in ranges.spans)
            overlaps = tuple(
                "line" if lines.overlaps(SpectralRanges.of([s])) else
                "atmosphere" if sky.overlaps(SpectralRanges.of([s])) else ""
                for s in spans
            )  # fmt: skip
            found.append(
                DeviationMask(
                    vis=member.origin, antenna=member.antenna_name, field=group.field_name, spw=int(group.spw),
                    spans=spans, overlaps=overlaps,
                )
            )  # fmt: skip
    return tuple(found)


def _mask_effects(
    ctx: StageContext, work: Work, outcomes: dict[int, SearchOutcome]
) -> tuple[list[Effect], float | None]:
    """The masks of all rows as a column of the tables, and the share of masked rows whose mask is that of last time."""
    effects: list[Effect] = []
    same = total = 0
    for origin, table in work.tables.items():
        old_offsets, old_spans = table.ragged("line_mask")
        parts = []
        counts = np.zeros(table.n, dtype=np.int64)
        for group in work.groups:
            for number, member in enumerate(group.members):
                if member.origin == origin:
                    offsets, spans = outcomes[group.id].masks[number]
                    index = work.indices[member]
                    counts[index] = np.diff(offsets)
                    parts.append((np.repeat(index, np.diff(offsets)), spans))
        row = np.concatenate([p[0] for p in parts]) if parts else np.zeros(0, dtype=np.int64)
        spans = np.concatenate([p[1] for p in parts]) if parts else np.zeros((0, 2), dtype=np.int64)
        order = np.argsort(row, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(counts)])
        spans = spans[order]
        total += table.n
        same += _unchanged(old_offsets, old_spans, offsets, spans)
        effects += table.with_ragged(ctx, "line_mask", offsets, spans)
    return effects, same / total if total and iteration(ctx) else None


def _unchanged(old_offsets: Any, old_spans: Any, offsets: Any, spans: Any) -> int:
    """Number of rows with the same spans as before."""
    same = np.diff(old_offsets) == np.diff(offsets)
    rows = np.flatnonzero(same & (np.diff(offsets) > 0))
    for row in np.unique(rows):
        old = old_spans[old_offsets[row] : old_offsets[row + 1]]
        same[row] = np.array_equal(old, spans[offsets[row] : offsets[row + 1]])
    return int(same.sum())


def _effects(
    ctx: StageContext, work: Work, inputs: BaselineInputs, jobs: list[SearchJob], outcomes: dict[int, SearchOutcome],
    made: dict[str, MeasurementSet], fits: list[FitJob],
) -> list[Effect]:  # fmt: skip
    effects: list[Effect] = []
    for parent, record in made.items():
        effects += [
            RemoveMeasurementSet(ms.name)
            for ms in ctx.context.measurement_sets
            if ms.origin == parent and ms.column_of(DataType.BASELINED) is not None
        ]
        effects.append(AddMeasurementSet(record))
    masks = {name: dict(values) for name, values in ctx.value(DEVIATION_MASKS, {}).items()}
    ranges = {g.key: [attrs.asdict(line) for line in outcomes[g.id].lines] for g in work.groups}
    for job in jobs:
        for member, mask in zip(job.members, outcomes[job.group].deviation, strict=True):
            masks.setdefault(member.origin, {})[member.key] = [[int(a), int(b)] for a, b in mask.spans]
    tables = dict(ctx.value(BASELINE_TABLES, {}))
    for job, (parent, record) in zip(fits, made.items(), strict=True):
        spws = sorted({int(m.spw) for g in work.groups for m in g.members if m.ms == parent})
        column = ctx.context.measurement_set(parent).column_of(
            next(k for k in INPUT_TYPES if ctx.context.measurement_set(parent).column_of(k) is not None)
        )
        tables[parent] = {
            "table": job.table, "spw": ",".join(map(str, spws)), "outfile": record.name,
            "datacolumn": {"CORRECTED_DATA": "corrected", "FLOAT_DATA": "float_data"}.get(str(column), "data"),
        }  # fmt: skip
    return [
        *effects, SetValue(ITERATION, iteration(ctx) + 1), SetValue("hsd.edge", list(inputs.edge)),
        SetValue(DEVIATION_MASKS, masks), SetValue("hsd.line_ranges", {**ctx.value("hsd.line_ranges", {}), **ranges}),
        SetValue(BASELINE_TABLES, tables),
    ]  # fmt: skip
