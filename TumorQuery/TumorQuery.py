"""TumorQuery in 3D Slicer: a patient's tumor cell density from MRI and a segmentation.

The module draws and asks; what is computed is computed by TumorQueryLib in a process of its own.
"""

import enum
import hashlib
import logging
import os
import sys
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union

import qt
import slicer
import vtk
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTextNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from TumorQueryModule import Dependencies, Overlay
from TumorQueryModule.Jobs import BuildJob, InferJob, InfoJob, MatchJob, Method
from TumorQueryModule.PatientNodes import PatientNodes, segmentIDs, segmentNames, suggestSegments
from TumorQueryModule.ResultNodes import REFINED, ResultNodes, candidate, predictedVolumes, rankOfRow, showDensity
from TumorQueryModule.Worker import Outcome, Run, RunState, WorkerProcess, pythonExecutable, workerEnvironment

#: How often a run is carried on, milliseconds.
POLL_INTERVAL = 50

#: The sample case: input -> (node name, file in Resources/SampleData).
SAMPLE_FILES = {
    "t1gd": ("Sample T1Gd", "t1gd.nii.gz"),
    "flair": ("Sample FLAIR", "flair.nii.gz"),
    "segmentation": ("Sample segmentation", "segmentation.nii.gz"),
}
SAMPLE_NAME = "TumorQuerySample"

#: What the labels of the sample's segmentation stand for.
SAMPLE_SEGMENTS = {
    1: ("Necrosis", (0.55, 0.75, 1.0)),
    2: ("Edema", (0.35, 0.85, 0.35)),
    4: ("Enhancing tumor", (1.0, 1.0, 1.0)),
}

#: The database that is used when no file is chosen.
BUNDLED_DATABASE = "starter"


class TumorQuery(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("TumorQuery")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = ["Segmentations", "SegmentEditor", "SampleData"]
        self.parent.contributors = ["TumorQuery contributors"]
        self.parent.helpText = _(
            "TumorQuery estimates the density of tumor cells everywhere in the brain of a patient with a glioma, also "
            "where MRI shows nothing. It compares the segmented tumor with a database of simulated tumors and shows "
            "the density of the best match over the images. See the "
            '<a href="{url}">documentation</a>.<p>'
            "<b>This is research software and not a medical device: it must not be used for diagnosis or treatment.</b>"
            "<p>All data stay on this computer."
        ).format(url="https://github.com/TumorQuery/SlicerTumorQuery#readme")
        self.parent.acknowledgementText = _(
            "The method is that of Ezhov et al., A for-loop is all you need. For solving the inverse problem in the "
            "case of personalized tumor growth modeling, 2022. Please cite it when you use this module. The bundled "
            "atlas and database derive from SRI24 (Rohlfing et al., Human Brain Mapping 31, 2010, "
            "doi:10.1002/hbm.20906), under CC BY-SA 3.0."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the sample case in the Sample Data module. Its files come with the extension: nothing is downloaded."""
    import SampleData

    iconsPath = os.path.join(os.path.dirname(__file__), "Resources", "Icons")
    folder = Dependencies.resourcesFolder() / "SampleData"
    names, files = zip(*SAMPLE_FILES.values(), strict=True)
    paths = [folder / file for file in files]
    SampleData.SampleDataLogic.registerCustomSampleDataCategory("TumorQuery", title=_("TumorQuery"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="TumorQuery",
        sampleName=SAMPLE_NAME,
        thumbnailFileName=os.path.join(iconsPath, "TumorQuerySample.png"),
        uris=[path.as_uri() for path in paths],
        fileNames=[f"TumorQuery-{file}" for file in files],
        nodeNames=list(names),
        # The bundled file's own: a copy of an earlier version in Slicer's cache does not pass for it.
        checksums=[f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths],
        loadFileTypes=["VolumeFile", "VolumeFile", "SegmentationFile"],
    )


class Strategy(enum.Enum):
    """How the best matches are found; values as TumorQueryLib names them."""

    Direct = "direct"
    BruteForce = "brute-force"
    Downsampled64 = "ds64"
    Downsampled32 = "ds32"
    Autoencoder = "ae"
    VariationalAutoencoder = "vae"
    Hashing = "bihash"
    Radiomics = "radiomics"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Strategy.Direct: _("Direct (exact, fast)"),
            Strategy.BruteForce: _("Brute force (exact, slow)"),
            Strategy.Downsampled64: _("Downsampled, 64 voxels"),
            Strategy.Downsampled32: _("Downsampled, 32 voxels"),
            Strategy.Autoencoder: _("Autoencoder (needs PyTorch)"),
            Strategy.VariationalAutoencoder: _("Variational autoencoder (needs PyTorch)"),
            Strategy.Hashing: _("Hashing (needs PyTorch)"),
            Strategy.Radiomics: _("Radiomics (needs SlicerRadiomics)"),
        }[self]


class RegistrationMode(enum.Enum):
    """How the patient is mapped to the atlas; values as TumorQueryLib names them."""

    Deformable = "deformable"
    Affine = "affine"
    NoRegistration = "none"

    def label(self) -> str:
        """What the panel shows."""
        return {
            RegistrationMode.Deformable: _("Deformable (recommended)"),
            RegistrationMode.Affine: _("Affine (faster)"),
            RegistrationMode.NoRegistration: _("None (images are in the atlas space)"),
        }[self]


class Refinement(enum.Enum):
    """How the best match is fitted further; values as TumorQueryLib names them."""

    NoRefinement = "none"
    Atlas = "atlas"
    Patient = "patient"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Refinement.NoRefinement: _("None: the best match itself"),
            Refinement.Atlas: _("In the atlas"),
            Refinement.Patient: _("In the patient's own anatomy (slower)"),
        }[self]


class LabelConvention(enum.Enum):
    """What the numbers of a label map mean; values as TumorQueryLib names them."""

    Automatic = "automatic"
    Brats2013 = "brats2013"
    Brats2018 = "brats2018"
    Brats2023 = "brats2023"
    Brats2024 = "brats2024"
    Decathlon = "decathlon"

    def label(self) -> str:
        """What the panel shows."""
        return {
            LabelConvention.Automatic: _("Recognize (labels 1, 2, 4)"),
            LabelConvention.Brats2013: _("BraTS 2012-2016: 3 = non-enhancing core"),
            LabelConvention.Brats2018: _("BraTS 2017-2021: 1, 2, 4"),
            LabelConvention.Brats2023: _("BraTS 2023: 3 = enhancing"),
            LabelConvention.Brats2024: _("BraTS 2024: 4 = resection cavity"),
            LabelConvention.Decathlon: _("Medical Decathlon: 1 = edema"),
        }[self]


@parameterNodeWrapper
class TumorQueryParameterNode:
    """All choices of the user and the nodes of the result; saved and restored with the scene."""

    t1gdVolume: vtkMRMLScalarVolumeNode
    flairVolume: vtkMRMLScalarVolumeNode
    t1Volume: vtkMRMLScalarVolumeNode
    brainMask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007  (read at run time)
    segmentation: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    coreSegmentIDs: list[str]
    wholeSegmentIDs: list[str]
    labelConvention: LabelConvention = LabelConvention.Automatic

    databaseFile: str = ""
    buildEntries: Annotated[int, WithinRange(100, 200_000)] = 20_000

    strategy: Strategy = Strategy.Direct
    registration: RegistrationMode = RegistrationMode.Deformable
    refinement: Refinement = Refinement.NoRefinement
    top: Annotated[int, WithinRange(1, 50)] = 15
    keepResults: bool = False

    overlayOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.6
    overlayThreshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.05
    showOutlines: bool = True
    showSurfaces: bool = False

    resultDensity: vtkMRMLScalarVolumeNode
    resultIsolines: vtkMRMLSegmentationNode
    resultMatches: vtkMRMLTableNode
    resultAtlasToPatient: vtkMRMLTransformNode
    resultPatientToAtlas: vtkMRMLTransformNode
    resultReport: vtkMRMLTextNode

    def patient(self) -> PatientNodes:
        """The chosen inputs."""
        automatic = self.labelConvention is LabelConvention.Automatic
        return PatientNodes(
            t1gd=self.t1gdVolume,
            flair=self.flairVolume,
            t1=self.t1Volume,
            brainMask=self.brainMask,
            segmentation=self.segmentation,
            coreSegmentIDs=tuple(self.coreSegmentIDs),
            wholeSegmentIDs=tuple(self.wholeSegmentIDs),
            labelConvention=None if automatic else self.labelConvention.value,
        )

    def method(self) -> Method:
        """The chosen method."""
        return Method(
            database=self.databaseFile or BUNDLED_DATABASE,
            strategy=self.strategy.value,
            registration=self.registration.value,
            refine=None if self.refinement is Refinement.NoRefinement else self.refinement.value,
            top=self.top,
        )

    def result(self) -> ResultNodes:
        """The nodes of the result; those that are not in the scene are None."""
        return ResultNodes(**{role: getattr(self, parameter) for role, parameter in RESULT_PARAMETERS.items()})

    def setResult(self, nodes: ResultNodes) -> None:
        """Remember the nodes of a result."""
        with slicer.util.NodeModify(self.parameterNode):
            for role, parameter in RESULT_PARAMETERS.items():
                setattr(self, parameter, getattr(nodes, role))


#: Role of a node of the result -> parameter that refers to it.
RESULT_PARAMETERS = {
    "density": "resultDensity",
    "isolines": "resultIsolines",
    "matches": "resultMatches",
    "atlasToPatient": "resultAtlasToPatient",
    "patientToAtlas": "resultPatientToAtlas",
    "report": "resultReport",
}


class TumorQueryWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. It changes parameters and starts jobs; it computes nothing."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: TumorQueryLogic | None = None
        self._parameterNode: TumorQueryParameterNode | None = None
        self._parameterNodeGuiTag = None
        self._observedSegmentation = None
        self._updatingPanel = False
        self._describedDatabase: str | None = None
        self._summarized: tuple[Any, ...] = ()
        self._missingRequirements: list[Any] = []
        self._nodesInUse: tuple[Any, ...] = ()
        self._onDone: Any = None

    def setup(self) -> None:
        """Build the panel; called when the module is opened the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/TumorQuery.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)

        self.logic = TumorQueryLogic()
        self._run = Run(
            self.logic.makeProcess,
            onProgress=self._showProgress,
            onLog=self._appendLog,
            onFinished=self._onRunFinished,
            onStateChanged=self._onRunStateChanged,
        )
        self._databaseRun = Run(self.logic.makeProcess, onFinished=self._showDatabase)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL)
        self._timer.connect("timeout()", self._onTimer)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        slicer.app.connect("aboutToQuit()", self._stopRuns)

        ui = self.ui
        ui.loadSampleButton.connect("clicked(bool)", self.onLoadSample)
        ui.loadFilesButton.connect("clicked(bool)", self.onLoadFiles)
        ui.dicomButton.connect("clicked(bool)", self.onOpenDicom)
        ui.segmentEditorButton.connect("clicked(bool)", self.onOpenSegmentEditor)
        ui.coreSegmentsSelector.connect("segmentSelectionChanged(QStringList)", self.onSegmentsChanged)
        ui.wholeSegmentsSelector.connect("segmentSelectionChanged(QStringList)", self.onSegmentsChanged)
        ui.databasePathLineEdit.connect("currentPathChanged(QString)", self.onDatabasePathChanged)
        ui.buildPathLineEdit.connect("currentPathChanged(QString)", self._updatePanel)
        ui.buildButton.connect("clicked(bool)", self.onBuild)
        ui.runButton.connect("clicked(bool)", self.onRun)
        ui.cancelButton.connect("clicked(bool)", self.onCancel)
        ui.copyLogButton.connect("clicked(bool)", self.onCopyLog)
        ui.matchesTableView.connect("clicked(QModelIndex)", self.onMatchClicked)
        ui.colorTableComboBox.connect("currentNodeChanged(vtkMRMLNode*)", self.onColorTableChanged)
        ui.jumpButton.connect("clicked(bool)", self.onJump)

        self.initializeParameterNode()

    def cleanup(self) -> None:
        """End what runs; called when the application closes or the module is reloaded."""
        self._stopRuns()
        self._timer.stop()
        slicer.app.disconnect("aboutToQuit()", self._stopRuns)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Take up the parameter node again; called each time the module is opened."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Leave the parameter node; called each time another module is opened. A run goes on."""
        self._disconnectParameterNode()

    def onReload(self) -> None:
        """Reload the library too; developers' Reload button."""
        for name in [name for name in sys.modules if name.split(".")[0] in ("TumorQueryModule", "TumorQueryLib")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes go away: end what works with them."""
        self._stopRuns(_("The scene was closed."))
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """Start anew, if the panel is shown."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        """End a run that needs the node that goes away."""
        if self._run.state is not RunState.Idle and node in self._nodesInUse:
            self._run.stop(_("{name} was removed from the scene.").format(name=node.GetName()))

    def initializeParameterNode(self) -> None:
        """Connect the panel to the scene's parameter node, with a first guess of the inputs."""
        self._missingRequirements = self.logic.missingRequirements()
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.t1gdVolume:
            self._parameterNode.t1gdVolume = volumeOfName("t1gd", "t1ce", "t1c", "t1 c", "gado", "post")
        if not self._parameterNode.flairVolume:
            self._parameterNode.flairVolume = volumeOfName("flair")

    def setParameterNode(self, parameterNode: "TumorQueryParameterNode | None") -> None:
        """Connect the panel to a parameter node, or to none."""
        self._disconnectParameterNode()
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updatePanel)
        self._updatePanel()

    def _disconnectParameterNode(self) -> None:
        if self._parameterNodeGuiTag is None:
            return
        self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNodeGuiTag = None
        self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updatePanel)

    # Inputs

    def onLoadSample(self, checked: bool = False) -> None:
        """Load the sample case and choose its nodes."""
        with slicer.util.tryWithErrorDisplay(_("The sample case could not be loaded."), waitCursor=True):
            nodes = self.logic.loadSample()
            with slicer.util.NodeModify(self._parameterNode.parameterNode):
                self._parameterNode.t1gdVolume = nodes["t1gd"]
                self._parameterNode.flairVolume = nodes["flair"]
                self._parameterNode.t1Volume = None
                self._parameterNode.brainMask = None
                self._parameterNode.segmentation = nodes["segmentation"]
            slicer.util.setSliceViewerLayers(background=nodes["t1gd"], foreground=None, label=None, fit=True)

    def onLoadFiles(self, checked: bool = False) -> None:
        """Open Slicer's dialog that loads files."""
        slicer.util.openAddDataDialog()

    def onOpenDicom(self, checked: bool = False) -> None:
        """Open the DICOM browser."""
        slicer.util.selectModule("DICOM")

    def onOpenSegmentEditor(self, checked: bool = False) -> None:
        """Open the Segment Editor."""
        slicer.util.selectModule("SegmentEditor")

    def onSegmentsChanged(self, segments: Any = None) -> None:
        """Remember which segments are checked."""
        if self._updatingPanel or not self._parameterNode:
            return
        with slicer.util.NodeModify(self._parameterNode.parameterNode):
            self._parameterNode.coreSegmentIDs = list(self.ui.coreSegmentsSelector.selectedSegmentIDs())
            self._parameterNode.wholeSegmentIDs = list(self.ui.wholeSegmentsSelector.selectedSegmentIDs())

    def _updateSegments(self) -> None:
        """Offer the segments of the chosen segmentation; guess which are meant when none of them is chosen."""
        parameters = self._parameterNode
        segmentation = parameters.segmentation if parameters else None
        if segmentation is not None and not segmentation.IsA("vtkMRMLSegmentationNode"):
            segmentation = None
        if segmentation is not self._observedSegmentation:
            events = (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved)
            for event in events:
                if self._observedSegmentation:
                    self.removeObserver(self._observedSegmentation, event, self._updatePanel)
                if segmentation:
                    self.addObserver(segmentation, event, self._updatePanel)
            self._observedSegmentation = segmentation
        if segmentation:
            chosen = {*parameters.coreSegmentIDs, *parameters.wholeSegmentIDs}
            if not chosen & set(segmentIDs(segmentation)):
                core, whole = suggestSegments(segmentation)
                with slicer.util.NodeModify(parameters.parameterNode):
                    parameters.coreSegmentIDs = list(core)
                    parameters.wholeSegmentIDs = list(whole)
        for selector, chosen in (
            (self.ui.coreSegmentsSelector, parameters.coreSegmentIDs if parameters else []),
            (self.ui.wholeSegmentsSelector, parameters.wholeSegmentIDs if parameters else []),
        ):
            selector.setCurrentNode(segmentation)
            if segmentation:
                selector.setSelectedSegmentIDs(list(chosen))

    # Database

    def onDatabasePathChanged(self, path: str) -> None:
        """Remember the database file."""
        if self._parameterNode and not self._updatingPanel:
            self._parameterNode.databaseFile = path

    def onBuild(self, checked: bool = False) -> None:
        """Build a larger database in the background."""
        path = Path(self.ui.buildPathLineEdit.currentPath)
        if path.suffix.lower() != ".h5":
            path = path.with_name(path.name + ".h5")
        self._start(BuildJob(path, self._parameterNode.buildEntries), (), self._useBuiltDatabase)

    def _useBuiltDatabase(self, path: Path) -> None:
        self._describedDatabase = None
        self._parameterNode.databaseFile = str(path)
        self._appendLog(_("The database {name} is built and chosen.").format(name=path.name))

    def _describeDatabase(self) -> None:
        """Ask the worker what the chosen database holds, once for each choice."""
        database = self._parameterNode.databaseFile or BUNDLED_DATABASE
        if database == self._describedDatabase or self._databaseRun.state is not RunState.Idle:
            return
        if self._missingRequirements:
            self.ui.databaseInfoLabel.text = _("What it holds is shown once the Python packages are installed.")
            return
        self._describedDatabase = database
        self.ui.databaseInfoLabel.text = _("Reading the database...")
        self._databaseRun.start(InfoJob(database))
        self._timer.start()

    def _showDatabase(self, outcome: Outcome) -> None:
        if outcome.status == "done":
            about = outcome.value
            isBundled = self._describedDatabase == BUNDLED_DATABASE
            text = _("Starter database of the extension: ") if isBundled else ""
            text += _(
                "{entries} simulated tumors in the atlas {atlas}; thresholds of the density: "
                "{t1gd:g} for T1Gd, {flair:g} for FLAIR."
            ).format(
                entries=about["entries"],
                atlas=about["atlas_name"],
                t1gd=about["threshold_t1gd"],
                flair=about["threshold_flair"],
            )
        else:
            text = outcome.message
        self.ui.databaseInfoLabel.text = text
        if self._parameterNode and outcome.status != "cancelled":  # cancelled: the panel is being closed
            self._describeDatabase()  # the choice may have changed meanwhile

    # Run

    def onRun(self, checked: bool = False) -> None:
        """Install what is missing, with consent, and infer in the background."""
        parameters = self._parameterNode
        patient = parameters.patient()
        previous = ResultNodes() if parameters.keepResults else parameters.result()
        job = InferJob(patient, parameters.method(), previous)
        self._start(job, patient.nodes, self._showNewResult, parameters.strategy)

    def _start(self, job: Any, nodesInUse: tuple[Any, ...], onDone: Any, strategy: Strategy = Strategy.Direct) -> None:
        """Start a job in the background.

        :param nodesInUse: nodes that the job cannot do without.
        :param onDone: called with the job's value when it is done.
        :param strategy: the strategy that the job queries with; some need more packages.
        """
        self._nodesInUse = nodesInUse
        self._onDone = onDone
        with slicer.util.tryWithErrorDisplay(_("The run could not be started.")):
            self.logic.ensureRequirements(strategy.value)
            self._missingRequirements = self.logic.missingRequirements()
            self.ui.logTextEdit.setPlainText("")
            self._run.start(job)
            self._timer.start()

    def onCancel(self, checked: bool = False) -> None:
        """Ask the run to stop."""
        self._run.cancel()

    def _stopRuns(self, message: str = "") -> None:
        self._run.stop(message)
        self._databaseRun.stop()

    def _onTimer(self) -> None:
        self._run.poll()
        self._databaseRun.poll()
        if self._run.state is not RunState.Idle:
            seconds = int(self._run.elapsed)
            self.ui.elapsedLabel.text = f"{seconds // 60}:{seconds % 60:02d}"
        elif self._databaseRun.state is RunState.Idle:
            self._timer.stop()

    def _onRunStateChanged(self, state: RunState) -> None:
        if state is RunState.Starting:
            self._showProgress(0.0, _("Preparing the images"))
        elif state is RunState.Cancelling:
            self.ui.statusLabel.text = _("Cancelling...")
        self._updatePanel()

    def _showProgress(self, value: float, message: str) -> None:
        self.ui.progressBar.value = round(100 * value)
        if message != self.ui.statusLabel.text:
            self.ui.statusLabel.text = message
            self._appendLog(message)

    def _appendLog(self, line: str) -> None:
        self.ui.logTextEdit.appendPlainText(f"{time.strftime('%H:%M:%S')}  {line}")

    def onCopyLog(self, checked: bool = False) -> None:
        """Copy the log to the clipboard."""
        slicer.app.clipboard().setText(self.ui.logTextEdit.plainText)

    def _onRunFinished(self, outcome: Outcome) -> None:
        if outcome.status == "done":
            text = _("Done.")
            self._onDone(outcome.value)
        elif outcome.status == "cancelled":
            text = (_("Cancelled.") + " " + outcome.message).strip()
        else:
            text = outcome.message
        self.ui.progressBar.value = 100 if outcome.status == "done" else 0
        self.ui.statusLabel.text = text
        self._appendLog(text)
        self._updatePanel()
        if outcome.status == "failed":
            slicer.util.errorDisplay(text, windowTitle=_("TumorQuery"), detailedText=outcome.log)

    # Result

    def _showNewResult(self, nodes: ResultNodes) -> None:
        self._parameterNode.setResult(nodes)
        if self._parameterNode.segmentation.IsA("vtkMRMLSegmentationNode"):
            Overlay.showAsOutlines(self._parameterNode.segmentation)
        Overlay.showInSliceViews(self._parameterNode.t1gdVolume, nodes.density, self._parameterNode.overlayOpacity)

    def onMatchClicked(self, index: Any) -> None:
        """Show the density of the match in the clicked row."""
        result = self._parameterNode.result()
        if self._run.state is not RunState.Idle or result.density is None or result.report is None:
            return
        rank = rankOfRow(result.content, index.row())
        if rank == result.rank:
            return
        if rank == REFINED and result.refined:
            for _step in showDensity(result, result.refined, REFINED):
                pass
            self._updatePanel()
            return
        self._start(MatchJob(result, rank), (result.density, result.isolines), lambda nodes: None)

    def onColorTableChanged(self, node: Any) -> None:
        """Give the density another color table."""
        density = self._parameterNode.resultDensity if self._parameterNode else None
        if node and density and not self._updatingPanel:
            density.GetDisplayNode().SetAndObserveColorNodeID(node.GetID())

    def onJump(self, checked: bool = False) -> None:
        """Fit the slice views and move them to the tumor."""
        parameters = self._parameterNode
        Overlay.showInSliceViews(parameters.t1gdVolume, parameters.resultDensity, parameters.overlayOpacity)

    # The whole panel

    def _updatePanel(self, caller: Any = None, event: Any = None) -> None:
        """Bring everything that no parameter is connected to up to date."""
        if self._updatingPanel:
            return
        self._updatingPanel = True
        try:
            self._updateSegments()
            self._updateChecks()
            self._updateButtons()
            self._updateResult()
            if self._parameterNode:
                self.ui.databasePathLineEdit.currentPath = self._parameterNode.databaseFile
                self._describeDatabase()
        finally:
            self._updatingPanel = False

    def _updateChecks(self) -> None:
        """A check mark, or a sentence, at every input."""
        patient = self._parameterNode.patient() if self._parameterNode else PatientNodes(None)
        missing = patient.missing()
        given = {
            "t1gd": patient.t1gd,
            "flair": patient.flair,
            "t1": patient.t1,
            "brainMask": patient.brainMask,
            "segmentation": patient.segmentation,
            "coreSegments": patient.coreSegmentIDs,
            "wholeSegments": patient.wholeSegmentIDs,
        }
        hints = {**missing}
        if patient.segmentation and not patient.isLabelMap:
            hints["coreSegments"] = segmentNames(patient.segmentation, patient.coreSegmentIDs) or _(
                "Without a core the match rests on FLAIR alone."
            )
            hints.setdefault("wholeSegments", segmentNames(patient.segmentation, patient.wholeSegmentIDs))
        for name, value in given.items():
            check, hint = getattr(self.ui, f"{name}CheckLabel"), getattr(self.ui, f"{name}HintLabel")
            check.text = "\N{CHECK MARK}" if value and name not in missing else ""
            hint.text = hints.get(name, "")
            hint.visible = bool(hint.text)
        isSegmentation = patient.segmentation is not None and not patient.isLabelMap
        for name in ("coreSegments", "wholeSegments"):
            for part in ("Label", "Selector", "CheckLabel"):
                getattr(self.ui, f"{name}{part}").visible = isSegmentation
        self.ui.labelConventionLabel.visible = patient.isLabelMap
        self.ui.labelConventionComboBox.visible = patient.isLabelMap
        self.ui.noSegmentationLabel.visible = patient.segmentation is None

    def _updateButtons(self) -> None:
        ui, state = self.ui, self._run.state
        idle = state is RunState.Idle
        missing = self._parameterNode.patient().missing() if self._parameterNode else {"": _("No scene.")}
        ui.runButton.enabled = idle and not missing
        if not idle:
            ui.runButton.toolTip = _("A run is under way.")
        else:
            ui.runButton.toolTip = " ".join(missing.values()) or _("Infer the tumor cell density in the background.")
        ui.cancelButton.enabled = state in (RunState.Starting, RunState.Running)
        ui.cancelButton.toolTip = _("Nothing is running.") if idle else _("Stop the run and discard what it has done.")
        ui.buildButton.enabled = idle and bool(ui.buildPathLineEdit.currentPath)
        if not ui.buildPathLineEdit.currentPath:
            ui.buildButton.toolTip = _("Choose a file for the new database.")
        else:
            ui.buildButton.toolTip = _("Simulate the tumors in the background; this can take hours.")
        ui.dependenciesLabel.visible = bool(self._missingRequirements)
        ui.dependenciesLabel.text = _(
            "On the first run these Python packages will be installed, after you agree: {packages}."
        ).format(packages=", ".join(str(requirement) for requirement in self._missingRequirements))

    def _updateResult(self) -> None:
        """The table, the summary and the display of the result."""
        ui, parameters = self.ui, self._parameterNode
        result = parameters.result() if parameters else ResultNodes()
        ui.matchesTableView.setMRMLTableNode(result.matches)
        hasResult = result.density is not None and result.report is not None
        ui.matchesTableView.visible = result.matches is not None
        for widget in (ui.opacitySlider, ui.thresholdSlider, ui.colorTableComboBox, ui.jumpButton):
            widget.enabled = hasResult
        ui.showOutlinesCheckBox.enabled = ui.showSurfacesCheckBox.enabled = result.isolines is not None
        if not hasResult:
            self._summarized = ()
            ui.resultSummaryLabel.text = _("No result yet.")
            return
        Overlay.setThreshold(result.density, parameters.overlayThreshold)
        Overlay.setOpacity(result.density, parameters.overlayOpacity)
        ui.colorTableComboBox.setCurrentNode(result.density.GetDisplayNode().GetColorNode())
        if result.isolines:
            Overlay.setOutlinesVisible(result.isolines, parameters.showOutlines)
            Overlay.setSurfacesVisible(result.isolines, parameters.showSurfaces)
        shown = (result.report.GetMTime(), result.density.GetImageData().GetMTime(), result.rank)
        if shown != self._summarized:
            self._summarized = shown
            ui.resultSummaryLabel.text = summaryOf(result)
            ui.matchesTableView.selectRow(result.row)


def volumeOfName(*parts: str) -> Any:
    """The only image of the scene whose name holds one of some parts; None when there is none, or more than one."""
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if not node.IsA("vtkMRMLLabelMapVolumeNode") and any(part in node.GetName().casefold() for part in parts)
    ]
    return found[0] if len(found) == 1 else None


def summaryOf(result: ResultNodes) -> str:
    """The shown match in a few lines: how well it fits, what it says, and warnings."""
    content = result.content
    shown = candidate(content, result.rank)
    observed = content["patient_space"]["volumes_ml"]["observed"]
    predicted = predictedVolumes(result)
    fit = []
    if shown["parameters"]["frame"] == "atlas":
        fit.append(
            _("Dice in the atlas: T1Gd {t1gd:.2f}, FLAIR {flair:.2f}").format(
                t1gd=shown["dice_t1gd"], flair=shown["dice_flair"]
            )
        )
    if result.row == 0:  # the worker compares what it gives with the segmentation in the patient's space too
        fit.append(
            _("Dice in the patient: core {core:.2f}, whole tumor {whole:.2f}").format(
                core=content["patient_space"]["dice_core"], whole=content["patient_space"]["dice_whole"]
            )
        )
    title = _("Refined from the best matches")
    if result.rank != REFINED:
        title = _("Match {rank} of {count}").format(rank=result.rank + 1, count=len(content["matches"]))
    lines = [
        f"<b>{title}</b>",
        *fit,
        _("Core {core:.0f} ml (segmented {seen:.0f} ml)").format(core=predicted["core"], seen=observed["core"]),
        _("Whole tumor {whole:.0f} ml (segmented {seen:.0f} ml)").format(
            whole=predicted["whole"], seen=observed["whole"]
        ),
        _("Infiltration length {length:.1f} mm, proliferation times time {rhoT:.0f}").format(
            length=shown["parameters"]["infiltration_length_patient_mm"], rhoT=shown["parameters"]["rho_t"]
        ),
    ]
    lines += [_("Note: {text}").format(text=text) for text in content["warnings"]]
    return "<br>".join(lines)


def logNewMessages() -> Callable[[float, str], None]:
    """A progress that writes each new message to the application's log once."""
    last = [""]

    def log(value: float, message: str) -> None:
        if message != last[0]:
            last[0] = message
            logging.info(f"{value:4.0%} {message}")

    return log


class TumorQueryLogic(ScriptedLoadableModuleLogic):
    """What the module does, without the panel; usable from scripts.

    ::

        import TumorQuery
        t1gd, flair = getNode("T1Gd"), getNode("FLAIR")
        segmentation = getNode("Segmentation")
        result = TumorQuery.TumorQueryLogic().run(t1gd, flair, segmentation)
        print(result.content["patient_space"])

    :param processFactory: makes the worker's process; tests give another one.
    """

    def __init__(self, processFactory: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._processFactory = processFactory

    def getParameterNode(self) -> TumorQueryParameterNode:
        """The scene's parameter node of this module; made when there is none."""
        return TumorQueryParameterNode(super().getParameterNode())

    def makeProcess(self) -> WorkerProcess:
        """A new worker process, not started yet."""
        if self._processFactory:
            return self._processFactory()
        return WorkerProcess(pythonExecutable(), workerEnvironment(Dependencies.parentOfLibrary()))

    @staticmethod
    def requirementsFile() -> str:
        """The file that lists the Python packages the worker needs."""
        return os.path.join(os.path.dirname(__file__), "Resources", "requirements.txt")

    def missingRequirements(self) -> list[Any]:
        """The Python packages that a run will install."""
        return Dependencies.missingRequirements(self.requirementsFile())

    def ensureRequirements(self, strategy: str) -> None:
        """Install the Python packages that a strategy needs, after the user agreed.

        :raises Dependencies.DependencyError: when they are not there in the end.
        """
        Dependencies.ensureRequirements(self.requirementsFile(), strategy)

    def loadSample(self) -> dict[str, Any]:
        """Load the bundled sample case.

        :return: nodes by input: t1gd, flair and segmentation.
        """
        import SampleData

        registerSampleData()
        nodes = dict(zip(SAMPLE_FILES, SampleData.downloadSamples(SAMPLE_NAME), strict=True))
        segmentation = nodes["segmentation"].GetSegmentation()
        for segmentID in segmentation.GetSegmentIDs():
            segment = segmentation.GetSegment(segmentID)
            name, color = SAMPLE_SEGMENTS[segment.GetLabelValue()]
            segment.SetName(name)
            segment.SetColor(color)
        return nodes

    def run(
        self,
        t1gdNode: Any,
        flairNode: Any = None,
        segmentationNode: Any = None,
        *,
        t1Node: Any = None,
        brainMaskNode: Any = None,
        coreSegmentIDs: Any = None,
        wholeSegmentIDs: Any = None,
        labels: str | None = None,
        database: str = "starter",
        strategy: str = "direct",
        registration: str = "deformable",
        refine: str | None = None,
        top: int = 15,
        timeout: float | None = None,
        progress: Any = None,
    ) -> ResultNodes:
        """Infer the density of a patient and wait for it; works without the panel and without a main window.

        :param t1gdNode: T1-weighted image with contrast.
        :param flairNode: T2-FLAIR image, optional.
        :param segmentationNode: the tumor: a segmentation node, or a label map node.
        :param t1Node: T1-weighted image without contrast, optional.
        :param brainMaskNode: the brain, a segmentation or label map node; for images that show the skull.
        :param coreSegmentIDs: segments of the core; by default those whose names tell it.
        :param wholeSegmentIDs: segments of the whole tumor; by default all.
        :param labels: what the numbers of a label map mean, for example "brats2018"; found out where they tell it.
        :param database: name of a bundled database, or a file.
        :param strategy: query strategy.
        :param registration: "deformable", "affine" or "none".
        :param refine: "atlas", "patient", or None.
        :param top: number of ranked matches.
        :param timeout: seconds after which the run is ended, without a limit when None.
        :param progress: called with a fraction in [0, 1] and a message.
        :return: the nodes of the result, added to the scene.
        :raises ValueError: when an input is missing.
        :raises TimeoutError: when the time is over.
        :raises RuntimeError: when the run fails; the text says why and ends with the last lines of the log.
        """
        if segmentationNode is not None and segmentationNode.IsA("vtkMRMLSegmentationNode"):
            suggestedCore, suggestedWhole = suggestSegments(segmentationNode)
            coreSegmentIDs = suggestedCore if coreSegmentIDs is None else coreSegmentIDs
            wholeSegmentIDs = suggestedWhole if wholeSegmentIDs is None else wholeSegmentIDs
        patient = PatientNodes(
            t1gd=t1gdNode,
            flair=flairNode,
            t1=t1Node,
            brainMask=brainMaskNode,
            segmentation=segmentationNode,
            coreSegmentIDs=tuple(coreSegmentIDs or ()),
            wholeSegmentIDs=tuple(wholeSegmentIDs or ()),
            labelConvention=labels,
        )
        missing = patient.missing()
        if missing:
            raise ValueError(" ".join(missing.values()))
        method = Method(database=database, strategy=strategy, registration=registration, refine=refine, top=top)
        self.ensureRequirements(strategy)
        return self.runAndWait(InferJob(patient, method), timeout, progress)

    def runAndWait(self, job: Any, timeout: float | None = None, progress: Any = None) -> Any:
        """Do a job and wait for its end.

        :return: the job's value.
        :raises TimeoutError: when the time is over.
        :raises RuntimeError: when the run fails.
        """
        outcomes: list[Outcome] = []
        run = Run(
            self.makeProcess,
            onProgress=progress or logNewMessages(),
            onLog=logging.info,
            onFinished=outcomes.append,
        )
        run.start(job)
        try:
            while run.state is not RunState.Idle:
                run.poll()
                if timeout is not None and run.elapsed > timeout:
                    run.stop()
                    raise TimeoutError(_("The run took longer than {seconds:g} s.").format(seconds=timeout))
                time.sleep(POLL_INTERVAL / 1000)
        finally:
            run.stop()  # after Ctrl+C too
        outcome = outcomes[0]
        if outcome.status != "done":
            raise RuntimeError("\n".join(text for text in (outcome.message, outcome.log) if text))
        return outcome.value


class TumorQueryTest(ScriptedLoadableModuleTest):
    """The self-test that runs in Slicer: Reload and Test in the developer mode, or ctest."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests."""
        for name in unittest.TestLoader().getTestCaseNames(TumorQueryTest):
            self.setUp()
            getattr(self, name)()

    def test_missingInputsAreNamed(self) -> None:
        """The logic says what is missing instead of starting."""
        self.delayDisplay("Missing inputs")
        with self.assertRaisesRegex(ValueError, "T1"):
            TumorQueryLogic().run(None)

    def test_parametersAreSavedWithTheScene(self) -> None:
        """The parameter node keeps the user's choices in a saved scene."""
        self.delayDisplay("Parameters")
        parameters = TumorQueryLogic().getParameterNode()
        parameters.strategy = Strategy.BruteForce
        parameters.overlayOpacity = 0.25
        path = os.path.join(slicer.util.tempDirectory(), "parameters.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        restored = TumorQueryLogic().getParameterNode()
        self.assertIs(restored.strategy, Strategy.BruteForce)
        self.assertEqual(restored.overlayOpacity, 0.25)

    def test_sampleCase(self) -> None:
        """The sample case: the density lies on the segmented tumor, in the geometry of the T1Gd image."""
        self.delayDisplay("Sample case, about a minute")
        logic = TumorQueryLogic()
        sample = logic.loadSample()
        result = logic.run(sample["t1gd"], sample["flair"], sample["segmentation"], timeout=600)
        self.assertGreater(result.content["patient_space"]["dice_whole"], 0.7)
        density = slicer.util.arrayFromVolume(result.density)
        self.assertEqual(density.shape, slicer.util.arrayFromVolume(sample["t1gd"]).shape)
        self.assertGreaterEqual(density.min(), 0.0)
        self.assertLessEqual(density.max(), 1.0)
        Overlay.showInSliceViews(sample["t1gd"], result.density, 0.6)
        self.delayDisplay("Test passed")
