"""Kriging: the field at its points, far from them, and its random draws."""

import numpy as np
import pytest

from TumorQueryLib.estimates.kriging import Kriging, matern32, prior_fields

LENGTH = 15.0


@pytest.fixture
def points():
    return np.random.default_rng(3).uniform(0, 60, (40, 3))


def test_the_mean_is_the_solution_of_the_plain_equations(points):
    values = np.random.default_rng(4).standard_normal((40, 2))
    places = np.random.default_rng(5).uniform(-10, 70, (25, 3))

    def correlation(a, b):
        return np.array([[matern32(np.linalg.norm(p - q), LENGTH) for q in b] for p in a])

    plain = correlation(places, points) @ np.linalg.inv(correlation(points, points) + 0.25 * np.eye(40)) @ values
    assert np.allclose(Kriging(points, LENGTH, 0.5).mean(places, values), plain, atol=1e-5)


def test_without_a_nugget_the_field_is_what_was_observed(points):
    values = np.random.default_rng(4).standard_normal((40, 1))
    kriging = Kriging(points, LENGTH, 1e-4)
    assert np.allclose(kriging.mean(points, values), values, atol=1e-3)
    assert kriging.variance(points).max() < 1e-3


def test_far_from_all_points_nothing_is_known(points):
    kriging = Kriging(points, LENGTH, 0.5)
    far = np.array([[500.0, 0, 0]])
    assert abs(kriging.mean(far, np.ones((40, 1)))).max() < 1e-6
    assert kriging.variance(far) == pytest.approx(1)


def test_without_points_nothing_is_known_anywhere():
    kriging = Kriging(np.empty((0, 3)), LENGTH, 0.5)
    places = np.zeros((2, 3))
    assert not kriging.mean(places, np.empty((0, 1))).any()
    assert (kriging.variance(places) == 1).all()


def test_the_correlation_falls_from_one():
    distance = np.array([0.0, 5.0, 15.0, 60.0])
    # (1 + sqrt(3)) exp(-sqrt(3)) at one length.
    assert matern32(distance, 15.0)[[0, 2]] == pytest.approx([1, 0.48335772])
    assert (np.diff(matern32(distance, 15.0)) < 0).all()


def test_random_fields_have_the_correlation():
    places = np.array([[0.0, 0, 0], [7.0, 0, 0], [0, 15.0, 0], [0, 0, 40.0]])
    # Waves are shared by the fields of one call, so several calls are needed.
    fields = np.concatenate([prior_fields(places, LENGTH, 64, np.random.default_rng(n)) for n in range(40)])
    expected = matern32(np.linalg.norm(places[:, None] - places, axis=-1), LENGTH)
    assert np.allclose(np.cov(fields.T, bias=True), expected, atol=0.08)


@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
def test_draws_have_the_variance_that_is_left(points, share):
    kriging = Kriging(points, LENGTH, 0.5)
    places = np.random.default_rng(6).uniform(-20, 80, (30, 3))
    drawn = np.concatenate([kriging.draw(places, 64, np.random.default_rng(n), share) for n in range(30)])
    left = 1 - share * (2 - share) * (1 - kriging.variance(places))
    assert np.allclose(drawn.var(axis=0), left, atol=0.12)
    assert np.abs(drawn.mean(axis=0)).max() < 0.15


def test_blocks_give_what_one_call_gives(points, monkeypatch):
    values, places = np.ones((40, 1)), np.random.default_rng(5).uniform(-10, 70, (23, 3))
    kriging = Kriging(points, LENGTH, 0.5)
    whole = kriging.mean(places, values), kriging.variance(places)
    monkeypatch.setattr("TumorQueryLib.estimates.kriging.BLOCK", 7)
    assert np.allclose(kriging.mean(places, values), whole[0], atol=1e-6)
    assert np.allclose(kriging.variance(places), whole[1], atol=1e-6)
