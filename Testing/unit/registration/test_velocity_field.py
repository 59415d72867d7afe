"""The kernels of the velocity field agree with slow, obvious NumPy and SciPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.base.errors import Cancelled
from TumorQueryLib.registration.velocity_field import (
    Level,
    border_taper,
    compose_with_itself,
    exponential,
    local_correlation_force,
    refined,
    register_by_velocity_field,
    warp,
)


def smooth_field(seed, shape, amplitude):
    rng = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), 3.0) for _ in range(3)])
    taper = np.ones(shape)
    for axis, n in enumerate(shape):
        ramp = np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / 4, 0, 1)
        taper *= np.expand_dims(ramp, [a for a in range(3) if a != axis])
    field *= taper
    return (amplitude * field / np.abs(field).max()).astype(np.float32)


def interpolated(image, where, mode="nearest"):
    return ndimage.map_coordinates(image, where, order=1, mode=mode)


@examples(15)
@given(seed=st.integers(0, 1000), amplitude=st.floats(0.1, 6.0))
def test_composition_is_interpolation(seed, amplitude):
    d = smooth_field(seed, (9, 11, 13), amplitude)
    where = np.indices(d.shape[1:]) + d
    expected = d + np.stack([interpolated(component, where) for component in d])
    assert np.abs(compose_with_itself(d) - expected).max() < 1e-4


@examples(15)
@given(seed=st.integers(0, 1000), amplitude=st.floats(0.1, 4.0), factor=st.sampled_from([1, 2]))
def test_warp_is_interpolation_of_image_and_weight(seed, amplitude, factor):
    shape = (15, 17, 19)
    rng = np.random.default_rng(seed)
    image, weight = rng.random((2, *shape), dtype=np.float32)
    coarse = tuple((n - 1) // factor + 1 for n in shape)
    d = smooth_field(seed, coarse, amplitude)
    indices = np.indices(shape).astype(float)
    fine = factor * np.stack([interpolated(component, indices / factor) for component in d])
    where = indices + fine
    size = np.array(shape).reshape(3, 1, 1, 1) - 1
    clear = ((where > 1e-3) & (where < size - 1e-3)).all(axis=0)
    outside = ((where < -1e-3) | (where > size + 1e-3)).any(axis=0)
    for moved, source in zip(warp(image, weight, d, factor), (image, weight)):
        assert np.abs(moved - interpolated(source, where))[clear].max() < 1e-4
        assert (moved[outside] == 0).all()


def slow_force(fixed, moved, weight, radius, floor):
    """Window by window, with the formulas of masked correlation."""
    force = np.zeros((3, *fixed.shape))
    gradient = [(np.roll(moved, -1, axis) - np.roll(moved, 1, axis)) for axis in range(3)]
    for x in np.ndindex(*fixed.shape):
        if any(i in (0, n - 1) for i, n in zip(x, fixed.shape)):
            continue
        box = tuple(slice(max(0, i - radius), i + radius + 1) for i in x)
        w, f, m = (a[box].astype(float) for a in (weight, fixed, moved))
        if weight[x] <= 0 or w.sum() < 8:
            continue
        mean_f, mean_m = (w * f).sum() / w.sum(), (w * m).sum() / w.sum()
        variance_f = (w * (f - mean_f) ** 2).sum() + floor * w.sum()
        variance_m = (w * (m - mean_m) ** 2).sum() + floor * w.sum()
        covariance = (w * (f - mean_f) * (m - mean_m)).sum()
        residual = (fixed[x] - mean_f) - covariance / variance_m * (moved[x] - mean_m)
        slope = weight[x] * covariance / (variance_f * variance_m) * residual
        force[(slice(None), *x)] = [slope * g[x] for g in gradient]
    return force


@pytest.mark.parametrize("masked", [False, True])
def test_force_agrees_with_its_slow_twin(masked):
    rng = np.random.default_rng(0)
    shape = (9, 8, 11)
    fixed, moved = rng.random((2, *shape), dtype=np.float32)
    weight = (rng.random(shape) > 0.4).astype(np.float32) if masked else np.ones(shape, dtype=np.float32)
    fast = local_correlation_force(fixed, moved, weight, 2, 4e-4)
    slow = slow_force(fixed, moved, weight, 2, 4e-4)
    assert np.abs(fast - slow).max() < 1e-3 * np.abs(slow).max()


def test_force_points_uphill():
    """A small step along the force raises the correlation of every window on average."""
    rng = np.random.default_rng(1)
    base = ndimage.gaussian_filter(rng.random((24, 24, 24)), 1.5)
    base = ((base - base.min()) / np.ptp(base)).astype(np.float32)
    moved = ndimage.shift(base, (0.7, -0.4, 0.5), order=3, mode="nearest").astype(np.float32)
    ones = np.ones_like(base)
    force = local_correlation_force(base, moved, ones, 2, 4e-4)
    inner = force[:, 4:-4, 4:-4, 4:-4].reshape(3, -1)
    assert (np.sign(inner.mean(axis=1)) == np.sign([0.7, -0.4, 0.5])).all()


def squaring_error(v, interpolations):
    """How far scaling and squaring of v may miss, in voxels, with so many interpolations; to leading order.

    Linear interpolation of a field d misses by M / 8, M being its second differences along the axes, summed. Squaring
    k of n interpolates about v / 2^(n - k + 1), and the squarings after it double that error as often, so each
    adds M / 8 of v's own M. Before them x + w stands for exp(w), w = v / 2^n shorter than 1/4 voxel: for there and back
    it misses by |grad w| |w|, which the squarings make |grad v| / 4 at most.
    """
    bends = np.zeros(v.shape)
    for axis in (1, 2, 3):
        inner = tuple(slice(1, -1) if a == axis else slice(None) for a in range(4))
        bends[inner] += np.abs(np.diff(v, 2, axis=axis))
    slope = np.abs(np.gradient(v, axis=(1, 2, 3))).sum(axis=0).max()
    return interpolations * bends.max() / 8 + slope / 4


def squarings(v):
    """Halvings that bring v below 1/4 voxel."""
    return max(0, int(np.ceil(np.log2(4 * np.linalg.norm(v, axis=0).max()))))


@pytest.mark.slow
@examples(10)
@given(seed=st.integers(0, 1000), amplitude=st.floats(0.2, 3.0))
@example(seed=106, amplitude=3.0)
@example(seed=574, amplitude=3.0)
def test_exponential_of_minus_v_undoes_exponential_of_v(seed, amplitude):
    v = refined(smooth_field(seed, (16, 15, 14), amplitude), 2.0)
    there, back = exponential(v), exponential(-v)
    where = np.indices(v.shape[1:]) + there
    left = there + np.stack([interpolated(component, where) for component in back])
    # There and back miss with opposite signs, so one of them counts, and the interpolation that joins them.
    assert np.abs(left).max() < squaring_error(v, squarings(v) + 1)


@pytest.mark.slow
@examples(5)
@given(seed=st.integers(0, 1000), amplitude=st.floats(0.2, 3.0))
@example(seed=574, amplitude=3.0)
def test_exponential_follows_the_flow(seed, amplitude):
    v = refined(smooth_field(seed, (16, 15, 14), amplitude), 2.0)
    # The slow twin: points carried by v in many short steps, by the midpoint rule.
    start = np.indices(v.shape[1:]).astype(float)
    place, steps = start, 32

    def at(points):
        return np.stack([interpolated(component, points) for component in v])

    for _ in range(steps):
        place = place + at(place + at(place) / (2 * steps)) / steps
    assert np.abs(exponential(v) - (place - start)).max() < squaring_error(v, squarings(v))


def test_refined_field_passes_through_the_coarse_one():
    v = smooth_field(5, (10, 11, 12), 2.0)
    fine = refined(v, 2.0)
    assert fine.shape == (3, 19, 21, 23)
    assert np.abs(fine[:, ::2, ::2, ::2] / 2 - v).max() < 1e-4


def test_registration_leaves_out_what_has_no_weight():
    """A bright intruder in one image displaces nothing when it has no weight, and its surroundings when it has."""
    rng = np.random.default_rng(2)
    image = ndimage.gaussian_filter(rng.random((41, 41, 41)), 2)
    image = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    moving = image.copy()
    moving[16:24, 16:24, 16:24] = 1.0
    ones = np.ones_like(image)
    weight = ones.copy()
    weight[14:26, 14:26, 14:26] = 0
    levels = (Level(1, 8), Level(2, 8))
    with_weight = register_by_velocity_field(image, moving, ones, weight, levels=levels)
    without = register_by_velocity_field(image, moving, ones, ones, levels=levels)
    near = (slice(None), slice(5, 15), slice(5, 15), slice(5, 15))
    assert np.abs(with_weight[near]).mean() < 0.5 * np.abs(without[near]).mean()


def test_cancelling_ends_the_iterations():
    image = np.zeros((17, 17, 17), dtype=np.float32)
    calls = []

    def cancel(value, message):
        calls.append(value)
        if value > 0.3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        register_by_velocity_field(image, image, image, image, progress=cancel)
    assert calls == sorted(calls)
    assert calls[-1] < 0.4


def test_the_taper_is_one_inside_and_zero_at_every_face():
    taper = border_taper((9, 12, 15), 4)
    assert taper.shape == (9, 12, 15)
    np.testing.assert_array_equal(taper[:5, 6, 7], [0, 0.25, 0.5, 0.75, 1])
    for axis in range(3):
        assert not np.take(taper, [0, -1], axis=axis).any()
    np.testing.assert_array_equal(taper, taper[::-1, ::-1, ::-1])
