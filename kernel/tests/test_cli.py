"""The command line: listings are quick, errors are one sentence, nothing is touched before everything is checked."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pl_kernel.cli.app import call
from pl_kernel.cli.running import parse_assignments, parse_values
from pl_kernel.errors import InputError

PLUGIN = """
import time
from pathlib import Path
import click
from pl_kernel import Inputs, Lazy, QAScore, Result, SetValue, Stage, hookimpl, param, scorer

class AddInputs(Inputs):
    number: float = param(1.0, unit="arcsec", doc="Number to add.", minimum=0)
    mode: str = param("plain", choices=("plain", "fancy"), doc="How to add.")
    secret: int = param(3, doc="For experts.", hidden=True)
    sleep: float = param(0.0, unit="s", doc="Time to take.", hidden=True)

class AddResult(Result):
    total: float

class Add(Stage[AddInputs, AddResult]):
    '''Add a number to the total.

    A longer text about adding.
    '''
    name = "toy_add"
    mutates = {"flags"}
    def run(self, ctx, inputs):
        ctx.progress(1, 2, "half way")
        time.sleep(inputs.sleep)
        total = ctx.value("toy.total", 0) + inputs.number
        if total > 100:
            raise ValueError("too much")
        return AddResult(total=total, effects=[SetValue("toy.total", total)])

@scorer(AddResult)
def fine(result):
    return QAScore(metric="toy", value=result.total, score=0.95)

@click.command("toy-hello")
def hello():
    '''Say hello.'''
    click.echo("hello")

@hookimpl
def pl_stages(): return [Add]
@hookimpl
def pl_qa_scorers(): return [fine]
@hookimpl
def pl_commands(): return [Lazy("toy-hello", __name__ + ":hello", "Say hello.")]
@hookimpl
def pl_recipes(): return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))
"""
RECIPE = """
title: Add twice
parameters:
  first: {default: 2, doc: First number.}
stages:
  - toy_add: {number: "${first}"}
  - toy_add: {number: 3}
"""


@pytest.fixture
def toy(add_plugin, plugin_folder):
    (plugin_folder.path / "recipes").mkdir()
    (plugin_folder.path / "recipes" / "toy_twice.yaml").write_text(RECIPE)
    add_plugin("toy", PLUGIN)


@pytest.fixture
def pl(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; give exit code, stdout and stderr."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments):
        code = call([str(a) for a in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err or "--debug" in arguments
        return code, said.out, said.err

    return run


def one_sentence(err):
    """The error is one line, beginning with the program's name."""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("pl: "), err
    return lines[0]


def content(path: Path) -> dict[str, str]:
    """Digest of every file below a path, lock files too."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# ---- speed and weight ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["stages", "recipes", "plugins", "--help"])
def test_listings_answer_within_half_a_second_and_import_nothing_heavy(command):
    program = (
        "import sys, time; from pl_kernel.cli.app import call; code = call([sys.argv[1]]);"
        "heavy = {'casatools', 'casatasks', 'matplotlib', 'astropy', 'scipy', 'numpy'} & set(sys.modules);"
        "print('HEAVY', sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    walls, works = [], []
    for _ in range(3):
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True)
        walls.append(time.monotonic() - begin)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        works.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        assert "HEAVY []" in done.stderr
    # The best of three; on a machine that others keep busy, waiting for a core is not our time.
    idle = os.getloadavg()[0] < (os.cpu_count() or 1)
    assert min(walls if idle else works) < 0.5, (walls, works)


def test_describing_every_stage_imports_neither_casa_nor_matplotlib():
    program = (
        "import sys; from pl_kernel.cli.app import call; from pl_kernel.plugins import registry;"
        "codes = {n: call(['describe', n]) for n in registry().stages}; print(codes, file=sys.stderr);"
        "assert not any(codes.values());"
        "assert not {'casatools', 'casatasks', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- listings --------------------------------------------------------------------------------------------------------


def test_stages_are_listed_and_narrowed_by_words(toy, pl):
    code, out, _ = pl("stages", "adding", "--json")
    assert (code, json.loads(out)) == (0, [])
    code, out, _ = pl("stages", "toy", "ADD", "--json")
    assert json.loads(out) == [{"name": "toy_add", "plugin": "toy", "summary": "Add a number to the total."}]
    assert "toy_add  Add a number to the total." in pl("stages")[1]


def test_describe_shows_type_unit_default_choices_and_doc(toy, pl):
    code, out, _ = pl("describe", "toy_add")
    assert code == 0
    assert "number: number in arcsec, default 1.0; at least 0" in out
    assert "one of plain, fancy" in out
    assert "A longer text about adding." in out and "Alters: flags" in out
    assert "For experts." not in out and "More parameters, shown with --all: secret, sleep." in out
    assert "For experts." in pl("describe", "toy_add", "--all")[1]
    facts = json.loads(pl("describe", "toy_add", "--json")[1])
    assert {p["name"] for p in facts["parameters"]} == {"number", "mode", "secret", "sleep", "vis"}


def test_a_recipe_is_described_with_its_stages(toy, pl):
    code, out, _ = pl("describe", "toy_twice")
    assert code == 0 and "toy_add" in out and "first" in out


def test_plugins_lists_versions_and_reasons_of_refusal(toy, add_plugin, pl):
    add_plugin("broken", "raise RuntimeError('no such device')")
    code, out, _ = pl("plugins")
    assert code == 0
    assert "REFUSED" in out and "no such device" in out
    facts = {p["name"]: p for p in json.loads(pl("plugins", "--json")[1])}
    assert facts["toy"]["accepted"] and facts["toy"]["version"] == "1.0" and not facts["broken"]["accepted"]


def test_observatory_xml_becomes_a_recipe_file(toy, pl):
    Path("p.xml").write_text(
        "<ProcessingProcedure><ProcedureTitle>t</ProcedureTitle><ProcessingCommand><Command>toy_add</Command>"
        "</ProcessingCommand><ProcessingCommand><Command>toy_subtract</Command></ProcessingCommand>"
        "</ProcessingProcedure>"
    )
    code, out, err = pl("recipes", "--from", "p.xml")
    assert code == 0 and "- toy_add" in out and "- toy_subtract" in out
    assert "toy_subtract" in err  # named, not ignored
    assert pl("recipes", "--from", "p.xml", "-o", "p.yaml")[0] == 0
    assert Path("p.yaml").is_file()
    code, _, err = pl("recipes", "--from", "p.xml", "-o", "p.yaml")
    assert code == 2 and "exists already" in one_sentence(err)


def test_commands_of_plugins_are_offered(toy, pl):
    assert pl("toy-hello")[:2] == (0, "hello\n")
    assert "toy-hello" in pl("--help")[1]


# ---- near matches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("stagse",), "Did you mean 'stages'"),
        (("describe", "toy_ad"), "Did you mean 'toy_add'"),
        (("describe", "toy_twcie"), "Did you mean 'toy_twice'"),
        (("run", "toy_twise"), "Did you mean 'toy_twice'"),
        (("run", "toy_twice", "--set", "toy_dad.number=3"), "toy_add"),
        (("run", "toy_twice", "--set", "toy_add.numbr=3"), "Did you mean 'number'"),
        (("run", "toy_twice", "--set", "toy_add.mode=fency"), "Did you mean 'fancy'"),
        (("run", "toy_twice", "--set", "toy_add.number=3 Jy"), "Jy cannot be converted to arcsec"),
        (("run", "toy_twice", "--set", "toy_add.number=-3"), "at least 0"),
        (("run", "toy_twice", "--set", "toy_add.number=three"), "number in arcsec"),
        (("run", "toy_twice", "--set", "number=3"), "--set STAGE.PARAMETER=VALUE"),
        (("run", "toy_twice", "-p", "frist=3"), "Did you mean 'first'"),
        (("run", "toy_twice", "-p", "first"), "-p NAME=VALUE"),
        (("run", "toy_twice", "--wrokers", "2"), "Did you mean --workers"),
        (("run", "toy_twice", "--workers", "many"), "auto"),
        (("run", "toy_twice", "--stop-after", "toy_ad"), "Did you mean 'toy_add'"),
        (("run", "toy_twice", "--stop-after", "7"), "no stage 7"),
        (("run", "toy_twice", "--only", "toy_ad"), "Did you mean 'toy_add'"),
        (("run", "toy_twice", "--only", "2-3"), "its stages are 1 to 2"),
        (("run", "toy_twice", "--intent", "PHASE=x"), "imports no data"),
        (("run", "no/such/recipe.yaml"), "no recipe file"),
        (("stages", "--plugin", "toi"), "Did you mean 'toy'"),
        (("demo", "nothing"), "demo"),
        (("resume",), "run"),
        (("weblog", "."), "no run"),
        (("new-plugin", "Bad Name"), "cannot name a plugin"),
    ],
)
def test_a_slip_is_answered_with_one_sentence_and_exit_code_2(toy, pl, arguments, says):
    code, out, err = pl(*arguments)
    assert code == 2
    assert says in one_sentence(err)
    assert out == ""
    assert list(Path.cwd().iterdir()) == []  # no work was started


def test_json_carries_the_error_too(toy, pl):
    code, out, _ = pl("describe", "toy_ad", "--json")
    assert code == 2 and json.loads(out)["exit_code"] == 2


def test_debug_shows_the_traceback(toy, pl):
    code, _, err = pl("describe", "toy_ad", "--debug")
    assert code == 2 and "Traceback" in err


def test_assignments_keep_what_they_are_given():
    found = parse_assignments(["a_b.c=1=2", "a_b.d=", "x_y.z=a b"])
    assert found == {"a_b": {"c": "1=2", "d": ""}, "x_y": {"z": "a b"}}
    assert parse_values(["a=3", "b=x=y", "c=true"]) == {"a": 3, "b": "x=y", "c": True}
    with pytest.raises(InputError):
        parse_assignments(["__class__"])


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_scores_and_the_web_log(toy, pl):
    code, _, err = pl("run", "toy_twice", "-p", "first=1arcmin")
    assert code == 0
    assert "[1/2] toy_add" in err and "0.95" in err
    assert json.loads(Path("toy_twice/stages/002-toy_add/result.json").read_text())["total"] == 63.0
    code, _, err = pl("run", "toy_twice")
    assert code == 2 and "pl resume" in one_sentence(err)


def test_json_of_a_run_is_one_document(toy, pl):
    code, out, err = pl("run", "toy_twice", "--json", "-o", "elsewhere", "--set", "toy_add.number=5", "--workers", "1")
    facts = json.loads(out)
    assert (code, err, facts["status"], facts["score"]) == (0, "", "done", 0.95)
    assert [s["name"] for s in facts["stages"]] == ["toy_add", "toy_add"]
    assert json.loads(Path("elsewhere/stages/002-toy_add/result.json").read_text())["total"] == 10.0


def test_a_failed_stage_gives_exit_code_1_and_the_way_to_go_on(toy, pl):
    code, _, err = pl("run", "toy_twice", "-p", "first=99")
    assert code == 1
    last = err.splitlines()[-1]
    assert "too much" in last and "pl resume" in last
    assert pl("resume", "toy_twice")[0] == 1  # it fails again


def test_only_a_stage_of_the_recipe_is_run(toy, pl):
    code, out, _ = pl("run", "toy_twice", "--only", "2", "-o", "part", "--json")
    assert code == 0
    assert [s["name"] for s in json.loads(out)["stages"]] == ["toy_add"]
    assert json.loads(Path("part/stages/001-toy_add/inputs.json").read_text())["number"]["value"] == 3


def test_a_run_can_be_stopped_after_a_stage_and_resumed(toy, pl):
    code, out, _ = pl("run", "toy_twice", "--stop-after", "1", "--json")
    assert code == 0 and json.loads(out)["status"] == "stopped" and len(json.loads(out)["stages"]) == 1
    code, out, _ = pl("resume", "toy_twice", "--json")
    assert code == 0 and json.loads(out)["status"] == "done" and len(json.loads(out)["stages"]) == 2


def test_ctrl_c_ends_with_130_and_the_run_goes_on_later(toy, pl):
    command = [sys.executable, "-m", "pl_kernel", "run", "toy_twice", "--set", "toy_add.sleep=60"]
    # In a background job the shell has SIGINT ignored, and children inherit that.
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    started = Path("toy_twice/stages/001-toy_add")
    for _ in range(600):
        if started.is_dir():
            break
        time.sleep(0.1)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the worker as well
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "pl resume" in err


def test_a_terminal_sees_the_stage_at_work_and_its_score(toy, pl):
    """The moving line is drawn by rich; what stays is the same as without a terminal."""
    import pty

    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pl_kernel", "run", "toy_twice", "-o", "seen"], stdout=secondary, stderr=secondary,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(secondary)
    text = b""
    while True:
        try:
            part = os.read(primary, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    os.close(primary)
    assert process.wait() == 0
    assert b"[1/2] toy_add" in text and b"0.95" in text and b"Traceback" not in text


def test_two_runs_in_one_folder_are_refused(toy, pl):
    from pl_kernel.plugins import registry
    from pl_kernel.recipe import load
    from pl_kernel.session import Session

    with Session.create("shared", load(registry().recipes["toy_twice"]).bind()):
        code, _, err = pl("resume", "shared")
        assert code == 2
        one_sentence(err)


# ---- bad data --------------------------------------------------------------------------------------------------------

IMPORT = "stages: [h_importdata]\n"


@pytest.fixture
def uvfits():
    import importlib.util

    folder = importlib.util.find_spec("casadata").submodule_search_locations[0]
    return Path(folder) / "__data__" / "demo" / "NGC5921.fits"


def refused(pl, data, says):
    """The data are refused before any work starts, with one sentence, and stay as they were."""
    Path("import.yaml").write_text(IMPORT)
    before = content(data) if data.exists() else {}
    code, _, err = pl("run", "import.yaml", data, "-o", "run")
    assert code == 2
    sentence = one_sentence(err)
    assert says in sentence
    assert not Path("run").exists()
    assert (content(data) if data.exists() else {}) == before


def test_a_wrong_path_is_refused(pl):
    refused(pl, Path("nowhere.ms"), "nothing at")


def test_a_truncated_uvfits_file_is_refused(pl, uvfits):
    with uvfits.open("rb") as source, Path("cut.fits").open("wb") as target:
        target.write(source.read(1_000_000))
    refused(pl, Path("cut.fits"), "cut off")


def test_a_uvfits_file_cut_within_its_header_is_refused(pl, uvfits):
    with uvfits.open("rb") as source, Path("cut.fits").open("wb") as target:
        target.write(source.read(1000))
    refused(pl, Path("cut.fits"), "cut off")


def test_an_empty_file_and_a_text_file_are_refused(pl):
    Path("empty.fits").touch()
    refused(pl, Path("empty.fits"), "empty")
    Path("text.ms").write_text("hello, I am no measurement set\n" * 100)
    refused(pl, Path("text.ms"), "text.ms")


@pytest.mark.casa
def test_a_measurement_set_without_a_subtable_is_refused(pl, tiny_ms):
    shutil.copytree(tiny_ms.path, "broken.ms")
    shutil.rmtree("broken.ms/SPECTRAL_WINDOW")
    refused(pl, Path("broken.ms"), "SPECTRAL_WINDOW")


@pytest.mark.casa
def test_data_given_twice_are_refused(pl, tiny_ms):
    Path("import.yaml").write_text(IMPORT)
    code, _, err = pl("run", "import.yaml", tiny_ms.path, f"{tiny_ms.path}/", "-o", "run")
    assert code == 2 and "given twice" in one_sentence(err)
    assert not Path("run").exists()


@pytest.mark.casa
@pytest.mark.parametrize(
    ("file", "says"),
    [("table.dat", "main table cannot be opened"), ("SPECTRAL_WINDOW/table.f0i", "has no readable CHAN_")],
)
def test_a_measurement_set_damaged_inside_is_named_in_a_sentence(pl, tiny_ms, file, says):
    shutil.copytree(tiny_ms.path, "broken.ms")
    with Path("broken.ms", file).open("r+b") as damaged:
        damaged.truncate(100)
    before = content(Path("broken.ms"))
    Path("import.yaml").write_text(IMPORT)
    code, _, err = pl("run", "import.yaml", "broken.ms", "-o", "run")
    last = err.strip().splitlines()[-1]
    assert code == 1 and last.startswith("pl: ") and "broken.ms" in last and "damaged" in last and says in last
    assert content(Path("broken.ms")) == before


@pytest.mark.casa
def test_a_disk_without_space_is_noticed_before_work_starts(pl, tiny_ms, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 1000, 1000))
    refused(pl, tiny_ms.path, "space")


@pytest.mark.casa
def test_missing_intents_are_named_with_the_way_out(pl, tmp_path):
    from pl_kernel.testing import make_tiny_ms

    tiny = make_tiny_ms(tmp_path / "plain.ms", intents=False)
    Path("import.yaml").write_text("needs: {intents: [BANDPASS]}\n" + IMPORT)
    before = content(tiny.path)
    code, _, err = pl("run", "import.yaml", tiny.path, "-o", "run")
    assert code != 0 and "BANDPASS" in err and "--intent" in err
    assert content(tiny.path) == before
    code, _, err = pl("run", "import.yaml", tiny.path, "-o", "ruled", "--intent", "BANDPASS,PHASE=CAL")
    assert code == 0, err
    Path("rules.txt").write_text("BANDPASS=CAL\nTARGET=TARGET\n")
    assert pl("run", "import.yaml", tiny.path, "-o", "filed", "--intents-file", "rules.txt")[0] == 0
    code, _, err = pl("run", "import.yaml", tiny.path, "-o", "bad", "--intent", "BANDPAS=CAL")
    assert code == 2 and "BANDPASS" in one_sentence(err)
    code, _, err = pl("run", "import.yaml", tiny.path, "-o", "bad", "--intents-file", "none.txt")
    assert code == 2 and "none.txt" in one_sentence(err)


@pytest.mark.casa
def test_a_processing_request_names_its_data_and_sessions_itself(pl, tiny_ms, tmp_path, monkeypatch):
    monkeypatch.delenv("SCIPIPE_ROOTDIR", raising=False)
    shutil.copytree(tiny_ms.path, tmp_path / "rawdata" / "eb1.ms")  # beside the working folder
    Path("PPR.xml").write_text(
        "<SciPipeRequest><ProjectSummary><ProposalCode>2017.1.00001.S</ProposalCode></ProjectSummary>"
        "<ProcessingRequests><ProcessingRequest><ProcessingIntents><Intents><Keyword>SESSION_2</Keyword>"
        "<Value>uid://A002/X1/X2</Value></Intents></ProcessingIntents><ProcessingProcedure><ProcedureTitle>look"
        "</ProcedureTitle><ProcessingCommand><Command>h_importdata</Command></ProcessingCommand></ProcessingProcedure>"
        "<DataSet><SchedBlockSet><SchedBlockIdentifier><RelativePath>x</RelativePath><AsdmIdentifier><AsdmRef>"
        "<ExecBlockId>uid://A002/X1/X2</ExecBlockId></AsdmRef><AsdmDiskName>eb1.ms</AsdmDiskName></AsdmIdentifier>"
        "</SchedBlockIdentifier></SchedBlockSet></DataSet></ProcessingRequest></ProcessingRequests></SciPipeRequest>"
    )
    code, _, err = pl("run", "PPR.xml")
    assert code == 0, err
    result = json.loads(Path("look/stages/001-h_importdata/result.json").read_text())
    assert [(i["ms"]["name"], i["ms"]["session"]) for i in result["imported"]] == [("eb1.ms", "session_2")]
    assert json.loads(Path("look/project.json").read_text())["ProcessingRequest"]["proposal_code"] == "2017.1.00001.S"


@pytest.mark.casa
def test_the_input_of_a_run_does_not_change(pl, tiny_ms):
    Path("import.yaml").write_text(IMPORT)
    before = content(tiny_ms.path)
    code, _, err = pl("run", "import.yaml", tiny_ms.path, "-o", "run")
    assert code == 0, err
    assert content(tiny_ms.path) == before
    assert Path("run/work/tiny.ms").is_dir()


# ---- the whole program -----------------------------------------------------------------------------------------------


def test_python_m_pl_kernel_is_pl():
    done = subprocess.run([sys.executable, "-m", "pl_kernel", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("pl, version ")


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m pl_kernel stages --json | head -c 1"], capture_output=True, text=True
    )
    assert done.stderr == ""


def test_the_web_log_is_served_on_this_machine_only(toy, pl, tmp_path):
    import urllib.request

    assert pl("run", "toy_twice")[0] == 0
    server = subprocess.Popen(
        [sys.executable, "-m", "pl_kernel", "weblog", "toy_twice", "--serve", "--no-open"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        address = server.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as page:
            assert page.status == 200 and b"<html" in page.read()
    finally:
        server.terminate()
        server.wait()


@pytest.mark.casa
def test_doctor_finds_casa_and_its_data(pl):
    code, out, _ = pl("doctor", "--json")
    found = {check["name"]: check for check in json.loads(out)}
    assert code == 0, out
    assert "casatasks 6." in found["CASA"]["found"]
    assert found["CASA data"]["level"] == "ok" and found["disk"]["found"]


def test_doctor_names_a_refused_plugin_and_exits_with_1(add_plugin, pl):
    add_plugin("broken", "raise RuntimeError('no such device')")
    code, out, _ = pl("doctor", "--no-casa")
    assert code == 1 and "no such device" in out
