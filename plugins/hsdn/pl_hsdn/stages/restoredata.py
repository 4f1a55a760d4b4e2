"""Restore Nobeyama data from raw data and the products of an earlier run, with scaling factors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pl_hsd.stages.restoredata import RestoredataInputs as SingleDishInputs
from pl_hsd.stages.restoredata import SingleDishRestore, SingleDishRestorer
from pl_hsdn import scaling
from pl_hsdn.scaling import Factor, ScaleFile
from pl_hsdn.stages.importdata import Importdata
from pl_kernel import InputError, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common.applying import Applied
from pl_kernel.common.restoredata import Restored, RestoredataResult
from pl_kernel.common.tablenames import check_table_name
from pl_kernel.effects import Effect
from pl_kernel.stage_context import StageContext


class RestoredataInputs(SingleDishInputs):
    reffile: Path = param(
        Path(scaling.FILE), doc="Scaling factors; looked for here, in the work folder and among the products."
    )
    caltable: str | None = param(None, doc="Name of the table made of them; default from measurement set and stage.")


class NobeyamaRestoredataResult(RestoredataResult):
    """What was restored; the scaling factors other than 1, and the remarks in their file (empty: there was none)."""

    file: str = ""
    remarks: tuple[str, ...] = ()
    factors: tuple[Factor, ...] = ()


class _Restore(SingleDishRestore):
    """Scaling factors are a table of their own, applied after Tsys and sky."""

    inputs: RestoredataInputs
    scale: ScaleFile | None = None
    factors: tuple[Factor, ...] = ()

    def more_tables(self) -> tuple[CalApplication, ...]:
        if self.scale is None:
            return ()
        self.factors = scaling.factors_of(self.scale, self.ms)
        changed = [f for f in self.factors if f.factor != 1.0]
        if not changed:
            return ()
        table = self.inputs.caltable or self.ctx.path(self.ms, ext="amp.tbl")
        if Path(table).exists():
            self.ctx.files.rmtree(table)
        for f in changed:
            # CASA looks for the gain of a lone LL or YY at the first feed: there both feeds get the factor.
            alone = len(scaling.correlations(self.ms, f.spw)) == 1
            # CASA divides spectra by the product of the gains of both "antennas" of an autocorrelation.
            self.ctx.casa.gencal(
                vis=self.ms.path, caltable=table, caltype="amp", spw=str(f.spw), antenna=f.beam,
                pol="" if alone else scaling.POLARIZATIONS[f.polarization], parameter=[1 / math.sqrt(f.factor)],
            )  # fmt: skip
        # No "amp": that kind of table turns kelvin into jansky, and these stay kelvin.
        source = CalFrom(table, interp="nearest,nearest", caltype="gaincal")
        return (CalApplication(CalTo(self.ms.name, intent="TARGET"), source, origin=self.ctx.stage_name),)


class Restoredata(SingleDishRestorer[RestoredataInputs]):
    """Restore Nobeyama data from raw data and the products of an earlier run, with scaling factors.

    As hsd_restoredata. Where there are scaling factors, calibrated spectra are multiplied by them, by beam, window and
    polarization; factors are given in ``nroscalefile.csv``, of which hsdn_exportdata writes one to be filled in. The
    data stay in kelvin (times the factor).

    The reference pipeline goes on without a word when there is no such file; here the page says so, and a file that was
    named and is not there is refused.
    """

    name = "hsdn_restoredata"
    job_class = _Restore
    importer = Importdata
    result_class = NobeyamaRestoredataResult

    def check(self, ctx: StageContext, inputs: RestoredataInputs) -> None:
        super().check(ctx, inputs)
        if self._file(ctx, inputs) is None and inputs.reffile != Path(scaling.FILE):
            raise InputError(f"There are no scaling factors {inputs.reffile}, neither here nor among the products.")

    def _file(self, ctx: StageContext, inputs: RestoredataInputs) -> Path | None:
        places = (Path(inputs.reffile), ctx.work / inputs.reffile, ctx.work / inputs.products_dir / inputs.reffile)
        return next((place for place in places if place.is_file()), None)

    def begin(self, ctx: StageContext, inputs: RestoredataInputs, jobs: list[Any]) -> None:
        path = self._file(ctx, inputs)
        if path is None:
            ctx.log.attention("There are no scaling factors; the spectra are restored as they were.")
            return
        check_table_name(ctx, inputs.caltable, [job.ms for job in jobs], "caltable")
        found = scaling.read(path)
        for job in jobs:
            job.scale = found

    def result(
        self, sets: tuple[Restored, ...], applied: tuple[Applied, ...], effects: tuple[Effect, ...], jobs: list[Any]
    ) -> RestoredataResult:
        scale = next((job.scale for job in jobs if job.scale is not None), None)
        return NobeyamaRestoredataResult(
            sets=sets, applied=applied, effects=effects, remarks=scale.remarks if scale else (),
            file=scaling.FILE if scale else "", factors=tuple(f for job in jobs for f in job.factors),
        )  # fmt: skip
