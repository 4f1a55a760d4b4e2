"""Thresholds and modes of hifv_checkflag."""

from __future__ import annotations

import math

import pytest

from pl_hifv.heuristics import rfi
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
