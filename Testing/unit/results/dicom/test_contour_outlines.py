"""Outlines of slices: filled by centres they give the mask, and they enclose the area of its voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from property_examples import examples

from TumorQueryLib.inputs.dicom.contours import inside
from TumorQueryLib.results.dicom.outlines import area_of, outlines_of


def filled(outlines, shape):
    """Even-odd, by a reader of our own that knows nothing of how they were drawn."""
    mask = np.zeros(shape, dtype=bool)
    for outline in outlines:
        mask ^= inside(outline, shape)
    return mask


def winding(outline, point):
    """How often an outline runs round a point."""
    away = outline - point
    angles = np.unwrap(np.arctan2(*np.concatenate([away, away[:1]]).T))
    return round((angles[-1] - angles[0]) / (2 * np.pi))


@pytest.mark.slow
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()))
@examples(150)
def test_outlines_hold_the_centres_and_the_area_of_the_voxels(mask):
    outlines = outlines_of(mask)
    assert np.array_equal(filled(outlines, mask.shape), mask)
    # By another rule of filling, and one outline after the other: a reader may unite or subtract them.
    around = [sum(abs(winding(outline, point)) for outline in outlines) for point in np.ndindex(mask.shape)]
    assert np.array_equal(np.reshape(around, mask.shape), mask.astype(int))
    # Where two voxels touch at a corner alone, the area between them falls to one side or the other.
    quads = np.lib.stride_tricks.sliding_window_view(np.pad(mask, 1), (2, 2)).astype(int)
    touching = np.abs(quads[..., 0, 0] + quads[..., 1, 1] - quads[..., 0, 1] - quads[..., 1, 0]) == 2
    error = abs(sum(map(area_of, outlines)) - mask.sum())
    assert error <= 1e-6 + 0.25 * touching.sum()


def test_a_hole_is_a_keyhole_and_an_island_in_it_an_outline_of_its_own():
    mask = np.zeros((15, 12), dtype=bool)
    mask[1:14, 1:11] = True
    mask[3:12, 3:9] = False
    mask[5:8, 5:7] = True
    ring, island = sorted(outlines_of(mask), key=area_of, reverse=True)
    assert (area_of(ring), area_of(island)) == (pytest.approx(130 - 54, abs=0.6), pytest.approx(6, abs=0.6))
    assert inside(ring, mask.shape).sum() == 130 - 54


def test_points_on_straight_lines_are_left_out():
    mask = np.ones((40, 30), dtype=bool)
    (outline,) = outlines_of(mask)
    assert len(outline) == 8


def test_an_empty_slice_has_no_outline():
    assert outlines_of(np.zeros((5, 4), dtype=bool)) == []
