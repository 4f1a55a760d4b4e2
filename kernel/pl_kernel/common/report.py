"""The quality report of a delivery: what the stages scored and why, fluxes and sensitivities, for machines.

The XML is the observatories' ``PipelineAquaReport``; the same content goes out as JSON. Scores come from the records
of the run, so that the report says what the web log says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import attrs

from ..context import ImageRecord
from ..errors import PlError
from ..journal import RunFolder, StageRecord
from ..ms.model import MeasurementSet
from ..params import as_tuple
from ..qa import TOPICS, QAScore, combine
from ..serialize import from_json, read_json

NOT_AVAILABLE = "N/A"
UNDEFINED = "Undefined"

FORMATS = {
    "%ApplycalFlags": ".3%", "%OnlineShadowTemplateFlags": ".3%", "%TsysCaltableFlags": ".3%",
    "%HighLowGainFlags": ".3%", "%RawBadchansFlags": ".3%", "%FluxcalFlags": ".3%", "MissingIntentsMark": ".3f",
    "NumberOfPointingOutliers": ".0f", "XX-YY.deviation": ".3f", "OnOffElevationDifference": ".3f",
    "SingleDishImageMaskedPixels": ".3f",
}  # fmt: skip
"""How values of metrics are written; others get three decimals, or are text (reference pipeline, 2026)."""


@attrs.frozen(kw_only=True)
class FluxMeasurement:
    """Flux density of a calibrator in one window; ``spw`` is the real id in the measurement set."""

    vis: str
    field: str
    spw_name: str
    spw: int
    flux_jy: float
    error_jy: float
    frequency_hz: float


@attrs.frozen(kw_only=True)
class Sensitivity:
    """Noise of an image, as expected and as measured, in ``unit``; None where nobody knows."""

    image: str
    field: str
    spw: str
    specmode: str
    array: str = ""
    unit: str = "Jy/beam"
    bandwidth_hz: float | None = None
    effective_bandwidth_hz: float | None = None
    beam_major_arcsec: float | None = None
    beam_minor_arcsec: float | None = None
    beam_pa_deg: float | None = None
    cell_arcsec: float | None = None
    theoretical: float | None = None
    observed: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    datatype: str = ""

    @classmethod
    def of(cls, image: ImageRecord, array: str) -> Sensitivity:
        """What the run knows of an image; statistics are rms, theoretical_rms, minimum, peak, bandwidth_hz …"""
        known = image.statistics
        return cls(
            image=image.name, field=image.field, spw=",".join(map(str, image.spws)), specmode=image.specmode,
            array=array, unit=image.unit or "Jy/beam", bandwidth_hz=known.get("bandwidth_hz"),
            effective_bandwidth_hz=known.get("effective_bandwidth_hz"),
            beam_major_arcsec=image.beam.major_arcsec if image.beam else None,
            beam_minor_arcsec=image.beam.minor_arcsec if image.beam else None,
            beam_pa_deg=image.beam.pa_deg if image.beam else None, cell_arcsec=known.get("cell_arcsec"),
            theoretical=known.get("theoretical_rms"), observed=known.get("rms"), minimum=known.get("minimum"),
            maximum=known.get("peak"),
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class StageScores:
    """A finished stage and its visible scores, the worst first."""

    number: int
    name: str
    topic: str
    score: float | None
    scores: tuple[QAScore, ...] = attrs.field(converter=as_tuple)


@attrs.frozen
class Node:
    """What a telescope's report says besides, as an element: its text, attributes, and elements inside."""

    tag: str
    text: str = ""
    attributes: dict[str, str] = attrs.field(factory=dict)
    children: tuple[Node, ...] = attrs.field(default=(), converter=as_tuple)


@attrs.frozen(kw_only=True)
class Report:
    """Everything that the report says; ``more`` is what the telescope adds."""

    project: str
    ous: str
    execution_blocks: tuple[str, ...] = attrs.field(converter=as_tuple)
    recipe: str
    date: datetime
    seconds: float
    casa: str
    pl: str
    sessions: dict[str, str] = attrs.field(factory=dict)
    stages: tuple[StageScores, ...] = attrs.field(default=(), converter=as_tuple)
    fluxes: tuple[FluxMeasurement, ...] = attrs.field(default=(), converter=as_tuple)
    sensitivities: tuple[Sensitivity, ...] = attrs.field(default=(), converter=as_tuple)
    more: tuple[Node, ...] = attrs.field(default=(), converter=as_tuple)

    def topic_score(self, topic: str) -> float | None:
        """The worst visible score that counts for a topic."""
        return combine(s for stage in self.stages for s in stage.scores if (s.topic or stage.topic) == topic)


def collect(
    ctx: Any, sets: Iterable[MeasurementSet], *, fluxes: Iterable[FluxMeasurement] = (),
    sensitivities: Iterable[Sensitivity] = (), more: Iterable[Node] = (),
) -> Report:  # fmt: skip
    """Gather the report of the run so far."""
    from ..plugins import kernel_version

    sets = list(sets)
    done = list(finished_stages(ctx.context.root))
    facts = [read_scores(folder, record) for folder, record in done if record.status == "ok"]
    return Report(
        project=", ".join(dict.fromkeys(ms.project for ms in sets if ms.project)) or UNDEFINED,
        ous=", ".join(dict.fromkeys(ms.scheduling_block for ms in sets if ms.scheduling_block)) or UNDEFINED,
        execution_blocks=tuple(ms.execution_block or ms.name for ms in sets),
        recipe=ctx.context.recipe_name or UNDEFINED, date=datetime.now(UTC),
        seconds=(done[-1][1].ended - done[0][1].started).total_seconds() if done else 0.0,
        casa=str(ctx.casa.version), pl=kernel_version(), sessions={ms.name: ms.session for ms in sets},
        stages=facts, fluxes=fluxes, sensitivities=sensitivities, more=more,
    )  # fmt: skip


def finished_stages(root: Path) -> Iterable[tuple[Path, StageRecord]]:
    """Folders and records of the stages that are done, in order."""
    folder = RunFolder(root)
    for path in folder.stage_dirs():
        record = folder.read_stage(path)
        if record is not None and record.done:
            yield path, record


def earlier_results(ctx: Any, name: str, result_class: type[Any]) -> list[Any]:
    """Results of the finished stages of this name, as their class."""
    return [
        from_json(read_json(path / "result.json"), result_class)
        for path, record in finished_stages(ctx.context.root)
        if record.name == name and record.status == "ok"
    ]


def read_scores(folder: Path, record: StageRecord) -> StageScores:
    """The visible scores of a stage.

    Raises
    ------
    PlError : they are unreadable; a report without them would look better than the run is.
    """
    content = read_json(folder / "qa.json")
    if not isinstance(content, dict):
        raise PlError(f"{folder / 'qa.json'} is damaged, so the quality report cannot be written.")
    scores = [s for s in from_json(content.get("scores", []), tuple[QAScore, ...]) if not s.hidden]
    scores.sort(key=lambda s: 2.0 if s.score is None else s.score)
    return StageScores(
        number=record.number, name=record.name, topic=record.topic, score=record.score, scores=tuple(scores)
    )


# ---- XML -------------------------------------------------------------------------------------------------------------


def to_xml(report: Report) -> bytes:
    """The report as the observatories read it."""
    root = Element("PipelineAquaReport")
    structure = SubElement(root, "ProjectStructure")
    _text(structure, "ProposalCode", report.project)
    _text(structure, "OusEntityId", report.ous)
    _text(structure, "ProcessingRequestEntityId", UNDEFINED)
    _text(structure, "ProcessingProcedure", report.recipe)
    for block in report.execution_blocks:
        _text(structure, "ExecBlockId", block)
    summary = SubElement(root, "QaSummary")
    _text(summary, "ReportDate", report.date.strftime("%Y-%m-%d %H:%M:%S"))
    _text(summary, "ProcessingTime", f"{report.seconds:.0f} s")
    _text(summary, "CasaVersion", report.casa)
    _text(summary, "PipelineVersion", report.pl)
    _text(summary, "FinalScore", UNDEFINED)
    per_stage = SubElement(root, "QaPerStage")
    for stage in report.stages:
        _stage(per_stage, stage, report.sessions)
    per_topic = SubElement(root, "QaPerTopic")
    for topic in TOPICS[:4]:  # what is in "misc" belongs to no topic of the observatories
        entry = SubElement(per_topic, topic.capitalize(), Score=_score(report.topic_score(topic)))
        for stage in report.stages:
            if stage.topic == topic:
                _stage(entry, stage, report.sessions)
        if topic == "calibration":
            for flux in report.fluxes:
                SubElement(entry, "FluxMeasurement", _flux(flux))
        if topic in ("dataset", "imaging"):
            for one in report.sensitivities:
                SubElement(entry, "Sensitivity", _sensitivity(one))
    for node in report.more:
        _node(root, node)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _node(parent: Element, node: Node) -> None:
    element = SubElement(parent, node.tag, {k: clean(v) for k, v in node.attributes.items()})
    element.text = clean(node.text) or None
    for child in node.children:
        _node(element, child)


def _text(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = clean(text)


def clean(text: str) -> str:
    """Text without the control characters that XML cannot carry."""
    return "".join(c for c in str(text) if c in "\t\n" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF))


def _stage(parent: Element, stage: StageScores, sessions: Mapping[str, str]) -> None:
    entry = SubElement(parent, "Stage", Number=str(stage.number), Name=stage.name)
    worst = next((s for s in stage.scores if s.score is not None), None)
    reason = clean(worst.long or worst.short) if worst else ""
    SubElement(entry, "RepresentativeScore", Score=_score(stage.score), Reason=reason)
    for score in stage.scores:
        sub = SubElement(entry, "SubScore", Score=_score(score.score), Reason=clean(score.long or score.short))
        SubElement(
            sub, "Metric", Name=score.metric, Value=format_value(score.metric, score.value),
            Units=score.unit or NOT_AVAILABLE,
        )  # fmt: skip
        to = score.applies_to
        of = sorted({sessions[v] for v in to.vis if v in sessions})
        selection = {
            "Asdm": to.vis, "Session": of, "Spw": to.spw, "Intent": to.intent, "Field": to.field,
            "Antenna": to.antenna,
        }  # fmt: skip
        attributes = {name: clean(",".join(values)) or NOT_AVAILABLE for name, values in selection.items()}
        SubElement(sub, "DataSelection", attributes)


def format_value(metric: str, value: float | str | None) -> str:
    """The value of a metric as text."""
    if value is None:
        return NOT_AVAILABLE
    if isinstance(value, str):
        return clean(value)
    return format(value, FORMATS.get(metric, ".3f"))


def _score(score: float | None) -> str:
    return UNDEFINED if score is None else f"{score:.3f}"


def _flux(flux: FluxMeasurement) -> dict[str, str]:
    return {
        "SpwName": flux.spw_name, "MsSpwId": str(flux.spw), "FluxJy": f"{flux.flux_jy:.6g}",
        "ErrorJy": f"{flux.error_jy:.3g}", "Asdm": flux.vis, "Field": clean(flux.field),
        "FrequencyGHz": f"{flux.frequency_hz / 1e9:.6f}",
    }  # fmt: skip


def _sensitivity(s: Sensitivity) -> dict[str, str]:
    numbers = {
        "BandwidthHz": s.bandwidth_hz, "EffectiveBandwidthHz": s.effective_bandwidth_hz,
        "BeamMajArcsec": s.beam_major_arcsec, "BeamMinArcsec": s.beam_minor_arcsec, "BeamPosAngDeg": s.beam_pa_deg,
        "CellArcsec": s.cell_arcsec, "TheoreticalSensitivity": s.theoretical, "ObservedSensitivity": s.observed,
        "ImageMin": s.minimum, "ImageMax": s.maximum,
    }  # fmt: skip
    words = {
        "Array": s.array, "Field": clean(s.field), "Spw": s.spw, "SpecMode": s.specmode, "ImageName": s.image,
        "DataType": s.datatype, "Units": s.unit,
    }  # fmt: skip
    return {
        **{k: v or NOT_AVAILABLE for k, v in words.items()},
        **{k: NOT_AVAILABLE if v is None else f"{v:.6g}" for k, v in numbers.items()},
    }
