"""Data types: what state of the reduction a data column holds, and which state a stage wants to work on."""

from __future__ import annotations

import ast
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from pl_kernel.errors import DataError, InputError, UnknownName

if TYPE_CHECKING:
    from pl_kernel.ms.model import MeasurementSet
    from pl_kernel.ms.tables import OpenTable

HISTORY_ORIGIN = "Datatype Handler"
"""ORIGIN of the two HISTORY rows that keep the types in the measurement set, as the reference pipeline writes them."""


class DataType(enum.Enum):
    """States of a reduction in the order in which a run reaches them; RAW is the earliest."""

    RAW = 0
    REGCAL_CONTLINE_ALL = 1
    ATMCORR = 2
    BASELINED = 3
    REGCAL_CONTLINE_SCIENCE = 4
    SELFCAL_CONTLINE_SCIENCE = 5
    IM_CONTLINE_SCIENCE = 6
    REGCAL_CONT_SCIENCE = 7
    SELFCAL_CONT_SCIENCE = 8
    IM_CONT_SCIENCE = 9
    REGCAL_LINE_SCIENCE = 10
    SELFCAL_LINE_SCIENCE = 11
    IM_LINE_SCIENCE = 12

    @property
    def priority(self) -> int:
        """Rank in the order above; measurement sets of a run are sorted by it."""
        return int(self.value)

    @property
    def tag(self) -> str:
        """Short name for colour tags: RAW, REGCAL, SELFCAL or IMAGING (other types: their own name)."""
        head = self.name.split("_")[0]
        return {"IM": "IMAGING"}.get(head, head)


_CONTLINE = (
    DataType.IM_CONTLINE_SCIENCE,
    DataType.SELFCAL_CONTLINE_SCIENCE,
    DataType.REGCAL_CONTLINE_SCIENCE,
    DataType.REGCAL_CONTLINE_ALL,
    DataType.RAW,
)
_CALIBRATORS = (DataType.REGCAL_CONTLINE_ALL, DataType.RAW)


def imaging_order(intent: str, specmode: str) -> tuple[DataType, ...]:
    """Types to try for an image, best first (choice table of the reference pipeline, 2026).

    Raises:
        UnknownName: `specmode` is none of mfs, cont, cube, repBW.
    """
    if "TARGET" not in intent.split(","):
        return _CALIBRATORS
    if specmode == "mfs":
        return _CONTLINE
    if specmode == "cont":
        first = (DataType.IM_CONT_SCIENCE, DataType.SELFCAL_CONT_SCIENCE, DataType.REGCAL_CONT_SCIENCE)
    elif specmode in ("cube", "repBW"):
        first = (DataType.IM_LINE_SCIENCE, DataType.SELFCAL_LINE_SCIENCE, DataType.REGCAL_LINE_SCIENCE)
    else:
        raise UnknownName("specmode", specmode, ("mfs", "cont", "cube", "repBW"))
    return first + _CONTLINE


@attrs.frozen
class ColumnType:
    """`data_type` is in `column` (DATA, CORRECTED_DATA, FLOAT_DATA …); empty `sources` / `spws` mean all."""

    data_type: DataType
    column: str
    sources: frozenset[str] = frozenset()
    spws: frozenset[int] = frozenset()

    def covers(self, source: str | None = None, spw: int | None = None) -> bool:
        """Whether the type holds for a source and a window (None: any)."""
        return (source is None or not self.sources or source in self.sources) and (
            spw is None or not self.spws or spw in self.spws
        )


def with_type(types: Sequence[ColumnType], new: ColumnType, *, overwrite: bool = False) -> tuple[ColumnType, ...]:
    """Types with one more assignment. One type sits in one column, one column holds one type per source and spw.

    Raises:
        DataError: the column or the type is taken and `overwrite` is not set.
    """
    rivals = [t for t in types if (t.column == new.column) != (t.data_type is new.data_type) and _overlap(t, new)]
    if rivals and not overwrite:
        old = rivals[0]
        raise DataError(
            f"Column {old.column} already holds {old.data_type.name}; it cannot hold {new.data_type.name} in"
            f" {new.column} as well unless the assignment is replaced on purpose."
        )
    kept = [t for t in types if t not in rivals and (t.column, t.data_type) != (new.column, new.data_type)]
    same = [t for t in types if (t.column, t.data_type) == (new.column, new.data_type)]
    merged = new
    for old in same:
        merged = attrs.evolve(
            merged,
            sources=frozenset() if not (old.sources and merged.sources) else old.sources | merged.sources,
            spws=frozenset() if not (old.spws and merged.spws) else old.spws | merged.spws,
        )
    return tuple(sorted([*kept, merged], key=lambda t: (t.data_type.priority, t.column)))


def _overlap(one: ColumnType, other: ColumnType) -> bool:
    sources = not one.sources or not other.sources or bool(one.sources & other.sources)
    spws = not one.spws or not other.spws or bool(one.spws & other.spws)
    return sources and spws


def of_first_type(
    measurement_sets: Iterable[MeasurementSet],
    types: Sequence[DataType],
    *,
    source: str | None = None,
    spw: int | None = None,
) -> tuple[MeasurementSet, ...]:
    """Walk `types`; return the measurement sets of the first type that any of them has (nothing when none has)."""
    pool = tuple(measurement_sets)
    for data_type in types:
        found = tuple(ms for ms in pool if ms.column_of(data_type, source=source, spw=spw) is not None)
        if found:
            return found
    return ()


def parse_column_types(columns: Mapping[str, str], *, only_targets: bool) -> tuple[ColumnType, ...]:
    """A user's map such as ``{"data": "raw", "corrected": "regcal_contline"}``.

    Types without the ending `_ALL` / `_SCIENCE` get `_SCIENCE` when the data hold targets only, else `_ALL` where
    such a type exists.

    Raises:
        UnknownName: a type or a column that does not exist.
    """
    known = {name: name for name in ("DATA", "CORRECTED_DATA", "FLOAT_DATA")} | {"CORRECTED": "CORRECTED_DATA"}
    result: tuple[ColumnType, ...] = ()
    for column, type_name in columns.items():
        if column.strip().upper() not in known:
            raise UnknownName("data column", column, known)
        name = type_name.strip().upper()
        endings = ("", "_SCIENCE", "_ALL") if only_targets else ("", "_ALL", "_SCIENCE")
        found = next((name + e for e in endings if name + e in DataType.__members__), None)
        if found is None:
            raise UnknownName("data type", type_name, DataType.__members__)
        result = with_type(result, ColumnType(DataType[found], known[column.strip().upper()]))
    return result


def default_types(columns: Iterable[str]) -> tuple[ColumnType, ...]:
    """Types of a measurement set that says nothing: the data are raw, corrected data are calibrated."""
    present = set(columns)
    raw = next((c for c in ("DATA", "FLOAT_DATA") if c in present), None)
    types = [] if raw is None else [ColumnType(DataType.RAW, raw)]
    if "CORRECTED_DATA" in present:
        types.append(ColumnType(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA"))
    return tuple(types)


# ---- HISTORY -------------------------------------------------------------------------------------------------------


def history_messages(types: Sequence[ColumnType]) -> tuple[str, str]:
    """The two texts for HISTORY.MESSAGE; Python dictionary literals, as the reference pipeline writes them."""
    per_column = {t.data_type.name: t.column for t in types}
    per_part = {t.data_type.name: {"sources": sorted(t.sources), "spws": sorted(t.spws)} for t in types}
    return f"data_type_per_column = {per_column!r}", f"data_types_per_source_and_spw = {per_part!r}"


def types_from_history(messages: Iterable[str]) -> tuple[ColumnType, ...]:
    """Types from HISTORY.MESSAGE texts of our origin, the last ones winning; nothing where they are absent or damaged.

    The reference writes enum members (``<DataType.RAW: 1>``) and a map from (source, spw) to types; both are read.
    """
    columns: Any = None
    parts: Any = None
    for message in messages:
        name, _, text = message.partition("=")
        if name.strip() == "data_type_per_column":
            columns, parts = _literal(text), None
        elif name.strip() == "data_types_per_source_and_spw":
            parts = _literal(text)
    if not isinstance(columns, dict):
        return ()
    restrictions = _restrictions(parts if isinstance(parts, dict) else {})
    types: list[ColumnType] = []
    for name, column in columns.items():
        if str(name) in DataType.__members__:
            sources, spws = restrictions.get(str(name), (frozenset(), frozenset()))
            types.append(ColumnType(DataType[str(name)], str(column), sources, spws))
    return tuple(sorted(types, key=lambda t: (t.data_type.priority, t.column)))


def _restrictions(parts: Mapping[Any, Any]) -> dict[str, tuple[frozenset[str], frozenset[int]]]:
    found: dict[str, tuple[frozenset[str], frozenset[int]]] = {}
    for key, value in parts.items():
        if isinstance(value, Mapping):
            found[str(key)] = (
                frozenset(str(s) for s in value.get("sources", ())),
                frozenset(int(s) for s in value.get("spws", ())),
            )
        elif isinstance(key, tuple) and len(key) == 2 and isinstance(value, (list, tuple)):
            for data_type in value:
                sources, spws = found.get(str(data_type), (frozenset(), frozenset()))
                found[str(data_type)] = (sources | {str(key[0])}, spws | {int(key[1])})
    return found


def _literal(text: str) -> Any:
    plain = re.sub(r"<?DataType\.(\w+)(?::\s*\d+>)?", r"'\1'", text.strip())
    try:
        return ast.literal_eval(plain)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def write_history(path: str, types: Sequence[ColumnType], open_table: OpenTable | None = None) -> None:
    """Append the types to HISTORY of the measurement set at `path` (worker processes only).

    `open_table` is a stage's `ctx.casa.table`; without it CASA is started here.

    Raises:
        InputError: the table cannot be written.
    """
    from pl_kernel.ms.tables import append_history

    try:
        append_history(path, HISTORY_ORIGIN, history_messages(types), open_table)
    except (OSError, RuntimeError) as error:
        raise InputError(f"Cannot write the data types to HISTORY of {path}: {error}.") from error
