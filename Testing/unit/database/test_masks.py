"""Run-length masks: without loss, and exact overlaps with a query."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from property_examples import examples

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.database.masks import (
    BLOCK_EDGE,
    LONGEST_RUN,
    BlockCounts,
    RunLengthMasks,
    RunningCount,
    block_grid_shape,
    decode_runs,
    encode_mask,
)

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 40))


@st.composite
def mask_pairs(draw):
    shape = draw(SHAPES)
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.random(shape) < density, generator.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))


@examples(60)
@given(arrays(np.bool_, SHAPES))
def test_coding_loses_nothing(mask):
    runs = encode_mask(mask)
    assert np.array_equal(decode_runs(runs, mask.shape), mask)
    assert runs.volume == np.count_nonzero(mask)
    assert np.all(np.diff(runs.starts.astype(np.int64)) > 0)


@examples(60)
@given(mask_pairs())
def test_overlap_is_that_of_the_arrays(pair):
    first, second = pair
    coded = RunLengthMasks.from_masks([first, second], first.shape)
    counts = coded.intersections(RunningCount(second), np.array([1, 0]))
    assert counts.tolist() == [np.count_nonzero(second), np.count_nonzero(first & second)]


def test_rows_longer_than_a_byte_are_split():
    mask = np.zeros((1, 2, 700), dtype=bool)
    mask[0, 0, 10:] = True
    mask[0, 1, :] = True
    runs = encode_mask(mask)
    assert runs.lengths.max() == LONGEST_RUN
    assert np.array_equal(decode_runs(runs, mask.shape), mask)
    coded = RunLengthMasks.from_masks([mask], mask.shape)
    assert coded.intersections(RunningCount(mask), np.array([0]))[0] == mask.sum()


def test_a_box_is_coded_in_its_place():
    generator = np.random.default_rng(1)
    box = generator.random((5, 6, 7)) < 0.4
    whole = np.zeros((12, 13, 14), dtype=bool)
    whole[3:8, 4:10, 5:12] = box
    assert np.array_equal(decode_runs(encode_mask(box, whole.shape, (3, 4, 5)), whole.shape), whole)
    with pytest.raises(InputError, match="does not lie in a grid"):
        encode_mask(box, whole.shape, (10, 0, 0))


@examples(30)
@given(st.tuples(*[st.integers(1, 2 * BLOCK_EDGE + 3)] * 3), st.integers(0, 2**32 - 1))
def test_block_counts_are_sums_over_blocks(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.3
    edges = [np.arange(0, n, BLOCK_EDGE) for n in shape]
    expected = mask.astype(np.int64)
    for axis in range(3):
        expected = np.add.reduceat(expected, edges[axis], axis=axis)
    counts = BlockCounts.of(RunLengthMasks.from_masks([mask], shape))
    assert np.array_equal(dense(counts, shape)[0], expected.ravel())
    assert counts.count.all()
    assert np.array_equal(RunningCount(mask).blocks, expected.ravel())


def test_an_entry_that_does_not_exist_is_refused():
    coded = RunLengthMasks.from_masks([np.ones((2, 2, 2), dtype=bool)], (2, 2, 2))
    assert coded.decode(0).all()
    for entry in (-1, 1):
        with pytest.raises(IndexError):
            coded.decode(entry)


def dense(counts, shape):
    """Block counts with the empty blocks, shape (entries, blocks)."""
    found = np.zeros((len(counts.offsets) - 1, np.prod(block_grid_shape(shape))), np.int64)
    for entry, row in enumerate(found):
        index, count = counts.of_entry(entry)
        row[index] = count
    return found


def test_block_counts_of_many_masks_are_those_of_each(monkeypatch):
    shape = (20, 17, 40)
    generator = np.random.default_rng(5)
    masks = [generator.random(shape) < density for density in (0.0, 0.5, 0.01, 1.0, 0.0, 0.2, 0.0)]
    coded = RunLengthMasks.from_masks(masks, shape)
    alone = [BlockCounts.of(RunLengthMasks.from_masks([mask], shape)) for mask in masks]
    expected = np.concatenate([dense(counts, shape) for counts in alone])
    assert np.array_equal(dense(BlockCounts.joined(alone), shape), expected)
    monkeypatch.setattr("TumorQueryLib.database.masks.BATCH_ENTRIES", 3)
    assert np.array_equal(dense(BlockCounts.of(coded), shape), expected)
    chosen = np.array([5, 0, 3, 3])
    assert np.array_equal(dense(BlockCounts.of(coded, chosen), shape), expected[chosen])
    assert len(BlockCounts.of(coded, chosen[:0]).offsets) == 1
