"""Where work runs: warm worker processes beside the kernel, one task and one thread each."""

from __future__ import annotations

from .process import Worker

__all__ = ["Worker"]
