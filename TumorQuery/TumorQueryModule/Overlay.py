"""How a density is shown: colors, threshold and isolines over the T1Gd image, in slices and in 3D."""

from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

#: Names of the color tables of densities and of what says how sure they are; a scene holds one of each.
COLOR_TABLE_NAME = "TumorQuery density"
UNCERTAINTY_TABLE_NAME = "TumorQuery uncertainty"

DENSITY_UNITS = "fraction of the largest possible density"

#: Number of colors of the table; the first ones are transparent, whatever threshold is set.
NUMBER_OF_COLORS = 256
TRANSPARENT_COLORS = 3

#: Red, green, blue at equal steps of density: dark violet, magenta, orange, light yellow. Lightness only rises.
CONTROL_COLORS = ((0.27, 0.05, 0.55), (0.72, 0.13, 0.46), (0.96, 0.48, 0.20), (0.99, 0.96, 0.60))

#: The same for standard deviations and probabilities: violet, blue, green, yellow.
UNCERTAINTY_COLORS = ((0.27, 0.0, 0.33), (0.19, 0.41, 0.56), (0.21, 0.72, 0.47), (0.99, 0.91, 0.14))

#: Color and opacity in 3D of the segments of the result, by region.
SEGMENT_DISPLAY = {"whole": ((0.35, 0.85, 1.0), 0.3), "core": ((1.0, 0.3, 0.3), 0.7)}

#: The segment of an extracted brain: its ID, the color of Slicer's general anatomy, and its terminology entry.
BRAIN_SEGMENT = "brain"
BRAIN_COLOR = (0.98, 0.98, 0.88)
BRAIN_TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^12738006^Brain~^^~Anatomic codes - DICOM master list~^^~^^"
)

#: The segments of plans and their colors, as in the picture of plans that TumorQueryLib draws.
PLAN_COLORS = {"standard": (0.980, 0.800, 0.082), "model": (0.957, 0.447, 0.714), "probable": (0.655, 0.545, 0.980)}
#: The segment beside them of a cavity that was chosen for the plans alone, and its color; hidden at first.
PLAN_CAVITY = "cavity"
PLAN_CAVITY_COLOR = (0.588, 0.588, 0.588)
PLAN_LINE_WIDTH = 2
PLAN_TERMINOLOGY = (
    "Segmentation category and type - DICOM master list~DCM^130041^RT Target~SCT^228792002^Clinical target volume"
    "~^^~Anatomic codes - DICOM master list~SCT^12738006^Brain~^^"
)


def densityColorTable() -> Any:
    """The color table of densities; made on first use, saved with the scene."""
    return colorTable(COLOR_TABLE_NAME, CONTROL_COLORS)


def colorTable(name: str, controlColors: tuple[tuple[float, float, float], ...]) -> Any:
    """The scene's color table of a name, from 0 to 1 by equal steps; made on first use, saved with the scene."""
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetName() == name and node.GetNumberOfColors() == NUMBER_OF_COLORS:
            return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(name)
    node.SetTypeToUser()
    node.SetNumberOfColors(NUMBER_OF_COLORS)
    node.SetHideFromEditors(False)  # only then it is offered for saving
    steps = np.linspace(0.0, 1.0, len(controlColors))
    for index in range(NUMBER_OF_COLORS):
        density = index / (NUMBER_OF_COLORS - 1)
        red, green, blue = (np.interp(density, steps, channel) for channel in zip(*controlColors, strict=True))
        opacity = 0.0 if index < TRANSPARENT_COLORS else 1.0
        node.SetColor(index, f"{density:.3f}", red, green, blue, opacity)
    return slicer.mrmlScene.AddNode(node)


def setUpDensityDisplay(densityNode: Any) -> None:
    """Give a density its units and its color table, once; what the user changes later stays."""
    setUpDisplay(densityNode, densityColorTable(), "tumor-cell-density", _("Tumor cell density"), DENSITY_UNITS)
    slicer.modules.colors.logic().GetColorLegendDisplayNode(densityNode).SetTitleText(_("Cell density"))


def setUpDisplay(volumeNode: Any, table: Any, code: str, meaning: str, unit: str) -> None:
    """Give a volume of fractions from 0 to 1 its quantity, by code and meaning, its color table and a legend."""
    quantity, units = slicer.vtkCodedEntry(), slicer.vtkCodedEntry()
    quantity.SetValueSchemeMeaning(code, "99TUMORQUERY", meaning)
    units.SetValueSchemeMeaning("1", "UCUM", unit)
    volumeNode.SetVoxelValueQuantity(quantity)
    volumeNode.SetVoxelValueUnits(units)
    volumeNode.CreateDefaultDisplayNodes()
    display = volumeNode.GetDisplayNode()
    display.SetAndObserveColorNodeID(table.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.ApplyThresholdOn()
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volumeNode)
    legend.SetNumberOfLabels(6)
    legend.SetLabelFormat("%.1f")
    legend.SetSize(0.08, 0.25)
    legend.SetPosition(0.99, 0.02)  # the corner, which no brain reaches


def setUpMapDisplay(mapNode: Any, name: str, level: float) -> None:
    """Give a map of the uncertainty its colors and legend, once; scale and title follow what it holds.

    :param name: "sd", "p05", "p95" or "probability".
    :param level: the density whose exceedance the probability is.
    """
    titles = {
        "sd": _("Standard deviation"),
        "p05": _("Cell density, lower bound"),
        "p95": _("Cell density, upper bound"),
        "probability": _("Probability of more than {level:g}").format(level=level),
    }
    isDensity = name in ("p05", "p95")
    if mapNode.GetDisplayNode() is None:
        table = densityColorTable() if isDensity else colorTable(UNCERTAINTY_TABLE_NAME, UNCERTAINTY_COLORS)
        unit = "probability" if name == "probability" else DENSITY_UNITS
        setUpDisplay(mapNode, table, f"tumor-cell-density-{name}", titles[name], unit)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(mapNode)
    if legend:
        legend.SetTitleText(titles[name])
    if name == "sd":
        largest = max(1.0, np.ceil(round(20 * float(slicer.util.arrayFromVolume(mapNode).max()), 3))) / 20
        mapNode.GetDisplayNode().SetWindowLevelMinMax(0.0, largest)
        if legend:
            legend.SetLabelFormat("%.2f")


def setThreshold(densityNode: Any, threshold: float) -> None:
    """Make densities below a fraction transparent."""
    densityNode.GetDisplayNode().SetThreshold(threshold, 1.0)


def setOutlinesVisible(segmentationNode: Any, visible: bool) -> None:
    """Show or hide the isolines in the slice views."""
    segmentationNode.GetDisplayNode().SetVisibility2D(visible)


def setSurfacesVisible(segmentationNode: Any, visible: bool) -> None:
    """Show or hide the surfaces of the isolines in 3D views."""
    if visible:
        segmentationNode.CreateClosedSurfaceRepresentation()
    segmentationNode.GetDisplayNode().SetVisibility3D(visible)


def maskAbove(densityNode: Any, threshold: float) -> Any:
    """Where a density exceeds a threshold, strictly, as an oriented image on its voxels."""
    labels = slicer.vtkMRMLLabelMapVolumeNode()
    slicer.util.updateVolumeFromArray(labels, (slicer.util.arrayFromVolume(densityNode) > threshold).astype(np.uint8))
    matrix = vtk.vtkMatrix4x4()
    densityNode.GetIJKToRASMatrix(matrix)
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(labels.GetImageData())
    image.SetImageToWorldMatrix(matrix)
    return image


def setIsolines(segmentationNode: Any, densityNode: Any, thresholds: dict[str, float], masks: dict[str, Any]) -> None:
    """Make one segment for each region where the density exceeds a threshold.

    :param thresholds: density by region, "whole" and "core".
    :param masks: what `maskAbove` gives for each; density and segmentation are under one parent transform.
    """
    names = {"whole": _("Whole tumor: density > {value:g}"), "core": _("Tumor core: density > {value:g}")}
    logic = slicer.modules.segmentations.logic()
    segmentation = segmentationNode.GetSegmentation()
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(densityNode)
    segmentationNode.CreateDefaultDisplayNodes()
    segmentation.RemoveRepresentation("Closed surface")  # those of another density
    for region, value in thresholds.items():
        if segmentation.GetSegment(region) is None:
            color, opacity = SEGMENT_DISPLAY[region]
            segmentation.AddEmptySegment(region, names[region].format(value=value), color)
            segmentationNode.GetDisplayNode().SetSegmentVisibility2DFill(region, False)
            segmentationNode.GetDisplayNode().SetSegmentOpacity3D(region, opacity)
        logic.SetBinaryLabelmapToSegment(masks[region], segmentationNode, region, logic.MODE_REPLACE)


def setBrain(segmentationNode: Any, t1gdNode: Any, mask: Any) -> None:
    """Put a brain into a segmentation, as one segment with its outline shown.

    :param mask: the brain as an oriented image; segmentation and image are under one parent transform.
    """
    logic = slicer.modules.segmentations.logic()
    segmentation = segmentationNode.GetSegmentation()
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(t1gdNode)
    segmentationNode.CreateDefaultDisplayNodes()
    segmentation.RemoveRepresentation("Closed surface")  # that of another brain
    if segmentation.GetSegment(BRAIN_SEGMENT) is None:
        segmentation.RemoveAllSegments()  # of another tool's brain
        segmentation.AddEmptySegment(BRAIN_SEGMENT, _("brain"), BRAIN_COLOR)
        segment = segmentation.GetSegment(BRAIN_SEGMENT)
        segment.SetTag(segment.GetTerminologyEntryTagName(), BRAIN_TERMINOLOGY)
        showBrainAsOutline(segmentationNode)
    logic.SetBinaryLabelmapToSegment(mask, segmentationNode, BRAIN_SEGMENT, logic.MODE_REPLACE)


def setPlans(segmentationNode: Any, t1gdNode: Any, titles: dict[str, str], masks: dict[str, Any]) -> None:
    """Put plans into a segmentation, a segment for each, in place of earlier plans; other segments stay.

    :param titles: what the segments are called, by the name of the plan.
    :param masks: the plans as oriented images; segmentation and image are under one parent transform.
    """
    logic = slicer.modules.segmentations.logic()
    segmentation = segmentationNode.GetSegmentation()
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(t1gdNode)
    isNew = segmentationNode.GetDisplayNode() is None
    segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    segmentation.RemoveRepresentation("Closed surface")  # those of other plans
    for name in (*PLAN_COLORS, PLAN_CAVITY):
        if segmentation.GetSegment(name) is not None:
            segmentation.RemoveSegment(name)
    for name, title in titles.items():
        segmentation.AddEmptySegment(name, title, PLAN_COLORS.get(name, PLAN_CAVITY_COLOR))
        segment = segmentation.GetSegment(name)
        if name in PLAN_COLORS:
            segment.SetTag(segment.GetTerminologyEntryTagName(), PLAN_TERMINOLOGY)
        segment.SetNameAutoGenerated(False)
        segment.SetColorAutoGenerated(False)
        logic.SetBinaryLabelmapToSegment(masks[name], segmentationNode, name, logic.MODE_REPLACE)
    if isNew:
        display.SetVisibility2DFill(False)
        display.SetVisibility3D(False)
        display.SetSliceIntersectionThickness(PLAN_LINE_WIDTH)
    if PLAN_CAVITY in titles:
        display.SetSegmentVisibility(PLAN_CAVITY, False)


def keyOfPlans(titles: dict[str, str]) -> str:
    """Which line is which plan, as rich text.

    :param titles: what the plans are called, by name.
    """
    parts = [keyOfLine(PLAN_COLORS[name], title) for name, title in titles.items()]
    return _("Lines: {plans}.").format(plans=", ".join(parts))


def keyOfLine(color: tuple[float, float, float], text: str) -> str:
    """A line of a color with its meaning, as rich text."""
    code = "".join(f"{round(255 * channel):02x}" for channel in color)
    return f'<span style="color:#{code}; background-color:#202020">&nbsp;&#9473;&#9473;&nbsp;</span> {text}'


def showBrainAsOutline(segmentationNode: Any) -> None:
    """Show a brain by its outline in slices, which hides nothing of the image."""
    segmentationNode.CreateDefaultDisplayNodes()
    segmentationNode.GetDisplayNode().SetVisibility2DFill(False)
    segmentationNode.GetDisplayNode().SetVisibility3D(False)


def showAsOutlines(segmentationNode: Any) -> None:
    """Show the given segmentation without its filling, which would hide the density."""
    segmentationNode.CreateDefaultDisplayNodes()
    segmentationNode.GetDisplayNode().SetVisibility2DFill(False)


def keyOfLines(hasBrain: bool) -> str:
    """What the colors of the lines mean, as rich text; with an extracted brain also that of its outline."""
    texts = {"whole": _("modeled whole tumor"), "core": _("modeled core")}
    parts = [keyOfLine(SEGMENT_DISPLAY[region][0], text) for region, text in texts.items()]
    text = _("Lines: {modeled}; the others are your segmentation.").format(modeled=", ".join(parts))
    return f"{text} " + _("The pale line around the brain is what was extracted.") if hasBrain else text


def makeSliceNodes() -> list[Any]:
    """The nodes of three slice views where no window has made them, so that a saved scene tells what to show.

    :return: the slice logics that made them; none where there is a window.
    """
    if slicer.app.layoutManager() is not None:
        return []
    logics = []
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.AddSliceNode(name)
        logic.GetSliceNode().SetOrientation(orientation)
        logics.append(logic)
    return logics


def showInSliceViews(t1gdNode: Any, densityNode: Any, opacity: float, overlaidNode: Any = None) -> None:
    """Show the density over the T1Gd image in all slice views, fitted to the image and moved to the tumor.

    :param overlaidNode: a map that is shown in the density's place.
    """
    logics = makeSliceNodes()
    overlaid = overlaidNode or densityNode
    slicer.util.setSliceViewerLayers(
        background=t1gdNode, foreground=overlaid, foregroundOpacity=opacity, label=None, fit=True
    )
    for logic in logics:
        logic.FitSliceToAll()
    refreshLegend(overlaid)
    jumpToTumor(densityNode)


def refreshLegend(volumeNode: Any) -> None:
    """Have the legend of a volume appear where views show it: it does not observe that."""
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(volumeNode)
    if legend:
        legend.Modified()


def showInPlace(overlaidNode: Any, volumes: list[Any]) -> None:
    """Show one of a result's volumes in the slice views that show any of them; in all views where none does."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    theirs = [node.GetID() for node in volumes]
    for composite in [one for one in composites if one.GetForegroundVolumeID() in theirs] or composites:
        composite.SetForegroundVolumeID(overlaidNode.GetID())
    for node in volumes:
        refreshLegend(node)


def setOpacity(overlaidNode: Any, opacity: float) -> None:
    """Change the opacity of the density, or a map, in the slice views that show it."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetForegroundVolumeID() == overlaidNode.GetID():
            composite.SetForegroundOpacity(opacity)


def jumpToTumor(densityNode: Any, threshold: float = 0.2) -> None:
    """Move all slice views to the middle of the region where the density exceeds a threshold."""
    inside = np.argwhere(slicer.util.arrayFromVolume(densityNode) > threshold)
    if inside.size == 0:
        return
    k, j, i = inside.mean(axis=0)
    matrix = vtk.vtkMatrix4x4()
    densityNode.GetIJKToRASMatrix(matrix)
    position = [0.0, 0.0, 0.0]
    densityNode.TransformPointToWorld(matrix.MultiplyPoint((i, j, k, 1.0))[:3], position)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position, slicer.vtkMRMLSliceNode.OffsetJumpSlice)
