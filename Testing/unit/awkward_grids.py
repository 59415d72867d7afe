"""Headers as scanners and tools write them."""

import numpy as np
from scipy.spatial.transform import Rotation

from TumorQueryLib.geometry.grid import Grid


def placed_affine(spacing=(1.0, 1.0, 1.0), angles=(0.0, 0.0, 0.0), flips=(1, 1, 1), order=(0, 1, 2), centre=(0, 0, 0)):
    """An affine to RAS mm with the index origin at `centre`: axes permuted, flipped, then turned (degrees)."""
    axes = np.eye(3)[:, list(order)] * np.array(flips)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes * np.array(spacing)
    affine[:3, 3] = centre
    return affine


def centred_grid(shape, affine, centre=(0.0, 0.0, 0.0)) -> Grid:
    """The grid with this affine's axes around a centre in RAS mm."""
    affine = np.array(affine, dtype=float)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(tuple(shape), affine)


#: Headers as scanners and tools write them: an identity, and ones that a mixed-up axis or sign cannot survive.
AWKWARD_AFFINES = {
    "identity": placed_affine(),
    "lps": placed_affine(flips=(-1, -1, 1)),
    "las-anisotropic": placed_affine(spacing=(1.0, 1.0, 3.0), flips=(-1, 1, 1)),
    "sagittal": placed_affine(spacing=(1.2, 0.9, 0.9), order=(1, 2, 0), flips=(1, -1, -1)),
    "oblique": placed_affine(spacing=(0.9, 0.9, 2.5), angles=(12.0, -20.0, 31.0)),
    "oblique-flipped": placed_affine(
        spacing=(1.1, 0.8, 2.0), angles=(-25.0, 8.0, 14.0), flips=(-1, 1, -1), order=(2, 0, 1)
    ),
}
