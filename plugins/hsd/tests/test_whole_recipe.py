"""The whole recipe of total power on a simulated map, against the cloud that was put there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pl_kernel.compute import Worker

pytest.importorskip("pl_sim", reason="the simulator makes the data of these tests")
pytestmark = [pytest.mark.casa, pytest.mark.slow]

JY_PER_K = 41.0
"""What the simulator's antennas have; the file of factors says the same."""
HALF_ARCSEC = 75.0
"""Half width of the raster."""
CENTRE_DEG = (280.0, -21.0)
SCIENCE_SPWS = (4, 6)
LIGHT_KMS = 299_792.458


@attrs.frozen
class Mapped:
    """A finished run: status and score of each stage, images by spw, what they show, and the clouds simulated."""

    root: Path
    stages: dict[str, dict[str, Any]]
    images: dict[int, dict[str, Any]]
    shown: dict[int, dict[str, float]]
    clouds: dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory) -> Mapped:
    """One run of the recipe (or an existing one on such data, named by PL_TEST_TP, while tests are written)."""
    vis = simulated("alma-tp-b6", copy=False)
    existing = os.environ.get("PL_TEST_TP")
    root = Path(existing) if existing else tmp_path_factory.mktemp("whole") / "run"
    if not existing:
        lines = [f"{vis.name},PM{antenna:02d},{spw},I,{JY_PER_K}" for antenna in (1, 2) for spw in SCIENCE_SPWS]
        (root.parent / "jyperk.csv").write_text("MS,Antenna,Spwid,Polarization,Factor\n" + "\n".join(lines) + "\n")
        done = subprocess.run(
            [sys.executable, "-m", "pl_kernel", "run", "hsd_calimage", str(vis), "-o", str(root)],
            capture_output=True, text=True, timeout=1500,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folders = sorted(root.glob("stages/*/stage.json"))
    stages = {p.parent.name: json.loads(p.read_text()) for p in folders}
    context = json.loads((root / "context.json").read_text())
    images = {i["spws"][0]: i for i in context["images"] if i["kind"] == "image"}
    truth = json.loads((Path(f"{vis}.truth") / "truth.json").read_text())
    clouds = dict(zip(SCIENCE_SPWS, truth["extensions"]["SingleDish"]["clouds"], strict=True))
    return Mapped(root, stages, images, _shown(root, images, clouds), clouds)


def _shown(root: Path, images: dict[int, dict[str, Any]], clouds: dict[int, Any]) -> dict[int, dict[str, float]]:
    with Worker() as worker:
        return {
            spw: worker.call(measure, str(root / "work" / image["name"]), clouds[spw], CENTRE_DEG, HALF_ARCSEC)
            for spw, image in images.items()
        }


# ---- with CASA, in a worker ------------------------------------------------------------------------------------------


def measure(image: str, cloud: dict[str, Any], centre_deg: tuple[float, float], half_arcsec: float) -> dict[str, float]:
    """Integral, velocity and place of a cloud in a cube, within the raster of half width ``half_arcsec``.

    ``cloud`` is one of the truth.  The integral is over the map and the line, in (unit) km/s arcsec^2: it depends on no
    beam.  Velocity is that of a Gaussian fitted to the line at the place of the cloud (radio convention, frame of the
    cube), in km/s; the
    channel width beside it.  Offsets from the centre are arcsec east and north: the centroid of the integrated line.
    """
    from pl_kernel.casa import Casa, Recorder

    casa = Casa(Recorder(), os.devnull)
    with casa.image(image) as opened:
        data = opened.getchunk(getmask=False)[:, :, 0, :]
        mask = opened.getchunk(getmask=True)[:, :, 0, :]
        system = opened.coordsys()
        step = np.degrees(np.abs(system.increment()["numeric"][:2])) * 3600
        shape = opened.shape()
        frequency = np.array([opened.toworld([0, 0, 0, k])["numeric"][3] for k in range(shape[3])])
        pixel = opened.topixel(
            [*np.radians(centre_deg), *opened.toworld([0, 0, 0, 0])["numeric"][2:]]
        )["numeric"][:2]  # fmt: skip
        frame = str(system.referencecode("spectral")[0])
        system.done()
    velocity = LIGHT_KMS * (1 - frequency / cloud["rest_hz"])
    x = -(np.arange(shape[0]) - pixel[0]) * step[0]
    y = (np.arange(shape[1]) - pixel[1]) * step[1]
    east, north = np.meshgrid(x, y, indexing="ij")
    inside = (np.abs(east) <= half_arcsec) & (np.abs(north) <= half_arcsec)
    line = np.abs(velocity - cloud["velocity_kms"]) < 1.6 * cloud["width_kms"]
    width = float(abs(np.median(np.diff(velocity))))
    used = np.where(mask, data, 0.0)
    total = used[:, :, line].sum(axis=2) * width
    # Fields of noise far from the cloud would move its centroid: within 1.5 of its own width.
    off_x, off_y = cloud["offset_arcsec"]
    near = np.hypot(east - off_x, north - off_y) < 1.5 * cloud["fwhm_arcsec"]
    weight = np.where(near & inside, total, 0.0)
    place = np.unravel_index(np.argmin(np.hypot(east - off_x, north - off_y)), east.shape)
    spectrum = used[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3].mean(axis=(0, 1))
    return {
        "integral": float(total[inside].sum() * step[0] * step[1]),
        "velocity_kms": line_centre(velocity[line], spectrum[line], cloud["width_kms"]) if line.any() else np.nan,
        "channel_kms": width,
        "east_arcsec": float((weight * east).sum() / max(weight.sum(), 1e-30)),
        "north_arcsec": float((weight * north).sum() / max(weight.sum(), 1e-30)),
        "is_lsrk": float(frame == "LSRK"),
        "peak": float(used.max()),
    }


def line_centre(velocity: np.ndarray, spectrum: np.ndarray, width: float) -> float:
    """Centre of a Gaussian of about this width fitted to a line."""
    from scipy.optimize import curve_fit

    def gaussian(v: np.ndarray, peak: float, centre: float, fwhm: float) -> np.ndarray:
        return peak * np.exp(-4 * np.log(2) * ((v - centre) / fwhm) ** 2)

    top = int(np.argmax(spectrum))
    found, _ = curve_fit(gaussian, velocity, spectrum, p0=(spectrum[top], velocity[top], width))
    return float(found[1])


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_every_stage_ended_well_and_none_scored_an_error(run: Mapped) -> None:
    assert {s["status"] for s in run.stages.values()} == {"ok"}
    low = {name: s["score"] for name, s in run.stages.items() if s["score"] is not None and s["score"] <= 0.33}
    assert low == {}


@pytest.mark.parametrize("spw", SCIENCE_SPWS)
def test_the_flux_of_the_line_is_recovered(run: Mapped, spw: int) -> None:
    """Map and line integrate to Jy/K times that of the cloud, within 5 %, whatever the beam."""
    expected = JY_PER_K * run.clouds[spw]["map_integral_k_kms_arcsec2"]
    assert run.images[spw]["unit"] == "Jy/beam"
    assert run.shown[spw]["integral"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("spw", SCIENCE_SPWS)
def test_the_velocity_of_the_line_is_recovered(run: Mapped, spw: int) -> None:
    """In LSRK, within 0.2 channel."""
    shown = run.shown[spw]
    assert shown["is_lsrk"]
    assert shown["velocity_kms"] == pytest.approx(run.clouds[spw]["velocity_kms"], abs=0.2 * shown["channel_kms"])


@pytest.mark.parametrize("spw", SCIENCE_SPWS)
def test_the_cloud_is_where_it_was_put(run: Mapped, spw: int) -> None:
    """Within a tenth of a beam."""
    tenth = run.images[spw]["beam"]["major_arcsec"] / 10
    assert (run.shown[spw]["east_arcsec"], run.shown[spw]["north_arcsec"]) == pytest.approx(
        tuple(run.clouds[spw]["offset_arcsec"]), abs=tenth
    )


@pytest.mark.parametrize("spw", SCIENCE_SPWS)
def test_the_noise_is_what_theory_says(run: Mapped, spw: int) -> None:
    """Within 15 %."""
    statistics = run.images[spw]["statistics"]
    assert statistics["rms"] == pytest.approx(statistics["theoretical_rms"], rel=0.15)


def test_cubes_and_restoring_files_are_delivered(run: Mapped) -> None:
    names = [p.name for p in (run.root / "products").rglob("*")]
    assert sum(".sd.fits" in name for name in names) >= len(SCIENCE_SPWS)
    assert any("manifest" in name for name in names)
