"""Which density an inference shows, what is said of it, and its uncertainty: from Python to files and back."""

import csv
import json
from itertools import islice

import numpy as np
import pytest
from small_world import patient_of_masks, scanner_grid, world_patient, write_patient

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import Method
from TumorQueryLib.cli import main
from TumorQueryLib.cohort import summary_row
from TumorQueryLib.inference import infer
from TumorQueryLib.results.files import UNCERTAINTY_OUTPUTS, read_result

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sure(world):
    return infer(world_patient(), world.method(uncertainty=True, level=0.1))


@pytest.fixture(scope="module")
def folder(sure, tmp_path_factory):
    path = tmp_path_factory.mktemp("sure")
    sure.write(path)
    return path


def test_after_a_refinement_the_assimilated_density_is_shown(refined):
    assert refined.chosen == "assimilated"
    assert refined.model.name in ("refined", "match")
    assert refined.model.parameters
    assert not refined.estimate.parameters
    assert refined.estimate.fit.dice_sum > refined.model.fit.dice_sum
    content = refined.to_json()
    assert content["model"] == refined.model.name
    assert content["estimates"]["assimilated"]["parameters"] == []
    assert content["estimates"][content["model"]]["residual_rms"] == refined.model.residual_rms


def test_what_is_said_of_the_fit_is_the_models(refined):
    row = summary_row("A", refined.to_json())
    assert row["estimate"] == "assimilated"
    assert row["dice_sum"] == refined.model.fit.dice_sum
    assert row["quality"] == refined.model.fit.quality
    assert row["residual_rms"] == refined.model.residual_rms
    assert row["length_p05_mm"] == ""
    # A ball in a layered brain is no tumour of the model, so the warning stands though the density agrees.
    poorly = [warning for warning in refined.warnings if "fits poorly" in warning]
    assert bool(poorly) == (refined.model.fit.quality == "poorly")


@pytest.mark.parametrize(
    ("choices", "chosen", "estimates"),
    [
        ({"refine": "none"}, "match", ["match"]),
        ({"refine": "none", "density": "assimilated"}, "assimilated", ["match", "assimilated"]),
        ({"refine": "none", "uncertainty": True}, "match", ["match", "assimilated"]),
        ({"refine": "atlas", "density": "match"}, "match", ["match", "refined"]),
    ],
)
def test_the_density_is_the_one_that_was_asked_for(world, choices, chosen, estimates):
    result = infer(world_patient(), world.method(refine_solves=4, **{"refine": "patient"} | choices))
    assert result.chosen == chosen
    assert list(result.estimates) == estimates
    assert (result.uncertainty is not None) == ("uncertainty" in choices)
    other = any("the assimilated density (density_assimilated.nrrd)" in said for said in result.warnings)
    assert other == (result.uncertainty is not None and chosen != "assimilated")
    assert result.density is result.estimates[chosen].in_patient


def test_the_refined_density_is_the_better_of_match_and_refinement(world):
    result = infer(world_patient(), world.method(density="refined"))
    best = max(("match", "refined"), key=lambda name: (result.estimates[name].fit.dice_sum, name))
    assert result.chosen == best
    assert "assimilated" not in result.estimates


def test_the_uncertainty_is_of_the_assimilated_density(sure):
    assert sure.uncertainty.density is sure.estimates["assimilated"].in_patient
    assert sure.uncertainty.model == sure.model.name
    assert sure.uncertainty.level == 0.1
    assert sure.timings["uncertainty"] > 0


def test_its_files_are_read_back(sure, folder):
    saved = read_result(folder)
    assert set(UNCERTAINTY_OUTPUTS.values()) <= {path.name for path in folder.iterdir()}
    lower, upper = sure.uncertainty.band(0.9)
    expected = {"sd": sure.uncertainty.sd, "p05": lower, "p95": upper, "probability": sure.uncertainty.probability}
    for name, volume in expected.items():
        np.testing.assert_array_equal(saved.uncertainty_map(name).array, volume.array)
        assert saved.uncertainty_map(name).grid.matches(sure.patient.t1gd.grid)
    np.testing.assert_array_equal(saved.draws.density(3).array, sure.uncertainty.draw().density(3).array)
    assert saved.density_of("assimilated").array.shape == lower.array.shape
    described = json.loads((folder / "result.json").read_text(encoding="utf-8"))["uncertainty"]
    assert described == json.loads(json.dumps(sure.uncertainty.as_json())) == saved.uncertainty
    grid = saved.density.grid
    assert np.array_equal(saved.density_of("assimilated").array > 0.2, saved.whole.array)
    for drawn, again in islice(zip(sure.drawn_densities(grid), saved.drawn_densities(grid)), 2):
        np.testing.assert_array_equal(drawn.array, again.array)
        assert np.array_equal(drawn.array > 0.2, saved.whole.array)
    with pytest.raises(InputError, match="no map 'mean' of the uncertainty; there are sd, p05, p95 and probability"):
        saved.uncertainty_map("mean")


def test_a_file_of_draws_that_was_exchanged_is_noticed(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "density_draws.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"density_draws\.npz .* is not as it was written"):
        _ = read_result(copy).draws


def test_a_result_without_uncertainty_says_so(refined, tmp_path):
    refined.write(tmp_path)
    saved = read_result(tmp_path)
    assert saved.uncertainty is None
    assert not list(saved.drawn_densities(saved.density.grid))
    for ask in (lambda: saved.draws, lambda: saved.uncertainty_map("sd")):
        with pytest.raises(InputError, match="made without uncertainty; run it with --uncertainty"):
            ask()


def test_the_command_line_takes_the_choices_and_says_the_intervals(world, tmp_path, capsys):
    files = write_patient(tmp_path / "patient", world_patient())
    call = ["infer", *(text for name, value in files.items() for text in (f"--{name}", value)), *world.options()]
    assert main([*call, "--uncertainty", "--level", "0.1", "--density", "refined", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "90 % between" in said
    assert "Volume of the assimilated density above 0.1:" in said
    assert "One scan does not tell" in said
    content = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert content["chosen"] == content["model"]
    assert main([*call, "--level", "1.5", "--out", str(tmp_path / "out")]) == 2


def test_a_cohorts_summary_has_the_interval(sure, tmp_path):
    row = summary_row("A", json.loads(json.dumps(sure.to_json())))
    low, high = sure.uncertainty.length_interval()
    assert (row["length_p05_mm"], row["length_p95_mm"]) == (low, high)
    with open(tmp_path / "summary.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(row))
        table.writeheader()
        table.writerow(row)
    assert low < row["infiltration_length_patient_mm"] < high


def test_a_second_lesion_that_the_model_leaves_out_is_named_though_its_outline_is_filled(world):
    grid = scanner_grid()
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    first, second = (np.linalg.norm(points - np.array(c), axis=-1) for c in ((28.0, -2.0, 20.0), (-32.0, -8.0, 4.0)))
    patient = patient_of_masks(first < 9, (first < 17) | (second < 10), grid)
    result = infer(patient, world.method(foci="1"))
    (warning,) = (w for w in result.warnings if "leaves out a part of the segmented tumour" in w)
    assert "fills it up to its outline and knows nothing of what lies beyond" in warning
    assert (result.density.array[second < 6] > 0.2).mean() > 0.9


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"density": "best"}, "no density 'best'; choose one of auto, match, refined, assimilated"),
        ({"density": "refined", "refine": "none"}, "no refined density without a refinement"),
        ({"level": 0}, "level is a density from 0.001 to 0.999, not 0"),
        ({"level": 6e-6}, "level is a density from 0.001 to 0.999, not 6e-06"),
        ({"level": True}, "level is a density from 0.001 to 0.999, not True"),
        ({"level": float("nan")}, "level is a density from 0.001 to 0.999, not nan"),
        ({"uncertainty": "yes"}, "uncertainty is true or false, not 'yes'"),
    ],
)
def test_choices_that_are_none_are_refused(choices, sentence):
    with pytest.raises(InputError, match=sentence):
        Method(**choices)
