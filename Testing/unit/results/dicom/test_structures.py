"""Structure sets, read back by plastimatch and by the project's own reader."""

import numpy as np
import pydicom
import pytest
from dicom_readers import structures_by_plastimatch

from TumorQueryLib.geometry.grid import ras_to_lps
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.results.dicom.outlines import area_of
from TumorQueryLib.results.dicom.regions import CORE, PLAN, Region
from TumorQueryLib.results.dicom.structures import make_structure_set


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def regions_of(case, source):
    drawn = {"GTV": ("core", CORE), "CTV standard": ("whole", PLAN), "CTV model": ("plan", PLAN)}
    return [
        Region(name, source.on_grid(case.volume(of)), meaning, (200, 10 * number, 30))
        for number, (name, (of, meaning)) in enumerate(drawn.items())
    ]


@pytest.fixture
def written(case, source, tmp_path):
    """A structure set beside its series, and its regions."""
    regions = regions_of(case, source)
    make_structure_set(source, regions, number=9).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    return tmp_path / "rs.dcm", regions


def test_two_readers_fill_the_contours_to_the_masks(case, source, written, tmp_path):
    path, regions = written
    image = read_image_file(case.folder, "T1Gd")
    own = read_image_file(path, "segmentation", is_mask=True, references=[image])
    assert own.volume.grid == image.volume.grid
    assert own.warnings == ()
    assert (own.frame_of_reference, own.drawn_on) == (image.frame_of_reference, image.series)
    read = {segment.name: segment.mask for segment in own.segments}
    by_plastimatch = structures_by_plastimatch(path, case.folder, tmp_path / "plastimatch")
    assert set(read) == set(by_plastimatch) == {region.name for region in regions}
    for region in regions:
        for mask in (read[region.name], source.on_grid(by_plastimatch[region.name]) != 0):
            assert dice(mask, region.mask) >= 0.995
            assert mask.sum() == pytest.approx(region.mask.sum(), rel=0.005)


def test_the_contours_enclose_the_volume_of_the_masks(source, written):
    """A planning system measures the contours themselves."""
    path, regions = written
    data = pydicom.dcmread(path)
    axes = source.grid.affine[:3, :3] / source.grid.spacing
    for structure, region in zip(data.ROIContourSequence, regions):
        areas = []
        for contour in structure.ContourSequence:
            points = ras_to_lps(np.reshape(np.array(contour.ContourData, dtype=float), (-1, 3)))
            assert contour.NumberOfContourPoints == len(points)
            along = points @ axes
            assert np.ptp(along[:, 2]) < 0.001
            areas.append(area_of(along[:, :2]))
        ml = sum(areas) * source.grid.spacing[2] / 1000
        assert ml == pytest.approx(region.mask.sum() * source.grid.voxel_volume_ml, rel=0.005)


@pytest.mark.slow
def test_every_contour_lies_on_the_slice_that_it_refers_to(case, written):
    data = pydicom.dcmread(written[0])
    slices = {str(file.SOPInstanceUID): file for file in case.files}
    for structure in data.ROIContourSequence:
        for contour in structure.ContourSequence:
            (image,) = contour.ContourImageSequence
            file = slices[image.ReferencedSOPInstanceUID]
            axes = np.array(file.ImageOrientationPatient, dtype=float).reshape(2, 3)
            away = np.array(contour.ContourData[:3], dtype=float) - np.array(file.ImagePositionPatient, dtype=float)
            assert abs(away @ np.cross(*axes)) < 0.002
    series = data.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert {one.ReferencedSOPInstanceUID for one in series.ContourImageSequence} == set(slices)


def test_what_the_structures_are_is_said_as_planning_systems_read_it(case, written):
    data = pydicom.dcmread(written[0])
    assert [one.RTROIInterpretedType for one in data.RTROIObservationsSequence] == ["GTV", "CTV", "CTV"]
    assert [one.ROIName for one in data.StructureSetROISequence] == ["GTV", "CTV standard", "CTV model"]
    assert {one.ReferencedFrameOfReferenceUID for one in data.StructureSetROISequence} == {
        case.study.frame_of_reference
    }
    assert (data.Modality, data.ApprovalStatus, data.StudyInstanceUID) == ("RTSTRUCT", "UNAPPROVED", case.study.uid)
    assert "not a medical device" in data.StructureSetDescription
    assert list(data.ROIContourSequence[1].ROIDisplayColor) == [200, 10, 30]
