"""Records of the calibration library: where a caltable applies, how, and what a selection of data shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from pl_kernel.calgrid import Box
from pl_kernel.errors import DataError

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
        words = telling_intents(mine, others)
        modes = ms.observing_modes(words) if words else ()
        if not modes:
            raise DataError(
                f"CASA cannot select the data of {ms.name} with intents {' and '.join(sorted(mine))} (field"
                f" '{self.field}', spw '{self.spw}') without those with {' and '.join(sorted(others))}."
            )
        return {**chosen, "intent": ",".join(modes)}


def telling_intents(mine: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
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
