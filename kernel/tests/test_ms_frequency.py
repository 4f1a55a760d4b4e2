"""Claims about channel and frequency ranges and about cont.dat."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.contfile import ContFile, ContRanges, parse_contfile, read_contfile
from pl_kernel.ms.frequency import (
    ChannelRange,
    ChannelSelection,
    FrequencyRange,
    FrequencySelection,
    casa_selection,
    parse_range_hz,
)
from pl_kernel.ms.records import Frame
from pl_kernel.ms.samples import sample_ms
from pl_kernel.ms.virtual import RealSpw, VirtualSpw

UPPER = sample_ms(channel_width_hz=1e6).spws[0]  # centres 1000, 1001, … 1063 MHz
LOWER = sample_ms(channel_width_hz=-1e6).spws[0]  # centres 1000, 999, … 937 MHz
S0 = RealSpw(0)


def chans(*ranges: tuple[int, int], n: int = 64) -> ChannelSelection:
    return ChannelSelection.of([ChannelRange(a, b, S0) for a, b in ranges], n)


def test_touching_and_overlapping_channels_join() -> None:
    assert chans((10, 20), (4, 6), (7, 9), (15, 30)).ranges == ((4, 30),)
    assert chans((60, 99)).ranges == ((60, 63),)


def test_inversion_and_text() -> None:
    assert chans((0, 3), (60, 63)).inverted().to_casa() == "0:4~59"
    assert chans((4, 10), (20, 30)).to_casa() == "0:4~10;20~30"
    assert chans((0, 63)).to_casa() == "0"
    assert chans((0, 63)).inverted().to_casa() == ""
    other = ChannelSelection(RealSpw(3), 8, ((1, 2),))
    assert casa_selection([other, chans((4, 10)), chans((0, 63)).inverted()]) == "0:4~10,3:1~2"


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.lists(st.booleans(), min_size=1, max_size=40))
def test_channel_algebra_is_that_of_masks(one: list[bool], two: list[bool]) -> None:
    n = min(len(one), len(two))
    a, b = np.array(one[:n]), np.array(two[:n])
    x, y = ChannelSelection.from_mask(S0, a), ChannelSelection.from_mask(S0, b)
    np.testing.assert_array_equal(x.mask(), a)
    np.testing.assert_array_equal(x.union(y).mask(), a | b)
    np.testing.assert_array_equal(x.intersection(y).mask(), a & b)
    np.testing.assert_array_equal(x.inverted().mask(), ~a)
    assert x.count == a.sum()


@pytest.mark.parametrize(("window", "low", "high"), [(UPPER, 1003.5e6, 1010.5e6), (LOWER, 989.5e6, 996.5e6)])
def test_edges_of_channels_4_to_10_whatever_the_orientation(window, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    frequencies = chans((4, 10)).to_frequencies(window, VirtualSpw(7))
    assert frequencies == FrequencySelection(Frame.TOPO, VirtualSpw(7), ((low, high),))
    assert frequencies.to_channels(window) == chans((4, 10))
    assert frequencies.to_channels(window, trim=2).ranges == ((6, 8),)


def test_a_frame_is_never_mixed_up() -> None:
    lsrk = FrequencySelection(Frame.LSRK, None, ((1.003e9, 1.01e9),))
    with pytest.raises(DataError, match=r"TOPO.*LSRK"):
        lsrk.to_channels(UPPER)
    with pytest.raises(DataError, match="do not mix"):
        lsrk.union(FrequencySelection(Frame.TOPO, None, ()))
    with pytest.raises(DataError, match="cannot be joined"):
        FrequencySelection.of([FrequencyRange(1.0, 2.0, Frame.TOPO), FrequencyRange(1.0, 2.0, Frame.LSRK)])


def test_conversion_calls_the_converter_and_keeps_low_before_high() -> None:
    asked: list[tuple[Frame, Frame]] = []

    def convert(hz: NDArray[np.float64], old: Frame, new: Frame) -> NDArray[np.float64]:
        asked.append((old, new))
        return hz * (1 - 1e-4)

    lsrk = FrequencySelection(Frame.LSRK, VirtualSpw(0), ((1.0e9, 1.1e9), (1.2e9, 1.3e9)))
    topo = lsrk.in_frame(Frame.TOPO, convert)
    assert asked == [(Frame.LSRK, Frame.TOPO)]
    assert topo.frame is Frame.TOPO
    np.testing.assert_allclose(topo.ranges_hz, [(0.9999e9, 1.09989e9), (1.19988e9, 1.29987e9)], rtol=1e-12)
    assert lsrk.in_frame(Frame.LSRK, convert) == lsrk
    assert len(asked) == 1


def test_union_inversion_and_bandwidth_of_frequencies() -> None:
    a = FrequencySelection.parse("1.0~1.1GHz;1200~1300MHz", Frame.TOPO)
    b = FrequencySelection.parse("1.05~1.2GHz", Frame.TOPO)
    np.testing.assert_allclose(a.union(b).ranges_hz, [(1.0e9, 1.3e9)])
    np.testing.assert_allclose(a.intersection(b).ranges_hz, [(1.05e9, 1.1e9)])
    np.testing.assert_allclose(a.inverted(0.9e9, 1.25e9).ranges_hz, [(0.9e9, 1.0e9), (1.1e9, 1.2e9)])
    assert a.bandwidth_hz == pytest.approx(2e8)
    assert b.to_casa(S0) == "0:1.0500000000~1.2000000000GHz"


@pytest.mark.parametrize("text", ["1.2GHz", "a~bGHz", "1~2", "1~2parsec", ""])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(InputError, match="no frequency range"):
        parse_range_hz(text)


# ---- cont.dat ----

V3 = """Field: M 51

SpectralWindow: 17 WIDE#1
Flags: LOWBANDWIDTH LOWSPREAD
1.4000000000~1.4100000000GHz LSRK
1.4200000000~1.4250000000GHz LSRK

SpectralWindow: 19 WIDE#2
NONE

Field: NGC 5921

SpectralWindow: 17 WIDE#1
Flags: ALLCONT
1.4000000000~1.5000000000GHz LSRK

"""


def test_version_3_is_read_and_written_back_to_the_letter() -> None:
    assert parse_contfile(V3).to_text() == V3


def test_queries() -> None:
    file = parse_contfile(V3)
    answer = file.query("M 51", VirtualSpw(17))
    assert answer.text == "1.4000000000~1.4100000000GHz;1.4200000000~1.4250000000GHz LSRK"
    assert (answer.all_continuum, answer.low_bandwidth, answer.low_spread) == (False, True, True)
    assert answer.selection is not None
    assert answer.selection.bandwidth_hz == pytest.approx(15e6)
    assert file.query("M 51", VirtualSpw(19)).text == "NONE"
    assert file.query("NGC 5921", VirtualSpw(17)).all_continuum
    assert file.query("M 31", VirtualSpw(17)).text == ""
    # The name decides: files travel between runs whose ids differ.
    assert file.query("M 51", VirtualSpw(3), "WIDE#1").text.startswith("1.4000000000")
    assert file.query("M 51", VirtualSpw(17), "OTHER#1").text == ""


def test_older_versions() -> None:
    (v2,) = parse_contfile("Field: a\n\nSpectralWindow: 3\n1.0~1.1GHz LSRK\n").entries
    assert (v2.spw, v2.spw_name, v2.frame) == (3, "", Frame.LSRK)
    (v1,) = parse_contfile("Field: a\n\nSPW3\n1.0~1.1GHz\n").entries
    assert (v1.spw, v1.frame) == (3, Frame.TOPO)
    (bare,) = parse_contfile("My field\n\nSPW3\n1.0~1.1GHz;1.2~1.3GHz;\n").entries
    assert (bare.field, bare.text) == ("My field", "1.0000000000~1.1000000000GHz;1.2000000000~1.3000000000GHz TOPO")
    (everything,) = parse_contfile("Field: a\nSpectralWindow: 3\nALL\n").entries
    assert everything.text == "ALLCONT"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SpectralWindow: 3\n", "line 1"),
        ("Field: a\n1.0~1.1GHz LSRK\n", "line 2"),
        ("Field: a\nSpectralWindow: 3\nFlags: ODD\n", "line 3"),
        ("Field: a\nSpectralWindow: 3\n\nwhatever\n", "line 4"),
        ("Field: a\nSpectralWindow: 3\n1.0~1.1GHz LSRK\n1.2~1.3GHz TOPO\n", "line 4"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "cont.dat"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"cont\.dat, {line}"):
        read_contfile(path)


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "cont.dat"
    assert read_contfile(path) == ContFile()
    entry = ContRanges("a", VirtualSpw(0), "W", ((1.0e9, 1.1e9),))
    file = ContFile().with_entry(ContRanges("a", VirtualSpw(0), "W", none=True)).with_entry(entry)
    file.write(path)
    assert read_contfile(path) == file
