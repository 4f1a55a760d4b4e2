"""A warm worker process: started once, told to call functions, expected to die.

CASA can kill its process, so it never runs in the kernel's.  The worker is an ordinary interpreter that listens on one
end of a socket pair; functions travel by name, arguments and answers over the socket.  (``multiprocessing`` would
import the user's main script again in every worker; a delivered pipeline script must not run twice.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import StageFailed, WorkerDied

_GRACE_SECONDS = 5.0
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # CASA allocates and frees large arrays all the time. glibc gives them back to the system and gets them again, to
    # be zeroed page by page: of imaging, 5 to 30 % of the time. 32 MiB is the largest threshold that it takes.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
"""What a worker's environment has unless the user's has it."""
_BACKGROUND = 10  # nice value


class Worker:
    """One worker process, started at the first call.

    Parameters
    ----------
    output : file that takes what the process prints (CASA prints a lot).
    background : it and its children take what time of the processors others leave.
    """

    def __init__(self, output: Path | None = None, *, background: bool = False) -> None:
        self.output = output
        self.background = background
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self.alive:
            return
        self.stop()
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        for name, value in _ENVIRONMENT.items():
            environment.setdefault(name, value)
        with contextlib.ExitStack() as stack:
            sink: Any = subprocess.DEVNULL
            if self.output is not None:
                sink = stack.enter_context(self.output.open("ab"))
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "pl_kernel.compute.serve", str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=[theirs.fileno()], env=environment,
                )  # fmt: skip
        if self.background:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, _BACKGROUND)
        self._connection = Connection(ours.detach())

    def call(
        self, function: Callable[..., Any], *args: Any, on_message: Callable[[Any], None] | None = None,
        on_question: Callable[[Any], Any] | None = None,
    ) -> Any:  # fmt: skip
        """Call a module-level function in the worker and return what it returns.

        ``on_message`` gets whatever the function passes to ``serve.send`` meanwhile; ``on_question`` what it passes to
        ``serve.ask``, and returns the answer.

        Raises
        ------
        WorkerDied : the process ended before it answered.
        Exception : whatever the function raised.
        """
        self.start()
        assert self._connection is not None
        try:
            self._connection.send(("call", function, args))
            while True:
                kind, content = self._connection.recv()
                if kind == "question":
                    self._connection.send(on_question(content) if on_question is not None else None)
                elif kind != "message":
                    break
                elif on_message is not None:
                    on_message(content)
        except (EOFError, ConnectionError):
            raise WorkerDied(f"The worker process {self._epitaph()}.") from None
        except Exception as error:
            self.stop(now=True)
            if not _cannot_travel(error):
                raise
            raise StageFailed(f"What was sent to or from a worker process cannot travel: {error}.") from error
        except BaseException:
            self.stop(now=True)  # its answer is still to come, and must not be taken for that of the next call
            raise
        if kind == "answer":
            return content
        raise content

    def _epitaph(self) -> str:
        process, self._process = self._process, None
        self._close()
        if process is None:
            return "was not running"
        try:
            code = process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "stopped answering"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def leave(self) -> None:
        """Let the process end by itself; ``stop`` waits for that."""
        self._close()

    def stop(self, *, now: bool = False) -> None:
        """End the process: it leaves when its connection closes, or at once with ``now``."""
        self._close()
        process, self._process = self._process, None
        if process is None:
            return
        if now:
            process.kill()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kill the process while another thread waits for its answer, which will be WorkerDied."""
        process = self._process
        if process is not None:
            process.kill()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _cannot_travel(error: Exception) -> bool:
    """Whether an object could not be sent over the connection, whose encoding has an error class of its own."""
    encoding = ("PicklingError", "UnpicklingError")
    return isinstance(error, (AttributeError, TypeError)) or type(error).__name__ in encoding
