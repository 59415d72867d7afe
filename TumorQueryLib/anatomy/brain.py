"""The brain of a head's image, found by deepbet's two networks (see `brain_network`).

deepbet was trained on T1 images of healthy adults; with other contrasts and with tumours it works less exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.anatomy.brain_network import BOX_NETWORK, BRAIN_NETWORK, BrainNetwork, load_network
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.grid import Grid, Volume

#: Edges of the cubes that the two networks see, whatever the image's voxels.
BOX_EDGE, BRAIN_EDGE = 128, 256
#: Quantiles of the values that are taken for the darkest and the brightest.
QUANTILES = (0.005, 0.995)
#: Mean and standard deviation of the values that the networks were trained with.
MEAN, DEVIATION = 0.449, 0.226
#: A layer of voxels belongs to the box where more than this share of it is brain.
SHARE_OF_LAYER = 0.02
#: What is added to the box on each side, as a share of its size.
MARGIN = 0.1
#: Share of the whole work that the first network takes.
BOX_SHARE = 0.12


def extract_brain(
    image: Volume, *, networks: Mapping[str, BrainNetwork] | None = None, progress: Progress = no_progress
) -> Volume:
    """Find the brain, with its CSF, in the image of a head.

    The steps are those of deepbet 1.0.2 (L. Fisch et al., Computers in Biology and Medicine 179:108845, 2024): a first
    network finds the brain's box in the whole image at 128^3 voxels, a second one the brain in that box at 256^3; the
    largest part is kept and its holes are filled.

    Parameters
    ----------
    image : Volume
        A head with its skull, T1 best; any numeric dtype, on any grid, also with thick slices or oblique. Values that
        are not finite count as 0.
    networks : mapping of str to BrainNetwork, optional
        Those of `BOX_NETWORK` and `BRAIN_NETWORK`; the bundled ones by default.
    progress : Progress

    Returns
    -------
    Volume
        Boolean, on the image's grid; not empty.

    Raises
    ------
    InputError
        When no brain is found, or the bundled networks are missing or damaged.
    """
    if networks is None:
        networks = {name: load_network(name) for name in (BOX_NETWORK, BRAIN_NETWORK)}
    axes, flips = closest_to_ras(image.grid)
    array = np.ascontiguousarray(image.array.transpose(axes)[flips], dtype=np.float32)
    array = np.where(np.isfinite(array), array, np.float32(0))

    small = resized(array, (BOX_EDGE,) * 3)
    low, high = (float(value) for value in np.quantile(small, QUANTILES))
    if not low < high:
        raise _no_brain(image, f"nearly all of its values are {low:g}")
    found = networks[BOX_NETWORK].log_odds(_as_trained(small, low, high), progress=part(progress, 0, BOX_SHARE)) > 0
    box = _box(largest_part(found), array.shape) if found.any() else None
    if box is None:
        raise _no_brain(image, "nothing in it looks like one to the network")

    inside = _as_trained(resized(array[box], (BRAIN_EDGE,) * 3), low, high)
    del array
    odds = networks[BRAIN_NETWORK].log_odds(inside, progress=part(progress, BOX_SHARE, 1))
    del inside
    brain = np.zeros([image.grid.shape[axis] for axis in axes], dtype=bool)
    within = resized(odds > 0, brain[box].shape)
    if not within.any():
        raise _no_brain(image, "nothing in it looks like one to the network")
    brain[box] = ndimage.binary_fill_holes(largest_part(within))
    return Volume(np.ascontiguousarray(brain[flips].transpose(np.argsort(axes))), image.grid)


def closest_to_ras(grid: Grid) -> tuple[tuple[int, int, int], tuple[slice, slice, slice]]:
    """How a grid's voxels are put so that their axes lie as close to R, A, S as they can without turning.

    Returns
    -------
    axes : tuple of int
        `array.transpose(axes)` has the axes closest to R, A and S in this order.
    flips : tuple of slice
        Indexes the transposed array so that each axis runs towards R, A or S; its own inverse.
    """
    # The nearest rotation first, as nibabel has it, so that a shear does not decide.
    left, _, right = np.linalg.svd(grid.affine[:3, :3] / grid.spacing)
    turn = left @ right
    axes, signs = [0, 0, 0], [1, 1, 1]
    # The clearest axis chooses first.
    for axis in np.argsort(-np.abs(turn).max(axis=0), kind="stable"):
        towards = int(np.abs(turn[:, axis]).argmax())
        axes[towards], signs[towards] = int(axis), 1 if turn[towards, axis] > 0 else -1
        turn[towards] = 0
    i, j, k = (slice(None, None, sign) for sign in signs)
    return (axes[0], axes[1], axes[2]), (i, j, k)


def resized(array: NDArray, shape: tuple[int, ...]) -> NDArray:
    """The array with another number of voxels over the same extent, by the nearest voxel (PyTorch's nearest-exact)."""
    picks = [(2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(shape, array.shape)]
    return array[np.ix_(*picks)]


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest of the parts that touch at least at corners; of equal ones the first. The mask must not be empty."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    return mask if count == 1 else labels == 1 + np.bincount(labels.ravel())[1:].argmax()


def _as_trained(array: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Values between `low` and `high` as the networks were trained with; in place."""
    array -= np.float32(low)
    array /= np.float32(high - low)
    np.clip(array, 0, 1, out=array)
    array -= array.mean(dtype=np.float64)
    deviation = array.std(dtype=np.float64, ddof=1)
    array *= np.float32(DEVIATION / deviation if deviation > 0 else 0)
    array += np.float32(MEAN)
    return array


def _box(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> tuple[slice, slice, slice] | None:
    """The box of a mask of 128^3 voxels, with a margin, in the image's voxels; None where no layer holds enough."""
    box = []
    for axis, edge in enumerate(shape):
        share = mask.mean(axis=tuple(a for a in range(3) if a != axis))
        layers = np.flatnonzero(share > SHARE_OF_LAYER)
        if layers.size == 0:
            return None
        scale = edge / mask.shape[axis]
        centre = round(scale * (layers[-1] + 1 + layers[0]) / 2)
        size = max(round((1 + 2 * MARGIN) * scale * (layers[-1] + 1 - layers[0])), 1)
        start = max(0, int(centre - size / 2))
        box.append(slice(start, max(min(edge, int(centre + size / 2)), start + 1)))
    return box[0], box[1], box[2]


def _no_brain(image: Volume, reason: str) -> InputError:
    size = " x ".join(f"{edge:.0f}" for edge in image.grid.spacing * image.grid.shape)
    return InputError(
        f"No brain was found in the image of {size} mm: {reason}. What is accepted is the MR image of a whole head "
        "with its place and voxel size in the header; give another one, or a brain mask of your own."
    )
