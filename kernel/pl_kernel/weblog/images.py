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
_SPEED_KM_S = 299792.458
_MOST_PIXELS = 4_000_000  # of a histogram: more change neither the curve nor the noise in it


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
        entries = [(p.file, f"{record.name}: {p.caption}", {**tags, "type": p.kind}, p.facts) for p in pictures]
        failed = [f"{record.name}: {complaint}"] if complaint else []
        page.group(record.name, entries, failed=failed)
        drawn += bool(pictures)
    return drawn


def _draw_image(ctx_item: Any, record: ImageRecord, folder: str) -> tuple[list[_Drawn], str]:
    try:
        cut = read_cut(ctx_item, record.name)
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
    picture("plane", f"plane of the peak ({subtitle})" if cube else record.kind, _with_unit(facts, cut.unit))
    if cut.peak_map is not None and not diverging:
        facts = plots.image_panel(
            folder / f"{stem}.peak.png", cut.peak_map, frame=frame, beam=cut.beam, unit=cut.unit, title=record.field,
            subtitle="greatest value of each pixel",
        )  # fmt: skip
        picture("peak", "greatest value along the spectral axis", None)
    if cube:
        _spectrum(folder / f"{stem}.spectrum.png", record, cut)
        picture("spectrum", "spectrum at the peak", None)
    noise = plots.histogram(
        folder / f"{stem}.histogram.png", cut.sample, unit=cut.unit, label="Brightness", title=record.field,
        subtitle=record.name,
    )  # fmt: skip
    picture("histogram", "histogram of the pixels", _with_unit({"noise σ": noise["noise_sigma"]}, cut.unit))
    return drawn


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


def read_cut(ctx_item: Any, name: str) -> ImageCut:
    """Read an image plane by plane (Stokes I, or the first), so that a large cube needs the memory of one plane."""
    with ctx_item.casa.image(name) as image:
        summary = image.summary(list=False)
        axes = [str(a) for a in summary["axisnames"]]
        shape = [int(n) for n in summary["shape"]]
        spectral = axes.index("Frequency") if "Frequency" in axes else -1
        channels = shape[spectral] if spectral >= 0 else 1
        stride = max(1, math.ceil(shape[0] * shape[1] * channels / _MOST_PIXELS))
        best, best_channel, best_plane = -math.inf, 0, None
        peak_map: FloatArray | None = None
        samples = []
        for channel in range(channels):
            plane = _plane(image, shape, spectral, channel)
            samples.append(plane.ravel()[channel % stride :: stride])
            peak_map = plane if peak_map is None else np.fmax(peak_map, plane)
            top = float(np.nanmax(plane)) if np.isfinite(plane).any() else -math.inf
            if best_plane is None or top > best:
                best, best_channel, best_plane = top, channel, plane
        assert best_plane is not None
        spectrum = _spectrum_at(image, shape, spectral, best_plane)
        beam = _beam(image, best_channel)
        rest = _rest_frequency(image)
        unit = str(summary.get("unit", "")) or "arbitrary"
    ra, dec = (float(summary["refval"][k]) * 180 / math.pi for k in (0, 1))
    increment = float(summary["incr"][spectral]) if spectral >= 0 else 0.0
    reference = float(summary["refval"][spectral]) if spectral >= 0 else 0.0
    origin = float(summary["refpix"][spectral]) if spectral >= 0 else 0.0
    frequency = np.asarray(reference + increment * (np.arange(channels) - origin), dtype=np.float64)
    sample = np.concatenate(samples)
    return ImageCut(
        plane=best_plane, channel=best_channel, peak_map=peak_map if channels > 1 else None, spectrum=spectrum,
        frequency_hz=frequency, rest_hz=rest, sample=sample[np.isfinite(sample)], ra_deg=ra % 360.0, dec_deg=dec,
        cell_arcsec=abs(float(summary["incr"][1])) * 180 / math.pi * 3600, x0=float(summary["refpix"][0]),
        y0=float(summary["refpix"][1]), beam=beam, unit=unit,
    )  # fmt: skip


def _plane(image: Any, shape: list[int], spectral: int, channel: int) -> FloatArray:
    low = [0] * len(shape)
    high = [shape[0] - 1, shape[1] - 1] + [0] * (len(shape) - 2)
    if spectral >= 0:
        low[spectral] = high[spectral] = channel
    values = np.squeeze(image.getchunk(low, high, dropdeg=True))
    good = np.squeeze(image.getchunk(low, high, dropdeg=True, getmask=True))
    return np.where(good, values, np.nan).reshape(shape[0], shape[1]).T.astype(np.float64)


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
