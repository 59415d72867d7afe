"""The patient's own tissue: found where it is painted, through bias, noise and a wrong prior; refused where unclear."""

import numpy as np
import pytest
from layered_brain import BRAIN, GRID, INTENSITY, OFF, ball, painted, points_of, scanned
from scipy import ndimage

from TumorQueryLib.anatomy import own
from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.own import (
    BIAS_BLOCK,
    BlockSmoother,
    UnclearTissueError,
    expectation,
    moments,
    neighbours_of,
    overlap_of,
    own_tissue,
)
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.geometry.transforms import rotation_matrix


@pytest.fixture(scope="module")
def carried():
    return TissueMaps(*painted(GRID, OFF), GRID)


@pytest.fixture(scope="module")
def truth():
    return painted(GRID)


def dices(maps, truth, where):
    """Of the voxels where each tissue has the largest share."""
    found = np.argmax([maps.white_matter, maps.grey_matter, maps.csf], axis=0)[where]
    true = np.argmax(truth, axis=0)[where]
    return [dice(found == k, true == k) for k in range(3)]


def oblique_grid():
    """Slices of 3 mm on a turned grid."""
    affine = np.eye(4)
    affine[:3, :3] = rotation_matrix((12.0, -8.0, 20.0)) @ np.diag([1.2, 1.2, 3.0])
    shape = (100, 100, 40)
    affine[:3, 3] = GRID.centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [GRID, oblique_grid()], ids=["same", "oblique"])
def test_the_painted_tissue_is_found_although_the_atlas_lies_beside_it(carried, truth, grid):
    tumour = ball(GRID, 9.0)
    found = own_tissue(carried, scanned(grid), "t1", tumour)
    seen = (sum(truth) > 0.5) & ~ball(GRID, 9.0 + 5.0).array
    before, after = (dices(m, truth, seen) for m in (carried, found.maps))
    least = 0.96 if grid is GRID else 0.94
    assert min(after) > least > max(before) + 0.05, after
    # With the bias taken out the class means are those that were painted.
    assert np.array(found.class_means) == pytest.approx(list(INTENSITY.values()), rel=0.06)
    voxel = GRID.voxel_volume_ml
    assert found.volumes_ml == pytest.approx([m.sum() * voxel for m in truth], rel=0.12)


@pytest.mark.slow
def test_in_and_around_the_tumour_the_atlas_stays(carried):
    image, tumour = scanned(GRID), ball(GRID, 9.0)
    image = Volume(np.where(tumour.array, 500, image.array).astype(np.float32), GRID)
    found = own_tissue(carried, image, "t1", tumour).maps
    distance = ndimage.distance_transform_edt(~tumour.array, sampling=GRID.spacing)
    for name in ("white_matter", "grey_matter", "csf"):
        before, after = getattr(carried, name), getattr(found, name)
        np.testing.assert_array_equal(after[distance <= own.TUMOUR_MARGIN], before[distance <= own.TUMOUR_MARGIN])
    far = distance > own.TUMOUR_MARGIN + own.BLEND
    assert (found.white_matter != carried.white_matter)[far].any()


@pytest.mark.slow
def test_what_the_image_does_not_show_stays_the_atlas(carried):
    """An image whose field of view ends below the top of the brain."""
    grid = GRID.cropped((0, 0, 0), (80, 80, 55))
    found = own_tissue(carried, scanned(grid), "t1", ball(GRID, 9.0)).maps
    np.testing.assert_array_equal(found.white_matter[:, :, 56:], carried.white_matter[:, :, 56:])
    assert not np.array_equal(found.white_matter[:, :, 20:54], carried.white_matter[:, :, 20:54])


@pytest.mark.slow
def test_the_unit_of_the_intensities_does_not_matter(carried):
    image, tumour = scanned(GRID), ball(GRID, 9.0)
    plain = own_tissue(carried, image, "t1", tumour)
    doubled = own_tissue(carried, Volume(image.array * 7, GRID), "t1", tumour)
    np.testing.assert_allclose(doubled.maps.white_matter, plain.maps.white_matter, atol=2e-3)
    assert np.array(doubled.class_means) == pytest.approx(7 * np.array(plain.class_means), rel=1e-3)
    # As z-scores, half of them below 0, with another background.
    brain = image.array > 0
    scores = (image.array - image.array[brain].mean()) / image.array[brain].std()
    scored = own_tissue(carried, Volume(np.where(brain, scores, -9).astype(np.float32), GRID), "t1gd", tumour)
    assert overlap_of(scored.maps.white_matter, plain.maps.white_matter, brain) > 0.95
    assert overlap_of(scored.maps.csf, plain.maps.csf, brain) > 0.85
    assert scored.class_means[0] > 0 > scored.class_means[2]


@pytest.mark.slow
def test_a_brain_mask_leaves_out_the_skull(carried):
    image, tumour = scanned(GRID), ball(GRID, 9.0)
    brain = Volume(image.array > 0, GRID)
    with_scalp = Volume(np.where(brain.array, image.array, 350).astype(np.float32), GRID)
    plain, masked = (own_tissue(carried, i, "t1", tumour, brain) for i in (image, with_scalp))
    np.testing.assert_array_equal(masked.maps.grey_matter, plain.maps.grey_matter)


@pytest.mark.parametrize(
    ("intensity", "words"),
    [
        ({"white": 160.0, "grey": 220.0, "csf": 60.0}, "White matter is not clearly brighter than grey matter"),
        ({"white": 120.0, "grey": 150.0, "csf": 300.0}, "White matter is not clearly brighter"),
        ({"white": 220.0, "grey": 150.0, "csf": 260.0}, "Grey matter is not clearly brighter than CSF"),
        ({"white": 200.0, "grey": 200.0, "csf": 200.0}, "White matter is not clearly brighter"),
    ],
    ids=["FLAIR", "T2", "bright CSF", "noise"],
)
def test_what_is_no_t1_is_refused_in_a_sentence(carried, intensity, words):
    with pytest.raises(UnclearTissueError) as raised:
        own_tissue(carried, scanned(GRID, intensity=intensity, noise=20.0), "t1", ball(GRID, 9.0))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_too_little_brain_is_refused_in_a_sentence(carried):
    small = GRID.cropped((30, 30, 30), (50, 50, 50))
    image = Volume(np.pad(scanned(small).array[1:-1, 1:-1, 1:-1], 1), small)
    with pytest.raises(UnclearTissueError, match=r"Only \d+ ml of the brain .* 68 ml are needed"):
        own_tissue(carried, image, "t1", ball(GRID, 3.0))


@pytest.mark.slow
def test_the_anatomy_of_own_maps_is_made_as_that_of_carried_ones(carried):
    tumour = ball(GRID, 12.0, place=(0.0, 12.0, 0.0))
    found = own_tissue(carried, scanned(GRID), "t1", tumour)
    anatomy, masks = Anatomy.of_patient(found.maps, ball(GRID, 4.0, place=(0.0, 12.0, 0.0)), tumour, origin=found)
    assert anatomy.name == "patient"
    assert anatomy.origin is found
    assert anatomy.tissue_voxels_added > 1000, "the tumour lies in what is a ventricle by the atlas"
    assert anatomy.tissue.mask[masks.whole].all()
    described = found.as_json()
    assert described["source"] == "own"
    assert described["image"] == "t1"
    assert set(described["volumes_ml"]) == set(described["class_means"]) == {"white_matter", "grey_matter", "csf"}


def slow_expectation(y, log_prior, posterior, known, means, deviations, weight):
    """The twin on whole arrays: neighbours by a convolution of the grid."""
    cross = ndimage.generate_binary_structure(3, 1).astype(float)
    cross[1, 1, 1] = 0
    logarithm = np.empty(log_prior.shape)
    for k in range(3):
        on_grid = np.zeros(known.shape)
        on_grid[known] = posterior[:-1, k]
        around = ndimage.convolve(on_grid, cross, mode="constant")[known]
        logarithm[:, k] = log_prior[:, k] + weight * around - np.log(deviations[k])
        logarithm[:, k] -= 0.5 * ((y - means[k]) / deviations[k]) ** 2
    odds = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_the_compiled_steps_agree_with_whole_arrays():
    random = np.random.default_rng(3)
    known = random.random((9, 8, 7)) < 0.7
    count = int(known.sum())
    y = random.normal(5.0, 0.4, count).astype(np.float32)
    log_prior = np.log(random.dirichlet((1, 1, 1), count)).astype(np.float32)
    posterior = np.zeros((count + 1, 3), np.float32)
    posterior[:-1] = random.dirichlet((1, 1, 1), count)
    means, deviations = np.array([5.4, 5.0, 4.5]), np.array([0.1, 0.2, 0.4])
    fast = expectation(y, log_prior, posterior, neighbours_of(known), means, deviations, 0.15)
    slow = slow_expectation(y, log_prior, posterior, known, means, deviations, 0.15)
    np.testing.assert_allclose(fast[:-1], slow, atol=1e-6)
    assert not fast[-1].any()
    q = posterior[:-1].astype(float)
    found_means, found_deviations, shares = moments(y, posterior)
    expected = (q * y[:, None]).sum(axis=0) / q.sum(axis=0)
    np.testing.assert_allclose(found_means, expected, rtol=1e-6)
    np.testing.assert_allclose(
        found_deviations, np.sqrt((q * (y[:, None] - expected) ** 2).sum(axis=0) / q.sum(axis=0)), rtol=1e-5
    )
    np.testing.assert_allclose(shares, q.mean(axis=0), rtol=1e-6)


def test_the_smooth_field_by_blocks_agrees_with_the_filtered_grid():
    random = np.random.default_rng(4)
    known = painted(GRID)[0] + painted(GRID)[1] > 0.5
    sigma = np.full(3, 25.0 / 1.5)
    along = ((points_of(GRID) - GRID.centre) / BRAIN) @ [0.5, -0.4, 0.3]
    values = (along + 0.3 * random.standard_normal(GRID.shape))[known]
    weight = random.random(values.size)
    smoother = BlockSmoother(known, sigma)
    smoother.fit(weight * values, weight)
    totals, weights = np.zeros(GRID.shape), np.zeros(GRID.shape)
    totals[known], weights[known] = weight * values, weight
    totals, weights = (ndimage.gaussian_filter(a, sigma, mode="constant") for a in (totals, weights))
    slow = (totals / np.maximum(weights, 1e-12))[known]
    assert np.abs(smoother.where_known() - slow).max() < 0.02 * np.ptp(slow)
    np.testing.assert_allclose(smoother.everywhere()[known], smoother.where_known(), atol=1e-6)
    assert GRID.shape[0] % BIAS_BLOCK == 0
