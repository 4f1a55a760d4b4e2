"""Pages from the continuum to the list of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pl_hif.measure import planes
from pl_hif.stages.findcont import FindcontResult, FoundContinuum
from pl_hif.stages.makeimlist import MakeimlistResult
from pl_hif.stages.uvcontsub import UvcontsubResult
from pl_hif.targets import CleanTarget
from pl_hif.weblog.images import sky_frame, spw_text
from pl_kernel import renderer

C_KM_S = 299_792.458


def _nothing(page: Any, result: FindcontResult | UvcontsubResult) -> bool:
    """Say why there was nothing to do, where that is so."""
    if result.skipped or result.refusal:
        page.note(result.refusal or result.skipped, "error" if result.refusal else "info")
    return bool(result.skipped or result.refusal)


@renderer(FindcontResult)
def findcont_page(page: Any, ctx: Any, result: FindcontResult) -> None:
    """Ranges, spectra with the ranges marked, and where the emission is."""
    if _nothing(page, result):
        return
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
    if _nothing(page, result):
        return
    page.section("Fits")
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "warning" if result.subtractions else "error")
    page.table(
        ["Measurement set", "Field", "Spw", "Channels", "Order", "Why", "Line data"],
        [[s.vis, s.field, s.spw, s.channels or "all", s.order, s.reason, s.outputvis] for s in result.subtractions],
        filters=("Field", "Spw"),
    )


_COLUMNS: tuple[tuple[str, Callable[[CleanTarget], Any]], ...] = (
    ("Field", lambda t: t.field),
    ("Intent", lambda t: t.intent),
    ("Spw", lambda t: spw_text(t.spws)),
    ("Kind", lambda t: t.specmode),
    ("Stokes", lambda t: t.stokes),
    ("Data", lambda t: t.datatype),
    ("Centre", lambda t: t.phasecenter),
    ("Pixel", lambda t: t.cell_arcsec),
    ("Size", lambda t: f"{t.imsize[0]}\u00a0×\u00a0{t.imsize[1]}"),
    ("Start", lambda t: t.start_hz / 1e9 if t.start_hz else None),
    ("Width", lambda t: t.width_hz / 1e3 if t.width_hz else None),
    ("Channels", lambda t: t.nchan if t.nchan > 0 else None),
    ("Rest frequency", lambda t: t.restfreq_hz / 1e9 if t.restfreq_hz else None),
    ("Robust", lambda t: t.robust),
    ("Baselines", lambda t: t.uvrange),
    ("Taper", lambda t: ", ".join(t.uvtaper)),
    ("Gridder", lambda t: t.gridder if t.gridder != "standard" else ""),
    ("Planes", lambda t: t.wprojplanes or None),
    ("Deconvolver", lambda t: f"{t.deconvolver}, {t.nterms} terms" if t.nterms > 1 else t.deconvolver),
    ("Beam (estimated)", lambda t: t.beam_estimate_arcsec),
    ("Image", lambda t: t.imagename),
)


_UNITS = {"Pixel": "arcsec", "Beam (estimated)": "arcsec", "Start": "GHz", "Width": "kHz", "Rest frequency": "GHz"}
_FORMATS = {"Beam (estimated)": ".1f", "Start": ".6f", "Width": ".6g", "Rest frequency": ".6f"}


@renderer(MakeimlistResult)
def makeimlist_page(page: Any, ctx: Any, result: MakeimlistResult) -> None:
    """The list, and why its numbers are what they are."""
    page.section("Images to make")
    if result.refusal or result.nothing:
        page.note(result.refusal or result.nothing, "error" if result.refusal else "info")
        return
    page.text(f"{len(result.targets)} of {result.expected} images, from data of type {result.datatype}.")
    columns = [(name, [how(t) for t in result.targets]) for name, how in _COLUMNS]
    # What no image makes use of is no column.
    shown = {name: values for name, values in columns if any(v not in (None, "") for v in values)}
    page.table(
        list(shown), [list(row) for row in zip(*shown.values(), strict=True)], filters=("Field", "Spw"),
        units={name: unit for name, unit in _UNITS.items() if name in shown},
        formats={name: form for name, form in _FORMATS.items() if name in shown},
    )  # fmt: skip
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    page.section("Why", level="detail")
    page.table(
        ["Field", "Spw", "Parameter", "Reason"],
        [[t.field, spw_text(t.spws), k, v] for t in result.targets for k, v in t.reasons.items()],
        filters=("Field", "Parameter"),
    )
