"""The CASA adapter: calls are recorded, complaints are told, a crash is a failed stage, scripts repeat runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pl_kernel.casa.records import complaints
from pl_kernel.casa.script import header, stage_block

LOG = (
    "2026-11-22 20:14:48\tINFO\timporter::::casa\tBegin Task: importuvfits\n"
    "2026-11-22 20:14:48\tSEVERE\tMeasTable::dUTC (file /a/b.cc, line 1)\tLeap second table TAI_UTC seems out-of-date\n"
    "2026-11-22 20:14:48\tSEVERE\tMeasTable::dUTC(Double) (file /a/b.cc, line 4290)+\tUntil the table is updated\n"
    "2026-11-22 20:14:48\tWARN\tsdcal::::casa\tForcing use of OLD VisibilityIterator.\n"
    "2026-11-22 20:14:48\tWARN\ttsdimaging::set_beam_size::casa\tInvalid sampling=0.0 arcsec. Using the value of\n"
    "2026-11-22 20:14:48\tWARN\tcalibrater::solve\tInsufficient unflagged antennas to proceed\n"
    "2026-11-22 20:14:49\tSEVERE\tCalibrater::selectvis (file /a/c.cc, line 590)\tCaught exception: Field Expression:\n"
    '2026-11-22 20:14:49\tSEVERE\tCalibrater::selectvis (file /a/c.cc, line 590)+\t(near char. 7 in string "nofield")\n'
    "2026-11-22 20:14:49\tSEVERE\tgaincal::::casa\tTask gaincal raised an exception of class RuntimeError\n"
)


def test_warnings_and_errors_are_told_with_their_origin_and_the_harmless_ones_left_out():
    assert list(complaints(LOG)) == [
        ("warning", "calibrater::solve", "Insufficient unflagged antennas to proceed"),
        ("error", "Calibrater::selectvis",
         'Caught exception: Field Expression: (near char. 7 in string "nofield")'),
    ]  # fmt: skip


def test_what_stands_above_the_reason_of_a_failure_is_of_use(tmp_path):
    from types import SimpleNamespace

    from pl_kernel.cli.running import _log_tail

    (tmp_path / "casa.log").write_text(LOG)
    session = SimpleNamespace(folder=SimpleNamespace(stage_dirs=lambda: [tmp_path]))
    shown = _log_tail(session)
    assert len(shown) == 2 and not any("eap second" in line or "updated" in line for line in shown)
    assert shown[0] == "CASA warning: Insufficient unflagged antennas to proceed"


def test_script_values_are_written_as_literals_whatever_they_hold():
    calls = [
        {"task": "flagdata", "kind": "task", "outcome": "ok", "message": "",
         "args": {"vis": "/runs/a/work/x.ms", "field": "A\"B'; import os", "antenna": ["a", "b"], "flag": True}},
        {"task": "copytree", "kind": "file", "outcome": "ok", "message": "", "args": {"paths": ["a.ms", "b.ms"]}},
        {"task": "gaincal", "kind": "task", "outcome": "failed", "message": "bad\nnews", "args": {"vis": "x.ms"}},
    ]  # fmt: skip
    text = header('run "1"\n', "x") + stage_block(1, "Flag\nthe data", calls, "/runs/a/work")
    seen = []
    names = {"flagdata": lambda **k: seen.append(k), "gaincal": lambda **k: seen.append("never")}
    block = text[text.index("# ---- stage 1") :]
    copied = []
    names["shutil"] = type("S", (), {"copytree": staticmethod(lambda *p: copied.append(p))})
    exec(compile(block, "script", "exec"), names)
    assert seen == [{"vis": "x.ms", "field": "A\"B'; import os", "antenna": ["a", "b"], "flag": True}]
    assert copied == [("a.ms", "b.ms")]
    compile(text, "casa_commands.py", "exec")


def test_the_script_flags_solutions_of_a_calibration_table_as_the_run_did(monkeypatch):
    columns = {"ANTENNA1": np.array([0, 1, 0, 1]), "SPECTRAL_WINDOW_ID": np.array([17, 17, 19, 19])}
    columns["FLAG"] = np.zeros((2, 1, 4), bool)

    class Table:
        def open(self, name, nomodify=True):
            assert name == "a.k2jy" and not nomodify

        def getcol(self, name):
            return columns[name].copy()

        def putcol(self, name, value):
            columns[name] = value

        def done(self):
            pass

    monkeypatch.setitem(sys.modules, "casatools", type("M", (), {"table": Table}))
    text = header("run", "x")
    names: dict = {}
    exec(compile(text[text.index("def flag_solutions") :], "script", "exec"), names)
    call = {"task": "flag_solutions", "kind": "task", "outcome": "ok", "message": "",
            "args": {"vis": "a.k2jy", "solutions": [[1, 19]]}}  # fmt: skip
    exec(stage_block(1, "Jy/K", [call], "/runs/a/work"), names)
    assert columns["FLAG"].tolist() == [[[False, False, False, True]]] * 2


PLUGIN = """
import os
from pl_kernel import Inputs, Result, SetValue, Stage, hookimpl, param

class I(Inputs):
    vis: tuple[str, ...] | None = param(None, doc="Data.")

class R(Result):
    seconds: float = 0.0

class Import(Stage[I, R]):
    '''Make a measurement set of random visibilities.'''
    name = "toy_import"
    takes_data = True
    def run(self, ctx, inputs):
        from pl_kernel.ms.reader import read_measurement_set
        from pl_kernel import AddMeasurementSet
        ctx.casa.importuvfits(fitsfile=inputs.vis[0], vis="toy.ms")
        ms = read_measurement_set("toy.ms", telescopes=ctx.telescopes)
        return R(effects=[AddMeasurementSet(ms)])

class Flag(Stage[I, R]):
    '''Flag an antenna, crashing half way the first time.'''
    name = "toy_flag"
    mutates = frozenset({"flags"})
    topic = "flagging"
    def run(self, ctx, inputs):
        ctx.casa.flagdata(vis="toy.ms", mode="manual", antenna="2")
        marker = os.environ["PL_TEST_MARKER"]
        if not os.path.exists(marker):
            open(marker, "w").close()
            ctx.casa.flagdata(vis="toy.ms", mode="manual", antenna="5")
            ctx.casa.gaincal(vis="toy.ms", caltable="toy.G", field="0,1", solint="inf", refant="15")
            # An empty refspwmap kills the process.
            ctx.casa.fluxscale(vis="toy.ms", caltable="toy.G", fluxtable="toy.F", reference="0", refspwmap=[])
        return R()

class AlterInputs(Inputs):
    what: str = param("flag", choices=("flag", "model", "apply", "weigh"), doc="What to alter.")
    antenna: str = param("3", doc="Antenna to flag.")

class Alter(Stage[AlterInputs, R]):
    '''Alter a measurement set in one of the ways stages do.'''
    name = "toy_alter"
    mutates = frozenset({"flags", "weights", "model", "corrected"})
    def run(self, ctx, inputs):
        vis, table = "toy.ms", f"toy.{ctx.stage_number}.G"
        if inputs.what == "flag":
            ctx.casa.flagmanager(vis=vis, mode="save", versionname=f"before_{ctx.stage_number}")
            ctx.casa.flagdata(vis=vis, mode="manual", antenna=inputs.antenna)
        elif inputs.what == "model":
            ctx.casa.setjy(vis=vis, field="0", standard="manual", fluxdensity=[5.0, 0, 0, 0], usescratch=True)
        elif inputs.what == "apply":
            ctx.casa.gaincal(vis=vis, caltable=table, field="0", solint="inf", refant="15")
            ctx.casa.applycal(vis=vis, gaintable=[table], applymode="calflag")
        else:
            ctx.casa.statwt(vis=vis, datacolumn="corrected")
        return R()

@hookimpl
def pl_stages(): return [Import, Flag, Alter]
"""


@pytest.fixture
def uvfits():
    casadata = pytest.importorskip("casadata")
    return Path(casadata.datapath) / "demo" / "NGC5921.fits"


@pytest.mark.casa
def test_flags_of_a_crashed_stage_are_restored_and_the_script_repeats_the_run(
    tmp_path, add_plugin, uvfits, monkeypatch
):
    from pl_kernel import recipe as recipes
    from pl_kernel.casa import Casa, Recorder
    from pl_kernel.session import Session

    monkeypatch.setenv("PL_TEST_MARKER", str(tmp_path / "marker"))
    add_plugin("toy", PLUGIN)
    steps = [recipes.Step(stage="toy_import"), recipes.Step(stage="toy_flag")]
    root = tmp_path / "run"
    with Session.create(root, recipes.Recipe(name="toy", steps=steps), [uvfits]) as session:
        outcome = session.run()
    assert outcome.status == "failed"
    assert "SIGSEGV" in outcome.message and "fluxscale" in outcome.message
    assert (root / "stages/002-toy_flag/casa_calls.json").read_text().count('"flagdata"') == 2
    with Session.open(root) as session:
        assert session.run().status == "done"
        assert session.root == root

    def flags(path):
        with Casa(Recorder(), tmp_path / "casa.log").table(path) as table:
            rows = table.getcol("FLAG"), table.getcol("ANTENNA1"), table.getcol("ANTENNA2")
        with Casa(Recorder(), tmp_path / "casa.log").table(path / "ANTENNA") as table:
            return *rows, list(table.getcol("NAME"))

    flag, one, two, names = flags(root / "work/toy.ms")
    two_id, five_id = names.index("2"), names.index("5")
    involved = ((one == two_id) | (two == two_id)) & (one != two)  # CASA leaves autocorrelations out
    assert flag[:, :, involved].all()
    # The trial on antenna 5 was undone: nothing but antenna 2 differs from the imported data.
    (tmp_path / "alone").mkdir()
    subprocess.run(
        [sys.executable, str(root / "casa_commands.py")], cwd=tmp_path / "alone", check=True, capture_output=True
    )
    again, *_ = flags(tmp_path / "alone/toy.ms")
    assert np.array_equal(flag, again)
    assert not flag[:, :, ~involved & ((one == five_id) | (two == five_id))].all()


@pytest.mark.casa
def test_calls_are_recorded_with_outcome_and_a_bad_call_is_one_sentence(tmp_path, uvfits, monkeypatch):
    from pl_kernel.casa import Casa, Recorder
    from pl_kernel.errors import CasaError, UnknownName

    monkeypatch.chdir(tmp_path)
    recorder = Recorder()
    casa = Casa(recorder, tmp_path / "casa.log")
    casa.importuvfits(fitsfile=str(uvfits), vis="toy.ms")
    with pytest.raises(CasaError, match="nofield") as caught:
        casa.gaincal(vis="toy.ms", caltable="x.G", field="nofield", refant=None)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownName, match="gaincal"):
        casa.gaincall(vis="toy.ms")
    assert [(c.task, c.outcome) for c in recorder.calls] == [("importuvfits", "ok"), ("gaincal", "failed")]
    assert "refant" not in recorder.calls[1].args
    assert any("nofield" in r.message and r.level == "error" for r in recorder.logs)
    assert not list(tmp_path.glob("casa-*.log"))
    assert "gaincal" in (tmp_path / "casa.log").read_text()


def digests(ms, log):
    """SHA-256 of every visibility column of a measurement set."""
    import hashlib

    from pl_kernel.casa import Casa, Recorder

    found = {}
    with Casa(Recorder(), log).table(ms) as table:
        for name in ("DATA", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA", "MODEL_DATA", "CORRECTED_DATA", "UVW"):
            if name in table.colnames():
                found[name] = hashlib.sha256(np.ascontiguousarray(table.getcol(name)).tobytes()).hexdigest()
    versions = ms.with_name(ms.name + ".flagversions")
    found["versions"] = sorted(p.name for p in versions.glob("flags.*") if not p.name.endswith(".lock"))
    text = (versions / "FLAG_VERSION_LIST").read_text() if versions.is_dir() else ""
    found["list"] = [line.partition(" :")[0] for line in text.splitlines()]  # without the dates
    return found


@pytest.mark.casa
@pytest.mark.slow
def test_rewind_and_branch_restore_every_column_exactly(tmp_path, add_plugin, uvfits):
    from pl_kernel import recipe as recipes
    from pl_kernel.branch import branch
    from pl_kernel.errors import InputError
    from pl_kernel.session import Session

    add_plugin("toy", PLUGIN)
    what = ("flag", "model", "apply", "flag", "weigh")
    alter = [recipes.Step(stage="toy_alter", parameters={"what": w}) for w in what]
    steps = [recipes.Step(stage="toy_import"), *alter]
    root, log = tmp_path / "run", tmp_path / "casa.log"
    saw = {}
    with Session.create(root, recipes.Recipe(name="toy", steps=steps), [uvfits]) as session:
        for number in range(1, 7):
            assert session.run(stop_after=number).status in ("stopped", "done")
            saw[number + 1] = digests(root / "work/toy.ms", log)
        assert len({str(s) for s in saw.values()}) == 6
        after = saw[7]
    with pytest.raises(InputError, match="outside"):
        branch(root, 3, root / "inner")
    with branch(root, 5, tmp_path / "other", overrides={"toy_alter": {"antenna": "7"}}) as other:
        assert digests(tmp_path / "other/work/toy.ms", log) == saw[5]
        assert other.run().status == "done"
        assert digests(tmp_path / "other/work/toy.ms", log)["FLAG"] != after["FLAG"]
    assert digests(root / "work/toy.ms", log) == after  # the run it came from is as it was
    with Session.open(root) as session:
        for number in (6, 3):
            session.rewind(number)
            assert digests(root / "work/toy.ms", log) == saw[number], number
        assert session.run().status == "done"
        assert digests(root / "work/toy.ms", log) == after


@pytest.mark.casa
def test_a_file_shared_with_the_users_data_is_made_private_before_a_stage_writes_it(tmp_path, uvfits, monkeypatch):

    from pl_kernel import snapshots
    from pl_kernel.casa import Casa, Recorder

    monkeypatch.chdir(tmp_path)
    casa = Casa(Recorder(), tmp_path / "casa.log")
    casa.importuvfits(fitsfile=str(uvfits), vis="mine.ms")
    log = str(tmp_path / "casa.log")
    shared = snapshots.files_of_columns("mine.ms", ["DATA"], log)
    snapshots.copy_measurement_set(tmp_path / "mine.ms", tmp_path / "work.ms", shared)
    linked = [name for name in shared if (tmp_path / "work.ms" / name).stat().st_nlink > 1]
    assert linked
    snapshots.take("work.ms", str(tmp_path / "snapshot"), ["flags"], log)
    assert [n for n in shared if (tmp_path / "work.ms" / n).stat().st_nlink > 1] == linked
    snapshots.take("work.ms", str(tmp_path / "snapshot"), ["data"], log)
    assert not [n for n in shared if (tmp_path / "work.ms" / n).stat().st_nlink > 1]
    with casa.table("work.ms", nomodify=False) as table:
        table.putcell("DATA", 0, table.getcell("DATA", 0) * 0 + 7)
    with casa.table("mine.ms") as table:
        assert not (table.getcell("DATA", 0) == 7).any()


@pytest.mark.casa
def test_flag_versions_are_those_of_casa_both_ways(tmp_path, uvfits, monkeypatch):
    """What is saved here CASA lists and restores, and the other way round; an unfinished copy is no version."""
    from pl_kernel.casa import Casa, Recorder
    from pl_kernel.errors import CasaError

    monkeypatch.chdir(tmp_path)
    casa = Casa(Recorder(), tmp_path / "casa.log")
    casa.importuvfits(fitsfile=str(uvfits), vis="toy.ms")
    import casatasks

    def flags():
        with casa.table("toy.ms") as table:
            return table.getcol("FLAG").copy(), table.getcol("FLAG_ROW").copy()

    first = flags()
    (tmp_path / "toy.ms.flagversions" / "flags.first.unfinished").mkdir(parents=True)
    casa.flagmanager(vis="toy.ms", mode="save", versionname="first", comment="as imported")
    casa.flagdata(vis="toy.ms", mode="manual", antenna="5", spw="0:10~20", flagbackup=False)
    casatasks.flagmanager(vis="toy.ms", mode="save", versionname="second")
    second = flags()
    assert second[0].sum() > first[0].sum()
    listed = casa.flagmanager(vis="toy.ms", mode="list")
    assert [(listed[i]["name"], listed[i]["comment"]) for i in (0, 1)] == [("first", "as imported"), ("second", "")]
    casatasks.flagmanager(vis="toy.ms", mode="restore", versionname="first")
    assert all(np.array_equal(a, b) for a, b in zip(flags(), first, strict=True))
    casa.flagmanager(vis="toy.ms", mode="restore", versionname="second")
    assert all(np.array_equal(a, b) for a, b in zip(flags(), second, strict=True))
    with pytest.raises(CasaError):
        casa.flagmanager(vis="toy.ms", mode="restore", versionname="absent")
