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

#: Attribute of a density node: which of the ranked matches it shows, counted from 0, or REFINED.
RANK_ATTRIBUTE = "TumorQuery.Rank"
REFINED = -1

#: Reference of a density node to the volume that keeps the refined density while another one is shown.
REFINED_REFERENCE = "TumorQuery.RefinedDensity"


@dataclass
class ResultNodes:
    """The nodes of one result; a node that the user removed is None.

    :param density: tumor cell density, 0 to 1, on the voxels of the T1Gd image; that of the shown row of the table.
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
        """Which of the ranked matches is shown, counted from 0, or REFINED."""
        rank = self.density.GetAttribute(RANK_ATTRIBUTE) if self.density else None
        return 0 if rank is None else int(rank)

    @property
    def refined(self) -> Any:
        """The volume that keeps the refined density; None without a refinement."""
        return self.density.GetNodeReference(REFINED_REFERENCE) if self.density else None

    @property
    def row(self) -> int:
        """The row of the table that is shown; the refined density comes before the matches."""
        return self.rank - rankOfRow(self.content, 0)


def rankOfRow(content: dict[str, Any], row: int) -> int:
    """The rank, counted from 0, of the match in a row of the table, or REFINED.

    :param content: the content of result.json.
    """
    return row if content["refined"] is None else row + REFINED


def candidate(content: dict[str, Any], rank: int) -> dict[str, Any]:
    """What result.json says of a match, or of the refined density."""
    return content["refined"] if rank == REFINED else content["matches"][rank]


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
        fillMatchesTable(nodes.matches, content)
        yield None
        keepRefined(nodes, density if content["refined"] else None, added)
        for _step in showDensity(nodes, density, rankOfRow(content, 0)):
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


def fillMatchesTable(tableNode: Any, content: dict[str, Any]) -> None:
    """Write the refined density, if there is one, and the ranked matches into a table node."""
    ranks = range(rankOfRow(content, 0), len(content["matches"]))
    rows = [candidate(content, rank) for rank in ranks]
    columns = {
        _("Dice T1Gd"): [round(row["dice_t1gd"], 3) for row in rows],
        _("Dice FLAIR"): [round(row["dice_flair"], 3) for row in rows],
        _("Dice sum"): [round(row["dice_sum"], 3) for row in rows],
        _("Infiltration length (mm)"): [round(row["parameters"]["infiltration_length_patient_mm"], 2) for row in rows],
        _("rho T"): [round(row["parameters"]["rho_t"], 1) for row in rows],
    }
    tableNode.RemoveAllColumns()
    names, entries = vtk.vtkStringArray(), vtk.vtkStringArray()
    for rank, row in zip(ranks, rows, strict=True):
        names.InsertNextValue(_("refined") if rank == REFINED else str(rank + 1))
        entries.InsertNextValue("" if rank == REFINED else str(row["entry"]))
    names.SetName(_("Match"))
    tableNode.AddColumn(names)
    for name, values in columns.items():
        numbers = vtk.vtkDoubleArray()
        numbers.SetName(name)
        for value in values:
            numbers.InsertNextValue(value)
        tableNode.AddColumn(numbers)
    entries.SetName(_("Entry"))
    tableNode.AddColumn(entries)
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.SetLocked(True)


def keepRefined(nodes: ResultNodes, density: Any, added: list[Any]) -> None:
    """Keep a refined density in a volume of its own, so that it comes back after another match was shown.

    :param density: volume node outside the scene; None where the result has no refined density.
    """
    kept = nodes.refined
    if density is None:
        if kept:
            nodes.density.SetNodeReferenceID(REFINED_REFERENCE, None)
            slicer.mrmlScene.RemoveNode(kept)
        return
    if kept is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{nodes.density.GetName()} refined")
        kept = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        added.append(kept)
        placeBeside(kept, nodes.density)
        nodes.density.SetNodeReferenceID(REFINED_REFERENCE, kept.GetID())
    kept.SetAndObserveTransformNodeID(nodes.density.GetTransformNodeID())
    takeImage(kept, density)


def takeImage(node: Any, source: Any) -> None:
    """Give a volume node the voxels and the geometry of another one."""
    matrix = vtk.vtkMatrix4x4()
    source.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(source.GetImageData())


def showDensity(nodes: ResultNodes, density: Any, rank: int) -> Iterator[None]:
    """Put a density into the nodes of a result, with its isolines; yields after every step.

    :param density: volume node that holds it.
    :param rank: which of the ranked matches it is, counted from 0, or REFINED.
    """
    isNew = nodes.density.GetImageData() is None
    takeImage(nodes.density, density)
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
