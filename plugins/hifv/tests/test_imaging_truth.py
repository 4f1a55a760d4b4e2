"""Images of calibrated data with a known sky: fluxes, positions, spectral index, noise; a cube in parts against CASA.

The data are simulated without errors of calibration, so that thermal noise alone limits the images: eight antennas, a
few minutes, sidelobes of 50 %.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.casa, pytest.mark.slow]


def simulate_ideal(preset: str, path: str, seed: int, scale: float = 1.0) -> None:
    """Simulate a tiny block of a preset without atmosphere and with perfect receivers; imports CASA.

    ``scale`` multiplies the flux densities of the target.
    """
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
    planned = get_preset(preset).observations("tiny")[0]
    sources = tuple(
        attrs.evolve(s, components=tuple(attrs.evolve(c, flux_jy=scale * c.flux_jy) for c in s.components))
        if s.name == "SIM_TARGET" else s
        for s in planned.sources
    )  # fmt: skip
    ideal = attrs.evolve(planned, instrument=perfect, atmosphere=Atmosphere(), extensions=(), sources=sources)
    simulate(ideal, path, seed=seed)


def compare(ms: str, stem: str) -> list[tuple[str, float, float, float | None]]:
    """Name, flux ratio, offset in beams and error of alpha of every injected source; imports CASA."""
    from pl_sim.compare import compare_image
    from pl_sim.truth import Truth

    found = compare_image(Truth.load(ms), f"{stem}.image.tt0", "SIM_TARGET", alpha=f"{stem}.alpha")
    return [(m.name, m.flux_ratio, m.offset_beams, m.alpha_error) for m in found]


def raw_dirty(folder: str, arguments: dict[str, Any]) -> float:
    """One call of CASA for a whole cube; its largest difference to the joined one in parts of the peak."""
    import os

    from pl_kernel.casa import configure

    os.chdir(folder)
    configure()
    import casatasks
    from casatools import image

    def read(path: str) -> np.ndarray:
        tool = image()
        tool.open(path)
        try:
            return np.asarray(tool.getchunk())
        finally:
            tool.done()

    casatasks.tclean(**{**arguments, "imagename": "raw"})
    joined = read(next(str(p) for p in Path().glob("*.cube.I.residual")))
    return float(np.abs(joined - read("raw.residual")).max() / np.abs(joined).max())


def image(run: Path, ms: Path, workers: int = 1, listing: dict[str, Any] | None = None, **making: Any) -> Any:
    """Import a set, list and make images; return the result of hif_makeimages."""
    from pl_kernel.session import Session

    with Session.create(run, None, [ms], workers=workers) as session:
        session.run_stage("hifv_importdata", vis=[str(ms)])
        session.run_stage("hif_makeimlist", **(listing or {}))
        session.run_stage("hif_makeimages", **making)
    return json.loads(next(run.glob("stages/*-hif_makeimages/result.json")).read_text())


@pytest.fixture(scope="module")
def ideal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Any]]:
    """The set, the run folder and the image of the target in C band."""
    from pl_kernel.compute import Worker

    folder = tmp_path_factory.mktemp("ideal")
    ms = folder / "ideal.ms"
    with Worker() as worker:
        worker.call(simulate_ideal, "vla-c-cont-d", str(ms), 3)
    result = image(folder / "run", ms, listing={"specmode": "cont", "hm_imsize": "320"})
    yield ms, folder / "run", result["images"][0]


def test_sources_have_their_fluxes_places_and_spectral_indices(ideal: tuple[Path, Path, Any]) -> None:
    from pl_kernel.compute import Worker

    ms, run, made = ideal
    with Worker() as worker:
        found = worker.call(compare, str(ms), str(run / "work" / made["name"]))
    assert [name for name, *_ in found] == ["A", "B", "C"]
    for _name, flux, offset, alpha in found:
        assert flux == pytest.approx(1.0, abs=0.03)
        assert offset < 0.1
        assert alpha is None or abs(alpha) < 0.1


@pytest.fixture(scope="module")
def faint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The run folder and the image of the same field with sources of 4 to 6 mJy: nothing limits the dynamic range."""
    from pl_kernel.compute import Worker

    folder = tmp_path_factory.mktemp("faint")
    with Worker() as worker:
        worker.call(simulate_ideal, "vla-c-cont-d", str(folder / "faint.ms"), 4, 0.05)
    result = image(folder / "run", folder / "faint.ms", listing={"specmode": "cont", "hm_imsize": "320"})
    return folder / "run", result["images"][0]


def test_noise_is_that_of_the_visibilities_although_sidelobes_are_half_of_the_peak(faint: tuple[Path, Any]) -> None:
    run, made = faint
    assert made["sidelobe"] > 0.3
    numbers = made["numbers"]
    # SEFD / (efficiency sqrt(hands antennas (antennas − 1) time bandwidth)) with natural weights: 280 Jy, 0.92, two
    # hands, 8 antennas, 200 s of target, 512 MHz.
    by_hand = 280.0 / 0.92 / np.sqrt(2 * 8 * 7 * 200.0 * 512e6)
    assert numbers["expected_rms"] / made["target"]["noise_factor"] == pytest.approx(by_hand, rel=0.1)
    assert numbers["rms"] <= 1.2 * numbers["expected_rms"]
    qa = json.loads(next(run.glob("stages/*-hif_makeimages/qa.json")).read_text())
    assert min(s["score"] for s in qa["scores"] if s["score"] is not None) >= 0.9


def test_islands_hold_the_sources_and_nothing_else(ideal: tuple[Path, Path, Any]) -> None:
    rounds = ideal[2]["attempts"][-1]["rounds"]
    assert rounds[-1]["islands"] == 3
    # Three sources of less than ten beams each.
    major, minor, _ = ideal[2]["numbers"]["beam"]
    beam_px = np.pi / (4 * np.log(2)) * major * minor / ideal[2]["target"]["cell_arcsec"] ** 2
    assert rounds[-1]["mask_pixels"] < 3 * 10 * beam_px


def test_a_cube_in_parts_by_two_workers_is_the_cube_of_one_call(simulated: Any, tmp_path: Path) -> None:
    from pl_kernel.compute import Worker

    ms = simulated("vla-l-line-d", copy=False)
    made = image(
        tmp_path / "run", ms, workers=2, listing={"specmode": "cube", "spw": "2", "hm_imsize": "96"}, niter=0,
        hm_masking="none",
    )["images"][0]  # fmt: skip
    target = made["target"]
    assert target["nchan"] >= 48 and len(made["numbers"]["channel_rms"]) == target["nchan"]
    calls = json.loads(next((tmp_path / "run").glob("stages/*-hif_makeimages/casa_calls.json")).read_text())
    dirty = [c["args"] for c in calls if c["task"] == "tclean" and c["args"].get("calcpsf")]
    assert len(dirty) == 2 and sum(c["nchan"] for c in dirty) == target["nchan"]
    whole = {**dirty[0], "nchan": target["nchan"], "start": f"{target['start_hz']:.3f}Hz"}
    with Worker() as worker:
        assert worker.call(raw_dirty, str(tmp_path / "run" / "work"), whole) < 1e-6


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose target has no flux density to speak of: its images are noise."""
    from pl_kernel.compute import Worker

    folder = tmp_path_factory.mktemp("empty")
    with Worker() as worker:
        worker.call(simulate_ideal, "vla-c-cont-d", str(folder / "empty.ms"), 5, 1e-6)
    return folder / "empty.ms"


@pytest.mark.parametrize(
    ("listing", "making"),
    [
        ({"specmode": "cont", "uvtaper": ["5klambda"]}, {}),
        ({"specmode": "cont", "uvrange": "3~9klambda"}, {}),
        ({"specmode": "mfs", "spw": "1", "stokes": "IQUV"}, {"hm_weighting": "natural"}),
        ({"specmode": "cube", "spw": "1", "nbins": "*:4"}, {}),
    ],
    ids=["taper", "baselines", "natural IQUV", "bins"],
)
def test_beam_and_noise_follow_what_the_user_selects(
    empty: Path, tmp_path: Path, listing: dict[str, Any], making: dict[str, Any]
) -> None:
    made = image(
        tmp_path / "run", empty, listing={"hm_imsize": "160", **listing}, hm_masking="none", niter=0, **making
    )["images"][0]
    target, numbers = made["target"], made["numbers"]
    # The image is CASA's: its beam and its noise against the estimates made from the visibilities. The main lobe of a
    # ring of baselines is no Gaussian; the pixels, for which the beam is estimated, can do with less.
    close = 0.3 if "uvrange" in listing else 0.15
    assert target["beam_estimate_arcsec"] == pytest.approx(numbers["beam"][1], rel=close)
    # Between 3 and 9 klambda are 13 baselines, which hardly move: 26 numbers make the noise of the image, and its rms
    # is uncertain by 14 per cent.
    assert numbers["rms"] == pytest.approx(numbers["expected_rms"], rel=0.25 if "uvrange" in listing else 0.15)
    assert numbers["shape"][2] == (4 if listing.get("stokes") else 1)
    if "nbins" in listing:
        # 32 channels of 4 MHz, one and a half lost at each end of data that move in frequency: 30, seven bins of four.
        assert (target["nchan"], numbers["shape"][3]) == (7, 7)
        assert target["width_hz"] == pytest.approx(16e6, rel=1e-3)
