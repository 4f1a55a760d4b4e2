"""Reading a measurement set into the domain model. Worker processes only.

Every needed column is read once; the main table in chunks, so that memory stays bounded whatever its size. Optional
subtables may be absent, empty or damaged; only what cannot be done without is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import attrs
import numpy as np

from pl_kernel.errors import DataError, InputError, PlError
from pl_kernel.ms.datatypes import HISTORY_ORIGIN, ColumnType, default_types, types_from_history
from pl_kernel.ms.importers import folder_size, missing_subtables
from pl_kernel.ms.mainscan import MainSummary, summarise_main
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.parse import (
    parse_antennas,
    parse_fields,
    parse_polarizations,
    parse_sources,
    parse_spws,
    parse_weather,
    utc,
)
from pl_kernel.ms.records import AntennaArray, DataDescription, Scan, State
from pl_kernel.ms.tables import OpenTable, Subtable, default_open_table, read_subtable
from pl_kernel.ms.telescopes import Telescope, find_telescope
from pl_kernel.ms.virtual import RealSpw
from pl_kernel.serialize import dumps, read_json, write_json

FORMAT = 1
"""Version of the cached model; raise it when what is read changes."""

_COLUMNS: dict[str, tuple[str, ...]] = {
    "ANTENNA": ("NAME", "STATION", "DISH_DIAMETER", "POSITION", "OFFSET", "MOUNT", "FLAG_ROW"),
    "DATA_DESCRIPTION": ("SPECTRAL_WINDOW_ID", "POLARIZATION_ID", "FLAG_ROW"),
    "FIELD": ("NAME", "SOURCE_ID", "PHASE_DIR", "PhaseDir_Ref", "CODE", "SOURCE_TYPE", "EPHEMERIS_ID", "TIME"),
    "OBSERVATION": ("TELESCOPE_NAME", "OBSERVER", "PROJECT", "SCHEDULE", "TIME_RANGE"),
    "POLARIZATION": ("CORR_TYPE",),
    "SPECTRAL_WINDOW": (
        "NAME", "NUM_CHAN", "CHAN_FREQ", "CHAN_WIDTH", "RESOLUTION", "TOTAL_BANDWIDTH", "REF_FREQUENCY",
        "MEAS_FREQ_REF", "NET_SIDEBAND", "BBC_NO", "SDM_NUM_BIN", "SDM_CORR_BIT",
    ),
    "STATE": ("OBS_MODE",),
    "SOURCE": (
        "SOURCE_ID", "NAME", "SPECTRAL_WINDOW_ID", "DIRECTION", "PROPER_MOTION", "REST_FREQUENCY", "TRANSITION",
        "SYSVEL",
    ),
    "HISTORY": ("ORIGIN", "MESSAGE"),
    "WEATHER": ("TEMPERATURE", "PRESSURE", "REL_HUMIDITY", "WIND_SPEED"),
}  # fmt: skip


def read_measurement_set(
    path: Path | str,
    telescopes: Iterable[Telescope] = (),
    *,
    name: str | None = None,
    session: str = "session_1",
    relative_to: Path | str | None = None,
    open_table: OpenTable | None = None,
) -> MeasurementSet:
    """Read the measurement set at `path`.

    Parameters:
        telescopes: the descriptions that plugins offer; the one that answers to TELESCOPE_NAME supplies the words
            of intents, the bands, and the rule for science windows.
        name: unique name within the run; default: the name of the folder.
        relative_to: the run's work folder; `MeasurementSet.path` is relative to it when the data lie below.
        open_table: a stage's `ctx.casa.table`; without it CASA is started here.

    Raises:
        InputError: the path is absent or no measurement set.
        DataError: a required subtable is missing or the main table is empty; the sentence names it.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no measurement set at {path}.")
    if missing := missing_subtables(path):
        raise DataError(f"{path.name} is not a complete measurement set: subtable {', '.join(missing)} is missing.")
    opened = open_table or default_open_table()
    tables = {sub: read_subtable(path / sub, columns, opened) for sub, columns in _COLUMNS.items()}
    try:
        with opened(str(path), nomodify=True) as table:
            columns = tuple(sorted(table.colnames()))
            main = summarise_main(table)
    except RuntimeError as error:
        raise DataError(f"The main table of {path.name} cannot be read: {' '.join(str(error).split())}.") from error
    if main.n_rows == 0:
        raise DataError(f"{path.name} holds no data: its main table has no rows.")
    return _Assembler(path, name or path.name, session, relative_to, tables, columns, main, telescopes).build()


class _Assembler:
    """Puts the pieces of one measurement set together."""

    def __init__(
        self,
        path: Path,
        name: str,
        session: str,
        relative_to: Path | str | None,
        tables: dict[str, Subtable],
        columns: tuple[str, ...],
        main: MainSummary,
        telescopes: Iterable[Telescope],
    ) -> None:
        self.path, self.name, self.session = path, name, session
        self.tables, self.columns, self.main = tables, columns, main
        self.shown_path = _relative(path, relative_to)
        observation = tables["OBSERVATION"]
        self.raw_telescope = str((observation.get("TELESCOPE_NAME") or [""])[0]).strip()
        self.telescope = find_telescope(self.raw_telescope, telescopes)
        self.start, self.end = utc(main.start_s), utc(main.end_s)
        descriptions = tables["DATA_DESCRIPTION"]
        pairs = zip(descriptions.get("SPECTRAL_WINDOW_ID"), descriptions.get("POLARIZATION_ID"), strict=True)
        self.descriptions = tuple(DataDescription(i, RealSpw(int(s)), int(p)) for i, (s, p) in enumerate(pairs))
        self._check_ids()

    def _check_ids(self) -> None:
        # Ids of the main table that point beyond a subtable would surface as nonsense much later.
        for column, table in (("DATA_DESC_ID", "DATA_DESCRIPTION"), ("FIELD_ID", "FIELD"), ("ANTENNA1", "ANTENNA")):
            largest, rows = self.main.largest_id[column], self.tables[table].n_rows
            if largest >= rows:
                raise DataError(f"{self.name} is damaged: {column} {largest} has no row in {table}, which has {rows}.")

    def build(self) -> MeasurementSet:
        states, intents_from = self._states()
        scans = self._scans(states, intents_from)
        observed_fields = {f for s in scans for f in s.field_ids}
        observed_spws = {w for s in scans for w in s.spw_ids}
        fields = parse_fields(self.tables["FIELD"], observed_fields)
        source_ids = {f.source_id for f in fields}
        spws = parse_spws(self.tables["SPECTRAL_WINDOW"], self.telescope)
        project, observer, scheduling_block, execution_block = self._observation()
        ms = MeasurementSet(
            name=self.name,
            path=self.shown_path,
            session=self.session,
            telescope=self.raw_telescope or self.telescope.name,
            array=AntennaArray(self.raw_telescope, parse_antennas(self.tables["ANTENNA"], set(self.main.antenna_ids))),
            sources=tuple(s for s in parse_sources(self.tables["SOURCE"], fields) if s.id in source_ids),
            fields=fields,
            spws=spws,
            polarizations=parse_polarizations(self.tables["POLARIZATION"]),
            data_descriptions=self.descriptions,
            states=tuple(states.values()),
            scans=scans,
            columns=self.columns,
            data_types=self._data_types(),
            science_rule=self.telescope.science_spws,
            intents_from=intents_from,
            project=project,
            observer=observer,
            scheduling_block=scheduling_block,
            execution_block=execution_block,
            start=self.start,
            end=self.end,
            n_rows=self.main.n_rows,
            size_bytes=folder_size(self.path),
            history_origins=tuple(dict.fromkeys(str(o) for o in self.tables["HISTORY"].get("ORIGIN"))),
            weather=parse_weather(self.tables["WEATHER"]),
            subtables=tuple(sorted(p.name for p in self.path.iterdir() if (p / "table.dat").exists())),
        )
        spws_of_field: dict[int, set[int]] = {}
        for scan in scans:
            for field in scan.field_ids:
                spws_of_field.setdefault(field, set()).update(int(w) for w in scan.spw_ids)
        ms = attrs.evolve(
            ms, fields=tuple(attrs.evolve(f, spws=frozenset(spws_of_field.get(f.id, ()))) for f in ms.fields)
        )
        if not observed_spws:
            raise DataError(f"{self.name} holds no data for any spectral window.")
        return ms.with_scans(scans)

    def _states(self) -> tuple[dict[int, State], str]:
        vocabulary = self.telescope.intents
        modes = [str(m) for m in self.tables["STATE"].get("OBS_MODE")]
        states = {
            i: State(i, m, vocabulary.intents_of(m, self.start), vocabulary.words_of(m)) for i, m in enumerate(modes)
        }
        used = [states[i] for i in self.main.state_ids if i in states]
        if any(s.intents for s in used):
            return states, "state"
        kinds = [str(k).strip().upper() for k in self.tables["FIELD"].get("SOURCE_TYPE", "")]
        if any(k in vocabulary.source_types for k in kinds):
            return states, "source_type"
        return states, "none"

    def _intents(self, field: int, state: int, states: dict[int, State], intents_from: str) -> frozenset[str]:
        if intents_from == "state":
            return states[state].intents if state in states else frozenset()
        if intents_from == "source_type":
            kind = str(self.tables["FIELD"].get("SOURCE_TYPE", "")[field]).strip().upper()
            word = self.telescope.intents.source_types.get(kind)
            return frozenset([word]) if word else frozenset()
        return frozenset()

    def _scans(self, states: dict[int, State], intents_from: str) -> tuple[Scan, ...]:
        spw_of = {d.id: d.spw_id for d in self.descriptions}
        scans = []
        for number, groups in self.main.by_scan().items():
            intents: dict[int, frozenset[frozenset[str]]] = {}
            for g in groups:
                own = self._intents(g.field, g.state, states, intents_from)
                intents[g.field] = intents.get(g.field, frozenset()) | {own}
            spws = sorted({spw_of[g.description] for g in groups})
            longest = {w: max((g for g in groups if spw_of[g.description] == w), key=lambda g: g.n_rows) for w in spws}
            scans.append(
                Scan(
                    id=number,
                    start=utc(min(g.start_s for g in groups)),
                    end=utc(max(g.end_s for g in groups)),
                    field_ids=tuple(sorted(intents)),
                    spw_ids=tuple(spws),
                    antenna_ids=self.main.antennas_of_scan[number],
                    n_rows=sum(g.n_rows for g in groups),
                    intent_sets=dict(sorted(intents.items())),
                    state_ids=tuple(sorted({g.state for g in groups if g.state >= 0})),
                    data_description_ids=tuple(sorted({g.description for g in groups})),
                    interval_s={int(w): g.interval_s for w, g in longest.items()},
                    exposure_s={int(w): g.exposure_s for w, g in longest.items()},
                )
            )
        return tuple(sorted(scans, key=lambda s: (s.start, s.id)))

    def _observation(self) -> tuple[str, str, str, str]:
        table = self.tables["OBSERVATION"]
        blocks = {"SchedulingBlock": "", "ExecBlock": ""}
        for cell in table.get("SCHEDULE"):
            for text in np.atleast_1d(np.asarray(cell, dtype=str)).ravel() if cell is not None else ():
                word, _, uid = str(text).partition(" ")
                if word in blocks and not blocks[word]:
                    blocks[word] = uid.strip()
        first = [str((table.get(column) or [""])[0] or "").strip() for column in ("PROJECT", "OBSERVER")]
        return first[0], first[1], blocks["SchedulingBlock"], blocks["ExecBlock"]

    def _data_types(self) -> tuple[ColumnType, ...]:
        history = self.tables["HISTORY"]
        pairs = zip(history.get("ORIGIN", ""), history.get("MESSAGE", ""), strict=True)
        found = types_from_history(str(m) for o, m in pairs if str(o) == HISTORY_ORIGIN)
        present = tuple(t for t in found if t.column in self.columns)
        return present or default_types(self.columns)


def _relative(path: Path, base: Path | str | None) -> str:
    if base is not None:
        try:
            return str(path.resolve().relative_to(Path(base).resolve()))
        except ValueError:
            return str(path.resolve())
    return str(path)


# ---- cache ---------------------------------------------------------------------------------------------------------


def read_cached(
    path: Path | str,
    cache: Path | str,
    telescopes: Iterable[Telescope] = (),
    *,
    name: str | None = None,
    session: str = "session_1",
    relative_to: Path | str | None = None,
    open_table: OpenTable | None = None,
) -> MeasurementSet:
    """Like `read_measurement_set`, from the JSON in folder `cache` when the tables have not changed since.

    The key holds size and time of every table.dat, the descriptions of the telescopes, and the version of the model.
    A damaged cache file is read anew, never an error.
    """
    descriptions = tuple(telescopes)
    path, cache = Path(path), Path(cache)
    label = name or path.name
    file = cache / f"{label}.{_fingerprint(path, descriptions, session, relative_to)}.json"
    if file.is_file():
        try:
            return read_json(file, MeasurementSet)
        except PlError:
            file.unlink(missing_ok=True)
    ms = read_measurement_set(
        path, descriptions, name=name, session=session, relative_to=relative_to, open_table=open_table
    )
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob(f"{_escaped(label)}.*.json"):
        old.unlink(missing_ok=True)
    write_json(file, ms)
    return ms


def _fingerprint(path: Path, telescopes: tuple[Telescope, ...], session: str, base: Path | str | None) -> str:
    digest = hashlib.sha256(dumps([FORMAT, session, str(path), str(base or ""), telescopes]).encode())
    for file in sorted([*path.glob("table.dat"), *path.glob("*/table.dat")]):
        status = file.stat()
        digest.update(f"{file.relative_to(path)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
