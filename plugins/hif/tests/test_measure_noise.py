"""The noise that visibilities promise, against the law they were drawn from."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pl_hif import measure

SIGMA, CHANNELS = 2.0, 16
PAIRS = np.array(list(itertools.combinations(range(7), 2)))


class Rows:
    """A main table of 7 antennas and 100 integrations: noise of SIGMA; antenna 6 is flagged, and so is channel 3."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.ends = np.tile(PAIRS, (100, 1))
        shape = (2, CHANNELS, len(self.ends))
        self.data = SIGMA * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
        self.flag = np.zeros(shape, bool)
        self.flag[:, 3] = True
        self.flag[:, :, (self.ends == 6).any(axis=1)] = True
        self.taken = 0

    def query(self, _text: str) -> Rows:
        return self

    def nrows(self) -> int:
        return len(self.ends)

    def getcell(self, _name: str, row: int) -> Any:
        return self.flag[..., row]

    def getcol(self, name: str, start: int = 0, count: int = -1, step: int = 1) -> Any:
        if name == "SPECTRAL_WINDOW_ID":
            return np.array([0])
        found = {"DATA": self.data, "FLAG": self.flag, "ANTENNA1": self.ends[:, 0], "ANTENNA2": self.ends[:, 1]}[name]
        self.taken = found[..., ::step].shape[-1]
        return found[..., ::step]

    def close(self) -> None:
        pass


def noise_of(rows: Rows, most: int) -> measure.Expected:
    @contextlib.contextmanager
    def table(_path: str) -> Iterator[Rows]:
        yield rows

    part = SimpleNamespace(path="a.ms", spw="0", field=0, column="data")
    target: Any = SimpleNamespace(selections=[part], specmode="mfs", antennas=7, uvrange="")
    return measure.expected_noise(SimpleNamespace(casa=SimpleNamespace(table=table)), target, most_rows=most)


@pytest.mark.parametrize("most", [10_000, 700, 300])
def test_noise_is_that_of_all_visibilities_although_only_some_are_looked_at(most: int) -> None:
    # 15 baselines without antenna 6, 100 integrations, 15 channels, two hands.
    rows = Rows()
    found = noise_of(rows, most)
    assert found.rms == pytest.approx(SIGMA / np.sqrt(15 * 100 * 15 * 2), rel=0.04)
    assert found.antennas == 6
    assert rows.taken <= most


def test_rows_looked_at_are_of_all_baselines() -> None:
    # Every third row of 21 baselines would be of 7 baselines; every fourth is of all.
    assert measure._sample_step(2100, 700, 7) == 4
    assert measure._sample_step(2100, 5000, 7) == 1
    assert len({row % 21 for row in range(0, 2100, 4)}) == 21
