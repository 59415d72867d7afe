"""A result.json written by hand and the files beside it: what the module makes of them, without a run."""

import copy
import re

import numpy as np
import pytest
import slicer
from known_result import CONTENT, DENSITIES, assimilated
from test_overlay import dice

pytestmark = pytest.mark.slow


def where_the_match_is_better():
    content = copy.deepcopy(CONTENT)
    content["estimates"]["match"]["density"] = "density.nrrd"
    content["estimates"]["refined"]["density"] = "density_refined.nrrd"
    return content | {"chosen": "match"}


def without_refinement():
    content = where_the_match_is_better()
    del content["estimates"]["refined"]
    return content


def table(panel):
    model = panel.ui.matchesTableView.model()
    return [
        [model.data(model.index(row, column)) for column in range(model.columnCount())]
        for row in range(model.rowCount())
    ]


def click_row(panel, row):
    view = panel.ui.matchesTableView
    view.clicked.emit(view.model().index(row, 0))


def selected(panel):
    return [index.row() for index in panel.ui.matchesTableView.selectionModel().selectedRows()]


def shown_density(nodes):
    return slicer.util.arrayFromVolume(nodes.density)


def test_the_chosen_estimate_is_shown_first(panel, take):
    nodes = take(CONTENT)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["refined"])
    assert nodes.shown == "refined"
    assert nodes.chosen["fit"]["dice_core"] == 0.92
    rows = table(panel)
    assert [row[0] for row in rows] == ["refined", "1", "2"]
    assert [row[1] for row in rows] == ["0.92", "0.70", "0.60"]
    assert [row[2] for row in rows] == ["0.93", "0.80", "0.70"]
    assert [row[3] for row in rows] == ["2.5, 1.5", "3.0", "4.0"]  # one for each focus
    assert selected(panel) == [0]
    for region, threshold in (("core", 0.6), ("whole", 0.2)):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.isolines, region, nodes.density) > 0
        assert dice(mask, DENSITIES["refined"] > threshold) == 1


def test_the_summary_speaks_of_what_is_shown(panel, take):
    nodes = take(CONTENT)
    lines = panel.ui.resultSummaryLabel.text.split("<br>")
    assert lines[0] == "<b>Refined from the best matches</b>"
    assert lines[1] == (
        "The modeled outlines agree well with the segmentation: "
        "overlap (Dice) 0.92 of the core, 0.93 of the whole tumor."
    )
    whole = np.count_nonzero(DENSITIES["refined"] > 0.2) / 1000  # ml; voxels of 1 mm
    assert f"Whole tumor {whole:.0f} ml (segmented 4 ml)" in lines
    assert [line for line in lines if line.startswith("Beyond")] == [
        f"Beyond the visible edge the density falls to about a third over {length} mm of white matter."
        for length in (2.5, 1.5)
    ]
    assert not re.search(r"rho|prolif|infiltration", " ".join(lines), re.IGNORECASE)
    assert lines[-1] == "Note: The core is small."
    assert nodes.content["chosen"] == "refined"


def test_a_warning_is_shown_as_text_and_no_markup(panel, take):
    take({**CONTENT, "warnings": ["In <a folder> & a file."]})
    assert panel.ui.resultSummaryLabel.text.endswith("<br>Note: In &lt;a folder&gt; &amp; a file.")


@pytest.mark.parametrize("content", [where_the_match_is_better(), without_refinement()], ids=["worse", "none"])
def test_a_match_that_was_chosen_is_not_called_refined(panel, take, content):
    nodes = take(content)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["match"])
    assert nodes.shown == 0
    names = [row[0] for row in table(panel)]
    assert names == (["refined", "1", "2"] if "refined" in content["estimates"] else ["1", "2"])
    assert [names[row] for row in selected(panel)] == ["1"]
    lines = panel.ui.resultSummaryLabel.text.split("<br>")
    assert lines[:2] == [
        "<b>Match 1 of 2</b>",
        "The modeled outlines agree fairly with the segmentation: "
        "overlap (Dice) 0.61 of the core, 0.71 of the whole tumor.",
    ]


def test_an_estimate_comes_back_without_a_run(panel, take):
    nodes = take(where_the_match_is_better())
    click_row(panel, 0)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["refined"])
    assert nodes.shown == "refined"
    assert selected(panel) == [0]
    assert panel.ui.resultSummaryLabel.text.startswith("<b>Refined")


def test_a_density_that_was_removed_is_told(panel, take):
    nodes = take(where_the_match_is_better())
    slicer.mrmlScene.RemoveNode(nodes.kept("refined"))
    click_row(panel, 0)
    assert "removed from the scene" in panel.ui.statusLabel.text
    assert nodes.shown == 0


def test_a_row_clicked_without_isolines_changes_nothing(panel, take):
    nodes = take(where_the_match_is_better())
    slicer.mrmlScene.RemoveNode(nodes.isolines)
    before = shown_density(nodes).copy()
    click_row(panel, 0)
    assert "removed from the scene" in panel.ui.statusLabel.text
    np.testing.assert_array_equal(shown_density(nodes), before)
    assert nodes.shown == 0


def test_what_an_earlier_result_kept_goes_with_it(take):
    count = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    take(CONTENT)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count + 3  # the picture too
    nodes = take(without_refinement())
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count + 2
    assert nodes.kept("refined") is None


def test_what_a_removed_density_had_kept_goes_with_the_next_result(take):
    names = sorted(node.GetName() for node in volumes_of(take(assimilated())))
    kept = slicer.mrmlScene.GetFirstNodeByName("T1Gd tumor cell density refined")
    copied = slicer.mrmlScene.AddNode(kept.NewInstance())
    copied.Copy(kept)
    copied.SetName(f"{kept.GetName()} Copy")  # as Slicer's Data module clones
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByName("T1Gd tumor cell density"))
    left = volumes_of(take(assimilated()))
    assert sorted(node.GetName() for node in left if node is not copied) == names
    assert copied in left  # the user's


def volumes_of(nodes):
    """All volumes that runs have made."""
    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in found if node.GetAttribute("TumorQuery.Result")]


MOVED = np.array([[0.8, -0.6, 0, 30.0], [0.6, 0.8, 0, -10.0], [0, 0, 1, 5.0], [0, 0, 0, 1]])


def place_of(node):
    """Where the voxels of a volume lie in the world, shape (4, 4)."""
    import vtk

    from TumorQueryModule.ResultNodes import matrixOf

    matrix, parent = vtk.vtkMatrix4x4(), node.GetParentTransformNode()
    if parent is not None:
        parent.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix) @ matrixOf(node)


def test_a_t1gd_that_was_hardened_during_the_run_has_its_result_on_it(panel, take):
    t1gd = panel.widget._parameterNode.t1gdVolume
    move = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    slicer.util.updateTransformMatrixFromArray(move, MOVED)
    t1gd.SetAndObserveTransformNodeID(move.GetID())
    t1gd.HardenTransform()  # the files are those of the frame below the transform
    nodes = take(assimilated())
    for node in (nodes.density, nodes.kept("refined")):
        np.testing.assert_allclose(place_of(node), place_of(t1gd), atol=1e-6)
    assert nodes.isolines.GetParentTransformNode() is move
    assert nodes.atlasToPatient.GetParentTransformNode() is move
    assert slicer.util.arrayFromSegmentBinaryLabelmap(nodes.isolines, "whole", t1gd).any()
    t1gd.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.eye(4)))
    assert take(assimilated()).density.GetParentTransformNode() is None


@pytest.mark.parametrize("change", ["moved", "cropped", "emptied"])
def test_a_t1gd_that_was_changed_during_the_run_gets_no_result(panel, take, change):
    t1gd = panel.widget._parameterNode.t1gdVolume
    nodes = take(CONTENT)
    before = shown_density(nodes).copy(), nodes.report.GetText(), len(volumes_of(nodes))
    if change == "moved":
        t1gd.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(MOVED))
    elif change == "cropped":
        slicer.util.updateVolumeFromArray(t1gd, np.ones((5, 6, 7), np.float32))
    else:
        t1gd.SetAndObserveImageData(None)
    with pytest.raises(ValueError, match="T1Gd got another geometry while the run was under way"):
        take(assimilated())
    np.testing.assert_array_equal(shown_density(nodes), before[0])
    assert (nodes.report.GetText(), len(volumes_of(nodes))) == before[1:]
