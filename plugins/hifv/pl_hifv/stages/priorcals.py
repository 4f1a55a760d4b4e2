"""Make the calibrations known before any solving."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import attrs

from pl_hifv.antenna_positions import AntennaOffset, ask, read_offsets, write_offsets
from pl_hifv.atmosphere import Opacity, OpacityCurve, opacities, water
from pl_hifv.ionosphere import Ionosphere, find_map, look
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common.flagcommands import find_file
from pl_kernel.effects import Effect, RegisterCalibration, SetValue
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import joined
from pl_kernel.stage_context import StageContext

REQUANTIZER_FROM = datetime(2011, 2, 24, tzinfo=UTC)
"""The WIDAR correlator's requantizer gains are recorded since then (MJD 55616)."""

TROPOSPHERE_WRONG = (datetime(2016, 8, 9, tzinfo=UTC), datetime(2016, 11, 15, tzinfo=UTC))
"""When the delays of the array were set with a wrong model of the troposphere."""
ORDER = ("gceff", "opac", "rq", "antpos", "tecim", "swpow")
"""Order of registration, which is that of application (reference pipeline, 2026)."""
RQ_VALUE = "hifv.rq"
"""Tables of requantizer gains by measurement set, registered or not: hifv_syspower looks for them."""
MANY_MOVED = 0.5
"""Corrections of more than this part of the antennas are unusual (reference pipeline, 2026)."""


class PriorcalsInputs(Inputs):
    apply_gaincurves: bool = param(True, doc="Correct for the dishes' efficiency and its change with elevation.")
    apply_opcal: bool = param(True, doc="Correct for the opacity of the air.")
    apply_rqcal: bool = param(True, doc="Correct for the requantizer's gains, where they are recorded.")
    apply_swpowcal: bool = param(
        False, doc="Correct for the gains of the switched power instead; the requantizer's are in them."
    )
    apply_antpos: bool = param(True, doc="Correct antenna positions, when there is a file of offsets.")
    antposfile: str | None = param(
        None, doc="File of antenna offsets with columns ms, antenna, xoffset, yoffset, zoffset (ITRF, m) and comment."
    )
    antpos_service: bool = param(
        False, doc="Without a file, ask the observatory's list of baseline corrections on the web."
    )
    ant_pos_time_limit: float = param(
        150.0, unit="day", doc="Use corrections put in up to this long after the observation; 0: all.", minimum=0.0
    )
    service_timeout: float = param(10.0, unit="s", doc="How long to wait for an answer from the web.", minimum=0.1)
    apply_tec_correction: bool = param(
        False, doc="Correct for the ionosphere's dispersive delay and rotation, with the map of tecmap."
    )
    tecmap: Path | None = param(
        None, doc="CASA image of the ionosphere's electron content over the array, as CASA's tec_maps writes it;"
        " default NAME.ms.IGS_TEC.im or iono.IGS_TEC.im in the work folder or beside the run.",
    )  # fmt: skip
    show_tec_maps: bool = param(
        True, doc="Show the electron content on the page, applied or not, where there is a map. No service is asked."
    )
    swpow_spw: str = param(
        "", doc="Windows whose switched power the page shows, as a CASA selection; default one of each baseband."
    )
    pwv: float | None = param(None, unit="mm", doc="Water above the array; default from weather data and season.")


@attrs.frozen(kw_only=True)
class Prior:
    """One kind of prior calibration of one measurement set: a caltable, or why there is none.

    ``expected`` tells a table that should exist and does not from one that does not apply to these data, or that was
    not asked for; ``registered`` one that is applied from now on.
    """

    vis: str
    kind: str
    caltable: str = ""
    reason: str = ""
    expected: bool = False
    registered: bool = False


class PriorcalsResult(Result):
    """What was made, what was skipped and why."""

    priors: tuple[Prior, ...]
    opacities: tuple[Opacity, ...] = ()
    curves: tuple[OpacityCurve, ...] = ()
    offsets: tuple[AntennaOffset, ...] = ()
    pwv_mm: dict[str, float] = attrs.field(factory=dict)
    pwv_reason: dict[str, str] = attrs.field(factory=dict)
    ionosphere: tuple[Ionosphere, ...] = ()
    swpow_spw: str = joined("".join, "")


class Priorcals(Stage[PriorcalsInputs, PriorcalsResult]):
    """Make the calibrations known before any solving.

    Gain curves and efficiencies (gencal ``gceff``), opacity of the zenith per window (``opac``), requantizer gains and
    gains of the switched power (``rq``, ``swpow``; for data since February 2011 that carry the SYSPOWER table),
    corrections of antenna positions (``antpos``, from a file), the ionosphere (``tecim``, from a map in a file). All
    that the data allow are made; the apply parameters decide which are registered, in this order: gceff, opac, rq,
    antpos, tecim, swpow. The requantizer's gains are part of those of the switched power, so only one of both is.

    The opacity comes from CASA's model of the atmosphere with the water vapour of season and weather stations. The
    reference pipeline calls plotweather for it (75 s). Antenna positions are taken from a file (antennapos.csv in the
    work folder or beside the run, if it is there); without one, and only if asked for, from the observatory's list on
    the web, with a time-out, and what it says is written to that file in the work folder: a run must not depend on a
    network silently, and a repeated one gives the same. The service that has maps of the ionosphere asks for an
    account: CASA's tec_maps makes the file. What does not apply to the data is listed with the reason; what was asked
    for and is not to be had costs score.
    """

    name = "hifv_priorcals"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True

    def check(self, ctx: StageContext, inputs: PriorcalsInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            find_map(ms, inputs.tecmap)
            if inputs.swpow_spw and not ms.spw_ids(inputs.swpow_spw):
                raise PlError(f"swpow_spw '{inputs.swpow_spw}' selects no spectral window of {ms.name}.")

    def run(self, ctx: StageContext, inputs: PriorcalsInputs) -> PriorcalsResult:
        priors: list[Prior] = []
        taus: list[Opacity] = []
        curves: list[OpacityCurve] = []
        offsets: list[AntennaOffset] = []
        above: list[Ionosphere] = []
        pwv: dict[str, float] = {}
        why: dict[str, str] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            pwv[ms.name], why[ms.name] = water(ms, inputs.pwv)
            found, drawn = opacities(ctx, ms, pwv[ms.name])
            taus += found
            curves += drawn
            made = [
                _gain_curve(ctx, ms, inputs), _opacity(ctx, ms, found, pwv[ms.name], inputs),
                _requantizer(ctx, ms, inputs), _switched_power(ctx, ms, inputs),
            ]  # fmt: skip
            positions, moved = _positions(ctx, ms, inputs)
            made.append(_semester_16b(ctx, ms, positions) if inputs.apply_antpos else positions)
            offsets += moved
            ionosphere, seen = _ionosphere(ctx, ms, inputs)
            above += seen
            priors += sorted([*made, ionosphere], key=lambda p: ORDER.index(p.kind))
        return PriorcalsResult(
            priors=tuple(priors), opacities=tuple(taus), curves=tuple(curves), offsets=tuple(offsets), pwv_mm=pwv,
            pwv_reason=why, ionosphere=tuple(above), swpow_spw=inputs.swpow_spw,
            effects=_effects(ctx, priors, self.name),
        )  # fmt: skip


def _effects(ctx: StageContext, priors: list[Prior], origin: str) -> tuple[Effect, ...]:
    """Registrations, and where the requantizer's gains are."""
    effects: list[Effect] = []
    for p in priors:
        if p.registered:
            calfrom = CalFrom(gaintable=p.caltable, caltype=p.kind, calwt=False, interp="")
            effects.append(RegisterCalibration(CalApplication(CalTo(vis=p.vis), (calfrom,), origin=origin)))
    gains = {p.vis: p.caltable for p in priors if p.kind == "rq" and p.caltable}
    if gains:
        effects.append(SetValue(RQ_VALUE, {**(ctx.value(RQ_VALUE) or {}), **gains}))
    return tuple(effects)


def _made(ctx: StageContext, ms: MeasurementSet, kind: str, reason: str, unwanted: str, **arguments: object) -> Prior:
    """Call gencal and see whether it wrote its table; gencal multiplies into an existing one, so none may exist.

    unwanted : empty when the table is to be applied, else why it is not.
    """
    caltable = ctx.path(ms, kind)
    ctx.files.rmtree(caltable)
    ctx.casa.gencal(vis=ms.path, caltable=caltable, caltype=kind, **arguments)
    written = Path(caltable).is_dir()
    if not written:
        reason = f"CASA wrote no table for {kind}"
        if not unwanted:
            ctx.log.warning(f"{ms.name}: {reason}.")
    return Prior(
        vis=ms.name, kind=kind, caltable=caltable if written else "", expected=not unwanted,
        reason="; ".join(r for r in (reason, unwanted) if r), registered=written and not unwanted,
    )  # fmt: skip


def _off(applied: bool, name: str) -> str:
    return "" if applied else f"not applied: {name} is off"


def _gain_curve(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> Prior:
    reason = "gain curves and efficiencies of the observatory's tables in the CASA data"
    return _made(ctx, ms, "gceff", reason, _off(inputs.apply_gaincurves, "apply_gaincurves"))


def _opacity(
    ctx: StageContext, ms: MeasurementSet, taus: tuple[Opacity, ...], pwv_mm: float, inputs: PriorcalsInputs
) -> Prior:
    return _made(
        ctx, ms, "opac", f"model atmosphere with {pwv_mm:.1f} mm of water", _off(inputs.apply_opcal, "apply_opcal"),
        spw=",".join(str(t.spw) for t in taus), parameter=[t.tau for t in taus],
    )  # fmt: skip


def _too_old(ms: MeasurementSet) -> str:
    """Why data of before the WIDAR correlator have no requantizer gains and switched power; empty for later ones."""
    early = ms.start.replace(tzinfo=ms.start.tzinfo or UTC) < REQUANTIZER_FROM
    return f"observed in {ms.start.year}, before there was a requantizer" if early else ""


def _requantizer(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> Prior:
    reason = _too_old(ms) or ("" if "SYSPOWER" in ms.subtables else "the data carry no SYSPOWER table")
    if reason:
        return Prior(vis=ms.name, kind="rq", reason=reason)
    inside = "not applied: the gains of the switched power contain it" if inputs.apply_swpowcal else ""
    return _made(
        ctx, ms, "rq", "requantizer gains of the SYSPOWER table", inside or _off(inputs.apply_rqcal, "apply_rqcal")
    )


def _switched_power(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> Prior:
    missing = [name for name in ("SYSPOWER", "CALDEVICE") if name not in ms.subtables]
    reason = _too_old(ms) or (f"the data carry no {' and no '.join(missing)} table" if missing else "")
    if reason:
        return Prior(vis=ms.name, kind="swpow", reason=reason, expected=inputs.apply_swpowcal)
    return _made(
        ctx, ms, "swpow", "gains of the switched power, from the SYSPOWER and CALDEVICE tables",
        _off(inputs.apply_swpowcal, "apply_swpowcal"), spw="",
    )  # fmt: skip


def _positions(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> tuple[Prior, list[AntennaOffset]]:
    unwanted = _off(inputs.apply_antpos, "apply_antpos")
    own = Path("antennapos.csv")
    path = Path(inputs.antposfile) if inputs.antposfile else find_file(None, own.name) or own
    if not path.is_file() and inputs.antposfile:
        raise PlError(f"There is no file of antenna offsets {path}; leave antposfile unset to use none.")
    rows = read_offsets(path, ms.name) if path.is_file() else []
    source = path.name
    if not rows and inputs.antpos_service and not inputs.antposfile:
        rows, source = ask(ms, inputs.ant_pos_time_limit, inputs.service_timeout)
        if not rows:
            ctx.log.attention(f"{ms.name}: no antenna offsets, {source}.")
            answered = source.startswith("the observatory's list of")
            reason = f"no antenna is listed: {source}" if answered else source
            # Asked for and not to be had is something to know; that nothing had to be corrected is not.
            return Prior(vis=ms.name, kind="antpos", reason=reason, expected=not answered and not unwanted), []
        if path.is_file() and not own.is_file():  # the user's own file beside the run stays as it is
            ctx.files.copy(path, own)
        write_offsets(own, rows, source)
    elif not path.is_file():
        return Prior(vis=ms.name, kind="antpos", reason="no file of antenna offsets was given"), []
    offsets = [o for o in rows if o.antenna in ms.antenna_names]
    offsets = [attrs.evolve(o, vis=ms.name) for o in offsets]
    if not offsets:
        reason = f"{source} names no antenna of this measurement set"
        return Prior(vis=ms.name, kind="antpos", reason=reason, expected=bool(inputs.antposfile) and not unwanted), []
    prior = _made(
        ctx, ms, "antpos", f"{len(offsets)} antennas of {source}", unwanted,
        antenna=",".join(o.antenna for o in offsets), parameter=[v for o in offsets for v in o.offset_m],
    )  # fmt: skip
    if len(offsets) > MANY_MOVED * len(ms.antennas):
        ctx.log.warning(
            f"{ms.name}: the positions of {len(offsets)} of {len(ms.antennas)} antennas are corrected; after so many"
            " moves delays and phases of the longest baselines deserve a look."
        )
    return prior, offsets


def _semester_16b(ctx: StageContext, ms: MeasurementSet, prior: Prior) -> Prior:
    """The table of antenna positions also corrects the delay error of semester 16B, which gencal knows by the date.

    Where no antenna has moved there would be no table, and no correction (so it is in the reference pipeline): one with
    an offset of 0 is made for it.
    """
    if not TROPOSPHERE_WRONG[0] <= ms.start.replace(tzinfo=ms.start.tzinfo or UTC) <= TROPOSPHERE_WRONG[1]:
        return prior
    if not prior.caltable:
        made = _made(
            ctx, ms, "antpos", f"delay error of semester 16B; {prior.reason}", "", antenna=ms.antenna_names[0],
            parameter=[0.0, 0.0, 0.0],
        )  # fmt: skip
        if not made.caltable:
            return made
        prior = made
    scale = _troposphere_scale(ctx, prior.caltable)
    if scale:
        ctx.log.warning(
            f"{ms.name} is of the time when the observatory's model of the troposphere was wrong (semester 16B): its"
            f" delay error is corrected with the antenna positions, {-scale / 1000:g} ps per metre."
        )
    return prior


def _troposphere_scale(ctx: StageContext, caltable: str) -> float:
    """Scale of the correction that gencal adds to positions for data of semester 16B (VLATrDelCorr); 0: none."""
    with ctx.casa.table(caltable) as table:
        return float(table.getkeyword("VLATrDelCorr")) if "VLATrDelCorr" in table.keywordnames() else 0.0


def _ionosphere(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> tuple[Prior, list[Ionosphere]]:
    applied = inputs.apply_tec_correction
    if not (applied or inputs.show_tec_maps):
        return Prior(vis=ms.name, kind="tecim", reason=_off(applied, "apply_tec_correction")), []
    path = find_map(ms, inputs.tecmap)
    if path is None:
        reason = "no map of the ionosphere was given (tecmap), and the service that has them asks for an account"
        if applied:
            ctx.log.warning(f"{ms.name}: not corrected for the ionosphere; {reason}.")
        return Prior(vis=ms.name, kind="tecim", reason=reason, expected=applied), []
    above = look(ctx, ms, path)
    if not above.covers:
        reason = f"{path.name} is of another time than the observation"
        if applied:
            ctx.log.warning(f"{ms.name}: not corrected for the ionosphere; {reason}.")
        return Prior(vis=ms.name, kind="tecim", reason=reason, expected=applied), [above]
    reason = f"electron content of {path.name}, {above.during[0]:.1f} to {above.during[1]:.1f} TECU over the array"
    if not applied:
        return Prior(vis=ms.name, kind="tecim", reason=f"{reason}; {_off(applied, 'apply_tec_correction')}"), [above]
    return _made(ctx, ms, "tecim", reason, "", infile=str(path.resolve())), [above]
