"""Beams of a cube's planes: which of them are no measure for the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGER = 1.1
"""The common beam of all planes may be this much larger than that of the good ones (reference pipeline, 2026)."""
_SIGMAS = 3.0
_ROUNDS = 2


def good_beams(major: NDArray[np.floating], minor: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Planes whose axis ratio is within 3 standard deviations of the mean, in two rounds (reference pipeline, 2026).

    Parameters
    ----------
    major, minor : (nchan,) axes of the beams in one unit; 0 or NaN for a plane without a beam, which is not good.
    """
    major, minor = np.asarray(major, float), np.asarray(minor, float)
    good = np.isfinite(major) & np.isfinite(minor) & (major > 0) & (minor > 0)
    ratio = np.where(good, major / np.where(good, minor, 1.0), np.nan)
    for _ in range(_ROUNDS):
        if good.sum() < 3:
            break
        mean, sigma = float(ratio[good].mean()), float(ratio[good].std())
        good = good & (np.abs(np.nan_to_num(ratio, nan=np.inf) - mean) <= _SIGMAS * sigma + 1e-9)
    return good
