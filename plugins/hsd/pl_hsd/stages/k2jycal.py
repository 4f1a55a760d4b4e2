"""hsd_k2jycal: factors from kelvin to jansky."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from pl_hsd import jyperk_service, k2jy
from pl_hsd.heuristics import jyperk
from pl_hsd.heuristics.jyperk import Data, Entry, Key
from pl_hsd.rows import RowTable
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common.tablenames import check_table_name
from pl_kernel.effects import Effect, RegisterCalibration, UnregisterCalibration
from pl_kernel.errors import InputError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import compact_ids
from pl_kernel.stage_context import StageContext

ENVIRONMENT = "JYPERKDB_URL"
"""Environment variable with the address of the site's Jy/K service, as CASA has it."""
QUERY_FILE = "jyperk_query.csv"


class K2jycalInputs(Inputs):
    dbservice: bool | None = param(
        None, doc=f"Ask the Jy/K web service before the file; unset: only if {ENVIRONMENT} or urls say where it is."
    )
    endpoint: str = param("asdm", choices=jyperk_service.ENDPOINTS, doc="What the service is asked for.")
    reffile: str = param("jyperk.csv", doc="File of factors, by measurement set or by session.")
    caltable: str | None = param(None, doc="Name of the caltable; default: made from the measurement set's name.")
    urls: tuple[str, ...] = param((), doc="Addresses of the service, tried in order after that of the environment.")
    backup_urls: tuple[str, ...] = param((), doc="The observatory's word for urls; tried after them.", hidden=True)
    timeout: float = param(60.0, unit="s", minimum=0.1, doc="Longest time to wait for one answer.")
    retries: int = param(3, minimum=1, doc="How often each address is tried.")
    pause: float = param(5.0, unit="s", minimum=0, doc="Time between two tries.")


@attrs.frozen(kw_only=True)
class FactorsOfMS:
    """Factors of one measurement set as (spw, antenna, correlation, Jy/K, source); ``missing`` have none.

    ``service`` says how asking went: empty when it was not asked, ``ok``, or the reason of the failure.
    """

    vis: str
    table: str
    factors: tuple[tuple[int, str, str, float, str], ...]
    missing: tuple[Key, ...]
    implausible: tuple[Key, ...] = ()
    service: str = ""


class K2jycalResult(Result):
    """One record per measurement set; ``reffile`` is the file that was read, ``queried`` what the service said."""

    sets: tuple[FactorsOfMS, ...]
    reffile: str = ""
    queried: str = ""


class K2jycal(Stage[K2jycalInputs, K2jycalResult]):
    """Turn kelvin into jansky with the factors of a file or of a web service.

    Factors come from the service if it is asked, and from the file where it does not answer; where each factor came
    from is recorded, and a file is never taken for an answer of the service. What the service says is written to
    jyperk_query.csv; a file of that name that is there already is kept as jyperk_query.csv_orig.

    An antenna, window or correlation without a factor is flagged in the caltable: its spectra would otherwise stay in
    kelvin among others in jansky. Without any factor no table is made, and the data stay in kelvin.
    """

    name = "hsd_k2jycal"
    topic = "calibration"
    page_reads = frozenset()

    def sets(self, ctx: StageContext, inputs: K2jycalInputs) -> Sequence[MeasurementSet]:
        return tuple(ms for ms in ctx.measurement_sets(inputs.vis) if not ms.origin)

    def check(self, ctx: StageContext, inputs: K2jycalInputs) -> None:
        check_table_name(ctx, inputs.caltable, self.sets(ctx, inputs), "caltable")
        if inputs.reffile != "jyperk.csv" and find_file(ctx, inputs.reffile) is None:
            raise InputError(f"There is no file {inputs.reffile} with Jy/K factors.")

    def run(self, ctx: StageContext, inputs: K2jycalInputs) -> K2jycalResult:
        file = _taken_in(ctx, find_file(ctx, inputs.reffile))
        entries = jyperk.parse(file.read_text(), file.name) if file else ()
        service = _service(inputs)
        records, answers = [], []
        effects: list[Effect] = []
        known: dict[str, dict[Key, float]] = {}
        for ms in self.sets(ctx, inputs):
            data = facts(ms)
            found = {key: (value, "file") for key, value in jyperk.factors_for(data, entries).items()}
            told = ""
            if service is not None:
                asked, told = _ask(ctx, service, inputs.endpoint, ms, data)
                found |= {key: (value, "service") for key, value in jyperk.factors_for(data, asked).items()}
                answers += asked
            record = _make_table(ctx, ms, data, found, inputs.caltable, told)
            records.append(record)
            known[ms.name] = {key: value for key, (value, _) in found.items()}
            effects += _registrations(ctx, ms, record)
        queried = _write_answers(ctx, answers)
        return K2jycalResult(
            sets=tuple(records), queried=queried,
            reffile=str(file.relative_to(ctx.stage_dir.parent.parent)) if file else "",
            effects=(*effects, k2jy.remember(ctx, known)),
        )  # fmt: skip


def find_file(ctx: StageContext, name: str) -> Path | None:
    """The file as named, or in the work folder, the run folder, or beside the run folder."""
    run = ctx.stage_dir.parent.parent
    places = (Path(name), ctx.work / name, run / name, run.parent / name)
    return next((p for p in places if p.is_file()), None)


def _taken_in(ctx: StageContext, file: Path | None) -> Path | None:
    """The file in the run: what it said at the time belongs to the run, wherever it lies and whoever edits it later."""
    if file is None:
        return None
    copy = ctx.work / file.name
    if copy.exists() and copy.read_bytes() != file.read_bytes():
        copy = ctx.stage_dir / file.name
    if copy.resolve() != file.resolve() and not copy.exists():
        copy.write_bytes(file.read_bytes())
    return copy


def facts(ms: MeasurementSet) -> Data:
    """What of a measurement set decides which factors it takes."""
    return Data(
        vis=ms.name, session=ms.session, antennas=ms.antenna_names,
        windows={int(s.id): (s.min_hz, s.max_hz) for s in ms.science_spws},
        polarizations={int(s.id): ms.polarization_of(s.id).correlations for s in ms.science_spws},
    )  # fmt: skip


def _service(inputs: K2jycalInputs) -> jyperk_service.Service | None:
    urls = tuple(u for u in (os.environ.get(ENVIRONMENT, ""), *inputs.urls, *inputs.backup_urls) if u)
    wanted = bool(urls) if inputs.dbservice is None else inputs.dbservice
    if not wanted:
        return None
    return jyperk_service.Service(
        urls=urls, timeout_s=inputs.timeout, attempts=inputs.retries, pause_s=inputs.pause
    )


def _ask(
    ctx: StageContext, service: jyperk_service.Service, endpoint: str, ms: MeasurementSet, data: Data
) -> tuple[tuple[Entry, ...], str]:
    try:
        found, server = jyperk_service.fetch(service, endpoint, data, _conditions(ctx, ms))
    except jyperk_service.ServiceFailed as error:
        ctx.log.warning(str(error))
        return (), str(error)
    ctx.log.info(f"{server} gave {len(found)} Jy/K factors for {ms.name}.")
    return found, "ok"


def _conditions(ctx: StageContext, ms: MeasurementSet) -> jyperk_service.Conditions:
    rows = RowTable.open(ctx, ms)
    elevation = np.asarray(rows["el_deg"])
    by_antenna = {a.name: elevation[np.asarray(rows["antenna"]) == a.id] for a in ms.antennas}
    digits = {int(s.id): "".join(c for c in s.band if c.isdigit()) for s in ms.science_spws}
    return jyperk_service.Conditions(
        date=ms.start.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3],
        temperature_k=(ms.weather.temperature_k if ms.weather and ms.weather.temperature_k else float("nan")),
        elevation_deg={name: float(np.mean(e)) if e.size else float("nan") for name, e in by_antenna.items()},
        windows={int(s.id): (int(digits[int(s.id)] or 0), s.baseband, s.centre_hz) for s in ms.science_spws},
    )  # fmt: skip


def _make_table(
    ctx: StageContext, ms: MeasurementSet, data: Data, found: Mapping[Key, tuple[float, str]], name: str | None,
    told: str,
) -> FactorsOfMS:  # fmt: skip
    missing = tuple(key for key in jyperk.expected(data) if key not in found)
    low, high = jyperk.PLAUSIBLE
    odd = tuple(key for key, (value, _) in sorted(found.items()) if not low <= value <= high)
    if odd and ctx.telescope(ms).dish_diameter_m == 12.0:
        ctx.log.warning(f"{ms.name}: {len(odd)} Jy/K factors are outside {low:g} to {high:g}, which is unusual.")
    table = ""
    if found:
        table = name or ctx.path(ms, ext="jyperk.tbl")
        ctx.files.rmtree(table)
        file = ctx.path(ms, "factors", ext="csv")
        Path(file).write_text(jyperk.to_csv(ms.basename, {key: value for key, (value, _) in found.items()}))
        ctx.casa.gencal(vis=ms.path, caltable=table, caltype="jyperk", infile=file)
        _flag_missing(ctx, ms, table, missing)
    if missing:
        ctx.log.error(f"{ms.name}: {len(missing)} combinations of spw, antenna and correlation have no Jy/K factor.")
    factors = tuple((*key, value, source) for key, (value, source) in sorted(found.items()))
    return FactorsOfMS(
        vis=ms.name, table=table, factors=factors, missing=missing, service=told,
        implausible=odd if ctx.telescope(ms).dish_diameter_m == 12.0 else (),
    )  # fmt: skip


def _flag_missing(ctx: StageContext, ms: MeasurementSet, table: str, missing: Sequence[Key]) -> None:
    """Flag what gencal left at 1 because it was told nothing; both receptors of an antenna."""
    by_antenna = _by_antenna(missing)
    solutions = sorted((a.id, spw) for a in ms.antennas for spw in by_antenna.get(a.name, ()))
    if solutions:
        ctx.casa.flag_solutions(table, solutions)


def _by_antenna(keys: Sequence[Key]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for spw, antenna, _ in keys:
        found.setdefault(antenna, set()).add(spw)
    return found


def _registrations(ctx: StageContext, ms: MeasurementSet, record: FactorsOfMS) -> list[Effect]:
    rows = ctx.calibration.active.of(ms.name).registrations
    older = dict.fromkeys(c.gaintable for r in rows for c in r.calfroms if c.caltype == "amp")
    effects: list[Effect] = [UnregisterCalibration(t) for t in older]
    if record.table:
        spws = sorted({spw for spw, *_ in record.factors})
        to = CalTo(ms.name, spw=compact_ids(spws), intent="TARGET")
        cal = CalFrom(record.table, interp="nearest,nearest", caltype="amp")
        effects.append(RegisterCalibration(CalApplication(to, cal, origin=ctx.stage_name)))
    return effects


def _write_answers(ctx: StageContext, answers: Sequence[Entry]) -> str:
    """Write what the service said, in the form by measurement set; a file that is there is kept under another name."""
    if not answers:
        return ""
    file = ctx.work / QUERY_FILE
    kept = file.with_name(f"{QUERY_FILE}_orig")
    if file.exists() and not kept.exists():
        file.rename(kept)
    by_ms: dict[str, dict[Key, float]] = {}
    for e in answers:
        by_ms.setdefault(e.vis, {})[(e.spw, e.antenna, e.polarization)] = e.factor
    parts = [jyperk.to_csv(vis, factors) for vis, factors in by_ms.items()]
    header = parts[0].partition("\n")[0]
    file.write_text(header + "\n" + "".join(part.partition("\n")[2] for part in parts))
    return QUERY_FILE
