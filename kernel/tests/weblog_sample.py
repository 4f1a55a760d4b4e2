"""A made-up run folder for the tests of the web log: written by the same records and writers as a real run.

The names in it are hostile on purpose: they hold markup, quotes, paths and letters of many scripts.
"""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_kernel.calibration import CalApplication, CalFrom, CalLibrary, CalTo
from pl_kernel.casa.records import CallRecord, LogRecord
from pl_kernel.context import Beam, Context, ImageRecord, ProductRecord
from pl_kernel.journal import RunRecord, RunStep, StageError, StageRecord
from pl_kernel.ms.datatypes import ColumnType, DataType
from pl_kernel.ms.model import (
    Antenna,
    AntennaArray,
    DataDescription,
    Field,
    MeasurementSet,
    Polarization,
    Scan,
    Source,
    SpectralWindow,
    WeatherSummary,
)
from pl_kernel.ms.virtual import RealSpw
from pl_kernel.params import ResolvedValue
from pl_kernel.qa import AppliesTo, QAScore, combine
from pl_kernel.serialize import write_json
from pl_kernel.weblog.page import Link, Page, Score, make_page


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# A 2 × 1 pixel grey PNG, put together by the PNG specification: stands for a plot where nobody looks at it.
TINY = (
    b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\x00\xdd\xdd")) + _chunk(b"IEND", b"")
)  # fmt: skip
HOSTILE = (
    "<b>x</b>",
    "A\"B'",
    "../x",
    "</script><script>alert(1)</script>",
    "Ünï 日本 $x$ & co",
    "javascript:alert(1)",
)
START = dt.datetime(1995, 4, 13, 9, 18, 45, tzinfo=dt.UTC)
STAGES = (
    ("hif_first", "Import the data.", "dataset", None),
    ("hif_flags", "Flag what is known to be bad.", "flagging", 0.85),
    ("hif_bandpass", "Solve for the bandpass of every antenna.", "calibration", 0.55),
    ("hif_gains", "Solve for the gains.", "calibration", 0.95),
    ("hif_skipped", "Not needed here.", "misc", None),
    ("hif_image", "Make the images.", "imaging", 0.97),
)


class FakeLog:
    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def info(self, message: str) -> None:
        self.records.append(LogRecord(level="info", message=message, origin="sample"))

    def warning(self, message: str) -> None:
        self.records.append(LogRecord(level="warning", message=message, origin="sample"))


class FakeContext:
    """The part of a stage's context that pages use."""

    def __init__(self, run: Path, number: int, name: str, plain: bool = True) -> None:
        self.plain = plain
        self.stage_dir = run / "stages" / f"{number:03d}-{name}"
        self.stage_dir.mkdir(parents=True, exist_ok=True)
        self.stage_number, self.stage_name = number, name
        self.log = FakeLog()

    def map(self, function: Callable[..., Any], items: Sequence[Any], *args: Any, label: str = "") -> list[Any]:
        return [function(self, item, *args) for item in items]


def measurement_set(name: str = "day 1 <i>&.ms") -> MeasurementSet:
    """An array of six antennas on a cross, two windows, the hostile names as fields, nine scans."""
    centre = np.array([-1601185.4, -5041977.5, 3554875.9])
    offsets = [(0, 0, 0), (40, 0, 0), (-60, 0, 0), (0, 80, 0), (0, -120, 0), (10, 10, 300)]
    antennas = tuple(
        Antenna(i, f"ea{i + 1:02d}", f"W{i}", 25.0, tuple(float(v) for v in centre + o)) for i, o in enumerate(offsets)
    )
    spws = tuple(
        SpectralWindow(
            RealSpw(i), f"win{i}_long_name", 63, 1.41e9 + i * 2e6, 24414.0, 24414.0, 1.55e6, 1.41e9, band="L"
        )
        for i in range(2)
    )
    intents = ("BANDPASS", "PHASE", "TARGET", "CHECK", "AMPLITUDE", "POINTING")
    fields = tuple(
        Field(i, n, i, 3.5 + 0.1 * i, 0.1 * i - 0.2, intents=frozenset({intents[i]}), spws=frozenset({0, 1}))
        for i, n in enumerate(HOSTILE)
    )
    scans = tuple(
        Scan(
            n + 1, START + dt.timedelta(seconds=400 * n), START + dt.timedelta(seconds=400 * n + 350), (n % 6,),
            (RealSpw(0), RealSpw(1)), tuple(range(6)), 1000, {n % 6: frozenset({intents[n % 6]})},
            interval_s={0: 30.0, 1: 30.0},
        )
        for n in range(9)
    )  # fmt: skip
    return MeasurementSet(
        name=name, path=name, telescope="EXAMPLE", array=AntennaArray("EXAMPLE", antennas), spws=spws, fields=fields,
        sources=tuple(Source(f.id, f.name, f.ra_rad, f.dec_rad) for f in fields), scans=scans, states=(),
        polarizations=(Polarization(0, ("RR", "LL")),),
        data_descriptions=tuple(DataDescription(i, RealSpw(i), 0) for i in range(2)), columns=("DATA",),
        data_types=(ColumnType(DataType.RAW, "DATA"),), intents_from="rules", observer="TEST <observer>", project="P&1",
        start=START, end=scans[-1].end, n_rows=9000, weather=WeatherSummary(3, 285.0, 780.0, 40.0, 3.5),
    )  # fmt: skip


@attrs.frozen
class Bandpass:
    """An item to draw: field, spw, antenna."""

    field: str
    spw: int
    antenna: str


def draw_bandpass(ctx: Any, item: Bandpass, path: Path) -> dict[str, float]:
    if ctx.plain:
        path.write_bytes(TINY)
        return {"snr": 31.4}
    from pl_kernel.weblog import plots

    seed = np.random.default_rng(item.spw * 100 + int(item.antenna[2:]))
    gains = (1 + 0.02 * seed.normal(size=(2, 63))) * np.exp(0.1j * seed.normal(size=(2, 63)))
    title = f"{item.antenna}, spw {item.spw}, {item.field}"
    freq = 1.41e9 + np.arange(63) * 24414.0
    plots.amp_phase_vs_frequency(path, freq, gains, labels=["RR", "LL"], title=title)
    return {"snr": 31.4}


def draw_image(ctx: Any, item: str, path: Path) -> dict[str, float]:
    if ctx.plain:
        path.write_bytes(TINY)
        return {"peak": 0.05}
    from pl_kernel.weblog import plots

    y, x = np.mgrid[:128, :128]
    data = 0.002 * np.random.default_rng(5).normal(size=(128, 128))
    data += 0.05 * np.exp(-((x - 60) ** 2 + (y - 70) ** 2) / 120)
    if item.endswith("histogram"):
        return plots.histogram(path, data, unit="Jy/beam", label="Brightness", title=item)
    frame = plots.SkyFrame(230.4996, 5.0714, 15.0, 64, 64)
    return plots.image_panel(path, data, frame=frame, beam=(51.4, 47.1, 10.0), title=item)


def draw_nothing(_ctx: Any, item: str, path: Path) -> None:
    raise RuntimeError(f"no data for {item}")


def bandpass_page(page: Page, ctx: Any, result: Any) -> None:
    page.section("Solutions <u>", anchor="solutions")
    page.text("One solution per antenna and spw. <script>alert(2)</script>")
    page.note("Antenna ea03 has few data.", level="warning")
    rows = [
        [field, spw, 1.5 * spw + 0.25, Score(0.5 if spw else 0.95), Link("stage", "stage:1#inputs"), Link(field, field)]
        for field in HOSTILE
        for spw in (0, 1)
    ]
    page.table(
        ["Field", "Spw", "SNR", "Score", "Where", "Bad link"], rows, caption="Solutions of <i>all</i> fields",
        filters=("field", "spw"), formats={"SNR": ".2f"},
    )  # fmt: skip
    items = [Bandpass(HOSTILE[spw], spw, antenna) for spw in (0, 1) for antenna in ("ea01", "ea02", "ea03")]
    page.plots(
        draw_bandpass, items, caption=lambda i: f"{i.antenna}, spw {i.spw}, {i.field}",
        tags=lambda i: {"spw": i.spw, "antenna": i.antenna, "field": i.field, "caltable": "a.bcal"}, title="Bandpass",
    )  # fmt: skip
    page.plots(draw_nothing, [HOSTILE[3]], caption="cannot be drawn")
    page.section("Reports", level="detail")
    page.code('if a < b:\n    print("<&>")', label="report")
    page.download("products/image <1>.fits", "the image")
    page.facts({"Reference": "ea01", "Number": 3, "Ratio": 0.123456789, "None": None})


def image_page(page: Page, ctx: Any, result: Any) -> None:
    page.section("Images")
    page.plots(
        draw_image, ["<b>x</b> image", "<b>x</b> histogram"], caption=lambda i: i, size="large",
        tags=lambda i: {"image": "x <b>.image", "type": i.split()[-1], "field": "<b>x</b>", "spw": "0"},
    )  # fmt: skip


def make_run(root: Path, *, failed: bool = False, stages: int = len(STAGES), plain: bool = True) -> Path:
    """Write a run of several stages; with `failed` the last of them has failed, `plain` draws no real plots."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "products").mkdir(exist_ok=True)
    (root / "products" / "image <1>.fits").write_bytes(b"SIMPLE" * 500)
    (root / "casa_commands.py").write_text("# commands\n")
    ms = measurement_set()
    library = CalLibrary()
    for n, name in enumerate(("a.bcal", "b <b>.gcal")):
        application = CalApplication(CalTo(ms.name, intent="TARGET"), (CalFrom(name, caltype="gaincal"),), f"s{n}")
        library = library.add(application)
    context = Context(
        run_name=root.name, root=root, measurement_sets=(ms,), calibration=library,
        images=(
            ImageRecord(
                name="x <b>.image", field="<b>x</b>", spws=(0, 1), specmode="cube", beam=Beam(major_arcsec=51.4,
                minor_arcsec=47.1, pa_deg=10.0), unit="Jy/beam", statistics={"peak": 0.05, "rms": 0.002},
            ),
            ImageRecord(name="y.image", field="y"),
        ),
        products=(ProductRecord(name="image <1>.fits", kind="fits", size_bytes=3000, doc="The <cube>."),),
    )  # fmt: skip
    write_json(root / "context.json", context)
    steps = [RunStep(stage=name, parameters={"solint": "inf"}) for name, *_ in STAGES]
    write_run(root, steps, "failed" if failed else "done")
    for number, (name, title, topic, score) in enumerate(STAGES[:stages], 1):
        status = "failed" if failed and number == stages else "skipped" if name == "hif_skipped" else "ok"
        write_stage(root, number, name, title, topic, score, status, plain)
    return root


def write_run(root: Path, steps: Sequence[RunStep], status: str) -> None:
    record = RunRecord(
        name="N5921 <b>&", recipe={"name": "example", "title": "Example, spectral line"}, data=("/data/A\"B'.fits",),
        created=START, steps=tuple(steps), options={"workers": 1}, status=status,
        pl={"kernel": "0.1.0", "plugins": {"hif": "0.1.0"}, "casa": "6.7.0", "python": "3.11"},
    )  # fmt: skip
    write_json(root / "run.json", record)


def write_stage(
    root: Path,
    number: int,
    name: str,
    title: str,
    topic: str,
    score: float | None,
    status: str = "ok",
    plain: bool = True,
) -> Path:
    """Write the folder of one stage, in the order in which a run writes it."""
    ctx = FakeContext(root, number, name, plain)
    folder = ctx.stage_dir
    begin = START + dt.timedelta(minutes=3 * number)
    error = (
        StageError(sentence="CASA task x failed: <b>why</b>", detail="Traceback <…>") if status == "failed" else None
    )
    record = StageRecord(
        number=number, step=number - 1, name=name, title=title, topic=topic, status=status, score=score, started=begin,
        ended=begin + dt.timedelta(seconds=70), plugin="hif", error=error,
    )  # fmt: skip
    if status == "skipped":
        write_json(folder / "stage.json", record)
        return folder
    scores = [] if score is None else make_scores(score, topic)
    calls = [
        CallRecord(task="gaincal", args={"vis": "a.ms", "field": HOSTILE[number % 6], "solint": "inf"}, seconds=1.25),
        CallRecord(task="bandpass", args={"vis": "a.ms", "bandtype": "B"}, outcome="failed", message="why <b>"),
    ]
    write_json(folder / "qa.json", {"scores": scores, "stage_score": combine(scores)})
    write_json(folder / "casa_calls.json", calls)
    write_json(folder / "timing.json", {"seconds": 12.5 * number, "casa_seconds": 8.0 * number, "peak_rss_mb": 512.3})
    write_json(
        folder / "inputs.json",
        {
            "solint": ResolvedValue(value="inf", origin="recipe", doc="Solution interval <b>."),
            "refant": ResolvedValue(
                value=["ea01"], origin="heuristic", reason="nearest to the <centre>", doc="Refant."
            ),
            "minsnr": ResolvedValue(value=3.0, origin="default", unit="sigma", doc="Lowest SNR."),
            "debug": ResolvedValue(value=False, origin="default", doc="For developers.", hidden=True),
        },
    )
    write_json(folder / "result.json", {"type": "R", "notes": ["A note <b>."], "failures": [], "effects": []})
    (folder / "casa.log").write_text("2026-11-22 20:00:00\tINFO\tgaincal::::\t<b>log</b>\n")
    if name == "hif_bandpass":
        make_page(ctx, None, [bandpass_page], title)
    elif name == "hif_image":
        make_page(ctx, None, [image_page], title)
    else:
        make_page(ctx, None, [], title)
    if name == "hif_flags":
        ctx.log.warning("A <b>warning</b> of the stage")
    write_json(folder / "log.json", [LogRecord(level="info", message="begun <b>", origin=name), *ctx.log.records])
    write_json(folder / "stage.json", record)
    return folder


def make_scores(score: float, topic: str) -> list[QAScore]:
    return [
        QAScore(
            metric="bandpass.snr", value=3.2, unit="sigma", score=score, short=f"low SNR on {HOSTILE[0]}", topic=topic,
            long=f"The solutions of {HOSTILE[0]} on ea02 have a low signal-to-noise ratio.", origin="tests.scorer",
            applies_to=AppliesTo(antenna=("ea02",), spw=("1",), field=(HOSTILE[1],)),
        ),
        QAScore(metric="all.fine", value=1, score=1.0, short="all fine", long="All is fine.", topic=topic),
        QAScore(metric="unknown", score=None, short="nothing to say", topic=topic),
        QAScore(metric="hidden.metric", score=0.0, short="hidden from the page", hidden=True, topic=topic),
    ]  # fmt: skip
