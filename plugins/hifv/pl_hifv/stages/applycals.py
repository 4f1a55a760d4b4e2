"""Apply all calibration to the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from pl_hifv.heuristics import gainmap
from pl_hifv.occupancy import FlagMap, look
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.calibration import CalFrom, MergedCal
from pl_kernel.common import flagversions as versions
from pl_kernel.common.applying import Applied, facts
from pl_kernel.effects import Effect, MarkApplied, ReplaceMeasurementSet
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

_MAPPED = ("finalampgaincal", "finalphasegaincal")
"""Tables that follow the phase calibrators next to each group of target scans."""


class ApplycalsInputs(Inputs):
    field: str = param("", doc="Fields to calibrate, as a CASA selection; default all.")
    spw: str = param("", doc="Windows to calibrate; default all.")
    intent: str = param("", doc="Intents to calibrate; default all.")
    antenna: str = param("", doc="Antennas to calibrate; default all, cross-correlations only.")
    parang: bool = param(True, doc="Rotate for parallactic angle.")
    applymode: str = param(
        "calflagstrict", choices=("calflag", "calflagstrict", "trial", "flagonly", "flagonlystrict", "calonly"),
        doc="What to do with data without a good solution; calflagstrict flags them.",
    )  # fmt: skip
    calwt: bool = param(False, doc="Let all tables change the weights; hifv_statwt makes them anew from the data.")
    flagbackup: bool = param(True, doc="Save the flags before, so that an exact restore is possible.")
    flagsum: bool = param(True, doc="Count flags before and after.")
    flagdetailedsum: bool = param(False, doc="Accepted for old recipes: counts are always by antenna and window.")
    gainmap: bool = param(False, doc="Targets take gains of the phase calibrators next to them only (sky survey).")


class ApplycalsResult(Result):
    """What was applied to what; flags before and after; tables that had to be left out, by measurement set."""

    applied: tuple[Applied, ...]
    before: dict[str, FlagMap] = attrs.field(factory=dict)
    after: dict[str, FlagMap] = attrs.field(factory=dict)
    target_fields: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    dropped: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    uncalibrated: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


class Applycals(Stage[ApplycalsInputs, ApplycalsResult]):
    """Apply all calibration to the data.

    One applycal per group of data with the same tables, in the order of registration. Tables that are gone or without
    solutions are left out and said so: what is missing must never look like success. The flags before are saved as
    hifv_applycals_before_sN. CORRECTED_DATA becomes REGCAL_CONTLINE_ALL.

    With ``gainmap`` target scans are grouped with the visits to phase calibrators next to them, and the final gains are
    interpolated between those visits only; the calibrators follow with their own gains.
    """

    name = "hifv_applycals"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True
    mutates = frozenset({"corrected", "flags", "weights"})

    def check(self, ctx: StageContext, inputs: ApplycalsInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            if not ctx.calibration.query(ms, inputs.field, inputs.spw, inputs.intent):
                raise PlError(f"There is no calibration to apply to {ms.name}: run the stages that solve for it first.")

    def run(self, ctx: StageContext, inputs: ApplycalsInputs) -> ApplycalsResult:
        applied: list[Applied] = []
        before, after, targets, dropped, left = {}, {}, {}, {}, {}
        effects: list[Effect] = []
        found: dict[str, dict[str, str]] = {}
        whole = not (inputs.field or inputs.spw or inputs.intent or inputs.antenna)
        for ms in ctx.measurement_sets(inputs.vis):
            if inputs.flagbackup:
                name = f"hifv_applycals_before_s{ctx.stage_number}"
                found[ms.name] = {"before_applycal": versions.save(ctx, ms, name, "flags before hifv_applycals")}
            if inputs.flagsum:
                before[ms.name], _ = look(ctx, ms)
            calls, gone, done = apply_library(ctx, ms, inputs)
            applied += calls
            if gone:
                dropped[ms.name] = gone
                ctx.log.error(f"{ms.name}: applied without {', '.join(gone)}, which have no solutions.")
            missed = tuple(ms.field(f).name for f in sorted({f for f, _, _ in ms.observed} - done)) if whole else ()
            if missed:
                left[ms.name] = missed
                ctx.log.warning(f"{ms.name}: nothing is registered for {', '.join(missed)}; these stay uncalibrated.")
            if inputs.flagsum:
                after[ms.name], _ = look(ctx, ms)
            targets[ms.name] = tuple(f.name for f in ms.fields_with_intent("TARGET"))
            typed = ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA", overwrite=True)
            effects.append(ReplaceMeasurementSet(typed))
            if whole:
                effects.append(MarkApplied(ms.name))
        if found:
            effects.append(versions.remember(ctx, found))
        how = {"applymode": inputs.applymode, "parang": inputs.parang, "calwt": inputs.calwt, "gainmap": inputs.gainmap}
        effects.append(versions.remember_how(ctx, dict.fromkeys(targets, how)))
        return ApplycalsResult(
            applied=tuple(applied), before=before, after=after, target_fields=targets, dropped=dropped,
            uncalibrated=left, effects=tuple(effects),
        )  # fmt: skip


def apply_library(
    ctx: StageContext, ms: MeasurementSet, inputs: ApplycalsInputs
) -> tuple[list[Applied], tuple[str, ...], set[int]]:
    """Apply what is registered; return the calls, tables that had to be left out, and the fields done."""
    calls: list[Applied] = []
    gone: dict[str, None] = {}
    done: set[int] = set()
    entries = ctx.calibration.query(ms, inputs.field, inputs.spw, inputs.intent)
    for count, entry in enumerate(entries, 1):
        usable = tuple(c for c in entry.calfroms if _rows(ctx, c.gaintable))
        gone.update(dict.fromkeys(c.gaintable for c in entry.calfroms if c not in usable))
        if not usable:
            continue
        for selection, froms in _jobs(ms, attrs.evolve(entry, calfroms=usable), inputs.gainmap):
            calls.append(_call(ctx, ms, selection, froms, inputs))
        done |= set(entry.field_ids)
        ctx.progress(count, len(entries), ms.name)
    if not calls:
        raise PlError(f"None of the caltables registered for {ms.name} holds a solution; nothing can be applied.")
    return calls, tuple(gone), done


def _rows(ctx: StageContext, table: str) -> int:
    if not Path(table).is_dir():
        return 0
    with ctx.casa.table(table) as opened:
        return int(opened.nrows())


def _jobs(
    ms: MeasurementSet, entry: MergedCal, mapped: bool
) -> list[tuple[dict[str, str], tuple[CalFrom, ...]]]:
    """Selections and tables: one call per entry, or one per group of targets and one for the calibrators."""
    selection = entry.casa_selection(ms)
    if not mapped or not any(name in c.gaintable for c in entry.calfroms for name in _MAPPED):
        return [(selection, entry.calfroms)]
    visits = [
        gainmap.Visit(
            scan=s.id, fields=s.field_ids, is_target="TARGET" in s.intents, is_phase="PHASE" in s.intents
        )
        for s in sorted(ms.scans, key=lambda s: s.start)
        if set(s.field_ids) & set(entry.field_ids)
    ]  # fmt: skip
    jobs = []
    for group in gainmap.groups(visits):
        gainfield = ",".join(str(f) for f in group.gainfields)
        froms = tuple(
            attrs.evolve(c, gainfield=gainfield, interp="linear") if any(n in c.gaintable for n in _MAPPED) else c
            for c in entry.calfroms
        )
        jobs.append(({**selection, "scan": ",".join(str(s) for s in group.scans)}, froms))
    rest = [v.scan for v in visits if not v.is_target]
    return [*jobs, ({**selection, "scan": ",".join(str(s) for s in rest)}, entry.calfroms)] if rest else jobs


def _call(
    ctx: StageContext, ms: MeasurementSet, selection: Mapping[str, str], froms: tuple[CalFrom, ...],
    inputs: ApplycalsInputs,
) -> Applied:  # fmt: skip
    arguments: dict[str, Any] = {
        "gaintable": [c.gaintable for c in froms], "gainfield": [c.gainfield for c in froms],
        "spwmap": [list(c.spwmap) for c in froms], "interp": [c.interp for c in froms],
        "calwt": [inputs.calwt] * len(froms),
    }  # fmt: skip
    chosen = {**selection, "antenna": selection["antenna"] or inputs.antenna or "*&*"}
    ctx.casa.applycal(
        **chosen, applymode=inputs.applymode, parang=inputs.parang, flagbackup=False, **arguments
    )
    return Applied(
        vis=ms.name, field=selection["field"] or "all", spw=selection["spw"] or "all",
        intent=selection["intent"] or (f"scans {selection['scan']}" if selection.get("scan") else ""),
        antenna=chosen["antenna"], tables=arguments["gaintable"], gainfields=arguments["gainfield"],
        interps=arguments["interp"], calwt=any(arguments["calwt"]), **facts(froms),
    )  # fmt: skip
