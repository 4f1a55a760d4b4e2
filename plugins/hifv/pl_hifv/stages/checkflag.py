"""Flag interference in calibrated data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_hifv import versions
from pl_hifv.contsel import continuum
from pl_hifv.heuristics import rfi
from pl_hifv.heuristics.rfi import MODES, Mode, Pass, RfiWindow
from pl_hifv.occupancy import FlagMap, Spectrum, look, virtual_ids
from pl_hifv.selections import Part, calibrators, targets, tested
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

_COLUMNS = {"corrected": "CORRECTED_DATA", "data": "DATA"}


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
class Step:
    """One algorithm on one correlation: what was asked of CASA, and the thresholds used where there are any.

    ``lowered`` counts the windows whose threshold was pulled down to the median of their baseband.
    """

    algorithm: str
    correlation: str
    column: str
    fields: str
    thresholds: int = 0
    lowered: int = 0


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

    Passes, scales and selections of each mode: `pl_hifv.heuristics.rfi.MODES` (reference pipeline, 2026). Flags are
    saved before, as a version of the name hifv_checkflag_MODE_sN. Counts are taken before and after in every mode;
    the reference leaves them out in three modes, which then score 0 or 1 whatever happened. The spectra on the page
    come from the data themselves.
    """

    name = "hifv_checkflag"
    topic = "flagging"
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: CheckflagInputs) -> None:
        mode = MODES[inputs.checkflagmode]
        wanted = _COLUMNS[mode.column]
        for ms in ctx.measurement_sets(inputs.vis):
            with ctx.casa.table(ms.path) as table:
                columns = set(table.colnames())
            if wanted not in columns:
                raise PlError(
                    f"{ms.name} has no {wanted}, which checkflag mode '{inputs.checkflagmode}' looks at;"
                    " run a stage that applies calibration first."
                )
            if mode.needs_model and "MODEL_DATA" not in columns:
                raise PlError(f"{ms.name} has no model; make an image with savemodel='modelcolumn' before this stage.")

    def run(self, ctx: StageContext, inputs: CheckflagInputs) -> CheckflagResult:
        mode = MODES[inputs.checkflagmode]
        sets, empty, found = [], [], {}
        for ms in ctx.measurement_sets(inputs.vis):
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


def _part(ms: MeasurementSet, mode: Mode) -> Part:
    if mode.data == "target":
        return targets(ms)
    if mode.data == "all_calibrators":
        return calibrators(ms)
    return tested(ms) if mode.data == "bandpass" else calibrators(ms).without(tested(ms)).present(ms)


def _check(
    ctx: StageContext, ms: MeasurementSet, mode: Mode, part: Part, inputs: CheckflagInputs, version: str
) -> Checked:
    column = _COLUMNS[mode.column]
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
    for count, (fields, spw) in enumerate(jobs, 1):
        worker = _Flagger(ctx, ms, mode, part.only(ms, fields), spw, _growable(ctx, ms, before))
        steps += worker.run(grow=_grows(inputs))
        ctx.progress(count, len(jobs), ms.name)
    after, left = look(ctx, ms, fields=part.fields, scans=part.scans, column=column)
    return Checked(
        vis=ms.name, fields=[ms.field(f).name for f in part.fields], scans=part.scans, steps=steps, before=before,
        after=after, spectra_before=seen, spectra_after=left, version=version,
        contdat=[ms.field(f).name for f in chosen],
    )  # fmt: skip


def _growable(ctx: StageContext, ms: MeasurementSet, before: FlagMap) -> str:
    """The channels that hold any data, as a selection: edges flagged on purpose are no interference to grow around."""
    virtual = virtual_ids(ctx, ms)
    parts = []
    for window in ms.science_spws:
        flagged = before.channels.get(str(virtual[int(window.id)]), ())
        runs = _runs([i for i, f in enumerate(flagged) if f < 1.0])
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


class _Flagger:
    """The passes of a mode on one selection of fields that are judged alike."""

    def __init__(
        self, ctx: StageContext, ms: MeasurementSet, mode: Mode, part: Part, spw: str, growable: str
    ) -> None:
        self.ctx, self.ms, self.mode, self.part, self.growable = ctx, ms, mode, part, growable
        self.selection = {
            "field": ",".join(str(f) for f in part.fields), "scan": ",".join(str(s) for s in part.scans), "spw": spw,
        }  # fmt: skip
        self.windows = {
            int(w.id): RfiWindow(
                id=int(w.id), group=f"{w.band} {_baseband(w.name, w.baseband)}", band=w.band, centre_hz=w.centre_hz,
                channel_hz=w.channel_width_hz,
            )
            for w in ms.science_spws
        }  # fmt: skip
        names: dict[str, None] = {}
        for w in ms.science_spws:
            names.update(dict.fromkeys(ms.polarization_of(w.id).correlations))
        self.correlations = tuple(names)

    def run(self, grow: bool) -> list[Step]:
        """All passes, each followed by an extension to the other correlations, and the growth at the end."""
        residual = self._has_model()
        steps: list[Step] = []
        for one in self.mode.passes:
            steps += self._rflag(one, residual) if one.algorithm == "rflag" else self._tfcrop(one)
        if self.mode.simple_last:
            steps += self._simple()
        if grow and self.mode.grow is not None:
            neartime, nearfreq = self.mode.grow
            self._apply(
                ["mode='extend' growtime=100.0 growfreq=100.0 growaround=True extendpols=True ntime='scan'"
                 f" flagneartime={neartime} flagnearfreq={nearfreq}"],
                self.growable,
            )  # fmt: skip
        return steps

    def _rflag(self, one: Pass, has_model: bool) -> list[Step]:
        residual = one.residual and has_model
        column = f"residual_{self.mode.column}" if residual and self.mode.column == "data" else self.mode.column
        column = "residual" if residual and self.mode.column == "corrected" else column
        kind = "REAL" if residual and one.hands == rfi.PARALLEL else "ABS"
        commands, steps = [], []
        for correlation in rfi.hands(self.correlations, one.hands):
            base = {
                "correlation": f"{kind}_{correlation}", "datacolumn": column, "ntime": "scan", "combinescans": False,
                "winsize": 3, "timedevscale": one.scale[0], "freqdevscale": one.scale[1], "extendflags": False,
            }  # fmt: skip
            extra: dict[str, Any] = {}
            lowered = 0
            if self.mode.adjust:
                report = self.ctx.casa.flagdata(
                    vis=self.ms.path, mode="rflag", action="calculate", flagbackup=False, savepars=False,
                    **self.selection, **base,
                )  # fmt: skip
                found = (report or {}).get("report0") or {}
                if not found:
                    continue  # nothing in this correlation that is not flagged already
                for name in ("timedev", "freqdev"):
                    measured = np.atleast_2d(np.array(found[name], dtype=float)).tolist()
                    used = rfi.pulled_down(measured, self.windows, self.mode.use_sefd)
                    lowered += sum(u[2] < m[2] for u, m in zip(used, measured, strict=True))
                    extra[name] = used
            commands.append(_command("rflag", {**base, **extra}))
            steps.append(
                Step(
                    algorithm="rflag", correlation=f"{kind}_{correlation}", column=column,
                    fields=self.selection["field"], thresholds=len(extra.get("timedev", ())), lowered=lowered,
                )
            )  # fmt: skip
        return self._applied(commands, steps)

    def _tfcrop(self, one: Pass) -> list[Step]:
        longest = max((v for s in self.ms.scans for v in s.interval_s.values()), default=1.0)
        commands, steps = [], []
        for correlation in rfi.hands(self.correlations, one.hands):
            arguments = {
                "correlation": f"ABS_{correlation}", "datacolumn": self.mode.column, "ntime": longest,
                "combinescans": False, "timecutoff": one.scale[0], "freqcutoff": one.scale[1], "freqfit": "line",
                "flagdimension": "freq", "extendflags": False,
            }  # fmt: skip
            commands.append(_command("tfcrop", arguments))
            steps.append(
                Step(
                    algorithm="tfcrop", correlation=f"ABS_{correlation}", column=self.mode.column,
                    fields=self.selection["field"],
                )
            )  # fmt: skip
        return self._applied(commands, steps)

    def _simple(self) -> list[Step]:
        parallel = rfi.hands(self.correlations, rfi.PARALLEL)
        arguments = {
            "correlation": f"ABS_{','.join(parallel)}", "datacolumn": self.mode.column, "ntime": "scan",
            "combinescans": False, "winsize": 3, "timedevscale": 4.0, "freqdevscale": 4.0, "extendflags": False,
        }  # fmt: skip
        self._apply([_command("rflag", arguments)])
        return [
            Step(
                algorithm="rflag", correlation=str(arguments["correlation"]), column=self.mode.column,
                fields=self.selection["field"],
            )
        ]  # fmt: skip

    def _applied(self, commands: Sequence[str], steps: list[Step]) -> list[Step]:
        if commands:
            grow = self.mode.extend
            extend = [] if grow is None else [
                f"mode='extend' ntime='scan' combinescans=False extendpols=True growtime={grow[0]} growfreq={grow[1]}"
            ]  # fmt: skip
            self._apply([*commands, *extend])
        return steps

    def _apply(self, commands: Sequence[str], spw: str = "") -> None:
        # One reading of the data serves a whole list of commands.
        chosen = {**self.selection, "spw": spw or self.selection["spw"]}
        where = " ".join(f"{k}='{v}'" for k, v in chosen.items() if v)
        self.ctx.casa.flagdata(
            vis=self.ms.path, mode="list", inpfile=[f"{c} {where}" for c in commands], action="apply",
            flagbackup=False, savepars=False,
        )  # fmt: skip

    def _has_model(self) -> bool:
        """Whether every field of the selection has a model other than the default of 1 Jy."""
        if not any(p.residual for p in self.mode.passes):
            return False
        with self.ctx.casa.table(self.ms.path) as table:
            if "MODEL_DATA" not in table.colnames():
                return False
        if self.mode.data == "calibrators" and any(
            "BANDPASS" in self.ms.field(f).intents for f in self.part.fields
        ):  # fmt: skip
            return False
        return all(_modelled(self.ctx, self.ms, f, self.part.scans) for f in self.part.fields)


def _modelled(ctx: StageContext, ms: MeasurementSet, field: int, scans: Iterable[int]) -> bool:
    for piece in pieces(ctx, ms, ["MODEL_DATA"], [field], ms.science_spw_ids, scans, rows=200):
        model = piece.columns["MODEL_DATA"]
        if model.size and not np.allclose(model[[0, -1]], 1.0, atol=1e-6) and np.any(model[[0, -1]] != 0):
            return True
    return False


def _command(mode: str, arguments: Mapping[str, Any]) -> str:
    parts = [f"mode='{mode}'"]
    for name, value in arguments.items():
        text = repr(value).replace(" ", "")  # the list format splits at blanks
        parts.append(f"{name}={text}")
    return " ".join(parts)


def _baseband(name: str, number: int) -> str:
    parts = name.split("#")
    return parts[1] if len(parts) > 2 else (name or str(number))
