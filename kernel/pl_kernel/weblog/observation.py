"""Pictures of a measurement set as a whole: scans, antennas, elevation, parallactic angle, uv coverage.

Drawn in a worker.

An import stage's renderer calls ``observation_page(page, ctx, ms)`` for each measurement set; the pictures then
appear on the stage's page and on the observation page of the web log.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_kernel.ms.model import Field, MeasurementSet, Scan
from pl_kernel.weblog.names import slug
from pl_kernel.weblog.page import Link, Page

_MJD_EPOCH = dt.datetime(1858, 11, 17, tzinfo=dt.UTC)
_UV_ROWS = 60_000  # rows read for the uv plane: more would not show
KINDS = ("timeline", "antennas", "elevation", "parallactic", "uv")
ROTATING = ("PHASE", "POLARIZATION", "POLANGLE", "POLLEAKAGE")
"""Intents of calibrators whose parallactic angle matters: leakage is told from polarization by its change."""


@attrs.frozen
class Overview:
    """One picture to draw: a measurement set and one of KINDS."""

    ms: MeasurementSet
    kind: str

    @property
    def name(self) -> str:
        return f"{self.ms.name} {self.kind}"


_CAPTIONS = {
    "timeline": "Scans, coloured by intent", "antennas": "Antenna positions", "elevation": "Elevation of the fields",
    "parallactic": "Parallactic angle of the calibrators", "uv": "uv coverage of the targets",
}  # fmt: skip


def observation_page(page: Page, ctx: Any, ms: MeasurementSet) -> None:
    """Add a section about one measurement set: a few facts, the pictures, a link to its observation page."""
    page.section(ms.name)
    page.facts(
        {
            "Telescope": ms.telescope,
            "Start (UTC)": f"{ms.start:%Y-%m-%d %H:%M:%S}",
            "End (UTC)": f"{ms.end:%Y-%m-%d %H:%M:%S}",
            "Antennas": len(ms.antennas),
            "Science windows": ", ".join(str(int(s.id)) for s in ms.science_spws),
            "Intents from": ms.intents_from,
            "More": Link("scans, fields, windows, antennas", f"ms:{ms.name}"),
        }
    )
    page.table(
        ["Field", "Intents", "Scans"],
        [
            [f.name, ", ".join(sorted(f.intents)), ", ".join(str(s.id) for s in ms.scans if f.id in s.field_ids)]
            for f in ms.fields
        ],
        caption="Fields and what they were observed for",
    )
    observation_plots(page, ms)


def observation_plots(page: Page, ms: MeasurementSet) -> None:
    """Add the pictures, and the ranges of parallactic angles, to the section that is open."""
    page.plots(
        draw_overview,
        [Overview(ms, kind) for kind in KINDS],
        caption=lambda item: _CAPTIONS[item.kind],
        tags=lambda item: {"vis": ms.name, "type": item.kind, "page": "observation"},
        name=f"observation-{slug(ms.stem, 30)}",
    )
    ranges = parallactic_ranges(ms)
    if ranges:
        page.table(
            ["Field", "Intents", "Scans", "First", "Last", "Range"],
            ranges, caption="Parallactic angles of the calibrators, from the first to the last of their scans.",
            units={"First": "deg", "Last": "deg", "Range": "deg"},
            formats={"First": ".1f", "Last": ".1f", "Range": ".1f"},
        )  # fmt: skip


def draw_observation(ctx_item: Any, ms: MeasurementSet, folder: Path) -> list[Path]:
    """Draw all overview pictures of a measurement set into `folder`; return those that could be drawn."""
    paths = [(Overview(ms, kind), folder / f"{slug(ms.stem)}.{kind}.png") for kind in KINDS]
    return [path for item, path in paths if draw_overview(ctx_item, item, path) is not False]


def draw_overview(ctx_item: Any, item: Overview, path: Path) -> Any:
    """Draw one overview picture (for ``page.plots``); False when the data have nothing to show."""
    functions: dict[str, Callable[[Any, MeasurementSet, Path], Any]] = {
        "timeline": _timeline, "antennas": _antennas, "elevation": _elevation,
        "parallactic": _parallactic, "uv": _uv,
    }  # fmt: skip
    return functions[item.kind](ctx_item, item.ms, path)


def mjd_seconds(moment: dt.datetime) -> float:
    """Return a moment as seconds of MJD, the time of measurement sets."""
    return (moment - _MJD_EPOCH).total_seconds()


def _timeline(_ctx: Any, ms: MeasurementSet, path: Path) -> Any:
    from pl_kernel.weblog import plots

    names = {f.id: f.name for f in ms.fields}
    bars = [
        plots.ScanBar(
            scan.id, mjd_seconds(scan.start), mjd_seconds(scan.end), names.get(field, f"field {field}"),
            (" + ".join(sorted(scan.intents_by_field.get(field, ()))) or "no intent",),
        )
        for scan in ms.scans
        for field in scan.field_ids
    ]  # fmt: skip
    if not bars:
        return False
    return plots.timeline(path, bars, title="Scans", subtitle=ms.name)


def _antennas(_ctx: Any, ms: MeasurementSet, path: Path) -> Any:
    from pl_kernel.weblog import plots

    if len(ms.antennas) < 2:
        return False
    enu = ms.array.local_enu_m()
    return plots.antenna_map(path, ms.antenna_names, enu[:, 0], enu[:, 1], title="Antennas", subtitle=ms.telescope)


def _elevation(_ctx: Any, ms: MeasurementSet, path: Path) -> Any:
    from pl_kernel.weblog import plots

    found = _angles(ms, elevation_deg, list(ms.fields))
    if not found:
        return False
    plots.elevation(path, *found, title="Elevation", subtitle=ms.name)
    return None


def _parallactic(_ctx: Any, ms: MeasurementSet, path: Path) -> Any:
    from pl_kernel.weblog import plots

    found = _angles(ms, parallactic_deg, _rotating(ms))
    if not found:
        return False
    plots.elevation(
        path, *found, title="Parallactic angle", subtitle=ms.name, ylabel="Parallactic angle (deg)",
        ticks=(-180, -120, -60, 0, 60, 120, 180),
    )  # fmt: skip
    return None


def _rotating(ms: MeasurementSet) -> list[Field]:
    return [f for f in ms.fields if f.intents & set(ROTATING)] if len(ms.antennas) > 1 else []


def _angles(ms: MeasurementSet, angle: Callable[..., NDArray[np.float64]], fields: list[Field]) -> tuple[Any, ...]:
    """Times, angles, number of the field, and names of fields that were observed; empty when nothing is known."""
    place = _place(ms)
    numbers = {f.id: (n, f) for n, f in enumerate(fields)}
    times, angles, kinds = [], [], []
    for scan in ms.scans if place else ():
        moments = np.linspace(mjd_seconds(scan.start), mjd_seconds(scan.end), max(2, int(scan.duration_s // 60) + 2))
        for field_id in scan.field_ids:
            if field_id in numbers:
                number, field = numbers[field_id]
                times.append(moments)
                angles.append(angle(moments, field.ra_rad, field.dec_rad, *place))
                kinds.append(np.full(len(moments), number))
    if not times:
        return ()
    return np.concatenate(times), np.concatenate(angles), np.concatenate(kinds), [f.name for f in fields]


def _place(ms: MeasurementSet) -> tuple[float, ...]:
    """Longitude and latitude of the array in radians; empty when nobody says."""
    return _geodetic(ms.array.centre_m) if ms.antennas and np.any(ms.array.centre_m) else ()


def parallactic_ranges(ms: MeasurementSet) -> list[list[Any]]:
    """Rows of a table: field, intents, scans, parallactic angle at the first and the last moment, and its range."""
    rows: list[list[Any]] = []
    place = _place(ms)
    for field in _rotating(ms) if place else ():
        scans = [s for s in ms.scans if field.id in s.field_ids]
        if not scans:
            continue
        start, end = mjd_seconds(min(s.start for s in scans)), mjd_seconds(max(s.end for s in scans))
        # Every minute: near the zenith the angle turns by 180 degrees within some, and must be followed.
        moments = np.linspace(start, end, max(2, int((end - start) // 60) + 2))
        angles = np.degrees(
            np.unwrap(np.radians(parallactic_deg(moments, field.ra_rad, field.dec_rad, *place)))
        )  # fmt: skip
        intents = ", ".join(i for i in ROTATING if i in field.intents)
        rows.append([field.name, intents, len(scans), float(angles[0]), float(angles[-1]), float(np.ptp(angles))])
    return rows


def _uv(ctx_item: Any, ms: MeasurementSet, path: Path) -> Any:
    from pl_kernel.weblog import plots

    if len(ms.antennas) < 2 or not ms.n_rows:
        return False
    step = _step(ms.n_rows)
    with ctx_item.casa.table(ms.path) as table:
        rows = int(table.nrows())
        uvw = table.getcol("UVW", 0, -1, step) if rows else np.zeros((3, 0))
        fields = table.getcol("FIELD_ID", 0, -1, step)
        cross = table.getcol("ANTENNA1", 0, -1, step) != table.getcol("ANTENNA2", 0, -1, step)
    targets = [f.id for f in ms.fields_with_intent("TARGET")] or [f.id for f in ms.fields]
    chosen = np.isin(fields, targets) & cross
    if not chosen.any():
        return False
    centres = [s.centre_hz for s in ms.science_spws if s.centre_hz > 0]
    wavelength = 299792458.0 / float(np.median(centres)) if centres else None
    subtitle = f"{299.792458 / wavelength / 1e3:.4g} GHz" if wavelength else ""
    return plots.uv_coverage(
        path, uvw[0][chosen], uvw[1][chosen], wavelength_m=wavelength, title="uv coverage", subtitle=subtitle
    )


def _step(rows: int) -> int:
    """A row increment that shares no period with the baselines: a prime, so that every baseline is met in turn."""
    step = max(1, rows // _UV_ROWS)
    if step < 2:
        return 1
    while any(step % d == 0 for d in range(2, math.isqrt(step) + 1)):
        step += 1
    return step


def elevations_deg(ms: MeasurementSet, scans: Iterable[Scan]) -> dict[int, tuple[float, float]]:
    """Lowest and highest elevation of each field at the begins and ends of some scans; empty without a place."""
    place = _place(ms)
    found: dict[int, tuple[float, float]] = {}
    for scan in scans if place else ():
        for number in scan.field_ids:
            field = ms.field(number)
            moments = [mjd_seconds(scan.start), mjd_seconds(scan.end)]
            here = [*elevation_deg(moments, field.ra_rad, field.dec_rad, *place).tolist(), *found.get(number, ())]
            found[number] = (min(here), max(here))
    return found


def _geodetic(position_m: tuple[float, float, float]) -> tuple[float, float]:
    """Longitude and geodetic latitude (WGS 84, Bowring's form) of a geocentric position, in radians."""
    x, y, z = position_m
    a, f = 6378137.0, 1 / 298.257223563
    b, e2 = a * (1 - f), f * (2 - f)
    p = math.hypot(x, y)
    theta = math.atan2(z * a, p * b)
    latitude = math.atan2(z + e2 / (1 - e2) * b * math.sin(theta) ** 3, p - e2 * a * math.cos(theta) ** 3)
    return math.atan2(y, x), latitude


def elevation_deg(
    time_s: ArrayLike, ra_rad: float, dec_rad: float, longitude_rad: float, latitude_rad: float
) -> NDArray[np.float64]:
    """Return the geometric elevation in degrees of a J2000 direction at times in seconds of MJD (UTC).

    Good to 0.02° within 50 years of 2000 away from the poles, ample for a plot; see ``_of_date``.
    """
    hour, dec = _of_date(time_s, ra_rad, dec_rad, longitude_rad)
    sine = np.sin(dec) * math.sin(latitude_rad) + np.cos(dec) * math.cos(latitude_rad) * np.cos(hour)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))), dtype=np.float64)


def parallactic_deg(
    time_s: ArrayLike, ra_rad: float, dec_rad: float, longitude_rad: float, latitude_rad: float
) -> NDArray[np.float64]:
    """Return the parallactic angle in degrees, −180 to 180, of a J2000 direction at times in seconds of MJD (UTC).

    The angle at the source from the pole to the zenith, positive west of the meridian: tan q = sin H / (tan φ cos δ −
    sin δ cos H) (Meeus 1998, Astronomical Algorithms, eq. 14.1); the pole is that of the date.
    """
    hour, dec = _of_date(time_s, ra_rad, dec_rad, longitude_rad)
    angle = np.arctan2(np.sin(hour), math.tan(latitude_rad) * np.cos(dec) - np.sin(dec) * np.cos(hour))
    return np.asarray(np.degrees(angle), dtype=np.float64)


def _of_date(
    time_s: ArrayLike, ra_rad: float, dec_rad: float, longitude_rad: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hour angle and declination of the date, in radians.

    Precession to first order (Lieske 1977 rates m = 46.1244″/yr, n = 20.0431″/yr) and the mean sidereal time of 1982
    (Aoki et al.), UT1 taken as UTC.
    """
    days = np.asarray(time_s, dtype=np.float64) / 86400.0 - 51544.5
    years = days / 365.25
    arcsec = math.pi / 180 / 3600
    ra = ra_rad + years * (46.1244 + 20.0431 * math.sin(ra_rad) * math.tan(dec_rad)) * arcsec
    dec = dec_rad + years * 20.0431 * math.cos(ra_rad) * arcsec
    sidereal = np.radians(280.46061837 + 360.98564736629 * days) + longitude_rad
    return np.asarray(sidereal - ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
