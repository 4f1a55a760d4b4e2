"""Names of caltables that users give."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pl_kernel.common.tablenames import check_table_name
from pl_kernel.errors import InputError


def state(*tables: str) -> SimpleNamespace:
    rows = [SimpleNamespace(calfroms=[SimpleNamespace(gaintable=t)]) for t in tables]
    return SimpleNamespace(registrations=rows)


RUN = SimpleNamespace(
    calibration=SimpleNamespace(active=state("a.tsyscal.tbl"), applied=state("old.tbl")),
    context=SimpleNamespace(measurement_sets=(SimpleNamespace(path="a.ms"), SimpleNamespace(path="b.ms"))),
)


@pytest.mark.parametrize("name", ["a.ms", "a.tsyscal.tbl", "old.tbl", "../a.tbl", "/tmp/a.tbl", ".", ".."])
def test_nothing_that_the_run_has_is_written_over(name: str) -> None:
    with pytest.raises(InputError):
        check_table_name(RUN, name, RUN.context.measurement_sets[:1], "caltable")  # type: ignore[arg-type]


def test_one_name_is_for_one_measurement_set() -> None:
    sets = RUN.context.measurement_sets
    with pytest.raises(InputError, match="One outfile cannot name"):
        check_table_name(RUN, "new.tbl", sets, "outfile")  # type: ignore[arg-type]
    check_table_name(RUN, "new.tbl", sets[:1], "outfile")  # type: ignore[arg-type]
    check_table_name(RUN, None, sets, "outfile")  # type: ignore[arg-type]
