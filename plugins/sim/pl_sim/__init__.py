"""Simulated observations with a known truth and injected faults.

>>> from pl_sim import simulate, get_preset
>>> simulate(get_preset("vla-c-cont").observations("tiny")[0], "day1.ms", seed=3, faults=["dead-antenna=ea05"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Observation", "Truth", "get_preset", "known_faults", "known_presets", "make_fault", "simulate"]

if TYPE_CHECKING:
    from pl_sim.engine import simulate
    from pl_sim.faults import known_faults, make_fault
    from pl_sim.observation import Observation
    from pl_sim.presets import get_preset, known_presets
    from pl_sim.truth import Truth

_HOMES = {
    "Observation": "observation",
    "Truth": "truth",
    "get_preset": "presets",
    "known_presets": "presets",
    "known_faults": "faults",
    "make_fault": "faults",
    "simulate": "engine",
}


def __getattr__(name: str) -> Any:
    # astropy takes a second to import; `import pl_sim` must not.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"pl_sim.{_HOMES[name]}"), name)
    raise AttributeError(f"module pl_sim has no attribute {name}")
