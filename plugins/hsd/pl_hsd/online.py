"""Online flags: which spectra have any valid channel, read from FLAG and FLAG_ROW in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_hsd.rows import RowTable
from pl_kernel.effects import SetValue
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import ItemContext, StageContext

_BYTES_PER_BLOCK = 32_000_000


def read_online(
    ctx: ItemContext, ms: MeasurementSet, rows: NDArray[np.int64], npol: NDArray[Any]
) -> NDArray[np.bool_]:
    """For each row number: polarizations with a valid channel and no FLAG_ROW, shape (rows, largest npol)."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    valid = np.zeros((len(rows), int(npol.max()) if len(npol) else 0), dtype=bool)
    with ctx.casa.table(Path(ctx.work) / ms.path) as main:
        for description in sorted({d.id for d in ms.data_descriptions}):
            part = main.query(f"DATA_DESC_ID=={description} && ANTENNA1==ANTENNA2")
            try:
                _add(part, ordered, order, valid)
            finally:
                part.close()
    return valid


def _add(part: Any, ordered: NDArray[np.int64], order: NDArray[np.int64], valid: NDArray[np.bool_]) -> None:
    numbers = np.asarray(part.rownumbers(), dtype=np.int64)
    place = np.searchsorted(ordered, numbers)
    known = np.zeros(len(numbers), dtype=bool)
    inside = place < len(ordered)
    known[inside] = ordered[place[inside]] == numbers[inside]
    if not known.any():
        return
    shape = part.getcell("FLAG", 0).shape
    step = max(1, _BYTES_PER_BLOCK // max(1, int(np.prod(shape))))
    for start in range(0, len(numbers), step):
        stop = min(start + step, len(numbers))
        wanted = np.flatnonzero(known[start:stop])
        if not wanted.size:
            continue
        flags = np.asarray(part.getcol("FLAG", startrow=start, nrow=stop - start))
        whole = np.asarray(part.getcol("FLAG_ROW", startrow=start, nrow=stop - start))
        good = ~flags.all(axis=1).T & ~whole[:, None]
        target = order[place[start:stop][wanted]]
        valid[target, : good.shape[1]] = good[wanted]


def refresh_online(ctx: StageContext, ms: MeasurementSet) -> tuple[SetValue, ...]:
    """Read the flags of an imported measurement set again; return the effects that update its table of rows.

    ``row_valid`` loses what is flagged now; it never regains anything here.
    """
    rows = RowTable.open(ctx, ms)
    online = read_online(ctx, ms, np.asarray(rows["row"]), np.asarray(rows["npol"]))
    return rows.with_columns(ctx, {"online_valid": online, "row_valid": rows["row_valid"] & online})
