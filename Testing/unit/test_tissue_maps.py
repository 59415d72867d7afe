"""Tissue maps that are given, the whole way: they are what the tumour grows in, and where that cannot be it is said."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from small_world import CENTRE, patient_of_masks, world_patient, write_patient

from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, resample
from TumorQueryLib.geometry.transforms import SpaceMap, identity_transform
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.inference import infer, patient_anatomy
from TumorQueryLib.jobs import run_infer

FINE = Grid.isotropic(64, 2.0, CENTRE)
ROLES = ("white_matter", "grey_matter", "csf")


def with_a_plate_of_csf(atlas):
    """The small brain with a wall of CSF beside the tumour that the atlas does not know."""
    white, grey, csf = (resample(Volume(getattr(atlas, role), atlas.grid), FINE).array for role in ROLES)
    x, y, z = np.moveaxis(FINE.to_ras(np.moveaxis(np.indices(FINE.shape), 0, -1)), -1, 0)
    wall = (np.abs(x - 16) < 3) & (y > -35) & (z > -12) & (white + grey > 0.5)
    return TissueMaps(
        *(np.where(wall, of_wall, m).astype(np.float32) for m, of_wall in zip((white, grey, csf), (0, 0, 1))), FINE
    )


@pytest.fixture(scope="module")
def walled(world):
    """The true maps, the true density on their grid, and the patient."""
    maps = with_a_plate_of_csf(world.atlas)
    tissue = Tissue.from_maps(maps.white_matter, maps.grey_matter, maps.csf, FINE)
    density = simulate(GrowthParameters.from_identifiable((30.0, 2.0, 18.0), 2.5, 14.0, 0.02), tissue)
    return maps, density, patient_of_masks(density > 0.6, density > 0.2, FINE)


def written(folder, patient, maps):
    files = write_patient(folder, patient)
    for role in ROLES:
        files[role] = str(folder / f"{role}.nii.gz")
        sitk.WriteImage(image_from_volume(Volume(getattr(maps, role), maps.grid)), files[role])
    return files


@pytest.mark.slow
def test_true_maps_give_a_better_density_than_the_atlass(world, walled, tmp_path, capsys):
    """By files and the command line; the wall stands in no image of the small world, only in the maps."""
    maps, truth, patient = walled
    files = written(tmp_path, patient, maps)
    call = ["infer", "--t1gd", files["t1gd"], "--segmentation", files["segmentation"], "--labels", files["labels"]]
    call += [*world.options(refine_solves=20), "--density", "refined"]
    found = {}
    for name, added in (("atlas", []), ("given", ["--tissue-maps", *(files[role] for role in ROLES)])):
        assert main([*call, *added, "--out", str(tmp_path / name)]) == 0
        content = json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8"))
        image = sitk.ReadImage(str(tmp_path / name / content["estimates"]["refined"]["density"]))
        density = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
        near = truth > 0.01
        found[name] = content["estimates"]["refined"]["fit"]["dice_sum"], np.abs(density - truth)[near].mean(), content
    assert found["given"][0] > found["atlas"][0] + 0.05
    assert found["given"][1] < 0.5 * found["atlas"][1]
    assert found["atlas"][2]["tissue"] is None
    tissue = found["given"][2]["tissue"]
    assert tissue["source"] == "given"
    assert tissue["volumes_ml"]["csf"] == pytest.approx(maps.csf.sum() * FINE.voxel_volume_ml, rel=0.02)
    roles = [record["role"] for record in found["given"][2]["inputs"]]
    assert roles == ["t1gd", "segmentation", *ROLES]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "given" / "tissue.nrrd"))).transpose(2, 1, 0)
    wall = (maps.csf > 0.9) & (patient.t1gd.array > 0)
    assert (labels[wall] == 1).mean() > 0.95


@pytest.mark.slow
def test_maps_of_the_atlas_itself_change_next_to_nothing_on_any_grid(world, refined):
    """What the registration would carry is given: on an oblique grid, and the tumour is the same."""
    grid = centred_grid((68, 72, 62), AWKWARD_AFFINES["oblique-flipped"] @ np.diag([1.8, 2.4, 1.0, 1.0]), CENTRE)
    maps = TissueMaps(
        *(resample(Volume(getattr(world.atlas, role), world.atlas.grid), grid).array for role in ROLES), grid
    )
    result = infer(world_patient(tissue_maps=maps), world.method())
    tissue = result.to_json()["tissue"]
    assert min(tissue["overlap_with_atlas"].values()) > 0.9
    assert np.abs(result.density.array - refined.density.array).max() < 0.1
    assert result.model.fit.dice_sum == pytest.approx(refined.model.fit.dice_sum, abs=0.02)
    assert len(result.warnings) == len(refined.warnings)


@pytest.mark.slow
def test_given_maps_go_before_the_patients_own_tissue_and_that_is_said(walled, world):
    maps, _, patient = walled
    patient = patient_of_masks(patient.core.array, patient.whole.array, FINE, tissue_maps=maps)
    stay = SpaceMap(identity_transform(), identity_transform())
    plain, _ = patient_anatomy(patient, world.atlas, stay)
    beside_own, _ = patient_anatomy(patient, world.atlas, stay, "own")
    assert beside_own.origin.as_json() == plain.origin.as_json()
    assert plain.warnings == ()
    assert "the patient's own tissue is looked for only where none are" in beside_own.warnings[0]


@pytest.mark.parametrize("refine", ["none", "atlas"])
def test_maps_in_which_nothing_would_grow_are_refused_before_anything_is_read(world, walled, tmp_path, refine):
    maps, _, patient = walled
    said = f"Tissue maps are for a refinement in the patient's anatomy, and refine is {refine}"
    given = patient_of_masks(patient.core.array, patient.whole.array, FINE, tissue_maps=maps)
    with pytest.raises(InputError, match=said):
        infer(given, world.method(refine=refine))
    job = {"out": str(tmp_path), "arguments": {"t1gd": "no file", "white_matter": "none"} | {"refine": refine}}
    with pytest.raises(InputError, match=said):
        run_infer(job, progress=lambda *_: None)


def test_a_map_that_is_missing_is_a_line_on_the_command_line(world, walled, tmp_path, capsys):
    maps, _, patient = walled
    files = written(tmp_path, patient, maps)
    call = ["infer", "--t1gd", files["t1gd"], "--segmentation", files["segmentation"], "--labels", files["labels"]]
    maps_of_two = [files["white_matter"], files["grey_matter"], str(tmp_path / "none.nii.gz")]
    assert main([*call, "--tissue-maps", *maps_of_two, "--out", str(tmp_path / "out")]) == 2
    assert "The CSF map file" in capsys.readouterr().err
    assert main([*call, "--tissue-maps", *maps_of_two[:2], "--out", str(tmp_path / "out")]) == 2
    assert "expected 3 arguments" in capsys.readouterr().err


@pytest.mark.slow
def test_the_workers_job_takes_them_as_a_cohort_gives_them(world, walled, tmp_path):
    maps, _, patient = walled
    files = written(tmp_path / "in", patient, maps)
    arguments = files | world.method(refine_solves=1).as_json()
    path = run_infer({"out": str(tmp_path / "job"), "arguments": arguments}, progress=lambda *_: None)
    assert json.loads(path.read_text(encoding="utf-8"))["tissue"]["source"] == "given"
