"""A result is taken into the scene whole or not at all, whenever the user cancels and whatever fails."""

import copy
import json

import numpy as np
import pytest
import slicer
from known_result import SHAPE, ball, with_brain, with_maps, write_volume
from test_overlay import dice

pytestmark = pytest.mark.slow


def core_voxels(volume):
    return int((slicer.util.arrayFromVolume(volume) > 0.6).sum())


def count_nodes():
    classes = ("ScalarVolume", "Segmentation", "Transform", "Table", "Text", "ColorLegendDisplay")
    return sum(len(slicer.util.getNodesByClass(f"vtkMRML{name}Node")) for name in classes)


def state(nodes):
    """What tells one patient's result from another's: names, voxels, isolines, table, report, picture, references."""
    isolines = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.isolines, "core", nodes.density)
    kept = nodes.kept("refined")
    return {
        "names": [node.GetName() for node in vars(nodes).values() if node is not None],
        "core": core_voxels(nodes.density),
        "isolines": int((isolines > 0).sum()),
        "brain": int(slicer.util.arrayFromSegmentBinaryLabelmap(nodes.brain, "brain", nodes.density).sum()),
        "kept": (kept.GetName(), core_voxels(kept)),
        "maps": {name: (node.GetName(), core_voxels(node)) for name, node in nodes.overlays.items()},
        "report": json.loads(nodes.report.GetText()),
        "table": nodes.matches.GetTable().GetValue(0, 1).ToString(),
        "shown": nodes.shown,
        "t1gd": nodes.t1gd.GetName(),
        "scene": count_nodes(),
    }


@pytest.fixture
def other_result(panel, take, tmp_path):
    """A result in the scene, and the files of another patient's, who is chosen; gives the job that takes it."""
    from TumorQueryModule.Jobs import InferJob

    parameters = panel.widget._parameterNode
    take(with_maps(with_brain()))
    image = slicer.util.addVolumeFromArray(np.ones(SHAPE, np.float32), name="Other")
    image.CreateDefaultDisplayNodes()
    parameters.t1gdVolume = image
    content = copy.deepcopy(with_maps(with_brain()))
    content["estimates"]["refined"]["fit"]["dice_core"] = 0.11
    (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    write_volume(ball(7), tmp_path / "density.nrrd")
    write_volume(ball(5), tmp_path / "brain.nrrd")
    write_volume(ball(2), tmp_path / "density_p95.nrrd")
    return lambda: InferJob(parameters.patient(), parameters.method(), parameters.result())


def test_a_result_that_is_cancelled_at_any_step_leaves_the_earlier_one(panel, other_result, tmp_path):
    earlier = state(panel.widget._parameterNode.result())
    job, steps, value = other_result(), 0, None
    while value is None:
        collecting = job.collect(tmp_path / "result.json")
        for _ in range(steps):
            next(collecting)
        value = next(collecting)
        collecting.close()  # as a run does that is cancelled
        if value is None:
            assert state(panel.widget._parameterNode.result()) == earlier
        steps += 1
    assert steps > 5
    later = state(value)
    assert later["names"] == [name.replace("T1Gd", "Other") for name in earlier["names"]]
    assert later["kept"][0] == earlier["kept"][0].replace("T1Gd", "Other")
    assert later["core"] == later["kept"][1] == later["isolines"] == int((ball(7) > 0.6).sum())
    assert later["brain"] == int((ball(5) > 0.5).sum())
    assert later["maps"]["p95"] == ("Other tumor cell density upper bound (95 %)", int((ball(2) > 0.6).sum()))
    assert {name: told[0].replace("Other", "T1Gd") for name, told in later["maps"].items()} == {
        name: told[0] for name, told in earlier["maps"].items()
    }
    assert (later["t1gd"], later["table"], later["scene"]) == ("Other", "0.11", earlier["scene"])


def test_cancel_comes_before_the_result_or_after_it(panel, other_result, tmp_path):
    """By the panel's own run: what it says at its end is what the scene holds."""
    from TumorQueryModule.Worker import RunState

    run, earlier, told = panel.widget._run, state(panel.widget._parameterNode.result()), []
    panel.widget._onDone = told.append
    polls = 0
    while not told:
        run.start(other_result())
        run._steps, run._collecting = iter(run._job.collect(tmp_path / "result.json")), True
        run._setState(RunState.Running)
        for _ in range(polls):
            run.poll()
        panel.widget.onCancel()
        assert run.state is RunState.Idle
        if not told:
            assert panel.ui.statusLabel.text == "Cancelled."
            assert state(panel.widget._parameterNode.result()) == earlier
        polls += 1
    assert panel.ui.statusLabel.text == "Done."
    assert state(told[0])["t1gd"] == "Other"


@pytest.mark.parametrize("broken", ["report.png", "the image", "thresholds"])
def test_a_result_that_cannot_be_taken_leaves_the_earlier_one(panel, other_result, tmp_path, broken):
    job = other_result()
    if broken == "thresholds":
        content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
        del content["database"]["threshold_core"]
        (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    elif broken == "the image":
        slicer.mrmlScene.RemoveNode(job.patient.t1gd)
    else:
        (tmp_path / broken).unlink()
    earlier = state(job.previous)
    with pytest.raises((RuntimeError, KeyError, ValueError)):
        list(job.collect(tmp_path / "result.json"))
    assert state(job.previous) == earlier


def test_a_first_result_that_fails_in_the_scene_leaves_no_node(panel, other_result, tmp_path, monkeypatch):
    from TumorQueryModule import Overlay
    from TumorQueryModule.Jobs import InferJob

    parameters = panel.widget._parameterNode

    def fail(node):
        raise RuntimeError("no color table")

    monkeypatch.setattr(Overlay, "setUpDensityDisplay", fail)
    count = count_nodes()
    with pytest.raises(RuntimeError, match="no color table"):
        list(InferJob(parameters.patient(), parameters.method()).collect(tmp_path / "result.json"))
    assert count_nodes() == count


def test_another_match_comes_with_its_isolines_or_not_at_all(take, tmp_path):
    from TumorQueryModule.Jobs import MatchJob

    nodes = take(with_brain())
    write_volume(ball(2), tmp_path / "match.nrrd")
    earlier, job, steps, value = state(nodes), MatchJob(nodes, 1), 0, None
    while value is None:
        collecting = job.collect(tmp_path / "match.nrrd")
        for _ in range(steps):
            next(collecting)
        value = next(collecting)
        collecting.close()
        if value is None:
            assert state(nodes) == earlier
        steps += 1
    density = slicer.util.arrayFromVolume(nodes.density)
    isolines = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.isolines, "whole", nodes.density) > 0
    assert nodes.shown == 1
    assert dice(isolines, density > 0.2) == 1
    assert dice(density > 0.6, ball(2) > 0.6) == 1


def test_another_match_of_a_result_that_was_removed_is_told(take, tmp_path):
    from TumorQueryModule.Jobs import MatchJob

    nodes = take(with_brain())
    write_volume(ball(2), tmp_path / "match.nrrd")
    collecting = MatchJob(nodes, 1).collect(tmp_path / "match.nrrd")
    next(collecting)
    earlier = core_voxels(nodes.density)
    slicer.mrmlScene.RemoveNode(nodes.isolines)
    with pytest.raises(ValueError, match="removed from the scene"):
        list(collecting)
    assert core_voxels(nodes.density) == earlier
