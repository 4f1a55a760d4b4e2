"""Line or continuum: what a spectral window was set up for."""

from __future__ import annotations


def is_line_window(band: str, low_hz: float, bandwidth_hz: float, channels: int) -> bool:
    """Whether a window looks like a spectral-line setup (reference pipeline, 2026).

    Below 1 GHz everything is continuum; bands L and S need channels narrower than 250 kHz; elsewhere a band below 64
    MHz, more than 128 channels, or channels narrower than 500 kHz tell a line.
    """
    if low_hz < 1e9 or channels < 1:
        return False
    channel = bandwidth_hz / channels
    if band in ("L", "S"):
        return channel < 250e3
    return bandwidth_hz < 64e6 or channels > 128 or channel < 500e3
