"""ALMA total power: on-the-fly rasters of a Gaussian cloud, with OFF positions, loads and several antennas."""

from __future__ import annotations

import math

import attrs

from pl_sim.alma import AlmaInstrument
from pl_sim.asdm import Project
from pl_sim.observation import Array, Line, Observation, Scan, Source, Subscan
from pl_sim.presets import preset
from pl_sim.presets.alma import (
    BAND_6,
    CO_2_1_HZ,
    LOAD_INTENTS,
    TARGET_POSITION,
    TDM_CHANNEL_HZ,
    array,
    execution_block,
    standard_goals,
    topocentric,
    windows,
    with_averages,
)
from pl_sim.singledish import BaselineShape, LineCloud, Raster, SingleDish

CO13_2_1_HZ = 220.3986842e9
INTEGRATION_S = 0.576
ON = ("OBSERVE_TARGET#ON_SOURCE",)
OFF = ("OBSERVE_TARGET#OFF_SOURCE",)
JY_PER_K = 41.0
"""Gain of a 12 m antenna at 230 GHz as the observatory's catalogue lists it."""

OFF_ARCSEC = (1200.0, 600.0)

PLANS = {
    "tiny": (2, 256, Raster(150.0, 150.0, 28, 15, OFF_ARCSEC, maps=1)),
    "small": (3, 512, Raster(180.0, 180.0, 40, 19, OFF_ARCSEC, maps=2)),
    "full": (4, 2048, Raster(300.0, 300.0, 100, 35, OFF_ARCSEC, maps=8)),
}


@preset("alma-tp-b6", "ALMA total power, band 6: CO(2-1) and 13CO(2-1) rasters of a cloud")
def total_power(scale: str) -> Observation:
    antennas, channels, raster = PLANS[scale]
    start = "2023-06-20T04:40:00"
    full = array("aca.tp", 4, "TP", ("PM",))
    place = Array(
        full.telescope,
        full.configuration,
        tuple(attrs.evolve(a, name=f"PM{k:02d}") for k, a in enumerate(full.antennas[:antennas], start=1)),
        full.elevation_limit_deg,
    )
    clouds = (
        LineCloud(CO_2_1_HZ, peak_k=10.0, fwhm=32.0, velocity=30.0, width=12.0, x=8.0, y=-6.0),
        LineCloud(CO13_2_1_HZ, peak_k=6.0, fwhm=32.0, velocity=30.0, width=12.0, x=8.0, y=-6.0),
    )
    tuned = [topocentric(c.rest_hz, c.velocity * 1e3, place, start, TARGET_POSITION) for c in clouds]
    channel_hz = 125e6 / 256
    spws = (
        *windows(BAND_6, 1, 230.4e9, TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 3, 220.4e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 1, tuned[0], channel_hz, channels),
        *windows(BAND_6, 3, tuned[1], -channel_hz, channels),
    )
    dish = SingleDish(clouds, BaselineShape(polynomial_k=(0.0, 0.15, 0.10), ripple_k=0.04))
    return execution_block(
        "alma-tp-b6",
        place,
        spws,
        _sources(place, clouds, dish, spws[4].centre_hz),
        _scans(raster, with_averages(spws, (0, 2)), with_averages(spws, (4, 6))),
        start,
        AlmaInstrument(
            receiver_k=55.0,
            receiver_scatter=0.07,
            gain_drift=0.01,
            gain_drift_s=600.0,
            jy_per_k=JY_PER_K,
            fluctuation_mm=0.0,
        ),
        Project(
            observing_mode="Standard Single Dish",
            configuration="TP",
            science_goals=standard_goals("SimLine", spws[4].name, tuned[0]),
        ),
        integration_s=INTEGRATION_S,
        dish=dish,
    )


def _sources(place: Array, clouds: tuple[LineCloud, ...], dish: SingleDish, frequency_hz: float) -> tuple[Source, ...]:
    ra, dec = TARGET_POSITION
    beam = math.degrees(dish.beam_factor * 299_792_458.0 / frequency_hz / place.antennas[0].diameter_m) * 3600
    lines = tuple(
        Line(
            c.rest_hz,
            c.flux_jy(JY_PER_K, beam),
            c.velocity * 1e3,
            c.width * 1e3,
            east_arcsec=c.x,
            north_arcsec=c.y,
            size_arcsec=c.fwhm,
            transition=name,
            name=name,
        )
        for c, name in zip(clouds, ("CO_v_0_2_1(ID=3768098)", "13CO_v_0_2_1(ID=3770006)"), strict=True)
    )
    east, north = OFF_ARCSEC
    off = ra + east / 3600 / math.cos(math.radians(dec)), dec + north / 3600
    velocity = clouds[0].velocity * 1e3
    return (
        Source("SimLine", ra, dec, lines=lines, code="none", velocity_ms=velocity),
        Source("SimLine_OFF_0", *off, code="none", velocity_ms=velocity),
    )


def _scans(raster: Raster, tsys: tuple[int, ...], science: tuple[int, ...]) -> list[Scan]:
    scans: list[Scan] = []
    for index in range(raster.maps):
        loads = tuple(
            Subscan("SimLine_OFF_0", 5 * INTEGRATION_S, intents, kind="load", label=load, gap_s=1.0)
            for load, intents in LOAD_INTENTS
        )
        scans.append(Scan(len(scans) + 1, loads, tsys, gap_s=5.0))
        scans.append(raster.scan(len(scans) + 1, index, science, INTEGRATION_S, "SimLine", "SimLine_OFF_0", ON, OFF))
    return scans
