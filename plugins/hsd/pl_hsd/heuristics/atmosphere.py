"""Which model of the air explains what ON minus OFF leaves of atmospheric lines. Arrays in, decisions out.

A sky line remains in calibrated spectra in proportion to the difference of the airmass of ON and OFF. The spectra of
one antenna are therefore projected onto that difference: what is left is kelvin (or jansky) per airmass, in which the
sky adds up and a source, which knows nothing of elevation, mostly cancels. A model is projected in the same way, and
the one whose subtraction leaves the smoothest spectrum around the lines wins.

Models are calibrated as the data were. The reference pipeline (2026) compares the data with (T_on - T_off) exp(tau),
which holds where Tsys is known in each channel. It is measured on channels of 15.6 MHz, in which a narrow line is
washed out: calibrated spectra then show the line 15 to 20 % weaker, and the climate that makes a weaker line wins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_kernel.common.skylines import SkyLine, sky_lines

Array = NDArray[Any]

SMOOTHING = 0.016
"""Boxcar of the metric, as a part of the window (reference pipeline, 2026); a fifth of the channels at most."""

FORWARD_EFFICIENCY = 0.95
"""Part of an antenna's beam that is on the sky, in all bands of ALMA; the rest sees the ground."""


@attrs.frozen(order=True)
class AirModel:
    """Parameters of CASA's atmosphere: climate (1 tropical, 2 and 3 mid-latitude summer and winter, 4 and 5 subarctic
    summer and winter), lapse rate, scale height of the water."""

    atmtype: int = 1
    dtem_dh: float = -5.6
    h0: float = 2.0

    def __str__(self) -> str:
        return f"type {self.atmtype}, {self.dtem_dh:g} K/km, {self.h0:g} km"


DEFAULT = AirModel()
AUTOMATIC = (1, 2, 3, 4)


def models(atmtypes: Iterable[int], lapse_rates: Iterable[float], heights: Iterable[float]) -> tuple[AirModel, ...]:
    """All combinations."""
    return tuple(AirModel(*values) for values in itertools.product(atmtypes, lapse_rates, heights))


def airmass(elevation_deg: ArrayLike) -> Array:
    """1/sin(elevation): plane-parallel air."""
    return np.asarray(1.0 / np.sin(np.radians(np.asarray(elevation_deg, dtype=float))))


def resampled(frequency_hz: ArrayLike, opacity: ArrayLike, wanted_hz: ArrayLike) -> Array:
    """Opacity on other channels, by a cubic spline; NaN beyond what was measured."""
    from scipy.interpolate import CubicSpline

    frequency, tau = np.asarray(frequency_hz, dtype=float), np.asarray(opacity, dtype=float)
    order = np.argsort(frequency)
    good = order[np.isfinite(tau[order])]
    if good.size < 4:
        return np.full(np.shape(wanted_hz), np.nan)
    return np.asarray(CubicSpline(frequency[good], tau[good], extrapolate=False)(np.asarray(wanted_hz, dtype=float)))


def best_window(opacity: Mapping[int, ArrayLike]) -> tuple[int, tuple[SkyLine, ...]] | None:
    """The window with the best line, and all of its lines; None when no window has any.

    The grade of a line is its height, normalised by the largest of all, times one minus its distance from the centre of
    the band in half bands (reference pipeline, 2026).
    """
    graded = []
    found = {spw: sky_lines(tau) for spw, tau in opacity.items()}
    largest = max((line.height for lines in found.values() for line in lines), default=0.0)
    for spw, lines in found.items():
        n = np.size(opacity[spw])
        for line in lines:
            offset = abs(line.peak - (n - 1) / 2) / (n / 2)
            graded.append((line.height / largest * (1 - offset), -spw))
    if not graded:
        return None
    best = -max(graded)[1]
    return best, found[best]


class Projection:
    """Sum of spectra [row, polarization, channel] times the difference of the airmass, block by block."""

    def __init__(self) -> None:
        self._sum: Array | None = None
        self._norm: Array | None = None

    def add(self, data: Array, good: Array, difference: Array) -> None:
        """Add rows; ``difference`` is airmass of ON minus that of OFF, [row], NaN for rows without OFF."""
        usable = np.isfinite(difference)
        if not usable.any():
            return
        weight = difference[usable][:, None, None]
        kept = good[usable]
        total = np.where(kept, data[usable] * weight, 0.0).sum(axis=0, dtype=float)
        norm = np.where(kept, weight**2, 0.0).sum(axis=0, dtype=float)
        self._sum = total if self._sum is None else self._sum + total
        self._norm = norm if self._norm is None else self._norm + norm

    @property
    def result(self) -> Array:
        """Per airmass, [polarization, channel]; NaN where nothing was added."""
        if self._sum is None or self._norm is None:
            return np.full((0, 0), np.nan)
        return np.where(self._norm > 0, self._sum / np.maximum(self._norm, 1e-30), np.nan)


def predicted(
    on_airmass: ArrayLike, off_airmass: ArrayLike, nodes: ArrayLike, brightness_k: ArrayLike, opacity: ArrayLike,
    calibration: ArrayLike | None = None, rows_per_block: int = 512,
) -> Array:  # fmt: skip
    """What a model leaves in the spectra, projected in the same way, K per airmass [channel].

    Residual = (T(a_on) − T(a_off)) exp(τ a_off): what CASA's sdatmcor subtracts. ``brightness_k`` is T [node, channel]
    at the airmasses ``nodes``, ascending; between them T is linear in the airmass. ``calibration`` [node, channel] is
    what the data were multiplied with over what they should have been (see `coarse_calibration`).
    """
    on, off = np.asarray(on_airmass, dtype=float), np.asarray(off_airmass, dtype=float)
    usable = np.isfinite(on) & np.isfinite(off)
    on, off = on[usable], off[usable]
    table, tau = np.asarray(brightness_k, dtype=float), np.asarray(opacity, dtype=float)
    total, norm = np.zeros(tau.shape), float(np.sum((on - off) ** 2))
    if not norm > 0:
        return np.full(tau.shape, np.nan)
    for start in range(0, on.size, rows_per_block):
        a, b = on[start : start + rows_per_block], off[start : start + rows_per_block]
        residual = (_between(nodes, table, a) - _between(nodes, table, b)) * np.exp(tau[None, :] * b[:, None])
        if calibration is not None:
            residual *= _between(nodes, np.asarray(calibration, dtype=float), b)
        total += (residual * (a - b)[:, None]).sum(axis=0)
    return total / norm


def beside_the_sky(receiver_k: ArrayLike, ground_k: float, efficiency: float = FORWARD_EFFICIENCY) -> Array:
    """What a spectrometer sees beside the sky, in kelvin of the sky: P = T_rec + eta T + (1 - eta) T_ground, over eta
    (ALMA Technical Handbook, system temperature)."""
    return np.asarray((np.asarray(receiver_k, dtype=float) + (1 - efficiency) * ground_k) / efficiency)


def coarse_calibration(
    frequency_hz: ArrayLike, brightness_k: ArrayLike, opacity: ArrayLike, nodes: ArrayLike, receiver_k: ArrayLike,
    tsys_hz: ArrayLike,
) -> Array:  # fmt: skip
    """Tsys as it is measured over Tsys at full resolution, [node, channel]; ones where it is measured as finely.

    Tsys = (T_rec + T) / exp(-tau a) at the airmass a of a node, where ``receiver_k`` T_rec holds all that is not sky
    (see `beside_the_sky`). A channel of the measurement averages powers, hence numerator and denominator; applycal then
    interpolates linearly between its channels. The air is given on channels ``frequency_hz``, evenly spaced and
    ascending; ``tsys_hz`` are the centres of the channels of the measurement.
    """
    fine, table = np.asarray(frequency_hz, dtype=float), np.asarray(brightness_k, dtype=float)
    coarse = np.sort(np.asarray(tsys_hz, dtype=float))
    width, step = float(np.median(np.diff(coarse))), float(np.median(np.diff(fine)))
    if width < 1.5 * step:
        return np.ones(table.shape)
    power = np.asarray(receiver_k, dtype=float) + table
    share = np.exp(-np.multiply.outer(np.asarray(nodes, dtype=float), np.asarray(opacity, dtype=float)))
    channel = np.rint((fine - coarse[0]) / width).astype(int)
    starts = np.flatnonzero(np.r_[True, np.diff(channel) > 0])
    counts = np.diff(np.r_[starts, fine.size])
    whole = counts > 0.75 * width / step  # channels that the given ones do not cover are left to their neighbours
    if whole.sum() < 2:
        return np.ones(table.shape)
    centre = coarse[0] + channel[starts] * width
    measured = np.add.reduceat(power, starts, axis=1) / np.add.reduceat(share, starts, axis=1)
    return np.stack(
        [np.interp(fine, centre[whole], row[whole]) / exact for row, exact in zip(measured, power / share, strict=True)]
    )


def _between(nodes: ArrayLike, table: Array, at: Array) -> Array:
    axis = np.asarray(nodes, dtype=float)
    left = np.clip(np.searchsorted(axis, at) - 1, 0, axis.size - 2)
    part = (at - axis[left]) / (axis[left + 1] - axis[left])
    return np.asarray(table[left] * (1 - part)[:, None] + table[left + 1] * part[:, None])


def roughness(spectrum: ArrayLike, lines: Sequence[SkyLine]) -> float:
    """Sum of squared steps of a spectrum [polarization, channel] over all lines, each smoothed for itself."""
    values = np.atleast_2d(np.asarray(spectrum, dtype=float))
    n = values.shape[1]
    width = max(1, min(round(SMOOTHING * n), n // 5))
    total = 0.0
    for line in lines:
        for row in values:
            part = row[line.first : line.last + 1]
            part = part[np.isfinite(part)]
            if part.size < 3:
                continue
            reach = min(width, part.size)
            smooth = np.convolve(part, np.ones(reach) / reach, "valid")
            total += float(np.sum(np.diff(smooth) ** 2))
    return total


def metric(corrected: ArrayLike, observed: ArrayLike, lines: Sequence[SkyLine]) -> float:
    """``intsqdiff`` of the reference pipeline (2026): roughness over the largest absolute value in the lines' channels.

    That value is the one before correction, the same for all models: a model that leaves a large offset must not win by
    it. NaN when there is nothing to judge.
    """
    values = np.atleast_2d(np.asarray(observed, dtype=float))
    inside = np.concatenate([values[:, line.first : line.last + 1].ravel() for line in lines]) if lines else np.zeros(0)
    inside = inside[np.isfinite(inside)]
    if not inside.size or not np.abs(inside).max() > 0:
        return math.nan
    return roughness(corrected, lines) / float(np.abs(inside).max())


def choose(trials: Mapping[AirModel, float]) -> AirModel | None:
    """The model with the smallest metric; None when any has none, or nothing was tried."""
    if not trials or not all(math.isfinite(value) for value in trials.values()):
        return None
    return min(trials, key=lambda model: (trials[model], model))
