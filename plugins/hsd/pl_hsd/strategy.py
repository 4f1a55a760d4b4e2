"""How each measurement set is to be calibrated: mode, Tsys windows, OFF fields, and how it maps the sky."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from pl_hsd.rows import origin_name
from pl_kernel.effects import SetValue
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.serialize import from_json
from pl_kernel.stage_context import StageContext

KEY = "hsd.strategy"
NO_OFF = "There is no spectrum of an OFF position: the sky cannot be subtracted."
_NO_TSYS_DATA = ("CH_AVG", "SQLD", "WVR")
_EDGE = 1e-3
_TARGET_QUALIFIED = re.compile(r"OBSERVE_TARGET[#,_].*?(ON|OFF)_SOURCE")


@attrs.frozen(kw_only=True)
class Strategy:
    """Strategy of one imported measurement set; spw, field and antenna ids are its own (real) ones.

    ``calmode`` is ps (position switching; rasters with an OFF position too), fs or none.  ``tsys_spw`` gives for each
    science window the one with its Tsys; ``reference_fields`` for each target field the one with its OFF (itself, when
    the OFF is an offset).  ``pattern`` is RASTER, SINGLE-POINT or MULTI-POINT by "antenna/spw/field".  ``frame`` is
    that of the directions in the table of rows, ``ephemeris_fields`` are those that move.
    """

    calmode: str
    tsys_spw: dict[int, int] = attrs.field(factory=dict)
    reference_fields: dict[int, int] = attrs.field(factory=dict)
    pattern: dict[str, str] = attrs.field(factory=dict)
    frame: str = "ICRS"
    ephemeris_fields: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def pattern_of(self, antenna: int, spw: int, field: int) -> str:
        """RASTER, SINGLE-POINT or MULTI-POINT; empty for a combination without spectra."""
        return self.pattern.get(f"{antenna}/{spw}/{field}", "")


def strategy(ctx: StageContext, ms: MeasurementSet | str) -> Strategy:
    """The strategy of a measurement set, or of the one it was made from.

    Raises:
        DataError: it was imported without one.
    """
    origin = origin_name(ctx, ms)
    known = ctx.value(KEY, {})
    if origin not in known:
        raise DataError(f"{origin} has no calibration strategy; import it with hsd_importdata or hsdn_importdata.")
    return from_json(known[origin], Strategy)


def remember(ctx: StageContext, strategies: dict[str, Strategy]) -> SetValue:
    """The effect that keeps the strategies of imported measurement sets, beside those known already."""
    return SetValue(KEY, {**ctx.value(KEY, {}), **strategies})


# ---- how it is found -------------------------------------------------------------------------------------------------


def calibration_mode(obs_modes: Sequence[str]) -> str:
    """ps, fs or none, from the words of STATE.OBS_MODE; the first row counts for the switching keywords.

    Nobeyama data write POSITION_SWITCH where others write PSWITCH.
    """
    first = obs_modes[0].upper() if obs_modes else ""
    if "PSWITCH" in first or "POSITION_SWITCH" in first:
        return "ps"
    if "FSWITCH" in first or "FREQUENCY_SWITCH" in first:
        return "fs"
    return "ps" if any(_TARGET_QUALIFIED.search(m.upper()) for m in obs_modes) else "none"


def tsys_windows(
    science: Iterable[SpectralWindow], windows: Iterable[SpectralWindow]
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Science window → window with its Tsys, and remarks about those without one or with one too narrow.

    Candidates have the intent ATMOSPHERE, the same baseband, and contain the science window up to a thousandth of their
    frequency; the one that covers most of it wins, then the one with finer channels.
    """
    tsys = [s for s in windows if "ATMOSPHERE" in s.intents and not any(w in s.name.upper() for w in _NO_TSYS_DATA)]
    found, remarks = {}, []
    for spw in science:
        fitting = [t for t in tsys if t.baseband == spw.baseband and _contains(t, spw)]
        if not fitting:
            remarks.append(f"Spw {spw.id} has no spw with its Tsys.")
            continue
        best = max(fitting, key=lambda t: (round(coverage(t, spw), 6), t.id == spw.id, -t.channel_width_hz, -t.id))
        found[int(spw.id)] = int(best.id)
        if coverage(best, spw) < 1:
            remarks.append(f"The Tsys of spw {best.id} covers {coverage(best, spw):.1%} of spw {spw.id}.")
    return found, tuple(remarks)


def coverage(tsys: SpectralWindow, science: SpectralWindow) -> float:
    """Part of a science window that a Tsys window covers, 0 to 1."""
    overlap = min(tsys.max_hz, science.max_hz) - max(tsys.min_hz, science.min_hz)
    return max(0.0, overlap / (science.max_hz - science.min_hz))


def _contains(tsys: SpectralWindow, science: SpectralWindow) -> bool:
    low = (science.min_hz - tsys.min_hz) / tsys.min_hz
    high = (science.max_hz - tsys.max_hz) / tsys.max_hz
    return low >= -_EDGE and high <= _EDGE


def reference_fields(
    targets: dict[int, str], references: dict[int, str]
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Target field → field of its OFF, by name, and remarks.

    The OFF is a field of the same name, or ``<target>_OFF_<n>`` (older data: ``<target>_<n>``); where no field has the
    intent REFERENCE the target itself.
    """
    found, remarks = {}, []
    for target, name in targets.items():
        if not references:
            found[target] = target
            continue
        kinds = (
            [f for f, n in references.items() if n == name],
            [f for f, n in references.items() if re.fullmatch(rf"{re.escape(name)}_OFF_\d+", n)],
            [f for f, n in references.items() if re.fullmatch(rf"{re.escape(name)}_\d+", n)],
        )
        for number, fitting in enumerate(kinds):
            if fitting:
                found[target] = target if target in fitting else fitting[0]
                if number == 2:
                    remarks.append(f"The OFF of {name} is found by an old convention: {references[fitting[0]]}.")
                break
        else:
            remarks.append(f"{name} has no field that can be its OFF.")
    return found, tuple(remarks)


def strategy_of(ms: MeasurementSet) -> Strategy:
    """What can be said from the metadata of a measurement set, without its rows: no pattern, no frame."""
    used = [i for scan in ms.scans for i in scan.state_ids]
    modes = [s.obs_mode for s in ms.states if s.id in set(used)] or [s.obs_mode for s in ms.states]
    if "REFERENCE" not in ms.intents:
        # Without OFF spectra nothing can be subtracted, whatever the switching mode says.
        return Strategy(calmode="none", remarks=(NO_OFF,))
    if "ATMOSPHERE" in ms.intents or "SYSCAL" not in ms.subtables:
        tsys, unhappy = tsys_windows(ms.science_spws, ms.spws)
    else:
        tsys, unhappy = {int(s.id): int(s.id) for s in ms.science_spws}, ()  # each record came with its own Tsys
    targets = {f.id: f.name for f in ms.fields_with_intent("TARGET")}
    offs, missing = reference_fields(targets, {f.id: f.name for f in ms.fields_with_intent("REFERENCE")})
    return Strategy(
        calmode=calibration_mode(modes), tsys_spw=tsys, reference_fields=offs, remarks=(*unhappy, *missing)
    )
