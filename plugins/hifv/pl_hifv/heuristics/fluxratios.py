"""Flux densities of a calibrator in units of its model, from the ratios of gains of antennas and receptors.

What an antenna does between two calibrators (gain drift, pointing) is the same in all windows: it moves the flux
density, not the spectrum, if every window is averaged over the same antennas with the same weights. CASA's fluxscale
takes the median of the antennas, window by window; another antenna is the median in each, so that drifts of 0.6 % and
leakage of 5 % on a polarized standard put the spectral index off by 0.07 with eight antennas over 1.2 GHz at X band.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

CLIP = 4.0
"""Ratios further off than this many robust sigma are left out: a mean must not follow one bad antenna."""
_ROUNDS = 50


@attrs.frozen(kw_only=True, eq=False)
class Ratios:
    """Flux density over that of the model, by window (NaN without solutions), and its relative errors.

    ``error`` is what differs from window to window, ``shared`` what moves all of them together; ``used`` counts the
    ratios that took part.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    shared: float
    used: NDArray[np.int_]


def flux_ratios(ratio: ArrayLike) -> Ratios:
    """Combine ratios of squared gains, (antenna and receptor, window), NaN where there is none.

    ln ratio = L(window) + c(antenna, receptor) + noise, by least squares, after outliers of both kinds are clipped.
    Where nothing is missing L is the mean over the antennas; where something is, the antenna's other windows stand in.
    """
    given = np.asarray(ratio, float)
    y = np.log(np.where(given > 0, given, np.nan))
    level, own = _fitted(y, np.nanmedian)
    y = np.where(_outlying(y - level - own[:, None]), np.nan, y)
    y[_outlying(own)] = np.nan
    level, own = _fitted(y, np.nanmean)
    noise = y - level - own[:, None]
    used = np.isfinite(y).sum(axis=0)
    rows, windows = int(np.isfinite(own).sum()), int(np.isfinite(level).sum())
    scatter = float(np.nanstd(own, ddof=1)) if rows > 1 else math.nan
    if windows < 2:
        # One window alone cannot tell the antenna from the noise.
        return Ratios(
            value=np.exp(level), error=np.where(used > 0, scatter / math.sqrt(max(rows, 1)), np.nan), shared=0.0,
            used=used,
        )  # fmt: skip
    freedom = int(used.sum()) - rows - windows + 1
    squares = np.nansum(noise**2, axis=0)
    variance = squares / np.maximum(used, 1) * (used.sum() / freedom if freedom > 0 else math.nan)
    common = scatter**2 - float(np.nanmean(variance)) / windows if rows > 1 else math.nan
    return Ratios(
        value=np.exp(level), error=np.where(used > 0, np.sqrt(variance / np.maximum(used, 1)), np.nan),
        shared=math.sqrt(max(common, 0.0) / rows) if math.isfinite(common) else 0.0, used=used,
    )  # fmt: skip


def _fitted(
    y: NDArray[np.float64], average: Callable[..., Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels of the windows and offsets of the rows, whose average is 0, in turns until they agree."""
    rows, windows = np.isfinite(y).any(axis=1), np.isfinite(y).any(axis=0)
    level, own = np.full(y.shape[1], np.nan), np.full(y.shape[0], np.nan)
    own[rows] = 0.0
    for _ in range(_ROUNDS if rows.any() else 0):
        level[windows] = average((y - own[:, None])[:, windows], axis=0)
        own[rows] = average((y - level)[rows], axis=1)
        own[rows] -= average(own[rows])
    return level, own


def _outlying(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    good = x[np.isfinite(x)]
    sigma = 1.4826 * float(np.median(np.abs(good - np.median(good)))) if good.size else 0.0
    return np.abs(x - np.median(good)) > CLIP * sigma if sigma > 0 else np.zeros(x.shape, bool)
