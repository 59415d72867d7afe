"""DICOM segmentations as highdicom writes them, on grids as scanners have them."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
from drawn_phantom import SERIES, dice_across, drawn_phantom
from sample_as_dicom import EDEMA, NECROSIS, NEOPLASM, Study, stored_in

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, resample_mask
from TumorQueryLib.inputs.checks import ImageFile
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.labels import regions_from_segments
from TumorQueryLib.inputs.patient import Patient

CODES = {"Neoplasm": NEOPLASM, "Necrosis": NECROSIS, "Edema": EDEMA}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The series of every grid: its phantom, its study, its folder and the datasets of its files."""
    made = {}
    for number, name in enumerate(SERIES):
        folder = tmp_path_factory.mktemp("archive") / str(number)
        drawn, study = drawn_phantom(name), Study()
        made[name] = drawn, study, folder, study.write_series(folder, drawn.image, drawn.grid.affine)
    return made


def read(path, *references):
    return read_image_file(path, "segmentation", is_mask=True, references=references)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("name", sorted(SERIES))
def test_segments_are_read_back_voxel_for_voxel(archive, tmp_path, name, kind):
    drawn, study, folder, files = archive[name]
    path = tmp_path / "SEG0001"
    # Half and more is inside.
    values = {key: np.where(mask, 0.5 + 0.5 * (drawn.image % 2), 0.49) for key, mask in drawn.masks.items()}
    values = values if kind == "FRACTIONAL" else None
    study.write_segmentation(path, files, drawn.masks, drawn.grid.affine, CODES, kind, values)
    image = read_image_file(folder, "T1Gd")
    alone, beside = read(path), read(path, image)
    assert beside.volume.grid == image.volume.grid
    if kind != "FRACTIONAL":
        assert np.prod(alone.volume.grid.shape) < np.prod(image.volume.grid.shape), "empty frames were stored"
    for file in (alone, beside):
        assert [segment.name for segment in file.segments] == list(drawn.masks)
        assert [segment.code for segment in file.segments] == ["SCT 86049000", "SCT 6574001", "SCT 79654002"]
        for segment in file.segments:
            assert dice_across(segment.mask, file.volume.grid, drawn.masks[segment.name], drawn.grid) == 1
        assert file.warnings == ()
        assert file.frame_of_reference == study.frame_of_reference
        assert file.drawn_on == image.series == files[0].SeriesInstanceUID
    # A mask that ends with its grid would end half a voxel early on another one.
    finer = image.volume.grid.isotropic_like(1.5, (60, 60, 60))
    masks = [resample_mask(type(f.volume)(f.segments[2].mask, f.volume.grid), finer).array for f in (alone, beside)]
    assert np.array_equal(*masks)


def test_shares_that_never_reach_one_half_are_no_empty_segmentation(archive, tmp_path):
    drawn, study, folder, files = archive["thick slices"]
    masks = {name: drawn.masks[name] for name in ("Neoplasm", "Edema")}
    values = {name: 0.4 * mask for name, mask in masks.items()}
    study.write_segmentation(tmp_path / "a.dcm", files, masks, drawn.grid.affine, None, "FRACTIONAL", values)
    with pytest.raises(InputError, match=r"nowhere 0.5 or more: 'Neoplasm' \(highest 0.4\), 'Edema' \(highest 0.4\)"):
        read(tmp_path / "a.dcm")
    values["Edema"] = 0.6 * masks["Edema"]
    study.write_segmentation(tmp_path / "b.dcm", files, masks, drawn.grid.affine, None, "FRACTIONAL", values)
    (warning,) = read(tmp_path / "b.dcm", read_image_file(folder, "T1Gd")).warnings
    assert warning.endswith("are nowhere 0.5 or more, so empty: 'Neoplasm' (highest 0.4).")


def test_segments_may_overlap(archive, tmp_path):
    drawn, study, _, files = archive["axial oblique"]
    core = drawn.masks["Neoplasm"] | drawn.masks["Necrosis"]
    masks = {"whole tumour": core | drawn.masks["Edema"], "core": core}
    study.write_segmentation(tmp_path / "seg.dcm", files, masks, drawn.grid.affine)
    file = read(tmp_path / "seg.dcm")
    for segment in file.segments:
        assert dice_across(segment.mask, file.volume.grid, masks[segment.name], drawn.grid) == 1
    regions = regions_from_segments(file.segments, None)
    assert regions.core.sum() == core.sum()
    assert regions.labels == "segment names: core=core/whole=whole tumour,core"


@pytest.mark.parametrize("said", [True, False])
def test_frames_between_others_may_be_missing(archive, tmp_path, said):
    """Lesions with empty slices between them, which are not stored; a tool need not say how far slices lie apart."""
    drawn, study, folder, files = archive["thick slices"]
    mask = np.zeros(drawn.grid.shape, dtype=bool)
    mask[20:40, 20:40, [4, 6, 12]] = True
    path = tmp_path / "seg.dcm"
    study.write_segmentation(path, files, {"tumour": mask}, drawn.grid.affine)
    if not said:
        data = pydicom.dcmread(path)
        del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
        data.save_as(path)
    image = read_image_file(folder, "T1Gd")
    file = read(path, image)
    assert file.volume.grid == image.volume.grid
    assert dice_across(file.segments[0].mask, file.volume.grid, mask, drawn.grid) == 1


def test_one_stored_frame_is_a_slice_of_its_thickness(archive, tmp_path):
    drawn, study, _, files = archive["thick slices"]
    mask = np.zeros(drawn.grid.shape, dtype=bool)
    mask[20:40, 20:40, 7] = True
    path = tmp_path / "seg.dcm"
    study.write_segmentation(path, files, {"tumour": mask}, drawn.grid.affine)
    data = pydicom.dcmread(path)
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    data.save_as(path)
    file = read(path)
    assert np.allclose(np.sort(file.volume.grid.spacing), [1.0, 1.2, 5.0])
    assert dice_across(file.segments[0].mask, file.volume.grid, mask, drawn.grid) == 1


def write_saying(path, archive, mask, spacing):
    """A SEG of the thick slices that says how far its slices lie apart, or nothing of it."""
    drawn, study, _, files = archive["thick slices"]
    study.write_segmentation(path, files, {"tumour": mask}, drawn.grid.affine)
    data = pydicom.dcmread(path)
    (measures,) = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    del measures.SpacingBetweenSlices
    if spacing:
        measures.SpacingBetweenSlices = spacing
    data.save_as(path)


def finer_images(archive):
    """Of the space of the thick slices: one with slices of a fifth between them, one with voxels of its own."""
    drawn, study, _, _ = archive["thick slices"]
    shape, affine = drawn.grid.shape, drawn.grid.affine @ np.diag([1, 1, 0.2, 1])
    grids = Grid((*shape[:2], 5 * shape[2] - 4), affine), drawn_phantom("sagittal left-handed").grid
    said = {"frame_of_reference": study.frame_of_reference, "series": pydicom.uid.generate_uid()}
    return [ImageFile(Volume(np.zeros(grid.shape, dtype=np.uint8), grid), "", **said) for grid in grids]


@pytest.mark.parametrize("spacing", [None, "5", "1", "2.5", "4.6"])
def test_slices_are_as_thick_as_those_they_were_drawn_on(archive, tmp_path, spacing):
    """Not as those of the T1Gd beside it, whatever the file writes for their distance."""
    drawn, _, folder, _ = archive["thick slices"]
    whole = np.logical_or.reduce(list(drawn.masks.values()))
    write_saying(tmp_path / "seg.dcm", archive, whole, spacing)
    image = read_image_file(folder, "FLAIR")
    for finer in finer_images(archive):
        file = read(tmp_path / "seg.dcm", finer, image)
        assert file.volume.grid == image.volume.grid
        assert dice_across(file.volume.array, file.volume.grid, whole, drawn.grid) == 1
        assert file.warnings == ()
        # The series that it was drawn on is not given: what the frames say holds, and a contradiction is told.
        file = read(tmp_path / "seg.dcm", finer)
        found = file.volume.array.sum() * file.volume.grid.voxel_volume_ml
        assert found == pytest.approx(whole.sum() * drawn.grid.voxel_volume_ml)
        told = [
            f"says that its slices lie {spacing} mm apart, but its frames lie 5 mm apart" in w for w in file.warnings
        ]
        assert told == ([True] if spacing not in (None, "5") else [])


def test_an_image_without_identifiers_tells_how_thick_the_slices_are(archive, tmp_path):
    """The coarsest one whose voxels the frames have, where the segmentation names no series and has one frame alone."""
    drawn, _, folder, _ = archive["thick slices"]
    mask = np.zeros(drawn.grid.shape, dtype=bool)
    mask[20:40, 20:40, 7] = True
    path = tmp_path / "seg.dcm"
    write_saying(path, archive, mask, "1")
    data = pydicom.dcmread(path)
    del data.ReferencedSeriesSequence
    data.save_as(path)
    image = read_image_file(folder, "FLAIR")
    file = read(path, *finer_images(archive), image)
    assert file.volume.grid == image.volume.grid
    assert dice_across(file.volume.array, file.volume.grid, mask, drawn.grid) == 1


def test_slices_left_out_between_the_frames_are_told(archive, tmp_path):
    drawn, _, folder, _ = archive["thick slices"]
    whole = np.logical_or.reduce(list(drawn.masks.values()))
    whole[:, :, ::2] = False
    write_saying(tmp_path / "seg.dcm", archive, whole, None)
    file = read(tmp_path / "seg.dcm", read_image_file(folder, "T1Gd"))
    assert dice_across(file.volume.array, file.volume.grid, whole, drawn.grid) == 1
    assert "No two frames of the segmentation lie on slices side by side (10 mm apart" in file.warnings[0]


def test_a_segmentation_may_have_a_grid_of_its_own(archive, tmp_path):
    """Drawn on the sagittal series' grid, said of the axial one."""
    drawn, study, folder, files = archive["axial oblique"]
    other = drawn_phantom("sagittal left-handed")
    path = tmp_path / "seg.dcm"
    study.write_segmentation(path, files, other.masks, other.grid.affine, CODES)
    image = read_image_file(folder, "T1Gd")
    file = read(path, image)
    for segment in file.segments:
        assert dice_across(segment.mask, file.volume.grid, other.masks[segment.name], other.grid) == 1
    patient = Patient.load(folder, segmentation=path)
    expected = (drawn.masks["Neoplasm"] | drawn.masks["Necrosis"]).sum()
    assert patient.regions_on_t1gd.core.sum() == pytest.approx(expected, rel=0.03)
    assert patient.labels == "terminology codes: core=Neoplasm,Necrosis/whole=Neoplasm,Necrosis,Edema"


def test_a_segmentation_is_found_in_a_study_folder(archive, tmp_path):
    drawn, study, _, _ = archive["thick slices"]
    files = study.write_series(tmp_path / "DICOM" / "S1", drawn.image, drawn.grid.affine)
    study.write_segmentation(tmp_path / "DICOM" / "S2" / "0001", files, drawn.masks, drawn.grid.affine, CODES)
    file = read(tmp_path / "DICOM")
    assert len(file.segments) == 3
    study.write_segmentation(tmp_path / "DICOM" / "S3" / "0001", files, drawn.masks, drawn.grid.affine, CODES)
    with pytest.raises(InputError, match=r"2 segmentations or sets of contours: .*S2.*S3.*Name the file"):
        read(tmp_path / "DICOM")
    # As an image the folder is what it was.
    assert read_image_file(tmp_path / "DICOM", "T1Gd").segments == ()
    with pytest.raises(InputError, match=r"holds a DICOM segmentation \(SEG\).*give it as the segmentation"):
        read_image_file(tmp_path / "DICOM" / "S2" / "0001", "T1Gd")


def test_one_segment_is_a_mask_and_several_are_none(archive, tmp_path):
    drawn, study, folder, files = archive["thick slices"]
    whole = np.logical_or.reduce(list(drawn.masks.values()))
    study.write_segmentation(tmp_path / "whole.dcm", files, {"anything": whole}, drawn.grid.affine)
    study.write_segmentation(tmp_path / "core.dcm", files, {"x": drawn.masks["Neoplasm"]}, drawn.grid.affine)
    study.write_segmentation(tmp_path / "brain.dcm", files, {"Brain": drawn.image > 0}, drawn.grid.affine)
    patient = Patient.load(
        folder, core=tmp_path / "core.dcm", whole=tmp_path / "whole.dcm", brain_mask=tmp_path / "brain.dcm"
    )
    assert (patient.core.array.sum(), patient.whole.array.sum()) == (drawn.masks["Neoplasm"].sum(), whole.sum())
    assert np.array_equal(patient.brain_mask.array, patient.t1gd.array > 0)
    study.write_segmentation(tmp_path / "three.dcm", files, drawn.masks, drawn.grid.affine)
    with pytest.raises(InputError, match=r"'Neoplasm', 'Necrosis', 'Edema'.*a mask is one"):
        Patient.load(folder, whole=tmp_path / "three.dcm")


def test_names_that_do_not_say_are_asked_for(archive, tmp_path):
    drawn, study, folder, files = archive["thick slices"]
    masks = {f"Segment_{n}": mask for n, mask in enumerate(drawn.masks.values(), 1)}
    path = tmp_path / "seg.dcm"
    study.write_segmentation(path, files, masks, drawn.grid.affine)
    with pytest.raises(InputError, match=r"'Segment_1', 'Segment_2', 'Segment_3'.*--labels.*core=NAME"):
        Patient.load(folder, segmentation=path)
    labels = "core=Segment_1,Segment_2/whole=Segment_1,Segment_2,Segment_3"
    patient = Patient.load(folder, segmentation=path, labels=labels)
    assert patient.labels == labels
    assert patient.core.array.sum() == (drawn.masks["Neoplasm"] | drawn.masks["Necrosis"]).sum()


@pytest.mark.slow
def test_another_frame_of_reference_is_refused(archive, tmp_path):
    drawn, study, folder, files = archive["axial oblique"]
    study.write_segmentation(tmp_path / "other.dcm", files, drawn.masks, drawn.grid.affine, CODES)
    # It says another space, and that it was drawn on no series of this patient.
    data = pydicom.dcmread(tmp_path / "other.dcm")
    data.FrameOfReferenceUID = pydicom.uid.generate_uid()
    data.ReferencedSeriesSequence[0].SeriesInstanceUID = pydicom.uid.generate_uid()
    data.save_as(tmp_path / "other.dcm")
    with pytest.raises(InputError, match=r"segmentation lies in another frame of reference \(DICOM\) than T1Gd,"):
        Patient.load(folder, segmentation=tmp_path / "other.dcm")


def test_a_segmentation_of_the_t1gds_series_in_another_frame_of_reference_is_said(archive, tmp_path):
    drawn, study, folder, files = archive["axial oblique"]
    study.write_segmentation(tmp_path / "other.dcm", files, drawn.masks, drawn.grid.affine, CODES)
    assert not any("frame of reference" in said for said in load(folder, tmp_path).warnings)
    data = pydicom.dcmread(tmp_path / "other.dcm")
    data.FrameOfReferenceUID = pydicom.uid.generate_uid()
    data.save_as(tmp_path / "other.dcm")
    assert any("T1Gd's series, and that it lies in another frame" in said for said in load(folder, tmp_path).warnings)


def load(folder, tmp_path):
    return Patient.load(folder, segmentation=tmp_path / "other.dcm")


@pytest.mark.slow
def test_a_segmentation_of_the_flair_in_the_flairs_frame_is_accepted_and_said(archive, tmp_path):
    drawn, study, folder, _ = archive["axial oblique"]
    second = Study(uid=study.uid)
    flair = second.write_series(tmp_path / "flair", drawn.image, drawn.grid.affine, "FLAIR")
    second.write_segmentation(tmp_path / "seg.dcm", flair, drawn.masks, drawn.grid.affine, CODES)
    patient = Patient.load(folder, tmp_path / "flair", segmentation=tmp_path / "seg.dcm")
    assert any("was drawn on the FLAIR, whose frame of reference" in warning for warning in patient.warnings)
    with pytest.raises(InputError, match="than T1Gd,"):
        Patient.load(folder, segmentation=tmp_path / "seg.dcm")
    same = study.write_series(tmp_path / "same", drawn.image, drawn.grid.affine, "FLAIR")
    study.write_segmentation(tmp_path / "same.dcm", same, drawn.masks, drawn.grid.affine, CODES)
    patient = Patient.load(folder, tmp_path / "same", segmentation=tmp_path / "same.dcm")
    assert not any("frame of reference" in warning for warning in patient.warnings)


def test_nothing_of_the_patient_or_the_study_travels_into_the_inputs(archive, tmp_path):
    drawn, study, folder, files = archive["thick slices"]
    study.write_segmentation(tmp_path / "seg.dcm", files, drawn.masks, drawn.grid.affine, CODES)
    patient = Patient.load(folder, segmentation=tmp_path / "seg.dcm")
    said = repr((patient.inputs, patient.labels, patient.warnings))
    for secret in ("Made", study.uid, study.frame_of_reference, str(files[0].SeriesInstanceUID), str(tmp_path)):
        assert secret not in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.__delattr__("FrameOfReferenceUID"), "does not lie in the space of a patient"),
        (lambda data: data.__delattr__("SegmentSequence"), "without segments"),
        (lambda data: setattr(data, "PixelData", data.PixelData[:100]), "cannot be read"),
        (
            lambda data: setattr(
                data.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0], "ImagePositionPatient", [1, 2, 3]
            ),
            "no even stack of slices",
        ),
        (lambda data: setattr(data, "Rows", 60_000), "which is no head"),
        (lambda data: data.update({"Rows": 60_000, "Columns": 60_000}), "far more than an MRI"),
    ],
)
def test_a_segmentation_that_cannot_be_is_refused(archive, tmp_path, change, said):
    drawn, study, _, files = archive["thick slices"]
    path = tmp_path / "seg.dcm"
    study.write_segmentation(path, files, drawn.masks, drawn.grid.affine, CODES)
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    with pytest.raises(InputError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_without_highdicom_the_remedy_is_named(archive, tmp_path):
    drawn, study, _, files = archive["thick slices"]
    study.write_segmentation(tmp_path / "seg.dcm", files, drawn.masks, drawn.grid.affine, CODES)
    (path,) = stored_in(tmp_path)
    code = (
        "import sys; sys.modules['highdicom'] = None\n"
        "from TumorQueryLib.inputs.image_files import read_image_file\n"
        "from TumorQueryLib.base.errors import MissingDependencyError\n"
        "try: read_image_file(sys.argv[1], 'segmentation', is_mask=True)\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "DICOM segmentation (SEG)" in done.stdout
    assert 'pip install "tumorquery[dicom]"' in done.stdout
