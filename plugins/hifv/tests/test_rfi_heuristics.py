"""Thresholds and modes of hifv_checkflag."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pl_hifv.heuristics import rfi
from pl_hifv.heuristics.bursts import bursts
from pl_hifv.heuristics.rfi import MODES, RfiWindow, hands, pulled_down, relative_noise, sefd_jy


def window(id_, group="C A0C0", band="C", centre=4.377e9, width=2e6):
    return RfiWindow(id=id_, group=group, band=band, centre_hz=centre, channel_hz=width)


def test_sefd_is_interpolated_between_table_points_and_flat_outside():
    assert sefd_jy("C", 4.377e9) == 263
    assert sefd_jy("C", (4377 + 5374) / 2 * 1e6) == pytest.approx((263 + 281) / 2)
    assert sefd_jy("C", 1e9) == 565
    assert sefd_jy("?", 1e9) == 500


def test_relative_noise_falls_with_the_root_of_the_channel_width():
    assert relative_noise(window(0, width=1e6)) / relative_noise(window(0, width=4e6)) == pytest.approx(2)
    assert relative_noise(window(0, width=4e6), use_sefd=False) == pytest.approx(0.5)


def test_a_window_full_of_interference_is_held_to_the_median_of_its_baseband():
    windows = {i: window(i) for i in range(5)}
    measured = [[0, 0, 0.10], [0, 1, 0.11], [0, 2, 0.09], [0, 3, 3.0], [0, 4, 0.10]]
    used = pulled_down(measured, windows)
    assert used[3] == [0, 3, pytest.approx(0.10)]
    assert used[2][2] == pytest.approx(0.09), "a quiet window keeps its own threshold"


def test_basebands_and_fields_are_judged_apart():
    windows = {0: window(0), 1: window(1), 2: window(2, group="C B0D0"), 3: window(3, group="C B0D0")}
    measured = [[0, 0, 1.0], [0, 1, 1.0], [0, 2, 5.0], [0, 3, 5.0], [1, 0, 9.0], [1, 1, 9.0]]
    assert pulled_down(measured, windows) == measured


def test_windows_of_different_sensitivity_are_compared_after_scaling():
    # The same interference-free receiver with channels of 2 and 8 MHz: deviations differ by the root of four.
    windows = {0: window(0), 1: window(1), 2: window(2, width=8e6)}
    measured = [[0, 0, 0.2], [0, 1, 0.2], [0, 2, 0.1]]
    assert pulled_down(measured, windows) == [[0, 0, pytest.approx(0.2)], [0, 1, pytest.approx(0.2)],
                                              [0, 2, pytest.approx(0.1)]]
    assert pulled_down([*measured[:2], [0, 2, 0.4]], windows)[2][2] == pytest.approx(0.1)


def test_a_line_window_that_is_not_smoothed_keeps_its_threshold_beside_smoothed_ones():
    # Noise of 1/4, 1/2, 1/4 of three channels: sqrt(3/8) = 0.612 of one.
    smooth = [RfiWindow(id=i, group="L A0C0", band="L", centre_hz=1.4e9, channel_hz=1e6, smoothed=True) for i in (0, 1)]
    line = RfiWindow(id=2, group="L A0C0", band="L", centre_hz=1.4e9, channel_hz=1e6)
    measured = [[0, 0, 0.612], [0, 1, 0.612], [0, 2, 1.0]]
    used = pulled_down(measured, dict(enumerate([*smooth, line])))
    assert [u[2] for u in used] == pytest.approx([0.612, 0.612, 1.0], rel=1e-3)


def test_windows_without_deviation_do_not_move_the_median():
    windows = {i: window(i) for i in range(3)}
    assert pulled_down([[0, 0, 0.0], [0, 1, 0.1], [0, 2, 0.1]], windows)[0][2] == 0.0


def test_hands_of_circular_linear_and_single_polarization():
    assert hands(("RR", "RL", "LR", "LL"), "all") == ("RL", "LR", "RR", "LL")
    assert hands(("RR", "LL"), "cross") == ()
    assert hands(("XX", "XY", "YX", "YY"), "parallel") == ("XX", "YY")


def test_the_cut_for_noise_has_the_false_alarms_of_three_sigma():
    threshold = 1.2533 + rfi.NOISE_CUT * 0.6551  # Rayleigh: mean sqrt(pi/2), deviation sqrt(2 - pi/2)
    assert math.exp(-(threshold**2) / 2) == pytest.approx(0.00135, rel=0.03)


def test_every_mode_of_the_observatory_is_there():
    assert set(MODES) == {
        "", "semi", "bpd", "allcals", "target", "bpd-vla", "allcals-vla", "target-vla", "bpd-vlass", "allcals-vlass",
        "target-vlass", "vlass-imaging",
    }  # fmt: skip
    assert not MODES["target-vlass"].use_sefd and MODES["target-vla"].use_sefd


def test_a_flagged_hand_does_not_take_the_good_hand_of_its_antenna_with_it() -> None:
    from pl_hifv.flagger import extensions

    assert extensions("growtime=100.0", "0~2", {}) == ["mode='extend' growtime=100.0 spw='0,1,2' extendpols=True"]
    found = extensions("growtime=100.0", "0:1~30,1:1~5;7~30,2:1~30", {1: ("ea05", "ea09")})
    assert found == [
        "mode='extend' growtime=100.0 spw='0:1~30,2:1~30' extendpols=True",
        "mode='extend' growtime=100.0 spw='1:1~5;7~30' extendpols=True antenna='!ea05;!ea09'",
        "mode='extend' growtime=100.0 spw='1:1~5;7~30' extendpols=False antenna='ea05'",
        "mode='extend' growtime=100.0 spw='1:1~5;7~30' extendpols=False antenna='ea09'",
    ]


# ---- growth and bursts -----------------------------------------------------------------------------------------------


def test_flags_do_not_grow_around_what_smoothing_has_blurred_already():
    before = [1.0] + 10 * [0.0] + [1.0]
    now = [1.0, 0, 0, 0, 0.9, 0.9, 0.9, 0, 0, 0, 0, 1.0]
    assert rfi.growable(before, now, smoothed=True) == [1, 2, 8, 9, 10]  # neither 4~6 nor 3 and 7
    assert rfi.growable(before, now, smoothed=False) == list(range(1, 11))


def test_flags_grow_around_one_channel_whose_wings_may_be_too_weak_to_be_found():
    now = [0.0] * 5 + [0.9] + [0.0] * 6
    assert rfi.growable([0.0] * 12, now, smoothed=True) == list(range(12))


def test_a_burst_is_found_in_its_channel_and_integration_only():
    amplitude = np.random.default_rng(1).normal(7.0, 0.05, (24, 16))
    amplitude[12:] *= 2  # another source in the second scan is no burst
    amplitude[5, 9] += 30
    amplitude[18:20] += 40
    expected = np.zeros((24, 16), bool)
    expected[5, 9], expected[18:20] = True, True
    assert np.array_equal(bursts(amplitude, np.repeat([1, 2], 12)), expected)


def test_noise_slow_changes_and_short_scans_make_no_burst():
    # Medians of 56 amplitudes of noise: mean 1.18 sigma, scatter 0.09.
    noise = np.median(np.abs(np.random.default_rng(2).normal(size=(40, 32, 56, 2)) @ [1, 1j]), axis=2)
    assert not bursts(noise, np.zeros(40)).any()
    assert not bursts(np.linspace(1, 1.5, 30)[:, None] * np.ones(8), np.zeros(30)).any()
    assert not bursts(np.array([1.0, 1, 9, 1])[:, None] * np.ones(8), np.zeros(4)).any()


def test_interference_that_lasts_and_wanders_is_no_burst():
    amplitude = np.random.default_rng(3).normal(7.0, 0.05, (40, 16))
    amplitude[:, 9] += 30 * np.random.default_rng(4).uniform(0.2, 1.8, 40)
    assert not bursts(amplitude, np.zeros(40)).any()


def test_missing_data_are_no_burst():
    amplitude = np.full((10, 8), np.nan)
    amplitude[:, 4] = 1.0
    assert not bursts(amplitude, np.zeros(10)).any()
