"""Spectral-window ids of the whole run (`VirtualSpw`) and of one measurement set (`RealSpw`).

Parameters, file names and the context speak of virtual ids; a CASA call needs real ones. The two are different
types, so that a type checker sees a mix-up. A window that one of the measurement sets lacks is a normal answer
(`None`), never an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NewType

import attrs

from pl_kernel.ms.selection import SpwPart, format_spw, parse_spw

if TYPE_CHECKING:
    from pl_kernel.ms.model import MeasurementSet

VirtualSpw = NewType("VirtualSpw", int)
"""Id shared by all measurement sets of a run."""
RealSpw = NewType("RealSpw", int)
"""Row of SPECTRAL_WINDOW in one measurement set."""

_SHORTEST_MATCHABLE = 5  # shorter names are suffixes of each other by accident (the reference pipeline refuses them)


def names_match(one: str, other: str) -> bool:
    """Whether two window names mean the same window: one is a suffix of the other.

    Observatories prepend identifiers of the execution to the name, so the end is what stays. Names shorter than
    five characters must be equal.
    """
    if min(len(one), len(other)) < _SHORTEST_MATCHABLE:
        return one == other
    return one.endswith(other) or other.endswith(one)


def matching_names(names: Mapping[RealSpw, str]) -> dict[RealSpw, str]:
    """Names to match windows by: the window's own, or `spw_<id>` where it has none or shares it with another."""
    seen = Counter(names.values())
    return {
        spw: name if name.strip().lower() not in ("", "none") and seen[name] == 1 else f"spw_{spw}"
        for spw, name in names.items()
    }


@attrs.frozen
class VirtualSpws:
    """The windows of a run, and how the ids of each measurement set translate.

    `names` gives the name under which a virtual id was first seen, `real` the real ids by measurement-set name,
    `problems` sentences about windows that could not be placed without doubt.
    """

    names: Mapping[VirtualSpw, str] = attrs.field(factory=dict)
    real: Mapping[str, Mapping[VirtualSpw, RealSpw]] = attrs.field(factory=dict)
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, measurement_sets: Iterable[MeasurementSet]) -> VirtualSpws:
        """Number the science windows of `measurement_sets`; the first one's ids become the virtual ids."""
        table = cls()
        for ms in measurement_sets:
            table = table.with_windows(ms.name, {spw.id: spw.name for spw in ms.science_spws})
        return table

    def with_windows(self, ms_name: str, windows: Mapping[RealSpw, str]) -> VirtualSpws:
        """A table that also knows the windows (real id → name) of one more measurement set."""
        names = dict(self.names)
        problems = list(self.problems)
        own: dict[VirtualSpw, RealSpw] = {}
        for spw, name in matching_names(windows).items():
            # Only windows of *other* measurement sets can be the same window.
            found = [v for v, known in self.names.items() if names_match(name, known)]
            found = [v for v in found if self.names[v] == name] or found
            if len(found) > 1:
                problems.append(
                    f"Spectral window {spw} of {ms_name} ('{name}') matches several windows of the run"
                    f" ({', '.join(str(v) for v in found)}); it is left out."
                )
                continue
            if found and found[0] not in own:
                own[found[0]] = spw
                continue
            virtual = VirtualSpw(int(spw))
            if virtual in names:
                virtual = VirtualSpw(max(names) + 1)
                problems.append(f"Spectral window {spw} of {ms_name} ('{name}') is called {virtual} in this run.")
            names[virtual] = name
            own[virtual] = spw
        return attrs.evolve(self, names=names, real={**self.real, ms_name: own}, problems=tuple(problems))

    @property
    def ids(self) -> tuple[VirtualSpw, ...]:
        """All virtual ids, ascending."""
        return tuple(sorted(self.names))

    def to_real(self, virtual: VirtualSpw, ms_name: str) -> RealSpw | None:
        """Real id in `ms_name`, or None when that measurement set lacks the window."""
        return self.real.get(ms_name, {}).get(virtual)

    def to_virtual(self, real: RealSpw, ms_name: str) -> VirtualSpw | None:
        """Virtual id of a real one, or None when the window is no window of the run (not a science window)."""
        return next((v for v, r in self.real.get(ms_name, {}).items() if r == real), None)

    def between(self, real: RealSpw, from_ms: str, to_ms: str) -> RealSpw | None:
        """The same window in another measurement set."""
        virtual = self.to_virtual(real, from_ms)
        return None if virtual is None else self.to_real(virtual, to_ms)

    def selection_to_real(self, selection: str, ms_name: str) -> str | None:
        """Translate a selection such as ``"0:4~10;20,2"`` to the ids of `ms_name`, dropping windows it lacks.

        The empty selection (everything) means every window of the run that is there. None: nothing is left.
        """
        parts = parse_spw(selection, known=[int(v) for v in self.ids])
        pairs = ((self.to_real(VirtualSpw(part.spw), ms_name), part) for part in parts)
        return self._translated((int(new), part) for new, part in pairs if new is not None)

    def selection_to_virtual(self, selection: str, ms_name: str) -> str | None:
        """The inverse of `selection_to_real`."""
        known = sorted(int(r) for r in self.real.get(ms_name, {}).values())
        parts = parse_spw(selection, known=known)
        pairs = ((self.to_virtual(RealSpw(part.spw), ms_name), part) for part in parts)
        return self._translated((int(new), part) for new, part in pairs if new is not None)

    @staticmethod
    def _translated(pairs: Iterable[tuple[int, SpwPart]]) -> str | None:
        translated = sorted((attrs.evolve(part, spw=new) for new, part in pairs), key=lambda p: p.spw)
        return format_spw(translated) if translated else None
