"""Lines of the earth's atmosphere in a spectral window: where they are, from a spectrum of the zenith opacity."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ms.model import MeasurementSet
from ..ms.telescopes import Site

Array = NDArray[Any]
PEAK = 1.05
"""A line is a peak of at least so many times the median opacity (reference pipeline, 2026)."""

_MOST_CHANNELS = 256  # the atmosphere tool takes 2 to 3 ms for each


@attrs.frozen
class SkyLine:
    """One line: channel of its peak, first and last channel, and how much it stands off the continuum (neper)."""

    peak: int
    first: int
    last: int
    height: float


def continuum(opacity: ArrayLike, order: int = 2, sigma: float = 3.0, rounds: int = 10) -> NDArray[np.float64]:
    """Polynomial through the opacity, with what lies more than ``sigma`` above it left out in turn."""
    tau = np.asarray(opacity, dtype=float)
    axis = np.linspace(-1.0, 1.0, tau.size)
    good = np.isfinite(tau)
    fit = np.full(tau.shape, np.nan)
    for _ in range(rounds):
        if good.sum() <= order + 1:
            break
        fit = np.polynomial.polynomial.polyval(axis, np.polynomial.polynomial.polyfit(axis[good], tau[good], order))
        rms = float(np.std((tau - fit)[good]))
        kept = np.isfinite(tau) & (tau - fit <= sigma * max(rms, 1e-12))
        if (kept == good).all():
            break
        good = kept
    return fit


def sky_lines(
    opacity: ArrayLike, *, peak: float = PEAK, edge: float = 0.025, height: float = 0.3
) -> tuple[SkyLine, ...]:
    """Lines, strongest first.

    A line is a local maximum of at least ``peak`` × the median, not in the outer ``edge`` of the window; it is as wide
    as the channels around it that stand off the continuum by ``height`` of what the maximum does.
    """
    tau = np.asarray(opacity, dtype=float)
    if tau.size < 5 or not np.isfinite(tau).all():
        return ()
    above = tau - continuum(tau)
    margin = int(np.ceil(edge * tau.size))
    inner = np.arange(max(margin, 1), tau.size - max(margin, 1))
    tops = [k for k in inner if tau[k] >= tau[k - 1] and tau[k] > tau[k + 1] and tau[k] >= peak * np.median(tau)]
    found: list[SkyLine] = []
    for top in sorted(tops, key=lambda k: -tau[k]):
        if above[top] <= 0 or any(line.first <= top <= line.last for line in found):
            continue
        level = height * above[top]
        first = last = int(top)
        while first > 0 and above[first - 1] >= level:
            first -= 1
        while last < tau.size - 1 and above[last + 1] >= level:
            last += 1
        found.append(SkyLine(int(top), first, last, float(above[top])))
    return tuple(found)


def affected(opacity: ArrayLike, part: float = 0.02) -> NDArray[np.bool_]:
    """Channels whose opacity exceeds the continuum by more than ``part`` of its median: lines with their wings."""
    tau = np.asarray(opacity, dtype=float)
    if tau.size < 5 or not np.isfinite(tau).all():
        return np.zeros(tau.shape, dtype=bool)
    return np.asarray(tau - continuum(tau) > part * np.median(tau))


def model_opacity(casa: Any, site: Site, ms: MeasurementSet, frequency_hz: ArrayLike) -> NDArray[np.float64]:
    """Zenith opacity of dry and wet air (1 mm of water) at these frequencies, by CASA's atmosphere tool.

    Ground values are the medians of the observation's weather, or those of a standard atmosphere at the height of the
    site. Windows of many channels are computed on a coarser grid and interpolated: the tool is slow, air is smooth.
    """
    frequency = np.asarray(frequency_hz, dtype=float)
    if frequency.size < 5:
        return np.full(frequency.shape, np.nan)
    weather = ms.weather
    pressure = weather.pressure_hpa if weather and weather.pressure_hpa else 1013.25 * np.exp(-site.height_m / 8000.0)
    kelvin = weather.temperature_k if weather and weather.temperature_k else 288.0 - 0.0056 * site.height_m
    humidity = weather.humidity_percent if weather and weather.humidity_percent is not None else 20.0
    low, high = float(frequency.min()), float(frequency.max())
    grid = (low, high, min(frequency.size, _MOST_CHANNELS))
    axis, opacity = _opacity_of(casa, float(site.height_m), float(pressure), float(kelvin), float(humidity), grid)
    return np.asarray(np.interp(frequency, axis, opacity))


_KNOWN: dict[tuple[Any, ...], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
_MOST_KNOWN = 200


def _opacity_of(
    casa: Any, height_m: float, pressure_hpa: float, kelvin: float, humidity_percent: float,
    grid: tuple[float, float, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Frequencies (ascending) and opacities of a grid (lowest, highest, count).

    Half a second each, and asked for again by stage after stage: the process remembers them.
    """
    key = (height_m, pressure_hpa, kelvin, humidity_percent, grid)
    if key in _KNOWN:
        return _KNOWN[key]
    low, high, count = grid
    tool, unit = casa.tool("atmosphere"), casa.tool("quanta").quantity
    try:
        tool.initAtmProfile(
            humidity=humidity_percent, temperature=unit(kelvin, "K"), altitude=unit(height_m, "m"),
            pressure=unit(pressure_hpa, "mbar"), atmType=1, h0=unit(2.0, "km"), dTem_dh=unit(-5.6, "K/km"),
            dP=unit(10.0, "mbar"), dPm=1.2, maxAltitude=unit(48.0, "km"),
        )  # fmt: skip
        step = (high - low) / (count - 1)
        tool.initSpectralWindow(1, unit((low + high) / 2, "Hz"), unit(step * count, "Hz"), unit(step, "Hz"))
        tool.setUserWH2O(unit(1.0, "mm"))
        dry = np.asarray(tool.getDryOpacitySpec(0)[1], dtype=float)
        wet = np.asarray(tool.getWetOpacitySpec(0)[1]["value"], dtype=float)
        axis = np.asarray(casa.tool("quanta").convert(tool.getSpectralWindow(0), "Hz")["value"], dtype=float)
    finally:
        tool.done()
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    order = np.argsort(axis)
    _KNOWN[key] = axis[order], (dry + wet)[order]
    return _KNOWN[key]
