"""Page of the factors from kelvin to jansky."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.heuristics.jyperk import outliers
from pl_hsd.stages.k2jycal import K2jycalResult
from pl_kernel import renderer
from pl_kernel.ms.virtual import RealSpw, VirtualSpws


@attrs.frozen(kw_only=True)
class Factors:
    """The factors of one virtual window: (measurement set, antenna, correlation, Jy/K)."""

    spw: str
    name: str
    entries: tuple[tuple[str, str, str, float], ...]


@renderer(K2jycalResult)
def k2jycal_page(page: Any, ctx: Any, result: K2jycalResult) -> None:
    """Boxes of the factors, and all of them."""
    page.section("Jy/K factors")
    page.facts({"File": result.reffile or "none", "Answers of the service": result.queried or "not asked"})
    if result.reffile:
        page.download(result.reffile, "File of factors")
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    rows, by_spw = [], {}
    for s in result.sets:
        if s.service not in ("", "ok"):
            page.note(s.service, "warning")
        if s.missing:
            page.note(
                f"{s.vis}: {len(s.missing)} factors are missing; " + ("these data are flagged when calibration is "
                "applied." if s.table else "its data stay in kelvin."), "error",
            )  # fmt: skip
        for spw, antenna, pol, value, source in s.factors:
            v = str(virtual.to_virtual(RealSpw(spw), s.vis))
            rows.append([v, s.vis, str(spw), antenna, pol, value, source])
            by_spw.setdefault(v, []).append((s.vis, antenna, pol, value))
        for spw, antenna, pol in s.missing:
            rows.append([str(virtual.to_virtual(RealSpw(spw), s.vis)), s.vis, str(spw), antenna, pol, None, "missing"])
    names = {str(v): n for v, n in virtual.names.items()}
    page.plots(
        draw_boxes, [Factors(spw=v, name=names.get(v, ""), entries=tuple(e)) for v, e in sorted(by_spw.items())],
        caption=lambda f: f"Spw {f.spw} ({f.name}): factors of all antennas and correlations",
        tags=lambda f: {"spw": f.spw}, name="jyperk", title="Jy/K by window",
    )  # fmt: skip
    page.table(
        ["Virtual spw", "Measurement set", "Spw", "Antenna", "Pol", "Jy/K", "Source"], sorted(rows, key=str),
        caption="All factors", filters=("Virtual spw", "Measurement set", "Antenna"), formats={"Jy/K": ".3f"},
    )  # fmt: skip


def draw_boxes(ctx: Any, item: Factors, path: Path) -> dict[str, str]:
    """Box with the quartiles, and every factor as a point; outliers beyond 1.5 × the quartiles' distance are named."""
    from pl_kernel.weblog.plots import BAD, PALETTE, figure

    values = np.array([e[3] for e in item.entries])
    odd = outliers(values.tolist())
    sets = list(dict.fromkeys(e[0] for e in item.entries))
    with figure(path, max(3.2, 1.3 * len(sets) + 1.8), 3.8, (0.85, 0.25, 0.55, 0.45)) as fig:
        ax = fig.subplots()
        ax.set_title(f"Spw {item.spw}", loc="left", fontweight="bold")
        for k, vis in enumerate(sets):
            own = [(e, bad) for e, bad in zip(item.entries, odd, strict=True) if e[0] == vis]
            y = np.array([e[3] for e, _ in own])
            ax.boxplot(y, positions=[k], widths=0.5, showfliers=False, medianprops={"color": PALETTE[1]})
            x = k + np.linspace(-0.18, 0.18, y.size) if y.size > 1 else np.array([k])
            ax.plot(x, y, "o", markersize=4, color=PALETTE[0], alpha=0.8)
            for place, (entry, bad) in zip(x, own, strict=True):
                if bad:
                    ax.annotate(f"{entry[1]} {entry[2]}", (place, entry[3]), fontsize=8, color=BAD)
        ax.set_xticks(range(len(sets)), [f"{s[:16]}…" if len(s) > 17 else s for s in sets])
        ax.set_xlim(-0.6, len(sets) - 0.4)
        ax.set_ylabel("Jy/K")
    return {"Median": f"{np.median(values):.2f} Jy/K", "Spread": f"{np.ptp(values):.2f} Jy/K"}
