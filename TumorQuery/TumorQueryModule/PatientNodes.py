"""The nodes that describe a patient, what is still missing of them, and their way into files for the worker."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from TumorQueryModule import Dependencies

#: How far the axes of a volume may be from right angles (cosine) before it is resampled for the worker.
SHEAR_TOLERANCE = 1e-4

#: Attribute of the volumes and segmentations that a run made: no image or segmentation of a patient.
RESULT_ATTRIBUTE = "TumorQuery.Result"

#: Value of that attribute of the extracted brain, the one result that can be an input: the brain mask of the next run.
BRAIN_ROLE = "brain"

#: Tissue maps by the parameter that names them, as the worker calls their files.
TISSUE_ROLES = {"whiteMatter": "white_matter", "greyMatter": "grey_matter", "csf": "csf"}

#: Images on which a segmentation can be drawn, as TumorQueryLib names them.
IMAGE_ROLES = ("t1gd", "flair", "t1")


#: Terminology entries of the segments that the panel makes; `codeOf` reads their codes.
NEOPLASM_TERMINOLOGY, EDEMA_TERMINOLOGY = (
    "Segmentation category and type - DICOM master list~SCT^49755003^Morphologically Altered Structure"
    f"~SCT^{code}~^^~Anatomic codes - DICOM master list~^^~^^"
    for code in ("86049000^Neoplasm, Primary", "79654002^Edema")
)


@dataclass(frozen=True)
class PatientNodes:
    """The nodes of one patient.

    :param t1gd: T1-weighted image with contrast; the density is computed on its voxels.
    :param flair: T2-FLAIR image, optional.
    :param t1: T1-weighted image without contrast, optional.
    :param brainMask: segmentation or label map of the brain, optional.
    :param whiteMatter: map of the patient's own tissue, in which the tumor grows; all three maps or none.
    :param greyMatter: the same of the gray matter.
    :param csf: the same of the CSF.
    :param segmentation: the tumor, a segmentation or a label map.
    :param coreSegmentIDs: the segments of a segmentation that make up the core.
    :param wholeSegmentIDs: the segments that make up the whole tumor; those of the core are added.
    :param labelConvention: what the numbers of a label map mean, as TumorQueryLib names it; a label map needs it.
    :param segmentationOn: the image on which the tumor was drawn, "t1gd", "flair" or "t1"; found by itself when None.
    """

    t1gd: Any
    flair: Any = None
    t1: Any = None
    brainMask: Any = None
    whiteMatter: Any = None
    greyMatter: Any = None
    csf: Any = None
    segmentation: Any = None
    coreSegmentIDs: tuple[str, ...] = ()
    wholeSegmentIDs: tuple[str, ...] = ()
    labelConvention: str | None = None
    segmentationOn: str | None = None

    @property
    def nodes(self) -> tuple[Any, ...]:
        """All nodes that are given."""
        nodes = (self.t1gd, self.flair, self.t1, self.brainMask, *self.tissueMaps, self.segmentation)
        return tuple(node for node in nodes if node is not None)

    @property
    def tissueMaps(self) -> tuple[Any, ...]:
        """The maps that are given."""
        maps = (getattr(self, name) for name in TISSUE_ROLES)
        return tuple(node for node in maps if node is not None)

    @property
    def isLabelMap(self) -> bool:
        """Whether the tumor is given as a label map and not as segments."""
        return self.segmentation is not None and self.segmentation.IsA("vtkMRMLLabelMapVolumeNode")

    @property
    def drawnOn(self) -> str | None:
        """The image on which the tumor was drawn; None where the library compares its voxels with the images'.

        A segmentation knows the volume that gave it its geometry, as the Segment Editor and DICOM set it. One that
        came from a file does not, nor does a label map.
        """
        if self.segmentationOn or self.segmentation is None or self.isLabelMap:
            return self.segmentationOn
        source = self.segmentation.GetNodeReference(self.segmentation.GetReferenceImageGeometryReferenceRole())
        images = [role for role in IMAGE_ROLES if source is not None and getattr(self, role) is source]
        return images[0] if images else None

    def missing(self) -> dict[str, str]:
        """What a run still needs: input name -> a sentence for the user."""
        missing = {}
        if self.t1gd is None:
            missing["t1gd"] = _("Choose the T1 image with contrast.")
        for name, node in (("t1gd", self.t1gd), ("flair", self.flair), ("t1", self.t1)):
            if node is None:
                continue
            if node.GetImageData() is None:
                missing[name] = _("{name} holds no image.").format(name=node.GetName())
            elif not isGrayImage(node):
                missing[name] = _("{name} is no image of gray values: choose another one.").format(name=node.GetName())
        missing |= self._missingOfBrainMask() | self._missingOfTissueMaps() | self._chosenTwice()
        if self.segmentation is None:
            missing["segmentation"] = _("Choose the segmentation of the tumor.")
        elif self.isLabelMap:
            if self.segmentation.GetImageData() is None:
                missing["segmentation"] = _("{name} holds no image.").format(name=self.segmentation.GetName())
            elif not self.labelConvention:
                missing["labelConvention"] = _(
                    "Choose what the labels of {name} mean, under Labels mean (in scripts: labels)."
                ).format(name=self.segmentation.GetName())
        elif self.segmentation.GetSegmentation().GetNumberOfSegments() == 0:
            missing["segmentation"] = _("{name} holds no segments.").format(name=self.segmentation.GetName())
        elif not set(self.wholeSegmentIDs) | set(self.coreSegmentIDs):
            missing["wholeSegments"] = _("Check the segments of the whole tumor.")
        else:
            missing |= self._missingSegments()
        inputs = ("t1gd", "flair", "t1", "brainMask", *TISSUE_ROLES, "segmentation")
        results = {name: getattr(self, name) for name in inputs if isRefused(getattr(self, name), name)}
        if self.segmentationOn and getattr(self, self.segmentationOn) is None:
            missing["segmentationOn"] = _(
                "The segmentation is said to be drawn on an image that is not chosen: choose the image, or another one "
                "under Segmentation drawn on."
            )
        return missing | {name: resultSentence(node) for name, node in results.items()}

    def writeBrainMask(self, folder: Path) -> str:
        """Write the brain mask in the T1Gd image's own frame; returns the path of the file."""
        brain = self.brainMask
        if brain.IsA("vtkMRMLSegmentationNode"):
            brain = maskOfSegments(brain, segmentIDs(brain), self.t1gd)
        else:
            brain = inFrameOf(brain, self.t1gd)
        return writeVolume(brain, folder / "brain_mask.nrrd")

    def _missingOfBrainMask(self) -> dict[str, str]:
        brain = self.brainMask
        if brain is None:
            return {}
        if brain.IsA("vtkMRMLSegmentationNode"):
            if brain.GetSegmentation().GetNumberOfSegments() == 0:
                return {"brainMask": _("{name} holds no segments.").format(name=brain.GetName())}
        elif brain.GetImageData() is None:
            return {"brainMask": _("{name} holds no image.").format(name=brain.GetName())}
        return {}

    def _chosenTwice(self) -> dict[str, str]:
        """A sentence where one image is chosen for two inputs, which are then not what they are said to be."""
        found: dict[str, str] = {}
        images: list[Any] = []
        for name in (*IMAGE_ROLES, *TISSUE_ROLES):
            node = getattr(self, name)
            if node is not None and node in images:
                found["tissueMaps" if name in TISSUE_ROLES else name] = _(
                    "{name} is chosen for another input already: choose another image, or none."
                ).format(name=node.GetName())
            images.append(node)
        return found

    def _missingSegments(self) -> dict[str, str]:
        """A sentence where segments are chosen, by their IDs, that the segmentation does not have."""
        segmentation = self.segmentation.GetSegmentation()
        there = segmentIDs(self.segmentation)
        named = ", ".join(f"{one} ({segmentation.GetSegment(one).GetName()})" for one in there)
        found = {}
        for name, chosen in (("coreSegments", self.coreSegmentIDs), ("wholeSegments", self.wholeSegmentIDs)):
            gone = [one for one in chosen if one not in there]
            if gone:
                found[name] = _(
                    "{name} has no segment with the ID {gone}: choose among its segments, in scripts by ID: {there}."
                ).format(name=self.segmentation.GetName(), gone=", ".join(gone), there=named)
        return found

    def _missingOfTissueMaps(self) -> dict[str, str]:
        if not self.tissueMaps:
            return {}
        for node in self.tissueMaps:
            if node.GetImageData() is None:
                return {"tissueMaps": _("{name} holds no image.").format(name=node.GetName())}
            if node.GetImageData().GetNumberOfScalarComponents() != 1:
                return {
                    "tissueMaps": _("{name} is no image of gray values: choose another one.").format(
                        name=node.GetName()
                    )
                }
        if len(self.tissueMaps) < len(TISSUE_ROLES):
            return {
                "tissueMaps": _("Choose all three tissue maps, white matter, gray matter and CSF, or none of them.")
            }
        return {}

    def write(self, folder: Path) -> Iterator[dict[str, str | None]]:
        """Write all inputs as uncompressed NRRD files in the T1Gd image's own frame.

        Yields after every file; at last the file arguments of the worker's job.

        :raises ValueError: when an input is missing; the text says which.
        """
        missing = self.missing()
        if missing:
            raise ValueError(" ".join(missing.values()))
        arguments: dict[str, str | None] = {}
        for role, node in (("t1gd", self.t1gd), ("flair", self.flair), ("t1", self.t1)):
            if node is not None:
                arguments[role] = writeVolume(inFrameOf(node, self.t1gd), folder / f"{role}.nrrd")
                yield arguments
        if self.brainMask is not None:
            arguments["brain_mask"] = self.writeBrainMask(folder)
            yield arguments
        for role, node in zip(TISSUE_ROLES.values(), self.tissueMaps):
            arguments[role] = writeVolume(inFrameOf(node, self.t1gd), folder / f"{role}.nrrd")
            yield arguments
        if self.isLabelMap:
            labels = inFrameOf(self.segmentation, self.t1gd)
            arguments["segmentation"] = writeVolume(labels, folder / "segmentation.nrrd")
            arguments["labels"] = self.labelConvention
            arguments["segmentation_on"] = self.segmentationOn
            yield arguments
            return
        arguments["segmentation_on"] = self.drawnOn
        whole = [*self.coreSegmentIDs, *(name for name in self.wholeSegmentIDs if name not in self.coreSegmentIDs)]
        cavity = cavitySegments(self.segmentation, whole)
        geometry = geometryOfSegments(self.segmentation, [*whole, *cavity])
        for role, chosen in (("core", self.coreSegmentIDs), ("whole", whole), ("cavity", cavity)):
            if chosen:
                mask = drawnMask(self.segmentation, chosen, geometry, self.t1gd)
                if role != "cavity" or slicer.util.arrayFromVolume(mask).any():
                    arguments[role] = writeVolume(mask, folder / f"{role}.nrrd")
                yield arguments


def addPatient(patient: Any, name: str) -> PatientNodes:
    """Add a patient to the scene as the library read it: images, masks, and tumor and resection cavity as segments.

    :param patient: the library's `Patient`.
    :param name: what the names of the nodes begin with.
    """

    def add(volume: Any, text: str, nodeClass: str = "vtkMRMLScalarVolumeNode") -> Any:
        array = volume.array.transpose().astype(np.uint8 if volume.array.dtype == bool else volume.array.dtype)
        node = slicer.util.addVolumeFromArray(array, volume.grid.affine, f"{name} {text}", nodeClass)
        node.CreateDefaultDisplayNodes()
        return node

    images = {"t1gd": patient.t1gd, "flair": patient.flair, "t1": patient.t1}
    texts = {"t1gd": "T1Gd", "flair": "FLAIR", "t1": "T1"}
    nodes = {role: add(volume, texts[role]) for role, volume in images.items() if volume is not None}
    if patient.brain_mask is not None:
        nodes["brainMask"] = add(patient.brain_mask, _("brain mask"), "vtkMRMLLabelMapVolumeNode")
    if patient.tissue_maps is not None:
        maps, names = (
            patient.tissue_maps,
            {"whiteMatter": _("white matter"), "greyMatter": _("gray matter"), "csf": "CSF"},
        )
        for tissue, role in TISSUE_ROLES.items():
            nodes[tissue] = add(SimpleNamespace(array=getattr(maps, role), grid=maps.grid), names[tissue])
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} " + _("segmentation"))
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(nodes["t1gd"])
    regions = {"core": (patient.core, _("Tumor core")), "whole": (patient.whole, _("Whole tumor"))}
    if patient.cavity is not None:
        regions["cavity"] = (patient.cavity, "Resection cavity")  # the name, in no other language, by which it is known
    for segmentID, (mask, text) in regions.items():
        if mask.array.any():
            labels = add(mask, text, "vtkMRMLLabelMapVolumeNode")
            segmentation.GetSegmentation().AddEmptySegment(segmentID, text)
            array = slicer.util.arrayFromVolume(labels)
            slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segmentID, labels)
            slicer.mrmlScene.RemoveNode(labels)
    return PatientNodes(
        **nodes,
        segmentation=segmentation,
        coreSegmentIDs=("core",) if patient.core.array.any() else (),
        wholeSegmentIDs=("whole",),
    )


def segmentIDs(segmentationNode: Any) -> tuple[str, ...]:
    """The segments of a segmentation, in their order."""
    return tuple(segmentationNode.GetSegmentation().GetSegmentIDs())


def segmentNames(segmentationNode: Any, chosen: Sequence[str]) -> str:
    """The names of segments, in one line; those that are no longer there are left out."""
    segmentation = segmentationNode.GetSegmentation()
    return ", ".join(segmentation.GetSegment(one).GetName() for one in chosen if segmentation.GetSegment(one))


def suggestSegments(segmentationNode: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The segments of the core and of the whole tumor, as far as their names, or else their terminology, tell.

    A name that only says "tumor", or "neoplasm", is the whole tumor where nothing but it is segmented; beside edema,
    necrosis or a whole tumor it is a part of the core, as in "Neoplasm", "Edema", "Necrosis".

    :return: segment IDs of the core and of the whole tumor, which includes the core; empty where no name tells it.
    """
    Dependencies.importLibrary()
    from TumorQueryLib.inputs.labels import suggested_meaning

    segmentation = segmentationNode.GetSegmentation()
    segments = {segmentID: segmentation.GetSegment(segmentID) for segmentID in segmentIDs(segmentationNode)}
    meanings = {
        segmentID: suggested_meaning(segment.GetName(), codeOf(segment)) for segmentID, segment in segments.items()
    }
    isDivided = {"core", "oedema", "whole"} & set(meanings.values())
    ofCore = {"core", "tumour"} if isDivided else {"core"}
    core = tuple(segmentID for segmentID, meaning in meanings.items() if meaning in ofCore)
    whole = tuple(segmentID for segmentID, meaning in meanings.items() if meaning)
    return core, whole


def cavitySegments(segmentationNode: Any, ofTumor: Sequence[str]) -> tuple[str, ...]:
    """The segments that are the resection cavity by their names, as "Resection cavity", and no tumor."""
    Dependencies.importLibrary()
    from TumorQueryLib.inputs.labels import is_cavity

    segmentation = segmentationNode.GetSegmentation()
    return tuple(
        one
        for one in segmentIDs(segmentationNode)
        if one not in ofTumor and is_cavity(segmentation.GetSegment(one).GetName())
    )


def codeOf(segment: Any) -> str:
    """What a segment is by its terminology entry, scheme and value, such as "SCT 86049000"; empty without one."""
    entry = vtk.mutable("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    parts = str(entry).split("~")
    return " ".join(parts[2].split("^")[:2]) if len(parts) > 2 else ""


def addSegments(segmentationNode: Any, terminologies: dict[str, str]) -> None:
    """Add empty segments that their terminology tells, whatever language their names are in.

    :param terminologies: terminology entries by name.
    """
    segmentation = segmentationNode.GetSegmentation()
    for name, entry in terminologies.items():
        segment = segmentation.GetSegment(segmentation.AddEmptySegment("", name))
        segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
        segment.SetNameAutoGenerated(False)


def leftOut(segmentationNode: Any, chosen: Sequence[str]) -> tuple[str, ...]:
    """The segments of a segmentation that are not chosen."""
    return tuple(segmentID for segmentID in segmentIDs(segmentationNode) if segmentID not in chosen)


def isResult(node: Any) -> bool:
    """Whether a node was made by a run, and so is no input of another one."""
    return node is not None and bool(node.GetAttribute(RESULT_ATTRIBUTE))


def isRefused(node: Any, name: str) -> bool:
    """Whether a node cannot be this input because a run made it; an extracted brain can be the brain mask."""
    return isResult(node) and not (name == "brainMask" and node.GetAttribute(RESULT_ATTRIBUTE) == BRAIN_ROLE)


def resultSentence(node: Any) -> str:
    """Why a node cannot be an input."""
    return _("{name} is a result of TumorQuery: choose what belongs to the patient.").format(name=node.GetName())


#: In names of T1 images with contrast ("T1Gd", "t1ce", "BraTS-00001-t1c", "T1 +C"), and of FLAIR images ("t2f").
T1GD_PATTERN = r"\bt1w?i? ?(gd|gad\w*|c|ce|km|post|post ?contrast|contrast|\+ ?(c|gd|km)?)(?![a-z])|\bgado?\b"
FLAIR_PATTERN = r"flair|\bt2f\b"
T2_PATTERN = r"^(?!.*(flair|t2f)).*\bt2w?i?\b"


def volumeOfName(pattern: str) -> Any:
    """The only image of the scene whose name matches a pattern; None when there is none, or more than one.

    :param pattern: searched in the name in lower case, with one space for everything but letters, digits and "+".
    """
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if isGrayImage(node)
        and not isResult(node)
        and re.search(pattern, re.sub(r"[^a-z0-9+]+", " ", node.GetName().casefold()))
    ]
    return found[0] if len(found) == 1 else None


def isGrayImage(node: Any) -> bool:
    """Whether a volume is an image with one value in each voxel, and so neither one of colors nor a label map."""
    return node.GetClassName() == "vtkMRMLScalarVolumeNode"


def inFrameOf(node: Any, frameNode: Any) -> Any:
    """A volume in the frame below another node's parent transform, as a node outside the scene.

    A node under the same transform stays as it is; a rotated or shifted one gets another
    header; a warped or sheared one is resampled.
    """
    return inFrameBelow(node, node.GetParentTransformNode(), frameNode.GetParentTransformNode())


def inFrameBelow(node: Any, source: Any, target: Any) -> Any:
    """A volume in the frame below a transform, where it lies below another one; None is the world."""
    if source is target:
        return node
    moved = node.NewInstance()
    moved.CopyContent(node)
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    matrix = vtk.vtkTransform()
    if slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform, matrix):
        moved.ApplyTransformMatrix(matrix.GetMatrix())
        if hasRightAngles(moved):
            return moved
        moved.CopyContent(node)
    resample(moved, transform)
    return moved


def resample(volumeNode: Any, transform: Any) -> None:
    """Warp a volume outside the scene, all of it."""
    # MRML finds out how far the warped volume reaches by the parent transform of its node, and that takes a scene.
    scene, parent = slicer.vtkMRMLScene(), slicer.vtkMRMLTransformNode()
    parent.SetAndObserveTransformToParent(transform)
    scene.AddNode(parent)
    scene.AddNode(volumeNode)
    volumeNode.SetAndObserveTransformNodeID(parent.GetID())
    volumeNode.ApplyNonLinearTransform(transform)
    volumeNode.SetAndObserveTransformNodeID(None)
    scene.RemoveNode(volumeNode)


def hasRightAngles(volumeNode: Any) -> bool:
    """Whether a volume's axes are at right angles, as image files store them."""
    directions = np.empty((3, 3))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASDirectionMatrix(matrix)
    for row in range(3):
        for column in range(3):
            directions[row, column] = matrix.GetElement(row, column)
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=SHEAR_TOLERANCE))


def maskOfSegments(segmentationNode: Any, chosen: Sequence[str], referenceNode: Any) -> Any:
    """The union of segments as a label map on the voxels of a volume, as a node outside the scene.

    Parent transforms of both nodes are taken into account.
    """
    labels = vtk.vtkIntArray()
    for _one in chosen:
        labels.InsertNextValue(1)
    merged = slicer.vtkOrientedImageData()
    logic = slicer.modules.segmentations.logic()
    segmentationNode.GetSegmentation().CreateRepresentation("Binary labelmap")
    logic.GenerateMergedLabelmapInReferenceGeometry(
        segmentationNode,
        referenceNode,
        identifiersOf(chosen),
        slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY,
        merged,
        labels,
    )
    mask = slicer.vtkMRMLLabelMapVolumeNode()
    if not logic.CopyOrientedImageDataToVolumeNode(merged, mask):
        raise RuntimeError(_("The segments of {name} cannot be read.").format(name=segmentationNode.GetName()))
    return mask


def geometryOfSegments(segmentationNode: Any, chosen: Sequence[str]) -> Any:
    """The voxels that segments were drawn on, those of their reference image and as far beyond as they reach.

    :return: an oriented image without values.
    :raises ValueError: when all the segments are empty.
    """
    segmentation = segmentationNode.GetSegmentation()
    segmentation.CreateRepresentation("Binary labelmap")
    geometry = slicer.vtkOrientedImageData()
    extent = slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS_AND_REFERENCE_GEOMETRY
    serialized = segmentation.DetermineCommonLabelmapGeometry(extent, identifiersOf(chosen))
    if serialized:
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(serialized, geometry, False)
    if min(geometry.GetDimensions()) < 1:
        raise ValueError(
            _("The segments {segments} of {name} are empty: draw the tumor, or choose other segments.").format(
                segments=segmentNames(segmentationNode, chosen), name=segmentationNode.GetName()
            )
        )
    return withRightAngles(geometry)


def withRightAngles(geometry: Any) -> Any:
    """An oriented image without values, as it is where image files can store it, else one around it whose axes do.

    A segmentation whose affine transform was hardened has sheared voxels.
    """
    matrix = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(matrix)
    ijkToRas = slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(ijkToRas[:3, :3], axis=0)
    left, _stretch, right = np.linalg.svd(ijkToRas[:3, :3] / spacing)
    if np.allclose(left @ right, ijkToRas[:3, :3] / spacing, atol=SHEAR_TOLERANCE):
        return geometry
    ijkToRas[:3, :3] = left @ right * spacing
    straight, transform, extent = slicer.vtkOrientedImageData(), vtk.vtkTransform(), [0] * 6
    straight.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijkToRas))
    resampling = slicer.vtkOrientedImageDataResample
    resampling.GetTransformBetweenOrientedImages(geometry, straight, transform)
    resampling.TransformExtent(geometry.GetExtent(), transform, extent)
    straight.SetExtent(extent)
    return straight


def drawnMask(segmentationNode: Any, chosen: Sequence[str], geometry: Any, frameNode: Any) -> Any:
    """The union of segments as a label map outside the scene, on the voxels that they were drawn on.

    It lies in the frame below another node's parent transform, and nothing of it is cut off at an image's edge.

    :param geometry: what `geometryOfSegments` gives.
    """
    labels = vtk.vtkIntArray()
    for _one in chosen:
        labels.InsertNextValue(1)
    merged, mask = slicer.vtkOrientedImageData(), slicer.vtkMRMLLabelMapVolumeNode()
    extent = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    isMerged = segmentationNode.GenerateMergedLabelmapForAllSegments(
        merged, extent, geometry, identifiersOf(chosen), labels
    )
    if not isMerged or not slicer.modules.segmentations.logic().CopyOrientedImageDataToVolumeNode(merged, mask):
        raise RuntimeError(_("The segments of {name} cannot be read.").format(name=segmentationNode.GetName()))
    return inFrameBelow(mask, segmentationNode.GetParentTransformNode(), frameNode.GetParentTransformNode())


def identifiersOf(chosen: Sequence[str]) -> Any:
    """IDs of segments as VTK takes them."""
    identifiers = vtk.vtkStringArray()
    for segmentID in chosen:
        identifiers.InsertNextValue(segmentID)
    return identifiers


def writeVolume(volumeNode: Any, path: Path) -> str:
    """Write a volume without touching the storage of its node.

    :return: the path as text.
    :raises RuntimeError: when it cannot be written.
    """
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(volumeNode):
        raise RuntimeError(_("The temporary file {path} cannot be written.").format(path=path))
    return str(path)
