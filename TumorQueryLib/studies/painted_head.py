"""A head painted around a skull-stripped brain: an image with skull where none may be bundled.

Layers by their distance (mm) from the brain's outline and from the skin: fluid, bone with marrow, muscle, fat, scalp;
below the brain a neck and a face without features. All is a function of positions in the patient's space, so that
images on different grids get the same head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Grid, Volume, read_volume, resample, resample_mask
from TumorQueryLib.geometry.regions import bounding_box, slices_between
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.studies.phantom import smooth_step
from TumorQueryLib.studies.sample import sample_files


@dataclass(frozen=True)
class Brightness:
    """How bright each layer is; the brain's median is 1."""

    fluid: float
    bone: float
    marrow: float
    muscle: float
    fat: float
    scalp: float


WEIGHTINGS = {
    "t1": Brightness(fluid=0.30, bone=0.12, marrow=0.55, muscle=0.65, fat=1.80, scalp=0.95),
    "flair": Brightness(fluid=0.15, bone=0.10, marrow=0.35, muscle=0.45, fat=1.05, scalp=0.60),
}
#: mm from the brain's outline to where fluid, bone and head end; they vary by `UNEVEN` of it at most.
FLUID, BONE, HEAD = 2.5, 8.5, 16.0
UNEVEN = 0.25
#: mm below the skin to where scalp and fat end.
SCALP, FAT = 2.5, 6.0
#: The skull bridges gaps of the brain's outline up to twice as wide, mm.
BRIDGED = 12.0
MARGIN = HEAD * (1 + UNEVEN) + 8.0  # mm of the grid around the brain
EDGE = 0.6  # mm over which one layer gives way to the next
NOISE = 0.02  # of the brain's brightness
COARSE = 3.0  # mm; of the distances
FAR = 100.0  # mm; a distance beyond them
WAVES = 7  # that the uneven patterns consist of


def with_painted_skull(image: Volume, brain: NDArray[np.bool_], *, weighting: str) -> Volume:
    """A skull-stripped image with a head around its brain.

    Parameters
    ----------
    image : Volume
        Skull-stripped; any unsheared grid, any background.
    brain : ndarray of bool
        On the image's grid.
    weighting : {"t1", "flair"}
        Whose brightness the head has; T1Gd is "t1".

    Returns
    -------
    Volume
        Of the image's dtype, on its grid, grown to hold the head where the image is cropped to the brain. The brain's
        values are the image's; around the head there is air with noise. The same in every run.

    Raises
    ------
    InputError
        When there is no such weighting, or the brain is empty.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"There is no weighting {weighting!r}; choose {' or '.join(WEIGHTINGS)}.")
    if not brain.any():
        raise InputError("The brain is empty, so no head can be painted around it; give the mask of a brain.")
    start, stop = bounding_box(brain)
    margin = np.ceil(MARGIN / image.grid.spacing).astype(int)
    first, last = np.minimum(start - margin, 0), np.maximum(stop + margin, image.grid.shape)
    grid = image.grid.cropped(first, last)
    inside = slices_between(-first, image.grid.shape - first)

    shell = _shell(Volume(brain, image.grid), grid, WEIGHTINGS[weighting])
    random = np.random.default_rng(0)
    real, imaginary = NOISE * random.standard_normal((2, *grid.shape))
    painted = float(np.median(image.array[brain])) * np.hypot(shell + real, imaginary)
    if np.issubdtype(image.array.dtype, np.integer):
        painted = np.clip(np.rint(painted), 0, np.iinfo(image.array.dtype).max)
    head = painted.astype(image.array.dtype)
    head[inside][brain] = image.array[brain]
    return Volume(head, grid)


def sample_with_head(folder: Path) -> dict[str, str | Path]:
    """The sample case with its images in a head, written to a folder; see `sample.sample_files`."""
    files = sample_files()
    for name, weighting in (("t1gd", "t1"), ("flair", "flair")):
        image = read_volume(files[name])
        files[name] = folder / f"{name}.nii.gz"
        brain, _ = find_brain(Volume(image.array.astype(np.float32), image.grid))
        write_volume(with_painted_skull(image, brain, weighting=weighting), folder / f"{name}.nii.gz")
    return files


def _shell(brain: Volume, grid: Grid, brightness: Brightness) -> NDArray[np.floating]:
    """The head without brain and noise, on a grid; the brain's median is 1."""
    shape = _HeadShape.around(brain)
    outline = resample(shape.outline, grid, outside=FAR).array
    depth = resample(shape.depth, grid, outside=-FAR).array
    texture = resample(shape.texture, grid).array
    # Marrow lies in the middle of the bone.
    marrow = np.clip(1 - np.abs(outline - (FLUID + BONE) / 2) / 2, 0, 1) * (0.6 + 0.4 * texture)
    bone = brightness.bone + (brightness.marrow - brightness.bone) * marrow
    head: NDArray[np.floating] = brightness.muscle * (1 + 0.2 * texture)
    head = _mixed(head, brightness.fat * (1 + 0.1 * texture), FAT - depth)
    head = _mixed(head, brightness.scalp, SCALP - depth)
    head = _mixed(head, 0.0, -depth)
    head = _mixed(head, bone, BONE - outline)
    return _mixed(head, brightness.fluid, FLUID - outline)


def _mixed(
    below: NDArray[np.floating], above: NDArray[np.floating] | float, excess: NDArray[np.floating]
) -> NDArray[np.floating]:
    """`above` where the excess (mm) is positive, `below` elsewhere, and between them across the edge."""
    share = smooth_step(excess, -EDGE, EDGE)
    return (1 - share) * below + share * above


@dataclass(frozen=True, eq=False)
class _HeadShape:
    """A head's shape on a coarse grid along RAS, float32.

    Parameters
    ----------
    outline : Volume
        Distance from the outline that the skull follows, negative inside, mm; stretched and squeezed by `UNEVEN`.
    depth : Volume
        Depth below the skin, mm; negative outside.
    texture : Volume
        Within [-1, 1].
    """

    outline: Volume
    depth: Volume
    texture: Volume

    @classmethod
    def around(cls, brain: Volume) -> _HeadShape:
        voxels = brain.grid.to_ras(np.argwhere(brain.array))
        grid = Grid.around(voxels, COARSE, 2 * MARGIN)
        mask = resample_mask(brain, grid).array
        near = ndimage.distance_transform_edt(~mask, sampling=COARSE) <= BRIDGED
        closed = mask | (ndimage.distance_transform_edt(near, sampling=COARSE) > BRIDGED)
        points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
        outline = _signed_distance(closed) / (1 + UNEVEN * _waves(points, 60.0))

        low, high = voxels.min(axis=0), voxels.max(axis=0)
        x, y, z = np.moveaxis((points - (low + high) / 2) / ((high - low) / 2), -1, 0)
        neck = ((x / 0.80) ** 2 + ((y + 0.15) / 0.65) ** 2 < 1) & (z < -0.3)
        face = ((x / 0.80) ** 2 + ((y - 0.45) / 0.70) ** 2 < 1) & (z < -0.35)
        head = ndimage.gaussian_filter(((outline <= HEAD) | neck | face).astype(np.float32), 4.0 / COARSE) > 0.5
        return cls(
            outline=Volume(outline, grid),
            depth=Volume(-_signed_distance(head), grid),
            texture=Volume(_waves(points, 25.0), grid),
        )


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance from a mask's surface in mm, negative inside, without steps of its voxels."""
    outside, inside = (ndimage.distance_transform_edt(part, sampling=COARSE) for part in (~mask, mask))
    return ndimage.gaussian_filter((outside - inside).astype(np.float32), 1.5 / COARSE)


def _waves(points: NDArray[np.float64], length: float) -> NDArray[np.float32]:
    """An uneven pattern in [-1, 1] that varies over about `length` mm, the same at a place (RAS mm)."""
    random = np.random.default_rng(1)
    pattern = np.zeros(points.shape[:-1], dtype=np.float32)
    for direction in random.standard_normal((WAVES, 3)):
        phase = points @ (direction * 2 * np.pi / length) + random.uniform(0, 2 * np.pi)
        pattern += np.sin(phase.astype(np.float32)) / WAVES
    return pattern
