"""Held-out tumours: drawn again alike, with a core where one is asked for, and in no database."""

import numpy as np
import pytest
from synthetic_database import small_brain

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.database import sample_synthetic
from TumorQueryLib.database.prior import SAMPLINGS, VISIBLE_CORE_ML, SeedCells, make_prior
from TumorQueryLib.growth import simulate


@pytest.fixture(scope="module")
def brain():
    return small_brain()


def tumours_of(atlas, count, **options):
    return list(sample_synthetic(atlas, count, **options))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_held_out_tumours_repeat_and_have_their_core(brain, sampling):
    first = tumours_of(brain, 12, random_seed=4, sampling=sampling, with_visible_core=True)
    again = tumours_of(brain, 12, random_seed=4, sampling=sampling, with_visible_core=True)
    for one, other in zip(first, again):
        assert one.parameters == other.parameters
        assert np.array_equal(one.masks.core, other.masks.core)
        assert one.masks.volumes_ml()[0] >= VISIBLE_CORE_ML
        density = simulate(one.parameters, brain)
        assert np.array_equal(density > 0.6, one.masks.core)
        assert np.array_equal(density > 0.2, one.masks.whole)
    tissue = Tissue.from_atlas(brain)
    prior = make_prior(sampling, SeedCells.of(brain, tissue), 12, 4)
    in_database = np.concatenate([prior.grow(n, tissue).seed for n in range(prior.solves)])
    held_out = np.array([tumour.parameters.seed for tumour in first])
    assert np.abs(held_out[:, None] - in_database).max(axis=2).min() > 1e-6


def test_what_cannot_be_sampled_is_refused(brain):
    with pytest.raises(InputError, match="choose one of"):
        tumours_of(brain, 1, random_seed=0, sampling="uniform")
    with pytest.raises(InputError, match="random seed"):
        tumours_of(brain, 1, random_seed=-1)
    tiny = small_brain(spacing=1.0)
    with pytest.raises(InputError, match="adult brain"):
        tumours_of(tiny, 8, random_seed=0)
