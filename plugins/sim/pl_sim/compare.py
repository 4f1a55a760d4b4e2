"""Is the answer right? Comparisons of calibration tables, flags, fluxes, visibilities and images with the truth.

Each function returns plain numbers and judges nothing; tests and QA choose their tolerances.
"""

# ruff: noqa: E741 - l, m and n are direction cosines in every paper.
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from pl_sim.casa import open_table, tool
from pl_sim.geometry import ARCSEC, direction_cosines, offset_direction
from pl_sim.sky import primary_beam

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pl_sim.observation import Component
    from pl_sim.truth import Truth


_INNER = 0.8
"""Share of the channels that solutions are taken to rest on."""


@frozen
class Comparison:
    """Recovered minus injected, over all solutions that are not flagged."""

    quantity: str
    unit: str
    rms: float
    worst: float
    count: int
    residuals: NDArray
    labels: tuple[str, ...]
    """What each residual belongs to: `antenna/receptor/spw/time`."""
    expected_rms: float | None = None
    """The same from thermal noise alone, where it is known."""


def compare_caltable(truth: Truth, caltable: Path | str, *, reference: str | None = None) -> Comparison:
    """Compare a table of K, B, G, T or D solutions with what was injected.

    K: ns. B: fractional complex deviation of the shape. G, T: fractional complex deviation of the time dependence: a
    constant per antenna, receptor, spw and field is left free, since it depends on which other tables were applied
    and on leakage; `expected_rms` is what thermal noise alone gives for phases solved from the inner 80 % of the
    channels. D: difference of moduli relative to the reference antenna.

    reference: name of the reference antenna; used where CASA's table does not name it; default
        the antenna that has no phase.
    """
    with open_table(caltable) as tb:
        kind = tb.getkeyword("VisCal")
        parameter = "FPARAM" if "FPARAM" in tb.colnames() else "CPARAM"
        rows = {
            name: tb.getcol(name)
            for name in ("ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID", "TIME", "INTERVAL", "FIELD_ID")
        }
        values = [tb.getcell(parameter, i) for i in range(tb.nrows())]
        flags = [tb.getcell("FLAG", i) for i in range(tb.nrows())]
    solver = {"K": _delays, "B": _bandpasses, "G": _gains, "T": _gains, "D": _leakages}.get(kind[:1])
    if solver is None or "cross" in kind.lower():
        raise ValueError(f"{caltable} holds {kind} solutions, for which there is no comparison")
    unknown = rows["ANTENNA2"] < 0
    if unknown.any():
        rows["ANTENNA2"][unknown] = (
            truth.antennas.index(reference) if reference is not None else _phaseless(rows["ANTENNA1"], values, flags)
        )
    return solver(truth, rows, values, flags)


def _phaseless(antennas: NDArray, values: list[NDArray], flags: list[NDArray]) -> int:
    """The antenna whose solutions have neither phase nor delay; -1 if there is none (amplitude tables)."""
    size: dict[int, float] = {}
    for antenna, value, flag in zip(antennas.tolist(), values, flags, strict=True):
        good = value[~flag]
        if good.size:
            phase = np.abs(np.angle(good)) if np.iscomplexobj(good) else np.abs(good)
            size[antenna] = max(size.get(antenna, 0.0), float(phase.max()))
    zero = [a for a, largest in size.items() if largest < 1e-6]
    return zero[0] if len(zero) == 1 else -1


def _label(truth: Truth, antenna: int, receptor: int, spw: int) -> str:
    return f"{truth.antennas[antenna]}/{receptor}/{spw}"


def _collect(
    quantity: str, unit: str, residuals: Sequence[complex], labels: list[str], expected: float | None = None
) -> Comparison:
    array = np.array(residuals)
    size = np.abs(array)
    return Comparison(
        quantity,
        unit,
        float(np.sqrt(np.mean(size**2))) if len(array) else math.nan,
        float(size.max()) if len(array) else math.nan,
        len(array),
        array,
        tuple(labels),
        expected,
    )


def _delays(truth: Truth, rows: dict[str, NDArray], values: list[NDArray], flags: list[NDArray]) -> Comparison:
    residuals, labels = [], []
    for i, value in enumerate(values):
        a, r, s = (int(rows[k][i]) for k in ("ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID"))
        if r < 0 or a == r:
            continue
        expected = truth.delay_ns(s, truth.antennas[r])
        for p in range(value.shape[0]):
            if not flags[i][p].any():
                residuals.append(float(value[p, 0]) - expected[a, p])
                labels.append(_label(truth, a, p, s))
    return _collect("delay", "ns", residuals, labels)


def _bandpasses(truth: Truth, rows: dict[str, NDArray], values: list[NDArray], flags: list[NDArray]) -> Comparison:
    residuals, labels = [], []
    for i, value in enumerate(values):
        a, r, s = (int(rows[k][i]) for k in ("ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID"))
        expected = truth.bandpass(s, truth.antennas[r])[a] if r >= 0 else truth.array(f"bandpass_{s}")[a]
        for p in range(value.shape[0]):
            # The edges, where the response falls, are noisy and usually flagged.
            good = ~flags[i][p] & (np.abs(expected[p]) > 0.7)
            if good.sum() < 3:
                continue
            ratio = value[p, good] / expected[p, good]
            ratio = ratio / ratio.mean()
            residuals.append(complex(np.std(ratio.real), np.std(ratio.imag)))
            labels.append(_label(truth, a, p, s))
    return _collect("bandpass", "", residuals, labels)


def _gains(truth: Truth, rows: dict[str, NDArray], values: list[NDArray], flags: list[NDArray]) -> Comparison:
    fields = list(truth.fields)
    finite = [np.abs(v[~f]) for v, f in zip(values, flags, strict=True)]
    phases_only = all(np.allclose(v, 1, atol=1e-4) for v in finite)
    present: dict[tuple[float, int], set[int]] = {}
    for i, flag in enumerate(flags):
        if not flag.all():
            present.setdefault((rows["TIME"][i], int(rows["SPECTRAL_WINDOW_ID"][i])), set()).add(
                int(rows["ANTENNA1"][i])
            )
    ratios: dict[str, list[complex]] = {}
    variances: dict[str, list[float]] = {}
    for i, value in enumerate(values):
        a, r, s = (int(rows[k][i]) for k in ("ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID"))
        if a == r:
            continue
        seconds = max(rows["INTERVAL"][i], truth.record["integration_s"])
        expected = truth.gain(
            s, rows["TIME"][i] - seconds / 2, rows["TIME"][i] + seconds / 2, truth.antennas[r] if r >= 0 else None
        )
        if phases_only:
            expected = expected / np.abs(expected)
        field = fields[int(rows["FIELD_ID"][i])]
        flux = truth.flux_jy(field, float(truth.frequency_hz(s).mean()))
        channels = _INNER * len(truth.frequency_hz(s))
        samples = channels * max(1.0, round(seconds / truth.record["integration_s"]))
        antennas = len(present.get((rows["TIME"][i], s), {a}))
        for p in range(value.shape[0]):
            if not flags[i][p].any():
                label = f"{_label(truth, a, p, s)}/{field}"
                ratios.setdefault(label, []).append(complex(value[p, 0]) / expected[a, p])
                # Phase of a point source between N antennas: var(phi_a - phi_ref) = 2 var(baseline) / N.
                sigma = float(np.mean(truth.thermal_jy(s)[:, p])) / flux
                variances.setdefault(label, []).append(2 / antennas * sigma**2 / samples)
    residuals: list[complex] = []
    labels: list[str] = []
    expected_variance: list[float] = []
    for label, ratio in ratios.items():
        array = np.array(ratio)
        if len(array) > 1:
            residuals += list(array / array.mean() - 1)
            labels += [label] * len(array)
            expected_variance += variances[label]
    thermal = float(np.sqrt(np.mean(expected_variance))) if expected_variance else None
    return _collect("gain", "", residuals, labels, thermal)


def _leakages(truth: Truth, rows: dict[str, NDArray], values: list[NDArray], flags: list[NDArray]) -> Comparison:
    residuals, labels = [], []
    for i, value in enumerate(values):
        a, r, s = (int(rows[k][i]) for k in ("ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID"))
        if r < 0:
            continue
        injected = truth.array(f"leakage_{s}").mean(axis=-1)
        # An unpolarized source fixes D only up to d_R + x, d_L - conj(x); the reference antenna has d_R = 0.
        expected = (injected[a, 0] - injected[r, 0], injected[a, 1] + np.conj(injected[r, 0]))
        for p in range(value.shape[0]):
            good = ~flags[i][p]
            if good.any():
                # Moduli first: the delay between the receptors of the reference antenna turns D over the channels.
                residuals.append(float(np.median(np.abs(value[p, good])) - np.abs(expected[p])))
                labels.append(_label(truth, a, p, s))
    return _collect("leakage", "", residuals, labels)


@frozen
class FlagComparison:
    """Flags against the boxes of bad visibilities."""

    bad: int
    """Visibilities that should be flagged."""
    found: int
    """… and are."""
    good: int
    """Visibilities about which nothing is wrong."""
    false: int
    """… and that are flagged all the same."""
    by_reason: dict[str, tuple[int, int]]
    """Per fault: (bad, found)."""

    @property
    def completeness(self) -> float:
        return self.found / self.bad if self.bad else 1.0

    @property
    def false_fraction(self) -> float:
        return self.false / self.good if self.good else 0.0


def main_columns(truth: Truth, tb: Any, start: int, count: int) -> dict[str, NDArray]:
    """Columns of main-table rows as `Truth.bad_rows` wants them. DATA_DESC_ID is taken for the spw."""
    columns = {name: tb.getcol(name, start, count) for name in ("TIME", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER")}
    names = np.array(list(truth.fields))
    return {
        **columns,
        "FIELD": names[tb.getcol("FIELD_ID", start, count)],
        "SPW": tb.getcol("DATA_DESC_ID", start, count),
    }


def compare_flags(
    truth: Truth,
    ms: Path | str,
    *,
    severities: tuple[str, ...] = ("bad", "online"),
    ignore: tuple[str, ...] = ("calibratable", "weak"),
) -> FlagComparison:
    """Compare the FLAG column with what is known to be bad.

    Regions whose severity is in `ignore` count neither as bad nor as good.
    """
    found = bad = good = false = 0
    reasons: dict[str, list[int]] = {}
    with open_table(ms) as main:
        for spw in sorted(set(main.getcol("DATA_DESC_ID").tolist())):
            tb = main.query(f"DATA_DESC_ID=={spw}")
            correlations = truth.record["spws"][spw]["correlations"]
            for start in range(0, tb.nrows(), 20000):
                count = min(20000, tb.nrows() - start)
                flags = tb.getcol("FLAG", start, count).transpose(2, 1, 0)
                columns = main_columns(truth, tb, start, count)
                expected, open_question = np.zeros(flags.shape, bool), np.zeros(flags.shape, bool)
                for region, rows in truth.bad_rows(columns, severities + ignore):
                    if not rows.any():
                        continue
                    box = np.ix_(
                        np.nonzero(rows)[0],
                        np.nonzero(region.channel_mask(flags.shape[1]))[0],
                        np.nonzero(region.correlation_mask(correlations))[0],
                    )
                    if region.severity in severities:
                        expected[box] = True
                        tally = reasons.setdefault(region.reason, [0, 0])
                        tally[0] += flags[box].size
                        tally[1] += int(flags[box].sum())
                    else:
                        open_question[box] = True
                clean = ~expected & ~open_question
                bad += int(expected.sum())
                found += int((flags & expected).sum())
                good += int(clean.sum())
                false += int((flags & clean).sum())
            tb.close()
    return FlagComparison(bad, found, good, false, {k: (v[0], v[1]) for k, v in reasons.items()})


def compare_fluxes(truth: Truth, fluxes: Mapping[str, Mapping[int, float]]) -> Comparison:
    """Flux densities by field and spw, in Jy, as fractional deviations from the truth at the middle of the spw."""
    residuals, labels = [], []
    for field, per_spw in fluxes.items():
        for spw, value in per_spw.items():
            expected = truth.flux_jy(field, float(truth.frequency_hz(spw).mean()))
            residuals.append(value / expected - 1)
            labels.append(f"{field}/{spw}")
    return _collect("flux density", "", residuals, labels)


def compare_visibilities(
    truth: Truth,
    ms: Path | str,
    field: str,
    *,
    column: str = "CORRECTED_DATA",
    spws: tuple[int, ...] | None = None,
    line_only: bool = False,
) -> complex:
    """Mean of calibrated visibilities over the injected model: 1 + 0i for a perfect calibration.

    sum(V conj(M)) / sum(|M|^2) over unflagged parallel hands; `line_only`: the continuum of the model is subtracted
    from both, and only channels with line emission count.
    """
    field_id = list(truth.fields).index(field)
    numerator, denominator = 0j, 0.0
    with open_table(ms) as main:
        for spw in spws if spws is not None else range(len(truth.record["spws"])):
            tb = main.query(f"DATA_DESC_ID=={spw} && FIELD_ID=={field_id} && ANTENNA1!=ANTENNA2")
            if tb.nrows() == 0:
                tb.close()
                continue
            sky = truth.sky(field, spw, float(tb.getcol("TIME").mean()))
            hands = [
                k for k, c in enumerate(truth.record["spws"][spw]["correlations"]) if c in ("RR", "LL", "XX", "YY")
            ]
            for start in range(0, tb.nrows(), 20000):
                count = min(20000, tb.nrows() - start)
                model = sky.visibilities(tb.getcol("UVW", start, count).T)[0]
                model = np.broadcast_to(model, (count, model.shape[1]))
                data = tb.getcol(column, start, count).transpose(2, 1, 0)[..., hands]
                good = ~tb.getcol("FLAG", start, count).transpose(2, 1, 0)[..., hands]
                channels = np.ones(model.shape[1], bool)
                if line_only:
                    continuum = _continuum_only(truth, field, spw, tb.getcol("UVW", start, count).T)
                    data, model = data - continuum[..., None], model - continuum
                    profiles = sum(sky.line_profile(line)[0] / line.peak_jy for line in sky.lines)
                    channels = np.asarray(profiles) > 0.1
                if not channels.any():
                    continue
                weight = good[:, channels]
                reference = model[:, channels, None]
                numerator += complex(np.sum(np.where(weight, data[:, channels] * np.conj(reference), 0)))
                denominator += float(np.sum(weight * np.abs(reference) ** 2))
            tb.close()
    return numerator / denominator if denominator else complex(math.nan, math.nan)


def _continuum_only(truth: Truth, field: str, spw: int, uvw: NDArray) -> NDArray:
    sky = truth.sky(field, spw, float(truth.array("times")[0]))
    sky.lines = ()
    values = sky.visibilities(uvw)[0]
    return np.broadcast_to(values, (len(uvw), values.shape[1]))


@frozen
class ComponentMatch:
    """One component in an image."""

    name: str
    offset_beams: float
    """Distance from the injected position in units of the geometric-mean FWHM of the beam."""
    flux_ratio: float
    """Fitted flux density over the injected one (attenuated by the primary beam, if it was)."""
    fitted_jy: float
    alpha_error: float | None = None


def compare_image(
    truth: Truth,
    image: Path | str,
    field: str,
    *,
    alpha: Path | str | None = None,
    frequency_hz: float | None = None,
    box_beams: float = 2.0,
) -> list[ComponentMatch]:
    """Fit each injected component near its place in a continuum image of one field.

    Args:
        image: restored image, Jy/beam, not corrected for the primary beam.
        alpha: spectral-index image, compared at the position of compact components.
        frequency_hz: frequency of the image; default its reference frequency.
        box_beams: half size of the fitted box in beams (added to the size of the component).
    """
    ia = tool("image")
    ia.open(str(image))
    try:
        cs = ia.coordsys()
        beam = ia.restoringbeam()
        if "beams" in beam:
            beam = beam["beams"]["*0"]["*0"]
        frequency = frequency_hz or float(cs.referencevalue("n", "spectral")["numeric"][0])
        width = math.sqrt(beam["major"]["value"] * beam["minor"]["value"])
        source = truth.sources[truth.fields[field].source]
        return [
            _match(ia, cs, truth, field, source.ra_deg, source.dec_deg, c, width, frequency, alpha, box_beams)
            for c in source.components
        ]
    finally:
        ia.close()


def _match(
    ia: Any,
    cs: Any,
    truth: Truth,
    field: str,
    ra_deg: float,
    dec_deg: float,
    component: Component,
    beam: float,
    frequency: float,
    alpha: Path | str | None,
    box_beams: float,
) -> ComponentMatch:
    ra, dec = offset_direction(
        math.radians(ra_deg), math.radians(dec_deg), component.east_arcsec, component.north_arcsec
    )
    world = cs.toworld([0, 0, 0, 0], "n")["numeric"]
    world[:2] = [float(ra), float(dec)]
    x, y = cs.topixel(world)["numeric"][:2]
    cell = abs(cs.increment("n", "direction")["numeric"][1]) / ARCSEC
    half = math.ceil((box_beams * beam + component.major_arcsec) / cell)
    shape = ia.shape()
    box = [
        max(0, round(x) - half),
        max(0, round(y) - half),
        min(int(shape[0]) - 1, round(x) + half),
        min(int(shape[1]) - 1, round(y) + half),
    ]
    fit = ia.fitcomponents(box=",".join(map(str, box)), includepix=[])
    found = fit["results"]["component0"]
    flux = float(found["flux"]["value"][0])
    direction = found["shape"]["direction"]
    dra = math.remainder(direction["m0"]["value"] - float(ra), 2 * math.pi) * math.cos(float(dec)) / ARCSEC
    ddec = (direction["m1"]["value"] - float(dec)) / ARCSEC
    expected = float(component.flux(frequency)) * _attenuation(truth, field, float(ra), float(dec), frequency)
    if component.major_arcsec == 0 and "peak" in found:
        flux = float(found["peak"]["value"])
    error = None
    if alpha is not None and component.major_arcsec == 0:

        def seen(nu: float) -> float:
            return float(component.flux(nu)) * _attenuation(truth, field, float(ra), float(dec), nu)

        # The primary beam, narrower at higher frequencies, steepens the spectrum.
        slope = math.log(seen(1.01 * frequency) / seen(frequency / 1.01)) / math.log(1.01**2)
        error = _pixel(alpha, round(x), round(y)) - slope
    return ComponentMatch(
        component.name or truth.fields[field].source, math.hypot(dra, ddec) / beam, flux / expected, flux, error
    )


def _attenuation(truth: Truth, field: str, ra: float, dec: float, frequency: float) -> float:
    beam = truth.record["primary_beam"]
    if not beam:
        return 1.0
    centre = truth.fields[field]
    l, m, _ = direction_cosines(ra, dec, math.radians(centre.ra_deg), math.radians(centre.dec_deg))
    angle = math.asin(math.hypot(float(l), float(m)))
    return float(primary_beam(angle, np.array([frequency]), beam["diameter_m"], beam["factor"])[0])


def _pixel(image: Path | str, x: int, y: int) -> float:
    ia = tool("image")
    ia.open(str(image))
    try:
        return float(ia.getchunk([x, y, 0, 0], [x, y, 0, 0]).ravel()[0])
    finally:
        ia.close()
