"""Transforms between spaces: points through them, their Jacobian, and displacement fields as transforms.

A transform is SimpleITK's: it maps points in LPS millimetres. Points here are in RAS millimetres all the same.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.geometry.grid import Grid, place_image, ras_to_lps


def map_points(transform, points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) in RAS mm through a SimpleITK transform, shape (n, 3), RAS mm."""
    lps = ras_to_lps(points)
    return ras_to_lps([transform.TransformPoint(point) for point in lps.tolist()]).reshape(lps.shape)


def jacobian_determinant(transform, grid: Grid) -> NDArray[np.float64]:
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
    slopes = [np.gradient(displacement, axis=axis) for axis in range(3)]
    per_index = np.stack(slopes, axis=-1)
    return np.linalg.det(np.eye(3) + per_index @ np.linalg.inv(grid.affine[:3, :3]))


def displacement_transform(displacement: NDArray[np.float32], grid: Grid):
    """A SimpleITK displacement field from displacements in voxels (3, i, j, k) of a grid along RAS."""
    millimetres = np.moveaxis(displacement, 0, -1).astype(np.float64) @ grid.affine[:3, :3].T
    image = sitk.GetImageFromArray(np.ascontiguousarray(ras_to_lps(millimetres).transpose(2, 1, 0, 3)), isVector=True)
    place_image(image, grid)
    return sitk.DisplacementFieldTransform(image)


def identity_transform():
    """The transform that leaves points where they are."""
    return sitk.AffineTransform(3)
