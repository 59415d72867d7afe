"""Whoever shows a figure shows the chosen estimate's: report, summary, command line, demo, result.json."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up_results import MATCHED, REFINED, made_up_result

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.own import OwnTissue
from TumorQueryLib.anatomy.tissue_maps import TissueMaps
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.cli import print_summary
from TumorQueryLib.cohort import SUMMARY_COLUMNS, summary_row
from TumorQueryLib.estimates.sensitivity import SensitivityRow
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.studies.sample import compare_with_truth, load_truth, sample_files

PARAMETERS = {"match": MATCHED, "refined": REFINED}


@pytest.fixture(scope="module", params=["refined", "match"])
def result(request, synthetic_patient):
    return made_up_result(synthetic_patient(), chosen=request.param, warnings=["Mind the gap.", "And the step."])


def counted(result):
    """Dice of core and whole tumour and predicted ml, of the density that is shown, counted here."""
    dices, volumes = [], []
    for seen, threshold in ((result.patient.core, 0.6), (result.patient.whole, 0.2)):
        found = result.density.array > threshold
        dices.append(2 * (found & seen.array).sum() / (found.sum() + seen.array.sum()))
        volumes.append(found.sum() * seen.grid.voxel_volume_ml)
    return dices, volumes


def test_the_two_estimates_differ_in_every_figure(result):
    """Else the tests below could not tell one from the other."""
    match, refined = (result.estimates[name] for name in ("match", "refined"))
    for figure in ("dice_core", "dice_whole", "dice_sum"):
        assert abs(getattr(match.fit, figure) - getattr(refined.fit, figure)) > 0.01
    assert np.abs(np.subtract(match.fit.predicted_ml, refined.fit.predicted_ml)).min() > 0.5


def test_density_and_masks_are_the_chosen_ones(result):
    np.testing.assert_array_equal(result.density.array, result.estimates[result.chosen].in_patient.array)
    np.testing.assert_array_equal(result.core.array, result.density.array > 0.6)
    np.testing.assert_array_equal(result.whole.array, result.density.array > 0.2)


def test_result_json_names_the_chosen_estimate(result):
    content = result.to_json()
    assert content["version"] == 2
    assert content["chosen"] == result.chosen
    assert set(content["estimates"]) == {"match", "refined"}
    shown = content["estimates"][content["chosen"]]
    (dice_core, dice_whole), (core_ml, whole_ml) = counted(result)
    assert shown["density"] == content["outputs"]["density"] == "density.nrrd"
    assert shown["fit"]["dice_core"] == pytest.approx(dice_core)
    assert shown["fit"]["dice_whole"] == pytest.approx(dice_whole)
    assert shown["fit"]["dice_sum"] == pytest.approx(dice_core + dice_whole)
    assert shown["fit"]["predicted_ml"] == pytest.approx({"core": core_ml, "whole": whole_ml})
    (found,) = shown["parameters"]
    expected = PARAMETERS[result.chosen]
    assert found["seed_mm"] == list(expected.seed)
    assert found["infiltration_length_mm"] == pytest.approx(expected.infiltration_length)
    assert found["rho_t"] == pytest.approx(expected.rho_t)
    assert content["warnings"] == ["Mind the gap.", "And the step."]
    for asked_for in ("alignment", "tissue", "sensitivity", "uncertainty", "plan"):
        assert content[asked_for] is None


def test_own_tissue_and_sensitivity_are_described_where_they_were_asked_for(synthetic_patient):
    usual = made_up_result(synthetic_patient())
    grid = usual.estimate.anatomy.grid
    maps = TissueMaps(*(np.zeros(grid.shape, np.float32) for _ in range(3)), grid)
    own = OwnTissue(maps, "t1", (300.0, 220.5, 90.25), (500.04, 600.0, 250.0), (0.8, 0.7, 0.5))
    refined = usual.estimates["refined"]
    refined = replace(refined, anatomy=replace(refined.anatomy, origin=own))
    row = SensitivityRow("grey matter 3 times slower", (2.5,), (13.0,), 5.0, 20.0, 40.0, 0.05, 1.5)
    content = replace(usual, estimates=usual.estimates | {"refined": refined}, sensitivity=(row,)).to_json()
    assert content["tissue"] == {
        "source": "own",
        "image": "t1",
        "class_means": {"white_matter": 300.0, "grey_matter": 220.5, "csf": 90.25},
        "volumes_ml": {"white_matter": 500.0, "grey_matter": 600.0, "csf": 250.0},
        "overlap_with_atlas": {"white_matter": 0.8, "grey_matter": 0.7, "csf": 0.5},
    }
    (described,) = content["sensitivity"]
    assert described["assumption"] == "grey matter 3 times slower"
    assert described["volumes_ml"] == {"core": 5.0, "whole": 20.0, "above_level": 40.0}
    json.dumps(content)


def test_the_summary_of_a_cohort_is_the_chosen_estimates(result):
    row = summary_row("A", result.to_json())
    assert set(row) == set(SUMMARY_COLUMNS)
    (dice_core, dice_whole), _ = counted(result)
    assert row["estimate"] == result.chosen
    assert row["quality"] == result.estimate.fit.quality
    assert row["dice_core"] == pytest.approx(dice_core)
    assert row["dice_whole"] == pytest.approx(dice_whole)
    assert row["dice_sum"] == pytest.approx(dice_core + dice_whole)
    assert row["infiltration_length_patient_mm"] == pytest.approx(PARAMETERS[result.chosen].infiltration_length)
    assert row["rho_t"] == pytest.approx(PARAMETERS[result.chosen].rho_t)
    assert (row["entry"], row["match_dice_sum"]) == (3, 1.25)
    assert row["warnings"] == "Mind the gap. And the step."
    assert row["seconds"] == 1.5


def test_the_command_line_prints_the_chosen_estimates(result, tmp_path, capsys):
    print_summary(result, tmp_path)
    said = capsys.readouterr().out
    (shown,) = (line for line in said.splitlines() if line.startswith("Density shown"))
    (dice_core, dice_whole), _ = counted(result)
    expected = PARAMETERS[result.chosen]
    assert f"Density shown: {result.chosen}, Dice core {dice_core:.3f} + whole {dice_whole:.3f}" in shown
    assert f"infiltration length {expected.infiltration_length:.2f} mm, rho T {expected.rho_t:.1f}." in shown
    assert "Warning: Mind the gap." in said
    assert "Best match: entry 3 of 5,000" in said
    assert "Refined in the patient's anatomy in 3 solves (budget)." in said
    assert str(tmp_path / "result.json") in said


@pytest.fixture(scope="module")
def sample_result():
    return made_up_result(Patient.load(**sample_files()))


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["refined", "match"])
def test_the_demo_compares_the_chosen_estimate_with_the_truth(sample_result, chosen):
    import dataclasses

    result = dataclasses.replace(sample_result, chosen=chosen)
    said = compare_with_truth(result)
    truth, expected = load_truth(), PARAMETERS[chosen]
    error = np.abs(result.estimates[chosen].in_patient.array - truth.density.array)[result.patient.t1gd.array > 0]
    distance = np.linalg.norm(np.subtract(expected.seed, truth.seed_patient_mm))
    assert f"{error.mean():.4f} in the brain" in said[0]
    assert said[2] == f"seed: {distance:.1f} mm from the true one"
    assert said[3].startswith(f"infiltration length: {expected.infiltration_length:.2f} mm,")
    assert said[4].startswith(f"rho T: {expected.rho_t:.2f},")


@pytest.mark.slow
def test_the_demo_compares_on_the_sample_s_own_grid(sample_result):
    """In a painted head the images are larger; the figures are those of the sample all the same."""
    import dataclasses

    image = sample_result.patient.t1gd
    grown = image.grid.cropped((-4, -7, -3), np.add(image.grid.shape, (5, 2, 6)))
    larger = Volume(np.pad(image.array, ((4, 5), (7, 2), (3, 6))), grown)
    patient = dataclasses.replace(sample_result.patient, t1gd=larger)
    assert compare_with_truth(made_up_result(patient)) == compare_with_truth(sample_result)
    moved = dataclasses.replace(
        patient, t1gd=Volume(larger.array, grown.cropped((9, 0, 0), np.add(grown.shape, (9, 0, 0))))
    )
    with pytest.raises(InputError, match="not of the sample case"):
        compare_with_truth(made_up_result(moved))


def test_lengths_of_the_atlas_are_scaled_to_the_patient(synthetic_patient):
    import dataclasses

    result = made_up_result(synthetic_patient(), chosen="match")
    match = result.estimates["match"]
    wider = dataclasses.replace(match.anatomy, length_scale=1.25)
    assert isinstance(wider, Anatomy)
    scaled = dataclasses.replace(match, anatomy=wider)
    result = dataclasses.replace(result, estimates=result.estimates | {"match": scaled})
    assert result.estimate.infiltration_lengths_mm == pytest.approx((2.5,))
    assert summary_row("A", result.to_json())["infiltration_length_patient_mm"] == pytest.approx(2.5)
    planned = result.to_json() | {"warnings": ["Of the run."], "plan": {"warnings": ["Of the plans."]}}
    assert summary_row("A", planned)["warnings"] == "Of the run. Of the plans."
    (found,) = result.to_json()["estimates"]["match"]["parameters"]
    assert found["infiltration_length_mm"] == pytest.approx(2.0)
