"""Scores that say the same of several data are one line of a page; the files keep each."""

from __future__ import annotations

from typing import Any

from pl_kernel.weblog.scores import gathered, score_views, with_plots


def _score(antenna: str, spw: str, pol: str = "XX", **changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "metric": "flatness", "score": 1.0, "short": "good flatness", "value": 0.25, "long": f"{antenna} {spw} {pol}.",
        "applies_to": {"vis": ["a.ms"], "antenna": [antenna], "spw": [spw], "pol": [pol], "field": []},
    }  # fmt: skip
    return given | changed


def _lines(*scores: dict[str, Any]) -> list[tuple[int, dict[str, str]]]:
    return [(line.count, dict(line.applies_to)) for line in gathered(score_views({"scores": list(scores)}))]


def test_a_full_grid_of_equal_scores_is_one_line_that_names_it_all() -> None:
    grid = [_score(a, s, p) for a in ("PM01", "PM02") for s in ("17", "19") for p in ("XX", "YY")]
    assert _lines(*grid) == [(8, {"vis": "a.ms", "antenna": "PM01, PM02", "spw": "17, 19", "pol": "XX, YY"})]


def test_a_line_names_no_data_that_none_of_its_scores_names() -> None:
    # PM01 in 17 and PM02 in 19: one line with both antennas and both windows would speak of four combinations.
    assert [data for _, data in _lines(_score("PM01", "17"), _score("PM02", "19"))] == [
        {"vis": "a.ms", "antenna": "PM01", "spw": "17", "pol": "XX"},
        {"vis": "a.ms", "antenna": "PM02", "spw": "19", "pol": "XX"},
    ]


def test_a_score_of_all_antennas_does_not_join_one_of_a_single_antenna() -> None:
    everyone = _score("PM01", "17", applies_to={"vis": ["a.ms"], "spw": ["17"], "pol": ["XX"]})
    assert len(_lines(everyone, _score("PM02", "17"))) == 2


def test_scores_that_differ_to_two_decimals_or_in_what_they_say_stay_apart() -> None:
    base = _score("PM01", "17")
    for other in ({"score": 0.98}, {"short": "moderate flatness"}, {"metric": "ripple"}, {"unit": "K"}):
        assert len(_lines(base, _score("PM02", "17", **other))) == 2
    assert len(_lines(base, _score("PM02", "17", score=0.998))) == 1  # 1.00 as it is shown


def test_a_line_gives_the_range_of_its_values_the_worst_sentence_and_every_score() -> None:
    scores = [
        _score("PM01", "17", value=3.5, unit="sigma"),
        _score("PM02", "17", value=15.25, score=0.996, unit="sigma"),
    ]
    (line,) = gathered(score_views({"scores": scores}))
    assert line.value == "3.5 … 15.25 sigma"
    assert line.long == "PM02 17 XX. 1 more like it."
    assert [m.anchor for m in line.members] == ["score-1", "score-0"] and line.anchor not in ("score-0", "score-1")


def test_the_worst_line_comes_first_and_hidden_scores_nowhere() -> None:
    lines = gathered(
        score_views({"scores": [_score("A", "1"), _score("B", "1", score=0.4), _score("C", "1", hidden=True)]})
    )
    assert [(line.score, line.count) for line in lines] == [(0.4, 1), (1.0, 1)]


def test_plots_are_counted_for_the_line_and_for_each_of_its_scores() -> None:
    (line,) = gathered(score_views({"scores": [_score("PM01", "17"), _score("PM02", "17")]}))
    tags = [{"antenna": "PM01", "spw": "17"}, {"antenna": "PM02", "spw": "17"}, {"antenna": "PM03", "spw": "17"}]
    shown = with_plots(line, tags)
    assert shown.plots == 2 and [m.plots for m in shown.members] == [1, 1]
    assert shown.target == "antenna=PM01,PM02&spw=17"
