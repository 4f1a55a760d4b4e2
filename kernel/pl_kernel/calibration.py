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

from pl_kernel.calgrid import Box, make_grid, merge
from pl_kernel.errors import DataError
from pl_kernel.ms.selection import compact_ids

if TYPE_CHECKING:
    from pl_kernel.ms.model import MeasurementSet

CALTYPES = (
    "gaincal", "bandpass", "tsys", "wvr", "polarization", "antpos", "gc", "gceff", "opac", "rq", "swpow", "tecim",
    "kcross", "uvcont", "amp", "finalcal", "ps", "otfraster", "otf", "delay", "unknown",
)  # fmt: skip
VISCAL_TYPES = {
    "G JONES": "gaincal", "GSPLINE": "gaincal", "T JONES": "gaincal", "B JONES": "bandpass", "BPOLY": "bandpass",
    "B TSYS": "tsys", "KANTPOS JONES": "antpos", "A MUELLER": "uvcont", "SDSKY_PS": "ps", "SDSKY_RASTER": "otfraster",
    "SDSKY_OTF": "otf",
}  # fmt: skip
"""VisCal keyword of a caltable (upper case) → type; the producing stage names the types that are not here."""


@attrs.frozen
class CalTo:
    """Where a calibration applies: one measurement set, by name; CASA selections, empty meaning all.

    `intent` holds intents of the pipeline (``"PHASE,TARGET"``), not words of the observatory.
    """

    vis: str
    field: str = ""
    spw: str = ""
    antenna: str = ""
    intent: str = ""

    def box(self, ms: MeasurementSet) -> Box:
        """The ids selected in `ms`, and the sets of intents (as text, see `MeasurementSet.observed`).

        Data with several intents are selected by any of them.

        Raises:
            InputError: a selection matches nothing in the measurement set.
        """
        spws = frozenset(int(s) for s in ms.spw_ids(self.spw))
        return (
            frozenset(ms.antenna_ids(self.antenna)),
            spws,
            frozenset(ms.field_ids(self.field)),
            ms.intent_labels(self.intent),
        )


def _numbers(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


@attrs.frozen
class CalFrom:
    """What applies: a caltable and how CASA is to use it (arguments of applycal for one table)."""

    gaintable: str
    gainfield: str = ""
    interp: str = "linear,linear"
    spwmap: tuple[int, ...] = attrs.field(default=(), converter=_numbers)
    caltype: str = "unknown"
    calwt: bool = True

    def without(self, ignored: Iterable[str]) -> CalFrom:
        """The same with the `ignored` attributes at their defaults, for comparisons that do not care for them."""
        defaults: dict[str, Any] = {a.name: a.default for a in attrs.fields(CalFrom) if a.name in set(ignored)}
        return attrs.evolve(self, **defaults)


def _froms(value: CalFrom | Iterable[CalFrom]) -> tuple[CalFrom, ...]:
    return (value,) if isinstance(value, CalFrom) else tuple(value)


@attrs.frozen
class CalApplication:
    """What a stage that makes caltables gives back: where they apply, the tables in order, and who made them."""

    to: CalTo
    calfroms: tuple[CalFrom, ...] = attrs.field(converter=_froms)
    origin: str = ""


@attrs.frozen
class Region:
    """Data inside all of `within` and outside each of `without`; all in the measurement set `within[0].vis`."""

    within: tuple[CalTo, ...]
    without: tuple[Region, ...] = ()

    @property
    def vis(self) -> str:
        """Name of the measurement set."""
        return self.within[0].vis

    def boxes(self, ms: MeasurementSet) -> list[Box]:
        """Every selection that plays a part."""
        return [to.box(ms) for to in self.within] + [box for region in self.without for box in region.boxes(ms)]

    def test(self, ms: MeasurementSet) -> Callable[[tuple[int, int, int, str]], bool]:
        """A function that says whether a cell (antenna, spw, field, intent) lies inside."""
        inside = [to.box(ms) for to in self.within]
        outside = [region.test(ms) for region in self.without]

        def contains(cell: tuple[int, int, int, str]) -> bool:
            a, s, f, i = cell
            return all(a in b[0] and s in b[1] and f in b[2] and i in b[3] for b in inside) and not any(
                test(cell) for test in outside
            )

        return contains


@attrs.frozen
class Registration:
    """One row of the table. `serial` orders the rows and tells equal ones apart: a table may apply twice."""

    serial: int
    region: Region
    calfroms: tuple[CalFrom, ...]
    origin: str = ""


@attrs.frozen
class MergedCal:
    """Data that share one list of caltables.

    `field`, `spw`, `antenna` are compact CASA selections, `intent` words of the pipeline; the sets hold the same as
    ids, `intent_sets` in the form of `MeasurementSet.observed`.
    """

    vis: str
    field: str
    spw: str
    antenna: str
    intent: str
    calfroms: tuple[CalFrom, ...]
    field_ids: frozenset[int] = frozenset()
    spw_ids: frozenset[int] = frozenset()
    antenna_ids: frozenset[int] = frozenset()
    intent_sets: frozenset[str] = frozenset()

    @property
    def arguments(self) -> GainArguments:
        """Lists for a CASA task."""
        return GainArguments.of(self.calfroms)

    def casa_selection(self, ms: MeasurementSet) -> dict[str, str]:
        """`vis`, `field`, `spw`, `antenna`, `intent` for a CASA task, selecting these data and no others.

        Intents are given, in the observatory's words, only where fields and windows do not say enough: old data
        have none, and rows with several intents answer to each of them.

        Raises:
            DataError: CASA's selection cannot tell these data from others.
        """
        here = [(f, s, i) for f, s, i in ms.observed if s in self.spw_ids]
        fields = {f for f, _, i in here if f in self.field_ids and i in self.intent_sets}
        field = self.field if not self.field else ms.field_selection(f for f in ms.fields if f.id in fields)
        chosen = {"vis": ms.path, "field": field, "spw": self.spw, "antenna": self.antenna, "intent": ""}
        others = {i for f, _, i in here if (f in fields or not field) and i not in self.intent_sets}
        if not others:
            return chosen
        mine = {i for _, _, i in here if i in self.intent_sets}
        words = _telling(mine, others)
        modes = ms.observing_modes(words) if words else ()
        if not modes:
            raise DataError(
                f"CASA cannot select the data of {ms.name} with intents {' and '.join(sorted(mine))} (field"
                f" '{self.field}', spw '{self.spw}') without those with {' and '.join(sorted(others))}."
            )
        return {**chosen, "intent": ",".join(modes)}


def _telling(mine: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """Intents that every set of `mine` has one of and no set of `others` has; nothing when there are none."""
    foreign = {word for i in others for word in i.split(",")}
    sets = [set(i.split(",")) - foreign - {""} for i in mine]
    return tuple(sorted(set().union(*sets))) if all(sets) else ()


@attrs.frozen
class GainArguments:
    """The parallel lists that gaincal, bandpass, applycal and the others take."""

    gaintable: list[str] = attrs.field(factory=list)
    gainfield: list[str] = attrs.field(factory=list)
    spwmap: list[list[int]] = attrs.field(factory=list)
    interp: list[str] = attrs.field(factory=list)
    calwt: list[bool] = attrs.field(factory=list)

    @classmethod
    def of(cls, calfroms: Iterable[CalFrom]) -> GainArguments:
        """Lists from caltables in order."""
        froms = list(calfroms)
        return cls(
            [c.gaintable for c in froms],
            [c.gainfield for c in froms],
            [list(c.spwmap) for c in froms],
            [c.interp for c in froms],
            [c.calwt for c in froms],
        )

    def for_solve(self) -> dict[str, Any]:
        """Keyword arguments of a solving task (weights are no matter of a solve)."""
        return {"gaintable": self.gaintable, "gainfield": self.gainfield, "spwmap": self.spwmap, "interp": self.interp}

    def for_apply(self) -> dict[str, Any]:
        """Keyword arguments of applycal."""
        return {**self.for_solve(), "calwt": self.calwt}


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
        values: dict[tuple[int, int, int, int], tuple[CalFrom, ...]] = {}
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
        words = _telling(intents, every_intent - intents) or {w for i in intents for w in i.split(",")}
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
