"""First delays and bandpass; bad deformatters are found and flagged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from pl_hif import solve
from pl_hif.solve import Caltable
from pl_hifv import calibrators, solves
from pl_hifv.bursts import Burst, flag_bursts
from pl_hifv.calibrators import BandSelection, LostHand, MsState
from pl_hifv.heuristics import deformatter
from pl_hifv.heuristics.deformatter import BadBaseband, BadWindow
from pl_hifv.heuristics.solint import Choice, Trial, climb, spelled
from pl_hifv.solves import BandSolutions
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

PASSES = 3
"""Reference antennas that are tried before so many bad deformatters are believed."""


class TestBPdcalsInputs(Inputs):
    __test__ = False  # pytest would take the name for a test

    weakbp: bool = param(
        False, doc="Accepted for old recipes; noisy bandpasses are averaged wherever it is needed.", hidden=True
    )
    refantignore: tuple[str, ...] = param((), doc="Antennas that must not become reference.")
    refant: tuple[str, ...] = param((), doc="Antennas to use as reference, in this order; replaces the ranking.")
    doflagundernspwlimit: bool = param(
        False, doc="Flag single bad windows too, not only basebands with four or more of them."
    )
    flagbaddef: bool = param(True, doc="Flag antennas and basebands whose bandpass shows a bad deformatter.")
    iglist: dict[str, dict[str, str]] = param(
        factory=dict, doc="Windows spared from this flagging: antenna → band → spws ('3', '2~5'; empty: all)."
    )


@attrs.frozen(kw_only=True)
class TestBand(BandSolutions):
    """The ladder of a band, the trials of the gains' interval, and what looks like bad deformatters.

    ``rejected`` reference antennas made half of the array look bad. ``avoided`` channels of each window were left
    out of delays and gains, because interference spoils them; ``bursts`` of it are flagged. ``commands`` flag the bad
    basebands; they were ``applied`` unless the data are too old or flagging is off.
    """

    __test__ = False

    choice: Choice
    windows: tuple[BadWindow, ...] = attrs.field(default=(), converter=tuple)
    bad: tuple[BadBaseband, ...] = attrs.field(default=(), converter=tuple)
    rejected: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    avoided: dict[int, tuple[int, ...]] = attrs.field(factory=dict)
    bursts: tuple[Burst, ...] = attrs.field(default=(), converter=tuple)
    passes: int = 1
    commands: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    applied: bool = False


class TestBPdcalsResult(Result):
    """The first calibration of every measurement set and band."""

    __test__ = False

    bands: tuple[TestBand, ...]
    antennas: dict[str, tuple[str, ...]]
    refants: dict[str, tuple[str, ...]]


class TestBPdcals(Stage[TestBPdcalsInputs, TestBPdcalsResult]):
    """First delays and bandpass of the VLA; bad deformatters are found and flagged.

    For every band: phases per integration of the delay calibrator, delays, gains of the bandpass and delay
    calibrators, bandpass. The gains take the shortest of one, three and ten integrations that leaves at most 5 % of
    them flagged; later stages take it over. The corrected column of these scans is written for the search for
    interference; the tables are of passage.

    A deformatter is called bad when in four or more windows of a baseband (or all of two or three) the amplitude of an
    antenna's bandpass falls below 0.15 of its maximum, or its phase ranges over more than 50°, within the inner 80 % of
    the channels. Before, integrations in which interference switches on in the raw data are flagged, where it does
    (`pl_hifv.heuristics.bursts`): one of them spoils a channel of the bandpass, and with it of all data.

    When that is so for half of the antennas, the reference antenna is to blame: it is put aside for the
    rest of the run and the band is solved again, up to three times. Bad basebands are flagged in the correlations that
    fail and the cross hands they are part of; not in data from before MJD 56062.7.

    Limits are the reference pipeline's (2026). Different here: phases are unwrapped before their range is taken;
    flags name the correlation that failed; antennas are counted, not flag commands; a repeated pass begins with the
    flags of the first; with flagbaddef=False there is one pass, not three; a band without solutions fails visibly.
    """

    name = "hifv_testBPdcals"
    topic = "calibration"
    each_set = True
    mutates = frozenset({"flags", "corrected"})
    __test__ = False

    def check(self, ctx: StageContext, inputs: TestBPdcalsInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            need_calibrators(ms)

    def run(self, ctx: StageContext, inputs: TestBPdcalsInputs) -> TestBPdcalsResult:
        ctx = solves.before_final(ctx)
        bands: list[TestBand] = []
        changed: list[MsState] = []
        failures: list[ItemFailure] = []
        antennas: dict[str, tuple[str, ...]] = {}
        refants: dict[str, tuple[str, ...]] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            chosen = calibrators.selection(ms)
            antennas[ms.name] = ms.antenna_names
            refants[ms.name] = solves.ranked_refants(
                ctx, ms, chosen.calibrator_fields, inputs.refant, inputs.refantignore
            )
            rejected: list[str] = []
            state = calibrators.state_of(ctx, ms)
            for number, band in enumerate(chosen.bands, 1):
                ctx.progress(number - 1, len(chosen.bands), f"{ms.name}, {band.band} band")
                try:
                    found = self._band(ctx, ms, band, inputs, [r for r in refants[ms.name] if r not in rejected])
                except PlError as error:
                    failures.append(failed(ctx, ms, band, error))
                    continue
                bands.append(found)
                rejected += found.rejected
                state = state.with_band(
                    attrs.evolve(
                        state.band(band.band), gain_s=found.choice.trial.seconds,
                        gain_solint=found.choice.trial.solint,
                    )
                )
            refants[ms.name] = tuple(r for r in refants[ms.name] if r not in rejected)
            lost = lost_hands(b for found in bands if found.vis == ms.name and found.applied for b in found.bad)
            changed.append(attrs.evolve(state, ignored_refants=rejected, lost_hands=lost))
        need_one(bands, failures)
        return TestBPdcalsResult(
            bands=tuple(bands), antennas=antennas, refants=refants, failures=tuple(failures),
            effects=(calibrators.remember(ctx, changed),),
        )  # fmt: skip

    def _band(
        self, ctx: StageContext, ms: MeasurementSet, band: BandSelection, inputs: TestBPdcalsInputs, refants: list[str]
    ) -> TestBand:
        rejected: list[str] = []
        heard = flag_bursts(ctx, ms, band.test_fields, band.test_scans, band.spws, "DATA")
        avoid = solves.spoiled_channels(ctx, ms, band)
        if avoid:
            names = ", ".join(f"{s}:{','.join(map(str, channels))}" for s, channels in avoid.items())
            ctx.log.attention(f"{ms.name}, {band.band} band: interference in channels {names}; solves avoid them.")
        for number in range(1, PASSES + 1):
            found, after = self._solve(ctx, ms, band, refants, avoid)
            windows, bad = find_bad(ctx, ms, found, inputs) if inputs.flagbaddef else ((), ())
            found = attrs.evolve(found, windows=windows, bad=bad, bursts=heard, rejected=rejected, passes=number)
            last = number == PASSES or len(refants) < 2
            if last or not deformatter.reference_suspect(bad, len(ms.antennas)):
                break
            first = found.refant
            ctx.log.warning(
                f"{ms.name}, {band.band} band: {len({b.antenna for b in bad})} of {len(ms.antennas)} antennas look"
                f" like bad deformatters; the reference antenna {first} is put aside and the band solved again."
            )
            rejected.append(first)
            refants = [r for r in refants if r != first]
        solves.apply(after, ms, band.spws, band.test_fields, band.test_scans)
        return self._flag(ctx, ms, found)

    def _solve(
        self, ctx: StageContext, ms: MeasurementSet, band: BandSelection, refants: list[str],
        avoid: dict[int, tuple[int, ...]],
    ) -> tuple[TestBand, StageContext]:  # fmt: skip
        delay = solves.delays(
            ctx, ms, band, refants,
            (ctx.path(ms, "1_testdelayinitialgain", band.band), ctx.path(ms, "2_testdelay", band.band)), avoid=avoid,
        )  # fmt: skip
        solve.require(delay.table, f"the delays of {band.band} band")
        with_delay = solves.preapplying(ctx, ms, delay.table)
        tables: dict[str, Caltable] = {}

        def trial(integrations: int) -> Trial:
            seconds = integrations * band.integration_s
            path = ctx.path(ms, "3_testBPdinitialgain", "" if integrations == 1 else integrations, band.band)
            table = solves.gains(
                with_delay, ms, path, band.test_fields, band.test_scans, refants=delay.refants, calmode="ap",
                solint="int" if integrations == 1 else f"{seconds:.6g}s", minsnr=5.0,
                spw=solves.central(ms, band.spws, avoid),
            )  # fmt: skip
            tables[path] = table
            return Trial(
                integrations=integrations, seconds=seconds, solint=spelled(seconds, band.integration_s),
                flagged=solves.flagged_median(table), table=path,
            )  # fmt: skip

        choice = climb(trial)
        if choice.poor:
            ctx.log.warning(f"{ms.name}, {band.band} band: {choice.reason}.")
        gain = solve.require(tables[choice.trial.table], f"the gains of {band.band} band")
        with_gain = solves.preapplying(with_delay, ms, gain)
        path = ctx.path(ms, "4_testBPcal", band.band)
        bandpass = solves.bandpass(with_gain, ms, band, delay.refants, path)
        solve.require(bandpass.table, f"the bandpass of {band.band} band")
        ctx.casa.flagdata(
            vis=path, mode="clip", datacolumn="CPARAM", correlation="ABS_ALL", clipminmax=[0.0, 2.0], clipoutside=True,
            action="apply", flagbackup=False, savepars=False,
        )  # fmt: skip
        band_found = TestBand(
            vis=ms.name, band=band.band, spws=band.spws, basebands=band.basebands, refant=delay.refants[0],
            correlations=solves.correlations(ms, band.spws), line_spws=solves.line_windows(ctx, ms, band.spws),
            delay=delay, gain=gain, gain_solint=choice.trial.solint, bandpass=bandpass, choice=choice,
            avoided=avoid,
        )  # fmt: skip
        return band_found, solves.preapplying(with_gain, ms, bandpass.table)

    def _flag(self, ctx: StageContext, ms: MeasurementSet, found: TestBand) -> TestBand:
        if not found.bad:
            return found
        present = ms.polarization_of(ms.spw(found.spws[0]).id).correlations
        commands = [c for b in found.bad for c in deformatter.flag_commands(b, present, _in_order(ms))]
        if _mjd(ms) < deformatter.FLAGGED_FROM_MJD:
            ctx.log.warning(f"{ms.name} is from before May 2012: {len(found.bad)} suspicious basebands stay unflagged.")
            return attrs.evolve(found, commands=commands)
        for item in found.bad:
            ctx.log.warning(f"{ms.name}: {describe(item)}; flagged.")
        ctx.casa.flagdata(vis=ms.path, mode="list", inpfile=commands, action="apply", flagbackup=False, savepars=False)
        return attrs.evolve(found, commands=commands, applied=True)


def lost_hands(bad: Iterable[BadBaseband]) -> list[LostHand]:
    """Windows with antennas of which one hand was flagged: hifv_checkflag leaves their other hand alone."""
    by_spw: dict[int, list[str]] = {}
    for (antenna, spw), single in deformatter.one_handed(bad).items():
        if single:
            by_spw.setdefault(spw, []).append(antenna)
    return [LostHand(spw=spw, antennas=sorted(names)) for spw, names in sorted(by_spw.items())]


def need_calibrators(ms: MeasurementSet) -> None:
    """Raise a PlError when no band of a measurement set can be calibrated."""
    bands = calibrators.selection(ms).bands
    if not bands or all(b.missing for b in bands):
        raise PlError(
            f"No scan of {ms.name} has the intent BANDPASS or AMPLITUDE, which its calibration begins with;"
            " name a field for it with --intent \"BANDPASS=NAME\" when importing."
        )


def need_one(bands: Sequence[object], failures: Sequence[ItemFailure]) -> None:
    """Raise a PlError when not a single band could be calibrated: there is nothing to go on with."""
    if not bands and failures:
        raise PlError(f"No band could be calibrated; {failures[0].item}: {failures[0].reason}")


def failed(ctx: StageContext, ms: MeasurementSet, band: BandSelection, error: Exception) -> ItemFailure:
    """A band that could not be calibrated: said in the log, kept in the result, scored there."""
    reason = band.missing or str(error)
    ctx.log.error(f"{ms.name}, {band.band} band: {reason}")
    return ItemFailure(item=f"{ms.name} {band.band} band", reason=reason)


def find_bad(
    ctx: StageContext, ms: MeasurementSet, found: BandSolutions, inputs: Any
) -> tuple[tuple[BadWindow, ...], tuple[BadBaseband, ...]]:
    """Look for bad deformatters in the bandpass of a band."""
    windows: list[BadWindow] = []
    baseband_of = {spw: name for name, members in found.basebands.items() for spw in members}
    names = {a.id: a.name for a in ms.antennas}
    for spw in found.spws:
        solutions = solve.read_solutions(ctx, found.bandpass.table.path, spw)
        for row in range(solutions.rows):
            antenna = names.get(int(solutions.antenna[row]))
            if antenna is None:  # tables have rows of antennas that took no data
                continue
            if deformatter.ignored(inputs.iglist, antenna, found.band, spw):
                continue
            passbands = [
                deformatter.assess(solutions.gain[p, :, row], solutions.flag[p, :, row])
                for p in range(solutions.gain.shape[0])
            ]
            for kind in ("amplitude", "phase"):
                window = deformatter.bad_window(
                    antenna, spw, found.band, baseband_of[spw], found.correlations, passbands, kind
                )
                windows += [window] if window else []
    bad = deformatter.by_baseband(
        windows, {(found.band, n): s for n, s in found.basebands.items()}, inputs.doflagundernspwlimit
    )
    return tuple(windows), bad


def describe(item: BadBaseband) -> str:
    """One clause for logs and scores."""
    where = f"baseband {item.baseband}" if item.whole else f"spws {', '.join(str(s) for s in item.spws)}"
    amplitude, phase = f"amplitude falls to {item.value:.2f}", f"phase ranges over {item.value:.0f}°"
    what = amplitude if item.kind == "amplitude" else phase
    return f"{item.antenna}, {where} of {item.band} band ({', '.join(item.correlations)}): the bandpass {what}"


def _in_order(ms: MeasurementSet) -> list[str]:
    return [a.name for a in sorted(ms.antennas, key=lambda a: a.id)]


def _mjd(ms: MeasurementSet) -> float:
    return ms.start.timestamp() / 86400.0 + 40587.0
