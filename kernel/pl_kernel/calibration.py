"""The calibration library: which caltable applies to which data, in which order, and how.

The state is an explicit table of registrations, each a region of data and an ordered list of caltables. What holds
for a cell (antenna, spw, field, intent) of a measurement set is the concatenation of the registrations whose region
contains it, in the order in which they were made; nothing is split or merged until somebody asks. Everything is
immutable: methods return a new library. Semantics: reference pipeline, 2026 (`callibrary`), with one difference:
rows can have several intents at once, so the fourth coordinate of a cell is the set of intents of its rows, and a
registration for an intent holds for every set that has it. No row is in two cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from pl_kernel.calgrid import Box, Cell, make_grid, merge
from pl_kernel.calrecords import (
    CALTYPES,
    VISCAL_TYPES,
    CalApplication,
    CalFrom,
    CalTo,
    GainArguments,
    MergedCal,
    Region,
    Registration,
    telling_intents,
)
from pl_kernel.errors import DataError
from pl_kernel.ms.selection import compact_ids

if TYPE_CHECKING:
    from pl_kernel.ms.model import MeasurementSet

__all__ = [
    "CALTYPES",
    "VISCAL_TYPES",
    "CalApplication",
    "CalFrom",
    "CalLibrary",
    "CalState",
    "CalTo",
    "GainArguments",
    "MergedCal",
    "Region",
    "Registration",
]


@attrs.frozen
class CalState:
    """An ordered table of registrations."""

    registrations: tuple[Registration, ...] = ()

    def of(self, vis: str) -> CalState:
        """The part that concerns one measurement set."""
        return CalState(tuple(r for r in self.registrations if r.region.vis == vis))

    def union(self, other: CalState) -> CalState:
        """Registrations of both; one that is in both counts once, equal ones with different serials count each."""
        return CalState(tuple(sorted({*self.registrations, *other.registrations}, key=lambda r: r.serial)))

    def difference(self, other: CalState) -> CalState:
        """Registrations without the data for which `other` has the same registration."""
        left = []
        for r in self.registrations:
            cut = [o.region for o in other.registrations if (o.serial, o.calfroms) == (r.serial, r.calfroms)]
            if r.region not in cut:
                left.append(attrs.evolve(r, region=attrs.evolve(r.region, without=(*r.region.without, *cut))))
        return CalState(tuple(left))

    def restricted(self, to: CalTo) -> CalState:
        """What holds within a selection."""
        return CalState(
            tuple(
                attrs.evolve(r, region=attrs.evolve(r.region, within=_narrowed(r.region.within, to)))
                for r in self.registrations
                if r.region.vis == to.vis
            )
        )

    def merged(
        self, ms: MeasurementSet, within: CalTo | None = None, *, ignore: Iterable[str] = (), empty: bool = False
    ) -> tuple[MergedCal, ...]:
        """Boxes of data with the same caltables, covering all data of `ms` (within a selection) that have any.

        Only combinations of field, spw and intent that were observed count. Attributes of CalFrom in `ignore`
        (``calwt``) make no difference. With `empty`, data without caltables appear as well.
        """
        ignored = tuple(ignore)
        rows = self.of(ms.name).registrations
        bounds = (within or CalTo(ms.name)).box(ms)
        boxes = [box for r in rows for box in r.region.boxes(ms)]
        grid = make_grid(bounds, boxes, ms.observed)
        tests = [(r.region.test(ms), tuple(c.without(ignored) for c in r.calfroms)) for r in rows]
        values: dict[Cell, tuple[CalFrom, ...]] = {}
        for cell in grid.cells():
            where = grid.representative(cell)
            values[cell] = tuple(c for test, froms in tests if test(where) for c in froms)
        result = []
        for indices, froms in merge(values):
            if froms or empty:
                result.append(_described(ms, grid.box(indices), froms))  # type: ignore[arg-type]
        return tuple(result)

    def at(self, ms: MeasurementSet, antenna: int, spw: int, field: int, intent: str) -> tuple[CalFrom, ...]:
        """The caltables of one cell, in order."""
        cell = (antenna, spw, field, intent)
        return tuple(c for r in self.of(ms.name).registrations if r.region.test(ms)(cell) for c in r.calfroms)


def _narrowed(within: tuple[CalTo, ...], to: CalTo) -> tuple[CalTo, ...]:
    whole = to == CalTo(to.vis)
    return within if whole or to in within else (*within, to)


def _described(ms: MeasurementSet, box: Box, froms: tuple[CalFrom, ...]) -> MergedCal:
    antennas, spws, fields, intents = box
    observed = ms.observed
    # The hull of a merge may hold fields, windows or intents that were never observed together.
    cells = [(f, s, i) for f, s, i in observed if f in fields and s in spws and i in intents]
    fields, spws = frozenset(f for f, _, _ in cells), frozenset(s for _, s, _ in cells)
    intents = frozenset(i for _, _, i in cells)
    every_intent = ms.intent_labels()
    if fields >= {f for f, _, _ in observed}:
        field = ""
    else:
        field = ms.field_selection(f for f in ms.fields if f.id in fields)
    if intents >= every_intent:
        intent = ""
    else:
        words = telling_intents(intents, every_intent - intents) or {w for i in intents for w in i.split(",")}
        intent = ",".join(sorted(w for w in words if w))
    return MergedCal(
        vis=ms.name,
        field=field,
        spw="" if spws >= {s for _, s, _ in observed} else compact_ids(spws),
        antenna="" if antennas >= {a.id for a in ms.antennas} else ms.antenna_selection(antennas),
        intent=intent,
        calfroms=froms,
        field_ids=fields,
        spw_ids=spws,
        antenna_ids=antennas,
        intent_sets=intents,
    )


@attrs.frozen
class CalLibrary:
    """Calibrations of a run: `active` ones are applied on the fly and by applycal, `applied` ones are in the data."""

    active: CalState = CalState()
    applied: CalState = CalState()

    def add(self, application: CalApplication) -> CalLibrary:
        """Append caltables to the lists of all data that the application selects."""
        serial = 1 + max((r.serial for r in (*self.active.registrations, *self.applied.registrations)), default=0)
        new = Registration(serial, Region((application.to,)), application.calfroms, application.origin)
        return attrs.evolve(self, active=CalState((*self.active.registrations, new)))

    def unregister(self, predicate: Callable[[CalTo, CalFrom], bool]) -> CalLibrary:
        """Remove the caltables for which ``predicate(calto, calfrom)`` holds from the active state, everywhere."""
        kept = []
        for r in self.active.registrations:
            froms = tuple(c for c in r.calfroms if not predicate(r.region.within[0], c))
            if froms:
                kept.append(attrs.evolve(r, calfroms=froms))
        return attrs.evolve(self, active=CalState(tuple(kept)))

    def unregister_origin(self, origin: str) -> CalLibrary:
        """Remove what a stage registered, for a stage that is run again."""
        kept = tuple(r for r in self.active.registrations if r.origin != origin)
        return attrs.evolve(self, active=CalState(kept))

    def mark_applied(self, to: CalTo | str) -> CalLibrary:
        """Move what is active for a selection (or a whole measurement set, by name) to the applied state."""
        done = self.active.restricted(CalTo(to) if isinstance(to, str) else to)
        return CalLibrary(active=self.active.difference(done), applied=self.applied.union(done))

    def without_ms(self, vis: str) -> CalLibrary:
        """Forget everything about one measurement set."""

        def others(state: CalState) -> CalState:
            return CalState(tuple(r for r in state.registrations if r.region.vis != vis))

        return CalLibrary(others(self.active), others(self.applied))

    def union(self, other: CalLibrary) -> CalLibrary:
        """Union of both states."""
        return CalLibrary(self.active.union(other.active), self.applied.union(other.applied))

    def difference(self, other: CalLibrary) -> CalLibrary:
        """What `other` does not have, in both states."""
        return CalLibrary(self.active.difference(other.active), self.applied.difference(other.applied))

    def query(
        self,
        ms: MeasurementSet,
        field: str = "",
        spw: str = "",
        intent: str = "",
        antenna: str = "",
        *,
        ignore: Iterable[str] = (),
        state: str = "active",
    ) -> tuple[MergedCal, ...]:
        """What applies to a selection of `ms`, merged; data without calibration are left out.

        Raises:
            InputError: a selection matches nothing in the measurement set.
        """
        chosen = self.applied if state == "applied" else self.active
        return chosen.merged(ms, CalTo(ms.name, field, spw, antenna, intent), ignore=ignore)

    def merged(self, ms: MeasurementSet, *, state: str = "active") -> tuple[MergedCal, ...]:
        """All of one state for `ms`, with compact selections: one applycal each."""
        return self.query(ms, state=state)

    def for_solve(
        self, ms: MeasurementSet, field: str = "", spw: str = "", intent: str = "", antenna: str = ""
    ) -> dict[str, Any]:
        """`gaintable`, `gainfield`, `spwmap` and `interp` to pre-apply in a solve on this selection.

        Raises:
            DataError: parts of the selection need different caltables; `solve_groups` gives them one by one.
        """
        groups = self.solve_groups(ms, field, spw, intent, antenna)
        lists = {g.calfroms for g in groups}
        if len(lists) > 1:
            parts = "; ".join(f"field '{g.field}' spw '{g.spw}' intent '{g.intent}'" for g in groups[:4])
            raise DataError(
                f"A solve on {ms.name} (field '{field}', spw '{spw}', intent '{intent}') covers data with different"
                f" calibration ({parts}); solve for them one by one."
            )
        return GainArguments.of(lists.pop() if lists else ()).for_solve()

    def solve_groups(
        self, ms: MeasurementSet, field: str = "", spw: str = "", intent: str = "", antenna: str = ""
    ) -> tuple[MergedCal, ...]:
        """Parts of a selection that share their caltables, weights ignored; parts without any are included."""
        return self.active.merged(ms, CalTo(ms.name, field, spw, antenna, intent), ignore=("calwt",), empty=True)

    # ---- text ----

    def export_text(self, measurement_sets: Sequence[MeasurementSet], *, state: str = "active") -> str:
        """One ``applycal(…)`` line per merged selection (see `pl_kernel.caltext`)."""
        from pl_kernel.caltext import export_text

        return export_text(self, measurement_sets, state)

    def import_text(
        self,
        text: str,
        measurement_sets: Sequence[MeasurementSet] = (),
        *,
        caltypes: Callable[[str], str] | None = None,
        append: bool = True,
        source: str = "calibration text",
    ) -> CalLibrary:
        """A library that also has (or, without `append`, only has) what the text says; never evaluated.

        Raises:
            InputError: a line is no applycal call of plain values; the sentence names source and line.
        """
        from pl_kernel.caltext import import_text

        base = self if append else attrs.evolve(self, active=CalState())
        for application in import_text(text, measurement_sets, caltypes, source):
            base = base.add(application)
        return base

    def to_callib(self, ms: MeasurementSet, *, state: str = "active") -> str:
        """CASA callibrary text for one measurement set (see `pl_kernel.caltext`)."""
        from pl_kernel.caltext import callib_text

        return callib_text(self.merged(ms, state=state), ms)
