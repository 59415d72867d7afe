"""What the module does, without the panel."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from TumorQueryModule import Dependencies, SampleCase
from TumorQueryModule.Choices import TumorQueryParameterNode, checkMethod, forgetUnreadable
from TumorQueryModule.Export import ExportJob, whyNoExport, whyNoSeries
from TumorQueryModule.Jobs import InferJob, Method, RowJob, absoluteDatabase
from TumorQueryModule.PatientNodes import PatientNodes, suggestSegments
from TumorQueryModule.Plans import PlanChoices, PlanJob, whyNoPlans
from TumorQueryModule.ResultNodes import ResultNodes
from TumorQueryModule.Studies import studyWarning
from TumorQueryModule.Texts import inWordsOfThePanel
from TumorQueryModule.Worker import (
    POLL_INTERVAL,
    Outcome,
    Run,
    RunState,
    WorkerProcess,
    pythonExecutable,
    workerEnvironment,
)


class RunError(RuntimeError):
    """A run failed.

    :param message: a sentence for the user.
    :param log: the last lines of the log.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__("\n".join(text for text in (message, log) if text))
        self.message = message


def logNewMessages() -> Callable[[float, str], None]:
    """A progress that writes each new message to the application's log once."""
    last = [""]

    def log(value: float, message: str) -> None:
        if message != last[0]:
            last[0] = message
            logging.info(f"{value:4.0%} {message}")

    return log


class Logic(ScriptedLoadableModuleLogic):
    """What the module does, without the panel. Slicer finds it by the name of the class that derives from it.

    :param processFactory: makes the worker's process; tests give another one.
    """

    def __init__(self, processFactory: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._processFactory = processFactory
        #: What the panel still has to say of the choices of a scene.
        self.notice = ""

    def getParameterNode(self) -> TumorQueryParameterNode:
        """The scene's parameter node of this module; made when there is none."""
        node = super().getParameterNode()
        notice = forgetUnreadable(node)
        if notice:
            logging.warning(notice)
            self.notice = notice
        return TumorQueryParameterNode(node)

    def makeProcess(self) -> WorkerProcess:
        """A new worker process, not started yet."""
        if self._processFactory:
            return self._processFactory()
        return WorkerProcess(pythonExecutable(), workerEnvironment(Dependencies.parentOfLibrary()))

    @staticmethod
    def requirementsFile() -> str:
        """The file that lists the Python packages the worker needs."""
        return str(Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt")

    def missingRequirements(self) -> list[Any]:
        """The Python packages that a run will install."""
        return Dependencies.missingRequirements(self.requirementsFile())

    def ensureRequirements(self, strategy: str, more: tuple[str, ...] = ()) -> None:
        """Install the Python packages that a strategy needs, and more that are named, after the user agreed.

        :raises Dependencies.DependencyError: when they are not there in the end.
        """
        Dependencies.ensureRequirements(self.requirementsFile(), strategy, more)

    def loadSample(self) -> dict[str, Any]:
        """Load the bundled sample case.

        :return: nodes by input: t1gd, flair and segmentation.
        """
        return SampleCase.loadSample()

    def run(
        self,
        t1gdNode: Any,
        flairNode: Any = None,
        segmentationNode: Any = None,
        *,
        t1Node: Any = None,
        brainMaskNode: Any = None,
        whiteMatterNode: Any = None,
        greyMatterNode: Any = None,
        csfNode: Any = None,
        coreSegmentIDs: Any = None,
        wholeSegmentIDs: Any = None,
        labels: str | None = None,
        segmentationOn: str | None = None,
        database: str = Method.database,
        strategy: str = Method.strategy,
        strategyOptions: dict[str, Any] | None = None,
        registration: str = Method.registration,
        refine: str = Method.refine,
        refineSolves: int | None = None,
        refineSeconds: float | None = None,
        foci: str = Method.foci,
        tissue: str = Method.tissue,
        sensitivity: bool = Method.sensitivity,
        density: str = Method.density,
        uncertainty: bool = Method.uncertainty,
        level: float = Method.level,
        top: int = Method.top,
        align: bool = Method.align,
        timeout: float | None = None,
        progress: Any = None,
    ) -> ResultNodes:
        """Infer the density of a patient and wait for it; works without the panel and without a main window.

        :param t1gdNode: T1-weighted image with contrast.
        :param flairNode: T2-FLAIR image, optional.
        :param segmentationNode: the tumor: a segmentation node, or a label map node.
        :param t1Node: T1-weighted image without contrast, optional.
        :param brainMaskNode: the brain, a segmentation or label map node; without it the brain is extracted where the
            image shows the skull, and comes back as a segmentation.
        :param whiteMatterNode: map of the patient's own white matter, with the two maps below; the tumor grows in them
            instead of the atlas's tissue. All three or none.
        :param greyMatterNode: the same of the gray matter.
        :param csfNode: the same of the CSF.
        :param coreSegmentIDs: segments of the core; by default those whose names tell it.
        :param wholeSegmentIDs: segments of the whole tumor; by default those whose names tell it.
        :param labels: what the numbers of a label map mean, for example "brats2018"; a label map needs it.
        :param segmentationOn: the image on which the tumor was drawn, "t1gd", "flair" or "t1"; by default the one that
            the segmentation belongs to.
        :param database: name of a bundled database, or a file.
        :param strategy: query strategy.
        :param strategyOptions: options of the strategy by name, for example {"rerank": 100}.
        :param registration: "deformable", "affine" or "none".
        :param refine: "patient", "atlas", or "none" for the best match as it is.
        :param refineSolves: the most solves of a refinement; the library's own number when None.
        :param refineSeconds: the most seconds of a refinement; the library's own number when None.
        :param foci: "auto", "1" or "2": how many foci a refinement has.
        :param tissue: "atlas", or "own" for the patient's own outside the tumor, in the patient's anatomy.
        :param sensitivity: whether the refinement is made again under other assumptions about the tissue.
        :param density: which density the result gives: "match", "refined", "assimilated" (corrected to agree with the
            segmentation), or "auto" for the assimilated one after a refinement and the match without.
        :param uncertainty: whether the bounds of the assimilated density are found; about ten seconds more.
        :param level: the density, from 0.01 to 0.99, whose exceedance these give.
        :param top: number of ranked matches.
        :param align: whether FLAIR and T1 are moved onto the T1Gd image where the patient moved between them.
        :param timeout: seconds after which the run is ended, without a limit when None.
        :param progress: called with a fraction in [0, 1] and a message.
        :return: the nodes of the result, added to the scene; the panel shows them too.
        :raises ValueError: when an input is missing, or a choice is not accepted.
        :raises Dependencies.DependencyError: when packages are missing; without a window nobody is asked.
        :raises TimeoutError: when the time is over.
        :raises RunError: a RuntimeError, when the run fails; the text says why and ends with the last lines of the log.
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
            whiteMatter=whiteMatterNode,
            greyMatter=greyMatterNode,
            csf=csfNode,
            segmentation=segmentationNode,
            coreSegmentIDs=tuple(coreSegmentIDs or ()),
            wholeSegmentIDs=tuple(wholeSegmentIDs or ()),
            labelConvention=labels,
            segmentationOn=segmentationOn,
        )
        missing = patient.missing()
        if missing:
            raise ValueError(" ".join(missing.values()))
        method = Method(
            database=absoluteDatabase(database),
            strategy=strategy,
            strategy_options=strategyOptions or {},
            registration=registration,
            refine=refine,
            refine_solves=refineSolves,
            refine_seconds=refineSeconds,
            foci=foci,
            tissue=tissue,
            sensitivity=sensitivity,
            density=density,
            uncertainty=uncertainty,
            level=level,
            top=top,
            align=align,
        )
        checkMethod(method)
        warning = studyWarning(patient.nodes)
        if warning:
            logging.warning(warning)
        self.ensureRequirements(strategy)
        nodes = self.runAndWait(InferJob(patient, method), timeout, progress)
        self._take(patient, method, nodes)
        return nodes

    def runRow(
        self, row: Any, folder: Path, method: Method, timeout: float | None = None, progress: Any = None
    ) -> ResultNodes:
        """Infer one patient of a cohort from files and wait for it, as `run` does for nodes.

        Images and segmentation are read by the library, as `tumorquery cohort` reads them, and come into the scene
        with the result.

        :param row: the library's `CohortRow`, with absolute paths.
        :param folder: gets the files of the result, in place of an earlier one; a file that no run wrote is refused.
        :return: the nodes of the result; the panel shows them too.
        :raises: what `run` raises.
        """
        checkMethod(method)
        self.ensureRequirements(method.strategy)
        patient, nodes = self.runAndWait(RowJob(row, method, folder.absolute()), timeout, progress)
        self._take(patient, method, nodes)
        return nodes

    def plan(
        self,
        result: ResultNodes | None = None,
        *,
        margin: str | float = PlanChoices.margin,
        volume: str | float = PlanChoices.volume,
        barrier: str = PlanChoices.barrier,
        cavityNode: Any = None,
        cavitySegmentID: str = "",
        timeout: float | None = None,
        progress: Any = None,
    ) -> ResultNodes:
        """Make the standard plan and the model's of a result and wait for them; they go beside it in the scene.

        :param result: what `run` gave; by default the result that the panel shows.
        :param margin: "estro-eano", "eortc", "rtog-1", "rtog-2", or a number of mm around core and cavity.
        :param volume: of the model's plan: "same" as the standard one's, a number of ml, or "above=U" for a density U.
        :param barrier: where plans end: "brain", or "csf" for CSF too.
        :param cavityNode: segmentation that holds the resection cavity; by default the result's own.
        :param cavitySegmentID: the segment of it.
        :return: the nodes of the result, with `plans` and `planTable`.
        :raises ValueError: when parts of the result, or the segment of the cavity, are not there.
        :raises: what `run` raises.
        """
        parameters = self.getParameterNode()
        isShown = result is None or result.density is parameters.resultDensity
        result = parameters.result() if result is None else result
        choices = PlanChoices(margin, volume, barrier, cavityNode, cavitySegmentID)
        reason = whyNoPlans(result, choices)
        if reason:
            raise ValueError(reason)
        self.ensureRequirements(Method.strategy)
        nodes = self.runAndWait(PlanJob(result, choices), timeout, progress)
        if isShown:
            parameters.setPlans(nodes)
        return nodes

    def exportDicom(
        self, folder: Path | str, result: ResultNodes | None = None, timeout: float | None = None, progress: Any = None
    ) -> Path:
        """Write a result, with its plans, as DICOM objects into a folder and wait for it.

        Its T1Gd image was loaded by Slicer's DICOM module, whose database has the files.

        :param result: what `run` gave; by default the result that the panel shows.
        :return: the folder; what is not in it is logged.
        :raises ValueError: when parts of the result, or the DICOM files, are not there.
        :raises: what `run` raises.
        """
        result = self.getParameterNode().result() if result is None else result
        reason = whyNoExport(result) or whyNoSeries(result)
        if reason:
            raise ValueError(reason)
        self.ensureRequirements(Method.strategy, Dependencies.EXPORT_REQUIREMENTS)
        exported = self.runAndWait(ExportJob(result, Path(folder).absolute()), timeout, progress)
        for note in exported.notes:
            logging.info(inWordsOfThePanel(note))
        return exported.folder

    def _take(self, patient: PatientNodes, method: Method, nodes: ResultNodes) -> None:
        """Show what was inferred, from what and how in the panel."""
        parameters = self.getParameterNode()
        parameters.take(patient, method)
        parameters.setResult(nodes)

    def runAndWait(self, job: Any, timeout: float | None = None, progress: Any = None) -> Any:
        """Do a job and wait for its end.

        :return: the job's value.
        :raises TimeoutError: when the time is over.
        :raises RunError: when the run fails.
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
            raise RunError(outcome.message, outcome.log)
        return outcome.value
