"""h_mssplit: a part of a measurement set, or the whole of it averaged, as a measurement set of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ..effects import AddMeasurementSet, Effect, RemoveMeasurementSet
from ..errors import DataError, InputError
from ..ms.datatypes import DataType
from ..ms.intents import parse_intents
from ..ms.model import MeasurementSet
from ..ms.reader import read_measurement_set
from ..ms.selection import clean_file_name
from ..params import Inputs, param
from ..stage import Result, Stage

if TYPE_CHECKING:
    from ..stage_context import StageContext


class SplitInputs(Inputs):
    """Selection and averaging; at least one must be asked for."""

    field: str = param("", doc="Fields to keep, as a CASA selection; all when empty.")
    spw: str = param("", doc="Spectral windows and channels to keep, as a CASA selection; all when empty.")
    intent: str = param("", doc="Keep the fields observed for any of these intents, such as TARGET.")
    datacolumn: str = param("data", choices=("data", "corrected", "model"), doc="Column that becomes DATA.")
    chanbin: int = param(1, minimum=1, doc="Channels to average into one.")
    timebin: float = param(0.0, unit="s", minimum=0.0, doc="Time to average over; 0 does not average.")
    outputvis: str = param("", doc="Name of the new measurement set; default: that of the old with _split.")
    replace: bool = param(True, doc="The run goes on with the new measurement set instead of the old.")


@attrs.frozen(kw_only=True)
class Split:
    """What came from what: rows before and after, and channels of the widest window before and after."""

    parent: str
    name: str
    rows: tuple[int, int]
    channels: tuple[int, int]


class SplitResult(Result):
    """One entry per measurement set."""

    splits: tuple[Split, ...]


class MsSplit(Stage[SplitInputs, SplitResult]):
    """Split measurement sets by field, window or intent, or average them.

    The new measurement set keeps the session and the intents of the old one and remembers where it came from. Ids of
    fields and windows stay as they were. Its data are of the type of the column they came from, for targets only when
    only targets are kept.
    """

    name = "h_mssplit"
    topic = "dataset"

    def check(self, ctx: StageContext, inputs: SplitInputs) -> None:
        asked = inputs.field or inputs.spw or inputs.intent or inputs.chanbin > 1 or inputs.timebin > 0
        if not asked and inputs.datacolumn == "data":
            raise InputError("Stage h_mssplit has nothing to do: give a selection, an average or another data column.")
        sets = ctx.measurement_sets(inputs.vis)
        if inputs.outputvis and len(sets) > 1:
            raise InputError(f"One outputvis cannot name the splits of {len(sets)} measurement sets; leave it out.")
        column = _COLUMNS[inputs.datacolumn]
        for ms in sets:
            if column not in ms.columns:
                raise DataError(f"{ms.name} has no column {column}; run the stage that fills it first.")
            _fields(ms, inputs)

    def run(self, ctx: StageContext, inputs: SplitInputs) -> SplitResult:
        splits: list[Split] = []
        effects: list[Effect] = []
        sets = ctx.measurement_sets(inputs.vis)
        taken = {ms.name for ms in ctx.context.measurement_sets}
        for count, ms in enumerate(sets, 1):
            new = self._split(ctx, ms, inputs, taken)
            taken.add(new.name)
            channels = tuple(max(spw.n_channels for spw in each.science_spws) for each in (ms, new))
            splits.append(
                Split(parent=ms.name, name=new.name, rows=(ms.n_rows, new.n_rows), channels=(channels[0], channels[1]))
            )
            effects.append(AddMeasurementSet(new))
            if inputs.replace:
                effects.append(RemoveMeasurementSet(ms.name))
            ctx.progress(count, len(sets), new.name)
        return SplitResult(splits=tuple(splits), effects=tuple(effects))

    def _split(self, ctx: StageContext, ms: MeasurementSet, inputs: SplitInputs, taken: set[str]) -> MeasurementSet:
        name = clean_file_name(inputs.outputvis or f"{ms.stem}_split.ms")
        if name in taken:
            raise InputError(f"The run has a measurement set called {name} already; choose another outputvis.")
        ctx.files.rmtree(name)
        ctx.casa.mstransform(
            vis=ms.path, outputvis=name, field=_fields(ms, inputs), spw=inputs.spw, datacolumn=inputs.datacolumn,
            chanaverage=inputs.chanbin > 1, chanbin=inputs.chanbin, timeaverage=inputs.timebin > 0,
            timebin=f"{inputs.timebin}s", reindex=False,
        )  # fmt: skip
        new = read_measurement_set(
            ctx.work / name, ctx.telescopes, name=name, session=ms.session, relative_to=ctx.work,
            open_table=ctx.casa.table,
        )  # fmt: skip
        if ms.intents_from == "rules":  # the files of the new one do not know them
            new = new.with_intents({field.id: field.intents for field in ms.fields if field.id in _ids(new)})
        kind = _type_of(ms, inputs)
        return attrs.evolve(new.with_data_type(kind, "DATA", overwrite=True), origin=ms.name)


_COLUMNS = {"data": "DATA", "corrected": "CORRECTED_DATA", "model": "MODEL_DATA"}


def _ids(ms: MeasurementSet) -> set[int]:
    return {field.id for field in ms.fields}


def _fields(ms: MeasurementSet, inputs: SplitInputs) -> str:
    """Ids of the fields asked for: by name, by intent, or both."""
    if not inputs.field and not inputs.intent:
        return ""
    chosen = set(ms.field_ids(inputs.field))
    if inputs.intent:
        chosen &= {field.id for field in ms.fields_with_intent(inputs.intent)}
    if not chosen:
        raise DataError(f"{ms.name} has no field '{inputs.field}' with intent '{inputs.intent}'.")
    return ",".join(str(i) for i in sorted(chosen))


def _type_of(ms: MeasurementSet, inputs: SplitInputs) -> DataType:
    kinds = [t.data_type for t in ms.data_types if t.column == _COLUMNS[inputs.datacolumn]]
    kind = max(kinds, key=lambda k: k.priority, default=DataType.RAW)
    only_targets = bool(inputs.intent) and set(parse_intents(inputs.intent)) == {"TARGET"}
    if kind is DataType.REGCAL_CONTLINE_ALL and only_targets:
        return DataType.REGCAL_CONTLINE_SCIENCE
    return kind
