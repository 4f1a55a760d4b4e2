"""From the parameters of hif_makeimlist to the images that are asked for: of which data, fields and windows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from pl_hif import grids, imagegeometry
from pl_hif.imagegeometry import Job
from pl_hif.targets import CleanTarget, ContinuumRecord
from pl_kernel import InputError, PlError, UnknownName
from pl_kernel.ms.datatypes import DataType, imaging_order
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

if TYPE_CHECKING:
    from pl_hif.stages.makeimlist import MakeimlistInputs

ALL_WINDOWS = -1
"""Window id in SOURCE of what holds for all of them."""
BLUESHIFT = 0.99
_WORDS = ("best", "all", "regcal", "selfcal")


# ---- which data ------------------------------------------------------------------------------------------------------


def chosen_types(
    sets: Sequence[MeasurementSet], intent: str, specmode: str, wanted: str, column: str = ""
) -> tuple[DataType, ...]:
    """Types of data to image, each a list of images of its own.

    Empty or ``best``: the best that any set has. ``regcal``, ``selfcal``, ``all``: those of the choice table with that
    word. Else names of types. ``column``: the type that is registered for this column.

    Raises:
        UnknownName: no such type or word. InputError: words that do not go together.
    """
    order = imaging_order(intent, specmode)
    there = [t for t in order if any(ms.column_of(t) is not None for ms in sets)]
    if column:
        name = "CORRECTED_DATA" if column == "corrected" else "DATA"
        there = [t for t in there if any(ms.column_of(t) == name for ms in sets)]
        if not there:
            raise InputError(f"No data with the intent {intent} have a column {name} whose state is known.")
        return tuple(there[:1])
    words = type_words(wanted) or ("best",)
    if words == ("best",):
        return tuple(there[:1])
    found: list[DataType] = []
    for word in words:
        if word in _WORDS:
            kinds = ("SELFCAL", "REGCAL") if word == "all" else (word.upper(),)
            found += [t for kind in kinds for t in there if t.name.startswith(kind)]
        else:
            found.append(DataType[word.upper()])
    return tuple(dict.fromkeys(found))


def type_words(text: str) -> tuple[str, ...]:
    """Words and names of types of the parameter datatype, in lower case.

    Raises:
        UnknownName: no such type or word. InputError: words that do not go together.
    """
    words = tuple(w.strip().lower() for w in text.split(",") if w.strip())
    if len(words) > 1 and {"best", "all"} & set(words):
        raise InputError(f"datatype: best and all stand alone; got '{text}'.")
    for word in words:
        if word not in _WORDS and word.upper() not in DataType.__members__:
            raise UnknownName("data type", word, [*_WORDS, *DataType.__members__])
    return words


def groups(sets: Sequence[MeasurementSet], per_eb: bool, per_session: bool) -> list[tuple[str, list[MeasurementSet]]]:
    """Measurement sets that are imaged together, with what their images' names begin with."""
    if per_eb:
        return [(ms.stem, [ms]) for ms in sets]
    if per_session:
        return [(name, [ms for ms in sets if ms.session == name]) for name in dict.fromkeys(ms.session for ms in sets)]
    return [("", list(sets))]


def jobs(
    ctx: StageContext, every: Sequence[MeasurementSet], types: Sequence[DataType], inputs: MakeimlistInputs,
    specmode: str, fields: Iterable[str] = (), spws: Iterable[int] = (),
) -> list[Job]:  # fmt: skip
    """Images to list: field, intent and windows; a field with several of the intents is imaged once.

    ``fields`` and ``spws`` are what hif_checkproductsize leaves of the targets; empty: all.

    Where data of the best type lack a field or window, the next type of the choice table is taken, and said so; types
    named by hand have no substitute.
    """
    wanted = {n.strip() for n in inputs.field.split(",") if n.strip()}
    chosen = {int(s) for s in re.findall(r"\d+", inputs.spw)} or set(spws)
    by_hand = bool(inputs.datatype.strip().lower() not in ("", "best") or inputs.datacolumn)
    found: list[Job] = []
    known: set[str] = set()
    for datatype in types:
        ending = datatype.tag.lower() if by_hand or datatype.tag == "SELFCAL" else ""
        having = [ms for ms in every if ms.column_of(datatype) is not None]
        for prefix, sets in groups(having, inputs.per_eb, inputs.per_session):
            seen: set[str] = set()
            for intent in (i.strip() for i in inputs.intent.split(",")):
                for name in dict.fromkeys(f.name for ms in sets for f in ms.fields_with_intent(intent)):
                    known.add(name)
                    left = wanted or (set(fields) if intent == "TARGET" else set())
                    if name in seen or (left and name not in left):
                        continue
                    seen.add(name)
                    bands = {
                        int(s): b for s, b in grids.bands_of(ctx, sets, name).items() if not chosen or int(s) in chosen
                    }
                    for part in _parts(bands, specmode):
                        job = Job(
                            field=name, intent=intent, spws=part, sets=tuple(sets), datatype=datatype, prefix=prefix,
                            ending=ending if datatype.tag in ("REGCAL", "SELFCAL") else "",
                        )  # fmt: skip
                        found.append(job if by_hand else _with_data(ctx, job, every, specmode))
    if wanted - known:
        raise PlError(f"There is no field called {', '.join(sorted(wanted - known))} with the intent {inputs.intent}.")
    return found


def _parts(bands: Mapping[int, str], specmode: str) -> list[tuple[int, ...]]:
    """Windows that go into one image: all of a band for continuum; beams of different bands have nothing in common."""
    if specmode != "cont":
        return [(s,) for s in bands]
    return [tuple(s for s, b in bands.items() if b == band) for band in dict.fromkeys(bands.values())]


def _with_data(ctx: StageContext, job: Job, every: Sequence[MeasurementSet], specmode: str) -> Job:
    """The job with the next type of data where its own does not cover its field and windows."""
    order = imaging_order(job.intent, specmode)
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    for datatype in order[order.index(job.datatype) :]:
        pool = job.sets if datatype is job.datatype else [ms for ms in every if ms.column_of(datatype) is not None]
        sets = tuple(ms for ms in pool if _covers(ms, datatype, job, virtual))
        if sets:
            if datatype is not job.datatype:
                ctx.log.warning(f"{job.name}: there are no data of type {job.datatype.name}; {datatype.name} is taken.")
            return attrs.evolve(job, sets=sets, datatype=datatype)
    return job


def _covers(ms: MeasurementSet, datatype: DataType, job: Job, virtual: VirtualSpws) -> bool:
    real = [r for s in job.spws if (r := virtual.to_real(VirtualSpw(s), ms.name)) is not None]
    return any(f.name == job.field for f in ms.fields) and any(
        ms.column_of(datatype, source=job.field, spw=int(r)) is not None for r in real
    )


def listed(
    ctx: StageContext, found: Sequence[Job], inputs: MakeimlistInputs, specmode: str, smaller: Mapping[str, Any],
    known: Mapping[str, ContinuumRecord],
) -> tuple[list[CleanTarget], list[ItemFailure]]:  # fmt: skip
    """Targets of all jobs; what failed with its reason. ``smaller`` is the value of hif_checkproductsize, or empty."""
    targets: list[CleanTarget] = []
    failures: list[ItemFailure] = []
    for job in found:
        own = dict(smaller.get("targets", {}).get(f"{job.field}|{','.join(map(str, job.spws))}", {}))
        if job.intent == "TARGET":
            shared = {
                "cell": smaller.get("hm_cell"), "level": smaller.get("hm_imsize"), "nbins": smaller.get("nbins"),
            }  # fmt: skip
            own = {k: v for k, v in shared.items() if v} | own
        try:
            targets.append(imagegeometry.target(ctx, job, inputs, specmode, own, known))
        except PlError as error:
            failures.append(ItemFailure(job.name, error.sentence))
            ctx.log.warning(f"{job.name}: {error.sentence}")
    return targets, failures
