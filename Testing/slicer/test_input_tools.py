"""What the panel makes of images before a run: the brain, and the tumour by other extensions; whose images they are."""

from collections import deque

import numpy as np
import pytest
import slicer
from harness.driving import click, process_events, wait_until
from harness.extensions import installed
from test_panel_scene import offered_by

pytestmark = pytest.mark.slow

SHAPE = (24, 28, 32)  # k, j, i
AXES = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
BRAIN = np.linalg.norm(AXES / (10, 12, 13), axis=-1) < 1
TUMOUR = np.select([np.linalg.norm(AXES - (0, 0, 4), axis=-1) < radius for radius in (2, 4, 6)], [1, 3, 2], 0)
TUMOUR = TUMOUR.astype(np.uint8)


def add_image(name, seed=0, outside=0.0):
    rng = np.random.default_rng(seed)
    values = np.where(BRAIN, rng.uniform(50, 100, SHAPE), outside).astype(np.float32)
    node = slicer.util.addVolumeFromArray(values, np.diag([4, 4, 4, 1.0]), name=name)
    node.CreateDefaultDisplayNodes()
    return node


@pytest.fixture
def images(panel):
    """Four images without skull, chosen; the scene's and the panel's."""
    parameters = panel.widget._parameterNode
    nodes = {role: add_image(name, seed) for seed, (role, name) in enumerate(NAMES.items())}
    parameters.alignImages = False  # it takes seconds
    for role, node in nodes.items():
        setattr(parameters, f"{role}Volume", node)
    process_events()
    return nodes


NAMES = {"t1gd": "T1Gd", "flair": "FLAIR", "t1": "T1", "t2": "T2"}


@pytest.fixture
def run_here(panel, tmp_path, monkeypatch):
    """Jobs are done at once in this process, by the library's own code."""
    from TumorQueryLib.jobs import JOBS

    def start(job, nodes_in_use, on_done, strategy=None):
        *_steps, told = job.prepare(tmp_path)
        path = JOBS[told["command"]](told, progress=lambda value, message: None)
        [value] = deque(job.collect(path), maxlen=1)
        panel.widget._nodesInUse = nodes_in_use
        panel.ui.statusLabel.text = on_done(value) or "Done."
        panel.widget._updatePanel()

    monkeypatch.setattr(panel.widget, "_start", start)


def segment_of(node, name, reference):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, name, reference) > 0


# Segmentation


def test_without_a_segmenter_the_panel_says_which_to_install(panel):
    assert "Install the extension MONAIAuto3DSeg" in panel.ui.noSegmentationLabel.text
    assert not panel.ui.segmenterGroupBox.isVisible()
    assert not panel.ui.hdBrainButton.isVisible()


@pytest.mark.parametrize(("module", "name"), [("SlicerNNInteractive", "nnInteractive"), ("SlicerNNUNet", "nnU-Net")])
def test_other_segmenters_are_named(panel, module, name):
    with installed(module):
        panel.widget._updatePanel()
        text = panel.ui.noSegmentationLabel.text
    assert name in text
    assert "Install" not in text


def test_the_four_images_are_asked_for(panel, images):
    parameters = panel.widget._parameterNode
    with installed("MONAIAuto3DSeg"):
        panel.widget._updatePanel()
        assert panel.ui.segmenterGroupBox.isVisible()
        assert panel.ui.segmentButton.enabled
        parameters.t1Volume = parameters.t2Volume = None
        assert not panel.ui.segmentButton.enabled
        assert panel.ui.segmenterHintLabel.text == (
            "MONAIAuto3DSeg needs four images; choose also: T1 without contrast, T2."
        )
        parameters.t1Volume = parameters.t2Volume = images["t1"]
        assert "chosen twice" in panel.ui.segmenterHintLabel.text
        assert not panel.ui.segmentButton.enabled


def finished(panel):
    wait_until(lambda: panel.widget._isIdle, 20, lambda: panel.ui.statusLabel.text)
    process_events()


def test_the_tumour_is_segmented_and_chosen(panel, images, run_here):
    parameters, count = panel.widget._parameterNode, len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(images["t1gd"]), study)
    seen = []
    with installed("MONAIAuto3DSeg", segment=lambda *arrays: seen.extend(arrays) or TUMOUR):
        panel.widget._updatePanel()
        click(panel.ui.segmentButton)
        assert panel.widget._segmentation.isRunning
        assert not panel.ui.applyButton.enabled
        assert panel.ui.cancelButton.enabled
        assert panel.ui.progressBar.maximum == 0
        assert offered_by(panel.ui.t1gdSelector) == set(NAMES.values())  # not what is made for the segmenter
        finished(panel)
    node = parameters.segmentation
    assert node.GetName() == "T1Gd tumor"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    order = ("flair", "t1gd", "t1", "t2")
    for array, role in zip(seen, order, strict=True):
        np.testing.assert_allclose(array, slicer.util.arrayFromVolume(images[role]), rtol=1e-5)
    assert set(parameters.coreSegmentIDs) == {"Necrosis", "Neoplasm"}
    assert set(parameters.wholeSegmentIDs) == {"Necrosis", "Neoplasm", "Edema"}
    np.testing.assert_array_equal(segment_of(node, "Edema", images["t1gd"]), TUMOUR == 2)
    assert parameters.missing() == {}
    assert panel.ui.applyButton.enabled
    assert panel.ui.progressBar.maximum == 100
    assert "look at it" in panel.ui.statusLabel.text
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count
    assert "Process Started" in panel.ui.logTextEdit.plainText


def test_a_brain_mask_that_is_chosen_takes_the_skull_off(panel, images, run_here):
    half = BRAIN.copy()
    half[:12] = False
    mask = slicer.util.addVolumeFromArray(
        half.astype(np.uint8), np.diag([4, 4, 4, 1.0]), "mask", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    panel.widget._parameterNode.brainMask = mask
    with installed("MONAIAuto3DSeg", segment=lambda *arrays: TUMOUR) as logics:
        panel.widget._updatePanel()
        click(panel.ui.segmentButton)
        finished(panel)
        assert all(not array[~half].any() for array in logics.MONAIAuto3DSegLogic.last_inputs)


@pytest.mark.parametrize("how", ["cancel", "close", "FLAIR", "T1GD without skull", "T1Gd tumor"])
def test_a_segmentation_that_is_ended_leaves_nothing(panel, images, run_here, how):
    nodes = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode")}
    with installed("MONAIAuto3DSeg"):
        panel.widget._updatePanel()
        click(panel.ui.segmentButton)
        if how == "cancel":
            click(panel.ui.cancelButton)
            finished(panel)
            assert panel.ui.statusLabel.text == "Cancelled."
            assert panel.widget._parameterNode.segmentation is None
            assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode")} == nodes
        elif how == "close":
            slicer.mrmlScene.Clear()
            assert panel.widget._isIdle
            assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        else:
            slicer.mrmlScene.RemoveNode(slicer.util.getNode(how))
            assert panel.widget._isIdle
            assert f"{how} was removed" in panel.ui.statusLabel.text
            left = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode")}
            assert left >= set(NAMES.values()) - {how}
            assert not [name for name in left if "skull" in name or "tumor" in name]
        process_events(0.3)  # what the segmenter tells late changes nothing
    assert panel.ui.progressBar.maximum == 100


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"exit_code": 1}, "MONAIAuto3DSeg failed"),
        ({"offline": True}, "could not be started: Failed to download"),
        ({"import_fails": True}, "could not be read"),
    ],
)
def test_a_segmentation_that_fails_is_told(panel, running, images, run_here, choices, words, monkeypatch):
    from TumorQueryModule import Segmenters

    monkeypatch.setattr(Segmenters, "TIME_TO_END", 50)
    with installed("MONAIAuto3DSeg", **choices):
        panel.widget._updatePanel()
        click(panel.ui.segmentButton)
        finished(panel)
    assert words in panel.ui.statusLabel.text
    assert words in running.dialogs.shown.pop()
    assert panel.widget._parameterNode.segmentation is None
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


# Brain


def test_an_image_without_skull_needs_no_mask(panel, images, run_here):
    click(panel.ui.extractBrainButton)
    assert panel.ui.statusLabel.text == "T1Gd shows no skull: no brain mask is needed."
    assert panel.widget._parameterNode.brainMask is None


def test_hd_brain_extraction_makes_the_mask(panel, running, images):
    parameters = panel.widget._parameterNode
    with installed("HDBrainExtractionTool", extract=lambda image: (image > 0).astype(np.uint8)):
        panel.widget._updatePanel()
        click(panel.ui.hdBrainButton)
        first = parameters.brainMask
        click(panel.ui.hdBrainButton)
    assert parameters.brainMask is first is parameters.resultBrain
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
    assert first.GetName() == "T1Gd brain"
    [segment] = first.GetSegmentation().GetSegmentIDs()
    np.testing.assert_array_equal(segment_of(first, segment, images["t1gd"]), BRAIN)
    assert parameters.missing().keys() == {"segmentation"}


def test_hd_brain_extraction_that_fails_leaves_nothing(panel, running, images):
    with installed("HDBrainExtractionTool", fails=True):
        panel.widget._updatePanel()
        click(panel.ui.hdBrainButton)
    assert any("PyTorch extension" in text for text in running.dialogs.shown)
    running.dialogs.shown.clear()
    assert panel.widget._parameterNode.brainMask is None
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


# Studies


def place_in_study(node, patient, study, series):
    """As DICOMPlugin.addSeriesInSubjectHierarchy does (Modules/Scripted/DICOMLib/DICOMPlugin.py)."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    names = slicer.vtkMRMLSubjectHierarchyConstants
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemUID(item, names.GetDICOMUIDName(), series)
    slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(hierarchy, patient, study, series)


@pytest.mark.parametrize(
    ("patient", "study", "words"),
    [("A", "1.2", ""), ("A", "1.3", "come from two DICOM studies"), ("B", "1.4", "are of different patients")],
)
def test_images_of_two_studies_are_told(panel, images, patient, study, words):
    parameters = panel.widget._parameterNode
    place_in_study(images["t1gd"], "A", "1.2", "1.2.1")
    panel.widget._updatePanel()
    assert not panel.ui.studyWarningLabel.isVisible()  # the FLAIR is from no DICOM file
    place_in_study(images["flair"], patient, study, "1.2.2")
    panel.widget._updatePanel()
    assert panel.ui.studyWarningLabel.isVisible() == bool(words)
    assert words in panel.ui.studyWarningLabel.text
    if words:
        assert "T1Gd and FLAIR" in panel.ui.studyWarningLabel.text
        parameters.flairVolume = None
        assert not panel.ui.studyWarningLabel.isVisible()


def test_a_result_lies_in_the_study_of_its_image(panel, take):
    from known_result import with_brain

    t1gd = panel.widget._parameterNode.t1gdVolume
    place_in_study(t1gd, "A", "1.2", "1.2.1")
    nodes = take(with_brain())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.GetItemByUID("DICOM", "1.2")
    for node in filter(None, (*vars(nodes).values(), nodes.kept("refined"))):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study, node.GetName()
