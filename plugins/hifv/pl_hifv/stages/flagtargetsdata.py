"""Apply the user's flags to the split targets."""

from __future__ import annotations

from pathlib import Path

import attrs

from pl_hifv.occupancy import FlagMap, look
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.common import flagversions as versions
from pl_kernel.common.flagcommands import find_file, read_commands
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

TYPES = (DataType.REGCAL_CONT_SCIENCE, DataType.REGCAL_CONTLINE_SCIENCE)


class FlagtargetsdataInputs(Inputs):
    template: bool = param(True, doc="Apply the user's flags, when there is a file of them.")
    filetemplate: Path | None = param(None, doc="File of the user's flags; default NAME.flagtargetstemplate.txt.")
    flagbackup: bool = param(True, doc="Save the flags before.")


@attrs.frozen(kw_only=True)
class TargetFlags:
    """One measurement set: the commands, and the flags before and after."""

    vis: str
    file: str
    commands: tuple[str, ...] = attrs.field(converter=tuple)
    before: FlagMap
    after: FlagMap


class FlagtargetsdataResult(Result):
    """What was flagged, by measurement set."""

    sets: tuple[TargetFlags, ...]


class Flagtargetsdata(Stage[FlagtargetsdataInputs, FlagtargetsdataResult]):
    """Apply the user's flags to the split targets.

    Commands of a text file, one a line, are applied to the continuum and to the line measurement sets of the targets;
    data that were imported without being split are taken as they are (sky survey). The commands carried out are kept
    as NAME.flagtargetscmds.txt for each measurement set. A file that was named and is absent is refused.
    """

    name = "hifv_flagtargetsdata"
    page_reads = frozenset()
    topic = "flagging"
    each_set = True
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: FlagtargetsdataInputs) -> None:
        if inputs.template:
            find_file(inputs.filetemplate, "")

    def sets(self, ctx: StageContext, inputs: FlagtargetsdataInputs) -> tuple[MeasurementSet, ...]:
        if inputs.vis:
            return ctx.measurement_sets(inputs.vis)
        split = tuple(ms for ms in ctx.measurement_sets() if any(ms.column_of(t) is not None for t in TYPES))
        return split or ctx.measurement_sets(types=(DataType.RAW,))

    def run(self, ctx: StageContext, inputs: FlagtargetsdataInputs) -> FlagtargetsdataResult:
        return FlagtargetsdataResult(sets=tuple(self._one(ctx, ms, inputs) for ms in self.sets(ctx, inputs)))

    def _one(self, ctx: StageContext, ms: MeasurementSet, inputs: FlagtargetsdataInputs) -> TargetFlags:
        path = _file(ms, inputs)
        commands = read_commands(path) if inputs.template and path is not None else []
        before, _ = look(ctx, ms)
        after = before
        if commands:
            if inputs.flagbackup:
                versions.save(ctx, ms, f"hifv_flagtargetsdata_s{ctx.stage_number}", "flags before the user's")
            Path(f"{ms.stem}.flagtargetscmds.txt").write_text("\n".join(commands) + "\n", encoding="utf-8")
            ctx.casa.flagdata(
                vis=ms.path, mode="list", inpfile=commands, action="apply", flagbackup=False, savepars=False
            )
            after, _ = look(ctx, ms)
        elif inputs.template:
            ctx.log.info(f"There are no flags of the user for {ms.name}.")
        return TargetFlags(vis=ms.name, file=str(path or ""), commands=commands, before=before, after=after)


def _file(ms: MeasurementSet, inputs: FlagtargetsdataInputs) -> Path | None:
    stems = [stem for stem in (ms.origin.removesuffix(".ms"), ms.stem) if stem]
    found = (find_file(inputs.filetemplate, f"{stem}.flagtargetstemplate.txt") for stem in stems)
    return next((path for path in found if path is not None), None)
