"""The best moment of a trajectory, interpolated and exact."""

from threading import Event

import numpy as np
import pytest
from known_tumour import THRESHOLDS, masks_of

from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.estimates.moments import MOMENTS_PER_STEP, best_exact_moment, best_moment
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.growth import grow_trajectory
from TumorQueryLib.growth.solver import time_step


def exact_scores(seed, length, times, tissue, masks):
    return [
        Fit.of(Volume(moment.on_grid(tissue.grid.shape), tissue.grid), masks, THRESHOLDS).dice_sum
        for moment in grow_trajectory(seed, length, tissue, rho_t=times)
    ]


def test_best_moment_agrees_with_moments_solved_one_by_one(case, tissue):
    """The interpolated score against the densities at many exact times."""
    seed = tuple(np.add(case.parameters.seed, (1.0, 1.0, 0.0)))
    score, rho_t = best_moment(seed, 2.2, tissue, case.masks, THRESHOLDS)
    times = np.linspace(0.7 * rho_t, 1.15 * rho_t, 31)
    exact = exact_scores(seed, 2.2, times, tissue, case.masks)
    assert score == pytest.approx(max(exact), abs=0.01)
    assert rho_t == pytest.approx(times[int(np.argmax(exact))], rel=0.03)


def test_exact_moment_is_the_true_one_within_reach(case, tissue):
    """From two parts of a step beside the moment at which the masks were taken, that moment is found."""
    true, length = case.parameters.rho_t, case.parameters.infiltration_length
    part = time_step(length, tissue.grid.spacing) / MOMENTS_PER_STEP
    found = best_exact_moment(case.parameters.seed, length, true - 2 * part, tissue, case.masks, THRESHOLDS)
    assert found == pytest.approx(true, rel=1e-9)
    assert exact_scores(case.parameters.seed, length, [found], tissue, case.masks) == [2.0]


def test_tumour_that_never_grew_has_a_moment_all_the_same(case, tissue):
    assert best_exact_moment(case.parameters.seed, 2.0, 0.0, tissue, case.masks, THRESHOLDS) > 0


def test_halted_trajectory_ends_at_once(case, tissue):
    halt = Event()
    halt.set()
    assert best_moment(case.parameters.seed, 2.0, tissue, case.masks, THRESHOLDS, halt) == (0.0, 0.0)


def test_a_target_without_core_is_scored_by_the_rule_of_empty_sets(case, tissue):
    """Dice(empty, empty) = 1 while no core is predicted either."""
    moments = grow_trajectory(case.parameters.seed, 8.0, tissue, every_step=True)
    early = next(m for m in moments if m.volume_ml > 2 and m.density.max() <= THRESHOLDS[0])
    masks = masks_of(early.on_grid(tissue.grid.shape), tissue.grid)
    score, rho_t = best_moment(case.parameters.seed, 8.0, tissue, masks, THRESHOLDS)
    assert score == pytest.approx(2.0, abs=1e-6)
    assert rho_t == pytest.approx(early.rho_t, rel=1e-6)
