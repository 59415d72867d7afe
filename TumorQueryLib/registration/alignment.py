"""Rigid alignment of a patient's images to the T1Gd, for a patient who moved between them.

A rigid move is a change of a volume's grid: nothing is resampled. Samples are taken on the slices as they were
acquired, since what is interpolated between thick slices holds no detail of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume, image_from_volume, ras_to_lps, resample
from TumorQueryLib.geometry.regions import bounding_box, dilated, slices_between
from TumorQueryLib.geometry.transforms import rotation_matrix
from TumorQueryLib.registration.descent import OptimiserStage, mutual_information, optimised

#: An image is moved where its brain's centre lies further off, in mm, or where it is turned by more, in degrees.
LARGEST_SHIFT, LARGEST_ANGLE = 1.0, 1.0
#: A head does not move further in a scanner; what is found beyond is taken for an error. mm and degrees.
FURTHEST_SHIFT, FURTHEST_ANGLE = 80.0, 50.0
#: By this share the mutual information has to grow for a move to be believed.
LEAST_GAIN = 0.005

RING = 8.0  # mm of background around head or brain: its outline has a say
TIGHT_RING = 2.0  # where only one of the two images still has the skull
INSIDE_HEAD = 20.0  # mm below the skin, where intensities are those of the brain and not of fat
COARSE, MIDDLE, FINE = 6.0, 3.0, 2.0  # mm between samples
START_ANGLE = 15.0  # degrees, to both sides about each axis
TURNED_STARTS = 3  # of those turned by 90 or 180 degrees
MESSAGE = "Aligning the images"


@dataclass(frozen=True, eq=False)
class Alignment:
    """How one image lies to the T1Gd, and whether it was moved onto it.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        The rigid map of the image's points onto the T1Gd's, RAS mm.
    shift_mm : float
        How far it takes the centre of the brain (of the head, where there is a skull).
    angle_degrees : float
    moved : bool
        Whether the image was moved: only where it lies more than `LARGEST_SHIFT` or `LARGEST_ANGLE` off, and the
        alignment is not doubtful.
    doubtful : bool
        The images agree no better after the move than before, or it is further than a head can move.
    turned : bool
        The images agree best where this one is turned by about 90 or 180 degrees: its header has lost or exchanged its
        axes. Doubtful too.
    """

    matrix: NDArray[np.float64]
    shift_mm: float
    angle_degrees: float
    moved: bool
    doubtful: bool
    turned: bool = False

    @property
    def applied(self) -> NDArray[np.float64]:
        """The matrix by which the image was moved; the identity where it was not."""
        return self.matrix if self.moved else np.eye(4)

    def as_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return {
            "moved": self.moved,
            "shift_mm": round(self.shift_mm, 2),
            "angle_degrees": round(self.angle_degrees, 2),
            "matrix": self.applied.tolist(),
        }


@dataclass(frozen=True, eq=False)
class _Scan:
    """An image between 0 and 1, 0 outside head or brain, and that region."""

    image: Volume
    region: Volume
    has_skull: bool

    @classmethod
    def of(cls, volume: Volume) -> _Scan:
        region, has_skull = find_brain(volume)
        inner = region
        if has_skull:
            inner = ndimage.distance_transform_edt(region, sampling=volume.grid.spacing) > INSIDE_HEAD
            inner = inner if inner.any() else region
        low, high = np.percentile(volume.array[inner], (1, 90 if has_skull else 99.5))
        high = low + (1.6 if has_skull else 1.0) * max(high - low, 1e-6 * max(1.0, abs(low)))
        scaled = (np.clip(volume.array, low, high) - low) / np.float32(high - low)
        if not has_skull:
            scaled = np.where(region, scaled + np.float32(0.05), 0)
        # What lies further off is not looked at.
        start, stop = bounding_box(region)
        reach = np.ceil(2 * RING / volume.grid.spacing).astype(int)
        start, stop = np.maximum(start - reach, 0), np.minimum(stop + reach, region.shape)
        box = slices_between(start, stop)
        grid = volume.grid.cropped(start, stop)
        return cls(Volume(scaled[box].astype(np.float32), grid), Volume(region[box], grid), has_skull)

    def sampled(self, spacing: float, ring: float) -> tuple[sitk.Image, sitk.Image]:
        """Image and mask at about `spacing` mm, along axes that are finer than that; region and ring are the mask."""
        grid = self.image.grid
        fine = np.maximum(grid.spacing, spacing)
        sigma = 0.42 * np.sqrt(np.maximum(spacing**2 - grid.spacing**2, 0)) / grid.spacing
        smooth = Volume(ndimage.gaussian_filter(self.image.array, sigma), grid)
        target = self._around(fine, ring)
        image = resample(smooth, target)
        region = Volume(resample(Volume(self.region.array.astype(np.float32), grid), target).array > 0.5, target)
        mask = dilated(region, ring)
        return image_from_volume(image), image_from_volume(Volume(mask, target))

    def _around(self, spacing: NDArray[np.float64], ring: float) -> Grid:
        """A grid along the image's axes around its region, on its own slices where these are thick."""
        grid = self.image.grid
        start, stop = bounding_box(self.region.array)
        margin = np.ceil(ring / grid.spacing).astype(int)
        # What lies beyond the field of view of a head, or of a brain that is cut by it, is unknown; beyond a brain
        # that ends within it there is nothing.
        known = np.zeros(3, dtype=bool) if self.has_skull else np.ones(3, dtype=bool)
        start = np.where(known & (start > 0), start - margin, np.maximum(start - margin, 0))
        stop = np.where(known & (stop < grid.shape), stop + margin, np.minimum(stop + margin, grid.shape))
        box = grid.cropped(start, stop)
        step = spacing / grid.spacing
        i, j, k = (max(2, int(n)) for n in np.floor((np.array(box.shape) - 1) / step) + 1)
        affine = box.affine.copy()
        affine[:3, :3] = box.affine[:3, :3] * step
        return Grid((i, j, k), affine)


def align_images(
    t1gd: Volume, others: Mapping[str, Volume], *, progress: Progress = no_progress
) -> dict[str, Alignment]:
    """How each of a patient's images lies to the T1Gd.

    Parameters
    ----------
    t1gd : Volume
        float32, with or without skull; stays where it is.
    others : dict of str to Volume
        Images of the same head by role, float32, each on any grid.
    progress : Progress
        Called at every iteration; what it raises ends the alignment.

    Returns
    -------
    dict of str to Alignment
        By role; the same for the same input, whatever the number of processors.

    Raises
    ------
    InputError
        When an image has one value only.
    """
    found: dict[str, Alignment] = {}
    if not others:
        return found
    progress(0.0, MESSAGE)
    fixed = _Scan.of(t1gd)
    for n, (role, volume) in enumerate(others.items()):
        step = part(progress, n / len(others), (n + 1) / len(others))
        found[role] = _aligned(fixed, _Scan.of(volume), step)
    progress(1.0, MESSAGE)
    return found


def _aligned(fixed: _Scan, moving: _Scan, progress: Progress) -> Alignment:
    """The rigid map between two images, from several starts, coarse to fine."""
    ring = RING if fixed.has_skull == moving.has_skull else TIGHT_RING
    centre, of_moving = (_centroid(scan.region) for scan in (fixed, moving))

    def descend(starts: list[sitk.Euler3DTransform], pairs: _Pairs, stage: OptimiserStage, step: Progress) -> list:
        ends = []
        for n, start in enumerate(starts):
            share = part(step, n / len(starts), (n + 1) / len(starts))
            ends.append(optimised(*pairs, start, stage, MESSAGE, progress=share))
        return [transform for _, transform in sorted(ends, key=lambda end: end[0])]

    at = {spacing: _sampled_pairs(fixed, moving, spacing, ring) for spacing in (COARSE, MIDDLE, FINE)}

    def measured(transform: sitk.Euler3DTransform) -> float:
        return mutual_information(*at[FINE], transform, 0.4)

    def finely(starts: list[sitk.Euler3DTransform], step: Progress) -> sitk.Euler3DTransform:
        middle = descend(starts, at[MIDDLE], OptimiserStage(0.5, 60, 0.01, 1.0), part(step, 0.0, 0.7))
        return descend(middle[:1], at[FINE], OptimiserStage(0.4, 60, 2e-3, 0.5), part(step, 0.7, 1.0))[0]

    offset = of_moving - centre
    leaning = [np.zeros(3), *START_ANGLE * np.eye(3), *-START_ANGLE * np.eye(3)]
    # The images as they lie first, then turned, then with their centres together.
    starts = [*_starts(centre, np.zeros(3), leaning), *_starts(centre, offset, leaning)]
    coarse = descend(starts, at[COARSE], OptimiserStage(1.0, 40, 0.05, 2.0), part(progress, 0.0, 0.4))
    # The images as they lie are always among the starts that go on.
    transform = finely([starts[0], *coarse[:2]], part(progress, 0.4, 0.98))
    before, after = measured(starts[0]), measured(transform)
    matrix, shift, angle = _move_of(transform, centre)
    apart = shift > LARGEST_SHIFT or angle > LARGEST_ANGLE
    if apart:
        # Where a header lost its axes, the descents above end at some pose nearby that means nothing.
        turned = _starts(centre, offset, _quarter_turns())
        best = sorted(turned, key=lambda start: mutual_information(*at[COARSE], start))[:TURNED_STARTS]
        other = finely(best, part(progress, 0.98, 1.0))
        if _clearly_better(measured(other), after):
            return Alignment(*_move_of(other, centre), moved=False, doubtful=True, turned=True)
    doubtful = apart and (not _clearly_better(after, before) or shift > FURTHEST_SHIFT or angle > FURTHEST_ANGLE)
    return Alignment(matrix, shift, angle, moved=apart and not doubtful, doubtful=doubtful)


def _clearly_better(one: float, other: float) -> bool:
    """Whether a negative mutual information is so much lower than another one that the difference means something."""
    return bool(np.isfinite(one) and (not np.isfinite(other) or other - one > LEAST_GAIN * abs(other)))


def _move_of(transform: sitk.Euler3DTransform, centre: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """The map of the image's points onto the T1Gd's, how far it takes the centre (mm), and its angle in degrees.

    `transform` takes points of the T1Gd to points of the image; the image's points move the other way.
    """
    there = _as_ras_matrix(transform)
    matrix = np.eye(4)
    matrix[:3, :3] = there[:3, :3].T
    matrix[:3, 3] = -there[:3, :3].T @ there[:3, 3]
    shift = float(np.linalg.norm(there[:3, :3] @ centre + there[:3, 3] - centre))
    return matrix, shift, float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))


#: Images, and the masks of what of them is looked at; the fixed one first.
_Pairs = tuple[tuple[sitk.Image, sitk.Image], tuple[sitk.Image, sitk.Image]]


def _sampled_pairs(fixed: _Scan, moving: _Scan, spacing: float, ring: float) -> _Pairs:
    (image, mask), (of_moving, mask_of_moving) = (scan.sampled(spacing, ring) for scan in (fixed, moving))
    return (image, of_moving), (mask, mask_of_moving)


def _starts(
    centre: NDArray[np.float64], offset: NDArray[np.float64], turns: Iterable[NDArray[np.float64]]
) -> list[sitk.Euler3DTransform]:
    """Transforms to start from: turned about a centre (degrees about the axes L, P and S), then shifted (RAS mm)."""
    starts = []
    for turn in turns:
        start = sitk.Euler3DTransform()
        start.SetCenter(ras_to_lps(centre).tolist())
        start.SetRotation(*np.deg2rad(turn).tolist())
        start.SetTranslation(ras_to_lps(offset).tolist())
        starts.append(start)
    return starts


def _quarter_turns() -> list[NDArray[np.float64]]:
    """Angles of the 23 turns by 90 or 180 degrees; ITK finds no right ones for some of their matrices."""
    found = {(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0): np.zeros(3)}
    for angles in itertools.product((0.0, 90.0, 180.0, 270.0), repeat=3):
        matrix = np.round(rotation_matrix(angles)) + 0.0
        found.setdefault(tuple(matrix.ravel().tolist()), np.array(angles))
    return list(found.values())[1:]


def _as_ras_matrix(transform: sitk.Euler3DTransform) -> NDArray[np.float64]:
    """A rigid transform of LPS points as a matrix (4, 4) for RAS points."""
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - rotation @ centre
    return LPS_FROM_RAS @ matrix @ LPS_FROM_RAS


def _centroid(region: Volume) -> NDArray[np.float64]:
    return region.grid.to_ras(np.argwhere(region.array).mean(axis=0))
