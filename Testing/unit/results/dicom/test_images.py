"""Segmentations and Parametric Maps, read back by highdicom, dcmqi and the project's own reader."""

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_readers import map_by_dcmqi, segments_by_dcmqi, spread_on

from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.results.dicom.images import make_parametric_map, make_segmentation
from TumorQueryLib.results.dicom.regions import ABOVE, CELL_DENSITY, CORE, PLAN, WHOLE, Region


def volume_by_highdicom(read):
    """What highdicom reads, [column, row, slice] in RAS."""
    slices, rows, columns = read.spatial_shape
    grid = Grid((columns, rows, slices), LPS_FROM_RAS @ np.asarray(read.affine)[:, [2, 1, 0, 3]])
    return Volume(np.squeeze(read.array).transpose(2, 1, 0), grid)


@pytest.fixture
def segmentation(case, source, tmp_path):
    def region(name, mask, meaning, **kind):
        return Region(name, source.on_grid(Volume(mask, case.grid)), meaning, (250, 40, 60), **kind)

    regions = [
        region("Tumour core", case.core, CORE, by_model=False),
        region("Whole tumour", case.whole, WHOLE, by_model=False),
        region("Density above 0.2", case.density > 0.2, ABOVE),
        region("Density above 1", case.density > 1, ABOVE),
        region("CTV model", case.plan, PLAN),
    ]
    make_segmentation(source, regions, number=7).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    return tmp_path / "seg.dcm", regions


def test_segments_are_read_back_voxel_for_voxel(case, source, segmentation, tmp_path):
    path, regions = segmentation
    by_dcmqi = segments_by_dcmqi(path, tmp_path / "dcmqi")
    by_highdicom = highdicom.seg.segread(path)
    own = read_image_file(path, "segmentation", is_mask=True, references=[source.image])
    assert own.volume.grid == source.grid
    assert own.drawn_on == source.image.series
    assert list(by_dcmqi) == [segment.name for segment in own.segments] == [region.name for region in regions]
    for number, (region, segment) in enumerate(zip(regions, own.segments), 1):
        assert np.array_equal(segment.mask, region.mask)
        volumes = [
            by_dcmqi[region.name][0],
            volume_by_highdicom(by_highdicom.get_volume(segment_numbers=[number], combine_segments=True)),
        ]
        for volume in volumes:
            assert np.array_equal(spread_on(source.grid, volume), region.mask)


def test_what_the_segments_are_is_said_by_codes(segmentation, tmp_path):
    path, _ = segmentation
    codes = [
        (
            one.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator,
            one.SegmentedPropertyTypeCodeSequence[0].CodeValue,
        )
        for one in pydicom.dcmread(path).SegmentSequence
    ]
    private = ("99TUMORQUERY", "density-above")
    assert codes == [("SCT", "86049000"), ("SCT", "4147007"), private, private, ("SCT", "228792002")]
    told = segments_by_dcmqi(path, tmp_path / "dcmqi")["Tumour core"][1]
    assert told["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] == "Neoplasm, Primary"
    assert np.abs(np.subtract(told["recommendedDisplayRGBValue"], [250, 40, 60])).max() <= 3


@pytest.fixture
def density_map(case, source, tmp_path):
    values = source.on_grid(case.volume("density"))
    made = make_parametric_map(source, values, CELL_DENSITY, "cell density", number=8)
    made.save_as(tmp_path / "map.dcm", enforce_file_format=True)
    return tmp_path / "map.dcm", values


def test_a_map_is_read_back_to_a_millionth(source, density_map, tmp_path):
    path, values = density_map
    read = highdicom.imread(path).get_volume(apply_real_world_transform=True)
    by_dcmqi, told = map_by_dcmqi(path, tmp_path / "dcmqi")
    for volume in (volume_by_highdicom(read), by_dcmqi):
        found = source.on_grid(volume)
        assert found is not None, "the map lies elsewhere than the series"
        assert np.abs(found - values).max() <= 1e-6
    assert told["QuantityValueCode"]["CodeMeaning"] == "Tumor cell density, fraction"
    assert told["MeasurementUnitsCode"]["CodeValue"] == "1"


def test_a_map_has_what_dcmqi_takes_for_granted(density_map, tmp_path):
    """Without the anatomy dcmqi ends; of frames that descend along their normal it makes a mirrored map."""
    path, values = density_map
    data = pydicom.dcmread(path)
    axes = np.array(data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient)
    normal = np.cross(axes[:3], axes[3:])
    places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in data.PerFrameFunctionalGroupsSequence]
    assert (np.diff(np.array(places, dtype=float) @ normal) > 0).all()
    indices = [frame.FrameContentSequence[0].DimensionIndexValues for frame in data.PerFrameFunctionalGroupsSequence]
    assert indices == list(range(1, values.shape[2] + 1))
    anatomy = data.SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0]
    assert anatomy.AnatomicRegionSequence[0].CodeMeaning == "Brain"
    del data.SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    data.save_as(tmp_path / "without.dcm")
    with pytest.raises(AssertionError, match="paramap2itkimage ended with"):
        map_by_dcmqi(tmp_path / "without.dcm", tmp_path / "without")
