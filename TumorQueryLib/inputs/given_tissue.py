"""Tissue maps that a user gives with a patient: white matter, grey matter and CSF, read and checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.anatomy.tissue import TISSUE_THRESHOLD
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_background
from TumorQueryLib.geometry.grid import Volume, resample_mask
from TumorQueryLib.inputs.checks import ImageFile, check_plausible_grid, finite_values
from TumorQueryLib.inputs.labels import ROUNDING

#: The maps by the arguments that name them, in the order in which they are given.
TISSUE_NAMES = {"white_matter": "white matter map", "grey_matter": "grey matter map", "csf": "CSF map"}
#: Values that stand for a probability of 1: as a share, in per cent, in eight bits.
SCALES = (1, 100, 255)
#: How far below 0 and above 1 an interpolation by splines may take a probability.
OVERSHOOT = 0.1
#: The maps' usual sum in the brain lies this close to the value that stands for 1.
SUM_TOLERANCE = 0.1
#: A sum above the first in more than the second share of the brain means that the maps are not of three tissues.
LARGEST_SUM, MOST_ABOVE = 1.3, 0.2
#: White and grey matter together, ml: fewer are no brain; outside the range the user should look.
SMALLEST_TISSUE_ML = 100.0
USUAL_TISSUE_ML = (600.0, 2200.0)
#: Share of the tissue that has to lie in the head or brain of the T1Gd, and from which on nothing is said.
LEAST_INSIDE, USUAL_INSIDE = 0.5, 0.9


def tissue_maps_of_files(files: Mapping[str, ImageFile], warnings: list[str]) -> TissueMaps | None:
    """The maps that are given; None where none is. `warnings` get what the values say.

    Parameters
    ----------
    files : mapping of str to ImageFile
        By the names of `TISSUE_NAMES`; all or none.
    warnings : list of str

    Raises
    ------
    InputError
        When a map is missing, on another grid than the others, or holds no probabilities.
    """
    if not files:
        return None
    missing = [name for role, name in TISSUE_NAMES.items() if role not in files]
    if missing:
        raise InputError(
            f"The {' and the '.join(missing)} is not given; the tumour grows in three maps of one segmentation, white "
            "matter, grey matter and CSF: give all of them, or none."
        )
    grid = files["white_matter"].volume.grid
    arrays = []
    for role, name in TISSUE_NAMES.items():
        volume = files[role].volume
        if not volume.grid.matches(grid):
            raise InputError(
                f"The {name} is on another grid than the white matter map; give the three maps of one segmentation."
            )
        arrays.append(_finite(volume.array, name, warnings))
    scale = _scale(arrays)
    if scale != 1:
        warnings.append(f"The tissue maps hold values up to {scale}, which stands for a probability of 1.")
    white, grey, csf = (
        _probabilities(array, scale, name, warnings) for array, name in zip(arrays, TISSUE_NAMES.values())
    )
    return TissueMaps(white, grey, csf, grid)


def check_tissue_maps(
    maps: TissueMaps, image: Volume, image_name: str, brain_mask: Volume | None, warnings: list[str]
) -> None:
    """Refuse maps that cannot be this patient's; `warnings` get what is doubtful.

    Parameters
    ----------
    maps : TissueMaps
    image : Volume
        On which they lie, and what it is called in sentences.
    image_name : str
    brain_mask : Volume, optional
        Boolean, in the space of that image.
    warnings : list of str

    Raises
    ------
    InputError
    """
    check_plausible_grid(maps.grid, "tissue maps")
    three = {"white matter": maps.white_matter, "grey matter": maps.grey_matter, "CSF": maps.csf}
    for name, array in three.items():
        # Written so that NaN fails too.
        if not (array.shape == maps.grid.shape and array.min() >= 0 and array.max() <= 1):
            raise InputError(f"The {name} map has to hold probabilities in [0, 1], one for each voxel of its grid.")
        if not array.any():
            raise InputError(f"The {name} map is 0 everywhere; give the map of that tissue.")
    for (name, array), (other_name, other) in zip(three.items(), [*three.items()][1:] + [*three.items()][:1]):
        if np.array_equal(array, other):
            raise InputError(f"The {name} map and the {other_name} map are the same; give a map of each tissue.")
    total = maps.white_matter + maps.grey_matter + maps.csf
    brain = total > TISSUE_THRESHOLD
    above = float((total[brain] > LARGEST_SUM).mean()) if brain.any() else 0.0
    if above > MOST_ABOVE:
        raise InputError(
            f"The tissue maps add up to more than {LARGEST_SUM} in {above:.0%} of the brain; they are shares of each "
            "voxel that add up to 1 at most. Is one of them a brain mask, or the same tissue twice?"
        )
    tissue = maps.white_matter + maps.grey_matter >= TISSUE_THRESHOLD
    volume = float(np.count_nonzero(tissue) * maps.grid.voxel_volume_ml)
    if volume < SMALLEST_TISSUE_ML:
        raise InputError(
            f"The tissue maps hold {volume:.0f} ml of white and grey matter; that is no brain. They are probabilities "
            "in the order white matter, grey matter, CSF."
        )
    if not USUAL_TISSUE_ML[0] <= volume <= USUAL_TISSUE_ML[1]:
        warnings.append(
            f"The tissue maps hold {volume:.0f} ml of white and grey matter, while "
            f"{USUAL_TISSUE_ML[0]:.0f} to {USUAL_TISSUE_ML[1]:.0f} ml are usual."
        )
    _check_place(maps, tissue, image, image_name, brain_mask, warnings)


def _check_place(
    maps: TissueMaps,
    tissue: NDArray[np.bool_],
    image: Volume,
    image_name: str,
    brain_mask: Volume | None,
    warnings: list[str],
) -> None:
    """Refuse maps whose tissue lies elsewhere than the imaged head, or brain where there is a mask of it."""
    cells = np.argwhere(tissue)
    points = maps.grid.to_ras(cells[:: max(1, len(cells) // 20_000)])
    index = np.rint(image.grid.to_index(points)).astype(int)
    within = ((index >= 0) & (index < image.grid.shape)).all(axis=1)
    inside, where = 0.0, f"the {image_name}"
    if within.mean() >= LEAST_INSIDE:
        # What lies beyond a slab or a cropped image says nothing.
        seen = find_background(image.array).foreground
        if brain_mask is not None:
            seen, where = resample_mask(brain_mask, image.grid).array, "the brain mask"
        inside = float(seen[tuple(index[within].T)].mean())
    if inside < LEAST_INSIDE:
        raise InputError(
            f"Only {inside:.0%} of the tissue maps' white and grey matter lies in {where}: they lie elsewhere in space "
            f"or are of another patient. Make them from this patient's images, or bring them there "
            "(mri_vol2vol, flirt, antsApplyTransforms)."
        )
    if inside < USUAL_INSIDE:
        warnings.append(f"{1 - inside:.0%} of the tissue maps' white and grey matter lies outside {where}.")


def _finite(array: NDArray, name: str, warnings: list[str]) -> NDArray[np.float32]:
    if array.dtype.kind not in "buif":
        raise InputError(f"The {name} holds {array.dtype} values; a map of probabilities holds numbers.")
    return finite_values(array, name, "map", warnings)


def _scale(arrays: list[NDArray[np.float32]]) -> int:
    """The value that stands for a probability of 1, where the three maps together say it without a doubt."""
    lowest, highest = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    for scale in SCALES:
        # Interpolated shares reach beyond 1; what was rounded to whole numbers does not.
        beyond = OVERSHOOT if scale == 1 else ROUNDING
        if not (lowest >= -beyond * scale and highest <= (1 + beyond) * scale):
            continue
        total = arrays[0] + arrays[1] + arrays[2]
        brain = total[total > TISSUE_THRESHOLD * scale]
        if scale == 1 or (brain.size and abs(float(np.median(brain)) - scale) <= SUM_TOLERANCE * scale):
            return scale
    raise InputError(
        f"The tissue maps hold values from {lowest:g} to {highest:g}; they are probabilities of 0 to 1 (or, where the "
        "three add up to it in the brain, 0 to 100 or 0 to 255). Of a label map make a map of 0 and 1 for each tissue."
    )


def _probabilities(array: NDArray[np.float32], scale: int, name: str, warnings: list[str]) -> NDArray[np.float32]:
    """Values in [0, 1]."""
    values = array / np.float32(scale) if scale != 1 else array
    cut = np.clip(values, 0, 1)
    if float(np.abs(values - cut).max()) > ROUNDING:
        warnings.append(
            f"The {name} holds values from {values.min():.3g} to {values.max():.3g}, as splines leave them; they are "
            "cut to 0 and 1."
        )
    return cut
