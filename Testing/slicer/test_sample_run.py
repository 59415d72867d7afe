"""The sample case through the panel: one real run of the real worker, and everything that is done with its result.

The tests share the run and its scene, and follow each other as a user's steps do.
"""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import vtk
from harness.driving import Guard, child_processes, click, process_events, wait_until
from test_overlay import dice, is_coloured

TIMEOUT = 600

pytestmark = pytest.mark.slow


def is_idle(panel):
    return panel.widget._run.state.value == "idle"


def status(panel):
    return lambda: f"{panel.ui.statusLabel.text}\n{panel.ui.logTextEdit.plainText}"


def wait_for_the_end(panel):
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    assert panel.ui.statusLabel.text == "Done.", status(panel)()


@pytest.fixture(scope="module")
def sample(python_slicer, tmp_path_factory):
    """The panel after a click on the sample and one on Run."""
    from harness.application import Panel, Slicer

    folder = tmp_path_factory.mktemp("tmp ümläut")
    with pytest.MonkeyPatch.context() as patch, Guard(folder) as guard:
        patch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
        running = Slicer()
        import TumorQuery

        panel = Panel(TumorQuery, "TumorQuery")
        panel.parent.resize(480, 1300)
        panel.parent.show()
        click(panel.ui.loadSampleButton)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
        t1gd = panel.widget._parameterNode.t1gdVolume
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(t1gd), study)

        import qt

        seen = SimpleNamespace(ticks=0, messages=[], values=[])

        def look():
            seen.ticks += 1
            if panel.ui.statusLabel.text not in seen.messages[-1:]:
                seen.messages.append(panel.ui.statusLabel.text)
                seen.values.append(panel.ui.progressBar.value)

        timer = qt.QTimer()
        timer.setInterval(20)
        timer.connect("timeout()", look)
        timer.start()
        click(panel.ui.uncertaintyCheckBox)
        click(panel.ui.applyButton)
        wait_for_the_end(panel)
        timer.stop()
        yield SimpleNamespace(
            panel=panel,
            running=running,
            guard=guard,
            study=study,
            seen=seen,
            segmentation=panel.widget._parameterNode.segmentation,
        )
        panel.close()
        running.close()
        guard.check()
        assert not running.dialogs.shown


@pytest.fixture
def result(sample):
    """The nodes of the shown result; panel and views are those of the sample."""
    return sample.panel.widget._parameterNode.result()


def segmented(sample, result):
    """Core and whole tumour of the given segmentation on the density's voxels."""
    node = sample.segmentation
    names = {"core": [], "whole": []}
    from TumorQueryModule.PatientNodes import segmentIDs, suggestSegments

    names["core"], names["whole"] = suggestSegments(node)
    assert set(names["whole"]) == set(segmentIDs(node))
    return {
        region: np.any(
            [slicer.util.arrayFromSegmentBinaryLabelmap(node, name, result.density) > 0 for name in chosen], axis=0
        )
        for region, chosen in names.items()
    }


def test_the_panel_stayed_alive_and_told_what_it_did(sample):
    assert sample.seen.ticks > 100
    assert len(sample.seen.messages) >= 5
    assert sample.seen.values[:-1] == sorted(sample.seen.values[:-1])
    assert sample.panel.ui.progressBar.value == 100
    assert not sample.panel.ui.cancelButton.enabled
    assert sample.panel.ui.applyButton.enabled


def test_the_density_lies_on_the_segmented_tumour(sample, result):
    t1gd = sample.panel.widget._parameterNode.t1gdVolume
    density = slicer.util.arrayFromVolume(result.density)
    assert density.shape == slicer.util.arrayFromVolume(t1gd).shape
    assert density.dtype == np.float32
    assert 0 <= density.min() <= 0.01
    assert 0.6 < density.max() <= 1
    for row in range(4):
        for column in range(4):
            matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
            for node, matrix in zip((t1gd, result.density), matrices, strict=True):
                node.GetIJKToRASMatrix(matrix)
            assert matrices[0].GetElement(row, column) == pytest.approx(matrices[1].GetElement(row, column), abs=1e-4)
    truth = segmented(sample, result)
    told = result.chosen["fit"]
    assert dice(density > 0.2, truth["whole"]) > 0.7
    assert dice(density > 0.2, truth["whole"]) == pytest.approx(told["dice_whole"], abs=0.01)
    assert dice(density > 0.6, truth["core"]) == pytest.approx(told["dice_core"], abs=0.01)


def test_the_nodes_are_named_placed_and_described(sample, result):
    t1gd = sample.panel.widget._parameterNode.t1gdVolume
    assert t1gd.GetName() in result.density.GetName()
    assert result.density.GetVoxelValueUnits().GetCodeMeaning()
    assert result.density.GetDisplayNode().GetColorNode().GetName() == "TumorQuery density"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    for node in (result.density, result.isolines, result.matches, result.atlasToPatient, result.patientToAtlas):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == sample.study, node.GetName()
    assert "atlas" in result.atlasToPatient.GetDescription()
    for node in slicer.util.getNodesByClass("vtkMRMLStorageNode"):
        assert str(sample.guard.folder / "TumorQuery") not in (node.GetFileName() or ""), node.GetFileName()


def test_transforms_carry_the_seed_between_atlas_and_patient(result):
    for match in result.content["query"]["matches"][:5]:
        atlas, patient = match["parameters"]["seed_mm"], match["parameters"]["seed_patient_mm"]
        for node, start, end in ((result.atlasToPatient, atlas, patient), (result.patientToAtlas, patient, atlas)):
            moved = node.GetTransformToParent().TransformPoint(start)
            np.testing.assert_allclose(moved, end, atol=1.0)


def test_the_overlay_is_seen_on_the_tumour(sample, result, rendering, tmp_path):
    sample.panel.widget._parameterNode.showOutlines = False
    sample.segmentation.GetDisplayNode().SetVisibility(False)
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        legend.SetVisibility(False)
    threshold = sample.panel.widget._parameterNode.overlayThreshold
    ras_to_ijk = vtk.vtkMatrix4x4()
    result.density.GetRASToIJKMatrix(ras_to_ijk)
    ras_to_ijk = np.array([[ras_to_ijk.GetElement(row, column) for column in range(4)] for row in range(4)])
    density = slicer.util.arrayFromVolume(result.density)
    for name, view in sample.running.views.items():
        points = view.ras_of_pixels()
        ijk = np.rint(points @ ras_to_ijk[:3, :3].T + ras_to_ijk[:3, 3]).astype(int)
        inside = np.all((ijk >= 0) & (ijk < density.shape[::-1]), axis=-1)
        i, j, k = np.moveaxis(np.where(inside[..., None], ijk, 0), -1, 0)
        expected = inside & (density[k, j, i] > threshold)
        coloured = is_coloured(view.grab(tmp_path / f"{name}.png"))
        assert np.count_nonzero(expected) > 1000
        assert dice(coloured, expected) > 0.9, f"{name}: {dice(coloured, expected)}"


def test_opacity_threshold_and_colours_follow_the_panel(sample, result, rendering):
    ui, view = sample.panel.ui, sample.running.views["Red"]
    coloured = np.count_nonzero(is_coloured(view.pixels()))
    ui.thresholdSlider.value = 0.6
    assert 0 < np.count_nonzero(is_coloured(view.pixels())) < 0.8 * coloured
    ui.thresholdSlider.value = 0.05
    ui.opacitySlider.value = 0.0
    assert np.count_nonzero(is_coloured(view.pixels())) == 0
    ui.opacitySlider.value = 0.6
    before = view.pixels()
    tables = slicer.util.getNodesByClass("vtkMRMLColorTableNode")
    own = result.density.GetDisplayNode().GetColorNode()
    ui.colorTableComboBox.setCurrentNode(next(node for node in tables if node.GetName() == "Rainbow"))
    assert result.density.GetDisplayNode().GetColorNode().GetName() == "Rainbow"
    assert np.count_nonzero(view.pixels() != before) > 1000
    ui.colorTableComboBox.setCurrentNode(own)
    assert np.array_equal(view.pixels(), before)


def test_isolines_and_surfaces_are_shown(sample, result, rendering):
    ui, view, space = sample.panel.ui, sample.running.views["Red"], sample.running.three_d_view
    before = view.pixels()
    click(ui.showOutlinesCheckBox)
    assert np.count_nonzero(np.any(view.pixels() != before, axis=-1)) > 100
    space.fit()
    empty = space.pixels()
    click(ui.showSurfacesCheckBox)
    space.fit()
    assert np.count_nonzero(np.any(space.pixels() != empty, axis=-1)) > 1000
    click(ui.showSurfacesCheckBox)


def test_the_views_go_back_to_the_tumour(sample, result):
    view = sample.running.views["Green"]
    offset = view.node.GetSliceOffset()
    view.node.SetSliceOffset(offset + 40)
    click(sample.panel.ui.jumpButton)
    assert view.node.GetSliceOffset() == pytest.approx(offset, abs=1)


def click_match(panel, shown):
    """Click the row of an estimate, by its name, or of a match, by its rank from 0."""
    from PySide6 import QtCore, QtTest

    from TumorQueryModule.ResultNodes import rowsOf

    table = panel.ui.matchesTableView
    row = rowsOf(panel.widget._parameterNode.result().content).index(shown)
    cell = table.visualRect(table.model().index(row, 0)).center()
    QtTest.QTest.mouseClick(table.viewport(), QtCore.Qt.LeftButton, QtCore.Qt.NoModifier, cell)


def test_an_assimilated_density_is_shown_first_and_comes_back_with_its_maps(sample, result):
    panel = sample.panel
    parameters = panel.widget._parameterNode
    assert panel.ui.refinementComboBox.currentText == type(parameters.refinement).Patient.label()
    estimates = result.content["estimates"]
    assert (result.content["chosen"], result.content["model"]) == ("assimilated", "refined")
    assert estimates["refined"]["anatomy"] == "patient"
    assert estimates["refined"]["fit"]["dice_sum"] > estimates["match"]["fit"]["dice_sum"]
    model = panel.ui.matchesTableView.model()
    assert model.rowCount() == 17
    assert [model.data(model.index(row, 0)) for row in range(3)] == ["assimilated", "refined", "1"]
    assert [index.row() for index in panel.ui.matchesTableView.selectionModel().selectedRows()] == [0]
    density = slicer.util.arrayFromVolume(result.density).copy()
    told = result.chosen["fit"]
    assert dice(density > 0.2, segmented(sample, result)["whole"]) == pytest.approx(told["dice_whole"], abs=0.01)
    summary = panel.ui.resultSummaryLabel.text
    click_match(panel, 0)
    wait_for_the_end(panel)
    assert not np.array_equal(slicer.util.arrayFromVolume(result.density), density)
    click_match(panel, "assimilated")
    wait_for_the_end(panel)
    assert np.array_equal(slicer.util.arrayFromVolume(result.density), density)
    assert panel.ui.resultSummaryLabel.text == summary

    maps = {name: slicer.util.arrayFromVolume(node) for name, node in result.overlays.items()}
    assert list(maps) == ["density", "sd", "p05", "p95", "probability"]
    assert (maps["p05"] <= density).all()
    assert (maps["p95"] >= density).all()
    assert 0.01 < maps["sd"].max() < 0.5
    assert maps["probability"][density > 0.2].mean() > 0.8
    [focus] = result.content["uncertainty"]["foci"]
    low, high = (focus["infiltration_length_patient_mm"][name] for name in ("p05", "p95"))
    length = result.model["parameters"][0]["infiltration_length_patient_mm"]
    assert low < length < high
    assert f"{length:.1f} mm of white matter, 90 % between {low:.1f} and {high:.1f} mm" in summary
    shown = panel.ui.overlaidComboBox.currentIndex
    panel.ui.overlaidComboBox.currentIndex = 2
    for view in sample.running.views.values():
        assert view.composite_node.GetForegroundVolumeID() == result.overlays["p05"].GetID()
    panel.ui.overlaidComboBox.currentIndex = shown


def test_a_click_on_a_match_shows_it(sample, result):
    panel = sample.panel
    model = panel.ui.matchesTableView.model()
    assert model.rowCount() == 17
    sums = [match["dice_sum"] for match in result.content["query"]["matches"]]
    assert sums == sorted(sums, reverse=True)
    first = slicer.util.arrayFromVolume(result.density).copy()
    summary = panel.ui.resultSummaryLabel.text
    click_match(panel, 2)
    assert not is_idle(panel)
    wait_for_the_end(panel)
    shown = slicer.util.arrayFromVolume(result.density)
    assert not np.array_equal(shown, first)
    assert dice(shown > 0.2, first > 0.2) > 0.4  # another tumour at the same place
    assert result.shown == 2
    assert panel.ui.resultSummaryLabel.text != summary
    assert [index.row() for index in panel.ui.matchesTableView.selectionModel().selectedRows()] == [4]


def test_a_result_is_restored_from_a_saved_scene(sample, result, tmp_path):
    panel = sample.panel
    expected = slicer.util.arrayFromVolume(result.density).copy()
    summary = panel.ui.resultSummaryLabel.text
    assert result.brain is None  # the sample is stripped
    names = [node.GetName() for node in vars(result).values() if node]
    point = result.content["query"]["matches"][0]["parameters"]["seed_mm"]
    transforms = (result.atlasToPatient, result.patientToAtlas)
    moved = [node.GetTransformToParent().TransformPoint(point) for node in transforms]
    segments = slicer.util.arrayFromSegmentBinaryLabelmap(result.isolines, "core", result.density).sum()
    path = str(tmp_path / "Ergebnis ü.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    assert panel.ui.resultSummaryLabel.text == "No result yet."
    slicer.util.loadScene(path)
    process_events()
    restored = panel.widget._parameterNode.result()
    assert [node.GetName() for node in vars(restored).values() if node] == names
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(restored.density), expected)
    assert panel.ui.resultSummaryLabel.text == summary
    transforms = (restored.atlasToPatient, restored.patientToAtlas)
    again = [node.GetTransformToParent().TransformPoint(point) for node in transforms]
    np.testing.assert_allclose(again, moved, atol=1e-3)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(restored.isolines, "core", restored.density).sum() == segments
    assert restored.density.GetDisplayNode().GetColorNode().GetName() == "TumorQuery density"
    sample.segmentation = panel.widget._parameterNode.segmentation

    click_match(panel, 0)  # made from the scene alone
    wait_for_the_end(panel)
    assert restored.shown == 0
    assert dice(slicer.util.arrayFromVolume(restored.density) > 0.2, segmented(sample, restored)["whole"]) > 0.7


def test_a_second_run_updates_or_adds_as_chosen(sample, result):
    panel = sample.panel
    parameters = panel.widget._parameterNode
    parameters.registration = type(parameters.registration).NoRegistration  # the shortest run there is
    parameters.refinement = type(parameters.refinement).NoRefinement
    parameters.alignImages = False
    click(panel.ui.uncertaintyCheckBox)
    kept = [result.kept(name) for name in ("assimilated", "refined", "draws")]
    kept += [node for name, node in result.overlays.items() if name != "density"]
    assert None not in kept
    nodes = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode") if node not in kept]
    click(panel.ui.applyButton)
    wait_for_the_end(panel)
    assert [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")] == nodes
    assert parameters.result().content["registration"]["mode"] == "none"
    assert parameters.result().content["alignment"] is None
    assert parameters.result().content["chosen"] == "match"
    assert panel.ui.matchesTableView.model().rowCount() == 15

    panel.ui.advancedCollapsibleButton.collapsed = False
    process_events()
    click(panel.ui.keepResultsCheckBox)
    click(panel.ui.applyButton)
    wait_for_the_end(panel)
    assert parameters.resultDensity is not result.density
    assert parameters.resultDensity.GetName() != result.density.GetName()
    assert slicer.mrmlScene.IsNodePresent(result.density)


def test_scripts_need_no_panel(sample):
    import TumorQuery

    parameters = sample.panel.widget._parameterNode
    inputs = (parameters.t1gdVolume, parameters.flairVolume, parameters.segmentation)
    logic, told = TumorQuery.TumorQueryLogic(), []
    found = logic.run(
        *inputs, registration="none", refine="none", top=3, align=False,
        progress=lambda value, message: told.append(value),
    )  # fmt: skip
    assert len(found.content["query"]["matches"]) == 3
    assert found.shown == 0
    assert told == sorted(told)
    with pytest.raises(TimeoutError):
        logic.run(*inputs, timeout=0.5)
    assert child_processes() == []
    with pytest.raises(ValueError, match="segmentation"):
        logic.run(inputs[0])
    with pytest.raises(ValueError, match="no registration 'nonsense'"):
        logic.run(*inputs, registration="nonsense")
    with pytest.raises(RuntimeError, match="nonsense"):
        logic.run(*inputs, strategyOptions={"nonsense": 1})
