"""The same patient as NIfTI files and as an archive's DICOM folder: the same inputs, the same density."""

import json

import numpy as np
import pytest
from sample_as_dicom import EDEMA, NECROSIS, NEOPLASM, Study, outlines_of
from scipy import ndimage
from small_world import world_patient, write_patient

from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import Volume, read_volume
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.studies.sample import sample_files


def write_archive(folder, t1gd, flair, masks, grid, codes):
    """A study with a T1Gd and a FLAIR series, and the tumour as segmentation and as contours of core and whole."""
    study = Study()
    files = study.write_series(folder / "0000", t1gd.array, t1gd.grid.affine)
    study.write_series(folder / "0001", flair.array, flair.grid.affine, "FLAIR")
    study.write_segmentation(folder / "0002" / "00000001", files, masks, grid.affine, codes)
    core = np.logical_or.reduce([mask for name, mask in masks.items() if codes[name] != EDEMA])
    regions = {"Core": core, "Whole tumour": np.logical_or.reduce(list(masks.values()))}
    outlines = {name: outlines_of(mask, grid.affine) for name, mask in regions.items()}
    study.write_contours(folder / "0003" / "00000001", files, outlines)


def rounded(volume):
    return Volume(np.rint(volume.array), volume.grid)


@pytest.mark.slow
def test_segmentation_and_contours_give_the_density_of_the_nifti_files(world, tmp_path):
    made = world_patient()
    patient = Patient(t1gd=rounded(made.t1gd), flair=rounded(made.flair), core=made.core, whole=made.whole)
    grid = patient.whole.grid
    masks = {"Segment_1": patient.core.array, "Segment_2": patient.whole.array & ~patient.core.array}
    write_archive(tmp_path, patient.t1gd, patient.flair, masks, grid, {"Segment_1": NEOPLASM, "Segment_2": EDEMA})
    files = write_patient(tmp_path / "nifti", patient)
    series = {"t1gd": tmp_path / "0000", "flair": tmp_path / "0001"}
    calls = {
        "nifti": files,
        "segmentation": series | {"segmentation": tmp_path / "0002"},
        "contours": series | {"segmentation": tmp_path / "0003" / "00000001"},
    }
    densities, labels = {}, {}
    for name, arguments in calls.items():
        options = [str(text) for key, value in arguments.items() for text in (f"--{key}", value)]
        out = tmp_path / "out" / name
        exported = [] if name == "nifti" else ["--dicom"]
        assert main(["infer", *options, *world.options(refine="none"), "--out", str(out), *exported]) == 0
        densities[name] = read_volume(out / "density.nrrd")
        labels[name] = json.loads((out / "result.json").read_text(encoding="utf-8"))["labels"]
    near = ndimage.distance_transform_edt(~patient.whole.array, sampling=grid.spacing) < 20
    expected = densities.pop("nifti")
    assert expected.array.max() > 0.5
    for density in densities.values():
        assert density.grid.matches(expected.grid)
        assert np.abs(density.array - expected.array)[near].mean() <= 0.002
    assert labels["segmentation"] == "terminology codes: core=Segment_1/whole=Segment_1,Segment_2"
    assert not (tmp_path / "out" / "nifti" / "dicom_export").exists()
    # What was exported begins the next inference where this one began.
    exported = tmp_path / "out" / "contours" / "dicom_export" / "segmentation.dcm"
    first, again = (
        Patient.load(tmp_path / "0000", segmentation=file) for file in (calls["segmentation"]["segmentation"], exported)
    )
    for region in ("core", "whole"):
        assert np.array_equal(getattr(first.regions_on_t1gd, region), getattr(again.regions_on_t1gd, region))
    assert (out / "dicom_export" / "structures.dcm").exists()
    assert "Made^Up" not in (out / "result.json").read_text(encoding="utf-8")
    assert labels["contours"] == "segment names: core=Core/whole=Core,Whole tumour"


@pytest.mark.slow
def test_the_sample_case_as_an_archive_is_the_sample_case(tmp_path):
    """Image for image and mask for mask, so that all that follows is the same."""
    files = sample_files()
    t1gd, flair, labels = (read_volume(files[name]) for name in ("t1gd", "flair", "segmentation"))
    masks = {name: labels.array == value for name, value in (("Necrosis", 1), ("Edema", 2), ("Neoplasm", 4))}
    codes = {"Necrosis": NECROSIS, "Edema": EDEMA, "Neoplasm": NEOPLASM}
    write_archive(tmp_path, t1gd, flair, masks, labels.grid, codes)
    expected = Patient.load(**files)
    for drawn in ("0002", "0003"):
        patient = Patient.load(tmp_path / "0000", tmp_path / "0001", segmentation=tmp_path / drawn)
        assert patient.warnings == expected.warnings
        for role in ("t1gd", "flair", "core", "whole"):
            found, right = getattr(patient, role), getattr(expected, role)
            assert found.grid.matches(right.grid)
            assert np.array_equal(found.array, right.array)
