"""The study of the starts: searches are told apart, and their way to the answer is counted right."""

import csv

import numpy as np
import pytest

from TumorQueryLib.estimates.search import Solve
from TumorQueryLib.studies.starts import StartsStudy
from TumorQueryLib.studies.starts.study import solves_to_reach


@pytest.mark.parametrize(
    ("scores", "solves"),
    [([1.5], 1), ([1.0, 1.594, 1.596, 1.6], 3), ([1.6, 1.2, 1.604], 1), ([0.1, 0.2, 0.3], 3)],
)
def test_a_search_is_there_once_it_is_within_5_thousandths_of_its_answer(scores, solves):
    path = [Solve(n, score, (0.0, 0.0, 0.0), 1.0, 5.0) for n, score in enumerate(scores)]
    assert solves_to_reach(path) == solves


def row(tumour, starts, dice_sum, mae):
    means = dict.fromkeys(("dice_core", "dice_whole"), dice_sum / 2)
    times = dict.fromkeys(("seconds", "solves", "seconds_to_reach", "solves_to_reach"), 10 * dice_sum)
    kind = "made up" if mae is not None else "patient"
    return {"tumour": tumour, "kind": kind, "starts": starts, "dice_sum": dice_sum, "mae_near": mae, **means, **times}


def test_table_tells_patients_from_made_up_tumours(tmp_path):
    rows = [
        row(0, "all", 1.8, 0.02),
        row(0, "centre", 1.7, 0.03),
        row(1, "all", 1.6, 0.04),
        row(1, "centre", 1.65, 0.04),
        row("A", "all", 1.5, None),
        row("A", "centre", 1.5, None),
    ]
    study = StartsStudy(2)
    summary = study.summarise(rows)["summary"]
    assert [(r["kind"], r["starts"], r["tumours"]) for r in summary] == [
        ("made up", "all", 2),
        ("made up", "centre", 2),
        ("patient", "all", 1),
        ("patient", "centre", 1),
    ]
    assert summary[1]["dice_sum"] == pytest.approx(1.675)
    assert summary[1]["mae_near"] == pytest.approx(0.035)
    assert summary[1]["lowest_change"] == pytest.approx(-0.1)
    assert summary[3]["mae_near"] is None
    conditions = {"random_seed": 0, "mass_effect": False, "outline_error_mm": 0.0, "left_out": {}}
    study.write({"count": 3, **conditions, "summary": summary, "cases": rows}, tmp_path)
    text = (tmp_path / "starts.md").read_text()
    assert "2 made-up tumours of known truth" in text
    assert "| 1 patients | centre alone | 0.750 | 0.750 | 1.500 | +0.000 | - |" in text
    with open(tmp_path / "starts.csv", newline="") as file:
        assert [r["mae_near"] for r in csv.DictReader(file)] == ["0.02", "0.03", "0.04", "0.04", "", ""]


@pytest.mark.slow
def test_a_tumour_is_refined_from_each_kind_of_starts(known):
    rows = StartsStudy(1).measure(known)
    assert [r["starts"] for r in rows] == ["all", "matches", "centre"]
    found = known.way.found("patient").estimate
    # From all starts it is what the pipeline finds.
    assert rows[0]["dice_sum"] == found.fit.dice_sum
    assert rows[0]["length_mm"] == found.infiltration_lengths_mm[0]
    for r in rows:
        assert r["solves"] == 10
        assert 1 <= r["solves_to_reach"] <= 10
        assert r["seconds_to_reach"] == pytest.approx(r["seconds"] * r["solves_to_reach"] / 10)
        assert 0 < r["mae_near"] < 0.2
        assert r["score"] > 1
    assert len({r["length_mm"] for r in rows}) > 1
    assert np.ptp([r["dice_sum"] for r in rows]) < 0.5
