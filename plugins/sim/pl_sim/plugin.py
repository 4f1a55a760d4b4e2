"""What pl-sim offers to pl: one command."""

from __future__ import annotations

from pl_kernel.hookspecs import Lazy, hookimpl


@hookimpl
def pl_api() -> str:
    return ">=1,<2"


@hookimpl
def pl_commands() -> list[Lazy]:
    return [
        Lazy("simulate", "pl_sim.cli:simulate_command", "Make an observation with a known truth, and faults if asked.")
    ]
