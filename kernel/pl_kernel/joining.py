"""One result from the results of a stage on single measurement sets.

A stage that treats each measurement set by itself (``Stage.each_set``) is called once for every set, and this joins
what it returned: lists one after the other, tables by their keys, the rest has to agree.  Fields of a result that are
put together in another way say so with ``joined``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import attrs

from .effects import Effect, SetValue
from .errors import PlError
from .serialize import to_json
from .stage import JOINED, Result

R = TypeVar("R", bound=Result)


def join_results(parts: Sequence[R], values: Mapping[str, Any]) -> R:
    """Return the result of a stage from its results for single measurement sets, in their order.

    ``values`` are the run values the stage saw: what a part left unchanged there must not undo another's change.

    Raises
    ------
    PlError : the parts disagree about something that is one for all.
    """
    first = parts[0]
    changes: dict[str, Any] = {"effects": _effects([p.effects for p in parts], values)}
    for field in attrs.fields(cast(Any, type(first))):
        if field.name == "effects":
            continue
        found = [getattr(p, field.name) for p in parts]
        how = field.metadata.get(JOINED)
        changes[field.name] = how(found) if how else _put_together(found, f"{type(first).__name__}.{field.name}")
    return cast(R, attrs.evolve(cast(Any, first), **changes))


def _put_together(found: Sequence[Any], what: str) -> Any:
    first = found[0]
    if isinstance(first, (tuple, list)):
        return type(first)(item for part in found for item in part)
    if isinstance(first, Mapping):
        whole: dict[Any, Any] = {}
        for part in found:
            for key, value in part.items():
                if key in whole and not _same(whole[key], value):
                    raise PlError(f"Measurement sets disagree about {what}[{key!r}]; the stage cannot be split by set.")
                whole[key] = value
        return whole
    if not all(_same(first, other) for other in found[1:]):
        raise PlError(f"Measurement sets disagree about {what}; the stage cannot be split by set.")
    return first


def _effects(parts: Sequence[Sequence[Effect]], values: Mapping[str, Any]) -> tuple[Effect, ...]:
    """All effects in order; those that set the same value become one, where the first of them stood."""
    whole: list[Effect] = []
    where: dict[str, int] = {}
    for effect in (e for part in parts for e in part):
        if not isinstance(effect, SetValue):
            whole.append(effect)
        elif effect.key not in where:
            where[effect.key] = len(whole)
            whole.append(effect)
        else:
            at = where[effect.key]
            known = whole[at]
            assert isinstance(known, SetValue)
            merged = _merge(values.get(effect.key), known.value, effect.value, effect.key)
            whole[at] = SetValue(effect.key, merged)
    return tuple(whole)


def _merge(base: Any, one: Any, two: Any, what: str) -> Any:
    """Both changes to a value: what one of them left as it was is taken from the other."""
    if _same(one, two) or _same(base, two):
        return one
    if _same(base, one):
        return two
    if not (isinstance(one, Mapping) and isinstance(two, Mapping)):
        raise PlError(f"Measurement sets disagree about the value {what}; the stage cannot be split by set.")
    known = base if isinstance(base, Mapping) else {}
    merged = {}
    for key in (*one, *(k for k in two if k not in one)):
        if key in one and key in two:
            merged[key] = _merge(known.get(key), one[key], two[key], f"{what}[{key!r}]")
        else:
            here, value = (one, one[key]) if key in one else (two, two[key])
            removed_elsewhere = key in known and _same(known[key], here[key])
            if not removed_elsewhere:
                merged[key] = value
    return merged


def _same(one: Any, two: Any) -> bool:
    # Through JSON: arrays and records without equality of their own compare by what would be written.
    return one is two or bool(to_json(one) == to_json(two))
