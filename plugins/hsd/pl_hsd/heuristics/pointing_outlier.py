"""Directions far from the map: an antenna that looked elsewhere.

Rule and number of the reference pipeline (2026), ``pointing_outlier``.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.geometry import separation_deg

FACTOR = math.sqrt(13 * math.pi / 8)
"""Largest distance from the centre in units of the median distance, 2.26, for a map that was interrupted after at least
two rows.  (2.0 if maps are never interrupted; 4 sqrt(5)/3 = 2.98 if maps of two rows are possible.)"""


@attrs.frozen(eq=False)
class Outliers:
    """Which directions are outliers, their distances from the centre, and the limit, all in degrees."""

    outlier: NDArray[np.bool_]
    distance_deg: NDArray[np.float64]
    limit_deg: float
    centre_deg: tuple[float, float]


def pointing_outliers(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Outliers:
    """Directions further than 2.26 median distances from the median direction; ``ra_deg`` must not wrap.

    A median distance of zero (a single position) would make every jitter an outlier: there is none then.
    """
    ra, dec = np.asarray(ra_deg, dtype=float), np.asarray(dec_deg, dtype=float)
    if not ra.size:
        return Outliers(np.zeros(0, dtype=bool), np.zeros(0), math.inf, (math.nan, math.nan))
    centre = float(np.median(ra)), float(np.median(dec))
    distance = separation_deg(*centre, ra, dec)
    limit = FACTOR * float(np.median(distance))
    outlier = distance > limit if limit > 0 else np.zeros(ra.size, dtype=bool)
    return Outliers(outlier, distance, limit if limit > 0 else math.inf, centre)
