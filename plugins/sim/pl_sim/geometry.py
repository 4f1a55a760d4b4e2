"""Where things are: baselines, elevation, parallactic angle and Doppler shift.

Earth orientation comes from astropy (its bundled IERS table; the network is never asked), rotations from ERFA, the
IAU's library. The tests hold all four quantities against CASA's measures.
"""

# ruff: noqa: E741 - l, m and n are direction cosines in every paper.
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import erfa
import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation
from astropy.time import Time
from astropy.utils import iers

from pl_sim.observation import SPEED_OF_LIGHT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

iers.conf.auto_download = False
iers.conf.auto_max_age = None

ARCSEC = np.pi / 180 / 3600
_GRID_PER_DAY = 144
"""How often the slow motions of the Earth are summed anew: every ten minutes."""
_AU_PER_DAY = (1 * u.au / u.day).to_value(u.m / u.s)

# Standard solar motion: 20.0 km/s towards 18h +30d (B1900), precessed to J2000; the definition casacore uses for LSRK.
_LSRK_SPEED = 20.0e3
_LSRK_RA, _LSRK_DEC = np.radians(270.9600), np.radians(30.0046)


def unit_vector(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    """Cartesian direction, shape (..., 3)."""
    ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def direction_cosines(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> tuple[NDArray, NDArray, NDArray]:
    """(l, m, n - 1) of a direction about a phase centre; radians in, direction cosines out (SIN projection)."""
    dra = np.asarray(ra, float) - ra0
    dec = np.asarray(dec, float)
    l = np.cos(dec) * np.sin(dra)
    m = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(dra)
    return l, m, -(l * l + m * m) / (1 + np.sqrt(1 - l * l - m * m))


def offset_direction(
    ra0: float, dec0: float, east_arcsec: ArrayLike, north_arcsec: ArrayLike
) -> tuple[NDArray, NDArray]:
    """Direction at tangent-plane (SIN) offsets from a position; radians and arcseconds in, radians out."""
    l, m = np.asarray(east_arcsec, float) * ARCSEC, np.asarray(north_arcsec, float) * ARCSEC
    n = np.sqrt(1 - l * l - m * m)
    dec = np.arcsin(m * np.cos(dec0) + n * np.sin(dec0))
    ra = ra0 + np.arctan2(l, n * np.cos(dec0) - m * np.sin(dec0))
    return ra, dec


def _sky_axes(ra: NDArray, dec: NDArray) -> NDArray[np.float64]:
    """Unit vectors of u (east), v (north) and w (towards the source), shape (time, 3, 3)."""
    sa, ca, sd, cd = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
    east = np.stack([-sa, ca, np.zeros_like(sa)], -1)
    north = np.stack([-sd * ca, -sd * sa, cd], -1)
    return np.stack([east, north, np.stack([cd * ca, cd * sa, sd], -1)], axis=1)


def _slow_motion(time: Time) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Celestial pole (x, y) and origin (s), rad, and the Earth about the Sun and the barycentre (au, au/day).

    Their series have thousands of terms and vary over days: they are summed every ten minutes and interpolated. A
    straight line over ten minutes is wrong by 5e-5 m/s in the velocity of the Earth, by less than 1e-12 rad in the
    pole, and by 1e-9 au in the place of the Earth.
    """
    start = float(time.tt.jd1.flat[0])
    days = (time.tt.jd1 - start) + time.tt.jd2
    first, last = days.min(), days.max()
    grid = np.linspace(first, last, max(2, math.ceil((last - first) * _GRID_PER_DAY) + 1))
    pole = [np.interp(days, grid, values) for values in erfa.xys06a(start, grid)]
    earth = []
    for track in erfa.epv00(start, grid):
        here = np.empty(days.shape, track.dtype)
        for part in ("p", "v"):
            for axis in range(3):
                here[part][..., axis] = np.interp(days, grid, track[part][:, axis])
        earth.append(here)
    return (*pole, *earth)


class Geometry:
    """Geometry of one array. Times are MJD seconds UTC, angles radians, positions metres (ITRF)."""

    def __init__(self, positions_m: NDArray[np.float64], reference_m: NDArray[np.float64] | None = None) -> None:
        self.positions = np.asarray(positions_m, float)
        self.reference = self.positions.mean(axis=0) if reference_m is None else np.asarray(reference_m, float)
        self.longitude, self.latitude, self.height = erfa.gc2gd(1, self.reference)

    def local(self, positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """East, north and up (geodetic) of ITRF positions about the reference, metres, shape (antenna, 3)."""
        lon, lat = self.longitude, self.latitude
        east = np.array([-np.sin(lon), np.cos(lon), 0.0])
        north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
        up = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        return (positions_m - self.reference) @ np.stack([east, north, up], axis=-1)

    def from_local(self, east_north_up_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """ITRF positions of local offsets; the inverse of `local`."""
        turn = self.local(self.reference + np.eye(3))
        return self.reference + east_north_up_m @ turn.T

    def _time(self, times: ArrayLike) -> Time:
        seconds = np.asarray(times, float)
        days = np.floor(seconds / 86400)
        return Time(days, (seconds - days * 86400) / 86400, format="mjd", scale="utc")

    def _orientation(self, time: Time) -> tuple[NDArray, NDArray, NDArray]:
        table = iers.earth_orientation_table.get()
        xp, yp = table.pm_xy(time)
        return table.ut1_utc(time).to_value(u.s), xp.to_value(u.rad), yp.to_value(u.rad)

    def uvw(self, times: ArrayLike, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
        """Antenna uvw about the reference position, shape (time, antenna, 3).

        The UVW column is uvw[antenna 1] - uvw[antenna 2] with V = sum S exp(+2 pi i (ul + vm + w(n-1)) / lambda).
        ra, dec: scalars, or one per time (on-the-fly). The rotation is ITRS -> GCRS (IAU 2006/2000A); aberration is
        applied to the direction, as CASA's measures do, so that baselines are those in the frame of the array.
        """
        time = self._time(np.atleast_1d(times))
        _, xp, yp = self._orientation(time)
        x, y, s, heliocentric, barycentric = _slow_motion(time)
        polar = erfa.pom00(xp, yp, erfa.sp00(time.tt.jd1, time.tt.jd2))
        matrix = erfa.c2tcio(erfa.c2ixys(x, y, s), erfa.era00(time.ut1.jd1, time.ut1.jd2), polar)
        celestial = np.einsum("tij,ai->taj", matrix, self.positions - self.reference)
        ra, dec = np.broadcast_to(ra, time.shape), np.broadcast_to(dec, time.shape)
        axes = self._aberrated(barycentric, heliocentric, _sky_axes(ra, dec))
        return np.einsum("tij,taj->tai", axes, celestial)

    def _aberrated(self, barycentric: NDArray, heliocentric: NDArray, axes: NDArray) -> NDArray:
        """The axes (time, 3, 3) carried with the direction as annual aberration moves it, without turning about it."""
        beta = barycentric["v"] * _AU_PER_DAY / SPEED_OF_LIGHT
        distance = np.linalg.norm(heliocentric["p"], axis=-1)
        true = axes[:, 2]
        seen = erfa.ab(true, beta, distance, np.sqrt(1 - np.sum(beta * beta, axis=-1)))
        # Smallest rotation that takes `true` to `seen` (Rodrigues).
        cross, cosine = np.cross(true, seen), np.sum(true * seen, axis=-1)[:, None, None]
        turn = np.cross(cross[:, None, :], axes)
        return axes + turn + np.cross(cross[:, None, :], turn) / (1 + cosine)

    def _observed(self, times: ArrayLike, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        time = self._time(np.atleast_1d(times))
        _, xp, yp = self._orientation(time)
        tt, ut1 = time.tt, time.ut1
        x, y, s, heliocentric, barycentric = _slow_motion(time)
        # Pressure 0: no refraction, as AZEL of CASA's measures.
        astrometry = erfa.apco(
            tt.jd1,
            tt.jd2,
            barycentric,
            heliocentric["p"],
            x,
            y,
            s,
            erfa.era00(ut1.jd1, ut1.jd2),
            self.longitude,
            self.latitude,
            self.height,
            xp,
            yp,
            erfa.sp00(tt.jd1, tt.jd2),
            0.0,
            0.0,
        )
        there = erfa.atciqz(np.asarray(ra, float), np.asarray(dec, float), astrometry)
        az, zd, ha, dob, _ = erfa.atioq(*there, astrometry)
        return az, np.pi / 2 - zd, ha, dob

    def azel(self, times: ArrayLike, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Geodetic azimuth (north through east) and elevation without refraction, shape (time,)."""
        az, el, _, _ = self._observed(times, ra, dec)
        return az, el

    def parallactic_angle(self, times: ArrayLike, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
        """Parallactic angle at the reference position, shape (time,)."""
        _, _, ha, d = self._observed(times, ra, dec)
        lat = self.latitude
        return np.arctan2(np.cos(lat) * np.sin(ha), np.sin(lat) * np.cos(d) - np.cos(lat) * np.sin(d) * np.cos(ha))

    def velocity_to_lsrk(self, times: ArrayLike, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
        """Speed of the observatory towards a direction (or one per time), relative to LSRK, m/s, shape (time,)."""
        time = self._time(np.atleast_1d(times))
        direction = unit_vector(ra, dec)
        earth = _slow_motion(time)[-1]["v"] * _AU_PER_DAY
        site = EarthLocation.from_geocentric(*self.reference, unit=u.m)
        spin = site.get_gcrs_posvel(time)[1].xyz.to_value(u.m / u.s)
        solar = _LSRK_SPEED * unit_vector(_LSRK_RA, _LSRK_DEC)
        return np.sum((earth + spin.T + solar) * direction, axis=-1)

    def topocentric_over_lsrk(self, times: ArrayLike, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
        """nu(TOPO) / nu(LSRK) of a line from this direction (or one per time), shape (time,)."""
        beta = self.velocity_to_lsrk(times, ra, dec) / SPEED_OF_LIGHT
        return np.sqrt((1 + beta) / (1 - beta))
