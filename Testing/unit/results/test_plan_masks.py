"""Margins, densest voxels and distances of outlines, against slow and obvious twins."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import dilated, distance_from
from TumorQueryLib.geometry.transforms import rotation_matrix
from TumorQueryLib.results.plan_masks import densest_of, margin_plan, outline_distances, ranked


def grid_of(spacing, degrees=(0, 0, 0), flips=(1, 1, 1), shape=(11, 12, 7)):
    affine = np.eye(4)
    affine[:3, :3] = rotation_matrix(degrees) @ np.diag(np.array(spacing) * flips)
    affine[:3, 3] = (5.0, -40.0, 12.0)
    return Grid(shape, affine)


GRIDS = {
    "isotropic": grid_of((1.0, 1.0, 1.0)),
    "thick slices": grid_of((0.9, 0.9, 5.5)),
    "oblique, flipped": grid_of((1.2, 0.8, 2.0), (20, -15, 30), (-1, 1, -1)),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("margin", [1.0, 2.7, 5.5])
def test_a_margin_is_what_every_pair_of_voxels_says(name, margin):
    grid, random = GRIDS[name], np.random.default_rng(3)
    target = random.random(grid.shape) < 0.01
    within = random.random(grid.shape) < 0.8
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    near = np.zeros(grid.shape, bool)
    for point in points[target]:
        near |= np.linalg.norm(points - point, axis=-1) <= margin + 1e-3
    distance = distance_from(Volume(target, grid))
    np.testing.assert_array_equal(margin_plan(target, distance, margin, within), target | (near & within))
    np.testing.assert_array_equal(dilated(Volume(target, grid), margin), near)


def ball_and_margin(spacing, offset):
    """Relative error of the volume of 15 mm around a ball of 20 mm, whose centre is off a voxel's by a share of it."""
    shape = tuple(int(n) for n in np.ceil(76 / np.array(spacing)) + 1)
    axes = [(np.arange(n) - (n - 1) / 2 + part) * mm for n, mm, part in zip(shape, spacing, offset)]
    ball = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2) <= 20
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    grown = margin_plan(ball, distance_from(Volume(ball, grid)), 15.0, np.ones(shape, bool))
    return grown.sum() * np.prod(spacing) / (4 / 3 * np.pi * 35**3) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacing", "low", "high"),
    [((0.5, 0.5, 0.5), -0.006, -0.0045), ((1.0, 1.0, 1.0), -0.016, -0.0115), ((1.0, 1.0, 5.5), -0.051, -0.042)],
)
def test_a_ball_s_margin_falls_short_by_what_the_documentation_says(spacing, low, high):
    """Distances from centre to centre lack up to half a voxel at the ball and half at the margin's end."""
    for offset in ((0.0, 0.0, 0.0), (0.3, -0.4, 0.45)):
        assert low < ball_and_margin(spacing, offset) < high


def test_a_box_s_margin_has_the_analytic_volume():
    grid = Grid.isotropic(60, 0.5, (0.0, 0.0, 0.0))
    box = np.zeros(grid.shape, bool)
    box[26:35, 26:35, 26:35] = True  # 4 mm from the first centre to the last
    grown = margin_plan(box, distance_from(Volume(box, grid)), 10.0, np.ones(grid.shape, bool))
    a, r = 4.0, 10.0
    analytic = a**3 + 6 * a**2 * r + 3 * np.pi * a * r**2 + 4 / 3 * np.pi * r**3
    assert grown.sum() / 8 == pytest.approx(analytic, rel=0.005)


def densest_voxels(density, distance, within, count, smallest_part=0):
    return densest_of(ranked(density, distance, within), density.shape, count, smallest_part)


def slow_large_parts(voxels, shape, smallest):
    chosen = np.zeros(shape, bool)
    for voxel in voxels:
        chosen[voxel] = True
    labels, found = ndimage.label(chosen)
    for label in range(1, found + 1):
        if (labels == label).sum() < smallest:
            chosen[labels == label] = False
    return chosen


def slow_densest(density, distance, within, count, smallest):
    """One more voxel at a time until the large parts are enough; what that would overshoot grows voxel by voxel."""
    order = sorted(map(tuple, np.argwhere(within)), key=lambda v: (-density[v], distance[v], v))
    if not slow_large_parts(order[:count], density.shape, smallest).any():
        return slow_large_parts(order[:count], density.shape, 0)
    for number in range(count, len(order) + 1):
        chosen = slow_large_parts(order[:number], density.shape, smallest)
        if chosen.sum() == count:
            return chosen
        if chosen.sum() > count:
            chosen = slow_large_parts(order[: number - 1], density.shape, smallest)
            break
    while chosen.sum() < count:
        beside = [v for v in order if not chosen[v] and any(chosen[n] for n in neighbours_of(v, density.shape))]
        chosen[(beside or [v for v in order if not chosen[v]])[0]] = True
    return chosen


def neighbours_of(voxel, shape):
    for step in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
        moved = tuple(a + b for a, b in zip(voxel, step))
        if all(0 <= a < n for a, n in zip(moved, shape)):
            yield moved


@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.02, 1.0),
    density_of_within=st.sampled_from([0.4, 0.6, 0.95]),
    smallest=st.integers(0, 12),
    levels=st.integers(1, 6),
)
@examples(80)
@example(seed=0, share=0.8125, density_of_within=0.4, smallest=3, levels=2)  # nothing more beside the large parts
def test_the_densest_voxels_are_those_of_the_slow_search(seed, share, density_of_within, smallest, levels):
    random = np.random.default_rng(seed)
    shape = (6, 5, 4)
    density = random.integers(0, levels, shape) / 7.0  # ties
    distance = random.integers(0, 3, shape).astype(float)
    within = random.random(shape) < density_of_within
    count = max(1, round(share * within.sum()))
    chosen = densest_voxels(density, distance, within, count, smallest)
    assert chosen.sum() == count
    assert not (chosen & ~within).any()
    np.testing.assert_array_equal(chosen, slow_densest(density, distance, within, count, smallest))


def test_islands_give_way_to_the_next_densest_voxels_of_the_large_part():
    density = np.zeros((20, 20, 3))
    density[2:8, 2:8] = 0.9
    density[8:10, 2:8] = 0.3
    density[15, 15, 1] = 0.8  # denser than the rim, but alone
    distance = np.zeros(density.shape)
    within = np.ones(density.shape, bool)
    count = 6 * 6 * 3 + 1
    assert densest_voxels(density, distance, within, count)[15, 15, 1]
    chosen = densest_voxels(density, distance, within, count, smallest_part=2)
    assert not chosen[15, 15, 1]
    assert chosen[8, 2, 0]
    assert chosen.sum() == count


def test_an_island_that_would_bring_too_much_is_left_for_what_grows_from_the_rest():
    """Two bars joined by the voxel that comes next: one more voxel would bring the whole second bar."""
    density = np.zeros((12, 1, 1))
    density[:5, 0, 0] = 0.9
    density[6:9, 0, 0] = 0.8  # a part of three, too small by itself
    density[5, 0, 0] = 0.5  # joins them
    chosen = densest_voxels(density, np.zeros(density.shape), np.ones(density.shape, bool), 6, smallest_part=4)
    np.testing.assert_array_equal(np.flatnonzero(chosen), [0, 1, 2, 3, 4, 5])


def test_where_all_large_parts_are_too_little_the_plan_holds_them_all():
    """The pair counts as large, though single voxels are denser than its second one."""
    density = np.array([0.9, 0.9, 0.9, 0.0, 0.5, 0.1, 0.0, 0.4, 0.0, 0.3]).reshape(10, 1, 1)
    chosen = densest_voxels(density, np.zeros(density.shape), density > 0, 6, smallest_part=2)
    np.testing.assert_array_equal(np.flatnonzero(chosen), [0, 1, 2, 4, 5, 7])


def test_of_equally_dense_voxels_the_nearer_comes_first_then_the_lower_index():
    shape = (5, 1, 1)
    distance = np.array([3.0, 1.0, 1.0, 0.0, 2.0]).reshape(shape)
    for count, expected in ((1, [3]), (2, [1, 3]), (3, [1, 2, 3]), (4, [1, 2, 3, 4])):
        chosen = densest_voxels(np.zeros(shape), distance, np.ones(shape, bool), count)
        assert np.flatnonzero(chosen).tolist() == expected


def test_more_than_there_is_is_refused():
    with pytest.raises(InputError, match=r"9 voxels was asked for, and where it may lie there are 8"):
        densest_voxels(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), np.ones((2, 2, 2), bool), 9)


@pytest.mark.parametrize("name", GRIDS)
def test_distances_of_outlines_are_those_of_every_pair(name):
    grid, random = GRIDS[name], np.random.default_rng(5)
    first, second = (ndimage.gaussian_filter(random.random(grid.shape), 1.2) > 0.5 for _ in range(2))
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    outlines = []
    for mask in (first, second):
        padded = np.pad(mask, 1)
        inner = np.ones_like(mask)
        for axis, step in itertools.product(range(3), (-1, 1)):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        outlines.append(points[mask & ~inner])
    apart = np.linalg.norm(outlines[0][:, None] - outlines[1][None], axis=-1)
    expected = np.concatenate([apart.min(axis=1), apart.min(axis=0)])
    found = outline_distances(first, second, grid)
    assert found["mean"] == pytest.approx(expected.mean(), rel=1e-5)
    assert found["p95"] == pytest.approx(np.percentile(expected, 95), rel=1e-5)
    assert found["max"] == pytest.approx(expected.max(), rel=1e-5)
    assert outline_distances(first, np.zeros_like(first), grid) is None
