"""Grids, volumes and resampling against slow twins, on headers of every kind."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid, placed_affine
from hypothesis import example, given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import (
    Grid,
    Volume,
    grid_from_image,
    image_from_volume,
    mask_share,
    ras_to_lps,
    resample,
    resample_mask,
    volume_from_image,
)
from TumorQueryLib.geometry.transforms import rotation_matrix

shapes = st.tuples(*[st.integers(2, 9)] * 3)
spacings = st.tuples(*[st.floats(0.3, 4.0)] * 3)
affines = st.builds(
    placed_affine,
    spacing=spacings,
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    order=st.permutations([0, 1, 2]),
    centre=st.tuples(*[st.floats(-200, 200)] * 3),
)
grids = st.builds(Grid, shapes, affines)


@given(grids, st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=5))
def test_indices_go_to_ras_by_the_affine_and_back(grid, indices):
    points = grid.to_ras(indices)
    for index, point in zip(indices, points):
        assert np.allclose(point, (grid.affine @ [*index, 1])[:3], atol=1e-9)
    assert np.allclose(grid.to_index(points), indices, atol=1e-6)


@given(grids)
def test_spacing_volume_and_centre(grid):
    origin = grid.to_ras([0, 0, 0])
    for axis, step in enumerate(np.eye(3)):
        assert np.isclose(np.linalg.norm(grid.to_ras(step) - origin), grid.spacing[axis])
    assert np.isclose(grid.voxel_volume_ml, np.prod(grid.spacing) / 1000)
    corners = [grid.to_ras([0, 0, 0]), grid.to_ras(np.array(grid.shape) - 1)]
    assert np.allclose(grid.centre, np.mean(corners, axis=0))


@given(grids, st.integers(0, 2**32 - 1))
@examples(50)
def test_simpleitk_sees_every_voxel_where_the_grid_has_it(grid, seed):
    array = np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)
    image = image_from_volume(Volume(array, grid))
    index = tuple(int(n) for n in np.random.default_rng(seed).integers(0, grid.shape))
    # SimpleITK's own arithmetic: physical points are LPS, pixel access is [i, j, k].
    assert np.allclose(image.TransformIndexToPhysicalPoint(index), ras_to_lps(grid.to_ras(index)), atol=1e-6)
    assert image.GetPixel(*index) == array[index]
    back = volume_from_image(image)
    assert np.array_equal(back.array, array)
    assert back.grid.matches(grid, tolerance=1e-6)


def test_left_and_right_are_kept():
    """A voxel on the patient's right has the largest R, which is negative L in SimpleITK."""
    grid = centred_grid((5, 5, 5), AWKWARD_AFFINES["lps"])
    right = np.unravel_index(np.argmax(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))[..., 0]), grid.shape)
    assert right[0] == 0
    image = image_from_volume(Volume(np.zeros(grid.shape), grid))
    assert image.TransformIndexToPhysicalPoint(tuple(map(int, right)))[0] == pytest.approx(-2)


@given(grids, grids, st.integers(0, 2**32 - 1))
@examples(60)
def test_resampling_is_linear_interpolation_at_the_voxels_places(source, target, seed):
    array = np.random.default_rng(seed).normal(size=source.shape).astype(np.float32)
    # Both around one point, so that they overlap whatever their axes.
    target = centred_grid(target.shape, target.affine, source.centre)
    found = resample(Volume(array, source), target).array
    index = source.to_index(target.to_ras(np.moveaxis(np.indices(target.shape), 0, -1)))
    edge = np.array(source.shape) - 0.5
    inside = ((index > -0.5) & (index < edge)).all(axis=-1)
    slow = ndimage.map_coordinates(array, np.moveaxis(index, -1, 0), order=1, mode="nearest") * inside
    # On the very edge rounding decides whether a point is inside.
    clear = (np.minimum(np.abs(index + 0.5), np.abs(index - edge)) > 1e-4).all(axis=-1)
    assert np.allclose(found[clear], slow[clear], atol=1e-4)


def test_a_transform_maps_points_of_the_target_to_points_of_the_source(awkward_affine):
    source = centred_grid((20, 20, 20), awkward_affine)
    target = centred_grid((44, 40, 20), AWKWARD_AFFINES["oblique"])
    landmark = source.to_ras([11, 9, 12])
    distance = np.linalg.norm(source.to_ras(np.moveaxis(np.indices(source.shape), 0, -1)) - landmark, axis=-1)
    ball = Volume(np.exp(-(distance**2) / 8).astype(np.float32), source)
    transform = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.2, -0.1, 0.3, (4.0, -3.0, 2.0))
    expected = ras_to_lps(transform.GetInverse().TransformPoint(ras_to_lps(landmark).tolist()))
    moved = resample(ball, target, transform)
    points = target.to_ras(np.moveaxis(np.indices(target.shape), 0, -1))
    centre = (points * moved.array[..., None]).sum(axis=(0, 1, 2)) / moved.array.sum()
    assert np.linalg.norm(centre - expected) < 0.3


def test_nearest_keeps_values_and_type(awkward_affine):
    grid = centred_grid((6, 7, 8), awkward_affine)
    labels = np.arange(6 * 7 * 8, dtype=np.int16).reshape(grid.shape)
    found = resample(Volume(labels, grid), grid, interpolation="nearest")
    assert found.array.dtype == np.int16
    assert np.array_equal(found.array, labels)


#: Turned by so little that its direction cosines (2e-313) are no normal numbers.
HARDLY_TURNED = Grid((2, 3, 4), placed_affine(angles=(1e-311, 45.0, 0.0), order=(2, 0, 1)))


@given(grids)
@example(HARDLY_TURNED)
@examples(40)
def test_a_mask_on_its_own_grid_stays_as_it_is(grid):
    mask = np.random.default_rng(sum(grid.shape)).random(grid.shape) < 0.3
    assert np.array_equal(resample_mask(Volume(mask, grid), grid).array, mask)


@pytest.mark.parametrize("target_spacing", [1.5, 3.0])
def test_share_of_a_ball_against_counting_points(awkward_affine, target_spacing):
    source = centred_grid((36, 36, 36), awkward_affine)
    target = Grid.isotropic(int(30 / target_spacing), target_spacing, (0.7, -0.4, 0.2))
    centre, radius = np.array([1.0, 2.0, -1.0]), 7.0

    def in_ball(points):
        return np.linalg.norm(points - centre, axis=-1) < radius

    mask = Volume(in_ball(source.to_ras(np.moveaxis(np.indices(source.shape), 0, -1))), source)
    # The slow twin: the source's voxels are boxes; 4^3 points in each target voxel are looked up in them.
    offsets = np.stack(np.meshgrid(*[(np.arange(4) - 1.5) / 4] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.moveaxis(np.indices(target.shape), 0, -1)[..., None, :] + offsets
    lookup = np.rint(source.to_index(target.to_ras(index))).astype(int)
    inside = ((lookup >= 0) & (lookup < source.shape)).all(axis=-1)
    values = mask.array[tuple(np.moveaxis(np.where(inside[..., None], lookup, 0), -1, 0))] & inside
    slow = values.mean(axis=-1)
    share = mask_share(mask, target)
    voxel = target.voxel_volume_ml
    assert share.sum() * voxel == pytest.approx(slow.sum() * voxel, rel=0.03)
    assert np.abs(share - slow).mean() < 0.03
    moved = resample_mask(mask, target)
    # A convex body loses a little where its surface curves within a voxel.
    assert moved.array.sum() * voxel == pytest.approx(slow.sum() * voxel, rel=0.05 * target_spacing)
    found = target.to_ras(np.argwhere(moved.array)).mean(axis=0)
    expected = source.to_ras(np.argwhere(mask.array)).mean(axis=0)
    assert np.linalg.norm(found - expected) < 0.25 * target_spacing + 0.1


@pytest.mark.slow
@given(st.sampled_from(sorted(AWKWARD_AFFINES)), st.tuples(*[st.integers(3, 12)] * 3), st.floats(1.0, 6.0))
@examples(60)
def test_a_core_of_one_voxel_survives_a_coarse_grid_in_its_place(name, index, target_spacing):
    source = centred_grid((16, 16, 16), AWKWARD_AFFINES[name])
    mask = np.zeros(source.shape, dtype=bool)
    mask[index] = True
    target = Grid.isotropic(int(60 / target_spacing), target_spacing, (0.0, 0.0, 0.0))
    found = np.argwhere(resample_mask(Volume(mask, source), target).array)
    assert len(found) >= 1
    distance = np.linalg.norm(target.to_ras(found) - source.to_ras(index), axis=1)
    assert distance.max() <= np.linalg.norm(np.full(3, target_spacing)) + np.linalg.norm(source.spacing)


@pytest.mark.parametrize("target_spacing", [3.0, 4.0])
def test_a_region_too_thin_for_a_coarse_grid_keeps_its_volume_in_its_place(awkward_affine, target_spacing):
    source = centred_grid((40, 40, 40), awkward_affine)
    points = source.to_ras(np.moveaxis(np.indices(source.shape), 0, -1))
    # A disc one voxel thick, which fills less than half of any target voxel that it crosses.
    sheet = np.linalg.norm(points - source.to_ras([20, 19.5, 19.5]), axis=-1) < 11
    sheet[:20], sheet[21:] = False, False
    mask = Volume(sheet, source)
    target = Grid.isotropic(int(40 / target_spacing), target_spacing, (0.3, -0.2, 0.1))
    share = mask_share(mask, target)
    assert (share > 0.5).sum() < 0.5 * share.sum(), "the sheet of this test has to be too thin"
    found = resample_mask(mask, target).array
    expected = sheet.sum() * source.voxel_volume_ml / target.voxel_volume_ml
    assert found.sum() > 3
    assert abs(found.sum() - expected) <= 1 + 0.1 * expected
    assert share[found].min() >= share[~found].max()


def test_an_empty_mask_and_one_outside_stay_empty():
    grid = Grid.isotropic(8, 1.0, (0, 0, 0))
    far = Grid.isotropic(8, 1.0, (100, 0, 0))
    assert not resample_mask(Volume(np.zeros(grid.shape, dtype=bool), grid), grid).array.any()
    assert not resample_mask(Volume(np.ones(grid.shape, dtype=bool), grid), far).array.any()


def test_masks_and_images_are_not_mixed_up():
    grid = Grid.isotropic(4, 1.0, (0, 0, 0))
    with pytest.raises(TypeError, match="resample_mask"):
        resample(Volume(np.zeros(grid.shape, dtype=bool), grid), grid)
    with pytest.raises(TypeError, match="boolean"):
        resample_mask(Volume(np.zeros(grid.shape), grid), grid)


@given(grids, st.tuples(*[st.integers(-3, 3)] * 3))
def test_cropping_leaves_voxels_in_their_place(grid, start):
    stop = tuple(a + 4 for a in start)
    cropped = grid.cropped(start, stop)
    assert cropped.shape == (4, 4, 4)
    assert np.allclose(cropped.to_ras([0, 0, 0]), grid.to_ras(start))
    assert np.allclose(cropped.to_ras([3, 3, 3]), grid.to_ras(np.array(stop) - 1))


def test_a_grid_around_points_holds_them_and_the_padding_and_no_more():
    points = np.array([[1.0, -2.0, 3.0], [11.0, 0.5, 3.2]])
    grid = Grid.around(points, 1.5, 4.0)
    assert np.allclose(grid.affine[:3, :3], 1.5 * np.eye(3))
    assert np.allclose(grid.to_ras([0, 0, 0]), points.min(axis=0) - 4)
    beyond = grid.to_ras(np.array(grid.shape) - 1) - (points.max(axis=0) + 4)
    assert (beyond >= 0).all()
    assert (beyond < 1.5).all()


def test_an_isotropic_grid_lies_around_its_centre(awkward_affine):
    cube = Grid.isotropic(5, 2.0, (1.0, 2.0, 3.0))
    assert np.allclose(cube.to_ras([2, 2, 2]), [1, 2, 3])
    assert np.allclose(cube.to_ras([3, 1, 2]), [3, 0, 3])
    grid = centred_grid((7, 8, 9), awkward_affine, (4.0, 5.0, 6.0))
    like = grid.isotropic_like(2.0, (3, 5, 8))
    assert like.shape == (3, 5, 8)
    assert np.allclose(like.spacing, 2)
    assert np.allclose(like.to_ras([1, 2, 3.5]), [4, 5, 6])
    assert np.allclose(like.affine[:3, :3] / 2, grid.affine[:3, :3] / grid.spacing)


def test_grids_match_within_rounding_only():
    grid = Grid((10, 10, 10), AWKWARD_AFFINES["oblique"])
    image = image_from_volume(Volume(np.zeros(grid.shape), grid))
    assert grid_from_image(image).matches(grid)
    for axis in range(3):
        for distance, close in ((0.009, True), (0.011, False)):
            shifted = grid.affine.copy()
            shifted[axis, 3] -= distance
            assert Grid(grid.shape, shifted).matches(grid) == close
            assert Grid(grid.shape, shifted).matches(grid, tolerance=0.03)
    # A turn about the first voxel: that one stays, the far corner moves.
    turned = grid.affine.copy()
    turned[:3, 2] += [0.0, 0.02 / 9, 0.0]
    assert not Grid(grid.shape, turned).matches(grid)
    assert not Grid((10, 10, 11), grid.affine).matches(grid)
    assert Grid(grid.shape, grid.affine) == grid
    assert hash(Grid(grid.shape, grid.affine)) == hash(grid)


def test_a_grid_cannot_be_changed():
    grid = Grid.isotropic(4, 1.0, (0, 0, 0))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2
    with pytest.raises(AttributeError):
        grid.shape = (1, 1, 1)


SINGULAR = np.diag([1.0, 1.0, 0.0, 1.0])
NOT_FINITE = np.diag([1.0, np.nan, 1.0, 1.0])
PROJECTIVE = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.1, 1]])


@pytest.mark.parametrize(
    ("shape", "affine", "said"),
    [
        ((4, 4), np.eye(4), "three positive sizes"),
        ((4, 0, 4), np.eye(4), "three positive sizes"),
        ((4, 4, 4), np.eye(3), "4 x 4"),
        ((4, 4, 4), NOT_FINITE, "finite"),
        ((4, 4, 4), SINGULAR, "singular"),
        ((4, 4, 4), PROJECTIVE, "0 0 0 1"),
    ],
)
def test_what_is_no_grid_is_refused(shape, affine, said):
    with pytest.raises(InputError, match=said):
        Grid(shape, affine)


def test_small_units_are_not_singular():
    assert Grid((4, 4, 4), np.diag([1e-4, 1e-4, 1e-4, 1.0])).spacing == pytest.approx([1e-4] * 3)


def test_a_volume_fits_its_grid():
    with pytest.raises(InputError, match="does not fit"):
        Volume(np.zeros((3, 3, 3)), Grid((3, 3, 4), np.eye(4)))


def test_a_sheared_grid_is_refused_where_simpleitk_cannot_hold_it():
    sheared = np.eye(4)
    sheared[0, 1] = 0.1
    with pytest.raises(InputError, match="right angles"):
        image_from_volume(Volume(np.zeros((3, 3, 3)), Grid((3, 3, 3), sheared)))


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("signs", itertools.product((1, -1), repeat=3))
def test_voxels_are_the_same_from_whatever_end_they_are_counted(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = rotation_matrix((10, -20, 30)) @ np.diag([1.1, 0.7, 4.0])
    affine[:3, 3] = (4, -50, 9)
    grid = Grid((3, 4, 5), affine)
    turned = np.arange(60).reshape(3, 4, 5).transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    # The slow twin: where the voxel of each index lies.
    first, *steps = (
        grid.to_ras(np.argwhere(np.arange(60).reshape(3, 4, 5) == turned[index])[0])
        for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    other = np.eye(4)
    other[:3, :3], other[:3, 3] = np.array([step - first for step in steps]).T, first
    found = grid.axes_in(Grid(turned.shape, other))
    assert found is not None
    back = turned.transpose(found[0])[tuple(slice(None, None, int(sign)) for sign in found[1])]
    np.testing.assert_array_equal(back, np.arange(60).reshape(3, 4, 5))
    moved = other.copy()
    moved[:3, 3] += (0, 0, 0.02)
    assert grid.axes_in(Grid(turned.shape, moved)) is None
    assert grid.axes_in(Grid(turned.shape, moved), tolerance=0.03) is not None
    assert grid.axes_in(Grid((6, 5, 2), other)) is None
