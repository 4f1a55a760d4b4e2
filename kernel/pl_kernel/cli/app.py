"""The ``pl`` command: its parts are imported when they are called, and every error ends as one sentence."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..errors import PlError, UnknownName

COMMANDS = {
    "run": ("running", "Run a recipe on data."),
    "resume": ("running", "Go on with a run after its last good stage."),
    "demo": ("running", "Run a recipe on the data that come with it."),
    "status": ("history", "Tell how far a run is, and how good."),
    "log": ("history", "Show what the stages of a run had to say."),
    "history": ("history", "Tell what happened in a run, failed attempts included."),
    "rewind": ("history", "Go back to before a stage."),
    "branch": ("history", "Make a new run out of the first stages of another."),
    "compare": ("reports", "Show what differs between two runs."),
    "timing": ("reports", "Show where the time of runs went."),
    "batch": ("reports", "Run a recipe on a list of data sets."),
    "stages": ("listing", "List the stages that the installed plugins offer."),
    "describe": ("listing", "Show a stage with all its parameters, or a recipe with its stages."),
    "recipes": ("listing", "List recipes, or turn an observatory's XML into one."),
    "plugins": ("listing", "List plugins: accepted, and refused with the reason."),
    "weblog": ("weblog", "Open the web log of a run, or serve it on this machine."),
    "doctor": ("doctor", "Check whether everything pl needs is in place."),
    "new-plugin": ("new_plugin", "Write a plugin package to start from; its tests pass at once."),
}
OK, FAILED, REFUSED, LOW_SCORE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: all went well; a stage or the run failed; refused before work started; the worst score is below what was
asked for; stopped from the keyboard."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and summary, and imports one only to call it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __package__)
            command: click.Command = getattr(module, cmd_name.replace("-", "_"))
            return command
        offered = _plugin_commands().get(cmd_name)
        if offered is None:
            return None
        from ..plugins import resolve

        return resolve(offered)  # type: ignore[no-any-return]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS and name not in _plugin_commands():
            raise UnknownName("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])
        plugins = _plugin_commands()
        if plugins:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, _summary(plugins[name])) for name in sorted(plugins)])


def _plugin_commands() -> dict[str, Any]:
    from ..plugins import registry

    return {name: command for name, command in registry().commands.items() if name not in COMMANDS}


def _summary(command: Any) -> str:
    return command.get_short_help_str(80) if isinstance(command, click.Command) else str(command.summary)


def _set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().meta["pl.debug"] = True


def debug_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--debug`` to a command."""
    option = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks of errors."
    )
    return option(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command, as its argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")(function)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pl-kernel", prog_name="pl")
@debug_option
def cli() -> None:
    """pl, a plugin-based pipeline for radio astronomy."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with an exit code."""
    with contextlib.suppress(AttributeError):  # names that are no UTF-8 are shown as they can be
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(call(list(sys.argv[1:] if arguments is None else arguments)))


def call(arguments: list[str]) -> int:
    """Run the command line and return the exit code; errors become one sentence on stderr."""
    debug = "--debug" in arguments
    as_json = "--json" in arguments
    try:
        answer = cli.main(args=arguments, prog_name="pl", standalone_mode=False)
        return answer if isinstance(answer, int) else OK
    except PlError as error:
        return _complain(error.sentence, debug, as_json, error.detail, code=_code_of(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return REFUSED
    except click.UsageError as error:
        return _complain(_usage_sentence(error), debug, as_json)
    except click.ClickException as error:
        return _complain(error.format_message(), debug, as_json)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. What was finished is kept; 'pl resume' goes on with it.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing is left to say, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sentence = f"There is no space left to write {error.filename or 'the run'}; free some and 'pl resume'."
        else:
            sentence = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."
        return _complain(sentence, debug, as_json, code=FAILED)
    except Exception as error:
        sentence = f"pl itself went wrong: {type(error).__name__}: {error}; --debug shows where. Please report it."
        return _complain(sentence, debug, as_json, code=FAILED)


def _code_of(error: PlError) -> int:
    from ..errors import StageFailed

    return FAILED if isinstance(error, StageFailed) else REFUSED


def _usage_sentence(error: click.UsageError) -> str:
    import difflib

    sentence = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [o for p in error.ctx.command.get_params(error.ctx) for o in p.opts if o.startswith("--")]
        near = difflib.get_close_matches(error.option_name, known, n=1, cutoff=0.5)
        sentence = f"There is no option {error.option_name}."
        sentence += f" Did you mean {near[0]}?" if near else ""
    if error.ctx is not None:
        sentence += f" See '{error.ctx.command_path} --help'."
    return sentence


def _complain(sentence: str, debug: bool, as_json: bool, detail: str = "", code: int = REFUSED) -> int:
    if debug and sys.exc_info()[0] is not None:
        traceback.print_exc(file=sys.stderr)
    if debug and detail:
        click.echo(detail, err=True)
    if as_json:
        click.echo(json.dumps({"error": sentence, "exit_code": code}))
    click.secho("pl: ", fg="red", bold=True, nl=False, err=True)
    click.echo(sentence, err=True)
    return code
