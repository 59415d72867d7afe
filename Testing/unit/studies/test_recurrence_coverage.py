"""Coverage of recurrences: by slow twins, where it is known by construction, and as a table of a cohort."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples
from scipy import ndimage
from scipy.spatial import cKDTree

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.cli import main
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume
from TumorQueryLib.studies.recurrence.coverage import compare_plans, covered, model_plan, nearness, standard_plan
from TumorQueryLib.studies.recurrence.evaluation import bootstrap_interval, evaluate_recurrence, summarise

GRID = Grid.isotropic(80, 1.0, (3.0, -2.0, 5.0))
ALL = np.ones(GRID.shape, dtype=bool)
MM = np.ones(3)


def from_centre(grid, place=(0.0, 0.0, 0.0)):
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(points - grid.centre - np.array(place), axis=-1)


def labels(grid, *, core, whole, place=(0.0, 0.0, 0.0)):
    """Two balls, enhancing with a necrosis in its middle, in one of oedema."""
    distance = from_centre(grid, place)
    inside = np.where(distance < core / 2, 1, 3)
    return Volume(np.where(distance < core, inside, np.where(distance < whole, 2, 0)).astype(np.uint8), grid)


# Slow twins


def in_turn(density, brain, count):
    """The plan by a list of all voxels: the highest first, the later ones of equals."""
    places = [place for place in np.ndindex(density.shape) if brain[place]]
    places.sort(key=lambda place: (density[place], np.ravel_multi_index(place, density.shape)))
    plan = np.zeros(density.shape, dtype=bool)
    for place in places[max(0, len(places) - count) :]:
        plan[place] = True
    return plan


def distances(region, spacing):
    inside = np.argwhere(region) * spacing
    found = [np.linalg.norm(np.array(place) * spacing - inside, axis=1).min() for place in np.ndindex(region.shape)]
    return np.reshape(found, region.shape)


@given(st.integers(0, 10**6), st.sampled_from(["smooth", "steps", "sparse", "binary"]), st.integers(1, 150))
@examples(40)
def test_the_plan_is_the_highest_voxels_one_by_one(seed, kind, count):
    random = np.random.default_rng(seed)
    density = random.random((5, 6, 7))
    density = {
        "smooth": density,
        "steps": np.round(density * 4) / 4 + 0.1,
        "sparse": np.where(density > 0.8, density, 0),
        "binary": (density > 0.7) * 1.0,
    }[kind].clip(0, 1)
    brain = random.random(density.shape) < 0.8
    spacing = np.array([1.0, 1.0, 1.0]) if seed % 2 else np.array([0.8, 1.0, 2.5])
    scores = density.astype(np.float32)
    known = (density > 0) & brain
    if kind == "binary":
        away = distances(density > 0, spacing)
        scores = (1 - away / away.max()).astype(np.float32)
    if np.sort(scores[brain])[-min(count, brain.sum())] <= 0:
        away = distances(known if kind != "binary" else (scores > 0) & brain, spacing)
        scores = (1 - away / away.max()).astype(np.float32)
    plan = model_plan(density, brain, count, spacing)
    np.testing.assert_array_equal(plan, in_turn(scores, brain, count))
    assert plan.sum() == min(count, brain.sum())


@pytest.mark.parametrize("axes", ["lps", "sagittal", "oblique-flipped"])
def test_the_standard_plan_is_every_voxel_within_the_margin(axes):
    grid = centred_grid((14, 12, 13), AWKWARD_AFFINES[axes])
    segmentation = labels(grid, core=2.5, whole=5.0)
    brain = from_centre(grid, (3.0, 0.0, 0.0)) < 9
    core = grid.to_ras(np.argwhere(segmentation.array % 2 == 1))
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    slow = np.array([[[np.linalg.norm(core - p, axis=1).min() <= 6.03 for p in r] for r in s] for s in points])
    np.testing.assert_array_equal(standard_plan(segmentation, brain, 6.03), slow & brain)


# Known by construction


def test_what_is_core_and_what_is_recurrence():
    """Oedema is neither core nor an enhancing recurrence; a cavity is core before, and no recurrence after."""
    line = Volume(np.zeros((60, 3, 3), np.uint8), Grid((60, 3, 3), np.eye(4)))
    line.array[5, 1, 1], line.array[6:12, 1, 1] = 3, 2
    brain = np.ones(line.array.shape, dtype=bool)
    assert np.flatnonzero(standard_plan(line, brain)[:, 1, 1]).tolist() == list(range(0, 21))
    line.array[8, 1, 1] = 4
    assert np.flatnonzero(standard_plan(line, brain)[:, 1, 1]).tolist() == list(range(0, 24))
    after = Volume(np.zeros_like(line.array), line.grid)
    after.array[22:26, 1, 1] = (1, 2, 3, 4)
    ahead = np.broadcast_to(np.arange(60)[:, None, None] / 60, line.array.shape)
    found = compare_plans(line, after, Volume(ahead, line.grid), brain)
    assert found.standard == {"enhancing": 0.0, "any": pytest.approx(2 / 3)}  # up to 23
    assert found.recurrence_ml == {"enhancing": pytest.approx(0.001), "any": pytest.approx(0.003)}


def test_a_plan_around_the_recurrence_covers_it_and_the_standard_one_half():
    """A core of 5 mm at the middle, cut in half by the brain's end; the density lies around a place 14 mm ahead."""
    segmentation = labels(GRID, core=5.0, whole=9.0)
    brain = np.indices(GRID.shape)[0] >= 40
    recurrence = labels(GRID, core=4.0, whole=8.0, place=(20.0, 0.0, 0.0))
    density = np.clip(1 - from_centre(GRID, (20.0, 0.0, 0.0)) / 100, 0, 1)
    found = compare_plans(segmentation, recurrence, Volume(density, GRID), brain)
    core = np.argwhere(np.isin(segmentation.array, (1, 3)))
    reach = np.reshape(cKDTree(core).query(np.argwhere(ALL))[0] <= 15, GRID.shape)
    for name, region in (("enhancing", recurrence.array == 3), ("any", recurrence.array > 0)):
        assert found.model[name] == 1.0
        assert found.standard[name] == pytest.approx((region & reach).sum() / region.sum())
        assert 0.3 < found.standard[name] < 0.7
    assert found.plan_ml == pytest.approx(2 / 3 * np.pi * 2.0**3, rel=0.05)
    assert 0 < found.common < 0.8


def test_the_same_density_as_the_margin_gives_the_same_plan_and_islands_stay():
    segmentation = labels(GRID, core=6.0, whole=9.0)
    core = np.isin(segmentation.array, (1, 3))
    density = 1 - ndimage.distance_transform_edt(~core) / 200
    recurrence = Volume(np.zeros_like(segmentation.array), GRID)
    found = compare_plans(segmentation, recurrence, Volume(density, GRID), ALL)
    assert found.common > 0.97  # of equal distances some are in, some are not
    assert found.standard == found.model == {"enhancing": 1.0, "any": 1.0}
    assert found.recurrence_ml == {"enhancing": 0.0, "any": 0.0}
    density[1:3, 1:3, 1:3] = 1.0
    assert model_plan(density, ALL, 5000, MM)[1:3, 1:3, 1:3].all()


def test_the_brains_holes_are_filled_and_the_density_comes_from_its_own_grid():
    segmentation = labels(GRID, core=6.0, whole=9.0)
    recurrence = labels(GRID, core=3.0, whole=6.0, place=(12.0, 4.0, -3.0))
    hollow = ALL & ~(np.isin(segmentation.array, (1, 3)))
    coarse = centred_grid((70, 70, 70), AWKWARD_AFFINES["oblique"] @ np.diag([1.5, 1.5, 0.6, 1.0]), GRID.centre)
    densities = [Volume(np.exp(-from_centre(grid, (9.0, 0.0, 0.0)) / 30), grid) for grid in (GRID, coarse)]
    first, second = (compare_plans(segmentation, recurrence, density, hollow) for density in densities)
    assert first.standard == second.standard == compare_plans(segmentation, recurrence, densities[0], ALL).standard
    for name in ("enhancing", "any"):
        assert first.model[name] == pytest.approx(second.model[name], abs=0.03)


def test_nothing_to_plan_on_is_refused():
    segmentation, none = labels(GRID, core=6.0, whole=9.0), Volume(np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(InputError, match=r"has no core \(labels 1, 3\) in the brain"):
        compare_plans(Volume(np.where(segmentation.array, 2, 0), GRID), none, Volume(ALL * 0.5, GRID), ALL)
    with pytest.raises(InputError, match="density is 0 in all of the brain"):
        compare_plans(segmentation, none, Volume(ALL * 0.0, GRID), ALL)
    with pytest.raises(InputError, match="not finite"):
        compare_plans(segmentation, none, Volume(np.where(ALL, np.nan, 0), GRID), ALL)
    for scale, top in ((100, "50"), (-1, "-0.5")):
        with pytest.raises(InputError, match=rf"values from .*{top}.*; it lies in \[0, 1\]"):
            compare_plans(segmentation, none, Volume(ALL * 0.5 * scale, GRID), ALL)
    compare_plans(segmentation, none, Volume(ALL * (1 + 1e-4), GRID), ALL)
    in_2018 = Volume(np.where(segmentation.array == 3, 4, segmentation.array), GRID)
    with pytest.raises(InputError, match="4 is the resection cavity here and 3 enhancing, where BraTS 2018 has 4"):
        compare_plans(in_2018, in_2018, Volume(ALL * 0.5, GRID), ALL)
    compare_plans(segmentation, in_2018, Volume(ALL * 0.5, GRID), ALL)
    with pytest.raises(InputError, match="The recurrence is on another grid"):
        compare_plans(segmentation, labels(Grid.isotropic(40, 2.0, GRID.centre), core=4, whole=8), none, ALL)


def test_coverage_of_nothing_is_one():
    assert covered(~ALL, ALL) == covered(~ALL, ~ALL) == 1.0
    assert (covered(ALL, ALL), covered(ALL, ~ALL)) == (1.0, 0.0)
    assert nearness(ALL, MM).all()


# The cohort


def case(standard, model, ml=1.0):
    row = {
        f"{plan}_{name}": value
        for name in ("enhancing", "any")
        for plan, value in (("standard", standard), ("model", model))
    }
    return row | {"enhancing_ml": ml, "any_ml": ml}


def test_the_summary_is_of_the_pairs():
    cases = [case(0.5, 0.7), case(0.6, 0.7), case(1.0, 1.0, ml=0.0), case(0.9, 0.6), case(0.2, 0.6), case(0.4, 0.45)]
    row = summarise(cases, 3)["any"]
    assert (row["standard"], row["model"]) == (pytest.approx(0.6), pytest.approx(4.05 / 6))
    assert row["difference"] == pytest.approx(0.075)
    assert (row["better"], row["equal"], row["worse"], row["without"]) == (4, 1, 1, 1)
    # Of the ranks 1 to 5 of .05, .1, .2, .3, .4 the one of .3 is negative: 7 of the 32 sign patterns reach as far down.
    assert row["p"] == pytest.approx(2 * 7 / 32)
    low, high = row["interval"]
    assert low < 0.075 < high
    assert summarise(cases, 3) == summarise(cases, 3)
    assert summarise([case(0.5, 0.5)] * 5)["any"]["p"] is None
    few = summarise(cases[:4], 3)["any"]
    assert (few["p"], few["interval"], few["better"]) == (None, None, 2)


def test_the_bootstrap_has_the_width_of_a_normal_mean():
    values = np.random.default_rng(0).normal(0.1, 0.2, 200)
    low, high = bootstrap_interval(values, 0)
    expected = 1.96 * values.std() / np.sqrt(200)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.05)
    assert bootstrap_interval(np.full(3, 0.25), 0) == pytest.approx((0.25, 0.25))


@pytest.fixture
def cohort(tmp_path):
    """Two patients that can be scored, and the CSV file."""
    places = {"one": (12.0, 0.0, 0.0), "two": (0.0, -16.0, 0.0)}
    rows = []
    for name, place in places.items():
        volumes = {
            "segmentation": labels(GRID, core=6.0, whole=12.0),
            "recurrence": labels(GRID, core=4.0, whole=7.0, place=place),
            "density": Volume(np.exp(-from_centre(GRID, place) / 20).astype(np.float32), GRID),
            "brain_mask": Volume((from_centre(GRID) < 36).astype(np.uint8), GRID),
        }
        for role, volume in volumes.items():
            sitk.WriteImage(image_from_volume(volume), str(tmp_path / f"{name}-{role}.nii.gz"))
        rows.append({"patient": name} | {role: f"{name}-{role}.nii.gz" for role in volumes})
    return rows


def written(folder, rows):
    path = folder / "cohort.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_cohort_is_scored_by_the_command(cohort, tmp_path, capsys):
    table = written(tmp_path, cohort)
    assert main(["evaluate", "--recurrence", str(table), "--out", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "recurrence.json").read_text(encoding="utf-8"))
    assert content["patients"] == 2
    for row in content["cases"]:
        assert row["model_enhancing"] == 1.0
        assert row["model_any"] >= row["standard_any"] > 0.3
    printed = capsys.readouterr().out
    assert "Fewer than 5 patients: there is no interval and no p." in printed
    assert "| enhancing | " in printed
    assert printed.strip() == (tmp_path / "out" / "recurrence.md").read_text(encoding="utf-8").strip()
    with open(tmp_path / "out" / "recurrence.csv", encoding="utf-8", newline="") as file:
        by_file = list(csv.DictReader(file))
    assert [float(row["standard_any"]) for row in by_file] == [row["standard_any"] for row in content["cases"]]


def test_nothing_that_was_read_or_that_no_run_wrote_is_replaced(cohort, tmp_path):
    given = written(tmp_path, cohort)
    named_so, out = tmp_path / "recurrence.csv", tmp_path / "out"
    named_so.hardlink_to(given)
    before = given.read_bytes()
    for name in (given, named_so):
        with pytest.raises(OutputError, match=r"recurrence\.csv is an input of this run"):
            evaluate_recurrence(name, tmp_path)
    assert named_so.read_bytes() == before
    out.mkdir()
    (out / "recurrence.md").write_text("mine")
    with pytest.raises(OutputError, match=r"recurrence\.md was not written by a run"):
        evaluate_recurrence(given, out)
    (out / "recurrence.md").unlink()
    for _ in range(2):
        evaluate_recurrence(given, out)


def test_a_patient_that_cannot_be_scored_is_named_and_the_others_are(cohort, tmp_path, capsys):
    odd = labels(GRID, core=6.0, whole=12.0)
    odd.array[0, 0, 0] = 7
    sitk.WriteImage(image_from_volume(odd), str(tmp_path / "odd.nii.gz"))
    rows = [*cohort, cohort[0] | {"patient": "three", "recurrence": "odd.nii.gz"}]
    rows.append(cohort[0] | {"patient": "four", "density": ""})
    assert main(["evaluate", "--recurrence", str(written(tmp_path, rows)), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert "2 of 4 patients could not be scored" in said.err
    assert "Left out: three. The recurrence holds the values 7; PREDICT-GBM's labels are 1 necrosis" in said.out
    assert "Left out: four. Line 5 names no density." in said.out
    assert json.loads((tmp_path / "out" / "recurrence.json").read_text(encoding="utf-8"))["patients"] == 2


def test_a_brain_without_a_mask_is_what_is_above_the_images_lowest_value(cohort, tmp_path):
    with_mask = evaluate_recurrence(written(tmp_path, cohort))["cases"]
    inside = from_centre(GRID) < 36
    image = np.where(inside, 100 + from_centre(GRID, (5.0, 5.0, 5.0)), -3.5).astype(np.float32)
    sitk.WriteImage(image_from_volume(Volume(image, GRID)), str(tmp_path / "t1gd.nii.gz"))
    rows = [
        {name: value for name, value in row.items() if name != "brain_mask"} | {"t1gd": "t1gd.nii.gz"} for row in cohort
    ]
    assert evaluate_recurrence(written(tmp_path, rows))["cases"] == with_mask


def test_a_head_is_no_brain(cohort, tmp_path):
    coarse = Grid.isotropic(80, 1.8, GRID.centre)
    head = Volume(np.where(from_centre(coarse) < 90, 50.0, 0.0).astype(np.float32), coarse)
    sitk.WriteImage(image_from_volume(head), str(tmp_path / "head.nii.gz"))
    for role in ("segmentation", "recurrence"):
        sitk.WriteImage(image_from_volume(labels(coarse, core=6.0, whole=12.0)), str(tmp_path / f"one-{role}.nii.gz"))
    row = {name: value for name, value in cohort[0].items() if name != "brain_mask"} | {"t1gd": "head.nii.gz"}
    with pytest.raises(InputError, match=r"lowest value of the T1Gd has 2,\d\d\d ml, which is no brain"):
        evaluate_recurrence(written(tmp_path, [row]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["starter"], "a database is not for --recurrence"),
        (["--cohort", "c.csv"], "--cohort is not for --recurrence"),
        (["--mass-effect"], "--mass-effect is not for --recurrence"),
        (["--plans", "2"], "--plans is not for --recurrence"),
        (["--sensitivity"], "--sensitivity is not for --recurrence"),
        (["--random-seed", "-1"], "--random-seed is a whole number from 0"),
    ],
)
def test_options_beside_it_are_refused(cohort, tmp_path, capsys, options, said):
    table = written(tmp_path, cohort)
    assert main(["evaluate", *options, "--recurrence", str(table), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_database_an_evaluation_says_what_is_missing(tmp_path, capsys):
    assert main(["evaluate", "--out", str(tmp_path / "out")]) == 2
    assert "Name a database to evaluate" in capsys.readouterr().err
