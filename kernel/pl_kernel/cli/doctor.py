"""``pl doctor``: is everything pl needs in place?"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import click

from . import output
from .app import FAILED, OK, debug_option, json_option

_CASA_PROBE = """
import json, sys, time
begin = time.monotonic()
from pl_kernel.casa.config import configure
measures = configure()
import casatools, casatasks
print("PL-PROBE " + json.dumps({
    "casatools": casatools.version_string(), "casatasks": casatasks.version_string(), "measures": str(measures),
    "seconds": time.monotonic() - begin,
}))
"""
_LITTLE_SPACE = 5e9  # bytes; the demo takes about 0.5 GB, real data much more


@attrs.frozen(kw_only=True)
class Check:
    """One thing looked at; ``level`` is ok, warning or error, ``advice`` what to do about it."""

    name: str
    level: str
    found: str
    advice: str = ""


@click.command()
@click.option("--no-casa", is_flag=True, help="Leave out the import of CASA, which takes some seconds.")
@json_option
@debug_option
def doctor(no_casa: bool, as_json: bool) -> int:
    """Check whether everything pl needs is in place; exit code 1 when something is broken."""
    checks: list[Check] = []
    steps: list[Callable[[], list[Check]]] = [_python, _plugins, _space, _machine, _browser]
    if not no_casa:
        steps.insert(1, _casa)
    for step in steps:
        found = step()
        checks += found
        if not as_json:
            for check in found:
                _show(check)
    if as_json:
        output.write_json([attrs.asdict(check) for check in checks])
    broken = [check for check in checks if check.level == "error"]
    if not as_json:
        click.echo(f"\n{len(broken)} problems." if len(broken) != 1 else "\n1 problem." if broken else "")
    return FAILED if broken else OK


def _show(check: Check) -> None:
    colour = {"ok": "green", "warning": "yellow", "error": "red"}[check.level]
    mark = {"ok": "ok", "warning": "note", "error": "BROKEN"}[check.level]
    click.echo(f"  {click.style(f'{mark:>6}', fg=colour)}  {check.name}: {check.found}")
    if check.advice:
        click.echo(f"          {check.advice}")


def _python() -> list[Check]:
    from ..plugins import kernel_version

    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return [
        Check(
            name="Python", level="ok" if fits else "error", found=f"{version} ({sys.executable})",
            advice="" if fits else "pl works with Python 3.11, 3.12 and 3.13.",
        ),
        Check(name="pl-kernel", level="ok", found=kernel_version()),
    ]  # fmt: skip


def probe_casa(timeout: float = 180.0) -> dict[str, str | float]:
    """Import CASA in a process of its own; return versions, data folder and seconds, or ``{"error": …}``."""
    with tempfile.TemporaryDirectory() as folder:  # CASA writes a log where it stands
        try:
            done = subprocess.run(
                [sys.executable, "-c", _CASA_PROBE], cwd=folder, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return {"error": f"the import did not end within {timeout:.0f} s"}
    for line in done.stdout.splitlines():
        if line.startswith("PL-PROBE "):
            answer: dict[str, str | float] = json.loads(line.removeprefix("PL-PROBE "))
            return answer
    if done.returncode < 0:
        return {"error": f"the import was killed by signal {-done.returncode}"}
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"error": lines[-1].strip() if lines else f"the import ended with code {done.returncode}"}


def _casa() -> list[Check]:
    found = probe_casa()
    if "error" in found:
        return [
            Check(
                name="CASA", level="error", found=f"does not import: {found['error']}",
                advice="Install it again: pip install --force-reinstall pl-kernel; see docs, 'Installing'.",
            )
        ]  # fmt: skip
    versions = f"casatools {found['casatools']}, casatasks {found['casatasks']}"
    return [
        Check(name="CASA", level="ok", found=f"{versions}, imported in {found['seconds']:.1f} s"),
        Check(name="CASA data", level="ok", found=str(found["measures"])),
    ]


def _plugins() -> list[Check]:
    from ..errors import PlError
    from ..plugins import registry
    from ..recipe import load, problems

    known = registry()
    checks = []
    for plugin in known.plugins:
        if not plugin.accepted:
            checks.append(
                Check(name=f"plugin {plugin.name}", level="error", found=f"refused: {plugin.reason}",
                      advice=f"Update or remove {plugin.distribution or plugin.name}; the others work.")
            )  # fmt: skip
            continue
        found = f"{plugin.version}, {len(plugin.stages)} stages, {len(plugin.recipes)} recipes"
        checks.append(Check(name=f"plugin {plugin.name}", level="ok", found=found))
    for name in known.stages:
        try:
            known.stage(name)
        except PlError as error:
            checks.append(Check(name=f"stage {name}", level="error", found=error.sentence))
    for name, path in known.recipes.items():
        try:
            wrong = problems(load(path), known)
        except PlError as error:
            wrong = [error]
        checks += [Check(name=f"recipe {name}", level="warning", found=problem.sentence) for problem in wrong]
    return checks


def _space() -> list[Check]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    checks = [
        Check(
            name="disk", level="ok" if free > _LITTLE_SPACE else "warning", found=f"{free / 1e9:.1f} GB free in {here}",
            advice="" if free > _LITTLE_SPACE else "A run takes about three times the size of its data.",
        )
    ]  # fmt: skip
    if not os.access(here, os.W_OK):
        advice = "Give 'pl run' a folder with -o."
        checks.append(Check(name="folder", level="warning", found=f"{here} is read-only", advice=advice))
    return checks


def _machine() -> list[Check]:
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    return [
        Check(
            name="machine", level="ok" if memory.total > 3.5e9 else "warning",
            found=f"{os.cpu_count()} cores, {total:.1f} GiB memory ({free:.1f} free)",
            advice="" if memory.total > 3.5e9 else "Imaging needs some GiB of memory.",
        )
    ]  # fmt: skip


def _browser() -> list[Check]:
    names = ("firefox", "chromium", "chromium-browser", "google-chrome", "xdg-open", "open")
    found = next((name for name in names if shutil.which(name)), None)
    none = "none here; the web log is a folder of files that any browser opens"
    return [Check(name="browser", level="ok", found=found or none)]
