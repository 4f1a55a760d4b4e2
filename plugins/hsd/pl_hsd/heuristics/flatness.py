"""How flat the mean spectrum is after subtraction of baselines."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_MANY_CHANNELS = 512
_BINS_MANY, _BINS_FEW = 20, 10


@attrs.frozen(eq=False)
class BinnedSpectrum:
    """Mean and standard deviation of a spectrum in bins of channels; bins without data are left out."""

    centre: FloatArray
    mean: FloatArray
    deviation: FloatArray
    spread: float


def binned(spectrum: FloatArray, use: NDArray[np.bool_]) -> BinnedSpectrum | None:
    """Bin a spectrum [channel]: 20 bins from 512 channels on, else 10; twice as many when fewer than 2 have data.

    None when there is not enough even then.
    """
    n_chan = spectrum.size
    good = use & np.isfinite(spectrum)
    for bins in (_bins(n_chan), 2 * _bins(n_chan)):
        index = np.minimum(np.arange(n_chan) * bins // max(n_chan, 1), bins - 1)
        count = np.bincount(index[good], minlength=bins)
        if np.count_nonzero(count) >= 2:
            break
    else:
        return None
    kept = count > 0
    values = np.where(good, spectrum, 0.0)
    mean = np.bincount(index, weights=values, minlength=bins)[kept] / count[kept]
    square = np.bincount(index, weights=values**2, minlength=bins)[kept] / count[kept]
    centre = np.bincount(index[good], weights=np.flatnonzero(good), minlength=bins)[kept] / count[kept]
    return BinnedSpectrum(centre, mean, np.sqrt(np.maximum(square - mean**2, 0)), float(spectrum[good].std()))


def integrated_flatness(spectrum: FloatArray, use: NDArray[np.bool_]) -> float | None:
    """Peak to peak of the bin means over the standard deviation of the spectrum; None without bins or spread.

    White noise of many channels gives little (the mean of n channels scatters by 1 / sqrt(n)), a wavy baseline much.
    """
    found = binned(spectrum, use)
    if found is None or not found.spread > 0:
        return None
    return float((found.mean.max() - found.mean.min()) / found.spread)


def _bins(n_chan: int) -> int:
    return _BINS_MANY if n_chan >= _MANY_CHANNELS else _BINS_FEW
