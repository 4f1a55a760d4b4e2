"""Copies of the calibrators' corrected data, on which gains are solved without touching the observation itself.

A copy keeps all ids of the measurement set it comes from (fields, windows, antennas, scans), so that every selection
holds for both. Each has a name of its own measurement set and stage: runs of several sets do not collide.
"""

from __future__ import annotations

from typing import Any

import attrs

from pl_hifv.calibrators import Selection
from pl_kernel import PlError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import compact_ids


def has_corrected(ctx: Any, ms: MeasurementSet) -> bool:
    """Whether the corrected column is there by now; the model of the run may be older."""
    with ctx.casa.table(ms.path) as table:
        return "CORRECTED_DATA" in table.colnames()


def as_copy(ms: MeasurementSet, path: str) -> MeasurementSet:
    """The record of a copy: the same data under another path."""
    return attrs.evolve(ms, path=path)


def split_corrected(ctx: Any, ms: MeasurementSet, chosen: Selection, path: str) -> MeasurementSet:
    """Split the corrected data of all calibrator scans that are not flagged altogether, with the ids they have.

    Raises
    ------
    PlError : there is no calibrator scan.
    """
    if not chosen.calibrator_scans:
        raise PlError(f"{ms.name} has no calibrator scan to work on.")
    ctx.files.rmtree(path)
    ctx.files.rmtree(f"{path}.flagversions")
    ctx.casa.mstransform(
        vis=ms.path, outputvis=path, datacolumn="corrected", scan=compact_ids(chosen.calibrator_scans),
        spw=compact_ids(s for b in chosen.bands for s in b.spws), keepflags=False, reindex=False,
    )  # fmt: skip
    return as_copy(ms, path)


def scans_with_data(ctx: Any, ms: MeasurementSet) -> set[int]:
    """Scan numbers that have a row in a copy."""
    with ctx.casa.table(ms.path) as table:
        return {int(s) for s in set(table.getcol("SCAN_NUMBER").tolist())}


def fields_with_data(ctx: Any, ms: MeasurementSet) -> set[int]:
    """Ids of fields that have a row in a copy."""
    with ctx.casa.table(ms.path) as table:
        return {int(f) for f in set(table.getcol("FIELD_ID").tolist())}
