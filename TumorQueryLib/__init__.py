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
    "TumorMasks": "geometry.regions",
    "Atlas": "anatomy.atlas",
    "Anatomy": "anatomy.anatomy",
    "Tissue": "anatomy.tissue",
    "Patient": "inputs.patient",
    "GrowthParameters": "growth",
    "grow_trajectory": "growth",
    "simulate": "growth",
    "Registration": "registration",
    "register": "registration",
    "TumorDatabase": "database",
    "build_database": "database",
    "sample_synthetic": "database",
    "Match": "strategies",
    "create_strategy": "strategies",
    "register_strategy": "strategies",
    "strategy_names": "strategies",
    "Method": "base.method",
    "Progress": "base.progress",
    "Cancelled": "base.errors",
    "DatabaseError": "base.errors",
    "InputError": "base.errors",
    "MissingDependencyError": "base.errors",
    "OutputError": "base.errors",
    "TumorQueryError": "base.errors",
    "Estimate": "estimates.estimate",
    "Fit": "estimates.fit",
    "Refinement": "estimates.refine",
    "refine": "estimates.refine",
    "assimilate": "estimates.assimilate",
    "Uncertainty": "estimates.uncertainty",
    "estimate_uncertainty": "estimates.uncertainty",
    "DensityDraws": "estimates.draws",
    "infer": "inference",
    "Result": "results.result",
    "SavedResult": "results.files",
    "read_result": "results.files",
    "export_dicom": "results.dicom.export",
    "Plan": "results.plan",
    "PlanChoices": "base.plan_choices",
    "Plans": "results.plan",
    "plan": "results.plan",
    "run_cohort": "cohort",
    "evaluate": "studies.strategies",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from TumorQueryLib.anatomy.anatomy import Anatomy as Anatomy
    from TumorQueryLib.anatomy.atlas import Atlas as Atlas
    from TumorQueryLib.anatomy.tissue import Tissue as Tissue
    from TumorQueryLib.base.errors import Cancelled as Cancelled
    from TumorQueryLib.base.errors import DatabaseError as DatabaseError
    from TumorQueryLib.base.errors import InputError as InputError
    from TumorQueryLib.base.errors import MissingDependencyError as MissingDependencyError
    from TumorQueryLib.base.errors import OutputError as OutputError
    from TumorQueryLib.base.errors import TumorQueryError as TumorQueryError
    from TumorQueryLib.base.method import Method as Method
    from TumorQueryLib.base.plan_choices import PlanChoices as PlanChoices
    from TumorQueryLib.base.progress import Progress as Progress
    from TumorQueryLib.cohort import run_cohort as run_cohort
    from TumorQueryLib.database import TumorDatabase as TumorDatabase
    from TumorQueryLib.database import build_database as build_database
    from TumorQueryLib.database import sample_synthetic as sample_synthetic
    from TumorQueryLib.estimates.assimilate import assimilate as assimilate
    from TumorQueryLib.estimates.draws import DensityDraws as DensityDraws
    from TumorQueryLib.estimates.estimate import Estimate as Estimate
    from TumorQueryLib.estimates.fit import Fit as Fit
    from TumorQueryLib.estimates.refine import Refinement as Refinement
    from TumorQueryLib.estimates.refine import refine as refine
    from TumorQueryLib.estimates.uncertainty import Uncertainty as Uncertainty
    from TumorQueryLib.estimates.uncertainty import estimate_uncertainty as estimate_uncertainty
    from TumorQueryLib.geometry.grid import Grid as Grid
    from TumorQueryLib.geometry.grid import Volume as Volume
    from TumorQueryLib.geometry.regions import TumorMasks as TumorMasks
    from TumorQueryLib.growth import GrowthParameters as GrowthParameters
    from TumorQueryLib.growth import grow_trajectory as grow_trajectory
    from TumorQueryLib.growth import simulate as simulate
    from TumorQueryLib.inference import infer as infer
    from TumorQueryLib.inputs.patient import Patient as Patient
    from TumorQueryLib.registration import Registration as Registration
    from TumorQueryLib.registration import register as register
    from TumorQueryLib.results.dicom.export import export_dicom as export_dicom
    from TumorQueryLib.results.files import SavedResult as SavedResult
    from TumorQueryLib.results.files import read_result as read_result
    from TumorQueryLib.results.plan import Plan as Plan
    from TumorQueryLib.results.plan import Plans as Plans
    from TumorQueryLib.results.plan import plan as plan
    from TumorQueryLib.results.result import Result as Result
    from TumorQueryLib.strategies import Match as Match
    from TumorQueryLib.strategies import create_strategy as create_strategy
    from TumorQueryLib.strategies import register_strategy as register_strategy
    from TumorQueryLib.strategies import strategy_names as strategy_names
    from TumorQueryLib.studies.strategies import evaluate as evaluate


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
