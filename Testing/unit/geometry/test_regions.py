"""A tumour's two regions: what is counted, compared and refused."""

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid, placed_affine
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask
from TumorQueryLib.geometry.regions import (
    THRESHOLD_CORE,
    THRESHOLD_WHOLE,
    TumorMasks,
    bounding_box,
    dice,
    dice_from_counts,
    dilated,
    threshold_density,
)

GRID = Grid((4, 5, 6), np.diag([2.0, 1.0, 5.0, 1.0]))


def region(*indices):
    mask = np.zeros(GRID.shape, dtype=bool)
    for index in indices:
        mask[index] = True
    return mask


def test_dice_of_sets_that_overlap_in_part_wholly_and_not_at_all():
    one, both, other = region((0, 0, 0)), region((0, 0, 0), (1, 1, 1), (2, 2, 2)), region((3, 3, 3))
    assert dice(one, both) == 0.5
    assert dice(one, one) == 1
    assert dice(one, other) == 0
    assert dice(one, region()) == 0
    assert dice(region(), region()) == 1
    assert dice_from_counts([1, 0, 0], [1, 0, 2], [3, 0, 0]).tolist() == [0.5, 1, 0]


def test_volumes_are_in_millilitres_core_first():
    masks = TumorMasks(region((0, 0, 0)), region((0, 0, 0), (1, 1, 1)), GRID)
    assert masks.volumes_ml() == pytest.approx((0.01, 0.02))


def test_a_density_at_a_threshold_is_not_above_it():
    density = np.zeros(GRID.shape)
    density[0, 0, :4] = [THRESHOLD_WHOLE, THRESHOLD_WHOLE + 1e-6, THRESHOLD_CORE, THRESHOLD_CORE + 1e-6]
    core, whole = threshold_density(Volume(density, GRID), THRESHOLD_CORE, THRESHOLD_WHOLE)
    assert np.argwhere(core.array).tolist() == [[0, 0, 3]]
    assert np.argwhere(whole.array).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 3]]
    assert core.grid == whole.grid == GRID


def test_the_bounding_box_holds_first_and_last_voxel():
    first, stop = bounding_box(region((1, 0, 2), (2, 4, 2)))
    assert first.tolist() == [1, 0, 2]
    assert stop.tolist() == [3, 5, 3]


@pytest.mark.parametrize("affine", AWKWARD_AFFINES.values(), ids=AWKWARD_AFFINES)
@pytest.mark.parametrize("margin", [0.0, 0.95, 2.4, 7.0])
def test_a_dilated_mask_holds_what_lies_within_the_margin_of_a_centre(affine, margin):
    grid = centred_grid((9, 11, 10), affine)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[3:5, 5, 4] = mask[8, 10, 9] = True
    places = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    apart = np.linalg.norm(places[:, None] - places[mask.ravel()], axis=-1).min(axis=1).reshape(grid.shape)
    assert np.array_equal(dilated(Volume(mask, grid), margin), apart <= margin + 1e-4)
    assert not dilated(Volume(np.zeros_like(mask), grid), margin).any()


@pytest.mark.parametrize(
    ("core", "whole", "said"),
    [
        (np.zeros(GRID.shape), region(), "core mask holds float64"),
        (region(), np.zeros(GRID.shape, int), "whole mask holds int64"),
        (region(), np.zeros((4, 5, 5), bool), "whole mask has shape"),
    ],
)
def test_masks_that_are_none_are_refused_by_name(core, whole, said):
    with pytest.raises(InputError, match=said):
        TumorMasks(core, whole, GRID)


@pytest.mark.slow
@examples(25)
@given(
    spacing=st.floats(0.4, 1.5),
    thickness=st.floats(1.0, 7.0),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    radius=st.floats(0.2, 4.0),
    seed=st.integers(0, 99),
)
def test_on_another_grid_the_core_stays_in_the_whole(spacing, thickness, angles, radius, seed):
    """A thin core whose voxels are the fullest ones elsewhere than the whole tumour's."""
    rng = np.random.default_rng(seed)
    fine = centred_grid((24, 22, 20), placed_affine(spacing=(spacing,) * 3, angles=angles))
    points = np.moveaxis(np.indices(fine.shape), 0, -1) - (np.array(fine.shape) - 1) / 2 - rng.uniform(-3, 3, 3)
    whole = np.abs(points @ rng.normal(size=3)) < radius
    core = whole & (np.abs(points @ rng.normal(size=3)) < 0.5 * radius)
    coarse = centred_grid((14, 14, 6), np.diag([1.0, 1.0, thickness, 1.0]))
    masks = TumorMasks.on_grid(Volume(core, fine), Volume(whole, fine), coarse)
    assert not (masks.core & ~masks.whole).any()
    assert np.array_equal(masks.core, resample_mask(Volume(core, fine), coarse).array)
    assert not (resample_mask(Volume(whole, fine), coarse).array & ~masks.whole).any()
