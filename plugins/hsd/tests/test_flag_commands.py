"""Flag commands as text: times, edges, online flags, and what the import writes."""

from __future__ import annotations

import pytest

from pl_hsd.flagfiles import pure_words, setup_of
from pl_hsd.heuristics import flagging
from pl_kernel import InputError
from pl_kernel.common.flagcommands import read_commands
from pl_kernel.ms.samples import SampleScan, sample_ms


def test_times_are_written_as_casa_reads_them() -> None:
    """MJD 57023.5 is noon of 2015 January 1."""
    assert flagging.casa_time(57023.5 * 86400 + 1.25) == "2015/01/01/12:00:01.250000000"
    assert flagging.casa_time(57023.5 * 86400 - 1e-12) == "2015/01/01/12:00:00.000000000"


def test_integrations_that_follow_each_other_are_one_range() -> None:
    ranges = flagging.merged_ranges([100.0, 100.5, 101.0, 105.0], 0.25)
    assert ranges == [(99.75, 101.25), (104.75, 105.25)]
    assert flagging.merged_ranges([105.0, 100.0], [0.25, 2.0]) == [(98.0, 102.0), (104.75, 105.25)]
    assert flagging.merged_ranges([100.0, 100.50015], 0.25) == [(99.75, 100.25), (100.25015, 100.75015)]


@pytest.mark.parametrize(
    ("rule", "bandwidth", "channels", "expected"),
    [
        (("1.875GHz",), 2e9, 128, (4, 4)),  # 0.125 GHz too much: 1/32 of 128 at either side
        (("1.875GHz",), 1.875e9, 128, (0, 0)),
        (("1875 MHz",), 2e9, 4096, (128, 128)),
        (("0.05",), 1e8, 100, (5, 5)),
        (("0.05", "0.1"), 1e8, 100, (5, 10)),
        (("0.5",), 1e8, 100, (0, 0)),  # nothing would be left
    ],
)
def test_edges_by_bandwidth_or_by_fraction(rule, bandwidth, channels, expected) -> None:
    assert flagging.edge_channels(rule, bandwidth, channels) == expected


def test_windows_of_whole_sub_bands_take_a_fraction_of_their_own() -> None:
    # 3 of 62 channels are 0.048387 of them; a bandwidth as rule holds for every window.
    assert flagging.edge_channels(("0.1",), 2e9, 62, 0.048387) == (3, 3)
    assert flagging.edge_channels(("0.1",), 2e9, 60, 0.048387) == (6, 6)
    assert flagging.edge_channels(("1.875GHz",), 2e9, 248, 0.048387) == (8, 8)


@pytest.mark.parametrize("rule", ["wide", "1.8 furlongs", "0.7", "-0.1", ""])
def test_a_rule_that_is_neither_is_refused(rule: str) -> None:
    with pytest.raises(InputError, match="fracspw"):
        flagging.edge_fraction(rule, 2e9)


def test_the_selection_of_edges_leaves_out_windows_without() -> None:
    assert flagging.edge_selection({17: (4, 4), 19: (0, 0), 21: (0, 2)}, {17: 128, 19: 128, 21: 64}) == (
        "17:0~3;124~127,21:62~63"
    )


def test_online_flags_are_told_apart_by_their_reason() -> None:
    lines = [
        "mode='manual' antenna='PM01' reason='QA0:slow'", "mode='manual' antenna='PM02' reason='QA2_bad'",
        "mode='manual' antenna='QA0' reason='Mount_is_off_source'",
    ]  # fmt: skip
    found = flagging.split_online(lines)
    assert [len(found[k]) for k in ("qa0", "qa2", "online")] == [1, 1, 1]


def test_online_flags_are_widened_and_others_are_not() -> None:
    line = "antenna='PM01' timerange='2015/01/01/12:00:00.000~2015/01/01/12:00:10.5' reason='x'"
    assert flagging.widened(line, 0.5, 1.0) == (
        "antenna='PM01' timerange='2015/01/01/11:59:59.500000000~2015/01/01/12:00:11.500000000' reason='x'"
    )
    assert flagging.widened("antenna='PM01'", 1.0, 1.0) == "antenna='PM01'"
    assert flagging.widened(line, 0.0, 0.0) == line


def test_buffers_of_the_reference() -> None:
    assert flagging.time_buffer_s("halfint", 0.576, 0.0) == pytest.approx((0.24, 0.288))
    assert flagging.time_buffer_s("1.5int", 2.0, 0.0) == (3.0, 3.0)
    assert flagging.time_buffer_s("manual", 2.0, 0.7) == (0.7, 0.7)


def test_beams_of_one_dish_cast_no_shadow() -> None:
    assert flagging.beams_of_one_dish([0.0, 0.0, 0.0])
    assert not flagging.beams_of_one_dish([12.5, 30.0]) and not flagging.beams_of_one_dish([])


def test_words_that_are_also_said_of_targets_flag_nothing() -> None:
    ms = sample_ms(scans=(SampleScan(0, "ATMOSPHERE,POINTING"), SampleScan(2, "TARGET,POINTING")))
    assert pure_words(ms, ("ATMOSPHERE", "POINTING", "CHECK")) == ("WORD_ATMOSPHERE#ON",)


def test_a_damaged_line_of_a_flag_file_is_named(tmp_path) -> None:
    path = tmp_path / "x.flagtemplate.txt"
    path.write_text("# comment\nmode='manual' antenna='PM01'\n\nnonsense\n")
    with pytest.raises(InputError, match="Line 4"):
        read_commands(path)
    path.write_text("# comment\nmode='manual' antenna='PM01'\n")
    assert read_commands(path) == ["mode='manual' antenna='PM01'"]


def test_the_setup_of_a_window_is_the_head_of_its_name() -> None:
    assert setup_of("X0000000101#ALMA_RB_06#BB_1#SW-01#FULL_RES") == "X0000000101"
    assert setup_of("A01") == ""
