"""Names and paths that come out of a run folder: they stay inside it, or the folder is refused.

A run folder can come from anybody.  Its files are data: a name in them never leads to another place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .errors import JournalError


def is_plain(name: str) -> bool:
    """Whether a name is one component of a path, and not a hidden way up."""
    return bool(name) and name not in (".", "..") and not any(c in name for c in "/\\\0")


def plain(name: str, what: str) -> str:
    """Return the name of a measurement set, image … if it is one component of a path.

    Raises
    ------
    JournalError : it is not.
    """
    if not is_plain(name):
        raise JournalError(f"The journal names a {what} '{name}', which is no file name: refused.")
    return name


def inside(folder: Path, name: str, what: str) -> Path:
    """Return ``folder / name``, links followed, if that lies in the folder.

    Raises
    ------
    JournalError : it leads out, by its parts or through a link.
    """
    parts = Path(name).parts
    path = folder / name
    if "\0" in name or not parts or ".." in parts or not path.resolve().is_relative_to(folder.resolve()):
        raise JournalError(f"The journal names a {what} outside the run, {name}: refused.")
    return path


def refuse_links(root: Path) -> None:
    """Refuse a run folder in which a link leads out of it: what is written through the link would land elsewhere.

    Raises
    ------
    JournalError : there is one; the sentence names it.
    """
    real = root.resolve()
    for path in _links(root):
        if not path.resolve().is_relative_to(real):
            raise JournalError(f"{path} is a link that leads out of the run folder: refused; remove the link.")


def _links(folder: Path) -> Iterator[Path]:
    todo = [folder]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:  # not there, or not ours to read
            continue
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                todo.append(Path(entry.path))
