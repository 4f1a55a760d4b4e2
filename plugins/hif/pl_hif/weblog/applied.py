"""Page of the applied calibration: what went where, and what the calibrated data look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_kernel import renderer
from pl_kernel.common.applycal import ApplycalResult
from pl_kernel.common.applypages import antenna_flags, applied_tables, flag_table

__all__ = ["applycal_page", "flag_table"]


@attrs.frozen(kw_only=True)
class Averages:
    """Calibrated visibilities of one field, averaged over channels; one value per row and hand."""

    vis: str
    field: str
    intents: str
    time_s: Any
    uv_m: Any
    value: Any
    hand: Any
    hands: tuple[str, ...]


@renderer(ApplycalResult)
def applycal_page(page: Any, ctx: Any, result: ApplycalResult) -> None:
    """Applied tables, flags, and calibrated amplitudes and phases."""
    applied_tables(page, result)
    page.section("Calibrated data")
    found = [a for vis in result.after for a in _averages(ctx, vis)]
    page.data_read()
    page.plots(
        draw_uv, found,
        caption=lambda a: f"{a.field} ({a.intents}): amplitude against baseline, averaged over channels",
        tags=lambda a: {"vis": a.vis, "field": a.field, "type": "amplitude, uv"}, name="uv",
    )  # fmt: skip
    page.plots(
        draw_time, [a for a in found if "TARGET" not in a.intents],
        caption=lambda a: f"{a.field} ({a.intents}): amplitude and phase against time",
        tags=lambda a: {"vis": a.vis, "field": a.field, "type": "time"}, name="time",
    )  # fmt: skip
    antenna_flags(page, result)


def _averages(ctx: Any, vis: str, most_rows: int = 40_000) -> list[Averages]:
    """Read the corrected data once, field by field, averaged over channels as they come."""
    ms = ctx.context.measurement_set(vis)
    found = []
    for field in ms.fields:
        times, lengths, values, hands = [], [], [], []
        names: tuple[str, ...] = ()
        rows = 0
        for piece in pieces(ctx, ms, ["CORRECTED_DATA", "FLAG", "TIME", "UVW"], [field.id], rows=5000):
            rows += piece.columns["TIME"].size
            if rows > most_rows and values:
                break
            correlations = ms.polarization_of(piece.spw).correlations
            parallel = [i for i, c in enumerate(correlations) if c in ("RR", "LL", "XX", "YY", "I")]
            names = tuple(correlations[i] for i in parallel)
            data = piece.columns["CORRECTED_DATA"][parallel]
            good = ~piece.columns["FLAG"][parallel]
            count = good.sum(axis=1)
            mean = np.where(count > 0, np.where(good, data, 0).sum(axis=1) / np.maximum(count, 1), np.nan)
            length = np.hypot(piece.columns["UVW"][0], piece.columns["UVW"][1])
            for k in range(len(parallel)):
                ok = count[k] > 0
                times.append(piece.columns["TIME"][ok])
                lengths.append(length[ok])
                values.append(mean[k][ok])
                hands.append(np.full(int(ok.sum()), k))
        if values:
            found.append(
                Averages(
                    vis=vis, field=field.name, intents=", ".join(sorted(field.intents)), time_s=np.concatenate(times),
                    uv_m=np.concatenate(lengths), value=np.concatenate(values), hand=np.concatenate(hands), hands=names,
                )
            )  # fmt: skip
    return found


def draw_uv(ctx: Any, item: Averages, path: Path) -> dict[str, str]:
    """Amplitude against baseline length."""
    from pl_kernel.weblog import plots

    plots.scatter(
        path, item.uv_m, np.abs(item.value), categories=item.hand, labels=item.hands, xlabel="Baseline", xunit="m",
        ylabel="Amplitude", yunit="Jy", title=item.field, subtitle=item.intents,
    )  # fmt: skip
    return {"Median": f"{np.median(np.abs(item.value)):.4g} Jy" if item.value.size else "–"}


def draw_time(ctx: Any, item: Averages, path: Path) -> dict[str, str]:
    """Amplitude above phase, against time."""
    from pl_kernel.weblog import plots

    plots.amp_phase_vs_time(
        path, *_by_hand(item), labels=item.hands, title=item.field, subtitle=item.intents, unit="Jy"
    )
    phase = np.degrees(np.angle(item.value))
    return {"Phase scatter": f"{np.std(phase):.2f} deg" if phase.size else "–"}


def _by_hand(item: Averages) -> tuple[np.ndarray, np.ndarray]:
    """Times and values as one row per hand, filled up with NaN."""
    length = max((int((item.hand == k).sum()) for k in range(len(item.hands))), default=0)
    times = np.full((len(item.hands), length), np.nan)
    values = np.full((len(item.hands), length), np.nan + 0j)
    for k in range(len(item.hands)):
        rows = item.hand == k
        times[k, : rows.sum()], values[k, : rows.sum()] = item.time_s[rows], item.value[rows]
    return times, values
