"""Recipes: named procedures of stages, in YAML, and read from the observatories' own XML.

Three kinds of file become the same ``Recipe``: pl's YAML, a procedure (``ProcessingProcedure``) and a
processing request (``SciPipeRequest``, which names data, sessions and intents besides).  Everything in them is data:
YAML is read by the safe loader, XML without entities, values by a parser of literals.

A YAML recipe::

    name: my_procedure
    title: What it is for
    parameters:
      target: {default: null, doc: Name of the field to image.}
    needs: {intents: [BANDPASS]}
    stages:
      - my_import
      - my_flag: {quack: true}
      - my_image: {field: "${target}"}
        when: intents contains TARGET
      - breakpoint
"""

from __future__ import annotations

import importlib.util
import os
import re
import typing
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from . import conditions
from .errors import DataError, InputError, PlError, UnknownName

if TYPE_CHECKING:
    from .context import Context
    from .params import Inputs
    from .stage import Stage

BREAKPOINT = "breakpoint"
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_SPAN = re.compile(r"(\d+)(?:-(\d+))?")
NAME = re.compile(r"[A-Za-z]\w*\Z")
_LARGEST = 4_000_000  # bytes; the largest real processing request is far below 1 MB


class Registry(Protocol):
    """What validation asks of the plugins: see plugins.Registry."""

    @property
    def stages(self) -> Mapping[str, Any]: ...

    def stage(self, name: str) -> type[Stage[Any, Any]]: ...


@attrs.frozen(kw_only=True)
class Step:
    """One entry of a recipe: a stage with the values the recipe sets, run when its condition holds."""

    stage: str
    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    when: str = ""

    @property
    def is_breakpoint(self) -> bool:
        return self.stage == BREAKPOINT


@attrs.frozen(kw_only=True)
class RecipeParameter:
    """A value that the caller of a recipe may set; steps refer to it as ``${name}``.  None leaves it to the stage."""

    name: str
    default: Any = None
    doc: str = ""
    unit: str = ""


@attrs.frozen(kw_only=True)
class Needs:
    """What the data must hold, checked when they are known."""

    intents: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Demo:
    """Data that come with an installed package, on which the recipe can be shown: ``package:path/inside/it``."""

    data: tuple[str, ...]
    title: str = ""
    parameters: Mapping[str, Any] = attrs.field(factory=dict)

    def paths(self) -> list[Path]:
        """Return where the data are.

        Raises
        ------
        InputError : the package is not installed, or does not hold the file.
        """
        return [_inside_package(reference) for reference in self.data]


@attrs.frozen(kw_only=True)
class RequestedData:
    """One data set of a processing request: its name on disk, the execution it came from, and its session."""

    name: str
    relative_path: str = ""
    execution: str = ""
    session: str = "session_1"


@attrs.frozen(kw_only=True)
class Recipe:
    """A named list of steps.

    ``data``, ``project`` and ``intents`` are filled by processing requests only; ``intents`` are the request's keywords
    and values, as they stand there.
    """

    name: str
    title: str = ""
    description: str = ""
    steps: tuple[Step, ...] = ()
    parameters: tuple[RecipeParameter, ...] = ()
    needs: Needs = attrs.field(factory=Needs)
    demo: Demo | None = None
    source: Path | None = None
    data: tuple[RequestedData, ...] = ()
    project: Mapping[str, str] = attrs.field(factory=dict)
    intents: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages in order, breakpoints left out."""
        return tuple(step.stage for step in self.steps if not step.is_breakpoint)

    def bind(self, values: Mapping[str, Any] | None = None) -> Recipe:
        """Return the recipe with every ``${name}`` replaced.

        A step's value that is nothing but ``${name}`` takes the parameter's value with its type; within longer text
        the value is written out.  A value that ends as None is dropped: the stage decides.

        Raises
        ------
        UnknownName : a value for a parameter that the recipe does not have.
        """
        given = dict(values or {})
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                raise UnknownName("parameter", name, known, f" in recipe {self.name}")
        settled = {name: given.get(name, p.default) for name, p in known.items()}
        steps = []
        for step in self.steps:
            bound = {k: _substitute(v, settled, self.name) for k, v in step.parameters.items()}
            steps.append(attrs.evolve(step, parameters={k: v for k, v in bound.items() if v is not None}))
        return attrs.evolve(
            self,
            steps=tuple(steps),
            parameters=tuple(attrs.evolve(p, default=settled[p.name]) for p in self.parameters),
        )

    def only(self, wanted: Iterable[str], always: Container[str] = ()) -> Recipe:
        """Return the recipe with these stages alone, and those named in ``always`` (what brings in the data).

        A stage is wanted by its name, which may stand for several, or by its number in the recipe: ``3``, ``4-7``.

        Raises
        ------
        InputError : a name or number that the recipe does not have.
        """
        names = self.stage_names
        chosen: set[int] = set()
        for word in wanted:
            span = _SPAN.fullmatch(word)
            if span is None:
                if word not in names:
                    raise UnknownName("stage", word, names, f" in recipe {self.name}")
                chosen |= {number for number, name in enumerate(names, 1) if name == word}
                continue
            first, last = int(span[1]), int(span[2] or span[1])
            if not 1 <= first <= last <= len(names):
                raise InputError(f"There is no stage {word} in recipe {self.name}; its stages are 1 to {len(names)}.")
            chosen |= set(range(first, last + 1))
        numbered = enumerate((step for step in self.steps if not step.is_breakpoint), 1)
        kept = tuple(step for number, step in numbered if number in chosen or step.stage in always)
        return attrs.evolve(self, steps=kept)

    def check_data(self, context: Context) -> None:
        """Refuse data that lack what the recipe needs.

        Raises
        ------
        DataError : an intent of ``needs`` is absent; the sentence names the measurement sets.
        """
        for ms in context.measurement_sets:
            present = {str(intent) for intent in ms.intents}
            missing = [intent for intent in self.needs.intents if intent not in present]
            if missing:
                has = ", ".join(sorted(present)) or "no intents at all"
                raise DataError(
                    f"{ms.name} has no scan with intent {' or '.join(missing)}, which recipe {self.name} needs (it has "
                    f"{has}); give intents with --intent 'INTENT=FIELD' or --intents-file."
                )

    def data_paths(self, folder: Path | None = None) -> list[Path]:
        """Return where a processing request says its data are.

        The observatories' rule: ``$SCIPIPE_ROOTDIR/<relative path>/rawdata/<name>``, or ``../rawdata/<name>`` seen from
        ``folder`` (default: the current one); a data set that lies beside the request is found as well.
        """
        here = folder or Path.cwd()
        root = os.environ.get("SCIPIPE_ROOTDIR")
        found = []
        for item in self.data:
            candidates = [here.parent / "rawdata" / item.name, here / item.name]
            if self.source is not None:
                candidates.append(self.source.parent / item.name)
            if root:
                candidates.insert(0, Path(root) / item.relative_path / "rawdata" / item.name)
            found.append(next((path for path in candidates if path.exists()), candidates[0]))
        return found


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(path: Path | str) -> Recipe:
    """Read a recipe from YAML, procedure XML or a processing request; recognised by content.

    Raises
    ------
    InputError : the file is missing, or is no recipe.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise InputError(f"The recipe {path} is {size / 1e6:.0f} MB large; that is no recipe.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no recipe file {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a recipe.") from None
    except UnicodeDecodeError:
        raise InputError(f"The recipe {path} is not text.") from None
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    return attrs.evolve(loads(text, str(path), path.stem), source=path)


def loads(text: str, where: str = "the recipe", stem: str = "recipe") -> Recipe:
    """Read a recipe from text; ``where`` names it in errors, ``stem`` is its name when the text has none."""
    # Both are written in terms of the records of this module.
    from .recipe_xml import from_xml
    from .recipe_yaml import from_yaml

    return from_xml(text, where, stem) if text.lstrip().startswith("<") else from_yaml(text, where, stem)


def split_reference(reference: str) -> tuple[str, PurePosixPath]:
    """Return package and path of ``package:path/inside/it``."""
    package, _, inside = reference.partition(":")
    path = PurePosixPath(inside)
    if not NAME.match(package) or not inside or path.is_absolute() or ".." in path.parts:
        raise InputError(f"'{reference}' is no file of a package; write package:path/inside/it.")
    return package, path


def _inside_package(reference: str) -> Path:
    package, path = split_reference(reference)
    spec = importlib.util.find_spec(package)  # a top-level package is found without being imported
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"The demo's data come with the package '{package}', which is not installed.")
    for folder in spec.submodule_search_locations:
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise InputError(f"The package '{package}' is installed, but holds no {path}; install a newer one.")


# ---- values ----------------------------------------------------------------------------------------------------------


def references(value: Any) -> list[str]:
    """Return the names of all ``${name}`` in a value."""
    if isinstance(value, str):
        return _REFERENCE.findall(value)
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in references(item)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in references(item)]
    return []


def _substitute(value: Any, settled: Mapping[str, Any], recipe: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _substitute(v, settled, recipe) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_substitute(item, settled, recipe) for item in value]
    if not isinstance(value, str):
        return value
    for name in _REFERENCE.findall(value):
        if name not in settled:
            raise UnknownName("parameter", name, settled, f" in recipe {recipe}")
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return settled[whole.group(1)]
    if any(settled[name] is None for name in _REFERENCE.findall(value)):
        return None
    return _REFERENCE.sub(lambda match: str(settled[match.group(1)]), value)


def anchored(inputs: type[Inputs], values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return values in which relative paths count from ``folder``: stages run in the work folder, people elsewhere."""
    from .params import parameters

    known = parameters(inputs)
    found = dict(values)
    for name, value in values.items():
        kinds = (known[name].type, *typing.get_args(known[name].type)) if name in known else ()
        if Path in kinds and isinstance(value, (str, Path)) and str(value):
            found[name] = str(folder / Path(value).expanduser())
    return found


# ---- checking --------------------------------------------------------------------------------------------------------


def problems(recipe: Recipe, registry: Registry, sets: Mapping[str, Mapping[str, Any]] | None = None) -> list[PlError]:
    """Return everything that is wrong with a recipe, found without looking at data.

    ``sets`` are the caller's own values by stage; a stage that the recipe does not have is a mistake.
    """
    from . import params

    found: list[PlError] = []
    recipe = recipe.bind()  # parameters that nobody has set yet have their defaults
    known = list(registry.stages)
    unknown = [step.stage for step in recipe.steps if not step.is_breakpoint and step.stage not in known]
    if unknown:
        found.append(_unknown_stages(recipe, list(dict.fromkeys(unknown)), known))
    for stage in sets or {}:
        if stage not in recipe.stage_names:
            found.append(UnknownName("stage", stage, recipe.stage_names, f" in recipe {recipe.name}"))
    for step in recipe.steps:
        if step.when:
            try:
                conditions.parse(step.when)
            except PlError as error:
                found.append(error)
        if step.is_breakpoint or step.stage in unknown:
            continue
        try:
            params.resolve(
                registry.stage(step.stage).inputs_class, step.parameters, (sets or {}).get(step.stage, {}), step.stage
            )
        except PlError as error:
            if error.sentence not in [other.sentence for other in found]:  # a stage may be there twice
                found.append(error)
    if not recipe.stage_names:
        found.append(InputError(f"The recipe {recipe.name} has no stage."))
    return found


def _unknown_stages(recipe: Recipe, unknown: Sequence[str], known: Iterable[str]) -> PlError:
    known = list(known)
    hints = [UnknownName("stage", name, known) for name in unknown]
    if len(unknown) == 1:
        return UnknownName("stage", unknown[0], known, f" among the installed plugins (recipe {recipe.name})")
    named = ", ".join(f"{h.name} (near: {h.near[0]})" if h.near else h.name for h in hints)
    return InputError(
        f"The recipe {recipe.name} asks for {len(unknown)} stages that no installed plugin offers: {named}."
    )


def validate(recipe: Recipe, registry: Registry, sets: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Refuse a recipe that cannot run with the installed plugins.

    Raises
    ------
    InputError : an unknown stage or parameter, a wrong type, unit or choice, or a condition that cannot be read; when
        there are several, the sentence holds them all.
    """
    found = problems(recipe, registry, sets)
    if len(found) == 1:
        raise found[0]
    if found:
        raise InputError(" ".join(problem.sentence for problem in found))
