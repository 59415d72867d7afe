"""The folders of PREDICT-GBM's containers: read and written as they are laid out, by the entry point of ours."""

import ast
import json
import re
import shlex
import traceback
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from small_world import CENTRE, world_brain

from TumorQueryLib import cli
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Volume, image_from_volume, resample
from TumorQueryLib.studies.recurrence import container
from TumorQueryLib.studies.recurrence.container import painted_t1, predict_folder, read_patient

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = ROOT / "containers" / "predict-gbm" / "Dockerfile"
#: As the dataset's images lie (LPS), cropped and coarser.
GRID = centred_grid((62, 64, 60), AWKWARD_AFFINES["lps"] @ np.diag([2.0, 2.0, 2.0, 1.0]), CENTRE)


def maps_on(grid):
    brain = world_brain()
    arrays = (brain.white_matter, brain.grey_matter, brain.csf)
    return TissueMaps(*(resample(Volume(m, brain.grid), grid).array for m in arrays), grid)


def segmentation_on(grid, place=(28.0, -2.0, 20.0)):
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points - np.array(place), axis=-1)
    labels = np.where(distance < 5, 1, np.where(distance < 9, 3, np.where(distance < 17, 2, 0)))
    return Volume(labels.astype(np.uint8), grid)


def write_patient_folder(source, identifier, *, segmentation=None, maps=None):
    folder = source / f"Patient-{identifier}"
    folder.mkdir(parents=True)
    maps, segmentation = maps or maps_on(GRID), segmentation or segmentation_on(GRID)
    volumes = {"wm": Volume(maps.white_matter, maps.grid), "gm": Volume(maps.grey_matter, maps.grid)}
    volumes |= {"csf": Volume(maps.csf, maps.grid), "tumorseg": segmentation}
    for ending, volume in volumes.items():
        sitk.WriteImage(image_from_volume(volume), str(folder / f"{identifier}-{ending}.nii.gz"))
    return folder


@pytest.fixture
def small(monkeypatch, world):
    """The command's method in the small world: the usual one takes half a minute a patient."""
    monkeypatch.setattr(container, "Method", lambda: world.method(refine_solves=3))


def instructions():
    """Words of each of the Dockerfile's instructions, by instruction."""
    text = re.sub(r"^\s*#.*$", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, json.loads(rest) if rest.startswith("[") else shlex.split(rest)) for name, _, rest in lines]


def project_value(name):
    """A value of pyproject.toml that stands on one line (Python 3.10 has no reader of TOML)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return ast.literal_eval(re.search(rf"^{name} = (.+)$", text, flags=re.MULTILINE)[1])


@pytest.mark.slow
def test_the_entry_point_does_what_the_contract_asks(small, tmp_path, capsys):
    """Three patients, of whom one lacks a map and one has a tumour of another place: the others are done."""
    source, out = tmp_path / "in", tmp_path / "out"
    write_patient_folder(source, "00000")
    write_patient_folder(source, "00001")
    (source / "Patient-00001" / "00001-csf.nii.gz").unlink()
    write_patient_folder(source, "00002", segmentation=segmentation_on(GRID, (-20.0, -5.0, 25.0)))
    (source / "Patient-00002" / "00002-pet.nii.gz").write_bytes(b"not looked at")
    (source / "notes.txt").write_text("no patient", encoding="utf-8")
    (entry,) = (words for name, words in instructions() if name == "ENTRYPOINT")
    call = [{"/mlcube_io0": str(source), "/mlcube_io1": str(out)}.get(word, word) for word in entry]
    assert project_value(call[0]) == "TumorQueryLib.cli:main"
    assert str(source) in call
    assert cli.main(call[1:]) == 2
    said = capsys.readouterr()
    assert "00001: Patient-00001 lacks 00001-csf.nii.gz; a patient is 00001-wm.nii.gz, " in said.out
    assert "1 of 3 patients failed; the lines above say why" in said.err
    assert sorted(path.name for path in out.iterdir()) == ["00000.nii.gz", "00002.nii.gz"]
    for identifier in ("00000", "00002"):
        segmentation = nibabel.load(source / f"Patient-{identifier}" / f"{identifier}-tumorseg.nii.gz")
        density = nibabel.load(out / f"{identifier}.nii.gz")
        # The benchmark compares voxel by voxel and looks at no header.
        assert density.shape == segmentation.shape
        np.testing.assert_allclose(density.affine, segmentation.affine, atol=1e-5)
        values, labels = density.get_fdata(), segmentation.get_fdata()
        assert density.get_data_dtype() == np.float32
        assert (values.min(), values.max() <= 1) == (0, True)
        # The assimilated density, which is shown, agrees with the outlines.
        assert (values[np.isin(labels, (1, 3))] > 0.6).mean() > 0.98
        assert (values[labels == 0] < 0.2).mean() > 0.999
    # What is there is not replaced.
    assert cli.main(call[1:]) == 2
    assert "00000.nii.gz exists already; name another folder" in capsys.readouterr().out


def test_the_dockerfile_copies_what_the_package_is_made_of():
    found = instructions()
    names = [name for name, _ in found]
    assert names[0] == "FROM"
    assert names[-1] == "ENTRYPOINT"
    assert set(names) <= {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"}
    copied = [source for name, words in found if name == "COPY" for source in words[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    needed = {"pyproject.toml", "setup.py", "TumorQueryLib", "Resources", "README.md"}
    needed |= {Path(pattern).parts[0] for pattern in project_value("license-files")}
    assert set(copied) == needed
    let_through = (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text(encoding="utf-8").splitlines()
    assert let_through[0] == "**"
    assert {line[1:] for line in let_through if line.startswith("!")} == needed


def test_the_painted_t1_is_as_bright_as_the_tissues_are(tmp_path):
    """On the voxels of the segmentation, also where the maps have other ones."""
    folder = write_patient_folder(tmp_path, "7")
    patient = read_patient(folder, "7")
    assert patient.labels == "brats2024"
    assert patient.t1gd.grid.matches(patient.whole.grid)
    assert [record["role"] for record in patient.inputs] == ["white_matter", "grey_matter", "csf", "segmentation"]
    maps, image = maps_on(GRID), patient.t1gd.array
    medians = [np.median(image[(m > 0.75) & (m < 0.95)]) for m in (maps.white_matter, maps.grey_matter)]
    assert medians[0] > medians[1] + 100 > 500
    assert 0 < np.median(image[maps.csf > 0.9]) < medians[1] - 100
    assert not image[maps.white_matter + maps.grey_matter + maps.csf < 0.4].any()
    other = maps_on(centred_grid((70, 60, 64), AWKWARD_AFFINES["oblique"] @ np.diag([2.0, 2.2, 0.8, 1.0]), CENTRE))
    again = painted_t1(other, patient.whole)
    assert again.grid.matches(GRID)
    assert np.corrcoef(again.array.ravel(), image.ravel())[0, 1] > 0.97


def test_a_cavity_is_no_tumour(tmp_path):
    segmentation = segmentation_on(GRID)
    cavity = segmentation.array == 1
    segmentation.array[cavity] = 4
    patient = read_patient(write_patient_folder(tmp_path, "a-b", segmentation=segmentation), "a-b")
    assert not patient._given["whole"].array[cavity].any()
    assert patient.core.array.sum() == (segmentation.array == 3).sum()


@pytest.mark.parametrize("made", [None, "Patient-", "patient-00000"])
def test_a_folder_without_patients_is_a_sentence(tmp_path, capsys, made):
    if made:
        (tmp_path / "in" / made).mkdir(parents=True)
    with pytest.raises(InputError, match="There is no folder" if made is None else "holds no folder Patient-ID"):
        predict_folder(tmp_path / "in", tmp_path / "out")
    assert cli.main(["predict-gbm", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_each_failure_is_one_sentence(small, tmp_path, capsys):
    source = tmp_path / "in"
    write_patient_folder(source, "empty", segmentation=Volume(np.zeros(GRID.shape, np.uint8), GRID))
    swapped = maps_on(GRID)
    write_patient_folder(source, "same", maps=TissueMaps(swapped.grey_matter, swapped.grey_matter, swapped.csf, GRID))
    odd = segmentation_on(GRID)
    odd.array[0, 0, 0] = 9
    write_patient_folder(source, "label", segmentation=odd)
    (write_patient_folder(source, "text") / "text-wm.nii.gz").write_text("no image", encoding="utf-8")
    predictions = predict_folder(source, tmp_path / "out")
    errors = {one.identifier: one.error for one in predictions}
    assert errors["empty"].startswith("The segmentation is empty")
    assert errors["same"].startswith("The white matter map and the grey matter map are the same")
    assert "9" in errors["label"]
    assert "The wm map file" in errors["text"]
    assert all(error.count("\n") == 0 and "defect" not in error for error in errors.values())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_defect_at_one_patient_is_told_as_one_and_the_others_go_on(small, tmp_path, capsys, monkeypatch, user_cache):
    for identifier in ("a", "b", "c"):
        (write_patient_folder(tmp_path / "in", identifier) / f"{identifier}-csf.nii.gz").unlink()

    def read(folder, identifier):
        if identifier == "b":
            raise ZeroDivisionError("by nothing")
        return read_patient(folder, identifier)

    monkeypatch.setattr(container, "read_patient", read)
    assert cli.main(["predict-gbm", str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "a: Patient-a lacks a-csf.nii.gz" in said.out
    assert "b: defect: ZeroDivisionError: by nothing" in said.out
    assert "c: Patient-c lacks c-csf.nii.gz" in said.out
    assert "Traceback" in said.err
    log = user_cache / "last-error.log"
    assert said.err.splitlines()[-1].endswith(f"this is a defect of TumorQuery; please report it with {log}.")
    assert "ZeroDivisionError: by nothing" in log.read_text(encoding="utf-8")
    # The traceback keeps no patient's images.
    (defect,) = [one.defect for one in predict_folder(tmp_path / "in", tmp_path / "out") if one.defect is not None]
    frames = {frame.f_code.co_name: frame.f_locals for frame, _ in traceback.walk_tb(defect.__traceback__)}
    assert frames["read"] == frames["_predict"] == {}
