"""Voxel grids in RAS millimetres, and the only code that knows LPS and KJI.

Arrays are indexed [i, j, k]; a grid's affine maps (i, j, k) to RAS millimetres.
SimpleITK keeps points in LPS and its NumPy views in [k, j, i]; both exist only
in `image_from_volume`, `volume_from_image`, `ras_to_lps` and the transforms that
callers hand to the resampling functions here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import itk_name

if TYPE_CHECKING:
    import SimpleITK as sitk

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular voxel grid: its shape and its affine to RAS millimetres.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along i, j, k; each at least 1.
    affine : array_like, shape (4, 4)
        Maps voxel indices (i, j, k, 1) at voxel centres to RAS millimetres. Any
        invertible affine is accepted: oblique, flipped or anisotropic.

    Raises
    ------
    InputError
        When the shape is not three positive numbers or the affine is singular
        or not finite.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"A grid needs three positive sizes, this one has {shape}.")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError(f"A grid's affine is a finite 4 x 4 matrix, this one is {affine.tolist()}.")
        if not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise InputError(f"The last row of a grid's affine is 0 0 0 1, here it is {affine[3].tolist()}.")
        # Relative to the edges, so that the unit does not decide.
        if not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * np.prod(np.linalg.norm(affine[:3, :3], axis=0)):
            raise InputError("A grid's affine must be invertible, this one is singular.")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        """Equal in shape and, to the last bit, in affine; `matches` allows for rounding."""
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @classmethod
    def isotropic(cls, size: int, spacing: float, centre: ArrayLike) -> Grid:
        """A cube of `size`^3 voxels of `spacing` mm along the RAS axes around `centre` (RAS mm)."""
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = np.asarray(centre, dtype=float) - spacing * (size - 1) / 2
        return cls((size, size, size), affine)

    @classmethod
    def around(cls, points: ArrayLike, spacing: float, padding: float) -> Grid:
        """A grid of `spacing` mm along the RAS axes that holds points (n, 3; RAS mm) and `padding` mm around them."""
        points = np.asarray(points, dtype=float)
        low, high = points.min(axis=0) - padding, points.max(axis=0) + padding
        i, j, k = (int(n) for n in np.ceil((high - low) / spacing) + 1)
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = low
        return cls((i, j, k), affine)

    def isotropic_like(self, spacing: float, size: ArrayLike) -> Grid:
        """A grid of `spacing` mm and `size` (3 numbers) voxels along this grid's own axes, around its centre."""
        i, j, k = (int(n) for n in np.asarray(size))
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] / self.spacing * spacing
        affine[:3, 3] = self.centre - affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
        return Grid((i, j, k), affine)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel edge lengths along i, j, k in mm, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the grid in RAS mm, shape (3,)."""
        return self.to_ras((np.array(self.shape) - 1) / 2)

    def to_ras(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Voxel indices (..., 3), fractional ones too, to RAS mm (..., 3)."""
        return np.asarray(indices, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """RAS mm (..., 3) to fractional voxel indices (..., 3)."""
        return (np.asarray(points, dtype=float) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def matches(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """Whether every voxel of both grids lies within `tolerance` mm of its like in the other."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1).T
        return bool(np.abs(self.to_ras(corners) - other.to_ras(corners)).max() <= tolerance)

    def axes_in(self, other: Grid, tolerance: float = 1e-2) -> tuple[NDArray[np.intp], NDArray[np.int64]] | None:
        """How another grid of the same voxels counts them.

        Parameters
        ----------
        other : Grid
        tolerance : float
            mm by which a voxel may lie off its like.

        Returns
        -------
        order : ndarray of int, shape (3,)
            Which axis of the other grid each axis of this one is.
        signs : ndarray of int, shape (3,)
            -1 where it runs the other way. None where the two have not the same voxels.
        """
        matrix = np.linalg.inv(self.affine) @ other.affine
        turned = np.rint(matrix[:3, :3])
        if not ((np.abs(turned).sum(axis=0) == 1).all() and (np.abs(turned).sum(axis=1) == 1).all()):
            return None
        order = np.abs(turned).argmax(axis=1)
        signs = turned[np.arange(3), order].astype(int)
        shape = np.array(other.shape)[order]
        if tuple(shape) != self.shape:
            return None
        exact = np.eye(4)
        exact[:3, :3], exact[:3, 3] = turned, np.where(signs < 0, shape - 1, 0)
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in other.shape], [1], indexing="ij")).reshape(4, -1)
        apart = self.affine[:3, :3] @ ((matrix - exact) @ corners)[:3]
        return None if np.abs(apart).max() > tolerance else (order, signs)

    def shares_lattice(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """Whether every voxel lies within `tolerance` mm of a voxel of the other grid, were both without end."""
        start = np.rint(other.to_index(self.affine[:3, 3]))
        return self.matches(other.cropped(start, start + self.shape), tolerance)

    def moved(self, matrix: ArrayLike) -> Grid:
        """The grid after a map of its points by a matrix (4, 4; RAS mm)."""
        return Grid(self.shape, np.asarray(matrix, dtype=float) @ self.affine)

    def cropped(self, start: Sequence[int] | NDArray[Any], stop: Sequence[int] | NDArray[Any]) -> Grid:
        """The grid of the voxels start <= index < stop; a negative start pads."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_ras(start)
        i, j, k = (int(b) - int(a) for a, b in zip(start, stop))
        return Grid((i, j, k), affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """An array on a grid.

    Parameters
    ----------
    array : ndarray, shape grid.shape
        Values indexed [i, j, k]; any dtype.
    grid : Grid
        Where the voxels are.

    Raises
    ------
    InputError
        When the array's shape is not the grid's.
    """

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise InputError(f"An array of shape {self.array.shape} does not fit a grid of shape {self.grid.shape}.")


def ras_to_lps(points: ArrayLike) -> NDArray[np.float64]:
    """Points (..., 3) from RAS to LPS millimetres; its own inverse."""
    return np.asarray(points, dtype=float) * np.array([-1.0, -1.0, 1.0])


def image_from_volume(volume: Volume) -> sitk.Image:
    """A SimpleITK image of the volume's voxels, in place in LPS.

    Boolean arrays become uint8. Raises `InputError` where the grid is sheared,
    which SimpleITK cannot hold.
    """
    import SimpleITK as sitk

    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    place_image(image, volume.grid)
    return image


def place_image(image: sitk.Image, grid: Grid) -> None:
    """Give a SimpleITK image the origin, spacing and direction of a grid."""
    lps = LPS_FROM_RAS @ grid.affine
    direction = lps[:3, :3] / grid.spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise InputError("The grid's axes are not at right angles; resample the image to an unsheared grid first.")
    # The nearest rotation: SimpleITK wants an orthonormal direction to rounding.
    left, _, right = np.linalg.svd(direction)
    rotation = left @ right
    # ITK inverts it by a decomposition that gives up, and yields zeros, on numbers too small to be normal.
    rotation[np.abs(rotation) < 1e-30] = 0
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(grid.spacing.tolist())
    image.SetDirection(rotation.ravel().tolist())


def grid_from_image(image: sitk.Image) -> Grid:
    """The grid of a three-dimensional SimpleITK image."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    i, j, k = image.GetSize()
    return Grid((i, j, k), LPS_FROM_RAS @ lps)


def volume_from_image(image: sitk.Image) -> Volume:
    """A SimpleITK image as a volume; the array is a C-contiguous copy, [i, j, k]."""
    import SimpleITK as sitk

    # A true copy: a view of the image's memory would outlive the image.
    array = np.array(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0), order="C")
    return Volume(array, grid_from_image(image))


def read_volume(path: str | os.PathLike) -> Volume:
    """Read an image file that this software wrote or brings along; a user's files are read by `inputs`.

    Raises
    ------
    InputError
        When the file is missing or damaged, or holds several volumes, a slice, or several values a voxel.
    """
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(itk_name(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as an image: it is missing or damaged.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path} has {' x '.join(map(str, image.GetSize()))} voxels, numbers in each: "
            f"{image.GetNumberOfComponentsPerPixel()}; a volume has three sizes and one number a voxel, so save the "
            "one that is meant in its place."
        )
    return volume_from_image(image)


def resample(
    volume: Volume,
    target: Grid,
    transform: sitk.Transform | None = None,
    *,
    interpolation: str = "linear",
    outside: float = 0.0,
) -> Volume:
    """Values of a volume at the voxels of another grid.

    Parameters
    ----------
    volume : Volume
        The source; boolean arrays are refused (see `resample_mask`).
    target : Grid
        Where values are wanted.
    transform : SimpleITK.Transform, optional
        Maps points of the target to points of the source, in LPS mm, as SimpleITK
        does. Identity by default.
    interpolation : {"linear", "nearest"}
    outside : float
        Value beyond the source.

    Returns
    -------
    Volume
        float32 for linear interpolation, the source's dtype for nearest.
    """
    import SimpleITK as sitk

    interpolators = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
    if volume.array.dtype == bool:
        raise TypeError("masks are resampled by resample_mask")
    image = image_from_volume(volume)
    if interpolation == "linear":
        image = sitk.Cast(image, sitk.sitkFloat32)
    reference = _reference_image(target)
    transform = sitk.Transform() if transform is None else transform
    moved = sitk.Resample(image, reference, transform, interpolators[interpolation], float(outside))
    return Volume(volume_from_image(moved).array, target)


def resample_mask(mask: Volume, target: Grid, transform: sitk.Transform | None = None) -> Volume:
    """A mask on another grid, by the share of each target voxel that it fills.

    The indicator is interpolated linearly on a lattice about as fine as the source
    and averaged over each target voxel; a voxel belongs to the mask where the share
    exceeds one half. A mask too small or thin for that keeps its volume instead (its
    fullest voxels, at least one), so that a small core survives a coarse grid.

    Parameters
    ----------
    mask : Volume
        Boolean array.
    target : Grid
    transform : SimpleITK.Transform, optional
        Maps points of the target to points of the source, in LPS mm.

    Returns
    -------
    Volume
        Boolean array on `target`; empty where the source is empty, lies outside the
        target, or is finer than a quarter of the target's voxels and as small.
    """
    share = mask_share(mask, target, transform)
    filled = share > 0.5
    expected = share.sum(dtype=np.float64)
    if expected > 0 and filled.sum() < 0.5 * expected:
        count = max(1, round(expected))
        # Fullest voxels first; ties by index, so that the result is deterministic.
        order = np.argsort(-share, axis=None, kind="stable")[:count]
        filled = np.zeros(share.shape, dtype=bool)
        filled.ravel()[order[share.ravel()[order] > 0]] = True
    return Volume(filled, target)


def mask_share(mask: Volume, target: Grid, transform: sitk.Transform | None = None) -> NDArray[np.float32]:
    """Share of each target voxel that a mask fills, float32 in [0, 1], shape target.shape."""
    if mask.array.dtype != bool:
        raise TypeError("a mask is a boolean array")
    # A transform may rotate the axes, so the finest source spacing decides for all three.
    factors = np.clip(np.ceil(target.spacing / mask.grid.spacing.min() - 1e-6), 1, 4).astype(int)
    steps = 1.0 / factors
    affine = target.affine.copy()
    affine[:3, :3] = target.affine[:3, :3] * steps
    affine[:3, 3] = target.to_ras((steps - 1) / 2)
    i, j, k = (int(n * f) for n, f in zip(target.shape, factors))
    fine = resample(Volume(mask.array.astype(np.float32), mask.grid), Grid((i, j, k), affine), transform).array
    blocks = fine.reshape(target.shape[0], factors[0], target.shape[1], factors[1], target.shape[2], factors[2])
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _reference_image(grid: Grid) -> sitk.Image:
    """An image whose geometry is the grid's, for SimpleITK calls that want one."""
    import SimpleITK as sitk

    image = sitk.Image(list(grid.shape), sitk.sitkUInt8)
    place_image(image, grid)
    return image
