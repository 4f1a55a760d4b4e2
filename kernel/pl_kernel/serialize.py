"""Everything pl writes as JSON goes through here: plain files that any language can read and no one can hide code in.

How values appear in the files
    ==========================  ==========================================================================
    attrs class                 object, one key per attribute; tagged classes carry a ``"type"`` key as well
    NaN, +inf, -inf             the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` (JSON knows no such numbers)
    complex                     ``{"re": x, "im": y}``
    datetime                    ISO 8601 in UTC with ``Z``; a naive datetime is refused
    timedelta                   seconds, as a number
    date, Path, UUID            string
    Enum                        the member's *name*
    tuple, list                 list;  set and frozenset: sorted list
    mapping                     object; integer, float and Enum keys become strings; keys that are records
                                (tuples such as (MS, band)) make the mapping a list of ``[key, value]`` pairs
    numpy scalar                the plain number, bool or string
    numpy array                 nested lists; other than float64, int64, bool, text (or with a zero-length axis):
                                ``{"dtype": …, "shape": […], "values": […]}``, complex values as (re, im) pairs
    ==========================  ==========================================================================

Writing looks at the values, reading at the declared types (through one cattrs converter), so ``Any`` comes back
as the plain JSON value, and NaN in a ``float | str`` as text. An attribute with ``metadata={"json": False}`` is
left out.
"""

import datetime as dt
import enum
import functools
import json
import math
import operator
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import attrs
import cattrs
import numpy as np
from cattrs.gen import make_dict_structure_fn, override
from cattrs.strategies import configure_union_passthrough

from pl_kernel.errors import PlError
from pl_kernel.jsonfiles import read_plain_json, write_bytes_atomically

__all__ = [
    "Jsonable",
    "converter",
    "dumps",
    "from_json",
    "loads",
    "read_json",
    "register_tagged",
    "register_type",
    "tagged_classes",
    "to_json",
    "write_bytes_atomically",
    "write_json",
]

T = TypeVar("T")
Jsonable = Any
"""None, bool, int, finite float, str, list of these, or dict with str keys."""

converter = cattrs.Converter()
_tags_of_base: dict[type, dict[str, type]] = {}
_tag_of_class: dict[type, str] = {}
_writers: dict[type, Callable[[Any], Jsonable]] = {}
_PLAIN_DTYPES = {np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)}
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


# ---- values → JSON -------------------------------------------------------------------------------------------------


def to_json(obj: Any) -> Jsonable:
    """Return `obj` as plain JSON values (see the table above).

    Raises:
        TypeError: for an object without a plain form. That is a programming error, not one of the user's.
    """
    cls = type(obj)
    if obj is None or cls is bool or cls is int or cls is str:
        return obj
    if cls is float:
        return obj if math.isfinite(obj) else _name_of_non_finite(obj)
    if cls in _writers:
        return _writers[cls](obj)
    if attrs.has(cls):
        return _attrs_to_json(obj, cls)
    if isinstance(obj, enum.Enum):
        return obj.name
    if isinstance(obj, (list, tuple)):
        return [to_json(item) for item in obj]
    if isinstance(obj, Mapping):
        return _mapping_to_json(obj)
    if isinstance(obj, (set, frozenset)):
        return _sorted_items([to_json(item) for item in obj])
    return _other_to_json(obj)


def _other_to_json(obj: Any) -> Jsonable:
    if isinstance(obj, np.ndarray):
        return _array_to_json(obj)
    if isinstance(obj, np.generic):
        return to_json(obj.item())
    if isinstance(obj, dt.datetime):
        if obj.tzinfo is None:
            raise TypeError(f"naive datetime {obj!r}: only aware datetimes are written, give it a time zone")
        return obj.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(obj, dt.timedelta):
        return obj.total_seconds()
    if isinstance(obj, (dt.date, dt.time)):
        return obj.isoformat()
    if isinstance(obj, (PurePath, uuid.UUID)):
        return str(obj)
    if isinstance(obj, complex):
        return {"re": to_json(obj.real), "im": to_json(obj.imag)}
    if isinstance(obj, (str, int, float)):  # subclasses such as NewType-like wrappers and numpy's str
        plain = str if isinstance(obj, str) else int if isinstance(obj, int) else float
        return to_json(plain(obj))
    raise TypeError(f"no JSON form for {type(obj).__module__}.{type(obj).__qualname__}: {obj!r:.80}")


def _name_of_non_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _attrs_to_json(obj: Any, cls: type) -> dict[str, Jsonable]:
    data = {a.name: to_json(getattr(obj, a.name)) for a in attrs.fields(cls) if a.init and a.metadata.get("json", True)}
    tag = _tag_of_class.get(cls)
    return data if tag is None else {"type": tag, **data}


def _mapping_to_json(obj: Mapping[Any, Any]) -> Jsonable:
    keys = [to_json(key) for key in obj]
    if any(isinstance(key, (list, dict)) or key is None for key in keys):
        return [[key, to_json(value)] for key, value in zip(keys, obj.values(), strict=True)]
    names = [key if isinstance(key, str) else json.dumps(key) for key in keys]
    if len(set(names)) != len(names):
        raise TypeError(f"mapping keys {names} are not distinct once written as text")
    return {name: to_json(value) for name, value in zip(names, obj.values(), strict=True)}


def _sorted_items(items: list[Jsonable]) -> list[Jsonable]:
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _array_to_json(array: np.ndarray[Any, Any]) -> Jsonable:
    if array.dtype.hasobject or array.dtype.names:
        raise TypeError(f"no JSON form for a numpy array of {array.dtype}")
    plain = array.dtype in _PLAIN_DTYPES or array.dtype.kind == "U"
    if plain and array.size and array.ndim:
        return to_json(array.tolist()) if array.dtype.kind == "f" and not np.isfinite(array).all() else array.tolist()
    values = np.stack([array.real, array.imag], axis=-1) if array.dtype.kind == "c" else array
    if array.dtype.kind in "mM":
        values = array.astype(np.int64)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "values": to_json(values.ravel().tolist())}


# ---- JSON → values -------------------------------------------------------------------------------------------------


def from_json(data: Jsonable, cls: type[T]) -> T:
    """Build an instance of `cls` (an attrs class, or any type expression such as ``dict[int, Spw]``) from plain JSON.

    Keys that `cls` does not know are ignored, so that files of newer versions can be read.

    Raises:
        PlError: the data do not fit; the sentence names the first place that does not.
    """
    try:
        return converter.structure(data, cls)
    except PlError:
        raise
    except Exception as error:
        name = getattr(cls, "__name__", str(cls))
        raise PlError(f"The JSON data do not describe a {name}: {_first_reason(error)}.") from error


def _first_reason(error: Exception) -> str:
    reasons = cattrs.transform_error(error, format_exception=_reason)
    return reasons[0].rstrip(".").replace(" @ $", " at $") if reasons else str(error)


def _reason(error: BaseException, expected: type | None) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing or unknown"
    if isinstance(error, (PlError, ValueError)):
        return str(error).rstrip(".")
    return cattrs.v.format_exception(error, expected)


def register_type(cls: type[T], write: Callable[[T], Jsonable], read: Callable[[Jsonable], T]) -> None:
    """Teach the converter one more type: `write` gives plain JSON, `read` takes it back."""
    _writers[cls] = write
    converter.register_structure_hook(cls, lambda data, _: read(data))


def register_tagged(base: type, cls: type[T], tag: str | None = None) -> type[T]:
    """Make attrs class `cls` one of the members of the tagged union `base`.

    Instances are written with ``"type": tag`` (default: the class name); reading a `base` looks the tag up.
    A class registered again under the same module and name replaces the earlier one (module reloads).
    `base` may be a plain class or an attrs class; ``list[base]`` and the like then work in declarations.
    """
    if not attrs.has(cls):
        raise TypeError(f"{cls!r} is not an attrs class")
    if "type" in {a.name for a in attrs.fields(cls)}:
        raise TypeError(f"{cls.__qualname__} has an attribute called 'type', the key that holds the tag")
    name = tag if tag is not None else cls.__name__
    if base not in _tags_of_base:
        _tags_of_base[base] = {}
        converter.register_structure_hook_func(functools.partial(operator.is_, base), _structure_tagged)
    known = _tags_of_base[base].get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(f"tag {name!r} of {base.__qualname__} is taken by {known.__module__}.{known.__qualname__}")
    _tags_of_base[base][name] = cls
    _tag_of_class[cls] = name
    return cast(type[T], cls)


def tagged_classes(base: type) -> Mapping[str, type]:
    """The classes registered under `base`, by tag."""
    return types.MappingProxyType(_tags_of_base.get(base, {}))


def _structure_tagged(data: Any, base: type) -> Any:
    tags = _tags_of_base[base]
    tag = data.get("type") if isinstance(data, Mapping) else None
    if tag not in tags:
        known = ", ".join(sorted(tags))
        raise PlError(f"Unknown {base.__name__} type {tag!r} (known: {known}): is the plugin that wrote it installed?")
    cls = tags[cast(str, tag)]
    if cls is base:
        return _structure_attrs(cls)(data, cls)
    return converter.structure(data, cls)


def _structure_attrs(cls: type) -> Callable[[Any, Any], Any]:
    # Private attributes (_x) are written by name and passed by alias; attributes kept out of JSON take their default.
    hidden = [a.name for a in attrs.fields(cls) if not a.metadata.get("json", True)]
    left_out: dict[str, Any] = {name: override(omit=True) for name in hidden}
    return cast(Callable[[Any, Any], Any], make_dict_structure_fn(cls, converter, **left_out))


class _Unfit(ValueError):
    """A JSON value that is not what the declaration asks for."""


def _structure_float(data: Any, _: Any) -> float:
    if isinstance(data, str):
        return _NON_FINITE[data] if data in _NON_FINITE else float(data)
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        raise _Unfit(f"{data!r} is not a number")
    return float(data)


def _structure_int(data: Any, _: Any) -> int:
    if isinstance(data, str):  # the key of a mapping
        return int(data)
    if isinstance(data, bool) or not isinstance(data, (int, float)) or data != int(data):
        raise _Unfit(f"{data!r} is not a whole number")
    return int(data)


def _structure_bool(data: Any, _: Any) -> bool:
    if data in ("true", "false"):  # the key of a mapping
        return bool(data == "true")
    if not isinstance(data, bool):
        raise _Unfit(f"{data!r} is neither true nor false")
    return data


def _structure_str(data: Any, _: Any) -> str:
    if not isinstance(data, str):
        raise _Unfit(f"{data!r} is not text")
    return data


def _structure_datetime(data: Any, _: Any) -> dt.datetime:
    value = dt.datetime.fromisoformat(data)
    if value.tzinfo is None:
        raise _Unfit(f"{data!r} has no time zone")
    return value.astimezone(dt.UTC)


def _structure_array(data: Any, _: Any) -> np.ndarray[Any, Any]:
    if not isinstance(data, Mapping):
        return np.array(_with_non_finite(data))
    dtype = np.dtype(str(data["dtype"]))
    values = np.array(_with_non_finite(data["values"]))
    if dtype.kind == "c":
        values = values.reshape(-1, 2)
        values = values[:, 0] + 1j * values[:, 1]
    return values.astype(dtype).reshape(data["shape"])


def _with_non_finite(data: Any) -> Any:
    if isinstance(data, list):
        mixed = any(isinstance(item, str) for item in data) and any(isinstance(item, float) for item in data)
        if mixed or (data and all(isinstance(item, str) and item in _NON_FINITE for item in data)):
            return [_NON_FINITE[item] if isinstance(item, str) else item for item in data]
        return [_with_non_finite(item) if isinstance(item, list) else item for item in data]
    return data


def _mapping_hook(cls: Any) -> Callable[[Any, Any], Any]:
    key_type, value_type = typing.get_args(cls) or (Any, Any)

    def structure(data: Any, _: Any) -> dict[Any, Any]:
        if not isinstance(data, (Mapping, list)):
            raise _Unfit(f"{data!r:.60} is not a mapping")
        pairs = data.items() if isinstance(data, Mapping) else data
        return {converter.structure(k, key_type): converter.structure(v, value_type) for k, v in pairs}

    return structure


def _is_mapping(cls: Any) -> bool:
    origin = typing.get_origin(cls) or cls
    return isinstance(origin, type) and issubclass(origin, Mapping) and not typing.is_typeddict(origin)


def _is_enum(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, enum.Enum)


def _is_array(cls: Any) -> bool:
    return (typing.get_origin(cls) or cls) is np.ndarray


def _register_hooks() -> None:
    configure_union_passthrough(str | int | float | bool | None, converter)
    for cls, hook in {
        float: _structure_float,
        int: _structure_int,
        bool: _structure_bool,
        str: _structure_str,
        dt.datetime: _structure_datetime,
        dt.timedelta: lambda data, _: dt.timedelta(seconds=float(data)),
        dt.date: lambda data, _: dt.date.fromisoformat(data),
        complex: lambda data, _: complex(_structure_float(data["re"], float), _structure_float(data["im"], float)),
        Path: lambda data, _: Path(data),
        PurePath: lambda data, _: PurePath(data),
        uuid.UUID: lambda data, _: uuid.UUID(data),
    }.items():
        converter.register_structure_hook(cls, hook)
    converter.register_structure_hook_func(_is_enum, lambda data, cls: cls[data])
    converter.register_structure_hook_factory(attrs.has, _structure_attrs)
    converter.register_structure_hook_factory(_is_mapping, _mapping_hook)
    converter.register_structure_hook_func(_is_array, _structure_array)


_register_hooks()


# ---- text ----------------------------------------------------------------------------------------------------------


def dumps(obj: Any) -> str:
    """JSON text of `obj`: keys sorted, two spaces of indent, lists of plain values on one line, a final newline."""
    return _pretty(to_json(obj), "") + "\n"


def loads(text: str, cls: type[T]) -> T:
    """The inverse of `dumps`."""
    return from_json(json.loads(text), cls)


def _pretty(data: Jsonable, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(data, dict) and data:
        lines = (f"{deeper}{_plain(key)}: {_pretty(data[key], deeper)}" for key in sorted(data))
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(data, list) and any(isinstance(item, (dict, list)) for item in data):
        return "[\n" + ",\n".join(deeper + _pretty(item, deeper) for item in data) + f"\n{indent}]"
    return _plain(data)


_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps would make one for every value


# ---- files -----------------------------------------------------------------------------------------------------------


def write_json(path: Path | str, obj: Any) -> None:
    """Write `obj` to `path` so that a reader sees the old file or the whole new one, whatever happens meanwhile.

    Raises:
        PlError: the file cannot be written (no space, no permission, folder absent).
    """
    # A lone surrogate (bytes of a name that were no UTF-8) becomes \udcXX, which is what JSON calls it as well.
    write_bytes_atomically(Path(path), dumps(obj).encode("utf-8", "backslashreplace"))


@typing.overload
def read_json(path: Path | str) -> Jsonable: ...
@typing.overload
def read_json(path: Path | str, cls: type[T]) -> T: ...
def read_json(path: Path | str, cls: Any = None) -> Any:
    """Read JSON from `path`, as plain values or as a `cls`.

    Raises:
        PlError: the file is absent, cut off, not JSON, or does not describe a `cls`; one sentence names the file.
    """
    path = Path(path)
    data = read_plain_json(path)
    if cls is None:
        return data
    try:
        return from_json(data, cls)
    except PlError as error:
        raise PlError(f"{path}: {error}") from error
