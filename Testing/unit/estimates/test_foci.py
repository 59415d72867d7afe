"""Where a tumour is cut in two."""

import numpy as np
import pytest

from TumorQueryLib.estimates.foci import combined_density, halves
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks

GRID = Grid.isotropic(40, 2.0, (0, 0, 0))  # 0.008 ml a voxel


def boxes(*slices):
    core = np.zeros(GRID.shape, bool)
    for box in slices:
        core[box] = True
    whole = core.copy()
    whole[5:35, 10:30, 10:30] = True
    return TumorMasks(core, whole, GRID)


LARGE, SMALL = np.s_[6:14, 16:24, 16:24], np.s_[28:32, 18:22, 18:22]  # 4.1 and 0.5 ml
TINY = np.s_[20:21, 12:13, 12:13]


def test_every_voxel_goes_to_the_nearer_component():
    target = boxes(LARGE, SMALL, TINY)
    first, second = halves(target, 0.0)
    assert first.core[LARGE].all()
    assert second.core[SMALL].all()
    assert not (first.whole & second.whole).any()
    assert np.array_equal(first.whole | second.whole, target.whole)
    assert np.array_equal(first.core | second.core, target.core)
    # Halfway between the boxes' faces, at 13 and 28 along i, lies the cut.
    assert first.whole[20, 20, 20]
    assert second.whole[21, 20, 20]


@pytest.mark.parametrize(("smallest_ml", "cut"), [(0.0, True), (0.5, True), (0.6, False)])
def test_both_components_have_the_least_volume(smallest_ml, cut):
    assert (halves(boxes(LARGE, SMALL), smallest_ml) is not None) == cut


def test_one_component_or_none_is_not_cut():
    assert halves(boxes(LARGE), 0.0) is None
    assert halves(boxes(), 0.0) is None


def test_tumours_that_grow_apart_share_the_free_place():
    a, b = np.float32([[0.5, 0.0, 1.0]]), np.float32([[0.5, 0.3, 0.2]])
    assert np.allclose(combined_density([a, b]), [[0.75, 0.3, 1.0]])
