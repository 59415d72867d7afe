"""The two networks of the brain extraction, run by NumPy and numba.

The architecture is LinkNet3d as deepbet 1.0.2 has it (MIT, (c) 2023 Medical Machine Learning Lab - University of
Münster; L. Fisch et al., Computers in Biology and Medicine 179:108845, 2024). Its weights lie in
`Resources/Models/brain_network.npz`, which `scripts/make_brain_network.py` makes from its wheel: int8, with a scale
for each output channel.

An activation is a float32 array (channels, i + 2, j + 2, k + 2) with a margin of zeros around the voxels. A step from
a voxel to a neighbour is then one fixed distance in memory, whatever the voxel, so that every convolution is a sum of
shifted copies of a flat array, times weights (`weighted_sums`). With a stride of 2, the copies come from the eight
arrays of the voxels with even and odd indices; a transposed convolution makes such arrays.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.compiled import njit
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.parallel import in_slices
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.base.resources import resources_folder

Array = NDArray[np.float32]

#: Cells that are summed together: four rows of sums and four of sources fit the first cache.
CHUNK = 1024
#: Added to the variance by the instance normalisation.
EPSILON = 1e-5
#: What the edges of an image have to be multiples of: it is halved five times.
MULTIPLE = 32
#: Parts of a run between which progress is told.
STEPS = 12
#: The eight combinations of even (0) and odd (1) indices, in the order in which their arrays lie in memory.
PARITIES = tuple(product((0, 1), repeat=3))

_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})


@dataclass(frozen=True, eq=False)
class BrainNetwork:
    """One of the two networks.

    Parameters
    ----------
    weights : dict of str to ndarray of float32
        Weights and biases by the names that deepbet gives them.
    """

    weights: dict[str, Array]

    def log_odds(self, image: Array, *, progress: Progress = no_progress) -> Array:
        """How much more likely than not each voxel is brain: the logarithm of p / (1 - p).

        Parameters
        ----------
        image : ndarray of float32, shape (i, j, k)
            Normalised as the network was trained (see `brain.extract_brain`), axes along RAS; each edge is a
            multiple of 32.
        progress : Progress

        Returns
        -------
        ndarray of float32, shape (i, j, k)
            Above 0 where brain is the more likely class; the softmax over two classes is the logistic function of it.

        Raises
        ------
        ValueError
            When an edge is no multiple of 32.
        """
        if any(edge % MULTIPLE for edge in image.shape):
            raise ValueError(f"an image of shape {image.shape} has edges that are no multiples of {MULTIPLE}")
        steps = iter(range(STEPS))

        def tell() -> None:
            progress(next(steps) / STEPS, "Finding the brain")

        tell()
        parities = parity_arrays(np.pad(image[np.newaxis], ((0, 0), (1, 1), (1, 1), (1, 1))))
        state = convolution(parities, self._weight("init.0"), stride=2)
        del parities
        normalise(state)
        state = max_pool(state)
        passed = []
        for name in ("down0", "down1", "down2", "down3"):
            tell()
            passed.append(state)
            state = self._down(name, state)
        for name in ("up0", "up1", "up2", "up3"):
            tell()
            state = self._up(name, state)
            state += passed.pop()
        tell()
        # A bias before an instance normalisation changes nothing: the mean that is taken away holds it.
        state = normalise(transposed_convolution(state, self._weight("tp_conv1.0")))
        tell()
        state = normalise(convolution(state, self._weight("conv.0")))
        tell()
        weight, bias = self._weight("tp_conv2"), self.weights["tp_conv2.bias"]
        return doubled(state, weight[:, 1] - weight[:, 0], bias[1] - bias[0])

    def _weight(self, name: str) -> Array:
        return self.weights[f"{name}.weight"]

    def _down(self, name: str, state: Array) -> Array:
        """Two residual blocks, the first with a stride of 2 where it has weights for the residual."""
        for block in (f"{name}.block1", f"{name}.block2"):
            residual, source, stride = state, state, 1
            if f"{block}.downsample.0.weight" in self.weights:
                source, stride = parity_arrays(state), 2
                residual = normalise(convolution(source, self._weight(f"{block}.downsample.0"), stride), rectify=False)
            state = normalise(convolution(source, self._weight(f"{block}.double_conv.0"), stride))
            state = normalise(convolution(state, self._weight(f"{block}.double_conv.3")), residual)
        return state

    def _up(self, name: str, state: Array) -> Array:
        """Fewer channels, twice the voxels along each axis (in `up3` as many), more channels."""
        state = normalise(convolution(state, self._weight(f"{name}.conv1.0")))
        weight = self._weight(f"{name}.tp_conv.0")
        if name == "up3":
            # With a stride of 1 a transposed convolution is one with the kernel turned round.
            state = normalise(convolution(state, weight[:, :, ::-1, ::-1, ::-1].swapaxes(0, 1)))
        else:
            state = normalise(transposed_convolution(state, weight))
        return normalise(convolution(state, self._weight(f"{name}.conv2.0")))


#: Names of the two networks in the file: the first finds the box of the brain in the whole image.
BOX_NETWORK, BRAIN_NETWORK = "bbox_model", "model"


def network_path() -> Path:
    """The file of the bundled networks."""
    return resources_folder() / "Models" / "brain_network.npz"


def load_network(name: str, path: Path | None = None) -> BrainNetwork:
    """Read one of the networks.

    Parameters
    ----------
    name : str
        `BOX_NETWORK` or `BRAIN_NETWORK`.
    path : Path, optional
        The file; the bundled one by default.

    Raises
    ------
    InputError
        When the file is missing or damaged.
    """
    path = network_path() if path is None else path
    weights = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                network, _, parameter = key.partition("/")
                if network != name or parameter.endswith(".scale"):
                    continue
                values = file[key]
                if values.dtype == np.int8:
                    values = values * file[f"{key}.scale"]
                weights[parameter] = values
        if not weights:
            raise KeyError(name)
    # RuntimeError is zipfile's for a flag of encryption, or its own kind for an unknown compression.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"The networks of the brain extraction cannot be read from {path}: it is missing or damaged. "
            "Install TumorQuery again, or give a brain mask of your own."
        ) from error
    return BrainNetwork(weights)


def parity_arrays(activation: Array) -> Array:
    """The voxels with even and odd indices apart.

    Parameters
    ----------
    activation : ndarray of float32, shape (channels, i + 2, j + 2, k + 2)
        With its margin; i, j and k are even.

    Returns
    -------
    ndarray of float32, shape (8 * channels, i / 2 + 2, j / 2 + 2, k / 2 + 2)
        With margins of zeros; for each channel in the order of `PARITIES`.
    """
    channels, i, j, k = activation.shape
    parts = np.zeros((channels, len(PARITIES), i // 2 + 1, j // 2 + 1, k // 2 + 1), np.float32)

    def work(numbers: slice) -> None:
        for number in range(numbers.start, numbers.stop):
            a, b, c = PARITIES[number]
            parts[:, number, 1:-1, 1:-1, 1:-1] = activation[:, 1 + a : -1 : 2, 1 + b : -1 : 2, 1 + c : -1 : 2]

    in_slices(work, len(PARITIES))
    return parts.reshape(-1, *parts.shape[2:])


def convolution(activation: Array, weight: Array, stride: int = 1) -> Array:
    """A convolution with an odd, cubic kernel and as much padding as keeps the voxels' number (over the stride).

    Parameters
    ----------
    activation : ndarray of float32
        With its margin; for a stride of 2 what `parity_arrays` gave.
    weight : ndarray of float32, shape (channels out, channels in, edge, edge, edge)
        As PyTorch's: the kernel is not turned round. The edge is 1 or 3; 7 with a stride of 2 and a single channel.
    stride : {1, 2}

    Returns
    -------
    ndarray of float32
        With a margin, which holds no zeros but what came up: `normalise` clears it.
    """
    edge = weight.shape[2]
    taps, offsets = np.array(list(product(range(edge), repeat=3))), np.empty((weight.shape[1], edge**3), np.int64)
    channel = activation[0].size
    steps = np.array([activation.shape[2] * activation.shape[3], activation.shape[3], 1])
    shift = taps - edge // 2
    if stride == 1:
        offsets[:] = shift @ steps + channel * np.arange(weight.shape[1])[:, np.newaxis]
    else:
        # Voxel 2 o + s of the image is voxel o + (s - s mod 2) / 2 of the array of that parity.
        parity = shift % 2
        within = (parity @ (4, 2, 1)) * channel + (shift // 2) @ steps
        offsets[:] = within + len(PARITIES) * channel * np.arange(weight.shape[1])[:, np.newaxis]
    return _sums(activation, offsets.ravel(), weight.reshape(len(weight), -1))


def transposed_convolution(activation: Array, weight: Array) -> Array:
    """A transposed convolution with a kernel of 3, a stride of 2, padding of 1 and output padding of 1.

    Parameters
    ----------
    activation : ndarray of float32, shape (channels in, i + 2, j + 2, k + 2)
    weight : ndarray of float32, shape (channels in, channels out, 3, 3, 3)
        As PyTorch's.

    Returns
    -------
    ndarray of float32, shape (channels out, 2 i + 2, 2 j + 2, 2 k + 2)
    """
    channels, i, j, k = activation.shape
    result = np.zeros((weight.shape[1], 2 * i - 2, 2 * j - 2, 2 * k - 2), np.float32)
    steps = np.array([j * k, k, 1])
    # Along an axis, voxel 2 m takes the kernel's middle from m; voxel 2 m + 1 its end from m and its start from m + 1.
    ways = (((1, 0),), ((2, 0), (0, 1)))
    for a, b, c in PARITIES:
        taps = np.array(list(product(ways[a], ways[b], ways[c])))
        kernel = weight[:, :, taps[:, 0, 0], taps[:, 1, 0], taps[:, 2, 0]].swapaxes(0, 1)
        offsets = taps[:, :, 1] @ steps + activation[0].size * np.arange(channels)[:, np.newaxis]
        part = _sums(activation, offsets.ravel(), kernel.reshape(len(kernel), -1))
        _spread(part, result[:, 1 + a : -1 : 2, 1 + b : -1 : 2, 1 + c : -1 : 2])
    return result


def doubled(activation: Array, weight: Array, bias: float) -> Array:
    """A transposed convolution to one channel with a kernel and a stride of 2; without a margin.

    Parameters
    ----------
    activation : ndarray of float32, shape (channels, i + 2, j + 2, k + 2)
    weight : ndarray of float32, shape (channels, 2, 2, 2)
    bias : float

    Returns
    -------
    ndarray of float32, shape (2 i, 2 j, 2 k)
    """
    channels, i, j, k = activation.shape
    offsets = activation[0].size * np.arange(channels)
    parts = _sums(activation, offsets, weight.reshape(channels, -1).T)
    result = np.empty((2 * i - 4, 2 * j - 4, 2 * k - 4), np.float32)
    for part, (a, b, c) in zip(parts, PARITIES):
        _spread(part[np.newaxis], result[np.newaxis, a::2, b::2, c::2])
    result += np.float32(bias)
    return result


def max_pool(activation: Array) -> Array:
    """The greatest of 3^3 voxels around every second one; none may be negative, so that the margin does no harm."""
    channels, i, j, k = activation.shape
    result = np.zeros((channels, i // 2 + 1, j // 2 + 1, k // 2 + 1), np.float32)
    in_slices(lambda part: _max_pool(activation[part], result[part]), channels)
    return result


def normalise(activation: Array, residual: Array | None = None, *, rectify: bool = True) -> Array:
    """In place: each channel to mean 0 and variance 1, a residual added, negative values to 0, the margin to 0.

    Parameters
    ----------
    activation : ndarray of float32, shape (channels, i + 2, j + 2, k + 2)
    residual : ndarray of float32, optional
        Of the same shape.
    rectify : bool
        Whether negative values become 0.

    Returns
    -------
    ndarray of float32
        The activation.
    """
    added = activation[:0] if residual is None else residual
    in_slices(lambda part: _normalise(activation[part], added[part], rectify), len(activation))
    return activation


def _sums(activation: Array, offsets: NDArray[np.int64], weight: Array) -> Array:
    """`weighted_sums` on all cores, for all voxels inside the margin."""
    outputs, terms = -(-len(weight) // 4) * 4, -(-len(offsets) // 4) * 4
    weights = np.zeros((outputs, terms), np.float32)
    weights[: len(weight), : len(offsets)] = weight
    offsets = np.concatenate([offsets, np.repeat(offsets[:1], terms - len(offsets))]).astype(np.int64)
    _, i, j, k = activation.shape
    result = np.empty((outputs, i, j, k), np.float32)
    source, sums = activation.reshape(-1), result.reshape(outputs, -1)

    def work(layers: slice) -> None:
        first = (1 + layers.start) * j * k + k + 1
        weighted_sums(source, offsets, weights, sums, first, layers.stop * j * k + (j - 1) * k - 1)

    in_slices(work, i - 2)
    return result[: len(weight)]


def _spread(part: Array, target: Array) -> None:
    """Write what lies inside the margin of `part` into `target`, a layer of every channel at a time."""

    def work(layers: slice) -> None:
        target[:, layers] = part[:, 1:-1, 1:-1, 1:-1][:, layers]

    in_slices(work, target.shape[1])


@_compiled
def _add_products(source0, source1, source2, source3, weights, sum0, sum1, sum2, sum3):
    """Add four sources, times weights, to four sums; of one length, so that LLVM vectorises."""
    a0, b0, c0, d0 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    a1, b1, c1, d1 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    a2, b2, c2, d2 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    a3, b3, c3, d3 = weights[3, 0], weights[3, 1], weights[3, 2], weights[3, 3]
    for p in range(sum0.size):
        a, b, c, d = source0[p], source1[p], source2[p], source3[p]
        sum0[p] = sum0[p] + a0 * a + b0 * b + c0 * c + d0 * d
        sum1[p] = sum1[p] + a1 * a + b1 * b + c1 * c + d1 * d
        sum2[p] = sum2[p] + a2 * a + b2 * b + c2 * c + d2 * d
        sum3[p] = sum3[p] + a3 * a + b3 * b + c3 * c + d3 * d


@_compiled
def weighted_sums(
    source: Array, offsets: NDArray[np.int64], weights: Array, sums: Array, first: int, last: int
) -> None:
    """sums[n, p] = sum over m of weights[n, m] * source[p + offsets[m]], for first <= p < last.

    Parameters
    ----------
    source : ndarray of float32, shape (cells,)
    offsets : ndarray of int64, shape (terms,)
    weights : ndarray of float32, shape (outputs, terms)
        Both numbers are multiples of 4.
    sums : ndarray of float32, shape (outputs, cells)
    first, last : int
    """
    outputs, terms = weights.shape
    for low in range(first, last, CHUNK):
        size = min(CHUNK, last - low)
        for n in range(0, outputs, 4):
            sum0, sum1 = sums[n, low : low + size], sums[n + 1, low : low + size]
            sum2, sum3 = sums[n + 2, low : low + size], sums[n + 3, low : low + size]
            sum0[:] = 0
            sum1[:] = 0
            sum2[:] = 0
            sum3[:] = 0
            for m in range(0, terms, 4):
                p0, p1, p2, p3 = (
                    low + offsets[m],
                    low + offsets[m + 1],
                    low + offsets[m + 2],
                    low + offsets[m + 3],
                )
                _add_products(
                    source[p0 : p0 + size],
                    source[p1 : p1 + size],
                    source[p2 : p2 + size],
                    source[p3 : p3 + size],
                    weights[n : n + 4, m : m + 4],
                    sum0,
                    sum1,
                    sum2,
                    sum3,
                )


@_compiled
def _row_sum(row, mean, square):
    """Sum of (value - mean), or of its square."""
    total = np.float32(0)
    if square:
        for p in range(row.size):
            total += (row[p] - mean) * (row[p] - mean)
    else:
        for p in range(row.size):
            total += row[p] - mean
    return np.float64(total)


@_compiled
def _normalise(activation, residual, rectify):
    """`normalise` of some channels; a residual of no channels is none."""
    channels, ni, nj, nk = activation.shape
    count = (ni - 2) * (nj - 2) * (nk - 2)
    for c in range(channels):
        # Rows are summed in single precision, their sums in double precision.
        total = 0.0
        for i in range(1, ni - 1):
            for j in range(1, nj - 1):
                total += _row_sum(activation[c, i, j, 1 : nk - 1], np.float32(0), False)
        mean = np.float32(total / count)
        total = 0.0
        for i in range(1, ni - 1):
            for j in range(1, nj - 1):
                total += _row_sum(activation[c, i, j, 1 : nk - 1], mean, True)
        scale = np.float32(1.0 / np.sqrt(total / count + EPSILON))
        lowest = np.float32(0) if rectify else np.float32(-np.inf)
        activation[c, 0] = 0
        activation[c, ni - 1] = 0
        for i in range(1, ni - 1):
            activation[c, i, 0] = 0
            activation[c, i, nj - 1] = 0
            for j in range(1, nj - 1):
                activation[c, i, j, 0] = 0
                activation[c, i, j, nk - 1] = 0
                row = activation[c, i, j, 1 : nk - 1]
                if residual.shape[0] > 0:
                    added = residual[c, i, j, 1 : nk - 1]
                    for p in range(row.size):
                        row[p] = max((row[p] - mean) * scale + added[p], lowest)
                else:
                    for p in range(row.size):
                        row[p] = max((row[p] - mean) * scale, lowest)


@_compiled
def _max_pool(activation, result):
    """`max_pool` of some channels: along k and j within a row of results, then along i."""
    channels, ni, nj, nk = result.shape
    for c in range(channels):
        for i in range(1, ni - 1):
            for j in range(1, nj - 1):
                for k in range(1, nk - 1):
                    greatest = np.float32(0)
                    for a in range(2 * i - 2, 2 * i + 1):
                        for b in range(2 * j - 2, 2 * j + 1):
                            for d in range(2 * k - 2, 2 * k + 1):
                                greatest = max(greatest, activation[c, a, b, d])
                    result[c, i, j, k] = greatest
