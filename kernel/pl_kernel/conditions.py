"""Conditions on the data: the ``when:`` of a recipe's step, read by a parser and never evaluated as code.

Grammar, loosest binding first::

    condition  = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation   = "not" negation | "(" condition ")" | test
    test       = name [ operator value ]
    operator   = "==" | "!=" | "<=" | ">=" | "<" | ">" | "contains"
    value      = number | word | 'quoted text' | "quoted text"

A name alone is true when its fact is neither false, zero nor empty.  Facts are looked up when they are needed, so a
condition costs only what it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from .errors import InputError, UnknownName

if TYPE_CHECKING:
    from .context import Context

Lookup = Callable[[str], Any]

_TOKEN = re.compile(
    r"\s*(?:(?P<quoted>'[^']*'|\"[^\"]*\")|(?P<operator>==|!=|<=|>=|<|>)|(?P<bracket>[()])"
    r"|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.+-]))|(?P<word>[\w.+*-]+))"
)
_OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "contains")
_DEEPEST = 50


@attrs.frozen
class Test:
    """``name`` alone, or ``name operator value``."""

    __test__ = False  # not one of pytest's

    name: str
    operator: str = ""
    value: str | float | None = None

    def holds(self, lookup: Lookup) -> bool:
        fact = lookup(self.name)
        if not self.operator:
            return bool(fact)
        if self.operator == "contains":
            if isinstance(fact, str) or not isinstance(fact, Iterable):
                raise InputError(f"The condition '{self}' asks whether {self.name} contains something; it is no list.")
            return str(self.value).casefold() in {str(item).casefold() for item in fact}
        return _compare(fact, self.operator, self.value, str(self))

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.value}".strip() if self.operator else self.name


@attrs.frozen
class Not:
    """True when its part is not."""

    part: Condition

    def holds(self, lookup: Lookup) -> bool:
        return not self.part.holds(lookup)

    def __str__(self) -> str:
        return f"not {self.part}"


@attrs.frozen
class AllOf:
    """True when every part is; stops at the first that is not."""

    parts: tuple[Condition, ...]

    def holds(self, lookup: Lookup) -> bool:
        return all(part.holds(lookup) for part in self.parts)

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


@attrs.frozen
class AnyOf:
    """True when one part is; stops at the first."""

    parts: tuple[Condition, ...]

    def holds(self, lookup: Lookup) -> bool:
        return any(part.holds(lookup) for part in self.parts)

    def __str__(self) -> str:
        return " or ".join(str(part) for part in self.parts)


Condition = Test | Not | AllOf | AnyOf


def names(condition: Condition) -> tuple[str, ...]:
    """Return the names of the facts a condition asks for."""
    if isinstance(condition, Test):
        return (condition.name,)
    if isinstance(condition, Not):
        return names(condition.part)
    return tuple(dict.fromkeys(name for part in condition.parts for name in names(part)))


def parse(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    InputError : the text is no condition; the sentence shows where reading stopped.
    """
    return _Parser(text).read()


@attrs.define
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._split()
        self.next = 0
        self.depth = 0

    def _split(self) -> list[_Token]:
        tokens, at = [], 0
        while self.text[at:].strip():
            match = _TOKEN.match(self.text, at)
            if match is None:
                raise self._refuse(at)
            kind = match.lastgroup or ""
            tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            at = match.end()
        return tokens

    def _refuse(self, at: int | None = None) -> InputError:
        if at is None:
            at = self.tokens[self.next].at if self.next < len(self.tokens) else len(self.text)
        rest = self.text[at:].strip()
        where = f"at '{rest}'" if rest else "at its end"
        return InputError(
            f"The condition '{self.text}' cannot be read {where}; write for example "
            "\"n_ms > 1\", \"intents contains PHASE\" or \"has_lines and not (bands contains L)\"."
        )

    def _peek(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def _word(self, word: str) -> bool:
        token = self._peek()
        if token is not None and token.kind in ("word", "bracket") and token.text.lower() == word:
            self.next += 1
            return True
        return False

    def read(self) -> Condition:
        condition = self._any()
        if self._peek() is not None:
            raise self._refuse()
        return condition

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._word("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Condition:
        parts = [self._negation()]
        while self._word("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _negation(self) -> Condition:
        self.depth += 1
        if self.depth > _DEEPEST:  # a hostile file must not reach Python's own limit
            raise self._refuse()
        try:
            if self._word("not"):
                return Not(self._negation())
            if self._word("("):
                condition = self._any()
                if not self._word(")"):
                    raise self._refuse()
                return condition
            return self._test()
        finally:
            self.depth -= 1

    def _test(self) -> Condition:
        token = self._peek()
        if token is None or token.kind != "word" or not token.text[0].isalpha() or token.text.lower() in _RESERVED:
            raise self._refuse()
        self.next += 1
        operator = self._peek()
        if operator is None or operator.text.lower() not in _OPERATORS:
            return Test(token.text)
        self.next += 1
        value = self._peek()
        if value is None or value.kind not in ("number", "word", "quoted"):
            raise self._refuse()
        self.next += 1
        if value.kind == "number" and operator.text.lower() != "contains":
            return Test(token.text, operator.text, float(value.text))
        text = value.text[1:-1] if value.kind == "quoted" else value.text
        return Test(token.text, operator.text.lower(), text)


_RESERVED = {"and", "or", "not", "contains"}


def _compare(fact: Any, operator: str, value: str | float | None, said: str) -> bool:
    if isinstance(value, str) and isinstance(fact, (bool, str)):
        left: Any = str(fact).casefold()
        right: Any = value.casefold()
    elif isinstance(value, (int, float)) and isinstance(fact, (int, float)):
        left, right = float(fact), float(value)
    else:
        kind = "a list; use 'contains'" if isinstance(fact, (tuple, list, set, frozenset)) else repr(fact)
        raise InputError(f"The condition '{said}' cannot be decided: {said.split()[0]} is {kind}.")
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if isinstance(left, str):
        raise InputError(f"The condition '{said}' compares text by size; use == or !=.")
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])


# ---- facts of the data -----------------------------------------------------------------------------------------------


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


FACTS: Mapping[str, Callable[[Context], Any]] = {
    "n_ms": lambda c: len(c.measurement_sets),
    "intents": lambda c: tuple(sorted({str(i) for ms in c.measurement_sets for i in ms.intents})),
    "telescopes": lambda c: _unique(ms.telescope for ms in c.measurement_sets),
    "bands": lambda c: _unique(band for ms in c.measurement_sets for band in ms.bands),
    "fields": lambda c: _unique(field.name for ms in c.measurement_sets for field in ms.fields),
    "n_spws": lambda c: max((len(ms.science_spws) for ms in c.measurement_sets), default=0),
    "max_channels": lambda c: max(
        (spw.n_channels for ms in c.measurement_sets for spw in ms.science_spws), default=0
    ),
    "n_antennas": lambda c: max((len(ms.antennas) for ms in c.measurement_sets), default=0),
    "n_targets": lambda c: len(
        _unique(field.name for ms in c.measurement_sets for field in ms.fields_with_intent("TARGET"))
    ),
    "recipe": lambda c: c.recipe_name,
}
"""What every condition may ask; plugins add NAME as a heuristic of the slot ``when.NAME`` that takes the context."""


def lookup_in(context: Context) -> Lookup:
    """Return the function by which a condition learns facts: of the data, of plugins, or values left by stages."""

    def look_up(name: str) -> Any:
        if name in FACTS:
            return FACTS[name](context)
        if name in context.values:
            return context.values[name]
        from .plugins import registry

        slots = registry().heuristic_slots()
        if f"when.{name}" in slots:
            return registry().slots(f"when.{name}").choose(f"when.{name}", context.facts()).function(context)
        if "." in name:  # a value that a stage may leave, and has not
            return None
        offered = [slot.removeprefix("when.") for slot in slots if slot.startswith("when.")]
        raise UnknownName("fact to make a condition of", name, [*FACTS, *offered, *context.values])

    return look_up


def holds(text: str, context: Context) -> bool:
    """Return whether a condition holds for the data of a run; an empty condition always does."""
    return not text.strip() or parse(text).holds(lookup_in(context))
