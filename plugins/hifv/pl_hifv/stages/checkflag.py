"""Flag interference in calibrated data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from pl_hifv.bursts import Burst
from pl_hifv.calibrators import state_of
from pl_hifv.contsel import continuum
from pl_hifv.flagger import COLUMNS, Flagger, Step
from pl_hifv.heuristics.rfi import MODES, Mode, growable, has_sefd
from pl_hifv.occupancy import FlagMap, Spectrum, look, virtual_ids
from pl_hifv.phases import PhaseJump
from pl_hifv.selections import Part, calibrators, targets, tested
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.common import flagversions as versions
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class CheckflagInputs(Inputs):
    checkflagmode: str = param(
        "", choices=tuple(MODES),
        doc="Which data, and how: bpd-vla (bandpass and delay calibrators), allcals-vla (other calibrators),"
        " target-vla (targets); the older and the sky survey's modes by their names.",
    )  # fmt: skip
    growflags: bool | None = param(
        None, doc="Grow flags around flagged regions at the end; default: in all modes but '' and semi."
    )
    overwrite_modelcol: bool = param(False, doc="Make the model column anew, for vlass-imaging.", hidden=True)
    usecontdat: bool = param(True, doc="Flag targets only in their continuum channels, where cont.dat names them.")


@attrs.frozen(kw_only=True)
class Checked:
    """What was done to one measurement set. ``version`` is the name under which the flags were saved before."""

    vis: str
    fields: tuple[str, ...] = attrs.field(converter=tuple)
    scans: tuple[int, ...] = attrs.field(converter=tuple)
    steps: tuple[Step, ...] = attrs.field(converter=tuple)
    before: FlagMap
    after: FlagMap
    spectra_before: tuple[Spectrum, ...] = attrs.field(default=(), converter=tuple)
    spectra_after: tuple[Spectrum, ...] = attrs.field(default=(), converter=tuple)
    version: str = ""
    contdat: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    jumps: tuple[PhaseJump, ...] = attrs.field(default=(), converter=tuple)
    bursts: tuple[Burst, ...] = attrs.field(default=(), converter=tuple)

    @property
    def newly(self) -> float:
        """Part of the selected data that this stage flagged."""
        return max(0.0, self.after.fraction - self.before.fraction)


class CheckflagResult(Result):
    """Flags before and after for every measurement set that had data for the mode; ``empty`` names the others."""

    mode: str
    sets: tuple[Checked, ...]
    empty: tuple[str, ...] = ()


class Checkflag(Stage[CheckflagInputs, CheckflagResult]):
    """Flag interference in calibrated data.

    CASA's rflag looks at the scatter of each correlation against time and frequency, with thresholds that are
    calculated first; a window full of interference, whose own scatter would hide it, is held to the median of its
    baseband. Then tfcrop looks for what stands out of a smooth spectrum, and flags grow around what was found. Where
    a real model exists (MODEL_DATA other than the default of 1 Jy) the parallel hands are judged on the residual. A
    hit in one correlation flags all four: cross hands see interference first.

    Mode target-vla also looks for what amplitudes cannot show: steps of an antenna's phase within a scan, which no
    calibrator removes (`pl_hifv.heuristics.phasejump`; the reference does not look). It begins with integrations in
    which the whole array sees more than before and after (`pl_hifv.heuristics.bursts`), so that rflag's sliding windows
    find nothing to take their neighbours for. Flags do not grow where smoothing already has grown the interference.

    Passes, scales and selections of each mode: `pl_hifv.heuristics.rfi.MODES` (reference pipeline, 2026). Flags are
    saved before, as a version of the name hifv_checkflag_MODE_sN. Counts are taken before and after in every mode;
    the reference leaves them out in three modes, which then score 0 or 1 whatever happened. The spectra on the page
    come from the data themselves.
    """

    name = "hifv_checkflag"
    page_reads = frozenset()
    topic = "flagging"
    each_set = True
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: CheckflagInputs) -> None:
        mode = MODES[inputs.checkflagmode]
        wanted = COLUMNS[mode.column]
        for ms in self.sets(ctx, inputs):
            with ctx.casa.table(ms.path) as table:
                columns = set(table.colnames())
            if wanted not in columns:
                raise PlError(
                    f"{ms.name} has no {wanted}, which checkflag mode '{inputs.checkflagmode}' looks at;"
                    " run a stage that applies calibration first."
                )
            if mode.needs_model and "MODEL_DATA" not in columns:
                raise PlError(f"{ms.name} has no model; make an image with savemodel='modelcolumn' before this stage.")

    def sets(self, ctx: StageContext, inputs: CheckflagInputs) -> tuple[MeasurementSet, ...]:
        return whole_observations(ctx, inputs.vis)

    def run(self, ctx: StageContext, inputs: CheckflagInputs) -> CheckflagResult:
        mode = MODES[inputs.checkflagmode]
        sets, empty, found = [], [], {}
        for ms in self.sets(ctx, inputs):
            part = _part(ms, mode)
            if not part.scans or not part.fields:
                ctx.log.attention(f"{ms.name} has no data for checkflag mode '{inputs.checkflagmode}'.")
                empty.append(ms.name)
                continue
            label = inputs.checkflagmode or "default"
            version = versions.save(
                ctx, ms, f"hifv_checkflag_{label}_s{ctx.stage_number}", "flags before interference was looked for"
            )
            if mode.data == "target":
                found[ms.name] = {"target": version}
            sets.append(_check(ctx, ms, mode, part, inputs, version))
        return CheckflagResult(
            mode=inputs.checkflagmode, sets=tuple(sets), empty=tuple(empty),
            effects=(versions.remember(ctx, found),) if found else (),
        )  # fmt: skip


def whole_observations(ctx: StageContext, vis: tuple[str, ...] | None) -> tuple[MeasurementSet, ...]:
    """Whole observations, calibrated if any is: not the targets split off from them."""
    types = (DataType.REGCAL_CONTLINE_ALL, DataType.RAW)
    return ctx.measurement_sets(vis, types=types) or ctx.measurement_sets(vis)


def _part(ms: MeasurementSet, mode: Mode) -> Part:
    if mode.data == "target":
        return targets(ms)
    if mode.data == "all_calibrators":
        return calibrators(ms)
    return tested(ms) if mode.data == "bandpass" else calibrators(ms).without(tested(ms)).present(ms)


def _check(
    ctx: StageContext, ms: MeasurementSet, mode: Mode, part: Part, inputs: CheckflagInputs, version: str
) -> Checked:
    column = COLUMNS[mode.column]
    unknown = sorted({w.band or "unknown" for w in ms.science_spws if not has_sefd(w.band)})
    if unknown and mode.adjust and mode.use_sefd:
        ctx.log.warning(
            f"{ms.name}: the sensitivity of {', '.join(unknown)} band is not known; thresholds take it as constant."
        )
    before, seen = look(ctx, ms, fields=part.fields, scans=part.scans, column=column)
    chosen = continuum(ctx, ms) if mode.data == "target" and inputs.usecontdat else {}
    chosen = {f: s for f, s in chosen.items() if f in part.fields}
    rest = tuple(f for f in part.fields if f not in chosen)
    jobs: list[tuple[tuple[int, ...], str]] = [((f,), spw) for f, spw in chosen.items()]
    if mode.data == "calibrators" and mode.use_sefd:
        jobs += [((f,), ms.science_spw_selection) for f in rest]  # each has a model of its own, or none
    elif rest:
        jobs.append((rest, ms.science_spw_selection))
    steps: list[Step] = []
    found: list[PhaseJump] = []
    lost = {hand.spw: hand.antennas for hand in state_of(ctx, ms.origin or ms).lost_hands}
    grows = partial(_growable, ctx, ms, part, before)
    heard: list[Burst] = []
    for count, (fields, spw) in enumerate(jobs, 1):
        worker = Flagger(ctx, ms, mode, part.only(ms, fields), spw, grows, lost)
        if mode.simple_last:
            heard += worker.bursts()
        steps += worker.run(grow=_grows(inputs))
        if mode.simple_last:
            found += worker.jumps()
        ctx.progress(count, len(jobs), ms.name)
    after, left = look(ctx, ms, fields=part.fields, scans=part.scans, column=column)
    return Checked(
        vis=ms.name, fields=[ms.field(f).name for f in part.fields], scans=part.scans, steps=steps, before=before,
        after=after, spectra_before=seen, spectra_after=left, version=version,
        contdat=[ms.field(f).name for f in chosen], jumps=found, bursts=heard,
    )  # fmt: skip


def _growable(ctx: StageContext, ms: MeasurementSet, part: Part, before: FlagMap) -> str:
    """The channels in which flags grow, as a selection (`pl_hifv.heuristics.rfi.growable`)."""
    virtual = virtual_ids(ctx, ms)
    now, _ = look(ctx, ms, fields=part.fields, scans=part.scans)
    smoothed = (ctx.value("hifv.smoothed") or {}).get(ms.name, ())
    parts = []
    for window in ms.science_spws:
        name = str(virtual[int(window.id)])
        runs = _runs(
            growable(before.channels.get(name, ()), now.channels.get(name, ()), int(window.id) in smoothed)
        )  # fmt: skip
        if runs:
            parts.append(f"{window.id}:" + ";".join(f"{a}~{b}" for a, b in runs))
    return ",".join(parts)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], n)
        else:
            runs.append((n, n))
    return runs


def _grows(inputs: CheckflagInputs) -> bool:
    return inputs.checkflagmode not in ("", "semi") if inputs.growflags is None else inputs.growflags
