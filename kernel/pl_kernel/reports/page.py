"""Reports as single HTML files in the style of the web log, with nothing beside them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from ..serialize import write_bytes_atomically
from ..weblog import views

_HERE = Path(__file__).parent


def write_report(path: Path, template: str, **content: Any) -> None:
    """Write a report from one of the templates of this package; names in it are escaped."""
    style = (_HERE.parent / "weblog" / "assets" / "style.css").read_text(encoding="utf-8")
    page = _environment().get_template(template).render(style=style, **content)
    write_bytes_atomically(path, page.encode("utf-8", "replace"))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=select_autoescape(default=True),
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(say=views.say, duration=views.say_duration, band=views.band_of)
    return environment
