"""Text forms of the calibration library: `applycal(…)` lines for products and restore, and CASA's callibrary files.

Text is read with `ast.literal_eval` on the keyword values only: nothing in a file is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pl_kernel.calrecords import CalApplication, CalFrom, CalTo, MergedCal
from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.intents import INTENTS

if TYPE_CHECKING:
    from pl_kernel.calibration import CalLibrary
    from pl_kernel.ms.model import MeasurementSet

_LISTS = ("gaintable", "gainfield", "spwmap", "interp", "calwt")
_SELECTIONS = ("vis", "field", "intent", "spw", "antenna")


# ---- applycal lines ------------------------------------------------------------------------------------------------


def export_text(library: CalLibrary, measurement_sets: Sequence[MeasurementSet], state: str = "active") -> str:
    """One line per merged selection of each measurement set; single values are not wrapped in lists.

    Intents are written in the observatory's words where the data have them, else as the fields that carry them.
    """
    lines = []
    for ms in measurement_sets:
        for entry in library.merged(ms, state=state):
            selection = {**entry.casa_selection(ms), "vis": ms.name}
            arguments = entry.arguments.for_apply()
            parts = [f"{name}={selection[name]!r}" for name in _SELECTIONS]
            parts += [f"{name}={_unwrapped(arguments[name])!r}" for name in _LISTS]
            lines.append(f"applycal({', '.join(parts)})")
    return "".join(line + "\n" for line in lines)


def _unwrapped(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def import_text(
    text: str,
    measurement_sets: Sequence[MeasurementSet] = (),
    caltypes: Callable[[str], str] | None = None,
    source: str = "calibration text",
) -> tuple[CalApplication, ...]:
    """Registrations from the lines that begin with ``applycal(``; other lines are no business of ours.

    Parameters:
        measurement_sets: to translate the observatory's intents back.
        caltypes: type of a caltable, from its VisCal keyword; where it is absent or says "" the name decides.

    Raises:
        InputError: a line is not a call of plain values, or the type of a table cannot be told.
    """
    by_name = {ms.name: ms for ms in measurement_sets}
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith("applycal("):
            place = f"{source}, line {number}"
            found.append(_application(_keywords(line.strip(), place), by_name, caltypes, place))
    return tuple(found)


def _keywords(line: str, place: str) -> dict[str, Any]:
    try:
        call = ast.parse(line, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("no call with keywords")
        return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"{place}: this is no applycal call with plain values.") from error


def _application(
    given: dict[str, Any], by_name: dict[str, MeasurementSet], caltypes: Callable[[str], str] | None, place: str
) -> CalApplication:
    vis = given.get("vis")
    if not isinstance(vis, str) or not vis or not given.get("gaintable"):
        raise InputError(f"{place}: the applycal call names no measurement set or no caltable.")
    vis = vis.rstrip("/").rsplit("/", 1)[-1]
    tables = _listed(given["gaintable"])
    columns = {name: _column(given.get(name), name, len(tables), place) for name in _LISTS[1:]}
    froms = [
        CalFrom(
            gaintable=str(table),
            gainfield=str(columns["gainfield"][i] or ""),
            interp=str(columns["interp"][i] or "linear,linear"),
            spwmap=tuple(int(s) for s in columns["spwmap"][i] or ()),
            caltype=_caltype(str(table), caltypes, place),
            calwt=True if columns["calwt"][i] is None else bool(columns["calwt"][i]),
        )
        for i, table in enumerate(tables)
    ]
    intent = _intents(str(given.get("intent") or ""), by_name.get(vis))
    field, spw, antenna = (str(given.get(k) or "") for k in ("field", "spw", "antenna"))
    to = CalTo(vis, field, spw, antenna, intent)
    return CalApplication(to, froms, origin="import")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _column(value: Any, name: str, n_tables: int, place: str) -> list[Any]:
    """One value per table: the list given, a single value repeated, None where nothing is said."""
    if value is None or value in ("", []):
        return [None] * n_tables
    if name == "spwmap":
        nested = [list(v) if isinstance(v, (list, tuple)) else v for v in _listed(value)]
        values = nested if any(isinstance(v, list) for v in nested) else [nested]
    else:
        values = _listed(value)
    if len(values) == 1 and name != "spwmap":
        values = values * n_tables
    if len(values) > n_tables or any(name == "spwmap" and not isinstance(v, list) for v in values):
        raise InputError(f"{place}: {name} does not fit the {n_tables} caltables.")
    return values + [None] * (n_tables - len(values))


def _intents(text: str, ms: MeasurementSet | None) -> str:
    words = [w for w in (part.strip().strip("*") for part in text.split(",")) if w]
    known: dict[str, str] = {}
    for state in ms.states if ms is not None else ():
        known.update(state.words)
    translated = [w if w in INTENTS else known.get(w, "") for w in words]
    if words and not all(translated):
        unknown = next(w for w, t in zip(words, translated, strict=True) if not t)
        where = ms.name if ms is not None else "a measurement set that is not loaded"
        raise InputError(f"The calibration is for intent '{unknown}', which {where} does not have.")
    return ",".join(dict.fromkeys(translated))


def _caltype(table: str, caltypes: Callable[[str], str] | None, place: str) -> str:
    told = caltypes(table) if caltypes else ""
    if told:
        return told
    name = table.lower()
    # What the reference pipeline reads from the names it gives; the longer endings first.
    kinds = {"tsys": "tsys", "bcal": "bandpass", "gpcal": "gaincal", "gacal": "gaincal", "gcal": "gaincal"}
    for part, kind in kinds.items():
        if part in name:
            return kind
    raise InputError(f"{place}: the kind of caltable {table} can be told neither from its content nor from its name.")


# ---- CASA callibrary -----------------------------------------------------------------------------------------------


def callib_text(entries: Iterable[MergedCal], ms: MeasurementSet) -> str:
    """Lines for `applycal(docallib=True)`.

    Raises:
        DataError: CASA's format cannot say it (an antenna selection, several gain fields in one entry, or a
            continuum-subtraction table); apply the merged entries one by one instead.
    """
    lines: dict[str, None] = {}
    for entry in entries:
        selection = entry.casa_selection(ms)
        if selection["antenna"]:
            raise DataError(f"A CASA callibrary cannot select antennas {selection['antenna']} of {ms.name} alone.")
        for cal in entry.calfroms:
            lines[_callib_line(cal, selection, ms)] = None
    return "".join(line + "\n" for line in lines)


def _callib_line(cal: CalFrom, selection: dict[str, str], ms: MeasurementSet) -> str:
    if cal.caltype == "uvcont" or "," in cal.gainfield:
        raise DataError(f"{cal.gaintable} (gain field '{cal.gainfield}') of {ms.name} fits no CASA callibrary.")
    time_interp, _, freq_interp = cal.interp.partition(",")
    parts = [f"caltable={cal.gaintable!r}", f"calwt={cal.calwt}"]
    parts += [f"{key}={selection[key]!r}" for key in ("field", "intent", "spw") if selection[key]]
    parts += [f"tinterp={time_interp.strip()!r}"] if time_interp else []
    parts += [f"finterp={freq_interp.strip()!r}"] if freq_interp else []
    parts += [f"fldmap={cal.gainfield!r}"] if cal.gainfield else []
    parts += [f"spwmap={list(cal.spwmap)!r}"] if cal.spwmap else []
    return " ".join(parts)
