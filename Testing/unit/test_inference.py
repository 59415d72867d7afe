"""The main job in a small world: which estimates there are, which is chosen, what is said, and how it ends."""

import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from layered_brain import GRID as LAYERS
from layered_brain import ball, layered_atlas, scanned
from small_world import patient_of_masks, world_patient

from TumorQueryLib.base.errors import Cancelled, DatabaseError
from TumorQueryLib.base.method import Method
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.refine import Refinement
from TumorQueryLib.estimates.search import LONGEST_LENGTH, SHORTEST_LENGTH, Solve
from TumorQueryLib.estimates.sensitivity import SensitivityRow
from TumorQueryLib.geometry.grid import Grid, Volume, volume_from_image
from TumorQueryLib.geometry.regions import TumorMasks, dice
from TumorQueryLib.geometry.transforms import SpaceMap
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.inference import (
    alignment_warnings,
    find_patient_brain,
    fit_warnings,
    infer,
    missed_warnings,
    patient_anatomy,
    query_warnings,
    refine_match,
    refinement_warnings,
    sensitivity_warnings,
)
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import Alignment
from TumorQueryLib.strategies.direct import Direct
from TumorQueryLib.studies.phantom import head_with_skull


@pytest.fixture(scope="module")
def entry_patient(world):
    """A patient whose tumour is an entry of the database, imaged on the atlas grid: no refinement can fit better."""
    with TumorDatabase.open(world.database) as database:
        parameters = database.parameters(11)
    density = simulate(parameters, world.atlas)
    return patient_of_masks(density > 0.6, density > 0.2, world.atlas.grid)


@pytest.fixture(scope="module")
def match_wins(world, entry_patient):
    return infer(entry_patient, world.method(refine_solves=3))


@pytest.mark.slow
def test_the_refinement_is_the_model_where_it_fits_better(refined):
    assert list(refined.estimates) == ["match", "refined", "assimilated"]
    assert refined.chosen == "assimilated"
    assert refined.estimate is refined.estimates["assimilated"]
    assert refined.density is refined.estimate.in_patient
    assert refined.model is refined.estimates["refined"]
    assert refined.estimate.anatomy is refined.model.anatomy
    assert refined.model.anatomy.name == "patient"
    assert refined.estimates["match"].anatomy.name == "atlas"
    assert refined.model.fit.dice_sum > refined.estimates["match"].fit.dice_sum
    assert refined.estimate.fit.dice_sum > refined.model.fit.dice_sum
    assert (refined.estimate.parameters, refined.model.parameters) == ((), refined.refinement.parameters)
    assert len(refined.refinement.path) <= 6


@pytest.mark.slow
def test_every_fit_is_what_a_user_counts_on_the_t1gd_image(refined):
    patient = refined.patient
    for estimate in refined.estimates.values():
        density = estimate.in_patient.array
        assert estimate.in_patient.grid.matches(patient.t1gd.grid)
        voxel = patient.t1gd.grid.voxel_volume_ml
        for number, (seen, threshold) in enumerate(((patient.core.array, 0.6), (patient.whole.array, 0.2))):
            found = density > threshold
            dice = 2 * (found & seen).sum() / (found.sum() + seen.sum())
            assert (estimate.fit.dice_core, estimate.fit.dice_whole)[number] == pytest.approx(dice)
            assert estimate.fit.predicted_ml[number] == pytest.approx(found.sum() * voxel)
            assert estimate.fit.observed_ml[number] == pytest.approx(seen.sum() * voxel)


@pytest.mark.slow
def test_without_a_refinement_the_match_is_all_there_is(world):
    result = infer(world_patient(), world.method(refine="none"))
    assert list(result.estimates) == ["match"]
    assert result.chosen == "match"
    assert result.refinement is None
    assert "refinement" not in result.timings
    assert result.to_json()["refinement"] is None


@pytest.mark.slow
def test_a_refinement_in_the_atlas_grows_there(world):
    result = infer(world_patient(), world.method(refine="atlas", refine_solves=4))
    assert result.estimates["refined"].anatomy is result.estimates["match"].anatomy


def test_the_match_is_kept_where_its_refinement_loses(match_wins):
    """An entry of the database fits its own masks without a flaw; the patient's finer grid cannot."""
    assert match_wins.matches[0].entry == 11
    assert match_wins.estimates["match"].fit.dice_sum == pytest.approx(2.0)
    assert match_wins.estimates["refined"].fit.dice_sum < 2.0
    assert match_wins.model is match_wins.estimates["match"]
    assert match_wins.estimate.anatomy is match_wins.model.anatomy  # what was assimilated
    assert match_wins.refinement is not None
    assert "On the T1Gd image's grid the match fits better than its refinement and is kept." in match_wins.warnings


@pytest.mark.slow
def test_the_files_hold_every_density_where_the_match_is_kept(match_wins, tmp_path):
    import SimpleITK as sitk

    match_wins.write(tmp_path)
    for ending, name in (("", "assimilated"), ("_match", "match"), ("_refined", "refined")):
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"density{ending}.nrrd")))
        np.testing.assert_array_equal(written.transpose(2, 1, 0), match_wins.estimates[name].in_patient.array)
    assert not (tmp_path / "density_assimilated.nrrd").exists()


@pytest.mark.slow
def test_the_same_input_gives_the_same_result(world, refined):
    again = infer(world_patient(), world.method())
    np.testing.assert_array_equal(again.density.array, refined.density.array)
    assert again.refinement.path == refined.refinement.path
    assert again.to_json() | {"timings_s": None} == refined.to_json() | {"timings_s": None}


@pytest.mark.slow
def test_a_database_that_infer_opened_is_closed_and_a_given_one_is_not(world, registered):
    seen = []

    @registered("direct-remembered")
    class Remembered(Direct):
        def __init__(self, database):
            super().__init__(database)
            seen.append(database)

    method = world.method(strategy="direct-remembered", refine="none")
    infer(world_patient(), method)
    assert not is_open(seen[0])
    with TumorDatabase.open(world.database) as given:
        infer(world_patient(), method, database=given, atlas=world.atlas)
        assert seen[1] is given
        assert is_open(given)
    assert not is_open(given)


def is_open(database):
    """Whether the database's file can still be read, as `verify` does."""
    try:
        database.verify()
    except Exception:
        return False
    return True


@pytest.mark.slow
def test_a_database_is_closed_after_a_failure_too(world, registered):
    seen = []

    @registered("broken")
    class Broken:
        name = "broken"

        def __init__(self, database):
            seen.append(database)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        infer(world_patient(), world.method(strategy="broken"))
    assert not is_open(seen[0])


@pytest.mark.slow
@pytest.mark.parametrize("step", ["Registration", "Querying", "Growing", "Refining"])
def test_what_progress_raises_once_ends_the_inference(world, step):
    """Whichever step it meets, and although it is raised only once."""
    raised = []

    def stop(value, message):
        if message.startswith(step) and not raised:
            raised.append(message)
            raise Cancelled

    with pytest.raises(Cancelled):
        infer(world_patient(), world.method(refine_solves=40), progress=stop)
    assert raised


@pytest.mark.slow
def test_progress_only_grows(world):
    values = []
    infer(world_patient(), world.method(refine_solves=2), progress=lambda value, message: values.append(value))
    assert values == sorted(values)
    assert values[0] == 0
    assert values[-1] == 1


@pytest.mark.slow
def test_an_atlas_of_ones_own_has_to_be_named(world):
    with pytest.raises(DatabaseError, match=r"small brain, which is not bundled; name its folder"):
        infer(world_patient(), world.method(atlas=None))


@pytest.mark.slow
def test_another_atlas_than_the_databases_is_refused(world):
    with pytest.raises(DatabaseError, match=r"made in the atlas small brain .* not in SRI24"):
        infer(world_patient(), world.method(atlas="SRI24"))


GRID = Grid.isotropic(8, 2.0, (0, 0, 0))


def masks(whole):
    array = np.zeros(GRID.shape, bool)
    array[2:5, 2:5, 2:5] = whole
    return TumorMasks(array, array, GRID)


def test_warnings_of_a_query():
    assert list(query_warnings(masks(True))) == []
    (said,) = query_warnings(masks(False))
    assert "outside the atlas's brain" in said
    assert "brain mask" in said


@pytest.mark.slow
def test_a_poor_fit_is_said_of_the_tumour_that_is_shown(refined):
    for name, words in (("match", "larger database"), ("refined", "look at the report")):
        estimate = replace(refined.estimates[name], residual_rms=1.0)
        good, poor = (replace(estimate, fit=replace(estimate.fit, dice_core=0.65, dice_whole=d)) for d in (0.65, 0.64))
        assert list(fit_warnings(good)) == []
        (said,) = fit_warnings(poor)
        assert "fits poorly (Dice core 0.65, whole 0.64)" in said
        assert words in said
        (said,) = fit_warnings(replace(good, residual_rms=2.3))
        assert "The growth model does not describe this tumour" in said
        assert "off by 2.3 log-odds" in said
        assert list(fit_warnings(replace(good, residual_rms=2.0))) == []


@pytest.mark.slow
@pytest.mark.parametrize(("core", "whole", "quality"), [(0.0, 0.95, "well"), (1.0, 0.5, "poorly")])
def test_without_a_core_warning_and_quality_agree(refined, core, whole, quality):
    estimate = refined.estimate
    fit = replace(estimate.fit, dice_core=core, dice_whole=whole, observed_ml=(0.0, 30.0))
    assert fit.quality == quality
    said = list(fit_warnings(replace(estimate, fit=fit)))
    assert bool(said) == (quality == "poorly")
    assert not said or "(Dice of the whole tumour 0.50)" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("two_foci", ["taken", "lost", "not tried", "out of time", "impossible"])
def test_a_part_without_density_is_told_with_a_remedy_that_helps(refined, two_foci):
    empty = replace(refined.estimate, in_patient=Volume(0 * refined.density.array, refined.density.grid))
    observed = refined.patient.regions_on_t1gd
    (said,) = missed_warnings(empty, "refined", observed, replace(refined.refinement, two_foci=two_foci))
    assert ("(--foci 2)" in said) == (two_foci == "not tried")
    assert "Cells are there that the density does not show" in said
    (said,) = missed_warnings(empty, "match", observed, None)
    assert "--refine patient" in said
    (said,) = missed_warnings(empty, "assimilated", observed, None)
    assert "fills it up to its outline" in said


def test_a_length_at_the_end_of_the_searched_range_is_told_of_sensitivity_too():
    def row(assumption, *lengths):
        return SensitivityRow(assumption, lengths, (10.0,), 1.0, 2.0, 3.0, 0.05, 1.5)

    # In an atlas whose millimetre is 1.1 of the patient's, .5 mm there are .55 mm.
    rows = row("A", 2.0, 0.55), row("B", 0.5), row("C", 13.2), row("D", 0.55)
    shortest, longest = sensitivity_warnings(rows, 1.1)
    assert shortest.startswith("With A and with D the infiltration length ran to the shortest that is searched, 0.5 mm")
    assert longest.startswith("With C the infiltration length ran to the longest that is searched, 12 mm")
    assert list(sensitivity_warnings(rows[1:2], 1.1)) == []


@pytest.mark.slow
def test_small_parts_without_density_are_told_by_number_and_volume(refined):
    observed = refined.patient.regions_on_t1gd
    cubes = (np.indices(observed.grid.shape) % 6 < 3).all(axis=0)
    density = Volume(np.where(cubes, np.float32(0), np.float32(0.5)), observed.grid)
    (said,) = missed_warnings(replace(refined.estimate, in_patient=density), "refined", observed, refined.refinement)
    assert re.search(r"tumour: \d\.\d ml in \d\d small parts\. .* not modelled", said)


@pytest.mark.slow
def test_warnings_of_a_refinement(refined):
    path = tuple(Solve(n, 1.0, (0.0, 0.0, 0.0), 2.0, 10.0) for n in range(7))
    ended = {
        stopped: Refinement(refined.refinement.parameters, refined.refinement.density, 1.0, path, stopped)
        for stopped in ("budget", "converged", "time")
    }
    worse, better = refined.estimates["match"], refined.estimates["refined"]
    assert list(refinement_warnings(ended["budget"], worse, better)) == []
    assert list(refinement_warnings(ended["converged"], worse, better)) == []
    (said,) = refinement_warnings(ended["time"], worse, better)
    assert "after 7 solves" in said
    (said,) = refinement_warnings(ended["budget"], better, worse)
    assert "the match fits better" in said
    assert len(list(refinement_warnings(ended["time"], better, worse))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("end", "length"), [("shortest", SHORTEST_LENGTH), ("longest", LONGEST_LENGTH)])
def test_a_length_at_the_end_of_what_is_searched_is_told(refined, end, length):
    one = refined.refinement.parameters[0]
    at_end = GrowthParameters.from_identifiable(one.seed, length, one.rho_t, one.proliferation)
    estimates = refined.estimates["match"], refined.estimates["refined"]
    (said,) = refinement_warnings(replace(refined.refinement, parameters=(at_end,)), *estimates)
    assert f"ran to the {end} that is searched, {length:g} mm" in said


@pytest.mark.slow
@pytest.mark.parametrize("refine", ["atlas", "patient"])
def test_a_tumour_of_which_the_anatomy_has_nothing_is_not_refined(world, refined, refine):
    """In the atlas there is some of it, in the patient's anatomy, whose grid ends around the brain, there is none."""
    away = sitk.TranslationTransform(3, (300.0, 0.0, 0.0))
    query = refined.query if refine == "patient" else masks(False)
    found = refine_match(
        refined.patient,
        world.method(refine=refine),
        refined.estimates["match"],
        refined.matched_parameters,
        world.atlas,
        SpaceMap(away.GetInverse(), away),
        query,
        (0.6, 0.2),
    )
    assert found is None


def layered_patient(*, with_t1=True):
    """A patient of the brain in layers, whose T1Gd is a FLAIR's contrast where there is a T1."""
    t1, other = scanned(LAYERS), scanned(LAYERS, intensity={"white": 150.0, "grey": 220.0, "csf": 60.0})
    regions = {"core": ball(LAYERS, 5.0), "whole": ball(LAYERS, 9.0)}
    return Patient(t1gd=other, t1=t1, **regions) if with_t1 else Patient(t1gd=t1, **regions)


@pytest.mark.slow
def test_the_patients_own_tissue_is_looked_for_in_the_t1_else_in_the_t1gd():
    atlas, stay = layered_atlas(), SpaceMap(sitk.AffineTransform(3), sitk.AffineTransform(3))
    carried, masks = patient_anatomy(layered_patient(), atlas, stay)
    by_t1, masks_of_own = patient_anatomy(layered_patient(), atlas, stay, "own")
    by_t1gd, _ = patient_anatomy(layered_patient(with_t1=False), atlas, stay, "own")
    assert carried.origin is None
    assert (by_t1.origin.image, by_t1gd.origin.image) == ("t1", "t1gd")
    assert by_t1.warnings == carried.warnings == ()
    assert "found in the T1Gd, where vessels" in by_t1gd.warnings[0]
    np.testing.assert_array_equal(by_t1.tissue.mobility, by_t1gd.tissue.mobility)
    assert by_t1.grid.matches(carried.grid)
    assert (by_t1.tissue.mask != carried.tissue.mask).mean() > 0.01
    np.testing.assert_array_equal(masks_of_own.whole, masks.whole)


@pytest.mark.slow
def test_own_tissue_that_cannot_be_found_is_the_atlass_and_said(world, refined):
    """The small world's images show no CSF."""
    result = infer(world_patient(), world.method(tissue="own"))
    assert result.to_json()["tissue"] is None
    (said,) = (warning for warning in result.warnings if "own tissue" in warning)
    assert said.startswith("The patient's own tissue cannot be found in the T1Gd, and the atlas's is used: Grey matter")
    np.testing.assert_array_equal(result.density.array, refined.density.array)


@pytest.mark.slow
@pytest.mark.parametrize("refine", ["patient", "atlas"])
def test_sensitivity_is_a_table_beside_a_result_that_stays_the_same(world, refined, refine):
    result = infer(world_patient(), world.method(sensitivity=True, refine=refine))
    rows = result.to_json()["sensitivity"]
    assert len(rows) == len(result.sensitivity) == 3
    assert rows[0]["dice_sum"] >= result.estimates["refined"].fit.dice_sum - 0.05
    assert all(row["level"] == 0.05 for row in rows)
    assert "sensitivity" in result.timings
    if refine == "patient":
        np.testing.assert_array_equal(result.density.array, refined.density.array)
        assert refined.to_json()["sensitivity"] is None


def with_moved_flair(matrix, **changes):
    """The small world's patient, whose FLAIR's header says that it lies elsewhere."""
    patient = world_patient()
    volumes = {role: getattr(patient, role) for role in ("t1gd", "flair", "core", "whole")} | changes
    return Patient(**volumes | {"flair": Volume(patient.flair.array, patient.flair.grid.moved(matrix))})


def shifted(x, y, z):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


@pytest.mark.slow
def test_a_moved_flair_is_moved_back_and_said_with_the_figures(world):
    result = infer(with_moved_flair(shifted(9.0, 5.0, -4.0)), world.method(refine="none", align=True))
    found = result.to_json()["alignment"]["flair"]
    assert found["moved"] is True
    assert found["shift_mm"] == pytest.approx(np.sqrt(122), abs=0.5)
    (said,) = (warning for warning in result.warnings if "off the T1Gd" in warning)
    assert said.startswith(f"The FLAIR lies {found['shift_mm']:.1f} mm and {found['angle_degrees']:.1f} degrees off")
    assert "the segmentation" not in said
    moved = np.array(found["matrix"]) @ with_moved_flair(shifted(9.0, 5.0, -4.0)).flair.grid.affine
    np.testing.assert_allclose(result.patient.flair.grid.affine, moved)
    assert not any("overlap by only" in warning for warning in result.warnings)
    assert "alignment" in result.timings
    assert "brain" in result.timings
    assert result.to_json()["brain"]["source"] == "stripped"


@pytest.mark.slow
def test_a_segmentation_drawn_on_a_moved_flair_moves_with_it(world):
    matrix, straight = shifted(9.0, 5.0, -4.0), world_patient()
    masks = {
        role: Volume(getattr(straight, role).array, straight.whole.grid.moved(matrix)) for role in ("core", "whole")
    }
    result = infer(with_moved_flair(matrix, **masks), world.method(refine="none", align=True))
    (said,) = (warning for warning in result.warnings if "off the T1Gd" in warning)
    assert "with it the core and the whole tumour drawn on it" in said
    for found, expected in ((result.patient.core, straight.core), (result.patient.whole, straight.whole)):
        centres = [v.grid.to_ras(np.argwhere(v.array)).mean(axis=0) for v in (found, expected)]
        assert np.linalg.norm(centres[0] - centres[1]) < 0.7
    left = infer(with_moved_flair(matrix, **masks), world.method(refine="none"))
    assert left.to_json()["alignment"] is None
    assert left.patient.whole.grid == masks["whole"].grid
    assert not any("off the T1Gd" in warning for warning in left.warnings)


@pytest.mark.slow
def test_images_that_lie_right_stay_the_very_same(world):
    patient = world_patient()
    aligned = infer(patient, world.method(refine="none", align=True))
    left = infer(patient, world.method(refine="none"))
    assert aligned.patient is patient
    assert aligned.to_json()["alignment"]["flair"]["moved"] is False
    np.testing.assert_array_equal(aligned.density.array, left.density.array)
    assert left.warnings == aligned.warnings


def test_an_alignment_that_is_doubted_is_said():
    doubted = Alignment(np.eye(4), 3.24, 2.0, moved=False, doubtful=True)
    right = Alignment(np.eye(4), 0.2, 0.1, moved=False, doubtful=False)
    (said,) = alignment_warnings({"flair": doubted, "t1": right}, {"core": "t1gd", "whole": "t1gd"})
    assert "The FLAIR seems to lie 3.2 mm and 2.0 degrees off the T1Gd" in said
    assert "it was left where it is" in said
    turned = Alignment(np.eye(4), 30.0, 180.0, moved=False, doubtful=True, turned=True)
    (said,) = alignment_warnings({"flair": turned}, {"core": "flair", "whole": "flair"})
    assert "turned by 180 degrees" in said
    assert "left where it is, and so were the core and the whole tumour drawn on it" in said


def test_a_given_brain_mask_wins_and_moves_with_its_image():
    patient = world_patient()
    mask = Volume(patient.t1gd.array > 0, patient.t1gd.grid)
    brain = find_patient_brain(world_patient(brain_mask=mask))
    assert brain.source == "given"
    assert brain.mask is mask


@pytest.fixture(scope="module")
def with_skull(atlas):
    """A head with skull in the atlas's place, whose tumour reaches beyond the brain, and what is found of it."""
    image, _ = head_with_skull(atlas)
    points = image.grid.to_ras(np.moveaxis(np.indices(image.grid.shape), 0, -1))
    distance = np.linalg.norm(points - atlas.t1.grid.centre - (55.0, 0.0, 25.0), axis=-1)
    core, whole = (Volume(distance < radius, image.grid) for radius in (9.0, 20.0))
    patient = Patient(t1gd=image, core=core, whole=whole)
    return infer(patient, Method(registration="none", refine="none"), atlas=atlas)


@pytest.mark.slow
def test_the_brain_of_a_head_is_extracted_and_holds_the_whole_tumour(with_skull, atlas, tmp_path):
    content = with_skull.to_json()
    assert content["brain"]["source"] == "extracted"
    assert not any("seems to contain the skull" in warning for warning in with_skull.warnings)
    assert (with_skull.brain.mask.array >= with_skull.patient.whole.array).all()
    _, brain = head_with_skull(atlas)
    assert dice(with_skull.brain.mask.array, brain.array) > 0.85
    with_skull.write(tmp_path)
    written = sitk.ReadImage(str(tmp_path / content["outputs"]["brain"]))
    assert written.GetPixelID() == sitk.sitkUInt8
    mask = volume_from_image(written)
    assert mask.grid.matches(with_skull.patient.t1gd.grid)
    np.testing.assert_array_equal(mask.array != 0, with_skull.brain.mask.array)


@pytest.mark.slow
def test_a_tumour_beyond_the_extracted_brain_is_said(with_skull):
    added = with_skull.brain.added_share
    assert added > 0.02
    assert any(f"{added:.0%} of the segmented tumour" in warning for warning in with_skull.warnings)
