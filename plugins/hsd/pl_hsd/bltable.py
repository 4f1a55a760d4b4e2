"""What was fitted, as CASA's sdbaseline writes it: a parameter file (blparam) and a baseline table (bltable).

With the file sdbaseline fits the same functions to the same channels again; with the table it subtracts the
same baselines (``blmode="apply"``) without a fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.fitting import Fit, runs_of

BoolArray = NDArray[np.bool_]

FUNCTIONS = {"poly": 0, "chebyshev": 1, "cspline": 2, "sinusoid": 3}
"""Numbers of the functions in a baseline table."""

CLIP_ROUNDS, CLIP_SIGMA = 1, 5.0

_SCALARS = {
    "SCANNO": "uint", "BEAMNO": "uint", "ANTNO": "uint", "IFNO": "uint", "FREQ_ID": "uint", "TIME": "double",
    "NCHAN": "uint",
}  # fmt: skip
_ARRAYS = {
    "APPLY": "boolean", "FUNC_TYPE": "uint", "FUNC_PARAM": "int", "FUNC_FPARAM": "float", "MASKLIST": "uint",
    "RESULT": "float", "RMS": "float", "CLIP_THRESHOLD": "float", "CLIP_ITERATION": "uint", "USE_LF": "boolean",
    "LF_THRESHOLD": "float", "LF_AVERAGE": "uint", "LF_EDGE": "uint",
}  # fmt: skip


@attrs.frozen
class Function:
    """One fitted function: ``kind`` poly, cspline or sinusoid; order or pieces; wave numbers of a sinusoid."""

    kind: str
    number: int = 0
    waves: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """For people: "poly 3", "cspline, 4 pieces"."""
        if self.kind == "sinusoid":
            return f"sinusoid {','.join(map(str, self.waves))}"
        return f"cspline, {self.number} pieces" if self.kind == "cspline" else f"poly {self.number}"

    @property
    def fields(self) -> str:
        """The last four fields of a line of the parameter file: function, order, pieces, waves.

        Polynomials are written as Chebyshev's: sdbaseline's powers of the channel number lose digits from order 6 on.
        """
        if self.kind == "sinusoid":
            return f"sinusoid,,,[{','.join(map(str, self.waves))}]"
        return f"cspline,,{self.number}," if self.kind == "cspline" else f"chebyshev,{self.number},,"


def parameter_lines(rows: NDArray[np.int64], n_pol: int, use: BoolArray, functions: list[Function]) -> list[str]:
    """Lines of the parameter file for spectra [row * n_pol + pol]; without channels a line says so (poly 1)."""
    known: dict[bytes, str] = {}
    lines = []
    packed = np.packbits(use, axis=1)
    for i, function in enumerate(functions):
        key = packed[i].tobytes()
        if key not in known:
            _, start, stop = runs_of(use[i : i + 1])
            known[key] = ";".join(f"{a}~{b - 1}" for a, b in zip(start, stop, strict=True))
        mask = known[key]
        tail = function.fields if mask else "poly,1,,"
        lines.append(
            f"{rows[i // n_pol]},{i % n_pol},{mask},{CLIP_ROUNDS},{CLIP_SIGMA},0,,,,,{tail}"
        )
    return lines


def description() -> dict[str, Any]:
    """Table description of a baseline table, for ``table.create``."""
    common = {"dataManagerType": "StandardStMan", "dataManagerGroup": "MSMTAB", "option": 0, "maxlen": 0, "comment": ""}
    columns = {name: {**common, "valueType": kind} for name, kind in _SCALARS.items()}
    columns |= {name: {**common, "valueType": kind, "ndim": -1} for name, kind in _ARRAYS.items()}
    order = (
        "SCANNO", "BEAMNO", "ANTNO", "IFNO", "FREQ_ID", "TIME", "APPLY", "FUNC_TYPE", "FUNC_PARAM", "FUNC_FPARAM",
        "MASKLIST", "RESULT", "RMS", "NCHAN", "CLIP_THRESHOLD", "CLIP_ITERATION", "USE_LF", "LF_THRESHOLD",
        "LF_AVERAGE", "LF_EDGE",
    )  # fmt: skip
    return {name: columns[name] for name in order}


@attrs.frozen(eq=False)
class FittedSpectra:
    """Baselines of spectra with one function, in the order of ``index`` ([row * n_pol + pol])."""

    index: NDArray[np.int64]
    function: Function
    fit: Fit


def append_rows(
    table: Any, keys: Mapping[str, NDArray[Any]], n_pol: int, n_chan: int, parts: list[FittedSpectra]
) -> None:
    """Append the baselines of some rows to an open baseline table.

    keys : SCANNO, BEAMNO, ANTNO, IFNO, TIME of each row.
    """
    n = len(keys["TIME"])
    cells = _cells(n * n_pol, n_chan, parts)
    first = int(table.nrows())
    table.addrows(n)
    for name, kind in _SCALARS.items():
        values = keys.get(name, np.full(n, n_chan if name == "NCHAN" else 0))
        if name == "FREQ_ID":
            values = keys["IFNO"]
        table.putcol(name, np.asarray(values).astype(np.float64 if kind == "double" else np.int32), first, n)
    for name in _ARRAYS:
        # CASA wants [value, polarization, row] turned around: [polarization, value, row].
        cube = cells[name].reshape(n, n_pol, -1)
        if cube.shape[2]:
            table.putcol(name, np.asfortranarray(np.moveaxis(cube, 0, -1)), first, n)
        else:
            table.putcol(name, np.zeros((n_pol, 0, n), dtype=cube.dtype), first, n)


def _cells(n: int, n_chan: int, parts: list[FittedSpectra]) -> dict[str, NDArray[Any]]:
    pieces = max([p.function.number for p in parts if p.function.kind == "cspline"], default=0)
    width = max([p.fit.coefficients.shape[1] for p in parts], default=1)
    waves = max([len(p.function.waves) for p in parts], default=0)
    params = max(pieces + 1 if pieces else 0, 0)
    n_param = max(1, waves)
    ranges = 0
    cells: dict[str, NDArray[Any]] = {
        "APPLY": np.zeros((n, 1), dtype=bool), "FUNC_TYPE": np.zeros((n, 1), np.int32),
        "FUNC_PARAM": np.zeros((n, n_param), np.int32), "FUNC_FPARAM": np.zeros((n, params), np.float32),
        "RESULT": np.zeros((n, width), np.float32), "RMS": np.zeros((n, 1), np.float32),
        "CLIP_THRESHOLD": np.full((n, 1), CLIP_SIGMA, np.float32),
        "CLIP_ITERATION": np.full((n, 1), CLIP_ROUNDS, np.int32), "USE_LF": np.zeros((n, 1), dtype=bool),
        "LF_THRESHOLD": np.full((n, 1), 5.0, np.float32), "LF_AVERAGE": np.zeros((n, 1), np.int32),
        "LF_EDGE": np.zeros((n, 2), np.int32),
    }  # fmt: skip
    found = []
    for part in parts:
        kind = part.function.kind
        cells["APPLY"][part.index, 0] = part.fit.ok
        # Powers of the channel number lose all digits of a float for high orders: the same polynomial as Chebyshev's.
        cells["FUNC_TYPE"][part.index, 0] = FUNCTIONS["chebyshev" if kind == "poly" else kind]
        if kind == "sinusoid":
            cells["FUNC_PARAM"][part.index, : len(part.function.waves)] = sorted(part.function.waves)
        else:
            cells["FUNC_PARAM"][part.index, 0] = part.function.number
        if kind == "cspline":
            cells["FUNC_FPARAM"][part.index, : part.fit.knots.shape[1]] = part.fit.knots
        cells["RESULT"][part.index, : part.fit.coefficients.shape[1]] = part.fit.coefficients
        cells["RMS"][part.index, 0] = np.nan_to_num(part.fit.rms)
        spectrum, start, stop = runs_of(part.fit.used)
        count = np.bincount(spectrum, minlength=part.index.size)
        ranges = max(ranges, int(count.max(initial=0)))
        found.append((part.index, spectrum, start, stop, count))
    masks = np.zeros((n, max(2 * ranges, 2)), np.int32)
    for index, spectrum, start, stop, count in found:
        place = np.arange(spectrum.size) - np.repeat(np.cumsum(count) - count, count)
        masks[index[spectrum], 2 * place] = start
        masks[index[spectrum], 2 * place + 1] = stop - 1
    cells["MASKLIST"] = masks
    return cells
