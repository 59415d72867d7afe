"""Transforms between spaces: points through them, their Jacobian, and displacement fields as transforms.

A transform is SimpleITK's: it maps points in LPS millimetres. Points here are in RAS millimetres all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, place_image, ras_to_lps, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box

#: A map of points in LPS millimetres.
Transform = sitk.Transform

#: Spacing (mm) at which a map's change of lengths is measured.
LENGTH_SPACING = 2.0


@dataclass(frozen=True, eq=False)
class SpaceMap:
    """The way between a patient's space and an atlas's.

    Parameters
    ----------
    patient_to_atlas : SimpleITK.Transform
        Maps points of the patient to points of the atlas (LPS mm); it resamples an atlas image onto a patient grid.
    atlas_to_patient : SimpleITK.Transform
        The other way; it resamples a patient image onto an atlas grid.
    """

    patient_to_atlas: sitk.Transform
    atlas_to_patient: sitk.Transform

    def masks_in_atlas(self, core: Volume, whole: Volume, grid: Grid) -> TumorMasks:
        """A patient's regions on an atlas grid.

        Parameters
        ----------
        core, whole : Volume
            Boolean masks in the patient's space, each on any grid.
        grid : Grid
            In the atlas.

        Returns
        -------
        TumorMasks
            Small regions keep their volume (`grid.resample_mask`); the core lies within the whole.
        """
        return TumorMasks.on_grid(core, whole, grid, self.atlas_to_patient)

    def in_patient(self, volume: Volume, grid: Grid) -> Volume:
        """A volume of the atlas (a density, a tissue map) at the voxels of a patient grid, float32, 0 outside."""
        return resample(volume, grid, self.patient_to_atlas)

    def point_in_patient(self, point: ArrayLike) -> NDArray[np.float64]:
        """A point of the atlas in the patient, both RAS mm, shape (3,)."""
        return map_points(self.atlas_to_patient, np.asarray(point, dtype=float)[None])[0]

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
        box = tumour.grid.cropped(*bounding_box(tumour.array))
        # Thick slices and single-voxel tumours alike: differences are taken on a grid of about 2 mm around the box.
        size = np.maximum(np.ceil(box.spacing * box.shape / LENGTH_SPACING).astype(int), 3) + 2
        grid = box.isotropic_like(LENGTH_SPACING, size)
        inside = resample_mask(tumour, grid).array
        determinant = np.abs(jacobian_determinant(self.patient_to_atlas, grid)[inside])
        return float(np.mean(np.maximum(determinant, 1e-3) ** (-1 / 3)))


def map_points(transform: sitk.Transform, points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) in RAS mm through a SimpleITK transform, shape (n, 3), RAS mm."""
    lps = ras_to_lps(points)
    return ras_to_lps(np.reshape([transform.TransformPoint(point) for point in lps.tolist()], lps.shape))


def jacobian_determinant(transform: sitk.Transform, grid: Grid) -> NDArray[np.float64]:
    """Determinant of a SimpleITK transform's Jacobian at the voxels of a grid, by central differences."""
    placed = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    place_image(placed, grid)
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        list(grid.shape),
        placed.GetOrigin(),
        placed.GetSpacing(),
        placed.GetDirection(),
    )
    lps = sitk.GetArrayViewFromImage(field).transpose(2, 1, 0, 3)
    displacement = ras_to_lps(lps)
    # Where the next voxel of each axis is taken to; by its cofactors, as numpy's batches are slow for 3 x 3.
    axes = grid.affine[:3, :3]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (
        np.moveaxis(np.gradient(displacement, axis=axis) + axes[:, axis], -1, 0) for axis in range(3)
    )
    volumes = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return volumes / np.linalg.det(axes)


def displacement_transform(displacement: NDArray[np.floating], grid: Grid) -> sitk.DisplacementFieldTransform:
    """A SimpleITK displacement field from displacements in voxels (3, i, j, k) of a grid along RAS."""
    millimetres = np.moveaxis(displacement, 0, -1).astype(np.float64) @ grid.affine[:3, :3].T
    image = sitk.GetImageFromArray(np.ascontiguousarray(ras_to_lps(millimetres).transpose(2, 1, 0, 3)), isVector=True)
    place_image(image, grid)
    return sitk.DisplacementFieldTransform(image)


def identity_transform() -> sitk.Transform:
    """The transform that leaves points where they are."""
    return sitk.AffineTransform(3)


def rotation_matrix(degrees: ArrayLike) -> NDArray[np.float64]:
    """Rotation about the axes L, P and S by three angles, shape (3, 3), of points in LPS."""
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(*np.deg2rad(degrees).tolist())
    return np.array(rotation.GetMatrix()).reshape(3, 3)


def affine_transform(matrix: NDArray[np.float64], centre: ArrayLike, translation: ArrayLike) -> sitk.AffineTransform:
    """The affine map of points in LPS by a matrix (3, 3) about a centre (RAS mm), then a translation (LPS mm)."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter(ras_to_lps(centre).tolist())
    affine.SetMatrix(matrix.ravel().tolist())
    affine.SetTranslation(np.asarray(translation, dtype=float).tolist())
    return affine


def in_turn(*transforms: sitk.Transform) -> sitk.CompositeTransform:
    """Transforms one after the other, the first one first."""
    return sitk.CompositeTransform(list(reversed(transforms)))
