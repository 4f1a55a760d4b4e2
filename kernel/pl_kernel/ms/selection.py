"""Small helpers for CASA selection strings, so that nobody parses or writes them a second time."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from pl_kernel.errors import InputError

_PLAIN_NAME = re.compile(r"[A-Za-z0-9+\-_]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9+\-_]")
_FILE_UNSAFE = re.compile(r"[^A-Za-z0-9+\-_.]")
_CHANNELS = re.compile(r"(\d+)(?:~(\d+)(?:\^(\d+))?)?")


# ---- ids -----------------------------------------------------------------------------------------------------------


def compact_ids(ids: Iterable[int]) -> str:
    """``[0, 1, 2, 3, 5]`` → ``"0~3,5"`` (sorted, without repetition; two neighbours stay ``"0,1"``)."""
    runs: list[list[int]] = []
    for number in sorted({int(i) for i in ids}):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(_run_text(first, last) for first, last in runs)


def _run_text(first: int, last: int) -> str:
    if last == first:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}~{last}"


def expand_ids(text: str) -> tuple[int, ...]:
    """``"0~3,5"`` → ``(0, 1, 2, 3, 5)``.

    Raises:
        InputError: something is neither an id nor a range of ids.
    """
    ids: set[int] = set()
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)\s*(?:~\s*(\d+))?", item)
        if match is None:
            raise InputError(f"'{item}' in '{text}' is neither an id nor a range of ids such as 0~3.")
        first = int(match[1])
        ids.update(range(first, int(match[2] or first) + 1))
    return tuple(sorted(ids))


# ---- names ---------------------------------------------------------------------------------------------------------


def quote_name(name: str) -> str:
    """A field or source name as CASA's selection wants it.

    Quoted when it consists of digits only (CASA would take it for an id) or holds any character outside letters,
    digits, ``+``, ``-`` and ``_``.
    """
    if _PLAIN_NAME.fullmatch(name) and not name.isdigit():
        return name
    # CASA has no escape inside quotes; the single-character wildcard stands for a quote in the name.
    return '"' + name.replace('"', "?") + '"'


def clean_name(name: str) -> str:
    """A name safe inside file names and CASA image names: other characters than ``A-Za-z0-9+-_`` become ``_``."""
    return _UNSAFE.sub("_", name) or "_"


def clean_file_name(text: str) -> str:
    """A file-name component: like `clean_name`, but dots stay. Never empty, never hidden, never a path."""
    return _FILE_UNSAFE.sub("_", text).lstrip(".") or "_"


def join_names(names: Iterable[str]) -> str:
    """Names → one CASA selection, quoted as needed, in the order given and without repetition."""
    return ",".join(dict.fromkeys(quote_name(name) for name in names))


def split_names(selection: str) -> tuple[str, ...]:
    """Split a selection at commas outside double quotes; quotes stay on the items."""
    return tuple(item for item in (i.strip() for i in re.findall(r'(?:"[^"]*"|[^,"])+', selection)) if item)


def select_by_name(
    selection: str,
    names: Mapping[int, str],
    kind: str,
    *,
    where: str = "",
    also: Callable[[str], set[int]] | None = None,
    names_first: bool = False,
) -> tuple[int, ...]:
    """Resolve a selection of names, ``*`` and ``?`` patterns, ids and id ranges to ids, ascending.

    Parameters:
        selection: CASA-like text; empty means everything; items starting with ``!`` are taken away.
        names: id → name.
        kind, where: words for the error ("field", " in day2.ms").
        also: a second way to resolve an item (stations of antennas).
        names_first: whether a plain number is a name before it is an id. In CASA it is for antennas, not for fields
            (tried with ms.msselect).

    Raises:
        InputError: an item matches nothing.
    """
    items = split_names(selection)
    chosen: set[int] = set() if any(not item.startswith("!") for item in items) else set(names)
    for item in items:
        wanted = item[1:].strip() if item.startswith("!") else item
        found = _resolve(wanted, names, names_first) or (also(wanted) if also else set())
        if not found:
            known = ", ".join(dict.fromkeys(names.values()))
            raise InputError(f"No {kind} matches '{wanted}'{where}; there are: {known}.")
        chosen = chosen - found if item.startswith("!") else chosen | found
    return tuple(sorted(chosen))


def _resolve(item: str, names: Mapping[int, str], names_first: bool) -> set[int]:
    if item.startswith('"') and item.endswith('"') and len(item) > 1:
        return _by_pattern(item[1:-1], names)
    if re.fullmatch(r"\d+(\s*~\s*\d+)?", item):
        by_id, by_name = set(expand_ids(item)) & set(names), _by_pattern(item, names)
        return (by_name or by_id) if names_first else (by_id or by_name)
    if match := re.fullmatch(r"([<>])\s*(\d+)", item):
        limit = int(match[2])
        return {i for i in names if (i < limit if match[1] == "<" else i > limit)}
    return _by_pattern(item, names)


def _by_pattern(pattern: str, names: Mapping[int, str]) -> set[int]:
    exact = {i for i, name in names.items() if name == pattern}
    if exact or not any(c in pattern for c in "*?"):
        return exact
    # Only * and ? are wildcards in CASA; brackets are ordinary characters of names.
    literal = pattern.replace("[", "[[]")
    return {i for i, name in names.items() if fnmatch.fnmatchcase(name, literal)}


# ---- spectral windows ----------------------------------------------------------------------------------------------


@attrs.frozen
class SpwPart:
    """One window of a selection, with the text after the colon (``"4~10;20"``, ``"1.2~1.3GHz"`` or nothing)."""

    spw: int
    channels: str = ""

    def channel_ranges(self, n_channels: int) -> tuple[tuple[int, int], ...]:
        """First and last channel of each selected range, clipped to the window; all of it when none are named.

        Raises:
            InputError: the channels are given as frequencies or velocities.
        """
        if self.channels in ("", "*"):
            return ((0, n_channels - 1),)
        ranges: list[tuple[int, int]] = []
        for item in filter(None, (part.strip() for part in self.channels.split(";"))):
            match = _CHANNELS.fullmatch(item)
            if match is None:
                raise InputError(f"'{item}' in spw selection '{self.spw}:{self.channels}' is no range of channels.")
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            if step > 1:
                ranges += [(c, c) for c in range(first, min(last, n_channels - 1) + 1, step)]
            elif first < n_channels:
                ranges.append((first, min(last, n_channels - 1)))
        return tuple(ranges)


def parse_spw(selection: str, *, known: Sequence[int], names: Mapping[str, int] | None = None) -> tuple[SpwPart, ...]:
    """Parse a selection such as ``"0:4~10;20~30,2,5~7:3~60"`` into one part per window, in ascending order.

    Parameters:
        selection: CASA spw selection; ``""`` and ``"*"`` mean all of `known`.
        known: the ids that exist; others are dropped silently (a window may be missing from one set of several).
        names: window name → id, to allow names and patterns.

    Raises:
        InputError: an item is neither ids, ``*`` nor a known name.
    """
    parts: dict[int, list[str]] = {}
    everything = set(known)
    for item in split_names(selection) or ("*",):
        head, _, channels = item.partition(":")
        head = head.strip().strip('"')
        if head in ("", "*"):
            ids: Iterable[int] = everything
        elif re.fullmatch(r"\d+(\s*~\s*\d+)?", head):
            ids = expand_ids(head)
        else:
            ids = _by_pattern(head, {i: name for name, i in (names or {}).items()})
            if not ids:
                raise InputError(f"'{head}' in spw selection '{selection}' is neither an id nor the name of a window.")
        for spw in ids:
            if spw in everything:
                parts.setdefault(spw, []).append(channels.strip())
    return tuple(SpwPart(spw, "" if "" in texts else ";".join(texts)) for spw, texts in sorted(parts.items()))


def format_spw(parts: Sequence[SpwPart]) -> str:
    """The inverse of `parse_spw`: whole windows as compact ids, the others with their channels."""
    plain = compact_ids(part.spw for part in parts if not part.channels)
    return ",".join(filter(None, [plain, *(f"{p.spw}:{p.channels}" for p in parts if p.channels)]))


def spw_ids(selection: str, known: Sequence[int], names: Mapping[str, int] | None = None) -> tuple[int, ...]:
    """The ids a selection names, without their channels."""
    return tuple(part.spw for part in parse_spw(selection, known=known, names=names))
