"""The study of the plans: true cells are counted outside masks that are known, and tumours are compared in pairs."""

import csv

import numpy as np
import pytest

from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.studies.known_truth.run import SAMPLE
from TumorQueryLib.studies.known_truth.tables import mean_difference
from TumorQueryLib.studies.plans import PlansStudy
from TumorQueryLib.studies.plans.coverage import PROBABLE, STANDARD, TRUTH, Planned, cells_outside


@pytest.fixture(scope="module")
def planned(ball):
    """The ball's plans by three densities: the true one, one that lies 6 mm aside, one that is flat in the tumour."""
    phantom, distance = ball
    grid, true = phantom.density.grid, phantom.density.array
    tissue = Volume(np.where(phantom.brain, 3, 0).astype(np.uint8), grid)
    seen = phantom.patient.regions_on_t1gd
    aside = np.roll(true, round(6 / grid.spacing[0]), axis=0)
    flat = np.where(seen.whole, 0.5, 0).astype(np.float32)
    densities = {"right": true, "aside": aside, "flat": flat}
    plans = {name: Planned(name, Volume(array, grid), seen, tissue) for name, array in densities.items()}
    rows = cells_outside(plans, phantom.density)
    return phantom, distance, {row["plan"]: row for row in rows}


def test_the_standard_plan_s_share_is_that_of_its_mask(planned):
    phantom, _, rows = planned
    grid, true = phantom.density.grid, phantom.density.array
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    core = points[phantom.patient.core.array]
    near = np.array([np.linalg.norm(core - point, axis=1).min() <= 15 + 1e-6 for point in points[phantom.brain]])
    mask = np.zeros(grid.shape, bool)
    mask[phantom.brain] = near
    assert rows[STANDARD]["volume_ml"] == pytest.approx(mask.sum() * grid.voxel_volume_ml)
    assert rows[STANDARD]["true_outside"] == pytest.approx(1 - true[mask].sum() / true.sum(), abs=1e-6)
    assert rows[STANDARD]["true_outside"] > 0.01
    assert rows[STANDARD]["core_outside"] == 0
    assert rows[STANDARD]["dice_to_standard"] == 1


def test_plans_of_one_volume_leave_the_less_outside_the_nearer_their_density_is_to_the_truth(planned):
    _, _, rows = planned
    assert list(rows) == [STANDARD, "right", "aside", "flat", TRUTH]
    assert len({row["volume_ml"] for row in rows.values()}) == 1
    assert rows["right"]["true_outside"] == rows[TRUTH]["true_outside"] == rows["right"]["modelled_outside"]
    assert rows["aside"]["true_outside"] > rows["right"]["true_outside"] + 0.01
    # It is sure to hold its own cells, and does not know where the others are.
    assert rows["flat"]["modelled_outside"] == 0
    assert rows["flat"]["true_outside"] >= rows["right"]["true_outside"]
    assert all(row["modelled_low"] is None for row in rows.values())


def row(tumour, plan, outside, low=None, high=None):
    return {
        "tumour": tumour,
        "plan": plan,
        "volume_ml": 100.0,
        "true_outside": outside,
        "core_outside": 0.0,
        "dice_to_standard": 0.8,
        "modelled_outside": 0.02,
        "modelled_low": low,
        "modelled_high": high,
    }


ROWS = [
    row(0, STANDARD, 0.10),
    row(0, "refined", 0.04),
    row(0, PROBABLE, 0.03, 0.01, 0.05),
    row(1, STANDARD, 0.02),
    row(1, "refined", 0.03),
    row(1, PROBABLE, 0.06, 0.01, 0.05),
    # In this one nothing could be said of how sure the density is.
    row(2, STANDARD, 0.06),
    row(2, "refined", 0.02),
    row(SAMPLE, STANDARD, 0.5),
    row(SAMPLE, "refined", 0.4),
    row(SAMPLE, PROBABLE, 0.3, 0.2, 0.4),
]


def test_tumours_are_compared_in_pairs_and_the_sample_is_not_among_them():
    standard, refined, probable = PlansStudy(3).summarise(ROWS)["summary"]
    assert (standard["tumours"], refined["tumours"], probable["tumours"]) == (3, 3, 2)
    assert standard["true_outside"] == pytest.approx(0.06)
    assert standard["to_standard"] is standard["better_than_standard"] is None
    assert refined["to_standard"]["value"] == pytest.approx((-0.06 + 0.01 - 0.04) / 3)
    assert (refined["better_than_standard"]["hits"], refined["better_than_standard"]["cases"]) == (2, 3)
    assert probable["to_standard"]["value"] == pytest.approx((-0.07 + 0.04) / 2)
    assert (probable["held"]["hits"], probable["held"]["cases"]) == (1, 2)
    assert (probable["told"]["hits"], probable["told"]["cases"]) == (1, 2)
    assert (refined["held"]["hits"], refined["told"]) == (3, None)
    assert refined["true_outside_highest"] == 0.04


def test_tables_have_the_made_up_tumours_and_the_sample_by_itself(tmp_path):
    conditions = {"random_seed": 0, "mass_effect": False, "outline_error_mm": 0.0, "left_out": {}}
    study = PlansStudy(3)
    study.write({"count": 4, **conditions, **study.summarise(ROWS), "cases": ROWS}, tmp_path)
    text = (tmp_path / "plans.md").read_text(encoding="utf-8")
    assert "3 made-up tumours of known truth, random seed 0" in text
    assert "| core + 15 mm | 3 | 100 | 6.00 | 6.00 | 10.00 | - | - |" in text
    assert "| refined, same volume | 3 | 100 | 3.00 | 3.00 | 4.00 | -3.00 [" in text
    assert "1 of 2 [" in text
    assert "| assimilated, 95 % of the cells with 90 % | 100 | 30.00 | 2.00 (90 %: 20.00 to 40.00) | 0.800 |" in text
    with open(tmp_path / "plans.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [one["tumour"] for one in read] == ["0", "1", "2", SAMPLE]
    assert read[1] | {"standard_ml": "100", "refined_outside": "0.03", "probable_outside": "0.06"} == read[1]
    assert (read[1]["probable_low"], read[1]["probable_high"]) == ("0.01", "0.05")
    assert read[2]["probable_ml"] == read[2]["probable_outside"] == read[0]["match_outside"] == ""


def test_the_bootstrap_s_interval_is_about_that_of_the_normal_distribution():
    values = np.random.default_rng(3).normal(2.0, 0.5, 400)
    found = mean_difference(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert found["value"] == pytest.approx(values.mean())
    assert (found["low"], found["high"]) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert mean_difference([0.25]) == {"value": 0.25, "low": None, "high": None}


@pytest.mark.slow
def test_a_tumour_is_planned_as_the_pipeline_sees_it(known):
    rows = {row["plan"]: row for row in PlansStudy(1).measure(known)}
    assert list(rows) == [STANDARD, "match", "refined", "assimilated", PROBABLE, TRUTH]
    same = [row for name, row in rows.items() if name != PROBABLE]
    assert max(row["volume_ml"] for row in same) == min(row["volume_ml"] for row in same)
    assert min(row["true_outside"] for row in same) == rows[TRUTH]["true_outside"]
    assert all(row["true_outside"] < 0.5 for row in same)
    assert rows["assimilated"]["modelled_low"] < rows["assimilated"]["modelled_high"]
    assert rows["refined"]["modelled_low"] is None
