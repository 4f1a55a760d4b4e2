"""How large images become, and what is given up for a limit."""

from __future__ import annotations

import math

import pytest

from pl_hif.heuristics.productsize import (
    Limits,
    Size,
    fewer_fields,
    fewer_spws,
    largest_cube_gb,
    nbin,
    pb_level,
    product_gb,
)


def size(field="A", spw=0, side=1000, nchan=1000, bins=1, frequency=1e9):
    return Size(field=field, spws=(spw,), nx=side, ny=side, nchan=nchan, nbin=bins, frequency_hz=frequency)


def test_four_bytes_per_pixel_and_channel():
    assert size().cube_gb == pytest.approx(4.0)  # 4 bytes · 1000² pixels · 1000 channels
    assert size(bins=2).cube_gb == pytest.approx(2.0)
    # Twice (image and primary beam) the cube and the continuum image of 0.004 GB.
    assert product_gb([size()]) == pytest.approx(2 * 4.004)
    assert largest_cube_gb([size(), size(nchan=10)]) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("channels", "ratio", "expected"),
    [(3840, 1.0, 2), (7680, 2.0, 2), (1920, 2.667, 2), (1920, 2.0, 1), (960, 2.667, 2), (1000, 2.667, 1)],
)
def test_channels_are_binned_where_they_are_not_independent(channels, ratio, expected):
    assert nbin(channels, ratio * 1e3, 1e3) == expected


def test_the_field_of_view_shrinks_with_the_limit():
    # p = exp(-ln 2 · 2.2064 · 0.5 / 1.01) = 0.469 for a cube of twice the limit.
    assert pb_level(20, 40) == pytest.approx(math.exp(-math.log(2) * 2.2064 * 0.5 / 1.01), abs=0.005)
    assert pb_level(20, 20.1) == pytest.approx(0.22)
    assert pb_level(1, 1000) == 0.7


def test_fields_are_dropped_but_never_the_representative_one():
    assert fewer_fields(["A", "B", "C", "D"], 100.0, 50.0, "D") == ("D", "A")
    assert fewer_fields(["A", "B"], 100.0, 1.0) == ("A",)
    assert fewer_fields(["A", "B"], 10.0, 50.0) == ("A", "B")


def test_one_of_the_large_windows_is_kept_and_small_ones_while_they_fit():
    cubes = {0: (30.0, 1e9), 1: (30.0, 2e9), 2: (1.0, 3e9), 3: (2.0, 4e9)}
    kept = fewer_spws(cubes, 2.0, Limits(maxcubesize=20, maxcubelimit=40, maxproductsize=64))
    assert kept == (0, 2), "30 GB and 1 GB make 62 GB of products; 2 GB more would exceed 64"
    assert fewer_spws(cubes, 2.0, Limits(maxcubesize=20, maxcubelimit=40, maxproductsize=64), 1) == (1, 2)


def test_contradictory_limits_are_named():
    assert "exclude" in Limits(maxcubesize=1, maximsize=100).complaint()
    assert "above" in Limits(maxcubesize=3, maxcubelimit=2).complaint()
    assert "not below" in Limits(maxcubesize=3, maxcubelimit=3, maxproductsize=3).complaint()
    assert Limits(maxcubesize=20, maxcubelimit=40, maxproductsize=100).complaint() == ""
    assert Limits(maximsize=16384).complaint() == ""
