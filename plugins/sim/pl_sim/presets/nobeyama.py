"""Nobeyama 45 m: on-the-fly maps with the four beams of FOREST, as `importnro` leaves them.

Each beam is an antenna; frequencies are LSRK; ON and OFF records are raw counts, and SYSCAL.TSYS holds one number per
record.  Every scan type that is not ON is an OFF, and there is one FIELD row: the OFF is an offset from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import define, field, frozen

from pl_sim.engine import Extension
from pl_sim.instrument import Corruptions, Instrument
from pl_sim.mswriter import repeat
from pl_sim.noise import stream
from pl_sim.observation import (
    SPEED_OF_LIGHT,
    Antenna,
    Array,
    Atmosphere,
    Line,
    Noise,
    Observation,
    Receiver,
    Source,
    Spw,
)
from pl_sim.presets import preset
from pl_sim.schedule import timeline
from pl_sim.singledish import BaselineShape, LineCloud, Raster, SingleDish

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Run

TELESCOPE_M = (-3871025.4987, 3428107.3984, 3724039.5361)
FOREST = Receiver("FOREST", 80e9, 116e9)
FOREST_BEAMS_ARCSEC = ((-25.0, -25.0), (25.0, -25.0), (25.0, 25.0), (-25.0, 25.0))
CO_1_0_HZ = 115.2712018e9
CO13_1_0_HZ = 110.2013543e9
ON = ("OBSERVE_TARGET#ON_SOURCE", "POSITION_SWITCH")
OFF = ("OBSERVE_TARGET#OFF_SOURCE", "POSITION_SWITCH")

_SYSCAL = """
ANTENNA_ID int -
FEED_ID int -
SPECTRAL_WINDOW_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
TSYS float 1d K
TSYS_FLAG bool -
"""


@define(eq=False)
class NobeyamaCorruptions(Corruptions):
    """Corruptions with one system temperature per beam, polarization and window."""

    tsys_k: NDArray[np.float64] = field(kw_only=True)
    """(antenna, receptor, spw), K, referred to above the air (the chopper wheel does that)."""

    def sky_power_k(self, spw: int, index: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Power of the blank sky [1, antenna, receptor, 1] in K, and the share of a T_A* that is added to it."""
        return self.tsys_k[None, :, :, spw, None], np.ones((1, 1, 1))


@frozen
class NobeyamaInstrument(Instrument):
    """The receivers of the 45 m telescope."""

    gain_drift: float = 0.01
    gain_drift_s: float = 400.0
    phase_drift_deg: float = 0.0
    phase_jitter_deg: float = 0.0
    delay_ns: float = 0.0
    system_k: float = 200.0
    system_scatter: float = 0.10

    def realise(self, observation: Observation) -> NobeyamaCorruptions:
        base = super().realise(observation)
        rng = stream(observation.model_seed, "system temperature")
        shape = (len(observation.array.antennas), 2, len(observation.spws))
        tsys = self.system_k * np.exp(self.system_scatter * rng.standard_normal(shape))
        values = {a.name: getattr(base, a.name) for a in attrs.fields(Corruptions)}
        values["extra"] = {"tsys_k": tsys}
        return NobeyamaCorruptions(**values, tsys_k=tsys)


@frozen
class NobeyamaRecords(Extension):
    """SYSCAL as importnro fills it: one number per polarization and record.

    Faults may have `change_record_tsys(observation, tsys)` for K values (antenna, receptor, spw), changed in place.
    """

    def start(self, run: Run) -> None:
        obs = run.observation
        tsys = run.corruptions.tsys_k.copy()  # type: ignore[attr-defined]
        for fault in run.faults:
            change = getattr(fault, "change_record_tsys", None)
            if change:
                change(obs, tsys)
        times = np.concatenate([entry.times for entry in timeline(obs)])
        antennas, _, spws = tsys.shape
        each = antennas * spws
        count = len(times) * each
        run.writer.verbatim(
            "SYSCAL",
            _SYSCAL,
            {
                "ANTENNA_ID": np.tile(np.repeat(np.arange(antennas), spws), len(times)),
                "FEED_ID": repeat(count, 0),
                "SPECTRAL_WINDOW_ID": np.tile(np.arange(spws), len(times) * antennas),
                "TIME": np.repeat(times, each),
                "INTERVAL": repeat(count, obs.integration_s),
                "TSYS": np.tile(tsys.transpose(0, 2, 1).reshape(each, 2), (len(times), 1)).astype(np.float32),
                "TSYS_FLAG": repeat(count, False),
            },
        )

    def truth(self, run: Run) -> dict[str, Any]:
        """System temperatures by beam, polarization and spw (K)."""
        return {"tsys_k": run.corruptions.tsys_k}  # type: ignore[attr-defined]


OFF_ARCSEC = (1800.0, 0.0)
PLANS = {
    "tiny": (
        128,
        0.25e6,
        Raster(170.0, 170.0, 34, 26, OFF_ARCSEC, off_integrations=8, rows_per_off=2, turnaround_s=1.0),
    ),
    "small": (
        512,
        122.07e3,
        Raster(200.0, 200.0, 50, 34, OFF_ARCSEC, off_integrations=20, rows_per_off=2, turnaround_s=1.0, maps=2),
    ),
    "full": (
        2048,
        61.035e3,
        Raster(600.0, 600.0, 150, 100, OFF_ARCSEC, off_integrations=50, rows_per_off=2, turnaround_s=1.0, maps=4),
    ),
}


@preset("nobeyama", "Nobeyama 45 m: CO(1-0) and 13CO(1-0) maps with the four beams of FOREST, as importnro leaves them")
def nobeyama(scale: str) -> Observation:
    channels, channel_hz, raster = PLANS[scale]
    ra, dec = 266.25, -5.0
    clouds = (
        LineCloud(CO_1_0_HZ, peak_k=20.0, fwhm=30.0, velocity=10.0, width=5.0, gradient=0.02, x=10.0, y=12.0),
        LineCloud(CO13_1_0_HZ, peak_k=15.0, fwhm=30.0, velocity=10.0, width=5.0, gradient=0.02, x=10.0, y=12.0),
    )
    spws = tuple(
        Spw(
            name=f"A{number:02d}",
            receiver=FOREST,
            start_hz=c.rest_hz * (1 - c.velocity * 1e3 / SPEED_OF_LIGHT) - channel_hz * (channels - 1) / 2,
            channel_hz=channel_hz,
            channels=channels,
            baseband=f"A{number:02d}",
            bbc_no=0,
            correlations=("XX", "YY"),
            frame="LSRK",
        )
        for number, c in enumerate(clouds, start=1)
    )
    lines = tuple(
        Line(c.rest_hz, c.flux_jy(1.0, 15.0), c.velocity * 1e3, c.width * 1e3, c.x, c.y, c.fwhm, name=name)
        for c, name in zip(clouds, ("CO(1-0)", "13CO(1-0)"), strict=True)
    )
    beams = tuple(Antenna(f"NRO-BEAM{k}", "NRO", TELESCOPE_M, 45.0) for k in range(len(FOREST_BEAMS_ARCSEC)))
    everything = tuple(range(len(spws)))
    scans = [raster.scan(k + 1, k, everything, 0.2, "SimCloud", "SimCloud", ON, OFF) for k in range(raster.maps)]
    return Observation(
        name="nobeyama",
        array=Array("NRO", "45m", beams, elevation_limit_deg=12.0),
        spws=spws,
        sources=(Source("SimCloud", ra, dec, lines=lines, code="", velocity_ms=10e3),),
        scans=tuple(scans),
        start="2020-01-15T23:30:00",
        integration_s=0.2,
        instrument=NobeyamaInstrument(),
        atmosphere=Atmosphere(temperature_k=271.0, pressure_hpa=865.0, humidity_percent=45.0, dew_point_k=261.0),
        noise=Noise(efficiency=1.0),
        extensions=(
            SingleDish(
                clouds,
                BaselineShape(polynomial_k=(0.0, 0.3, 0.2)),
                beam_factor=1.2,
                beam_offsets=FOREST_BEAMS_ARCSEC,
                efficiencies=(1.0, 0.92, 1.06, 0.97),
                pointing_frame="J2000",
            ),
            NobeyamaRecords(),
        ),
        engine="single-dish",
        observer="simnro",
        project="forest-sim",
        scheduling_block="forest-sim",
        execution_block="20200115233000",
        processor=(("SPECTROMETER", "SAM45"),),
        notes={"writer": {"data_column": "FLOAT_DATA"}, "pointing": False, "weather_interval_s": 30.0},
    )
