"""A refined tumour fits better than its match, in the atlas and in the patient, and says how it was found."""

import csv
import math

import numpy as np
import pytest
from known_tumour import LENGTH, SCALE, THRESHOLDS, case_of, grown_to, masks_of, turned_patient

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.carried import carried_anatomy
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.estimates import search
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.estimates.moments import best_exact_moment
from TumorQueryLib.estimates.refine import STARTS, refine
from TumorQueryLib.estimates.search import SEED_STEP, Search
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.growth import simulate
from TumorQueryLib.results.files import write_path

SOLVES = 70


def refined_in_atlas(case, **options):
    return refine(case.match, case.ranked, case.match.anatomy, case.masks, THRESHOLDS, **options)


def fit_of(refinement, masks):
    return Fit.of(refinement.density, masks, THRESHOLDS)


@pytest.fixture(scope="module")
def refinement(case):
    return refined_in_atlas(case, solves=SOLVES)


@pytest.mark.slow
def test_refinement_finds_the_tumour_that_the_database_does_not_hold(refinement, case, tissue):
    found = refinement.parameters[0]
    assert refinement.match_dice_sum == pytest.approx(case.match.fit_in_anatomy.dice_sum)
    assert fit_of(refinement, case.masks).dice_sum > max(refinement.match_dice_sum + 0.1, 1.93)
    assert found.infiltration_length == pytest.approx(LENGTH, rel=0.1)
    assert found.rho_t == pytest.approx(case.parameters.rho_t, rel=0.05)
    assert found.proliferation == case.ranked[0].proliferation
    assert np.linalg.norm(np.subtract(found.seed, case.parameters.seed)) < 2
    # Its density is that of its parameters.
    assert np.array_equal(refinement.density.array, simulate(found, tissue))


@pytest.mark.slow
def test_path_and_progress_tell_of_every_solve(refinement, tmp_path):
    assert [solve.number for solve in refinement.path] == list(range(len(refinement.path)))
    assert len(refinement.path) <= SOLVES
    assert refinement.stopped in ("budget", "converged")
    write_path(refinement, "atlas", tmp_path)
    with open(tmp_path / "refinement.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(refinement.path)
    assert float(rows[3]["dice_sum"]) == pytest.approx(refinement.path[3].score, abs=1e-4)
    assert (tmp_path / "refinement.png").stat().st_size > 5000


@pytest.mark.slow
def test_search_descends_from_two_places(refinement, case):
    """The best start and the best one elsewhere each get a simplex, whose solves take turns in the path."""
    trajectories = len({(p.seed, p.infiltration_length) for p in case.ranked})
    starts = refinement.path[: min(STARTS, trajectories) + 3]
    first, second = refinement.path[len(starts) : len(starts) + 2]
    best = max(starts, key=lambda solve: solve.score)
    elsewhere = [s for s in starts if np.linalg.norm(np.subtract(s.seed, best.seed)) >= SEED_STEP]
    assert first.seed == best.seed
    assert second.seed == max(elsewhere, key=lambda solve: solve.score).seed


@pytest.mark.slow
def test_matches_or_the_centre_can_be_left_out_of_the_starts(refinement, case):
    of_both = [(solve.seed, solve.infiltration_length) for solve in refinement.path]
    trajectories = min(STARTS, len({(p.seed, p.infiltration_length) for p in case.ranked}))
    for starts, first in (("matches", of_both[:trajectories]), ("centre", of_both[trajectories : trajectories + 3])):
        path = refined_in_atlas(case, solves=len(first), starts=starts).path
        assert [(solve.seed, solve.infiltration_length) for solve in path] == first


@pytest.mark.slow
def test_the_moment_is_the_best_of_exactly_solved_ones(refinement, case, tissue):
    best = max(refinement.path, key=lambda solve: solve.score)
    exact = best_exact_moment(best.seed, best.infiltration_length, best.rho_t, tissue, case.masks, THRESHOLDS)
    assert refinement.parameters[0].rho_t == pytest.approx(exact, rel=1e-12)


@pytest.mark.slow
def test_same_budget_and_seed_give_the_same_answer(case):
    first, second = (refined_in_atlas(case, solves=16, random_seed=4) for _ in range(2))
    assert first.path == second.path
    assert first.parameters == second.parameters
    assert np.array_equal(first.density.array, second.density.array)
    other = refined_in_atlas(case, solves=16, random_seed=5)
    assert other.path[:8] == first.path[:8], "the starts do not depend on random numbers"
    assert other.path != first.path, "the first simplex is turned at random"


@pytest.mark.slow
def test_cancelled_refinement_ends_and_gives_nothing(case):
    calls = []

    def cancel(value, message):
        calls.append(value)
        if value >= 0.1:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        refined_in_atlas(case, solves=60, progress=cancel)
    assert calls[-1] < 0.9


@pytest.mark.slow
def test_timed_out_refinement_returns_the_best_so_far(case):
    result = refined_in_atlas(case, solves=100_000, seconds=0.5)
    assert result.stopped == "time"
    assert 0 < len(result.path) < 1000


@pytest.mark.slow
def test_an_entry_of_the_database_is_found_again(atlas, tissue, database):
    entry = next(n for n in range(len(database)) if 4000 < database.whole.volume[n] < 8000)
    masks = TumorMasks(database.core.decode(entry), database.whole.decode(entry), atlas.grid)
    case = case_of(masks, database.parameters(entry), database, atlas, tissue, top=3)
    result = refined_in_atlas(case, solves=1)
    assert result.match_dice_sum == 2
    assert fit_of(result, masks).dice_sum > 1.97


@pytest.fixture(scope="module")
def in_patient(atlas, tissue, case):
    """The case in a patient whose place is known: refined there, and the match by way of the atlas."""
    patient, space = turned_patient(atlas, case.masks)
    home = Anatomy.of_atlas(atlas, space, patient.whole)
    match = Estimate.of(
        "match", home, (case.ranked[0],), case.match.density, patient.regions_on_t1gd, case.masks, THRESHOLDS
    )
    anatomy, target = carried_anatomy(atlas, space, patient.core, patient.whole)
    found = refine(match, case.ranked, anatomy, target, THRESHOLDS, solves=50)
    refined = Estimate.of(
        "refined", anatomy, found.parameters, found.density, patient.regions_on_t1gd, target, THRESHOLDS
    )
    return match, refined, found, space


@pytest.mark.slow
def test_refinement_in_the_patient_is_in_the_patients_millimetres(in_patient, case):
    match, refined, found, space = in_patient
    assert match.anatomy.length_scale == pytest.approx(SCALE, rel=0.01)
    assert match.infiltration_lengths_mm[0] == pytest.approx(SCALE * case.ranked[0].infiltration_length, rel=0.01)
    assert found.parameters[0].infiltration_length == pytest.approx(SCALE * LENGTH, rel=0.15)
    assert refined.infiltration_lengths_mm == (found.parameters[0].infiltration_length,)
    assert np.linalg.norm(np.subtract(found.parameters[0].seed, space.point_in_patient(case.parameters.seed))) < 3
    assert refined.fit_in_anatomy.dice_sum > found.match_dice_sum + 0.05
    assert refined.fit.dice_whole > 0.9
    assert refined.fit.dice_sum > match.fit.dice_sum


@pytest.mark.slow
def test_an_estimate_describes_itself_in_both_spaces(in_patient, case):
    match, refined, _, space = in_patient
    described = match.as_json("density_match.nrrd")
    assert described["anatomy"] == "atlas"
    assert described["density"] == "density_match.nrrd"
    parameters = described["parameters"][0]
    assert parameters["seed_mm"] == list(case.ranked[0].seed)
    assert np.allclose(parameters["seed_patient_mm"], space.point_in_patient(case.ranked[0].seed))
    length = case.ranked[0].infiltration_length
    assert parameters["infiltration_length_mm"] == length
    assert parameters["infiltration_length_patient_mm"] == pytest.approx(SCALE * length, rel=0.01)
    own = refined.as_json("density.nrrd")["parameters"][0]
    assert own["seed_mm"] == own["seed_patient_mm"]
    assert own["infiltration_length_mm"] == own["infiltration_length_patient_mm"]
    fit = described["fit"]
    assert fit["dice_sum"] == fit["dice_core"] + fit["dice_whole"]
    # The tumour is 5 % longer in the patient than in the atlas.
    assert fit["observed_ml"]["whole"] == pytest.approx(SCALE**3 * case.masks.volumes_ml()[1], rel=0.02)
    assert fit["predicted_ml"]["whole"] == pytest.approx(
        SCALE**3 * described["fit_in_anatomy"]["predicted_ml"]["whole"], rel=0.05
    )


@pytest.fixture(scope="module")
def two_tumours(atlas, tissue, database):
    seeds = [database.parameters(n).seed for n in range(len(database))]
    first = seeds[0]
    second = next(s for s in seeds if 45 < np.linalg.norm(np.subtract(s, first)) < 60)
    densities = [
        grown_to(seed, 1.5, volume, tissue).on_grid(atlas.grid.shape) for seed, volume in ((first, 14.0), (second, 7.0))
    ]
    masks = masks_of(1 - (1 - densities[0]) * (1 - densities[1]), atlas.grid)
    return case_of(masks, None, database, atlas, tissue, top=5)


@pytest.mark.slow
def test_two_foci_fit_two_tumours_better_than_one(two_tumours, tmp_path):
    single = refined_in_atlas(two_tumours, solves=24, foci="1")
    double = refined_in_atlas(two_tumours, solves=24, foci="auto")
    assert len(single.parameters) == 1
    assert len(double.parameters) == 2
    assert fit_of(double, two_tumours.masks).dice_sum > fit_of(single, two_tumours.masks).dice_sum + 0.2
    ages = [parameters.rho_t for parameters in double.parameters]
    assert ages[0] != ages[1]
    # The second focus has a budget of its own: what one focus finds stays what it was.
    assert double.path[: len(single.path)] == single.path
    assert len(single.path) < len(double.path) <= 48
    # Scores of a half do not compare with those of the whole, and both are told apart.
    assert {solve.of for solve in single.path} == {"whole"}
    assert list(dict.fromkeys(solve.of for solve in double.path)) == ["whole", "focus 1", "focus 2"]
    write_path(double, "atlas", tmp_path)
    with open(tmp_path / "refinement.csv", newline="", encoding="utf-8") as file:
        assert [row["of"] for row in csv.DictReader(file)] == [solve.of for solve in double.path]


@pytest.mark.slow
def test_how_the_search_of_the_answer_ended_is_told(two_tumours, monkeypatch):
    """The time is up while the halves are searched: the one tumour that is the answer was found before."""
    monkeypatch.setattr(search, "REPORT_EVERY", 1e-3)
    single = refined_in_atlas(two_tumours, solves=8, foci="1")
    of_other = Search.of_other

    def out_of_time(self, target, *, progress):
        half = of_other(self, target, progress=progress)
        half.deadline = -math.inf
        return half

    monkeypatch.setattr(Search, "of_other", out_of_time)
    found = refined_in_atlas(two_tumours, solves=8, foci="2")
    assert found.parameters == single.parameters
    assert (found.stopped, found.two_foci) == (single.stopped, "out of time")
    assert found.stopped != "time"


@pytest.mark.slow
def test_the_progress_of_two_foci_never_runs_back(two_tumours, monkeypatch):
    monkeypatch.setattr(search, "REPORT_EVERY", 0.001)
    told = []
    found = refined_in_atlas(two_tumours, solves=8, foci="2", progress=lambda value, message: told.append(value))
    assert found.two_foci in ("taken", "lost")
    assert told == sorted(told)
    assert told[-1] <= 1


@pytest.mark.slow
def test_one_compact_tumour_is_never_given_two_foci(case):
    assert refined_in_atlas(case, solves=9, foci="2").path == refined_in_atlas(case, solves=9, foci="1").path


@pytest.mark.slow
def test_bad_calls_are_refused_in_words(case):
    empty = TumorMasks(np.zeros_like(case.masks.core), np.zeros_like(case.masks.core), case.masks.grid)
    for ranked, target, options, words in (
        ([], case.masks, {}, "no match"),
        (case.ranked, case.masks, {"foci": "3"}, "1 or 2 foci"),
        (case.ranked, case.masks, {"starts": "atlas"}, "all, matches, centre"),
        (case.ranked, case.masks, {"solves": 0}, "at least one solve"),
        (case.ranked, empty, {}, "empty on the grid of the atlas"),
    ):
        with pytest.raises(InputError, match=words):
            refine(case.match, ranked, case.match.anatomy, target, THRESHOLDS, **options)
