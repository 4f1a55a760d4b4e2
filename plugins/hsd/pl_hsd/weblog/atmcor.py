"""Page of the correction for the atmosphere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.stages.atmcor import AtmcorResult, Corrected
from pl_hsd.weblog.applycal import Curves, draw_frequency
from pl_kernel import renderer
from pl_kernel.ms.virtual import RealSpw, VirtualSpws


@attrs.frozen(eq=False, kw_only=True)
class ModelPicture:
    """What one model leaves of the projected spectra, beside what was observed."""

    vis: str
    spw: str
    antenna: str
    model: str
    applied: bool
    metric: float
    unit: str
    frequency_hz: Any
    observed: Any
    corrected: Any
    lines: Any


@renderer(AtmcorResult)
def atmcor_page(page: Any, ctx: Any, result: AtmcorResult) -> None:
    """Applied models, models tried, corrected spectra."""
    page.section("Applied corrections")
    page.table(
        ["Measurement set", "Heuristic", "atmType", "dTem_dh", "h0", "Models tried", "Compared in", "New set"],
        [[c.vis, c.status, c.model.atmtype, c.model.dtem_dh, c.model.h0, len(c.trials),
          f"{c.antenna}, spw {c.spw}" if c.spw >= 0 else "", c.output] for c in result.corrected],
        units={"dTem_dh": "K/km", "h0": "km"},
        caption="Y: the best of the models tried; Fallback: the default, since they could not be compared; N: as asked",
    )  # fmt: skip
    for c in result.corrected:
        if c.reason:
            page.note(f"{c.vis}: {c.reason}; the default model was applied.", "info")
    for vis, reason in result.unneeded.items():
        page.note(f"{vis} is not corrected: {reason}.", "info")
    for vis, reason in result.uncorrected.items():
        page.note(f"{vis} is not corrected: {reason}.", "error")
    trials = [[c.vis, str(t.model), t.metric, "applied" if t.model == c.model else "discarded"]
              for c in result.corrected for t in c.trials]  # fmt: skip
    if trials:
        page.table(
            ["Measurement set", "Model", "Roughness", "Decision"], trials, formats={"Roughness": ".4g"},
            caption="Squared steps that are left around the lines of the atmosphere; the smallest wins",
        )  # fmt: skip
    models, curves = [], []
    for c in result.corrected:
        found = _read(ctx, c)
        models += found[0]
        curves += found[1]
    page.plots(
        draw_model, models, title="Models of the air", name="models",
        caption=lambda m: f"{m.vis}, {m.model}: {'applied' if m.applied else 'discarded'}",
        tags=lambda m: {"vis": m.vis, "spw": m.spw, "antenna": m.antenna, "type": "applied" if m.applied
                        else "discarded"},
    )  # fmt: skip
    page.plots(
        draw_frequency, curves, title="Corrected amplitude against frequency", name="corrected",
        caption=lambda c: f"{c.vis}, {c.field}, spw {c.spw}: mean of all corrected spectra, by antenna",
        tags=lambda c: {"vis": c.vis, "spw": c.spw, "field": c.field},
    )  # fmt: skip


def _read(ctx: Any, c: Corrected) -> tuple[list[ModelPicture], list[Curves]]:
    ms = ctx.context.measurement_set(c.vis)
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    unit = ctx.value("hsd.unit", {}).get(c.vis, "") or "raw"
    models, curves = [], []
    with np.load(Path(ctx.work) / c.pictures, allow_pickle=False) as stored:
        if "models.observed" in stored.files:
            for trial, left in zip(c.trials, stored["models.corrected"], strict=True):
                models.append(
                    ModelPicture(
                        vis=c.vis, spw=str(virtual.to_virtual(RealSpw(c.spw), c.vis)), antenna=c.antenna,
                        model=str(trial.model), applied=trial.model == c.model, metric=trial.metric, unit=unit,
                        frequency_hz=ms.spw(c.spw).centres_hz, observed=stored["models.observed"], corrected=left,
                        lines=stored["models.lines"],
                    )
                )  # fmt: skip
        for spw in sorted({int(k.partition(".")[0][3:]) for k in stored.files if k.startswith("spw")}):
            pairs, spectra = stored[f"spw{spw}.pairs"], stored[f"spw{spw}.spectrum"]
            for field in np.unique(pairs[:, 1]):
                own = pairs[:, 1] == field
                good = np.isfinite(spectra[own])
                mean = np.where(good, spectra[own], 0.0).sum(axis=1) / np.maximum(good.sum(axis=1), 1)
                curves.append(
                    Curves(
                        vis=c.vis, spw=str(virtual.to_virtual(RealSpw(spw), c.vis)), antenna="", unit=unit,
                        field=ms.field(int(field)).name, x=ms.spw(spw).centres_hz,
                        values=np.where(good.any(axis=1), mean, np.nan),
                        labels=tuple(ms.antenna(int(a)).name for a in pairs[own, 0]),
                    )
                )  # fmt: skip
    return models, curves


def draw_model(ctx: Any, item: ModelPicture, path: Path) -> dict[str, str]:
    """Spectra per airmass before and after; lines of the air are shaded."""
    from pl_kernel.weblog.plots import GOOD, MUTED, PALETTE, figure

    frequency = np.asarray(item.frequency_hz) / 1e9
    with figure(path, 7.2, 3.6, (0.82, 0.25, 0.55, 0.45)) as fig:
        ax = fig.subplots()
        ax.set_title(item.model + (" (applied)" if item.applied else " (discarded)"))
        for first, last in item.lines:
            ax.axvspan(frequency[first], frequency[last], color=PALETTE[4], alpha=0.15, linewidth=0)
        ax.plot(frequency, np.nanmean(item.observed, axis=0), color=MUTED, label="before")
        colour = GOOD if item.applied else PALETTE[1]
        ax.plot(frequency, np.nanmean(item.corrected, axis=0), color=colour, label="after")
        ax.legend(loc="best")
        ax.set_xlabel("Frequency (GHz)")
        ax.set_ylabel(f"ON − OFF per airmass ({item.unit})")
    return {"Roughness": f"{item.metric:.4g}"}
