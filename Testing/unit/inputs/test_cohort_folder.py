"""Patients found in folders: BIDS datasets, BraTS' folders of every generation, folders of DICOM studies."""

import csv

import pytest
from closed_folders import closed, needs_closed_folders, open_folder
from made_up_studies import MadeUpStudy, usual_study, write_studies

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.inputs.cohort_file import folded, read_cohort, wrong_name
from TumorQueryLib.inputs.cohort_folder import _give_names, find_patients, write_cohort_file


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found_in(folder):
    """Rows with paths relative to the folder, and what was said."""
    found = find_patients(folder)
    rows = [
        {key: value.replace(f"{folder}/", "") if value.startswith(str(folder)) else value for key, value in row.items()}
        for row in found.rows
    ]
    return rows, " ".join(found.said)


def brats(folder, name, joint, roles, ending=".nii.gz"):
    touch(folder, *(f"{name}/{name}{joint}{role}{ending}" for role in roles))


OLD, NEW = ("t1", "t1ce", "t2", "flair", "seg"), ("t1n", "t1c", "t2w", "t2f", "seg")


@pytest.mark.parametrize(
    ("name", "joint", "roles", "labels"),
    [
        ("Brats17_TCIA_605_1", "_", OLD, "brats2018"),
        ("Brats18_CBICA_AAM_1", "_", OLD, "brats2018"),
        ("BraTS19_2013_10_1", "_", OLD, "brats2018"),
        ("BraTS20_Training_001", "_", OLD, "brats2018"),
        ("BraTS2021_00000", "_", OLD, "brats2018"),
        ("BraTS-GLI-00000-000", "-", NEW, "brats2024"),
        ("BraTS-GLI-02062-100", "-", NEW, "brats2024"),
        ("BraTS-SSA-00002-000", "-", NEW, "brats2023"),
        ("BraTS-PED-00001-000", "-", NEW, None),
        ("BraTS-MET-00001-000", "-", NEW, None),
        ("BraTS-MEN-00004-000", "-", NEW, None),
        ("BraTS-GoAT-00000", "-", NEW, None),
    ],
)
def test_the_generations_of_brats(tmp_path, name, joint, roles, labels):
    brats(tmp_path / "HGG", name, joint, roles)
    (row,), said = found_in(tmp_path)
    t1, t1gd, _, flair, seg = (f"HGG/{name}/{name}{joint}{role}.nii.gz" for role in roles)
    expected = {"patient": name, "t1": t1, "t1gd": t1gd, "flair": flair, "segmentation": seg}
    assert row == expected | ({"labels": labels} if labels else {})
    if labels:
        assert f"labels mean {labels}" in said
    else:
        assert "labels are left open" in said
        assert "fill in the column labels" in said


def test_the_first_years_of_brats(tmp_path):
    """A folder for each image, patients told by the folders above."""
    for grade, patient, number in (("HG", "0001", 684), ("LG", "0001", 917)):
        for role in ("O.MR_T1", "O.MR_T1c", "O.MR_T2", "O.MR_Flair"):
            name = f"VSD.Brain.XX.{role}.{number}"
            touch(tmp_path, f"{grade}/{patient}/{name}/{name}.mha", f"{grade}/{patient}/{name}/License_CC_BY_NC_SA.txt")
        touch(tmp_path, f"{grade}/{patient}/VSD.Brain_3more.XX.XX.OT.{number}/VSD.Brain_3more.XX.XX.OT.{number}.mha")
    rows, said = found_in(tmp_path)
    assert [(row["patient"], row["labels"]) for row in rows] == [("HG_0001", "brats2013"), ("LG_0001", "brats2013")]
    assert rows[0]["t1gd"] == "HG/0001/VSD.Brain.XX.O.MR_T1c.684/VSD.Brain.XX.O.MR_T1c.684.mha"
    assert rows[0]["t1"].endswith("MR_T1.684.mha")
    assert rows[1]["segmentation"].endswith("XX.OT.917.mha")
    assert "BraTS 2013-2016" in said


def test_brats_2012_had_labels_of_its_own(tmp_path):
    touch(tmp_path, *(f"BRATS_HG0001/BRATS_HG0001_{role}.mha" for role in ("T1", "T1C", "T2", "FLAIR", "truth")))
    (row,), _ = found_in(tmp_path)
    assert row["segmentation"].endswith("truth.mha")
    assert "labels" not in row


def test_brats_that_is_not_whole_is_said(tmp_path):
    brats(tmp_path, "BraTS20_Training_001", "_", OLD, ".nii")
    # In one release a segmentation has another name, and validation data have none.
    brats(tmp_path, "BraTS20_Training_355", "_", OLD[:4], ".nii")
    touch(tmp_path, "BraTS20_Training_355/W39_1998.09.19_Segm.nii")
    brats(tmp_path, "BraTS20_Training_400", "_", ("t1", "flair"), ".nii")
    touch(tmp_path, "copy/BraTS20_Training_001_t1ce.nii.gz")
    rows, said = found_in(tmp_path)
    assert [row["patient"] for row in rows] == ["BraTS20_Training_001", "BraTS20_Training_355"]
    assert "1 patient (BraTS20_Training_355) without segmentation" in said
    assert "BraTS20_Training_400: no T1 with contrast" in said
    assert "2 files are its t1gd" in said


def bids(folder, subject, session=None, images=("T1w", "ce-gadolinium_T1w", "FLAIR")):
    name = "_".join(filter(None, (subject, session)))
    place = "/".join(filter(None, (subject, session, "anat")))
    touch(folder, *(f"{place}/{name}_{image}.nii.gz" for image in images), f"{place}/{name}_T1w.json")


def derived(folder, subject, name, session=None, pipeline="tumour"):
    place = "/".join(filter(None, ("derivatives", pipeline, subject, session, "anat")))
    touch(folder, f"{place}/{'_'.join(filter(None, (subject, session, name)))}.nii.gz")


def test_a_bids_dataset(tmp_path):
    touch(tmp_path, "dataset_description.json")
    bids(tmp_path, "sub-01")
    derived(tmp_path, "sub-01", "dseg")
    for session in ("ses-pre", "ses-post"):
        bids(tmp_path, "sub-02", session)
        derived(tmp_path, "sub-02", "label-core_mask", session)
        derived(tmp_path, "sub-02", "label-WT_mask", session)
        derived(tmp_path, "sub-02", "desc-brain_mask", session, pipeline="brains")
    rows, said = found_in(tmp_path)
    assert rows[0] == {
        "patient": "sub-01",
        "t1gd": "sub-01/anat/sub-01_ce-gadolinium_T1w.nii.gz",
        "t1": "sub-01/anat/sub-01_T1w.nii.gz",
        "flair": "sub-01/anat/sub-01_FLAIR.nii.gz",
        "segmentation": "derivatives/tumour/sub-01/anat/sub-01_dseg.nii.gz",
    }
    assert [row["patient"] for row in rows[1:]] == ["sub-02_ses-post", "sub-02_ses-pre"]
    place = "derivatives/tumour/sub-02/ses-pre/anat/sub-02_ses-pre"
    assert rows[2]["core"] == f"{place}_label-core_mask.nii.gz"
    assert rows[2]["whole"] == f"{place}_label-WT_mask.nii.gz"
    assert rows[2]["brain_mask"].startswith("derivatives/brains/")
    assert "1 patient (sub-01) with a segmentation" in said


def test_masks_of_a_patients_only_session_are_found_without_its_name(tmp_path):
    bids(tmp_path, "sub-01", "ses-pre")
    derived(tmp_path, "sub-01", "dseg")
    for session in ("ses-post", "ses-pre"):
        bids(tmp_path, "sub-02", session)
    derived(tmp_path, "sub-02", "dseg")
    rows, _ = found_in(tmp_path)
    assert rows[0]["segmentation"] == "derivatives/tumour/sub-01/anat/sub-01_dseg.nii.gz"
    # Which of two sessions it was drawn on, nothing says.
    assert [(row["patient"], "segmentation" in row) for row in rows[1:]] == [
        ("sub-02_ses-post", False), ("sub-02_ses-pre", False),
    ]  # fmt: skip


def test_what_bids_does_not_say_is_not_guessed(tmp_path):
    bids(tmp_path, "sub-01", images=("T1w", "FLAIR"))
    bids(tmp_path, "sub-02", images=("run-1_ce-gadolinium_T1w", "run-2_ce-gadolinium_T1w"))
    bids(tmp_path, "sub-03", images=("ce-gd_T1w", "run-1_FLAIR", "run-2_FLAIR"))
    derived(tmp_path, "sub-03", "label-lesion_mask")
    derived(tmp_path, "sub-03", "space-MNI152NLin2009cAsym_dseg")
    derived(tmp_path, "sub-03", "dseg", pipeline="fmriprep")
    derived(tmp_path, "sub-03", "desc-aseg_dseg")
    (row,), said = found_in(tmp_path)
    assert row == {"patient": "sub-03", "t1gd": "sub-03/anat/sub-03_ce-gd_T1w.nii.gz"}
    for words in (
        "sub-01: no T1w with the entity ce",
        "sub-02: 2 files may be t1gd",
        "sub-03: 2 files may be flair",
        "label-lesion_mask.nii.gz does not say whether",
        "another space (MNI152NLin2009cAsym)",
        "1 patient (sub-03) without segmentation",
    ):
        assert words in said


def test_a_mask_drawn_on_the_flair_says_so(tmp_path):
    bids(tmp_path, "sub-01")
    derived(tmp_path, "sub-01", "space-FLAIR_dseg")
    (row,), _ = found_in(tmp_path)
    assert row["segmentation_on"] == "flair"


def test_a_folder_of_dicom_studies(tmp_path):
    clear, double = usual_study(), usual_study(patient="TWO^T1GD")
    clear.add_seg("Core", "Edema")
    double.add("Sag T1 GD", "t1 gradient echo", plane="sagittal", time="1040")
    write_studies(tmp_path / "A 1", clear, layout="numbers")
    write_studies(tmp_path / "B", double)
    touch(tmp_path, "C/readme.txt", "list.xlsx")
    rows, said = found_in(tmp_path)
    assert rows == [{"patient": "A 1", "study": "A 1"}, {"patient": "B", "study": "B"}]
    assert 'A 1: Taken from the study: T1Gd: series 7 "Ax T1 POST GAD" of 2024-03-01 (certain)' in said
    assert "B: The study in" in said
    assert "2 series that may be the T1Gd" in said
    assert "C: no DICOM series" in said
    assert "TWO" not in said


def test_one_patients_study_is_no_cohort(tmp_path):
    folder = write_studies(tmp_path, usual_study())
    with pytest.raises(InputError, match=r"series of one study.*--study"):
        find_patients(folder / "study 0")


@pytest.mark.parametrize("what", ["nothing", "a file", "unknown"])
def test_a_folder_without_patients_says_what_is_accepted(tmp_path, what):
    folder = tmp_path / "folder"
    if what == "a file":
        folder.write_text("x")
    elif what == "unknown":
        touch(folder, "patient 1/t1.nii.gz", "patient 2/t1.nii.gz")
    with pytest.raises(InputError, match=r"BIDS.*BraTS.*DICOM"):
        find_patients(folder)


def test_the_file_that_is_written_is_a_cohort_file(tmp_path):
    brats(tmp_path / "data", "BraTS-GLI-00000-000", "-", NEW)
    brats(tmp_path / "data", "BraTS-PED-00001-000", "-", NEW)
    path = write_cohort_file(find_patients(tmp_path / "data"), tmp_path / "out")
    rows = {row.patient: row.files for row in read_cohort(path)}
    assert rows["BraTS-GLI-00000-000"]["labels"] == "brats2024"
    assert "labels" not in rows["BraTS-PED-00001-000"]
    assert rows["BraTS-PED-00001-000"]["t1gd"].endswith("BraTS-PED-00001-000-t1c.nii.gz")
    with open(path, newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["patient", "t1gd", "flair", "t1", "segmentation", "labels"]
    # Written again it is the same, but what was filled in by hand is not lost.
    before = path.read_bytes()
    write_cohort_file(find_patients(tmp_path / "data"), tmp_path / "out")
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b"brats2024", b"brats2023"))
    with pytest.raises(OutputError, match=r"filled in by hand"):
        write_cohort_file(find_patients(tmp_path / "data"), tmp_path / "out")
    assert b"brats2023" in path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["cohort.csv"]


def test_a_pipelines_name_above_the_dataset_says_nothing_of_its_segmentations(tmp_path):
    dataset = tmp_path / "fastsurfer-gbm" / "ds"
    bids(dataset, "sub-1")
    derived(dataset, "sub-1", "dseg")
    derived(dataset, "sub-1", "desc-x_dseg", pipeline="fastsurfer")
    assert find_patients(dataset).rows[0]["segmentation"].endswith("derivatives/tumour/sub-1/anat/sub-1_dseg.nii.gz")


@pytest.mark.parametrize(
    ("folder", "patient"),
    [
        ("con", "patient_con"),
        ("summary.csv", "patient_summary.csv"),
        ("-.a", "a"),
        ("a\u200bb", "a_b"),
        ("sub-UPENNGBM00001longsite_ses-20200101preop", "sub-UPENNGBM00001longsite_ses-20200101preop"),
        ("é" * 70, "é" * 60),
    ],
)
def test_every_name_that_a_folder_gives_is_one_that_a_cohort_file_takes(folder, patient):
    rows = [{"patient": folder} for _ in range(3)]
    _give_names(rows)
    assert rows[0]["patient"] == patient
    assert len({folded(row["patient"]) for row in rows}) == 3
    assert [wrong_name(row["patient"]) for row in rows] == [None] * 3


def test_a_folder_that_no_cell_can_name_is_left_out_and_said(tmp_path):
    for name in ("A", "b\x85c"):
        study = MadeUpStudy()
        study.add("T1 GD", "t1 spin echo")
        write_studies(tmp_path / name, study)
    found = find_patients(tmp_path)
    assert [row["patient"] for row in found.rows] == ["A"]
    assert any(line.startswith("'b\\x85c': the names of its files") for line in found.said)
    assert len(read_cohort(write_cohort_file(found, tmp_path / "out"))) == 1


def test_names_of_folders_become_names_of_patients(tmp_path):
    study = MadeUpStudy()
    study.add("T1 GD", "t1 spin echo")
    write_studies(tmp_path / "=1+1", study)
    other = MadeUpStudy()
    other.add("T1 GD", "t1 spin echo")
    write_studies(tmp_path / ("long " * 40), other)
    path = write_cohort_file(find_patients(tmp_path), tmp_path / "out")
    names = [row.patient for row in read_cohort(path)]
    assert names[0] == "1+1"
    assert len(names) == 2


@needs_closed_folders
@pytest.mark.parametrize("kind", ["BraTS", "BIDS", "BIDS derivatives", "DICOM"])
def test_a_patient_whose_folder_may_not_be_read_is_said(kind):
    with open_folder() as folder:
        shut = folder / "sub-02"
        if kind == "BraTS":
            shut = folder / "BraTS-GLI-00001-000"
            for name in ("BraTS-GLI-00000-000", shut.name):
                brats(folder, name, "-", NEW)
        elif kind == "DICOM":
            for name in ("sub-01", "sub-02"):
                write_studies(folder / name, usual_study())
        else:
            for name in ("sub-01", "sub-02"):
                bids(folder, name)
        if kind == "BIDS derivatives":
            derived(folder, "sub-02", "dseg")
            shut = folder / "derivatives"
        with closed(shut):
            rows, said = found_in(folder)
            assert len(rows) == (2 if kind == "BIDS derivatives" else 1)
            assert f"{shut} may not be read, so what is in it was left out." in said
        with closed(folder), pytest.raises(InputError, match=f"The folder {folder} may not be read"):
            find_patients(folder)
        if kind == "DICOM":
            (folder / "sub-01").rename(folder / ".sub-01")
            with closed(shut), pytest.raises(InputError, match=f"No patients were found .*{shut} may not be read"):
                find_patients(folder)
