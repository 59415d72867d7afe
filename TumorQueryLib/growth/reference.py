"""The slow, obvious twin of the solver: the same splitting in plain NumPy, float64, on the whole grid.

No active box, no planes, no stages run together: what `solver` and `kernels` do fast is
here to be read, and tests compare the two.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.growth.parameters import GrowthParameters
from TumorQueryLib.growth.solver import starting_field, time_step


def simulate(
    parameters: GrowthParameters,
    tissue: Tissue,
    initial: NDArray[np.floating] | None = None,
    longest_step: float | None = None,
) -> NDArray[np.float64]:
    """Density at the end of the duration, as `TumorQueryLib.growth.simulate` gives it.

    Parameters
    ----------
    parameters : GrowthParameters
        With a proliferation above 0.
    tissue : Tissue
    initial : ndarray, shape grid.shape, optional
        Density to start from, cut to tissue; the Gaussian at the seed by default.
    longest_step : float, optional
        Length of a step in units of 1/rho; the solver's by default.

    Returns
    -------
    ndarray of float64, shape grid.shape
    """
    length = parameters.infiltration_length
    step = time_step(length, tissue.grid.spacing) if longest_step is None else longest_step
    start = starting_field(parameters.seed, tissue) if initial is None else np.where(tissue.mask, initial, 0)
    density = start.astype(np.float64)
    remaining = parameters.rho_t
    while remaining > 1e-7 * step:
        dtau = min(step, remaining)
        density = _react(density, dtau / 2)
        for axis, share in ((2, 0.5), (1, 0.5), (0, 1.0), (1, 0.5), (2, 0.5)):
            density = diffuse(density, tissue, axis, share * dtau * length**2)
        density = _react(density, dtau / 2)
        remaining -= dtau
    return density


def diffuse(density: NDArray[np.float64], tissue: Tissue, axis: int, spread: float) -> NDArray[np.float64]:
    """Diffuse along one axis over D t = `spread` (mm^2): Runge-Kutta, SSP, second order, positive."""
    number = spread / tissue.grid.spacing[axis] ** 2
    stages = max(2, 1 + math.ceil(2 * number * (1 + 1e-6)))
    stage = density
    for _ in range(stages):
        stage = stage + number / (stages - 1) * _divergence(stage, tissue, axis)
    return (density + (stages - 1) * stage) / stages


def _divergence(density: NDArray[np.float64], tissue: Tissue, axis: int) -> NDArray[np.float64]:
    """What flows into each cell along an axis, for unit diffusivity and spacing."""
    faces = np.moveaxis(tissue.face_mobility[axis].astype(np.float64), axis, 0)[:-1]
    flux = faces * np.diff(np.moveaxis(density, axis, 0), axis=0)
    gain = np.zeros_like(density)
    along = np.moveaxis(gain, axis, 0)
    along[:-1] += flux
    along[1:] -= flux
    return gain


def _react(density: NDArray[np.float64], dtau: float) -> NDArray[np.float64]:
    """Exact logistic growth over a time in units of 1/rho."""
    return density / (density + (1 - density) * math.exp(-dtau))
