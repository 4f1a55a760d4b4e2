"""Statistics of a run for the observatories' databases: what was observed, how it was set up, how long it took.

Four levels: the whole (MOUS), execution blocks (EB), windows of the first of them (SPW), and targets (TARGET). Every
value has its units and a description. What nobody knows is left out, never made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PlError
from ..ms.model import MeasurementSet
from ..ms.records import SpectralWindow
from ..serialize import read_json
from .report import Report, finished_stages

VERSION = "1.0"
_HOUR = 3600.0

Value = dict[str, Any]


def collect(root: Path, report: Report, sets: Iterable[MeasurementSet]) -> dict[str, Any]:
    """The statistics of the run in the folder ``root``, which has made ``report``; plain JSON values."""
    sets = list(sets)
    flags = flagged_by_agent(root)
    targets = {t: max(_pointings(ms, t) for ms in sets) for t in _targets(sets)}
    windows = sets[0].science_spws if sets else ()
    return {
        "version": VERSION,
        "MOUS": _whole(root, report, sets, list(targets), len(windows)),
        "EB": {ms.execution_block or ms.name: _block(ms, flags.get(ms.name, {})) for ms in sets},
        "SPW": {str(s.id): _window(sets[0], s) for s in windows},
        "TARGET": {name: {"n_pointings": _value(count, "", "pointings of the target")}
                   for name, count in targets.items()},
    }  # fmt: skip


def flagged_by_agent(root: Path) -> dict[str, dict[str, float]]:
    """Per cent of all data that each agent of the first flagging stage flagged, by measurement set.

    Of every stage whose name ends in flagdata and whose result counts flags after every agent; agents see what those
    before them left, so that the numbers add up.
    """
    found: dict[str, dict[str, float]] = {}
    for folder, record in finished_stages(root):
        if record.status != "ok" or not record.name.endswith("_flagdata"):
            continue
        try:
            content = read_json(folder / "result.json")
        except PlError:
            continue
        for one in content.get("sets", []) if isinstance(content, Mapping) else []:
            if isinstance(one, Mapping) and one.get("vis") and one.get("counts"):
                found.setdefault(str(one["vis"]), _increments(one["counts"]))
    return found


def _increments(counts: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    shares: dict[str, float] = {}
    before = 0.0
    for item in counts:
        total = float(item.get("total") or 0.0)
        if total:
            now = float(item["flagged"])
            shares[str(item["name"])] = round(100 * (now - before) / total, 3)
            before = now
    return shares


def baseline_percentile_m(positions_m: np.ndarray, percent: float = 80.0) -> float | None:
    """Length in metres below which so many per cent of the baselines are; None with less than two antennas.

    positions_m : shape (antennas, 3).
    """
    first, second = np.triu_indices(len(positions_m), k=1)
    if not first.size:
        return None
    return float(np.percentile(np.linalg.norm(positions_m[first] - positions_m[second], axis=1), percent))


def _value(value: Any, units: str, description: str) -> Value:
    return {"value": value, "units": units, "description": description}


def _whole(
    root: Path, report: Report, sets: list[MeasurementSet], targets: list[str], windows: int
) -> dict[str, Value]:
    stages = [(record, (record.ended - record.started).total_seconds() / _HOUR) for _, record in finished_stages(root)]
    return {
        "project_id": _value(report.project, "", "proposal code"),
        "mous_uid": _value(report.ous, "", "observing unit set, or scheduling block"),
        "pipeline_version": _value(report.pl, "", "version of pl-kernel"),
        "casa_version": _value(report.casa, "", "version of CASA"),
        "pipeline_recipe": _value(report.recipe, "", "recipe"),
        "n_EB": _value(len(sets), "", "execution blocks"),
        "bands": _value(sorted({b for ms in sets for b in ms.bands}), "", "receiver bands"),
        "n_target": _value(len(targets), "", "targets"),
        "target_list": _value(targets, "", "names of the targets"),
        "n_spw": _value(windows, "", "science windows"),
        "total_time": _value(round(report.seconds / _HOUR, 4), "h", "from the first to the last stage"),
        "stage_info": _value({f"{r.number}": r.name for r, _ in stages}, "", "stages by number"),
        "stage_duration": _value({f"{r.number}": round(h, 5) for r, h in stages}, "h", "time of each stage"),
    }


def _block(ms: MeasurementSet, flags: Mapping[str, float]) -> dict[str, Value]:
    found = {
        "n_ant": _value(len(ms.antennas), "", "antennas that took data"),
        "n_scan": _value(len(ms.scans), "", "scans"),
    }
    length = baseline_percentile_m(ms.array.positions_m)
    if length is not None:
        found["L80"] = _value(round(length, 2), "m", "80th percentile of the lengths of baselines")
    if flags:
        found["flagdata_percentage"] = _value(dict(flags), "%", "newly flagged by each agent, one after the other")
    return found


def _window(ms: MeasurementSet, spw: SpectralWindow) -> dict[str, Value]:
    return {
        "spw_width": _value(spw.bandwidth_hz / 1e6, "MHz", "width of the window"),
        "spw_freq": _value(spw.centre_hz / 1e9, "GHz", f"centre of the window, {spw.frame.name}"),
        "n_chan": _value(spw.n_channels, "", "channels"),
        "chan_width": _value(abs(spw.step_hz) / 1e6, "MHz", "distance of channels"),
        "nbin_online": _value(spw.online_binning, "", "channels averaged by the correlator"),
        "n_pol": _value(len(ms.polarization_of(spw.id).correlations), "", "correlations"),
    }


def _targets(sets: Iterable[MeasurementSet]) -> list[str]:
    return list(dict.fromkeys(_source(ms, f) for ms in sets for f in ms.fields_with_intent("TARGET")))


def _pointings(ms: MeasurementSet, name: str) -> int:
    return sum(_source(ms, f) == name for f in ms.fields_with_intent("TARGET"))


def _source(ms: MeasurementSet, field: Any) -> str:
    return next((s.name for s in ms.sources if s.id == field.source_id), field.name)
