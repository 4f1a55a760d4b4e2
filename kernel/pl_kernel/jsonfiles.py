"""Files that are whole or not there at all: atomic writes, and reads that say in one sentence what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pl_kernel.errors import PlError


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, flush it to disk, then rename it.

    Raises:
        PlError: the file cannot be written.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise PlError(f"Cannot write {path}: {(error.strerror or str(error)).lower()}.") from error


def _umask() -> int:
    # There is no way to read it without setting it; the kernel process writes from one thread.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # The rename itself lives in the folder; not every file system lets a folder be flushed.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_plain_json(path: Path) -> Any:
    """Read JSON from `path` as plain values.

    Raises:
        PlError: the file is absent, cut off or no JSON; one sentence names it.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise PlError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    except UnicodeDecodeError as error:
        raise PlError(f"{path} is damaged: byte {error.start} is no UTF-8 text; restore or delete the file.") from error
    except json.JSONDecodeError as error:
        raise PlError(
            f"{path} is cut off or damaged at line {error.lineno} ({error.msg}); restore or delete the file."
        ) from error
    except RecursionError as error:
        raise PlError(f"{path} is damaged: it is nested too deeply; restore or delete the file.") from error
