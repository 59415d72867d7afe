"""The jobs that the module gives to the worker: infer, show another match, build a database, describe one."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from TumorQueryModule import Overlay
from TumorQueryModule.PatientNodes import PatientNodes, addPatient, inFrameOf, writeVolume
from TumorQueryModule.ResultFolder import seal
from TumorQueryModule.ResultNodes import (
    ResultNodes,
    loadResult,
    prepareDensity,
    readVolume,
    showDensity,
    writeTransform,
)

#: The database that is used when no file is chosen.
BUNDLED_DATABASE = "starter"


def absoluteDatabase(database: str | os.PathLike[str]) -> str:
    """The name of a bundled database as it is, a file by its absolute path: the worker has a folder of its own."""
    text = os.fspath(database)
    return text if text == BUNDLED_DATABASE or not os.path.isfile(text) else os.path.abspath(text)


@dataclass(frozen=True)
class Method:
    """How a density is inferred; names as TumorQueryLib has them.

    :param database: name of a bundled database, or a file.
    :param strategy: query strategy.
    :param strategy_options: options of the strategy by name; which there are, the strategy says.
    :param registration: "deformable", "affine" or "none".
    :param refine: "patient", "atlas", or "none" for the best match as it is.
    :param refine_solves: the most solves of a refinement; None leaves it to the library.
    :param refine_seconds: the most seconds of a refinement; None leaves it to the library.
    :param foci: "auto", "1" or "2": how many foci a refinement has.
    :param tissue: "atlas" or "own": whose tissue a refinement in the patient's anatomy grows in.
    :param sensitivity: whether the refinement is made again under other assumptions about the tissue.
    :param density: "auto", "match", "refined" or "assimilated": which density the result gives.
    :param uncertainty: whether the bounds of the assimilated density are found.
    :param level: the density, between 0 and 1, whose exceedance these give.
    :param top: number of ranked matches.
    :param align: whether T1 and FLAIR are moved onto the T1Gd where the patient moved between them.
    """

    database: str = BUNDLED_DATABASE
    strategy: str = "direct"
    strategy_options: dict[str, Any] = field(default_factory=dict)
    registration: str = "deformable"
    refine: str = "patient"
    refine_solves: int | None = None
    refine_seconds: float | None = None
    foci: str = "auto"
    tissue: str = "atlas"
    sensitivity: bool = False
    density: str = "auto"
    uncertainty: bool = False
    level: float = 0.05
    top: int = 15
    align: bool = True

    def arguments(self) -> dict[str, Any]:
        """The method's part of the worker's job."""
        return {name: value for name, value in vars(self).items() if value is not None}


def parseStrategyOptions(text: str) -> dict[str, Any]:
    """The options of a strategy in a text such as "rerank=100, standardised=true"; a value with a comma is in quotes.

    :return: values by name: numbers, booleans where it says true or false, else texts, as are all in quotes.
    :raises ValueError: when a part is not of that form, or a name stands twice.
    """
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in re.findall(r'(?:[^,"]|"[^"]*"?)+', text))):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not (separator and value and name.isidentifier()):
            raise ValueError(
                _("'{part}' is no option of a strategy: write NAME=VALUE, with commas between.").format(part=part)
            )
        if name in options:
            raise ValueError(_("The option {name} of the strategy stands twice: leave one.").format(name=name))
        if '"' in value and not re.fullmatch(r'"[^"]*"', value):
            raise ValueError(
                _("The value of {name} cannot be read: put all of it in quotation marks, or none.").format(name=name)
            )
        options[name] = value[1:-1] if value.startswith('"') else valueOf(value)
    return options


def writeStrategyOptions(options: dict[str, Any]) -> str:
    """The text that `parseStrategyOptions` reads as these options.

    :raises ValueError: when there is none, as for a value with quotation marks.
    """
    written = ", ".join(f"{name}={writtenValue(value)}" for name, value in options.items())
    if parseStrategyOptions(written) != options:
        raise ValueError(
            _(
                "The panel cannot keep the strategy's options {options}: give numbers, truth values and plain texts."
            ).format(options=options)
        )
    return written


def writtenValue(value: Any) -> str:
    """A value as `parseStrategyOptions` reads it: a text that it would take for something else in quotes."""
    text = str(value)
    isPlain = not isinstance(value, str) or (
        valueOf(text) == text and text == text.strip() and not set(text) & set(',"=')
    )
    return text if isPlain and text else f'"{text}"'


def valueOf(text: str) -> bool | int | float | str:
    """The value that a text stands for: true, false, a number, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


@dataclass(frozen=True)
class InferJob:
    """Infer the density of a patient and put it into the scene; its value is the `ResultNodes`.

    :param previous: nodes of an earlier result to update; without them all are added.
    :param name: what the names of the result's nodes begin with; the T1Gd image's name when empty.
    """

    patient: PatientNodes
    method: Method
    previous: ResultNodes = field(default_factory=ResultNodes)
    name: str = ""

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Write the patient's nodes as files."""
        arguments = self.method.arguments()
        for files in self.patient.write(folder):
            arguments.update(files)
            yield {}
        yield {"command": "infer", "out": str(folder / "result"), "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[ResultNodes | None]:
        """Load the result."""
        yield from loadResult(self.patient, resultPath, self.previous, self.name)


@dataclass(frozen=True)
class RowJob:
    """Infer one patient of a cohort from files, and bring patient and result into the scene.

    The library reads and judges the files, as for `tumorquery cohort`; the value is the `PatientNodes` and the
    `ResultNodes`.

    :param row: the library's `CohortRow`, with absolute paths.
    :param folder: gets the files of the result; what no run wrote there is refused.
    """

    row: Any
    method: Method
    folder: Path

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Only the job itself: the worker reads the patient's own files."""
        arguments = {**self.row.files, **self.method.arguments()}
        yield {"command": "infer", "out": str(self.folder), "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[tuple[PatientNodes, ResultNodes] | None]:
        """Show the patient as the library read it, and the result."""
        read = asInferred(self.row.load(), json.loads(resultPath.read_text(encoding="utf-8")))
        yield None
        patient, nodes = addPatient(read, self.row.patient), None
        try:
            for nodes in loadResult(patient, resultPath, ResultNodes(), self.row.patient):
                if nodes is None:
                    yield None
        finally:
            if nodes is None:
                for node in patient.nodes:
                    slicer.mrmlScene.RemoveNode(node)
        yield patient, nodes

    def removeLeft(self) -> None:
        """Remove what a killed worker had written aside."""
        from TumorQueryLib.results.folder import remove_leftovers

        remove_leftovers(self.folder)


def asInferred(patient: Any, content: dict[str, Any]) -> Any:
    """The library's `Patient` with its images where the inference moved them, by the content of result.json."""
    alignment = content["alignment"]
    if alignment is None:
        return patient
    return patient.moved({role: np.array(found["matrix"]) for role, found in alignment.items() if found["moved"]})


@dataclass(frozen=True)
class StrippedNodes:
    """A patient's images without skull, outside the scene.

    :param hasSkull: whether the T1Gd image showed the skull and no mask was given.
    :param brain: the brain as an oriented image on the T1Gd image's voxels.
    :param images: volume nodes by role, on the T1Gd image's voxels.
    """

    hasSkull: bool
    brain: Any
    images: dict[str, Any]


@dataclass(frozen=True)
class StripJob:
    """Find the brain, and take all else out of the images; its value are `StrippedNodes`.

    :param images: volume nodes by role, those of the patient and "t2"; moved onto the T1Gd image where `align` says so.
    """

    patient: PatientNodes
    images: dict[str, Any] = field(default_factory=dict)
    align: bool = True

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Write the images as files."""
        arguments: dict[str, Any] = {"align": self.align}
        for role, node in ({**self.images, "t1gd": self.patient.t1gd}).items():
            arguments[role] = writeVolume(inFrameOf(node, self.patient.t1gd), folder / f"{role}.nrrd")
            yield {}
        if self.patient.brainMask is not None:
            arguments["brain_mask"] = self.patient.writeBrainMask(folder)
            yield {}
        yield {"command": "strip", "out": str(folder / "stripped"), "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[StrippedNodes | None]:
        """Read the images."""
        content = json.loads(resultPath.read_text(encoding="utf-8"))
        files = {role: resultPath.parent / name for role, name in content["files"].items()}
        brain = Overlay.maskAbove(readVolume(files.pop("brain")), 0.5)
        yield None
        images = {}
        for role in self.images:
            images[role] = readVolume(files[role])
            yield None
        yield StrippedNodes(content["source"] == "extracted", brain, images)


@dataclass(frozen=True)
class MatchJob:
    """Show the density of another ranked match in the nodes of a result.

    The files that the worker needs are made from the scene, so this works in a restored scene too.

    :param rank: counted from 0.
    """

    nodes: ResultNodes
    rank: int

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Write what the worker needs of the earlier result."""
        nodes = self.nodes
        if None in (nodes.density, nodes.isolines, nodes.atlasToPatient, nodes.patientToAtlas, nodes.report):
            raise ValueError(_("Nodes of the result were removed from the scene. Run the inference again."))
        writeVolume(nodes.density, folder / "density.nrrd")
        yield {}
        for node, name in ((nodes.atlasToPatient, "patient_to_atlas"), (nodes.patientToAtlas, "atlas_to_patient")):
            writeTransform(node, folder / f"{name}.h5")
            yield {}
        seal(nodes.content, folder)
        arguments = {"result": str(folder), "rank": self.rank}
        yield {"command": "match", "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[ResultNodes | None]:
        """Show the density."""
        density = readVolume(resultPath)
        yield None
        for step in prepareDensity(density, self.nodes.content, self.rank):
            prepared = step
            yield None
        if None in (self.nodes.density.GetScene(), self.nodes.isolines.GetScene()):
            raise ValueError(_("Nodes of the result were removed from the scene. Run the inference again."))
        showDensity(self.nodes, prepared)
        yield self.nodes


@dataclass(frozen=True)
class BuildJob:
    """Build a database; its value is the path of the file.

    :param path: file to make; an interrupted build of the same file and entries goes on.
    :param entries: number of simulated tumors.
    """

    path: Path
    entries: int

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Only the job itself: nothing of the scene is needed."""
        arguments = {"path": str(self.path), "entries": self.entries, "resume": True}
        yield {"command": "build", "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[Path]:
        """The file is where it was asked for."""
        yield resultPath


@dataclass(frozen=True)
class InfoJob:
    """Describe a database; its value is what `tumorquery info` tells, as a dictionary."""

    database: str

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Only the job itself."""
        arguments = {"database": self.database}
        yield {"command": "info", "out": str(folder / "info"), "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[dict[str, Any]]:
        """Read the description."""
        yield json.loads(resultPath.read_text(encoding="utf-8"))
