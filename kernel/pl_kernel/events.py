"""The event stream of a run: what the command line, the web log and observers listen to."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

KINDS = (
    "run_started", "stage_started", "progress", "log", "stage_finished", "stage_failed", "site_written",
    "run_finished", "rewound",
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened in a run.

    ``kind`` is one of ``KINDS``; ``data`` is JSON-able and depends on the kind (see hookspecs.pl_on_event).
    """

    kind: str = attrs.field(validator=attrs.validators.in_(KINDS))
    time: datetime = attrs.field(factory=lambda: datetime.now(UTC))
    stage_number: int | None = None
    stage: str = ""
    data: Mapping[str, Any] = attrs.field(factory=dict)


Listener = Callable[[Event], None]


class EventBus:
    """Hands every event to every listener, in order.  A listener that raises is named once and then left out."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self.complaints: list[str] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners = [known for known in self._listeners if known is not listener]

    def emit(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # an observer must never cost a run
                self.unsubscribe(listener)
                self.complaints.append(f"The observer {listener} failed and is left out: {error}")


class EventFile:
    """Appends events as JSON lines to a file; progress events are left out, they are for eyes only.

    An event that cannot be written (a full disk) is lost; the next ones are tried.  Half a line, left by a kill or a
    full disk, costs no other event.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        if event.kind == "progress":
            return
        line = {
            "kind": event.kind, "time": event.time.isoformat(), "stage_number": event.stage_number,
            "stage": event.stage, "data": dict(event.data),
        }  # fmt: skip
        text = (json.dumps(line, default=str) + "\n").encode()
        with contextlib.suppress(OSError), self.path.open("ab+") as out:
            if out.seek(0, os.SEEK_END) > 0:
                out.seek(-1, os.SEEK_END)
                text = text if out.read(1) == b"\n" else b"\n" + text
            out.write(text)
