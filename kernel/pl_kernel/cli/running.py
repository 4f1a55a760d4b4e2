"""``pl run``, ``resume``, ``demo``: everything that can be checked is checked before any work starts."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError, UnknownName
from . import output
from .app import FAILED, INTERRUPTED, LOW_SCORE, OK, debug_option, json_option
from .listing import find_recipe

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..recipe import Recipe
    from ..session import RunOutcome, Session

_ASSIGNMENT = re.compile(r"([A-Za-z]\w*)\.([A-Za-z]\w*)=(.*)", re.DOTALL)


def _workers(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    import os

    if value is None:
        return None
    if value == "auto":
        return max(1, os.cpu_count() or 1)
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"'{value}' is neither a number of processes nor 'auto'.")
    return int(value)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    ctx.meta[f"pl.{parameter.name}"] = value


def how_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where items run and what counts as success; kept in the click context, where ``follow`` finds them."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option("--scheduler", metavar="ADDRESS", callback=_remember, expose_value=False,
                     help="Dask scheduler for work that can be done side by side."),
        click.option("--cluster", metavar="SYSTEM", callback=_remember, expose_value=False,
                     help="Start Dask workers on a batch system (slurm, pbs, lsf, sge, htcondor, oar, local)."),
        click.option("--cluster-settings", metavar="FILE", callback=_remember, expose_value=False,
                     help="YAML with the queue's settings for --cluster."),
        click.option("--fail-under", type=click.FloatRange(0, 1), metavar="SCORE", callback=_remember,
                     expose_value=False, help="End with exit code 3 when the worst score is below this."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that ``run`` and ``demo`` share."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option("--set", "assignments", multiple=True, metavar="STAGE.PARAMETER=VALUE",
                     help="Set a parameter of a stage; may be given several times."),
        click.option("-p", "--parameter", "values", multiple=True, metavar="NAME=VALUE",
                     help="Set a parameter of the recipe."),
        click.option("--workers", callback=_workers, metavar="N|auto",
                     help="Processes for work that can be done side by side; default 1."),
        click.option("--stop-after", metavar="STAGE", help="Stop when this stage (name or number) is done."),
        click.option("--only", multiple=True, metavar="STAGE",
                     help="Run just this stage of the recipe (name, number, or 3-7) besides the import; may be given "
                     "several times."),
        how_options,
        json_option,
        debug_option,
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("recipe")
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", "root", type=click.Path(path_type=Path),
              help="The run folder to make; default: the recipe's name, in the current folder.")  # fmt: skip
@click.option("--intent", "intents", multiple=True, metavar="RULE",
              help="What fields were observed for, such as 'BANDPASS,AMPLITUDE=1331+305*'.")  # fmt: skip
@click.option("--intents-file", type=click.Path(path_type=Path), help="A file of such rules.")
@click.option("--in-place", is_flag=True, help="Work on the measurement sets themselves, not on copies.")
@run_options
def run(
    recipe: str, data: tuple[Path, ...], root: Path | None, intents: tuple[str, ...], intents_file: Path | None,
    in_place: bool, assignments: tuple[str, ...], values: tuple[str, ...], workers: int | None, stop_after: str | None,
    only: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Run RECIPE on DATA: measurement sets, UVFITS files and whatever else an importer is installed for.

    RECIPE is the name of an installed recipe ('pl recipes'), or a file: YAML, an observatory's procedure XML, or a
    processing request, which names its data itself.
    """
    from ..params import parameters
    from ..plugins import registry

    known = registry()
    plan = chosen_stages(find_recipe(recipe, known), only, known)
    overrides = parse_assignments(assignments)
    importing = _import_stage(plan, known)
    for name, value in (
        ("intents", list(intents)), ("intents_file", _rules_file(intents_file)), ("in_place", in_place or None)
    ):  # fmt: skip
        if value:
            option = "--" + ("intent" if name == "intents" else name.replace("_", "-"))
            if importing is None:
                raise InputError(f"The recipe {plan.name} imports no data; {option} has no meaning.")
            if name not in parameters(known.stage(importing).inputs_class):
                raise InputError(f"The stage {importing} of recipe {plan.name} does not know {option}.")
            overrides.setdefault(importing, {})[name] = value
    _check_rules(intents, intents_file)
    paths = list(data) or plan.data_paths()
    if plan.data and not data and importing and "session" in parameters(known.stage(importing).inputs_class):
        overrides.setdefault(importing, {}).setdefault("session", [item.session for item in plan.data])
    if not paths and importing is not None:
        raise InputError(f"The recipe {plan.name} needs data: pl run {recipe} PATH …")
    return start(
        plan, paths, root or Path(plan.name), known, overrides, parse_values(values), workers, stop_after, as_json
    )


@click.command()
@click.argument("root", metavar="RUN", type=click.Path(path_type=Path), default=Path())
@click.option("--workers", callback=_workers, metavar="N|auto", help="Processes for work done side by side.")
@click.option("--stop-after", metavar="STAGE", help="Stop when this stage (name or number) is done.")
@how_options
@json_option
@debug_option
def resume(root: Path, workers: int | None, stop_after: str | None, as_json: bool) -> int:
    """Go on with the run in folder RUN (default: here) after its last good stage."""
    from ..session import Session

    with Session.open(root, workers=workers) as session:
        return follow(session, stop_after, as_json)


@click.command()
@click.argument("name", required=False)
@click.option("-o", "--output", "root", type=click.Path(path_type=Path), default=Path("pl-demo"), show_default=True,
              help="The run folder to make; one that holds an unfinished demo is resumed.")  # fmt: skip
@click.option("--list", "only_list", is_flag=True, help="List the recipes that come with data.")
@run_options
def demo(
    name: str | None, root: Path, only_list: bool, assignments: tuple[str, ...], values: tuple[str, ...],
    workers: int | None, stop_after: str | None, only: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Run the recipe NAME on the data that come with it; without NAME, the only one there is."""
    from ..plugins import registry
    from ..session import Session

    known = registry()
    offered = {}
    for recipe_name in known.recipes:
        plan = find_recipe(recipe_name, known)
        if plan.demo is not None:
            offered[recipe_name] = plan
    if not offered:
        raise InputError("No installed recipe comes with a demo; install a plugin whose recipe does.")
    if only_list:
        _list_demos(offered, as_json)
        return OK
    if name is None and len(offered) > 1:
        raise InputError(f"There are {len(offered)} demos; choose one: {', '.join(sorted(offered))}.")
    name = name or next(iter(offered))
    if name not in offered:
        raise UnknownName("demo", name, offered)
    if (root / "run.json").is_file():
        if only:
            raise InputError(f"There is a demo in {root} already, which goes on with its own stages; leave out --only.")
        with Session.open(root, workers=workers) as session:
            return follow(session, stop_after, as_json)
    plan = chosen_stages(offered[name], only, known)
    assert plan.demo is not None
    bound = {**plan.demo.parameters, **parse_values(values)}
    return start(
        plan, plan.demo.paths(), root, known, parse_assignments(assignments), bound, workers, stop_after, as_json
    )


def _list_demos(offered: Mapping[str, Recipe], as_json: bool) -> None:
    rows = [(name, plan.demo.title or plan.title) for name, plan in sorted(offered.items()) if plan.demo]
    if as_json:
        output.write_json([{"name": name, "title": title} for name, title in rows])
    else:
        output.columns(rows)


def chosen_stages(plan: Recipe, only: tuple[str, ...], known: Registry) -> Recipe:
    """Return the recipe with the stages of ``--only`` and its imports; all of it without that option."""
    if not only:
        return plan
    return plan.only(only, {n for n in plan.stage_names if n in known.stages and known.stage(n).takes_data})


def start(
    plan: Recipe, paths: Iterable[Path], root: Path, known: Registry, overrides: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any], workers: int | None, stop_after: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Check recipe, values and data, make the run folder and run."""
    from ..recipe import validate
    from ..session import Session

    bound = plan.bind(values)
    validate(bound, known, overrides)
    overrides = seen_from_here(overrides, known)
    stop = _stop(stop_after, bound)
    with Session.create(root, bound, list(paths), overrides=overrides, workers=workers or 1) as session:
        if bound.project or bound.intents:
            from ..serialize import write_json

            facts = {"ProcessingRequest": bound.project, "ProcessingIntents": bound.intents}
            write_json(session.root / "project.json", facts)
        return follow(session, stop, as_json)


def follow(session: Session, stop_after: str | int | None, as_json: bool) -> int:
    """Run what is left of a session, showing how it goes; return the exit code."""
    from .progress import watch

    if isinstance(stop_after, str) and stop_after.isdigit():
        stop_after = int(stop_after)
    meta = click.get_current_context().meta
    with contextlib.ExitStack() as stack:
        _use_compute(session, meta, stack)
        screen = stack.enter_context(watch(session, quiet=as_json))
        outcome = session.run(stop_after=stop_after)
    if as_json:
        output.write_json(outcome_as_json(session, outcome))
    else:
        screen.summarise(outcome)
    if outcome.status == "failed":
        for line in _log_tail(session):
            click.echo(f"  | {line}", err=True)
        click.secho("pl: ", fg="red", bold=True, nl=False, err=True)
        message = outcome.message.rstrip()
        stop = "" if message.endswith((".", "!", "?")) else "."
        click.echo(f"{message}{stop} The run is kept: 'pl resume {session.root}' repeats the stage.", err=True)
        return FAILED
    if outcome.interrupted:
        return INTERRUPTED
    limit = meta.get("pl.fail_under")
    if limit is not None and outcome.score is not None and outcome.score < limit:
        click.echo(f"pl: The worst score is {outcome.score:.2f}, below {limit:g}.", err=True)
        return LOW_SCORE
    return OK


def _use_compute(session: Session, meta: Mapping[str, Any], stack: contextlib.ExitStack) -> None:
    """Connect the session to a scheduler, or start one on a batch system that ends with the run."""
    address, system = meta.get("pl.scheduler"), meta.get("pl.cluster")
    if address and system:
        raise InputError("Give --scheduler or --cluster, not both.")
    if meta.get("pl.cluster_settings") and not system:
        raise InputError("--cluster-settings needs --cluster.")
    if system:
        from ..compute.dask import read_settings, start_cluster

        settings = read_settings(meta["pl.cluster_settings"]) if meta.get("pl.cluster_settings") else {}
        cluster = stack.enter_context(start_cluster(system, session.workers, settings))
        address = cluster.scheduler_address
    if address:
        session.use_scheduler(address)


def outcome_as_json(session: Session, outcome: RunOutcome) -> dict[str, Any]:
    """The end of a run, for scripts."""
    return {
        "run": str(session.root), "status": outcome.status, "message": outcome.message, "score": outcome.score,
        "weblog": str(session.root / "weblog" / "index.html"), "products": str(session.root / "products"),
        "stages": [
            {"number": s.number, "name": s.name, "status": s.status, "score": s.score, "seconds": s.seconds}
            for s in outcome.stages
        ],
    }  # fmt: skip


def _log_tail(session: Session, lines: int = 8) -> list[str]:
    """Last complaints in CASA's log of the stage that failed, without those that say nothing of the data: these would
    stand above the reason and look like it."""
    from ..casa.records import complaints

    folders = session.folder.stage_dirs()
    log = folders[-1] / "casa.log" if folders else None
    if log is None or not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode("utf-8", "replace")
    return [f"CASA {level}: {message}" for level, _origin, message in complaints(text)][-lines:]


def _import_stage(plan: Recipe, known: Registry) -> str | None:
    for name in plan.stage_names:
        if name in known.stages and known.stage(name).takes_data:
            return name
    return None


def _rules_file(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().resolve())


def _check_rules(intents: Iterable[str], path: Path | None) -> None:
    from ..ms.intents import parse_rule, read_rules

    for rule in intents:
        parse_rule(rule)
    if path is not None:
        read_rules(path.expanduser())


def _stop(stop_after: str | None, plan: Recipe) -> str | int | None:
    if stop_after is None:
        return None
    if stop_after.isdigit():
        number = int(stop_after)
        if not 1 <= number <= len(plan.stage_names):
            raise InputError(f"There is no stage {number} in recipe {plan.name}; it has {len(plan.stage_names)}.")
        return number
    if stop_after not in plan.stage_names:
        raise UnknownName("stage", stop_after, plan.stage_names, f" in recipe {plan.name}")
    return stop_after


def seen_from_here(overrides: Mapping[str, Mapping[str, Any]], known: Registry) -> dict[str, dict[str, Any]]:
    """The caller's values, in which relative paths count from the current folder; unknown stages are left to others."""
    from ..recipe import anchored

    return {
        name: anchored(known.stage(name).inputs_class, given, Path.cwd()) if name in known.stages else dict(given)
        for name, given in overrides.items()
    }


def parse_assignments(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read ``stage.parameter=value``, several times.

    Raises
    ------
    InputError : a text of another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        match = _ASSIGNMENT.fullmatch(text)
        if match is None:
            raise InputError(f"'{text}' sets nothing; write --set STAGE.PARAMETER=VALUE.")
        stage, parameter, value = match.groups()
        found.setdefault(stage, {})[parameter] = value
    return found


def parse_values(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value``, several times; numbers and truth values get their type.

    Raises
    ------
    InputError : a text of another form.
    """
    from ..recipe_xml import literal

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"'{text}' sets nothing; write -p NAME=VALUE.")
        found[name.strip()] = literal(value)
    return found


def is_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stderr.isatty()
