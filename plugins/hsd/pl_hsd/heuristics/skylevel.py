"""How far apart in elevation ON and OFF were: the difference of the air that the sky calibration does not see."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

LIMIT_DEG = 3.0
"""Difference from which the sky calibration is doubtful (reference pipeline, 2026)."""


@attrs.frozen(eq=False)
class ElevationDifferences:
    """ON minus OFF for every ON row: against the OFF before and the OFF after it (NaN where there is none), degrees."""

    before_deg: NDArray[np.float64]
    after_deg: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """Largest absolute difference; NaN when no ON row has an OFF."""
        values = np.abs(np.concatenate([self.before_deg, self.after_deg]))
        values = values[np.isfinite(values)]
        return float(values.max()) if values.size else float("nan")


def off_blocks(time_s: ArrayLike, elevation_deg: ArrayLike, gap: float = 1.5) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean time and elevation of each visit to the OFF position.

    A visit ends where the next integration comes later than ``gap`` × the median step; times ascend.
    """
    time, elevation = np.asarray(time_s, dtype=float), np.asarray(elevation_deg, dtype=float)
    if not time.size:
        return np.zeros(0), np.zeros(0)
    steps = np.diff(time)
    usual = np.median(steps[steps > 0]) if (steps > 0).any() else np.inf
    block = np.concatenate([[0], np.cumsum(steps > gap * usual)])
    count = np.bincount(block)
    return np.bincount(block, time) / count, np.bincount(block, elevation) / count


def elevation_differences(
    on_time_s: ArrayLike, on_deg: ArrayLike, off_time_s: ArrayLike, off_deg: ArrayLike
) -> ElevationDifferences:
    """Compare each ON with the visit to the OFF before it and the one after it; times ascend, angles in degrees."""
    time, elevation = np.asarray(on_time_s, dtype=float), np.asarray(on_deg, dtype=float)
    blocks, level = off_blocks(off_time_s, off_deg)
    if not blocks.size:
        nothing = np.full(time.shape, np.nan)
        return ElevationDifferences(nothing, nothing.copy())
    after = np.searchsorted(blocks, time)
    before = after - 1
    return ElevationDifferences(
        np.where(before >= 0, elevation - level[np.maximum(before, 0)], np.nan),
        np.where(after < blocks.size, elevation - level[np.minimum(after, blocks.size - 1)], np.nan),
    )
