"""The web log as a reader meets it: opened from disk in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
Visit = Callable[..., Any]
STAGE = "stages/003-hif_bandpass.html"
IMAGES_LOADED = """async () => {
  const images = Array.from(document.images);
  images.forEach((i) => { i.loading = 'eager'; });
  await Promise.all(images.map((i) => i.decode().catch(() => null)));
  return images.filter((i) => !i.naturalWidth).map((i) => i.src);
}"""
# Contrast ratio of WCAG 2.1 between the ink of every text element and the first opaque background behind it.
LOW_CONTRAST = """() => {
  const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const found = [];
  for (const e of document.querySelectorAll('main *, header *, footer *')) {
    const text = Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !e.offsetParent || e.closest('.sr, .skip')) continue;
    let back = null;
    for (let n = e; n && !back; n = n.parentElement) {
      const c = parse(getComputedStyle(n).backgroundColor);
      if (c.length < 4 || c[3] === 1) back = c;
    }
    const a = luminance(parse(getComputedStyle(e).color)), b = luminance(back || [255, 255, 255]);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
  }
  return found;
}"""


def all_pages(weblog: Path) -> list[str]:
    return sorted(str(p.relative_to(weblog)) for p in weblog.rglob("*.html"))


UNNAMED = """() => Array.from(document.querySelectorAll('button, a, input, select')).filter((e) =>
  !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label') || e.querySelector("img:not([alt=''])")))
  .map((e) => e.outerHTML)"""


def test_every_page_opens_without_complaint_whole_named_and_unharmed(visit: Visit, weblog: Path) -> None:
    page = visit()
    for path in all_pages(weblog):
        page.goto((weblog / path).as_uri())
        assert page.evaluate(IMAGES_LOADED) == [], path
        assert page.locator("h1").count() == 1
        # every control has a name, every picture words
        assert page.evaluate(UNNAMED) == [], path
        assert page.locator("figure.plot img:not([alt]), figure.plot img[alt='']").count() == 0
        # names from data ran nothing and added no elements
        assert page.locator("main b:text-is('x'), main i, main u, main cube").count() == 0, path
        assert page.evaluate("Array.from(document.scripts).every((s) => s.src.includes('/assets/'))"), path
        assert page.locator("a[href^='javascript:' i]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone_and_all_text_has_contrast(visit: Visit, weblog: Path, scheme: str) -> None:
    page = visit(width=390, scheme=scheme)
    for path in all_pages(weblog):
        page.goto((weblog / path).as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.evaluate(LOW_CONTRAST) == [], path


def test_filters_show_what_was_chosen_and_nothing_else(visit: Visit) -> None:
    page = visit(STAGE)
    plots = page.locator("figure.plot:visible")
    assert plots.count() == 6
    page.select_option("#filters select[name=spw]", "1")
    assert plots.count() == 3
    page.select_option("#filters select[name=antenna]", "ea02")
    assert plots.count() == 1
    assert "ea02, spw 1" in plots.first.inner_text()
    assert page.locator("#filtered").inner_text() == "1 of 6"
    page.click("#filters button[type=reset]")
    page.wait_for_function("document.querySelectorAll('figure.plot:not([hidden])').length === 6")


def test_a_score_leads_to_the_plots_of_its_data(visit: Visit) -> None:
    page = visit(STAGE)
    page.click("a.filterlink")
    assert page.locator("figure.plot:visible").count() == 1
    page.wait_for_function(
        "(() => { const place = document.querySelector('figure.plot:not([hidden])').getBoundingClientRect();"
        " return place.top >= 0 && place.top < window.innerHeight / 2; })()"
    )
    assert page.locator("figure.plot:visible").first.get_attribute("data-tags").count("A\\\"B'") == 1
    other = visit(STAGE, fragment="#plots:spw=0")
    assert other.locator("figure.plot:visible").count() == 3


def test_tables_sort_by_number_and_filter(visit: Visit) -> None:
    page = visit(STAGE)
    table = page.locator("table.data", has_text="Solutions of")
    first = table.locator("tbody tr:visible").first
    table.locator("th button", has_text="SNR").click()
    assert first.locator("td").nth(2).inner_text() == "0.25"
    table.locator("th button", has_text="SNR").click()
    assert first.locator("td").nth(2).inner_text() == "1.75"
    assert table.locator("th", has_text="SNR").get_attribute("aria-sort") == "descending"
    page.locator(".tablefilter label", has_text="Field").locator("select").select_option("../x")
    assert table.locator("tbody tr:visible").count() == 2


def test_search_finds_stages_plots_scores_and_fields_and_goes_there(visit: Visit) -> None:
    page = visit()
    for words, kind, target in (
        ("bandpass solve", "stage", "003-hif_bandpass.html"),
        ("ea03 spw 0", "plot", "#p-"),
        ("low snr", "score", "#score-"),
        ("日本", "field", "#fields"),
    ):
        page.keyboard.press("/")
        page.fill("#query", words)
        hit = page.locator("#hits a").first
        assert hit.locator(".kind").inner_text() == kind
        assert target in hit.get_attribute("href")
        page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.fill("#query", "hif_bandpass")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("003-hif_bandpass"))
    page.keyboard.press("/")
    page.fill("#query", "<b>no such thing")
    assert page.locator("#hits").inner_text() == "Nothing found."


def test_keys_walk_through_the_stages_and_open_help(visit: Visit) -> None:
    page = visit("stages/001-hif_first.html")
    page.keyboard.press("j")
    page.wait_for_url(re.compile("002-"))
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("003-"))
    page.keyboard.press("k")
    page.wait_for_url(re.compile("002-"))
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("t")
    page.wait_for_url(re.compile("stages.html"))
    page.keyboard.press("s")
    page.wait_for_url(re.compile("index.html"))


def test_pictures_open_large_and_keys_step_through_those_that_are_shown(visit: Visit) -> None:
    page = visit(STAGE)
    page.select_option("#filters select[name=spw]", "0")
    page.locator("figure.plot:visible a.zoom").first.click()
    box = page.locator("#lightbox")
    assert box.is_visible()
    assert page.locator("#box-count").inner_text() == "1 of 3"
    page.keyboard.press("ArrowRight")
    assert "ea02, spw 0" in page.locator("#box-caption").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#box-count").inner_text() == "3 of 3"
    assert "snr" in page.locator("#box-facts").inner_text()
    page.keyboard.press("Escape")
    assert not box.is_visible()


def test_light_and_dark_follow_the_system_until_the_reader_decides(visit: Visit, weblog: Path) -> None:
    ink = "getComputedStyle(document.body).backgroundColor"
    light, dark = visit(scheme="light"), visit(scheme="dark")
    assert light.evaluate(ink) == "rgb(251, 252, 253)"
    assert dark.evaluate(ink) == "rgb(18, 23, 28)"
    light.click("#theme")
    assert light.evaluate(ink) == "rgb(18, 23, 28)"
    light.goto((weblog / STAGE).as_uri())
    assert light.evaluate(ink) == "rgb(18, 23, 28)"
    dark.keyboard.press("d")
    assert dark.evaluate(ink) == "rgb(251, 252, 253)"


def test_commands_can_be_copied(visit: Visit) -> None:
    page = visit(STAGE)
    page.locator("#commands summary").click()
    button = page.locator("#commands .code .copy").first
    button.click()
    page.wait_for_function("document.querySelector('#commands .code .copy').textContent === 'Copied'")


def test_a_link_into_a_folded_section_opens_it(visit: Visit) -> None:
    page = visit(STAGE, fragment="#reports")
    assert page.locator("#reports").evaluate("(e) => e.open")
    assert 'print("<&>")' in page.locator("#reports pre").inner_text()


def test_a_running_web_log_offers_news_when_there_are_any(browser: Any, tmp_path: Path, weblog: Path) -> None:
    from pl_kernel.weblog.site import write_site

    run = tmp_path / "run"
    shutil.copytree(weblog.parent, run, ignore=shutil.ignore_patterns("weblog"))
    last = run / "stages/006-hif_image"
    last.rename(tmp_path / "later")
    index = write_site(run, live=True)
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    page.goto(index.as_uri())
    assert "5 of 6 stages done, now hif_image" in page.locator(".state").inner_text()
    assert "last news at" in page.locator("#live").inner_text()
    page.clock.run_for(6000)
    page.wait_for_timeout(200)
    assert not page.locator("#reload").is_visible()
    (tmp_path / "later").rename(last)
    write_site(run, live=True)
    page.clock.run_for(6000)
    page.locator("#reload").wait_for(state="visible", timeout=5000)
    page.click("#reload")
    page.wait_for_function("document.querySelector('.state')?.textContent.includes('6 of 6')")
    write_site(run, live=False)
    page.goto((index.parent / STAGE).as_uri())
    assert not page.locator("#live").is_visible()
    context.close()


def test_a_page_can_be_read_without_javascript(browser: Any, weblog: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((weblog / STAGE).as_uri())
    assert page.locator("figure.plot:visible").count() == 6
    assert page.locator("a", has_text="All stages").count() == 1
    context.close()
