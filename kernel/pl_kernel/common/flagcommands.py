"""Files of flag commands, as flagdata takes them in its list mode."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


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
