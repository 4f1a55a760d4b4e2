"""How the telescope mapped the sky: from the number of positions."""

from __future__ import annotations

import math

RASTER, SINGLE, MULTI = "RASTER", "SINGLE-POINT", "MULTI-POINT"


def observing_pattern(n_positions: int, n_spectra: int) -> str:
    """RASTER for more than 3 positions, or more than the root of the number of spectra; SINGLE-POINT; MULTI-POINT.

    The reference pipeline (2026) takes ALMA data for rasters without looking; here everybody is looked at.
    """
    if n_positions > 3 or (n_positions > 1 and n_positions > math.sqrt(n_spectra)):
        return RASTER
    return SINGLE if n_positions <= 1 else MULTI
