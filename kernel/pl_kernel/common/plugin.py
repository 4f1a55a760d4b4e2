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
    """Measurement sets and UVFITS."""
    return [
        Importer("ms", "CASA measurement set (a working copy is made)", Lazy("ms", f"{_HERE}.importing:import_ms")),
        Importer("uvfits", "UVFITS file", Lazy("uvfits", f"{_HERE}.importing:import_uvfits")),
    ]


@hookimpl
def pl_stages() -> list[Lazy]:
    """Stages that make sense for any telescope."""
    return [
        Lazy("h_importdata", f"{_HERE}.importdata:ImportData", "Import data of any telescope into the run."),
        Lazy("h_import_calstate", f"{_HERE}.calstate:ImportCalstate", "Register the calibration tables of a text."),
        Lazy("h_mssplit", f"{_HERE}.mssplit:MsSplit", "Split measurement sets by field, window or intent, or average."),
    ]
