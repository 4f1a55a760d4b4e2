"""The page of a result without a renderer: plain values as facts, mappings and lists of records as tables."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_kernel.serialize import to_json
from pl_kernel.weblog.page import Page, text_of

_PLAIN_LIMIT = 200  # rows of a table made from a result without a renderer


def render_default(page: Page, result: Any) -> None:
    """Show the public fields of a result: plain values as facts, mappings and lists of records as tables."""
    skipped = {"effects", "notes", "failures"}
    values = {
        a.name: getattr(result, a.name)
        for a in (attrs.fields(type(result)) if attrs.has(type(result)) else ())
        if a.name not in skipped and not a.name.startswith("_")
    }
    plain = {_title(k): v for k, v in values.items() if _is_plain(v)}
    page.section("Result")
    if plain:
        page.facts(plain)
    for name, value in values.items():
        if not _is_plain(value):
            _value_table(page, _title(name), value)
    if not values:
        page.text("This stage reports nothing beyond its scores and its log.")


def _value_table(page: Page, caption: str, value: Any) -> None:
    data = to_json(value)
    if isinstance(data, dict) and {"dtype", "shape", "values"} <= data.keys():
        page.facts({caption: f"array of shape {tuple(data['shape'])}"})
        return
    if isinstance(data, dict):
        records = [{"": k} | (v if isinstance(v, dict) else {"Value": v}) for k, v in data.items()]
    elif isinstance(data, list):
        records = [v if isinstance(v, dict) else {"Value": v} for v in data]
    else:
        page.facts({caption: data})
        return
    if not records:
        page.facts({caption: "none"})
        return
    keys = list(dict.fromkeys(k for r in records for k in r))
    rows = [[_short(r.get(k)) for k in keys] for r in records[:_PLAIN_LIMIT]]
    more = f" (first {_PLAIN_LIMIT} of {len(records)})" if len(records) > _PLAIN_LIMIT else ""
    page.table([_title(k) or "Name" for k in keys], rows, caption=caption + more)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (str, int, float, bool, Enum, datetime, Path, np.generic)) or value is None:
        return True
    short = isinstance(value, (tuple, list)) and len(value) <= 12
    return short and all(isinstance(v, (str, int, float)) for v in value)


def _short(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, list) and all(isinstance(v, (str, int, float)) for v in value):
        text = ", ".join(text_of(v) for v in value)
    elif isinstance(value, dict):
        text = ", ".join(f"{k}: {text_of(_short(v))}" for k, v in value.items() if v not in (None, [], {}))
    else:
        text = "; ".join(str(_short(v)) for v in value)
    return text if len(text) <= 300 else text[:297] + "…"


def _title(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
