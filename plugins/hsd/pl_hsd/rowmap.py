"""Where the rows of an imported measurement set are in one that was made from it.

Tasks that select or split rows renumber them, and may renumber the subtables as well.  Rows are the same when
observation, scan, field, antenna, feed, window and time are, with ids translated by what they stand for.  State and
processor say nothing more, and cannot be asked: tasks that select by intent write state 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_hsd.rows import origin_name
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.tables import chunks_of
from pl_kernel.stage_context import StageContext

KEYS = ("OBSERVATION_ID", "SCAN_NUMBER", "FIELD_ID", "ANTENNA1", "FEED1", "DATA_DESC_ID")
_ROWS_PER_CHUNK = 500_000
_SECONDS_PER_TICK = 1e-4
"""Times are compared in ticks: tasks write them through other units and lose the last digits."""


def rows_in(ctx: StageContext, derived: MeasurementSet | str, origin_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row numbers in ``derived`` of rows of the measurement set it was made from; -1 for rows it does not have.

    The same measurement set: the same rows.

    Raises:
        DataError: the two differ in their numbers of observations: they are not of the same data.
    """
    ms = ctx.context.measurement_set(derived) if isinstance(derived, str) else derived
    origin = origin_name(ctx, ms)
    rows = np.asarray(origin_rows, dtype=np.int64)
    if origin == ms.name:
        return rows
    parent = ctx.context.measurement_set(origin)
    if (one := _length(ctx, parent, "OBSERVATION")) != (other := _length(ctx, ms, "OBSERVATION")):
        raise DataError(
            f"{ms.name} has {other} rows in OBSERVATION and {origin} has {one}: its rows cannot be found again."
        )
    return match_rows(_keys(ctx, parent), _keys(ctx, ms), translations(parent, ms), rows)


def match_rows(
    origin: Mapping[str, NDArray[Any]],
    derived: Mapping[str, NDArray[Any]],
    translate: Mapping[str, Mapping[int, int]],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Row numbers in ``derived`` of ``rows`` of ``origin``, -1 where there is none.

    Both have the columns ``KEYS`` and TIME (s) of all their rows; ``translate`` maps ids of the origin to those of the
    derived one, by column (columns left out have the same ids).  When several rows match, the first counts.
    """
    wanted = {}
    for name in KEYS:
        values = np.asarray(origin[name])[rows]
        wanted[name] = _translated(values, translate[name]) if name in translate else values
    start = float(min(np.min(origin["TIME"], initial=np.inf), np.min(derived["TIME"], initial=np.inf)))
    code_wanted, code_there = _codes(
        [wanted[k] for k in KEYS],
        [np.asarray(derived[k]) for k in KEYS],
        _ticks(np.asarray(origin["TIME"])[rows], start),
        _ticks(np.asarray(derived["TIME"]), start),
    )
    order = np.argsort(code_there, kind="stable")
    ordered = code_there[order]
    place = np.searchsorted(ordered, code_wanted)
    found = np.full(rows.shape, -1, dtype=np.int64)
    inside = place < len(ordered)
    hit = np.zeros(rows.shape, dtype=bool)
    hit[inside] = ordered[place[inside]] == code_wanted[inside]
    found[hit] = order[place[hit]]
    return found


def translations(origin: MeasurementSet, derived: MeasurementSet) -> dict[str, dict[int, int]]:
    """Ids of the origin to those of the derived one: antennas and fields by name, windows by what they are."""
    antennas = _by_key({a.id: (a.name,) for a in origin.antennas}, {a.id: (a.name,) for a in derived.antennas})
    fields = _by_key({f.id: (f.name,) for f in origin.fields}, {f.id: (f.name,) for f in derived.fields})
    return {
        "ANTENNA1": antennas,
        "FIELD_ID": fields,
        "DATA_DESC_ID": _by_key(_descriptions(origin), _descriptions(derived)),
    }


def spw_translation(origin: MeasurementSet, derived: MeasurementSet) -> dict[int, int]:
    """Real spw ids of the origin to those of the derived one (sdbaseline renumbers them)."""
    return _by_key({int(s.id): _window(s) for s in origin.spws}, {int(s.id): _window(s) for s in derived.spws})


def field_translation(origin: MeasurementSet, derived: MeasurementSet) -> dict[int, int]:
    """Field ids of the origin to those of the derived one, by name."""
    return translations(origin, derived)["FIELD_ID"]


def _window(spw: Any) -> tuple[Any, ...]:
    return (spw.name, spw.n_channels, round(spw.first_hz), round(spw.step_hz))


def _descriptions(ms: MeasurementSet) -> dict[int, tuple[Any, ...]]:
    windows = {s.id: _window(s) for s in ms.spws}
    polarizations = {p.id: p.correlations for p in ms.polarizations}
    return {
        d.id: (*windows.get(d.spw_id, ()), polarizations.get(d.polarization_id, ())) for d in ms.data_descriptions
    }


def _by_key(one: Mapping[int, tuple[Any, ...]], other: Mapping[int, tuple[Any, ...]]) -> dict[int, int]:
    """Ids with equal keys; equal keys that occur several times are paired in the order of their ids."""
    places: dict[tuple[Any, ...], list[int]] = {}
    for number, key in sorted(other.items()):
        places.setdefault(key, []).append(number)
    found = {}
    for number, key in sorted(one.items()):
        same = places.get(key, [])
        if number in same:
            found[number] = number
        elif same:
            found[number] = same[0] if len(same) == 1 else same.pop(0)
    return found


def _translated(values: NDArray[Any], table: Mapping[int, int]) -> NDArray[np.int64]:
    distinct, inverse = np.unique(values, return_inverse=True)
    new = np.array([table.get(int(v), -9) for v in distinct], dtype=np.int64)
    return new[inverse.ravel()] if len(distinct) else np.asarray(values, dtype=np.int64)


def _ticks(times_s: NDArray[np.float64], start_s: float) -> NDArray[np.int64]:
    return np.round((times_s - start_s) / _SECONDS_PER_TICK).astype(np.int64)


def _codes(
    wanted: Sequence[NDArray[Any]], there: Sequence[NDArray[Any]], ticks_wanted: NDArray[Any], ticks_there: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One integer per combination of ids and time, the same for equal combinations in both."""
    code_wanted = np.zeros(len(ticks_wanted), dtype=np.int64)
    code_there = np.zeros(len(ticks_there), dtype=np.int64)
    for a, b in zip([*wanted, ticks_wanted], [*there, ticks_there], strict=True):
        # Ranks at every step: products of spans would overflow with times.
        _, ranks = np.unique(np.concatenate([a, b]), return_inverse=True)
        ranks = ranks.ravel()
        code = np.concatenate([code_wanted, code_there]) * (int(ranks.max(initial=0)) + 1) + ranks
        _, dense = np.unique(code, return_inverse=True)
        dense = dense.ravel()
        code_wanted, code_there = dense[: len(a)], dense[len(a) :]
    return code_wanted, code_there


def _length(ctx: StageContext, ms: MeasurementSet, table: str) -> int:
    if table not in ms.subtables:
        return 0
    with ctx.casa.table(f"{ms.path}/{table}") as opened:
        return int(opened.nrows())


def _keys(ctx: StageContext, ms: MeasurementSet) -> dict[str, NDArray[Any]]:
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*KEYS, "TIME")}
    with ctx.casa.table(ms.path) as table, chunks_of(table, tuple(parts), _ROWS_PER_CHUNK) as chunks:
        for chunk in chunks:
            for name, values in chunk.items():
                parts[name].append(values)
    return {name: np.concatenate(values) if values else np.zeros(0) for name, values in parts.items()}
