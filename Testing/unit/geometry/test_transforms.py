"""Maps between spaces against ones that are known in closed form, on headers of every kind."""

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.transforms import (
    SpaceMap,
    displacement_transform,
    identity_transform,
    jacobian_determinant,
    map_points,
)

#: A linear map in RAS that tells every axis from every other, and its shift.
MATRIX = np.array([[1.2, 0.1, -0.05], [0.02, 0.8, 0.15], [-0.1, 0.05, 1.1]])
SHIFT = np.array([3.0, -2.0, 5.0])


def linear_transform(matrix, shift=(0.0, 0.0, 0.0)):
    """SimpleITK's form of x -> matrix x + shift in RAS mm."""
    flip = np.diag([-1.0, -1.0, 1.0])
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((flip @ matrix @ flip).ravel().tolist())
    transform.SetTranslation((flip @ np.asarray(shift)).tolist())
    return transform


def linear_map(matrix, shift=(0.0, 0.0, 0.0)):
    """The space map whose patient_to_atlas is x -> matrix x + shift."""
    forward = linear_transform(matrix, shift)
    return SpaceMap(patient_to_atlas=forward, atlas_to_patient=forward.GetInverse())


def ball(grid, centre, radius):
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume(np.linalg.norm(points - np.asarray(centre), axis=-1) < radius, grid)


def centre_of(mask):
    return mask.grid.to_ras(np.argwhere(mask.array)).mean(axis=0)


def test_points_go_through_a_transform_in_ras():
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, -6.0]])
    assert np.allclose(map_points(linear_transform(MATRIX, SHIFT), points), points @ MATRIX.T + SHIFT)
    assert np.allclose(map_points(identity_transform(), points), points)
    assert map_points(identity_transform(), np.zeros((0, 3))).shape == (0, 3)


def test_jacobian_of_a_linear_map_is_its_determinant(awkward_affine):
    grid = centred_grid((5, 6, 7), awkward_affine, (10.0, -20.0, 30.0))
    found = jacobian_determinant(linear_transform(MATRIX, SHIFT), grid)
    assert found.shape == grid.shape
    assert np.allclose(found, np.linalg.det(MATRIX), rtol=1e-6)


def test_jacobian_varies_over_the_grid_as_the_map_does(awkward_affine):
    """A displacement along R that grows with R squared: the determinant is 1 + 2 c R."""
    grid = centred_grid((9, 8, 7), awkward_affine)
    fine = Grid.isotropic(61, 1.0, (0.0, 0.0, 0.0))
    right = fine.to_ras(np.moveaxis(np.indices(fine.shape), 0, -1))[..., 0]
    field = np.zeros((3, *fine.shape), np.float32)
    field[0] = 0.01 * right**2
    found = jacobian_determinant(displacement_transform(field, fine), grid)
    expected = 1 + 0.02 * grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))[..., 0]
    inner = (slice(1, -1),) * 3
    assert np.abs(found - expected)[inner].max() < 0.02


def test_a_displacement_field_moves_voxels_along_its_grids_axes(awkward_affine):
    grid = centred_grid((9, 10, 11), awkward_affine, (5.0, 6.0, 7.0))
    rng = np.random.default_rng(0)
    displacement = ndimage.gaussian_filter(rng.normal(size=(3, *grid.shape)), (0, 2, 2, 2)).astype(np.float32)
    index = np.array([[3, 4, 5], [6, 2, 8]])
    moved = map_points(displacement_transform(displacement, grid), grid.to_ras(index))
    shifts = np.array([displacement[(slice(None), *x)] for x in index])
    assert np.abs(shifts).max() > 0.05
    assert np.allclose(moved, grid.to_ras(index + shifts), atol=1e-5)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_length_scale_is_patient_millimetres_for_one_of_the_atlas(awkward_affine, factor):
    """Where the atlas is `factor` times as large as the patient, a millimetre of it is 1 / factor in the patient."""
    tumour = ball(centred_grid((30, 30, 30), awkward_affine), (1.0, 2.0, 3.0), 7.0)
    assert linear_map(factor * np.eye(3), SHIFT).length_scale(tumour) == pytest.approx(1 / factor, rel=1e-4)


def test_length_scale_is_the_mean_over_the_tumour_only():
    """With a determinant of 1 + 0.02 R, a tumour to the right of the middle sees a larger one than one to the left."""
    fine = Grid.isotropic(81, 1.0, (0.0, 0.0, 0.0))
    right = fine.to_ras(np.moveaxis(np.indices(fine.shape), 0, -1))[..., 0]
    field = np.zeros((3, *fine.shape), np.float32)
    field[0] = 0.01 * right**2
    space = SpaceMap(displacement_transform(field, fine), identity_transform())
    for place in (-20.0, 0.0, 20.0):
        tumour = ball(fine, (place, 0.0, 0.0), 5.0)
        # A voxel far off widens the box around the tumour, and weighs nothing.
        tumour.array[10 if place > 0 else 70, 40, 40] = True
        inside = fine.to_ras(np.argwhere(tumour.array))[:, 0]
        expected = np.mean((1 + 0.02 * inside) ** (-1 / 3))
        assert space.length_scale(tumour) == pytest.approx(expected, rel=0.01)


def test_length_scale_of_one_voxel_and_of_none():
    grid = centred_grid((8, 8, 4), AWKWARD_AFFINES["las-anisotropic"])
    mask = np.zeros(grid.shape, dtype=bool)
    with pytest.raises(InputError, match="empty"):
        linear_map(MATRIX).length_scale(Volume(mask, grid))
    mask[3, 4, 2] = True
    scale = linear_map(MATRIX).length_scale(Volume(mask, grid))
    assert scale == pytest.approx(np.linalg.det(MATRIX) ** (-1 / 3), rel=1e-4)


def test_points_masks_and_volumes_go_the_ways_that_the_names_say():
    space = linear_map(MATRIX, SHIFT)
    patient = centred_grid((44, 44, 44), AWKWARD_AFFINES["lps"])
    atlas = Grid.isotropic(60, 1.0, SHIFT)
    core, whole = ball(patient, (2.0, 3.0, -4.0), 5.0), ball(patient, (2.0, 3.0, -4.0), 9.0)
    masks = space.masks_in_atlas(core, whole, atlas)
    place = MATRIX @ [2.0, 3.0, -4.0] + SHIFT
    for found, source in ((masks.core, core), (masks.whole, whole)):
        assert np.linalg.norm(centre_of(Volume(found, atlas)) - place) < 0.2
        expected = np.count_nonzero(source.array) * np.linalg.det(MATRIX)
        assert np.count_nonzero(found) == pytest.approx(expected, rel=0.05)
    assert np.allclose(space.point_in_patient(place), [2.0, 3.0, -4.0])
    back = space.in_patient(Volume(masks.whole.astype(np.float32), atlas), patient)
    assert back.grid == patient
    assert np.linalg.norm(centre_of(Volume(back.array > 0.5, patient)) - [2.0, 3.0, -4.0]) < 0.3


def test_a_core_outside_the_whole_belongs_to_it_on_the_atlas():
    grid = Grid.isotropic(24, 1.0, (0.0, 0.0, 0.0))
    core, whole = ball(grid, (-4.0, 0.0, 0.0), 4.0), ball(grid, (4.0, 0.0, 0.0), 4.0)
    masks = linear_map(np.eye(3)).masks_in_atlas(core, whole, grid)
    assert np.array_equal(masks.core, core.array)
    assert np.array_equal(masks.whole, core.array | whole.array)
