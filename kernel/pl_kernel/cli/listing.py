"""``pl stages``, ``describe``, ``recipes``, ``plugins``: what is installed.  Nothing here imports CASA or draws."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from ..errors import PlError, UnknownName
from ..plugins import Registry, registry
from . import output
from .app import debug_option, json_option


@click.command()
@click.argument("words", nargs=-1)
@click.option("--plugin", help="Only stages of this plugin.")
@json_option
@debug_option
def stages(words: tuple[str, ...], plugin: str | None, as_json: bool) -> None:
    """List the stages that the installed plugins offer.

    WORDS narrow the list: every word must occur in the name or the summary.
    """
    known = registry()
    if plugin is not None and plugin not in {p.name for p in known.plugins}:
        raise UnknownName("plugin", plugin, (p.name for p in known.plugins))
    found = [
        entry
        for entry in sorted(known.stages.values(), key=lambda e: (e.plugin, e.name))
        if plugin in (None, entry.plugin)
        and all(word.casefold() in f"{entry.name} {entry.summary}".casefold() for word in words)
    ]
    if as_json:
        output.write_json([{"name": e.name, "plugin": e.plugin, "summary": e.summary} for e in found])
        return
    for name in dict.fromkeys(entry.plugin for entry in found):
        output.heading(name)
        output.columns([(e.name, e.summary) for e in found if e.plugin == name])
        click.echo()
    if not found:
        click.echo("No stage matches." if words or plugin else "No stage is installed; install a plugin.")
    _mention_refused(known)


def _mention_refused(known: Registry) -> None:
    refused = [p.name for p in known.plugins if not p.accepted]
    if refused:
        click.echo(f"Refused plugins: {', '.join(refused)}; 'pl plugins' says why.", err=True)


@click.command()
@click.argument("name")
@click.option("--all", "show_all", is_flag=True, help="Include parameters for experts.")
@json_option
@debug_option
def describe(name: str, show_all: bool, as_json: bool) -> None:
    """Show the stage NAME with all its parameters, or the recipe NAME with its stages."""
    known = registry()
    if name not in known.stages and (name in known.recipes or Path(name).suffix in (".yaml", ".yml", ".xml")):
        _describe_recipe(name, known, as_json)
        return
    if name not in known.stages:
        raise UnknownName("stage or recipe", name, [*known.stages, *known.recipes])
    from ..params import parameters

    stage = known.stage(name)
    entries = [p for p in parameters(stage.inputs_class).values() if show_all or as_json or not p.hidden]
    if as_json:
        output.write_json(
            {
                "name": name, "plugin": known.stages[name].plugin, "summary": stage.summary(), "topic": stage.topic,
                "mutates": sorted(stage.mutates), "doc": inspect.getdoc(stage) or "",
                "parameters": [
                    {
                        "name": p.name, "type": p.type_name, "unit": p.unit, "default": _shown(p.default), "doc": p.doc,
                        "choices": list(p.choices), "minimum": p.minimum, "maximum": p.maximum, "hidden": p.hidden,
                    }
                    for p in entries
                ],
            }
        )  # fmt: skip
        return
    output.heading(f"{name}  ({known.stages[name].plugin})")
    click.echo(inspect.getdoc(stage) or "")
    if stage.mutates:
        click.echo(f"\nAlters: {', '.join(sorted(stage.mutates))}")
    click.echo()
    output.heading("Parameters")
    for p in entries:
        default = "decided by the stage" if p.default is None else f"default {_shown(p.default)!r}"
        if _shown(p.default) == "required":
            default = "must be given"
        limits = _limits(p)
        click.echo(f"  {click.style(p.name, fg='cyan')}: {p.type_name}, {default}{limits}")
        output.paragraph(p.doc, indent="      ")
    hidden = [p.name for p in parameters(stage.inputs_class).values() if p.hidden]
    if hidden and not show_all:
        click.echo()
        output.paragraph(f"More parameters, shown with --all: {', '.join(hidden)}.", indent="  ")


def _limits(p: Any) -> str:
    parts = []
    if p.choices:
        parts.append("one of " + ", ".join(str(choice) for choice in p.choices))
    if p.minimum is not None:
        parts.append(f"at least {p.minimum:g}")
    if p.maximum is not None:
        parts.append(f"at most {p.maximum:g}")
    return "".join(f"; {part}" for part in parts)


def _shown(default: Any) -> Any:
    import attrs

    return "required" if default is attrs.NOTHING else default


def find_recipe(name: str, known: Registry) -> Any:
    """Return the recipe of this name among the plugins' recipes, or in the file of this name.

    Raises
    ------
    UnknownName : neither exists; the sentence has near matches.
    """
    from ..recipe import load

    if name in known.recipes:
        return load(known.recipes[name])
    path = Path(name).expanduser()
    if path.is_file() or path.suffix in (".yaml", ".yml", ".xml") or len(path.parts) > 1:
        return load(path)
    raise UnknownName("recipe", name, known.recipes)


def _describe_recipe(name: str, known: Registry, as_json: bool) -> None:
    recipe = find_recipe(name, known)
    if as_json:
        output.write_json(_recipe_as_json(recipe))
        return
    output.heading(f"{recipe.name}  {recipe.title if recipe.title != recipe.name else ''}".rstrip())
    if recipe.description:
        output.paragraph(recipe.description)
    if recipe.needs.intents:
        click.echo(f"Needs scans with intent {', '.join(recipe.needs.intents)}.")
    if recipe.parameters:
        click.echo()
        output.heading("Parameters (-p name=value)")
        rows = [(p, "open" if p.default is None else f"{p.default} {p.unit}".strip()) for p in recipe.parameters]
        output.columns([(p.name, default, p.doc) for p, default in rows])
    click.echo()
    output.heading("Stages")
    steps = []
    for step in recipe.steps:
        values = ", ".join(f"{key}={value!r}" for key, value in step.parameters.items())
        steps.append((step.stage, (values + (f"  when {step.when}" if step.when else "")).strip()))
    output.columns(steps)


def _recipe_as_json(recipe: Any) -> dict[str, Any]:
    return {
        "name": recipe.name, "title": recipe.title, "description": recipe.description,
        "source": str(recipe.source or ""),
        "parameters": [{"name": p.name, "default": p.default, "unit": p.unit, "doc": p.doc} for p in recipe.parameters],
        "needs": {"intents": list(recipe.needs.intents)}, "demo": recipe.demo.title if recipe.demo else None,
        "stages": [{"stage": s.stage, "parameters": dict(s.parameters), "when": s.when} for s in recipe.steps],
    }  # fmt: skip


@click.command()
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Turn a procedure or processing request into YAML."
)
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="Write the YAML to this file.")
@json_option
@debug_option
def recipes(source: Path | None, target: Path | None, as_json: bool) -> None:
    """List recipes, or turn an observatory's procedure XML into a recipe in YAML (--from FILE)."""
    known = registry()
    if source is not None:
        _convert(source, target, known, as_json)
        return
    if target is not None:
        raise click.UsageError("-o goes with --from.")
    rows, broken = [], []
    for name, path in sorted(known.recipes.items()):
        try:
            rows.append(find_recipe(name, known))
        except PlError as error:
            broken.append((name, str(path), error.sentence))
    if as_json:
        output.write_json([_recipe_as_json(recipe) for recipe in rows])
    elif not rows:
        click.echo("No recipe is installed; install a plugin, or give 'pl run' a recipe file.")
    else:
        titles = [r.title + (" [demo]" if r.demo else "") for r in rows]
        output.columns([(r.name, f"{len(r.stage_names)} stages", t) for r, t in zip(rows, titles, strict=True)])
    for name, place, sentence in broken:
        click.echo(f"Recipe {name} ({place}) cannot be read: {sentence}", err=True)


def _convert(source: Path, target: Path | None, known: Registry, as_json: bool) -> None:
    from ..recipe import load, problems
    from ..recipe_yaml import to_yaml

    recipe = load(source)
    if as_json:
        output.write_json(_recipe_as_json(recipe))
    elif target is None:
        click.echo(to_yaml(recipe), nl=False)
    else:
        if target.exists():
            raise click.UsageError(f"{target} exists already; choose another name.")
        target.write_text(to_yaml(recipe), encoding="utf-8")
        click.echo(f"Wrote {target}: {len(recipe.stage_names)} stages.", err=True)
    for problem in problems(recipe, known):
        click.echo(f"Note: {problem.sentence}", err=True)


@click.command()
@json_option
@debug_option
def plugins(as_json: bool) -> None:
    """List plugins: accepted, and refused with the reason."""
    known = registry()
    if as_json:
        output.write_json(
            [
                {
                    "name": p.name, "distribution": p.distribution, "version": p.version, "accepted": p.accepted,
                    "reason": p.reason, "stages": list(p.stages), "recipes": list(p.recipes),
                    "commands": list(p.commands), "summary": p.summary,
                }
                for p in known.plugins
            ]
        )  # fmt: skip
        return
    rows = []
    for p in known.plugins:
        offers = [f"{len(kind)} {word}{'s' if len(kind) != 1 else ''}" for kind, word in
                  ((p.stages, "stage"), (p.recipes, "recipe"), (p.commands, "command")) if kind]  # fmt: skip
        said = ", ".join(offers) or "nothing yet"
        rows.append((p.name, p.version, p.distribution, said if p.accepted else f"REFUSED: {p.reason}"))
    output.columns(rows)
