"""Shapes of the standard calibrators: by hand from a few pixels, and against CASA's own model of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pl_sim.standards import UPPER_EDGES_HZ, image_of, shape_of

C = 299_792_458.0
ARCSEC = np.pi / 180 / 3600


def test_the_transform_is_the_sum_over_the_pixels():
    # 0.8 Jy in the middle, 0.15 Jy 2.5" west and 1.2" south, 0.05 Jy 3" north: nearly 3C286 at L band.
    pixels = np.zeros((100, 101))
    pixels[50, 40], pixels[25, 28], pixels[50, 70] = 0.8, 0.15, 0.05
    rng = np.random.default_rng(5)
    uvw, nu = rng.uniform(-26e3, 26e3, (200, 3)), 1e9 + 4e6 * np.arange(16)
    found = shape_of(pixels, 0.1 * ARCSEC, (50, 40)).visibility(uvw, nu)
    u, v = (uvw[:, k, None] * nu / C for k in (0, 1))
    turn = 2j * np.pi * 0.1 * ARCSEC
    expected = 0.8 + 0.15 * np.exp(turn * (-25 * u - 12 * v)) + 0.05 * np.exp(turn * 30 * v)
    assert np.abs(found - expected).max() < 1e-3


def test_each_band_has_its_image():
    assert image_of("3C286", 1.4e9).name == "3C286_L.im" and image_of("3C48", 33e9).name == "3C48_A.im"
    assert all((image_of("3C147", edge - 1e8)).exists() for letter, edge in UPPER_EDGES_HZ.items())


def against_setjy(vis: str, image: str) -> tuple[float, float, float]:
    """Rms difference in amplitude, in phase, of CASA's model of the flux calibrator to ours, and our least amplitude.

    For a worker process, since it imports CASA.
    """
    from pl_kernel.casa import configure
    from pl_sim.casa import open_table
    from pl_sim.truth import Truth

    configure()
    import casatasks

    casatasks.setjy(vis=vis, field="0", spw="1", standard="Perley-Butler 2017", model=image, usescratch=True)
    truth = Truth.load(vis)
    name = next(iter(truth.fields))
    with open_table(vis) as main:
        part = main.query("FIELD_ID==0 && DATA_DESC_ID==1")
        model, uvw = part.getcol("MODEL_DATA")[0].T, part.getcol("UVW").T
        part.close()
    total = truth.sources[name].flux(truth.frequency_hz(1))
    ours = truth.sky(name, 1, 0.0).visibilities(uvw)[0] / total
    ratio = model / total / ours
    errors = np.abs(ratio) - 1, np.angle(ratio)
    return (*(float(np.sqrt(np.mean(e**2))) for e in errors), float(np.abs(ours).min()))


@pytest.mark.casa
def test_casa_makes_the_same_visibilities_of_the_same_image(simulated: Any):
    from pl_kernel.compute import Worker

    vis: Path = simulated("vla-l-cont-a")
    with Worker() as worker:
        amplitude, phase, least = worker.call(against_setjy, str(vis), "3C286_L.im")
    # Resolved: an error of sign, scale or axis would show.
    assert least < 0.95
    # CASA reads the transform from a grid of its own.
    assert amplitude < 5e-3 and phase < 0.01
