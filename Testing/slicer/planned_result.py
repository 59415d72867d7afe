"""A whole result as the worker writes it, quickly made, and its way into a panel; what the library plans of it."""

import functools
from collections import deque

import numpy as np
import slicer
from awkward_grids import centred_grid, placed_affine
from harness.driving import process_events
from harness.views import write_png
from made_up_results import assimilated_result

from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.results import files
from TumorQueryLib.results.files import read_result
from TumorQueryLib.results.plan import plan
from TumorQueryLib.studies.phantom import synthetic_volumes

#: Oblique, its axes permuted, two of them reversed, voxels as long as wide as they are not.
AFFINE = placed_affine(spacing=(3.4, 2.8, 5.0), angles=(-25.0, 8.0, 14.0), flips=(-1, 1, -1), order=(2, 0, 1))
SHAPE = (44, 56, 40)


def made_up_patient():
    """A patient whose T1Gd has whole numbers, as DICOM files have."""
    volumes = synthetic_volumes(centred_grid(SHAPE, AFFINE))
    t1gd = volumes["t1gd"]
    return Patient(**volumes | {"t1gd": Volume(np.rint(4 * t1gd.array).astype(np.float32), t1gd.grid)})


def write_made_up_result(folder, patient, **changes):
    """Write a result with bounds of its density; its report is not drawn, which takes longest."""
    draw = files.write_report
    files.write_report = lambda result, path: write_png(path, np.zeros((9, 16, 3), np.uint8))
    try:
        assimilated_result(patient, **changes).write(folder)
    finally:
        files.write_report = draw


def take_result(panel, folder, patient):
    """Load patient and result as the panel does at the end of a run; gives the result's nodes."""
    from TumorQueryModule.Jobs import InferJob
    from TumorQueryModule.PatientNodes import addPatient

    parameters = panel.widget._parameterNode
    nodes = addPatient(patient, "Patient ü") if parameters.t1gdVolume is None else parameters.patient()
    parameters.t1gdVolume, parameters.segmentation = nodes.t1gd, nodes.segmentation
    parameters.flairVolume = nodes.flair
    job = InferJob(nodes, parameters.method(), panel.widget._previousResult())
    [result] = deque(job.collect(folder / "result.json"), maxlen=1)
    panel.widget._showNewResult(result)
    panel.widget._updatePanel()
    process_events()
    return result


@functools.cache
def plans_of(folder, **choices):
    """What the library plans of the result in a folder."""
    return library_plans(folder, **choices)


def library_plans(folder, cavity=None, **choices):
    """What the library plans of the result in a folder, made anew; cavity a boolean array [i, j, k]."""
    result = read_result(folder)
    drawn = None if cavity is None else Volume(cavity, result.density.grid)
    return plan(result, PlanChoices(**choices), cavity=drawn)


def segment_mask(segmentation, segment_id, volume):
    """A segment on the voxels of a volume, boolean [i, j, k]."""
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume).transpose() > 0
