"""A measurement set written directly: numpy arrays into casacore tables.

Layouts follow the MeasurementSet definition version 2.0 (Kemball & Wieringa) with the columns that `importasdm` leaves.
In this module rows are always on the first axis. Cells have the shape the table tool shows, such as (receptor,
channel) for TSYS_SPECTRUM or (2, 1) for PHASE_DIR; only the main table's data and flags are given as (row, channel,
correlation).

A column is described by one line of text: NAME type shape [unit] [measure], with shape `-` (scalar), `[3]` (fixed) or
`1d`, `2d`, `3d` (variable).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pl_sim.casa import open_table, tool

if TYPE_CHECKING:
    from numpy.typing import NDArray

ICRS_CODE = 21
"""casacore's number of the direction type ICRS."""

_TILE_BYTES = 1 << 18

_MAIN = """
TIME double - s epoch:UTC
TIME_CENTROID double - s epoch:UTC
ANTENNA1 int -
ANTENNA2 int -
FEED1 int -
FEED2 int -
DATA_DESC_ID int -
PROCESSOR_ID int -
FIELD_ID int -
INTERVAL double - s
EXPOSURE double - s
SCAN_NUMBER int -
ARRAY_ID int -
OBSERVATION_ID int -
STATE_ID int -
FLAG_ROW bool -
UVW double [3] m uvw:J2000
FLAG bool 2d
FLAG_CATEGORY bool 3d
WEIGHT float 1d
SIGMA float 1d
"""

SUBTABLES: dict[str, str] = {
    "ANTENNA": """
NAME string -
STATION string -
TYPE string -
MOUNT string -
POSITION double [3] m position:ITRF
OFFSET double [3] m position:ITRF
DISH_DIAMETER double - m
FLAG_ROW bool -
""",
    "DATA_DESCRIPTION": """
SPECTRAL_WINDOW_ID int -
POLARIZATION_ID int -
FLAG_ROW bool -
""",
    "FEED": """
ANTENNA_ID int -
FEED_ID int -
SPECTRAL_WINDOW_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
NUM_RECEPTORS int -
BEAM_ID int -
BEAM_OFFSET double 2d rad direction:J2000
POLARIZATION_TYPE string 1d
POL_RESPONSE complex 2d
POSITION double [3] m position:ITRF
RECEPTOR_ANGLE double 1d rad
""",
    "FIELD": """
NAME string -
CODE string -
TIME double - s epoch:UTC
NUM_POLY int -
DELAY_DIR double 2d rad direction:J2000
PHASE_DIR double 2d rad direction:J2000
REFERENCE_DIR double 2d rad direction:J2000
SOURCE_ID int -
FLAG_ROW bool -
""",
    "FLAG_CMD": """
TIME double - s epoch:UTC
INTERVAL double - s
TYPE string -
REASON string -
LEVEL int -
SEVERITY int -
APPLIED bool -
COMMAND string -
""",
    "HISTORY": """
TIME double - s epoch:UTC
OBSERVATION_ID int -
MESSAGE string -
PRIORITY string -
ORIGIN string -
OBJECT_ID int -
APPLICATION string -
CLI_COMMAND string 1d
APP_PARAMS string 1d
""",
    "OBSERVATION": """
TELESCOPE_NAME string -
TIME_RANGE double [2] s epoch:UTC
OBSERVER string -
LOG string 1d
SCHEDULE_TYPE string -
SCHEDULE string 1d
PROJECT string -
RELEASE_DATE double - s epoch:UTC
FLAG_ROW bool -
""",
    "POINTING": """
ANTENNA_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
NAME string -
NUM_POLY int -
TIME_ORIGIN double - s epoch:UTC
DIRECTION double 2d rad direction:{pointing}
TARGET double 2d rad direction:{pointing}
TRACKING bool -
""",
    "POLARIZATION": """
NUM_CORR int -
CORR_TYPE int 1d
CORR_PRODUCT int 2d
FLAG_ROW bool -
""",
    "PROCESSOR": """
TYPE string -
SUB_TYPE string -
TYPE_ID int -
MODE_ID int -
FLAG_ROW bool -
""",
    "SOURCE": """
SOURCE_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
SPECTRAL_WINDOW_ID int -
NUM_LINES int -
NAME string -
CALIBRATION_GROUP int -
CODE string -
DIRECTION double [2] rad direction:{frame}
PROPER_MOTION double [2] rad/s
POSITION double 1d m position:ITRF
TRANSITION string 1d
REST_FREQUENCY double 1d Hz frequency:LSRK
SYSVEL double 1d m/s radialvelocity:LSRK
""",
    "SPECTRAL_WINDOW": """
NAME string -
NUM_CHAN int -
REF_FREQUENCY double - Hz FREQUENCY
CHAN_FREQ double 1d Hz FREQUENCY
CHAN_WIDTH double 1d Hz
EFFECTIVE_BW double 1d Hz
RESOLUTION double 1d Hz
TOTAL_BANDWIDTH double - Hz
MEAS_FREQ_REF int -
NET_SIDEBAND int -
IF_CONV_CHAIN int -
FREQ_GROUP int -
FREQ_GROUP_NAME string -
FLAG_ROW bool -
BBC_NO int -
SDM_NUM_BIN int -
SDM_WINDOW_FUNCTION string -
SDM_CORR_BIT string -
""",
    "STATE": """
SIG bool -
REF bool -
CAL double - K
LOAD double - K
SUB_SCAN int -
OBS_MODE string -
FLAG_ROW bool -
""",
    "WEATHER": """
ANTENNA_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
PRESSURE float - hPa
PRESSURE_FLAG bool -
TEMPERATURE float - K
TEMPERATURE_FLAG bool -
DEW_POINT float - K
DEW_POINT_FLAG bool -
REL_HUMIDITY float - %
REL_HUMIDITY_FLAG bool -
WIND_DIRECTION float - rad
WIND_DIRECTION_FLAG bool -
WIND_SPEED float - m/s
WIND_SPEED_FLAG bool -
NS_WX_STATION_ID int -
NS_WX_STATION_POSITION double [3] m
""",
    "SYSCAL": """
ANTENNA_ID int -
FEED_ID int -
SPECTRAL_WINDOW_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
TSYS_SPECTRUM float 2d K
TSYS_FLAG bool -
TRX_SPECTRUM float 2d K
TRX_FLAG bool -
TSKY_SPECTRUM float 2d K
TSKY_FLAG bool -
TCAL_SPECTRUM float 2d K
TCAL_FLAG bool -
""",
    "CALDEVICE": """
ANTENNA_ID int -
FEED_ID int -
SPECTRAL_WINDOW_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
NUM_CAL_LOAD int -
CAL_LOAD_NAMES string 1d
NUM_RECEPTOR int -
CAL_EFF float 2d
NOISE_CAL float 1d K
TEMPERATURE_LOAD double 1d K
""",
    "SYSPOWER": """
ANTENNA_ID int -
FEED_ID int -
SPECTRAL_WINDOW_ID int -
TIME double - s epoch:UTC
INTERVAL double - s
SWITCHED_DIFF float 1d
SWITCHED_SUM float 1d
REQUANTIZER_GAIN float 1d
""",
}

_REQUIRED = (
    "ANTENNA",
    "DATA_DESCRIPTION",
    "FEED",
    "FIELD",
    "FLAG_CMD",
    "HISTORY",
    "OBSERVATION",
    "POINTING",
    "POLARIZATION",
    "PROCESSOR",
    "SOURCE",
    "SPECTRAL_WINDOW",
    "STATE",
)
_POINTING_OFFSETS = """
POINTING_OFFSET double 2d rad direction:{pointing}
ENCODER double [2] rad direction:{pointing}
ON_SOURCE bool -
OVER_THE_TOP bool -
"""

_VALUE_TYPES = {
    "int": "int",
    "double": "double",
    "float": "float",
    "bool": "boolean",
    "string": "string",
    "complex": "complex",
}
FREQUENCY_CODES = {"REST": 0, "LSRK": 1, "LSRD": 2, "BARY": 3, "GEO": 4, "TOPO": 5, "GALACTO": 6, "LGROUP": 7, "CMB": 8}
_DIRECTION_TYPES = (
    "J2000",
    "JMEAN",
    "JTRUE",
    "APP",
    "B1950",
    "B1950_VLA",
    "BMEAN",
    "BTRUE",
    "GALACTIC",
    "HADEC",
    "AZEL",
    "AZELSW",
    "AZELGEO",
    "AZELSWGEO",
    "JNAT",
    "ECLIPTIC",
    "MECLIPTIC",
    "TECLIPTIC",
    "SUPERGAL",
    "ITRF",
    "TOPO",
    "ICRS",
    "MERCURY",
    "VENUS",
    "MARS",
    "JUPITER",
    "SATURN",
    "URANUS",
    "NEPTUNE",
    "PLUTO",
    "SUN",
    "MOON",
    "COMET",
)
_DIRECTION_CODES = [*range(22), *range(32, 43)]


def _describe(line: str, manager: str) -> tuple[str, dict[str, Any]]:
    name, kind, shape, unit, measure, *_ = [*line.split(), "-", "-"]
    description: dict[str, Any] = {
        "valueType": _VALUE_TYPES[kind],
        "dataManagerType": manager,
        "dataManagerGroup": manager,
        "option": 0,
        "maxlen": 0,
        "comment": "",
        "keywords": {},
    }
    if shape.startswith("["):
        description.update(ndim=1, shape=[int(shape[1:-1])], option=5)
    elif shape.endswith("d"):
        description.update(ndim=int(shape[:-1]))
    keywords = description["keywords"]
    if unit != "-":
        repeats = {"direction": 2, "position": 3, "uvw": 3}.get(measure.split(":")[0], 1)
        keywords["QuantumUnits"] = np.array([unit] * repeats)
    if measure == "FREQUENCY":
        keywords["MEASINFO"] = {
            "type": "frequency",
            "VarRefCol": "MEAS_FREQ_REF",
            "TabRefCodes": np.array([*FREQUENCY_CODES.values(), 64], dtype="uint64"),
            "TabRefTypes": np.array([*FREQUENCY_CODES, "Undefined"]),
        }
    elif measure.startswith("direction:column="):
        keywords["MEASINFO"] = {
            "type": "direction",
            "VarRefCol": measure.split("=")[1],
            "TabRefCodes": np.array(_DIRECTION_CODES, dtype="uint64"),
            "TabRefTypes": np.array(_DIRECTION_TYPES),
        }
    elif measure != "-":
        measure_type, reference = measure.split(":")
        keywords["MEASINFO"] = {"type": measure_type, "Ref": reference}
    return name, description


def describe_columns(text: str, manager: str = "StandardStMan") -> dict[str, dict[str, Any]]:
    """casacore column descriptions of lines of text."""
    return dict(_describe(line, manager) for line in text.strip().splitlines() if line.strip())


def repeat(count: int, value: Any) -> NDArray:
    """A column of `count` equal values; an array value gets the row axis in front."""
    value = np.asarray(value)
    return np.broadcast_to(value, (count, *value.shape))


def _to_casa(values: NDArray) -> NDArray:
    values = np.asarray(values)
    turned = np.moveaxis(values, 0, -1)
    # putcol of a C-ordered string array of two or more dimensions writes garbage: Fortran order.
    return np.asfortranarray(turned) if values.dtype.kind in "US" and values.ndim > 1 else turned


class MSWriter:
    """Creates a measurement set and streams rows into it.

    Args:
        path: the new measurement set; an old one (and its flag versions and truth) is removed.
        data_column: `DATA` or `FLOAT_DATA`.
        subtables: optional subtables (names of `SUBTABLES`).
        frame: direction frame of FIELD and SOURCE; `ICRS` gives FIELD the per-row frames of ALMA data.
        pointing_frame: direction frame of POINTING.
        pointing_offsets: add POINTING_OFFSET, ENCODER, ON_SOURCE and OVER_THE_TOP.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        data_column: str = "DATA",
        subtables: Sequence[str] = (),
        frame: str = "J2000",
        pointing_frame: str = "J2000",
        pointing_offsets: bool = False,
        tile_shape: tuple[int, int] = (4, 64),
    ) -> None:
        self.path = Path(path)
        self.data_column = data_column
        self.rows = 0
        self._icrs_fields = frame == "ICRS"
        for old in (self.path, Path(f"{self.path}.flagversions"), Path(f"{self.path}.truth")):
            if old.is_dir():
                shutil.rmtree(old)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._create_main(tile_shape)
        for name in (*_REQUIRED, *subtables):
            text = SUBTABLES[name]
            if name == "FIELD" and self._icrs_fields:
                for column, reference in _FIELD_FRAMES.items():
                    text = text.replace(
                        f"{column} double 2d rad direction:J2000",
                        f"{column} double 2d rad direction:column={reference}",
                    )
                text += "".join(f"{reference} int -\n" for reference in _FIELD_FRAMES.values())
            if name == "POINTING" and pointing_offsets:
                text += _POINTING_OFFSETS
            self._create_subtable(name, text.format(frame=frame, pointing=pointing_frame))
        self._main = tool("table")
        self._main.open(str(self.path), nomodify=False)
        self._main.putkeyword("MS_VERSION", np.float32(2.0))

    def _create_main(self, tile_shape: tuple[int, int]) -> None:
        columns = describe_columns(_MAIN, "IncrementalStMan")
        for name in ("ANTENNA1", "ANTENNA2", "DATA_DESC_ID"):
            columns[name].update(dataManagerType="StandardStMan", dataManagerGroup="StandardStMan")
        kind, item = ("float", 4) if self.data_column == "FLOAT_DATA" else ("complex", 8)
        columns.update(describe_columns(f"{self.data_column} {kind} 2d"))
        ncorr, nchan = tile_shape[0], min(tile_shape[1], 128)
        tiles = {
            "UVW": [3, 4096],
            "WEIGHT": [ncorr, 4096],
            "SIGMA": [ncorr, 4096],
            "FLAG_CATEGORY": [ncorr, nchan, 1, 64],
            "FLAG": [ncorr, nchan, max(8, _TILE_BYTES // (ncorr * nchan))],
            self.data_column: [ncorr, nchan, max(8, _TILE_BYTES // (item * ncorr * nchan))],
        }
        managers = {}
        for number, (name, tile) in enumerate(tiles.items()):
            manager = "TiledColumnStMan" if name == "UVW" else "TiledShapeStMan"
            group = "Tiled" + name.title().replace("_", "")
            columns[name].update(dataManagerType=manager, dataManagerGroup=group)
            managers[f"*{number + 1}"] = {
                "COLUMNS": np.array([name]),
                "NAME": group,
                "SEQNR": number,
                "TYPE": manager,
                "SPEC": {"DEFAULTTILESHAPE": np.array(tile), "MAXIMUMCACHESIZE": 0},
            }
        columns["FLAG_CATEGORY"]["keywords"] = {"CATEGORY": np.array(["FLAG_CMD", "ORIGINAL", "USER"])}
        tb = tool("table")
        tb.create(str(self.path), columns, nrow=0, dminfo=managers)
        tb.putinfo({"type": "Measurement Set", "subType": "", "readme": "simulated observation"})
        tb.close()

    def _create_subtable(self, name: str, text: str) -> None:
        path = self.path / name
        tb = tool("table")
        tb.create(str(path), describe_columns(text), nrow=0)
        tb.close()
        with open_table(self.path, write=True) as main:
            main.putkeyword(name, f"Table: {path}")

    def subtable(self, name: str, columns: Mapping[str, Any], *, append: bool = False) -> None:
        """Fill a subtable. Columns: arrays with rows on the first axis, or a list of arrays of differing shapes.

        Columns that are not given keep casacore's defaults. `append` adds rows after those present.
        """
        count = len(next(iter(columns.values())))
        if count == 0:
            return
        with open_table(self.path / name, write=True) as tb:
            start = tb.nrows() if append else 0
            if tb.nrows() < start + count:
                tb.addrows(start + count - tb.nrows())
            for column, values in columns.items():
                if isinstance(values, list) and len({np.shape(v) for v in values}) > 1:
                    for row, value in enumerate(values):
                        tb.putcell(column, start + row, np.asarray(value))
                else:
                    tb.putcol(column, _to_casa(np.asarray(values)), startrow=start, nrow=count)

    def verbatim(self, name: str, text: str, columns: Mapping[str, Any]) -> None:
        """Create and fill a further subtable (`ASDM_RECEIVER` …) of the described columns."""
        self._main.flush()
        self._main.close()
        self._create_subtable(name, text)
        self._main.open(str(self.path), nomodify=False)
        self.subtable(name, columns)

    def append(
        self,
        data: NDArray,
        columns: Mapping[str, Any],
        *,
        weight: NDArray | float = 1.0,
        sigma: NDArray | float | None = None,
        flag: NDArray | None = None,
    ) -> int:
        """Append main-table rows of one shape.

        Args:
            data: (row, channel, correlation).
            columns: scalars or (row,) arrays; UVW (row, 3). Absent columns: FEED1/2, PROCESSOR_ID, ARRAY_ID,
                OBSERVATION_ID are 0; TIME_CENTROID is TIME; EXPOSURE is INTERVAL; UVW is 0.
            weight: scalar, (row,) or (row, correlation); sigma: default weight**-0.5.
            flag: (row, channel, correlation); default all False.

        Returns:
            Number of the first row.
        """
        count, nchan, ncorr = data.shape
        table, start = self._main, self.rows
        table.addrows(count)
        filled = {
            "FEED1": 0,
            "FEED2": 0,
            "PROCESSOR_ID": 0,
            "ARRAY_ID": 0,
            "OBSERVATION_ID": 0,
            "FLAG_ROW": False,
            "TIME_CENTROID": columns["TIME"],
            "EXPOSURE": columns["INTERVAL"],
            "UVW": np.zeros((count, 3)),
            **columns,
        }
        for name, values in filled.items():
            values = np.asarray(values)
            if values.dtype.kind in "iu":
                values = values.astype(np.int32)
            if values.ndim == 0:
                values = np.full(count, values)
            table.putcol(name, _to_casa(values), startrow=start, nrow=count)
        table.putcol(self.data_column, data.transpose(2, 1, 0), startrow=start, nrow=count)
        flags = np.zeros((ncorr, nchan, count), bool, order="F") if flag is None else flag.transpose(2, 1, 0)
        table.putcol("FLAG", flags, startrow=start, nrow=count)
        weight = np.asarray(weight, np.float32)
        weights = np.broadcast_to(weight if weight.ndim == 2 else weight.reshape(-1, 1), (count, ncorr))
        table.putcol("WEIGHT", np.asfortranarray(weights.T), startrow=start, nrow=count)
        sigmas = weights**-0.5 if sigma is None else np.broadcast_to(np.asarray(sigma, np.float32), (count, ncorr))
        table.putcol("SIGMA", np.asfortranarray(sigmas.T), startrow=start, nrow=count)
        self.rows += count
        return start

    def close(self) -> None:
        """Flush and close the main table."""
        self._main.flush()
        self._main.close()

    def __enter__(self) -> MSWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_FIELD_FRAMES = {"DELAY_DIR": "DelayDir_Ref", "PHASE_DIR": "PhaseDir_Ref", "REFERENCE_DIR": "RefDir_Ref"}
