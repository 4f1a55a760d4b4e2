"""The worker's side: ``python -m pl_kernel.compute.serve FD PARENT`` answers calls until the connection closes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

_connection: Connection | None = None
_lock = threading.Lock()


def send(content: Any) -> None:
    """Tell the caller something while its function runs; outside a worker this does nothing."""
    if _connection is not None:
        with _lock:
            _connection.send(("message", content))


def ask(content: Any) -> Any:
    """Ask the caller something while its function runs, and wait for the answer; None outside a worker."""
    if _connection is None:
        return None
    with _lock:
        _connection.send(("question", content))
        return _connection.recv()


def serve(fd: int, parent: int) -> None:
    global _connection
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the kernel's business; it ends its workers itself
    connection = Connection(fd)
    _connection = connection
    while True:
        try:
            _, function, args = connection.recv()
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # a function that cannot be imported here
            _answer(connection, "error", _portable(error))
            continue
        try:
            answer = ("answer", function(*args))
        except BaseException as error:
            answer = ("error", _portable(error))
        _answer(connection, *answer)


def _answer(connection: Connection, kind: str, content: Any) -> None:
    with _lock:
        try:
            connection.send((kind, content))
        except (ConnectionError, BrokenPipeError):
            os._exit(0)
        except Exception as error:  # an answer that cannot travel
            connection.send(("error", _portable(error)))


def _portable(error: BaseException) -> BaseException:
    from ..errors import PlError, StageFailed

    if isinstance(error, PlError):
        error.detail = error.detail or traceback.format_exc()
        return error
    sentence = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        sentence = f"There is no space left to write {error.filename2 or error.filename or 'into the run folder'}."
    return StageFailed(sentence, detail=traceback.format_exc())


def _die_with(parent: int) -> None:
    """End this process when its parent ends, even by SIGKILL: a worker must not go on changing the data."""
    with contextlib.suppress(OSError, AttributeError):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)

    def watch() -> None:  # for systems without prctl
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    # Run as __main__, this module would exist twice; the functions below must find the one that has the connection.
    from pl_kernel.compute import serve as module

    module.serve(int(sys.argv[1]), int(sys.argv[2]))
