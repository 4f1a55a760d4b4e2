"""The air above a site: opacity, brightness, water-vapour path and its turbulence.

Spectra come from the `atmosphere` tool of casatools (the ATM library: Pardo, Cernicharo & Serabyn 2001, IEEE
Trans. AP 49, 1683).
The tool spends 2-3 ms on every channel it is asked to set up, so the sky is computed once per (site, PWV, GHz) on
a coarse grid
of `GRID_HZ`, kept for the life of the process, and interpolated.  Ozone lines narrower than the grid are broadened
to it:
the sky that is injected *is* the interpolated one, so the truth stays exact.

Turbulence is a frozen screen of random Fourier modes with the Kolmogorov structure function of a thick layer,
D(b) ~ b^(5/3) (Thompson, Moran & Swenson 2017, section 13.1.7), blown over the array by the wind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

GRID_HZ = 31.25e6
"""Grid of the sky spectra: half of it is the largest frequency error made by interpolation."""

BLOCK_HZ = 1e9
"""The sky is computed and cached in blocks of this width, so that spectral windows of different presets share
them."""

PLANCK_OVER_BOLTZMANN = 4.799243e-11
T_CMB_K = 2.725


@attrs.frozen
class Site:
    """The ground-level air of an observatory and the profile above it.

    `profile` is the number the atmosphere tool gives its climates: 1 tropical, 2 and 3 mid-latitude summer and
    winter,
    4 and 5 subarctic summer and winter. `top_km` is where the air ends; `grid_hz` the grid of its spectra. The lowest
    layer of the profile is `layer_hpa` thick, each further one by the factor `layer_ratio` more.
    """

    name: str
    altitude_m: float
    temperature_k: float
    pressure_hpa: float
    humidity_percent: float
    profile: int = 1
    lapse_k_per_km: float = -5.6
    water_scale_height_km: float = 2.0
    top_km: float = 48.0
    grid_hz: float = GRID_HZ
    layer_hpa: float = 5.0
    layer_ratio: float = 1.1


CHAJNANTOR = Site("Chajnantor", altitude_m=5059.0, temperature_k=270.0, pressure_hpa=555.0, humidity_percent=20.0)
NOBEYAMA = Site(
    "Nobeyama", altitude_m=1350.0, temperature_k=271.0, pressure_hpa=865.0, humidity_percent=45.0, profile=3
)
SOCORRO = Site(
    "Plains of San Agustin",
    altitude_m=2124.0,
    temperature_k=285.0,
    pressure_hpa=790.0,
    humidity_percent=35.0,
    profile=2,
)


@attrs.frozen(eq=False)
class SkyBlock:
    """Zenith spectra on a grid: frequency (Hz), dry opacity, wet opacity per mm, mean temperature of the emitting
    air (K),
    wet path per mm of water at the block's centre (mm/mm).  All arrays have shape [grid points]."""

    freq_hz: FloatArray
    tau_dry: FloatArray
    tau_wet_per_mm: FloatArray
    t_mean_k: FloatArray
    path_per_mm: FloatArray


class AtmosphereTool:
    """The casatools atmosphere tool with a profile loaded; the only place of this package that talks to it."""

    def __init__(self, site: Site, centre_hz: float, width_hz: float, step_hz: float) -> None:
        from pl_sim.casa import tool

        self._at, self._qa = tool("atmosphere"), tool("quanta")
        quantity = self._qa.quantity
        self._at.initAtmProfile(
            humidity=site.humidity_percent,
            temperature=quantity(site.temperature_k, "K"),
            altitude=quantity(site.altitude_m, "m"),
            pressure=quantity(site.pressure_hpa, "mbar"),
            atmType=site.profile,
            h0=quantity(site.water_scale_height_km, "km"),
            dTem_dh=quantity(site.lapse_k_per_km, "K/km"),
            dP=quantity(site.layer_hpa, "mbar"),
            dPm=site.layer_ratio,
            maxAltitude=quantity(site.top_km, "km"),
        )
        self._at.initSpectralWindow(1, quantity(centre_hz, "Hz"), quantity(width_hz, "Hz"), quantity(step_hz, "Hz"))
        self.freq_hz = np.asarray(self._qa.convert(self._at.getSpectralWindow(0), "Hz")["value"], float)

    def set_water(self, pwv_mm: float, airmass: float = 1.0) -> None:
        """Set the zenith water column (mm) and the airmass that the sky brightness is computed for."""
        self._at.setUserWH2O(self._qa.quantity(float(pwv_mm), "mm"))
        self._at.setAirMass(float(airmass))

    def opacity(self) -> tuple[FloatArray, FloatArray]:
        """Dry and wet zenith opacity (neper) per channel."""
        dry = np.asarray(self._at.getDryOpacitySpec(0)[1], float)
        return dry, np.asarray(self._at.getWetOpacitySpec(0)[1]["value"], float)

    def brightness(self) -> FloatArray:
        """Brightness temperature of the sky (K, Planck) per channel, background included."""
        return np.asarray(self._at.getTebbSkySpec(0)[1]["value"], float)

    def rayleigh_jeans(self) -> FloatArray:
        """Rayleigh-Jeans temperature of the sky (K) per channel, background included."""
        return np.asarray(self._at.getTrjSkySpec(0)[1]["value"], float)

    def path_per_mm(self) -> float:
        """Wet path per mm of water (mm/mm), refraction and dispersion together, at the first channel.

        The tool reports the path of the water that its ground humidity implies, whatever column was set: hence the
        division.
        """

        def mm(value: Any) -> float:
            return float(np.ravel(self._qa.convert(value, "mm")["value"])[0])

        wet = mm(self._at.getNonDispersiveWetPathLength(0)) + mm(self._at.getDispersiveWetPathLength(0))
        return wet / mm(self._at.getGroundWH2O())


@lru_cache(maxsize=256)
def sky_block(site: Site, pwv_mm: float, block: int) -> SkyBlock:
    """The zenith sky of one block of `BLOCK_HZ` (block number = floor(frequency / BLOCK_HZ)), both edges included."""
    step, count = site.grid_hz, round(BLOCK_HZ / site.grid_hz) + 1
    centre = block * BLOCK_HZ + (count // 2) * step
    tool = AtmosphereTool(site, centre, count * step, step)
    tool.set_water(pwv_mm)
    dry, wet = tool.opacity()
    tau = dry + wet
    # CMB through the air is added by the tool; what is left is emission of air at a mean temperature.
    x = PLANCK_OVER_BOLTZMANN * tool.freq_hz
    cmb = x / np.expm1(x / T_CMB_K)
    t_mean = (tool.rayleigh_jeans() - cmb * np.exp(-tau)) / -np.expm1(-tau)
    return SkyBlock(tool.freq_hz, dry, wet / pwv_mm, t_mean, np.full(len(tau), tool.path_per_mm()))


@attrs.frozen
class Air:
    """The mean air over a site during an observation.

    site: where; pwv_mm: zenith column of precipitable water, mm.
    """

    site: Site
    pwv_mm: float

    def _column(self, freq_hz: ArrayLike, pick: Callable[[SkyBlock], FloatArray]) -> FloatArray:
        freq = np.atleast_1d(np.asarray(freq_hz, float))
        # One more block at the top edge only when a channel really is inside it.
        blocks = range(int(freq.min() // BLOCK_HZ), int(freq.max() // BLOCK_HZ) + 1)
        parts = [sky_block(self.site, self.pwv_mm, block) for block in blocks]
        grid = np.concatenate([part.freq_hz for part in parts])
        values = np.concatenate([pick(part) for part in parts])
        order = np.argsort(grid, kind="stable")
        return np.interp(freq, grid[order], values[order])

    def tau(self, freq_hz: ArrayLike) -> FloatArray:
        """Zenith opacity (neper) at the given frequencies (Hz); shape [channels]."""
        return self.tau_dry(freq_hz) + self.pwv_mm * self.tau_wet_per_mm(freq_hz)

    def tau_dry(self, freq_hz: ArrayLike) -> FloatArray:
        """Zenith opacity of the dry air (neper); shape [channels]."""
        return self._column(freq_hz, lambda block: block.tau_dry)

    def tau_wet_per_mm(self, freq_hz: ArrayLike) -> FloatArray:
        """Zenith opacity (neper) of one mm of water; shape [channels]."""
        return self._column(freq_hz, lambda block: block.tau_wet_per_mm)

    def mean_temperature_k(self, freq_hz: ArrayLike) -> FloatArray:
        """Rayleigh-Jeans temperature T_m such that the air emits T_m (1 - exp(-tau)); shape [channels]."""
        return self._column(freq_hz, lambda block: block.t_mean_k)

    def transmission(self, freq_hz: ArrayLike, elevation: float) -> FloatArray:
        """exp(-tau / sin(elevation)); elevation in radians; shape [channels]."""
        return np.exp(-self.tau(freq_hz) / np.sin(elevation))

    def sky_temperature_k(self, freq_hz: ArrayLike, elevation: float) -> FloatArray:
        """Rayleigh-Jeans temperature of the blank sky (K) at an elevation (rad): air emission plus what is left of
        the CMB."""
        attenuation = self.transmission(freq_hz, elevation)
        x = PLANCK_OVER_BOLTZMANN * np.atleast_1d(np.asarray(freq_hz, float))
        return self.mean_temperature_k(freq_hz) * (1.0 - attenuation) + x / np.expm1(x / T_CMB_K) * attenuation

    def channel_mean(self, spectrum: Callable[[FloatArray], FloatArray], freq_hz: ArrayLike) -> FloatArray:
        """Mean of a spectrum over channels with these centres (Hz): what a spectrometer coarser than the sky's grid
        sees. `spectrum` takes frequencies [channels] and returns [..., channels]."""
        freq = np.asarray(freq_hz, float)
        width = float(np.abs(np.diff(freq)).mean()) if freq.size > 1 else 0.0
        parts = max(1, round(width / self.site.grid_hz))
        places = ((np.arange(parts) + 0.5) / parts - 0.5) * width
        return np.asarray(sum(spectrum(freq + place) for place in places) / parts)

    def path_per_mm(self, freq_hz: float) -> float:
        """Excess path (mm) caused by one mm of water: refraction, and the dispersion of the block of this frequency.

        `wvrgcal` leaves dispersion out unless told otherwise: 0.6 % of the path at 100 GHz, 4 % at 230 GHz.
        """
        return float(self._column(freq_hz, lambda block: block.path_per_mm)[0])


def bessel_structure(amplitude: FloatArray, wavenumber: FloatArray, baseline_m: ArrayLike) -> FloatArray:
    """Structure function (squared unit of the amplitude) at baselines (m) of isotropic modes a cos(k x + phase).

    A mode of amplitude a contributes a^2 (1 - cos(k b)); its mean over directions is a^2 (1 - J0(k b)).
    """
    from scipy.special import j0

    baseline = np.atleast_1d(np.asarray(baseline_m, float))
    return np.sum(amplitude**2 * (1.0 - j0(np.multiply.outer(baseline, wavenumber))), axis=-1)


@attrs.frozen(eq=False)
class FrozenScreen:
    """A turbulent layer that drifts over the array without changing.

    wavevector: [modes, 2] rad/m (east, north); amplitude: [modes], in the unit of the fluctuation (mm of water here);
    phase: [modes] rad; wind: (east, north) m/s; epoch_s: time at which the pattern is as drawn.
    """

    wavevector: FloatArray
    amplitude: FloatArray
    phase: FloatArray
    wind: tuple[float, float]
    epoch_s: float

    @classmethod
    def kolmogorov(
        cls,
        rng: np.random.Generator,
        rms: float,
        baseline_m: float,
        *,
        epoch_s: float,
        wind: tuple[float, float] = (7.0, 3.0),
        inner_m: float = 30.0,
        outer_m: float = 15000.0,
        modes: int = 160,
    ) -> FrozenScreen:
        """Draw a screen whose difference between two antennas `baseline_m` apart has the given rms.

        Wavelengths are stratified in the logarithm between `inner_m` and `outer_m`, and directions by the golden
        angle, so that
        one realisation follows D(b) ~ b^(5/3) between the two scales closely, not only the average of many.
        """
        edges = np.linspace(np.log(inner_m), np.log(outer_m), modes + 1)
        wavelength = np.exp(rng.uniform(edges[:-1], edges[1:]))
        direction = rng.uniform(0, np.pi) + np.pi * (3.0 - np.sqrt(5.0)) * np.arange(modes)
        wavenumber = 2 * np.pi / wavelength
        amplitude = wavelength ** (5.0 / 6.0)
        amplitude *= rms / np.sqrt(bessel_structure(amplitude, wavenumber, baseline_m)[0])
        vectors = wavenumber[:, None] * np.column_stack([np.cos(direction), np.sin(direction)])
        return cls(vectors, amplitude, rng.uniform(0, 2 * np.pi, modes), wind, epoch_s)

    def at(self, position_m: FloatArray, time_s: FloatArray) -> FloatArray:
        """The fluctuation at positions [n, >=2] (east, north; m) and times [t] (s): shape [n, t]."""
        place = position_m[:, :2] @ self.wavevector.T
        drift = np.multiply.outer(np.asarray(time_s, float) - self.epoch_s, self.wavevector @ np.asarray(self.wind))
        # cos(a - b) expanded: two matrix products instead of n x t x modes cosines.
        spatial, temporal = place + self.phase, drift
        return (self.amplitude * np.cos(spatial)) @ np.cos(temporal).T + (self.amplitude * np.sin(spatial)) @ np.sin(
            temporal
        ).T

    def mean_over(self, position_m: FloatArray, time_s: FloatArray, width_s: float) -> FloatArray:
        """The fluctuation averaged over intervals of `width_s` centred on the times: shape [n, t].

        Averaging a moving sine multiplies it by sinc(k.wind width / 2): exact, no sub-sampling.
        """
        rate = self.wavevector @ np.asarray(self.wind)
        averaged = attrs.evolve(self, amplitude=self.amplitude * np.sinc(rate * width_s / (2 * np.pi)))
        return averaged.at(position_m, time_s)

    def structure_rms(self, baseline_m: ArrayLike) -> FloatArray:
        """Expected rms of the difference between two antennas at the given separations (m)."""
        wavenumber = np.hypot(self.wavevector[:, 0], self.wavevector[:, 1])
        return np.sqrt(bessel_structure(self.amplitude, wavenumber, baseline_m))


def pwv_series(
    rng: np.random.Generator, time_s: FloatArray, mean_mm: float, rms_mm: float, period_s: float = 2400.0
) -> FloatArray:
    """Slow change of the column over the whole site (mm) at times [t]: a few sinusoids with periods about
    `period_s`."""
    time = np.asarray(time_s, float)
    terms = 4
    series = np.zeros(len(time))
    for _ in range(terms):
        period = period_s * np.exp(rng.uniform(-0.5, 0.7))
        series += np.sin(2 * np.pi * (time - time[0]) / period + rng.uniform(0, 2 * np.pi))
    return np.maximum(mean_mm + rms_mm * np.sqrt(2.0 / terms) * series, 0.05)
