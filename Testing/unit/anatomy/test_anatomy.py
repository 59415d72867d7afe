"""An anatomy's tissue as it lies in the patient."""

import numpy as np
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from hypothesis import example, given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.geometry.grid import Grid, Volume, resample
from TumorQueryLib.geometry.transforms import SpaceMap

GRID = Grid((12, 10, 8), np.diag([2.0, 2.0, 2.0, 1.0]))


def thirds():
    """White matter, grey matter and CSF along the first axis, four voxels each; a little of all is everywhere."""
    first = np.broadcast_to(np.arange(12)[:, None, None] // 4, GRID.shape)
    white, grey, csf = (np.where(first == n, 0.8, 0.1).astype(np.float32) for n in range(3))
    return TissueMaps(white, grey, csf, GRID)


def test_each_voxel_of_the_brain_is_what_it_holds_most_of():
    maps, brain = thirds(), np.zeros(GRID.shape, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    found = Anatomy("patient", maps.tissue(), maps=maps).tissue_in_patient(Volume(brain, GRID))
    expected = np.repeat(np.uint8([3, 2, 1]), 4)[:, None, None] * brain
    np.testing.assert_array_equal(found.array, expected)


def test_the_atlas_s_tissue_is_found_where_the_transform_puts_it():
    maps, brain = thirds(), Volume(np.ones(GRID.shape, bool), GRID)
    # Points of the patient lie 8 mm to the right of their like in the atlas (LPS: -8): one third of the grid.
    space = SpaceMap(sitk.TranslationTransform(3, (8.0, 0.0, 0.0)), sitk.TranslationTransform(3, (-8.0, 0.0, 0.0)))
    found = Anatomy("atlas", maps.tissue(), space, maps=maps).tissue_in_patient(brain).array
    assert (found[4:8] == 3).all()
    assert (found[8:] == 2).all()
    # What no map reaches is CSF.
    assert (found[:4] == 1).all()


PLACES = st.tuples(*[st.floats(-60, 60)] * 3)


@examples(40)
@given(
    st.sampled_from(sorted(AWKWARD_AFFINES)),
    PLACES,
    st.tuples(*[st.integers(0, 9)] * 3),
    st.floats(-0.5, 0.5),
    st.sampled_from((0.4, 1.0, 2.5)),
)
@example("oblique-flipped", (0.0, 0.0, 0.0), (0, 0, 0), 0.0, 0.4)  # an edge between the coarse steps
@example("oblique", (3.9, 23.0, 0.0), (0, 9, 0), 0.0, 0.4)  # and at the other end
def test_the_box_in_the_patient_holds_all_that_cells_reach(name, centre, first, angle, size):
    """The slow twin maps the cells themselves onto the whole of the grid."""
    maps = thirds()
    turn = sitk.Similarity3DTransform()
    turn.SetRotation((0.2, 0.5, 1.0), angle)
    turn.SetScale(1.1)
    anatomy = Anatomy("atlas", maps.tissue(), SpaceMap(turn, turn.GetInverse()), maps=maps)
    affine = AWKWARD_AFFINES[name].copy()
    affine[:3, :3] *= size
    image = centred_grid((40, 35, 30), affine, centre)
    cells = np.zeros(GRID.shape, bool)
    cells[tuple(slice(n, n + 3) for n in first)] = True
    box = anatomy.box_in_patient(cells, image)
    reached = anatomy.in_patient(Volume(cells.astype(np.float32), GRID), image).array > 0
    within = np.zeros(image.shape, bool)
    within[box] = True
    touched = np.argwhere(reached)
    # What only grazes the grid's border, by less than the steps in which it is searched, may be missed.
    if len(touched) and (np.ptp(touched, axis=0) * image.spacing).min() > 5:
        assert not (reached & ~within).any()
        # No more than the steps and a cell around it, and as much for the turn of the solid box in the image's axes.
        beyond = [(part.stop - part.start) * s for part, s in zip(box, image.spacing)]
        assert (beyond <= np.ptp(touched, axis=0) * image.spacing + 40).all()


def test_cells_that_an_image_s_last_voxels_alone_see_are_in_the_box():
    maps = thirds()
    fine = Grid(tuple(4 * n for n in GRID.shape), GRID.affine @ np.diag([0.25, 0.25, 0.25, 1.0]))
    cells = np.zeros(GRID.shape, bool)
    cells[7:11, 3:8, 3:8] = True
    # The cells go on beyond it, and begin behind the last of the coarse steps within it.
    image = fine.cropped((0, 0, 0), (29, *fine.shape[1:]))
    box = Anatomy("patient", maps.tissue(), maps=maps).box_in_patient(cells, image)
    reached = resample(Volume(cells.astype(np.float32), GRID), image).array > 0
    assert reached.any()
    within = np.zeros(image.shape, bool)
    within[box] = True
    assert not (reached & ~within).any()


def test_no_cells_have_an_empty_box():
    maps = thirds()
    nothing = np.zeros(GRID.shape, bool)
    assert Anatomy("patient", maps.tissue(), maps=maps).box_in_patient(nothing, GRID) == (slice(0, 0),) * 3
