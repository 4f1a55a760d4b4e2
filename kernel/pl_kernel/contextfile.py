"""``context.json`` after every stage: what did not change is not turned into text again."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from .context import Context
from .ms.model import MeasurementSet
from .serialize import dumps, to_json, write_bytes_atomically

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True).encode


class ContextFile:
    """Writes the contexts of one run; measurement sets are by far the largest part, and stages share them.

    The file is what ``write_json`` would write, but for one line per measurement set.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: dict[int, tuple[MeasurementSet, str]] = {}  # the record is kept, so that no other gets its id

    def write(self, context: Context) -> None:
        """Replace the file.

        Raises
        ------
        PlError : it cannot be written.
        """
        self._texts = {id(ms): (ms, self._text(ms)) for ms in context.measurement_sets}
        rest = to_json(attrs.evolve(context, measurement_sets=()))
        texts = {name: dumps(value).rstrip("\n") for name, value in rest.items()}
        sets = ",\n".join(text for _, text in self._texts.values())
        texts["measurement_sets"] = f"[\n{sets}\n]" if sets else "[]"
        body = ",\n".join(f"{_encode(name)}: {texts[name]}" for name in sorted(texts))
        write_bytes_atomically(self._path, f"{{\n{body}\n}}\n".encode("utf-8", "backslashreplace"))

    def _text(self, ms: MeasurementSet) -> str:
        known = self._texts.get(id(ms))
        return known[1] if known is not None else _encode(to_json(ms))
