"""Ranges with a frame: joining, inverting, and the way between channels of a set, of an image, and frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hsd.ranges import IMAGE, MS, RealSpw, SpectralRanges, edge_ranges, frequency_frame
from pl_kernel import DataError, InputError
from pl_kernel.serialize import from_json, to_json


def test_spans_that_touch_or_overlap_are_joined() -> None:
    found = SpectralRanges.of([(10, 12), (3, 5), (6, 8), (11, 20)])
    assert found.spans == ((3, 8), (10, 20))
    assert found.width == 17


def test_frequencies_join_only_where_they_overlap() -> None:
    frame = frequency_frame("LSRK")
    assert SpectralRanges.of([(1.0, 2.0), (3.0, 4.0), (1.5, 2.5)], frame).spans == ((1.0, 2.5), (3.0, 4.0))


def test_the_inverse_has_every_other_channel_and_twice_inverted_is_the_same() -> None:
    found = SpectralRanges.of([(0, 2), (7, 9)])
    assert found.inverse(10).spans == ((3, 6),)
    assert found.inverse(10).inverse(10) == found
    assert SpectralRanges().inverse(4).spans == ((0, 3),)


def test_a_mask_and_its_ranges_say_the_same() -> None:
    mask = np.array([1, 0, 0, 1, 1, 0, 1], dtype=bool)
    found = SpectralRanges.from_mask(mask)
    assert found.spans == ((0, 0), (3, 4), (6, 6))
    np.testing.assert_array_equal(found.mask(7), mask)


def test_an_upper_sideband_image_lacks_the_edges() -> None:
    """Window of 100 channels, 10 trimmed in front and 4 behind: channel 10 is the first of 86."""
    found = SpectralRanges.of([(5, 12), (50, 59), (94, 99)]).to_image(100, (10, 4))
    assert found.frame == IMAGE
    assert found.spans == ((0, 2), (40, 49), (84, 85))


def test_a_lower_sideband_image_is_turned_round() -> None:
    """Channel c becomes (99 - 4) - c: 50..59 -> 36..45; 94, 95 -> 1, 0 (96..99 are trimmed); 10..12 -> 83..85."""
    found = SpectralRanges.of([(5, 12), (50, 59), (94, 99)]).to_image(100, (10, 4), lsb=True)
    assert found.spans == ((0, 1), (36, 45), (83, 85))


@pytest.mark.parametrize("lsb", [False, True])
@pytest.mark.parametrize("edges", [(0, 0), (10, 4), (0, 7)])
def test_to_the_image_and_back_loses_only_the_edges(lsb: bool, edges: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        start = SpectralRanges.from_mask(rng.random(100) < 0.3)
        back = start.to_image(100, edges, lsb).to_ms(100, edges, lsb)
        assert back == start.without(edge_ranges(100, edges), 100)


def test_channels_become_the_outer_edges_of_their_frequencies_in_both_orders() -> None:
    """Channels of 1 MHz centred at 100, 101 ... MHz: channels 2..3 reach from 101.5 to 103.5 MHz."""
    up = (100 + np.arange(10)) * 1e6
    assert SpectralRanges.of([(2, 3)]).to_frequency(up, "LSRK").spans == ((101.5e6, 103.5e6),)
    assert SpectralRanges.of([(6, 7)]).to_frequency(up[::-1], "LSRK").spans == ((101.5e6, 103.5e6),)


def test_frequencies_select_channels_by_their_centres() -> None:
    up = (100 + np.arange(10)) * 1e6
    wanted = SpectralRanges.of([(101.4e6, 103.6e6)], frequency_frame("LSRK"))
    assert wanted.to_channels(up, "LSRK").spans == ((2, 3),)
    assert wanted.to_channels(up[::-1], "LSRK").spans == ((6, 7),)
    with pytest.raises(DataError, match="TOPO"):
        wanted.to_channels(up, "TOPO")


def test_ranges_of_different_frames_do_not_mix() -> None:
    image = SpectralRanges.of([(1, 2)], IMAGE)
    with pytest.raises(DataError, match="convert"):
        SpectralRanges.of([(1, 2)]).union(image)
    with pytest.raises(DataError):
        image.to_casa(RealSpw(17))
    with pytest.raises(DataError):
        image.to_image(10)


def test_text_is_what_casa_takes_and_is_read_back() -> None:
    found = SpectralRanges.parse("20~30;3~10, 12")
    assert found.to_text() == "3~10;12~12;20~30"
    assert found.to_casa(RealSpw(17)) == "17:3~10;12~12;20~30"
    assert SpectralRanges().to_casa(RealSpw(17)) == ""
    with pytest.raises(InputError, match="no range"):
        SpectralRanges.parse("a~b")


def test_json_keeps_spans_and_frame() -> None:
    for found in (SpectralRanges.of([(3, 10)]), SpectralRanges.of([(1.5, 2.5)], frequency_frame("TOPO"))):
        assert from_json(to_json(found), SpectralRanges) == found


def test_overlap_and_difference() -> None:
    line = SpectralRanges.of([(40, 60)])
    assert line.overlaps(SpectralRanges.of([(60, 70)]))
    assert not line.overlaps(SpectralRanges.of([(61, 70)]))
    assert line.without(SpectralRanges.of([(50, 99)]), 100).spans == ((40, 49),)
    assert SpectralRanges.of([(-5, 3), (98, 120)]).clipped(100).spans == ((0, 3), (98, 99))
    assert edge_ranges(100, (2, 3)).spans == ((0, 1), (97, 99))
    assert edge_ranges(100, (0, 0)).frame == MS
