"""Named flag versions of measurement sets, and where the run remembers them.

A stage that applies calibration saves the flags before it (``before_applycal``) and remembers how it applied
(``remember_how``): with both, a restore gives CORRECTED_DATA and flags exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..effects import SetValue
from ..ms.model import MeasurementSet

KEY = "h.flagversions"
"""Run value: version names by measurement set and purpose (before_applycal, target, before_statwt)."""

HOW = "h.applied_how"
"""Run value: by measurement set, the arguments of applycal that no caltable tells (applymode, parang …)."""


def names(ctx: Any, ms: MeasurementSet) -> tuple[str, ...]:
    """Versions that exist, oldest first; the unnamed state of the main table is not one."""
    listed = ctx.casa.flagmanager(vis=ms.path, mode="list") or {}
    numbered = {int(k): v for k, v in listed.items() if str(k).isdigit()}
    return tuple(str(numbered[k]["name"]) for k in sorted(numbered) if isinstance(numbered[k], Mapping))


def save(ctx: Any, ms: MeasurementSet, name: str, comment: str) -> str:
    """Save the flags under a name; a version of a stage's earlier attempt is replaced, not renamed."""
    if name in names(ctx, ms):
        ctx.casa.flagmanager(vis=ms.path, mode="delete", versionname=name)
    ctx.casa.flagmanager(vis=ms.path, mode="save", versionname=name, comment=comment, merge="replace")
    return name


def save_before_apply(ctx: Any, ms: MeasurementSet) -> dict[str, str]:
    """Save the flags as they are before applycal; for ``remember``: ``{ms.name: save_before_apply(ctx, ms)}``."""
    name = f"{ctx.stage_name}_before_s{ctx.stage_number}"
    return {"before_applycal": save(ctx, ms, name, f"flags before {ctx.stage_name}")}


def restore(ctx: Any, ms: MeasurementSet, name: str) -> None:
    """Put the flags back to a version."""
    ctx.casa.flagmanager(vis=ms.path, mode="restore", versionname=name, merge="replace")


def recorded(ctx: Any, ms: MeasurementSet) -> dict[str, str]:
    """What the run remembers for a measurement set."""
    return dict((ctx.value(KEY) or {}).get(ms.name, {}))


def remember(ctx: Any, found: Mapping[str, Mapping[str, str]]) -> SetValue:
    """An effect that adds versions to those remembered; ``found`` is by measurement set and purpose."""
    known = {name: dict(purposes) for name, purposes in (ctx.value(KEY) or {}).items()}
    for name, purposes in found.items():
        known[name] = {**known.get(name, {}), **purposes}
    return SetValue(KEY, known)


def remember_how(ctx: Any, found: Mapping[str, Mapping[str, Any]]) -> SetValue:
    """An effect that remembers how calibration was applied, by measurement set."""
    return SetValue(HOW, {**(ctx.value(HOW) or {}), **{name: dict(how) for name, how in found.items()}})
