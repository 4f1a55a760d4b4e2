"""The static site: ``weblog/`` of a run folder, written from the run's JSON files alone, after every stage.

The site stands on its own: pictures and logs are linked into it (hard links, copies where the file system has none),
so that the folder can be packed and sent.  It opens from disk, with no server and no network.  Only what changed is
written again; a page is replaced in one step, so that a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, select_autoescape

from pl_kernel.qa import TOPICS
from pl_kernel.reports.timing import elapsed
from pl_kernel.weblog import views
from pl_kernel.weblog.names import slug
from pl_kernel.weblog.observatory import ObservationView, calibration_rows, observation_view
from pl_kernel.weblog.page import TAG_ORDER
from pl_kernel.weblog.scores import gathered, score_views, with_plots
from pl_kernel.weblog.views import StageSummary

_HERE = Path(__file__).parent
_PAGES = (
    ("index", "Summary"), ("observation/index", "Observation"), ("stages", "Stages"), ("topics", "Quality"),
    ("images", "Images"), ("calibration", "Calibration"), ("timing", "Time"), ("files", "Files"),
    ("environment", "Environment"),
)  # fmt: skip
_ASSETS = ("style.css", "theme.js", "app.js", "icon.svg")
_STATE = ".state.json"
_STAGE_FOLDER = re.compile(r"\d{3,}-[A-Za-z0-9_.-]+")
_DONE = ("ok", "skipped")
_KINDS = ("image", "mom0", "mom8", "mom1", "pbcor", "residual", "model", "mask", "pb", "psf")  # order in the gallery
_MOST_CALLS = 400  # CASA calls listed on a stage's page; all of them are in casa_commands.py


def write_site(run_root: Path, live: bool = False) -> Path:
    """Write the web log of a run folder, or bring it up to date; return the path of its first page.

    live : the run goes on; pages then watch for news and offer to show them.
    """
    return _Site(Path(run_root), live).write()


@attrs.define
class _Site:
    root: Path
    live: bool
    out: Path = attrs.field(init=False)
    run: dict[str, Any] = attrs.field(init=False)
    stages: list[StageSummary] = attrs.field(factory=list, init=False)
    state: dict[str, Any] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.out = self.root / "weblog"
        self.run = views.read(self.root / "run.json", {})

    # ---- the whole -----------------------------------------------------------------------------------------------

    def write(self) -> Path:
        self.out.mkdir(parents=True, exist_ok=True)
        old = views.read(self.out / _STATE, {})
        edition = _edition()
        if old.get("edition") != edition:
            old = {}
            for name in _ASSETS:
                (self.out / "assets").mkdir(exist_ok=True)
                _replace(self.out / "assets" / name, (_HERE / "assets" / name).read_bytes())
        self.state = {"edition": edition, "stages": {}, "pages": {}}
        context = views.read(self.root / "context.json", {})
        changed = self._read_stages(views.as_dict(old.get("stages")))
        self._remove_stale(views.as_dict(old.get("stages")))
        names = {s.number: s.folder for s in self.stages}
        for summary in self.stages:
            if summary.folder in changed:
                try:
                    self._write_stage(summary, names)
                except Exception as error:  # files of a strange shape must not cost the other pages
                    self._write_broken_stage(summary, error)
        observations = self._observations(context)
        self._write_overviews(context, observations, views.as_dict(old.get("pages")))
        self._write_index(context, observations)
        _replace(self.out / _STATE, json.dumps(self.state, ensure_ascii=True).encode())
        return self.out / "index.html"

    def _read_stages(self, known: Mapping[str, Any]) -> set[str]:
        changed = set()
        folder = self.root / "stages"
        for path in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ():
            if path.is_symlink() or not _STAGE_FOLDER.fullmatch(path.name):
                continue
            signature = _signature(path)
            entry = views.as_dict(known.get(path.name))
            if entry.get("signature") == signature and (self.out / "stages" / f"{path.name}.html").is_file():
                summary = StageSummary(**entry["summary"])
            else:
                changed.add(path.name)
                summary = views.stage_summary(path)
            self.stages.append(summary)
            self.state["stages"][path.name] = {"signature": signature, "summary": _shallow(summary)}
        self.stages.sort(key=lambda s: s.number)
        return changed

    def _remove_stale(self, known: Mapping[str, Any]) -> None:
        # After a rewind, or a stage run again under its number: nothing of the old one may stay behind.
        for name in known.keys() - self.state["stages"].keys():
            if slug(name) == name:
                (self.out / "stages" / f"{name}.html").unlink(missing_ok=True)
                shutil.rmtree(self.out / "plots" / name, ignore_errors=True)

    # ---- pages ---------------------------------------------------------------------------------------------------

    def _render(self, template: str, path: str, **values: Any) -> bool:
        """Render one page; return whether it differs from what was there."""
        up = "../" * path.count("/")
        text = (
            _environment()
            .get_template(template)
            .render(
                up=up, run=self.run, run_name=self.run_name, live=self.live, pages=_PAGES, here=path,
                resolve=lambda href: views.resolve(href, up, {s.number: s.folder for s in self.stages}), **values,
            )
        )  # fmt: skip
        content = text.encode("utf-8", "replace")
        target = self.out / f"{path}.html"
        with contextlib.suppress(OSError):
            if target.read_bytes() == content:
                return False
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
        return True

    def _render_if_new(self, template: str, path: str, known: Mapping[str, Any], **values: Any) -> None:
        """Render a page that may hold hundreds of pictures, unless it would say the same as last time."""
        said = json.dumps([values, self.run_name, self.run.get("pl")], sort_keys=True)
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        self.state["pages"][path] = digest
        if known.get(path) != digest or not (self.out / f"{path}.html").is_file():
            self._render(template, path, **values)

    @property
    def run_name(self) -> str:
        return str(self.run.get("name") or self.root.resolve().name)

    def _write_stage(self, summary: StageSummary, names: Mapping[int, str]) -> None:
        folder = self.root / "stages" / summary.folder
        page = views.read(folder / "page.json", {})
        sections = views.as_dicts(page.get("sections"))
        pictures = [p for s in sections for b in views.as_dicts(s.get("blocks")) for p in _group(b)]
        for picture in pictures:
            self._link(folder, str(picture.get("file") or ""), views.picture_link(summary.folder, picture.get("file")))
        tags = [views.as_dict(p.get("tags")) for p in pictures]
        qa = views.read(folder / "qa.json", {})
        scores = [with_plots(line, tags) for line in gathered(score_views(qa))]
        calls = views.as_dicts(views.read(folder / "casa_calls.json", []))
        earlier = max((n for n in names if n < summary.number), default=None)
        self._render(
            "stage.html", f"stages/{summary.folder}", stage=summary, sections=sections, scores=scores,
            stage_error=views.as_dict(views.read(folder / "stage.json", {}).get("error")),
            notes=views.notifications(folder), inputs=_inputs(views.read(folder / "inputs.json", {})),
            timing=views.read(folder / "timing.json", {}),
            calls=[{**c, "text": views.python_call(c)} for c in calls[:_MOST_CALLS]], n_calls=len(calls),
            heuristics=_choices(views.read(folder / "heuristics.json", [])),
            log=views.as_dicts(views.read(folder / "log.json", [])), previous=names.get(earlier or -1, ""),
            filters=_filters(tags), folder=summary.folder, raw_log=self._link_log(folder),
        )  # fmt: skip

    def _write_broken_stage(self, summary: StageSummary, error: Exception) -> None:
        sentence = f"This page could not be made from the stage's files: {type(error).__name__}: {error}"
        self._render(
            "stage.html", f"stages/{summary.folder}", stage=summary, sections=[], scores=[], stage_error={}, inputs=[],
            notes=[{"level": "error", "message": sentence, "origin": "weblog"}], timing={}, calls=[], n_calls=0,
            heuristics=[], log=[], previous="", filters=[], folder=summary.folder, raw_log={},
        )  # fmt: skip

    def _observations(self, context: Mapping[str, Any]) -> list[ObservationView]:
        found = []
        for data in views.as_dicts(context.get("measurement_sets")):
            pictures = [
                {**p, "stage": s.number}
                for s in self.stages
                for p in s.pictures
                if p["tags"].get("page") == "observation" and p["tags"].get("vis") == data.get("name")
            ]
            found.append(observation_view(data, context, pictures))
        return found

    def _write_overviews(
        self, context: Mapping[str, Any], observations: list[ObservationView], known: Mapping[str, Any]
    ) -> None:
        scores = [{**dict(sc), "stage": s} for s in self.stages for sc in s.scores]
        scored = sorted((s for s in scores if s["score"] is not None), key=lambda s: float(s["score"]))
        failed = [s for s in self.stages if s.status not in _DONE]
        numbers = [s.score for s in self.stages if s.score is not None]
        run_score = 0.0 if failed else min(numbers, default=None)
        gallery = _gallery(context, self.stages)
        count = sum(int(s["count"]) for s in scored)
        common: dict[str, Any] = {"stages": self.stages, "observations": observations}
        self._render(
            "index.html", "index", worst=[s for s in scored if s["band"] != "good"][:6], failed=failed,
            run_score=run_score, band=views.band_of(run_score), n_scores=count, gallery=gallery,
            progress=self._progress(), total=self._elapsed(), topics=_topics(self.stages),
            products=views.as_dicts(context.get("products")), **common,
        )  # fmt: skip
        self._render("stages.html", "stages", progress=self._progress(), **common)
        self._render("topics.html", "topics", topics=_topics(self.stages), **common)
        self._render_if_new("images.html", "images", known, gallery=gallery)
        tables = [p for s in self.stages for p in s.pictures if "caltable" in p["tags"]]
        library = calibration_rows(context.get("calibration"))
        self._render_if_new("calibration.html", "calibration", known, library=library, pictures=tables)
        self._write_times()
        self._render("files.html", "files", files=self._files(context), **common)
        self._render("environment.html", "environment", environment=_environment_tables(self.run), **common)
        self._render("observations.html", "observation/index", **common)
        for view in observations:
            for picture in view.pictures:
                self._link_picture(picture)
            self._render("observation.html", f"observation/{view.slug}", ms=view, **common)

    def _write_times(self) -> None:
        from pl_kernel.reports.timing import as_csv, details_as_csv
        from pl_kernel.weblog.times import run_times, times_view

        workers = views.as_dict(self.run.get("options")).get("workers", 1)
        times = run_times(self.root, (s.times for s in self.stages), workers)
        hrefs = {s.number: s.href for s in self.stages}
        self._render("timing.html", "timing", times=times_view(times), hrefs=hrefs)
        (self.out / "files").mkdir(exist_ok=True)
        for name, text in (("timing.csv", as_csv), ("timing-details.csv", details_as_csv)):
            _replace(self.out / "files" / name, text([times]).encode())

    def _elapsed(self) -> float:
        times = ((s.seconds or 0.0, s.render_seconds or 0.0) for s in self.stages)
        return elapsed((seconds - render, render) for seconds, render in times)

    def _progress(self) -> dict[str, Any]:
        steps = views.as_dicts(self.run.get("steps"))
        done = len(self.stages)
        name = str(steps[done].get("stage", "")) if self.live and done < len(steps) else ""
        return {"done": done, "total": max(len(steps), done), "next": name}

    # ---- files ---------------------------------------------------------------------------------------------------

    def _link(self, folder: Path, file: str, target: str) -> None:
        if file and target and views.safe_path(file):
            _hard_link(folder / file, self.out / target)

    def _link_picture(self, picture: Mapping[str, Any]) -> None:
        relative = str(picture["file"]).split("/", 2)[-1]
        folder = self.root / "stages" / str(picture["folder"])
        for candidate in (folder / "plots" / relative, folder / relative):
            if candidate.is_file():
                _hard_link(candidate, self.out / str(picture["file"]))
                return

    def _link_log(self, folder: Path) -> dict[str, Any]:
        source = folder / "casa.log"
        if not source.is_file():
            return {}
        # .txt: a browser shows it instead of offering it for download.
        target = f"logs/{folder.name}.casa.txt"
        _hard_link(source, self.out / target)
        return {"href": target, "size": source.stat().st_size}

    def _files(self, context: Mapping[str, Any]) -> dict[str, Any]:
        scripts = []
        for name, doc in (
            ("casa_commands.py", "The CASA calls of the run as a script that repeats it with CASA alone."),
            ("run.json", "What was run: recipe, data, options, versions."),
            ("events.jsonl", "What happened when, one event per line."),
            ("context.json", "What the run knows: measurement sets, calibration, images, values."),
        ):
            source = self.root / name
            if source.is_file():
                target = f"files/{name}.txt"
                _copy(source, self.out / target)
                scripts.append({"name": name, "href": target, "size": source.stat().st_size, "doc": doc})
        listed = {str(p.get("name")): p for p in views.as_dicts(context.get("products"))}
        products = []
        folder = self.root / "products"
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            record = listed.pop(path.name, {})
            size = path.stat().st_size if path.is_file() else record.get("size_bytes")
            href = views.safe_path(f"products/{path.name}{'/' if path.is_dir() else ''}")
            products.append({"doc": "", "kind": "", **record, "name": path.name, "href": href, "size": size})
        products += [{"doc": "", "kind": "", **p, "href": "", "size": p.get("size_bytes")} for p in listed.values()]
        logs = [s for s in self.stages if (self.out / f"logs/{s.folder}.casa.txt").is_file()]
        return {"scripts": scripts, "products": products, "logs": logs}

    def _write_index(self, context: Mapping[str, Any], observations: Iterable[ObservationView]) -> None:
        """Write what the pages' script needs: the stages for the side bar, and what can be searched."""
        entries: list[list[str]] = [["page", title, "", f"{path}.html"] for path, title in _PAGES]
        for view in observations:
            href = f"observation/{view.slug}.html"
            entries.append(["data", view.name, f"{view.telescope} {view.project}", href])
            entries += [["field", f["name"], f"{view.name} {f['intents']}", f"{href}#fields"] for f in view.fields]
        for s in self.stages:
            entries.append(["stage", f"{s.number}. {s.name}", s.title, s.href])
            entries += [["section", t, s.name, f"{s.href}#{a}"] for t, a in s.sections if t]
            entries += [["score", c["short"], f"{s.name} {c['metric']}", f"{s.href}#{c['anchor']}"] for c in s.scores]
            entries += [
                ["plot", p["caption"], f"{s.name} {' '.join(p['tags'].values())}", f"{s.href}#{p['anchor']}"]
                for p in s.pictures
            ]
        stages = [
            {"n": s.number, "name": s.name, "href": s.href, "band": s.band, "score": s.score} for s in self.stages
        ]
        body = {"stages": stages, "entries": entries, "live": self.live, "run": self.run_name}
        text = script_json(body)
        revision = hashlib.sha256(text.encode()).hexdigest()[:12]
        written = datetime.now(UTC).isoformat(timespec="seconds")
        (self.out / "assets").mkdir(exist_ok=True)
        script = f'window.PL_REVISION = "{revision}";\nwindow.PL_WRITTEN = "{written}";\nwindow.PL_INDEX = {text};\n'
        _replace(self.out / "assets" / "run-index.js", script.encode())


# ---- what the overview pages show ----------------------------------------------------------------------------------


def _group(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    return views.as_dicts(block.get("pictures")) if block.get("type") == "plots" else []


def _inputs(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    order = {"user": 0, "recipe": 1, "heuristic": 2, "default": 3}
    rows = [{"name": name, **value} for name, value in inputs.items() if isinstance(value, dict)]
    return sorted(rows, key=lambda r: (bool(r.get("hidden")), order.get(str(r.get("origin")), 9)))


def _filters(tags: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The choices a page offers: every key of the tags with more than one value."""
    values: dict[str, dict[str, None]] = {}
    for entry in tags:
        for key, value in entry.items():
            for part in str(value).split(","):
                values.setdefault(key, {})[part.strip()] = None
    keys = sorted(values, key=lambda k: (TAG_ORDER.index(k) if k in TAG_ORDER else 99, k))
    return [(k, sorted(values[k], key=_natural)) for k in keys if len(values[k]) > 1 and k != "page"]


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]


def _topics(stages: list[StageSummary]) -> list[dict[str, Any]]:
    """Topics with their stages; a topic is as good as its worst score, and an empty one is left out."""
    found = []
    for topic in TOPICS:
        rows = []
        for stage in stages:
            own = [s for s in stage.scores if (s["topic"] or stage.topic) == topic]
            if own or stage.topic == topic:
                numbers = [s["score"] for s in own if s["score"] is not None]
                score = min(numbers, default=None) if stage.status in _DONE else 0.0
                rows.append({"stage": stage, "score": score, "band": views.band_of(score), "scores": own})
        if rows:
            score = min((r["score"] for r in rows if r["score"] is not None), default=None)
            worst = next((r["stage"] for r in rows if r["score"] == score), None) if score is not None else None
            found.append(
                {"name": topic, "title": views.TOPIC_TITLES[topic], "rows": rows, "score": score,
                 "band": views.band_of(score), "worst": worst}
            )  # fmt: skip
    return found


def _gallery(context: Mapping[str, Any], stages: list[StageSummary]) -> list[dict[str, Any]]:
    """Images of the run with the pictures that show them (tag ``image``), the newest stage first."""
    pictures: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        for picture in stage.pictures:
            name = picture["tags"].get("image")
            if name:
                pictures.setdefault(name, []).append(
                    {**picture, "stage": {"number": stage.number, "name": stage.name, "href": stage.href}}
                )
    found = []
    for record in views.as_dicts(context.get("images")):
        shown = pictures.pop(str(record.get("name")), [])
        beam = views.as_dict(record.get("beam"))
        found.append({"record": record, "name": str(record.get("name", "")), "pictures": shown, "beam": beam})
    found += [{"record": {}, "name": name, "pictures": shown, "beam": {}} for name, shown in pictures.items()]
    rank = {kind: n for n, kind in enumerate(_KINDS)}
    return sorted(found, key=lambda g: (not g["pictures"], rank.get(str(g["record"].get("kind", "image")), 99)))


def _choices(data: list[Any]) -> list[dict[str, Any]]:
    """Which implementations of heuristic slots answered, each once."""
    return list({(c.get("slot"), c.get("origin")): c for c in views.as_dicts(data)}.values())


def _environment_tables(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    versions = views.as_dict(run.get("pl"))
    plugins = views.as_dict(versions.get("plugins"))
    rest = [(k, views.say(v)) for k, v in versions.items() if k != "plugins"]
    options = [(k, views.say(v)) for k, v in views.as_dict(run.get("options")).items()]
    tables = [("Software", rest), ("Plugins", [(k, views.say(v)) for k, v in plugins.items()]), ("Options", options)]
    if isinstance(run.get("environment"), dict):
        tables.append(("Machine", [(k, views.say(v)) for k, v in run["environment"].items()]))
    return [(title, rows) for title, rows in tables if rows]


# ---- tools ---------------------------------------------------------------------------------------------------------


def script_json(value: Any) -> str:
    """JSON that is harmless inside a script, whatever the names in it: no character HTML or old JS would act on."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=select_autoescape(default=True),
        undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.filters.update(
        say=views.say, breakable=views.breakable, digits=views.say_digits, duration=views.say_duration,
        time=views.say_time, size=views.say_size, sort_key=views.sort_key, picture_anchor=views.picture_anchor,
        band=views.band_of, slug=slug,
    )  # fmt: skip
    environment.tests["numeric"] = views.is_number
    environment.globals.update(
        band_words=views.BAND_WORDS, band_signs=views.BAND_SIGNS, picture_link=views.picture_link,
        safe_path=views.safe_path, script_json=script_json,
    )  # fmt: skip
    return environment


@cache
def _edition() -> str:
    """A hash of everything the pages are made with: when it changes, all of them are written again."""
    digest = hashlib.sha256()
    for path in sorted([*_HERE.glob("*.py"), *_HERE.glob("templates/*"), *_HERE.glob("assets/*")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _shallow(summary: StageSummary) -> dict[str, Any]:
    # All values are plain JSON already; attrs.asdict would copy every tag of every picture.
    return {a.name: getattr(summary, a.name) for a in attrs.fields(StageSummary)}


def _signature(folder: Path) -> list[Any]:
    """Names, sizes and times of a stage's files: what tells whether its page is still right."""
    with os.scandir(folder) as entries:
        found = [
            (e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.name.endswith((".json", ".log"))
        ]
    return [list(entry) for entry in sorted(found)]


def _replace(path: Path, content: bytes) -> None:
    # Not flushed to disk: a web log can be written again at any time, and a flush per page costs more than the page.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _hard_link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        if source.is_symlink():  # a link could show any file of the machine
            return
        have = source.stat()
        with contextlib.suppress(FileNotFoundError):
            old = target.stat()
            if (old.st_ino, old.st_dev) == (have.st_ino, have.st_dev):
                return
            if (old.st_size, old.st_mtime_ns) == (have.st_size, have.st_mtime_ns):
                return
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)


def _copy(source: Path, target: Path) -> None:
    # Files that grow or are replaced during a run are copied: a link would show an old or a half-written state.
    with contextlib.suppress(OSError):
        have = source.stat()
        with contextlib.suppress(FileNotFoundError):
            old = target.stat()
            if (old.st_size, old.st_mtime_ns) == (have.st_size, have.st_mtime_ns):
                return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copy2(source, temporary)
        temporary.replace(target)
