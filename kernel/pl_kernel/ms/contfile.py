"""`cont.dat`: continuum ranges per field and window. Reads versions 1 to 3 of the format, writes version 3.

```
Field: <field name>

SpectralWindow: <virtual spw id> <spw name>
Flags: ALLCONT LOWBANDWIDTH LOWSPREAD
<f1>~<f2>GHz LSRK
NONE
```
Version 2 gives no window name; version 1 says `SPWn`, no frame (meaning TOPO), and the bare name of the field.
`ALL` in place of ranges means that everything is continuum, `NONE` that no continuum was found.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from pl_kernel.errors import InputError
from pl_kernel.jsonfiles import write_bytes_atomically
from pl_kernel.ms.frequency import FrequencySelection, parse_range_hz
from pl_kernel.ms.records import Frame
from pl_kernel.ms.virtual import VirtualSpw

FLAGS = ("ALLCONT", "LOWBANDWIDTH", "LOWSPREAD")
_WINDOW = re.compile(r"SpectralWindow:\s*(\d+)(?:\s+(\S.*))?")
_WINDOW_V1 = re.compile(r"SPW:?\s*(\d+):?")
_KNOWN_V1 = re.compile(r"SPW:?\s*\d+:?|ALL|ALLCONT|NONE")
_FRAMES = {"LSRK": Frame.LSRK, "TOPO": Frame.TOPO, "SOURCE": Frame.SOURCE, "BARY": Frame.BARY}


@attrs.frozen
class ContRanges:
    """Continuum of one field in one window (virtual id). `frame` holds for all ranges; `none`: none was found."""

    field: str
    spw: VirtualSpw
    spw_name: str = ""
    ranges_hz: tuple[tuple[float, float], ...] = ()
    frame: Frame = Frame.LSRK
    all_continuum: bool = False
    low_bandwidth: bool = False
    low_spread: bool = False
    none: bool = False

    @property
    def selection(self) -> FrequencySelection:
        """The ranges, joined."""
        nothing = FrequencySelection(self.frame, self.spw)
        return nothing.union(attrs.evolve(nothing, ranges_hz=self.ranges_hz))

    @property
    def text(self) -> str:
        """``"f1~f2GHz;f3~f4GHz LSRK"``, or ``"ALLCONT"`` / ``"NONE"``."""
        if self.none:
            return "NONE"
        if self.ranges_hz:
            return f"{self.selection.to_text()} {self.frame.name}"
        return "ALLCONT" if self.all_continuum else ""


@attrs.frozen
class ContAnswer:
    """Answer to a query: `text` is ranges with frame, ``"ALLCONT"``, ``"NONE"``, or empty when nothing is known."""

    text: str = ""
    all_continuum: bool = False
    low_bandwidth: bool = False
    low_spread: bool = False
    selection: FrequencySelection | None = None


@attrs.frozen
class ContFile:
    """The whole file; entries in the order of the file."""

    entries: tuple[ContRanges, ...] = ()

    def query(self, field: str, spw: VirtualSpw | None = None, spw_name: str = "") -> ContAnswer:
        """What is known for a field and a window; a window's name has priority over its id."""
        candidates = [e for e in self.entries if e.field == field]
        named = [e for e in candidates if spw_name and e.spw_name == spw_name]
        # An entry with another name is another window, even if the ids are equal (files travel between runs).
        found = named or [e for e in candidates if e.spw == spw and not (spw_name and e.spw_name)]
        if not found:
            return ContAnswer()
        e = found[-1]
        selection = None if e.none or not e.ranges_hz else e.selection
        return ContAnswer(e.text, e.all_continuum, e.low_bandwidth, e.low_spread, selection)

    def with_entry(self, entry: ContRanges) -> ContFile:
        """The file with `entry` in place of what it says for the same field and window."""
        others = tuple(e for e in self.entries if (e.field, e.spw) != (entry.field, entry.spw))
        return ContFile((*others, entry))

    def to_text(self) -> str:
        """Version 3 of the format; fields in the order of their first entry."""
        lines: list[str] = []
        for field in dict.fromkeys(e.field for e in self.entries):
            lines += [f"Field: {field}", ""]
            for e in sorted((e for e in self.entries if e.field == field), key=lambda e: e.spw):
                lines += [*_entry_lines(e), ""]
        return "\n".join(lines) + ("\n" if lines else "")

    def write(self, path: Path | str) -> None:
        """Write version 3, atomically. Raises PlError when the file cannot be written."""
        write_bytes_atomically(Path(path), self.to_text().encode("utf-8"))


def _entry_lines(entry: ContRanges) -> list[str]:
    head = f"SpectralWindow: {entry.spw} {entry.spw_name}".rstrip()
    given = {"ALLCONT": entry.all_continuum, "LOWBANDWIDTH": entry.low_bandwidth, "LOWSPREAD": entry.low_spread}
    flags = [name for name in FLAGS if given[name]]
    lines = [head] + ([f"Flags: {' '.join(flags)}"] if flags else [])
    if entry.none:
        return [*lines, "NONE"]
    if not entry.ranges_hz:
        return [*lines, "ALL"] if entry.all_continuum else lines
    return lines + [f"{a / 1e9:.10f}~{b / 1e9:.10f}GHz {entry.frame.name}" for a, b in entry.selection.ranges_hz]


def read_contfile(path: Path | str) -> ContFile:
    """Read a file; a missing one is empty.

    Raises:
        InputError: a line is neither a heading, flags, a range nor a keyword; the sentence names file and line.
    """
    path = Path(path)
    if not path.exists():
        return ContFile()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: it is no readable text file.") from error
    return parse_contfile(text, str(path))


def parse_contfile(text: str, source: str = "cont.dat") -> ContFile:
    """Parse the text of a file; errors as for `read_contfile`."""
    entries: list[ContRanges] = []
    field: str | None = None
    entry: ContRanges | None = None
    # In version 1 a line that is nothing else is the name of a field.
    version_1 = re.search(r"^SPW\s*\d", text, re.MULTILINE) is not None and "SpectralWindow:" not in text
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("Field:") or (version_1 and "~" not in line and not _KNOWN_V1.fullmatch(line)):
            entries += [entry] if entry else []
            field, entry = line.removeprefix("Field:").strip().strip('"'), None
            continue
        match = _WINDOW.fullmatch(line) or _WINDOW_V1.fullmatch(line)
        if match:
            entries += [entry] if entry else []
            if field is None:
                raise InputError(f"{source}, line {number}: a spectral window stands before any field.")
            name = "" if match.re is _WINDOW_V1 else (match[2] or "").strip()
            entry = ContRanges(field, VirtualSpw(int(match[1])), name, frame=Frame.TOPO if version_1 else Frame.LSRK)
            continue
        if entry is None:
            raise InputError(f"{source}, line {number}: '{line}' belongs to no spectral window.")
        entry = _with_line(entry, line, f"{source}, line {number}")
    entries += [entry] if entry else []
    return ContFile(tuple(entries))


def _with_line(entry: ContRanges, line: str, place: str) -> ContRanges:
    if line.startswith("Flags:"):
        flags = line.removeprefix("Flags:").split()
        if unknown := [f for f in flags if f not in FLAGS]:
            raise InputError(f"{place}: flag {unknown[0]} is none of {', '.join(FLAGS)}.")
        return attrs.evolve(
            entry,
            all_continuum=entry.all_continuum or "ALLCONT" in flags,
            low_bandwidth="LOWBANDWIDTH" in flags,
            low_spread="LOWSPREAD" in flags,
        )
    if line in ("ALL", "ALLCONT"):
        return attrs.evolve(entry, all_continuum=True)
    if line == "NONE":
        return attrs.evolve(entry, none=True)
    limits, _, frame_name = line.rpartition(" ") if line.split()[-1] in _FRAMES else (line, "", "")
    try:
        limits_hz = tuple(parse_range_hz(item) for item in limits.split(";") if item.strip())
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    frame = _FRAMES[frame_name] if frame_name else Frame.TOPO
    if entry.ranges_hz and frame is not entry.frame:
        raise InputError(f"{place}: the ranges of one spectral window must be in one frame.")
    return attrs.evolve(entry, ranges_hz=(*entry.ranges_hz, *limits_hz), frame=frame)
