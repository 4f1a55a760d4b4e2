"""The command line: ``pl …``."""

from .app import main

__all__ = ["main"]
