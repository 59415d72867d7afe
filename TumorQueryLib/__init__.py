"""TumorQuery: tumour cell density beyond what MRI shows, by querying a database of simulated gliomas.

The public names below are imported on first use (PEP 562), so that importing the
package costs neither numba, h5py nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from TumorQueryLib.base.version import __version__ as __version__

_PUBLIC = {
    "Grid": "geometry.grid",
    "Volume": "geometry.grid",
    "Atlas": "anatomy.atlas",
    "Patient": "inputs.patient",
    "Inference": "inference",
    "infer": "inference",
    "Registration": "registration",
    "register": "registration",
    "GrowthParameters": "growth",
    "Tissue": "anatomy.tissue",
    "simulate": "growth",
    "grow_trajectory": "growth",
    "TumorDatabase": "database",
    "build_database": "database",
    "Match": "strategies",
    "TumorMasks": "geometry.regions",
    "create_strategy": "strategies",
    "strategy_names": "strategies",
    "TumorQueryError": "base.errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from TumorQueryLib.anatomy.atlas import Atlas as Atlas
    from TumorQueryLib.anatomy.tissue import Tissue as Tissue
    from TumorQueryLib.base.errors import TumorQueryError as TumorQueryError
    from TumorQueryLib.database import TumorDatabase as TumorDatabase
    from TumorQueryLib.database import build_database as build_database
    from TumorQueryLib.geometry.grid import Grid as Grid
    from TumorQueryLib.geometry.grid import Volume as Volume
    from TumorQueryLib.geometry.regions import TumorMasks as TumorMasks
    from TumorQueryLib.growth import GrowthParameters as GrowthParameters
    from TumorQueryLib.growth import grow_trajectory as grow_trajectory
    from TumorQueryLib.growth import simulate as simulate
    from TumorQueryLib.inference import Inference as Inference
    from TumorQueryLib.inference import infer as infer
    from TumorQueryLib.inputs.patient import Patient as Patient
    from TumorQueryLib.registration import Registration as Registration
    from TumorQueryLib.registration import register as register
    from TumorQueryLib.strategies import Match as Match
    from TumorQueryLib.strategies import create_strategy as create_strategy
    from TumorQueryLib.strategies import strategy_names as strategy_names


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
