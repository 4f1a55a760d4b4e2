"""A small piece of a VLASS-like survey block: S band, B configuration, an on-the-fly mosaic.

As in the survey, integrations are 0.45 s, the phase centre steps every second integration, field names are positions,
spws 0 and 1 are the set-up of reference pointing, and the mosaic rows are 7.2 arcmin apart.
"""

from __future__ import annotations

import math

import attrs

from pl_sim.evla import FLUX_CALIBRATORS, LateAntenna, SwitchedPower, VlaInstrument, opacities, vla_array
from pl_sim.observation import Atmosphere, Component, Field, Observation, Scan, Source, Subscan
from pl_sim.presets import preset
from pl_sim.presets.vla import FLUX, J1310, J1407, PHASE, intents, spectral_windows

INTEGRATION_S = 0.45
STEP_ARCMIN = 2.98
"""3.31 arcmin/s for two integrations."""
ROW_ARCMIN = 7.2
CENTRE = (200.0, 31.5)


def position_name(ra_deg: float, dec_deg: float) -> str:
    """The name of a field: `1320000+313000` for 13h20m00.0s +31d30m00s."""
    tenths = round(ra_deg / 15 * 36000) % 864000
    seconds = round(abs(dec_deg) * 3600)
    sign = "-" if dec_deg < 0 else "+"
    return (
        f"{tenths // 36000:02d}{tenths // 600 % 60:02d}{tenths % 600:03d}{sign}{seconds // 3600:02d}"
        f"{seconds // 60 % 60:02d}{seconds % 60:02d}"
    )


def mosaic(rows: int, columns: int, source: Source) -> list[list[Field]]:
    """Fields of the rows, in the order in which the antennas sweep them."""
    cosine = math.cos(math.radians(CENTRE[1]))
    out = []
    for row in range(rows):
        dec = CENTRE[1] + (row - (rows - 1) / 2) * ROW_ARCMIN / 60
        places = [CENTRE[0] + (k - (columns - 1) / 2) * STEP_ARCMIN / 60 / cosine for k in range(columns)]
        out.append(
            [Field(position_name(ra, dec), source.name, ra, dec) for ra in (places if row % 2 == 0 else places[::-1])]
        )
    return out


@preset("vlass-s-b", "VLASS-like: S band, B configuration, on-the-fly mosaic of a few square arcminutes")
def vlass(scale: str) -> Observation:
    antennas, per_baseband, channels, rows, columns, repeats = {
        "tiny": (8, 2, 16, 2, 6, 2),
        "small": (11, 4, 32, 3, 8, 2),
        "full": (27, 8, 64, 8, 60, 1),
    }[scale]
    calibrator_s = {"tiny": 18.0, "small": 36.0, "full": 120.0}[scale]
    pointing = spectral_windows("X", {"A0C0": 8.332e9, "B0D0": 8.460e9}, 1, channels, role="pointing")
    spws = pointing + spectral_windows("S", {"A0C0": 1.988e9, "B0D0": 2.988e9}, per_baseband, channels, first=2)
    science = tuple(range(2, len(spws)))
    # Close to the middle: mosaics are gridded without w-terms, which move sources far from the phase centre.
    target = Source(
        "SURVEY",
        *CENTRE,
        (
            Component(0.90, 3e9, (-0.7,), name="A"),
            Component(0.60, 3e9, (0.0,), east_arcsec=42.0, north_arcsec=25.0, name="B"),
            Component(0.45, 3e9, (-1.0,), east_arcsec=-50.0, north_arcsec=-32.0, name="C"),
        ),
    )
    flux = FLUX_CALIBRATORS["3C286"]
    strips = mosaic(rows, columns, target)
    fields = [Field(s.name, s.name, s.ra_deg, s.dec_deg, s.code) for s in (flux, J1407, J1310)]
    fields += [f for strip in strips for f in strip]
    scans: list[Scan] = []

    def add(field: str, seconds: float, what: tuple[str, ...], windows: tuple[int, ...] = science) -> None:
        scans.append(Scan.simple(len(scans) + 1, field, seconds, intents(*what), windows, 10.0))

    add(flux.name, 3 * INTEGRATION_S, ("SYSTEM_CONFIGURATION",))
    add(J1310.name, 4 * INTEGRATION_S, ("CALIBRATE_POINTING",), (0, 1))
    add(flux.name, calibrator_s, FLUX)
    add(J1407.name, calibrator_s / 2, ("CALIBRATE_POL_LEAKAGE",))
    for _ in range(repeats):
        add(J1310.name, calibrator_s / 2, PHASE)
        for strip in strips:
            dwell = tuple(Subscan(f.name, 2 * INTEGRATION_S, intents("OBSERVE_TARGET")) for f in strip)
            scans.append(Scan(len(scans) + 1, dwell, science, 5.0))
    add(J1310.name, calibrator_s / 2, PHASE)
    array = vla_array("B", antennas)
    return Observation(
        name="vlass-s-b",
        array=array,
        spws=spws,
        sources=(flux, J1407, J1310, target),
        fields=tuple(fields),
        scans=tuple(scans),
        start="2024-02-10T09:10:00",
        integration_s=INTEGRATION_S,
        instrument=attrs.evolve(VlaInstrument(), gain_drift=0.005),
        atmosphere=Atmosphere(opacity=opacities(), phase_screen_m=3e-4),
        extensions=(SwitchedPower(interval_s=1.0), LateAntenna(array.names[antennas // 3], 2 * INTEGRATION_S)),
        primary_beam=True,
        model_seed=20240210,
    )
