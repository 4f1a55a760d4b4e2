"""Make the calibrations known before any solving."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import attrs

from pl_hifv.antenna_positions import AntennaOffset, ask, read_offsets, write_offsets
from pl_hifv.heuristics import opacity
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common.flagcommands import find_file
from pl_kernel.effects import RegisterCalibration
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.stage_context import StageContext

REQUANTIZER_FROM = datetime(2011, 2, 24, tzinfo=UTC)
"""The WIDAR correlator's requantizer gains are recorded since then (MJD 55616)."""

TROPOSPHERE_WRONG = (datetime(2016, 8, 9, tzinfo=UTC), datetime(2016, 11, 15, tzinfo=UTC))
"""When the delays of the array were set with a wrong model of the troposphere."""
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
    tecmap: Path | None = param(None, doc="CASA image of the ionosphere's electron content over the array.")
    show_tec_maps: bool = param(False, doc="Accepted for old recipes: maps are never asked of a service.", hidden=True)
    swpow_spw: str = param("", doc="Accepted for old recipes: all windows are drawn.", hidden=True)
    pwv: float | None = param(None, unit="mm", doc="Water above the array; default from weather data and season.")


@attrs.frozen(kw_only=True)
class Prior:
    """One kind of prior calibration of one measurement set: a caltable, or why there is none.

    ``expected`` tells a table that should exist and does not from one that does not apply to these data.
    """

    vis: str
    kind: str
    caltable: str = ""
    reason: str = ""
    expected: bool = False
    registered: bool = False


@attrs.frozen(kw_only=True)
class Opacity:
    """Zenith opacity of one window, in nepers."""

    vis: str
    spw: int
    frequency_hz: float
    tau: float


class PriorcalsResult(Result):
    """What was made, what was skipped and why."""

    priors: tuple[Prior, ...]
    opacities: tuple[Opacity, ...] = ()
    offsets: tuple[AntennaOffset, ...] = ()
    pwv_mm: dict[str, float] = attrs.field(factory=dict)
    pwv_reason: dict[str, str] = attrs.field(factory=dict)


class Priorcals(Stage[PriorcalsInputs, PriorcalsResult]):
    """Make the calibrations known before any solving.

    Gain curves and efficiencies (gencal ``gceff``), opacity of the zenith per window (``opac``), requantizer gains
    (``rq``, only for data since February 2011 that carry the SYSPOWER table) or, if asked for, the gains of the
    switched power (``swpow``, which contain them), corrections of antenna positions (``antpos``, from a file).

    The opacity comes from CASA's model of the atmosphere with the water vapour of season and weather stations. The
    reference pipeline calls plotweather for it, which draws a plot no one waits for (75 s). Antenna positions are
    taken from a file (antennapos.csv in the work folder or beside the run, if it is there); without one, and only if
    asked for, from the observatory's list on the web, with a time-out, and what it says is written to that file in the
    work folder: a run must not depend on a network silently, and a repeated one gives the same. The ionosphere
    (``tecim``) needs a map in a file: the service that has them asks for an account. What does not apply to the data is
    listed with the reason; what was asked for and is not to be had costs score.
    """

    name = "hifv_priorcals"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True

    def run(self, ctx: StageContext, inputs: PriorcalsInputs) -> PriorcalsResult:
        priors: list[Prior] = []
        opacities: list[Opacity] = []
        offsets: list[AntennaOffset] = []
        water: dict[str, float] = {}
        why: dict[str, str] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            priors.append(_gain_curve(ctx, ms, inputs.apply_gaincurves))
            water[ms.name], why[ms.name] = _water(ms, inputs.pwv)
            made, taus = _opacity(ctx, ms, water[ms.name], inputs.apply_opcal)
            priors.append(made)
            opacities += taus
            priors.append(_requantizer(ctx, ms, inputs.apply_rqcal and not inputs.apply_swpowcal))
            priors.append(_switched_power(ctx, ms, inputs.apply_swpowcal))
            made, moved = _positions(ctx, ms, inputs)
            priors.append(_semester_16b(ctx, ms, made) if inputs.apply_antpos else made)
            offsets += moved
            priors.append(_ionosphere(ctx, ms, inputs))
        effects = tuple(
            RegisterCalibration(
                CalApplication(
                    CalTo(vis=p.vis), (CalFrom(gaintable=p.caltable, caltype=p.kind, calwt=False, interp=""),),
                    origin=self.name,
                )
            )
            for p in priors
            if p.registered
        )  # fmt: skip
        return PriorcalsResult(
            priors=tuple(priors), opacities=tuple(opacities), offsets=tuple(offsets), pwv_mm=water, pwv_reason=why,
            effects=effects,
        )  # fmt: skip


def _made(ctx: StageContext, ms: MeasurementSet, kind: str, reason: str, **arguments: object) -> Prior:
    """Call gencal and see whether it wrote its table; gencal multiplies into an existing one, so none may exist."""
    caltable = ctx.path(ms, kind)
    ctx.files.rmtree(caltable)
    ctx.casa.gencal(vis=ms.path, caltable=caltable, caltype=kind, **arguments)
    written = Path(caltable).is_dir()
    if not written:
        reason = f"CASA wrote no table for {kind}"
        ctx.log.warning(f"{ms.name}: {reason}.")
    return Prior(
        vis=ms.name, kind=kind, caltable=caltable if written else "", reason=reason, expected=True, registered=written
    )


def _gain_curve(ctx: StageContext, ms: MeasurementSet, wanted: bool) -> Prior:
    if not wanted:
        return Prior(vis=ms.name, kind="gceff", reason="switched off by apply_gaincurves")
    return _made(ctx, ms, "gceff", "gain curves and efficiencies of the observatory's tables in the CASA data")


def _water(ms: MeasurementSet, given: float | None) -> tuple[float, str]:
    if given is not None:
        return given, "given by the user"
    weather = ms.weather
    surface = (
        opacity.surface_pwv_mm(weather.temperature_k, weather.humidity_percent) if weather is not None else float("nan")
    )
    return opacity.pwv_mm(ms.start.timetuple().tm_yday, surface)


def _opacity(ctx: StageContext, ms: MeasurementSet, pwv_mm: float, wanted: bool) -> tuple[Prior, list[Opacity]]:
    if not wanted:
        return Prior(vis=ms.name, kind="opac", reason="switched off by apply_opcal"), []
    taus = _zenith_opacities(ctx, ms, pwv_mm)
    windows = list(ms.spws)
    prior = _made(
        ctx, ms, "opac", f"model atmosphere with {pwv_mm:.1f} mm of water",
        spw=",".join(str(s.id) for s in windows), parameter=[taus[int(s.id)] for s in windows],
    )  # fmt: skip
    return prior, [Opacity(vis=ms.name, spw=int(s.id), frequency_hz=s.centre_hz, tau=taus[int(s.id)]) for s in windows]


def _zenith_opacities(ctx: StageContext, ms: MeasurementSet, pwv_mm: float) -> dict[int, float]:
    """Dry and wet opacity of each window at its centre, by CASA's atmosphere tool at the site's height."""
    site = ctx.telescope(ms).site
    height = site.height_m if site else opacity.ALTITUDE_M
    weather = ms.weather
    temperature = (weather.temperature_k if weather else None) or 285.0
    # Pressure of the standard atmosphere at this height, where none was recorded.
    pressure = (weather.pressure_hpa if weather else None) or 1013.25 * (1 - 2.25577e-5 * height) ** 5.25588
    humidity = (weather.humidity_percent if weather else None) or 30.0
    tool, quanta = ctx.casa.tool("atmosphere"), ctx.casa.tool("quanta")
    taus: dict[int, float] = {}
    try:
        tool.initAtmProfile(
            altitude=quanta.quantity(height, "m"), temperature=quanta.quantity(temperature, "K"),
            pressure=quanta.quantity(pressure, "mbar"), humidity=humidity,
        )  # fmt: skip
        for window in ms.spws:
            taus[int(window.id)] = _opacity_at(tool, quanta, window, pwv_mm)
    finally:
        tool.done()
        quanta.done()
    return taus


def _opacity_at(tool: object, quanta: object, window: SpectralWindow, pwv_mm: float) -> float:
    width = quanta.quantity(window.bandwidth_hz / 1e9, "GHz")  # type: ignore[attr-defined]
    centre = quanta.quantity(window.centre_hz / 1e9, "GHz")  # type: ignore[attr-defined]
    tool.initSpectralWindow(1, centre, width, width)  # type: ignore[attr-defined]
    tool.setUserWH2O(quanta.quantity(pwv_mm, "mm"))  # type: ignore[attr-defined]
    wet = tool.getWetOpacity()  # type: ignore[attr-defined]
    dry = tool.getDryOpacity()  # type: ignore[attr-defined]
    return float(dry) + float(wet["value"][0] if isinstance(wet, dict) else wet)


def _requantizer(ctx: StageContext, ms: MeasurementSet, wanted: bool) -> Prior:
    if not wanted:
        return Prior(vis=ms.name, kind="rq", reason="switched off by apply_rqcal")
    if ms.start.replace(tzinfo=ms.start.tzinfo or UTC) < REQUANTIZER_FROM:
        return Prior(vis=ms.name, kind="rq", reason=f"observed in {ms.start.year}, before there was a requantizer")
    if "SYSPOWER" not in ms.subtables:
        return Prior(vis=ms.name, kind="rq", reason="the data carry no SYSPOWER table")
    return _made(ctx, ms, "rq", "requantizer gains of the SYSPOWER table")


def _switched_power(ctx: StageContext, ms: MeasurementSet, wanted: bool) -> Prior:
    if not wanted:
        return Prior(vis=ms.name, kind="swpow", reason="switched off: apply_swpowcal is not set")
    missing = [name for name in ("SYSPOWER", "CALDEVICE") if name not in ms.subtables]
    if missing:
        return Prior(
            vis=ms.name, kind="swpow", reason=f"the data carry no {' and no '.join(missing)} table", expected=True
        )
    return _made(ctx, ms, "swpow", "gains of the switched power, from the SYSPOWER and CALDEVICE tables")


def _positions(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> tuple[Prior, list[AntennaOffset]]:
    if not inputs.apply_antpos:
        return Prior(vis=ms.name, kind="antpos", reason="switched off by apply_antpos"), []
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
            return Prior(vis=ms.name, kind="antpos", reason=reason, expected=not answered), []
        if path.is_file() and not own.is_file():  # the user's own file beside the run stays as it is
            ctx.files.copy(path, own)
        write_offsets(own, rows, source)
    elif not path.is_file():
        return Prior(vis=ms.name, kind="antpos", reason="no file of antenna offsets was given"), []
    offsets = [o for o in rows if o.antenna in ms.antenna_names]
    offsets = [attrs.evolve(o, vis=ms.name) for o in offsets]
    if not offsets:
        reason = f"{source} names no antenna of this measurement set"
        return Prior(vis=ms.name, kind="antpos", reason=reason, expected=bool(inputs.antposfile)), []
    prior = _made(
        ctx, ms, "antpos", f"{len(offsets)} antennas of {source}", antenna=",".join(o.antenna for o in offsets),
        parameter=[v for o in offsets for v in o.offset_m],
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
            ctx, ms, "antpos", f"delay error of semester 16B; {prior.reason}", antenna=ms.antenna_names[0],
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


def _ionosphere(ctx: StageContext, ms: MeasurementSet, inputs: PriorcalsInputs) -> Prior:
    if not inputs.apply_tec_correction:
        return Prior(vis=ms.name, kind="tecim", reason="switched off: apply_tec_correction is not set")
    if inputs.tecmap is None:
        return Prior(
            vis=ms.name, kind="tecim", expected=True,
            reason="no map of the ionosphere was given (tecmap), and the service that has them asks for an account",
        )  # fmt: skip
    if not (inputs.tecmap / "table.dat").is_file():
        raise PlError(f"{inputs.tecmap} is no CASA image of the ionosphere; make one with CASA's tec_maps.")
    return _made(ctx, ms, "tecim", f"electron content of {inputs.tecmap.name}", infile=str(inputs.tecmap.resolve()))
