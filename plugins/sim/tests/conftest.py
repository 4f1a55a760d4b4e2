"""Simulated sets for the tests of this package: each made once per session, in this process, in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest


@attrs.frozen
class Rows:
    """Main-table columns of a set, rows first; data (row, channel, correlation)."""

    data: Any
    columns: dict[str, Any]


def read(path: Path, column: str = "DATA") -> Rows:
    from pl_sim.casa import open_table

    names = ("TIME", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER", "FIELD_ID", "DATA_DESC_ID", "STATE_ID")
    with open_table(path) as tb:
        columns = {n: tb.getcol(n) for n in names}
        columns["UVW"] = tb.getcol("UVW").T
        return Rows(tb.getcol(column).transpose(2, 1, 0), columns)


@pytest.fixture(scope="session")
def read_rows() -> Callable[..., Rows]:
    """A function that reads the main table of a set whose rows all have one shape."""
    return read


@pytest.fixture(scope="session")
def base_observation() -> Any:
    """C band, eight antennas, four spws of 32 channels, full polarization."""
    from pl_sim.presets import get_preset

    return get_preset("vla-c-cont-d").observations("tiny")[0]


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory, base_observation: Any) -> tuple[Path, Rows]:
    """The base observation without faults: (path, rows)."""
    from pl_sim.engine import simulate

    path = simulate(base_observation, tmp_path_factory.mktemp("clean") / "clean.ms")
    return path, read(path)


@pytest.fixture(scope="session")
def region_mask() -> Callable[..., Any]:
    """A function (truth, rows, severities) -> bool array of the visibilities in the truth's boxes."""

    def mask(truth: Any, rows: Rows, severities: tuple[str, ...]) -> Any:
        columns = {
            **rows.columns,
            "SPW": rows.columns["DATA_DESC_ID"],
            "FIELD": np.array(list(truth.fields))[rows.columns["FIELD_ID"]],
        }
        out = np.zeros(rows.data.shape, bool)
        for region, inside in truth.bad_rows(columns, severities):
            channels = region.channel_mask(rows.data.shape[1])
            hands = region.correlation_mask(truth.record["spws"][0]["correlations"])
            out[np.ix_(np.nonzero(inside)[0], np.nonzero(channels)[0], np.nonzero(hands)[0])] = True
        return out

    return mask
