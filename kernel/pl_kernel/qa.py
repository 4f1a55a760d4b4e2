"""Quality scores: what was measured, how good that is between 0 and 1, and to which data it applies.

A scorer is a pure function of a result (and, if it asks for it, of the context).  Anyone may score anyone's
stage: the scorer names the result class or the stage.  Scores combine from below: a stage is as good as its worst
visible score, a topic as its worst stage, a run as its worst topic.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

if TYPE_CHECKING:
    from .context import Context
    from .stage import Result

TOPICS = ("dataset", "calibration", "flagging", "imaging", "misc")


class Band(Enum):
    """How a score is shown.  A value on a boundary belongs to the worse band (reference pipeline, 2026)."""

    ERROR = "error"
    WARNING = "warning"
    SUBOPTIMAL = "suboptimal"
    GOOD = "good"
    NONE = "none"


def band(score: float | None) -> Band:
    """Return the band of a score: error up to 0.33, warning up to 0.66, suboptimal up to 0.90, then good."""
    if score is None or math.isnan(score):
        return Band.NONE
    if score <= 0.33:
        return Band.ERROR
    if score <= 0.66:
        return Band.WARNING
    if score <= 0.90:
        return Band.SUBOPTIMAL
    return Band.GOOD


def _names(value: str | int | Iterable[str | int]) -> tuple[str, ...]:
    if isinstance(value, (str, int)):
        return (str(value),)
    return tuple(str(v) for v in value)


@attrs.frozen(kw_only=True)
class AppliesTo:
    """The data a score speaks of; an empty tuple means all of that kind.

    Spws are virtual ids, antennas, fields and measurement sets are names.
    """

    vis: tuple[str, ...] = attrs.field(default=(), converter=_names)
    field: tuple[str, ...] = attrs.field(default=(), converter=_names)
    spw: tuple[str, ...] = attrs.field(default=(), converter=_names)
    antenna: tuple[str, ...] = attrs.field(default=(), converter=_names)
    intent: tuple[str, ...] = attrs.field(default=(), converter=_names)
    pol: tuple[str, ...] = attrs.field(default=(), converter=_names)
    scan: tuple[str, ...] = attrs.field(default=(), converter=_names)


def _unit_interval(_instance: object, _attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"a score lies between 0 and 1, or is None; got {value!r}")


def _plain_number(value: Any) -> Any:
    # numpy scalars come out of most measurements; JSON and comparisons want plain numbers.
    return value.item() if hasattr(value, "item") and not isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class QAScore:
    """One score.

    Parameters
    ----------
    metric : unique name of what was measured, for machines ("flux.residual_rms").
    value, unit : the measured number and its unit.
    score : 0 (worst) to 1 (best); None when nothing can be said.
    short, long : message for overview pages, and the whole sentence for the stage's page.
    applies_to : the data meant.
    origin : name of the scorer, filled in by the kernel.
    topic : topic page it counts for; empty means the stage's topic.
    hidden : kept in the files, but neither shown nor combined.
    """

    metric: str
    score: float | None = attrs.field(converter=_plain_number, validator=_unit_interval)
    value: float | str | None = attrs.field(default=None, converter=_plain_number)
    short: str = ""
    long: str = ""
    unit: str = ""
    applies_to: AppliesTo = attrs.field(factory=AppliesTo)
    origin: str = ""
    topic: str = ""
    hidden: bool = False


def combine(scores: Iterable[QAScore]) -> float | None:
    """Return the score of a stage: the worst visible number, or None when there is none."""
    numbers = [s.score for s in scores if not s.hidden and s.score is not None and not math.isnan(s.score)]
    return min(numbers) if numbers else None


def linear(x: float, x1: float, x2: float, y1: float, y2: float) -> float:
    """Map x on the straight line from (x1, y1) to (x2, y2), clipped at both ends; NaN maps to the worse end."""
    if x1 == x2:
        raise ValueError("linear() needs two different x")
    if math.isnan(x):
        return min(y1, y2)
    t = min(max((x - x1) / (x2 - x1), 0.0), 1.0)
    return y1 + t * (y2 - y1)


def erf_score(x: float, good: float, bad: float, low: float = 0.0) -> float:
    """Map x to about 1 at ``good`` and about ``low`` at ``bad`` along an error function (reference pipeline, 2026)."""
    if math.isnan(x):
        return low
    a = 6.0 / math.sqrt(2.0) / (good - bad)
    b = 3.0 / math.sqrt(2.0) * (1.0 - 2.0 * good / (good - bad))
    return (1.0 - low) * (math.erf(a * x + b) + 1.0) / 2.0 + low


ScorerFunction = Callable[..., "QAScore | Sequence[QAScore] | None"]
F = TypeVar("F", bound=Callable[..., Any])


def scorer(target: type[Result] | str, *, topic: str = "") -> Callable[[F], F]:
    """Mark a function as a scorer of a result class (and its subclasses) or of a stage given by name.

    The function takes ``(result)`` or ``(result, context)`` and returns one score, several, or None.
    """

    def mark(function: F) -> F:
        function.pl_scorer_target = target  # type: ignore[attr-defined]
        function.pl_scorer_topic = topic  # type: ignore[attr-defined]
        return function

    return mark


def score_result(
    scorers: Iterable[ScorerFunction], result: Result, context: Context, default_topic: str
) -> list[QAScore]:
    """Run every scorer on a result.

    A scorer that raises costs nothing but itself: it leaves one score of 0 that names it.
    """
    from .serialize import to_json  # brings numpy along, which listings can do without

    scores: list[QAScore] = []
    for function in scorers:
        origin = f"{function.__module__}.{getattr(function, '__qualname__', function)}"
        topic = getattr(function, "pl_scorer_topic", "") or default_topic
        try:
            wants_context = len(inspect.signature(function).parameters) >= 2
            answer = function(result, context) if wants_context else function(result)
            given = [] if answer is None else [answer] if isinstance(answer, QAScore) else list(answer)
            known = [attrs.evolve(s, origin=s.origin or origin, topic=s.topic or topic) for s in given]
            to_json(known)  # what cannot be written down is the scorer's fault, not the stage's
            scores += known
        except Exception as error:
            scores.append(
                QAScore(
                    metric="scorer-error", value=type(error).__name__, score=0.0, short="a scorer failed",
                    long=f"The scorer {origin} failed and gave no score: {type(error).__name__}: {error}",
                    origin=origin, topic=topic,
                )
            )  # fmt: skip
    return scores
