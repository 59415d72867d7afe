"""The atlas's tissue carried into a patient by the registration: the patient's own anatomy, as far as it is known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import TISSUE_THRESHOLD, Tissue
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import SpaceMap, map_points

SPACING = 1.5  # mm; of the grid in the patient's space, as the atlas's
PADDING = 6.0  # mm of that grid around the tissue
NEIGHBOURHOOD = 3.0  # mm; sigma in which the neighbours say whether a tumour voxel is grey matter


def carried_anatomy(atlas: Atlas, space: SpaceMap, core: Volume, whole: Volume) -> tuple[Anatomy, TumorMasks]:
    """The atlas's anatomy in the patient's space, where the patient's tumour is tissue.

    Parameters
    ----------
    atlas : Atlas
    space : SpaceMap
        Between the patient and that atlas.
    core, whole : Volume
        The patient's regions, boolean, each on any grid.

    Returns
    -------
    anatomy : Anatomy
        On a grid of 1.5 mm along RAS around the patient's brain. A voxel of the tumour that the carried maps call
        CSF or background is white matter, or grey matter where its tissue neighbours mostly are.
    masks : TumorMasks
        The patient's regions on that grid.
    """
    grid = _grid_around_brain(atlas, space)
    white, grey, csf = (
        space.in_patient(Volume(tissue_map, atlas.grid), grid).array
        for tissue_map in (atlas.white_matter, atlas.grey_matter, atlas.csf)
    )
    seen = TumorMasks.on_grid(core, whole, grid)
    known = white + grey >= TISSUE_THRESHOLD
    missing = seen.whole & ~known
    sigma = NEIGHBOURHOOD / SPACING
    near_white, near_grey = (ndimage.gaussian_filter(np.where(known, m, 0), sigma) for m in (white, grey))
    is_grey = missing & (near_grey > near_white)
    white = np.where(missing, ~is_grey, white).astype(np.float32)
    grey = np.where(missing, is_grey, grey).astype(np.float32)
    csf = np.where(missing, 0, csf).astype(np.float32)
    tissue = Tissue.from_maps(white, grey, csf, grid)
    anatomy = Anatomy("patient", tissue, tissue_voxels_added=int(missing.sum()))
    return anatomy, seen


def _grid_around_brain(atlas: Atlas, space: SpaceMap) -> Grid:
    """A grid of 1.5 mm along RAS around the atlas's tissue in the patient's space."""
    cells = np.argwhere(atlas.white_matter + atlas.grey_matter >= TISSUE_THRESHOLD)[::50]
    return Grid.around(map_points(space.atlas_to_patient, atlas.grid.to_ras(cells)), SPACING, PADDING)
