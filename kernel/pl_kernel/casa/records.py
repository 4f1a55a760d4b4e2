"""What is remembered of every CASA call, and CASA's warnings and errors as log records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

LEVELS = ("info", "attention", "warning", "error")

_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\t(?P<priority>[A-Z0-9]+)\t(?P<origin>[^\t]*)\t(?P<message>.*)$")
_PLACE = re.compile(r"\s*\(file .*?, line \d+\)")
_COMPLAINTS = {"WARN": "warning", "SEVERE": "error", "ERROR": "error"}

# Complaints that say nothing about the data or the reduction, each with the reason why it is left out.
_HARMLESS = (
    re.compile(r"Leap second table TAI_UTC seems out-of-date"),  # there is no leap second newer than the data package
    re.compile(r"^Conversion of measurement set from version"),  # written for every old data set
    re.compile(r"^Exception Reported:|^Task \w+ raised an exception"),  # CASA's echo of what is reported as the failure
    re.compile(r"is not an efficient imagesize"),  # an image is slower to transform then, not worse
    re.compile(r"^image units are not the same: '[^']*' vs ''|^image units are not the same: '' vs"),  # image × weight
    re.compile(r"^Forcing use of OLD VisibilityIterator"),  # sdcal knows no other
    re.compile(r"Insufficient solution channel sampling \(nchan=1\)"),  # one value for all channels is just that
    re.compile(r"^Invalid sampling=|^Could not detect valid raster sampling"),  # spectra of single points; see grid()
    re.compile(r"^Deleting version: "),  # a flag version that flagmanager was called to delete
)


@attrs.frozen(kw_only=True)
class LogRecord:
    """One line for the web log's notifications; ``level`` is one of LEVELS, ``origin`` the task or the stage."""

    level: str
    message: str
    origin: str = ""
    time: datetime = attrs.field(factory=lambda: datetime.now(UTC))


@attrs.frozen(kw_only=True)
class CallRecord:
    """One call of a CASA task (``kind`` task) or one file operation (``kind`` file).

    ``outcome`` is ok, failed or crashed (the process died in it); ``args`` are plain JSON values.
    """

    task: str
    args: Mapping[str, Any]
    kind: str = "task"
    started: datetime = attrs.field(factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    outcome: str = "ok"
    message: str = ""
    warnings: int = 0


@attrs.define
class Recorder:
    """Collects calls and log records of one stage (or of one item of ``ctx.map``), in order.

    ``emit`` is told at once, so that what was going on is known even if the process dies.
    """

    emit: Callable[[str, Any], None] = lambda _kind, _record: None
    calls: list[CallRecord] = attrs.field(factory=list)
    logs: list[LogRecord] = attrs.field(factory=list)

    def begin(self, call: CallRecord) -> None:
        self.emit("call", call)

    def end(self, call: CallRecord) -> None:
        self.calls.append(call)
        self.emit("called", call)

    def log(self, record: LogRecord) -> None:
        self.logs.append(record)
        self.emit("log", record)

    def absorb(self, calls: list[CallRecord], logs: list[LogRecord]) -> None:
        """Take over what an item recorded elsewhere."""
        for call in calls:
            self.end(call)
        for record in logs:
            self.log(record)


def complaints(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (level, origin, message) for every WARN, SEVERE or ERROR entry of a CASA log.

    CASA writes each line of a longer message as an entry of its own, whose origin ends in ``+``; they are joined.
    """
    level, origin, parts = "", "", list[str]()
    for line in [*text.splitlines(), ""]:
        match = _LINE.match(line)
        if match is None and line.strip():
            if parts:
                parts.append(line.strip())
            continue
        if match is not None and parts and match["origin"].endswith("+"):
            parts.append(match["message"].strip())
            continue
        message = " ".join(part for part in parts if part)
        if message and not any(pattern.search(message) for pattern in _HARMLESS):
            yield level, origin, message
        parts = []
        if match is not None and match["priority"] in _COMPLAINTS:
            level = _COMPLAINTS[match["priority"]]
            origin = _PLACE.sub("", match["origin"]).strip(": ")
            parts = [match["message"].strip()]


def log_slice(path: Path, offset: int) -> tuple[str, int]:
    """Return what was added to a log file after ``offset``, and the new end."""
    try:
        with path.open("rb") as log:
            log.seek(offset)
            added = log.read()
    except FileNotFoundError:
        return "", offset
    return added.decode("utf-8", "replace"), offset + len(added)
