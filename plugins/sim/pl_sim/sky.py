"""Visibilities of the sky: components, Gaussians, lines, polarization, primary beam.

Everything is vectorised over rows and channels. Evenly spaced channels let exp(i phi(nu)) be built from two short
exponentials and one multiplication, which is what makes the simulator fast.
"""

# ruff: noqa: E741 - l, m and n are direction cosines in every paper.
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from pl_sim.geometry import ARCSEC, direction_cosines, offset_direction
from pl_sim.observation import SPEED_OF_LIGHT
from pl_sim.standards import shape_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.observation import Component, Line, Source

_FWHM_TO_SIGMA = 1 / math.sqrt(8 * math.log(2))
_STRIDE = 16
_erf = np.vectorize(math.erf, otypes=[float])


@frozen
class Coherency:
    """Coherencies S[a][b] of receptors a (antenna 1) and b (antenna 2), each of shape (row or 1, channel)."""

    planes: tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]


def phasor(phase_start: NDArray[np.float64], phase_step: NDArray[np.float64], channels: int) -> NDArray[np.complex64]:
    """exp(i (start + k step)) for k = 0 … channels - 1; start, step of shape (row,), result (row, channel)."""
    blocks = -(-channels // _STRIDE)
    coarse = np.exp(1j * (phase_start[:, None] + phase_step[:, None] * (_STRIDE * np.arange(blocks)))).astype(
        np.complex64
    )
    fine = np.exp(1j * phase_step[:, None] * np.arange(min(_STRIDE, channels))).astype(np.complex64)
    return (coarse[:, :, None] * fine[:, None, :]).reshape(len(phase_start), -1)[:, :channels]


def primary_beam(
    offset_rad: float, frequency_hz: NDArray[np.float64], diameter_m: float, width_factor: float = 1.13
) -> NDArray[np.float64]:
    """Power response of the antennas at an angle from the pointing direction, shape (channel,).

    A Gaussian of FWHM `width_factor` lambda/D: 1.13 for ALMA (Technical Handbook), 1.02 for the VLA (42 arcmin at
    1 GHz, Observational Status Summary).
    """
    fwhm = width_factor * SPEED_OF_LIGHT / frequency_hz / diameter_m
    return np.exp(-4 * math.log(2) * (offset_rad / fwhm) ** 2)


class SkyModel:
    """The sky of one source seen from one phase centre in one spectral window."""

    def __init__(
        self,
        source: Source,
        ra0: float,
        dec0: float,
        frequency_hz: NDArray[np.float64],
        *,
        channel_hz: float | None = None,
        topocentric_over_lsrk: float = 1.0,
        beam_diameter_m: float | None = None,
        beam_factor: float = 1.13,
    ) -> None:
        """Args:
        ra0, dec0: phase centre (and pointing), radians.
        frequency_hz: channel centres in the frame of the data.
        channel_hz: width of a channel; default the spacing.
        topocentric_over_lsrk: nu(data frame) / nu(LSRK) for this direction and time.
        beam_diameter_m, beam_factor: see `primary_beam`; no diameter, no attenuation.
        """
        self.frequency = np.asarray(frequency_hz, float)
        self.even = len(self.frequency) < 3 or bool(np.allclose(np.diff(self.frequency, 2), 0, atol=1.0))
        spacing = np.abs(np.diff(self.frequency)).mean() if len(self.frequency) > 1 else 1e6
        self.channel_hz = float(channel_hz or spacing)
        self._ra0, self._dec0 = ra0, dec0
        self._position = (math.radians(source.ra_deg), math.radians(source.dec_deg))
        self._beam = (beam_diameter_m, beam_factor)
        self.components: tuple[Component, ...] = source.components
        self.lines: tuple[Line, ...] = source.lines
        self._doppler = topocentric_over_lsrk
        self._shape = shape_at(source.shape, float(self.frequency.mean())) if source.shape else None

    def _lmn(self, east: float, north: float) -> tuple[float, float, float]:
        ra, dec = offset_direction(*self._position, east, north)
        l, m, n1 = direction_cosines(ra, dec, self._ra0, self._dec0)
        return float(l), float(m), float(n1)

    def _attenuation(self, l: float, m: float) -> NDArray[np.float64] | float:
        diameter, factor = self._beam
        return 1.0 if diameter is None else primary_beam(math.asin(math.hypot(l, m)), self.frequency, diameter, factor)

    def line_profile(self, line: Line) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(Jy per channel, LSRK velocity of the channel in m/s), both of shape (channel,)."""
        lsrk = self.frequency / self._doppler
        velocity = SPEED_OF_LIGHT * (1 - lsrk / line.rest_hz)
        scale = line.width_ms * _FWHM_TO_SIGMA * math.sqrt(2)
        half = self.channel_hz / 2 / self._doppler * SPEED_OF_LIGHT / line.rest_hz
        # The mean over the channel: a line narrower than a channel is diluted, not missed.
        low, high = (
            _erf((velocity - line.velocity_ms - half) / scale),
            _erf((velocity - line.velocity_ms + half) / scale),
        )
        return line.peak_jy * math.sqrt(math.pi) / 2 * scale / (2 * half) * (high - low), velocity

    def visibilities(self, uvw_m: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
        """(I, Q + iU, Q - iU) in Jy, each of shape (row, channel) or (1, channel) where no row differs.

        uvw_m: shape (row, 3).
        """
        shape = (len(uvw_m), len(self.frequency))
        total = np.zeros((1, shape[1]), np.complex64)
        plus, minus = np.zeros_like(total), np.zeros_like(total)
        polarized = False
        resolved = np.ones((1, 1), np.float32) if self._shape is None else self._shape.visibility(uvw_m, self.frequency)
        for component in self.components:
            l, m, n1 = self._lmn(component.east_arcsec, component.north_arcsec)
            attenuation = self._attenuation(l, m)
            flux = (component.flux(self.frequency) * attenuation).astype(np.float32)
            shift = self._shift(uvw_m, l, m, n1) * resolved
            if component.major_arcsec:
                shift = shift * self._taper(
                    uvw_m,
                    component.major_arcsec,
                    component.minor_arcsec or component.major_arcsec,
                    component.position_angle_deg,
                )
            total = total + flux * shift
            if component.polarized_fraction:
                polarized = True
                linear = component.linear_polarization(self.frequency) * attenuation
                plus = plus + linear.astype(np.complex64) * shift
                minus = minus + np.conj(linear).astype(np.complex64) * shift
        for line in self.lines:
            contribution = self._line(line, uvw_m)
            if contribution is not None:
                where, values = contribution
                if total.shape[0] == 1:
                    total = np.repeat(total, shape[0], axis=0)
                total[:, where] += values
        if not polarized:
            plus = minus = np.zeros((1, 1), np.complex64)
        return total, plus, minus

    def coherency(
        self, uvw_m: NDArray[np.float64], parallactic_rad: NDArray[np.float64] | float, feeds: str
    ) -> Coherency:
        """Coherency matrix in the frame of the feeds. parallactic_rad: scalar or one per row."""
        total, plus, minus = self.visibilities(uvw_m)
        turn = np.exp(-2j * np.atleast_1d(np.asarray(parallactic_rad, float))).astype(np.complex64)[:, None]
        if not plus.any():
            zero = np.zeros((1, 1), np.complex64)
            return Coherency(((total, zero), (zero, total)))
        plus, minus = plus * turn, minus * np.conj(turn)
        if feeds == "circular":
            return Coherency(((total, plus), (minus, total)))
        q, cross = (plus + minus) / 2, (plus - minus) / np.complex64(2j)
        return Coherency(((total + q, cross), (cross, total - q)))

    def _shift(self, uvw_m: NDArray, l: float, m: float, n1: float) -> NDArray:
        if abs(l) < 1e-12 and abs(m) < 1e-12:
            return np.ones((1, 1), np.float32)
        delay = 2 * math.pi / SPEED_OF_LIGHT * (uvw_m @ np.array([l, m, n1]))
        nu = self.frequency
        if self.even:
            step = nu[1] - nu[0] if len(nu) > 1 else 0.0
            return phasor(delay * nu[0], delay * step, len(nu))
        return np.exp(1j * delay[:, None] * nu).astype(np.complex64)

    def _taper(self, uvw_m: NDArray, major: float, minor: float, angle_deg: float) -> NDArray[np.float32]:
        """Fourier transform of a unit Gaussian: exp(-2 pi^2 (sigma_a^2 u_a^2 + sigma_b^2 u_b^2))."""
        s, c = math.sin(math.radians(angle_deg)), math.cos(math.radians(angle_deg))
        along, across = uvw_m[:, 0] * s + uvw_m[:, 1] * c, uvw_m[:, 0] * c - uvw_m[:, 1] * s
        sa, sb = major * ARCSEC * _FWHM_TO_SIGMA, minor * ARCSEC * _FWHM_TO_SIGMA
        scale = (-2 * math.pi**2 / SPEED_OF_LIGHT**2 * ((sa * along) ** 2 + (sb * across) ** 2))[:, None]
        return np.exp((scale * self.frequency**2).astype(np.float32))

    def _line(self, line: Line, uvw_m: NDArray) -> tuple[NDArray, NDArray] | None:
        profile, velocity = self.line_profile(line)
        where = np.nonzero(profile > 1e-5 * line.peak_jy)[0]
        if not len(where):
            return None
        nu, flux = self.frequency[where], profile[where]
        drift = line.gradient_arcsec_per_kms * (velocity[where] - line.velocity_ms) / 1e3
        angle = math.radians(line.gradient_angle_deg)
        l0, m0, n1 = self._lmn(line.east_arcsec, line.north_arcsec)
        attenuation = self._attenuation(l0, m0)
        flux = flux * (attenuation if np.isscalar(attenuation) else attenuation[where])  # type: ignore[index]
        l, m = l0 + drift * math.sin(angle) * ARCSEC, m0 + drift * math.cos(angle) * ARCSEC
        phase = 2 * math.pi / SPEED_OF_LIGHT * nu * (uvw_m[:, :1] * l + uvw_m[:, 1:2] * m + uvw_m[:, 2:] * n1)
        values = flux * np.exp(1j * phase)
        if line.size_arcsec:
            sigma = line.size_arcsec * ARCSEC * _FWHM_TO_SIGMA
            uv = (uvw_m[:, :1] ** 2 + uvw_m[:, 1:2] ** 2) * (nu / SPEED_OF_LIGHT) ** 2
            values = values * np.exp(-2 * math.pi**2 * sigma**2 * uv)
        return where, values.astype(np.complex64)
