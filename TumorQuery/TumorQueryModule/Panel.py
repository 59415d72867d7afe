"""The panel of the module."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from TumorQueryModule import Overlay
from TumorQueryModule.Choices import Overlaid, Strategy, TumorQueryParameterNode
from TumorQueryModule.Dependencies import DependencyError
from TumorQueryModule.InputTools import InputTools
from TumorQueryModule.Jobs import BUNDLED_DATABASE, BuildJob, InferJob, InfoJob, MatchJob
from TumorQueryModule.Logic import Logic
from TumorQueryModule.PatientNodes import (
    BRAIN_ROLE,
    EDEMA_TERMINOLOGY,
    FLAIR_PATTERN,
    NEOPLASM_TERMINOLOGY,
    T1GD_PATTERN,
    T2_PATTERN,
    TISSUE_ROLES,
    PatientNodes,
    addSegments,
    isRefused,
    isResult,
    leftOut,
    segmentIDs,
    segmentNames,
    suggestSegments,
    volumeOfName,
)
from TumorQueryModule.PlanSection import PlanSection
from TumorQueryModule.ResultNodes import (
    ResultNodes,
    holdsNothing,
    nodeNames,
    prepareDensity,
    rowsOf,
    showDensity,
)
from TumorQueryModule.Texts import aboutOverlaid, diagnosis, inWordsOfThePanel, summaryOf
from TumorQueryModule.Worker import POLL_INTERVAL, Outcome, Run, RunState

#: Inputs that are guessed by the names of images: parameter -> pattern of the name.
GUESSED_INPUTS = {"t1gdVolume": T1GD_PATTERN, "flairVolume": FLAIR_PATTERN, "t2Volume": T2_PATTERN}

#: The tag by which the Segment Editor finds its own parameters (SegmentEditor.py).
SEGMENT_EDITOR_TAG = "SegmentEditor"


class Panel(InputTools, PlanSection, ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. It changes parameters and starts jobs; it computes nothing.

    Whoever derives from it sets `logic` before `setup`.
    """

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Logic | None = None
        self._parameterNode: TumorQueryParameterNode | None = None
        self._parameterNodeGuiTag = None
        self._observedSegmentation = None
        self._updatingPanel = False
        self._describedDatabase: str | None = None
        self._summarized: tuple[Any, ...] = ()
        self._missingRequirements: list[Any] = []
        self._nodesInUse: tuple[Any, ...] = ()
        self._onDone: Any = None
        self._tableShown: Any = None
        self._displayed: dict[str, tuple[Any, ...]] = {}
        self._reportWindow: Any = None

    def setup(self) -> None:
        """Build the panel; called when the module is opened the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/TumorQuery.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)

        self._run = Run(
            self.logic.makeProcess,
            onProgress=self._showProgress,
            onLog=self._appendLog,
            onFinished=self._onRunFinished,
            onStateChanged=self._onRunStateChanged,
        )
        self._databaseRun = Run(self.logic.makeProcess, onFinished=self._showDatabase)
        self.setUpTools()
        self.setUpPlans()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL)
        self._timer.connect("timeout()", self._onTimer)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneIsThere)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneIsThere)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.addObserver(scene, scene.NodeRemovedEvent, self._hideResults)
        slicer.app.connect("aboutToQuit()", self._stopRuns)

        ui = self.ui
        ui.loadSampleButton.connect("clicked(bool)", self.onLoadSample)
        ui.loadFilesButton.connect("clicked(bool)", self.onLoadFiles)
        ui.dicomButton.connect("clicked(bool)", self.onOpenDicom)
        ui.segmentEditorButton.connect("clicked(bool)", self.onOpenSegmentEditor)
        ui.coreSegmentsSelector.connect("segmentSelectionChanged(QStringList)", self.onSegmentsChanged)
        ui.wholeSegmentsSelector.connect("segmentSelectionChanged(QStringList)", self.onSegmentsChanged)
        # Of an empty text, and of one without .h5, the widgets themselves say nothing.
        ui.databasePathLineEdit.comboBox().connect("editTextChanged(QString)", self.onDatabasePathChanged)
        ui.databasePathLineEdit.comboBox().lineEdit().placeholderText = _("starter database")
        ui.buildPathLineEdit.comboBox().connect("editTextChanged(QString)", self._updatePanel)
        ui.buildButton.connect("clicked(bool)", self.onBuild)
        ui.applyButton.connect("clicked(bool)", self.onApply)
        ui.cancelButton.connect("clicked(bool)", self.onCancel)
        ui.diagnosisButton.connect("clicked(bool)", self.onDiagnosis)
        ui.copyLogButton.connect("clicked(bool)", self.onCopyLog)
        ui.matchesTableView.connect("clicked(QModelIndex)", self.onMatchClicked)
        ui.colorTableComboBox.connect("currentNodeChanged(vtkMRMLNode*)", self.onColorTableChanged)
        ui.reportButton.connect("clicked(bool)", self.onShowReport)
        ui.jumpButton.connect("clicked(bool)", self.onJump)
        for selector in (ui.coreSegmentsSelector, ui.wholeSegmentsSelector):
            # Its own "Segment:" would stand behind the panel's "Tumor core:".
            slicer.util.findChild(selector, "label_Segment").text = ""

        self.initializeParameterNode()

    def cleanup(self) -> None:
        """End what runs; called when the application closes or the module is reloaded."""
        self._stopRuns()
        self._timer.stop()
        if self._reportWindow:
            self._reportWindow.close()
        slicer.app.disconnect("aboutToQuit()", self._stopRuns)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Take up the parameter node again; called each time the module is opened."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Leave the parameter node; called each time another module is opened. A run goes on."""
        self._disconnectParameterNode()

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes go away: end what works with them. A build needs none of them and goes on."""
        if self._isIdle:  # what was said of the last run was said of this scene
            self.ui.progressBar.value = 0
            self.ui.statusLabel.text = _("Ready")
            self.ui.elapsedLabel.text = "0:00"
        elif self._nodesInUse:
            self._stopWork(_("The scene was closed."))
        self.setParameterNode(None)

    def onSceneStartImport(self, caller: Any, event: Any) -> None:
        """Nodes come whose references lead nowhere yet, and choices that only another version may know."""
        self.setParameterNode(None)

    def onSceneIsThere(self, caller: Any, event: Any) -> None:
        """Start anew with a scene that was closed or loaded, if the panel is shown."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        """End a run that needs the node that goes away."""
        if not self._isIdle and node in (*self._nodesInUse, *self._temporary, self._segmentation.segmentationNode):
            self._leaving = node  # the scene is about to remove it
            self._stopWork(_("{name} was removed from the scene.").format(name=node.GetName()))
            self._leaving = None

    def initializeParameterNode(self) -> None:
        """Connect the panel to the scene's parameter node, with a first guess of the inputs."""
        self._missingRequirements = self.logic.missingRequirements()
        self.setParameterNode(self.logic.getParameterNode())
        if self.logic.notice:
            self.ui.statusLabel.text = self.logic.notice
            self._appendLog(self.logic.notice)
            self.logic.notice = ""
        for name, pattern in GUESSED_INPUTS.items():
            if name not in self._parameterNode.everChosen and not getattr(self._parameterNode, name):
                setattr(self._parameterNode, name, volumeOfName(pattern))

    def setParameterNode(self, parameterNode: TumorQueryParameterNode | None) -> None:
        """Connect the panel to a parameter node, or to none."""
        self._disconnectParameterNode()
        self._parameterNode = parameterNode
        self._hideResults()
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._updatePanel)
            # What a scene brings along is shown as it was saved.
            self._displayed = self._wantedDisplay()
        self._updatePanel()

    def _hideResults(self, caller: Any = None, event: Any = None) -> None:
        """Offer no node of a result as an input; an ID that a removed one had may be a patient's next."""
        ui = self.ui
        results = [node for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode") if isResult(node)]
        for name in ("t1gd", "flair", "t1", "t2", "brainMask", *TISSUE_ROLES, "segmentation"):
            hidden = [node.GetID() for node in results if isRefused(node, name)]
            model = getattr(ui, f"{name}Selector").sortFilterProxyModel()
            if list(model.hiddenNodeIDs) != hidden:
                model.hiddenNodeIDs = hidden

    def _disconnectParameterNode(self) -> None:
        if self._parameterNodeGuiTag is None:
            return
        self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNodeGuiTag = None
        self.removeObserver(self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._updatePanel)

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
                for name in TISSUE_ROLES:
                    setattr(self._parameterNode, f"{name}Volume", None)
                self._parameterNode.segmentation = nodes["segmentation"]
            slicer.util.setSliceViewerLayers(background=nodes["t1gd"], foreground=None, label=None, fit=True)

    def onLoadFiles(self, checked: bool = False) -> None:
        """Open Slicer's dialog that loads files."""
        slicer.util.openAddDataDialog()

    def onOpenDicom(self, checked: bool = False) -> None:
        """Open the DICOM browser."""
        slicer.util.selectModule("DICOM")

    def onOpenSegmentEditor(self, checked: bool = False) -> None:
        """Open the Segment Editor on the T1Gd image and the segmentation; one is made where none is chosen."""
        parameters = self._parameterNode
        segmentation = parameters.segmentation
        if parameters.t1gdVolume and segmentation is None:
            segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", _("Tumor"))
            segmentation.CreateDefaultDisplayNodes()
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(parameters.t1gdVolume)
            addSegments(segmentation, {_("Tumor core"): NEOPLASM_TERMINOLOGY, _("Edema"): EDEMA_TERMINOLOGY})
            parameters.segmentation = segmentation
        editor = slicer.mrmlScene.GetSingletonNode(SEGMENT_EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if editor is None:
            editor = slicer.vtkMRMLSegmentEditorNode()
            editor.SetSingletonTag(SEGMENT_EDITOR_TAG)
            editor = slicer.mrmlScene.AddNode(editor)
        if segmentation is not None and segmentation.IsA("vtkMRMLSegmentationNode"):
            editor.SetAndObserveSegmentationNode(segmentation)
        if parameters.t1gdVolume:
            editor.SetAndObserveSourceVolumeNode(parameters.t1gdVolume)
        slicer.util.selectModule("SegmentEditor")

    def onSegmentsChanged(self, segments: Any = None) -> None:
        """Remember which segments the user checked; from now on none is suggested for this segmentation."""
        if self._updatingPanel or not self._parameterNode:
            return
        with slicer.util.NodeModify(self._parameterNode.parameterNode):
            self._parameterNode.segmentsChosenIn = self._parameterNode.segmentation
            self._parameterNode.coreSegmentIDs = list(self.ui.coreSegmentsSelector.selectedSegmentIDs())
            self._parameterNode.wholeSegmentIDs = list(self.ui.wholeSegmentsSelector.selectedSegmentIDs())

    def _updateSegments(self) -> None:
        """Offer the segments of the chosen segmentation; suggest which are meant until the user has chosen."""
        parameters = self._parameterNode
        segmentation = parameters.segmentation if parameters else None
        if segmentation is not None and not segmentation.IsA("vtkMRMLSegmentationNode"):
            segmentation = None
        if segmentation is not self._observedSegmentation:
            kinds = slicer.vtkSegmentation
            for event in (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified):
                if self._observedSegmentation:
                    self.removeObserver(self._observedSegmentation, event, self._updatePanel)
                if segmentation:
                    self.addObserver(segmentation, event, self._updatePanel)
            self._observedSegmentation = segmentation
        if segmentation:
            if parameters.segmentsChosenIn is segmentation:  # without those that were deleted meanwhile
                there = segmentIDs(segmentation)
                core = tuple(one for one in parameters.coreSegmentIDs if one in there)
                whole = tuple(one for one in parameters.wholeSegmentIDs if one in there)
            else:
                core, whole = suggestSegments(segmentation)
            if (core, whole) != (tuple(parameters.coreSegmentIDs), tuple(parameters.wholeSegmentIDs)):
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
        """Remember the database file; an empty text is the starter database."""
        if self._parameterNode and not self._updatingPanel:
            self._parameterNode.databaseFile = path.strip()

    def _buildPath(self) -> Path | None:
        """The file that a build would make; None where the text is none."""
        text = self.ui.buildPathLineEdit.currentPath.strip()
        path = Path(os.path.expanduser(text))
        if not text or not path.is_absolute() or os.path.isdir(path):
            return None
        return path if path.suffix.lower() == ".h5" else path.with_name(path.name + ".h5")

    def onBuild(self, checked: bool = False) -> None:
        """Build a larger database in the background."""
        self.ui.buildPathLineEdit.addCurrentPathToHistory()
        self._start(BuildJob(self._buildPath(), self._parameterNode.buildEntries), (), self._useBuiltDatabase)

    def _useBuiltDatabase(self, path: Path) -> None:
        self._describedDatabase = None
        self.logic.getParameterNode().databaseFile = str(path)  # perhaps of another scene than at the start
        self._appendLog(_("The database {name} is built and chosen.").format(name=path.name))

    def _describeDatabase(self) -> None:
        """Ask the worker what the chosen database holds, once for each choice."""
        missing = self._parameterNode.missing()
        if "database" in missing:
            self._describedDatabase = None
            self.ui.databaseInfoLabel.text = missing["database"]
            return
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
                "{t1gd:g} for the core, {flair:g} for the whole tumor."
            ).format(
                entries=about["entries"],
                atlas=about["atlas_name"],
                t1gd=about["threshold_t1gd"],
                flair=about["threshold_flair"],
            )
        else:
            text = inWordsOfThePanel(outcome.message)
        self.ui.databaseInfoLabel.text = text
        if self._parameterNode and outcome.status != "cancelled":  # cancelled: the panel is being closed
            self._describeDatabase()  # the choice may have changed meanwhile

    # Run

    def onApply(self, checked: bool = False) -> None:
        """Install what is missing, with consent, and infer in the background."""
        parameters = self._parameterNode
        patient = parameters.patient()
        if parameters.databaseFile:
            self.ui.databasePathLineEdit.addCurrentPathToHistory()
        job = InferJob(patient, parameters.method(), self._previousResult(), parameters.outputName.strip())
        self._start(job, patient.nodes, self._showNewResult, parameters.strategy)

    def _start(
        self,
        job: Any,
        nodesInUse: tuple[Any, ...],
        onDone: Any,
        strategy: Strategy = Strategy.Direct,
        more: tuple[str, ...] = (),
    ) -> None:
        """Start a job in the background.

        :param nodesInUse: nodes that the job cannot do without.
        :param onDone: called with the job's value when it is done; gives what to say then, "Done." where it gives none.
        :param strategy: the strategy that the job queries with; some need more packages.
        :param more: packages that the job needs beside.
        """
        self._nodesInUse = nodesInUse
        self._onDone = onDone
        with slicer.util.tryWithErrorDisplay(_("The run could not be started.")):
            try:
                self.logic.ensureRequirements(strategy.value, more)
            except DependencyError as error:
                self.ui.statusLabel.text = str(error)
                self._appendLog(str(error))
                if not error.isKnown:
                    slicer.util.errorDisplay(str(error), windowTitle=_("TumorQuery"))
                return
            finally:
                self._missingRequirements = self.logic.missingRequirements()
            self.ui.logTextEdit.setPlainText("")
            self._run.start(job)
            self._timer.start()

    def onCancel(self, checked: bool = False) -> None:
        """Ask the run to stop."""
        self._run.cancel()
        if self._segmentation.isRunning:
            self.ui.statusLabel.text = _("Cancelling...")
            self._segmentation.cancel()

    @property
    def _isIdle(self) -> bool:
        """Whether neither a run nor a segmentation by another extension is under way."""
        return self._run.state is RunState.Idle and not self._segmentation.isRunning

    def _stopWork(self, message: str = "") -> None:
        self._run.stop(message)
        self._segmentation.stop(message)

    def _stopRuns(self) -> None:
        self._stopWork()
        self._databaseRun.stop()

    def _onTimer(self) -> None:
        self._run.poll()
        self._databaseRun.poll()
        if not self._isIdle:
            atWork = self._segmentation if self._segmentation.isRunning else self._run
            seconds = int(atWork.elapsed)
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

    def onDiagnosis(self, checked: bool = False) -> None:
        """Examine the installation; what is found goes into the log and to the clipboard."""
        with slicer.util.tryWithErrorDisplay(_("The installation could not be examined."), waitCursor=True):
            text = diagnosis()
            self.ui.logTextEdit.appendPlainText(text)
            self.ui.logGroupBox.collapsed = False
            slicer.app.clipboard().setText(text)

    def _onRunFinished(self, outcome: Outcome) -> None:
        if outcome.status == "done":
            text = self._onDone(outcome.value) or _("Done.")
        elif outcome.status == "cancelled":
            text = (_("Cancelled.") + " " + outcome.message).strip()
        else:
            text = inWordsOfThePanel(outcome.message)
        self.ui.progressBar.value = 100 if outcome.status == "done" else 0
        self.ui.statusLabel.text = text
        self._appendLog(text)
        self._updatePanel()
        if outcome.status == "failed":
            slicer.util.errorDisplay(text, windowTitle=_("TumorQuery"), detailedText=outcome.log)

    # Result

    def _previousResult(self) -> ResultNodes:
        """The result that a run updates; without nodes where it adds new ones."""
        return ResultNodes() if self._parameterNode.keepResults else self._parameterNode.result()

    def _showNewResult(self, nodes: ResultNodes) -> None:
        """Show a result over the images that it was made from, whatever is chosen by now."""
        parameters = self.logic.getParameterNode()
        parameters.setResult(nodes)
        if nodes.segmentation.IsA("vtkMRMLSegmentationNode"):
            Overlay.showAsOutlines(nodes.segmentation)
        Overlay.showInSliceViews(nodes.t1gd, nodes.density, parameters.overlayOpacity)

    def onMatchClicked(self, index: Any) -> None:
        """Show the density of the clicked row."""
        result = self._parameterNode.result()
        if not self._isIdle or not result.isReadable:
            return
        rows = rowsOf(result.content)
        if index.row() >= len(rows):  # of the sensitivity, which has no densities
            return
        shown = rows[index.row()]
        self._parameterNode.overlaid = Overlaid.Density  # the maps are of one density, whichever is shown
        if shown == result.shown:
            return
        if isinstance(shown, int):
            self._start(MatchJob(result, shown), (result.density, result.isolines), lambda nodes: None)
            return
        kept = result.kept(shown)
        if holdsNothing(kept):
            self.ui.statusLabel.text = _("This density was removed from the scene. Run the inference again.")
            return
        if result.isolines is None:
            self.ui.statusLabel.text = _("Nodes of the result were removed from the scene. Run the inference again.")
            return
        *_steps, prepared = prepareDensity(kept, result.content, shown)
        showDensity(result, prepared)
        self._updatePanel()

    def onColorTableChanged(self, node: Any) -> None:
        """Give what lies over the image another color table."""
        overlaid = self._overlaidNode() if self._parameterNode else None
        if node and overlaid and not self._updatingPanel:
            overlaid.GetDisplayNode().SetAndObserveColorNodeID(node.GetID())

    def onJump(self, checked: bool = False) -> None:
        """Fit the slice views and move them to the tumor."""
        result, opacity = self._parameterNode.result(), self._parameterNode.overlayOpacity
        Overlay.showInSliceViews(result.t1gd, result.density, opacity, self._overlaidNode())

    def onShowReport(self, checked: bool = False) -> None:
        """Show the page with the report's pictures in a window of its own."""
        image = self._parameterNode.resultPicture.GetImageData()
        with tempfile.TemporaryDirectory(prefix="TumorQuery-") as folder:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(Path(folder) / "report.png"))
            writer.SetInputData(image)
            writer.Write()
            pixmap = qt.QPixmap(writer.GetFileName())
        page = qt.QLabel()
        page.pixmap = pixmap
        self._reportWindow = qt.QScrollArea()
        self._reportWindow.windowTitle = self._parameterNode.resultPicture.GetName()
        self._reportWindow.setWidget(page)
        self._reportWindow.resize(min(pixmap.width(), 1400) + 24, min(pixmap.height(), 900) + 24)
        self._reportWindow.show()

    # The whole panel

    def _updatePanel(self, caller: Any = None, event: Any = None) -> None:
        """Bring everything that no parameter is connected to up to date."""
        if self._updatingPanel:
            return
        self._updatingPanel = True
        try:
            self._hideResults()
            self._rememberChosen()
            self._updateSegments()
            self._updateChecks()
            self._updateButtons()
            self._updateTools()
            self._updateOutputs()
            self._updateResult()
            self._updatePlans()
            if self._parameterNode:
                edit = self.ui.databasePathLineEdit
                if edit.currentPath.strip() != self._parameterNode.databaseFile:  # else the cursor would jump
                    edit.currentPath = self._parameterNode.databaseFile
                self._describeDatabase()
        finally:
            self._updatingPanel = False

    def _rememberChosen(self) -> None:
        """An input that was chosen once is not guessed again when the user empties it."""
        parameters = self._parameterNode
        for name in GUESSED_INPUTS if parameters else ():
            if getattr(parameters, name) and name not in parameters.everChosen:
                parameters.everChosen.append(name)

    def _updateOutputs(self) -> None:
        """Say what a run writes."""
        parameters = self._parameterNode
        if not parameters or not parameters.t1gdVolume:
            self.ui.outputsLabel.text = _("A run adds its result to the scene, beside the T1 image.")
            return
        previous = self._previousResult()
        names = nodeNames(parameters.outputName.strip() or parameters.t1gdVolume.GetName())
        brain = names.pop(BRAIN_ROLE)
        if previous.density is None:
            text = _("A run adds to the scene: {names}.")
        else:
            text = _("A run replaces what the scene holds of the result before it: {names}.")
        text = text.format(names=", ".join(names.values()))
        if previous.plans is not None:
            text += " " + _("Its plans are removed; with Keep earlier results they stay.")
        if not parameters.brainMask:
            text += " " + _("Where the image shows the skull also: {name}.").format(name=brain)
        self.ui.outputsLabel.text = text

    def _updateChecks(self) -> None:
        """A check mark, or a sentence, at every input."""
        patient = self._parameterNode.patient() if self._parameterNode else PatientNodes(None)
        missing = self._parameterNode.missing() if self._parameterNode else patient.missing()
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
            if not segmentNames(patient.segmentation, patient.coreSegmentIDs):
                hints["coreSegments"] = _("Without a core the match rests on the whole tumor alone.")
            rest = segmentNames(
                patient.segmentation,
                leftOut(patient.segmentation, (*patient.coreSegmentIDs, *patient.wholeSegmentIDs)),
            )
            if rest:
                hints.setdefault("wholeSegments", _("No tumor: {names}.").format(names=rest))
        for name, value in given.items():
            hint = getattr(self.ui, f"{name}HintLabel")
            if name in ("t1gd", "segmentation", "coreSegments", "wholeSegments"):
                check = getattr(self.ui, f"{name}CheckLabel")
                check.text = "\N{CHECK MARK}" if value and name not in missing else ""
            hint.text = hints.get(name, "")
            hint.visible = bool(hint.text)
        isSegmentation = patient.segmentation is not None and not patient.isLabelMap
        for name in ("coreSegments", "wholeSegments"):
            for part in ("Label", "Selector", "CheckLabel"):
                getattr(self.ui, f"{name}{part}").visible = isSegmentation
        self.ui.labelConventionLabel.visible = patient.isLabelMap
        self.ui.labelConventionComboBox.visible = patient.isLabelMap
        for name in ("strategyOptions", "segmentationOn", "density", "tissue", "tissueMaps", "sensitivity"):
            hint = getattr(self.ui, f"{name}HintLabel")
            hint.text = missing.get(name, "")
            hint.visible = name in missing

    def _updateButtons(self) -> None:
        ui, idle = self.ui, self._isIdle
        missing = self._parameterNode.missing() if self._parameterNode else {"": _("No scene.")}
        ui.applyButton.enabled = idle and not missing
        if not idle:
            ui.applyButton.toolTip = _("A run is under way.")
        else:
            ui.applyButton.toolTip = " ".join(missing.values()) or _("Infer the tumor cell density in the background.")
        ui.cancelButton.enabled = not idle and self._run.state is not RunState.Cancelling
        ui.cancelButton.toolTip = _("Nothing is running.") if idle else _("Stop the run and discard what it has done.")
        path = self._buildPath()
        ui.buildButton.enabled = idle and path is not None and self._parameterNode is not None
        if path is None:
            ui.buildButton.toolTip = _("Choose a file, with its folder, for the new database.")
        else:
            ui.buildButton.toolTip = _(
                "Simulate the tumors in the background, into {path}; this can take hours."
            ).format(path=path)
        ui.dependenciesLabel.visible = bool(self._missingRequirements)
        ui.dependenciesLabel.text = _(
            "On the first run these Python packages will be installed, after you agree: {packages}."
        ).format(packages=", ".join(str(requirement) for requirement in self._missingRequirements))

    def _updateResult(self) -> None:
        """The table, the summary and the display of the result."""
        ui, parameters = self.ui, self._parameterNode
        result = parameters.result() if parameters else ResultNodes()
        if result.matches is not self._tableShown:  # a new node makes the view read it all again
            self._tableShown = result.matches
            ui.matchesTableView.setMRMLTableNode(result.matches)
        hasNodes = result.density is not None and result.report is not None
        hasResult = hasNodes and result.isReadable
        ui.matchesTableView.visible = result.matches is not None
        for widget in (ui.opacitySlider, ui.thresholdSlider, ui.colorTableComboBox):
            widget.enabled = hasResult
        overlays = result.overlays if hasResult else {}
        for widget in (ui.overlaidLabel, ui.overlaidComboBox):
            widget.visible = len(overlays) > 1
        hasHint = len(overlays) > 1 and parameters.overlaid is not Overlaid.Density
        ui.overlaidHintLabel.visible = hasHint
        if hasHint:
            ui.overlaidHintLabel.text = (
                aboutOverlaid(parameters.overlaid, result.content["uncertainty"]["level"])
                if parameters.overlaid.value in overlays
                else _("This map was removed from the scene. Run the inference again.")
            )
        ui.jumpButton.enabled = hasResult and result.t1gd is not None
        ui.reportButton.enabled = not holdsNothing(result.picture)
        if ui.reportButton.enabled:
            ui.reportButton.toolTip = _("Show the page with the pictures and figures of the report.")
        else:
            ui.reportButton.toolTip = _("No result yet.")
        ui.lineKeyLabel.text = Overlay.keyOfLines(result.brain is not None)
        ui.lineKeyLabel.visible = bool(result.isolines and parameters.showOutlines)
        ui.showOutlinesCheckBox.enabled = ui.showSurfacesCheckBox.enabled = result.isolines is not None
        if not hasResult:
            self._summarized = ()
            ui.resultSummaryLabel.text = result.whyUnreadable if hasNodes else _("No result yet.")
            return
        self._applyDisplay()
        ui.colorTableComboBox.setCurrentNode(self._overlaidNode().GetDisplayNode().GetColorNode())
        shown = (result.report.GetMTime(), result.density.GetImageData().GetMTime(), result.shown)
        if shown != self._summarized:
            self._summarized = shown
            ui.resultSummaryLabel.text = summaryOf(result)
            ui.matchesTableView.resizeColumnsToContents()
            ui.matchesTableView.selectRow(rowsOf(result.content).index(result.shown))

    def _overlaidNode(self) -> Any:
        """The chosen volume over the image: the density, also where the chosen map is not there; None without one."""
        result = self._parameterNode.result()
        if result.density is None:
            return None
        return result.overlays.get(self._parameterNode.overlaid.value, result.density)

    def _wantedDisplay(self) -> dict[str, tuple[Any, ...]]:
        """What the panel wants of the display: function of Overlay, node and value by name."""
        parameters = self._parameterNode
        result, wanted = parameters.result(), {}
        overlaid = self._overlaidNode()
        if overlaid is not None:
            wanted["overlaid"] = (Overlay.showInPlace, overlaid, list(result.overlays.values()))
            wanted["threshold"] = (Overlay.setThreshold, overlaid, parameters.overlayThreshold)
            wanted["opacity"] = (Overlay.setOpacity, overlaid, parameters.overlayOpacity)
        if result.isolines is not None:
            wanted["outlines"] = (Overlay.setOutlinesVisible, result.isolines, parameters.showOutlines)
            wanted["surfaces"] = (Overlay.setSurfacesVisible, result.isolines, parameters.showSurfaces)
        if result.plans is not None:
            wanted["plans"] = (Overlay.setOutlinesVisible, result.plans, parameters.showPlans)
        return wanted

    def _applyDisplay(self) -> None:
        """Bring what was changed in the panel to the display; what was changed elsewhere stays."""
        wanted = self._wantedDisplay()
        displayed = self._displayed.get("overlaid")
        isOfAnother = displayed is None or displayed[2] != wanted["overlaid"][2]  # shown by whoever brought it
        for name, (function, node, value) in wanted.items():
            if self._displayed.get(name) != (function, node, value) and not (name == "overlaid" and isOfAnother):
                function(node, value)
        self._displayed = wanted
