"""The only place that imports casatools and casatasks, and only ever in worker processes.

``Casa`` makes every task call a record; ``configure`` finds CASA's data without a network or a prompt.
"""

from __future__ import annotations

from .adapter import Casa, Files
from .config import configure
from .records import CallRecord, LogRecord, Recorder

__all__ = ["CallRecord", "Casa", "Files", "LogRecord", "Recorder", "configure"]
