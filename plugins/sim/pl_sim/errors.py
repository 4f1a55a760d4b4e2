"""The one sentence a user of the simulator sees when something cannot be simulated."""

from __future__ import annotations

from pl_kernel.errors import PlError


class ImpossibleObservation(PlError):
    """The observation cannot be made by the telescope (source below the horizon, spw outside the receiver …)."""


class UnknownPreset(PlError):
    """No preset of that name."""


class UnknownFault(PlError):
    """No fault of that name, or a parameter it does not have."""
