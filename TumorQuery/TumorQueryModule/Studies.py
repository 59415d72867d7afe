"""To which DICOM study and patient the nodes of the scene belong, by the subject hierarchy."""

from collections.abc import Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _


def uidOf(node: Any, level: str) -> str:
    """The DICOM identifier of a node's study or patient; empty for what came from no DICOM file.

    :param level: of the subject hierarchy, "Study" or "Patient".
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node)
    owner = hierarchy.GetItemAncestorAtLevel(item, level) if item else 0
    return hierarchy.GetItemUID(owner, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName()) if owner else ""


def studyWarning(nodes: Sequence[Any]) -> str:
    """A sentence where images come from DICOM data of two patients or two studies; empty where they do not."""
    names = slicer.vtkMRMLSubjectHierarchyConstants
    sentences = {
        names.GetDICOMLevelPatient(): _("{one} and {other} are of different patients by their DICOM data."),
        names.GetDICOMLevelStudy(): _("{one} and {other} come from two DICOM studies, perhaps of different days."),
    }
    for level, sentence in sentences.items():
        owners: dict[str, Any] = {}
        for node in nodes:
            owner = uidOf(node, level)
            if owner:
                owners.setdefault(owner, node)
        if len(owners) > 1:
            one, other = list(owners.values())[:2]
            return sentence.format(one=one.GetName(), other=other.GetName()) + " " + _("Check the inputs.")
    return ""
