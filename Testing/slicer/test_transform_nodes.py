"""Landmarks go through the transform nodes as they go through SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

POINTS = np.array([[0.0, 0.0, 0.0], [20.0, -15.0, 10.0], [-30.0, 25.0, -12.0]])  # RAS mm


@pytest.fixture
def itk_transform(tmp_path):
    """An affine map after a smooth displacement, as a registration gives it, and its file."""
    grid = sitk.Image(40, 44, 48, sitk.sitkFloat32)
    grid.SetSpacing((4.0, 4.0, 4.0))
    grid.SetOrigin((-80.0, -88.0, -96.0))
    index = np.stack(np.indices((48, 44, 40))[::-1], axis=-1)
    field = 5.0 * np.sin(index / 9.0) * np.array([1.0, -0.6, 0.8])
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.CopyInformation(grid)
    affine = sitk.AffineTransform(3)
    affine.Rotate(0, 1, 0.2)
    affine.Rotate(1, 2, -0.1)
    affine.Scale((1.1, 0.95, 1.03))
    affine.Translate((7.0, -4.0, 11.0))
    composite = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(image)])
    path = tmp_path / "größer patient_to_atlas.h5"
    sitk.WriteTransform(composite, str(path))
    return sitk.ReadTransform(str(path)), path


def through_itk(transform, points):
    flip = np.array([-1.0, -1.0, 1.0])  # RAS to LPS
    return np.array([flip * transform.TransformPoint((flip * point).tolist()) for point in points])


def through_node(transform, points):
    return np.array([transform.TransformPoint(point.tolist()) for point in points])


def test_a_file_of_the_worker_is_the_transform_from_parent(running, itk_transform):
    from TumorQueryModule.ResultNodes import readTransform, writeTransform

    itk, path = itk_transform
    read = readTransform(path)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Atlas to patient")
    node.SetAndObserveTransformFromParent(read.GetTransformFromParent())
    expected = through_itk(itk, POINTS)
    np.testing.assert_allclose(through_node(node.GetTransformFromParent(), POINTS), expected, atol=1e-2)
    np.testing.assert_allclose(through_node(node.GetTransformToParent(), expected), POINTS, atol=1e-2)

    # what the module writes for the worker is the same map again
    written = path.with_name("written.h5")
    writeTransform(node, written)
    np.testing.assert_allclose(through_itk(sitk.ReadTransform(str(written)), POINTS), expected, atol=1e-2)

    scene = path.with_name("scene.mrb")
    assert slicer.util.saveScene(str(scene))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(scene))
    restored = slicer.util.getNode("Atlas to patient")
    np.testing.assert_allclose(through_node(restored.GetTransformFromParent(), POINTS), expected, atol=1e-2)


def test_a_volume_under_the_node_comes_to_lie_where_simpleitk_resamples_it(running, itk_transform):
    from TumorQueryModule.ResultNodes import readTransform

    itk, path = itk_transform
    ijk_to_ras = np.diag([-2.0, -2.0, 2.0, 1.0])
    ijk_to_ras[:3, 3] = (60.0, 60.0, -60.0)
    k, j, i = np.indices((60, 60, 60))
    points = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ ijk_to_ras.T[:, :3]
    ball = (np.linalg.norm(points - (10.0, -5.0, 12.0), axis=-1) < 25).astype(np.float32)
    atlas_volume = slicer.util.addVolumeFromArray(ball, ijkToRAS=ijk_to_ras, name="atlas")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformFromParent(readTransform(path).GetTransformFromParent())
    atlas_volume.SetAndObserveTransformNodeID(node.GetID())
    atlas_volume.HardenTransform()

    image = sitk.GetImageFromArray(ball)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-60.0, -60.0, -60.0))
    hardened = slicer.util.arrayFromVolume(atlas_volume)
    reference = sitk.GetImageFromArray(np.zeros_like(hardened))
    reference.SetSpacing(atlas_volume.GetSpacing())
    corner = atlas_volume.GetOrigin()
    reference.SetOrigin((-corner[0], -corner[1], corner[2]))
    expected = sitk.GetArrayFromImage(sitk.Resample(image, reference, itk, sitk.sitkLinear, 0.0))
    inside = expected > 0.5
    assert np.count_nonzero(inside) > 5000
    overlap = 2 * np.count_nonzero(inside & (hardened > 0.5)) / (np.count_nonzero(inside) + (hardened > 0.5).sum())
    assert overlap > 0.99
