"""The brain is found in painted and in real heads, however their voxels lie."""

import nibabel
import numpy as np
import pytest
from awkward_grids import placed_affine
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.anatomy.brain import closest_to_ras, extract_brain, largest_part
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.regions import dice
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.studies.phantom import head_with_skull


@pytest.fixture(scope="module")
def painted(atlas):
    """A painted head, its brain, what is found, and what was said on the way."""
    image, brain = head_with_skull(atlas)
    image.array[:6, :6, :6] = 0
    said = []
    found = extract_brain(image, progress=lambda value, message: said.append((value, message)))
    return image, brain, found, said


@pytest.mark.slow
def test_the_brain_of_a_painted_head_is_found(painted):
    image, brain, found, said = painted
    assert found.grid is image.grid
    assert found.array.dtype == bool
    assert dice(found.array, brain.array) > 0.97
    values = [value for value, _ in said]
    assert values == sorted(values)
    assert values[0] == 0
    assert 0.8 < values[-1] < 1
    assert all(message for _, message in said)


@pytest.mark.slow
def test_how_the_voxels_lie_changes_nothing(painted):
    """The same head in an array with other axes, turned round; what is not a number counts as 0."""
    image, _, found, _ = painted
    array = image.array.astype(np.float64)
    array[:6, :6, :6] = np.nan
    order, flips = (2, 0, 1), np.array([-1, 1, -1])
    # Voxel (a, b, c) of the new array is voxel (b, c, a) of the old one, counted from the far end where flipped.
    turned = array.transpose(order)[:: flips[0], :: flips[1], :: flips[2]]
    affine = image.grid.affine[:, [*order, 3]]
    corner = np.where(flips < 0, np.array(turned.shape) - 1, 0)
    affine[:3, 3] = affine[:3, :3] @ corner + affine[:3, 3]
    affine[:3, :3] *= flips
    again = extract_brain(Volume(turned, Grid(turned.shape, affine)))
    expected = found.array.transpose(order)[:: flips[0], :: flips[1], :: flips[2]]
    np.testing.assert_array_equal(again.array, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("t1", 0.97), ("t1gd", 0.965), ("flair", 0.95)])
def test_the_brain_of_a_real_head_is_found(test_data, name, least):
    folder = test_data / "patients" / "TCGA-FG-6692_head"
    if not folder.is_dir():
        pytest.skip("needs real data: the folder patients/TCGA-FG-6692_head is not there")
    image = read_image_file(folder / f"{name}.nii.gz", "head").volume
    mask = read_image_file(folder / f"brain_{name}.nii.gz", "mask", is_mask=True).volume
    assert dice(extract_brain(image).array, mask.array > 0.5) >= least


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_empty_image_has_no_brain(value):
    image = Volume(np.full((20, 24, 9), value), Grid((20, 24, 9), np.diag([1.0, 1.0, 3.0, 1.0])))
    with pytest.raises(InputError, match=r"No brain was found in the image of 20 x 24 x 27 mm"):
        extract_brain(image)


def test_a_cancelled_extraction_ends():
    def cancel(value, message):
        raise Cancelled

    image = Volume(np.random.default_rng(0).random((20, 20, 20)), Grid((20, 20, 20), np.eye(4)))
    with pytest.raises(Cancelled):
        extract_brain(image, progress=cancel)


@pytest.mark.slow
@examples(60)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    order=st.permutations((0, 1, 2)),
    spacing=st.tuples(*[st.floats(0.5, 6)] * 3),
)
def test_the_closest_axes_are_nibabels(angles, flips, order, spacing):
    affine = placed_affine(spacing, angles, flips, order)
    array = np.arange(24).reshape(2, 3, 4)
    axes, reversals = closest_to_ras(Grid(array.shape, affine))
    ours = array.transpose(axes)[reversals]
    theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(array.astype(np.int16), affine)).dataobj
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours[reversals].transpose(np.argsort(axes)), array)


def test_parts_that_touch_at_corners_are_one():
    mask = np.zeros((6, 6, 6), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = mask[5, 5, 5] = mask[5, 5, 4] = True
    assert np.argwhere(largest_part(mask)).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
