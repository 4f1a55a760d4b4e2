"""Reports over runs: compare, timing, batch."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from astropy.io import fits

from pl_kernel import recipe as recipes
from pl_kernel.branch import branch
from pl_kernel.errors import InputError
from pl_kernel.reports import batch, timing, trends
from pl_kernel.reports.compare import compare
from pl_kernel.reports.page import write_report
from pl_kernel.session import Session

PLUGIN = """
from pathlib import Path
from pl_kernel import Inputs, QAScore, Result, SetValue, Stage, hookimpl, param, scorer
from pl_kernel.errors import DataError

class I(Inputs):
    factor: float = param(1.0, doc="Factor.")

class R(Result):
    flux: dict[str, float]

class Measure(Stage[I, R]):
    '''Measure a flux.'''
    name = "toy_measure"
    def run(self, ctx, inputs):
        return R(flux={"<b>3C286</b>": 15.0 * inputs.factor}, effects=[SetValue("toy.flux", 15.0 * inputs.factor)])

class Read(Stage[Inputs, R]):
    '''Read a number from a file.'''
    name = "toy_read"
    takes_data = True
    def run(self, ctx, inputs):
        text = Path(inputs.vis[0]).read_text()
        if not text.strip():
            raise DataError(f"{inputs.vis[0]} is empty.")
        return R(flux={"a": float(text)})

@scorer(R)
def right(result):
    worst = min(result.flux.values())
    return QAScore(metric="flux", value=worst, score=1.0 if worst >= 15 else 0.5, long="flux")

@hookimpl
def pl_stages(): return [Measure, Read]
"""
RECIPE = recipes.Recipe(name="toy", steps=[recipes.Step(stage="toy_measure"), recipes.Step(stage="toy_measure")])


@pytest.fixture(autouse=True)
def toy(add_plugin):
    add_plugin("toy", PLUGIN + "\n@hookimpl\ndef pl_qa_scorers(): return [right]\n")


def test_a_run_differs_from_itself_in_nothing(tmp_path):
    for name in ("a", "b"):
        with Session.create(tmp_path / name, RECIPE) as session:
            session.run()
    comparison = compare(tmp_path / "a", tmp_path / "b", data=False)
    assert comparison.same
    assert comparison.compared["scores"] == 2 and comparison.compared["results"] == 2


def test_a_branch_with_another_parameter_shows_what_that_changed_and_nothing_else(tmp_path):
    with Session.create(tmp_path / "a", RECIPE) as session:
        session.run()
    with branch(tmp_path / "a", 2, tmp_path / "b", overrides={"toy_measure": {"factor": 0.8}}) as session:
        session.run()
    comparison = compare(tmp_path / "a", tmp_path / "b", data=False)
    inputs, scores, results = (comparison.differences[c] for c in ("inputs", "scores", "results"))
    assert [(d.where, d.what, d.first, d.second) for d in inputs] == [("toy_measure#2", "factor", 1.0, 0.8)]
    assert [(d.where, d.first, d.second, d.size) for d in scores] == [("toy_measure#2", 1.0, 0.5, 0.5)]
    # 15 Jy against 12 Jy: a change of 3/15
    assert [(d.first, d.second, pytest.approx(d.size)) for d in results] == [(15.0, 12.0, 0.2)]
    write_report(
        tmp_path / "c.html", "compare.html", comparison=comparison, first="a", second="b", limit=9, infinity=math.inf
    )
    page = (tmp_path / "c.html").read_text()
    assert "&lt;b&gt;3C286&lt;/b&gt;" in page and "<b>3C286</b>" not in page


def test_a_stage_that_one_run_lacks_is_the_largest_difference(tmp_path):
    for name, steps in (("a", RECIPE.steps), ("b", RECIPE.steps[:1])):
        with Session.create(tmp_path / name, recipes.Recipe(name="toy", steps=steps)) as session:
            session.run()
    worst = compare(tmp_path / "a", tmp_path / "b", data=False).differences["results"][0]
    assert (worst.where, worst.first, worst.second, worst.size) == ("toy_measure#2", "ok", "not run", math.inf)


def test_times_add_up(tmp_path):
    with Session.create(tmp_path / "a", RECIPE) as session:
        session.run()
    times = timing.timing(tmp_path / "a")
    assert [s.name for s in times.stages] == ["toy_measure", "toy_measure"]
    for stage in times.stages:
        parts = stage.casa + stage.own + stage.score + stage.snapshot + stage.render
        assert 0 < parts <= stage.total + 0.01
    assert times.stages[0].begin == 0 and times.stages[1].begin >= times.stages[0].passed
    lines = timing.as_csv([times]).splitlines()
    assert len(lines) == 3 and lines[0].startswith("run,stage,name,total")


def made_up(**changes):
    stage = {"number": 1, "name": "x", "total": 10.0, "casa": 16.0, "own": 1.0, "score": 0.0, "snapshot": 1.0,
             "render": 3.0, "peak_rss_mb": 100.0, "wait": 2.0, "begin": 5.0, "passed": 10.0}  # fmt: skip
    return timing.StageTime(**{**stage, **changes})


def test_the_pieces_of_a_stage_fill_the_time_that_passed_with_any_number_of_workers():
    from pl_kernel.weblog.times import parts_of

    # 2 s waiting, 1 s snapshot; two workers spent 16 s in CASA in the 7 s that are left.
    assert [(p.kind, p.at, p.width) for p in parts_of(made_up())] == [
        ("wait", 5.0, 2.0), ("snapshot", 7.0, 1.0), ("casa", 8.0, 7.0)
    ]  # fmt: skip
    assert [(p.kind, p.width) for p in parts_of(made_up(casa=4.0))] == [
        ("wait", 2.0), ("snapshot", 1.0), ("casa", 4.0), ("own", 1.0), ("rest", 2.0)
    ]  # fmt: skip


def test_runs_beside_each_other_show_the_ratio_and_what_one_of_them_lacks():
    def run(name, total, *tasks):
        times = [timing.TaskTime(number=1, stage="x", task=t, calls=2, seconds=s, longest=s) for t, s in tasks]
        return timing.RunTime(run=name, stages=(made_up(total=total),), tasks=tuple(times))

    first, second = run("a", 10.0, ("gaincal", 4.0), ("gaincal", 2.0)), run("b", 5.0, ("gaincal", 3.0), ("tclean", 9.0))
    lines = timing.compared([first, second])
    assert [(n.what, n.seconds, n.ratio) for n in lines["stages"]] == [("001 x", (10.0, 5.0), 0.5)]
    assert [(n.what, n.seconds, n.ratio) for n in lines["tasks"]] == [
        ("tclean", (None, 9.0), None), ("gaincal", (6.0, 3.0), 0.5)
    ]  # fmt: skip
    details = timing.details_as_csv([first, second]).splitlines()
    assert details[0] == "run,stage,name,kind,what,count,seconds,longest" and len(details) == 5
    assert details[4] == "b,1,x,task,tclean,2,9.000,9.000"


def test_times_of_two_runs_become_a_page(tmp_path, capsys):
    from pl_kernel.cli.app import call

    with Session.create(tmp_path / "a", RECIPE) as session:
        session.run()
    page = tmp_path / "times.html"
    assert call(["timing", str(tmp_path / "a"), str(tmp_path / "a"), "-o", str(page)]) == 0
    assert "toy_measure" in page.read_text() and "Last over first" in page.read_text()
    assert call(["timing", str(tmp_path / "a"), "--details"]) == 2
    assert "--csv" in capsys.readouterr().err


def test_a_list_of_runs_is_checked_before_any_work(tmp_path):
    listing = tmp_path / "list.txt"
    bad = (("", "lists no data"), ("x: \n", "names no data"), ("gone.ms\n", "does not exist"), ("'a\n", "line 1"))
    for text, says in bad:
        listing.write_text(text)
        with pytest.raises(InputError, match=says):
            batch.read_list(listing)
    (tmp_path / "a b.ms").touch()
    listing.write_text("# nights\n'a b.ms'\nsecond: 'a b.ms'  # again\n")
    assert [(j.name, [p.name for p in j.data]) for j in batch.read_list(listing)] == [
        ("a_b", ["a b.ms"]), ("second", ["a b.ms"]),
    ]  # fmt: skip
    listing.write_text("'a b.ms'\n'a b.ms'\n")
    with pytest.raises(InputError, match="taken"):
        batch.read_list(listing)


def test_a_batch_goes_on_after_a_failure_and_continues_where_it_stopped(tmp_path, plugin_folder):
    plugin_folder.add(
        "kinds",
        """
        from pl_kernel import hookimpl, Importer
        @hookimpl
        def pl_importers(): return [Importer("fits-image", "An image.", None)]
        """,
    )
    data = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.fits"
        fits.PrimaryHDU(np.zeros((2, 2))).writeto(path)
        data.append(batch.Job(name, (path,)))
    recipe = tmp_path / "toy.yaml"
    recipe.write_text("name: toy\nstages:\n  - toy_read: {}\n")
    root = tmp_path / "batch"
    states = batch.run_batch(str(recipe), data, root)
    # the text of a FITS header is no number: both fail with their reason, and the page says so
    assert [s.status for s in states] == ["failed", "failed"]
    assert ["toy_read" in s.message for s in states] == [True, True], [s.message for s in states]
    summary = json.loads((root / "batch.json").read_text())
    assert {r["name"] for r in summary["runs"]} == {"one", "two"}
    recipe.write_text("name: toy\nstages:\n  - toy_measure\n")
    data.append(batch.Job("three", data[0].data))
    again = batch.run_batch(str(recipe), data, root)
    assert [s.status for s in again] == ["failed", "failed", "done"]
    assert again[2].score == 1.0
    assert "three" in (root / "index.html").read_text()
    assert "trends.html" in (root / "index.html").read_text()
    assert "toy_measure" in (root / "trends.html").read_text()
    assert (root / "trends.csv").read_text().splitlines()[1].startswith("three,")


def a_trend(*values, scores=None):
    scores = scores or [1.0] * len(values)
    pairs = enumerate(zip(values, scores, strict=True))
    points = [None if v is None else trends.Point(f"run{n}", s, v, "") for n, (v, s) in pairs]
    return trends.Trend("x", "m", tuple(points))


def test_a_run_far_from_the_others_stands_apart_whatever_its_score():
    # Median 10, absolute deviations 0.2, 0.1, 0, 0.1, 0.2, 4: scatter 1.4826 × 0.15; 4 is 18 of it, 0.2 less than one.
    assert [p.run for p in a_trend(9.8, 9.9, 10.0, 10.1, 10.2, 14.0).outlying()] == ["run5"]
    assert a_trend(9.8, 9.9, 14.0, None).outlying() == ()  # too few to know
    assert a_trend(1.0, 1.0, 1.0, 1.0, 1.0, 2.0).outlying() == ()  # no scatter to compare with


def test_a_trend_is_drawn_over_all_runs_with_gaps_where_one_has_no_value():
    trend = a_trend(1.0, None, 3.0, scores=[0.5, 0.0, 0.9])
    assert [(x, y) for x, y, _ in trend.curve()] == [(0.0, 36.0), (220.0, 0.0)]
    assert (trend.lowest, trend.median, trend.last.run) == (0.5, 0.7, "run2")


def test_the_worst_metric_comes_first_and_the_worst_score_of_a_metric_counts():
    first, bad = trends.Point("a", 0.9, 1.0, ""), trends.Point("a", 0.2, 1.0, "")
    one = trends.Run("a", "2024", {("x", "m"): first, ("y", "n"): bad})
    two = trends.Run("b", "2025", {("x", "m"): trends.Point("b", 0.8, 2.0, "")})
    found = trends.trends([one, two])
    assert [(t.stage, t.lowest, len(t.known)) for t in found] == [("y", 0.2, 1), ("x", 0.8, 2)]
    lines = trends.as_csv([one, two]).splitlines()
    assert lines[1:] == ["a,2024,x,m,0.900,1,", "a,2024,y,n,0.200,1,", "b,2025,x,m,0.800,2,"]


@pytest.mark.parametrize(
    ("stages", "seconds"),
    [
        ([(10, 0), (5, 0)], 15),
        ([(10, 4), (5, 0)], 15),  # the page is drawn beside the second stage
        ([(10, 8), (5, 2)], 20),  # ... and is not ready when that ends: 10 + 8 + 2
        ([(10, 1), (5, 3)], 18),  # the last page comes after the last stage
    ],
)
def test_pages_drawn_beside_a_stage_take_no_time_of_their_own(stages, seconds):
    assert timing.elapsed(stages) == seconds
