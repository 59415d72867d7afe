"""A result as DICOM objects beside the series that its T1Gd image was loaded from."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from TumorQueryModule import Dependencies
from TumorQueryModule.PatientNodes import writeVolume
from TumorQueryModule.ResultFolder import whyNotWritten, writeResult
from TumorQueryModule.ResultNodes import ResultNodes

#: Attribute by which Slicer's DICOM module says which instances a volume was loaded from, with spaces between.
INSTANCES_ATTRIBUTE = "DICOM.instanceUIDs"


def seriesFiles(volumeNode: Any) -> list[str]:
    """The DICOM files that a volume was loaded from; empty where it came from none, or Slicer knows them no more."""
    instances = (volumeNode.GetAttribute(INSTANCES_ATTRIBUTE) or "").split()
    if not instances or not hasattr(slicer, "dicomDatabase"):
        return []
    files = [slicer.dicomDatabase.fileForInstance(instance) for instance in instances]
    # Of a multi-frame image, some loaders name the one instance for every frame.
    files = list(dict.fromkeys(files))
    return files if all(os.path.isfile(file) for file in files) else []


def whyNoExport(nodes: ResultNodes) -> str:
    """A sentence on why a result cannot be exported; empty when it can, if `whyNoSeries` says nothing either.

    It asks the scene alone, so that the panel can ask it as often as it likes.
    """
    reason = whyNotWritten(nodes)
    if reason:
        return reason
    if nodes.t1gd is None:
        return _("The T1 image of this result was removed from the scene.")
    if not nodes.t1gd.GetAttribute(INSTANCES_ATTRIBUTE):
        return _(
            "{name} was not loaded from DICOM, and what is exported belongs into a DICOM study: "
            "load the series by Slicer's DICOM module, and run the inference on it."
        ).format(name=nodes.t1gd.GetName())
    return ""


def whyNoSeries(nodes: ResultNodes) -> str:
    """A sentence where Slicer does not know the files of the T1Gd image; it asks for every slice of it."""
    if not seriesFiles(nodes.t1gd):
        return _("The DICOM files of {name} are not in Slicer's DICOM database: import them there.").format(
            name=nodes.t1gd.GetName()
        )
    return ""


@dataclass(frozen=True)
class Exported:
    """What an export left.

    :param folder: the folder of the objects.
    :param notes: sentences of the library on what a user may miss there, and why.
    """

    folder: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ExportJob:
    """Write a result of the scene as DICOM objects; its value is what was `Exported`.

    :param out: gets the files; what no export wrote there is not replaced.
    """

    nodes: ResultNodes
    out: Path

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Write the result with its plans, and the T1Gd image, which the worker compares with the series."""
        reason = whyNoExport(self.nodes) or whyNoSeries(self.nodes)
        if reason:
            raise ValueError(reason)
        result = folder / "result"
        result.mkdir()
        t1gd = Path(writeVolume(self.nodes.t1gd, folder / "t1gd.nrrd"))
        yield {}
        for _step in writeResult(self.nodes, result, withPlans=True, t1gd=t1gd):
            yield {}
        arguments = {
            "result": str(result),
            "dicom": seriesFiles(self.nodes.t1gd),
            "t1gd": str(t1gd),
            "notes": str(folder / "notes.json"),
        }
        yield {"command": "export", "out": str(self.out), "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[Exported]:
        """The objects are where they were asked for; the notes on them are read."""
        yield Exported(self.out, tuple(json.loads(resultPath.read_text(encoding="utf-8"))))

    def removeLeft(self) -> None:
        """Remove what a killed worker had written aside, which holds data of the patient."""
        Dependencies.importLibrary()
        from TumorQueryLib.base.files import remove_staged

        remove_staged(self.out)
