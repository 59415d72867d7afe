"""The affine part: mutual information from many orientations."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Volume, image_from_volume, ras_to_lps
from TumorQueryLib.geometry.transforms import affine_transform, rotation_matrix
from TumorQueryLib.registration.prepared import COST_RING, RING, PreparedImage, dilated, isotropic_around

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

    Every orientation at 8 mm, the best three at 4 mm, the best of them at 8, 4 and 2 mm. One thread: SimpleITK adds
    the threads' shares of the derivative in whatever order they finish.

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
        starts.append(_optimised(coarse, masks, start, _OptimiserStage(0.5, 30, 0.05, 2.0), step))
    starts.sort(key=lambda found: found[0])
    better = []
    for n, (_, start) in enumerate(starts[:3]):
        step = part(progress, 0.5 + 0.1 * n, 0.6 + 0.1 * n)
        better.append(_optimised(middle, masks, start, _OptimiserStage(0.3, 80, 0.01, 1.0), step))
    better.sort(key=lambda found: found[0])
    last = _OptimiserStage(0.25, 150, 1e-3, 1.0, shrink=(4, 2, 1), sigmas=(4.0, 2.0, 1.0))
    return _optimised((fixed, moving), masks, better[0][1], last, part(progress, 0.8, 1.0))[1]


def angle_of(transform: sitk.AffineTransform) -> float:
    """Degrees by which an affine transform turns."""
    left, _, right = np.linalg.svd(np.array(transform.GetMatrix()).reshape(3, 3))
    return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))))


@dataclass(frozen=True)
class _OptimiserStage:
    sampling: float
    iterations: int
    minimum_step: float
    learning_rate: float
    shrink: tuple[int, ...] = (1,)
    sigmas: tuple[float, ...] = (0.0,)


def _optimised(
    images: tuple[sitk.Image, sitk.Image],
    masks: tuple[sitk.Image, sitk.Image],
    start: sitk.AffineTransform,
    stage: _OptimiserStage,
    progress: Progress,
) -> tuple[float, sitk.AffineTransform]:
    """(negative mutual information, affine transform) after gradient descent from a start.

    `images` and `masks` are pairs, the fixed and the moving one.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    # Work units too: sums over several of them end in another order at every run.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(stage.sampling, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        stage.learning_rate, stage.minimum_step, stage.iterations, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(stage.shrink))
    method.SetSmoothingSigmasPerLevel(list(stage.sigmas))
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    transform = sitk.AffineTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    levels = len(stage.shrink)
    raised: list[BaseException] = []

    def report() -> None:
        # An exception must not pass through SimpleITK's C++ frames: stop, and raise it afterwards.
        if raised:
            method.StopRegistration()
            return
        try:
            share = (method.GetCurrentLevel() + method.GetOptimizerIteration() / stage.iterations) / levels
            progress(share, "Affine registration")
        except BaseException as error:
            raised.append(error)
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, report)
    try:
        # In a thread of its own: an interrupt that reached the callback would be lost there.
        with ThreadPoolExecutor(1) as executor:
            execution = executor.submit(method.Execute, *images)
            try:
                while wait([execution], timeout=0.2).not_done:
                    pass
            except BaseException as error:
                raised.append(error)
        execution.result()
    except RuntimeError:
        # Samples ran out of the moving image: this start leads nowhere.
        if not raised:
            return float("inf"), transform
    if raised:
        raise raised[0]
    return method.GetMetricValue(), transform


def _coarser(image: sitk.Image, sigma: float, factor: int) -> sitk.Image:
    """An image smoothed by `sigma` mm and shrunk."""
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, sigma), [factor] * 3)


def _centroid(brain: Volume) -> NDArray[np.float64]:
    return brain.grid.to_ras(np.argwhere(brain.array).mean(axis=0))
