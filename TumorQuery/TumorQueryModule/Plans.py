"""Plans of a result: what they are made of, the job that makes them, and their nodes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from TumorQueryModule import Overlay
from TumorQueryModule.PatientNodes import isResult, maskOfSegments, resultSentence, segmentIDs, writeVolume
from TumorQueryModule.ResultFolder import RESULT_FILE, whyNotWritten, writeResult
from TumorQueryModule.ResultNodes import ResultNodes, addNode, placeNodes, readVolume, stillThere, takeTable

PLANS_ROLE, TABLE_ROLE = "plans", "planTable"
PLAN_CLASSES = {PLANS_ROLE: "vtkMRMLSegmentationNode", TABLE_ROLE: "vtkMRMLTableNode"}


def planNames(name: str) -> dict[str, str]:
    """Names of the nodes of plans, by role.

    :param name: what each begins with.
    """
    names = {PLANS_ROLE: _("{patient} plans"), TABLE_ROLE: _("{patient} plans compared")}
    return {role: text.format(patient=name) for role, text in names.items()}


@dataclass(frozen=True)
class PlanChoices:
    """What plans are made of; names and values as TumorQueryLib has them.

    :param margin: of the standard plan: the name of a guideline, or a number of mm.
    :param volume: of the model's plan: "same" as the standard one's, a number of ml, or "above=U" for a density U.
    :param barrier: where plans end: "brain", or "csf" for CSF too.
    :param cavity: segmentation that holds the resection cavity, optional; counted with the core.
    :param cavitySegmentID: the segment of it.
    """

    margin: str | float = "estro-eano"
    volume: str | float = "same"
    barrier: str = "brain"
    cavity: Any = None
    cavitySegmentID: str = ""

    def missing(self) -> str:
        """A sentence on what is wrong with the cavity; empty where it can be used, or none is chosen."""
        if self.cavity is None:
            return ""
        if isResult(self.cavity):
            return resultSentence(self.cavity)
        if self.cavitySegmentID not in segmentIDs(self.cavity):
            return _("Choose the segment of {name} that is the resection cavity, or no segmentation of it.").format(
                name=self.cavity.GetName()
            )
        return ""


def whyNoPlans(nodes: ResultNodes, choices: PlanChoices) -> str:
    """A sentence on why plans cannot be made; empty when they can."""
    return whyNotWritten(nodes) or choices.missing()


@dataclass(frozen=True)
class PlanJob:
    """Make the plans of a result that is in the scene; its value are the `ResultNodes` with them.

    :param nodes: the result; plans that it has are updated.
    :param name: what the names of the plans' nodes begin with; the T1Gd image's name when empty.
    """

    nodes: ResultNodes
    choices: PlanChoices
    name: str = ""

    def prepare(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Write the result and the cavity."""
        reason = whyNoPlans(self.nodes, self.choices)
        if reason:
            raise ValueError(reason)
        result = folder / "result"
        result.mkdir()
        for _step in writeResult(self.nodes, result):
            yield {}
        choices = self.choices
        arguments: dict[str, Any] = {
            "result": str(result),
            "margin": choices.margin,
            "volume": choices.volume,
            "barrier": choices.barrier,
        }
        if choices.cavity is not None:
            mask = maskOfSegments(choices.cavity, [choices.cavitySegmentID], self.nodes.density)
            arguments["cavity"] = writeVolume(mask, folder / "cavity.nrrd")
            yield {}
        yield {"command": "plan", "watch_stdin": True, "arguments": arguments}

    def collect(self, resultPath: Path) -> Iterator[ResultNodes | None]:
        """Load the plans, and result.json as it is with them."""
        text = (resultPath.parent / RESULT_FILE).read_text(encoding="utf-8")
        content = json.loads(text)
        masks, titles = {}, titlesOf(content["plan"])
        if f"plan_{Overlay.PLAN_CAVITY}" in content["outputs"]:
            titles[Overlay.PLAN_CAVITY] = _("Resection cavity")
        for name in titles:
            volume = readVolume(resultPath.parent / content["outputs"][f"plan_{name}"])
            masks[name] = Overlay.maskAbove(volume, 0.5)
            yield None
        nodes = self.nodes
        if stillThere(nodes.density) is None or stillThere(nodes.report) is None:
            raise ValueError(_("Nodes of the result were removed from the scene. Run the inference again."))
        t1gd = nodes.t1gd or nodes.density
        names = planNames(self.name or t1gd.GetName())
        added: list[Any] = []
        for role, name in names.items():
            node = stillThere(getattr(nodes, role)) or addNode(PLAN_CLASSES[role], name, role, added)
            setattr(nodes, role, node)
        placeNodes(nodes, nodes.density, names, added)  # whose geometry they have, wherever the T1Gd image lies by now
        Overlay.setPlans(nodes.plans, nodes.density, titles, masks)
        takeTable(nodes.planTable, planTable(content["plan"]))
        nodes.report.SetText(text)
        yield nodes


def namesOfPlans(plan: dict[str, Any]) -> list[str]:
    """The plans that there are masks of, by the content of plan.json."""
    return [name for name in Overlay.PLAN_COLORS if plan[name] is not None]


def titlesOf(plan: dict[str, Any]) -> dict[str, str]:
    """What the segments of plans are called, by name."""
    choices = plan["choices"]
    titles = {
        "standard": _("Standard plan"),
        "model": _("Model's plan"),
        "probable": _("{share:g} % of cells, {probability:g} % sure").format(
            share=100 * choices["share"], probability=100 * choices["probability"]
        ),
    }
    return {name: titles[name] for name in namesOfPlans(plan)}


def planTable(plan: dict[str, Any]) -> dict[str, list[str]]:
    """The figures of the plans, and of all guidelines, as columns of texts.

    :param plan: the content of plan.json.
    """
    rows = [(title, plan[name]) for name, title in titlesOf(plan).items()]
    rows += [(guideline["title"], guideline) for guideline in plan["guidelines"]]
    volumes = {
        _("ml"): "volume_ml",
        _("White"): "white_matter_ml",
        _("Gray"): "grey_matter_ml",
        _("CSF"): "csf_ml",
    }
    columns = {_("Plan"): [title for title, one in rows]}
    columns |= {title: [f"{one[name]:.0f}" for _row, one in rows] for title, name in volumes.items()}
    columns[_("Outside (%)")] = [f"{100 * one['cells_outside']:.1f}" for _row, one in rows]
    if plan["standard"]["cells_outside_p05_p95"] is not None:  # else the uncertainty is not known
        columns[_("90 % range")] = [
            " - ".join(f"{100 * bound:.1f}" for bound in one["cells_outside_p05_p95"]) for _row, one in rows
        ]
    return columns


def planOf(nodes: ResultNodes) -> dict[str, Any] | None:
    """What plan.json says of the plans that a result has in the scene; None where it has none."""
    return nodes.content.get("plan") if nodes.plans is not None and nodes.isReadable else None
