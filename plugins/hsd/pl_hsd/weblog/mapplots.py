"""Pictures of single-dish cubes from the arrays of their analysis: maps, channel maps, contamination, missed lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.contamination import DEPTH
from pl_hsd.heuristics.missedlines import AREA_SIGMA, PEAK_SIGMA
from pl_hsd.stages.imaging import SdImage
from pl_hsd.weblog.profilemaps import ProfileMap, draw_profile_map, pages

FloatArray = NDArray[np.float64]
_LINE, _DIP = "#cfe8dc", "#f6d5c4"


@attrs.frozen(kw_only=True)
class Shown:
    """One picture: of which image, what kind, and which line or part of it; `arrays` is the file of the analysis."""

    image: SdImage
    kind: str
    arrays: str
    index: int = 0

    @property
    def name(self) -> str:
        return f"{self.image.name} {self.kind}"


class Arrays:
    """The arrays of one image, and where it lies on the sky."""

    def __init__(self, path: str) -> None:
        self._file = np.load(path, allow_pickle=False)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.asarray(self._file[name])

    def __contains__(self, name: str) -> bool:
        return name in self._file.files

    def get(self, name: str) -> NDArray[Any] | None:
        """An array, or None where there is none."""
        return np.asarray(self._file[name]) if name in self._file.files else None

    @property
    def frame(self) -> Any:
        from pl_kernel.weblog.plots import SkyFrame

        ra, dec, cell, x0, y0 = (float(v) for v in self["sky"][:5])
        return SkyFrame(ra, dec, cell, x0, y0)

    @property
    def beam(self) -> tuple[float, float, float]:
        major, minor, angle = (float(v) for v in self["sky"][5:])
        return major, minor, angle


def draw(ctx: Any, item: Shown, path: Path) -> Any:
    """Any picture of an image: they stand in one gallery."""
    functions = {
        "channel maps": draw_channels, "profiles": draw_profiles, "detailed profiles": draw_profiles,
        "spectrum": draw_spectrum, "contamination": draw_contamination, "missed at peak": draw_missed,
        "missed extended": draw_missed,
    }  # fmt: skip
    return functions.get(item.kind, draw_map)(ctx, item, path)


def draw_map(ctx: Any, item: Shown, path: Path) -> dict[str, str]:
    """One map on the sky: integrated, velocity, peak, noise or number of spectra."""
    from pl_kernel.weblog import plots

    arrays, image = Arrays(item.arrays), item.image
    unit = image.numbers.unit if image.numbers else ""
    key, unit, title = {
        "integrated": ("integrated", f"{unit} km/s", "integrated intensity"),
        "velocity": ("velocity", "km/s", "mean velocity"),
        "peak": ("peak", unit, "peak over the channels"),
        "noise": ("noise_map", unit_of_baselines(image), "baseline rms"),
        "number": ("number_map", "spectra", "number of spectra"),
        "line integrated": (f"line{item.index}_integrated", f"{unit} km/s", "integrated intensity"),
        "line velocity": (f"line{item.index}_velocity", "km/s", "mean velocity"),
    }[item.kind]
    data = arrays[key].astype(float)
    if key == "number_map":
        data = np.where(data > 0, data, np.nan)
    outline = arrays["region"].astype(float) if item.kind in ("noise", "number") else None
    limits = None
    if item.kind.endswith("velocity") and np.isfinite(data).any():
        low, high = (float(v) for v in np.nanpercentile(data, [1, 99]))
        limits = (low, high) if low < high else (low - 1, high + 1)
    elif item.kind in ("noise", "number") and np.isfinite(data).any():
        limits = (float(np.nanmin(data)), max(float(np.nanmax(data)), float(np.nanmin(data)) + 1e-12))
    found = plots.image_panel(
        path, data, frame=arrays.frame, beam=arrays.beam, unit=unit, title=f"{image.field}, spw {image.spw}",
        subtitle=title, contours=outline, limits=limits,
        colour_map="diverging" if item.kind.endswith("velocity") else "sequential",
    )  # fmt: skip
    return {"Largest": f"{found['peak']:.4g} {unit}", "Smallest": f"{found['minimum']:.4g} {unit}"}


def unit_of_baselines(image: SdImage) -> str:
    """Unit of single spectra: that of the image, which is per beam."""
    return image.numbers.unit if image.numbers else ""


def draw_channels(ctx: Any, item: Shown, path: Path) -> dict[str, str]:
    """Channel maps of one line, under the mean spectrum of the map that says which channels they are."""
    from matplotlib.colors import AsinhNorm
    from matplotlib.patches import Ellipse

    from pl_kernel.weblog.plots.style import INK, MUTED, SEQUENTIAL, clip, figure

    arrays, image = Arrays(item.arrays), item.image
    planes, bins = arrays[f"line{item.index}_planes"].astype(float), arrays[f"line{item.index}_bins"]
    velocity, spectrum = arrays["velocity_km_s"], arrays["spectrum"]
    unit = image.numbers.unit if image.numbers else ""
    order = np.argsort([velocity[np.clip(b, 0, velocity.size - 1)].mean() for b in bins])
    columns = 4 if len(bins) > 3 else len(bins)
    rows = -(-len(bins) // columns)
    ny, nx = planes.shape[1:]
    side = 1.95
    tall = side * min(1.5, max(0.5, ny / nx))
    left, right, bottom, top, strip, gap = 0.75, 1.0, 0.25, 0.4, 1.25, 0.55
    width, height = left + columns * side + right, bottom + rows * tall + gap + strip + top
    finite = planes[np.isfinite(planes)]
    low, high = (float(v) for v in np.percentile(finite, [1, 99.95])) if finite.size else (0.0, 1.0)
    low, high = (low, high) if low < high else (low - 1, high + 1)
    # Faint wings beside a bright core: linear up to a tenth of the peak, logarithmic above.
    norm = AsinhNorm(linear_width=0.1 * max(abs(low), abs(high)), vmin=low, vmax=high)
    with figure(path, width, height, (left, right, bottom, top)) as fig:
        above = fig.add_axes(
            (left / width, (bottom + rows * tall + gap) / height, columns * side / width, strip / height)
        )  # fmt: skip
        _strip(above, velocity, spectrum, bins, unit)
        above.set_title(clip(f"{image.field}, spw {image.spw}", 60))
        above.set_title("channel maps", loc="right", fontsize=8.5, fontweight="normal", color=MUTED)
        shown = None
        for k, index in enumerate(order):
            row, column = divmod(k, columns)
            ax = fig.add_axes(
                ((left + column * side) / width, (bottom + (rows - 1 - row) * tall) / height, 0.97 * side / width,
                 0.97 * tall / height)
            )  # fmt: skip
            ax.grid(False)
            ax.set_facecolor("#d9dee3")
            shown = ax.imshow(np.ma.masked_invalid(planes[index]), cmap=SEQUENTIAL, norm=norm, aspect="equal")
            ax.set_xticks([])
            ax.set_yticks([])
            middle = velocity[np.clip(bins[index], 0, velocity.size - 1)].mean()
            ax.text(0.04, 0.93, f"{middle:.1f} km/s", transform=ax.transAxes, va="top", fontsize=8.5, color="white",
                    bbox={"facecolor": INK, "alpha": 0.55, "linewidth": 0, "pad": 1.5})  # fmt: skip
            if k == len(order) - columns or (len(order) <= columns and k == 0):
                major, minor, angle = arrays.beam
                cell = float(arrays["sky"][2])
                if np.isfinite(major):
                    place = (0.06 * nx + major / cell / 2, 0.06 * ny + major / cell / 2)
                    ax.add_patch(Ellipse(place, minor / cell, major / cell, angle=angle, facecolor="white",
                                         edgecolor=INK, alpha=0.85, linewidth=0.5))  # fmt: skip
        if shown is not None:
            bar_axes = fig.add_axes(
                (1 - (right - 0.12) / width, bottom / height, 0.16 / width, (rows * tall - 0.05) / height)
            )
            bar = fig.colorbar(shown, cax=bar_axes, format=lambda value, _position: f"{value:.3g}")
            bar.set_label(unit)
            bar.outline.set_linewidth(0.5)
    step = abs(float(np.diff(velocity).mean())) * float(bins[0][1] - bins[0][0] + 1)
    return {"Width": f"{step:.3g} km/s", "Colours": f"{low:.3g} … {high:.3g} {unit}"}


def _strip(ax: Any, velocity: FloatArray, spectrum: FloatArray, bins: NDArray[Any], unit: str) -> None:
    from pl_kernel.weblog.plots.style import INK

    half = abs(float(np.diff(velocity).mean())) / 2
    ends = [velocity[np.clip(b, 0, velocity.size - 1)] for b in bins]
    for k, pair in enumerate(ends):
        ax.axvspan(pair.min() - half, pair.max() + half, color=_LINE, alpha=1.0 if k % 2 else 0.6, linewidth=0)
    ax.axhline(0, color="#c5ccd3", linewidth=0.7)
    ax.step(velocity, spectrum, where="mid", color=INK, linewidth=0.9)
    span = max(float(e.max()) for e in ends) - min(float(e.min()) for e in ends)
    ax.set_xlim(min(float(e.min()) for e in ends) - 0.6 * span, max(float(e.max()) for e in ends) + 0.6 * span)
    ax.set_xlabel("Radio velocity (km/s)", labelpad=1)
    ax.set_ylabel(f"Mean ({unit})")


def draw_profiles(ctx: Any, item: Shown, path: Path) -> dict[str, Any] | bool:
    """A sparse profile map, or one page of the detailed one (`index`)."""
    arrays, image = Arrays(item.arrays), item.image
    kind = "detail" if item.kind == "detailed profiles" else "sparse"
    if kind not in arrays:
        return False
    profiles = profile_map(arrays, image, kind)
    part = ""
    if kind == "detail":
        parts = pages(*profiles.spectra.shape[:2])
        profiles = profiles.part(*parts[item.index])
        if not np.isfinite(profiles.spectra).any():
            return False
        part = f", part {item.index + 1} of {len(parts)}"
    who = image.antenna or "all antennas"
    return draw_profile_map(path, profiles, title=f"{image.field}, spw {image.spw}", subtitle=f"{who}{part}")


def detail_pages(arrays: Arrays) -> int:
    """Number of pictures of the detailed profile map."""
    return len(pages(*arrays["detail"].shape[:2])) if "detail" in arrays else 0


def profile_map(arrays: Arrays, image: SdImage, kind: str) -> ProfileMap:
    """Profiles of cells, with the line ranges."""
    group = int(arrays[f"{kind}_group"])
    frequency, average = arrays["frequency_hz"], arrays["spectrum"]
    whole = frequency.size // group * group
    if group > 1:
        frequency, average = (v[:whole].reshape(-1, group).mean(axis=1) for v in (frequency, average))
    air = arrays.get("transmission")
    if air is not None and group > 1:
        air = air[:whole].reshape(-1, group).mean(axis=1)
    n = image.numbers
    spans = [(a / group, b / group) for a, b in n.line_channels] if n else []
    return ProfileMap(
        spectra=arrays[kind], frequency_hz=frequency, x_offset=arrays[f"{kind}_x"], y_offset=arrays[f"{kind}_y"],
        unit=n.unit if n else "", average=average, line_masks=spans, centre="the map's centre",
        atmosphere=air,
    )  # fmt: skip


def draw_spectrum(ctx: Any, item: Shown, path: Path) -> None:
    """Mean spectrum of the map, weighted, with the line ranges."""
    from pl_kernel.weblog import plots

    arrays, image = Arrays(item.arrays), item.image
    velocity, n = arrays["velocity_km_s"], image.numbers
    spans = [tuple(sorted((velocity[a], velocity[min(b, velocity.size - 1)]))) for a, b in n.line_channels] if n else []
    plots.spectrum(
        path, velocity, arrays["spectrum"], axis_label=f"Radio velocity, {n.frame if n else ''} (km/s)",
        ylabel="Mean of the map", unit=n.unit if n else "", ranges=spans, range_label="line",
        title=f"{image.field}, spw {image.spw}", subtitle=image.antenna or "all antennas",
    )  # fmt: skip


def draw_contamination(ctx: Any, item: Shown, path: Path) -> dict[str, str] | bool:
    """Peak signal-to-noise, the emptiest pixels, and their mean spectrum."""
    from pl_kernel.weblog.plots.style import BAD, INK, MUTED

    arrays, image = Arrays(item.arrays), item.image
    judgement = image.judgement
    if "dirt_snr" not in arrays or judgement is None:
        return False
    velocity, spectrum, sigma = arrays["velocity_km_s"], arrays["dirt_spectrum"], float(arrays["dirt_noise"])
    unit = image.numbers.unit if image.numbers else ""
    with _two_maps(path, f"{image.field}, spw {image.spw}") as (first, second, below, fig):
        snr = arrays["dirt_snr"]
        top = float(np.nanpercentile(snr, 99.5)) if np.isfinite(snr).any() else 1.0
        shown = _panel(first, snr, "magma", 0, max(top, 1.0), "peak signal-to-noise")
        fig.colorbar(shown, ax=first, fraction=0.046, pad=0.02)
        _panel(second, np.where(np.isfinite(snr), arrays["dirt_mask"].astype(float), np.nan), "Blues", 0, 1.6,
               "the emptiest tenth")  # fmt: skip
        for low, high in judgement.contamination_velocity_km_s:
            below.axvspan(low, high, color=_DIP, linewidth=0)
        below.axhline(0, color="#c5ccd3", linewidth=0.7)
        below.axhline(-DEPTH * sigma, color=BAD, linewidth=0.9, linestyle=(0, (5, 3)))
        below.step(velocity, spectrum, where="mid", color=INK, linewidth=0.9)
        below.set_xlim(float(velocity.min()), float(velocity.max()))
        below.set_xlabel("Radio velocity (km/s)")
        below.set_ylabel(f"Mean there ({unit})")
        below.set_title(f"dashed: −{DEPTH:.0f} σ", loc="right", fontsize=8.5, fontweight="normal", color=MUTED)
    return {"Deepest dip": f"{judgement.contamination_depth:.1f} σ"}


def draw_missed(ctx: Any, item: Shown, path: Path) -> dict[str, str] | bool:
    """Where emission outside the line ranges was looked for, and the spectrum there in units of its noise."""
    from pl_kernel.weblog.plots.style import BAD, INK

    arrays, image = Arrays(item.arrays), item.image
    way = "peak" if item.kind == "missed at peak" else "extended"
    judgement = image.judgement
    look = judgement and (judgement.at_peak if way == "peak" else judgement.extended)
    if look is None or f"missed_{way}_where" not in arrays:
        return False
    threshold = PEAK_SIGMA if way == "peak" else AREA_SIGMA
    velocity, z, n = arrays["velocity_km_s"], arrays[f"missed_{way}_spectrum"], image.numbers
    with _two_maps(path, f"{image.field}, spw {image.spw}") as (first, second, below, fig):
        peak = arrays["peak"]
        shown = _panel(first, peak, "magma", *_range(peak), "peak over the line channels")
        fig.colorbar(shown, ax=first, fraction=0.046, pad=0.02)
        where = arrays[f"missed_{way}_where"].astype(float)
        _panel(second, np.where(np.isfinite(peak) | (where > 0), where, np.nan), "Blues", 0, 1.3 * where.max() or 1.0,
               "brightest position" if way == "peak" else "area of extended emission")  # fmt: skip
        for a, b in n.line_channels if n else ():
            pair = sorted((velocity[a], velocity[min(b, velocity.size - 1)]))
            below.axvspan(*pair, color=_LINE, linewidth=0)
        for low, high in look.velocity_km_s:
            below.axvspan(low, high, color=_DIP, linewidth=0)
        below.axhline(0, color="#c5ccd3", linewidth=0.7)
        below.axhline(threshold, color=BAD, linewidth=0.9, linestyle=(0, (5, 3)))
        below.step(velocity, z, where="mid", color=INK, linewidth=0.9)
        below.set_xlim(float(velocity.min()), float(velocity.max()))
        below.set_xlabel("Radio velocity (km/s)")
        below.set_ylabel("Outside the lines (σ)")
    return {"Brightest channel": f"{look.significance:.1f} σ", "Threshold": f"{threshold:.0f} σ"}


def _range(data: FloatArray) -> tuple[float, float]:
    if not np.isfinite(data).any():
        return 0.0, 1.0
    low, high = (float(v) for v in np.nanpercentile(data, [1, 99.8]))
    return low, high if high > low else low + 1


class _two_maps:
    """A figure of two maps above a spectrum."""

    def __init__(self, path: Path, title: str) -> None:
        from pl_kernel.weblog.plots.style import figure

        self._figure, self._title = figure(path, 7.6, 6.4, (0.85, 0.3, 0.55, 0.4)), title

    def __enter__(self) -> tuple[Any, Any, Any, Any]:
        from pl_kernel.weblog.plots.style import clip

        fig = self._figure.__enter__()
        grid = fig.add_gridspec(2, 2, height_ratios=[3, 2], hspace=0.3, wspace=0.2, left=0.11, right=0.96, bottom=0.09,
                                top=0.89)  # fmt: skip
        fig.suptitle(clip(self._title, 70), x=0.11, y=0.97, ha="left", fontsize=10.5, fontweight="bold")
        return fig.add_subplot(grid[0, 0]), fig.add_subplot(grid[0, 1]), fig.add_subplot(grid[1, :]), fig

    def __exit__(self, *error: Any) -> Any:
        return self._figure.__exit__(*error)


def _panel(ax: Any, data: FloatArray, colours: str, low: float, high: float, title: str) -> Any:
    from pl_kernel.weblog.plots.style import MUTED

    ax.grid(False)
    ax.set_facecolor("#d9dee3")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=8.5, fontweight="normal", color=MUTED)
    return ax.imshow(np.ma.masked_invalid(data), cmap=colours, vmin=low, vmax=high, aspect="equal")
