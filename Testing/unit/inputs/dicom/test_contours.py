"""Contours of radiotherapy, filled on the slices that they were drawn on."""

import shutil

import numpy as np
import pydicom
import pytest
from drawn_phantom import SERIES, dice_across, drawn_phantom
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from property_examples import examples
from sample_as_dicom import EDEMA, NEOPLASM, Study, outlines_of, with_keyhole

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.inputs.checks import ImageFile
from TumorQueryLib.inputs.dicom import contours as contours_module
from TumorQueryLib.inputs.dicom.contours import inside
from TumorQueryLib.inputs.image_files import read_image_file
from TumorQueryLib.inputs.patient import Patient


@pytest.fixture(params=sorted(SERIES))
def exported(request, tmp_path):
    """A series, and contours beside it of the core and of the oedema around it, whose slices have holes."""
    drawn, study = drawn_phantom(request.param), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    masks = {"core": drawn.masks["Neoplasm"] | drawn.masks["Necrosis"], "Edema": drawn.masks["Edema"]}
    outlines = {name: outlines_of(mask, drawn.grid.affine) for name, mask in masks.items()}
    study.write_contours(tmp_path / "S2" / "RS0001", files, outlines)
    return drawn, study, files, masks, tmp_path


def read(path, *references):
    return read_image_file(path, "segmentation", is_mask=True, references=references)


def assert_read_back(file, masks, grid, least=0.995):
    assert [segment.name for segment in file.segments] == list(masks)
    for segment in file.segments:
        assert dice_across(segment.mask, file.volume.grid, masks[segment.name], grid) >= least


def test_contours_are_filled_on_the_series_beside_them_or_given(exported):
    drawn, study, files, masks, folder = exported
    image = read_image_file(folder / "S1", "T1Gd")
    path = folder / "S2" / "RS0001"
    for file in (read(path), read(path, image), read(folder / "S2")):
        assert file.volume.grid == image.volume.grid
        assert_read_back(file, masks, drawn.grid)
        assert file.warnings == ()
        assert (file.frame_of_reference, file.drawn_on) == (study.frame_of_reference, files[0].SeriesInstanceUID)


def test_contours_are_filled_on_an_image_whose_slices_are_their_planes(exported):
    """The T1Gd as NIfTI, the series not there."""
    import SimpleITK as sitk

    from TumorQueryLib.geometry.grid import image_from_volume

    drawn, _, _, masks, folder = exported
    image = read_image_file(folder / "S1", "T1Gd")
    sitk.WriteImage(image_from_volume(image.volume), str(folder / "t1gd.nii.gz"))
    shutil.rmtree(folder / "S1")
    image = read_image_file(folder / "t1gd.nii.gz", "T1Gd")
    file = read(folder / "S2" / "RS0001", image)
    assert file.volume.grid == image.volume.grid
    assert_read_back(file, masks, drawn.grid)


def test_without_any_image_contours_are_filled_in_their_own_planes(exported):
    drawn, _, _, masks, folder = exported
    shutil.rmtree(folder / "S1")
    file = read(folder / "S2" / "RS0001")
    assert "was not found beside them" in file.warnings[0]
    for segment in file.segments:
        found = segment.mask.sum() * file.volume.grid.voxel_volume_ml
        assert found == pytest.approx(masks[segment.name].sum() * drawn.grid.voxel_volume_ml, rel=0.01)
        points = file.volume.grid.to_ras(np.argwhere(segment.mask))
        expected = drawn.grid.to_ras(np.argwhere(masks[segment.name]))
        assert np.abs(points.mean(axis=0) - expected.mean(axis=0)).max() < 0.1
    assert not file.volume.array[:, :, [0, -1]].any()
    data = pydicom.dcmread(folder / "S2" / "RS0001")
    del data.ReferencedFrameOfReferenceSequence
    data.save_as(folder / "S2" / "RS0001")
    of_no_series = read(folder / "S2" / "RS0001")
    assert of_no_series.drawn_on is None
    assert np.array_equal(of_no_series.volume.array, file.volume.array)


def test_a_keyhole_leaves_the_hole_open(tmp_path):
    drawn, study = drawn_phantom("thick slices"), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    ring = drawn.masks["Edema"]
    contours = []
    for k in range(ring.shape[2]):
        lines = sorted(outlines_of(ring, drawn.grid.affine, [k]), key=lambda line: -np.ptp(line, axis=0).max())
        contours += lines if len(lines) != 2 else [with_keyhole(*lines)]
    assert len(contours) < len(outlines_of(ring, drawn.grid.affine))
    study.write_contours(tmp_path / "rs.dcm", files, {"ring": contours})
    assert_read_back(read(tmp_path / "rs.dcm"), {"ring": ring}, drawn.grid)


def test_contours_on_every_second_slice_fill_slices_of_twice_the_thickness(tmp_path):
    """Thin sheets on a finer series would be half the tumour."""
    drawn, study = drawn_phantom("axial oblique"), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    core = drawn.masks["Neoplasm"] | drawn.masks["Necrosis"]
    outlines = outlines_of(core, drawn.grid.affine, range(1, core.shape[2], 2))
    study.write_contours(tmp_path / "rs.dcm", files, {"core": outlines})
    file = read(tmp_path / "rs.dcm")
    assert np.allclose(file.volume.grid.spacing, [1.5, 1.5, 5.0])
    found = file.segments[0].mask.sum() * file.volume.grid.voxel_volume_ml
    assert found == pytest.approx(core.sum() * drawn.grid.voxel_volume_ml, rel=0.05)


def test_a_slice_without_a_contour_stays_empty_and_is_said(tmp_path):
    drawn, study = drawn_phantom("thick slices"), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    core = drawn.masks["Neoplasm"] | drawn.masks["Necrosis"]
    middle = int(np.argwhere(core)[:, 2].mean())
    slices = [k for k in range(core.shape[2]) if k != middle]
    study.write_contours(tmp_path / "rs.dcm", files, {"core": outlines_of(core, drawn.grid.affine, slices)})
    file = read(tmp_path / "rs.dcm")
    expected = core.copy()
    expected[:, :, middle] = False
    assert_read_back(file, {"core": expected}, drawn.grid)
    said = "without a contour on slices between their first and their last, where nothing was filled: 'core'."
    assert said in file.warnings[0]


def test_a_contour_stored_twice_does_not_undo_itself_and_a_point_is_no_tumour(tmp_path):
    drawn, study = drawn_phantom("thick slices"), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    core = drawn.masks["Neoplasm"] | drawn.masks["Necrosis"]
    outlines = outlines_of(core, drawn.grid.affine)
    study.write_contours(tmp_path / "rs.dcm", files, {"core": [*outlines, outlines[0], outlines[1][:1]]})
    file = read(tmp_path / "rs.dcm")
    assert_read_back(file, {"core": core}, drawn.grid)
    assert file.warnings[0].startswith("1 points, open lines or contours of less than three points")


@pytest.mark.parametrize(
    "again",
    [
        lambda line: line,
        lambda line: line[::-1],
        lambda line: np.roll(line, 5, axis=0),
        lambda line: line + 0.01,
        lambda line: line[::2],
    ],
)
def test_a_contour_is_the_same_however_it_is_stored_again(tmp_path, again):
    """From another point, the other way round, rounded, with fewer points; of a ring, whose holes stay open."""
    drawn = drawn_phantom("thick slices")
    ring = drawn.masks["Edema"]
    outlines = outlines_of(ring, drawn.grid.affine)
    study, path = Study(), tmp_path / "rs.dcm"
    study.write_contours(path, [], {"ring": [*outlines, *map(again, outlines)]}, series=pydicom.uid.generate_uid())
    file = read(path, ImageFile(Volume(ring, drawn.grid), ""))
    assert_read_back(file, {"ring": ring}, drawn.grid)
    assert "with contours that are stored more than once, which were read once: 'ring'" in file.warnings[0]


def test_contours_that_cross_are_united_and_said(tmp_path):
    """Two lobes of one tumour with a hole in each; only a file that says XOR leaves out what they share."""
    drawn = drawn_phantom("thick slices")
    blank = np.zeros(drawn.grid.shape, dtype=bool)
    left, right, holes = blank.copy(), blank.copy(), blank.copy()
    left[20:50, 20:60, 8:12], right[40:70, 30:50, 8:12] = True, True
    holes[25:30, 25:30, 8:12], holes[55:60, 35:40, 8:12] = True, True
    contours = [line for mask in (holes, left, right) for line in outlines_of(mask, drawn.grid.affine)]
    study, path = Study(), tmp_path / "rs.dcm"
    study.write_contours(path, [], {"core": contours}, series=pydicom.uid.generate_uid())
    image = ImageFile(Volume(blank, drawn.grid), "")
    file = read(path, image)
    assert np.array_equal(file.segments[0].mask, (left | right) & ~holes)
    assert "with contours that cross on a slice, which were united: 'core'" in file.warnings[0]
    data = pydicom.dcmread(path)
    for contour in data.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "CLOSEDPLANAR_XOR"
    data.save_as(path)
    file = read(path, image)
    assert np.array_equal(file.segments[0].mask, (left ^ right) & ~holes)
    assert file.warnings == ()


def circle(row, column, radius):
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.stack([row + radius * np.cos(angle), column + radius * np.sin(angle)], axis=1)


def filled_on_a_slice(path, polygons, shape=(128, 128)):
    """What is read of contours on one slice, fractional indices of its pixels, and the warnings."""
    grid = Volume(np.zeros((*shape, 3), dtype=bool), Grid((*shape, 3), np.diag([0.9, 0.9, 3.0, 1.0])))
    lines = [grid.grid.to_ras(np.column_stack([polygon, np.ones(len(polygon))])) for polygon in polygons]
    Study().write_contours(path, [], {"core": lines}, series=pydicom.uid.generate_uid())
    file = read(path, ImageFile(grid, ""))
    return file.segments[0].mask[:, :, 1], file.warnings


@pytest.mark.parametrize("over", [0, 0.3, 1.5])
def test_a_hole_that_reaches_over_the_outline_stays_a_hole(tmp_path, over):
    """A cavity at the core's rim, drawn by hand; the lobe beside it, which it reaches into, stays one too."""
    core, hole, lobe = circle(64, 50, 30), circle(64, 65 + over, 15), circle(64, 100.2, 20)
    expected = inside(core, (128, 128)) & ~inside(hole, (128, 128))
    for contours, mask in (([core, hole], expected), ([hole, lobe, core], expected | inside(lobe, (128, 128)))):
        found, warnings = filled_on_a_slice(tmp_path / "rs.dcm", contours)
        assert np.array_equal(found, mask)
        assert [("reach over the outline" in one, "cross" in one) for one in warnings] == [(True, False)] * (over > 0)
    assert 2100 < expected.sum() < 2150


def test_many_holes_take_a_fill_each_and_are_compared_with_their_neighbours_only(tmp_path, monkeypatch):
    calls = {"inside": 0, "shared": 0}

    def counted(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(contours_module, "inside", counted("inside", inside))
    fill = contours_module._Fill
    monkeypatch.setattr(fill, "shared", counted("shared", fill.shared))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    centres = [(8 * row + 8, 8 * column + 8) for row in range(14) for column in range(14)]
    holes = [centre + 2.3 * corners for centre in np.array(centres)]
    found, warnings = filled_on_a_slice(tmp_path / "rs.dcm", [*holes, (63.5, 63.5) + 62.3 * corners])
    assert (found.sum(), warnings) == (124**2 - 196 * 25, ())
    assert calls["inside"] == 197
    assert calls["shared"] <= 197


@examples(40)
@given(st.lists(st.tuples(st.integers(-2, 26), st.integers(-2, 26), st.integers(2, 12)), min_size=2, max_size=7))
def test_contours_on_a_slice_are_combined_as_whole_slices_are(circles):
    """The slow twin, without boxes: every fill a whole slice, compared with all others."""
    polygons = [circle(*one) for one in circles]
    kept, told, bodies = [], set(), []
    for fill in sorted((inside(one, (24, 24)) for one in polygons), key=np.count_nonzero, reverse=True):
        if any((fill ^ one).sum() < 0.5 * contours_module._edge_length(one) for one in kept):
            told.add("repeated")
        elif fill.any():
            kept.append(fill)
    for fill in kept:
        around = [body for body in bodies if any((fill & ~one).sum() <= 0.25 * fill.sum() for one in body)]
        cut = np.logical_and.reduce([fill, *(np.logical_or.reduce(body) for body in around)])
        crossed = [
            body for body in bodies if not any(body is one for one in around) and any((cut & one).any() for one in body)
        ]
        told |= ({"over"} if (fill & ~cut).any() else set()) | ({"crossing"} if crossed else set())
        bodies = [body for body in bodies if not any(body is one for one in crossed)] + [
            [cut, *(one for body in crossed for one in body)]
        ]
    found_told = set()
    found = contours_module._combined(polygons, (24, 24), found_told)
    expected = np.zeros((24, 24), dtype=bool)
    for body in bodies:
        expected ^= np.logical_or.reduce(body)
    assert np.array_equal(found, expected)
    assert found_told == told


def test_structures_are_read_by_name_and_code(tmp_path):
    drawn, study = drawn_phantom("thick slices"), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    core, edema = drawn.masks["Neoplasm"] | drawn.masks["Necrosis"], drawn.masks["Edema"]
    outlines = {"GTV": outlines_of(core, drawn.grid.affine), "GTV2": outlines_of(edema, drawn.grid.affine)}
    path = tmp_path / "rs.dcm"
    study.write_contours(path, files, outlines)
    with pytest.raises(InputError, match=r"'GTV', 'GTV2'.*'GTV' alone does not say core.*--labels"):
        Patient.load(tmp_path / "S1", segmentation=path)
    patient = Patient.load(tmp_path / "S1", segmentation=path, labels="core=gtv/whole=gtv,gtv2")
    assert patient.core.array.sum() == core.sum()
    study.write_contours(path, files, outlines, codes={"GTV": NEOPLASM, "GTV2": EDEMA})
    patient = Patient.load(tmp_path / "S1", segmentation=path)
    assert patient.labels == "terminology codes: core=GTV/whole=GTV,GTV2"


@pytest.mark.slow
def test_another_frame_of_reference_is_refused(tmp_path):
    drawn, study = drawn_phantom("thick slices"), Study()
    files = study.write_series(tmp_path / "S1", drawn.image, drawn.grid.affine)
    outlines = {"whole": outlines_of(drawn.masks["Edema"], drawn.grid.affine)}
    other = Study(uid=study.uid)
    other.write_contours(tmp_path / "rs.dcm", files, outlines, series=pydicom.uid.generate_uid())
    with pytest.raises(InputError, match="segmentation lies in another frame of reference"):
        Patient.load(tmp_path / "S1", segmentation=tmp_path / "rs.dcm")


@pytest.mark.parametrize("said_by", ["structure", "reference", "file"])
def test_the_frame_of_reference_is_that_of_the_structures_before_all_others(tmp_path, said_by):
    """By it, contours of another scan are refused."""
    square = np.array([[0, 0, 0], [20, 0, 0], [20, 20, 0], [0, 20, 0]], dtype=float)
    study, (structure, reference, file) = Study(), (pydicom.uid.generate_uid() for _ in range(3))
    study.write_contours(tmp_path / "rs.dcm", [], {"core": [square]}, series=pydicom.uid.generate_uid())
    data = pydicom.dcmread(tmp_path / "rs.dcm")
    data.FrameOfReferenceUID = file
    data.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = reference
    data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = structure if said_by == "structure" else ""
    if said_by == "file":
        del data.ReferencedFrameOfReferenceSequence
    data.save_as(tmp_path / "rs.dcm")
    expected = {"structure": structure, "reference": reference, "file": file}[said_by]
    assert read(tmp_path / "rs.dcm").frame_of_reference == expected


def change_first(contours, change):
    return [change(contours[0]), *contours[1:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda contours: [], "no closed contours"),
        (lambda contours: [contours[0][:2]], "no closed contours"),
        (lambda contours: [np.repeat(contours[0][:1], 5, axis=0)], "enclose nothing"),
        (lambda contours: [contours[0], contours[3][:, [2, 0, 1]]], "not parallel"),
        (lambda contours: [contours[0], contours[0] + [0, 0, 5.0], contours[0] + [0, 0, 11.7]], "unevenly spaced"),
        (lambda contours: change_first(contours, lambda points: points * 1e6), "place that cannot be"),
    ],
)
def test_contours_that_cannot_be_are_refused(tmp_path, change, said):
    square = np.array([[0, 0, 0], [20, 0, 0], [20, 20, 0], [0, 20, 0]], dtype=float)
    contours = [square + np.array([0, 0, 5.0 * k]) for k in range(4)]
    study = Study()
    study.write_contours(tmp_path / "rs.dcm", [], {"core": change(contours)}, series=pydicom.uid.generate_uid())
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path / "rs.dcm")
    assert "\n" not in str(caught.value)


@examples(60)
@given(st.lists(st.tuples(st.integers(-20, 140), st.integers(-20, 140)), min_size=3, max_size=12))
def test_the_even_odd_rule_is_that_of_a_point_by_point_count(corners):
    """Against matplotlib's polygons for simple shapes, and a count of crossings for any."""
    polygon = np.array(corners) / 8 + 1 / 16
    shape = (13, 11)
    found = inside(polygon, shape)
    for i, j in np.ndindex(shape):
        crossings = 0
        for a, b in zip(polygon, np.roll(polygon, -1, axis=0)):
            if (a[0] <= i) != (b[0] <= i):
                crossings += a[1] + (i - a[0]) / (b[0] - a[0]) * (b[1] - a[1]) <= j
        assert found[i, j] == crossings % 2
    square = np.array([[1.5, 1.5], [9.5, 1.5], [9.5, 8.5], [1.5, 8.5]])
    by_other = Polygon(square).contains_points(np.argwhere(np.ones(shape))).reshape(shape)
    assert np.array_equal(inside(square, shape), by_other)
