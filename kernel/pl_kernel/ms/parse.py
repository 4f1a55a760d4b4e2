"""Columns of subtables → records. Tolerant: real data have holes, and an old set is no reason to stop."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_kernel.errors import DataError
from pl_kernel.ms.records import Antenna, Field, Frame, Polarization, Source, SpectralWindow, WeatherSummary
from pl_kernel.ms.tables import Subtable
from pl_kernel.ms.telescopes import Telescope
from pl_kernel.ms.virtual import RealSpw

_MJD_ZERO = dt.datetime(1858, 11, 17, tzinfo=dt.UTC)
_STOKES = (
    "Undefined", "I", "Q", "U", "V", "RR", "RL", "LR", "LL", "XX", "XY", "YX", "YY", "RX", "RY", "LX", "LY", "XR", "XL",
    "YR", "YL", "PP", "PQ", "QP", "QQ",
)  # fmt: skip
_LINEAR_TOLERANCE = 1e-3  # of a channel: what a linear axis may be off before the channels are listed one by one


def utc(mjd_s: float) -> dt.datetime:
    """MJD in seconds (UTC, as in TIME columns) → aware datetime, to the microsecond."""
    return _MJD_ZERO + dt.timedelta(microseconds=round(mjd_s * 1e6))


def parse_antennas(table: Subtable, observed: set[int]) -> tuple[Antenna, ...]:
    """Antennas that occur in the data and are not flagged as a row."""
    antennas = []
    names, flagged = table.get("NAME", ""), table.get("FLAG_ROW", False)
    for i in range(table.n_rows):
        if i not in observed or flagged[i]:
            continue
        antennas.append(
            Antenna(
                id=i,
                name=str(names[i]).strip() or f"ant{i}",
                station=str(table.get("STATION", "")[i]).strip(),
                diameter_m=float(table.get("DISH_DIAMETER", 0.0)[i]),
                position_m=_vector(table.get("POSITION")[i]),
                offset_m=_vector(table.get("OFFSET")[i]),
                mount=str(table.get("MOUNT", "")[i]).strip(),
            )
        )
    return tuple(antennas)


def _vector(cell: Any) -> tuple[float, float, float]:
    values = np.zeros(3) if cell is None else np.asarray(cell, dtype=float).ravel()
    return (float(values[0]), float(values[1]), float(values[2])) if values.size == 3 else (0.0, 0.0, 0.0)


def parse_fields(table: Subtable, observed: set[int]) -> tuple[Field, ...]:
    """Fields that occur in the data."""
    fields = []
    names, sources, codes = table.get("NAME", ""), table.get("SOURCE_ID", -1), table.get("CODE", "")
    directions, frames = table.get("PHASE_DIR"), table.get("PhaseDir_Ref")
    ephemerides = table.get("EPHEMERIS_ID", -1)
    fixed, by_code = table.frames.get("PHASE_DIR", ("J2000", {}))
    for i in sorted(observed & set(range(table.n_rows))):
        ra, dec = _direction(directions[i])
        code = "" if str(codes[i]).strip().lower() == "none" else str(codes[i]).strip()
        frame = fixed if frames[i] is None else by_code.get(int(frames[i]), fixed)
        name = str(names[i]).strip() or f"field_{i}"
        moving = int(ephemerides[i]) >= 0
        fields.append(Field(i, name, int(sources[i]), ra, dec, frame, code, is_moving=moving))
    return tuple(fields)


def _direction(cell: Any) -> tuple[float, float]:
    if cell is None:
        return 0.0, 0.0
    values = np.asarray(cell, dtype=float)
    # The constant term of a moving direction; some writers transpose the cell.
    first = values[:, 0] if values.ndim == 2 and values.shape[0] == 2 else values.ravel()[:2]
    return float(first[0] % (2 * np.pi)), float(first[1])


def parse_sources(table: Subtable, fields: Sequence[Field]) -> tuple[Source, ...]:
    """Sources by id; a field whose source is absent gives one of its own name and direction."""
    ids, names = table.get("SOURCE_ID"), table.get("NAME", "")
    spws = table.get("SPECTRAL_WINDOW_ID", -1)
    rows: dict[int, list[int]] = {}
    for row, source in enumerate(ids):
        rows.setdefault(int(source), []).append(row)
    sources = []
    for source, found in sorted(rows.items()):
        ra, dec = _direction(table.get("DIRECTION")[found[0]])
        motion = np.asarray(table.get("PROPER_MOTION", np.zeros(2))[found[0]], dtype=float).ravel()
        lines = {int(spws[r]): _floats(table.get("REST_FREQUENCY")[r]) for r in found}
        words = {int(spws[r]): _texts(table.get("TRANSITION")[r]) for r in found}
        speeds = {int(spws[r]): _floats(table.get("SYSVEL")[r]) for r in found}
        sources.append(
            Source(
                id=source,
                name=str(names[found[0]]).strip(),
                ra_rad=ra,
                dec_rad=dec,
                is_moving=any(f.is_moving for f in fields if f.source_id == source),
                frame=table.frames.get("DIRECTION", ("J2000", {}))[0],
                proper_motion_rad_s=(float(motion[0]), float(motion[1])) if motion.size == 2 else (0.0, 0.0),
                rest_frequencies_hz={s: v for s, v in lines.items() if v},
                transitions={s: w for s, w in words.items() if w},
                velocity_m_s={s: v[0] for s, v in speeds.items() if v},
            )
        )
    for field in fields:
        if field.source_id not in rows and field.source_id not in {s.id for s in sources}:
            sources.append(Source(field.source_id, field.name, field.ra_rad, field.dec_rad, field.frame))
    return tuple(sources)


def _floats(cell: Any) -> tuple[float, ...]:
    # Importers write a rest frequency of zero for "none".
    values = np.zeros(0) if cell is None else np.asarray(cell, dtype=float).ravel()
    return tuple(float(v) for v in values if np.isfinite(v) and v)


def _texts(cell: Any) -> tuple[str, ...]:
    return () if cell is None else tuple(t for v in np.asarray(cell, dtype=str).ravel() if (t := str(v).strip()))


def parse_spws(table: Subtable, telescope: Telescope) -> tuple[SpectralWindow, ...]:
    """All windows of the table."""
    windows = []
    for i in range(table.n_rows):
        cells = {name: table.get(name)[i] for name in ("CHAN_FREQ", "CHAN_WIDTH")}
        for name, cell in cells.items():
            if cell is None:
                raise DataError(f"It is damaged: SPECTRAL_WINDOW has no readable {name} for spectral window {i}.")
        centres = np.asarray(cells["CHAN_FREQ"], dtype=float).ravel()
        widths = np.asarray(cells["CHAN_WIDTH"], dtype=float).ravel()
        first, step, irregular = _axis(centres, widths)
        resolution = table.get("RESOLUTION")[i]
        centre = float((centres.min() + centres.max()) / 2) if centres.size else 0.0
        name = str(table.get("NAME", "")[i]).strip()
        code = int(table.get("MEAS_FREQ_REF", Frame.TOPO.value)[i])
        windows.append(
            SpectralWindow(
                id=RealSpw(i),
                name=name,
                n_channels=int(centres.size),
                first_hz=first,
                step_hz=step,
                resolution_hz=abs(float(np.median(resolution))) if resolution is not None else abs(step),
                bandwidth_hz=abs(float(table.get("TOTAL_BANDWIDTH", 0.0)[i])),
                ref_frequency_hz=float(table.get("REF_FREQUENCY", 0.0)[i]),
                frame=Frame(code) if code in {f.value for f in Frame} else Frame.UNDEFINED,
                irregular_centres_hz=irregular,
                sideband=int(table.get("NET_SIDEBAND", 0)[i]),
                baseband=int(table.get("BBC_NO", 0)[i]),
                band=telescope.band_of(centre, name),
                online_binning=int(table.get("SDM_NUM_BIN", 1)[i]),
                correlation_bits=str(table.get("SDM_CORR_BIT", "")[i] or ""),
            )
        )
    return tuple(windows)


def _axis(centres: NDArray[np.float64], widths: NDArray[np.float64]) -> tuple[float, float, tuple[float, ...]]:
    """First centre, step, and the centres themselves where the axis is not linear.

    The sign of the step comes from the centres: CHAN_WIDTH is written positive by some and negative by others.
    """
    if centres.size == 0:
        return 0.0, 0.0, ()
    if centres.size == 1:
        return float(centres[0]), float(widths[0]) if widths.size else 0.0, ()
    step = float((centres[-1] - centres[0]) / (centres.size - 1))
    linear = centres[0] + step * np.arange(centres.size)
    tolerance = _LINEAR_TOLERANCE * max(abs(step), 1e-12)
    if np.abs(linear - centres).max() <= tolerance:
        return float(centres[0]), step, ()
    return float(centres[0]), step, tuple(float(c) for c in centres)


def parse_polarizations(table: Subtable) -> tuple[Polarization, ...]:
    """Correlations as names."""
    result = []
    for i, cell in enumerate(table.get("CORR_TYPE")):
        codes = [int(c) for c in np.asarray(cell).ravel()] if cell is not None else []
        result.append(Polarization(i, tuple(_STOKES[c] if 0 <= c < len(_STOKES) else f"type{c}" for c in codes)))
    return tuple(result)


def parse_weather(table: Subtable) -> WeatherSummary | None:
    """Medians of what was recorded; None without a WEATHER table."""
    if not table.n_rows:
        return None

    def median(name: str, low: float, high: float) -> float | None:
        values = np.asarray(table.get(name, np.nan), dtype=float)
        good = values[np.isfinite(values) & (values >= low) & (values <= high)]
        return float(np.median(good)) if good.size else None

    temperature = median("TEMPERATURE", -100, 400)
    if temperature is not None and temperature < 100:
        temperature += 273.15  # some importers write degrees Celsius
    pressure = median("PRESSURE", 1, 200_000)
    if pressure is not None and pressure > 2000:
        pressure /= 100  # some importers write pascal
    return WeatherSummary(
        n_rows=table.n_rows,
        temperature_k=temperature,
        pressure_hpa=pressure,
        humidity_percent=median("REL_HUMIDITY", 1e-9, 100),
        wind_m_s=median("WIND_SPEED", 0, 200),
    )
