"""The numbers of a reduction do not depend on how many workers it had, or where they were."""

from __future__ import annotations

import contextlib

import pytest

from pl_kernel.compute import Worker
from pl_kernel.drawing import Pages
from pl_kernel.recipe import loads
from pl_kernel.session import Session
from pl_kernel.testing.tables import differences
from pl_sim.testing import cached_simulation

RECIPE = """
name: two_blocks
stages:
  - hifv_importdata
  - hifv_flagdata: {fracspw: 0.05}
  - hifv_vlasetjy
  - hif_refant
  - hifv_priorcals
  - hif_bandpass
  - hif_gaincal: {calmode: ap, solint: inf}
  - hif_applycal
  - hifv_checkflag: {checkflagmode: target-vla}
  - hifv_statwt
  - hif_makeimlist: {specmode: cont}
  - hif_makeimages: {niter: 100}
"""


@pytest.mark.casa
@pytest.mark.slow
def test_one_two_and_four_workers_local_and_on_dask_give_the_same_flags_caltables_and_images(tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    blocks = [tmp_path / "day1.ms", tmp_path / "day2.ms"]
    for number, path in enumerate(blocks):
        path.symlink_to(cached_simulation("vla-two-blocks-d", block=number))
    scores = {}
    for name, workers in (("one", 1), ("two", 2), ("four", 4), ("dask", 2)):
        with contextlib.ExitStack() as stack:
            # Nobody looks at these pages, and drawing them would double the time.
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(Pages, "submit", lambda self, drawing: None)
            session = stack.enter_context(Session.create(tmp_path / name, loads(RECIPE), blocks, workers=workers))
            if name == "dask":
                cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
                session.use_scheduler(stack.enter_context(cluster).scheduler_address)
            outcome = session.run()
            assert outcome.status == "done", outcome.message
            scores[name] = [s.score for s in outcome.stages]
    assert scores["one"] == scores["two"] == scores["four"] == scores["dask"]
    tables = {p.name for p in (tmp_path / "one/work").iterdir() if (p / "table.dat").is_file()}
    assert len([t for t in tables if "hif_gaincal" in t]) == 2 and any(t.endswith(".image.tt0") for t in tables), tables
    with Worker(tmp_path / "compare.log") as worker:
        for name in ("two", "four", "dask"):
            assert worker.call(differences, tmp_path / "one/work", tmp_path / name / "work") == []
