"""Every way to say where the lines are."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hsd.baselineplan import fit_choice
from pl_hsd.linesearch import joined_masks, masks_by_channel
from pl_hsd.linewindow import lines_for, parse_linewindow
from pl_hsd.stages.baseline import BaselineInputs, edges_of
from pl_kernel.errors import InputError
from pl_kernel.ms.records import SpectralWindow
from pl_kernel.ms.virtual import RealSpw
from pl_kernel.params import resolve

WINDOW = SpectralWindow(
    id=RealSpw(5), name="w", n_channels=101, first_hz=230e9, step_hz=-1e6, resolution_hz=1e6, bandwidth_hz=101e6,
    ref_frequency_hz=230e9,
)  # fmt: skip
SHIFT = 10e6


def centres(window: SpectralWindow, frame: str) -> np.ndarray:
    """LSRK frequencies are 10 MHz (10 channels) above those of the data."""
    assert frame == "LSRK"
    return window.centres_hz + SHIFT


def channels(given: object, spw: int = 17) -> list[tuple[float, float]]:
    found = lines_for(parse_linewindow(given), spw)
    return [] if found is None else list(found.channels(WINDOW, centres).spans)


def test_channels_for_all_windows() -> None:
    assert channels([30, 50]) == [(30, 50)]
    assert channels([[30, 50], [70, 200]]) == [(30, 50), (70, 100)]
    assert channels([30, 50, 60, 70]) == [(30, 50), (60, 70)]


def test_frequencies_are_lsrk() -> None:
    """Frequency falls with the channel: 229.98 GHz in LSRK is channel 30 (229.97 GHz in the data)."""
    assert channels([229.97e9, 229.98e9]) == [(30, 40)]
    assert channels(["229.97GHz", "229980MHz"]) == [(30, 40)]


def test_windows_by_number() -> None:
    given = {17: [30, 50], 19: None, "21": ["229.97GHz", "229.98GHz"]}
    assert channels(given) == [(30, 50)]
    assert channels(given, 21) == [(30, 40)]
    assert lines_for(parse_linewindow(given), 19).no_lines
    assert lines_for(parse_linewindow(given), 23) is None


def test_selections_are_in_the_frame_of_the_data() -> None:
    assert channels("17:30~50;60~70,19:1~2") == [(30, 50), (60, 70)]
    assert channels("17:229.97~229.98GHz") == [(20, 30)]
    assert channels("19:1~2", 17) == []
    assert channels({17: "30~50"}) == [(30, 50)]


def test_nothing_given_is_nothing_said() -> None:
    for given in (None, [], "", {}):
        assert lines_for(parse_linewindow(given), 17) is None


@pytest.mark.parametrize(
    "given", [[30], [30, "229GHz"], ["a", "b"], "17", "x:1~2", {"spw17": [1, 2]}, ["1GHz", "2furlong"]]
)
def test_what_is_no_window_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        parse_linewindow(given)


def test_fit_functions_by_window() -> None:
    inputs = BaselineInputs(fitfunc={17: "poly", 19: "sinusoid"}, fitorder={17: 0}, wave_number={19: [0, 2, 1]})
    assert (fit_choice(inputs, 17).kind, fit_choice(inputs, 17).order) == ("poly", 0)
    assert fit_choice(inputs, 19).waves == (0, 1, 2)
    assert (fit_choice(inputs, 21).kind, fit_choice(inputs, 21).order) == ("cspline", None)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("fitorder", "many"), ("fitorder", {17: "many"}), ("fitorder", 2.5), ("fitfunc", "gauss"),
        ("fitfunc", {17: "gauss"}), ("fitfunc", "sinusoid"), ("wave_number", "few"), ("edge", "wide"),
        ("edge", [1, 2, 3]), ("edge", -1), ("linewindow", 5), ("linewindow", "17:a~b"), ("linewindow", [[1, 2], 3]),
        ("linewindow", {"x": [1, 2]}), ("linewindow", ["1GHz", 5]),
    ],
)  # fmt: skip
def test_impossible_fits_are_refused_with_the_name_before_work_starts(name: str, wrong: object) -> None:
    with pytest.raises(InputError) as refusal:
        resolve(BaselineInputs, {}, {name: wrong}, "hsd_baseline")
    assert name in str(refusal.value) or str(wrong) in str(refusal.value) or "sinusoid" in str(refusal.value)


def test_forms_of_fits_are_taken() -> None:
    given = {"fitorder": {"17": 3}, "fitfunc": {17: "sinusoid", 19: "Poly"}, "wave_number": {17: [0, 1]}, "edge": 4}
    inputs, _ = resolve(BaselineInputs, {}, {**given, "linewindow": {17: None}}, "hsd_baseline")
    assert (fit_choice(inputs, 17).kind, fit_choice(inputs, 17).order) == ("sinusoid", 3)
    assert (fit_choice(inputs, 19).kind, fit_choice(inputs, 21).kind) == ("poly", "cspline")
    assert edges_of(inputs.edge) == (4, 4)


def test_edges_are_one_number_or_two() -> None:
    assert edges_of(5) == (5, 5)
    assert edges_of([3, 7]) == (3, 7)
    for wrong in (-1, [1, 2, 3], ["a", 1]):
        with pytest.raises(InputError):
            edges_of(wrong)


def test_masks_of_rows_are_joined_and_spread_over_channels() -> None:
    parts = [
        (np.array([0, 2]), np.array([5, 1]), np.array([9, 3])),
        (np.array([0, 2]), np.array([8, 7]), np.array([12, 7])),
    ]
    offsets, spans = joined_masks(3, parts)
    assert offsets.tolist() == [0, 1, 1, 3]
    assert spans.tolist() == [[5, 12], [1, 3], [7, 7]]
    masked = masks_by_channel(offsets, spans, np.array([2, 0, 1]), 10)
    assert [np.flatnonzero(row).tolist() for row in masked] == [[1, 2, 3, 7], [5, 6, 7, 8, 9], []]
