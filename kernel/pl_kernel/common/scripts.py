"""Scripts that go out with a delivery: the run as it was called, and the calls that restore it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..journal import RunRecord
from ..ms.model import MeasurementSet
from .importing import unique_name

_HEAD = '''#!/usr/bin/env python3
"""{purpose}

Needs pl with the plugins {plugins}. Run it in a folder of its own, with the raw data in ../rawdata{more}.
"""

from pl_kernel.casa_style import *  # noqa: F403

'''


@attrs.frozen
class Call:
    """One call of a stage, with plain values."""

    stage: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.stage}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


def script(purpose: str, calls: Iterable[Call], record: RunRecord, state: Mapping[str, Any], more: str = "") -> str:
    """A script in the observatories' style that makes these calls in a new run."""
    known = record.pl.get("plugins")
    plugins = ", ".join(f"{n} {v}" for n, v in known.items()) if isinstance(known, dict) else ""
    lines = ["h_init()"]
    if any(isinstance(names, Mapping) and names for names in state.values()):
        lines = ["context = h_init()"]
    for owner, names in state.items():
        if isinstance(names, Mapping):
            lines += [f"context.set_state({owner!r}, {name!r}, {value!r})" for name, value in names.items()]
    body = [f"    {call}" for call in calls]
    text = _HEAD.format(purpose=_plain(purpose), plugins=_plain(plugins), more=_plain(more))
    return text + "\n".join([*lines, "try:", *body, "finally:", "    h_save()"]) + "\n"


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")


def calls_of(record: RunRecord, up_to: int | None = None) -> list[Call]:
    """The steps of a run as calls; data are named without their folders, as the observatories' scripts do."""
    calls = []
    for step in record.steps[:up_to]:
        if step.stage == "breakpoint":
            continue
        arguments = {**step.parameters, **step.user}
        if "vis" in arguments and isinstance(arguments["vis"], (list, tuple)):
            arguments["vis"] = [Path(str(v)).name for v in arguments["vis"]]
        calls.append(Call(step.stage, arguments))
    return calls


def raw_names(record: RunRecord, sets: Sequence[MeasurementSet]) -> list[str]:
    """Names of the raw data of measurement sets, as they lie in an archive (SDM, UVFITS, measurement set)."""
    given = [Path(d).name for d in record.data]
    for step in record.steps:
        vis = {**step.parameters, **step.user}.get("vis")
        if isinstance(vis, (list, tuple)):
            given += [Path(str(v)).name for v in vis]
    by_name = {unique_name(Path(name), set()): name for name in reversed(given)}
    return [by_name.get(ms.name, ms.name) for ms in sets]
