"""Ranges of baseline length: CASA's text understood, and the rule for very extended emission."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hif.heuristics.imaging import C_M_S, Choice
from pl_kernel import InputError, heuristic

_UNITS = {"": (1.0, False), "m": (1.0, False), "km": (1e3, False), "lambda": (1.0, True), "klambda": (1e3, True),
          "mlambda": (1e6, True)}  # fmt: skip
_NUMBER = r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)"
_PART = re.compile(rf"(?:([<>])\s*{_NUMBER}|{_NUMBER}\s*~\s*{_NUMBER})\s*([a-z]*)", re.IGNORECASE)

SHORT = (0.0, 0.05)
MIDDLE = (0.5, 0.55)
"""Parts of the longest baseline whose amplitudes are compared (reference pipeline, 2026)."""
EXTENDED_RATIO = 2.0
"""Above this ratio of amplitudes the field holds emission that the array does not sample (reference pipeline)."""


@attrs.frozen(kw_only=True)
class UvLimits:
    """Baselines longer than ``low`` and shorter than ``high``, in wavelengths or in metres."""

    low: float = 0.0
    high: float = math.inf
    wavelengths: bool = False


def parse_uvrange(text: str) -> tuple[UvLimits, ...]:
    """Understand CASA's ranges: ``>5klambda``, ``<100m``, ``0.5~10klambda``, several separated by commas.

    A number without a unit is in metres. An empty text is no limit: an empty tuple.

    Raises:
        InputError: the text is no range.
    """
    found = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        match = _PART.fullmatch(part)
        if not match or match[5].lower() not in _UNITS:
            raise InputError(f"uvrange is written like '>5klambda', '<100m' or '0.5~10klambda'; got '{text}'.")
        scale, wavelengths = _UNITS[match[5].lower()]
        low, high = 0.0, math.inf
        if match[1] == ">":
            low = float(match[2]) * scale
        elif match[1] == "<":
            high = float(match[2]) * scale
        else:
            low, high = float(match[3]) * scale, float(match[4]) * scale
        if low >= high:
            raise InputError(f"uvrange '{text}' selects nothing: the lower limit is not below the upper one.")
        found.append(UvLimits(low=low, high=high, wavelengths=wavelengths))
    return tuple(found)


def within(
    limits: Sequence[UvLimits], length_m: NDArray[np.floating], frequency_hz: NDArray[np.floating] | float
) -> NDArray[np.bool_]:
    """Which visibilities lie in any of the ranges.

    Parameters
    ----------
    length_m : projected baselines in metres; frequency_hz : of a shape that goes with them.

    All are, when there are no limits.
    """
    length = np.asarray(length_m, float)
    in_wavelengths = length * np.asarray(frequency_hz, float) / C_M_S
    if not limits:
        return np.ones(in_wavelengths.shape, bool)
    inside = np.zeros(in_wavelengths.shape, bool)
    for limit in limits:
        value = in_wavelengths if limit.wavelengths else np.broadcast_to(length, in_wavelengths.shape)
        inside |= (value > limit.low) & (value < limit.high)
    return inside


def extended_emission(
    longest_wavelengths: float, short: Sequence[float], middle: Sequence[float]
) -> Choice:
    """Leave the shortest spacings out when the field holds emission too large for the array.

    Parameters
    ----------
    longest_wavelengths : length B of the longest baseline at the highest window.
    short, middle : mean amplitude of each window (Jy) on baselines of 0 to 0.05 B and of 0.5 to 0.55 B; windows
        without data there are left out, or NaN.

    With S the 95th percentile of the first and M the mean of the second, S/M above 2 selects ``>0.05 B`` (reference
    pipeline, 2026; its PIPE-681).
    """
    s, m = ([v for v in values if math.isfinite(v)] for values in (short, middle))
    if not s or not m or not np.mean(m) > 0:
        return Choice(value="", reason="there are no baselines to compare: all are used")
    ratio = float(np.percentile(s, 95) / np.mean(m))
    limit = SHORT[1] * longest_wavelengths / 1e3
    if ratio > EXTENDED_RATIO:
        return Choice(
            value=f">{limit:.1f}klambda",
            reason=f"the shortest spacings hold {ratio:.1f} times the amplitude of the middle ones (limit "
            f"{EXTENDED_RATIO:g}): very extended emission; baselines below {limit:.1f} klambda are left out, and "
            "what only they see",
        )
    return Choice(
        value="",
        reason=f"the shortest spacings hold {ratio:.1f} times the amplitude of the middle ones, not more than "
        f"{EXTENDED_RATIO:g} times: all are used",
    )


@heuristic("imaging.limits_short_spacings")
def limits_short_spacings(specmode: str) -> bool:
    """Whether `extended_emission` is asked for an image; in general nothing is left out."""
    return False
