from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.growth import (
    INITIAL_CONDITION,
    GrowthParameters,
    grow_trajectory,
    reference,
    simulate,
    solver,
    starting_field,
)


def homogeneous(shape, spacing):
    """White matter everywhere, the grid's centre at (0, 0, 0)."""
    grid = centred_grid(shape, np.diag([*np.broadcast_to(spacing, 3), 1.0]))
    return Tissue.from_maps(np.ones(shape, np.float32), np.zeros(shape, np.float32), None, grid)


def folded(grid, number=0):
    """A lump of white and grey matter with fluid-filled gaps, as awkward as a brain."""
    rng = np.random.default_rng(number)
    rough = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 1.5)
    rough /= rough.std()
    points = (np.indices(grid.shape).T / (np.array(grid.shape) - 1) * 2 - 1).T
    inside = (points**2).sum(axis=0) < 1.1
    centre = (points**2).sum(axis=0) < 0.1
    white = inside * np.clip(0.6 + 0.3 * rough, 0, 1)
    grey = inside * np.clip(0.5 - 0.5 * rough, 0, 1)
    fluid = inside * np.clip(rough, 0, 1)
    white[centre], fluid[centre] = 1, 0
    return Tissue.from_maps(white, grey, fluid, grid)


@pytest.fixture(scope="module")
def brain(atlas):
    return Tissue.from_atlas(atlas)


@pytest.fixture(scope="module")
def brain_seeds(atlas):
    """Three places in deep white matter, cortex and in between, RAS mm."""
    rng = np.random.default_rng(4)
    regions = (
        atlas.white_matter > 0.95,
        atlas.grey_matter > 0.8,
        (atlas.white_matter > 0.3) & (atlas.grey_matter > 0.3),
    )
    cells = [rng.choice(np.argwhere(region)) + rng.uniform(-0.4, 0.4, 3) for region in regions]
    return [tuple(atlas.grid.to_ras(cell)) for cell in cells]


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def mass(density, tissue):
    return density.sum(dtype=np.float64) * tissue.grid.spacing.prod()


def largest_difference(a, b):
    return float(np.abs(np.asarray(a, float) - b).max())


# The twin


@pytest.mark.parametrize("name", sorted(AWKWARD_AFFINES))
def test_solver_and_twin_agree_on_any_grid(name):
    grid = centred_grid((34, 30, 26), AWKWARD_AFFINES[name], (5, 6, 7))
    tissue = folded(grid)
    seed = tuple(grid.to_ras([16.4, 14.7, 13.2]))
    for length, rho_t in ((1.3, 7.1), (3.0, 6.3)):
        parameters = GrowthParameters.from_identifiable(seed, length, rho_t, 0.03)
        density, twin = simulate(parameters, tissue), reference.simulate(parameters, tissue)
        # What the active box leaves out is 1e-5 at its sides.
        assert largest_difference(density, twin) < 5e-4
        assert twin.max() > 0.2


@pytest.mark.slow
@examples(15)
@given(number=st.integers(0, 10**6), length=st.floats(0.4, 6.0), rho_t=st.floats(0.05, 12.0))
def test_solver_and_twin_agree_from_any_start(number, length, rho_t):
    grid = Grid((13, 17, 11), np.diag([2.0, 1.0, 1.5, 1.0]))
    tissue = folded(grid, number)
    rng = np.random.default_rng(number)
    initial = rng.random(grid.shape) * (rng.random(grid.shape) < 0.3)
    parameters = GrowthParameters.from_identifiable((13.0, 8.0, 7.0), length, rho_t, 0.1)
    twin = reference.simulate(parameters, tissue, initial)
    assert largest_difference(simulate(parameters, tissue, initial), twin) < 1e-5


def test_the_active_box_gives_what_the_whole_grid_gives(brain, brain_seeds, monkeypatch):
    parameters = GrowthParameters.from_identifiable(brain_seeds[0], 2.0, 11.0, 0.1)
    boxed = simulate(parameters, brain)
    # Any density at all opens the box, so it is the whole grid almost at once.
    monkeypatch.setattr(solver, "BOX_THRESHOLD", -1.0)
    whole = simulate(parameters, brain)
    assert dice(boxed > 0.2, whole > 0.2) > 0.998
    assert dice(boxed > 0.6, whole > 0.6) > 0.998
    assert largest_difference(boxed, whole) < 0.01


# The equation


@examples(10)
@given(factor=st.floats(0.01, 100.0), length=st.floats(0.8, 3.0), rho_t=st.floats(3.0, 9.0))
def test_only_length_and_rho_t_matter(factor, length, rho_t):
    tissue = folded(Grid((24, 22, 20), np.diag([1.5, 1.5, 1.5, 1.0])))
    seed = tuple(tissue.grid.centre)
    one = GrowthParameters.from_identifiable(seed, length, rho_t, 0.05)
    other = GrowthParameters(seed, one.diffusivity * factor, one.proliferation * factor, one.duration / factor)
    np.testing.assert_array_equal(simulate(one, tissue), simulate(other, tissue))


@pytest.mark.slow
def test_without_proliferation_the_mass_stays(brain, brain_seeds):
    for seed in brain_seeds:
        for spread in (0.5, 30.0, 400.0):
            density = simulate(GrowthParameters(seed, spread / 100, 0.0, 100.0), brain)
            assert mass(density, brain) == pytest.approx(INITIAL_CONDITION["mass_mm3"], rel=1e-6)


@pytest.mark.slow
def test_the_mass_of_a_ragged_start_stays_too():
    tissue = folded(Grid((30, 25, 20), np.diag([1.0, 1.5, 2.0, 1.0])))
    initial = (np.random.default_rng(1).random(tissue.grid.shape) < 0.2).astype(np.float32)
    density = simulate(GrowthParameters((0, 0, 0), 0.1, 0.0, 200.0), tissue, initial)
    assert mass(density, tissue) == pytest.approx(mass(initial * tissue.mask, tissue), rel=1e-6)


def test_diffusion_spreads_a_gaussian_as_it_should():
    tissue = homogeneous((61, 61, 61), 1.0)
    density = simulate(GrowthParameters((0.2, -0.3, 0.4), 0.2, 0.0, 50.0), tissue)
    variance = INITIAL_CONDITION["width_mm"] ** 2 + 2 * 0.2 * 50.0
    points = tissue.grid.to_ras(np.moveaxis(np.indices(tissue.grid.shape), 0, -1))
    distance = ((points - (0.2, -0.3, 0.4)) ** 2).sum(axis=-1)
    exact = INITIAL_CONDITION["mass_mm3"] * (2 * np.pi * variance) ** -1.5 * np.exp(-distance / (2 * variance))
    assert largest_difference(density, exact) < 0.02 * exact.max()


def test_growth_without_neighbours_is_logistic():
    white = np.zeros((5, 5, 5), np.float32)
    white[2, 2, 2] = 1
    tissue = Tissue.from_maps(white, np.zeros_like(white), None, Grid((5, 5, 5), np.eye(4)))
    initial = np.full(white.shape, 0.01, np.float32)
    density = simulate(GrowthParameters((2, 2, 2), 0.1, 0.1, 37.0), tissue, initial)
    assert density[2, 2, 2] == pytest.approx(1 / (1 + 99 * np.exp(-3.7)), rel=1e-5)
    assert np.count_nonzero(density) == 1


def errors_of_halved_steps(tissue, length):
    """Mean errors of a growing tumour with the longest step, with half of it and with a quarter."""
    points = tissue.grid.to_ras(np.moveaxis(np.indices(tissue.grid.shape), 0, -1)) - tissue.grid.centre
    initial = 0.8 * np.exp(-(points**2).sum(axis=-1) / 60)
    # A multiple of the longest step.
    rho_t = 8 * solver.time_step(length, tissue.grid.spacing)
    parameters = GrowthParameters.from_identifiable((0, 0, 0), length, rho_t, 0.1)
    exact = reference.simulate(parameters, tissue, initial, longest_step=rho_t / 256)
    return [np.abs(simulate(parameters, tissue, initial, step_share=s) - exact).mean() for s in (1, 1 / 2, 1 / 4)]


@pytest.mark.parametrize(
    ("tissue", "length"),
    [
        (folded(Grid((26, 24, 22), np.diag([1.5, 1.5, 1.5, 1.0]))), 1.0),
        (homogeneous((26, 24, 22), 1.5), 3.0),
    ],
)
def test_second_order_in_time(tissue, length):
    for coarse, fine in pairwise(errors_of_halved_steps(tissue, length)):
        assert coarse / fine > 3.7


@pytest.mark.parametrize("length", [2.0, 4.0, 8.0, 12.0])
def test_nearly_second_order_in_awkward_tissue(length):
    tissue = folded(Grid((26, 24, 22), np.diag([1.5, 1.5, 1.5, 1.0])))
    # The axes' diffusion does not commute at borders of tissue; where it does, the error falls fourfold.
    for coarse, fine in pairwise(errors_of_halved_steps(tissue, length)):
        assert coarse / fine > 3


def agreement(parameters, brain, **options):
    """The lesser Dice of the regions above 0.2 and 0.6, of those there are, with those of a quarter of the step."""
    density, exact = simulate(parameters, brain, **options), simulate(parameters, brain, step_share=0.25, **options)
    return min(dice(density > level, exact > level) for level in (0.2, 0.6) if (exact > level).any())


@pytest.mark.slow
def test_steps_are_short_enough_in_a_brain(brain, brain_seeds):
    for seed, length, rho_t in zip(brain_seeds, (1.0, 2.0, 4.0), (18.0, 11.0, 9.5)):
        assert agreement(GrowthParameters.from_identifiable(seed, length, rho_t, 0.1), brain) >= 0.99


@pytest.mark.slow
def test_steps_are_short_enough_for_a_long_length(brain, brain_seeds):
    """Where a core has come up and the density is flat, so that errors of the density move its outline most."""
    *_, last = grow_trajectory(brain_seeds[2], 8.0, brain, every_step=True, threshold=0.6, stop_volume_ml=5)
    parameters = GrowthParameters.from_identifiable(brain_seeds[2], 8.0, last.rho_t, 0.1)
    assert agreement(parameters, brain) >= 0.99
    assert agreement(parameters, brain, solver_version="1") < 0.99


@pytest.mark.parametrize("length", [1.3, 3.0, 8.0])
def test_the_first_versions_steps_can_be_taken_again(length):
    grid = Grid((26, 24, 22), np.diag([1.5, 1.5, 1.5, 1.0]))
    tissue = folded(grid)
    parameters = GrowthParameters.from_identifiable(tuple(grid.centre), length, 5.0, 0.1)
    first = simulate(parameters, tissue, solver_version="1")
    twin = reference.simulate(parameters, tissue, longest_step=min(0.8, 0.75 * 1.5 / length))
    assert largest_difference(first, twin) < 5e-4
    same_steps = length <= 1.5 * 4 / 3
    assert np.array_equal(first, simulate(parameters, tissue)) == same_steps
    moment = next(grow_trajectory(grid.centre, length, tissue, rho_t=[5.0], solver_version="1"))
    np.testing.assert_array_equal(moment.on_grid(grid.shape), first)


def test_an_unknown_version_of_the_solver_is_refused():
    tissue = homogeneous((12, 12, 12), 1.5)
    for proliferation in (0.0, 0.1):
        with pytest.raises(InputError, match="has the versions 1 and 2, not '3'; update the software"):
            simulate(GrowthParameters((0, 0, 0), 0.1, proliferation, 10), tissue, solver_version="3")
    with pytest.raises(InputError, match="versions 1 and 2"):
        grow_trajectory((0, 0, 0), 2.0, tissue, every_step=True, solver_version="0")


def test_first_order_or_better_in_space():
    # The same tumour, 24 mm of tissue, cells of 2, 1 and 0.5 mm, compared as means over the coarsest.
    means = []
    for cells in (12, 24, 48):
        tissue = homogeneous((cells, cells, cells), 24 / cells)
        parameters = GrowthParameters.from_identifiable((0.7, -0.4, 0.3), 2.0, 5.0, 0.1)
        density = simulate(parameters, tissue, step_share=0.25)
        factor = cells // 12
        means.append(density.reshape(12, factor, 12, factor, 12, factor).mean(axis=(1, 3, 5)))
    assert np.abs(means[0] - means[1]).mean() / np.abs(means[1] - means[2]).mean() > 2


@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_planar_front_runs_at_bramsons_speed(axis, ratio):
    spacing = 1.5
    length = ratio * spacing
    shape = [2, 2, 2]
    shape[axis] = int(2 * ratio * 40) + 60
    tissue = homogeneous(shape, spacing)
    initial = np.zeros(shape)
    np.moveaxis(initial, axis, 0)[:10] = 1
    places = []
    for moment in grow_trajectory((0, 0, 0), length, tissue, rho_t=[15, 40], initial=initial):
        line = np.moveaxis(moment.on_grid(tissue.grid.shape), axis, 0)[:, 0, 0]
        last = np.flatnonzero(line > 0.5)[-1]
        places.append((last + (line[last] - 0.5) / (line[last] - line[last + 1])) * spacing)
    # Speed 2 sqrt(D rho) - 3/2 sqrt(D/rho) / t, integrated between the two times.
    expected = length * (2 * (40 - 15) - 1.5 * np.log(40 / 15))
    assert places[1] - places[0] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_brain_has_the_mirrored_tumour(axis):
    grid = centred_grid((25, 23, 27), np.diag([1.5, 1.2, 1.8, 1.0]))
    tissue = folded(grid)
    mirrored = Tissue(grid, np.flip(tissue.mask, axis).copy(), np.flip(tissue.mobility, axis).copy())
    seed = np.array([0.6, -0.5, 1.1])
    sign = np.ones(3)
    sign[axis] = -1
    grown, other = (
        simulate(GrowthParameters.from_identifiable(tuple(place), 2.0, 7.0, 0.1), anatomy)
        for place, anatomy in ((seed, tissue), (seed * sign, mirrored))
    )
    assert largest_difference(grown, np.flip(other, axis)) < 1e-5


@pytest.mark.slow
def test_density_keeps_its_bounds_and_its_tissue(brain, brain_seeds):
    for seed in brain_seeds:
        for length, rho_t in ((0.3, 40.0), (1.0, 60.0), (8.0, 6.0)):
            density = simulate(GrowthParameters.from_identifiable(seed, length, rho_t, 0.1), brain)
            assert density.dtype == np.float32
            assert density.min() >= 0
            assert density.max() <= 1
            assert not density[~brain.mask].any()


@pytest.mark.slow
@examples(20)
@given(number=st.integers(0, 10**6), length=st.floats(0.1, 30.0))
def test_a_chequered_start_keeps_its_bounds(number, length):
    rng = np.random.default_rng(number)
    tissue = folded(Grid((9, 12, 10), np.diag([1.5, 1.0, 2.0, 1.0])), number)
    initial = (rng.random(tissue.grid.shape) < 0.5).astype(np.float32)
    for moment in grow_trajectory((0, 0, 0), length, tissue, rho_t=[0.01, 0.5, 3.0], initial=initial):
        assert moment.density.min() >= 0
        assert moment.density.max() <= 1


# The start


@pytest.mark.parametrize("offset", [(0, 0, 0), (0.5, 0.5, 0.5), (0.49, -0.2, 0.1)])
def test_the_start_has_its_mass_and_centre_wherever_the_seed_is(offset):
    tissue = homogeneous((31, 31, 31), 1.5)
    seed = tuple(1.5 * np.array(offset))
    density = starting_field(seed, tissue)
    assert mass(density, tissue) == pytest.approx(INITIAL_CONDITION["mass_mm3"], rel=1e-6)
    centre = tissue.grid.to_ras(ndimage.center_of_mass(density))
    np.testing.assert_allclose(centre, seed, atol=0.01)
    assert density.max() < 1


def test_the_start_is_cut_to_tissue_and_keeps_its_mass(brain, brain_seeds):
    for seed in brain_seeds:
        density = starting_field(seed, brain)
        assert not density[~brain.mask].any()
        assert mass(density, brain) == pytest.approx(INITIAL_CONDITION["mass_mm3"], rel=1e-6)


def test_an_islet_too_small_for_the_start_is_refused():
    white = np.zeros((9, 9, 9), np.float32)
    white[4, 4, 4] = 1
    tissue = Tissue.from_maps(white, np.zeros_like(white), None, Grid((9, 9, 9), np.eye(4)))
    with pytest.raises(InputError, match="too small"):
        simulate(GrowthParameters((4, 4, 4), 0.1, 0.1, 10), tissue)


def test_a_seed_outside_is_refused_when_called(brain):
    with pytest.raises(InputError, match="nearest tissue"):
        grow_trajectory((0, 0, 500), 2.0, brain, every_step=True)


@pytest.mark.parametrize(
    ("initial", "said"),
    [
        (np.zeros((8, 8, 8)), "0 everywhere"),
        (np.full((8, 8, 8), 1.5), r"\[0, 1\]"),
        (np.full((8, 8, 8), np.nan), r"\[0, 1\]"),
        (np.ones((8, 8, 7)), "shape"),
    ],
)
def test_a_starting_field_that_is_no_density_is_refused(initial, said):
    with pytest.raises(InputError, match=said):
        simulate(GrowthParameters((0, 0, 0), 0.1, 0.1, 10), homogeneous((8, 8, 8), 1.5), initial)


# Trajectories


@pytest.mark.slow
@pytest.mark.parametrize("length", [0.9, 2.345678912, 5.5])
def test_a_moment_simulated_again_is_the_same_to_the_bit(brain, brain_seeds, length):
    rng = np.random.default_rng(8)
    seed = brain_seeds[2]
    steps = list(grow_trajectory(seed, length, brain, every_step=True, stop_volume_ml=30))
    between = [0.37 * steps[n].rho_t + 0.63 * steps[n + 1].rho_t for n in (2, len(steps) // 2)]
    asked = sorted([steps[n].rho_t for n in (1, len(steps) // 2, -1)] + between)
    for moment in grow_trajectory(seed, length, brain, rho_t=asked):
        stored = GrowthParameters.from_identifiable(seed, length, moment.rho_t, rng.uniform(0.002, 0.2))
        again = simulate(GrowthParameters(seed, stored.diffusivity, stored.proliferation, stored.duration), brain)
        np.testing.assert_array_equal(again, moment.on_grid(brain.grid.shape))
    # The last step end is still in memory: it is the one of the times too.
    np.testing.assert_array_equal(steps[-1].on_grid(brain.grid.shape), again)


@pytest.mark.parametrize("threshold", [0.2, 0.6])
def test_a_moments_volume_is_that_of_its_density_above_the_threshold(brain, brain_seeds, threshold):
    seed = brain_seeds[1]
    ends = grow_trajectory(seed, 1.7, brain, every_step=True, threshold=threshold, stop_volume_ml=6)
    between = grow_trajectory(seed, 1.7, brain, rho_t=[3.0, 7.1, 9.9], threshold=threshold)
    for moment in [*ends][-1:] + [*between][-1:]:
        count = np.count_nonzero(moment.density > np.float32(threshold))
        assert count > 100
        assert moment.volume_ml == pytest.approx(count * brain.grid.voxel_volume_ml)


def test_moments_at_times_are_what_simulations_give(brain, brain_seeds):
    times = [0.0, 1.0, 4.8, 5.6000001]
    moments = [m.on_grid(brain.grid.shape) for m in grow_trajectory(brain_seeds[0], 1.4, brain, rho_t=times)]
    np.testing.assert_array_equal(moments[0], starting_field(brain_seeds[0], brain))
    for time, density in zip(times[1:], moments[1:]):
        parameters = GrowthParameters.from_identifiable(brain_seeds[0], 1.4, time, 0.07)
        np.testing.assert_array_equal(simulate(parameters, brain), density)


def test_every_step_until_a_volume(brain, brain_seeds):
    volumes = [
        (m.rho_t, m.volume_ml) for m in grow_trajectory(brain_seeds[0], 2.0, brain, every_step=True, stop_volume_ml=15)
    ]
    step = solver.time_step(2.0, brain.grid.spacing)
    np.testing.assert_allclose([time for time, _ in volumes], np.arange(len(volumes)) * step)
    assert volumes[-1][1] >= 15 > volumes[-2][1]


def test_a_full_brain_ends_the_trajectory():
    tissue = homogeneous((12, 12, 12), 1.5)
    everything = 12**3 * tissue.grid.voxel_volume_ml
    *_, last = grow_trajectory((0, 0, 0), 2.0, tissue, every_step=True, stop_volume_ml=everything + 1)
    assert last.volume_ml == pytest.approx(everything)


def test_a_tumour_that_changes_no_more_ends_early():
    tissue = homogeneous((12, 12, 12), 1.5)
    aeons = GrowthParameters((0, 0, 0), 0.5, 0.1, 1e12)
    np.testing.assert_allclose(simulate(aeons, tissue), 1, atol=1e-6)


@pytest.mark.slow
def test_trajectories_in_threads_are_those_of_one_thread(brain, brain_seeds):
    def grow(seed):
        return [m.on_grid(brain.grid.shape) for m in grow_trajectory(seed, 2.0, brain, rho_t=[4.4, 8.1])]

    alone = [grow(seed) for seed in brain_seeds]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(grow, brain_seeds))
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"rho_t": [1], "every_step": True},
        {"rho_t": [2, 1]},
        {"rho_t": [-1]},
        {"rho_t": [float("nan")]},
        {"rho_t": [float("inf")]},
        {"rho_t": [1], "infiltration_length": 0.0},
        {"rho_t": [1], "infiltration_length": float("nan")},
    ],
)
def test_a_trajectory_asked_for_wrongly_is_refused(wrong):
    arguments = {"infiltration_length": 2.0} | wrong
    with pytest.raises(InputError):
        grow_trajectory((0, 0, 0), tissue=homogeneous((12, 12, 12), 1.5), **arguments)
