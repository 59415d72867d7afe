"""A result of the scene as the folder that the worker left, for the jobs that go on from it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from TumorQueryModule.PatientNodes import maskOfSegments, writeVolume
from TumorQueryModule.ResultNodes import (
    CAVITY,
    DRAWS,
    SEGMENTED,
    TISSUE,
    ResultNodes,
    bytesOf,
    holdsNothing,
    writeTransform,
)

RESULT_FILE = "result.json"

#: What result.json calls the files of plans.
PLAN_OUTPUT = "plan_"


def needed(content: dict[str, Any]) -> list[str]:
    """What the scene keeps of a result, beside its densities, for plans of it.

    :param content: the content of result.json.
    """
    names = [SEGMENTED, TISSUE]
    if CAVITY in content["outputs"]:
        names.append(CAVITY)
    if content.get("uncertainty"):
        names.append(DRAWS)
    return names


def whyNotWritten(nodes: ResultNodes) -> str:
    """A sentence on why `writeResult` cannot write a result; empty when it can."""
    if nodes.density is None or nodes.report is None:
        return _("No result yet.")
    if not nodes.isReadable:
        return nodes.whyUnreadable
    content = nodes.content
    if SEGMENTED not in content["outputs"] or TISSUE not in content["outputs"]:
        return _("This result was made by an earlier version of TumorQuery. Run the inference again.")
    if any(holdsNothing(nodes.kept(name)) for name in needed(content)):
        return _("Parts of the result were removed from the scene. Run the inference again.")
    if None in transformsOf(nodes, content).values():
        return _("Transforms of the result were removed from the scene. Run the inference again.")
    if nodes.chosenDensity is None:
        return _("The density that the result gives is not in the scene: click its first match to show it again.")
    return ""


def transformsOf(nodes: ResultNodes, content: dict[str, Any]) -> dict[str, Any]:
    """The transforms by which the draws of an uncertainty come from the atlas; none where they lie in the patient."""
    uncertainty = content.get("uncertainty")
    if not uncertainty or content["estimates"][uncertainty["model"]]["anatomy"] != "atlas":
        return {}
    # The node that carries volumes to the patient holds the map of points from the patient to the atlas.
    return {"patient_to_atlas": nodes.atlasToPatient, "atlas_to_patient": nodes.patientToAtlas}


def writeResult(nodes: ResultNodes, folder: Path, withPlans: bool = False, t1gd: Path | None = None) -> Iterator[None]:
    """Write what the scene holds of a result into an empty folder, result.json last; yields after every file.

    :param withPlans: whether its plans are written, as their segments are now; else the result has none.
    :param t1gd: a file of its T1Gd image, which result.json then names as what the result was made from.
    :raises ValueError: when parts of the result are gone; the text says which.
    """
    reason = whyNotWritten(nodes)
    if reason:
        raise ValueError(reason)
    content = nodes.content
    outputs: dict[str, str] = content["outputs"]
    writeVolume(nodes.chosenDensity, folder / outputs["density"])
    yield
    for name in needed(content):
        if name == DRAWS:
            (folder / outputs["density_draws"]).write_bytes(bytesOf(nodes.kept(DRAWS)))
        else:
            writeVolume(nodes.kept(name), folder / outputs[name])
        yield
    deviation = nodes.kept("sd")
    if deviation is None:
        outputs.pop("density_sd", None)  # removed from the scene: an export says so
    else:
        writeVolume(deviation, folder / outputs["density_sd"])
        yield
    for name, transform in transformsOf(nodes, content).items():
        writeTransform(transform, folder / outputs[name])
        yield
    plans = nodes.plans.GetSegmentation() if withPlans and nodes.plans is not None else None
    for name in [name for name in outputs if name.startswith(PLAN_OUTPUT) and outputs[name].endswith(".nrrd")]:
        segmentID = name.removeprefix(PLAN_OUTPUT)
        if plans is not None and plans.GetSegment(segmentID) is not None:
            writeVolume(maskOfSegments(nodes.plans, [segmentID], nodes.density), folder / outputs[name])
            yield
        else:
            del outputs[name]
    if plans is None:
        content["plan"] = None
        for name in ("plan", "plan_picture"):
            outputs.pop(name, None)
    for one in content["inputs"] if t1gd is not None else ():
        if one["role"] == "t1gd":
            one["sha256"] = sumOf(t1gd)
    seal(content, folder)


def seal(content: dict[str, Any], folder: Path) -> None:
    """Write result.json into a folder; the scene's own nodes were written there, so the sums are those of their files.

    :param content: of result.json, as it was.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix in (".nrrd", ".h5", ".npz"):
            content["sha256"][file.name] = sumOf(file)
    (folder / RESULT_FILE).write_text(json.dumps(content), encoding="utf-8")


def sumOf(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
