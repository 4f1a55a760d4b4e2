"""Directions on the sky as arrays in degrees: wrap, separation, and offsets from a point."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

BEAM_FACTOR = 1.13
"""FWHM of the beam in units of wavelength over diameter, as the reference pipeline has it for grouping."""
_SPEED_OF_LIGHT = 299_792_458.0


def beam_arcsec(diameter_m: float, frequency_hz: float) -> float:
    """FWHM of the beam: 1.13 lambda / D, which is the reference pipeline's 1.13 x 6.188e4 / (D[m] x nu[GHz]) arcsec."""
    return math.degrees(BEAM_FACTOR * _SPEED_OF_LIGHT / frequency_hz / diameter_m) * 3600


def unwrapped(angle_deg: ArrayLike) -> NDArray[np.float64]:
    """Angles within 180 degrees of their circular mean, so that medians, extremes and differences make sense.

    Values may lie below 0 or above 360.  NaN stays NaN.
    """
    angle = np.asarray(angle_deg, dtype=float)
    finite = np.isfinite(angle)
    if not finite.any():
        return angle.copy()
    radians = np.radians(angle[finite])
    centre = math.degrees(math.atan2(float(np.sin(radians).sum()), float(np.cos(radians).sum()))) % 360.0
    return centre + (angle - centre + 180.0) % 360.0 - 180.0


def separation_deg(ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> NDArray[np.float64]:
    """Angle between directions, exact also for tiny ones (haversine)."""
    a1, d1, a2, d2 = (np.radians(np.asarray(x, dtype=float)) for x in (ra1, dec1, ra2, dec2))
    h = np.sin((d2 - d1) / 2) ** 2 + np.cos(d1) * np.cos(d2) * np.sin((a2 - a1) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))


def vectors(lon_deg: ArrayLike, lat_deg: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors, shape (..., 3)."""
    lon, lat = np.radians(np.asarray(lon_deg, dtype=float)), np.radians(np.asarray(lat_deg, dtype=float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def angles(vector: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude 0..360 and latitude in degrees of vectors of any length, shape (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(vector, dtype=float), -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def to_offsets(
    lon0: ArrayLike, lat0: ArrayLike, lon: ArrayLike, lat: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions in a frame turned so that (lon0, lat0) is at (0, 0) and north stays north; longitude -180..180."""
    v = vectors(lon, lat)
    a, d = np.radians(np.asarray(lon0, dtype=float)), np.radians(np.asarray(lat0, dtype=float))
    x = np.cos(a) * v[..., 0] + np.sin(a) * v[..., 1]
    y = -np.sin(a) * v[..., 0] + np.cos(a) * v[..., 1]
    turned = np.stack([np.cos(d) * x + np.sin(d) * v[..., 2], y, -np.sin(d) * x + np.cos(d) * v[..., 2]], axis=-1)
    east, north = angles(turned)
    return (east + 180.0) % 360.0 - 180.0, north


def from_offsets(
    lon0: ArrayLike, lat0: ArrayLike, east: ArrayLike, north: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The inverse of ``to_offsets``: longitude 0..360 and latitude."""
    v = vectors(east, north)
    a, d = np.radians(np.asarray(lon0, dtype=float)), np.radians(np.asarray(lat0, dtype=float))
    x = np.cos(d) * v[..., 0] - np.sin(d) * v[..., 2]
    z = np.sin(d) * v[..., 0] + np.cos(d) * v[..., 2]
    turned = np.stack([np.cos(a) * x - np.sin(a) * v[..., 1], np.sin(a) * x + np.cos(a) * v[..., 1], z], axis=-1)
    return angles(turned)
