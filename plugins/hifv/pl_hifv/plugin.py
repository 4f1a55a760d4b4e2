"""What this plugin offers; stages and heuristics are imported when they are needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from pl_kernel import Lazy, hookimpl

if TYPE_CHECKING:
    from pl_kernel.ms.telescopes import Telescope

_STAGES = (
    Lazy("hifv_importdata", "pl_hifv.stages.importdata:Importdata", "Import VLA data and learn what each scan is for."),
    Lazy("hifv_flagdata", "pl_hifv.stages.flagdata:Flagdata", "Flag what is known to be bad before looking at the data."),
    Lazy("hifv_vlasetjy", "pl_hifv.stages.vlasetjy:Vlasetjy", "Set the models of the standard flux-density calibrators."),
    Lazy("hifv_priorcals", "pl_hifv.stages.priorcals:Priorcals", "Make the calibrations known before any solving."),
    Lazy("hifv_exportdata", "pl_hifv.stages.exportdata:Exportdata", "Write images, calibration, flags and scripts as products."),
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
        Lazy("calibration.calwt", "pl_hifv.heuristics.weights:calwt"),
    ]


@hookimpl
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return [
        Lazy("hifv_importdata", "pl_hifv.qa.scores:imported"),
        Lazy("hifv_flagdata", "pl_hifv.qa.scores:deterministic_flags"),
        Lazy("hifv_vlasetjy", "pl_hifv.qa.scores:standards_present"),
        Lazy("hifv_priorcals", "pl_hifv.qa.scores:priors_made"),
        Lazy("hifv_exportdata", "pl_hifv.qa.scores:products_written"),
    ]


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return [
        Lazy("hifv_importdata", "pl_hifv.weblog.pages:importdata_page"),
        Lazy("hifv_flagdata", "pl_hifv.weblog.pages:flagdata_page"),
        Lazy("hifv_vlasetjy", "pl_hifv.weblog.pages:vlasetjy_page"),
        Lazy("hifv_priorcals", "pl_hifv.weblog.pages:priorcals_page"),
        Lazy("hifv_exportdata", "pl_hifv.weblog.pages:exportdata_page"),
    ]
