"""Synthetic measurement-set records, for tests of code that asks about data without needing any on disk."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import attrs

from pl_kernel.ms.datatypes import ColumnType, DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.records import (
    Antenna,
    AntennaArray,
    DataDescription,
    Field,
    Frame,
    Polarization,
    Scan,
    Source,
    SpectralWindow,
    State,
)
from pl_kernel.ms.virtual import RealSpw

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@attrs.frozen
class SampleScan:
    """One scan: field index, intents (a set, or several where its states differ), real spws (empty: all)."""

    field: int
    intents: str | tuple[str, ...] = ""
    spws: tuple[int, ...] = ()


def sample_ms(
    name: str = "sample.ms",
    *,
    fields: Sequence[str] = ("3C286", "J1407+2827", "M51"),
    scans: Sequence[SampleScan] = (
        SampleScan(0, "BANDPASS,AMPLITUDE"),
        SampleScan(1, "PHASE"),
        SampleScan(2, "TARGET"),
        SampleScan(1, "PHASE"),
    ),
    n_spws: int = 2,
    n_antennas: int = 4,
    n_channels: int = 64,
    telescope: str = "SAMPLE",
    intents_from: str = "state",
    spw_names: Mapping[int, str] | None = None,
    channel_width_hz: float = 1e6,
) -> MeasurementSet:
    """A measurement set as `read_measurement_set` would give it: scans of 60 s, one after another, 5 s integrations.

    Antenna k stands 100 k metres east of the first; window k starts at 1 GHz + 100 MHz k.
    """
    used = [attrs.evolve(s, spws=s.spws or tuple(range(n_spws))) for s in scans]
    sets = {_as_sets(s) for s in used}
    words = sorted({w for group in sets for one in group for w in one})
    states = {one: i for i, one in enumerate(sorted({one for group in sets for one in group}, key=sorted))}
    records = [_scan(number, scan, states, n_antennas) for number, scan in enumerate(used, 1)]
    ms = MeasurementSet(
        name=name,
        path=name,
        telescope=telescope,
        array=AntennaArray(telescope, tuple(_antenna(k) for k in range(n_antennas))),
        sources=tuple(Source(i, f, 0.1 * i, 0.05 * i) for i, f in enumerate(fields)),
        fields=tuple(
            Field(i, f, i, 0.1 * i, 0.05 * i, spws=frozenset(w for s in used if s.field == i for w in s.spws))
            for i, f in enumerate(fields)
        ),
        spws=tuple(
            _window(k, (spw_names or {}).get(k, f"WINDOW#{k:02d}"), n_channels, channel_width_hz) for k in range(n_spws)
        ),
        polarizations=(Polarization(0, ("RR", "LL")),),
        data_descriptions=tuple(DataDescription(k, RealSpw(k), 0) for k in range(n_spws)),
        states=tuple(
            State(i, ",".join(f"WORD_{w}#ON" for w in sorted(one)), one, {f"WORD_{w}#ON": w for w in sorted(one)})
            for one, i in states.items()
        )
        if words
        else (),
        scans=tuple(records),
        columns=("DATA", "FLAG", "UVW", "WEIGHT"),
        data_types=(ColumnType(DataType.RAW, "DATA"),),
        intents_from=intents_from if words else "none",
        start=records[0].start,
        end=records[-1].end,
        n_rows=sum(s.n_rows for s in records),
    )
    return ms.with_scans(ms.scans)


def _as_sets(scan: SampleScan) -> frozenset[frozenset[str]]:
    texts = (scan.intents,) if isinstance(scan.intents, str) else scan.intents
    return frozenset(frozenset(w for w in t.split(",") if w) for t in texts)


def _scan(number: int, scan: SampleScan, states: Mapping[frozenset[str], int], n_antennas: int) -> Scan:
    sets = _as_sets(scan)
    start = _START + dt.timedelta(seconds=60 * (number - 1))
    return Scan(
        id=number,
        start=start,
        end=start + dt.timedelta(seconds=60),
        field_ids=(scan.field,),
        spw_ids=tuple(RealSpw(w) for w in scan.spws),
        antenna_ids=tuple(range(n_antennas)),
        n_rows=12 * len(scan.spws) * n_antennas * (n_antennas - 1) // 2,
        intent_sets={scan.field: sets},
        state_ids=tuple(sorted(states[one] for one in sets)),
        data_description_ids=scan.spws,
        interval_s=dict.fromkeys(scan.spws, 5.0),
        exposure_s=dict.fromkeys(scan.spws, 5.0),
    )


def _antenna(k: int) -> Antenna:
    return Antenna(k, f"ant{k + 1:02d}", f"P{k + 1:02d}", 25.0, (0.0, 6378137.0 - 5000.0, 100.0 * k))


def _window(k: int, name: str, n_channels: int, width_hz: float) -> SpectralWindow:
    start = 1e9 + 1e8 * k
    return SpectralWindow(
        id=RealSpw(k),
        name=name,
        n_channels=n_channels,
        first_hz=start,
        step_hz=width_hz,
        resolution_hz=abs(width_hz),
        bandwidth_hz=abs(width_hz) * n_channels,
        ref_frequency_hz=start,
        frame=Frame.TOPO,
    )
