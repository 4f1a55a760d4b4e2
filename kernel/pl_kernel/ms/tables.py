"""Reading and writing CASA tables for the domain model. Worker processes only: CASA may be started here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OpenTable = Callable[..., AbstractContextManager[Any]]
"""`ctx.casa.table`, or what else gives a casatools table as a context manager: ``open_table(path, nomodify=True)``."""

_MJD_UNIX_EPOCH_S = 40587 * 86400.0


def default_open_table() -> OpenTable:
    """Tables for callers without a stage: CASA's log goes nowhere."""
    from pl_kernel.casa import Casa, Recorder

    return Casa(Recorder(), os.devnull).table


Frames = tuple[str, dict[int, str]]
"""Frame of a direction column, and the frames by code where each row has its own."""


class Subtable:
    """Columns of one subtable, read once. An absent, unreadable or empty table has no rows and no columns."""

    def __init__(self, columns: dict[str, Any], n_rows: int, frames: dict[str, Frames] | None = None) -> None:
        self.columns = columns
        self.n_rows = n_rows
        self.frames = frames or {}
        """Reference frames of the columns that hold directions."""

    def get(self, name: str, default: Any = None) -> list[Any]:
        """One value per row; `default` repeated where the column is absent. Undefined cells of array columns: None."""
        return list(self.columns[name]) if name in self.columns else [default] * self.n_rows


def read_subtable(path: Path, wanted: Sequence[str], open_table: OpenTable) -> Subtable:
    """Read `wanted` columns of a small table; columns that do not exist or cannot be read are left out."""
    if not (path / "table.dat").exists():
        return Subtable({}, 0)
    try:
        with open_table(str(path), nomodify=True) as table:
            n_rows = int(table.nrows())
            present = set(table.colnames())
            columns, frames = {}, {}
            for name in wanted:
                if n_rows and name in present:
                    values = _read_column(table, name, n_rows)
                    if values is not None:
                        columns[name] = values
                    if frame := _frames_of(table, name):
                        frames[name] = frame
            return Subtable(columns, n_rows, frames)
    except RuntimeError:  # casatools' only exception: the table is damaged
        return Subtable({}, 0)


def _read_column(table: Any, name: str, n_rows: int) -> list[Any] | None:
    try:
        if table.isscalarcol(name):
            values = table.getcol(name)
            return list(values.tolist() if hasattr(values, "tolist") else values)
        # Rows of one array column may differ in shape or hold nothing, where getcol fails or even crashes; getvarcol
        # gives each cell with one more axis, or False where it holds nothing.
        cells = table.getvarcol(name)
        return [None if isinstance(c := cells[f"r{row + 1}"], bool) else np.asarray(c)[..., 0] for row in range(n_rows)]
    except RuntimeError:
        return None


def _frames_of(table: Any, name: str) -> Frames | None:
    try:
        info = table.getcolkeyword(name, "MEASINFO") if "MEASINFO" in table.colkeywordnames(name) else {}
    except RuntimeError:
        return None
    if info.get("type") != "direction":
        return None
    codes, words = info.get("TabRefCodes", ()), info.get("TabRefTypes", ())
    return str(info.get("Ref", "J2000")), {int(c): str(w) for c, w in zip(codes, words, strict=False)}


@contextmanager
def chunks_of(table: Any, names: Sequence[str], rows_per_chunk: int) -> Iterator[Iterator[dict[str, NDArray[Any]]]]:
    """Iterate over scalar columns of a large table in chunks, so that memory does not grow with the table."""
    n_rows = int(table.nrows())

    def produce() -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, n_rows, rows_per_chunk):
            count = min(rows_per_chunk, n_rows - start)
            yield {name: np.asarray(table.getcol(name, startrow=start, nrow=count)) for name in names}

    yield produce()


def append_history(
    path: str, origin: str, messages: Sequence[str], open_table: OpenTable | None = None, priority: str = "INFO",
    application: str = "pl",
) -> None:  # fmt: skip
    """Add one HISTORY row per message to the measurement set at `path`.

    Raises:
        RuntimeError: CASA cannot write the table.
    """
    opened = open_table or default_open_table()
    now = time.time() + _MJD_UNIX_EPOCH_S
    with opened(str(Path(path) / "HISTORY"), nomodify=False) as table:
        first = int(table.nrows())
        table.addrows(len(messages))
        for row, message in enumerate(messages, first):
            table.putcell("TIME", row, now)
            table.putcell("OBSERVATION_ID", row, -1)
            table.putcell("MESSAGE", row, message)
            table.putcell("PRIORITY", row, priority)
            table.putcell("ORIGIN", row, origin)
            table.putcell("OBJECT_ID", row, 0)
            table.putcell("APPLICATION", row, application)
            table.putcell("CLI_COMMAND", row, np.array([""]))
            table.putcell("APP_PARAMS", row, np.array([""]))
