"""Applying what the calibration library holds: one applycal per group of data with the same tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ..calrecords import CalFrom, MergedCal
from ..errors import PlError
from ..ms.model import MeasurementSet
from .archives import size_of

if TYPE_CHECKING:
    from ..stage_context import StageContext

APPLYMODES = ("calflag", "calflagstrict", "trial", "flagonly", "flagonlystrict", "calonly")


def _strings(value: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(v) for v in value)


@attrs.frozen(kw_only=True)
class Applied:
    """One call of applycal: a selection of data and the tables applied to it, in order.

    ``kinds``, ``spwmaps`` (as text) and ``sizes`` (bytes) are of the tables; empty where nobody noted them.
    """

    vis: str
    field: str
    spw: str
    intent: str
    antenna: str
    tables: tuple[str, ...] = attrs.field(converter=_strings)
    gainfields: tuple[str, ...] = attrs.field(converter=_strings)
    interps: tuple[str, ...] = attrs.field(converter=_strings)
    calwt: bool = False
    kinds: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    spwmaps: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    sizes: tuple[int, ...] = attrs.field(default=(), converter=tuple)


@attrs.frozen(kw_only=True)
class Application:
    """What applying a library did: the calls, tables left out because they hold no solutions, and the fields done."""

    calls: tuple[Applied, ...]
    dropped: tuple[str, ...] = ()
    fields: frozenset[int] = frozenset()

    def uncalibrated(self, ms: MeasurementSet) -> tuple[str, ...]:
        """Names of the fields with data that got no calibration."""
        return tuple(ms.field(f).name for f in sorted({f for f, _, _ in ms.observed} - self.fields))


def apply_library(
    ctx: StageContext, ms: MeasurementSet, *, applymode: str = "calflagstrict", parang: bool = False,
    calwt: bool = True, antenna: str = "", field: str = "", spw: str = "", intent: str = "",
) -> Application:  # fmt: skip
    """Apply the active calibration to a measurement set, or to a selection of it, in the order of registration.

    Parameters
    ----------
    calwt : False keeps the weights whatever the registrations say.
    antenna : selection for groups that have none of their own (``"*&*"``: cross-correlations only).

    Raises
    ------
    PlError : nothing can be applied.
    """
    calls: list[Applied] = []
    dropped: dict[str, None] = {}
    done: set[int] = set()
    entries = ctx.calibration.query(ms, field, spw, intent)
    for count, entry in enumerate(entries, 1):
        usable = tuple(c for c in entry.calfroms if solutions(ctx, c.gaintable))
        dropped.update(dict.fromkeys(c.gaintable for c in entry.calfroms if c not in usable))
        if usable:
            kept = tuple(attrs.evolve(c, calwt=calwt and c.calwt) for c in usable)
            calls.append(apply_one(ctx, ms, entry, kept, applymode=applymode, parang=parang, antenna=antenna))
            done |= entry.field_ids
        ctx.progress(count, len(entries), ms.name)
    if not calls:
        raise PlError(f"None of the caltables registered for {ms.name} holds a solution; nothing can be applied.")
    return Application(calls=tuple(calls), dropped=tuple(dropped), fields=frozenset(done))


def apply_one(
    ctx: StageContext, ms: MeasurementSet, entry: MergedCal, calfroms: tuple[CalFrom, ...], *, applymode: str,
    parang: bool, antenna: str = "",
) -> Applied:  # fmt: skip
    """Apply caltables to the data of one entry of the library."""
    selection = entry.casa_selection(ms)
    chosen = {**selection, "antenna": selection["antenna"] or antenna}
    ctx.casa.applycal(
        **chosen, applymode=applymode, parang=parang, flagbackup=False,
        gaintable=[c.gaintable for c in calfroms], gainfield=[c.gainfield for c in calfroms],
        spwmap=[list(c.spwmap) for c in calfroms], interp=[c.interp for c in calfroms],
        calwt=[c.calwt for c in calfroms],
    )  # fmt: skip
    return Applied(
        vis=ms.name, field=", ".join(ms.field(f).name for f in sorted(entry.field_ids)) or "all",
        spw=entry.spw or "all", intent=entry.intent, antenna=chosen["antenna"],
        tables=[c.gaintable for c in calfroms], gainfields=[c.gainfield for c in calfroms],
        interps=[c.interp for c in calfroms], calwt=any(c.calwt for c in calfroms), **facts(calfroms),
    )  # fmt: skip


def facts(calfroms: Iterable[CalFrom]) -> dict[str, Any]:
    """What `Applied` tells of the tables themselves."""
    froms = list(calfroms)
    return {
        "kinds": [c.caltype for c in froms], "spwmaps": [",".join(map(str, c.spwmap)) for c in froms],
        "sizes": [size_of(Path(c.gaintable)) if Path(c.gaintable).is_dir() else 0 for c in froms],
    }  # fmt: skip


def solutions(ctx: StageContext, table: str) -> int:
    """Number of rows of a caltable; 0 when it does not exist."""
    if not Path(table).is_dir():
        return 0
    with ctx.casa.table(table) as opened:
        return int(opened.nrows())
