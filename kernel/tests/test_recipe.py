"""Recipes from YAML, procedure XML and processing requests."""

import textwrap

import pytest

from pl_kernel.errors import DataError, InputError, UnknownName
from pl_kernel.params import Inputs, param
from pl_kernel.recipe import load, loads, problems, validate
from pl_kernel.recipe_xml import literal
from pl_kernel.recipe_yaml import to_yaml

YAML = """
name: my_procedure
title: My procedure
description: Two stages.
parameters:
  target: {default: null, doc: Field to image.}
  depth: {default: 3, unit: sigma}
needs: {intents: [BANDPASS, PHASE]}
demo:
  title: A small set
  data: ["casadata:__data__/demo/NGC5921.fits"]
stages:
  - my_import
  - my_flag: {quack: true, agents: [clip, shadow]}
  - my_image: {field: "${target}", title: "deep ${depth} sigma", depth: "${depth}"}
    when: intents contains TARGET and n_ms > 1
  - breakpoint
  - my_export:
"""


class FlagInputs(Inputs):
    quack: bool = param(False, doc="Quack.")
    agents: tuple[str, ...] = param((), doc="Agents.")
    clip: float | None = param(None, unit="Jy", doc="Clip above.")


class FakeStage:
    inputs_class = FlagInputs


class FakeRegistry:
    stages = {"my_import": 1, "my_flag": 1, "my_image": 1, "my_export": 1}

    def stage(self, name):
        return FakeStage


def recipe_of(stages, head=""):
    return loads(head + "\nstages:\n" + textwrap.indent(textwrap.dedent(stages), "  "))


def test_yaml_recipe_gives_steps_parameters_needs_and_demo():
    recipe = loads(YAML)
    assert (recipe.name, recipe.title) == ("my_procedure", "My procedure")
    assert [s.stage for s in recipe.steps] == ["my_import", "my_flag", "my_image", "breakpoint", "my_export"]
    assert recipe.stage_names == ("my_import", "my_flag", "my_image", "my_export")
    assert recipe.steps[1].parameters == {"quack": True, "agents": ["clip", "shadow"]}
    assert recipe.steps[2].when == "intents contains TARGET and n_ms > 1"
    assert recipe.steps[3].is_breakpoint
    assert recipe.needs.intents == ("BANDPASS", "PHASE")
    assert [(p.name, p.default, p.unit) for p in recipe.parameters] == [("target", None, ""), ("depth", 3, "sigma")]
    assert recipe.demo.data == ("casadata:__data__/demo/NGC5921.fits",)


def test_yaml_round_trip():
    recipe = loads(YAML)
    assert loads(to_yaml(recipe)) == recipe


def test_recipe_parameters_reach_the_steps_with_their_type():
    step = loads(YAML).bind({"target": "N5921", "depth": 4.5}).steps[2]
    assert step.parameters == {"field": "N5921", "title": "deep 4.5 sigma", "depth": 4.5}


def test_a_parameter_left_open_leaves_the_decision_to_the_stage():
    step = loads(YAML).bind().steps[2]
    assert step.parameters == {"title": "deep 3 sigma", "depth": 3}


def test_setting_an_unknown_recipe_parameter_names_the_near_one():
    with pytest.raises(UnknownName, match="Did you mean 'target'"):
        loads(YAML).bind({"traget": "N5921"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("just text", "no list of 'stages'"),
        ("stages: 3", "must be a list"),
        ("stages: [a]\nstagess: 1", "Did you mean 'stages'"),
        ("stages:\n  - a: {x: 1}\n    b: {y: 2}", "names 2"),
        ("stages:\n  - [a]", "stage 1"),
        ("stages:\n  - a: 3", "must be written as name: value"),
        ("stages:\n  - a:\n    when: n_ms >", "cannot be read"),
        ("stages: [", "is no YAML"),
        ("stages:\n  - a: {x: 1, x: 2}", "'x' is given twice"),
        ("stages:\n  - a: {x: '${y}'}", "no recipe parameter called 'y'"),
        ("x: &a [1]\nstages: [*a]", "without aliases"),
        ("stages: [!!python/object/apply:os.system [ls]]", "is no YAML"),
        ("needs: {intent: [PHASE]}\nstages: [a]", "intents"),
        ("demo: {data: ['casadata:../../etc/passwd']}\nstages: [a]", "no file of a package"),
        ("demo: {data: ['/etc/passwd']}\nstages: [a]", "no file of a package"),
        ("stages: " + "[" * 5000, "recipe"),
        ("? [a, b]\n: 1\nstages: [a]", "recipe"),
    ],
)
def test_broken_yaml_is_refused_with_a_sentence(text, says):
    with pytest.raises(InputError) as caught:
        loads(text, "the recipe r.yaml")
    assert says in caught.value.sentence
    assert "\n" not in caught.value.sentence


def test_missing_folder_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no recipe file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01stages")
    with pytest.raises(InputError, match="not text"):
        load(tmp_path / "binary.yaml")


def test_validation_names_stage_parameter_type_unit():
    registry = FakeRegistry()
    validate(recipe_of("- my_flag: {quack: true, clip: 100 mJy}"), registry)
    with pytest.raises(UnknownName, match="Did you mean 'my_flag'"):
        validate(recipe_of("- my_flagg"), registry)
    with pytest.raises(UnknownName, match="Did you mean 'quack'"):
        validate(recipe_of("- my_flag: {quak: true}"), registry)
    with pytest.raises(InputError, match="quack"):
        validate(recipe_of("- my_flag: {quack: 17.5}"), registry)
    with pytest.raises(InputError, match="clip"):
        validate(recipe_of("- my_flag: {clip: 3 m}"), registry)
    with pytest.raises(InputError, match="has no stage"):
        validate(recipe_of("- breakpoint"), registry)
    with pytest.raises(UnknownName, match="Did you mean 'my_flag'"):
        validate(recipe_of("- my_flag"), registry, {"my_flga": {"quack": "true"}})


def test_every_unknown_stage_is_named():
    found = problems(recipe_of("- my_import\n- other_one\n- my_flagg\n- other_two"), FakeRegistry())
    assert len(found) == 1
    for word in ("other_one", "my_flagg (near: my_flag)", "other_two"):
        assert word in found[0].sentence


# ---- XML -------------------------------------------------------------------------------------------------------------

PROCEDURE = """<?xml version="1.0" encoding="UTF-8"?>
<ProcessingProcedure>
  <ProcedureTitle>obs_cal</ProcedureTitle>
  <ProcessingCommand>
    <Command>obs_import</Command>
    <ParameterSet>
      <Parameter><Keyword>dbservice</Keyword><Value>True</Value></Parameter>
      <Parameter><Keyword>session</Keyword><Value></Value></Parameter>
      <Parameter><Keyword>spws</Keyword><Value>1,2,3</Value></Parameter>
    </ParameterSet>
  </ProcessingCommand>
  <ProcessingCommand><Command>breakpoint</Command><ParameterSet/></ProcessingCommand>
  <ProcessingCommand>
    <Command>obs_image</Command>
    <ParameterSet>
      <Parameter><Keyword>field</Keyword><Value>{{{field_list}}}</Value></Parameter>
      <Parameter><Keyword>width</Keyword><Value>{{width}}km/s</Value></Parameter>
    </ParameterSet>
  </ProcessingCommand>
</ProcessingProcedure>
"""


def test_procedure_xml_becomes_a_recipe():
    recipe = loads(PROCEDURE, "obs_cal.xml", "procedure_obs_cal")
    assert (recipe.name, recipe.title) == ("procedure_obs_cal", "obs_cal")
    assert [s.stage for s in recipe.steps] == ["obs_import", "breakpoint", "obs_image"]
    assert recipe.steps[0].parameters == {"dbservice": True, "spws": "1,2,3"}  # the empty value means unset
    assert {p.name for p in recipe.parameters} == {"field_list", "width"}
    assert recipe.bind({"field_list": "A&B", "width": 5}).steps[2].parameters == {"field": "A&B", "width": "5km/s"}
    assert loads(to_yaml(recipe)).steps == recipe.steps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # What the reference pipeline's own test of its parser expects (2026) ...
        ("1,2,3", "1,2,3"),
        ("(1,2,3)", (1, 2, 3)),
        ("[1,2,3]", [1, 2, 3]),
        ("true", True),
        ("False", False),
        ("['','table1.cal']", ["", "table1.cal"]),
        ("test1.ms,test2.ms", "test1.ms,test2.ms"),
        ("<12km", "<12km"),
        ("[[0,0,1,1],[0,1,0,1]]", [[0, 0, 1, 1], [0, 1, 0, 1]]),
        # ... and what the procedures hold besides
        ("60", 60),
        ("-1", -1),
        ("0.45", 0.45),
        ("1.5int", "1.5int"),
        ("'quoted'", "quoted"),
        ("3C286", "3C286"),
        ("0542+498", "0542+498"),
        ("vlass-se-tier-1", "vlass-se-tier-1"),
        ("*POINTING*,*FOCUS*", "*POINTING*,*FOCUS*"),
        ("{'data':'raw','corrected':'regcal_contline_all'}", {"data": "raw", "corrected": "regcal_contline_all"}),
        ("__import__('os').system('true')", "__import__('os').system('true')"),
        ("b'bytes'", "b'bytes'"),
        ("(" * 3000, "(" * 3000),
    ],
)
def test_values_in_xml_are_read_as_literals_and_never_run(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


REQUEST = """<?xml version="1.0" encoding="UTF-8"?>
<SciPipeRequest xmlns="Alma/pipelinescience/SciPipeRequest">
  <ProjectSummary>
    <ProposalCode xmlns="">2017.1.00001.S</ProposalCode>
    <Observatory xmlns="">Some Observatory</Observatory>
  </ProjectSummary>
  <ProjectStructure><AlmaStructure>
    <n:OUSStatusRef xmlns:n="Alma/Scheduling/OUSStatus" entityId="uid://A001/X34/X567"/>
  </AlmaStructure></ProjectStructure>
  <ProcessingRequests><ProcessingRequest>
    <ProcessingIntents>
      <Intents><Keyword xmlns="">SESSION_1</Keyword><Value xmlns="">uid://A002/X1/X1 | uid://A002/X1/X2</Value></Intents>
      <Intents><Keyword xmlns="">SESSION_2</Keyword><Value xmlns="">uid://A002/X1/X3</Value></Intents>
      <Intents><Keyword xmlns="">PROCESS</Keyword><Value xmlns="">true</Value></Intents>
    </ProcessingIntents>
    <ProcessingProcedure>
      <ProcedureTitle>obs_cal</ProcedureTitle>
      <ProcessingCommand><Command>obs_import</Command><ParameterSet/></ProcessingCommand>
    </ProcessingProcedure>
    <DataSet><SchedBlockSet><SchedBlockIdentifier>
      <RelativePath xmlns="">2017/SOUS/GOUS/MOUS</RelativePath>
      {identifiers}
    </SchedBlockIdentifier></SchedBlockSet></DataSet>
  </ProcessingRequest></ProcessingRequests>
</SciPipeRequest>
"""
IDENTIFIER = (
    '<AsdmIdentifier><v:AsdmRef xmlns:v="Alma/ValueTypes"><v:ExecBlockId>{uid}</v:ExecBlockId></v:AsdmRef>'
    '<AsdmDiskName xmlns="">{name}</AsdmDiskName></AsdmIdentifier>'
)


def request(*pairs):
    return REQUEST.replace("{identifiers}", "".join(IDENTIFIER.format(uid=u, name=n) for u, n in pairs))


def test_processing_request_gives_recipe_data_sessions_and_project():
    recipe = loads(
        request(("uid://A002/X1/X2", "eb2.ms"), ("uid://A002/X1/X3", "eb3.ms"), ("uid://A002/X9/X9", "eb9.ms")),
        "PPR.xml",
    )
    assert recipe.name == "obs_cal"
    assert recipe.stage_names == ("obs_import",)
    # an execution that no session names belongs to session_1
    assert [(d.name, d.session) for d in recipe.data] == [
        ("eb2.ms", "session_1"), ("eb3.ms", "session_2"), ("eb9.ms", "session_1"),
    ]  # fmt: skip
    assert recipe.data[0].relative_path == "2017/SOUS/GOUS/MOUS"
    assert recipe.project["proposal_code"] == "2017.1.00001.S"
    assert recipe.project["ousstatus_ref_entity_id"] == "uid://A001/X34/X567"
    assert recipe.intents["PROCESS"] == "true"


def test_data_of_a_request_are_found_by_the_observatories_folder_rule(tmp_path, monkeypatch):
    recipe = loads(request(("uid://A002/X1/X2", "eb2.ms")), "PPR.xml")
    monkeypatch.delenv("SCIPIPE_ROOTDIR", raising=False)
    working = tmp_path / "working"
    assert recipe.data_paths(working) == [tmp_path / "rawdata" / "eb2.ms"]
    monkeypatch.setenv("SCIPIPE_ROOTDIR", str(tmp_path))
    assert recipe.data_paths(working) == [tmp_path / "2017/SOUS/GOUS/MOUS/rawdata/eb2.ms"]
    (working / "eb2.ms").mkdir(parents=True)
    assert recipe.data_paths(working) == [working / "eb2.ms"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/b.ms"])
def test_a_request_cannot_point_outside_its_folder(name):
    with pytest.raises(InputError, match="no plain file name"):
        loads(request(("uid://A002/X1/X2", name)), "PPR.xml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<a><b></a>", "is no XML"),
        ("<Other/>", "holds no ProcessingProcedure"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><ProcessingProcedure>&x;</ProcessingProcedure>', "entities"),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ProcessingProcedure><ProcedureTitle>&x;'
            "</ProcedureTitle></ProcessingProcedure>",
            "entities",
        ),
        (
            "<ProcessingProcedure><ProcessingCommand><Command>a b</Command></ProcessingCommand></ProcessingProcedure>",
            "without a usable name",
        ),
    ],
)
def test_broken_or_hostile_xml_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        loads(text, "p.xml")


def test_missing_intents_are_named_with_the_measurement_set_and_the_way_out():
    from types import SimpleNamespace

    recipe = loads(YAML)
    context = SimpleNamespace(measurement_sets=[SimpleNamespace(name="day2.ms", intents={"PHASE", "TARGET"})])
    with pytest.raises(DataError, match=r"day2\.ms has no scan with intent BANDPASS.*--intent"):
        recipe.check_data(context)
    context.measurement_sets[0].intents = {"PHASE", "TARGET", "BANDPASS"}
    recipe.check_data(context)


def test_demo_data_are_found_without_importing_their_package():
    import sys

    before = "casadata" in sys.modules
    paths = loads(YAML).demo.paths()
    assert paths[0].name == "NGC5921.fits" and paths[0].stat().st_size > 1e6
    assert ("casadata" in sys.modules) == before
    with pytest.raises(InputError, match="not installed"):
        loads(YAML.replace("casadata:", "no_such_package:")).demo.paths()
    with pytest.raises(InputError, match="holds no"):
        loads(YAML.replace("NGC5921.fits", "NGC0000.fits")).demo.paths()


def test_only_some_stages_by_name_by_number_or_by_a_range_of_numbers():
    recipe = recipe_of("- my_import\n- my_flag\n- my_image\n- breakpoint\n- my_flag\n- my_export")
    assert recipe.only(["my_flag"]).stage_names == ("my_flag", "my_flag")
    assert recipe.only(["4"]).stage_names == ("my_flag",)  # breakpoints are not counted
    assert recipe.only(["5", "2-3"], always={"my_import"}).stage_names == (
        "my_import", "my_flag", "my_image", "my_export"
    )  # fmt: skip
    assert not any(step.is_breakpoint for step in recipe.only(["1-5"]).steps)
    with pytest.raises(UnknownName, match="my_flag"):
        recipe.only(["my_flg"])
    for wrong in ("0", "6", "3-2", "4-9"):
        with pytest.raises(InputError, match="1 to 5"):
            recipe.only([wrong])
