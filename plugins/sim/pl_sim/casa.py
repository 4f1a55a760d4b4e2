"""CASA tools for the writer, imported late and configured by the kernel."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_kernel.casa import configure

if TYPE_CHECKING:
    from collections.abc import Iterator


def tool(name: str) -> Any:
    """A casatools tool: `table`, `measures`, `quanta`, `image`, `atmosphere` …"""
    configure()
    import casatools

    return getattr(casatools, name)()


@contextlib.contextmanager
def open_table(path: Path | str, *, write: bool = False) -> Iterator[Any]:
    """A table tool on a table, closed whatever happens."""
    tb = tool("table")
    tb.open(str(path), nomodify=not write)
    try:
        yield tb
    finally:
        tb.close()


def data_file(relative: str) -> Path:
    """A file of CASA's data."""
    from pl_kernel.casa.config import bundled_data

    configured = Path(configure()) / relative
    return configured if configured.exists() else bundled_data() / relative
