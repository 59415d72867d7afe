"""What the views show, as pixels: the density on the tumour, its colours, opacity and threshold, in any geometry."""

import numpy as np
import pytest
import slicer
import vtk

CENTER = np.array([18.0, -25.0, 12.0])  # of the tumour, RAS mm
SHAPE = (50, 60, 70)  # k, j, i
THRESHOLD = 0.2
OPACITY = 0.6


def rotation(degrees, axis):
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(degrees, *axis)
    return np.array([[transform.GetMatrix().GetElement(row, column) for column in range(3)] for row in range(3)])


def geometry(directions, spacing):
    """IJK to RAS of a volume in the middle of which RAS (10, -20, 5) lies."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions * np.array(spacing)
    matrix[:3, 3] = np.array([10.0, -20.0, 5.0]) - matrix[:3, :3] @ (np.array(SHAPE[::-1]) / 2)
    return matrix


FLIPPED = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # sagittal slices, two axes reversed
GEOMETRIES = {
    "plain": (geometry(np.diag([-1.0, -1.0, 1.0]), (1.5, 1.5, 1.5)), None),
    "flipped": (geometry(FLIPPED, (1.5, 1.5, 1.5)), None),
    "left-handed": (geometry(np.diag([1.0, -1.0, 1.0]), (1.5, 1.5, 1.5)), None),
    "anisotropic": (geometry(np.diag([-1.0, 1.0, 1.0]), (1.2, 1.2, 3.0)), None),
    "oblique": (geometry(rotation(25, (1, 2, 3)), (1.5, 1.5, 1.5)), None),
    "parent transform": (geometry(np.diag([-1.0, -1.0, 1.0]), (1.5, 1.5, 1.5)), rotation(20, (3, 1, 2))),
    "oblique and flipped under a transform": (
        geometry(rotation(-20, (2, 1, 0)) @ FLIPPED, (1.5, 1.3, 1.7)),
        rotation(15, (0, 1, 1)),
    ),
}


def density_at(points):
    """The true density at points (..., 3), RAS mm: an ellipsoid that fades out."""
    distance = np.linalg.norm((points - CENTER) / np.array([1.0, 1.4, 0.8]), axis=-1)
    return np.clip(1.2 - distance / 20.0, 0.0, 1.0)


def world_points(ijk_to_world):
    k, j, i = np.indices(SHAPE)
    return np.stack([i, j, k, np.ones_like(i)], axis=-1) @ ijk_to_world.T[:, :3]


HARDEST = ["oblique and flipped under a transform"]


@pytest.fixture
def nodes(request, running, rendering):
    """A T1Gd image and a density on its grid, which lies on the tumour at the same place in every geometry."""
    from TumorQueryModule import Overlay

    ijk_to_ras, turn = GEOMETRIES[request.param]
    parent = np.eye(4)
    transform = None
    if turn is not None:
        parent[:3, :3], parent[:3, 3] = turn, (6.0, -4.0, 9.0)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "parent")
        slicer.util.updateTransformMatrixFromArray(transform, parent)
    points = world_points(parent @ ijk_to_ras)
    head = np.linalg.norm((points - np.array([10.0, -20.0, 5.0])) / np.array([40.0, 45.0, 35.0]), axis=-1) < 1
    t1gd = slicer.util.addVolumeFromArray((60.0 * head).astype(np.float32), ijkToRAS=ijk_to_ras, name="T1Gd")
    density = slicer.util.addVolumeFromArray(
        density_at(points).astype(np.float32), ijkToRAS=ijk_to_ras, name="Dichte ü 密度"
    )
    for node in (t1gd, density):
        node.CreateDefaultDisplayNodes()
        if transform is not None:
            node.SetAndObserveTransformNodeID(transform.GetID())
    t1gd.GetDisplayNode().AutoWindowLevelOff()
    t1gd.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    Overlay.setUpDensityDisplay(density)
    Overlay.setThreshold(density, THRESHOLD)
    Overlay.showInSliceViews(t1gd, density, OPACITY)
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        legend.SetVisibility(False)  # it covers pixels
    return t1gd, density


def is_coloured(pixels):
    spread = pixels.max(axis=-1).astype(int) - pixels.min(axis=-1)
    return spread > 25


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("nodes", GEOMETRIES, indirect=True)
def test_the_overlay_lies_on_the_tumour_in_every_view(nodes, running):
    for name, view in running.views.items():
        coloured = is_coloured(view.pixels())
        expected = density_at(view.ras_of_pixels()) > THRESHOLD
        assert np.count_nonzero(expected) > 1000, f"the {name} view was not moved to the tumour"
        assert dice(coloured, expected) > 0.95, f"{name}: {dice(coloured, expected)}"
        nearest = np.linalg.norm(view.ras_of_pixels() - CENTER, axis=-1).min()
        assert nearest < 2.0, f"the {name} view passes the middle of the tumour by {nearest} mm"


@pytest.mark.parametrize("nodes", ["plain", *HARDEST], indirect=True)
def test_colours_blend_the_table_with_the_image(nodes, running):
    _, density = nodes
    table = density.GetDisplayNode().GetColorNode().GetLookupTable()
    view = running.views["Red"]
    pixels, points = view.pixels(), view.ras_of_pixels()
    truth = density_at(points)
    for level in (0.35, 0.6, 0.9):
        # inside the head, whose grey is 60 % of white
        row, column = np.argwhere(np.abs(truth - level) < 0.01)[0]
        colour = table.GetTableValue(round(255 * truth[row, column]))[:3]
        expected = OPACITY * 255 * np.array(colour) + (1 - OPACITY) * 0.6 * 255
        np.testing.assert_allclose(pixels[row, column], expected, atol=14)


@pytest.mark.parametrize("nodes", HARDEST, indirect=True)
def test_opacity_and_threshold_change_what_is_seen(nodes, running):
    from TumorQueryModule import Overlay

    _, density = nodes
    view = running.views["Red"]
    Overlay.setThreshold(density, 0.7)
    assert dice(is_coloured(view.pixels()), density_at(view.ras_of_pixels()) > 0.7) > 0.93
    Overlay.setOpacity(density, 0.0)
    assert not is_coloured(view.pixels()).any()


@pytest.mark.parametrize("nodes", ["plain", "oblique", *HARDEST], indirect=True)
def test_isolines_and_surfaces_enclose_the_tumour(nodes, running):
    from TumorQueryModule import Overlay

    _, density = nodes
    isolines = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "isolines")
    if density.GetParentTransformNode() is not None:
        isolines.SetAndObserveTransformNodeID(density.GetParentTransformNode().GetID())
    thresholds = {"whole": 0.2, "core": 0.6}
    masks = {region: Overlay.maskAbove(density, value) for region, value in thresholds.items()}
    Overlay.setIsolines(isolines, density, thresholds, masks)
    Overlay.setOpacity(density, 0.0)
    view = running.views["Red"]
    points = view.ras_of_pixels()
    lines = is_coloured(view.pixels())
    distance = np.minimum(np.abs(density_at(points) - 0.2), np.abs(density_at(points) - 0.6))
    assert np.count_nonzero(lines) > 100
    assert np.quantile(distance[lines], 0.95) < 0.12  # a line of three pixels, on voxels of up to 3 mm

    without = running.three_d_view.pixels()
    Overlay.setSurfacesVisible(isolines, True)
    running.three_d_view.fit()
    assert np.count_nonzero(np.abs(running.three_d_view.pixels().astype(int) - without) > 30) > 1000
    bounds = np.zeros(6)
    isolines.GetRASBounds(bounds)
    np.testing.assert_allclose((bounds[::2] + bounds[1::2]) / 2, CENTER, atol=3.0)
