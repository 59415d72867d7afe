"""The forward model of tumour growth: parameters, tissue, solver."""

from __future__ import annotations

from TumorQueryLib.growth.parameters import GrowthParameters
from TumorQueryLib.growth.solver import (
    INITIAL_CONDITION,
    SOLVER_VERSION,
    Moment,
    grow_trajectory,
    simulate,
    starting_field,
)
from TumorQueryLib.growth.tissue import Tissue

__all__ = [
    "INITIAL_CONDITION",
    "SOLVER_VERSION",
    "GrowthParameters",
    "Moment",
    "Tissue",
    "grow_trajectory",
    "simulate",
    "starting_field",
]
