"""What the quality report of a VLA run says besides scores: set-up, scans, flags, spectra, images and their sizes.

Elements and their names are those of the observatory's report (reference pipeline, 2026), which reads them into its
archive; elements that can occur for several measurement sets say in ``Asdm`` which one they are of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pl_hif.heuristics.productsize import largest_cube_gb, product_gb
from pl_hif.stages.checkproductsize import CheckproductsizeResult
from pl_hifv.stages.flagdata import FlagdataResult
from pl_hifv.stages.fluxboot import FluxbootResult
from pl_hifv.stages.statwt import StatwtResult
from pl_kernel.common.report import NOT_AVAILABLE, Node, earlier_results
from pl_kernel.context import ImageRecord
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.weblog.observation import elevations_deg

MB_PER_GB = 1024
DAY_S = 86400.0
_MJD_OF_UNIX = 40587


def elements(ctx: Any, sets: Iterable[MeasurementSet], environment: Mapping[str, str]) -> tuple[Node, ...]:
    """All elements, for the run so far; ``environment`` is what the run's record says of its machine."""
    sets = list(sets)
    return (
        _machine(environment),
        Node("Calibrators", children=[n for ms in sets for n in _calibrators(ctx, ms)]),
        Node("ScienceSPWs", children=[n for ms in sets for n in _windows(ms)]),
        Node("Scans", children=[n for ms in sets for n in _scans(ms)]),
        Node("ObservationSummary", children=[n for ms in sets for n in _observation(ctx, ms)]),
        Node("Imaging", children=[_image(i) for i in ctx.context.images if i.kind == "image" and i.statistics]),
        Node("DataVolume", children=list(_volume(ctx))),
    )


def _machine(environment: Mapping[str, str]) -> Node:
    names = {
        "HostName": "host", "OperatingSystem": "system", "Cores": "cores", "Memory": "memory", "CPU": "machine",
    }  # fmt: skip
    host = Node("Host", children=[Node(tag, environment.get(key, NOT_AVAILABLE)) for tag, key in names.items()])
    return Node("ProcessingEnvironment", children=[Node("ExecutionMode", "serial"), host])


def _calibrators(ctx: Any, ms: MeasurementSet) -> Iterator[Node]:
    """Spectra of the secondary calibrators, referred to the centre of each band."""
    for result in earlier_results(ctx, "hifv_fluxboot", FluxbootResult)[-1:]:
        for one in result.spectra:
            if one.vis != ms.name:
                continue
            intents = {i for f in ms.fields if f.name == one.field for i in f.intents}
            yield Node("Calibrator", attributes={"Asdm": ms.name}, children=[
                Node("Name", one.field), Node("Band", one.band), Node("Fitorder", str(one.fit.order)),
                Node("Frequency", f"{one.fit.reference_hz:.0f}", {"Units": "Hz"}),
                Node("FluxDensity", f"{one.fit.flux_jy:.6g}", {"Units": "Jy"}),
                Node("FluxDensityError", f"{one.fit.flux_error_jy:.3g}", {"Units": "Jy"}),
                Node("SpectralIndex", ",".join(f"{v:.4f}" for v in one.fit.spectral_index) or "0"),
                Node("Intents", ",".join(sorted(intents))),
            ])  # fmt: skip


def _windows(ms: MeasurementSet) -> Iterator[Node]:
    for window in ms.science_spws:
        yield Node("SPW", attributes={"Asdm": ms.name, "ID": str(int(window.id))}, children=[
            Node("Channel0", f"{float(window.centres_hz[0]):.3f}", {"Units": "Hz"}),
            Node("ChannelWidth", f"{window.channel_width_hz:.3f}", {"Units": "Hz"}),
            Node("NChannels", str(window.n_channels)),
        ])  # fmt: skip


def _scans(ms: MeasurementSet) -> Iterator[Node]:
    for scan in ms.scans:
        yield Node("Scan", attributes={"Asdm": ms.name}, children=[
            Node("ID", str(scan.id)), Node("Start", _mjd(scan.start)), Node("End", _mjd(scan.end)),
            Node("SPWIDs", ",".join(str(int(s)) for s in sorted(scan.spw_ids))),
            Node("FieldIDs", ",".join(map(str, scan.field_ids))), Node("Intents", ",".join(sorted(scan.intents))),
        ])  # fmt: skip


def _observation(ctx: Any, ms: MeasurementSet) -> Iterator[Node]:
    where = {"Asdm": ms.name}
    yield Node("StartTime", _mjd(ms.start), where)
    yield Node("EndTime", _mjd(ms.end), where)
    yield Node("Baseline", attributes={**where, "Units": "m"}, children=[
        Node("Min", f"{ms.array.min_baseline_m:.2f}"), Node("Max", f"{ms.array.max_baseline_m:.2f}"),
    ])  # fmt: skip
    targets = {f.name for f in ms.fields_with_intent("TARGET")}
    yield Node("FlaggedFraction", attributes=where, children=[
        Node("Flagdata", children=list(_flagged(ctx, ms))), Node("StatWt", children=list(_statwt(ctx, ms, targets))),
    ])  # fmt: skip
    scans = [s for s in ms.scans if "TARGET" in s.intents]
    yield Node("TimeOnSource", f"{sum(s.duration_s for s in scans):.1f}", {**where, "Units": "sec"})
    seconds: dict[str, float] = {}
    for scan in scans:
        for field in scan.field_ids:  # pointings of a mosaic share their scan
            name = ms.field(field).name
            seconds[name] = seconds.get(name, 0.0) + scan.duration_s / len(scan.field_ids)
    yield Node("TimeOnScienceTarget", attributes=where, children=[
        Node("Target", f"{v:.1f}", {"name": name, "Units": "sec"}) for name, v in seconds.items()
    ])  # fmt: skip
    found = elevations_deg(ms, ms.scans)
    if found:
        yield Node("Elevation", attributes=where, children=_range([e for v in found.values() for e in v]))
        over: dict[str, list[float]] = {}
        for field, values in elevations_deg(ms, scans).items():
            over.setdefault(ms.field(field).name, []).extend(values)
        yield Node("TargetElevation", attributes=where, children=[
            Node("Target", attributes={"name": name}, children=_range(v)) for name, v in over.items() if name in targets
        ])  # fmt: skip
    yield Node("NAntennas", str(len(ms.antennas)), where)


def _range(values: list[float]) -> list[Node]:
    return [Node("Min", f"{min(values):.2f}"), Node("Max", f"{max(values):.2f}")]


def _flagged(ctx: Any, ms: MeasurementSet) -> Iterator[Node]:
    """Part of all data that each agent of the first flagging took."""
    for result in earlier_results(ctx, "hifv_flagdata", FlagdataResult)[:1]:
        for one in result.sets:
            if one.vis == ms.name:
                yield from (Node(c.name, f"{one.newly(c.name):.6f}") for c in one.counts)


def _statwt(ctx: Any, ms: MeasurementSet, targets: set[str]) -> Iterator[Node]:
    """Part of each target that is flagged once weights are derived."""
    for result in earlier_results(ctx, "hifv_statwt", StatwtResult)[-1:]:
        counts = result.flags_after[ms.name].by_field if ms.name in result.flags_after else {}
        for name, (flagged, total) in counts.items():
            if name in targets and total:
                yield Node("Target", f"{flagged / total:.6f}", {"name": name})


def _image(image: ImageRecord) -> Node:
    known, unit = image.statistics, image.unit or "Jy/beam"
    numbers = (
        ("bandwidth", "bandwidth_hz", "Hz"), ("effective_bw", "effective_bandwidth_hz", "Hz"),
        ("cell", "cell_arcsec", "arcsec"), ("robust", "robust", ""), ("observed_sensitivity", "rms", unit),
        ("theoretical_sensitivity", "theoretical_rms", unit), ("nonpbcor_image_min", "minimum", unit),
        ("nonpbcor_image_max", "peak", unit),
    )  # fmt: skip
    words = {
        "name": image.name, "intent": image.intent, "field": image.field, "spw": ",".join(map(str, image.spws)),
        "bwmode": image.specmode,
    }  # fmt: skip
    beam = image.beam
    return Node("image", children=[
        *(Node(tag, text) for tag, text in words.items()),
        *(Node(tag, f"{known[key]:.6g}" if key in known else NOT_AVAILABLE, {"Units": units} if units else {})
          for tag, key, units in numbers),
        Node("beam", children=[
            Node("major", f"{beam.major_arcsec:.4g}", {"Units": "arcsec"}),
            Node("minor", f"{beam.minor_arcsec:.4g}", {"Units": "arcsec"}),
        ] if beam else []),
    ])  # fmt: skip


def _volume(ctx: Any) -> Iterator[Node]:
    """Size of what is delivered so far, and what was predicted before and after mitigation; −1 without a limit."""
    size = sum(p.stat().st_size for p in ctx.products.rglob("*") if p.is_file())
    yield Node("ProductsDirectory", f"{size / 2**20:.2f}", {"Units": "MB"})
    for result in earlier_results(ctx, "hif_checkproductsize", CheckproductsizeResult):
        numbers = {
            "AllowedMaxCubeSize": result.limits.maxcubesize, "AllowedMaxCubeLimit": result.limits.maxcubelimit,
            "PredictedMaxCubeSize": largest_cube_gb(result.before),
            "MitigatedMaxCubeSize": largest_cube_gb(result.after),
            "AllowedMaxProductSize": result.limits.maxproductsize,
            "InitialProductSize": product_gb(result.before), "MitigatedProductSize": product_gb(result.after),
        }  # fmt: skip
        for tag, value in numbers.items():
            yield Node(tag, "-1" if value == -1 else f"{value * MB_PER_GB:.3f}", {"Units": "MB"})


def _mjd(moment: Any) -> str:
    """Modified Julian date of a time in UTC."""
    return f"{moment.timestamp() / DAY_S + _MJD_OF_UNIX:.8f}"
