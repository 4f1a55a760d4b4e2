"""Flag spectra by their statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_hsd.baselineplan import (
    DEVIATION_MASKS,
    INPUT_TYPES,
    check_polarizations,
    chosen_polarizations,
    column_of_spectra,
    key_of,
    numbers,
)
from pl_hsd.groups import Member, ReductionGroup, reduction_groups
from pl_hsd.heuristics.spectralstats import UNKNOWN, read_factors
from pl_hsd.k2jy import k2jy
from pl_hsd.ranges import MS, RealSpw, SpectralRanges
from pl_hsd.rowmap import rows_in
from pl_hsd.rows import RowTable, origin_name
from pl_hsd.spectrumjudging import (
    REASONS,
    JudgedMember,
    JudgeJob,
    MemberJudgement,
    PolJudgement,
    Rules,
    judge_measurement_set,
)
from pl_hsd.stages.baseline import edges_of
from pl_kernel import DataError, Inputs, PlError, Result, Stage, param
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import ItemContext, StageContext

TYPES = (DataType.BASELINED, *INPUT_TYPES)


class BlflagInputs(Inputs):
    """Which rules are used, and their thresholds in standard deviations (or times the expected noise)."""

    iteration: int = param(5, minimum=0, doc="Rounds of clipping after the first.")
    edge: tuple[int, ...] = param(
        (0, 0), check=edges_of,
        doc="Channels left out at the beginning and the end of a window; one number for both.",
    )  # fmt: skip
    flag_tsys: bool = param(True, doc="Flag by outlying system temperature.")
    tsys_thresh: float = param(3.0, minimum=0.0, doc="Threshold for the system temperature.")
    flag_prfre: bool = param(True, doc="Flag by rms before subtraction, against the expected noise.")
    prfre_thresh: float = param(6.0, minimum=0.0, doc="Multiple of the expected noise, before.")
    flag_pofre: bool = param(True, doc="Flag by rms after subtraction, against the expected noise.")
    pofre_thresh: float = param(2.6666, minimum=0.0, doc="Multiple of the expected noise, after.")
    flag_prfr: bool = param(True, doc="Flag by rms before subtraction.")
    prfr_thresh: float = param(9.0, minimum=0.0, doc="Threshold for the rms before.")
    flag_pofr: bool = param(True, doc="Flag by rms after subtraction.")
    pofr_thresh: float = param(8.0, minimum=0.0, doc="Threshold for the rms after.")
    flag_prfrm: bool = param(True, doc="Flag by deviation from the running mean, before subtraction.")
    prfrm_thresh: float = param(11.0, minimum=0.0, doc="Threshold for the deviation from the running mean, before.")
    prfrm_nmean: int = param(5, minimum=1, doc="Neighbours on each side in the running mean, before.")
    flag_pofrm: bool = param(True, doc="Flag by deviation from the running mean, after subtraction.")
    pofrm_thresh: float = param(10.0, minimum=0.0, doc="Threshold for the deviation from the running mean, after.")
    pofrm_nmean: int = param(5, minimum=1, doc="Neighbours on each side in the running mean, after.")
    plotflag: bool = param(True, doc="Draw the statistics.")
    antenna: str = param("", doc="Antennas to work on; default all.")
    field: str = param("", doc="Fields to work on, as a CASA selection; default all targets.")
    spw: str = param("", doc="Spectral windows to work on, by their number in the run; default all science windows.")
    pol: tuple[str, ...] = param((), doc="Polarizations to judge, such as XX; default all. Others keep their flags.")


class BlflagResult(Result):
    """Numbers by polarization, the files of flag commands, and whether baselines had been subtracted."""

    judged: tuple[PolJudgement, ...]
    commands: dict[str, str]
    baselined: bool
    thresholds: dict[str, float]
    plotted: bool = True


class Blflag(Stage[BlflagInputs, BlflagResult]):
    """Flag spectra by their statistics.

    Of every spectrum on the source: its rms before and after subtraction of the baseline, how much it deviates from the
    mean of its neighbours in the raster row before and after, and its system temperature. Outliers are found by
    clipping over all spectra of an antenna, window, field and polarization; the rms is also held against the noise that
    is expected from system temperature, bandwidth and time. Lines, masked channels and edges do not count.

    Without a baselined measurement set the rules for spectra after subtraction are left out. A file
    ``<measurement set>.exp_rms_factors`` beside the run's data scales the expectation.
    """

    name = "hsd_blflag"
    mutates = frozenset({"flags"})
    topic = "flagging"
    page_reads = frozenset()

    def check(self, ctx: StageContext, inputs: BlflagInputs) -> None:
        check_polarizations(ctx, inputs)

    def run(self, ctx: StageContext, inputs: BlflagInputs) -> BlflagResult:
        jobs, places = _jobs(ctx, inputs)
        answers = ctx.map(judge_measurement_set, jobs, label="judging spectra")
        orders, files = [], {}
        for job, members in zip(jobs, answers, strict=True):
            lines = [line for member in members for line in member.commands]
            files[job.ms] = _write(ctx, job, members)
            if lines:
                orders.append((job.path, lines))
        ctx.map(apply_flags, orders, label="flagging")
        baselined = all(job.after for job in jobs)
        if not baselined:
            ctx.log.attention("No baselines have been subtracted: the rules for what comes after are left out.")
        return BlflagResult(
            judged=tuple(pol for members in answers for member in members for pol in member.pols), commands=files,
            baselined=baselined, thresholds=_rules(inputs).thresholds, plotted=inputs.plotflag,
            effects=_valid_rows(ctx, jobs, answers, places),
        )  # fmt: skip


def apply_flags(ctx: ItemContext, order: tuple[str, list[str]]) -> None:
    """Apply flag commands to one measurement set."""
    path, lines = order
    ctx.casa.flagdata(vis=path, mode="list", inpfile=lines, action="apply", savepars=False, flagbackup=False)


def _rules(inputs: BlflagInputs) -> Rules:
    names = [name for name in REASONS if getattr(inputs, f"flag_{name}")]
    return Rules(
        thresholds={name: getattr(inputs, f"{name}_thresh") for name in names}, rounds=inputs.iteration,
        neighbours_before=inputs.prfrm_nmean, neighbours_after=inputs.pofrm_nmean,
    )  # fmt: skip


_Place = tuple[str, NDArray[np.int64]]


def _jobs(ctx: StageContext, inputs: BlflagInputs) -> tuple[list[JudgeJob], list[list[_Place]]]:
    """One job per measurement set; and for its members the imported set and their places in its table."""
    origins = {origin_name(ctx, ms) for ms in ctx.measurement_sets(inputs.vis)} if inputs.vis else None
    by_ms: dict[str, list[tuple[ReductionGroup, Member]]] = {}
    for group in reduction_groups(ctx, types=TYPES):
        if group.nchan == 1 or (inputs.spw and int(group.spw) not in numbers(inputs.spw, "spw")):
            continue
        for member in group.members:
            ms = ctx.context.measurement_set(member.ms)
            unwanted = (
                (origins is not None and member.origin not in origins)
                or (inputs.field and member.field not in ms.field_ids(inputs.field))
                or (inputs.antenna and member.antenna not in ms.antenna_ids(inputs.antenna))
            )
            if not unwanted:
                by_ms.setdefault(member.ms, []).append((group, member))
    jobs, places = [], []
    for name, members in by_ms.items():
        job, where = _job(ctx, inputs, ctx.context.measurement_set(name), members)
        if job.members:
            jobs.append(job)
            places.append(where)
    if not jobs:
        raise PlError("There are no spectra to be judged: the selection leaves nothing, or all of it is flagged.")
    return jobs, places


def _job(
    ctx: StageContext, inputs: BlflagInputs, ms: MeasurementSet, members: list[tuple[ReductionGroup, Member]]
) -> tuple[JudgeJob, list[_Place]]:
    origin = origin_name(ctx, ms)
    after = ms.column_of(DataType.BASELINED) is not None
    parent = ctx.context.measurement_set(ms.origin) if after else ms
    table = RowTable.open(ctx, origin)
    every = np.asarray(table["row"])
    rows = rows_in(ctx, ms, every)
    rows_before = rows_in(ctx, parent, every) if after else rows
    found, places = [], []
    for group, member in members:
        index = table.select(
            antenna=member.antenna, spw=int(member.origin_spw), field=member.origin_field, on_source=True, valid=True
        )
        index = index[rows[index] >= 0]
        if index.size:
            found.append(_member(ctx, inputs, group, member, table, index, rows, rows_before, ms, len(found)))
            places.append((origin, index))
    return (
        JudgeJob(
            ms=origin, path=ms.path, column=column_of_spectra(ms), path_before=parent.path if after else "",
            column_before=column_of_spectra(parent), after=after, edge=edges_of(inputs.edge), rules=_rules(inputs),
            members=tuple(found),
        ),
        places,
    )  # fmt: skip


def _names(ms: MeasurementSet, spw: RealSpw) -> tuple[str, ...]:
    return tuple(ms.polarization_of(spw).correlations)


def _member(
    ctx: StageContext, inputs: BlflagInputs, group: ReductionGroup, member: Member, table: RowTable,
    index: NDArray[np.int64], rows: NDArray[np.int64], rows_before: NDArray[np.int64], ms: MeasurementSet, number: int,
) -> JudgedMember:  # fmt: skip
    origin = ctx.context.measurement_set(member.origin)
    correlations = _names(origin, member.origin_spw)
    offsets, spans = table.ragged("line_mask")
    counts = np.diff(offsets)[index]
    own = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    place = np.repeat(offsets[index] - own[:-1], counts) + np.arange(counts.sum())
    masks = ctx.value(DEVIATION_MASKS, {}).get(member.origin, {}).get(key_of(member), [])
    return JudgedMember(
        spw=int(group.spw), field=group.field_name, antenna=member.antenna_name,
        selection=f"spw='{int(member.spw)}' antenna='{member.antenna_name}&&&' field='{member.field}'",
        n_chan=group.nchan, rows=rows[index], rows_before=rows_before[index],
        raster_row=np.asarray(table["raster_row"][index], dtype=np.int64), time_s=np.asarray(table["time_s"][index]),
        interval_s=np.asarray(table["interval_s"][index]), exposure_s=np.asarray(table["exposure_s"][index]),
        tsys_k=_tsys(table, index), mask_offsets=own,
        mask_spans=np.asarray(spans, dtype=np.int64)[place] if place.size else np.zeros((0, 2), dtype=np.int64),
        deviation=SpectralRanges.of(masks, MS), bandwidth_hz=_bandwidth(ctx, origin, member),
        jy_per_k=_factors(ctx, member, correlations), factors=_scales(ctx, ms), correlations=correlations,
        pols=chosen_polarizations(correlations, inputs.pol),
        file=str(ctx.stage_dir / "statistics" / f"{ms.stem}.{number}.npz"),
    )  # fmt: skip


def _tsys(table: RowTable, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """System temperatures; unknown ones before a stage that applies the calibration has learnt them."""
    values = np.asarray(table["tsys_k"][index], dtype=np.float64)
    return values if "tsys_k" in table.current else np.full(values.shape, UNKNOWN)


def _bandwidth(ctx: StageContext, ms: MeasurementSet, member: Member) -> float:
    """Mean effective bandwidth of a channel, Hz."""
    with ctx.casa.table(f"{ms.path}/SPECTRAL_WINDOW") as table:
        widths = np.abs(table.getcell("EFFECTIVE_BW", int(member.origin_spw)))
    return float(np.mean(widths)) if np.all(widths > 0) else ms.spw(int(member.origin_spw)).channel_width_hz


def _factors(ctx: StageContext, member: Member, correlations: tuple[str, ...]) -> tuple[float, ...]:
    """Jy/K by polarization; 1 for spectra in kelvin."""
    if ctx.value("hsd.unit", {}).get(member.origin, "K") != "Jy":
        return tuple(1.0 for _ in correlations)
    known = k2jy(ctx, member.origin)
    keys = [(int(member.origin_spw), member.antenna_name, name) for name in correlations]
    return tuple(float(known.get(key, 1.0)) for key in keys)


def _scales(ctx: StageContext, ms: MeasurementSet) -> dict[str, float]:
    path = Path(f"{ms.path}.exp_rms_factors")
    path = path if path.is_absolute() else ctx.work / path
    if not path.is_file():
        return {}
    try:
        return read_factors(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path.name} cannot be used: {error}.") from None


def _write(ctx: StageContext, job: JudgeJob, members: tuple[MemberJudgement, ...]) -> str:
    """Write the flag commands of a measurement set beside the stage's records; return the file's name."""
    name = f"{Path(job.path).name}.blflag.txt"
    lines = ["# spectra flagged by their statistics"]
    for member, judged in zip(job.members, members, strict=True):
        lines += [f"# {member.antenna}, spw {member.spw}, {member.field}", *judged.commands]
    (ctx.stage_dir / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def _valid_rows(
    ctx: StageContext, jobs: list[JudgeJob], answers: list[tuple[MemberJudgement, ...]], places: list[list[_Place]]
) -> tuple[Any, ...]:
    """The summary of who may be used, which also unflags what a former pass rejected and this one does not."""
    effects: list[Any] = []
    valid: dict[str, NDArray[np.bool_]] = {}
    tables: dict[str, RowTable] = {}
    for job, members, where in zip(jobs, answers, places, strict=True):
        for member, judged, (origin, index) in zip(job.members, members, where, strict=True):
            if origin not in tables:
                tables[origin] = RowTable.open(ctx, origin)
                valid[origin] = np.array(tables[origin]["row_valid"])
            chosen = np.ix_(index, member.pols)
            valid[origin][chosen] = np.asarray(tables[origin]["online_valid"])[chosen] & judged.good[:, member.pols]
    for origin, table in tables.items():
        effects += table.with_columns(ctx, {"row_valid": valid[origin]})
    return tuple(effects)

