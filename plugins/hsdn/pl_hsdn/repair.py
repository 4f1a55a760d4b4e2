"""What converters get wrong in measurement sets of the 45-m telescope, put right in the working copy and said.

Found in real data (receiver H40, 2024): cells of directions with their axes exchanged, which CASA's imaging refuses,
and a declination of the field that was multiplied by 15 like a right ascension.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_hsd.pointing import constant_terms
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

_DIRECTIONS = {
    "POINTING": ("DIRECTION", "TARGET", "SOURCE_OFFSET", "POINTING_OFFSET"),
    "FIELD": ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"),
}


def repair_directions(ctx: StageContext, ms: MeasurementSet) -> tuple[str, ...]:
    """Put exchanged axes and impossible declinations right; return a sentence for each repair.

    Raises:
        DataError: a field lies beyond a pole and POINTING does not tell where it is.
    """
    said = []
    for table, columns in _DIRECTIONS.items():
        if turned := _turn(ctx, Path(ctx.work) / ms.path / table, columns):
            said.append(f"Cells of {table} ({', '.join(turned)}) had their axes exchanged; they were put right.")
    beyond = [f for f in ms.fields if abs(f.dec_rad) > math.pi / 2]
    for field in beyond:
        ra, dec = _pointed_at(ctx, ms)
        _move_field(ctx, Path(ctx.work) / ms.path, field.id, field.source_id, ra, dec)
        said.append(
            f"The declination of {field.name}, {math.degrees(field.dec_rad):.2f} degrees, cannot be; the median"
            f" direction of POINTING is taken: {math.degrees(ra) % 360:.5f}, {math.degrees(dec):+.5f} degrees."
        )
    return tuple(said)


def _turn(ctx: StageContext, path: Path, columns: tuple[str, ...]) -> list[str]:
    if not (path / "table.dat").is_file():
        return []
    turned = []
    with ctx.casa.table(path) as table:
        names = [c for c in columns if c in table.colnames() and table.nrows() and _is_turned(table, c)]
    if not names:
        return []
    with ctx.casa.table(path, nomodify=False) as table:
        for name in names:
            for row in range(int(table.nrows())):
                cell = np.asarray(table.getcell(name, row))
                if cell.shape == (1, 2):
                    table.putcell(name, row, np.ascontiguousarray(cell.T))
            turned.append(name)
    return turned


def _is_turned(table: Any, column: str) -> bool:
    return bool(table.iscelldefined(column, 0)) and np.asarray(table.getcell(column, 0)).shape == (1, 2)


def _pointed_at(ctx: StageContext, ms: MeasurementSet) -> tuple[float, float]:
    path = Path(ctx.work) / ms.path / "POINTING"
    direction: NDArray[np.float64] = np.zeros((0, 2))
    if (path / "table.dat").is_file():
        with ctx.casa.table(path) as table:
            if table.nrows():
                direction = constant_terms(np.asarray(table.getcol("DIRECTION")))
    good = direction[np.isfinite(direction).all(axis=1) & (np.abs(direction[:, 1]) <= math.pi / 2)]
    if not len(good):
        raise DataError(f"{ms.name} gives a declination beyond the pole, and its POINTING does not help.")
    centre = np.exp(1j * good[:, 0])
    return float(np.angle(np.median(centre.real) + 1j * np.median(centre.imag))), float(np.median(good[:, 1]))


def _move_field(ctx: StageContext, path: Path, field: int, source: int, ra: float, dec: float) -> None:
    with ctx.casa.table(path / "FIELD", nomodify=False) as table:
        for name in _DIRECTIONS["FIELD"]:
            table.putcell(name, field, np.array([[ra], [dec]]))
    if not (path / "SOURCE" / "table.dat").is_file():
        return
    with ctx.casa.table(path / "SOURCE", nomodify=False) as table:
        for row in range(int(table.nrows())):
            if int(table.getcell("SOURCE_ID", row)) == source:
                table.putcell("DIRECTION", row, np.array([ra, dec]))
