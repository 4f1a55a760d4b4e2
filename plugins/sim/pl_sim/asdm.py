"""The tables that `importasdm(asis=...)` copies verbatim into an ALMA measurement set, and the two XML files
beside them.

Columns keep the ASDM's lower-camel-case names (ALMA Science Data Model, version 3).  What nobody reads downstream
is left
out; what is read is filled with the truth of the observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import attrs
import numpy as np

from pl_sim.mswriter import repeat

if TYPE_CHECKING:
    from pathlib import Path

    from pl_sim.mswriter import MSWriter
    from pl_sim.observation import Observation
    from pl_sim.syscal import TsysMeasurement

ANTENNA = """
antennaId string -
name string -
antennaMake string -
antennaType string -
dishDiameter double -
position double [3]
offset double [3]
time double -
stationId string -
"""
STATION = """
stationId string -
name string -
position double [3]
type string -
time double -
"""
EXECBLOCK = """
execBlockId string -
startTime double -
endTime double -
execBlockNum int -
execBlockUID string -
projectUID string -
configName string -
telescopeName string -
observerName string -
numAntenna int -
sessionReference string -
sBSummaryId string -
observingScript string -
aborted bool -
"""
SBSUMMARY = """
sBSummaryId string -
sbSummaryUID string -
projectUID string -
obsUnitSetUID string -
frequency double -
frequencyBand string -
sbType string -
sbDuration double -
numObservingMode int -
observingMode string 1d
numberRepeats int -
numScienceGoal int -
scienceGoal string 1d
numWeatherConstraint int -
weatherConstraint string 1d
"""
RECEIVER = """
receiverId int -
spectralWindowId string -
timeInterval double [2]
name string -
numLO int -
frequencyBand string -
freqLO double 1d
receiverSideband string -
sidebandLO string 1d
"""
ANNOTATION = """
annotationId string -
time double -
issue string -
details string -
"""
SOURCE = """
sourceId int -
timeInterval double [2]
spectralWindowId string -
code string -
direction double [2]
sourceName string -
directionCode string -
numLines int -
transition string 1d
restFrequency double 1d
sysVel double 1d
numFreq int -
numStokes int -
frequency double 1d
stokesParameter string 1d
flux double 2d
"""
CALWVR = """
antennaName string -
calDataId string -
calReductionId string -
startValidTime double -
endValidTime double -
wvrMethod string -
numChan int -
wetPath double 1d
dryPath double 1d
water double -
"""
CALATMOSPHERE = """
antennaName string -
calDataId string -
receiverBand string -
basebandName string -
startValidTime double -
endValidTime double -
numFreq int -
numReceptor int -
frequencySpectrum double 1d
tSysSpectrum double 2d
tRecSpectrum double 2d
tAtmSpectrum double 2d
tauSpectrum double 2d
water double 1d
syscalType string -
groundTemperature double -
groundPressure double -
groundRelHumidity double -
polarizationTypes string 1d
"""


@attrs.frozen
class Project:
    """What the archive knows about an execution block."""

    observing_mode: str = "Standard Interferometry"
    configuration: str = "C-3"
    session: str = "none"
    ous: str = "uid://A001/X5a1d/X100"
    science_goals: tuple[str, ...] = ()
    band: str = "ALMA_RB_06"
    lo_hz: tuple[float, ...] = (224.3e9, 8.0e9, 4.0e9)
    receiver_sideband: str = "TSB"
    weather: str = "maxPWVC = 2.0 mm"


def reference(uid: str, kind: str) -> str:
    """An entity reference as the archive writes it into ASDM columns."""
    return f'<EntityRef entityId={quoteattr(uid)} partId="X00000000" entityTypeName={quoteattr(kind)}/>'


def write_project(writer: MSWriter, obs: Observation, project: Project, start: float, end: float) -> None:
    """ASDM_ANTENNA, STATION, EXECBLOCK, SBSUMMARY, RECEIVER, ANNOTATION and SOURCE.

    start, end: MJD seconds of the execution block.
    """
    antennas = obs.array.antennas
    count = len(antennas)
    writer.verbatim(
        "ASDM_ANTENNA",
        ANTENNA,
        {
            "antennaId": [f"Antenna_{i}" for i in range(count)],
            "name": [a.name for a in antennas],
            "antennaMake": repeat(count, f"AEM_{round(antennas[0].diameter_m)}"),
            "antennaType": repeat(count, "GROUND_BASED"),
            "dishDiameter": np.array([a.diameter_m for a in antennas]),
            "position": np.zeros((count, 3)),
            "offset": np.zeros((count, 3)),
            "time": repeat(count, start),
            "stationId": [f"Station_{i}" for i in range(count)],
        },
    )
    positions = np.vstack([obs.array.positions_m, obs.array.positions_m.mean(axis=0)])
    writer.verbatim(
        "ASDM_STATION",
        STATION,
        {
            "stationId": [f"Station_{i}" for i in range(count + 1)],
            "name": [*(a.station for a in antennas), "MeteoTB2"],
            "position": positions,
            "type": ["ANTENNA_PAD"] * count + ["WEATHER_STATION"],
            "time": np.zeros(count + 1),
        },
    )
    writer.verbatim(
        "ASDM_EXECBLOCK",
        EXECBLOCK,
        {
            "execBlockId": ["ExecBlock_0"],
            "startTime": [start],
            "endTime": [end],
            "execBlockNum": [1],
            "execBlockUID": [reference(obs.execution_block, "ASDM")],
            "projectUID": [reference(obs.project, "ObsProject")],
            "configName": [project.configuration],
            "telescopeName": [obs.array.telescope],
            "observerName": [obs.observer],
            "numAntenna": [count],
            "sessionReference": [reference(project.session, "OUSStatus")],
            "sBSummaryId": ["SBSummary_0"],
            "observingScript": [project.observing_mode.replace(" ", "") + ".py"],
            "aborted": [False],
        },
    )
    science = [spw for spw in obs.spws if spw.role == "science"]
    writer.verbatim(
        "ASDM_SBSUMMARY",
        SBSUMMARY,
        {
            "sBSummaryId": ["SBSummary_0"],
            "sbSummaryUID": [reference(obs.scheduling_block, "SchedBlock")],
            "projectUID": [reference(obs.project, "ObsProject")],
            "obsUnitSetUID": [reference(project.ous, "ObsProject")],
            "frequency": [float(np.mean([spw.centre_hz for spw in science])) / 1e9],
            "frequencyBand": [project.band],
            "sbType": ["OBSERVER"],
            "sbDuration": [end - start],
            "numObservingMode": [1],
            "observingMode": [np.array([project.observing_mode])],
            "numberRepeats": [1],
            "numScienceGoal": [len(project.science_goals)],
            "scienceGoal": [np.array(project.science_goals)],
            "numWeatherConstraint": [1],
            "weatherConstraint": [np.array([project.weather])],
        },
    )
    receivers = [index for index, spw in enumerate(obs.spws) if spw.role != "wvr"]
    rows = len(receivers)
    writer.verbatim(
        "ASDM_RECEIVER",
        RECEIVER,
        {
            "receiverId": np.zeros(rows, int),
            "spectralWindowId": [f"SpectralWindow_{s}" for s in receivers],
            "timeInterval": repeat(rows, [start, end - start]),
            "name": repeat(rows, project.band),
            "numLO": repeat(rows, len(project.lo_hz)),
            "frequencyBand": repeat(rows, project.band),
            "freqLO": repeat(rows, project.lo_hz),
            "receiverSideband": repeat(rows, project.receiver_sideband),
            "sidebandLO": repeat(rows, ["LSB", "USB", "LSB"][: len(project.lo_hz)]),
        },
    )
    writer.verbatim(
        "ASDM_ANNOTATION",
        ANNOTATION,
        {
            "annotationId": ["Annotation_0", "Annotation_1"],
            "time": [start, start],
            "issue": ["ACS version", "build"],
            "details": ["ACS-2023JAN", "ONLINE-CYCLE9-B"],
        },
    )
    _write_sources(writer, obs, start, end)
    write_spw_xml(writer.path, len(obs.spws))


def _write_sources(writer: MSWriter, obs: Observation, start: float, end: float) -> None:
    """One row per source and window; calibrators carry the flux densities of the observatory's catalogue."""
    rows = [(i, source, s) for i, source in enumerate(obs.sources) for s, w in enumerate(obs.spws) if w.role != "wvr"]
    centres = [obs.spws[s].centre_hz for _, _, s in rows]
    fluxes = [
        float(source.flux(nu)) if source.components else 0.0 for (_, source, _), nu in zip(rows, centres, strict=True)
    ]
    count = len(rows)
    writer.verbatim(
        "ASDM_SOURCE",
        SOURCE,
        {
            "sourceId": [i for i, _, _ in rows],
            "timeInterval": repeat(count, [start, end - start]),
            "spectralWindowId": [f"SpectralWindow_{s}" for _, _, s in rows],
            "code": repeat(count, "none"),
            "direction": np.radians([[source.ra_deg, source.dec_deg] for _, source, _ in rows]),
            "sourceName": [source.name for _, source, _ in rows],
            "directionCode": repeat(count, "ICRS"),
            "numLines": repeat(count, 1),
            "transition": repeat(count, ["Manual_window(ID=0)"]),
            "restFrequency": np.array(centres)[:, None],
            "sysVel": np.array([[source.velocity_ms] for _, source, _ in rows]),
            "numFreq": repeat(count, 1),
            "numStokes": repeat(count, 4),
            "frequency": np.array(centres)[:, None],
            "stokesParameter": repeat(count, ["I", "Q", "U", "V"]),
            "flux": np.array([[[flux], [0.0], [0.0], [0.0]] for flux in fluxes]),
        },
    )


def write_spw_xml(path: Path, spws: int) -> None:
    """SpectralWindow.xml and DataDescription.xml, whose row order maps the ASDM's windows to those of the
    measurement set."""
    for name, element in (("SpectralWindow", "spectralWindowId"), ("DataDescription", "spectralWindowId")):
        rows = "".join(f"<row><{element}>SpectralWindow_{k}</{element}></row>\n" for k in range(spws))
        (path / f"{name}.xml").write_text(
            f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<{name}Table>\n{rows}</{name}Table>\n'
        )


def write_calwvr(
    writer: MSWriter, rows: Sequence[tuple[str, int, float, float]], water_m: Sequence[float], path_per_mm: float
) -> None:
    """ASDM_CALWVR.  rows: (antenna, scan, start, end) in MJD seconds; water_m: zenith columns in metres."""
    count = len(rows)
    water = np.asarray(water_m, float)
    writer.verbatim(
        "ASDM_CALWVR",
        CALWVR,
        {
            "antennaName": [row[0] for row in rows],
            "calDataId": [f"CalData_{row[1]}" for row in rows],
            "calReductionId": repeat(count, "CalReduction_0"),
            "startValidTime": [row[2] for row in rows],
            "endValidTime": [row[3] for row in rows],
            "wvrMethod": repeat(count, "ATM_MODEL"),
            "numChan": repeat(count, 4),
            "wetPath": (water * path_per_mm)[:, None],
            "dryPath": repeat(count, [1.5]),
            "water": water,
        },
    )


def write_calatmosphere(
    writer: MSWriter,
    obs: Observation,
    measurements: Sequence[TsysMeasurement],
    water_m: float,
    tau: Mapping[int, Any],
    t_mean_k: Mapping[int, Any],
    ground: tuple[float, float, float],
    band: str,
) -> None:
    """ASDM_CALATMOSPHERE: one row per antenna and Tsys measurement.

    tau, t_mean_k: spectra per spw; ground: temperature K, pressure hPa, humidity %.
    """
    antennas = len(obs.array.antennas)
    each = [(m, a) for m in measurements for a in range(antennas)]
    count, channels = len(each), measurements[0].tsys_k.shape[-1]
    columns = {
        "antennaName": [obs.array.names[a] for _, a in each],
        "calDataId": [f"CalData_{m.scan}" for m, _ in each],
        "receiverBand": repeat(count, band),
        "basebandName": [f"BB_{obs.spws[m.spw].bbc_no}" for m, _ in each],
        "startValidTime": [m.time_s - m.interval_s / 2 for m, _ in each],
        "endValidTime": [m.time_s + m.interval_s / 2 for m, _ in each],
        "numFreq": repeat(count, channels),
        "numReceptor": repeat(count, 2),
        "frequencySpectrum": np.array([obs.spws[m.spw].frequencies_hz for m, _ in each]),
        "tSysSpectrum": np.array([m.tsys_k[a] for m, a in each]),
        "tRecSpectrum": np.array([m.trx_k[a] for m, a in each]),
        "tAtmSpectrum": np.array([np.broadcast_to(t_mean_k[m.spw], (2, channels)) for m, _ in each]),
        "tauSpectrum": np.array([np.broadcast_to(tau[m.spw], (2, channels)) for m, _ in each]),
        "water": repeat(count, [water_m, water_m]),
        "syscalType": repeat(count, "TEMPERATURE_SCALE"),
        "groundTemperature": repeat(count, ground[0]),
        "groundPressure": repeat(count, ground[1] * 100.0),
        "groundRelHumidity": repeat(count, ground[2]),
        "polarizationTypes": repeat(count, ["X", "Y"]),
    }
    writer.verbatim("ASDM_CALATMOSPHERE", CALATMOSPHERE, columns)
