"""Shape features against pyradiomics and against a slow twin, and the strategy made of them."""

import sys

import numpy as np
import pytest
from awkward_grids import centred_grid
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from property_examples import examples
from scipy import ndimage
from synthetic_database import write_masks

from TumorQueryLib.base.errors import MissingDependencyError
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.database.masks import RunLengthMasks
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.strategies.radiomics import (
    moment_centre,
    moment_features,
    pyradiomics_features,
    shape_features,
)


def blob(seed, shape=(40, 36, 30)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 3)
    return noise > np.quantile(noise, 0.93)


def slow_features(mask, grid):
    """Volume, ratios and axis lengths from the list of voxel centres."""
    points = grid.to_ras(np.argwhere(mask))
    if len(points) == 0:
        return np.zeros(6)
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(points.T, bias=True))).clip(0)
    least, minor, major = 4 * np.sqrt(values)
    ratios = (minor / major, least / major) if len(points) > 1 else (0, 0)
    return np.array([len(points) * abs(np.linalg.det(grid.affine[:3, :3])), *ratios, major, minor, least])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_features_are_those_of_pyradiomics(seed, awkward_affine):
    pytest.importorskip("radiomics", reason="pyradiomics is not installed")
    mask = blob(seed)
    grid = centred_grid(mask.shape, awkward_affine)
    coded = RunLengthMasks.from_masks([mask], mask.shape)
    features, _ = shape_features(coded, [0], grid)
    np.testing.assert_allclose(features[0], pyradiomics_features(mask, grid), rtol=1e-10)


@given(mask=arrays(bool, (5, 4, 6), elements=st.booleans()), spacing=st.tuples(*[st.floats(0.3, 5)] * 3))
@examples(60)
def test_features_and_centre_agree_with_the_slow_twin(mask, spacing):
    grid = Grid(mask.shape, np.diag([*spacing, 1.0]))
    np.testing.assert_allclose(moment_features(mask, grid), slow_features(mask, grid), rtol=1e-6, atol=1e-6)
    if mask.any():
        np.testing.assert_allclose(moment_centre(mask, grid), grid.to_ras(np.argwhere(mask)).mean(axis=0), atol=1e-9)
    else:
        assert np.isnan(moment_centre(mask, grid)).all()


def test_many_masks_are_described_as_one_by_one():
    masks = [blob(seed) for seed in range(4)] + [np.zeros((40, 36, 30), bool)]
    grid = Grid.isotropic(40, 1.5, (3, -7, 11)).cropped((0, 0, 0), masks[0].shape)
    features, centres = shape_features(RunLengthMasks.from_masks(masks, masks[0].shape), [4, 2, 0], grid)
    for row, number in enumerate((4, 2, 0)):
        np.testing.assert_array_equal(features[row], moment_features(masks[number], grid))
        np.testing.assert_array_equal(centres[row], moment_centre(masks[number], grid))


def test_an_entry_finds_itself_and_ties_go_to_the_lower_entry(small_database, user_cache):
    engine = create_strategy("radiomics", small_database)
    for entry in range(0, len(small_database), 9):
        masks = TumorMasks(small_database.core.decode(entry), small_database.whole.decode(entry), small_database.grid)
        matches = engine.query(masks, top=3)
        assert matches[0].entry == entry
        assert matches[0].score == pytest.approx(0, abs=1e-6)
        assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)


def test_a_query_without_a_core_is_ranked_by_the_whole_tumour(small_database, user_cache):
    engine = create_strategy("radiomics", small_database)
    whole = small_database.whole.decode(0)
    match = engine.query(TumorMasks(np.zeros_like(whole), whole, small_database.grid), top=1)[0]
    assert match.dice_whole == 1.0
    assert match.score == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_standardised_features_rank_by_all_six_not_by_the_volume_alone(small_database, user_cache):
    query = TumorMasks(small_database.core.decode(5), small_database.whole.decode(6), small_database.grid)
    expected = {False: np.zeros(len(small_database)), True: np.zeros(len(small_database))}
    for masks, mask in ((small_database.core, query.core), (small_database.whole, query.whole)):
        grid = small_database.grid
        features = np.array([slow_features(masks.decode(entry), grid) for entry in range(len(masks))])
        spread = features[features[:, 0] > 0].std(axis=0)
        away = features - slow_features(mask, grid)
        expected[False] += np.linalg.norm(away, axis=1)
        expected[True] += np.linalg.norm(away / spread, axis=1)
    ranked = {}
    for standardised in (False, True):
        matches = create_strategy("radiomics", small_database, standardised=standardised).query(query, top=64)
        ranked[standardised] = [match.entry for match in matches]
        assert ranked[standardised] == np.argsort(expected[standardised], kind="stable").tolist()
    assert ranked[False] != ranked[True]


def test_only_the_thousand_entries_of_the_nearest_centres_are_compared(tmp_path, user_cache):
    grid = Grid.isotropic(24, 1.5, (3, -7, 11))

    def box(corner, size):
        mask = np.zeros(grid.shape, bool)
        mask[tuple(slice(start, start + length) for start, length in zip(corner, size))] = True
        return mask, mask

    # 1,000 bars about the query's centre, and two twins of the query far from it.
    pairs = [box((4 + n % 3, 4 + n // 3 % 3, 3), (2, 2, 2 + n % 5)) for n in range(1000)]
    pairs[500:500] = [box((20, 20, 20), (3, 3, 3)), box((19, 20, 20), (3, 3, 3))]
    query = TumorMasks(*box((4, 4, 4), (3, 3, 3)), grid)
    with TumorDatabase.open(write_masks(tmp_path / "bars.h5", grid, pairs)) as database:
        matches = create_strategy("radiomics", database).query(query, top=len(pairs))
    assert sorted(match.entry for match in matches) == [n for n in range(1002) if n not in (500, 501)]


@pytest.mark.slow
def test_pyradiomics_computes_the_querys_features_where_it_is_asked_to(small_database, user_cache, monkeypatch):
    shape = pytest.importorskip("radiomics.shape", reason="pyradiomics is not installed")
    query = TumorMasks(small_database.core.decode(5), small_database.whole.decode(6), small_database.grid)

    def ranked(pyradiomics):
        engine = create_strategy("radiomics", small_database, pyradiomics=pyradiomics)
        return [match.entry for match in engine.query(query, top=64)]

    own = ranked(False)
    assert ranked(True) == own

    volume = shape.RadiomicsShape.getVoxelVolumeFeatureValue
    monkeypatch.setattr(shape.RadiomicsShape, "getVoxelVolumeFeatureValue", lambda computed: 2 * volume(computed))
    assert ranked(False) == own
    assert ranked(True) != own


def test_pyradiomics_is_named_where_it_is_asked_for_and_absent(small_database, user_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "radiomics", None)
    monkeypatch.setitem(sys.modules, "radiomics.shape", None)
    with pytest.raises(MissingDependencyError, match=r"pyradiomics.*tumorquery\[radiomics\]"):
        create_strategy("radiomics", small_database, pyradiomics=True)
