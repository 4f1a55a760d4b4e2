"""The truth beside a simulated measurement set, and how far a reduction is from it.

`OUT.ms.truth/truth.json` holds names, fluxes, faults and the boxes of bad visibilities; `arrays.npz` the gains,
delays, bandpasses, leakages, SEFDs and paths in the units in which calibration reports them.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import frozen

from pl_kernel.errors import DataError
from pl_sim.geometry import Geometry
from pl_sim.observation import Component, Field, Line, Source
from pl_sim.regions import Region
from pl_sim.sky import SkyModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Run
    from pl_sim.observation import Observation


def truth_path(path: Path | str) -> Path:
    """Directory of the truth of a measurement set."""
    return Path(f"{str(path).rstrip('/')}.truth")


def write_truth(run: Run, path: Path, as_planned: Observation) -> Path:
    """Write the truth of a finished simulation."""
    obs, c = run.observation, run.corruptions
    folder = truth_path(path)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "times": c.times,
        "gain": c.gain,
        "delay_s": c.delay_s,
        "delay_reference_hz": c.delay_reference_hz,
        "path_m": c.path_m,
        "transmission": c.transmission,
        "coupling": c.coupling,
        **c.extra,
    }
    for s in range(len(obs.spws)):
        arrays |= {f"bandpass_{s}": c.bandpass[s], f"leakage_{s}": c.leakage[s], f"sefd_jy_{s}": c.sefd_jy[s]}
    with (folder / "arrays.npz").open("wb") as stream:
        np.savez(stream, **arrays)
    record = {
        "format": 1,
        "observation": obs.name,
        "seed": run.seed,
        "model_seed": obs.model_seed,
        "antennas": list(obs.array.names),
        "positions_m": obs.array.positions_m,
        "primary_beam": {"diameter_m": obs.array.antennas[0].diameter_m, "factor": obs.array.beam_factor}
        if obs.primary_beam
        else None,
        "spws": [
            {
                "name": s.name,
                "frequency_hz": [float(f) for f in s.frequencies_hz],
                "correlations": list(s.correlations),
                "receiver": s.receiver.name,
                "baseband": s.baseband,
                "role": s.role,
                "channel_hz": s.channel_hz,
                "frame": s.frame,
            }
            for s in obs.spws
        ],
        "fields": [attrs.asdict(f) for f in obs.fields],
        "sources": [attrs.asdict(s) for s in obs.sources],
        "scans": [
            {
                "number": s.number,
                "spws": list(s.spws),
                "fields": [x.field for x in s.subscans],
                "intents": sorted({i for x in s.subscans for i in x.intents}),
            }
            for s in obs.scans
        ],
        "planned_scans": [s.number for s in as_planned.scans],
        "integration_s": obs.integration_s,
        "noise_efficiency": obs.noise.efficiency,
        "opacity": obs.atmosphere.opacity,
        "faults": [{"name": f.name, **f.truth(obs)} for f in run.faults],
        "bad": [r.to_json() for r in run.regions],
        "extensions": {type(e).__name__: e.truth(run) for e in obs.extensions},
    }
    (folder / "truth.json").write_text(json.dumps(record, indent=1, default=_plain))
    return folder


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in the truth is not JSON")


def _from_json(record: Any) -> Any:
    return tuple(_from_json(v) for v in record) if isinstance(record, list) else record


def _source(record: dict[str, Any]) -> Source:
    fields = {k: _from_json(v) for k, v in record.items()}
    fields["components"] = tuple(Component(**{k: _from_json(v) for k, v in c.items()}) for c in record["components"])
    fields["lines"] = tuple(Line(**line) for line in record["lines"])
    return Source(**fields)


@frozen
class Truth:
    """What was injected into a measurement set."""

    path: Path
    record: dict[str, Any] = attrs.field(repr=False)

    @classmethod
    def load(cls, ms: Path | str) -> Truth:
        """The truth of a measurement set, or of its `.truth` directory.

        Raises:
            DataError: there is none.
        """
        folder = Path(ms) if str(ms).rstrip("/").endswith(".truth") else truth_path(ms)
        if not (folder / "truth.json").exists():
            raise DataError(f"{ms} has no truth beside it ({folder.name}/truth.json); only simulated data have one.")
        folder = folder.absolute()
        return cls(folder, json.loads((folder / "truth.json").read_text()))

    @property
    def antennas(self) -> tuple[str, ...]:
        return tuple(self.record["antennas"])

    @property
    def sources(self) -> dict[str, Source]:
        return {s["name"]: _source(s) for s in self.record["sources"]}

    @property
    def fields(self) -> dict[str, Field]:
        return {f["name"]: Field(**f) for f in self.record["fields"]}

    @property
    def bad(self) -> tuple[Region, ...]:
        """Boxes of visibilities that something is wrong with."""
        return tuple(Region.from_json(r) for r in self.record["bad"])

    @property
    def faults(self) -> dict[str, dict[str, Any]]:
        """What was injected, by name of the fault."""
        return {f["name"]: f for f in self.record["faults"]}

    def array(self, name: str) -> NDArray:
        """An array of arrays.npz; see `Corruptions` for shapes and units."""
        file = self.path / "arrays.npz"
        return _arrays(str(file), file.stat().st_mtime_ns)[name]

    def frequency_hz(self, spw: int) -> NDArray[np.float64]:
        """Channel centres of a spw."""
        return np.array(self.record["spws"][spw]["frequency_hz"])

    def flux_jy(self, field: str, frequency_hz: float) -> float:
        """Stokes I of the continuum of a field's source."""
        return float(self.sources[self.fields[field].source].flux(frequency_hz))

    def delay_ns(self, spw: int, reference: str) -> NDArray[np.float64]:
        """Delays relative to an antenna, shape (antenna, receptor): what a K table holds."""
        delay = 1e9 * self.array("delay_s")[:, :, spw]
        return delay - delay[self.antennas.index(reference)]

    def bandpass(self, spw: int, reference: str) -> NDArray[np.complex128]:
        """Bandpasses with the phase of an antenna removed, shape (antenna, receptor, channel)."""
        bandpass = self.array(f"bandpass_{spw}")
        return bandpass * np.exp(-1j * np.angle(bandpass[self.antennas.index(reference)]))

    def gain(self, spw: int, start: float, end: float, reference: str | None = None) -> NDArray[np.complex128]:
        """Mean gain over a time range (MJD s) at the middle of the spw, with opacity, gain curve and troposphere.

        Shape (antenna, receptor); the phase of `reference` is removed. Delay and bandpass are not in it.
        """
        times = self.array("times")
        inside = (times >= start) & (times <= end)
        if not inside.any():
            inside = np.arange(len(times)) == np.argmin(np.abs(times - (start + end) / 2))
        nu = float(self.frequency_hz(spw).mean())
        path = np.exp(-2j * np.pi * self.array("path_m")[inside] * nu / 299_792_458.0)
        gain = self.array("gain")[inside, :, :, spw] * (self.array("transmission")[inside, :, spw] * path)[:, :, None]
        if reference is not None:
            gain = gain * np.exp(-1j * np.angle(gain[:, [self.antennas.index(reference)]]))
        return gain.mean(axis=0)

    def thermal_jy(self, spw: int) -> NDArray[np.float64]:
        """Rms of the real part of a calibrated visibility to each antenna (with itself), shape (antenna, receptor)."""
        sefd = self.array(f"sefd_jy_{spw}").mean(axis=-1)
        seconds, width = self.record["integration_s"], abs(self.record["spws"][spw]["channel_hz"])
        return sefd / (self.record["noise_efficiency"] * math.sqrt(2 * width * seconds))

    def sky(self, field: str, spw: int, time: float) -> SkyModel:
        """The injected sky of a field, ready to give visibilities."""
        fld = self.fields[field]
        window, beam = self.record["spws"][spw], self.record["primary_beam"]
        ra, dec = math.radians(fld.ra_deg), math.radians(fld.dec_deg)
        doppler = 1.0
        source = self.sources[fld.source]
        if source.lines and window["frame"] == "TOPO":
            geometry = Geometry(np.array(self.record["positions_m"]))
            doppler = float(geometry.topocentric_over_lsrk(time, ra, dec)[0])
        return SkyModel(
            source,
            ra,
            dec,
            self.frequency_hz(spw),
            topocentric_over_lsrk=doppler,
            beam_diameter_m=beam["diameter_m"] if beam else None,
            beam_factor=beam["factor"] if beam else 1.0,
        )

    def bad_rows(
        self, columns: dict[str, NDArray], severities: tuple[str, ...] = ("bad", "online")
    ) -> list[tuple[Region, NDArray[np.bool_]]]:
        """Per region of these severities, which of these rows it touches.

        columns: TIME, ANTENNA1, ANTENNA2, SCAN_NUMBER, FIELD (names) and SPW of main-table rows.
        """
        return [
            (
                region,
                region.rows(
                    times=columns["TIME"],
                    antenna1=columns["ANTENNA1"],
                    antenna2=columns["ANTENNA2"],
                    names=self.antennas,
                    scan=columns["SCAN_NUMBER"],
                    field_name=columns["FIELD"],
                    spw=columns["SPW"],
                ),
            )
            for region in self.bad
            if region.severity in severities
        ]


@functools.lru_cache(maxsize=4)
def _arrays(path: str, _modified: int) -> dict[str, NDArray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
