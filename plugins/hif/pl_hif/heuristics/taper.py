"""Tapers of visibilities: CASA's text understood, and what they do to weights."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hif.heuristics.imaging import ARCSEC
from pl_kernel import InputError

_VALUE = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*([a-z]*)", re.IGNORECASE)
_ON_SKY = {"arcsec": 1.0 / ARCSEC, "mas": 1e-3 / ARCSEC, "arcmin": 60.0 / ARCSEC, "deg": math.pi / 180, "rad": 1.0}
_IN_UV = {"lambda": 1.0, "klambda": 1e3, "mlambda": 1e6}


@attrs.frozen(kw_only=True)
class Taper:
    """A Gaussian on the uv plane: half widths at half maximum (wavelengths) along ``angle_rad`` and across it.

    The angle is counted from north (v) through east (u).
    """

    along: float
    across: float
    angle_rad: float = 0.0

    def weights(self, uv: NDArray[np.floating]) -> NDArray[np.float64]:
        """Factor of each visibility, (n,), for u and v in wavelengths, (2, n)."""
        u, v = np.asarray(uv, float)
        along = u * math.sin(self.angle_rad) + v * math.cos(self.angle_rad)
        across = u * math.cos(self.angle_rad) - v * math.sin(self.angle_rad)
        return np.exp(-math.log(2) * ((along / self.along) ** 2 + (across / self.across) ** 2))


def parse_uvtaper(values: Sequence[str]) -> Taper | None:
    """Understand CASA's ``['5klambda']`` or ``['10arcsec', '5arcsec', '45deg']``; None without a taper.

    An angle on the sky is the full width at half maximum of the Gaussian that a point becomes, θ; on the uv plane that
    is a half width of 2 ln 2/(π θ). A length in wavelengths is the half width there (CASA's convention, as measured
    on its point spread function).

    Raises:
        InputError: one of the values is neither.
    """
    given = [v.strip() for v in values if v.strip()]
    if not given:
        return None
    if len(given) > 3:
        raise InputError("uvtaper has one to three values: major axis, minor axis, position angle.")
    widths = [_half_width(v, values) for v in given[:2]]
    angle = 0.0
    if len(given) == 3:
        match = _VALUE.fullmatch(given[2].lstrip("+-"))
        unit = match[2].lower() if match else ""
        if not match or unit not in ("", "deg", "rad"):
            raise InputError(f"The position angle of uvtaper is an angle such as '45deg'; got '{given[2]}'.")
        angle = float(match[1]) * (1.0 if unit == "rad" else math.pi / 180) * (-1 if given[2][0] == "-" else 1)
    return Taper(along=widths[0], across=widths[-1], angle_rad=angle)


def _half_width(text: str, values: Sequence[str]) -> float:
    match = _VALUE.fullmatch(text)
    unit = match[2].lower() if match else ""
    if not match or not float(match[1]) > 0 or (unit and unit not in _ON_SKY and unit not in _IN_UV):
        raise InputError(f"uvtaper is written like ['5klambda'] or ['2arcsec']; got {list(values)}.")
    if unit in _IN_UV:
        return float(match[1]) * _IN_UV[unit]
    return 2 * math.log(2) / (math.pi * float(match[1]) * _ON_SKY[unit or "arcsec"])
