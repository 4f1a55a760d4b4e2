"""Errors meant for the person at the keyboard: one sentence that names the thing and says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PlError(Exception):
    """Base of all errors that are shown as one sentence, without a traceback.

    The message is the sentence.  ``detail`` holds what only ``--debug`` or a log needs.
    """

    def __init__(self, sentence: str, *, detail: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail

    def add(self, remark: str) -> None:
        """Append a remark to the sentence, from a place that knows more of the circumstances."""
        self.sentence = f"{self.sentence} {remark}"
        self.args = (self.sentence, *self.args[1:])

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[PlError], args: tuple[object, ...], state: dict[str, object]) -> PlError:
    # Subclasses have constructors of their own; an error that crosses a pipe must arrive whatever they look like.
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class InputError(PlError):
    """What the user gave cannot be used: a missing path, a wrong type or unit, a bad value."""


class DataError(PlError):
    """The data do not hold what is needed: a missing subtable, no calibrator of an intent, too few antennas."""


class PluginError(PlError):
    """A plugin breaks the contract of hookspecs.py."""


class JournalError(PlError):
    """A run folder cannot be read or continued."""


class RunLocked(PlError):
    """Another process works in this run folder."""


class StageFailed(PlError):
    """A stage ended without a result."""


class WorkerDied(StageFailed):
    """The process that ran a stage was killed, by CASA, by the system or by hand."""


class CasaError(PlError):
    """A CASA task raised, or reported failure.

    ``task`` is the name of the task, ``message`` what it said, ``log_tail`` the last lines of its log.
    """

    def __init__(self, task: str, message: str, log_tail: str = "") -> None:
        super().__init__(f"CASA task {task} failed: {' '.join(message.split())}", detail=log_tail)
        self.task = task
        self.message = message
        self.log_tail = log_tail


class UnknownName(InputError):
    """A name that nobody knows, with the nearest names that somebody does."""

    def __init__(self, kind: str, name: str, candidates: Iterable[str], where: str = "") -> None:
        known = sorted(set(candidates))
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {_either(near)}?" if near else ""
        if not near and 0 < len(known) <= 12:
            hint = f" Known: {', '.join(known)}."
        super().__init__(f"There is no {kind} called '{name}'{where}.{hint}")
        self.kind = kind
        self.name = name
        self.near = near


def _either(names: list[str]) -> str:
    if len(names) == 1:
        return f"'{names[0]}'"
    return ", ".join(f"'{n}'" for n in names[:-1]) + f" or '{names[-1]}'"
