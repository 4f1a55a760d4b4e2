"""Typed, documented, unit-aware parameters.

One declaration per parameter, ``cell: float | None = param(None, unit="arcsec", doc="Pixel size.")``, gives validation,
the command-line option, the stage reference and the table in the web log.
"""

from __future__ import annotations

import enum
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Union, cast, dataclass_transform

import attrs

from .errors import InputError, UnknownName

ORIGINS = ("default", "heuristic", "recipe", "user")
"""Where a value came from, weakest first."""

_KEY = "pl_param"


@attrs.frozen(kw_only=True)
class Parameter:
    """What is known of one parameter of a stage."""

    name: str
    type: Any
    default: Any
    unit: str = ""
    choices: tuple[Any, ...] = ()
    doc: str = ""
    hidden: bool = False
    minimum: float | None = None
    maximum: float | None = None
    check: Callable[[Any], Any] | None = None

    @property
    def type_name(self) -> str:
        """The type in the words of a manual: "number in arcsec", "list of text"."""
        return _describe(self.type) + (f" in {self.unit}" if self.unit else "")

    def coerce(self, value: Any) -> Any:
        """Return ``value`` as this parameter's type and unit.

        Raises
        ------
        InputError : the value has the wrong type or unit, is out of range, is not one of the choices, or is refused
            by the parameter's own check.
        """
        try:
            result = _coerce(value, self.type, self.unit)
        except _Refused as refusal:
            because = "" if refusal.because.strip(" ()") in self.type_name else refusal.because
            raise InputError(f"Parameter '{self.name}' takes a {self.type_name}; got {value!r}{because}.") from None
        for item in result if isinstance(result, tuple) else (result,):
            if self.choices and item is not None and item not in self.choices:
                known = [str(c) for c in self.choices if c != ""]
                raise UnknownName(f"choice for parameter '{self.name}'", str(item), known)
            if isinstance(item, (int, float)) and not isinstance(item, bool):
                if self.minimum is not None and not item >= self.minimum:
                    raise InputError(f"Parameter '{self.name}' must be at least {self.minimum:g}; got {item!r}.")
                if self.maximum is not None and not item <= self.maximum:
                    raise InputError(f"Parameter '{self.name}' must be at most {self.maximum:g}; got {item!r}.")
        if self.check is not None and result is not None:
            try:
                self.check(result)
            except (TypeError, ValueError, KeyError, IndexError):  # a reader of free forms met one it cannot read
                raise InputError(f"Parameter '{self.name}' cannot be read from {value!r}; {self.doc}") from None
        return result


def param(
    default: Any = attrs.NOTHING,
    *,
    unit: str = "",
    choices: Iterable[Any] = (),
    doc: str = "",
    hidden: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    factory: Callable[[], Any] | None = None,
    check: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare a parameter of a stage.

    Parameters
    ----------
    default : value when nobody sets one; ``None`` (with a type that allows it) means "the stage decides",
        in ``Stage.suggest`` before it runs.
    unit : unit of a number; text such as ``"3 arcmin"`` is converted to it, another kind of unit is refused.
    choices : the allowed values (of each element, for lists).
    doc : what it means, a sentence for the astronomer.
    hidden : left out of the web log's table and the short help.
    minimum, maximum : inclusive limits of numbers.
    check : raises InputError for a value (of the right type) that makes no sense; needed where the type is ``Any``.
        It is asked before work starts, and what it returns is ignored.
    """
    meta = {
        _KEY: {
            "unit": unit, "choices": tuple(choices), "doc": doc, "hidden": hidden,
            "minimum": minimum, "maximum": maximum, "check": check,
        }
    }  # fmt: skip
    if factory is not None:
        return attrs.field(factory=factory, metadata=meta, kw_only=True)
    return attrs.field(default=default, metadata=meta, kw_only=True)


SYNONYMS = {"infiles": "vis"}
"""Names of parameters in the observatories' scripts that mean one which every stage has."""


def in_our_words(known: Iterable[str], given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return given values with synonyms of parameters replaced.  Raises InputError when both names are set."""
    names = set(known)
    found: dict[str, Any] = {}
    for name, value in given.items():
        ours = name if name in names else SYNONYMS.get(name, name)
        if value is not None and found.get(ours) not in (None, value):
            synonym = next(other for other, name_here in SYNONYMS.items() if name_here == ours)
            raise InputError(f"'{synonym}' and '{ours}' are the same parameter{where}; set one of them.")
        if value is not None or ours not in found:
            found[ours] = value
    return found


def as_tuple(values: Iterable[Any]) -> tuple[Any, ...]:
    """Converter of fields that are tuples inside and may be given as any iterable; a text is one value."""
    return (values,) if isinstance(values, str) else tuple(values)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(param, attrs.field))
class _Parameters:
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        attrs.define(cls, slots=False, frozen=True, kw_only=True)


class Inputs(_Parameters):
    """Base of the parameter sets of stages: subclasses become frozen attrs classes.

    Every stage has ``vis``: names of the measurement sets to work on; unset means all that the stage applies to.
    """

    vis: tuple[str, ...] | None = param(
        None, doc="Measurement sets to work on, by name; unset means all that this stage applies to."
    )

    def check_together(self) -> None:
        """Raise InputError when values that are each fine do not go together; asked before work starts."""


def parameters(inputs: type[Inputs]) -> dict[str, Parameter]:
    """Return the parameters of a stage by name, in the order of declaration (``vis`` last)."""
    cached = inputs.__dict__.get("_pl_parameters")
    if cached is not None:
        return cast("dict[str, Parameter]", cached)
    hints = typing.get_type_hints(inputs)
    found: dict[str, Parameter] = {}
    for field in attrs.fields(cast(Any, inputs)):
        default = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        options = dict(field.metadata.get(_KEY, {}))
        found[field.name] = Parameter(name=field.name, type=hints.get(field.name, Any), default=default, **options)
    found["vis"] = found.pop("vis")
    inputs._pl_parameters = found  # type: ignore[attr-defined]
    return found


@attrs.frozen(kw_only=True)
class ResolvedValue:
    """One value of a stage's inputs together with where it came from and, for a heuristic, why."""

    value: Any
    origin: str = attrs.field(validator=attrs.validators.in_(ORIGINS))
    unit: str = ""
    doc: str = ""
    hidden: bool = False
    reason: str = ""


def resolve(
    inputs: type[Inputs], recipe: Mapping[str, Any], user: Mapping[str, Any], stage: str = ""
) -> tuple[Inputs, dict[str, ResolvedValue]]:
    """Build inputs from defaults, the recipe's values and the user's values, in rising order of authority.

    A value of None from recipe or user counts as unset.

    Raises
    ------
    UnknownName : a parameter that this stage does not have.
    InputError : a value of the wrong type, unit or range, values that do not go together, or a required parameter
        that nobody set.
    """
    known = parameters(inputs)
    where = f" in stage {stage}" if stage else ""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, given in (("recipe", recipe), ("user", user)):
        for name, value in in_our_words(known, given, where).items():
            if name not in known:
                raise UnknownName("parameter", name, known, where)
            if value is None:
                continue
            try:
                values[name] = known[name].coerce(value)
            except InputError as error:
                if where:
                    error.add(f"(Stage {stage}.)")
                raise
            origins[name] = origin
    missing = [n for n, p in known.items() if p.default is attrs.NOTHING and n not in values]
    if missing:
        raise InputError(f"Parameter '{missing[0]}' must be given{where}: {known[missing[0]].doc}")
    built = inputs(**values)
    try:
        built.check_together()
    except InputError as error:
        if where:
            error.add(f"(Stage {stage}.)")
        raise
    return built, describe(built, origins)


def describe(
    built: Inputs, origins: Mapping[str, str], reasons: Mapping[str, str] | None = None
) -> dict[str, ResolvedValue]:
    """Return the values of ``built`` with their origins, for the journal and the web log."""
    return {
        name: ResolvedValue(
            value=getattr(built, name), origin=origins.get(name, "default"), unit=p.unit, doc=p.doc,
            hidden=p.hidden, reason=(reasons or {}).get(name, ""),
        )
        for name, p in parameters(type(built)).items()
    }  # fmt: skip


def fill(
    built: Inputs, resolved: Mapping[str, ResolvedValue], suggestions: Mapping[str, Any]
) -> tuple[Inputs, dict[str, ResolvedValue]]:
    """Put a stage's suggestions into the parameters that nobody set.

    A suggestion is a value or ``(value, reason)``; a suggestion for a value that recipe or user set is ignored.
    """
    known = parameters(type(built))
    origins = {name: r.origin for name, r in resolved.items()}
    reasons: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, suggestion in suggestions.items():
        if name not in known:
            raise UnknownName("parameter", name, known, " among a stage's suggestions")
        if origins[name] != "default":
            continue
        value, reason = suggestion, ""
        explained = isinstance(suggestion, tuple) and len(suggestion) == 2 and isinstance(suggestion[1], str)
        if explained and (typing.get_origin(known[name].type) is not tuple or not isinstance(suggestion[0], str)):
            value, reason = suggestion
        values[name] = None if value is None else known[name].coerce(value)
        origins[name], reasons[name] = "heuristic", reason
    filled = cast(Inputs, attrs.evolve(cast(Any, built), **values))
    return filled, describe(filled, origins, reasons)


# ---- types -----------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    def __init__(self, because: str = "") -> None:
        self.because = f" ({because})" if because else ""


def _coerce(value: Any, kind: Any, unit: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, typing.get_args(kind), unit)
    if origin in (tuple, list) or kind in (tuple, list):
        return _coerce_sequence(value, typing.get_args(kind), unit)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)) or kind is dict:
        if not isinstance(value, Mapping):
            raise _Refused("a mapping is written as key: value")
        key_type, value_type = typing.get_args(kind) or (Any, Any)
        return {_coerce(k, key_type, ""): _coerce(v, value_type, unit) for k, v in value.items()}
    if kind is bool:
        return _coerce_bool(value)
    if kind is int:
        return _coerce_int(value)
    if kind is float:
        return _coerce_float(value, unit)
    if kind is str:
        return _coerce_str(value)
    if kind is Path:
        if not isinstance(value, (str, Path)):
            raise _Refused()
        return Path(value)
    if kind is type(None):
        if value not in (None, ""):
            raise _Refused()
        return None
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        if isinstance(value, kind):
            return value
        for member in kind:
            if str(value).lower() in (member.name.lower(), str(member.value).lower()):
                return member
        raise _Refused(f"one of {', '.join(m.name for m in kind)}")
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise _Refused()


def _coerce_union(value: Any, members: tuple[Any, ...], unit: str) -> Any:
    for member in members:  # an exact type needs no conversion
        if isinstance(member, type) and type(value) is member and member is not str:
            return _coerce(value, member, unit)
    because = ""
    for member in sorted(members, key=lambda m: m is str):  # text last: it would take anything
        if member is type(None) and value == "":
            continue
        try:
            return _coerce(value, member, unit)
        except _Refused as refusal:
            because = because or refusal.because
    raise _Refused(because.strip(" ()"))


def _coerce_sequence(value: Any, args: tuple[Any, ...], unit: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    elif not isinstance(value, (list, tuple, set, frozenset)):
        value = [value]
    if len(args) == 2 and args[1] is Ellipsis:
        args = args[:1]
    if len(args) > 1:
        if len(args) != len(value):
            raise _Refused(f"{len(args)} values are needed")
        return tuple(_coerce(v, a, unit) for v, a in zip(value, args, strict=True))
    return tuple(_coerce(v, args[0] if args else Any, unit) for v in value)


def _coerce_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise _Refused("true or false")


def _coerce_int(value: Any) -> int:
    if isinstance(value, bool):
        raise _Refused()
    try:
        number = float(value)
        if number == int(number):
            return int(value) if isinstance(value, (int, str)) and str(value).lstrip("+-").isdigit() else int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _Refused("a whole number")


def _coerce_float(value: Any, unit: str) -> float:
    if isinstance(value, bool):
        raise _Refused()
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = _convert_unit(value, unit)
    if math.isnan(number):
        raise _Refused("not a number")
    return number


def _convert_unit(value: Any, unit: str) -> float:
    if not isinstance(value, str):
        raise _Refused()
    if not unit:
        raise _Refused("this number has no unit")
    from astropy import units  # slow to import, and seldom needed

    try:
        quantity = units.Quantity(value)
    except (TypeError, ValueError):
        raise _Refused(f"a number, or a number with its unit such as '3 {unit}'") from None
    try:
        return float(quantity.to_value(units.Unit(unit)))
    except units.UnitConversionError:
        raise _Refused(f"{quantity.unit} cannot be converted to {unit}") from None
    except ValueError:  # the declared unit is a word of the field, such as sigma
        if str(quantity.unit) == unit:
            return float(quantity.value)
        raise _Refused(f"the unit is {unit}") from None


def _coerce_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (list, tuple)) and all(isinstance(v, (str, int)) for v in value):
        return ",".join(str(v) for v in value)  # selections are often given as lists
    raise _Refused("text")


def _describe(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        members = [m for m in typing.get_args(kind) if m is not type(None)]
        return " or ".join(_describe(m) for m in members)
    if origin in (tuple, list):
        args = [a for a in typing.get_args(kind) if a is not Ellipsis]
        return f"list of {_describe(args[0])}" if args else "list"
    if origin is dict or kind is dict or origin is Mapping:
        return "mapping"
    names = {bool: "true/false value", int: "whole number", float: "number", str: "text", Path: "path", Any: "value"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
