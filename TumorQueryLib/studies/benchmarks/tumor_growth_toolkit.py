"""The field's reference scheme, as a yardstick of speed: TumorGrowthToolkit's Fisher-Kolmogorov solver restated.

A re-statement in NumPy from a description of the scheme (m1balcerak/TumorGrowthToolkit,
commit cbd5bca): explicit Euler steps in float64 on a box around the brain, conservative
seven-point differences with arithmetic means at the faces. It holds no code of that project.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Cells kept around the brain.
MARGIN = 2
#: Diffusivity of white matter over that of grey matter.
WHITE_TO_GREY = 10.0


def starting_field(points: NDArray[np.float64], seed: NDArray[np.float64]) -> NDArray[np.float64]:
    """The toolkit's start: 0.502 exp(-r^2 / 20 mm^2), cut below 0.1.

    Parameters
    ----------
    points : ndarray, shape (..., 3)
        Voxel centres in mm.
    seed : ndarray, shape (3,)
        In the same frame.
    """
    density = 0.502 * np.exp(-((points - seed) ** 2).sum(axis=-1) / 20.0)
    return np.where(density < 0.1, 0.0, density)


def simulate(
    white_matter: NDArray[np.floating],
    grey_matter: NDArray[np.floating],
    spacing: float,
    diffusivity: float,
    proliferation: float,
    duration: float,
    initial: NDArray[np.floating],
    tissue_threshold: float = 0.1,
) -> NDArray[np.float64]:
    """Density after `duration` days, on the whole grid.

    Parameters
    ----------
    white_matter, grey_matter : ndarray, shape (n, m, l)
        Probabilities in [0, 1].
    spacing : float
        Edge of the cubic voxels, mm.
    diffusivity, proliferation, duration : float
        mm^2/day in white matter, 1/day, days.
    initial : ndarray, shape (n, m, l)
        Density to start from.
    tissue_threshold : float
        No flux crosses a face where white + grey matter of either cell is below this; the
        toolkit's value by default.

    Returns
    -------
    ndarray of float64, shape (n, m, l)
    """
    matter = white_matter + grey_matter
    occupied = np.argwhere(matter >= 0.5)
    box = tuple(
        slice(max(low - MARGIN, 0), high + MARGIN + 1) for low, high in zip(occupied.min(axis=0), occupied.max(axis=0))
    )
    white, grey = white_matter[box].astype(np.float64), grey_matter[box].astype(np.float64)
    tissue = matter[box] >= tissue_threshold
    faces = []
    for axis in range(3):
        mean_white, mean_grey = (0.5 * (cells + np.roll(cells, -1, axis)) for cells in (white, grey))
        face = diffusivity * (mean_white + mean_grey / WHITE_TO_GREY)
        faces.append(np.where(tissue & np.roll(tissue, -1, axis), face, 0.0))
    faces_below = [np.roll(face, 1, axis) for axis, face in enumerate(faces)]

    steps = math.ceil(max(8 * duration * diffusivity / spacing**2 + 100, 1.1 * duration * proliferation))
    dt = duration / steps
    density = initial[box].astype(np.float64)
    for _ in range(steps):
        change = proliferation * density * (1 - density)
        for axis in range(3):
            inflow = faces[axis] * (np.roll(density, -1, axis) - density)
            outflow = faces_below[axis] * (density - np.roll(density, 1, axis))
            change += (inflow - outflow) / spacing**2
        density += dt * change
    whole = np.zeros(initial.shape)
    whole[box] = density
    return whole
