"""What this plugin offers; stages and heuristics are imported when they are needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from pl_kernel import Lazy, hookimpl

if TYPE_CHECKING:
    from pl_kernel.ms.telescopes import Telescope

_STAGES = (
    Lazy("hifv_importdata", "pl_hifv.stages.importdata:Importdata", "Import VLA data and learn what each scan is for."),
    Lazy(
        "hifv_flagdata", "pl_hifv.stages.flagdata:Flagdata", "Flag what is known to be bad before looking at the data."
    ),
    Lazy(
        "hifv_vlasetjy", "pl_hifv.stages.vlasetjy:Vlasetjy", "Set the models of the standard flux-density calibrators."
    ),
    Lazy("hifv_priorcals", "pl_hifv.stages.priorcals:Priorcals", "Make the calibrations known before any solving."),
    Lazy(
        "hifv_testBPdcals",
        "pl_hifv.stages.testbpdcals:TestBPdcals",
        "First delays and bandpass; find bad deformatters.",
    ),
    Lazy("hifv_semiFinalBPdcals", "pl_hifv.stages.semifinalbpdcals:SemiFinalBPdcals", "Delays and bandpass again."),
    Lazy("hifv_solint", "pl_hifv.stages.solint:Solint", "Choose the short and the long solution interval."),
    Lazy("hifv_fluxboot", "pl_hifv.stages.fluxboot:Fluxboot", "Derive the spectra of the secondary calibrators."),
    Lazy("hifv_finalcals", "pl_hifv.stages.finalcals:Finalcals", "Make and register the final calibration tables."),
    Lazy(
        "hifv_exportdata",
        "pl_hifv.stages.exportdata:Exportdata",
        "Write images, calibration, flags and scripts as products.",
    ),
    Lazy("hifv_hanning", "pl_hifv.stages.hanning:Hanning", "Hanning-smooth the windows that need it."),
    Lazy("hifv_syspower", "pl_hifv.stages.syspower:Syspower", "Measure the compression of the receivers."),
    Lazy("hifv_checkflag", "pl_hifv.stages.checkflag:Checkflag", "Flag interference in calibrated data."),
    Lazy("hifv_applycals", "pl_hifv.stages.applycals:Applycals", "Apply all calibration to the data."),
    Lazy("hifv_statwt", "pl_hifv.stages.statwt:Statwt", "Derive weights from the scatter of the visibilities."),
    Lazy("hifv_plotsummary", "pl_hifv.stages.plotsummary:Plotsummary", "Show the calibrated data."),
    Lazy("hifv_targetflag", "pl_hifv.stages.targetflag:Targetflag", "Flag outliers with one plain pass of rflag."),
    Lazy("hifv_mstransform", "pl_hifv.stages.mstransform:Mstransform", "Split off the calibrated targets."),
    Lazy("hifv_flagtargetsdata", "pl_hifv.stages.flagtargetsdata:Flagtargetsdata", "Apply the user's target flags."),
    Lazy("hifv_restoredata", "pl_hifv.stages.restoredata:Restoredata", "Restore a calibration from its products."),
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
    """The VLA."""
    from pl_hifv.telescopes import VLA

    return [VLA]


@hookimpl
def pl_heuristics() -> list[Lazy]:
    """Where the VLA differs from the general rules."""
    return [
        Lazy("imaging.robust", "pl_hifv.heuristics.imaging:robust"),
        Lazy("imaging.view_level", "pl_hifv.heuristics.imaging:view_level"),
        Lazy("imaging.automask", "pl_hifv.heuristics.imaging:automask"),
        Lazy("imaging.deconvolver", "pl_hifv.heuristics.imaging:deconvolver"),
        Lazy("imaging.wproject_planes", "pl_hifv.heuristics.imaging:wproject_planes"),
        Lazy("imaging.cubes_need_science_data", "pl_hifv.heuristics.imaging:cubes_need_science_data"),
        Lazy("imaging.limits_short_spacings", "pl_hifv.heuristics.imaging:limits_short_spacings"),
        Lazy("calibration.calwt", "pl_hifv.heuristics.weights:calwt"),
    ]


@hookimpl
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return [
        Lazy("hifv_importdata", "pl_hifv.qa.scores:imported"),
        Lazy("hifv_importdata", "pl_hifv.qa.preparation:earth_rotation_known"),
        Lazy("hifv_flagdata", "pl_hifv.qa.scores:deterministic_flags"),
        Lazy("hifv_vlasetjy", "pl_hifv.qa.scores:standards_present"),
        Lazy("hifv_priorcals", "pl_hifv.qa.scores:priors_made"),
        Lazy("hifv_testBPdcals", "pl_hifv.qa.bpdcals:first_calibration"),
        Lazy("hifv_semiFinalBPdcals", "pl_hifv.qa.bpdcals:second_calibration"),
        Lazy("hifv_solint", "pl_hifv.qa.solint:solution_intervals"),
        Lazy("hifv_fluxboot", "pl_hifv.qa.fluxboot:flux_densities"),
        Lazy("hifv_finalcals", "pl_hifv.qa.bpdcals:final_calibration"),
        Lazy("hifv_exportdata", "pl_kernel.common.delivery_qa:products_written"),
        Lazy("hifv_hanning", "pl_hifv.qa.preparation:smoothing_done"),
        Lazy("hifv_syspower", "pl_hifv.qa.preparation:compression_found"),
        Lazy("hifv_checkflag", "pl_hifv.qa.interference:interference_flagged"),
        Lazy("hifv_targetflag", "pl_hifv.qa.interference:targets_flagged"),
        Lazy("hifv_applycals", "pl_hifv.qa.delivery:calibration_applied"),
        Lazy("hifv_statwt", "pl_hifv.qa.delivery:weights_plausible"),
        Lazy("hifv_plotsummary", "pl_hifv.qa.delivery:summary_drawn"),
        Lazy("hifv_mstransform", "pl_hifv.qa.delivery:targets_split"),
        Lazy("hifv_flagtargetsdata", "pl_hifv.qa.delivery:user_flags"),
        Lazy("hifv_restoredata", "pl_kernel.common.delivery_qa:calibration_restored"),
    ]


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return [
        Lazy("hifv_importdata", "pl_hifv.weblog.pages:importdata_page"),
        Lazy("hifv_flagdata", "pl_hifv.weblog.pages:flagdata_page"),
        Lazy("hifv_vlasetjy", "pl_hifv.weblog.pages:vlasetjy_page"),
        Lazy("hifv_priorcals", "pl_hifv.weblog.priors:priorcals_page"),
        Lazy("hifv_testBPdcals", "pl_hifv.weblog.bpdcals:test_page"),
        Lazy("hifv_semiFinalBPdcals", "pl_hifv.weblog.bpdcals:semifinal_page"),
        Lazy("hifv_solint", "pl_hifv.weblog.solint:solint_page"),
        Lazy("hifv_fluxboot", "pl_hifv.weblog.fluxboot:fluxboot_page"),
        Lazy("hifv_finalcals", "pl_hifv.weblog.bpdcals:final_page"),
        Lazy("hifv_exportdata", "pl_kernel.common.delivery_pages:exportdata_page"),
        Lazy("hifv_hanning", "pl_hifv.weblog.preparation:hanning_page"),
        Lazy("hifv_syspower", "pl_hifv.weblog.preparation:syspower_page"),
        Lazy("hifv_checkflag", "pl_hifv.weblog.interference:checkflag_page"),
        Lazy("hifv_targetflag", "pl_hifv.weblog.interference:targetflag_page"),
        Lazy("hifv_applycals", "pl_hifv.weblog.delivery:applycals_page"),
        Lazy("hifv_statwt", "pl_hifv.weblog.delivery:statwt_page"),
        Lazy("hifv_plotsummary", "pl_hifv.weblog.summary:plotsummary_page"),
        Lazy("hifv_mstransform", "pl_hifv.weblog.delivery:mstransform_page"),
        Lazy("hifv_flagtargetsdata", "pl_hifv.weblog.delivery:flagtargetsdata_page"),
        Lazy("hifv_restoredata", "pl_kernel.common.delivery_pages:restoredata_page"),
    ]
