"""``casa_commands.py``: the CASA calls of a run as a script that repeats the reduction with CASA alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_WHAT = """CASA commands of the run {run}: {recipe}.

Run it in an empty folder with a Python that has casatasks; it needs nothing of pl.
Input data are read where the run read them, or from the folder named by the environment variable PL_DATA."""

_HEADER = '''#!/usr/bin/env python3
"""{what}
"""

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")
from casaconfig import config

config.nogui = config.agg = True
if not os.path.isdir(os.path.join(os.path.expanduser(str(config.measurespath)), "geodetic")):
    import casadata  # the data package of PyPI, used when CASA has none of its own

    config.measurespath = casadata.datapath
    config.datapath = [casadata.datapath]
    config.measures_auto_update = config.data_auto_update = False

from casatasks import *


def data(path):
    """An input path of the run, looked for in PL_DATA first."""
    moved = os.path.join(os.environ.get("PL_DATA", ""), os.path.basename(path.rstrip("/")))
    return moved if os.environ.get("PL_DATA") and os.path.exists(moved) else path


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def flag_solutions(vis, solutions):
    """Flag the solutions of (antenna, window) in a calibration table; flagdata may crash on tables of few rows."""
    from casatools import table

    opened = table()
    opened.open(vis, nomodify=False)
    bad = opened.getcol("FLAG")
    pairs = zip(opened.getcol("ANTENNA1"), opened.getcol("SPECTRAL_WINDOW_ID"))
    bad[..., [[int(a), int(s)] in solutions for a, s in pairs]] = True
    opened.putcol("FLAG", bad)
    opened.done()


def imageconcat(outfile, infiles):
    """Join images along the spectral axis."""
    from casatools import image

    image().imageconcat(outfile=outfile, infiles=infiles, relax=True, overwrite=True).done()

'''

_FILE_OPERATIONS = {
    "copytree": "shutil.copytree", "copy": "shutil.copy2", "move": "shutil.move", "rmtree": "remove",
}  # fmt: skip


def header(run: str, recipe: str, what: str = _WHAT) -> str:
    """Return the beginning of the script; ``what`` tells its reader what it is, with {run} and {recipe}."""
    clean = (text.replace("\\", "\\\\").replace('"', "'") for text in (run, recipe or "stage by stage"))
    return _HEADER.format(what=what.format(run=next(clean), recipe=next(clean)))


def stage_block(number: int, title: str, calls: Iterable[Mapping[str, Any]], work: str) -> str:
    """Return the lines of one stage; calls that failed are there as comments."""
    lines = [f"\n# ---- stage {number}: {' '.join(title.split())} ----"]
    for call in calls:
        if not _is_call(call):
            lines.append(f"# not written, it is no call of CASA: {call['task']!r}")
            continue
        text = _file_call(call, work) if call["kind"] == "file" else _task_call(call, work)
        if call["outcome"] != "ok":
            reason = " ".join(str(call.get("message", "")).split())
            outcome = " ".join(call["outcome"].split())
            text = f"# {outcome}: {reason}\n" + "\n".join(f"# {line}" for line in text.splitlines())
        lines.append(text)
    return "\n".join(lines) + "\n"


def _is_call(call: Mapping[str, Any]) -> bool:
    """Whether a record holds nothing but names and values: it may come out of anybody's run folder."""
    if call["kind"] == "file":
        return call["task"] in _FILE_OPERATIONS and isinstance(call["args"].get("paths"), list)
    return all(str(name).isidentifier() for name in (call["task"], *call["args"]))


def _task_call(call: Mapping[str, Any], work: str) -> str:
    arguments = [f"{name}={_value(value, work)}" for name, value in call["args"].items()]
    line = f"{call['task']}({', '.join(arguments)})"
    if len(line) <= 110:
        return line
    return f"{call['task']}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _file_call(call: Mapping[str, Any], work: str) -> str:
    return f"{_FILE_OPERATIONS[call['task']]}({', '.join(_value(p, work) for p in call['args']['paths'])})"


def _value(value: Any, work: str) -> str:
    # Paths inside the work folder become relative; other absolute paths are inputs.
    if isinstance(value, str) and Path(value).is_absolute():
        relative = os.path.relpath(value, work)
        if not relative.startswith(".."):
            return repr(relative)
        return f"data({value!r})" if Path(value).exists() else repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(v, work) for v in value) + "]"
    return repr(value)
