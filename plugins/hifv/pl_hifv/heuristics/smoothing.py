"""Which spectral windows to Hanning-smooth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

SPEED_OF_LIGHT_M_S = 299792458.0
VELOCITY_WINDOW_M_S = 200e3
"""Masers of the Galaxy lie within this velocity of rest."""

MASERS_HZ = {
    "OH 1612 MHz": 1612.231e6, "OH 1665 MHz": 1665.4018e6, "OH 1667 MHz": 1667.359e6, "OH 1720 MHz": 1720.530e6,
    "CH3OH 6.7 GHz": 6668.5192e6, "CH3OH 12.2 GHz": 12178.597e6, "SiS 18.2 GHz": 18154.88e6,
    "H2O 22.2 GHz": 22235.080e6, "30SiO v=0": 42373.359e6, "SiO v=3": 42519.373e6,
    "SiO v=2": 42820.582e6, "29SiO v=0": 42879.916e6,
    "SiO v=1": 43122.079e6, "SiO v=0": 43423.858e6,
}  # fmt: skip
"""Rest frequencies of strong maser lines (Lovas catalogue, as far as the reference pipeline uses them)."""


@attrs.frozen(kw_only=True)
class Window:
    """A science window as the rule sees it; ``low_hz`` and ``high_hz`` in LSRK, None where that is not known."""

    id: int
    line: bool
    online_binning: int = 1
    low_hz: float | None = None
    high_hz: float | None = None


@attrs.frozen(kw_only=True)
class Smoothing:
    """What happens to one window, and why."""

    spw: int
    smooth: bool
    reason: str


def maser_near(low_hz: float, high_hz: float) -> str:
    """Name of a maser line that can fall into the range at a velocity within ±200 km/s; empty when none can.

    Radio velocity, v = c·(f0 − f)/f0: a line can be anywhere in f0·(1 ± 200 km/s / c). The reference pipeline (2026)
    has the methanol line of 12.18 GHz a factor of ten too low: here it is where it belongs.
    """
    reach = VELOCITY_WINDOW_M_S / SPEED_OF_LIGHT_M_S
    for name, rest in MASERS_HZ.items():
        if rest * (1 - reach) <= high_hz and rest * (1 + reach) >= low_hz:
            return name
    return ""


def decide(
    windows: Sequence[Window], chosen: Iterable[int] | None = None, maser_detection: bool = True
) -> tuple[Smoothing, ...]:
    """Decide window by window (rules of the reference pipeline, 2026).

    A choice of the user (or of the restored run) holds as it is. Channels averaged by the correlator need no smoothing;
    then no window is smoothed, so that all are treated alike. Continuum windows are smoothed against ringing, line
    windows only where a maser may be strong enough to ring.
    """
    if chosen is not None:
        wanted = set(chosen)
        return tuple(
            Smoothing(spw=w.id, smooth=w.id in wanted, reason="restored or chosen by the user") for w in windows
        )
    if any(w.online_binning > 1 for w in windows):
        return tuple(Smoothing(spw=w.id, smooth=False, reason="channels were averaged online") for w in windows)
    return tuple(_one(w, maser_detection) for w in windows)


def _one(window: Window, maser_detection: bool) -> Smoothing:
    if not window.line:
        return Smoothing(spw=window.id, smooth=True, reason="continuum")
    if not maser_detection:
        return Smoothing(spw=window.id, smooth=False, reason="spectral line")
    if window.low_hz is None or window.high_hz is None or not math.isfinite(window.low_hz + window.high_hz):
        return Smoothing(spw=window.id, smooth=False, reason="spectral line; its frame tells nothing of masers")
    maser = maser_near(window.low_hz, window.high_hz)
    if maser:
        return Smoothing(spw=window.id, smooth=True, reason=f"spectral line, maser line {maser}")
    return Smoothing(spw=window.id, smooth=False, reason="spectral line")
