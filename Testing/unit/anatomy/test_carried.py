"""The atlas's tissue in a patient: in place, complete where the tumour is, and grey where its neighbours are."""

import numpy as np
import pytest
import SimpleITK as sitk

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.carried import carried_anatomy
from TumorQueryLib.anatomy.tissue import GREY_TO_WHITE
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.geometry.transforms import SpaceMap

#: Half white, half grey matter, with a plate of CSF through both; 3 mm along R, A and S.
GRID = Grid.isotropic(40, 3.0, (10.0, -20.0, 30.0))


@pytest.fixture(scope="module")
def slab():
    white, grey, csf = (np.zeros(GRID.shape, np.float32) for _ in range(3))
    white[4:20, 4:36, 4:36] = 1
    grey[20:36, 4:36, 4:36] = 1
    for tissue in (white, grey):
        tissue[:, 18:22] = 0
    csf[4:36, 18:22, 4:36] = 1
    t1 = Volume(white * 2 + grey, GRID)
    return Atlas("slab", GRID, white, grey, csf, t1, "", "")


def space(scale=1.0):
    """The patient lies turned and is larger by `scale` than the atlas."""
    to_atlas = sitk.Similarity3DTransform()
    to_atlas.SetCenter((-10.0, 20.0, 30.0))
    to_atlas.SetRotation((0.2, 0.5, 1.0), 0.2)
    to_atlas.SetScale(1 / scale)
    to_atlas.SetTranslation((5.0, -3.0, 2.0))
    return SpaceMap(to_atlas, to_atlas.GetInverse())


def tumour_in_patient(slab, way, radius=9.0):
    """A ball around the atlas' centre, which lies in the plate of CSF between white and grey matter."""
    centre = way.point_in_patient(GRID.centre)
    grid = Grid.isotropic(60, 2.0, centre)
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points - centre, axis=-1)
    return Volume(distance < radius / 2, grid), Volume(distance < radius, grid)


def test_tumour_is_tissue_and_nothing_else_changes(slab):
    way = space()
    core, whole = tumour_in_patient(slab, way)
    anatomy, masks = carried_anatomy(slab, way, core, whole)
    assert anatomy.name == "patient"
    assert anatomy.length_scale == 1
    assert np.allclose(anatomy.grid.spacing, 1.5)
    assert anatomy.tissue.mask[masks.whole].all()
    assert masks.core.any()
    plain, _ = carried_anatomy(slab, way, Volume(core.array & False, core.grid), Volume(core.array & False, core.grid))
    assert plain.tissue_voxels_added == 0
    changed = anatomy.tissue.mobility != plain.tissue.mobility
    assert anatomy.tissue_voxels_added == (masks.whole & ~plain.tissue.mask).sum() > 100
    assert np.array_equal(changed, masks.whole & ~plain.tissue.mask)


def test_added_tissue_is_grey_beside_grey_matter_and_white_beside_white(slab):
    way = space()
    core, whole = tumour_in_patient(slab, way)
    anatomy, masks = carried_anatomy(slab, way, core, whole)
    plain, _ = carried_anatomy(slab, way, Volume(core.array & False, core.grid), Volume(core.array & False, core.grid))
    added = masks.whole & ~plain.tissue.mask
    mobility = anatomy.tissue.mobility[added]
    assert np.allclose(np.unique(mobility), [GREY_TO_WHITE, 1])
    in_atlas = np.array(
        [way.patient_to_atlas.TransformPoint((-x, -y, z)) for x, y, z in anatomy.grid.to_ras(np.argwhere(added))]
    )
    right = -in_atlas[:, 0] - GRID.centre[0]
    assert (mobility[right < -3] == 1).all(), "the left half of the atlas is white matter"
    assert (mobility[right > 3] < 0.5).all(), "the right half of the atlas is grey matter"


def test_volume_of_the_tissue_grows_with_the_patient(slab):
    volumes = []
    for scale in (1.0, 1.1):
        way = space(scale)
        anatomy, _ = carried_anatomy(slab, way, *tumour_in_patient(slab, way))
        volumes.append(anatomy.tissue.mask.sum())
        ends = np.argwhere(anatomy.tissue.mask)
        assert (ends.min(axis=0) > 0).all()
        assert (ends.max(axis=0) < np.array(anatomy.grid.shape) - 1).all(), "the grid holds all of the tissue"
    assert volumes[1] / volumes[0] == pytest.approx(1.1**3, rel=0.02)
