"""astropy and ERFA against CASA's measures, and hand-made checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pl_sim.geometry import Geometry
from pl_sim.schedule import mjd_seconds

VLA = np.array(
    [
        [-1601188.989351, -5042000.518599, 3554843.384480],
        [-1619757.278011, -5042937.574555, 3545120.332832],
        [-1599557.838366, -5031396.391942, 3570494.716758],
    ]
)
ALMA = np.array(
    [[2225015.3, -5440016.4, -2481631.3], [2227015.3, -5439016.4, -2482031.3], [2224015.3, -5440516.4, -2481331.3]]
)
CASES = [
    (VLA, "2023-05-10T04:50:00", 202.8, 30.51),
    (VLA, "2024-01-10T11:10:00", 200.0, 31.5),
    (ALMA, "2023-06-10T05:10:00", 291.2, -29.24),
    (ALMA, "2023-06-10T07:00:00", 280.0, -21.0),
]


class Measures:
    """CASA's measures at one place, time and direction."""

    def __init__(self, position: Any, time: float, ra: float, dec: float) -> None:
        from pl_sim.casa import tool

        self.me, self.qa = tool("measures"), tool("quanta")
        q = self.qa.quantity
        self.me.doframe(self.me.epoch("UTC", q(time, "s")))
        self.me.doframe(self.me.position("ITRF", *(q(float(x), "m") for x in position)))
        self.direction = self.me.direction("J2000", q(ra, "deg"), q(dec, "deg"))
        self.me.doframe(self.direction)

    def uvw(self, baseline: Any) -> Any:
        q = self.qa.quantity
        return np.ravel(self.me.touvw(self.me.baseline("ITRF", *(q(float(x), "m") for x in baseline)))[1]["value"])[:3]

    def to(self, frame: str) -> tuple[float, float]:
        there = self.me.measure(self.direction, frame)
        return there["m0"]["value"], there["m1"]["value"]

    def position_angle_of_zenith(self) -> float:
        zenith = self.me.measure(self.me.direction("AZELGEO", "0deg", "90deg"), "J2000")
        return float(self.qa.convert(self.me.posangle(self.direction, zenith), "rad")["value"])


@pytest.mark.casa
@pytest.mark.parametrize(("positions", "start", "ra", "dec"), CASES)
def test_geometry_agrees_with_casa(positions: Any, start: str, ra: float, dec: float):
    time = mjd_seconds(start)
    casa = Measures(positions[0], time, ra, dec)
    ours = Geometry(positions, positions[0])
    uvw = ours.uvw([time], math.radians(ra), math.radians(dec))[0]
    for k in (1, 2):
        length = np.linalg.norm(positions[k] - positions[0])
        # 0.5 arcsec: CASA leaves out polar motion here, which is that large.
        assert np.abs(uvw[k] - casa.uvw(positions[k] - positions[0])).max() < 2.5e-6 * length
    azimuth, elevation = (float(x[0]) for x in ours.azel([time], math.radians(ra), math.radians(dec)))
    there = casa.to("AZELGEO")
    assert abs(elevation - there[1]) < math.radians(1 / 3600)
    assert abs(math.remainder(azimuth - there[0], 2 * math.pi)) * math.cos(elevation) < math.radians(1 / 3600)
    parallactic = float(ours.parallactic_angle([time], math.radians(ra), math.radians(dec))[0])
    assert abs(math.remainder(parallactic - casa.position_angle_of_zenith(), 2 * math.pi)) < math.radians(0.15)
    shifted = casa.me.measure(casa.me.frequency("LSRK", casa.qa.quantity(1e10, "Hz")), "TOPO")["m0"]["value"]
    ratio = float(ours.topocentric_over_lsrk([time], math.radians(ra), math.radians(dec))[0])
    # 0.3 m/s.
    assert abs(shifted / 1e10 - ratio) < 1e-9


def test_an_east_west_baseline_seen_at_transit_is_all_u():
    geometry = Geometry(VLA, VLA[0])
    east = geometry.from_local(np.array([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]]))
    array = Geometry(east, east[0])
    # Transit: the hour angle of 3C286 is zero when its azimuth passes through south or zenith; search the sidereal day.
    times = mjd_seconds("2023-05-10T00:00:00") + np.arange(0, 86400, 10.0)
    ra, dec = math.radians(202.8), math.radians(30.51)
    transit = times[np.argmax(array.azel(times, ra, dec)[1])]
    u, v, w = array.uvw([transit], ra, dec)[0, 1]
    assert abs(u - 100) < 0.01 and abs(v) < 0.5 and abs(w) < 0.5


def test_local_coordinates_go_there_and_back():
    geometry = Geometry(ALMA)
    assert np.allclose(geometry.from_local(geometry.local(ALMA)), ALMA, atol=1e-6)


def test_slow_motions_are_interpolated_without_harm():
    # ERFA's own chain sums every series at every time.
    import erfa
    from astropy.time import Time
    from astropy.utils import iers

    geometry = Geometry(ALMA)
    times = mjd_seconds("2023-06-10T05:10:00") + np.linspace(0, 7200, 61)
    ra, dec = math.radians(291.2), math.radians(-29.24)
    moment = Time(times / 86400, format="mjd", scale="utc")
    table = iers.earth_orientation_table.get()
    xp, yp = (angle.to_value("rad") for angle in table.pm_xy(moment))
    dut1 = table.ut1_utc(moment).to_value("s")
    site = geometry.longitude, geometry.latitude, geometry.height
    air = 0.0, 0.0, 0.0, 1.0
    az, zd, *_ = erfa.atco13(ra, dec, 0, 0, 0, 0, moment.jd1, moment.jd2, dut1, *site, xp, yp, *air)
    found_az, found_el = geometry.azel(times, ra, dec)
    assert np.abs(found_az - az).max() < 1e-9, "0.2 mas"
    assert np.abs(found_el - (np.pi / 2 - zd)).max() < 1e-9


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_directions_may_differ_from_time_to_time(shift: float):
    geometry = Geometry(VLA)
    times = mjd_seconds("2023-05-10T04:50:00") + np.arange(3) * 600.0
    ra, dec = np.radians([202.8, 202.8 + shift, 203.5]), np.radians([30.5, 30.5 - shift, 31.0])
    together = geometry.velocity_to_lsrk(times, ra, dec)
    one_by_one = [geometry.velocity_to_lsrk(times[k], ra[k], dec[k])[0] for k in range(3)]
    # Ten minutes of rotation change the speed by metres per second; the chunking may not.
    assert together == pytest.approx(one_by_one, abs=1e-3)
