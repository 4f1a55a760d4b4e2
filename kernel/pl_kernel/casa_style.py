"""The observatories' own style: every stage of every installed plugin as a function, acting on one active run.

A ``casa_pipescript.py`` delivered by an observatory runs with one changed import::

    from pl_kernel.casa_style import *

    context = h_init()
    context.set_state('ProjectSummary', 'proposal_code', '16A-000')
    try:
        hifv_importdata(vis=['day1.ms'])
        hifv_flagdata(fracspw=0.01)
    finally:
        h_save()

Names, defaults, types and units are those of ``pl describe STAGE``.  Arguments that pl does not have (``pipelinemode``
and its kin) are left out with a notice, as the observatories' own tasks do; ``h_init(strict=True)`` refuses them.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, PlError, UnknownName
from .plugins import registry

if TYPE_CHECKING:
    from .context import Context
    from .session import Session
    from .stage import Stage

FUNCTIONS = ("h_init", "h_save", "h_resume", "h_weblog", "h_show_calstate", "h_export_calstate")
"""What is here besides the stages."""

_OBSOLETE = ("pipelinemode", "dryrun", "acceptresults", "parallel", "context", "output_dir")
"""Arguments of the observatories' framework that have no meaning here (reference pipeline, 2026)."""

_active: PipelineContext | None = None


class PipelineContext:
    """What ``h_init`` returns: the active run, with the methods that delivered scripts use."""

    def __init__(self, session: Session, strict: bool) -> None:
        self.session = session
        self.strict = strict
        self.state: dict[str, dict[str, Any]] = _read_state(session.root)

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.session.folder.root.name

    @property
    def root(self) -> Path:
        """Folder of the run."""
        return self.session.root

    @property
    def run(self) -> Context:
        """What the run knows so far."""
        return self.session.context

    def set_state(self, cls: str, name: str, value: Any) -> None:
        """Keep a fact of the project (``'ProjectSummary', 'proposal_code', …``) in ``project.json`` of the run."""
        from .serialize import write_json

        self.state.setdefault(str(cls), {})[str(name)] = value
        write_json(self.session.root / "project.json", self.state)

    def __repr__(self) -> str:
        return f"<run {self.name}: {len(self.session.stages)} stages done, in {self.root}>"


def h_init(
    loglevel: str = "info", plotlevel: str = "default", weblog: bool = True, processing_intents: Any = None, *,
    root: Path | str | None = None, workers: int = 1, strict: bool = False, quiet: bool = False,
) -> PipelineContext:  # fmt: skip
    """Start a run and make it the active one.

    Parameters
    ----------
    loglevel, plotlevel, weblog : accepted as the observatories' scripts give them; the web log is always written.
    processing_intents : kept with the run's project facts.
    root : folder of the run; default ``pipeline-YYYYMMDDThhmmss`` (UTC) in the current folder.
    workers : processes for work that can be done side by side.
    strict : refuse arguments that a stage does not have, instead of leaving them out with a notice.
    quiet : print nothing while stages run.
    """
    from .session import Session

    h_save()
    if root is None:
        root = _free_folder(Path.cwd() / f"pipeline-{datetime.now(UTC):%Y%m%dT%H%M%S}")
    context = _activate(Session.create(root, workers=workers), strict, quiet)
    if processing_intents:
        context.set_state("ProcessingIntents", "given", processing_intents)
    return context


def h_save(filename: str | None = None) -> None:
    """End the active run.  Everything is on disk already, after every stage.

    ``filename`` gives the state a name that ``h_resume``, ``pl rewind`` and ``pl branch`` take (see the stage h_save).
    """
    global _active
    if _active is not None:
        try:
            if filename:
                _active.session.run_stage("h_save", filename=str(filename))
        finally:
            _active.session.close()
            _active = None


def h_resume(filename: str | Path = "last", *, strict: bool = False, quiet: bool = False) -> PipelineContext:
    """Make a run the active one again.

    ``filename`` is the folder of a run, which goes on after its last good stage; ``"last"`` means the newest one in the
    current folder.  The name of a state that ``h_save`` has saved goes back to that state in the newest run: the stages
    after it are set aside, their records are kept.
    """
    from .common.save import stage_after
    from .session import Session

    h_save()
    if str(filename) == "last" or (Path(filename) / "run.json").is_file():
        root = _newest_run(Path.cwd()) if str(filename) == "last" else Path(filename)
        return _activate(Session.open(root), strict, quiet)
    if Path(filename).is_dir():
        raise InputError(f"There is no run in {filename}.")
    root = _newest_run(Path.cwd())
    number = stage_after(root, Path(filename).name)
    session = Session.open(root)
    if number <= len(session.stages):
        session.rewind(number)
    return _activate(session, strict, quiet)


def h_weblog(relpath: str | None = None) -> Path:
    """Return the first page of a run's web log, and open it where there is a browser.

    ``relpath`` is the folder of a run; default: the active run, or the newest one in the current folder.
    """
    from .cli.weblog import browse, find_weblog

    if relpath is not None:
        root = Path(relpath)
    else:
        root = _active.root if _active is not None else _newest_run(Path.cwd())
    index = find_weblog(root)
    browse(index.as_uri())
    return index


def h_show_calstate(state: str = "active") -> str:
    """Print what calibration is active (or applied) in the active run, one line per selection; return the text."""
    run = active().run
    text = run.calibration.export_text(run.measurement_sets, state=state)
    print(text or "No calibration is registered.")
    return text


def h_export_calstate(filename: str | Path = "", state: str = "active") -> Path:
    """Write the active (or applied) calibration as text; default: ``NAME.calstate`` in the current folder."""
    context = active()
    path = Path(filename or f"{context.name}.calstate")
    path.write_text(
        context.run.calibration.export_text(context.run.measurement_sets, state=state), encoding="utf-8"
    )  # fmt: skip
    return path


def active() -> PipelineContext:
    """Return the active run.

    Raises
    ------
    InputError : there is none.
    """
    if _active is None:
        raise InputError("No run is active; begin with h_init(), or h_resume() to go on with an earlier one.")
    return _active


# ---- stages as functions ---------------------------------------------------------------------------------------------


@functools.cache
def stage_function(name: str) -> Callable[..., Any]:
    """Return the function that runs the stage ``name`` in the active run; it has the stage's signature and help."""
    try:
        stage = registry().stage(name)
    except UnknownName:
        raise
    except PlError as error:  # one broken stage must not cost the others their names
        return _broken(name, error)

    def function(*args: Any, **kwargs: Any) -> Any:
        if args:
            raise InputError(f"{name} takes its arguments by name: {name}(parameter=value).")
        context = active()
        return context.session.run_stage(name, **_arguments(stage, kwargs, context.strict)).result

    from .params import parameters

    known = parameters(stage.inputs_class)
    function.__name__ = function.__qualname__ = name
    function.__module__ = __name__
    lines = [inspect.getdoc(stage) or "", "", "Parameters", "----------"]
    lines += [f"{p.name} : {p.type_name}\n    {p.doc}" for p in known.values()]
    function.__doc__ = "\n".join(lines)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(p.name, inspect.Parameter.KEYWORD_ONLY, default=_default(p.default)) for p in known.values()]
    )
    return function


def _default(value: Any) -> Any:
    import attrs

    return inspect.Parameter.empty if value is attrs.NOTHING else value


def _broken(name: str, error: PlError) -> Callable[..., Any]:
    def function(**_kwargs: Any) -> Any:
        raise error

    function.__name__ = name
    function.__doc__ = error.sentence
    return function


def _arguments(stage: type[Stage[Any, Any]], given: dict[str, Any], strict: bool) -> dict[str, Any]:
    from .params import SYNONYMS, in_our_words, parameters
    from .recipe import anchored
    from .recipe_xml import means_unset

    known = parameters(stage.inputs_class)
    arguments: dict[str, Any] = {}
    given = {name: value for name, value in given.items() if not (name in SYNONYMS and means_unset(value))}
    for name, value in in_our_words(known, given, f" in stage {stage.name}").items():
        if name in known:
            if not means_unset(value):
                arguments[name] = value
        elif strict and name not in _OBSOLETE:
            raise UnknownName("parameter", name, known, f" in stage {stage.name}")
        else:
            _notice(f"{stage.name}: the argument {name}={value!r} has no meaning here and is left out.")
    if stage.takes_data and "vis" in arguments:
        arguments["vis"] = _paths(arguments["vis"])
    return anchored(stage.inputs_class, arguments, Path.cwd())


def _paths(vis: str | Iterable[str]) -> list[str]:
    """Data as absolute paths: seen from here, else in the observatories' folder for raw data beside this one."""
    found = []
    for name in [vis] if isinstance(vis, (str, Path)) else vis:
        path = Path(name).expanduser()
        beside = Path.cwd().parent / "rawdata" / path
        found.append(str((beside if not path.exists() and beside.exists() else path).resolve()))
    return found


# ---- the active run --------------------------------------------------------------------------------------------------


def _activate(session: Session, strict: bool, quiet: bool) -> PipelineContext:
    global _active
    if not quiet:
        from .cli.progress import Screen

        session.events.subscribe(Screen(session))
    _active = PipelineContext(session, strict)
    return _active


def _free_folder(root: Path) -> Path:
    candidate, count = root, 1
    while candidate.exists():
        count += 1
        candidate = root.with_name(f"{root.name}-{count}")
    return candidate


def _newest_run(folder: Path) -> Path:
    runs = sorted(folder.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    if (folder / "run.json").is_file():
        return folder
    if not runs:
        raise InputError(f"There is no run in {folder}; begin one with h_init().")
    return runs[-1].parent


def _read_state(root: Path) -> dict[str, dict[str, Any]]:
    from .serialize import read_json

    path = root / "project.json"
    return dict(read_json(path)) if path.is_file() else {}


def _notice(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return [*FUNCTIONS, *registry().stages]
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return stage_function(name)
    except UnknownName as error:
        raise AttributeError(error.sentence) from None


def __dir__() -> list[str]:
    return sorted([*FUNCTIONS, "PipelineContext", "active", *registry().stages])


# A script that ends without h_save() must still end its worker and release the lock of its run.
atexit.register(h_save)
if sys.flags.interactive:  # notices are worth repeating to somebody who types
    warnings.filterwarnings("always", module=__name__)
