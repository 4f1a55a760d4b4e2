"""Reduction groups: the spectra of one science window and field, of all antennas and execution blocks.

A group is the answer to a question about the run, never something stored: ask again after new measurement sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from pl_hsd.rowmap import field_translation, spw_translation
from pl_hsd.rows import RowTable, origin_name
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.ms.virtual import RealSpw, VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext

SAME_OVERLAP = 0.99
"""Windows without names are the same when they overlap in at least this part of their width (reference pipeline)."""

ITERATION = "hsd.iteration"


@attrs.frozen(order=True)
class Member:
    """The spectra of one antenna in one window and field of one measurement set.

    ``ms``, ``spw`` and ``field`` are those of the measurement set asked for; ``origin``, ``origin_spw`` and
    ``origin_field`` those of the imported one, whose table of rows has its metadata.
    """

    ms: str
    antenna: int
    spw: RealSpw
    field: int
    origin: str
    origin_spw: RealSpw
    origin_field: int
    antenna_name: str


@attrs.frozen
class ReductionGroup:
    """One science spectrum with all its members; frequencies in Hz, of the first member's window."""

    id: int
    spw: VirtualSpw
    spw_name: str
    field_name: str
    freq_min_hz: float
    freq_max_hz: float
    nchan: int
    members: tuple[Member, ...]

    @property
    def key(self) -> str:
        """Names of window and field: unlike ``id`` the same whatever else a stage selects."""
        return f"{self.spw_name}/{self.field_name}"

    @property
    def ms_names(self) -> tuple[str, ...]:
        """The measurement sets with members, in order of the run."""
        return tuple(dict.fromkeys(m.ms for m in self.members))


def iteration(ctx: StageContext) -> int:
    """How many baseline stages the run has behind it."""
    return int(ctx.value(ITERATION, 0))


def reduction_groups(
    ctx: StageContext, *, types: Iterable[DataType] | None = None, vis: Iterable[str] | None = None
) -> tuple[ReductionGroup, ...]:
    """The groups of the measurement sets named, or of those of the first of ``types`` that any has.

    Without either, of the imported measurement sets.  Only antennas that have spectra on the source are members.  A
    window has the same virtual id in all measurement sets of the run.
    """
    known = ctx.context.measurement_sets
    if vis is None and types is None:
        chosen = tuple(m for m in known if origin_name(ctx, m) == m.name)
    else:
        chosen = ctx.measurement_sets(vis, types=types)
    virtual = virtual_spws([m for m in known if origin_name(ctx, m) == m.name] or known)
    members: dict[tuple[VirtualSpw, str], list[tuple[Member, SpectralWindow]]] = {}
    for ms in chosen:
        for member, window in _members(ctx, ms):
            number = virtual.to_virtual(member.origin_spw, member.origin)
            if number is None:
                continue
            name = ctx.context.measurement_set(member.origin).field(member.origin_field).name
            members.setdefault((number, name), []).append((member, window))
    return tuple(
        _group(number, key, found, virtual) for number, (key, found) in enumerate(sorted(members.items()))
    )


def _group(
    number: int, key: tuple[VirtualSpw, str], found: list[tuple[Member, SpectralWindow]], virtual: VirtualSpws
) -> ReductionGroup:
    window = found[0][1]
    return ReductionGroup(
        id=number, spw=key[0], spw_name=virtual.names[key[0]], field_name=key[1], freq_min_hz=window.min_hz,
        freq_max_hz=window.max_hz, nchan=window.n_channels, members=tuple(member for member, _ in found),
    )  # fmt: skip


def _members(ctx: StageContext, ms: MeasurementSet) -> Iterable[tuple[Member, SpectralWindow]]:
    origin = ctx.context.measurement_set(origin_name(ctx, ms))
    rows = RowTable.open(ctx, origin)
    same = ms.name == origin.name
    spws = {} if same else spw_translation(origin, ms)
    fields = {} if same else field_translation(origin, ms)
    for antenna, spw, field in rows.header.members:
        own_spw, own_field = (spw, field) if same else (spws.get(spw, -1), fields.get(field, -1))
        if own_spw < 0 or own_field < 0:
            continue
        yield (
            Member(
                ms=ms.name, antenna=antenna, spw=RealSpw(own_spw), field=own_field, origin=origin.name,
                origin_spw=RealSpw(spw), origin_field=field, antenna_name=origin.antenna(antenna).name,
            ),
            origin.spw(spw),
        )  # fmt: skip


def virtual_spws(measurement_sets: Iterable[MeasurementSet]) -> VirtualSpws:
    """Virtual ids of the science windows; windows without names are matched by channels and frequencies.

    The kernel matches windows by name; data of some observatories have none.
    """
    sets = list(measurement_sets)
    named = VirtualSpws.of(sets)
    if all(s.name.strip() for ms in sets for s in ms.science_spws):
        return named
    table = VirtualSpws()
    for ms in sets:
        table = table.with_windows(ms.name, frequency_names(ms.science_spws, _known(table, sets)))
    return table


def _known(table: VirtualSpws, sets: Sequence[MeasurementSet]) -> list[tuple[str, SpectralWindow]]:
    """The windows seen so far, with the name each goes by."""
    by_name = {ms.name: ms for ms in sets}
    first: dict[VirtualSpw, tuple[str, SpectralWindow]] = {}
    for ms_name, ids in table.real.items():
        for virtual, real in ids.items():
            first.setdefault(virtual, (table.names[virtual], by_name[ms_name].spw(int(real))))
    return list(first.values())


def frequency_names(
    windows: Iterable[SpectralWindow], known: Iterable[tuple[str, SpectralWindow]]
) -> dict[RealSpw, str]:
    """Names for windows: that of a known one with as many channels and nearly the same frequencies, or a new one."""
    names: dict[RealSpw, str] = {}
    for window in windows:
        same = next((name for name, other in known if _is_same(window, other)), None)
        names[window.id] = same or f"window at {window.centre_hz / 1e9:.6f} GHz, {window.n_channels} channels"
    return names


def _is_same(one: SpectralWindow, other: SpectralWindow) -> bool:
    overlap = min(one.max_hz, other.max_hz) - max(one.min_hz, other.min_hz)
    return one.n_channels == other.n_channels and overlap / (one.max_hz - one.min_hz) >= SAME_OVERLAP


def group_of(groups: Iterable[ReductionGroup], ms: str, spw: int, field: int) -> ReductionGroup | None:
    """The group to which the spectra of a window (real id) and field of a measurement set belong."""
    for group in groups:
        if any((m.ms, int(m.spw), m.field) == (ms, spw, field) for m in group.members):
            return group
    return None
