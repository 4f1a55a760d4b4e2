"""Antenna weights, and the scores of hifv_statwt."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hifv.heuristics.antenna_weights import antenna_weights, box, outlying, shaded
from pl_hifv.qa.delivery import mean_score, variance_score


def baselines(gains, drop=()):
    square = np.outer(gains, gains)
    np.fill_diagonal(square, np.nan)
    for i, j in drop:
        square[i, j] = square[j, i] = np.nan
    return square


def test_weights_of_baselines_split_into_antennas():
    gains = np.array([2.0, 3.0, 5.0, 7.0, 1.0])
    assert antenna_weights(baselines(gains)) == pytest.approx(gains, rel=1e-6)


def test_missing_baselines_and_antennas_do_not_matter():
    gains = np.array([2.0, 3.0, 5.0, 7.0])
    some = baselines(gains, drop=[(0, 1)])
    assert antenna_weights(some, 400) == pytest.approx(gains, rel=1e-3)
    none = baselines(gains, drop=[(3, 0), (3, 1), (3, 2)])
    found = antenna_weights(none)
    assert np.isnan(found[3]) and found[:3] == pytest.approx(gains[:3], rel=1e-6)


def test_many_times_at_once():
    gains = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    stack = np.stack([baselines(g) for g in gains])
    assert antenna_weights(stack) == pytest.approx(gains, rel=1e-6)


def test_statistics_leave_out_what_is_no_weight():
    found = box("ea01", np.array([1.0, 2.0, 3.0, 0.0, np.nan]))
    assert (found.count, found.low, found.median, found.high) == (3, 1.0, 2.0, 3.0)
    assert box("ea02", np.zeros(4)).count == 0


def test_an_antenna_with_a_third_of_the_weight_stands_out():
    boxes = [box(n, np.full(5, v)) for n, v in (("a", 10.0), ("b", 12.0), ("c", 11.0), ("d", 3.0))]
    assert outlying(boxes) == ("d",)
    assert outlying(boxes[:3]) == ()
    assert shaded([1.0, 1.1, 0.9, 1.05, 9.0]) == [False, False, False, False, True]


def weights_of(values):
    from pl_hifv.qa.delivery import weights_plausible
    from pl_hifv.stages.statwt import BandWeights, StatwtResult

    boxes = [box(f"ea{i:02d}", v) for i, v in enumerate(values)]
    every = np.concatenate(values)
    band = BandWeights(
        vis="a.ms", band="C", mean=every.mean(), variance=every.var(), antennas=boxes, spws=(), scans=()
    )
    result = StatwtResult(mode="VLA", before=(band,), after=(band,), flags_before={}, flags_after={})
    return {s.metric: s for s in weights_plausible(result)}


def test_high_weights_that_are_frequent_want_an_operator_and_a_stray_one_a_look():
    usual = [np.full(1000, 14.0)] * 4
    assert "statwt.high" not in weights_of(usual)
    stray, often = np.full(1000, 14.0), np.full(1000, 14.0)
    stray[:5], often[:20] = 160.0, 160.0  # 0.5 and 2 %
    assert weights_of([*usual, stray])["statwt.high"].score == 0.9
    found = weights_of([*usual, stray, often])["statwt.high"]
    assert found.score < 0.5 and found.applies_to.antenna == ("ea05",)


def test_scores_of_weights():
    assert mean_score(1.0) == 1.0
    assert mean_score(1e6) == 0.0
    assert mean_score(1e3) == pytest.approx(1 - 0.5**3.5)
    assert mean_score(0.0) == 0.0 and mean_score(float("nan")) == 0.0
    assert variance_score(1e-4, 1.0) == 1.0, "steady weights are no fault"
    assert variance_score(100.0, 5.0) == 0.9
    assert variance_score(10**2.95, 100.0) == pytest.approx(1 - 0.5**4)
