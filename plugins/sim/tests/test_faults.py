"""Each fault is in the data, exactly where the truth says, and nowhere else.

Thermal noise has a key for every visibility, so a set with a fault and one without differ in the fault alone.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pl_sim.errors import ImpossibleObservation, UnknownFault
from pl_sim.faults import known_faults, parse_fault
from pl_sim.truth import Truth

pytestmark = pytest.mark.casa

IN_BOXES = (
    "bad-deformatter",
    "dead-antenna",
    "decorrelated-phase-calibrator",
    "delay-jump",
    "low-gain",
    "nan-visibilities",
    "phase-jump",
    "rfi-broad",
    "rfi-intermittent",
    "rfi-narrow",
    "swapped-polarizations",
    "target-outliers",
    "zero-visibilities",
)
OTHERS = ("corrupted-subtable", "missing-intent", "missing-scans", "shadowing", "wrong-flux")


@pytest.fixture
def faulty(tmp_path: Path, base_observation: Any, read_rows: Callable[..., Any]) -> Callable[..., Any]:
    def make(*faults: str, observation: Any = None) -> tuple[Path, Truth, Any]:
        from pl_sim.engine import simulate

        path = simulate(observation or base_observation, tmp_path / "faulty.ms", faults=faults)
        return path, Truth.load(path), read_rows(path)

    return make


def baselines(truth: Truth, rows: Any, antenna: str) -> Any:
    index = truth.antennas.index(antenna)
    return (rows.columns["ANTENNA1"] == index) | (rows.columns["ANTENNA2"] == index)


def test_every_interferometric_fault_is_tested_here():
    elsewhere = ("pl_sim.faults.alma", "pl_sim.faults.singledish")
    mine = {n for n, c in known_faults().items() if c.__module__ not in elsewhere}
    assert mine == set(IN_BOXES) | set(OTHERS)


@pytest.mark.parametrize("name", IN_BOXES)
def test_a_fault_changes_its_boxes_and_nothing_else(
    name: str, faulty: Callable[..., Any], clean: tuple[Path, Any], region_mask: Callable[..., Any]
):
    _, truth, rows = faulty(name)
    boxes = region_mask(truth, rows, ("bad", "calibratable"))
    changed = rows.data != clean[1].data
    assert boxes.any() and not boxes.all()
    assert not changed[~boxes].any()
    # A delay has no effect at its reference frequency, one channel in 64.
    assert changed[boxes].mean() > 0.98


def test_a_dead_antenna_sees_noise_only(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    from pl_sim.casa import open_table

    path, truth, rows = faulty("dead-antenna")
    mine = baselines(truth, rows, truth.faults["dead-antenna"]["antenna"]) & (rows.columns["SCAN_NUMBER"] == 2)
    before, after = (np.abs(r.data[mine][:, 4:28, 0].mean()) for r in (clean[1], rows))
    noise = rows.data[mine][:, 4:28, 0].std() / math.sqrt(rows.data[mine][:, 4:28, 0].size)
    assert after < 5 * noise < before
    with open_table(path / "SYSPOWER") as tb:
        dead = tb.getcol("ANTENNA_ID") == truth.antennas.index(truth.faults["dead-antenna"]["antenna"])
        assert np.all(tb.getcol("SWITCHED_DIFF")[:, dead] == 0) and np.all(tb.getcol("SWITCHED_DIFF")[:, ~dead] > 0)


def test_low_gain_is_the_factor_asked_for(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("low-gain=0.25")
    record = truth.faults["low-gain"]
    mine = baselines(truth, rows, record["antenna"]) & (rows.columns["SCAN_NUMBER"] == 2)
    ratio = np.sum(rows.data[mine][:, 4:28, 3] * np.conj(clean[1].data[mine][:, 4:28, 3])) / np.sum(
        np.abs(clean[1].data[mine][:, 4:28, 3]) ** 2
    )
    assert record["receptor"] == 1 and abs(ratio - 0.25) < 0.01


def test_swapped_receptors_exchange_their_products(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("swapped-polarizations")
    index = truth.antennas.index(truth.faults["swapped-polarizations"]["antenna"])
    first, second = rows.columns["ANTENNA1"] == index, rows.columns["ANTENNA2"] == index
    # Antenna 1 swapped: its R is L, so RR <- LR and LL <- RL.
    assert np.array_equal(rows.data[first][..., [0, 3]], clean[1].data[first][..., [2, 1]])
    assert np.array_equal(rows.data[second][..., [0, 3]], clean[1].data[second][..., [1, 2]])


def test_a_bad_deformatter_has_a_saw_tooth_in_its_baseband(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("bad-deformatter")
    record = truth.faults["bad-deformatter"]
    mine = baselines(truth, rows, record["antenna"]) & (rows.columns["SCAN_NUMBER"] == 2)
    inside = mine & np.isin(rows.columns["DATA_DESC_ID"], record["spws"])
    ratio = np.abs(rows.data[inside][..., 3]) / np.abs(clean[1].data[inside][..., 3])
    spectrum = np.median(ratio, axis=0)
    assert spectrum.min() < 0.1 and spectrum.max() > 0.95
    assert record["spws"] == [2, 3]


def test_a_delay_jump_is_the_slope_of_phase_asked_for(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("delay-jump=3.0")
    record = truth.faults["delay-jump"]
    index = truth.antennas.index(record["antenna"])
    late = (
        (rows.columns["ANTENNA1"] == index)
        & (rows.columns["TIME"] >= record["time"])
        & (rows.columns["DATA_DESC_ID"] == 1)
    )
    change = np.sum(rows.data[late][..., 0] * np.conj(clean[1].data[late][..., 0]), axis=0)
    slope = np.polyfit(truth.frequency_hz(1), np.unwrap(np.angle(change)), 1)[0] / (2 * math.pi)
    assert abs(slope - 3e-9) < 1e-12


def test_a_phase_jump_is_in_half_a_scan(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("phase-jump=70")
    record = truth.faults["phase-jump"]
    index = truth.antennas.index(record["antenna"])
    mine = (rows.columns["ANTENNA1"] == index) & (rows.columns["SCAN_NUMBER"] == record["scan"])
    late = rows.columns["TIME"] >= record["times"][0] - 1
    change = np.sum(rows.data[mine & late] * np.conj(clean[1].data[mine & late]))
    assert abs(math.degrees(np.angle(change)) - 70) < 0.1
    assert np.array_equal(rows.data[mine & ~late], clean[1].data[mine & ~late])
    assert 0.4 < (mine & late).sum() / mine.sum() < 0.6


@pytest.mark.parametrize(("name", "jy"), [("rfi-narrow", 60.0), ("rfi-broad", 20.0), ("rfi-intermittent", 300.0)])
def test_interference_is_as_strong_as_it_says(
    name: str, jy: float, faulty: Callable[..., Any], clean: tuple[Path, Any], region_mask: Callable[..., Any]
):
    _, truth, rows = faulty(name)
    boxes = region_mask(truth, rows, ("bad",))
    late = baselines(truth, rows, truth.record["extensions"]["LateAntenna"]["antenna"])
    where = boxes & ~late[:, None, None]
    where[..., 1:3] = False
    row, channel, hand = np.nonzero(where)
    p, q, s = (rows.columns[k][row] for k in ("ANTENNA1", "ANTENNA2", "DATA_DESC_ID"))
    t = np.searchsorted(truth.array("times"), rows.columns["TIME"][row] - 1e-3)
    gain, air = np.abs(truth.array("gain")), truth.array("transmission")
    receptor = hand // 3
    shape = np.abs(truth.array(f"bandpass_{s[0]}"))
    response = (
        gain[t, p, receptor, s]
        * gain[t, q, receptor, s]
        * air[t, p, s]
        * air[t, q, s]
        * shape[p, receptor, channel]
        * shape[q, receptor, channel]
    )
    strength = np.abs((rows.data - clean[1].data)[where]) / response
    # Between the whole strength on the shortest and half of it on the longest baselines.
    assert strength.min() > 0.49 * jy and strength.max() < 1.01 * jy


def test_intermittent_interference_comes_and_goes(faulty: Callable[..., Any], base_observation: Any):
    from pl_sim.schedule import all_times

    _, truth, _ = faulty("rfi-intermittent=duty:0.3")
    share = len(truth.faults["rfi-intermittent"]["times"]) / len(all_times(base_observation))
    assert 0.15 < share < 0.45


def test_a_decorrelated_calibrator_loses_amplitude(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("decorrelated-phase-calibrator=60")
    mine = np.isin(rows.columns["SCAN_NUMBER"], truth.faults["decorrelated-phase-calibrator"]["scans"])
    ratio = np.median(np.abs(rows.data[mine][:, 4:28, 0])) / np.median(np.abs(clean[1].data[mine][:, 4:28, 0]))
    # Two antennas: exp(-sigma^2) with sigma = 60 degrees.
    assert abs(ratio - math.exp(-(math.radians(60) ** 2))) < 0.02
    phase = np.angle(np.mean(rows.data[mine] * np.conj(clean[1].data[mine]), axis=(1, 2)))
    assert phase.std() > math.radians(60)


def test_outliers_and_not_a_numbers_are_counted(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("nan-visibilities=37", "target-outliers=50,jy:40")
    target = rows.columns["FIELD_ID"] == list(truth.fields).index("SIM_TARGET")
    assert np.isnan(rows.data).sum() == 37 and np.isnan(rows.data[~target]).sum() == 0
    changed = (rows.data != clean[1].data) & ~np.isnan(rows.data)
    assert changed.sum() == 50 and not changed[~target].any()


def test_zeros_are_exact(faulty: Callable[..., Any]):
    _, _, rows = faulty("zero-visibilities")
    assert 0 < (rows.data == 0).sum() == (rows.data == 0).all(axis=(1, 2)).sum() * 32 * 4


def test_shadowing_is_where_casa_sees_it(
    faulty: Callable[..., Any],
    base_observation: Any,
    tmp_path: Path,
    read_rows: Callable[..., Any],
    region_mask: Callable[..., Any],
):
    from pl_kernel.casa import configure
    from pl_sim.compare import compare_flags
    from pl_sim.engine import simulate

    path, truth, rows = faulty("shadowing")
    unshadowed = parse_fault("shadowing").change_observation(base_observation)
    reference = read_rows(simulate(unshadowed, tmp_path / "unshadowed.ms"))
    boxes = region_mask(truth, rows, ("bad",))
    changed = rows.data != reference.data
    assert boxes.any() and not changed[~boxes].any() and changed[boxes].mean() > 0.95
    configure()
    from casatasks import flagdata

    flagdata(vis=str(path), mode="shadow", tolerance=0.0, flagbackup=False)
    flags = compare_flags(truth, path, severities=("bad",), ignore=("online",))
    assert flags.bad > 0 and flags.completeness == 1.0 and flags.false == 0


def test_a_missing_scan_leaves_the_others_as_they_were(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("missing-scans")
    gone = truth.faults["missing-scans"]["scan"]
    assert set(clean[1].columns["SCAN_NUMBER"]) - set(rows.columns["SCAN_NUMBER"]) == {gone}
    left = clean[1].columns["SCAN_NUMBER"] != gone
    assert np.allclose(rows.columns["TIME"], clean[1].columns["TIME"][left])
    assert np.allclose(rows.data, clean[1].data[left], rtol=1e-4, atol=1e-4 * np.abs(rows.data).max())
    assert gone in truth.record["planned_scans"]


def test_a_missing_intent_is_missing(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    from pl_sim.casa import open_table

    path, _, rows = faulty("missing-intent=BANDPASS")
    with open_table(path / "STATE") as tb:
        assert not any("BANDPASS" in mode for mode in tb.getcol("OBS_MODE"))
    with open_table(clean[0] / "STATE") as tb:
        assert any("BANDPASS" in mode for mode in tb.getcol("OBS_MODE"))
    assert np.array_equal(rows.data, clean[1].data)


def test_a_wrong_flux_is_on_the_flux_calibrator_only(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    _, truth, rows = faulty("wrong-flux=1.5")
    source = rows.columns["FIELD_ID"] == 0
    assert truth.faults["wrong-flux"]["source"] == "1331+305=3C286"
    assert np.array_equal(rows.data[~source], clean[1].data[~source])
    ratio = np.sum(rows.data[source][..., 0] * np.conj(clean[1].data[source][..., 0])) / np.sum(
        np.abs(clean[1].data[source][..., 0]) ** 2
    )
    assert abs(ratio - 1.5) < 0.005
    assert math.isclose(truth.flux_jy("1331+305=3C286", 1e9), 1.5 * 10**1.2481, rel_tol=1e-9)


def test_a_corrupted_subtable_cannot_be_opened_and_the_rest_can(faulty: Callable[..., Any], clean: tuple[Path, Any]):
    from pl_sim.casa import open_table

    path, _, rows = faulty("corrupted-subtable")
    assert np.array_equal(rows.data, clean[1].data)
    with pytest.raises(RuntimeError), open_table(path / "WEATHER"):
        pass
    with open_table(path / "ANTENNA") as tb:
        assert tb.nrows() == 8


def test_a_victim_that_does_not_exist_is_refused_before_anything_is_written(faulty: Callable[..., Any], tmp_path: Path):
    for fault in (
        "dead-antenna=ea99",
        "rfi-narrow=spw:77",
        "missing-scans=99",
        "missing-intent=NOTHING",
        "shadowing=500",
        "bad-deformatter=baseband:Z9Z9",
        "phase-jump=scan:99",
    ):
        with pytest.raises((UnknownFault, ImpossibleObservation)):
            faulty(fault)
    assert not (tmp_path / "faulty.ms").exists()


def test_swapped_polarizations_need_all_four_products(faulty: Callable[..., Any], base_observation: Any):
    spws = tuple(attrs.evolve(s, correlations=("RR", "LL")) for s in base_observation.spws)
    with pytest.raises(ImpossibleObservation, match="all four correlations"):
        faulty("swapped-polarizations", observation=attrs.evolve(base_observation, spws=spws))


def test_flags_are_compared_with_the_truth(faulty: Callable[..., Any], tmp_path: Path, region_mask: Callable[..., Any]):
    from pl_sim.casa import open_table
    from pl_sim.compare import compare_flags

    path, truth, rows = faulty("dead-antenna", "rfi-narrow", "delay-jump")
    nothing = compare_flags(truth, path)
    assert nothing.found == 0 and nothing.completeness == 0 and nothing.false == 0 and nothing.bad > 0
    bad = region_mask(truth, rows, ("bad", "online"))
    with open_table(path, write=True) as tb:
        tb.putcol("FLAG", bad.transpose(2, 1, 0))
    perfect = compare_flags(truth, path)
    assert perfect.completeness == 1.0 and perfect.false == 0
    assert perfect.bad == bad.sum()
    assert perfect.by_reason["dead-antenna"][0] == perfect.by_reason["dead-antenna"][1] > 0
    shutil.rmtree(path)
