"""What the kernel's own plugin offers."""

from pl_kernel.hookspecs import Lazy, hookimpl
from pl_kernel.ms.importers import Importer

_HERE = "pl_kernel.common"


@hookimpl
def pl_api() -> str:
    """Range of kernel hook APIs this plugin is written for."""
    return ">=1,<2"


@hookimpl
def pl_importers() -> list[Importer]:
    """Measurement sets, UVFITS and science data models."""
    return [
        Importer("ms", "CASA measurement set (a working copy is made)", Lazy("ms", f"{_HERE}.importing:import_ms")),
        Importer("uvfits", "UVFITS file", Lazy("uvfits", f"{_HERE}.importing:import_uvfits")),
        Importer("asdm", "science data model (ASDM, SDM)", Lazy("asdm", f"{_HERE}.sdm:import_sdm")),
    ]


@hookimpl
def pl_stages() -> list[Lazy]:
    """Stages that make sense for any telescope."""
    return [
        Lazy("h_importdata", f"{_HERE}.importdata:ImportData", "Import data of any telescope into the run."),
        Lazy("h_import_calstate", f"{_HERE}.calstate:ImportCalstate", "Register the calibration tables of a text."),
        Lazy("h_mssplit", f"{_HERE}.mssplit:MsSplit", "Split measurement sets by field, window or intent, or average."),
        Lazy("h_tsyscal", f"{_HERE}.tsyscal:Tsyscal", "Make a caltable of the system temperatures, and map it."),
        Lazy("h_applycal", f"{_HERE}.applycal:Applycal", "Apply the calibration library to the data."),
        Lazy("h_save", f"{_HERE}.save:Save", "Give the state of the run a name."),
        Lazy("h_resume", f"{_HERE}.save:Resume", "Go on from the state of another run."),
        Lazy("h_weblog", f"{_HERE}.weblog:Weblog", "Write the web log now."),
        Lazy("h_exportdata", f"{_HERE}.exportdata:Exportdata", "Write images, calibration, flags … as products."),
        Lazy("h_restoredata", f"{_HERE}.restoredata:Restoredata", "Restore a calibration from its products."),
    ]


@hookimpl
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return [
        Lazy("h_importdata", f"{_HERE}.earth:earth_rotation_known"),
        Lazy("h_tsyscal", f"{_HERE}.tsysqa:windows_mapped"),
        Lazy("h_applycal", f"{_HERE}.applyqa:applied_flags"),
        Lazy("h_save", f"{_HERE}.save:state_is_whole"),
        Lazy("h_resume", f"{_HERE}.save:state_was_taken_over"),
        Lazy("h_weblog", f"{_HERE}.weblog:pages_written"),
        Lazy("h_exportdata", f"{_HERE}.delivery_qa:products_written"),
        Lazy("h_restoredata", f"{_HERE}.delivery_qa:calibration_restored"),
    ]


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return [
        Lazy("h_tsyscal", f"{_HERE}.tsyspages:tsyscal_page"),
        Lazy("h_applycal", f"{_HERE}.applypages:applycal_page"),
        Lazy("h_save", f"{_HERE}.save:save_page"),
        Lazy("h_resume", f"{_HERE}.save:resume_page"),
        Lazy("h_weblog", f"{_HERE}.weblog:weblog_page"),
        Lazy("h_exportdata", f"{_HERE}.delivery_pages:exportdata_page"),
        Lazy("h_restoredata", f"{_HERE}.delivery_pages:restoredata_page"),
    ]
