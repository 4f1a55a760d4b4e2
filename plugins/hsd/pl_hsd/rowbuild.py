"""Building the table of rows of a measurement set at its import: selection, directions, groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import pointing
from pl_hsd.ephemeris import SourceTrack, source_tracks
from pl_hsd.geometry import beam_arcsec, from_offsets, to_offsets, unwrapped
from pl_hsd.heuristics.grouping import Grouping, group_by_time, position_groups, with_maps_that_start_over
from pl_hsd.heuristics.pattern import observing_pattern
from pl_hsd.heuristics.raster import RasterFailure, group_by_direction
from pl_hsd.online import read_online
from pl_hsd.rows import Header, folder_name, write_table
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.tables import chunks_of
from pl_kernel.stage_context import StageContext

_ROWS_PER_CHUNK = 500_000
_SCALARS = {
    "time_s": "TIME", "exposure_s": "EXPOSURE", "interval_s": "INTERVAL", "scan": "SCAN_NUMBER", "field": "FIELD_ID",
    "feed": "FEED1", "antenna": "ANTENNA1", "state": "STATE_ID",
}  # fmt: skip
_OTHERS = ("ANTENNA2", "FEED2", "DATA_DESC_ID")


@attrs.frozen
class RasterTrouble:
    """Spectra whose raster rows could not be found in the way asked for; ``domain`` is direction or time."""

    vis: str
    antenna: str
    spw: int
    field: str
    domain: str
    reason: str


@attrs.frozen(kw_only=True)
class Built:
    """What was learnt while the table was built.

    ``pattern`` by "antenna/spw/field"; ``missing`` counts by antenna name the integrations without a direction;
    ``n_rows`` is the number of rows of the table.
    """

    n_rows: int
    frame: str
    pattern: dict[str, str]
    integrations: int = 0
    missing: dict[str, int] = attrs.field(factory=dict)
    trouble: tuple[RasterTrouble, ...] = ()
    remarks: tuple[str, ...] = ()


Columns = dict[str, NDArray[Any]]


def build_rows(ctx: StageContext, ms: MeasurementSet, frame: str, method: str) -> Built:
    """Make the table of rows of ``ms`` in the work folder; directions in ``frame``.

    ``method`` is time or direction: by what raster rows are told apart.  Where the geometry fails, time decides.

    Raises:
        DataError: the measurement set has no autocorrelations on a target in any science window.
    """
    table = read_rows(ctx, ms)
    n = len(table["row"])
    remarks = _directions(ctx, ms, frame, table)
    missing = _fill_missing(ms, table)
    org = _moving(ctx, ms, frame, table)
    table |= _no_groups(n)
    pattern: dict[str, str] = {}
    trouble: list[RasterTrouble] = []
    members = tuple(members_of(table))
    for member in members:
        _group(ms, table, member, method, pattern, trouble)
    npol = int(table["npol"].max())
    table["online_valid"] = read_online(ctx, ms, table["row"], table["npol"])
    table["tsys_k"] = np.ones((n, npol), dtype=np.float32)
    table["row_valid"] = table["online_valid"].copy()
    header = Header(ms=ms.name, n_rows=n, npol=npol, frame=frame, members=members, org_direction_deg=org)
    write_table(Path(ctx.work) / folder_name(ms.name), header, table)
    return Built(
        n_rows=n, frame=frame, pattern=pattern, integrations=_integrations(table), missing=missing,
        trouble=tuple(trouble), remarks=tuple(remarks),
    )  # fmt: skip


# ---- selection -------------------------------------------------------------------------------------------------------


def read_rows(ctx: StageContext, ms: MeasurementSet) -> Columns:
    """Scalar columns of the autocorrelations on targets and OFF positions, sorted by time, antenna, window.

    Raises:
        DataError: there is none on a target.
    """
    science = {int(s.id): s.n_channels for s in ms.science_spws}
    npol = {p.id: len(p.correlations) for p in ms.polarizations}
    descriptions = {d.id: d for d in ms.data_descriptions if int(d.spw_id) in science}
    kinds = _kinds(ms)
    parts: list[Columns] = []
    first = 0
    with ctx.casa.table(ms.path) as main, chunks_of(main, (*_SCALARS.values(), *_OTHERS), _ROWS_PER_CHUNK) as chunks:
        for chunk in chunks:
            count = len(chunk["TIME"])
            on, off = _purposes(kinds, chunk)
            keep = (chunk["ANTENNA1"] == chunk["ANTENNA2"]) & (chunk["FEED1"] == chunk["FEED2"]) & (on | off)
            keep &= np.isin(chunk["DATA_DESC_ID"], list(descriptions))
            own = np.flatnonzero(keep)
            part = {name: chunk[column][own] for name, column in _SCALARS.items()}
            description = chunk["DATA_DESC_ID"][own]
            part["row"] = own + first
            part["on_source"] = on[own]
            part["spw"] = _looked_up(description, {i: int(d.spw_id) for i, d in descriptions.items()})
            part["npol"] = _looked_up(description, {i: npol[d.polarization_id] for i, d in descriptions.items()})
            part["nchan"] = _looked_up(description, {i: science[int(d.spw_id)] for i, d in descriptions.items()})
            parts.append(part)
            first += count
    whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    if not whole["on_source"].any():
        raise DataError(
            f"{ms.name} holds no autocorrelations on a target (intent OBSERVE_TARGET, ON_SOURCE): it is no"
            " single-dish data set."
        )
    order = np.lexsort((whole["feed"], whole["spw"], whole["antenna"], whole["time_s"]))
    return {name: values[order] for name, values in whole.items()}


def _kinds(ms: MeasurementSet) -> dict[tuple[int, int, int], tuple[bool, bool]]:
    """(scan, field, state) → on the target, at the OFF; state -1 counts for every state."""
    kinds = {}
    states = {s.id: s.intents for s in ms.states}
    for scan in ms.scans:
        for field, intents in scan.intents_by_field.items():
            if ms.intents_from != "state":
                kinds[scan.id, field, -1] = ("TARGET" in intents, "REFERENCE" in intents)
                continue
            for state in scan.state_ids:
                own = states.get(state, frozenset())
                kinds[scan.id, field, state] = ("TARGET" in own, "REFERENCE" in own)
    return kinds


def _purposes(
    kinds: dict[tuple[int, int, int], tuple[bool, bool]], chunk: Columns
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each row is on a target, at an OFF position."""
    keys = np.stack([chunk["SCAN_NUMBER"], chunk["FIELD_ID"], chunk["STATE_ID"]], axis=1).astype(np.int64)
    lows = keys.min(axis=0)
    spans = keys.max(axis=0) - lows + 1
    code = ((keys[:, 0] - lows[0]) * spans[1] + keys[:, 1] - lows[1]) * spans[2] + keys[:, 2] - lows[2]
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    answers = []
    for scan, field, state in keys[first]:
        known = kinds.get((int(scan), int(field), int(state)))
        answers.append(known or kinds.get((int(scan), int(field), -1), (False, False)))
    both = np.array(answers, dtype=bool)[inverse.ravel()]
    # A state can be both (position switching inside one subscan): what is on the target is no OFF.
    return both[:, 0], both[:, 1] & ~both[:, 0]


def _looked_up(values: NDArray[Any], table: dict[int, int]) -> NDArray[np.int32]:
    distinct, inverse = np.unique(values, return_inverse=True)
    return np.array([table[int(v)] for v in distinct], dtype=np.int32)[inverse.ravel()]


def members_of(table: Columns) -> Iterator[tuple[int, int, int]]:
    """(antenna, spw, field) with spectra on a target, ascending."""
    on = np.flatnonzero(table["on_source"])
    triples = np.stack([table["antenna"][on], table["spw"][on], table["field"][on]], axis=1)
    for antenna, spw, field in np.unique(triples, axis=0):
        yield int(antenna), int(spw), int(field)


# ---- directions ------------------------------------------------------------------------------------------------------


def _directions(ctx: StageContext, ms: MeasurementSet, frame: str, table: Columns) -> list[str]:
    """Fill directions in ``frame`` and on the horizon; rows without one get NaN."""
    found = pointing.read_pointing(ctx, ms)
    n = len(table["row"])
    columns = ("ra_deg", "dec_deg", "az_deg", "el_deg")
    table.update({name: np.full(n, np.nan) for name in columns})
    if not found.tracks:
        return [f"{ms.name} has no POINTING: where its antennas looked is not known."]
    earth = pointing.earth_orientation(ctx)
    for antenna in np.unique(table["antenna"]):
        own = np.flatnonzero(table["antenna"] == antenna)
        # Windows of one integration share its direction.
        times, first, inverse = np.unique(table["time_s"][own], return_index=True, return_inverse=True)
        vector = pointing.directions_at(found.tracks.get(int(antenna)), times, table["interval_s"][own][first])
        place = ms.antenna(int(antenna)).position_m
        sky = pointing.convert(vector, found.frame, frame, times, place, earth)
        horizon = pointing.convert(vector, found.frame, "AZELGEO", times, place, earth)
        for name, values in zip(columns, (*sky, *horizon), strict=True):
            table[name][own] = values[inverse.ravel()]
    table["ra_deg"] = unwrapped(table["ra_deg"])
    return []


def _integrations(table: Columns) -> int:
    """Integrations of all antennas, each counted once whatever its number of windows."""
    return sum(
        np.unique(table["time_s"][table["antenna"] == antenna]).size for antenna in np.unique(table["antenna"])
    )


def _fill_missing(ms: MeasurementSet, table: Columns) -> dict[str, int]:
    """Give rows without a direction the median of the same antenna and purpose; count integrations by antenna."""
    bad = ~(np.isfinite(table["ra_deg"]) & np.isfinite(table["dec_deg"]))
    table["pointing_ok"] = ~bad
    missing = {}
    for antenna in np.unique(table["antenna"][bad]):
        own = table["antenna"] == antenna
        missing[ms.antenna(int(antenna)).name] = int(np.unique(table["time_s"][own & bad]).size)
        for purpose in (True, False):
            wanted = own & bad & (table["on_source"] == purpose)
            if not wanted.any():
                continue
            for sample in (own & ~bad & (table["on_source"] == purpose), ~bad & (table["on_source"] == purpose), ~bad):
                if sample.any():
                    for name in ("ra_deg", "dec_deg", "az_deg", "el_deg"):
                        table[name][wanted] = np.median(table[name][sample])
                    break
            else:
                _at_field(ms, table, wanted)
    return missing


def _at_field(ms: MeasurementSet, table: Columns, wanted: NDArray[np.bool_]) -> None:
    for field in np.unique(table["field"][wanted]):
        own = wanted & (table["field"] == field)
        record = ms.field(int(field))
        table["ra_deg"][own], table["dec_deg"][own] = np.degrees(record.ra_rad) % 360.0, np.degrees(record.dec_rad)
        table["az_deg"][own], table["el_deg"][own] = 0.0, 0.0


def _moving(ctx: StageContext, ms: MeasurementSet, frame: str, table: Columns) -> dict[int, tuple[float, float]]:
    """Fill directions without the motion of the source; return where each moving one was at its first spectrum."""
    for name in ("ra_deg", "dec_deg"):
        table[f"shift_{name}"], table[f"ofs_{name}"] = table[name].copy(), table[name].copy()
    tracks: dict[int, SourceTrack] = source_tracks(ctx, ms, frame)
    org = {}
    for field, track in tracks.items():
        own = np.flatnonzero(table["field"] == field)
        if not own.size:
            continue
        on = own[table["on_source"][own]]
        begin = track.at(table["time_s"][on[:1] if on.size else own[:1]])
        lon, lat = track.at(table["time_s"][own])
        east, north = to_offsets(lon, lat, table["ra_deg"][own], table["dec_deg"][own])
        table["ofs_ra_deg"][own], table["ofs_dec_deg"][own] = east, north
        shifted = from_offsets(begin[0], begin[1], east, north)
        table["shift_ra_deg"][own], table["shift_dec_deg"][own] = unwrapped(shifted[0]), shifted[1]
        org[field] = (float(begin[0][0]), float(begin[1][0]))
    return org


# ---- groups ----------------------------------------------------------------------------------------------------------


def _no_groups(n: int) -> Columns:
    return {name: np.full(n, -1, dtype=np.int32) for name in ("position_group", "raster_row", "raster_map")}


def _group(
    ms: MeasurementSet, table: Columns, member: tuple[int, int, int], method: str, pattern: dict[str, str],
    trouble: list[RasterTrouble],
) -> None:  # fmt: skip
    antenna, spw, field = member
    chosen = (table["antenna"] == antenna) & (table["spw"] == spw) & (table["field"] == field) & table["on_source"]
    every = np.flatnonzero(chosen)
    radius = beam_arcsec(_diameter(ms, antenna), ms.spw(spw).centre_hz) / 2 / 3600
    groups = position_groups(table["ofs_ra_deg"][every], table["ofs_dec_deg"][every], radius)
    table["position_group"][every] = groups
    pattern["/".join(map(str, member))] = observing_pattern(int(groups.max()) + 1, every.size)
    row, map_ = 0, 0
    for feed in np.unique(table["feed"][every]):
        own = every[table["feed"][every] == feed]
        found = _rows_and_maps(ms, table, own, member, method, radius, trouble)
        table["raster_row"][own], table["raster_map"][own] = found.row + row, found.map + map_
        row, map_ = row + int(found.row.max()) + 1, map_ + int(found.map.max()) + 1


def _rows_and_maps(
    ms: MeasurementSet, table: Columns, own: NDArray[np.int64], member: tuple[int, int, int], method: str,
    radius: float, trouble: list[RasterTrouble],
) -> Grouping:  # fmt: skip
    ra, dec = table["ofs_ra_deg"][own], table["ofs_dec_deg"][own]
    known = np.flatnonzero(table["pointing_ok"][own])
    if method == "direction":
        try:
            found = group_by_direction(ra[known], dec[known])
            # A spectrum without a direction belongs to the row of the one before it.
            before = np.maximum(np.searchsorted(known, np.arange(own.size), side="right") - 1, 0)
            return Grouping(found.row[before], found.map[before], known[found.small], known[found.large])
        except RasterFailure as failure:
            antenna, spw, field = member
            name, source = ms.antenna(antenna).name, ms.field(field).name
            trouble.append(RasterTrouble(ms.name, name, spw, source, "direction", str(failure)))
    found = group_by_time(table["time_s"][own], ra, dec, radius)
    if found.large.size:
        with contextlib.suppress(RasterFailure):
            found = with_maps_that_start_over(found, known[group_by_direction(ra[known], dec[known]).large])
    if not found.small.size and np.unique(table["position_group"][own]).size > 3:
        antenna, spw, field = member
        reason = "no pause in time and no jump in position tells rows apart"
        trouble.append(
            RasterTrouble(ms.name, ms.antenna(antenna).name, spw, ms.field(field).name, "time", reason)
        )
    return found


def _diameter(ms: MeasurementSet, antenna: int) -> float:
    diameter = ms.antenna(antenna).diameter_m
    if not diameter > 0:
        raise DataError(f"{ms.name} gives no diameter for {ms.antenna(antenna).name}: its beam is not known.")
    return diameter


__all__ = ["Built", "RasterTrouble", "build_rows", "members_of", "read_rows"]
