"""Scan intents: the words of the pipeline, how an observatory's words become them, and rules given by the user.

The vocabulary is data: telescope plugins pass an `IntentVocabulary`; `GENERIC_VOCABULARY` understands the
`CALIBRATE_…#…` and `OBSERVE_TARGET#…` words of the science data model.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from pl_kernel.errors import InputError, UnknownName

if TYPE_CHECKING:
    from pl_kernel.ms.model import MeasurementSet

INTENTS = (
    "TARGET",
    "PHASE",
    "BANDPASS",
    "AMPLITUDE",
    "CHECK",
    "DELAY",
    "POLARIZATION",
    "POLANGLE",
    "POLLEAKAGE",
    "DIFFGAINREF",
    "DIFFGAINSRC",
    "ATMOSPHERE",
    "POINTING",
    "REFERENCE",
    "WVR",
    "SIDEBAND",
    "FOCUS",
    "SYSTEM_CONFIGURATION",
    "UNKNOWN",
)
"""The normalised intents. Inputs, selections and rules use these words only."""


def parse_intents(text: str | Iterable[str]) -> tuple[str, ...]:
    """``"phase, BANDPASS"`` → ``("PHASE", "BANDPASS")``.

    Raises:
        UnknownName: a word is no intent of the pipeline.
    """
    words = text.split(",") if isinstance(text, str) else list(text)
    intents = tuple(dict.fromkeys(w.strip().upper() for w in words if w.strip()))
    for word in intents:
        if word not in INTENTS:
            raise UnknownName("intent", word, INTENTS)
    return intents


# ---- the observatory's words ---------------------------------------------------------------------------------------


@attrs.frozen
class IntentWord:
    """One row of a vocabulary: `word` (``CALIBRATE_PHASE``), `qualifier` (``ON_SOURCE``; empty: any), the intent.

    An empty intent says that the word carries no purpose of its own.
    """

    word: str
    intent: str
    qualifier: str = ""


@attrs.frozen
class Exclusion:
    """`intent` is dropped from a state that also has one of `beside`, in data from before `before` (None: always)."""

    intent: str
    beside: frozenset[str]
    before: dt.datetime | None = None


@attrs.frozen
class IntentVocabulary:
    """How the words of STATE.OBS_MODE (and FIELD.SOURCE_TYPE of old data) become intents."""

    words: tuple[IntentWord, ...] = ()
    source_types: Mapping[str, str] = attrs.field(factory=dict)
    exclusions: tuple[Exclusion, ...] = ()

    def with_words(self, *words: IntentWord) -> IntentVocabulary:
        """A vocabulary in which `words` replace the rows for the same word and qualifier."""
        replaced = {(w.word, w.qualifier) for w in words}
        return attrs.evolve(self, words=words + tuple(w for w in self.words if (w.word, w.qualifier) not in replaced))

    def intents_of(self, obs_mode: str, when: dt.datetime | None = None) -> frozenset[str]:
        """Intents of one OBS_MODE: items at commas; ``#``, ``.`` and ``_`` all separate word and qualifier."""
        found = set(self.words_of(obs_mode).values())
        for rule in self.exclusions:
            if rule.intent in found and found & rule.beside and (rule.before is None or (when and when < rule.before)):
                found.discard(rule.intent)
        return frozenset(found)

    def words_of(self, obs_mode: str) -> dict[str, str]:
        """Items of one OBS_MODE that have an intent, with it."""
        items = (item.strip() for item in obs_mode.split(","))
        return {item: intent for item in items if (intent := self._intent_of(item))}

    def _intent_of(self, item: str) -> str:
        text = re.sub(r"[#.\s]+", "_", item.strip().upper())
        fitting = [w for w in self.words if _fits(text, w)]
        if not fitting:
            return ""
        # The longest word wins (CALIBRATE_POL_ANGLE before CALIBRATE_POL), then the one that names its qualifier.
        return max(fitting, key=lambda w: (len(w.word), len(w.qualifier))).intent


def _fits(text: str, row: IntentWord) -> bool:
    if row.qualifier:
        return text == f"{row.word}_{row.qualifier}"
    return text == row.word or text.startswith(row.word + "_")


GENERIC_VOCABULARY = IntentVocabulary(
    words=(
        IntentWord("OBSERVE_TARGET", "TARGET"),
        IntentWord("OBSERVE_TARGET", "REFERENCE", "OFF_SOURCE"),
        IntentWord("OBSERVE_CHECK_SOURCE", "CHECK"),
        IntentWord("CALIBRATE_TARGET", "TARGET"),
        IntentWord("CALIBRATE_PHASE", "PHASE"),
        IntentWord("CALIBRATE_BANDPASS", "BANDPASS"),
        IntentWord("CALIBRATE_FLUX", "AMPLITUDE"),
        IntentWord("CALIBRATE_AMPLI", "AMPLITUDE"),
        IntentWord("CALIBRATE_AMPLITUDE", "AMPLITUDE"),
        IntentWord("CALIBRATE_DELAY", "DELAY"),
        IntentWord("CALIBRATE_POLARIZATION", "POLARIZATION"),
        IntentWord("CALIBRATE_POL_ANGLE", "POLANGLE"),
        IntentWord("CALIBRATE_POL_LEAKAGE", "POLLEAKAGE"),
        IntentWord("CALIBRATE_DIFFGAIN", "DIFFGAINREF", "REFERENCE"),
        IntentWord("CALIBRATE_DIFFGAIN", "DIFFGAINSRC", "ON_SOURCE"),
        IntentWord("CALIBRATE_ATMOSPHERE", "ATMOSPHERE"),
        IntentWord("CALIBRATE_POINTING", "POINTING"),
        IntentWord("CALIBRATE_FOCUS", "FOCUS"),
        IntentWord("CALIBRATE_WVR", "WVR"),
        IntentWord("CALIBRATE_SIDEBAND_RATIO", "SIDEBAND"),
        IntentWord("SYSTEM_CONFIGURATION", "SYSTEM_CONFIGURATION"),
    ),
    source_types={"SOURCE": "TARGET", "GAIN": "PHASE", "FLUX": "AMPLITUDE"},
)


# ---- rules given by the user ---------------------------------------------------------------------------------------


@attrs.frozen
class IntentRule:
    """Fields whose name matches one of `fields` (``*`` and ``?`` are wildcards) get exactly `intents`."""

    intents: tuple[str, ...]
    fields: tuple[str, ...]


def parse_rule(text: str) -> IntentRule:
    """Parse ``"BANDPASS,AMPLITUDE=1331+305*"``; several patterns are separated by ``;`` (names may hold commas).

    Raises:
        InputError: no ``=``, no intent, or no pattern; UnknownName: an intent that the pipeline does not know.
    """
    intents, equals, fields = text.partition("=")
    patterns = tuple(p for p in (part.strip().strip('"') for part in fields.split(";")) if p)
    if not equals or not intents.strip() or not patterns:
        raise InputError(f"'{text}' is no intents rule; write it like BANDPASS,AMPLITUDE=1331+305* .")
    return IntentRule(parse_intents(intents), patterns)


def read_rules(path: Path | str) -> tuple[IntentRule, ...]:
    """Read an intents file: YAML (intent → field pattern or list of patterns), or one rule per line as text.

    ```yaml
    BANDPASS,AMPLITUDE: [1331+305*]
    PHASE: 1445+0990*
    ```

    Raises:
        InputError: the file is unreadable or holds something else; the sentence names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot read the intents file {path}: {(error.strerror or str(error)).lower()}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The intents file {path} is not UTF-8 text.") from error
    lines = [(n, line.split("#", 1)[0].strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line]
    if lines and all("=" in line for _, line in lines):
        return tuple(_rule_at(f"{path}, line {n}", line) for n, line in lines)
    return _rules_of_yaml(path, text)


def _rule_at(place: str, line: str) -> IntentRule:
    try:
        return parse_rule(line)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _rules_of_yaml(path: Path, text: str) -> tuple[IntentRule, ...]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"The intents file {path} is neither YAML nor lines such as PHASE=1445* .") from error
    if not isinstance(data, Mapping) or not data:
        raise InputError(f"The intents file {path} must map intents to field patterns, such as 'PHASE: 1445*'.")
    rules = []
    for intents, patterns in data.items():
        listed = patterns if isinstance(patterns, list) else [patterns]
        if not listed or not all(isinstance(p, (str, int, float)) for p in listed):
            raise InputError(f"{path}: the fields of {intents} must be a pattern or a list of patterns.")
        try:
            rules.append(IntentRule(parse_intents(str(intents)), tuple(str(p) for p in listed)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return tuple(rules)


def intents_by_field(ms: MeasurementSet, rules: Sequence[IntentRule]) -> dict[int, frozenset[str]]:
    """Intents of each field that a rule names; fields in several rules get the intents of all of them.

    Raises:
        UnknownName: a pattern matches no field of the measurement set; the sentence offers near matches.
    """
    given: dict[int, set[str]] = {}
    for rule in rules:
        for pattern in rule.fields:
            found = [f.id for f in ms.fields if _name_fits(f.name, pattern)]
            if not found:
                raise UnknownName("field", pattern, [f.name for f in ms.fields], where=f" in {ms.name}")
            for field in found:
                given.setdefault(field, set()).update(rule.intents)
    return {field: frozenset(intents) for field, intents in sorted(given.items())}


def _name_fits(name: str, pattern: str) -> bool:
    # Names come from data and hold brackets and stars: a literal match counts first, and [ ] are no wildcards.
    return name == pattern or fnmatch.fnmatchcase(name.upper(), pattern.upper().replace("[", "[[]"))
