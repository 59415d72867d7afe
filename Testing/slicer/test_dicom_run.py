"""A DICOM study with skull through the panel: as Slicer's DICOM module loads it, to density, brain and overlay."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import vtk
from harness.driving import Guard, click, process_events, wait_until
from harness.views import write_png
from test_input_tools import place_in_study
from test_overlay import dice, is_coloured
from test_sample_run import is_idle, status

pytestmark = pytest.mark.slow


def write_study(folder):
    """The sample in a painted head as two MR series of one study; gives the series' folders and the study."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
    from sample_as_dicom import Study

    from TumorQueryLib.geometry.grid import read_volume
    from TumorQueryLib.studies.painted_head import sample_with_head

    files, study = sample_with_head(folder), Study()
    for role, description in (("t1gd", "AX T1 POST GD"), ("flair", "AX FLAIR")):
        head = read_volume(files[role])
        scaled = np.clip(head.array * (2000.0 / head.array.max()), 0, None)
        study.write_series(folder / role, scaled, head.grid.affine, description)
    return study


def load_series(folder, name, study):
    """As DICOMScalarVolumePlugin loads a series: the volume, the UIDs of its instances, its place in its study."""
    import pydicom
    import SimpleITK as sitk

    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    image = sitk.ReadImage(files)
    path = str(folder.parent / f"{name}.nrrd")
    sitk.WriteImage(image, path)
    node = slicer.util.loadVolume(path, {"name": name})
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    place_in_study(node, str(first.PatientID), str(first.StudyInstanceUID), str(first.SeriesInstanceUID))
    return node


@pytest.fixture(scope="module")
def run(python_slicer, tmp_path_factory):
    """The panel after a click on Apply, with a study and a segmentation and nothing else chosen."""
    from harness.application import Panel, Slicer

    folder = tmp_path_factory.mktemp("tmp ümläut")
    files = tmp_path_factory.mktemp("study")
    study = write_study(files)
    with pytest.MonkeyPatch.context() as patch, Guard(folder) as guard:
        patch.setenv("PATH", os.pathsep.join([str(python_slicer), os.environ["PATH"]]))
        running = Slicer((600, 520))
        import TumorQuery
        from TumorQueryModule import SampleCase

        panel = Panel(TumorQuery, "TumorQuery")
        panel.parent.resize(520, 1400)
        panel.parent.show()
        t1gd, flair = (load_series(files / role, role.upper(), study) for role in ("t1gd", "flair"))
        segmentation = SampleCase.loadSample()["segmentation"]
        parameters = panel.widget._parameterNode
        parameters.t1gdVolume, parameters.flairVolume, parameters.segmentation = t1gd, flair, segmentation
        # test_sample_run has the deformable registration and a refinement.
        parameters.registration = type(parameters.registration).Affine
        parameters.refinement = type(parameters.refinement).NoRefinement
        process_events(0.1)
        assert not panel.ui.studyWarningLabel.isVisible()
        click(panel.ui.applyButton)
        wait_until(lambda: is_idle(panel), 900, status(panel))
        assert panel.ui.statusLabel.text == "Done.", status(panel)()
        yield SimpleNamespace(
            panel=panel, running=running, study=study, t1gd=t1gd, flair=flair, result=parameters.result()
        )
        panel.close()
        running.close()
        guard.check()
        assert not running.dialogs.shown


def test_the_density_lies_on_the_segmented_tumour(run):
    from TumorQueryModule.PatientNodes import suggestSegments

    segmentation, density = run.result.segmentation, slicer.util.arrayFromVolume(run.result.density)
    _core, whole = suggestSegments(segmentation)
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, run.result.density) > 0 for one in whole]
    assert density.shape == slicer.util.arrayFromVolume(run.t1gd).shape
    assert dice(density > 0.2, np.any(masks, axis=0)) > 0.7
    assert run.result.content["alignment"]["flair"]["moved"] is False


def test_the_brain_comes_back_and_is_offered_as_the_mask(run):
    from test_panel_scene import offered_by

    from TumorQueryLib.geometry.brain import find_brain
    from TumorQueryLib.geometry.grid import Volume, read_volume
    from TumorQueryLib.studies.sample import sample_files

    assert run.result.content["brain"]["source"] == "extracted"
    brain = slicer.util.arrayFromSegmentBinaryLabelmap(run.result.brain, "brain", run.t1gd) > 0
    sample = read_volume(sample_files()["t1gd"])
    truth = find_brain(Volume(sample.array.astype(np.float32), sample.grid))[0]
    matrix = vtk.vtkMatrix4x4()
    run.t1gd.GetRASToIJKMatrix(matrix)
    to_ijk = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    points = sample.grid.to_ras(np.argwhere(truth)) @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    i, j, k = np.rint(points).astype(int).T
    expected = np.zeros(brain.shape, bool)
    expected[k, j, i] = True
    assert dice(brain, expected) > 0.93
    assert run.result.brain.GetName() in offered_by(run.panel.ui.brainMaskSelector)
    assert run.result.brain.GetName() in run.panel.ui.resultSummaryLabel.text


def test_the_result_lies_in_the_study(run):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.GetItemByUID("DICOM", run.study.uid)
    assert study
    for node in filter(None, vars(run.result).values()):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study, node.GetName()


def test_the_overlay_is_seen_on_the_tumour_in_the_head(run, rendering, tmp_path):
    density = slicer.util.arrayFromVolume(run.result.density)
    matrix = vtk.vtkMatrix4x4()
    run.result.density.GetRASToIJKMatrix(matrix)
    to_ijk = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    pictures = os.environ.get("TUMORQUERY_PICTURES", "")  # a folder, to look at them
    for name, view in run.running.views.items():
        if pictures:
            write_png(os.path.join(pictures, f"{name}.png"), view.pixels())
    if pictures:
        run.panel.parent.resize(520, run.panel.parent.sizeHint.height() + 100)
        process_events(0.2)
        run.panel.parent.grab().save(os.path.join(pictures, "panel.png"))
    shown = [run.result.segmentation, run.result.brain, run.result.isolines]
    for node in shown:
        node.GetDisplayNode().SetVisibility(False)
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        legend.SetVisibility(False)
    for name, view in run.running.views.items():
        points = view.ras_of_pixels()
        ijk = np.rint(points @ to_ijk[:3, :3].T + to_ijk[:3, 3]).astype(int)
        inside = np.all((ijk >= 0) & (ijk < density.shape[::-1]), axis=-1)
        i, j, k = np.moveaxis(np.where(inside[..., None], ijk, 0), -1, 0)
        expected = inside & (density[k, j, i] > 0.05)
        assert np.count_nonzero(expected) > 500
        assert dice(is_coloured(view.pixels()), expected) > 0.85, name
    right, left = (run.running.views["Red"].ras_of_pixels()[260, column][0] for column in (0, 599))
    assert right > left  # the patient's right is on the viewer's left


def test_a_segmenter_gets_the_brain_alone(run):
    from harness.extensions import installed

    parameters, ui = run.panel.widget._parameterNode, run.panel.ui
    parameters.segmentation = None
    parameters.alignImages = False  # the copies lie where the originals do
    for role, node in (("t1", run.t1gd), ("t2", run.flair)):
        copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", role)
        copy.CopyContent(node)
        setattr(parameters, f"{role}Volume", copy)
    run.result.brain.GetSegmentation().RemoveAllSegments()
    head = slicer.util.arrayFromVolume(run.t1gd)
    with installed("MONAIAuto3DSeg", segment=lambda *images: np.where(images[1] > 0, 3, 0).astype(np.uint8)) as logics:
        run.panel.widget._updatePanel()
        click(ui.segmentButton)
        wait_until(lambda: run.panel.widget._isIdle, 300, status(run.panel))
        given = logics.MONAIAuto3DSegLogic.last_inputs
    assert "is segmented" in ui.statusLabel.text, status(run.panel)()
    assert parameters.brainMask is run.result.brain
    brain = slicer.util.arrayFromSegmentBinaryLabelmap(run.result.brain, "brain", run.t1gd) > 0
    assert 900 < brain.sum() * np.prod(run.t1gd.GetSpacing()) / 1000 < 2000
    for image in given:
        assert image.shape == head.shape
        assert not image[~brain].any()
    np.testing.assert_allclose(given[1][brain], head[brain], rtol=1e-5)
    np.testing.assert_array_equal(given[1], given[2])
    assert list(parameters.wholeSegmentIDs) == ["Neoplasm"]
