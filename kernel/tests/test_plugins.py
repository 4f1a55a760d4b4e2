"""Plugins are found, checked, and quarantined when they break the contract."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pl_kernel.errors import PluginError, UnknownName
from pl_kernel.plugins import registry
from pl_kernel.qa import score_result

GOOD = """
from pl_kernel import Stage, Inputs, Result, QAScore, hookimpl, heuristic, renderer, scorer

class CountInputs(Inputs):
    pass

class CountResult(Result):
    outliers: dict[str, int]

class Count(Stage[CountInputs, CountResult]):
    '''Count outliers.'''
    name = "{name}_count"
    def run(self, ctx, inputs):
        return CountResult(outliers={{}})

@scorer(CountResult)
def few(result):
    return QAScore(metric="outliers", value=0, score=1.0)

@renderer("{name}_count")
def page(page, ctx, result):
    page.text("hello")

@heuristic("size")
def any_size(): return "any"

@heuristic("size", telescope="{name}", band="L")
def own_size_l(): return "own L"

@heuristic("size", telescope="{name}")
def own_size(): return "own"

@hookimpl
def pl_stages(): return [Count]
@hookimpl
def pl_qa_scorers(): return [few]
@hookimpl
def pl_renderers(): return [page]
@hookimpl
def pl_heuristics(): return [any_size, own_size_l, own_size]
"""


def info(name):
    return {p.name: p for p in registry().plugins}[name]


def test_a_plugin_is_found_by_its_entry_point_and_offers_its_stage(add_plugin):
    add_plugin("good", GOOD.format(name="good"), version="2.3")
    assert info("good").accepted and info("good").version == "2.3"
    stage = registry().stage("good_count")
    assert stage.summary() == "Count outliers."
    assert [f.__name__ for f in registry().scorers_for(stage)] == ["few"]
    assert [f.__name__ for f in registry().renderers_for(stage)] == ["page"]


def test_anyone_may_score_anyones_stage(add_plugin):
    add_plugin("good", GOOD.format(name="good"))
    add_plugin(
        "critic",
        """
        from pl_kernel import QAScore, hookimpl, scorer
        @scorer("good_count")
        def critic(result):
            return QAScore(metric="critic", score=0.5)
        @hookimpl
        def pl_qa_scorers(): return [critic]
        """,
    )
    stage = registry().stage("good_count")
    assert sorted(f.__name__ for f in registry().scorers_for(stage)) == ["critic", "few"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import numpy.no_such_module", "no_such_module"),
        ("from pl_kernel import hookimpl\n@hookimpl\ndef pl_api(): return '>=99'", "hook API >=99"),
        ("from pl_kernel import hookimpl\n@hookimpl\ndef pl_api(): return 'newest'", "version range"),
        ("from pl_kernel import hookimpl\n@hookimpl\ndef pl_stagess(): return []", "unknown hook 'pl_stagess'"),
        ("from pl_kernel import hookimpl\n@hookimpl\ndef pl_stages(wrong): return []", "wrong"),
        ("from pl_kernel import hookimpl\n@hookimpl\ndef pl_stages(): return ['hanning']", "neither a stage"),
        ("from pl_kernel import hookimpl, Lazy\n@hookimpl\ndef pl_stages(): return [Lazy('a','m:a'), Lazy('a','m:b')]",
         "'a' twice"),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_quarantined_with_the_reason_and_others_work(add_plugin, source, reason):
    add_plugin("good", GOOD.format(name="good"))
    add_plugin("bad", source)
    assert reason in info("bad").reason
    assert info("good").accepted
    assert "good_count" in registry().stages


def test_a_name_that_is_taken_gets_the_newcomer_refused(add_plugin):
    add_plugin("aaa", GOOD.format(name="zzz"))
    add_plugin("bbb", GOOD.format(name="zzz"))
    assert info("aaa").accepted
    assert "'zzz_count', which belongs to aaa" in info("bbb").reason


def test_a_plugin_keeps_the_names_that_begin_with_its_own(add_plugin):
    # "aaa" comes first in the alphabet, and may not take away the stage of "zzz".
    add_plugin("aaa", GOOD.format(name="zzz"))
    add_plugin("zzz", GOOD.format(name="zzz"))
    assert info("zzz").accepted
    assert "belongs to zzz" in info("aaa").reason


def test_a_lazy_stage_is_not_imported_by_listing_and_a_bad_target_is_a_sentence(add_plugin):
    add_plugin(
        "lazy",
        """
        from pl_kernel import Lazy, hookimpl
        @hookimpl
        def pl_stages(): return [Lazy("lazy_stage", "plug_nowhere:Stage", "Never imported.")]
        """,
    )
    assert registry().stages["lazy_stage"].summary == "Never imported."
    with pytest.raises(PluginError, match="lazy_stage"):
        registry().stage("lazy_stage")


def test_a_scorer_that_cannot_be_imported_complains_as_a_score_and_costs_no_stage(add_plugin):
    add_plugin("good", GOOD.format(name="good"))
    add_plugin(
        "critic",
        """
        from pl_kernel import Lazy, hookimpl
        @hookimpl
        def pl_qa_scorers(): return [Lazy("good_count", "plug_nowhere:critic")]
        """,
    )
    stage = registry().stage("good_count")
    scores = score_result(registry().scorers_for(stage), stage.result_class(outliers={}), None, "misc")
    assert sorted(s.metric for s in scores) == ["outliers", "scorer-error"]
    assert "plug_nowhere" in next(s.long for s in scores if s.metric == "scorer-error")


def test_a_misspelt_stage_gets_a_near_match(add_plugin):
    add_plugin("good", GOOD.format(name="good"))
    with pytest.raises(UnknownName, match="good_count"):
        registry().stage("good_cuont")


def test_the_most_specific_heuristic_wins(add_plugin):
    add_plugin("good", GOOD.format(name="good"))
    slots = registry().slots("size")
    assert slots.choose("size", {"telescope": "other"}).function() == "any"
    assert slots.choose("size", {"telescope": ("good",), "band": ("X",)}).function() == "own"
    assert slots.choose("size", {"telescope": ("good",), "band": ("C", "L")}).function() == "own L"
    with pytest.raises(UnknownName):
        registry().slots("shape").choose("shape", {})


def test_the_public_names_import_neither_casa_nor_matplotlib_nor_astropy():
    code = (
        "import sys, pl_kernel\n"
        "for name in pl_kernel.__all__: getattr(pl_kernel, name)\n"
        "bad = {'casatools', 'casatasks', 'casaconfig', 'matplotlib', 'astropy', 'scipy'} & set(sys.modules)\n"
        "print(sorted(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TELESCOPE = """
from pl_kernel import Telescope, hookimpl
@hookimpl
def pl_telescopes(): return [Telescope(name="TWIN", edition={edition}, dish_diameter_m={dish})]
"""


def test_two_plugins_may_describe_one_telescope_alike(add_plugin):
    """Interferometry and single dish of one observatory cannot import each other."""
    add_plugin("one", TELESCOPE.format(edition=1, dish=12.0))
    add_plugin("two", TELESCOPE.format(edition=1, dish=12.0))
    assert info("one").accepted and info("two").accepted
    assert [t.name for t in registry().telescopes].count("TWIN") == 1


def test_the_highest_edition_of_a_telescope_counts(add_plugin):
    add_plugin("one", TELESCOPE.format(edition=2, dish=7.0))
    add_plugin("two", TELESCOPE.format(edition=1, dish=12.0))
    assert info("one").accepted and info("two").accepted
    (twin,) = [t for t in registry().telescopes if t.name == "TWIN"]
    assert (twin.edition, twin.dish_diameter_m) == (2, 7.0)


def test_two_descriptions_of_one_edition_that_differ_are_refused(add_plugin):
    add_plugin("one", TELESCOPE.format(edition=1, dish=12.0))
    add_plugin("two", TELESCOPE.format(edition=1, dish=7.0))
    assert "TWIN" in info("two").reason and "one" in info("two").reason
    (twin,) = [t for t in registry().telescopes if t.name == "TWIN"]
    assert twin.dish_diameter_m == 12.0
