"""White matter, grey matter and CSF on a grid: what an anatomy is made of, wherever the maps come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import GREY_TO_WHITE, TISSUE_THRESHOLD, Tissue
from TumorQueryLib.geometry.grid import Grid, Volume, resample
from TumorQueryLib.geometry.transforms import SpaceMap, map_points

SPACING = 1.5  # mm; of the grid in the patient's space, as the atlas's
PADDING = 6.0  # mm of that grid around the tissue
NEIGHBOURHOOD = 3.0  # mm; sigma in which the neighbours say whether a tumour voxel is grey matter


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """Probability maps of the three tissues on one grid.

    Parameters
    ----------
    white_matter, grey_matter, csf : ndarray of float32, shape grid.shape
        In [0, 1], [i, j, k].
    grid : Grid
        RAS mm.
    """

    white_matter: NDArray[np.float32]
    grey_matter: NDArray[np.float32]
    csf: NDArray[np.float32]
    grid: Grid

    @classmethod
    def of_atlas(cls, atlas: Atlas) -> TissueMaps:
        """The atlas's maps on its own grid."""
        return cls(atlas.white_matter, atlas.grey_matter, atlas.csf, atlas.grid)

    @classmethod
    def carried(cls, atlas: Atlas, space: SpaceMap) -> TissueMaps:
        """The atlas's maps in a patient's space, on a grid of 1.5 mm along RAS around the brain."""
        grid = _grid_around_brain(atlas, space)
        white, grey, csf = (
            space.in_patient(Volume(tissue_map, atlas.grid), grid).array
            for tissue_map in (atlas.white_matter, atlas.grey_matter, atlas.csf)
        )
        return cls(white, grey, csf, grid)

    def on_grid(self, grid: Grid) -> TissueMaps:
        """The maps on another grid along the same or other axes, 0 beyond their own.

        Finer maps are smoothed to the resolution of the target first, so that no voxel between its points is lost.
        """
        fine = self.grid.spacing
        sigma = 0.42 * np.sqrt(np.maximum(grid.spacing.min() ** 2 - fine**2, 0)) / fine
        white, grey, csf = (
            resample(Volume(ndimage.gaussian_filter(m, sigma, mode="constant"), self.grid), grid).array
            for m in (self.white_matter, self.grey_matter, self.csf)
        )
        return TissueMaps(white, grey, csf, grid)

    def tissue(self, grey_to_white: float = GREY_TO_WHITE) -> Tissue:
        """Where a tumour can grow by these maps; `grey_to_white` as in `Tissue.from_maps`."""
        return Tissue.from_maps(self.white_matter, self.grey_matter, self.csf, self.grid, grey_to_white=grey_to_white)

    def with_tissue_in(self, tumour: NDArray[np.bool_]) -> tuple[TissueMaps, NDArray[np.bool_]]:
        """The maps with a tumour's voxels made tissue, and the voxels where that changed them.

        A voxel of the tumour that the maps call CSF or background is white matter, or grey matter where its tissue
        neighbours mostly are.

        Parameters
        ----------
        tumour : ndarray of bool, shape grid.shape
        """
        white, grey = self.white_matter, self.grey_matter
        known = white + grey >= TISSUE_THRESHOLD
        missing = tumour & ~known
        sigma = NEIGHBOURHOOD / self.grid.spacing
        near_white, near_grey = (ndimage.gaussian_filter(np.where(known, m, 0), sigma) for m in (white, grey))
        is_grey = missing & (near_grey > near_white)
        white = np.where(missing, ~is_grey, white).astype(np.float32)
        grey = np.where(missing, is_grey, grey).astype(np.float32)
        csf = np.where(missing, 0, self.csf).astype(np.float32)
        return TissueMaps(white, grey, csf, self.grid), missing

    def with_white_matter_in(self, region: NDArray[np.bool_]) -> TissueMaps:
        """The maps with white matter and nothing else in a region (bool, shape grid.shape)."""
        one, zero = np.float32(1), np.float32(0)
        return TissueMaps(
            np.where(region, one, self.white_matter),
            np.where(region, zero, self.grey_matter),
            np.where(region, zero, self.csf),
            self.grid,
        )


def _grid_around_brain(atlas: Atlas, space: SpaceMap) -> Grid:
    """A grid of 1.5 mm along RAS around the atlas's tissue in the patient's space."""
    cells = np.argwhere(atlas.white_matter + atlas.grey_matter >= TISSUE_THRESHOLD)[::50]
    return Grid.around(map_points(space.atlas_to_patient, atlas.grid.to_ras(cells)), SPACING, PADDING)
