"""Stages that treat each measurement set by itself: called once for each, side by side, their results joined."""

from __future__ import annotations

import json
import os
import textwrap

import pytest

from pl_kernel import recipe as recipes
from pl_kernel.effects import RegisterCalibration, SetValue
from pl_kernel.errors import PlError
from pl_kernel.joining import join_results
from pl_kernel.session import Session
from pl_kernel.stage import Result, first_of, joined

# ---- joining ---------------------------------------------------------------------------------------------------------


class Found(Result):
    names: tuple[str, ...] = ()
    by_set: dict[str, int] = {}
    mode: str = "a"
    limits: tuple[float, float] = joined(first_of, (0.0, 1.0))
    expected: int = joined(sum, 0)


def test_lists_follow_each_other_tables_are_united_and_what_is_declared_is_done():
    one = Found(names=("x", "y"), by_set={"a.ms": 1}, expected=2, notes=["first"])
    two = Found(names=("x",), by_set={"b.ms": 5}, expected=3, notes=["second"])
    whole = join_results([one, two], {})
    assert whole.names == ("x", "y", "x") and whole.by_set == {"a.ms": 1, "b.ms": 5}
    assert (whole.mode, whole.limits, whole.expected) == ("a", (0.0, 1.0), 5)
    assert whole.notes == ("first", "second")


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        ({"mode": "a"}, {"mode": "b"}, "Found.mode"),
        ({"by_set": {"a": 1}}, {"by_set": {"a": 2}}, r"Found.by_set\['a'\]"),
        ({"effects": [SetValue("k", 1)]}, {"effects": [SetValue("k", 2)]}, "value k"),
        ({"effects": [SetValue("k", {"a": 1})]}, {"effects": [SetValue("k", {"a": 2})]}, r"k\['a'\]"),
    ],
)
def test_measurement_sets_that_disagree_are_an_error_not_a_choice(one, two, says):
    with pytest.raises(PlError, match=says):
        join_results([Found(**one), Found(**two)], {})


def test_a_value_keeps_what_each_part_changed_and_what_nobody_changed():
    base = {"old": {"x": 1}, "a": {"x": 1}, "b": {"x": 1}, "gone": 1}
    one = SetValue("k", {"old": {"x": 1}, "a": {"x": 2}, "b": {"x": 1}, "gone": 1})
    two = SetValue("k", {"old": {"x": 1}, "a": {"x": 1}, "b": {"x": 1, "y": 3}, "c": 4})
    other = SetValue("j", 7)
    effects = join_results([Found(effects=[one]), Found(effects=[other, two])], {"k": base}).effects
    want = {"old": {"x": 1}, "a": {"x": 2}, "b": {"x": 1, "y": 3}, "c": 4}
    assert effects == (SetValue("k", want), other)


def test_effects_other_than_values_keep_their_order():
    from pl_kernel.calibration import CalApplication, CalFrom, CalTo

    made = [
        RegisterCalibration(CalApplication(CalTo(vis=v), (CalFrom(gaintable=f"{v}.{k}", caltype="gaincal"),)))
        for v in ("a.ms", "b.ms")
        for k in ("g", "b")
    ]
    assert join_results([Found(effects=made[:2]), Found(effects=made[2:])], {}).effects == tuple(made)


# ---- running ---------------------------------------------------------------------------------------------------------

PLUGIN = """
import os
from pathlib import Path
from pl_kernel import AddMeasurementSet, Inputs, PlError, Result, SetValue, Stage, hookimpl, param
from pl_kernel.ms.samples import sample_ms

class MakeInputs(Inputs):
    sets: int = param(3, doc="How many.")

class Make(Stage[MakeInputs, Result]):
    '''Make measurement sets.'''
    name = "each_make"
    def run(self, ctx, inputs):
        sets = [sample_ms(f"day{n}.ms") for n in range(inputs.sets)]
        for ms in sets:
            Path(ms.path).mkdir()
        return Result(effects=[AddMeasurementSet(ms) for ms in sets])

class CountInputs(Inputs):
    die: str = param("", doc="Folder of marks; a set whose mark is there takes the mark away and kills its process.")
    fail: str = param("", doc="A set that fails.")

class CountResult(Result):
    rows: dict[str, int]
    processes: tuple[int, ...]
    seen: tuple[str, ...]

class Count(Stage[CountInputs, CountResult]):
    '''Count rows.'''
    name = "each_count"
    each_set = True
    def run(self, ctx, inputs):
        rows, seen = {}, []
        for ms in ctx.measurement_sets(inputs.vis):
            table = Path(ctx.path(ms, "count"))
            seen.append(f"{ms.name}: {table.read_text() if table.exists() else 'nothing'}")
            table.write_text("half")
            ctx.log.info(f"{ms.name} has {ms.n_rows} rows.")
            mark = Path(inputs.die, ms.name)
            if inputs.die and mark.exists():
                if mark.read_text() == "once":
                    mark.unlink()
                os.kill(os.getpid(), 9)
            if inputs.fail == ms.name:
                raise PlError(f"{ms.name} cannot be counted.")
            table.write_text("whole")
            rows[ms.name] = ms.n_rows
        return CountResult(
            rows=rows, processes=(os.getpid(),), seen=tuple(seen),
            effects=[SetValue("each.rows", {**ctx.value("each.rows", {}), **rows})],
        )

@hookimpl
def pl_stages(): return [Make, Count]
"""


@pytest.fixture(autouse=True)
def plugin(add_plugin):
    add_plugin("each", textwrap.dedent(PLUGIN))


def plan(sets=3, **count):
    steps = [
        recipes.Step(stage="each_make", parameters={"sets": sets}), recipes.Step(stage="each_count", parameters=count)
    ]
    return recipes.Recipe(name="each", title="", steps=steps)


def test_sets_run_side_by_side_and_the_result_does_not_depend_on_the_number_of_workers(tmp_path):
    found = {}
    for workers in (1, 2, 4):
        with Session.create(tmp_path / f"w{workers}", plan(), workers=workers) as session:
            outcome = session.run()
            assert outcome.status == "done", outcome.message
            result = outcome.stages[1].result
            found[workers] = (list(result.rows.items()), session.context.values["each.rows"], result.seen)
            assert len(set(result.processes)) == {1: 1, 2: 2, 4: 3}[workers]
        log = json.loads((tmp_path / f"w{workers}/stages/002-each_count/log.json").read_text())
        assert [r["message"][:8] for r in log] == ["day0.ms ", "day1.ms ", "day2.ms "]
    assert found[1] == found[2] == found[4]
    assert [name for name, _ in found[1][0]] == ["day0.ms", "day1.ms", "day2.ms"]


def test_a_set_whose_worker_dies_starts_over_from_what_the_stage_found(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "day1.ms").write_text("once")
    with Session.create(tmp_path / "run", plan(die=str(marks)), workers=2) as session:
        outcome = session.run()
    assert outcome.status == "done", outcome.message
    # What the first try had written is gone when the second begins.
    assert outcome.stages[1].result.seen == ("day0.ms: nothing", "day1.ms: nothing", "day2.ms: nothing")


def test_a_set_that_kills_every_worker_fails_the_stage_with_both_names(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "day1.ms").write_text("always")
    with Session.create(tmp_path / "run", plan(die=str(marks)), workers=2) as session:
        outcome = session.run()
        assert outcome.status == "failed"
        assert "each_count" in outcome.message and "day1.ms" in outcome.message and "SIGKILL" in outcome.message
        (marks / "day1.ms").unlink()
        assert session.run().status == "done"


def test_the_sentence_of_a_set_that_fails_is_the_stages(tmp_path):
    for workers in (1, 2):
        with Session.create(tmp_path / f"w{workers}", plan(fail="day2.ms"), workers=workers) as session:
            assert session.run().message == "day2.ms cannot be counted."


def test_one_set_runs_in_the_stages_own_worker(tmp_path):
    with Session.create(tmp_path / "run", plan(sets=1), workers=2) as session:
        result = session.run().stages[1].result
        assert result.processes == (session._runner.worker.pid,)
    assert os.getpid() not in result.processes
