"""Show the calibrated data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np

from pl_hifv.heuristics.gainkind import GainSums
from pl_hifv.occupancy import PARALLEL, virtual_ids
from pl_hifv.selections import CALIBRATORS
from pl_hifv.summaries import basebands, summarise
from pl_kernel import Inputs, Result, Stage
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.stage import joined
from pl_kernel.stage_context import StageContext

TARGETS_SHOWN = 30
"""Of more targets every n-th is shown (reference pipeline, 2026)."""
_KINDS = {
    "gceff": "gain curve and efficiency", "gc": "gain curve", "opac": "opacity", "rq": "requantizer",
    "swpow": "switched power", "antpos": "antenna positions", "tecim": "ionosphere",
}  # fmt: skip
_JONES = {
    "K Jones": "delay", "B Jones": "bandpass", "KAntPos Jones": "antenna positions", "D Jones": "leakage",
    "Df Jones": "leakage", "Kcross Jones": "cross-hand delay", "X Jones": "cross-hand phase",
    "Xf Jones": "cross-hand phase",
}  # fmt: skip


class PlotsummaryInputs(Inputs):
    pass


@attrs.frozen(kw_only=True)
class FieldSummary:
    """One field: where its averages are kept, and how much its calibrated phases scatter (calibrators).

    Windows (virtual ids) are by band, and by band and baseband in the order of frequency.
    """

    vis: str
    field: str
    field_id: int
    intents: tuple[str, ...] = attrs.field(converter=tuple)
    file: str
    bands: dict[str, tuple[int, ...]]
    basebands: dict[str, tuple[int, ...]] = attrs.field(factory=dict)
    phase_rms_deg: float = 0.0
    worst_antenna: str = ""
    worst_rms_deg: float = 0.0


@attrs.frozen(kw_only=True)
class AppliedTable:
    """One caltable and the data it has been applied to (selections; empty: all), what it corrects and how."""

    vis: str
    intent: str = ""
    field: str = ""
    spw: str = ""
    antenna: str = ""
    kind: str
    spwmap: tuple[int, ...] = attrs.field(default=(), converter=tuple)
    gainfield: str = ""
    interp: str = ""
    calwt: bool = False
    table: str


class PlotsummaryResult(Result):
    """The fields shown, and what was applied to them."""

    calibrators: tuple[FieldSummary, ...]
    targets: tuple[FieldSummary, ...]
    applied: tuple[AppliedTable, ...] = ()
    polarized: bool = joined(any, False)
    not_shown: int = joined(sum, 0)


class Plotsummary(Stage[PlotsummaryInputs, PlotsummaryResult]):
    """Show the calibrated data.

    Lists what the calibration library holds as applied, gains as of phase, of amplitude or both by their values. One
    pass over every calibrator and at most 30 targets: visibilities averaged per scan, baseline and window (against
    baseline), in ten parts of each scan (against time), and over time per channel (against frequency; of calibrators by
    antenna, of targets the inner half of the uv range). The averages are kept with the stage, the plots are drawn from
    them, and nothing of it grows with the number of integrations. For calibrators the scatter of the phases is scored:
    a calibrated point source has phase 0.
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
        applied: list[AppliedTable] = []
        left, polarized = 0, False
        for ms in self.sets(ctx, inputs):
            applied += applied_tables(ctx, ms)
            column = ms.column_of(DataType.REGCAL_CONTLINE_ALL) or "DATA"
            polarized |= bool(ms.intents & {"POLARIZATION", "POLANGLE", "POLLEAKAGE"})
            chosen = [f for f in ms.fields_with_intent(CALIBRATORS) if f.spws & set(ms.science_spw_ids)]
            science = [f for f in ms.fields_with_intent("TARGET") if f not in chosen]
            shown = some_of(science)
            left += len(science) - len(shown)
            for count, field in enumerate([*chosen, *shown], 1):
                summary = _summarise(ctx, ms, field, column, target=field in shown)
                if summary is not None:
                    (targets if field in shown else calibrators).append(summary)
                ctx.progress(count, len(chosen) + len(shown), f"{ms.name} {field.name}")
        return PlotsummaryResult(
            calibrators=tuple(calibrators), targets=tuple(targets), applied=tuple(applied), polarized=polarized,
            not_shown=left,
        )  # fmt: skip


def some_of(targets: Sequence[Field]) -> Sequence[Field]:
    """At most as many targets as are shown, evenly spread over the list.

    The reference pipeline (2026) takes every (n//30 + 1)-th, and so 15 of 30.
    """
    return targets[:: max(1, -(-len(targets) // TARGETS_SHOWN))]


def _summarise(
    ctx: StageContext, ms: MeasurementSet, field: Field, column: str, *, target: bool
) -> FieldSummary | None:
    """Average one field and keep the averages in the stage's folder; None where everything is flagged."""
    arrays = summarise(ctx, ms, field, column, is_target=target)
    if not arrays:
        return None
    file = f"summary-{ms.stem}-{field.id}.npz"
    np.savez_compressed(ctx.stage_dir / file, **arrays)
    names = [str(n) for n in arrays["names"]]
    rms, worst, worst_rms = (0.0, "", 0.0) if target else phase_scatter(ms, names, arrays["rows"], arrays["values"])
    virtual = virtual_ids(ctx, ms)
    windows = [w for w in ms.science_spws if w.id in field.spws]
    bands: dict[str, tuple[int, ...]] = {}
    for window in windows:
        bands[window.band] = (*bands.get(window.band, ()), virtual[int(window.id)])
    groups = {name: tuple(virtual[int(w.id)] for w in group) for name, group in basebands(ms, windows).items()}
    return FieldSummary(
        vis=ms.name, field=field.name, field_id=field.id, intents=sorted(field.intents), file=file, bands=bands,
        basebands=groups, phase_rms_deg=rms, worst_antenna=worst, worst_rms_deg=worst_rms,
    )  # fmt: skip


def applied_tables(ctx: StageContext, ms: MeasurementSet) -> tuple[AppliedTable, ...]:
    """What the calibration library holds as applied, one entry for each selection of data and table."""
    kinds: dict[str, str] = {}
    found = []
    for entry in ctx.calibration.merged(ms, state="applied"):
        for c in entry.calfroms:
            if c.gaintable not in kinds:
                kinds[c.gaintable] = kind_of(ctx, c.gaintable, c.caltype)
            found.append(
                AppliedTable(
                    vis=ms.name, field=entry.field, spw=entry.spw, antenna=entry.antenna, intent=entry.intent,
                    kind=kinds[c.gaintable], spwmap=c.spwmap, gainfield=c.gainfield, interp=c.interp, calwt=c.calwt,
                    table=c.gaintable,
                )
            )  # fmt: skip
    return tuple(found)


def kind_of(ctx: StageContext, path: str, caltype: str) -> str:
    """What a caltable corrects, in words; gains by their values."""
    if caltype in _KINDS:
        return _KINDS[caltype]
    if not Path(path).is_dir():
        return caltype
    with ctx.casa.table(path) as table:
        jones = str(table.getkeyword("VisCal")) if "VisCal" in table.keywordnames() else ""
        if jones not in ("G Jones", "T Jones"):
            return _JONES.get(jones, caltype)
        sums, step = GainSums(), 50_000
        for start in range(0, table.nrows(), step):
            rows = min(step, table.nrows() - start)
            sums = sums.add(table.getcol("CPARAM", start, rows), table.getcol("FLAG", start, rows))
    return f"gain, {sums.kind}" if sums.kind else "gain"


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
