"""Random numbers with a key for everything, and the radiometer equation.

Every stream is seeded by (seed, purpose, indices), so the data do not depend on how the work is cut into chunks.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """An independent random stream for a purpose and a place in the observation."""
    return np.random.Generator(np.random.SFC64([seed & 0xFFFFFFFF, zlib.crc32(purpose.encode()), *indices]))


def radiometer_sigma(sefd_jy: ArrayLike, channel_hz: float, seconds: float, efficiency: float) -> NDArray[np.float64]:
    """Rms in Jy of the real (and of the imaginary) part of a visibility between two antennas of this SEFD.

    sigma = SEFD / (efficiency * sqrt(2 * bandwidth * time)); Thompson, Moran & Swenson (2017), eq. 6.50. For unequal
    antennas SEFD is the geometric mean, so the noise is a product of antenna factors.
    """
    return np.asarray(sefd_jy, float) / (efficiency * np.sqrt(2 * abs(channel_hz) * seconds))


def complex_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Unit Gaussian noise in the real and in the imaginary part."""
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]


def smooth_process(
    rng: np.random.Generator,
    times: NDArray[np.float64],
    rms: float,
    period_s: float,
    shape: tuple[int, ...] = (),
    terms: int = 4,
) -> NDArray[np.float64]:
    """A smooth random function of time, shape (time, *shape): a few sinusoids with periods about `period_s`.

    Its value at a time does not depend on which other times are asked for.
    """
    rates = 2 * np.pi / (period_s * np.exp(rng.uniform(-0.5, 0.7, (terms, *shape))))
    phases = rng.uniform(0, 2 * np.pi, (terms, *shape))
    elapsed = (times - times[0]).reshape(-1, *([1] * len(shape)))
    total = np.zeros((len(times), *shape))
    for rate, phase in zip(rates, phases, strict=True):
        total += np.sin(rate * elapsed + phase)
    return total * rms * np.sqrt(2.0 / terms)


def frozen_screen(
    rng: np.random.Generator,
    east_north_m: NDArray[np.float64],
    times: NDArray[np.float64],
    rms: float,
    wind_ms: tuple[float, float],
    scale_m: tuple[float, float],
    modes: int = 60,
) -> NDArray[np.float64]:
    """A frozen turbulent screen blown over the antennas, shape (time, antenna).

    Random Fourier modes with the amplitudes of three-dimensional Kolmogorov turbulence (structure function exponent
    5/3); neighbouring antennas see nearly the same path, as in the atmosphere.
    """
    length = np.exp(rng.uniform(np.log(scale_m[0]), np.log(scale_m[1]), modes))
    angle = rng.uniform(0, 2 * np.pi, modes)
    waves = 2 * np.pi / length * np.stack([np.cos(angle), np.sin(angle)])
    amplitude = length ** (5.0 / 6.0)
    amplitude *= rms * np.sqrt(2.0 / np.sum(amplitude**2))
    phase = rng.uniform(0, 2 * np.pi, modes)
    space = east_north_m @ waves
    drift = np.outer(times - times[0], np.asarray(wind_ms) @ waves)
    out = np.zeros((len(times), len(east_north_m)))
    for mode in range(modes):
        out += amplitude[mode] * np.cos(space[None, :, mode] - drift[:, mode, None] + phase[mode])
    return out
