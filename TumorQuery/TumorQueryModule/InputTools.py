"""The part of the panel that makes what is missing of the inputs: the brain, and the segmentation of the tumor."""

import logging
from dataclasses import replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from TumorQueryModule import Overlay, Segmenters
from TumorQueryModule.Jobs import StripJob, StrippedNodes
from TumorQueryModule.PatientNodes import BRAIN_ROLE, RESULT_ATTRIBUTE
from TumorQueryModule.ResultNodes import brainNode, nodeNames, placeBeside
from TumorQueryModule.Studies import studyWarning
from TumorQueryModule.Worker import Outcome

#: Kind of the volumes that a segmenter gets; they are in the scene while it runs.
STRIPPED_ROLE = "stripped"


class InputTools:
    """What the panel does before a run. Buttons, run and parameters are those of the `Panel` that derives from it."""

    def setUpTools(self) -> None:
        """Connect the buttons; called by `setup`."""
        self._temporary: list[Any] = []
        self._leaving: Any = None
        self._segmentation = Segmenters.MonaiSegmentation(self._appendLog, self._onSegmentationFinished)
        self.ui.extractBrainButton.connect("clicked(bool)", self.onExtractBrain)
        self.ui.hdBrainButton.connect("clicked(bool)", self.onExtractWithHDBrain)
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)

    # Brain

    def onExtractBrain(self, checked: bool = False) -> None:
        """Extract the brain in the background, and choose it as the brain mask."""
        patient = replace(self._parameterNode.patient(), brainMask=None)
        self._start(StripJob(patient), (patient.t1gd,), lambda stripped: self._takeBrain(patient.t1gd, stripped))

    def _takeBrain(self, t1gd: Any, stripped: StrippedNodes) -> str:
        """Put an extracted brain into the scene and choose it; returns what to say of it."""
        if not stripped.hasSkull:
            return _("{name} shows no skull: no brain mask is needed.").format(name=t1gd.GetName())
        node = self._brainNode(t1gd)
        Overlay.setBrain(node, t1gd, stripped.brain)
        return self._chooseBrain(node)

    def _brainNode(self, t1gd: Any) -> Any:
        parameters = self.logic.getParameterNode()
        previous = None if parameters.keepResults else parameters.resultBrain
        return brainNode(previous, t1gd, nodeNames(parameters.outputName.strip() or t1gd.GetName())[BRAIN_ROLE])

    def _chooseBrain(self, node: Any) -> str:
        parameters = self.logic.getParameterNode()
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.resultBrain = parameters.brainMask = node
        return _("The brain is extracted and chosen: look at it, and correct it in the Segment Editor.")

    def onExtractWithHDBrain(self, checked: bool = False) -> None:
        """Extract the brain with the extension HDBrainExtraction, and choose it as the brain mask."""
        t1gd = self._parameterNode.t1gdVolume
        made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        try:
            with slicer.util.WaitCursor():
                Segmenters.extractWithHDBrain(t1gd, made)
            node = self._brainNode(t1gd)
            node.GetSegmentation().DeepCopy(made.GetSegmentation())
        except Exception as error:  # of another extension: a missing package, no internet
            logging.exception("HDBrainExtraction")
            text = _("HDBrainExtraction could not extract the brain: {error}").format(error=error)
            self.ui.statusLabel.text = text
            slicer.util.errorDisplay(text, windowTitle=_("TumorQuery"))
            return
        finally:
            slicer.mrmlScene.RemoveNode(made)
        node.SetReferenceImageGeometryParameterFromVolumeNode(t1gd)
        Overlay.showBrainAsOutline(node)
        self.ui.statusLabel.text = self._chooseBrain(node)

    # Segmentation

    def _imagesToSegment(self) -> dict[str, Any]:
        parameters = self._parameterNode
        if not parameters:
            return {}
        return {
            "t1gd": parameters.t1gdVolume,
            "flair": parameters.flairVolume,
            "t1": parameters.t1Volume,
            "t2": parameters.t2Volume,
        }

    def onSegment(self, checked: bool = False) -> None:
        """Take the skull off the images in the background, then have MONAIAuto3DSeg segment the tumor."""
        patient, images = self._parameterNode.patient(), self._imagesToSegment()
        inUse = tuple({*images.values(), *([patient.brainMask] if patient.brainMask else [])})
        job = StripJob(patient, images, self._parameterNode.alignImages)
        self._start(job, inUse, lambda stripped: self._segmentStripped(patient.t1gd, stripped))

    def _segmentStripped(self, t1gd: Any, stripped: StrippedNodes) -> str:
        if stripped.hasSkull:
            self._takeBrain(t1gd, stripped)
        images = {}
        for role, node in stripped.images.items():
            name = slicer.mrmlScene.GenerateUniqueName(_("{role} without skull").format(role=role.upper()))
            node.SetName(name)
            node.SetAttribute(RESULT_ATTRIBUTE, STRIPPED_ROLE)
            images[role] = slicer.mrmlScene.AddNode(node)
        segmentation = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSegmentationNode",
            slicer.mrmlScene.GenerateUniqueName(_("{patient} tumor").format(patient=t1gd.GetName())),
        )
        segmentation.CreateDefaultDisplayNodes()
        for node in (*images.values(), segmentation):
            node.SetAndObserveTransformNodeID(t1gd.GetTransformNodeID())
            placeBeside(node, t1gd)
        self._temporary, self._segmentedImage = list(images.values()), t1gd
        self._segmentation.start(images, segmentation)
        return _("MONAIAuto3DSeg segments the tumor.") if self._segmentation.isRunning else self.ui.statusLabel.text

    def _onSegmentationFinished(self, outcome: Outcome) -> None:
        node, parameters = outcome.value, self.logic.getParameterNode()
        text = {"done": _("The tumor is segmented and chosen: look at it before you apply."), "failed": outcome.message}
        if outcome.status == "done":
            node.SetReferenceImageGeometryParameterFromVolumeNode(self._segmentedImage)
            parameters.segmentation = node
        temporary, self._temporary = self._temporary, []
        for one in (*temporary, *(() if outcome.status == "done" else (node,))):
            if one is not self._leaving:
                slicer.mrmlScene.RemoveNode(one)
        said = text.get(outcome.status, (_("Cancelled.") + " " + outcome.message).strip())
        self.ui.statusLabel.text = said
        self._appendLog(said)
        self._updatePanel()
        if outcome.status == "failed":
            slicer.util.errorDisplay(said, windowTitle=_("TumorQuery"))

    # The panel

    def _updateTools(self) -> None:
        """What can be made of the chosen images, and what cannot and why."""
        ui, parameters, idle = self.ui, self._parameterNode, self._isIdle
        t1gd = parameters.t1gdVolume if parameters else None
        hasImage = t1gd is not None and t1gd.GetImageData() is not None
        ui.hdBrainButton.visible = Segmenters.isInstalled(Segmenters.HD_BRAIN_MODULE)
        for button in (ui.extractBrainButton, ui.hdBrainButton):
            button.enabled = idle and hasImage
        ui.noSegmentationLabel.text = Segmenters.adviceWithoutSegmentation()
        isWanted = parameters is not None and parameters.segmentation is None
        ui.noSegmentationLabel.visible = isWanted
        ui.segmenterGroupBox.visible = isWanted and Segmenters.isInstalled(Segmenters.MONAI_MODULE)
        missing = Segmenters.missingForMonai(self._imagesToSegment())
        ui.segmentButton.enabled = idle and not missing
        ui.segmenterHintLabel.text = missing or _(
            "The images are aligned, and the skull is taken off before, since the model needs brains alone."
        )
        ui.progressBar.maximum = 0 if self._segmentation.isRunning else 100
        nodes = parameters.patient().nodes if parameters else ()
        if ui.segmenterGroupBox.visible and parameters.t2Volume:
            nodes = (*nodes, parameters.t2Volume)
        ui.studyWarningLabel.text = studyWarning(nodes)
        ui.studyWarningLabel.visible = bool(ui.studyWarningLabel.text)
