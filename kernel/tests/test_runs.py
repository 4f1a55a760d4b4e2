"""Runs: journal, fold, resume, lock, crashes.  The stages here need no CASA; worker processes are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pl_kernel import recipe as recipes
from pl_kernel.errors import InputError, JournalError, RunLocked, StageFailed, UnknownName
from pl_kernel.session import Session

PLUGIN = """
import os, signal, time
from pathlib import Path
from pl_kernel import Inputs, ItemFailure, QAScore, Result, SetValue, Stage, hookimpl, param, scorer

class AddInputs(Inputs):
    number: int = param(1, doc="Number to add.")
    crash_if: str = param("", doc="Crash once, if this file does not exist.")
    sleep: float = param(0.0, unit="s", doc="Time to take.")

class AddResult(Result):
    total: int

class Add(Stage[AddInputs, AddResult]):
    '''Add a number to the total.'''
    name = "toy_add"
    topic = "dataset"
    def run(self, ctx, inputs):
        ctx.log.attention("adding")
        Path(f"trace-{ctx.stage_number}.txt").write_text("half")
        if inputs.crash_if and not Path(inputs.crash_if).exists():
            Path(inputs.crash_if).write_text("crashed")
            os.kill(os.getpid(), signal.SIGABRT)
        time.sleep(inputs.sleep)
        total = ctx.value("toy.total", 0) + inputs.number
        Path(f"trace-{ctx.stage_number}.txt").write_text(str(total))
        return AddResult(total=total, effects=[SetValue("toy.total", total)])

class FailInputs(Inputs):
    how: str = param("error", choices=("error", "item", "wrong"), doc="How to fail.")

class Fail(Stage[FailInputs, AddResult]):
    '''Fail in one way or another.'''
    name = "toy_fail"
    def run(self, ctx, inputs):
        if inputs.how == "item":
            return AddResult(total=0, failures=[ItemFailure("spw 3", "no data")])
        if inputs.how == "wrong":
            return 5
        return 1 / 0

def square(ctx_item, item, offset):
    if item == 4:
        raise ValueError("four")
    ctx_item.log.warning(f"item {item}")
    return item * item + offset

class MapInputs(Inputs):
    n: int = param(3)

class MapResult(Result):
    answers: tuple[str, ...]
    pids: int = 0

class Map(Stage[MapInputs, MapResult]):
    '''Square numbers side by side.'''
    name = "toy_map"
    def run(self, ctx, inputs):
        answers = ctx.map(square, range(inputs.n), 100, on_error="collect", label="squares")
        return MapResult(answers=tuple(str(a) for a in answers))

class SuggestInputs(Inputs):
    size: int | None = param(None, unit="pixel", doc="Size.")

class SuggestResult(Result):
    size: int

class Suggest(Stage[SuggestInputs, SuggestResult]):
    '''Ask a heuristic.'''
    name = "toy_suggest"
    def suggest(self, ctx, inputs):
        return {"size": (256, "the field of view is 256 pixels wide")}
    def run(self, ctx, inputs):
        return SuggestResult(size=inputs.size)

@scorer(AddResult)
def small_total(result, context):
    return QAScore(metric="total", value=result.total, score=1.0 if result.total < 100 else 0.2, short="total")

@hookimpl
def pl_stages(): return [Add, Fail, Map, Suggest]
@hookimpl
def pl_qa_scorers(): return [small_total]
"""


@pytest.fixture(autouse=True)
def toy(add_plugin):
    add_plugin("toy", PLUGIN)


def recipe(*stages):
    steps = [recipes.Step(stage=s) if isinstance(s, str) else recipes.Step(stage=s[0], parameters=s[1]) for s in stages]
    return recipes.Recipe(name="toy", title="A toy", steps=steps)


def read(path):
    return json.loads(path.read_text())


def test_results_are_folded_into_the_context_and_written_down(tmp_path):
    with Session.create(tmp_path / "run", recipe(("toy_add", {"number": 2}), ("toy_add", {"number": 5}))) as session:
        outcome = session.run()
        assert outcome.status == "done"
        assert session.context.values["toy.total"] == 7
    stage = tmp_path / "run/stages/002-toy_add"
    assert read(stage / "result.json")["total"] == 7
    assert read(stage / "stage.json")["status"] == "ok"
    assert read(stage / "qa.json")["stage_score"] == 1.0
    assert read(stage / "inputs.json")["number"] == {
        "value": 5, "origin": "recipe", "unit": "", "doc": "Number to add.", "hidden": False, "reason": "",
    }  # fmt: skip
    assert [r["level"] for r in read(stage / "log.json")] == ["attention"]
    assert read(tmp_path / "run/run.json")["status"] == "done"


def test_a_reopened_run_has_the_same_context(tmp_path):
    with Session.create(tmp_path / "run", recipe(("toy_add", {"number": 2}))) as session:
        session.run()
        before = session.context
    with Session.open(tmp_path / "run") as session:
        assert session.context == before
        assert session.run().status == "done"
        assert len(session.stages) == 1


def test_a_crashed_stage_is_a_failed_stage_and_resume_goes_on(tmp_path):
    marker = tmp_path / "marker"
    steps = recipe(("toy_add", {"number": 2}), ("toy_add", {"number": 5, "crash_if": str(marker)}), "toy_add")
    with Session.create(tmp_path / "run", steps) as session:
        outcome = session.run()
        assert outcome.status == "failed"
        assert "SIGABRT" in outcome.message and "toy_add" in outcome.message
    failed = read(tmp_path / "run/stages/002-toy_add/stage.json")
    assert failed["status"] == "failed" and "SIGABRT" in failed["error"]["sentence"]
    with Session.open(tmp_path / "run") as session:
        # what the crashed attempt left in work is gone, its records are kept
        assert sorted(p.name for p in (tmp_path / "run/work").iterdir()) == ["trace-1.txt"]
        assert (tmp_path / "run/attempts/002-toy_add.1/stage.json").is_file()
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 8


def test_an_exception_is_one_sentence_and_the_traceback_stays_in_the_record(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_fail")) as session:
        outcome = session.run()
    assert outcome.status == "failed" and "ZeroDivisionError" in outcome.message and "\n" not in outcome.message
    assert "Traceback" in read(tmp_path / "run/stages/001-toy_fail/stage.json")["error"]["detail"]


def test_a_stage_that_returns_no_result_fails(tmp_path):
    with Session.create(tmp_path / "run", recipe(("toy_fail", {"how": "wrong"}))) as session:
        assert "not a result" in session.run().message


def test_items_that_failed_lower_the_score(tmp_path):
    with Session.create(tmp_path / "run", recipe(("toy_fail", {"how": "item"}))) as session:
        outcome = session.run()
    assert outcome.score == 0.3
    assert any("spw 3: no data" in s.long for s in outcome.stages[0].scores)


def test_suggestions_are_written_with_their_reason(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_suggest")) as session:
        session.run()
    size = read(tmp_path / "run/stages/001-toy_suggest/inputs.json")["size"]
    assert (size["value"], size["origin"], size["reason"]) == (
        256, "heuristic", "the field of view is 256 pixels wide",
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_map_gives_the_same_answers_in_order_with_any_number_of_workers(tmp_path, workers):
    with Session.create(tmp_path / "run", recipe(("toy_map", {"n": 6})), workers=workers) as session:
        outcome = session.run()
    answers = outcome.stages[0].result.answers
    assert answers[:4] == ("100", "101", "104", "109") and answers[5] == "125"
    assert "four" in answers[4]
    log = read(tmp_path / "run/stages/001-toy_map/log.json")
    assert [r["message"] for r in log] == [f"item {n}" for n in (0, 1, 2, 3, 5)]


def test_map_on_a_dask_cluster_gives_the_same_answers(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Session.create(tmp_path / "run", recipe(("toy_map", {"n": 6}))) as session,
    ):
        session.use_scheduler(cluster.scheduler_address)
        outcome = session.run()
        assert outcome.status == "done", outcome.message
    answers = outcome.stages[0].result.answers
    assert answers[:4] == ("100", "101", "104", "109") and answers[5] == "125"
    assert "four" in answers[4]
    log = read(tmp_path / "run/stages/001-toy_map/log.json")
    assert [r["message"] for r in log] == [f"item {n}" for n in (0, 1, 2, 3, 5)]


def test_a_scheduler_that_does_not_answer_is_refused_before_work(tmp_path):
    pytest.importorskip("dask.distributed")
    with (
        Session.create(tmp_path / "run", recipe("toy_map")) as session,
        pytest.raises(InputError, match="No Dask scheduler answers"),
    ):
        session.use_scheduler("tcp://127.0.0.1:1")


def test_a_breakpoint_stops_and_resume_goes_on_behind_it(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_add", "breakpoint", "toy_add")) as session:
        assert session.run().status == "stopped"
        assert len(session.stages) == 1
    with Session.open(tmp_path / "run") as session:
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 2


def test_stop_after_and_single_stages(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_add", "toy_add")) as session:
        assert session.run(stop_after=1).status == "stopped"
        assert session.run().status == "done"
        assert session.run_stage("toy_add", number=40).result.total == 42
        with pytest.raises(StageFailed, match="ZeroDivisionError"):
            session.run_stage("toy_fail")
        assert session.run_stage("toy_add", number=1).number == 4
    with Session.open(tmp_path / "run") as session:
        assert session.context.values["toy.total"] == 43


def test_rewind_goes_back_to_what_a_stage_saw_and_runs_on_from_there(tmp_path):
    steps = recipe(*(("toy_add", {"number": n}) for n in (1, 10, 100)))
    with Session.create(tmp_path / "run", steps) as session:
        session.run()
        session.rewind(2)
        assert session.context.values["toy.total"] == 1
        assert [s.number for s in session.stages] == [1]
        assert sorted(p.name for p in (tmp_path / "run/work").iterdir()) == ["trace-1.txt"]
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 111
        with pytest.raises(InputError, match="3 finished stages"):
            session.rewind(5)
    assert len(list((tmp_path / "run/attempts").iterdir())) == 2


def test_a_run_folder_is_used_by_one_process_at_a_time(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_add")) as session:
        session.run()
        with pytest.raises(RunLocked, match=str(os.getpid())):
            Session.open(tmp_path / "run")
    Session.open(tmp_path / "run").close()


def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownName, match="toy_add"):
        Session.create(tmp_path / "run", recipe("toy_ad"))
    with pytest.raises(UnknownName, match="number"):
        Session.create(tmp_path / "run", recipe(("toy_add", {"nmuber": 1})))
    with pytest.raises(InputError, match="'number'"):
        Session.create(tmp_path / "run", recipe("toy_add"), overrides={"toy_add": {"number": "many"}})
    with pytest.raises(UnknownName):
        Session.create(tmp_path / "run", recipe("toy_add"), overrides={"toy_map": {"n": 3}})
    assert not (tmp_path / "run").exists()
    with pytest.raises(JournalError, match="no run folder"):
        Session.open(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(InputError, match="not empty"):
        Session.create(tmp_path / "mine", recipe("toy_add"))
    with Session.create(tmp_path / "run", recipe("toy_add")):
        pass
    with pytest.raises(InputError, match="pl resume"):
        Session.create(tmp_path / "run", recipe("toy_add"))


def test_a_damaged_record_is_named_and_nothing_else_is_touched(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_add", "toy_add")) as session:
        session.run()
    result = tmp_path / "run/stages/002-toy_add/result.json"
    result.write_text(result.read_text()[:20])
    with pytest.raises(JournalError, match="002-toy_add"):
        Session.open(tmp_path / "run")
    assert read(tmp_path / "run/stages/001-toy_add/stage.json")["status"] == "ok"
    with pytest.raises(JournalError, match="002-toy_add"):
        Session.open(tmp_path / "run", before=3)
    with pytest.raises(InputError, match="counted from 1"):
        Session.open(tmp_path / "run", before=0)
    with Session.open(tmp_path / "run", before=2) as session:
        assert [stage.number for stage in session.stages] == [1]
        assert session.run().status == "done"
        assert len(session.stages) == 2


SCRIPT = """
import sys
from pl_kernel import recipe as recipes
from pl_kernel.session import Session
steps = [recipes.Step(stage="toy_add", parameters={"sleep": 0.3}) for _ in range(3)]
with Session.create(sys.argv[1], recipes.Recipe(name="toy", steps=steps)) as session:
    session.run()
"""


@pytest.mark.parametrize("delay", [0.0, 0.25, 0.5, 0.75])
def test_killed_at_any_moment_resume_gives_the_same(tmp_path, delay):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, str(script), str(run)])
    deadline = time.monotonic() + 30
    while not (run / "stages/001-toy_add").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Session.open(run) as session:
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 3
    assert sorted(p.name for p in (run / "work").iterdir()) == ["trace-1.txt", "trace-2.txt", "trace-3.txt"]
    assert [(run / f"work/trace-{n}.txt").read_text() for n in (1, 2, 3)] == ["1", "2", "3"]


def test_nothing_in_a_run_folder_is_pickled(tmp_path):
    with Session.create(tmp_path / "run", recipe("toy_add", ("toy_map", {"n": 3})), workers=2) as session:
        session.run()
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith((b"\x80\x03", b"\x80\x04", b"\x80\x05")), path


WAITING = """
import time
from pl_kernel import Inputs, Result, Stage, hookimpl, renderer

class I(Inputs): pass
class Slow(Result):
    early: bool = False
class Altered(Result):
    drawn_before: bool

class Own(Stage[I, Slow]):
    '''Makes a page of what it found.'''
    name = "wait_own"
    page_reads = frozenset()
    def run(self, ctx, inputs): return Slow()

class Reading(Stage[I, Slow]):
    '''Makes a page of the data.'''
    name = "wait_reading"
    def run(self, ctx, inputs): return Slow()

class Early(Stage[I, Slow]):
    '''Makes a page of the data, which it reads first.'''
    name = "wait_early"
    def run(self, ctx, inputs): return Slow(early=True)

class Alter(Stage[I, Altered]):
    '''Alters flags.'''
    name = "wait_alter"
    mutates = frozenset({"flags"})
    def run(self, ctx, inputs):
        return Altered(drawn_before=any(ctx.stage_dir.parent.glob("001-*/page.json")))

@renderer(Slow)
def slow(page, ctx, result):
    if result.early:
        page.data_read()
    time.sleep(2)
    page.text("drawn")

@hookimpl
def pl_stages(): return [Own, Reading, Early, Alter]
@hookimpl
def pl_renderers(): return [slow]
"""
STRANGER = """
from pl_kernel import hookimpl, renderer

@renderer("wait_early")
def early(page, ctx, result): page.text("of somebody else")
@renderer("wait_own")
def own(page, ctx, result): page.text("of somebody else")

@hookimpl
def pl_renderers(): return [early, own]
"""


@pytest.mark.parametrize(
    ("stage", "stranger", "waits"),
    [
        ("wait_own", False, False), ("wait_reading", False, True), ("wait_early", False, False),
        ("wait_own", True, True), ("wait_early", True, True),
    ],
)  # fmt: skip
def test_a_stage_that_alters_data_waits_until_pages_have_read_them(tmp_path, add_plugin, stage, stranger, waits):
    add_plugin("waiting", WAITING)
    if stranger:
        add_plugin("stranger", STRANGER)
    with Session.create(tmp_path / "run", recipe(stage, "wait_alter")) as session:
        assert session.run().stages[1].result.drawn_before == waits
        record = tmp_path / "run/stages/002-wait_alter/stage.json"
        page = tmp_path / f"run/stages/001-{stage}/page.json"
        assert "drawn" in page.read_text()
        if stage != "wait_own":
            assert page.stat().st_mtime <= record.stat().st_mtime, "a run killed here could not draw it again"
