"""CASA's model of the air for single-dish corrections, and what the observatory wrote down about the air."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.heuristics.atmosphere import AirModel, resampled
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
    """One model in one window: airmasses [node], brightness [node, channel] in K (Rayleigh-Jeans), zenith opacity."""

    nodes: Array
    brightness_k: Array
    opacity: Array


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


def model_air(
    casa: Any, model: AirModel, ground: Ground, frequency_hz: ArrayLike, airmasses: ArrayLike, maxalt_km: float = 120.0
) -> Air:
    """Brightness and opacity of one model on the channels of a window, computed once for a few airmasses."""
    frequency, nodes = np.asarray(frequency_hz, dtype=float), np.asarray(airmasses, dtype=float)
    low, high = float(frequency.min()), float(frequency.max())
    count = min(frequency.size, MOST_CHANNELS)
    step = (high - low) / (count - 1)
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
            spectrum = np.asarray(tool.getTrjSkySpec(0)[1]["value"], dtype=float)
            rows.append(np.interp(frequency, axis[order], spectrum[order]))
        # The tool gives the wet opacity of the water that was set last.
        return Air(nodes, np.stack(rows), np.interp(frequency, axis[order], (dry + wet)[order]))
    finally:
        tool.done()
