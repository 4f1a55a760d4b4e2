"""Rows, maps, patterns and outliers from hand-made tracks."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hsd.heuristics import raster
from pl_hsd.heuristics.grouping import (
    group_by_time,
    position_gaps,
    position_groups,
    time_gaps,
    with_maps_that_start_over,
)
from pl_hsd.heuristics.pattern import MULTI, RASTER, SINGLE, observing_pattern
from pl_hsd.heuristics.pointing_outlier import FACTOR, pointing_outliers
from pl_hsd.heuristics.raster import RasterFailure, group_by_direction
from pl_hsd.heuristics.uniformity import longest_run, odd_maps

BEAM = 28.0 / 3600


def sweep(rows, samples, *, step=5.0, spacing=10.0, angle=0.0, back_and_forth=True, jitter=0.0, seed=0):
    """Offsets (deg) of one map: ``rows`` rows of ``samples`` spectra, steps and row spacing in arcsec."""
    rng = np.random.default_rng(seed)
    along = (np.arange(samples) - (samples - 1) / 2) * step
    x, y = [], []
    for row in range(rows):
        x.append(along[::-1] if back_and_forth and row % 2 else along)
        y.append(np.full(samples, (row - (rows - 1) / 2) * spacing))
    x, y = np.concatenate(x), np.concatenate(y)
    x, y = x + rng.normal(0, jitter, x.size), y + rng.normal(0, jitter, y.size)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (c * x - s * y) / 3600, (s * x + c * y) / 3600


def clock(rows, samples, *, dump=0.5, pause=10.0, start=0.0):
    """Times of one map with a pause between rows."""
    return np.concatenate([start + r * (samples * dump + pause) + np.arange(samples) * dump for r in range(rows)])


# ---- time ------------------------------------------------------------------------------------------------------------


def test_small_gaps_separate_rows_and_large_ones_maps() -> None:
    """Dump 0.5 s, pauses 10 s between 6 rows, 300 s between maps: thresholds 2.5 s and 5 x 10.5 s."""
    one = clock(6, 20)
    time = np.concatenate([one, one + one[-1] + 300])
    small, large = time_gaps(time)
    assert small.tolist() == [20 * k for k in range(1, 12)]
    assert large.tolist() == [120]
    x, y = sweep(6, 20)
    found = group_by_time(time, np.tile(x, 2), np.tile(y, 2), BEAM / 2)
    assert found.row.max() == 11
    assert np.bincount(found.map).tolist() == [120, 120]


def test_a_pause_for_the_off_amid_a_map_ends_none() -> None:
    """An OFF of 30 s after every second of 10 rows, turns of 3 s, two maps: by time there would be ten of two rows."""
    time = np.arange(400) * 0.5 + (np.arange(400) // 20) * 3.0 + (np.arange(400) // 40) * 30.0
    x, y = sweep(10, 20)
    x, y = np.tile(x, 2), np.tile(y, 2)
    by_time = group_by_time(time, x, y, BEAM / 2)
    assert np.bincount(by_time.map).tolist() == [40] * 10
    found = with_maps_that_start_over(by_time, group_by_direction(x, y).large)
    assert np.bincount(found.map).tolist() == [200, 200]
    assert (found.row == by_time.row).all()


def test_no_gap_at_all_is_one_row_of_one_map() -> None:
    found = group_by_time(np.arange(50.0), np.linspace(0, 0.1, 50), np.zeros(50), BEAM / 2)
    assert found.row.max() == 0
    assert found.map.max() == 0
    assert time_gaps([5.0])[0].size == 0


def test_a_jump_in_position_ends_a_row_though_time_goes_on() -> None:
    ra = np.concatenate([np.arange(10) * 5, np.arange(10) * 5 + 400]) / 3600
    assert position_gaps(ra, np.zeros(20), BEAM / 2).tolist() == [10]
    found = group_by_time(np.arange(20.0), ra, np.zeros(20), BEAM / 2)
    assert np.bincount(found.row).tolist() == [10, 10]
    assert found.map.max() == 0


def test_pointing_noise_on_one_position_is_no_jump() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.5 / 3600, (2, 200))
    assert position_gaps(noise[0], noise[1], BEAM / 2).size == 0


# ---- positions -------------------------------------------------------------------------------------------------------


def test_positions_a_beam_apart_are_different_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    where = np.repeat(np.arange(5), 20)
    ra = 150 + (where * 30 + rng.normal(0, 0.5, 100)) / 3600 / np.cos(np.radians(40))
    groups = position_groups(ra, np.full(100, 40.0) + rng.normal(0, 0.5, 100) / 3600, 14 / 3600)
    np.testing.assert_array_equal(groups, where)


@pytest.mark.parametrize(
    ("positions", "spectra", "pattern"),
    [(1, 1, SINGLE), (1, 500, SINGLE), (2, 100, MULTI), (3, 100, MULTI), (4, 100, RASTER), (36, 420, RASTER),
     (3, 4, RASTER)],
)  # fmt: skip
def test_patterns_by_the_number_of_positions(positions: int, spectra: int, pattern: str) -> None:
    assert observing_pattern(positions, spectra) == pattern


# ---- direction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 179.9])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("back_and_forth", [True, False])
def test_rows_of_a_raster_are_found_at_any_angle(angle: float, jitter: float, back_and_forth: bool) -> None:
    x, y = sweep(12, 25, angle=angle, jitter=jitter, back_and_forth=back_and_forth)
    found = group_by_direction(280 + x / np.cos(np.radians(-21)), -21 + y)
    assert np.bincount(found.row).tolist() == [25] * 12
    assert found.map.max() == 0


def test_maps_that_follow_each_other_without_a_pause_are_told_apart() -> None:
    x, y = sweep(8, 20, jitter=0.1)
    found = group_by_direction(np.tile(x, 3), np.tile(y, 3))
    assert np.bincount(found.map).tolist() == [160, 160, 160]
    assert np.bincount(found.row).tolist() == [20] * 24


def test_a_basket_of_two_axes_is_two_maps() -> None:
    one, other = sweep(9, 20, jitter=0.2), sweep(9, 20, angle=90, jitter=0.2)
    found = group_by_direction(np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]))
    assert np.bincount(found.map).tolist() == [180, 180]
    assert found.row.max() == 17


def test_a_row_that_was_cut_off_stays_a_row() -> None:
    x, y = sweep(6, 20)
    keep = np.ones(x.size, dtype=bool)
    keep[52:60] = False  # the third row ends after 12 spectra
    found = group_by_direction(x[keep], y[keep])
    assert np.bincount(found.row).tolist() == [20, 20, 12, 20, 20, 20]


def test_short_pieces_are_joined_until_they_are_as_long_as_a_row() -> None:
    """Lengths 20, 5, 15, 20, 3: the pieces of 5 and 15 are one row, the last 3 are what they are."""
    starts = raster.join_short_rows(np.array([0, 20, 25, 40, 60]), 63)
    assert starts.tolist() == [0, 20, 40, 60]


def test_a_wild_row_begins_and_ends_no_map() -> None:
    x, y = sweep(10, 20)
    x[60:80] += 0.5
    found = group_by_direction(x, y)
    assert found.map.max() == 0
    assert np.bincount(found.row).tolist() == [20] * 10


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("standing still", np.zeros(100), np.zeros(100)),
        ("few spectra", np.arange(3.0), np.zeros(3)),
        ("wandering", *np.cumsum(np.random.default_rng(5).normal(0, 1e-3, (2, 400)), axis=1)),
        ("a circle", np.cos(np.linspace(0, 12.56, 400)) / 60, np.sin(np.linspace(0, 12.56, 400)) / 60),
    ],
)
def test_what_is_no_raster_is_refused(name: str, x: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(RasterFailure):
        group_by_direction(x, y)


def test_mapping_to_and_fro_is_refused() -> None:
    """Up through ten rows, and down again through nine: on the way down every row is nearer to the start."""
    order = [*range(10), *range(8, -1, -1)]
    x, y = sweep(10, 20)
    rows = np.concatenate([np.arange(20) + 20 * k for k in order])
    with pytest.raises(RasterFailure, match="to and fro"):
        group_by_direction(x[rows], y[rows])


def test_the_most_frequent_value_is_the_larger_one_of_two() -> None:
    assert raster.most_frequent([3, 5, 5, 3, 9]) == 5


# ---- uniform maps ----------------------------------------------------------------------------------------------------


def maps(*sizes: int, row: int = 20):
    """Row and map of each spectrum, for maps of so many spectra in rows of ``row``."""
    map_ = np.repeat(np.arange(len(sizes)), sizes)
    rows, base = [], 0
    for size in sizes:
        rows.append(base + np.arange(size) // row)
        base = int(rows[-1].max()) + 1
    return np.concatenate(rows), map_


def test_a_last_map_that_lacks_a_row_is_odd() -> None:
    row, map_ = maps(200, 200, 180)
    assert [m.map for m in odd_maps(row, map_, np.ones(row.size, dtype=bool))] == [2]
    row, map_ = maps(200, 200, 181)  # 181 > 200 - 20
    assert odd_maps(row, map_, np.ones(row.size, dtype=bool)) == []


def test_an_overlong_map_is_odd_with_all_that_follow() -> None:
    row, map_ = maps(200, 200, 220, 200, 200)
    assert [m.map for m in odd_maps(row, map_, np.ones(row.size, dtype=bool))] == [2, 3, 4]


def test_a_hole_as_long_as_a_row_makes_a_map_odd() -> None:
    row, map_ = maps(200, 200)
    valid = np.ones(row.size, dtype=bool)
    valid[210:229] = False
    assert odd_maps(row, map_, valid) == []
    valid[229] = False
    assert [m.map for m in odd_maps(row, map_, valid)] == [1]


def test_a_single_map_has_nothing_to_differ_from() -> None:
    row, map_ = maps(133)
    assert odd_maps(row, map_, np.ones(row.size, dtype=bool)) == []
    assert longest_run(np.zeros(0, dtype=bool)) == 0


# ---- outliers --------------------------------------------------------------------------------------------------------


def test_corners_of_a_square_map_are_no_outliers_and_a_far_spectrum_is() -> None:
    """Median distance in a square of side a: 0.40 a; its corners, 0.71 a, are within 2.26 x 0.40 a = 0.90 a."""
    x, y = sweep(30, 30, step=5, spacing=5)
    found = pointing_outliers(120 + x, y)
    assert not found.outlier.any()
    assert found.limit_deg == pytest.approx(FACTOR * np.median(np.hypot(x, y)), rel=1e-3)
    x[17] += 3 * 150 / 3600
    assert np.flatnonzero(pointing_outliers(120 + x, y).outlier).tolist() == [17]


def test_the_factor_is_that_of_an_interrupted_map() -> None:
    assert pytest.approx(2.26, abs=0.005) == FACTOR


def test_one_position_has_no_outliers() -> None:
    assert not pointing_outliers(np.full(20, 80.0), np.full(20, 10.0)).outlier.any()
    assert pointing_outliers([], []).outlier.size == 0
