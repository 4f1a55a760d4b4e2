"""Import ALMA total-power data."""

from __future__ import annotations

from pl_hsd.importing import SingleDishInputs, SingleDishResult, import_single_dish
from pl_kernel import Stage
from pl_kernel.stage_context import StageContext


class ImportdataInputs(SingleDishInputs):
    """The shared parameters, no more."""


class ImportdataResult(SingleDishResult):
    """The data sets that are now part of the run, and how each is to be calibrated."""


class Importdata(Stage[ImportdataInputs, ImportdataResult]):
    """Import single-dish data and learn how the sky was mapped.

    Each measurement set gets a table of its autocorrelation spectra on targets and OFF positions: where the antenna
    looked (from POINTING, interpolated), which raster row and map it belongs to, whether it carries online flags.  The
    calibration strategy (mode, Tsys windows, OFF fields) is decided, and spectra of one window and field of all
    antennas and execution blocks form a reduction group.
    """

    name = "hsd_importdata"
    topic = "dataset"
    takes_data = True

    def run(self, ctx: StageContext, inputs: ImportdataInputs) -> ImportdataResult:
        found = import_single_dish(ctx, inputs)
        return ImportdataResult(
            imported=found.imported, rows=found.rows, strategies=found.strategies, groups=found.groups,
            effects=found.effects,
        )  # fmt: skip
