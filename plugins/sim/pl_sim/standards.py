"""Shapes of the VLA's standard calibrators, from the images that CASA brings for its setjy.

3C48, 3C138, 3C147 and 3C286 are resolved by the long configurations: taken for a point, 3C286 puts flux densities in
A configuration at L band off by 2 to 5 %. The image of the band gives the shape, a published polynomial the total
flux density: the same as for CASA, but computed here from the pixels, by another way than CASA's.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from pl_sim.casa import data_file, tool
from pl_sim.observation import SPEED_OF_LIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

UPPER_EDGES_HZ = {
    "P": 1e9, "L": 2e9, "S": 4e9, "C": 8e9, "X": 12e9, "U": 18e9, "K": 26.5e9, "A": 40e9, "Q": 50e9,
}  # fmt: skip
"""Letters of the images, and where their bands end."""
_OVERSAMPLED = 4
_NEGLIGIBLE = 1e-5
"""Pixels below this part of the peak are the noise of the image, not the source."""


@frozen(eq=False)
class Shape:
    """The visibility of a source of 1 Jy on a grid of (v, u), spline coefficients of its real and imaginary part."""

    real: NDArray[np.float64]
    imaginary: NDArray[np.float64]
    per_wavelength: float
    """Cells of the grid per wavelength of u or v."""

    def visibility(self, uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> NDArray[np.complex64]:
        """V(u, v) = sum over pixels of s exp(2 pi i (u l + v m)); uvw_m (row, 3), result (row, channel)."""
        from scipy.ndimage import map_coordinates

        scale = np.asarray(frequency_hz, float) / SPEED_OF_LIGHT * self.per_wavelength
        middle = len(self.real) // 2
        places = [middle + uvw_m[:, k, None] * scale for k in (1, 0)]
        parts = [
            map_coordinates(part, places, order=3, prefilter=False, mode="nearest")
            for part in (self.real, self.imaginary)
        ]
        return (parts[0] + 1j * parts[1]).astype(np.complex64)


def image_of(calibrator: str, frequency_hz: float) -> Path:
    """CASA's image of a standard calibrator at a frequency."""
    letter = next((k for k, upper in UPPER_EDGES_HZ.items() if frequency_hz < upper), "Q")
    return data_file(f"nrao/VLA/CalModels/{calibrator}_{letter}.im")


@functools.lru_cache(maxsize=8)
def shape_at(calibrator: str, frequency_hz: float) -> Shape:
    """The shape of a standard calibrator in the band of a frequency."""
    return _shape(image_of(calibrator, frequency_hz))


@functools.lru_cache(maxsize=8)
def _shape(image: Path) -> Shape:
    pixels, cell_rad, centre = _read(image)
    return shape_of(pixels, cell_rad, centre)


def shape_of(pixels: NDArray[np.float64], cell_rad: float, centre: tuple[float, float]) -> Shape:
    """The transform of an image; `pixels` (east, north), `centre`: its reference pixel, 0-based."""
    from scipy.ndimage import spline_filter

    strong = np.abs(pixels) > _NEGLIGIBLE * np.abs(pixels).max()
    east, north = (
        index - round(middle) for index, middle in zip(np.nonzero(strong), centre, strict=True)
    )  # fmt: skip
    extent = 2 * max(np.abs(east).max(), np.abs(north).max()) + 2
    size = _OVERSAMPLED * 2 ** math.ceil(math.log2(extent))
    grid = np.zeros((size, size))
    np.add.at(grid, (north % size, east % size), pixels[strong] / pixels[strong].sum())
    # exp(+2 pi i u l) is numpy's inverse transform without its 1/n.
    transform = np.fft.fftshift(np.fft.ifft2(grid)) * grid.size
    return Shape(spline_filter(transform.real), spline_filter(transform.imag), size * cell_rad)


def _read(image: Path) -> tuple[NDArray[np.float64], float, tuple[float, float]]:
    """Pixels with the first axis towards east, the size of one in radians, and the reference pixel."""
    ia = tool("image")
    ia.open(str(image))
    try:
        values = ia.getchunk()
        cs = ia.coordsys()
        step = cs.increment("n", "direction")["numeric"]
        reference = cs.referencepixel()["numeric"][:2]
    finally:
        ia.done()
    values = values.reshape(*values.shape[:2], -1)[..., 0]
    # Right ascension decreases along the first axis.
    flipped = values[::-1] if step[0] < 0 else values
    east0 = len(values) - 1 - reference[0] if step[0] < 0 else reference[0]
    return flipped, abs(float(step[1])), (float(east0), float(reference[1]))
