"""The baselines of a run as products: the newest table of every measurement set, and how CASA subtracts it."""

from __future__ import annotations

from pathlib import Path

import attrs

from pl_hsd.rows import origin_name
from pl_kernel.stage_context import StageContext

KEY = "hsd.baseline_tables"
"""Run value, set by hsd_baseline: by measurement set, the table, spws, column and the set without baselines."""


@attrs.frozen(kw_only=True)
class Baselined:
    """Baselines of the imported set ``origin``: subtracted from ``column`` of ``source``, they give ``vis``."""

    origin: str
    source: str
    column: str
    vis: str
    table: str
    spw: str = ""


def baselined(ctx: StageContext) -> list[Baselined]:
    """The baselines that the run holds, those of the latest hsd_baseline for each imported measurement set."""
    found: dict[str, Baselined] = {}
    for source, facts in (ctx.value(KEY) or {}).items():
        if Path(facts["table"]).exists():
            origin = origin_name(ctx, source)
            found[origin] = Baselined(
                origin=origin, source=source, column=str(facts["datacolumn"]), vis=str(facts["outfile"]),
                table=str(facts["table"]), spw=str(facts["spw"]),
            )  # fmt: skip
    return list(found.values())


def apply_call(b: Baselined) -> str:
    """The CASA call that subtracts the baselines of a table."""
    arguments = {
        "infile": b.source, "datacolumn": b.column, "spw": b.spw, "blmode": "apply", "bltable": b.table,
        "outfile": b.vis, "reindex": False, "overwrite": True,
    }  # fmt: skip
    return f"sdbaseline({', '.join(f'{k}={v!r}' for k, v in arguments.items())})\n"
