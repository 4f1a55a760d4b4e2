"""Show the calibrated data."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_hifv.occupancy import PARALLEL, virtual_ids
from pl_hifv.selections import CALIBRATORS
from pl_kernel import Inputs, Result, Stage
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.stage import joined
from pl_kernel.stage_context import StageContext

TARGETS_SHOWN = 30
"""Of more targets every n-th is shown (reference pipeline, 2026)."""
_SPEED_OF_LIGHT = 299792458.0


class PlotsummaryInputs(Inputs):
    pass


@attrs.frozen(kw_only=True)
class FieldSummary:
    """One field: where its averages are kept, and how much its calibrated phases scatter (calibrators)."""

    vis: str
    field: str
    field_id: int
    intents: tuple[str, ...] = attrs.field(converter=tuple)
    file: str
    bands: dict[str, tuple[int, ...]]
    phase_rms_deg: float = 0.0
    worst_antenna: str = ""
    worst_rms_deg: float = 0.0


class PlotsummaryResult(Result):
    """The fields shown, and what was applied to them."""

    calibrators: tuple[FieldSummary, ...]
    targets: tuple[FieldSummary, ...]
    polarized: bool = joined(any, False)
    not_shown: int = joined(sum, 0)


class Plotsummary(Stage[PlotsummaryInputs, PlotsummaryResult]):
    """Show the calibrated data.

    One pass over every field shown: visibilities averaged per scan, baseline and window (against time and baseline),
    and over time and baselines per channel (against frequency; for targets the inner half of the uv range). The
    averages are kept with the stage, the plots are drawn from them, and nothing of it grows with the number of
    integrations. For calibrators the scatter of the averaged phases is scored: a calibrated point source has phase 0.
    """

    name = "hifv_plotsummary"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True

    def sets(self, ctx: StageContext, inputs: PlotsummaryInputs) -> tuple[MeasurementSet, ...]:
        return ctx.measurement_sets(inputs.vis, types=(DataType.REGCAL_CONTLINE_ALL, DataType.RAW))

    def run(self, ctx: StageContext, inputs: PlotsummaryInputs) -> PlotsummaryResult:
        calibrators: list[FieldSummary] = []
        targets: list[FieldSummary] = []
        left, polarized = 0, False
        for ms in self.sets(ctx, inputs):
            column = ms.column_of(DataType.REGCAL_CONTLINE_ALL) or "DATA"
            polarized |= bool(ms.intents & {"POLARIZATION", "POLANGLE", "POLLEAKAGE"})
            chosen = [f for f in ms.fields_with_intent(CALIBRATORS) if f.spws & set(ms.science_spw_ids)]
            science = [f for f in ms.fields_with_intent("TARGET") if f not in chosen]
            step = len(science) // TARGETS_SHOWN + 1
            shown = science[::step]
            left += len(science) - len(shown)
            for count, field in enumerate([*chosen, *shown], 1):
                summary = summarise(ctx, ms, field, column, is_target=field in shown)
                if summary is not None:
                    (targets if field in shown else calibrators).append(summary)
                ctx.progress(count, len(chosen) + len(shown), f"{ms.name} {field.name}")
        return PlotsummaryResult(
            calibrators=tuple(calibrators), targets=tuple(targets), polarized=polarized, not_shown=left
        )


class _Averages:
    """Sums per (scan, baseline) and per channel of one field and window."""

    def __init__(self) -> None:
        self.groups: dict[tuple[int, int, int], list] = {}  # scan, antennas: sum, count, time, uv, rows
        self.spectrum: np.ndarray | None = None
        self.count: np.ndarray | None = None

    def add(self, columns: dict[str, np.ndarray], data: np.ndarray, inner_m: float | None) -> None:
        flag = columns["FLAG"] | ~np.isfinite(data)
        good = ~flag
        values = np.where(good, data, 0)
        sums, counts = values.sum(axis=1), good.sum(axis=1)  # (corr, row)
        uv = np.hypot(*columns["UVW"][:2])
        keys = np.stack([columns["SCAN_NUMBER"], columns["ANTENNA1"], columns["ANTENNA2"]])
        unique, index = np.unique(keys, axis=1, return_inverse=True)
        index = index.ravel()
        for g in range(unique.shape[1]):
            rows = index == g
            part = self.groups.setdefault(
                tuple(int(k) for k in unique[:, g]), [0, 0, 0.0, 0.0, 0]
            )
            part[0] = part[0] + sums[:, rows].sum(axis=1)
            part[1] = part[1] + counts[:, rows].sum(axis=1)
            part[2] += float(columns["TIME"][rows].sum())
            part[3] += float(uv[rows].sum())
            part[4] += int(rows.sum())
        inside = uv <= inner_m if inner_m is not None else np.ones(uv.size, bool)
        spectrum = values[..., inside].sum(axis=2)
        count = good[..., inside].sum(axis=2)
        self.spectrum = spectrum if self.spectrum is None else self.spectrum + spectrum
        self.count = count if self.count is None else self.count + count


def summarise(
    ctx: StageContext, ms: MeasurementSet, field: Field, column: str, *, is_target: bool
) -> FieldSummary | None:
    """Average one field and keep the averages in the stage's folder; None where everything is flagged."""
    virtual = virtual_ids(ctx, ms)
    windows = [w for w in ms.science_spws if w.id in field.spws]
    inner = 0.5 * ms.array.max_baseline_m if is_target else None
    arrays: dict[str, np.ndarray] = {}
    rows: list[tuple[float, ...]] = []
    values: list[np.ndarray] = []
    names: list[str] = sorted({c for w in windows for c in ms.polarization_of(w.id).correlations})
    for window in windows:
        averages = _Averages()
        wanted = [column, "FLAG", "TIME", "UVW", "SCAN_NUMBER", "ANTENNA1", "ANTENNA2"]
        for piece in pieces(ctx, ms, wanted, [field.id], [int(window.id)]):
            averages.add(piece.columns, piece.columns[column], inner)
        if averages.spectrum is None or averages.count is None or not averages.count.any():
            continue
        correlations = ms.polarization_of(window.id).correlations
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(averages.count > 0, averages.spectrum / averages.count, np.nan)
        spw = virtual[int(window.id)]
        arrays[f"spectrum_{spw}"], arrays[f"frequency_{spw}"] = mean, window.centres_hz
        arrays[f"correlations_{spw}"] = np.array(correlations)
        wavelength = _SPEED_OF_LIGHT / window.centre_hz
        for (scan, one, two), (total, count, time, uv, n) in averages.groups.items():
            row = np.full(len(names), np.nan, complex)
            for i, c in enumerate(correlations):
                if count[i]:
                    row[names.index(c)] = total[i] / count[i]
            rows.append((spw, scan, one, two, time / n, uv / n / wavelength))
            values.append(row)
    if not values:
        return None
    arrays |= {"rows": np.array(rows), "values": np.array(values), "names": np.array(names)}
    file = f"summary-{ms.stem}-{field.id}.npz"
    np.savez_compressed(ctx.stage_dir / file, **arrays)
    rms, worst, worst_rms = (0.0, "", 0.0) if is_target else phase_scatter(ms, names, arrays["rows"], arrays["values"])
    bands: dict[str, tuple[int, ...]] = {}
    for window in windows:
        bands[window.band] = (*bands.get(window.band, ()), virtual[int(window.id)])
    return FieldSummary(
        vis=ms.name, field=field.name, field_id=field.id, intents=sorted(field.intents), file=file, bands=bands,
        phase_rms_deg=rms, worst_antenna=worst, worst_rms_deg=worst_rms,
    )  # fmt: skip


def phase_scatter(
    ms: MeasurementSet, names: Iterable[str], rows: np.ndarray, values: np.ndarray
) -> tuple[float, str, float]:
    """Scatter about zero of the averaged phases of the parallel hands in degrees: of all, and of the worst antenna."""
    hands = [i for i, n in enumerate(names) if n in PARALLEL]
    phase = np.degrees(np.angle(values[:, hands]))
    known = np.isfinite(phase)
    if not known.any():
        return 180.0, "", 180.0

    def rms(chosen: np.ndarray) -> float:
        part = phase[chosen][known[chosen]]
        return float(np.sqrt(np.mean(part**2))) if part.size else 0.0

    by_antenna = {
        a.name: rms((rows[:, 2] == a.id) | (rows[:, 3] == a.id)) for a in ms.antennas
    }
    worst = max(by_antenna, key=lambda a: by_antenna[a])
    return rms(np.ones(len(rows), bool)), worst, by_antenna[worst]
