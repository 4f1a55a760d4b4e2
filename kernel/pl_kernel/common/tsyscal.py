"""h_tsyscal: system temperatures as a caltable, and which of them calibrate which data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from ..calibration import CalApplication, CalFrom, CalTo
from ..effects import Effect, RegisterCalibration, SetValue, UnregisterCalibration
from ..errors import DataError
from ..ms.model import MeasurementSet
from ..ms.selection import compact_ids
from ..params import Inputs, param
from ..stage import Result, Stage
from . import tsysmaps
from .calspectra import coverage, read_spectra
from .tablenames import check_table_name

if TYPE_CHECKING:
    from ..stage_context import StageContext

VALUE = "h.tsyscal"
"""Run value: by measurement set, the Tsys table in use and the window whose Tsys each window takes."""


class TsyscalInputs(Inputs):
    caltable: str | None = param(None, doc="Name of the caltable; default: made from the measurement set's name.")
    chantol: float = param(1.0, minimum=0, doc="By how many Tsys channels a window may stick out of the Tsys window.")


@attrs.frozen(kw_only=True)
class TsysSummary:
    """Tsys of one antenna and window: medians over channels and scans (K), and the share of flagged values."""

    antenna: str
    spw: int
    median_k: float
    worst_k: float
    scans: int
    flagged: float


@attrs.frozen(kw_only=True)
class TsysOfMS:
    """The Tsys of one measurement set.

    ``mapped`` gives science window → Tsys window (real ids), ``unmapped`` the science windows without Tsys; ``uses``
    says whose Tsys calibrates what; ``missing`` are (field name, window) without any.
    """

    vis: str
    table: str
    mapped: dict[int, int]
    unmapped: tuple[int, ...]
    uses: tuple[tsysmaps.TsysUse, ...]
    missing: tuple[tuple[str, int], ...] = ()
    summary: tuple[TsysSummary, ...] = ()


class TsyscalResult(Result):
    """One record per measurement set."""

    tables: tuple[TsysOfMS, ...]


class Tsyscal(Stage[TsyscalInputs, TsyscalResult]):
    """Make a caltable of the system temperatures, and decide which of them calibrate which data.

    The spectra that the observatory measured (SYSCAL) become a Tsys table. Every science window takes the Tsys of a
    window of the same baseband and set-up that covers its frequencies; data take the Tsys of their own field, or of
    the nearest field in the sky that may serve their intent (targets do not take that of bright calibrators). The
    choice is made here and written down, window by window: nothing is left to a search at the time of application.

    An intent with data and no Tsys at all is an error; a science window without is listed, costs its share of the
    score, and stays without Tsys.
    """

    name = "h_tsyscal"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True

    def check(self, ctx: StageContext, inputs: TsyscalInputs) -> None:
        sets = ctx.measurement_sets(inputs.vis)
        check_table_name(ctx, inputs.caltable, sets, "caltable")
        for ms in sets:
            if "SYSCAL" not in ms.subtables:
                raise DataError(f"{ms.name} has no SYSCAL table, so its system temperatures are unknown.")

    def run(self, ctx: StageContext, inputs: TsyscalInputs) -> TsyscalResult:
        tables = []
        effects: list[Effect] = []
        known = dict(ctx.value(VALUE) or {})
        sets = ctx.measurement_sets(inputs.vis)
        for count, ms in enumerate(sets, 1):
            record = _of_one(ctx, ms, inputs)
            tables.append(record)
            effects += _registrations(ctx, ms, record)
            known[ms.name] = {"table": record.table, "mapped": sorted(record.mapped.items())}
            ctx.progress(count, len(sets), ms.name)
        return TsyscalResult(tables=tuple(tables), effects=(*effects, SetValue(VALUE, known)))


def _of_one(ctx: StageContext, ms: MeasurementSet, inputs: TsyscalInputs) -> TsysOfMS:
    table = inputs.caltable or ctx.path(ms, ext="tsyscal.tbl")
    ctx.files.rmtree(table)  # gencal would multiply into it
    ctx.casa.gencal(vis=ms.path, caltable=table, caltype="tsys")
    spectra = read_spectra(ctx.casa, table)
    if not spectra:
        raise DataError(f"SYSCAL of {ms.name} holds no system temperature; it cannot be calibrated with Tsys.")
    mapping = tsysmaps.spw_map(ms.spws, spectra, inputs.chantol)
    found = tsysmaps.plan(ms, mapping, coverage(spectra))
    if found.without:
        raise DataError(f"{ms.name} has no system temperatures that could calibrate {', '.join(found.without)} data.")
    unmapped = tuple(int(s) for s in ms.science_spw_ids if s not in mapping)
    if unmapped:
        ctx.log.warning(f"{ms.name}: no Tsys was measured for spw {compact_ids(unmapped)}; nothing is registered.")
    for field, spw in found.missing:
        ctx.log.error(f"{ms.name}: field {ms.field(field).name}, spw {spw} has no Tsys that could calibrate it.")
    names = {a.id: a.name for a in ms.antennas}
    summary = []
    for spw, s in spectra.items():
        values = s.masked
        for antenna in np.unique(s.antenna):
            own = s.rows(antenna=int(antenna))
            good = values[own][np.isfinite(values[own])]
            summary.append(
                TsysSummary(
                    antenna=names.get(int(antenna), str(antenna)), spw=spw, scans=len(np.unique(s.scan[own])),
                    median_k=float(np.median(good)) if good.size else float("nan"),
                    worst_k=float(good.max()) if good.size else float("nan"), flagged=1 - good.size / values[own].size,
                )
            )  # fmt: skip
    return TsysOfMS(
        vis=ms.name, table=table, unmapped=unmapped, uses=found.uses, summary=tuple(summary),
        mapped={int(s): mapping[int(s)] for s in ms.science_spw_ids if s in mapping},
        missing=tuple((ms.field(f).name, s) for f, s in found.missing),
    )  # fmt: skip


def _registrations(ctx: StageContext, ms: MeasurementSet, record: TsysOfMS) -> list[Effect]:
    older = (ctx.value(VALUE) or {}).get(ms.name, {}).get("table")
    effects: list[Effect] = [UnregisterCalibration(older)] if older else []  # the stage is run again
    for use in record.uses:
        mapping = {s: record.mapped[s] for s in use.spws}
        cal = CalFrom(
            record.table, gainfield=str(use.tsys_field), interp="linear,linear", spwmap=tsysmaps.as_list(mapping),
            caltype="tsys",
        )  # fmt: skip
        to = CalTo(
            ms.name, field=ms.field_selection(ms.field(f) for f in use.fields), spw=compact_ids(use.spws),
            intent=use.intent,
        )  # fmt: skip
        effects.append(RegisterCalibration(CalApplication(to, cal, origin=ctx.stage_name)))
    return effects
