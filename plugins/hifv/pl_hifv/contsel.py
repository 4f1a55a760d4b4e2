"""Continuum channels of the targets from cont.dat, as CASA selections."""

from __future__ import annotations

from pl_hif.grids import coverage
from pl_hif.targets import channel_text
from pl_hifv.occupancy import virtual_ids
from pl_kernel.common.flagcommands import find_file
from pl_kernel.ms.contfile import ContFile, read_contfile
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.ms.virtual import VirtualSpw
from pl_kernel.stage_context import StageContext

FILE = "cont.dat"


def continuum(ctx: StageContext, ms: MeasurementSet) -> dict[int, str]:
    """Selections of continuum channels (spw:first~last;…) by field id, for the targets that cont.dat speaks of.

    Windows the file does not mention are taken whole; windows without continuum (NONE) are left out. Empty when there
    is no file, in the work folder or beside the run. Frequencies are converted from the file's frame to the channels of
    this measurement set.
    """
    path = find_file(None, FILE, ctx.work)
    if path is None:
        return {}
    file = read_contfile(path)
    known = {entry.field for entry in file.entries}
    return {
        field.id: selection
        for field in ms.fields_with_intent("TARGET")
        if field.name in known and (selection := _selection(ctx, ms, field, file))
    }


def _selection(ctx: StageContext, ms: MeasurementSet, field: Field, file: ContFile) -> str:
    virtual = virtual_ids(ctx, ms)
    parts = []
    for window in ms.science_spws:
        if field.spws and window.id not in field.spws:
            continue
        answer = file.query(field.name, VirtualSpw(virtual[int(window.id)]), window.name)
        if answer.text == "NONE":
            continue
        ranges = answer.selection.ranges_hz if answer.selection is not None else ()
        if answer.all_continuum or not ranges:
            parts.append(str(window.id))
            continue
        axis = coverage(ctx, ms, field, window, answer.selection.frame.name if answer.selection else "LSRK")
        channels = [c for low, high in ranges if (c := axis.channels(low, high)) is not None]
        if channels:
            parts.append(f"{window.id}:{channel_text(channels)}")
    return ",".join(parts)
