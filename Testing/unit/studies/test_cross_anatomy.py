"""The made-up patients of the truth experiment are what they are said to be, and errors are counted right."""

import numpy as np
import pytest
from known_tumour import grown_to

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.transforms import map_points
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.studies.cross_anatomy import (
    LEVELS,
    MODES,
    _density_errors,
    describe,
    make_case,
    run_cross_anatomy,
    summarise,
)

THRESHOLDS = (0.6, 0.2)


@pytest.fixture(scope="module")
def anatomy():
    return Atlas.load("MNI152")


@pytest.fixture(scope="module")
def parameters(anatomy):
    """A tumour of 20 ml in deep white matter of MNI152."""
    tissue = Tissue.from_atlas(anatomy)
    white = np.argwhere(anatomy.white_matter > 0.98)
    right = white[anatomy.grid.to_ras(white)[:, 0] > 20]
    seed = tuple(anatomy.grid.to_ras(right[len(right) // 2]))
    moment = grown_to(seed, 2.0, 20.0, tissue)
    return GrowthParameters.from_identifiable(seed, 2.0, moment.rho_t, 0.02)


@pytest.fixture(scope="module")
def case(anatomy, parameters):
    return make_case(anatomy, parameters, THRESHOLDS, random_seed=5)


@pytest.mark.slow
def test_true_map_goes_both_ways(case):
    points = case.density.grid.to_ras(np.argwhere(case.brain)[::4001])
    there = map_points(case.truth.patient_to_atlas, points)
    assert np.linalg.norm(there - points, axis=1).mean() > 5
    back = map_points(case.truth.atlas_to_patient, there)
    assert np.percentile(np.linalg.norm(back - points, axis=1), 95) < 0.2


@pytest.mark.slow
def test_regions_and_images_follow_the_density(case):
    density, patient = case.density.array, case.patient
    assert np.array_equal(patient.core.array, density > 0.6)
    assert np.array_equal(patient.whole.array, density > 0.2)
    for image in (patient.t1, patient.t1gd, patient.flair):
        assert np.array_equal(image.array > 0, case.brain)
    healthy = case.brain & ~patient.whole.array
    oedema = patient.whole.array & ~patient.core.array
    assert patient.flair.array[oedema].mean() > 1.5 * patient.flair.array[healthy].mean()
    assert patient.t1gd.array[patient.core.array].max() > 1.3 * patient.t1.array[patient.core.array].max()


@pytest.mark.slow
def test_mass_effect_makes_room_for_the_tumour(anatomy, parameters, case):
    pushed = make_case(anatomy, parameters, THRESHOLDS, random_seed=5, mass_effect=True)
    assert pushed.patient.whole.array.sum() > 1.2 * case.patient.whole.array.sum()


@pytest.mark.slow
def test_no_error_for_the_true_density_and_the_right_one_for_another(case):
    exact = _density_errors(case.density.array, case)
    assert exact["mae_brain"] == exact["mae_near"] == 0
    assert all(exact[f"dice_{level}"] == 1 for level in LEVELS)
    shifted = np.roll(case.density.array, 2, axis=0)
    errors = _density_errors(shifted, case)
    assert errors["mae_brain"] == pytest.approx(np.abs(shifted - case.density.array)[case.brain].mean())
    assert errors["mae_near"] > errors["mae_brain"]
    assert 0.5 < errors["dice_0.2"] < 1


def test_summary_takes_variants_and_modes_apart():
    names = ["mae_brain", "mae_near", *(f"dice_{level}" for level in LEVELS), "seconds", "seed_error_mm"]
    ratios = ["length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio"]
    rows = [
        {"variant": "pipeline", "mode": mode, **dict.fromkeys(names, value), **dict.fromkeys(ratios, 1 - value)}
        for mode, value in (("none", 0.3), ("none", 0.1), ("patient", 0.02))
    ]
    summary = summarise(rows)
    assert [(row["variant"], row["mode"]) for row in summary] == [("pipeline", "none"), ("pipeline", "patient")]
    assert summary[0]["mae_near"] == pytest.approx(0.2)
    assert summary[0]["rho_t_ratio_error"] == pytest.approx(0.2)
    text = describe({"summary": summary})
    assert "| pipeline | patient | 0.0200 |" in text
    assert MODES == ("none", "atlas", "patient")


def test_experiment_without_tumours_is_refused():
    with pytest.raises(InputError, match="at least one tumour"):
        run_cross_anatomy(0)
