"""A coarse grid on the sky, a cell as large as the beam, with up to three averaged spectra in each cell.

Three independent averages per cell let the line finder vote.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

PLANES = 3


@attrs.frozen
class SkyGrid:
    """Cells of a map; x runs east, y north, in degrees from a reference direction, RA times cos(Dec)."""

    ra_deg: float
    dec_deg: float
    x_deg: float
    y_deg: float
    cell_deg: float
    n_x: int
    n_y: int

    @classmethod
    def around(cls, ra_deg: ArrayLike, dec_deg: ArrayLike, cell_deg: float) -> SkyGrid:
        """The grid that covers directions; the first cell has the most western and southern direction in its middle.

        Raises ValueError for no finite directions or no cell size.
        """
        ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
        known = np.isfinite(ra) & np.isfinite(dec)
        if not known.any() or not cell_deg > 0:
            raise ValueError("a grid on the sky needs directions and a cell size")
        ra, dec = ra[known], dec[known]
        # Directions on either side of RA 0 are neighbours: everything is relative to one of them.
        middle = float(ra[0] + np.median(_wrapped(ra - ra[0])))
        centre = float(np.median(dec))
        bare = cls(middle, centre, 0.0, 0.0, cell_deg, 1, 1)
        x, y = bare.offsets(ra, dec)
        size = [int((v.max() - v.min()) / cell_deg + 0.5) + 1 for v in (x, y)]
        return attrs.evolve(bare, x_deg=float(x.min()), y_deg=float(y.min()), n_x=size[0], n_y=size[1])

    @property
    def n_cells(self) -> int:
        return self.n_x * self.n_y

    def offsets(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Offsets of directions from the reference direction, degrees."""
        x = _wrapped(np.asarray(ra_deg, dtype=np.float64) - self.ra_deg) * np.cos(np.radians(self.dec_deg))
        return x, np.asarray(dec_deg, dtype=np.float64) - self.dec_deg

    def places(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Directions in units of cells; the middle of the first cell is (0, 0)."""
        x, y = self.offsets(ra_deg, dec_deg)
        return (x - self.x_deg) / self.cell_deg, (y - self.y_deg) / self.cell_deg

    def cells(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> IntArray:
        """Number of the cell of each direction, row by row (n_x per row); -1 for unknown or outside."""
        x, y = self.places(ra_deg, dec_deg)
        known = np.isfinite(x) & np.isfinite(y)
        i, j = (np.floor(np.where(known, v, -9) + 0.5).astype(np.int64) for v in (x, y))
        inside = known & (i >= 0) & (i < self.n_x) & (j >= 0) & (j < self.n_y)
        return np.where(inside, j * self.n_x + i, -1)


def _wrapped(degrees: FloatArray) -> FloatArray:
    return (degrees + 180.0) % 360.0 - 180.0


@attrs.define(eq=False)
class GridSpectra:
    """Weighted averages of spectra per cell and plane; index = cell * 3 + plane."""

    total: Float32Array
    weight: Float32Array
    count: IntArray
    """Spectra per cell so far: they are dealt to the planes in turn."""

    @classmethod
    def empty(cls, n_cells: int, n_chan: int) -> GridSpectra:
        shape = (n_cells * PLANES, n_chan)
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(n_cells, np.int64))

    def add(self, data: Float32Array, flags: BoolArray, cells: ArrayLike, weights: ArrayLike) -> None:
        """Add spectra [spectrum, channel] to their cells (-1: nowhere); those that are wholly flagged do not count."""
        from scipy.sparse import csr_array

        cell = np.asarray(cells, dtype=np.int64)
        chosen = np.flatnonzero((cell >= 0) & ~flags.all(axis=1))
        if not chosen.size:
            return
        cell = cell[chosen]
        weight = np.asarray(weights, dtype=np.float32)[chosen]
        plane = (self.count[cell] + _ranks(cell)) % PLANES
        np.add.at(self.count, cell, 1)
        target, slot = np.unique(cell * PLANES + plane, return_inverse=True)
        good = (~flags[chosen]).astype(np.float32)
        deal = csr_array((weight, (slot.ravel(), np.arange(chosen.size))), shape=(target.size, chosen.size))
        self.total[target] += deal @ (np.where(flags[chosen], np.float32(0), data[chosen]))
        self.weight[target] += deal @ good

    @property
    def data(self) -> Float32Array:
        """Averages [cell * 3 + plane, channel]; 0 where there is nothing."""
        return np.divide(self.total, self.weight, out=np.zeros_like(self.total), where=self.weight > 0)

    @property
    def good(self) -> BoolArray:
        return self.weight > 0

    @property
    def planes_filled(self) -> IntArray:
        """Number of averages in each cell, 0 to 3."""
        return self.good.any(axis=1).reshape(-1, PLANES).sum(axis=1)


def _ranks(keys: IntArray) -> IntArray:
    """How many equal keys came before each."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    rank = np.empty_like(keys)
    rank[order] = np.arange(keys.size) - np.repeat(starts, np.diff(np.append(starts, keys.size)))
    return rank


def grid_weights(exposure_s: ArrayLike, tsys_k: ArrayLike) -> FloatArray:
    """Exposure over Tsys squared where both are known (Tsys above 0.5 K), otherwise 1 (reference pipeline, 2026)."""
    exposure, tsys = np.asarray(exposure_s, dtype=np.float64), np.asarray(tsys_k, dtype=np.float64)
    known = (tsys > 0.5) & (exposure > 0)
    return np.where(known, exposure / np.where(known, tsys, 1.0) ** 2, 1.0)
