"""The registration finds where a patient lies, both ways, whatever the header, the intensities or the tumour."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from property_examples import examples

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, InputError, OutputError
from TumorQueryLib.geometry.grid import Grid, Volume, ras_to_lps, resample, volume_from_image
from TumorQueryLib.geometry.regions import dilated
from TumorQueryLib.geometry.transforms import SpaceMap, jacobian_determinant, map_points
from TumorQueryLib.registration import register
from TumorQueryLib.registration.prepared import isotropic_around
from TumorQueryLib.results.files import OUTPUTS, write_transforms
from TumorQueryLib.studies.benchmarks.pipeline import point_errors
from TumorQueryLib.studies.phantom import head_with_skull, warped_patient

TEST_DATA = os.environ.get("TUMORQUERY_TEST_DATA")
needs_data = pytest.mark.skipif(not TEST_DATA, reason="TUMORQUERY_TEST_DATA is not set")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def mni():
    return Atlas.load("MNI152")


@pytest.fixture(scope="session")
def sri():
    return Atlas.load("SRI24")


def rigid(angles, translation, centre):
    """A rotation (degrees about x, y, z) and translation in LPS mm."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(ras_to_lps(centre).tolist())
    transform.SetRotation(*np.deg2rad(angles).tolist())
    transform.SetTranslation(translation)
    return transform


def moved_header(image: Volume, rotation: np.ndarray, shift) -> Volume:
    """The same voxels with a header turned and moved in RAS."""
    turn = np.eye(4)
    turn[:3, :3] = rotation
    turn[:3, 3] = shift
    return Volume(image.array, Grid(image.grid.shape, turn @ image.grid.affine))


@pytest.fixture(scope="session")
def warped(mni):
    """A made-up patient whose map to the atlas is known: image, tumour, the map."""
    return warped_patient(mni)


@pytest.fixture(scope="session")
def registered(mni, warped):
    image, tumour, _ = warped
    return register(image, mni, "deformable", tumour=tumour)


def test_known_warp_is_recovered_without_folds_and_invertibly(registered, warped):
    errors = point_errors(registered, *warped)
    assert errors["median_mm"] <= 0.5
    assert errors["p95_mm"] <= 1.2
    assert errors["in_tumour_median_mm"] <= 3.5
    assert registered.quality["inverse_error_p95_mm"] <= 0.3
    assert registered.quality["jacobian_min"] > 0.2
    assert registered.quality["folded_share"] == 0
    assert registered.warnings == ()


def test_affine_survives_a_misplaced_oblique_flipped_thick_sliced_header(mni):
    """Native-like: 5.5 mm slices, first axis flipped, negative background, turned and moved by up to 200 mm."""
    truth = rigid((4, -6, 3), (3.0, -2.0, 5.0), mni.t1.grid.centre)
    affine = np.diag([-0.9, 0.9, 5.5, 1.0])
    shape = (200, 240, 32)
    affine[:3, 3] = mni.t1.grid.centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    values = resample(mni.t1, grid, truth).array
    array = np.where(values > 5, values / 20 - 4, -9.0).astype(np.float32)
    turn = np.array(rigid((60, -30, 20), (0.0, 0.0, 0.0), np.zeros(3)).GetMatrix()).reshape(3, 3)
    patient = moved_header(Volume(array, grid), turn, (-150.0, 60.0, 200.0))
    registration = register(patient, mni, "affine")
    indices = np.argwhere(values > 5)[::300]
    found = map_points(registration.patient_to_atlas, patient.grid.to_ras(indices))
    errors = np.linalg.norm(found - map_points(truth, grid.to_ras(indices)), axis=1)
    assert np.median(errors) < 2.0
    assert registration.quality["brain_dice"] > 0.95
    assert registration.warnings == ()
    # Both ways are each other's inverse, and masks follow.
    there = map_points(registration.atlas_to_patient, found)
    assert np.abs(there - patient.grid.to_ras(indices)).max() < 1e-3


@pytest.fixture(scope="module")
def straight(mni, sri):
    """Another brain than the atlas's at twice its voxels, and how it is registered."""
    grid = Grid(tuple(-(-n // 2) for n in sri.t1.grid.shape), sri.t1.grid.affine @ np.diag([2.0, 2, 2, 1]))
    image = Volume(sri.t1.array[::2, ::2, ::2], grid)
    return image, register(image, mni, "affine")


@pytest.mark.parametrize(
    "turn",
    [
        np.diag([-1.0, -1, 1]),
        np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
        np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ],
    ids=["180 degrees about S", "90 degrees about R", "90 degrees about S"],
)
def test_a_head_turned_by_a_lost_header_is_found_and_said(mni, straight, turn):
    """Its voxels lie turned by 90 or 180 degrees under their header."""
    image, usual = straight
    turned = moved_header(image, turn, (30.0, -20.0, 10.0))
    found = register(turned, mni, "affine")
    assert not any("turned" in warning for warning in usual.warnings)
    degrees = [float(w.split("turned by ")[1].split()[0]) for w in found.warnings if "turned by" in w]
    assert len(degrees) == 1
    assert abs(degrees[0] - np.degrees(np.arccos((np.trace(turn) - 1) / 2))) < 20
    indices = np.argwhere(image.array > 0)[::500]
    apart = map_points(found.patient_to_atlas, turned.grid.to_ras(indices)) - map_points(
        usual.patient_to_atlas, image.grid.to_ras(indices)
    )
    assert np.median(np.linalg.norm(apart, axis=1)) < 2


def test_same_input_gives_the_same_transform_to_the_last_bit(mni, warped, registered):
    image, tumour, _ = warped
    again = register(image, mni, "deformable", tumour=tumour)
    points = image.grid.to_ras(np.argwhere(image.array > 0)[::500])
    for name in ("patient_to_atlas", "atlas_to_patient"):
        assert np.array_equal(map_points(getattr(again, name), points), map_points(getattr(registered, name), points))
    assert again.quality == registered.quality


def test_written_transforms_are_read_back_and_map_alike(registered, warped, tmp_path):
    image, _, _ = warped
    write_transforms(registered, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["atlas_to_patient.h5", "patient_to_atlas.h5"]
    points = image.grid.to_ras(np.argwhere(image.array > 0)[::997])
    for name in ("patient_to_atlas", "atlas_to_patient"):
        path = tmp_path / OUTPUTS[name]
        assert path.stat().st_size < 12e6
        assert np.allclose(
            map_points(sitk.ReadTransform(str(path)), points),
            map_points(getattr(registered, name), points),
            atol=1e-5,
        )
    atlas_points = map_points(registered.patient_to_atlas, points)
    back = map_points(registered.atlas_to_patient, atlas_points)
    assert np.percentile(np.linalg.norm(back - points, axis=1), 95) < 0.3


def test_unwritable_folder_is_said_in_words(registered, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_transforms(registered, tmp_path / "missing")


def test_masks_and_density_go_to_the_atlas_and_back(registered, warped, mni):
    image, region, _ = warped
    moved = registered.masks_in_atlas(region, region, mni.grid)
    assert moved.core.shape == mni.grid.shape
    assert not (moved.core & ~moved.whole).any()
    density = registered.in_patient(Volume(moved.whole.astype(np.float32), mni.grid), image.grid)
    back = density.array > 0.5
    assert 2 * (back & region.array).sum() / (back.sum() + region.array.sum()) > 0.9
    # Volumes in the patient and in the atlas differ by what the length scale says.
    ratio = region.array.sum() * region.grid.voxel_volume_ml / (moved.whole.sum() * mni.grid.voxel_volume_ml)
    assert registered.length_scale(region) == pytest.approx(ratio ** (1 / 3), rel=0.03)


def test_seed_goes_to_the_patient_and_back(registered, warped):
    _, region, _ = warped
    centre = region.grid.to_ras(np.argwhere(region.array).mean(axis=0))
    in_atlas = map_points(registered.patient_to_atlas, centre[None])[0]
    assert np.linalg.norm(registered.point_in_patient(in_atlas) - centre) < 0.5
    assert np.linalg.norm(registered.point_in_patient(centre) - in_atlas) > 1, "the way there is not the way back"


@examples(25)
@given(
    scales=st.tuples(*[st.floats(0.7, 1.4)] * 3),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    spacing=st.tuples(st.floats(0.6, 1.5), st.floats(0.6, 1.5), st.floats(1.0, 6.0)),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
)
def test_length_scale_is_the_cube_root_of_the_volume_ratio(scales, angles, spacing, flips):
    """For an affine map the determinant is one number, on any grid of the tumour's."""
    rotation = np.array(rigid(angles, (0.0, 0.0, 0.0), np.zeros(3)).GetMatrix()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * flips)
    array = np.zeros((9, 8, 5), dtype=bool)
    array[3:6, 2:6, 1:3] = True
    to_atlas = sitk.AffineTransform(3)
    to_atlas.SetMatrix((rotation.T @ np.diag(scales)).ravel().tolist())
    space = SpaceMap(to_atlas, to_atlas.GetInverse())
    expected = np.prod(scales) ** (-1 / 3)
    assert space.length_scale(Volume(array, Grid(array.shape, affine))) == pytest.approx(expected, rel=1e-3)


def test_length_scale_of_an_empty_tumour_is_refused(mni):
    empty = Volume(np.zeros((4, 4, 4), dtype=bool), Grid((4, 4, 4), np.eye(4)))
    identity = sitk.AffineTransform(3)
    with pytest.raises(InputError, match="empty"):
        SpaceMap(identity, identity).length_scale(empty)


def test_jacobian_of_a_known_field(mni):
    """A displacement that is linear in x has the determinant 1 + slope, on an oblique grid too."""
    scale = sitk.AffineTransform(3)
    scale.SetMatrix((1.25, 0, 0, 0, 1, 0, 0, 0, 0.8))
    grid = Grid((6, 5, 4), np.array([[0, -2.0, 0, 3], [1.5, 0, 0, -4], [0, 0, 3.0, 7], [0, 0, 0, 1]]))
    assert np.allclose(jacobian_determinant(scale, grid), 1.0)
    scale.SetMatrix((1.25, 0, 0, 0, 1, 0, 0, 0, 1))
    assert np.allclose(jacobian_determinant(scale, grid), 1.25)


def test_none_takes_the_image_as_it_lies_and_warns_where_it_lies_elsewhere(mni):
    registration = register(mni.t1, mni, "none")
    assert registration.quality["brain_dice"] > 0.99
    assert registration.quality["correlation"] > 0.99
    assert registration.warnings == ()
    point = np.array([[10.0, -20.0, 30.0]])
    assert np.array_equal(map_points(registration.patient_to_atlas, point), point)
    elsewhere = register(moved_header(mni.t1, np.eye(3), (25.0, 0.0, 0.0)), mni, "none")
    assert any("fits the atlas poorly" in warning for warning in elsewhere.warnings)


def test_unknown_mode_and_images_without_a_brain_are_refused(mni):
    with pytest.raises(InputError, match="choose none, affine or deformable"):
        register(mni.t1, mni, "elastic")
    flat = Volume(np.full(mni.t1.grid.shape, 7.0, dtype=np.float32), mni.t1.grid)
    with pytest.raises(InputError, match="every voxel is 7"):
        register(flat, mni, "none")
    far = Volume(np.ones((5, 5, 5), dtype=bool), Grid.isotropic(5, 1.0, (900.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="brain mask"):
        register(mni.t1, mni, "none", brain_mask=far)


def test_cancelling_ends_the_registration_at_once(mni):
    calls = []

    def cancel(value, message):
        calls.append(value)
        if value > 0.03:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        register(mni.t1, mni, "deformable", progress=cancel)
    assert calls == sorted(calls)
    assert calls[-1] < 0.1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("delay", [0.8, 1.3, 1.8])
def test_an_interrupt_is_not_lost_in_the_affine_search(mni, sri, delay):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        with pytest.raises(KeyboardInterrupt):
            register(mni.t1, sri, "affine")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_skull_is_noticed_and_the_warning_says_what_helps(mni):
    head, brain = head_with_skull(mni)
    with_skull = register(head, mni, "none")
    text = " ".join(with_skull.warnings)
    assert "SynthStrip" in text
    assert "HD-BET" in text
    assert "brain mask" in text
    masked = register(head, mni, "none", brain_mask=brain)
    assert masked.warnings == ()
    assert masked.quality["brain_dice"] > 0.97


@needs_data
@pytest.mark.parametrize("patient", ["BRATS2013_pat0001", "TCGA-FG-6692_native"])
def test_real_patients_register_well(sri, patient):
    """One with a negative background and no plain T1, one native with 5.5 mm slices."""
    folder = Path(TEST_DATA) / "patients" / patient
    image = volume_from_image(sitk.ReadImage(str(folder / "t1gd.nii.gz")))
    labels = volume_from_image(sitk.ReadImage(str(folder / "seg.nii.gz")))
    registration = register(image, sri, "deformable", tumour=Volume(labels.array > 0.5, labels.grid))
    assert registration.warnings == ()
    assert registration.quality["brain_dice"] > 0.95
    assert registration.quality["correlation"] > 0.5
    assert registration.quality["inverse_error_p95_mm"] < 0.3
    assert registration.quality["jacobian_min"] > 0.1


def test_digits_that_formats_write_differently_decide_nothing():
    """A slice of 1.5 mm is 1.500000011 mm by the positions of a DICOM series; the same voxels are compared."""
    mask = np.zeros((20, 24, 32), dtype=bool)
    mask[4:16, 4:20, 4:28] = True
    masks = [
        Volume(mask, Grid(mask.shape, np.diag([1.0, 1.0, 1.5 * digits, 1.0]))) for digits in (1, 1 + 1e-8, 1 - 1e-8)
    ]
    grids = [isotropic_around(one) for one in masks]
    assert grids[0].shape == grids[1].shape == grids[2].shape
    grown = [dilated(one, 3.0) for one in masks]
    assert grown[0][10, 10, 2]
    assert np.array_equal(grown[0], grown[1])
    assert np.array_equal(grown[0], grown[2])
