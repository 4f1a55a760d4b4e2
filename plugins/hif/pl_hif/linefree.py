"""Which data of a continuum image are free of lines, and whether a run has lines to look for at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pl_hif import grids
from pl_hif.targets import ContinuumRecord, channel_text
from pl_kernel import DataError
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext

NO_LINES = "The targets were split off as continuum, without line windows: there are no lines to look for."
CONTINUUM_TYPES = (DataType.REGCAL_CONT_SCIENCE, DataType.SELFCAL_CONT_SCIENCE, DataType.IM_CONT_SCIENCE)
LINE_TYPES = (
    DataType.REGCAL_CONTLINE_SCIENCE, DataType.SELFCAL_CONTLINE_SCIENCE, DataType.IM_CONTLINE_SCIENCE,
    DataType.REGCAL_LINE_SCIENCE, DataType.SELFCAL_LINE_SCIENCE, DataType.IM_LINE_SCIENCE,
)  # fmt: skip


def _having(sets: Iterable[MeasurementSet], types: Sequence[DataType]) -> list[MeasurementSet]:
    return [ms for ms in sets if any(t.data_type in types for t in ms.data_types)]


def continuum_only(sets: Sequence[MeasurementSet]) -> bool:
    """Whether targets were split off for continuum images, and none for lines: then no stage for lines has work.

    The reference pipeline (2026) skips these stages for such data, too.
    """
    return bool(_having(sets, CONTINUUM_TYPES)) and not _having(sets, LINE_TYPES)


def not_searched(ctx: StageContext, datatype: DataType, field: str, spws: Sequence[int]) -> set[int]:
    """Windows (virtual ids) whose channels need not be known to be free of lines.

    Where data were split off for continuum images and for lines, these are the windows of the former that the latter
    lack: nobody set them up for a line, and hif_findcont does not look at them.
    """
    lines = _having(ctx.context.measurement_sets, LINE_TYPES)
    if datatype not in CONTINUUM_TYPES or not lines:
        return set()
    return set(spws) - {int(s) for s in grids.windows_of(ctx, lines, field)}


def channels(
    ctx: StageContext, sets: Sequence[MeasurementSet], field: str, records: Sequence[ContinuumRecord]
) -> dict[tuple[str, int], str]:
    """Line-free channels, as CASA writes them, by measurement set and window (virtual id).

    The ranges of a record are frequencies: they hold in measurement sets that hif_findcont has not seen, too, as those
    that were split off for continuum, with channels of their own. Windows that are all continuum have no entry.
    """
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    found = {}
    for record in records:
        if record.all_continuum or not record.ranges_hz:
            continue
        for ms in sets:
            real = virtual.to_real(VirtualSpw(record.spw), ms.name)
            ranges = record.channels.get(ms.name, ())
            if not ranges and real is not None:
                ranges = _converted(ctx, ms, field, int(real), record)
            if ranges:
                found[ms.name, record.spw] = channel_text(ranges)
    return found


def _converted(
    ctx: StageContext, ms: MeasurementSet, field: str, spw: int, record: ContinuumRecord
) -> tuple[tuple[int, int], ...]:
    of = next((f for f in ms.fields if f.name == field), None)
    if of is None:
        return ()
    try:
        covered = grids.coverage(ctx, ms, of, ms.spw(spw), record.frame)
    except DataError:  # all flagged: nothing of it gets into the image
        return ()
    return tuple(c for low, high in record.ranges_hz if (c := covered.channels(low, high)) is not None)
