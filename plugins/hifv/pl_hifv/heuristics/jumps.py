"""Steps of phase that no atmosphere makes: an antenna whose phase jumps in the middle of a scan."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import ArrayLike

JUMP_DEG = 30.0
"""Smallest step called a jump."""
SIGMAS = 8.0
"""… and it must stand out from the usual steps, and from their errors, by so much."""


@attrs.frozen(kw_only=True)
class PhaseJump:
    """A step of phase in one scan, in degrees, and when it happened (MJD seconds)."""

    antenna: str
    spw: int
    pol: int
    scan: int
    time_s: float
    degrees: float


def phase_jumps(
    antenna: str, spw: int, pol: int, time_s: ArrayLike, scan: ArrayLike, phase_rad: ArrayLike, snr: ArrayLike
) -> list[PhaseJump]:
    """Find jumps between neighbouring solutions of the same scan; arrays are (n,), of good solutions only.

    A jump is more than 30° and eight times the usual step (1.4826·MAD over all scans), or the error of the step,
    √2/snr. A phase that wanders as fast all the time is weather and no jump.
    """
    time, scans, phase, strength = (np.asarray(a) for a in (time_s, scan, phase_rad, snr))
    order = np.argsort(time, kind="stable")
    time, scans, phase, strength = time[order], scans[order], phase[order], strength[order]
    together = scans[1:] == scans[:-1]
    if together.sum() < 4:
        return []
    step = np.degrees(np.angle(np.exp(1j * np.diff(phase))))
    usual = 1.4826 * float(np.median(np.abs(step[together] - np.median(step[together]))))
    weakest = np.minimum(strength[1:], strength[:-1])
    error = np.degrees(np.sqrt(2) / np.maximum(weakest, 1e-3))
    limit = np.maximum(JUMP_DEG, SIGMAS * np.maximum(usual, error))
    return [
        PhaseJump(
            antenna=antenna, spw=spw, pol=pol, scan=int(scans[i + 1]), time_s=float((time[i] + time[i + 1]) / 2),
            degrees=float(step[i]),
        )
        for i in np.flatnonzero(together & (np.abs(step) > limit))
    ]  # fmt: skip
