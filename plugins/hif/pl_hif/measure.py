"""Numbers of images: peak, noise, spectrum, moments. Planes are read one by one, so that large cubes fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.heuristics.uvrange import parse_uvrange, within
from pl_hif.heuristics.weighting import channel_noise
from pl_hif.targets import CleanTarget

C_KM_S = 299_792.458
_SAMPLE_BYTES = 48 * 2**20
"""Visibilities looked at for their scatter: 3,000 rows of 1,000 channels and correlations tell it to a per mille."""
_RING = (0.2, 0.3)
"""Noise is measured where the primary beam is between these: sky that is observed but holds little of the source."""


@attrs.frozen(kw_only=True)
class PlaneStatistics:
    """Largest absolute value, and noise (1.4826·MAD, median over planes) of an image."""

    peak: float
    mad_sigma: float


@attrs.frozen(kw_only=True)
class ImageNumbers:
    """What is known of a finished image; Jy per beam, Hz, km/s, arcsec and degrees.

    ``rms`` is the median over line-free planes of the noise in the ring; ``channel_rms`` that of each plane;
    ``corrected_peak`` and ``corrected_minimum`` are those of the image divided by the primary beam, where that is above
    0.3. ``expected_rms`` what the scatter of the visibilities promises with these weights (0: not known); ``antennas``
    have visibilities in it that are not flagged (0: not known). Bandwidths are those of a plane: of the windows in it,
    and of the channels that were imaged. ``spectrum`` is the spectrum at the pixel of the peak. ``line_channels`` are
    planes where the cube exceeds 5 rms.
    """

    peak: float
    minimum: float
    rms: float
    unit: str
    beam: tuple[float, float, float] | None
    peak_pixel: tuple[int, int, int] = attrs.field(converter=tuple)
    shape: tuple[int, ...] = attrs.field(converter=tuple)
    mask_pixels: int
    corrected_peak: float = 0.0
    corrected_minimum: float = 0.0
    expected_rms: float = 0.0
    antennas: int = 0
    bandwidth_hz: float = 0.0
    effective_bandwidth_hz: float = 0.0
    channel_rms: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    channel_peak: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    frequency_hz: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    velocity_km_s: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    spectrum: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    line_channels: tuple[int, ...] = attrs.field(default=(), converter=tuple)
    line_velocity_km_s: tuple[float, float] | None = None
    moment_peak: dict[str, float] = attrs.field(factory=dict)


_BLOCK_BYTES = 64e6


def planes(ctx: Any, path: str, masked: bool = True, every: int = 1) -> Iterator[np.ndarray]:
    """Stokes I planes of an image, (nx, ny) each.

    masked : NaN where the image is masked; costs as much again as the reading.
    every : take every n-th pixel in both directions, for statistics.
    """
    with ctx.casa.image(path) as image:
        shape = [int(n) for n in image.shape()]
        # Several planes at a time: a call of the tool costs more than the plane.
        step = max(1, int(_BLOCK_BYTES / (8 * shape[0] * shape[1])))
        for first in range(0, shape[3], step):
            last = min(first + step, shape[3]) - 1
            blc, trc = [0, 0, 0, first], [shape[0] - 1, shape[1] - 1, 0, last]
            inc = [every, every, 1, 1]
            block = (-(-shape[0] // every), -(-shape[1] // every), last - first + 1)
            data = np.asarray(image.getchunk(blc, trc, inc)).reshape(block)
            if masked:
                good = np.asarray(image.getchunk(blc, trc, inc, getmask=True)).reshape(block)
                if not good.all():
                    data = np.where(good, data, np.nan)
            for i in range(block[2]):
                yield data[:, :, i]


def plane(ctx: Any, path: str) -> np.ndarray:
    """The first plane of an image, (nx, ny), NaN where it is masked."""
    return next(planes(ctx, path))


def beam_of(ctx: Any, path: str) -> tuple[float, float, float] | None:
    """Major and minor axis (arcsec) and position angle (degrees) of an image's beam; None without one."""
    with ctx.casa.image(path) as image:
        return _beam(image)


def wavelength_m(ctx: Any, path: str) -> float:
    """Wavelength of the first plane of an image."""
    with ctx.casa.image(path) as image:
        return C_KM_S * 1e3 / _frequencies(image, 1)[0]


def spectrum_at(ctx: Any, path: str, x: int, y: int) -> list[float]:
    """Stokes I along the spectral axis at one pixel."""
    with ctx.casa.image(path) as image:
        channels = int(image.shape()[3])
        return [float(v) for v in np.ravel(image.getchunk([x, y, 0, 0], [x, y, 0, channels - 1]))]


@attrs.frozen(kw_only=True)
class PlaneNoises:
    """Peak of an image, and the noise (1.4826·MAD) of its line-free planes and of all; empty planes are left out."""

    peak: float
    line_free: tuple[float, ...] = attrs.field(converter=tuple)
    every: tuple[float, ...] = attrs.field(converter=tuple)


def combined(parts: Iterable[PlaneNoises]) -> PlaneStatistics:
    """Peak and noise of an image made in parts: the median of the line-free planes, of all where none is known."""
    parts = list(parts)
    quiet = [s for p in parts for s in p.line_free] or [s for p in parts for s in p.every]
    return PlaneStatistics(peak=max(p.peak for p in parts), mad_sigma=float(np.median(quiet)) if quiet else 0.0)


def plane_noises(ctx: Any, path: str, target: CleanTarget | None = None) -> PlaneNoises:
    """Peak and noises of an image; a multi-term image is judged by its first term."""
    if not Path(path).is_dir() and Path(f"{path}.tt0").is_dir():
        path = f"{path}.tt0"
    sigmas, free = [], []
    quiet: list[bool] = []
    if target is not None and target.specmode == "cube":
        with ctx.casa.image(path) as image:
            quiet = _line_free(_frequencies(image, int(image.shape()[3])), target)
    for i, pixels in enumerate(planes(ctx, path, every=2)):
        good = pixels[np.isfinite(pixels)]
        if good.size == 0 or not good.any():
            continue
        sigmas.append(1.4826 * float(np.median(np.abs(good - np.median(good)))))
        if not quiet or quiet[i]:
            free.append(sigmas[-1])
    return PlaneNoises(peak=largest(ctx, path), line_free=free, every=sigmas)


def plane_statistics(ctx: Any, path: str, target: CleanTarget | None = None) -> PlaneStatistics:
    """Peak and noise of an image; with ``target``, the noise of a cube is that of its line-free planes."""
    return combined([plane_noises(ctx, path, target)])


def largest(ctx: Any, path: str) -> float:
    """Largest absolute value of an image (of its first term); NaN when all of it is masked."""
    with ctx.casa.image(path if Path(path).is_dir() else f"{path}.tt0") as image:
        found = image.statistics(robust=False, verbose=False)
    ends = [abs(float(v[0])) for v in (found.get("max", ()), found.get("min", ())) if len(v)]
    return max(ends) if ends else float("nan")


def image_path(stem: str, kind: str) -> str:
    """File of one kind of an image; of a multi-term image its first term (``X.image.tt0``, ``X.image.tt0.pbcor``)."""
    plain = f"{stem}.{kind}"
    if Path(plain).is_dir():
        return plain
    head, dot, tail = kind.partition(".")
    return f"{stem}.{head}.tt0{dot}{tail}"


def image_numbers(
    ctx: Any, stem: str, target: CleanTarget, expected_rms: float, antennas: int = 0
) -> ImageNumbers:  # fmt: skip
    """Measure a finished image; ``expected_rms`` is what the visibilities promise, of so many ``antennas``."""
    path = image_path(stem, "image")
    with ctx.casa.image(path) as image:
        unit, beam = str(image.brightnessunit()), _beam(image)
        shape = tuple(int(n) for n in image.shape())
        frequency = _frequencies(image, shape[3])
    masked = Path(f"{stem}.mask").is_dir()
    masks: Iterator[np.ndarray | None] = (
        planes(ctx, f"{stem}.mask", masked=False) if masked else iter([None] * shape[3])
    )
    mask_pixels = 0
    peaks, lows, noises, where = [], [], [], []
    highest, deepest = -math.inf, math.inf
    responses = _responses(ctx, image_path(stem, "pb"), frequency)
    for plane, response, mask in zip(planes(ctx, path, masked=False), responses, masks, strict=True):
        inside = np.zeros(plane.shape, bool) if mask is None else mask > 0.5
        mask_pixels = max(mask_pixels, int(inside.sum()))
        # The imager masks where the primary beam is below the limit, and leaves zeros there.
        good = np.isfinite(plane) & (response > max(target.pblimit, 0.0))
        ring = good & (response > _RING[0]) & (response < _RING[1]) & ~inside
        if ring.sum() < 50:  # a small image may end inside the ring
            ring = good & ~inside
        if ring.sum() < 50:  # the mask may be all of it: a calibrator, its central region cleaned; then the residual
            rest = next(islice(planes(ctx, image_path(stem, "residual"), masked=False), len(noises), None))
            noises.append(_clipped_rms(rest[good]))
        else:
            noises.append(_clipped_rms(plane[ring]))
        allowed = good & (response > _RING[1]) if target.intent == "TARGET" else good
        flat = np.where(allowed, plane, -np.inf)
        spot = int(np.argmax(flat))
        where.append(np.unravel_index(spot, plane.shape))
        peaks.append(float(flat.ravel()[spot]) if allowed.any() else 0.0)
        lows.append(float(np.min(plane[allowed])) if allowed.any() else 0.0)
        inner = allowed & (response > _RING[1])
        if inner.any():
            corrected = plane[inner] / response[inner]
            highest, deepest = max(highest, float(corrected.max())), min(deepest, float(corrected.min()))
    quiet = _line_free(frequency, target)
    usable = [n for n, q in zip(noises, quiet, strict=True) if q and n > 0] or [n for n in noises if n > 0]
    rms = float(np.median(usable)) if usable else float("nan")
    channel = int(np.argmax(peaks))
    x, y = (int(v) for v in where[channel])
    spectrum = spectrum_at(ctx, path, x, y) if shape[3] > 1 else []
    velocity = [C_KM_S * (1 - f / target.restfreq_hz) for f in frequency] if target.restfreq_hz and shape[3] > 1 else []
    loud = [i for i, p in enumerate(peaks) if shape[3] > 1 and not quiet[i] and p > 5 * rms]
    return ImageNumbers(
        peak=peaks[channel], minimum=min(lows), rms=rms, unit=unit, beam=beam, peak_pixel=(x, y, channel), shape=shape,
        mask_pixels=mask_pixels,
        corrected_peak=highest if math.isfinite(highest) else 0.0,
        corrected_minimum=deepest if math.isfinite(deepest) else 0.0,
        expected_rms=expected_rms, antennas=antennas, **bandwidths(ctx, target),
        channel_rms=noises if shape[3] > 1 else (),
        channel_peak=peaks if shape[3] > 1 else (),
        frequency_hz=frequency, velocity_km_s=velocity, spectrum=spectrum, line_channels=loud,
        line_velocity_km_s=_span(velocity, loud),
    )  # fmt: skip


def _responses(ctx: Any, path: str, frequency: list[float]) -> Iterator[np.ndarray]:
    """The primary beam of every plane; within a band of 2 % the middle plane serves for all."""
    if len(frequency) > 1 and abs(frequency[-1] - frequency[0]) > 0.02 * frequency[0]:
        yield from (np.nan_to_num(p) for p in planes(ctx, path, masked=False))
        return
    with ctx.casa.image(path) as image:
        shape = [int(n) for n in image.shape()]
        middle = shape[3] // 2
        plane = image.getchunk([0, 0, 0, middle], [shape[0] - 1, shape[1] - 1, 0, middle])
    one = np.nan_to_num(np.asarray(plane).reshape(shape[0], shape[1]))
    for _ in frequency:
        yield one


@attrs.frozen(kw_only=True)
class Expected:
    """What visibilities promise: noise of an image in Jy/beam (0: cannot be told), and antennas with data left."""

    rms: float = 0.0
    antennas: int = 0


def expected_noise(ctx: Any, target: CleanTarget, most_rows: int = 20_000) -> Expected:
    """Noise of an image with natural weights, from the scatter of its visibilities, and how many antennas have any.

    With σ the scatter of the real part of one visibility and N the number of unflagged visibilities of the parallel
    hands per image plane, the noise is σ/√N; more by what smoothing has correlated neighbouring channels, where several
    are imaged together.
    """
    variance: list[float] = []
    antennas: set[int] = set()
    per_plane = 0.0
    column = {"corrected": "CORRECTED_DATA", "data": "DATA"}
    limits = parse_uvrange(target.uvrange)
    for part in target.selections:
        for piece in part.spw.split(","):
            spw, _, channels = piece.partition(":")
            with ctx.casa.table(f"{part.path}/DATA_DESCRIPTION") as table:
                ids = [i for i, s in enumerate(table.getcol("SPECTRAL_WINDOW_ID").tolist()) if s == int(spw)]
            with ctx.casa.table(part.path) as table:
                query = f"DATA_DESC_ID IN {ids} && FIELD_ID IN [{part.field}] && ANTENNA1!=ANTENNA2"
                chosen = table.query(query)
                try:
                    rows = chosen.nrows()
                    if not rows:
                        continue
                    name = column[part.column]
                    values = chosen.getcell("FLAG", 0).size
                    step = _sample_step(rows, min(most_rows, _SAMPLE_BYTES // (16 * values) + 1), target.antennas)
                    data = chosen.getcol(name, 0, -1, step)
                    bad = chosen.getcol("FLAG", 0, -1, step)
                    ends = [chosen.getcol(end, 0, -1, step) for end in ("ANTENNA1", "ANTENNA2")]
                    length = np.hypot(*chosen.getcol("UVW", 0, -1, step)[:2]) if limits else None
                finally:
                    chosen.close()
            inside = _channel_mask(channels, data.shape[1])
            hands = [0, data.shape[0] - 1] if data.shape[0] in (2, 4) else [0]
            data, bad = data[hands], bad[hands] | ~inside[None, :, None]
            if length is not None:
                # CASA selects rows, not channels: by the window's reference frequency.
                with ctx.casa.table(f"{part.path}/SPECTRAL_WINDOW") as table:
                    reference = float(table.getcell("REF_FREQUENCY", int(spw)))
                bad = bad | ~within(limits, length, reference)[None, None, :]
            sigma, correlated = channel_noise(data, bad)
            joined = _channels_per_plane(ctx, part.path, int(spw), target)
            if sigma > 0:
                variance.append((sigma * (1.0 if joined < 2 else correlated)) ** 2)
            antennas |= {int(a) for end in ends for a in np.unique(end[~bad.all(axis=(0, 1))])}
            good = (~bad)[:, inside].sum(axis=(0, 2)) * step
            used = good[good > 0]
            if used.size:
                per_plane += float(used.sum()) if target.specmode != "cube" else joined * float(np.median(used))
    rms = float(np.sqrt(np.mean(variance) / per_plane)) if variance and per_plane > 0 else 0.0
    return Expected(rms=rms, antennas=len(antennas))


def _channels_per_plane(ctx: Any, path: str, spw: int, target: CleanTarget) -> float:
    """How many channels of the data go into a plane of the image: in a cube those that its width joins."""
    if target.specmode != "cube":
        return math.inf
    if not target.width_hz:
        return 1.0
    with ctx.casa.table(f"{path}/SPECTRAL_WINDOW") as table:
        native = float(np.median(np.abs(table.getcell("CHAN_WIDTH", spw))))
    ratio = abs(target.width_hz) / native
    return ratio if ratio > 1.5 else 1.0


def _sample_step(rows: int, most: int, antennas: int) -> int:
    """Every how many rows one is looked at, so that all baselines take part, which follow each other in turn."""
    step, baselines = max(1, -(-rows // max(most, 1))), antennas * (antennas - 1) // 2
    while baselines > 1 and math.gcd(step, baselines) > 1:
        step += 1
    return step


def bandwidths(ctx: Any, target: CleanTarget) -> dict[str, float]:
    """Bandwidth of a plane in Hz, of the windows and of the channels imaged; frequencies seen twice count once."""
    if target.specmode == "cube" and target.width_hz:
        return {"bandwidth_hz": abs(target.width_hz), "effective_bandwidth_hz": abs(target.width_hz)}
    windows: list[tuple[float, float]] = []
    imaged: list[tuple[float, float]] = []
    for part in target.selections:
        with ctx.casa.table(f"{part.path}/SPECTRAL_WINDOW") as table:
            for piece in part.spw.split(","):
                spw, _, channels = piece.partition(":")
                centre, width = (np.asarray(table.getcell(c, int(spw))) for c in ("CHAN_FREQ", "CHAN_WIDTH"))
                edges = np.stack([centre - np.abs(width) / 2, centre + np.abs(width) / 2], axis=1)
                windows.append((float(edges.min()), float(edges.max())))
                imaged += [(float(a), float(b)) for a, b in edges[_channel_mask(channels, len(centre))]]
    return {"bandwidth_hz": covered(windows), "effective_bandwidth_hz": covered(imaged)}


def covered(ranges: Iterable[tuple[float, float]]) -> float:
    """Length of the union of ranges."""
    total, end = 0.0, -np.inf
    for low, high in sorted(ranges):
        total += max(high - max(low, end), 0.0)
        end = max(end, high)
    return float(total)


def _channel_mask(text: str, count: int) -> np.ndarray:
    """Channels of a selection such as ``3~9;48~59``; all for an empty one."""
    if not text:
        return np.ones(count, bool)
    mask = np.zeros(count, bool)
    for part in text.split(";"):
        first, _, last = part.partition("~")
        mask[int(first) : int(last or first) + 1] = True
    return mask


def _span(velocity: list[float], channels: list[int]) -> tuple[float, float] | None:
    if not velocity or not channels:
        return None
    values = [velocity[i] for i in channels]
    return min(values), max(values)


def _line_free(frequency: list[float], target: CleanTarget) -> list[bool]:
    """Planes inside the continuum ranges; all, when none are known."""
    if not target.continuum or len(frequency) < 2:
        return [True] * len(frequency)
    return [any(low <= f <= high for low, high in target.continuum) for f in frequency]


def _clipped_rms(values: np.ndarray) -> float:
    """Standard deviation after five rounds of clipping at 5 sigma."""
    x = values[np.isfinite(values)]
    for _ in range(5):
        if x.size < 2:
            return 0.0
        sigma = float(x.std())
        keep = np.abs(x - x.mean()) <= 5 * sigma
        if keep.all():
            break
        x = x[keep]
    return float(x.std()) if x.size > 1 else 0.0


def _beam(image: Any) -> tuple[float, float, float] | None:
    beam = image.restoringbeam()
    if "beams" in beam:
        beam = next(iter(next(iter(beam["beams"].values())).values()))
    if "major" not in beam:
        return None
    scale = {"arcsec": 1.0, "deg": 3600.0, "rad": 206264.806}
    return (
        float(beam["major"]["value"]) * scale[beam["major"]["unit"]],
        float(beam["minor"]["value"]) * scale[beam["minor"]["unit"]],
        float(beam["positionangle"]["value"]),
    )


def _frequencies(image: Any, count: int) -> list[float]:
    system = image.coordsys()
    try:
        reference = np.atleast_1d(system.referencevalue(type="spectral")["numeric"])[0]
        step = np.atleast_1d(system.increment(type="spectral")["numeric"])[0]
        pixel = np.atleast_1d(system.referencepixel("spectral")["numeric"])[0]
    finally:
        system.done()
    return [float(reference + (i - pixel) * step) for i in range(count)]


def moments(ctx: Any, stem: str, target: CleanTarget, numbers: ImageNumbers) -> dict[str, str]:
    """Moment images over the line channels: 0, and 1 above 5 rms, and 8 (peak) over all channels."""
    made = {}
    image = f"{stem}.image"
    for kind, arguments in (
        ("mom8", {"moments": [8]}),
        ("mom0", {"moments": [0]}),
        ("mom1", {"moments": [1], "excludepix": [-1e9, 5 * numbers.rms]}),
    ):
        if kind != "mom8":
            if not numbers.line_channels:
                continue
            # The planes with a line, and two more on each side, so that faint wings count.
            first = max(min(numbers.line_channels) - 2, 0)
            last = min(max(numbers.line_channels) + 2, numbers.shape[3] - 1)
            arguments = {**arguments, "chans": f"{first}~{last}"}
        path = f"{stem}.{kind}"
        ctx.files.rmtree(path)
        ctx.casa.immoments(imagename=image, axis="spectral", outfile=path, **arguments)
        if Path(path).is_dir():
            made[kind] = path
    return made
