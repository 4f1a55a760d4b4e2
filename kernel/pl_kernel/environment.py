"""With what, and on what, a run was made: versions and machine, for the record."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

LIBRARIES = ("casatools", "casadata", "numpy", "scipy", "astropy", "matplotlib", "attrs", "cattrs", "pluggy", "jinja2")


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution, or an empty text."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions(plugins: dict[str, str]) -> dict[str, Any]:
    """Return the versions of kernel, plugins, CASA, Python and the libraries that numbers depend on.

    Nothing is imported: CASA's version is that of its installed distribution.
    """
    libraries = {name: version for name in LIBRARIES if (version := version_of(name))}
    return {
        "kernel": version_of("pl-kernel") or "0+unknown", "plugins": plugins, "casa": version_of("casatasks"),
        "python": platform.python_version(), **libraries,
    }  # fmt: skip


def machine() -> dict[str, str]:
    """Return host name, operating system, processor cores and memory."""
    import psutil

    return {
        "host": platform.node(), "system": f"{platform.system()} {platform.release()}", "machine": platform.machine(),
        "cores": str(os.cpu_count() or 1), "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }  # fmt: skip
