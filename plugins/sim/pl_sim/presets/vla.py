"""VLA observations: L, C, X and Ka band, configurations A and D, continuum and line, several bands, two blocks.

Every block has the scans of a standard schedule: a set-up scan, a flux, bandpass and polarization-angle calibrator, a
leakage calibrator, and a target between visits to a phase calibrator.
"""

from __future__ import annotations

import attrs
import numpy as np
from attrs import frozen

from pl_sim.evla import (
    BBC_NUMBERS,
    FLUX_CALIBRATORS,
    RECEIVERS,
    LateAntenna,
    SwitchedPower,
    VlaInstrument,
    opacities,
    vla_array,
)
from pl_sim.geometry import Geometry
from pl_sim.observation import SPEED_OF_LIGHT, Atmosphere, Component, Line, Observation, Scan, Source, Spw
from pl_sim.presets import preset
from pl_sim.schedule import mjd_seconds

HI_HZ = 1420.405752e6
HC3N_HZ = 36.392324e9
"""HC3N 4-3."""

WIDTH_HZ = {"L": 64e6}
"""Width of the wide spws where it is not 128 MHz."""

FLUX = ("CALIBRATE_BANDPASS", "CALIBRATE_DELAY", "CALIBRATE_FLUX", "CALIBRATE_POL_ANGLE")
PHASE = ("CALIBRATE_AMPLI", "CALIBRATE_PHASE")


def intents(*names: str) -> tuple[str, ...]:
    """Intents as EVLA data spell them."""
    return tuple(f"{name}#UNSPECIFIED" for name in names)


@frozen
class Size:
    """What a scale means for the VLA."""

    antennas: int
    spws_per_baseband: int
    channels: int
    integration_s: float
    flux_s: float
    leakage_s: float
    phase_s: float
    target_s: float
    visits: int


SIZES = {
    "tiny": Size(8, 2, 32, 5.0, 80, 40, 30, 100, 2),
    "small": Size(14, 4, 64, 5.0, 120, 60, 40, 120, 2),
    "full": Size(27, 8, 64, 3.0, 240, 120, 60, 400, 4),
}


def spectral_windows(
    band: str,
    basebands: dict[str, float],
    count: int,
    channels: int,
    *,
    width_hz: float = 128e6,
    first: int = 0,
    role: str = "science",
) -> tuple[Spw, ...]:
    """`count` adjacent spws per baseband, numbered as the EVLA does. `basebands` maps names to lower edges in Hz."""
    spws: list[Spw] = []
    for name, edge in basebands.items():
        for k in range(count):
            step = width_hz / channels
            spws.append(
                Spw(
                    f"EVLA_{band}#{name}#{first + len(spws)}",
                    RECEIVERS[band],
                    edge + k * width_hz + step / 2,
                    step,
                    channels,
                    name,
                    BBC_NUMBERS[name],
                    role=role,
                )
            )
    return tuple(spws)


# ---- the sky
J1407 = Source("J1407+2827", 211.751643, 28.454081, (Component(2.2, 5e9, (-0.1,)),), code="B")
J1310 = Source(
    "J1310+3220",
    197.619433,
    32.345495,
    (Component(1.2, 5e9, (-0.3,), polarized_fraction=0.035, polarization_angle_deg=-17.0),),
    code="C",
)
# Flat-spectrum quasars in a bright phase, for Ka band, where an integration is noisier.
J1310_BRIGHT = attrs.evolve(J1310, components=(attrs.evolve(J1310.components[0], flux_jy=5.0),))
J1407_BRIGHT = attrs.evolve(J1407, components=(attrs.evolve(J1407.components[0], flux_jy=4.0),))
J0319 = Source("0319+415=3C84", 49.950667, 41.511695, (Component(18.0, 5e9, (-0.5,)),), code="B")
J0137 = Source("J0137+3122", 24.3, 31.37, (Component(1.4, 1.5e9, (-0.4,)),), code="C")


def target_field(frequency_hz: float, beam_arcsec: float, gaussian: bool) -> Source:
    """Three sources within a few beams of the centre: flat, steep and (with short spacings) extended."""

    def offset(x: float, y: float) -> dict[str, float]:
        return {"east_arcsec": round(x * beam_arcsec, 2), "north_arcsec": round(y * beam_arcsec, 2)}

    components = [
        Component(0.120, frequency_hz, (), name="A", polarized_fraction=0.06, polarization_angle_deg=-20.0),
        Component(
            0.080, frequency_hz, (-0.7,), name="B", **offset(6, 3), polarized_fraction=0.10, polarization_angle_deg=45.0
        ),
    ]
    if gaussian:
        components.append(
            Component(
                0.100,
                frequency_hz,
                (-1.0,),
                name="C",
                **offset(-5, -6),
                major_arcsec=round(1.2 * beam_arcsec, 2),
                minor_arcsec=round(0.8 * beam_arcsec, 2),
                position_angle_deg=30.0,
            )
        )
    return Source("SIM_TARGET", 200.0, 31.5, tuple(components))


def standard_scans(
    size: Size,
    flux: Source,
    leakage: Source | None,
    phase: Source,
    target: Source,
    spws: tuple[int, ...],
    *,
    number: int = 1,
    gap_s: float = 20.0,
) -> tuple[Scan, ...]:
    """The schedule all presets share."""
    rows: list[tuple[str, float, tuple[str, ...]]] = [
        (flux.name, 3 * size.integration_s, intents("SYSTEM_CONFIGURATION")),
        (flux.name, size.flux_s, intents(*FLUX)),
    ]
    if leakage is not None:
        rows.append((leakage.name, size.leakage_s, intents("CALIBRATE_POL_LEAKAGE")))
    for _ in range(size.visits):
        rows += [(phase.name, size.phase_s, intents(*PHASE)), (target.name, size.target_s, intents("OBSERVE_TARGET"))]
    rows.append((phase.name, size.phase_s, intents(*PHASE)))
    return tuple(
        Scan.simple(number + k, field, seconds, what, spws, gap_s) for k, (field, seconds, what) in enumerate(rows)
    )


def observation(
    name: str,
    scale: str,
    configuration: str,
    spws: tuple[Spw, ...],
    sources: tuple[Source, ...],
    scans: tuple[Scan, ...],
    start: str,
    **changes: object,
) -> Observation:
    """An EVLA execution block."""
    size = SIZES[scale]
    array = vla_array(configuration, size.antennas)
    late = array.names[len(array.names) // 3]
    return Observation(
        name=name,
        array=array,
        spws=spws,
        sources=sources,
        scans=scans,
        start=start,
        integration_s=size.integration_s,
        instrument=changes.pop("instrument", VlaInstrument()),  # type: ignore[arg-type]
        atmosphere=changes.pop(
            "atmosphere",
            Atmosphere(  # type: ignore[arg-type]
                opacity=opacities(), phase_screen_m=2e-4 if configuration == "D" else 4e-4
            ),
        ),
        extensions=(SwitchedPower(), LateAntenna(late, size.integration_s)),
        **{"model_seed": 20230510, **changes},  # type: ignore[arg-type]
    )


def _continuum(
    name: str, scale: str, band: str, configuration: str, basebands: dict[str, float], start: str, beam_arcsec: float
) -> Observation:
    size = SIZES[scale]
    spws = spectral_windows(band, basebands, size.spws_per_baseband, size.channels, width_hz=WIDTH_HZ.get(band, 128e6))
    flux, target = (
        FLUX_CALIBRATORS["3C286"],
        target_field(spws[len(spws) // 2].start_hz, beam_arcsec, configuration == "D"),
    )
    scans = standard_scans(size, flux, J1407, J1310, target, tuple(range(len(spws))))
    return observation(name, scale, configuration, spws, (flux, J1407, J1310, target), scans, start)


@preset("vla-c-cont-d", "VLA C band, D configuration: full-polarization continuum, two basebands")
def c_band_d(scale: str) -> Observation:
    return _continuum("vla-c-cont-d", scale, "C", "D", {"A0C0": 4.488e9, "B0D0": 5.488e9}, "2024-01-10T11:10:00", 12.0)


@preset("vla-c-cont-a", "VLA C band, A configuration: full-polarization continuum, high resolution")
def c_band_a(scale: str) -> Observation:
    return _continuum("vla-c-cont-a", scale, "C", "A", {"A0C0": 4.488e9, "B0D0": 5.488e9}, "2023-07-14T23:00:00", 0.33)


@preset("vla-x-cont-d", "VLA X band, D configuration: continuum")
def x_band_d(scale: str) -> Observation:
    return _continuum("vla-x-cont-d", scale, "X", "D", {"A0C0": 8.488e9, "B0D0": 9.488e9}, "2024-01-12T11:00:00", 7.2)


@preset("vla-l-cont-a", "VLA L band, A configuration: continuum")
def l_band_a(scale: str) -> Observation:
    return _continuum("vla-l-cont-a", scale, "L", "A", {"A0C0": 1.000e9, "B0D0": 1.488e9}, "2023-07-15T23:00:00", 1.3)


def _line(
    name: str,
    scale: str,
    band: str,
    basebands: dict[str, float],
    line: Line,
    calibrator: str,
    sources: tuple[Source, Source],
    target: tuple[float, float],
    line_width_hz: float,
    start: str,
    continuum_jy: float,
) -> Observation:
    """Continuum spws and one narrow spw on the line, LSRK velocity set on the sky."""
    size = SIZES[scale]
    spws = spectral_windows(
        band, basebands, max(1, size.spws_per_baseband // 2), size.channels, width_hz=WIDTH_HZ.get(band, 128e6)
    )
    channels = {"tiny": 64, "small": 128, "full": 512}[scale]
    step = line_width_hz / channels
    # Doppler setting: the line is in the middle of its window on the day, as the observatory's software arranges it.
    geometry = Geometry(vla_array("D", 3).positions_m)
    doppler = float(geometry.topocentric_over_lsrk(mjd_seconds(start), *np.radians(target))[0])
    centre = line.rest_hz * (1 - line.velocity_ms / SPEED_OF_LIGHT) * doppler
    first = next(iter(basebands))
    spws += (
        Spw(
            f"EVLA_{band}#{first}#{len(spws)}",
            RECEIVERS[band],
            centre - line_width_hz / 2 + step / 2,
            step,
            channels,
            first,
            BBC_NUMBERS[first],
        ),
    )
    flux, phase = FLUX_CALIBRATORS[calibrator], sources[1]
    source = Source(
        "SIM_GALAXY",
        *target,
        (Component(continuum_jy, centre, (-0.6,), name="core"),),
        (line,),
        velocity_ms=line.velocity_ms,
        rest_hz=line.rest_hz,
    )
    scans = standard_scans(size, flux, sources[0], phase, source, tuple(range(len(spws))))
    return observation(name, scale, "D", spws, (flux, *sources, source), scans, start)


@preset("vla-l-line-d", "VLA L band, D configuration: HI line of a galaxy, with continuum windows; 3C48")
def l_band_line(scale: str) -> Observation:
    line = Line(
        HI_HZ,
        1.6,
        500e3,
        80e3,
        size_arcsec=40.0,
        gradient_arcsec_per_kms=0.15,
        gradient_angle_deg=40.0,
        transition="HI",
        name="HI",
    )
    return _line(
        "vla-l-line-d",
        scale,
        "L",
        {"A0C0": 1.488e9, "B0D0": 1.000e9},
        line,
        "3C48",
        (J0319, J0137),
        (25.2, 32.4),
        4e6,
        "2023-11-12T03:40:00",
        0.06,
    )


@preset("vla-ka-line-d", "VLA Ka band, D configuration: molecular line with continuum windows")
def ka_band_line(scale: str) -> Observation:
    line = Line(
        HC3N_HZ,
        1.2,
        20e3,
        12e3,
        size_arcsec=2.0,
        gradient_arcsec_per_kms=0.03,
        gradient_angle_deg=-60.0,
        transition="HC3N 4-3",
        name="HC3N",
    )
    return _line(
        "vla-ka-line-d",
        scale,
        "KA",
        {"A0C0": 32.0e9, "B0D0": 35.0e9},
        line,
        "3C286",
        (J1407_BRIGHT, J1310_BRIGHT),
        (200.0, 31.5),
        8e6,
        "2024-01-14T11:00:00",
        0.08,
    )


@preset("vla-multiband-d", "VLA C and Ka band in one block, D configuration, with reference pointing at X band")
def multiband(scale: str) -> Observation:
    size = SIZES[scale]
    per_band = max(1, size.spws_per_baseband // 2)
    pointing = spectral_windows("X", {"A0C0": 8.332e9, "B0D0": 8.460e9}, 1, size.channels, role="pointing")
    c = spectral_windows("C", {"A0C0": 4.488e9, "B0D0": 5.488e9}, per_band, size.channels, first=2)
    ka = spectral_windows("KA", {"A0C0": 32.0e9, "B0D0": 35.0e9}, per_band, size.channels, first=2 + len(c))
    spws = pointing + c + ka
    flux, target = FLUX_CALIBRATORS["3C286"], target_field(5e9, 12.0, False)
    short = attrs.evolve(size, flux_s=0.6 * size.flux_s, target_s=0.6 * size.target_s, leakage_s=size.leakage_s)
    first = standard_scans(short, flux, None, J1310, target, tuple(range(2, 2 + len(c))))
    middle = Scan.simple(
        len(first) + 1, J1310.name, 6 * size.integration_s, intents("CALIBRATE_POINTING"), (0, 1), 30.0
    )
    second = standard_scans(
        short, flux, None, J1310, target, tuple(range(2 + len(c), len(spws))), number=len(first) + 2
    )[1:]
    second = tuple(attrs.evolve(s, number=s.number - 1) for s in second)
    return observation(
        "vla-multiband-d", scale, "D", spws, (flux, J1310, target), (*first, middle, *second), "2024-01-13T11:00:00"
    )


@preset("vla-two-blocks-d", "VLA C band, D configuration: the same target in two execution blocks on two days")
def two_blocks(scale: str) -> tuple[Observation, ...]:
    first = _continuum(
        "vla-two-blocks-d", scale, "C", "D", {"A0C0": 4.488e9, "B0D0": 5.488e9}, "2024-01-10T11:10:00", 12.0
    )
    second = attrs.evolve(
        first, start="2024-01-11T11:20:00", model_seed=first.model_seed + 1, execution_block="uid://evla/pdb/90000003"
    )
    return first, second
