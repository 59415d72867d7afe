"""An anatomy's tissue as it lies in the patient."""

import numpy as np
import SimpleITK as sitk

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.transforms import SpaceMap

GRID = Grid((12, 10, 8), np.diag([2.0, 2.0, 2.0, 1.0]))


def thirds():
    """White matter, grey matter and CSF along the first axis, four voxels each; a little of all is everywhere."""
    first = np.broadcast_to(np.arange(12)[:, None, None] // 4, GRID.shape)
    white, grey, csf = (np.where(first == n, 0.8, 0.1).astype(np.float32) for n in range(3))
    return TissueMaps(white, grey, csf, GRID)


def test_each_voxel_of_the_brain_is_what_it_holds_most_of():
    maps, brain = thirds(), np.zeros(GRID.shape, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    found = Anatomy("patient", maps.tissue(), maps=maps).tissue_in_patient(Volume(brain, GRID))
    expected = np.repeat(np.uint8([3, 2, 1]), 4)[:, None, None] * brain
    np.testing.assert_array_equal(found.array, expected)


def test_the_atlas_s_tissue_is_found_where_the_transform_puts_it():
    maps, brain = thirds(), Volume(np.ones(GRID.shape, bool), GRID)
    # Points of the patient lie 8 mm to the right of their like in the atlas (LPS: -8): one third of the grid.
    space = SpaceMap(sitk.TranslationTransform(3, (8.0, 0.0, 0.0)), sitk.TranslationTransform(3, (-8.0, 0.0, 0.0)))
    found = Anatomy("atlas", maps.tissue(), space, maps=maps).tissue_in_patient(brain).array
    assert (found[4:8] == 3).all()
    assert (found[8:] == 2).all()
    # What no map reaches is CSF.
    assert (found[:4] == 1).all()
