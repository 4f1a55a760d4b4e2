"""What every plugin must hold, as tests to inherit: ``class TestContract(PluginContract): plugin = "my"``."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import ClassVar

import attrs
import pytest

from ..errors import PlError
from ..params import parameters
from ..plugins import PluginInfo, Registry, resolve

_NAME = re.compile(r"[a-z][A-Za-z0-9]*(_[A-Za-z0-9]+)+")
_HEAVY = ("casatools", "casatasks", "matplotlib", "astropy", "scipy")


class PluginContract:
    """Inherit, set ``plugin`` to the name of your entry point, and pytest does the rest."""

    plugin: ClassVar[str] = ""

    @pytest.fixture
    def known(self) -> Registry:
        """All installed plugins."""
        return Registry()

    @pytest.fixture
    def info(self, known: Registry) -> PluginInfo:
        """What the kernel knows of the plugin under test."""
        found = {p.name: p for p in known.plugins}
        assert self.plugin in found, f"no plugin called {self.plugin!r} is installed: pip install -e ."
        return found[self.plugin]

    def test_plugin_is_accepted(self, info: PluginInfo) -> None:
        assert info.accepted, info.reason

    def test_listing_it_imports_nothing_heavy(self, info: PluginInfo) -> None:
        program = (
            "import sys; from pl_kernel.plugins import Registry; Registry();"
            f"print(','.join(m for m in {_HEAVY!r} if m in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "", "put what is heavy behind Lazy"

    def test_stages_load_and_are_documented(self, known: Registry, info: PluginInfo) -> None:
        for name in info.stages:
            stage = known.stage(name)
            assert _NAME.fullmatch(name), f"{name}: stages are called plugin_word"
            assert stage.summary(), f"{name} has no docstring"
            assert known.stages[name].summary, f"{name} has no line for listings"
            assert "run" in vars(stage) or any("run" in vars(base) for base in stage.__mro__[1:-2]), f"{name}: no run()"

    def test_every_parameter_says_what_it_means(self, known: Registry, info: PluginInfo) -> None:
        for name in info.stages:
            for parameter in parameters(known.stage(name).inputs_class).values():
                assert parameter.doc, f"{name}: parameter {parameter.name} has no doc"
                if parameter.default is not attrs.NOTHING and parameter.default is not None:
                    parameter.coerce(parameter.default)

    def test_results_can_be_written(self, known: Registry, info: PluginInfo) -> None:
        for name in info.stages:
            result = known.stage(name).result_class
            hints = inspect.get_annotations(result, eval_str=True)
            for field in vars(result).get("__annotations__", {}):
                assert hints.get(field) is not None, f"{name}: result field {field} has no type"

    def test_scorers_and_renderers_load(self, known: Registry, info: PluginInfo) -> None:
        for name in info.stages:
            stage = known.stage(name)
            for function in (*known.scorers_for(stage), *known.renderers_for(stage)):
                assert callable(function)

    def test_recipes_can_run(self, known: Registry, info: PluginInfo) -> None:
        from ..recipe import load, problems

        for name in info.recipes:
            recipe = load(known.recipes[name])
            assert recipe.name == name, f"recipe {recipe.name} lies in a file called {name}"
            assert [p.sentence for p in problems(recipe.bind(), known)] == []

    def test_commands_load(self, known: Registry, info: PluginInfo) -> None:
        for name in info.commands:
            try:
                command = resolve(known.commands[name])
            except PlError as error:
                pytest.fail(error.sentence)
            assert command.help, f"pl {name} has no help"
