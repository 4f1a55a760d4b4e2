"""How large images become, and what is given up for a limit."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from pl_hif import sizelimits
from pl_hif.heuristics.productsize import (
    Limits,
    Size,
    crowded,
    efficient_size,
    fewer_fields,
    fewer_spws,
    largest_cube_gb,
    least_flagged,
    nbin,
    pb_level,
    product_gb,
)
from pl_hif.qa.productsize import sizes_fit
from pl_hif.stages import checkproductsize


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


# ---- the cascade ----------------------------------------------------------------------------------------------------


class Sky:
    """Fields and windows that would be imaged: squares of 1,000 pixels out to a level of 0.2, 5 pixels per beam.

    The area of an image goes with −ln of the level, and with the square of the pixels per beam.
    """

    def __init__(self, channels, fields=("A",), flagged=None):
        self.channels, self.fields, self.flagged = channels, fields, flagged or {}
        self.telescope = "EVLA"

    def after(self, effects):
        return self

    def measurement_sets(self, vis=None):
        return (SimpleNamespace(telescope="EVLA", data_types=()),)

    def heuristic(self, slot, **where):
        return lambda specmode: SimpleNamespace(value=2.0)

    def predict(self, check, specmode, hm_imsize="", hm_cell=""):
        level = float(hm_imsize.removesuffix("pb") or 0.2)
        pixels = float(hm_cell.removesuffix("ppb") or 5.0)
        side = round(1000 * math.sqrt(math.log(level) / math.log(0.2)) * pixels / 5)
        return tuple(
            size(field, spw, side, n, check.nbins.get(str(spw), 1), 1e9 + spw * 1e6)
            for field in self.fields for spw, n in self.channels.items()
        )  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    """The stage on a sky with limits; windows of 3840 channels can be binned."""

    def stage(sky, **limits):
        monkeypatch.setattr(
            checkproductsize._Check, "_predict", lambda check, specmode, **more: sky.predict(check, specmode, **more)
        )
        monkeypatch.setattr(
            checkproductsize._Check, "_binned",
            lambda check, sizes: {str(s): 2 for s, n in sky.channels.items() if nbin(n, 1.0, 1.0) == 2},
        )  # fmt: skip
        monkeypatch.setattr(
            checkproductsize._Check, "_representative",
            lambda check, sizes: (sky.fields[-1], least_flagged(sky.flagged or dict.fromkeys(sky.channels, 0.0))),
        )
        stage = checkproductsize.Checkproductsize()
        return stage.run(sky, checkproductsize.CheckproductsizeInputs(**limits))

    return stage


def value_of(result):
    (effect,) = result.effects
    return effect.value


def test_what_fits_is_left_alone(run):
    found = run(Sky({0: 1000}), maxcubesize=5, maxcubelimit=6, maxproductsize=10)
    assert found.status == "OK" and found.before == found.after
    assert "largest cube has 4 GB, all products 8.01 GB" in found.reason


def test_no_limits_and_contradictory_limits_look_at_nothing(run):
    assert run(None).status == "OK"
    wrong = run(None, maxcubesize=1, maximsize=100)
    assert wrong.status == "ERROR" and value_of(wrong)["reason"].startswith("limits in GB and maximsize")
    assert run(None, maxcubesize=3, maxcubelimit=2).status == "ERROR"
    assert run(None, maxcubesize=3, maxcubelimit=4, maxproductsize=4).status == "ERROR"


def test_binning_comes_first_and_is_enough(run):
    # 4 bytes · 10⁶ · 3840 = 15.36 GB; binned by two 7.68 GB.
    found = run(Sky({0: 3840, 1: 100}), maxcubesize=8, maxcubelimit=20)
    assert (found.status, found.nbins, found.hm_imsize, found.hm_cell) == ("MITIGATED", {"0": 2}, "", "")
    assert largest_cube_gb(found.after) == pytest.approx(7.68)


def test_then_the_field_of_view_then_the_pixels(run):
    # 4 GB for 2.5 GB: p = exp(−0.6931·2.2064·0.625/1.01) = 0.388 → 0.39: area −ln 0.39/−ln 0.2 = 0.585, 2.34 GB.
    found = run(Sky({0: 1000}), maxcubesize=2.5, maxcubelimit=3)
    assert (found.hm_imsize, found.hm_cell, found.nbins) == ("0.39pb", "", {})
    assert largest_cube_gb(found.after) == pytest.approx(2.34, abs=0.01)
    # For 0.5 GB: the level ends at 0.7, 0.886 GB; 3.25 of 5 pixels per beam (robust 2) make 0.886·0.4225 = 0.374 GB.
    found = run(Sky({0: 1000}), maxcubesize=0.5, maxcubelimit=0.6)
    assert (found.status, found.hm_imsize, found.hm_cell) == ("MITIGATED", "0.7pb", "3.25ppb")
    assert largest_cube_gb(found.after) == pytest.approx(0.374, abs=0.002)


def test_what_is_still_too_large_passes_up_to_the_limit_and_is_an_error_above(run):
    # As before 0.374 GB.
    assert run(Sky({0: 1000}), maxcubesize=0.3, maxcubelimit=0.4).status == "MITIGATED"
    refused = run(Sky({0: 1000}), maxcubesize=0.3, maxcubelimit=0.35)
    assert refused.status == "ERROR" and "GB after all mitigation, more than 0.35 GB" in refused.reason
    assert run(Sky({0: 1000}), maxcubesize=0.3).status == "ERROR", "without a limit it is the size wanted"


def test_fields_go_until_the_products_fit_and_the_representative_one_stays(run):
    # Four fields of 8.008 GB each; 20 GB hold two: int(20/(32.03/4)) = 2.
    found = run(Sky({0: 1000}, fields=("A", "B", "C", "D")), maxcubesize=5, maxcubelimit=6, maxproductsize=20)
    assert (found.status, found.fields) == ("MITIGATED", ("D", "A"))
    assert product_gb(found.after) == pytest.approx(16.016, abs=0.001)
    assert list(value_of(found)["fields"]) == ["D", "A"]


def test_a_single_field_with_too_many_products_is_made_smaller_once_more(run):
    # One window of 3840 channels: cube 15.36 GB fits into 16, products 30.73 do not fit into 17: binned 15.37.
    found = run(Sky({0: 3840}), maxcubesize=16, maxcubelimit=16, maxproductsize=17)
    assert (found.nbins, found.hm_imsize, found.spws) == ({"0": 2}, "", ())
    # Three windows, 24.02 GB for 15: p = exp(−0.6931·2.2064·0.6244/1.01) = 0.389 → 0.39: 0.585·24.02 = 14.05 GB.
    found = run(Sky({0: 1000, 1: 1000, 2: 1000}), maxcubesize=10, maxcubelimit=12, maxproductsize=15)
    assert (found.hm_imsize, found.hm_cell, found.spws) == ("0.39pb", "", ())
    assert product_gb(found.after) == pytest.approx(14.05, abs=0.03)


def test_of_large_cubes_one_stays_with_the_representative_and_the_small_ones_that_fit(run):
    # 4 GB each in 0 and 1 are above half of 6 GB; 2 is the least flagged; 3 and 4 are small.
    sky = Sky({0: 1000, 1: 1000, 2: 500, 3: 100, 4: 200}, flagged={0: 0.3, 1: 0.2, 2: 0.1, 3: 0.5, 4: 0.6})
    found = run(sky, maxcubesize=5, maxcubelimit=6, maxproductsize=100)
    assert found.spws == (0, 2, 3, 4)
    # The best window is itself a large one: it is the one that stays.
    found = run(Sky(sky.channels, flagged={**sky.flagged, 1: 0.0}), maxcubesize=5, maxcubelimit=6, maxproductsize=100)
    assert found.spws == (1, 2, 3, 4)


def test_products_that_cannot_fit_are_an_error(run):
    found = run(Sky({0: 1000}), maxproductsize=0.5)
    # The level ends at 0.7, products 2·(0.886 + 0.001) GB·0.4225 = 0.75 GB.
    assert found.status == "ERROR" and "products would have 0.75 GB, more than 0.5 GB" in found.reason


def test_images_get_coarser_pixels_and_are_cut_to_an_efficient_size_only_where_needed(run):
    # 1,000 pixels at 5 per beam are 800 at 4; below that they are cut.
    found = run(Sky({0: 1}, fields=("A", "B")), maximsize=900)
    assert found.targets == {f"{f}|0": {"cell": "4ppb", "imsize": None} for f in "AB"}
    found = run(Sky({0: 1}), maximsize=700)
    assert found.targets == {"A|0": {"cell": "4ppb", "imsize": [648, 648]}}, "2³·3⁴; 650 … 700 hold 7, 11, 13 …"
    assert run(Sky({0: 1}), maximsize=1000).status == "OK"


def test_the_largest_efficient_size():
    assert efficient_size(16384) == 16384  # 2¹⁴
    assert efficient_size(16385) == 16384
    assert efficient_size(700) == 648


def test_a_window_without_good_data_represents_nothing():
    assert least_flagged({0: 0.96, 1: 0.99}) is None
    assert least_flagged({0: 0.5, 1: 0.2, 2: 0.2}) == 1
    assert least_flagged({}) is None


def test_many_targets_and_channels_are_said_to_take_long():
    assert crowded([size(f"f{i}", 0, nchan=961) for i in range(31)])
    assert not crowded([size(f"f{i}", 0, nchan=960) for i in range(31)])
    assert not crowded([size(f"f{i}", 0, nchan=961) for i in range(30)])


@pytest.mark.parametrize(("status", "score"), [("OK", 1.0), ("MITIGATED", 0.85), ("ERROR", 0.0)])
def test_the_score_follows_the_status(status, score):
    result = checkproductsize.CheckproductsizeResult(status=status, reason="Why.", limits=Limits())
    (found,) = [sizes_fit(result)]
    assert (found.score, found.long) == (score, "Why.")


def test_a_refusal_is_heeded_until_the_stage_runs_again():
    refused = SimpleNamespace(value=lambda key, default=None: {"status": "ERROR", "reason": "Too large."})
    assert sizelimits.refusal(refused) == "hif_checkproductsize refused to make images of the targets. Too large."
    assert sizelimits.refusal(SimpleNamespace(value=lambda key, default=None: {"status": "MITIGATED"})) == ""
    assert sizelimits.refusal(SimpleNamespace(value=lambda key, default=None: None)) == ""
