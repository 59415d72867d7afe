"""Given tissue maps on the model's grid: the same tissue whatever grid they come on, and in the order that is meant."""

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid
from layered_brain import GRID, OFF, ball, painted
from scipy import ndimage

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.given import given_tissue
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import dice

TUMOUR = ball(GRID, 9.0)


@pytest.fixture(scope="module")
def carried():
    return TissueMaps(*painted(GRID, OFF), GRID)


@pytest.fixture(scope="module")
def true_tissue(carried):
    return given_tissue(TissueMaps(*painted(GRID), GRID), carried, TUMOUR).maps


def on(axes):
    """The painted brain on a grid of 1 mm, or of what the header says where that is coarser."""
    affine = AWKWARD_AFFINES[axes]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid = centred_grid(np.ceil(116 / spacing).astype(int), affine, GRID.centre)
    return TissueMaps(*painted(grid), grid)


def in_turn(maps, grid):
    """The slow twin of `TissueMaps.on_grid`: each point of the target by the eight voxels around it."""
    fine = maps.grid.spacing
    sigma = [0.42 * max(grid.spacing.min() ** 2 - s**2, 0) ** 0.5 / s for s in fine]
    index = np.moveaxis(maps.grid.to_index(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))), -1, 0)
    found = []
    for array in (maps.white_matter, maps.grey_matter, maps.csf):
        for axis in range(3):
            array = ndimage.gaussian_filter1d(array, sigma[axis], axis=axis, mode="constant") if sigma[axis] else array
        found.append(ndimage.map_coordinates(array, index, order=1, mode="constant"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["lps", "sagittal", "oblique", "oblique-flipped"])
def test_the_tissue_is_the_same_whatever_grid_the_maps_come_on(carried, true_tissue, axes):
    maps = on(axes)
    given = given_tissue(maps, carried, TUMOUR)
    assert np.allclose(given.maps.grid.spacing, 1.5)
    assert np.allclose(given.maps.grid.affine[:3, :3], 1.5 * np.eye(3))
    moved, twin = given.maps, in_turn(maps, given.maps.grid)
    for array, slow in zip((moved.white_matter, moved.grey_matter, moved.csf), twin):
        np.testing.assert_allclose(array, slow, atol=2e-4)
    there = true_tissue.on_grid(moved.grid)
    for one, other in ((moved.white_matter, there.white_matter), (moved.grey_matter, there.grey_matter)):
        assert dice(one > 0.5, other > 0.5) > (0.97 if min(maps.grid.spacing) == max(maps.grid.spacing) else 0.92)
    assert given.volumes_ml == pytest.approx([m.sum() * GRID.voxel_volume_ml for m in painted(GRID)], rel=0.02)


def test_the_tumour_lies_on_the_grid_although_the_maps_end_before_it(carried):
    """As of a segmentation that leaves the tumour and what lies beyond it out."""
    white, grey, csf = (m * (np.indices(GRID.shape)[0] > 30) for m in painted(GRID))
    given = given_tissue(TissueMaps(white, grey, csf, GRID), carried, TUMOUR)
    anatomy, masks = Anatomy.of_patient(given.maps, ball(GRID, 4.0), TUMOUR, origin=given, warnings=given.warnings)
    assert masks.whole.sum() * masks.grid.voxel_volume_ml == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.03)
    assert anatomy.tissue.mask[masks.whole].all()
    assert anatomy.tissue_voxels_added > 0.9 * masks.whole.sum()
    assert "of the segmented tumour is CSF or nothing in the given tissue maps" in anatomy.warnings[0]


def test_what_was_given_stands_in_the_result(carried):
    given = given_tissue(TissueMaps(*painted(GRID), GRID), carried, TUMOUR)
    content = given.as_json()
    assert content["source"] == "given"
    assert set(content["volumes_ml"]) == set(content["overlap_with_atlas"]) == {"white_matter", "grey_matter", "csf"}
    same = given_tissue(carried, carried, TUMOUR).overlap
    assert same == pytest.approx((1, 1, 1))
    assert max(given.overlap) < 0.97
    assert given.warnings == ()


@pytest.mark.parametrize(
    ("order", "said"),
    [((1, 0, 2), "grey matter, white matter, CSF"), ((2, 1, 0), "CSF, grey matter, white matter"), ((1, 2, 0), "grey")],
)
def test_maps_in_another_order_are_refused_by_what_they_look_like(carried, order, said):
    maps = painted(GRID)
    with pytest.raises(InputError, match=f"The three tissue maps look like {said}"):
        given_tissue(TissueMaps(*(maps[n] for n in order), GRID), carried, TUMOUR)


def test_maps_that_lie_elsewhere_are_told_by_their_overlap(carried):
    away = GRID.affine.copy()
    away[:3, 3] += (45.0, 30.0, 0.0)
    said, *_ = given_tissue(TissueMaps(*painted(GRID), Grid(GRID.shape, away)), carried, TUMOUR).warnings
    assert said.startswith("The given tissue maps agree poorly with the atlas's laid over them (white matter 0.")


def test_a_map_with_one_bright_voxel_keeps_its_mass_on_a_coarser_grid():
    """Between the points of the coarser grid lie three of four voxels of the finer one."""
    grid = Grid.isotropic(60, 0.5, (0.0, 0.0, 0.0))
    white = np.zeros(grid.shape, np.float32)
    white[31, 28, 30] = 1
    maps = TissueMaps(white, white * 0, white * 0, grid)
    coarse = maps.on_grid(Grid.isotropic(18, 1.5, (0.0, 0.0, 0.0)))
    mass = coarse.white_matter.sum() * 1.5**3
    assert mass == pytest.approx(0.5**3, rel=0.25)
