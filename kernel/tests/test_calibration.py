"""Claims about the calibration library, held against a brute-force dictionary of cells."""

import time
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pl_kernel.calibration import CalApplication, CalFrom, CalLibrary, CalTo, GainArguments
from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.samples import SampleScan, sample_ms
from pl_kernel.serialize import dumps, loads

SCANS = (
    SampleScan(0, "BANDPASS,AMPLITUDE"),
    SampleScan(0, "PHASE"),
    SampleScan(1, "PHASE", (0, 1)),
    SampleScan(2, ("TARGET", "REFERENCE"), (1, 2)),
    SampleScan(3, "TARGET", (2,)),
)
MS = sample_ms(fields=("bp", "ph", "t 1", "t2"), scans=SCANS, n_spws=3, n_antennas=3)
NO_INTENTS = sample_ms("old.ms", fields=("a", "b"), scans=(SampleScan(0), SampleScan(1)), n_spws=2)

Cell = tuple[int, int, int, str]
Truth = dict[Cell, tuple[str, ...]]
FIELD_IDS = {"": {0, 1, 2, 3}, "bp": {0}, "ph": {1}, '"t 1",t2': {2, 3}, "0~2": {0, 1, 2}}
SPW_IDS = {"": {0, 1, 2}, "0": {0}, "1~2": {1, 2}, "0:3~9": {0}}
ANTENNA_IDS = {"": {0, 1, 2}, "ant01": {0}, "ant02,ant03": {1, 2}}
INTENTS = {"": None, "PHASE": {"PHASE"}, "TARGET,CHECK": {"TARGET", "CHECK"}, "BANDPASS": {"BANDPASS"}}


def cells(ms: MeasurementSet) -> list[Cell]:
    return sorted((a.id, s, f, i) for f, s, i in ms.observed for a in ms.antennas)


def inside(cell: Cell, to: CalTo) -> bool:
    """Whether a cell is selected, told from the tables above and not from the library."""
    antenna, spw, field, intents = cell
    wanted = INTENTS[to.intent]
    return (
        antenna in ANTENNA_IDS[to.antenna]
        and spw in SPW_IDS[to.spw]
        and field in FIELD_IDS[to.field]
        and (wanted is None or bool(wanted & set(intents.split(","))))
    )


def state_of(library: CalLibrary, ms: MeasurementSet, state: str = "active") -> Truth:
    """The dictionary of cells that the merged entries describe; an entry may not claim a cell twice."""
    found: Truth = {}
    for entry in library.query(ms, state=state):
        for cell in cells(ms):
            a, s, f, i = cell
            if a in entry.antenna_ids and s in entry.spw_ids and f in entry.field_ids and i in entry.intent_sets:
                assert cell not in found
                found[cell] = tuple(c.gaintable for c in entry.calfroms)
    return found


calto = st.builds(
    CalTo,
    vis=st.just("sample.ms"),
    field=st.sampled_from(sorted(FIELD_IDS)),
    spw=st.sampled_from(sorted(SPW_IDS)),
    antenna=st.sampled_from(sorted(ANTENNA_IDS)),
    intent=st.sampled_from(sorted(INTENTS)),
)
table = st.sampled_from(["a.tbl", "b.tbl", "c.tbl"])
step = st.one_of(
    st.tuples(st.just("add"), calto, st.lists(table, min_size=1, max_size=2)),
    st.tuples(st.just("unregister"), table),
    st.tuples(st.just("apply"), calto),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(step, max_size=8))
def test_any_history_gives_the_lists_that_a_dictionary_of_cells_gives(history: list[tuple]) -> None:  # type: ignore[type-arg]
    library = CalLibrary()
    active: dict[Cell, list[str]] = {cell: [] for cell in cells(MS)}
    applied: dict[Cell, list[tuple[int, str]]] = {cell: [] for cell in cells(MS)}
    for action in history:
        if action[0] == "add":
            _, to, tables = action
            library = library.add(CalApplication(to, tuple(CalFrom(t) for t in tables)))
            for cell in active:
                if inside(cell, to):
                    active[cell] += tables
        elif action[0] == "unregister":
            library = library.unregister(lambda _, cal, name=action[1]: cal.gaintable == name)
            for cell in active:
                active[cell] = [t for t in active[cell] if t != action[1]]
        else:
            library = library.mark_applied(action[1])
            for cell in active:
                if inside(cell, action[1]):
                    applied[cell] += active[cell]
                    active[cell] = []
    assert state_of(library, MS) == {c: tuple(t) for c, t in active.items() if t}
    # What was applied first was also registered first, unless a later registration was applied before it elsewhere.
    assert {c: sorted(t) for c, t in state_of(library, MS, "applied").items()} == {
        c: sorted(t) for c, t in applied.items() if t
    }
    assert loads(dumps(library), CalLibrary) == library


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(calto, table), max_size=5), calto)
def test_a_query_gives_what_the_cells_of_its_selection_hold(added: list[tuple[CalTo, str]], asked: CalTo) -> None:
    library = CalLibrary()
    for to, name in added:
        library = library.add(CalApplication(to, CalFrom(name)))
    expected = {
        cell: tuple(name for to, name in added if inside(cell, to)) for cell in cells(MS) if inside(cell, asked)
    }
    found = {}
    for entry in library.query(MS, asked.field, asked.spw, asked.intent, asked.antenna):
        for cell in expected:
            a, s, f, i = cell
            if a in entry.antenna_ids and s in entry.spw_ids and f in entry.field_ids and i in entry.intent_sets:
                found[cell] = tuple(c.gaintable for c in entry.calfroms)
    assert found == {cell: tables for cell, tables in expected.items() if tables}


def library_of(*pairs: tuple[CalTo, Iterable[CalFrom]]) -> CalLibrary:
    library = CalLibrary()
    for to, froms in pairs:
        library = library.add(CalApplication(to, tuple(froms), origin="hif_bandpass"))
    return library


def test_order_of_registration_is_the_order_of_the_tables() -> None:
    library = library_of((CalTo(MS.name), [CalFrom("first")]), (CalTo(MS.name, intent="PHASE"), [CalFrom("second")]))
    assert library.for_solve(MS, field="ph", intent="PHASE") == {
        "gaintable": ["first", "second"],
        "gainfield": ["", ""],
        "spwmap": [[], []],
        "interp": ["linear,linear", "linear,linear"],
    }
    assert library.for_solve(MS, field="bp", intent="BANDPASS")["gaintable"] == ["first"]


def test_the_same_table_may_apply_twice() -> None:
    library = library_of((CalTo(MS.name), [CalFrom("x")]), (CalTo(MS.name), [CalFrom("x")]))
    assert library.for_solve(MS)["gaintable"] == ["x", "x"]


def test_weights_make_no_difference_to_a_solve_but_to_applycal() -> None:
    library = library_of(
        (CalTo(MS.name, spw="0"), [CalFrom("x", calwt=True)]), (CalTo(MS.name, spw="1~2"), [CalFrom("x", calwt=False)])
    )
    assert library.for_solve(MS)["gaintable"] == ["x"]
    assert len(library.merged(MS)) == 2
    assert GainArguments.of([CalFrom("x", calwt=False)]).for_apply()["calwt"] == [False]


def test_a_solve_over_data_with_different_tables_is_refused_and_can_be_split() -> None:
    library = library_of((CalTo(MS.name, field="bp"), [CalFrom("x")]))
    with pytest.raises(DataError, match="different calibration"):
        library.for_solve(MS)
    groups = library.solve_groups(MS)
    assert {(g.field, tuple(c.gaintable for c in g.calfroms)) for g in groups} == {
        ("bp", ("x",)),
        ('ph,"t 1",t2', ()),
    }


def test_nothing_registered_means_empty_lists() -> None:
    assert CalLibrary().for_solve(MS) == {"gaintable": [], "gainfield": [], "spwmap": [], "interp": []}
    assert CalLibrary().merged(MS) == ()


def test_everything_is_written_as_the_empty_selection() -> None:
    (entry,) = library_of((CalTo(MS.name, spw="0~2", antenna="ant01,ant02,ant03"), [CalFrom("x")])).merged(MS)
    assert (entry.field, entry.spw, entry.antenna, entry.intent) == ("", "", "", "")


def test_combinations_that_were_not_observed_do_not_split_a_merge() -> None:
    # Field ph was observed in windows 0 and 1 only, t2 in 2 only: one box covers both without touching other data.
    library = library_of(
        (CalTo(MS.name, field="ph", spw="0~1"), [CalFrom("x")]), (CalTo(MS.name, field="t2", spw="2"), [CalFrom("x")])
    )
    entries = library.merged(MS)
    assert state_of(library, MS) == {c: ("x",) for c in cells(MS) if (c[2], c[1]) in {(1, 0), (1, 1), (3, 2)}}
    assert len(entries) == 1


def test_marking_a_whole_measurement_set_leaves_nothing_active() -> None:
    library = library_of((CalTo(MS.name), [CalFrom("x")]), (CalTo("other.ms"), [CalFrom("y")]))
    done = library.mark_applied(MS.name)
    assert [r.region.vis for r in done.active.registrations] == ["other.ms"]
    assert done.merged(MS, state="applied") == library.merged(MS)


def test_union_and_difference_undo_each_other() -> None:
    one = library_of((CalTo(MS.name), [CalFrom("x")]))
    both = one.add(CalApplication(CalTo(MS.name, field="bp"), CalFrom("y")))
    added = both.difference(one)
    assert state_of(added, MS) == {c: ("y",) for c in cells(MS) if c[2] == 0}
    assert one.union(added) == both
    assert both.difference(both) == CalLibrary()


def test_unregister_by_predicate_and_by_origin() -> None:
    library = library_of((CalTo(MS.name), [CalFrom("x"), CalFrom("y", caltype="bandpass")]))
    assert library.unregister(lambda to, cal: cal.caltype == "bandpass").for_solve(MS)["gaintable"] == ["x"]
    assert library.unregister(lambda to, cal: to.vis == MS.name) == CalLibrary()
    assert library.unregister_origin("hif_bandpass") == CalLibrary()


def test_a_selection_that_matches_nothing_is_named() -> None:
    library = library_of((CalTo(MS.name, field="3C48"), [CalFrom("x")]))
    with pytest.raises(InputError, match=r"3C48.*sample\.ms.*bp, ph"):
        library.merged(MS)


# ---- text ----


def test_text_lines_are_as_the_observatories_write_them() -> None:
    library = library_of(
        (CalTo(MS.name, field="bp", spw="0"), [CalFrom("x.bcal", "bp", "nearest", (0, 0, 0), "bandpass")])
    )
    assert library.export_text([MS]) == (
        "applycal(vis='sample.ms', field='bp', intent='', spw='0', antenna='', gaintable='x.bcal', gainfield='bp', "
        "spwmap=[0, 0, 0], interp='nearest', calwt=True)\n"
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(calto, table), max_size=5))
def test_export_then_import_gives_the_same_data_the_same_tables(added: list[tuple[CalTo, str]]) -> None:
    library = CalLibrary()
    for to, name in added:
        library = library.add(CalApplication(to, CalFrom(name)))
    try:
        text = library.export_text([MS])
    except DataError as error:
        # Rows on the source and off it differ in their words, so this cannot happen with these data.
        raise AssertionError(error) from error
    back = CalLibrary().import_text(text, [MS], caltypes=lambda _: "unknown")
    assert state_of(back, MS) == state_of(library, MS)
    assert back.export_text([MS]) == text


def test_lines_of_the_reference_pipeline_are_read() -> None:
    text = (
        "# comment\nprint('no')\n"
        "applycal(vis='/a/b/sample.ms', field='bp,ph', intent='WORD_PHASE#ON', spw='0,1', antenna='0~2', "
        "gaintable=['x.tsyscal.tbl', 'x.s12_2.bcal.tbl', 'x.gpcal.tbl'], gainfield=['bp', '', 'nearest'], "
        "spwmap=[[0, 0], [], []], interp=['linear,linear', 'linear', 'linear,linear'], calwt=[True, True, False])"
    )
    library = CalLibrary().import_text(text, [MS])
    (registration,) = library.active.registrations
    assert registration.region.within[0] == CalTo("sample.ms", "bp,ph", "0,1", "0~2", "PHASE")
    assert [c.caltype for c in registration.calfroms] == ["tsys", "bandpass", "gaincal"]
    assert [c.spwmap for c in registration.calfroms] == [(0, 0), (), ()]
    assert [c.calwt for c in registration.calfroms] == [True, True, False]


@pytest.mark.parametrize(
    "line",
    [
        "applycal(vis='a.ms', gaintable=__import__('os').system('true'))",
        "applycal(vis='a.ms', gaintable=[x for x in ['a']])",
        "applycal(vis='a.ms', gaintable='x.bcal'",
        "applycal('a.ms', gaintable='x.bcal')",
        "applycal(vis='a.ms')",
        "applycal(vis='a.ms', gaintable='mystery.tbl')",
        "applycal(vis='a.ms', gaintable=['a.bcal'], interp=['linear', 'nearest'])",
        "applycal(**{'vis': 'a.ms', 'gaintable': 'x.bcal'})",
        "applycal(vis='a.ms', gaintable='x.bcal', intent='CALIBRATE_NOTHING#ON')",
    ],
)
def test_lines_that_are_no_plain_applycal_are_refused_with_their_number(line: str) -> None:
    with pytest.raises(InputError) as caught:
        CalLibrary().import_text("\n" + line, [], source="x.calapply.txt")
    assert "line 2" in str(caught.value) or "CALIBRATE_NOTHING" in str(caught.value)


def test_old_data_without_intents_are_selected_by_field() -> None:
    ms = NO_INTENTS.with_intents({0: ["BANDPASS"], 1: ["TARGET"]})
    library = library_of((CalTo(ms.name, intent="TARGET"), [CalFrom("x.gcal")]))
    (entry,) = library.merged(ms)
    assert entry.casa_selection(ms) == {"vis": "old.ms", "field": "b", "spw": "", "antenna": "", "intent": ""}


def test_rows_that_casa_cannot_tell_apart_are_refused() -> None:
    scans = (SampleScan(0, "PHASE"), SampleScan(0, "BANDPASS,PHASE"))
    ms = sample_ms(fields=("a",), scans=scans)
    library = library_of(
        (CalTo(ms.name, intent="BANDPASS"), [CalFrom("x.gcal")]), (CalTo(ms.name), [CalFrom("y.gcal")])
    )
    # BANDPASS,PHASE rows answer to BANDPASS alone; PHASE rows have no word of their own.
    entries = {e.intent_sets: e for e in library.merged(ms)}
    assert entries[frozenset(["BANDPASS,PHASE"])].casa_selection(ms)["intent"] == "WORD_BANDPASS#ON"
    with pytest.raises(DataError, match="cannot select"):
        entries[frozenset(["PHASE"])].casa_selection(ms)


def test_callibrary_text() -> None:
    library = library_of(
        (CalTo(MS.name), [CalFrom("x.bcal", interp="linear,spline", caltype="bandpass")]),
        (CalTo(MS.name, field="ph"), [CalFrom("y.gcal", "nearest", "linear", (0, 0, 0), "gaincal", False)]),
    )
    lines = library.to_callib(MS).splitlines()
    # Field ph was observed in windows 0 and 1.
    assert (
        "caltable='y.gcal' calwt=False field='ph' spw='0,1' tinterp='linear' fldmap='nearest' spwmap=[0, 0, 0]" in lines
    )
    assert any(line.startswith("caltable='x.bcal' calwt=True") and "finterp='spline'" in line for line in lines)


@pytest.mark.parametrize(
    "application",
    [
        CalApplication(CalTo(MS.name, antenna="ant01"), CalFrom("x")),
        CalApplication(CalTo(MS.name), CalFrom("x", gainfield="bp,ph")),
        CalApplication(CalTo(MS.name), CalFrom("x", caltype="uvcont")),
    ],
)
def test_what_a_callibrary_cannot_say_is_refused(application: CalApplication) -> None:
    with pytest.raises(DataError):
        CalLibrary().add(application).to_callib(MS)


# ---- speed ----


def test_twenty_large_measurement_sets_fold_in_100_ms() -> None:
    names = [f"f{i}" for i in range(30)]
    scans = tuple(SampleScan(i, ("BANDPASS,AMPLITUDE", "PHASE", "TARGET")[min(i, 2)]) for i in range(30))
    one = sample_ms("eb0.ms", fields=names, scans=scans, n_spws=40, n_antennas=45)
    sets = [one] + [sample_ms(f"eb{k}.ms", fields=names, scans=scans, n_spws=40, n_antennas=45) for k in range(1, 20)]
    # Processor time: other processes of the machine are no business of this test.
    begin = time.process_time()
    library = CalLibrary()
    for ms in sets:
        for k in range(15):
            intent = ("", "PHASE", "TARGET", "BANDPASS")[k % 4]
            to = CalTo(ms.name, intent=intent, spw="0~19" if k % 2 else "", field="f1" if k % 5 == 0 else "")
            library = library.add(CalApplication(to, CalFrom(f"{ms.name}.{k}.tbl")))
    for ms in sets:
        library = library.mark_applied(ms.name)
    seconds = time.process_time() - begin
    assert len(library.applied.registrations) == 300
    assert seconds < 0.1
    begin = time.process_time()
    assert all(library.merged(ms, state="applied") for ms in sets)
    assert time.process_time() - begin < 1.0
