"""The place a tumour grows in: a tissue, and how it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.given import GivenTissue
from TumorQueryLib.anatomy.own import OwnTissue
from TumorQueryLib.anatomy.tissue import TISSUE_THRESHOLD, Tissue
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.geometry.grid import Grid, Volume, resample
from TumorQueryLib.geometry.regions import TumorMasks, bounding_box, slices_between
from TumorQueryLib.geometry.transforms import SpaceMap

#: Labels of a map of tissues.
OUTSIDE, CSF, GREY_MATTER, WHITE_MATTER = 0, 1, 2, 3

#: mm; steps in which a grid in the patient's space is searched for a part of an anatomy.
COARSE = 5.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where a tumour grows, and how that place lies in the patient.

    Parameters
    ----------
    name : {"atlas", "patient"}
        Whose anatomy it is.
    tissue : Tissue
        On this anatomy's grid.
    space : SpaceMap, optional
        The way to the patient; None where points of this anatomy are the patient's own.
    length_scale : float
        Millimetres in the patient for one here, averaged over the tumour.
    tissue_voxels_added : int
        Voxels of the tumour that the maps call CSF or background, made tissue.
    maps : TissueMaps, optional
        What `tissue` was made of.
    origin : OwnTissue or GivenTissue, optional
        How the tissue was found in the patient's own image, or that it was given; None where it is the atlas's.
    warnings : tuple of str
        What the user should know about the tissue.
    """

    name: str
    tissue: Tissue
    space: SpaceMap | None = None
    length_scale: float = 1.0
    tissue_voxels_added: int = 0
    maps: TissueMaps | None = None
    origin: OwnTissue | GivenTissue | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_atlas(cls, atlas: Atlas, space: SpaceMap, tumour: Volume) -> Anatomy:
        """The atlas as the place of a patient's tumour.

        Parameters
        ----------
        atlas : Atlas
        space : SpaceMap
        tumour : Volume
            Boolean mask in the patient's space; over it the length scale is averaged.
        """
        maps = TissueMaps.of_atlas(atlas)
        return cls("atlas", maps.tissue(), space, space.length_scale(tumour), maps=maps)

    @classmethod
    def of_patient(
        cls,
        maps: TissueMaps,
        core: Volume,
        whole: Volume,
        *,
        origin: OwnTissue | GivenTissue | None = None,
        warnings: tuple[str, ...] = (),
    ) -> tuple[Anatomy, TumorMasks]:
        """The patient's own anatomy by tissue maps in the patient's space; the patient's tumour is tissue.

        Parameters
        ----------
        maps : TissueMaps
            Carried there from an atlas, found in the patient's image, or given.
        core, whole : Volume
            The patient's regions, boolean, each on any grid.
        origin : OwnTissue or GivenTissue, optional
        warnings : tuple of str
            See the class.

        Returns
        -------
        anatomy : Anatomy
            On the maps' grid. A voxel of the tumour that the maps call CSF or background is white matter, or grey
            matter where its tissue neighbours mostly are.
        masks : TumorMasks
            The patient's regions on that grid.
        """
        seen = TumorMasks.on_grid(core, whole, maps.grid)
        complete, missing = maps.with_tissue_in(seen.whole)
        added = int(missing.sum())
        tissue = complete.tissue()
        anatomy = cls("patient", tissue, tissue_voxels_added=added, maps=complete, origin=origin, warnings=warnings)
        return anatomy, seen

    @property
    def grid(self) -> Grid:
        """The grid on which tumours grow here."""
        return self.tissue.grid

    def in_patient(self, density: Volume, grid: Grid) -> Volume:
        """A density of this anatomy at the voxels of a grid in the patient's space, float32, 0 beyond it."""
        return resample(density, grid) if self.space is None else self.space.in_patient(density, grid)

    def tissue_in_patient(self, brain: Volume) -> Volume:
        """Which tissue each voxel of a patient's brain holds most of by the maps that the tumour grew in.

        Parameters
        ----------
        brain : Volume
            Boolean, in the patient's space.

        Returns
        -------
        Volume
            uint8 on the brain's grid: 0 outside the brain, 1 CSF, 2 grey matter, 3 white matter. A voxel is tissue
            where white and grey matter together reach half of it, as for the model; what no map reaches is CSF.

        Raises
        ------
        ValueError
            When the anatomy was made without maps.
        """
        if self.maps is None:
            raise ValueError("this anatomy was made without maps")
        labels = np.zeros(brain.grid.shape, np.uint8)
        if not brain.array.any():
            return Volume(labels, brain.grid)
        start, stop = bounding_box(brain.array)
        box, grid = slices_between(start, stop), brain.grid.cropped(start, stop)
        white, grey = (
            self.in_patient(Volume(one, self.maps.grid), grid).array
            for one in (self.maps.white_matter, self.maps.grey_matter)
        )
        found = np.where(white + grey >= TISSUE_THRESHOLD, np.where(white > grey, WHITE_MATTER, GREY_MATTER), CSF)
        labels[box] = np.where(brain.array[box], found, OUTSIDE)
        return Volume(labels, brain.grid)

    def box_in_patient(self, cells: NDArray[np.bool_], grid: Grid) -> tuple[slice, slice, slice]:
        """A box of a grid in the patient's space beyond which cells of this anatomy's grid have no part in any value.

        Parameters
        ----------
        cells : ndarray of bool, shape of this anatomy's grid
        grid : Grid
            A T1Gd image's, of which the tumour's surroundings are a small part: what is mapped into the box alone
            costs that part of the memory.

        Returns
        -------
        tuple of slice
            Along i, j, k; empty where no cell lies in the grid.
        """
        if not cells.any():
            return slice(0, 0), slice(0, 0), slice(0, 0)
        # The solid box around the cells, so that the coarse steps cannot miss a thin part.
        start, stop = bounding_box(cells)
        solid = np.zeros(self.grid.shape, np.float32)
        # Interpolation reaches one cell farther.
        solid[slices_between(np.maximum(start - 1, 0), stop + 1)] = 1
        steps = np.maximum(1, COARSE // grid.spacing).astype(int)
        affine = grid.affine.copy()
        affine[:3, :3] *= steps
        # One more than the grid has: what only its last voxels see lies before that.
        i, j, k = (int(n) for n in -(-np.array(grid.shape) // steps) + 1)
        seen = self.in_patient(Volume(solid, self.grid), Grid((i, j, k), affine)).array > 0
        if not seen.any():
            return slice(0, 0), slice(0, 0), slice(0, 0)
        start, stop = bounding_box(seen)
        # What lies between two steps belongs to it, and an edge or a corner may pass between the steps for one more.
        low, high = np.maximum(0, (start - 2) * steps), np.minimum(grid.shape, (stop + 1) * steps + 1)
        first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high))
        return first, second, third

    def point_in_patient(self, point: ArrayLike) -> NDArray[np.float64]:
        """A point of this anatomy in the patient, both RAS mm, shape (3,)."""
        return np.array(point, dtype=float) if self.space is None else self.space.point_in_patient(point)
