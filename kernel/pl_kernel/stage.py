"""Stage, Result and what decorates them: the classes a plugin author meets.

A stage is a function from (context, inputs) to a result.  It never changes the context: the result carries effects,
the kernel writes the result down and folds the effects into the next context.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, dataclass_transform

import attrs

from .effects import Effect
from .errors import PluginError
from .params import Inputs, as_tuple, param
from .qa import TOPICS

if TYPE_CHECKING:
    from .ms.model import MeasurementSet
    from .stage_context import StageContext

MUTABLE = frozenset({"flags", "weights", "model", "corrected", "data"})
"""What a stage can alter in a measurement set, and must declare in ``Stage.mutates``."""

I = TypeVar("I", bound=Inputs)  # noqa: E741
R = TypeVar("R", bound="Result")

JOINED = "pl_joined"


def joined(how: Callable[[list[Any]], Any], default: Any = attrs.NOTHING) -> Any:
    """A field of a result that is neither list, table nor the same for all measurement sets.

    ``how`` makes one value from those of single sets: ``expected: int = joined(sum)``.  See ``Stage.each_set``.
    """
    return attrs.field(default=default, kw_only=True, metadata={JOINED: how})


def first_of(found: list[Any]) -> Any:
    """What is the same for all measurement sets, although it is a list: ``clip: tuple[float, float]``."""
    return found[0]


@attrs.frozen
class ItemFailure:
    """One item of many that failed, while the stage went on: an image, a spw, a plot."""

    item: str
    reason: str


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(param, attrs.field, joined))
class _Record:
    """Turns its subclasses into frozen attrs classes, without a decorator to forget."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        attrs.define(cls, slots=False, frozen=True, kw_only=True, eq=False)


class Result(_Record):
    """Base of stage results: subclasses become frozen attrs classes whose values can be written as JSON.

    Every result has ``effects`` (what the context should learn from it), ``notes`` (sentences for the web log's
    reader) and ``failures`` (items that failed although the stage went on).
    """

    effects: Sequence[Effect] = attrs.field(default=(), kw_only=True, converter=as_tuple)
    notes: Sequence[str] = attrs.field(default=(), kw_only=True, converter=as_tuple)
    failures: Sequence[ItemFailure] = attrs.field(default=(), kw_only=True, converter=as_tuple)


class Stage(Generic[I, R]):
    """Base of all stages: ``class Bandpass(Stage[BandpassInputs, BandpassResult])``.

    Class attributes
    ----------------
    name : how recipes call it; unique among all installed plugins.
    mutates : which of ``MUTABLE`` it alters in measurement sets, so that the kernel can restore what it saw.
    topic : page of the web log it belongs to, one of ``qa.TOPICS``.
    takes_data : an import stage: its ``vis`` are paths of data, given by the user of the run.
    each_set : ``run`` treats every measurement set by itself.  It is then called once for each, with ``inputs.vis``
        naming it, side by side where the run has several workers, and the results are joined (``joining.py``).
    page_reads : which of ``MUTABLE`` its page reads in measurement sets: stages that alter them wait until the page is
        drawn, or has said ``page.data_read()``.  A page that shows the result, tables or arrays of its stage alone
        reads nothing.
    inputs_class, result_class : taken from the type arguments.
    """

    name: ClassVar[str] = ""
    mutates: ClassVar[frozenset[str]] = frozenset()
    topic: ClassVar[str] = "misc"
    takes_data: ClassVar[bool] = False
    each_set: ClassVar[bool] = False
    page_reads: ClassVar[frozenset[str]] = MUTABLE
    inputs_class: ClassVar[type[Inputs]] = Inputs
    result_class: ClassVar[type[Result]] = Result

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = typing.get_origin(base)
            if not (isinstance(origin, type) and issubclass(origin, Stage)):
                continue
            for argument in typing.get_args(base):
                if isinstance(argument, type) and issubclass(argument, Inputs):
                    cls.inputs_class = argument
                elif isinstance(argument, type) and issubclass(argument, Result):
                    cls.result_class = argument
        cls.mutates = frozenset(cls.mutates)
        if cls.mutates - MUTABLE:
            unknown = ", ".join(sorted(cls.mutates - MUTABLE))
            raise PluginError(f"Stage {cls.__name__} mutates {unknown}; known: {', '.join(sorted(MUTABLE))}.")
        if cls.topic not in TOPICS:
            raise PluginError(f"Stage {cls.__name__} has the topic '{cls.topic}'; known: {', '.join(TOPICS)}.")

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    def suggest(self, ctx: StageContext, inputs: I) -> Mapping[str, Any]:
        """Return values for parameters the user left unset: ``{name: value}`` or ``{name: (value, reason)}``."""
        return {}

    def check(self, ctx: StageContext, inputs: I) -> None:
        """Raise a PlError when the stage cannot work with these data and inputs; called before ``run``."""

    def sets(self, ctx: StageContext, inputs: I) -> Sequence[MeasurementSet]:
        """Return the measurement sets it will work on; needed of stages with ``each_set``."""
        return ctx.measurement_sets(inputs.vis)

    def run(self, ctx: StageContext, inputs: I) -> R:
        """Do the work and return the result."""
        raise NotImplementedError(f"stage {self.name} has no run()")
