"""The affine part: mutual information from many orientations."""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Volume, image_from_volume, ras_to_lps
from TumorQueryLib.geometry.regions import dilated
from TumorQueryLib.geometry.transforms import affine_transform, rotation_matrix
from TumorQueryLib.registration.descent import OptimiserStage, optimised
from TumorQueryLib.registration.prepared import COST_RING, RING, PreparedImage, isotropic_around

MESSAGE = "Affine registration"
START_ANGLES = (-35.0, 0.0, 35.0)  # degrees about each axis: 27 starts


def usual_orientations() -> list[NDArray[np.float64]]:
    """Rotation matrices of a head that lies about as its header says, within some 50 degrees."""
    return [rotation_matrix(angles) for angles in itertools.product(START_ANGLES, repeat=3)]


def turned_orientations() -> list[NDArray[np.float64]]:
    """The 23 rotation matrices that turn a head by 90 or 180 degrees: headers that lost or permuted their axes."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.diag(signs)[list(order)]
            if np.linalg.det(matrix) > 0 and not np.array_equal(matrix, np.eye(3)):
                found.append(matrix)
    return found


def registered_affine(
    reference: PreparedImage,
    patient: PreparedImage,
    orientations: list[NDArray[np.float64]],
    *,
    progress: Progress = no_progress,
) -> sitk.AffineTransform:
    """The affine transform that maps atlas points to patient points.

    Every orientation at 8 mm, the best three at 4 mm, the best of them at 8, 4 and 2 mm.

    Parameters
    ----------
    reference, patient : PreparedImage
        Of the atlas and of the patient.
    orientations : list of ndarray, shape (3, 3)
        Rotation matrices (LPS) to start from, about the brain's centre.
    progress : Progress

    Raises
    ------
    InputError
        When the tumour leaves nothing of the brain to register.
    """
    fixed = image_from_volume(reference.image)
    # A tight mask where there is a skull: the atlas has none to compare it with.
    ring = COST_RING / 2 if patient.has_skull else RING
    fixed_mask = image_from_volume(Volume(dilated(reference.brain, ring), reference.brain.grid))
    grid = isotropic_around(patient.brain)
    image, _, weight = patient.on(grid)
    moving = image_from_volume(Volume(image, grid))
    moving_mask = image_from_volume(Volume(weight > 0.5, grid))
    if not (weight > 0.5).any():
        raise InputError("The tumour fills the whole brain, nothing is left to register.")

    fixed_centre = _centroid(reference.brain)
    shift = ras_to_lps(_centroid(patient.brain)) - ras_to_lps(fixed_centre)
    # Coarse images are made once; the optimiser would make them again for every start.
    coarse = _coarser(fixed, 6.0, 4), _coarser(moving, 6.0, 4)
    middle = _coarser(fixed, 4.0, 2), _coarser(moving, 4.0, 2)
    masks = fixed_mask, moving_mask

    starts = []
    for n, orientation in enumerate(orientations):
        start = affine_transform(orientation, fixed_centre, shift)
        step = part(progress, 0.5 * n / len(orientations), 0.5 * (n + 1) / len(orientations))
        starts.append(optimised(coarse, masks, start, OptimiserStage(0.5, 30, 0.05, 2.0), MESSAGE, progress=step))
    starts.sort(key=lambda found: found[0])
    better = []
    for n, (_, start) in enumerate(starts[:3]):
        step = part(progress, 0.5 + 0.1 * n, 0.6 + 0.1 * n)
        better.append(optimised(middle, masks, start, OptimiserStage(0.3, 80, 0.01, 1.0), MESSAGE, progress=step))
    better.sort(key=lambda found: found[0])
    last = OptimiserStage(0.25, 150, 1e-3, 1.0, shrink=(4, 2, 1), sigmas=(4.0, 2.0, 1.0))
    return optimised((fixed, moving), masks, better[0][1], last, MESSAGE, progress=part(progress, 0.8, 1.0))[1]


def angle_of(transform: sitk.AffineTransform) -> float:
    """Degrees by which an affine transform turns."""
    left, _, right = np.linalg.svd(np.array(transform.GetMatrix()).reshape(3, 3))
    return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))))


def _coarser(image: sitk.Image, sigma: float, factor: int) -> sitk.Image:
    """An image smoothed by `sigma` mm and shrunk."""
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, sigma), [factor] * 3)


def _centroid(brain: Volume) -> NDArray[np.float64]:
    return brain.grid.to_ras(np.argwhere(brain.array).mean(axis=0))
