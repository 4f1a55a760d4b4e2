"""Whether two runs gave the same numbers: tables cell by cell, images to a part in a million.

For tests and benchmarks that repeat a run in another way (more workers, a kill in between).  Runs in a process that may
import CASA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..casa import Casa, Recorder

IMAGE_TOLERANCE = 1e-6
"""Of the largest absolute value of an image."""
_ROWS = 5000


def differences(one: Path, two: Path, logfile: Path | str = os.devnull) -> list[str]:
    """Compare the CASA tables in two work folders; return what differs, ``name: column`` or ``name: absent``.

    Main tables are compared in all their columns, bit by bit (NaN equals NaN); images within IMAGE_TOLERANCE.
    """
    casa = Casa(Recorder(), logfile)
    first, second = ({p.name for p in folder.iterdir() if (p / "table.dat").is_file()} for folder in (one, two))
    found = [f"{name}: absent" for name in sorted(first ^ second)]
    for name in sorted(first & second):
        found += [f"{name}: {column}" for column in _differing(casa, one / name, two / name)]
    return found


def _differing(casa: Casa, one: Path, two: Path) -> Iterator[str]:
    is_image = "Image" in (one / "table.info").read_text(errors="replace").split("\n", 1)[0]
    with casa.table(one) as a, casa.table(two) as b:
        columns = sorted(a.colnames())
        if columns != sorted(b.colnames()):
            yield "columns"
            return
        if a.nrows() != b.nrows():
            yield "rows"
            return
        for column in columns:
            for start in range(0, a.nrows(), _ROWS):
                tolerance = IMAGE_TOLERANCE if is_image else 0.0
                if not _same(_cells(a, column, start), _cells(b, column, start), tolerance):
                    yield column
                    break


def _cells(table: Any, column: str, start: int) -> list[Any]:
    count = min(_ROWS, table.nrows() - start)
    if table.isvarcol(column):  # cells of different shapes, or none
        cells = table.getvarcol(column, start, count)
        return [cells[key] for key in sorted(cells)]
    return [table.getcol(column, start, count)]


def _same(one: list[Any], two: list[Any], tolerance: float) -> bool:
    return len(one) == len(two) and all(_equal(a, b, tolerance) for a, b in zip(one, two, strict=True))


def _equal(one: Any, two: Any, tolerance: float) -> bool:
    a, b = np.asarray(one), np.asarray(two)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    if not tolerance:
        return bool(np.array_equal(a, b, equal_nan=True))
    scale = np.nanmax(np.abs(a), initial=0.0)
    return bool(np.array_equal(np.isnan(a), np.isnan(b)) and np.nanmax(np.abs(a - b), initial=0.0) <= tolerance * scale)
