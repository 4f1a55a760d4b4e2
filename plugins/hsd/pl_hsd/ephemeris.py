"""Sources that move: where they were, from the ephemeris attached to the field or from the solar system's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import pointing
from pl_hsd.geometry import angles, vectors
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import ItemContext

BODIES = ("sun", "moon", "mercury", "venus", "mars", "jupiter", "saturn", "uranus", "neptune")
_DAY_S = 86400.0

Directions = tuple[NDArray[np.float64], NDArray[np.float64]]


@attrs.frozen
class SourceTrack:
    """A function of UTC times (MJD seconds): longitude and latitude in degrees."""

    at: Callable[[NDArray[np.float64]], Directions]


def source_tracks(ctx: ItemContext, ms: MeasurementSet, frame: str) -> dict[int, SourceTrack]:
    """Tracks in ``frame`` of the target fields that move."""
    tracks = {}
    for field in ms.fields_with_intent("TARGET"):
        if field.is_moving and (table := _attached(ctx, ms, field.name)):
            tracks[field.id] = tabulated(*table, frame)
        elif field.name.strip().lower() in BODIES:
            tracks[field.id] = _body(field.name.strip().lower(), frame, ms.array.centre_m)
    return tracks


def tabulated(
    mjd: NDArray[np.float64], ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], frame: str
) -> SourceTrack:
    """A track from an ephemeris in ICRS: linear between its entries (minutes apart, as observatories attach them)."""
    vector = vectors(ra_deg, dec_deg)

    def at(time_s: NDArray[np.float64]) -> Directions:
        days = np.asarray(time_s, dtype=float) / _DAY_S
        there = np.stack([np.interp(days, mjd, vector[:, k]) for k in range(3)], axis=1)
        return _framed(there, frame, time_s)

    return SourceTrack(at)


def _attached(ctx: ItemContext, ms: MeasurementSet, name: str) -> tuple[NDArray[np.float64], ...] | None:
    folder = Path(ctx.work) / ms.path / "FIELD"
    for path in sorted(folder.glob("EPHEM*.tab")):
        with ctx.casa.table(path) as table:
            words = table.getkeywords()
            if _plain(str(words.get("NAME", ""))) == _plain(name):
                return tuple(np.asarray(table.getcol(c), dtype=float) for c in ("MJD", "RA", "DEC"))
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]", "", name).upper()


def _body(name: str, frame: str, position_m: tuple[float, float, float]) -> SourceTrack:
    def at(time_s: NDArray[np.float64]) -> Directions:
        import astropy.units as u
        from astropy.coordinates import EarthLocation, get_body
        from astropy.time import Time
        from astropy.utils import iers

        times = np.asarray(time_s, dtype=float)
        # A body moves by arcseconds per minute: a track of minutes, interpolated, is exact to milliarcseconds.
        grid = np.linspace(times.min() - 30.0, times.max() + 30.0, int((times.max() - times.min()) // 60) + 3)
        with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
            place = EarthLocation.from_geocentric(*position_m, unit=u.m)
            found = get_body(name, Time(grid / _DAY_S, format="mjd", scale="utc"), location=place)
        vector = vectors(found.ra.deg, found.dec.deg)
        there = np.stack([np.interp(times, grid, vector[:, k]) for k in range(3)], axis=1)
        return _framed(there, frame, times)

    return SourceTrack(at)


def _framed(vector: NDArray[np.float64], frame: str, time_s: NDArray[np.float64]) -> Directions:
    unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    return angles(unit) if frame == "ICRS" else pointing.convert(unit, "ICRS", frame, time_s, (0.0, 0.0, 0.0))
