"""Dice and volumes of a density against a segmentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import TumorMasks

AFFINE = np.array([[0, -2, 0, 3], [1.5, 0, 0, 4], [0, 0, 5, -6], [0, 0, 0, 1.0]])
GRID = Grid((4, 5, 6), AFFINE)  # 0.015 ml a voxel


def test_counted_by_hand():
    density = np.zeros(GRID.shape, np.float32)
    density[0, 0, :4] = 0.7  # core: 4 voxels
    density[1, 0, :2] = 0.6  # exactly the threshold: whole, not core
    density[2, 0, :3] = 0.2  # exactly the threshold: nothing
    core = np.zeros(GRID.shape, bool)
    core[0, 0, 2:6] = True
    whole = core.copy()
    whole[1, 0, :] = True
    fit = Fit.of(Volume(density, GRID), TumorMasks(core, whole, GRID), (0.6, 0.2))
    assert fit.dice_core == 2 * 2 / (4 + 4)
    assert fit.dice_whole == 2 * 4 / (6 + 10)
    assert fit.dice_sum == fit.dice_core + fit.dice_whole
    assert fit.observed_ml == pytest.approx((4 * 0.015, 10 * 0.015))
    assert fit.predicted_ml == pytest.approx((4 * 0.015, 6 * 0.015))
    assert fit.as_json()["observed_ml"] == {"core": fit.observed_ml[0], "whole": fit.observed_ml[1]}
    assert fit.as_json()["predicted_ml"] == {"core": fit.predicted_ml[0], "whole": fit.predicted_ml[1]}


@given(st.integers(0, 2**32 - 1))
def test_a_density_fits_its_own_regions(seed):
    density = np.random.default_rng(seed).random(GRID.shape, np.float32)
    own = TumorMasks(density > 0.6, density > 0.2, GRID)
    fit = Fit.of(Volume(density, GRID), own, (0.6, 0.2))
    assert fit.dice_sum == 2
    assert fit.observed_ml == fit.predicted_ml


def test_two_grids_are_not_compared():
    other = Grid(GRID.shape, AFFINE + np.diag([0, 0, 0.1, 0]))
    masks = TumorMasks(np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool), other)
    with pytest.raises(InputError, match="on one grid"):
        Fit.of(Volume(np.zeros(GRID.shape, np.float32), GRID), masks, (0.6, 0.2))
