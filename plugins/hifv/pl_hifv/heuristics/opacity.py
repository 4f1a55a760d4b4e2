"""How much water the air above the VLA holds, when the data do and do not say."""

from __future__ import annotations

import math

ALTITUDE_M = 2124.0
_WINTER_MM, _SUMMER_MM = 4.0, 12.0
_PEAK_DAY = 213
"""The monsoon brings the wettest air around the first of August."""


def seasonal_pwv_mm(day_of_year: float) -> float:
    """Precipitable water vapour in mm for a day of the year, a cosine between a dry winter and a wet monsoon.

    The extremes are rounded typical values of the site (Butler, VLA Scientific Memo 176, 1998, gives monthly
    statistics).
    """
    middle, swing = (_SUMMER_MM + _WINTER_MM) / 2, (_SUMMER_MM - _WINTER_MM) / 2
    return middle + swing * math.cos(2 * math.pi * (day_of_year - _PEAK_DAY) / 365.25)


def surface_pwv_mm(
    temperature_k: float | None, humidity_percent: float | None, scale_height_m: float = 2000.0
) -> float:
    """Precipitable water vapour in mm from temperature and relative humidity at the ground; NaN without them.

    Vapour pressure by Magnus' formula (Alduchov & Eskridge 1996: 6.1094 hPa, 17.625, 243.04 °C), density by the gas
    law, an exponential atmosphere above: pwv = ρ·H/ρ_water.
    """
    if temperature_k is None or humidity_percent is None or not (200 < temperature_k < 330 and humidity_percent > 0):
        return math.nan
    celsius = temperature_k - 273.15
    vapour_pa = humidity_percent / 100 * 610.94 * math.exp(17.625 * celsius / (celsius + 243.04))
    return vapour_pa / (461.5 * temperature_k) * scale_height_m


def pwv_mm(day_of_year: float, surface: float = math.nan) -> tuple[float, str]:
    """Mean of the season's and the ground's water vapour (weights of the reference pipeline), or the season's alone."""
    season = seasonal_pwv_mm(day_of_year)
    if math.isfinite(surface):
        return (
            season + surface
        ) / 2, f"mean of the season's {season:.1f} mm and {surface:.1f} mm from the weather stations"
    return season, f"{season:.1f} mm is typical of the season; there are no weather data"
