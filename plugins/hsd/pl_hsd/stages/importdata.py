"""Import ALMA total-power data."""

from __future__ import annotations

from pl_hsd.importing import SingleDishInputs, SingleDishResult, import_single_dish
from pl_kernel import Stage, param
from pl_kernel.stage_context import StageContext


class ImportdataInputs(SingleDishInputs):
    """Those of all single dishes, and how science data models are converted."""

    asis: str = param(
        "SBSummary ExecBlock Annotation Antenna Station Receiver Source CalAtmosphere CalWVR SpectralWindow",
        doc="Tables of a science data model to copy as they are; hsd_atmcor needs CalAtmosphere and CalWVR.",
    )
    ocorr_mode: str = param(
        "ao", choices=("ao", "ca", "co"), doc="Correlations of a science data model to keep: auto, all or cross."
    )
    with_pointing_correction: bool = param(
        True, doc="Add the pointing corrections of a science data model to its directions."
    )
    bdfflags: bool = param(True, doc="Set the flags that the correlator wrote into a science data model's binaries.")
    save_flagonline: bool = param(True, doc="Write the online flags of a science data model to NAME.flagonline.txt.")


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
    page_reads = frozenset()
    takes_data = True

    def run(self, ctx: StageContext, inputs: ImportdataInputs) -> ImportdataResult:
        options = {
            "ocorr_mode": inputs.ocorr_mode, "asis": inputs.asis, "bdfflags": inputs.bdfflags,
            "with_pointing_correction": inputs.with_pointing_correction, "flag_file": inputs.save_flagonline,
        }  # fmt: skip
        found = import_single_dish(ctx, inputs, options={"asdm": options})
        return ImportdataResult(
            imported=found.imported, rows=found.rows, strategies=found.strategies, groups=found.groups,
            effects=found.effects,
        )  # fmt: skip
