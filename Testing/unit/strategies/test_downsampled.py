"""DS64 and DS32 against scipy's order-0 zoom, and their ranking against a slow twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.database.masks import RunLengthMasks
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.strategies.downsampled import downsample, sampled_indices


@given(
    masks=st.tuples(st.integers(4, 13), st.integers(4, 13), st.integers(4, 40)).flatmap(
        lambda shape: st.lists(arrays(bool, shape), min_size=1, max_size=3)
    ),
    factor=st.sampled_from([2, 4]),
)
@examples(60)
def test_downsampling_runs_equals_zooming_the_decoded_masks(masks, factor):
    shape = masks[0].shape
    wanted = tuple(-(-n // factor) for n in shape)
    lattice = [sampled_indices(n, m) for n, m in zip(shape, wanted)]
    coded = downsample(RunLengthMasks.from_masks(masks, shape), lattice)
    assert coded.grid_shape == wanted
    for entry, mask in enumerate(masks):
        # With other modes rounding can put the last voxel of some sizes outside the image.
        zoomed = ndimage.zoom(mask.astype(float), np.divide(wanted, shape), order=0, mode="nearest") > 0.5
        np.testing.assert_array_equal(coded.decode(entry), zoomed)
        assert coded.volume[entry] == zoomed.sum()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factor"), [("ds64", 2), ("ds32", 4)])
def test_ranking_is_by_dice_of_the_downsampled_masks(small_database, name, factor):
    query = TumorMasks(small_database.core.decode(5), small_database.whole.decode(6), small_database.grid)

    def small(mask):
        return ndimage.zoom(mask.astype(float), 1 / factor, order=0) > 0.5

    expected = [
        dice(small(small_database.core.decode(entry)), small(query.core))
        + dice(small(small_database.whole.decode(entry)), small(query.whole))
        for entry in range(len(small_database))
    ]
    matches = create_strategy(name, small_database).query(query, top=20)
    # A stable sort keeps equal scores in the order of their entries.
    assert [m.entry for m in matches] == np.argsort(-np.array(expected), kind="stable")[:20].tolist()
    assert [m.score for m in matches] == [expected[m.entry] for m in matches]
    for match in matches:
        assert match.dice_core == dice(small_database.core.decode(match.entry), query.core)
        assert match.dice_whole == dice(small_database.whole.decode(match.entry), query.whole)


def test_reranking_puts_the_best_in_the_order_of_exact_dice(small_database):
    query = TumorMasks(small_database.core.decode(5), small_database.whole.decode(6), small_database.grid)
    plain = create_strategy("ds32", small_database).query(query, top=20)
    reranked = create_strategy("ds32", small_database, rerank=20).query(query, top=5)
    assert [m.entry for m in reranked] == [m.entry for m in sorted(plain, key=lambda m: (-m.dice_sum, m.entry))][:5]
    assert [m.score for m in reranked] == [m.dice_sum for m in reranked]
