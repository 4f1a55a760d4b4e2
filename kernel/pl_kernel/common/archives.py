"""Archives and checksums of products; reading them trusts nothing."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError


def pack(path: Path, members: Iterable[tuple[Path, str]]) -> Path:
    """Write a gzipped tar archive of files and folders under the names given; lock files stay behind."""
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        for member, name in members:
            archive.add(member, name, filter=_without_locks)
    return path


def _without_locks(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("table.lock") else entry


def unpack(archive: Path, target: Path, wanted: Iterable[str] = ()) -> tuple[str, ...]:
    """Unpack an archive below ``target``; return the names at its top.

    ``wanted``: names at the top to unpack (empty: all). Members that lead out of the folder are refused.

    Raises
    ------
    InputError : the archive is damaged or dangerous.
    """
    chosen = set(wanted)
    tops: dict[str, None] = {}
    try:
        with tarfile.open(archive) as opened:
            members = []
            for member in opened.getmembers():
                parts = PurePosixPath(member.name).parts
                if not parts or PurePosixPath(member.name).is_absolute() or ".." in parts:
                    raise InputError(f"{archive.name} is not unpacked: '{member.name}' leads out of the folder.")
                if not (member.isreg() or member.isdir()):
                    raise InputError(f"{archive.name} is not unpacked: '{member.name}' is a link or a device.")
                if chosen and parts[0] not in chosen:
                    continue
                tops[parts[0]] = None
                members.append(member)
            extract(opened, target, members)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{archive.name} cannot be unpacked: {error}.") from error
    return tuple(tops)


def extract(archive: tarfile.TarFile, target: Path, members: Iterable[tarfile.TarInfo] | None = None) -> None:
    """Unpack members below a folder by the rules for data, which Python 3.11 knows from its fourth release on.

    An older Python unpacks without rules: only for members that were looked at before.
    """
    rules: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(target, members=members, **rules)


def sha256(path: Path) -> str:
    """Checksum of a file; of a folder, that of the names and checksums of its files."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
