"""Calibration strategy and reduction groups from metadata alone."""

from __future__ import annotations

import attrs
import pytest

from pl_hsd.groups import frequency_names, virtual_spws
from pl_hsd.strategy import NO_OFF, calibration_mode, coverage, reference_fields, strategy_of, tsys_windows
from pl_kernel.ms.records import SpectralWindow
from pl_kernel.ms.samples import SampleScan, sample_ms
from pl_kernel.ms.virtual import RealSpw


def window(number, *, centre=230e9, width=2e9, channels=128, baseband=1, intents=("TARGET",), name=""):
    step = width / channels
    return SpectralWindow(
        id=RealSpw(number), name=name or f"X1#BB_{baseband}#SW-01#FULL_RES", n_channels=channels,
        first_hz=centre - width / 2 + step / 2, step_hz=step, resolution_hz=step, bandwidth_hz=width,
        ref_frequency_hz=centre, baseband=baseband, intents=frozenset(intents),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (["OBSERVE_TARGET#ON_SOURCE", "OBSERVE_TARGET#OFF_SOURCE"], "ps"),
        (["CALIBRATE_ATMOSPHERE#OFF_SOURCE", "OBSERVE_TARGET#ON_SOURCE"], "ps"),
        (["OBSERVE_TARGET_ON_SOURCE"], "ps"),
        (["OBSERVE_TARGET#ON_SOURCE,PSWITCH"], "ps"),
        (["OBSERVE_TARGET#ON_SOURCE,FSWITCH"], "fs"),
        (["OBSERVE_TARGET#UNSPECIFIED"], "none"),
        ([], "none"),
    ],
)
def test_the_mode_is_in_the_words_of_the_states(modes: list[str], expected: str) -> None:
    assert calibration_mode(modes) == expected


def test_the_tsys_window_of_the_same_baseband_is_taken() -> None:
    science = [window(5, centre=230.2e9, width=125e6, channels=256), window(7, centre=231e9, width=125e6, baseband=2)]
    tsys = [
        window(0, centre=230e9, intents=("ATMOSPHERE",)),
        window(1, centre=231e9, baseband=2, intents=("ATMOSPHERE",)),
        window(2, centre=230e9, intents=("ATMOSPHERE",), name="X1#BB_1#SW-01#CH_AVG"),
    ]
    found, remarks = tsys_windows(science, [*science, *tsys])
    assert found == {5: 0, 7: 1}
    assert remarks == ()


def test_a_window_outside_every_tsys_window_is_named() -> None:
    """The edge lies 0.3 GHz below that of the Tsys window: 0.0013 of its frequency, more than a thousandth."""
    found, remarks = tsys_windows([window(5, centre=228.7e9, width=125e6)], [window(0, intents=("ATMOSPHERE",))])
    assert found == {}
    assert "Spw 5" in remarks[0]


def test_a_little_overhang_is_tolerated_and_said() -> None:
    science = window(5, centre=229.05e9, width=200e6)
    found, remarks = tsys_windows([science], [window(0, intents=("ATMOSPHERE",))])
    assert found == {5: 0}
    assert coverage(window(0), science) == pytest.approx(0.75)  # 150 of 200 MHz
    assert "75.0%" in remarks[0]


@pytest.mark.parametrize(
    ("references", "expected", "remarks"),
    [
        ({4: "M83_OFF_0"}, {1: 4}, 0),
        ({1: "M83", 4: "M83_OFF_0"}, {1: 1}, 0),
        ({4: "M83_0"}, {1: 4}, 1),
        ({4: "M831_OFF_0"}, {}, 1),
        ({}, {1: 1}, 0),
    ],
)
def test_the_off_of_a_target_is_found_by_its_name(references, expected, remarks) -> None:
    found, said = reference_fields({1: "M83"}, references)
    assert found == expected
    assert len(said) == remarks


def test_without_off_spectra_nothing_is_calibrated() -> None:
    ms = sample_ms(scans=(SampleScan(0, "ATMOSPHERE"), SampleScan(2, "TARGET")))
    assert strategy_of(ms).calmode == "none"
    assert strategy_of(ms).remarks == (NO_OFF,)


def test_tsys_with_every_record_belongs_to_its_own_window() -> None:
    ms = sample_ms(scans=(SampleScan(2, ("TARGET", "REFERENCE")),))
    assert strategy_of(attrs.evolve(ms, subtables=("SYSCAL",))).tsys_spw == {0: 0, 1: 1}
    assert strategy_of(ms).tsys_spw == {}


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_windows_of_another_numbering_are_the_same_windows() -> None:
    one = sample_ms("a.ms", spw_names={0: "X11#ALMA_RB_06#BB_1", 1: "X12#ALMA_RB_06#BB_2"})
    other = sample_ms("b.ms", spw_names={0: "X12#ALMA_RB_06#BB_2", 1: "X11#ALMA_RB_06#BB_1"})
    table = virtual_spws([one, other])
    assert table.between(RealSpw(0), "a.ms", "b.ms") == 1


def test_windows_without_names_are_matched_by_frequency() -> None:
    known = [("first", window(3, centre=230e9, width=1e9, channels=1000))]
    same = window(0, centre=230.005e9, width=1e9, channels=1000)  # 99.5 % of the width
    shifted = window(1, centre=230.02e9, width=1e9, channels=1000)  # 98 %
    coarse = window(2, centre=230e9, width=1e9, channels=500)
    names = frequency_names([same, shifted, coarse], known)
    assert names[RealSpw(0)] == "first"
    assert "first" not in (names[RealSpw(1)], names[RealSpw(2)])
    assert names[RealSpw(1)] != names[RealSpw(2)]


def test_sets_whose_windows_have_no_names_share_virtual_ids() -> None:
    nameless = {0: "", 1: ""}
    one, other = sample_ms("a.ms", spw_names=nameless), sample_ms("b.ms", spw_names=nameless)
    table = virtual_spws([one, other])
    assert table.ids == (0, 1)
    assert table.between(RealSpw(1), "a.ms", "b.ms") == 1
