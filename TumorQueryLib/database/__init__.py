"""The database of simulated tumours: prior, run-length masks, file, build.

The names below are imported on first use, so that nothing costs numba or h5py unasked.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = {
    "RunLengthMasks": "masks",
    "encode_mask": "masks",
    "TumorDatabase": "store",
    "describe_database": "store",
    "build_database": "build",
    "sample_synthetic": "synthetic",
    "SyntheticTumour": "synthetic",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from TumorQueryLib.database.build import build_database as build_database
    from TumorQueryLib.database.masks import RunLengthMasks as RunLengthMasks
    from TumorQueryLib.database.masks import encode_mask as encode_mask
    from TumorQueryLib.database.store import TumorDatabase as TumorDatabase
    from TumorQueryLib.database.store import describe_database as describe_database
    from TumorQueryLib.database.synthetic import SyntheticTumour as SyntheticTumour
    from TumorQueryLib.database.synthetic import sample_synthetic as sample_synthetic


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
