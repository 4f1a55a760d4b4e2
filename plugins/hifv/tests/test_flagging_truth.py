"""Flagging, smoothing, weights and restore of VLA data against what the simulator injected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pl_kernel.casa import Casa, Recorder
from pl_kernel.session import Session

sim = pytest.importorskip("pl_sim", reason="the simulator makes the data of these tests")
pytestmark = [pytest.mark.casa, pytest.mark.slow]

FAULTS = (
    "rfi-narrow=channel:4", "rfi-intermittent=spw:2", "rfi-broad=spw:3", "dead-antenna", "phase-jump", "shadowing",
)  # fmt: skip
CALIBRATION = (
    ("hifv_hanning", {}),
    ("hifv_flagdata", {"fracspw": 0.01}),
    ("hifv_vlasetjy", {}),
    ("hifv_priorcals", {}),
    ("hifv_testBPdcals", {}),
    ("hifv_checkflag", {"checkflagmode": "bpd-vla"}),
    ("hifv_semiFinalBPdcals", {}),
    ("hifv_checkflag", {"checkflagmode": "allcals-vla"}),
    ("hifv_solint", {}),
    ("hifv_fluxboot", {}),
    ("hifv_finalcals", {}),
    ("hifv_applycals", {}),
    ("hifv_checkflag", {"checkflagmode": "target-vla"}),
    ("hifv_statwt", {}),
    ("hifv_mstransform", {}),
    ("hifv_flagtargetsdata", {}),
    ("hif_checkproductsize", {"maximsize": 100}),
    ("hifv_exportdata", {}),
)


def simulated(path: Path, *faults: str) -> Path:
    from pl_sim.engine import simulate
    from pl_sim.faults import parse_fault
    from pl_sim.presets import get_preset

    observation = get_preset("vla-c-cont-d").observations("tiny")[0]
    simulate(observation, path, seed=5, faults=[parse_fault(f) for f in faults])
    return path


class Run:
    """A run of some stages, with their outcomes."""

    def __init__(self, root: Path, data: Path, steps) -> None:
        self.data, self.outcomes = data, []
        with Session.create(root) as session:
            session.run_stage("hifv_importdata", vis=[str(data)])
            self._go(session, steps)

    def proceed(self, steps) -> None:
        with Session.open(self.root) as session:
            self._go(session, steps)

    def _go(self, session: Session, steps) -> None:
        self.outcomes += [session.run_stage(name, **parameters) for name, parameters in steps]
        self.ms = session.context.measurement_sets[0]
        self.root, self.path = session.root, session.root / "work" / self.ms.path

    def outcome(self, name: str, count: int = 0):
        return [o for o in self.outcomes if o.name == name][count]

    @property
    def scores(self):
        return [s for o in self.outcomes for s in o.scores]

    def columns(self, *names: str, path: Path | None = None) -> dict[str, np.ndarray]:
        from pl_sim.casa import open_table

        with open_table(path or self.path) as table:
            return {n: table.getcol(n) for n in names}


def calibrate(ms: Path) -> None:
    """Calibrate with CASA alone: delays, bandpass, gains; the target takes those of the phase calibrator."""
    casa = Casa(Recorder(), ms.parent / "casa-alone.log")
    tables = [f"{ms}.{kind}" for kind in "PKBG"]
    casa.flagcmd(vis=str(ms), inpmode="table", action="apply", flagbackup=False)  # antennas late on source
    common = {"vis": str(ms), "refant": "ea26", "minblperant": 4}
    casa.setjy(vis=str(ms), field="0", standard="Perley-Butler 2017", model="3C286_C.im", usescratch=True)
    casa.gaincal(**common, caltable=tables[0], field="0", calmode="p", solint="int", spw="*:10~20")
    casa.gaincal(**common, caltable=tables[1], field="0", gaintype="K", solint="inf", combine="scan",
                 gaintable=tables[:1])
    casa.bandpass(**common, caltable=tables[2], field="0", solint="inf", combine="scan",
                  gaintable=[tables[1], tables[0]])
    casa.gaincal(**common, caltable=tables[3], field="0,1,2", calmode="ap", solint="inf", gaintable=tables[1:3])
    for field, gainfield in (("0", "0"), ("1", "1"), ("2", "2"), ("3", "2")):
        casa.applycal(
            vis=str(ms), field=field, gaintable=tables[1:], gainfield=["", "", gainfield],
            interp=["", "linear,linearflag", "linear"], calwt=False, applymode="calflagstrict", parang=True,
            flagbackup=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flagging")


@pytest.fixture(scope="module")
def faulty(folder):
    return Run(folder / "faulty", simulated(folder / "faulty.ms", *FAULTS), CALIBRATION)


@pytest.fixture(scope="module")
def clean(folder):
    run = Run(folder / "clean", simulated(folder / "clean.ms"), CALIBRATION[:2])
    calibrate(run.path)
    modes = ("bpd-vla", "allcals-vla", "target-vla")
    run.proceed([*(("hifv_checkflag", {"checkflagmode": m}) for m in modes), ("hifv_statwt", {})])
    return run


# ---- flags ---------------------------------------------------------------------------------------------------------


def test_bad_visibilities_are_flagged(faulty):
    from pl_sim.compare import compare_flags
    from pl_sim.truth import Truth

    found = compare_flags(Truth.load(faulty.data), faulty.path)
    missed = {k: f"{f}/{b}" for k, (b, f) in found.by_reason.items() if f < 0.95 * b}
    assert found.completeness >= 0.95, missed


def test_interference_costs_few_good_visibilities(folder, faulty):
    before = at_version(folder, faulty, faulty.outcome("hifv_checkflag").result.sets[0].version)
    calibrated = at_version(folder, faulty, f"hifv_applycals_before_s{faulty.outcome('hifv_applycals').number}")
    assert calibrated.false_fraction - before.false_fraction <= 0.03


def at_version(folder, run, name):
    """The flags of a saved version against the truth."""
    from pl_sim.casa import open_table
    from pl_sim.compare import compare_flags
    from pl_sim.truth import Truth

    copy = folder / f"{name}.ms"
    if not copy.exists():
        shutil.copytree(run.path, copy)
        with open_table(f"{run.path}.flagversions/flags.{name}") as version:
            flags = version.getcol("FLAG")
        with open_table(copy, write=True) as table:
            table.putcol("FLAG", flags)
    return compare_flags(Truth.load(run.data), copy)


def test_good_visibilities_of_a_clean_set_stay(clean):
    for outcome in (o for o in clean.outcomes if o.name == "hifv_checkflag"):
        for one in outcome.result.sets:
            assert one.newly <= 0.02, f"{outcome.result.mode}: {one.newly:.3f} of good data flagged"


def test_every_fault_is_named_by_a_score_below_0_9(faulty):
    low = [s for s in faulty.scores if s.score is not None and s.score < 0.9]
    text = " ".join(f"{s.long} {s.short}" for s in low)
    for fault in json.loads(Path(f"{faulty.data}.truth/truth.json").read_text())["faults"]:
        if fault["name"] == "dead-antenna":
            assert fault["antenna"] in text
        if fault["name"] == "rfi-narrow":
            assert any(str(fault["spws"][0]) in s.applies_to.spw for s in low), "the spw of the interference is named"
        if fault["name"] == "shadowing":
            assert fault["shadowed"] in text


def test_checkflag_of_a_clean_set_scores_well(clean):
    for outcome in (o for o in clean.outcomes if o.name == "hifv_checkflag"):
        assert outcome.score >= 0.9, [s.long for s in outcome.scores if s.score < 0.9]


# ---- smoothing -------------------------------------------------------------------------------------------------------


def keyed(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    time = np.round(columns["TIME"], 3)
    order = np.lexsort([columns["ANTENNA2"], columns["ANTENNA1"], columns["DATA_DESC_ID"], time])
    return {k: v[..., order] for k, v in columns.items()}


KEYS = ("TIME", "ANTENNA1", "ANTENNA2", "DATA_DESC_ID")


def test_smoothed_channels_are_a_quarter_half_a_quarter(clean):
    raw = keyed(clean.columns(*KEYS, "DATA", path=clean.data))
    smoothed = keyed(clean.columns(*KEYS, "DATA"))
    expected = 0.25 * raw["DATA"][:, :-2] + 0.5 * raw["DATA"][:, 1:-1] + 0.25 * raw["DATA"][:, 2:]
    assert np.abs(smoothed["DATA"][:, 1:-1] - expected).max() <= 1e-6 * np.abs(expected).max()


def test_raw_data_are_never_touched(clean):
    work = clean.root / "work"
    raw = clean.columns("DATA", path=clean.data)["DATA"]
    assert np.array_equal(clean.columns("DATA", path=work / clean.data.name)["DATA"], raw)


def test_windows_left_out_keep_their_data(folder, clean):
    run = Run(folder / "some", clean.data, [("hifv_hanning", {"spws_to_smooth": "0,2"})])
    raw = keyed(run.columns(*KEYS, "DATA", "FLAG", "WEIGHT", path=clean.data))
    new = keyed(run.columns(*KEYS, "DATA", "FLAG", "WEIGHT"))
    left = np.isin(raw["DATA_DESC_ID"], (1, 3))
    for column in ("DATA", "FLAG", "WEIGHT"):
        assert np.array_equal(raw[column][..., left], new[column][..., left]), column
    assert not np.array_equal(raw["DATA"][..., ~left], new["DATA"][..., ~left])
    again = run.outcome("hifv_hanning").result.sets[0]
    assert [w.spw for w in again.windows if w.smoothed] == [0, 2]


def test_windows_smoothed_in_place_keep_the_order_of_the_rows(folder, clean):
    # Flags of old deliveries are for rows in the order of the raw data, which CASA's smoothing does not keep.
    from types import SimpleNamespace

    import attrs

    from pl_hifv.stages.hanning import recorded, smooth, smooth_in_order
    from pl_kernel.casa.adapter import Files
    from pl_sim.casa import open_table

    raw = folder / "backwards.ms"
    with open_table(clean.data) as table:
        backwards = table.selectrows(list(range(table.nrows()))[::-1])
        backwards.copy(str(raw), deep=True, valuecopy=True).close()
        backwards.close()
    casa = Casa(Recorder(), folder / "backwards.log")
    names = iter(("sorted.ms", "in-place.ms"))
    ctx = SimpleNamespace(casa=casa, files=Files(Recorder()), path=lambda *a, **k: str(folder / next(names)))
    ms = attrs.evolve(clean.ms, path=str(raw))
    usual, kept = smooth(ctx, ms, [0, 2]), smooth_in_order(ctx, ms, [0, 2])
    before, after = (clean.columns(*KEYS, path=p) for p in (raw, kept))
    assert all(np.array_equal(before[k], after[k]) for k in KEYS)
    assert not np.array_equal(clean.columns("TIME", path=usual)["TIME"], before["TIME"])
    one, two = (keyed(clean.columns(*KEYS, "DATA", "FLAG", path=p)) for p in (usual, kept))
    assert np.array_equal(one["DATA"], two["DATA"]) and np.array_equal(one["FLAG"], two["FLAG"])
    assert recorded(ctx, attrs.evolve(ms, path=kept)) == {0, 2}


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_weights_follow_the_noise(clean):
    from pl_sim.truth import Truth

    # w_ij = g_i·g_j is proportional to 1 / (s_i·s_j), with s² the noise of an antenna with itself.
    truth = Truth.load(clean.data)
    noise = np.mean([truth.thermal_jy(spw).mean(axis=1) for spw in range(4)], axis=0)
    boxes = {b.name: b.median for b in clean.outcome("hifv_statwt").result.after[0].antennas}
    product = np.array([boxes[name] * s for name, s in zip(truth.antennas, noise, strict=True)])
    assert np.abs(product / product.mean() - 1).max() < 0.1, dict(zip(truth.antennas, product, strict=True))


# ---- delivery --------------------------------------------------------------------------------------------------------


def test_a_restore_gives_the_same_data_and_flags(folder, faulty):
    steps = [("hifv_restoredata", {"products_dir": str(faulty.root / "products")}), ("hifv_statwt", {})]
    restored = Run(folder / "restored", faulty.data, steps)
    assert restored.outcome("hifv_restoredata").score == 1.0
    one = faulty.columns("CORRECTED_DATA", "FLAG", "WEIGHT")
    two = restored.columns("CORRECTED_DATA", "FLAG", "WEIGHT")
    for column in one:
        assert np.array_equal(one[column], two[column]), column


def test_flags_by_correlation_add_up(faulty):
    after = faulty.outcome("hifv_applycals").result.after[faulty.ms.name]
    assert list(after.by_correlation) == ["RR", "RL", "LR", "LL"]
    # A baseline counts for both of its antennas, and once for each correlation.
    assert sum(f for f, _ in after.by_correlation.values()) == np.sum(after.flagged) / 2 > 0
    assert sum(t for _, t in after.by_correlation.values()) == np.sum(after.total) / 2


def test_the_report_says_what_was_observed_and_found(faulty):
    from xml.etree import ElementTree

    from pl_sim.truth import Truth

    truth = Truth.load(faulty.data)
    (path,) = (faulty.root / "products").glob("*aquareport.xml")
    root = ElementTree.parse(path).getroot()
    windows = root.findall("ScienceSPWs/SPW")
    assert len(windows) == 4
    for spw, window in enumerate(windows):
        frequency = truth.frequency_hz(spw)
        assert float(window.findtext("Channel0")) == pytest.approx(frequency[0])
        assert float(window.findtext("ChannelWidth")) == pytest.approx(frequency[1] - frequency[0])
        assert int(window.findtext("NChannels")) == len(frequency)
    assert len(root.findall("Scans/Scan")) == len(truth.record["scans"])
    seen = root.find("ObservationSummary")
    assert int(seen.findtext("NAntennas")) == len(truth.antennas)
    assert float(seen.findtext("TimeOnSource")) == pytest.approx(200)  # two scans of 100 s
    low, high = (float(seen.find("TargetElevation/Target").findtext(k)) for k in ("Min", "Max"))
    # Declination 31.5, latitude 34.1, an hour angle of two hours or less: at two hours h is 64.7 degrees.
    assert 63 < low <= high < 90
    assert float(seen.find("FlaggedFraction/Flagdata").findtext("shadow")) > 0
    assert 0 < float(seen.findtext("FlaggedFraction/StatWt/Target")) < 1
    spectra = {c.findtext("Name"): c for c in root.findall("Calibrators/Calibrator")}
    assert set(spectra) == {"J1407+2827", "J1310+3220"}
    for name, one in spectra.items():
        injected = truth.flux_jy(name, float(one.findtext("Frequency")))
        assert float(one.findtext("FluxDensity")) == pytest.approx(injected, rel=0.02)
    assert float(root.findtext("DataVolume/ProductsDirectory")) > 0


def test_the_split_targets_hold_the_calibrated_data(faulty):
    split = faulty.outcome("hifv_mstransform").result.splits[0]
    assert split.kind == "continuum" and split.fields == ("SIM_TARGET",)
    whole = faulty.columns("FIELD_ID")["FIELD_ID"]
    target = next(f.id for f in faulty.ms.fields if f.name == "SIM_TARGET")
    assert split.rows == int((whole == target).sum())


def test_images_are_kept_below_the_limit(faulty):
    result = faulty.outcome("hif_checkproductsize").result
    assert result.status == "MITIGATED"
    assert max(max(s.nx, s.ny) for s in result.before) > 100 >= max(max(s.nx, s.ny) for s in result.after)
    assert list(result.targets) == ["SIM_TARGET|0,1,2,3"]
