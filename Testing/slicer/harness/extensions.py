"""Other extensions that the panel calls, as far as it does: what they check, tell and leave.

Read in lassoan/SlicerMONAIAuto3DSeg at 9cdf2df (MONAIAuto3DSeg/MONAIAuto3DSeg.py, MONAIAuto3DSegLib/process.py) and
lassoan/SlicerHDBrainExtraction at 83249e5 (HDBrainExtractionTool/HDBrainExtractionTool.py). The networks are not here:
a test says what they find.
"""

import enum
import sys
import types
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import slicer
import vtk

#: Segments of the model brats-gli-v1.0.0, by label: ID (column Name of its labels.csv), shown name, terminology.
GLIOMA_SEGMENTS = {
    1: ("Necrosis", "Necrosis in Necrosis", "SCT^6574001^Necrosis"),
    2: ("Edema", "Edema in Edema", "SCT^79654002^Edema"),
    3: ("Neoplasm", "Neoplasm, Primary in Neoplasm, Primary", "SCT^86049000^Neoplasm, Primary"),
}
MODELS = ("brats-gli-v1.0.0", "brats-men-v1.0.0", "brats-met-v1.0.0")


class EventCode(enum.Enum):
    TASKLIST_PROCESSING_STARTED = 1
    TASK_PROCESSING_STARTED = 2
    TASK_PROCESSING_ENDED = 3
    TASK_IMPORTING_RESULTS_STARTED = 4
    TASK_IMPORTING_RESULTS_ENDED = 5
    TASKLIST_PROCESSING_ENDED = 6


class ExitCode(enum.Enum):
    USER_CANCELLED = 1001
    DID_NOT_RUN = 1002


class LocalInference:
    """The process of one task; `stop` is noticed when its timer looks the next time, as there."""

    def __init__(self):
        self.procReturnCode = ExitCode.DID_NOT_RUN

    def stop(self):
        self.procReturnCode = ExitCode.USER_CANCELLED


class MONAIAuto3DSegLogic:
    """`segment` gets the images as arrays in their order and gives the labels; `exit_code` is that of its process."""

    CHECK_TIMER_INTERVAL = 20
    segment = staticmethod(lambda *images: np.zeros(images[0].shape, np.uint8))
    exit_code = 0
    offline = False
    import_fails = False
    last_inputs = ()

    def __init__(self):
        self.logCallback = None
        self.useStandardSegmentNames = True
        self._requirements = False

    def setupPythonRequirements(self, upgrade=False):
        self._requirements = True
        return True

    def process(self, inputNodes, outputSegmentation, model=None, cpu=False, waitForCompletion=True,
                sequenceBrowserNode=None, eventCallback=None, customEventCallbackData=None):  # fmt: skip
        assert self._requirements, "a test would have installed packages without a word"
        assert model in MODELS, f"RuntimeError: Model {model} not found"
        assert not waitForCompletion
        assert sequenceBrowserNode is None
        tasks = SimpleNamespace(
            inputNodes=inputNodes,
            outputSegmentation=outputSegmentation,
            model=model,
            cpu=cpu,
            segmentationTasks=[],
            eventCallback=eventCallback,
            customEventCallbackData=customEventCallbackData,
        )
        eventCallback(EventCode.TASK_PROCESSING_STARTED, tasks)
        if not inputNodes or not outputSegmentation:
            raise ValueError("Input nodes are invalid")
        if self.offline:
            raise RuntimeError(f"Failed to download model from {model}.zip")
        for node in inputNodes:
            if not node.IsA("vtkMRMLScalarVolumeNode"):
                raise ValueError(f"Input node type {node.GetClassName()} is not supported")
        self._check(inputNodes)
        task = SimpleNamespace(backgroundProcess=LocalInference(), segmentationTaskListInfo=tasks)
        tasks.segmentationTasks.append(task)
        self._log("Process Started")
        self._look_later(task, 5)
        return tasks

    def cancelProcessing(self, segmentationTaskListInfo):
        for task in segmentationTaskListInfo.segmentationTasks:
            task.backgroundProcess.stop()

    def _check(self, nodes):
        """The inference script stretches images of other shapes, whatever their headers say, and knows no skull."""
        assert len(nodes) == 4, "the model has four inputs"
        MONAIAuto3DSegLogic.last_inputs = [slicer.util.arrayFromVolume(node).copy() for node in nodes]
        assert len({array.shape for array in self.last_inputs}) == 1, "Resized() would stretch these images"

    def _log(self, text):
        if self.logCallback:
            self.logCallback(text)

    def _look_later(self, task, times):
        import qt

        def look():
            process = task.backgroundProcess
            if process.procReturnCode is ExitCode.DID_NOT_RUN and times > 1:
                self._look_later(task, times - 1)
                return
            if process.procReturnCode is ExitCode.DID_NOT_RUN:
                process.procReturnCode = self.exit_code
            self._completed(task)

        qt.QTimer.singleShot(self.CHECK_TIMER_INTERVAL, look)

    def _completed(self, task):
        tasks = task.segmentationTaskListInfo
        tell = tasks.eventCallback
        tell(EventCode.TASK_PROCESSING_ENDED, tasks)
        if task.backgroundProcess.procReturnCode == 0:
            tell(EventCode.TASK_IMPORTING_RESULTS_STARTED, tasks)
            try:
                if self.import_fails:
                    return  # there an exception that a timer prints; nothing more is told
                self._read(tasks)
            finally:
                tell(EventCode.TASK_IMPORTING_RESULTS_ENDED, tasks)
        tell(EventCode.TASKLIST_PROCESSING_ENDED, tasks)

    def _read(self, tasks):
        first, output = tasks.inputNodes[0], tasks.outputSegmentation
        labels = self.segment(*(slicer.util.arrayFromVolume(node) for node in tasks.inputNodes))
        output.SetReferenceImageGeometryParameterFromVolumeNode(first)
        for label, (segment_id, name, code) in GLIOMA_SEGMENTS.items():
            if not (labels == label).any():
                continue
            output.GetSegmentation().AddEmptySegment(segment_id, segment_id)
            mask = (labels == label).astype(np.uint8)
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, output, segment_id, first)
            segment = output.GetSegmentation().GetSegment(segment_id)
            entry = f"3D Slicer General Anatomy~SCT^49755003^Morphologically Altered Structure~{code}~^^~Anatomic~^^~^^"
            segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
            if self.useStandardSegmentNames:
                segment.SetName(name)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        item = hierarchy.GetItemByDataNode(first)
        assert item, "the first input has to be in the subject hierarchy"
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(output), hierarchy.GetItemParent(item))


class HDBrainExtractionToolLogic:
    """`extract` gets the image as an array and gives the brain."""

    extract = staticmethod(lambda image: (image > 0).astype(np.uint8))
    fails = False

    def __init__(self):
        self._requirements = False

    def setupPythonRequirements(self):
        self._requirements = True

    def process(self, inputVolume, outputVolume, outputSegmentation, device=None):
        assert self._requirements, "a test would have failed to import HD_BET"
        assert device in (None, "auto", "cpu", 0)
        if not inputVolume:
            raise ValueError("Input or output volume is invalid")
        if self.fails:
            raise ValueError("PyTorch extension needs to be installed to use this module.")
        assert outputVolume is None, "the panel needs no stripped volume"
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        slicer.util.updateVolumeFromArray(labels, self.extract(slicer.util.arrayFromVolume(inputVolume)))
        matrix = vtk.vtkMatrix4x4()
        inputVolume.GetIJKToRASMatrix(matrix)
        labels.SetIJKToRASMatrix(matrix)
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, outputSegmentation)
        slicer.mrmlScene.RemoveNode(labels)
        segment = outputSegmentation.GetSegmentation().GetNthSegment(0)
        segment.SetTag(
            segment.GetTerminologyEntryTagName(),
            "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
            "~SCT^12738006^Brain~^^~Anatomic codes - DICOM master list~^^~^^",
        )
        segment.SetName("brain")


#: Module of Slicer -> what its Python module has for others.
EXTENSIONS = {
    "MONAIAuto3DSeg": {"MONAIAuto3DSegLogic": MONAIAuto3DSegLogic},
    "HDBrainExtractionTool": {"HDBrainExtractionToolLogic": HDBrainExtractionToolLogic},
    "SlicerNNInteractive": {},
    "SlicerNNUNet": {},
}


@contextmanager
def installed(*names, **choices):
    """Extensions that are loaded, with choices of their stand-ins; gives their logics, classes of their own."""
    logics = SimpleNamespace()
    for name in names:
        module = types.ModuleType(name)
        for class_name, logic in EXTENSIONS[name].items():
            own = {key: staticmethod(value) if callable(value) else value for key, value in choices.items()}
            made = type(class_name, (logic,), own)
            setattr(module, class_name, made)
            setattr(logics, class_name, made)
        sys.modules[name] = module
        setattr(slicer.modules, name.lower(), SimpleNamespace(name=name))
    try:
        yield logics
    finally:
        for name in names:
            del sys.modules[name]
            delattr(slicer.modules, name.lower())
