"""What this plugin offers; everything is imported when it is needed."""

from pl_kernel import Lazy, hookimpl

_STAGES = (
    Lazy("hif_refant", "pl_hif.stages.refant:Refant", "Rank the antennas as phase reference."),
    Lazy("hif_bandpass", "pl_hif.stages.bandpass:Bandpass", "Solve for the bandpass of every antenna."),
    Lazy("hif_gaincal", "pl_hif.stages.gaincal:Gaincal", "Solve for phases or amplitudes of the gains against time."),
    Lazy(
        "hif_fluxscale", "pl_hif.stages.fluxscale:Fluxscale", "Derive the flux densities of the secondary calibrators."
    ),
    Lazy("hif_applycal", "pl_hif.stages.applycal:Applycal", "Apply the calibration library to the data."),
    Lazy("hif_findcont", "pl_hif.stages.findcont:Findcont", "Find the continuum channels of the targets."),
    Lazy("hif_uvcontsub", "pl_hif.stages.uvcontsub:Uvcontsub", "Subtract the continuum from the visibilities."),
    Lazy("hif_makeimlist", "pl_hif.stages.makeimlist:Makeimlist", "List the images to make, with their geometry."),
    Lazy("hif_makeimages", "pl_hif.stages.makeimages:Makeimages", "Make the listed images."),
    Lazy(
        "hif_checkproductsize", "pl_hif.stages.checkproductsize:Checkproductsize",
        "Predict how large the images become, and make them smaller.",
    ),
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
def pl_heuristics() -> list[Lazy]:
    """Rules for any array; a plugin of an observatory brings more specific ones."""
    return [
        Lazy("imaging.robust", "pl_hif.heuristics.imaging:robust"),
        Lazy("imaging.view_level", "pl_hif.heuristics.imaging:view_level"),
        Lazy("imaging.automask", "pl_hif.heuristics.imaging:automask"),
        Lazy("imaging.deconvolver", "pl_hif.heuristics.imaging:deconvolver"),
        Lazy("imaging.wproject_planes", "pl_hif.heuristics.imaging:wproject_planes"),
        Lazy("imaging.cubes_need_science_data", "pl_hif.heuristics.imaging:cubes_need_science_data"),
        Lazy("imaging.limits_short_spacings", "pl_hif.heuristics.uvrange:limits_short_spacings"),
        Lazy("calibration.calwt", "pl_hif.heuristics.solint:calwt"),
    ]


@hookimpl
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return [
        Lazy("hif_refant", "pl_hif.qa.calibration:refant_found"),
        Lazy("hif_bandpass", "pl_hif.qa.calibration:bandpass_solutions"),
        Lazy("hif_gaincal", "pl_hif.qa.calibration:gain_solutions"),
        Lazy("hif_fluxscale", "pl_hif.qa.calibration:flux_scale"),
        Lazy("hif_applycal", "pl_hif.qa.calibration:applied_flags"),
        Lazy("hif_findcont", "pl_hif.qa.imaging:continuum_found"),
        Lazy("hif_uvcontsub", "pl_hif.qa.imaging:continuum_subtracted"),
        Lazy("hif_makeimlist", "pl_hif.qa.imaging:images_listed"),
        Lazy("hif_makeimages", "pl_hif.qa.imaging:images_made"),
        Lazy("hif_checkproductsize", "pl_hif.qa.productsize:sizes_fit"),
    ]


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return [
        Lazy("hif_refant", "pl_hif.weblog.calibration:refant_page"),
        Lazy("hif_bandpass", "pl_hif.weblog.calibration:bandpass_page"),
        Lazy("hif_gaincal", "pl_hif.weblog.calibration:gaincal_page"),
        Lazy("hif_fluxscale", "pl_hif.weblog.calibration:fluxscale_page"),
        Lazy("hif_applycal", "pl_hif.weblog.applied:applycal_page"),
        Lazy("hif_findcont", "pl_hif.weblog.imaging:findcont_page"),
        Lazy("hif_uvcontsub", "pl_hif.weblog.imaging:uvcontsub_page"),
        Lazy("hif_makeimlist", "pl_hif.weblog.imaging:makeimlist_page"),
        Lazy("hif_makeimages", "pl_hif.weblog.images:makeimages_page"),
        Lazy("hif_checkproductsize", "pl_hif.weblog.productsize:checkproductsize_page"),
    ]
