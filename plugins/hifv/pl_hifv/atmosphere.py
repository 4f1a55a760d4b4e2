"""The opacity of the air above the array, from CASA's model of the atmosphere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np

from pl_hifv.heuristics import opacity
from pl_kernel.ms.model import MeasurementSet, SpectralWindow

_CURVE_POINTS = 48
"""Of the curve of a band that the page shows."""


@attrs.frozen(kw_only=True)
class Opacity:
    """Zenith opacity of one window, in nepers."""

    vis: str
    spw: int
    frequency_hz: float
    tau: float
    band: str = ""


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


@attrs.frozen(kw_only=True)
class OpacityCurve:
    """Zenith opacity of dry air and of water (nepers) against frequency, over the windows of one band."""

    vis: str
    band: str
    frequency_hz: tuple[float, ...] = attrs.field(converter=_floats)
    dry: tuple[float, ...] = attrs.field(converter=_floats)
    wet: tuple[float, ...] = attrs.field(converter=_floats)


def water(ms: MeasurementSet, given: float | None) -> tuple[float, str]:
    """Water above the array in mm, and where the number is from."""
    if given is not None:
        return given, "given by the user"
    weather = ms.weather
    surface = (
        opacity.surface_pwv_mm(weather.temperature_k, weather.humidity_percent) if weather is not None else float("nan")
    )
    return opacity.pwv_mm(ms.start.timetuple().tm_yday, surface)


def opacities(ctx: Any, ms: MeasurementSet, pwv_mm: float) -> tuple[tuple[Opacity, ...], tuple[OpacityCurve, ...]]:
    """Opacity of each window at its centre, and curves over the windows of each band, at the height of the site."""
    with _model(ctx, ms, pwv_mm) as ask:
        found = tuple(
            Opacity(
                vis=ms.name, spw=int(w.id), frequency_hz=w.centre_hz, band=w.band,
                tau=sum(float(part[0]) for part in ask(w.centre_hz, w.bandwidth_hz, 1)[1:]),
            )
            for w in ms.spws
        )  # fmt: skip
        curves = []
        for band in dict.fromkeys(w.band for w in sorted(ms.spws, key=lambda w: w.centre_hz)):
            low, high = _span([w for w in ms.spws if w.band == band])
            frequency, dry, wet = ask((low + high) / 2, high - low, _CURVE_POINTS)
            curves.append(OpacityCurve(vis=ms.name, band=band, frequency_hz=frequency, dry=dry, wet=wet))
    return found, tuple(curves)


def _span(windows: Iterable[SpectralWindow]) -> tuple[float, float]:
    """From the lowest to the highest channel, and a little beyond."""
    edges = [(w.min_hz, w.max_hz) for w in windows]
    low, high = min(e[0] for e in edges), max(e[1] for e in edges)
    margin = 0.1 * (high - low)
    return max(low - margin, 0.5 * low), high + margin


@contextmanager
def _model(ctx: Any, ms: MeasurementSet, pwv_mm: float) -> Iterator[Any]:
    """Give a function of centre and width (Hz) and a number of channels (or one more, if CASA rounds up).

    It returns frequency (Hz), dry and wet opacity of each channel.
    """
    site = ctx.telescope(ms).site
    height = site.height_m if site else opacity.ALTITUDE_M
    weather = ms.weather
    temperature = (weather.temperature_k if weather else None) or 285.0
    # Pressure of the standard atmosphere at this height, where none was recorded.
    pressure = (weather.pressure_hpa if weather else None) or 1013.25 * (1 - 2.25577e-5 * height) ** 5.25588
    humidity = (weather.humidity_percent if weather else None) or 30.0
    tool, quanta = ctx.casa.tool("atmosphere"), ctx.casa.tool("quanta")

    def ask(centre_hz: float, width_hz: float, channels: int) -> tuple[np.ndarray, ...]:
        centre, width, step = (quanta.quantity(v / 1e9, "GHz") for v in (centre_hz, width_hz, width_hz / channels))
        tool.initSpectralWindow(1, centre, width, step)
        tool.setUserWH2O(quanta.quantity(pwv_mm, "mm"))
        _, dry = tool.getDryOpacitySpec(0)
        _, wet = tool.getWetOpacitySpec(0)
        frequency = tool.getSpectralWindow(0)  # in Hz
        return tuple(np.atleast_1d(np.asarray(v, float)) for v in (frequency["value"], dry, wet["value"]))

    try:
        tool.initAtmProfile(
            altitude=quanta.quantity(height, "m"), temperature=quanta.quantity(temperature, "K"),
            pressure=quanta.quantity(pressure, "mbar"), humidity=humidity,
        )  # fmt: skip
        yield ask
    finally:
        tool.done()
        quanta.done()
