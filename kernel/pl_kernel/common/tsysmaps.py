"""Which Tsys spectra calibrate which data: window to window, field to field. Pure rules on the metadata."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from ..ms.model import MeasurementSet
from ..ms.records import Field, SpectralWindow

ATMOSPHERE = "ATMOSPHERE"
_CALIBRATORS = frozenset({"AMPLITUDE", "BANDPASS", "DIFFGAINREF", "DIFFGAINSRC"})
_POLARIZATION = ("POLARIZATION", "POLANGLE", "POLLEAKAGE")
PURPOSES = (
    "BANDPASS", "AMPLITUDE", "DIFFGAINREF", "DIFFGAINSRC", "PHASE", "TARGET", "CHECK", "POLARIZATION",
    "POLANGLE", "POLLEAKAGE", "DELAY",
)  # fmt: skip
"""Intents whose data are calibrated with Tsys; set-up scans and the OFF positions of single dishes are not."""


def set_up(window: SpectralWindow) -> str:
    """The spectral set-up of a window: what precedes the receiver band in its name, or nothing.

    Names are ``[GROUPING#][SETUP#]BAND#BASEBAND#WINDOW#RESOLUTION``. Windows that were tuned together share a set-up.
    """
    return "#".join(window.name.split("#")[:-4])


def covers(tsys: SpectralWindow, window: SpectralWindow, tolerance_channels: float = 1.0) -> bool:
    """Whether Tsys was measured over all frequencies of a window, to within so many of the Tsys window's channels."""
    slack = tolerance_channels * tsys.channel_width_hz
    return tsys.min_hz - slack <= window.min_hz and window.max_hz <= tsys.max_hz + slack


def spw_map(
    windows: Sequence[SpectralWindow], measured: Iterable[int], tolerance_channels: float = 1.0
) -> dict[int, int]:
    """Window → the window whose Tsys it takes; windows without any are absent.

    A window with Tsys of its own takes that. Otherwise it is the first of the same baseband that covers its
    frequencies, of the same set-up if there is one. (The reference pipeline of 2026 takes no other set-up, and leaves
    the data in raw units; for total power the frequencies decide.)
    """
    by_id = {int(w.id): w for w in windows}
    candidates = [by_id[s] for s in sorted(set(measured)) if s in by_id]
    found: dict[int, int] = {}
    own = {int(c.id) for c in candidates}
    for window in windows:
        if window.id in own:
            found[int(window.id)] = int(window.id)
            continue
        fitting = [c for c in candidates if c.baseband == window.baseband and covers(c, window, tolerance_channels)]
        if fitting:
            best = min(fitting, key=lambda c: set_up(c) != set_up(window))
            found[int(window.id)] = int(best.id)
    return found


def as_list(mapping: Mapping[int, int]) -> tuple[int, ...]:
    """A spwmap for CASA: windows that are not in ``mapping``, or beyond the end, map to themselves."""
    last = max((k for k, v in mapping.items() if k != v), default=-1)
    return tuple(mapping.get(k, k) for k in range(last + 1))


def candidate_fields(ms: MeasurementSet, intent: str, measured: Iterable[int]) -> tuple[int, ...]:
    """Fields whose Tsys may serve data of an intent, before the nearest of them is chosen.

    Flux and bandpass calibrators take their own (the caller prefers it), and other targets' Tsys only where they have
    none. PHASE avoids the Tsys of bright calibrators and of targets; TARGET and CHECK avoid that of any calibrator.
    Each of these gives way when nothing is left (reference pipeline, 2026).
    """
    fields = [f for f in ms.fields if f.id in set(measured)]
    if intent in _CALIBRATORS or intent in _POLARIZATION or intent == "DELAY":
        if intent.startswith("DIFFGAIN"):
            own = [f for f in fields if intent in f.intents] or [f for f in fields if "BANDPASS" in f.intents]
            fields = own or fields
        return tuple(f.id for f in fields)
    bright = _CALIBRATORS | set(_POLARIZATION)
    quiet = [f for f in fields if not f.intents & bright]
    if intent == "PHASE":
        choices = ([f for f in quiet if "TARGET" not in f.intents], quiet, fields)
    else:
        choices = ([f for f in quiet if "PHASE" not in f.intents], quiet, fields)
    return tuple(f.id for f in next((c for c in choices if c), []))


def separation(one: Field, other: Field) -> float:
    """Angle between two fields, radians (haversine: exact for small angles)."""
    lat = math.sin((one.dec_rad - other.dec_rad) / 2) ** 2
    lon = math.sin((one.ra_rad - other.ra_rad) / 2) ** 2
    return 2 * math.asin(math.sqrt(min(1.0, lat + math.cos(one.dec_rad) * math.cos(other.dec_rad) * lon)))


@attrs.frozen(kw_only=True)
class TsysUse:
    """Data of these fields, windows and intent take the Tsys of ``tsys_field``."""

    fields: tuple[int, ...]
    spws: tuple[int, ...]
    intent: str
    tsys_field: int


@attrs.frozen
class TsysPlan:
    """Who takes whose Tsys, the intents for which there is none at all, and (field, window) left without."""

    uses: tuple[TsysUse, ...]
    without: tuple[str, ...] = ()
    missing: tuple[tuple[int, int], ...] = ()


def plan(ms: MeasurementSet, mapping: Mapping[int, int], measured: Mapping[int, frozenset[int]]) -> TsysPlan:
    """Choose a Tsys field for all data with a purpose.

    ``mapping`` is that of ``spw_map``; ``measured`` gives the fields with Tsys by window. Data take the Tsys of their
    own field where it is a candidate, else that of the candidate nearest in the sky *that has the mapped window*: with
    two tunings in one observation those differ.
    """
    everywhere = frozenset().union(*measured.values()) if measured else frozenset()
    science = {int(s) for s in ms.science_spw_ids}
    chosen: dict[tuple[str, int, int], list[int]] = {}
    missing: dict[tuple[int, int], None] = {}
    without = []
    present = {(f, s, i) for f, s, label in ms.observed for i in label.split(",")}
    for intent in PURPOSES:
        data = sorted((f, s) for f, s, i in present if i == intent and s in science and s in mapping)
        if not data:
            continue
        candidates = set(candidate_fields(ms, intent, everywhere))
        if not candidates:
            without.append(intent)
        for field, spw in data:
            usable = candidates & measured.get(mapping[spw], frozenset())
            if not usable:
                missing[(field, spw)] = None
                continue
            best = field if field in usable else _nearest(ms, field, usable)
            chosen.setdefault((intent, best, spw), []).append(field)
    return TsysPlan(_grouped(chosen), tuple(without), tuple(missing))


def _nearest(ms: MeasurementSet, field: int, candidates: Iterable[int]) -> int:
    place = ms.field(field)
    return min((separation(place, ms.field(c)), c) for c in candidates)[1]


def _grouped(chosen: Mapping[tuple[str, int, int], Sequence[int]]) -> tuple[TsysUse, ...]:
    """One entry for all windows that have the same fields, intent and Tsys field."""
    merged: dict[tuple[str, int, tuple[int, ...]], list[int]] = {}
    for (intent, best, spw), fields in chosen.items():
        merged.setdefault((intent, best, tuple(fields)), []).append(spw)
    return tuple(
        TsysUse(fields=fields, spws=tuple(sorted(spws)), intent=intent, tsys_field=best)
        for (intent, best, fields), spws in merged.items()
    )
