"""Which channels and which intervals a solve should use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pl_kernel import heuristic


def central_channels(channels: int) -> tuple[int, int]:
    """First and last (inclusive) channel of the central third of a window, for solves before the bandpass is known.

    The reference pipeline takes ``int(n/3)~int(2n/3)+1``, which runs one channel past the third; the same here, kept
    inside the window.
    """
    if channels < 3:
        return 0, max(channels - 1, 0)
    return channels // 3, min(2 * channels // 3 + 1, channels - 1)


def inner_channels(channels: int, fraction: float = 0.1) -> tuple[int, int]:
    """First and last channel without ``fraction`` of the window at each edge, for solves on a corrected bandpass."""
    edge = int(fraction * channels)
    return (edge, channels - 1 - edge) if channels - 2 * edge >= 1 else (0, channels - 1)


def solution_sigma(sensitivity_jy: float, flux_jy: float, antennas: int) -> float:
    """Expected signal-to-noise ratio of one antenna's solution.

    ``sensitivity_jy`` is the noise of one baseline in the interval; an antenna is seen on N−1 baselines, one degree of
    freedom goes to the reference: snr = S/σ·√(N−3) (Cornwell & Fomalont 1999, ASP Conf. 180, ch. 10).
    """
    if sensitivity_jy <= 0 or antennas < 4:
        return 0.0
    return flux_jy / sensitivity_jy * float(np.sqrt(antennas - 3))


def shortest_good(
    integration_s: float, snr_per_integration: float, wanted: float, multiples: Sequence[int] = (1, 2, 5, 10, 20)
) -> tuple[str, str]:
    """Shortest solution interval that reaches ``wanted``, as CASA's ``solint``, and why.

    Falls back to one solution per scan. The ladder of multiples is the reference pipeline's.
    """
    for n in multiples:
        if snr_per_integration * np.sqrt(n) >= wanted:
            text = "int" if n == 1 else f"{n * integration_s:.2f}s"
            snr = snr_per_integration * np.sqrt(n)
            return (
                text,
                f"{n} integration{'s' if n > 1 else ''} of {integration_s:g} s reach a signal-to-noise ratio of "
                f"{snr:.0f}.",
            )
    return (
        "inf",
        f"no interval up to {multiples[-1]} integrations reaches a signal-to-noise ratio of {wanted:g}: one per scan.",
    )


def min_baselines_per_antenna(antennas: int) -> int:
    """Fewest baselines of an antenna with a solution: 4, or fewer in arrays of less than five (reference pipeline)."""
    return 4 if antennas >= 5 else max(2, antennas - 1)


@heuristic("calibration.calwt")
def calwt(kind: str) -> bool:
    """Whether applying a table of this kind changes the weights: yes, where raw weights are noise estimates."""
    return True
