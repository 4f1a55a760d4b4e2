"""Import and flags of simulated total-power data against what the simulator planted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pl_hsd.rows import RowTable
from pl_kernel.compute import Worker
from pl_kernel.session import Session

pytest.importorskip("pl_sim", reason="the simulator makes the data of these tests")
pytestmark = pytest.mark.casa

LOST_ROW = 9
"""Raster row during which POINTING of PM02 is missing."""
ROWS, SAMPLES = 15, 28
STEP, SPACING = 150.0 / 28, 150.0 / 14


# ---- work with CASA, in a worker -------------------------------------------------------------------------------------


def lose_pointing(path: str, antenna: int, first: float, last: float) -> None:
    from pl_kernel.casa import Casa, Recorder

    with Casa(Recorder(), os.devnull).table(f"{path}/POINTING", nomodify=False) as table:
        time, number = table.getcol("TIME"), table.getcol("ANTENNA_ID")
        table.removerows(np.flatnonzero((number == antenna) & (time >= first) & (time <= last)))


def cut_off(path: str, after: float, to: str) -> None:
    from pl_kernel.casa import Casa, Recorder

    with Casa(Recorder(), os.devnull).table(path) as table:
        part = table.query(f"TIME <= {after!r}")
        part.copy(to, deep=True).close()
        part.close()


def read_flags(path: str, spw: int) -> dict[str, Any]:
    """FLAG [row, pol, channel] of the autocorrelations of one window (its data description has the same number)."""
    from pl_kernel.casa import Casa, Recorder

    with Casa(Recorder(), os.devnull).table(path) as table:
        part = table.query(f"DATA_DESC_ID=={spw}")
        found = {
            "flag": part.getcol("FLAG").transpose(2, 0, 1), "row": np.asarray(part.rownumbers()),
            "time": part.getcol("TIME"), "antenna": part.getcol("ANTENNA1"),
        }  # fmt: skip
        part.close()
    return found


def small_maps(path: str) -> None:
    """Three maps of 8 rows of 12 spectra one after another, one antenna, 16 channels."""
    from pl_sim.engine import simulate
    from pl_sim.presets import tp
    from pl_sim.singledish import Raster

    tp.PLANS["three"] = (1, 16, Raster(60.0, 60.0, 12, 8, (1200.0, 600.0), maps=3, basket_weave=False))
    simulate(tp.total_power("three"), path, seed=2)


# ---- one set with three faults ---------------------------------------------------------------------------------------


@attrs.frozen
class Seen:
    """A finished run: its context, rows as they are now, results, scores, flags of one window and the truth."""

    session: Session
    rows: RowTable
    imported: Any
    flagged: Any
    flags: dict[str, Any]
    truth: Any
    lost: tuple[float, float]


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory):
    from pl_sim.truth import Truth

    vis = simulated("alma-tp-b6", faults=["pointing-outlier"])
    truth = Truth.load(vis)
    root = tmp_path_factory.mktemp("faults") / "run"
    with Worker() as worker:
        flags = worker.call(read_flags, str(vis), 4)
        times = np.unique(flags["time"][flags["antenna"] == 1])
        lost = raster_row_times(vis, times)[LOST_ROW]
        worker.call(lose_pointing, str(vis), 1, lost[0] - 0.3, lost[1] + 0.3)
    with Session.create(root) as session:
        imported = session.run_stage("hsd_importdata", vis=[str(vis)])
        flagged = session.run_stage("hsd_flagdata", fracspw=["100MHz"])
        ms = session.context.measurement_sets[0]
        values = session.context.values
        with Worker() as worker:
            flags = worker.call(read_flags, str(session.root / "work" / ms.path), 4)
        rows = RowTable.open(_Context(session.root / "work", session.context, values), ms)
        yield Seen(session, rows, imported, flagged, flags, truth, lost)


@attrs.frozen
class _Context:
    work: Path
    context: Any
    values: Any


def raster_row_times(vis: Path, times: np.ndarray) -> list[tuple[float, float]]:
    """First and last time of each raster row, from the plan of the simulation: 28 dumps of 0.576 s."""
    breaks = np.flatnonzero(np.diff(times) > 1.0) + 1
    blocks = [b for b in np.split(times, breaks) if len(b) == SAMPLES]
    assert len(blocks) == ROWS, [len(b) for b in np.split(times, breaks)]
    return [(float(b[0]), float(b[-1])) for b in blocks]


def member(seen: Seen, antenna: int) -> np.ndarray:
    return seen.rows.select(antenna=antenna, spw=4, field=0, on_source=True)


def test_every_spectrum_is_where_the_raster_was_to_within_an_arcsecond(run: Seen) -> None:
    own = member(run, 1)
    ra = (np.asarray(run.rows["ra_deg"])[own] - 280.0) * np.cos(np.radians(-21.0)) * 3600
    dec = (np.asarray(run.rows["dec_deg"])[own] + 21.0) * 3600
    along = (np.arange(SAMPLES) - (SAMPLES - 1) / 2) * STEP
    x = np.concatenate([along if k % 2 == 0 else along[::-1] for k in range(ROWS)])
    y = np.repeat((np.arange(ROWS) - (ROWS - 1) / 2) * SPACING, SAMPLES)
    known = np.asarray(run.rows["pointing_ok"])[own]
    assert (~known).sum() == SAMPLES
    # cos(dec) changes over the map by 0.0001: 0.02 arcsec.
    assert np.hypot(ra - x, dec - y)[known].max() < 1.0


def test_each_sweep_is_a_raster_row_and_the_whole_one_map(run: Seen) -> None:
    own = member(run, 0)
    np.testing.assert_array_equal(np.asarray(run.rows["raster_row"])[own], np.repeat(np.arange(ROWS), SAMPLES))
    assert set(np.asarray(run.rows["raster_map"])[own]) == {0}
    assert (np.asarray(run.rows["raster_row"])[~np.asarray(run.rows["on_source"])] == -1).all()


def test_the_strategy_is_that_of_the_observation(run: Seen) -> None:
    plan = run.imported.result.strategies["alma-tp-b6.ms"]
    assert plan.calmode == "ps"
    assert plan.reference_fields == {0: 1}
    assert plan.tsys_spw == {4: 0, 6: 2}  # windows 0 and 2 of 2 GHz in basebands 1 and 3
    assert set(plan.pattern.values()) == {"RASTER"}


def test_groups_hold_both_antennas_and_one_window_each(run: Seen) -> None:
    groups = run.imported.result.groups
    assert [(g.field_name, int(g.spw), [m.antenna_name for m in g.members]) for g in groups] == [
        ("SimLine", 4, ["PM01", "PM02"]), ("SimLine", 6, ["PM01", "PM02"]),
    ]  # fmt: skip


def test_the_wild_row_is_flagged_and_nothing_beside_it(run: Seen) -> None:
    """PM01 looked half a degree away during row 3; all of it is flagged, nothing else of PM01 but edge channels."""
    own = run.flags["antenna"] == 0
    first, last = run.truth.faults["pointing-outlier"]["times"]
    wild = own & (run.flags["time"] >= first - 0.1) & (run.flags["time"] <= last + 0.1)
    middle = run.flags["flag"][:, :, 100]
    assert wild.sum() == SAMPLES
    assert middle[wild].all()
    assert not middle[own & ~wild].any()
    rows = np.asarray(run.rows["row"])[np.asarray(run.rows["pointing_outlier"]) & (np.asarray(run.rows["spw"]) == 4)]
    assert set(rows) == set(run.flags["row"][wild])


def test_spectra_without_a_direction_are_flagged(run: Seen) -> None:
    own = run.flags["antenna"] == 1
    lost = own & (run.flags["time"] >= run.lost[0] - 0.1) & (run.flags["time"] <= run.lost[1] + 0.1)
    middle = run.flags["flag"][:, :, 100]
    assert middle[lost].all()
    assert not middle[own & ~lost].any()
    assert run.imported.result.rows[0].missing_pointing == {"PM02": SAMPLES}


def test_only_100_of_125_mhz_are_left(run: Seen) -> None:
    """0.5 x 25 / 125 of 256 channels are 25.6: 26 at either edge."""
    flagged = run.flags["flag"].all(axis=(0, 1))
    np.testing.assert_array_equal(np.flatnonzero(~flagged), np.arange(26, 230))


def test_online_flags_of_the_table_are_those_of_the_data(run: Seen) -> None:
    rows = np.asarray(run.rows["row"])
    chosen = np.asarray(run.rows["spw"]) == 4
    place = np.searchsorted(run.flags["row"], rows[chosen])
    expected = ~run.flags["flag"][place].all(axis=2)
    np.testing.assert_array_equal(np.asarray(run.rows["online_valid"])[chosen], expected)


def test_the_scores_name_antenna_and_trouble(run: Seen) -> None:
    (found,) = [s for s in run.flagged.scores if s.metric == "NumberOfPointingOutliers"]
    assert found.score == pytest.approx(0.83)
    assert found.applies_to.antenna == ("PM01",)
    assert "SimLine" in found.long
    (missing,) = [s for s in run.imported.scores if s.metric == "import.pointing"]
    assert missing.score < 0.9
    assert missing.applies_to.antenna == ("PM02",)


def test_rewinding_makes_the_table_what_it_was(run: Seen) -> None:
    """Columns that a stage wrote are other files: without its effects the table is that of the import."""
    before = attrs.evolve(run.rows, current={})
    assert np.asarray(before["online_valid"]).all()
    assert "pointing_outlier" not in before


# ---- a last map that was cut off -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut_maps(tmp_path_factory) -> Path:
    """Three maps, of which the last lacks two of its eight rows."""
    folder = tmp_path_factory.mktemp("maps")
    path = folder / "maps.ms"
    with Worker() as worker:
        worker.call(small_maps, str(path))
        flags = worker.call(read_flags, str(path), 4)
        times = np.unique(flags["time"])
        blocks = np.split(times, np.flatnonzero(np.diff(times) > 1.0) + 1)
        rows = [b for b in blocks if len(b) == 12]  # blocks of 10 are OFF
        worker.call(cut_off, str(path), float(rows[-3][-1]) + 1e-3, str(folder / "cut.ms"))
    return folder / "cut.ms"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_map_that_was_cut_off_is_flagged_when_uniform_noise_is_wanted(cut_maps, tmp_path, wanted) -> None:
    with Session.create(tmp_path / "run") as session:
        imported = session.run_stage("hsd_importdata", vis=[str(cut_maps)], hm_rasterscan="direction")
        (odd,) = imported.result.rows[0].odd_maps
        session.run_stage("hsd_flagdata", incompleteraster=wanted)
        ms = session.context.measurement_sets[0]
        context = _Context(session.root / "work", session.context, session.context.values)
        rows = RowTable.open(context, ms)
        with Worker() as worker:
            flags = worker.call(read_flags, str(session.root / "work" / ms.path), 4)
    own = rows.select(antenna=0, spw=4, field=0, on_source=True)
    maps = np.asarray(rows["raster_map"])[own]
    assert np.bincount(maps).tolist() == [96, 96, 72]
    assert odd.map == 2
    assert min(s.score for s in imported.scores) < 0.9
    flagged = flags["flag"][np.searchsorted(flags["row"], np.asarray(rows["row"])[own])].all(axis=(1, 2))
    np.testing.assert_array_equal(flagged, (maps == 2) & wanted)
    shutil.rmtree(tmp_path / "run")
