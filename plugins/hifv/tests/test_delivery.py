"""Gain maps, the user's flags, and the scores that go with them."""

from __future__ import annotations

import pytest

from pl_hifv.heuristics.gainmap import GainGroup, Visit, groups
from pl_hifv.occupancy import FlagMap
from pl_hifv.qa.interference import interference_flagged, newly_flagged, ranges
from pl_hifv.stages.checkflag import Checked, CheckflagResult
from pl_kernel import PlError
from pl_kernel.common.flagcommands import read_commands


def phase(scan, field):
    return Visit(scan=scan, fields=(field,), is_phase=True)


def target(scan):
    return Visit(scan=scan, fields=(9,), is_target=True)


def test_targets_take_the_calibrators_on_both_sides():
    found = groups([phase(1, 1), target(2), target(3), phase(4, 2), target(5), phase(6, 2)])
    assert found == (GainGroup(scans=(2, 3), gainfields=(1, 2)), GainGroup(scans=(5,), gainfields=(2,)))


def test_targets_at_either_end_have_one_neighbour():
    assert groups([target(1), phase(2, 1), target(3)]) == (
        GainGroup(scans=(1,), gainfields=(1,)), GainGroup(scans=(3,), gainfields=(1,)),
    )  # fmt: skip
    assert groups([target(1)]) == (GainGroup(scans=(1,), gainfields=()),)


def test_commands_of_the_user_are_read_without_comments(tmp_path):
    path = tmp_path / "x.flagtargetstemplate.txt"
    path.write_text("# comment\n\nmode='manual' antenna='ea01'\n")
    assert read_commands(path) == ["mode='manual' antenna='ea01'"]
    path.write_text("flag antenna 5\n")
    with pytest.raises(PlError, match="Line 1"):
        read_commands(path)


# ---- scores of checkflag ---------------------------------------------------------------------------------------------


def flags(fractions, channels=None):
    """Antennas × two windows of 1000 visibilities each."""
    return FlagMap(
        antennas=[f"ea{i:02d}" for i in range(len(fractions))], spws=[0, 1],
        flagged=[[1000 * a, 1000 * b] for a, b in fractions], total=[[1000.0, 1000.0]] * len(fractions),
        channels=channels or {},
    )  # fmt: skip


def scores(before, after):
    checked = Checked(vis="x.ms", fields=["F"], scans=[1], steps=[], before=before, after=after)
    return {s.metric: s for s in interference_flagged(CheckflagResult(mode="bpd-vla", sets=(checked,)))}


def test_newly_flagged_map():
    assert newly_flagged(0.05) == 1.0
    assert newly_flagged(0.75) == pytest.approx(0.5)
    assert newly_flagged(0.875) == pytest.approx(0.25)


def test_an_antenna_that_loses_more_than_the_others_is_named():
    clean = [(0.1, 0.1)] * 5
    found = scores(flags(clean), flags([*clean[:4], (0.4, 0.4)]))["checkflag.worst_antenna"]
    assert found.applies_to.antenna == ("ea04",)
    assert found.score == pytest.approx(0.6) and "ea04" in found.long


def test_channels_with_lasting_interference_are_named():
    before, after = [0.1] * 8, [0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.8, 0.1]
    clean = [(0.1, 0.1)] * 4
    found = scores(flags(clean, {"1": before}), flags(clean, {"1": after}))["checkflag.channels"]
    assert found.score < 0.9 and found.applies_to.spw == ("1",)
    assert "channels 2~3, 6" in found.long


def test_a_clean_set_scores_one():
    clean = flags([(0.1, 0.1)] * 5, {"0": [0.1] * 4, "1": [0.1] * 4})
    assert all(s.score == 1.0 for s in scores(clean, clean).values())


def test_channel_ranges_as_text():
    assert ranges([1, 2, 3, 7, 9, 10]) == "1~3, 7, 9~10"


def test_fields_of_one_name_are_counted_together():
    from pl_hifv.occupancy import _by_name

    counts = [("J1310", [1.0, 10.0]), ("M51", [0.0, 5.0]), ("J1310", [4.0, 10.0])]
    assert _by_name(counts) == {"J1310": (5.0, 20.0), "M51": (0.0, 5.0)}


@pytest.mark.parametrize(
    ("pipeline", "smoothed", "rows", "expected"),
    [
        ("2025.1.0.37", (0, 1), "", True), ("2026.1.1.2", (0, 1), "", True), ("2026.1.1.3", (0, 1), "", False),
        ("2025.1.0.37", (0, 1, 2), "", False), ("2025.1.0.37", (), "", False), ("", (0,), "", False),
        ("0.1.0", (0, 1), "abc", False),
    ],
)  # fmt: skip
def test_only_old_pipelines_that_smoothed_some_windows_kept_the_rows(pipeline, smoothed, rows, expected):
    from pathlib import Path

    from pl_hifv.delivery import in_raw_order
    from pl_kernel.common.delivery import Delivery, RestoreState
    from pl_kernel.ms.samples import sample_ms

    ms = sample_ms(n_spws=3)
    assert len(ms.science_spw_ids) == 3
    found = Delivery(
        state=RestoreState(vis="a.ms", rows=rows), flags=Path("f"), applied=Path("a"), tables=(), pipeline=pipeline
    )
    assert in_raw_order(found, smoothed, ms) is expected


def test_the_targets_take_along_when_and_where_the_phase_calibrators_were():
    from pl_hifv.stages.mstransform import phase_scans
    from pl_kernel.ms.samples import SampleScan, sample_ms

    ms = sample_ms(
        fields=("3C286", "J1310", "M51"),
        scans=(SampleScan(0, "AMPLITUDE"), SampleScan(1, "PHASE"), SampleScan(2, "TARGET"), SampleScan(1, "PHASE")),
    )
    (one,) = phase_scans(ms).items()
    assert one[0] == "J1310" and one[1]["scans"] == [2, 4] and one[1]["intent"] == "phase"
    scan = ms.scan(4)
    middle = (scan.start.timestamp() + scan.end.timestamp()) / 2
    # MJD 40587 is the beginning of Unix time.
    assert one[1]["times"][1] == pytest.approx(40587 * 86400 + middle)
    assert one[1]["phasecenter"]["m1"]["value"] == ms.field(1).dec_rad


def test_one_name_for_several_measurement_sets_is_refused():
    from types import SimpleNamespace

    from pl_hifv.stages.mstransform import Mstransform, MstransformInputs

    ctx = SimpleNamespace(measurement_sets=lambda *a, **k: (object(), object()))
    with pytest.raises(PlError, match="name one measurement set, and there are 2"):
        Mstransform().check(ctx, MstransformInputs(outputvis="x.ms"))


def test_continuum_ranges_beside_the_run_are_found_and_those_in_its_work_folder_first(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from pl_hifv import contsel
    from pl_kernel.ms.samples import SampleScan, sample_ms

    monkeypatch.setattr(contsel, "_selection", lambda ctx, ms, field, file: file.entries[0].text_of_ranges)
    monkeypatch.setattr(
        contsel, "read_contfile",
        lambda path: SimpleNamespace(entries=[SimpleNamespace(field="M51", text_of_ranges=path.read_text())]),
    )  # fmt: skip
    ms = sample_ms(fields=("J1", "M51"), scans=(SampleScan(0, "PHASE"), SampleScan(1, "TARGET")))
    ctx = SimpleNamespace(work=tmp_path / "run/work")
    ctx.work.mkdir(parents=True)
    assert contsel.continuum(ctx, ms) == {}
    (tmp_path / "cont.dat").write_text("beside")
    assert contsel.continuum(ctx, ms) == {1: "beside"}
    (ctx.work / "cont.dat").write_text("work")
    assert contsel.continuum(ctx, ms) == {1: "work"}
