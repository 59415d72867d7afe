"""The brain that an inference goes by, and the tumour that an extraction left out."""

import numpy as np
import pytest

from TumorQueryLib.anatomy.patient_brain import PatientBrain
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask

GRID = Grid.isotropic(40, 4.0, (0.0, 0.0, 0.0))
FINER = Grid.isotropic(60, 2.0, (3.0, 1.0, 0.0))


def ball(grid, centre, radius) -> Volume:
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume(np.linalg.norm(points - np.array(centre), axis=-1) < radius, grid)


def test_a_tumour_that_the_extraction_left_out_is_added():
    found, tumour = ball(GRID, (0, 0, 0), 50), ball(FINER, (46, 0, 0), 10)
    brain = PatientBrain.extracted(found, tumour)
    assert brain.source == "extracted"
    seen = resample_mask(tumour, GRID).array
    np.testing.assert_array_equal(brain.mask.array, found.array | seen)
    missed = (seen & ~found.array).sum()
    assert missed > 0
    assert brain.added_ml == pytest.approx(missed * 0.064)
    assert brain.added_share == pytest.approx(missed / seen.sum())


def test_an_extraction_that_leaves_most_of_the_tumour_out_is_refused():
    with pytest.raises(InputError, match="Only 0% of the segmented tumour lies in the brain that was extracted"):
        PatientBrain.extracted(ball(GRID, (0, 0, 0), 30), ball(FINER, (50, 0, 0), 10))


def test_nothing_is_added_where_the_tumour_lies_within():
    found = ball(GRID, (0, 0, 0), 50)
    brain = PatientBrain.extracted(found, ball(FINER, (5, 0, 0), 10))
    np.testing.assert_array_equal(brain.mask.array, found.array)
    assert (brain.added_ml, brain.added_share) == (0.0, 0.0)


def test_the_mask_on_another_grid_holds_the_tumour_as_it_lies_there():
    tumour = ball(FINER, (48, 0, 0), 10)
    brain = PatientBrain.extracted(ball(GRID, (0, 0, 0), 50), tumour)
    there = brain.on(FINER, Volume(np.ones(GRID.shape, np.float32), GRID), tumour)
    assert there.grid is FINER
    assert there.array.dtype == bool
    assert (there.array >= tumour.array).all()
    assert there.array[30, 30, 30]


def test_a_stripped_image_is_its_own_mask():
    inside, tumour = np.zeros(GRID.shape, bool), ball(GRID, (48, 0, 0), 10)
    inside[8:-8, 6:-6, 7:-7] = True
    assert (tumour.array & ~inside).any()
    values = np.random.default_rng(0).uniform(50, 100, GRID.shape)
    image = Volume(np.where(inside, values, -3).astype(np.float32), GRID)
    there = PatientBrain("stripped").on(GRID, image, tumour)
    np.testing.assert_array_equal(there.array, inside | tumour.array)
