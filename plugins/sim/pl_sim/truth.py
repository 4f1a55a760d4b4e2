"""The truth beside a simulated measurement set, and how far a reduction is from it.

`OUT.ms.truth/truth.json` holds names, fluxes, faults and the boxes of bad visibilities; `arrays.npz` the gains,
delays, bandpasses, leakages, SEFDs and paths in the units in which calibration reports them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

if TYPE_CHECKING:
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
        "times": c.times, "gain": c.gain, "delay_s": c.delay_s, "delay_reference_hz": c.delay_reference_hz,
        "path_m": c.path_m, "transmission": c.transmission, "coupling": c.coupling, **c.extra,
    }
    for s in range(len(obs.spws)):
        arrays |= {f"bandpass_{s}": c.bandpass[s], f"leakage_{s}": c.leakage[s], f"sefd_jy_{s}": c.sefd_jy[s]}
    with open(folder / "arrays.npz", "wb") as stream:
        np.savez(stream, **arrays)
    record = {
        "format": 1,
        "observation": obs.name,
        "seed": run.seed,
        "model_seed": obs.model_seed,
        "antennas": list(obs.array.names),
        "spws": [
            {"name": s.name, "frequency_hz": [float(f) for f in s.frequencies_hz], "correlations": list(s.correlations),
             "receiver": s.receiver.name, "baseband": s.baseband, "role": s.role}
            for s in obs.spws
        ],
        "fields": [attrs.asdict(f) for f in obs.fields],
        "sources": [attrs.asdict(s) for s in obs.sources],
        "scans": [
            {"number": s.number, "spws": list(s.spws), "fields": [x.field for x in s.subscans],
             "intents": sorted({i for x in s.subscans for i in x.intents})}
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
