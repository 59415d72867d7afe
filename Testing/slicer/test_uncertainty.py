"""The assimilated density and its uncertainty in the panel, by a result.json written by hand and its files."""

import re

import numpy as np
import pytest
import slicer
from harness.driving import click, process_events
from known_result import CONTENT, DENSITIES, LEVEL, MAPS, assimilated, with_maps
from test_overlay import dice, is_coloured
from test_result_nodes import click_row, selected, shown_density, table

pytestmark = pytest.mark.slow

MODELLERS_WORDS = r"rho|prolif|infiltration|log-odds|posterior|kriging|residual"
LABELS = {
    "density": "Density",
    "sd": "Standard deviation",
    "p05": "Lower bound (5 %)",
    "p95": "Upper bound (95 %)",
    "probability": "Probability above the level",
}


def sure():
    return with_maps(assimilated())


def lines(panel):
    return panel.ui.resultSummaryLabel.text.split("<br>")


def choose(panel, name):
    """Choose by the combo box what lies over the image."""
    choices = panel.ui.overlaidComboBox
    choices.currentIndex = [choices.itemText(number) for number in range(choices.count)].index(LABELS[name])
    process_events()


def foregrounds(running):
    return {view.composite_node.GetForegroundVolumeID() for view in running.views.values()}


def legend(node):
    return slicer.modules.colors.logic().GetColorLegendDisplayNode(node)


# What is said


@pytest.mark.parametrize("content", [assimilated(), sure()], ids=["density", "uncertainty"])
def test_of_an_assimilated_density_the_fit_and_the_length_are_those_of_its_model(panel, take, content):
    nodes = take(content)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["assimilated"])
    assert nodes.shown == "assimilated"
    assert (nodes.chosen["parameters"], nodes.model["fit"]["dice_core"]) == ([], 0.92)
    assert table(panel) == [
        ["assimilated", "", "", "2.5, 1.5"],
        ["refined", "0.92", "0.93", "2.5, 1.5"],
        ["1", "0.70", "0.80", "3.0"],
        ["2", "0.60", "0.70", "4.0"],
    ]
    assert selected(panel) == [0]
    assert lines(panel)[:2] == [
        "<b>Assimilated: corrected to agree with the segmentation</b>",
        "The modeled outlines agree well with the segmentation before the correction: "
        "overlap (Dice) 0.92 of the core, 0.93 of the whole tumor.",
    ]
    whole = np.count_nonzero(DENSITIES["assimilated"] > 0.2) / 1000  # ml; voxels of 1 mm
    assert f"Whole tumor {whole:.0f} ml (segmented 4 ml)" in lines(panel)
    assert not re.search(MODELLERS_WORDS, " ".join(lines(panel)), re.IGNORECASE)


def test_intervals_are_told_in_words(panel, take):
    take(sure())
    beyond = "Beyond the visible edge the density falls to about a third over"
    assert [line for line in lines(panel) if line.startswith("Beyond")] == [
        f"{beyond} 2.5 mm of white matter, 90 % between 2.0 and 3.1 mm.",
        f"{beyond} 1.5 mm of white matter, 90 % between 1.0 and 2.2 mm.",
    ]
    assert "Density above 0.1: 21 ml, 90 % between 18 and 48 ml" in lines(panel)
    assert sum(line.startswith("These ranges hold as far as the growth model does") for line in lines(panel)) == 1


def test_intervals_are_told_of_what_was_varied_alone(panel, take):
    nodes = take(sure())
    click_row(panel, 1)
    assert nodes.shown == "refined"
    assert "before the correction" not in lines(panel)[1]
    assert any("90 % between 2.0 and 3.1 mm" in line for line in lines(panel))
    nodes.density.SetAttribute("TumorQuery.Shown", "0")
    panel.widget._updatePanel()
    assert lines(panel)[0] == "<b>Match 1 of 2</b>"
    assert "90 %" not in panel.ui.resultSummaryLabel.text
    click_row(panel, 0)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["assimilated"])


def test_bounds_of_an_assimilated_match_are_told(panel, take):
    content = with_maps(assimilated())
    content["estimates"] = {name: told for name, told in content["estimates"].items() if name != "refined"}
    content["uncertainty"] = {**content["uncertainty"], "model": "match", "foci": content["uncertainty"]["foci"][:1]}
    nodes = take(content | {"model": "match"})
    assert [row[0] for row in table(panel)] == ["assimilated", "1", "2"]
    assert "agree fairly" in lines(panel)[1]
    assert any("3.0 mm of white matter, 90 % between 2.0 and 3.1 mm" in line for line in lines(panel))
    nodes.density.SetAttribute("TumorQuery.Shown", "0")
    panel.widget._updatePanel()
    assert any("90 % between 2.0 and 3.1 mm" in line for line in lines(panel))


def test_a_warning_of_the_model_speaks_to_a_radiologist(running):
    from TumorQueryLib.inference import fit_warnings
    from TumorQueryModule.Texts import inWordsOfThePanel

    class Estimate:
        class fit:
            quality = "well"

        residual_rms = 2.7

    [warning] = fit_warnings(Estimate())
    assert "log-odds" in warning
    assert not re.search(MODELLERS_WORDS, inWordsOfThePanel(warning), re.IGNORECASE)
    assert inWordsOfThePanel(warning).startswith("The growth model does not describe this tumor: its outlines lie far")


def test_other_assumptions_stand_below_the_matches_and_show_nothing(panel, take):
    rows = [
        {"assumption": "grey matter 3 times slower", "infiltration_length_patient_mm": [1.74, 1.1]},
        {"assumption": "white matter in the tumour", "infiltration_length_patient_mm": [1.56, 0.9]},
    ]
    nodes = take(assimilated() | {"sensitivity": rows})
    assert table(panel)[4:] == [
        ["if gray matter slows 3 times", "", "", "1.7, 1.1"],
        ["if all under the tumor is white matter", "", "", "1.6, 0.9"],
    ]
    assert sum("under other assumptions about the tissue" in line for line in lines(panel)) == 1
    click_row(panel, 5)
    assert nodes.shown == "assimilated"
    assert panel.widget._run.state.value == "idle"


def test_the_words_of_every_assumption_are_the_panels(running):
    from TumorQueryLib.anatomy.anatomy import Anatomy
    from TumorQueryLib.anatomy.tissue_maps import TissueMaps
    from TumorQueryLib.estimates.sensitivity import assumed_tissues
    from TumorQueryLib.geometry.grid import Grid
    from TumorQueryLib.geometry.regions import TumorMasks
    from TumorQueryModule.ResultNodes import assumptionOf

    grid = Grid.isotropic(4, 2.0, (0.0, 0.0, 0.0))
    third = np.full(grid.shape, 1 / 3, np.float32)
    maps, tumour = TissueMaps(third, third, third, grid), TumorMasks(third > 1, third > 0, grid)
    anatomy = Anatomy("patient", maps.tissue(), maps=maps)
    assert not [words for words in assumed_tissues(anatomy, tumour) if assumptionOf(words) == words]


# What is shown


@pytest.mark.parametrize("content", [CONTENT, CONTENT | {"uncertainty": None}, assimilated()])
def test_without_uncertainty_nothing_of_it_is_offered(panel, running, take, content):
    nodes = take(content)
    assert not panel.ui.overlaidComboBox.isVisible()
    assert not panel.ui.overlaidLabel.isVisible()
    assert not panel.ui.overlaidHintLabel.isVisible()
    assert list(nodes.overlays) == ["density"]
    assert foregrounds(running) == {nodes.density.GetID()}
    assert "90 %" not in panel.ui.resultSummaryLabel.text


def test_what_lies_over_the_image_is_chosen(panel, running, take):
    nodes = take(sure())
    parameters = panel.widget._parameterNode
    choices = panel.ui.overlaidComboBox
    assert choices.isVisible()
    assert [choices.itemText(number) for number in range(choices.count)] == list(LABELS.values())
    assert foregrounds(running) == {nodes.density.GetID()}
    background = running.views["Red"].composite_node.GetBackgroundVolumeID()
    titles = {
        "density": "Cell density",
        "sd": "Standard deviation",
        "p05": "Cell density, lower bound",
        "p95": "Cell density, upper bound",
        "probability": "Probability of more than 0.1",
    }
    for name in ("sd", "p05", "probability", "p95", "density"):
        choose(panel, name)
        node = nodes.overlays[name]
        expected = DENSITIES["assimilated"] if name == "density" else MAPS[name].astype(np.float32)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), expected)
        assert foregrounds(running) == {node.GetID()}
        assert running.views["Red"].composite_node.GetBackgroundVolumeID() == background
        assert legend(node).GetTitleText() == titles[name]
        display = node.GetDisplayNode()
        isOfDensity = name in ("density", "p05", "p95")
        colours = "TumorQuery density" if isOfDensity else "TumorQuery uncertainty"
        assert display.GetColorNode().GetName() == panel.ui.colorTableComboBox.currentNode().GetName() == colours
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 0.35 if name == "sd" else 1)
        assert panel.ui.overlaidHintLabel.isVisible() == (name != "density")
        opacity = 0.3 + 0.1 * list(LABELS).index(name)  # sliders act on what is shown
        panel.ui.opacitySlider.value, panel.ui.thresholdSlider.value = opacity, opacity / 2
        assert running.views["Green"].composite_node.GetForegroundOpacity() == pytest.approx(opacity)
        assert display.GetLowerThreshold() == pytest.approx(opacity / 2)
        assert parameters.overlaid.value == name
    choose(panel, "probability")
    assert panel.ui.overlaidHintLabel.text == f"How probable a density of more than {LEVEL:g} is in each voxel."


def test_a_map_is_seen_with_its_own_legend(panel, running, rendering, take):
    nodes = take(sure())
    panel.widget._parameterNode.showOutlines = False
    view, legends = running.views["Red"], slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert len(legends) == 5
    for name, threshold in (("p95", 0.3), ("sd", 0.2)):
        choose(panel, name)
        panel.ui.thresholdSlider.value = threshold
        for one in legends:
            one.SetVisibility(False)
        hidden = view.pixels()
        matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
        nodes.overlays[name].GetRASToIJKMatrix(matrix)
        ras_to_ijk = slicer.util.arrayFromVTKMatrix(matrix)
        ijk = np.rint(view.ras_of_pixels() @ ras_to_ijk[:3, :3].T + ras_to_ijk[:3, 3]).astype(int)
        inside = np.all((ijk >= 0) & (ijk < MAPS[name].shape[::-1]), axis=-1)
        i, j, k = np.moveaxis(np.where(inside[..., None], ijk, 0), -1, 0)
        assert dice(is_coloured(hidden), inside & (MAPS[name][k, j, i] > threshold)) > 0.9
        legend(nodes.overlays[name]).SetVisibility(True)
        assert np.count_nonzero(np.any(view.pixels() != hidden, axis=-1)) > 500


def test_the_views_go_back_to_the_tumour_with_the_map_that_is_shown(panel, running, take):
    nodes = take(sure())
    choose(panel, "sd")
    view = running.views["Green"]
    offset = view.node.GetSliceOffset()
    view.node.SetSliceOffset(offset + 6)
    click(panel.ui.jumpButton)
    assert view.node.GetSliceOffset() == pytest.approx(offset, abs=1)
    assert foregrounds(running) == {nodes.overlays["sd"].GetID()}


def test_the_color_table_is_that_of_the_map_that_is_shown(panel, take):
    nodes = take(sure())
    choose(panel, "sd")
    own = nodes.density.GetDisplayNode().GetColorNode()
    rainbow = next(n for n in slicer.util.getNodesByClass("vtkMRMLColorTableNode") if n.GetName() == "Rainbow")
    panel.ui.colorTableComboBox.setCurrentNode(rainbow)
    assert nodes.overlays["sd"].GetDisplayNode().GetColorNode() is rainbow
    assert nodes.density.GetDisplayNode().GetColorNode() is own


def test_a_row_of_the_table_shows_its_density_again(panel, running, take):
    nodes = take(sure())
    for row in (1, 1):  # another density, and the one that is shown
        choose(panel, "sd")
        click_row(panel, row)
        assert foregrounds(running) == {nodes.density.GetID()}
        assert panel.ui.overlaidComboBox.currentIndex == 0
        np.testing.assert_array_equal(shown_density(nodes), DENSITIES["refined"])


def test_maps_come_back_with_the_scene(panel, running, take, tmp_path):
    take(sure())
    choose(panel, "sd")
    panel.widget._parameterNode.uncertainty = True
    said = panel.ui.resultSummaryLabel.text
    path = str(tmp_path / "Szene ü.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    process_events()
    assert not panel.ui.overlaidComboBox.isVisible()
    slicer.util.loadScene(path)
    process_events()
    restored = panel.widget._parameterNode.result()
    assert list(restored.overlays) == list(LABELS)
    assert panel.ui.resultSummaryLabel.text == said
    assert panel.ui.uncertaintyCheckBox.checked
    assert panel.ui.overlaidComboBox.itemText(panel.ui.overlaidComboBox.currentIndex) == "Standard deviation"
    assert foregrounds(running) == {restored.overlays["sd"].GetID()}
    for name, array in MAPS.items():
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(restored.overlays[name]), array.astype(np.float32))
    choose(panel, "p95")
    assert foregrounds(running) == {restored.overlays["p95"].GetID()}
    assert legend(restored.overlays["p95"]).GetTitleText() == "Cell density, upper bound"


def test_a_run_without_uncertainty_takes_the_maps_away(panel, running, take):
    volumes = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    nodes = take(sure())
    # Density, the two estimates that are kept, four maps; the picture is a volume too.
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == volumes + 8
    choose(panel, "sd")
    again = take(CONTENT)
    assert again.density is nodes.density
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == volumes + 3
    assert not panel.ui.overlaidComboBox.isVisible()
    assert panel.widget._parameterNode.overlaid.value == "density"
    assert foregrounds(running) == {again.density.GetID()}


def test_a_second_result_fills_the_maps_of_the_first(panel, running, take):
    first = take(sure())
    ids = {name: node.GetID() for name, node in first.overlays.items()}
    choose(panel, "probability")
    content = sure()
    second = take(content | {"uncertainty": {**content["uncertainty"], "level": 0.25}})
    assert {name: node.GetID() for name, node in second.overlays.items()} == ids
    assert foregrounds(running) == {second.density.GetID()}
    assert legend(second.overlays["probability"]).GetTitleText() == "Probability of more than 0.25"


def test_a_map_that_was_removed_is_told(panel, take):
    nodes = take(sure())
    slicer.mrmlScene.RemoveNode(nodes.overlays["sd"])
    choose(panel, "sd")
    assert panel.ui.overlaidHintLabel.text.startswith("This map was removed from the scene.")
    choose(panel, "p05")
    assert "In each voxel the density is more than this" in panel.ui.overlaidHintLabel.text


def test_maps_are_no_inputs(panel, take):
    nodes = take(sure())
    parameters = panel.widget._parameterNode
    for name, node in nodes.overlays.items():
        assert node.GetName().startswith("T1Gd tumor cell density"), name
        before, parameters.t1gdVolume = parameters.t1gdVolume, node
        assert "is a result of TumorQuery" in panel.ui.applyButton.toolTip
        parameters.t1gdVolume = before


# What is asked for


def test_density_uncertainty_and_level_reach_the_job(panel):
    ui = panel.ui
    assert ui.uncertaintyCheckBox.isVisible()  # without Advanced
    click(ui.uncertaintyCheckBox)
    ui.advancedCollapsibleButton.collapsed = False
    process_events()
    choices = ui.densityComboBox
    texts = [choices.itemText(number) for number in range(choices.count)]
    choices.currentIndex = texts.index("The best match as it is")
    ui.levelSpinBox.value = 0.25
    ui.tissueComboBox.currentIndex = 1
    click(ui.sensitivityCheckBox)
    asked = {"density": "match", "uncertainty": True, "level": 0.25, "tissue": "own", "sensitivity": True}
    assert panel.widget._parameterNode.method().arguments().items() >= asked.items()
    from TumorQueryLib.base.method import DENSITIES as ACCEPTED
    from TumorQueryLib.base.method import TISSUES

    for kind, accepted in (("density", ACCEPTED), ("tissue", TISSUES)):
        assert tuple(one.value for one in type(getattr(panel.widget._parameterNode, kind))) == accepted


def test_a_refined_density_needs_a_refinement(panel):
    click(panel.ui.loadSampleButton)
    panel.ui.advancedCollapsibleButton.collapsed = False
    parameters = panel.widget._parameterNode
    assert panel.ui.applyButton.enabled
    parameters.density = type(parameters.density).Refined
    parameters.refinement = type(parameters.refinement).NoRefinement
    assert not panel.ui.applyButton.enabled
    assert panel.ui.densityHintLabel.isVisible()
    assert "no refined density without a refinement" in panel.ui.densityHintLabel.text
    parameters.refinement = type(parameters.refinement).Atlas
    assert panel.ui.applyButton.enabled
    assert not panel.ui.densityHintLabel.isVisible()
    parameters.tissue = type(parameters.tissue).Own
    assert "own anatomy" in panel.ui.tissueHintLabel.text
    assert panel.ui.applyButton.toolTip == panel.ui.tissueHintLabel.text
