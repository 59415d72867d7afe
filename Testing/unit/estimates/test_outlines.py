"""Residuals of a density on the outlines: their place, sign and size, and what is left out."""

import math

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.estimates.outlines import (
    LARGEST_LOG_ODDS,
    density_of_log_odds,
    log_odds,
    outline_residuals,
)
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import TumorMasks

THRESHOLDS = (0.6, 0.2)


def logit(u):
    return float(np.log(u / (1 - u)))


def tissue_of(grid, mask=None):
    mask = np.ones(grid.shape, bool) if mask is None else mask
    return Tissue(grid, mask, mask.astype(np.float32))


def ball(grid, radius):
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(points - grid.centre, axis=-1) < radius


@given(st.floats(0, 1, width=32))
@examples(100)
def test_a_density_and_its_log_odds_are_one_another(u):
    values = log_odds(np.array([u]))
    assert abs(values[0]) <= LARGEST_LOG_ODDS
    assert density_of_log_odds(values)[0] == pytest.approx(u, abs=1e-5)


@pytest.mark.parametrize("affine", AWKWARD_AFFINES.values(), ids=AWKWARD_AFFINES)
def test_a_density_of_one_value_misses_both_thresholds_by_as_much_everywhere(affine):
    grid = centred_grid((24, 26, 22), affine)
    masks = TumorMasks(ball(grid, 6), ball(grid, 9), grid)
    found = outline_residuals(Volume(np.full(grid.shape, 0.4, np.float32), grid), tissue_of(grid), masks, THRESHOLDS)
    assert found.residuals[found.of_core] == pytest.approx(logit(0.6) - logit(0.4), abs=1e-5)
    assert found.residuals[~found.of_core] == pytest.approx(logit(0.2) - logit(0.4), abs=1e-5)
    # Faces lie where the outlines do, in RAS millimetres.
    distance = np.linalg.norm(found.points - grid.centre, axis=1)
    half = np.linalg.norm(grid.spacing) / 2
    assert np.abs(distance[found.of_core] - 6).max() < half + 1e-6
    assert np.abs(distance[~found.of_core] - 9).max() < half + 1e-6


def test_a_density_that_passes_the_thresholds_on_the_outlines_leaves_nothing():
    grid = Grid.isotropic(40, 1.0, (0.0, 0.0, 0.0))
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    # A front in which the log-odds fall by one a millimetre.
    values = logit(0.6) - (np.abs(points[..., 0]) - 5)
    whole_at = 5 + logit(0.6) - logit(0.2)
    masks = TumorMasks(np.abs(points[..., 0]) < 5, np.abs(points[..., 0]) < whole_at, grid)
    found = outline_residuals(Volume(density_of_log_odds(values), grid), tissue_of(grid), masks, THRESHOLDS)
    # A face lies within half a voxel of where the threshold is passed.
    assert np.abs(found.residuals).max() <= 0.5 + 1e-4
    assert found.rms <= 0.5


def test_faces_near_what_is_no_tissue_are_left_out_unless_few_remain():
    grid = Grid.isotropic(30, 1.5, (0.0, 0.0, 0.0))
    mask = np.ones(grid.shape, bool)
    mask[:12] = False
    whole = np.zeros(grid.shape, bool)
    whole[12:22, 8:22, 8:22] = True
    density = Volume(np.full(grid.shape, 0.2, np.float32), grid)
    empty = np.zeros_like(whole)
    found = outline_residuals(density, tissue_of(grid, mask), TumorMasks(empty, whole, grid), THRESHOLDS)
    first_deep = grid.to_ras((13.5, 0, 0))[0]
    assert found.points[:, 0].min() >= first_deep
    assert not found.of_core.any()
    # A tissue nowhere deeper than two voxels: all its faces count then.
    thin = np.zeros(grid.shape, bool)
    thin[12:16] = True
    found = outline_residuals(density, tissue_of(grid, thin), TumorMasks(empty, whole & thin, grid), THRESHOLDS)
    assert len(found.residuals) >= 20


def test_clusters_keep_the_mean_and_stay_on_their_outline():
    grid = Grid.isotropic(60, 1.0, (0.0, 0.0, 0.0))
    masks = TumorMasks(ball(grid, 12), ball(grid, 24), grid)
    random = np.random.default_rng(0)
    noisy = Volume(random.uniform(0.1, 0.9, grid.shape).astype(np.float32), grid)
    faces = outline_residuals(noisy, tissue_of(grid), masks, THRESHOLDS)
    found = faces.clustered(100)
    assert 90 <= len(found.residuals) <= 100
    distance = np.linalg.norm(found.points - grid.centre, axis=1)
    assert distance[found.of_core].max() < 14
    assert distance[~found.of_core].min() > 20
    # Averaging over some fifty faces takes noise out and leaves what they share.
    assert found.residuals[~found.of_core].mean() == pytest.approx(faces.residuals[~faces.of_core].mean(), abs=0.05)
    assert found.residuals[~found.of_core].std() < 0.3 * faces.residuals[~faces.of_core].std()
    again = faces.clustered(100)
    assert np.array_equal(found.points, again.points)
    assert np.array_equal(found.residuals, again.residuals)


def test_few_faces_are_their_own_clusters_and_a_limit_holds():
    grid = Grid.isotropic(12, 1.5, (0.0, 0.0, 0.0))
    masks = TumorMasks(ball(grid, 2), ball(grid, 4), grid)
    faces = outline_residuals(Volume(np.zeros(grid.shape, np.float32), grid), tissue_of(grid), masks, THRESHOLDS)
    assert faces.clustered(400) is faces
    assert faces.rms > 10
    assert np.abs(faces.limited(1.0).residuals).max() == 1.0


def test_without_a_tumour_there_is_no_residual():
    grid = Grid.isotropic(8, 1.5, (0.0, 0.0, 0.0))
    none = np.zeros(grid.shape, bool)
    found = outline_residuals(
        Volume(np.zeros(grid.shape, np.float32), grid), tissue_of(grid), TumorMasks(none, none, grid), THRESHOLDS
    )
    assert math.isnan(found.rms), "nothing was seen, which is no perfect fit"
    assert len(found.points) == 0
