"""Cheap snapshots of measurement sets, so that a stage that alters one can be run again on exactly what it saw.

A measurement set is a folder of files, and each column lives in the files of one storage manager.  The files of columns
that the stage will not alter are hard-linked, the rest is copied (as a reflink where the file system can).  The large
raw data are therefore never copied; FLAG is 1/64 of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .casa import Casa, Recorder
from .casa.adapter import remove

COLUMNS = {
    "flags": ("FLAG", "FLAG_ROW", "FLAG_CATEGORY"),
    "weights": ("WEIGHT", "SIGMA", "WEIGHT_SPECTRUM", "SIGMA_SPECTRUM"),
    "model": ("MODEL_DATA",),
    "corrected": ("CORRECTED_DATA",),
    "data": ("DATA", "FLOAT_DATA", "LAG_DATA"),
}
"""Columns of the MAIN table behind each word of ``Stage.mutates``."""

_VISIBILITIES = {name for names in COLUMNS.values() for name in names} | {"UVW"}
_LARGE = 10_000_000  # bytes: subtable files above this (SYSPOWER, POINTING) are linked, no stage rewrites them
_FICLONE = 0x40049409


def take(path: str, target: str, mutates: Iterable[str], logfile: str) -> int:
    """Snapshot the measurement set ``path`` as the folder ``target``; return the number of bytes copied.

    The snapshot appears under its name only when it is whole.  Runs in a worker: the table tool says which column is
    where.
    """
    altered = {column for word in mutates for column in COLUMNS[word]}
    source, final = Path(path), Path(target)
    linked = _files_to_link(source, altered, logfile)
    partial = final.with_name(final.name + ".partial")
    remove(partial)
    remove(final)
    copied = 0
    for folder, _, names in os.walk(source):
        here = partial / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name == "table.lock":
                shutil.copy2(Path(folder) / name, here / name)
                continue
            file = Path(folder) / name
            top = Path(folder) == source
            if (top and name in linked) or (not top and file.stat().st_size > _LARGE):
                link(file, here / name)
            else:
                copied += file.stat().st_size
                clone(file, here / name)
    partial.rename(final)
    return copied


def restore(snapshot: Path, path: Path) -> None:
    """Put a snapshot in the place of the measurement set; the snapshot is used up."""
    if not snapshot.is_dir():
        return
    remove(path)
    shutil.move(os.fspath(snapshot), os.fspath(path))


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where links are impossible."""
    try:
        os.link(source, target)
    except OSError:
        clone(source, target)


def clone(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks until one of the two is written where the file system can do that."""
    try:
        with source.open("rb") as old, target.open("wb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        shutil.copystat(source, target)
    except OSError:
        shutil.copy2(source, target)


def _files_to_link(source: Path, altered: set[str], logfile: str) -> set[str]:
    """Files of the MAIN table that hold only visibility-sized columns which stay as they are."""
    casa = Casa(Recorder(), logfile)
    with casa.table(source) as table:
        managers = table.getdminfo().values()
    names = set()
    for manager in managers:
        columns = set(map(str, manager["COLUMNS"]))
        if columns <= _VISIBILITIES and not columns & altered:
            stem = f"table.f{manager['SEQNR']}"
            names |= {f.name for f in source.iterdir() if f.name == stem or f.name.startswith(f"{stem}_TSM")}
    return names
