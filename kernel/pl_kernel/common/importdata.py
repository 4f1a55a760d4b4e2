"""h_importdata: any data that an importer is installed for become measurement sets of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effects import AddMeasurementSet
from ..stage import Result, Stage
from .importing import Imported, ImportInputs, import_data

if TYPE_CHECKING:
    from ..stage_context import StageContext


class ImportDataInputs(ImportInputs):
    """The shared parameters, no more."""


class ImportDataResult(Result):
    """What was imported, in the order given."""

    imported: tuple[Imported, ...]


class ImportData(Stage[ImportDataInputs, ImportDataResult]):
    """Import data of any telescope into the run.

    Each path is recognised by its content and becomes a measurement set in the run's work folder: a measurement set
    as a working copy that shares the bytes of the raw visibilities, UVFITS by conversion. The input is never altered.

    Intents are those of the data, or those that the user's rules give. A plugin for a telescope may know better what
    old data without intents were observed for; this stage does not guess.
    """

    name = "h_importdata"
    topic = "dataset"
    takes_data = True

    def run(self, ctx: StageContext, inputs: ImportDataInputs) -> ImportDataResult:
        imported = import_data(ctx, inputs)
        notes = []
        for item in imported:
            if not item.ms.intents:
                notes.append(f"{item.ms.name} says of no scan what it was observed for; give rules with --intent.")
                ctx.log.attention(notes[-1])
        return ImportDataResult(
            imported=imported, notes=tuple(notes), effects=tuple(AddMeasurementSet(item.ms) for item in imported)
        )
