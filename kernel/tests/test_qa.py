"""Quality scores: bands, combination, and scorers that fail."""

from __future__ import annotations

import math

import pytest

from pl_kernel.qa import Band, QAScore, band, combine, erf_score, linear, score_result, scorer


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.33, Band.ERROR), (0.34, Band.WARNING), (0.66, Band.WARNING), (0.67, Band.SUBOPTIMAL), (0.90, Band.SUBOPTIMAL),
     (0.91, Band.GOOD), (1.0, Band.GOOD), (None, Band.NONE)],
)  # fmt: skip
def test_a_boundary_value_belongs_to_the_worse_band(score, expected):
    assert band(score) is expected


def test_a_stage_is_as_good_as_its_worst_visible_score():
    hidden = QAScore(metric="b", score=0.2, hidden=True)
    scores = [QAScore(metric="a", score=0.9), hidden, QAScore(metric="c", score=None)]
    assert combine(scores) == 0.9
    assert combine([]) is None


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_a_score_outside_the_unit_interval_is_an_error_of_the_scorer(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        QAScore(metric="a", score=bad)


def test_linear_is_clipped_and_nan_is_bad():
    # from (0.05, 1) to (0.60, 0): the middle of the range is one half
    assert linear(0.325, 0.05, 0.60, 1.0, 0.0) == pytest.approx(0.5)
    assert linear(0.0, 0.05, 0.60, 1.0, 0.0) == 1.0
    assert linear(0.9, 0.05, 0.60, 1.0, 0.0) == 0.0
    assert linear(math.nan, 0.05, 0.60, 1.0, 0.0) == 0.0


def test_erf_score_is_one_at_good_and_low_at_bad():
    # the argument of erf is +-3/sqrt(2) at the two ends: erf(2.1213) = 0.99730 (three sigma)
    assert erf_score(1.0, 1.0, 5.0, 0.34) == pytest.approx(0.34 + 0.66 * (1 + 0.9973) / 2, abs=1e-4)
    assert erf_score(5.0, 1.0, 5.0, 0.34) == pytest.approx(0.34 + 0.66 * (1 - 0.9973) / 2, abs=1e-4)
    assert erf_score(3.0, 1.0, 5.0, 0.0) == pytest.approx(0.5)


def test_a_scorer_that_crashes_leaves_one_score_that_names_it_and_the_others_stand():
    @scorer("my_stage")
    def good(result):
        return QAScore(metric="fine", score=1.0)

    @scorer("my_stage", topic="flagging")
    def broken(result):
        raise KeyError("antenna")

    scores = score_result([broken, good], object(), object(), "calibration")
    assert [s.metric for s in scores] == ["scorer-error", "fine"]
    assert scores[0].score == 0.0 and "broken" in scores[0].long and scores[0].topic == "flagging"
    assert scores[1].topic == "calibration"


def test_scorers_may_ask_for_the_context():
    def wants_context(result, context):
        return [QAScore(metric="m", score=0.5, value=context)]

    assert score_result([wants_context], object(), "ctx", "misc")[0].value == "ctx"
