"""Recipes in YAML, read with the safe loader and written back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import conditions
from .errors import InputError, UnknownName
from .recipe import NAME, Demo, Needs, Recipe, RecipeParameter, Step, references, split_reference

_TOP_KEYS = ("name", "title", "description", "parameters", "needs", "demo", "stages")
_PARAMETER_KEYS = ("default", "doc", "unit")


def from_yaml(text: str, where: str, stem: str) -> Recipe:
    """Read a recipe from YAML text; see ``recipe.loads``."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """The safe loader, which would keep the last of two equal keys, and expand aliases of aliases without end."""

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                line = self.peek_event().start_mark.line + 1
                raise InputError(f"{where}, line {line}: a recipe is written without aliases (*name).")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise InputError(f"{where}, line {key.start_mark.line + 1}: '{key.value}' is given twice.")
                seen.add(str(key.value))
            return dict(super().construct_mapping(node, deep))

    try:
        content = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(
            f"{where}{line} is no YAML: {getattr(error, 'problem', None) or 'it cannot be read'}."
        ) from None
    except RecursionError:
        raise InputError(f"{where} is no recipe: it is nested too deeply.") from None
    if not isinstance(content, dict) or "stages" not in content:
        raise InputError(f"{where} is no recipe: it has no list of 'stages'.")
    for key in content:
        if key not in _TOP_KEYS:
            raise UnknownName("entry", str(key), _TOP_KEYS, f" in {where}")
    if not isinstance(content["stages"], list):
        raise InputError(f"{where}: 'stages' must be a list.")
    steps = tuple(_yaml_step(entry, number, where) for number, entry in enumerate(content["stages"], 1))
    name = str(content.get("name") or stem)
    parameters = _yaml_parameters(content.get("parameters"), where)
    declared = {p.name for p in parameters}
    for step in steps:
        for reference in references(step.parameters):
            if reference not in declared:
                raise UnknownName("recipe parameter", reference, declared, f" (used by {step.stage} in {where})")
    return Recipe(
        name=name, title=str(content.get("title") or name), description=str(content.get("description") or "").strip(),
        steps=steps, parameters=parameters, needs=_yaml_needs(content.get("needs"), where),
        demo=_yaml_demo(content.get("demo"), where),
    )  # fmt: skip


def _yaml_step(entry: Any, number: int, where: str) -> Step:
    if isinstance(entry, str):
        return Step(stage=entry)
    if not isinstance(entry, dict):
        raise InputError(f"{where}, stage {number}: write 'name' or 'name: {{parameter: value}}', not {entry!r}.")
    keys = [key for key in entry if key != "when"]
    if len(keys) != 1 or not isinstance(keys[0], str):
        raise InputError(f"{where}, stage {number}: one entry names one stage; this one names {len(keys)}.")
    values = entry[keys[0]]
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InputError(f"{where}: the parameters of {keys[0]} must be written as name: value, not {values!r}.")
    when = "" if entry.get("when") is None else str(entry["when"])
    if when:
        conditions.parse(when)
    return Step(stage=keys[0], parameters={str(k): v for k, v in values.items()}, when=when)


def _yaml_parameters(content: Any, where: str) -> tuple[RecipeParameter, ...]:
    if content is None:
        return ()
    if not isinstance(content, dict):
        raise InputError(f"{where}: 'parameters' must be written as name: {{default: …, doc: …}}.")
    found = []
    for name, entry in content.items():
        if not isinstance(name, str) or not NAME.match(name):
            raise InputError(f"{where}: {name!r} cannot be the name of a parameter.")
        if not isinstance(entry, dict):
            entry = {"default": entry}
        for key in entry:
            if key not in _PARAMETER_KEYS:
                raise UnknownName("entry", str(key), _PARAMETER_KEYS, f" in parameter {name} of {where}")
        found.append(RecipeParameter(name=name, **entry))
    return tuple(found)


def _yaml_needs(content: Any, where: str) -> Needs:
    if content is None:
        return Needs()
    if not isinstance(content, dict) or not isinstance(content.get("intents", []), list):
        raise InputError(f"{where}: 'needs' must be written as 'intents: [NAME, …]'.")
    for key in content:
        if key != "intents":
            raise UnknownName("entry", str(key), ["intents"], f" in 'needs' of {where}")
    return Needs(intents=tuple(str(intent) for intent in content.get("intents", [])))


def _yaml_demo(content: Any, where: str) -> Demo | None:
    if content is None:
        return None
    known = ("title", "data", "parameters")
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise InputError(f"{where}: 'demo' must hold 'data: [package:path, …]'.")
    for key in content:
        if key not in known:
            raise UnknownName("entry", str(key), known, f" in 'demo' of {where}")
    for reference in content["data"]:
        split_reference(str(reference))
    return Demo(
        data=tuple(str(reference) for reference in content["data"]),
        title=str(content.get("title") or ""),
        parameters=dict(content.get("parameters") or {}),
    )


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML, such that ``loads`` gives the same steps, parameters and needs."""
    import yaml

    class Values(dict[str, Any]):
        """Written on one line."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)  # lists are indented below their name

    Dumper.add_representer(
        Values, lambda dumper, values: dumper.represent_mapping("tag:yaml.org,2002:map", values, flow_style=True)
    )
    stages: list[Any] = []
    for step in recipe.steps:
        values = Values(_plain(step.parameters))
        entry: Any = {step.stage: values} if values else step.stage
        if step.when:
            entry = {step.stage: values or None, "when": step.when}
        stages.append(entry)
    content: dict[str, Any] = {"name": recipe.name, "title": recipe.title or recipe.name}
    if recipe.description:
        content["description"] = recipe.description
    if recipe.parameters:
        content["parameters"] = {p.name: Values(_yaml_of_parameter(p)) for p in recipe.parameters}
    if recipe.needs.intents:
        content["needs"] = Values(intents=list(recipe.needs.intents))
    if recipe.demo is not None:
        demo: dict[str, Any] = {"title": recipe.demo.title, "data": list(recipe.demo.data)}
        if recipe.demo.parameters:
            demo["parameters"] = Values(_plain(recipe.demo.parameters))
        content["demo"] = demo
    content["stages"] = stages
    return str(yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110))


def _yaml_of_parameter(parameter: RecipeParameter) -> dict[str, Any]:
    entry = {"default": _plain(parameter.default)}
    if parameter.unit:
        entry["unit"] = parameter.unit
    if parameter.doc:
        entry["doc"] = parameter.doc
    return entry


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
