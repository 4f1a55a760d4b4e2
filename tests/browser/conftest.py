"""Headless Chromium for the tests of the web log: Debian's own, driven by Playwright, never downloaded.

On a machine without it the tests are skipped with the reason; where the environment says CI they fail instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)


def load_sample() -> ModuleType:
    """The made-up run folder of the kernel's tests."""
    path = Path(__file__).parents[2] / "kernel" / "tests" / "weblog_sample.py"
    spec = importlib.util.spec_from_file_location("weblog_sample", path)
    assert spec and spec.loader
    module = sys.modules.setdefault("weblog_sample", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must not go without the browser tests")
    pytest.skip(f"{what} is missing: apt-get install chromium, pip install playwright")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright for Python")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        _missing("Chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=_OPTIONS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def weblog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The web log of the made-up run, with real plots."""
    from pl_kernel.weblog.site import write_site

    run = load_sample().make_run(tmp_path_factory.mktemp("browser") / "run & <1>", plain=False)
    return write_site(run, live=False).parent


Opener = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, weblog: Path) -> Iterator[Opener]:
    """``visit("stages.html", width=1280, scheme="light")`` opens a page; complaints of the browser fail the test."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def failed(request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the reader went on before the page was whole
            complaints.append(f"cannot load {request.url}: {request.failure}")

    def visit(path: str = "index.html", *, width: int = 1280, scheme: str = "light", fragment: str = "") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("console", lambda m: complaints.append(f"{path}: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(f"{path}: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"{path}: dialog {dialog.message}"), dialog.dismiss()))
        page.on("requestfailed", failed)
        page.on("request", lambda r: None if r.url.startswith("file:") else complaints.append(f"network: {r.url}"))
        page.goto((weblog / path).as_uri() + fragment)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
