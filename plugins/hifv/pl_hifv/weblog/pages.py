"""Pages of the VLA's own stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.flags import FlagCounts
from pl_hif.weblog.applied import flag_table
from pl_hifv.stages.flagdata import AGENTS, FlagdataResult, MsFlags
from pl_hifv.stages.importdata import ImportdataResult
from pl_hifv.stages.vlasetjy import StandardField, VlasetjyResult
from pl_kernel import renderer
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import compact_ids
from pl_kernel.weblog.observation import observation_plots
from pl_kernel.weblog.page import Link

_SOURCES = {
    "data": "The data say what each scan is for.",
    "user": "The user's rules say what each field is for.",
    "inferred": "The data do not say what the scans are for. It was inferred from the fields' positions and the "
    "order of the scans.",
    "none": "Nobody says what the scans are for.",
}


@renderer(ImportdataResult)
def importdata_page(page: Any, ctx: Any, result: ImportdataResult) -> None:
    """What was imported, what each field is for and why, which windows there are."""
    page.section("Data")
    page.table(
        ["Measurement set", "From", "Kind", "How", "Begin (UTC)", "Minutes", "Antennas", "Fields", "Windows", "Size"],
        [
            [Link(i.ms.name, f"ms:{i.ms.name}"), Path(i.source).name, i.kind, i.how,
             i.ms.start.strftime("%Y-%m-%d %H:%M"),
             i.ms.duration_s / 60, len(i.ms.antennas), len(i.ms.fields), len(i.ms.spws), i.ms.size_bytes / 1e6]
            for i in result.imported
        ],
        units={"Size": "MB"}, formats={"Minutes": ".0f", "Size": ".1f"},
    )  # fmt: skip
    for vis, sentences in result.unsupported.items():
        for sentence in sentences:
            page.note(f"{vis}: {sentence}", "warning")
    if result.fluxes:
        page.table(
            ["Measurement set", "Field", "Name", "Spw", "Flux density", "Baselines", "From"],
            [[f.vis, f.field, f.field_name, f.spw if f.spw >= 0 else None, f.flux_jy, f.uvrange or "all", f.origin]
             for f in result.fluxes],
            caption="Flux densities stated for calibrators, and the baselines their solutions use.",
            units={"Flux density": "Jy"}, formats={"Flux density": ".4f"},
        )  # fmt: skip
    page.section("What the fields are for")
    for source in result.intents:
        page.text(f"{source.vis}: {_SOURCES[source.source]}")
        for doubt in source.doubts:
            page.note(doubt, "warning")
        page.table(
            ["Field", "Name", "Intents", "Standard", "Why"],
            [[d.field, d.field_name, ", ".join(d.intents), d.calibrator or "–", d.reason] for d in source.decisions],
        )
    for item in result.imported:
        page.section(f"Observation: {item.ms.name}")
        observation_plots(page, item.ms)
    page.section("Spectral windows")
    page.table(
        ["Measurement set", "Spw", "Band", "Centre", "Bandwidth", "Channels", "Channel", "Kind"],
        [
            [s.vis, s.spw, s.band or "?", s.centre_hz / 1e9, s.bandwidth_hz / 1e6, s.channels, s.channel_khz,
             "line" if s.line else "continuum"]
            for s in result.spws
        ],
        units={"Centre": "GHz", "Bandwidth": "MHz", "Channel": "kHz"},
        formats={"Centre": ".5f", "Bandwidth": ".3f", "Channel": ".2f"},
    )  # fmt: skip
    for vis, scans in result.missing_scans.items():
        if scans:
            page.note(f"{vis} lacks the scans {compact_ids(scans)}.", "warning")


@attrs.frozen(kw_only=True)
class _Matrix:
    vis: str
    antennas: tuple[str, ...]
    agents: tuple[str, ...]
    values: Any


@attrs.frozen(kw_only=True)
class _Places:
    """Antennas in metres east and north of the array's centre, and their flagged data in percent."""

    vis: str
    antennas: tuple[str, ...]
    east_m: tuple[float, ...]
    north_m: tuple[float, ...]
    percent: tuple[float, ...]


@renderer(FlagdataResult)
def flagdata_page(page: Any, ctx: Any, result: FlagdataResult) -> None:
    """What each agent flagged, by field and antenna."""
    for one in result.sets:
        page.section(f"Flags of {one.vis}")
        page.table(
            ["Agent", "Commands", "Newly flagged", "Flagged after", "Remark"],
            [
                [_WORDS.get(a, a), len(one.commands.get(a, ())) if a != "before" else None, 100 * one.newly(a),
                 _after(one, a), one.reasons.get(a, "")]
                for a in AGENTS
                if a == "before" or a in one.commands or a in one.reasons
            ],
            units={"Newly flagged": "%", "Flagged after": "%"},
            formats={"Newly flagged": ".2f", "Flagged after": ".2f"},
            caption="In the order in which they worked; autocorrelations count as data.",
        )  # fmt: skip
        page.text(
            f"{100 * one.science:.1f} % of the data were taken from science: flagged, and neither flagged before nor of"
            " antennas off source or in shadow nor of scans for pointing and set-up."
        )
        ms = ctx.context.measurement_set(one.vis)
        purposes = [(c.name, by_purpose(c, ms)) for c in one.counts]
        flag_table(page, purposes, "purpose", "Flagged data by purpose, after each agent")
        flag_table(page, [(c.name, c) for c in one.counts], "field", "Flagged data by field, after each agent")
        windows = {str(int(s.id)) for s in ms.science_spws}
        flag_table(
            page, [(c.name, _only(c, "spw", windows)) for c in one.counts], "spw",
            "Flagged data by science window, after each agent",
        )  # fmt: skip
        order = {n: i for i, n in enumerate(ms.antenna_names)}
        antennas = tuple(sorted(one.counts[-1].by.get("antenna", {}), key=lambda n: order.get(n, len(order))))
        names = tuple(c.name for c in one.counts)
        values = np.array([[c.fraction_of("antenna", a) for c in one.counts] for a in antennas])
        page.plots(
            draw_matrix, [_Matrix(vis=one.vis, antennas=antennas, agents=names, values=values)],
            caption="Flagged fraction of every antenna after each agent", size="large",
        )  # fmt: skip
        enu = ms.array.local_enu_m()
        here = [(a.name, *enu[k, :2]) for k, a in enumerate(ms.antennas) if a.name in antennas]
        places = _Places(
            vis=one.vis, antennas=tuple(n for n, _, _ in here), east_m=tuple(float(e) for _, e, _ in here),
            north_m=tuple(float(n) for _, _, n in here),
            percent=tuple(100 * one.counts[-1].fraction_of("antenna", n) for n, _, _ in here),
        )  # fmt: skip
        page.plots(
            draw_places, [places], caption="Where the antennas stand, and how much of their data is flagged in the end",
            size="large",
        )  # fmt: skip
        page.section(f"Commands for {one.vis}", level="detail")
        page.code("\n".join(line for a in AGENTS for line in one.commands.get(a, ())), "flag commands")


PURPOSES = ("BANDPASS", "PHASE", "AMPLITUDE", "TARGET")


def by_purpose(counted: FlagCounts, ms: MeasurementSet) -> FlagCounts:
    """Counts by what scans are for; a scan with several purposes counts for each."""
    found: dict[str, tuple[float, float]] = {}
    for purpose in PURPOSES:
        scans = [counted.by.get("scan", {}).get(str(s.id), (0.0, 0.0)) for s in ms.scans if purpose in s.intents]
        if any(total for _, total in scans):
            found[purpose] = (sum(f for f, _ in scans), sum(t for _, t in scans))
    return attrs.evolve(counted, by={"purpose": found})


def _only(counted: FlagCounts, key: str, wanted: set[str]) -> FlagCounts:
    return attrs.evolve(counted, by={key: {k: v for k, v in counted.by.get(key, {}).items() if k in wanted}})


_WORDS = {
    "before": "came with the data", "clip": "exact zeros", "anos": "antennas not on source",
    "online": "observatory's other flags", "intents": "scans for set-up", "baseband": "edges of basebands",
    "shadow": "shadowed antennas",
    "template": "user's flags", "autocorr": "autocorrelations", "scans": "named scans", "edgespw": "edge channels",
    "quack": "beginning of scans",
}  # fmt: skip


def _after(one: MsFlags, agent: str) -> float | None:
    found = [c for c in one.counts if c.name == agent]
    return 100 * found[0].fraction if found else None


def draw_matrix(ctx: Any, item: _Matrix, path: Path) -> None:
    """Antennas across, agents down."""
    from pl_kernel.weblog import plots

    plots.matrix(
        path, item.values.T, item.agents, item.antennas, label="flagged", limits=(0.0, 1.0), column_title="Antenna",
        title="Flagged data", subtitle=item.vis,
    )  # fmt: skip


def draw_places(ctx: Any, item: _Places, path: Path) -> bool | None:
    """Antennas where they stand, coloured by their flags."""
    from pl_kernel.weblog import plots

    if len(item.antennas) < 2:
        return False
    plots.antenna_map(
        path, item.antennas, item.east_m, item.north_m, values=item.percent, value_label="flagged (%)",
        limits=(0.0, 100.0), title="Flagged data by antenna", subtitle=item.vis,
    )  # fmt: skip
    return None


@renderer(VlasetjyResult)
def vlasetjy_page(page: Any, ctx: Any, result: VlasetjyResult) -> None:
    """The models of the standard calibrators."""
    page.section("Models")
    page.text(f"Flux-density standard: {result.standard}.")
    page.table(
        ["Measurement set", "Field", "Calibrator", "Spw", "Band", "Frequency", "I", "Q", "U", "V", "Model image"],
        [
            [f.vis, f.field, f.calibrator, f.spw, f.band, f.frequency_hz / 1e9, *f.stokes_jy, f.model or "given"]
            for f in result.fluxes
        ],
        units={"Frequency": "GHz", "I": "Jy", "Q": "Jy", "U": "Jy", "V": "Jy"}, filters=("Field", "Spw"),
        formats={"Frequency": ".5f", "I": ".4f", "Q": ".4f", "U": ".4f", "V": ".4f"},
    )  # fmt: skip
    page.table(
        ["Measurement set", "Field", "Is", "Offset", "Flagged"],
        [[s.vis, s.field, "stated in a file" if s.stated else s.calibrator, None if s.stated else s.offset_arcsec,
          100 * s.flagged_fraction] for s in result.standards],
        caption="Flux calibrators; standards are recognised by their position.",
        units={"Offset": "arcsec", "Flagged": "%"}, formats={"Offset": ".2f", "Flagged": ".1f"},
    )  # fmt: skip
    items = [ModelPicture(field=s, file=str(ctx.stage_dir / s.sample)) for s in result.standards if s.sample]
    page.plots(
        draw_model, items, name="model", title="Models against baseline",
        caption=lambda m: f"{m.field.vis}, {m.field.field}: a model that falls is of a resolved source",
        tags=lambda m: {"vis": m.field.vis, "field": m.field.field},
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class ModelPicture:
    """A flux calibrator and where a sample of its model is."""

    field: StandardField
    file: str


def draw_model(ctx: Any, item: ModelPicture, path: Path) -> None:
    """Draw model amplitudes against baseline, window by window."""
    from pl_kernel.weblog import plots

    with np.load(item.file, allow_pickle=False) as stored:
        uv, amplitude, spw = (stored[k] for k in ("uv_klambda", "amplitude_jy", "spw"))
    ids = np.unique(spw)
    plots.scatter(
        path, uv, amplitude, categories=np.searchsorted(ids, spw), labels=[f"spw {i}" for i in ids],
        xlabel="Baseline", xunit="kλ", ylabel="Model amplitude", yunit="Jy", title=item.field.field,
        subtitle=item.field.vis,
    )  # fmt: skip
