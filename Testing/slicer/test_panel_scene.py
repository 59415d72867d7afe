"""The panel and what becomes of the scene: nodes chosen anew, scenes loaded and closed, names, segments."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import slicer
from harness.driving import click, process_events
from known_result import CONTENT, DENSITIES, PICTURE, SHAPE

pytestmark = pytest.mark.slow


def add_image(name, value=1.0):
    volume = slicer.util.addVolumeFromArray(np.full(SHAPE, value, np.float32), name=name)
    volume.CreateDefaultDisplayNodes()
    return volume


def add_segmentation(*names):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumor")
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, name)
    return node


def shown_in(running):
    composite = running.views["Red"].composite_node
    return composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()


# A result belongs to the images that it was made from


def test_a_result_is_shown_over_its_own_image(panel, running, take):
    parameters = panel.widget._parameterNode
    nodes = take(CONTENT)
    own = parameters.t1gdVolume
    panel.ui.t1gdSelector.setCurrentNode(add_image("another patient's T1"))
    panel.widget._showNewResult(nodes)
    assert shown_in(running) == (own.GetID(), nodes.density.GetID())
    running.views["Red"].composite_node.SetBackgroundVolumeID(None)
    click(panel.ui.jumpButton)
    assert shown_in(running) == (own.GetID(), nodes.density.GetID())


def test_a_result_is_shown_where_the_segmentation_was_deselected_meanwhile(panel, running, take):
    nodes = take(CONTENT)
    panel.ui.segmentationSelector.setCurrentNode(None)
    panel.widget._showNewResult(nodes)
    assert shown_in(running)[1] == nodes.density.GetID()
    assert nodes.segmentation.GetDisplayNode().GetVisibility2DFill() == 0


# Scenes that are loaded and closed while the panel is open


@pytest.mark.parametrize("clear", [True, False])
def test_a_scene_that_is_loaded_shows_its_result(panel, running, take, tmp_path, clear):
    nodes = take(CONTENT)
    summary, name = panel.ui.resultSummaryLabel.text, nodes.density.GetName()
    path = str(tmp_path / "Szene ü.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    process_events()
    assert panel.ui.resultSummaryLabel.text == "No result yet."
    slicer.app.coreIOManager().loadNodes("SceneFile", {"fileName": path, "clear": clear})
    process_events()
    restored = panel.widget._parameterNode.result()
    assert restored.density.GetName() == name
    assert panel.ui.resultSummaryLabel.text == summary
    assert panel.ui.t1gdSelector.currentNode().GetName() == "T1Gd"
    assert panel.ui.segmentationSelector.currentNode().GetName() == "Tumor"
    assert (restored.t1gd, restored.segmentation) == (
        panel.widget._parameterNode.t1gdVolume,
        panel.widget._parameterNode.segmentation,
    )
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(restored.density), DENSITIES["refined"])
    assert shown_in(running)[1] == restored.density.GetID()
    assert panel.ui.matchesTableView.model().rowCount() == 3
    assert panel.ui.applyButton.enabled
    picture = slicer.util.arrayFromVolume(restored.picture)
    np.testing.assert_array_equal(picture[0, ::-1], PICTURE)


def test_a_scene_loaded_while_another_module_is_open_is_taken_up_later(panel, take, tmp_path):
    take(CONTENT)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    panel.exit()
    slicer.util.loadScene(path)
    assert panel.widget._parameterNodeGuiTag is None
    panel.enter()
    assert panel.ui.resultSummaryLabel.text.startswith("<b>Refined")


@pytest.mark.parametrize("lost", ["density", "report", "picture"])
def test_a_scene_that_lacks_a_data_file_is_told(panel, take, lost):
    nodes = take(CONTENT)
    panel.exit()
    nodes.report.SetText("") if lost == "report" else getattr(nodes, lost).SetAndObserveImageData(None)
    panel.enter()
    ui, isWhole = panel.ui, lost == "picture"
    assert (ui.resultSummaryLabel.text == "The files of the result are missing: run the inference again.") != isWhole
    assert ui.opacitySlider.enabled == ui.jumpButton.enabled == isWhole
    assert ui.reportButton.enabled != isWhole
    assert not ui.makePlansButton.enabled
    ui.matchesTableView.clicked.emit(ui.matchesTableView.model().index(0, 0))
    assert ui.applyButton.enabled
    assert take(CONTENT).isReadable
    assert ui.resultSummaryLabel.text.startswith("<b>Refined")


@pytest.mark.parametrize("text", ['{"version": 1, "estimates": {"match": {}}, "chosen": "match"}', "[1]"])
def test_a_result_of_another_version_is_told(panel, take, text):
    take(CONTENT).report.SetText(text)
    panel.exit()
    panel.enter()
    ui = panel.ui
    told = "This result was made by another version of TumorQuery: run the inference again."
    assert ui.resultSummaryLabel.text == ui.planHintLabel.text == told
    assert not ui.opacitySlider.enabled
    ui.matchesTableView.clicked.emit(ui.matchesTableView.model().index(0, 0))
    assert take(CONTENT).isReadable
    assert ui.resultSummaryLabel.text.startswith("<b>Refined")


def test_a_choice_that_only_another_version_knows_is_the_default_and_told(panel, tmp_path):
    panel.widget._parameterNode.top = 7
    assert slicer.util.saveScene(str(tmp_path / "saved.mrb"))
    slicer.mrmlScene.Clear()
    with zipfile.ZipFile(tmp_path / "saved.mrb") as saved, zipfile.ZipFile(tmp_path / "other.mrb", "w") as other:
        for name in saved.namelist():
            content = saved.read(name)
            if name.endswith(".mrml"):
                assert b"strategy Direct" in content
                content = content.replace(b"strategy Direct", b"strategy Quantum")
            other.writestr(name, content)
    slicer.util.loadScene(str(tmp_path / "other.mrb"))
    parameters = panel.widget._parameterNode
    assert (parameters.strategy.name, parameters.top) == ("Direct", 7)
    assert panel.ui.statusLabel.text.endswith("takes its defaults: strategy = Quantum.")
    assert panel.ui.topSpinBox.value == 7


def test_a_build_outlives_the_scene(panel, monkeypatch):
    from TumorQueryModule.Worker import RunState

    stopped = []
    monkeypatch.setattr(panel.widget._run, "stop", lambda message="": stopped.append(message))
    panel.widget._nodesInUse = ()
    slicer.mrmlScene.Clear()
    assert stopped == []
    panel.widget._run._state = RunState.Running
    slicer.mrmlScene.Clear()
    assert stopped == []
    panel.widget._nodesInUse = (add_image("T1Gd"),)
    slicer.mrmlScene.Clear()
    assert stopped[0] == "The scene was closed."  # before its nodes go
    panel.widget._run._state = RunState.Idle
    monkeypatch.undo()


def test_a_closed_scene_takes_along_what_was_said_of_its_run(panel):
    from TumorQueryModule.Worker import Outcome

    panel.widget._onDone = lambda value: None
    panel.widget._onRunFinished(Outcome("done", value=True))
    assert (panel.ui.progressBar.value, panel.ui.statusLabel.text) == (100, "Done.")
    slicer.mrmlScene.Clear()
    assert (panel.ui.progressBar.value, panel.ui.statusLabel.text) == (0, "Ready")
    assert panel.ui.elapsedLabel.text == "0:00"


# The display is the user's


def test_what_the_user_changed_in_another_module_stays(panel, take):
    nodes = take(CONTENT)
    display, isolines = nodes.density.GetDisplayNode(), nodes.isolines.GetDisplayNode()
    assert display.GetLowerThreshold() == pytest.approx(0.05)
    display.SetThreshold(0.3, 1.0)
    isolines.SetVisibility2D(False)
    panel.ui.topSpinBox.value = 7
    panel.exit()
    panel.enter()
    assert display.GetLowerThreshold() == pytest.approx(0.3)
    assert not isolines.GetVisibility2D()
    panel.ui.thresholdSlider.value = 0.1
    assert display.GetLowerThreshold() == pytest.approx(0.1)
    assert not isolines.GetVisibility2D()


def test_a_slider_does_not_make_the_table_read_its_node_again(panel, take, monkeypatch):
    take(CONTENT)
    calls = []
    view = panel.ui.matchesTableView
    monkeypatch.setattr(type(view), "setMRMLTableNode", lambda self, node: calls.append(node))
    for value in (0.1, 0.2, 0.3):
        panel.ui.opacitySlider.value = value
    assert calls == []


def test_the_lines_have_a_key_and_the_report_a_button(panel, take):
    assert not panel.ui.reportButton.enabled
    take(CONTENT)
    assert "whole tumor" in panel.ui.lineKeyLabel.text
    assert panel.ui.lineKeyLabel.isVisible()
    panel.ui.showOutlinesCheckBox.checked = False
    assert not panel.ui.lineKeyLabel.isVisible()
    click(panel.ui.reportButton)
    window = panel.widget._reportWindow
    assert window.isVisible()
    assert (window.widget().pixmap.width(), window.widget().pixmap.height()) == (160, 90)
    shown = window.widget().pixmap.toImage().pixelColor(3, 5)
    assert (shown.red(), shown.green(), shown.blue()) == tuple(PICTURE[5, 3])
    window.close()


def test_the_outputs_are_told_and_named(panel, take):
    add_image("T1Gd")
    panel.ui.outputNameLineEdit.text = "Follow-up"
    assert "Follow-up" in panel.ui.outputNameLineEdit.text
    nodes = take(CONTENT)
    assert "A run replaces" in panel.ui.outputsLabel.text
    assert "Follow-up tumor cell density" in panel.ui.outputsLabel.text
    click(panel.ui.keepResultsCheckBox)
    assert "A run adds" in panel.ui.outputsLabel.text
    assert nodes.density.GetName() == "T1Gd tumor cell density"


# Which image is which


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("T1Gd", "t1gd"),
        ("t1ce", "t1gd"),
        ("BraTS-GLI-00001-000-t1c", "t1gd"),
        ("T1 +C", "t1gd"),
        ("t1_post", "t1gd"),
        ("AX T1 POST", "t1gd"),
        ("T1w Gado", "t1gd"),
        ("FLAIR_AX", "flair"),
        ("BraTS-GLI-00001-000-t2f", "flair"),
        ("Posterior fossa T1", None),
        ("T1 posterior fossa", None),
        ("T1 coronal", None),
        ("BraTS-GLI-00001-000-t1n", None),
        ("BraTS-GLI-00001-000-t2w", None),
    ],
)
def test_images_are_guessed_by_their_names(panel, name, role):
    panel.exit()
    image = add_image(name)
    panel.enter()
    parameters = panel.widget._parameterNode
    assert (parameters.t1gdVolume, parameters.flairVolume) == (
        image if role == "t1gd" else None,
        image if role == "flair" else None,
    )


def test_a_guess_that_was_refused_does_not_come_back(panel):
    panel.exit()
    add_image("FLAIR")
    panel.enter()
    assert panel.widget._parameterNode.flairVolume is not None
    panel.ui.flairSelector.setCurrentNode(None)
    panel.exit()
    panel.enter()
    assert panel.widget._parameterNode.flairVolume is None


def test_results_are_no_inputs(panel, take):
    nodes = take(CONTENT)
    parameters = panel.widget._parameterNode
    parameters.t1gdVolume = None
    parameters.everChosen = []
    panel.exit()
    panel.enter()
    assert parameters.t1gdVolume is not nodes.density
    assert panel.widget._parameterNode.t1gdVolume.GetName() == "T1Gd"
    for name, node in (
        ("t1gdVolume", nodes.density),
        ("t1Volume", nodes.kept("refined")),
        ("brainMask", nodes.isolines),
        ("segmentation", nodes.isolines),
    ):
        before = getattr(parameters, name)
        setattr(parameters, name, node)
        assert not panel.ui.applyButton.enabled
        assert "is a result of TumorQuery" in panel.ui.applyButton.toolTip
        setattr(parameters, name, before)


def offered_by(selector):
    return {selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())}


def test_results_are_not_offered_as_inputs(panel, take, tmp_path):
    ui = panel.ui
    images, regions = (
        (ui.t1gdSelector, ui.flairSelector, ui.t1Selector),
        (ui.brainMaskSelector, ui.segmentationSelector),
    )

    def check():
        assert [offered_by(selector) for selector in images] == [{"T1Gd"}] * 3
        assert [offered_by(selector) for selector in regions] == [{"Tumor"}] * 2
        assert (ui.t1gdSelector.currentNode().GetName(), ui.segmentationSelector.currentNode().GetName()) == (
            "T1Gd",
            "Tumor",
        )

    nodes = take(CONTENT)
    check()
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    process_events()
    slicer.util.loadScene(path)
    check()
    slicer.mrmlScene.Clear()
    process_events()
    added = [add_image(f"image {number}") for number in range(6)]  # by the IDs that the result's nodes had
    assert offered_by(ui.t1gdSelector) == {node.GetName() for node in added}
    assert nodes is not None


def test_an_empty_brain_mask_is_told(panel):
    panel.widget._parameterNode.brainMask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    assert panel.widget._parameterNode.missing()["brainMask"] == "brain holds no segments."
    panel.widget._parameterNode.brainMask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    assert panel.ui.brainMaskHintLabel.text == "mask holds no image."


def test_tissue_maps_are_all_three_or_none_and_reach_the_worker(panel, take, tmp_path):
    take(CONTENT)
    parameters, ui = panel.widget._parameterNode, panel.ui
    maps = {name: add_image(name) for name in ("whiteMatter", "greyMatter", "csf")}
    parameters.whiteMatterVolume = maps["whiteMatter"]
    assert "Choose all three tissue maps" in ui.tissueMapsHintLabel.text
    assert not ui.applyButton.enabled
    for name, node in maps.items():
        getattr(ui, f"{name}Selector").setCurrentNode(node)
    assert ui.tissueMapsHintLabel.text == ""
    assert ui.applyButton.enabled
    parameters.refinement = type(parameters.refinement).NoRefinement
    assert "Tissue maps are for a refinement in the patient's own anatomy" in ui.tissueMapsHintLabel.text
    *_, arguments = parameters.patient().write(tmp_path)
    written = {role: Path(arguments[role]).name for role in ("white_matter", "grey_matter", "csf")}
    assert written == {role: f"{role}.nrrd" for role in written}
    assert all((tmp_path / name).is_file() for name in written.values())
    assert set(maps.values()) <= set(parameters.patient().nodes)


def test_the_tissue_maps_of_a_patient_that_the_library_read_come_into_the_scene(panel):
    """As a row of a cohort has them: a run from the panel afterwards would else grow the tumor in the atlas's."""
    from TumorQueryLib.anatomy.tissue_maps import TissueMaps
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.studies.phantom import synthetic_volumes
    from TumorQueryModule.Jobs import Method
    from TumorQueryModule.PatientNodes import addPatient

    volumes = synthetic_volumes()
    grid = volumes["t1gd"].grid
    radius = np.linalg.norm(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1)) - grid.centre, axis=-1)
    layers = [(radius < 40), (radius >= 40) & (radius < 60), (radius >= 60) & (radius < 65)]
    maps = TissueMaps(*(layer.astype(np.float32) for layer in layers), grid)
    nodes = addPatient(Patient(**volumes, tissue_maps=maps), "one")
    for name, layer in zip(("whiteMatter", "greyMatter", "csf"), layers):
        node = getattr(nodes, name)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node).transpose(), layer)
        assert np.allclose(node.GetOrigin(), grid.affine[:3, 3])
    assert [node.GetName() for node in nodes.tissueMaps] == ["one white matter", "one gray matter", "one CSF"]
    assert nodes.segmentation.GetName() == "one segmentation"
    panel.widget._parameterNode.take(nodes, Method())
    assert panel.widget._parameterNode.patient() == nodes


def test_the_cavity_of_a_patient_that_the_library_read_goes_along_with_the_next_run(panel, tmp_path):
    from TumorQueryLib.geometry.grid import Volume
    from TumorQueryLib.inputs.patient import Patient, read_mask_file
    from TumorQueryLib.studies.phantom import synthetic_volumes
    from TumorQueryModule.Jobs import Method
    from TumorQueryModule.PatientNodes import addPatient

    volumes = synthetic_volumes()
    whole = volumes["whole"].array
    cavity = np.zeros_like(whole)
    i, j, k = np.argwhere(whole)[0]
    cavity[i - 4 : i, j - 3 : j, k : k + 2] = True
    nodes = addPatient(Patient(**volumes, cavity=Volume(cavity, volumes["t1gd"].grid)), "one")
    segment = nodes.segmentation.GetSegmentation().GetSegment("cavity")
    assert segment.GetName() == "Resection cavity"
    assert "cavity" not in nodes.coreSegmentIDs + nodes.wholeSegmentIDs
    panel.widget._parameterNode.take(nodes, Method())
    *_, arguments = panel.widget._parameterNode.patient().write(tmp_path)
    np.testing.assert_array_equal(read_mask_file(arguments["cavity"], "cavity").array, cavity)
    np.testing.assert_array_equal(read_mask_file(arguments["whole"], "whole").array, whole)


# Which segment is what


@pytest.mark.parametrize(
    ("names", "core", "whole"),
    [
        (("Neoplasm, Primary", "Edema", "Necrosis"), (0, 2), (0, 1, 2)),  # MONAIAuto3DSeg's BRATS GLI
        (("ET", "ED", "NCR"), (0, 2), (0, 1, 2)),
        (("TC", "WT", "ET"), (0, 2), (0, 1, 2)),
        (("Necrosis", "Edema", "Enhancing tumor"), (0, 2), (0, 1, 2)),
        (("Tumor", "Edema"), (0,), (0, 1)),
        (("Tumor",), (), (0,)),
        (("Tumor core", "Whole tumor"), (0,), (0, 1)),
        (("Neoplasm", "Necrosis"), (0, 1), (0, 1)),
        (("Surrounding non-enhancing FLAIR hyperintensity", "Enhancing tissue"), (1,), (0, 1)),
        (("Resection cavity", "Enhancing tumor", "brain", "ventricles", "Edema"), (1,), (1, 4)),
        (("TumorCore", "WholeTumor"), (0,), (0, 1)),
        (("EnhancingTumor", "Edema", "No tumor", "Non-tumor"), (0,), (0, 1)),
        (("Segment_1", "Segment_2"), (), ()),
    ],
)
def test_segments_are_suggested_by_their_names(running, names, core, whole):
    from TumorQueryModule.PatientNodes import suggestSegments

    found = suggestSegments(add_segmentation(*names))
    assert found == tuple(tuple(names[number] for number in part) for part in (core, whole))


def test_segments_drawn_later_are_taken_up_until_the_user_has_chosen(panel):
    ui, parameters = panel.ui, panel.widget._parameterNode
    segmentation = add_segmentation()
    ui.segmentationSelector.setCurrentNode(segmentation)
    drawn = segmentation.GetSegmentation()
    drawn.AddEmptySegment("1", "Segment_1")
    drawn.AddEmptySegment("2", "Edema")
    assert list(parameters.coreSegmentIDs) == []
    assert list(parameters.wholeSegmentIDs) == ["2"]
    drawn.GetSegment("1").SetName("Tumor core")  # a name given after the drawing
    assert list(parameters.coreSegmentIDs) == ["1"]
    assert ui.wholeSegmentsSelector.selectedSegmentIDs() == ("1", "2")
    drawn.AddEmptySegment("3", "brain")
    assert list(parameters.wholeSegmentIDs) == ["1", "2"]
    assert "brain" in ui.wholeSegmentsHintLabel.text
    ui.coreSegmentsSelector.setSelectedSegmentIDs([])  # the user's choice stays, an empty one too
    drawn.AddEmptySegment("4", "Necrosis")
    assert list(parameters.coreSegmentIDs) == []
    assert list(parameters.wholeSegmentIDs) == ["1", "2"]
    ui.segmentationSelector.setCurrentNode(add_segmentation("Necrosis"))
    assert list(parameters.coreSegmentIDs) == ["Necrosis"]


def test_a_segment_that_was_chosen_and_deleted_is_chosen_no_more(panel):
    parameters = panel.widget._parameterNode
    parameters.t1gdVolume = add_image("T1Gd")
    parameters.segmentation = add_segmentation("Tumor core", "Edema", "Cyst")
    panel.ui.wholeSegmentsSelector.setSelectedSegmentIDs(["Edema", "Cyst"])
    parameters.segmentation.GetSegmentation().RemoveSegment("Cyst")
    assert list(parameters.wholeSegmentIDs) == ["Edema"]
    assert panel.ui.applyButton.enabled
    parameters.segmentation.GetSegmentation().RemoveSegment("Edema")
    parameters.segmentation.GetSegmentation().RemoveSegment("Tumor core")
    assert parameters.missing().keys() == {"segmentation"}


def test_a_script_that_names_segments_by_no_id_is_refused(panel):
    segmentation = add_segmentation("Tumor core")
    with pytest.raises(ValueError, match=r"no segment with the ID Oedema: .* Tumor core"):
        panel.widget.logic.run(add_image("T1Gd"), segmentationNode=segmentation, wholeSegmentIDs=["Oedema"])


def test_the_panels_own_segments_are_known_in_any_language(panel, monkeypatch):
    from TumorQueryModule import Panel

    german = {"Tumor core": "Tumorkern", "Edema": "Ödem"}
    monkeypatch.setattr(Panel, "_", lambda text: german.get(text, text))
    parameters = panel.widget._parameterNode
    parameters.t1gdVolume = add_image("T1Gd")
    click(panel.ui.segmentEditorButton)
    core, edema = parameters.segmentation.GetSegmentation().GetSegmentIDs()
    assert (list(parameters.coreSegmentIDs), list(parameters.wholeSegmentIDs)) == ([core], [core, edema])
    assert parameters.segmentation.GetSegmentation().GetSegment(edema).GetName() == "Ödem"


def test_the_segment_editor_opens_on_the_image_and_the_segmentation(panel, running):
    t1gd = add_image("T1Gd")
    panel.ui.t1gdSelector.setCurrentNode(t1gd)
    click(panel.ui.segmentEditorButton)
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    parameters = panel.widget._parameterNode
    assert editor.GetSourceVolumeNode() is t1gd
    assert editor.GetSegmentationNode() is parameters.segmentation
    assert len(parameters.coreSegmentIDs) == 1
    assert len(parameters.wholeSegmentIDs) == 2
    chosen = add_segmentation("Necrosis")
    panel.ui.segmentationSelector.setCurrentNode(chosen)
    click(panel.ui.segmentEditorButton)
    assert editor.GetSegmentationNode() is chosen
    assert running.main_window.moduleSelector().selected == ["SegmentEditor", "SegmentEditor"]


def test_the_segment_selectors_have_no_label_of_their_own(panel):
    panel.ui.segmentationSelector.setCurrentNode(add_segmentation("Necrosis", "Edema"))
    for selector in (panel.ui.coreSegmentsSelector, panel.ui.wholeSegmentsSelector):
        assert slicer.util.findChild(selector, "label_Segment").text == ""


def test_a_label_map_waits_until_its_convention_is_chosen(panel):
    panel.ui.t1gdSelector.setCurrentNode(add_image("T1Gd"))
    labels = slicer.util.addVolumeFromArray(
        np.ones(SHAPE, np.uint8), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    panel.ui.segmentationSelector.setCurrentNode(labels)
    assert not panel.ui.applyButton.enabled
    assert "Labels mean" in panel.ui.applyButton.toolTip
    choices = panel.ui.labelConventionComboBox
    assert choices.itemText(choices.currentIndex) == "Choose..."
    choices.currentIndex = 2
    assert panel.ui.applyButton.enabled
    assert panel.widget._parameterNode.patient().labelConvention == "brats2018"
