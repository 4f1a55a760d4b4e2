"""ALMA presets and faults: what stands in the tables, checked with numpy, and what CASA alone makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PRESETS = ("alma-b3", "alma-b3-mosaic", "alma-b3-pol", "alma-b3-sessions", "alma-b6", "alma-7m-b6")
HERE = Path(__file__).parent


def table(path: Path, columns: tuple[str, ...], where: str = "") -> dict[str, np.ndarray]:
    from pl_sim.casa import open_table

    with open_table(path) as tb:
        selected = tb.query(where) if where else tb
        found = {name: selected.getcol(name) for name in columns}
        if where:
            selected.close()
    return found


# ---- without CASA
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("scale", ["tiny", "small", "full"])
def test_every_scale_is_an_observation_that_can_be_made(name: str, scale: str) -> None:
    from pl_sim.presets import get_preset

    if scale == "full" and name != "alma-b6":
        pytest.skip("the check of elevations takes seconds; one full schedule is enough")
    for observation in get_preset(name).observations(scale):
        assert observation.array.telescope == "ALMA"
        assert len(set(observation.array.names)) == len(observation.array.antennas)


def test_sessions_are_two_blocks_with_other_gains() -> None:
    from pl_sim.presets import get_preset

    one, two = get_preset("alma-b3-sessions").observations("tiny")
    assert one.execution_block != two.execution_block
    assert one.extensions[0].project.session != two.extensions[0].project.session  # type: ignore[attr-defined]
    assert one.model_seed != two.model_seed and one.start < two.start


def test_tsys_of_a_hand_calculation() -> None:
    """T_rx 50 K, opacity 0.1 at 30 degrees (two airmasses), air of 260 K, CMB of 1 K: (50 + .95 T_sky + .05 270)
    e^.2 / .95."""
    from pl_sim.atmosphere import CHAJNANTOR
    from pl_sim.syscal import Receivers, TsysModel

    class Air:
        site = CHAJNANTOR

        def transmission(self, freq: np.ndarray, elevation: float) -> np.ndarray:
            return np.full(len(freq), np.exp(-0.1 / np.sin(elevation)))

        def sky_temperature_k(self, freq: np.ndarray, elevation: float) -> np.ndarray:
            lost = 1 - self.transmission(freq, elevation)
            return 260.0 * lost + 1.0 * (1 - lost)

    model = TsysModel(Receivers(np.full((2, 2, 2), 50.0), ripple=0.0), Air())  # type: ignore[arg-type]
    tsys = model.tsys_k(1, np.array([230e9, 231e9]), np.radians(30))
    # e^-0.2 = 0.81873; T_sky = 47.130 + 0.819 = 47.949; (50 + 45.551 + 13.5) / (0.95 x 0.81873) = 140.21
    np.testing.assert_allclose(tsys, 140.21, rtol=1e-4)


@pytest.mark.parametrize(
    ("fault", "preset", "words"),
    [
        ("wrong-wvr", "alma-7m-b6", "no water-vapour radiometers"),
        ("line-in-off", "alma-b6", "single-dish"),
        ("tsys-outlier-antenna=antenna:DV99", "alma-b6", "no antenna DV99"),
        ("tsys-bad-channels=spw:9", "alma-b6", "has no Tsys spectra"),
    ],
)
def test_impossible_faults_are_refused_with_a_sentence(fault: str, preset: str, words: str, tmp_path: Path) -> None:
    from pl_sim.engine import simulate
    from pl_sim.errors import UnknownFault
    from pl_sim.presets import get_preset

    with pytest.raises(UnknownFault, match=words):
        simulate(get_preset(preset).observations("tiny")[0], tmp_path / "x.ms", faults=[fault])
    assert not (tmp_path / "x.ms").exists()


# ---- tables
@pytest.mark.casa
class TestTables:
    def test_a_set_looks_like_one_of_the_archive(self, simulated: Callable[..., Path]) -> None:
        vis = simulated("alma-b6", copy=False)
        spws = table(vis / "SPECTRAL_WINDOW", ("NAME", "NUM_CHAN", "BBC_NO", "NET_SIDEBAND"))
        assert spws["NAME"][0] == "WVR#NOMINAL" and spws["NUM_CHAN"][0] == 4
        assert all(name.startswith("X0000000101#ALMA_RB_06#BB_") for name in spws["NAME"][1:])
        assert set(spws["NET_SIDEBAND"][1:]) == {1, 2}
        modes = set(table(vis / "STATE", ("OBS_MODE",))["OBS_MODE"])
        assert "CALIBRATE_ATMOSPHERE#HOT,CALIBRATE_WVR#HOT" in modes
        assert "OBSERVE_TARGET#ON_SOURCE" in modes and "OBSERVE_CHECK_SOURCE#ON_SOURCE,CALIBRATE_WVR#ON_SOURCE" in modes
        processors = table(vis / "PROCESSOR", ("TYPE",))["TYPE"]
        radiometers = table(vis, ("PROCESSOR_ID", "ANTENNA1", "ANTENNA2", "INTERVAL"), "DATA_DESC_ID==0")
        assert set(processors[radiometers["PROCESSOR_ID"]]) == {"RADIOMETER"}
        assert np.array_equal(radiometers["ANTENNA1"], radiometers["ANTENNA2"])
        np.testing.assert_allclose(radiometers["INTERVAL"], 1.152)
        for name in (
            "ANTENNA",
            "STATION",
            "EXECBLOCK",
            "SBSUMMARY",
            "RECEIVER",
            "ANNOTATION",
            "SOURCE",
            "CALWVR",
            "CALATMOSPHERE",
        ):
            assert (vis / f"ASDM_{name}" / "table.dat").exists(), name
        weather = table(vis / "WEATHER", ("TEMPERATURE", "PRESSURE"))
        assert abs(weather["TEMPERATURE"].mean() - 270) < 3 and abs(weather["PRESSURE"].mean() - 555) < 3

    def test_pointing_agrees_with_casas_own_measures(self, simulated: Callable[..., Path]) -> None:
        from pl_sim.casa import tool

        vis = simulated("alma-b6", copy=False)
        pointing = table(vis / "POINTING", ("TIME", "DIRECTION", "NAME"))
        fields = table(vis / "FIELD", ("NAME", "PHASE_DIR"))
        me, qa = tool("measures"), tool("quanta")
        for row in (0, len(pointing["TIME"]) - 1):
            number = list(fields["NAME"]).index(pointing["NAME"][row])
            ra, dec = fields["PHASE_DIR"][:, 0, number]
            me.doframe(me.epoch("UTC", qa.quantity(pointing["TIME"][row], "s")))
            place = table(vis / "ANTENNA", ("POSITION",))["POSITION"].mean(axis=1)
            me.doframe(me.position("ITRF", *(qa.quantity(v, "m") for v in place)))
            seen = me.measure(me.direction("ICRS", qa.quantity(ra, "rad"), qa.quantity(dec, "rad")), "AZELGEO")
            azimuth, elevation = pointing["DIRECTION"][:, 0, row]
            off = np.hypot(np.sin(azimuth - seen["m0"]["value"]) * np.cos(elevation), elevation - seen["m1"]["value"])
            assert np.degrees(off) * 3600 < 1.0

    def test_load_powers_give_the_tsys_that_is_in_syscal(self, simulated: Callable[..., Path]) -> None:
        """Two-load calibration from the raw autocorrelations: T_rx, then T_sys with the injected opacity."""
        from pl_sim.truth import Truth

        vis = simulated("alma-b6", copy=False)
        truth = Truth.load(vis)
        power = {}
        for state, mode in enumerate(table(vis / "STATE", ("OBS_MODE",))["OBS_MODE"]):
            rows = table(vis, ("DATA", "ANTENNA1"), f"SCAN_NUMBER==1 && DATA_DESC_ID==1 && STATE_ID=={state}")
            if rows["ANTENNA1"].size:
                load = mode.split(",")[0].split("#")[1]
                power[load] = np.array(
                    [rows["DATA"][0, :, rows["ANTENNA1"] == a].real.mean(axis=0) for a in range(len(truth.antennas))]
                )
        gain = (power["HOT"] - power["AMBIENT"]) / (350.0 - 290.0)
        receiver = power["AMBIENT"] / gain - 290.0
        record = truth.record["extensions"]["AlmaSystem"]
        measured = next(m for m in record["tsys_k"] if m["scan"] == 1 and m["spw"] == 1)
        attenuation = np.exp(-record["zenith_opacity"]["1"] / np.sin(np.radians(measured["elevation_deg"])))
        tsys = (power["OFF_SOURCE"] / gain).mean(axis=1) / (0.95 * attenuation)
        np.testing.assert_allclose(tsys, np.array(measured["mean_k"])[:, 0], rtol=0.03)
        assert 35 < np.median(receiver) < 70

    def test_noise_agrees_with_the_radiometer_equation(self, simulated: Callable[..., Path]) -> None:
        """Differences of successive integrations of the phase calibrator, times sqrt(Tsys Tsys): SEFD / (0.88
        sqrt(2 dnu t))."""
        from pl_sim.truth import Truth

        vis = simulated("alma-b3", copy=False)
        truth = Truth.load(vis)
        ratios = []
        for spw in (1, 5):
            rows = table(vis, ("DATA", "ANTENNA1", "ANTENNA2", "TIME"), f"SCAN_NUMBER==2 && DATA_DESC_ID=={spw}")
            one, two = rows["ANTENNA1"], rows["ANTENNA2"]
            data = rows["DATA"][0][10:118]
            # Neighbouring channels: the sky cancels, the noise does not.
            rms = np.diff(data, axis=0).real.std(axis=0) / np.sqrt(2)
            gain = np.abs(truth.array("gain")).mean(axis=0)[:, 0, spw]
            bandpass = np.abs(truth.array(f"bandpass_{spw}"))[:, 0, 10:118]
            response = np.sqrt((bandpass[one] ** 2 * bandpass[two] ** 2).mean(axis=1)) * gain[one] * gain[two]
            # In correlation coefficients the noise of a unit-gain baseline is 1 / (0.88 sqrt(2 dnu t)), in Jy/K
            # gains Gamma.
            expected = truth.record["extensions"]["AlmaSystem"]["jy_per_k"] * response
            expected /= 0.88 * np.sqrt(2 * 15.625e6 * 6.048)
            ratios.append(np.sqrt(np.mean(rms**2 / expected**2)))
        np.testing.assert_allclose(ratios, 1.0, atol=0.03)

    def test_the_same_seed_gives_the_same_bytes_and_another_only_other_noise(self, tmp_path: Path) -> None:
        from pl_sim.engine import simulate
        from pl_sim.presets import get_preset
        from pl_sim.truth import Truth

        observation = get_preset("alma-b3-mosaic").observations("tiny")[0]
        first, again, other = (
            simulate(observation, tmp_path / f"{name}.ms", seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        where = "DATA_DESC_ID in [0,1]"
        a, b, c = (table(p, ("TIME",), where) | data(p) for p in (first, again, other))
        assert a["DATA"].tobytes() == b["DATA"].tobytes() and a["WVR"].tobytes() == b["WVR"].tobytes()
        assert not np.array_equal(a["DATA"], c["DATA"]) and not np.array_equal(a["WVR"], c["WVR"])
        for name in ("gain", "path_m", "bandpass_1"):
            assert np.array_equal(Truth.load(first).array(name), Truth.load(other).array(name))


def data(path: Path) -> dict[str, np.ndarray]:
    return {
        "DATA": table(path, ("DATA",), "DATA_DESC_ID==1")["DATA"],
        "WVR": table(path, ("DATA",), "DATA_DESC_ID==0")["DATA"],
    }


# ---- faults, seen by numpy
def test_dead_wvr_reports_zeros_on_one_antenna() -> None:
    from pl_sim.faults import make_fault
    from pl_sim.presets import get_preset
    from pl_sim.schedule import timeline

    observation = get_preset("alma-b6").observations("tiny")[0]
    brightness = np.full((4, 10, 8), 150.0)
    entry = next(timeline(observation))
    make_fault("wrong-wvr", excess_k=0.0).change_radiometer(observation, entry, np.arange(10.0), brightness)  # type: ignore[attr-defined]
    assert np.all(brightness[:, :, 3] == 0) and np.all(np.delete(brightness, 3, axis=2) == 150.0)


@pytest.mark.casa
class TestFaults:
    """One set with four faults on four antennas: each is where it should be and nowhere else."""

    FAULTS = ("tsys-bad-channels=4", "tsys-outlier-antenna=3", "wrong-wvr=4", "pointing-offset=15,antenna:DA45")

    def pair(self, simulated: Callable[..., Path]) -> tuple[Path, Path]:
        return simulated("alma-b6", copy=False), simulated("alma-b6", faults=self.FAULTS, copy=False)

    def test_tsys_faults_are_in_their_spectra_and_nowhere_else(self, simulated: Callable[..., Path]) -> None:
        clean, bad = (syscal(path) for path in self.pair(simulated))
        expected = np.ones_like(bad["TSYS_SPECTRUM"])
        expected[:, 40:44, (bad["ANTENNA_ID"] == 1) & (bad["SPECTRAL_WINDOW_ID"] == 1)] = 4.0
        expected[..., bad["ANTENNA_ID"] == 2] = 3.0
        np.testing.assert_allclose(bad["TSYS_SPECTRUM"] / clean["TSYS_SPECTRUM"], expected, rtol=1e-5)

    def test_tsys_faults_leave_the_data_alone(self, simulated: Callable[..., Path]) -> None:
        where = "DATA_DESC_ID==3 && SCAN_NUMBER==2"
        one, two = (table(path, ("DATA",), where)["DATA"] for path in self.pair(simulated))
        assert np.array_equal(one, two)

    def test_wrong_wvr_fluctuates_in_one_antenna_only(self, simulated: Callable[..., Path]) -> None:
        clean, bad = (table(path, ("DATA", "ANTENNA1"), "DATA_DESC_ID==0") for path in self.pair(simulated))
        excess = (bad["DATA"] - clean["DATA"])[0].real
        victim = bad["ANTENNA1"] == 3
        assert np.all(excess[:, ~victim] == 0)
        # Smooth fluctuations of 4 K rms with periods of half a minute, seen for several minutes.
        assert 2.5 < excess[:, victim].std() < 5.5
        assert np.allclose(excess[0], excess[3], atol=1e-3)

    def test_pointing_offset_weakens_the_target_on_one_antenna(self, simulated: Callable[..., Path]) -> None:
        """15 arcsec off in a beam of 1.13 lambda/D = 25.3 arcsec at 230.5 GHz: 2^(-2 (15/25.3)^2) = 0.614 of the
        voltage."""
        paths = self.pair(simulated)
        clean, bad = (table(path, ("DATA", "ANTENNA1", "ANTENNA2", "STATE_ID"), "DATA_DESC_ID==9") for path in paths)
        modes = table(paths[0] / "STATE", ("OBS_MODE",))["OBS_MODE"]
        on_target = np.char.find(modes.astype(str), "OBSERVE_TARGET") >= 0
        victim = ((bad["ANTENNA1"] == 4) | (bad["ANTENNA2"] == 4)) & on_target[bad["STATE_ID"]]
        ratio = bad["DATA"] / clean["DATA"]
        np.testing.assert_allclose(ratio[..., ~victim], 1.0, rtol=1e-5)
        assert np.median(ratio[..., victim].real) == pytest.approx(0.614, rel=0.01)


def syscal(vis: Path) -> dict[str, np.ndarray]:
    return table(vis / "SYSCAL", ("TSYS_SPECTRUM", "ANTENNA_ID", "SPECTRAL_WINDOW_ID", "TIME"))


# ---- CASA alone
@pytest.mark.casa
def test_polarization_is_that_of_casas_own_parallactic_angle(tmp_path: Path) -> None:
    """Raw correlations over the injected gains, turned by applycal(parang=True): XX, XY, YX, YY = I + Q, U, U, I -
    Q."""
    import attrs

    from pl_sim.engine import simulate
    from pl_sim.presets import get_preset

    observation = get_preset("alma-b3-pol").observations("tiny")[0]
    still = attrs.evolve(observation.instrument, fluctuation_mm=0.0, leakage=0.0)
    vis = simulate(attrs.evolve(observation, instrument=still), tmp_path / "pol.ms")
    found = run_raw("raw_polarization.py", vis)
    for name in ("J1924-2914", "SimDisk"):
        component = observation.source(name).components[0]
        for spw in ("1", "3"):
            nu = observation.spws[int(spw)].centre_hz
            total, linear = float(component.flux(nu)), complex(component.linear_polarization(nu))
            expected = [total + linear.real, linear.imag, linear.imag, total - linear.real]
            got = np.array(found[name][spw])
            np.testing.assert_allclose(got[:, 0], expected, rtol=0.005, atol=0.004)  # noise of a mean: 0.0011 Jy
            np.testing.assert_allclose(got[:, 1], 0.0, atol=0.004)


def run_raw(script: str, vis: Path, *arguments: str) -> dict[str, Any]:
    """Run a reduction in a process of its own and read what it found."""
    result = vis.parent / "result.json"
    command = [sys.executable, str(HERE / script), str(vis), str(result), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.mark.casa
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "block"),
    [
        ("alma-b6", "mfs", 0), ("alma-b3", "mtmfs", 0), ("alma-b3-sessions", "mtmfs", 1),
        ("alma-b3-mosaic", "mosaic", 0), ("alma-7m-b6", "mfs", 0), ("alma-b3-pol", "mfs", 0),
    ],
)  # fmt: skip
def test_casa_alone_recovers_the_truth(simulated: Callable[..., Path], name: str, kind: str, block: int) -> None:
    found = run_raw("raw_alma.py", simulated(name, block=block), kind)
    assert found["tsys_worst"] < 0.01
    if name != "alma-7m-b6":  # no radiometers
        assert found["wvr_removed"] > 0.8
    assert np.allclose(found["fluxes"]["J1832-2039"], 1.0, atol=0.01)
    assert max(found["gain_errors"]) < 1.5
    assert np.allclose(found["target_over_model"], 1.0, atol=0.02)
    for component in found["components"].values():
        assert component["offset_beams"] < 0.1
        assert abs(component["flux_ratio"] - 1) < 0.05
        assert abs(component.get("alpha_error", 0.0)) < 0.1
