"""A refined tumour fits better than its match, in the atlas and in the patient, and says how it was found."""

import csv
from threading import Event

import numpy as np
import pytest
import SimpleITK as sitk

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.anatomy.tissue import Tissue
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.refine import best_moment, refine, tissue_in_patient
from TumorQueryLib.geometry.grid import Grid, Volume, resample, resample_mask
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.growth import GrowthParameters, grow_trajectory, simulate
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import Registration
from TumorQueryLib.strategies import create_strategy

THRESHOLDS = (0.6, 0.2)
#: Infiltration length (mm) and whole-tumour volume (ml) of a compact tumour between the database's places.
LENGTH, VOLUME = 1.8, 22.0


@pytest.fixture(scope="module")
def atlas():
    return Atlas.load("SRI24")


@pytest.fixture(scope="module")
def database():
    with TumorDatabase.open("starter") as opened:
        yield opened


def masks_of(density, grid):
    return TumorMasks(density > THRESHOLDS[0], density > THRESHOLDS[1], grid)


@pytest.fixture(scope="module")
def truth(atlas, database):
    """Parameters, masks and matches of a tumour that is in no database."""
    near = database.parameters(next(n for n in range(len(database)) if database.whole.volume[n] > 4000))
    tissue = Tissue.from_atlas(atlas)
    seed = np.add(near.seed, (2.0, -1.5, 1.0))
    cell = tuple(np.rint(atlas.grid.to_index(seed)).astype(int))
    assert tissue.mask[cell], "the tumour of this test has to start in tissue"
    moment = next(grow_trajectory(seed, LENGTH, tissue, volumes_ml=[VOLUME]))
    parameters = GrowthParameters.from_identifiable(seed, LENGTH, moment.rho_t, 0.02)
    masks = masks_of(simulate(parameters, atlas), atlas.grid)
    return parameters, masks, create_strategy("direct", database).query(masks, 15)


@pytest.fixture(scope="module")
def refined(atlas, database, truth):
    _, masks, matches = truth
    return refine(matches, database, atlas, masks, budget_solves=70)


def test_refinement_finds_the_tumour_that_the_database_does_not_hold(refined, truth, atlas):
    parameters, masks, matches = truth
    found = refined.parameters[0]
    assert refined.match_dice_sum == pytest.approx(matches[0].dice_sum)
    assert refined.dice_sum > matches[0].dice_sum + 0.1
    assert refined.dice_sum > 1.93
    assert found.infiltration_length == pytest.approx(LENGTH, rel=0.1)
    assert found.rho_t == pytest.approx(parameters.rho_t, rel=0.05)
    assert np.linalg.norm(np.subtract(found.seed, parameters.seed)) < 2
    assert refined.frame == "atlas"
    assert refined.tissue_voxels_added == 0
    # Its figures are those of its density, and its density that of its parameters.
    assert np.array_equal(refined.density.array, simulate(found, atlas))
    again = masks_of(refined.density.array, atlas.grid)
    assert (refined.dice_core, refined.dice_whole) == (dice(again.core, masks.core), dice(again.whole, masks.whole))


def test_path_and_progress_tell_of_every_solve(refined, truth, tmp_path):
    assert [solve.number for solve in refined.path] == list(range(len(refined.path)))
    assert len(refined.path) <= 70
    assert refined.stopped in ("budget", "converged")
    refined.write_path(tmp_path)
    with open(tmp_path / "refinement.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(refined.path)
    assert float(rows[3]["dice_sum"]) == pytest.approx(refined.path[3].score, abs=1e-4)
    assert (tmp_path / "refinement.png").stat().st_size > 5000


def test_same_budget_and_seed_give_the_same_answer(atlas, database, truth):
    _, masks, matches = truth
    first, second = (refine(matches, database, atlas, masks, budget_solves=16, random_seed=4) for _ in range(2))
    assert first.path == second.path
    assert first.parameters == second.parameters
    assert np.array_equal(first.density.array, second.density.array)


def test_best_moment_agrees_with_moments_solved_one_by_one(atlas, truth):
    """The interpolated score against the densities at many exact times."""
    parameters, masks, _ = truth
    tissue = Tissue.from_atlas(atlas)
    seed = tuple(np.add(parameters.seed, (1.0, 1.0, 0.0)))
    score, rho_t = best_moment(seed, 2.2, tissue, masks, THRESHOLDS)
    times = np.linspace(0.7 * rho_t, 1.15 * rho_t, 31)
    exact = []
    for moment in grow_trajectory(seed, 2.2, tissue, rho_t=times):
        found = masks_of(moment.on_grid(atlas.grid.shape), atlas.grid)
        exact.append(dice(found.core, masks.core) + dice(found.whole, masks.whole))
    assert score == pytest.approx(max(exact), abs=0.01)
    assert rho_t == pytest.approx(times[int(np.argmax(exact))], rel=0.03)


def test_halted_trajectory_ends_at_once(atlas, truth):
    parameters, masks, _ = truth
    halt = Event()
    halt.set()
    assert best_moment(parameters.seed, 2.0, Tissue.from_atlas(atlas), masks, THRESHOLDS, halt) == (0.0, 0.0)


def test_cancelled_refinement_returns_the_best_so_far(atlas, database, truth):
    _, masks, matches = truth

    def cancel(value, message):
        if value >= 0.1:
            raise Cancelled("stopped")

    result = refine(matches, database, atlas, masks, budget_solves=60, progress=cancel)
    assert result.stopped == "cancelled"
    assert 0 < len(result.path) < 60
    assert result.dice_sum >= matches[0].dice_sum


def test_timed_out_refinement_returns_the_best_so_far(atlas, database, truth):
    _, masks, matches = truth
    result = refine(matches, database, atlas, masks, budget_solves=100_000, budget_seconds=0.5)
    assert result.stopped == "time"
    assert result.dice_sum >= matches[0].dice_sum


def test_match_is_kept_where_nothing_better_is_found(atlas, database):
    """An entry of the database, refined with one solve, is that entry."""
    entry = next(n for n in range(len(database)) if 4000 < database.whole.volume[n] < 8000)
    masks = TumorMasks(database.core.decode(entry), database.whole.decode(entry), atlas.grid)
    matches = create_strategy("direct", database).query(masks, 3)
    result = refine(matches, database, atlas, masks, budget_solves=1)
    assert matches[0].entry == entry
    assert result.dice_sum == 2
    assert result.match_dice_sum == 2


def turned_patient(atlas, masks):
    """The atlas as a patient, moved and made 5 % larger, with the true registration."""
    to_atlas = sitk.Similarity3DTransform()
    to_atlas.SetRotation((0.2, 0.5, 1.0), 0.15)
    to_atlas.SetScale(1 / 1.05)
    to_atlas.SetTranslation((4.0, -7.0, 9.0))
    registration = Registration("affine", to_atlas, to_atlas.GetInverse(), {}, ())
    corners = [registration.seed_in_patient(p) for p in atlas.t1.grid.to_ras(np.argwhere(atlas.t1.array > 0)[::5000])]
    centre = np.mean(corners, axis=0)
    grid = Grid.isotropic(120, 1.6, centre)
    t1gd = resample(atlas.t1, grid, to_atlas)
    core, whole = (resample_mask(Volume(m, atlas.grid), grid, to_atlas) for m in (masks.core, masks.whole))
    return Patient(
        t1gd=t1gd, flair=None, t1=None, core=core, whole=whole, brain_mask=None, inputs=(), warnings=()
    ), registration


def test_tumour_voxels_outside_the_carried_tissue_become_tissue(atlas, truth):
    _, masks, _ = truth
    csf = np.argwhere((atlas.csf > 0.8) & (atlas.white_matter + atlas.grey_matter < 0.2))
    near = csf[np.argmin(np.linalg.norm(csf - np.argwhere(masks.core).mean(axis=0), axis=1))]
    i, j, k = near
    whole = masks.whole.copy()
    whole[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = True
    patient, registration = turned_patient(atlas, TumorMasks(masks.core, whole, atlas.grid))
    tissue, target, added = tissue_in_patient(atlas, registration, patient)
    assert added > 0
    assert tissue.mask[target.whole].all()
    assert np.allclose(tissue.grid.spacing, 1.5)
    # The tumour is 5 % longer than in the atlas, and so is the brain.
    ratio = (
        tissue.mask.sum()
        * tissue.grid.voxel_volume_ml
        / (Tissue.from_atlas(atlas).mask.sum() * atlas.grid.voxel_volume_ml)
    )
    assert ratio == pytest.approx(1.05**3, rel=0.03)
    for region in (target.core, target.whole):
        assert region.any()


def test_refinement_in_the_patient_is_in_the_patients_millimetres(atlas, database, truth):
    parameters, masks, matches = truth
    patient, registration = turned_patient(atlas, masks)
    result = refine(
        matches, database, atlas, masks, frame="patient", patient=patient, registration=registration, budget_solves=50
    )
    found = result.parameters[0]
    assert result.frame == "patient"
    assert result.dice_sum > result.match_dice_sum + 0.05
    assert found.infiltration_length == pytest.approx(1.05 * LENGTH, rel=0.15)
    assert np.linalg.norm(np.subtract(found.seed, registration.seed_in_patient(parameters.seed))) < 3
    on_image = resample(result.density, patient.t1gd.grid).array
    assert dice(on_image > THRESHOLDS[1], patient.whole.array) > 0.9


def test_two_foci_fit_two_tumours_better_than_one(atlas, database):
    tissue = Tissue.from_atlas(atlas)
    seeds = [database.parameters(n).seed for n in range(len(database))]
    first = seeds[0]
    second = next(s for s in seeds if 45 < np.linalg.norm(np.subtract(s, first)) < 60)
    densities = [
        next(grow_trajectory(s, 1.5, tissue, volumes_ml=[v])).on_grid(atlas.grid.shape)
        for s, v in ((first, 14.0), (second, 7.0))
    ]
    masks = masks_of(1 - (1 - densities[0]) * (1 - densities[1]), atlas.grid)
    matches = create_strategy("direct", database).query(masks, 5)
    single = refine(matches, database, atlas, masks, budget_solves=24)
    double = refine(matches, database, atlas, masks, budget_solves=60, foci=2)
    assert len(single.parameters) == 1
    assert len(double.parameters) == 2
    assert double.dice_sum > single.dice_sum + 0.2
    ages = [parameters.rho_t for parameters in double.parameters]
    assert ages[0] != ages[1]


def test_bad_calls_are_refused_in_words(atlas, database, truth):
    _, masks, matches = truth
    empty = TumorMasks(np.zeros_like(masks.core), np.zeros_like(masks.core), atlas.grid)
    for arguments, options, words in (
        (([], database, atlas, masks), {}, "no match"),
        ((matches, database, atlas, masks), {"frame": "head"}, "atlas or patient"),
        ((matches, database, atlas, masks), {"frame": "patient"}, "needs the patient"),
        ((matches, database, atlas, masks), {"foci": 3}, "1 or 2 foci"),
        ((matches, database, atlas, masks), {"budget_solves": 0}, "at least one solve"),
        ((matches, database, atlas, empty), {}, "empty in the atlas"),
    ):
        with pytest.raises(InputError, match=words):
            refine(*arguments, **options)
