"""THE contract: every hook a plugin may implement, on one page.

A plugin is a module (or object) found through an entry point of group ``pl.plugins``.  It implements whichever of these
functions it needs, each marked with ``@hookimpl``; all are optional.  Hooks are called once when a run
or a command starts, in the process that never imports CASA: keep the module cheap to import and put what is
heavy behind ``Lazy(name, "package.module:attribute", summary)``.

Within API version 1 hooks are only ever added.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

if TYPE_CHECKING:
    from .events import Event
    from .ms.importers import Importer
    from .ms.telescopes import Telescope
    from .stage import Stage

API_VERSION = "1.0"
"""Version of this page.  The major number changes only when a plugin written for the old one would break."""

hookspec = pluggy.HookspecMarker("pl")
hookimpl = pluggy.HookimplMarker("pl")


@attrs.frozen
class Lazy:
    """Something that is imported when it is first needed.

    Parameters
    ----------
    name : name of the stage or command; for scorers and renderers, of the stage they are for; for heuristics,
        of the slot.
    target : ``"package.module:attribute"``.
    summary : one line for listings.
    """

    name: str
    target: str
    summary: str = ""


@hookspec
def pl_api() -> str:  # type: ignore[empty-body]
    """Return the versions of this contract the plugin is written for, such as ``">=1,<2"``.

    A plugin outside its range is refused, and named with the reason; the rest goes on.  Default: any version 1.
    """


@hookspec
def pl_stages() -> Sequence[type[Stage[Any, Any]] | Lazy]:  # type: ignore[empty-body]
    """Return the stages that recipes may use.  A name that another plugin took already gets the plugin refused."""


@hookspec
def pl_recipes() -> Sequence[Path]:  # type: ignore[empty-body]
    """Return paths of recipe files (YAML, or an observatory's procedure XML)."""


@hookspec
def pl_heuristics() -> Sequence[Any]:  # type: ignore[empty-body]
    """Return functions marked with ``@heuristic(slot, …)``, or Lazy references to them.

    When a stage asks for a slot, the implementation with the most matching conditions answers.
    """


@hookspec
def pl_qa_scorers() -> Sequence[Any]:  # type: ignore[empty-body]
    """Return functions marked with ``@scorer(ResultClass or "stage_name")``, or Lazy references named by stage.

    Called with ``(result)`` or ``(result, context)`` after the stage, in the kernel's process: they judge numbers in
    the result and open no data.
    """


@hookspec
def pl_renderers() -> Sequence[Any]:  # type: ignore[empty-body]
    """Return functions ``f(page, ctx, result)`` marked with ``@renderer(…)``, or Lazy references named by stage.

    Called after the stage in its worker process; a stage may have several.  Without any, a page shows the result's
    fields.
    """


@hookspec
def pl_importers() -> Sequence[Importer]:  # type: ignore[empty-body]
    """Return importers: each turns one kind of path, recognised by content, into a measurement set."""


@hookspec
def pl_telescopes() -> Sequence[Telescope]:  # type: ignore[empty-body]
    """Return descriptions of telescopes: names, bands, dish, mount, intent vocabulary, standard calibrators."""


@hookspec
def pl_commands() -> Sequence[Any]:  # type: ignore[empty-body]
    """Return click commands, or Lazy references to them, to be offered as ``pl NAME``."""


@hookspec
def pl_on_event(event: Event) -> None:
    """Observe a run: started, stage started, finished, failed …  Called in the kernel's process; must be quick."""
