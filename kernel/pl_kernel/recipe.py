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

import ast
import importlib.util
import os
import re
import typing
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from . import conditions
from .errors import DataError, InputError, PlError, UnknownName

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from .context import Context
    from .params import Inputs
    from .stage import Stage

BREAKPOINT = "breakpoint"
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_TEMPLATE = re.compile(r"\{\{\{?\s*([A-Za-z_]\w*)\s*\}?\}\}")
_SPAN = re.compile(r"(\d+)(?:-(\d+))?")
_NAME = re.compile(r"[A-Za-z]\w*\Z")
_LARGEST = 4_000_000  # bytes; the largest real processing request is far below 1 MB
_TOP_KEYS = ("name", "title", "description", "parameters", "needs", "demo", "stages")
_PARAMETER_KEYS = ("default", "doc", "unit")


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
    return _from_xml(text, where, stem) if text.lstrip().startswith("<") else _from_yaml(text, where, stem)


def _from_yaml(text: str, where: str, stem: str) -> Recipe:
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
        for reference in _references(step.parameters):
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
        if not isinstance(name, str) or not _NAME.match(name):
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
        _split_reference(str(reference))
    return Demo(
        data=tuple(str(reference) for reference in content["data"]),
        title=str(content.get("title") or ""),
        parameters=dict(content.get("parameters") or {}),
    )


def _split_reference(reference: str) -> tuple[str, PurePosixPath]:
    package, _, inside = reference.partition(":")
    path = PurePosixPath(inside)
    if not _NAME.match(package) or not inside or path.is_absolute() or ".." in path.parts:
        raise InputError(f"'{reference}' is no file of a package; write package:path/inside/it.")
    return package, path


def _inside_package(reference: str) -> Path:
    package, path = _split_reference(reference)
    spec = importlib.util.find_spec(package)  # a top-level package is found without being imported
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"The demo's data come with the package '{package}', which is not installed.")
    for folder in spec.submodule_search_locations:
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise InputError(f"The package '{package}' is installed, but holds no {path}; install a newer one.")


# ---- the observatories' XML ------------------------------------------------------------------------------------------


def _from_xml(text: str, where: str, stem: str) -> Recipe:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        # A declared encoding is of no use for text that is decoded already, and refused by the parser.
        root: Element = fromstring(re.sub(r"\A\s*<\?xml[^>]*\?>", "", text), forbid_dtd=True)
    except DefusedXmlException:
        raise InputError(f"{where} defines entities or a document type, which recipes must not.") from None
    except ParseError as error:
        raise InputError(f"{where} is no XML: {error}.") from None
    procedures = [root] if _tag(root) == "ProcessingProcedure" else _all(root, "ProcessingProcedure")
    procedures = [p for p in procedures if _all(p, "ProcessingCommand")] or procedures
    if not procedures:
        raise InputError(f"{where} is neither a procedure nor a processing request: it holds no ProcessingProcedure.")
    if len(procedures) > 1:
        raise InputError(
            f"{where} asks for {len(procedures)} procedures; one run does one: split it into one request each."
        )
    procedure = procedures[0]
    title = _text(procedure, "ProcedureTitle")
    steps = tuple(_xml_step(command, where) for command in _all(procedure, "ProcessingCommand"))
    wanted = dict.fromkeys(ref for step in steps for ref in _references(step.parameters))
    recipe = Recipe(
        name=stem, title=title or stem, steps=steps,
        parameters=tuple(RecipeParameter(name=name, doc="Left open by the template.") for name in wanted),
    )  # fmt: skip
    return recipe if root is procedure else _with_request(recipe, root)


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _all(element: Element, name: str) -> list[Element]:
    return [child for child in element.iter() if _tag(child) == name]


def _text(element: Element, name: str) -> str:
    found = _all(element, name)
    return (found[0].text or "").strip() if found else ""


def _xml_step(command: Element, where: str) -> Step:
    name = _text(command, "Command")
    if not _NAME.match(name):
        raise InputError(f"{where} holds a command without a usable name ({name!r}).")
    values: dict[str, Any] = {}
    for parameter in _all(command, "Parameter"):
        keyword = _text(parameter, "Keyword")
        if not _NAME.match(keyword):
            raise InputError(f"{where}: the command {name} has a parameter without a usable name ({keyword!r}).")
        value = literal(_text(parameter, "Value"))
        if not means_unset(value):
            values[keyword] = value
    return Step(stage=name, parameters=values)


def literal(text: str) -> Any:
    """Return the value that text from XML stands for.

    Numbers, truth values, quoted text and bracketed lists become what they say; all else stays text, and so does
    ``1,2,3``: a selection, not a list.  ``{{name}}`` and ``{{{name}}}`` become ``${name}``.
    """
    text = text.strip()
    if _TEMPLATE.search(text):
        return _TEMPLATE.sub(r"${\1}", text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "," in text and text[:1] not in "([{'\"":
        return text
    if len(text) > 100_000:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "1.5int" is text, not a slip in a program
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if _is_plain(value) else text


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, (str, int)) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def means_unset(value: Any) -> bool:
    """Whether a value is one that the observatories' procedures and scripts write for "not given" (2026)."""
    return value is None or value == "context" or value in ("", [], ()) or value in (["", ""], ("", ""))


def _with_request(recipe: Recipe, root: Element) -> Recipe:
    project: dict[str, str] = {}
    for summary in _all(root, "ProjectSummary")[:1]:
        project.update({_snake(_tag(c)): (c.text or "").strip() for c in summary if (c.text or "").strip()})
    for kind in ("ObsUnitSetRef", "ProjectStatusRef", "OUSStatusRef"):
        for reference in _all(root, kind)[:1]:
            project[f"{_snake(kind)}_entity_id"] = reference.get("entityId", "")
    intents = {
        _text(entry, "Keyword"): _text(entry, "Value")
        for group in _all(root, "ProcessingIntents")
        for entry in _all(group, "Intents")
        if _text(entry, "Keyword")
    }
    session_of: dict[str, str] = {}
    for keyword, value in intents.items():
        if re.fullmatch(r"SESSION_\d+", keyword, re.IGNORECASE):
            for uid in value.split("|"):
                session_of[uid.strip()] = keyword.lower()
    data = []
    for block in _all(root, "SchedBlockIdentifier"):
        folder = _text(block, "RelativePath")
        for identifier in _all(block, "AsdmIdentifier"):
            execution, name = _text(identifier, "ExecBlockId"), _text(identifier, "AsdmDiskName")
            if not name:
                continue
            if PurePosixPath(name).name != name or name in (".", ".."):
                raise InputError(f"The request names a data set '{name}', which is no plain file name.")
            session = session_of.get(execution, "session_1")
            data.append(RequestedData(name=name, relative_path=folder, execution=execution, session=session))
    name = recipe.title if _NAME.match(recipe.title) else recipe.name
    return attrs.evolve(recipe, name=name, data=tuple(data), project=project, intents=intents)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


# ---- values ----------------------------------------------------------------------------------------------------------


def _references(value: Any) -> list[str]:
    if isinstance(value, str):
        return _REFERENCE.findall(value)
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in _references(item)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in _references(item)]
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


# ---- writing ---------------------------------------------------------------------------------------------------------


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
