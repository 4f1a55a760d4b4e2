"""``pl status``, ``log``, ``history``, ``rewind``, ``branch``: looking at a run, and going back in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UnknownName
from . import output
from .app import OK, debug_option, json_option

if TYPE_CHECKING:
    from ..journal import RunFolder, RunRecord, StageRecord

LEVELS = ("info", "attention", "warning", "error")
run_argument = click.argument("root", metavar="RUN", type=click.Path(path_type=Path), default=Path())


@click.command()
@run_argument
@json_option
@debug_option
def status(root: Path, as_json: bool) -> int:
    """Tell how far the run in folder RUN (default: here) is, and how good."""
    folder, record = _open(root)
    stages = list(_stages(folder))
    running = folder.is_held()
    state = record.status if record.status != "running" or running else "interrupted"
    scores = [s.score for s in stages if s.score is not None]
    total = sum(1 for s in record.steps if s.stage != "breakpoint")
    if as_json:
        output.write_json(
            {
                "run": str(folder.root), "status": state, "stages_done": sum(s.done for s in stages),
                "stages": total, "score": min(scores, default=None), "recipe": record.recipe.get("name", ""),
                "failed": [s.name for s in stages if not s.done and s.error],
            }
        )  # fmt: skip
        return OK
    output.heading(f"{record.name}: {state}, {sum(s.done for s in stages)} of {total} stages")
    rows = []
    for stage in stages:
        said = output.score_text(stage.score) if stage.status == "ok" else click.style(stage.status, dim=True)
        seconds = (stage.ended - stage.started).total_seconds()
        rows.append((str(stage.number), stage.name, f"{seconds:.0f} s", said))
    output.columns(rows)
    for stage in stages:
        if stage.error:
            output.paragraph(stage.error.sentence, "  ")
    if state != "done" and not running:
        click.echo(f"Go on: pl resume {root}")
    return OK


@click.command()
@run_argument
@click.argument("stage", required=False)
@click.option("--level", type=click.Choice(LEVELS), default="attention", show_default=True, help="Least level to show.")
@click.option("--casa", is_flag=True, help="Show CASA's own log of the stage.")
@json_option
@debug_option
def log(root: Path, stage: str | None, level: str, casa: bool, as_json: bool) -> int:
    """Show what the stages of a run had to say; STAGE (name or number) limits it to one."""
    from ..casa.records import LogRecord
    from ..serialize import read_json, to_json

    folder, _ = _open(root)
    chosen = [(p, s) for p, s in _stage_folders(folder) if stage is None or stage in (s.name, str(s.number))]
    if stage is not None and not chosen:
        raise UnknownName("stage", stage, [s.name for _, s in _stage_folders(folder)], f" in {root}")
    if casa:
        for path, _ in chosen:
            if (path / "casa.log").is_file():
                click.echo((path / "casa.log").read_text(errors="replace"), nl=False)
        return OK
    entries = []
    for path, record in chosen:
        file = path / "log.json"
        for said in read_json(file, tuple[LogRecord, ...]) if file.is_file() else ():
            if said.level not in LEVELS or LEVELS.index(said.level) >= LEVELS.index(level):
                entries.append({"stage": record.number, "name": record.name, **to_json(said)})
    if as_json:
        output.write_json(entries)
        return OK
    colours = {"error": "red", "warning": "yellow", "attention": "cyan"}
    for entry in entries:
        word = click.style(f"{entry['level']:<9}", fg=colours.get(entry["level"]))
        click.echo(f"{entry['stage']:>3} {entry['name']:<24} {word} {entry['message']}")
    return OK


@click.command()
@run_argument
@json_option
@debug_option
def history(root: Path, as_json: bool) -> int:
    """Tell what happened in a run, attempts that failed and returns to earlier stages included."""
    folder, _ = _open(root)
    events = [e for e in _events(folder) if e["kind"] not in ("log", "site_written", "stage_started")]
    if as_json:
        output.write_json(events)
        return OK
    for event in events:
        when = datetime.fromisoformat(event["time"]).strftime("%Y-%m-%d %H:%M:%S")
        data = event["data"]
        number = f"{event['stage_number']:>3} {event['stage']}" if event["stage_number"] else ""
        said = data.get("message") or data.get("status") or ""
        score, seconds = data.get("score"), data.get("seconds", 0)
        if event["kind"] == "stage_finished" and all(isinstance(n, (int, float)) for n in (score, seconds)):
            said = f"score {score:.2f}, {seconds:.1f} s"
        click.echo(f"{when}  {event['kind'].replace('_', ' '):<15} {number:<30} {said}".rstrip())
    return OK


@click.command()
@run_argument
@click.argument("stage")
@debug_option
def rewind(root: Path, stage: str) -> int:
    """Go back to before stage number STAGE, or to the state that h_save named STAGE: data and context are again what
    they were.  The records are kept."""
    from ..common.save import stage_after
    from ..session import Session

    number = stage_after(root, stage)
    with Session.open(root, before=number) as session:
        done = len(session.stages)
    click.echo(f"{root} is back at the end of stage {done}; 'pl resume {root}' runs stage {number} again.")
    return OK


@click.command()
@run_argument
@click.argument("stage")
@click.option("--as", "target", type=click.Path(path_type=Path),
              help="Folder of the new run; default: RUN-branch-STAGE.")  # fmt: skip
@click.option("--set", "assignments", multiple=True, metavar="STAGE.PARAMETER=VALUE",
              help="Set a parameter of a stage still to run; may be given several times.")  # fmt: skip
@click.option("--go", is_flag=True, help="Run it at once.")
@json_option
@debug_option
def branch(
    root: Path, stage: str, target: Path | None, assignments: tuple[str, ...], go: bool, as_json: bool
) -> int:
    """Make a new run that is RUN before stage number STAGE, or in the state saved as STAGE, to try something else."""
    from ..branch import branch as make
    from ..common.save import stage_after
    from ..plugins import registry
    from .running import follow, parse_assignments, seen_from_here

    source = root.resolve()
    target = target or source.with_name(f"{source.name}-branch-{stage}")
    overrides = seen_from_here(parse_assignments(assignments), registry())
    with make(source, stage_after(source, stage), target, overrides=overrides) as session:
        if go:
            return follow(session, None, as_json)
    click.echo(f"Made {target}; run it with: pl resume {target}")
    return OK


def _open(root: Path) -> tuple[RunFolder, RunRecord]:
    from ..journal import RunFolder

    folder = RunFolder(root)
    return folder, folder.read_run()


def _stage_folders(folder: RunFolder) -> Iterator[tuple[Path, StageRecord]]:
    for path in folder.stage_dirs():
        record = folder.read_stage(path)
        if record is not None:
            yield path, record


def _stages(folder: RunFolder) -> Iterator[StageRecord]:
    for _, record in _stage_folders(folder):
        yield record


def _events(folder: RunFolder) -> list[dict[str, Any]]:
    from ..errors import PlError
    from ..events import Event
    from ..serialize import from_json, to_json

    path = folder.root / "events.jsonl"
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # the line that was being written when the process was killed
            continue
        with contextlib.suppress(PlError):  # a line that is no event says nothing about the others
            events.append(to_json(from_json(event, Event)))
    return events



