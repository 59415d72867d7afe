"""Two real patients, every second voxel: flipped, and under an oblique transform; the command line is the judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from harness.driving import process_events
from test_overlay import dice, is_coloured, rotation

DATA = os.environ.get("TUMORQUERY_TEST_DATA", "")
PATIENTS = Path(DATA) / "patients"
#: Without alignment, which would mend what the module may get wrong.
OPTIONS = ["--strategy", "direct", "--registration", "affine", "--refine", "none", "--no-align"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PATIENTS.is_dir() or not DATA, reason="needs real patients, TUMORQUERY_TEST_DATA"),
]


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """The folder of both patients' files."""
    thinned = tmp_path_factory.mktemp("patients")
    for name in ("TCIA02_135", "TCIA02_606"):
        (thinned / name).mkdir()
        for role in ("t1gd", "flair", "seg"):
            image = sitk.ReadImage(str(PATIENTS / name / f"{role}.nii.gz"))
            sitk.WriteImage(image[::2, ::2, ::2], str(thinned / name / f"{role}.nii.gz"))
    return thinned


@pytest.fixture(scope="module")
def command_line(patients, tmp_path_factory):
    """The command line at work on both patients, beside the module's runs."""
    runs = {}
    for folder in patients.iterdir():
        name = folder.name
        files = {role: str(folder / f"{role}.nii.gz") for role in ("t1gd", "flair", "seg")}
        out = tmp_path_factory.mktemp(name) / "out"
        arguments = [
            "--t1gd",
            files["t1gd"],
            "--flair",
            files["flair"],
            "--segmentation",
            files["seg"],
            "--labels",
            "brats2018",
        ]
        command = [sys.executable, "-m", "TumorQueryLib", "infer", *arguments, *OPTIONS, "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        runs[name] = (process, out)

    def result(name):
        process, out = runs[name]
        log, _ = process.communicate(timeout=900)
        assert process.returncode == 0, log
        return json.loads((out / "result.json").read_text(encoding="utf-8"))

    yield result
    for process, _ in runs.values():
        process.kill()
        process.wait()


def load(folder):
    t1gd = slicer.util.loadVolume(str(folder / "t1gd.nii.gz"), {"name": "T1Gd 肿瘤"})
    flair = slicer.util.loadVolume(str(folder / "flair.nii.gz"), {"name": "FLAIR"})
    segmentation = slicer.util.loadSegmentation(str(folder / "seg.nii.gz"), {"name": "segmentation"})
    ids = segmentation.GetSegmentation().GetSegmentIDs()
    labels = {segmentation.GetSegmentation().GetSegment(one).GetLabelValue(): one for one in ids}
    return t1gd, flair, segmentation, [labels[1], labels[4]], list(ids)


def reverse(volume, axes):
    """Store a volume with some array axes reversed; it stays where it is in space."""
    matrix = slicer.util.arrayFromVTKMatrix(ijk_to_ras(volume))
    array = slicer.util.arrayFromVolume(volume)
    for axis in axes:  # of i, j, k
        matrix[:3, 3] += matrix[:3, axis] * (array.shape[2 - axis] - 1)
        matrix[:3, axis] *= -1
    turned = np.ascontiguousarray(np.flip(array, [2 - axis for axis in axes]))
    slicer.util.updateVolumeFromArray(volume, turned)
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))


def ijk_to_ras(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def put_under_transform(nodes, matrix):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "oblique")
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_a_flipped_image(running, rendering, patients, command_line):
    t1gd, flair, segmentation, core, whole = load(patients / "TCIA02_135")
    reverse(t1gd, (0, 2))
    reverse(flair, (1,))
    check_against(command_line("TCIA02_135"), running, t1gd, flair, segmentation, core, whole)


def test_an_oblique_parent_transform(running, rendering, patients, command_line):
    t1gd, flair, segmentation, core, whole = load(patients / "TCIA02_606")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(25, (1, 2, 3)), (12.0, -8.0, 20.0)
    put_under_transform((t1gd, segmentation), matrix)
    # the FLAIR comes to lie at the same place by its own header
    flair.ApplyTransformMatrix(slicer.util.vtkMatrixFromArray(matrix))
    check_against(command_line("TCIA02_606"), running, t1gd, flair, segmentation, core, whole)


def check_against(expected, running, t1gd, flair, segmentation, core, whole):
    import TumorQuery
    from TumorQueryModule import Overlay

    logic = TumorQuery.TumorQueryLogic()
    result = logic.run(
        t1gd, flair, segmentation, coreSegmentIDs=core, wholeSegmentIDs=whole, registration="affine",
        refine="none", align=False, progress=lambda value, message: process_events(),
    )  # fmt: skip
    density = slicer.util.arrayFromVolume(result.density)
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, result.density) > 0 for one in whole]
    overlap = dice(density > 0.2, np.any(masks, axis=0))
    assert overlap == pytest.approx(expected["estimates"][expected["chosen"]]["fit"]["dice_whole"], abs=0.01)
    assert overlap > 0.5

    segmentation.CreateDefaultDisplayNodes()
    segmentation.GetDisplayNode().SetVisibility(False)
    result.isolines.GetDisplayNode().SetVisibility(False)
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        legend.SetVisibility(False)
    Overlay.setThreshold(result.density, 0.2)
    Overlay.showInSliceViews(t1gd, result.density, 0.7)
    ras_to_ijk = np.linalg.inv(slicer.util.arrayFromVTKMatrix(ijk_to_ras(result.density)))
    if t1gd.GetParentTransformNode() is not None:
        world = slicer.util.arrayFromTransformMatrix(t1gd.GetParentTransformNode())
        ras_to_ijk = ras_to_ijk @ np.linalg.inv(world)
    seen = np.any(masks, axis=0)
    for name, view in running.views.items():
        ijk = np.rint(view.ras_of_pixels() @ ras_to_ijk[:3, :3].T + ras_to_ijk[:3, 3]).astype(int)
        inside = np.all((ijk >= 0) & (ijk < density.shape[::-1]), axis=-1)
        i, j, k = np.moveaxis(np.where(inside[..., None], ijk, 0), -1, 0)
        tumour = inside & seen[k, j, i]
        coloured = is_coloured(view.pixels())
        assert np.count_nonzero(tumour) > 500, name
        assert dice(coloured, tumour) > overlap - 0.25, f"{name}: {dice(coloured, tumour)}"
    isoline = slicer.util.arrayFromSegmentBinaryLabelmap(result.isolines, "whole", result.density) > 0
    assert np.array_equal(isoline, density > 0.2)
