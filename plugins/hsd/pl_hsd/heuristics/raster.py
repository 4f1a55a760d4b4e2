"""Raster rows and maps from directions alone.

Rules and numbers of the reference pipeline (2026), ``rasterscan``.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from pl_hsd.heuristics.grouping import Grouping


class RasterFailure(Exception):
    """The directions are no raster that can be understood; the text says why."""


def group_by_direction(x_deg: ArrayLike, y_deg: ArrayLike) -> Grouping:
    """Rows and maps of spectra in order of time, from their offsets."""
    raise RasterFailure("not analysed")
