"""Maps that are not like the others of their observation: cut short, overlong, or with holes from online flags.

Their noise is not uniform; ALMA leaves them out of images (reference pipeline, 2026: ``SDPL:uniform_image_rms``).
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.raster import most_frequent


@attrs.frozen
class OddMap:
    """A map to leave out and why."""

    map: int
    n_points: int
    reason: str


def odd_maps(row: NDArray[np.int32], map_: NDArray[np.int32], valid: NDArray[np.bool_]) -> list[OddMap]:
    """Maps of one antenna, window and field to leave out, from the row and map of each spectrum in order of time.

    With MN and MM the most frequent numbers of spectra in a map and in a row: a map with at most MN - MM spectra; a map
    with at least MN + MM and all later ones; a map with MM or more spectra in succession that online flags reject.
    """
    maps, points = np.unique(map_, return_counts=True)
    rows = np.unique(row, return_counts=True)[1]
    if not maps.size:
        return []
    per_map, per_row = most_frequent(points), most_frequent(rows)
    found: list[OddMap] = []
    overlong = False
    for number, count in zip(maps, points, strict=True):
        overlong = overlong or count >= per_map + per_row
        hole = longest_run(~valid[map_ == number])
        if overlong:
            reason = f"it has {count} spectra, or follows such a map; the others have {per_map}"
        elif count <= per_map - per_row:
            reason = f"it has {count} spectra, the others have {per_map}"
        elif hole >= per_row:
            reason = f"{hole} spectra in succession carry online flags, a row has {per_row}"
        else:
            continue
        found.append(OddMap(int(number), int(count), reason))
    return found


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Largest number of true values in succession."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(flags, dtype=np.int8), [0]))))
    return int(np.diff(edges)[::2].max(initial=0))
