"""The run folder as the pages need it: JSON files read with tolerance, numbers turned into words.

A file that is absent, cut off or from another version costs what it would have said, never the web log.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
from jinja2 import Undefined
from markupsafe import Markup

from pl_kernel.qa import TOPICS, band
from pl_kernel.weblog.names import slug

BAND_WORDS = {"error": "error", "warning": "warning", "suboptimal": "suboptimal", "good": "good", "none": "no score"}
BAND_SIGNS = {"error": "✕", "warning": "!", "suboptimal": "?", "good": "✓", "none": "–"}
TOPIC_TITLES = {
    "dataset": "Data sets", "calibration": "Calibration", "flagging": "Flagging", "imaging": "Imaging",
    "misc": "Miscellaneous",
}  # fmt: skip
ORIGIN_WORDS = {"user": "user", "recipe": "recipe", "heuristic": "heuristic", "default": "default"}
_LONG_WORD = 24
_NOTIFIED = ("error", "warning", "attention")


# ---- reading -------------------------------------------------------------------------------------------------------


def read(path: Path, default: Any) -> Any:
    """Return the JSON of a file, or `default` when there is none to be had or it is of another kind."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return default
    return data if isinstance(data, type(default)) else default


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def band_of(score: Any) -> str:
    return band(number(score)).value


# ---- words ---------------------------------------------------------------------------------------------------------


def say(value: Any) -> str:
    """Write any JSON value as a person would."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return say_number(value)
    if isinstance(value, str):
        return {"NaN": "no value", "Infinity": "∞", "-Infinity": "−∞"}.get(value, value)
    if isinstance(value, list):
        return ", ".join(say(v) for v in value) if value else "–"
    if isinstance(value, Undefined):  # a field that this file does not have
        return "–"
    if isinstance(value, dict):
        if value.get("kind") == "number":
            return str(value.get("text", ""))
        if value.get("kind") in ("link", "score"):
            return str(value.get("text") or say(value.get("score")))
        return ", ".join(f"{k}: {say(v)}" for k, v in value.items()) if value else "–"
    return str(value)


def breakable(text: str) -> Markup:
    """Text whose long words, names of files mostly, may be broken after full stops, commas and underscores.

    A table with them stays as wide as its page; to copy and to search, the text is what it was.
    """

    def broken(word: str) -> Markup:
        parts = re.findall(r"[^._,/]*[._,/]+|[^._,/]+", word) if len(word) > _LONG_WORD else [word]
        return Markup("<wbr>").join(parts)

    return Markup(" ").join(broken(word) for word in str(text).split(" "))


def say_number(value: float) -> str:
    """Write a float with five significant digits, without an exponent where a person would not use one."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:.{max(0, 4 - math.floor(math.log10(abs(value))))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.4g}"


def say_digits(value: Any, digits: int = 3) -> str:
    """Write a number with few digits, for a glance."""
    found = number(value)
    return say(value) if found is None else say_number(float(f"{found:.{digits}g}"))


def say_duration(seconds: Any) -> str:
    """Write seconds as ``0.4 s``, ``12 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    value = number(seconds)
    if value is None:
        return "–"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def when(text: Any) -> datetime | None:
    """Return the moment that an ISO 8601 text names, or None."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def say_time(text: Any) -> str:
    moment = when(text)
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else say(text)


def say_size(count: Any) -> str:
    value = number(count)
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def sort_key(cell: Any) -> str:
    """What a table column is sorted by: the exact number, or the text."""
    if isinstance(cell, dict):
        cell = cell.get("value", cell.get("score", cell.get("text", "")))
    if isinstance(cell, bool) or cell is None:
        return ""
    return repr(cell) if isinstance(cell, float) else str(cell)


def is_number(cell: Any) -> bool:
    if isinstance(cell, dict):
        return cell.get("kind") == "number"
    return not isinstance(cell, bool) and isinstance(cell, (int, float))


def python_call(call: Mapping[str, Any]) -> str:
    """Write a recorded CASA call as Python that can be pasted into CASA."""
    arguments = as_dict(call.get("args"))
    parts = [f"{name}={_python(value)}" for name, value in arguments.items()]
    task = str(call.get("task", ""))
    line = f"{task}({', '.join(parts)})"
    return line if len(line) <= 100 else f"{task}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _python(value: Any) -> str:
    # JSON has no tuples and its non-finite numbers are words; everything else is its own Python literal.
    return "float('nan')" if value == "NaN" else repr(value)


# ---- links ---------------------------------------------------------------------------------------------------------


def safe_path(path: str) -> str:
    """Quote a relative path for a link; empty when it leads out of its folder."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        return ""
    return quote(path, safe="/~-_.!*()'", errors="replace").replace("'", "%27")


def resolve(href: Any, up: str, stages: Mapping[int, str]) -> str:
    """Return where a link of a renderer leads, or nothing if it may lead nowhere.

    up : the way from the page to the web log's folder (``"../"`` or ``""``).  stages : folder names by number.
    """
    text = str(href or "")
    if text.startswith("#"):
        return "#" + quote(text[1:], safe="-_.:=&;,")
    found = re.fullmatch(r"stage:(\d+)(#.*)?", text, re.S)
    if found:
        folder = stages.get(int(found.group(1)))
        return f"{up}stages/{folder}.html{resolve(found.group(2), up, stages)}" if folder else ""
    if text.startswith("ms:"):
        return f"{up}observation/{slug(text[3:])}.html"
    if text.startswith(("http://", "https://")):
        return text if urlsplit(text).netloc else ""
    if ":" in text.split("/")[0]:
        return ""
    path = safe_path(text)
    return f"{up}../{path}" if path else ""


# ---- a stage -------------------------------------------------------------------------------------------------------


def matching_pictures(applies_to: Iterable[tuple[str, Sequence[str]]], tags: Iterable[Mapping[str, str]]) -> int:
    """Count the pictures that show the data of a score: some tag agrees, and none disagrees."""
    wanted = {key: set(values) for key, values in applies_to if values}
    count = 0
    for have in tags:
        shared = wanted.keys() & have.keys()
        if shared and all({part.strip() for part in have[key].split(",")} & wanted[key] for key in shared):
            count += 1
    return count


@attrs.frozen(kw_only=True)
class StageSummary:
    """What other pages need to know of a stage; kept between two writings of the site."""

    number: int
    name: str
    title: str
    folder: str
    status: str
    score: float | None
    short: str
    topic: str
    started: str
    ended: str
    seconds: float | None
    casa_seconds: float | None
    render_seconds: float | None
    counts: Mapping[str, int]
    scores: tuple[Mapping[str, Any], ...]
    notifications: tuple[Mapping[str, str], ...]
    pictures: tuple[Mapping[str, Any], ...]
    sections: tuple[tuple[str, str], ...]
    error: str
    calls: int
    times: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def band(self) -> str:
        return band_of(self.score) if self.status == "ok" else "none" if self.status == "skipped" else "error"

    @property
    def href(self) -> str:
        return f"stages/{self.folder}.html"


def stage_summary(folder: Path) -> StageSummary:
    """Read what the other pages say about the stage in `folder`."""
    stage = read(folder / "stage.json", {})
    qa = read(folder / "qa.json", {})
    timing = read(folder / "timing.json", {})
    page = read(folder / "page.json", {})
    from .scores import gathered, score_views
    from .times import stage_facts

    scores = score_views(qa)
    notes = notifications(folder)
    pictures = tuple(_picture_summary(p, s, folder.name) for s in as_dicts(page.get("sections")) for p in _pictures(s))
    given = number(stage.get("score"))
    score = given if given is not None else number(qa.get("stage_score"))
    head, _, rest = folder.name.partition("-")
    name = str(stage.get("name") or rest)
    counts = {word: sum(1 for n in notes if n["level"] == word) for word in _NOTIFIED}
    for view in scores:
        if view.band in ("error", "warning", "suboptimal"):
            counts[view.band] = counts.get(view.band, 0) + 1
    worst = next((s for s in scores if s.score is not None), None)
    topics = [s.topic for s in scores if s.topic in TOPICS]
    error = as_dict(stage.get("error"))
    return StageSummary(
        number=int(head) if head.isdigit() else 0,
        name=name,
        title=str(page.get("title") or stage.get("title") or name),
        folder=folder.name,
        status=str(stage.get("status") or "interrupted"),
        score=score,
        short=str(error.get("sentence") or (worst.short if worst and (worst.score or 0) <= 0.9 else "")),
        topic=str(stage.get("topic") or (max(set(topics), key=topics.count) if topics else "misc")),
        started=str(stage.get("started") or timing.get("started") or ""),
        ended=str(stage.get("ended") or timing.get("ended") or ""),
        seconds=number(timing.get("seconds")),
        casa_seconds=number(timing.get("casa_seconds")),
        render_seconds=number(timing.get("render_seconds")),
        counts=counts,
        scores=tuple(
            {"score": s.score, "band": s.band, "short": s.short, "long": s.long, "topic": s.topic, "anchor": s.anchor,
             "metric": s.metric, "value": s.value, "count": s.count}
            for s in gathered(scores)
        ),
        notifications=tuple(notes[:200]),
        pictures=pictures,
        sections=tuple((str(s.get("title", "")), str(s.get("anchor", ""))) for s in as_dicts(page.get("sections"))),
        error=str(error.get("sentence") or ""),
        calls=sum(1 for c in read(folder / "casa_calls.json", []) if as_dict(c).get("kind") != "file"),
        times=stage_facts(folder),
    )  # fmt: skip


def _pictures(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = [b for b in as_dicts(section.get("blocks")) if b.get("type") == "plots"]
    return [p for g in groups for p in as_dicts(g.get("pictures"))]


def _picture_summary(picture: Mapping[str, Any], section: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {
        "file": picture_link(folder, picture.get("file")),
        "anchor": picture_anchor(picture.get("file")),
        "caption": str(picture.get("caption") or picture.get("alt") or ""),
        "tags": {str(k): str(v) for k, v in as_dict(picture.get("tags")).items()},
        "facts": picture.get("facts") or [],
        "width": picture.get("width") or 0,
        "height": picture.get("height") or 0,
        "section": str(section.get("title", "")),
        "folder": folder,
    }


def picture_link(folder: str, file: Any) -> str:
    """Return where a picture lies below the web log's folder: ``plots/<stage folder>/<file>``."""
    path = str(file or "")
    return f"plots/{folder}/{path.removeprefix('plots/')}" if safe_path(path) else ""


def picture_anchor(file: Any) -> str:
    return "p-" + slug(str(file or "").removeprefix("plots/"), 100)


def notifications(folder: Path) -> list[dict[str, str]]:
    """Return what the stage wants noticed, the worst first: log records, failed items, notes."""
    found = [
        {"level": str(r.get("level")), "message": str(r.get("message", "")), "origin": str(r.get("origin", ""))}
        for r in as_dicts(read(folder / "log.json", []))
        if r.get("level") in _NOTIFIED
    ]
    data = read(folder / "result.json", {})
    result = as_dict(data.get("result")) or data
    for failure in as_dicts(result.get("failures")):
        text = f"{failure.get('item', 'An item')}: {failure.get('reason', 'failed')}"
        found.append({"level": "error", "message": text, "origin": "stage"})
    for failure in read(folder / "page.json", {}).get("failures") or ():
        found.append({"level": "warning", "message": str(failure), "origin": "page"})
    notes = result.get("notes")
    found += [{"level": "info", "message": str(n), "origin": "stage"} for n in notes or ()] if notes else []
    unique = list({(n["level"], n["message"]): n for n in found}.values())
    order = {"error": 0, "warning": 1, "attention": 2, "info": 3}
    return sorted(unique, key=lambda n: order.get(n["level"], 9))
