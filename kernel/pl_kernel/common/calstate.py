"""h_import_calstate: registrations of calibration tables from the text that an earlier run wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..calrecords import VISCAL_TYPES, CalApplication
from ..caltext import import_text
from ..effects import Effect, RegisterCalibration, UnregisterCalibration
from ..errors import InputError
from ..params import Inputs, param
from ..stage import Result, Stage

if TYPE_CHECKING:
    from ..stage_context import StageContext


class CalstateInputs(Inputs):
    """The file, and what becomes of what is registered already."""

    filename: Path = param(doc="File of applycal(…) lines, as h_export_calstate and the observatories write it.")
    append: bool = param(True, doc="Add to what is registered; otherwise replace it.")


class CalstateResult(Result):
    """What was registered, in the order of the file."""

    applications: tuple[CalApplication, ...]


class ImportCalstate(Stage[CalstateInputs, CalstateResult]):
    """Register the calibration tables that a text names.

    Only lines that begin with ``applycal(`` count, and their values are read as plain text, numbers and lists: nothing
    is executed. The kind of a table comes from its own VisCal keyword, and from its name where the table is absent.
    """

    name = "h_import_calstate"
    topic = "calibration"

    def check(self, ctx: StageContext, inputs: CalstateInputs) -> None:
        ctx.measurement_sets(inputs.vis)
        _read(inputs.filename)

    def run(self, ctx: StageContext, inputs: CalstateInputs) -> CalstateResult:
        sets = ctx.measurement_sets(inputs.vis)
        names = {ms.name for ms in sets}

        def kind_of(table: str) -> str:
            if not Path(table).is_dir():
                return ""
            with ctx.casa.table(table) as opened:
                if "VisCal" not in opened.keywordnames():
                    return ""
                return VISCAL_TYPES.get(str(opened.getkeyword("VisCal")).upper(), "")

        found = import_text(_read(inputs.filename), sets, kind_of, str(inputs.filename))
        kept = tuple(application for application in found if application.to.vis in names)
        if not kept:
            raise InputError(f"{inputs.filename} names no calibration for {', '.join(sorted(names))}.")
        effects: list[Effect] = [] if inputs.append else [UnregisterCalibration("*")]
        effects += [RegisterCalibration(application) for application in kept]
        others = sorted({application.to.vis for application in found} - names)
        notes = (f"Left out, because the run has no such measurement set: {', '.join(others)}.",) if others else ()
        return CalstateResult(applications=kept, effects=tuple(effects), notes=notes)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The calibration text {path} cannot be read: {error}.") from None
