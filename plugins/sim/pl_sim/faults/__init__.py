"""Faults: what goes wrong in an observation, each with a severity and known victims.

A fault is a frozen attrs class derived from `Fault`, registered with `@register`. Its fields are its severity; on the
command line they are given as `NAME=value` (the first field) or `NAME=field:value,field:value`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from pl_kernel.errors import UnknownName
from pl_sim.errors import UnknownFault

if TYPE_CHECKING:
    from pathlib import Path

    from pl_sim.engine import Chunk
    from pl_sim.instrument import Corruptions
    from pl_sim.observation import Observation
    from pl_sim.regions import Region

_MODULES = tuple(
    f"pl_sim.faults.{name}" for name in ("antennas", "interference", "records", "schedules", "alma", "singledish")
)
_REGISTRY: dict[str, type[Fault]] = {}


class Fault:
    """Base of all faults; override what the fault touches.

    The hooks are called in this order: `change_observation`, `change_corruptions`, then for every chunk `change_gains`,
    `change_sky` (Jy, before the gains), `change_raw` (as recorded), and at the end `change_measurement_set`.
    Engines of extensions may define further hooks of their own and call them with `getattr`.
    """

    name: ClassVar[str] = ""

    def change_observation(self, observation: Observation) -> Observation:
        """What is observed changes: a scan is missing, a source is brighter than the catalogue says."""
        return observation

    def change_corruptions(self, observation: Observation, corruptions: Corruptions) -> Corruptions:
        """The instrument changes for the whole observation."""
        return corruptions

    def change_gains(self, chunk: Chunk) -> None:
        """Change `chunk.gain` (time, antenna, receptor, channel) in place."""

    def change_sky(self, chunk: Chunk) -> None:
        """Change `chunk.data` in Jy, before the gains, in place."""

    def change_raw(self, chunk: Chunk) -> None:
        """Change `chunk.data` as the correlator recorded it, in place."""

    def change_measurement_set(self, path: Path, observation: Observation) -> None:
        """Damage the finished measurement set."""

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        """The visibilities spoiled; what a perfect flagger would flag."""
        return ()

    def truth(self, observation: Observation) -> dict[str, Any]:
        """What was injected, for the truth directory; default: the fields."""
        return attrs.asdict(self)  # type: ignore[arg-type]


def register(cls: type[Fault]) -> type[Fault]:
    """Class decorator: makes a fault known under its `name`."""
    if not cls.__doc__:
        raise TypeError(f"fault {cls.name} needs a docstring")
    _REGISTRY[cls.name] = cls
    return cls


def known_faults() -> dict[str, type[Fault]]:
    """All registered faults by name."""
    for module in _MODULES:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    return dict(sorted(_REGISTRY.items()))


def make_fault(name: str, **parameters: Any) -> Fault:
    """A fault by name.

    Raises:
        UnknownFault: the name or a parameter is not known; the sentence lists what is.
    """
    known = known_faults()
    if name not in known:
        raise UnknownFault(UnknownName("fault", name, known).sentence)
    cls = known[name]
    fields = {f.name: f for f in attrs.fields(cls)}  # type: ignore[arg-type]
    for parameter in parameters:
        if parameter not in fields:
            raise UnknownFault(f"Fault {name} has no parameter {parameter}; it has {', '.join(fields) or 'none'}.")
    return cls(**parameters)


def parse_fault(text: str) -> Fault:
    """A fault from the command line: `NAME`, `NAME=VALUE` or `NAME=field:value,field:value`."""
    name, _, rest = text.partition("=")
    known = known_faults()
    if name not in known:
        raise UnknownFault(UnknownName("fault", name, known).sentence)
    fields = {f.name: f for f in attrs.fields(known[name])}  # type: ignore[arg-type]
    parameters: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, separator, value = item.partition(":")
        if not separator:
            if not fields:
                raise UnknownFault(f"Fault {name} has no parameters; leave out ={rest}.")
            key, value = next(iter(fields)), item
        if key not in fields:
            raise UnknownFault(f"Fault {name} has no parameter {key}; it has {', '.join(fields) or 'none'}.")
        parameters[key] = _convert(name, key, value, fields[key].default)
    return known[name](**parameters)


def _convert(name: str, key: str, value: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        if kind in (int, float):
            return kind(value)
        if kind is tuple:
            return tuple(type(default[0])(v) if default else v for v in value.split("+"))
    except (KeyError, ValueError):
        raise UnknownFault(f"Parameter {key} of fault {name} must be a {kind.__name__}, not {value}.") from None
    return value
