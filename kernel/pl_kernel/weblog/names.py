"""Names from data made safe for files, anchors and links.

A field may be called ``<b>x</b>``, ``A"B'`` or ``../x``: what comes out of here holds letters, digits, ``_``, ``.``
and ``-`` only, never starts with a dot, and two different names never become the same one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def slug(name: str, limit: int = 80) -> str:
    """Return `name` as a safe file name or anchor of at most `limit` characters (limit >= 16).

    Plain names come back unchanged.  A name that had to be altered carries a short hash of the original, so that
    different names stay different.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    plain = _UNSAFE.sub("_", plain).strip("._-")
    if plain == name and len(plain) <= limit:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[: limit - 9].rstrip('._-')}-{digest}" if plain else f"x-{digest}"


def anchor(text: str) -> str:
    """Return a readable, lower-case anchor for a title such as ``Solutions per antenna``."""
    words = text.lower().replace(" ", "-")
    return slug(words, 60)
