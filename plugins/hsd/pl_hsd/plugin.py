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
)

_SCORERS: tuple[Lazy, ...] = ()

_RENDERERS: tuple[Lazy, ...] = ()


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
def pl_qa_scorers() -> list[Lazy]:
    """Scorers by stage."""
    return list(_SCORERS)


@hookimpl
def pl_renderers() -> list[Lazy]:
    """Pages by stage."""
    return list(_RENDERERS)
