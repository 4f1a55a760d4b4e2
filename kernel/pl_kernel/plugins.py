"""Finds plugins by entry point, checks them against the contract, and answers who offers what.

A plugin that fails to import, asks for another API or takes a name that is taken is quarantined: it is listed as
refused, with the reason, and the others work.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import pluggy

from . import hookspecs
from .errors import PluginError, UnknownName
from .heuristics import Implementation, Slots
from .hookspecs import API_VERSION, Lazy

if TYPE_CHECKING:
    from .events import Event
    from .ms.importers import Importer
    from .ms.telescopes import Telescope
    from .stage import Stage

GROUP = "pl.plugins"
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class PluginInfo:
    """What is known of one installed plugin; ``reason`` says why it was refused, and is empty otherwise."""

    name: str
    distribution: str
    version: str
    reason: str = ""
    stages: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    summary: str = ""

    @property
    def accepted(self) -> bool:
        return not self.reason


@attrs.frozen(kw_only=True)
class StageEntry:
    """A stage as listings need it; the class itself is imported when asked for."""

    name: str
    summary: str
    plugin: str
    source: type[Stage[Any, Any]] | Lazy


@attrs.define
class _Offer:
    """Everything one plugin brings, before it is accepted."""

    info: PluginInfo
    module: Any
    stages: list[StageEntry] = attrs.field(factory=list)
    recipes: dict[str, Path] = attrs.field(factory=dict)
    heuristics: list[Any] = attrs.field(factory=list)
    scorers: list[Any] = attrs.field(factory=list)
    renderers: list[Any] = attrs.field(factory=list)
    importers: list[Any] = attrs.field(factory=list)
    telescopes: list[Any] = attrs.field(factory=list)
    commands: dict[str, Any] = attrs.field(factory=dict)

    def names(self) -> set[tuple[str, str]]:
        taken = {("stage", s.name) for s in self.stages}
        taken |= {("recipe", n) for n in self.recipes} | {("command", n) for n in self.commands}
        return taken | {("importer", i.kind) for i in self.importers}


def resolve(item: T | Lazy) -> T:
    """Import what a Lazy reference names; anything else is returned as it is.

    Raises
    ------
    PluginError : the module does not import, or has no such attribute.
    """
    if not isinstance(item, Lazy):
        return item
    module_name, _, attribute = item.target.partition(":")
    try:
        return cast(T, getattr(importlib.import_module(module_name), attribute))
    except Exception as error:
        raise PluginError(
            f"'{item.name}' cannot be loaded from {item.target}: {type(error).__name__}: {error}"
        ) from error


class Registry:
    """All accepted plugins and what they offer, plus the refused ones with the reasons."""

    def __init__(self, entry_points: Iterable[Any] | None = None) -> None:
        self.manager = pluggy.PluginManager("pl")
        self.manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._offers: dict[str, _Offer] = {}
        found = importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        # The kernel's own plugin first, then by name: listings and collisions must not depend on the disk's order.
        for point in sorted(found, key=lambda p: (p.name != "common", p.name)):
            self._admit(point)
        self._stages = {s.name: s for offer in self._offers.values() for s in offer.stages}

    # ---- admission -----------------------------------------------------------------------------------------------

    def _admit(self, point: Any) -> None:
        dist = getattr(point, "dist", None)
        info = PluginInfo(
            name=point.name, distribution=dist.name if dist else "", version=dist.version if dist else "",
            summary=dist.metadata["Summary"] if dist and "Summary" in dist.metadata else "",
        )  # fmt: skip
        if point.name in self._infos:
            info = attrs.evolve(info, name=f"{point.name} ({info.distribution})")
            self._refuse(info, f"another plugin is called '{point.name}' already")
            return
        self._infos[info.name] = info
        try:
            offer = self._examine(info, point.load())
        except _Refusal as refusal:
            self._refuse(info, str(refusal))
            return
        except (Exception, SystemExit) as error:
            self._refuse(info, f"it fails to load: {type(error).__name__}: {error}")
            return
        for other in list(self._offers.values()):
            shared = sorted(offer.names() & other.names())
            if not shared:
                continue
            kind, name = shared[0]
            # The plugin that a name is called after keeps it: "hifv_hanning" belongs to the plugin "hifv".
            newcomer_owns = name.startswith(f"{info.name}_") and not name.startswith(f"{other.info.name}_")
            loser, winner = (other, offer) if newcomer_owns else (offer, other)
            self._refuse(loser.info, f"it offers a {kind} called '{name}', which belongs to {winner.info.name}")
            if loser is offer:
                return
        for other in self._offers.values():
            if name := _described_otherwise(offer, other):
                self._refuse(info, f"it describes the telescope {name} otherwise than {other.info.name} does")
                return
        self._offers[info.name] = offer
        self._infos[info.name] = offer.info

    def _refuse(self, info: PluginInfo, reason: str) -> None:
        self._offers.pop(info.name, None)
        self._infos[info.name] = attrs.evolve(info, reason=reason)
        if self.manager.has_plugin(info.name):
            self.manager.unregister(name=info.name)

    def _examine(self, info: PluginInfo, module: Any) -> _Offer:
        try:
            self.manager.register(module, name=info.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise _Refusal(" ".join(str(error).split())) from None
        specified = {name for name in vars(hookspecs) if name.startswith("pl_")}
        for hook in self.manager.get_hookcallers(module) or []:
            if hook.name not in specified:
                raise _Refusal(f"it implements the unknown hook '{hook.name}'")
        call = functools.partial(self._call, info.name)
        _check_api(call("pl_api") or ">=1,<2")
        offer = _Offer(info, module)
        for stage in call("pl_stages") or ():
            offer.stages.append(_stage_entry(stage, info.name))
        names = [s.name for s in offer.stages]
        for name in names:
            if names.count(name) > 1:
                raise _Refusal(f"it registers the stage '{name}' twice")
        for path in call("pl_recipes") or ():
            if Path(path).stem in offer.recipes:
                raise _Refusal(f"it registers the recipe '{Path(path).stem}' twice")
            offer.recipes[Path(path).stem] = Path(path)
        offer.heuristics = list(call("pl_heuristics") or ())
        offer.scorers = list(call("pl_qa_scorers") or ())
        offer.renderers = list(call("pl_renderers") or ())
        offer.importers = list(call("pl_importers") or ())
        offer.telescopes = list(call("pl_telescopes") or ())
        offer.commands = {c.name: c for c in call("pl_commands") or ()}
        offer.info = attrs.evolve(
            info, stages=tuple(names), recipes=tuple(offer.recipes), commands=tuple(offer.commands)
        )
        return offer

    def _call(self, plugin: str, hook: str) -> Any:
        caller = getattr(self.manager.hook, hook)
        for implementation in caller.get_hookimpls():
            if implementation.plugin_name == plugin:
                return implementation.function()
        return None

    # ---- questions -----------------------------------------------------------------------------------------------

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        return tuple(self._infos.values())

    @property
    def stages(self) -> Mapping[str, StageEntry]:
        return self._stages

    @property
    def recipes(self) -> dict[str, Path]:
        return {name: path for offer in self._offers.values() for name, path in sorted(offer.recipes.items())}

    @property
    def commands(self) -> dict[str, Any]:
        return {name: command for offer in self._offers.values() for name, command in offer.commands.items()}

    @property
    def importers(self) -> tuple[Importer, ...]:
        return tuple(i for offer in self._offers.values() for i in offer.importers)

    @property
    def telescopes(self) -> tuple[Telescope, ...]:
        """One description per telescope: of several, that of the highest edition."""
        best: dict[str, Telescope] = {}
        for offer in self._offers.values():
            for telescope in map(resolve, offer.telescopes):
                if telescope.name not in best or telescope.edition > best[telescope.name].edition:
                    best[telescope.name] = telescope
        return tuple(best.values())

    def stage(self, name: str) -> type[Stage[Any, Any]]:
        """Return the class of a stage.

        Raises
        ------
        UnknownName : no accepted plugin offers it; the sentence has near matches.
        PluginError : it cannot be imported, or is called otherwise than it was announced.
        """
        entry = self._stages.get(name)
        if entry is None:
            raise UnknownName("stage", name, self._stages)
        from .stage import Stage  # brings numpy along, which listings can do without

        cls = resolve(entry.source)
        if not (inspect.isclass(cls) and issubclass(cls, Stage)):
            raise PluginError(f"'{name}' of plugin {entry.plugin} is not a stage.")
        if cls.name != name:
            raise PluginError(f"Plugin {entry.plugin} announces a stage '{name}' whose class is called '{cls.name}'.")
        return cls

    def scorers_for(self, stage: type[Stage[Any, Any]]) -> list[Callable[..., Any]]:
        """Return the scorers of this stage or of its result class, whoever wrote them."""
        return self._decorators(stage, "scorers", "pl_scorer_target")

    def renderers_for(self, stage: type[Stage[Any, Any]]) -> list[Callable[..., Any]]:
        """Return the renderers of this stage or of its result class, whoever wrote them."""
        return self._decorators(stage, "renderers", "pl_renderer_target")

    def page_reads(self, stage: type[Stage[Any, Any]]) -> frozenset[str]:
        """Return what a stage's page reads in measurement sets; renderers of other plugins may read anything."""
        from .stage import MUTABLE

        entry = self.stages.get(stage.name)
        strangers = {plugin for plugin, _ in self._fitting(stage, "renderers", "pl_renderer_target")}
        return stage.page_reads if entry and strangers <= {entry.plugin} else MUTABLE

    def _decorators(self, stage: type[Stage[Any, Any]], kind: str, mark: str) -> list[Callable[..., Any]]:
        return [
            _resolve_or_complain(item) if isinstance(item, Lazy) else item
            for _, item in self._fitting(stage, kind, mark)
        ]

    def _fitting(self, stage: type[Stage[Any, Any]], kind: str, mark: str) -> Iterator[tuple[str, Any]]:
        for plugin, offer in self._offers.items():
            for item in getattr(offer, kind):
                target = item.name if isinstance(item, Lazy) else getattr(item, mark, None)
                if isinstance(target, str):
                    hit = target == stage.name
                else:
                    hit = isinstance(target, type) and issubclass(stage.result_class, target)
                if hit:
                    yield plugin, item

    def slots(self, slot: str) -> Slots:
        """Return the implementations of one heuristic slot."""
        slots = Slots()
        for offer in self._offers.values():
            for item in offer.heuristics:
                if isinstance(item, Lazy) and item.name != slot:
                    continue
                implementation = getattr(resolve(item), "pl_heuristic", None)
                if not isinstance(implementation, Implementation):
                    raise PluginError(f"Plugin {offer.info.name} offers {item!r} as a heuristic without @heuristic.")
                if implementation.slot == slot:
                    slots.add(implementation)
        return slots

    def heuristic_slots(self) -> tuple[str, ...]:
        names = set()
        for offer in self._offers.values():
            for item in offer.heuristics:
                names.add(item.name if isinstance(item, Lazy) else item.pl_heuristic.slot)
        return tuple(sorted(names))

    def observers(self) -> list[Callable[[Event], None]]:
        """Return the listeners of the plugins that observe, each on its own: one that fails costs no other."""
        return [_Observer(h.plugin_name, h.function) for h in self.manager.hook.pl_on_event.get_hookimpls()]

    def versions(self) -> dict[str, str]:
        """Versions of the accepted plugins, by plugin name."""
        return {p.name: p.version for p in self.plugins if p.accepted}


def _described_otherwise(one: _Offer, other: _Offer) -> str:
    """Name of a telescope that two plugins describe differently in the same edition; empty when there is none.

    Plugins that work with one telescope (interferometers, single dishes) cannot import each other, so each brings the
    description; a change of it raises the edition.
    """
    known = {t.name: t for t in map(resolve, other.telescopes)}
    for telescope in map(resolve, one.telescopes):
        same = known.get(telescope.name)
        if same is not None and same.edition == telescope.edition and same != telescope:
            return str(telescope.name)
    return ""


def _resolve_or_complain(item: Lazy) -> Callable[..., Any]:
    """Import a scorer or renderer; one that cannot be imported complains when it is called, and costs no stage."""
    try:
        return cast("Callable[..., Any]", resolve(item))
    except PluginError as error:
        complaint = error

    def broken(*_: Any) -> Any:
        raise complaint

    broken.__module__, broken.__qualname__ = item.target.split(":")[0], item.target.partition(":")[2]
    return broken


@attrs.frozen
class _Observer:
    plugin: str
    function: Callable[..., Any]

    def __call__(self, event: Event) -> None:
        self.function(event=event)

    def __str__(self) -> str:
        return f"plugin {self.plugin}"


class _Refusal(Exception):
    """Why a plugin is not admitted; completes the sentence "refused: …"."""


def _check_api(wanted: str) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(wanted).contains(API_VERSION)
    except (InvalidSpecifier, TypeError):
        raise _Refusal(f"its pl_api() returns {wanted!r}, which is not a version range such as '>=1,<2'") from None
    if not fits:
        raise _Refusal(f"it is written for hook API {wanted}, this kernel offers {API_VERSION}")


def _stage_entry(stage: type[Stage[Any, Any]] | Lazy, plugin: str) -> StageEntry:
    if isinstance(stage, Lazy):
        return StageEntry(name=stage.name, summary=stage.summary, plugin=plugin, source=stage)
    from .stage import Result, Stage

    if not (inspect.isclass(stage) and issubclass(stage, Stage) and stage.name):
        raise _Refusal(f"pl_stages() returns {stage!r}, which is neither a stage with a name nor Lazy")
    if not issubclass(stage.result_class, Result):
        raise _Refusal(f"the stage '{stage.name}' has no result class")
    return StageEntry(name=stage.name, summary=stage.summary(), plugin=plugin, source=stage)


@functools.cache
def registry() -> Registry:
    """The registry of this process, made at the first call."""
    return Registry()


def kernel_version() -> str:
    """Version of the installed pl-kernel distribution."""
    try:
        return importlib.metadata.version("pl-kernel")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


__all__: Sequence[str] = (
    "GROUP", "PluginInfo", "Registry", "StageEntry", "kernel_version", "registry", "resolve",
)  # fmt: skip
