"""What this plugin offers; stages and heuristics are imported when they are needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from pl_kernel import Lazy, hookimpl

if TYPE_CHECKING:
    from pl_kernel.ms.importers import Importer
    from pl_kernel.ms.telescopes import Telescope

_STAGES: tuple[Lazy, ...] = (
    Lazy(
        "hsdn_importdata",
        "pl_hsdn.stages.importdata:Importdata",
        "Import data of the Nobeyama 45-m telescope and learn how the sky was mapped.",
    ),
    Lazy(
        "hsdn_exportdata",
        "pl_hsdn.stages.exportdata:Exportdata",
        "Write images, calibration, scaling factors and a script to go on with as products.",
    ),
    Lazy(
        "hsdn_restoredata",
        "pl_hsdn.stages.restoredata:Restoredata",
        "Restore a calibration from its products, with scaling factors.",
    ),
)

_HEURISTICS: tuple[Lazy, ...] = (Lazy("hsd.imaging_rules", "pl_hsdn.heuristics.imaging:imaging_rules"),)

_SCORERS: tuple[Lazy, ...] = (
    Lazy("hsdn_importdata", "pl_hsd.qa.importdata:system_temperatures"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importdata:off_spectra"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importdata:raster_found"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importdata:directions_known"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importsets:windows_match"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importsets:not_processed_before"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importsets:targets_have_coordinates"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importdata:repaired"),
    Lazy("hsdn_importdata", "pl_hsd.qa.importdata:earth_rotation_known"),
    Lazy("hsdn_exportdata", "pl_kernel.common.delivery_qa:products_written"),
    Lazy("hsdn_restoredata", "pl_kernel.common.delivery_qa:calibration_restored"),
)

_RENDERERS: tuple[Lazy, ...] = (
    Lazy("hsdn_importdata", "pl_hsd.weblog.importdata:importdata_page"),
    Lazy("hsdn_exportdata", "pl_kernel.common.delivery_pages:exportdata_page"),
    Lazy("hsdn_restoredata", "pl_hsdn.weblog.restoredata:restoredata_page"),
)


@hookimpl
def pl_api() -> str:
    """Range of kernel hook APIs this plugin is written for."""
    return ">=1,<2"


@hookimpl
def pl_stages() -> list[Lazy]:
    """All stages."""
    return list(_STAGES)


@hookimpl
def pl_recipes() -> list[Path]:
    """All recipes."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def pl_telescopes() -> "list[Telescope]":
    """The Nobeyama 45-m telescope."""
    from pl_hsdn.telescopes import NRO

    return [NRO]


@hookimpl
def pl_importers() -> "list[Importer]":
    """Raw files of the SAM45 spectrometer."""
    from pl_kernel.ms.importers import Importer

    return [Importer("nostar", "NOSTAR file of the SAM45 spectrometer", Lazy("nostar", "pl_hsdn.nostar:import_nostar"))]


@hookimpl
def pl_heuristics() -> list[Lazy]:
    """Where the 45-m telescope differs from the general rules."""
    return list(_HEURISTICS)


@hookimpl
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return list(_SCORERS)


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return list(_RENDERERS)
