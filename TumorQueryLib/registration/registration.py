"""Registration of a patient's brain to the atlas, with the tumour left out of the cost function.

An affine transform, found from 27 orientations by mutual information, then a
stationary velocity field (`velocity_field.py`), whose inverse is as exact as the
map itself. Transforms are SimpleITK's: they map points in LPS millimetres, and
their names say from where to where.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import (
    Grid,
    Volume,
    image_from_volume,
    ras_to_lps,
    resample,
    resample_mask,
)
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box
from TumorQueryLib.geometry.transforms import (
    displacement_transform,
    identity_transform,
    jacobian_determinant,
    map_points,
)

MODES = ("none", "affine", "deformable")

SPACING = 2.0  # mm; the grid on which images are compared
FIELD_SPACING = 3.0  # mm; of the displacement fields in the result: 6 MB each
PADDING = 24.0  # mm around the atlas brain: room for the velocity field to fall to zero
RING = 12.0  # mm of background around the brain that the affine sees: without it the brain's outline has no say
COST_RING = 6.0  # mm of background that the deformable part sees
TUMOUR_MARGIN = 3.0  # mm by which the tumour is dilated before it is left out
START_ANGLES = (-35.0, 0.0, 35.0)  # degrees about each axis: 27 starts

#: A skull-stripped brain with its CSF holds at most about this much (ml); a head holds 2800 ml and more.
LARGEST_BRAIN_ML = 2300.0
LOW_BRAIN_DICE = 0.90
LOW_CORRELATION = 0.30
LARGE_INVERSE_ERROR = 0.5  # mm, 95th percentile


@dataclass(frozen=True, eq=False)
class Registration:
    """A patient's place in the atlas.

    Parameters
    ----------
    mode : {"none", "affine", "deformable"}
    patient_to_atlas : SimpleITK.Transform
        Maps points of the patient to points of the atlas (LPS mm); it resamples an atlas image onto a patient grid.
    atlas_to_patient : SimpleITK.Transform
        The other way; it resamples a patient image onto an atlas grid.
    quality : dict of float
        `brain_dice` (patient's brain, moved, against the atlas's), `correlation` (of the T1s in the brain, outside
        the tumour), `inverse_error_median_mm`, `inverse_error_p95_mm`, `inverse_error_max_mm` (there and back, in
        the brain), `jacobian_min`, `jacobian_max` and `folded_share` (determinant of atlas_to_patient in the brain).
    warnings : tuple of str
        What a user should look at; empty when all is well.
    """

    mode: str
    patient_to_atlas: Any
    atlas_to_patient: Any
    quality: dict[str, float]
    warnings: tuple[str, ...]

    def masks_in_atlas(self, core: Volume, whole: Volume, atlas: Atlas) -> TumorMasks:
        """The tumour's regions on the atlas grid.

        Parameters
        ----------
        core, whole : Volume
            Boolean masks in the patient's space, each on any grid.
        atlas : Atlas

        Returns
        -------
        TumorMasks
            Small regions keep their volume (`grid.resample_mask`); the core lies within the whole.
        """
        moved_core = resample_mask(core, atlas.grid, self.atlas_to_patient).array
        moved_whole = resample_mask(whole, atlas.grid, self.atlas_to_patient).array
        return TumorMasks(core=moved_core, whole=moved_whole | moved_core, grid=atlas.grid)

    def density_in_patient(self, density: NDArray[np.float32], atlas_grid: Grid, target_grid: Grid) -> Volume:
        """A density of the atlas at the voxels of a patient grid, float32, 0 outside the atlas."""
        return resample(Volume(density, atlas_grid), target_grid, self.patient_to_atlas)

    def seed_in_patient(self, seed_ras: ArrayLike) -> NDArray[np.float64]:
        """A point of the atlas in the patient, both RAS mm, shape (3,)."""
        return map_points(self.atlas_to_patient, np.asarray(seed_ras, dtype=float)[None])[0]

    def seed_in_atlas(self, seed_ras: ArrayLike) -> NDArray[np.float64]:
        """A point of the patient in the atlas, both RAS mm, shape (3,)."""
        return map_points(self.patient_to_atlas, np.asarray(seed_ras, dtype=float)[None])[0]

    def length_scale(self, tumour: Volume) -> float:
        """Patient millimetres per atlas millimetre in the tumour.

        Parameters
        ----------
        tumour : Volume
            Boolean mask in the patient's space.

        Returns
        -------
        float
            |det J|^(-1/3), J of patient_to_atlas, averaged over the tumour.

        Raises
        ------
        InputError
            When the tumour is empty.
        """
        if not tumour.array.any():
            raise InputError("The tumour mask is empty, so there is no tumour over which to average the length scale.")
        start, stop = bounding_box(tumour.array)
        box = tumour.grid.cropped(start.tolist(), stop.tolist())
        # Thick slices and single-voxel tumours alike: differences are taken on a grid of about 2 mm around the box.
        edges = box.spacing * box.shape
        size = np.maximum(np.ceil(edges / SPACING).astype(int), 3) + 2
        affine = box.affine.copy()
        affine[:3, :3] = box.affine[:3, :3] / box.spacing * SPACING
        affine[:3, 3] = box.centre - affine[:3, :3] @ ((size - 1) / 2)
        grid = Grid((int(size[0]), int(size[1]), int(size[2])), affine)
        inside = resample_mask(tumour, grid).array
        determinant = np.abs(jacobian_determinant(self.patient_to_atlas, grid)[inside])
        return float(np.mean(np.maximum(determinant, 1e-3) ** (-1 / 3)))

    def write(self, folder: Path) -> dict[str, Path]:
        """Write both transforms as ITK HDF5 files that SimpleITK and 3D Slicer read.

        Parameters
        ----------
        folder : Path
            An existing folder; each file is written under another name and renamed.

        Returns
        -------
        dict
            "patient_to_atlas" and "atlas_to_patient" with their paths.

        Raises
        ------
        OutputError
            When a file cannot be written.
        """
        import SimpleITK as sitk

        written = {}
        for name in ("patient_to_atlas", "atlas_to_patient"):
            path = Path(folder) / f"{name}.h5"
            partial = path.with_name(f"{name}.partial.h5")
            try:
                sitk.WriteTransform(getattr(self, name), str(partial))
                partial.replace(path)
            except (RuntimeError, OSError) as error:
                raise OutputError(
                    f"{path} cannot be written: the folder is missing, not writable or the disk is full."
                ) from error
            finally:
                partial.unlink(missing_ok=True)
            written[name] = path
        return written


def register(
    image: Volume,
    atlas: Atlas,
    mode: str = "deformable",
    *,
    tumour: Volume | None = None,
    brain_mask: Volume | None = None,
    progress: Progress = no_progress,
) -> Registration:
    """Register a patient's T1 or T1Gd to an atlas.

    Parameters
    ----------
    image : Volume
        T1 (better) or T1Gd, skull-stripped or with a brain mask; any grid, any intensities, a constant background
        of any value.
    atlas : Atlas
    mode : {"none", "affine", "deformable"}
        "none": the image already lies in the atlas's space.
    tumour : Volume, optional
        Boolean mask in the patient's space; dilated by 3 mm it is left out of the cost function.
    brain_mask : Volume, optional
        Boolean mask of the brain in the patient's space.
    progress : Progress
        Called at every iteration; what it raises ends the registration.

    Returns
    -------
    Registration
        The same for the same input, whatever the number of processors.

    Raises
    ------
    InputError
        When the mode is unknown, or the image or the brain mask holds no brain.
    """
    if mode not in MODES:
        raise InputError(f"There is no registration mode {mode!r}; choose none, affine or deformable.")
    progress(0.0, "Registration: preparing")
    patient = _PreparedImage.of_patient(image, tumour, brain_mask)
    reference = _PreparedImage.of_atlas(atlas)
    if mode == "none":
        forward, backward = identity_transform(), identity_transform()
    else:
        affine = _affine(reference, patient, part(progress, 0.02, 0.95 if mode == "affine" else 0.5))
        forward, backward = affine, affine.GetInverse()
        if patient.has_skull:
            patient = patient.stripped_by(reference, backward)
        if mode == "deformable":
            forward, backward = _deformable(reference, patient, affine, part(progress, 0.5, 0.95))
    progress(0.95, "Registration: measuring the quality")
    quality = _quality(reference, patient, forward, backward)
    progress(1.0, "Registration: done")
    return Registration(mode, backward, forward, quality, _warnings(mode, quality, patient.has_skull))


@dataclass(frozen=True, eq=False)
class _PreparedImage:
    """An image as the registration wants it: the brain between 0.05 and 1.05, 0 elsewhere, `weight` 0 in the tumour."""

    image: Volume
    brain: Volume
    weight: Volume
    has_skull: bool

    @classmethod
    def of_patient(cls, image: Volume, tumour: Volume | None, brain_mask: Volume | None) -> _PreparedImage:
        values = np.nan_to_num(image.array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        has_skull = False
        if brain_mask is not None:
            brain = resample_mask(brain_mask, image.grid).array
            if not brain.any():
                raise InputError("The brain mask is empty or lies elsewhere in space than the image.")
        else:
            brain, has_skull = find_brain(Volume(values, image.grid))
        weight = np.ones(image.grid.shape, dtype=np.float32)
        if tumour is not None and tumour.array.any():
            weight[_dilated(resample_mask(tumour, image.grid), TUMOUR_MARGIN)] = 0
        return cls._scaled(values, brain, weight, image.grid, has_skull)

    @classmethod
    def of_atlas(cls, atlas: Atlas) -> _PreparedImage:
        """The atlas T1 on a grid of 2 mm along RAS, padded, of odd sizes so that every second voxel spans it."""
        brain = atlas.brain_mask
        start, stop = bounding_box(brain.array)
        corners = brain.grid.to_ras(np.array(list(itertools.product(*zip(start, stop - 1)))))
        low, high = corners.min(axis=0) - PADDING, corners.max(axis=0) + PADDING
        half = np.ceil((high - low) / (2 * SPACING)).astype(int)
        affine = np.diag([SPACING, SPACING, SPACING, 1.0])
        affine[:3, 3] = (low + high) / 2 - half * SPACING
        grid = Grid((int(2 * half[0] + 1), int(2 * half[1] + 1), int(2 * half[2] + 1)), affine)
        prepared = cls._scaled(atlas.t1.array, brain.array, np.ones(brain.grid.shape, np.float32), brain.grid, False)
        image, small_brain, _ = prepared.on(grid)
        return cls(Volume(image, grid), Volume(small_brain > 0.5, grid), Volume(np.ones_like(image), grid), False)

    @classmethod
    def _scaled(cls, values, brain, weight, grid: Grid, has_skull: bool) -> _PreparedImage:
        low, high = np.percentile(values[brain], (1, 99.5))
        if not high > low:
            raise InputError("The brain in the image has one intensity only; give the T1Gd or T1 image itself.")
        scaled = (np.clip(values, low, high) - low) / np.float32(high - low) + np.float32(0.05)
        scaled[~brain] = 0
        return cls(Volume(scaled, grid), Volume(brain, grid), Volume(weight, grid), has_skull)

    def stripped_by(self, reference: _PreparedImage, patient_to_atlas) -> _PreparedImage:
        """The same with the brain where the atlas's brain lies: a rough substitute for skull stripping."""
        brain = resample_mask(reference.brain, self.image.grid, patient_to_atlas).array & self.brain.array
        if not brain.any():
            return self
        return self._scaled(self.image.array, brain, self.weight.array, self.image.grid, True)

    def on(self, grid: Grid, transform=None) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Image, brain (share) and weight on another grid; all 0 outside the image."""
        # Axes finer than the grid are smoothed to its resolution first, thick slices are left as they are.
        spacing = self.image.grid.spacing
        sigma = 0.42 * np.sqrt(np.maximum(SPACING**2 - spacing**2, 0)) / spacing
        smooth = Volume(ndimage.gaussian_filter(self.image.array, sigma), self.image.grid)
        brain = Volume(self.brain.array.astype(np.float32), self.brain.grid)
        return (
            resample(smooth, grid, transform).array,
            resample(brain, grid, transform).array,
            resample(self.weight, grid, transform).array,
        )


def find_brain(image: Volume) -> tuple[NDArray[np.bool_], bool]:
    """The brain of a skull-stripped image, and whether the image seems to hold the whole head.

    Parameters
    ----------
    image : Volume
        float32; the background of a skull-stripped image has one value, whichever it is.

    Returns
    -------
    brain : ndarray of bool
        What is not background, its holes filled; the largest part only.
    has_skull : bool
        The background is not constant (air with noise), or more than 2.3 litres stand out from it.

    Raises
    ------
    InputError
        When the image has one value only.
    """
    import SimpleITK as sitk

    values, counts = np.unique(image.array, return_counts=True)
    if len(values) < 2:
        raise InputError(f"The image is empty: every voxel is {values[0]:g}.")
    background = values[counts.argmax()]
    constant = counts.max() >= 0.1 * image.array.size
    if constant:
        contrast = np.abs(image.array - background)
        foreground = contrast > 0.005 * np.percentile(contrast[contrast > 0], 99)
    else:
        foreground = sitk.GetArrayFromImage(sitk.OtsuThreshold(image_from_volume(image), 0, 1)).transpose(2, 1, 0) > 0
    parts, count = ndimage.label(foreground)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        foreground = parts == 1 + sizes[1:].argmax()
    brain = ndimage.binary_fill_holes(foreground)
    volume_ml = brain.sum() * image.grid.voxel_volume_ml
    return brain, bool(not constant or volume_ml > LARGEST_BRAIN_ML)


def _affine(reference: _PreparedImage, patient: _PreparedImage, progress: Progress):
    """The affine transform that maps atlas points to patient points.

    27 orientations at 8 mm, the best three at 4 mm, the best of them at 8, 4 and 2 mm. One thread: SimpleITK adds
    the threads' shares of the derivative in whatever order they finish.
    """
    import SimpleITK as sitk

    fixed = image_from_volume(reference.image)
    # A tight mask where there is a skull: the atlas has none to compare it with.
    ring = COST_RING / 2 if patient.has_skull else RING
    fixed_mask = image_from_volume(Volume(_dilated(reference.brain, ring), reference.brain.grid))
    grid = _isotropic_around(patient.brain)
    image, _, weight = patient.on(grid)
    moving = image_from_volume(Volume(image, grid))
    moving_mask = image_from_volume(Volume(weight > 0.5, grid))
    if not (weight > 0.5).any():
        raise InputError("The tumour fills the whole brain, nothing is left to register.")

    fixed_centre = ras_to_lps(_centroid(reference.brain))
    shift = ras_to_lps(_centroid(patient.brain)) - fixed_centre
    # Coarse images are made once; the optimiser would make them again for every start.
    coarse = [sitk.Shrink(sitk.SmoothingRecursiveGaussian(i, 6.0), [4, 4, 4]) for i in (fixed, moving)]
    middle = [sitk.Shrink(sitk.SmoothingRecursiveGaussian(i, 4.0), [2, 2, 2]) for i in (fixed, moving)]

    starts = []
    orientations = list(itertools.product(START_ANGLES, repeat=3))
    for n, angles in enumerate(orientations):
        rotation = sitk.Euler3DTransform()
        rotation.SetRotation(*np.deg2rad(angles).tolist())
        start = sitk.AffineTransform(3)
        start.SetCenter(fixed_centre.tolist())
        start.SetMatrix(rotation.GetMatrix())
        start.SetTranslation(shift.tolist())
        step = part(progress, 0.5 * n / len(orientations), 0.5 * (n + 1) / len(orientations))
        starts.append(_optimised(coarse, (fixed_mask, moving_mask), start, _OptimiserStage(0.5, 30, 0.05, 2.0), step))
    starts.sort(key=lambda found: found[0])
    better = []
    for n, (_, start) in enumerate(starts[:3]):
        step = part(progress, 0.5 + 0.1 * n, 0.6 + 0.1 * n)
        better.append(_optimised(middle, (fixed_mask, moving_mask), start, _OptimiserStage(0.3, 80, 0.01, 1.0), step))
    better.sort(key=lambda found: found[0])
    last = _OptimiserStage(0.25, 150, 1e-3, 1.0, shrink=(4, 2, 1), sigmas=(4.0, 2.0, 1.0))
    return _optimised((fixed, moving), (fixed_mask, moving_mask), better[0][1], last, part(progress, 0.8, 1.0))[1]


@dataclass(frozen=True)
class _OptimiserStage:
    sampling: float
    iterations: int
    minimum_step: float
    learning_rate: float
    shrink: tuple[int, ...] = (1,)
    sigmas: tuple[float, ...] = (0.0,)


def _optimised(images, masks, start, stage: _OptimiserStage, progress: Progress):
    """(negative mutual information, affine transform) after gradient descent from a start.

    `images` and `masks` are pairs, the fixed and the moving one.
    """
    import SimpleITK as sitk

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


def _deformable(reference: _PreparedImage, patient: _PreparedImage, affine, progress: Progress):
    """Atlas to patient and back: an affine transform and a displacement field in the atlas's space."""
    import SimpleITK as sitk

    from TumorQueryLib.registration.velocity_field import exponential, refined, register_by_velocity_field

    grid = reference.image.grid
    moving, _, moving_weight = patient.on(grid, affine)
    ring = _dilated(reference.brain, COST_RING).astype(np.float32)
    velocity = register_by_velocity_field(
        reference.image.array, moving, ring, (moving_weight > 0.999).astype(np.float32), progress=progress
    )
    stored = refined(velocity, 2 * SPACING / FIELD_SPACING)
    stored_affine = grid.affine.copy()
    stored_affine[:3, :3] *= FIELD_SPACING / SPACING
    stored_grid = Grid(stored.shape[1:], stored_affine)
    displacement, inverse = (displacement_transform(exponential(v), stored_grid) for v in (stored, -stored))
    # A composite applies its last transform first.
    forward = sitk.CompositeTransform([affine, displacement])
    backward = sitk.CompositeTransform([inverse, affine.GetInverse()])
    return forward, backward


def _quality(reference: _PreparedImage, patient: _PreparedImage, forward, backward) -> dict[str, float]:
    grid = reference.image.grid
    moved, moved_brain, weight = patient.on(grid, forward)
    atlas_brain = reference.brain.array
    patient_brain = moved_brain > 0.5
    # What lies outside the patient's field of view cannot overlap and is not counted.
    in_view = resample(Volume(np.ones(patient.image.grid.shape, np.float32), patient.image.grid), grid, forward).array
    seen = atlas_brain & (in_view > 0.5)
    both = seen & patient_brain & (weight > 0.5)
    overlap = 2 * (seen & patient_brain).sum() / max(1, seen.sum() + patient_brain.sum())
    correlation = 0.0
    if both.sum() > 1:
        pair = np.corrcoef(reference.image.array[both], moved[both])
        correlation = float(np.nan_to_num(pair[0, 1]))
    errors = np.concatenate(
        [
            _there_and_back(forward, backward, _brain_points(reference.brain)),
            _there_and_back(backward, forward, _brain_points(patient.brain)),
        ]
    )
    determinant = jacobian_determinant(forward, grid)[atlas_brain]
    median, p95 = np.percentile(errors, (50, 95))
    return {
        "brain_dice": float(overlap),
        "correlation": correlation,
        "inverse_error_median_mm": float(median),
        "inverse_error_p95_mm": float(p95),
        "inverse_error_max_mm": float(errors.max()),
        "jacobian_min": float(determinant.min()),
        "jacobian_max": float(determinant.max()),
        "folded_share": float((determinant <= 0).mean()),
    }


def _warnings(mode: str, quality: dict[str, float], has_skull: bool) -> tuple[str, ...]:
    found = []
    if has_skull:
        found.append(
            "The image seems to contain the skull, and the atlas has none: the registration may be poor. Strip the "
            "skull first (in 3D Slicer for instance with the extension SynthStrip or HD-BET), or give a brain mask."
        )
    if quality["brain_dice"] < LOW_BRAIN_DICE or quality["correlation"] < LOW_CORRELATION:
        advice = (
            "choose the affine or deformable registration unless the image lies in the atlas's space"
            if mode == "none"
            else "look at the result in the atlas, and check the image's orientation and its brain mask"
        )
        found.append(
            f"The patient's brain fits the atlas poorly (overlap of the brains {quality['brain_dice']:.2f}, "
            f"correlation of the images {quality['correlation']:.2f}); {advice}."
        )
    if quality["inverse_error_p95_mm"] > LARGE_INVERSE_ERROR or quality["folded_share"] > 0:
        found.append(
            f"The deformation is not cleanly invertible (error there and back {quality['inverse_error_p95_mm']:.2f} mm "
            f"at the 95th percentile, {100 * quality['folded_share']:.2f} % folded); try the affine registration."
        )
    return tuple(found)


def _brain_points(brain: Volume) -> NDArray[np.float64]:
    """Some ten thousand voxel centres of the brain, evenly taken, RAS mm."""
    indices = np.argwhere(brain.array)
    return brain.grid.to_ras(indices[:: max(1, len(indices) // 10_000)])


def _there_and_back(there, back, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(map_points(back, map_points(there, points)) - points, axis=1)


def _centroid(brain: Volume) -> NDArray[np.float64]:
    return brain.grid.to_ras(np.argwhere(brain.array).mean(axis=0))


def _dilated(mask: Volume, margin: float) -> NDArray[np.bool_]:
    """A boolean mask dilated by `margin` mm."""
    if not mask.array.any():
        return mask.array
    start, stop = bounding_box(mask.array)
    reach = np.ceil(margin / mask.grid.spacing).astype(int) + 1
    box: tuple[slice, ...] = tuple(
        slice(max(0, a - r), min(n, b + r)) for a, b, r, n in zip(start, stop, reach, mask.grid.shape)
    )
    dilated = np.zeros_like(mask.array)
    distance = ndimage.distance_transform_edt(~mask.array[box], sampling=mask.grid.spacing)
    dilated[box] = distance <= margin
    return dilated


def _isotropic_around(brain: Volume) -> Grid:
    """A grid of 2 mm along the image's own axes around the brain and a ring of background."""
    start, stop = bounding_box(brain.array)
    box = brain.grid.cropped(start.tolist(), stop.tolist())
    size = np.ceil((box.spacing * box.shape + 2 * RING) / SPACING).astype(int)
    affine = box.affine.copy()
    affine[:3, :3] = box.affine[:3, :3] / box.spacing * SPACING
    affine[:3, 3] = box.centre - affine[:3, :3] @ ((size - 1) / 2)
    return Grid((int(size[0]), int(size[1]), int(size[2])), affine)
