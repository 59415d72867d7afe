"""The uncertainty of a density: bands around it, intervals of its parameters, draws that agree with the bands."""

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import centred_grid, placed_affine
from known_tumour import THRESHOLDS
from scipy.spatial import cKDTree

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.estimates.assimilate import assimilate, distance_from, held_alike, held_to_outlines
from TumorQueryLib.estimates.draws import DensityDraws
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.foci import combined_density
from TumorQueryLib.estimates.kriging import Kriging
from TumorQueryLib.estimates.outlines import density_of_log_odds, log_odds, outline_residuals
from TumorQueryLib.estimates.uncertainty import (
    EFFECTIVE_OBSERVATIONS,
    MOMENTS,
    REACH,
    SMALLEST_CURVATURE,
    STEPS,
    _moments_of_volume,
    covariance_of,
    estimate_uncertainty,
    quantile,
    variance_left,
    vary,
)
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.growth.solver import starting_field

GRID = Grid.isotropic(56, 1.5, (0.0, 0.0, 0.0))
#: Of the fit, and of the tumour that was really there.
FIT = GrowthParameters.from_identifiable((2.0, -1.0, 0.5), 1.8, 13.0, 0.02)
TRUE = GrowthParameters.from_identifiable((3.0, -1.5, 0.0), 1.9, 12.8, 0.02)


def points(grid=GRID):
    return grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))


@pytest.fixture(scope="module")
def anatomy():
    mask = np.linalg.norm(points(), axis=-1) < 38
    slow = np.where(np.sin(points()[..., 0] / 6) > 0.3, np.float32(0.1), np.float32(1))
    return Anatomy("patient", Tissue(GRID, mask, np.where(mask, slow, np.float32(0))))


@pytest.fixture(scope="module")
def observed(anatomy):
    density = simulate(TRUE, anatomy.tissue)
    return TumorMasks(density > THRESHOLDS[0], density > THRESHOLDS[1], GRID)


def model_of(parameters, anatomy, observed):
    density = combined_density([simulate(p, anatomy.tissue) for p in parameters])
    return Estimate.of("refined", anatomy, parameters, Volume(density, GRID), observed, observed, THRESHOLDS)


@pytest.fixture(scope="module")
def model(anatomy, observed):
    return model_of((FIT,), anatomy, observed)


@pytest.fixture(scope="module")
def assimilated(model, observed):
    return assimilate(model, observed, observed, THRESHOLDS)


@pytest.fixture(scope="module")
def uncertainty(model, assimilated, observed):
    return estimate_uncertainty(model, assimilated, observed, THRESHOLDS)


@pytest.mark.slow
def test_the_truth_lies_in_the_bands_about_as_often_as_they_say(uncertainty, anatomy):
    true = simulate(TRUE, anatomy.tissue)
    for confidence, least in ((0.5, 0.5), (0.9, 0.85)):
        lower, upper = uncertainty.band(confidence)
        asked = anatomy.tissue.mask & ((true > 0.01) | (upper.array > 0.01))
        held = (true >= lower.array - 0.002) & (true <= upper.array + 0.002)
        assert held[asked].mean() > least
    low, high = uncertainty.length_interval()
    assert low < TRUE.infiltration_length < high
    low, high = uncertainty.rho_t_interval()
    assert low < TRUE.rho_t < high


@pytest.mark.slow
def test_bands_hold_the_density_and_one_another(uncertainty, assimilated, anatomy):
    density = assimilated.in_patient.array
    before = density, density
    for confidence in (0.1, 0.5, 0.9, 0.99):
        lower, upper = (bound.array for bound in uncertainty.band(confidence))
        assert lower.min() >= 0
        assert upper.max() <= 1
        assert (lower <= before[0]).all()
        assert (upper >= before[1]).all()
        before = lower, upper
    assert upper[~anatomy.tissue.mask].max() < 1e-6
    assert uncertainty.sd.array[~anatomy.tissue.mask].max() < 1e-6


@pytest.mark.slow
def test_maps_of_a_large_image_are_made_where_there_are_bands(anatomy, observed, model):
    """The slow twin maps everything; a tumour of an image that reaches far beyond, turned and anisotropic."""
    affine = placed_affine(spacing=(1.6, 2.1, 4.0), angles=(12.0, -20.0, 31.0), flips=(-1, 1, -1))
    image = centred_grid((94, 80, 40), affine, (12.0, -9.0, 5.0))
    seen = TumorMasks.on_grid(Volume(observed.core, GRID), Volume(observed.whole, GRID), image)
    placed = Estimate.of("refined", anatomy, (FIT,), model.density, seen, observed, THRESHOLDS)
    assimilated = assimilate(placed, seen, observed, THRESHOLDS)
    found = estimate_uncertainty(placed, assimilated, observed, THRESHOLDS)
    assert np.prod([part.stop - part.start for part in found._box]) < 0.7 * seen.core.size

    def mapped(values):
        return anatomy.in_patient(
            Volume(np.where(anatomy.tissue.mask, values, 0).astype(np.float32), GRID), image
        ).array

    density, width = assimilated.in_patient.array, quantile(0.9) * found.deviation
    lower, upper = (bound.array for bound in found.band())
    expected = [1 / (1 + np.exp(-(found.log_odds + sign * width))) for sign in (-1, 1)]
    assert lower == pytest.approx(np.minimum(mapped(expected[0]), density), abs=1e-5)
    assert upper == pytest.approx(np.maximum(mapped(expected[1]), density), abs=1e-5)
    first, second = found._moments
    assert found.sd.array == pytest.approx(mapped(np.sqrt(np.maximum(second - first**2, 0))), abs=1e-5)
    assert found.probability.array.max() > 0.99
    away = mapped(np.ones(GRID.shape)) == 0
    assert away.any()
    assert not found.sd.array[away].any()
    assert not found.probability.array[away].any()


@pytest.mark.slow
def test_what_is_sure_and_what_is_not(uncertainty, observed, anatomy):
    deviation, distance = uncertainty.deviation, distance_from(observed.whole, anatomy)
    assert (deviation[anatomy.tissue.mask & (distance < REACH)] > 0).all()
    # The outlines say more of what is near them than of what is far away.
    near, far = anatomy.tissue.mask & (distance > 0) & (distance < 3), anatomy.tissue.mask & (distance > 15)
    assert np.median(deviation[near]) < np.median(deviation[far])


@pytest.mark.slow
def test_beyond_the_correction_nothing_is_taken_off(uncertainty, model, observed, anatomy):
    """The assimilated density has no correction farther than 20 mm, so no outline makes its model surer there."""
    near = uncertainty.deviation > 0
    far = distance_from(observed.whole, anatomy)[near] > 20
    assert far.sum() > 50
    spread, derivative = vary(model, 0, observed, THRESHOLDS, near)
    of_parameters = derivative[:, far].T @ np.linalg.cholesky(spread.covariance)
    expected = np.sqrt((of_parameters**2).sum(axis=1) + uncertainty.discrepancy_deviation**2)
    assert uncertainty.deviation[near][far] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_the_probability_is_held_to_the_outlines(uncertainty, observed, anatomy, level):
    probability = replace(uncertainty, level=level).probability.array
    for region, threshold in zip((observed.core, observed.whole), THRESHOLDS):
        if level <= threshold:
            assert (probability[region & anatomy.tissue.mask] == 1).all()
        if level >= threshold:
            assert (probability[~region] == 0).all()
    if level not in THRESHOLDS:
        assert ((probability > 0.01) & (probability < 0.99)).any()


def seen_on(image, uncertainty, observed, anatomy):
    """The bands on another T1Gd image."""
    seen = TumorMasks.on_grid(Volume(observed.core, GRID), Volume(observed.whole, GRID), image)
    odds = density_of_log_odds(uncertainty.log_odds)
    density = anatomy.in_patient(Volume(np.where(anatomy.tissue.mask, odds, np.float32(0)), GRID), image)
    return replace(uncertainty, density=held_to_outlines(density, anatomy, seen, THRESHOLDS)), seen


#: Turned, flipped, anisotropic, and it cuts the tumour.
CUTTING = centred_grid((52, 40, 14), placed_affine((1.0, 1.5, 4.0), (12.0, -20.0, 31.0), (-1, 1, -1)), (5.0, -3.0, 2.0))


@pytest.mark.slow
def test_draws_are_held_to_the_outlines_on_any_grid(uncertainty, observed, anatomy):
    placed, seen = seen_on(CUTTING, uncertainty, observed, anatomy)
    tissue = placed.density.array > THRESHOLDS[1]
    assert (tissue <= seen.whole).all()
    coarse = Grid((26, 20, 14), CUTTING.affine @ np.diag([2.0, 2.0, 1.0, 1.0]))
    for grid, step in ((CUTTING, 1), (coarse, 2)):
        for drawn in islice(placed.drawn_densities(grid), 3):
            assert drawn.grid == grid
            assert np.array_equal(drawn.array > THRESHOLDS[1], tissue[::step, ::step])
            assert np.array_equal(drawn.array > THRESHOLDS[0], (placed.density.array > THRESHOLDS[0])[::step, ::step])
    # Where the image knows nothing, a draw is what it is.
    beyond = GRID.to_ras(np.argwhere(observed.whole))[
        (np.abs(CUTTING.to_index(GRID.to_ras(np.argwhere(observed.whole))) - 26) > 30).any(axis=1)
    ]
    assert len(beyond)
    drawn = next(placed.drawn_densities(GRID)).array
    assert drawn[tuple(np.rint(GRID.to_index(beyond)).astype(int).T)].max() > THRESHOLDS[1]


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_interval_of_the_volume_is_that_of_all_voxels_of_the_draws(uncertainty, observed, anatomy, level):
    """The slow twin counts each voxel of each held draw; the image cuts the tumour, and so it does here."""
    placed = replace(seen_on(CUTTING, uncertainty, observed, anatomy)[0], level=level)
    draws = placed.draw(40 if level == 0.05 else 2, random_seed=3)
    held = held_alike((anatomy.in_patient(one, CUTTING) for one in draws), placed.density, CUTTING, THRESHOLDS)
    volumes = [np.count_nonzero(one.array > level) * CUTTING.voxel_volume_ml for one in held]
    low, high = placed.volume_interval
    assert low <= placed.volume_ml <= high
    if level == 0.2:
        assert set(volumes) == {low} == {high}, "the outline tells it"
    else:
        width = high - low
        ends = np.quantile(volumes, (0.05, 0.5, 0.95))
        assert (low, high) == pytest.approx((ends[0], ends[2]), abs=0.25 * width)
        assert ends[0] < low + 0.1 * width < ends[1] < high - 0.3 * width


@pytest.mark.slow
def test_mean_deviation_and_probability_are_those_of_samples(uncertainty, anatomy):
    random, uncertainty = np.random.default_rng(0), replace(uncertainty)  # a copy: nothing is computed yet
    sure = uncertainty.deviation == 0
    first, second = uncertainty._moments
    assert sure.any()
    assert second[sure] == pytest.approx(first[sure] ** 2)
    cells = np.argwhere((uncertainty.deviation > 0) & (np.abs(uncertainty.log_odds) < 5))[::997]
    assert len(cells) > 20
    mean, sd, probability = (getattr(uncertainty, name).array for name in ("mean", "sd", "probability"))
    for cell in map(tuple, cells):
        values = uncertainty.log_odds[cell] + uncertainty.deviation[cell] * random.standard_normal(20000)
        samples = 1 / (1 + np.exp(-values))
        assert mean[cell] == pytest.approx(samples.mean(), abs=0.01)
        assert sd[cell] == pytest.approx(samples.std(), abs=0.01)
        told = 1 if uncertainty.density.array[cell] > THRESHOLDS[1] else (samples > uncertainty.level).mean()
        assert probability[cell] == pytest.approx(told, abs=0.02)


@pytest.mark.slow
def test_the_bands_are_quantiles_of_the_draws(uncertainty, anatomy):
    draws = uncertainty.draw(200, random_seed=5)
    samples = np.stack([log_odds(density.array[draws.cells]) for density in draws])
    chosen = np.abs(uncertainty.log_odds[uncertainty.deviation > 0]) < 4
    spread = samples.std(axis=0)[chosen] / uncertainty.deviation[uncertainty.deviation > 0][chosen]
    assert np.median(spread) == pytest.approx(1, abs=0.08)
    assert np.quantile(spread, 0.02) > 0.7
    assert np.quantile(spread, 0.98) < 1.3
    assert samples.mean(axis=0)[chosen] == pytest.approx(
        uncertainty.log_odds[uncertainty.deviation > 0][chosen], abs=0.6
    )


@pytest.mark.slow
def test_a_draw_goes_up_and_down_with_its_neighbours(uncertainty):
    draws = uncertainty.draw(60, random_seed=1)
    samples = np.stack([density.array for density in draws])
    spread = np.argwhere(samples.std(axis=0) > 0.05)
    inner = spread[(spread < np.array(draws.grid.shape) - 1).all(axis=1)][::211]
    alike = [np.corrcoef(samples[:, i, j, k], samples[:, i + 1, j, k])[0, 1] for i, j, k in inner]
    assert np.nanmedian(alike) > 0.8


@pytest.mark.slow
def test_draws_are_the_same_for_a_seed_and_survive_a_file(uncertainty, tmp_path):
    draws = uncertainty.draw(3, random_seed=2)
    assert len(draws) == 3
    draws.save(tmp_path / "density_draws.npz")
    again = DensityDraws.load(tmp_path / "density_draws.npz")
    for number in range(3):
        assert np.array_equal(again.density(number).array, draws.density(number).array)
        assert again.density(number).grid == draws.grid
    assert np.array_equal(uncertainty.draw(3, random_seed=2).density(1).array, draws.density(1).array)
    assert not np.array_equal(uncertainty.draw(3, random_seed=3).density(1).array, draws.density(1).array)
    with pytest.raises(IndexError, match="numbered from 0; there is no 3"):
        draws.density(3)
    with pytest.raises(InputError, match="At least one density is drawn, not 0"):
        uncertainty.draw(0)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"x" * 500])
def test_a_damaged_file_of_draws_is_refused(content, tmp_path):
    path = tmp_path / "density_draws.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"density_draws\.npz holds no draws of a density; run the inference again"):
        DensityDraws.load(path)


@pytest.mark.slow
def test_the_derivative_is_that_of_differences(model, observed, anatomy):
    """The slow twin: grow the tumour with a longer length to the same volume, and compare the log-odds."""
    near = anatomy.tissue.mask & (distance_from(observed.whole, anatomy) < 8)
    _, derivative = vary(model, 0, observed, THRESHOLDS, near)
    volume = float(np.count_nonzero(model.density.array > 0.2) * GRID.voxel_volume_ml)
    ends = []
    for share in (-1, 1):
        moments = _moments_of_volume(
            FIT.seed, FIT.infiltration_length * math.exp(share * STEPS[3]), anatomy.tissue, near, 0.2, volume
        )
        ends.append(next(values for _, step, values in moments if abs(step) < 1e-6))
    expected = (ends[1] - ends[0]) / (2 * STEPS[3])
    inside = np.abs(ends[0]) < 8
    assert np.corrcoef(expected[inside], derivative[3][inside])[0, 1] > 0.97
    assert np.abs(derivative[3][inside] - expected[inside]).mean() < 0.3 * np.abs(expected[inside]).mean()


def test_outlines_where_no_tumour_can_grow_count_wherever_it_is_varied():
    """A tumour drawn over all that is no brain fits as badly by the cells of the tissue as by those of the image."""
    grid = Grid.isotropic(24, 3.0, (0.0, 0.0, 0.0))
    brain = np.linalg.norm(points(grid), axis=-1) < 30
    anatomy = Anatomy("patient", Tissue(grid, brain, brain.astype(np.float32)))
    density = simulate(FIT, anatomy.tissue)
    observed = TumorMasks((density > THRESHOLDS[0]) | ~brain, (density > THRESHOLDS[1]) | ~brain, grid)
    model = Estimate.of("refined", anatomy, (FIT,), Volume(density, grid), observed, observed, THRESHOLDS)
    within, everywhere = (vary(model, 0, observed, THRESHOLDS, cells)[0] for cells in (brain, np.ones_like(brain)))
    np.testing.assert_allclose(within.covariance, everywhere.covariance, rtol=1e-6)


def test_the_moments_have_the_volumes_that_were_asked_for(anatomy):
    volume = 12.0
    near = anatomy.tissue.mask
    for rho_t, step, values in _moments_of_volume(FIT.seed, 1.8, anatomy.tissue, near, 0.2, volume):
        exact = simulate(GrowthParameters.from_identifiable(FIT.seed, 1.8, rho_t, 0.02), anatomy.tissue)
        assert np.count_nonzero(exact > 0.2) * GRID.voxel_volume_ml == pytest.approx(
            volume * math.exp(step * STEPS[4]), rel=0.05
        )
        close = np.abs(log_odds(exact[near])) < 6
        assert np.abs(log_odds(exact[near])[close] - values[close]).mean() < 0.1


def test_a_tumour_as_large_when_it_is_planted_has_no_age(anatomy):
    near = anatomy.tissue.mask
    volume = np.count_nonzero(starting_field(FIT.seed, anatomy.tissue) > 0.1) * GRID.voxel_volume_ml
    assert volume > 0
    ages = [rho_t for rho_t, _, _ in _moments_of_volume(FIT.seed, 1.8, anatomy.tissue, near, 0.1, volume)]
    assert ages
    assert min(ages) > 0


def test_the_covariance_of_a_quadratic_is_its_inverse():
    random = np.random.default_rng(1)
    steps = random.uniform(-1.2, 1.2, (125, 5))
    root = random.standard_normal((5, 5)) * 0.3 + np.eye(5)
    curvature = root @ root.T
    losses = 0.3 * np.exp(np.einsum("ni,ij,nj->n", steps, curvature, steps))
    covariance, untold = covariance_of(steps, losses)
    assert np.allclose(covariance, np.linalg.inv(EFFECTIVE_OBSERVATIONS * curvature), rtol=1e-6)
    assert untold == 0
    assert np.allclose(covariance_of(steps, losses, EFFECTIVE_OBSERVATIONS / 2)[0], 2 * covariance)


def test_what_the_loss_does_not_tell_is_left_open():
    steps = np.random.default_rng(1).uniform(-1.2, 1.2, (125, 5))
    # Only the volume matters, and a length farther out even fits better: no curvature may become negative.
    losses = 0.3 * np.exp(0.5 * steps[:, 4] ** 2 - 0.2 * steps[:, 3] ** 2)
    covariance, untold = covariance_of(steps, losses)
    assert untold == 4
    deviations = np.sqrt(np.diag(covariance))
    assert deviations[:4] == pytest.approx(1 / math.sqrt(SMALLEST_CURVATURE * EFFECTIVE_OBSERVATIONS), rel=1e-3)
    assert deviations[4] == pytest.approx(1 / math.sqrt(0.5 * EFFECTIVE_OBSERVATIONS), rel=0.01)


def test_variance_between_nodes_is_near_the_exact_one():
    random = np.random.default_rng(2)
    field = Kriging(random.uniform(-20, 20, (60, 3)), 15.0, 0.5)
    cells = np.linalg.norm(points(), axis=-1) < 30
    exact = field.variance(GRID.to_ras(np.argwhere(cells)))
    assert np.abs(variance_left(field, cells, GRID) - exact).max() < 0.08
    assert np.abs(variance_left(field, cells, GRID) - exact).mean() < 0.01


@pytest.mark.slow
def test_two_foci_are_varied_by_themselves(anatomy):
    foci = tuple(
        GrowthParameters.from_identifiable(seed, length, 11.0, 0.02)
        for seed, length in (((-14.0, 0.0, 0.0), 1.6), ((16.0, 3.0, 0.0), 2.0))
    )
    density = combined_density([simulate(p, anatomy.tissue) for p in foci])
    observed = TumorMasks(density > 0.6, density > 0.2, GRID)
    model = model_of(foci, anatomy, observed)
    found = estimate_uncertainty(model, assimilate(model, observed, observed, THRESHOLDS), observed, THRESHOLDS)
    assert len(found.spreads) == 2
    assert found.jacobian.shape[0] == 10
    for number, focus in enumerate(foci):
        low, high = found.length_interval(focus=number)
        assert low < focus.infiltration_length < high
        # Where one focus is alone, the other's parameters do not matter.
        i, j, k = np.rint(GRID.to_index(focus.seed)).astype(int)
        cell = (i, j + 5, k)
        index = np.flatnonzero((np.argwhere(found.deviation > 0) == cell).all(axis=1))[0]
        own = found.jacobian[5 * number : 5 * number + 5, index]
        other = np.delete(found.jacobian[:, index], np.s_[5 * number : 5 * number + 5])
        assert np.linalg.norm(other) < 0.5 * np.linalg.norm(own)
    assert len(found.as_json()["foci"]) == 2
    said = [sentence.split(", ")[1] for sentence in found.sentences()[:2]]
    assert said == ["focus 1: 1.6 mm", "focus 2: 2.0 mm"]


@pytest.mark.slow
def test_its_words_and_figures_are_those_of_its_maps(uncertainty, assimilated):
    described = uncertainty.as_json()
    low, high = uncertainty.length_interval()
    assert described["foci"][0]["infiltration_length_patient_mm"] == {"p05": low, "p95": high}
    assert -1 <= described["foci"][0]["length_rho_t_correlation"] <= 1
    volume = np.count_nonzero(assimilated.in_patient.array > 0.05) * GRID.voxel_volume_ml
    assert described["volume_above_level_ml"]["density"] == pytest.approx(volume)
    low_ml, high_ml = uncertainty.volume_interval
    assert low_ml <= volume <= high_ml
    said = uncertainty.sentences()
    assert f"90 % between {low:.1f} and {high:.1f}" in said[0]
    assert said[0].startswith("Infiltration length of the refined tumour: 1.8 mm")
    assert f"above 0.05: {volume:.0f} ml" in said[1]
    assert "One scan does not tell how fast cells move from how fast they grow" in said[-1]


@pytest.mark.slow
def test_intervals_that_were_not_measured_are_said_to_be_none_of_those(uncertainty, anatomy):
    assert not any("How often" in said for said in uncertainty.sentences())
    for other, name in (({"model": "match"}, "the match"), ({"anatomy": replace(anatomy, name="atlas")}, "refined")):
        (said,) = (said for said in replace(uncertainty, **other).sentences() if "How often" in said)
        assert f"{name} " in said
        assert "may hold less often" in said


def test_nothing_is_said_where_no_outline_lies_in_tissue(model, assimilated, observed):
    nothing = TumorMasks(np.zeros_like(observed.core), np.zeros_like(observed.whole), GRID)
    with pytest.raises(InputError, match="No outline of the tumour lies in the brain's tissue"):
        estimate_uncertainty(model, assimilated, nothing, THRESHOLDS)


@pytest.mark.slow
def test_a_tumour_below_the_threshold_cannot_be_varied(anatomy, observed):
    tiny = GrowthParameters.from_identifiable(FIT.seed, 1.8, 0.5, 0.02)
    faint = model_of((tiny,), anatomy, observed)
    with pytest.raises(InputError, match="no density above the whole tumour's threshold"):
        estimate_uncertainty(faint, assimilate(faint, observed, observed, THRESHOLDS), observed, THRESHOLDS)


@pytest.mark.slow
def test_without_a_core_the_whole_tumour_alone_counts_and_tells_half(anatomy, observed, uncertainty):
    whole = TumorMasks(np.zeros_like(observed.core), observed.whole, GRID)
    model = model_of((FIT,), anatomy, whole)
    found = estimate_uncertainty(model, assimilate(model, whole, whole, THRESHOLDS), whole, THRESHOLDS)
    widths = [np.log(np.divide(*one.length_interval()[::-1])) for one in (found, uncertainty)]
    assert widths[0] > widths[1]


@pytest.mark.slow
def test_it_works_in_an_atlas_of_another_scale(anatomy, observed, uncertainty):
    """The same tumour in an atlas whose millimetre is 1.1 of the patient's: lengths and volumes are the patient's."""
    to_atlas = sitk.ScaleTransform(3, (1 / 1.1,) * 3)
    space = SpaceMap(to_atlas, to_atlas.GetInverse())
    atlas = Anatomy("atlas", anatomy.tissue, space, 1.1)
    larger = Grid.isotropic(60, 1.5, (0.0, 0.0, 0.0))
    seen = TumorMasks.on_grid(Volume(observed.core, GRID), Volume(observed.whole, GRID), larger, to_atlas)
    density = Volume(simulate(FIT, anatomy.tissue), GRID)
    model = Estimate.of("refined", atlas, (FIT,), density, seen, observed, THRESHOLDS)
    found = estimate_uncertainty(model, assimilate(model, seen, observed, THRESHOLDS), observed, THRESHOLDS)
    assert found.length_interval()[0] == pytest.approx(1.1 * uncertainty.length_interval()[0], rel=0.1)
    assert found.rho_t_interval()[0] == pytest.approx(uncertainty.rho_t_interval()[0], rel=0.1)
    assert found.volume_interval[0] == pytest.approx(1.1**3 * uncertainty.volume_interval[0], rel=0.15)
    assert found.sd.grid == larger
    centre = tuple(np.rint(larger.to_index(1.1 * np.array(FIT.seed))).astype(int))
    assert found.band()[0].array[centre] > 0.5


@pytest.mark.slow
def test_a_wider_band_for_a_worse_fit(anatomy, observed, uncertainty):
    off = GrowthParameters.from_identifiable((8.0, -6.0, 4.0), 1.8, 13.0, 0.02)
    worse = model_of((off,), anatomy, observed)
    found = estimate_uncertainty(worse, assimilate(worse, observed, observed, THRESHOLDS), observed, THRESHOLDS)
    assert found.residual_rms > uncertainty.residual_rms
    assert found.discrepancy_deviation > uncertainty.discrepancy_deviation
    # What the correction does not believe of the residuals is not sure.
    assert len(found.jacobian) == 6
    seen = outline_residuals(worse.density, anatomy.tissue, observed, THRESHOLDS).clustered()
    unused = seen.residuals - np.clip(seen.residuals, -1, 1)
    nearest = cKDTree(GRID.to_ras(np.argwhere(found.deviation > 0))).query(seen.points)[1]
    assert np.corrcoef(unused, found.jacobian[5][nearest])[0, 1] > 0.8
    assert (found.deviation[found.deviation > 0] >= np.abs(found.jacobian[5])).all()


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 90, math.nan])
def test_a_band_has_a_probability(confidence):
    with pytest.raises(InputError, match="probability between 0 and 1"):
        quantile(confidence)


def test_what_has_no_parameters_and_no_level_is_refused(assimilated, model, observed):
    with pytest.raises(InputError, match="assimilated has no parameters"):
        estimate_uncertainty(assimilated, assimilated, observed, THRESHOLDS)
    for level in (5, 0, 1e-6):
        with pytest.raises(InputError, match=rf"a density from 0\.001 to 0\.999, not {level}"):
            estimate_uncertainty(model, assimilated, observed, THRESHOLDS, level=level)


def test_it_reports_and_can_be_cancelled(model, assimilated, observed):
    seen = []

    def stop(value, message):
        seen.append(value)
        if len(seen) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        estimate_uncertainty(model, assimilated, observed, THRESHOLDS, progress=stop)
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert len(MOMENTS) == 5
