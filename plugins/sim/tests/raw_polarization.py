"""Turns the raw correlations of a set into the frame of the sky: gains from the truth, parallactic angle from CASA
alone.

    python raw_polarization.py OBSERVATION.ms RESULT.json

Writes, per field, the mean [XX, XY, YX, YY] of every spw in Jy, as real and imaginary parts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from pl_kernel.casa import configure
from pl_sim.casa import open_table
from pl_sim.truth import Truth


def main() -> None:
    vis, result = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    os.chdir(result.parent)
    configure()
    import casatasks as c

    truth = Truth.load(vis)
    science = [k for k, s in enumerate(truth.record["spws"]) if s["role"] == "science"]
    c.gencal(str(vis), "tsys.tbl", caltype="tsys")
    spws = ",".join(map(str, science))
    gain, times = truth.array("gain"), truth.array("times")
    with open_table(vis, write=True) as tb:
        for spw in science:
            rows = tb.query(f"DATA_DESC_ID=={spw} && ANTENNA1!=ANTENNA2")
            one, two, time = rows.getcol("ANTENNA1"), rows.getcol("ANTENNA2"), rows.getcol("TIME")
            index = np.searchsorted(times, time - 1e-3)
            offset = truth.frequency_hz(spw) - truth.array("delay_reference_hz")[spw]
            static = truth.array(f"bandpass_{spw}") * np.exp(
                2j * np.pi * truth.array("delay_s")[:, :, spw, None] * offset
            )
            data = rows.getcol("DATA")
            for number, (a, b) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
                left = gain[index, one, a, spw][:, None] * static[one, a]
                right = gain[index, two, b, spw][:, None] * static[two, b]
                data[number] /= (left * right.conj()).T
            rows.putcol("DATA", data)
            rows.close()
    # The gains of the truth are what is left when a Tsys table has been applied.
    fields = [f["name"] for f in truth.record["fields"]]
    for name in fields:
        c.applycal(
            str(vis),
            field=name,
            spw=spws,
            gaintable=["tsys.tbl"],
            gainfield=[name],
            parang=True,
            calwt=False,
            flagbackup=False,
        )
    found: dict[str, dict[int, list[list[float]]]] = {}
    with open_table(vis) as tb:
        for number, name in enumerate(fields):
            found[name] = {}
            for spw in science:
                rows = tb.query(f"DATA_DESC_ID=={spw} && FIELD_ID=={number} && ANTENNA1!=ANTENNA2")
                mean = rows.getcol("CORRECTED_DATA")[:, 6:-6].mean(axis=(1, 2))
                rows.close()
                found[name][spw] = [[float(v.real), float(v.imag)] for v in mean]
    result.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
