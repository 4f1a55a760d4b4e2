"""The kernel's own stages on a measurement set with a known truth, and the working copy that shares bytes safely."""

import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from pl_kernel import casa_style
from pl_kernel.casa import Casa, Recorder
from pl_kernel.compute import Worker
from pl_kernel.errors import InputError, PlError, StageFailed
from pl_kernel.recipe import loads
from pl_kernel.testing.data import OBS_MODES

IMPORT = loads("stages: [h_importdata]")
pytestmark = pytest.mark.casa


@pytest.fixture
def in_worker(tmp_path):
    """Call a module-level function in a process that may import CASA."""
    worker = Worker(tmp_path / "worker.log")
    yield worker.call
    worker.stop()


def read_column(path, column, query=""):
    with Casa(Recorder(), os.devnull).table(path) as table:
        chosen = table.query(query) if query else table
        values = chosen.getcol(column)
        if query:
            chosen.close()
        return values


def overwrite_everything(path):
    """What a stage may do to its working copy: all columns but the raw visibilities, and the subtables."""
    casa = Casa(Recorder(), os.devnull)
    casa.flagdata(vis=path, mode="manual", antenna="A0", flagbackup=True)
    casa.setjy(vis=path, field="CAL", standard="manual", fluxdensity=[3, 0, 0, 0], usescratch=True)
    casa.clearcal(vis=path, addmodel=True)
    with casa.table(path, nomodify=False) as table:
        for column in ("WEIGHT", "SIGMA", "UVW", "TIME", "SCAN_NUMBER"):
            table.putcol(column, table.getcol(column) * 2)
    with casa.table(f"{path}/FIELD", nomodify=False) as table:
        table.putcol("NAME", ["changed"] * table.nrows())


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p.relative_to(path)): (p.read_bytes(), p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file()}


# ---- working copies --------------------------------------------------------------------------------------------------


def test_a_working_copy_shares_raw_visibilities_and_nothing_that_is_ever_written(new_session, tiny_ms, in_worker):
    before = contents(tiny_ms.path)
    session = new_session(IMPORT, [tiny_ms.path])
    (outcome,) = session.run().stages
    assert outcome.result.imported[0].how == "linked"
    copy = session.root / "work" / "tiny.ms"
    shared = [p for p in copy.rglob("*") if p.is_file() and p.stat().st_nlink > 1]
    assert len(shared) == 1 and re.fullmatch(r"table\.f\d+_TSM\d", shared[0].name)
    # The shared bytes are those of DATA: 240 rows of 8 channels, 2 correlations, 8 bytes at least.
    assert shared[0].stat().st_size >= 240 * 8 * 2 * 8
    in_worker(overwrite_everything, str(copy))
    assert contents(tiny_ms.path) == before
    assert np.array_equal(in_worker(read_column, str(copy), "DATA"), in_worker(read_column, str(tiny_ms.path), "DATA"))


def test_a_read_only_input_gives_a_writable_copy(new_session, tiny_ms, tmp_path, in_worker):
    archive = tmp_path / "archive" / "tiny.ms"
    shutil.copytree(tiny_ms.path, archive)
    for path in (archive, *archive.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    session = new_session(IMPORT, [archive])
    assert session.run().status == "done"
    copy = session.root / "work" / "tiny.ms"
    for path in (copy, *copy.rglob("*")):
        if path.stat().st_nlink == 1 or path.is_dir():
            assert path.stat().st_mode & stat.S_IWUSR, path
    in_worker(overwrite_everything, str(copy))
    for path in (archive, *archive.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_links_inside_a_measurement_set_are_not_written_through(new_session, tiny_ms, tmp_path, in_worker):
    original = tmp_path / "linked" / "tiny.ms"
    shutil.copytree(tiny_ms.path, original)
    elsewhere = tmp_path / "shared_field"
    shutil.move(original / "FIELD", elsewhere)
    (original / "FIELD").symlink_to(elsewhere)
    before = contents(elsewhere)
    session = new_session(IMPORT, [original])
    assert session.run().status == "done"
    in_worker(overwrite_everything, str(session.root / "work" / "tiny.ms"))
    assert contents(elsewhere) == before


def test_in_place_works_on_the_data_themselves(new_session, tiny_ms, tmp_path):
    own = tmp_path / "own.ms"
    shutil.copytree(tiny_ms.path, own)
    session = new_session(IMPORT, [own], overrides={"h_importdata": {"in_place": True}})
    (outcome,) = session.run().stages
    assert outcome.result.imported[0].how == "in place"
    assert session.context.measurement_sets[0].path == str(own)
    assert not (session.root / "work" / "own.ms").exists()


def test_two_data_sets_of_one_name_do_not_meet(new_session, tiny_ms, tmp_path):
    other = tmp_path / "day2" / "tiny.ms"
    shutil.copytree(tiny_ms.path, other)
    session = new_session(IMPORT, [tiny_ms.path, other], overrides={"h_importdata": {"session": "day1,day2"}})
    session.run()
    found = [(ms.name, ms.session) for ms in session.context.measurement_sets]
    assert found == [("tiny.ms", "day1"), ("tiny-2.ms", "day2")]


def test_the_number_of_sessions_must_fit(new_session, tiny_ms):
    session = new_session(IMPORT, [tiny_ms.path], overrides={"h_importdata": {"session": "a,b"}})
    outcome = session.run()
    assert outcome.status == "failed" and "2 sessions are given for 1" in outcome.message


def test_uvfits_is_converted(new_session):
    import importlib.util

    folder = Path(importlib.util.find_spec("casadata").submodule_search_locations[0])
    session = new_session(IMPORT, [folder / "__data__" / "demo" / "NGC5921.fits"])
    assert session.run().status == "done"
    (ms,) = session.context.measurement_sets
    # From the CASA Guide to these data: 22,653 rows, 63 channels, 3 fields.
    assert (ms.name, ms.n_rows, ms.spws[0].n_channels, len(ms.fields)) == ("NGC5921.ms", 22653, 63, 3)


# ---- h_mssplit -------------------------------------------------------------------------------------------------------


def test_split_keeps_what_is_asked_for_and_knows_what_it_is(new_session, tiny_ms, in_worker):
    session = new_session(IMPORT, [tiny_ms.path])
    session.run()
    for parameters, says in (
        ({}, "nothing to do"),
        ({"datacolumn": "corrected"}, "CORRECTED_DATA"),
        ({"field": "TARGET", "intent": "PHASE"}, "no field"),
    ):
        with pytest.raises(StageFailed, match=says):
            session.run_stage("h_mssplit", **parameters)
    assert [ms.name for ms in session.context.measurement_sets] == ["tiny.ms"]
    session.run_stage("h_mssplit", field="CAL", replace=False, outputvis="cal.ms")
    assert [ms.name for ms in session.context.measurement_sets] == ["tiny.ms", "cal.ms"]

    outcome = session.run_stage("h_mssplit", vis="tiny.ms", intent="TARGET", chanbin=2)
    (split,) = outcome.result.splits
    # Four of the eight scans are on the target; pairs of the eight channels are averaged.
    assert (split.rows, split.channels) == ((240, 120), (8, 4))
    _, ms = session.context.measurement_sets
    assert (ms.name, ms.origin, ms.session) == ("tiny_split.ms", "tiny.ms", "session_1")
    assert ms.intents == {"TARGET"} and [f.name for f in ms.fields] == ["TARGET"]
    data = in_worker(read_column, str(session.root / "work" / ms.path), "DATA")
    # The target has 1 Jy, and 0.05 Jy of noise in either part of each of the two samples averaged.
    assert np.median(data.real) == pytest.approx(1.0, abs=0.01)
    good = data[np.abs(data - 1) < 10]
    assert good.real.std() == pytest.approx(0.05 / np.sqrt(2), rel=0.1)


# ---- the observatories' style ----------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    casa_style.h_save()


def test_a_delivered_script_runs_with_one_changed_import(here, tiny_ms):
    shutil.copytree(tiny_ms.path, here.parent / "rawdata" / "tiny.ms")  # the observatories' folders
    script = """
from pl_kernel.casa_style import *
context = h_init(loglevel='info', plotlevel='summary')
context.set_state('ProjectSummary', 'proposal_code', '16A-000')
try:
    h_importdata(vis=['tiny.ms'], session=['session_1'], pipelinemode='automatic')
    h_mssplit(field='TARGET', vis='')
finally:
    h_save()
"""
    (here / "casa_pipescript.py").write_text(script)
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "casa_pipescript.py"], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "pipelinemode='automatic' has no meaning here" in done.stderr
    (run,) = here.glob("pipeline-*")
    assert (run / "stages/002-h_mssplit/stage.json").is_file()
    assert "16A-000" in (run / "project.json").read_text()


def test_stages_are_functions_with_signature_and_help():
    import inspect

    signature = inspect.signature(casa_style.h_mssplit)
    assert signature.parameters["chanbin"].default == 1
    assert "Channels to average into one." in casa_style.h_mssplit.__doc__
    assert {"h_init", "h_save", "h_resume", "h_importdata"} <= set(casa_style.__all__)
    with pytest.raises(AttributeError, match="Did you mean 'h_mssplit'"):
        casa_style.h_msplit


def test_a_call_without_an_active_run_says_what_to_do():
    casa_style.h_save()
    with pytest.raises(InputError, match="h_init"):
        casa_style.h_importdata(vis="x.ms")


def test_strict_refuses_unknown_arguments(here, tiny_ms):
    casa_style.h_init(strict=True, quiet=True)
    with pytest.raises(InputError, match="Did you mean 'in_place'"):
        casa_style.h_importdata(vis=str(tiny_ms.path), inplace=True)


def test_calibration_goes_to_text_and_comes_back(here, tiny_ms, capsys):
    """Two tables that exist only as text: export, forget, import gives the same lines (kernel.md 3.3)."""
    context = casa_style.h_init(quiet=True)
    casa_style.h_importdata(vis=str(tiny_ms.path))
    given = (
        "applycal(vis='tiny.ms', field='', intent='', spw='', antenna='', gaintable=['one.bcal', 'two.gcal'],"
        " gainfield=['', 'CAL'], spwmap=[[], []], interp=['linear,linear', 'nearest'], calwt=[True, False])\n"
    )
    Path("given.txt").write_text("# a comment\n" + given + "print('not executed')\n")
    casa_style.h_import_calstate(filename="given.txt")
    first = casa_style.h_show_calstate()
    assert "one.bcal" in first and "not executed" not in capsys.readouterr().out.replace(first, "")
    path = casa_style.h_export_calstate("saved.calstate")
    casa_style.h_import_calstate(filename=str(path), append=False)
    assert casa_style.h_show_calstate() == first
    kinds = [c.caltype for r in context.run.calibration.active.registrations for c in r.calfroms]
    assert kinds == ["bandpass", "gaincal"]


def test_a_run_is_taken_up_again(here, tiny_ms):
    context = casa_style.h_init(quiet=True)
    casa_style.h_importdata(vis=str(tiny_ms.path))
    name = context.name
    casa_style.h_save()
    again = casa_style.h_resume(quiet=True)
    assert again.name == name and len(again.session.stages) == 1
    with pytest.raises(PlError):
        casa_style.h_import_calstate(filename="no such file")
    casa_style.h_save("imported")
    again = casa_style.h_resume("imported.context", quiet=True)
    assert [s.name for s in again.session.stages] == ["h_importdata", "h_save"]
    casa_style.h_mssplit(field="TARGET")
    casa_style.h_save()
    with pytest.raises(PlError, match="Did you mean 'imported'"):
        casa_style.h_resume("importd", quiet=True)
    again = casa_style.h_resume("imported", quiet=True)
    assert [ms.name for ms in again.run.measurement_sets] == ["tiny.ms"]


def test_scan_intents_are_those_that_were_written(new_session, tiny_ms):
    session = new_session(IMPORT, [tiny_ms.path])
    session.run()
    (ms,) = session.context.measurement_sets
    assert {state.obs_mode for state in ms.states} >= set(OBS_MODES)
    assert ms.intents == {"BANDPASS", "AMPLITUDE", "PHASE", "TARGET"}
