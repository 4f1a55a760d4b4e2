"""h_applycal: apply the calibration library to the data. The variants of the plugins differ in what they select."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

import attrs

from ..calibration import MergedCal
from ..effects import Effect, MarkApplied, ReplaceMeasurementSet
from ..errors import PlError
from ..flagcounts import FlagCounts, summary
from ..ms.datatypes import DataType
from ..ms.model import MeasurementSet
from ..params import Inputs, param
from ..stage import Result, Stage
from . import flagversions
from .applying import APPLYMODES, Application, Applied, apply_library

if TYPE_CHECKING:
    from ..stage_context import StageContext

__all__ = [
    "Applied", "ApplyStage", "Applycal", "ApplycalInputs", "ApplycalResult", "BasicApplycalInputs", "Selection",
]  # fmt: skip


class BasicApplycalInputs(Inputs):
    applymode: str = param(
        "calflagstrict", choices=APPLYMODES,
        doc="What to do with data without a good solution; calflagstrict flags them.",
    )  # fmt: skip
    parang: bool = param(False, doc="Rotate for parallactic angle (polarization).")
    flagsum: bool = param(True, doc="Accepted for old scripts: flags are always counted.", hidden=True)
    flagdetailedsum: bool = param(
        False, doc="Accepted for old scripts: counts are always by antenna and window.", hidden=True
    )


class ApplycalInputs(BasicApplycalInputs):
    field: str = param("", doc="Fields to calibrate, as a CASA selection; default all.")
    spw: str = param("", doc="Windows to calibrate; default all.")
    intent: str = param("", doc="Intents to calibrate; default all.")
    antenna: str = param("", doc="Antennas to calibrate, as a CASA selection; default all.")
    flagbackup: bool = param(True, doc="Save the flags before, so that an exact restore is possible.")


class ApplycalResult(Result):
    """What was applied to what, and the flags before and after; ``target_fields`` by measurement set.

    ``dropped`` are tables that had to be left out because they hold no solutions.
    """

    applied: tuple[Applied, ...]
    before: dict[str, FlagCounts]
    after: dict[str, FlagCounts]
    target_fields: dict[str, tuple[str, ...]]
    uncalibrated: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    dropped: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Selection:
    """The part of the data to calibrate (CASA selections; intents in the pipeline's words); empty means all."""

    field: str = ""
    spw: str = ""
    intent: str = ""
    antenna: str = ""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.field or self.spw or self.intent or self.antenna)


I = TypeVar("I", bound=BasicApplycalInputs)  # noqa: E741


class ApplyStage(Stage[I, ApplycalResult]):
    """Apply the calibration library to the data.

    One applycal per group of data with the same tables, in the order of their registration, with flag counts before and
    after. The corrected data are registered as REGCAL_CONTLINE_ALL, the registrations move from active to applied.
    Fields with data and no calibration at all are named and left without corrected data of their own; a table without
    solutions is left out, and said so.

    Nothing to apply is an error: a copy of raw data that calls itself calibrated would mislead everything after it.
    """

    topic = "calibration"
    each_set = True
    mutates = frozenset({"corrected", "flags", "weights"})
    counted_intent: ClassVar[str] = ""
    """Flags are counted for data with this intent only; empty: all."""

    def check(self, ctx: StageContext, inputs: I) -> None:
        for ms in self.sets(ctx, inputs):
            if not self.entries(ctx, ms, inputs):
                raise PlError(f"There is no calibration to apply to {ms.name}: run the stages that solve for it first.")
            for entry in self.entries(ctx, ms, inputs):
                for table in entry.arguments.gaintable:
                    if not (ctx.work / table).is_dir():
                        raise PlError(f"The caltable {table} that {ms.name} should be calibrated with is gone.")

    def selection(self, ms: MeasurementSet, inputs: I) -> Selection:
        """What to calibrate."""
        given = {f.name: getattr(inputs, f.name, "") for f in attrs.fields(Selection)}
        return Selection(**given)

    def entries(self, ctx: StageContext, ms: MeasurementSet, inputs: I) -> tuple[MergedCal, ...]:
        """What the library has for the selection."""
        part = self.selection(ms, inputs)
        return ctx.calibration.query(ms, part.field, part.spw, part.intent)

    def run(self, ctx: StageContext, inputs: I) -> ApplycalResult:
        applied: list[Applied] = []
        before: dict[str, FlagCounts] = {}
        after: dict[str, FlagCounts] = {}
        targets: dict[str, tuple[str, ...]] = {}
        left: dict[str, tuple[str, ...]] = {}
        dropped: dict[str, tuple[str, ...]] = {}
        effects: list[Effect] = []
        saved: dict[str, dict[str, str]] = {}
        how: dict[str, dict[str, object]] = {}
        for ms in self.sets(ctx, inputs):
            part = self.selection(ms, inputs)
            if getattr(inputs, "flagbackup", True):
                saved[ms.name] = flagversions.save_before_apply(ctx, ms)
            before[ms.name] = self._count(ctx, ms, "before")
            done = apply_library(
                ctx, ms, applymode=inputs.applymode, parang=inputs.parang, antenna=part.antenna, field=part.field,
                spw=part.spw, intent=part.intent,
            )  # fmt: skip
            applied += done.calls
            self._missed(ctx, ms, part, done, left, dropped)
            after[ms.name] = self._count(ctx, ms, "applycal")
            targets[ms.name] = tuple(f.name for f in ms.fields_with_intent("TARGET"))
            effects += self.registrations(ms, part)
            how[ms.name] = {"applymode": inputs.applymode, "parang": inputs.parang, **attrs.asdict(part)}
        effects.append(flagversions.remember_how(ctx, how))
        if saved:
            effects.append(flagversions.remember(ctx, saved))
        return ApplycalResult(
            applied=tuple(applied), before=before, after=after, target_fields=targets, uncalibrated=left,
            dropped=dropped, effects=tuple(effects),
        )  # fmt: skip

    def registrations(self, ms: MeasurementSet, part: Selection) -> list[Effect]:
        """The new type of the corrected data, and that its calibration is in them when all was applied."""
        typed = ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA", overwrite=True)
        effects: list[Effect] = [ReplaceMeasurementSet(typed)]
        return [*effects, MarkApplied(ms.name)] if part.is_everything else effects

    def _count(self, ctx: StageContext, ms: MeasurementSet, name: str) -> FlagCounts:
        modes = ms.observing_modes(self.counted_intent) if self.counted_intent else ()
        selection = {"intent": ",".join(modes)} if modes else {}
        return summary(ctx, ms.path, name, **selection)

    def _missed(
        self, ctx: StageContext, ms: MeasurementSet, part: Selection, done: Application,
        left: dict[str, tuple[str, ...]], dropped: dict[str, tuple[str, ...]],
    ) -> None:  # fmt: skip
        if done.dropped:
            dropped[ms.name] = done.dropped
            ctx.log.error(f"{ms.name}: applied without {', '.join(done.dropped)}, which hold no solutions.")
        wanted = {f.id for f in ms.fields_with_intent(part.intent)} if part.intent else {f for f, _, _ in ms.observed}
        if part.field:
            wanted &= set(ms.field_ids(part.field))
        missed = tuple(ms.field(f).name for f in sorted(wanted - done.fields))
        if missed:
            left[ms.name] = missed
            ctx.log.warning(f"{ms.name}: nothing is registered for {', '.join(missed)}; these stay uncalibrated.")


class Applycal(ApplyStage[ApplycalInputs]):
    __doc__ = ApplyStage.__doc__

    name = "h_applycal"
