"""Where a tumour can grow, and how fast its cells move there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import bounding_box

#: A cell is tissue where white and grey matter together reach this share of it.
TISSUE_THRESHOLD = 0.5
#: Diffusivity of grey matter as a share of white matter's (paper, section 2; peers use the same).
GREY_TO_WHITE = 0.1


def _description(grey_to_white: float = GREY_TO_WHITE) -> dict[str, Any]:
    return {
        "tissue": f"white + grey matter >= {TISSUE_THRESHOLD}",
        "mobility": f"white + {grey_to_white:.3g} grey matter, maps normalised where their sum exceeds 1",
        "face_mobility": "arithmetic mean of both cells, 0 unless both are tissue",
    }


@dataclass(frozen=True, eq=False)
class Tissue:
    """The anatomy as the growth model sees it.

    Parameters
    ----------
    grid : Grid
        Its axes are at right angles; spacing and orientation are free.
    mask : ndarray of bool, shape grid.shape
        Cells that a tumour can enter, [i, j, k].
    mobility : ndarray of float32, shape grid.shape
        Diffusivity as a share of white matter's: p_WM + p_GM / 10 in [0, 1], or another
        share of p_GM; 0 outside `mask`, above 0 inside.
    description : dict
        How mask and mobility were made, for the record in a database.

    Raises
    ------
    InputError
        When the arrays do not fit the grid or each other, no cell is tissue, or the
        grid is sheared.
    """

    grid: Grid
    mask: NDArray[np.bool_]
    mobility: NDArray[np.float32]
    description: dict[str, Any] = field(default_factory=_description)

    def __post_init__(self) -> None:
        for name, array in (("mask", self.mask), ("mobility", self.mobility)):
            if array.shape != self.grid.shape:
                raise InputError(f"The tissue's {name} has shape {array.shape}, its grid {self.grid.shape}.")
        if not self.mask.any():
            raise InputError(
                f"No cell of the tissue maps reaches white + grey matter {TISSUE_THRESHOLD}; "
                "the maps are probabilities in [0, 1]."
            )
        inside = self.mobility[self.mask]
        # Written so that NaN fails too.
        if not (inside.min() > 0 and inside.max() <= 1) or self.mobility[~self.mask].any():
            raise InputError("The mobility lies above 0 and at most at 1 in tissue, and is 0 elsewhere.")
        axes = self.grid.affine[:3, :3] / self.grid.spacing
        if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
            raise InputError("The growth model needs a grid with axes at right angles; resample the maps first.")

    @classmethod
    def from_atlas(cls, atlas: Atlas) -> Tissue:
        """The tissue of an atlas, on the atlas' grid."""
        return cls.from_maps(atlas.white_matter, atlas.grey_matter, atlas.csf, atlas.grid)

    @classmethod
    def from_maps(
        cls,
        white_matter: NDArray[np.floating],
        grey_matter: NDArray[np.floating],
        csf: NDArray[np.floating] | None,
        grid: Grid,
        *,
        grey_to_white: float = GREY_TO_WHITE,
    ) -> Tissue:
        """The tissue of probability maps, normalised where their sum exceeds 1.

        Parameters
        ----------
        white_matter, grey_matter : ndarray, shape grid.shape
            Probabilities in [0, 1], [i, j, k].
        csf : ndarray, shape grid.shape, optional
            Counts in the sum only.
        grid : Grid
        grey_to_white : float
            Diffusivity of grey matter as a share of white matter's, above 0 and at most 1; the model's own is 0.1.

        Raises
        ------
        InputError
            When a map's shape differs from the grid's, a value is not finite or
            negative, no cell is tissue, or `grey_to_white` is out of its range.
        """
        # Written so that NaN fails too.
        if not 0 < grey_to_white <= 1:
            raise InputError(
                "The diffusivity of grey matter is a share of white matter's above 0 and at most 1, "
                f"not {grey_to_white}."
            )
        maps = [white_matter, grey_matter] + ([] if csf is None else [csf])
        for values in maps:
            if values.shape != grid.shape:
                raise InputError(f"A tissue map of shape {values.shape} does not fit a grid of shape {grid.shape}.")
            if not np.isfinite(values).all() or values.min() < 0:
                raise InputError("A tissue map holds values that are negative or not finite; they are probabilities.")
        total = np.maximum(sum(np.asarray(values, np.float32) for values in maps), np.float32(1))
        white, grey = (np.asarray(values, np.float32) / total for values in maps[:2])
        mask = white + grey >= np.float32(TISSUE_THRESHOLD)
        mobility = np.where(mask, white + np.float32(grey_to_white) * grey, np.float32(0))
        return cls(grid, mask, np.minimum(mobility, np.float32(1)), _description(grey_to_white))

    @cached_property
    def face_mobility(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Mobility of the faces between each cell and the next along i, j, k.

        Three float32 arrays of shape grid.shape; entry [i, j, k] of the first belongs to
        the face between [i, j, k] and [i + 1, j, k], so its last layer is 0.
        """
        faces = []
        for axis in range(3):
            cells = np.moveaxis(self.mobility, axis, 0)
            face = np.zeros(self.mobility.shape, np.float32)
            both = (cells[1:] > 0) & (cells[:-1] > 0)
            np.moveaxis(face, axis, 0)[:-1] = np.where(both, np.float32(0.5) * (cells[1:] + cells[:-1]), 0)
            faces.append(face)
        return faces[0], faces[1], faces[2]

    @cached_property
    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First index and last index + 1 of the tissue along i, j, k."""
        return bounding_box(self.mask)

    @cached_property
    def _nearest(self) -> NDArray[np.int32]:
        """Index of the nearest tissue cell to each cell, shape (3, i, j, k)."""
        return ndimage.distance_transform_edt(
            ~self.mask, sampling=self.grid.spacing, return_distances=False, return_indices=True
        )

    def moved_into(self, point: ArrayLike) -> tuple[float, float, float]:
        """A point (RAS mm) where its cell is tissue, else the centre of the nearest cell that is."""
        cell = np.rint(self.grid.to_index(point)).astype(int)
        cell = np.clip(cell, 0, np.array(self.grid.shape) - 1)
        i, j, k = cell
        nearest = self._nearest[:, i, j, k]
        # A point beyond the grid has been brought to its border.
        stays = np.array_equal(nearest, cell) and self.mask[i, j, k]
        x, y, z = (float(v) for v in (np.asarray(point) if stays else self.grid.to_ras(nearest)))
        return x, y, z

    def seed_index(self, seed: tuple[float, float, float]) -> NDArray[np.float64]:
        """A seed (RAS mm) as fractional indices of the grid, shape (3,).

        Raises
        ------
        InputError
            When the seed is outside the grid or its cell is no tissue; the text names the
            nearest tissue.
        """
        index = self.grid.to_index(seed)
        cell = np.rint(index).astype(int)
        inside = bool((cell >= 0).all() and (cell < self.grid.shape).all())
        if inside and self.mask[tuple(cell)]:
            return index
        centres = self.grid.to_ras(np.argwhere(self.mask))
        nearest = centres[np.argmin(((centres - np.asarray(seed)) ** 2).sum(axis=1))]
        place, near = (", ".join(f"{v:.1f}" for v in point) for point in (seed, nearest))
        raise InputError(
            f"The seed ({place}) mm RAS lies outside the {'tissue' if inside else 'grid'}; "
            f"the nearest tissue is at ({near}), {np.linalg.norm(nearest - np.asarray(seed)):.1f} mm away."
        )
