"""Write single-dish products: images, calibration, baselines, scripts and reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pl_hsd.baselineproducts import apply_call, baselined
from pl_hsd.stages.k2jycal import K2jycalResult
from pl_kernel import PlError
from pl_kernel.common.archives import pack, sha256
from pl_kernel.common.exportdata import Export, Exporter
from pl_kernel.common.exportdata import ExportdataInputs as CommonInputs
from pl_kernel.common.report import earlier_results
from pl_kernel.common.scripts import Call, calls_of
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.serialize import write_bytes_atomically
from pl_kernel.stage_context import StageContext


class ExportdataInputs(CommonInputs):
    """The shared parameters, no more."""


I = TypeVar("I", bound=CommonInputs)  # noqa: E741


class SingleDishExporter(Exporter[I]):
    """What the deliveries of all single dishes have besides: the baselines, and how they were found."""

    restore_stage = "hsd_restoredata"

    def state(self, ctx: StageContext, ms: MeasurementSet) -> Mapping[str, Any]:
        return {"unit": (ctx.value("hsd.unit") or {}).get(ms.name, "")}

    def restore_calls(self, job: Export, inputs: I, vis: list[str], sessions: list[str]) -> list[Call]:
        (restore,) = super().restore_calls(job, inputs, vis, sessions)
        scans = [c.arguments.get("hm_rasterscan") for c in calls_of(job.record) if c.stage.endswith("_importdata")]
        more = {"ocorr_mode": "ao", "hm_rasterscan": next(filter(None, scans), "time")}
        return [Call(restore.stage, {**restore.arguments, **more})]

    def more(self, job: Export, inputs: I) -> None:
        if not inputs.exportcalprods or inputs.imaging_products_only:
            return
        found = {b.origin: b for b in baselined(job.ctx)}
        for session, sets in job.sessions.items():
            here = [found[ms.name] for ms in sets if ms.name in found]
            if not here:
                continue
            name = self.archive_name(job, session, "auxcaltables")
            members = [(Path(b.table), Path(b.table).name) for b in here]
            job.make("baselines", name, session, "aux_caltables", pack, members, doc=f"{len(here)} baseline tables")
            for b in here:
                stem = job.ctx.context.measurement_set(b.origin).stem
                job.make(
                    "baselines", f"{stem}.auxcalapply.txt", b.origin, "aux_applycmds", write_bytes_atomically,
                    apply_call(b).encode(), doc="the call that subtracts the baselines again",
                )  # fmt: skip


class Exportdata(SingleDishExporter[ExportdataInputs]):
    """Write single-dish products: images, calibration, baselines, scripts and reports.

    FITS files of the cubes with their weights; per measurement set an archive with its final flags, a text of what was
    applied to what, and the call that subtracts the fitted baselines again; per session archives with the caltables and
    with the baseline tables; factors from kelvin to Jansky; web log, scripts, the quality report with the noise of the
    images, as expected and as measured; a manifest with sizes and checksums.

    Differing files of Jy/K factors in one run are refused: nobody could tell which is in the data.
    """

    name = "hsd_exportdata"

    def check(self, ctx: StageContext, inputs: ExportdataInputs) -> None:
        super().check(ctx, inputs)
        files = factor_files(ctx)
        if len({sha256(path) for path in files}) > 1:
            raise PlError(
                f"The run used different files of Jy/K factors ({', '.join(path.name for path in files)}); deliver the"
                " execution blocks in runs of their own."
            )

    def auxiliary(self, ctx: StageContext) -> list[Path]:
        named = {path.name: path for path in [*super().auxiliary(ctx), *factor_files(ctx)]}
        for path in ctx.work.glob("jyperk_query*.csv"):
            named.setdefault(path.name, path)
        return list(named.values())


def factor_files(ctx: StageContext) -> list[Path]:
    """Files of Jy/K factors that hsd_k2jycal read: the copies in the run, wherever the originals lie."""
    root = ctx.context.root
    found = (root / r.reffile for r in earlier_results(ctx, "hsd_k2jycal", K2jycalResult) if r.reffile)
    return list(dict.fromkeys(path.resolve() for path in found if path.is_file()))
