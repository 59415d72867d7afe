"""A result as DICOM objects: what they hold, whose they are, and when they are refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from exported_case import PATIENT, write_case
from made_up_results import assimilated_result, made_up_result

from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume
from TumorQueryLib.inputs.checks import sha256_of
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.jobs import JOBS, plan_result, show_match
from TumorQueryLib.results.dicom.export import export_dicom
from TumorQueryLib.results.dicom.images import make_parametric_map, make_segmentation
from TumorQueryLib.results.dicom.regions import CELL_DENSITY, CORE, Region
from TumorQueryLib.results.dicom.source import read_source_series
from TumorQueryLib.results.dicom.structures import make_structure_set
from TumorQueryLib.results.files import read_result, write_volume
from TumorQueryLib.results.folder import EXPORT_FILES

pytestmark = pytest.mark.slow


def patient_of(case, folder, t1gd=None, cavity=None) -> Patient:
    """The patient whose T1Gd is the series, or an image file of it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in (("core", case.core), ("whole", case.whole), ("cavity", cavity)):
        if array is not None:
            files[name] = folder / f"{name}.nrrd"
            write_volume(Volume(array.astype(np.uint8), case.grid), files[name])
    return Patient.load(t1gd or case.folder, **files)


@pytest.fixture(scope="module")
def results(cases, tmp_path_factory):
    """The folder of a result of each series; the axial one's has uncertainty."""
    made = {}
    for name, case in cases.items():
        folder = tmp_path_factory.mktemp("results")
        patient = patient_of(case, folder / "files")
        result = assimilated_result(patient) if name == "axial oblique" else made_up_result(patient)
        result.write(folder / "result")
        made[name] = folder / "result"
    return made


@pytest.fixture
def axial(cases, results):
    return cases["axial oblique"], results["axial oblique"]


def test_what_is_exported_reads_back_as_the_same_tumour(cases, results, tmp_path):
    for number, (name, case) in enumerate(cases.items()):
        out = tmp_path / str(number)
        export = export_dicom(results[name], case.folder, out)
        assert {path.name for path in export.files.values()} == {path.name for path in out.iterdir()}
        result = read_result(results[name])
        patient = Patient.load(case.folder, segmentation=export.files["segmentation"])
        assert np.array_equal(patient.regions_on_t1gd.core, result.segmentation.array == 1)
        assert np.array_equal(patient.regions_on_t1gd.whole, result.segmentation.array > 0)
        assert patient.labels == "segment names: core=Tumour core/whole=Tumour core,Whole tumour"
        assert np.count_nonzero(result.segmentation.array == 1) == case.core.sum()
        assert patient.warnings == patient_of(case, tmp_path / f"files{number}").warnings


def test_the_segmentation_holds_the_levels_of_the_density(axial, tmp_path):
    case, folder = axial
    export, result = export_dicom(folder, case.folder, tmp_path), read_result(folder)
    file = read_image_file(
        export.files["segmentation"], "s", is_mask=True, references=[read_image_file(case.folder, "T1Gd")]
    )
    found = {segment.name: segment.mask for segment in file.segments}
    assert np.array_equal(found["Density above 0.6"], result.core.array)
    assert np.array_equal(found["Density above 0.2"], result.whole.array)
    assert np.array_equal(found["Density above 0.05"], result.density.array > 0.05)
    assert 0 < result.core.array.sum() < result.whole.array.sum() < found["Density above 0.05"].sum()


def test_the_maps_hold_the_density_and_its_deviation(axial, tmp_path):
    case, folder = axial
    export, result = export_dicom(folder, case.folder, tmp_path), read_result(folder)
    for name, volume in (("density", result.density), ("density_sd", result.uncertainty_map("sd"))):
        read = highdicom.imread(export.files[name]).get_volume(apply_real_world_transform=True)
        assert volume.array.max() > 0.1
        assert np.abs(read.array.transpose(2, 1, 0)[..., ::-1] - volume.array).max() <= 1e-6


def test_the_core_is_the_gross_tumour_and_does_not_pass_for_a_segmentation(axial, tmp_path):
    case, folder = axial
    export = export_dicom(folder, case.folder, tmp_path)
    data = pydicom.dcmread(export.files["structures"])
    assert data.StructureSetROISequence[0].ROIName == "GTV"
    assert data.RTROIObservationsSequence[0].RTROIInterpretedType == "GTV"
    with pytest.raises(InputError, match="'GTV' alone does not say core or whole tumour"):
        Patient.load(case.folder, segmentation=export.files["structures"])


def test_without_uncertainty_and_plans_there_is_less_and_it_is_said(cases, results, tmp_path):
    case, folder = cases["sagittal left-handed"], results["sagittal left-handed"]
    export = export_dicom(folder, case.folder, tmp_path)
    assert sorted(export.files) == ["density", "segmentation", "structures"]
    assert any("no plans" in note and "tumorquery plan" in note for note in export.notes)


@pytest.fixture(scope="module")
def planned(cases, results, tmp_path_factory):
    """The axial result with plans: the standard, the model's and, since it has uncertainty, the probable one."""
    folder = tmp_path_factory.mktemp("planned") / "result"
    shutil.copytree(results["axial oblique"], folder)
    assert main(["plan", str(folder), "--margin", "6", "--smallest-part", "0"]) == 0
    return cases["axial oblique"], folder


def test_plans_are_segments_and_clinical_targets(planned, tmp_path):
    case, folder = planned
    export, result = export_dicom(folder, case.folder, tmp_path), read_result(folder)
    assert export.notes == ()
    names = [f"CTV {name}" for name in result.plans]
    assert names[:2] == ["CTV standard", "CTV model"]
    image = read_image_file(case.folder, "T1Gd")
    for name in ("segmentation", "structures"):
        file = read_image_file(export.files[name], "s", is_mask=True, references=[image])
        found = {segment.name: segment.mask for segment in file.segments}
        for plan in result.plans:
            assert np.array_equal(found[f"CTV {plan}"], result.plans[plan].array), (name, plan)
    data = pydicom.dcmread(export.files["structures"])
    assert [one.ROIName for one in data.StructureSetROISequence] == ["GTV", *names]
    assert [one.RTROIInterpretedType for one in data.RTROIObservationsSequence] == ["GTV", *["CTV"] * len(names)]
    # Plans and levels do not pass for parts of the tumour.
    patient = Patient.load(case.folder, segmentation=export.files["segmentation"])
    assert np.array_equal(patient.regions_on_t1gd.core, result.segmentation.array == 1)
    assert np.array_equal(patient.regions_on_t1gd.whole, result.segmentation.array > 0)


def descriptions(export):
    """What segments and structures say of themselves, by name."""
    segments = pydicom.dcmread(export.files["segmentation"]).SegmentSequence
    structures = pydicom.dcmread(export.files["structures"]).StructureSetROISequence
    return (
        {one.SegmentLabel: one.get("SegmentDescription") for one in segments},
        {one.ROIName: one.get("ROIDescription") for one in structures},
    )


def test_each_plan_says_how_it_was_made(planned, tmp_path):
    case, folder = planned
    title = read_result(folder).content["plan"]["standard"]["title"]
    assert "6 mm" in title
    for found in descriptions(export_dicom(folder, case.folder, tmp_path)):
        assert found["CTV standard"] == title
        assert found["CTV model"] == "The densest voxels, as large as the standard plan"
        assert found["CTV probable"] == "The smallest that holds 95 % of the modelled cells with a probability of 90 %"
        assert found.get("GTV") is None
        assert found.get("Tumour core") is None


@pytest.mark.parametrize(
    ("volume", "said"), [(12.5, "The densest 12.5 ml"), ("above=0.3", "All that is denser than 0.3")]
)
def test_the_rule_of_the_volume_is_the_one_that_was_asked_for(planned, tmp_path, volume, said):
    case, folder = planned
    shutil.copytree(folder, tmp_path / "result")
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    content["plan"]["choices"] |= {"volume": volume, "smallest_part_ml": 0.2}
    content["plan"]["standard"]["title"] = "whole tumour + 20 mm, RTOG, first phase"
    (tmp_path / "result" / "result.json").write_text(json.dumps(content), encoding="utf-8")
    for found in descriptions(export_dicom(tmp_path / "result", case.folder, tmp_path / "out")):
        assert found["CTV standard"] == "whole tumour + 20 mm, RTOG, first phase"
        assert found["CTV model"] == f"{said}, without parts below 0.2 ml"


def test_the_cavity_that_plans_were_made_around_is_the_one_that_goes_along(planned, turned, tmp_path):
    case = planned[0]
    drawn = np.roll(cavity_of(case), -3, axis=0) | np.roll(cavity_of(case), -4, axis=0)
    case.study.write_segmentation(tmp_path / "cavity.dcm", case.files, {"Cavity": drawn}, case.grid.affine)
    told = "The resection cavity is the one that the plans were made around, which is not the one of the inference."
    for name, folder, notes in (("none", planned[1], ()), ("another", turned[1] / "result", (told,))):
        own = Path(shutil.copytree(folder, tmp_path / name))
        plan_result(own, PlanChoices(margin=6, smallest_part_ml=0), cavity=tmp_path / "cavity.dcm")
        result = read_result(own)
        assert "frame of reference (DICOM) of the T1Gd cannot be told" in result.content["plan"]["warnings"][0]
        assert "cavity" not in result.plans
        image = None if name == "none" else turned[1] / "t1gd.nrrd"
        export = export_dicom(own, case.folder, tmp_path / f"out-{name}", t1gd=image)
        assert export.notes == notes
        source = read_source_series(case.folder)
        for kind in ("segmentation", "structures"):
            file = read_image_file(export.files[kind], "s", is_mask=True, references=[source.image])
            (found,) = [segment.mask for segment in file.segments if segment.name == "Resection cavity"]
            assert np.array_equal(found, source.on_grid(Volume(drawn, case.grid))), (name, kind)
    content = json.loads((own / "result.json").read_text(encoding="utf-8"))
    (own / content["outputs"].pop("plan_cavity")).unlink()
    (own / "result.json").write_text(json.dumps(content), encoding="utf-8")
    (note,) = export_dicom(own, case.folder, tmp_path / "out", t1gd=image).notes
    assert note == "The plans were made around another resection cavity, which is in none of the objects."
    plan_result(own, PlanChoices(margin=6), cavity=own / "cavity.nrrd")  # the result's own
    assert not (own / "plan_cavity.nrrd").exists()


def test_what_was_edited_or_removed_since_is_told(planned, tmp_path):
    case, folder = planned
    own = Path(shutil.copytree(folder, tmp_path / "result"))
    edited = read_result(folder).plans["model"]
    edited.array[tuple(np.argwhere(edited.array)[0])] = False
    write_volume(edited, own / "plan_model.nrrd")
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    content["sha256"]["plan_model.nrrd"] = sha256_of([own / "plan_model.nrrd"])
    del content["outputs"]["density_sd"]
    (own / "result.json").write_text(json.dumps(content), encoding="utf-8")
    export = export_dicom(own, case.folder, tmp_path / "out")
    assert export.notes == ("The standard deviation of the density is no longer there, so there is no map of it.",)
    for found in descriptions(export):
        assert found["CTV model"] == "Edited by hand after TumorQuery made it"
        assert "6 mm" in found["CTV standard"]
    kinds = {one.SegmentLabel: one for one in pydicom.dcmread(export.files["segmentation"]).SegmentSequence}
    made = {one.ROIName: one for one in pydicom.dcmread(export.files["structures"]).StructureSetROISequence}
    for name, kind in (("CTV model", "SEMIAUTOMATIC"), ("CTV standard", "AUTOMATIC")):
        assert kinds[name].SegmentAlgorithmType == made[name].ROIGenerationAlgorithm == kind


def test_parts_are_not_said_to_be_left_out_where_there_are_no_others(planned, tmp_path):
    case, folder = planned
    own = Path(shutil.copytree(folder, tmp_path / "result"))
    plan_result(own, PlanChoices(margin=6, volume=0.5))
    for found in descriptions(export_dicom(own, case.folder, tmp_path / "out")):
        assert found["CTV model"] == "The densest 0.5 ml"


def test_new_plans_take_an_export_of_the_earlier_ones_away_and_say_so(planned, tmp_path, capsys):
    case, folder = planned
    shutil.copytree(folder, tmp_path / "result")
    export_dicom(tmp_path / "result", case.folder, tmp_path / "result" / "dicom_export")
    assert main(["plan", str(tmp_path / "result"), "--margin", "4", "--smallest-part", "0"]) == 0
    assert not (tmp_path / "result" / "dicom_export").exists()
    assert "write it anew with `tumorquery export`" in capsys.readouterr().out
    assert not list((tmp_path / "result").glob(".*"))


def test_the_objects_bear_the_series_patient_and_study_and_the_result_nothing_of_them(planned, tmp_path):
    case, folder = planned
    export = export_dicom(folder, case.folder, tmp_path)
    assert len(export.files) == 4
    series = set()
    for path in export.files.values():
        data = pydicom.dcmread(path)
        for name, value in PATIENT.items():
            assert str(data.get(name)) == (value or ""), (path.name, name)
        assert data.ContentQualification == "RESEARCH"
        assert data.StudyInstanceUID == case.study.uid
        assert {str(one.value) for one in data.iterall() if one.keyword == "FrameOfReferenceUID"} == {
            case.study.frame_of_reference
        }
        assert data.SeriesInstanceUID != case.files[0].SeriesInstanceUID
        series.add(data.SeriesInstanceUID)
    assert len(series) == 4
    identity = [*(value for value in PATIENT.values() if value and value not in ("ISO_IR 100", "F"))]
    identity += [case.study.uid, case.study.frame_of_reference, case.files[0].SeriesInstanceUID]
    others = [path for path in folder.iterdir() if path.is_file()]
    assert {"result.json", "plan.json", "plan.png", "report.png", "density.nrrd"} <= {path.name for path in others}
    for path in others:
        content = path.read_bytes()
        for value in identity:
            assert value.encode() not in content, (path.name, value)
            assert value.encode("latin-1") not in content, (path.name, value)


def test_nothing_is_said_of_how_the_given_tumour_was_drawn(planned, tmp_path):
    """The structure set may leave it open; a segmentation has to say one of three, and names what stands behind it."""
    case, folder = planned
    export = export_dicom(folder, case.folder, tmp_path)
    structures = pydicom.dcmread(export.files["structures"]).StructureSetROISequence
    found = {one.ROIName: one.ROIGenerationAlgorithm for one in structures}
    assert found == {"GTV": "", "CTV standard": "AUTOMATIC", "CTV model": "AUTOMATIC", "CTV probable": "AUTOMATIC"}
    for segment in pydicom.dcmread(export.files["segmentation"]).SegmentSequence:
        given = segment.SegmentLabel in ("Tumour core", "Whole tumour")
        assert segment.SegmentAlgorithmName == ("as given to TumorQuery" if given else "TumorQuery")


def test_odd_headers_of_the_series_are_taken_over_as_they_are(tmp_path):
    """What a constructor would refuse; a planning system matches by what is there."""
    odd = {"PatientSex": "W", "PatientBirthDate": "1951", "StudyTime": "noon", "PatientAge": "old", "StudyID": None}
    with pydicom.config.disable_value_validation():
        case = write_case("axial oblique", tmp_path / "S1", **odd)
        source = read_source_series(case.folder)
        region = Region("GTV", source.on_grid(case.volume("core")), CORE, (1, 2, 3))
        density = source.on_grid(case.volume("density"))
        made = [make(source, [region], number=1) for make in (make_segmentation, make_structure_set)]
        for data in (*made, make_parametric_map(source, density, CELL_DENSITY, "d", number=1)):
            data.save_as(tmp_path / "object.dcm")
            read = pydicom.dcmread(tmp_path / "object.dcm")
            assert (read.PatientSex, read.PatientBirthDate, read.StudyID) == ("W", "1951", "")


def test_another_series_is_refused(cases, results, tmp_path):
    """Of the same study and grid: a later scan, say."""
    case = cases["axial oblique"]
    other = write_case("axial oblique", tmp_path / "S1")
    for folder in (other.folder, cases["sagittal left-handed"].folder):
        with pytest.raises(InputError, match="was not made from this T1Gd series: its files are others"):
            export_dicom(results["axial oblique"], folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    image = read_image_file(case.folder, "T1Gd")
    write_volume(Volume(image.volume.array, image.volume.grid), tmp_path / "t1gd.nrrd")
    with pytest.raises(InputError, match=r"is no DICOM series.*--dicom SERIES"):
        export_dicom(results["axial oblique"], tmp_path / "t1gd.nrrd", tmp_path / "out")
    with pytest.raises(InputError, match=r"was not made from .*t1gd\.nrrd \(by its SHA-256\)"):
        export_dicom(results["axial oblique"], case.folder, tmp_path / "out", t1gd=tmp_path / "t1gd.nrrd")


@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_series_that_nothing_can_be_laid_over_is_refused(tmp_path, missing):
    write_case("axial oblique", tmp_path / "S1", **{missing: None})
    with pytest.raises(InputError, match=f"The T1Gd series says no {missing}"):
        read_source_series(tmp_path / "S1")


@pytest.fixture(scope="module")
def turned(cases, tmp_path_factory):
    """The axial series as Slicer and converters hand it on, and the result of that.

    A file, counted along other axes, the skull taken away.
    """
    tmp_path = tmp_path_factory.mktemp("turned")
    case = cases["axial oblique"]
    image = read_image_file(case.folder, "T1Gd").volume
    affine = image.grid.affine.copy()
    affine[:3, 0], affine[:3, 3] = -affine[:3, 0], image.grid.to_ras([image.grid.shape[0] - 1, 0, 0])
    affine, shape = affine[:, [1, 2, 0, 3]], np.array(image.grid.shape)[[1, 2, 0]]
    array = np.where(image.array > 300, image.array, 0)[::-1].transpose(1, 2, 0)
    write_volume(Volume(array.astype(np.float32), Grid(tuple(shape), affine)), tmp_path / "t1gd.nrrd")
    patient = patient_of(case, tmp_path, tmp_path / "t1gd.nrrd", cavity=cavity_of(case))
    made_up_result(patient).write(tmp_path / "result")
    return case, tmp_path


def cavity_of(case):
    """A part of the hole in the whole tumour."""
    cavity = np.zeros(case.grid.shape, bool)
    i, j, k = np.rint(case.grid.to_index([3.0, -4.0, 2.0])).astype(int)
    cavity[i - 1 : i + 2, j - 1 : j + 1, k] = True
    return cavity & ~case.core


def test_a_result_of_an_image_file_is_exported_to_the_series_that_it_holds(turned):
    case, folder = turned
    with pytest.raises(InputError, match=r"where that was an image file.*--t1gd F"):
        export_dicom(folder / "result", case.folder, folder / "out")
    job = {"result": folder / "result", "dicom": case.folder, "t1gd": folder / "t1gd.nrrd"}
    job = {"out": str(folder / "out"), "arguments": {name: str(path) for name, path in job.items()}}
    path = JOBS["export"](job, progress=lambda value, message: None)
    assert path == folder / "out" / "segmentation.dcm"
    patient = Patient.load(case.folder, segmentation=path)
    source = read_source_series(case.folder)
    assert np.array_equal(patient.regions_on_t1gd.core, source.on_grid(case.volume("core")))
    read = highdicom.imread(folder / "out" / "density.dcm").get_volume(apply_real_world_transform=True)
    density = read_result(folder / "result").density
    assert density.grid.shape != source.grid.shape
    assert np.abs(read.array.transpose(2, 1, 0)[..., ::-1] - source.on_grid(density)).max() <= 1e-6


def test_header_and_voxels_in_two_files_are_known_by_both(cases, tmp_path):
    case = cases["axial oblique"]
    image = read_image_file(case.folder, "T1Gd").volume
    sitk.WriteImage(image_from_volume(image), str(tmp_path / "t1gd.mhd"))
    made_up_result(patient_of(case, tmp_path, tmp_path / "t1gd.mhd")).write(tmp_path / "result")
    export = export_dicom(tmp_path / "result", case.folder, tmp_path / "out", t1gd=tmp_path / "t1gd.mhd")
    assert export.files["segmentation"].exists()
    (tmp_path / "t1gd.raw").write_bytes((tmp_path / "t1gd.raw").read_bytes()[::-1])
    with pytest.raises(InputError, match=r"was not made from .*t1gd\.mhd \(by its SHA-256\)"):
        export_dicom(tmp_path / "result", case.folder, tmp_path / "out", t1gd=tmp_path / "t1gd.mhd")


def test_an_image_file_that_is_not_there_is_a_sentence(turned, tmp_path, capsys):
    case, folder = turned
    call = ["export", str(folder / "result"), "--dicom", str(case.folder), "--out", str(tmp_path / "out")]
    assert main([*call, "--t1gd", str(tmp_path / "missing.nii")]) == 2
    said = capsys.readouterr().err
    assert "missing.nii" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_resection_cavity_is_neither_core_nor_whole(turned, tmp_path):
    case, folder = turned
    export = export_dicom(folder / "result", case.folder, tmp_path, t1gd=folder / "t1gd.nrrd")
    source = read_source_series(case.folder)
    expected = source.on_grid(Volume(cavity_of(case), case.grid))
    assert expected.any()
    for name in ("segmentation", "structures"):
        file = read_image_file(export.files[name], "s", is_mask=True, references=[source.image])
        (found,) = [segment.mask for segment in file.segments if segment.name == "Resection cavity"]
        assert np.array_equal(found, expected), name
    kinds = [one.RTROIInterpretedType for one in pydicom.dcmread(export.files["structures"]).RTROIObservationsSequence]
    assert kinds == ["GTV", "CAVITY"]
    patient = Patient.load(case.folder, segmentation=export.files["segmentation"])
    assert np.array_equal(patient.regions_on_t1gd.whole, source.on_grid(case.volume("whole")))
    assert not (patient.regions_on_t1gd.whole & expected).all()
    assert np.array_equal(patient.cavity.array, expected)


def test_a_result_of_an_image_file_is_not_exported_to_another_series(turned, cases):
    _, folder = turned
    later = write_case("axial oblique", folder / "later")
    for number, path in enumerate(sorted(later.folder.iterdir())):
        data = pydicom.dcmread(path)
        data.PixelData = np.roll(data.pixel_array, number, axis=0).tobytes()
        data.save_as(path)
    with pytest.raises(InputError, match="holds other values than the T1Gd series"):
        export_dicom(folder / "result", later.folder, folder / "none", t1gd=folder / "t1gd.nrrd")
    sagittal = cases["sagittal left-handed"].folder
    with pytest.raises(InputError, match="does not lie on the grid of the T1Gd series"):
        export_dicom(folder / "result", sagittal, folder / "none", t1gd=folder / "t1gd.nrrd")
    assert not (folder / "none").exists()


def test_an_export_replaces_an_earlier_one_whole_and_nothing_else(cases, results, tmp_path):
    axial, sagittal = ("axial oblique", "sagittal left-handed")
    export_dicom(results[axial], cases[axial].folder, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    export_dicom(results[sagittal], cases[sagittal].folder, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("density.dcm", "notes.txt", "segmentation.dcm", "structures.dcm")
    ]
    frames = {pydicom.dcmread(path).FrameOfReferenceUID for path in tmp_path.glob("*.dcm")}
    assert frames == {cases[sagittal].study.frame_of_reference}


def test_files_that_no_export_wrote_are_left_alone(axial, tmp_path):
    case, folder = axial
    case.study.write_segmentation(tmp_path / "segmentation.dcm", case.files, {"mine": case.core}, case.grid.affine)
    before = (tmp_path / "segmentation.dcm").read_bytes()
    with pytest.raises(OutputError, match=r"holds segmentation\.dcm, which no export of TumorQuery wrote"):
        export_dicom(folder, case.folder, tmp_path)
    assert (tmp_path / "segmentation.dcm").read_bytes() == before
    with pytest.raises(OutputError, match="is the folder of the series itself"):
        export_dicom(folder, case.folder, case.folder)


def test_a_result_is_no_folder_for_its_objects(axial, tmp_path):
    """New plans there would leave the objects of the earlier ones beside them."""
    case, folder = axial
    shutil.copytree(folder, tmp_path / "result")
    before = sorted(path.name for path in (tmp_path / "result").iterdir())
    with pytest.raises(OutputError, match=r"holds a result, .* name another folder, such as .*dicom_export"):
        export_dicom(folder, case.folder, tmp_path / "result")
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == before
    assert export_dicom(folder, case.folder, tmp_path / "result" / "dicom_export").files["structures"].exists()


def test_an_export_that_is_cancelled_leaves_nothing(axial, tmp_path):
    def cancel(value, message):
        if message == "Writing the DICOM objects":
            raise Cancelled

    case, folder = axial
    with pytest.raises(Cancelled):
        export_dicom(folder, case.folder, tmp_path / "out", progress=cancel)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("failing", [2, 6])
def test_a_file_that_cannot_be_moved_keeps_the_earlier_export(cases, results, tmp_path, monkeypatch, failing):
    """As one that a viewer keeps open on Windows: four files move out, the three of a smaller export move in."""
    axial, sagittal = ("axial oblique", "sagittal left-handed")
    export_dicom(results[axial], cases[axial].folder, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 4
    replace, moves = os.replace, iter(range(100))

    def refused_once(source, place):
        if next(moves) == failing:
            raise PermissionError(13, "in use", str(place))
        replace(source, place)

    monkeypatch.setattr(os, "replace", refused_once)
    with pytest.raises(OutputError, match="Nothing could be written"):
        export_dicom(results[sagittal], cases[sagittal].folder, tmp_path)
    monkeypatch.undo()
    assert next(moves) > failing
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_tumour_without_a_core_has_no_gross_tumour_and_reads_back(cases, tmp_path):
    case = cases["axial oblique"]
    empty = Volume(np.zeros(case.grid.shape, bool), case.grid)
    given = patient_of(case, tmp_path)
    patient = Patient(t1gd=given.t1gd, core=empty, whole=given.whole, inputs=given.inputs)
    made_up_result(patient).write(tmp_path / "result")
    export = export_dicom(tmp_path / "result", case.folder, tmp_path / "out")
    assert sorted(export.files) == ["density", "segmentation"]
    assert any("no core" in note for note in export.notes)
    assert any("no structure set" in note for note in export.notes)
    read = Patient.load(case.folder, segmentation=export.files["segmentation"])
    assert not read.core.array.any()
    assert read.regions_on_t1gd.whole.sum() == case.whole.sum()


def test_plans_that_a_kill_left_half_moved_are_finished_by_whoever_comes(planned, tmp_path, killed_at_move):
    """The masks are the new plans', result.json the earlier ones': an export, a match or plans bring it to an end."""
    case, folder = planned
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    with killed_at_move(3), pytest.raises(KeyboardInterrupt):
        plan_result(half, PlanChoices(margin=9, smallest_part_ml=0))
    with pytest.raises(InputError, match="run the inference again"):
        _ = read_result(half).plans
    for name in ("match", "plan"):
        shutil.copytree(half, tmp_path / name)
    export_dicom(half, case.folder, tmp_path / "out")
    with pytest.raises(InputError, match="none of rank 9"):
        show_match(tmp_path / "match", 9)
    with pytest.raises(InputError, match=r"missing\.nrrd"):
        plan_result(tmp_path / "plan", PlanChoices(), cavity=tmp_path / "missing.nrrd")
    for result in (half, tmp_path / "match", tmp_path / "plan"):
        assert read_result(result).content["plan"]["choices"]["margin"] == 9
        assert "model" in read_result(result).plans
        assert not list(result.glob(".*"))


def test_the_command_says_what_it_wrote(axial, tmp_path, capsys):
    case, folder = axial
    call = ["export", str(folder), "--dicom", str(case.folder), "--out", str(tmp_path)]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "segmentation.dcm, density.dcm, density_sd.dcm, structures.dcm" in said
    assert "no plans" in said
    shutil.rmtree(tmp_path)
    assert main(["export", str(folder), "--dicom", str(folder), "--out", str(tmp_path)]) == 2
    assert not tmp_path.exists()


def test_the_files_of_a_series_may_be_listed(axial, tmp_path):
    case, folder = axial
    files = [str(path) for path in sorted(case.folder.iterdir())]
    arguments = {"result": str(folder), "dicom": files}
    out, notes = tmp_path / "out", tmp_path / "notes.json"
    arguments["notes"] = str(notes)
    assert JOBS["export"]({"out": str(out), "arguments": arguments}, progress=lambda value, message: None) == notes
    assert "segmentation.dcm" in {path.name for path in out.iterdir()} <= set(EXPORT_FILES.values())
    assert json.loads(notes.read_text(encoding="utf-8")) == list(export_dicom(folder, files, tmp_path / "again").notes)


def test_an_inference_of_image_files_is_refused_before_the_work(cases, tmp_path, capsys):
    case = cases["axial oblique"]
    image = read_image_file(case.folder, "T1Gd").volume
    write_volume(image, tmp_path / "t1gd.nrrd")
    files = ["--t1gd", str(tmp_path / "t1gd.nrrd"), "--segmentation", "absent.nrrd"]
    assert main(["infer", *files, "--out", str(tmp_path / "out"), "--dicom"]) == 2
    assert "is no DICOM series" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_highdicom_the_remedy_is_named(axial, tmp_path):
    case, folder = axial
    code = (
        "import sys; sys.modules['highdicom'] = None\n"
        "from TumorQueryLib import MissingDependencyError, export_dicom\n"
        "try: export_dicom(*sys.argv[1:])\n"
        "except MissingDependencyError as error: print(error)"
    )
    call = [sys.executable, "-c", code, str(folder), str(case.folder), str(tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "Writing DICOM objects of a result needs the package highdicom" in done.stdout
    assert 'pip install "tumorquery[dicom]"' in done.stdout
    assert not (tmp_path / "out").exists()


def test_what_an_export_reads_of_a_result_is_checked(axial, tmp_path):
    case, folder = axial
    shutil.copytree(folder, tmp_path / "result")
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    planned = {"outputs": content["outputs"] | {"plan_model": "plan_model.nrrd"}}
    planned["sha256"] = content["sha256"] | {"plan_model.nrrd": "0" * 64}
    told = {"choices": {}, "standard": {"title": "15 mm"}, "cavity_ml": 0.0}
    changes = [{"inputs": [{"role": "t1gd"}]}, {"uncertainty": content["uncertainty"] | {"level": "high"}}]
    for wrong in (
        None,
        told | {"choices": {"volume": "large"}},
        told | {"standard": {}},
        told | {"cavity_ml": "none"},
        told | {"mask_sha256": [1]},
    ):
        changes.append(planned | {"plan": wrong})
    for change in changes:
        (tmp_path / "result" / "result.json").write_text(json.dumps(content | change), encoding="utf-8")
        with pytest.raises(InputError, match="is not whole"):
            export_dicom(tmp_path / "result", case.folder, tmp_path / "out")
