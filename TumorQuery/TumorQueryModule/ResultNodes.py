"""The nodes of a result: made from the worker's files, found again in a restored scene."""

import base64
import json
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from TumorQueryModule import Overlay
from TumorQueryModule.PatientNodes import BRAIN_ROLE, RESULT_ATTRIBUTE, PatientNodes

#: The version of result.json that this module reads, as the library has it.
RESULT_VERSION = 2

#: Attribute of a density node: the name of the estimate that it shows, or the rank of the match, counted from 0.
SHOWN_ATTRIBUTE = "TumorQuery.Shown"

#: References of a density node to the volumes that keep the densities of estimates while another one is shown, and the
#: maps of the uncertainty.
KEPT_REFERENCE = "TumorQuery.Estimate."

#: References of a density node to the images that it was made from.
T1GD_REFERENCE = "TumorQuery.T1Gd"
SEGMENTATION_REFERENCE = "TumorQuery.Segmentation"

#: The estimate that is the best match as it is, and the one that was corrected to agree with the segmentation.
MATCH, ASSIMILATED = "match", "assimilated"

#: What may lie over the image: the density that is shown, and the maps of the assimilated one's uncertainty.
DENSITY = "density"
MAPS = ("sd", "p05", "p95", "probability")

#: What plans and exports need of a result, kept beside its densities: label maps, the last one only where a cavity was
#: given, and the joint draws of the uncertainty, a file as text.
SEGMENTED, TISSUE, CAVITY = "segmentation", "tissue", "cavity"
DRAWS = "draws"

#: How far the T1Gd image's voxels may lie from those of a density made on it, mm: files hold its axes at right angles.
PLACE_TOLERANCE = 0.5


@dataclass
class ResultNodes:
    """The nodes of one result; a node that the user removed is None.

    :param density: tumor cell density, 0 to 1, on the voxels of the T1Gd image; that of the shown row of the table.
    :param isolines: segments where the density exceeds the thresholds of the database.
    :param matches: table of the ranked matches.
    :param atlasToPatient: transform that carries atlas volumes to the patient.
    :param patientToAtlas: transform that carries the patient's volumes to the atlas.
    :param report: the worker's result.json as text.
    :param picture: the page with the report's pictures, an image of colors.
    :param brain: the extracted brain as a segment; there only where an image with its skull was given without a mask.
    :param plans: the plans as segments, by their names in result.json; None until some are made.
    :param planTable: table of the plans' figures.
    """

    density: Any = None
    isolines: Any = None
    matches: Any = None
    atlasToPatient: Any = None
    patientToAtlas: Any = None
    report: Any = None
    picture: Any = None
    brain: Any = None
    plans: Any = None
    planTable: Any = None

    @property
    def t1gd(self) -> Any:
        """The T1Gd image that the density belongs to; None where it was removed."""
        return self.density.GetNodeReference(T1GD_REFERENCE)

    @property
    def segmentation(self) -> Any:
        """The segmentation, or label map, that the density was fitted to; None where it was removed."""
        return self.density.GetNodeReference(SEGMENTATION_REFERENCE)

    @property
    def content(self) -> dict[str, Any]:
        """The content of result.json.

        :raises ValueError: when the report is gone, cannot be read, or is of another version.
        """
        if self.report is None:
            raise ValueError(_("The result is no longer in the scene. Run the inference again."))
        try:
            content = json.loads(self.report.GetText() or "")
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(filesMissing()) from error
        if not isinstance(content, dict) or content.get("version") != RESULT_VERSION:
            raise ValueError(_("This result was made by another version of TumorQuery: run the inference again."))
        return content

    @property
    def whyUnreadable(self) -> str:
        """A sentence where density or report hold nothing, as in a scene whose data files are missing, or nothing that
        this version reads; empty where they do.
        """
        if holdsNothing(self.density):
            return filesMissing()
        try:
            self.content  # noqa: B018
        except ValueError as error:
            return str(error)
        return ""

    @property
    def isReadable(self) -> bool:
        """Whether density and report hold what this version reads."""
        return not self.whyUnreadable

    @property
    def chosen(self) -> dict[str, Any]:
        """What result.json says of the estimate that the result gives."""
        content = self.content
        return content["estimates"][content["chosen"]]

    @property
    def model(self) -> dict[str, Any]:
        """What result.json says of the grown tumor behind the chosen estimate: itself, where that has grown."""
        content = self.content
        return content["estimates"][modelOf(content, content["chosen"])]

    @property
    def shown(self) -> str | int:
        """What the density is: the name of an estimate, or the rank of a match, counted from 0."""
        shown = self.density.GetAttribute(SHOWN_ATTRIBUTE)
        return int(shown) if shown.isdigit() else shown

    def kept(self, shown: str | int) -> Any:
        """The node that keeps the density of an estimate, a map or the like; None for a match, and where it is gone."""
        return self.density.GetNodeReference(f"{KEPT_REFERENCE}{shown}")

    @property
    def chosenDensity(self) -> Any:
        """A volume that holds the density of the chosen estimate; None where the scene has it no more."""
        content = self.content
        return self.density if self.shown == shownAtFirst(content) else self.kept(content["chosen"])

    @property
    def overlays(self) -> dict[str, Any]:
        """The volumes that may lie over the image, by what they are: the density, and the maps that are there."""
        maps = {name: self.kept(name) for name in MAPS}
        return {DENSITY: self.density, **{name: node for name, node in maps.items() if not holdsNothing(node)}}


def holdsNothing(node: Any) -> bool:
    """Whether a volume or a text is not there, or without what it held, as in a scene whose data file is missing."""
    if node is None:
        return True
    return not node.GetText() if node.IsA("vtkMRMLTextNode") else node.GetImageData() is None


def filesMissing() -> str:
    """What is said of a result whose nodes are there, but not what they held."""
    return _("The files of the result are missing: run the inference again.")


def rowsOf(content: dict[str, Any]) -> list[str | int]:
    """What the rows of the table stand for: names of estimates, the chosen one first, then the ranks of the matches.

    :param content: the content of result.json.
    """
    names = [name for name in content["estimates"] if name != MATCH]
    return [*sorted(names, key=lambda name: name != content["chosen"]), *range(len(content["query"]["matches"]))]


def shownAtFirst(content: dict[str, Any]) -> str | int:
    """What a new result shows: the chosen estimate; the best match is the first of the ranked ones."""
    return 0 if content["chosen"] == MATCH else content["chosen"]


def modelOf(content: dict[str, Any], shown: str | int) -> str | int:
    """The grown tumor behind what is shown: itself, or what the assimilated density was made from."""
    if shown != ASSIMILATED:
        return shown
    return content["uncertainty"]["model"] if content["uncertainty"] else content["model"]


def estimateOf(content: dict[str, Any], shown: str | int) -> dict[str, Any] | None:
    """What result.json says of the grown tumor behind what is shown; None for a match after the best."""
    model = modelOf(content, shown)
    return content["estimates"].get(MATCH if model == 0 else model)


def fociOf(content: dict[str, Any], shown: str | int) -> list[dict[str, Any]]:
    """The parameters of the grown tumor behind what is shown, one for each focus."""
    model = modelOf(content, shown)
    if isinstance(model, int):
        return [content["query"]["matches"][model]["parameters"]]
    return content["estimates"][model]["parameters"]


def uncertaintyOf(content: dict[str, Any], shown: str | int) -> dict[str, Any] | None:
    """What result.json says of how sure the parameters of what is shown are; None where it does not."""
    uncertainty = content.get("uncertainty")  # which results of earlier versions do not have
    if not uncertainty:
        return None
    model = modelOf(content, shown)
    return uncertainty if uncertainty["model"] == (MATCH if model == 0 else model) else None


NODE_CLASSES = {
    "density": "vtkMRMLScalarVolumeNode",
    "isolines": "vtkMRMLSegmentationNode",
    "matches": "vtkMRMLTableNode",
    "atlasToPatient": "vtkMRMLTransformNode",
    "patientToAtlas": "vtkMRMLTransformNode",
    "report": "vtkMRMLTextNode",
    "picture": "vtkMRMLVectorVolumeNode",
    BRAIN_ROLE: "vtkMRMLSegmentationNode",
}


def nodeNames(name: str) -> dict[str, str]:
    """Names of the nodes of a result, by role.

    :param name: what each begins with.
    """
    names = {
        "density": _("{patient} tumor cell density"),
        "isolines": _("{patient} density isolines"),
        "matches": _("{patient} matches"),
        "atlasToPatient": _("Atlas to {patient}"),
        "patientToAtlas": _("{patient} to atlas"),
        "report": _("{patient} TumorQuery report"),
        "picture": _("{patient} TumorQuery report picture"),
        BRAIN_ROLE: _("{patient} brain"),
    }
    return {role: text.format(patient=name) for role, text in names.items()}


@dataclass(frozen=True)
class ResultFiles:
    """What the files of a result hold, outside the scene."""

    densities: dict[str, Any]
    maps: dict[str, Any]
    transforms: dict[str, Any]
    picture: Any
    brain: Any
    ofPlans: dict[str, Any]


def readFiles(folder: Path, content: dict[str, Any]) -> Generator[None, None, ResultFiles]:
    """Read what the nodes of a result are made from; yields after every file, and returns it all."""
    densities = {}
    for name, estimate in content["estimates"].items():
        if name in (*rowsOf(content), content["chosen"]):
            densities[name] = readVolume(folder / estimate["density"])
            yield None
    maps = {}
    if content.get("uncertainty"):
        for name in MAPS:
            maps[name] = readVolume(folder / content["outputs"][f"density_{name}"])
            yield None
    transforms = {}
    # The file that maps points of the patient to the atlas resamples the atlas onto the patient: in
    # MRML it is the transform from parent of the node that carries atlas volumes to the patient.
    for role, name in (("atlasToPatient", "patient_to_atlas"), ("patientToAtlas", "atlas_to_patient")):
        transforms[role] = readTransform(folder / content["outputs"][name])
        yield None
    picture = readPicture(folder / content["outputs"]["report"])
    yield None
    brain = None
    if BRAIN_ROLE in content["outputs"]:
        brain = Overlay.maskAbove(readVolume(folder / content["outputs"][BRAIN_ROLE]), 0.5)
        yield None
    ofPlans = {}
    for name in (SEGMENTED, TISSUE, CAVITY):
        if name in content["outputs"]:
            ofPlans[name] = readVolume(folder / content["outputs"][name])
            yield None
    if "density_draws" in content["outputs"]:
        ofPlans[DRAWS] = readAsText(folder / content["outputs"]["density_draws"])
        yield None
    return ResultFiles(densities, maps, transforms, picture, brain, ofPlans)


def loadResult(
    patient: PatientNodes, resultPath: Path, previous: ResultNodes, outputName: str = ""
) -> Iterator[ResultNodes | None]:
    """Make the nodes of a result from the worker's folder.

    All that takes time or can fail is done outside the scene, so that until the last step nothing of an earlier
    result has changed; that step cannot be interrupted.

    :param previous: nodes to update; those that are None are added.
    :param outputName: what the names of the nodes begin with; the T1Gd image's name when empty.
    :return: yields None after every step of the preparation, at last the nodes.
    """
    folder = resultPath.parent
    text = resultPath.read_text(encoding="utf-8")
    content = json.loads(text)
    files = yield from readFiles(folder, content)
    level = content["uncertainty"]["level"] if files.maps else 0.0
    table = matchesTable(content)
    for step in prepareDensity(files.densities[content["chosen"]], content, shownAtFirst(content)):
        chosen = step
        yield None
    kept = {name: volume for name, volume in files.densities.items() if name != MATCH} | files.maps | files.ofPlans

    for node in (patient.t1gd, patient.segmentation):
        if node.GetScene() is None:
            raise ValueError(_("{name} was removed from the scene.").format(name=node.GetName()))
    frame = frameOf(patient.t1gd, files.densities[content["chosen"]])
    removeLeftOver()
    patientName = outputName or patient.t1gd.GetName()
    names, keptNames = nodeNames(patientName), {name: keptName(patientName, name) for name in kept}
    if files.brain is None:
        del names[BRAIN_ROLE]
    added: list[Any] = []
    try:
        nodes = makeNodes(previous, names, added)
        if nodes.density.GetDisplayNode() is None:
            Overlay.setUpDensityDisplay(nodes.density)
        makeKept(nodes, keptNames, added)
    except Exception:
        for node in added:
            slicer.mrmlScene.RemoveNode(node)
        raise
    placeNodes(nodes, patient.t1gd, names, added)
    putUnder(nodes, names, frame)
    nodes.report.SetText(text)
    takeImage(nodes.picture, files.picture)
    nodes.density.SetNodeReferenceID(T1GD_REFERENCE, patient.t1gd.GetID())
    nodes.density.SetNodeReferenceID(SEGMENTATION_REFERENCE, patient.segmentation.GetID())
    for role, transform in files.transforms.items():
        getattr(nodes, role).SetAndObserveTransformFromParent(transform.GetTransformFromParent())
    describeTransforms(nodes, patient)
    takeTable(nodes.matches, table)
    keepDensities(nodes, kept, keptNames, added)
    for name in files.maps:
        Overlay.setUpMapDisplay(nodes.kept(name), name, level)
    showDensity(nodes, chosen)
    if files.brain is None:
        nodes.brain = stillThere(previous.brain)  # perhaps the mask that was given; a later extraction updates it
    else:
        Overlay.setBrain(nodes.brain, patient.t1gd, files.brain)
    for node in (previous.plans, previous.planTable):  # of the result that is replaced
        if stillThere(node):
            slicer.mrmlScene.RemoveNode(node)
    yield nodes


def makeNodes(previous: ResultNodes, names: dict[str, str], added: list[Any]) -> ResultNodes:
    """The nodes of a result: the previous ones as they are, and new, empty ones for those that are not there.

    :param added: gets the new ones.
    """
    nodes = ResultNodes()
    for role, name in names.items():
        node = stillThere(getattr(previous, role)) or addNode(NODE_CLASSES[role], name, role, added)
        setattr(nodes, role, node)
    return nodes


def stillThere(node: Any) -> Any:
    """A node; None where it was removed from the scene meanwhile."""
    return None if node is None or node.GetScene() is None else node


def brainNode(previous: Any, t1gd: Any, name: str) -> Any:
    """The segmentation that an extracted brain goes into, beside the T1Gd image: the previous one, or a new one."""
    added: list[Any] = []
    node = stillThere(previous) or addNode(NODE_CLASSES[BRAIN_ROLE], name, BRAIN_ROLE, added)
    placeNodes(ResultNodes(brain=node), t1gd, {BRAIN_ROLE: name}, added)
    return node


def addNode(className: str, name: str, role: str, added: list[Any]) -> Any:
    """Add an empty node of a result to the scene, and to `added`."""
    scene = slicer.mrmlScene
    # The scene gives out no name twice, not even that of a node which was removed.
    unique = name if scene.GetFirstNodeByName(name) is None else scene.GenerateUniqueName(name)
    node = scene.AddNewNodeByClass(className, unique)
    node.SetAttribute(RESULT_ATTRIBUTE, role)
    added.append(node)
    return node


def placeNodes(nodes: ResultNodes, t1gd: Any, names: dict[str, str], added: list[Any]) -> None:
    """Name the nodes that were there before anew, and put all beside the T1Gd image, under its transform."""
    for role, name in names.items():
        node = getattr(nodes, role)
        if node not in added:
            node.SetName(name)
        placeBeside(node, t1gd)
    putUnder(nodes, names, t1gd.GetParentTransformNode())


def putUnder(nodes: ResultNodes, roles: Iterable[str], transformNode: Any) -> None:
    """Put the nodes that have a place under a transform; under none where it is None."""
    for role in roles:
        node = getattr(nodes, role)
        if node.IsA("vtkMRMLTransformableNode") and role != "picture":
            node.SetAndObserveTransformNodeID(transformNode.GetID() if transformNode else None)


def frameOf(t1gd: Any, density: Any) -> Any:
    """The transform that a result goes under to lie on its T1Gd image: the image's own, as a rule.

    Where that was hardened while the run was under way, it is the one that was; transforms and seeds of a result stay
    in the frame that they were computed in.

    :param density: as it came from the worker, on the voxels that the image had then.
    :raises ValueError: when the image has changed its geometry otherwise.
    """
    image, parent = t1gd.GetImageData(), t1gd.GetParentTransformNode()
    if image is not None and image.GetDimensions() == density.GetImageData().GetDimensions():
        now, then = matrixOf(t1gd), matrixOf(density)
        corners = np.indices((2, 2, 2)).reshape(3, 8) * np.array(image.GetDimensions())[:, None]
        corners = np.vstack([corners, np.ones(8)])
        if np.allclose(now @ corners, then @ corners, rtol=0, atol=PLACE_TOLERANCE):
            return parent
        for node in slicer.util.getNodesByClass("vtkMRMLTransformNode") if parent is None else ():
            toWorld = vtk.vtkMatrix4x4()
            if node.IsTransformToWorldLinear() and node.GetMatrixTransformToWorld(toWorld):
                hardened = slicer.util.arrayFromVTKMatrix(toWorld) @ then
                if np.allclose(now @ corners, hardened @ corners, rtol=0, atol=PLACE_TOLERANCE):
                    return node
    raise ValueError(
        _(
            "{name} got another geometry while the run was under way, and the result would lie beside it: "
            "run the inference again."
        ).format(name=t1gd.GetName())
    )


def matrixOf(volumeNode: Any) -> Any:
    """Where the voxels of a volume lie: from [i, j, k, 1] to RAS mm below its parent transform, shape (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def removeLeftOver() -> None:
    """Remove what was kept for a density that is no longer in the scene, as far as it has the name that a run gave."""
    results = [node for node in slicer.util.getNodesByClass("vtkMRMLNode") if node.GetAttribute(RESULT_ATTRIBUTE)]
    referred = set()
    for node in results:
        roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
        referred |= {node.GetNodeReferenceID(role) for role in roles if role.startswith(KEPT_REFERENCE)}
    for node in results:
        kept = node.GetAttribute(RESULT_ATTRIBUTE)
        if kept in ("refined", ASSIMILATED, *MAPS, SEGMENTED, TISSUE, CAVITY, DRAWS) and node.GetID() not in referred:
            before, after = keptName("\0", kept).split("\0")
            # A copy, and what the user has named, may be of use.
            if re.fullmatch(f"{re.escape(before)}.*{re.escape(after)}(_[0-9]+)?", node.GetName()):
                slicer.mrmlScene.RemoveNode(node)


def placeBeside(node: Any, neighbor: Any) -> None:
    """Put a node into the study, or folder, of another one in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    neighborItem = hierarchy.GetItemByDataNode(neighbor)
    parent = hierarchy.GetItemParent(neighborItem) if neighborItem else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def readVolume(path: Path) -> Any:
    """Read a scalar volume as a node outside the scene, so that no file name stays with it."""
    storage, node = slicer.vtkMRMLVolumeArchetypeStorageNode(), slicer.vtkMRMLScalarVolumeNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise RuntimeError(_("The result file {name} cannot be read.").format(name=path.name))
    return node


def readAsText(path: Path) -> Any:
    """Read a file of any kind as a text node outside the scene; `bytesOf` gives it back."""
    if not path.is_file():
        raise RuntimeError(_("The result file {name} cannot be read.").format(name=path.name))
    node = slicer.vtkMRMLTextNode()
    node.SetText(base64.b64encode(path.read_bytes()).decode("ascii"))
    return node


def bytesOf(textNode: Any) -> bytes:
    """The content of the file that `readAsText` read."""
    return base64.b64decode(textNode.GetText())


def readPicture(path: Path) -> Any:
    """Read a PNG file as a node outside the scene, upright in an axial view."""
    reader = vtk.vtkPNGReader()
    if not (path.is_file() and reader.CanReadFile(str(path))):
        raise RuntimeError(_("The result file {name} cannot be read.").format(name=path.name))
    reader.SetFileName(str(path))
    reader.Update()
    node = slicer.vtkMRMLVectorVolumeNode()
    node.SetAndObserveImageData(reader.GetOutput())
    node.SetIJKToRASDirections(-1, 0, 0, 0, 1, 0, 0, 0, 1)
    return node


def readTransform(path: Path) -> Any:
    """Read an ITK transform as a node outside the scene."""
    storage, node = slicer.vtkMRMLTransformStorageNode(), slicer.vtkMRMLTransformNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise RuntimeError(_("The result file {name} cannot be read.").format(name=path.name))
    return node


def writeTransform(transformNode: Any, path: Path) -> None:
    """Write a transform as ITK has it, without touching the storage of its node."""
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(transformNode):
        raise RuntimeError(_("The temporary file {path} cannot be written.").format(path=path))


def describeTransforms(nodes: ResultNodes, patient: PatientNodes) -> None:
    """Say in each transform node which volumes it carries where."""
    name = patient.t1gd.GetName()
    nodes.atlasToPatient.SetDescription(
        _("Put an atlas volume under this transform to see it on {patient}.").format(patient=name)
    )
    nodes.patientToAtlas.SetDescription(
        _("Put {patient} under this transform to see it in the atlas.").format(patient=name)
    )


def matchesTable(content: dict[str, Any]) -> dict[str, list[str]]:
    """The estimates and the ranked matches as columns of texts; a value of several foci stands once for each.

    The assimilated density agrees with the segmentation by construction, so its overlap says nothing and is left out.
    Below the rows of `rowsOf`, which can be shown, stand those of the sensitivity.
    """
    matches = content["query"]["matches"]
    rows = rowsOf(content)
    fits = [matches[row] if isinstance(row, int) else content["estimates"][row]["fit"] for row in rows]
    core, whole = (
        ["" if row == ASSIMILATED else f"{fit[f'dice_{region}']:.2f}" for row, fit in zip(rows, fits, strict=True)]
        for region in ("core", "whole")
    )
    lengths = [[focus["infiltration_length_patient_mm"] for focus in fociOf(content, row)] for row in rows]
    others = content.get("sensitivity") or []
    return {
        _("Match"): [str(row + 1) if isinstance(row, int) else nameOf(row) for row in rows]
        + [assumptionOf(other["assumption"]) for other in others],
        _("Core"): core + [""] * len(others),
        _("Whole"): whole + [""] * len(others),
        _("Length (mm)"): [
            ", ".join(f"{length:.1f}" for length in row)
            for row in [*lengths, *(other["infiltration_length_patient_mm"] for other in others)]
        ],
    }


def assumptionOf(assumption: str) -> str:
    """An assumption about the tissue, of a row of the sensitivity, in the panel's words."""
    return {
        "grey matter 10 times slower": _("if gray matter slows 10 times"),
        "grey matter 3 times slower": _("if gray matter slows 3 times"),
        "white matter in the tumour": _("if all under the tumor is white matter"),
    }.get(assumption, assumption)


def takeTable(tableNode: Any, columns: dict[str, list[str]]) -> None:
    """Write columns into a table node in place of what it held."""
    tableNode.RemoveAllColumns()
    for name, values in columns.items():
        column = vtk.vtkStringArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        tableNode.AddColumn(column)
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.SetLocked(True)


def nameOf(kept: str) -> str:
    """What table and nodes call an estimate or a map."""
    names = {
        "refined": _("refined"),
        ASSIMILATED: _("assimilated"),
        "sd": _("standard deviation"),
        "p05": _("lower bound (5 %)"),
        "p95": _("upper bound (95 %)"),
        "probability": _("probability"),
    }
    return names.get(kept, kept)


def keptName(patientName: str, kept: str) -> str:
    """The name of the node that keeps an estimate's density, a map, or what plans need.

    :param patientName: what the names of the result's nodes begin with.
    """
    names = {
        SEGMENTED: _("{patient} segmentation of the result"),
        TISSUE: _("{patient} tissue"),
        CAVITY: _("{patient} resection cavity"),
        DRAWS: _("{patient} draws of the density"),
    }
    density = nodeNames(patientName)["density"]
    return names[kept].format(patient=patientName) if kept in names else f"{density} {nameOf(kept)}"


def classOfKept(kept: str) -> str:
    """The class of the node that keeps an estimate's density, a map, or what plans need."""
    if kept == DRAWS:
        return "vtkMRMLTextNode"
    return "vtkMRMLLabelMapVolumeNode" if kept in (SEGMENTED, TISSUE, CAVITY) else "vtkMRMLScalarVolumeNode"


def makeKept(nodes: ResultNodes, names: dict[str, str], added: list[Any]) -> None:
    """Make the nodes, still empty, that keep densities of estimates, maps and what plans need, where there are none.

    :param names: their names by what they keep.
    :param added: gets the new ones.
    """
    for name, text in names.items():
        if nodes.kept(name) is None:
            kept = addNode(classOfKept(name), text, name, added)
            nodes.density.SetNodeReferenceID(f"{KEPT_REFERENCE}{name}", kept.GetID())


def keepDensities(nodes: ResultNodes, sources: dict[str, Any], names: dict[str, str], added: list[Any]) -> None:
    """Keep the densities of estimates in volumes of their own, so that they come back after a match was shown.

    :param sources: node outside the scene by the name of the estimate, of a map, or of what plans need; what was kept
        of others goes.
    :param names: of the nodes that keep them.
    """
    roles = [nodes.density.GetNthNodeReferenceRole(n) for n in range(nodes.density.GetNumberOfNodeReferenceRoles())]
    for role in roles:
        if role.startswith(KEPT_REFERENCE) and role.removeprefix(KEPT_REFERENCE) not in sources:
            kept = nodes.density.GetNodeReference(role)
            nodes.density.SetNodeReferenceID(role, None)
            slicer.mrmlScene.RemoveNode(kept)
    for name, source in sources.items():
        kept = nodes.kept(name)
        if kept not in added:
            kept.SetName(names[name])
        placeBeside(kept, nodes.density)
        if source.IsA("vtkMRMLTextNode"):
            kept.SetText(source.GetText())
            continue
        kept.SetAndObserveTransformNodeID(nodes.density.GetTransformNodeID())
        takeImage(kept, source)


def takeImage(node: Any, source: Any) -> None:
    """Give a volume node the voxels and the geometry of another one."""
    matrix = vtk.vtkMatrix4x4()
    source.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(source.GetImageData())


@dataclass(frozen=True)
class PreparedDensity:
    """A density with all that is made of it, outside the scene.

    :param volume: volume node that holds it.
    :param shown: what it is: the name of an estimate, or the rank of a match, counted from 0.
    :param thresholds: density by region, "whole" and "core".
    :param masks: where it exceeds the thresholds, by region, as the segments of the isolines.
    """

    volume: Any
    shown: str | int
    thresholds: dict[str, float]
    masks: dict[str, Any]


def prepareDensity(volume: Any, content: dict[str, Any], shown: str | int) -> Iterator[PreparedDensity]:
    """Make what `showDensity` shows; yields what is there after every step, at last all of it."""
    database = content["database"]
    prepared = PreparedDensity(
        volume, shown, {"whole": database["threshold_whole"], "core": database["threshold_core"]}, {}
    )
    for region, threshold in prepared.thresholds.items():
        prepared.masks[region] = Overlay.maskAbove(volume, threshold)
        yield prepared


def showDensity(nodes: ResultNodes, prepared: PreparedDensity) -> None:
    """Put a density into the nodes of a result, with its isolines, in one step."""
    takeImage(nodes.density, prepared.volume)
    nodes.density.SetAttribute(SHOWN_ATTRIBUTE, str(prepared.shown))
    Overlay.setIsolines(nodes.isolines, nodes.density, prepared.thresholds, prepared.masks)


def predictedVolumes(nodes: ResultNodes) -> dict[str, float]:
    """Volumes, in ml, where the shown density exceeds the thresholds of the database: "whole" and "core"."""
    database = nodes.content["database"]
    density = slicer.util.arrayFromVolume(nodes.density)
    voxel = float(np.prod(nodes.density.GetSpacing())) / 1000.0
    thresholds = {"whole": database["threshold_whole"], "core": database["threshold_core"]}
    return {region: float(np.count_nonzero(density > value) * voxel) for region, value in thresholds.items()}
