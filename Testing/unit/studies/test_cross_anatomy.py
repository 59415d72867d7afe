"""The experiment in another anatomy: errors are counted right, and a refinement's density is the one that is judged."""

import csv

import numpy as np
import pytest
from scipy.spatial import KDTree

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import Method
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.geometry.grid import Volume
from TumorQueryLib.geometry.transforms import SpaceMap, identity_transform
from TumorQueryLib.growth import GrowthParameters
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import register
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.studies.cross_anatomy import experiment
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.cross_anatomy.experiment import VARIANTS, Setting, measure_case, run_cross_anatomy
from TumorQueryLib.studies.cross_anatomy.tables import as_markdown, draw, summarise, write_rows
from TumorQueryLib.studies.phantom import Phantom, synthetic_volumes

LEVELS = (0.05, 0.2, 0.4, 0.6, 0.8)


@pytest.fixture(scope="module")
def ball():
    """A phantom whose density falls from 1 at its centre by 0.04 a mm, and every voxel's distance from there."""
    volumes = synthetic_volumes(core_radius=10.0, whole_radius=20.0)
    grid = volumes["t1gd"].grid
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points - (20.0, 10.0, 5.0), axis=-1)
    brain = volumes["t1gd"].array > 0
    density = np.where(brain, np.clip(1 - 0.04 * distance, 0, 1), 0).astype(np.float32)
    space = SpaceMap(identity_transform(), identity_transform())
    parameters = GrowthParameters((20.0, 10.0, 5.0), 0.1, 0.01, 100.0)
    phantom = Phantom(Patient(**volumes), parameters, Volume(density, grid), brain, space, (0.6, 0.2))
    return phantom, distance


def test_the_true_density_has_no_error(ball):
    phantom, _ = ball
    errors = density_errors(phantom.density.array, phantom)
    assert errors["mae_brain"] == errors["mae_near"] == 0
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


def rows_of(values, mode="none"):
    means = ["mae_brain", "mae_near", *(f"dice_{level}" for level in LEVELS), "seconds", "seed_error_mm"]
    ratios = ["length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio"]
    return [
        {"variant": "pipeline", "mode": mode, **dict.fromkeys(means, value), **dict.fromkeys(ratios, 1 - value)}
        for value in values
    ]


def test_summary_has_means_of_errors_and_medians_of_ratios():
    summary = summarise(rows_of((0.6, 0.1, 0.2)) + rows_of((0.02,), "patient"))
    assert [(row["variant"], row["mode"]) for row in summary] == [("pipeline", "none"), ("pipeline", "patient")]
    for name in ("mae_brain", "mae_near", "dice_0.2", "seconds"):
        assert summary[0][name] == pytest.approx(0.3)
    assert summary[0]["seed_error_mm"] == pytest.approx(0.2)
    for name in ("length_ratio", "rho_t_ratio", "volume_whole_ratio", "volume_core_ratio"):
        assert summary[0][f"{name}_error"] == pytest.approx(0.2)
    assert "| pipeline | patient | 0.0200 |" in as_markdown({"summary": summary})


def test_rows_are_written_and_drawn(tmp_path):
    rows = rows_of((0.5, 0.25)) + rows_of((0.125,), "atlas")
    write_rows(rows, tmp_path / "rows.csv")
    with open(tmp_path / "rows.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["mae_near"]) for row in read] == [0.5, 0.25, 0.125]
    draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_every_plan_is_measured_by_the_density_that_it_chose(grown, monkeypatch):
    modes = ("none", "patient")
    monkeypatch.setattr(experiment, "MODES", modes)
    anatomy, atlas = Atlas.load("MNI152"), Atlas.load("SRI24")
    with TumorDatabase.open("starter") as database:
        setting = Setting(
            anatomy,
            atlas,
            database,
            create_strategy("direct", database),
            register(anatomy.t1, atlas, "affine"),
            Method(registration="affine", refine_solves=10),
        )
        rows = measure_case(grown, setting)
    by_plan = {(row["variant"], row["mode"]): row for row in rows}
    pipeline, clean, own_maps = VARIANTS
    assert list(by_plan) == [(plan, mode) for plan in (pipeline, clean) for mode in modes] + [(own_maps, "patient")]
    for variant in (pipeline, clean):
        match = by_plan[variant, "none"]
        refined = by_plan[variant, "patient"]
        assert refined["mae_near"] < 0.9 * match["mae_near"]
        assert refined["dice_0.2"] > match["dice_0.2"]
        assert refined["rho_t_ratio"] != match["rho_t_ratio"]
    assert by_plan[own_maps, "patient"]["mae_near"] < by_plan[pipeline, "none"]["mae_near"]
    assert by_plan[own_maps, "patient"]["seed_error_mm"] < 5
    assert 0.7 < by_plan[own_maps, "patient"]["length_ratio"] < 1.4


def test_experiment_without_tumours_is_refused(small_database):
    with pytest.raises(InputError, match="at least one tumour"):
        run_cross_anatomy(0, small_database)
