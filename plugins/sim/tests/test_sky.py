"""Visibilities against formulas written out by hand."""

# ruff: noqa: E741 - l, m and n are direction cosines in every paper.
from __future__ import annotations

import math

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from pl_sim.geometry import direction_cosines, offset_direction
from pl_sim.observation import Component, Line, Source
from pl_sim.sky import SkyModel, phasor, primary_beam

C = 299_792_458.0
ARCSEC = math.pi / 180 / 3600
FREQUENCY = 5e9 + 2e6 * np.arange(50)
UVW = np.array([[120.0, -340.0, 15.0], [2500.0, 700.0, -900.0], [-30.0, 40.0, 5.0]])
RA, DEC = math.radians(200.0), math.radians(31.5)


def model(*components: Component, lines: tuple[Line, ...] = (), **options: float) -> SkyModel:
    return SkyModel(Source("S", 200.0, 31.5, components, lines), RA, DEC, FREQUENCY, **options)


def test_phasor_is_the_exponential():
    start, step = np.array([0.3, -2.0]), np.array([0.7, -0.04])
    expected = np.exp(1j * (start[:, None] + step[:, None] * np.arange(101)))
    assert np.allclose(phasor(start, step, 101), expected, atol=3e-6)


def test_offsets_agree_with_astropy():
    ra, dec = offset_direction(RA, DEC, 300.0, -200.0)
    frame = SkyCoord(RA * u.rad, DEC * u.rad).skyoffset_frame()
    there = SkyCoord(float(ra) * u.rad, float(dec) * u.rad).transform_to(frame)
    # Orthographic (SIN) offsets: l = cos(lat) sin(lon), m = sin(lat).
    east, north = np.cos(there.lat) * np.sin(there.lon), np.sin(there.lat)
    assert math.isclose(float(east), 300 * ARCSEC, rel_tol=1e-9)
    assert math.isclose(float(north), -200 * ARCSEC, rel_tol=1e-9)
    l, m, n1 = direction_cosines(ra, dec, RA, DEC)
    assert math.isclose(float(l * l + m * m + (n1 + 1) ** 2), 1.0, rel_tol=1e-12)


def test_a_point_source_has_its_flux_and_the_phase_of_its_place():
    total, _, _ = model(Component(0.5, 5e9, (-0.7,), east_arcsec=75.0, north_arcsec=40.0)).visibilities(UVW)
    l, m = 75 * ARCSEC, 40 * ARCSEC
    n1 = math.sqrt(1 - l * l - m * m) - 1
    phase = 2 * np.pi / C * (UVW @ [l, m, n1])[:, None] * FREQUENCY
    expected = 0.5 * (FREQUENCY / 5e9) ** -0.7 * np.exp(1j * phase)
    assert np.allclose(total, expected, atol=2e-5)


def test_a_gaussian_is_resolved_as_it_should():
    # FWHM 10" north-south (PA 0) and 4" east-west: |V| = S exp(-pi^2 theta^2 b^2 / (4 ln 2 lambda^2)).
    total, _, _ = model(Component(1.0, 5e9, major_arcsec=10.0, minor_arcsec=4.0)).visibilities(
        np.array([[0.0, 800.0, 0.0], [800.0, 0.0, 0.0]])
    )
    for row, theta in ((0, 10.0), (1, 4.0)):
        expected = np.exp(-((math.pi * theta * ARCSEC * 800.0 * FREQUENCY / C) ** 2) / (4 * math.log(2)))
        assert np.allclose(total[row].real, expected, rtol=1e-5)


def test_circular_feeds_see_the_polarization_turn_with_parallactic_angle():
    source = model(Component(2.0, 5e9, polarized_fraction=0.1, polarization_angle_deg=33.0))
    psi = 0.4
    (rr, rl), (lr, ll) = source.coherency(UVW, psi, "circular").planes
    assert np.allclose(rr, 2.0) and np.allclose(ll, 2.0)
    assert np.allclose(rl, 0.2 * np.exp(2j * (math.radians(33.0) - psi)), atol=1e-6)
    assert np.allclose(lr, np.conj(rl))


def test_linear_feeds_see_q_in_the_parallel_hands():
    # Polarized along the X feed (angle = parallactic angle): XX = I + P, YY = I - P, no cross hands.
    source = model(Component(2.0, 5e9, polarized_fraction=0.1, polarization_angle_deg=math.degrees(0.4)))
    (xx, xy), (yx, yy) = source.coherency(UVW, 0.4, "linear").planes
    assert np.allclose(xx, 2.2) and np.allclose(yy, 1.8)
    assert np.allclose(xy, 0, atol=1e-6) and np.allclose(yx, 0, atol=1e-6)


@pytest.mark.parametrize("width_kms", [400.0, 30.0])
def test_a_line_keeps_its_integral_even_when_narrower_than_a_channel(width_kms: float):
    # Channels of 2 MHz at 5 GHz are 120 km/s wide.
    line = Line(5.05e9, 0.8, 100e3, width_kms * 1e3)
    profile, velocity = model(lines=(line,)).line_profile(line)
    channel = 2e6 / 5.05e9 * C / 1e3
    # Gaussian: peak * FWHM * sqrt(pi / (4 ln 2)) = 1.0645 peak FWHM.
    assert math.isclose(profile.sum() * channel, 1.0645 * 0.8 * width_kms, rel_tol=1e-4)
    assert math.isclose(line.integrated_jy_kms, 1.0645 * 0.8 * width_kms, rel_tol=1e-4)
    # A line inside one channel is known to half a channel.
    assert abs((profile * velocity).sum() / profile.sum() - 100e3) < (200 if width_kms > 120 else 60e3)


def test_the_primary_beam_is_half_at_half_its_width():
    # VLA: 42 arcmin at 1 GHz.
    half = math.radians(21.0 / 60) / 3.0
    assert math.isclose(float(primary_beam(half, np.array([3e9]), 25.0, 1.02)[0]), 0.5, rel_tol=0.01)
