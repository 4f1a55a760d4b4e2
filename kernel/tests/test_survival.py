"""Runs that survive: kills, full disks, Ctrl-C, moves, plugins that vanish.  The stages here need no CASA."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pl_kernel import branch as branches
from pl_kernel import jsonfiles, plugins, snapshots
from pl_kernel import recipe as recipes
from pl_kernel.branch import branch
from pl_kernel.cli.app import call
from pl_kernel.compute import Worker, serve
from pl_kernel.drawing import Pages
from pl_kernel.errors import (
    InputError,
    JournalError,
    PlError,
    RunLocked,
    StageFailed,
    UnknownName,
    WorkerDied,
)
from pl_kernel.events import Event, EventBus, EventFile
from pl_kernel.journal import RunFolder
from pl_kernel.serialize import to_json
from pl_kernel.session import Session
from pl_kernel.snapshots import Manifest
from pl_kernel.stage_context import ItemContext, Place

PLUGIN = """
from pathlib import Path
from pl_kernel import Inputs, QAScore, Result, SetValue, Stage, hookimpl, param, scorer
from pl_kernel.errors import DataError

class I(Inputs):
    number: int = param(1, doc="Number to add.")
    fail_if: str = param("", doc="Fail while this file exists.")

class R(Result):
    total: int

class Add(Stage[I, R]):
    '''Add a number to the total.'''
    name = "toy_add"
    def run(self, ctx, inputs):
        trace = Path("trace.txt")
        seen = trace.read_text() if trace.exists() else ""
        trace.write_text(f"{seen}{inputs.number} ")
        Path(f"own-{ctx.stage_number}").mkdir()
        if inputs.fail_if and Path(inputs.fail_if).exists():
            raise DataError("The number is not to be had.")
        total = ctx.value("toy.total", 0) + inputs.number
        return R(total=total, effects=[SetValue("toy.total", total)])

@scorer(R)
def odd(result):
    return QAScore(metric="odd", score=1.0, value={"unwritable": object()})

@hookimpl
def pl_stages(): return [Add]
"""
SCORED = "\n@hookimpl\ndef pl_qa_scorers(): return [odd]\n"


@pytest.fixture(autouse=True)
def toy(add_plugin):
    add_plugin("toy", PLUGIN)


def recipe(*stages):
    steps = [
        recipes.Step(stage="breakpoint") if s == "breakpoint" else recipes.Step(stage="toy_add", parameters=s)
        for s in stages
    ]
    return recipes.Recipe(name="toy", title="A toy", steps=steps)


def numbers(*values):
    return recipe(*({"number": n} for n in values))


def read(path):
    return json.loads(path.read_text())


def make(root, plan):
    with Session.create(root, plan) as session:
        assert session.run().status == "done"
    return root


# ---- a stage that is done stays done -------------------------------------------------------------------------------


def test_ctrl_c_while_the_page_is_drawn_keeps_the_stage(tmp_path, monkeypatch):
    def interrupt(self, altered=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, Session.create(tmp_path / "run", numbers(1, 10)) as session:
        patch.setattr(Pages, "wait", interrupt)
        patch.setattr(Pages, "give_up", lambda self: [])  # which would wait for the page that is being drawn
        outcome = session.run()
        assert (outcome.status, outcome.interrupted, len(outcome.stages)) == ("stopped", True, 2)
    for stage in ("001-toy_add", "002-toy_add"):
        assert read(tmp_path / f"run/stages/{stage}/stage.json")["status"] == "ok"
        (tmp_path / f"run/stages/{stage}/page.json").unlink(missing_ok=True)
    with Session.open(tmp_path / "run") as session:
        assert len(session.stages) == 2
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 11
    assert not (tmp_path / "run/attempts").exists()
    # The pages that were lost are drawn when the run goes on.
    assert (tmp_path / "run/stages/001-toy_add/page.json").is_file()
    assert (tmp_path / "run/stages/002-toy_add/page.json").is_file()


def test_a_drawing_process_that_dies_costs_a_page_and_nothing_else(tmp_path, monkeypatch):
    def mortal(self, drawing):
        if drawing.place.stage_number == 1:
            self._worker.stop(now=True)
            self._worker.call = _raise_died
        else:
            self._worker.__dict__.pop("call", None)
        return real(self, drawing)

    def _raise_died(*_args, **_more):
        raise WorkerDied("The worker process was killed by SIGSEGV.")

    real = Pages._draw
    monkeypatch.setattr(Pages, "_draw", mortal)
    with Session.create(tmp_path / "run", numbers(1, 10)) as session:
        assert session.run().status == "done"
    log = read(tmp_path / "run/stages/001-toy_add/log.json")
    assert any("could not be drawn" in r["message"] and "SIGSEGV" in r["message"] for r in log)
    assert (tmp_path / "run/stages/002-toy_add/page.json").is_file()


def test_a_full_disk_while_the_page_is_drawn_keeps_the_stage(tmp_path, monkeypatch):
    def full(*_):
        raise PlError("Cannot write log.json: no space left on device.")

    monkeypatch.setattr("pl_kernel.drawing.write_json", full)
    with Session.create(tmp_path / "run", numbers(1, 10)) as session:
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 11


@pytest.mark.parametrize("writes", [0, 5, 10])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_space(tmp_path, monkeypatch, writes):
    real, left = os.fsync, [writes]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with Session.create(tmp_path / "run", numbers(1, 10)) as session:
        monkeypatch.setattr(jsonfiles.os, "fsync", fsync)
        try:
            outcome = session.run()
        except PlError as error:  # not even the start could be written down
            assert writes == 0 and "no space left" in error.sentence
        else:
            assert outcome.status == "failed"
            assert "no space left" in outcome.message and "\n" not in outcome.message
    monkeypatch.setattr(jsonfiles.os, "fsync", real)
    with Session.open(tmp_path / "run") as session:
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 11
    assert (tmp_path / "run/work/trace.txt").read_text() == "1 10 "
    assert read(tmp_path / "run/run.json")["status"] == "done"


def test_a_second_try_in_the_same_session_starts_from_what_the_first_saw(tmp_path):
    stop = tmp_path / "stop"
    stop.touch()
    with Session.create(tmp_path / "run", recipe({"number": 1}, {"number": 5, "fail_if": str(stop)})) as session:
        assert session.run().status == "failed"
        stop.unlink()
        assert session.run().status == "done"  # the folder own-2 of the first try would be in the way
    assert (tmp_path / "run/work/trace.txt").read_text() == "1 5 "


def test_a_score_that_cannot_be_written_costs_the_scorer_not_the_stage(tmp_path, add_plugin):
    add_plugin("toy2", PLUGIN.replace("toy_add", "toy2_add") + SCORED)
    plan = recipes.Recipe(name="toy", title="", steps=[recipes.Step(stage="toy2_add")])
    with Session.create(tmp_path / "run", plan) as session:
        outcome = session.run()
    assert outcome.status == "done" and outcome.stages[0].scores[0].metric == "scorer-error"


def test_an_interrupted_single_stage_is_never_taken_for_the_one_before(tmp_path, monkeypatch):
    with Session.create(tmp_path / "run", numbers(1)) as session:
        session.run()

        def interrupt(*_args, **_kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(session._runner.worker, "call", interrupt)
            session.run_stage("toy_add", number=10)
        assert session.run_stage("toy_add", number=100).result.total == 101
        assert [s.stage for s in session._runner.steps] == ["toy_add", "toy_add"]


# ---- breakpoints -----------------------------------------------------------------------------------------------------


def test_every_breakpoint_stops_once_wherever_it_stands(tmp_path):
    plan = recipe("breakpoint", "breakpoint", {"number": 1}, "breakpoint", {"number": 10}, "breakpoint")
    run = tmp_path / "run"
    with Session.create(run, plan) as session:
        assert session.run().status == "stopped"
    for done, status in ((1, "stopped"), (2, "stopped"), (2, "done")):
        with Session.open(run) as session:
            assert session.run().status == status
            assert len(session.stages) == done


def test_a_stage_that_failed_behind_a_breakpoint_is_repeated_at_once(tmp_path):
    stop = tmp_path / "stop"
    stop.touch()
    run = tmp_path / "run"
    with Session.create(run, recipe({"number": 1}, "breakpoint", {"number": 5, "fail_if": str(stop)})) as session:
        assert [session.run().status, session.run().status] == ["stopped", "failed"]
    stop.unlink()
    with Session.open(run) as session:
        assert session.run().status == "done"


def test_a_rewind_to_a_stage_behind_a_breakpoint_runs_that_stage_next(tmp_path):
    with Session.create(tmp_path / "run", recipe({"number": 1}, "breakpoint", {"number": 5})) as session:
        assert [session.run().status, session.run().status] == ["stopped", "done"]
        session.rewind(2)
        assert session.run().status == "done"
        session.rewind(1)
        assert session.run().status == "stopped"  # it has not been there since


def test_stopping_after_a_stage_that_is_not_ahead_is_refused(tmp_path):
    with Session.create(tmp_path / "run", numbers(1, 2)) as session:
        with pytest.raises(UnknownName, match="toy_ad'"):
            session.run(stop_after="toy_ad")
        with pytest.raises(InputError, match="Stage 3"):
            session.run(stop_after=3)
        assert session.run(stop_after=1).status == "stopped"


# ---- kills -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing but what is on disk counts afterwards."""


@pytest.mark.parametrize("moves", [0, 2])
def test_killed_while_going_back_the_run_can_be_opened_and_goes_on(tmp_path, monkeypatch, moves):
    run = make(tmp_path / "run", numbers(1, 10, 100, 1000))
    real, left = RunFolder.set_aside, [moves]

    def set_aside(self, folder):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        real(self, folder)

    with Session.open(run) as session, monkeypatch.context() as patch:
        patch.setattr(RunFolder, "set_aside", set_aside)
        with pytest.raises(Killed):
            session.rewind(2)
    with Session.open(run) as session:
        assert len(session.stages) == 4 - moves
        session.rewind(2)
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 1111
    assert (run / "work/trace.txt").read_text() == "1 10 100 1000 "


def test_killed_while_files_are_saved_before_a_stage_no_half_file_comes_back(tmp_path, monkeypatch):
    with Session.create(tmp_path / "run", numbers(1, 10)) as session:
        session.run(stop_after=1)

        def half(source, target):
            target.write_text(source.read_text()[:1])
            raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(snapshots, "clone", half)
            session.run()
    with Session.open(tmp_path / "run") as session:
        assert (tmp_path / "run/work/trace.txt").read_text() == "1 "
        assert session.run().status == "done"


@pytest.mark.parametrize("copies", [0, 5])
def test_killed_while_branching_there_is_no_run_that_looks_whole(tmp_path, monkeypatch, copies):
    run = make(tmp_path / "run", numbers(1, 10, 100))
    real, left = branches._copy_any, [copies]

    def copy_any(source, target):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(branches, "_copy_any", copy_any)
        patch.setattr(branches, "_empty", lambda _folder: None)  # nobody tidies up after a kill
        branch(run, 3, tmp_path / "b")
    with pytest.raises(JournalError, match="no run folder"):
        Session.open(tmp_path / "b")
    with branch(run, 3, tmp_path / "c", overrides={"toy_add": {"number": 7}}) as session:
        assert session.run().status == "done"
        assert session.context.values["toy.total"] == 18
    assert (tmp_path / "c/work/trace.txt").read_text() == "1 10 7 "
    assert (run / "work/trace.txt").read_text() == "1 10 100 "


def test_a_branch_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    run = make(tmp_path / "run", numbers(1))

    def full(_source, _target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(branches, "_copy_any", full)
    with pytest.raises(InputError, match="no space left"):
        branch(run, 1, tmp_path / "b")
    assert {p.name for p in (tmp_path / "b").iterdir()} <= {".lock"}


def test_a_worker_that_outlived_its_pl_is_waited_for(tmp_path, monkeypatch):
    run = make(tmp_path / "run", numbers(1))
    monkeypatch.setattr("pl_kernel.journal._WORKER_SECONDS", 0.2)
    with (run / ".busy").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(RunLocked, match="still at work"):
            Session.open(run)
    Session.open(run).close()


def test_a_stage_holds_the_run_while_it_works(tmp_path, add_plugin):
    add_plugin(
        "held",
        """
        import fcntl
        from pl_kernel import Inputs, Result, Stage, hookimpl
        class R(Result):
            held: bool
        class Look(Stage[Inputs, R]):
            '''Look whether the run is held.'''
            name = "held_look"
            def run(self, ctx, inputs):
                with (ctx.work.parent / ".busy").open("r+b") as lock:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        return R(held=True)
                return R(held=False)
        @hookimpl
        def pl_stages(): return [Look]
        """,
    )
    plan = recipes.Recipe(name="x", title="", steps=[recipes.Step(stage="held_look")])
    with Session.create(tmp_path / "run", plan) as session:
        assert session.run().stages[0].result.held


def test_asking_for_the_status_does_not_disturb_a_run(tmp_path):
    run = make(tmp_path / "run", numbers(1))
    folder = RunFolder(run)
    assert not folder.is_held()
    with Session.open(run):
        owner = (run / ".lock.owner").read_text()
        script = "import sys; from pl_kernel.journal import RunFolder; print(RunFolder(sys.argv[1]).is_held())"
        done = subprocess.run([sys.executable, "-c", script, str(run)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "True"
        assert (run / ".lock.owner").read_text() == owner


# ---- snapshots of measurement sets, by hand ------------------------------------------------------------------------


def undo_log(tmp_path, files, copied):
    ms, snapshot = tmp_path / "x.ms", tmp_path / "001/x.ms"
    for name, text in files.items():
        (ms / name).parent.mkdir(parents=True, exist_ok=True)
        (ms / name).write_text(text)
    for name in copied:
        (snapshot / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / "files" / name).write_text(files[name])
    manifest = Manifest(name="x.ms", mutates=("flags",), files={n: len(t) for n, t in files.items()}, copied=copied)
    snapshots.write_json(snapshot / "manifest.json", manifest)
    return ms, snapshot


def test_a_snapshot_that_lacks_something_is_refused_before_anything_is_touched(tmp_path):
    ms, snapshot = undo_log(tmp_path, {"table.f0": "flags", "table.f1": "data"}, ("table.f0",))
    (ms / "table.f0").write_text("altered")
    (ms / "table.f1").unlink()
    (ms / "table.f2").write_text("new")
    with pytest.raises(JournalError, match=r"table\.f1 is missing"):
        snapshots.undo(snapshot, ms)
    assert (ms / "table.f0").read_text() == "altered" and (ms / "table.f2").exists()
    (ms / "table.f1").write_text("data")
    (snapshot / "files/table.f0").unlink()
    with pytest.raises(JournalError, match=r"lacks table\.f0"):
        snapshots.undo(snapshot, ms)
    assert (ms / "table.f0").read_text() == "altered" and (ms / "table.f2").exists()


def test_going_back_over_several_stages_counts_what_the_later_snapshots_bring_back(tmp_path):
    ms, first = undo_log(tmp_path / "a", {"f0": "flags", "f1": "data"}, ("f0",))
    _, second = undo_log(tmp_path / "b", {"f0": "flags", "f1": "data"}, ("f1",))
    present = snapshots.files_of(ms) - {"f1"}
    assert snapshots.check(first, ms, snapshots.check(second, ms, present)) == {"f0", "f1"}
    with pytest.raises(JournalError, match="f1 is missing"):
        snapshots.check(first, ms, present)


def test_half_a_removed_snapshot_is_none(tmp_path, monkeypatch):
    ms, snapshot = undo_log(tmp_path, {"f0": "flags"}, ("f0",))
    monkeypatch.setattr(snapshots, "remove", lambda path: (path / "x.ms/files/f0").unlink(missing_ok=True))
    snapshots.discard(snapshot.parent)
    assert not snapshot.parent.exists()
    snapshots.undo(snapshot, ms)
    assert (ms / "f0").read_text() == "flags"


def test_a_stage_whose_snapshot_was_thrown_away_cannot_be_undone_and_nothing_is_moved(tmp_path):
    run = make(tmp_path / "run", numbers(1, 10))
    stage = run / "stages/002-toy_add/stage.json"
    record = read(stage)
    stage.write_text(json.dumps({**record, "snapshot": ["x.ms"]}))
    with Session.open(run) as session:
        with pytest.raises(JournalError, match=r"002-toy_add.*is missing"):
            session.rewind(1)
        assert len(session.stages) == 2 and session.context.values["toy.total"] == 11
    assert stage.is_file() and (run / "work/own-2").is_dir()


# ---- plugins and places that change --------------------------------------------------------------------------------


def test_a_run_whose_plugin_is_gone_can_be_looked_at_and_says_what_is_missing(tmp_path, plugin_folder, capsys):
    run = tmp_path / "run"
    with Session.create(run, numbers(1, 10)) as session:
        session.run(stop_after=1)
    (plugin_folder.path / "plug_toy.py").unlink()
    shutil.rmtree(plugin_folder.path / "plug_toy-1.0.dist-info")
    plugins.registry.cache_clear()
    for words in (["status"], ["log"], ["history"], ["timing"], ["weblog", "--rebuild", "--no-open"]):
        assert call([*words, str(run)]) == 0, words
    capsys.readouterr()
    assert call(["resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "toy_add" in said and "plugin toy 1.0" in said and len(said.strip().splitlines()) == 1
    assert (run / "work/trace.txt").read_text() == "1 "


def test_another_version_of_a_plugin_is_written_down(tmp_path, plugin_folder):
    run = tmp_path / "run"
    with Session.create(run, numbers(1, 10)) as session:
        session.run(stop_after=1)
    shutil.rmtree(plugin_folder.path / "plug_toy-1.0.dist-info")
    plugin_folder.add("toy", PLUGIN, version="2.0")
    with Session.open(run) as session:
        assert session.run().status == "done"
    versions = [read(run / f"stages/00{n}-toy_add/stage.json")["version"] for n in (1, 2)]
    assert versions == ["1.0", "2.0"]
    assert "toy 1.0 → 2.0" in json.loads('"' + (run / "events.jsonl").read_text().split("other versions of ")[1][:40]
                                         .split('"')[0] + '"')  # fmt: skip


def test_a_parameter_that_is_known_no_more_is_refused_before_work(tmp_path, plugin_folder):
    run = tmp_path / "run"
    with Session.create(run, recipe({"number": 1}, {"number": 10, "fail_if": "x"})) as session:
        session.run(stop_after=1)
    shutil.rmtree(plugin_folder.path / "plug_toy-1.0.dist-info")
    plugin_folder.add("toy", PLUGIN.replace("fail_if", "stop_if"), version="2.0")
    sys.modules.pop("plug_toy", None)
    with Session.open(run) as session, pytest.raises(UnknownName, match="fail_if"):
        session.run()


def test_a_moved_run_goes_on_and_its_script_knows_no_old_place(tmp_path, add_plugin):
    add_plugin(
        "mover",
        """
        from pl_kernel import Inputs, Result, Stage, hookimpl
        class Copy(Stage[Inputs, Result]):
            '''Copy a file.'''
            name = "mover_copy"
            def run(self, ctx, inputs):
                (ctx.work / f"a{ctx.stage_number}").write_text("x")
                ctx.files.copy(ctx.work / f"a{ctx.stage_number}", ctx.work / f"b{ctx.stage_number}")
                return Result()
        @hookimpl
        def pl_stages(): return [Copy]
        """,
    )
    plan = recipes.Recipe(name="x", title="", steps=[recipes.Step(stage="mover_copy")] * 2)
    with Session.create(tmp_path / "old", plan) as session:
        session.run(stop_after=1)
    (tmp_path / "old").rename(tmp_path / "new")
    with Session.open(tmp_path / "new") as session:
        assert session.run().status == "done"
    script = (tmp_path / "new/casa_commands.py").read_text()
    assert str(tmp_path) not in script
    assert "shutil.copy2('a1', 'b1')" in script and "shutil.copy2('a2', 'b2')" in script


def test_a_run_folder_whose_name_is_no_utf8_works(tmp_path):
    run = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with Session.create(run, numbers(1, 10)) as session:
        assert session.run(stop_after=1).status == "stopped"
    with Session.open(run) as session:
        assert session.run().status == "done"
    done = subprocess.run(
        [sys.executable, "-m", "pl_kernel", "status", "--json", os.fsencode(run)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_refused_folder_is_left_as_it_was(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(InputError, match="not empty"):
        Session.create(mine, numbers(1))
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="cannot be"):
        Session.create(mine / "thesis.tex" / "run", numbers(1))


# ---- events, names, workers ------------------------------------------------------------------------------------------


def test_half_a_line_costs_no_other_event(tmp_path):
    log = EventFile(tmp_path / "events.jsonl")
    log(Event(kind="run_started"))
    with log.path.open("a") as out:
        out.write('{"kind": "stage_st')  # killed here
    log(Event(kind="run_finished"))
    lines = log.path.read_text().splitlines()
    assert [json.loads(line)["kind"] for line in (lines[0], lines[2])] == ["run_started", "run_finished"]


def test_an_observer_that_fails_costs_no_other_observer(tmp_path, add_plugin):
    heard = tmp_path / "heard"
    for name, body in (("bad", "1 / 0"), ("good", f"open({str(heard)!r}, 'a').write(event.kind + ' ')")):
        add_plugin(
            name, f"from pl_kernel import hookimpl\n@hookimpl\ndef pl_on_event(event):\n    {body}\n"
        )
    bus = EventBus()
    for observer in plugins.registry().observers():
        bus.subscribe(observer)
    bus.emit(Event(kind="run_started"))
    bus.emit(Event(kind="run_finished"))
    assert heard.read_text() == "run_started run_finished "
    assert len(bus.complaints) == 1 and "plugin bad" in bus.complaints[0]


def test_file_names_stay_short_enough_for_casa_and_different(tmp_path):
    ctx = ItemContext.__new__(ItemContext)
    ctx._place = Place("hif_makeimages", 12, tmp_path, tmp_path, tmp_path)
    long = ["J1" + "x" * 300, "J1" + "x" * 299 + "y"]
    names = {ctx.path("day2.ms", field, ext="image") for field in long}
    assert len(names) == 2
    for name in names:
        assert len(name) <= 180 and name.startswith("day2.hif_makeimages.s12.J1") and name.endswith(".image")
        (tmp_path / f"{name}.pbcor.tt0").touch()
    assert ctx.path("day2.ms", "3C286") == "day2.hif_makeimages.s12.3C286.tbl"


def answer_late(count):
    for number in range(count):
        serve.send(number)
    return "late"


def test_an_answer_that_nobody_waited_for_is_not_given_to_the_next_call():
    def stumble(_message):
        raise RuntimeError("the listener failed")

    with Worker() as worker:
        with pytest.raises(RuntimeError):
            worker.call(answer_late, 2, on_message=stumble)
        assert worker.call(abs, -3) == 3
        with pytest.raises(StageFailed, match="cannot travel"):
            worker.call(abs, lambda: 1)
        assert worker.call(abs, -4) == 4


def test_the_context_on_disk_is_the_context_whatever_changed_in_between(tmp_path):
    import attrs

    from pl_kernel.context import Context
    from pl_kernel.contextfile import ContextFile
    from pl_kernel.ms.samples import sample_ms
    from pl_kernel.serialize import read_json

    file = ContextFile(tmp_path / "context.json")
    sets = tuple(sample_ms(f"{n}.ms") for n in range(3))
    context = Context(run_name="a", root=tmp_path, measurement_sets=sets, values={"toy.a": [1, {"b": None}]})
    for state in (
        attrs.evolve(context, measurement_sets=()), context, attrs.evolve(context, stage_number=7),
        attrs.evolve(context, measurement_sets=(sets[2], attrs.evolve(sets[0], telescope="OTHER"))),
    ):  # fmt: skip
        file.write(state)
        assert read_json(tmp_path / "context.json", Context) == state
        assert read_json(tmp_path / "context.json") == json.loads(json.dumps(to_json(state)))


def test_a_text_given_for_a_list_of_notes_is_one_note():
    from pl_kernel import Result

    assert Result(notes="all is well").notes == ("all is well",)


def test_item_errors_are_raised_or_collected_and_nothing_else(tmp_path, add_plugin):
    add_plugin(
        "mapper",
        textwrap.dedent(
            """
            from pl_kernel import Inputs, Result, Stage, hookimpl
            def one(ctx, item):
                return item
            class Map(Stage[Inputs, Result]):
                '''Map.'''
                name = "mapper_map"
                def run(self, ctx, inputs):
                    assert ctx.map(one, []) == []
                    assert ctx.map(one, iter([1, 2])) == [1, 2]
                    ctx.map(one, [1], on_error="ignore")
            @hookimpl
            def pl_stages(): return [Map]
            """
        ),
    )
    plan = recipes.Recipe(name="x", title="", steps=[recipes.Step(stage="mapper_map")])
    with Session.create(tmp_path / "run", plan) as session:
        assert "on_error" in session.run().message
