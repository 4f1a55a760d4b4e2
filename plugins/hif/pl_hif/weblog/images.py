"""The page of images: can they be delivered? Numbers, pictures, how the cleaning went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.measure import planes
from pl_hif.stages.makeimages import MadeImage, MakeimagesResult
from pl_kernel import renderer

C_KM_S = 299_792.458
_ALPHA_ABOVE = 10.0
"""The spectral index is shown where the image is above this many sigma: below, it is noise."""


def spw_text(spws: Sequence[int]) -> str:
    """Windows in short: ``0~3, 6``."""
    runs: list[list[int]] = []
    for spw in sorted(spws):
        if runs and spw == runs[-1][1] + 1:
            runs[-1][1] = spw
        else:
            runs.append([spw, spw])
    return ", ".join(str(a) if a == b else f"{a}~{b}" for a, b in runs)


@renderer(MakeimagesResult)
def makeimages_page(page: Any, ctx: Any, result: MakeimagesResult) -> None:
    """Numbers, images, residuals, moments, spectra."""
    page.section("Images")
    if not result.expected:
        page.note("No image was listed, so none is made.", "info")
        return
    page.table(
        ["Field", "Spw", "Kind", "Peak", "Noise", "Expected", "Peak/noise", "Beam", "Residual", "Major cycles", "Stop"],
        [_row(i) for i in result.images],
        units={"Peak": "mJy", "Noise": "mJy", "Expected": "mJy", "Beam": "arcsec", "Residual": "mJy"},
        filters=("Field", "Spw"),
        formats={"Peak": ".2f", "Noise": ".3f", "Expected": ".3f", "Peak/noise": ".0f", "Residual": ".2f"},
        caption="Flux densities per beam. Expected: the noise that the scatter of the visibilities promises with these "
        "weights. Residual: the largest one.",
    )  # fmt: skip
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    for image in result.images:
        page.section(f"{image.target.field}, spw {spw_text(image.target.spws)}, {image.target.specmode}")
        if image.numbers.line_velocity_km_s:
            low, high = image.numbers.line_velocity_km_s
            page.facts({
                "Line above 5 sigma": f"{low:.0f} … {high:.0f} km/s (radio velocity, {image.target.outframe})",
                "Peak": f"{1e3 * image.numbers.peak:.1f} mJy/beam at "
                f"{image.numbers.velocity_km_s[image.numbers.peak_pixel[2]]:.0f} km/s",
                "Noise of line-free channels": f"{1e3 * image.numbers.rms:.2f} mJy/beam",
            })  # fmt: skip
        items = _pictures(ctx, image)
        page.plots(
            draw_image, items, caption=lambda i: i.caption,
            tags=lambda i: {**_tags(i.image), "type": i.kind}, name="image",
        )  # fmt: skip
        page.plots(
            draw_histogram, [image], caption="Histogram of the pixels, with the Gaussian that fits the noise",
            tags={**_tags(image), "type": "histogram"}, name="histogram",
        )  # fmt: skip
        if image.numbers.spectrum:
            page.plots(
                draw_peak_spectrum, [image],
                caption="Spectrum at the pixel of the peak; shaded are the continuum channels.",
                tags={**_tags(image), "type": "spectrum"}, size="large", name="peak-spectrum",
            )  # fmt: skip
            page.plots(
                draw_channel_noise, [image],
                caption="Noise of every channel, and what the visibilities promise (dashed).",
                tags={**_tags(image), "type": "noise"}, size="large", name="noise",
            )  # fmt: skip
    page.section("Deconvolution", level="detail")
    page.table(
        ["Field", "Spw", "Kind", "Data", "Stokes", "Frequency", "Bandwidth", "Imaged", "Fractional",
         "Angle of the beam", "Threshold", "Dirty peak/noise", "Residual peak/noise", "Corrected maximum",
         "Corrected minimum"],
        [_detail(i) for i in result.images], filters=("Field", "Spw"),
        units={
            "Frequency": "GHz", "Bandwidth": "MHz", "Imaged": "MHz", "Fractional": "%", "Angle of the beam": "deg",
            "Threshold": "mJy", "Corrected maximum": "mJy", "Corrected minimum": "mJy",
        },
        formats={
            "Frequency": ".4f", "Bandwidth": ".4g", "Imaged": ".4g", "Fractional": ".2f", "Angle of the beam": ".0f",
            "Threshold": ".3f", "Dirty peak/noise": ".0f", "Residual peak/noise": ".1f", "Corrected maximum": ".2f",
            "Corrected minimum": ".2f",
        },
        caption="Frequency: the centre of the image. Imaged: bandwidth of the channels that went into it. "
        "Corrected: divided by the primary beam, where that is above 0.3.",
    )  # fmt: skip
    page.table(
        ["Image", "Attempt", "Masks", "Gain", "Cyclefactor", "Sigma", "Limit", "Iterations", "Major cycles",
         "Stop code", "Outcome"],
        [
            [i.name, n, a.masking, a.gain, a.cyclefactor, a.nsigma, a.niter, a.iterations, a.major_cycles, a.stop_code,
             a.reason]
            for i in result.images
            for n, a in enumerate(i.attempts, 1)
        ],
    )  # fmt: skip
    rounds = [
        [i.target.field, spw_text(i.target.spws), n, r.islands, r.mask_pixels, 1e3 * r.level, 1e3 * r.noise,
         1e3 * r.peak, 1e3 * r.threshold, r.iterations, r.major_cycles, 1e3 * r.residual_peak]
        for i in result.images
        for n, r in enumerate(i.attempts[-1].rounds, 1)
    ]  # fmt: skip
    if rounds:
        page.table(
            ["Field", "Spw", "Round", "Islands", "Pixels", "Found above", "Noise there", "From", "Down to",
             "Iterations", "Major cycles", "Residual"],
            rows=rounds, filters=("Field", "Spw"),
            units=dict.fromkeys(("Found above", "Noise there", "From", "Down to", "Residual"), "mJy"),
            formats=dict.fromkeys(("Found above", "Noise there", "From", "Down to", "Residual"), ".3f"),
            caption="Rounds of cleaning: what stood out of noise and sidelobes, and how deep it was cleaned.",
        )  # fmt: skip
    islands = [
        [i.target.field, spw_text(i.target.spws), f"{k.pixel[0]}, {k.pixel[1]}", 1e3 * k.flux_jy, 100 * k.missing,
         100 * k.error, 100 * k.lost]
        for i in result.images
        for k in i.islands
    ]  # fmt: skip
    if islands:
        page.table(
            ["Field", "Spw", "Pixel", "Flux density", "Left over", "Error", "Beyond threshold"], rows=islands,
            filters=("Field", "Spw"),
            units={"Flux density": "mJy", "Left over": "%", "Error": "%", "Beyond threshold": "%"},
            formats={"Flux density": ".3f", "Left over": ".2f", "Error": ".2f", "Beyond threshold": ".2f"},
            caption="The brightest islands of clean's model, what the residual says they lack, and what of it is "
            "beyond three errors and what clean's threshold leaves on purpose.",
        )  # fmt: skip


_STOPS = {
    0: "–", 1: "number of cycles", 2: "threshold", 3: "by hand", 4: "no change", 5: "divergence", 6: "divergence",
    7: "empty mask", 8: "noise level", 9: "major cycles",
}  # fmt: skip


def _row(image: MadeImage) -> list[Any]:
    n, last = image.numbers, image.attempts[-1]
    return [
        image.target.field, spw_text(image.target.spws), image.target.specmode, 1e3 * n.peak, 1e3 * n.rms,
        1e3 * n.expected_rms, n.peak / n.rms if n.rms > 0 else None,
        f"{n.beam[0]:.3g} × {n.beam[1]:.3g}" if n.beam else "–", 1e3 * last.residual_peak, last.major_cycles,
        _STOPS.get(last.stop_code, str(last.stop_code)),
    ]  # fmt: skip


def _detail(image: MadeImage) -> list[Any]:
    n, t, last = image.numbers, image.target, image.attempts[-1]
    middle = n.frequency_hz[len(n.frequency_hz) // 2] if n.frequency_hz else 0.0
    depth = last.threshold_jy or (last.rounds[-1].threshold if last.rounds else last.nsigma * n.rms)
    return [
        t.field, spw_text(t.spws), t.specmode, t.datatype, t.stokes, middle / 1e9, n.bandwidth_hz / 1e6,
        n.effective_bandwidth_hz / 1e6, 100 * n.bandwidth_hz / middle if middle else None,
        n.beam[2] if n.beam else None, 1e3 * depth, image.dirty_peak / n.rms if n.rms > 0 else None,
        last.residual_peak / n.rms if n.rms > 0 else None, 1e3 * n.corrected_peak, 1e3 * n.corrected_minimum,
    ]  # fmt: skip


@attrs.frozen(kw_only=True)
class Shown:
    """One picture of an image: which file, how to flatten and colour it.

    ``window`` (x1, y1, x2, y2) is the part that is shown; ``above``: only where the image is brighter, Jy/beam.
    """

    image: MadeImage
    kind: str
    file: str
    caption: str
    unit: str = "Jy/beam"
    diverging: bool = False
    outline: Any = None
    limits: tuple[float, float] | None = None
    window: tuple[int, int, int, int] | None = None
    above: float | None = None


def _pictures(ctx: Any, image: MadeImage) -> list[Shown]:
    files, moments = image.files, image.moments
    outline = None
    if "mask" in files:
        outline = np.fmax.reduce(list(planes(ctx, files["mask"], masked=False))).T > 0.5
    n = image.numbers
    cube = image.target.specmode == "cube"
    flat = ", peak over channels" if cube else ""
    found = []
    if "mom0" in moments:
        found.append(
            Shown(image=image, kind="moment 0", file=moments["mom0"], caption="Integrated intensity of the line",
                  unit="Jy/beam km/s")
        )  # fmt: skip
    if "mom1" in moments:
        found.append(
            Shown(image=image, kind="moment 1", file=moments["mom1"], caption="Mean velocity, where the line is "
                "above 5 sigma",
                  unit="km/s", diverging=True, limits=n.line_velocity_km_s)
        )  # fmt: skip
    found.append(
        Shown(image=image, kind="image", file=moments.get("mom8") or files["image"],
              caption=f"{image.target.field}, {image.target.specmode}{flat}; outlined is the mask", outline=outline)
    )  # fmt: skip
    close = _close_up(outline) if outline is not None and not cube else None
    if close is not None:
        found.append(
            Shown(image=image, kind="close-up", file=files["image"], caption="The part that was cleaned",
                  outline=outline, window=close)
        )  # fmt: skip
    if "residual" in files:
        found.append(
            Shown(image=image, kind="residual", file=files["residual"], diverging=True, outline=outline,
                  caption="Residual" + (", channel of the peak" if cube else ""))
        )  # fmt: skip
    if "psf" in files:
        found.append(
            Shown(image=image, kind="dirty beam", file=files["psf"], unit="", diverging=True, limits=(-0.5, 0.5),
                  caption="The middle of the dirty beam; colours end at half of its peak", window=_middle(image))
        )  # fmt: skip
    if "pb" in files:
        found.append(
            Shown(image=image, kind="primary beam", file=files["pb"], unit="", limits=(0.0, 1.0),
                  caption="Response of the antennas, by which the corrected image is divided")
        )  # fmt: skip
    if "model" in files and not cube:
        found.append(
            Shown(image=image, kind="model", file=files["model"], unit="Jy/pixel", window=close, outline=outline,
                  caption="What clean found, not smoothed with the beam")
        )  # fmt: skip
    if "alpha" in files and n.peak > _ALPHA_ABOVE * n.rms:
        found.append(
            Shown(image=image, kind="spectral index", file=files["alpha"], unit="", diverging=True, limits=(-2.0, 2.0),
                  caption=f"Spectral index, where the image is above {_ALPHA_ABOVE:.0f} sigma", window=close,
                  above=_ALPHA_ABOVE * n.rms)
        )  # fmt: skip
    return found


_BEAMS_SHOWN = 20
"""Width of the picture of the dirty beam, in beams."""


def _middle(image: MadeImage) -> tuple[int, int, int, int] | None:
    """The inner part of an image, some beams wide; None when that is all of it."""
    nx, ny = (int(v) for v in image.numbers.shape[:2])
    if image.numbers.beam is None:
        return None
    half = max(int(_BEAMS_SHOWN / 2 * image.numbers.beam[0] / image.target.cell_arcsec), 16)
    if 2 * half >= min(nx, ny):
        return None
    return nx // 2 - half, ny // 2 - half, nx // 2 + half, ny // 2 + half


def _close_up(outline: np.ndarray) -> tuple[int, int, int, int] | None:
    """The masked part (of (ny, nx)) with a margin; None when that is most of the image anyway."""
    if not outline.any():
        return None
    ys, xs = np.flatnonzero(outline.any(axis=1)), np.flatnonzero(outline.any(axis=0))
    half = int(0.7 * max(np.ptp(xs), np.ptp(ys), 30))
    x, y = int(xs[0] + xs[-1]) // 2, int(ys[0] + ys[-1]) // 2
    ny, nx = outline.shape
    window = max(x - half, 0), max(y - half, 0), min(x + half, nx - 1), min(y + half, ny - 1)
    return window if (window[2] - window[0]) * (window[3] - window[1]) < 0.5 * nx * ny else None


def draw_image(ctx: Any, item: Shown, path: Path) -> dict[str, str]:
    """One plane of an image on the sky."""
    from pl_kernel.weblog import plots

    channel = item.image.numbers.peak_pixel[2] if item.kind == "residual" else 0
    data = _plane(ctx, item.file, channel)
    frame, outline = sky_frame(ctx, item.file), item.outline
    if item.above is not None:
        data = np.where(_plane(ctx, item.image.files["image"], 0) > item.above, data, np.nan)
    if item.window is not None:
        x1, y1, x2, y2 = item.window
        data, frame = data[x1 : x2 + 1, y1 : y2 + 1], attrs.evolve(frame, x0=frame.x0 - x1, y0=frame.y0 - y1)
        outline = None if outline is None else outline[y1 : y2 + 1, x1 : x2 + 1]
    stats = plots.image_panel(
        path, data.T, frame=frame, beam=item.image.numbers.beam, unit=item.unit, title=item.image.target.field,
        subtitle=item.kind, contours=outline, colour_map="diverging" if item.diverging else "sequential",
        limits=item.limits,
    )  # fmt: skip
    if item.above is not None:
        return {"Lowest": f"{np.nanmin(data):.2f}", "Highest": f"{np.nanmax(data):.2f}"}
    return {
        "Peak": f"{stats['peak']:.4g} {item.unit}",
        "Minimum": f"{stats['minimum']:.4g}",
        "Rms": f"{stats['rms']:.3g}",
    }


def _tags(image: MadeImage) -> dict[str, str]:
    # "image" brings the pictures into the gallery of the web log.
    spws = ",".join(map(str, image.target.spws))
    return {"field": image.target.field, "spw": spws, "image": image.files.get("image", image.name)}


def draw_histogram(ctx: Any, image: MadeImage, path: Path) -> dict[str, str]:
    """Pixels of an image, and their noise."""
    from pl_kernel.weblog.images import draw_noise

    return draw_noise(ctx, image.files["image"], path, title=image.target.field)


def draw_peak_spectrum(ctx: Any, image: MadeImage, path: Path) -> None:
    """Spectrum at the peak, against velocity."""
    from pl_kernel.weblog import plots

    n, t = image.numbers, image.target
    axis = np.array(n.velocity_km_s) if n.velocity_km_s else np.array(n.frequency_hz) / 1e9
    ranges = t.continuum
    if n.velocity_km_s and t.restfreq_hz:
        ranges = tuple(
            (C_KM_S * (1 - high / t.restfreq_hz), C_KM_S * (1 - low / t.restfreq_hz)) for low, high in ranges
        )
    else:
        ranges = tuple((low / 1e9, high / 1e9) for low, high in ranges)
    plots.spectrum(
        path, axis, 1e3 * np.array(n.spectrum), ylabel="Flux density", unit="mJy/beam", rms=1e3 * n.rms, ranges=ranges,
        axis_label=f"Radio velocity, {t.outframe} (km/s)" if n.velocity_km_s else "Frequency (GHz)", title=t.field,
        subtitle=f"pixel {n.peak_pixel[0]}, {n.peak_pixel[1]}",
    )  # fmt: skip


def draw_channel_noise(ctx: Any, image: MadeImage, path: Path) -> None:
    """Noise against frequency."""
    from pl_kernel.weblog import plots

    n = image.numbers
    limits = (1e3 * n.expected_rms,) if n.expected_rms > 0 else ()
    plots.vs_frequency(
        path, np.array(n.frequency_hz), 1e3 * np.array(n.channel_rms), ylabel="Noise", unit="mJy/beam", limits=limits,
        title=f"{image.target.field}: noise of the channels",
    )  # fmt: skip


def _plane(ctx: Any, name: str, channel: int) -> np.ndarray:
    with ctx.casa.image(name) as image:
        shape = [int(v) for v in image.shape()]
        blc = [0] * len(shape)
        trc = [shape[0] - 1, shape[1] - 1, *([0] * (len(shape) - 2))]
        if len(shape) > 3:
            blc[3] = trc[3] = min(channel, shape[3] - 1)
        data = image.getchunk(blc, trc).reshape(shape[0], shape[1])
        good = image.getchunk(blc, trc, getmask=True).reshape(shape[0], shape[1])
    return np.where(good, data, np.nan)


def sky_frame(ctx: Any, name: str) -> Any:
    """Where an image lies on the sky."""
    from pl_kernel.weblog.plots import SkyFrame

    with ctx.casa.image(name) as image:
        system = image.coordsys()
        value = system.referencevalue(type="direction")["numeric"]
        pixel = system.referencepixel("direction")["numeric"]
        step = system.increment(type="direction")["numeric"]
        system.done()
    return SkyFrame(
        ra_deg=float(np.degrees(value[0])) % 360, dec_deg=float(np.degrees(value[1])),
        cell_arcsec=abs(float(np.degrees(step[1]))) * 3600, x0=float(pixel[0]), y0=float(pixel[1]),
    )  # fmt: skip
