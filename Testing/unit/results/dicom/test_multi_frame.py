"""Objects on a series in one multi-frame file, whose frames are stored in another order than they lie."""

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_readers import map_by_dcmqi, segments_by_dcmqi, spread_on
from exported_case import write_case
from made_up_studies import item

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.results.dicom.export import check_exportable
from TumorQueryLib.results.dicom.images import make_parametric_map, make_segmentation
from TumorQueryLib.results.dicom.regions import CELL_DENSITY, CORE, Region
from TumorQueryLib.results.dicom.source import read_source_series
from TumorQueryLib.results.dicom.structures import make_structure_set


@pytest.fixture(params=["along the normal", "against the normal"])
def enhanced(request, tmp_path):
    """An enhanced MR that counts its slices along their normal or against it, so that its grid is left-handed."""
    case = write_case("axial oblique", tmp_path / "slices")
    file = pydicom.dcmread(next((tmp_path / "slices").iterdir()))
    count = len(case.files)
    order = [*range(0, count, 2), *range(1, count, 2)]
    file.NumberOfFrames = count
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=file.ImageOrientationPatient)],
        PixelMeasuresSequence=[item(PixelSpacing=file.PixelSpacing, SliceThickness=file.SliceThickness)],
    )
    file.SharedFunctionalGroupsSequence = [shared]
    file.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=case.files[k].ImagePositionPatient)],
            FrameContentSequence=[
                item(StackID="1", InStackPositionNumber=k + 1 if request.param == "along the normal" else count - k)
            ],
        )
        for k in order
    ]
    file.PixelData = b"".join(case.files[k].PixelData for k in order)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(file, name)
    path = tmp_path / "enhanced" / "MR0001"
    path.parent.mkdir()
    file.save_as(path)
    source = read_source_series(path.parent)
    assert (np.linalg.det(source.grid.affine[:3, :3]) < 0) == (request.param == "against the normal")
    return case, source, order


def test_contours_name_their_frames(enhanced, tmp_path):
    case, source, order = enhanced
    region = Region("GTV", source.on_grid(case.volume("core")), CORE, (1, 2, 3))
    made = make_structure_set(source, [region], number=9)
    for contour in made.ROIContourSequence[0].ContourSequence:
        image = contour.ContourImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.first.SOPInstanceUID
        slice_ = case.files[order[image.ReferencedFrameNumber - 1]]
        axes = np.array(slice_.ImageOrientationPatient, dtype=float).reshape(2, 3)
        away = np.array(contour.ContourData[:3], dtype=float) - np.array(slice_.ImagePositionPatient, dtype=float)
        assert abs(away @ np.cross(*axes)) < 0.002
    made.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    read = read_image_file(tmp_path / "rs.dcm", "segmentation", is_mask=True, references=[source.image])
    assert np.array_equal(read.segments[0].mask, region.mask)


def test_more_than_one_file_of_several_slices_is_refused_before_the_work(enhanced, tmp_path):
    whole = pydicom.dcmread(next((tmp_path / "enhanced").iterdir()))
    frames, voxels = list(whole.PerFrameFunctionalGroupsSequence), whole.PixelData
    half, size = len(frames) // 2, len(voxels) // len(frames)
    (tmp_path / "two").mkdir()
    for number, part in enumerate((slice(0, half), slice(half, None))):
        whole.PerFrameFunctionalGroupsSequence, whole.NumberOfFrames = frames[part], len(frames[part])
        whole.PixelData = b"".join(voxels[k * size : (k + 1) * size] for k in range(len(frames))[part])
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        whole.save_as(tmp_path / "two" / str(number))
    assert read_image_file(tmp_path / "two", "T1Gd").volume.grid.shape == enhanced[1].grid.shape
    with pytest.raises(InputError, match="is 2 files, some of which hold several slices"):
        check_exportable(tmp_path / "two")


@pytest.mark.slow
def test_segments_and_map_lie_where_they_did(enhanced, tmp_path):
    case, source, _ = enhanced
    region = Region("Tumour core", source.on_grid(case.volume("core")), CORE, (1, 2, 3))
    make_segmentation(source, [region], number=7).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    read = read_image_file(tmp_path / "seg.dcm", "segmentation", is_mask=True, references=[source.image])
    assert np.array_equal(read.segments[0].mask, region.mask)
    volume, _ = segments_by_dcmqi(tmp_path / "seg.dcm", tmp_path / "segments")["Tumour core"]
    assert np.array_equal(spread_on(source.grid, volume), region.mask)
    values = source.on_grid(case.volume("density"))
    made = make_parametric_map(source, values, CELL_DENSITY, "density", number=8)
    made.save_as(tmp_path / "map.dcm", enforce_file_format=True)
    volume, _ = map_by_dcmqi(tmp_path / "map.dcm", tmp_path / "map")
    assert np.abs(source.on_grid(volume) - values).max() <= 1e-6
    assert highdicom.imread(tmp_path / "map.dcm").get_volume().spatial_shape == values.shape[::-1]
