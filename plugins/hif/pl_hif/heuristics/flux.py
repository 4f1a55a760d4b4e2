"""Flux densities of secondary calibrators: which order of spectral fit the band can hold, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fit_order(bands: Sequence[str], low_hz: float, high_hz: float) -> tuple[int, str]:
    """Order of the fit of log S against log ν (reference pipeline, 2026), and why.

    ``bands`` are the receiver bands observed, ``low_hz`` and ``high_hz`` the limits of the observed windows.
    """
    width = high_hz - low_hz
    fraction = 2 * width / (high_hz + low_hz)
    if width < 257e6:
        return 0, f"a width of {width / 1e6:.1f} MHz cannot show a spectral index"
    if len(bands) == 1 and bands[0] in ("K", "A", "Ka", "Q"):
        return 1, "the spectrum is straight over one high band"
    if len(bands) == 1:
        limits = ((1.6, 4), (0.8, 3), (0.3, 2))
    elif set(bands) in ({"A", "Q"}, {"Ka", "Q"}):
        return 1, "the spectrum is straight over the two high bands"
    else:
        limits = ((1.5, 4), (0.8, 3), (0.4, 2))
    for limit, order in limits:
        if fraction > limit:
            return order, f"the fractional bandwidth {fraction:.2f} is above {limit}"
    return 1, f"the fractional bandwidth is {fraction:.2f}"


def scatter(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Median, scaled median absolute deviation and standard error of gain ratios of the antennas."""
    x = np.asarray(ratios, float)
    x = x[np.isfinite(x)]
    if x.size == 0:
        return float("nan"), float("nan"), float("nan")
    middle = float(np.median(x))
    mad = 1.4826 * float(np.median(np.abs(x - middle)))
    return middle, mad, mad / float(np.sqrt(x.size))
