"""Subtract the continuum from the visibilities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import attrs

from pl_hif import grids, linefiles, linefree, sizelimits
from pl_hif.targets import CONTINUUM, ContinuumRecord, channel_text
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.effects import AddMeasurementSet, Effect, SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.reader import read_measurement_set
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.serialize import from_json, to_json
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

TYPES = (
    DataType.SELFCAL_CONTLINE_SCIENCE, DataType.REGCAL_CONTLINE_SCIENCE, DataType.REGCAL_CONTLINE_ALL,
)  # fmt: skip


def _check_orders(value: int | dict[str, dict[str, int]]) -> None:
    orders = [n for by_spw in value.values() for n in by_spw.values()] if isinstance(value, dict) else [value]
    if any(n < 0 for n in orders):
        raise InputError("fitorder: an order is 0 or more.")


class UvcontsubInputs(Inputs):
    field: str = param("", doc="Fields to subtract from, as a CASA selection; default all with the intent.")
    intent: str = param("TARGET", doc="Intent of the fields.")
    spw: str = param("", doc="Virtual ids of the windows to subtract in; default all with known continuum.")
    fitorder: int | dict[str, dict[str, int]] | None = param(
        None, minimum=0,
        doc="Order of the fit, one for all or by field and window (virtual id), {'M82': {'17': 2}}; default 1, or 0 "
        "where the continuum is too narrow for a slope.", check=_check_orders,
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Subtraction:
    """What was fitted in one window (real id) of a field; ``channels`` is CASA's text, empty meaning all of them."""

    vis: str
    outputvis: str
    field: str
    field_id: int
    spw: int
    channels: str
    order: int
    reason: str


class UvcontsubResult(Result):
    """Fits by field and window, and the new measurement sets by the name of the old.

    ``skipped``: why there was nothing to do; ``refusal``: why nothing was done.
    """

    subtractions: tuple[Subtraction, ...]
    outputs: dict[str, str]
    skipped: str = ""
    refusal: str = ""


class Uvcontsub(Stage[UvcontsubInputs, UvcontsubResult]):
    """Subtract the continuum from the visibilities.

    A polynomial in frequency is fitted to the continuum channels that hif_findcont found, for every baseline and
    integration, and subtracted (CASA uvcontsub). The order is 1; it is 0 where the continuum covers less than 5 % of
    the window, or spans less than a third of it (reference pipeline, 2026). The line data are a new measurement set of
    type REGCAL_LINE_SCIENCE.

    Where hif_findcont did not run, the ranges of a cont.dat are taken: of the work or run folder, beside it, or of the
    products that were restored.

    A window in which no continuum was found is left out, and named: the reference fits all of its channels, lines
    included. There is nothing to do where the targets were split off for continuum only.
    """

    name = "hif_uvcontsub"
    page_reads = frozenset()
    topic = "imaging"
    each_set = True

    def sets(self, ctx: StageContext, inputs: UvcontsubInputs) -> Sequence[MeasurementSet]:
        return grids.best_type(ctx.measurement_sets(inputs.vis), TYPES)[1]

    def run(self, ctx: StageContext, inputs: UvcontsubInputs) -> UvcontsubResult:
        refused = sizelimits.refusal(ctx)
        if refused:
            ctx.log.error(refused)
            return UvcontsubResult(subtractions=(), outputs={}, refusal=refused)
        if linefree.continuum_only(ctx.measurement_sets(inputs.vis)):
            ctx.log.info(linefree.NO_LINES)
            return UvcontsubResult(subtractions=(), outputs={}, skipped=linefree.NO_LINES)
        datatype, sets = grids.best_type(ctx.measurement_sets(inputs.vis), TYPES)
        if datatype is None:
            raise PlError("There are no calibrated data to subtract a continuum from: run hif_applycal first.")
        records = {k: from_json(v, ContinuumRecord) for k, v in ctx.value(CONTINUUM, {}).items()}
        added: list[Effect] = []
        if not records:
            records = _from_file(ctx, sets, inputs.intent)
            added.append(SetValue(CONTINUUM, {k: to_json(r) for k, r in records.items()}))
        found: list[Subtraction] = []
        outputs: dict[str, str] = {}
        failures: list[ItemFailure] = []
        for ms in sets:
            parts, without = _fits(ms, records, inputs, VirtualSpws.of(ctx.context.measurement_sets))
            failures += without
            for failure in without:
                ctx.log.warning(f"{failure.item}: {failure.reason}")
            if not parts:
                ctx.log.warning(f"{ms.name} has no field with known continuum.")
                continue
            output = f"{ms.stem}_line.ms"
            column = "corrected" if ms.column_of(datatype) == "CORRECTED_DATA" else "data"
            ctx.files.rmtree(output)
            ctx.casa.uvcontsub(
                vis=ms.path, outputvis=output, field=",".join(dict.fromkeys(str(p.field_id) for p in parts)),
                spw=",".join(dict.fromkeys(str(p.spw) for p in parts)), datacolumn=column, fitspec=_fitspec(parts),
            )  # fmt: skip
            if not Path(output).is_dir():
                raise PlError(f"CASA wrote no continuum-subtracted data of {ms.name}; its log says why.")
            line = read_measurement_set(
                ctx.work / output, ctx.telescopes, name=output, session=ms.session, relative_to=ctx.work,
                open_table=ctx.casa.table,
            )  # fmt: skip
            # uvcontsub renumbers neither fields nor windows, and copies no intents where the data have none.
            if ms.intents_from == "rules":
                line = line.with_intents({f.id: ms.field(f.id).intents for f in line.fields})
            line = attrs.evolve(line, data_types=(), origin=ms.name)
            added.append(AddMeasurementSet(line.with_data_type(DataType.REGCAL_LINE_SCIENCE, "DATA")))
            outputs[ms.name] = output
            found += [attrs.evolve(p, outputvis=output) for p in parts]
        return UvcontsubResult(
            subtractions=tuple(found), outputs=outputs, failures=tuple(failures), effects=tuple(added)
        )


def _from_file(ctx: StageContext, sets: Sequence[MeasurementSet], intent: str) -> dict[str, ContinuumRecord]:
    """The ranges of a cont.dat, where hif_findcont did not run."""
    path = linefiles.known_contfile(ctx)
    if path is None:
        raise PlError(
            "Nobody knows the continuum channels yet: run hif_findcont before hif_uvcontsub, or put a cont.dat beside"
            " the run."
        )
    records = linefiles.all_records(ctx, path, sets, intent)
    if not records:
        raise PlError(f"{path} names no continuum of the fields with intent {intent}.")
    ctx.log.info(f"The continuum channels are those of {path}.")
    return records


def _fits(
    ms: MeasurementSet, records: dict[str, ContinuumRecord], inputs: UvcontsubInputs, virtual: VirtualSpws
) -> tuple[list[Subtraction], list[ItemFailure]]:
    """What to fit where, and the windows without continuum."""
    without: list[ItemFailure] = []
    spws = {int(s) for s in re.findall(r"\d+", inputs.spw)}
    wanted = set(ms.field_ids(inputs.field)) if inputs.field else {f.id for f in ms.fields}
    parts = []
    for field in ms.fields_with_intent(inputs.intent):
        if field.id not in wanted:
            continue
        for record in records.values():
            real = virtual.to_real(VirtualSpw(record.spw), ms.name)
            if record.field != field.name or real is None or (spws and record.spw not in spws):
                continue
            channels = record.channels.get(ms.name, ())
            if not channels:
                without.append(
                    ItemFailure(
                        f"{ms.name}, {field.name}, spw {record.spw}",
                        "hif_findcont found no continuum, so nothing was subtracted and there is no cube; give the"
                        " channels with its parameter contfile.",
                    )
                )
                continue
            given = inputs.fitorder
            if isinstance(given, dict):
                given = given.get(field.name, {}).get(str(record.spw))
            order = record.fit_order if given is None else given
            reason = "given by the user" if given is not None else (
                "the continuum is too narrow for a slope" if record.fit_order == 0 else "the continuum can hold a slope"
            )  # fmt: skip
            parts.append(
                Subtraction(
                    vis=ms.name, outputvis="", field=field.name, field_id=field.id, spw=int(real),
                    channels="" if record.all_continuum else channel_text(channels), order=order, reason=reason,
                )
            )  # fmt: skip
    return parts, without


def _fitspec(parts: list[Subtraction]) -> dict[str, dict[str, dict[str, object]]]:
    """CASA's nested form: field id → spw → channels and order."""
    spec: dict[str, dict[str, dict[str, object]]] = {}
    for p in parts:
        spec.setdefault(str(p.field_id), {})[str(p.spw)] = {"chan": p.channels, "fitorder": p.order}
    return spec
