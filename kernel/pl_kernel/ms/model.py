"""`MeasurementSet`: everything stages ask about a data set, read once, immutable, exact in JSON and through pickle."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import attrs
import numpy as np

from pl_kernel.errors import DataError, UnknownName
from pl_kernel.ms.datatypes import ColumnType, DataType, with_type
from pl_kernel.ms.intents import IntentRule, intents_by_field, parse_intents
from pl_kernel.ms.records import (
    Antenna,
    AntennaArray,
    DataDescription,
    Field,
    Frame,
    Polarization,
    Scan,
    Source,
    SpectralWindow,
    State,
    WeatherSummary,
)
from pl_kernel.ms.selection import clean_name, compact_ids, join_names, select_by_name, spw_ids
from pl_kernel.ms.telescopes import ScienceSpwRule
from pl_kernel.ms.virtual import RealSpw

__all__ = [
    "Antenna",
    "AntennaArray",
    "DataDescription",
    "Field",
    "Frame",
    "MeasurementSet",
    "Polarization",
    "Scan",
    "Source",
    "SpectralWindow",
    "State",
    "WeatherSummary",
]


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


R = TypeVar("R", bound=_HasId)
Intents = str | Iterable[str]
"""``"PHASE,BANDPASS"`` or the words; several mean any of them."""


@attrs.frozen(slots=False, kw_only=True)
class MeasurementSet:
    """One measurement set of a run.

    `name` is unique within a run and ends in the name of the folder; `path` is where CASA finds it, relative to the
    work folder when it lies below it. `origin` names the measurement set this one was made from (empty: imported).
    Only antennas, fields and sources that occur in the data are kept; their ids stay those of the subtables.
    `intents_from` says where the intents come from: state, source_type, rules, or none.
    """

    name: str
    path: str
    session: str = "session_1"
    telescope: str
    array: AntennaArray
    sources: tuple[Source, ...]
    fields: tuple[Field, ...]
    spws: tuple[SpectralWindow, ...]
    polarizations: tuple[Polarization, ...]
    data_descriptions: tuple[DataDescription, ...]
    states: tuple[State, ...]
    scans: tuple[Scan, ...]
    columns: tuple[str, ...]
    data_types: tuple[ColumnType, ...] = ()
    science_rule: ScienceSpwRule = attrs.field(factory=ScienceSpwRule)
    intents_from: str = "none"
    origin: str = ""
    project: str = ""
    scheduling_block: str = ""
    execution_block: str = ""
    observer: str = ""
    start: dt.datetime
    end: dt.datetime
    n_rows: int
    size_bytes: int = 0
    history_origins: tuple[str, ...] = ()
    weather: WeatherSummary | None = None
    subtables: tuple[str, ...] = ()

    # ---- names ----

    @property
    def basename(self) -> str:
        """Name of the folder."""
        return Path(self.path).name

    @property
    def stem(self) -> str:
        """Name without the ending .ms, safe in file names."""
        return clean_name(self.name.removesuffix(".ms")).strip("_") or "ms"

    @property
    def duration_s(self) -> float:
        """From the start of the first to the end of the last integration."""
        return (self.end - self.start).total_seconds()

    # ---- by id or name ----

    def field(self, key: int | str) -> Field:
        """A field by id, or by name when the name is unique.

        Raises:
            UnknownName: there is no such field. DataError: several fields have the name.
        """
        return self._one(self.fields, key, "field")

    def source(self, key: int | str) -> Source:
        """A source by id or name; errors as for `field`."""
        return self._one(self.sources, key, "source")

    def antenna(self, key: int | str) -> Antenna:
        """An antenna by id or name; errors as for `field`."""
        return self._one(self.antennas, key, "antenna")

    def spw(self, key: int | str) -> SpectralWindow:
        """A window by real id or name; errors as for `field`."""
        return self._one(self.spws, key, "spectral window")

    def scan(self, scan_id: int) -> Scan:
        """A scan by number; errors as for `field`."""
        found = [s for s in self.scans if s.id == scan_id]
        if not found:
            raise UnknownName("scan", str(scan_id), [str(s.id) for s in self.scans], where=f" in {self.name}")
        return found[0]

    def _one(self, records: Sequence[R], key: int | str, kind: str) -> R:
        names = {r.id: str(getattr(r, "name", r.id)) for r in records}
        found = [r for r in records if (r.id == key if isinstance(key, int) else names[r.id] == key)]
        if not found:
            raise UnknownName(kind, str(key), list(names.values()), where=f" in {self.name}")
        if len(found) > 1:
            raise DataError(f"{self.name} has {len(found)} entries called '{key}' ({kind}); name it by its id.")
        return found[0]

    # ---- antennas ----

    @property
    def antennas(self) -> tuple[Antenna, ...]:
        """The antennas that took data."""
        return self.array.antennas

    @property
    def antenna_names(self) -> tuple[str, ...]:
        """Their names, in order of id."""
        return tuple(a.name for a in self.antennas)

    def antenna_ids(self, selection: str = "") -> tuple[int, ...]:
        """Ids of a CASA antenna selection (names, stations, ids, ranges, ``!``); baselines count for both antennas.

        Raises:
            InputError: an item matches nothing.
        """
        # "*&*" (all cross-correlations) and "ea01&ea02" select baselines; a calibration applies to their antennas.
        plain = selection.replace("&&&", ",").replace("&&", ",").replace("&", ",").replace(";", ",")
        stations = {a.id: a.station for a in self.antennas}
        return select_by_name(
            plain,
            {a.id: a.name for a in self.antennas},
            "antenna",
            where=f" in {self.name}",
            also=lambda item: {i for i, s in stations.items() if s == item},
            names_first=True,
        )

    def antenna_selection(self, ids: Iterable[int]) -> str:
        """A CASA selection of antennas: names where unique, else ids.

        CASA takes a number for a name first, and old arrays call their antennas 1 to 28: ids would select others.
        """
        chosen = set(ids)
        names = [a.name for a in self.antennas if a.id in chosen]
        unique = len(set(self.antenna_names)) == len(self.antenna_names)
        return ",".join(names) if unique else compact_ids(chosen)

    # ---- spectral windows ----

    @cached_property
    def science_spws(self) -> tuple[SpectralWindow, ...]:
        """Windows with science or calibrator visibilities, by the telescope's rule (see `ScienceSpwRule`)."""
        observed = {s for scan in self.scans for s in scan.spw_ids}
        rule = self.science_rule
        kept = [s for s in self.spws if s.id in observed] or list(self.spws)
        intents = self._intents_of_spws
        conditions: tuple[Callable[[SpectralWindow], bool], ...] = (
            lambda s: s.n_channels not in rule.excluded_channel_counts,
            lambda s: not any(_found(p, s.name) for p in rule.excluded_names),
            lambda s: not rule.required_intents or bool(intents[s.id] & rule.required_intents),
            lambda s: not intents[s.id] & rule.forbidden_intents,
        )
        for condition in conditions:
            kept = [s for s in kept if condition(s)] or kept
        return tuple(kept)

    @property
    def science_spw_ids(self) -> tuple[RealSpw, ...]:
        """Real ids of the science windows, ascending."""
        return tuple(s.id for s in self.science_spws)

    @property
    def science_spw_selection(self) -> str:
        """The science windows as a CASA selection."""
        return compact_ids(self.science_spw_ids)

    def spw_ids(self, selection: str = "") -> tuple[RealSpw, ...]:
        """Real ids of a CASA spw selection, channels ignored; ids that do not exist are dropped."""
        known = [int(s.id) for s in self.spws]
        if not selection:
            return tuple(RealSpw(i) for i in known)
        return tuple(RealSpw(i) for i in spw_ids(selection, known, {s.name: int(s.id) for s in self.spws}))

    def polarization_of(self, spw: RealSpw) -> Polarization:
        """Correlations of a window (of its first data description).

        Raises:
            DataError: no data description uses the window.
        """
        for description in self.data_descriptions:
            if description.spw_id == spw:
                return next(p for p in self.polarizations if p.id == description.polarization_id)
        raise DataError(f"No data description of {self.name} uses spectral window {spw}.")

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Bands of the science windows, in order of frequency."""
        return tuple(dict.fromkeys(s.band for s in sorted(self.science_spws, key=lambda s: s.centre_hz) if s.band))

    # ---- intents, fields, scans ----

    @cached_property
    def intents(self) -> frozenset[str]:
        """All intents of the observation."""
        return frozenset().union(*(scan.intents for scan in self.scans))

    @cached_property
    def _intents_of_spws(self) -> dict[int, frozenset[str]]:
        found: dict[int, frozenset[str]] = {int(s.id): frozenset() for s in self.spws}
        for scan in self.scans:
            for spw in scan.spw_ids:
                found[spw] = found.get(spw, frozenset()) | scan.intents
        return found

    def scans_with_intent(self, intents: Intents, *, field: int | None = None) -> tuple[Scan, ...]:
        """Scans with any of `intents` (on `field`, when given), in order of time."""
        wanted = set(parse_intents(intents))
        return tuple(
            s
            for s in self.scans
            if any(wanted & found for f, found in s.intents_by_field.items() if field is None or f == field)
        )

    def fields_with_intent(self, intents: Intents) -> tuple[Field, ...]:
        """Fields observed with any of `intents`, in order of id."""
        wanted = set(parse_intents(intents))
        return tuple(f for f in self.fields if f.intents & wanted)

    def field_ids(self, selection: str = "") -> tuple[int, ...]:
        """Ids of a CASA field selection (names, patterns, ids, ranges).

        Raises:
            InputError: an item matches nothing.
        """
        return select_by_name(selection, {f.id: f.name for f in self.fields}, "field", where=f" in {self.name}")

    def field_selection(self, fields: Intents | Iterable[Field]) -> str:
        """A CASA selection of fields (or of the fields with the given intents): names where unique, else ids."""
        chosen = list(fields) if not isinstance(fields, str) else list(self.fields_with_intent(fields))
        records = [f if isinstance(f, Field) else g for f in chosen for g in self._expanded(f)]
        if self.names_are_unique:
            return join_names(f.name for f in records)
        return compact_ids(f.id for f in records)

    def _expanded(self, item: object) -> tuple[Field, ...]:
        return (item,) if isinstance(item, Field) else self.fields_with_intent(str(item))

    @cached_property
    def names_are_unique(self) -> bool:
        """Whether every field name can serve in a selection: unique, and no quote inside that CASA cannot write."""
        counted = Counter(f.name for f in self.fields)
        return max(counted.values(), default=1) == 1 and not any('"' in n or not n.strip() for n in counted)

    @cached_property
    def observed(self) -> frozenset[tuple[int, int, str]]:
        """Combinations (field id, real spw id, intents) that occur.

        Rows can have several intents at once, so the third item is the whole set, as text: ``"BANDPASS,PHASE"``,
        sorted; empty where the data have none.
        """
        return frozenset(
            (field, int(spw), ",".join(sorted(intents)))
            for scan in self.scans
            for field in scan.field_ids
            for intents in (scan.intent_sets.get(field) or [frozenset[str]()])
            for spw in scan.spw_ids
        )

    def intent_labels(self, intents: Intents = "") -> frozenset[str]:
        """The sets of intents that occur (as in `observed`) and hold any of `intents`; all of them for none."""
        wanted = set(parse_intents(intents))
        return frozenset(i for i in self._intent_labels if not wanted or wanted & set(i.split(",")))

    @cached_property
    def _intent_labels(self) -> frozenset[str]:
        return frozenset(i for _, _, i in self.observed)

    def observing_modes(self, intents: Intents) -> tuple[str, ...]:
        """The observatory's words (items of OBS_MODE) for `intents`; empty when intents do not come from STATE.

        Joined with commas they are the `intent` argument of a CASA task, which selects every state that has one.
        """
        wanted = set(parse_intents(intents))
        if self.intents_from != "state":
            return ()
        used = {i for scan in self.scans for i in scan.state_ids}
        states = [s for s in self.states if s.id in used]
        return tuple(dict.fromkeys(w for s in states for w, i in s.words.items() if i in wanted and i in s.intents))

    def with_intents(self, rules: Sequence[IntentRule] | Mapping[int, Iterable[str]]) -> MeasurementSet:
        """The same data with intents by field: from rules on names, or given by field id.

        Fields that are not named lose their intents: a mixture of two sources of truth would mislead.

        Raises:
            UnknownName: a rule matches no field, or an intent is unknown.
        """
        if isinstance(rules, Mapping):
            given = {field: frozenset(parse_intents(words)) for field, words in rules.items()}
        else:
            given = intents_by_field(self, rules)
        scans = tuple(
            attrs.evolve(s, intent_sets={f: frozenset([given.get(f, frozenset())]) for f in s.field_ids})
            for s in self.scans
        )
        return attrs.evolve(self, intents_from="rules").with_scans(scans)

    def with_scans(self, scans: tuple[Scan, ...]) -> MeasurementSet:
        """The same data with other scans, and with everything that follows from their intents."""
        by_field: dict[int, set[str]] = {}
        by_spw: dict[int, set[str]] = {}
        for scan in scans:
            for field, intents in scan.intents_by_field.items():
                by_field.setdefault(field, set()).update(intents)
                for spw in scan.spw_ids:
                    by_spw.setdefault(spw, set()).update(intents)
        return attrs.evolve(
            self,
            scans=scans,
            fields=tuple(attrs.evolve(f, intents=frozenset(by_field.get(f.id, ()))) for f in self.fields),
            spws=tuple(attrs.evolve(s, intents=frozenset(by_spw.get(s.id, ()))) for s in self.spws),
        )

    def median_integration_time_s(self, intents: Intents = "", spw: RealSpw | None = None) -> float:
        """Median INTERVAL over the scans (weighted by rows) with any of `intents` and in `spw`; NaN when none.

        Without `spw`, the science windows count.
        """
        wanted = {spw} if spw is not None else set(self.science_spw_ids)
        scans = self.scans_with_intent(intents) if intents else self.scans
        pairs = [(v, s.n_rows) for s in scans for w, v in s.interval_s.items() if w in wanted]
        if not pairs:
            return float("nan")
        pairs.sort()
        weights = np.cumsum([rows for _, rows in pairs])
        return pairs[int(np.searchsorted(weights, weights[-1] / 2))][0]

    # ---- data types ----

    def column_of(self, data_type: DataType, *, source: str | None = None, spw: int | None = None) -> str | None:
        """Column that holds `data_type` (for a source and window, when given), or None."""
        return next((t.column for t in self.data_types if t.data_type is data_type and t.covers(source, spw)), None)

    @property
    def latest_type(self) -> DataType | None:
        """The type furthest along the reduction."""
        return max((t.data_type for t in self.data_types), key=lambda t: t.priority, default=None)

    def with_data_type(
        self,
        data_type: DataType,
        column: str,
        *,
        sources: Iterable[str] = (),
        spws: Iterable[int] = (),
        overwrite: bool = False,
    ) -> MeasurementSet:
        """The same data with one more type registered; the column is added to `columns` when it is new.

        Raises:
            DataError: column or type is taken and `overwrite` is not set.
        """
        new = ColumnType(data_type, column, frozenset(sources), frozenset(spws))
        columns = self.columns if column in self.columns else (*self.columns, column)
        return attrs.evolve(self, columns=columns, data_types=with_type(self.data_types, new, overwrite=overwrite))


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
