"""Heads whose brain is known to the voxel, for `tumorquery bench brain`: a patient's brain put into another head.

    python Testing/benchmarks/heads.py OUT --donor HEAD.nii.gz BRAIN.nii.gz [--donor HEAD.nii.gz ...]
    tumorquery bench brain --cohort OUT/heads.csv

The patients are skull-stripped ones of the folder that TUMORQUERY_TEST_DATA names; its head with skull is a donor
too. A donor without a brain mask gets that of the first donor, carried by a registration of the two heads. The
donor's head is brought around the patient's brain by maps of the distance from the brain's surface (affine, then
diffeomorphic demons), its intensities are scaled to the patient's, and what lies between the two brains is filled
with fluid. The patient's brain is the reference; it is not changed. Each patient's head with one
of the donors comes in variants too: slices of 5 mm, the head turned by 25 degrees, the grid turned by 25 degrees, the
vertex cut off. The bundled sample
in its painted head is added. Nothing here may go into the project: the heads are the patients'.
"""

import argparse
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import (
    Grid,
    Volume,
    image_from_volume,
    read_volume,
    resample,
    resample_mask,
)
from TumorQueryLib.geometry.regions import bounding_box
from TumorQueryLib.geometry.transforms import affine_transform, in_turn, rotation_matrix
from TumorQueryLib.results.files import write_volume
from TumorQueryLib.studies.painted_head import with_painted_skull
from TumorQueryLib.studies.sample import sample_files

PATIENTS = ("TCIA02_606", "TCIA02_135", "TCIA10_628")
COARSE = 4.0  # mm; of the distance maps
FARTHEST = 30.0  # mm; distances are cut there, so that far-off shapes do not pull
AROUND = (70.0, 45.0)  # mm of head kept below and around the brain
FLUID_LAYER = 1.5  # mm of fluid around the brain at least
NOISE = 0.01  # of the brain's brightness, in what is not the patient's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the heads")
    parser.add_argument("--patient", action="append", metavar="NAME", help=f"only this one of {', '.join(PATIENTS)}")
    parser.add_argument(
        "--donor", action="append", nargs="+", default=[], metavar="FILE", help="a head with skull, its brain mask"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ["TUMORQUERY_TEST_DATA"]) / "patients"
    scanned = data / "TCGA-FG-6692_head"
    donors: dict[str, tuple[Volume, Volume]] = {}
    for head, *brain in [*options.donor, [scanned / "t1gd.nii.gz", scanned / "brain_t1gd.nii.gz"]]:
        image = _float(read_volume(head))
        name = "FG-6692" if Path(head).parent == scanned else Path(head).name.split(".")[0]
        if brain:
            given = read_volume(brain[0])
            donors[name] = image, Volume(given.array > 0, given.grid)
        else:
            donors[name] = image, carried_brain(image, *next(iter(donors.values())))
    with open(options.out / "heads.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "mask"))
        for name, image, brain in heads(data, donors, options.patient or PATIENTS):
            write_volume(image, options.out / f"{name}.nii.gz")
            write_volume(brain, options.out / f"{name}_brain.nii.gz")
            rows.writerow((f"{name}.nii.gz", f"{name}_brain.nii.gz"))
            print(name, image.grid.shape, f"{brain.array.sum() * brain.grid.voxel_volume_ml:.0f} ml", flush=True)


def heads(
    data: Path, donors: dict[str, tuple[Volume, Volume]], patients: Sequence[str]
) -> Iterator[tuple[str, Volume, Volume]]:
    """Names, heads and their brains, one after the other."""
    for role in ("t1", "t1gd", "flair"):
        folder = data / "TCGA-FG-6692_head"
        brain = read_volume(folder / f"brain_{role}.nii.gz")
        yield f"FG-6692_{role}", read_volume(folder / f"{role}.nii.gz"), Volume(brain.array > 0, brain.grid)
    for role, weighting in (("t1gd", "t1"), ("flair", "flair")):
        image = _float(read_volume(sample_files()[role]))
        known = find_brain(image)[0]
        painted = with_painted_skull(image, known, weighting=weighting)
        yield f"painted_{role}", painted, Volume(_moved(Volume(known, image.grid), painted.grid), painted.grid)
    for patient in patients:
        number = PATIENTS.index(patient)
        image = _float(read_volume(data / patient / "t1gd.nii.gz"))
        for other, (donor, (head, brain)) in enumerate(donors.items()):
            made = made_head(image, head, brain)
            yield f"{patient}_in_{donor}", *made
            if other == number % len(donors):
                for variant, changed in variants(*made).items():
                    yield f"{patient}_in_{donor}_{variant}", *changed


def made_head(patient: Volume, head: Volume, head_brain: Volume) -> tuple[Volume, Volume]:
    """A skull-stripped patient in another head, and the patient's brain, on a grid along the patient's axes."""
    brain = Volume(find_brain(patient)[0], patient.grid)
    to_head = _around_brain(brain, head_brain)
    start, stop = bounding_box(brain.array)
    below, around = (np.ceil(margin / patient.grid.spacing).astype(int) for margin in AROUND)
    lowest = patient.grid.affine[:3, :3] / patient.grid.spacing  # axes in RAS
    up = np.abs(lowest[2]).argmax()
    first, last = start - around, stop + around
    if lowest[2, up] > 0:
        first[up] = start[up] - below[up]
    else:
        last[up] = stop[up] + below[up]
    grid = patient.grid.cropped(first, last)
    # No further than the donor was scanned: beyond lies nothing that a scanner would show.
    scanned = resample(Volume(np.ones(head.grid.shape, np.float32), head.grid), grid, to_head).array > 0.5
    own = _moved(brain, grid)
    seen, end = bounding_box(scanned | own)
    grid = grid.cropped(seen, end)
    own = _moved(brain, grid)

    image = resample(patient, grid).array
    shell = resample(head, grid, to_head).array
    donor_brain = resample_mask(head_brain, grid, to_head).array
    ratio = np.percentile(image[own], 60) / np.percentile(shell[donor_brain], 60)
    composed = np.where(own, image, ratio * shell)
    distance = ndimage.distance_transform_edt(~own, sampling=grid.spacing)
    fluid = np.percentile(image[own], 3)
    gap = ~own & (donor_brain | (distance <= FLUID_LAYER))
    composed[gap] = fluid
    smooth = ndimage.gaussian_filter(composed, 0.7 / grid.spacing)
    # Edges between fluid and shell are blurred as a scanner's are; the brain is not.
    near_gap = ndimage.binary_dilation(gap, iterations=2) & ~own
    composed[near_gap] = smooth[near_gap]
    random = np.random.default_rng(0)
    level = NOISE * np.percentile(image[own], 60)
    noisy = np.hypot(composed + level * random.standard_normal(grid.shape), level * random.standard_normal(grid.shape))
    known = Volume(brain.array & ~_bone(patient, brain.array), brain.grid)
    return Volume(np.where(own, image, noisy).astype(np.float32), grid), Volume(_moved(known, grid), grid)


def variants(head: Volume, brain: Volume) -> dict[str, tuple[Volume, Volume]]:
    """The head with slices of 5 mm, turned by 25 degrees, on a grid turned by 25 degrees, and with its vertex cut."""
    grid = head.grid
    thick = grid.isotropic_like(1.0, grid.shape)
    affine = thick.affine.copy()
    affine[:3, 2] *= 5
    affine[:3, 3] = thick.to_ras((0, 0, 2))
    thick = Grid((thick.shape[0], thick.shape[1], thick.shape[2] // 5), affine)
    slices = Volume(_mean_of_slices(head.array, 5, thick.shape[2]), thick)

    centre = grid.to_ras(np.argwhere(brain.array).mean(axis=0))
    nod = affine_transform(rotation_matrix((25.0, 0.0, 0.0)), centre, (0.0, 0.0, 0.0))
    turn = np.eye(4)
    turn[:3, :3] = np.diag([-1, -1, 1]) @ rotation_matrix((15.0, 0.0, 20.0)) @ np.diag([-1, -1, 1])
    turned = np.eye(4)
    turned[:3, 3] = centre
    turned = turned @ turn @ np.linalg.inv(np.block([[np.eye(3), centre[:, None]], [np.zeros((1, 3)), 1]]))
    oblique = Grid(grid.shape, turned @ grid.affine)
    up = grid.affine[2, 2] > 0
    top = bounding_box(brain.array)[1][2] - round(15 / grid.spacing[2])
    box = slice(0, top) if up else slice(grid.shape[2] - top, None)
    low = grid if up else grid.cropped((0, 0, grid.shape[2] - top), grid.shape)
    cut = Grid((*grid.shape[:2], head.array[:, :, box].shape[2]), low.affine)
    return {
        "5mm": (slices, resample_mask(brain, thick)),
        "nodding": (resample(head, grid, nod), resample_mask(brain, grid, nod)),
        "oblique": (resample(head, oblique), resample_mask(brain, oblique)),
        "cut": (Volume(head.array[:, :, box].copy(), cut), Volume(brain.array[:, :, box].copy(), cut)),
    }


def carried_brain(head: Volume, reference: Volume, reference_brain: Volume) -> Volume:
    """The brain of a head by an affine and a demons registration of another head, whose brain is known.

    The reference's surroundings of the brain are brought onto the head and not the other way round, since one of them
    may show a neck that the other one does not. Both lie about as their headers say.
    """
    box = Grid.around(reference.grid.to_ras(np.argwhere(reference_brain.array)), 3.0, 20.0)
    fixed = image_from_volume(Volume(_equalised(resample(reference, box).array), box))
    moving = image_from_volume(Volume(_equalised(head.array), head.grid))
    around = ndimage.binary_dilation(resample_mask(reference_brain, box).array, iterations=5)
    start = sitk.AffineTransform(3)
    start.SetCenter((box.centre * [-1, -1, 1]).tolist())
    start.SetTranslation(((_crown(head) - _crown(reference)) * [-1, -1, 1]).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(image_from_volume(Volume(around, box)))
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 150)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([6, 3])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    moved = sitk.Resample(moving, fixed, start, sitk.sitkLinear, 0.0)
    field = _demons(moved, sitk.HistogramMatching(fixed, moved), 50)
    return resample_mask(reference_brain, head.grid, in_turn(start.GetInverse(), field))


def _crown(head: Volume) -> NDArray[np.float64]:
    """The middle of a head's uppermost 10 cm, RAS mm."""
    points = head.grid.to_ras(np.argwhere(head.array > 0.2 * np.percentile(head.array, 98)))
    top = np.percentile(points[:, 2], 99.9)
    upper = points[points[:, 2] > top - 100]
    return np.array([*((upper.min(axis=0) + upper.max(axis=0)) / 2)[:2], top])


def _around_brain(brain: Volume, head_brain: Volume) -> sitk.Transform:
    """The map of points around a brain to those around another head's (LPS mm) that keeps the distance from it."""
    fixed, moving = (_distance_map(mask) for mask in (brain, head_brain))
    start = sitk.AffineTransform(3)
    centres = [_lps_centre(mask) for mask in (brain, head_brain)]
    start.SetCenter(centres[0].tolist())
    start.SetTranslation((centres[1] - centres[0]).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    moved = sitk.Resample(moving, fixed, start, sitk.sitkLinear, FARTHEST)
    return sitk.CompositeTransform([start, _demons(fixed, moved, 60)])


def _demons(fixed: sitk.Image, moving: sitk.Image, iterations: int) -> sitk.Transform:
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(iterations)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(2.0)
    return sitk.DisplacementFieldTransform(demons.Execute(fixed, moving))


def _bone(patient: Volume, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blocks at the surface of a stripped T1Gd that are dark, and darker than fluid in 1 ml or more of them."""
    brightness = ndimage.gaussian_filter(patient.array, 0.7 / patient.grid.spacing) / np.median(patient.array[brain])
    depth = ndimage.distance_transform_edt(brain, sampling=patient.grid.spacing)
    # Not the blurred edge, and nothing as thin as a sulcus.
    dark = (brightness < 0.5) & (depth > 1.5)
    inner = ndimage.distance_transform_edt(dark, sampling=patient.grid.spacing) > 2.5
    dark &= ndimage.distance_transform_edt(~inner, sampling=patient.grid.spacing) <= 2.5
    parts, count = ndimage.label(dark)
    numbers = np.arange(1, count + 1)
    darkest = ndimage.sum_labels(brightness < 0.2, parts, numbers) * patient.grid.voxel_volume_ml
    nearest = ndimage.minimum(depth, parts, numbers)
    bone = np.isin(parts, numbers[(darkest >= 1) & (nearest <= 2)])
    # With the edge between it and the outside.
    return brain & (bone | (ndimage.distance_transform_edt(~bone, sampling=patient.grid.spacing) <= 1.5) & (depth <= 2))


def _distance_map(mask: Volume) -> sitk.Image:
    """Distance from a mask's surface in mm, negative inside, cut at `FARTHEST`."""
    grid = Grid.around(mask.grid.to_ras(np.argwhere(mask.array)), COARSE, 65.0)
    inside = resample_mask(mask, grid).array
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    return image_from_volume(Volume(np.clip(COARSE * distance, -FARTHEST, FARTHEST).astype(np.float32), grid))


def _lps_centre(mask: Volume) -> NDArray[np.float64]:
    return mask.grid.to_ras(np.argwhere(mask.array).mean(axis=0)) * [-1, -1, 1]


def _moved(brain: Volume, grid: Grid) -> NDArray[np.bool_]:
    """A mask on a grid that was cropped from its own or pads it."""
    return resample(Volume(brain.array.astype(np.uint8), brain.grid), grid, interpolation="nearest").array > 0


def _mean_of_slices(array: NDArray[np.float32], thickness: int, count: int) -> NDArray[np.float32]:
    whole = array[:, :, : thickness * count]
    return whole.reshape(*array.shape[:2], count, thickness).mean(axis=3)


def _equalised(array: NDArray) -> NDArray[np.float32]:
    """Values up to the brightest fat, 0 to 1."""
    return np.clip(array / np.percentile(array, 98), 0, 1).astype(np.float32)


def _float(volume: Volume) -> Volume:
    return Volume(volume.array.astype(np.float32), volume.grid)


if __name__ == "__main__":
    main()
