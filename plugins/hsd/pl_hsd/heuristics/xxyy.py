"""Deviations between the two polarizations of calibrated spectra. Arrays in, verdict out.

A calibrated single-dish spectrum is the same in XX and YY, except for noise; a feature in only one of them is no sky.
Its significance is measured in the difference of the two, with the smooth part removed: baselines do differ. Thresholds
are those of the reference pipeline (2026).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_kernel.qa import linear

Array = NDArray[Any]

DATA_SIGMA = 15.0
RECEIVER_SIGMA = 5.0
LINE_SIGMA = 15.0
CORRELATION = 15.0
BOTTOM_SIGMA = 100.0
"""Significance at the lower end of a band of scores."""
GOAL_PART = 0.5
"""Deviations below this part of the sensitivity goal do not matter."""
WIDEN = 0.02
"""By which part of the window lines are widened on either side."""
FOURIER_MODES = 3
FILTER_ORDER, FILTER_CUTOFF = 5, 0.01

HALF_GONE = 0.34
"""Score when one polarization is entirely flagged."""


@attrs.frozen(kw_only=True)
class Verdict:
    """How far XX and YY of one averaged spectrum are apart.

    ``sigma`` is the largest significance outside masked channels and ``channel`` where; ``receiver_sigma`` that of the
    receiver temperatures there; ``deviation`` and ``noise`` in the unit of the data. ``note`` says why nothing could be
    judged, ``lines`` which channels were masked (first, last).
    """

    sigma: float
    channel: int = -1
    deviation: float = 0.0
    noise: float = math.nan
    receiver_sigma: float = 0.0
    score: float = 1.0
    lines: tuple[tuple[int, int], ...] = ()
    note: str = ""


def sharp_part(spectra: ArrayLike, good: ArrayLike | None = None) -> Array:
    """Remove the smooth part of spectra [..., channel]: the first Fourier modes, then a Butterworth high-pass.

    Channels that are not ``good`` are bridged by lines before, and NaN afterwards.
    """
    from scipy.signal import butter, sosfiltfilt

    values = np.array(spectra, dtype=float)
    usable = np.isfinite(values) if good is None else np.isfinite(values) & np.asarray(good, dtype=bool)
    flat = values.reshape(-1, values.shape[-1])
    mask = np.broadcast_to(usable, values.shape).reshape(flat.shape)
    channels = np.arange(flat.shape[1])
    filtered = np.full(flat.shape, np.nan)
    sos = butter(FILTER_ORDER, FILTER_CUTOFF, btype="highpass", output="sos")
    for k, (row, keep) in enumerate(zip(flat, mask, strict=True)):
        if keep.sum() < 16:
            continue
        whole = np.interp(channels, channels[keep], row[keep])
        # A slope makes a step where the ends meet, which would ring through the spectrum.
        whole = whole - np.polyval(np.polyfit(channels[keep], row[keep], 1), channels)
        modes = np.fft.rfft(whole)
        modes[:FOURIER_MODES] = 0.0
        whole = np.fft.irfft(modes, whole.size)
        filtered[k] = np.where(keep, sosfiltfilt(sos, whole, padlen=min(whole.size - 1, 3 * whole.size // 4)), np.nan)
    return filtered.reshape(values.shape)


def noise(values: Array) -> float:
    """Standard deviation of a spectrum's noise, from its steps between neighbouring good channels.

    A broad feature, and what a filter makes of it, hardly shows in the steps; it would hide itself otherwise.
    """
    good = values[np.isfinite(values)]
    if good.size < 8:
        return math.nan
    steps = np.diff(good)
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / math.sqrt(2))


def science_lines(xx: Array, yy: Array, good: Array, most: int = 12) -> NDArray[np.bool_]:
    """Channels of lines that both polarizations have, widened by 2 % of the window on either side.

    A line is a peak of the mean *and* correlated: both polarizations stand off in the same direction, the weaker by
    half of the stronger at least (the square of the lesser, in units of its noise, takes the place of the product: a
    strong spike times noise is no correlation). Lines are taken one by one, the strongest first, and the smooth part is
    removed anew around them: what the filter makes of a strong line, left and right of it, must not count as lines.
    """
    lines = np.zeros(xx.shape, dtype=bool)
    for _ in range(most):
        usable = good & ~lines
        if usable.sum() < 16:
            break
        one, other = sharp_part(np.stack([xx, yy]), usable)
        mean, scatter = (one + other) / 2, noise((one + other) / 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            lesser = np.minimum(np.abs(one) / noise(one), np.abs(other) / noise(other))
            alike = np.minimum(np.abs(one), np.abs(other)) > 0.5 * np.maximum(np.abs(one), np.abs(other))
            both = (lesser**2 > CORRELATION) & (np.sign(one) == np.sign(other)) & alike
            seeds = np.where(both & (np.abs(mean) > LINE_SIGMA * scatter), np.abs(mean), 0.0)
        top = int(np.argmax(seeds))
        if not seeds[top] > 0:
            break
        inside = np.nan_to_num(np.abs(mean)) > max(3 * scatter, 0.2 * seeds[top])
        first = last = top
        while first > 0 and inside[first - 1] and np.sign(mean[first - 1]) == np.sign(mean[top]):
            first -= 1
        while last < xx.size - 1 and inside[last + 1] and np.sign(mean[last + 1]) == np.sign(mean[top]):
            last += 1
        lines[first : last + 1] = True
    if not lines.any():
        return lines
    reach = max(1, round(WIDEN * lines.size))
    return np.asarray(np.convolve(lines, np.ones(2 * reach + 1), "same") > 0.5)


def judge(
    xx: ArrayLike, yy: ArrayLike, *, sky_lines: ArrayLike | None = None, goal: float | None = None
) -> Verdict:
    """Judge averaged spectra of both polarizations [channel]; NaN are flagged.

    Parameters
    ----------
    sky_lines : channels of atmospheric lines, which are masked.
    goal : sensitivity goal of the observation in the unit of the data, where known.
    """
    one, other = np.asarray(xx, dtype=float), np.asarray(yy, dtype=float)
    has = bool(np.isfinite(one).any()), bool(np.isfinite(other).any())
    if not any(has):
        return Verdict(sigma=0.0, note="all flagged")
    if not all(has):
        return Verdict(sigma=0.0, score=HALF_GONE, note=f"{'YY' if has[0] else 'XX'} is entirely flagged")
    good = np.isfinite(one) & np.isfinite(other)
    if good.sum() < 16:
        return Verdict(sigma=0.0, note="too few channels")
    lines = science_lines(one, other, good)
    masked = lines if sky_lines is None else lines | np.asarray(sky_lines, dtype=bool)
    spans = tuple((int(a), int(b)) for a, b in _runs(lines))
    if (good & ~masked).sum() < 16:
        return Verdict(sigma=0.0, lines=spans, note="lines everywhere")
    difference = sharp_part(one - other, good & ~masked)
    scatter = noise(difference)
    if not scatter > 0:
        return Verdict(sigma=0.0, lines=spans, note="no noise")
    size = np.abs(np.where(good & ~masked, difference, np.nan))
    if goal is not None:
        size = np.where(size < GOAL_PART * goal, np.nan, size)
    if not np.isfinite(size).any():
        return Verdict(sigma=0.0, noise=scatter, lines=spans)
    channel = int(np.nanargmax(size))
    sigma = float(size[channel] / scatter)
    return Verdict(
        sigma=sigma, channel=channel, deviation=float(difference[channel]), noise=scatter, score=score(sigma, 0.0),
        lines=spans,
    )  # fmt: skip


def with_receiver(verdict: Verdict, receiver: ArrayLike, channel: int) -> Verdict:
    """The verdict when receiver temperatures [2, channel] are known; ``channel`` is that of the deviation in *them*."""
    found = receiver_sigma(receiver, channel)
    return attrs.evolve(verdict, receiver_sigma=found, score=score(verdict.sigma, found) if not verdict.note
                        else verdict.score)  # fmt: skip


def receiver_sigma(receiver: ArrayLike, channel: int) -> float:
    """Significance of the difference of the receiver temperatures around a channel (within 2 % of the window).

    Receiver temperatures are not known to better than a thousandth, however smooth they look.
    """
    both = np.asarray(receiver, dtype=float)
    difference = sharp_part(both[0] - both[1])
    scatter = max(noise(difference), 1e-3 * float(np.nanmedian(both)))
    reach = max(1, round(WIDEN * difference.size))
    near = difference[max(channel - reach, 0) : channel + reach + 1]
    if not scatter > 0 or not np.isfinite(near).any():
        return 0.0
    return float(np.nanmax(np.abs(near)) / scatter)


def score(sigma: float, receiver: float) -> float:
    """1 below 15 sigma; then 0.9 to 0.67 at 100 sigma, or 0.66 to 0.34 when the receiver shows it, too."""
    if sigma <= DATA_SIGMA:
        return 1.0
    if receiver > RECEIVER_SIGMA:
        return linear(sigma, DATA_SIGMA, BOTTOM_SIGMA, 0.66, 0.34)
    return linear(sigma, DATA_SIGMA, BOTTOM_SIGMA, 0.90, 0.67)


def _runs(mask: Array) -> Sequence[tuple[int, int]]:
    ends = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(mask, dtype=np.int8), [0]))))
    return [(int(a), int(b) - 1) for a, b in ends.reshape(-1, 2)]
