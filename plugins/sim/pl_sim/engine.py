"""From a description to a measurement set: the loop over time.

Visibilities are made in blocks of integrations that fit a small buffer, so memory does not grow with the data.
Random numbers are keyed by scan, spw and integration: the data do not depend on the size of the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field

from pl_sim.errors import ImpossibleObservation
from pl_sim.faults import Fault, parse_fault
from pl_sim.geometry import Geometry
from pl_sim.metadata import write_metadata
from pl_sim.mswriter import MSWriter
from pl_sim.noise import complex_noise, radiometer_sigma, stream
from pl_sim.regions import Region
from pl_sim.schedule import Entry, timeline
from pl_sim.sky import SkyModel
from pl_sim.truth import truth_path, write_truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.instrument import Corruptions
    from pl_sim.observation import Observation

BUFFER_BYTES = 48 << 20
"""Data written at once."""
_CACHE_BYTES = 3 << 20
"""One spw's visibilities worked on at once."""
CORRELATED_ROLES = ("science", "pointing")


class Extension:
    """What a telescope adds to the rows of the correlator; override what is needed. All get the running `Run`."""

    subtables: tuple[str, ...] = ()
    """Optional subtables (names of `mswriter.SUBTABLES`) that must exist."""

    def start(self, run: Run) -> None:
        """After the standard subtables, before the first row."""

    def before_subscan(self, run: Run, entry: Entry) -> None:
        """Before the correlator's rows of a subscan (which exist only for kind `sky`)."""

    def after_chunk(self, run: Run, chunk: Chunk) -> None:
        """After the visibilities of one spw and some integrations are made, before they are written."""

    def after_subscan(self, run: Run, entry: Entry) -> None:
        """After the correlator's rows of a subscan."""

    def finish(self, run: Run) -> None:
        """After the last row."""

    def truth(self, run: Run) -> dict[str, Any]:
        """What goes into truth.json under the name of the class."""
        return {}


@define
class Run:
    """One simulation in progress."""

    observation: Observation
    seed: int
    writer: MSWriter
    corruptions: Corruptions
    faults: tuple[Fault, ...]
    geometry: Geometry
    regions: tuple[Region, ...] = ()
    shared: dict[str, Any] = field(factory=dict)
    """Room for extensions to pass things to each other."""
    progress: Callable[[float], None] | None = None
    _dopplers: dict[int, float] = field(factory=dict, init=False)

    def doppler(self, entry: Entry) -> float:
        """nu(TOPO) / nu(LSRK) of a line from the field of a subscan, at its middle.

        Found for all subscans at once: what costs is to start the computation.
        """
        if not self._dopplers:
            obs = self.observation
            entries = list(timeline(obs))
            places = np.radians([[obs.fields[e.field].ra_deg, obs.fields[e.field].dec_deg] for e in entries])
            ratios = self.geometry.topocentric_over_lsrk([e.times.mean() for e in entries], *places.T)
            self._dopplers.update(zip((e.first for e in entries), map(float, ratios), strict=True))
        return self._dopplers[entry.first]

    def noise_rng(self, purpose: str, *indices: int) -> np.random.Generator:
        """A stream that changes with the seed."""
        return stream(self.seed, purpose, *indices)

    def model_rng(self, purpose: str, *indices: int) -> np.random.Generator:
        """A stream of the truth, which does not."""
        return stream(self.observation.model_seed, purpose, *indices)

    def sky_model(self, entry: Entry, spw: int) -> SkyModel:
        """The sky of a subscan in a spw."""
        obs = self.observation
        fld = obs.fields[entry.field]
        window = obs.spws[spw]
        ra, dec = math.radians(fld.ra_deg), math.radians(fld.dec_deg)
        source = obs.source(fld.source)
        doppler = self.doppler(entry) if source.lines and window.frame == "TOPO" else 1.0
        return SkyModel(
            source,
            ra,
            dec,
            window.frequencies_hz,
            topocentric_over_lsrk=doppler,
            beam_diameter_m=obs.array.antennas[0].diameter_m if obs.primary_beam else None,
            beam_factor=obs.array.beam_factor,
        )


@define
class Chunk:
    """Some integrations of one subscan in one spw. Faults and extensions read and change it in place."""

    run: Run
    entry: Entry
    spw: int
    index: slice
    """Integrations in the run of all integrations of the observation."""
    times: NDArray[np.float64]
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]
    uvw: NDArray[np.float64]
    """(time, baseline, 3) metres."""
    frequency: NDArray[np.float64]
    gain: NDArray[np.complex64]
    """(time, antenna, receptor, channel)."""
    data: NDArray[np.complex64]
    """(time, baseline, channel, correlation)."""

    @property
    def correlations(self) -> tuple[str, ...]:
        return self.run.observation.spws[self.spw].correlations

    def select(self, region: Region) -> tuple[NDArray, ...] | None:
        """Index of `data` for the part of a region in this chunk, or None. Usable as `chunk.data[index] = …`."""
        obs = self.run.observation
        name = obs.fields[self.entry.field].name
        common = {"names": obs.array.names, "scan": self.entry.scan.number, "field_name": name, "spw": self.spw}
        rows = region.rows(
            times=self.times[:, None], antenna1=self.antenna1[None], antenna2=self.antenna2[None], **common
        )
        # A region is a box: its rows are the product of a set of times and a set of baselines.
        times, baselines = rows.any(axis=1), rows.any(axis=0)
        channels = region.channel_mask(self.data.shape[2])
        correlations = region.correlation_mask(self.correlations)
        if not (times.any() and baselines.any() and channels.any() and correlations.any()):
            return None
        return np.ix_(times, baselines, channels, correlations)


Engine = Callable[[Run], None]
_ENGINES: dict[str, Engine] = {}


def register_engine(name: str) -> Callable[[Engine], Engine]:
    """Decorator: makes a function that writes all main-table rows known to `Observation.engine`."""

    def keep(function: Engine) -> Engine:
        _ENGINES[name] = function
        return function

    return keep


def simulate(
    observation: Observation,
    path: Path | str,
    *,
    seed: int = 1,
    faults: Sequence[Fault | str] = (),
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Write a measurement set and, beside it, its truth (`PATH.truth/`).

    Args:
        observation: what to simulate.
        path: the measurement set to make. An earlier simulation there is replaced, anything else refused.
        seed: of the thermal noise. The truth does not depend on it.
        faults: what goes wrong; instances, or text as on the command line.
        progress: called with the fraction done.

    Returns:
        The path of the measurement set.

    Raises:
        ImpossibleObservation, UnknownFault: before anything is written.
    """
    path = Path(path).absolute()
    if path.exists() and not truth_path(path).exists():
        raise ImpossibleObservation(
            f"{path.name} exists and is not a simulation (no {path.name}.truth); choose another name or remove it."
        )
    made = tuple(parse_fault(f) if isinstance(f, str) else f for f in faults)
    as_planned = observation
    for fault in made:
        observation = fault.change_observation(observation)
    if observation.engine not in _ENGINES:
        raise ImpossibleObservation(f"There is no engine {observation.engine} for {observation.name}.")
    corruptions = observation.instrument.realise(observation)
    for fault in made:
        corruptions = fault.change_corruptions(observation, corruptions)
    regions = tuple(region for fault in made for region in fault.regions(observation))
    writer = _writer(observation, path)
    # Marks the set as ours from the beginning: an interrupted simulation may be replaced.
    truth_path(path).mkdir(parents=True)
    with writer:
        run = Run(
            observation,
            seed,
            writer,
            corruptions,
            made,
            Geometry(observation.array.positions_m),
            regions,
            progress=progress,
        )
        write_metadata(writer, observation, run.geometry)
        for extension in observation.extensions:
            extension.start(run)
        _ENGINES[observation.engine](run)
        for extension in observation.extensions:
            extension.finish(run)
    for fault in made:
        fault.change_measurement_set(path, observation)
    write_truth(run, path, as_planned)
    return path


def _writer(observation: Observation, path: Path) -> MSWriter:
    subtables = dict.fromkeys(("WEATHER", *(t for e in observation.extensions for t in e.subtables)))
    options = dict(observation.notes.get("writer", {}))
    largest = max(observation.spws, key=lambda s: s.channels * (s.role in CORRELATED_ROLES))
    options.setdefault("tile_shape", (len(largest.correlations), largest.channels))
    return MSWriter(path, subtables=tuple(subtables), frame=observation.direction_frame, **options)


@register_engine("interferometer")
def correlate(run: Run) -> None:
    """Rows of a correlator: cross-correlations of every integration of every subscan of kind `sky`."""
    obs = run.observation
    total = run.corruptions.times.size
    for entry in timeline(obs):
        for extension in obs.extensions:
            extension.before_subscan(run, entry)
        if entry.subscan.kind == "sky":
            _correlate_subscan(run, entry)
        for extension in obs.extensions:
            extension.after_subscan(run, entry)
        if run.progress:
            run.progress((entry.first + len(entry.times)) / total)


def _correlate_subscan(run: Run, entry: Entry) -> None:
    obs = run.observation
    fld = obs.fields[entry.field]
    ra, dec = math.radians(fld.ra_deg), math.radians(fld.dec_deg)
    one, two = (a.astype(np.int32) for a in np.triu_indices(len(obs.array.antennas), 1))
    antenna_uvw = run.geometry.uvw(entry.times, ra, dec)
    uvw = antenna_uvw[:, one] - antenna_uvw[:, two]
    parallactic = run.geometry.parallactic_angle(entry.times, ra, dec)
    spws = [s for s in entry.scan.spws if obs.spws[s].role in CORRELATED_ROLES]
    groups: dict[tuple, list[int]] = {}
    for s in spws:
        groups.setdefault((obs.spws[s].channels, obs.spws[s].correlations, obs.spws[s].channel_hz), []).append(s)
    models = {s: run.sky_model(entry, s) for s in spws}
    per_integration = sum(8 * len(one) * obs.spws[s].channels * len(obs.spws[s].correlations) for s in spws)
    step = max(1, BUFFER_BYTES // max(per_integration, 1))
    for begin in range(0, len(entry.times), step):
        block = slice(begin, min(begin + step, len(entry.times)))
        for group in groups.values():
            _correlate_block(run, entry, group, block, one, two, uvw[block], parallactic[block], models)


def _correlate_block(
    run: Run,
    entry: Entry,
    group: list[int],
    block: slice,
    one: NDArray,
    two: NDArray,
    uvw: NDArray,
    parallactic: NDArray,
    models: dict[int, SkyModel],
) -> None:
    obs = run.observation
    window = obs.spws[group[0]]
    times = entry.times[block]
    shape = (len(times), len(group), len(one), window.channels, len(window.correlations))
    buffer = np.empty(shape, np.complex64)
    inner = max(1, _CACHE_BYTES // (8 * math.prod(shape[2:])))
    for position, spw in enumerate(group):
        for begin in range(0, len(times), inner):
            part = slice(begin, min(begin + inner, len(times)))
            first = entry.first + block.start + begin
            chunk = Chunk(
                run,
                entry,
                spw,
                slice(first, first + part.stop - part.start),
                times[part],
                one,
                two,
                uvw[part],
                obs.spws[spw].frequencies_hz,
                run.corruptions.jones(spw, obs.spws[spw].frequencies_hz, slice(first, first + part.stop - part.start)),
                buffer[part, position],
            )
            fill_chunk(chunk, models[spw], parallactic[part], run.faults)
            for extension in obs.extensions:
                extension.after_chunk(run, chunk)
    rows = math.prod(shape[:3])

    def column(values: NDArray, axis: int) -> NDArray:
        extent = [1, 1, 1]
        extent[axis] = -1
        return np.broadcast_to(values.reshape(extent), shape[:3]).reshape(rows)

    run.writer.append(
        buffer.reshape(rows, *shape[3:]),
        {
            "TIME": column(times, 0),
            "ANTENNA1": column(one, 2),
            "ANTENNA2": column(two, 2),
            "DATA_DESC_ID": column(np.array(group), 1),
            "FIELD_ID": entry.field,
            "SCAN_NUMBER": entry.scan.number,
            "STATE_ID": entry.state,
            "INTERVAL": obs.integration_s,
            "UVW": np.broadcast_to(uvw[:, None], (*shape[:3], 3)).reshape(rows, 3),
        },
        # The weight importasdm gives: twice the bandwidth-time product of a channel.
        weight=2 * abs(window.channel_hz) * obs.integration_s,
    )


def fill_chunk(chunk: Chunk, model: SkyModel, parallactic: NDArray, faults: Sequence[Fault] = ()) -> None:
    """Compute `chunk.data`: leakage on the sky, noise, then gains; faults at their places."""
    run, window = chunk.run, chunk.run.observation.spws[chunk.spw]
    nt, nb, _nc, _ = chunk.data.shape
    p, q = chunk.antenna1, chunk.antenna2
    for fault in faults:
        fault.change_gains(chunk)
    # ---- sky and leakage
    rows = np.repeat(parallactic, nb)
    planes = model.coherency(chunk.uvw.reshape(-1, 3), rows, window.feeds).planes
    # Planes that are the same on every baseline keep a baseline axis of one: a calibrator at the centre costs nothing.
    sky = [[_per_baseline(planes[a][b], nt, nb) for b in (0, 1)] for a in (0, 1)]
    leak = run.corruptions.leakage[chunk.spw].astype(np.complex64)
    leaking = bool(leak.any())
    coupling = run.corruptions.coupling.astype(np.float32)
    for number, (a, b) in enumerate(window.receptor_pairs):
        plane = sky[a][b]
        if leaking:
            left, right = leak[p, a], np.conj(leak[q, b])
            plane = plane + left * sky[1 - a][b] + right * (sky[a][1 - b] + left * sky[1 - a][1 - b])
        share = coupling[p, a] * coupling[q, b]
        chunk.data[..., number] = plane if share.all() and share.min() == 1 else plane * share[:, None]
    for fault in faults:
        fault.change_sky(chunk)
    # ---- noise, then gains
    noise_scale = run.observation.noise.scale
    if noise_scale:
        _add_noise(chunk, noise_scale)
    for number, (a, b) in enumerate(window.receptor_pairs):
        chunk.data[..., number] *= chunk.gain[:, p, a] * np.conj(chunk.gain[:, q, b])
    for fault in faults:
        fault.change_raw(chunk)


def _per_baseline(plane: NDArray, nt: int, nb: int) -> NDArray:
    if plane.shape[0] == 1:
        return plane[None]
    return plane.reshape(nt, nb, -1)


def _add_noise(chunk: Chunk, scale: float) -> None:
    run, obs = chunk.run, chunk.run.observation
    window = obs.spws[chunk.spw]
    nt, nb, nc, ncorr = chunk.data.shape
    # Opacity weakens the signal, not the noise: relative to the attenuated signal the noise grows.
    transmission = run.corruptions.transmission[chunk.index, :, None, chunk.spw, None]
    sefd = np.sqrt(run.corruptions.sefd(chunk.spw, chunk.index)) / transmission
    unit = scale * radiometer_sigma(1.0, window.channel_hz, obs.integration_s, obs.noise.efficiency)
    factors = [
        (unit * sefd[:, chunk.antenna1, a] * sefd[:, chunk.antenna2, b]).astype(np.float32)
        for a, b in window.receptor_pairs
    ]
    factor = np.stack(np.broadcast_arrays(*factors), axis=-1)
    # Numbered within the subscan, so that a scan's noise does not depend on what was observed before it.
    first = chunk.index.start - chunk.entry.first
    for index in range(nt):
        rng = run.noise_rng("thermal", chunk.entry.scan.number, chunk.entry.number, chunk.spw, first + index)
        chunk.data[index] += complex_noise(rng, (nb, nc, ncorr)) * factor[index]
