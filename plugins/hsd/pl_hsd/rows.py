"""What is known of each spectrum: one columnar table per imported measurement set, read through memory maps.

A table is a folder ``work/<stem>.rows`` with one ``.npy`` file per column and ``header.json``.  Column files are never
written twice: a stage that changes a column writes ``<column>.s<stage>.npy``, and an effect says that it is the current
one.  So a run that goes back finds the column as it was, and a branch may share the files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_kernel.effects import SetValue
from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.serialize import read_json, write_json
from pl_kernel.stage_context import StageContext

FORMAT = 1

COLUMNS: Mapping[str, str] = {
    "row": "int64",
    "time_s": "float64",
    "exposure_s": "float64",
    "interval_s": "float64",
    "scan": "int32",
    "field": "int32",
    "spw": "int32",
    "feed": "int32",
    "antenna": "int32",
    "state": "int32",
    "npol": "int32",
    "nchan": "int32",
    "ra_deg": "float64",
    "dec_deg": "float64",
    "shift_ra_deg": "float64",
    "shift_dec_deg": "float64",
    "ofs_ra_deg": "float64",
    "ofs_dec_deg": "float64",
    "az_deg": "float64",
    "el_deg": "float64",
    "on_source": "bool",
    "pointing_ok": "bool",
    "position_group": "int32",
    "raster_row": "int32",
    "raster_map": "int32",
    "online_valid": "bool",
    "tsys_k": "float32",
    "row_valid": "bool",
}
"""Columns that every table has, with their type; those of ``PER_POLARIZATION`` have the shape (rows, polarizations)."""

PER_POLARIZATION = frozenset({"online_valid", "tsys_k", "row_valid"})
RAGGED = frozenset({"line_mask"})
"""Columns of spans: any number of (first, last) channels for each row."""

_KEY = "hsd.columns/"


@attrs.frozen(kw_only=True)
class Header:
    """What holds for a whole table.

    ``frame`` is that of ``ra_deg``, ``dec_deg``.  ``members`` lists (antenna, spw, field) that have spectra on the
    source; spw ids are real ones of the measurement set.  ``org_direction_deg`` has, for fields that move, the
    direction of the source at its first spectrum.
    """

    ms: str
    n_rows: int
    npol: int
    frame: str = "ICRS"
    members: tuple[tuple[int, int, int], ...] = ()
    org_direction_deg: dict[int, tuple[float, float]] = attrs.field(factory=dict)
    columns: tuple[str, ...] = tuple(COLUMNS)
    format: int = FORMAT


def origin_name(ctx: StageContext, ms: MeasurementSet | str) -> str:
    """Name of the imported measurement set from which ``ms`` was made, in however many steps."""
    known = {m.name: m for m in ctx.context.measurement_sets}
    record = known.get(ms) if isinstance(ms, str) else ms
    name = ms if isinstance(ms, str) else ms.name
    while record is not None and record.origin and record.origin != record.name:
        name = record.origin
        record = known.get(name)
    return name


def folder_name(ms_name: str) -> str:
    """Name in the work folder of the table of an imported measurement set."""
    return f"{ms_name.removesuffix('.ms')}.rows"


@attrs.frozen(slots=False, kw_only=True)
class RowTable:
    """The rows of one imported measurement set: TARGET and REFERENCE autocorrelations of its science windows.

    They are sorted by time, then antenna, then window.  ``table["ra_deg"]`` is a read-only memory map of length ``n``
    (or shape (n, npol)); copies to other processes carry only names.
    """

    folder: str
    header: Header
    current: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def open(cls, ctx: StageContext, ms: MeasurementSet | str) -> RowTable:
        """The table of a measurement set; a derived one resolves to what it was made from.

        Raises:
            DataError: it was imported without one (by another plugin's import stage).
        """
        origin = origin_name(ctx, ms)
        folder = Path(ctx.work) / folder_name(origin)
        if not (folder / "header.json").is_file():
            raise DataError(
                f"{origin} has no table of single-dish rows; import it with hsd_importdata or hsdn_importdata."
            )
        prefix = f"{_KEY}{origin}/"
        changed = {k.removeprefix(prefix): str(v) for k, v in ctx.context.values.items() if k.startswith(prefix)}
        return cls(folder=str(folder), header=read_json(folder / "header.json", Header), current=changed)

    def after(self, effects: Iterable[object]) -> RowTable:
        """The table as it will be once these effects hold: what a page shows that is drawn with the result."""
        prefix = f"{_KEY}{self.ms}/"
        new = {
            e.key.removeprefix(prefix): str(e.value)
            for e in effects
            if isinstance(e, SetValue) and e.key.startswith(prefix)
        }
        return attrs.evolve(self, current={**self.current, **new})

    # ---- reading ----

    @property
    def ms(self) -> str:
        """Name of the imported measurement set."""
        return self.header.ms

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.header.n_rows

    @property
    def npol(self) -> int:
        """Largest number of polarizations of a window; windows with fewer have ``rows["npol"]`` of them valid."""
        return self.header.npol

    def __getitem__(self, column: str) -> NDArray[Any]:
        if column in RAGGED:
            raise InputError(f"{column} has any number of spans per row; ask for ragged('{column}').")
        return self._load(column)

    def __contains__(self, column: str) -> bool:
        return column in self.header.columns or column in self.current

    def _load(self, column: str) -> NDArray[Any]:
        if column not in self._maps:
            name = self.current.get(column, f"{column}.npy")
            try:
                values = np.load(Path(self.folder) / name, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise DataError(f"Column {column} of {self.folder} cannot be read: {error}.") from error
            self._maps[column] = values
        return self._maps[column]

    @cached_property
    def _maps(self) -> dict[str, NDArray[Any]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "header": self.header, "current": dict(self.current)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    def ragged(self, column: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Offsets [n + 1] and spans [m, 2]: row i has ``spans[offsets[i]:offsets[i + 1]]``; none before it is set."""
        if f"{column}.offsets" not in self.current:
            return np.zeros(self.n + 1, dtype=np.int64), np.zeros((0, 2), dtype=np.int32)
        return self._load(f"{column}.offsets"), self._load(f"{column}.spans")

    def select(
        self,
        *,
        antenna: int | None = None,
        spw: int | None = None,
        field: int | None = None,
        on_source: bool | None = None,
        valid: bool = False,
    ) -> NDArray[np.int64]:
        """Indices of rows, ascending; ``valid`` drops rows whose online flags leave no polarization."""
        chosen = np.ones(self.n, dtype=bool)
        for column, value in (("antenna", antenna), ("spw", spw), ("field", field), ("on_source", on_source)):
            if value is not None:
                chosen &= self[column] == value
        if valid:
            chosen &= self["online_valid"].any(axis=1)
        return np.flatnonzero(chosen)

    # ---- changing ----

    def with_columns(self, ctx: StageContext, columns: Mapping[str, NDArray[Any]]) -> tuple[SetValue, ...]:
        """Write new values of columns (known ones or new ones); return the effects that make them the current ones.

        Raises:
            InputError: a column has not one value per row.
        """
        effects = []
        for name, values in columns.items():
            array = np.asarray(values, dtype=COLUMNS.get(name))
            if array.shape[:1] != (self.n,) or (name in PER_POLARIZATION and array.shape != (self.n, self.npol)):
                raise InputError(f"Column {name} of {self.ms} needs {self.n} rows; got the shape {array.shape}.")
            effects.append(self._write(ctx, name, array))
        return tuple(effects)

    def with_ragged(
        self, ctx: StageContext, column: str, offsets: NDArray[Any], spans: NDArray[Any]
    ) -> tuple[SetValue, ...]:
        """Write a column of spans (see ``ragged``); return the effects that make it the current one."""
        offsets, spans = np.asarray(offsets, dtype=np.int64), np.asarray(spans, dtype=np.int32).reshape(-1, 2)
        fits = offsets.shape == (self.n + 1,) and offsets[0] == 0 and offsets[-1] == len(spans)
        if not fits or (np.diff(offsets) < 0).any():
            raise InputError(f"The offsets of {column} of {self.ms} do not fit {self.n} rows and {len(spans)} spans.")
        return (self._write(ctx, f"{column}.offsets", offsets), self._write(ctx, f"{column}.spans", spans))

    def _write(self, ctx: StageContext, column: str, array: NDArray[Any]) -> SetValue:
        name = f"{column}.s{ctx.stage_number}.npy"
        save(Path(self.folder) / name, array)
        return SetValue(f"{_KEY}{self.ms}/{column}", name)


def save(path: Path, array: NDArray[Any]) -> None:
    """Write one column, whole or not at all: a table that another run shares must not change under it."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    temporary.replace(path)


def write_table(folder: Path, header: Header, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a new table; one that a former attempt left is replaced.

    Raises:
        InputError: columns are missing or have another number of rows.
    """
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise InputError(f"A table of rows needs the columns {', '.join(missing)}.")
    for name, values in columns.items():
        if len(values) != header.n_rows:
            raise InputError(f"Column {name} has {len(values)} values for {header.n_rows} rows.")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, values in columns.items():
        save(partial / f"{name}.npy", np.asarray(values, dtype=COLUMNS.get(name)))
    write_json(partial / "header.json", attrs.evolve(header, columns=tuple(columns)))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def spans_of(offsets: NDArray[np.int64], spans: NDArray[np.int32], row: int) -> NDArray[np.int32]:
    """The spans of one row, shape (spans, 2)."""
    return spans[offsets[row] : offsets[row + 1]]


def ragged_of(lists: Sequence[Sequence[Sequence[int]]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Offsets and spans of one list of (first, last) per row."""
    counts = [len(item) for item in lists]
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    flat = [pair for item in lists for pair in item]
    return offsets, np.asarray(flat, dtype=np.int32).reshape(-1, 2)
