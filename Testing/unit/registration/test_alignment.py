"""Images of a patient who moved: the move is found, and what lies right is left alone."""

import gc

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import centred_grid, placed_affine
from scipy import ndimage

from TumorQueryLib.base.errors import Cancelled
from TumorQueryLib.base.progress import no_progress
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.geometry.transforms import rotation_matrix
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.registration import align_images
from TumorQueryLib.registration.descent import OptimiserStage, optimised
from TumorQueryLib.studies.phantom import head_with_skull

THICK = placed_affine(spacing=(0.9, 0.9, 5.5), angles=(6.0, -4.0, 3.0), flips=(-1, 1, 1))
SAGITTAL = placed_affine(spacing=(1.2, 1.0, 1.0), order=(1, 2, 0), flips=(1, -1, -1))
COARSE = placed_affine(spacing=(2.0, 2.0, 2.0))
COARSEST = placed_affine(spacing=(3.0, 3.0, 3.0))
SMALL = (2.0, -1.5, 2.5), (1.5, -2.0, 3.0)
LARGE = (12.0, 8.0, -15.0), (15.0, -10.0, 20.0)


def rigid(angles, shift, centre) -> np.ndarray:
    """A turn (degrees) about a centre and a shift (mm) of RAS points."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(angles)
    matrix[:3, 3] = centre + np.array(shift) - matrix[:3, :3] @ centre
    return matrix


def other_contrast(image: Volume, has_skull: bool) -> Volume:
    """A FLAIR's like of a T1: bright where that is grey, dark where it is bright or dark; the air as it is."""
    values, white = image.array, np.percentile(image.array[image.array > 5], 80)
    changed = 200 * np.exp(-(((values - 0.7 * white) / (0.35 * white)) ** 2))
    return Volume(np.where(values > (25 if has_skull else 5), changed + 20, values).astype(np.float32), image.grid)


def on_grid(image: Volume, affine, size=(240.0, 240.0, 200.0)) -> Volume:
    """The image as a scanner with these axes and voxels sees it, with a little noise where there is something."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    extent = np.abs(np.linalg.inv(affine[:3, :3] / spacing)) @ np.array(size)
    grid = centred_grid(tuple(np.ceil(extent / spacing).astype(int)), affine, image.grid.centre)
    smooth = ndimage.gaussian_filter(image.array, 0.3 * spacing.mean() / image.grid.spacing)
    values = resample(Volume(smooth, image.grid), grid).array
    noise = np.random.default_rng(3).normal(0, 2, values.shape)
    return Volume(np.where(values > 1, np.abs(values + noise), 0).astype(np.float32), grid)


def how_far_off(found, true, centre) -> tuple[float, float]:
    """Millimetres at the centre and degrees between two rigid matrices."""
    apart = np.linalg.inv(true) @ found
    degrees = np.degrees(np.arccos(np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1, 1)))
    return float(np.linalg.norm(apart[:3, :3] @ centre + apart[:3, 3] - centre)), float(degrees)


@pytest.fixture(scope="module")
def heads(atlas):
    """A head with skull and the brain alone, with their centre."""
    image, _ = head_with_skull(atlas)
    return {"with skull": image, "stripped": resampled(atlas.t1, image.grid)}


def resampled(image: Volume, grid: Grid) -> Volume:
    values = resample(image, grid).array
    return Volume(np.where(values > 5, values, 0).astype(np.float32), grid)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("skull", "affine", "move"),
    [
        ("stripped", COARSE, SMALL),
        ("stripped", THICK, LARGE),
        ("stripped", SAGITTAL, SMALL),
        ("with skull", THICK, SMALL),
        ("with skull", SAGITTAL, LARGE),
    ],
)
def test_a_known_move_is_found(heads, skull, affine, move):
    t1gd = on_grid(heads[skull], COARSE)
    flair = on_grid(other_contrast(heads[skull], skull == "with skull"), affine)
    centre = t1gd.grid.centre
    true = rigid(*move, centre)
    header = Volume(flair.array, flair.grid.moved(np.linalg.inv(true)))
    found = align_images(t1gd, {"flair": header})["flair"]
    assert found.moved
    assert not found.doubtful
    millimetres, degrees = how_far_off(found.matrix, true, centre)
    assert millimetres < 0.5
    assert degrees < 0.5
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert found.as_json()["matrix"] == found.matrix.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("affine", [COARSEST, THICK], ids=["3 mm", "thick"])
def test_what_lies_right_is_not_moved(heads, affine):
    t1gd = on_grid(heads["stripped"], COARSEST)
    flair = on_grid(other_contrast(heads["stripped"], False), affine)
    found = align_images(t1gd, {"flair": flair})["flair"]
    assert not found.moved
    assert not found.doubtful
    assert found.shift_mm < 0.5
    assert found.angle_degrees < 0.5
    np.testing.assert_array_equal(found.applied, np.eye(4))
    assert found.as_json()["matrix"] == np.eye(4).tolist()


@pytest.mark.slow
def test_a_slab_is_aligned_by_what_it_shows(heads):
    """Beyond its faces the brain goes on, though nothing of it is seen there."""
    t1gd = on_grid(heads["stripped"], COARSEST)
    flair = on_grid(other_contrast(heads["stripped"], False), placed_affine(spacing=(2.0, 2.0, 5.0)))
    first, last = flair.grid.shape[2] // 2 - 3, flair.grid.shape[2] // 2 + 8
    i, j, _ = flair.grid.shape
    slab = Volume(flair.array[:, :, first:last], flair.grid.cropped((0, 0, first), (i, j, last)))
    assert not align_images(t1gd, {"flair": slab})["flair"].moved
    true = rigid(*SMALL, t1gd.grid.centre)
    moved = Volume(slab.array, slab.grid.moved(np.linalg.inv(true)))
    millimetres, degrees = how_far_off(align_images(t1gd, {"flair": moved})["flair"].matrix, true, slab.grid.centre)
    assert millimetres < 1.0
    assert degrees < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("turn", [(0, 0, 180), (90, 0, 0)])
def test_a_header_that_lost_its_axes_is_no_move_of_the_patient(heads, turn):
    """From the usual starts the descent ends at a pose nearby that agrees better than before, and means nothing."""
    t1gd = on_grid(heads["stripped"], COARSEST)
    flair = on_grid(other_contrast(heads["stripped"], False), COARSEST)
    true = rigid(turn, (0, 0, 0), flair.grid.centre)
    found = align_images(t1gd, {"flair": Volume(flair.array, flair.grid.moved(np.linalg.inv(true)))})["flair"]
    assert found.turned
    assert found.doubtful
    assert not found.moved
    assert found.angle_degrees == pytest.approx(max(turn), abs=1)


def test_a_descent_keeps_nothing_of_its_images():
    """Its callback and SimpleITK's method hold each other: what they held grew with every patient of a process."""
    image = sitk.GaussianSource(sitk.sitkFloat32, [16] * 3, [4.0] * 3, [8.0] * 3)
    everywhere = image > -1

    def methods() -> int:
        gc.collect()
        return sum(isinstance(one, sitk.ImageRegistrationMethod) for one in gc.get_objects())

    before = methods()
    stage = OptimiserStage(1.0, 3, 0.1, 1.0)
    optimised((image, image), (everywhere, everywhere), sitk.Euler3DTransform(), stage, "", progress=no_progress)
    assert methods() == before


@pytest.mark.slow
def test_a_move_that_makes_nothing_better_is_doubted(heads):
    """A ball of noise above the head: no head moves so far, and nowhere does it fit."""
    t1gd = on_grid(heads["stripped"], COARSEST)
    noise = np.random.default_rng(1).normal(100, 30, t1gd.grid.shape).astype(np.float32)
    points = t1gd.grid.to_ras(np.moveaxis(np.indices(t1gd.grid.shape), 0, -1))
    ball = np.linalg.norm(points - t1gd.grid.centre, axis=-1) < 50
    further = t1gd.grid.moved(rigid((0, 0, 0), (0, 0, 160), np.zeros(3)))
    far = Volume(np.where(ball, noise, 0).astype(np.float32), further)
    found = align_images(t1gd, {"flair": far})["flair"]
    assert found.doubtful
    assert not found.moved
    np.testing.assert_array_equal(found.applied, np.eye(4))


@pytest.mark.slow
def test_the_same_images_give_the_same_move(heads):
    t1gd = on_grid(heads["stripped"], COARSEST)
    flair = Volume(t1gd.array, t1gd.grid.moved(rigid((3, 0, 0), (2, 0, 0), t1gd.grid.centre)))
    first, second = (align_images(t1gd, {"flair": flair})["flair"] for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)


def test_what_progress_raises_ends_the_alignment(heads):
    t1gd = on_grid(heads["stripped"], COARSEST)
    seen = []

    def stop(value, message):
        seen.append((value, message))
        if len(seen) == 30:
            raise Cancelled

    with pytest.raises(Cancelled):
        align_images(t1gd, {"t1": t1gd}, progress=stop)
    assert len(seen) == 30
    assert {message for _, message in seen} == {"Aligning the images"}


def test_one_image_alone_needs_no_alignment(heads):
    assert align_images(heads["stripped"], {}) == {}


def real_image(folder, patient, name) -> Volume:
    """A patient's image, float32."""
    volume = read_image_file(folder / "patients" / patient / f"{name}.nii.gz", name, is_mask=False).volume
    return Volume(volume.array.astype(np.float32), volume.grid)


@pytest.mark.slow
@pytest.mark.parametrize("patient", ["TCIA02_135", "TCIA01_201", "TCIA10_639"])
def test_real_images_that_were_aligned_before_stay(test_data, patient):
    t1gd, flair = (real_image(test_data, patient, name) for name in ("t1gd", "flair"))
    assert not align_images(t1gd, {"flair": flair})["flair"].moved


@pytest.mark.slow
def test_a_real_patient_who_moved_is_found_with_the_skull_and_without(test_data):
    """The patient lay on other slices, 5.5 mm thick, for the FLAIR; HD-BET's masks of both tell the truth to 2 mm."""
    found = {}
    for folder in ("TCGA-FG-6692_head", "TCGA-FG-6692_native"):
        t1gd, flair = (real_image(test_data, folder, name) for name in ("t1gd", "flair"))
        found[folder] = align_images(t1gd, {"flair": flair})["flair"]
        assert found[folder].moved
    brain, of_flair = (
        Volume(mask.array > 0.5, mask.grid)
        for mask in (real_image(test_data, "TCGA-FG-6692_head", f"brain_{name}") for name in ("t1gd", "flair"))
    )
    before = dice(resample_mask(of_flair, brain.grid).array, brain.array)
    points = brain.grid.to_ras(np.argwhere(brain.array)[::1000])
    placed = []
    for alignment in found.values():
        there = Volume(of_flair.array, of_flair.grid.moved(alignment.matrix))
        assert dice(resample_mask(there, brain.grid).array, brain.array) > max(0.96, before)
        back = np.linalg.inv(alignment.matrix)
        placed.append(points @ back[:3, :3].T + back[:3, 3])
    assert np.linalg.norm(placed[0] - placed[1], axis=1).max() < 2.5
