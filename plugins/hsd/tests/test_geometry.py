"""Directions: wrap, offsets, and conversions that agree with CASA's measures."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hsd import pointing
from pl_hsd.geometry import beam_arcsec, from_offsets, separation_deg, to_offsets, unwrapped, vectors
from pl_kernel import DataError


@pytest.mark.parametrize("centre", [0.0, 180.0, 359.99, 90.0])
def test_unwrapped_angles_have_the_median_of_the_map_wherever_it_lies(centre: float) -> None:
    offsets = np.linspace(-0.5, 0.5, 11)
    found = unwrapped((centre + offsets) % 360)
    np.testing.assert_allclose(np.diff(found), 0.1, atol=1e-9)
    assert (np.median(found) - centre + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)


def test_unwrapping_keeps_what_is_no_number() -> None:
    found = unwrapped([359.9, np.nan, 0.1])
    assert np.isnan(found[1])
    assert found[2] - found[0] == pytest.approx(0.2)


def test_separation_of_a_right_angle_and_of_an_arcsecond() -> None:
    assert separation_deg(0, 0, 90, 0) == pytest.approx(90)
    assert separation_deg(10, 60, 10 + 1 / 3600 / 0.5, 60) * 3600 == pytest.approx(1.0, rel=1e-6)  # cos 60 deg = 0.5


def test_offsets_are_east_and_north_and_lead_back() -> None:
    east, north = to_offsets(359.9, -30.0, np.array([0.1, 359.9]), np.array([-30.0, -29.5]))
    assert east[0] == pytest.approx(0.2 * np.cos(np.radians(30)), rel=1e-5)
    assert north[1] == pytest.approx(0.5)
    ra, dec = from_offsets(359.9, -30.0, east, north)
    np.testing.assert_allclose(ra, [0.1, 359.9], atol=1e-9)
    np.testing.assert_allclose(dec, [-30.0, -29.5], atol=1e-9)


def test_beam_of_the_reference_formula() -> None:
    """1.13 x 6.188e4 / (12 x 230) = 25.33 arcsec."""
    assert beam_arcsec(12.0, 230e9) == pytest.approx(1.13 * 6.188e4 / (12 * 230), rel=2e-3)


# ---- tracks ----------------------------------------------------------------------------------------------------------


def track(times: np.ndarray, lon_deg: np.ndarray) -> pointing.Track:
    return pointing.Track(times, vectors(lon_deg, np.zeros_like(lon_deg)), np.full(times.size, 0.1))


def test_directions_are_interpolated_between_samples() -> None:
    times = np.arange(0, 10, 0.1)
    found = pointing.directions_at(track(times, 10 + 0.02 * times), np.array([3.33]), np.array([0.5]))
    assert np.degrees(np.arctan2(found[0, 1], found[0, 0])) == pytest.approx(10 + 0.02 * 3.33, abs=1e-7)


def test_holes_and_ends_of_a_track_give_no_direction() -> None:
    times = np.concatenate([np.arange(0, 5, 0.1), np.arange(20, 25, 0.1)])
    wanted = np.array([2.0, 12.0, 24.0, 40.0, -10.0])
    found = pointing.directions_at(track(times, 10 + 0.02 * times), wanted, np.full(5, 0.5))
    np.testing.assert_array_equal(np.isfinite(found).all(axis=1), [True, False, True, False, False])


def test_a_sample_within_half_an_integration_counts_even_alone() -> None:
    one = pointing.Track(np.array([100.0]), vectors([15.0], [0.0]), np.array([5.0]))
    found = pointing.directions_at(one, np.array([101.0, 104.0]), np.full(2, 5.0))
    np.testing.assert_array_equal(np.isfinite(found).all(axis=1), [True, False])
    assert np.isnan(pointing.directions_at(None, np.array([1.0]), np.array([1.0]))).all()


def test_damaged_samples_are_left_out_of_a_track() -> None:
    direction = np.array([[0.1, 0.2], [np.nan, 0.2], [0.1, 0.2], [0.1, 0.2]])
    tracks = pointing.tracks_of(np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 1.0, 5.0]), np.full(4, 0.1), direction)
    assert tracks[0].time_s.tolist() == [1.0]
    assert tracks[1].time_s.tolist() == [5.0]


def test_cells_with_their_axes_exchanged_are_read_all_the_same() -> None:
    right = np.arange(6.0).reshape(2, 1, 3)
    turned = np.ascontiguousarray(right.transpose(1, 0, 2))
    np.testing.assert_array_equal(pointing.constant_terms(right), pointing.constant_terms(turned))


def test_unknown_frames_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="JUPITER"):
        pointing.convert(np.ones((1, 3)), "JUPITER", "ICRS", np.zeros(1), (0.0, 0.0, 1.0))


@pytest.mark.casa
def test_conversions_agree_with_the_measures_of_casa() -> None:
    """A place in the Atacama desert, an evening of 2023; to 0.6 arcsec (CASA leaves out the motion of the pole)."""
    from pl_kernel.compute import Worker

    place = (2225015.3, -5440016.4, -2481631.3)
    time = np.array([5193952905.0, 5193956505.0])
    lon, lat = np.array([78.8, 210.0]), np.array([60.2, 35.0])
    with Worker() as worker:
        for frame, wanted in (
            ("AZELGEO", "ICRS"), ("AZELGEO", "J2000"), ("J2000", "AZELGEO"), ("B1950", "J2000"), ("GALACTIC", "ICRS"),
        ):  # fmt: skip
            got = pointing.convert(vectors(lon, lat), frame, wanted, time, place)
            expected = worker.call(measured, frame, wanted, time.tolist(), lon.tolist(), lat.tolist(), place)
            for k, (ra, dec) in enumerate(expected):
                assert separation_deg(got[0][k], got[1][k], ra, dec) * 3600 < 0.6, (frame, wanted)


def test_earth_orientation_of_casa_is_that_of_the_iers() -> None:
    """Against the tables that come with astropy, where the IERS measured; past all tables UT1 stays what it was."""
    from astropy.utils import iers

    from pl_kernel.compute import Worker

    day = np.array([44239.0, 51544.25, 60000.5, 70000.0])
    with Worker() as worker:
        x, y, ut1 = (np.asarray(v) for v in worker.call(oriented, day.tolist()))
    measured = iers.IERS_B.open()
    expected_x, expected_y = (v.to_value("arcsec") for v in measured.pm_xy(day[:3] + 2400000.5))
    np.testing.assert_allclose(x[:3], expected_x, atol=0.001)
    np.testing.assert_allclose(y[:3], expected_y, atol=0.001)
    np.testing.assert_allclose(ut1[:3], measured.ut1_utc(day[:3] + 2400000.5).to_value("s"), atol=1e-4)
    assert 0 < abs(ut1[3]) < 0.9


def oriented(days):  # type: ignore[no-untyped-def]
    """Motion of the pole and UT1 - UTC of CASA's data."""
    import os
    from types import SimpleNamespace

    from pl_kernel.casa import Casa, Recorder

    table = pointing.earth_orientation(SimpleNamespace(casa=Casa(Recorder(), os.devnull)))
    x, y = table.pm_xy(np.array(days) + 2400000.5)
    return [
        v.tolist()
        for v in (x.to_value("arcsec"), y.to_value("arcsec"), table.ut1_utc(np.array(days) + 2400000.5).to_value("s"))
    ]


def measured(frame, wanted, times, lon, lat, place):  # type: ignore[no-untyped-def]
    """The same by CASA's measures, one direction at a time."""
    import os

    from pl_kernel.casa import Casa, Recorder

    measures = Casa(Recorder(), os.devnull).tool("measures")
    found = []
    for time, a, b in zip(times, lon, lat, strict=True):
        measures.doframe(measures.position("ITRF", *(f"{v}m" for v in place)))
        measures.doframe(measures.epoch("UTC", {"value": time, "unit": "s"}))
        one = measures.measure(measures.direction(frame, f"{a}deg", f"{b}deg"), wanted)
        found.append((np.degrees(one["m0"]["value"]), np.degrees(one["m1"]["value"])))
    return found
