"""Write images, calibration, flags and scripts as products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from pl_hifv import aqua, delivery
from pl_hifv.contsel import FILE as CONTINUUM
from pl_hifv.lines import line_spws
from pl_hifv.stages.fluxboot import FluxbootResult
from pl_kernel import param
from pl_kernel.common.exportdata import Export, Exporter
from pl_kernel.common.exportdata import ExportdataInputs as CommonInputs
from pl_kernel.common.exportimages import delivered, write_fits
from pl_kernel.common.flagcommands import find_file
from pl_kernel.common.report import FluxMeasurement, Node, earlier_results
from pl_kernel.common.scripts import Call, calls_of
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import compact_ids
from pl_kernel.stage_context import StageContext


class ExportdataInputs(CommonInputs):
    gainmap: bool = param(False, doc="The restore script applies the calibration with gainmap (sky survey).")


class Exportdata(Exporter[ExportdataInputs]):
    """Write images, calibration, flags and scripts as products.

    FITS files of images with their Taylor terms, primary beams, masks and moments; per measurement set an archive with
    its final flags and a text of what was applied to what; per session an archive with the caltables; web log, scripts,
    the quality report with set-up, scans, flags, spectra of the calibrators, images and sizes; a manifest with sizes
    and checksums, smoothed and line windows. File names follow the observatory's: stage numbers are left out of image
    names.

    Everything is also restorable: the text of applied calibration and the archives of tables and flags are all that a
    restore needs.
    """

    name = "hifv_exportdata"
    flag_versions = delivery.PURPOSES
    restore_stage = "hifv_restoredata"

    def auxiliary(self, ctx: StageContext) -> list[Path]:
        """With the continuum ranges that lie beside the run: they decided on flags and weights."""
        found = super().auxiliary(ctx)
        ranges = find_file(None, CONTINUUM, ctx.work)
        return found if ranges is None or ranges in found else [*found, ranges]

    def state(self, ctx: StageContext, ms: MeasurementSet) -> Mapping[str, Any]:
        return delivery.state(ctx, ms)

    def attributes(self, ctx: StageContext, ms: MeasurementSet) -> Mapping[str, str]:
        """Line windows and smoothed ones; an empty text is none, as the observatory's restore reads it."""
        found = {"specline_spws": compact_ids(line_spws(ctx, ms))}
        smoothed = delivery.state(ctx, ms)["smoothed"]
        if smoothed is not None:
            found["smoothed_spws"] = compact_ids(smoothed)
        return found

    def restore_calls(
        self, job: Export, inputs: ExportdataInputs, vis: list[str], sessions: list[str]
    ) -> list[Call]:
        (restore,) = super().restore_calls(job, inputs, vis, sessions)
        more = {"gainmap": True} if inputs.gainmap else {}
        after = [c for c in calls_of(job.record) if c.stage in ("hifv_statwt", "hifv_mstransform", "hif_uvcontsub")]
        return [Call(restore.stage, {**restore.arguments, **more}), *after]

    def more(self, job: Export, inputs: ExportdataInputs) -> None:
        """Higher Taylor terms of the targets' continuum images, with flat noise as they were made."""
        for image in delivered(job.ctx.context.images, kinds=("image",), targetimages=inputs.targetimages):
            of_target = inputs.images and "TARGET" in image.intent and image.name.endswith(".tt0")
            for term in (1, 2, 3) if of_target else ():
                name = f"{image.name.removesuffix('.tt0')}.tt{term}"
                if (job.ctx.work / name).is_dir():
                    doc = f"Taylor term {term} of {image.field}, spw {','.join(map(str, image.spws))}"
                    one = attrs.evolve(image, name=name, statistics={})
                    job.collect("fits", name, "image", doc, write_fits, job.ctx, one)

    def more_report(self, job: Export) -> Iterable[Node]:
        return aqua.elements(job.ctx, job.sets, job.record.environment)

    def fluxes(self, ctx: StageContext) -> Iterable[FluxMeasurement]:
        """Flux densities by window, of the latest hifv_fluxboot."""
        results = earlier_results(ctx, "hifv_fluxboot", FluxbootResult)
        sets = {ms.name: ms for ms in ctx.context.measurement_sets}
        return [
            FluxMeasurement(
                vis=p.vis, field=p.field, spw=p.spw, spw_name=sets[p.vis].spw(p.spw).name if p.vis in sets else "",
                flux_jy=p.flux_jy, error_jy=p.error_jy, frequency_hz=p.frequency_hz,
            )
            for result in results[-1:] for p in result.points
        ]  # fmt: skip
