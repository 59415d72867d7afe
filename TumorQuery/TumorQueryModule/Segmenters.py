"""Tumor segmentation and brain extraction by other extensions: which are installed, what they need, their calls.

Read in the sources of lassoan/SlicerMONAIAuto3DSeg and lassoan/SlicerHDBrainExtraction.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from TumorQueryModule.Worker import Outcome

#: Modules of other extensions, as slicer.modules names them.
MONAI_MODULE = "monaiauto3dseg"
HD_BRAIN_MODULE = "hdbrainextractiontool"
OTHER_SEGMENTERS = {"slicernninteractive": "nnInteractive", "slicernnunet": "nnU-Net"}

#: MONAIAuto3DSeg's model of gliomas before surgery, and its inputs in their order, by the roles of the panel.
MONAI_MODEL = "brats-gli-v1.0.0"
MONAI_INPUTS = ("flair", "t1gd", "t1", "t2")

#: Milliseconds that MONAIAuto3DSeg has to end after it has read its result.
TIME_TO_END = 2000


def isInstalled(module: str) -> bool:
    """Whether Slicer has loaded a module."""
    return hasattr(slicer.modules, module)


def adviceWithoutSegmentation() -> str:
    """A sentence on what segments the tumor: what is installed, else what to install."""
    others = [title for module, title in OTHER_SEGMENTERS.items() if isInstalled(module)]
    if isInstalled(MONAI_MODULE):
        text = _("No segmentation yet? MONAIAuto3DSeg segments gliomas from four images, below.")
    elif not others:
        text = _(
            "No segmentation yet? Install the extension MONAIAuto3DSeg in the Extensions Manager, which segments "
            "gliomas from four images; the Segment Editor does it by hand."
        )
    else:
        text = _("No segmentation yet?")
    if others:
        text += " " + _(
            "{names} is installed too: make a segmentation in its module and choose it here; nothing is passed on by "
            "itself."
        ).format(names=" / ".join(others))
    return text


def missingForMonai(images: dict[str, Any]) -> str:
    """Which images MONAIAuto3DSeg's model still needs, as a sentence; empty when all are there."""
    names = {
        "flair": _("FLAIR"),
        "t1gd": _("T1 with contrast"),
        "t1": _("T1 without contrast"),
        "t2": _("T2"),
    }
    missing = [names[role] for role in MONAI_INPUTS if images.get(role) is None or images[role].GetImageData() is None]
    if missing:
        return _("MONAIAuto3DSeg needs four images; choose also: {names}.").format(names=", ".join(missing))
    chosen = [images[role] for role in MONAI_INPUTS]
    if len({node.GetID() for node in chosen}) < len(chosen):
        return _("MONAIAuto3DSeg needs four different images; one is chosen twice.")
    return ""


def extractWithHDBrain(t1gdNode: Any, segmentationNode: Any) -> None:
    """Put the brain into a segmentation by HDBrainExtraction; takes minutes without a GPU, and Slicer waits."""
    import HDBrainExtractionTool

    extraction = HDBrainExtractionTool.HDBrainExtractionToolLogic()
    extraction.setupPythonRequirements()
    extraction.process(t1gdNode, None, segmentationNode, device="auto")
    if segmentationNode.GetSegmentation().GetNumberOfSegments() == 0:
        raise RuntimeError(_("HDBrainExtraction found no brain."))


@dataclass
class MonaiSegmentation:
    """One segmentation by MONAIAuto3DSeg at a time, in the process that it starts itself.

    :param onLog: called with every line of its log.
    :param onFinished: called with an `Outcome` at the end; the value is the segmentation node.
    :param segmentationNode: what gets the segments; None where nothing is at work.
    """

    onLog: Callable[[str], None]
    onFinished: Callable[[Outcome], None]
    _logic: Any = field(default=None, init=False)
    _tasks: Any = field(default=None, init=False)
    segmentationNode: Any = field(default=None, init=False)
    _isCancelled: bool = field(default=False, init=False)
    _startTime: float = field(default=0.0, init=False)

    @property
    def isRunning(self) -> bool:
        """Whether it is at work."""
        return self.segmentationNode is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._startTime

    def start(self, images: dict[str, Any], segmentationNode: Any) -> None:
        """Begin; the end is told to `onFinished`.

        :param images: nodes in the scene by role, skull-stripped and on one grid: what differs in shape it stretches.
        :param segmentationNode: gets the segments.
        """
        import MONAIAuto3DSeg

        self.segmentationNode, self._isCancelled, self._startTime = segmentationNode, False, time.monotonic()
        logic = MONAIAuto3DSeg.MONAIAuto3DSegLogic()
        self._logic = logic
        logic.logCallback = self.onLog
        try:
            logic.setupPythonRequirements()
            tasks = logic.process(
                [images[role] for role in MONAI_INPUTS],
                segmentationNode,
                model=MONAI_MODEL,
                cpu=False,
                waitForCompletion=False,
                eventCallback=self._onEvent,
            )
        except Exception as error:  # of another extension: a missing package, no internet, a changed model
            logging.exception("MONAIAuto3DSeg")
            self._finish("failed", _("MONAIAuto3DSeg could not be started: {error}").format(error=error))
            return
        if self.isRunning:
            self._tasks = tasks

    def cancel(self) -> None:
        """Ask it to end."""
        self._isCancelled = True
        if self._tasks is not None:
            self._logic.cancelProcessing(self._tasks)

    def stop(self, message: str = "") -> None:
        """End it at once, for instance because its nodes go away."""
        if self.isRunning:
            self.cancel()
            self._finish("cancelled", message)

    def _onEvent(self, eventCode: Any, tasks: Any) -> None:
        if not self.isRunning or self.segmentationNode is not tasks.outputSegmentation:
            return
        if eventCode.name == "TASK_IMPORTING_RESULTS_ENDED":
            # Where the import has failed nothing more is told.
            qt.QTimer.singleShot(TIME_TO_END, lambda: self._onImported(tasks))
        elif eventCode.name == "TASKLIST_PROCESSING_ENDED":
            if all(task.backgroundProcess.procReturnCode == 0 for task in tasks.segmentationTasks):
                self._finish("done")
            elif self._isCancelled:
                self._finish("cancelled")
            else:
                self._finish("failed", _("MONAIAuto3DSeg failed; its log says why."))

    def _onImported(self, tasks: Any) -> None:
        if self.isRunning and self.segmentationNode is tasks.outputSegmentation:
            self._finish("failed", _("The result of MONAIAuto3DSeg could not be read; Slicer's log says why."))

    def _finish(self, status: str, message: str = "") -> None:
        node, self.segmentationNode, self._tasks, self._logic = self.segmentationNode, None, None, None
        self.onFinished(Outcome(status, message, value=node))
