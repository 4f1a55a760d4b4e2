"""Statistics of single spectra, and which of them are outliers.

Thresholds and rules are the reference pipeline's (2026), with two differences. Spectra that were rejected in one round
of clipping do not count in the next one, where the reference counts them as zeros. And clipping of rms values starts
from median and quartiles: a few bad spectra in a hundred widen mean and standard deviation until none is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_QUARTILE = 0.6745
"""Distance of the quartiles from the median of a normal distribution, in standard deviations."""

UNKNOWN = -1.0
"""A statistic that could not be computed: such a spectrum is never judged."""


def spectrum_rms(data: Float32Array, use: BoolArray) -> FloatArray:
    """Standard deviation of the channels that count, by spectrum [spectrum, channel]; UNKNOWN where there are none."""
    count = np.count_nonzero(use, axis=1)
    n = np.maximum(count, 1)
    values = np.where(use, data, np.float32(0))
    mean = values.sum(axis=1, dtype=np.float64) / n
    centred = (values - mean[:, None].astype(np.float32)) * use
    spread = np.sqrt(np.einsum("ij,ij->i", centred, centred).astype(np.float64) / n)
    return np.where(count > 0, spread, UNKNOWN)


def difference_noise(data: Float32Array, use: BoolArray, lag: int = 4) -> FloatArray:
    """Noise of spectra [spectrum, channel] from differences of channels ``lag`` apart, whatever the baseline.

    Neighbouring channels are correlated by the spectrometer's smoothing, those four apart are not.  UNKNOWN where no
    two such channels count.
    """
    if data.shape[1] <= lag:
        return np.full(len(data), UNKNOWN)
    both = use[:, lag:] & use[:, :-lag]
    steps = (data[:, lag:] - data[:, :-lag]) * both
    count = np.count_nonzero(both, axis=1)
    spread = np.sqrt(np.einsum("ij,ij->i", steps, steps).astype(np.float64) / (2 * np.maximum(count, 1)))
    return np.where(count > 0, spread, UNKNOWN)


def running_mean_deviation(
    data: Float32Array, use: BoolArray, groups: ArrayLike, reach: int = 5, outlying: BoolArray | None = None
) -> FloatArray:
    """How much each spectrum differs from the mean of its neighbours in the same raster row.

    data, use : [spectrum, channel] in order of time; groups : [spectrum], number of the raster row.
    The neighbours are up to ``reach`` earlier and later spectra that have any good channel, without those that are
    ``outlying`` [spectrum]: one wild spectrum must not make ten others look wild. The standard deviation of the
    difference is taken over the channels that count in all of them.  A row of one spectrum gives 0; a
    spectrum without neighbours or without common channels UNKNOWN.
    """
    result = np.full(len(data), UNKNOWN)
    number = np.asarray(groups)
    counts = np.ones(len(data), dtype=bool) if outlying is None else ~outlying
    for group in np.unique(number):
        members = np.flatnonzero(number == group)
        if members.size == 1:
            result[members] = 0.0
            continue
        alive = members[use[members].any(axis=1)]
        if alive.size > 1:
            result[alive] = _against_neighbours(data[alive], use[alive], counts[alive], reach)
    return result


def _against_neighbours(data: Float32Array, use: BoolArray, counts: BoolArray, reach: int) -> FloatArray:
    n, n_chan = data.shape
    start = np.maximum(np.arange(n) - reach, 0)
    stop = np.minimum(np.arange(n) + reach + 1, n)
    good = use & counts[:, None]
    values = np.where(good, data, np.float32(0))
    total = np.zeros((n + 1, n_chan))
    np.cumsum(values, axis=0, dtype=np.float64, out=total[1:])
    counted = np.zeros((n + 1, n_chan), dtype=np.int32)
    np.cumsum(good, axis=0, out=counted[1:])
    number = np.concatenate([[0], np.cumsum(counts)])
    others = (number[stop] - number[start] - counts)[:, None]
    common = use & (counted[stop] - counted[start] - good == others) & (others > 0)
    mean = (total[stop] - total[start] - values) / np.maximum(others, 1)
    return spectrum_rms((data - mean).astype(np.float32), common)


@attrs.frozen(eq=False)
class Judgement:
    """Limits of the last round, and who is within them."""

    upper: float
    lower: float
    good: BoolArray


def clip(
    values: ArrayLike, threshold: float, *, rounds: int = 5, lower: float = -1.0, robust: bool = True
) -> Judgement:
    """Judge values against mean + threshold x standard deviation of those that were good in the round before.

    The limits are computed ``rounds`` + 1 times and everyone is judged anew in each.  Values below 0 are unknown: they
    count nowhere and stay good.  ``lower`` is exclusive, for Tsys: 0.  ``robust`` : begin with those within the
    threshold of the median, in deviations estimated from the distance of median and lower quartile.
    """
    array = np.asarray(values, dtype=np.float64)
    known = np.isfinite(array) & (array >= 0)
    good = known.copy()
    if robust and known.any():
        quartile, middle = np.percentile(array[known], [25, 50])
        good &= array <= middle + threshold * (middle - quartile) / _QUARTILE if middle > quartile else True
    upper = np.inf
    for _ in range(rounds + 1):
        sample = array[good]
        if not sample.size:
            break
        spread = float(sample.std())
        # Equal values have no spread; a hundredth of them keeps rounding from rejecting somebody.
        upper = float(sample.mean() + threshold * (spread if spread > 0 else sample[0] / 100))
        good = known & (array <= upper) & (array > lower)
    return Judgement(upper, lower, good | ~known)


def expected_rms(
    tsys_k: ArrayLike, jy_per_k: float, bandwidth_hz: float, exposure_s: ArrayLike, factors: Mapping[str, float] = {}
) -> FloatArray:
    """Noise expected from the radiometer equation: Tsys x Jy/K / sqrt(bandwidth x time), in K or Jy.

    factors : ``tsys_fact``, ``nebw_fact``, ``integ_time_fact`` scale the three inputs.  UNKNOWN without Tsys or time.
    """
    tsys = np.asarray(tsys_k, dtype=np.float64) * factors.get("tsys_fact", 1.0)
    product = (
        bandwidth_hz * factors.get("nebw_fact", 1.0) * np.asarray(exposure_s, dtype=np.float64)
        * factors.get("integ_time_fact", 1.0)
    )  # fmt: skip
    known = (tsys > 0) & (product > 0)
    return np.where(known, tsys * jy_per_k / np.sqrt(np.where(known, product, 1.0)), UNKNOWN)


def within_expectation(rms: ArrayLike, expected: ArrayLike, threshold: float) -> BoolArray:
    """Whether each rms is at most ``threshold`` times what is expected; unknown ones are."""
    value, limit = np.asarray(rms, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return (value < 0) | (limit <= 0) | (value <= threshold * limit)


def read_factors(text: str) -> dict[str, float]:
    """Read "key value" lines (``tsys_fact``, ``nebw_fact``, ``integ_time_fact``); ``#`` begins a comment.

    Raises ValueError for a line that is none, or an unknown key.
    """
    known = ("tsys_fact", "nebw_fact", "integ_time_fact")
    factors: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].replace("=", " ").split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in known:
            raise ValueError(f"line {number} is no '<key> <value>' with a key of {', '.join(known)}")
        factors[words[0]] = float(words[1])
    return factors
