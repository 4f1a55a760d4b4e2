"""Spectra of a measurement set in blocks of rows, read and written; memory does not grow with the number of rows.

Rows are numbers in the measurement set and of one shape (one data description); they may be in any order and need not
be neighbours.  CASA's arrays are [polarization, channel, row]; ours are [row, polarization, channel] of float32,
because everything that looks at spectra works along channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_kernel.errors import DataError

if TYPE_CHECKING:
    from pl_kernel.casa import Casa

Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

BLOCK_BYTES = 48_000_000
"""What one block of spectra may occupy as float32, flags not counted."""

COLUMNS = ("CORRECTED_DATA", "DATA", "FLOAT_DATA")


@attrs.frozen(eq=False)
class SpectraBlock:
    """Some spectra.

    Parameters
    ----------
    first : position of the first of them in the list of rows that was asked for.
    rows : row numbers in the measurement set, [row].
    data : [row, polarization, channel], in the unit of the column; the real part where the column is complex.
    flags : as the data; True is bad.  A flagged row (FLAG_ROW) is bad in every channel, as is what is not a number.
    """

    first: int
    rows: IntArray
    data: Float32Array
    flags: BoolArray

    @property
    def positions(self) -> slice:
        """Where these rows stand in the list that was asked for."""
        return slice(self.first, self.first + self.rows.size)


def rows_per_block(n_pol: int, n_chan: int, limit_bytes: int = BLOCK_BYTES) -> int:
    """Number of spectra rows that fit into a block; at least one."""
    return max(1, limit_bytes // (4 * max(1, n_pol * n_chan)))


def blocks(
    casa: Casa, path: str | PathLike[str], column: str, rows: ArrayLike, *, limit_bytes: int = BLOCK_BYTES
) -> Iterator[SpectraBlock]:
    """Give the spectra of ``rows`` in their order, block by block.

    Raises
    ------
    DataError : the column is absent, or the rows have spectra of different shapes.
    """
    wanted = np.asarray(rows, dtype=np.int64)
    if not wanted.size:
        return
    with casa.table(path) as table:
        name = _column(table, column, path)
        n_pol, n_chan = _shape(table, name, int(wanted[0]), path)
        step = rows_per_block(n_pol, n_chan, limit_bytes)
        for first in range(0, wanted.size, step):
            part = wanted[first : first + step]
            data, flags = _read(table, name, part, path)
            yield SpectraBlock(first, part, data, flags)


def read(
    casa: Casa, path: str | PathLike[str], column: str, rows: ArrayLike
) -> tuple[Float32Array, BoolArray]:
    """Return data and flags of ``rows`` at once, [row, polarization, channel]: for few rows.

    Raises
    ------
    DataError : as for ``blocks``.
    """
    wanted = np.asarray(rows, dtype=np.int64)
    if not wanted.size:
        return np.zeros((0, 0, 0), dtype=np.float32), np.zeros((0, 0, 0), dtype=bool)
    with casa.table(path) as table:
        return _read(table, _column(table, column, path), wanted, path)


def write(
    casa: Casa, path: str | PathLike[str], column: str, parts: Sequence[tuple[ArrayLike, ArrayLike]]
) -> None:
    """Put spectra back: ``parts`` are pairs (rows, data [row, polarization, channel])."""
    with casa.table(path, nomodify=False) as table:
        name = _column(table, column, path)
        for rows, data in parts:
            put(table, name, np.asarray(rows, dtype=np.int64), np.asarray(data))


def put(table: Any, column: str, rows: IntArray, data: NDArray[Any]) -> None:
    """Write [row, polarization, channel] into the rows of an open table."""
    if not rows.size:
        return
    kind = np.float32 if column not in ("DATA", "CORRECTED_DATA") else np.complex64
    values = data if data.dtype == bool else data.astype(kind)
    # Ascending rows are sequential on disk; CASA then rewrites each tile once.
    order = np.argsort(rows, kind="stable")
    with _selected(table, rows[order]) as part:
        part.putcol(column, np.asfortranarray(np.moveaxis(values[order], 0, -1)))


def put_scalars(table: Any, column: str, rows: IntArray, values: NDArray[Any]) -> None:
    """Write [row, polarization] (WEIGHT, SIGMA) into the rows of an open table."""
    if rows.size:
        order = np.argsort(rows, kind="stable")
        with _selected(table, rows[order]) as part:
            part.putcol(column, np.asfortranarray(values[order].T))


def read_open(table: Any, column: str, rows: IntArray) -> tuple[Float32Array, BoolArray]:
    """Return data and flags of rows of a table that is open, [row, polarization, channel].

    Raises
    ------
    DataError : the rows have spectra of different shapes.
    """
    return _read(table, column, rows, table.name())


def _read(
    table: Any, column: str, rows: IntArray, path: str | PathLike[str]
) -> tuple[Float32Array, BoolArray]:
    order = np.argsort(rows, kind="stable")
    with _selected(table, rows[order]) as part:
        try:
            cells = part.getcol(column)
            bad = part.getcol("FLAG")
        except RuntimeError as error:
            raise DataError(f"{path}: {rows.size} spectra could not be read together ({error}).") from None
        bad_rows = part.getcol("FLAG_ROW")
    values = np.ascontiguousarray(np.moveaxis(cells.real, -1, 0), dtype=np.float32)
    flags = np.ascontiguousarray(np.moveaxis(bad, -1, 0))
    flags[bad_rows] = True
    flags |= ~np.isfinite(values)
    if np.any(np.diff(order) < 0):
        back = np.argsort(order, kind="stable")
        values, flags = values[back], flags[back]
    return values, flags


class _selected:
    """Rows of a table as a table, closed afterwards."""

    def __init__(self, table: Any, rows: IntArray) -> None:
        self._table, self._rows = table, rows

    def __enter__(self) -> Any:
        self._part = self._table.selectrows([int(row) for row in self._rows])
        return self._part

    def __exit__(self, *_error: object) -> None:
        self._part.close()


def _column(table: Any, column: str, path: str | PathLike[str]) -> str:
    present = set(table.colnames())
    if column not in present:
        found = ", ".join(c for c in COLUMNS if c in present) or "none"
        raise DataError(f"{path} has no column {column} (data columns: {found}).")
    return column


def _shape(table: Any, column: str, row: int, path: str | PathLike[str]) -> tuple[int, int]:
    try:
        cell = table.getcell(column, row)
    except RuntimeError as error:
        raise DataError(f"{path} has no spectrum in row {row} of {column} ({error}).") from None
    return int(cell.shape[0]), int(cell.shape[1])
