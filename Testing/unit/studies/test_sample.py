"""The sample case is what it says it is."""

import json

import numpy as np
import pytest

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.resources import resources_folder
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.studies.sample import density_agreement, load_truth, sample_files


@pytest.fixture(scope="module")
def sample() -> Patient:
    return Patient.load(**sample_files())


def test_the_sample_is_a_sound_patient_with_headers_of_its_own(sample):
    assert sample.warnings == ()
    assert not sample.flair.grid.matches(sample.t1gd.grid)
    for volume in (sample.t1gd, sample.flair):
        directions = volume.grid.affine[:3, :3] / volume.grid.spacing
        assert np.abs(np.abs(directions) - np.eye(3)).max() > 0.1, "oblique"
        assert directions[0, 0] < 0, "not RAS"
        assert volume.grid.spacing.max() > 1.2 * volume.grid.spacing.min(), "anisotropic"
    assert 60 < sample.whole.array.sum() * sample.whole.grid.voxel_volume_ml < 120


def test_the_segmentation_is_nearly_that_of_the_true_density(sample):
    truth = load_truth()
    assert truth.density.grid.matches(sample.t1gd.grid)
    assert 0 <= truth.density.array.min() <= truth.density.array.max() <= 1
    for mask, threshold in ((sample.core, 0.6), (sample.whole, 0.2)):
        above = truth.density.array > threshold
        overlap = 2 * (above & mask.array).sum() / (above.sum() + mask.array.sum())
        # A reader's line, not the threshold's.
        assert 0.93 < overlap < 0.995


def test_the_seed_lies_where_the_tumour_is_densest(sample):
    truth = load_truth()
    grid = truth.density.grid
    at_seed = truth.density.array[tuple(np.rint(grid.to_index(truth.seed_patient_mm)).astype(int))]
    assert at_seed > 0.9 * truth.density.array.max()


def test_the_stated_parameters_grow_a_tumour_of_that_size():
    """In the atlas it is smaller than in the patient by the cube of the stated length scale."""
    about = json.loads((resources_folder() / "SampleData" / "sample.json").read_text(encoding="utf-8"))
    grown = about["grown_in"]
    atlas = Atlas.load(grown["atlas"])
    assert atlas.sha256 == grown["atlas_sha256"]
    parameters = GrowthParameters(
        seed=tuple(grown["seed_mm"]),
        diffusivity=grown["diffusivity_mm2_per_day"],
        proliferation=grown["proliferation_per_day"],
        duration=grown["duration_days"],
    )
    truth = load_truth()
    assert parameters.rho_t == pytest.approx(truth.rho_t, rel=1e-3)
    scale = truth.infiltration_length_patient_mm / parameters.infiltration_length
    density = simulate(parameters, atlas)
    for level in (0.2, 0.6):
        in_atlas = (density > level).sum() * atlas.grid.voxel_volume_ml
        in_patient = (truth.density.array > level).sum() * truth.density.grid.voxel_volume_ml
        assert in_patient == pytest.approx(in_atlas * scale**3, rel=0.05)


def test_contrast_is_that_of_a_glioblastoma(sample):
    """Rim brighter and necrosis darker than white matter in T1Gd, oedema bright and fluid dark in FLAIR."""
    from TumorQueryLib.geometry.grid import resample, resample_mask

    brain = sample.t1gd.array > 0
    healthy = np.percentile(sample.t1gd.array[brain & ~sample.whole.array], [5, 50])
    core = sample.t1gd.array[sample.core.array]
    assert np.percentile(core, 80) > 1.3 * healthy[1] > healthy[1] > np.percentile(core, 15)
    flair = resample(sample.flair, sample.t1gd.grid).array
    oedema = sample.whole.array & ~sample.core.array
    inner = resample_mask(sample.whole, sample.t1gd.grid).array & oedema
    assert np.median(flair[inner]) > 1.5 * np.median(flair[brain & ~sample.whole.array])


def test_the_sample_is_small_and_carries_its_licence():
    folder = resources_folder() / "SampleData"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    about = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
    assert "ICBM" in about["attribution"]
    assert "Copyright (C) 1993-2009 Louis Collins" in (folder / "NOTICE.txt").read_text()
    assert set(about["files"]) == {path.name for path in folder.iterdir()} - {"sample.json", "NOTICE.txt", "SHA256SUMS"}


def test_agreement_of_densities():
    truth = np.array([0.0, 0.3, 0.7, 1.0, 0.0])
    brain = np.array([True, True, True, True, False])
    same = density_agreement(truth, truth, brain)
    assert same["mean_absolute_error_brain"] == 0
    assert all(same[f"dice_{level}"] == 1 for level in (0.2, 0.4, 0.6, 0.8))
    other = density_agreement(np.array([0.0, 0.5, 0.5, 1.0, 0.0]), truth, brain)
    assert other["mean_absolute_error_brain"] == pytest.approx(0.1)
    assert other["mean_absolute_error_tumour"] == pytest.approx(0.4 / 3)
    assert other["dice_0.2"] == 1
    assert other["dice_0.4"] == pytest.approx(0.8)
    assert other["dice_0.6"] == pytest.approx(2 / 3)
