"""What of an image is background and what is brain, whatever values the background has.

Images come with a background of 0, of a negative constant, padded with another value,
or with the ringing of an interpolation; one definition serves the checks of the inputs
and the registration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Volume, image_from_volume
from TumorQueryLib.geometry.regions import bounding_box, slices_between

#: A skull-stripped brain with its CSF holds at most about this much (ml); a head holds 2800 ml and more.
LARGEST_BRAIN_ML = 2300.0

#: Values closer than this to the background's, as a share of the image's contrast, are background.
TOLERANCE = 0.005
#: Standard deviation, as a share of the contrast, up to which a background counts as constant, or as air with noise.
CONSTANT_NOISE, AIR_NOISE = 0.01, 0.03
#: Share of an image's faces from which on a value can be that of a background.
SHARE_OF_FACES = 0.1
#: Backgrounds within one another: padding around a masked image around another one.
MOST_BACKGROUNDS = 4


@dataclass(frozen=True, eq=False)
class Background:
    """The background of an image.

    Parameters
    ----------
    foreground : ndarray of bool
        What is not background; True everywhere where there is none.
    found : bool
        False where no value stands out on the image's faces, as in one cropped to the
        brain's inside or in air with strong noise.
    constant : bool
        Whether the background has one value or several, but no noise to speak of.
    """

    foreground: NDArray[np.bool_]
    found: bool
    constant: bool


def find_background(array: NDArray[np.float32]) -> Background:
    """Tell background and foreground apart by the values on the image's faces.

    What is left is looked at again within its own box, since a background may lie
    within another: padding with 0 around a brain whose surroundings are negative.

    Parameters
    ----------
    array : ndarray of float32, shape (i, j, k)
        Finite.
    """
    foreground = np.ones(array.shape, dtype=bool)
    coarse = array[:: max(1, array.shape[0] // 96), :: max(1, array.shape[1] // 96), :: max(1, array.shape[2] // 96)]
    scale = float(np.subtract(*np.percentile(coarse, (99.5, 0.5)))) or float(np.ptp(array))
    found, constant = False, True
    for _ in range(MOST_BACKGROUNDS):
        if not foreground.any():
            break
        start, stop = bounding_box(foreground)
        box = slices_between(start, stop)
        faces, left = _faces(array[box]), _faces(foreground[box])
        value = _densest(faces[left], scale)
        # The contrast to the first background, so that a second one far off does not blur the first.
        if not found:
            contrast = np.abs(coarse - value)
            contrast = contrast[contrast > 1e-4 * scale]
            scale = float(np.percentile(contrast, 99)) if contrast.size else scale
        near = faces[left][np.abs(faces[left] - value) <= 2.5 * AIR_NOISE * scale]
        noise = 1.4826 * float(np.median(np.abs(near - np.median(near)))) / scale if scale else 0.0
        tolerance = max(TOLERANCE, 4 * noise) * scale
        share = np.count_nonzero(np.abs(faces[left] - value) <= tolerance) / faces.size
        if share < SHARE_OF_FACES or noise > (CONSTANT_NOISE if found else AIR_NOISE):
            break
        # Air is darker than anything else; white matter, which is as even, is not.
        if noise > CONSTANT_NOISE and (coarse < value - tolerance).mean() > 0.01:
            break
        found, constant = True, constant and noise <= CONSTANT_NOISE
        foreground &= np.abs(array - value) > tolerance
    return Background(foreground, found, found and constant)


def find_brain(image: Volume) -> tuple[NDArray[np.bool_], bool]:
    """The brain of a skull-stripped image, and whether the image seems to hold the whole head.

    Parameters
    ----------
    image : Volume
        float32; the background of a skull-stripped image is nearly constant, whatever its value or values.

    Returns
    -------
    brain : ndarray of bool
        What is not background, its holes filled; the largest part only.
    has_skull : bool
        The background is not constant (air with noise), or more than 2.3 litres stand out from it.

    Raises
    ------
    InputError
        When the image has one value only.
    """
    if image.array.min() == image.array.max():
        raise InputError(f"The image is empty: every voxel is {image.array.flat[0]:g}.")
    background = find_background(image.array)
    if background.constant:
        foreground = background.foreground
    else:
        foreground = sitk.GetArrayFromImage(sitk.OtsuThreshold(image_from_volume(image), 0, 1)).transpose(2, 1, 0) > 0
    parts, count = ndimage.label(foreground)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        foreground = parts == 1 + sizes[1:].argmax()
    brain = ndimage.binary_fill_holes(foreground)
    volume_ml = brain.sum() * image.grid.voxel_volume_ml
    return brain, bool(not background.constant or volume_ml > LARGEST_BRAIN_ML)


def _faces(array: NDArray) -> NDArray:
    """The values on the six faces of an array."""
    return np.concatenate([array[[0, -1]].ravel(), array[:, [0, -1]].ravel(), array[:, :, [0, -1]].ravel()])


def _densest(values: NDArray[np.float32], scale: float) -> float:
    """The middle of the narrow band that holds most of the values."""
    ordered = np.sort(values)
    ends = np.searchsorted(ordered, ordered + 4 * TOLERANCE * scale, side="right")
    first = int((ends - np.arange(ordered.size)).argmax())
    return float(np.median(ordered[first : ends[first]]))
