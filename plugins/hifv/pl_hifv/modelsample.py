"""A sample of the model column, for pictures of how far calibrators are resolved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pl_hif.visibilities import pieces
from pl_kernel.ms.model import Field, MeasurementSet, SpectralWindow

C_M_S = 299_792_458.0
_ROWS = 700
"""Rows a window: two integrations of 27 antennas. A model is the same in all of them but for the Earth's rotation."""


def sample(ctx: Any, ms: MeasurementSet, field: Field, windows: Iterable[SpectralWindow]) -> str:
    """Write model amplitudes of the first rows of each window into the stage's folder; return the name of the file.

    The file holds ``uv_klambda``, ``amplitude_jy`` (mean over channels and parallel hands) and ``spw``, one value a
    row each. CASA leaves a model of 0 on flagged data; such rows are left out. No rows: no file, and an empty name.
    """
    lengths, amplitudes, ids = [], [], []
    for window in windows:
        for piece in pieces(ctx, ms, ["UVW", "MODEL_DATA"], [int(field.id)], [int(window.id)], rows=_ROWS):
            model = np.abs(piece.columns["MODEL_DATA"][[0, -1]])
            known = model > 0
            count = known.sum(axis=(0, 1))
            good = count > 0
            lengths.append(np.hypot(*piece.columns["UVW"][:2])[good] * window.centre_hz / C_M_S / 1e3)
            amplitudes.append(np.where(known, model, 0.0).sum(axis=(0, 1))[good] / count[good])
            ids.append(np.full(int(good.sum()), int(window.id)))
            break
    if not any(part.size for part in lengths):
        return ""
    file = f"model-{ms.stem}-{int(field.id)}.npz"
    np.savez_compressed(
        ctx.stage_dir / file, uv_klambda=np.concatenate(lengths), amplitude_jy=np.concatenate(amplitudes),
        spw=np.concatenate(ids),
    )  # fmt: skip
    return file
