"""What this plugin offers; stages and heuristics are imported when they are needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from pl_kernel import Lazy, hookimpl

if TYPE_CHECKING:
    from pl_kernel.ms.telescopes import Telescope

_STAGES = (
    Lazy(
        "hsd_importdata",
        "pl_hsd.stages.importdata:Importdata",
        "Import single-dish data and learn how the sky was mapped.",
    ),
    Lazy(
        "hsd_flagdata",
        "pl_hsd.stages.flagdata:Flagdata",
        "Flag what is known to be bad, and what was observed in the wrong direction.",
    ),
    Lazy("hsd_tsysflag", "pl_hsd.stages.tsysflag:HsdTsysFlag", "Flag bad system temperatures."),
    Lazy("hsd_skycal", "pl_hsd.stages.skycal:Skycal", "Make caltables of the sky level from the OFF positions."),
    Lazy("hsd_baseline", "pl_hsd.stages.baseline:Baseline", "Find spectral lines and subtract baselines beside them."),
    Lazy("hsd_k2jycal", "pl_hsd.stages.k2jycal:K2jycal", "Turn kelvin into jansky."),
    Lazy("hsd_blflag", "pl_hsd.stages.blflag:Blflag", "Flag spectra by their statistics."),
    Lazy("hsd_applycal", "pl_hsd.stages.applycal:HsdApplycal", "Apply Tsys, sky level and Jy/K to the spectra."),
    Lazy("hsd_atmcor", "pl_hsd.stages.atmcor:Atmcor", "Correct residual lines of the atmosphere."),
    Lazy("hsd_imaging", "pl_hsd.stages.imaging:Imaging", "Make cubes from single-dish spectra, and judge them."),
    Lazy("hsd_exportdata", "pl_hsd.stages.exportdata:Exportdata", "Write images, calibration, baselines as products."),
    Lazy("hsd_restoredata", "pl_hsd.stages.restoredata:Restoredata", "Restore a calibration from its products."),
)

_HEURISTICS: tuple[Lazy, ...] = (Lazy("hsd.imaging_rules", "pl_hsd.heuristics.mapgeometry:imaging_rules"),)

_SCORERS: tuple[Lazy, ...] = (
    Lazy("hsd_exportdata", "pl_kernel.common.delivery_qa:products_written"),
    Lazy("hsd_restoredata", "pl_kernel.common.delivery_qa:calibration_restored"),
    Lazy("hsd_importdata", "pl_hsd.qa.importdata:system_temperatures"),
    Lazy("hsd_importdata", "pl_hsd.qa.importdata:off_spectra"),
    Lazy("hsd_importdata", "pl_hsd.qa.importdata:raster_found"),
    Lazy("hsd_importdata", "pl_hsd.qa.importdata:directions_known"),
    Lazy("hsd_importdata", "pl_hsd.qa.importsets:windows_match"),
    Lazy("hsd_importdata", "pl_hsd.qa.importsets:not_processed_before"),
    Lazy("hsd_importdata", "pl_hsd.qa.importsets:targets_have_coordinates"),
    Lazy("hsd_importdata", "pl_hsd.qa.importdata:maps_uniform"),
    Lazy("hsd_importdata", "pl_hsd.qa.importdata:earth_rotation_known"),
    Lazy("hsd_flagdata", "pl_hsd.qa.flagdata:unplanned_flags"),
    Lazy("hsd_flagdata", "pl_hsd.qa.flagdata:data_left"),
    Lazy("hsd_flagdata", "pl_hsd.qa.flagdata:pointing_outliers"),
    Lazy("hsd_tsysflag", "pl_kernel.common.tsysqa:tsys_flags"),
    Lazy("hsd_skycal", "pl_hsd.qa.skycal:sky_calibrated"),
    Lazy("hsd_skycal", "pl_hsd.qa.skycal:elevation_difference"),
    Lazy("hsd_k2jycal", "pl_hsd.qa.k2jycal:factors_known"),
    Lazy("hsd_k2jycal", "pl_hsd.qa.k2jycal:service_answered"),
    Lazy("hsd_applycal", "pl_kernel.common.applyqa:applied_flags"),
    Lazy("hsd_applycal", "pl_hsd.qa.applycal:polarizations_agree"),
    Lazy("hsd_applycal", "pl_hsd.qa.applycal:data_left"),
    Lazy("hsd_applycal", "pl_hsd.qa.applycal:units_known"),
    Lazy("hsd_atmcor", "pl_hsd.qa.atmcor:atmosphere_corrected"),
    Lazy("hsd_baseline", "pl_hsd.qa.baseline:lines_found"),
    Lazy("hsd_baseline", "pl_hsd.qa.baseline:deviation_masks"),
    Lazy("hsd_baseline", "pl_hsd.qa.baseline:baseline_flatness"),
    Lazy("hsd_baseline", "pl_hsd.qa.baseline:ripple_left"),
    Lazy("hsd_baseline", "pl_hsd.qa.baseline:spectra_fitted"),
    Lazy("hsd_blflag", "pl_hsd.qa.baseline:flagged_by_statistics"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:images_made"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:antennas_absent"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:masked_pixels"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:missed_lines"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:contamination"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:sensitivity_ratio"),
    Lazy("hsd_imaging", "pl_hsd.qa.imaging:rasters_analysed"),
)

_RENDERERS: tuple[Lazy, ...] = (
    Lazy("hsd_exportdata", "pl_kernel.common.delivery_pages:exportdata_page"),
    Lazy("hsd_restoredata", "pl_kernel.common.delivery_pages:restoredata_page"),
    Lazy("hsd_importdata", "pl_hsd.weblog.importdata:importdata_page"),
    Lazy("hsd_flagdata", "pl_hsd.weblog.flagdata:flagdata_page"),
    Lazy("hsd_tsysflag", "pl_kernel.common.tsyspages:tsysflag_page"),
    Lazy("hsd_skycal", "pl_hsd.weblog.skycal:skycal_page"),
    Lazy("hsd_k2jycal", "pl_hsd.weblog.k2jycal:k2jycal_page"),
    Lazy("hsd_applycal", "pl_hsd.weblog.applycal:applycal_page"),
    Lazy("hsd_atmcor", "pl_hsd.weblog.atmcor:atmcor_page"),
    Lazy("hsd_baseline", "pl_hsd.weblog.baseline:baseline_page"),
    Lazy("hsd_blflag", "pl_hsd.weblog.blflag:blflag_page"),
    Lazy("hsd_imaging", "pl_hsd.weblog.imaging:imaging_page"),
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
    """ALMA."""
    from pl_hsd.telescopes import ALMA

    return [ALMA]


@hookimpl
def pl_heuristics() -> list[Lazy]:
    """Rules for any single dish; a plugin of an observatory brings more specific ones."""
    return list(_HEURISTICS)


@hookimpl
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return list(_SCORERS)


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return list(_RENDERERS)
