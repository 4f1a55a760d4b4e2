"""Configures CASA before its first import: where its data are, where its log goes, no network, no prompt, no GUI.

casatools refuses to import without measures data.  A user's own configuration is respected when it holds valid data
(``CASASITECONFIG``, ``~/.casa/config.py``, or populated data in the configured place); otherwise the data of the PyPI
package casadata are used, which work offline.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from ..errors import PlError


@functools.cache
def configure(logfile: str | None = None) -> str:
    """Prepare CASA's configuration and return the folder of its measures data.

    Must run before casatools is imported in this process; later calls change nothing.

    Raises
    ------
    PlError : CASA or its data are not installed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # OpenMP threads of several workers fight for the cores
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        from casaconfig import config
    except ImportError as error:
        raise PlError("CASA is not installed: pip install casatools casatasks (see pl doctor).") from error
    config.nogui = True
    config.agg = True
    config.nologger = True
    config.logfile = logfile or os.devnull
    if os.environ.get("CASASITECONFIG") and has_measures(config.measurespath):
        return str(config.measurespath)
    config.measures_auto_update = False
    config.data_auto_update = False
    if has_measures(config.measurespath):
        return str(config.measurespath)
    bundled = bundled_data()
    config.measurespath = str(bundled)
    config.datapath = [*(p for p in config.datapath if p), str(bundled)]
    return str(bundled)


def has_measures(path: str | None) -> bool:
    """Whether a folder holds the measures tables without which casatools does not start."""
    return bool(path) and (Path(str(path)).expanduser() / "geodetic" / "Observatories").is_dir()


def bundled_data() -> Path:
    """Return the data folder of the casadata package.

    Raises
    ------
    PlError : the package is not installed.
    """
    try:
        import casadata
    except ImportError as error:
        raise PlError("CASA has no data: pip install casadata, or configure your own with casaconfig.") from error
    return Path(casadata.datapath)
