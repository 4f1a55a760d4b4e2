"""Scores of hsd_baseline and hsd_blflag fall where they must."""

from __future__ import annotations

import attrs
import pytest

from pl_hsd.baselining import PolFit
from pl_hsd.linesearch import LineRange
from pl_hsd.qa import baseline as qa
from pl_hsd.spectrumjudging import PolJudgement
from pl_hsd.stages.baseline import BaselineResult, DeviationMask, GroupLines
from pl_hsd.stages.blflag import BlflagResult


def line(centre: float, width: float, valid: bool = True) -> LineRange:
    return LineRange(centre=centre, width=width, valid=valid)


def group(*lines: LineRange, edge: tuple[int, int] = (0, 0)) -> GroupLines:
    return GroupLines(
        id=0, spw=17, spw_name="w", field="M1", nchan=1000, is_reversed=False, freq_min_hz=1e11, freq_max_hz=1.01e11,
        members=("PM01",), vis=("a.ms",), edge=edge, lines=lines, image_ranges="", detections=1, searched=True, file="",
    )  # fmt: skip


def fit(**changes: object) -> PolFit:
    start = PolFit(
        ms="a.ms", spw=17, field="M1", antenna="PM01", pol="XX", spectra=100, failed=0, clipped=0, functions={},
        rms_before=1.0, rms_after=1.0, noise=1.0, flatness=1.0, file="",
    )  # fmt: skip
    return attrs.evolve(start, **changes)


def result(**changes: object) -> BaselineResult:
    given = {
        "iteration": 1, "groups": (group(),), "deviation": (), "fits": (fit(),), "outputs": {}, "tables": {},
        "parameters": {}, "units": {}, **changes,
    }  # fmt: skip
    return BaselineResult(**given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (group(line(500, 100)), 1.0),
        (group(line(40, 100)), 0.55),
        (group(line(970, 80)), 0.55),
        (group(line(80, 100), edge=(40, 40)), 0.55),
        (group(line(500, 400)), 0.6),
        (group(line(300, 200), line(700, 200)), 0.6),
        (group(line(150, 400)), 0.55),
        (group(), 0.8),
        (group(line(500, 100, valid=False)), 0.8),
    ],
)
def test_lines_at_the_edge_wide_or_absent(given: GroupLines, expected: float) -> None:
    assert [s.score for s in qa.lines_found(result(groups=(given,)))] == [expected]


def test_no_line_in_one_of_two_groups_is_no_complaint() -> None:
    scores = qa.lines_found(result(groups=(group(), group(line(500, 50)))))
    assert [s.score for s in scores] == [1.0]


def test_scatter_without_a_reason_is_worse() -> None:
    mask = DeviationMask(
        vis="a.ms", antenna="PM01", field="M1", spw=17, spans=((1, 2), (5, 9), (20, 30)),
        overlaps=("line", "atmosphere", ""),
    )  # fmt: skip
    assert [s.score for s in qa.deviation_masks(result(deviation=(mask,)))] == [0.88, 0.88, 0.65]


@pytest.mark.parametrize(("flatness", "expected"), [(1.0, 1.0), (1.8, 1.0), (2.7, 0.665), (3.6, 0.33), (9.0, 0.33)])
def test_wavy_baselines_lose(flatness: float, expected: float) -> None:
    assert qa.baseline_flatness(result(fits=(fit(flatness=flatness),)))[0].score == pytest.approx(expected)


@pytest.mark.parametrize(("noise", "expected"), [(1.0, 1.0), (1 / 1.2, 1.0), (0.5, 0.5), (0.4, 0.25), (0.1, 0.0)])
def test_ripples_left_lose(noise: float, expected: float) -> None:
    assert qa.ripple_left(result(fits=(fit(noise=noise),)))[0].score == pytest.approx(expected)
    assert qa.ripple_left(result(fits=(fit(noise=None),))) == []


def test_nothing_known_of_flatness_is_no_score() -> None:
    assert qa.baseline_flatness(result(fits=(fit(flatness=None),))) == []


def test_spectra_that_could_not_be_fitted_cost() -> None:
    assert qa.spectra_fitted(result()) == []
    assert qa.spectra_fitted(result(fits=(fit(spectra=60, failed=40),)))[0].score == pytest.approx(0.6)
    assert qa.spectra_fitted(result(fits=(fit(spectra=0, failed=0),)))[0].score == 0.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.05, 1.0), (0.275, 0.75), (0.5, 0.5), (0.6, 0.0)])
def test_flagged_fraction(share: float, expected: float) -> None:
    judged = PolJudgement(
        ms="a.ms", spw=17, field="M1", antenna="PM01", pol="XX", spectra=10, flagged=1, by_rule={}, limits={},
        before=0.0, additional=share, total=share, file="",
    )  # fmt: skip
    scores = qa.flagged_by_statistics(BlflagResult(judged=(judged,), commands={}, baselined=True, thresholds={}))
    assert scores[0].score == pytest.approx(expected)


def test_nothing_left_to_judge_is_an_error() -> None:
    judged = PolJudgement(
        ms="a.ms", spw=17, field="M1", antenna="PM01", pol="XX", spectra=0, flagged=0, by_rule={}, limits={},
        before=1.0, additional=0.0, total=1.0, file="",
    )  # fmt: skip
    scores = qa.flagged_by_statistics(BlflagResult(judged=(judged,), commands={}, baselined=True, thresholds={}))
    assert scores[0].score == 0.0
