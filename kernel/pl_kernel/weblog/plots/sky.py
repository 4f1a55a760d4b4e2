"""Images on the sky, their statistics and their noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.patches import Ellipse, Rectangle
from numpy.typing import ArrayLike

from pl_kernel.weblog.plots.style import (
    BAD,
    DIVERGING,
    INK,
    PALETTE,
    SEQUENTIAL,
    Array,
    figure,
    margins_for,
    no_data,
    titles,
    with_unit,
)


@attrs.frozen
class SkyFrame:
    """Where an image lies on the sky (projection SIN, north up, east left).

    ra_deg, dec_deg : of the reference pixel.  cell_arcsec : pixel size (positive).
    x0, y0 : reference pixel, counted from 0, in column and row.
    """

    ra_deg: float
    dec_deg: float
    cell_arcsec: float
    x0: float
    y0: float


def image_statistics(data: ArrayLike, mask: ArrayLike | None = None) -> dict[str, float]:
    """Return peak, minimum, robust rms (1.4826 × median absolute deviation), mean, sum and number of finite pixels.

    mask : True where pixels are good.  All values are NaN (count 0) when no pixel is good.
    """
    array = np.asarray(data, dtype=np.float64)
    good = np.isfinite(array) if mask is None else np.isfinite(array) & np.asarray(mask, dtype=bool)
    values = array[good]
    if not values.size:
        return {"peak": math.nan, "minimum": math.nan, "rms": math.nan, "mean": math.nan, "sum": math.nan, "pixels": 0}
    return {
        "peak": float(values.max()),
        "minimum": float(values.min()),
        "rms": robust_rms(values),
        "mean": float(values.mean()),
        "sum": float(values.sum()),
        "pixels": int(values.size),
    }


def robust_rms(values: ArrayLike) -> float:
    """Return 1.4826 × the median absolute deviation from the median: the rms of a Gaussian, blind to outliers."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return math.nan
    return float(1.4826 * np.median(np.abs(array - np.median(array))))


def image_panel(
    path: Path | str,
    data: ArrayLike,
    *,
    frame: SkyFrame | None = None,
    beam: tuple[float, float, float] | None = None,
    unit: str = "Jy/beam",
    title: str = "",
    subtitle: str = "",
    contours: ArrayLike | None = None,
    colour_map: str = "sequential",
    limits: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Draw an image with sky coordinates, beam ellipse and colour bar; return its statistics.

    data : (ny, nx), north up, east left (the transpose of what CASA's image tool gives); NaN where masked.
    beam : major and minor axis in arcsec, position angle in degrees east of north.
    contours : a mask or second image of the same shape, outlined at half its maximum.
    colour_map : "sequential" or "diverging" (residuals, velocities).
    limits : colour range; default −3 … 25 robust rms or the peak; the scale is asinh above a dynamic range of 50.
    """
    array = np.asarray(data, dtype=np.float64)
    stats = image_statistics(array)
    norm = _image_norm(array, stats, colour_map == "diverging", limits)
    ny, nx = array.shape
    side = 4.4
    tall = side * min(1.6, max(0.4, ny / max(nx, 1)))
    with figure(path, side + 2.4, tall + 1.0, (0.95, 0.92, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        ax.grid(False)
        titles(fig, ax, title, subtitle)
        shown = ax.imshow(
            np.ma.masked_invalid(array), cmap=DIVERGING if colour_map == "diverging" else SEQUENTIAL, norm=norm,
            aspect="equal", interpolation="nearest",
        )  # fmt: skip
        ax.set_facecolor("#d9dee3")
        if contours is not None and np.asarray(contours).any():
            outline = np.nan_to_num(np.asarray(contours, dtype=np.float64))
            ax.contour(outline, levels=[0.5 * outline.max()], colors=["#56b4e9"], linewidths=0.9)
        if frame is not None:
            _sky_axes(ax, frame, nx, ny)
            if beam is not None:
                _beam(ax, beam, frame.cell_arcsec, nx, ny)
        else:
            ax.set_xlabel("Pixel")
            ax.set_ylabel("Pixel")
        bar = fig.colorbar(shown, ax=ax, fraction=0.046, pad=0.02, ticks=_asinh_ticks(norm), format=_plain_number)
        bar.set_label(unit)
        bar.outline.set_linewidth(0.5)
    return stats


def _image_norm(array: Array, stats: Mapping[str, float], diverging: bool, limits: tuple[float, float] | None) -> Any:
    if limits is not None:
        return Normalize(*limits)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return Normalize(0, 1)
    rms, peak, low = stats["rms"], stats["peak"], stats["minimum"]
    if diverging:
        middle = float(np.median(finite)) if low > 0 or peak < 0 else 0.0
        reach = float(np.percentile(np.abs(finite - middle), 99.8)) or 1.0
        return Normalize(middle - reach, middle + reach)
    if not rms > 0:  # mostly constant: a mask, a model
        return Normalize(low, peak if peak > low else low + 1.0)
    bottom = max(low, -3.0 * rms) if low < 0 else low
    if peak / rms > 50:
        return AsinhNorm(linear_width=3.0 * rms, vmin=bottom, vmax=peak)
    return Normalize(bottom, max(peak, bottom + rms))


def _plain_number(value: float, _position: object = None) -> str:
    return f"{value:.4g}"


def _asinh_ticks(norm: Any) -> list[float] | None:
    """Powers of ten on both sides of zero, as far as the colours reach and no closer than the linear part."""
    if not isinstance(norm, AsinhNorm) or norm.vmin is None or norm.vmax is None:
        return None
    low, high = float(norm.vmin), float(norm.vmax)
    powers = [10.0**k for k in range(math.floor(math.log10(norm.linear_width)) + 1, math.ceil(math.log10(high)) + 1)]
    ticks = [t for t in (*(-p for p in powers), *powers) if low <= t <= high]
    return sorted([0.0, *ticks, high])


_STEPS_ARCSEC = [
    a * u for u in (1e-3, 1e-2, 0.1, 1, 60, 3600) for a in (1, 2, 3, 5, 10, 15, 20, 30) if a < 10 or u >= 1
]  # fmt: skip
_STEPS_RA_S = [a * u for u in (1e-4, 1e-3, 1e-2, 0.1, 1, 60, 3600) for a in (1, 2, 3, 5, 10, 15, 20, 30)]


def _sky_axes(ax: Any, frame: SkyFrame, nx: int, ny: int) -> None:
    """Label the axes with right ascension and declination where their lines cross the lower and left edges."""
    cell = math.radians(frame.cell_arcsec / 3600.0)
    ra0, dec0 = math.radians(frame.ra_deg), math.radians(frame.dec_deg)
    width = cell * max(nx, ny)
    if abs(dec0) + width > math.radians(88) or width > 0.5:
        _offset_axes(ax, frame, nx, ny)
        return
    low_m, left_l = (-0.5 - frame.y0) * cell, (frame.x0 + 0.5) * cell  # direction cosines of the two edges
    span_ra = width * 206264.806 / 15.0 / math.cos(dec0)
    ra_s = _round_values(math.degrees(ra0) * 240.0, span_ra * nx / max(nx, ny), _STEPS_RA_S, 4)
    places = []
    for value in ra_s:
        dra = math.radians(value / 240.0) - ra0
        a, b = math.cos(dec0), math.sin(dec0) * math.cos(dra)
        dec = math.asin(max(-1.0, min(1.0, low_m / math.hypot(a, b)))) + math.atan2(b, a)
        places.append(frame.x0 - math.cos(dec) * math.sin(dra) / cell)
    step_s = ra_s[1] - ra_s[0] if len(ra_s) > 1 else 1.0
    inside = [(p, v) for p, v in zip(places, ra_s, strict=True) if -0.5 <= p <= nx - 0.5]
    ax.set_xticks([p for p, _ in inside], [_sexagesimal(v, step_s, "hms", wrap=86400.0) for _, v in inside])
    dec_as = _round_values(frame.dec_deg * 3600.0, width * 206264.806 * ny / max(nx, ny), _STEPS_ARCSEC, 6)
    step_as = dec_as[1] - dec_as[0] if len(dec_as) > 1 else 1.0
    rows = []
    for value in dec_as:
        dec = math.radians(value / 3600.0)
        sine = left_l / math.cos(dec)
        cosine = math.sqrt(max(0.0, 1.0 - sine * sine))
        m = math.sin(dec) * math.cos(dec0) - math.cos(dec) * math.sin(dec0) * cosine
        rows.append(frame.y0 + m / cell)
    inside = [(p, v) for p, v in zip(rows, dec_as, strict=True) if -0.5 <= p <= ny - 0.5]
    ax.set_yticks([p for p, _ in inside], [_sexagesimal(v, step_as, "dms") for _, v in inside])
    ax.set_xlabel("Right ascension")
    ax.set_ylabel("Declination")


def _offset_axes(ax: Any, frame: SkyFrame, nx: int, ny: int) -> None:
    offsets = _round_values(0.0, frame.cell_arcsec * max(nx, ny), _STEPS_ARCSEC, 6)
    ax.set_xticks([frame.x0 - v / frame.cell_arcsec for v in offsets], [f"{v:g}" for v in offsets])
    ax.set_yticks([frame.y0 + v / frame.cell_arcsec for v in offsets], [f"{v:g}" for v in offsets])
    ax.set_xlim(-0.5, nx - 0.5)
    ax.set_ylim(-0.5, ny - 0.5)
    ax.set_xlabel("Offset east (arcsec)")
    ax.set_ylabel("Offset north (arcsec)")


def _round_values(centre: float, span: float, steps: Sequence[float], count: int) -> list[float]:
    step = next((s for s in sorted(steps) if span / s <= count), max(steps))
    first = math.ceil((centre - span) / step)
    return [k * step for k in range(first, math.floor((centre + span) / step) + 1)]


def _sexagesimal(value: float, step: float, kind: str, wrap: float = 0.0) -> str:
    """Write seconds of time or of arc; fields below the step are left out."""
    if wrap:
        value %= wrap
    sign = "-" if value < 0 else ""
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
    value = round(abs(value), digits)
    whole, rest = divmod(value, 3600.0)
    minutes, seconds = divmod(rest, 60.0)
    units = ("h", "m", "s") if kind == "hms" else ("°", "′", "″")
    text = f"{sign}{int(whole):d}{units[0]}"
    if step < 3600:
        text += f"{int(minutes):02d}{units[1]}"
    if step < 60:
        text += f"{seconds:0{3 + digits if digits else 2}.{digits}f}{units[2]}"
    return text


def _beam(ax: Any, beam: tuple[float, float, float], cell_arcsec: float, nx: int, ny: int) -> None:
    major, minor, angle = beam
    a, b = major / cell_arcsec, minor / cell_arcsec
    if not (math.isfinite(a) and math.isfinite(b)) or a > 0.5 * min(nx, ny):
        return
    pad = 0.03 * min(nx, ny) + a / 2
    box = Rectangle((pad - a * 0.72, pad - a * 0.72), a * 1.44, a * 1.44, facecolor="white", alpha=0.85, linewidth=0)
    ax.add_patch(box)
    # Position angle runs from north through east; east is to the left, so a positive angle turns counter-clockwise.
    ax.add_patch(Ellipse((pad, pad), b, a, angle=angle, facecolor=INK, edgecolor="none"))


def histogram(
    path: Path | str,
    values: ArrayLike,
    *,
    unit: str = "",
    label: str = "Value",
    title: str = "",
    subtitle: str = "",
    bins: int = 120,
) -> dict[str, float]:
    """Draw how often values occur, on a logarithmic scale, with the Gaussian that fits the noise.

    The Gaussian is fitted by iterated clipping: mean and standard deviation of the values within 3 σ of the mean
    until they stand still, with σ corrected for the clipped tails (0.9866 of the true σ remain after a cut at 3 σ).
    Returns ``noise_mean``, ``noise_sigma``, and the statistics of :func:`image_statistics`.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[np.isfinite(array)]
    stats = image_statistics(array)
    mean, sigma = fit_noise(array)
    with figure(path, 7.2, 3.6, margins_for(title or subtitle)) as fig:
        ax = fig.subplots()
        titles(fig, ax, title, subtitle)
        if not array.size:
            no_data(ax)
        else:
            counts, edges = np.histogram(array, bins=bins)
            ax.stairs(counts, edges, fill=True, color="#9fc5e0", linewidth=0)
            ax.stairs(counts, edges, color=PALETTE[0], linewidth=0.9)
            if sigma > 0:
                x = np.linspace(edges[0], edges[-1], 600)
                peak = array.size * (edges[1] - edges[0]) / (sigma * math.sqrt(2 * math.pi))
                curve = peak * np.exp(-0.5 * ((x - mean) / sigma) ** 2)
                text = f"noise: mean {mean:.3g}, σ {sigma:.3g} {unit}".rstrip()
                ax.plot(x, np.where(curve > 0.3, curve, np.nan), color=BAD, label=text)
                ax.legend(loc="upper right")
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(_plain_number)
            ax.set_ylim(bottom=0.5)
        ax.set_xlabel(with_unit(label, unit))
        ax.set_ylabel("Number of pixels")
    return {"noise_mean": mean, "noise_sigma": sigma, **stats}


def fit_noise(values: ArrayLike) -> tuple[float, float]:
    """Return mean and standard deviation of the Gaussian core of `values` (see :func:`histogram`)."""
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[np.isfinite(array)]
    if not array.size:
        return math.nan, math.nan
    mean, sigma = float(np.median(array)), robust_rms(array)
    for _ in range(20):
        kept = array[np.abs(array - mean) <= 3.0 * sigma]
        if kept.size < 10:
            break
        # Standard deviation of a Gaussian cut at ±3 σ: sqrt(1 − 6 φ(3) / (2 Φ(3) − 1)) = 0.98658 σ.
        new_mean, new_sigma = float(kept.mean()), float(kept.std()) / 0.98658
        done = abs(new_sigma - sigma) <= 1e-6 * sigma and abs(new_mean - mean) <= 1e-6 * sigma
        mean, sigma = new_mean, new_sigma
        if done:
            break
    return mean, sigma
