"""pl: a plugin-based pipeline kernel for radio astronomy.

What a plugin author needs is importable from here; nothing here imports CASA, matplotlib or astropy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .context import Beam as Beam
    from .context import Context as Context
    from .context import ImageRecord as ImageRecord
    from .context import ProductRecord as ProductRecord
    from .effects import (
        AddMeasurementSet as AddMeasurementSet,
    )
    from .effects import (
        AddProduct as AddProduct,
    )
    from .effects import (
        Effect as Effect,
    )
    from .effects import (
        MarkApplied as MarkApplied,
    )
    from .effects import (
        RegisterCalibration as RegisterCalibration,
    )
    from .effects import (
        RegisterImage as RegisterImage,
    )
    from .effects import (
        RemoveMeasurementSet as RemoveMeasurementSet,
    )
    from .effects import (
        ReplaceMeasurementSet as ReplaceMeasurementSet,
    )
    from .effects import (
        SetDataType as SetDataType,
    )
    from .effects import (
        SetValue as SetValue,
    )
    from .effects import (
        UnregisterCalibration as UnregisterCalibration,
    )
    from .errors import CasaError as CasaError
    from .errors import DataError as DataError
    from .errors import InputError as InputError
    from .errors import PlError as PlError
    from .errors import UnknownName as UnknownName
    from .heuristics import heuristic as heuristic
    from .hookspecs import Lazy as Lazy
    from .hookspecs import hookimpl as hookimpl
    from .ms.importers import Importer as Importer
    from .ms.telescopes import Telescope as Telescope
    from .params import Inputs as Inputs
    from .params import param as param
    from .qa import AppliesTo as AppliesTo
    from .qa import QAScore as QAScore
    from .qa import scorer as scorer
    from .session import Session as Session
    from .stage import ItemFailure as ItemFailure
    from .stage import Result as Result
    from .stage import Stage as Stage
    from .stage_context import StageContext as StageContext
    from .weblog.page import renderer as renderer


_HOMES = {
    "context": ("Beam", "Context", "ImageRecord", "ProductRecord"),
    "effects": (
        "AddMeasurementSet", "AddProduct", "Effect", "MarkApplied", "RegisterCalibration", "RegisterImage",
        "RemoveMeasurementSet", "ReplaceMeasurementSet", "SetDataType", "SetValue", "UnregisterCalibration",
    ),
    "errors": ("CasaError", "DataError", "InputError", "PlError", "UnknownName"),
    "heuristics": ("heuristic",),
    "hookspecs": ("Lazy", "hookimpl"),
    "ms.importers": ("Importer",),
    "ms.telescopes": ("Telescope",),
    "params": ("Inputs", "param"),
    "qa": ("AppliesTo", "QAScore", "scorer"),
    "session": ("Session",),
    "stage": ("ItemFailure", "Result", "Stage"),
    "stage_context": ("StageContext",),
    "weblog.page": ("renderer",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME_OF, "__version__"])


def __getattr__(name: str) -> Any:
    # Imported at first use: a plugin module that only lists what it offers costs milliseconds.
    if name == "__version__":
        from .plugins import kernel_version

        return kernel_version()
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
