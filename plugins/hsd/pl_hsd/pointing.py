"""Directions of every integration: the POINTING table read once, interpolated, and turned into the wanted frames.

Earth orientation is that of CASA's data; the network is never asked.  CASA's measures leave out the motion of the pole:
directions agree with them to half an arcsecond, much below what any beam here sees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.geometry import angles
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import ItemContext

if TYPE_CHECKING:
    from astropy.utils.iers import IERS

_CELESTIAL = {"J2000": "fk5", "ICRS": "icrs", "B1950": "fk4", "GALACTIC": "galactic"}
_HORIZON = ("AZELGEO", "AZEL")
_EVER = 1e6
"""A day (MJD) after all observations."""
_ROWS_PER_CHUNK = 500_000
_LONGEST_GAP = 3.0
"""Times the usual step of POINTING: across a longer one nothing is interpolated."""


@attrs.frozen(eq=False)
class Track:
    """Where one antenna was told to look: times (s, ascending), unit vectors (n, 3), interval of each sample (s)."""

    time_s: NDArray[np.float64]
    vector: NDArray[np.float64]
    interval_s: NDArray[np.float64]


@attrs.frozen(eq=False)
class Pointing:
    """All tracks of a measurement set by antenna id, in one frame (AZELGEO, J2000 …)."""

    frame: str
    tracks: Mapping[int, Track]


def read_pointing(ctx: ItemContext, ms: MeasurementSet) -> Pointing:
    """Read POINTING once, in chunks; without the table, no antenna has a track.

    Raises:
        DataError: the table is there and cannot be read.
    """
    path = Path(ctx.work) / ms.path / "POINTING"
    if not (path / "table.dat").is_file():
        return Pointing("J2000", {})
    parts: list[tuple[NDArray[Any], ...]] = []
    try:
        with ctx.casa.table(path) as table:
            rows = int(table.nrows())
            if not rows:
                return Pointing("J2000", {})
            frame = str(table.getcolkeyword("DIRECTION", "MEASINFO").get("Ref", "J2000"))
            for start in range(0, rows, _ROWS_PER_CHUNK):
                count = min(_ROWS_PER_CHUNK, rows - start)
                names = ("ANTENNA_ID", "TIME", "INTERVAL", "DIRECTION")
                antenna, time, interval, direction = (table.getcol(n, startrow=start, nrow=count) for n in names)
                parts.append((antenna, time, interval, constant_terms(np.asarray(direction))))
    except RuntimeError as error:
        raise DataError(f"The POINTING table of {ms.name} cannot be read: {' '.join(str(error).split())}.") from error
    antenna, time, interval, direction = (np.concatenate([p[k] for p in parts]) for k in range(4))
    return Pointing(frame, tracks_of(antenna, time, interval, direction))


def constant_terms(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions (n, 2) from cells as CASA gives them, (2, order, n); higher orders are rates, which nobody writes.

    Some writers transpose the cell: (1, 2, n).
    """
    return direction[0].T if direction.shape[:2] == (1, 2) else direction[:, 0, :].T


def tracks_of(
    antenna: NDArray[Any], time_s: NDArray[Any], interval_s: NDArray[Any], direction_rad: NDArray[Any]
) -> dict[int, Track]:
    """Tracks by antenna from the columns of POINTING; samples that are no numbers are left out, doubles once."""
    tracks = {}
    good = np.isfinite(direction_rad).all(axis=1) & np.isfinite(time_s)
    for number in np.unique(antenna):
        own = np.flatnonzero((antenna == number) & good)
        times, first = np.unique(time_s[own], return_index=True)
        own = own[first]
        lon, lat = direction_rad[own].T
        vector = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
        tracks[int(number)] = Track(times, vector, np.abs(interval_s[own]))
    return tracks


def directions_at(
    track: Track | None, time_s: NDArray[np.float64], interval_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit vectors (n, 3) at times: linear between samples; NaN where the track has a hole or ends.

    A time is covered when a sample lies within half of its integration or half of the sample's own interval, or when
    the samples around it are no more than three usual steps apart.
    """
    result = np.full((len(time_s), 3), np.nan)
    if track is None or not track.time_s.size:
        return result
    times = track.time_s
    after = np.searchsorted(times, time_s)
    right, left = np.minimum(after, len(times) - 1), np.maximum(after - 1, 0)
    span = times[right] - times[left]
    fraction = np.where(span > 0, (time_s - times[left]) / np.where(span > 0, span, 1.0), 0.0)
    fraction = np.clip(fraction, 0.0, 1.0)
    vector = (1 - fraction[:, None]) * track.vector[left] + fraction[:, None] * track.vector[right]
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    near = np.where(np.abs(time_s - times[left]) <= np.abs(times[right] - time_s), left, right)
    distance = np.abs(time_s - times[near])
    # A tenth of an interval more: clocks of mount and correlator are not read at the same instant.
    close = distance <= 0.55 * np.maximum(interval_s, track.interval_s[near])
    inside = (time_s >= times[0]) & (time_s <= times[-1]) & (span <= _LONGEST_GAP * usual)
    lone = close & ~inside
    vector[lone] = track.vector[near[lone]]
    covered = close | inside
    result[covered] = vector[covered] / np.linalg.norm(vector[covered], axis=1, keepdims=True)
    return result


def earth_orientation(ctx: ItemContext) -> IERS:
    """Polar motion and UT1 - UTC as CASA has them: measured by the IERS, then predicted.

    Of CASA's data, so that directions are those of its imaging, and the newest that are installed.
    """
    import astropy.units as u
    from astropy.utils.iers import IERS

    columns: dict[str, NDArray[np.float64]] = {}
    for name in ("IERSeop97", "IERSpredict"):
        with ctx.casa.table(ctx.casa.data(f"geodetic/{name}")) as table:
            days = table.getcol("MJD")
            newer = days > columns["MJD"][-1] if columns else np.ones(days.shape, dtype=bool)
            for column in ("MJD", "x", "y", "dUT1"):
                more = table.getcol(column)[newer]
                columns[column] = np.concatenate([columns[column], more]) if column in columns else more
    for column, values in columns.items():  # beyond the end the last values stay, which is better than none
        columns[column] = np.append(values, _EVER if column == "MJD" else values[-1])
    return IERS(
        {"MJD": columns["MJD"] * u.day, "PM_x": columns["x"] * u.arcsec, "PM_y": columns["y"] * u.arcsec,
         "UT1_UTC": columns["dUT1"] * u.s}
    )  # fmt: skip


def convert(
    vector: NDArray[np.float64], frame: str, wanted: str, time_s: NDArray[np.float64], position_m: tuple[float, ...],
    orientation: IERS | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Directions (n, 3) of ``frame`` at UTC times (MJD seconds) and a place as longitude and latitude in degrees.

    ``wanted`` and ``frame`` are AZELGEO (AZEL), J2000, ICRS, B1950 or GALACTIC.  NaN stays NaN.  ``orientation`` is
    that of the Earth, see ``earth_orientation``; by default what comes with astropy, which takes a second to read.

    Raises:
        DataError: a frame that is none of these.
    """
    for name in (frame, wanted):
        if name not in _CELESTIAL and name not in _HORIZON:
            usable = ", ".join((*_CELESTIAL, *_HORIZON))
            raise DataError(f"Directions in the frame {name} cannot be used; {usable} can.")
    lon, lat = angles(vector)
    good = np.isfinite(vector).all(axis=1)
    lon[~good], lat[~good] = np.nan, np.nan
    horizon = frame in _HORIZON, wanted in _HORIZON
    if frame == wanted or all(horizon) or not good.any():
        return lon, lat
    import astropy.units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord, erfa_astrom
    from astropy.time import Time
    from astropy.utils import iers

    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
        iers.earth_orientation_table.set(orientation) if orientation is not None else contextlib.nullcontext(),
        erfa_astrom.erfa_astrom.set(erfa_astrom.ErfaAstromInterpolator(300 * u.s)),
    ):
        local = None
        if any(horizon):
            where = EarthLocation.from_geocentric(*position_m, unit=u.m)
            local = AltAz(obstime=Time(time_s[good] / 86400.0, format="mjd", scale="utc"), location=where)
        if horizon[0]:
            given = SkyCoord(AltAz(az=lon[good] * u.deg, alt=lat[good] * u.deg, obstime=local.obstime, location=where))
        else:
            given = SkyCoord(lon[good] * u.deg, lat[good] * u.deg, frame=_CELESTIAL[frame])
        found = given.transform_to(local if horizon[1] else _CELESTIAL[wanted]).spherical
    lon[good], lat[good] = found.lon.deg, found.lat.deg
    return lon, lat
