"""Mutual information by gradient descent: the step that the alignment and the affine registration share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import SimpleITK as sitk

from TumorQueryLib.base.progress import Progress

AnyTransform = TypeVar("AnyTransform", sitk.AffineTransform, sitk.Euler3DTransform)


@dataclass(frozen=True)
class OptimiserStage:
    """How long and how finely one descent goes.

    Parameters
    ----------
    sampling : float
        Share of the fixed image's voxels that are looked at.
    iterations : int
    minimum_step, learning_rate : float
        mm.
    shrink : tuple of int
        Factor of each level.
    sigmas : tuple of float
        Smoothing of each level, mm.
    """

    sampling: float
    iterations: int
    minimum_step: float
    learning_rate: float
    shrink: tuple[int, ...] = (1,)
    sigmas: tuple[float, ...] = (0.0,)


def optimised(
    images: tuple[sitk.Image, sitk.Image],
    masks: tuple[sitk.Image, sitk.Image],
    start: AnyTransform,
    stage: OptimiserStage,
    message: str,
    *,
    progress: Progress,
) -> tuple[float, AnyTransform]:
    """(negative mutual information, transform) after gradient descent from a start.

    One thread: SimpleITK adds the threads' shares of the derivative in whatever order they finish.

    Parameters
    ----------
    images, masks : tuple of SimpleITK.Image
        Pairs, the fixed and the moving one.
    start : SimpleITK.Transform
        Maps points of the fixed image to points of the moving one.
    stage : OptimiserStage
    message : str
    progress : Progress
        Called at every iteration with `message`; what it raises ends the descent.
    """
    method = _metric(masks, stage.sampling)
    method.SetOptimizerAsRegularStepGradientDescent(
        stage.learning_rate, stage.minimum_step, stage.iterations, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(stage.shrink))
    method.SetSmoothingSigmasPerLevel(list(stage.sigmas))
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    transform = type(start)(start)
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
            progress(share, message)
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
    finally:
        # The callback and the method hold each other where Python's collector cannot see it, with both masks.
        method.RemoveAllCommands()
    if raised:
        raise raised[0]
    return method.GetMetricValue(), transform


def mutual_information(
    images: tuple[sitk.Image, sitk.Image],
    masks: tuple[sitk.Image, sitk.Image],
    transform: sitk.Transform,
    sampling: float = 1.0,
) -> float:
    """Negative mutual information of two images as `optimised` measures it; infinite where they do not overlap."""
    method = _metric(masks, sampling)
    method.SetInitialTransform(transform)
    try:
        return float(method.MetricEvaluate(*images))
    except RuntimeError:
        return float("inf")


def _metric(masks: tuple[sitk.Image, sitk.Image], sampling: float) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    # Work units too: sums over several of them end in another order at every run.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(sampling, 1)
    method.SetInterpolator(sitk.sitkLinear)
    return method
