"""CASA's frames against astropy's, for a place, a time and a direction far from special."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import datetime as dt, json
import attrs, numpy as np
from pl_kernel.casa import Casa, Recorder
from pl_kernel.ms.frames import measures_converter
from pl_kernel.ms.records import Antenna, AntennaArray, Frame
from pl_kernel.ms.samples import sample_ms
casa = Casa(Recorder(), "casa.log")
place = Antenna(0, "x", "", 25.0, (-1601150.0764, -5042000.6192, 3554860.7281))
ms = attrs.evolve(sample_ms(), array=AntennaArray("x", (place,)))
field = attrs.evolve(ms.fields[0], ra_rad=4.022983925846928, dec_rad=0.08843001543437938, frame="J2000")
when = dt.datetime(1995, 4, 13, 10, 0, tzinfo=dt.UTC)
convert = measures_converter(casa.tool("measures"), ms, field, when)
hz = np.array([1.412e9, 1.414e9])
there = convert(hz, Frame.TOPO, Frame.LSRK)
json.dump([there.tolist(), convert(there, Frame.LSRK, Frame.TOPO).tolist()], open("answer.json", "w"))
"""


@pytest.mark.casa
def test_topocentric_to_lsrk_agrees_with_astropy(tmp_path: Path) -> None:
    from astropy import units as u
    from astropy.coordinates import EarthLocation, SkyCoord, SpectralCoord
    from astropy.time import Time
    from astropy.utils import iers

    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    there, back = json.loads((tmp_path / "answer.json").read_text())
    with iers.conf.set_temp("auto_download", False):
        place = EarthLocation.from_geocentric(-1601150.0764, -5042000.6192, 3554860.7281, unit=u.m)
        source = SkyCoord(4.022983925846928 * u.rad, 0.08843001543437938 * u.rad, frame="icrs")
        observer = place.get_itrs(Time("1995-04-13T10:00:00", scale="utc"))
        topo = SpectralCoord([1.412e9, 1.414e9] * u.Hz, observer=observer, target=source)
        expected = topo.with_observer_stationary_relative_to("lsrk").to_value(u.Hz)
    # The two differ in the source's distance and in J2000 against ICRS: below 10 m/s, or 47 Hz at 1.4 GHz.
    assert there == pytest.approx(list(expected), abs=47)
    assert abs(there[0] - 1.412e9) > 1e4  # the shift itself is not small
    assert back == pytest.approx([1.412e9, 1.414e9], abs=1e-3)
    assert not any(math.isnan(v) for v in there)
