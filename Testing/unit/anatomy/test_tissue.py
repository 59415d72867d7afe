import numpy as np
import pytest
from awkward_grids import centred_grid

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid

GRID = Grid((4, 5, 6), np.diag([1.5, 1.5, 1.5, 1.0]))


def filled(value):
    return np.full(GRID.shape, value, np.float32)


def test_tissue_is_where_white_and_grey_matter_reach_a_half():
    white, grey = filled(0.3), filled(0.1)
    grey[1, 2, 3] = 0.2
    tissue = Tissue.from_maps(white, grey, filled(0.4), GRID)
    assert np.argwhere(tissue.mask).tolist() == [[1, 2, 3]]
    assert tissue.mobility[1, 2, 3] == pytest.approx(0.3 + 0.2 / 10)
    assert np.count_nonzero(tissue.mobility) == 1


def test_maps_are_normalised_where_their_sum_exceeds_1():
    tissue = Tissue.from_maps(filled(1.0), filled(0.5), filled(0.5), GRID)
    assert tissue.mask.all()
    assert tissue.mobility == pytest.approx(0.5 + 0.25 / 10)
    # Cerebrospinal fluid can take a cell out of the tissue that way.
    assert (
        not Tissue.from_maps(np.where(np.indices(GRID.shape)[0], 0.6, 1), filled(0), filled(0.7), GRID).mask[1:].any()
    )


def test_faces_are_open_between_tissue_cells_only():
    white = filled(0.0)
    white[1, 1, 1:4] = 1.0
    white[2, 1, 1] = 0.6
    faces = Tissue.from_maps(white, filled(0), None, GRID).face_mobility
    expected = [np.zeros(GRID.shape) for _ in range(3)]
    expected[0][1, 1, 1] = 0.8
    expected[2][1, 1, 1:3] = 1.0
    for face, values in zip(faces, expected):
        np.testing.assert_allclose(face, values, rtol=1e-6)


def test_the_atlas_has_plausible_tissue(atlas):
    tissue = Tissue.from_atlas(atlas)
    volume = np.count_nonzero(tissue.mask) * atlas.grid.voxel_volume_ml
    assert 900 < volume < 1600
    # No more than the rim of partial volume of it is mostly fluid.
    assert np.count_nonzero(tissue.mask & (atlas.csf > 0.5)) == 0
    assert tissue.mobility.max() <= 1
    assert "0.5" in tissue.description["tissue"]


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ((filled(0.1), filled(0.1), None), "0.5"),
        ((filled(np.nan), filled(0.1), None), "finite"),
        ((filled(-1), filled(0.1), None), "negative"),
        ((filled(1)[1:], filled(0.1), None), "shape"),
        ((filled(1), filled(0.1), filled(0)[:, 1:]), "shape"),
    ],
)
def test_maps_that_are_no_probabilities_on_the_grid_are_refused(maps, said):
    with pytest.raises(InputError, match=said):
        Tissue.from_maps(*maps, GRID)


def test_a_sheared_grid_is_refused():
    affine = GRID.affine.copy()
    affine[0, 1] = 0.5
    with pytest.raises(InputError, match="right angles"):
        Tissue.from_maps(filled(1), filled(0), None, Grid(GRID.shape, affine))


def test_a_seed_is_found_on_any_grid(awkward_affine):
    grid = centred_grid((7, 8, 9), awkward_affine, (10, -20, 30))
    white = np.ones(grid.shape)
    tissue = Tissue.from_maps(white, 0 * white, None, grid)
    place = tuple(grid.to_ras([2.3, 3.4, 4.4]))
    np.testing.assert_allclose(tissue.seed_index(place), [2.3, 3.4, 4.4])


def test_a_seed_outside_the_tissue_names_the_nearest_tissue():
    white = filled(0)
    white[2, 2, 2] = 1
    tissue = Tissue.from_maps(white, filled(0), None, GRID)
    with pytest.raises(InputError, match=r"outside the tissue; the nearest tissue is at \(3\.0, 3\.0, 3\.0\), 1\.5 mm"):
        tissue.seed_index((3.0, 3.0, 4.5))
    with pytest.raises(InputError, match=r"outside the grid; the nearest tissue is at \(3\.0, 3\.0, 3\.0\)"):
        tissue.seed_index((3.0, 3.0, -400.0))


def test_the_share_of_grey_matter_is_free_and_described():
    white, grey = filled(0.5), filled(0.3)
    usual, slow = (
        Tissue.from_maps(white, grey, None, GRID),
        Tissue.from_maps(white, grey, None, GRID, grey_to_white=1 / 3),
    )
    np.testing.assert_allclose(usual.mobility, 0.53, rtol=1e-6)
    np.testing.assert_allclose(slow.mobility, 0.6, rtol=1e-6)
    # What databases hold: not to change by a letter.
    assert usual.description == {
        "tissue": "white + grey matter >= 0.5",
        "mobility": "white + 0.1 grey matter, maps normalised where their sum exceeds 1",
        "face_mobility": "arithmetic mean of both cells, 0 unless both are tissue",
    }
    assert slow.description["mobility"].startswith("white + 0.333 grey matter")
    assert Tissue(GRID, usual.mask, usual.mobility).description == usual.description


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_of_grey_matter_that_is_none_is_refused(share):
    with pytest.raises(InputError, match="above 0 and at most 1, not"):
        Tissue.from_maps(filled(1), filled(0), None, GRID, grey_to_white=share)
