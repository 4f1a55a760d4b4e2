"""Page of hsd_imaging: how deep the images are, what they show, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from pl_hsd.heuristics.dips import extrapolated
from pl_hsd.stages.imaging import ImagingResult, SdImage
from pl_hsd.weblog import mapplots
from pl_hsd.weblog.mapplots import Arrays, Shown
from pl_kernel import renderer

_CAPTIONS = {
    "integrated": "Integrated intensity over the line channels",
    "velocity": "Mean velocity of what is above 5 times the noise",
    "peak": "Largest value over the line channels",
    "noise": "Rms of the baselines of single spectra; outlined is where the image's noise is measured",
    "number": "Number of valid spectra closer than a beam",
    "channel maps": "Channel maps: means of the channels shaded above; the beam is in the lower left",
    "spectrum": "Mean spectrum of the map; shaded are the line ranges",
    "profiles": "Sparse profile map: mean spectra at their places; shaded are the line ranges",
    "contamination": "Emission at the OFF position? A dip would show where the map is empty",
    "missed at peak": "Emission outside the line ranges, at the brightest position",
    "missed extended": "Emission outside the line ranges, over the area where it is extended",
}


@renderer(ImagingResult)
def imaging_page(page: Any, ctx: Any, result: ImagingResult) -> None:
    """Sensitivities, then one section per combined image, then antennas and details."""
    page.section("Sensitivity")
    page.text(
        "Observed: the noise of the channels without lines, inside the raster less a beam. Theoretical: what system "
        "temperatures, integration times of ON and OFF, the raster and the gridding promise. The two should agree "
        "within 0.9 and 1.6."
    )
    measured = [i for i in result.images if i.numbers is not None]
    unit = _common_unit(measured)
    page.table(
        ["Source", "Spw", "Antenna", "Beam", "Cell", "Channels", "Width", "Effective", "Observed", "Theoretical",
         "Ratio", "Peak"],
        [_row(i) for i in sorted(measured, key=lambda i: (i.field, i.spw, not i.combined, i.antenna))],
        units={"Beam": "arcsec", "Cell": "arcsec", "Width": "kHz", "Effective": "kHz", "Observed": unit,
               "Theoretical": unit, "Peak": unit},
        filters=("Source", "Spw", "Antenna"),
        formats={"Cell": ".2f", "Width": ".1f", "Effective": ".1f", "Observed": ".3g", "Theoretical": ".3g",
                 "Ratio": ".2f", "Peak": ".4g"},
        caption="Width and effective bandwidth are those of a channel.",
    )  # fmt: skip
    for image in measured:
        if image.numbers and image.numbers.theory_missing and image.combined:
            level = "warning" if image.numbers.is_raster else "info"
            page.note(f"{image.label}: no theoretical noise: {image.numbers.theory_missing}.", level)
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    for problem in result.raster_problems:
        apart, few = "its rows and maps could not be told apart", "it has no two full rows beside each other"
        what = apart if problem.kind == "gap" else few
        page.note(f"Raster of {problem.antenna} in {problem.ms}: {what}.", "warning")
    whole = [i for i in measured if i.combined] or measured
    for image in whole:
        _image_section(page, ctx, image)
    _antenna_section(page, ctx, [i for i in measured if i not in whole])
    _detail_section(page, ctx, whole)


def _row(image: SdImage) -> list[Any]:
    n = image.numbers
    assert n is not None
    ratio = n.observed_rms / n.theoretical_rms if n.observed_rms and n.theoretical_rms else None
    return [
        image.field, image.spw, image.antenna or "all", f"{n.beam[0]:.1f} × {n.beam[1]:.1f}", n.cell_arcsec, n.channels,
        n.channel_width_hz / 1e3, n.effective_bandwidth_hz / 1e3, n.observed_rms, n.theoretical_rms, ratio, n.peak,
    ]  # fmt: skip


def _common_unit(images: list[SdImage]) -> str:
    return " or ".join(dict.fromkeys(i.numbers.unit for i in images if i.numbers))


def _image_section(page: Any, ctx: Any, image: SdImage) -> None:
    page.section(image.label, anchor=f"{image.field}-spw{image.spw}{'-' + image.antenna if image.antenna else ''}")
    page.facts(_facts(image))
    j = image.judgement
    n = image.numbers
    if n and j and j.contaminated:
        bent = extrapolated(n.velocity_km_s, n.channels, n.line_channels, j.contamination_velocity_km_s)
        why = "a line reaches the end of the band there: the baseline may be bent, or there is" if bent else "probably"
        page.note(
            f"The emptiest part of the map has a dip of {j.contamination_depth:.1f} σ at "
            f"{_speeds(j.contamination_velocity_km_s)}: {why} line emission at the OFF position.", "warning",
        )  # fmt: skip
    for look, where in ((j and j.at_peak, "at the brightest position"), (j and j.extended, "over an extended area")):
        if look and look.found:
            page.note(
                f"Emission of {look.significance:.0f} σ outside the line ranges {where}, at "
                f"{_speeds(look.velocity_km_s)}.", "warning",
            )  # fmt: skip
    arrays = Arrays(str(ctx.stage_dir / image.arrays))
    count = len(image.numbers.line_channels) if image.numbers else 0
    lines = [k for k in range(count) if f"line{k}_bins" in arrays]
    maps = [_shown(ctx, image, kind) for kind in ("integrated", "velocity", "peak")]
    if len(lines) > 1:
        maps += [_shown(ctx, image, kind, k) for k in lines for kind in ("line integrated", "line velocity")]
    if j is not None:
        maps += [_shown(ctx, image, kind) for kind in ("noise", "number")]
    page.plots(mapplots.draw, maps, caption=_caption, tags=_tags, name="map")
    large = [_shown(ctx, image, "channel maps", k) for k in lines]
    large += [_shown(ctx, image, kind) for kind in ("profiles", "spectrum")]
    if j is not None:
        large.append(_shown(ctx, image, "contamination"))
        looks = (("missed at peak", j.at_peak), ("missed extended", j.extended))
        large += [_shown(ctx, image, kind) for kind, look in looks if look and look.found]
    page.plots(mapplots.draw, large, caption=_caption, tags=_tags, name="cube", size="large")


def _facts(image: SdImage) -> dict[str, Any]:
    n, j = image.numbers, image.judgement
    assert n is not None
    lines = [sorted((_velocity(image, a - 0.5), _velocity(image, b + 0.5))) for a, b in n.line_channels]
    unit = "Jy km/s" if n.unit.lower().startswith("jy") else "K km/s arcsec²"
    facts: dict[str, Any] = {
        "Image": image.name,
        "From": ", ".join(image.vis),
        "Peak": f"{n.peak:.4g} {n.unit} at {n.peak_velocity_km_s:.2f} km/s, "
        f"{_direction(n.peak_ra_deg, n.peak_dec_deg)}",
        "Lines": ", ".join(f"{a:.1f} … {b:.1f} km/s" for a, b in lines) or "none found: maps are of all channels",
        "Integral over the map": f"{n.flux:.4g} {unit}",
        "Axis": f"{n.channels} channels, {n.frequency_hz[0] / 1e9:.6f} … {n.frequency_hz[1] / 1e9:.6f} GHz "
        f"({n.frame}), velocity for {n.restfreq_hz / 1e9:.6f} GHz",
    }  # fmt: skip
    free = sum(b - a + 1 for a, b in n.free_channels) / n.channels
    facts["Map"] = f"{n.size[0]} × {n.size[1]} pixels of {n.cell_arcsec:.2f} arcsec"
    facts["Noise from"] = f"{100 * free:.0f} % of the channels: those without lines, inside the raster less a beam"
    if any(n.extra_edges):
        facts["Incomplete channels"] = f"{n.extra_edges[0]} at the lower, {n.extra_edges[1]} at the upper end"
    if j is not None:
        share = j.masked_fraction
        facts["Spectra"] = n.spectra
        facts["Masked where observed"] = "nothing was observed" if share is None else f"{100 * share:.2g} %"
    return facts


def _velocity(image: SdImage, channel: float) -> float:
    n = image.numbers
    assert n is not None
    step = (n.velocity_km_s[1] - n.velocity_km_s[0]) / max(n.channels - 1, 1)
    return n.velocity_km_s[0] + step * channel


def _speeds(ranges: tuple[tuple[float, float], ...]) -> str:
    return ", ".join(f"{a:.1f} … {b:.1f} km/s" for a, b in ranges)


def _direction(ra_deg: float, dec_deg: float) -> str:
    seconds = round(ra_deg * 240, 2) % 86400
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    total = round(abs(dec_deg) * 3600, 1)
    degrees, left = divmod(total, 3600)
    arcmin, arcsec = divmod(left, 60)
    sign = "−" if dec_deg < 0 else "+"
    return f"{hours:02.0f}h{minutes:02.0f}m{seconds:05.2f}s {sign}{degrees:02.0f}°{arcmin:02.0f}′{arcsec:04.1f}″"


def _antenna_section(page: Any, ctx: Any, images: list[SdImage]) -> None:
    if not images:
        return
    page.section("Antennas", level="detail")
    page.text("The same lines seen by single antennas: they should look alike.")
    for kind, size in (("integrated", "medium"), ("profiles", "large")):
        page.plots(
            mapplots.draw, [_shown(ctx, i, kind) for i in images],
            caption=lambda i: f"{i.image.label}, {i.image.antenna}: {_CAPTIONS[i.kind].lower()}", tags=_tags,
            name=f"antenna-{kind}", size=size,
        )  # fmt: skip


def _detail_section(page: Any, ctx: Any, images: list[SdImage]) -> None:
    page.section("Detailed profile maps", level="detail")
    page.text("Mean spectra of cells of half a beam, in the image with all antennas.")
    items = []
    for image in images:
        count = mapplots.detail_pages(Arrays(str(ctx.stage_dir / image.arrays)))
        items += [_shown(ctx, image, "detailed profiles", k) for k in range(count)]
    page.plots(
        mapplots.draw, items, caption=lambda i: f"{i.image.label}, part {i.index + 1}", tags=_tags,
        name="detail", size="large",
    )  # fmt: skip
    quiet = [
        _shown(ctx, i, kind)
        for i in images
        if i.judgement
        for kind, look in (("missed at peak", i.judgement.at_peak), ("missed extended", i.judgement.extended))
        if look and not look.found
    ]
    if quiet:
        page.section("Search for missed lines", level="detail")
        page.plots(
            mapplots.draw, quiet, caption=lambda i: f"{i.image.label}: {_CAPTIONS[i.kind].lower()}: nothing",
            tags=_tags, name="not-missed", size="large",
        )  # fmt: skip


def _caption(item: Shown) -> str:
    count = len(item.image.numbers.line_channels) if item.image.numbers else 0
    text = _CAPTIONS[item.kind.removeprefix("line ")]
    several = item.kind.startswith("line ") or (item.kind == "channel maps" and count > 1)
    return f"Line {item.index + 1}: {text[0].lower()}{text[1:]}" if several else text


def _shown(ctx: Any, image: SdImage, kind: str, index: int = 0) -> Shown:
    return Shown(image=image, kind=kind, arrays=str(ctx.stage_dir / image.arrays), index=index)


def _tags(item: Shown) -> dict[str, str]:
    # "image" brings the pictures into the gallery of the web log.
    i = item.image
    tags = {"field": i.field, "spw": str(i.spw), "antenna": i.antenna or "all", "type": item.kind, "image": i.name}
    return tags if item.kind != "detailed profiles" else {k: v for k, v in tags.items() if k != "image"}
