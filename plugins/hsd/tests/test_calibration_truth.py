"""Calibration of a simulated total-power map against what was put in: Tsys, brightness, a bump, no factor, the air."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pl_hsd import airmodel
from pl_hsd.heuristics import atmosphere
from pl_kernel.casa import Casa, Recorder
from pl_kernel.compute import Worker
from pl_kernel.recipe import loads
from pl_kernel.session import Session
from pl_sim.singledish import LineCloud
from pl_sim.truth import Truth

pytestmark = pytest.mark.casa

STAGES = "hsd_importdata, h_tsyscal, hsd_tsysflag, hsd_skycal, hsd_k2jycal, hsd_applycal, hsd_atmcor"
SCIENCE, OTHER, TSYS = 4, 6, 0
BUMP_CHANNEL, BUMP_K = 60, 1.0
CSV = """MS,Antenna,Spwid,Polarization,Factor
alma-tp-b6.ms,PM01,4,I,41.2
alma-tp-b6.ms,PM01,6,I,42.0
alma-tp-b6.ms,PM02,4,XX,40.0
alma-tp-b6.ms,PM02,4,YY,44.0
"""
"""PM02 has no factor in spw 6."""


def casa() -> Casa:
    return Casa(Recorder(), os.devnull)


def add_bump(path: str) -> None:
    """A bump of 1 K of 100 K, in YY of the ON spectra of PM02 in one window only."""
    with casa().table(f"{path}/STATE") as states:
        on = [i for i, mode in enumerate(states.getcol("OBS_MODE")) if "ON_SOURCE" in mode]
    with casa().table(path, nomodify=False) as table:
        part = table.query(f"DATA_DESC_ID=={SCIENCE} && ANTENNA1==1 && STATE_ID IN {on}")
        data = part.getcol("FLOAT_DATA")
        shape = np.exp(-0.5 * ((np.arange(data.shape[1]) - BUMP_CHANNEL) / 4.0) ** 2)
        data[1] *= 1 + BUMP_K / 100 * shape[:, None]
        part.putcol("FLOAT_DATA", data)
        part.close()


def read(path: str, columns: list[str], query: str) -> dict[str, np.ndarray]:
    with casa().table(path) as table:
        part = table.query(query or "True", sortlist="TIME" if "TIME" in table.colnames() else "")
        found = {name: part.getcol(name) for name in columns}
        part.close()
    return found


@pytest.fixture(scope="module")
def in_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    worker = Worker(tmp_path_factory.mktemp("worker") / "worker.log")
    yield worker.call
    worker.stop()


class Run:
    """A finished run, its outcomes by stage, and the truth."""

    def __init__(self, session: Session, truth: Truth) -> None:
        self.session, self.record = session, truth.record
        self.outcome = session.run()
        assert self.outcome.status == "done", self.outcome.message
        self.stages = {s.name: s for s in self.outcome.stages}
        self.work = session.root / "work"

    def scores(self, stage: str, metric: str) -> dict[tuple[str, ...], float]:
        """Score by (antenna, spw)."""
        return {
            (*s.applies_to.antenna, *s.applies_to.spw): s.score for s in self.stages[stage].scores if s.metric == metric
        }


@pytest.fixture(scope="module")
def run(
    simulated: Callable[..., Path], in_worker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    vis = simulated("alma-tp-b6", faults=["tsys-bad-channels=5"])
    truth = Truth.load(vis)
    in_worker(add_bump, str(vis))
    factors = tmp_path_factory.mktemp("factors") / "my_factors.csv"
    factors.write_text(CSV)
    overrides = {
        "hsd_k2jycal": {"reffile": str(factors)}, "hsd_atmcor": {"atmtype": ("2",), "spw": str(SCIENCE)},
    }  # fmt: skip
    recipe = loads(f"stages: [{STAGES}]")
    root = tmp_path_factory.mktemp("run") / "run"
    with Session.create(root, recipe, [vis], overrides=overrides) as session:
        yield Run(session, truth)


def test_every_window_has_its_tsys_and_it_is_right_within_a_percent(run: Run, in_worker: Callable[..., Any]) -> None:
    (table,) = run.stages["h_tsyscal"].result.tables
    assert table.mapped == {4: 0, 6: 2} and table.unmapped == ()
    assert run.stages["h_tsyscal"].score == 1.0
    for measured in run.record["extensions"]["AlmaSystem"]["tsys_k"]:
        where = f"SPECTRAL_WINDOW_ID=={measured['spw']} && SCAN_NUMBER=={measured['scan']}"
        found = in_worker(read, str(run.work / table.table), ["FPARAM", "ANTENNA1"], where)
        for k, antenna in enumerate(found["ANTENNA1"]):
            if (measured["spw"], antenna) != (TSYS, 1):  # its spike is no Tsys
                mean = found["FPARAM"][:, :, k].mean(axis=1)
                np.testing.assert_allclose(mean, measured["mean_k"][antenna], rtol=0.01)


def test_bad_tsys_channels_are_flagged_and_little_else(run: Run, in_worker: Callable[..., Any]) -> None:
    (table,) = run.stages["hsd_tsysflag"].result.tables
    bad, all_of = np.zeros(2), np.zeros(2)
    for spw in (0, 2):
        found = in_worker(read, str(run.work / table.table), ["FLAG", "ANTENNA1"], f"SPECTRAL_WINDOW_ID=={spw}")
        truth = np.zeros(found["FLAG"].shape, bool)
        if spw == TSYS:
            truth[:, 40:44, found["ANTENNA1"] == 1] = True
        bad += [found["FLAG"][truth].sum(), found["FLAG"][~truth].sum()]
        all_of += [truth.sum(), (~truth).sum()]
    assert bad[0] >= 0.95 * all_of[0] and bad[1] <= 0.03 * all_of[1]
    # The table as it was stays, for a run that goes back.
    before = in_worker(read, str(run.work / table.original), ["FLAG"], "SPECTRAL_WINDOW_ID==0")
    assert not before["FLAG"].any()


def test_rows_learn_the_tsys_of_their_window(run: Run, in_worker: Callable[..., Any]) -> None:
    folder = run.work / "alma-tp-b6.rows"
    columns = {n: np.load(folder / f"{n}.npy") for n in ("antenna", "spw", "on_source", "npol")}
    tsys = np.load(next(folder.glob("tsys_k.s*.npy")))
    syscal = in_worker(
        read, str(run.work / "alma-tp-b6.ms/SYSCAL"), ["TSYS_SPECTRUM"], "SPECTRAL_WINDOW_ID==0 && ANTENNA_ID==0"
    )
    windows = str(run.work / "alma-tp-b6.ms/SPECTRAL_WINDOW")
    axis = in_worker(read, windows, ["CHAN_FREQ"], "ROWID()==0")["CHAN_FREQ"][:, 0]
    window = in_worker(read, windows, ["CHAN_FREQ"], "ROWID()==4")["CHAN_FREQ"]
    inside = (axis >= window.min()) & (axis <= window.max())
    expected = syscal["TSYS_SPECTRUM"][:, inside, 0].mean(axis=1)
    own = (columns["antenna"] == 0) & (columns["spw"] == SCIENCE) & columns["on_source"]
    np.testing.assert_allclose(tsys[own], np.broadcast_to(expected, tsys[own].shape), rtol=1e-3)
    assert np.all(tsys[~columns["on_source"]] == 1.0)


def areas(data: np.ndarray, step_kms: float) -> np.ndarray:
    """Integral of the line of every spectrum [channel, row], baseline removed: K km/s."""
    n = data.shape[0]
    channel = np.arange(n)
    line = np.abs(channel - n / 2) < 34  # 21 km/s: twice the width of the line on either side, less its shift
    x = np.linspace(-1, 1, n)
    free = ~line & (np.abs(channel - BUMP_CHANNEL) > 16)
    baseline = np.polynomial.polynomial.polyfit(x[free], data[free], 3)
    return (data - np.polynomial.polynomial.polyval(x, baseline).T)[line].sum(axis=0) * step_kms


@pytest.mark.parametrize(("antenna", "pol", "factor"), [(0, 0, 41.2), (0, 1, 41.2), (1, 0, 40.0), (1, 1, 44.0)])
def test_calibrated_spectra_have_the_brightness_of_the_cloud(
    run: Run, in_worker: Callable[..., Any], antenna: int, pol: int, factor: float
) -> None:
    dish = run.record["extensions"]["SingleDish"]
    cloud = dish["clouds"][0]
    found = in_worker(
        read, str(run.work / "alma-tp-b6.ms"), ["CORRECTED_DATA", "TIME"],
        f"DATA_DESC_ID=={SCIENCE} && ANTENNA1=={antenna} && FIELD_ID==0",
    )  # fmt: skip
    data = found["CORRECTED_DATA"].real[pol] / factor
    # The tiny raster: 15 rows of 28 samples, swept back and forth over 150 arcsec.
    row, sample = np.divmod(np.arange(data.shape[1]), 28)
    along = -75 + 150 * (sample + 0.5) / 28
    x, y = np.where(row % 2 == 0, along, -along), -75 + 150 * row / 14
    truth = LineCloud(
        cloud["rest_hz"], cloud["peak_k"], cloud["fwhm_arcsec"], cloud["velocity_kms"], cloud["width_kms"],
        cloud["gradient_kms_per_arcsec"], *cloud["offset_arcsec"],
    )  # fmt: skip
    velocity = np.linspace(-100, 160, 2601)
    injected = truth.spectrum_k(x, y, velocity, dish["beam_arcsec"][str(SCIENCE)]).sum(axis=-1) * 0.1
    step = 299_792.458 * abs(run.record["spws"][SCIENCE]["channel_hz"]) / cloud["rest_hz"]
    measured = areas(data, step)
    # Noise and baselines scatter the areas; Tsys, which scales them, is right to a percent.
    slope = (measured * injected).sum() / (injected**2).sum()
    error = 3 * np.std(measured - slope * injected) / np.sqrt((injected**2).sum())
    assert slope == pytest.approx(1.0, abs=0.01 + error) and error < 0.03


def test_the_bump_in_one_polarization_is_found_and_no_other(run: Run) -> None:
    scores = run.scores("hsd_applycal", "XX-YY.deviation")
    assert set(scores) == {("PM01", "4"), ("PM01", "6"), ("PM02", "4"), ("PM02", "6")}
    assert scores.pop(("PM02", "4")) < 0.9
    assert scores.pop(("PM02", "6")) == 1.0  # all flagged: nothing to compare
    assert set(scores.values()) == {1.0}
    (bad,) = [d for d in run.stages["hsd_applycal"].result.deviations if d.verdict.score < 1 and d.scan < 0]
    assert abs(bad.verdict.channel - BUMP_CHANNEL) <= 3 and 0.5 * 44 < abs(bad.verdict.deviation) < 1.2 * 44


def test_a_missing_factor_scores_zero_and_its_data_are_not_left_in_kelvin(
    run: Run, in_worker: Callable[..., Any]
) -> None:
    outcome = run.stages["hsd_k2jycal"]
    (factors,) = outcome.result.sets
    assert set(factors.missing) == {(OTHER, "PM02", "XX"), (OTHER, "PM02", "YY")} and outcome.score == 0.0
    assert not any(s.metric == "k2jycal.service" for s in outcome.scores)
    for antenna, spw, gone in ((0, SCIENCE, False), (0, OTHER, False), (1, SCIENCE, False), (1, OTHER, True)):
        flags = in_worker(
            read, str(run.work / "alma-tp-b6.ms"), ["FLAG"],
            f"DATA_DESC_ID=={spw} && ANTENNA1=={antenna} && FIELD_ID==0",
        )["FLAG"]  # fmt: skip
        assert flags.all() == gone and flags.any() == gone
    assert run.scores("hsd_applycal", "AmpVsTimePlotQuality")[("PM02", "6")] == 0.8
    assert run.session.context.values["hsd.unit"] == {"alma-tp-b6.ms": "Jy"}


def model_and_difference(work: str, ms: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What sdatmcor subtracted, in K, and what our model of the air expects, both projected on the airmass."""
    os.chdir(work)
    query = f"DATA_DESC_ID=={SCIENCE} && ANTENNA1==0 && FIELD_ID==0"
    before = read(ms.path, ["CORRECTED_DATA", "TIME"], query)
    after = read(name, ["DATA", "TIME"], query)
    assert np.array_equal(before["TIME"], after["TIME"])
    folder = Path(ms.path.replace(".ms", ".rows"))
    rows = {n: np.load(folder / f"{n}.npy") for n in ("antenna", "spw", "on_source", "el_deg", "time_s")}
    here = (rows["antenna"] == 0) & (rows["spw"] == SCIENCE)
    on, off = here & rows["on_source"], here & ~rows["on_source"]
    assert np.allclose(rows["time_s"][on], before["TIME"], atol=1e-3)
    mass = atmosphere.airmass(rows["el_deg"])
    at_off = np.interp(rows["time_s"][on], rows["time_s"][off], mass[off])
    nodes = np.linspace(mass[here].min() - 1e-6, mass[here].max(), 5)
    ground = airmodel.read_ground(casa(), ms)
    air = airmodel.model_air(casa(), atmosphere.AirModel(2), ground, ms.spw(SCIENCE).centres_hz, nodes)
    expected = atmosphere.predicted(mass[on], at_off, nodes, air.brightness_k, air.opacity)
    removed = np.moveaxis((before["CORRECTED_DATA"].real - after["DATA"].real), -1, 0)
    projection = atmosphere.Projection()
    projection.add(removed, np.ones(removed.shape, bool), mass[on] - at_off)
    return projection.result, expected


def test_what_is_subtracted_is_the_model_of_the_air(run: Run, in_worker: Callable[..., Any]) -> None:
    (done,) = run.stages["hsd_atmcor"].result.corrected
    assert (done.status, done.model.atmtype) == ("N", 2) and run.stages["hsd_atmcor"].score == 1.0
    # One Jy/K per window: the mean over antennas and correlations, here of two I and one each of XX and YY.
    assert done.gains["4"] == pytest.approx((41.2 + 41.2 + 40.0 + 44.0) / 4)
    origin, new = run.session.context.measurement_sets
    assert new.origin == origin.name and new.latest_type is not None and new.latest_type.name == "ATMCORR"
    assert [f.name for f in new.fields_with_intent("TARGET")] == ["SimLine"]
    removed, expected = in_worker(model_and_difference, str(run.work), origin, done.output)
    for pol in range(2):
        np.testing.assert_allclose(removed[pol].mean() / done.gains["4"], expected.mean(), rtol=0.1)


def test_an_antenna_with_too_much_tsys_loses_it_and_the_others_do_not(
    simulated: Callable[..., Path], in_worker: Callable[..., Any], tmp_path: Path
) -> None:
    vis = simulated("alma-tp-b6", faults=["baseline-ripple=3", "pointing-outlier=0.5", "tsys-outlier-antenna=2.5"])
    with Session.create(tmp_path / "run", loads("stages: [hsd_importdata, h_tsyscal, hsd_tsysflag]"), [vis]) as session:
        outcome = session.run()
        assert outcome.status == "done", outcome.message
        stage = outcome.stages[-1]
        (table,) = stage.result.tables
        found = in_worker(read, str(session.root / "work" / table.table), ["FLAG", "ANTENNA1"], "")
    wrong = found["ANTENNA1"] == 1
    assert found["FLAG"][..., wrong].mean() >= 0.95 and found["FLAG"][..., ~wrong].mean() <= 0.03
    assert {a for a, _ in table.lost} == {"PM02"} and stage.score == 0.0
