"""The made-up patients are what they are said to be."""

import numpy as np
import pytest

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.geometry.grid import Grid, resample
from TumorQueryLib.geometry.regions import TumorMasks
from TumorQueryLib.geometry.transforms import map_points
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.studies import phantom

THRESHOLDS = (0.6, 0.2)


@pytest.fixture(scope="module")
def anatomy():
    return Atlas.load("MNI152")


@pytest.mark.slow
def test_true_map_goes_both_ways(grown):
    points = grown.density.grid.to_ras(np.argwhere(grown.brain)[::4001])
    there = map_points(grown.truth.patient_to_atlas, points)
    assert np.linalg.norm(there - points, axis=1).mean() > 5
    back = map_points(grown.truth.atlas_to_patient, there)
    assert np.percentile(np.linalg.norm(back - points, axis=1), 95) < 0.2


@pytest.mark.slow
def test_regions_and_images_follow_the_density(grown):
    density, patient = grown.density.array, grown.patient
    assert np.array_equal(patient.core.array, density > 0.6)
    assert np.array_equal(patient.whole.array, density > 0.2)
    for image in (patient.t1, patient.t1gd, patient.flair):
        assert np.array_equal(image.array > 0, grown.brain)
    healthy = grown.brain & ~patient.whole.array
    oedema = patient.whole.array & ~patient.core.array
    assert patient.flair.array[oedema].mean() > 1.5 * patient.flair.array[healthy].mean()
    assert patient.t1gd.array[patient.core.array].max() > 1.3 * patient.t1.array[patient.core.array].max()


@pytest.mark.slow
def test_the_true_seed_lies_in_the_tumour(grown):
    seed = grown.truth.point_in_patient(grown.parameters.seed)
    grid = grown.density.grid
    assert grown.density.array[tuple(np.rint(grid.to_index(seed)).astype(int))] > 0.8 * grown.density.array.max()


@pytest.mark.slow
def test_mass_effect_makes_room_for_the_tumour(anatomy, grown):
    pushed = phantom.grown_phantom(anatomy, grown.parameters, THRESHOLDS, random_seed=5, mass_effect=True)
    assert pushed.patient.whole.array.sum() > 1.2 * grown.patient.whole.array.sum()


@pytest.fixture(scope="module")
def head(anatomy):
    """A head with a ball of tumour, coarse, and the textures that make it uneven."""
    grid = Grid.isotropic(60, 3.0, anatomy.t1.grid.centre)
    points = anatomy.grid.to_ras(np.moveaxis(np.indices(anatomy.grid.shape), 0, -1))
    distance = np.linalg.norm(points - (anatomy.grid.centre + np.array([25.0, 0.0, 15.0])), axis=-1)
    density = np.clip(1.3 - distance / 20, 0, 1).astype(np.float32)
    random = np.random.default_rng(0)
    warp = phantom.textured_warp(random, grid.centre, 6.0, 28.0)
    textures = phantom.Textures(*(phantom.textured_noise(random, grid, scale) for scale in (6.0, 3.0, 8.0)))
    return phantom.Head.carried(anatomy, density, warp, grid), textures, warp


def test_the_textured_warp_is_no_longer_than_said(head):
    points = head[0].grid.to_ras(np.argwhere(head[0].brain)[::101])
    moved = np.linalg.norm(map_points(head[2], points) - points, axis=1)
    assert moved.max() < 6.01
    assert moved.mean() > 1


def test_painted_head_shows_a_glioblastoma(head):
    carried, textures, _ = head
    t1gd = phantom.paint_t1gd(carried, textures, THRESHOLDS)
    flair = phantom.paint_flair(carried, textures, THRESHOLDS)
    labels = phantom.read_labels(carried, textures, THRESHOLDS).array
    assert set(np.unique(labels)) == {0, 1, 2, 4}
    white = (carried.white > 0.9) & (carried.density < 0.01)
    assert np.median(t1gd[labels == 4]) > 1.1 * np.median(t1gd[white]) > 1.5 * np.median(t1gd[labels == 1])
    assert np.median(flair[labels == 2]) > 1.4 * np.median(flair[white])


def test_a_scan_is_stripped_whole_numbers_about_white_matter(head):
    carried, _, _ = head
    scanned = phantom.scan(carried.t1, carried, np.random.default_rng(1), noise=0.02, white=400)
    assert scanned.array.dtype == np.int16
    assert np.array_equal(scanned.array > 0, carried.brain)
    assert np.median(scanned.array[carried.white > 0.9]) == pytest.approx(400, rel=0.2)


@pytest.mark.slow
def test_warped_patient_is_the_atlas_seen_through_its_map(anatomy):
    image, tumour, truth = phantom.warped_patient(anatomy)
    assert tumour.array.sum() * tumour.grid.voxel_volume_ml == pytest.approx(48, abs=1)
    assert not (tumour.array & (image.array == 0)).any()
    seen = resample(anatomy.t1, image.grid, truth).array
    healthy = (image.array > 0) & ~tumour.array
    assert np.corrcoef(seen[healthy], image.array[healthy])[0, 1] > 0.8


def test_synthetic_volumes_are_a_patient_on_any_grid(awkward_affine):
    affine = awkward_affine @ np.diag([4.0, 4.0, 2.0, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ np.array([22.0, 22.0, 22.0])
    volumes = phantom.synthetic_volumes(Grid((45, 45, 45), affine), core_radius=12.0, whole_radius=20.0)
    patient = Patient(**volumes)
    voxel = patient.core.grid.voxel_volume_ml
    assert patient.core.array.sum() * voxel == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.2)
    assert (patient.core.array <= patient.whole.array).all()


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_a_readers_outlines_are_off_by_the_deviation_that_is_asked_for(deviation):
    radius, grid = 20.0, Grid.isotropic(64, 1.25, (0.0, 0.0, 0.0))
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points, axis=-1)
    true = TumorMasks(distance < radius / 2, distance < radius, grid)
    everywhere = np.ones(grid.shape, bool)
    drawn = [phantom.misdrawn(true, deviation, everywhere, seed) for seed in range(4)]
    # The mean size of a normal error times the sphere's surface is what is drawn too much or left out.
    wrong = np.mean([np.count_nonzero(d.whole ^ true.whole) for d in drawn]) / np.count_nonzero(true.whole)
    assert wrong == pytest.approx(deviation * np.sqrt(2 / np.pi) * 3 / radius, rel=0.2)
    assert all(not np.any(d.core & ~d.whole) for d in drawn)
    assert not np.array_equal(drawn[0].whole, drawn[1].whole)
    in_part = phantom.misdrawn(true, deviation, points[..., 0] < 0, 0)
    assert not np.any(in_part.whole & (points[..., 0] >= 0))
