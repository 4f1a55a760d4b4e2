"""Contexts on their way to a worker: measurement sets, by far the largest part, are sent once and kept there."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import attrs

from .compute import Worker
from .context import Context
from .ms.model import MeasurementSet

_known: dict[str, MeasurementSet] = {}


@attrs.frozen(kw_only=True)
class PackedContext:
    """A context on its way to the worker, which keeps measurement sets from stage to stage.

    ``rest`` is the context without them, ``order`` their keys, ``new`` those that the worker has not been sent yet.
    """

    rest: Context
    order: tuple[str, ...]
    new: Mapping[str, MeasurementSet]

    def unpack(self) -> Context:
        """Return the context; what it does not need any more is forgotten."""
        known = {**_known, **self.new}
        _known.clear()
        _known.update((key, known[key]) for key in self.order)
        return attrs.evolve(self.rest, measurement_sets=tuple(_known[key] for key in self.order))


class Packer:
    """Knows what one worker has been sent already, and starts again when that process has died."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sent: dict[str, MeasurementSet] = {}
        self._sent_to: int | None = None

    def pack(self, context: Context) -> PackedContext:
        """Return a context for the worker, with the measurement sets that it does not know yet."""
        self._worker.start()
        if self._worker.pid != self._sent_to:
            self._sent, self._sent_to = {}, self._worker.pid
        keys = {id(ms): key for key, ms in self._sent.items()}
        new = {uuid.uuid4().hex: ms for ms in context.measurement_sets if id(ms) not in keys}
        keys |= {id(ms): key for key, ms in new.items()}
        order = tuple(keys[id(ms)] for ms in context.measurement_sets)
        self._sent = dict(zip(order, context.measurement_sets, strict=True))
        return PackedContext(rest=attrs.evolve(context, measurement_sets=()), order=order, new=new)
