"""When a bandpass is too noisy per channel, and how many channels one solution should then take."""

from __future__ import annotations

import math

WANTED_SNR = 50.0
MIN_CHANNELS = 16
"""Fewest solutions across a window (reference pipeline, 2026)."""


def channels_per_solution(median_snr: float, channels: int) -> int:
    """Channels that one bandpass solution must average to reach a signal-to-noise ratio of 50.

    (50 / snr)², at most a sixteenth of the window, rounded up to a divisor of the number of channels. Windows of
    fewer than 16 channels keep one solution per channel; the reference pipeline leaves them without any.
    """
    if median_snr >= WANTED_SNR or channels < MIN_CHANNELS:
        return 1
    most = channels / MIN_CHANNELS
    wanted = most if not median_snr > 0 else min((WANTED_SNR / median_snr) ** 2, most)
    least = math.ceil(wanted - 1e-9)
    return next(n for n in range(max(least, 1), channels + 1) if channels % n == 0)
