"""Background and brain are told apart by the values on an image's faces, whatever these are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import LARGEST_BRAIN_ML, find_background, find_brain
from TumorQueryLib.geometry.grid import Grid, Volume

SHAPE = (30, 34, 26)


def distance_from_middle(shape=SHAPE):
    indices = np.moveaxis(np.indices(shape), 0, -1)
    return np.linalg.norm(indices - (np.array(shape) - 1) / 2, axis=-1)


def ball(radius=9.0, shape=SHAPE):
    return distance_from_middle(shape) < radius


def image_of(foreground, background=0.0, *, random_seed=0):
    """Values from 0.5 to 1 above the background where there is foreground."""
    values = np.random.default_rng(random_seed).uniform(0.5, 1.0, foreground.shape)
    return (background + np.where(foreground, values, 0.0)).astype(np.float32)


def volume(array, spacing=4.0):
    return Volume(array, Grid(array.shape, np.diag([spacing, spacing, spacing, 1.0])))


@pytest.mark.parametrize("background", [0.0, -1024.0, 32767.0])
def test_a_constant_background_is_left_out_exactly(background):
    head = ball()
    found = find_background(1000 * image_of(head) + np.float32(background))
    assert np.array_equal(found.foreground, head)
    assert found.found
    assert found.constant


@pytest.mark.parametrize("scale", [0.01, 1, 4000])
def test_air_with_noise_is_a_background_that_is_not_constant(scale):
    head = ball()
    noise = np.abs(np.random.default_rng(1).normal(0, 0.025, SHAPE)).astype(np.float32)
    array = np.float32(scale) * (image_of(head) + noise)
    found = find_background(array)
    assert found.found
    assert not found.constant
    assert found.foreground[head].all()
    assert found.foreground[~head].mean() < 0.01


def test_a_rim_of_padding_around_another_background_is_background_too():
    inner = np.zeros(SHAPE, dtype=bool)
    inner[4:-4, 5:-5, 3:-3] = True
    head = ball(8.0)
    array = np.where(inner, image_of(head, -50.0), 0).astype(np.float32)
    found = find_background(array)
    assert np.array_equal(found.foreground, head)
    assert found.constant


def test_an_image_without_a_value_that_stands_out_has_no_background():
    array = np.random.default_rng(2).uniform(0, 1, SHAPE).astype(np.float32)
    found = find_background(array)
    assert not found.found
    assert not found.constant
    assert found.foreground.all()


def test_white_matter_up_to_every_face_is_no_background():
    """As in an image cropped inside the brain: as even as air, but what lies within it is darker."""
    array = np.random.default_rng(1).normal(1.0, 0.015, SHAPE).astype(np.float32)
    array[ball()] = 0.3
    found = find_background(array)
    assert not found.found
    assert found.foreground.all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, -1])
def test_a_background_that_only_one_face_shows_is_found(axis, end):
    """As in a head that is cropped on all sides but at the vertex."""
    slab = np.ones(SHAPE, dtype=bool)
    index = [slice(None)] * 3
    index[axis] = slice(0, 5) if end == 0 else slice(-5, None)
    slab[tuple(index)] = False
    found = find_background(image_of(slab))
    assert found.found
    assert np.array_equal(found.foreground, slab)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_image_with_many_voxels_is_judged_like_a_small_one(axis):
    """Above 96 voxels along an axis only some are looked at for the contrast."""
    shape = [12, 12, 12]
    shape[axis] = 290
    head = np.ones(shape, dtype=bool)
    head[tuple(slice(2, -2) for _ in range(3))] = False
    head = ~head
    found = find_background(image_of(head, 7.0))
    assert np.array_equal(found.foreground, head)


@examples(15)
@given(background=st.floats(-1000, 1000), scale=st.floats(0.01, 30000), seed=st.integers(0, 99))
def test_brain_is_found_whatever_the_background_and_the_intensities(background, scale, seed):
    rng = np.random.default_rng(seed)
    head = ball()
    hollow = head & ~ball(2.0)
    array = np.full(SHAPE, background, dtype=np.float32)
    array[hollow] += np.float32(scale) * rng.uniform(0.3, 1, hollow.sum()).astype(np.float32)
    array[1, 1, 1] += np.float32(scale)  # a speck is not brain
    found, has_skull = find_brain(volume(array))
    assert np.array_equal(found, head)
    assert not has_skull


@pytest.mark.parametrize(("share", "skull"), [(0.97, False), (1.03, True)])
def test_more_than_a_brain_s_volume_is_a_head(share, skull):
    head = ball(10.0)
    spacing = 10 * float(np.cbrt(share * LARGEST_BRAIN_ML / head.sum()))
    assert find_brain(volume(image_of(head), spacing))[1] is skull


def test_noise_in_the_air_is_a_head_however_small():
    array = image_of(ball()) + np.abs(np.random.default_rng(1).normal(0, 0.025, SHAPE)).astype(np.float32)
    brain, has_skull = find_brain(volume(array))
    assert has_skull
    assert np.array_equal(brain, ball())


def test_an_image_of_one_value_is_refused():
    with pytest.raises(InputError, match="The image is empty: every voxel is 3"):
        find_brain(volume(np.full(SHAPE, 3.0, dtype=np.float32)))
