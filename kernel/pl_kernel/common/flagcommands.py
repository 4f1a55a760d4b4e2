"""Files of flag commands, as flagdata takes them in its list mode."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


def find_file(given: Path | None, name: str, work: Path | None = None) -> Path | None:
    """The file that a parameter names; without one the file ``name`` in the work folder, the run folder, or beside the
    run folder, where people keep their data; None when there is none.

    work : the work folder, where this is not the current folder.

    Raises
    ------
    InputError : the file of the parameter does not exist.
    """
    if given:
        if not given.is_file():
            raise InputError(f"There is no file of flags {given}; leave the parameter unset if there is none to apply.")
        return given
    here = work or Path()
    return next((p for p in (here / name, here / ".." / name, here / "../.." / name) if p.is_file()), None)


def read_commands(path: Path) -> list[str]:
    """Commands of a file of flags: one a line, comments and blank lines left out.

    Raises
    ------
    InputError : a line is no flag command; such a file would be applied in part.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if "=" not in text:
            raise InputError(f"Line {number} of {path} is no flag command: '{text[:60]}'.")
        found.append(text)
    return found
