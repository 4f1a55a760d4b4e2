"""The recipe's calibration, smoothing and flagging included, against what the simulator injected: bands and faults.

Hanning smoothing acts on visibilities, so on products of two antennas' gains: where gains have slopes of amplitude and
of phase, the gains that describe smoothed visibilities best are not the smoothed gains. The expectation is solved for.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest

pl_sim = pytest.importorskip("pl_sim")
pytestmark = [pytest.mark.casa, pytest.mark.slow]

STEPS = (
    ("hifv_hanning", {}), ("hifv_flagdata", {"hm_tbuff": "1.5int", "fracspw": 0.01}), ("hifv_vlasetjy", {}),
    ("hifv_priorcals", {}), ("hifv_testBPdcals", {}), ("hifv_checkflag", {"checkflagmode": "bpd-vla"}),
    ("hifv_semiFinalBPdcals", {}), ("hifv_checkflag", {"checkflagmode": "allcals-vla"}), ("hifv_solint", {}),
    ("hifv_fluxboot", {}), ("hifv_finalcals", {}), ("hifv_applycals", {}),
    ("hifv_checkflag", {"checkflagmode": "target-vla"}), ("hifv_plotsummary", {}),
)  # fmt: skip
CASES = {
    "two-bands": ("vla-multiband-d", 4, ()),
    "x-band-faults": (
        "vla-x-cont-d", 7, ("bad-deformatter", "rfi-narrow", "rfi-intermittent", "shadowing", "phase-jump"),
    ),
}  # fmt: skip
NOISE_OF_SMOOTHED = np.sqrt(0.375)
"""A quarter, a half, a quarter: √(1/16 + 1/4 + 1/16)."""


@attrs.frozen
class Reduced:
    """A reduced set: its folder, its outcomes, its measurement set in the run, the truth."""

    root: Path
    outcomes: tuple
    ms: object
    truth: object

    def result(self, stage: str):
        return next(o.result for o in self.outcomes if o.name == stage)

    def rows(self, table: str, spw: int) -> dict[str, np.ndarray]:
        from pl_sim.casa import open_table

        with open_table(self.root / "work" / self.result("hifv_finalcals").tables[self.ms.name][table]) as opened:
            part = opened.query(f"SPECTRAL_WINDOW_ID=={spw}")
            column = "FPARAM" if "FPARAM" in part.colnames() else "CPARAM"
            found = {
                "antenna": part.getcol("ANTENNA1"), "value": part.getcol(column).transpose(2, 0, 1),
                "flag": part.getcol("FLAG").transpose(2, 0, 1),
            }  # fmt: skip
            part.close()
        return found


@pytest.fixture(scope="module", params=CASES)
def reduced(request, tmp_path_factory) -> Reduced:
    from pl_kernel.drawing import Pages
    from pl_kernel.session import Session
    from pl_sim.testing import cached_simulation
    from pl_sim.truth import Truth

    preset, seed, faults = CASES[request.param]
    data = cached_simulation(preset, scale="tiny", seed=seed, faults=faults)
    root = tmp_path_factory.mktemp("truth") / request.param
    with pytest.MonkeyPatch.context() as patch, Session.create(root) as session:
        # Nobody looks at these pages, and drawing them would double the time.
        patch.setattr(Pages, "submit", lambda self, drawing: None)
        outcomes = [session.run_stage("hifv_importdata", vis=[str(data)])]
        outcomes += [session.run_stage(name, **parameters) for name, parameters in STEPS]
        return Reduced(root, tuple(outcomes), session.context.measurement_sets[0], Truth.load(data))


def smoothed_gains(gain: np.ndarray) -> np.ndarray:
    """Gains (antenna, receptor, channel) that describe smoothed visibilities best, by alternating least squares."""
    products = gain[:, None] * gain[None].conj()
    products[..., 1:-1] = 0.25 * products[..., :-2] + 0.5 * products[..., 1:-1] + 0.25 * products[..., 2:]
    diagonal = np.arange(len(gain))
    products[diagonal, diagonal] = 0
    found = gain.copy()
    for _ in range(60):
        power = (np.abs(found) ** 2).sum(axis=0) - np.abs(found) ** 2
        found = (found + np.einsum("ij...,j...->i...", products, found) / power) / 2
    return found


def test_delays_and_bandpass_are_within_twice_the_thermal_error(reduced: Reduced) -> None:
    truth, ms = reduced.truth, reduced.ms
    (names,) = reduced.result("hifv_finalcals").refants.values()
    refant, flux = truth.antennas.index(names[0]), next(n for n in truth.fields if "3C286" in n)
    broken = truth.faults.get("bad-deformatter", {}).get("antenna")
    for window in ms.science_spws:
        spw, nu = int(window.id), truth.frequency_hz(int(window.id))
        scans = [s for s in ms.scans if "BANDPASS" in s.intents and spw in [int(i) for i in s.spw_ids]]
        integrations = sum(round(s.duration_s / truth.record["integration_s"]) for s in scans) - 3  # late and quacked
        inner = slice(len(nu) // 8, len(nu) - len(nu) // 8)
        slope = np.exp(2j * np.pi * truth.array("delay_s")[:, :, spw, None] * (nu - nu[0]))
        injected = smoothed_gains(truth.array(f"bandpass_{spw}") * slope)
        injected = injected * np.exp(-1j * np.angle(injected[refant]))
        bandpass, delay = reduced.rows("bandpass", spw), reduced.rows("delay", spw)
        shapes, slopes_ns = [], []
        for row, antenna in enumerate(bandpass["antenna"]):
            if truth.antennas[antenna] == broken:
                continue
            (own,) = np.flatnonzero(delay["antenna"] == antenna)
            for pol in range(2):
                good = ~bandpass["flag"][row, pol, inner]
                if good.sum() < 10:
                    continue
                turn = np.exp(2j * np.pi * 1e-9 * delay["value"][own, pol, 0] * (nu - nu[0]))
                ratio = (bandpass["value"][row, pol] * turn / injected[antenna, pol])[inner][good]
                shapes.append(np.mean(np.abs(ratio / ratio.mean() - 1) ** 2))
                slopes_ns.append(np.polyfit(nu[inner][good], np.unwrap(np.angle(ratio)), 1)[0] / (2 * np.pi) * 1e9)
        assert len(shapes) >= 10
        sigma = float(truth.thermal_jy(spw).mean()) / truth.flux_jy(flux, float(nu.mean()))
        error = sigma / np.sqrt(integrations * (len(truth.antennas) - 1))
        # Amplitude, phase, and phase of the reference antenna: three errors.
        assert np.sqrt(np.mean(shapes)) < 2 * np.sqrt(3) * error * NOISE_OF_SMOOTHED
        # A line through the phases of n channels: 1 / (2 pi √n B_rms) of the phase error, with that of the reference.
        expected_ns = 1e9 * np.sqrt(2) * error / np.sqrt(0.75 * len(nu)) / (2 * np.pi * np.std(nu[inner]))
        assert np.sqrt(np.mean(np.square(slopes_ns))) < 2 * expected_ns


def test_flux_densities_are_within_two_percent_and_indices_within_0_05(reduced: Reduced) -> None:
    spectra = reduced.result("hifv_fluxboot").spectra
    assert spectra
    for one in spectra:
        nu, truth = one.fit.reference_hz, reduced.truth
        assert 10 ** one.fit.coefficients[0] == pytest.approx(truth.flux_jy(one.field, nu), rel=0.02)
        index = np.log(truth.flux_jy(one.field, 1.01 * nu) / truth.flux_jy(one.field, nu)) / np.log(1.01)
        assert one.fit.coefficients[1] == pytest.approx(index, abs=0.05)


def test_the_summary_shows_what_was_injected(reduced: Reduced, tmp_path: Path) -> None:
    from pl_hifv.weblog import summary, summaryplots

    result, truth = reduced.result("hifv_plotsummary"), reduced.truth
    (folder,) = reduced.root.glob("stages/*-hifv_plotsummary")
    kinds = [a.kind for a in result.applied]
    assert kinds[-5:] == ["delay", "bandpass", "gain, phase only", "gain, amplitude and phase", "gain, phase only"]
    assert kinds[:2] == ["gain curve and efficiency", "opacity"]
    (flux,) = [s for s in result.calibrators if "3C286" in s.field]
    names = {w.name.split("#")[0][5:].capitalize() + " " + w.name.split("#")[1] for w in reduced.ms.science_spws}
    assert set(flux.basebands) == names
    with np.load(folder / flux.file) as kept:
        for spw in [s for group in flux.bands.values() for s in group]:
            nu, spectrum = kept[f"frequency_{spw}"], kept[f"spectrum_{spw}"]
            hands = [i for i, c in enumerate(kept[f"correlations_{spw}"]) if c in ("RR", "LL")]
            injected = truth.flux_jy(flux.field, float(nu.mean()))
            assert np.nanmedian(np.abs(spectrum[hands])) == pytest.approx(injected, rel=0.02)
            assert np.nanmax(np.abs(np.degrees(np.angle(np.nanmean(spectrum[hands], axis=1))))) < 1.0
    # Every kind of picture can be drawn.
    place = type("Place", (), {"stage_dir": folder})()
    drawn = [(f, i) for f, i in (
        (summaryplots.draw_phases, summary._together(place, result.calibrators)[0]),
        (summaryplots.draw_uv, summary._by_band(place, result.targets)[0]),
        (summaryplots.draw_antennas, summary._by_baseband(place, result.calibrators)[0]),
        (summaryplots.draw_spectrum, attrs.evolve(
            summary._by_baseband(place, result.calibrators)[0], correlations=summaryplots.CROSS)),
        (summaryplots.draw_amplitudes, summary._by_baseband(place, result.targets)[0]),
        (summaryplots.draw_time, summary._by_band(place, result.calibrators)[0]),
    )]  # fmt: skip
    for function, item in drawn:
        path = tmp_path / f"{function.__name__}.png"
        assert function(None, item, path) is None and path.stat().st_size > 5_000


def test_what_is_bad_is_flagged(reduced: Reduced) -> None:
    from pl_sim.compare import compare_flags

    found = compare_flags(reduced.truth, reduced.root / "work" / reduced.ms.path)
    assert {k: f"{f}/{b}" for k, (b, f) in found.by_reason.items() if f < 0.95 * b} == {}


def test_faults_are_named_and_nothing_else_is(reduced: Reduced) -> None:
    low = [s for o in reduced.outcomes for s in o.scores if s.score is not None and s.score < 0.9 and not s.hidden]
    faults = reduced.truth.faults
    if not faults:
        # The share of a minute-long schedule that set-up scans and settling antennas take is a true reason.
        assert {s.metric for s in low} <= {"flags.deterministic"}
        return
    text = " ".join(s.long for s in low)
    assert f"{faults['bad-deformatter']['antenna']}, baseband" in text
    assert faults["shadowing"]["shadowed"] in text
    assert f"The phase of {faults['phase-jump']['antenna']}" in text
    for spw in (faults["rfi-narrow"]["spws"][0], faults["rfi-intermittent"]["spw"]):
        assert any(str(spw) in s.applies_to.spw for s in low), spw
