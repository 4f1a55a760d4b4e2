"""Restore single-dish data from raw data and the products of an earlier run."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import attrs

from pl_hsd import aftercal, k2jy
from pl_hsd.importing import SingleDishInputs
from pl_hsd.stages.importdata import Importdata
from pl_kernel import Stage, param
from pl_kernel.common.restoredata import Restore, Restorer
from pl_kernel.common.restoredata import RestoredataInputs as CommonInputs
from pl_kernel.effects import Effect
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class RestoredataInputs(CommonInputs, SingleDishInputs):
    ocorr_mode: str = param("ao", doc="As in hsd_importdata.", hidden=True)
    bdfflags: bool = param(False, doc="As in hsd_importdata.", hidden=True)


I = TypeVar("I", bound=RestoredataInputs)  # noqa: E741


class SingleDishRestore(Restore):
    """The restore of one measurement set, and what later stages know of its spectra."""

    learnt: aftercal.Learnt | None = None

    def caltype(self, table: str) -> str:
        # Deliveries of the observatory's pipeline do not tell kelvin-to-jansky from other gains.
        return "amp" if ".jyperk." in table else super().caltype(table)

    def finish(self, names: tuple[str, ...]) -> None:
        """Put the final flags back; then unit, valid spectra and Tsys are those of the delivered run."""
        super().finish(names)
        if self.applied and not self.found.state.uncalibrated:  # what came calibrated is known since its import
            self.learnt = aftercal.learn(self.ctx, self.ms)
            self.effects += self.learnt.effects
            self.facts["Unit"] = self.learnt.unit or "none"


class SingleDishRestorer(Restorer[I]):
    """What the restores of all single dishes share: the import makes the table of rows."""

    job_class = SingleDishRestore
    importer: ClassVar[type[Stage[Any, Any]]] = Importdata
    """The stage whose import comes first where the run has no data."""

    def import_sets(self, ctx: StageContext, inputs: I) -> tuple[list[MeasurementSet], list[Effect]]:
        known = self.importer.inputs_class
        shared = {a.name: getattr(inputs, a.name) for a in attrs.fields(known) if hasattr(inputs, a.name)}
        found = self.importer().run(ctx, known(**shared))
        return [i.ms for i in found.imported], list(found.effects)

    def values(self, ctx: StageContext, jobs: list[Any]) -> list[Effect]:
        known = {job.ms.name: job for job in jobs if job.learnt is not None}
        factors = {
            name: aftercal.factors_of(ctx, job.ms, table)
            for name, job in known.items()
            if (table := job.learnt.tables.get("jyperk"))
        }
        units = {name: job.learnt.unit for name, job in known.items()}
        tables = {name: job.learnt.tables for name, job in known.items()}
        return [*aftercal.remember(ctx, units, tables), *([k2jy.remember(ctx, factors)] if factors else [])]


class Restoredata(SingleDishRestorer[RestoredataInputs]):
    """Restore single-dish data from raw data and the products of an earlier run.

    The raw data are imported where the run has none, with their table of rows; the flags from before hsd_applycal are
    put back, the delivered tables of Tsys, sky and Jy/K applied in their order, and the final flags put back.
    CORRECTED_DATA and flags are those of the delivered run in every cell. Atmospheric correction and baselines are not
    repeated; hsd_atmcor, hsd_baseline and hsd_imaging go on from here.
    """

    name = "hsd_restoredata"
