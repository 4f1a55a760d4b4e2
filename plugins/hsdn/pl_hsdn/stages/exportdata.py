"""Write the products of Nobeyama data: images, calibration, a script to go on with, scaling factors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pl_hsd.stages.exportdata import SingleDishExporter
from pl_hsdn import rebase, scaling
from pl_kernel import PlError
from pl_kernel.common.exportdata import Export
from pl_kernel.common.exportdata import ExportdataInputs as CommonInputs
from pl_kernel.common.report import Sensitivity
from pl_kernel.serialize import write_bytes_atomically
from pl_kernel.stage_context import StageContext


class ExportdataInputs(CommonInputs):
    """The shared parameters, no more."""


class Exportdata(SingleDishExporter[ExportdataInputs]):
    """Write the products of Nobeyama data: images, calibration, a script to go on with, scaling factors.

    As hsd_exportdata, in names without sessions, and besides:

    - ``rebase_and_image.py`` repeats baselines and images with CASA alone, from the calibrated measurement sets. Its
      settings begin with the channels in which hsd_baseline found no lines.
    - ``nroscalefile.csv`` has a factor, 1, for every beam, window and polarization. Filled in, hsdn_restoredata applies
      them.

    The quality report has no sensitivities. A run without baselines or images has no script: that is one product less,
    and is said.
    """

    name = "hsdn_exportdata"
    restore_stage = "hsdn_restoredata"

    def archive_name(self, job: Export, session: str, kind: str) -> str:
        if len(job.sessions) == 1:
            return f"{job.stem}.{kind}.tgz"
        return super().archive_name(job, session, kind)

    def sensitivities(self, ctx: StageContext) -> Iterable[Sensitivity]:
        return ()

    def more(self, job: Export, inputs: ExportdataInputs) -> None:
        super().more(job, inputs)
        job.make("rebase", rebase.NAME, "", "reduction_script", _script, job.ctx,
                 doc="baselines and images again, with CASA alone")  # fmt: skip
        remarks = (
            "Scaling factors: hsdn_restoredata multiplies the calibrated spectra by them.",
            f"Data: {', '.join(ms.name for ms in job.sets)}",
            f"Run: {job.ctx.context.run_name}",
            "Spwid is the number in the measurement set; Beam is the name of the antenna there.",
        )
        job.make("scale", scaling.FILE, "", "scale_file", scaling.write, scaling.template(job.sets), remarks,
                 doc="a factor for every beam, window and polarization, to be filled in")  # fmt: skip


def _script(path: Path, ctx: StageContext) -> None:
    text = rebase.of_run(ctx)
    if not text:
        raise PlError("The run has no baselines and images that a script could repeat.")
    write_bytes_atomically(path, text.encode())
