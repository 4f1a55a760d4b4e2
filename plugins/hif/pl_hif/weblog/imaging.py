"""Pages from the continuum to the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.measure import planes
from pl_hif.stages.findcont import FindcontResult, FoundContinuum
from pl_hif.stages.makeimages import MadeImage, MakeimagesResult
from pl_hif.stages.makeimlist import MakeimlistResult
from pl_hif.stages.uvcontsub import UvcontsubResult
from pl_kernel import renderer

C_KM_S = 299_792.458


@renderer(FindcontResult)
def findcont_page(page: Any, ctx: Any, result: FindcontResult) -> None:
    """Ranges, spectra with the ranges marked, and where the emission is."""
    page.section("Continuum ranges")
    page.table(
        ["Field", "Spw", "Status", "From", "To", "Frame", "Channels", "Share", "Line at"],
        [
            [f.record.field, f.record.spw, f.status, low / 1e9, high / 1e9, f.record.frame, f"{a}~{b}",
             100 * f.fraction,
             f"{f.peak_snr:.0f} sigma" if f.line_hz else "–"]
            for f in result.found
            for (low, high), (a, b) in zip(f.record.ranges_hz, f.cube_ranges, strict=True)
        ],
        units={"From": "GHz", "To": "GHz", "Share": "%"}, filters=("Field", "Spw"),
        formats={"From": ".6f", "To": ".6f", "Share": ".0f"},
        caption="Channels are those of the dirty cube; the share counts all ranges of the window.",
    )  # fmt: skip
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    page.section("Spectra")
    page.text(
        "Mean spectrum of the pixels with emission in a dirty cube; shaded is what counts as continuum. The dirty "
        "image under it shows the "
        "largest channel of each pixel, with the regions of line emission that the imaging cleans in."
    )
    page.plots(
        draw_spectrum, result.found, caption=lambda f: f"{f.record.field}, spw {f.record.spw}: {f.reason}",
        tags=lambda f: {"field": f.record.field, "spw": str(f.record.spw), "type": "spectrum"}, size="large",
        name="spectrum",
    )  # fmt: skip
    page.plots(
        draw_dirty, result.found, caption=lambda f: f"{f.record.field}, spw {f.record.spw}: peak over the channels",
        tags=lambda f: {"field": f.record.field, "spw": str(f.record.spw), "type": "image"}, name="dirty",
    )  # fmt: skip


def draw_spectrum(ctx: Any, found: FoundContinuum, path: Path) -> dict[str, str]:
    """Mean spectrum with continuum ranges, against velocity when there is a rest frequency."""
    from pl_kernel.weblog import plots

    frequency = np.array(found.frequency_hz)
    values = 1e3 * np.array(found.spectrum)
    ranges = [(low / 1e9, high / 1e9) for low, high in found.record.ranges_hz]
    plots.spectrum(
        path, frequency / 1e9, values, axis_label=f"Frequency, {found.record.frame} (GHz)", ylabel="Mean in the mask",
        unit="mJy/beam", ranges=ranges, title=f"{found.record.field}, spw {found.record.spw}",
        subtitle=f"noise {1e3 * found.noise:.2g} mJy/beam",
    )  # fmt: skip
    facts = {"Line": f"{found.peak_snr:.0f} sigma", "Mask": f"{found.mask_pixels} pixels"}
    if found.restfreq_hz and found.line_hz:
        ends = [C_KM_S * (1 - f / found.restfreq_hz) for pair in found.line_hz for f in pair]
        facts["Velocity"] = f"{min(ends):.0f} … {max(ends):.0f} km/s"
    return facts


def draw_dirty(ctx: Any, found: FoundContinuum, path: Path) -> None:
    """Peak over the channels of the dirty cube, with the line regions outlined."""
    from pl_kernel.weblog import plots

    name = f"{found.image}.residual"
    peak = np.fmax.reduce(list(planes(ctx, name)))
    frame = sky_frame(ctx, name)
    outline = np.zeros(peak.shape)
    scale = 3600.0 / frame.cell_arcsec
    for region in found.record.regions:
        (ra1, dec1), (ra2, dec2) = region.corners_deg
        xs = sorted(
            frame.x0 - ((ra - frame.ra_deg + 180) % 360 - 180) * np.cos(np.radians(frame.dec_deg)) * scale
            for ra in (ra1, ra2)
        )
        ys = sorted(frame.y0 + (dec - frame.dec_deg) * scale for dec in (dec1, dec2))
        outline[max(int(xs[0]), 0) : int(xs[1]) + 1, max(int(ys[0]), 0) : int(ys[1]) + 1] = 1
    plots.image_panel(
        path, peak.T, frame=frame, title=found.record.field, subtitle="dirty, peak over channels", contours=outline.T
    )


@renderer(UvcontsubResult)
def uvcontsub_page(page: Any, ctx: Any, result: UvcontsubResult) -> None:
    """What was fitted where."""
    page.section("Fits")
    page.table(
        ["Measurement set", "Field", "Spw", "Channels", "Order", "Why", "Line data"],
        [[s.vis, s.field, s.spw, s.channels or "all", s.order, s.reason, s.outputvis] for s in result.subtractions],
        filters=("Field", "Spw"),
    )


@renderer(MakeimlistResult)
def makeimlist_page(page: Any, ctx: Any, result: MakeimlistResult) -> None:
    """The list, and why its numbers are what they are."""
    page.section("Images to make")
    page.text(f"{len(result.targets)} of {result.expected} images, from data of type {result.datatype}.")
    page.table(
        ["Field", "Intent", "Spw", "Kind", "Pixel", "Size", "Channels", "Robust", "Deconvolver", "Beam (estimated)",
         "Image"],
        [
            [t.field, t.intent, ", ".join(map(str, t.spws)), t.specmode, t.cell_arcsec,
             f"{t.imsize[0]} × {t.imsize[1]}",
             t.nchan if t.nchan > 0 else 1, t.robust, t.deconvolver, t.beam_estimate_arcsec, t.imagename]
            for t in result.targets
        ],
        units={"Pixel": "arcsec", "Beam (estimated)": "arcsec"}, filters=("Field", "Spw"),
        formats={"Beam (estimated)": ".1f"},
    )  # fmt: skip
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    page.section("Why", level="detail")
    page.table(
        ["Field", "Spw", "Parameter", "Reason"],
        [[t.field, ", ".join(map(str, t.spws)), k, v] for t in result.targets for k, v in t.reasons.items()],
        filters=("Field", "Parameter"),
    )


@renderer(MakeimagesResult)
def makeimages_page(page: Any, ctx: Any, result: MakeimagesResult) -> None:
    """Numbers, images, residuals, moments, spectra."""
    page.section("Images")
    page.table(
        ["Field", "Spw", "Kind", "Peak", "Noise", "Expected noise", "Dynamic range", "Beam", "Residual peak", "Cycles",
         "Mask", "Stopped"],
        [_row(i) for i in result.images],
        units={"Peak": "mJy/beam", "Noise": "mJy/beam", "Expected noise": "mJy/beam", "Beam": "arcsec",
            "Residual peak": "mJy/beam"},
        filters=("Field", "Spw"),
        formats={"Peak": ".2f", "Noise": ".3f", "Expected noise": ".3f", "Dynamic range": ".0f",
            "Residual peak": ".2f"},
        caption="Expected noise: what the scatter of the visibilities promises with natural weights.",
    )  # fmt: skip
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    for image in result.images:
        page.section(f"{image.target.field}, spw {', '.join(map(str, image.target.spws))}, {image.target.specmode}")
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
        ["Image", "Attempt", "Masks", "Gain", "Cyclefactor", "Sigma", "Limit", "Iterations", "Major cycles",
         "Stop code", "Outcome"],
        [
            [i.name, n, a.masking, a.gain, a.cyclefactor, a.nsigma, a.niter, a.iterations, a.major_cycles, a.stop_code,
             a.reason]
            for i in result.images
            for n, a in enumerate(i.attempts, 1)
        ],
    )  # fmt: skip


_STOPS = {
    0: "–", 1: "number of cycles", 2: "threshold", 3: "by hand", 4: "no change", 5: "divergence", 6: "divergence",
    7: "empty mask", 8: "noise level", 9: "major cycles",
}  # fmt: skip


def _row(image: MadeImage) -> list[Any]:
    n, last = image.numbers, image.attempts[-1]
    return [
        image.target.field, ", ".join(map(str, image.target.spws)), image.target.specmode, 1e3 * n.peak, 1e3 * n.rms,
        1e3 * n.expected_rms, n.peak / n.rms if n.rms > 0 else None,
        f"{n.beam[0]:.1f} × {n.beam[1]:.1f}" if n.beam else "–", 1e3 * last.residual_peak, last.iterations,
        last.masking,
        _STOPS.get(last.stop_code, str(last.stop_code)),
    ]  # fmt: skip


@attrs.frozen(kw_only=True)
class Shown:
    """One picture of an image: which file, how to flatten and colour it."""

    image: MadeImage
    kind: str
    file: str
    caption: str
    unit: str = "Jy/beam"
    diverging: bool = False
    outline: Any = None
    limits: tuple[float, float] | None = None


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
        caption=f"Image{flat}; outlined is the mask",
              outline=outline)
    )  # fmt: skip
    if "residual" in files:
        found.append(
            Shown(image=image, kind="residual", file=files["residual"], diverging=True, outline=outline,
                  caption="Residual" + (", channel of the peak" if cube else ""))
        )  # fmt: skip
    return found


def draw_image(ctx: Any, item: Shown, path: Path) -> dict[str, str]:
    """One plane of an image on the sky."""
    from pl_kernel.weblog import plots

    channel = item.image.numbers.peak_pixel[2] if item.kind == "residual" else 0
    data = _plane(ctx, item.file, channel)
    beam = item.image.numbers.beam
    stats = plots.image_panel(
        path, data.T, frame=sky_frame(ctx, item.file), beam=beam, unit=item.unit, title=item.image.target.field,
        subtitle=item.kind, contours=item.outline, colour_map="diverging" if item.diverging else "sequential",
        limits=item.limits if item.kind == "moment 1" else None,
    )  # fmt: skip
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
