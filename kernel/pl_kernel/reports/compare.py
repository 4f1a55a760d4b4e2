"""``pl compare``: inputs, scores, results, flags, images and times of two runs, the worst differences first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..casa import Casa, Recorder
from ..compute import Worker
from ..context import Context
from ..inside import inside
from ..journal import RunFolder, StageRecord, read_object
from ..qa import QAScore
from ..serialize import from_json, read_json

CATEGORIES = ("inputs", "scores", "results", "flags", "images", "timing")
_LEAVES = 4000  # numbers of one stage's result that are looked at; tables of solutions are compared by their caltables
_ROWS = 20_000  # rows read at once


@attrs.frozen(kw_only=True)
class Difference:
    """One thing that is not the same.

    ``where`` is the stage, measurement set or image, ``what`` the parameter, metric or quantity; ``size`` orders them:
    the drop of a score, the relative change of a number, infinity for what exists in one run only.
    """

    category: str
    where: str
    what: str
    first: Any = None
    second: Any = None
    size: float = 0.0
    note: str = ""


@attrs.frozen(kw_only=True)
class Comparison:
    """All differences by category, the largest first, and what was found the same."""

    first: str
    second: str
    differences: dict[str, tuple[Difference, ...]]
    compared: dict[str, int]

    @property
    def same(self) -> bool:
        """Whether nothing but times differs."""
        return not any(found for category, found in self.differences.items() if category != "timing")


@attrs.define
class _Side:
    """One run as read from its files."""

    folder: RunFolder
    stages: dict[str, tuple[Path, StageRecord]]

    @classmethod
    def read(cls, root: Path) -> _Side:
        folder = RunFolder(root)
        folder.read_run()
        stages: dict[str, tuple[Path, StageRecord]] = {}
        for path in folder.stage_dirs():
            record = folder.read_stage(path)
            if record is None:
                continue
            # Stages are matched by name and occurrence: the second gaincal with the second gaincal.
            count = sum(1 for key in stages if key.split("#")[0] == record.name)
            stages[record.name if count == 0 else f"{record.name}#{count + 1}"] = (path, record)
        return cls(folder, stages)

    def json(self, key: str, name: str) -> dict[str, Any]:
        return read_object(self.stages[key][0] / name)


def compare(first: Path, second: Path, *, data: bool = True) -> Comparison:
    """Compare two runs; with ``data`` also the flags of their measurement sets and the pixels of their images.

    Raises
    ------
    JournalError : one of them is no run folder.
    """
    a, b = _Side.read(first), _Side.read(second)
    found: dict[str, list[Difference]] = {category: [] for category in CATEGORIES}
    compared = dict.fromkeys(CATEGORIES, 0)
    for key in {**a.stages, **b.stages}:
        if key not in a.stages or key not in b.stages:
            status = [s.stages[key][1].status if key in s.stages else "not run" for s in (a, b)]
            found["results"].append(
                Difference(
                    category="results", where=key, what="stage", first=status[0], second=status[1], size=math.inf
                )
            )
            continue
        for category, items in (
            ("inputs", _inputs(a, b, key)), ("scores", _scores(a, b, key)), ("results", _results(a, b, key)),
            ("timing", _timing(a, b, key)),
        ):  # fmt: skip
            for item in items:
                compared[category] += 1
                if item.size > 0:
                    found[category].append(item)
    if data:
        with Worker() as worker:
            for category, function in (("flags", _flags), ("images", _images)):
                for item in worker.call(function, str(a.folder.root), str(b.folder.root)):
                    compared[category] += 1
                    if item.size > 0:
                        found[category].append(item)
    return Comparison(
        first=str(a.folder.root), second=str(b.folder.root), compared=compared,
        differences={c: tuple(sorted(items, key=lambda d: (-d.size, d.where, d.what))) for c, items in found.items()},
    )  # fmt: skip


# ---- from the journals -----------------------------------------------------------------------------------------------


def _inputs(a: _Side, b: _Side, key: str) -> Iterator[Difference]:
    one, two = a.json(key, "inputs.json"), b.json(key, "inputs.json")
    for name in sorted({*one, *two}):
        (x, _), (y, origin) = (_value_of(side.get(name)) for side in (one, two))
        yield Difference(
            category="inputs", where=key, what=name, first=x, second=y, size=0.0 if x == y else 1.0, note=origin
        )


def _value_of(item: Any) -> tuple[Any, str]:
    return (item.get("value"), str(item.get("origin", ""))) if isinstance(item, dict) else (item, "")


def _scores(a: _Side, b: _Side, key: str) -> Iterator[Difference]:
    def by_metric(side: _Side) -> dict[str, QAScore]:
        found: dict[str, QAScore] = {}
        for score in from_json(side.json(key, "qa.json").get("scores", []), tuple[QAScore, ...]):
            selected = attrs.asdict(score.applies_to)
            applies = ", ".join(f"{k} {','.join(v)}" for k, v in sorted(selected.items()) if v)
            found[f"{score.metric} ({applies})" if applies else score.metric] = score
        return found

    one, two = by_metric(a), by_metric(b)
    for name in sorted({*one, *two}):
        x, y = (side[name].score if name in side else None for side in (one, two))
        size = abs(x - y) if x is not None and y is not None else 0.0 if x is y else 1.0
        note = (two.get(name) or one[name]).long
        yield Difference(category="scores", where=key, what=name, first=x, second=y, size=size, note=note)


def _results(a: _Side, b: _Side, key: str) -> Iterator[Difference]:
    one, two = (dict(_leaves(_without_effects(side.json(key, "result.json")))) for side in (a, b))
    for name in sorted({*one, *two}):
        x, y = one.get(name), two.get(name)
        yield Difference(category="results", where=key, what=name, first=x, second=y, size=_change(x, y))


def _without_effects(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k not in ("effects", "notes")}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers and short texts of a JSON value, by their place in it; at most ``_LEAVES``."""
    todo, count = [(name, value)], 0
    while todo and count < _LEAVES:
        place, item = todo.pop(0)
        if isinstance(item, Mapping):
            todo += [(f"{place}.{k}" if place else str(k), v) for k, v in item.items()]
        elif isinstance(item, list):
            todo += [(f"{place}[{i}]", v) for i, v in enumerate(item)]
        elif item is not None:
            count += 1
            yield place, item


def _change(x: Any, y: Any) -> float:
    """Relative change of numbers; 1 for other values that differ, infinity for what one side lacks."""
    if x is None or y is None:
        return 0.0 if x is y else math.inf
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (x, y))
    if not numbers:
        return 0.0 if x == y else 1.0
    scale = max(abs(x), abs(y))
    return 0.0 if x == y else abs(x - y) / scale


def _timing(a: _Side, b: _Side, key: str) -> Iterator[Difference]:
    x, y = (from_json(side.json(key, "timing.json").get("seconds", 0.0), float) for side in (a, b))
    size = abs(x - y)
    yield Difference(category="timing", where=key, what="seconds", first=round(x, 2), second=round(y, 2), size=size)


# ---- from the data, in a worker --------------------------------------------------------------------------------------


def _flags(first: str, second: str) -> list[Difference]:
    """Flagged fraction of every measurement set, in all and by antenna."""
    fractions = [_flag_fractions(Path(root)) for root in (first, second)]
    found = []
    for name in sorted({*fractions[0], *fractions[1]}):
        x, y = (side.get(name) for side in fractions)
        size = abs(x - y) if x is not None and y is not None else math.inf
        where, _, what = name.partition("\0")
        found.append(Difference(category="flags", where=where, what=what, first=x, second=y, size=size))
    return found


def _flag_fractions(root: Path) -> dict[str, float]:
    import numpy as np

    casa = Casa(Recorder(), "/dev/null")
    found: dict[str, float] = {}
    folder = RunFolder(root)
    given = folder.read_run().data
    for ms in _context(folder).measurement_sets:
        path = folder.work / ms.path
        if str(path) not in given:  # used in place; it is only looked at
            inside(folder.work, ms.path, "measurement set")
        if not path.is_dir():
            continue
        names = {a.id: a.name for a in ms.antennas}
        flagged: dict[int, int] = dict.fromkeys(names, 0)
        total: dict[int, int] = dict.fromkeys(names, 0)
        everything = np.zeros(2, dtype=np.int64)
        for chunk in _flag_chunks(casa, path):
            flags = chunk["FLAG"]
            per_row = flags.reshape(-1, flags.shape[-1]).sum(axis=0)
            size = flags[..., 0].size
            everything += (int(per_row.sum()), per_row.size * size)
            for column in ("ANTENNA1", "ANTENNA2"):
                for antenna in np.unique(chunk[column]):
                    rows = chunk[column] == antenna
                    flagged[int(antenna)] = flagged.get(int(antenna), 0) + int(per_row[rows].sum())
                    total[int(antenna)] = total.get(int(antenna), 0) + int(rows.sum()) * size
        found[f"{ms.name}\0all data"] = float(everything[0] / max(everything[1], 1))
        for antenna, name in names.items():
            found[f"{ms.name}\0antenna {name}"] = flagged[antenna] / max(total[antenna], 1)
    return found


def _flag_chunks(casa: Casa, path: Path) -> Iterator[dict[str, Any]]:
    import numpy as np

    from ..ms.tables import chunks_of

    with casa.table(path) as table:
        for dd in np.unique(table.getcol("DATA_DESC_ID")):  # rows of one shape at a time
            rows = table.query(f"DATA_DESC_ID=={int(dd)}")
            try:
                with chunks_of(rows, ("FLAG", "ANTENNA1", "ANTENNA2"), _ROWS) as chunks:
                    yield from chunks
            finally:
                rows.close()


def _images(first: str, second: str) -> list[Difference]:
    """Rms and largest difference of images that show the same, in units of the first image's rms."""
    one, two = (_image_paths(Path(root)) for root in (first, second))
    found = []
    for name in sorted({*one, *two}):
        if name not in one or name not in two:
            there = ["made" if name in side else "absent" for side in (one, two)]
            found.append(
                Difference(
                    category="images", where=name, what="image", first=there[0], second=there[1], size=math.inf
                )
            )
            continue
        found.append(_image_difference(name, one[name], two[name]))
    return found


def _image_paths(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    folder = RunFolder(root)
    for image in _context(folder).images:
        spws = ",".join(map(str, image.spws))
        key = f"{image.field} {image.intent} spw {spws} {image.specmode} {image.stokes} {image.kind}"
        path = inside(folder.work, image.name, "image")
        if path.is_dir():
            found[key] = path
    return found


def _image_difference(name: str, one: Path, two: Path) -> Difference:
    import numpy as np

    casa = Casa(Recorder(), "/dev/null")
    planes, difference, square, largest = 0, 0.0, 0.0, 0.0
    with casa.image(one) as a, casa.image(two) as b:
        shape = [int(n) for n in a.shape()]
        if shape != [int(n) for n in b.shape()]:
            return Difference(
                category="images", where=name, what="shape", first=shape, second=[int(n) for n in b.shape()],
                size=math.inf,
            )  # fmt: skip
        channels = shape[3] if len(shape) > 3 else 1
        for channel in range(channels):
            corners = {}
            if len(shape) > 3:
                corners = {"blc": [0, 0, 0, channel], "trc": [shape[0] - 1, shape[1] - 1, shape[2] - 1, channel]}
            x, y = (np.nan_to_num(np.asarray(image.getchunk(**corners), dtype=float)) for image in (a, b))
            planes += x.size
            square += float((x**2).sum())
            difference += float(((x - y) ** 2).sum())
            largest = max(largest, float(np.abs(x - y).max()))
    rms = math.sqrt(square / max(planes, 1))
    residual = math.sqrt(difference / max(planes, 1))
    return Difference(
        category="images", where=name, what="rms of the difference", first=rms, second=residual,
        size=residual / rms if rms else 0.0, note=f"largest difference {largest:.4g}",
    )  # fmt: skip


def _context(folder: RunFolder) -> Context:
    path = folder.root / "context.json"
    return read_json(path, Context) if path.is_file() else Context(run_name="", root=folder.root)
