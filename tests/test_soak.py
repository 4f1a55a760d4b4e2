"""A sample of what ``make soak`` does at thirty points, one of each kind, with a seed of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("soak", Path(__file__).with_name("soak.py"))
assert _spec is not None and _spec.loader is not None
soak = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(soak)


@pytest.mark.casa
@pytest.mark.slow
def test_runs_that_are_killed_or_damaged_go_on_to_the_same_products(tmp_path):
    told = []
    failures = soak.soak(tmp_path, seed=2026, points=3, kinds=("worker", "disk", "corrupted"), tell=told.append)
    assert failures == 0, "\n".join(told)
