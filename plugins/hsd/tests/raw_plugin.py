"""Installs the module `rawreduce` beside this file as a plugin, for a test session."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Make the plugin visible to this process and to every worker."""
    from pl_kernel import plugins

    shutil.copy(Path(__file__).parent / "rawreduce.py", folder / "plug_rawreduce.py")
    info = folder / "plug_rawreduce-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-rawreduce\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pl.plugins]\nrawreduce = plug_rawreduce\n")
    (info / "RECORD").write_text("")
    known = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{known}" if known else str(folder)
    plugins.registry.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if known is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = known
        sys.modules.pop("plug_rawreduce", None)
        plugins.registry.cache_clear()
