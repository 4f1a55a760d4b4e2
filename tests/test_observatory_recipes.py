"""Every procedure the observatories deliver can be read; stages that nobody offers yet are named, none is ignored."""

import importlib.util
from pathlib import Path

import pytest

from pl_kernel.recipe import load, loads, problems
from pl_kernel.recipe_yaml import to_yaml

_spec = importlib.util.spec_from_file_location(
    "observatory_procedures", Path(__file__).with_name("observatory_procedures.py")
)
book = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(book)


@pytest.fixture(scope="module")
def registry():
    from pl_kernel.plugins import Registry

    return Registry()


def test_the_book_is_complete():
    """32 procedures, each with as many commands as the original."""
    assert len(book.PROCEDURES) == 32
    assert {name: len(entries) for name, entries in book.PROCEDURES.items()} == book.COUNTS


@pytest.mark.parametrize("name", sorted(book.PROCEDURES))
def test_procedure_gives_the_same_stages_and_values(name, tmp_path):
    path = tmp_path / f"{name}.xml"
    path.write_text(book.procedure_xml(name))
    recipe = load(path)
    assert recipe.name == name
    assert [step.stage for step in recipe.steps] == [stage for stage, _ in book.PROCEDURES[name]]
    for step, (_, parameters) in zip(recipe.steps, book.PROCEDURES[name], strict=True):
        filled = {p.name: f"<{p.name}>" for p in recipe.parameters}
        expected = {
            k: f"<{v.strip('{}')}>" if isinstance(v, str) and v.startswith("{{") else v for k, v in parameters.items()
        }
        assert dict(recipe.bind(filled).steps[recipe.steps.index(step)].parameters) == expected


@pytest.mark.parametrize("name", sorted(book.PROCEDURES))
def test_procedure_survives_the_way_to_yaml_and_back(name):
    recipe = loads(book.procedure_xml(name), stem=name)
    again = loads(to_yaml(recipe))
    assert again.steps == recipe.steps
    assert {p.name for p in again.parameters} == {p.name for p in recipe.parameters}


@pytest.mark.parametrize("name", sorted(book.PROCEDURES))
def test_every_stage_that_nobody_offers_is_named(name, registry):
    recipe = loads(book.procedure_xml(name), stem=name)
    missing = {stage for stage in recipe.stage_names if stage not in registry.stages}
    said = " ".join(problem.sentence for problem in problems(recipe, registry))
    for stage in missing:
        assert stage in said
