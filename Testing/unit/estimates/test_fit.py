"""Dice and volumes of a density against a segmentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.estimates.fit import Fit, missed_parts
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


def parts_of(*boxes):
    """A whole tumour of boxes on a grid of 2 mm."""
    grid = Grid.isotropic(40, 2.0, (10.0, -20.0, 30.0))
    whole = np.zeros(grid.shape, bool)
    for box in boxes:
        whole[box] = True
    return TumorMasks(np.zeros_like(whole), whole, grid)


LARGE, SMALL, TINY = np.s_[5:15, 5:15, 5:15], np.s_[25:30, 25:30, 25:30], np.s_[35:37, 35:37, 35:37]


def test_a_part_without_density_is_named_with_its_volume_and_place():
    observed = parts_of(LARGE, SMALL, TINY)  # 8, 1 and 0.064 ml
    density = np.zeros(observed.grid.shape, np.float32)
    density[LARGE] = 0.7
    density[SMALL] = 0.009
    (part,) = missed_parts(Volume(density, observed.grid), observed)
    assert part.volume_ml == pytest.approx(1.0)
    assert part.centre == pytest.approx(tuple(observed.grid.to_ras((27, 27, 27))))
    density[SMALL] = 0.01
    assert missed_parts(Volume(density, observed.grid), observed) == []
    largest, second = missed_parts(Volume(np.zeros_like(density), observed.grid), observed)
    assert (largest.volume_ml, second.volume_ml) == pytest.approx((8.0, 1.0))


def test_a_small_part_is_named_where_it_is_a_twentieth_of_the_tumour():
    half = np.s_[25:30, 25:30, 25:27]  # 0.4 ml
    for boxes, named in (((LARGE, half), False), ((np.s_[5:15, 5:13, 5:13], half), True)):  # 8 and 6.4 ml
        observed = parts_of(*boxes)
        density = np.where(observed.whole, np.float32(0.5), np.float32(0))
        density[half] = 0
        assert bool(missed_parts(Volume(density, observed.grid), observed)) == named


def test_many_small_parts_are_named_together():
    small = [np.s_[25 + 3 * n : 27 + 3 * n, 25:30, 25:30] for n in range(4)]  # 0.4 ml each
    observed = parts_of(LARGE, *small)
    density = np.zeros(observed.grid.shape, np.float32)
    density[LARGE] = 0.7
    (rest,) = missed_parts(Volume(density, observed.grid), observed)
    assert (rest.count, rest.volume_ml) == (4, pytest.approx(1.6))
    alone, rest = missed_parts(Volume(np.zeros_like(density), observed.grid), observed)
    assert (alone.count, alone.volume_ml, rest.count) == (1, pytest.approx(8.0), 4)
    for box in small[1:]:
        density[box] = 0.7
    assert missed_parts(Volume(density, observed.grid), observed) == []


def test_slivers_along_an_outline_are_no_parts():
    density = np.zeros(parts_of(LARGE).grid.shape, np.float32)
    observed = parts_of(np.s_[2:30, 2:30, 2:30])
    density[2:30, 2:30, 2:30] = 0.7
    density[3:29:2, 3:29:2, 3:29:2] = 0  # 2,197 voxels of 8 mm^3, 17.6 ml
    assert missed_parts(Volume(density, observed.grid), observed) == []


def fit_of(dice_core, dice_whole, observed_core=5.0):
    return Fit(dice_core, dice_whole, observed_ml=(observed_core, 20.0), predicted_ml=(5.0, 20.0))


@pytest.mark.parametrize(
    ("core", "whole", "quality"),
    [
        (1.0, 1.0, "well"),
        (0.8, 0.8, "well"),
        (0.9, 0.69, "fairly"),
        (0.55, 0.75, "fairly"),
        (0.6, 0.69, "poorly"),
        (0.0, 0.0, "poorly"),
    ],
)
def test_quality_has_limits_on_the_dice_sum(core, whole, quality):
    assert fit_of(core, whole).quality == quality


def test_without_a_core_the_whole_tumour_decides():
    assert fit_of(0.0, 0.85, observed_core=0.0).quality == "well"
    assert fit_of(1.0, 0.6, observed_core=0.0).quality == "poorly"  # no core on both sides is no merit


def test_json_gives_the_fit_back():
    fit = Fit(0.7, 0.8, (5.0, 20.0), (4.0, 21.0))
    assert Fit.from_json(fit.as_json()) == fit
