"""h_save and h_resume: a name for the state of a run, and going on from it.

A run is written down after every stage, so nothing has to be saved for fear of losing it. What an operator wants of a
save is a place to come back to: a mark. ``pl rewind RUN NAME`` goes back to it, ``pl branch RUN NAME`` tries something
else from there, and h_resume lets a new run begin with it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ..calrecords import CalApplication, CalTo
from ..context import Context
from ..effects import AddMeasurementSet, Effect, MarkApplied, RegisterCalibration, RegisterImage, SetValue
from ..errors import InputError, UnknownName
from ..params import Inputs, param
from ..qa import AppliesTo, QAScore, scorer
from ..serialize import read_json
from ..stage import Result, Stage
from ..weblog.page import Page, renderer

if TYPE_CHECKING:
    from ..stage_context import StageContext

MARKS = "h.marks"
"""Run value: numbers of the stages that saved, by name."""


@attrs.frozen(kw_only=True)
class Item:
    """One thing that belongs to the state: a measurement set, a caltable, an image; ``size_bytes`` None: missing."""

    kind: str
    name: str
    doc: str = ""
    size_bytes: int | None = None


def holdings(work: Path, context: Context) -> list[Item]:
    """What a run holds, and what of it is missing in its work folder."""
    items = [
        Item(
            kind="measurement set", name=ms.name, size_bytes=_size(work / ms.path),
            doc=", ".join(f"{t.column}: {t.data_type.name}" for t in ms.data_types),
        )
        for ms in context.measurement_sets
    ]  # fmt: skip
    tables: dict[str, str] = {}
    for state in ("applied", "active"):
        for ms in context.measurement_sets:
            for group in context.calibration.merged(ms, state=state):
                tables.update({c.gaintable: f"{state}, {c.caltype}" for c in group.calfroms})
    items += [Item(kind="caltable", name=n, doc=doc, size_bytes=_size(work / n)) for n, doc in tables.items()]
    return items + [
        Item(kind="image", name=i.name, doc=f"{i.kind} of {i.field}", size_bytes=_size(work / i.name))
        for i in context.images
    ]


def _size(path: Path) -> int | None:
    from .archives import size_of

    return size_of(path) if path.exists() else None


# ---- h_save ----------------------------------------------------------------------------------------------------------


def _is_a_name(filename: str) -> None:
    name = Path(filename).name.removesuffix(".context")
    if name.isdigit():
        raise InputError(f"A state cannot be called {name}: that is the number of a stage.")


class SaveInputs(Inputs):
    """The name of the state."""

    filename: str = param(
        "", doc="Name of the state; default saved-N, with the number of the stage.", check=_is_a_name
    )


class SaveResult(Result):
    """The name, and what the run holds."""

    name: str
    stage: int
    items: tuple[Item, ...]


class Save(Stage[SaveInputs, SaveResult]):
    """Give the state of the run a name.

    A run is on disk after every stage; this marks a place to come back to: ``pl rewind RUN NAME`` and
    ``pl branch RUN NAME`` take the name, and h_resume begins another run with it. The page lists what the run holds,
    and the score falls when something of it has gone.
    """

    name = "h_save"
    topic = "misc"

    def run(self, ctx: StageContext, inputs: SaveInputs) -> SaveResult:
        name = Path(inputs.filename).name.removesuffix(".context") or f"saved-{ctx.stage_number}"
        marks = dict(ctx.value(MARKS) or {})
        marks[name] = ctx.stage_number
        items = tuple(holdings(ctx.work, ctx.context))
        return SaveResult(name=name, stage=ctx.stage_number, items=items, effects=(SetValue(MARKS, marks),))


@scorer(SaveResult)
def state_is_whole(result: SaveResult) -> QAScore:
    """Everything that the run names should exist."""
    missing = [item for item in result.items if item.size_bytes is None]
    names = ", ".join(f"{item.kind} {item.name}" for item in missing[:3])
    return QAScore(
        metric="save.missing", value=len(missing), score=1 - len(missing) / len(result.items) if missing else 1.0,
        short=f"saved as {result.name}" if not missing else f"{len(missing)} files are gone",
        long=f"The state '{result.name}' holds {len(result.items)} data sets, caltables and images."
        if not missing else f"The state '{result.name}' is not whole: {names} cannot be found.",
        applies_to=AppliesTo(vis=tuple(i.name for i in missing if i.kind == "measurement set")),
    )  # fmt: skip


@renderer(SaveResult)
def save_page(page: Page, ctx: Any, result: SaveResult) -> None:
    """What is there, and how to come back to it."""
    page.section(f"The state '{result.name}'", anchor="state")
    _items(page, result.items)
    page.code(f"pl rewind RUN {result.name}\npl branch RUN {result.name}", "To come back to it")


def _items(page: Page, items: tuple[Item, ...]) -> None:
    page.table(
        ["Kind", "Name", "What", "Size"],
        [[i.kind, i.name, i.doc, "missing" if i.size_bytes is None else i.size_bytes / 1e6] for i in items],
        units={"Size": "MB"}, formats={"Size": ".2f"}, filters=("kind",), caption="What the run holds",
    )  # fmt: skip


# ---- marks from outside ----------------------------------------------------------------------------------------------


def stage_after(root: Path, place: str) -> int:
    """The number of the stage whose turn it is: ``place`` is that number, or the name of a saved state.

    Raises
    ------
    UnknownName : the run has no state of this name.
    """
    if place.isdigit():
        return int(place)
    content = read_json(root / "context.json") if (root / "context.json").is_file() else {}
    values = content.get("values", {}) if isinstance(content, dict) else {}
    marks = values.get(MARKS, {}) if isinstance(values, dict) else {}
    name = place.removesuffix(".context")
    if not isinstance(marks, dict) or not isinstance(marks.get(name), int):
        raise UnknownName("saved state", place, list(marks) if isinstance(marks, dict) else [], f" in {root}")
    return int(marks[name]) + 1


# ---- h_resume --------------------------------------------------------------------------------------------------------


def _is_run(path: Path) -> None:
    if path.is_absolute() and not (path / "run.json").is_file():
        raise InputError(f"There is no run in {path}, so h_resume cannot go on from it.")


class ResumeInputs(Inputs):
    """Which run, and where in it."""

    run: Path = param(doc="Folder of the run to go on from, seen from where this run is.", check=_is_run)
    filename: str = param("", doc="Name of its state, as given to h_save, or the number of the stage to go on before.")


class ResumeResult(Result):
    """Where the state came from, and what it holds."""

    run: str
    before_stage: int
    items: tuple[Item, ...]


class Resume(Stage[ResumeInputs, ResumeResult]):
    """Go on from the state of another run.

    Measurement sets, caltables, calibration library, images and values of the other run become those of this one; raw
    visibilities are shared as hard links, everything else is copied, and the other run stays as it is. So a run that
    images can begin with one that calibrates, or with a state that h_save has named.

    To go on in the same run, use ``pl resume`` (after the last good stage) or ``pl rewind`` (from a saved state).
    """

    name = "h_resume"
    topic = "dataset"

    def check(self, ctx: StageContext, inputs: ResumeInputs) -> None:
        run = _place(ctx.context.root, inputs.run)
        if run == ctx.context.root.resolve():
            raise InputError("A run cannot go on from itself in a stage; use pl rewind or pl resume.")
        if ctx.context.measurement_sets:
            raise InputError("The run has measurement sets already; h_resume comes first.")

    def run(self, ctx: StageContext, inputs: ResumeInputs) -> ResumeResult:
        from ..branch import branch
        from ..journal import RunFolder

        run = _place(ctx.context.root, inputs.run)
        done = len(RunFolder(run).done_stages())
        stage = stage_after(run, inputs.filename) if inputs.filename else done + 1
        scratch = ctx.stage_dir / "other"
        shutil.rmtree(scratch, ignore_errors=True)
        with branch(run, stage, scratch) as other:
            context = other.context
        for entry in sorted((scratch / "work").iterdir()):
            if (ctx.work / entry.name).exists():
                raise InputError(f"The work folder has a {entry.name} already; h_resume comes first.")
            shutil.move(entry, ctx.work / entry.name)
        shutil.rmtree(scratch)
        effects = state_of(context)
        return ResumeResult(
            run=str(run), before_stage=stage, effects=tuple(effects),
            items=tuple(holdings(ctx.work, context)),
        )  # fmt: skip


def _place(root: Path, run: Path) -> Path:
    """The folder of the other run: a relative path counts from the folder in which this run is, or from its own."""
    options = [run] if run.is_absolute() else [root.parent / run, root / run, root / "work" / run]
    found = next((path for path in options if (path / "run.json").is_file()), None)
    if found is None:
        raise InputError(f"There is no run in {options[0].resolve()}, so h_resume cannot go on from it.")
    return found.resolve()


def state_of(context: Context) -> list[Effect]:
    """Effects that make an empty run know what ``context`` knows."""
    effects: list[Effect] = [AddMeasurementSet(ms) for ms in context.measurement_sets]
    for state in ("applied", "active"):
        for ms in context.measurement_sets:
            groups = context.calibration.merged(ms, state=state)
            effects += [
                RegisterCalibration(
                    CalApplication(CalTo(ms.name, g.field, g.spw, g.antenna, g.intent), g.calfroms, origin="h_resume")
                )
                for g in groups
            ]
            if groups and state == "applied":
                effects.append(MarkApplied(ms.name))
    effects += [RegisterImage(image) for image in context.images]
    effects += [SetValue(key, value) for key, value in context.values.items() if key != MARKS]
    return effects


@scorer(ResumeResult)
def state_was_taken_over(result: ResumeResult) -> QAScore:
    """A state without data is no place to go on from; what is missing counts."""
    missing = [item.name for item in result.items if item.size_bytes is None]
    count = sum(item.kind == "measurement set" for item in result.items)
    score = 0.0 if not count else 1 - len(missing) / len(result.items)
    return QAScore(
        metric="resume.items", value=len(result.items), score=score, short=f"{count} measurement sets taken over",
        long=f"{count} measurement sets and {len(result.items) - count} caltables and images were taken over from"
        f" {result.run}" + (f"; {', '.join(missing[:3])} could not be found." if missing else "."),
    )  # fmt: skip


@renderer(ResumeResult)
def resume_page(page: Page, ctx: Any, result: ResumeResult) -> None:
    """What was taken over."""
    page.section("Taken over", anchor="taken")
    page.facts({"Run": result.run, "As it was before stage": result.before_stage})
    _items(page, result.items)
