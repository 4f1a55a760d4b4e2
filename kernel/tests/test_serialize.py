"""Claims about the JSON that pl writes and reads."""

import datetime as dt
import enum
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_kernel import serialize
from pl_kernel.errors import PlError
from pl_kernel.serialize import dumps, from_json, loads, read_json, register_tagged, to_json, write_json


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@attrs.frozen
class Inner:
    flux: float
    tags: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class Outer:
    when: dt.datetime
    where: Path
    colour: Colour
    inner: tuple[Inner, ...]
    by_spw: Mapping[int, float]
    by_ms_and_band: Mapping[tuple[str, str], int]
    maybe: Inner | None = None
    values: np.ndarray[Any, Any] = attrs.field(factory=lambda: np.zeros(2), eq=attrs.cmp_using(eq=np.array_equal))
    kept_out: int = attrs.field(default=7, metadata={"json": False})


class Shape:
    """Base of a tagged union."""


@attrs.frozen
class Circle(Shape):
    radius: float


@attrs.frozen
class Square(Shape):
    side: float


@attrs.frozen
class Drawing:
    shapes: tuple[Shape, ...]


register_tagged(Shape, Circle)
register_tagged(Shape, Square, tag="square")


def outer() -> Outer:
    return Outer(
        when=dt.datetime(1995, 4, 13, 9, 19, 0, 500, tzinfo=dt.UTC),
        where=Path("work") / "a b.ms",
        colour=Colour.BLUE,
        inner=(Inner(1.5, frozenset({"b", "a"})), Inner(math.inf)),
        by_spw={0: 1.0, 17: -2.5},
        by_ms_and_band={("a.ms", "C"): 1, ("b.ms", "X"): 2},
    )


def test_a_record_comes_back_equal_from_its_text() -> None:
    assert loads(dumps(outer()), Outer) == outer()


def test_text_is_strict_json_with_sorted_keys_and_names_for_numbers_json_lacks() -> None:
    text = dumps({"b": math.nan, "a": [math.inf, -math.inf, 1.0]})
    assert text == '{\n  "a": ["Infinity", "-Infinity", 1.0],\n  "b": "NaN"\n}\n'
    assert math.isnan(from_json("NaN", float))
    assert from_json(["-Infinity"], tuple[float, ...]) == (-math.inf,)


def test_plain_forms() -> None:
    data = to_json(outer())
    assert data["when"] == "1995-04-13T09:19:00.000500Z"
    assert data["where"] == "work/a b.ms"
    assert data["colour"] == "BLUE"
    assert data["inner"][0]["tags"] == ["a", "b"]
    assert data["by_spw"] == {"0": 1.0, "17": -2.5}
    assert data["by_ms_and_band"] == [[["a.ms", "C"], 1], [["b.ms", "X"], 2]]
    assert "kept_out" not in data


def test_naive_datetimes_are_refused_in_both_directions() -> None:
    with pytest.raises(TypeError, match="naive"):
        to_json(dt.datetime(2026, 1, 1))
    with pytest.raises(PlError, match="no time zone"):
        from_json("2026-01-01T00:00:00", dt.datetime)


def test_times_in_other_zones_are_written_in_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=-3))
    assert to_json(dt.datetime(2026, 1, 1, 22, tzinfo=zone)) == "2026-01-02T01:00:00Z"


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.0, np.nan, np.inf]),
        np.array([[1, 2], [3, 4]]),
        np.array([True, False]),
        np.array(["RR", "LL"]),
        np.zeros((0, 3)),
        np.array(2.5),
        np.array([1 + 2j, complex(np.nan, 0)], dtype=np.complex64),
        np.array([1.5, 2.5], dtype=np.float32),
        np.array([[np.nan, np.nan]]),
    ],
)
def test_arrays_keep_type_shape_and_values(array: np.ndarray[Any, Any]) -> None:
    back = loads(dumps(array), np.ndarray)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_numpy_scalars_are_plain_numbers() -> None:
    assert json.loads(dumps([np.float32(0.5), np.int64(3), np.bool_(True), np.str_("x")])) == [0.5, 3, True, "x"]


def test_members_of_a_tagged_union_come_back_as_their_own_class() -> None:
    drawing = Drawing((Circle(1.0), Square(2.0)))
    data = to_json(drawing)
    assert [shape["type"] for shape in data["shapes"]] == ["Circle", "square"]
    assert from_json(data, Drawing) == drawing
    assert from_json(data["shapes"][1], Square) == Square(2.0)
    assert set(serialize.tagged_classes(Shape)) == {"Circle", "square"}


def test_an_unknown_tag_is_named() -> None:
    with pytest.raises(PlError, match=r"'Triangle'.*Circle, square"):
        from_json({"type": "Triangle"}, Shape)


def test_two_classes_cannot_share_a_tag() -> None:
    @attrs.frozen
    class Other(Shape):
        x: int

    with pytest.raises(TypeError, match="taken"):
        register_tagged(Shape, Other, tag="Circle")


def test_data_that_do_not_fit_are_refused_with_the_place() -> None:
    with pytest.raises(PlError, match="flux"):
        from_json({"flux": "bright"}, Inner)
    with pytest.raises(PlError, match="inner"):
        from_json({**to_json(outer()), "inner": 3}, Outer)
    for wrong, cls in [(1, bool), (True, int), (1.5, int), (None, str), ("RED?", Colour)]:
        with pytest.raises(PlError):
            from_json(wrong, cls)


def test_keys_of_newer_versions_are_ignored() -> None:
    assert from_json({"flux": 1.0, "added_later": []}, Inner) == Inner(1.0)


def test_objects_without_plain_form_are_a_programming_error() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        to_json(object())
    with pytest.raises(TypeError, match="not distinct"):
        to_json({1: "a", "1": "b"})


def test_write_then_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, outer())
    write_json(path, outer())
    assert read_json(path, Outer) == outer()
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlError, match="no space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_writing_into_an_absent_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PlError, match="no such file or directory"):
        write_json(tmp_path / "absent" / "x.json", {})


@pytest.mark.parametrize("content", [b"", b'{"a": [1, 2', b'{"a": 1}}', b"\xff\xfe", b'{"a": "b', b"[" * 100_000])
def test_cut_off_and_damaged_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stage.json"
    path.write_bytes(content)
    with pytest.raises(PlError, match=r"stage\.json is (cut off|damaged)") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_absent_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PlError, match=r"Cannot read .*absent\.json"):
        read_json(tmp_path / "absent.json")


def test_names_that_were_never_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"N\xe9bula")
    write_json(tmp_path / "x.json", {"field": name})
    assert read_json(tmp_path / "x.json") == {"field": name}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(json_values)
def test_any_json_value_is_its_own_form(value: Any) -> None:
    assert json.loads(dumps(value).encode("utf-8", "backslashreplace")) == value
