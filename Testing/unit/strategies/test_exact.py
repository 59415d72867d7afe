"""`direct` and `brute-force` against plain arrays: same entries, same scores, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples
from synthetic_database import write_masks

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.strategies import create_strategy, strategy_names
from TumorQueryLib.strategies import direct as direct_module

GRID = Grid.isotropic(40, 1.5, (0, 0, 0))
AXES = np.arange(40.0)


def ball(centre, radius):
    distance = sum((axis - c) ** 2 for axis, c in zip(np.ix_(AXES, AXES, AXES), centre))
    return distance < radius**2


def tumour(generator, kind):
    """A pair (core, whole) of one of the kinds that a search could stumble over."""
    empty = np.zeros(GRID.shape, dtype=bool)
    if kind == "empty":
        return empty, empty
    if kind == "full":
        return ~empty, ~empty
    if kind == "one voxel":
        whole = empty.copy()
        whole[tuple(generator.integers(0, 40, 3))] = True
        return whole, whole
    if kind == "noise":
        whole = generator.random(GRID.shape) < generator.random()
        return whole & (generator.random(GRID.shape) < 0.5), whole
    if kind == "core outside":
        return ball(generator.uniform(0, 40, 3), 6), ball(generator.uniform(0, 40, 3), 9)
    centre, radius = generator.uniform(5, 35, 3), generator.uniform(1, 16)
    core = empty if kind == "empty core" else ball(centre, radius * generator.uniform(0.2, 0.9))
    return core, ball(centre, radius)


KINDS = ("ball", "ball", "ball", "empty core", "empty", "full", "one voxel", "noise", "core outside")


def plain_ranking(pairs, masks, top):
    scored = []
    for entry, (core, whole) in enumerate(pairs):
        scored.append((dice(core, masks.core), dice(whole, masks.whole), entry))
    scored.sort(key=lambda row: (-(row[0] + row[1]), row[2]))
    return [(entry, t1gd, flair) for t1gd, flair, entry in scored[:top]]


def as_rows(matches):
    return [(match.entry, match.dice_core, match.dice_whole) for match in matches]


def check(path, pairs, queries, top, **options):
    with TumorDatabase.open(path, **options) as database:
        for core, whole in queries:
            masks = TumorMasks(core, whole, GRID)
            expected = plain_ranking(pairs, masks, top)
            for name in ("brute-force", "direct"):
                matches = create_strategy(name, database).query(masks, top)
                assert as_rows(matches) == expected, name
                assert all(match.score == match.dice_sum for match in matches)


@pytest.mark.slow
@examples(25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 15, 1000]))
def test_search_is_exact_whatever_the_masks(tmp_path_factory, seed, top):
    generator = np.random.default_rng(seed)
    # Few kinds at a time, so that some databases are all duplicates and some all empty.
    kinds = generator.choice(KINDS, generator.integers(1, 6))
    pairs = [tumour(generator, kind) for kind in generator.choice(kinds, generator.integers(1, 90))]
    for place in generator.integers(0, len(pairs), generator.integers(0, 20)):
        pairs[place] = pairs[generator.integers(0, len(pairs))]
    queries = [tumour(generator, kind) for kind in generator.choice(KINDS, 3)] + [pairs[0]]
    path = write_masks(tmp_path_factory.mktemp("database") / "masks.h5", GRID, pairs)
    limit = [None, 0][int(generator.integers(0, 2))]
    check(path, pairs, queries, top, memory_limit=limit)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A database of many groups, so that groups are ruled out; duplicates straddle them."""
    generator = np.random.default_rng(7)
    pairs = [tumour(generator, "ball") for _ in range(700)]
    for _ in range(300):
        pairs.append(pairs[generator.integers(0, len(pairs))])
    for _ in range(40):
        pairs.append(tumour(generator, "empty core"))
    path = write_masks(tmp_path_factory.mktemp("database") / "many.h5", GRID, pairs)
    return path, pairs


@pytest.mark.slow
def test_search_is_exact_over_many_groups(many):
    path, pairs = many
    generator = np.random.default_rng(8)
    queries = [tumour(generator, kind) for kind in ("ball", "ball", "empty core", "noise", "core outside", "empty")]
    check(path, pairs, [*queries, pairs[3], pairs[900]], 15)
    check(path, pairs, queries[:2], 15, memory_limit=0)


@pytest.mark.slow
def test_bounds_rule_entries_out(many):
    path, _ = many
    with TumorDatabase.open(path) as database:
        strategy = create_strategy("direct", database)
        strategy.query(TumorMasks(*tumour(np.random.default_rng(9), "ball"), GRID), top=5)
        assert 5 <= strategy.compared < len(database) / 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_bound_lies_below_what_it_bounds(many, kind):
    path, pairs = many
    core, whole = tumour(np.random.default_rng(10), kind)
    with TumorDatabase.open(path) as database:
        strategy = create_strategy("direct", database)
        query_core, query_whole = direct_module.RunningCount(core), direct_module.RunningCount(whole)
        scores = np.array([dice(c, core) + dice(w, whole) for c, w in pairs])[strategy._order]
        places = np.arange(len(database))
        of_entries = strategy._core.of_entries(query_core, places) + strategy._whole.of_entries(query_whole, places)
        of_groups = strategy._core.of_groups(query_core) + strategy._whole.of_groups(query_whole)
        assert sorted(strategy._order) == places.tolist()
        assert (of_entries >= scores).all()
        assert (of_groups[places // direct_module.GROUP_SIZE] >= scores).all()


def test_dice_of_empty_masks():
    empty, full = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    assert (dice(empty, empty), dice(empty, full), dice(full, empty), dice(full, full)) == (1, 0, 0, 1)


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused(many):
    path, pairs = many
    with TumorDatabase.open(path) as database:
        for name in ("brute-force", "direct"):
            strategy = create_strategy(name, database)
            with pytest.raises(InputError, match="At least one match"):
                strategy.query(TumorMasks(*pairs[0], GRID), top=0)
            elsewhere = Grid.isotropic(40, 1.5, (9, 0, 0))
            with pytest.raises(InputError, match="register them"):
                strategy.query(TumorMasks(*pairs[0], elsewhere))
        with pytest.raises(InputError, match="choose one of"):
            create_strategy("no such strategy", database)
    assert {"direct", "brute-force"} <= set(strategy_names())
    with pytest.raises(InputError, match="boolean"):
        TumorMasks(pairs[0][0].astype(np.uint8), pairs[0][1], GRID)
    with pytest.raises(InputError, match="shape"):
        TumorMasks(pairs[0][0][:5], pairs[0][1], GRID)
