"""The experiment in another anatomy: errors are counted right, and a refinement's density is the one that is judged."""

import csv

import numpy as np
import pytest
from scipy.spatial import KDTree

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.cross_anatomy.experiment import CrossAnatomy
from TumorQueryLib.studies.cross_anatomy.tables import as_markdown, draw, summarise
from TumorQueryLib.studies.known_truth.tables import write_rows

LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8)


def test_the_true_density_has_no_error(ball):
    phantom, _ = ball
    errors = density_errors(phantom.density.array, phantom)
    assert errors["mae_brain"] == errors["mae_near"] == errors["mae_inside"] == errors["mae_outside"] == 0
    assert all(errors[f"dice_{level}"] == 1 for level in LEVELS)
    assert errors["volume_whole_ratio"] == errors["volume_core_ratio"] == 1


def test_volumes_are_counted_above_the_thresholds(ball):
    phantom, distance = ball
    smaller = np.where(distance < 12, phantom.density.array, 0)
    errors = density_errors(smaller, phantom)
    whole = phantom.patient.whole.array
    assert errors["volume_whole_ratio"] == pytest.approx((whole & (distance < 12)).sum() / whole.sum())
    assert errors["volume_core_ratio"] == 1
    assert errors["dice_0.6"] == 1
    assert errors["dice_0.2"] < 0.5


def test_near_the_tumour_means_within_20_mm_of_it(ball):
    phantom, distance = ball
    grid = phantom.density.grid
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    away, _ = KDTree(points[phantom.patient.whole.array]).query(points)
    near = phantom.brain & (away <= 20)
    for ring in ((24, 32), (30, 50), (60, 70)):
        wrong = phantom.brain & (distance > ring[0]) & (distance < ring[1])
        errors = density_errors(phantom.density.array + np.float32(0.1) * wrong, phantom)
        assert errors["mae_brain"] == pytest.approx(0.1 * wrong.sum() / phantom.brain.sum(), rel=1e-4)
        assert errors["mae_near"] == pytest.approx(0.1 * (wrong & near).sum() / near.sum(), rel=1e-4)


def test_errors_inside_and_outside_are_parts_of_those_near_the_tumour(ball):
    phantom, distance = ball
    whole = phantom.patient.whole.array
    errors = density_errors(phantom.density.array + np.where(whole, 0.3, 0.1).astype(np.float32), phantom)
    assert (errors["mae_inside"], errors["mae_outside"]) == pytest.approx((0.3, 0.1), rel=1e-4)
    inside = (whole & phantom.brain).sum() / phantom.near.sum()
    assert errors["mae_near"] == pytest.approx(0.3 * inside + 0.1 * (1 - inside), rel=1e-4)
    far_away = np.where(distance > 45, 0.5, 0).astype(np.float32)
    assert density_errors(phantom.density.array + far_away, phantom)["mae_outside"] == 0


def rows_of(values, mode="none"):
    maes = ["mae_brain", "mae_near", "mae_inside", "mae_outside"]
    means = [*maes, *(f"dice_{level}" for level in LEVELS), "seconds", "seed_error_mm"]
    means += ["drawn_dice_core", "drawn_dice_whole"]
    ratios = ["length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio"]
    return [
        {
            "tumour": number,
            "variant": "pipeline",
            "mode": mode,
            **dict.fromkeys(means, value),
            **dict.fromkeys(ratios, 1 - value),
        }
        for number, value in enumerate(values)
    ]


def result_of(rows):
    conditions = {"random_seed": 4, "mass_effect": True, "outline_error_mm": 2.0, "left_out": {"7": "no brain"}}
    return {"count": 3, **conditions, "summary": summarise(rows), "cases": rows}


def test_summary_has_means_of_errors_and_medians_of_ratios():
    summary = summarise(rows_of((0.6, 0.1, 0.2)) + rows_of((0.02,), "patient"))
    assert [(row["variant"], row["mode"]) for row in summary] == [("pipeline", "none"), ("pipeline", "patient")]
    for name in ("mae_brain", "mae_near", "dice_0.2", "seconds"):
        assert summary[0][name] == pytest.approx(0.3)
    assert summary[0]["seed_error_mm"] == pytest.approx(0.2)
    for name in ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio"):
        assert summary[0][f"{name}_error"] == pytest.approx(0.2)


def test_each_row_is_compared_with_the_refinement_of_the_same_tumour():
    rows = rows_of((0.2, 0.2, 0.2), "patient") + rows_of((0.1, 0.3, 0.15), "assimilated")
    refined, assimilated = summarise(rows)
    assert refined["better"] is None
    # Wilson's interval of 2 of 3.
    assert assimilated["better"] == pytest.approx(
        {"hits": 2, "cases": 3, "value": 66.67, "low": 20.77, "high": 93.85}, abs=0.01
    )
    assert summarise(rows_of((0.1,)))[0]["better"] is None


def test_the_table_says_under_which_conditions_it_was_made():
    text = as_markdown(result_of(rows_of((0.02,), "patient") + rows_of((0.01,), "assimilated")))
    assert "3 made-up tumours of known truth, random seed 4, with mass effect" in text
    assert "an error of 2 mm" in text
    assert "Left out: 7 (no brain)" in text
    assert "| pipeline | patient | 0.0200 | 0.0200 | 0.0200 | 0.0200 | - |" in text
    assert "| 1 of 1 [21, 100 %] |" in text


def test_rows_are_written_and_drawn(tmp_path):
    rows = rows_of((0.5, 0.25)) + rows_of((0.125,), "atlas")
    write_rows(rows, tmp_path / "rows.csv")
    with open(tmp_path / "rows.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["mae_near"]) for row in read] == [0.5, 0.25, 0.125]
    draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_every_plan_is_measured_by_the_density_that_it_chose(known):
    rows = CrossAnatomy(1).measure(known)
    by_plan = {(row["variant"], row["mode"]): row for row in rows}
    modes = {
        "pipeline": ("none", "atlas", "patient", "assimilated"),
        "own tissue": ("patient", "assimilated"),
        "clean registration": ("none", "atlas", "patient"),
        "true tissue maps": ("patient",),
    }
    assert list(by_plan) == [(variant, mode) for variant, of_it in modes.items() for mode in of_it]
    for variant in ("pipeline", "own tissue", "clean registration"):
        match = by_plan["pipeline" if variant == "own tissue" else variant, "none"]
        refined = by_plan[variant, "patient"]
        assert refined["mae_near"] < 0.9 * match["mae_near"]
        assert refined["dice_0.2"] > match["dice_0.2"]
        assert refined["rho_t_ratio"] != match["rho_t_ratio"]
    true_maps = by_plan["true tissue maps", "patient"]
    assert true_maps["mae_near"] < by_plan["pipeline", "none"]["mae_near"]
    assert true_maps["seed_error_mm"] < 5
    assert 0.7 < true_maps["length_ratio"] < 1.4
    refined, assimilated = (by_plan["pipeline", mode] for mode in ("patient", "assimilated"))
    assert assimilated["mae_inside"] < refined["mae_inside"]
    # A density without parameters has the errors of the model that it was made of.
    assert assimilated["length_ratio"] == refined["length_ratio"]
    assert assimilated["seconds"] > refined["seconds"]
    assert (refined["drawn_dice_core"], refined["drawn_dice_whole"]) == (1, 1)
    assert by_plan["own tissue", "patient"]["mae_near"] != refined["mae_near"]
    of_the_pipeline = CrossAnatomy(1, "pipeline").measure(known)
    assert of_the_pipeline == [row for row in rows if row["variant"] in ("pipeline", "own tissue")]


def test_unknown_variants_are_refused():
    with pytest.raises(InputError, match="all, pipeline"):
        CrossAnatomy(1, variants="none")
