"""Tissue maps as files: accepted scales, and a sentence for what cannot be this patient's."""

import numpy as np
import pytest
import SimpleITK as sitk
from layered_brain import GRID, ball, painted, scanned

from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume
from TumorQueryLib.inputs.cohort_file import read_cohort
from TumorQueryLib.inputs.patient import Patient

ROLES = ("white_matter", "grey_matter", "csf")
COARSE = Grid.isotropic(44, 3.0, GRID.centre)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """T1Gd and masks of the layered brain as files."""
    folder = tmp_path_factory.mktemp("images")
    volumes = {"t1gd": scanned(COARSE), "core": ball(COARSE, 6.0), "whole": ball(COARSE, 12.0)}
    for name, volume in volumes.items():
        array = volume.array.astype(np.float32 if name == "t1gd" else np.uint8)
        sitk.WriteImage(image_from_volume(Volume(array, volume.grid)), str(folder / f"{name}.nii.gz"))
    return {name: folder / f"{name}.nii.gz" for name in volumes}


def said_of(patient):
    """The warnings but that of the brain's size."""
    return [warning for warning in patient.warnings if "ml of white and grey matter, while 600 to" not in warning]


def files_of(folder, maps, grid=COARSE, ending="nii.gz"):
    """Three maps as files, by the arguments of `Patient.load`."""
    grids = grid if isinstance(grid, list) else [grid] * 3
    files = {role: folder / f"{role}.{ending}" for role in ROLES}
    for path, array, one in zip(files.values(), maps, grids):
        sitk.WriteImage(image_from_volume(Volume(np.asarray(array), one)), str(path))
    return files


@pytest.mark.parametrize(("scale", "kind"), [(1, "f4"), (1, "f8"), (100, "u1"), (100, "f4"), (255, "u1"), (255, "i2")])
def test_probabilities_are_read_from_shares_per_cent_and_bytes(images, tmp_path, scale, kind):
    painted_maps = painted(COARSE)
    arrays = [np.rint(scale * m).astype(kind) if scale > 1 else m.astype(kind) for m in painted_maps]
    patient = Patient.load(**images, **files_of(tmp_path, arrays))
    maps = patient.tissue_maps
    for found, true in zip((maps.white_matter, maps.grey_matter, maps.csf), painted_maps):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, true, atol=0.6 / scale if scale > 1 else 1e-7)
    said = [warning for warning in patient.warnings if "stands for a probability of 1" in warning]
    assert len(said) == (scale > 1)
    assert [record["role"] for record in patient.inputs][-3:] == list(ROLES)
    assert len({record["sha256"] for record in patient.inputs}) == 6
    assert said_of(patient) == said


def test_maps_of_zeros_and_ones_and_on_a_grid_of_their_own_are_accepted(images, tmp_path):
    fine = Grid.isotropic(70, 1.8, GRID.centre + 0.7)
    labels = np.argmax([np.full(fine.shape, 0.2), *painted(fine)], axis=0)
    patient = Patient.load(**images, **files_of(tmp_path, [(labels == n).astype(np.uint8) for n in (1, 2, 3)], fine))
    assert said_of(patient) == []
    assert patient.tissue_maps.grid.matches(fine)
    assert patient.drawn_on["tissue_maps"] == "t1gd"


def test_rounding_is_cut_and_overshoot_is_told(images, tmp_path):
    white, grey, csf = painted(COARSE)
    rounded = Patient.load(**images, **files_of(tmp_path, [white * 1.005, grey - 0.005, csf]))
    assert said_of(rounded) == []
    assert (rounded.tissue_maps.white_matter.max(), rounded.tissue_maps.grey_matter.min()) == (1, 0)
    (said,) = said_of(Patient.load(**images, **files_of(tmp_path, [white * 1.08, grey, csf])))
    assert said.startswith("The white matter map holds values from 0 to 1.08, as splines leave them")
    grey[0, 0, 0] = np.nan
    (said,) = said_of(Patient.load(**images, **files_of(tmp_path, [white, grey, csf])))
    assert said == f"The grey matter map is NaN or infinite in 1 of its {grey.size} voxels, and taken as 0 there."


def changed(number, array):
    maps = painted(COARSE)
    maps[number] = array(maps[number])
    return maps


def shifted(shift):
    affine = COARSE.affine.copy()
    affine[:3, 3] += shift
    return Grid(COARSE.shape, affine)


LABELS = np.argmax([np.full(COARSE.shape, 0.2), *painted(COARSE)], axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("maps", "grid", "said"),
    [
        ([LABELS] * 3, COARSE, "hold values from 0 to 3; they are probabilities of 0 to 1"),
        ([60 * m for m in painted(COARSE)], COARSE, "hold values from 0 to 60; they are"),
        (changed(1, lambda m: m - 0.5), COARSE, "hold values from -0.5 to 1; they are"),
        (changed(0, lambda m: m * 0), COARSE, "The white matter map is 0 everywhere"),
        (changed(1, lambda m: painted(COARSE)[0]), COARSE, "The white matter map and the grey matter map are the same"),
        (changed(2, lambda m: (LABELS > 0) * 1.0), COARSE, r"add up to more than 1.3 in \d+% of the brain"),
        (painted(COARSE), COARSE, None),
        ([m * 0.3 for m in painted(COARSE)], COARSE, "hold 0 ml of white and grey matter; that is no brain"),
        (painted(COARSE), shifted((90, 0, 0)), "maps' white and grey matter lies in the T1Gd: they lie elsewhere"),
        (painted(COARSE), shifted((0, 0, 500)), "Only 0% of the tissue maps' white and grey matter lies in the T1Gd"),
        (painted(COARSE), [COARSE, shifted((2, 0, 0)), COARSE], "The grey matter map is on another grid than"),
    ],
)
def test_maps_that_cannot_be_this_patients_are_refused(images, tmp_path, maps, grid, said):
    files = images | files_of(tmp_path, maps, grid)
    if said is None:
        assert any("while 600 to 2200 ml are usual" in warning for warning in Patient.load(**files).warnings)
        return
    with pytest.raises(InputError, match=said):
        Patient.load(**files)


def test_one_map_alone_is_refused(images, tmp_path):
    files = files_of(tmp_path, painted(COARSE))
    with pytest.raises(InputError, match="The grey matter map and the CSF map is not given; the tumour grows in three"):
        Patient.load(**images, white_matter=files["white_matter"])


def test_a_tumour_outside_the_box_of_the_maps_is_refused(images, tmp_path):
    right = COARSE.cropped((18, 0, 0), COARSE.shape)
    with pytest.raises(InputError, match="Only 0% of the segmented tumour lies in the box of the tissue maps"):
        Patient.load(**images, **files_of(tmp_path, painted(right), right))


def test_maps_move_with_the_image_that_they_were_made_from():
    """FAST's maps lie on the T1; they move with it, and no others do."""
    t1_grid = Grid.isotropic(60, 2.2, GRID.centre)
    maps = TissueMaps(*painted(t1_grid), t1_grid)
    patient = Patient(
        t1gd=scanned(COARSE), t1=scanned(t1_grid), core=ball(COARSE, 6.0), whole=ball(COARSE, 12.0), tissue_maps=maps
    )
    assert patient.drawn_on["tissue_maps"] == "t1"
    move = np.eye(4)
    move[:3, 3] = (2.0, -3.0, 1.0)
    after = patient.moved({"t1": move}).tissue_maps
    np.testing.assert_allclose(after.grid.affine[:3, 3], t1_grid.affine[:3, 3] + (2.0, -3.0, 1.0))
    assert after.white_matter is maps.white_matter
    on_t1gd = TissueMaps(*painted(COARSE), COARSE)
    stays = Patient(
        t1gd=scanned(COARSE), t1=scanned(t1_grid), core=ball(COARSE, 6.0), whole=ball(COARSE, 12.0), tissue_maps=on_t1gd
    )
    assert stays.moved({"t1": move}).tissue_maps.grid == COARSE


def test_a_cohort_names_them_by_their_columns(images, tmp_path):
    files = files_of(tmp_path, painted(COARSE))
    named = {"wm": files["white_matter"], "gm": files["grey_matter"], "csf": files["csf"]} | images
    table = tmp_path / "cohort.csv"
    table.write_text(
        f"patient,{','.join(named)}\none,{','.join(str(path) for path in named.values())}\n"
        f"two,,,,{','.join(str(path) for path in images.values())}\n",
        encoding="utf-8",
    )
    first, second = read_cohort(table)
    assert first.files["white_matter"] == str(files["white_matter"])
    assert first.with_paths(lambda path: f"there/{path}").files["grey_matter"] == f"there/{files['grey_matter']}"
    assert first.load().tissue_maps is not None
    assert second.load().tissue_maps is None
