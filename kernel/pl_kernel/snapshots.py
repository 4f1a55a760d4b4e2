"""Snapshots of measurement sets: an undo log, so that any stage can be run again on exactly what it saw.

A measurement set is a folder of files, and each column lives in the files of one storage manager.  Before a stage that
alters measurement sets, the files of the columns it declares in ``mutates`` are copied (as a reflink where the file
system can), with everything small: table descriptions, scalar columns, subtables.  The raw data are never
copied; FLAG is 1/64 of them.

Undoing a stage puts the copies back and removes what was not there.  To go back several stages, they are undone one
by one, the last first: a column that stage 5 did not declare is what stage 6 found, and so on.

A snapshot is a folder with ``manifest.json`` and ``files/…``, which has the folder structure of the measurement set.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from .casa import Casa, Recorder
from .casa.adapter import remove
from .errors import JournalError, PlError
from .inside import inside
from .serialize import read_json, write_json

COLUMNS = {
    "flags": ("FLAG", "FLAG_ROW", "FLAG_CATEGORY"),
    "weights": ("WEIGHT", "SIGMA", "WEIGHT_SPECTRUM", "SIGMA_SPECTRUM"),
    "model": ("MODEL_DATA",),
    "corrected": ("CORRECTED_DATA",),
    "data": ("DATA", "FLOAT_DATA", "LAG_DATA"),
}
"""Columns of the MAIN table behind each word of ``Stage.mutates``."""

_VISIBILITIES = {name for names in COLUMNS.values() for name in names} | {"UVW"}
_LARGE = 10_000_000  # bytes: subtable files above this (SYSPOWER, POINTING) stay where they are, no stage rewrites them
_FICLONE = 0x40049409
_VERSION_LIST = "FLAG_VERSION_LIST"


@attrs.frozen(kw_only=True)
class Manifest:
    """What a measurement set was made of: size of every file by relative path; which of them were copied.

    ``versions`` are the names in its folder of flag versions, whose list of descriptions is copied as well.
    """

    name: str
    mutates: tuple[str, ...]
    files: dict[str, int]
    copied: tuple[str, ...]
    versions: tuple[str, ...] = ()


def take_all(paths: Mapping[str, str], mutates: Iterable[str], logfile: str, threads: int = 1) -> int:
    """Snapshot measurement sets, each path into its folder, several at a time; return the number of bytes copied.

    Runs in a worker, like ``take``.
    """
    words = tuple(sorted(mutates))
    altered = {column for word in words for column in COLUMNS[word]}
    # CASA's tables are asked one after the other; only the copying, which waits for the disk, goes side by side.
    stay = {path: _files_that_stay(Path(path), altered, logfile) for path in paths}
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return sum(pool.map(lambda path: _take(Path(path), Path(paths[path]), words, stay[path]), paths))


def take(path: str, target: str, mutates: Iterable[str], logfile: str) -> int:
    """Snapshot the measurement set ``path`` into the folder ``target``; return the number of bytes copied.

    The manifest is written last: without it there is no snapshot.  Runs in a worker, because the table tool
    says which column is in which file.  Files about to be altered that are shared with the user's own data, or with
    another run, as hard links become private here.
    """
    return take_all({path: target}, mutates, logfile)


def _take(source: Path, folder: Path, words: tuple[str, ...], stay: set[str]) -> int:
    remove(folder)
    (folder / "files").mkdir(parents=True)
    sizes: dict[str, int] = {}
    copied = []
    for file in _walk(source):
        name = file.relative_to(source).as_posix()
        sizes[name] = file.stat().st_size
        if name in stay or ("/" in name and sizes[name] > _LARGE):
            continue
        place = folder / "files" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        clone(file, place)
        if file.stat().st_nlink > 1:
            _make_private(file)
        copied.append(name)
    versions = _flag_versions(source)
    names = tuple(sorted(p.name for p in versions.iterdir())) if versions.is_dir() else ()
    if (versions / _VERSION_LIST).is_file():
        clone(versions / _VERSION_LIST, folder / _VERSION_LIST)
    manifest = Manifest(name=source.name, mutates=words, files=sizes, copied=tuple(copied), versions=names)
    write_json(folder / "manifest.json", manifest)
    return sum(sizes[name] for name in copied)


def read_manifest(folder: Path) -> Manifest | None:
    """Return what a snapshot holds; None when its stage was killed while it was taken: nothing was altered yet.

    Raises
    ------
    JournalError : the manifest is damaged, or names files outside the measurement set.
    """
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = read_json(folder / "manifest.json", Manifest)
    except PlError as error:
        raise JournalError(f"The snapshot {folder} is damaged: {error.sentence}") from None
    for name in (*manifest.files, *manifest.copied):
        inside(folder / "files", name, "file of a measurement set")
    return manifest


def check(folder: Path, path: Path, present: set[str]) -> set[str]:
    """Return the files that ``undo`` would leave of a measurement set that consists of ``present``.

    Raises
    ------
    JournalError : the snapshot is damaged, or relies on a file that is not there.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return present
    for name in manifest.copied:
        if not (folder / "files" / name).is_file():
            raise JournalError(f"{path} cannot be restored: its snapshot {folder} lacks {name}.")
    for name in manifest.files:
        if name not in manifest.copied and name not in present:
            raise JournalError(f"{path} cannot be restored: its file {name} is missing.")
    return set(manifest.files)


def files_of(path: Path) -> set[str]:
    """Return the relative names of all files of a measurement set."""
    return {file.relative_to(path).as_posix() for file in _walk(path)}


def undo(folder: Path, path: Path) -> None:
    """Make the measurement set ``path`` what it was when the snapshot ``folder`` was taken.

    Raises
    ------
    JournalError : the snapshot is damaged, or a file that it relies on has vanished from the measurement set.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return
    check(folder, path, files_of(path))
    for name in manifest.copied:
        inside(path, name, "file of a measurement set")
    for file in list(_walk(path)):
        if file.relative_to(path).as_posix() not in manifest.files:
            file.unlink()
    for name in manifest.copied:
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(place.name + ".restored")
        clone(folder / "files" / name, temporary)
        temporary.replace(place)
    inner_folders = [p for p in path.rglob("*") if p.is_dir() and not p.is_symlink()]
    for inner in sorted(inner_folders, key=lambda p: -len(p.parts)):
        if not any(inner.iterdir()):
            inner.rmdir()
    versions = _flag_versions(path)
    for entry in versions.iterdir() if versions.is_dir() else ():
        if entry.name not in manifest.versions:
            remove(entry)
    if versions.is_dir() and (folder / _VERSION_LIST).is_file():
        clone(folder / _VERSION_LIST, versions / _VERSION_LIST)


def discard(folder: Path) -> None:
    """Remove a snapshot in one step: half of one, left by a kill, must never be taken for a whole one."""
    if not os.path.lexists(folder):
        return
    doomed = folder.with_name(f".{folder.name}.old")
    remove(doomed)
    folder.rename(doomed)
    remove(doomed)


def copy_measurement_set(source: Path, target: Path, shared: Iterable[str] = ()) -> None:
    """Copy a measurement set; the files named in ``shared``, which nobody will alter, are hard-linked."""
    link_these = set(shared)
    for file in _walk(source):
        name = file.relative_to(source).as_posix()
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (link if name in link_these else clone)(file, place)


def files_of_columns(path: str, columns: Iterable[str], logfile: str) -> list[str]:
    """Return the files that hold nothing but these columns of the MAIN table.  Runs in a worker."""
    return sorted(_files_that_stay(Path(path), _VISIBILITIES - set(columns), logfile))


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


def _make_private(file: Path) -> None:
    own = file.with_name(f"{file.name}.own")
    clone(file, own)
    own.replace(file)


def _flag_versions(path: Path) -> Path:
    """Where CASA keeps the flag versions of a measurement set: beside it."""
    return path.with_name(f"{path.name}.flagversions")


def _walk(top: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            yield Path(folder) / name


def _files_that_stay(source: Path, altered: set[str], logfile: str) -> set[str]:
    """Files of the MAIN table that hold only visibility-sized columns, none of them in ``altered``."""
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
