"""The calibration of simulated VLA data against what was injected.

One clean observation and one with faults are reduced from import to final tables; every test looks at these two runs.
C band, 8 antennas, a baseband of four windows and one of two, 32 channels each.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import numpy as np
import pytest

pl_sim = pytest.importorskip("pl_sim")
pytestmark = [pytest.mark.casa, pytest.mark.slow]

SPWS = 6
INNER = slice(4, 28)
STAGES = (
    "hifv_importdata", "hifv_flagdata", "hifv_vlasetjy", "hifv_priorcals", "hifv_testBPdcals", "hifv_semiFinalBPdcals",
    "hifv_solint", "hifv_fluxboot", "hifv_finalcals",
)  # fmt: skip
OURS = STAGES[4:]
C_M_S = 299_792_458.0


def observation():
    from pl_sim.presets import vla

    size = vla.Size(8, 4, 32, 5.0, 80, 20, 45, 20, 2)
    spws = vla.spectral_windows("C", {"A0C0": 4.488e9}, 4, size.channels)
    spws += vla.spectral_windows("C", {"B0D0": 5.488e9}, 2, size.channels, first=4)
    flux, target = vla.FLUX_CALIBRATORS["3C286"], vla.target_field(5e9, 12.0, False)
    scans = vla.standard_scans(size, flux, vla.J1407, vla.J1310, target, tuple(range(len(spws))))
    made = vla.observation(
        "vla-test", "tiny", "D", spws, (flux, vla.J1407, vla.J1310, target), scans, "2024-01-10T11:10:00"
    )
    # Everybody is on source in time: late antennas are a matter of flags from the observatory.
    late = [e for e in made.extensions if type(e).__name__ != "LateAntenna"]
    return attrs.evolve(made, extensions=tuple(late))


@attrs.frozen
class Reduction:
    """A run folder and the truth of its data."""

    root: Path
    truth: object

    def result(self, stage: str) -> dict:
        return self._json(stage, "result.json")

    def scores(self, stage: str) -> list[dict]:
        return self._json(stage, "qa.json")["scores"]

    def _json(self, stage: str, name: str) -> dict:
        (folder,) = self.root.glob(f"stages/*-{stage}")
        return json.loads((folder / name).read_text())

    def solutions(self, kind: str, spw: int) -> dict[str, np.ndarray]:
        """Rows of a final table: time, antenna, values (row, pol, channel), flags."""
        from pl_sim.casa import open_table

        (tables,) = self.result("hifv_finalcals")["tables"].values()
        with open_table(self.root / "work" / tables[kind]) as table:
            part = table.query(f"SPECTRAL_WINDOW_ID=={spw}")
            column = "FPARAM" if "FPARAM" in part.colnames() else "CPARAM"
            found = {
                "time": part.getcol("TIME"), "antenna": part.getcol("ANTENNA1"), "field": part.getcol("FIELD_ID"),
                "value": part.getcol(column).transpose(2, 0, 1), "flag": part.getcol("FLAG").transpose(2, 0, 1),
            }  # fmt: skip
            part.close()
        return found

    @property
    def refant(self) -> int:
        (names,) = self.result("hifv_finalcals")["refants"].values()
        return self.truth.antennas.index(names[0])


def reduce(tmp: Path, name: str, faults: tuple = ()) -> Reduction:
    from pl_kernel.session import Session
    from pl_sim.engine import simulate
    from pl_sim.truth import Truth

    data = tmp / f"{name}.ms"
    simulate(observation(), data, seed=5, faults=faults)
    write_tec_map(tmp / f"{name}.ms.IGS_TEC.im")
    with Session.create(tmp / name) as session:
        for stage in STAGES:
            session.run_stage(stage, **({"vis": [str(data)]} if stage == "hifv_importdata" else {}))
    return Reduction(tmp / name, Truth.load(data))


def write_tec_map(path: Path) -> None:
    """A map of the ionosphere as CASA's tec_maps writes it, two-hourly for the day of the observation.

    Electron content: 30 TECU + 0.05 per degree of longitude + 0.1 per degree of latitude + 0.5 per hour.
    """
    from pl_sim.casa import tool

    longitude, latitude, hours = -180 + 5.0 * np.arange(73), 87.5 - 2.5 * np.arange(71), 2.0 * np.arange(13)
    image, system = tool("image"), tool("coordsys")
    axes = system.newcoordsys(linear=3)
    axes.setunits(type="linear", value="deg deg s", overwrite=True)
    axes.setreferencevalue([-180.0, 87.5, 60319 * 86400.0])  # 2024-01-10
    axes.setincrement(type="linear", value=[5.0, -2.5, 7200.0])
    tecu = 30 + 0.05 * longitude[:, None, None] + 0.1 * latitude[:, None] + 0.5 * hours
    image.fromarray(outfile=str(path), pixels=tecu, csys=axes.torecord(), overwrite=True)
    for one in (image, system, axes):
        one.done()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Reduction:
    return reduce(tmp_path_factory.mktemp("vla"), "clean")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Reduction:
    from pl_sim.faults import make_fault

    names = observation().array.names
    faults = (
        make_fault("dead-antenna", antenna=names[1]),
        make_fault("bad-deformatter", antenna=names[5], baseband="A0C0"),
        make_fault("phase-jump", antenna=names[2], scan=6),
    )
    return reduce(tmp_path_factory.mktemp("vla"), "faulty", faults)


def antenna_error(run: Reduction, spw: int, field: str, channels: int, integrations: int) -> float:
    """Thermal error (1 sigma, relative) of one antenna's gain: sigma of a visibility / (S · √(antennas − 1))."""
    truth = run.truth
    frequency = truth.frequency_hz(spw)
    sigma = float(truth.thermal_jy(spw).mean()) / np.sqrt(channels * integrations)
    return sigma / truth.flux_jy(field, float(frequency.mean())) / np.sqrt(len(truth.antennas) - 1)


def field_name(run: Reduction, text: str) -> str:
    return next(n for n in run.truth.fields if text in n)


# ---- clean data ------------------------------------------------------------------------------------------------------


def test_delay_and_bandpass_together_are_within_twice_the_thermal_error(clean: Reduction) -> None:
    # A slope of phase can go into either table; what is applied to the data is their product.
    truth, flux = clean.truth, field_name(clean, "3C286")
    for spw in range(SPWS):
        nu = truth.frequency_hz(spw)
        bandpass, delay = clean.solutions("bandpass", spw), clean.solutions("delay", spw)
        slope = np.exp(2j * np.pi * truth.array("delay_s")[:, :, spw, None] * (nu - nu[0]))
        injected = truth.array(f"bandpass_{spw}") * slope
        injected = injected * np.exp(-1j * np.angle(injected[clean.refant]))
        residuals = []
        for row, antenna in enumerate(bandpass["antenna"]):
            (own,) = np.flatnonzero(delay["antenna"] == antenna)
            turn = np.exp(2j * np.pi * 1e-9 * delay["value"][own, :, 0][:, None] * (nu - nu[0]))
            ratio = (bandpass["value"][row] * turn / injected[antenna])[:, INNER]
            residuals.append(ratio / ratio.mean(axis=1, keepdims=True) - 1)
        # Amplitude and phase of the antenna and phase of the reference: three independent errors. 14 integrations.
        expected = np.sqrt(3) * antenna_error(clean, spw, flux, 1, 14)
        assert np.sqrt(np.mean(np.abs(np.array(residuals)) ** 2)) < 2 * expected


def test_delays_are_the_injected_ones(clean: Reduction) -> None:
    # The slope of the product over the inner channels is the delay: 1/(2 pi B_rms) of the phase error.
    truth, flux = clean.truth, field_name(clean, "3C286")
    for spw in range(SPWS):
        nu = truth.frequency_hz(spw)
        bandpass, delay = clean.solutions("bandpass", spw), clean.solutions("delay", spw)
        shape = truth.array(f"bandpass_{spw}")
        shape = shape * np.exp(-1j * np.angle(shape[clean.refant]))
        expected_ns = truth.delay_ns(spw, truth.antennas[clean.refant])
        off = []
        for row, antenna in enumerate(bandpass["antenna"]):
            (own,) = np.flatnonzero(delay["antenna"] == antenna)
            for pol in range(2):
                phase = np.unwrap(np.angle(bandpass["value"][row, pol, INNER] / shape[antenna, pol, INNER]))
                rest_ns = np.polyfit(nu[INNER], phase, 1)[0] / (2 * np.pi) * 1e9
                off.append(delay["value"][own, pol, 0] + rest_ns - expected_ns[antenna, pol])
        error = antenna_error(clean, spw, flux, 24, 14) * np.sqrt(2)
        expected = 1e9 * error / (2 * np.pi * np.std(nu[INNER]))
        assert np.sqrt(np.mean(np.square(off))) < 2 * expected


def test_short_phases_follow_the_injected_ones(clean: Reduction) -> None:
    truth = clean.truth
    times, path = truth.array("times"), truth.array("path_m")
    names = list(truth.fields)
    for spw in range(SPWS):
        found = clean.solutions("short_phase", spw)
        nu = float(truth.frequency_hz(spw).mean())
        injected = np.angle(truth.array("gain")[:, :, :, spw]) - 2 * np.pi * path[:, :, None] * nu / C_M_S
        injected = injected - injected[:, [clean.refant]]
        scaled = []
        for antenna in set(found["antenna"].tolist()) - {clean.refant}:
            for pol in range(2):
                rows = np.flatnonzero((found["antenna"] == antenna) & ~found["flag"][:, pol, 0])
                at = np.abs(times[None] - found["time"][rows, None]).argmin(axis=1)
                off = np.exp(1j * (np.angle(found["value"][rows, pol, 0]) - injected[at, antenna, pol]))
                # Leakage of polarized flux, which nobody calibrates here, adds a constant of its own to each source.
                for field in set(found["field"][rows].tolist()):
                    mine = off[found["field"][rows] == field]
                    error = np.sqrt(2) * antenna_error(clean, spw, names[field], 30, 1)
                    scaled += (np.angle(mine / mine.mean()) / error).tolist()
        assert np.sqrt(np.mean(np.square(scaled))) < 2.0


def test_amplitudes_follow_the_injected_ones(clean: Reduction) -> None:
    truth, phase = clean.truth, field_name(clean, "J1310")
    number = list(truth.fields).index(phase)
    times = truth.array("times")
    for spw in range(SPWS):
        found = clean.solutions("amplitude", spw)
        scaled = []
        for antenna in set(found["antenna"].tolist()):
            for pol in range(2):
                rows = np.flatnonzero(
                    (found["antenna"] == antenna) & (found["field"] == number) & ~found["flag"][:, pol, 0]
                )
                gain = np.abs(truth.array("gain")[:, antenna, pol, spw] * truth.array("transmission")[:, antenna, spw])
                at = np.abs(times[None] - found["time"][rows, None]).argmin(axis=1)
                ratio = np.abs(found["value"][rows, pol, 0]) / gain[at]
                scaled += (ratio / ratio.mean() - 1).tolist()
        # 45 s scans: 7 to 9 integrations. Opacity and gain curve are taken out of the solutions before; over the 5
        # minutes between these scans they change by less than the thermal error.
        assert np.sqrt(np.mean(np.square(scaled))) < 2 * antenna_error(clean, spw, phase, 30, 8)


def test_flux_densities_and_spectral_indices_are_the_injected_ones(clean: Reduction) -> None:
    spectra = {s["field"]: s for s in clean.result("hifv_fluxboot")["spectra"]}
    assert set(spectra) == {"J1407+2827", "J1310+3220"}
    for name, index in (("J1407+2827", -0.1), ("J1310+3220", -0.3)):  # as in the preset's sources
        fit = spectra[name]["fit"]
        injected = clean.truth.flux_jy(name, fit["reference_hz"])
        assert 10 ** fit["coefficients"][0] == pytest.approx(injected, rel=0.02)
        assert fit["coefficients"][1] == pytest.approx(index, abs=0.05)


def test_clean_data_score_well_in_every_stage(clean: Reduction) -> None:
    for stage in OURS:
        low = [(s["metric"], s["score"], s["long"]) for s in clean.scores(stage) if not s["score"] >= 0.9]
        assert not low


def test_pages_are_complete(clean: Reduction) -> None:
    for stage in STAGES[1:]:
        page = clean._json(stage, "page.json")
        assert not page["failures"]
        groups = [b for s in page["sections"] for b in s["blocks"] if b["type"] == "plots"]
        assert groups
        assert not [b["failed"] for b in groups if b["failed"]]


def test_all_priors_are_made_and_those_asked_for_are_applied(clean: Reduction) -> None:
    priors = clean.result("hifv_priorcals")["priors"]
    assert [p["kind"] for p in priors if p["caltable"]] == ["gceff", "opac", "rq", "swpow"]
    assert [p["kind"] for p in priors if p["registered"]] == ["gceff", "opac", "rq"]
    for one in priors:
        assert not one["caltable"] or (clean.root / "work" / one["caltable"]).is_dir()


def test_opacities_lie_on_the_curve_that_the_page_shows(clean: Reduction) -> None:
    result = clean.result("hifv_priorcals")
    (curve,) = result["curves"]
    model = np.add(curve["dry"], curve["wet"])
    for one in result["opacities"]:
        assert np.interp(one["frequency_hz"], curve["frequency_hz"], model) == pytest.approx(one["tau"], rel=0.01)


def test_the_electron_content_over_the_array_is_read_from_the_map(clean: Reduction) -> None:
    (above,) = clean.result("hifv_priorcals")["ionosphere"]
    # At 107.62° west, 34.08° north; the observation begins at 11:10 and lasts minutes.
    at_site = 30 - 0.05 * 107.62 + 0.1 * 34.08
    assert above["tecu"] == pytest.approx([at_site + k for k in range(13)], abs=0.01)
    assert 11.1 < (above["begin_s"] - above["time_s"][0]) / 3600 < 11.25
    page = clean._json("hifv_priorcals", "page.json")
    drawn = [b for s in page["sections"] for b in s["blocks"] if b["type"] == "plots"]
    assert {"zenithopacity", "tec"} <= {b["name"] for b in drawn}
    assert not [b["failed"] for b in drawn if b["failed"]]


def test_final_tables_are_registered_in_order_after_the_priors(clean: Reduction) -> None:
    from pl_kernel.session import Session

    with Session.open(clean.root) as session:
        (ms,) = session.context.measurement_sets
        (group,) = session.context.calibration.merged(ms)
        arguments = group.arguments
    kinds = ["2_finaldelay", "4_finalBPcal", "5_averagephasegain", "7_finalampgaincal", "8_finalphasegaincal"]
    assert [k for t in arguments.gaintable for k in kinds if k in t] == kinds
    assert "hifv_priorcals" in arguments.gaintable[0]
    assert arguments.interp[-4] == "linear,linearflag"
    assert not any(arguments.calwt)


def test_intervals_fit_the_schedule(clean: Reduction) -> None:
    # Phase scans of 45 s: 1.01 · 45 = 45.45 → 50 s. The calibrators are strong: one integration of 5 s is enough.
    (band,) = clean.result("hifv_solint")["bands"]
    assert band["long"]["seconds"] == 50.0
    assert band["short"]["seconds"] == 5.0
    assert band["short"]["solint"] == "int"


def test_repeating_fluxboot_changes_nothing(clean: Reduction) -> None:
    # The spectra of the first time are models by now, and must not be mistaken for the 1 Jy that fluxscale expects.
    from pl_kernel.session import Session

    before = clean.result("hifv_fluxboot")["points"]
    with Session.open(clean.root) as session:
        number = session.run_stage("hifv_fluxboot").number
    (folder,) = clean.root.glob(f"stages/{number:03d}-*")
    after = json.loads((folder / "result.json").read_text())["points"]
    assert [p["flux_jy"] for p in after] == pytest.approx([p["flux_jy"] for p in before], rel=1e-3)


# ---- faults ----------------------------------------------------------------------------------------------------------


def complaints(run: Reduction, stage: str, metric: str) -> list[dict]:
    return [s for s in run.scores(stage) if s["metric"] == metric and s["score"] < 0.9]


def test_a_dead_antenna_is_named(faulty: Reduction) -> None:
    dead = faulty.truth.faults["dead-antenna"]["antenna"]
    for stage in ("hifv_testBPdcals", "hifv_semiFinalBPdcals", "hifv_finalcals"):
        found = complaints(faulty, stage, "calibration.lost_antenna")
        assert dead in [a for s in found for a in s["applies_to"]["antenna"]]
        assert any(dead in s["long"] for s in found)


def test_a_bad_deformatter_is_named_and_flagged_in_its_hand(faulty: Reduction) -> None:
    truth = faulty.truth.faults["bad-deformatter"]
    found = [s for m in ("deformatter.antennas", "deformatter.found") for s in
             complaints(faulty, "hifv_testBPdcals", m)]  # fmt: skip
    assert any(truth["antenna"] in s["long"] and "A0C0" in s["long"] for s in found)
    (band,) = faulty.result("hifv_testBPdcals")["bands"]
    bad = [b for b in band["bad"] if b["antenna"] == truth["antenna"]]
    assert bad
    assert {tuple(b["correlations"]) for b in bad} == {("LL",)}
    assert {b["baseband"] for b in band["bad"]} == {"A0C0"}
    assert {b["antenna"] for b in band["bad"]} == {truth["antenna"]}
    assert band["rejected"] == []


def test_the_data_of_the_bad_deformatter_are_flagged_and_its_other_hand_is_not(faulty: Reduction) -> None:
    from pl_sim.casa import open_table

    truth = faulty.truth.faults["bad-deformatter"]
    number = faulty.truth.antennas.index(truth["antenna"])
    (path,) = (faulty.root / "work").glob("faulty.ms")
    with open_table(path) as table:
        rows = table.query(f"DATA_DESC_ID=={truth['spws'][0]} && ANTENNA1=={number} && ANTENNA2!={number}"
                           " && SCAN_NUMBER==2")  # fmt: skip
        flag = rows.getcol("FLAG")
        dead = rows.getcol("ANTENNA2") == faulty.truth.antennas.index(faulty.truth.faults["dead-antenna"]["antenna"])
        rows.close()
    assert flag[3].all()  # RR, RL, LR, LL
    assert flag[0][8:24][:, ~dead].mean() < 0.2  # the beginning of the scan: 2 of 16 integrations


def test_a_phase_jump_is_named(faulty: Reduction) -> None:
    truth = faulty.truth.faults["phase-jump"]
    (score,) = complaints(faulty, "hifv_finalcals", "calibration.phase_jump")
    assert truth["antenna"] in score["applies_to"]["antenna"]
    assert "6" in score["applies_to"]["scan"]
    assert f"{truth['antenna']} in scan 6 by" in score["long"]


def test_the_flux_scale_survives_the_faults(faulty: Reduction) -> None:
    for spectrum in faulty.result("hifv_fluxboot")["spectra"]:
        injected = faulty.truth.flux_jy(spectrum["field"], spectrum["fit"]["reference_hz"])
        assert 10 ** spectrum["fit"]["coefficients"][0] == pytest.approx(injected, rel=0.02)


def test_a_bad_reference_antenna_and_interference_do_not_cost_the_band(tmp_path: Path) -> None:
    # The phases of the reference are bad, so that with it those of all others look bad. Three channels in the middle of
    # another window hold interference of eight times the calibrator's flux density.
    from pl_kernel.session import Session
    from pl_sim.engine import simulate
    from pl_sim.faults import make_fault
    from pl_sim.truth import Truth

    bad, data = observation().array.names[5], tmp_path / "refant.ms"
    faults = (
        make_fault("bad-deformatter", antenna=bad, baseband="A0C0"),
        make_fault("rfi-narrow", spw=4, channel=12, width=3, jy=60.0),
    )
    simulate(observation(), data, seed=5, faults=faults)
    run = Reduction(tmp_path / "refant", Truth.load(data))
    others = [a for a in run.truth.antennas if a != bad]
    with Session.create(run.root) as session:
        session.run_stage("hifv_importdata", vis=[str(data)])
        for stage in STAGES[1:4]:
            session.run_stage(stage)
        session.run_stage("hifv_testBPdcals", refant=[bad, *others])
    (band,) = run.result("hifv_testBPdcals")["bands"]
    assert band["rejected"] == [bad]
    assert band["passes"] == 2
    assert band["refant"] == others[0]
    assert {b["antenna"] for b in band["bad"]} == {bad}
    assert [s for s in complaints(run, "hifv_testBPdcals", "calibration.refant") if bad in s["long"]]
    assert band["avoided"] == {"4": [12, 13, 14]}
    spoiled = [s for s in band["bandpass"]["table"]["stats"] if s["spw"] == 4]
    # 26 inner channels: at most the three with interference are without solution.
    assert max(s["flagged"] for s in spoiled) <= 3
    assert max(s["flagged"] / s["solutions"] for s in band["delay"]["table"]["stats"] if s["spw"] == 4) == 0
