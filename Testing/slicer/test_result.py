"""A result.json written by hand and the files beside it: what the module makes of them, without a run."""

import copy
import json
from collections import deque

import numpy as np
import pytest
import slicer
from harness.driving import process_events
from test_overlay import dice

SHAPE = (20, 24, 28)  # k, j, i
OUTPUTS = {"patient_to_atlas": "patient_to_atlas.h5", "atlas_to_patient": "atlas_to_patient.h5"}


def ball(radius):
    """A density that falls off from the middle: above 0.6 within `radius` voxels, above 0.2 within twice that."""
    center = (np.array(SHAPE) - 1) / 2
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - center, axis=-1)
    return np.clip(1.0 - 0.4 * distance / radius, 0.0, 1.0).astype(np.float32)


def focus(length, rho_t):
    return {
        "seed_mm": [0.0, 0.0, 0.0],
        "seed_patient_mm": [0.0, 0.0, 0.0],
        "diffusivity_mm2_per_day": 0.1,
        "proliferation_per_day": 0.02,
        "duration_days": 400.0,
        "infiltration_length_mm": 1.1 * length,
        "infiltration_length_patient_mm": length,
        "rho_t": rho_t,
    }


def estimate(file, core, whole, *foci):
    fit = {
        "dice_core": core,
        "dice_whole": whole,
        "dice_sum": core + whole,
        "observed_ml": {"core": 1.0, "whole": 4.0},
        "predicted_ml": {"core": 1.0, "whole": 4.0},
    }
    return {"anatomy": "patient", "parameters": list(foci), "fit": fit, "fit_in_anatomy": fit, "density": file}


CONTENT = {
    "version": 2,
    "database": {"name": "starter", "threshold_core": 0.6, "threshold_whole": 0.2},
    "query": {
        "strategy": "direct",
        "matches": [
            {"entry": 41, "dice_core": 0.7, "dice_whole": 0.8, "dice_sum": 1.5, "parameters": focus(3.0, 9.0)},
            {"entry": 7, "dice_core": 0.6, "dice_whole": 0.7, "dice_sum": 1.3, "parameters": focus(4.0, 8.0)},
        ],
    },
    "estimates": {
        "match": estimate("density_match.nrrd", 0.61, 0.71, focus(3.0, 9.0)),
        "refined": estimate("density.nrrd", 0.92, 0.93, focus(2.5, 11.0), focus(1.5, 7.0)),
    },
    "chosen": "refined",
    "outputs": {"density": "density.nrrd", **OUTPUTS},
    "warnings": ["The core is small."],
}
DENSITIES = {"match": ball(3), "refined": ball(4)}


def where_the_match_is_better():
    content = copy.deepcopy(CONTENT)
    content["estimates"]["match"]["density"] = "density.nrrd"
    content["estimates"]["refined"]["density"] = "density_refined.nrrd"
    return content | {"chosen": "match"}


def without_refinement():
    content = where_the_match_is_better()
    del content["estimates"]["refined"]
    return content


@pytest.fixture
def take(panel, tmp_path):
    """Load a result as the panel does at the end of a run; gives the nodes."""
    from TumorQueryModule.Jobs import InferJob
    from TumorQueryModule.PatientNodes import writeVolume
    from TumorQueryModule.ResultNodes import writeTransform

    parameters = panel.widget._parameterNode
    t1gd = slicer.util.addVolumeFromArray(np.ones(SHAPE, np.float32), name="T1Gd")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumor")
    segmentation.GetSegmentation().AddEmptySegment("core", "core")
    t1gd.CreateDefaultDisplayNodes()
    parameters.t1gdVolume, parameters.segmentation = t1gd, segmentation
    transform = slicer.vtkMRMLLinearTransformNode()

    def take(content):
        for name, told in content["estimates"].items():
            volume = slicer.vtkMRMLScalarVolumeNode()
            slicer.util.updateVolumeFromArray(volume, DENSITIES[name])
            writeVolume(volume, tmp_path / told["density"])
        for file in OUTPUTS.values():
            writeTransform(transform, tmp_path / file)
        (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
        job = InferJob(parameters.patient(), parameters.method(), parameters.result())
        [nodes] = deque(job.collect(tmp_path / "result.json"), maxlen=1)
        panel.widget._showNewResult(nodes)
        panel.widget._updatePanel()
        process_events()
        return nodes

    return take


def table(panel):
    model = panel.ui.matchesTableView.model()
    return [[model.data(model.index(row, column)) for column in range(7)] for row in range(model.rowCount())]


def click_row(panel, row):
    view = panel.ui.matchesTableView
    view.clicked.emit(view.model().index(row, 0))


def selected(panel):
    return [index.row() for index in panel.ui.matchesTableView.selectionModel().selectedRows()]


def shown_density(nodes):
    return slicer.util.arrayFromVolume(nodes.density)


def test_the_chosen_estimate_is_shown_first(panel, take):
    nodes = take(CONTENT)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["refined"])
    assert nodes.shown == "refined"
    assert nodes.chosen["fit"]["dice_core"] == 0.92
    rows = table(panel)
    assert [row[0] for row in rows] == ["refined", "1", "2"]
    assert [float(row[1]) for row in rows] == [0.92, 0.7, 0.6]
    assert [float(row[3]) for row in rows] == [1.85, 1.5, 1.3]
    assert [row[4] for row in rows] == ["2.50, 1.50", "3.00", "4.00"]  # one for each focus
    assert [row[6] for row in rows] == ["", "41", "7"]
    assert selected(panel) == [0]
    for region, threshold in (("core", 0.6), ("whole", 0.2)):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.isolines, region, nodes.density) > 0
        assert dice(mask, DENSITIES["refined"] > threshold) == 1


def test_the_summary_speaks_of_what_is_shown(panel, take):
    nodes = take(CONTENT)
    lines = panel.ui.resultSummaryLabel.text.split("<br>")
    assert lines[0] == "<b>Refined from the best matches</b>"
    assert lines[1] == "Dice in the patient: core 0.92, whole tumor 0.93"
    whole = np.count_nonzero(DENSITIES["refined"] > 0.2) / 1000  # ml; voxels of 1 mm
    assert f"Whole tumor {whole:.0f} ml (segmented 4 ml)" in lines
    assert [line for line in lines if line.startswith("Infiltration")] == [
        "Infiltration length 2.5 mm, proliferation times time 11",
        "Infiltration length 1.5 mm, proliferation times time 7",
    ]
    assert lines[-1] == "Note: The core is small."
    assert nodes.content["chosen"] == "refined"


@pytest.mark.parametrize("content", [where_the_match_is_better(), without_refinement()], ids=["worse", "none"])
def test_a_match_that_was_chosen_is_not_called_refined(panel, take, content):
    nodes = take(content)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["match"])
    assert nodes.shown == 0
    names = [row[0] for row in table(panel)]
    assert names == (["refined", "1", "2"] if "refined" in content["estimates"] else ["1", "2"])
    assert [names[row] for row in selected(panel)] == ["1"]
    lines = panel.ui.resultSummaryLabel.text.split("<br>")
    assert lines[:3] == [
        "<b>Match 1 of 2</b>",
        "Dice in the atlas: core 0.70, whole tumor 0.80",
        "Dice in the patient: core 0.61, whole tumor 0.71",
    ]


def test_an_estimate_comes_back_without_a_run(panel, take):
    nodes = take(where_the_match_is_better())
    click_row(panel, 0)
    np.testing.assert_array_equal(shown_density(nodes), DENSITIES["refined"])
    assert nodes.shown == "refined"
    assert selected(panel) == [0]
    assert panel.ui.resultSummaryLabel.text.startswith("<b>Refined")


def test_a_density_that_was_removed_is_told(panel, take):
    nodes = take(where_the_match_is_better())
    slicer.mrmlScene.RemoveNode(nodes.kept("refined"))
    click_row(panel, 0)
    assert "removed from the scene" in panel.ui.statusLabel.text
    assert nodes.shown == 0


def test_what_an_earlier_result_kept_goes_with_it(take):
    count = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    take(CONTENT)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count + 2
    nodes = take(without_refinement())
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == count + 1
    assert nodes.kept("refined") is None
