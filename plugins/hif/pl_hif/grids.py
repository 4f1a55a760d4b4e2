"""From measurement sets to the geometry of images: which channels, which frequencies, which data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.heuristics import cubeaxis, imaging, weighting
from pl_hif.heuristics.taper import Taper
from pl_hif.heuristics.uvrange import UvLimits, within
from pl_hif.targets import Selection
from pl_hif.visibilities import observed_channels, uv_sample
from pl_kernel import DataError
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import Field, Frame, MeasurementSet, SpectralWindow
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext


def best_type(
    sets: Sequence[MeasurementSet], types: Sequence[DataType]
) -> tuple[DataType | None, tuple[MeasurementSet, ...]]:
    """The first of the data types that any measurement set has, and all that have it; None and nothing without one."""
    for datatype in types:
        found = tuple(ms for ms in sets if ms.column_of(datatype) is not None)
        if found:
            return datatype, found
    return None, ()


@attrs.frozen(kw_only=True)
class Coverage:
    """Observed channels of one field and window in one measurement set, and their centres in the image's frame.

    ``first_hz`` and ``last_hz`` are the centres of the first and last observed channel in ``frame``; in between the
    frequency is linear in the channel number.
    """

    vis: str
    spw: int
    seen: np.ndarray
    first: int
    last: int
    first_hz: float
    last_hz: float
    frame: str
    shifted: bool

    @property
    def width_hz(self) -> float:
        """Channel width, with the sign of the axis."""
        return (self.last_hz - self.first_hz) / max(self.last - self.first, 1)

    def channels(self, low_hz: float, high_hz: float) -> tuple[int, int] | None:
        """Channels whose centres lie within a frequency range of the image's frame, or None."""
        if self.last == self.first:
            return (self.first, self.last) if low_hz <= self.first_hz <= high_hz else None
        at = sorted((self.first + (f - self.first_hz) / self.width_hz) for f in (low_hz, high_hz))
        # A range that ends on a channel's centre includes it, in spite of rounding.
        first, last = max(math.ceil(at[0] - 1e-6), self.first), min(math.floor(at[1] + 1e-6), self.last)
        return (first, last) if last >= first else None


@attrs.frozen(kw_only=True)
class CubeGrid:
    """The spectral axis of a cube."""

    start_hz: float
    width_hz: float
    nchan: int
    outframe: str
    interpolation: str
    remarks: tuple[str, ...] = attrs.field(default=(), converter=tuple)

    def centres_hz(self) -> np.ndarray:
        return self.start_hz + self.width_hz * np.arange(self.nchan)


def coverage(
    ctx: StageContext, ms: MeasurementSet, field: Field, window: SpectralWindow, frame: str = "LSRK"
) -> Coverage:
    """See which channels of a field hold data, and where they lie in the frame.

    Raises DataError when everything is flagged.
    """
    seen = observed_channels(ctx, ms, [field.id], int(window.id))
    if not seen.any():
        raise DataError(f"All data of {field.name}, spw {window.id} in {ms.name} are flagged.")
    first, last = (int(i) for i in np.flatnonzero(seen)[[0, -1]])
    centres = window.centres_hz
    if window.frame is Frame[frame]:
        ends, shifted = (float(centres[first]), float(centres[last])), False
    else:
        ends, shifted = _converted(ctx, ms, field, window, first, last, frame), True
    return Coverage(
        vis=ms.name, spw=int(window.id), seen=seen, first=first, last=last, first_hz=ends[0], last_hz=ends[1],
        frame=frame, shifted=shifted,
    )  # fmt: skip


def _converted(
    ctx: StageContext, ms: MeasurementSet, field: Field, window: SpectralWindow, first: int, last: int, frame: str
) -> tuple[float, float]:
    """Centres of two channels in another frame, over the time of the observation, as CASA's imager sees them."""
    tool: Any = ctx.casa.tool("synthesisutils")
    try:
        answer = tool.advisechansel(
            msname=ms.path, getfreqrange=True, freqframe=frame, fieldid=field.id,
            spwselection=f"{window.id}:{first}~{last}",
        )  # fmt: skip
    finally:
        tool.done()
    low, high = _hertz(answer["freqstart"]), _hertz(answer["freqend"])
    half = abs(high - low) / (last - first + 1) / 2  # CASA gives the outer edges
    low, high = min(low, high) + half, max(low, high) - half
    return (high, low) if window.is_reversed else (low, high)


def _hertz(value: Any) -> float:
    """A frequency as CASA gives it: a number, or for some data a quantity, always in Hz."""
    return float(value["value"] if isinstance(value, dict) else value)


@attrs.frozen(kw_only=True)
class WantedAxis:
    """What the user wants of a cube's spectral axis; empty, 1 and -1 leave it to the data."""

    nbin: int = 1
    start: str = ""
    width: str = ""
    nchan: int = -1
    restfreq_hz: float | None = None


def cube_grid(
    found: Sequence[Coverage], outframe: str = "LSRK", wanted: WantedAxis | None = None
) -> CubeGrid:
    """The grid of a cube: all channels that every measurement set observed, or what the user wants of them.

    Data that already are in the frame of the image keep their channels. Others move in frequency during the
    observation: one and a half channels at each end are left out (reference pipeline, 2026). Channels that are joined
    all go into the nearest one of the cube: interpolated linearly, most of the data would not count.

    Raises:
        DataError: there is no frequency in common, or no room for a channel. InputError: what is wanted is impossible.
    """
    wanted = wanted or WantedAxis()
    low = max(min(c.first_hz, c.last_hz) for c in found)
    high = min(max(c.first_hz, c.last_hz) for c in found)
    width = max(abs(c.width_hz) for c in found)
    if high < low:
        raise DataError("The measurement sets have no frequency in common: no cube can be made of them.")
    shifted = any(c.shifted for c in found) or len(found) > 1
    # From the centre of the first channel kept to its edge.
    margin = (1.5 if shifted else 0.0) * width - width / 2
    if high - low - 2 * margin < width * (1 - 1e-6):
        raise DataError("The window is too narrow for a cube.")
    axis = cubeaxis.axis(
        low + margin, high - margin, width, wanted.nbin, wanted.start, wanted.width, wanted.nchan, wanted.restfreq_hz
    )
    joined = axis.width_hz > 1.5 * width
    return CubeGrid(
        start_hz=axis.start_hz, width_hz=axis.width_hz, nchan=axis.nchan, outframe=outframe,
        interpolation="linear" if shifted and not joined else "nearest", remarks=axis.remarks,
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Pointing:
    """Where the pointings of a field lie: one, or a mosaic with its centre and its width."""

    mosaic: bool
    spread_arcsec: float = 0.0
    phasecenter: str = ""

    @property
    def gridder(self) -> str:
        return "mosaic" if self.mosaic else "standard"


def pointing(sets: Sequence[MeasurementSet], field: str) -> Pointing:
    """The pointings that share a field's name; the centre of a mosaic is the middle of their extremes."""
    fields = [[f for f in ms.fields if f.name == field] for ms in sets]
    if max((len(f) for f in fields), default=0) < 2:
        return Pointing(mosaic=False)
    every = [f for group in fields for f in group]
    first = every[0]
    dec = np.array([f.dec_rad for f in every])
    # Offsets from one of them, so that a mosaic across 0h is no problem.
    ra = np.array([(f.ra_rad - first.ra_rad + np.pi) % (2 * np.pi) - np.pi for f in every])
    middle_dec = (dec.min() + dec.max()) / 2
    middle_ra = first.ra_rad + (ra.min() + ra.max()) / 2
    width = max(float(np.ptp(ra) * np.cos(middle_dec)), float(np.ptp(dec))) * imaging.ARCSEC
    centre = f"J2000 {np.degrees(middle_ra) % 360:.7f}deg {np.degrees(middle_dec):.7f}deg"
    return Pointing(mosaic=True, spread_arcsec=width, phasecenter=centre)


def windows_of(ctx: StageContext, sets: Sequence[MeasurementSet], field: str) -> dict[VirtualSpw, list[MeasurementSet]]:
    """Virtual windows in which any of the measurement sets observed a field, with those that did."""
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    found: dict[VirtualSpw, list[MeasurementSet]] = {}
    for ms in sets:
        for f in ms.fields:
            if f.name != field:
                continue
            for window in ms.science_spws:
                v = virtual.to_virtual(window.id, ms.name)
                if v is not None and (not f.spws or int(window.id) in f.spws) and ms not in found.get(v, []):
                    found.setdefault(v, []).append(ms)
    return dict(sorted(found.items()))


def bands_of(ctx: StageContext, sets: Sequence[MeasurementSet], field: str) -> dict[VirtualSpw, str]:
    """Receiver band of each virtual window in which a field was observed."""
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    found = {}
    for window, where in windows_of(ctx, sets, field).items():
        real = virtual.to_real(window, where[0].name)
        found[window] = where[0].spw(int(real)).band if real is not None else ""
    return found


def selections(
    ctx: StageContext, sets: Sequence[MeasurementSet], datatype: DataType, field: str, spws: Sequence[int],
    channels: dict[tuple[str, int], str] | None = None, column: str = "",
) -> tuple[Selection, ...]:  # fmt: skip
    """The data of a field in some virtual windows, as CASA selects them.

    ``channels`` by (measurement set, window); ``column`` (data, corrected) in place of that of the type.
    """
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    found = []
    for ms in sets:
        parts = []
        for spw in spws:
            real = virtual.to_real(VirtualSpw(spw), ms.name)
            if real is not None:
                text = (channels or {}).get((ms.name, int(spw)), "")
                parts.append(f"{real}:{text}" if text else str(real))
        fields = [f for f in ms.fields if f.name == field]
        if parts and fields:
            found.append(
                Selection(
                    vis=ms.name, path=ms.path, field=",".join(str(f.id) for f in fields), spw=",".join(parts),
                    column=column or ("corrected" if ms.column_of(datatype) == "CORRECTED_DATA" else "data"),
                )
            )  # fmt: skip
    return tuple(found)


@attrs.frozen(kw_only=True, eq=False)
class UvSample:
    """Baselines of one measurement set: u and v (2, n) and weights (n,) of unflagged rows of its highest window, and
    a few frequencies (Hz) of all windows of the image."""

    uv_m: np.ndarray
    weights: np.ndarray
    highest_hz: float
    frequencies_hz: tuple[float, ...]


def uv_samples(
    ctx: StageContext, sets: Sequence[MeasurementSet], field: str, spws: Sequence[int]
) -> list[UvSample]:
    """The baselines that observed a field; raises DataError when everything is flagged."""
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    found = []
    for ms in sets:
        windows = [ms.spw(int(r)) for s in spws if (r := virtual.to_real(VirtualSpw(s), ms.name)) is not None]
        ids = [f.id for f in ms.fields if f.name == field]
        if not windows or not ids:
            continue
        highest = max(windows, key=lambda s: s.max_hz)
        uv, weights = uv_sample(ctx, ms, ids, [int(highest.id)])
        if weights.size and weights.sum() > 0:
            few = [float(f) for w in windows for f in w.centres_hz[:: max(1, w.n_channels // 8)]]
            found.append(UvSample(uv_m=uv, weights=weights, highest_hz=highest.centre_hz, frequencies_hz=tuple(few)))
    if not found:
        raise DataError(f"All data of {field} are flagged: there is nothing to image.")
    return found


def selected(samples: Sequence[UvSample], limits: Sequence[UvLimits]) -> list[UvSample]:
    """The baselines within limits of length, by the highest frequency; raises DataError when none is."""
    found = []
    for s in samples:
        inside = within(limits, np.hypot(*s.uv_m), s.highest_hz)
        if inside.any():
            found.append(attrs.evolve(s, uv_m=s.uv_m[:, inside], weights=s.weights[inside]))
    if not found:
        raise DataError("No baseline has a length within uvrange: there is nothing to image.")
    return found


def beam_arcsec(samples: Sequence[UvSample], robust: float, taper: Taper | None = None) -> float:
    """Estimated minor axis of the synthesized beam, at the highest frequency of the windows."""
    beams = [
        imaging.beam_from_uv_arcsec(s.uv_m, s.weights, imaging.C_M_S / s.highest_hz, robust, taper) for s in samples
    ]
    best = min((b for b in beams if math.isfinite(b)), default=math.nan)
    if not math.isfinite(best):
        raise DataError("The baselines have no length: the beam cannot be estimated.")
    return best


def noise_factor(
    samples: Sequence[UvSample], robust: float, field_arcsec: float, cube: bool, taper: Taper | None = None
) -> float:
    """Noise with Briggs' weighting over that with natural weights; a cube weights each channel by itself."""
    return weighting.briggs_noise_factor(
        np.concatenate([s.uv_m for s in samples], axis=1), np.concatenate([s.weights for s in samples]),
        samples[0].frequencies_hz[:1] if cube else samples[0].frequencies_hz, robust, field_arcsec, taper,
    )  # fmt: skip


def dish_m(sets: Sequence[MeasurementSet]) -> float:
    """Smallest dish, which has the largest primary beam."""
    return min(a.diameter_m for ms in sets for a in ms.antennas)
