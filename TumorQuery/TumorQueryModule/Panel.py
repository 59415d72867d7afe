"""The panel of the module."""

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
from TumorQueryModule.Choices import Strategy, TumorQueryParameterNode
from TumorQueryModule.Jobs import BUNDLED_DATABASE, BuildJob, InferJob, InfoJob, MatchJob
from TumorQueryModule.Logic import Logic
from TumorQueryModule.PatientNodes import PatientNodes, segmentIDs, segmentNames, suggestSegments
from TumorQueryModule.ResultNodes import ResultNodes, rowsOf, showDensity
from TumorQueryModule.Texts import summaryOf
from TumorQueryModule.Worker import POLL_INTERVAL, Outcome, Run, RunState


class Panel(ScriptedLoadableModuleWidget, VTKObservationMixin):
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

    def setParameterNode(self, parameterNode: TumorQueryParameterNode | None) -> None:
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
        """Show the density of the clicked row."""
        result = self._parameterNode.result()
        if self._run.state is not RunState.Idle or result.density is None or result.report is None:
            return
        shown = rowsOf(result.content)[index.row()]
        if shown == result.shown:
            return
        if isinstance(shown, int):
            self._start(MatchJob(result, shown), (result.density, result.isolines), lambda nodes: None)
            return
        kept = result.kept(shown)
        if kept is None:
            self.ui.statusLabel.text = _("This density was removed from the scene. Run the inference again.")
            return
        for _step in showDensity(result, kept, shown):
            pass
        self._updatePanel()

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
        self.ui.strategyOptionsHintLabel.text = missing.get("strategyOptions", "")
        self.ui.strategyOptionsHintLabel.visible = "strategyOptions" in missing

    def _updateButtons(self) -> None:
        ui, state = self.ui, self._run.state
        idle = state is RunState.Idle
        missing = self._parameterNode.missing() if self._parameterNode else {"": _("No scene.")}
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
        shown = (result.report.GetMTime(), result.density.GetImageData().GetMTime(), result.shown)
        if shown != self._summarized:
            self._summarized = shown
            ui.resultSummaryLabel.text = summaryOf(result)
            ui.matchesTableView.selectRow(rowsOf(result.content).index(result.shown))


def volumeOfName(*parts: str) -> Any:
    """The only image of the scene whose name holds one of some parts; None when there is none, or more than one."""
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if not node.IsA("vtkMRMLLabelMapVolumeNode") and any(part in node.GetName().casefold() for part in parts)
    ]
    return found[0] if len(found) == 1 else None
