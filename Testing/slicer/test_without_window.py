"""Scripts without a main window: nobody is asked, scenes tell what to show, batch.py and its summary."""

import csv
import os

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from harness.driving import Guard, child_processes, process_events
from test_overlay import dice

METHOD = ("--registration", "affine", "--refine", "none", "--top", "3", "--no-align")


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
    """A batch of patients as a cohort has them, good and bad; gives the folder and the exit status."""
    from harness.application import Slicer

    folder = tmp_path_factory.mktemp("batch")
    temporary = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch, Guard(temporary) as guard:
        patch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
        patch.chdir(folder)
        running = Slicer(window=False)
        from TumorQueryModule import batch

        write_cohort(folder)
        keep_own_files(folder / "out" / "kept")
        status = batch.main(["--cohort", "cohort.csv", "--out", "out", *METHOD])
        running.close()
        guard.check()
        assert running.dialogs.shown == []
    assert child_processes() == []
    return folder / "out", status


def write_cohort(folder):
    """The sample, with what the library refuses."""
    from TumorQueryModule import SampleCase

    files = SampleCase.sampleFiles()
    write_named_segments(folder / "named.seg.nrrd")
    t1gd, flair = files["t1gd"], files["flair"]
    rows = [
        ("good", t1gd, flair, files["segmentation"], "brats2018"),
        ("unknown", t1gd, "", files["segmentation"], ""),
        ("unnamed", t1gd, "", "named.seg.nrrd", ""),
        ("gone", "nowhere.nii.gz", "", "named.seg.nrrd", ""),
        ("kept", t1gd, "", files["segmentation"], "brats2018"),
    ]
    with open(folder / "cohort.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("patient", "t1gd", "flair", "segmentation", "labels"), *rows])


def write_named_segments(path):
    """The sample's segmentation with segments whose names do not all say what they are."""
    from TumorQueryModule import SampleCase

    labels = sitk.Cast(sitk.ReadImage(SampleCase.sampleFiles()["segmentation"]), sitk.sitkUInt8)
    sitk.WriteImage(segmentation_file(labels, {1: "A part", 2: "Oedema", 4: "Necrosis"}), str(path))
    return sitk.GetArrayFromImage(labels)


def segmentation_file(labels, names):
    """A Slicer segmentation of a label map."""
    extent = " ".join(f"0 {size - 1}" for size in labels.GetSize())
    image = sitk.Image(labels)
    for number, (value, name) in enumerate(names.items()):
        told = {"ID": f"s{number}", "Name": name, "LabelValue": str(value), "Layer": "0", "Extent": extent}
        for key, text in (told | {"Color": "1 0 0"}).items():
            image.SetMetaData(f"Segment{number}_{key}", text)
    return image


def keep_own_files(folder):
    folder.mkdir(parents=True)
    for name in OWN_FILES:
        (folder / name).write_text("the user's own", encoding="utf-8")


OWN_FILES = ("density.nrrd", "result.json")


def read_summary(folder):
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return {row["patient"]: row for row in reader}, tuple(reader.fieldnames)


@pytest.mark.slow
def test_a_batch_writes_the_summary_of_every_cohort(batch):
    from TumorQueryLib.cohort import SUMMARY_COLUMNS

    folder, status = batch
    assert status == 1
    rows, columns = read_summary(folder)
    assert columns == SUMMARY_COLUMNS
    assert {name for name, row in rows.items() if row["status"] == "done"} == {"good"}
    assert (rows["good"]["error"], rows["good"]["estimate"]) == ("", "match")
    assert float(rows["good"]["dice_sum"]) > 1
    for row in rows.values():
        assert "Traceback" not in row["error"]
        assert "defect" not in row["error"]
    assert "numbers do not say what they mean" in rows["unknown"]["error"]
    assert "do not tell what is core" in rows["unnamed"]["error"]
    assert "nowhere.nii.gz" in rows["gone"]["error"]


@pytest.mark.slow
def test_a_batch_leaves_the_users_own_files(batch):
    folder = batch[0]
    assert "which no run of TumorQuery wrote" in read_summary(folder)[0]["kept"]["error"]
    assert sorted(path.name for path in (folder / "kept").iterdir()) == sorted(OWN_FILES)
    assert {(folder / "kept" / name).read_text(encoding="utf-8") for name in OWN_FILES} == {"the user's own"}
    assert not (folder / "gone").exists()


@pytest.mark.slow
def test_a_batch_is_inferred_from_the_files_themselves(batch):
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryLib.results.files import read_result
    from TumorQueryModule import SampleCase

    content = read_result(batch[0] / "good").content
    assert content["inputs"] == list(Patient.load(**SampleCase.sampleFiles()).inputs)
    assert content["labels"] == "brats2018"


def check_patient(row, method, folder, expected):
    """What the worker is told, and what of the patient comes into the scene."""
    from TumorQueryModule.Jobs import RowJob
    from TumorQueryModule.PatientNodes import addPatient

    [job] = RowJob(row, method, folder / "out").prepare(folder)
    assert job["arguments"].items() >= row.files.items()
    patient = addPatient(row.load(), row.patient)
    assert patient.missing() == {}
    for region, mask in expected.items():
        segments = slicer.util.arrayFromSegmentBinaryLabelmap(patient.segmentation, region, patient.t1gd) > 0
        assert dice(segments, mask) == 1
    assert set(patient.coreSegmentIDs) | set(patient.wholeSegmentIDs) == set(expected)
    image = sitk.GetArrayFromImage(sitk.ReadImage(row.files["t1gd"]))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(patient.t1gd), image)


@pytest.mark.slow
def test_a_row_is_read_by_its_own_labels(without_window, tmp_path):
    """Segments of any name, where the column `labels` tells them."""
    from TumorQueryLib.inputs.cohort_file import CohortRow
    from TumorQueryModule import SampleCase
    from TumorQueryModule.Jobs import Method

    labels = write_named_segments(tmp_path / "named.seg.nrrd")
    said = "core=Necrosis,A part/whole=Necrosis,A part,Oedema"
    files = {"t1gd": SampleCase.sampleFiles()["t1gd"], "segmentation": str(tmp_path / "named.seg.nrrd"), "labels": said}
    row = CohortRow("named", files)
    check_patient(row, Method(), tmp_path, {"core": (labels > 0) & (labels != 2), "whole": labels > 0})


@pytest.mark.slow
def test_a_mask_of_shares_counts_from_a_half(without_window, tmp_path):
    """As for the library, and not from more than 0."""
    from TumorQueryLib.inputs.cohort_file import CohortRow
    from TumorQueryModule import SampleCase
    from TumorQueryModule.Jobs import Method

    files = SampleCase.sampleFiles()
    labels = sitk.ReadImage(files["segmentation"])
    shares = sitk.SmoothingRecursiveGaussian(sitk.Cast(labels > 0, sitk.sitkFloat32), 3.0)
    shares = sitk.Clamp(shares, lowerBound=0.0, upperBound=1.0)
    sitk.WriteImage(shares, str(tmp_path / "shares.nrrd"))
    row = CohortRow("shares", {"t1gd": files["t1gd"], "whole": str(tmp_path / "shares.nrrd")})
    check_patient(row, Method(), tmp_path, {"whole": sitk.GetArrayFromImage(shares) > 0.5})


@pytest.mark.slow
def test_images_are_shown_where_the_inference_moved_them(without_window):
    from TumorQueryLib.inputs.patient import Patient
    from TumorQueryModule import SampleCase
    from TumorQueryModule.Jobs import asInferred
    from TumorQueryModule.PatientNodes import addPatient

    read = Patient.load(**SampleCase.sampleFiles())
    matrix = np.eye(4)
    matrix[:3, 3] = 3.0, -2.0, 1.0
    alignment = {"flair": {"moved": True, "matrix": matrix.tolist()}}
    before, after = (addPatient(asInferred(read, {"alignment": one}), "a") for one in (None, alignment))
    shift = np.subtract(after.flair.GetOrigin(), before.flair.GetOrigin())
    np.testing.assert_allclose(shift, (3.0, -2.0, 1.0))
    assert after.t1gd.GetOrigin() == before.t1gd.GetOrigin()


def test_a_batch_does_not_write_over_its_cohort_file(without_window, tmp_path, capsys):
    from TumorQueryModule import batch

    own = "patient,t1gd,whole\na,t1gd.nii.gz,whole.nii.gz\n"
    (tmp_path / "summary.csv").write_text(own, encoding="utf-8")
    assert batch.main(["--cohort", str(tmp_path / "summary.csv"), "--out", str(tmp_path)]) == 2
    assert "is an input of this run" in capsys.readouterr().err
    assert (tmp_path / "summary.csv").read_text(encoding="utf-8") == own


def test_a_batch_leaves_a_scene_that_is_not_its_own(without_window, tmp_path):
    from TumorQueryModule import batch

    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "sample.mrb").write_text("the user's own", encoding="utf-8")
    assert batch.main(["--sample", "--out", str(tmp_path), *METHOD]) == 1
    assert "the patient's scene would replace it" in read_summary(tmp_path)[0]["sample"]["error"]
    assert (tmp_path / "sample" / "sample.mrb").read_text(encoding="utf-8") == "the user's own"


def test_a_batch_that_takes_too_long_leaves_nothing_unfinished(without_window, tmp_path):
    from TumorQueryModule import batch

    out = tmp_path / "out"
    assert batch.main(["--sample", "--out", str(out), "--timeout", "0.5"]) == 1
    assert "longer than 0.5 s" in read_summary(out)[0]["sample"]["error"]
    assert [path.name for path in out.iterdir()] == ["summary.csv"]


def test_a_batch_hands_on_what_is_asked_of_the_density(without_window, tmp_path, monkeypatch):
    from TumorQueryModule import batch

    asked = []

    def infer(row, folder, method, timeout):
        asked.append(method)
        raise ValueError("seen")

    monkeypatch.setattr(batch, "inferAndSave", infer)
    options = ("--density", "match", "--uncertainty", "--level", "0.25", "--tissue", "own", "--sensitivity")
    assert batch.main(["--sample", "--out", str(tmp_path / "out"), *options]) == 1
    [method] = asked
    asked_for = {"density": "match", "uncertainty": True, "level": 0.25, "tissue": "own", "sensitivity": True}
    assert method.arguments().items() >= asked_for.items()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--top", "100"), "from 1 to 50"),
        (("--strategy", "random-projection"), "no strategy 'random-projection'"),
        (("--level", "1.5"), "from 0.01 to 0.99, not 1.5"),
        (("--density", "refined", "--refine", "none"), "no refined density without a refinement"),
    ],
)
def test_a_batch_with_a_choice_that_is_not_accepted_ends_at_once(without_window, tmp_path, capsys, options, complaint):
    from TumorQueryModule import batch

    assert batch.main(["--sample", "--out", str(tmp_path / "out"), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_scene_of_a_batch_is_shown_by_views_and_panel(batch, panel, running):
    slicer.util.loadScene(str(batch[0] / "good" / "good.mrb"))
    process_events()
    parameters = panel.widget._parameterNode
    result = parameters.result()
    # The images of the sample have no skull, so that no brain was extracted.
    assert [name for name, node in vars(result).items() if node is None] == ["brain", "plans", "planTable"]
    assert panel.ui.resultSummaryLabel.text.startswith("<b>Match 1 of 3")
    assert panel.ui.matchesTableView.model().rowCount() == 3
    assert parameters.t1gdVolume is result.t1gd
    assert list(parameters.coreSegmentIDs) == ["core"]
    assert list(parameters.wholeSegmentIDs) == ["whole"]
    assert result.segmentation is parameters.segmentation
    assert parameters.flairVolume.GetName() == "good FLAIR"
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
