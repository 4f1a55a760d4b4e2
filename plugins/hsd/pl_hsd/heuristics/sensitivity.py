"""Noise that an image should have, and the noise that it has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.geometry import unwrapped
from pl_hsd.heuristics import cubes

FloatArray = NDArray[np.float64]
SHORTEST_INTEGRATION_S = 9.9e-4


@attrs.frozen(kw_only=True)
class RasterExtent:
    """How the maps of one scan direction lie on the sky. Lengths in arcsec.

    width: length of a row, height: between the outermost rows, separation: of neighbouring rows;
    angle_deg: of the sweep, from east towards north, in [0, 180); row_s: duration of a row of full length; n_rows: such
    rows; share: of all spectra that these maps have; ra_deg, dec_deg: the middle of the rows.
    """

    width: float
    height: float
    separation: float
    angle_deg: float
    row_s: float
    n_rows: int
    share: float = 1.0
    ra_deg: float = math.nan
    dec_deg: float = math.nan


def raster_extents(
    ra_deg: ArrayLike, dec_deg: ArrayLike, interval_s: ArrayLike, row: ArrayLike, map_: ArrayLike
) -> tuple[RasterExtent, ...]:
    """Measure a raster from the spectra [n] of one antenna, window and field: one answer per scan direction.

    row, map_: numbers of raster rows and maps (-1: in none). Maps whose rows run within 45 degrees of those of the
    first map are of its direction, others (of a basket weave) of a second. Rows count that have at least the most
    frequent number of spectra of all rows of their direction; their width is the mean length, their separation the
    median distance of successive rows. The height is that of all maps of the direction together, as is the time that is
    spread over it: where a pause for an OFF is taken for the end of a map (the reference measures map by map), a map
    has few rows. Empty: there are no two such rows beside each other.
    """
    row_id, map_id = np.asarray(row, int), np.asarray(map_, int)
    ra, dec = unwrapped(ra_deg), np.asarray(dec_deg, float)
    member = (row_id >= 0) & (map_id >= 0) & np.isfinite(ra) & np.isfinite(dec)
    if not member.any():
        return ()
    x = (ra - ra[member].mean()) * math.cos(math.radians(float(dec[member].mean()))) * 3600
    y = (dec - dec[member].mean()) * 3600
    numbers, rows = np.unique(row_id[member]), []
    for number in numbers:
        spectra = np.flatnonzero(member & (row_id == number))
        if spectra.size > 1:
            rows.append(spectra)
    if not rows:
        return ()
    ends = np.array([(x[r[-1]] - x[r[0]], y[r[-1]] - y[r[0]]) for r in rows])
    of_map = np.array([map_id[r[0]] for r in rows])
    angles = {int(m): _mean_angle(ends[of_map == m]) for m in np.unique(of_map)}
    first = angles[int(of_map[0])]
    turned = np.array([abs((angles[int(m)] - first + 90.0) % 180.0 - 90.0) > 45.0 for m in of_map])
    found = []
    total = sum(r.size for r in rows)
    for direction in (False, True):
        chosen = [k for k in range(len(rows)) if turned[k] == direction]
        if not chosen:
            continue
        measured = _extent([rows[k] for k in chosen], ends[chosen], x, y, np.asarray(interval_s, float))
        if measured is not None:
            spectra = np.concatenate([rows[k] for k in chosen])
            middle = [float(v[spectra].min() + v[spectra].max()) / 2 for v in (ra, dec)]
            share = sum(rows[k].size for k in chosen) / total
            found.append(attrs.evolve(measured, share=share, ra_deg=middle[0] % 360.0, dec_deg=middle[1]))
    return tuple(found)


def _mean_angle(ends: FloatArray) -> float:
    """Direction of sweeps in degrees; doubled angles make those back and those forth agree."""
    doubled = np.sum([(2 * a * b, a * a - b * b) for a, b in ends], axis=0)
    return math.degrees(0.5 * math.atan2(*doubled)) % 180.0


def _extent(
    rows: list[NDArray[np.int64]], ends: FloatArray, x: FloatArray, y: FloatArray, interval_s: FloatArray
) -> RasterExtent | None:
    counts = np.array([r.size for r in rows])
    sizes, votes = np.unique(counts, return_counts=True)
    typical = int(sizes[votes == votes.max()].max())  # of equally frequent lengths the larger
    full = np.flatnonzero(counts >= typical)
    centres = np.array([(x[rows[k]].mean(), y[rows[k]].mean()) for k in full])
    angle = math.radians(_mean_angle(ends[full]))
    across = centres @ np.array([-math.sin(angle), math.cos(angle)])
    height = float(np.ptp(across))
    if height <= 0:
        return None
    return RasterExtent(
        width=float(np.hypot(*ends[full].T).mean()), height=height,
        separation=float(np.median(np.abs(np.diff(across)))),
        angle_deg=math.degrees(angle), row_s=float(np.mean([interval_s[rows[k]].sum() for k in full])),
        n_rows=len(full),
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class PolarizationData:
    """What the noise of one polarization of one antenna, window and measurement set follows from.

    on_s: integration time of valid spectra; off_s: of one OFF; tsys_k: mean; factor: Jy/K, or 1 for images in K;
    bandwidth_hz: effective bandwidth of a channel; extent: of the raster, map by map.
    """

    on_s: float
    off_s: float
    tsys_k: float
    factor: float
    bandwidth_hz: float
    extent: RasterExtent


def theoretical_rms(
    parts: Iterable[PolarizationData], cell_arcsec: float, kernel_1d: float, kernel_2d: float
) -> float | None:
    """Noise of an image of square cells made from these data by the spheroidal function; None without usable data.

    Radiometer noise of the ON goes down with the time per area that the gridding function collects (kernel_2d); that of
    the OFF, which all spectra of a row share, only across rows (kernel_1d); the parts are averaged with weights
    t_on² t_off / t_row (reference pipeline, 2026).
    """
    square = total = 0.0
    for part in parts:
        extent = part.extent
        if min(part.on_s, part.off_s, part.tsys_k, part.factor, part.bandwidth_hz, extent.width, extent.row_s) <= 0:
            continue
        angle = math.radians(extent.angle_deg) + math.pi / 2
        across = math.hypot(cell_arcsec * math.sin(angle), cell_arcsec * math.cos(angle))
        on = part.bandwidth_hz * cell_arcsec**2 * part.on_s / (extent.width * extent.height)
        off = part.bandwidth_hz * across * part.off_s * part.on_s / (extent.row_s * extent.height)
        weight = part.on_s**2 * part.off_s / extent.row_s
        square += (part.factor * part.tsys_k * weight) ** 2 * (kernel_2d**2 / on + kernel_1d**2 / off)
        total += weight
    return math.sqrt(square) / total if total > 0 else None


def inner_region(
    shape: tuple[int, int], extents: Sequence[RasterExtent], cell_arcsec: float, beam_arcsec: float,
    centre: tuple[float, float],
) -> NDArray[np.bool_]:
    """Pixels [y, x] inside a box of the rasters' median size less a beam, turned by the angle of the first, around
    `centre` (column, row).

    Rasters that sweep across the first lend their height to its width. Empty when the raster is smaller than a beam.
    """  # fmt: skip
    if not extents:
        return np.zeros(shape, bool)
    first = extents[0].angle_deg
    across_first = [abs((e.angle_deg - first + 90.0) % 180.0 - 90.0) > 45.0 for e in extents]
    sides = [(e.height, e.width) if turned else (e.width, e.height)
             for e, turned in zip(extents, across_first, strict=True)]  # fmt: skip
    width, height = (float(v) - beam_arcsec for v in np.median(sides, axis=0))
    angle = math.radians(first)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    east, north = -(x - centre[0]) * cell_arcsec, (y - centre[1]) * cell_arcsec
    along = east * math.cos(angle) + north * math.sin(angle)
    across = -east * math.sin(angle) + north * math.cos(angle)
    return np.asarray((np.abs(along) <= width / 2) & (np.abs(across) <= height / 2))


def observed_rms(cube: Any, region: NDArray[np.bool_], channels: NDArray[np.bool_]) -> float | None:
    """Standard deviation of the values of a cube [channel, y, x] in a region [y, x] and in `channels`; None without."""
    number, total, squares = 0, 0.0, 0.0
    for part, block in cubes.blocks(cube, channels):
        data = block[channels[part]][:, region].astype(float)
        data = data[np.isfinite(data)]
        number += data.size
        total += float(data.sum())
        squares += float((data**2).sum())
    if number < 2:
        return None
    return math.sqrt(max(0.0, squares / number - (total / number) ** 2))


@attrs.frozen(eq=False, kw_only=True)
class NoiseMap:
    """Per map position [y, x]: rms of the baselined spectra (NaN: none), their number, and positions in arcsec."""

    rms: FloatArray
    number: NDArray[np.int64]


def noise_map(
    x_pixel: ArrayLike, y_pixel: ArrayLike, rms: ArrayLike, shape: tuple[int, int], cell_arcsec: float,
    beam_arcsec: float,
) -> NoiseMap:
    """Baseline rms and number of spectra around every position of a grid.

    x_pixel, y_pixel: positions of spectra [n] on the grid; rms: theirs [n] (NaN: not valid). Within one beam spectra
    count with a weight of exp(−ln 2 r² / w²), w half the beam (reference pipeline, 2026); the rms is the weighted
    root mean square.
    """  # fmt: skip
    from scipy.spatial import cKDTree

    x, y, value = (np.asarray(v, float) for v in (x_pixel, y_pixel, rms))
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(value)
    number = np.zeros(shape, np.int64)
    found = np.full(shape, np.nan)
    if not good.any():
        return NoiseMap(rms=found, number=number)
    places, squares = np.stack([x[good], y[good]], axis=1), value[good] ** 2
    columns, lines = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    grid = np.stack([columns.ravel(), lines.ravel()], axis=1).astype(float)
    reach = beam_arcsec / cell_arcsec
    tree = cKDTree(places)
    for first in range(0, len(grid), 4096):  # neighbours of a block of positions at a time
        some = grid[first : first + 4096]
        lists = tree.query_ball_point(some, reach)
        counts = np.array([len(found_here) for found_here in lists])
        which = np.repeat(np.arange(len(some)), counts)
        spectra = np.concatenate([np.asarray(found_here, int) for found_here in lists]) if counts.any() else []
        if not len(spectra):
            continue
        distance2 = ((places[spectra] - some[which]) ** 2).sum(axis=1)
        weight = np.exp(-math.log(2) * distance2 / (reach / 2) ** 2)
        sums = np.bincount(which, weight * squares[spectra], len(some))
        norm = np.bincount(which, weight, len(some))
        here = slice(first, first + len(some))
        number.ravel()[here] = counts
        with np.errstate(invalid="ignore", divide="ignore"):
            found.ravel()[here] = np.sqrt(np.where(norm > 0, sums / norm, np.nan))
    return NoiseMap(rms=found, number=number)


def covered_pixels(x_pixel: ArrayLike, y_pixel: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels [y, x] in which a spectrum was taken."""
    x, y = np.asarray(x_pixel, float), np.asarray(y_pixel, float)
    good = np.isfinite(x) & np.isfinite(y)
    column, line = np.rint(x[good]).astype(int), np.rint(y[good]).astype(int)
    here = (column >= 0) & (column < shape[1]) & (line >= 0) & (line < shape[0])
    hit = np.zeros(shape, bool)
    hit[line[here], column[here]] = True
    return hit
