"""Heuristic slots: a named decision with a signature, for which plugins supply implementations.

The most specific implementation whose conditions all hold for the data wins; the run records which one was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from .errors import PluginError, UnknownName

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Implementation:
    """One implementation of a slot: it applies where every condition equals (or contains) the fact of the data."""

    slot: str
    function: Callable[..., Any]
    conditions: Mapping[str, tuple[str, ...]]

    @property
    def origin(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def matches(self, facts: Mapping[str, object]) -> bool:
        for key, allowed in self.conditions.items():
            fact = facts.get(key)
            values = fact if isinstance(fact, (set, frozenset, tuple, list)) else (fact,)
            if not any(str(v) in allowed for v in values):
                return False
        return True


def heuristic(slot: str, **conditions: str | Iterable[str]) -> Callable[[F], F]:
    """Mark a function as an implementation of ``slot`` for data that meet the conditions.

    Conditions compare with facts of the run such as ``telescope``, ``array``, ``band``, ``intent``:
    ``@heuristic("refant", telescope=("OLD-ARRAY", "ARRAY"))``.  More conditions make it more specific.
    """
    tidy = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in conditions.items()}

    def mark(function: F) -> F:
        function.pl_heuristic = Implementation(slot, function, tidy)  # type: ignore[attr-defined]
        return function

    return mark


class Slots:
    """All implementations known to a run."""

    def __init__(self, implementations: Iterable[Implementation] = ()) -> None:
        self._by_slot: dict[str, list[Implementation]] = {}
        for implementation in implementations:
            self.add(implementation)

    def add(self, implementation: Implementation) -> None:
        self._by_slot.setdefault(implementation.slot, []).append(implementation)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._by_slot))

    def choose(self, slot: str, facts: Mapping[str, object]) -> Implementation:
        """Return the most specific implementation that matches; of equals, the one of the plugin named first.

        Raises
        ------
        UnknownName : nobody implements this slot.
        PluginError : implementations exist, but none fits these data.
        """
        if slot not in self._by_slot:
            raise UnknownName("heuristic", slot, self._by_slot)
        fitting = [i for i in self._by_slot[slot] if i.matches(facts)]
        if not fitting:
            said = ", ".join(f"{k} {v}" for k, v in facts.items() if v)
            raise PluginError(f"No implementation of the heuristic '{slot}' fits these data ({said}).")
        return max(fitting, key=lambda i: (len(i.conditions), -self._by_slot[slot].index(i)))
