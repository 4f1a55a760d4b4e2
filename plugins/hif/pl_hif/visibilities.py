"""Reading what heuristics and plots need from a measurement set, once, in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from pl_kernel.ms.model import MeasurementSet

_ROWS = 20_000
"""Rows per piece: a VLA piece of 64 channels and two correlations is then 20 MB."""


@attrs.frozen(kw_only=True)
class Piece:
    """Rows of one data description: arrays as the table tool gives them, the row axis last."""

    spw: int
    columns: dict[str, np.ndarray]


def pieces(
    ctx: Any, ms: MeasurementSet, columns: Iterable[str], fields: Iterable[int] = (), spws: Iterable[int] = (),
    scans: Iterable[int] = (), cross_only: bool = True, rows: int = _ROWS,
) -> Iterator[Piece]:  # fmt: skip
    """Read columns of the rows of a selection, one data description at a time (CASA aborts on mixed shapes)."""
    wanted = list(columns)
    spw_ids = {int(s) for s in spws}
    with ctx.casa.table(ms.path) as table:
        for description in ms.data_descriptions:
            if spw_ids and int(description.spw_id) not in spw_ids:
                continue
            query = f"DATA_DESC_ID=={description.id}"
            if fields:
                query += f" && FIELD_ID IN [{','.join(str(int(f)) for f in fields)}]"
            if scans:
                query += f" && SCAN_NUMBER IN [{','.join(str(int(s)) for s in scans)}]"
            if cross_only:
                query += " && ANTENNA1!=ANTENNA2"
            part = table.query(query)
            try:
                count = part.nrows()
                for start in range(0, count, rows):
                    n = min(rows, count - start)
                    yield Piece(spw=int(description.spw_id), columns={c: part.getcol(c, start, n) for c in wanted})
            finally:
                part.close()


def observed_channels(ctx: Any, ms: MeasurementSet, fields: Iterable[int], spw: int) -> np.ndarray:
    """(nchan,) True where at least one visibility of the fields is not flagged."""
    seen = np.zeros(ms.spw(int(spw)).n_channels, bool)
    for piece in pieces(ctx, ms, ["FLAG"], fields, [spw]):
        seen |= ~piece.columns["FLAG"].all(axis=(0, 2))
        if seen.all():
            break
    return seen


def uv_sample(
    ctx: Any, ms: MeasurementSet, fields: Iterable[int], spws: Iterable[int]
) -> tuple[np.ndarray, np.ndarray]:
    """u and v in metres (2, n) and weights (n,) of the rows that are not flagged, for the estimate of the beam."""
    uv, weights = [], []
    for piece in pieces(ctx, ms, ["UVW", "WEIGHT", "FLAG"], fields, spws):
        good = ~piece.columns["FLAG"].all(axis=(0, 1))
        uv.append(piece.columns["UVW"][:2, good])
        weights.append(piece.columns["WEIGHT"][:, good].mean(axis=0))
    if not uv:
        return np.zeros((2, 0)), np.zeros(0)
    return np.concatenate(uv, axis=1), np.concatenate(weights)
