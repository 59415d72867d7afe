"""Scripts without a main window: nobody is asked, scenes tell what to show, batch.py and its summary."""

import csv
import os

import numpy as np
import pytest
import slicer
from harness.driving import Guard, child_processes, process_events

METHOD = ("--registration", "affine", "--refine", "none", "--top", "3")


@pytest.fixture
def without_window(guard, python_slicer, monkeypatch):
    """The application as --no-main-window starts it."""
    from harness.application import Slicer

    monkeypatch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
    running = Slicer(window=False)
    yield running
    running.close()
    guard.check()
    assert running.dialogs.shown == []


def composites():
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


@pytest.mark.parametrize("strategy", ["direct", "ae"])
def test_missing_packages_are_named_and_nobody_is_asked(without_window, strategy, monkeypatch):
    import TumorQuery
    from TumorQueryModule import Dependencies

    without_window.packaging.absent = {"numba"}
    monkeypatch.setattr(Dependencies.importlib.util, "find_spec", lambda name: None if name == "torch" else True)
    with pytest.raises(Dependencies.DependencyError, match=r"PythonSlicer -m pip install \"(numba|torch)>="):
        TumorQuery.TumorQueryLogic().ensureRequirements(strategy)
    assert without_window.packaging.installations == []


def test_a_batch_without_its_packages_ends_at_once(without_window, tmp_path, capsys):
    from TumorQueryModule import batch

    without_window.packaging.absent = {"numba"}
    assert batch.main(["--sample", "--out", str(tmp_path / "out")]) == 2
    assert 'PythonSlicer -m pip install "numba' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    without_window.app._testing = True  # where Slicer's own build machines run it
    assert batch.main(["--sample", "--out", str(tmp_path / "out")]) == 0
    assert "Skipped" in capsys.readouterr().out


def test_the_self_test_is_skipped_where_nothing_may_be_installed(running, monkeypatch):
    import unittest

    import TumorQuery

    running.packaging.absent = {"numba"}
    running.app._testing = True
    case = TumorQuery.TumorQueryTest()
    monkeypatch.setattr(case, "delayDisplay", lambda message: None)
    with pytest.raises(unittest.SkipTest):
        case.test_sampleCase()
    monkeypatch.setattr(unittest.TestLoader, "getTestCaseNames", lambda *_: ["test_sampleCase"])
    case.runTest()  # a skipped test does not fail it


@pytest.fixture(scope="module")
def batch(python_slicer, tmp_path_factory):
    """A batch of two patients, the sample's files and a file that is none; gives the folder and the exit status."""
    from harness.application import Slicer

    folder = tmp_path_factory.mktemp("batch")
    temporary = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch, Guard(temporary) as guard:
        patch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
        running = Slicer(window=False)
        from TumorQueryModule import Dependencies, batch

        files = Dependencies.resourcesFolder() / "SampleData"
        (folder / "cohort.csv").write_text(
            "patient,t1gd,flair,segmentation,labels\n"
            f"good,{files / 't1gd.nii.gz'},{files / 'flair.nii.gz'},{files / 'segmentation.nii.gz'},brats2018\n"
            f"unknown,{files / 't1gd.nii.gz'},,{files / 'segmentation.nii.gz'},\n",
            encoding="utf-8",
        )
        status = batch.main(["--cohort", str(folder / "cohort.csv"), "--out", str(folder / "out"), *METHOD])
        running.close()
        guard.check()
        assert running.dialogs.shown == []
    assert child_processes() == []
    return folder / "out", status


def test_a_batch_writes_the_summary_of_every_cohort(batch):
    from TumorQueryLib.cohort import SUMMARY_COLUMNS

    folder, status = batch
    assert status == 1
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        good, unknown = list(reader)
    assert tuple(reader.fieldnames) == SUMMARY_COLUMNS
    assert (good["status"], good["error"], good["estimate"]) == ("done", "", "match")
    assert float(good["dice_sum"]) > 1
    assert unknown["status"] == "failed"
    assert "Labels mean" in unknown["error"] or "labels" in unknown["error"]
    assert "Traceback" not in unknown["error"]


def test_a_scene_of_a_batch_is_shown_by_views_and_panel(batch, panel, running):
    slicer.util.loadScene(str(batch[0] / "good" / "good.mrb"))
    process_events()
    parameters = panel.widget._parameterNode
    result = parameters.result()
    assert None not in vars(result).values()
    assert panel.ui.resultSummaryLabel.text.startswith("<b>Match 1 of 3")
    assert panel.ui.matchesTableView.model().rowCount() == 3
    assert parameters.t1gdVolume is result.t1gd
    assert parameters.labelConvention.value == "brats2018"
    assert (parameters.registration.value, parameters.refinement.value, parameters.top) == ("affine", "none", 3)
    assert panel.ui.applyButton.enabled
    assert panel.ui.jumpButton.enabled
    assert len(composites()) == 3
    middle = np.argwhere(slicer.util.arrayFromVolume(result.density) > 0.2).mean(axis=0)[::-1]
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    result.density.GetIJKToRASMatrix(matrix)
    center = (slicer.util.arrayFromVTKMatrix(matrix) @ [*middle, 1])[:3]
    for name, axis in (("Red", 2), ("Green", 1), ("Yellow", 0)):
        view = running.views[name]
        composite = view.composite_node
        assert composite.GetBackgroundVolumeID() == parameters.t1gdVolume.GetID()
        assert composite.GetForegroundVolumeID() == result.density.GetID()
        assert composite.GetForegroundOpacity() == pytest.approx(0.6)
        assert view.node.GetSliceToRAS().GetElement(axis, 3) == pytest.approx(center[axis], abs=2)
