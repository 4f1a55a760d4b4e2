"""CASA understands what the calibration library says: three ways of applying it give the same corrected data."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pl_kernel.testing.data import TinyMs

SCRIPT = """
import json, os, sys
import numpy as np
from pl_kernel.calibration import CalApplication, CalFrom, CalLibrary, CalTo
from pl_kernel.casa import Casa, Recorder
from pl_kernel.ms.reader import read_measurement_set

casa = Casa(Recorder(), "casa.log")
ms = read_measurement_set("tiny.ms", open_table=casa.table)
casa.flagdata(vis=ms.path, mode="clip", clipminmax=[0, 50], flagbackup=False)  # the outliers that the set is made with
casa.setjy(vis=ms.path, standard="manual", fluxdensity=[1, 0, 0, 0], usescratch=True)
common = dict(vis=ms.path, refant="0", minblperant=2)
library = CalLibrary()

def register(to, cal):
    global library
    library = library.add(CalApplication(to, cal))

casa.bandpass(caltable="x.bcal", field="CAL", solint="inf", **common)
register(CalTo(ms.name), CalFrom("x.bcal", interp="nearest,linear", caltype="bandpass"))
before = library.for_solve(ms, field="CAL", intent="PHASE")
casa.gaincal(caltable="x.gcal", field="CAL", solint="int", **common, **before)
register(CalTo(ms.name, intent="PHASE"), CalFrom("x.gcal", "CAL", "nearest", caltype="gaincal"))
register(CalTo(ms.name, intent="TARGET"), CalFrom("x.gcal", "CAL", "linear", caltype="gaincal"))
before = library.for_solve(ms, field="TARGET", intent="TARGET")
casa.gaincal(caltable="y.gacal", field="TARGET", solint="inf", **common, **before)
register(CalTo(ms.name, field="TARGET"), CalFrom("y.gacal", "TARGET", "nearest", (), "gaincal", False))

def corrected():
    with casa.table(ms.path) as table:
        data, field = table.getcol("CORRECTED_DATA"), table.getcol("FIELD_ID")
    return data, field

def fresh():
    casa.clearcal(vis=ms.path)
    casa.setjy(vis=ms.path, standard="manual", fluxdensity=[1, 0, 0, 0], usescratch=True)

def classic(library):
    fresh()
    for entry in library.merged(ms):
        casa.applycal(**entry.casa_selection(ms), **entry.arguments.for_apply(), flagbackup=False)
    return corrected()

one, field = classic(library)
with open("x.callib", "w") as stream:
    stream.write(library.to_callib(ms))
fresh()
casa.applycal(vis=ms.path, docallib=True, callib="x.callib", flagbackup=False)
two, _ = corrected()
three, _ = classic(CalLibrary().import_text(library.export_text([ms]), [ms]))
with casa.table(ms.path) as table:
    data, good = table.getcol("DATA"), ~table.getcol("FLAG")
solve = library.for_solve(ms, field="TARGET", intent="TARGET")
casa.gaincal(caltable="z.gcal", field="TARGET", solint="inf", **common, **solve)
with casa.table("z.gcal") as table:
    gains = np.abs(table.getcol("CPARAM"))[~table.getcol("FLAG")]
answer = {
    "entries": len(library.merged(ms)),
    "callib": float(np.abs(one - two)[good].max()),
    "text": float(np.abs(one - three)[good].max()),
    "changed": float(np.abs(one - data)[good].max()),
    "amplitudes": [float(np.median(np.abs(one[good & (field == f)]))) for f in (0, 1)],
    "residual_gain": [float(gains.min()), float(gains.max())],
}
with open("answer.json", "w") as stream:
    json.dump(answer, stream)
"""


@pytest.mark.casa
@pytest.mark.slow
def test_classic_callibrary_and_restored_calibration_agree(tiny_ms: TinyMs, tmp_path: Path) -> None:
    shutil.copytree(tiny_ms.path, tmp_path / "tiny.ms")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["entries"] == 2
    assert answer["changed"] > 0.1
    assert answer["callib"] < 1e-5
    assert answer["text"] == 0
    # Both fields were solved against a model of 1 Jy, TARGET with the solutions of CAL (10 times brighter) pre-applied.
    assert answer["amplitudes"] == pytest.approx([1.0, 1.0], abs=0.05)
    # Solving again on data to which their own solutions are pre-applied finds nothing left.
    assert answer["residual_gain"] == pytest.approx([1.0, 1.0], abs=0.05)
