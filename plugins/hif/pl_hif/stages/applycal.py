"""Apply the calibration library to the data."""

from __future__ import annotations

from pathlib import Path

import attrs

from pl_hif import flags
from pl_hif.flags import FlagCounts
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.common import flagversions
from pl_kernel.common.applying import Applied
from pl_kernel.effects import Effect, MarkApplied, ReplaceMeasurementSet
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class ApplycalInputs(Inputs):
    applymode: str = param(
        "calflagstrict", choices=("calflag", "calflagstrict", "trial", "flagonly", "flagonlystrict", "calonly"),
        doc="What to do with data without a good solution; calflagstrict flags them.",
    )  # fmt: skip
    parang: bool = param(False, doc="Rotate for parallactic angle (polarization).")


class ApplycalResult(Result):
    """What was applied to what, and the flags before and after; ``target_fields`` by measurement set."""

    applied: tuple[Applied, ...]
    before: dict[str, FlagCounts]
    after: dict[str, FlagCounts]
    target_fields: dict[str, tuple[str, ...]]
    uncalibrated: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


class Applycal(Stage[ApplycalInputs, ApplycalResult]):
    """Apply the calibration library to the data.

    One applycal per group of data with the same tables, with flag counts before and after. The corrected data are
    registered as REGCAL_CONTLINE_ALL, the registrations move from active to applied. Fields with data and no
    calibration at all are named and left without corrected data of their own.

    The order of tables is the order in which they were registered. Nothing to apply is an error: a copy of raw data
    that calls itself calibrated would mislead everything after it.
    """

    name = "hif_applycal"
    topic = "calibration"
    mutates = frozenset({"corrected", "flags", "weights"})

    def check(self, ctx: StageContext, inputs: ApplycalInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            groups = ctx.calibration.merged(ms)
            if not groups:
                raise PlError(f"There is no calibration to apply to {ms.name}: run the stages that solve for it first.")
            for group in groups:
                for table in group.arguments.gaintable:
                    if not Path(table).is_dir():
                        raise PlError(f"The caltable {table} that {ms.name} should be calibrated with is gone.")

    def run(self, ctx: StageContext, inputs: ApplycalInputs) -> ApplycalResult:
        applied: list[Applied] = []
        before: dict[str, FlagCounts] = {}
        after: dict[str, FlagCounts] = {}
        targets: dict[str, tuple[str, ...]] = {}
        left: dict[str, tuple[str, ...]] = {}
        effects: list[Effect] = []
        found: dict[str, dict[str, str]] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            found[ms.name] = flagversions.save_before_apply(ctx, ms)
            before[ms.name] = flags.summary(ctx, ms.path, "before")
            calls, missed = self._apply(ctx, ms, inputs)
            applied += calls
            if missed:
                left[ms.name] = missed
                ctx.log.warning(f"{ms.name}: nothing is registered for {', '.join(missed)}; these stay uncalibrated.")
            after[ms.name] = flags.summary(ctx, ms.path, "applycal")
            targets[ms.name] = tuple(f.name for f in ms.fields_with_intent("TARGET"))
            typed = ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA", overwrite=True)
            effects += [ReplaceMeasurementSet(typed), MarkApplied(ms.name)]
        how = {"applymode": inputs.applymode, "parang": inputs.parang}
        effects += [flagversions.remember(ctx, found), flagversions.remember_how(ctx, dict.fromkeys(found, how))]
        return ApplycalResult(
            applied=tuple(applied), before=before, after=after, target_fields=targets, uncalibrated=left,
            effects=tuple(effects),
        )  # fmt: skip

    def _apply(
        self, ctx: StageContext, ms: MeasurementSet, inputs: ApplycalInputs
    ) -> tuple[list[Applied], tuple[str, ...]]:
        groups = ctx.calibration.merged(ms)
        calls = []
        done: set[int] = set()
        for count, group in enumerate(groups, 1):
            arguments = group.arguments.for_apply()
            field = ",".join(str(i) for i in sorted(group.field_ids))
            # Intents select data only where the data themselves carry them; elsewhere the fields say it all.
            modes = ms.observing_modes(group.intent) if group.intent else ()
            ctx.casa.applycal(
                vis=ms.path, field=field, spw=group.spw, intent=",".join(modes), antenna=group.antenna,
                applymode=inputs.applymode, parang=inputs.parang, flagbackup=False, **arguments,
            )  # fmt: skip
            done |= set(group.field_ids)
            calls.append(
                Applied(
                    vis=ms.name, field=", ".join(ms.field(i).name for i in sorted(group.field_ids)), spw=group.spw,
                    intent=group.intent, antenna=group.antenna, tables=arguments["gaintable"],
                    gainfields=arguments["gainfield"], interps=arguments["interp"], calwt=any(arguments["calwt"]),
                )
            )  # fmt: skip
            ctx.progress(count, len(groups), field)
        observed = {f for f, _, _ in ms.observed}
        return calls, tuple(ms.field(i).name for i in sorted(observed - done))
