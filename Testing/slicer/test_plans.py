"""Section Plan of the panel: plans and exports by the real worker, made of what the scene holds.

The first tests share a scene and follow each other as a user's steps do.
"""

import json
import os
from collections import deque
from types import SimpleNamespace

import highdicom
import numpy as np
import pydicom
import pytest
import slicer
import vtk
from harness.driving import Guard, click, process_events, wait_until
from known_result import CONTENT
from planned_result import library_plans, made_up_patient, plans_of, segment_mask, take_result, write_made_up_result
from sample_as_dicom import Study
from scipy import ndimage
from test_panel_scene import add_segmentation
from test_result_nodes import click_row
from test_sample_run import is_idle, status

from TumorQueryLib.base.plan_choices import GUIDELINES
from TumorQueryLib.geometry.grid import read_volume
from TumorQueryLib.results.files import read_result
from TumorQueryLib.results.plan_picture import COLOURS

TIMEOUT = 300
NAMES = ("standard", "model", "probable")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A patient, and the folder of a result of it."""
    folder = tmp_path_factory.mktemp("result")
    patient = made_up_patient()
    write_made_up_result(folder, patient)
    return SimpleNamespace(patient=patient, folder=folder)


def load_as_dicom(node, patient, folder):
    """Have Slicer's DICOM database know the series that a volume holds; gives its files."""
    written = Study().write_series(folder, patient.t1gd.array, patient.t1gd.grid.affine)
    files = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): str(path) for path in folder.iterdir()}
    slicer.dicomDatabase._files.update(files)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(str(one.SOPInstanceUID) for one in written))
    return list(files.values())


@pytest.fixture(scope="module")
def planned(python_slicer, made_up, tmp_path_factory):
    """The panel with a result in a study, under a transform, after a click on Make plans."""
    from harness.application import Panel, Slicer

    temporary = tmp_path_factory.mktemp("tmp ümläut")
    with pytest.MonkeyPatch.context() as patch, Guard(temporary) as guard:
        patch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
        running = Slicer()
        import TumorQuery

        panel = Panel(TumorQuery, "TumorQuery")
        panel.parent.resize(520, 2400)
        panel.parent.show()
        assert panel.ui.makePlansButton.toolTip == "No result yet."
        take_result(panel, made_up.folder, made_up.patient)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
        t1gd = panel.widget._parameterNode.t1gdVolume
        for node in (t1gd, panel.widget._parameterNode.result().density):
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        slicer.util.updateTransformMatrixFromArray(transform, np.diag([-1.0, -1.0, 1.0, 1.0]))
        for node in (t1gd, *panel.widget._parameterNode.result().overlays.values()):
            node.SetAndObserveTransformNodeID(transform.GetID())
        files = load_as_dicom(t1gd, made_up.patient, tmp_path_factory.mktemp("series"))
        click(panel.ui.makePlansButton)
        assert panel.ui.makePlansButton.toolTip == "A run is under way."
        wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
        yield SimpleNamespace(panel=panel, running=running, study=study, files=files, **vars(made_up))
        panel.close()
        running.close()
        guard.check()
        assert not running.dialogs.shown


@pytest.fixture
def result(planned):
    return planned.panel.widget._parameterNode.result()


def table(view):
    model = view.model()
    return [
        [model.index(row, column).data() for column in range(model.columnCount())] for row in range(model.rowCount())
    ]


def nodes_of_the_scene():
    return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLStorableNode")}


def terminology(segment):
    entry = vtk.mutable("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    return str(entry).split("~")


def check_masks(result, plans):
    assert set(plans.masks) == set(NAMES)
    for name, mask in plans.masks.items():
        np.testing.assert_array_equal(segment_mask(result.plans, name, result.density), mask.array, err_msg=name)
        assert mask.array.any()


@pytest.mark.slow
def test_the_plans_are_the_librarys(planned, result):
    assert planned.panel.ui.statusLabel.text.startswith("The plans are made")
    plans = plans_of(planned.folder, margin="estro-eano")
    check_masks(result, plans)
    said = planned.panel.ui.planSummaryLabel.text
    assert f"{plans.standard.volume_ml:.0f} ml" in said
    assert "modeled cells" in said
    assert "gray matter" in said
    assert "a plan is a proposal to compare" in said
    assert result.content["plan"] == json.loads(json.dumps(plans.as_json()))


@pytest.mark.slow
def test_the_table_has_a_row_for_each_plan_and_guideline(planned, result):
    plans = plans_of(planned.folder, margin="estro-eano")
    rows = table(planned.panel.ui.planTableView)
    assert [row[0] for row in rows] == [
        *("Standard plan", "Model's plan", "95 % of cells, 90 % sure"),
        *(guideline.title for guideline in GUIDELINES.values()),
    ]
    for row, one in zip(rows, [plans.standard, plans.model, plans.probable, *plans.guidelines.values()], strict=True):
        tissues = one.tissues_ml
        figures = (one.volume_ml, tissues["white_matter_ml"], tissues["grey_matter_ml"], tissues["csf_ml"])
        low, high = (100 * bound for bound in one.cells_outside_band)
        assert row[1:] == [
            *(f"{volume:.0f}" for volume in figures),
            f"{100 * one.cells_outside:.1f}",
            f"{low:.1f} - {high:.1f}",
        ]
    assert planned.panel.ui.planTableView.isVisible()
    assert result.planTable.GetName() == "Patient ü T1Gd plans compared"
    from TumorQueryModule.Plans import planTable

    assert "90 % range" in planTable(result.content["plan"] | {"probable": None})  # none may hold so many cells


@pytest.mark.slow
def test_the_plans_are_targets_in_the_patients_study(planned, result):
    segmentation, t1gd = result.plans.GetSegmentation(), result.t1gd
    assert result.plans.GetName() == "Patient ü T1Gd plans"
    assert result.plans.GetTransformNodeID() == t1gd.GetTransformNodeID()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result.plans)) == planned.study
    assert segmentation.ContainsRepresentation("Binary labelmap")
    for name in NAMES:
        segment = segmentation.GetSegment(name)
        codes = terminology(segment)
        assert codes[1:3] == ["DCM^130041^RT Target", "SCT^228792002^Clinical target volume"]
        assert codes[5] == "SCT^12738006^Brain"
        assert tuple(segment.GetColor()) == pytest.approx(
            [int(COLOURS[name][at : at + 2], 16) / 255 for at in (1, 3, 5)], abs=0.002
        )
        assert (segment.GetNameAutoGenerated(), segment.GetColorAutoGenerated()) == (False, False)
    geometry = segmentation.GetConversionParameter("Reference image geometry")
    matrix = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, matrix)
    found, expected = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    matrix.GetImageToWorldMatrix(found)
    t1gd.GetIJKToRASMatrix(expected)
    assert slicer.util.arrayFromVTKMatrix(found) == pytest.approx(slicer.util.arrayFromVTKMatrix(expected), abs=1e-4)
    assert not result.plans.GetDisplayNode().GetVisibility2DFill()


@pytest.mark.slow
def test_the_lines_have_a_key_and_can_be_hidden(planned, result):
    ui = planned.panel.ui
    assert "Its plans are removed" in ui.outputsLabel.text
    for name in NAMES:
        assert COLOURS[name] in ui.planKeyLabel.text
    assert result.plans.GetDisplayNode().GetVisibility2D()
    click(ui.showPlansCheckBox)
    assert not result.plans.GetDisplayNode().GetVisibility2D()
    click(ui.showPlansCheckBox)
    assert result.plans.GetDisplayNode().GetVisibility2D()


@pytest.mark.slow
def test_the_standard_plan_is_seen_where_it_lies(planned, result, rendering):
    click(planned.panel.ui.jumpButton)
    for node in (result.segmentation, result.isolines):
        node.GetDisplayNode().SetVisibility(False)
    for name in ("model", "probable"):
        result.plans.GetDisplayNode().SetSegmentVisibility(name, False)
    matrix = vtk.vtkMatrix4x4()
    result.density.GetRASToIJKMatrix(matrix)
    to_ijk = slicer.util.arrayFromVTKMatrix(matrix)
    mask = segment_mask(result.plans, "standard", result.density)
    edge = ndimage.binary_dilation(mask, np.ones((3, 3, 3))) & ~ndimage.binary_erosion(mask, np.ones((3, 3, 3)))
    color = np.array([int(COLOURS["standard"][at : at + 2], 16) for at in (1, 3, 5)])
    for name, view in planned.running.views.items():
        seen = (np.abs(view.pixels().astype(int) - color) < 40).all(axis=-1)
        points = view.ras_of_pixels()[seen] * [-1, -1, 1]  # out of the parent transform
        ijk = np.rint(points @ to_ijk[:3, :3].T + to_ijk[:3, 3]).astype(int)
        assert len(ijk) > 100, name
        assert edge[tuple(ijk.T)].mean() > 0.98, name
    for node in (result.segmentation, result.isolines):
        node.GetDisplayNode().SetVisibility(True)
    result.plans.GetDisplayNode().SetAllSegmentsVisibility(True)


@pytest.mark.slow
def test_what_is_exported_lies_in_the_series(planned, result, tmp_path):
    panel, ui, out = planned.panel, planned.panel.ui, tmp_path / "Ausfuhr ü"
    out.mkdir()
    planned.running.dialogs.files = [str(out)]
    # As a user who corrects a plan would: what is seen is exported.
    made = slicer.util.arrayFromSegmentBinaryLabelmap(result.plans, "model", result.density)
    corrected = made.copy()
    corrected[:, :, : corrected.shape[2] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(corrected, result.plans, "model", result.density)
    click(ui.exportButton)
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    assert ui.statusLabel.text == f"The DICOM files are in {out}."
    assert planned.running.dialogs.shown == ["Folder for the DICOM files"]
    planned.running.dialogs.shown.clear()
    names = ["density.dcm", "density_sd.dcm", "segmentation.dcm", "structures.dcm"]
    assert sorted(path.name for path in out.iterdir()) == names
    first = pydicom.dcmread(planned.files[0])
    for name in names:
        written = pydicom.dcmread(out / name)
        assert (written.PatientName, written.StudyInstanceUID) == (first.PatientName, first.StudyInstanceUID)
    read = highdicom.seg.segread(out / "segmentation.dcm")
    numbers = {read.get_segment_description(number).segment_label: number for number in read.segment_numbers}
    plans = plans_of(planned.folder, margin="estro-eano").masks
    for name, mask in (("standard", plans["standard"].array), ("model", corrected.transpose() > 0)):
        volume = read.get_volume(segment_numbers=[numbers[f"CTV {name}"]], combine_segments=True, relabel=True)
        assert mask.any()
        assert np.count_nonzero(volume.array) == np.count_nonzero(mask)
        middle = planned.patient.t1gd.grid.to_ras(np.argwhere(mask).mean(axis=0)) * [-1, -1, 1]
        found = volume.affine[:3, :3] @ np.argwhere(volume.array).mean(axis=0) + volume.affine[:3, 3]
        np.testing.assert_allclose(found, middle, atol=0.01)
    said = {one.SegmentLabel: one.SegmentDescription for one in read.SegmentSequence if "CTV" in one.SegmentLabel}
    assert said.pop("CTV model") == "Edited by hand after TumorQuery made it"
    assert "15 mm" in said["CTV standard"]
    assert not any("Edited" in text for text in said.values())
    structures = pydicom.dcmread(out / "structures.dcm")
    assert [str(one.ROIName) for one in structures.StructureSetROISequence] == [
        *("GTV", "CTV standard", "CTV model", "CTV probable")
    ]
    slicer.util.updateSegmentBinaryLabelmapFromArray(made, result.plans, "model", result.density)


@pytest.mark.slow
def test_what_is_said_of_plans_is_text_and_no_markup(planned, result):
    text, content = result.report.GetText(), result.content
    content["plan"]["sentences"] = ["Less than <b 5 ml & more."]
    content["plan"]["warnings"] = ["In <folder>."]
    result.report.SetText(json.dumps(content))
    planned.panel.widget._updatePanel()
    said = planned.panel.ui.planSummaryLabel.text
    result.report.SetText(text)
    planned.panel.widget._updatePanel()
    assert said == "Less than &lt;b 5 ml &amp; more.<br>Note: In &lt;folder&gt;."


@pytest.mark.slow
def test_the_key_names_the_plans_that_there_are(planned, result):
    ui, segmentation = planned.panel.ui, result.plans.GetSegmentation()
    kept = {name: segmentation.GetSegment(name) for name in NAMES}
    segmentation.RemoveSegment("model")
    assert [COLOURS[name] in ui.planKeyLabel.text for name in NAMES] == [True, False, True]
    assert ui.planKeyLabel.isVisible()
    for name in ("standard", "probable"):
        segmentation.RemoveSegment(name)
    assert not ui.planKeyLabel.isVisible()
    for name, segment in kept.items():
        segmentation.AddSegment(segment, name)
    planned.panel.widget._updatePanel()
    assert [COLOURS[name] in ui.planKeyLabel.text for name in NAMES] == [True] * 3


@pytest.mark.slow
def test_what_an_export_lacks_is_told(planned, result, tmp_path):
    panel, ui, parameters = planned.panel, planned.panel.ui, planned.panel.widget._parameterNode
    planned.running.dialogs.files = [str(tmp_path)]
    plans = parameters.resultPlans
    parameters.resultPlans = None  # as where none were made
    click(ui.exportButton)
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    parameters.resultPlans = plans
    planned.running.dialogs.shown.clear()
    assert ui.statusLabel.text == (
        f"The DICOM files are in {tmp_path}. The result holds no plans, so there are no CTVs; "
        "click 'Make plans', then export."
    )
    assert ui.statusLabel.text in ui.logTextEdit.plainText
    assert {path.suffix for path in tmp_path.iterdir()} == {".dcm"}


def written_plans(result, folder):
    """The masks of the plans as an export has them."""
    from TumorQueryModule.ResultFolder import writeResult

    folder.mkdir()
    deque(writeResult(result, folder, withPlans=True))
    return {name: read_volume(folder / f"plan_{name}.nrrd").array for name in NAMES}


@pytest.mark.slow
def test_plans_lie_with_the_density_where_the_image_was_moved_after_the_run(planned, result, tmp_path):
    panel, transform = planned.panel, result.density.GetTransformNodeID()
    before = written_plans(result, tmp_path / "before")
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[0, 3] = 20.0
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved again")
    slicer.util.updateTransformMatrixFromArray(moved, matrix)
    result.t1gd.SetAndObserveTransformNodeID(moved.GetID())
    click(panel.ui.makePlansButton)
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    after = written_plans(panel.widget._parameterNode.result(), tmp_path / "after")
    result.t1gd.SetAndObserveTransformNodeID(transform)
    slicer.mrmlScene.RemoveNode(moved)
    assert result.plans.GetTransformNodeID() == transform
    for name, mask in before.items():
        assert mask.any()
        np.testing.assert_array_equal(after[name], mask, err_msg=name)


@pytest.mark.slow
def test_a_series_that_is_another_one_is_refused_in_a_sentence(planned, result, tmp_path):
    panel, ui = planned.panel, planned.panel.ui
    voxels = slicer.util.arrayFromVolume(result.t1gd)
    voxels *= 2
    planned.running.dialogs.files = [str(tmp_path)]
    click(ui.exportButton)
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    voxels /= 2
    assert ui.statusLabel.text.startswith("The T1 image holds other values than the T1Gd series")
    assert planned.running.dialogs.shown[1] == ui.statusLabel.text
    planned.running.dialogs.shown.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_plans_come_back_with_the_scene_and_can_be_made_again_there(planned, tmp_path):
    panel, ui = planned.panel, planned.panel.ui
    said, rows = ui.planSummaryLabel.text, table(ui.planTableView)
    path = str(tmp_path / "Szene ü.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    process_events()
    assert not ui.makePlansButton.enabled
    assert [one.isVisible() for one in (ui.planSummaryLabel, ui.planTableView, ui.planKeyLabel)] == [False] * 3
    slicer.util.loadScene(path)
    process_events()
    parameters = panel.widget._parameterNode
    result = parameters.result()
    check_masks(result, plans_of(planned.folder, margin="estro-eano"))
    assert (ui.planSummaryLabel.text, table(ui.planTableView)) == (said, rows)
    assert ui.planTableView.isVisible()
    assert result.plans.GetSegmentation().GetSegment("model").GetName() == "Model's plan"

    from TumorQueryModule.ResultFolder import writeResult

    # Other choices, a cavity of another segmentation, and a segment of the user's own among the plans.
    segmentation = add_segmentation("hole")
    segmentation.SetAndObserveTransformNodeID(result.density.GetTransformNodeID())
    cavity = np.zeros(result.density.GetImageData().GetDimensions(), bool)
    i, j, k = (int(at.mean()) for at in np.nonzero(segment_mask(result.isolines, "core", result.density)))
    cavity[i - 1 : i + 2, j - 6 : j - 2, k - 1 : k + 2] = True
    array = cavity.transpose().astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, "hole", result.density)
    result.plans.GetSegmentation().AddEmptySegment("own", "own")
    before = nodes_of_the_scene()
    ui.planMarginComboBox.currentIndex = 4
    ui.planMillimetersSpinBox.value = 9.5
    ui.planVolumeComboBox.currentIndex = 2
    ui.planDensitySpinBox.value = 0.3
    ui.planBarrierComboBox.currentIndex = 1
    ui.cavitySelector.setCurrentNode(segmentation)
    ui.cavitySelector.setCurrentSegmentID("hole")
    click(ui.makePlansButton)
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    expected = library_plans(planned.folder, cavity, margin=9.5, volume="above=0.3", barrier="csf")
    again = parameters.result()
    check_masks(again, expected)
    assert "core and cavity + 9.5 mm" in ui.planSummaryLabel.text
    widths = [ui.planTableView.columnWidth(column) for column in range(7)]
    assert max(widths[1:]) < widths[0]  # fitted to what stands in them
    assert again.plans is result.plans
    # The cavity of the plans alone goes along to an export; its line has no key and is hidden.
    np.testing.assert_array_equal(segment_mask(again.plans, "cavity", again.density), cavity)
    assert not again.plans.GetDisplayNode().GetSegmentVisibility("cavity")
    deque(writeResult(again, tmp_path, withPlans=True))
    np.testing.assert_array_equal(read_result(tmp_path).plan_cavity.array, cavity)
    assert read_result(tmp_path).cavity is None
    assert again.plans.GetSegmentation().GetSegment("own") is not None
    assert nodes_of_the_scene() == before


@pytest.mark.slow
def test_a_script_makes_plans_too(planned, result, tmp_path):
    import TumorQuery

    logic = TumorQuery.TumorQueryLogic()
    with pytest.raises(ValueError, match="Choose the segment"):
        logic.plan(cavityNode=result.segmentation, cavitySegmentID="none")
    click_row(planned.panel, 1)  # the refined density is shown, and the plans are of the chosen one all the same
    assert result.shown == "refined"
    made = logic.plan(result, margin=12.0, timeout=TIMEOUT)
    check_masks(made, library_plans(planned.folder, margin=12.0))
    assert "core and cavity + 12 mm" in planned.panel.ui.planSummaryLabel.text
    slicer.dicomDatabase._files.clear()
    with pytest.raises(ValueError, match="not in Slicer's DICOM database"):
        logic.exportDicom(tmp_path)


@pytest.mark.slow
def test_the_plans_of_another_result_go(planned):
    parameters = planned.panel.widget._parameterNode
    plans, compared = parameters.resultPlans.GetID(), parameters.resultPlanTable.GetID()
    result = take_result(planned.panel, planned.folder, planned.patient)
    assert (result.plans, result.planTable, parameters.resultPlans, parameters.resultPlanTable) == (None,) * 4
    assert slicer.mrmlScene.GetNodeByID(plans) is slicer.mrmlScene.GetNodeByID(compared) is None
    ui = planned.panel.ui
    assert [one.isVisible() for one in (ui.planSummaryLabel, ui.planTableView, ui.planKeyLabel)] == [False] * 3
    assert not ui.showPlansCheckBox.enabled
    assert ui.makePlansButton.enabled
    assert result.content["plan"] is None


@pytest.mark.slow
def test_what_cannot_be_planned_is_told_in_a_sentence(planned):
    ui, panel = planned.panel.ui, planned.panel
    ui.cavitySelector.setCurrentNode(None)
    ui.planVolumeComboBox.currentIndex = 1
    ui.planMillilitersSpinBox.value = 2000
    click(ui.makePlansButton)
    wait_until(lambda: is_idle(panel), TIMEOUT, status(panel))
    assert "A plan of 2000 ml was asked for" in ui.statusLabel.text
    assert panel.widget._parameterNode.resultPlans is None
    assert ui.makePlansButton.enabled
    assert planned.running.dialogs.shown[0] == ui.statusLabel.text
    planned.running.dialogs.shown.clear()


# Without the worker's work


@pytest.mark.slow
def test_an_export_needs_a_series_that_slicer_knows(panel, running, shown, made_up, tmp_path):
    ui = panel.ui
    assert not ui.exportButton.enabled
    assert "was not loaded from DICOM" in ui.exportButton.toolTip
    files = load_as_dicom(shown.t1gd, made_up.patient, tmp_path / "series")
    panel.widget._updatePanel()
    assert ui.exportButton.enabled
    click(ui.exportButton)  # and no folder is chosen
    assert is_idle(panel)
    assert running.dialogs.shown.pop() == "Folder for the DICOM files"
    os.remove(files[3])  # which is looked for at the click, and not whenever the panel is updated
    panel.widget._updatePanel()
    assert ui.exportButton.enabled
    click(ui.exportButton)
    check_unknown_series(panel, running)
    del slicer.dicomDatabase  # as before Slicer's DICOM module has one
    panel.widget._updatePanel()
    click(ui.exportButton)
    check_unknown_series(panel, running)


def check_unknown_series(panel, running):
    """The user is told before a folder is asked for."""
    assert "not in Slicer's DICOM database" in panel.ui.statusLabel.text
    assert running.dialogs.shown == [panel.ui.statusLabel.text]
    running.dialogs.shown.clear()
    assert is_idle(panel)


@pytest.mark.slow
def test_highdicom_is_installed_at_the_first_export_with_consent(panel, running, shown, made_up, tmp_path):
    import qt

    load_as_dicom(shown.t1gd, made_up.patient, tmp_path / "series")
    running.packaging.absent = {"highdicom"}
    panel.widget._updatePanel()
    assert not panel.ui.dependenciesLabel.isVisible()  # no inference needs it
    running.dialogs.files = [str(tmp_path)]
    running.dialogs.answers = [qt.QMessageBox.Cancel]
    click(panel.ui.exportButton)
    assert is_idle(panel)
    assert running.packaging.installations == []
    assert "highdicom" in running.dialogs.shown[1]
    assert "Nothing was installed" in panel.ui.statusLabel.text
    running.packaging.install = lambda requirements, frozen: running.packaging.absent.clear()
    running.dialogs.files = [str(tmp_path)]
    click(panel.ui.exportButton)
    [(missing, frozen)] = running.packaging.installations
    assert missing == ["highdicom>=0.28"]
    assert any(line.startswith("pydicom==") for line in frozen)
    click(panel.ui.cancelButton)
    wait_until(lambda: is_idle(panel), 30, status(panel))
    running.dialogs.shown.clear()


@pytest.fixture
def shown(panel, made_up):
    return take_result(panel, made_up.folder, made_up.patient)


@pytest.mark.slow
def test_a_plan_that_is_cancelled_leaves_nothing(panel, shown):
    before = nodes_of_the_scene()
    text = shown.report.GetText()
    click(panel.ui.makePlansButton)
    wait_until(lambda: panel.widget._run.state.value == "running", 30)
    click(panel.ui.cancelButton)
    wait_until(lambda: is_idle(panel), 30, status(panel))
    assert panel.ui.statusLabel.text == "Cancelled."
    assert panel.ui.makePlansButton.enabled
    assert nodes_of_the_scene() == before
    assert shown.report.GetText() == text


@pytest.mark.slow
def test_a_plan_ends_where_its_result_is_removed(panel, shown):
    click(panel.ui.makePlansButton)
    name = shown.density.GetName()
    slicer.mrmlScene.RemoveNode(shown.density)
    assert panel.ui.statusLabel.text == f"Cancelled. {name} was removed from the scene."
    assert not panel.ui.makePlansButton.enabled


@pytest.mark.slow
def test_what_was_removed_of_a_result_is_told(panel, shown):
    shown.density.SetAttribute("TumorQuery.Shown", "1")  # a match, but the plans are of the estimate
    for name in ("assimilated", "draws", "tissue", "segmentation"):
        panel.widget._updatePanel()
        assert panel.ui.makePlansButton.enabled, name
        kept = shown.kept(name)
        slicer.mrmlScene.RemoveNode(kept)
        panel.widget._updatePanel()
        assert not panel.ui.makePlansButton.enabled, name
        assert panel.ui.planHintLabel.isVisible(), name
        assert ("click its first" if name == "assimilated" else "removed from the scene") in panel.ui.planHintLabel.text
        slicer.mrmlScene.AddNode(kept)
        shown.density.SetNodeReferenceID(f"TumorQuery.Estimate.{name}", kept.GetID())


@pytest.mark.slow
def test_a_result_of_an_earlier_version_is_told(panel, take):
    take(CONTENT)
    assert not panel.ui.makePlansButton.enabled
    assert "earlier version" in panel.ui.planHintLabel.text
    assert panel.ui.exportButton.toolTip == panel.ui.planHintLabel.text


@pytest.mark.slow
def test_plans_are_of_the_density_that_the_result_gives(panel, made_up, tmp_path):
    write_made_up_result(tmp_path, made_up.patient, chosen="match", uncertainty=False)
    result = take_result(panel, tmp_path, made_up.patient)
    assert result.chosenDensity is result.density
    assert panel.ui.makePlansButton.enabled
    result.density.SetAttribute("TumorQuery.Shown", "1")  # the second match
    panel.widget._updatePanel()
    assert not panel.ui.makePlansButton.enabled
    assert "click its first match" in panel.ui.planHintLabel.text


@pytest.mark.slow
def test_draws_that_lie_in_the_atlas_are_written_with_their_transforms(panel, made_up, tmp_path):
    from TumorQueryModule.ResultFolder import whyNotWritten, writeResult

    for name in ("original", "copy"):
        (tmp_path / name).mkdir()
    write_made_up_result(tmp_path / "original", made_up.patient, refinement=None)
    result = take_result(panel, tmp_path / "original", made_up.patient)
    assert deque(writeResult(result, tmp_path / "copy")) is not None
    expected, found = (library_plans(tmp_path / name, margin=8.0) for name in ("original", "copy"))
    assert found.probable is not None
    for name, mask in expected.masks.items():
        np.testing.assert_array_equal(found.masks[name].array, mask.array)
    assert found.as_json() == expected.as_json()
    slicer.mrmlScene.RemoveNode(result.kept("sd"))
    (tmp_path / "less").mkdir()
    deque(writeResult(result, tmp_path / "less"))
    assert "density_sd" not in read_result(tmp_path / "less").content["outputs"]
    slicer.mrmlScene.RemoveNode(result.atlasToPatient)
    assert "Transforms of the result were removed" in whyNotWritten(panel.widget._parameterNode.result())


@pytest.mark.slow
def test_numbers_are_asked_for_where_they_count(panel):
    ui, parameters = panel.ui, panel.widget._parameterNode
    boxes = (ui.planMillimetersSpinBox, ui.planMillilitersSpinBox, ui.planDensitySpinBox)
    assert [box.isVisible() for box in boxes] == [False, False, False]
    choices = parameters.planChoices()
    assert (choices.margin, choices.volume, choices.barrier, choices.cavity) == ("estro-eano", "same", "brain", None)
    ui.planMarginComboBox.currentIndex = 4
    ui.planVolumeComboBox.currentIndex = 1
    assert [box.isVisible() for box in boxes] == [True, True, False]
    ui.planMillilitersSpinBox.value = 120
    assert (parameters.planChoices().margin, parameters.planChoices().volume) == (15.0, 120.0)
    ui.planVolumeComboBox.currentIndex = 2
    assert [box.isVisible() for box in boxes] == [True, False, True]
    assert parameters.planChoices().volume == "above=0.05"


@pytest.mark.slow
def test_the_choices_are_the_librarys(panel):
    from TumorQueryLib.base.plan_choices import BARRIERS, LARGEST_MARGIN, PlanChoices
    from TumorQueryModule import Overlay
    from TumorQueryModule.Choices import MILLIMETERS, Barrier, Margin

    assert [one.value for one in Margin if one.value] == list(GUIDELINES)
    assert [one.value for one in Barrier] == list(BARRIERS)
    assert MILLIMETERS[1] == LARGEST_MARGIN
    assert list(Overlay.PLAN_COLORS) == list(COLOURS)
    for name, guideline in GUIDELINES.items():
        assert f"{guideline.margin_mm:g} mm" in Margin(name).label()
    choices = panel.widget._parameterNode.planChoices()
    assert PlanChoices(choices.margin, choices.volume, choices.barrier)


@pytest.mark.slow
def test_the_cavity_is_a_segment_and_no_result(panel, shown):
    ui, parameters = panel.ui, panel.widget._parameterNode
    ui.cavitySelector.setCurrentNode(shown.isolines)
    assert "is a result of TumorQuery" in ui.planHintLabel.text
    segmentation = add_segmentation("hole", "other")
    ui.cavitySelector.setCurrentNode(segmentation)
    ui.cavitySelector.setCurrentSegmentID("other")
    assert (parameters.planCavity, parameters.planCavitySegmentID) == (segmentation, "other")
    assert ui.makePlansButton.enabled
    panel.exit()
    panel.enter()
    assert ui.cavitySelector.currentSegmentID() == "other"
    segmentation.GetSegmentation().RemoveSegment("other")
    panel.widget._updatePanel()
    assert parameters.planCavitySegmentID != "other" or not ui.makePlansButton.enabled
    slicer.mrmlScene.RemoveNode(segmentation)
    assert parameters.planCavity is None
    assert ui.makePlansButton.enabled


@pytest.mark.slow
def test_plans_of_a_result_that_is_kept_stay(panel, shown, made_up):
    parameters = panel.widget._parameterNode
    plans = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "plans")
    plans.CreateDefaultDisplayNodes()
    parameters.resultPlans = plans
    parameters.keepResults = True
    take_result(panel, made_up.folder, made_up.patient)
    assert parameters.resultPlans is None
    assert plans.GetScene() is slicer.mrmlScene


@pytest.mark.slow
def test_a_segment_named_as_the_cavity_goes_to_the_worker(panel, shown, tmp_path):
    from TumorQueryLib.inputs.patient import read_mask_file

    parameters = panel.widget._parameterNode
    segmentation = parameters.segmentation
    segmentation.GetSegmentation().AddEmptySegment("c", "Resection cavity")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "core", shown.t1gd)
    assert list(parameters.wholeSegmentIDs) == ["core", "whole"]
    for drawn in (False, True):
        hollow = np.zeros_like(array)
        hollow[3:6, 4:8, 5:9] = drawn
        slicer.util.updateSegmentBinaryLabelmapFromArray(hollow, segmentation, "c", shown.t1gd)
        *_steps, arguments = (dict(files) for files in parameters.patient().write(tmp_path))
        assert ("cavity" in arguments) == drawn
    np.testing.assert_array_equal(read_mask_file(arguments["cavity"], "cavity").array, hollow.transpose() > 0)
