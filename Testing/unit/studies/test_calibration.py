"""Coverage is counted as it is defined, and bands of a known error hold what they promise."""

import csv
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import special, stats

from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.studies.calibration.coverage import CONFIDENCES, band_coverage, coverage_of
from TumorQueryLib.studies.calibration.study import Calibration
from TumorQueryLib.studies.calibration.tables import as_markdown, draw, summarise

RANDOM = 11


@dataclass(frozen=True)
class NormalBands:
    """An uncertainty whose log-odds are normal about a mean, as are the logarithms of length and rho T."""

    log_odds: np.ndarray
    grid: object
    deviation: float
    length: float
    rho_t: float
    residual_rms: float = 0.7

    def band(self, confidence):
        width = self.deviation * stats.norm.ppf(0.5 + confidence / 2)
        return tuple(
            Volume(special.expit(self.log_odds + sign * width).astype(np.float32), self.grid) for sign in (-1, 1)
        )

    def length_interval(self, confidence, focus=0):
        return self._around(self.length, confidence)

    def rho_t_interval(self, confidence, focus=0):
        return self._around(self.rho_t, confidence)

    def _around(self, value, confidence):
        factor = np.exp(0.2 * stats.norm.ppf(0.5 + confidence / 2))
        return value / factor, value * factor


def bands_around(phantom, deviation, error, factor=1.0):
    """Bands of a deviation about the true density with a normal error in its log-odds."""
    noise = np.random.default_rng(RANDOM).normal(0, error, phantom.density.grid.shape)
    log_odds = special.logit(np.clip(phantom.density.array.astype(float), 1e-4, 1 - 1e-4)) + noise
    length, rho_t = factor * phantom.infiltration_length, factor * phantom.parameters.rho_t
    return NormalBands(log_odds, phantom.density.grid, deviation, length, rho_t)


def test_bands_of_the_true_width_hold_what_they_promise(ball):
    phantom, _ = ball
    rows = coverage_of(bands_around(phantom, 0.4, 0.4), phantom)
    assert [row["confidence"] for row in rows] == list(CONFIDENCES)
    for row in rows:
        # Some 400 voxels: two standard errors; the tolerance of .002 adds a little.
        assert row["confidence"] - 0.04 < row["coverage_inside"] < row["confidence"] + 0.05
    widths = [row["width"] for row in rows]
    assert widths == sorted(widths)
    too_narrow = coverage_of(bands_around(phantom, 0.1, 0.4), phantom)
    assert too_narrow[2]["coverage_inside"] < 0.4


def test_coverage_is_counted_where_truth_or_band_have_density_near_the_tumour(ball):
    phantom, distance = ball
    true, whole = phantom.density.array, phantom.patient.whole.array
    missed = (distance > 5) & (distance < 8)
    lower, upper = true - 0.05, np.where(missed, true - 0.01, true + 0.05)
    nothing = true <= 0.01
    upper[nothing] = 0
    figures = band_coverage(lower, upper, phantom)
    counted = phantom.near & ~nothing
    assert figures["coverage"] == pytest.approx(1 - missed.sum() / counted.sum())
    assert figures["coverage_inside"] == pytest.approx(1 - missed.sum() / (whole & counted).sum())
    assert figures["coverage_outside"] == 1
    assert figures["above"] == pytest.approx(missed.sum() / counted.sum())
    assert figures["below"] == 0
    assert figures["width_outside"] == pytest.approx(0.1, abs=1e-6)
    # A band that reaches where there is nothing counts there, and a truth within .002 of it is held.
    everywhere = band_coverage(np.where(nothing, 0.0015, lower), np.maximum(upper, 0.02), phantom)
    assert everywhere["coverage_outside"] == 1
    assert everywhere["width_outside"] < 0.1
    above_all = band_coverage(np.full_like(true, 0.9), np.full_like(true, 1.0), phantom)
    assert above_all["below"] > 0.9


def test_intervals_hold_the_true_length_in_the_patient_and_rho_t(ball):
    phantom, _ = ball
    # A factor of 1.3 is 1.31 standard deviations of the intervals' logarithm.
    rows = coverage_of(bands_around(phantom, 0.4, 0.4, factor=1.3), phantom)
    assert [row["length_held"] for row in rows] == [row["rho_t_held"] for row in rows] == [False, False, True, True]
    assert rows[0]["length_true"] == pytest.approx(np.sqrt(0.1 / 0.01))
    assert rows[0]["rho_t_true"] == pytest.approx(1.0)
    assert rows[2]["length_half_width"] == pytest.approx(np.tanh(0.2 * stats.norm.ppf(0.95)))


@pytest.fixture(scope="module")
def result(ball):
    phantom, _ = ball
    tumours = [bands_around(phantom, 0.4, 0.4), bands_around(phantom, 0.1, 0.4), bands_around(phantom, 0.4, 0.4, 3.0)]
    rows = [{"tumour": n, **row} for n, bands in enumerate(tumours) for row in coverage_of(bands, phantom)]
    rows = [{**row, "seconds": 1.0} for row in rows]
    conditions = {"random_seed": 0, "mass_effect": False, "outline_error_mm": 0.0, "left_out": {}}
    return {"count": 3, **conditions, "summary": summarise(rows), "cases": rows}


def test_summary_counts_tumours(result):
    by_confidence = {row["confidence"]: row for row in result["summary"]}
    at_90 = [row for row in result["cases"] if row["confidence"] == 0.9]
    assert by_confidence[0.9]["coverage"] == pytest.approx(np.mean([row["coverage"] for row in at_90]))
    assert by_confidence[0.9]["coverage_lowest"] == at_90[1]["coverage"]
    calibrated = sum(0.80 <= row["coverage"] <= 0.97 for row in at_90)
    assert (by_confidence[0.9]["calibrated"]["hits"], by_confidence[0.9]["calibrated"]["cases"]) == (calibrated, 3)
    assert by_confidence[0.5]["calibrated"] is None
    assert by_confidence[0.9]["length_held"]["hits"] == by_confidence[0.95]["rho_t_held"]["hits"] == 2


@pytest.mark.slow
def test_the_studys_files_are_written(result, tmp_path):
    study = Calibration(3)
    assert study.summarise(result["cases"]) == {"summary": result["summary"]}
    study.write(result, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"calibration.{end}" for end in ("csv", "md", "png")]
    with open(tmp_path / "calibration.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["confidence"] for row in read] == 3 * [str(confidence) for confidence in CONFIDENCES]
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "calibration.md").read_text()
    assert "3 made-up tumours of known truth, random seed 0, without mass effect, outlines exact." in text
    assert "| 90 % |" in text
    assert "2 of 3 [21, 94 %]" in text
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_a_tumour_without_a_voxel_in_a_part_has_no_coverage_there(ball, tmp_path):
    phantom, _ = ball
    alone = replace(phantom, brain=phantom.patient.whole.array & phantom.brain)
    rows = [{"tumour": 0, **row} for row in coverage_of(bands_around(alone, 0.4, 0.4), alone)]
    assert all(row["coverage_outside"] is None for row in rows)
    conditions = {"random_seed": 0, "mass_effect": False, "outline_error_mm": 0.0, "left_out": {}}
    result = {"count": 1, **conditions, "summary": summarise(rows), "cases": rows}
    assert result["summary"][0]["width_outside"] is None
    assert "| - |" in as_markdown(result)
    draw(result, tmp_path / "one.png")


@pytest.mark.slow
def test_a_tumours_own_uncertainty_is_measured(known):
    rows = Calibration(1).measure(known)
    assert [row["confidence"] for row in rows] == list(CONFIDENCES)
    widths = [row["width"] for row in rows]
    assert widths == sorted(widths)
    assert widths[0] > 0.005
    assert 0.6 < rows[2]["coverage"] <= 1
    assert rows[2]["length_low"] < rows[2]["length_high"]
    assert rows[2]["seconds"] > 0
