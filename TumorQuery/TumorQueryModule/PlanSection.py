"""The section of the panel that makes plans of a result, shows them, and exports all of it to DICOM."""

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from TumorQueryModule import Dependencies, Overlay
from TumorQueryModule.Choices import Margin, PlannedVolume
from TumorQueryModule.Export import Exported, ExportJob, whyNoExport, whyNoSeries
from TumorQueryModule.Plans import PlanJob, planOf, titlesOf, whyNoPlans
from TumorQueryModule.ResultNodes import ResultNodes
from TumorQueryModule.Texts import asRichText, inSpellingOfThePanel, inWordsOfThePanel


class PlanSection:
    """What the panel does after a run. Buttons, run and parameters are those of the `Panel` that derives from it."""

    def setUpPlans(self) -> None:
        """Connect the buttons; called by `setup`."""
        self._planTableShown: Any = None
        self._observedPlans: Any = None
        self.ui.makePlansButton.connect("clicked(bool)", self.onMakePlans)
        self.ui.exportButton.connect("clicked(bool)", self.onExport)
        self.ui.cavitySelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onCavityChanged)
        self.ui.cavitySelector.connect("currentSegmentChanged(QString)", self.onCavityChanged)

    def onCavityChanged(self, chosen: Any = None) -> None:
        """Remember which segment is the resection cavity."""
        if self._updatingPanel or not self._parameterNode:
            return
        selector = self.ui.cavitySelector
        node = selector.currentNode()
        with slicer.util.NodeModify(self._parameterNode.parameterNode):
            self._parameterNode.planCavity = node
            self._parameterNode.planCavitySegmentID = selector.currentSegmentID() if node else ""

    def onMakePlans(self, checked: bool = False) -> None:
        """Make the plans in the background."""
        parameters = self._parameterNode
        result, choices = parameters.result(), parameters.planChoices()
        nodesInUse = (result.density, result.report, *([choices.cavity] if choices.cavity else []))
        self._start(PlanJob(result, choices, parameters.outputName.strip()), nodesInUse, self._showPlans)

    def _showPlans(self, nodes: ResultNodes) -> str:
        self.logic.getParameterNode().setPlans(nodes)  # perhaps of another scene than at the start
        return _("The plans are made: look at them before you use them.")

    def onExport(self, checked: bool = False) -> None:
        """Ask for a folder and write the result there as DICOM objects, in the background."""
        result = self._parameterNode.result()
        reason = whyNoSeries(result)
        if reason:
            self.ui.statusLabel.text = reason
            slicer.util.errorDisplay(reason, windowTitle=_("TumorQuery"))
            return
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for the DICOM files"))
        if not folder:
            return
        self._start(
            ExportJob(result, Path(folder)),
            (result.density, result.report, result.t1gd),
            self._tellExport,
            more=Dependencies.EXPORT_REQUIREMENTS,
        )

    def _tellExport(self, exported: Exported) -> str:
        said = _("The DICOM files are in {folder}.").format(folder=exported.folder)
        return " ".join([said, *(inWordsOfThePanel(note) for note in exported.notes)])

    # The panel

    def _updatePlans(self) -> None:
        """What can be planned and exported, what cannot and why, and the plans that there are."""
        ui, parameters, idle = self.ui, self._parameterNode, self._isIdle
        result = parameters.result() if parameters else ResultNodes()
        self._updatePlanChoices()
        self._observePlans(result.plans)
        reason = whyNoPlans(result, parameters.planChoices()) if parameters else _("No scene.")
        ui.planHintLabel.text = reason
        ui.planHintLabel.visible = bool(reason) and result.density is not None
        ui.makePlansButton.enabled = idle and not reason
        if not idle:
            reason = _("A run is under way.")
        ui.makePlansButton.toolTip = reason or _("Make the standard plan and the model's in the background.")
        reason = whyNoExport(result)
        ui.exportButton.enabled = idle and not reason
        if not idle:
            reason = _("A run is under way.")
        ui.exportButton.toolTip = reason or _(
            "Write segmentation, density and plans as DICOM objects of the T1 image's study, into a folder. "
            "The plans go along once they are made."
        )
        table = result.planTable
        if ui.planTableView.mrmlTableNode() is not table:  # a new node makes the view read it all again
            ui.planTableView.setMRMLTableNode(table)
        shown = None if table is None else (table.GetID(), table.GetTable().GetMTime())
        if shown != self._planTableShown:
            self._planTableShown = shown
            ui.planTableView.resizeColumnsToContents()
        plan = planOf(result)
        for widget in (ui.planSummaryLabel, ui.planKeyLabel):
            widget.visible = plan is not None
        ui.planTableView.visible = result.planTable is not None
        ui.showPlansCheckBox.enabled = result.plans is not None
        if plan is not None:
            notes = [_("Note: {text}").format(text=text) for text in plan["warnings"]]
            said = (inSpellingOfThePanel(sentence) for sentence in (*plan["sentences"], *notes))
            ui.planSummaryLabel.text = "<br>".join(asRichText(sentence) for sentence in said)
            segmentation = result.plans.GetSegmentation()
            titles = {name: title for name, title in titlesOf(plan).items() if segmentation.GetSegment(name)}
            ui.planKeyLabel.text = Overlay.keyOfPlans(titles)
            ui.planKeyLabel.visible = bool(titles)

    def _observePlans(self, plans: Any) -> None:
        """Have the key follow the segments of the plans, which a user may remove."""
        if plans is self._observedPlans:
            return
        removed = slicer.vtkSegmentation.SegmentRemoved
        if self._observedPlans is not None:
            self.removeObserver(self._observedPlans, removed, self._updatePanel)
        if plans is not None:
            self.addObserver(plans, removed, self._updatePanel)
        self._observedPlans = plans

    def _updatePlanChoices(self) -> None:
        """The numbers that go with the choices, and the chosen cavity."""
        ui, parameters = self.ui, self._parameterNode
        margin = parameters.planMargin if parameters else Margin.EstroEano
        volume = parameters.plannedVolume if parameters else PlannedVolume.Same
        ui.planMillimetersSpinBox.visible = margin is Margin.Millimeters
        ui.planMillilitersSpinBox.visible = volume is PlannedVolume.Milliliters
        ui.planDensitySpinBox.visible = volume is PlannedVolume.Above
        cavity = parameters.planCavity if parameters else None
        ui.cavitySelector.setCurrentNode(cavity)
        if cavity is not None:
            ui.cavitySelector.setCurrentSegmentID(parameters.planCavitySegmentID)
