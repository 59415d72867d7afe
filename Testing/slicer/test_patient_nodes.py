"""A patient's nodes on their way to the worker: where the segmentation lies, and what is refused before a run."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

SHAPE = (60, 40, 40)  # k, j, i, in voxels of 1 mm
TUMOR = (slice(20, 55), slice(10, 30), slice(10, 30))
ROTATED = np.array([[0.8, -0.6, 0, 25.0], [0.6, 0.8, 0, -40.0], [0, 0, 1, 12.0], [0, 0, 0, 1]])
SHEARED = np.array([[1, 0.3, 0, 60.0], [0, 1.1, 0.2, -5.0], [0, 0, 1, 30.0], [0, 0, 0, 1]])


def volume(shape, spacing=1.0, name="T1Gd"):
    array = np.random.default_rng(1).uniform(1, 2, shape).astype(np.float32)
    return slicer.util.addVolumeFromArray(array, np.diag([spacing] * 3 + [1.0]), name=name)


def patient(segmentation, chosen=None, **nodes):
    from TumorQueryModule.PatientNodes import PatientNodes, segmentIDs

    whole = tuple(segmentIDs(segmentation) if chosen is None else chosen)
    return PatientNodes(segmentation=segmentation, wholeSegmentIDs=whole, **nodes)


def segments(reference, *names):
    """A segmentation of empty segments, drawn on a volume where one is given."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumor")
    if reference is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, f"{name} by name")
    return node


def drawn(reference, array=None):
    """A segmentation with the tumor, drawn on a volume."""
    node = segments(reference, "whole")
    if array is None:
        array = np.zeros(SHAPE, np.uint8)
        array[TUMOR] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "whole", reference)
    return node


def from_file(folder):
    """The same as a file of another tool, which names no image."""
    array = np.zeros(SHAPE, np.uint8)
    array[TUMOR] = 1
    image = sitk.GetImageFromArray(array)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # RAS
    sitk.WriteImage(image, str(folder / "seg.nii.gz"))
    return slicer.util.loadSegmentation(str(folder / "seg.nii.gz"))


def written(nodes, folder):
    """The worker's arguments, the mask of the whole tumor, and its volume in ml."""
    *_steps, arguments = nodes.write(folder)
    mask = sitk.ReadImage(arguments["whole"])
    return arguments, mask, sitk.GetArrayFromImage(mask).sum() * np.prod(mask.GetSpacing()) / 1000


def center_of(mask):
    """The middle of a mask, RAS mm."""
    index = np.argwhere(sitk.GetArrayFromImage(mask)).mean(axis=0)[::-1]
    return np.array(mask.TransformContinuousIndexToPhysicalPoint(index.tolist())) * [-1, -1, 1]


def put_under(matrix, *nodes):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def through(matrix, point):
    return (matrix @ [*point, 1])[:3]


CENTER = [19.5, 19.5, 37.0]  # of the tumor, RAS mm
VOLUME = 14.0


@pytest.mark.parametrize("source", ["the FLAIR", "a file", "the T1Gd"])
def test_a_tumor_beyond_the_t1gd_reaches_the_library_whole(running, tmp_path, source):
    from TumorQueryLib import Patient

    t1gd, flair = volume((20, 20, 20), 2.0), volume(SHAPE, name="FLAIR")
    node = from_file(tmp_path) if source == "a file" else drawn(flair)
    if source == "the T1Gd":
        node.SetReferenceImageGeometryParameterFromVolumeNode(t1gd)
    arguments, mask, size = written(patient(node, t1gd=t1gd, flair=flair), tmp_path)
    assert size == pytest.approx(VOLUME)
    np.testing.assert_allclose(center_of(mask), CENTER, atol=0.51)  # voxels of the T1Gd lie half a voxel aside
    expected = {"the FLAIR": "flair", "a file": None, "the T1Gd": "t1gd"}[source]
    assert arguments["segmentation_on"] == expected
    files = {role: arguments[role] for role in ("t1gd", "flair", "whole")}
    read = Patient.load(**files, segmentation_on=expected)
    assert any("beyond the edge of the T1Gd" in warning for warning in read.warnings)
    assert read.drawn_on["whole"] == ("t1gd" if source == "the T1Gd" else "flair")


def test_a_tumor_within_its_image_is_written_on_that_images_voxels(running, tmp_path):
    t1gd = volume(SHAPE)
    _arguments, mask, size = written(patient(drawn(t1gd), t1gd=t1gd), tmp_path)
    assert (mask.GetSize(), mask.GetSpacing(), size) == (SHAPE[::-1], (1, 1, 1), pytest.approx(VOLUME))


@pytest.mark.parametrize("matrix", [ROTATED, SHEARED], ids=["rotated", "sheared"])
def test_an_image_under_a_transform_of_its_own_brings_its_segmentation(running, tmp_path, matrix):
    t1gd, flair = volume((20, 20, 20), 2.0), volume(SHAPE, name="FLAIR")
    node = drawn(flair)
    put_under(matrix, flair, node)
    put_under(np.linalg.inv(ROTATED), t1gd)
    inner = np.pad(slicer.util.arrayFromVolume(flair)[1:-1, 1:-1, 1:-1], 1)
    slicer.util.updateVolumeFromArray(flair, inner)
    arguments, mask, size = written(patient(node, t1gd=t1gd, flair=flair), tmp_path)
    assert arguments["segmentation_on"] == "flair"
    assert size == pytest.approx(VOLUME * np.linalg.det(matrix), rel=0.03)
    np.testing.assert_allclose(center_of(mask), through(ROTATED @ matrix, CENTER), atol=0.3)
    image = sitk.GetArrayFromImage(sitk.ReadImage(arguments["flair"])) > 0.5
    assert image.sum() == pytest.approx(np.count_nonzero(inner) * np.linalg.det(matrix), rel=0.05)


def test_a_segmentation_sheared_for_good_is_written_with_right_angles(running, tmp_path):
    t1gd = volume(SHAPE)
    node = drawn(t1gd)
    put_under(SHEARED, node)
    node.HardenTransform()
    _arguments, mask, size = written(patient(node, t1gd=t1gd), tmp_path)
    assert size == pytest.approx(VOLUME * 1.1, rel=0.03)
    np.testing.assert_allclose(center_of(mask), through(SHEARED, CENTER), atol=0.3)


def test_segments_that_are_not_there_are_named(running, tmp_path):
    t1gd = volume(SHAPE)
    nodes = patient(drawn(t1gd), ["whole", "gone"], t1gd=t1gd)
    sentence = nodes.missing()["wholeSegments"]
    assert "Tumor has no segment with the ID gone" in sentence
    assert "whole (whole by name)" in sentence
    with pytest.raises(ValueError, match="ID gone"):
        next(nodes.write(tmp_path))
    assert list(tmp_path.iterdir()) == [tmp_path / "tmp ümläut"]


def test_empty_segments_are_a_sentence(running, tmp_path):
    t1gd = volume(SHAPE)
    with pytest.raises(ValueError, match=r"The segments whole by name of Tumor are empty"):
        list(patient(segments(t1gd, "whole"), t1gd=t1gd).write(tmp_path))


def colored(name):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", name)
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    return node


def test_an_image_of_colors_is_no_t1gd(running):
    from TumorQueryModule.PatientNodes import T1GD_PATTERN, PatientNodes, volumeOfName

    picture = colored("T1 post Gd screen save")
    assert volumeOfName(T1GD_PATTERN) is None
    assert "no image of gray values" in PatientNodes(t1gd=picture).missing()["t1gd"]
    maps = {"whiteMatter": picture, "greyMatter": volume(SHAPE, name="GM"), "csf": volume(SHAPE, name="CSF")}
    assert "no image of gray values" in PatientNodes(t1gd=volume(SHAPE, name="MR"), **maps).missing()["tissueMaps"]
    t1gd = volume(SHAPE, name="T1 post Gd ax")
    assert volumeOfName(T1GD_PATTERN) is t1gd


def test_an_image_is_one_input(running):
    from TumorQueryModule.PatientNodes import PatientNodes

    image, other = volume(SHAPE), volume(SHAPE)
    maps = {"whiteMatter": image, "greyMatter": other, "csf": other}
    missing = PatientNodes(t1gd=image, flair=image, t1=other, **maps).missing()
    assert {name for name, text in missing.items() if "another input" in text} == {"flair", "tissueMaps"}
