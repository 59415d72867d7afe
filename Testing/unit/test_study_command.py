"""Studies and folders of patients on the command line: what is shown, what is run, and what has to be named."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_studies import MadeUpStudy, usual_study, write_studies
from small_world import world_patient, write_patient

from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import image_from_volume


def called(capsys, *arguments):
    """Exit status, standard output and standard error of a command, run in this process."""
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out.strip(), said.err.strip()


def world_study(patient, **values) -> MadeUpStudy:
    """The study that a patient of the small world would have, with the names of real ones."""
    study = MadeUpStudy(**values)
    study.add_localizer()
    for name, times, volume, more in (
        ("Ax T2 FLAIR", "flair", patient.flair, {"time": "1000"}),
        ("AX T1 POST GD FLAIR", "t1 flair", patient.t1gd, {"time": "1030", "ContrastBolusAgent": "Gd"}),
    ):
        array = np.rint(volume.array).astype(np.uint16)
        study.add(name, times, array=array, affine=volume.grid.affine, **more)
    study.add("T1 GD MPR", "t1 flair", plane="coronal", ImageType=["DERIVED", "SECONDARY", "MPR"])
    return study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A patient of the small world as a DICOM study in an archive's layout, and its other files."""
    folder, patient = tmp_path_factory.mktemp("made"), world_patient()
    write_studies(folder / "export", world_study(patient), layout="numbers")
    return folder, write_patient(folder / "files", patient)


def test_the_table_and_its_json(tmp_path, capsys):
    folder = write_studies(tmp_path / "study", usual_study(), layout="numbers")
    status, said, _ = called(capsys, "study", folder, "--json", tmp_path / "study.json")
    assert status == 0
    assert "Ax T1 POST GAD" in said
    assert "takes series 7 as T1Gd, series 4 as FLAIR, series 2 as T1." in said
    assert "no segmentation of the tumour" in said.splitlines()[-1]
    assert "SECRET" not in said
    described = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert len(described["studies"][0]["series"]) == 9
    assert set(described["chosen"]) == {"t1gd", "flair", "t1"}


def test_a_slice_is_not_written_over(tmp_path, capsys):
    folder = write_studies(tmp_path / "study", usual_study(), layout="one folder")
    taken = next(path for path in folder.rglob("*") if path.is_file())
    before = taken.read_bytes()
    (tmp_path / "study.json").symlink_to(taken)
    for path in (taken, tmp_path / "study.json"):
        status, _, said = called(capsys, "study", folder, "--json", path)
        assert (status, "was not written by a run of TumorQuery" in said) == (2, True)
    assert taken.read_bytes() == before
    for _ in range(2):
        assert called(capsys, "study", folder, "--json", tmp_path / "again.json")[0] == 0


def test_an_empty_path_is_not_the_working_folder(capsys):
    status, _, said = called(capsys, "infer", "--t1gd", "a.nii", "--flair", "", "--out", "out")
    assert (status, "argument --flair: the path is empty" in said) == (2, True)


def test_a_folder_without_dicom_is_one_line(tmp_path, capsys):
    assert called(capsys, "study", tmp_path / "nowhere")[0] == 2
    status, _, said = called(capsys, "study", tmp_path)
    assert status == 2
    assert said.count("\n") == 0


def test_an_ambiguous_study_is_not_run(tmp_path, capsys):
    study = usual_study()
    uid = study.add("Sag T1 GD", "t1 gradient echo", plane="sagittal", time="1040")
    folder = write_studies(tmp_path / "study", study)
    status, _, said = called(capsys, "infer", "--study", folder, "--out", tmp_path / "out")
    assert status == 2
    assert said.count("\n") == 0
    assert uid in said
    assert "--t1gd" in said
    assert not (tmp_path / "out").exists()


def test_neither_image_nor_study_is_said(tmp_path, capsys):
    status, _, said = called(capsys, "infer", "--segmentation", "x", "--out", tmp_path / "out")
    assert status == 2
    assert "--t1gd" in said
    assert "--study" in said


@pytest.mark.slow
def test_a_study_gives_the_result_of_its_images(tmp_path, capsys, world, made):
    folder, files = made
    drawn = ("--segmentation", files["segmentation"], "--labels", files["labels"])
    options = world.options(refine="none")
    status, said, _ = called(
        capsys, "infer", "--study", folder / "export", *drawn, "--out", tmp_path / "study", *options
    )
    assert status == 0
    assert 'T1Gd: series 3 "AX T1 POST GD FLAIR" of 2024-03-01 (certain); FLAIR: series 2 "Ax T2 FLAIR"' in said
    images = ("--t1gd", files["t1gd"], "--flair", files["flair"])
    assert called(capsys, "infer", *images, *drawn, "--out", tmp_path / "files", *options)[0] == 0
    results = [(tmp_path / name / "result.json").read_text(encoding="utf-8") for name in ("study", "files")]
    contents = [json.loads(result) for result in results]
    for result in ("chosen", "query"):
        assert contents[0][result] == contents[1][result]
    assert [one["role"] for one in contents[0]["inputs"]] == ["t1gd", "flair", "segmentation"]
    for private in ("SECRET", "POST GD", "export", "1.2.826"):
        assert private not in results[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BIDS", "BraTS", "DICOM"])
def test_a_folder_of_patients_is_found_listed_and_run(tmp_path, capsys, world, kind):
    patient = world_patient()
    folder, out = tmp_path / "patients", tmp_path / "out"
    labels = np.where(patient.core.array, 3, np.where(patient.whole.array, 2, 0)).astype(np.uint8)
    segmentation = image_from_volume(type(patient.t1gd)(labels, patient.whole.grid))
    places = {
        "BIDS": ("sub-1/anat/sub-1_ce-gadolinium_T1w", "derivatives/hand/sub-1/anat/sub-1_dseg"),
        "BraTS": ("BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1c", "BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg"),
        "DICOM": (None, "../drawn"),
    }[kind]
    for place, image in zip(places, (image_from_volume(patient.t1gd), segmentation)):
        if place is not None:
            path = folder / f"{place}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(path))
    if kind == "DICOM":
        write_studies(folder / "one", world_study(patient))
        double = usual_study()
        double.add("T1 GD", "t1 spin echo", time="1040")
        write_studies(folder / "two", double)
    status, said, _ = called(capsys, "cohort", folder, "--list", "--out", out)
    assert status == 0
    assert f"{'2' if kind == 'DICOM' else '1'} patients found" in said
    assert [path.name for path in out.iterdir()] == ["cohort.csv"]
    if kind != "BraTS":
        # What the names do not say is filled in by the user.
        with open(out / "cohort.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row |= {"segmentation": row.get("segmentation") or tmp_path / "drawn.nii.gz", "labels": "brats2023"}
        with open(out / "cohort.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    given = folder if kind == "BraTS" else out / "cohort.csv"
    status, said, _ = called(capsys, "cohort", given, "--out", out, *world.options(refine="none"))
    with open(out / "summary.csv", newline="", encoding="utf-8") as file:
        summary = list(csv.DictReader(file))
    assert summary[0]["status"] == "done"
    assert (out / summary[0]["patient"] / "result.json").is_file()
    assert status == (2 if kind == "DICOM" else 0)
    if kind == "DICOM":
        assert summary[1]["status"] == "failed"
        assert "2 series that may be the T1Gd" in summary[1]["error"]
        assert "\n" not in summary[1]["error"]


def test_a_list_of_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "cohort.csv").write_text("patient,t1gd\nA,a\n", encoding="utf-8")
    status, _, said = called(capsys, "cohort", tmp_path / "cohort.csv", "--list", "--out", tmp_path / "out")
    assert status == 2
    assert "--list" in said


def test_an_unknown_folder_is_one_line(tmp_path, capsys):
    status, _, said = called(capsys, "cohort", tmp_path, "--out", tmp_path / "out")
    assert status == 2
    assert "BIDS" in said
    assert not (tmp_path / "out").exists()
