"""What Briggs' weighting costs in sensitivity, from the distribution of the baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pl_hif.heuristics.imaging import ARCSEC, C_M_S

_MOST = 400_000
"""Points to grid: more of them do not change the second digit."""


def briggs_noise_factor(
    uv_m: NDArray[np.floating], weights: NDArray[np.floating], frequencies_hz: Sequence[float], robust: float,
    field_arcsec: float,
) -> float:  # fmt: skip
    """Noise of an image with Briggs' weighting as a multiple of that with natural weighting, at least 1.

    Parameters
    ----------
    uv_m : (2, n) u and v in metres of the visibilities; weights : (n,) their natural weights.
    frequencies_hz : the channels that are gridded together, or a sample of them.
    field_arcsec : width of the image; the weighting's grid has cells of its inverse.

    With W the sum of natural weights in a cell and f² = (5·10⁻ᴿ)² / (ΣW²/Σw), a visibility of weight w gets
    w' = w/(1 + W f²) (Briggs 1995, thesis, chapter 3, as CASA has it); the factor is √(Σw'²/w)·√(Σw)/Σw'.
    """
    uv = np.asarray(uv_m, float)
    weights = np.asarray(weights, float)
    good = weights > 0
    uv, weights = uv[:, good], weights[good]
    if not weights.size or not field_arcsec > 0:
        return 1.0
    frequency = np.asarray(frequencies_hz, float)
    if weights.size * frequency.size > _MOST:  # fewer channels; the baselines matter more
        step = -(-weights.size * frequency.size // _MOST)
        frequency = frequency[:: min(step, max(1, frequency.size // 4))]
    cell = ARCSEC / field_arcsec
    scale = frequency[:, None] / C_M_S / cell
    ix = np.rint(uv[0][None, :] * scale).astype(np.int64).ravel()
    iy = np.rint(uv[1][None, :] * scale).astype(np.int64).ravel()
    # A visibility and its conjugate are one: bring all to one half plane.
    swap = (iy < 0) | ((iy == 0) & (ix < 0))
    ix[swap], iy[swap] = -ix[swap], -iy[swap]
    w = np.broadcast_to(weights, (frequency.size, weights.size)).ravel()
    _, where = np.unique(ix * (2 * int(iy.max()) + 3) + iy, return_inverse=True)
    density = np.bincount(where, w)
    f2 = (5 * 10.0**-robust) ** 2 / (np.sum(density**2) / np.sum(w))
    given = w / (1 + density[where] * f2)
    return max(1.0, math.sqrt(float(np.sum(given**2 / w)) * float(np.sum(w))) / float(np.sum(given)))
