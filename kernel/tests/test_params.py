"""Parameters: one declaration gives types, units, limits, choices and origins."""

from __future__ import annotations

from typing import Any

import pytest

from pl_kernel.errors import InputError, UnknownName
from pl_kernel.params import Inputs, fill, param, parameters, resolve


class Solve(Inputs):
    solint: str = param("inf", doc="Solution interval.")
    cell: float | None = param(None, unit="arcsec", doc="Pixel size.", minimum=0)
    niter: int = param(0, doc="Iterations.", minimum=0, maximum=10)
    modes: tuple[str, ...] = param(("a",), choices=("a", "b"), doc="Modes.")
    imsize: tuple[int, ...] | None = param(None, doc="Pixels.")
    quack: bool = param(True, doc="Flag the start of scans.")
    sigma: float = param(5.0, unit="sigma", doc="Threshold.")


def test_a_number_with_a_unit_is_converted_to_the_declared_unit():
    inputs, _ = resolve(Solve, {"cell": "0.5 arcmin"}, {})
    assert inputs.cell == pytest.approx(30.0)


def test_plain_numbers_are_in_the_declared_unit_also_as_text():
    assert resolve(Solve, {}, {"cell": "15"})[0].cell == 15.0
    assert resolve(Solve, {}, {"cell": 15})[0].cell == 15.0
    assert resolve(Solve, {}, {"sigma": "3"})[0].sigma == 3.0


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("cell", "3 Jy", "arcsec"),
        ("cell", "wide", "arcsec"),
        ("cell", -1, "at least 0"),
        ("niter", 2.5, "whole number"),
        ("niter", 11, "at most 10"),
        ("quack", "maybe", "true or false"),
        ("solint", {"a": 1}, "text"),
        ("imsize", "100,wide", "whole number"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence_that_names_the_parameter(name, value, says):
    with pytest.raises(InputError) as caught:
        resolve(Solve, {}, {name: value}, "my_stage")
    assert f"'{name}'" in str(caught.value) and says in str(caught.value) and "my_stage" in str(caught.value)


def test_an_unknown_parameter_gets_near_matches():
    with pytest.raises(UnknownName, match="solint"):
        resolve(Solve, {}, {"sollint": "10s"}, "my_stage")


def test_a_choice_nobody_offers_is_refused():
    with pytest.raises(UnknownName):
        resolve(Solve, {"modes": ["c"]}, {})


def test_the_user_wins_over_the_recipe_and_both_over_the_default():
    inputs, resolved = resolve(Solve, {"solint": "int", "niter": 3}, {"solint": "10s"})
    assert (inputs.solint, inputs.niter, inputs.quack) == ("10s", 3, True)
    assert [resolved[n].origin for n in ("solint", "niter", "quack")] == ["user", "recipe", "default"]


def test_a_heuristic_fills_only_what_nobody_set_and_says_why():
    inputs, resolved = resolve(Solve, {}, {"cell": 2})
    inputs, resolved = fill(inputs, resolved, {"cell": 9.0, "imsize": ((256, 256), "field of view")})
    assert inputs.cell == 2.0 and resolved["cell"].origin == "user"
    assert inputs.imsize == (256, 256)
    assert (resolved["imsize"].origin, resolved["imsize"].reason) == ("heuristic", "field of view")


def test_lists_can_be_written_with_commas_or_as_one_value():
    assert resolve(Solve, {"imsize": "256, 512"}, {})[0].imsize == (256, 512)
    assert resolve(Solve, {"imsize": 256}, {})[0].imsize == (256,)
    assert resolve(Solve, {"vis": "a.ms"}, {})[0].vis == ("a.ms",)


def test_every_parameter_describes_itself():
    described = parameters(Solve)
    assert described["cell"].type_name == "number in arcsec"
    assert described["imsize"].type_name == "list of whole number"
    assert list(described)[-1] == "vis"


def _even(value):
    if int(value) % 2:
        raise InputError(f"{value} is odd.")


class Free(Inputs):
    number: Any = param(2, check=_even, doc="An even number.")
    low: int = param(0, doc="Low.")
    high: int = param(1, doc="High.")

    def check_together(self) -> None:
        if self.low > self.high:
            raise InputError(f"low, {self.low}, is above high, {self.high}.")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"number": 3}, "3 is odd"),
        ({"number": "three"}, "Parameter 'number' cannot be read from 'three'"),
        ({"number": {}}, "Parameter 'number'"),
        ({"low": 2}, "low, 2, is above high"),
    ],
)
def test_a_parameter_of_free_form_and_a_pair_are_refused_by_their_own_check(values, says):
    with pytest.raises(InputError, match=says):
        resolve(Free, {}, values, "my_stage")
    assert resolve(Free, {}, {"number": "4", "low": 2, "high": 3})[0].number == "4"


def test_infiles_of_old_scripts_are_the_measurement_sets() -> None:
    built, resolved = resolve(Inputs, {}, {"infiles": ["a.ms"]})
    assert built.vis == ("a.ms",) and resolved["vis"].origin == "user"
    assert resolve(Inputs, {}, {"infiles": ["a.ms"], "vis": None})[0].vis == ("a.ms",)
    assert resolve(Inputs, {}, {"vis": ["a.ms"], "infiles": None})[0].vis == ("a.ms",)
    for both in ({"vis": ["a.ms"], "infiles": ["b.ms"]}, {"infiles": ["b.ms"], "vis": ["a.ms"]}):
        with pytest.raises(InputError, match="'infiles' and 'vis' are the same parameter"):
            resolve(Inputs, {}, both)

    class Own(Inputs):
        infiles: str = param("", doc="Something else.")

    assert resolve(Own, {}, {"infiles": "x"})[0].vis is None
