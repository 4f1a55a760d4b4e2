"""Single-dish presets (ALMA total power, Nobeyama) and faults: geometry and spectra by numpy, maps by CASA alone."""

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

from pl_sim.singledish import BaselineShape, LineCloud, Raster

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
def test_cloud_seen_by_a_beam_is_the_numerical_convolution() -> None:
    cloud = LineCloud(230.538e9, peak_k=3.0, fwhm=30.0, velocity=10.0, width=6.0, gradient=0.08, x=5.0, y=-4.0)
    beam, step = 26.0, 1.0
    axis = np.arange(-120, 121) * step
    x, y = np.meshgrid(axis, axis, indexing="ij")
    velocity = np.linspace(0, 20, 41)
    sigma, line = 30.0 / 2.354820045, 6.0 / 2.354820045
    bare = 3.0 * np.exp(-((x - 5.0) ** 2 + (y + 4.0) ** 2) / (2 * sigma**2))
    bare = bare[..., None] * np.exp(-((velocity - 10.0 - 0.08 * (x - 5.0)[..., None]) ** 2) / (2 * line**2))
    for east, north in ((5.0, -4.0), (20.0, 10.0), (-25.0, 0.0)):
        weight = np.exp(-((x - east) ** 2 + (y - north) ** 2) / (2 * (beam / 2.354820045) ** 2))
        expected = (bare * weight[..., None]).sum(axis=(0, 1)) / weight.sum()
        got = cloud.spectrum_k(np.array([east]), np.array([north]), velocity, beam)[0]
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_map_integral_of_a_hand_calculation() -> None:
    """4 K x 20 km/s x 1.06447 x 45^2 arcsec^2 x 1.13309 = 195,394 K km/s arcsec^2."""
    assert LineCloud(1e11, 4.0, 45.0, 30.0, 20.0).map_integral() == pytest.approx(195394, rel=1e-4)


def test_raster_is_swept_back_and_forth_and_turned_for_the_next_map() -> None:
    raster = Raster(100.0, 60.0, samples=10, rows=3, off=(500.0, 0.0), maps=2)
    np.testing.assert_allclose(raster.track(0, 0), [(-50, -30), (50, -30)], atol=1e-9)
    np.testing.assert_allclose(raster.track(1, 0), [(50, 0), (-50, 0)], atol=1e-9)
    np.testing.assert_allclose(raster.track(2, 1), [(-30, -50), (-30, 50)], atol=1e-9)
    scan = raster.scan(2, 0, (4,), 0.5, "A", "A_OFF_0", ("ON",), ("OFF",))
    assert [s.kind for s in scan.subscans] == ["off", "on", "off", "on", "off", "on", "off"]


def test_baseline_has_the_asked_for_rms() -> None:
    shape = BaselineShape(polynomial_k=(0.0, 0.5), ripple_k=0.0).draw(np.random.default_rng(0), 4000, 64)
    assert shape[:, -1].std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(shape[:, 31] + shape[:, 32], 0.0, atol=1e-12)


# ---- tables
@pytest.mark.casa
class TestTotalPower:
    def test_a_set_looks_like_one_of_the_archive(self, simulated: Callable[..., Path]) -> None:
        vis = simulated("alma-tp-b6", copy=False)
        assert list(table(vis / "ANTENNA", ("NAME",))["NAME"]) == ["PM01", "PM02"]
        assert list(table(vis / "FIELD", ("NAME",))["NAME"]) == ["SimLine", "SimLine_OFF_0"]
        modes = set(table(vis / "STATE", ("OBS_MODE",))["OBS_MODE"])
        assert {"OBSERVE_TARGET#ON_SOURCE", "OBSERVE_TARGET#OFF_SOURCE"} <= modes
        rows = table(vis, ("ANTENNA1", "ANTENNA2"))
        assert np.array_equal(rows["ANTENNA1"], rows["ANTENNA2"])
        assert table(vis / "SYSCAL", ("TSYS_SPECTRUM",))["TSYS_SPECTRUM"].shape[:2] == (2, 128)

    def test_pointing_follows_the_raster(self, simulated: Callable[..., Path]) -> None:
        """AZELGEO directions, turned back to ICRS with CASA's measures, lie on the raster to 0.5 arcsec."""
        from pl_sim.casa import tool

        vis = simulated("alma-tp-b6", copy=False)
        pointing = table(vis / "POINTING", ("TIME", "DIRECTION", "ANTENNA_ID"))
        rows = table(vis, ("TIME", "SCAN_NUMBER"), "FIELD_ID==0 && ANTENNA1==0 && DATA_DESC_ID==4")
        place = table(vis / "ANTENNA", ("POSITION",))["POSITION"][:, 0]
        centre = table(vis / "FIELD", ("PHASE_DIR",))["PHASE_DIR"][:, 0, 0]
        me, qa = tool("measures"), tool("quanta")
        me.doframe(me.position("ITRF", *(qa.quantity(v, "m") for v in place)))
        # First row of the tiny raster: 28 samples over 150 arcsec at -75 arcsec, swept eastwards.
        for sample in (0, 13, 27):
            time = rows["TIME"][sample]
            here = (pointing["ANTENNA_ID"] == 0) & (np.abs(pointing["TIME"] - time) < 1e-3)
            azimuth, elevation = pointing["DIRECTION"][:, 0, here][:, 0]
            me.doframe(me.epoch("UTC", qa.quantity(time, "s")))
            seen = me.measure(
                me.direction("AZELGEO", qa.quantity(azimuth, "rad"), qa.quantity(elevation, "rad")), "ICRS"
            )
            east = (seen["m0"]["value"] - centre[0] + np.pi) % (2 * np.pi) - np.pi
            offset = np.degrees([east * np.cos(centre[1]), seen["m1"]["value"] - centre[1]]) * 3600
            np.testing.assert_allclose(offset, [-75 + 150 * (sample + 0.5) / 28, -75.0], atol=0.5)


@pytest.mark.casa
class TestNobeyama:
    def test_a_set_looks_as_importnro_leaves_it(self, simulated: Callable[..., Path]) -> None:
        vis = simulated("nobeyama", copy=False)
        assert list(table(vis / "ANTENNA", ("NAME",))["NAME"]) == [f"NRO-BEAM{k}" for k in range(4)]
        assert set(table(vis / "ANTENNA", ("DISH_DIAMETER",))["DISH_DIAMETER"]) == {45.0}
        assert len(table(vis / "FIELD", ("NAME",))["NAME"]) == 1
        modes = set(table(vis / "STATE", ("OBS_MODE",))["OBS_MODE"])
        assert modes == {"OBSERVE_TARGET#ON_SOURCE,POSITION_SWITCH", "OBSERVE_TARGET#OFF_SOURCE,POSITION_SWITCH"}
        assert set(table(vis / "SPECTRAL_WINDOW", ("MEAS_FREQ_REF",))["MEAS_FREQ_REF"]) == {1}  # LSRK
        main = table(vis, ("TIME",), "DATA_DESC_ID==0 && ANTENNA1==0")
        tsys = table(vis / "SYSCAL", ("TSYS", "TIME"), "SPECTRAL_WINDOW_ID==0 && ANTENNA_ID==0")
        assert tsys["TSYS"].shape == (2, len(main["TIME"]))
        assert np.array_equal(np.sort(tsys["TIME"]), np.sort(main["TIME"]))

    def test_beams_look_where_forest_has_them(self, simulated: Callable[..., Path]) -> None:
        vis = simulated("nobeyama", copy=False)
        pointing = table(vis / "POINTING", ("TIME", "DIRECTION", "ANTENNA_ID"))
        on = table(vis, ("TIME", "STATE_ID"), "DATA_DESC_ID==0 && ANTENNA1==0")
        on_state = list(table(vis / "STATE", ("OBS_MODE",))["OBS_MODE"]).index(
            "OBSERVE_TARGET#ON_SOURCE,POSITION_SWITCH"
        )
        time = on["TIME"][on["STATE_ID"] == on_state][0]
        now = np.abs(pointing["TIME"] - time) < 1e-3
        order = np.argsort(pointing["ANTENNA_ID"][now])
        ra, dec = pointing["DIRECTION"][:, 0, now][:, order]
        east = np.degrees(ra - ra.mean()) * 3600 * np.cos(dec.mean())
        north = np.degrees(dec - dec.mean()) * 3600
        np.testing.assert_allclose(np.stack([east, north], -1), [(-25, -25), (25, -25), (25, 25), (-25, 25)], atol=0.1)


# ---- faults, seen by numpy
def calibrated(vis: Path, spw: int, antenna: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ON - mean OFF) / mean OFF of the first polarization [channel, time], times, and the OFF spectrum, by numpy
    alone."""
    modes = table(vis / "STATE", ("OBS_MODE",))["OBS_MODE"]
    rows = table(vis, ("FLOAT_DATA", "STATE_ID", "TIME"), f"DATA_DESC_ID=={spw} && ANTENNA1=={antenna}")
    off = np.char.find(modes.astype(str), "OFF_SOURCE") >= 0
    is_off = off[rows["STATE_ID"]]
    spectra = rows["FLOAT_DATA"][0]
    blank = spectra[:, is_off].mean(axis=1)
    return spectra[:, ~is_off] / blank[:, None] - 1, rows["TIME"][~is_off], blank


@pytest.mark.casa
class TestFaults:
    SPW = 4

    SPECTRA = ("baseline-ripple=3", "pointing-outlier=0.5", "tsys-outlier-antenna=2.5")
    """Three faults that do not touch the same numbers."""

    def pair(self, simulated: Callable[..., Path], *faults: str) -> tuple[Path, Path]:
        return simulated("alma-tp-b6", copy=False), simulated("alma-tp-b6", faults=faults, copy=False)

    def test_baseline_ripple_is_in_one_antenna(self, simulated: Callable[..., Path]) -> None:
        clean, bad = self.pair(simulated, *self.SPECTRA)
        for antenna, expected in ((0, False), (1, True)):
            before, _, _ = calibrated(clean, self.SPW, antenna)
            after, _, _ = calibrated(bad, self.SPW, antenna)
            power = np.abs(np.fft.rfft(after - before, axis=0)).mean(axis=1)
            assert (power[5] > 50 * np.median(power[20:])) == expected
            if not expected:
                np.testing.assert_allclose(after, before, atol=1e-6)

    def test_line_in_off_makes_a_dip_where_the_map_is_empty(self, simulated: Callable[..., Path]) -> None:
        clean, bad = self.pair(simulated, "line-in-off=0.4")
        for antenna in (0, 1):
            before, _, _ = calibrated(clean, self.SPW, antenna)
            after, _, _ = calibrated(bad, self.SPW, antenna)
            # The first two rows of the raster are 70 arcsec from the cloud of 41 arcsec.
            dip = (after - before)[:, :56].mean(axis=1)
            channels = len(dip)
            assert np.argmin(dip) == pytest.approx(channels / 2, abs=3)
            # 0.4 x 10 K of about 100 K system temperature.
            assert -0.06 < dip.min() < -0.025
            assert np.abs(dip[: channels // 4]).max() < 0.002

    def test_pointing_offset_moves_the_cloud_of_one_antenna(self, simulated: Callable[..., Path]) -> None:
        clean, bad = self.pair(simulated, "pointing-offset=east:12,north:-5")
        for antenna, shift in ((0, (0.0, 0.0)), (1, (-12.0, 5.0))):
            places = []
            for vis in (clean, bad):
                spectra, times, _ = calibrated(vis, self.SPW, antenna)
                channels = len(spectra)
                line = slice(channels // 2 - 12, channels // 2 + 12)
                strength = spectra[line].mean(axis=0) - spectra[: channels // 4].mean(axis=0)
                places.append(centroid(vis, times, strength))
            np.testing.assert_allclose(np.subtract(places[1], places[0]), shift, atol=1.5)

    def test_pointing_outlier_is_one_row_of_one_antenna(self, simulated: Callable[..., Path]) -> None:
        clean, bad = (
            table(p / "POINTING", ("DIRECTION", "ANTENNA_ID", "TIME")) for p in self.pair(simulated, *self.SPECTRA)
        )
        moved = np.degrees(bad["DIRECTION"][1, 0] - clean["DIRECTION"][1, 0])
        hit = moved != 0
        np.testing.assert_allclose(moved[hit], 0.5, atol=1e-9)
        assert hit.sum() == 28 and set(bad["ANTENNA_ID"][hit]) == {0}
        assert np.ptp(bad["TIME"][hit]) == pytest.approx(27 * 0.576, abs=1e-3)

    def test_tsys_outlier_reaches_total_power(self, simulated: Callable[..., Path]) -> None:
        clean, bad = (table(p / "SYSCAL", ("TSYS_SPECTRUM", "ANTENNA_ID")) for p in self.pair(simulated, *self.SPECTRA))
        ratio = bad["TSYS_SPECTRUM"] / clean["TSYS_SPECTRUM"]
        np.testing.assert_allclose(ratio[..., bad["ANTENNA_ID"] == 1], 2.5, rtol=1e-5)
        np.testing.assert_allclose(ratio[..., bad["ANTENNA_ID"] == 0], 1.0, rtol=1e-5)


def test_tsys_outlier_reaches_the_records_of_nobeyama() -> None:
    from pl_sim.faults import make_fault
    from pl_sim.presets import get_preset

    tsys = np.full((4, 2, 2), 200.0)
    fault = make_fault("tsys-outlier-antenna", factor=2.5, antenna="NRO-BEAM1")
    fault.change_record_tsys(get_preset("nobeyama").observations("tiny")[0], tsys)  # type: ignore[attr-defined]
    assert np.all(tsys[1] == 500.0) and np.all(np.delete(tsys, 1, axis=0) == 200.0)


def centroid(vis: Path, times: np.ndarray, strength: np.ndarray) -> tuple[float, float]:
    """Centroid (east, north; arcsec) of what is bright, at the positions of the tiny raster: 15 rows of 28
    samples."""
    row, sample = np.divmod(np.arange(len(times)), 28)
    along = -75 + 150 * (sample + 0.5) / 28
    east, north = np.where(row % 2 == 0, along, -along), -75 + 150 * row / 14
    weight = np.where(strength > 0.25 * strength.max(), strength, 0.0)
    return float((weight * east).sum() / weight.sum()), float((weight * north).sum() / weight.sum())


# ---- CASA alone
@pytest.mark.casa
@pytest.mark.slow
@pytest.mark.parametrize("name", ["alma-tp-b6", "nobeyama"])
def test_casa_alone_recovers_the_truth(simulated: Callable[..., Path], name: str) -> None:
    vis = simulated(name)
    result = vis.parent / "result.json"
    command = [sys.executable, str(HERE / "raw_singledish.py"), str(vis), str(result)]
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.read_text())
    assert found["tsys_worst"] < 0.01
    assert len(found["lines"]) == 2
    for line in found["lines"]:
        assert abs(line["integral_ratio"] - 1) < 0.03
        assert abs(line["velocity_error_channels"]) < 0.2
        assert line["offset_beams"] < 0.1
        assert abs(line["width_ratio"] - 1) < 0.05
        assert abs(line["noise_ratio"] - 1) < 0.03


class TestFaultsOfMaps:
    """What faults make of an observation, without recording it."""

    @staticmethod
    def changed(fault: str) -> tuple[Any, Any]:
        from pl_sim.faults import parse_fault
        from pl_sim.presets import tp

        made = parse_fault(fault)
        return made, made.change_observation(tp.total_power("tiny"))

    def test_wide_lines_are_a_share_of_the_window(self) -> None:
        """256 channels of 488.28 kHz at 230.5 GHz are 162.6 km/s; those at 220.4 GHz are wider."""
        _, made = self.changed("wide-line=share:0.5")
        (dish,) = (e for e in made.extensions if hasattr(e, "clouds"))
        assert [c.width for c in dish.clouds] == pytest.approx([81.3, 81.3], rel=1e-3)

    def test_a_line_at_the_edge_keeps_its_width(self) -> None:
        _, made = self.changed("line-at-edge=place:-1.0")
        (dish,) = (e for e in made.extensions if hasattr(e, "clouds"))
        assert [c.velocity for c in dish.clouds] == pytest.approx([30 - 81.3] * 2, rel=1e-3)
        assert {c.width for c in dish.clouds} == {12.0}

    def test_outliers_are_the_share_that_was_asked_for(self) -> None:
        """28 x 15 positions, two antennas: 840 spectra, of which 10 % are hit; each is a region of one moment."""
        made, observation = self.changed("outlier-spectra=share:0.1")
        regions = made.regions(observation)
        assert len(regions) == pytest.approx(84, abs=4 * 84**0.5)
        assert all(r.times[0] == r.times[1] and len(r.antennas) == 1 for r in regions)

    def test_a_sky_line_is_in_the_window_and_the_off_at_another_elevation(self) -> None:
        _, observation = self.changed("telluric-line=3")
        window = [w for w in observation.spws if w.role == "science" and w.bbc_no == 1][-1]
        assert window.centre_hz == pytest.approx(239.013e9, abs=1e6)
        assert observation.instrument.site.profile == 3
        target, off = observation.fields
        assert (off.ra_deg - target.ra_deg) * np.cos(np.radians(target.dec_deg)) == pytest.approx(3.0, rel=1e-6)
        assert off.dec_deg == target.dec_deg

    @pytest.mark.parametrize("fault", ["baseline-ripple", "line-in-off", "wide-line", "line-at-edge",
                                       "outlier-spectra", "pointing-outlier", "telluric-line"])  # fmt: skip
    def test_interferometers_have_none_of_them(self, fault: str) -> None:
        from pl_sim.errors import UnknownFault
        from pl_sim.faults import parse_fault
        from pl_sim.presets import get_preset

        observation = get_preset("alma-7m-b6").observations("tiny")[0]
        with pytest.raises(UnknownFault, match="single-dish maps"):
            parse_fault(fault).change_observation(observation)

    def test_the_antenna_of_a_fault_is_named(self) -> None:
        made, observation = self.changed("baseline-ripple=antenna:PM01")
        assert made.truth(observation)["antenna"] == "PM01"
        usual, observation = self.changed("baseline-ripple")
        assert usual.truth(observation) == {"kelvin": 2.0, "cycles": 5.0, "antenna": "PM02"}
