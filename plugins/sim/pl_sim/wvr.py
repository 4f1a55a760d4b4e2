"""Water-vapour radiometers: what the four 183 GHz channels of an ALMA antenna see.

`wvrgcal` assumes the production radiometers: double sideband about 183.31 GHz, channels at 1.25, 3.25, 5.5 and
7.25 GHz, 1.5, 2.5, 2.0 and 1.5 GHz wide (Nikolic et al. 2013, A&A 552, A104).  Data with other channels are accepted
and wrongly corrected.
"""

from __future__ import annotations

from functools import lru_cache

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_sim.atmosphere import AtmosphereTool, FloatArray, Site

LO_HZ = 183.31e9
IF_HZ: FloatArray = np.array([1.25e9, 3.25e9, 5.5e9, 7.25e9])
WIDTH_HZ: FloatArray = np.array([1.5e9, 2.5e9, 2.0e9, 1.5e9])
SAMPLE_S = 1.152
"""Integration time of the radiometers."""

SPW_NAME = "WVR#NOMINAL"
CHANNEL_FREQ_HZ: FloatArray = 183.30e9 + IF_HZ
"""Channel frequencies as they stand in SPECTRAL_WINDOW of real data: the upper sideband, labelled from 183.30 GHz."""

NOISE_K = 0.08
"""Noise of a channel in one sample: the better end of the specification of 0.08-0.1 K in one second."""

_STEP_HZ = 100e6
_PWV_GRID_MM: FloatArray = np.concatenate([np.linspace(0.05, 1.0, 20)[:-1], np.linspace(1.0, 8.0, 57)])


@lru_cache(maxsize=8)
def _tool(site: Site) -> AtmosphereTool:
    return AtmosphereTool(site, LO_HZ, 16.6e9, _STEP_HZ)


@lru_cache(maxsize=8)
def _members(site: Site) -> list[NDArray[np.bool_]]:
    """Which frequencies of the tool are in each of the four channels, in both sidebands."""
    offset = np.abs(_tool(site).freq_hz - LO_HZ)
    return [np.abs(offset - IF_HZ[c]) <= WIDTH_HZ[c] / 2 for c in range(4)]


@lru_cache(maxsize=4096)
def _brightness_k(site: Site, airmass: float, node: int) -> FloatArray:
    """Brightness [4] at an airmass for one zenith column of the grid."""
    tool = _tool(site)
    tool.set_water(_PWV_GRID_MM[node], airmass)
    sky = tool.brightness()
    return np.array([sky[member].mean() for member in _members(site)])


@attrs.frozen
class Radiometer:
    """The radiometers of a site. `noise_k` is the rms of one sample of `SAMPLE_S` in one channel."""

    site: Site
    noise_k: float = NOISE_K

    def brightness_k(self, pwv_mm: FloatArray, elevation: float) -> FloatArray:
        """Brightness temperatures of the four channels without noise.

        pwv_mm: zenith columns, any shape; elevation: rad.  Returns [4, *shape].  Columns outside 0.05-8 mm are
        refused.
        """
        pwv = np.asarray(pwv_mm, float)
        if pwv.min() < _PWV_GRID_MM[0] or pwv.max() > _PWV_GRID_MM[-1]:
            columns = f"{pwv.min():.2f} to {pwv.max():.2f} mm"
            raise ValueError(f"a water column of {columns} is outside the radiometers' table (0.05 to 8 mm)")
        # Airmass in steps of 0.1 % keeps the cache small; the pattern error is far below the noise.
        airmass = round(1.0 / np.sin(elevation), 3)
        # The water varies little in one look: only the columns about it are worth the tool's time.
        first = int(np.searchsorted(_PWV_GRID_MM, pwv.min(), "right")) - 1
        last = int(np.searchsorted(_PWV_GRID_MM, pwv.max(), "left"))
        table = np.stack([_brightness_k(self.site, airmass, node) for node in range(first, last + 1)], axis=1)
        return np.stack([np.interp(pwv, _PWV_GRID_MM[first : last + 1], table[c]) for c in range(4)])

    def observe_k(self, rng: np.random.Generator, pwv_mm: FloatArray, elevation: float) -> FloatArray:
        """The same with the noise of the radiometers."""
        clean = self.brightness_k(pwv_mm, elevation)
        return clean + self.noise_k * rng.standard_normal(clean.shape)


def sample_times(start_s: float, end_s: float, epoch_s: float) -> NDArray[np.float64]:
    """Mid-times of the radiometer samples (s) on one clock started at `epoch_s`, that lie wholly between start and
    end."""
    first = int(np.ceil((start_s - epoch_s) / SAMPLE_S - 1e-9))
    last = int(np.floor((end_s - epoch_s) / SAMPLE_S + 1e-9))
    return epoch_s + (np.arange(first, last) + 0.5) * SAMPLE_S
