"""Run folders that come from anybody: refused in one sentence, and nothing outside them is touched."""

from __future__ import annotations

import json
import shutil

import pytest

from pl_kernel import ImageRecord, ProductRecord
from pl_kernel import recipe as recipes
from pl_kernel.casa.script import stage_block
from pl_kernel.cli.app import call
from pl_kernel.effects import AddMeasurementSet, AddProduct, RegisterImage
from pl_kernel.errors import JournalError, PlError
from pl_kernel.journal import RunFolder
from pl_kernel.ms.samples import sample_ms
from pl_kernel.reports.compare import _flag_fractions, _image_paths
from pl_kernel.serialize import to_json, write_json
from pl_kernel.session import Session
from pl_kernel.snapshots import Manifest, undo

PLUGIN = """
from pl_kernel import Inputs, Result, Stage, hookimpl
class Touch(Stage[Inputs, Result]):
    '''Leave a file.'''
    name = "toy_touch"
    def run(self, ctx, inputs):
        (ctx.work / f"file{ctx.stage_number}").write_text("x")
        return Result()
@hookimpl
def pl_stages(): return [Touch]
"""


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """A run of two stages, one of them done, made once and copied by every test."""
    return tmp_path_factory.mktemp("pattern") / "run"


@pytest.fixture
def run(tmp_path, add_plugin, pattern):
    add_plugin("toy", PLUGIN)
    if not pattern.exists():
        plan = recipes.Recipe(name="toy", title="", steps=[recipes.Step(stage="toy_touch")] * 2)
        with Session.create(pattern, plan) as session:
            session.run(stop_after=1)
    shutil.copytree(pattern, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def victim(tmp_path):
    """A folder of somebody who only wanted to look at a run."""
    folder = tmp_path / "victim"
    (folder / "deep").mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    (folder / "deep/table.dat").write_text("data")
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def add_effects(run, *effects):
    path = run / "stages/001-toy_touch/result.json"
    result = json.loads(path.read_text())
    write_json(path, {**result, "effects": [to_json(e) for e in effects]})


def refused(run, says):
    with pytest.raises(JournalError, match=says) as caught:
        Session.open(run)
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize("name", ["../../victim", "/etc", "..", "a/../../victim", ""])
def test_a_measurement_set_that_is_no_file_name_is_refused(run, victim, name):
    ms = sample_ms("x.ms", n_spws=1)
    add_effects(run, AddMeasurementSet(attrs_evolve(ms, name=name)))
    refused(run, "no file name")


def attrs_evolve(ms, **changes):
    import attrs

    return attrs.evolve(ms, **changes)


def test_data_outside_the_run_are_refused_unless_they_carry_the_mark_of_the_run(run, victim):
    ms = attrs_evolve(sample_ms("x.ms", n_spws=1), path=str(victim / "deep"))
    add_effects(run, AddMeasurementSet(ms))
    refused(run, "data outside the run")
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**record, "data": [str(victim / "deep")], "token": "guessed"})
    refused(run, "data outside the run")
    with Session.create(run.parent / "mine", recipes.Recipe(name="x", title="", steps=())) as session:
        runner = session._runner
        runner.record = attrs_evolve(runner.record, data=(str(victim / "deep"),))
        context = attrs_evolve(session.context, measurement_sets=(ms,))
        runner.mark_in_place(context)
        assert runner.absolute(ms.path) == victim / "deep"
    (victim / "deep.pl-run").unlink()


@pytest.mark.parametrize(
    "effect", [RegisterImage(ImageRecord(name="../../victim/deep", field="a")),
               RegisterImage(ImageRecord(name="/etc/passwd", field="a")),
               AddProduct(ProductRecord(name="../../victim/thesis.tex", kind="fits"))]
)  # fmt: skip
def test_images_and_products_outside_the_run_are_refused(run, victim, effect):
    add_effects(run, effect)
    refused(run, "outside the run")


@pytest.mark.parametrize(
    "place", ["work", "products", "stages", "snapshots", "weblog", "attempts", "weblog/stages", "work/file9",
              "snapshots/002/loose-files", "stages/002-toy_touch"]
)  # fmt: skip
def test_a_link_that_leads_out_is_refused(run, victim, place):
    path = run / place
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(victim)
    refused(run, "leads out of the run folder")
    assert call(["weblog", "--rebuild", "--no-open", str(run)]) == 2


@pytest.mark.parametrize("name", [".lock", "events.jsonl", "worker.log", ".lock.owner", ".busy", "work/trace"])
def test_files_are_not_written_through_links(run, victim, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim / "thesis.tex")
    refused(run, "leads out of the run folder")


@pytest.mark.parametrize("name", ["../../../victim/thesis.tex", "/etc/passwd", "a/../../x"])
@pytest.mark.parametrize("where", ["files", "copied"])
def test_a_manifest_that_leads_out_is_refused(tmp_path, victim, name, where):
    ms, snapshot = tmp_path / "x.ms", tmp_path / "002/x.ms"
    ms.mkdir()
    snapshot.mkdir(parents=True)
    (ms / "table.dat").write_text("mine")
    files = {"table.dat": 4, **({name: 1} if where == "files" else {})}
    manifest = Manifest(name="x.ms", mutates=(), files=files, copied=(name,) if where == "copied" else ())
    write_json(snapshot / "manifest.json", manifest)
    with pytest.raises(JournalError, match="outside the run"):
        undo(snapshot, ms)
    assert (ms / "table.dat").read_text() == "mine"


def test_a_manifest_with_other_types_is_refused(tmp_path):
    snapshot = tmp_path / "002/x.ms"
    snapshot.mkdir(parents=True)
    for content in ([], {"name": 5}, {"name": "x", "mutates": [], "files": ["a"], "copied": 3}):
        (snapshot / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(JournalError, match="damaged"):
            undo(snapshot, tmp_path / "x.ms")


@pytest.mark.parametrize("step", [-1, 1, 5, 10**12])
def test_a_stage_that_does_not_belong_to_the_run_is_refused(run, step):
    path = run / "stages/001-toy_touch/stage.json"
    write_json(path, {**json.loads(path.read_text()), "step": step, "name": "toy_other" if step == 1 else "toy_touch"})
    if step == 1:
        refused(run, "does not belong")
    else:
        refused(run, "does not belong|has been altered")


FILES = ("run.json", "context.json", "events.jsonl", "stages/001-toy_touch/stage.json",
         "stages/001-toy_touch/result.json", "stages/001-toy_touch/qa.json", "stages/001-toy_touch/timing.json",
         "stages/001-toy_touch/casa_calls.json", "stages/001-toy_touch/inputs.json",
         "stages/001-toy_touch/log.json", "weblog/.state.json")  # fmt: skip
VALUES = ([], [5], 5, "x", None, {"a": [1]}, {"scores": 5, "calls": "x", "seconds": [], "steps": 5, "effects": {}},
          {"type": "Nothing", "value": {"value": {}}})  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_json_of_any_shape_ends_in_a_sentence(run, name, tmp_path, capsys):
    good = (run / name).read_bytes()
    shutil.copytree(run, tmp_path / "other")
    for value in VALUES:
        (run / name).write_text(json.dumps(value))
        commands = (["status"], ["log"], ["history"], ["timing"], ["weblog", "--rebuild", "--no-open"])
        for words in (*commands, ["compare", "--no-data", str(tmp_path / "other")]):
            code = call([*words, str(run)])
            said = capsys.readouterr().err
            assert code in (0, 1, 2), (words, value)
            assert "pl itself went wrong" not in said and "Traceback" not in said, (words, value, said)
        try:
            Session.open(run).close()
        except PlError as error:
            assert "\n" not in error.sentence
    (run / name).write_bytes(good)
    for rest in (tmp_path / "run/attempts",):
        shutil.rmtree(rest, ignore_errors=True)


def test_reports_look_at_no_data_outside(run, victim):
    ms = attrs_evolve(sample_ms("x.ms", n_spws=1), path=str(victim / "deep"))
    context = json.loads((run / "context.json").read_text())
    write_json(run / "context.json", {**context, "measurement_sets": [to_json(ms)]})
    with pytest.raises(JournalError, match="outside the run"):
        _flag_fractions(run)
    image = to_json(ImageRecord(name="../../victim/deep", field="a"))
    write_json(run / "context.json", {**context, "images": [image]})
    with pytest.raises(JournalError, match="outside the run"):
        _image_paths(run)


def test_no_name_from_a_run_becomes_code():
    bad = [
        {"task": "flagdata(); import os; os.remove", "kind": "task", "outcome": "ok", "args": {}},
        {"task": "flagdata", "kind": "task", "outcome": "ok", "args": {"vis='x'); import os; f(y": 1}},
        {"task": "system", "kind": "file", "outcome": "ok", "args": {"paths": []}},
        {"task": "flagdata", "kind": "task", "outcome": "bad\nimport os", "args": {}},
    ]
    text = stage_block(1, "x\nimport os", bad, "/run/work")
    assert all(line.startswith("#") for line in text.splitlines() if line.strip()), text


def test_a_run_folder_without_its_folders_is_made_whole(run):
    shutil.rmtree(run / "products")
    with Session.open(run) as session:
        assert session.run().status == "done"
    assert RunFolder(run).read_run().status == "done"
