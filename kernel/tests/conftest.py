"""Throw-away plugins for tests: real installed distributions in a folder on the path, found by entry point."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pl_kernel import plugins

# A busy machine is no defect of the code under test.
settings.register_profile("pl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pl")


class PluginFolder:
    """A folder of small distributions, visible to this process and to every worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, source: str, *, version: str = "1.0", entry: str | None = None) -> None:
        """Install a plugin called ``name`` whose module has this source."""
        (self.path / f"plug_{name}.py").write_text(textwrap.dedent(source))
        info = self.path / f"plug_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plug-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[pl.plugins]\n{entry or name} = plug_{name}\n")
        (info / "RECORD").write_text("")
        plugins.registry.cache_clear()


@pytest.fixture
def plugin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginFolder]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{known}" if known else str(folder))
    before = set(sys.modules)
    plugins.registry.cache_clear()
    yield PluginFolder(folder)
    for name in set(sys.modules) - before:
        if name.startswith("plug_"):
            del sys.modules[name]
    plugins.registry.cache_clear()


@pytest.fixture
def add_plugin(plugin_folder: PluginFolder) -> Callable[..., None]:
    return plugin_folder.add
