"""Presets: observations by name, in three sizes.

A preset is a function `(scale) -> Observation` or `-> tuple[Observation, ...]` (several execution blocks), registered
with `@preset(name, summary)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from pl_kernel.errors import UnknownName
from pl_sim.errors import UnknownPreset

if TYPE_CHECKING:
    from pl_sim.observation import Observation

SCALES = ("tiny", "small", "full")
_MODULES = ("vla", "vlass", "alma", "tp", "nobeyama")


@frozen
class Preset:
    """A named observation."""

    name: str
    summary: str
    make: Callable[[str], Observation | tuple[Observation, ...]]

    def observations(self, scale: str = "small") -> tuple[Observation, ...]:
        """The execution blocks of this preset at a scale (`tiny`, `small`, `full`)."""
        if scale not in SCALES:
            raise UnknownPreset(f"There is no scale {scale}; known are {', '.join(SCALES)}.")
        made = self.make(scale)
        return made if isinstance(made, tuple) else (made,)


_REGISTRY: dict[str, Preset] = {}


def preset(name: str, summary: str) -> Callable[[Callable], Callable]:
    """Decorator: registers a function of the scale as a preset."""

    def keep(function: Callable) -> Callable:
        _REGISTRY[name] = Preset(name, summary, function)
        return function

    return keep


def known_presets() -> dict[str, Preset]:
    """All presets by name."""
    for module in _MODULES:
        full = f"pl_sim.presets.{module}"
        try:
            importlib.import_module(full)
        except ModuleNotFoundError as error:
            if error.name != full:
                raise
    return dict(sorted(_REGISTRY.items()))


def get_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        UnknownPreset: the sentence lists the known names.
    """
    known = known_presets()
    if name not in known:
        raise UnknownPreset(UnknownName("preset", name, known).sentence)
    return known[name]
