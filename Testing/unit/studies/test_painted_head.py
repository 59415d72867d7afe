"""A painted head is one with skull around an unchanged brain, on whatever grid."""

import numpy as np
import pytest
from awkward_grids import AWKWARD_AFFINES, centred_grid, placed_affine
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_brain
from TumorQueryLib.geometry.grid import Grid, Volume, read_volume, resample
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.studies.painted_head import sample_with_head, with_painted_skull
from TumorQueryLib.studies.phantom import synthetic_volumes
from TumorQueryLib.studies.sample import load_truth, sample_files

#: mm of head around the brain that every head has.
THINNEST = 10.0


def stripped(affine, coarser=3.0) -> Volume:
    """An ellipsoid of brain cropped tightly, its axes as those of an awkward header."""
    affine = np.array(affine)
    affine[:3, :3] *= coarser
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    whole = synthetic_volumes(centred_grid(np.ceil(200 / spacing).astype(int).tolist(), affine))["t1gd"]
    start, stop = (np.argwhere(whole.array > 0).min(axis=0), np.argwhere(whole.array > 0).max(axis=0) + 1)
    box = tuple(slice(a, b) for a, b in zip(start, stop))
    return Volume(whole.array[box].copy(), whole.grid.cropped(start, stop))


def in_head(image: Volume, head: Volume):
    """The part of a head's array that the stripped image covers, and where it begins."""
    start = np.rint(head.grid.to_index(image.grid.to_ras((0, 0, 0)))).astype(int)
    stop = start + image.grid.shape
    assert head.grid.cropped(start, stop).matches(image.grid)
    return head.array[tuple(slice(a, b) for a, b in zip(start, stop))], start


@pytest.mark.slow
@pytest.mark.parametrize("header", AWKWARD_AFFINES)
def test_a_head_has_a_skull_around_an_unchanged_brain(header):
    image = stripped(AWKWARD_AFFINES[header])
    brain = image.array > 0
    assert not find_brain(Volume(np.pad(image.array, 3), image.grid.cropped((-3,) * 3, np.add(image.grid.shape, 3))))[1]
    head = with_painted_skull(image, brain, weighting="t1")
    assert find_brain(head)[1]
    assert head.array.dtype == image.array.dtype
    shown, start = in_head(image, head)
    assert np.array_equal(shown[brain], image.array[brain])
    # The grid was grown by what the head needs on every side, and air is left at its ends.
    for side in (start, np.subtract(head.grid.shape, np.add(start, image.grid.shape))):
        assert (side * head.grid.spacing > THINNEST).all()
    assert np.isfinite(head.array).all()


@pytest.mark.slow
@examples(3)
@given(
    spacing=st.tuples(*[st.floats(2.0, 5.0)] * 3),
    flips=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    order=st.permutations(range(3)),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    weighting=st.sampled_from(("t1", "flair")),
)
def test_bone_is_dark_and_fat_bright_on_any_grid(spacing, flips, order, angles, weighting):
    image = stripped(placed_affine(spacing, angles, flips, order), coarser=1.0)
    brain = image.array > 0
    head = with_painted_skull(image, brain, weighting=weighting)
    assert find_brain(head)[1]
    assert np.array_equal(in_head(image, head)[0][brain], image.array[brain])
    # Above the ellipsoid's middle, where no neck is, at distances along RAS from its surface.
    directions = np.array([(x, y, 1.2) for x in (-0.8, 0, 0.8) for y in (-0.8, 0, 0.8)])
    surface = directions / np.linalg.norm(directions / [65.0, 85.0, 60.0], axis=1, keepdims=True)
    outward = directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def along(low, high):
        """Brightness on each ray outward, as a share of the brain's; shape (distances, rays)."""
        index = head.grid.to_index(np.stack([surface + distance * outward for distance in np.arange(low, high, 0.5)]))
        inside = ((index >= 0) & (index <= np.subtract(head.grid.shape, 1))).all(axis=-1)
        assert inside.all() or low > 24, "beyond the skin the image may end"
        values = ndimage.map_coordinates(head.array, np.moveaxis(index, -1, 0), order=1)
        return values / np.median(image.array[brain])

    assert np.median(along(8, 24).max(axis=0)) > (1.0 if weighting == "t1" else 0.5)
    assert np.median(along(2, 12).min(axis=0)) < 0.5
    assert along(27, 27.5).max() < 0.25


@pytest.mark.slow
def test_images_of_one_patient_get_the_same_head():
    """Where the skin is does not depend on the grid."""
    axial = stripped(AWKWARD_AFFINES["identity"])
    sagittal = stripped(AWKWARD_AFFINES["oblique-flipped"], coarser=2.5)
    first = with_painted_skull(axial, axial.array > 0, weighting="t1")
    second = with_painted_skull(sagittal, sagittal.array > 0, weighting="t1")
    common = Grid.isotropic(70, 2.5, (0, 0, 25))
    heads = [resample(head, common).array > 0.35 * np.median(axial.array[axial.array > 0]) for head in (first, second)]
    overlap = 2 * (heads[0] & heads[1]).sum() / (heads[0].sum() + heads[1].sum())
    assert overlap > 0.95


@pytest.mark.slow
def test_the_same_head_every_time_and_integers_stay_integers():
    image = stripped(AWKWARD_AFFINES["las-anisotropic"])
    whole = Volume(np.rint(image.array).astype(np.int16), image.grid)
    heads = [with_painted_skull(whole, whole.array > 0, weighting="flair") for _ in range(2)]
    assert heads[0].array.dtype == np.int16
    assert heads[0].grid == heads[1].grid
    assert np.array_equal(heads[0].array, heads[1].array)


@pytest.mark.slow
def test_a_grid_with_room_is_kept():
    image = synthetic_volumes(Grid.isotropic(80, 3.5, (0, 0, 0)))["t1gd"]
    assert with_painted_skull(image, image.array > 0, weighting="t1").grid == image.grid


def test_what_cannot_be_painted_is_said():
    image = stripped(AWKWARD_AFFINES["identity"])
    with pytest.raises(InputError, match="choose t1 or flair"):
        with_painted_skull(image, image.array > 0, weighting="t2")
    with pytest.raises(InputError, match="brain is empty"):
        with_painted_skull(image, np.zeros(image.grid.shape, bool), weighting="t1")


@pytest.mark.slow
def test_the_sample_in_its_head_is_a_patient_with_skull(tmp_path):
    files = sample_with_head(tmp_path)
    patient = Patient.load(**files)
    for role in ("t1gd", "flair"):
        image, head = read_volume(sample_files()[role]), getattr(patient, role)
        assert find_brain(head)[1]
        brain = image.array > 0
        assert np.array_equal(in_head(image, head)[0][brain], image.array[brain])
    assert patient.whole.array.sum() == (read_volume(files["segmentation"]).array > 0).sum()
    # The truth, on the sample's own grid, is a part of the head's.
    assert in_head(load_truth().density, patient.t1gd)[0].shape == load_truth().density.grid.shape
    assert read_volume(files["t1gd"]).array.dtype == read_volume(sample_files()["t1gd"]).array.dtype
