"""What a running pipeline looks like in a terminal: the stage at work, how far it is, and scores as they land."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from . import output
from .running import is_terminal

if TYPE_CHECKING:
    from ..events import Event
    from ..session import RunOutcome, Session


class Screen:
    """Listens to the events of a run and shows them line by line; base of the live one, and used without a terminal."""

    def __init__(self, session: Session, quiet: bool = False) -> None:
        self.session = session
        self.quiet = quiet
        self.total = 0
        self.begin = time.monotonic()
        self._stage_begin = self.begin

    def __call__(self, event: Event) -> None:
        data: Any = event.data
        if event.kind == "run_started":
            self.total = int(data.get("steps", 0))
            self.line(f"Run {self.session.root}")
        elif event.kind == "stage_started":
            self._stage_begin = time.monotonic()
            self.stage_started(event)
        elif event.kind == "progress":
            self.progress(event)
        elif event.kind in ("stage_finished", "stage_failed"):
            self.stage_ended(event)
        elif event.kind == "log" and data.get("level") in ("warning", "error"):
            self.line(f"      {data['level']}: {data.get('message', '')}", dim=True)

    def line(self, text: str, dim: bool = False) -> None:
        if not self.quiet:
            click.secho(text, dim=dim, err=True)

    def stage_started(self, event: Event) -> None:
        pass

    def progress(self, event: Event) -> None:
        pass

    def stage_ended(self, event: Event) -> None:
        data: Any = event.data
        number = f"{event.stage_number or 0:>{len(str(self.total))}}/{self.total}"
        seconds = data.get("seconds") or time.monotonic() - self._stage_begin
        if event.kind == "stage_failed" and data.get("status") == "interrupted":
            said = click.style("stopped", fg="yellow")
        elif event.kind == "stage_failed":
            said = click.style("failed", fg="red", bold=True)
        elif data.get("status") == "skipped":
            said = click.style("skipped", dim=True)
        else:
            said = output.score_text(data.get("score"))
        self.line(f"[{number}] {event.stage:<28} {said}  {seconds:7.1f} s")

    def summarise(self, outcome: RunOutcome) -> None:
        """Write how the run ended: the worst stages, time, products and the web log."""
        if self.quiet:
            return
        seconds = time.monotonic() - self.begin
        weblog = self.session.root / "weblog" / "index.html"
        said = {"done": "Done", "failed": "Failed", "stopped": "Stopped"}.get(outcome.status, outcome.status)
        score = output.score_text(outcome.score)
        click.echo(f"{said} after {_duration(seconds)}: {len(outcome.stages)} stages, worst score {score}", err=True)
        worst = sorted(
            (s for s in outcome.stages if s.score is not None and s.score <= 0.66), key=lambda s: s.score or 0.0
        )
        for stage in worst[:5]:
            click.echo(f"  look at stage {stage.number}, {stage.name}: {output.score_text(stage.score)}", err=True)
        if outcome.status == "stopped" and outcome.message:
            click.echo(f"  {outcome.message}", err=True)
        if outcome.status != "done":
            click.echo(f"  Go on:    pl resume {self.session.root}", err=True)
        if any((self.session.root / "products").glob("*")):
            click.echo(f"  Products: {self.session.root / 'products'}", err=True)
        if weblog.is_file():
            click.echo(f"  Web log:  {weblog}", err=True)


class LiveScreen(Screen):
    """The same with a moving line for the stage at work."""

    def __init__(self, session: Session) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().__init__(session)
        self.console = Console(stderr=True, highlight=False)
        self.bars = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[message]}"), TimeElapsedColumn(), console=self.console, transient=True,
        )  # fmt: skip
        self.task: Any = None

    def line(self, text: str, dim: bool = False) -> None:
        from rich.text import Text

        self.console.print(Text.from_ansi(click.style(text, dim=True) if dim else text))

    def stage_started(self, event: Event) -> None:
        self._drop()
        self.task = self.bars.add_task(f"[{event.stage_number}/{self.total}] {event.stage}", total=None, message="")

    def progress(self, event: Event) -> None:
        data: Any = event.data
        if self.task is not None:
            message = str(data.get("message") or "")[:50]
            self.bars.update(self.task, completed=data.get("done", 0), total=data.get("total") or None, message=message)

    def stage_ended(self, event: Event) -> None:
        self._drop()
        super().stage_ended(event)

    def _drop(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def watch(session: Session, quiet: bool = False) -> Iterator[Screen]:
    """Show the events of a session while it runs."""
    screen: Screen
    if quiet or not is_terminal():
        screen = Screen(session, quiet)
        session.events.subscribe(screen)
        try:
            yield screen
        finally:
            session.events.unsubscribe(screen)
        return
    screen = LiveScreen(session)
    session.events.subscribe(screen)
    try:
        with screen.bars:
            yield screen
    finally:
        session.events.unsubscribe(screen)
