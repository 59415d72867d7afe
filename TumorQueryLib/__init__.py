"""TumorQuery: tumour cell density beyond what MRI shows, by querying a database of simulated gliomas.

The public names below are imported on first use (PEP 562), so that importing the
package costs neither numba, h5py nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Grid": "grid",
    "Volume": "grid",
    "Atlas": "atlas",
    "Patient": "patient",
    "Inference": "inference",
    "infer": "inference",
    "Registration": "registration",
    "register": "registration",
    "GrowthParameters": "growth",
    "Tissue": "growth",
    "simulate": "growth",
    "grow_trajectory": "growth",
    "TumorDatabase": "database",
    "build_database": "database",
    "Match": "strategies",
    "TumorMasks": "strategies",
    "create_strategy": "strategies",
    "strategy_names": "strategies",
    "TumorQueryError": "errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from TumorQueryLib.atlas import Atlas as Atlas
    from TumorQueryLib.database import TumorDatabase as TumorDatabase
    from TumorQueryLib.database import build_database as build_database
    from TumorQueryLib.errors import TumorQueryError as TumorQueryError
    from TumorQueryLib.grid import Grid as Grid
    from TumorQueryLib.grid import Volume as Volume
    from TumorQueryLib.growth import GrowthParameters as GrowthParameters
    from TumorQueryLib.growth import Tissue as Tissue
    from TumorQueryLib.growth import grow_trajectory as grow_trajectory
    from TumorQueryLib.growth import simulate as simulate
    from TumorQueryLib.inference import Inference as Inference
    from TumorQueryLib.inference import infer as infer
    from TumorQueryLib.patient import Patient as Patient
    from TumorQueryLib.registration import Registration as Registration
    from TumorQueryLib.registration import register as register
    from TumorQueryLib.strategies import Match as Match
    from TumorQueryLib.strategies import TumorMasks as TumorMasks
    from TumorQueryLib.strategies import create_strategy as create_strategy
    from TumorQueryLib.strategies import strategy_names as strategy_names


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
