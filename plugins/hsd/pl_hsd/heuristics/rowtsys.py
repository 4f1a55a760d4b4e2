"""System temperature of every spectrum, from the Tsys spectra measured before and after it. Arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_kernel.common.calspectra import CalSpectra


def mean_tsys(spectra: CalSpectra, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Mean over the good channels inside a range of frequencies, [row, polarization]; NaN where there are none.

    A range narrower than a Tsys channel takes the nearest one; a Tsys that is one number serves any range.
    """
    inside = (spectra.frequency_hz >= low_hz) & (spectra.frequency_hz <= high_hz)
    if not inside.any():
        inside = np.zeros(spectra.frequency_hz.shape, dtype=bool)
        inside[np.argmin(np.abs(spectra.frequency_hz - (low_hz + high_hz) / 2))] = True
    values = spectra.masked[:, :, inside]
    good = np.isfinite(values)
    count = good.sum(axis=2)
    total = np.where(good, values, 0.0).sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def at_times(measured_s: ArrayLike, tsys_k: ArrayLike, time_s: ArrayLike) -> NDArray[Any]:
    """Tsys [time, polarization] at other times: linear between measurements, the nearest one before and after all.

    ``tsys_k`` is [measurement, polarization]; NaN are left out; all NaN gives NaN.
    """
    when, values = np.asarray(measured_s, dtype=float), np.asarray(tsys_k, dtype=float)
    times = np.asarray(time_s, dtype=float)
    found = np.full((times.size, values.shape[1]), np.nan)
    for pol in range(values.shape[1]):
        good = np.isfinite(values[:, pol])
        if good.any():
            order = np.argsort(when[good], kind="stable")
            found[:, pol] = np.interp(times, when[good][order], values[good, pol][order])
    return found
