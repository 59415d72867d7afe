"""Networks, codes, training and the strategies that rank by codes."""

import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from property_examples import examples
from scipy import ndimage
from synthetic_database import write_masks

from TumorQueryLib.base.errors import Cancelled, InputError, MissingDependencyError
from TumorQueryLib.cli import main
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.database.masks import RunLengthMasks
from TumorQueryLib.geometry.grid import Grid
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.strategies.base import learned_strategies
from TumorQueryLib.strategies.embedding import best_entries, negative_distances, write_codes
from TumorQueryLib.strategies.hashing import hamming_distances, pack_bits
from TumorQueryLib.strategies.models import load_encoders, save_encoders
from TumorQueryLib.strategies.pooling import Pooling
from TumorQueryLib.strategies.random_projection import soft_dice
from TumorQueryLib.strategies.training import embed_database, train_strategy


@pytest.fixture
def torch():
    """PyTorch on one thread: the networks of these tests are too small to be shared out."""
    pytest.importorskip("safetensors", reason="the extra 'learned' is not installed: no safetensors")
    torch = pytest.importorskip("torch", reason="the extra 'learned' is not installed: no torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models(small_database, tmp_path_factory):
    """A model file of every learned strategy, trained for one epoch."""
    pytest.importorskip("safetensors", reason="the extra 'learned' is not installed: no safetensors")
    pytest.importorskip("torch", reason="the extra 'learned' is not installed: no torch")
    folder = tmp_path_factory.mktemp("models")
    return {
        name: train_strategy(small_database, name, epochs=1, out=folder / f"{name}.safetensors")
        for name in learned_strategies()
    }


@pytest.fixture(scope="module")
def small_grid_database(tmp_path_factory):
    """A database of 64 boxes on 24^3 voxels, where a step of the paper's network takes milliseconds."""
    pairs = []
    for number in range(64):
        whole = np.zeros((24, 24, 24), bool)
        low, high = (number % 8 + 2, number % 4 + 6, 9), (number % 8 + 9, number % 4 + 14, number // 2 % 8 + 12)
        whole[tuple(slice(*ends) for ends in zip(low, high))] = True
        pairs.append((ndimage.binary_erosion(whole), whole))
    path = write_masks(tmp_path_factory.mktemp("boxes") / "boxes.h5", Grid.isotropic(24, 6.0, (0.0, 0.0, 0.0)), pairs)
    with TumorDatabase.open(path) as database:
        yield database


def entry_as_query(database, entry):
    return TumorMasks(database.core.decode(entry), database.whole.decode(entry), database.grid)


# Pooling, ranking and codes: fast path against slow twin.


@pytest.mark.slow
@given(
    mask=arrays(bool, st.tuples(st.integers(3, 11), st.integers(3, 11), st.integers(3, 11))),
    factor=st.integers(1, 4),
    start=st.tuples(*[st.integers(-1, 2)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)
@examples(80)
def test_pooled_shares_are_block_means_inside_the_box(mask, factor, start, shape):
    pooling = Pooling(factor, start, shape)
    expected = np.zeros(shape)
    for i, j, k in np.argwhere(mask):
        cell = tuple(np.array([i, j, k]) // factor - start)
        if all(0 <= c < n for c, n in zip(cell, shape)):
            expected[cell] += 1 / factor**3
    np.testing.assert_allclose(pooling.shares_of(mask), expected, atol=1e-6)
    coded = RunLengthMasks.from_masks([np.zeros_like(mask), mask], mask.shape)
    np.testing.assert_allclose(pooling.shares(coded, [1, 0]), np.stack([expected, np.zeros(shape)]), atol=1e-6)


@pytest.mark.slow
def test_the_pooling_box_holds_every_voxel_of_the_database(small_database):
    pooling = Pooling.around(small_database.whole, 4, divisor=2)
    counts = pooling.counts(small_database.whole, np.arange(len(small_database)))
    np.testing.assert_array_equal(counts.sum(axis=(1, 2, 3)), small_database.whole.volume)
    assert all(n % 2 == 0 for n in pooling.shape)


@given(
    scores=st.lists(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5]), min_size=1, max_size=30), count=st.integers(1, 40)
)
def test_best_entries_sorts_stably_and_leaves_out_minus_infinity(scores, count):
    order = [n for n in np.argsort(-np.array(scores), kind="stable") if scores[n] > -np.inf]
    assert best_entries(np.array(scores), count).tolist() == order[:count]


@given(bits=arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 200))))
def test_hamming_distance_of_packed_bits_counts_the_bits_that_differ(bits):
    codes = pack_bits(bits)
    np.testing.assert_array_equal(hamming_distances(codes, codes[0]), (bits != bits[0]).sum(axis=1))


def test_distances_and_soft_dice_are_those_of_numpy():
    generator = np.random.default_rng(0)
    codes = generator.standard_normal((50, 130)).astype(np.float32)
    codes[7], codes[8] = codes[31], 0
    query = generator.standard_normal(130).astype(np.float32)
    distances = negative_distances(codes, query)
    np.testing.assert_allclose(distances, -np.linalg.norm(codes.astype(float) - query, axis=1), rtol=1e-5)
    assert distances[7] == distances[31]
    squares = (codes**2).sum(axis=1)
    expected = 2 * codes @ query / (squares + query @ query)
    np.testing.assert_allclose(soft_dice(codes, squares, query), expected, rtol=1e-4, atol=1e-6)
    assert soft_dice(codes, squares, np.zeros_like(query))[8] == 1


# The networks.


@pytest.mark.slow
def test_bi_half_layer_halves_the_batch_and_passes_the_gradient_on(torch):
    from TumorQueryLib.strategies.networks import BiHalf

    continuous = torch.randn(10, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    binary = BiHalf.apply(continuous, 3.0)
    assert (binary == 1).sum(dim=0).tolist() == [5] * 6
    assert (binary == -1).sum(dim=0).tolist() == [5] * 6
    for unit in range(6):
        upper = continuous[:, unit][binary[:, unit] == 1]
        lower = continuous[:, unit][binary[:, unit] == -1]
        assert upper.min() >= lower.max()
    weights = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
    (binary * weights).sum().backward()
    torch.testing.assert_close(continuous.grad, weights + 3.0 * (continuous.detach() - binary) / 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ae", "vae", "bihash"])
def test_the_papers_network_goes_down_in_three_stages_and_learns(torch, kind):
    from TumorQueryLib.strategies.networks import Architecture, Autoencoder

    paper = Architecture.of_the_paper(kind, (128, 128, 128))
    assert (paper.pooling, paper.latent, len(paper.channels)) == (1, 1024, 3)
    assert [n // 2 ** len(paper.channels) for n in paper.shape] == [16, 16, 16]
    # The same stages on a small grid, since the full one costs seconds a step.
    torch.manual_seed(0)
    model = Autoencoder(Architecture.of_the_paper(kind, (24, 24, 24), latent=64))
    masks = torch.zeros(8, 1, 24, 24, 24)
    for number in range(8):
        masks[number, :, 4 : 8 + number, 6:18, 8:20] = 1
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.loss(masks, torch.Generator().manual_seed(0))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert model.decoder(model.encoder(masks)).shape == masks.shape
    assert losses[-1] < 0.75 * losses[0]


def test_an_input_that_the_stages_cannot_halve_is_refused(torch):
    from TumorQueryLib.strategies.networks import Architecture

    with pytest.raises(InputError, match="divisible by 8"):
        Architecture.of_the_paper("ae", (20, 24, 24))


# Training.


@pytest.mark.slow
def test_an_interrupted_training_ends_as_an_uninterrupted_one(torch, small_database, tmp_path):
    def stop_in_second_epoch(value, message):
        if "epoch 2 of 2" in message or "epoch 1 of 2, loss" in message:
            raise Cancelled("stopped")

    interrupted, straight = tmp_path / "interrupted.safetensors", tmp_path / "straight.safetensors"
    with pytest.raises(Cancelled):
        train_strategy(small_database, "vae", epochs=2, out=interrupted, progress=stop_in_second_epoch)
    assert not interrupted.exists()
    assert list(tmp_path.glob("interrupted.*.checkpoint"))
    train_strategy(small_database, "vae", epochs=2, out=interrupted)
    train_strategy(small_database, "vae", epochs=2, out=straight)
    assert interrupted.read_bytes() == straight.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [interrupted.name, straight.name]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", learned_strategies())
def test_the_papers_network_is_trained_and_queried(torch, small_grid_database, user_cache, strategy):
    path = train_strategy(small_grid_database, strategy, architecture="paper", epochs=1)
    engine = create_strategy(strategy, small_grid_database)
    assert engine.model.path == path
    architecture = engine.model.description["architecture"]
    assert (architecture["pooling"], architecture["shape"]) == (1, list(small_grid_database.grid.shape))
    assert len(architecture["channels"]) == 3
    assert architecture["rank"] is None
    assert len(engine.query(entry_as_query(small_grid_database, 3))) == 15


@pytest.mark.slow
def test_the_command_trains_the_papers_network(torch, small_grid_database, user_cache, capsys):
    call = ["train", str(small_grid_database.path), "--strategy", "ae", "--architecture"]
    assert main([*call, "paper"]) == 0
    assert create_strategy("ae", small_grid_database).model.description["architecture"]["pooling"] == 1
    assert main([*call, "deep"]) == 2
    assert "'pooled', 'paper'" in capsys.readouterr().err


@pytest.mark.slow
def test_training_learns_and_reports_both_losses(torch, small_database, tmp_path):
    from TumorQueryLib.strategies.models import load_encoders

    heard = []
    path = train_strategy(
        small_database, "ae", epochs=6, out=tmp_path / "ae.safetensors", progress=lambda v, m: heard.append((v, m))
    )
    description = load_encoders(path, "ae").description
    assert description["database_sha256"] == small_database.sha256
    for losses in description["losses"].values():
        assert losses[-1][0] < losses[0][0]
    assert [value for value, _ in heard] == sorted(value for value, _ in heard)
    assert any("loss" in message and "validation" in message for _, message in heard)


@pytest.mark.slow
def test_what_cannot_be_trained_is_refused(small_database):
    with pytest.raises(InputError, match="direct is not trained"):
        train_strategy(small_database, "direct")
    with pytest.raises(InputError, match="at least one epoch"):
        train_strategy(small_database, "ae", epochs=0)
    with pytest.raises(InputError, match="no architecture 'deep'; there are pooled, paper"):
        train_strategy(small_database, "ae", architecture="deep")


@pytest.mark.slow
def test_without_torch_the_package_and_the_way_to_it_are_named(small_database, user_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "TumorQueryLib.strategies.networks", raising=False)
    monkeypatch.delattr("TumorQueryLib.strategies.networks", raising=False)
    for refused in (lambda: create_strategy("vae", small_database), lambda: train_strategy(small_database, "vae")):
        with pytest.raises(MissingDependencyError, match=r"tumorquery\[learned\].*extension PyTorch"):
            refused()


# The strategies.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ae", "vae", "bihash"])
def test_an_entry_of_the_database_finds_itself(models, small_database, user_cache, name):
    engine = create_strategy(name, small_database, model=models[name])
    for entry in range(0, len(small_database), 13):
        matches = engine.query(entry_as_query(small_database, entry), top=4)
        assert entry in [m.entry for m in matches]
        # Rounding differs between a batch and a single query: of 1,024 bits one or two may flip.
        assert max(m.score for m in matches if m.entry == entry) > (-6 if name == "bihash" else -1e-2)


@pytest.mark.slow
def test_hash_codes_have_128_bytes(models, small_database, user_cache):
    engine = create_strategy("bihash", small_database, model=models["bihash"])
    for codes in engine.codes.values():
        assert codes.dtype == np.uint64
        assert codes[0].nbytes == 128


@pytest.mark.slow
def test_random_projection_finds_itself_and_follows_the_dice(small_database, user_cache):
    engine = create_strategy("random-projection", small_database)
    query = entry_as_query(small_database, 21)
    matches = engine.query(query, top=len(small_database))
    assert matches[0].entry == 21
    assert matches[0].score == pytest.approx(2, abs=1e-5)
    exact = np.array([m.dice_sum for m in matches])
    assert np.corrcoef(exact, [m.score for m in matches])[0, 1] > 0.95


def ranking(engine, database, entry=21):
    return [(m.entry, m.score) for m in engine.query(entry_as_query(database, entry), top=10)]


@pytest.mark.slow
def test_codes_are_made_once(small_database, user_cache):
    path = embed_database(small_database, "random-projection")
    assert path.is_relative_to(user_cache)
    made = path.stat().st_mtime_ns
    assert embed_database(small_database, "random-projection") == path
    assert path.stat().st_mtime_ns == made


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a bit", "cut", "longer", "another database's", "another shape", "text"])
def test_damaged_codes_are_made_again_and_that_is_said(small_database, user_cache, damage):
    engine = create_strategy("random-projection", small_database)
    expected, path = ranking(engine, small_database), engine.embedding_path()
    whole = path.read_bytes()
    identity, codes = engine._identity(), engine.codes
    if damage == "another database's":
        write_codes(path, identity | {"database_sha256": "0" * 64}, codes)
    elif damage == "another shape":
        # Compiled code that compares codes with a query trusts that they are as long.
        write_codes(path, identity, {name: values[:, :512].repeat(2, axis=0) for name, values in codes.items()})
    else:
        flipped = whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]
        contents = {"a bit": flipped, "cut": whole[:-1], "longer": whole + b"0", "text": b"no codes"}
        path.write_bytes(contents[damage])
    heard = []
    again = create_strategy("random-projection", small_database, progress=lambda value, text: heard.append(text))
    assert ranking(again, small_database) == expected
    assert any("damaged and are made again" in text for text in heard)
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_a_model_whose_codes_are_no_numbers_is_refused(models, small_database, user_cache, tmp_path, torch):
    """Its weights are finite, their products are not."""
    model = load_encoders(models["ae"], "ae")
    for encoder in model.encoders.values():
        for values in encoder.parameters():
            values.data = torch.full_like(values, 6e4)
    own = ("schema", "schema_version", "content_sha256")
    description = {key: value for key, value in model.description.items() if key not in own}
    save_encoders(tmp_path / "huge.safetensors", description, model.encoders, {})
    masks = TumorMasks(small_database.core.decode(3), small_database.whole.decode(3), small_database.grid)
    with pytest.raises(InputError, match="codes that ae makes are not finite"):
        create_strategy("ae", small_database, model=tmp_path / "huge.safetensors").query(masks, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random-projection", "radiomics"])
def test_a_database_whose_tumours_have_no_core_is_queried(small_database, user_cache, name):
    """An empty mask has features that are no numbers; a strategy may say so."""
    masks = TumorMasks(
        np.zeros_like(small_database.core.decode(3)), small_database.whole.decode(3), small_database.grid
    )
    assert len(create_strategy(name, small_database).query(masks, 3)) == 3


@pytest.mark.slow
def test_cancelled_embedding_leaves_nothing(small_database, user_cache):
    def cancel(value, message):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        embed_database(small_database, "radiomics", progress=cancel)
    assert not [path for path in user_cache.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_strategies_without_codes_have_nothing_to_embed(small_database):
    with pytest.raises(InputError, match="nothing to embed"):
        embed_database(small_database, "ds64")


@pytest.mark.slow
def test_a_model_of_another_strategy_or_a_damaged_one_is_refused(models, small_database, user_cache, tmp_path):
    with pytest.raises(InputError, match="another strategy"):
        create_strategy("ae", small_database, model=models["vae"])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(models["ae"].read_bytes()[:5000])
    with pytest.raises(InputError, match="train it again"):
        create_strategy("ae", small_database, model=damaged)


@pytest.mark.slow
def test_a_trained_model_is_found_in_the_cache_and_a_missing_one_is_explained(models, small_database, user_cache):
    from TumorQueryLib.strategies.models import trained_model_path

    path = trained_model_path(small_database, "bihash")
    path.parent.mkdir(parents=True)
    shutil.copy(models["bihash"], path)
    assert create_strategy("bihash", small_database).model.path == path


@pytest.mark.parametrize("name", learned_strategies())
@pytest.mark.slow
def test_the_bundled_models_find_what_the_exact_query_finds(name, torch, user_cache):
    with TumorDatabase.open("starter") as database:
        strategy = create_strategy(name, database)
        assert strategy.model.path.name == f"SRI24-{name}.safetensors"
        assert strategy.query(entry_as_query(database, 1234))[0].entry == 1234
        direct = create_strategy("direct", database)
        found = 0
        for number in range(10):
            one, other = (entry_as_query(database, 7 * number + n) for n in (300, 301))
            between = TumorMasks(one.core & other.core, one.whole | other.whole, database.grid)
            found += direct.query(between, 1)[0].entry in [match.entry for match in strategy.query(between, 100)]
        assert found >= 8
