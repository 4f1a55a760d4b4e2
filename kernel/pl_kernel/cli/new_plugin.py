"""``pl new-plugin``: a plugin package to start from."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from ..errors import InputError
from .app import OK, debug_option


@click.command("new-plugin")
@click.argument("name")
@click.option("--dir", "parent", type=click.Path(path_type=Path, file_okay=False), default=Path(),
              help="Folder to put it in; default: here.")  # fmt: skip
@debug_option
def new_plugin(name: str, parent: Path) -> int:
    """Write the package pl-NAME: a stage, a scorer, a renderer, a recipe, and tests that pass at once."""
    folder = write_plugin(name, parent)
    click.echo(f"Wrote {folder}. Next:")
    click.echo(f"  cd {folder}")
    click.echo("  pip install -e '.[test]'")
    click.echo("  pytest")
    return OK


def write_plugin(name: str, parent: Path) -> Path:
    """Write the package into ``parent/pl-NAME`` and return that folder.

    Raises
    ------
    InputError : the name cannot be used, or the folder exists.
    """
    name = name.removeprefix("pl-").removeprefix("pl_")
    if not re.fullmatch(r"[a-z][a-z0-9]*", name) or keyword.iskeyword(name):
        raise InputError(f"'{name}' cannot name a plugin; take one word of small letters and digits, such as 'mine'.")
    from ..plugins import registry

    known = registry()
    if name in ("kernel", "common") or any(p.name == name for p in known.plugins):
        raise InputError(f"A plugin called '{name}' is installed already; choose another name.")
    folder = parent / f"pl-{name}"
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another name or folder.")
    _write(files("pl_kernel.testing").joinpath("template"), folder, name)
    (folder / f"pl_{name}" / "py.typed").touch()
    return folder


def _write(source: Traversable, target: Path, name: str) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _write(entry, target / (f"pl_{name}" if entry.name == "package" else entry.name), name)
        elif entry.name.endswith(".in"):
            text = entry.read_text(encoding="utf-8").replace("@name@", name).replace("@Name@", name.capitalize())
            file = entry.name.removesuffix(".in")
            (target / (f"{name}_look.yaml" if file == "look.yaml" else file)).write_text(text, encoding="utf-8")
