"""ALMA interferometry: bands 3 and 6, TDM and FDM, mosaic, polarization, sessions, 12 m and 7 m arrays.

Flux densities, distances of scans and source sizes are chosen so that CASA alone can find the truth from a few
antennas:
calibrators strong enough for a phase per integration, targets compact against the beam.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import frozen

from pl_sim import wvr
from pl_sim.alma import AlmaInstrument, AlmaSystem
from pl_sim.asdm import Project
from pl_sim.geometry import Geometry
from pl_sim.observation import (
    LINEAR,
    Antenna,
    Array,
    Atmosphere,
    Component,
    Field,
    Line,
    Noise,
    Observation,
    Receiver,
    Scan,
    Source,
    Spw,
    Subscan,
)
from pl_sim.presets import preset
from pl_sim.schedule import mjd_seconds
from pl_sim.singledish import SingleDish

CENTRE_OF_ARRAY_M = (2225015.30883296, -5440016.41799762, -2481631.27428014)
"""Reference of the pad positions in casadata's ALMA configurations (ITRF)."""

BAND_3 = Receiver("ALMA_RB_03", 84e9, 116e9)
BAND_6 = Receiver("ALMA_RB_06", 211e9, 275e9)
RADIOMETER = Receiver("WVR", 175e9, 195e9)

CO_2_1_HZ = 230.538e9
TDM_CHANNEL_HZ = 15.625e6
INTEGRATION_S = 6.048
DUAL = ("XX", "YY")

LOAD_INTENTS = tuple(
    (load, (f"CALIBRATE_ATMOSPHERE#{load}", f"CALIBRATE_WVR#{load}")) for load in ("OFF_SOURCE", "AMBIENT", "HOT")
)
BANDPASS = ("CALIBRATE_BANDPASS#ON_SOURCE", "CALIBRATE_FLUX#ON_SOURCE", "CALIBRATE_WVR#ON_SOURCE")
PHASE = ("CALIBRATE_PHASE#ON_SOURCE", "CALIBRATE_WVR#ON_SOURCE")
CHECK = ("OBSERVE_CHECK_SOURCE#ON_SOURCE", "CALIBRATE_WVR#ON_SOURCE")
POLARIZATION = ("CALIBRATE_POLARIZATION#ON_SOURCE", "CALIBRATE_WVR#ON_SOURCE")
TARGET = ("OBSERVE_TARGET#ON_SOURCE",)


def degrees(hms: str, dms: str) -> tuple[float, float]:
    """Right ascension and declination in degrees from "hh:mm:ss.s" and "±dd:mm:ss.s"."""
    hour, minute, second = (float(x) for x in hms.split(":"))
    degree, arcminute, arcsecond = (float(x) for x in dms.lstrip("+-").split(":"))
    sign = -1.0 if dms.startswith("-") else 1.0
    return 15 * (hour + minute / 60 + second / 3600), sign * (degree + arcminute / 60 + arcsecond / 3600)


BANDPASS_POSITION = degrees("19:24:51.0560", "-29:14:30.121")
PHASE_POSITION = degrees("18:32:11.0465", "-20:39:48.200")
CHECK_POSITION = degrees("18:51:20.0000", "-18:06:00.000")
TARGET_POSITION = degrees("18:40:00.0000", "-21:00:00.000")


# ---- parts
def pads(configuration: str) -> list[tuple[str, tuple[float, float, float], float]]:
    """(pad, east-north-up position in m, dish diameter in m) of a configuration file of casadata, nearest pad
    first."""
    import casadata

    found = []
    path = Path(casadata.datapath) / "alma" / "simmos" / f"{configuration}.cfg"
    for text in path.read_text().splitlines():
        words = text.split()
        if len(words) >= 5 and not text.startswith("#"):
            east, north, up = (float(word) for word in words[:3])
            found.append((words[4], (east, north, up), float(words[3])))
    middle = np.median([place for _, place, _ in found], axis=0)
    return sorted(found, key=lambda pad: math.dist(pad[1][:2], middle[:2]))


def array(configuration: str, count: int, label: str, prefix: tuple[str, ...]) -> Array:
    """`count` antennas spread evenly over the radii of a configuration, named from the prefixes in turn."""
    available = pads(configuration)
    chosen = [available[k] for k in np.unique(np.linspace(0, len(available) - 1, count).round().astype(int))]
    reference = np.array(CENTRE_OF_ARRAY_M)
    positions = Geometry(reference[None], reference).from_local(np.array([place for _, place, _ in chosen]))
    antennas = tuple(
        Antenna(
            f"{prefix[k % len(prefix)]}{41 + k:02d}",
            pad,
            (float(position[0]), float(position[1]), float(position[2])),
            diameter,
        )
        for k, ((pad, _, diameter), position) in enumerate(zip(chosen, positions, strict=True))
    )
    # CASA images ALMA data with the beam of a uniformly lit dish of 10.7 m: 1.03 lambda / 10.7 m = 1.155 lambda /
    # 12 m.
    return Array("ALMA", label, antennas, elevation_limit_deg=15.0, beam_factor=1.155)


def radiometer_window() -> Spw:
    """The window of the water-vapour radiometers: always the first of an execution block."""
    return Spw(
        name=wvr.SPW_NAME,
        receiver=RADIOMETER,
        start_hz=float(wvr.CHANNEL_FREQ_HZ[0]),
        channel_hz=1.5e9,
        channels=4,
        bbc_no=0,
        correlations=("XX",),
        net_sideband=3,
        role="wvr",
        frequencies_hz_override=tuple(float(f) for f in wvr.CHANNEL_FREQ_HZ),
    )


def windows(
    receiver: Receiver,
    baseband: int,
    centre_hz: float,
    channel_hz: float,
    channels: int,
    correlations: tuple[str, ...] = DUAL,
) -> tuple[Spw, Spw]:
    """A spectral window and its channel average. A negative channel width is a lower sideband, whose axis
    descends."""
    name = f"X0000000101#{receiver.name}#BB_{baseband}#SW-01"
    full = Spw(
        name=f"{name}#FULL_RES",
        receiver=receiver,
        start_hz=centre_hz - channel_hz * (channels - 1) / 2,
        channel_hz=channel_hz,
        channels=channels,
        baseband=f"BB_{baseband}",
        bbc_no=baseband,
        correlations=correlations,
        net_sideband=2 if channel_hz > 0 else 1,
        window_function="HANNING",
    )
    mean = attrs.evolve(
        full, name=f"{name}#CH_AVG", start_hz=centre_hz, channel_hz=channel_hz * channels, channels=1, role="average"
    )
    return full, mean


def topocentric(rest_hz: float, velocity_ms: float, place: Array, start: str, position: tuple[float, float]) -> float:
    """Frequency (Hz, TOPO) at which a line of this LSRK radio velocity is observed."""
    ratio = Geometry(place.positions_m).topocentric_over_lsrk(
        np.array([mjd_seconds(start)]), math.radians(position[0]), math.radians(position[1])
    )
    return float(rest_hz * (1 - velocity_ms / 299_792_458.0) * ratio[0])


def point(flux_jy: float, reference_hz: float, index: float = 0.0, **more: Any) -> Component:
    return Component(flux_jy, reference_hz, (index,) if index else (), **more)


@frozen
class Plan:
    """How long things take, in integrations; cycles: phase calibrator - target pairs."""

    antennas: int
    bandpass: int
    phase: int
    target: int
    cycles: int
    check: int = 4
    gap_s: float = 30.0


class Schedule:
    """Builds numbered scans in the order in which they are asked for."""

    def __init__(self, plan: Plan, tsys: tuple[int, ...], science: tuple[int, ...], integration_s: float) -> None:
        self.scans: list[Scan] = []
        self._plan, self._tsys, self._science, self._dt = plan, tsys, science, integration_s

    def atmosphere(self, name: str) -> None:
        """Sky, ambient and hot load at a field."""
        subscans = tuple(
            Subscan(name, self._dt, intents, kind="load", label=load, gap_s=2.0) for load, intents in LOAD_INTENTS
        )
        self._add(subscans, self._tsys, 8.0)

    def observe(
        self, names: tuple[str, ...], integrations: int, intents: tuple[str, ...], gap_s: float | None = None
    ) -> None:
        """A scan that visits the fields in turn."""
        subscans = tuple(Subscan(name, integrations * self._dt, intents) for name in names)
        self._add(subscans, self._science, self._plan.gap_s if gap_s is None else gap_s)

    def _add(self, subscans: tuple[Subscan, ...], spws: tuple[int, ...], gap_s: float) -> None:
        self.scans.append(Scan(len(self.scans) + 1, subscans, spws, gap_s))


def with_averages(spws: tuple[Spw, ...], chosen: tuple[int, ...]) -> tuple[int, ...]:
    """These windows, their averages, and the radiometers where there are any."""
    averages = [k + 1 for k in chosen if k + 1 < len(spws) and spws[k + 1].role == "average"]
    radiometers = [k for k, spw in enumerate(spws) if spw.role == "wvr"]
    return tuple(sorted({*radiometers, *chosen, *averages}))


def standard_goals(source: str, window: str, frequency_hz: float) -> tuple[str, ...]:
    return (
        f"representativeFrequency = {frequency_hz / 1e9:.6f} GHz",
        "minAcceptableAngResolution = 0.4 arcsec",
        "maxAcceptableAngResolution = 3.0 arcsec",
        "dynamicRange = 100.0",
        "representativeBandwidth = 2.0 MHz",
        f"representativeSource = {source}",
        f"representativeWindow = {window}",
        "sensitivityGoal = 2.0 mJy",
        "maxAllowedBeamAxialRatio = 2.5",
        "spectralDynamicRangeBandWidth = 2.0 MHz",
        f"SBName = {source}_a_TM1",
    )


def execution_block(
    name: str,
    place: Array,
    spws: tuple[Spw, ...],
    sources: tuple[Source, ...],
    scans: list[Scan],
    start: str,
    instrument: AlmaInstrument,
    project: Project,
    *,
    fields: tuple[Field, ...] = (),
    primary_beam: bool = False,
    model_seed: int = 1,
    number: int = 1,
    integration_s: float = INTEGRATION_S,
    dish: SingleDish | None = None,
) -> Observation:
    """An observation with everything ALMA records; with a `dish`, of total power."""
    site = instrument.site
    return Observation(
        name=name,
        array=place,
        spws=spws,
        sources=sources,
        fields=fields,
        scans=tuple(scans),
        start=start,
        integration_s=integration_s,
        instrument=instrument,
        atmosphere=Atmosphere(
            temperature_k=site.temperature_k,
            pressure_hpa=site.pressure_hpa,
            humidity_percent=site.humidity_percent,
            dew_point_k=251.0,
            wind_speed_ms=6.0,
            pwv_mm=instrument.pwv_mm,
        ),
        noise=Noise(efficiency=1.0 if dish else 0.88),
        extensions=(AlmaSystem(project, radiometers=False), dish) if dish else (AlmaSystem(project),),
        engine="single-dish" if dish else "interferometer",
        primary_beam=primary_beam,
        model_seed=model_seed,
        direction_frame="ICRS",
        observer="simalma",
        project="uid://A001/X5a1d/X1",
        scheduling_block="uid://A001/X5a1d/X2",
        execution_block=f"uid://A002/X5a1d/X{number}",
        processor=(("CORRELATOR", "ALMA_CORRELATOR_MODE"), ("RADIOMETER", "ALMA_RADIOMETER")),
        notes={
            "writer": {
                "pointing_frame": "AZELGEO",
                "pointing_offsets": True,
                "data_column": "FLOAT_DATA" if dish else "DATA",
            },
            "pointing": False,
            "no_transition": "Manual_window(ID=0)",
        },
    )


def standard_scans(
    plan: Plan,
    spws: tuple[Spw, ...],
    tsys: tuple[int, ...],
    science: tuple[int, ...],
    target: tuple[str, ...] = ("SimDisk",),
    check: bool = True,
) -> list[Scan]:
    """Bandpass and flux calibrator first, then phase calibrator and target in turn, the check source once."""
    schedule = Schedule(plan, with_averages(spws, tsys), with_averages(spws, science), INTEGRATION_S)
    schedule.atmosphere("J1924-2914")
    schedule.observe(("J1924-2914",), plan.bandpass, BANDPASS)
    schedule.atmosphere("J1832-2039")
    for cycle in range(plan.cycles):
        schedule.observe(("J1832-2039",), plan.phase, PHASE)
        if check and cycle == plan.cycles // 2:
            schedule.observe(("J1851-1806",), plan.check, CHECK)
            schedule.observe(("J1832-2039",), plan.phase, PHASE)
        if cycle % 4 == 0:
            schedule.atmosphere(target[0])
        schedule.observe(target, plan.target, TARGET)
    schedule.observe(("J1832-2039",), plan.phase, PHASE)
    return schedule.scans


def calibrators(
    reference_hz: float, bandpass_jy: float = 3.2, phase_jy: float = 1.0, check_jy: float = 0.8
) -> tuple[Source, ...]:
    """The bandpass and flux calibrator, the phase calibrator and the check source."""
    return (
        Source("J1924-2914", *BANDPASS_POSITION, (point(bandpass_jy, reference_hz, -0.6),), code="none"),
        Source("J1832-2039", *PHASE_POSITION, (point(phase_jy, reference_hz, -0.7),), code="none"),
        Source("J1851-1806", *CHECK_POSITION, (point(check_jy, reference_hz, -0.7),), code="none"),
    )


# ---- presets
B6_PLANS = {
    "tiny": Plan(8, 12, 4, 8, 2),
    "small": Plan(16, 16, 4, 14, 4, check=6),
    "full": Plan(43, 50, 5, 60, 8, check=10),
}


@preset("alma-b6", "ALMA 12 m, band 6: continuum in TDM, CO(2-1) in FDM, check source")
def band_6(scale: str) -> Observation:
    plan = B6_PLANS[scale]
    start = "2023-06-10T05:10:00"
    place = array("alma.cycle10.3", plan.antennas, "C-3", ("DA", "DV"))
    velocity = 20e3
    line_hz = topocentric(CO_2_1_HZ, velocity, place, start, TARGET_POSITION)
    channels = {"tiny": 240, "small": 240, "full": 1920}[scale]
    spws = (
        radiometer_window(),
        *windows(BAND_6, 1, 230.4e9, TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 2, 232.2e9, TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 3, 216.4e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 4, 218.2e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 1, line_hz, 0.9765625e6, channels),
    )
    target = Source(
        "SimDisk",
        *TARGET_POSITION,
        components=(
            point(0.100, 225e9, 2.0, name="star"),
            point(
                0.060, 225e9, 3.0, east_arcsec=-3.0, north_arcsec=2.0, major_arcsec=0.6, minor_arcsec=0.6, name="clump"
            ),
        ),
        lines=(
            Line(
                CO_2_1_HZ,
                2.5,
                velocity,
                40e3,
                size_arcsec=0.8,
                gradient_arcsec_per_kms=0.005,
                gradient_angle_deg=30.0,
                transition="CO_v_0_2_1(ID=3768098)",
                name="CO(2-1)",
            ),
        ),
        code="none",
        velocity_ms=velocity,
    )
    project = Project(configuration="C-3", science_goals=standard_goals("SimDisk", spws[9].name, line_hz))
    scans = standard_scans(plan, spws, (1, 3, 5, 7), (3, 5, 7, 9))
    return execution_block(
        "alma-b6", place, spws, (*calibrators(230e9), target), scans, start, AlmaInstrument(receiver_k=50.0), project
    )


B3_PLANS = {
    "tiny": Plan(8, 10, 3, 8, 2, check=3),
    "small": Plan(16, 16, 4, 14, 4),
    "full": Plan(43, 50, 5, 60, 6, check=10),
}


def _band_3(scale: str, start: str, session: str, number: int) -> Observation:
    plan = B3_PLANS[scale]
    place = array("alma.cycle10.4", plan.antennas, "C-4", ("DA", "DV"))
    spws = (
        radiometer_window(),
        *windows(BAND_3, 1, 90.5e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_3, 2, 92.4e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_3, 3, 102.5e9, TDM_CHANNEL_HZ, 128),
        *windows(BAND_3, 4, 104.4e9, TDM_CHANNEL_HZ, 128),
    )
    target = Source(
        "SimDisk",
        *TARGET_POSITION,
        components=(
            point(0.300, 97.5e9, -0.7, name="core"),
            point(0.250, 97.5e9, 1.0, east_arcsec=3.0, north_arcsec=4.0, name="knot"),
        ),
        code="none",
    )
    science = (1, 3, 5, 7)
    project = Project(
        configuration="C-4",
        band="ALMA_RB_03",
        lo_hz=(97.45e9, 8.0e9, 4.0e9),
        session=session,
        science_goals=standard_goals("SimDisk", spws[1].name, 97.5e9),
    )
    scans = standard_scans(plan, spws, science, science)
    return execution_block(
        "alma-b3",
        place,
        spws,
        (*calibrators(100e9), target),
        scans,
        start,
        AlmaInstrument(receiver_k=45.0, pwv_mm=2.5, fluctuation_mm=0.03),
        project,
        model_seed=number,
        number=number,
    )


@preset("alma-b3", "ALMA 12 m, band 3: continuum in TDM, check source")
def band_3(scale: str) -> Observation:
    return _band_3(scale, "2023-06-10T05:10:00", "uid://A001/X5a1d/X101", 1)


@preset("alma-b3-sessions", "ALMA 12 m, band 3: two execution blocks of two sessions")
def sessions(scale: str) -> tuple[Observation, ...]:
    days = ("2023-06-10T05:10:00", "2023-06-11T05:30:00")
    return tuple(
        attrs.evolve(_band_3(scale, start, f"uid://A001/X5a1d/X10{number}", number), name=f"alma-b3-eb{number}")
        for number, start in enumerate(days, start=1)
    )


MOSAIC_PLANS = {
    "tiny": Plan(8, 10, 3, 2, 2),
    "small": Plan(14, 12, 4, 4, 4),
    "full": Plan(43, 50, 5, 6, 8),
}


@preset("alma-b3-mosaic", "ALMA 12 m, band 3: mosaic of seven pointings")
def mosaic(scale: str) -> Observation:
    plan = MOSAIC_PLANS[scale]
    place = array("alma.cycle10.2", plan.antennas, "C-2", ("DA", "DV"))
    spws = (
        radiometer_window(),
        *windows(BAND_3, 1, 92.4e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_3, 3, 102.5e9, TDM_CHANNEL_HZ, 128),
    )
    # Hexagon at 0.51 of the primary beam of 60 arcsec: the spacing the observing tool chooses.
    spacing = 29.0
    offsets = [(0.0, 0.0)] + [
        (spacing * math.cos(math.radians(60 * k)), spacing * math.sin(math.radians(60 * k))) for k in range(6)
    ]
    ra, dec = TARGET_POSITION
    fields = tuple(
        Field(f"SimCloud_{k}", "SimCloud", ra + east / 3600 / math.cos(math.radians(dec)), dec + north / 3600)
        for k, (east, north) in enumerate(offsets)
    )
    target = Source(
        "SimCloud",
        ra,
        dec,
        components=(
            point(0.150, 97.5e9, -0.7, east_arcsec=3.0, north_arcsec=2.0, name="middle"),
            point(0.120, 97.5e9, 0.5, east_arcsec=-26.0, north_arcsec=4.0, name="west"),
            point(0.090, 97.5e9, 0.0, east_arcsec=15.0, north_arcsec=-24.0, name="south"),
        ),
        code="none",
    )
    sources = (*calibrators(100e9)[:2], target)
    plain = tuple(Field(s.name, s.name, s.ra_deg, s.dec_deg, s.code) for s in sources[:2])
    project = Project(
        configuration="C-2",
        band="ALMA_RB_03",
        lo_hz=(97.45e9, 8.0e9, 4.0e9),
        science_goals=standard_goals("SimCloud", spws[1].name, 97.5e9),
    )
    scans = standard_scans(plan, spws, (1, 3), (1, 3), tuple(f.name for f in fields), check=False)
    return execution_block(
        "alma-b3-mosaic",
        place,
        spws,
        sources,
        scans,
        "2023-06-10T05:10:00",
        AlmaInstrument(receiver_k=45.0, pwv_mm=2.5, fluctuation_mm=0.05),
        project,
        fields=(*plain, *fields),
        primary_beam=True,
    )


POLARIZATION_PLANS = {
    "tiny": Plan(8, 8, 3, 8, 2),
    "small": Plan(14, 12, 4, 12, 4),
    "full": Plan(43, 50, 5, 60, 6),
}


@preset("alma-b3-pol", "ALMA 12 m, band 3: full polarization, calibrator followed over parallactic angle")
def polarization(scale: str) -> Observation:
    plan = POLARIZATION_PLANS[scale]
    place = array("alma.cycle10.3", plan.antennas, "C-3", ("DA", "DV"))
    spws = (
        radiometer_window(),
        *windows(BAND_3, 1, 92.4e9, -31.25e6, 64, LINEAR),
        *windows(BAND_3, 3, 102.5e9, 31.25e6, 64, LINEAR),
    )
    phase = calibrators(100e9, phase_jy=1.2)[1]
    pol = Source(
        "J1924-2914",
        *BANDPASS_POSITION,
        (point(4.0, 100e9, -0.6, polarized_fraction=0.08, polarization_angle_deg=40.0),),
        code="none",
    )
    target = Source(
        "SimDisk",
        *TARGET_POSITION,
        (point(0.200, 97.5e9, -0.7, polarized_fraction=0.10, polarization_angle_deg=-30.0, name="core"),),
        code="none",
    )
    tsys = with_averages(spws, (1, 3))
    schedule = Schedule(plan, tsys, tsys, INTEGRATION_S)
    schedule.atmosphere("J1924-2914")
    schedule.observe(("J1924-2914",), plan.bandpass, BANDPASS)
    for cycle in range(plan.cycles):
        if cycle:
            schedule.atmosphere("J1924-2914")
        schedule.observe(("J1924-2914",), plan.phase + 1, POLARIZATION, gap_s=900.0)
        schedule.atmosphere("J1832-2039")
        schedule.observe(("J1832-2039",), plan.phase, PHASE)
        schedule.atmosphere("SimDisk")
        schedule.observe(("SimDisk",), plan.target, TARGET)
        schedule.observe(("J1832-2039",), plan.phase, PHASE, gap_s=900.0)
    schedule.atmosphere("J1924-2914")
    schedule.observe(("J1924-2914",), plan.phase + 1, POLARIZATION)
    project = Project(
        configuration="C-3",
        band="ALMA_RB_03",
        lo_hz=(97.45e9, 8.0e9, 4.0e9),
        science_goals=standard_goals("SimDisk", spws[1].name, 97.5e9),
    )
    return execution_block(
        "alma-b3-pol",
        place,
        spws,
        (pol, phase, target),
        schedule.scans,
        "2023-06-10T03:40:00",
        AlmaInstrument(receiver_k=45.0, pwv_mm=2.5, fluctuation_mm=0.03, leakage=0.02),
        project,
    )


SEVEN_PLANS = {
    "tiny": Plan(8, 12, 4, 8, 2, check=4),
    "small": Plan(10, 20, 5, 16, 4, check=8),
    "full": Plan(10, 50, 5, 60, 8, check=10),
}


@preset("alma-7m-b6", "ALMA 7 m array, band 6: continuum and CO(2-1) of an extended target")
def seven_metre(scale: str) -> Observation:
    plan = SEVEN_PLANS[scale]
    start = "2023-06-10T05:10:00"
    # The 7 m antennas carry no radiometers; their baselines are too short to need them.
    place = array("aca.cycle10", plan.antennas, "7M", ("CM",))
    velocity = 20e3
    line_hz = topocentric(CO_2_1_HZ, velocity, place, start, TARGET_POSITION)
    spws = (
        *windows(BAND_6, 1, 230.4e9, TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 2, 232.2e9, TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 3, 216.4e9, -TDM_CHANNEL_HZ, 128),
        *windows(BAND_6, 1, line_hz, 0.9765625e6, 240),
    )
    target = Source(
        "SimDisk",
        *TARGET_POSITION,
        components=(
            point(0.400, 225e9, 2.0, name="star"),
            point(
                0.300,
                225e9,
                3.0,
                east_arcsec=-22.0,
                north_arcsec=16.0,
                major_arcsec=3.0,
                minor_arcsec=3.0,
                name="clump",
            ),
        ),
        lines=(
            Line(
                CO_2_1_HZ,
                12.0,
                velocity,
                40e3,
                size_arcsec=4.0,
                gradient_arcsec_per_kms=0.03,
                gradient_angle_deg=30.0,
                transition="CO_v_0_2_1(ID=3768098)",
                name="CO(2-1)",
            ),
        ),
        code="none",
        velocity_ms=velocity,
    )
    project = Project(configuration="7M", science_goals=standard_goals("SimDisk", spws[6].name, line_hz))
    scans = standard_scans(plan, spws, (0, 2, 4), (2, 4, 6))
    return execution_block(
        "alma-7m-b6",
        place,
        spws,
        (*calibrators(230e9, 6.0, 3.0, 2.0), target),
        scans,
        start,
        AlmaInstrument(receiver_k=55.0, jy_per_k=110.0),
        project,
    )
