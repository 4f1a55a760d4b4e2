"""The version of the observatory's converter (merge2), as its measurement sets carry it."""

from __future__ import annotations


def merge_version(release_date: float) -> str:
    """The number in OBSERVATION.RELEASE_DATE as text; empty when nothing was written there."""
    return f"{release_date:g}" if release_date else ""
