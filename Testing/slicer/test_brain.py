"""The brain that a run extracts: a segment that can be corrected, and chosen as the brain mask of the next run."""

import numpy as np
import pytest
import slicer
from harness.driving import process_events
from known_result import BRAIN, CONTENT, SHAPE, with_brain
from test_panel_scene import offered_by

pytestmark = pytest.mark.slow


def brain_of(nodes):
    return slicer.util.arrayFromSegmentBinaryLabelmap(nodes.brain, "brain", nodes.t1gd)


def test_an_extracted_brain_comes_back_as_a_segment(panel, take):
    nodes = take(with_brain())
    assert nodes.brain.GetName() == "T1Gd brain"
    np.testing.assert_array_equal(brain_of(nodes), BRAIN)
    from TumorQueryModule.PatientNodes import codeOf, suggestSegments

    segment = nodes.brain.GetSegmentation().GetSegment("brain")
    assert (segment.GetName(), codeOf(segment)) == ("brain", "SCT 12738006")
    assert suggestSegments(nodes.brain) == ((), ())
    display = nodes.brain.GetDisplayNode()
    assert not display.GetVisibility2DFill()  # it would hide the image
    assert display.GetSegmentVisibility2DOutline("brain")
    assert "T1Gd brain" in panel.ui.resultSummaryLabel.text
    assert "around the brain" in panel.ui.lineKeyLabel.text


def test_without_a_skull_there_is_no_brain(panel, take):
    nodes = take(CONTENT)
    assert nodes.brain is None
    assert "brain" not in panel.ui.resultSummaryLabel.text
    assert "brain" not in panel.ui.lineKeyLabel.text
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[-1] is nodes.isolines


def test_only_an_extracted_brain_is_offered_again_and_only_as_the_mask(panel, take):
    ui, nodes = panel.ui, take(with_brain())
    assert offered_by(ui.brainMaskSelector) == {"Tumor", "T1Gd brain"}
    assert offered_by(ui.segmentationSelector) == {"Tumor"}
    parameters = panel.widget._parameterNode
    parameters.wholeSegmentIDs = ["core"]
    parameters.brainMask = nodes.brain
    assert parameters.missing() == {}
    assert panel.ui.applyButton.enabled
    parameters.segmentation = nodes.brain
    assert "is a result" in parameters.missing()["segmentation"]


def test_a_second_extraction_updates_the_brain_and_a_given_one_stays(panel, take):
    first = take(with_brain())
    other = np.zeros(SHAPE, np.uint8)
    other[5:9, 5:9, 5:9] = 1
    second = take(with_brain(), other)
    assert second.brain is first.brain
    np.testing.assert_array_equal(brain_of(second), other)
    parameters = panel.widget._parameterNode
    parameters.brainMask = second.brain
    third = take({**CONTENT, "brain": {"source": "given", "volume_ml": 1300.0}})
    assert third.brain is second.brain
    np.testing.assert_array_equal(brain_of(third), other)
    parameters.brainMask = None
    assert take(with_brain()).brain is second.brain
    assert len([node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if "brain" in node.GetName()])


def test_a_corrected_brain_goes_to_the_worker(panel, take, tmp_path):
    import SimpleITK as sitk

    nodes = take(with_brain())
    parameters = panel.widget._parameterNode
    parameters.brainMask, parameters.wholeSegmentIDs = nodes.brain, ["core"]
    corrected = BRAIN.copy()
    corrected[:6] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(corrected, nodes.brain, "brain", nodes.t1gd)
    *_steps, arguments = parameters.patient().write(tmp_path)
    written = sitk.GetArrayFromImage(sitk.ReadImage(arguments["brain_mask"]))
    np.testing.assert_array_equal(written, corrected)


def test_a_brain_is_restored_with_the_scene(panel, take, tmp_path):
    nodes = take(with_brain())
    panel.widget._parameterNode.brainMask = nodes.brain
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    process_events()
    slicer.util.loadScene(path)
    process_events()
    restored = panel.widget._parameterNode.result()
    assert panel.ui.brainMaskSelector.currentNode() is restored.brain
    np.testing.assert_array_equal(brain_of(restored), BRAIN)


def test_the_panel_asks_for_no_mask(panel, take):
    take(with_brain())
    assert "by itself" in panel.ui.brainMaskSelector.noneDisplay
    assert "Where the image shows the skull also: T1Gd brain." in panel.ui.outputsLabel.text
    panel.widget._parameterNode.brainMask = panel.widget._parameterNode.result().brain
    assert "T1Gd brain" not in panel.ui.outputsLabel.text


# Alignment, and the image that was drawn on


def written(panel, folder):
    *_steps, arguments = panel.widget._parameterNode.patient().write(folder)
    return arguments


def test_the_alignment_is_a_choice(panel):
    panel.ui.advancedCollapsibleButton.collapsed = False
    process_events()
    assert panel.ui.alignCheckBox.checked
    assert panel.widget._parameterNode.method().arguments()["align"] is True
    panel.ui.alignCheckBox.checked = False
    assert panel.widget._parameterNode.method().arguments()["align"] is False


@pytest.mark.parametrize("chosen", ["", "flair", "t1gd"])
def test_a_segmentation_belongs_to_the_image_that_it_was_drawn_on(panel, take, tmp_path, chosen):
    import SimpleITK as sitk

    take(CONTENT)
    parameters = panel.widget._parameterNode
    flair = slicer.util.addVolumeFromArray(np.ones((10, 12, 14), np.float32), np.diag([2, 2, 2, 1.0]), name="FLAIR")
    parameters.flairVolume, parameters.wholeSegmentIDs = flair, ["core"]
    assert written(panel, tmp_path)["segmentation_on"] is None  # the library compares the voxels
    parameters.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(flair)
    array = np.zeros((10, 12, 14), np.uint8)
    array[4:6, 4:6, 4:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, parameters.segmentation, "core", flair)
    parameters.segmentationOn = type(parameters.segmentationOn)(chosen)
    arguments = written(panel, tmp_path)
    assert arguments["segmentation_on"] == (chosen or "flair")
    mask = sitk.ReadImage(arguments["whole"])
    assert mask.GetSize() == (14, 12, 10)


def test_an_image_that_is_drawn_on_has_to_be_chosen(panel, take):
    take(CONTENT)
    parameters = panel.widget._parameterNode
    parameters.wholeSegmentIDs = ["core"]
    assert panel.ui.applyButton.enabled
    parameters.segmentationOn = type(parameters.segmentationOn).Flair
    assert not panel.ui.applyButton.enabled
    assert "not chosen" in panel.ui.segmentationOnHintLabel.text


def test_alignment_and_drawn_on_image_are_choices_of_scripts(panel, take, monkeypatch):
    from TumorQueryModule.Logic import Logic

    nodes, ran = take(CONTENT), []
    monkeypatch.setattr(Logic, "runAndWait", lambda self, job, timeout, progress: ran.append(job) or nodes)
    parameters = panel.widget._parameterNode
    panel.widget.logic.run(
        parameters.t1gdVolume,
        None,
        parameters.segmentation,
        coreSegmentIDs=("core",),
        align=False,
        segmentationOn="t1gd",
    )
    [job] = ran
    assert (job.method.align, job.patient.segmentationOn) == (False, "t1gd")
    assert not parameters.alignImages
    assert parameters.segmentationOn.value == "t1gd"


def test_a_batch_leaves_the_images_where_they_lie_if_asked(running, tmp_path, monkeypatch):
    from TumorQueryModule import batch

    methods = []
    monkeypatch.setattr(batch, "inferAndSave", lambda row, folder, method, timeout: methods.append(method) or 1 / 0)
    for options in ([], ["--no-align"]):
        assert batch.main(["--sample", "--out", str(tmp_path / "out"), *options]) == 1
    assert [method.align for method in methods] == [True, False]
