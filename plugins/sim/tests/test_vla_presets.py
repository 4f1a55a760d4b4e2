"""CASA alone, without any pipeline, finds in each preset what was put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pl_kernel.compute import Worker
from pl_sim.rawcasa import reduce_vla
from pl_sim.testing import make_set

pytestmark = [pytest.mark.casa, pytest.mark.slow]

PRESETS = (
    "vla-c-cont-a",
    "vla-c-cont-d",
    "vla-ka-line-d",
    "vla-l-cont-a",
    "vla-l-line-d",
    "vla-multiband-d",
    "vla-x-cont-d",
    "vlass-s-b",
)


def reduced(preset: str, folder: Path, block: int = 0, image: bool = True) -> dict[str, Any]:
    """In a process of its own: CASA can kill the one it is in."""
    with Worker(folder / "casa.txt") as worker:
        vis = folder / "x.ms"
        worker.call(make_set, preset, "tiny", 1, (), block, str(vis))
        size = sum(f.stat().st_size for f in vis.rglob("*") if f.is_file())
        return {**worker.call(reduce_vla, str(vis), str(folder), image), "bytes": size}


def check(result: dict[str, Any]) -> None:
    assert result["online_completeness"] == 1.0
    assert result["delay_worst_ns"] < 0.15
    assert result["gain_rms"] < 1.5 * result["gain_thermal"]
    assert result["flux_worst"] < 0.01, result["flux_errors"]
    # D-terms of about 0.05 against the reference antenna.
    assert result["leakage_rms"] is None or result["leakage_rms"] < 0.005
    # Of a mosaic, the mean over the fields: each has been seen for two seconds.
    ratio = np.mean(np.array(result["ratio"]), axis=0)
    assert abs(ratio[0] - 1) < 0.02 and abs(ratio[1]) < 0.03, ratio
    for real, imaginary in result["line_ratio"]:
        assert abs(real - 1) < 0.02 and abs(imaginary) < 0.03
    for component in result.get("components", ()):
        assert component["offset_beams"] < 0.1, component
        assert abs(component["flux_ratio"] - 1) < 0.05, component
        assert component["alpha_error"] is None or abs(component["alpha_error"]) < 0.1, component


@pytest.mark.parametrize("preset", PRESETS)
def test_casa_alone_recovers_the_truth(preset: str, tmp_path: Path):
    result = reduced(preset, tmp_path)
    check(result)
    assert result["components"]
    assert bool(result["line_ratio"]) == ("line" in preset)
    assert result["bytes"] < 20e6


def test_both_blocks_hold_the_same_target_with_gains_of_their_own(tmp_path: Path):
    from pl_sim.truth import Truth

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    check(reduced("vla-two-blocks-d", tmp_path / "two", block=1, image=False))
    with Worker() as worker:
        worker.call(make_set, "vla-two-blocks-d", "tiny", 1, (), 0, str(tmp_path / "one/x.ms"))
    first, second = Truth.load(tmp_path / "one/x.ms"), Truth.load(tmp_path / "two/x.ms")
    assert first.sources == second.sources
    assert not np.allclose(first.array("delay_s"), second.array("delay_s"), atol=1e-10)
    assert second.array("times")[0] - first.array("times")[-1] > 80_000
