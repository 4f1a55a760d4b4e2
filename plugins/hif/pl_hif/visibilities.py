"""Reading what heuristics and plots need from a measurement set, once, in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from pl_kernel.ms.model import DataDescription, MeasurementSet

_ROWS = 20_000
"""Rows per piece, at most."""
_PIECE_BYTES = 4 * 2**20
"""Bytes per piece, at most: 1,000 rows of the VLA's usual windows. What is computed from a piece, and CASA's copies,
take several times as much; a long observation must not need more of it than a short one. Larger ones are slower."""
_BYTES = {
    "DATA": 16, "CORRECTED_DATA": 16, "MODEL_DATA": 16, "FLOAT_DATA": 8, "WEIGHT_SPECTRUM": 8, "SIGMA_SPECTRUM": 8,
    "FLAG": 1,
}  # fmt: skip
"""Size of one value, as the table tool gives it, of the columns that have one for every correlation and channel."""


@attrs.frozen(kw_only=True)
class Piece:
    """Rows of one data description: arrays as the table tool gives them, the row axis last."""

    spw: int
    columns: dict[str, np.ndarray]


def pieces(
    ctx: Any, ms: MeasurementSet, columns: Iterable[str], fields: Iterable[int] = (), spws: Iterable[int] = (),
    scans: Iterable[int] = (), cross_only: bool = True, rows: int = _ROWS, whole: bool = False,
) -> Iterator[Piece]:  # fmt: skip
    """Read columns of the rows of a selection, one data description at a time (CASA aborts on mixed shapes).

    Pieces have at most ``rows`` rows, and fewer where these would take too much memory. ``whole``: they end with
    an integration (neighbouring rows of one TIME) unless a single one is larger than a piece.
    """
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
            most = min(rows, _fitting(ms, description, wanted))
            try:
                count, start = part.nrows(), 0
                while start < count:
                    n = min(most, count - start)
                    if whole and start + n < count:
                        n = _to_the_last_end(part.getcol("TIME", start, n + 1))
                    yield Piece(spw=int(description.spw_id), columns={c: part.getcol(c, start, n) for c in wanted})
                    start += n
            finally:
                part.close()


def _fitting(ms: MeasurementSet, description: DataDescription, columns: Iterable[str]) -> int:
    """How many rows of a data description fit into a piece, by the largest of the columns."""
    values = len(ms.polarization_of(description.spw_id).correlations) * ms.spw(int(description.spw_id)).n_channels
    return max(1, _PIECE_BYTES // max(1, values * max((_BYTES.get(c, 0) for c in columns), default=0)))


def _to_the_last_end(times: np.ndarray) -> int:
    """Rows up to the last end of an integration; all but the last row, which is only looked at, if there is none."""
    ends = np.flatnonzero(np.diff(times))
    return int(ends[-1]) + 1 if ends.size else times.size - 1


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
