"""The static site, judged from outside: by parsing what was written."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

from pl_kernel.weblog import views
from pl_kernel.weblog.site import script_json, write_site


def _load_sample() -> ModuleType:
    name = "weblog_sample"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


sample = _load_sample()
VOID = {"meta", "link", "img", "input", "br", "wbr", "path", "circle"}


class Outline(HTMLParser):
    """Collects tags, links, ids, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = sample.make_run(tmp_path_factory.mktemp("runs") / "run <1>")
    write_site(root, live=False)
    return root


def pages(run: Path) -> list[Path]:
    return sorted((run / "weblog").rglob("*.html"))


def test_every_page_is_well_formed_and_has_a_title_and_one_h1(run: Path) -> None:
    assert len(pages(run)) == 9 + 1 + 6  # overview pages, one measurement set, six stages
    for page in pages(run):
        outline = Outline(page.read_text())
        names = [tag for tag, _ in outline.tags]
        assert names.count("h1") == 1, page
        assert names.count("title") == 1
        ids = [a["id"] for _, a in outline.tags if "id" in a]
        assert len(ids) == len(set(ids)), page


def test_every_link_and_picture_resolves(run: Path) -> None:
    ids = {p: {a.get("id") for _, a in Outline(p.read_text()).tags} for p in pages(run)}
    checked = 0
    for page in pages(run):
        for tag, attributes in Outline(page.read_text()).tags:
            target = attributes.get("href") or attributes.get("src")
            if not target:
                assert tag not in ("img", "script", "link")
                continue
            parts = urlsplit(target)
            assert parts.scheme in ("", "https"), target
            if parts.scheme or parts.fragment.startswith("plots:"):
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if any(name in target for name in ("%3C/script", "%3Cb%3E", "A%22B", "U%CC%88", "%C3%9C")):
                continue  # a renderer linked to a file of the run that does not exist: that is its business
            assert file.exists(), f"{page.name} links to {target}"
            if parts.fragment and file.suffix == ".html":
                assert unquote(parts.fragment) in ids[file], f"{page.name} links to {target}"
            checked += 1
    assert checked > 200


def test_names_from_data_never_become_markup(run: Path) -> None:
    for page in pages(run):
        outline = Outline(page.read_text())
        for tag, attributes in outline.tags:
            assert not any(name.startswith("on") for name in attributes), (page, tag, attributes)
            assert not str(attributes.get("href") or "").lower().startswith("javascript:")
            if tag == "script":
                assert set(attributes) == {"src"}, page
        tags = {tag for tag, _ in outline.tags}
        assert not tags & {"i", "u", "cube", "centre", "observer", "why"}, page
        assert "alert(1)" not in [a.get("src") for _, a in outline.tags]
    stage = Outline((run / "weblog/stages/003-hif_bandpass.html").read_text())
    for name in sample.HOSTILE:
        assert name in "".join(stage.text), name  # a long one may come in parts, to be broken between


def test_the_index_for_search_is_valid_json_without_dangerous_characters(run: Path) -> None:
    text = (run / "weblog/assets/run-index.js").read_text()
    body = text.split("window.PL_INDEX = ", 1)[1].rstrip().rstrip(";")
    assert not set("<>&") & set(body)
    index = json.loads(body)
    assert [s["name"] for s in index["stages"]] == [name for name, *_ in sample.STAGES]
    kinds = {entry[0] for entry in index["entries"]}
    assert kinds == {"page", "data", "field", "stage", "section", "score", "plot"}
    for _, _, _, href in index["entries"]:
        assert (run / "weblog" / unquote(href.split("#")[0])).is_file(), href


def test_script_json_escapes_what_could_end_a_script() -> None:
    value = {"</script>": "<!-- \u2028 &"}
    assert script_json(value) == '{"\\u003c/script\\u003e":"\\u003c!-- \\u2028 \\u0026"}'
    assert json.loads(script_json(value)) == value


@pytest.mark.parametrize(
    ("href", "target"),
    [
        ("#a b", "#a%20b"), ("stage:3", "../stages/003-x.html"), ("stage:3#scores", "../stages/003-x.html#scores"),
        ("stage:9", ""), ("products/x 1.fits", "../../products/x%201.fits"), ("https://example.org/a", "https://example.org/a"),
        ("javascript:alert(1)", ""), ("JavaScript:alert(1)", ""), ("data:text/html,x", ""), ("file:///etc/passwd", ""),
        ("/etc/passwd", ""), ("a/../../x", ""), ("..", ""), ("//example.org/x", ""), ("https:///", ""), (None, ""),
        ('a"b', "../../a%22b"), ("a\\b", ""),
    ],
)  # fmt: skip
def test_links_of_renderers_lead_into_the_run_or_to_the_web_or_nowhere(href: str | None, target: str) -> None:
    assert views.resolve(href, "../", {3: "003-x"}) == target


def test_nothing_is_written_twice_and_one_changed_stage_changes_one_page(run: Path) -> None:
    write_site(run, live=False)
    before = {p: p.stat().st_mtime_ns for p in pages(run)}
    write_site(run, live=False)
    assert {p: p.stat().st_mtime_ns for p in pages(run)} == before
    log = run / "stages/004-hif_gains/log.json"
    log.write_text(log.read_text().replace("begun", "started"))
    write_site(run, live=False)
    changed = {p.name for p in pages(run) if p.stat().st_mtime_ns != before[p]}
    assert changed == {"004-hif_gains.html"}


def test_a_running_pipeline_says_what_is_done_and_what_comes_next(tmp_path: Path) -> None:
    root = sample.make_run(tmp_path / "run", stages=3)
    assert "Running: 3 of 6 stages done, now hif_gains." in write_site(root, live=True).read_text()
    before = {p: p.read_bytes() for p in (root / "weblog/stages").iterdir()}
    assert '"live":true' in (root / "weblog/assets/run-index.js").read_text()
    assert "Running" not in write_site(root, live=False).read_text()
    assert '"live":false' in (root / "weblog/assets/run-index.js").read_text()
    # The pages of finished stages are the same in both: what they say of the run comes from the index.
    assert {p: p.read_bytes() for p in (root / "weblog/stages").iterdir()} == before


def test_a_failed_run_says_so_first_and_scores_zero(tmp_path: Path) -> None:
    text = write_site(sample.make_run(tmp_path / "run", failed=True), live=False).read_text()
    assert "What went wrong" in text and "CASA task x failed: &lt;b&gt;why&lt;/b&gt;" in text
    assert '<span class="value">0.00</span>' in text
    topics = (tmp_path / "run/weblog/topics.html").read_text()
    heading = topics.split('<section id="imaging">')[1].split("</h2>")[0]
    assert "0.00" in heading, "a topic with a failed stage is not good, whatever its other scores say"


def test_damaged_and_missing_files_cost_what_they_said_and_no_more(tmp_path: Path) -> None:
    root = sample.make_run(tmp_path / "run")
    folder = root / "stages/003-hif_bandpass"
    (folder / "page.json").write_text('{"sections": [')
    (folder / "qa.json").write_text("[]")
    (folder / "timing.json").write_bytes(b"\xff\xfe")
    (folder / "inputs.json").write_text('{"x": 3, "y": {"value": null}}')
    (root / "stages/002-hif_flags/stage.json").unlink()
    (root / "context.json").write_text('{"measurement_sets": [{"name": "a.ms"}], "images": 3, "calibration": []}')
    write_site(root, live=False)
    assert "interrupted" in (root / "weblog/stages/002-hif_flags.html").read_text()
    assert "hif_bandpass" in (root / "weblog/stages/003-hif_bandpass.html").read_text()
    assert "do not describe a MeasurementSet" in (root / "weblog/observation/a.ms.html").read_text()


def test_a_page_of_a_strange_shape_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    root = sample.make_run(tmp_path / "run")
    strange = {"sections": [{"title": "x", "blocks": [{"type": "table", "columns": ["a"], "rows": 7}]}]}
    (root / "stages/003-hif_bandpass/page.json").write_text(json.dumps(strange))
    write_site(root, live=False)
    assert "This page could not be made" in (root / "weblog/stages/003-hif_bandpass.html").read_text()
    assert (root / "weblog/stages/006-hif_image.html").is_file() and (root / "weblog/index.html").is_file()


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    assert "No stage has ended yet" in write_site(tmp_path / "run", live=True).read_text()


def test_pages_of_stages_that_were_undone_disappear(tmp_path: Path) -> None:
    root = sample.make_run(tmp_path / "run")
    write_site(root, live=False)
    shutil.rmtree(root / "stages/006-hif_image")
    write_site(root, live=False)
    assert not (root / "weblog/stages/006-hif_image.html").exists()
    assert not (root / "weblog/plots/006-hif_image").exists()
    assert "hif_image" not in (root / "weblog/assets/run-index.js").read_text()


def test_the_web_log_can_be_moved_without_the_run(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run / "weblog", tmp_path / "weblog")
    for page in moved.rglob("*.html"):
        for tag, attributes in Outline(page.read_text()).tags:
            if tag == "img":
                assert (page.parent / unquote(str(attributes["src"]))).is_file()


def test_a_symbolic_link_among_the_plots_is_not_followed(tmp_path: Path) -> None:
    root = sample.make_run(tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    picture = next((root / "stages/003-hif_bandpass/plots").iterdir())
    picture.unlink()
    picture.symlink_to(secret)
    write_site(root, live=False)
    assert not (root / "weblog/plots/003-hif_bandpass" / picture.name).exists()


def test_scores_lead_to_the_plots_of_their_data(run: Path) -> None:
    text = (run / "weblog/stages/003-hif_bandpass.html").read_text()
    links = [a for tag, a in Outline(text).tags if tag == "a" and "filterlink" in str(a.get("class"))]
    assert [link["data-filter"] for link in links] == ["antenna=ea02&field=A\"B'&spw=1"]
    tags = [{"spw": "1", "antenna": "ea02"}, {"spw": "0,1"}, {"antenna": "ea01"}, {"pol": "XX"}, {}]
    # Agreeing in all shared keys: the first and the second; the third disagrees, the rest share nothing.
    assert views.matching_pictures([("spw", ["1"]), ("antenna", ["ea02"])], tags) == 2


def test_forty_stages_with_five_hundred_plots_are_brought_up_to_date_in_150_ms(tmp_path: Path) -> None:
    root = sample.make_run(tmp_path / "run", stages=3)
    source = root / "stages/003-hif_bandpass"
    page = json.loads((source / "page.json").read_text())
    group = next(b for b in page["sections"][0]["blocks"] if b["type"] == "plots")
    group["pictures"] = (group["pictures"] * 3)[:13]
    (source / "page.json").write_text(json.dumps(page))
    for number in range(4, 41):
        shutil.copytree(source, root / "stages" / f"{number:03d}-hif_bandpass")
    write_site(root, live=True)
    seconds = []
    for turn in range(3):
        log = root / "stages/040-hif_bandpass/log.json"
        log.write_text(log.read_text().replace("begun", f"begun {turn}"))
        wall, begin = time.perf_counter(), time.process_time()
        write_site(root, live=True)
        # Processor time: what other programs do to the machine meanwhile is not the site's fault.
        seconds.append(time.process_time() - begin)
        print(
            f"one stage of 40 changed: {seconds[-1] * 1e3:.0f} ms, {1e3 * (time.perf_counter() - wall):.0f} ms elapsed"
        )
    assert min(seconds) < 0.150


def test_the_site_is_written_without_casa_matplotlib_or_astropy(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pl_kernel.weblog.site import write_site; "
        "write_site(Path(sys.argv[1]));"
        "print([m for m in ('casatools', 'casatasks', 'matplotlib', 'astropy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (15.0164, "15.016"), (0.0021, "0.0021"), (1234567.0, "1.235e+06"), (0.0, "0"), (3, "3"), (None, "–"),
        (True, "yes"), ("NaN", "no value"), ([1, 2.5], "1, 2.5"), ({"a": 1}, "a: 1"), (1e-9, "1e-09"), (100.0, "100"),
    ],
)  # fmt: skip
def test_values_are_written_as_a_person_would(value: object, words: str) -> None:
    assert views.say(value) == words


def test_long_names_of_files_may_be_broken_and_stay_what_they_are_to_copy() -> None:
    shown = views.breakable("table multi.hifv_finalcals.s13.2_finaldelay.tbl of <b>.ms")
    assert str(shown).replace("<wbr>", "") == "table multi.hifv_finalcals.s13.2_finaldelay.tbl of &lt;b&gt;.ms"
    assert "multi.<wbr>hifv_<wbr>finalcals.<wbr>" in shown
    assert "<wbr>" not in views.breakable("3.1415 a_short.name.tbl, two words")


def test_durations_and_sizes_are_written_as_a_person_would() -> None:
    assert [views.say_duration(s) for s in (0.04, 12.4, 59.6, 200, 7500, None)] == [
        "0.0 s", "12 s", "1 min 00 s", "3 min 20 s", "2 h 05 min", "–",
    ]  # fmt: skip
    assert [views.say_size(n) for n in (12, 1500, 2_500_000, 3e10)] == ["12 B", "1.5 kB", "2.5 MB", "30 GB"]


def test_casa_calls_are_shown_as_python_that_can_be_pasted() -> None:
    text = views.python_call({"task": "gaincal", "args": {"field": "A\"B'", "x": [1, None], "t": True}})
    seen: dict[str, object] = {}
    exec(text, {"gaincal": seen.update})
    assert seen == {"field": "A\"B'", "x": [1, None], "t": True}
    assert "\n" in views.python_call({"task": "t", "args": {"name": "x" * 120}})
