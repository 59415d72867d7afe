"""The nodes of a result: made from the worker's files, found again in a restored scene."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from TumorQueryModule import Overlay
from TumorQueryModule.PatientNodes import PatientNodes

#: Attribute of a density node: which of the ranked matches it shows, counted from 0.
RANK_ATTRIBUTE = "TumorQuery.Rank"


@dataclass
class ResultNodes:
    """The nodes of one result; a node that the user removed is None.

    :param density: tumor cell density, 0 to 1, on the voxels of the T1Gd image.
    :param isolines: segments where the density exceeds the thresholds of the database.
    :param matches: table of the ranked matches.
    :param atlasToPatient: transform that carries atlas volumes to the patient.
    :param patientToAtlas: transform that carries the patient's volumes to the atlas.
    :param report: the worker's result.json as text.
    """

    density: Any = None
    isolines: Any = None
    matches: Any = None
    atlasToPatient: Any = None
    patientToAtlas: Any = None
    report: Any = None

    @property
    def content(self) -> dict[str, Any]:
        """The content of result.json.

        :raises ValueError: when the report is gone.
        """
        if self.report is None:
            raise ValueError(_("The result is no longer in the scene. Run the inference again."))
        return json.loads(self.report.GetText())

    @property
    def rank(self) -> int:
        """Which of the ranked matches is shown, counted from 0; -1 when none is."""
        rank = self.density.GetAttribute(RANK_ATTRIBUTE) if self.density else None
        return -1 if rank is None else int(rank)


NODE_CLASSES = {
    "density": "vtkMRMLScalarVolumeNode",
    "isolines": "vtkMRMLSegmentationNode",
    "matches": "vtkMRMLTableNode",
    "atlasToPatient": "vtkMRMLTransformNode",
    "patientToAtlas": "vtkMRMLTransformNode",
    "report": "vtkMRMLTextNode",
}


def nodeNames(patientName: str) -> dict[str, str]:
    """Names of the nodes of a result."""
    names = {
        "density": _("{patient} tumor cell density"),
        "isolines": _("{patient} density isolines"),
        "matches": _("{patient} matches"),
        "atlasToPatient": _("Atlas to {patient}"),
        "patientToAtlas": _("{patient} to atlas"),
        "report": _("{patient} TumorQuery report"),
    }
    return {role: name.format(patient=patientName) for role, name in names.items()}


def loadResult(patient: PatientNodes, resultPath: Path, previous: ResultNodes) -> Iterator[ResultNodes | None]:
    """Make the nodes of a result from the worker's folder.

    What is read stays outside the scene until all of it is there.

    :param previous: nodes to update; those that are None are added.
    :return: yields after every step, at last the nodes.
    """
    folder = resultPath.parent
    text = resultPath.read_text(encoding="utf-8")
    content = json.loads(text)
    outputs = content["outputs"]
    density = readVolume(folder / outputs["density"])
    yield None
    transforms = {}
    # The file that maps points of the patient to the atlas resamples the atlas onto the patient: in
    # MRML it is the transform from parent of the node that carries atlas volumes to the patient.
    for role, name in (("atlasToPatient", "patient_to_atlas"), ("patientToAtlas", "atlas_to_patient")):
        transforms[role] = readTransform(folder / outputs[name])
        yield None
    added: list[Any] = []
    finished = False
    try:
        nodes = ResultNodes()
        for _node in makeNodes(nodes, patient, previous, added):
            yield None
        nodes.report.SetText(text)
        for role, transform in transforms.items():
            getattr(nodes, role).SetAndObserveTransformFromParent(transform.GetTransformFromParent())
        describeTransforms(nodes, patient)
        fillMatchesTable(nodes.matches, content["matches"])
        yield None
        for _step in showDensity(nodes, density, 0):
            yield None
        finished = True
    finally:
        if not finished:
            for node in added:
                slicer.mrmlScene.RemoveNode(node)
    yield nodes


def makeNodes(nodes: ResultNodes, patient: PatientNodes, previous: ResultNodes, added: list[Any]) -> Iterator[None]:
    """Fill in the nodes of a result: the previous ones, and new ones for those that are not there."""
    names = nodeNames(patient.t1gd.GetName())
    for field in fields(ResultNodes):
        node = getattr(previous, field.name)
        if node is None or node.GetScene() is None:  # removed meanwhile
            name = slicer.mrmlScene.GenerateUniqueName(names[field.name])
            node = slicer.mrmlScene.AddNewNodeByClass(NODE_CLASSES[field.name], name)
            added.append(node)
        else:
            node.SetName(names[field.name])
        if node.IsA("vtkMRMLTransformableNode"):
            parentTransform = patient.t1gd.GetParentTransformNode()
            node.SetAndObserveTransformNodeID(parentTransform.GetID() if parentTransform else None)
        placeBeside(node, patient.t1gd)
        setattr(nodes, field.name, node)
        yield


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


def fillMatchesTable(tableNode: Any, matches: list[dict[str, Any]]) -> None:
    """Write the ranked matches into a table node."""

    def parameter(name: str) -> np.ndarray:
        return np.array([match["parameters"][name] for match in matches])

    columns = {
        _("Match"): np.arange(1, len(matches) + 1),
        _("Dice T1Gd"): np.array([match["dice_t1gd"] for match in matches]).round(3),
        _("Dice FLAIR"): np.array([match["dice_flair"] for match in matches]).round(3),
        _("Dice sum"): np.array([match["dice_sum"] for match in matches]).round(3),
        _("Infiltration length (mm)"): parameter("infiltration_length_patient_mm").round(2),
        _("rho T"): parameter("rho_t").round(1),
        _("Entry"): np.array([match["entry"] for match in matches]),
    }
    slicer.util.updateTableFromArray(tableNode, list(columns.values()), list(columns))
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.SetLocked(True)


def showDensity(nodes: ResultNodes, density: Any, rank: int) -> Iterator[None]:
    """Put a density that was read into the nodes of a result, with its isolines; yields after every step.

    :param density: volume node outside the scene.
    :param rank: which of the ranked matches it is, counted from 0.
    """
    isNew = nodes.density.GetImageData() is None
    matrix = vtk.vtkMatrix4x4()
    density.GetIJKToRASMatrix(matrix)
    nodes.density.SetIJKToRASMatrix(matrix)
    nodes.density.SetAndObserveImageData(density.GetImageData())
    nodes.density.SetAttribute(RANK_ATTRIBUTE, str(rank))
    if isNew:
        yield from Overlay.setUpDensityDisplay(nodes.density)
    database = nodes.content["database"]
    thresholds = {"whole": database["threshold_flair"], "core": database["threshold_t1gd"]}
    yield from Overlay.setIsolines(nodes.isolines, nodes.density, thresholds)


def predictedVolumes(nodes: ResultNodes) -> dict[str, float]:
    """Volumes, in ml, where the shown density exceeds the thresholds of the database: "whole" and "core"."""
    database = nodes.content["database"]
    density = slicer.util.arrayFromVolume(nodes.density)
    voxel = float(np.prod(nodes.density.GetSpacing())) / 1000.0
    thresholds = {"whole": database["threshold_flair"], "core": database["threshold_t1gd"]}
    return {region: float(np.count_nonzero(density > value) * voxel) for region, value in thresholds.items()}
