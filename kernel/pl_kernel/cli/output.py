"""How listings are written: tables for eyes, JSON for scripts."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click

_BAND_COLOURS = {"error": "red", "warning": "yellow", "suboptimal": "cyan", "good": "green"}


def write_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    from ..serialize import to_json

    click.echo(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def heading(text: str) -> None:
    click.secho(text, bold=True)


def paragraph(text: str, indent: str = "") -> None:
    """Write a paragraph wrapped to the terminal."""
    click.echo(textwrap.fill(text, width(), initial_indent=indent, subsequent_indent=indent))


def width() -> int:
    """Columns to write to: those of the terminal, 100 into a file or pipe."""
    return min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else 100


def columns(rows: Iterable[Sequence[str]], indent: str = "  ", bold_first: bool = True) -> None:
    """Write rows of text as columns; the last column wraps under itself."""
    table = [[str(cell) for cell in row] for row in rows]
    if not table:
        return
    sizes = [max(len(row[i]) for row in table) for i in range(len(table[0]) - 1)]
    lead = sum(size + 2 for size in sizes)
    room = max(width() - len(indent) - lead, 30)
    for row in table:
        lines = textwrap.wrap(row[-1], room) or [""]
        cells = [cell.ljust(size) for cell, size in zip(row[:-1], sizes, strict=True)]
        if bold_first and cells:
            cells[0] = click.style(cells[0], fg="cyan")
        click.echo((indent + "".join(f"{cell}  " for cell in cells) + lines[0]).rstrip())
        for line in lines[1:]:
            click.echo(indent + " " * lead + line)


def score_text(score: float | None) -> str:
    """A score with two digits in the colour of its band."""
    from ..qa import band

    if score is None:
        return click.style("  – ", dim=True)
    return click.style(f"{score:.2f}", fg=_BAND_COLOURS.get(band(score).value))
