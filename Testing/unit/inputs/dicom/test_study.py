"""Study folders as archives export them: every layout, what is taken from them, and what is never guessed."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from closed_folders import closed, needs_closed_folders, open_folder
from made_up_studies import (
    PARAMETRIC_MAP,
    RTDOSE,
    SECONDARY_CAPTURE,
    SEG,
    USUAL_KINDS,
    MadeUpStudy,
    item,
    new_file,
    usual_study,
    write_studies,
)
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.dicom.choice import choose_series
from TumorQueryLib.inputs.dicom.study import read_study
from TumorQueryLib.inputs.dicom.study_table import choice_as_text, describe_study, study_as_text
from TumorQueryLib.inputs.image_files import read_image_file


def kinds(study):
    return {one.header.description: one.kind.role for one in study.series}


def refused(study, *words, **named):
    with pytest.raises(InputError) as caught:
        choose_series(study, **named)
    said = str(caught.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said
    return said


def taken(choice):
    return {role: one.header.description for role, one in choice.series.items()}


@pytest.mark.parametrize("layout", ["series", "one folder", "numbers"])
def test_every_layout_gives_the_same_series(tmp_path, layout):
    made = usual_study()
    made.add_seg("Necrosis", "Edema")
    study = read_study(write_studies(tmp_path, made, layout=layout))
    assert kinds(study) == USUAL_KINDS | {"Segmentation": "segmentation"}
    assert [len(one.files) for one in study.series] == [len(files) for files in made.series]
    t1gd = next(one for one in study.series if one.kind.role == "t1gd")
    assert (t1gd.header.plane, t1gd.header.images, t1gd.header.voxel_mm) == ("axial", 12, (3.0, 3.0, 9.0))
    assert t1gd.date == "20240301"
    choice = choose_series(study)
    assert taken(choice) == {
        "t1gd": "Ax T1 POST GAD", "t1": "Ax T1 FSE", "flair": "Ax T2 FLAIR", "segmentation": "Segmentation",
    }  # fmt: skip
    # The T1 says nothing of contrast, but was taken before, by a scanner that records it.
    assert choice.warnings == ()
    image = read_image_file(choice.files["t1gd"], "T1Gd")
    assert image.volume.array.shape == (32, 32, 12)


def test_what_lies_beside_images_is_told_by_its_kind(tmp_path):
    made = usual_study()
    made.add_contours("GTV")
    made.add_object(RTDOSE, "RTDOSE", "Dose", NumberOfFrames=3)
    made.add_object(PARAMETRIC_MAP, "MR", "T1 map of density", NumberOfFrames=3)
    made.add_object(SECONDARY_CAPTURE, "OT", "Report")
    folder = write_studies(tmp_path, made, layout="numbers")
    (folder / "README.TXT").write_text("viewer")
    (folder / "viewer.exe").write_bytes(b"MZ" + bytes(500))
    new_file("1.2.840.10008.1.3.10", Modality="").save_as(folder / "DICOMDIR", enforce_file_format=True)
    study = read_study(folder)
    found = kinds(study)
    assert {name: found[name] for name in ("Contours", "Dose", "T1 map of density", "Report")} == {
        "Contours": "contours", "Dose": "dose", "T1 map of density": "map", "Report": "diffusion/other",
    }  # fmt: skip
    assert study.other_files == 3
    assert choose_series(study).files["segmentation"] == study.series[-4].files[0]
    contours = next(one for one in study.series if one.kind.role == "contours")
    assert "GTV" in contours.kind.why


def test_enhanced_multi_frame_files(tmp_path):
    made = MadeUpStudy()
    made.add_enhanced("T1W", "T1", te=4.6, tr=9.9, time="1000")
    made.add_enhanced("T1W", "T1", te=4.6, tr=9.9, time="1030", agent="Gadobutrol")
    made.add_enhanced("FL", "FLUID_ATTENUATED", te=310, tr=4800, ti=1650, time="1010")
    made.add_enhanced("D", "DIFFUSION", te=80, tr=4000, time="1020")
    study = read_study(write_studies(tmp_path, made, layout="numbers"))
    assert [one.kind.role for one in study.series] == ["t1", "t1gd", "flair", "diffusion/other"]
    assert study.series[1].header.images == 6
    assert study.series[1].header.plane == "axial"
    assert study.series[1].header.voxel_mm == pytest.approx((0.9, 0.9, 1.1))
    assert choose_series(study, needs_segmentation=False).warnings == ()


def test_two_t1gd_are_not_guessed(tmp_path):
    made = usual_study()
    second = made.add("Sag BRAVO +C", "t1 gradient echo", plane="sagittal", time="1035", ContrastBolusAgent="Gadovist")
    made.add_seg("Core", "Edema")
    study = read_study(write_studies(tmp_path, made))
    said = refused(study, "2 series that may be the T1Gd", "Ax T1 POST GAD", "Sag BRAVO +C", "--t1gd", second)
    assert "MPR" not in said
    assert "SUB" not in said
    assert made.patient not in said
    for named in (second, "10"):
        assert taken(choose_series(study, t1gd=named))["t1gd"] == "Sag BRAVO +C"


def test_a_series_is_named_by_a_path_too(tmp_path):
    made = usual_study()
    made.add("Sag T1 GD", "t1 gradient echo", plane="sagittal", time="1035")
    made.add_seg("Core")
    made.add_seg("Other")
    study = read_study(write_studies(tmp_path, made))
    series = {one.header.description: one for one in study.series}
    named = series["Sag T1 GD"].files[2]
    assert choose_series(study, t1gd=named.parent, segmentation=named).files["t1gd"] == series["Sag T1 GD"].files
    flair = series["Ax T2 FLAIR"].files
    assert choose_series(study, t1gd=named, flair=flair[0], segmentation=named).files["flair"] == flair
    assert choose_series(study, t1gd=named, segmentation=named).files["t1gd"] == series["Sag T1 GD"].files
    refused(study, "2 segmentations", "--segmentation", t1gd=named)
    seg = study.series[-1].files[0]
    assert choose_series(study, t1gd=named, segmentation=seg).files["segmentation"] == seg
    outside = tmp_path / "masks.nii.gz"
    outside.write_bytes(b"")
    assert choose_series(study, t1gd=named, segmentation=outside).files["segmentation"] == outside
    refused(study, "1.2.3", "neither a file nor the UID", t1gd="1.2.3")
    refused(study, "can be", "name its UID", t1gd=tmp_path / "study 0")


def test_several_time_points_are_settled_by_the_t1gd(tmp_path):
    early, late = usual_study(date="20240301"), usual_study(date="20240601")
    for made in (early, late):
        made.add_seg("Core", "Edema")
    study = read_study(write_studies(tmp_path, late, early, layout="numbers"))
    said = refused(study, "2 studies", "2024-03-01", "2024-06-01", "--t1gd")
    assert "FLAIR" not in said
    (uid,) = (one.header.uid for one in study.series if one.kind.role == "t1gd" and one.date == "20240601")
    choice = choose_series(study, t1gd=uid)
    assert {one.date for one in choice.series.values()} == {"20240601"}
    assert set(choice.files) == {"t1gd", "t1", "flair", "segmentation"}
    refused(study, "can be", t1gd="7")
    # What the user names from elsewhere is taken, and said.
    other = next(one for one in study.series if one.kind.role == "flair" and one.date == "20240301")
    (warning,) = choose_series(study, t1gd=uid, flair=other.header.uid).warnings
    # Into result.json and the pictures goes how many days lie between, and no date.
    assert warning.endswith("is of another study than the T1Gd, 92 days earlier.")
    assert "2024" not in warning


def test_contrast_by_time_order_is_said_to_be_likely_only(tmp_path):
    made = MadeUpStudy()
    made.add("sag SPGR 3D Isotropico", "t1 gradient echo", plane="sagittal", time="1000")
    made.add("sag SPGR 3D Isotropico", "t1 gradient echo", plane="sagittal", time="1030")
    study = read_study(write_studies(tmp_path, made))
    choice = choose_series(study, needs_segmentation=False)
    assert choice.series["t1gd"].header.number == 2
    assert choice.series["t1"].header.number == 1
    assert ["likely and not certain" in warning for warning in choice.warnings] == [True, True]
    assert "Isotropico" not in " ".join(choice.warnings), "result.json keeps the warnings, and no words of a header"


def test_what_nothing_tells_is_to_be_named(tmp_path):
    made = MadeUpStudy()
    uid = made.add("Ax T1 3d NEURONAVEGADOR", "t1 gradient echo", time="1030")
    made.add("Ax T1 FSE", "t1 spin echo", time="1000")
    study = read_study(write_studies(tmp_path, made))
    refused(study, "No series", "known to be a T1 with contrast", "NEURONAVEGADOR", uid, needs_segmentation=False)
    choice = choose_series(study, t1gd=uid, needs_segmentation=False)
    assert choice.series["t1"].header.description == "Ax T1 FSE"
    assert "likely and not certain" in choice.warnings[0]


def test_an_unclear_t1_beside_a_likely_t1gd_is_not_guessed(tmp_path):
    made = MadeUpStudy()
    for plane, time in (("axial", "1000"), ("axial", "1030"), ("coronal", ""), ("sagittal", "")):
        made.add(f"{plane} SPGR", "t1 gradient echo", plane=plane, time=time)
    study = read_study(write_studies(tmp_path, made))
    likely, *unclear = (one.header.uid for one in study.series[1:])
    refused(study, "3 series that may be the T1Gd", likely, *unclear, needs_segmentation=False)


def test_where_no_t1_has_contrast_the_plain_ones_are_named(tmp_path):
    made = MadeUpStudy()
    uid = made.add("Ax T1 PRE", "t1 spin echo")
    other = made.add("Ax T2", "t2")
    said = refused(read_study(write_studies(tmp_path, made)), "with contrast", uid, needs_segmentation=False)
    assert other not in said


def test_images_in_several_planes_are_a_localizer_by_any_name(tmp_path):
    made = MadeUpStudy()
    made.add_localizer()
    for file in made.series[0]:
        file.SeriesDescription = "T1 GD"
    (one,) = read_study(write_studies(tmp_path, made)).series
    assert (one.kind.role, one.header.plane) == ("localizer", "several")


def test_an_unclear_t1_beside_a_certain_t1gd_is_left_out_and_said(tmp_path):
    made = MadeUpStudy()
    made.add("AX T1 POST GAD", "t1 spin echo")
    made.add("sag SPGR", "t1 gradient echo", plane="sagittal")
    choice = choose_series(read_study(write_studies(tmp_path, made)), needs_segmentation=False)
    assert set(choice.series) == {"t1gd"}
    assert choice.warnings[0].startswith("Series 2 may be T1 with or without contrast and was left out")


def test_two_flairs_are_not_guessed_either(tmp_path):
    made = usual_study()
    uid = made.add("Sag FLAIR 3D", "flair", plane="sagittal", time="1012")
    study = read_study(write_studies(tmp_path, made))
    refused(study, "2 series that may be the FLAIR", uid, "--flair", needs_segmentation=False)
    assert taken(choose_series(study, flair=uid, needs_segmentation=False))["flair"] == "Sag FLAIR 3D"
    for none in ("none", Path("none")):  # as Python and as the command line have it
        assert "flair" not in taken(choose_series(study, flair=none, needs_segmentation=False))


def test_without_a_segmentation_it_says_what_to_give(tmp_path):
    study = read_study(write_studies(tmp_path, usual_study()))
    refused(study, "no segmentation", "--segmentation", "--core")
    assert "segmentation" not in choose_series(study, needs_segmentation=False).files


def test_two_segmentations_in_one_series_are_not_guessed(tmp_path):
    made = usual_study()
    made.add_seg("Core", files=2)
    study = read_study(write_studies(tmp_path, made))
    refused(study, "2 segmentations")
    refused(study, "has 2 files", segmentation=study.series[-1].header.uid)


def test_a_segmentation_in_a_study_of_its_own_belongs_to_the_frame_of_reference(tmp_path):
    images, drawn, foreign = usual_study(), MadeUpStudy(), MadeUpStudy()
    drawn.frame = images.frame
    drawn.add_seg("Core")
    foreign.add_seg("Core")
    study = read_study(write_studies(tmp_path, images, drawn, foreign))
    header = pydicom.dcmread(choose_series(study).files["segmentation"])
    assert header.StudyInstanceUID == drawn.uid


def test_only_derived_images_of_a_t1gd_are_not_taken(tmp_path):
    made = MadeUpStudy()
    made.add("T1 GD MPR", "t1 spin echo", ImageType=["DERIVED", "SECONDARY", "MPR"])
    refused(read_study(write_studies(tmp_path, made)), "known to be a T1 with contrast", "T1 GD MPR")


def test_another_patients_series_is_said(tmp_path):
    first, second = usual_study(), usual_study(patient="ELSE^SOMEBODY")
    study = read_study(write_studies(tmp_path, first, second))
    t1gd, flair = (
        next(one.header.uid for one in study.series if one.kind.role == role and one.header.study_uid == made.uid)
        for role, made in (("t1gd", first), ("flair", second))
    )
    said = " ".join(choose_series(study, t1gd=t1gd, flair=flair, needs_segmentation=False).warnings)
    assert "another patient's ID" in said
    assert "SOMEBODY" not in said


def test_broken_files_are_counted_and_named_and_the_rest_is_read(tmp_path):
    folder = write_studies(tmp_path, usual_study(), layout="numbers")
    (folder / "DICOM" / "cut").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")
    (folder / "DICOM" / "noise").write_bytes(
        b"\0" * 128 + b"DICM" + np.random.default_rng(0).integers(0, 256, 900, dtype=np.uint8).tobytes()
    )
    (folder / "empty").write_bytes(b"")
    (folder / "nowhere").symlink_to(folder / "gone")
    study = read_study(folder)
    assert kinds(study) == USUAL_KINDS
    assert sorted(path.name for path in study.broken) == ["cut", "empty", "noise", "nowhere"]
    said = study_as_text(study).replace("\\", "/")
    assert "4 files cannot be read (damaged, empty, or a link or pointer without its content): " in said
    # Whose slices they were, nothing says.
    assert "4 files in the folder of the T1Gd cannot be read" in said
    assert not any("noise" in warning for warning in choose_series(study, segmentation=folder).warnings)


def test_broken_files_among_the_slices_of_what_would_be_taken_are_refused(tmp_path):
    study = read_study(write_studies(tmp_path, usual_study(), layout="series"))
    # Of the T1Gd's they need not be.
    cut = next(one for one in study.series if one.kind.role == "flair").files[-1]
    cut.write_bytes(cut.read_bytes()[:200])
    said = refused(read_study(tmp_path), "The FLAIR series may have lost slices", cut.name, needs_segmentation=False)
    assert "beside its 4 files lie 1 that cannot be read" in said


def test_a_flair_of_another_day_in_the_same_study_is_said_without_dates(tmp_path):
    folder = write_studies(tmp_path, usual_study(), layout="series")
    flair = next(one for one in read_study(folder).series if one.kind.role == "flair")
    for path in flair.files:
        header = pydicom.dcmread(path)
        header.AcquisitionDate = header.SeriesDate = "20240203"
        header.save_as(path)
    (said,) = choose_series(read_study(folder), needs_segmentation=False).warnings
    assert said.endswith("is of the T1Gd's study and of another day, 27 days earlier.")


def test_odd_values_in_headers_are_no_reason_to_stop(tmp_path):
    made = MadeUpStudy()
    made.add("AX T1 POST GAD", "t1 spin echo", count=3)
    folder = write_studies(tmp_path, made)
    for path in folder.rglob("*.dcm"):
        file = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            file.add_new("EchoTime", "LO", "long")
            file.add_new("AcquisitionTime", "LO", "noon")
            file.add_new("SeriesNumber", "LO", "first")
            del file.ImageOrientationPatient
        file.save_as(path)
    (one,) = read_study(folder).series
    assert (one.kind.role, one.kind.confidence) == ("t1gd", "likely")
    assert one.header.plane == ""


@pytest.mark.parametrize("what", ["nothing", "no DICOM", "a file"])
def test_no_study_is_said(tmp_path, what):
    folder = tmp_path / "study"
    if what == "a file":
        folder.write_text("x")
    elif what == "no DICOM":
        folder.mkdir()
        (folder / "text").write_text("x" * 1000)
    with pytest.raises(InputError, match="no DICOM series" if what == "no DICOM" else "no study folder"):
        read_study(folder)


def test_the_table_and_the_json_show_no_patient(tmp_path):
    made = usual_study()
    made.add_seg("Necrosis", "Edema")
    study = read_study(write_studies(tmp_path, made))
    text, described = study_as_text(study), describe_study(study)
    written = json.dumps(described)
    for private in ("SECRET", "PERSON", "19500101", "1950-01-01"):
        assert private not in text + written + choice_as_text(choose_series(study)) + repr(study.series)
    lines = text.splitlines()
    (row,) = (line for line in lines if "Ax T1 POST GAD" in line)
    for cell in ("7", "2024-03-01", "axial", "12", "3 x 3 x 9", "t1gd", "certain", "with contrast by its tags"):
        assert cell in row
    assert lines[-1] == (
        "'tumorquery infer --study' takes series 7 as T1Gd, series 4 as FLAIR, series 2 as T1, "
        "series 10 as segmentation."
    )
    (one,) = described["studies"]
    assert len(one["series"]) == 10
    assert described["chosen"]["t1gd"] == one["series"][6]["uid"]
    assert described["broken_files"] == []


def test_a_table_of_an_ambiguous_study_ends_with_what_to_name(tmp_path):
    made = usual_study()
    made.add("T1 KM", "t1 spin echo", time="1040")
    study = read_study(write_studies(tmp_path, made))
    assert describe_study(study)["chosen"] is None
    assert "--t1gd UID" in study_as_text(study).splitlines()[-1]


def test_damaged_headers_end_in_a_table_or_a_sentence(tmp_path):
    made = MadeUpStudy()
    made.add_enhanced("T1", "T1", te=4, tr=9, ti=300, time="1000", agent="Gd")
    made.add("AX T1 GD", "t1 spin echo", count=2, time="1000", ContrastBolusAgent="Gd")
    made.add_seg("Core", "Edema")
    made.add_contours("GTV")
    files = {path: path.read_bytes() for path in write_studies(tmp_path, made).rglob("*.dcm")}
    generator = random.Random(5)
    for _ in range(40):
        for path, whole in files.items():
            data = bytearray(whole)
            for _ in range(generator.choice((0, 1, 3, 10, 40))):
                data[generator.randrange(128, min(len(data), 2500))] = generator.choice((0, 255, 65, 92, 83))
            path.write_bytes(data[: generator.randrange(132, len(data))] if generator.random() < 0.1 else data)
        try:
            study = read_study(tmp_path)
        except InputError:
            continue
        assert study_as_text(study)
        json.dumps(describe_study(study), allow_nan=False).encode()


def test_a_folder_is_not_left_changed(tmp_path):
    folder = write_studies(tmp_path / "a", usual_study())
    shutil.copytree(folder, tmp_path / "b")
    read_study(folder)
    assert [p.read_bytes() for p in sorted(folder.rglob("*.dcm"))] == [
        p.read_bytes() for p in sorted((tmp_path / "b").rglob("*.dcm"))
    ]


@needs_closed_folders
@pytest.mark.parametrize("mode", [0, 0o444])
def test_a_series_in_a_folder_that_may_not_be_read_is_not_passed_over(mode):
    with open_folder() as folder:
        write_studies(folder / "study", usual_study())
        flair = Path(choose_series(read_study(folder / "study"), needs_segmentation=False).files["flair"][0]).parent
        with closed(flair, mode), pytest.raises(InputError, match=f"The folder {flair} may not be read"):
            read_study(folder / "study")
        with closed(flair, mode), pytest.raises(InputError, match=f"The folder {flair} may not be read"):
            read_image_file(folder / "study", "T1Gd")


@needs_closed_folders
def test_the_folder_that_a_system_keeps_on_a_disk_is_passed_over():
    with open_folder() as folder:
        write_studies(folder / "study", usual_study())
        (folder / "study" / "lost+found").mkdir()
        with closed(folder / "study" / "lost+found"):
            assert len(read_study(folder / "study").series) == 9


def test_what_a_result_was_exported_to_is_not_taken_unless_it_is_named(tmp_path):
    made = usual_study()
    folder = write_studies(tmp_path / "study", made)
    exported = folder / "result" / "dicom_export" / "segmentation.dcm"
    exported.parent.mkdir(parents=True)
    who = {"StudyInstanceUID": made.uid, "FrameOfReferenceUID": made.frame, "StudyDate": made.date, "PatientID": "X"}
    segments = Sequence([item(SegmentNumber=1, SegmentLabel="Tumour core")])
    ours = new_file(SEG, Modality="SEG", SeriesInstanceUID=generate_uid(), SegmentSequence=segments, **who)
    ours.Manufacturer = ours.ManufacturerModelName = "TumorQuery"
    ours.save_as(exported, enforce_file_format=True)
    study = read_study(folder)
    with pytest.raises(InputError, match=f"but what TumorQuery exported itself, such as {exported}"):
        choose_series(study)
    assert choose_series(study, segmentation=str(exported)).files["segmentation"] == exported
    assert choose_series(study, segmentation=str(ours.SeriesInstanceUID)).files["segmentation"] == exported
    ours.Manufacturer = "Planning"
    drawn = folder / "drawn.dcm"
    ours.SeriesInstanceUID = generate_uid()
    ours.save_as(drawn, enforce_file_format=True)
    choice = choose_series(read_study(folder))
    assert choice.files["segmentation"] == drawn
    (said,) = [line for line in choice.warnings if "TumorQuery exported itself" in line]
    assert said.startswith("1 segmentation")
    assert str(folder) not in said
