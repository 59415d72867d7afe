"""A result written by hand: what its result.json says, its densities, and its way into a panel."""

import json
from collections import deque

import numpy as np
import slicer
from harness.driving import process_events
from harness.views import write_png

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
    "brain": {"source": "stripped", "volume_ml": 1400.0},
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
    "outputs": {"density": "density.nrrd", "report": "report.png", **OUTPUTS},
    "warnings": ["The core is small."],
}
BRAIN = np.zeros(SHAPE, np.uint8)
BRAIN[2:-2, 3:-3, 4:-4] = 1
PICTURE = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
DENSITIES = {"match": ball(3), "refined": ball(4), "assimilated": ball(4.5)}
LEVEL = 0.1
MAPS = {"sd": 0.33 * ball(6), "p05": ball(3.5), "p95": ball(5.5), "probability": ball(7) ** 2}
UNCERTAINTY = {
    "model": "refined",
    "level": LEVEL,
    "foci": [
        {"infiltration_length_patient_mm": {"p05": 1.96, "p95": 3.14}, "rho_t": {"p05": 9.0, "p95": 13.0}},
        {"infiltration_length_patient_mm": {"p05": 1.0, "p95": 2.25}, "rho_t": {"p05": 5.0, "p95": 9.0}},
    ],
    "volume_above_level_ml": {"density": 21.4, "p05": 17.6, "p95": 48.2},
    "residual_rms": 0.8,
    "sentences": ["Infiltration length of focus 1: 2.5 mm, rho T 11.0."],
}


def with_brain():
    """The content of a result whose brain was extracted."""
    outputs = {**CONTENT["outputs"], "brain": "brain.nrrd"}
    return {**CONTENT, "brain": {"source": "extracted", "volume_ml": 1300.0}, "outputs": outputs}


def with_maps(content):
    """The content of a result whose uncertainty was asked for."""
    outputs = {f"density_{name}": f"density_{name}.nrrd" for name in MAPS}
    return {**content, "uncertainty": UNCERTAINTY, "outputs": {**content["outputs"], **outputs}}


def assimilated():
    """The content of a result whose refined density was corrected to agree with the segmentation."""
    estimates = {
        **CONTENT["estimates"],
        "refined": {**CONTENT["estimates"]["refined"], "density": "density_refined.nrrd"},
        "assimilated": estimate("density.nrrd", 0.99, 0.98),
    }
    return {**CONTENT, "estimates": estimates, "chosen": "assimilated", "model": "refined", "uncertainty": None}


def write_volume(array, path):
    from TumorQueryModule.PatientNodes import writeVolume

    volume = slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(volume, array)
    writeVolume(volume, path)


def taker(panel, folder):
    """A function that loads a result as the panel does at the end of a run, and gives its nodes."""
    from TumorQueryModule.Jobs import InferJob
    from TumorQueryModule.ResultNodes import writeTransform

    parameters = panel.widget._parameterNode
    t1gd = slicer.util.addVolumeFromArray(np.ones(SHAPE, np.float32), name="T1Gd")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumor")
    segmentation.GetSegmentation().AddEmptySegment("core", "core")
    slicer.util.updateSegmentBinaryLabelmapFromArray((ball(3) > 0.6).astype(np.uint8), segmentation, "core", t1gd)
    t1gd.CreateDefaultDisplayNodes()
    parameters.t1gdVolume, parameters.segmentation = t1gd, segmentation
    transform = slicer.vtkMRMLLinearTransformNode()

    def take(content, brain=BRAIN):
        for name, told in content["estimates"].items():
            write_volume(DENSITIES[name], folder / told["density"])
        for name, array in MAPS.items():
            if f"density_{name}" in content["outputs"]:
                write_volume(array, folder / f"density_{name}.nrrd")
        if "brain" in content["outputs"]:
            write_volume(brain, folder / "brain.nrrd")
        write_png(folder / "report.png", PICTURE)
        for file in OUTPUTS.values():
            writeTransform(transform, folder / file)
        (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
        job = InferJob(parameters.patient(), parameters.method(), parameters.result())
        [nodes] = deque(job.collect(folder / "result.json"), maxlen=1)
        panel.widget._showNewResult(nodes)
        panel.widget._updatePanel()
        process_events()
        return nodes

    return take
