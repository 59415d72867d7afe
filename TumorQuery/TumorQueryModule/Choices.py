"""The user's choices: what each may be, and the parameter node that keeps them with the scene."""

import enum
import os
from pathlib import Path
from typing import Annotated, Any, Union

import slicer
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTextNode,
    vtkMRMLTransformNode,
    vtkMRMLVectorVolumeNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from TumorQueryModule import Overlay
from TumorQueryModule.Jobs import BUNDLED_DATABASE, Method, parseStrategyOptions, writeStrategyOptions
from TumorQueryModule.PatientNodes import PatientNodes
from TumorQueryModule.Plans import PlanChoices
from TumorQueryModule.ResultNodes import DENSITY, ResultNodes


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
            Strategy.Radiomics: _("Radiomics"),
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
            Refinement.NoRefinement: _("None: the best match as it is"),
            Refinement.Atlas: _("In the atlas"),
            Refinement.Patient: _("In the patient's own anatomy (recommended)"),
        }[self]


class Foci(enum.Enum):
    """How many foci a refined tumor grows from; values as TumorQueryLib names them."""

    Automatic = "auto"
    One = "1"
    Two = "2"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Foci.Automatic: _("Two where the core has two large parts"),
            Foci.One: _("One"),
            Foci.Two: _("Two"),
        }[self]


class Tissue(enum.Enum):
    """Whose tissue a refined tumor grows in; values as TumorQueryLib names them."""

    Atlas = "atlas"
    Own = "own"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Tissue.Atlas: _("The atlas's, carried to the patient"),
            Tissue.Own: _("The patient's own outside the tumor"),
        }[self]


class Density(enum.Enum):
    """Which density a result gives; values as TumorQueryLib names them."""

    Automatic = "auto"
    Match = "match"
    Refined = "refined"
    Assimilated = "assimilated"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Density.Automatic: _("Assimilated after a refinement, else the best match"),
            Density.Match: _("The best match as it is"),
            Density.Refined: _("Refined"),
            Density.Assimilated: _("Assimilated: corrected to the segmentation"),
        }[self]


class Overlaid(enum.Enum):
    """What of a result lies over the image; values as `ResultNodes` names them."""

    Density = DENSITY
    Deviation = "sd"
    Lower = "p05"
    Upper = "p95"
    Probability = "probability"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Overlaid.Density: _("Density"),
            Overlaid.Deviation: _("Standard deviation"),
            Overlaid.Lower: _("Lower bound (5 %)"),
            Overlaid.Upper: _("Upper bound (95 %)"),
            Overlaid.Probability: _("Probability above the level"),
        }[self]


class Margin(enum.Enum):
    """The margin of the standard plan; values as TumorQueryLib names the guidelines, empty for a number of mm."""

    EstroEano = "estro-eano"
    Eortc = "eortc"
    RtogFirst = "rtog-1"
    RtogBoost = "rtog-2"
    Millimeters = ""

    def label(self) -> str:
        """What the panel shows."""
        return {
            Margin.EstroEano: _("ESTRO-EANO 2023: core + 15 mm"),
            Margin.Eortc: _("EORTC: core + 20 mm"),
            Margin.RtogFirst: _("RTOG, first phase: whole tumor + 20 mm"),
            Margin.RtogBoost: _("RTOG, boost: core + 20 mm"),
            Margin.Millimeters: _("Core + a margin of your own"),
        }[self]


class PlannedVolume(enum.Enum):
    """What decides how large the model's plan is."""

    Same = "same"
    Milliliters = "ml"
    Above = "above"

    def label(self) -> str:
        """What the panel shows."""
        return {
            PlannedVolume.Same: _("As large as the standard plan"),
            PlannedVolume.Milliliters: _("A volume of your own"),
            PlannedVolume.Above: _("All above a density"),
        }[self]


class Barrier(enum.Enum):
    """Where plans end; values as TumorQueryLib names them."""

    Brain = "brain"
    Csf = "csf"

    def label(self) -> str:
        """What the panel shows."""
        return {
            Barrier.Brain: _("The surface of the brain"),
            Barrier.Csf: _("CSF too"),
        }[self]


class DrawnOn(enum.Enum):
    """The image on which the segmentation was drawn; values as TumorQueryLib names them."""

    Automatic = ""
    T1Gd = "t1gd"
    Flair = "flair"
    T1 = "t1"

    def label(self) -> str:
        """What the panel shows."""
        return {
            DrawnOn.Automatic: _("The image that it belongs to"),
            DrawnOn.T1Gd: _("T1 with contrast"),
            DrawnOn.Flair: _("FLAIR"),
            DrawnOn.T1: _("T1 without contrast"),
        }[self]


class LabelConvention(enum.Enum):
    """What the numbers of a label map mean; values as TumorQueryLib names them."""

    Unknown = ""
    Brats2013 = "brats2013"
    Brats2018 = "brats2018"
    Brats2023 = "brats2023"
    Brats2024 = "brats2024"
    BratsPediatric = "brats-peds"
    Decathlon = "decathlon"

    def label(self) -> str:
        """What the panel shows."""
        return {
            LabelConvention.Unknown: _("Choose..."),
            LabelConvention.Brats2013: _("BraTS 2012-2016: 3 = non-enhancing core"),
            LabelConvention.Brats2018: _("BraTS 2017-2021: 1, 2, 4"),
            LabelConvention.Brats2023: _("BraTS 2023: 3 = enhancing"),
            LabelConvention.Brats2024: _("BraTS 2024: 4 = resection cavity"),
            LabelConvention.BratsPediatric: _("BraTS pediatric: 1 = enhancing, 4 = edema"),
            LabelConvention.Decathlon: _("Medical Decathlon: 1 = edema"),
        }[self]


#: The most ranked matches that the panel shows.
MOST_MATCHES = 50

#: The least and the largest level whose exceedance the panel asks for.
LEVELS = (0.01, 0.99)

#: The least and the largest margin, and volume of the model's plan, that the panel asks for.
MILLIMETERS = (1.0, 60.0)
MILLILITERS = (1.0, 2000.0)


def complaintsAbout(method: Method, patient: PatientNodes | None = None) -> dict[str, str]:
    """What does not go with the refinement: name of the choice -> a sentence for the user."""
    complaints = {}
    isRefined = method.refine != Refinement.NoRefinement.value
    if method.density == Density.Refined.value and not isRefined:
        complaints["density"] = _(
            "There is no refined density without a refinement: choose another density, or a refinement."
        )
    if method.tissue == Tissue.Own.value and method.refine != Refinement.Patient.value:
        complaints["tissue"] = _(
            "The patient's own tissue is for a refinement in the patient's own anatomy: choose that, or the atlas's."
        )
    if patient is not None and patient.tissueMaps and method.refine != Refinement.Patient.value:
        complaints["tissueMaps"] = _(
            "Tissue maps are for a refinement in the patient's own anatomy: choose that, or none of them."
        )
    if method.sensitivity and not isRefined:
        complaints["sensitivity"] = _("Sensitivity refines again: choose a refinement.")
    return complaints


def checkMethod(method: Method) -> None:
    """Refuse, before a run, what a scene could not keep after it.

    :raises ValueError: naming the choice and what is accepted.
    """
    choices: tuple[tuple[str, Any, Any], ...] = (
        ("strategy", Strategy, method.strategy),
        ("registration", RegistrationMode, method.registration),
        ("refine", Refinement, method.refine),
        ("foci", Foci, method.foci),
        ("density", Density, method.density),
        ("tissue", Tissue, method.tissue),
    )
    for name, kind, value in choices:
        accepted = [one.value for one in kind]
        if value not in accepted:
            raise ValueError(
                _("There is no {name} {value}: choose one of {accepted}.").format(
                    name=name, value=repr(value), accepted=", ".join(accepted)
                )
            )
    if isinstance(method.top, bool) or not isinstance(method.top, int) or not 1 <= method.top <= MOST_MATCHES:
        raise ValueError(
            _("The number of ranked matches (top) is from 1 to {most}, not {value}.").format(
                most=MOST_MATCHES, value=repr(method.top)
            )
        )
    for name, value in (("uncertainty", method.uncertainty), ("sensitivity", method.sensitivity)):
        if not isinstance(value, bool):
            raise ValueError(_("{name} is True or False, not {value}.").format(name=name, value=repr(value)))
    isNumber = isinstance(method.level, int | float) and not isinstance(method.level, bool)
    if not isNumber or not LEVELS[0] <= method.level <= LEVELS[1]:
        raise ValueError(
            _("The level is a density from {least} to {most}, not {value}.").format(
                least=LEVELS[0], most=LEVELS[1], value=repr(method.level)
            )
        )
    complaints = complaintsAbout(method)
    if complaints:
        raise ValueError(" ".join(complaints.values()))
    if method.database != BUNDLED_DATABASE and not os.path.isfile(method.database):
        raise ValueError(_("There is no database file {path}.").format(path=method.database))
    writeStrategyOptions(method.strategy_options)


@parameterNodeWrapper
class TumorQueryParameterNode:
    """All choices of the user and the nodes of the result; saved and restored with the scene."""

    t1gdVolume: vtkMRMLScalarVolumeNode
    flairVolume: vtkMRMLScalarVolumeNode
    t1Volume: vtkMRMLScalarVolumeNode
    #: Only for a segmentation by another extension; no run needs it.
    t2Volume: vtkMRMLScalarVolumeNode
    whiteMatterVolume: vtkMRMLScalarVolumeNode
    greyMatterVolume: vtkMRMLScalarVolumeNode
    csfVolume: vtkMRMLScalarVolumeNode
    brainMask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007  (read at run time)
    segmentation: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    coreSegmentIDs: list[str]
    wholeSegmentIDs: list[str]
    #: The segmentation whose segments the user has chosen; those of another one are suggested.
    segmentsChosenIn: vtkMRMLSegmentationNode
    #: The inputs that held a node once: for them none is guessed again.
    everChosen: list[str]
    labelConvention: LabelConvention = LabelConvention.Unknown

    databaseFile: str = ""
    buildEntries: Annotated[int, WithinRange(100, 200_000)] = 20_000

    strategy: Strategy = Strategy(Method.strategy)
    strategyOptions: str = ""
    registration: RegistrationMode = RegistrationMode(Method.registration)
    refinement: Refinement = Refinement(Method.refine)
    foci: Foci = Foci(Method.foci)
    tissue: Tissue = Tissue(Method.tissue)
    sensitivity: bool = Method.sensitivity
    density: Density = Density(Method.density)
    uncertainty: bool = Method.uncertainty
    level: Annotated[float, WithinRange(*LEVELS)] = Method.level
    top: Annotated[int, WithinRange(1, MOST_MATCHES)] = Method.top
    alignImages: bool = Method.align
    segmentationOn: DrawnOn = DrawnOn.Automatic
    outputName: str = ""
    keepResults: bool = False

    overlaid: Overlaid = Overlaid.Density
    overlayOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.6
    overlayThreshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.05
    showOutlines: bool = True
    showSurfaces: bool = False

    planMargin: Margin = Margin.EstroEano
    planMillimeters: Annotated[float, WithinRange(*MILLIMETERS)] = 15.0
    plannedVolume: PlannedVolume = PlannedVolume.Same
    planMilliliters: Annotated[float, WithinRange(*MILLILITERS)] = 150.0
    planDensity: Annotated[float, WithinRange(*LEVELS)] = 0.05
    planBarrier: Barrier = Barrier.Brain
    planCavity: vtkMRMLSegmentationNode
    planCavitySegmentID: str = ""
    showPlans: bool = True

    resultDensity: vtkMRMLScalarVolumeNode
    resultIsolines: vtkMRMLSegmentationNode
    resultMatches: vtkMRMLTableNode
    resultAtlasToPatient: vtkMRMLTransformNode
    resultPatientToAtlas: vtkMRMLTransformNode
    resultReport: vtkMRMLTextNode
    resultPicture: vtkMRMLVectorVolumeNode
    resultBrain: vtkMRMLSegmentationNode
    resultPlans: vtkMRMLSegmentationNode
    resultPlanTable: vtkMRMLTableNode

    def patient(self) -> PatientNodes:
        """The chosen inputs."""
        return PatientNodes(
            t1gd=self.t1gdVolume,
            flair=self.flairVolume,
            t1=self.t1Volume,
            brainMask=self.brainMask,
            whiteMatter=self.whiteMatterVolume,
            greyMatter=self.greyMatterVolume,
            csf=self.csfVolume,
            segmentation=self.segmentation,
            coreSegmentIDs=tuple(self.coreSegmentIDs),
            wholeSegmentIDs=tuple(self.wholeSegmentIDs),
            labelConvention=self.labelConvention.value or None,
            segmentationOn=self.segmentationOn.value or None,
        )

    def method(self) -> Method:
        """The chosen method.

        :raises ValueError: when the options of the strategy cannot be read.
        """
        return Method(
            database=self.databaseFile or BUNDLED_DATABASE,
            strategy=self.strategy.value,
            strategy_options=parseStrategyOptions(self.strategyOptions),
            registration=self.registration.value,
            refine=self.refinement.value,
            foci=self.foci.value,
            tissue=self.tissue.value,
            sensitivity=self.sensitivity,
            density=self.density.value,
            uncertainty=self.uncertainty,
            level=self.level,
            top=self.top,
            align=self.alignImages,
        )

    def planChoices(self) -> PlanChoices:
        """What plans are to be made of."""
        return PlanChoices(
            margin=self.planMargin.value or self.planMillimeters,
            volume={
                PlannedVolume.Same: PlannedVolume.Same.value,
                PlannedVolume.Milliliters: self.planMilliliters,
                PlannedVolume.Above: f"above={self.planDensity:g}",
            }[self.plannedVolume],
            barrier=self.planBarrier.value,
            cavity=self.planCavity,
            cavitySegmentID=self.planCavitySegmentID,
        )

    def missing(self) -> dict[str, str]:
        """What a run still needs: name of the input or the option -> a sentence for the user."""
        patient = self.patient()
        missing = patient.missing()
        try:
            method = self.method()
            missing.update(complaintsAbout(method, patient))
        except ValueError as error:
            missing["strategyOptions"] = str(error)
        if self.databaseFile and not os.path.isfile(self.databaseFile):
            missing["database"] = _(
                "There is no database file {path}: choose another one, or empty the field for the starter database."
            ).format(path=self.databaseFile)
        elif self.databaseFile and not Path(self.databaseFile).is_absolute():
            missing["database"] = _(
                "The path {path} of the database file is not complete: choose the file, or write its whole path."
            ).format(path=self.databaseFile)
        return missing

    def take(self, patient: PatientNodes, method: Method) -> None:
        """Remember what a script inferred from and how, as if it were chosen in the panel."""
        with slicer.util.NodeModify(self.parameterNode):
            self.t1gdVolume = patient.t1gd
            self.flairVolume = patient.flair
            self.t1Volume = patient.t1
            self.brainMask = patient.brainMask
            self.whiteMatterVolume = patient.whiteMatter
            self.greyMatterVolume = patient.greyMatter
            self.csfVolume = patient.csf
            self.segmentation = patient.segmentation
            self.segmentsChosenIn = None if patient.isLabelMap else patient.segmentation
            self.coreSegmentIDs = list(patient.coreSegmentIDs)
            self.wholeSegmentIDs = list(patient.wholeSegmentIDs)
            known = [one for one in LabelConvention if one.value == (patient.labelConvention or "")]
            self.labelConvention = known[0] if known else LabelConvention.Unknown
            self.databaseFile = "" if method.database == BUNDLED_DATABASE else method.database
            self.strategy = Strategy(method.strategy)
            self.strategyOptions = writeStrategyOptions(method.strategy_options)
            self.registration = RegistrationMode(method.registration)
            self.refinement = Refinement(method.refine)
            self.foci = Foci(method.foci)
            self.tissue = Tissue(method.tissue)
            self.sensitivity = method.sensitivity
            self.density = Density(method.density)
            self.uncertainty = method.uncertainty
            self.level = float(method.level)
            self.top = method.top
            self.alignImages = method.align
            self.segmentationOn = DrawnOn(patient.segmentationOn or "")

    def result(self) -> ResultNodes:
        """The nodes of the result; those that are not in the scene are None."""
        return ResultNodes(**{role: getattr(self, parameter) for role, parameter in RESULT_PARAMETERS.items()})

    def setResult(self, nodes: ResultNodes) -> None:
        """Remember the nodes of a new result, and show them as the user likes it, the density first."""
        with slicer.util.NodeModify(self.parameterNode):
            for role, parameter in RESULT_PARAMETERS.items():
                setattr(self, parameter, getattr(nodes, role))
            self.overlaid = Overlaid.Density
        Overlay.setThreshold(nodes.density, self.overlayThreshold)
        Overlay.setOutlinesVisible(nodes.isolines, self.showOutlines)
        Overlay.setSurfacesVisible(nodes.isolines, self.showSurfaces)

    def setPlans(self, nodes: ResultNodes) -> None:
        """Remember the plans of a result, and show them as the user likes it."""
        with slicer.util.NodeModify(self.parameterNode):
            self.resultPlans, self.resultPlanTable = nodes.plans, nodes.planTable
            self.parameterNode.Modified()  # also where the nodes are those of earlier plans
        Overlay.setOutlinesVisible(nodes.plans, self.showPlans)


def forgetUnreadable(node: Any) -> str:
    """Take what this version cannot read out of a scene's parameter node, before it is wrapped; the defaults then hold.

    :return: a sentence on what that was; empty when nothing was.
    """
    found = []
    for name, parameter in TumorQueryParameterNode.allParameters.items():
        serializer = parameter.serializer
        try:
            if serializer.isIn(node, name):
                serializer.read(node, name)
        except ValueError:
            found.append(f"{name} = {node.GetParameter(name)}")
            serializer.remove(node, name)
    if not found:
        return ""
    return _("This version does not know these choices of the scene, and takes its defaults: {choices}.").format(
        choices=", ".join(found)
    )


#: Role of a node of the result -> parameter that refers to it.
RESULT_PARAMETERS = {
    "density": "resultDensity",
    "isolines": "resultIsolines",
    "matches": "resultMatches",
    "atlasToPatient": "resultAtlasToPatient",
    "patientToAtlas": "resultPatientToAtlas",
    "report": "resultReport",
    "picture": "resultPicture",
    "brain": "resultBrain",
    "plans": "resultPlans",
    "planTable": "resultPlanTable",
}
