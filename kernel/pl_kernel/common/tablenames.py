"""Names that users give to caltables: nothing that the run has may be written over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..ms.model import MeasurementSet
    from ..stage_context import StageContext


def check_table_name(ctx: StageContext, name: str | None, sets: Sequence[MeasurementSet], parameter: str) -> None:
    """Ask before work starts whether a new caltable of ``sets`` can have this name; no name is always right.

    Stages remove what an attempt before them left under the name, so that it must not be anything else's.

    Raises
    ------
    InputError : one name for the tables of several measurement sets, a path instead of a name, or the name of a
        measurement set or of a caltable that is in the calibration library.
    """
    if not name:
        return
    if len(sets) > 1:
        raise InputError(f"One {parameter} cannot name the tables of {len(sets)} measurement sets; leave it out.")
    if name != PurePath(name).name or name in (".", ".."):
        raise InputError(f"'{name}' as {parameter} must be a name without folders: tables lie in the work folder.")
    library = ctx.calibration
    used = {c.gaintable for s in (library.active, library.applied) for r in s.registrations for c in r.calfroms}
    taken = {PurePath(ms.path).name for ms in ctx.context.measurement_sets} | {PurePath(t).name for t in used}
    if name in taken:
        raise InputError(f"The run has something named {name} already; give {parameter} another name.")
