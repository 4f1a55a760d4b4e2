"""Steps of an antenna's phase within a scan, which calibrators before and after cannot remove."""

from __future__ import annotations

import attrs
import numpy as np

STEP_DEG = 30.0
"""Smaller steps between neighbouring integrations may be the air."""
MIN_COHERENCE = 0.5
"""Antennas whose visibilities do not follow the reference (weak or complicated sources) tell nothing."""


@attrs.frozen(kw_only=True)
class Jump:
    """Integrations of one antenna, first and last (both included), whose phase is off by ``degrees``."""

    antenna: int
    first: int
    last: int
    degrees: float


def jumps(sums: np.ndarray, norms: np.ndarray, scans: np.ndarray) -> tuple[Jump, ...]:
    """Find spans between steps of the phase.

    sums : (times, antennas) Σ V·conj(reference) over the baselines, windows and hands of each antenna, in the order of
        time; the reference is the mean visibility of the field.  norms : the same with the moduli.  scans : (times,).

    The phase of a sum is that of the antenna, relative to its median over the field. A span is bad when its phase is
    off by more than 30° and 8 times the scatter between neighbours, and when it begins or ends with a step of that
    size inside a scan: slow changes are the air's or the source's, and stay.
    """
    found: list[Jump] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        coherence = np.abs(sums) / norms
    known = (norms > 0) & (coherence > MIN_COHERENCE)
    for antenna in range(sums.shape[1]):
        rows = np.flatnonzero(known[:, antenna])
        if rows.size < 6 or rows.size < 0.5 * np.count_nonzero(norms[:, antenna] > 0):
            continue
        phase = _unwound(np.angle(sums[rows, antenna]))
        step = _wrap(np.diff(phase))
        same = np.diff(scans[rows]) == 0
        if not same.any():
            continue
        scatter = 1.4826 * float(np.median(np.abs(step[same]))) / np.sqrt(2)
        limit = max(np.radians(STEP_DEG), 8 * scatter)
        found += [
            Jump(
                antenna=antenna, first=int(rows[a]), last=int(rows[b]),
                degrees=float(np.degrees(np.median(phase[a : b + 1]))),
            )
            for a, b in _spans(phase, step, same, limit)
        ]  # fmt: skip
    return tuple(found)


def _spans(phase: np.ndarray, step: np.ndarray, same: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """Runs of integrations in one scan that are off by more than the limit and touch a step inside the scan."""
    off = np.abs(phase) > limit
    spans = []
    start = 0
    while start < off.size:
        if not off[start]:
            start += 1
            continue
        end = start
        while end + 1 < off.size and off[end + 1] and same[end]:
            end += 1
        before = start > 0 and same[start - 1] and abs(step[start - 1]) > limit
        after = end < step.size and same[end] and abs(step[end]) > limit
        if before or after:
            spans.append((start, end))
        start = end + 1
    return spans


def _unwound(phase: np.ndarray) -> np.ndarray:
    """Phases relative to their median direction, within ±π."""
    middle = np.angle(np.median(np.cos(phase)) + 1j * np.median(np.sin(phase)))
    return _wrap(phase - middle)


def _wrap(phase: np.ndarray) -> np.ndarray:
    return np.angle(np.exp(1j * phase))
