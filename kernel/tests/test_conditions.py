"""Conditions are parsed and compared; nothing in them is ever run."""

from types import SimpleNamespace

import pytest

from pl_kernel.conditions import AllOf, AnyOf, Not, Test, holds, names, parse
from pl_kernel.errors import InputError, UnknownName
from pl_kernel.recipe import loads


def facts(**values):
    def look_up(name):
        if name not in values:
            raise UnknownName("fact", name, values)
        return values[name]

    return look_up


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("has_lines", True),
        ("not has_lines", False),
        ("n_ms > 1", True),
        ("n_ms >= 2", True),
        ("n_ms < 2", False),
        ("n_ms == 2", True),
        ("n_ms != 2.0", False),
        ("bands contains L", True),
        ("bands contains l", True),
        ("bands contains Q", False),
        ("intents contains 'PHASE'", True),
        ("telescope == evla", True),
        ("n_ms > 1 and bands contains Q", False),
        ("n_ms > 1 or bands contains Q", True),
        ("n_ms < 1 and bands contains L or has_lines", True),  # and binds tighter than or
        ("n_ms < 1 and (bands contains L or has_lines)", False),
        ("not (bands contains Q) and not n_ms > 5", True),
        ("nothing_known", False),
        ("empty", False),
        ("bands contains 6", True),
    ],
)
def test_condition_holds_as_written(text, expected):
    look_up = facts(
        has_lines=True, n_ms=2, bands=("L", "C", "6"), intents={"PHASE", "TARGET"}, telescope="EVLA",
        nothing_known=None, empty=(),
    )  # fmt: skip
    assert parse(text).holds(look_up) is expected


def test_text_becomes_a_tree():
    assert parse("a and not (b > 1 or c contains 'x y')") == AllOf(
        (Test("a"), Not(AnyOf((Test("b", ">", 1.0), Test("c", "contains", "x y")))))
    )
    assert names(parse("a and not (b > 1 or a)")) == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "", "n_ms >", "> 1", "(n_ms > 1", "n_ms > 1)", "a b", "a and", "not", "n_ms = 1", "__import__('os')", "a; b",
        "f(1)", "a == (1)", "1 == 1", "not " * 500 + "a", "(" * 500 + "a",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_a_sentence(text):
    with pytest.raises(InputError, match="cannot be read"):
        parse(text)


def test_facts_are_asked_for_only_as_far_as_needed():
    assert parse("has_lines or unheard_of").holds(facts(has_lines=True))
    with pytest.raises(UnknownName, match="unheard_of"):
        parse("has_lines and unheard_of").holds(facts(has_lines=True))


@pytest.mark.parametrize("text", ["bands > 1", "telescope > A", "telescope contains E", "n_ms == many"])
def test_senseless_comparisons_are_refused(text):
    with pytest.raises(InputError):
        parse(text).holds(facts(bands=("L",), telescope="EVLA", n_ms=1))


def test_plugin_predicates_and_values_of_stages_are_facts(add_plugin):
    add_plugin(
        "moods",
        """
        from pl_kernel import heuristic, hookimpl

        @heuristic("when.rainy")
        def rainy(context):
            return context.recipe_name == "r"

        @hookimpl
        def pl_heuristics(): return [rainy]
        """,
    )
    context = SimpleNamespace(measurement_sets=(), values={"hif.redshifted": True}, recipe_name="r", facts=dict)
    assert holds("hif.redshifted", context)
    assert not holds("hif.never_set", context)
    assert holds("rainy and n_ms == 0", context)
    with pytest.raises(UnknownName, match="'n_ms'"):
        holds("n_mss > 1", context)
    with pytest.raises(UnknownName, match="'rainy'"):
        holds("rainny", context)
    assert holds("", context)


@pytest.mark.casa
def test_facts_are_those_of_the_data(tiny_ms, new_session):
    """The measurement set holds 4 antennas, 8 channels in one window, a calibrator and a target."""
    session = new_session(loads("stages: [h_importdata]"), [tiny_ms.path])
    session.run()
    asked = "n_ms == 1 and n_antennas == 4 and n_spws == 1 and max_channels == 8 and n_targets == 1"
    assert holds(f"{asked} and telescopes contains PLTEST and intents contains PHASE", session.context)
    assert holds("fields contains CAL and fields contains TARGET and not fields contains OTHER", session.context)
    assert not holds("bands contains L", session.context)  # no plugin describes this telescope's bands
