"""A stage that reduces simulated total-power data with CASA tasks alone, for tests of stages that come after.

Installed by the fixture `raw_reduction` of these tests as a plugin of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd.rows import RowTable
from pl_hsd.strategy import strategy
from pl_kernel import Inputs, Result, Stage, hookimpl, param
from pl_kernel.effects import AddMeasurementSet, SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.reader import read_measurement_set


class ReduceInputs(Inputs):
    lines: tuple[str, ...] = param(("1", "2"), doc="Which of the science windows, counted from 1, have a line range.")
    half: int = param(40, doc="Half width of the line ranges, channels around the middle.")
    factor: float = param(41.0, doc="Jy/K; 0: stay in K.")
    edge: tuple[int, ...] = param((0, 0), doc="Channels to leave out at either end.")
    flag: str = param("", doc="Flag these data after the reduction: a CASA selection as JSON.")


class ReduceResult(Result):
    outputs: tuple[str, ...]


class Reduce(Stage[ReduceInputs, ReduceResult]):
    """Calibrate, convert to Jy and fit baselines beside known lines, by CASA alone."""

    name = "rawsd_reduce"
    topic = "calibration"
    mutates = frozenset({"corrected", "flags"})

    def run(self, ctx: Any, inputs: ReduceInputs) -> ReduceResult:
        effects: list[Any] = []
        tables, factors, names, ranges = {}, {}, [], {}
        for ms in ctx.measurement_sets(inputs.vis):
            plan = strategy(ctx, ms)
            science = sorted(plan.tsys_spw) or [int(s) for s in ms.science_spw_ids]
            spw = ",".join(map(str, science))
            tsys, sky, jy = (f"{ms.name}.{kind}.tbl" for kind in ("tsys", "sky", "jyperk"))
            ctx.casa.gencal(vis=ms.path, caltable=tsys, caltype="tsys")
            ctx.casa.sdcal(infile=ms.path, outfile=sky, calmode="ps", spw=spw, overwrite=True)
            jansky = inputs.factor > 0
            lines = [f"{ms.name},{a.name},{s},I,{inputs.factor}" for a in ms.antennas for s in science]
            Path("jyperk.csv").write_text("MS,Antenna,Spwid,Polarization,Factor\n" + "\n".join(lines) + "\n")
            if jansky:
                ctx.casa.gencal(vis=ms.path, caltable=jy, caltype="jyperk", infile="jyperk.csv")
            used = 3 if jansky else 2
            mapping = [plan.tsys_spw.get(s, s) for s in range(len(ms.spws))]
            ctx.casa.applycal(
                vis=ms.path, spw=spw, intent="OBSERVE_TARGET#ON_SOURCE*", gaintable=[tsys, sky, jy][:used],
                spwmap=[mapping, [], []][:used], gainfield=["nearest", "", ""][:used],
                interp=["linear,linear", "linear,linear", "nearest,nearest"][:used], calwt=True, flagbackup=False,
                applymode="calflagstrict",
            )  # fmt: skip
            out = f"{ms.path}_bl"
            free = []
            for s in science:
                n = ms.spw(s).n_channels
                free.append(f"{s}:{int(0.04 * n)}~{int(0.32 * n)};{n - 1 - int(0.32 * n)}~{n - 1 - int(0.04 * n)}")
            ctx.casa.sdbaseline(
                infile=ms.path, datacolumn="corrected", outfile=out, field=_targets(ms),
                spw=",".join(free), maskmode="list", blfunc="poly", order=3, blmode="fit", overwrite=True,
            )  # fmt: skip
            if inputs.flag:
                ctx.casa.flagdata(vis=out, mode="manual", **json.loads(inputs.flag))
            new = read_measurement_set(
                ctx.work / out, ctx.telescopes, name=out, session=ms.session, relative_to=ctx.work,
                open_table=ctx.casa.table,
            )  # fmt: skip
            column = "FLOAT_DATA" if "FLOAT_DATA" in new.columns else "DATA"
            new = attrs.evolve(new.with_data_type(DataType.BASELINED, column, overwrite=True), origin=ms.name)
            effects.append(AddMeasurementSet(new))
            names.append(out)
            tables[ms.name] = {"tsys": tsys, "sky": sky, "jyperk": jy}
            if jansky:
                factors[ms.name] = [[s, a.name, "I", inputs.factor] for a in ms.antennas for s in science]
            effects += self._tsys(ctx, ms, plan, tsys)
            target = ms.field(next(f.id for f in ms.fields if "TARGET" in f.intents)).name
            for k, s in enumerate(science):
                if str(k + 1) in inputs.lines:
                    middle = ms.spw(s).n_channels / 2
                    ranges[f"{ms.spw(s).name}/{target}"] = [{"centre": middle, "width": 2 * inputs.half, "valid": True}]
        units = dict.fromkeys(tables, "Jy" if inputs.factor > 0 else "K")
        effects += [
            SetValue("hsd.caltables", tables), SetValue("hsd.k2jy", factors), SetValue("hsd.unit", units),
            SetValue("hsd.iteration", 1), SetValue("hsd.edge", list(inputs.edge)),
            SetValue("hsd.line_ranges", ranges),
        ]  # fmt: skip
        return ReduceResult(outputs=tuple(names), effects=tuple(effects))

    def _tsys(self, ctx: Any, ms: Any, plan: Any, name: str) -> tuple[SetValue, ...]:
        rows = RowTable.open(ctx, ms)
        with ctx.casa.table(name) as table:
            antenna, spw = table.getcol("ANTENNA1"), table.getcol("SPECTRAL_WINDOW_ID")
            mean = np.array([table.getcell("FPARAM", k).mean(axis=1) for k in range(table.nrows())])
        values = np.array(rows["tsys_k"])
        pairs = dict(plan.tsys_spw) or {int(s): int(s) for s in ms.science_spw_ids}
        for science, load in pairs.items():
            for a in np.unique(antenna):
                here = (rows["spw"] == science) & (rows["antenna"] == a)
                values[here] = mean[(antenna == a) & (spw == load)].mean(axis=0)
        return tuple(rows.with_columns(ctx, {"tsys_k": values}))


def _targets(ms: Any) -> str:
    # A selection by intent would have every STATE_ID written as 0.
    return ms.field_selection("TARGET")


@hookimpl
def pl_api() -> str:
    return ">=1,<2"


@hookimpl
def pl_stages() -> list[type[Stage]]:
    return [Reduce]
