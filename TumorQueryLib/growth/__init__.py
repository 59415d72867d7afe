"""The forward model of tumour growth: parameters and solver."""

from __future__ import annotations

from TumorQueryLib.growth.parameters import GrowthParameters
from TumorQueryLib.growth.solver import (
    INITIAL_CONDITION,
    SOLVER_VERSION,
    SOLVER_VERSIONS,
    Moment,
    grow_trajectory,
    simulate,
    starting_field,
)

__all__ = [
    "INITIAL_CONDITION",
    "SOLVER_VERSION",
    "SOLVER_VERSIONS",
    "GrowthParameters",
    "Moment",
    "grow_trajectory",
    "simulate",
    "starting_field",
]
