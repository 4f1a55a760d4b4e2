"""Recipes in the observatories' XML: procedures, and processing requests, which name data and sessions besides."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs

from .errors import InputError
from .recipe import NAME, Recipe, RecipeParameter, RequestedData, Step, references

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TEMPLATE = re.compile(r"\{\{\{?\s*([A-Za-z_]\w*)\s*\}?\}\}")


def from_xml(text: str, where: str, stem: str) -> Recipe:
    """Read a recipe from the text of a procedure or a processing request; see ``recipe.loads``."""
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
    wanted = dict.fromkeys(ref for step in steps for ref in references(step.parameters))
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
    if not NAME.match(name):
        raise InputError(f"{where} holds a command without a usable name ({name!r}).")
    values: dict[str, Any] = {}
    for parameter in _all(command, "Parameter"):
        keyword = _text(parameter, "Keyword")
        if not NAME.match(keyword):
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
    name = recipe.title if NAME.match(recipe.title) else recipe.name
    return attrs.evolve(recipe, name=name, data=tuple(data), project=project, intents=intents)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
