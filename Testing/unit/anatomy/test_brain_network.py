"""Every fast layer of the brain's networks against what it is by its definition."""

import hashlib
import re
import zipfile
from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.anatomy import brain_network
from TumorQueryLib.anatomy.brain import resized
from TumorQueryLib.anatomy.brain_network import BOX_NETWORK, BRAIN_NETWORK, BrainNetwork, load_network
from TumorQueryLib.base.errors import InputError

#: Voxels along i, j, k: all different, so that no two axes can be mixed up.
SHAPE = (6, 4, 8)


def random(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def with_margin(array):
    return np.pad(array, ((0, 0), (1, 1), (1, 1), (1, 1)))


def inside(activation):
    return activation[:, 1:-1, 1:-1, 1:-1]


def slow_convolution(array, weight, stride=1):
    """The sum over the kernel's cells of the shifted array, times the cell's weights."""
    edge = weight.shape[2]
    padded = np.pad(array.astype(np.float64), ((0, 0), *[(edge // 2, edge // 2)] * 3))
    i, j, k = array.shape[1:]
    sums = sum(
        np.tensordot(weight[:, :, a, b, c], padded[:, a : a + i, b : b + j, c : c + k], 1)
        for a, b, c in product(range(edge), repeat=3)
    )
    return sums[:, ::stride, ::stride, ::stride]


def slow_transposed(array, weight, stride, padding, output_padding):
    """Each voxel adds its kernel, times its value, to the result."""
    edge = weight.shape[2]
    whole = [(n - 1) * stride + edge + output_padding for n in array.shape[1:]]
    result = np.zeros((weight.shape[1], *whole))
    for i, j, k in product(*map(range, array.shape[1:])):
        place = tuple(slice(stride * n, stride * n + edge) for n in (i, j, k))
        result[(slice(None), *place)] += np.tensordot(array[:, i, j, k], weight, 1)
    cut = tuple(slice(padding, n - padding) for n in whole)
    return result[(slice(None), *cut)]


def slow_norm(array):
    array = array.astype(np.float64)
    mean, variance = (f(array, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    return (array - mean) / np.sqrt(variance + 1e-5)


def slow_pool(array):
    padded = np.pad(array, ((0, 0), (1, 1), (1, 1), (1, 1)), constant_values=-np.inf)
    shifted = [
        padded[:, a : a - 2 or None, b : b - 2 or None, c : c - 2 or None] for a, b, c in product(range(3), repeat=3)
    ]
    return np.max(shifted, axis=0)[:, ::2, ::2, ::2]


def slow_log_odds(weights, image):
    """The network as deepbet's code has it, of the slow layers."""

    def relu(array):
        return np.maximum(array, 0)

    def weight(name):
        return weights[f"{name}.weight"]

    def block(name, array):
        stride = 2 if f"{name}.downsample.0.weight" in weights else 1
        residual = array
        if stride == 2:
            residual = slow_norm(slow_convolution(array, weight(f"{name}.downsample.0"), 2))
        array = relu(slow_norm(slow_convolution(array, weight(f"{name}.double_conv.0"), stride)))
        return relu(slow_norm(slow_convolution(array, weight(f"{name}.double_conv.3"))) + residual)

    def up(name, array):
        array = relu(slow_norm(slow_convolution(array, weight(f"{name}.conv1.0"))))
        stride = 1 if name == "up3" else 2
        array = relu(slow_norm(slow_transposed(array, weight(f"{name}.tp_conv.0"), stride, 1, stride - 1)))
        return relu(slow_norm(slow_convolution(array, weight(f"{name}.conv2.0"))))

    first = slow_pool(relu(slow_norm(slow_convolution(image[np.newaxis], weight("init.0"), 2))))
    states = [first]
    for name in ("down0", "down1", "down2", "down3"):
        states.append(block(f"{name}.block2", block(f"{name}.block1", states[-1])))
    state = states.pop()
    for name in ("up0", "up1", "up2", "up3"):
        state = up(name, state) + states.pop()
    bias = {name: weights[f"{name}.bias"][:, np.newaxis, np.newaxis, np.newaxis] for name in ("tp_conv1.0", "conv.0")}
    state = relu(slow_norm(slow_transposed(state, weight("tp_conv1.0"), 2, 1, 1) + bias["tp_conv1.0"]))
    state = relu(slow_norm(slow_convolution(state, weight("conv.0")) + bias["conv.0"]))
    classes = slow_transposed(state, weight("tp_conv2"), 2, 0, 0)
    return classes[1] - classes[0] + np.diff(weights["tp_conv2.bias"])


def test_the_kernel_is_not_turned_round():
    """As PyTorch's convolutions, which are correlations."""
    array, weight = random(1, *SHAPE), random(1, 1, 3, 3, 3)
    np.testing.assert_allclose(
        slow_convolution(array, weight)[0], ndimage.correlate(array[0], weight[0, 0], mode="constant"), atol=1e-4
    )


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 5), (8, 4)])
@pytest.mark.parametrize("edge", [1, 3])
def test_a_convolution_is_its_definition(channels, outputs, edge):
    array, weight = random(channels, *SHAPE), random(outputs, channels, edge, edge, edge)
    fast = inside(brain_network.convolution(with_margin(array), weight))
    np.testing.assert_allclose(fast, slow_convolution(array, weight), atol=1e-4)


@pytest.mark.parametrize(("channels", "edge"), [(3, 1), (3, 3), (1, 7)])
def test_a_convolution_with_a_stride_is_its_definition(channels, edge):
    array, weight = random(channels, *SHAPE), random(5, channels, edge, edge, edge)
    parities = brain_network.parity_arrays(with_margin(array))
    fast = inside(brain_network.convolution(parities, weight, stride=2))
    np.testing.assert_allclose(fast, slow_convolution(array, weight, 2), atol=1e-4)


def test_transposed_convolutions_are_their_definition():
    array, weight, small = random(3, *SHAPE), random(3, 5, 3, 3, 3), random(3, 1, 2, 2, 2)
    fast = inside(brain_network.transposed_convolution(with_margin(array), weight))
    np.testing.assert_allclose(fast, slow_transposed(array, weight, 2, 1, 1), atol=1e-4)
    fast = brain_network.doubled(with_margin(array), small[:, 0], 0.5)
    np.testing.assert_allclose(fast, slow_transposed(array, small, 2, 0, 0)[0] + 0.5, atol=1e-4)


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("has_residual", [True, False])
def test_the_normalisation_is_its_definition_and_clears_the_margin(rectify, has_residual):
    array, residual = 100 + 3 * random(3, *SHAPE), random(3, *SHAPE)
    activation = np.full((3, *(n + 2 for n in SHAPE)), np.nan, np.float32)
    inside(activation)[:] = array
    fast = brain_network.normalise(activation, with_margin(residual) if has_residual else None, rectify=rectify)
    slow = slow_norm(array) + (residual if has_residual else 0)
    np.testing.assert_allclose(fast, with_margin(np.maximum(slow, 0) if rectify else slow), atol=1e-4)


def test_the_pooling_is_its_definition():
    array = np.abs(random(3, *SHAPE))
    np.testing.assert_array_equal(brain_network.max_pool(with_margin(array)), with_margin(slow_pool(array)))


@pytest.mark.parametrize("size", [brain_network.CHUNK - 1, 2 * brain_network.CHUNK + 5])
def test_sums_beyond_a_chunk_are_whole_and_touch_nothing_else(size):
    source, weights, offsets = random(size + 20), random(4, 8), np.arange(8) - 3
    sums = np.full((4, size + 20), 7, np.float32)
    brain_network.weighted_sums(source, offsets, weights, sums, 5, 5 + size)
    slow = sum(weights[:, m : m + 1] * source[5 + offsets[m] :][:size] for m in range(8))
    np.testing.assert_allclose(sums[:, 5 : 5 + size], slow, atol=1e-4)
    assert (sums[:, :5] == 7).all()
    assert (sums[:, 5 + size :] == 7).all()


@pytest.mark.slow
def test_the_whole_network_is_that_of_the_slow_layers():
    network = load_network(BRAIN_NETWORK)
    image = (0.449 + 0.226 * random(64, 32, 32)).astype(np.float32)
    fast, slow = network.log_odds(image), slow_log_odds(network.weights, image)
    assert np.abs(slow).max() > 1
    np.testing.assert_allclose(fast, slow, atol=2e-3 * np.abs(slow).max())


def test_edges_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        BrainNetwork({}).log_odds(np.zeros((64, 48, 64), np.float32))


@examples(60)
@given(old=st.integers(1, 300), new=st.integers(1, 300))
def test_an_array_is_resized_by_the_voxel_that_holds_each_centre(old, new):
    picked = resized(np.arange(old)[:, np.newaxis, np.newaxis], (new, 1, 1))[:, 0, 0]
    assert picked.tolist() == [floor((n + Fraction(1, 2)) * old / new) for n in range(new)]


def test_the_bundled_file_is_small_and_whole():
    path = brain_network.network_path()
    assert path.stat().st_size < 4.1e6
    listed = dict(reversed(line.split()) for line in (path.parent / "SHA256SUMS").read_text().splitlines())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[path.name]
    for name in (BOX_NETWORK, BRAIN_NETWORK):
        weights = load_network(name).weights
        assert len(weights) == 38
        assert sum(values.size for values in weights.values()) == 2_126_258
        assert all(values.dtype == np.float32 for values in weights.values())
    with np.load(path) as file:
        assert {file[key].dtype for key in file.files if key.endswith(".weight")} == {np.dtype(np.int8)}


@pytest.mark.parametrize(
    "damage", ["missing", "truncated", "altered", "encrypted", "compressed otherwise", "empty", "another"]
)
def test_a_damaged_file_is_refused_in_a_sentence(damage, tmp_path):
    path = tmp_path / "brain_network.npz"
    data = bytearray(brain_network.network_path().read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "altered":
        data[len(data) // 3] ^= 0xFF
    elif damage in ("encrypted", "compressed otherwise"):
        # Flags and method of each entry, in its own header and in the list at the end.
        offset, value = (0, 1) if damage == "encrypted" else (2, 99)
        for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            for found in re.finditer(re.escape(signature), bytes(data)):
                data[found.start() + place + offset] = value
    elif damage == "empty":
        data.clear()
    if damage == "another":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("about.json", "{}")
    elif damage != "missing":
        path.write_bytes(data)

    def load_both():
        return [load_network(name, path) for name in (BOX_NETWORK, BRAIN_NETWORK)]

    with pytest.raises(InputError, match="missing or damaged"):
        load_both()
