"""The command and the fixtures that others use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pl_kernel.cli.app import call
from pl_sim.truth import Truth


def test_the_list_names_presets_and_faults_with_their_parameters(capsys: pytest.CaptureFixture[str]):
    assert call(["simulate", "--list", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert {"vla-c-cont-d", "vlass-s-b"} <= set(known["presets"])
    assert known["faults"]["rfi-narrow"]["parameters"]["jy"] == 60.0
    assert all(f["summary"] for f in known["faults"].values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vla-c-cont"], "PRESET OUT.ms"),
        (["vla-c-cnt-d", "x.ms"], "vla-c-cont-d"),
        (["vla-c-cont-d", "x.ms", "--fault", "dead-antena"], "dead-antenna"),
    ],
)
def test_a_wrong_call_is_refused_in_a_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert call(["simulate", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint or "preset" in complaint
    assert "Traceback" not in complaint and not list(tmp_path.iterdir())


@pytest.mark.casa
def test_the_command_makes_a_set_and_its_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "day.ms"
    assert call(["simulate", "vla-two-blocks-d", str(out), "--scale", "tiny", "--fault", "dead-antenna", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [Path(m["path"]).name for m in made] == ["day_1.ms", "day_2.ms"]
    assert all("dead-antenna" in Truth.load(m["path"]).faults for m in made)


@pytest.mark.casa
def test_an_impossible_fault_is_refused_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        call(["simulate", "vla-c-cont-d", str(tmp_path / "x.ms"), "--scale", "tiny", "--fault", "dead-antenna=ea99"])
        == 2
    )
    assert "does not have" in capsys.readouterr().err


@pytest.mark.casa
def test_the_cache_makes_a_set_once_and_hands_out_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulated: Callable[..., Path]
):
    from pl_sim import testing
    from pl_sim.casa import open_table

    monkeypatch.setenv("PL_SIM_CACHE", str(tmp_path))
    one = simulated("vla-c-cont-d", faults=["dead-antenna"])
    monkeypatch.setattr(testing, "_run", lambda *_: pytest.fail("made twice"))
    two = simulated("vla-c-cont-d", faults=["dead-antenna"])
    shared = simulated("vla-c-cont-d", faults=["dead-antenna"], copy=False)
    assert one != two and str(shared).startswith(str(tmp_path))
    assert Truth.load(one).faults == Truth.load(two).faults
    with open_table(one) as tb:
        # Subtables of a copy are those of the copy.
        assert tb.getkeyword("ANTENNA") == f"Table: {one}/ANTENNA"
    assert not list((tmp_path / "sets").glob("making-*"))


def test_help_says_what_is_beside_the_set():
    from pl_sim.cli import simulate_command

    assert "OUT.ms.truth" in CliRunner().invoke(simulate_command, ["--help"]).output


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path: Path):
    from pl_sim.cli import simulate_command

    result = CliRunner().invoke(simulate_command, ["vla-c-cont-d", str(tmp_path / "no" / "x.ms")])
    assert "There is no folder" in str(result.exception) and not (tmp_path / "no").exists()
