"""CASA tasks as recorded calls, CASA tools as context managers.

``Casa`` looks like the casatasks module: ``casa.gaincal(vis=…, caltable=…)``.  Each call is recorded with arguments,
time and outcome; CASA's warnings and errors during it become log records; a task that raises becomes a CasaError.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..errors import CasaError, UnknownName
from ..serialize import to_json
from . import flagtables
from .config import configure
from .records import CallRecord, LogRecord, Recorder, complaints, log_slice

_REPEATS = 5
"""How many complaints of the same wording from one call are passed on, before they are only counted."""


class Casa:
    """CASA as a stage sees it.

    Parameters
    ----------
    recorder : where calls and complaints go.
    logfile : file that takes CASA's log while this object is in use.
    """

    def __init__(self, recorder: Recorder, logfile: Path | str) -> None:
        self._recorder = recorder
        self._logfile = Path(logfile)
        self._offset = 0
        self._ready = False

    # ---- tasks ---------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        function = self._task(name)

        def call(**kwargs: Any) -> Any:
            return self._call(name, function, kwargs)

        call.__name__ = name
        call.__doc__ = function.__doc__
        return call

    def _task(self, name: str) -> Callable[..., Any]:
        self.start()
        import casatasks

        function = getattr(casatasks, name, None)
        if function is None or not callable(function):
            tasks = [n for n in dir(casatasks) if not n.startswith("_")]
            raise UnknownName("CASA task", name, tasks)
        return function  # type: ignore[no-any-return]

    def _call(self, name: str, function: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        given = {key: _plain(value) for key, value in kwargs.items() if value is not None}
        record = CallRecord(task=name, args=given)
        self._recorder.begin(record)
        begin = time.monotonic()
        outcome, message = "ok", ""
        try:
            return function(**given)
        except Exception as error:
            outcome, message = "failed", f"{type(error).__name__}: {error}"
            raise CasaError(name, str(error), self.log_tail()) from error
        finally:
            warnings = self._pass_on_complaints(name)
            self._recorder.end(
                attrs.evolve(
                    record, seconds=time.monotonic() - begin, outcome=outcome, message=message, warnings=warnings
                )
            )

    def record(self, task: str, **kwargs: Any) -> None:
        """Note a call that has the effect of what was done in another way, for the script of CASA commands."""
        given = {key: _plain(value) for key, value in kwargs.items() if value is not None}
        self._recorder.end(CallRecord(task=task, args=given))

    def flagmanager(self, **kwargs: Any) -> Any:
        """CASA's task, which it also is in the script; flags are saved and restored in little memory."""
        task = self._task("flagmanager")
        return self._call("flagmanager", lambda **given: flagtables.flagmanager(task, self.tool, given), kwargs)

    def flag_solutions(self, vis: str, solutions: Sequence[tuple[int, int]]) -> None:
        """Flag the solutions of (antenna, window) in a calibration table, recorded like a task.

        CASA's flagdata does it for most tables, and dies (SIGSEGV, CASA 6.7) on tables of some sets.
        """

        def flag(vis: str, solutions: list[list[int]]) -> None:
            chosen = {tuple(pair) for pair in solutions}
            table = self.tool("table")
            table.open(vis, nomodify=False)
            try:
                antenna, spw, bad = (table.getcol(c) for c in ("ANTENNA1", "SPECTRAL_WINDOW_ID", "FLAG"))
                bad[..., [(int(a), int(s)) in chosen for a, s in zip(antenna, spw, strict=True)]] = True
                table.putcol("FLAG", bad)
            finally:
                table.done()

        self._call("flag_solutions", flag, {"vis": vis, "solutions": [list(pair) for pair in solutions]})

    def imageconcat(self, outfile: str, infiles: list[str]) -> None:
        """Join images along the spectral axis, recorded like a task: CASA has it as a method of a tool only."""
        tool = self.tool("image")

        def join(outfile: str, infiles: list[str]) -> None:
            try:
                tool.imageconcat(outfile=outfile, infiles=infiles, relax=True, overwrite=True).done()
            finally:
                tool.done()

        self._call("imageconcat", join, {"outfile": outfile, "infiles": infiles})

    def _pass_on_complaints(self, task: str) -> int:
        text, self._offset = log_slice(self._logfile, self._offset)
        seen: dict[tuple[str, str], int] = {}
        for level, _origin, message in complaints(text):
            key = (level, message[:60])
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= _REPEATS:
                self._recorder.log(LogRecord(level=level, message=message, origin=task))
        for (level, start), count in seen.items():
            if count > _REPEATS:
                more = f"{count - _REPEATS} more messages like '{start}…'"
                self._recorder.log(LogRecord(level=level, message=more, origin=task))
        return sum(seen.values())

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of CASA's log."""
        text, _ = log_slice(self._logfile, max(0, _size(self._logfile) - 20_000))
        return "\n".join(text.splitlines()[-lines:])

    # ---- tools ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Import CASA (about 3 s the first time in a process) and point its log at this object's file."""
        if self._ready:
            return
        configure(str(self._logfile))
        import casatasks

        casatasks.casalog.setlogfile(str(self._logfile))
        self._offset = _size(self._logfile)
        self._ready = True

    def tool(self, name: str) -> Any:
        """Return a new CASA tool (``measures``, ``quanta``, ``atmosphere`` …); the caller closes it."""
        self.start()
        import casatools

        maker = getattr(casatools, name, None)
        if maker is None:
            raise UnknownName("CASA tool", name, (n for n in dir(casatools) if not n.startswith("_")))
        return maker()

    def data(self, name: str) -> str:
        """Return the path of an entry of CASA's data ("geodetic/IERSpredict"); a name not found comes back as it is."""
        self.start()
        import casatools

        return str(casatools.ctsys.resolve(name))

    @contextlib.contextmanager
    def table(self, path: str | os.PathLike[str], nomodify: bool = True) -> Iterator[Any]:
        """Open a table and close it whatever happens.  Writing needs ``nomodify=False``."""
        tool = self.tool("table")
        tool.open(os.fspath(path), nomodify=nomodify)
        try:
            yield tool
        finally:
            tool.done()  # closes; after close() it would complain in CASA's log that no table is open

    @contextlib.contextmanager
    def ms(self, path: str | os.PathLike[str], nomodify: bool = True) -> Iterator[Any]:
        """Open a measurement set with the ``ms`` tool."""
        tool = self.tool("ms")
        tool.open(os.fspath(path), nomodify=nomodify)
        try:
            yield tool
        finally:
            tool.close()
            tool.done()

    @contextlib.contextmanager
    def msmd(self, path: str | os.PathLike[str]) -> Iterator[Any]:
        """Open the metadata tool on a measurement set."""
        tool = self.tool("msmetadata")
        tool.open(os.fspath(path))
        try:
            yield tool
        finally:
            tool.close()
            tool.done()

    @contextlib.contextmanager
    def image(self, path: str | os.PathLike[str]) -> Iterator[Any]:
        """Open an image."""
        tool = self.tool("image")
        tool.open(os.fspath(path))
        try:
            yield tool
        finally:
            tool.close()
            tool.done()

    @property
    def version(self) -> str:
        """Version of casatasks."""
        self.start()
        import casatasks

        return str(casatasks.version_string())


class Files:
    """File operations that ``casa_commands.py`` has to repeat, recorded like CASA calls.

    Paths are relative to the work folder; removing what is not there is no error.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def copytree(self, source: str | Path, target: str | Path) -> None:
        """Copy a folder; the target must not exist."""
        self._do("copytree", lambda: shutil.copytree(source, target, symlinks=True), source, target)

    def copy(self, source: str | Path, target: str | Path) -> None:
        """Copy a file."""
        self._do("copy", lambda: shutil.copy2(source, target), source, target)

    def move(self, source: str | Path, target: str | Path) -> None:
        """Move a file or folder."""
        self._do("move", lambda: shutil.move(os.fspath(source), os.fspath(target)), source, target)

    def rmtree(self, path: str | Path) -> None:
        """Remove a file or folder."""
        self._do("rmtree", lambda: remove(Path(path)), path)

    def record(self, operation: str, *paths: str | Path) -> None:
        """Note an operation that was done in another way with the same effect (hard links for a copy)."""
        self._do(operation, lambda: None, *paths)

    def _do(self, operation: str, action: Callable[[], Any], *paths: str | Path) -> None:
        record = CallRecord(task=operation, args={"paths": [os.fspath(p) for p in paths]}, kind="file")
        begin = time.monotonic()
        action()
        self._recorder.end(attrs.evolve(record, seconds=time.monotonic() - begin))


def remove(path: Path) -> None:
    """Remove a file, link or folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.is_dir():
        shutil.rmtree(path)


def _plain(value: Any) -> Any:
    # CASA's argument checking knows plain lists and numbers, neither tuples nor numpy scalars nor paths.
    if isinstance(value, Path):
        return os.fspath(value)
    return to_json(value)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
