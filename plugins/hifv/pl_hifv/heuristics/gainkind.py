"""Whether a table of gains corrects phases, amplitudes or both, by its values."""

from __future__ import annotations

import attrs
import numpy as np

AMPLITUDE_TOLERANCE = 1e-3
"""A table of n solutions with amplitudes of 1 sums up to n within this (reference pipeline, 2026)."""
PHASE_TOLERANCE = 1e-5
"""Degrees that the phases of a table of amplitudes stay below, and their sum (reference pipeline, 2026)."""


@attrs.frozen(kw_only=True)
class GainSums:
    """Number, sum and extremes of amplitudes, and of phases in degrees, of the solutions that are not flagged."""

    number: int = 0
    amplitude: tuple[float, float, float] = (0.0, np.inf, -np.inf)
    phase: tuple[float, float, float] = (0.0, np.inf, -np.inf)

    def add(self, gains: np.ndarray, flags: np.ndarray) -> GainSums:
        """With more solutions: complex gains and flags of equal shape."""
        good = np.asarray(gains)[~np.asarray(flags, bool)].ravel()
        if not good.size:
            return self
        return GainSums(
            number=self.number + good.size, amplitude=_with(self.amplitude, np.abs(good)),
            phase=_with(self.phase, np.degrees(np.angle(good))),
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """``phase only``, ``amplitude only``, ``amplitude and phase``, or nothing for a table without solutions."""
        if not self.number:
            return ""
        total, low, high = self.amplitude
        # Amplitudes are of single precision: 1 is 1 within 1e-6.
        if abs(total - self.number) < AMPLITUDE_TOLERANCE * max(1, self.number / 1000) and high - low < 1e-5:
            return "phase only"
        if all(abs(v) < PHASE_TOLERANCE for v in self.phase):
            return "amplitude only"
        return "amplitude and phase"


def _with(before: tuple[float, float, float], values: np.ndarray) -> tuple[float, float, float]:
    total, low, high = before
    return total + float(values.sum()), min(low, float(values.min())), max(high, float(values.max()))
