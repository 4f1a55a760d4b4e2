"""The script with which an astronomer repeats baselines and images with CASA alone, with masks of his own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pl_hsd.baselineproducts import Baselined, baselined
from pl_hsd.groups import reduction_groups
from pl_kernel.casa.script import header, stage_block
from pl_kernel.common.report import finished_stages
from pl_kernel.serialize import read_json
from pl_kernel.stage_context import StageContext

NAME = "rebase_and_image.py"

WHAT = """Baselines and images of the run {run} again, with CASA alone.

Run it with a Python that has casatasks, in a folder with the calibrated measurement sets (hsdn_restoredata makes them).
Edit the settings below: which channels are free of lines in each spectral window, and what is fitted to them."""

_SETTINGS = '''
# ---- settings --------------------------------------------------------------------------------------------------------

# Function fitted to the channels below: 'poly' or 'chebyshev' with ORDER, 'cspline' with PIECES.
FUNCTION, ORDER, PIECES = "poly", {order}, 2

# Channels without lines by measurement set and spectral window, as the pipeline found them ('a~b;c~d').
CHANNELS = {channels}

# Measurement set with calibrated spectra: its column, and the name of the one without baselines.
SPECTRA = {spectra}

# ---- baselines -------------------------------------------------------------------------------------------------------

for vis, (column, outfile) in SPECTRA.items():
    remove(outfile)
    sdbaseline(
        infile=vis, datacolumn=column, spw=",".join(f"{{spw}}:{{free}}" for spw, free in CHANNELS[vis].items()),
        maskmode="list", blmode="fit", blfunc=FUNCTION, order=ORDER, npiece=PIECES, dosubtract=True, blformat="",
        outfile=outfile, reindex=False, overwrite=True,
    )

# ---- images ----------------------------------------------------------------------------------------------------------
'''
ORDER = 3
"""Order of the polynomial that the script begins with: enough for the slow ripple of the 45-m telescope's spectra."""


@attrs.frozen(kw_only=True)
class Window:
    """One spectral window of one measurement set: channels, edges to leave out, and the spans of lines in it."""

    vis: str
    spw: int
    n_chan: int
    edge: tuple[int, int] = (0, 0)
    lines: tuple[tuple[int, int], ...] = ()


def free_channels(window: Window) -> str:
    """Channels without lines, ``a~b;c~d``; the whole window, but for its edges, where lines leave nothing."""
    low, high = window.edge[0], window.n_chan - 1 - window.edge[1]
    free = []
    at = low
    for first, last in sorted(window.lines):
        if first > at:
            free.append((at, min(first - 1, high)))
        at = max(at, last + 1)
    if at <= high:
        free.append((at, high))
    return ";".join(f"{a}~{b}" for a, b in free if b >= a) or f"{low}~{high}"


def script(
    run: str, recipe: str, spectra: Sequence[Baselined], windows: Iterable[Window], calls: Iterable[Mapping[str, Any]],
    work: str,
) -> str:  # fmt: skip
    """The script: settings, baselines, and the calls that made the images."""
    channels: dict[str, dict[int, str]] = {}
    for window in windows:
        channels.setdefault(window.vis, {})[window.spw] = free_channels(window)
    settings = _SETTINGS.format(
        order=ORDER, channels=_literal(channels), spectra=_literal({b.source: (b.column, b.vis) for b in spectra})
    )
    made = [c for c in calls if c["outcome"] == "ok"]
    return header(run, recipe, WHAT) + settings + "".join(stage_block(1, "images", made, work).splitlines(True)[2:])


def _literal(values: Mapping[Any, Any]) -> str:
    lines = []
    for key, value in values.items():
        text = _literal(value).replace("\n", "\n    ") if isinstance(value, Mapping) else repr(value)
        lines.append(f"    {key!r}: {text},\n")
    return "{\n" + "".join(lines) + "}"


def of_run(ctx: StageContext) -> str:
    """The script for the run so far; empty when it has no baselines or no images."""
    spectra = baselined(ctx)
    folders = [folder for folder, record in finished_stages(ctx.context.root) if record.name == "hsd_imaging"]
    file = folders[-1] / "casa_calls.json" if folders else Path()
    if not spectra or not file.is_file():
        return ""
    calls = read_json(file)
    if not isinstance(calls, list):
        calls = []
    context = ctx.context
    return script(
        context.run_name, context.recipe_name, spectra, _windows(ctx, spectra), calls, str(ctx.work)
    )


def _windows(ctx: StageContext, spectra: Sequence[Baselined]) -> list[Window]:
    """Windows of the measurement sets with baselines, and the lines that hsd_baseline found in them."""
    low, high = (int(v) for v in ctx.value("hsd.edge", (0, 0)))
    known = ctx.value("hsd.line_ranges", {})
    sources = {b.origin: b.source for b in spectra}
    lines: dict[tuple[str, int], set[tuple[int, int]]] = {}
    counts: dict[tuple[str, int], int] = {}
    for group in reduction_groups(ctx):
        spans = {
            (int(r["centre"] - r["width"] / 2), int(r["centre"] + r["width"] / 2) + 1)
            for r in known.get(group.key, ()) if r["valid"]
        }  # fmt: skip
        for member in group.members:
            if member.origin in sources:
                key = (sources[member.origin], int(member.origin_spw))
                lines.setdefault(key, set()).update(spans)
                counts[key] = group.nchan
    return [
        Window(vis=vis, spw=spw, n_chan=counts[vis, spw], edge=(low, high), lines=tuple(sorted(found)))
        for (vis, spw), found in sorted(lines.items())
    ]
