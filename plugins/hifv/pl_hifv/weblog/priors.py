"""Page of hifv_priorcals: what was made, the air and the ionosphere above the array, moved antennas, switched power."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.atmosphere import Opacity, OpacityCurve
from pl_hifv.ionosphere import Ionosphere
from pl_hifv.stages.priorcals import Prior, PriorcalsResult
from pl_hifv.weblog.power import switched_power
from pl_kernel import renderer

_KINDS = {
    "gceff": "gain curve and efficiency", "opac": "opacity", "rq": "requantizer", "antpos": "antenna positions",
    "tecim": "ionosphere", "swpow": "switched power",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class OpacityPicture:
    """The opacity of one measurement set, and where the water is from."""

    vis: str
    curves: tuple[OpacityCurve, ...]
    used: tuple[Opacity, ...]
    water: str


@attrs.frozen(kw_only=True)
class IonospherePicture:
    """The electron content over one measurement set's array, against time or (``is_map``) as the map in ``file``."""

    above: Ionosphere
    file: str
    is_map: bool


@renderer(PriorcalsResult)
def priorcals_page(page: Any, ctx: Any, result: PriorcalsResult) -> None:
    """What was made, what does not apply and why."""
    page.section("Prior calibrations")
    seen = {i.vis for i in result.ionosphere if i.covers}
    page.table(
        ["Measurement set", "Kind", "Done", "Why", "Table"],
        [[p.vis, _KINDS.get(p.kind, p.kind), _done(p, seen), p.reason, p.caltable or "–"]
         for p in result.priors],
        caption="In the order of application",
    )  # fmt: skip
    if result.opacities:
        _opacity(page, result)
    if result.offsets:
        page.section("Antenna positions")
        page.table(
            ["Measurement set", "Antenna", "x", "y", "z", "Total"],
            [[o.vis, o.antenna, *(1e3 * v for v in o.offset_m), 1e3 * float(np.linalg.norm(o.offset_m))]
             for o in result.offsets],
            caption="Corrections of antenna positions (ITRF)", units=dict.fromkeys(("x", "y", "z", "Total"), "mm"),
            formats=dict.fromkeys(("x", "y", "z", "Total"), ".2f"), filters=("antenna",),
        )  # fmt: skip
    if result.ionosphere:
        _ionosphere(page, ctx, result)
    switched_power(page, ctx, list(dict.fromkeys(p.vis for p in result.priors)), result.swpow_spw)


def _done(prior: Prior, seen: set[str]) -> str:
    if prior.registered:
        return "applied"
    if prior.expected:
        return "FAILED"
    if prior.kind == "tecim" and prior.vis in seen:
        return "shown, not applied"
    return "made, not applied" if prior.caltable else "skipped"


def _opacity(page: Any, result: PriorcalsResult) -> None:
    page.section("Opacity")
    items = [
        OpacityPicture(
            vis=vis, curves=tuple(c for c in result.curves if c.vis == vis),
            used=tuple(o for o in result.opacities if o.vis == vis), water=f"{mm:.1f} mm of water",
        )
        for vis, mm in result.pwv_mm.items()
    ]  # fmt: skip
    page.plots(
        draw_opacity, items, name="zenithopacity", size="large", tags=lambda i: {"vis": i.vis},
        caption=lambda i: f"{i.vis}: opacity of the zenith. Points are what the windows are corrected with, at their"
        f" centres; lines the model atmosphere with {i.water}.",
    )  # fmt: skip
    page.table(
        ["Measurement set", "Spw", "Band", "Frequency", "Zenith opacity"],
        [[o.vis, o.spw, o.band, o.frequency_hz / 1e9, o.tau] for o in result.opacities], filters=("band",),
        caption="Water: " + "; ".join(f"{vis}: {why}" for vis, why in result.pwv_reason.items()),
        units={"Frequency": "GHz", "Zenith opacity": "neper"},
        formats={"Frequency": ".5f", "Zenith opacity": ".5f"},
    )  # fmt: skip


def draw_opacity(ctx: Any, item: OpacityPicture, path: Path) -> None:
    """Draw opacities against frequency, one panel for each band."""
    from pl_kernel.weblog import plots

    bands = [c for c in item.curves if any(o.band == c.band for o in item.used)]
    width = max(7.2, 2.9 * len(bands))
    with plots.figure(path, width, 3.8, (0.82, 1.35, 0.55, 0.4)) as fig:
        fig.subplots_adjust(wspace=0.32)
        for ax, curve in zip(fig.subplots(1, len(bands), squeeze=False)[0], bands, strict=True):
            frequency = np.array(curve.frequency_hz) / 1e9
            dry, wet = np.array(curve.dry), np.array(curve.wet)
            for values, colour, label in (
                (dry + wet, plots.INK, "model"), (dry, plots.PALETTE[2], "dry air"), (wet, plots.PALETTE[5], "water"),
            ):  # fmt: skip
                ax.plot(frequency, values, color=colour, label=label)
            used = [o for o in item.used if o.band == curve.band]
            ax.plot(
                [o.frequency_hz / 1e9 for o in used], [o.tau for o in used], "o", color=plots.PALETTE[1],
                markersize=4.5, label="spws",
            )  # fmt: skip
            ax.set_ylim(bottom=0)
            ax.set_title(f"Band {curve.band}" if curve.band else "Opacity")
            ax.set_xlabel("Frequency (GHz)")
        fig.axes[0].set_ylabel("Zenith opacity (neper)")
        fig.axes[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def _ionosphere(page: Any, ctx: Any, result: PriorcalsResult) -> None:
    page.section("Ionosphere")
    page.table(
        ["Measurement set", "Map", "Lowest", "Highest", "Remark"],
        [[i.vis, i.source, *(i.during if i.covers else (None, None)), "" if i.covers else "of another time"]
         for i in result.ionosphere],
        units={"Lowest": "TECU", "Highest": "TECU"}, formats={"Lowest": ".1f", "Highest": ".1f"},
        caption="Electron content over the array during the observation",
    )  # fmt: skip
    items = [
        IonospherePicture(above=i, file=str(ctx.stage_dir / i.file), is_map=is_map)
        for i in result.ionosphere for is_map in (False, True)
    ]  # fmt: skip
    page.plots(
        draw_tec, items, name="tec", tags=lambda i: {"vis": i.above.vis}, caption=lambda i: f"{i.above.vis}: "
        + ("electron content in the middle of the observation; the ring is the array" if i.is_map
           else "electron content at the zenith over the array; the observation is shaded"),
    )  # fmt: skip


def draw_tec(ctx: Any, item: IonospherePicture, path: Path) -> None:
    """Draw the electron content over the array against time, or the map."""
    (_draw_map if item.is_map else _draw_time)(item, path)


def _draw_time(item: IonospherePicture, path: Path) -> None:
    """Draw the electron content over the array against time, the observation shaded."""
    from pl_kernel.weblog import plots

    above = item.above
    with plots.figure(path, 7.2, 3.8, (0.82, 0.25, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        x = plots.mjd_seconds_to_dates(above.time_s)
        begin, end = plots.mjd_seconds_to_dates([above.begin_s, above.end_s])
        ax.axvspan(begin, end, color=plots.PALETTE[4], alpha=0.25, linewidth=0)
        ax.errorbar(
            x, above.tecu, yerr=above.error_tecu or None, color=plots.PALETTE[0], marker="o", markersize=4, capsize=2
        )
        ax.set_ylim(bottom=0)
        plots.time_axis(ax)
        ax.set_ylabel("Electron content (TECU)")
        ax.set_title("Ionosphere at the zenith")
        ax.set_title(above.source, loc="right", fontsize=8.5, fontweight="normal", color=plots.MUTED)


def _draw_map(item: IonospherePicture, path: Path) -> None:
    """Draw the map of the time nearest to the middle of the observation."""
    from pl_kernel.weblog import plots

    with np.load(item.file, allow_pickle=False) as stored:
        longitude, latitude, tecu = stored["longitude_deg"], stored["latitude_deg"], stored["tecu"]
    with plots.figure(path, 7.2, 3.8, (0.82, 0.25, 0.55, 0.4)) as fig:
        ax = fig.subplots()
        ax.grid(False)
        shown = ax.pcolormesh(longitude, latitude, tecu.T, cmap=plots.SEQUENTIAL, shading="nearest", rasterized=True)
        ax.plot(
            [item.above.longitude_deg], [item.above.latitude_deg], "o", markersize=9, markerfacecolor="none",
            markeredgecolor="white", markeredgewidth=1.6,
        )  # fmt: skip
        fig.colorbar(shown, ax=ax, fraction=0.05, pad=0.02).set_label("TECU")
        ax.set_xlabel("Longitude (deg)")
        ax.set_ylabel("Latitude (deg)")
        ax.set_title("Electron content")
        ax.set_title(item.above.source, loc="right", fontsize=8.5, fontweight="normal", color=plots.MUTED)
