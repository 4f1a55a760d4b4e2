"""Claims about selection strings, virtual windows, intents and data types."""

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_kernel.errors import DataError, InputError, UnknownName
from pl_kernel.ms.datatypes import (
    ColumnType,
    DataType,
    default_types,
    history_messages,
    imaging_order,
    of_first_type,
    parse_column_types,
    types_from_history,
    with_type,
)
from pl_kernel.ms.intents import (
    GENERIC_VOCABULARY,
    Exclusion,
    IntentRule,
    IntentVocabulary,
    IntentWord,
    parse_intents,
    parse_rule,
    read_rules,
)
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.samples import SampleScan, sample_ms
from pl_kernel.ms.selection import (
    SpwPart,
    clean_file_name,
    clean_name,
    compact_ids,
    expand_ids,
    format_spw,
    join_names,
    parse_spw,
    quote_name,
    select_by_name,
    split_names,
)
from pl_kernel.ms.virtual import RealSpw, VirtualSpw, VirtualSpws, names_match

# ---- ids and names ----


def test_ids_are_written_as_casa_ranges() -> None:
    assert compact_ids([3, 1, 0, 2, 5, 5, 8, 7]) == "0~3,5,7,8"
    assert compact_ids([]) == ""


@given(st.sets(st.integers(0, 200)))
def test_compact_ids_expand_to_the_same_ids(ids: set[int]) -> None:
    assert set(expand_ids(compact_ids(ids))) == ids


def test_what_is_no_id_is_named() -> None:
    with pytest.raises(InputError, match="'x3' in '1,x3'"):
        expand_ids("1,x3")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("3C286", "3C286"),
        ("1331", '"1331"'),
        ("M 51", '"M 51"'),
        ("a=b*", '"a=b*"'),
        ("J1+0_2-3", "J1+0_2-3"),
        ('A"B', '"A?B"'),
    ],
)
def test_names_are_quoted_where_casa_would_misread_them(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted


@pytest.mark.parametrize("name", ["../../etc/passwd", "<b>x</b>", "A\"B'", "", "..", "a/b", "näme", "~"])
def test_cleaned_names_are_safe_in_file_names(name: str) -> None:
    for cleaned in (clean_name(name), clean_file_name(name)):
        assert cleaned
        assert not cleaned.startswith(".")
        assert set(cleaned) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_.")


def test_commas_inside_quotes_do_not_split() -> None:
    assert split_names('"a,b", c ,,"d"') == ('"a,b"', "c", '"d"')
    assert join_names(["a", "b c", "a"]) == 'a,"b c"'


NAMES = {0: "3C286", 1: "7", 2: "M[51]", 3: "J1407+28", 7: "J1408+28"}


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        ("", (0, 1, 2, 3, 7)),
        ("3C286,M[51]", (0, 2)),
        ("J14*", (3, 7)),
        ("J140?+28", (3, 7)),
        ("7", (7,)),
        ('"7"', (1,)),
        ("0~2", (0, 1, 2)),
        (">2", (3, 7)),
        ("<1", (0,)),
        ("!3C286", (1, 2, 3, 7)),
        ("J14*,!J1408+28", (3,)),
    ],
)
def test_fields_are_selected_as_in_casa(selection: str, ids: tuple[int, ...]) -> None:
    assert select_by_name(selection, NAMES, "field") == ids


def test_antennas_called_by_numbers_are_names_first() -> None:
    # Tried with ms.msselect on a set whose antennas are '1' to '28' with ids 0 to 27: '1' selects id 0.
    names = {i: str(i + 1) for i in range(28)}
    assert select_by_name("1", names, "antenna", names_first=True) == (0,)
    assert select_by_name("1", names, "field") == (1,)


def test_selection_that_matches_nothing_lists_what_there_is() -> None:
    with pytest.raises(InputError, match=r"No field matches 'M31' in x\.ms; there are: 3C286"):
        select_by_name("M31", NAMES, "field", where=" in x.ms")


def test_spw_selections() -> None:
    known = [0, 1, 2, 5]
    assert parse_spw("", known=known) == tuple(SpwPart(i) for i in known)
    assert parse_spw("0:4~10;20,2", known=known) == (SpwPart(0, "4~10;20"), SpwPart(2))
    assert parse_spw("1~5:3", known=known) == (SpwPart(1, "3"), SpwPart(2, "3"), SpwPart(5, "3"))
    assert parse_spw("*:1~2", known=[0]) == (SpwPart(0, "1~2"),)
    assert parse_spw("9", known=known) == ()
    assert parse_spw("low", known=known, names={"low": 5}) == (SpwPart(5),)
    assert format_spw(parse_spw("0~2,5:3~4", known=known)) == "0~2,5:3~4"
    with pytest.raises(InputError, match="nonsense"):
        parse_spw("nonsense", known=known)


def test_channels_of_a_selection_are_clipped_to_the_window() -> None:
    assert SpwPart(0, "4~10;60~99").channel_ranges(64) == ((4, 10), (60, 63))
    assert SpwPart(0).channel_ranges(64) == ((0, 63),)
    assert SpwPart(0, "0~6^3").channel_ranges(64) == ((0, 0), (3, 3), (6, 6))
    assert SpwPart(0, "99").channel_ranges(64) == ()
    with pytest.raises(InputError, match="no range of channels"):
        SpwPart(0, "1.2~1.3GHz").channel_ranges(64)


# ---- virtual windows ----

PREFIXED = "X105#BAND_03#BB_1#SW-01#FULL_RES"


def test_names_match_when_one_ends_in_the_other() -> None:
    assert names_match(PREFIXED, "BAND_03#BB_1#SW-01#FULL_RES")
    assert not names_match(PREFIXED, "BAND_03#BB_2#SW-01#FULL_RES")
    assert not names_match("BAND#A5", "A5")  # too short to be told by its end
    assert names_match("A5", "A5")


def with_names(ms: str, **names: str) -> MeasurementSet:
    return sample_ms(ms, n_spws=len(names), spw_names={int(k[1:]): v for k, v in names.items()})


def test_ids_of_the_first_set_are_the_virtual_ids_and_others_follow_by_name() -> None:
    table = VirtualSpws.of(
        [with_names("a.ms", s0="WIDE#1", s1="WIDE#2"), with_names("b.ms", s0="P7#WIDE#2", s1="P7#WIDE#1", s2="NEW#9")]
    )
    assert table.ids == (0, 1, 2)
    assert table.to_real(VirtualSpw(0), "b.ms") == 1
    assert table.to_real(VirtualSpw(1), "b.ms") == 0
    assert table.to_virtual(RealSpw(2), "b.ms") == 2
    assert table.between(RealSpw(1), "a.ms", "b.ms") == 0


def test_a_new_window_whose_id_is_taken_gets_the_next_free_one_and_a_note() -> None:
    table = VirtualSpws.of([with_names("a.ms", s0="WIDE#1", s1="WIDE#2"), with_names("b.ms", s0="OTHER#1")])
    assert table.to_virtual(RealSpw(0), "b.ms") == 2
    assert "called 2" in table.problems[0]


def test_a_window_missing_from_one_set_is_a_normal_answer() -> None:
    table = VirtualSpws.of([with_names("a.ms", s0="WIDE#1", s1="WIDE#2"), with_names("b.ms", s0="WIDE#2")])
    assert table.to_real(VirtualSpw(0), "b.ms") is None
    assert table.between(RealSpw(0), "a.ms", "b.ms") is None
    assert table.selection_to_real("0:3~9,1:5", "b.ms") == "0:5"
    assert table.selection_to_real("0", "b.ms") is None
    assert table.selection_to_real("", "b.ms") == "0"
    assert table.selection_to_virtual("0:7", "b.ms") == "1:7"
    assert table.to_real(VirtualSpw(0), "absent.ms") is None


def test_windows_without_names_of_their_own_go_by_number() -> None:
    table = VirtualSpws.of([with_names("a.ms", s0="none", s1="none"), with_names("b.ms", s0="none", s1="none")])
    assert [table.to_real(VirtualSpw(v), "b.ms") for v in (0, 1)] == [0, 1]


def test_a_window_that_fits_several_is_left_out_and_named() -> None:
    table = VirtualSpws.of([with_names("a.ms", s0="P1#WIDE#1", s1="P2#WIDE#1"), with_names("b.ms", s0="WIDE#1")])
    assert table.to_virtual(RealSpw(0), "b.ms") is None
    assert "matches several" in table.problems[0]


# ---- intents ----


@pytest.mark.parametrize(
    ("mode", "intents"),
    [
        ("CALIBRATE_BANDPASS#ON_SOURCE,CALIBRATE_PHASE#ON_SOURCE", {"BANDPASS", "PHASE"}),
        ("CALIBRATE_FLUX.ON_SOURCE", {"AMPLITUDE"}),
        ("OBSERVE_TARGET#ON_SOURCE", {"TARGET"}),
        ("OBSERVE_TARGET#OFF_SOURCE", {"REFERENCE"}),
        ("OBSERVE_TARGET_ON_SOURCE", {"TARGET"}),
        ("OBSERVE_TARGET#UNSPECIFIED", {"TARGET"}),
        ("CALIBRATE_POL_LEAKAGE#ON_SOURCE", {"POLLEAKAGE"}),
        ("CALIBRATE_POL_ANGLE#ON_SOURCE", {"POLANGLE"}),
        ("CALIBRATE_DIFFGAIN#REFERENCE", {"DIFFGAINREF"}),
        ("CALIBRATE_DIFFGAIN#ON_SOURCE", {"DIFFGAINSRC"}),
        ("CALIBRATE_ATMOSPHERE#AMBIENT", {"ATMOSPHERE"}),
        ("CALIBRATE_SIDEBAND_RATIO#ON_SOURCE", {"SIDEBAND"}),
        ("SYSTEM_CONFIGURATION#UNSPECIFIED", {"SYSTEM_CONFIGURATION"}),
        ("OBSERVE_CHECK_SOURCE#ON_SOURCE", {"CHECK"}),
        ("MAP_ANTENNA_SURFACE#ON_SOURCE", set()),
        ("", set()),
    ],
)
def test_words_of_the_science_data_model(mode: str, intents: set[str]) -> None:
    assert GENERIC_VOCABULARY.intents_of(mode) == intents


def test_a_telescope_can_use_a_word_in_its_own_sense() -> None:
    own = GENERIC_VOCABULARY.with_words(IntentWord("CALIBRATE_AMPLI", "PHASE"))
    assert own.intents_of("CALIBRATE_AMPLI#UNSPECIFIED") == {"PHASE"}
    assert GENERIC_VOCABULARY.intents_of("CALIBRATE_AMPLI#UNSPECIFIED") == {"AMPLITUDE"}


def test_an_intent_can_be_dropped_beside_another_in_old_data() -> None:
    rule = Exclusion("PHASE", frozenset(["BANDPASS", "AMPLITUDE"]), before=dt.datetime(2013, 1, 21, tzinfo=dt.UTC))
    vocabulary = IntentVocabulary(GENERIC_VOCABULARY.words, exclusions=(rule,))
    mode = "CALIBRATE_BANDPASS#ON_SOURCE,CALIBRATE_PHASE#ON_SOURCE"
    assert vocabulary.intents_of(mode, dt.datetime(2012, 6, 1, tzinfo=dt.UTC)) == {"BANDPASS"}
    assert vocabulary.intents_of(mode, dt.datetime(2014, 6, 1, tzinfo=dt.UTC)) == {"BANDPASS", "PHASE"}


def test_rules() -> None:
    assert parse_rule("bandpass, AMPLITUDE=1331+305*") == IntentRule(("BANDPASS", "AMPLITUDE"), ("1331+305*",))
    assert parse_rule('PHASE=a;"b c"') == IntentRule(("PHASE",), ("a", "b c"))
    for wrong in ("PHASE", "=x", "PHASE="):
        with pytest.raises(InputError, match="no intents rule"):
            parse_rule(wrong)
    with pytest.raises(UnknownName, match="Did you mean 'BANDPASS'"):
        parse_rule("BANDPAS=x")
    assert parse_intents("phase,,PHASE, target") == ("PHASE", "TARGET")


@pytest.mark.parametrize(
    "text",
    [
        "BANDPASS,AMPLITUDE: [1331+305*]\nPHASE: 1445+0990*\n",
        "# the rules\nBANDPASS,AMPLITUDE=1331+305*\nPHASE=1445+0990*  # near the target\n",
    ],
)
def test_intents_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "intents.txt"
    path.write_text(text)
    assert read_rules(path) == (
        IntentRule(("BANDPASS", "AMPLITUDE"), ("1331+305*",)),
        IntentRule(("PHASE",), ("1445+0990*",)),
    )


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "PHASE: {x: 1}\n", "PHAZE: x\n", "[", "PHAZE=x\n", "PHASE: []\n"])
def test_wrong_intents_files_are_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "intents.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"intents\.txt") as caught:
        read_rules(path)
    assert "\n" not in str(caught.value)


OLD = sample_ms(
    "old.ms", fields=("1331+30500002", "1445+09900002", "N5921 [HI]"), scans=tuple(SampleScan(i) for i in range(3))
)


def test_rules_give_old_data_their_intents() -> None:
    assert OLD.intents == frozenset()
    ms = OLD.with_intents(
        [parse_rule("BANDPASS,AMPLITUDE=1331*"), parse_rule("PHASE=1445*"), parse_rule("TARGET=N5921 [HI]")]
    )
    assert [sorted(f.intents) for f in ms.fields] == [["AMPLITUDE", "BANDPASS"], ["PHASE"], ["TARGET"]]
    assert [f.name for f in ms.fields_with_intent("BANDPASS")] == ["1331+30500002"]
    assert [s.id for s in ms.scans_with_intent("PHASE,TARGET")] == [2, 3]
    assert ms.spws[0].intents == {"AMPLITUDE", "BANDPASS", "PHASE", "TARGET"}
    assert ms.intents_from == "rules"
    assert ms.observing_modes("PHASE") == ()


def test_a_rule_that_fits_no_field_offers_near_matches() -> None:
    with pytest.raises(UnknownName, match=r"no field called '1445\+0990000' in old.ms. Did you mean '1445\+09900002'"):
        OLD.with_intents([parse_rule("PHASE=1445+0990000")])


# ---- data types ----


def test_choice_tables() -> None:
    assert imaging_order("TARGET", "mfs")[:2] == (DataType.IM_CONTLINE_SCIENCE, DataType.SELFCAL_CONTLINE_SCIENCE)
    assert imaging_order("TARGET", "cube")[:3] == (
        DataType.IM_LINE_SCIENCE,
        DataType.SELFCAL_LINE_SCIENCE,
        DataType.REGCAL_LINE_SCIENCE,
    )
    assert imaging_order("TARGET", "cont")[2] is DataType.REGCAL_CONT_SCIENCE
    assert imaging_order("TARGET", "repBW")[-1] is DataType.RAW
    assert imaging_order("PHASE", "cube") == (DataType.REGCAL_CONTLINE_ALL, DataType.RAW)
    with pytest.raises(UnknownName, match="specmode"):
        imaging_order("TARGET", "cubes")


def test_one_column_holds_one_type() -> None:
    types = with_type((), ColumnType(DataType.RAW, "DATA"))
    types = with_type(types, ColumnType(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA"))
    with pytest.raises(DataError, match="CORRECTED_DATA already holds REGCAL_CONTLINE_ALL"):
        with_type(types, ColumnType(DataType.SELFCAL_CONTLINE_SCIENCE, "CORRECTED_DATA"))
    replaced = with_type(types, ColumnType(DataType.SELFCAL_CONTLINE_SCIENCE, "CORRECTED_DATA"), overwrite=True)
    assert [t.data_type.name for t in replaced] == ["RAW", "SELFCAL_CONTLINE_SCIENCE"]
    assert with_type(types, ColumnType(DataType.RAW, "DATA")) == types


def test_types_can_be_limited_to_sources_and_windows() -> None:
    types = with_type((), ColumnType(DataType.RAW, "DATA", frozenset(["a"]), frozenset([0])))
    types = with_type(types, ColumnType(DataType.BASELINED, "DATA", frozenset(["b"])))
    ms = sample_ms().with_data_type(DataType.BASELINED, "CORRECTED_DATA", sources=["b"], spws=[1])
    assert len(types) == 2
    assert ms.column_of(DataType.BASELINED, source="b", spw=1) == "CORRECTED_DATA"
    assert ms.column_of(DataType.BASELINED, source="a") is None
    assert ms.column_of(DataType.BASELINED) == "CORRECTED_DATA"
    assert ms.latest_type is DataType.BASELINED
    assert "CORRECTED_DATA" in ms.columns


def test_the_first_type_that_any_set_has_decides() -> None:
    raw = sample_ms("a.ms")
    calibrated = sample_ms("b.ms").with_data_type(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA")
    assert of_first_type([raw, calibrated], [DataType.REGCAL_CONTLINE_ALL, DataType.RAW]) == (calibrated,)
    assert of_first_type([raw, calibrated], [DataType.BASELINED, DataType.RAW]) == (raw, calibrated)
    assert of_first_type([raw], [DataType.BASELINED]) == ()


def test_user_maps() -> None:
    assert parse_column_types({"data": "raw", "corrected": "regcal_contline"}, only_targets=False) == (
        ColumnType(DataType.RAW, "DATA"),
        ColumnType(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA"),
    )
    (target,) = parse_column_types({"CORRECTED_DATA": "regcal_contline"}, only_targets=True)
    assert target.data_type is DataType.REGCAL_CONTLINE_SCIENCE
    with pytest.raises(UnknownName, match="data type"):
        parse_column_types({"data": "raaw"}, only_targets=False)
    with pytest.raises(UnknownName, match="data column"):
        parse_column_types({"model": "raw"}, only_targets=False)
    assert [t.column for t in default_types(["DATA", "CORRECTED_DATA"])] == ["DATA", "CORRECTED_DATA"]
    assert [t.column for t in default_types(["FLOAT_DATA"])] == ["FLOAT_DATA"]


def test_types_survive_history() -> None:
    types = (
        ColumnType(DataType.RAW, "DATA"),
        ColumnType(DataType.REGCAL_CONTLINE_SCIENCE, "CORRECTED_DATA", frozenset(["it's"]), frozenset([0, 3])),
    )
    assert types_from_history(history_messages(types)) == types


def test_history_of_the_reference_is_read_and_damage_is_ignored() -> None:
    reference = [
        "data_type_per_column = {<DataType.RAW: 1>: 'DATA', <DataType.REGCAL_CONTLINE_ALL: 2>: 'CORRECTED_DATA'}",
        "data_types_per_source_and_spw = {('M51', 0): [<DataType.RAW: 1>], ('M51', 1): [<DataType.RAW: 1>]}",
    ]
    raw, calibrated = types_from_history(reference)
    assert (raw.column, raw.sources, raw.spws) == ("DATA", frozenset(["M51"]), frozenset([0, 1]))
    assert (calibrated.data_type, calibrated.column) == (DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA")
    assert types_from_history(["data_type_per_column = {"]) == ()
    assert types_from_history(["data_type_per_column = __import__('os')"]) == ()
    assert types_from_history(["taskname=split"]) == ()
