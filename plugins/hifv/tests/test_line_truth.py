"""Calibrated data with a line in one window: line-free continuum, continuum-free line, against what was put in.

The data are simulated without errors of calibration: a core of 60 mJy, and H I of 1.6 Jy at 500 km/s (LSRK), 80 km/s
wide, in a window of 64 channels; two wide windows have no line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.casa, pytest.mark.slow]
HI_HZ, C_KM_S = 1420.405752e6, 299_792.458
VELOCITY, WIDTH, PEAK, CORE = 500.0, 80.0, 1.6, 0.06
LIMITS = {"maxproductsize": 100.0, "maxcubesize": 20.0, "maxcubelimit": 40.0}


def simulate_ideal(path: str) -> None:
    """Simulate a tiny block with perfect receivers and no atmosphere; imports CASA."""
    import attrs

    from pl_sim.engine import simulate
    from pl_sim.instrument import Instrument
    from pl_sim.observation import Atmosphere
    from pl_sim.presets import get_preset

    class Perfect(Instrument):
        def _gain(self, obs: Any, times: Any) -> Any:
            return np.ones((len(times), len(obs.array.antennas), 2, len(obs.spws)), complex)

    perfect = Perfect(
        sefd_jy=280.0, sefd_scatter=0.0, delay_ns=0.0, bandpass_ripple=0.0, bandpass_phase_deg=0.0,
        bandpass_edge=0.0,
    )  # fmt: skip
    planned = get_preset("vla-l-line-d").observations("tiny")[0]
    simulate(attrs.evolve(planned, instrument=perfect, atmosphere=Atmosphere(), extensions=()), path, seed=3)


def line_jy(velocity: np.ndarray) -> np.ndarray:
    """The injected profile (LSRK km/s): a Gaussian with a full width at half maximum."""
    return np.asarray(PEAK * np.exp(-4 * np.log(2) * ((velocity - VELOCITY) / WIDTH) ** 2))


def spectrum(ms: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean Stokes I by channel (Jy), noise of one row, number of rows; imports CASA."""
    from pl_kernel.casa import configure

    configure()
    from casatools import table

    tool = table()
    tool.open(ms)
    data, flag = (tool.getcol(c) for c in ("DATA", "FLAG"))
    cross = tool.getcol("ANTENNA1") != tool.getcol("ANTENNA2")
    tool.close()
    data, flag = data[:, :, cross], flag[:, :, cross]
    hands = np.ma.masked_array(data, flag)[[0, -1]].mean(axis=0)
    return np.asarray(hands.real.mean(axis=1).filled(0)), np.asarray(hands.imag.std(axis=1)), hands.shape[1]


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of the line part of recipe hifv_cont_cube_image, up to the lists of images."""
    from pl_kernel.compute import Worker
    from pl_kernel.session import Session

    folder = tmp_path_factory.mktemp("line")
    ms, run = folder / "ideal.ms", folder / "run"
    with Worker() as worker:
        worker.call(simulate_ideal, str(ms))
    with Session.create(run, None, [ms]) as session:
        session.run_stage(
            "hifv_importdata", vis=[str(ms)], needs=["TARGET"], calibrated=True,
            datacolumns={"data": "regcal_contline_all"},
        )
        session.run_stage("hifv_mstransform")
        session.run_stage("hif_checkproductsize", **LIMITS)
        session.run_stage("hif_findcont")
        session.run_stage("hif_uvcontsub")
        session.run_stage("hif_checkproductsize", maximsize=16384)
        session.run_stage("hif_makeimlist", specmode="cont")
        session.run_stage("hif_checkproductsize", **LIMITS)
        session.run_stage("hif_makeimlist", specmode="cube")
    yield run


def results(run: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(run.glob(f"stages/*-{stage}/result.json"))]


def velocities(frequency_hz: np.ndarray) -> np.ndarray:
    return C_KM_S * (1 - np.asarray(frequency_hz) / HI_HZ)


def test_the_ranges_hold_no_line_and_nearly_all_that_has_none(reduced: Path) -> None:
    (found,) = results(reduced, "hif_findcont")[0]["found"]
    assert found["record"]["spw"] == 2 and found["record"]["frame"] == "LSRK"
    speed = velocities(found["frequency_hz"])
    chosen = np.zeros(len(speed), bool)
    for first, last in found["cube_ranges"]:
        chosen[first : last + 1] = True
    assert line_jy(speed[chosen]).max() < 0.02 * PEAK, "less than what continuum and noise hide"
    free = np.abs(speed - VELOCITY) > 2 * WIDTH
    assert chosen[free].mean() > 0.75


def test_the_continuum_image_takes_line_free_channels_and_whole_wide_windows(reduced: Path) -> None:
    (target,) = results(reduced, "hif_makeimlist")[0]["targets"]
    assert target["datatype"] == "REGCAL_CONT_SCIENCE" and target["without_continuum"] == []
    (selection,) = target["selections"]
    assert selection["vis"] == "ideal_targets_cont.ms"
    first, second, line = selection["spw"].split(",")
    assert (first, second) == ("0", "1")
    window, _, channels = line.partition(":")
    assert window == "2"
    truth = json.loads(next(reduced.parent.glob("*.truth/truth.json")).read_text())
    # What was put in is at rest in LSRK; the data are topocentric: the middle of the window is at the line by design.
    topo = np.array(truth["spws"][2]["frequency_hz"])
    speed = VELOCITY - C_KM_S * (topo - topo.mean()) / HI_HZ
    picked = np.zeros(len(topo), bool)
    for part in channels.split(";"):
        a, _, b = part.partition("~")
        picked[int(a) : int(b or a) + 1] = True
    assert picked.sum() > 30
    assert line_jy(speed[picked]).max() < 0.02 * PEAK


def test_subtraction_leaves_the_line_and_no_continuum(reduced: Path) -> None:
    from pl_kernel.compute import Worker

    work = reduced / "work"
    with Worker() as worker:
        before, _, _ = worker.call(spectrum, str(work / "ideal_targets.ms"))
        after, noise, rows = worker.call(spectrum, str(work / "ideal_targets_line.ms"))
    (fit,) = results(reduced, "hif_uvcontsub")[0]["subtractions"]
    quiet = np.zeros(len(after), bool)
    for part in fit["channels"].split(";"):
        a, b = map(int, part.split("~"))
        quiet[a : b + 1] = True
    sigma = float(noise[quiet].mean()) / np.sqrt(rows * quiet.sum())
    assert before[quiet].mean() == pytest.approx(CORE, abs=0.003 + 5 * sigma), "what is subtracted is the core"
    assert abs(after[quiet].mean()) < 5 * sigma
    assert after[~quiet].sum() == pytest.approx((before[~quiet] - CORE).sum(), rel=0.03), "the line stays whole"


def test_the_cube_is_of_line_data_with_the_rules_of_the_vla(reduced: Path) -> None:
    (target,) = results(reduced, "hif_makeimlist")[1]["targets"]
    assert (target["datatype"], target["spws"]) == ("REGCAL_LINE_SCIENCE", [2])
    assert (target["robust"], target["pblimit"], target["outframe"]) == (2.0, 0.2, "LSRK")
    assert target["restfreq_hz"] == pytest.approx(HI_HZ), "the data name the line"
    speed = velocities(target["start_hz"] + target["width_hz"] * np.arange(target["nchan"]))
    assert speed.min() < VELOCITY - 3 * WIDTH and speed.max() > VELOCITY + 3 * WIDTH


def test_limits_are_looked_at_for_what_they_are_of(reduced: Path) -> None:
    cubes, images, again = results(reduced, "hif_checkproductsize")
    for found in (cubes, again):
        (size,) = found["before"]
        assert size["spws"] == [2] and size["nchan"] > 50
    (size,) = images["before"]
    assert size["spws"] == [0, 1, 2] and size["nchan"] == 1
