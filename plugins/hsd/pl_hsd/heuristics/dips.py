"""Whether dips of an empty part of the sky may be bent baselines: where a line mask reaches an end of the band."""

from __future__ import annotations

from collections.abc import Sequence

Ranges = Sequence[tuple[float, float]]


def extrapolated(
    velocity_km_s: tuple[float, float], channels: int, line_channels: Ranges, dips_km_s: Ranges
) -> bool:
    """True when all dips lie in line ranges that reach an end of the band: no channel holds the baseline there.

    velocity_km_s: of the centres of the first and last channel; line_channels: first and last channels of lines;
    dips_km_s: velocities of the centres of the first and last channels of dips.
    """
    first, last = velocity_km_s
    step = (last - first) / max(channels - 1, 1)
    ends = [(a, b) for a, b in line_channels if a <= 0 or b >= channels - 1]
    if not step or not dips_km_s:
        return False
    places = [sorted(((a - first) / step, (b - first) / step)) for a, b in dips_km_s]
    return all(any(low > a - 1 and high < b + 1 for a, b in ends) for low, high in places)
