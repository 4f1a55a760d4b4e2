"""What a renderer writes a stage's page with: sections of text, facts, tables and plots, stored as ``page.json``.

A renderer says *what* to show; how it looks is the business of :mod:`pl_kernel.weblog.site`, which reads the file.
A renderer runs in the stage's worker process, right after the stage::

    @renderer(BandpassResult)
    def bandpass_page(page, ctx, result):
        page.section("Solutions")
        page.table(["Measurement set", "Table"], [[ms, t] for ms, t in result.caltables.items()])
        page.plots(draw_solution, items, caption=lambda i: f"{i.antenna}, spw {i.spw}",
                   tags=lambda i: {"spw": str(i.spw), "antenna": i.antenna})

    def draw_solution(ctx_item, item, path):          # at module level: it may run in another process
        with plots.figure(path) as fig: ...

Nothing here imports matplotlib or CASA.
"""

from __future__ import annotations

import math
import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import attrs
import numpy as np

from pl_kernel.errors import PlError
from pl_kernel.serialize import register_tagged, to_json, write_json
from pl_kernel.weblog.names import anchor as make_anchor
from pl_kernel.weblog.names import slug

if TYPE_CHECKING:
    from pl_kernel.stage import Result

F = TypeVar("F", bound=Callable[..., Any])
NoteLevel = Literal["info", "warning", "error"]
SectionLevel = Literal["main", "detail"]
TAG_ORDER = ("vis", "field", "intent", "spw", "antenna", "pol", "scan", "band", "type")
"""The usual keys of plot tags, in the order in which the page offers them as filters; others follow."""



# ---- what a page is made of ----------------------------------------------------------------------------------------


@attrs.frozen
class Link:
    """A table cell that leads somewhere.

    ``href`` is ``#anchor`` (on this page), ``stage:7`` or ``stage:7#anchor``, ``ms:NAME`` (observation page),
    a path relative to the run folder (``products/x.fits``), or an http(s) address.  Anything else is shown as text.
    """

    text: str
    href: str


@attrs.frozen
class Score:
    """A table cell with a score between 0 and 1 in its colour; None is shown as n/a."""

    score: float | None
    text: str = ""


Cell = str | int | float | bool | None | Link | Score


class Block:
    """Base of everything that a section can hold."""


@attrs.frozen
class Text(Block):
    """A paragraph."""

    text: str


@attrs.frozen
class Note(Block):
    """A paragraph that wants to be noticed."""

    text: str
    level: str = "info"


@attrs.frozen
class Code(Block):
    """Text to be shown as it is, in a fixed-width face, with a copy button."""

    text: str
    label: str = ""


@attrs.frozen
class Facts(Block):
    """Names and values, in order."""

    items: tuple[tuple[str, Any], ...]


@attrs.frozen
class Table(Block):
    """Rows of cells; a cell is a plain value, or an object with ``kind`` (link, score, number)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""
    units: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


@attrs.frozen
class Picture:
    """One picture; ``file`` is relative to the stage's folder, width and height are pixels (0: unknown).

    ``seconds`` is what it took to draw it.
    """

    file: str
    caption: str = ""
    alt: str = ""
    tags: Mapping[str, str] = attrs.field(factory=dict)
    facts: tuple[tuple[str, Any], ...] = ()
    width: int = 0
    height: int = 0
    seconds: float = 0.0


@attrs.frozen
class Pictures(Block):
    """A group of pictures that are filtered and browsed together; ``failed`` says what could not be drawn."""

    name: str
    pictures: tuple[Picture, ...]
    title: str = ""
    size: str = "medium"
    failed: tuple[str, ...] = ()


@attrs.frozen
class Download(Block):
    """A file to take away; ``path`` is relative to the run folder."""

    path: str
    label: str = ""


for _cls, _tag in (
    (Text, "text"), (Note, "note"), (Code, "code"), (Facts, "facts"), (Table, "table"), (Pictures, "plots"),
    (Download, "download"),
):  # fmt: skip
    register_tagged(Block, _cls, _tag)


@attrs.frozen
class Section:
    """A titled part of a page; a ``detail`` section is folded until the reader opens it."""

    title: str
    anchor: str
    level: str = "main"
    blocks: tuple[Block, ...] = ()


@attrs.frozen
class PageRecord:
    """The content of ``page.json``."""

    title: str = ""
    sections: tuple[Section, ...] = ()
    failures: tuple[str, ...] = ()
    format: int = 1


class Log(Protocol):
    """What a page needs of the stage's log."""

    def warning(self, msg: str, /) -> object: ...


class PageContext(Protocol):
    """What a page needs of the stage's context; tests have a small one of their own."""

    @property
    def stage_dir(self) -> Path: ...
    @property
    def log(self) -> Any: ...
    def map(self, function: Callable[..., Any], items: Sequence[Any], *args: Any, label: str = "") -> list[Any]: ...


# ---- registration --------------------------------------------------------------------------------------------------


def renderer(target: type[Result] | str) -> Callable[[F], F]:
    """Mark a function ``f(page, ctx, result)`` as the renderer of a result class (and its subclasses) or of a stage."""

    def mark(function: F) -> F:
        function.pl_renderer_target = target  # type: ignore[attr-defined]
        return function

    return mark


# ---- the builder ---------------------------------------------------------------------------------------------------


class Page:
    """Collects the blocks of one stage's page.

    Blocks belong to the section opened last; a page that starts without one gets an untitled section.
    """

    def __init__(self, ctx: PageContext, title: str = "", on_data_read: Callable[[], None] | None = None) -> None:
        self._ctx = ctx
        self._on_data_read = on_data_read
        self._title = title
        self._sections: list[Section] = []
        self._blocks: list[Block] = []
        self._names: set[str] = set()
        self._failures: list[str] = []

    # -- structure

    def data_read(self) -> None:
        """Say that the renderer has read all it wants of the measurement sets, before it draws what it read.

        A stage that alters them can begin then.
        """
        if self._on_data_read is not None:
            self._on_data_read()

    def section(self, title: str, anchor: str | None = None, level: SectionLevel = "main") -> None:
        """Open a section; ``anchor`` makes a link target that stays the same when the title is reworded."""
        _one_of("level", level, ("main", "detail"))
        self._close()
        self._sections.append(Section(title, self._unique(make_anchor(anchor or title or "section")), level))

    def text(self, paragraph: str) -> None:
        """Add a paragraph of plain text (markup is shown, not obeyed)."""
        self._add(Text(str(paragraph)))

    def note(self, paragraph: str, level: NoteLevel = "info") -> None:
        """Add a paragraph in a box of its own."""
        _one_of("level", level, ("info", "warning", "error"))
        self._add(Note(str(paragraph), level))

    def code(self, text: str, label: str = "") -> None:
        """Add text as it is: a command, a file, a report of a task."""
        self._add(Code(str(text), label))

    def facts(self, items: Mapping[str, Any]) -> None:
        """Add names and values.  Values are cells like those of a table."""
        self._add(Facts(tuple((str(k), _cell(v)) for k, v in items.items())))

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        caption: str = "",
        units: Sequence[str] | Mapping[str, str] | None = None,
        filters: Sequence[str] = (),
        formats: Mapping[str, str] | None = None,
    ) -> None:
        """Add a table.

        columns : headings.
        rows : one sequence of cells per row: text, number, None, :class:`Link`, :class:`Score`.
        units : unit per column, as a list beside `columns` or a mapping from heading to unit.
        filters : headings (case is ignored: "spw" finds "Spw") for which the page offers a choice of values.
        formats : mapping from heading to a format specification such as ``".3f"``; sorting uses the exact number.

        Raises PlError when a row has another length than `columns`, or a filter or format names no column.
        """
        columns = tuple(str(c) for c in columns)
        specs = _by_column("format", columns, formats or {})
        body = tuple(tuple(_cell(v, specs.get(i, "")) for i, v in enumerate(row)) for row in rows)
        for number, row in enumerate(body):
            if len(row) != len(columns):
                raise PlError(f"Row {number} of table '{caption}' has {len(row)} cells for {len(columns)} columns.")
        chosen = tuple(columns[i] for i in _by_column("filter", columns, dict.fromkeys(filters, "")))
        self._add(Table(columns, body, caption, _units(columns, units), chosen))

    # -- pictures

    def plots(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        caption: str | Callable[[Any], str] = "",
        tags: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
        name: str = "",
        title: str = "",
        size: Literal["small", "medium", "large"] = "medium",
        suffix: str = "png",
    ) -> int:
        """Draw one picture per item through ``ctx.map`` and add them as a group; return how many could be drawn.

        ``function(ctx_item, item, path)``, at module level, draws one picture to ``path`` (a :class:`~pathlib.Path`).
        It may return a mapping of facts (statistics, for example) to be shown with the picture, or False to say
        that there is nothing to draw.  A picture that fails becomes a visible note; the others stand.

        caption, tags : fixed, or called with each item.  Tags drive the filters and are what links of scores find:
            use the keys ``vis field intent spw antenna pol scan`` with names (virtual ids for spws).
        name : first part of the file names (default: the function's name); title : heading of the group.
        """
        _one_of("size", size, ("small", "medium", "large"))
        items = list(items)
        stem = self._unique(slug(name or function.__name__.removeprefix("draw_") or "plot", 40))
        folder = self._ctx.stage_dir / "plots"
        folder.mkdir(parents=True, exist_ok=True)
        captions = [caption(i) if callable(caption) else caption for i in items]
        all_tags = [_tags(tags(i) if callable(tags) else tags) for i in items]
        paths = [folder / f"{stem}-{_tag_slug(t)}{n:04d}.{suffix}" for n, t in enumerate(all_tags)]
        jobs = [(function, item, str(path)) for item, path in zip(items, paths, strict=True)]
        outcomes = self._ctx.map(_draw, jobs, label=title or f"plots {stem}")
        pictures, failed = [], []
        for path, text, item_tags, drawn in zip(paths, captions, all_tags, outcomes, strict=True):
            if drawn.complaint:
                failed.append(f"{text or _tag_text(item_tags) or stem}: {drawn.complaint}")
            elif drawn.facts is not None:
                picture = self._picture(path, text, item_tags, drawn.facts)
                pictures.append(attrs.evolve(picture, seconds=round(drawn.seconds, 3)))
        for complaint in failed:
            self._ctx.log.warning(f"A plot could not be drawn: {complaint}")
        if pictures or failed:
            self._add(Pictures(stem, tuple(pictures), title, size, tuple(failed)))
        return len(pictures)

    def image(
        self,
        path: Path | str,
        caption: str = "",
        tags: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        size: Literal["small", "medium", "large"] = "large",
    ) -> None:
        """Add a picture that exists already, below the stage's folder.  Pictures added in a row form a group."""
        path = self._ctx.stage_dir / path
        if not path.is_file():
            complaint = f"{caption or path.name}: there is no such picture"
            self._add(Pictures(self._unique("image"), (), "", size, (complaint,)))
            return
        picture = self._picture(path, caption, _tags(tags), _facts(facts))
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, Pictures) and last.name.startswith("image") and last.size == size and not last.failed:
            self._blocks[-1] = attrs.evolve(last, pictures=(*last.pictures, picture))
        else:
            self._add(Pictures(self._unique("image"), (picture,), "", size))

    def group(
        self,
        title: str,
        entries: Sequence[tuple[Path | str, str, Mapping[str, Any], Mapping[str, Any]]],
        failed: Sequence[str] = (),
        size: Literal["small", "medium", "large"] = "medium",
    ) -> None:
        """Add pictures that exist already as one group: (path below the stage's folder, caption, tags, facts) each."""
        pictures = tuple(self._picture(Path(p), text, _tags(t), _facts(f)) for p, text, t, f in entries)
        if pictures or failed:
            self._add(Pictures(self._unique("group"), pictures, title, size, tuple(failed)))

    def download(self, path: Path | str, label: str = "") -> None:
        """Offer a file of the run folder; relative paths count from the run folder (``products/x.fits``)."""
        path = Path(path)
        root = self._ctx.stage_dir.parent.parent
        if path.is_absolute():
            try:
                path = path.resolve().relative_to(root.resolve())
            except ValueError:
                raise PlError(f"{path} lies outside the run folder and cannot be offered on a page.") from None
        if ".." in path.parts:
            raise PlError(f"{path} leads out of the run folder and cannot be offered on a page.")
        self._add(Download(path.as_posix(), label or path.name))

    # -- result

    def failure(self, sentence: str) -> None:
        """Note that a part of the page could not be made."""
        self._failures.append(sentence)

    def record(self) -> PageRecord:
        """Return what has been collected so far."""
        self._close()
        return PageRecord(self._title, tuple(self._sections), tuple(self._failures))

    def write(self, path: Path | None = None) -> Path:
        """Write ``page.json`` into the stage's folder."""
        path = path or self._ctx.stage_dir / "page.json"
        write_json(path, self.record())
        return path

    # -- internals

    def _add(self, block: Block) -> None:
        if not self._sections:
            self._sections.append(Section("", self._unique("top")))
        self._blocks.append(block)

    def _close(self) -> None:
        if self._sections and self._blocks:
            last = self._sections[-1]
            self._sections[-1] = attrs.evolve(last, blocks=(*last.blocks, *self._blocks))
        self._blocks = []

    def _unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}-{number}"
        self._names.add(candidate)
        return candidate

    def _picture(
        self, path: Path, caption: str, tags: Mapping[str, str], facts: tuple[tuple[str, Any], ...]
    ) -> Picture:
        try:
            file = path.resolve().relative_to(self._ctx.stage_dir.resolve()).as_posix()
        except ValueError:
            raise PlError(f"Picture {path} lies outside the stage's folder; draw it below ctx.stage_dir.") from None
        width, height = picture_size(path)
        return Picture(file, caption, caption or _tag_text(tags), tags, facts, width, height)


def make_page(
    ctx: PageContext, result: Any, renderers: Sequence[Callable[..., Any]], title: str = "",
    on_data_read: Callable[[], None] | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Build and write a stage's page; return what went wrong (nothing, as a rule).

    Each renderer adds to the page in turn.  One that raises leaves what it wrote, and a note.  Without a renderer, or
    when none could finish or had anything to say, the fields of the result are shown as tables.

    on_data_read : called when no renderer will read measurement sets any more, if that is known before the end.
    """
    page = Page(ctx, title, on_data_read if len(renderers) == 1 else None)
    finished = 0
    for function in renderers:
        try:
            function(page, ctx, result)
            finished += 1
        except Exception as error:  # a page must never cost a stage
            name = f"{function.__module__}.{getattr(function, '__qualname__', function)}"
            sentence = f"The renderer {name} failed: {type(error).__name__}: {error}"
            page.failure(sentence)
            ctx.log.warning(sentence)
    if not finished or not any(section.blocks for section in page.record().sections):
        from pl_kernel.weblog.plain import render_default  # which needs the class above

        render_default(page, result)
    page.write()
    return page.record().failures


# ---- cells, tags, files --------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """Write a value in few digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cell(value: Any, spec: str = "") -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Link):
        return {"kind": "link", "text": value.text, "href": value.href}
    if isinstance(value, Score):
        return {"kind": "score", "score": to_json(value.score), "text": value.text}
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        if not spec or (isinstance(value, float) and not math.isfinite(value)):
            return to_json(value)
        return {"kind": "number", "value": value, "text": format(value, spec)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return ", ".join(text_of(v) for v in value)
    return str(value)


def _tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(k): str(v) for k, v in (tags or {}).items() if v is not None and str(v) != ""}


def _tag_text(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{k} {v}" for k, v in tags.items())


def _tag_slug(tags: Mapping[str, str]) -> str:
    text = "-".join(f"{k}{v}" for k, v in tags.items())
    return slug(text, 60) + "-" if text else ""


def _facts(facts: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((str(k), _cell(v)) for k, v in facts.items()) if isinstance(facts, Mapping) else ()


@attrs.frozen
class _Drawn:
    """What came of one picture: its facts, None when there is nothing to draw; why it could not be drawn."""

    facts: tuple[tuple[str, Any], ...] | None = None
    complaint: str = ""
    seconds: float = 0.0


def _draw(ctx_item: Any, job: tuple[Callable[..., Any], Any, str]) -> _Drawn:
    function, item, path = job
    begin = time.monotonic()
    try:
        outcome = function(ctx_item, item, Path(path))
        if outcome is False:
            return _Drawn()
        if not Path(path).is_file():
            return _Drawn(None, f"{function.__name__} wrote no picture")
        return _Drawn(_facts(outcome), "", time.monotonic() - begin)
    except Exception as error:  # the picture is lost, the page is not
        return _Drawn(None, f"{type(error).__name__}: {error}")


_SVG_SIZE = re.compile(rb'<svg[^>]*?\bwidth="([\d.]+)(pt|px)?"[^>]*?\bheight="([\d.]+)', re.S)


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG or SVG in pixels, (0, 0) when they cannot be told."""
    try:
        with path.open("rb") as stream:
            head = stream.read(2048)
    except OSError:
        return 0, 0
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return int(width), int(height)
    found = _SVG_SIZE.search(head)
    if found:
        scale = 4 / 3 if found.group(2) == b"pt" else 1.0
        return round(float(found.group(1)) * scale), round(float(found.group(3)) * scale)
    return 0, 0


def _units(columns: tuple[str, ...], units: Sequence[str] | Mapping[str, str] | None) -> tuple[str, ...]:
    if not units:
        return ()
    if isinstance(units, Mapping):
        found = _by_column("unit", columns, units)
        return tuple(found.get(i, "") for i in range(len(columns)))
    if len(units) != len(columns):
        raise PlError(f"A table has {len(units)} units for {len(columns)} columns ({', '.join(columns)}).")
    return tuple(str(u or "") for u in units)


def _by_column(what: str, columns: tuple[str, ...], values: Mapping[str, str]) -> dict[int, str]:
    places = {c.lower(): i for i, c in reversed(list(enumerate(columns)))}
    for name in values:
        if name.lower() not in places:
            raise PlError(f"A {what} is given for column '{name}'; the table has {', '.join(columns)}.")
    return {places[name.lower()]: value for name, value in values.items()}


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise PlError(f"{what} of a page block is '{value}'; it can be {', '.join(choices)}.")
