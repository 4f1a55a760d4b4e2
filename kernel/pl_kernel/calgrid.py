"""Cells of a calibration: (antenna, spw, field, intent), grouped into classes so that a few boxes stand for thousands.

Two ids of one dimension belong to the same class when every selection in play holds both or neither, and they were
observed in the same combinations. The work then goes with the number of classes, not of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any, TypeVar, cast

import attrs

C = TypeVar("C", bound=Hashable)
_Ids = tuple[frozenset[int], ...]
Box = tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[str]]
"""Antenna ids, real spw ids, field ids, intents."""
Cell = tuple[int, ...]
"""Class indices: antenna, spw, field, set of intents."""
DIMENSIONS = 4


@attrs.frozen
class Grid:
    """Classes by dimension, and which (spw, field, intent) classes were observed."""

    classes: tuple[_Ids, _Ids, _Ids, tuple[frozenset[str], ...]]
    real: frozenset[tuple[int, int, int]]

    def cells(self) -> Iterator[Cell]:
        """Index tuples of the cells that hold data."""
        for antenna in range(len(self.classes[0])):
            for rest in sorted(self.real):
                yield (antenna, *rest)

    def box(self, cells: Box) -> Box:
        """Class indices → ids."""
        a, s, f, i = cells
        return (
            frozenset().union(*(self.classes[0][k] for k in a)),
            frozenset().union(*(self.classes[1][k] for k in s)),
            frozenset().union(*(self.classes[2][k] for k in f)),
            frozenset().union(*(self.classes[3][int(k)] for k in i)),
        )

    def representative(self, cell: Cell) -> tuple[int, int, int, str]:
        """One (antenna, spw, field, intent) of a cell; any other has the same calibration."""
        a, s, f, i = cell
        return (min(self.classes[0][a]), min(self.classes[1][s]), min(self.classes[2][f]), min(self.classes[3][i]))


def make_grid(within: Box, boxes: Sequence[Box], observed: Iterable[tuple[int, int, str]]) -> Grid:
    """Classes of the ids of `within`, given the selections in play and the observed (field, spw, intent)."""
    antennas, spws, fields, intents = within
    real = {(f, s, i) for f, s, i in observed if f in fields and s in spws and i in intents}
    by_spw: dict[int, set[tuple[int, str]]] = {}
    by_field: dict[int, set[tuple[int, str]]] = {}
    by_intent: dict[str, set[tuple[int, int]]] = {}
    for f, s, i in real:
        by_spw.setdefault(s, set()).add((f, i))
        by_field.setdefault(f, set()).add((s, i))
        by_intent.setdefault(i, set()).add((f, s))
    classes = (
        _classes(antennas, [b[0] for b in boxes], lambda _: 0),
        _classes(by_spw, [b[1] for b in boxes], lambda s: frozenset(by_spw[s])),
        _classes(by_field, [b[2] for b in boxes], lambda f: frozenset(by_field[f])),
        _classes(by_intent, [b[3] for b in boxes], lambda i: frozenset(by_intent[i])),
    )
    spw_of = {s: k for k, ids in enumerate(classes[1]) for s in ids}
    field_of = {f: k for k, ids in enumerate(classes[2]) for f in ids}
    intent_of = {i: k for k, ids in enumerate(classes[3]) for i in ids}
    return Grid(classes, frozenset((spw_of[s], field_of[f], intent_of[i]) for f, s, i in real))


def _classes(
    ids: Iterable[C], selections: Sequence[frozenset[C]], observed: Callable[[C], Hashable]
) -> tuple[frozenset[C], ...]:
    distinct = list(dict.fromkeys(selections))
    groups: dict[Hashable, set[C]] = {}
    for one in ids:
        groups.setdefault((tuple(one in s for s in distinct), observed(one)), set()).add(one)
    return tuple(sorted((frozenset(g) for g in groups.values()), key=cast("Callable[[frozenset[C]], Any]", min)))


def merge(values: dict[Cell, C]) -> list[tuple[tuple[frozenset[int], ...], C]]:
    """Merge cells of equal value into boxes; a box may cover cells without data, none of another value or box.

    First dimension by dimension where the other three agree exactly, then pairs whose hull is free of other values.
    Order: by first appearance of the value, then by position.
    """
    merged = []
    for value in dict.fromkeys(values.values()):
        boxes: list[tuple[frozenset[int], ...]] = [
            tuple(frozenset([k]) for k in cell) for cell, v in values.items() if v == value
        ]
        for dimension in range(DIMENSIONS):
            boxes = _merge_along(boxes, dimension)
        merged += [(box, value) for box in _merge_hulls(boxes, values)]
    return merged


def _merge_along(boxes: list[tuple[frozenset[int], ...]], dimension: int) -> list[tuple[frozenset[int], ...]]:
    groups: dict[tuple[frozenset[int], ...], frozenset[int]] = {}
    for box in boxes:
        others = box[:dimension] + box[dimension + 1 :]
        groups[others] = groups.get(others, frozenset()) | box[dimension]
    return [(*others[:dimension], ids, *others[dimension:]) for others, ids in groups.items()]


def _merge_hulls(boxes: list[tuple[frozenset[int], ...]], values: dict[Cell, C]) -> list[tuple[frozenset[int], ...]]:
    done: list[tuple[frozenset[int], ...]] = []
    for box in boxes:
        current = box
        again = True
        while again:
            again = False
            for other in done:
                hull = tuple(x | y for x, y in zip(current, other, strict=True))
                # No data of another value, and none that a third box of the same value holds: no cell in two boxes.
                held = {cell for part in (current, other) for cell in product(*part)}
                if all(cell in held for cell in product(*hull) if cell in values):
                    done.remove(other)
                    current = hull
                    again = True
                    break
        done.append(current)
    return sorted(done, key=lambda b: tuple(sorted(ids) for ids in b))
