"""What Briggs' weighting costs in sensitivity, from the distribution of the baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pl_hif.heuristics.imaging import ARCSEC, C_M_S
from pl_hif.heuristics.taper import Taper

_MOST = 400_000
"""Points to grid: more of them do not change the second digit."""


def briggs_noise_factor(
    uv_m: NDArray[np.floating], weights: NDArray[np.floating], frequencies_hz: Sequence[float], robust: float,
    field_arcsec: float, taper: Taper | None = None,
) -> float:  # fmt: skip
    """Noise of an image with Briggs' weighting as a multiple of that with natural weighting, at least 1.

    Parameters
    ----------
    uv_m : (2, n) u and v in metres of the visibilities; weights : (n,) their natural weights.
    frequencies_hz : the channels that are gridded together, or a sample of them.
    field_arcsec : width of the image; the weighting's grid has cells of its inverse.
    taper : applied after the weighting, as CASA does.

    With W the sum of natural weights in a cell and f² = (5·10⁻ᴿ)² / (ΣW²/Σw), a visibility of weight w gets
    w' = w/(1 + W f²), times the taper (Briggs 1995, thesis, chapter 3, as CASA has it); the factor is
    √(Σw'²/w)·√(Σw)/Σw'.
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
    if taper is not None:
        given = given * np.concatenate([taper.weights(uv * f / C_M_S) for f in frequency])
    return max(1.0, math.sqrt(float(np.sum(given**2 / w)) * float(np.sum(w))) / float(np.sum(given)))


_LAG = 4
"""Channels this far apart are independent: Hanning smoothing correlates a channel with the next two."""


def channel_noise(
    data: NDArray[np.complexfloating], bad: NDArray[np.bool_]
) -> tuple[float, float]:
    """Scatter of one visibility, and by how much correlated channels raise the noise of their mean.

    Parameters
    ----------
    data, bad : (correlation, channel, row) visibilities and their flags.

    Differences of channels hold no source. With D_k the variance of differences at lag k, σ² = D_4/2 and the
    correlation ρ_k = 1 − D_k/D_4; the variance of the mean of N channels is σ²/N·(1 + 2ρ₁ + 2ρ₂): 2.667 σ²/N after
    Hanning smoothing (ρ = 2/3, 1/6). Robust variances; (0, 1) without data.
    """
    last = _LAG if data.shape[1] > 2 * _LAG else 1
    spread = [_spread(data, bad, lag) for lag in (*range(1, min(last, 3)), last)]
    if not spread[-1] > 0:
        return 0.0, 1.0
    together = sum(max(0.0, 1 - s / spread[-1]) for s in spread[:-1])
    # Differences of a few thousand values scatter by some per cent: less than a tenth is no correlation.
    return math.sqrt(spread[-1] / 2), math.sqrt(1 + 2 * together) if together > 0.1 else 1.0


def _spread(data: NDArray[np.complexfloating], bad: NDArray[np.bool_], lag: int) -> float:
    """Robust variance of the real parts' differences at a lag of channels."""
    if data.shape[1] <= lag:
        return 0.0
    both = ~(bad[:, lag:] | bad[:, :-lag])
    difference = (data.real[:, lag:] - data.real[:, :-lag])[both]
    return (1.4826 * float(np.median(np.abs(difference)))) ** 2 if difference.size else 0.0
