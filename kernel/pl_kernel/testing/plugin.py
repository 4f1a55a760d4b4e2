"""pytest plugin of pl-kernel: the markers that pl's tests and those of plugins use, and fixtures for real runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..session import RunOutcome, Session
    from .data import TinyMs


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, so that ``--strict-markers`` accepts them in any package."""
    config.addinivalue_line("markers", "casa: imports CASA (in a worker process)")
    config.addinivalue_line("markers", "slow: takes more than 20 seconds")
    config.addinivalue_line("markers", "browser: drives headless Chromium")


@pytest.fixture(scope="session")
def tiny_ms(tmp_path_factory: pytest.TempPathFactory) -> TinyMs:
    """A small measurement set with a known truth; to be read, not written (runs make working copies)."""
    from .data import make_tiny_ms

    return make_tiny_ms(tmp_path_factory.mktemp("tiny") / "tiny.ms")


@pytest.fixture
def new_session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """A function ``(recipe=None, data=(), **options) -> Session`` in a temporary folder; closed after the test."""
    from ..plugins import registry
    from ..recipe import Recipe, load
    from ..session import Session

    made: list[Session] = []

    def make(recipe: str | Path | Recipe | None = None, data: Iterable[Path | str] = (), **options: Any) -> Session:
        if isinstance(recipe, str) and recipe in registry().recipes:
            recipe = registry().recipes[recipe]
        if isinstance(recipe, (str, Path)):
            recipe = load(recipe)
        bound = recipe.bind(options.pop("parameters", {})) if recipe is not None else None
        root = tmp_path / f"run{len(made) + 1}"
        made.append(Session.create(root, bound, data, **options))
        return made[-1]

    yield make
    for session in made:
        session.close()


@pytest.fixture
def run_recipe(new_session: Callable[..., Session]) -> Callable[..., RunOutcome]:
    """A function ``(recipe, data, **options) -> RunOutcome`` that runs a recipe in a temporary folder."""

    def run(recipe: str | Path, data: Iterable[Path | str] = (), **options: Any) -> RunOutcome:
        return new_session(recipe, data, **options).run()

    return run
