"""What a plugin author's tests reuse: fixtures (found by pytest by themselves) and contract tests.

Fixtures: ``tiny_ms`` (a small measurement set with a known truth), ``run_recipe`` and ``run_stage`` (real runs in a
temporary folder).  Contract: inherit ``PluginContract``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import PluginContract
    from .data import TinyMs, make_tiny_ms

__all__ = ["PluginContract", "TinyMs", "make_tiny_ms"]
_HOMES = {"PluginContract": "contract", "TinyMs": "data", "make_tiny_ms": "data"}


def __getattr__(name: str) -> Any:
    # pytest loads this package in every project of the environment, whether it tests plugins or not.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
