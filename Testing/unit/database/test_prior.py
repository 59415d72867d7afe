"""The priors: what is drawn, that it is drawn again alike, and that the starter database is what it says."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples
from synthetic_database import small_brain

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.database import prior as module
from TumorQueryLib.database.masks import decode_runs
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.growth import simulate


@pytest.fixture(scope="module")
def brain():
    return small_brain()


@pytest.fixture(scope="module")
def cells(brain):
    return module.SeedCells.of(brain, Tissue.from_atlas(brain))


@examples(10)
@given(first=st.integers(0, 10**6), count=st.integers(1, 300))
def test_the_sequence_of_places_is_scipys(first, count):
    from scipy.stats import qmc

    theirs = qmc.Halton(d=6, scramble=False).fast_forward(first).random(count)
    assert np.array_equal(module.halton(first, count), theirs)


def test_the_starter_database_is_what_the_documented_command_made(atlas, monkeypatch):
    tissue = Tissue.from_atlas(atlas)
    prior = module.make_prior("trajectory", module.SeedCells.of(atlas, tissue), 5000, 0)
    with TumorDatabase.open("starter") as database:
        database.check_atlas(atlas)
        assert database.attributes["prior"] == prior.describe()
        steps_of_then = partial(module.grow_trajectory, solver_version=database.solver_version)
        monkeypatch.setattr(module, "grow_trajectory", steps_of_then)
        for number in (0, 1, 2, 1200, prior.solves - 1):
            grown = prior.grow(number, tissue)
            entries = np.flatnonzero(database.trajectory == number)
            assert np.allclose(database.seed[entries], grown.seed)
            for name in ("diffusivity", "proliferation", "duration"):
                assert np.allclose(getattr(database, name)[entries], getattr(grown, name), rtol=1e-6)
            for region, masks in (("core", database.core), ("whole", database.whole)):
                for entry, runs in zip(entries, grown.runs[region]):
                    # Bit for bit where it was made; other processors may round otherwise.
                    assert dice(masks.decode(entry), decode_runs(runs, tissue.grid.shape)) >= 0.999


def test_the_starter_database_keeps_its_promises(atlas):
    assert (resources_folder() / "Databases" / "starter.h5").stat().st_size <= 20e6
    with TumorDatabase.open("starter") as database:
        voxel = atlas.grid.voxel_volume_ml
        assert len(database) == 5000
        assert len(np.unique(database.trajectory)) >= 2500
        assert database.attributes["licence"].startswith("CC BY-SA 3.0")
        assert "SRI24" in database.attributes["attribution"]
        whole, core = database.whole.volume * voxel, database.core.volume * voxel
        assert whole.min() >= module.WHOLE_VOLUMES_ML[0]
        # Steps are coarse where tumours grow fast, so the last one may lead beyond the range.
        assert np.quantile(whole, 0.99) <= 1.1 * module.WHOLE_VOLUMES_ML[1]
        assert 0.01 < np.mean(core < module.VISIBLE_CORE_ML) < 0.1
        lengths = np.sqrt(database.diffusivity / database.proliferation)
        # 1234, and the longest length, where later versions of the solver take the most other steps.
        for entry in (1234, int(lengths.argmax())):
            density = simulate(database.parameters(entry), atlas, solver_version=database.solver_version)
            assert dice(density > 0.2, database.whole.decode(entry)) >= 0.999
            assert dice(density > 0.6, database.core.decode(entry)) >= 0.999


def test_places_and_lengths_fill_their_ranges_evenly(brain, cells):
    prior = module.TrajectoryPrior(cells, 2000, random_seed=3)
    lengths = np.sort(np.sqrt(prior._diffusivity / prior._proliferation))
    expected = 8 ** ((np.arange(1000) + 0.5) / 1000)
    assert np.abs(np.log(lengths / expected)).max() < 0.1
    index = np.rint(brain.grid.to_index(prior._places)).astype(int)
    assert cells.allowed[tuple(index.T)].all()
    # Quasi-random: the share of places on each side of a plane is that of the cells, closer than chance has it.
    allowed = np.argwhere(cells.allowed)
    for axis in range(3):
        for cut in (8, 12, 16):
            share, wanted = np.mean(index[:, axis] < cut), np.mean(allowed[:, axis] < cut)
            assert abs(share - wanted) < 0.02


def test_moments_of_a_trajectory_grow_and_differ(brain, cells):
    tissue = Tissue.from_atlas(brain)
    prior = module.TrajectoryPrior(cells, 91, random_seed=0, moments=3)
    volumes = [[runs.volume for runs in prior.grow(n, tissue).runs["whole"]] for n in range(prior.solves)]
    assert [len(v) for v in volumes] == [3] * 30 + [1]
    assert all(first < second < third for first, second, third in volumes[:-1])


@pytest.mark.slow
def test_independent_draws_follow_the_published_quantiles(cells):
    generator = np.random.default_rng(0)
    drawn = [module._draw_independent(cells, generator) for _ in range(4000)]
    for name, (lowest, highest) in module.PAPER_BOX.items():
        values = np.array([getattr(parameters, name) for parameters in drawn])
        assert values.min() >= lowest
        assert values.max() <= highest
    distance = np.array([2 * np.sqrt(p.diffusivity * p.proliferation) * p.duration for p in drawn])
    for level, expected in ((0.05, 44), (0.5, 91), (0.95, 176)):
        assert np.quantile(distance, level) == pytest.approx(expected, rel=0.06)
    assert distance.min() >= 26
    assert distance.max() <= 315
    rho_t = np.array([p.rho_t for p in drawn])
    assert rho_t.min() >= 7.8
    # What was not fitted comes out near the published figures too: 16.9 and 2.4 mm.
    assert np.median(rho_t) == pytest.approx(16.9, rel=0.3)
    assert np.median([p.infiltration_length for p in drawn]) == pytest.approx(2.4, rel=0.3)


def test_a_prior_out_of_its_range_is_refused(cells):
    for options, words in (
        (("uniform", 5, 0), "choose one of"),
        (("trajectory", 0, 0), "1 to 1,000,000 entries"),
        (("independent", 5, -1), "random seed"),
    ):
        sampling, entries, random_seed = options
        with pytest.raises(InputError, match=words):
            module.make_prior(sampling, cells, entries, random_seed)
