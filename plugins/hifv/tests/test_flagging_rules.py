"""Deterministic flags: which edges of basebands, which scans, how far online flags reach."""

from __future__ import annotations

import pytest

from pl_hifv.heuristics.flagging import Window, baseband_edges, matching_intents, online_command, time_buffer_s


def windows(baseband, first_id, start_hz, count=8, width_hz=128e6, channels=64, **more):
    return [
        Window(
            id=first_id + i, baseband=baseband, low_hz=start_hz + i * width_hz,
            high_hz=start_hz + (i + 1) * width_hz, channels=channels, **more,
        )
        for i in range(count)
    ]  # fmt: skip


def test_two_basebands_of_one_gigahertz_lose_20_mhz_at_their_outer_edges():
    # 8 windows of 128 MHz in 64 channels of 2 MHz: ten channels make 20 MHz
    both = windows(12, 0, 4.0e9) + windows(15, 8, 6.0e9)
    assert baseband_edges(both) == "0:0~9,7:54~63,8:0~9,15:54~63"


def test_touching_windows_of_different_basebands_stay_apart():
    assert baseband_edges(windows(12, 0, 4.0e9, count=4) + windows(15, 4, 4.512e9, count=4)) == ""


def test_a_gap_splits_a_baseband_and_a_narrow_one_keeps_its_edges():
    assert baseband_edges(windows(12, 0, 4.0e9, count=7)) == ""
    assert baseband_edges(windows(12, 0, 4.0e9, count=4) + windows(12, 4, 4.6e9, count=4)) == ""


def test_falling_frequencies_swap_the_ends_and_wide_channels_lose_one():
    wide = windows(12, 0, 4.0e9, count=1, width_hz=2e9, channels=10, is_reversed=True)
    assert baseband_edges(wide) == "0:9~9,0:0~0"


def test_only_scans_without_another_purpose_are_flagged():
    modes = [
        "SYSTEM_CONFIGURATION#UNSPECIFIED", "CALIBRATE_POINTING#ON_SOURCE",
        "CALIBRATE_FLUX#UNSPECIFIED,CALIBRATE_BANDPASS#UNSPECIFIED", "OBSERVE_TARGET#UNSPECIFIED",
    ]  # fmt: skip
    listed = "*POINTING*, FOCUS ,*SYSTEM_CONFIGURATION*,*UNSPECIFIED#UNSPECIFIED*"
    assert matching_intents(listed, modes) == ("*POINTING*", "*SYSTEM_CONFIGURATION*")
    assert matching_intents(listed, ["CALIBRATE_POINTING#ON_SOURCE,CALIBRATE_FLUX#UNSPECIFIED"]) == ()
    assert matching_intents("", modes) == ()


@pytest.mark.parametrize(
    ("how", "expected"), [("halfint", [1.452, 1.5]), ("1.5int", [4.5, 4.5]), ("manual", [0.2, 0.2])]
)
def test_online_flags_reach_half_or_one_and_a_half_integrations(how, expected):
    assert time_buffer_s(how, 3.0, (0.2,)) == pytest.approx(expected)


def test_a_row_of_flag_cmd_becomes_a_line_of_a_flag_list():
    row = "antenna='ea23&&*' timerange='2021/06/11/14:09:46.458~2021/06/11/14:12:21.772'"
    assert online_command(row, "ANTENNA_NOT_ON_SOURCE") == f"mode='manual' {row} reason='ANTENNA_NOT_ON_SOURCE'"
    assert online_command(" mode='clip' reason='x' ", "it's") == "mode='clip' reason='x'"
    assert online_command("antenna='1'", "it's bad") == "mode='manual' antenna='1' reason='it_s_bad'"


def test_manual_times_before_and_after_may_differ() -> None:
    assert time_buffer_s("manual", 3.0, (0.1, 0.4)) == [0.1, 0.4]


def test_antennas_off_source_are_told_from_other_online_flags() -> None:
    from pl_hifv.heuristics.flagging import not_on_source

    lines = ["antenna='ea01' reason='ANTENNA_NOT_ON_SOURCE'", "antenna='ea02' reason='SUBREFLECTOR_ERROR'"]
    assert not_on_source(lines) == (lines[:1], lines[1:])
