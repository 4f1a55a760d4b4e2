"""``pl compare``, ``timing``, ``batch``: looking at more than one run."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError
from . import output
from .app import FAILED, OK, debug_option, json_option


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("-o", "--output", "page", type=click.Path(path_type=Path), help="Write the comparison as a web page.")
@click.option("--no-data", is_flag=True, help="Compare the journals only, not flags and images.")
@json_option
@debug_option
def compare(first: Path, second: Path, page: Path | None, no_data: bool, as_json: bool) -> int:
    """Show what differs between the runs FIRST and SECOND, the worst differences first."""
    import math

    from ..reports.compare import compare as run
    from ..reports.page import write_report

    comparison = run(first, second, data=not no_data)
    if page is not None:
        write_report(
            page, "compare.html", comparison=comparison, first=first.name, second=second.name, limit=200,
            infinity=math.inf,
        )  # fmt: skip
    if as_json:
        output.write_json(comparison)
        return OK
    for category, found in comparison.differences.items():
        output.heading(f"{category}: {len(found)} of {comparison.compared[category]} differ")
        rows = [
            (d.where, d.what, f"{_short(d.first)} → {_short(d.second)}", d.note[:90]) for d in found[:8]
        ]
        output.columns(rows)
        if len(found) > 8:
            click.echo(f"  … and {len(found) - 8} smaller ones")
    if page is not None:
        click.echo(f"Page: {page}")
    return OK


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Write the stages of all runs as CSV.")
@click.option("--details", is_flag=True, help="With --csv: CASA tasks and plots instead of stages.")
@click.option("-o", "--output", "page", type=click.Path(path_type=Path), help="Write runs side by side as a web page.")
@json_option
@debug_option
def timing(runs: tuple[Path, ...], as_csv: bool, details: bool, page: Path | None, as_json: bool) -> int:
    """Show where the time of RUNS went, per stage and per CASA task."""
    from ..reports import timing as times
    from ..reports.page import write_report

    if details and not as_csv:
        raise InputError("--details needs --csv.")
    found = [times.timing(run) for run in runs]
    if page is not None:
        write_report(page, "timing.html", runs=found, names=[Path(r.run).name for r in found], **times.compared(found))
    if as_csv:
        click.echo(times.details_as_csv(found) if details else times.as_csv(found), nl=False)
        return OK
    if as_json:
        output.write_json(found)
        return OK
    for run in found:
        outside = f"{100 * run.overhead:.0f} % outside"
        output.heading(f"{run.run}: {run.total:.1f} s, of which {run.casa:.1f} s in CASA ({outside})")
        output.columns([times.STAGE_COLUMNS, *(tuple(map(str, times.row(stage))) for stage in run.stages)])
        worst = sorted(run.tasks, key=lambda task: -task.seconds)[:10]
        output.columns([(t.task, t.stage, f"{t.calls} calls", f"{t.seconds:.1f} s") for t in worst])
    if page is not None:
        click.echo(f"Page: {page}")
    return OK


@click.command()
@click.argument("recipe")
@click.argument("listing", metavar="LIST", type=click.Path(path_type=Path))
@click.option("-o", "--output", "root", type=click.Path(path_type=Path), default=Path("pl-batch"), show_default=True,
              help="Folder of all the runs; one that exists is continued.")  # fmt: skip
@click.option("--side-by-side", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--set", "assignments", multiple=True, metavar="STAGE.PARAMETER=VALUE", help="For every run.")
@click.option("--workers", metavar="N|auto", help="Processes of each run.")
@json_option
@debug_option
def batch(
    recipe: str, listing: Path, root: Path, side_by_side: int, assignments: tuple[str, ...], workers: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Run RECIPE on every data set of LIST: a line for each run, '[name:] path [path …]'."""
    from ..plugins import registry
    from ..reports.batch import JobState, read_list, run_batch
    from .listing import find_recipe

    find_recipe(recipe, registry())
    jobs = read_list(listing)
    options = [word for text in assignments for word in ("--set", text)]
    options += ["--workers", workers] if workers else []

    def tell(state: JobState) -> None:
        if not as_json:
            score = output.score_text(state.score)
            click.echo(f"{state.name:<32} {state.status:<12} {score}  {state.message}", err=True)

    states = run_batch(recipe, jobs, root, options=options, side_by_side=side_by_side, on_change=tell)
    if as_json:
        output.write_json(states)
    else:
        click.echo(f"Summary: {root / 'index.html'}")
    return OK if all(state.status == "done" for state in states) else FAILED


def _short(value: object) -> str:
    from ..weblog.views import say

    text = say(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
