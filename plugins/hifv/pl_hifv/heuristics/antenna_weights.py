"""Weights by antenna from weights of baselines, and what to say of them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

HIGH_WEIGHT = 150.0
"""Antenna weights above are no noise of a VLA receiver (reference pipeline, 2026).

A channel of 2 MHz and 3 s has 0.12 Jy at 350 Jy of SEFD: a weight of 70 per baseline, 8 per antenna, 14 when smoothed.
"""


@attrs.frozen(kw_only=True)
class Box:
    """Distribution of antenna weights of one antenna, window or scan: quartiles, extremes, mean and deviation.

    ``above`` is the part above `HIGH_WEIGHT`.
    """

    name: str
    count: int
    low: float
    q1: float
    median: float
    q3: float
    high: float
    mean: float
    deviation: float
    above: float = 0.0


def box(name: str, values: np.ndarray) -> Box:
    """Statistics of finite positive values; all NaN when there is none."""
    good = values[np.isfinite(values) & (values > 0)]
    if not good.size:
        return Box(name=name, count=0, **dict.fromkeys(
            ("low", "q1", "median", "q3", "high", "mean", "deviation"), float("nan")))
    low, q1, median, q3, high = np.percentile(good, [0, 25, 50, 75, 100]).tolist()
    return Box(
        name=name, count=int(good.size), low=low, q1=q1, median=median, q3=q3, high=high, mean=float(good.mean()),
        deviation=float(good.std()), above=float((good > HIGH_WEIGHT).mean()),
    )  # fmt: skip


def antenna_weights(weights: np.ndarray, iterations: int = 60) -> np.ndarray:
    """Antenna weights g with w_ij ≈ g_i·g_j, least squares of the logarithms.

    weights : (…, antennas, antennas), symmetric; NaN or not positive where there is no baseline.
    Returns (…, antennas), NaN for antennas without a baseline. Baselines without a triangle leave a factor free,
    which is shared evenly.

    The normal equations, Σ_j (log w_ij − a_i − a_j) = 0, are solved by damped iteration, which converges for any set
    of baselines. The reference pipeline gets the same from a gain solve on a copy of the data.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        log = np.where(weights > 0, np.log(weights), np.nan)
    known = np.isfinite(log)
    log = np.where(known, log, 0.0)
    count = known.sum(axis=-1)
    found = log.sum(axis=-1) / np.maximum(2 * count, 1)
    for _ in range(iterations):
        others = np.einsum("...ij,...j->...i", known.astype(float), found)
        step = (log.sum(axis=-1) - others) / np.maximum(count, 1)
        found = 0.5 * found + 0.5 * step
    return np.where(count > 0, np.exp(found), np.nan)


def outlying(boxes: Iterable[Box], factor: float = 3.0) -> tuple[str, ...]:
    """Names whose median is ``factor`` times above or below the median of all."""
    usable = [b for b in boxes if b.count]
    if len(usable) < 3:
        return ()
    middle = float(np.median([b.median for b in usable]))
    return tuple(b.name for b in usable if b.median > factor * middle or b.median < middle / factor)


def shaded(values: Iterable[float], cut: float = 3.0) -> list[bool]:
    """Which values differ from their median by more than ``cut`` robust deviations (1.4826 × MAD)."""
    array = np.array(list(values), float)
    off = np.abs(array - np.nanmedian(array)) if array.size else array
    mad = np.nanmedian(off) if array.size else 0.0
    with np.errstate(invalid="ignore"):
        return (off > cut * 1.4826 * mad).tolist() if mad > 0 else [False] * array.size
