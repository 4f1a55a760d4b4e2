"""CASA's model of the air for single-dish corrections, and what the observatory wrote down about the air."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.heuristics.atmosphere import AirModel, beside_the_sky, coarse_calibration, resampled
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet

Array = NDArray[Any]
CALATMOSPHERE, CALWVR = "ASDM_CALATMOSPHERE", "ASDM_CALWVR"
MOST_CHANNELS = 512
"""The tool takes milliseconds for each channel; windows with more are computed on a coarser grid."""


@attrs.frozen(kw_only=True)
class Ground:
    """Medians of what was measured at the ground (K, hPa, %), the water column (mm), the height of the site (m)."""

    temperature_k: float
    pressure_hpa: float
    humidity_percent: float
    water_mm: float
    height_m: float


@attrs.frozen(eq=False)
class Air:
    """One model in one window: airmasses [node], brightness [node, channel] in K (Rayleigh-Jeans), zenith opacity, and
    what the coarse channels of Tsys make of calibrated data [node, channel]."""

    nodes: Array
    brightness_k: Array
    opacity: Array
    calibration: Array


@attrs.frozen(eq=False)
class Receiver:
    """Receiver temperature (K) of one antenna, mean of its receptors, on the channels Tsys was measured on (Hz)."""

    frequency_hz: Array
    kelvin: Array


def read_ground(casa: Any, ms: MeasurementSet) -> Ground:
    """Ground values and water vapour from the observatory's calibration of the atmosphere.

    Raises:
        DataError: the tables are not in the measurement set.
    """
    missing = [name for name in (CALATMOSPHERE, CALWVR) if name not in ms.subtables]
    if missing:
        raise DataError(f"{ms.name} lacks {' and '.join(missing)}; import it with these tables (parameter asis)")
    with casa.table(Path(ms.path) / CALATMOSPHERE) as table:
        pressure = float(np.median(table.getcol("groundPressure"))) / 100.0
        kelvin = float(np.median(table.getcol("groundTemperature")))
        humidity = float(np.median(table.getcol("groundRelHumidity")))
    with casa.table(Path(ms.path) / CALWVR) as table:
        water = float(np.median(table.getcol("water"))) * 1e3
    x, y, z = ms.antennas[0].position_m
    height = _height(casa, x, y, z)
    return Ground(
        temperature_k=kelvin, pressure_hpa=pressure, humidity_percent=humidity, water_mm=water, height_m=height
    )


def _height(casa: Any, x: float, y: float, z: float) -> float:
    tool, quantity = casa.tool("measures"), casa.tool("quanta").quantity
    try:
        place = tool.measure(tool.position("ITRF", quantity(x, "m"), quantity(y, "m"), quantity(z, "m")), "WGS84")
        return float(place["m2"]["value"])
    finally:
        tool.done()


def measured_opacity(casa: Any, ms: MeasurementSet, spws: ArrayLike) -> dict[int, Array]:
    """Opacity measured by the observatory on the channels of windows: the median over antennas, times and receptors.

    Windows of a baseband that was not measured are left out.
    """
    with casa.table(Path(ms.path) / CALATMOSPHERE) as table:
        names = [str(n) for n in table.getcol("basebandName")]
        spectra: dict[str, list[tuple[Array, Array]]] = {}
        for row, name in enumerate(names):
            frequency = np.asarray(table.getcell("frequencySpectrum", row), dtype=float)
            tau = np.atleast_2d(np.asarray(table.getcell("tauSpectrum", row), dtype=float))
            if frequency.size and tau.shape[-1] == frequency.size:
                spectra.setdefault(name, []).append((frequency, np.median(tau, axis=0)))
    found = {}
    for spw in np.asarray(spws).tolist():
        window = ms.spw(int(spw))
        rows = [
            resampled(frequency, tau, window.centres_hz) for frequency, tau in spectra.get(f"BB_{window.baseband}", ())
            if frequency.min() <= window.centre_hz <= frequency.max()
        ]  # fmt: skip
        if rows:
            found[int(spw)] = np.median(rows, axis=0)
    return found


def read_receiver(casa: Any, ms: MeasurementSet, spw: int, antenna: str) -> Receiver:
    """What the observatory measured of the receiver in the baseband of a window: the median over times.

    Raises:
        DataError: nothing was measured with this antenna there.
    """
    window, spectra = ms.spw(spw), []
    with casa.table(Path(ms.path) / CALATMOSPHERE) as table:
        names = zip(table.getcol("antennaName"), table.getcol("basebandName"), strict=True)
        for row, name in enumerate(names):
            if name != (antenna, f"BB_{window.baseband}"):
                continue
            frequency = np.asarray(table.getcell("frequencySpectrum", row), dtype=float)
            kelvin = np.atleast_2d(np.asarray(table.getcell("tRecSpectrum", row), dtype=float))
            if frequency.size > 1 and kelvin.shape[-1] == frequency.size:
                order = np.argsort(frequency)
                spectra.append((frequency[order], kelvin.mean(axis=0)[order]))
    near = [item for item in spectra if item[0][0] <= window.centre_hz <= item[0][-1]]
    if not near:
        raise DataError(f"the receiver of {antenna} was not measured in window {spw}")
    same = [kelvin for frequency, kelvin in near if np.array_equal(frequency, near[0][0])]
    return Receiver(near[0][0], np.median(same, axis=0))


def model_air(
    casa: Any, model: AirModel, ground: Ground, frequency_hz: ArrayLike, airmasses: ArrayLike,
    maxalt_km: float = 120.0, receiver: Receiver | None = None,
) -> Air:  # fmt: skip
    """Brightness and opacity of one model on the channels of a window, computed once for a few airmasses.

    With a ``receiver`` also what its coarse Tsys makes of the data; ones without.
    """
    frequency, nodes = np.asarray(frequency_hz, dtype=float), np.asarray(airmasses, dtype=float)
    low, high = float(frequency.min()), float(frequency.max())
    step = (high - low) / (min(frequency.size, MOST_CHANNELS) - 1)
    if receiver is not None:  # channels of Tsys reach beyond the window
        beyond = step * np.ceil(1.5 * float(np.median(np.diff(receiver.frequency_hz))) / step)
        low, high = low - beyond, high + beyond
    axis, brightness, opacity = _spectra(casa, model, ground, (low, high, step), nodes, maxalt_km)
    calibration = np.ones(brightness.shape)
    if receiver is not None:
        kelvin = beside_the_sky(np.interp(axis, receiver.frequency_hz, receiver.kelvin), ground.temperature_k)
        calibration = coarse_calibration(axis, brightness, opacity, nodes, kelvin, receiver.frequency_hz)

    def on_channels(spectrum: Array) -> Array:
        return np.interp(frequency, axis, spectrum)

    return Air(
        nodes, np.stack([on_channels(row) for row in brightness]), on_channels(opacity),
        np.stack([on_channels(row) for row in calibration]),
    )  # fmt: skip


def _spectra(
    casa: Any, model: AirModel, ground: Ground, span: tuple[float, float, float], nodes: Array, maxalt_km: float
) -> tuple[Array, Array, Array]:
    """Frequencies of the tool, ascending, from lowest to highest by a step (all Hz); brightness [node, channel] in K;
    zenith opacity."""
    low, high, step = span
    count = round((high - low) / step) + 1
    tool, quanta = casa.tool("atmosphere"), casa.tool("quanta")
    unit = quanta.quantity
    try:
        tool.initAtmProfile(
            humidity=ground.humidity_percent, temperature=unit(ground.temperature_k, "K"),
            altitude=unit(ground.height_m, "m"), pressure=unit(ground.pressure_hpa, "mbar"), atmType=model.atmtype,
            maxAltitude=unit(maxalt_km, "km"), h0=unit(model.h0, "km"), dTem_dh=unit(model.dtem_dh, "K/km"),
            dP=unit(10.0, "mbar"), dPm=1.2,
        )  # fmt: skip
        tool.initSpectralWindow(1, unit((low + high) / 2, "Hz"), unit(step * count, "Hz"), unit(step, "Hz"))
        tool.setUserWH2O(unit(ground.water_mm, "mm"))
        axis = np.asarray(quanta.convert(tool.getSpectralWindow(0), "Hz")["value"], dtype=float)
        order = np.argsort(axis)
        dry = np.asarray(tool.getDryOpacitySpec(0)[1], dtype=float)
        wet = np.asarray(tool.getWetOpacitySpec(0)[1]["value"], dtype=float)
        rows = []
        for node in nodes:
            tool.setAirMass(float(node))
            rows.append(np.asarray(tool.getTrjSkySpec(0)[1]["value"], dtype=float)[order])
        # The tool gives the wet opacity of the water that was set last.
        return axis[order], np.stack(rows), (dry + wet)[order]
    finally:
        tool.done()
