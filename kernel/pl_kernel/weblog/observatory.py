"""What the observation and calibration pages say, from the JSON of the context (kernel process: no CASA, no plots)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pl_kernel.errors import PlError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.virtual import VirtualSpws
from pl_kernel.serialize import from_json
from pl_kernel.weblog.names import slug
from pl_kernel.weblog.views import as_dict, as_dicts, say, say_duration

_INTENTS_FROM = {
    "state": "as recorded by the observatory (STATE subtable of the measurement set)",
    "source_type": "from the source types of the FIELD subtable",
    "rules": "from rules: given by the user, or decided by the import stage for data that carry none",
    "none": "the data carry no intents, and none were given",
}


@attrs.frozen(kw_only=True)
class ObservationView:
    """One measurement set in words; lists of dictionaries are rows of tables."""

    name: str
    slug: str
    telescope: str = ""
    project: str = ""
    observer: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    start: str = ""
    end: str = ""
    intents_from: str = ""
    antennas: tuple[dict[str, Any], ...] = ()
    spws: tuple[dict[str, Any], ...] = ()
    fields: tuple[dict[str, Any], ...] = ()
    sources: tuple[dict[str, Any], ...] = ()
    scans: tuple[dict[str, Any], ...] = ()
    weather: tuple[tuple[str, str], ...] = ()
    data_types: tuple[tuple[str, str], ...] = ()
    bands: str = ""
    targets: str = ""
    pictures: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""
    origin: str = ""


def observation_view(
    data: Mapping[str, Any], context: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]] = ()
) -> ObservationView:
    """Describe one measurement set of ``context.json``; what cannot be read is said instead."""
    name = str(data.get("name", "?"))
    try:
        ms = from_json(data, MeasurementSet)
        return _view(ms, _virtual(context), tuple(pictures))
    except Exception as error:  # a measurement set of a strange shape must not cost the other pages
        return ObservationView(name=name, slug=slug(name), pictures=tuple(pictures), problem=str(error))


def _virtual(context: Mapping[str, Any]) -> VirtualSpws:
    sets = []
    for data in as_dicts(context.get("measurement_sets")):
        try:
            sets.append(from_json(data, MeasurementSet))
        except PlError:
            continue
    return VirtualSpws.of(sets)


def _view(ms: MeasurementSet, virtual: VirtualSpws, pictures: tuple[Mapping[str, Any], ...]) -> ObservationView:
    lengths = ms.array.lengths_m()
    science = {int(s.id) for s in ms.science_spws}
    names = {f.id: f.name for f in ms.fields}
    on_target = sum(s.duration_s for s in ms.scans_with_intent("TARGET"))
    baselines = f"{lengths[0]:.1f} to {lengths[-1]:.1f} m ({len(lengths)})" if len(lengths) else "–"
    targets = ", ".join(f.name for f in ms.fields_with_intent("TARGET"))
    facts = (
        ("Telescope", ms.telescope), ("Project", say(ms.project)), ("Observer", say(ms.observer)),
        ("Scheduling block", ms.scheduling_block), ("Execution block", ms.execution_block), ("Session", ms.session),
        ("Start (UTC)", f"{ms.start:%Y-%m-%d %H:%M:%S}"), ("End (UTC)", f"{ms.end:%Y-%m-%d %H:%M:%S}"),
        ("Duration", say_duration(ms.duration_s)), ("On target", say_duration(on_target)), ("Targets", targets),
        ("Bands", ", ".join(ms.bands)), ("Antennas", str(len(ms.antennas))), ("Baselines", baselines),
        ("Rows", f"{ms.n_rows:,}".replace(",", " ")), ("Made from", ms.origin),
    )  # fmt: skip
    return ObservationView(
        name=ms.name,
        slug=slug(ms.name),
        telescope=ms.telescope,
        project=ms.project,
        observer=ms.observer,
        facts=tuple((k, v) for k, v in facts if v and v != "–"),
        start=f"{ms.start:%Y-%m-%d %H:%M}",
        end=f"{ms.end:%Y-%m-%d %H:%M}",
        intents_from=_INTENTS_FROM.get(ms.intents_from, ms.intents_from),
        antennas=tuple(_antenna_rows(ms)),
        spws=tuple(_spw_rows(ms, virtual, science)),
        fields=tuple(
            {"id": f.id, "name": f.name, "ra": _hms(f.ra_rad), "dec": _dms(f.dec_rad), "frame": f.frame,
             "intents": ", ".join(sorted(f.intents)), "source": _source_name(ms, f.source_id),
             "spws": ", ".join(map(str, sorted(f.spws)))}
            for f in ms.fields
        ),
        sources=tuple({"id": s.id, "name": s.name, "ra": _hms(s.ra_rad), "dec": _dms(s.dec_rad)} for s in ms.sources),
        scans=tuple(
            {"id": s.id, "start": f"{s.start:%H:%M:%S}", "date": f"{s.start:%Y-%m-%d}", "end": f"{s.end:%H:%M:%S}",
             "seconds": s.duration_s, "fields": ", ".join(names.get(i, str(i)) for i in s.field_ids),
             "intents": ", ".join(sorted(s.intents)), "spws": ", ".join(str(i) for i in s.spw_ids),
             "interval": min(s.interval_s.values(), default=None), "rows": s.n_rows}
            for s in ms.scans
        ),
        weather=_weather(ms),
        data_types=tuple((t.column, t.data_type.name) for t in ms.data_types),
        bands=", ".join(ms.bands),
        targets=targets,
        origin=ms.origin,
        pictures=pictures,
    )  # fmt: skip


def _antenna_rows(ms: MeasurementSet) -> list[dict[str, Any]]:
    places = ms.array.local_enu_m()
    return [
        {"id": a.id, "name": a.name, "station": a.station, "diameter": a.diameter_m, "mount": a.mount,
         "east": float(e), "north": float(n), "up": float(u)}
        for a, (e, n, u) in zip(ms.antennas, places, strict=True)
    ]  # fmt: skip


def _spw_rows(ms: MeasurementSet, virtual: VirtualSpws, science: set[int]) -> list[dict[str, Any]]:
    rows = []
    for s in ms.spws:
        shared = virtual.to_virtual(s.id, ms.name)
        try:
            correlations = " ".join(ms.polarization_of(s.id).correlations)
        except PlError:
            correlations = ""
        rows.append(
            {"id": int(s.id), "virtual": "" if shared is None else int(shared), "name": s.name, "band": s.band,
             "science": int(s.id) in science, "centre": s.centre_hz / 1e9, "low": s.min_hz / 1e9,
             "high": s.max_hz / 1e9, "bandwidth": (s.max_hz - s.min_hz) / 1e6, "channels": s.n_channels,
             "width": s.channel_width_hz / 1e3,
             "velocity": 299792.458 * s.channel_width_hz / s.centre_hz if s.centre_hz else math.nan,
             "frame": s.frame.name, "correlations": correlations, "intents": ", ".join(sorted(s.intents))}
        )  # fmt: skip
    return rows


def _weather(ms: MeasurementSet) -> tuple[tuple[str, str], ...]:
    if ms.weather is None:
        return ()
    w = ms.weather
    rows = (
        ("Temperature", w.temperature_k and f"{w.temperature_k - 273.15:.1f} °C"),
        ("Pressure", w.pressure_hpa and f"{w.pressure_hpa:.1f} hPa"),
        ("Relative humidity", w.humidity_percent and f"{w.humidity_percent:.0f} %"),
        ("Wind", w.wind_m_s is not None and f"{w.wind_m_s:.1f} m/s"),
        ("Records", str(w.n_rows)),
    )
    return tuple((k, str(v)) for k, v in rows if v)


def _source_name(ms: MeasurementSet, source_id: int) -> str:
    return next((s.name for s in ms.sources if s.id == source_id), "")


def _hms(radians: float) -> str:
    total = round((radians % (2 * math.pi)) * 12 / math.pi * 3600 * 1000)
    total %= 24 * 3600 * 1000
    seconds, thousandths = divmod(total, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{thousandths:03d}"


def _dms(radians: float) -> str:
    total = round(abs(radians) * 180 / math.pi * 3600 * 100)
    seconds, hundredths = divmod(total, 100)
    sign = "−" if radians < 0 else "+"
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{hundredths:02d}"


# ---- calibration ---------------------------------------------------------------------------------------------------


def calibration_rows(data: Any) -> list[dict[str, Any]]:
    """Flatten the calibration library of ``context.json``: one row per registration and caltable, in order of use."""
    rows: list[dict[str, Any]] = []
    for state in ("active", "applied"):
        for entry in as_dicts(as_dict(as_dict(data).get(state)).get("registrations")):
            region = as_dict(entry.get("region"))
            within = as_dicts(region.get("within"))
            to = {
                key: " ∩ ".join(dict.fromkeys(str(w[key]) for w in within if w.get(key)))
                for key in ("vis", "intent", "field", "spw", "antenna")
            }
            for table in as_dicts(entry.get("calfroms")):
                rows.append(
                    {"state": state, "serial": entry.get("serial", 0), "origin": str(entry.get("origin", "")), "to": to,
                     "partly": bool(region.get("without")), "from": table}
                )  # fmt: skip
    return rows
