"""Files that users and observatories bring, and what the first stages make of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pl_hifv.stages import priorcals
from pl_hifv.stages.flagdata import MsFlags
from pl_kernel import PlError
from pl_kernel.common import flagcommands


def test_flag_commands_are_read_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.flagtemplate.txt"
    path.write_text("# a comment\n\nantenna='ea01' spw='0'\n  mode='manual' scan='3'  \n")
    assert flagcommands.read_commands(path) == ["antenna='ea01' spw='0'", "mode='manual' scan='3'"]


def test_a_line_that_is_no_flag_command_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("antenna='ea01'\nplease flag antenna two\n")
    with pytest.raises(PlError, match="Line 2"):
        flagcommands.read_commands(path)


def test_antenna_offsets_of_another_set_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "antennapos.csv"
    path.write_text("ms,antenna,x,y,z,comment\na.ms,ea01,0.001,-0.002,0.003,moved\n/data/b.ms,ea02,1,2,3,\n")
    (offset,) = priorcals.read_offsets(path, "a.ms")
    assert (offset.antenna, offset.offset_m) == ("ea01", (0.001, -0.002, 0.003))
    assert [o.antenna for o in priorcals.read_offsets(path, "b.ms")] == ["ea02"]
    path.write_text("ms,antenna,x,y,z,comment\nc,ea03,1,2,3,without ending\n")
    assert [o.antenna for o in priorcals.read_offsets(path, "c.ms")] == ["ea03"]


@pytest.mark.parametrize(("row", "said"), [("a.ms,ea01,1,2,3", "columns"), ("a.ms,ea01,1,two,3,x", "no numbers")])
def test_damaged_offsets_are_refused_with_their_line(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "antennapos.csv"
    path.write_text(f"ms,antenna,x,y,z,comment\n{row}\n")
    with pytest.raises(PlError, match=f"Line 2.*{said}"):
        priorcals.read_offsets(path, "a.ms")


def test_what_each_agent_flagged_is_the_step_to_its_count() -> None:
    from pl_hif.flags import FlagCounts

    counts = [FlagCounts(name=n, flagged=f, total=100.0) for n, f in (("before", 5.0), ("clip", 5.0), ("quack", 20.0))]
    one = MsFlags(vis="a.ms", counts=counts, commands={})
    assert [one.newly(a) for a in ("before", "clip", "quack", "shadow")] == pytest.approx([0.05, 0.0, 0.15, 0.0])


def test_files_of_flags_are_found_beside_the_run(tmp_path: Path) -> None:
    work = tmp_path / "run" / "work"
    work.mkdir(parents=True)
    assert flagcommands.find_file(None, "a.flagtemplate.txt", work) is None
    beside = tmp_path / "a.flagtemplate.txt"
    beside.write_text("antenna='ea01'\n")
    assert flagcommands.find_file(None, "a.flagtemplate.txt", work).samefile(beside)
    own = work / "a.flagtemplate.txt"
    own.write_text("antenna='ea02'\n")
    assert flagcommands.find_file(None, "a.flagtemplate.txt", work).samefile(own)
    with pytest.raises(PlError, match="There is no file of flags"):
        flagcommands.find_file(tmp_path / "other.txt", "a.flagtemplate.txt", work)
