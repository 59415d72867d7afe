"""An assimilated density gives the segmentation back in tissue, is corrected around it, and left alone far from it."""

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.estimates.assimilate import CORRELATION_LENGTH, NUGGET, REACH, assimilate, held_to_outlines
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.outlines import density_of_log_odds, log_odds, outline_residuals
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters

THRESHOLDS = (0.6, 0.2)
GRID = Grid.isotropic(64, 1.5, (0.0, 0.0, 0.0))
PARAMETERS = GrowthParameters((0.0, 0.0, 0.0), 0.4, 0.1, 150.0)


def distance(grid, centre=(0.0, 0.0, 0.0)):
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(points - np.array(centre), axis=-1)


def front(grid, radius, centre=(0.0, 0.0, 0.0), slope=0.5):
    """A ball whose density is .2 at a radius and whose log-odds fall by `slope` a millimetre."""
    return density_of_log_odds(log_odds(0.2) - slope * (distance(grid, centre) - radius))


def masks_on(grid, core, whole, centre=(0.0, 0.0, 0.0)):
    away = distance(grid, centre)
    return TumorMasks(away < core, away < whole, grid)


def model_of(density, anatomy, observed, in_anatomy):
    return Estimate.of(
        "refined", anatomy, (PARAMETERS,), Volume(density, anatomy.grid), observed, in_anatomy, THRESHOLDS
    )


@pytest.fixture(scope="module")
def tissue():
    mask = distance(GRID) < 44
    mask[:, :, 50:] = False
    return Tissue(GRID, mask, np.where(mask, np.float32(0.7), np.float32(0)))


@pytest.mark.slow
@pytest.mark.parametrize("affine", AWKWARD_AFFINES.values(), ids=AWKWARD_AFFINES)
def test_its_thresholds_give_the_segmentation_back_wherever_there_is_tissue(affine, tissue):
    grid = centred_grid((60, 58, 34), affine)
    observed = masks_on(grid, 9.0, 16.0, (4.0, -3.0, 9.0))
    in_anatomy = TumorMasks.on_grid(Volume(observed.core, grid), Volume(observed.whole, grid), GRID)
    anatomy = Anatomy("patient", tissue)
    model = model_of(np.where(tissue.mask, front(GRID, 14.0), 0).astype(np.float32), anatomy, observed, in_anatomy)
    assert model.fit.dice_sum < 1.6
    found = assimilate(model, observed, in_anatomy, THRESHOLDS)
    there = resample_mask(Volume(tissue.mask, GRID), grid).array
    assert there.any()
    assert not there.all()
    for threshold, region in zip(THRESHOLDS, (observed.core, observed.whole)):
        assert np.array_equal((found.in_patient.array > threshold) & there, region & there)
        # In double precision too, as other software may compare.
        assert np.array_equal((found.in_patient.array.astype(float) > threshold) & there, region & there)
    assert found.name == "assimilated"
    assert found.parameters == ()
    assert found.in_patient.array.dtype == np.float32
    assert found.in_patient.array.min() >= 0
    assert found.in_patient.array.max() <= 1
    assert found.residual_rms < model.residual_rms


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(AWKWARD_AFFINES)))
@examples(15)
def test_any_density_is_held_to_any_outlines(seed, name):
    random = np.random.default_rng(seed)
    grid = centred_grid((9, 8, 7), AWKWARD_AFFINES[name])
    own = Grid.isotropic(16, 1.5, grid.centre)
    mask = random.random(own.shape) < 0.7
    mask[8, 8, 8] = True
    anatomy = Anatomy("patient", Tissue(own, mask, mask.astype(np.float32)))
    whole = random.random(grid.shape) < 0.5
    observed = TumorMasks(whole & (random.random(grid.shape) < 0.5), whole, grid)
    # Values on and next to the thresholds among them.
    choices = np.array([0, 1, 0.2, 0.6, np.nextafter(np.float32(0.2), 1), np.nextafter(np.float32(0.6), 0)], np.float32)
    held = held_to_outlines(Volume(random.choice(choices, grid.shape), grid), anatomy, observed, THRESHOLDS).array
    tissue = resample(Volume(mask.astype(np.float32), own), grid).array > 0
    for threshold, region in zip(THRESHOLDS, (observed.core, observed.whole)):
        for values in (held, held.astype(float)):
            assert not ((values > threshold) & ~region).any()
            assert ((values > threshold) | ~region | ~tissue).all()


def test_what_agrees_already_is_hardly_changed(tissue):
    density = np.where(tissue.mask, front(GRID, 14.0), 0).astype(np.float32)
    observed = TumorMasks(density > 0.6, density > 0.2, GRID)
    model = model_of(density, Anatomy("patient", tissue), observed, observed)
    found = assimilate(model, observed, observed, THRESHOLDS)
    assert np.abs(found.density.array - density).max() < 0.06
    assert np.abs(found.density.array - density).mean() < 2e-3


def test_a_front_that_is_too_short_is_carried_outward_and_far_away_nothing_changes(tissue):
    density = np.where(tissue.mask, front(GRID, 12.0), 0).astype(np.float32)
    observed = masks_on(GRID, 8.4, 14.0)
    model = model_of(density, Anatomy("patient", tissue), observed, observed)
    found = assimilate(model, observed, observed, THRESHOLDS)
    true = np.where(tissue.mask, front(GRID, 14.0), 0)
    near = tissue.mask & (distance(GRID) < 14 + REACH)
    assert np.abs(found.density.array - true)[near].mean() < 0.6 * np.abs(density - true)[near].mean()
    beyond = distance(GRID) > 14 + REACH + 1.5
    assert np.array_equal(found.density.array[beyond], density[beyond])
    assert not found.density.array[~tissue.mask].any()
    # Nowhere a step where the correction ends.
    edge = tissue.mask & (np.abs(distance(GRID) - 14 - REACH) < 0.75)
    assert np.abs(log_odds(found.density.array[edge]) - log_odds(density[edge])).max() < 0.1


def test_the_correction_is_that_of_plain_kriging(tissue):
    density = np.where(tissue.mask, front(GRID, 12.0), 0).astype(np.float32)
    observed = masks_on(GRID, 8.0, 14.0, (1.0, 2.0, 0.0))
    anatomy = Anatomy("patient", tissue)
    model = model_of(density, anatomy, observed, observed)
    found = assimilate(model, observed, observed, THRESHOLDS)
    seen = outline_residuals(model.density, tissue, observed, THRESHOLDS).limited(1.0).clustered()

    def matern(a, b):
        r = np.sqrt(3) * np.linalg.norm(a[:, None] - b[None], axis=-1) / CORRELATION_LENGTH
        return (1 + r) * np.exp(-r)

    weights = np.linalg.solve(
        matern(seen.points, seen.points) + NUGGET**2 * np.eye(len(seen.residuals)), seen.residuals
    )
    for cell in ((32, 32, 32), (38, 30, 33), (25, 36, 30)):
        added = (matern(GRID.to_ras(cell)[None], seen.points) @ weights)[0]
        expected = density_of_log_odds(log_odds(density[cell]) + added)
        assert found.density.array[cell] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_it_works_in_an_atlas_with_another_scale(tissue):
    to_atlas = sitk.Similarity3DTransform()
    to_atlas.SetRotation((0.2, 0.5, 1.0), 0.3)
    to_atlas.SetScale(1 / 1.1)
    space = SpaceMap(to_atlas, to_atlas.GetInverse())
    grid = Grid.isotropic(80, 1.3, (0.0, 0.0, 0.0))
    observed = masks_on(grid, 9.0, 15.0)
    in_atlas = space.masks_in_atlas(Volume(observed.core, grid), Volume(observed.whole, grid), GRID)
    anatomy = Anatomy("atlas", tissue, space, 1.1)
    density = np.where(tissue.mask, front(GRID, 11.0), 0).astype(np.float32)
    found = assimilate(model_of(density, anatomy, observed, in_atlas), observed, in_atlas, THRESHOLDS)
    there = space.in_patient(Volume(tissue.mask.astype(np.float32), GRID), grid).array > 0
    for threshold, region in zip(THRESHOLDS, (observed.core, observed.whole)):
        assert np.array_equal((found.in_patient.array > threshold) & there, region & there)
    # The correction ends after 20 of the patient's millimetres, which are 18.2 of the atlas's.
    changed = found.density.array != density
    outermost = distance(GRID)[changed].max()
    assert outermost == pytest.approx((15.0 + REACH) / 1.1, abs=2.5)


def test_without_a_core_only_the_whole_outline_counts(tissue):
    density = np.where(tissue.mask, front(GRID, 12.0), 0).astype(np.float32)
    whole = distance(GRID) < 10
    observed = TumorMasks(np.zeros_like(whole), whole, GRID)
    found = assimilate(
        model_of(density, Anatomy("patient", tissue), observed, observed), observed, observed, THRESHOLDS
    )
    assert not (found.in_patient.array > 0.6).any()
    assert np.array_equal(found.in_patient.array > 0.2, whole)
