"""Pictures of images: planes, peak maps, spectra and histograms, each image read once.  Drawn in a worker.

A renderer calls ``show_images(page, ctx, records)``; what it adds carries the tag ``image`` and so appears in the
gallery of the web log as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_kernel.context import ImageRecord
from pl_kernel.weblog.names import slug
from pl_kernel.weblog.page import Page

FloatArray = NDArray[np.float64]
_DEGREES = {"rad": 180 / math.pi, "deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600}
_SPEED_KM_S = 299792.458
_MOST_PIXELS = 1_000_000  # of a histogram: more change neither the curve nor the noise in it
_BLOCK_PIXELS = 4_000_000  # read at once: 32 MB as double precision
_BRIGHTNESS = ("image", "pbcor", "residual")  # kinds with noise, and with a spectrum worth looking at


@attrs.frozen(eq=False)
class ImageCut:
    """What the pictures of one image need, with rows from south to north and columns from east to west.

    plane : (ny, nx), NaN where masked: the plane with the peak.  peak_map : greatest value along the spectral axis
    (cubes).  spectrum : (nchan,) at the peak.  sample : values for the histogram.  Frequencies in Hz.
    """

    plane: FloatArray
    channel: int
    peak_map: FloatArray | None
    spectrum: FloatArray
    frequency_hz: FloatArray
    rest_hz: float
    sample: FloatArray
    ra_deg: float
    dec_deg: float
    cell_arcsec: float
    x0: float
    y0: float
    beam: tuple[float, float, float] | None
    unit: str


@attrs.frozen
class _Drawn:
    file: str
    caption: str
    kind: str
    facts: Mapping[str, Any]


def show_images(page: Page, ctx: Any, records: Iterable[ImageRecord]) -> int:
    """Add the pictures of `records` (images in the work folder) to a page; return how many images could be drawn."""
    records = list(records)
    folder = ctx.stage_dir / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = ctx.map(_draw_image, records, str(folder), label="images")
    drawn = 0
    for record, (pictures, complaint) in zip(records, outcomes, strict=True):
        spws = ",".join(map(str, record.spws))
        tags = {"image": record.name, "field": record.field, "intent": record.intent, "spw": spws}
        entries = [(p.file, p.caption, {**tags, "type": p.kind}, p.facts) for p in pictures]
        failed = [f"{record.name}: {complaint}"] if complaint else []
        page.group(record.name, entries, failed=failed)
        drawn += bool(pictures)
    return drawn


def _draw_image(ctx_item: Any, record: ImageRecord, folder: str) -> tuple[list[_Drawn], str]:
    try:
        cut = read_cut(ctx_item, record.name, record.unit, whole=record.kind in _BRIGHTNESS)
        return _draw_cut(record, cut, Path(folder)), ""
    except Exception as error:  # one image that cannot be shown must not hide the others
        ctx_item.log.warning(f"Image {record.name} could not be drawn: {error}")
        return [], f"{type(error).__name__}: {error}"


def _draw_cut(record: ImageRecord, cut: ImageCut, folder: Path) -> list[_Drawn]:
    from pl_kernel.weblog import plots

    frame = plots.SkyFrame(cut.ra_deg, cut.dec_deg, cut.cell_arcsec, cut.x0, cut.y0)
    stem = slug(record.name, 60)
    cube = cut.frequency_hz.size > 1
    diverging = record.kind in ("residual", "mom1")
    subtitle = f"channel {cut.channel}, {cut.frequency_hz[cut.channel] / 1e9:.6f} GHz" if cube else ""
    drawn = []

    def picture(kind: str, caption: str, facts: Mapping[str, Any] | None) -> None:
        drawn.append(_Drawn(str(folder / f"{stem}.{kind}.png"), caption, kind, facts or {}))

    facts = plots.image_panel(
        folder / f"{stem}.plane.png", cut.plane, frame=frame, beam=cut.beam, unit=cut.unit, title=record.field,
        subtitle=subtitle, colour_map="diverging" if diverging else "sequential",
    )  # fmt: skip
    which = "plane of the peak" if record.kind in _BRIGHTNESS else f"{record.kind}, middle plane"
    picture("plane", f"{which} ({subtitle})" if cube else record.kind, _with_unit(facts, cut.unit))
    if cut.peak_map is not None and not diverging:
        facts = plots.image_panel(
            folder / f"{stem}.peak.png", cut.peak_map, frame=frame, beam=cut.beam, unit=cut.unit, title=record.field,
            subtitle="greatest value of each pixel",
        )  # fmt: skip
        picture("peak", "greatest value along the spectral axis", None)
    if cube and record.kind in ("image", "pbcor"):
        _spectrum(folder / f"{stem}.spectrum.png", record, cut)
        picture("spectrum", "spectrum at the peak", None)
    if record.kind not in _BRIGHTNESS:  # noise is what the histogram is for
        return drawn
    noise = plots.histogram(
        folder / f"{stem}.histogram.png", cut.sample, unit=cut.unit, label="Brightness", title=record.field,
        subtitle=record.name,
    )  # fmt: skip
    picture("histogram", "histogram of the pixels", _with_unit({"noise σ": noise["noise_sigma"]}, cut.unit))
    return drawn


def draw_noise(ctx_item: Any, name: str, path: Path, title: str = "") -> dict[str, str]:
    """Draw the histogram of one image (for ``page.plots``); return the noise that was fitted."""
    from pl_kernel.weblog import plots

    cut = read_cut(ctx_item, name)
    found = plots.histogram(path, cut.sample, unit=cut.unit, label="Brightness", title=title or name)
    return _with_unit({"noise σ": found["noise_sigma"]}, cut.unit)


def _with_unit(facts: Mapping[str, float], unit: str) -> dict[str, str]:
    return {
        k: f"{v:.0f}" if k == "pixels" else f"{v:.4g} {unit}".rstrip()
        for k, v in facts.items()
        if k != "sum" and math.isfinite(v)
    }


def _spectrum(path: Path, record: ImageRecord, cut: ImageCut) -> None:
    from pl_kernel.weblog import plots

    if cut.rest_hz > 0:
        axis, label = _SPEED_KM_S * (1 - cut.frequency_hz / cut.rest_hz), "Radio velocity (km/s)"
    else:
        axis, label = cut.frequency_hz / 1e9, "Frequency (GHz)"
    rms = plots.robust_rms(cut.sample)
    plots.spectrum(path, axis, cut.spectrum, axis_label=label, ylabel="Brightness", unit=cut.unit, rms=rms,
                   title=record.field, subtitle="at the peak")  # fmt: skip


def read_cut(ctx_item: Any, name: str, unit: str = "", whole: bool = True) -> ImageCut:
    """Read an image in pieces (Stokes I, or the first), so that a large cube needs little memory.

    unit : for images that do not say theirs.  whole : False reads the middle plane of a cube only.
    """
    with ctx_item.casa.image(name) as image:
        summary = image.summary(list=False)
        axes = [str(a) for a in summary["axisnames"]]
        shape = [int(n) for n in summary["shape"]]
        masked = bool(summary.get("hasmask", True))
        spectral = axes.index("Frequency") if "Frequency" in axes else -1
        channels = shape[spectral] if spectral >= 0 else 1
        stride = max(1, math.ceil(shape[0] * shape[1] * channels / _MOST_PIXELS))
        block = max(1, _BLOCK_PIXELS // (shape[0] * shape[1]))
        first, last = (0, channels) if whole else (channels // 2, channels // 2 + 1)
        plane, channel, peak_map = np.full((shape[1], shape[0]), np.nan), first, None
        best, samples = -math.inf, []
        for start in range(first, last, block):
            planes = _planes(image, shape, spectral, start, min(start + block, last), masked)
            samples.append(planes.ravel()[start % stride :: stride])
            tops = np.fmax.reduce(planes, axis=0)
            peak_map = tops if peak_map is None else np.fmax(peak_map, tops)
            peaks = np.fmax.reduce(planes.reshape(len(planes), -1), axis=1)
            if np.isfinite(peaks).any() and float(np.nanmax(peaks)) > best:
                offset = int(np.nanargmax(peaks))
                best, channel, plane = float(peaks[offset]), start + offset, planes[offset].copy()
        spectrum = _spectrum_at(image, shape, spectral, plane) if whole else np.zeros(channels)
        beam = _beam(image, channel)
        rest = _rest_frequency(image)
        unit = str(summary.get("unit", "")) or unit
    degrees = [_DEGREES.get(str(u), 180 / math.pi) for u in summary["axisunits"][:2]]
    ra, dec = (float(summary["refval"][k]) * degrees[k] for k in (0, 1))
    increment = float(summary["incr"][spectral]) if spectral >= 0 else 0.0
    reference = float(summary["refval"][spectral]) if spectral >= 0 else 0.0
    origin = float(summary["refpix"][spectral]) if spectral >= 0 else 0.0
    frequency = np.asarray(reference + increment * (np.arange(channels) - origin), dtype=np.float64)
    sample = np.concatenate(samples)
    return ImageCut(
        plane=plane, channel=channel, peak_map=peak_map if whole and channels > 1 else None, spectrum=spectrum,
        frequency_hz=frequency, rest_hz=rest, sample=sample[np.isfinite(sample)], ra_deg=ra % 360.0, dec_deg=dec,
        cell_arcsec=abs(float(summary["incr"][1])) * degrees[1] * 3600, x0=float(summary["refpix"][0]),
        y0=float(summary["refpix"][1]), beam=beam, unit=unit,
    )  # fmt: skip


def _planes(image: Any, shape: list[int], spectral: int, start: int, stop: int, masked: bool) -> FloatArray:
    """Planes of channels start … stop − 1, shape (channels, ny, nx), NaN where masked."""
    low = [0] * len(shape)
    high = [shape[0] - 1, shape[1] - 1] + [0] * (len(shape) - 2)
    if spectral >= 0:
        low[spectral], high[spectral] = start, stop - 1

    def chunk(**options: Any) -> Any:
        values = np.asarray(image.getchunk(low, high, **options))
        return values.reshape(shape[0], shape[1], stop - start).transpose(2, 1, 0)

    values = np.asarray(chunk(), dtype=np.float64)
    return np.where(chunk(getmask=True), values, np.nan) if masked else values


def _spectrum_at(image: Any, shape: list[int], spectral: int, plane: FloatArray) -> FloatArray:
    if spectral < 0 or not np.isfinite(plane).any():
        return np.zeros(1)
    row, column = np.unravel_index(int(np.nanargmax(plane)), plane.shape)
    low = [int(column), int(row)] + [0] * (len(shape) - 2)
    high = list(low)
    high[spectral] = shape[spectral] - 1
    values = np.asarray(image.getchunk(low, high), dtype=np.float64).ravel()
    good = np.asarray(image.getchunk(low, high, getmask=True), dtype=bool).ravel()
    return np.where(good, values, np.nan)


def _beam(image: Any, channel: int) -> tuple[float, float, float] | None:
    found = image.restoringbeam(channel=channel) or image.restoringbeam()
    if not isinstance(found, dict) or "major" not in found:
        return None
    scale = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0, "rad": 206264.806}
    major, minor = (float(found[k]["value"]) * scale.get(str(found[k]["unit"]), 1.0) for k in ("major", "minor"))
    angle = found.get("positionangle") or found.get("pa") or {"value": 0.0}
    return major, minor, float(angle["value"]) * (180 / math.pi if angle.get("unit") == "rad" else 1.0)


def _rest_frequency(image: Any) -> float:
    system = image.coordsys()
    try:
        found = system.restfrequency()
        return float(np.atleast_1d(found["value"])[0]) if isinstance(found, dict) else 0.0
    except RuntimeError:  # no spectral axis
        return 0.0
    finally:
        system.done()
