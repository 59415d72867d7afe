"""A patient as a whole: what is accepted with a warning, what is refused, and real cases."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, centred_grid
from scipy import ndimage

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.brain import find_background, find_brain
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, resample_mask
from TumorQueryLib.geometry.regions import bounding_box, dice
from TumorQueryLib.inputs.patient import Patient, read_mask_file
from TumorQueryLib.studies.phantom import synthetic_volumes

COARSE = Grid.isotropic(48, 4.0, (0.0, 0.0, 0.0))


def moved(volume: Volume, shift) -> Volume:
    """The same voxels elsewhere in space."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] += shift
    return Volume(volume.array, Grid(volume.grid.shape, affine))


def ball(grid: Grid, centre, radius) -> Volume:
    points = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume(np.linalg.norm(points - np.array(centre), axis=-1) < radius, grid)


def test_a_sound_patient_gives_no_warning(synthetic_patient):
    patient = synthetic_patient()
    assert patient.warnings == ()
    assert patient.t1gd.array.dtype == np.float32
    assert patient.registration_image is patient.t1gd
    assert synthetic_patient(t1=patient.flair).registration_image.array is not patient.t1gd.array
    assert [record["role"] for record in patient.inputs] == ["t1gd", "flair", "core", "whole"]
    assert all(set(record) == {"role", "sha256", "grid"} and len(record["sha256"]) == 64 for record in patient.inputs)
    json.dumps(patient.inputs)


def test_a_segmentation_on_another_grid_over_the_same_head_is_accepted(synthetic_patient):
    finer = synthetic_volumes(centred_grid((80, 90, 60), AWKWARD_AFFINES["oblique"] @ np.diag([2.0, 2.0, 1.0, 1.0])))
    patient = synthetic_patient(core=finer["core"], whole=finer["whole"])
    assert patient.warnings == ()
    assert patient.whole.grid == finer["whole"].grid
    on_t1gd = patient.regions_on_t1gd
    assert on_t1gd.grid.matches(patient.t1gd.grid)
    assert np.array_equal(on_t1gd.whole, resample_mask(finer["whole"], patient.t1gd.grid).array)
    assert np.array_equal(on_t1gd.core, resample_mask(finer["core"], patient.t1gd.grid).array)
    assert not (on_t1gd.core & ~on_t1gd.whole).any()


def test_two_masks_on_two_grids_end_on_the_finer_one(synthetic_patient):
    fine = Grid.isotropic(96, 2.0, (0.0, 0.0, 0.0))
    patient = synthetic_patient(core=ball(fine, (20, 10, 5), 10))
    assert patient.core.grid == patient.whole.grid == fine
    patient = synthetic_patient(whole=ball(fine, (20, 10, 5), 18))
    assert patient.core.grid == patient.whole.grid == fine


def cropped_to_its_own_box(mask: Volume, margin: int) -> Volume:
    start, stop = bounding_box(mask.array)
    start, stop = start - margin, stop + margin
    box = tuple(slice(a, b) for a, b in zip(start, stop))
    return Volume(np.ascontiguousarray(mask.array[box]), mask.grid.cropped(start, stop))


@pytest.mark.slow
@pytest.mark.parametrize("core_spacing", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("cropped", [("core",), ("whole",), ("core", "whole")])
@pytest.mark.parametrize("axes", ["lps", "sagittal", "oblique"])
def test_masks_cropped_to_what_they_hold_keep_their_volumes(synthetic_patient, core_spacing, cropped, axes):
    """As SlicerRT, dcmqi and others export them: each mask in its own box, finer or coarser than the other's."""
    directions = AWKWARD_AFFINES[axes][:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions / np.linalg.norm(directions, axis=0) * core_spacing
    size = round(60 / core_spacing)
    made = {
        "core": ball(centred_grid((size, size, size), affine, (18, 12, 5)), (18, 12, 5), 11),
        "whole": ball(centred_grid((50, 50, 50), np.diag([-2.0, -2.0, 2.0, 1.0]), (20, 10, 5)), (20, 10, 5), 20),
    }
    full = synthetic_patient(**made)
    for margin in (0, 1):
        patient = synthetic_patient(
            **{name: cropped_to_its_own_box(mask, margin) if name in cropped else mask for name, mask in made.items()}
        )
        assert patient.core.grid == patient.whole.grid
        assert patient.whole.grid.voxel_volume_ml == pytest.approx(full.whole.grid.voxel_volume_ml)
        for name in made:
            volumes = [getattr(one, name).array.sum() * one.whole.grid.voxel_volume_ml for one in (patient, full)]
            assert volumes[0] == pytest.approx(volumes[1], rel=0.04), (name, margin)


def test_a_mask_of_one_slice_is_a_mask(synthetic_patient, tmp_path):
    """A label map cropped to a small core can be a single thick slice."""
    mask = Volume(np.ones((6, 6, 1), dtype=np.uint8), centred_grid((6, 6, 1), np.diag([2.0, 2.0, 5.0, 1]), (20, 10, 5)))
    sitk.WriteImage(image_from_volume(mask), str(tmp_path / "core.nrrd"))
    volumes = synthetic_volumes()
    for name in ("t1gd", "whole"):
        volume = volumes[name]
        array = volume.array.astype(np.float32)
        sitk.WriteImage(image_from_volume(Volume(array, volume.grid)), str(tmp_path / f"{name}.nrrd"))
    patient = Patient.load(tmp_path / "t1gd.nrrd", core=tmp_path / "core.nrrd", whole=tmp_path / "whole.nrrd")
    assert patient.core.array.sum() * patient.core.grid.voxel_volume_ml == pytest.approx(0.72, rel=0.15)


@pytest.mark.parametrize("shift", [(250, 0, 0), (0, -250, 0), (0, 0, 400)])
@pytest.mark.parametrize("role", ["flair", "t1"])
def test_an_image_elsewhere_in_space_is_refused(synthetic_patient, role, shift):
    volume = synthetic_volumes()["flair"]
    with pytest.raises(InputError, match=r"lies elsewhere in space than the (FLAIR|T1)"):
        synthetic_patient(**{role: moved(volume, shift)})


def test_a_segmentation_elsewhere_in_space_is_refused(synthetic_patient):
    volumes = synthetic_volumes()
    with pytest.raises(InputError, match="lies elsewhere in space than the T1Gd"):
        synthetic_patient(**{role: moved(volumes[role], (0, 0, 300)) for role in ("core", "whole")})


def test_a_segmentation_beside_the_head_is_refused_and_one_at_its_edge_is_warned_about(synthetic_patient):
    air = {"core": ball(COARSE, (80, 80, 70), 8), "whole": ball(COARSE, (80, 80, 70), 14)}
    with pytest.raises(InputError, match="Only 0% of the segmented tumour lies in the imaged tissue"):
        synthetic_patient(**air)
    edge = {"core": ball(COARSE, (50, 0, 0), 8), "whole": ball(COARSE, (50, 0, 0), 20)}
    (warning,) = synthetic_patient(**edge).warnings
    assert "of the segmented tumour lies outside the imaged tissue" in warning


def test_a_core_beyond_the_edge_of_a_slab_is_named(synthetic_patient):
    volumes = synthetic_volumes()
    slab = Volume(volumes["t1gd"].array[:, :, :27], COARSE.cropped((0, 0, 0), (48, 48, 27)))
    (warning,) = synthetic_patient(t1gd=slab, flair=None, core=ball(COARSE, (20, 10, 18), 5)).warnings
    assert "of the tumour and 100% of its core lie beyond the edge of the T1Gd" in warning


def test_a_brain_mask_decides_what_is_brain(synthetic_patient):
    volumes = synthetic_volumes()
    brain = Volume(volumes["t1gd"].array > 0, COARSE)
    assert synthetic_patient(brain_mask=brain).warnings == ()
    with pytest.raises(InputError, match=r"lies in the brain mask: .*the mask leaves the tumour out"):
        synthetic_patient(brain_mask=ball(COARSE, (-40, 0, 0), 20))
    with pytest.raises(InputError, match="brain mask is empty"):
        synthetic_patient(brain_mask=Volume(np.zeros(COARSE.shape, dtype=bool), COARSE))


def test_a_patient_who_moved_between_images_is_warned_about(synthetic_patient):
    flair = moved(synthetic_volumes()["flair"], (0, 25, 0))
    (warning,) = synthetic_patient(flair=flair).warnings
    assert "the patient moved between them; register the FLAIR to the T1Gd" in warning


def shifted(mm):
    """A rigid matrix that moves by `mm` to anterior."""
    matrix = np.eye(4)
    matrix[1, 3] = mm
    return matrix


def test_a_mask_belongs_to_the_image_whose_grid_it_shares(synthetic_patient):
    volumes = synthetic_volumes()
    flair = moved(volumes["flair"], (0.0, 1.3, 0.7))
    on_flair = Volume(volumes["whole"].array, flair.grid)
    patient = synthetic_patient(flair=flair, whole=on_flair)
    assert patient.drawn_on == {"core": "t1gd", "whole": "flair", "brain_mask": "t1gd", "cavity": "t1gd"}
    assert synthetic_patient(flair=flair).drawn_on["whole"] == "t1gd"
    # Cropped to what it holds, as Slicer saves segmentations, and on a grid of its own.
    start, stop = bounding_box(on_flair.array)
    box = tuple(slice(a, b) for a, b in zip(start, stop))
    cropped = Volume(on_flair.array[box], flair.grid.cropped(start, stop))
    assert synthetic_patient(flair=flair, whole=cropped).drawn_on["whole"] == "flair"
    # A whole number of voxels off, so that both lattices are one: the very grid decides.
    further = moved(volumes["flair"], (0.0, 8.0, 0.0))
    on_further = Volume(volumes["whole"].array, further.grid)
    assert synthetic_patient(flair=further, whole=on_further).drawn_on["whole"] == "flair"
    elsewhere = moved(volumes["whole"], (0.0, 2.1, 0.0))
    assert synthetic_patient(flair=flair, whole=elsewhere).drawn_on["whole"] == "t1gd"


def test_a_mask_belongs_to_the_t1gd_whose_voxels_are_counted_from_another_end(synthetic_patient):
    """The T1Gd as DICOM, T1 and segmentation as NIfTI of the same voxels: the T1 is no nearer to it than the T1Gd."""
    volumes = synthetic_volumes()
    grid = volumes["t1gd"].grid
    flipped = grid.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[:3, 3] = grid.to_ras((grid.shape[0] - 1, 0, 0))
    t1gd = Volume(np.ascontiguousarray(volumes["t1gd"].array[::-1]), Grid(grid.shape, flipped))
    patient = synthetic_patient(t1gd=t1gd, t1=volumes["t1gd"])
    assert set(patient.drawn_on.values()) == {"t1gd"}


def test_the_image_that_was_drawn_on_is_named(synthetic_patient):
    assert set(synthetic_patient(segmentation_on="flair").drawn_on.values()) == {"flair", "t1gd"}
    assert synthetic_patient(segmentation_on="flair").drawn_on["core"] == "flair"
    with pytest.raises(InputError, match="drawn on the T1, which is not given"):
        synthetic_patient(segmentation_on="t1")
    with pytest.raises(InputError, match=r"no image 'FLAIR' .* t1gd, flair, t1"):
        synthetic_patient(segmentation_on="FLAIR")


def test_masks_move_with_their_image_and_the_warning_goes(synthetic_patient):
    volumes = synthetic_volumes()
    patient = synthetic_patient(
        flair=moved(volumes["flair"], (0, 25, 0)), whole=moved(volumes["whole"], (0, 25, 0)), segmentation_on=None
    )
    assert patient.drawn_on["whole"] == "flair"
    assert any("the patient moved between them" in warning for warning in patient.warnings)
    there = patient.moved({"flair": shifted(-25)})
    assert there.warnings == ()
    assert there.aligned
    assert there.inputs == patient.inputs
    assert there.flair.array is not None
    assert np.array_equal(there.flair.array, patient.flair.array)
    straight = synthetic_patient()
    for found, expected in ((there.core, straight.core), (there.whole, straight.whole)):
        assert dice(resample_mask(found, COARSE).array, expected.array) == 1.0


def test_a_core_and_a_whole_tumour_of_two_images_are_compared_once_they_lie_together(synthetic_patient):
    """25 mm apart the core lies outside the whole tumour: a fault only where nothing will move any more."""
    volumes = synthetic_volumes()
    patient = synthetic_patient(flair=moved(volumes["flair"], (0, 25, 0)), whole=moved(volumes["whole"], (0, 25, 0)))
    with pytest.raises(InputError, match="does not fit into the whole tumour"):
        patient.moved({})
    with pytest.raises(InputError, match="does not fit into the whole tumour"):
        synthetic_patient(whole=moved(volumes["whole"], (0, 25, 0)))


def test_a_patient_who_did_not_move_stays_what_it_is(synthetic_patient):
    patient = synthetic_patient()
    assert patient.moved({}) is patient
    also = patient.moved({"flair": np.eye(4)})
    assert also.flair.grid == patient.flair.grid
    assert also.warnings == patient.warnings


def test_a_brain_mask_moves_with_the_image_whose_grid_it_shares(synthetic_patient):
    volumes = synthetic_volumes()
    t1 = moved(volumes["t1gd"], (0, 25, 0))
    patient = synthetic_patient(t1=t1, brain_mask=Volume(t1.array > 0, t1.grid))
    assert patient.drawn_on["brain_mask"] == "t1"
    there = patient.moved({"t1": shifted(-25)})
    assert there.brain_mask.grid.matches(volumes["t1gd"].grid)
    assert there.warnings == ()


def test_a_slab_that_covers_the_tumour_is_no_movement(synthetic_patient):
    volumes = synthetic_volumes()
    slab = COARSE.cropped((0, 0, 16), (48, 48, 34))
    flair = Volume(np.ascontiguousarray(volumes["flair"].array[:, :, 16:34]), slab)
    assert synthetic_patient(flair=flair).warnings == ()


def test_an_image_with_noisy_air_is_accepted(synthetic_patient):
    noise = np.random.default_rng(1).normal(20, 5, COARSE.shape)
    noisy = Volume(synthetic_volumes()["t1gd"].array + np.abs(noise), COARSE)
    assert synthetic_patient(t1gd=noisy).warnings == ()


def test_a_negative_background_is_a_background(synthetic_patient):
    volumes = synthetic_volumes()
    scored = Volume(np.where(volumes["t1gd"].array > 0, volumes["t1gd"].array / 50 - 2, -4.7), COARSE)
    assert synthetic_patient(t1gd=scored).warnings == ()


def two_backgrounds(array, rng):
    changed = np.where(array > 0, array, 0)
    changed[:, 40:][array[:, 40:] == 0] = -1000
    changed[:, :, :2][array[:, :, :2] == 0] = -1000
    return changed


def padded_within(array, rng):
    """A negative background around the brain, padded with zeros."""
    inner = np.zeros(array.shape, dtype=bool)
    inner[4:-4, 1:-1, 5:-5] = True
    return np.where(array > 0, array / 50 - 1, np.where(inner, -4.7, 0))


BACKGROUNDS = {
    "ringing": lambda array, rng: np.where(array > 0, array, rng.normal(0, 0.3, array.shape)),
    "noise": lambda array, rng: np.where(array > 0, array, np.abs(rng.normal(0, 1.0, array.shape))),
    "rounding": lambda array, rng: np.where(array > 0, array, rng.uniform(-1e-4, 1e-4, array.shape)),
    "one voxel": lambda array, rng: np.where(np.arange(array.size).reshape(array.shape) % 97, array, array + 1e-3),
    "high": lambda array, rng: np.where(array > 0, array, 32767),
    "two": two_backgrounds,
    "within": padded_within,
}


@pytest.mark.parametrize("background", sorted(BACKGROUNDS))
def test_the_checks_survive_any_nearly_constant_background(synthetic_patient, background):
    """A tumour beside the head and a moved FLAIR are noticed, and nothing else is said."""
    rng = np.random.default_rng(5)
    volumes = synthetic_volumes()
    changed = {
        role: Volume(BACKGROUNDS[background](volumes[role].array, rng).astype(np.float32), COARSE)
        for role in ("t1gd", "flair")
    }
    assert synthetic_patient(**changed).warnings == ()
    brain, has_skull = find_brain(changed["t1gd"])
    assert not has_skull
    assert dice(brain, volumes["t1gd"].array > 0) > 0.98
    air = {"core": ball(COARSE, (80, 80, 70), 8), "whole": ball(COARSE, (80, 80, 70), 14)}
    with pytest.raises(InputError, match=r"Only \d% of the segmented tumour lies in the imaged tissue"):
        synthetic_patient(**changed, **air)
    (warning,) = synthetic_patient(**changed | {"flair": moved(changed["flair"], (0, 25, 0))}).warnings
    assert "the patient moved between them" in warning


def test_an_image_cropped_into_the_brain_has_no_background(synthetic_patient):
    volumes = synthetic_volumes(Grid.isotropic(80, 2.0, (0.0, 0.0, 0.0)))
    box = tuple(slice(28, 64) for _ in range(3))
    cropped = {
        role: Volume(np.ascontiguousarray(volume.array[box]), volume.grid.cropped((28,) * 3, (64,) * 3))
        for role, volume in volumes.items()
    }
    assert not find_background(cropped["t1gd"].array).found
    assert synthetic_patient(**cropped).warnings == ()


def test_without_a_core_there_is_a_warning(synthetic_patient):
    patient = synthetic_patient(core=Volume(np.zeros(COARSE.shape, dtype=bool), COARSE))
    assert patient.warnings == ("The segmentation has no core; the match rests on the whole tumour alone.",)


def test_a_tumour_without_oedema_and_a_rim_for_the_core_are_warned_about(synthetic_patient):
    volumes = synthetic_volumes(Grid.isotropic(96, 2.0, (0.0, 0.0, 0.0)))
    whole, grid = volumes["whole"], volumes["whole"].grid
    (warning,) = synthetic_patient(core=whole, whole=whole).warnings
    assert "nearly the same: without oedema the infiltration length rests on two equal outlines" in warning
    # Open to one side, as rims are.
    inside = ball(grid, (20, 10, 5), 6).array | ball(grid, (30, 10, 5), 5).array
    rim = Volume(volumes["core"].array & ~inside, grid)
    assert not (ndimage.binary_fill_holes(rim.array) & ~rim.array).any()
    (warning,) = synthetic_patient(core=rim, whole=whole).warnings
    assert "The core is a rim around" in warning


def test_a_brain_or_an_image_is_no_tumour(synthetic_patient):
    brain = Volume(synthetic_volumes()["t1gd"].array > 0, COARSE)
    with pytest.raises(InputError, match=r"whole tumour has \d+ ml, more than any; .*brain mask or an image"):
        synthetic_patient(whole=brain)
    with pytest.raises(InputError, match=r"fills \d\d% of the brain mask"):
        synthetic_patient(brain_mask=ball(COARSE, (20, 10, 5), 21))


@pytest.mark.slow
def test_small_regions_are_warned_about(synthetic_patient):
    fine = Grid.isotropic(96, 2.0, (0.0, 0.0, 0.0))
    volumes = synthetic_volumes(fine)
    patient = synthetic_patient(t1gd=volumes["t1gd"], core=ball(fine, (20, 10, 5), 3), whole=ball(fine, (20, 10, 5), 6))
    assert any("The core has only 0.1" in warning for warning in patient.warnings)
    assert any("The whole tumour has only 0.9 ml" in warning for warning in patient.warnings)
    with pytest.raises(InputError, match=r"only 0.0\d\d ml; at least 0.1 ml"):
        synthetic_patient(t1gd=volumes["t1gd"], core=ball(fine, (20, 10, 5), 1), whole=ball(fine, (20, 10, 5), 2))


def test_an_empty_segmentation_is_refused(synthetic_patient):
    empty = Volume(np.zeros(COARSE.shape, dtype=bool), COARSE)
    with pytest.raises(InputError, match="segmentation is empty"):
        synthetic_patient(core=empty, whole=empty)


def test_a_core_larger_than_the_whole_tumour_is_refused(synthetic_patient):
    volumes = synthetic_volumes()
    with pytest.raises(InputError, match=r"does not fit into the whole tumour.*swapped"):
        synthetic_patient(core=volumes["whole"], whole=volumes["core"])


def test_oedema_alone_for_the_whole_tumour_is_refused(synthetic_patient):
    volumes = synthetic_volumes()
    oedema = Volume(volumes["whole"].array & ~volumes["core"].array, COARSE)
    with pytest.raises(InputError, match="the oedema alone"):
        synthetic_patient(whole=oedema)


def test_a_bit_of_core_outside_is_added_to_the_whole_tumour(synthetic_patient):
    volumes = synthetic_volumes()
    core = volumes["core"].array.copy()
    beyond = tuple(np.rint(COARSE.to_index((44, 10, 5))).astype(int))
    core[beyond] = True
    patient = synthetic_patient(core=Volume(core, COARSE))
    assert "0.06 ml of the core lay outside the whole tumour" in patient.warnings[0]
    assert patient.whole.array[beyond]
    assert not (patient.core.array & ~patient.whole.array).any()


def test_not_a_number_is_taken_as_background_with_a_warning(synthetic_patient):
    array = synthetic_volumes()["t1gd"].array
    patient = synthetic_patient(t1gd=Volume(np.where(array > 0, array, np.nan), COARSE))
    assert np.isfinite(patient.t1gd.array).all()
    missing = np.count_nonzero(array <= 0)
    assert patient.warnings[0].startswith(f"The T1Gd is NaN or infinite in {missing} of its {array.size} voxels")
    with pytest.raises(InputError, match="no finite number"):
        synthetic_patient(t1gd=Volume(np.full(COARSE.shape, np.nan), COARSE))
    # Beyond float32, and so infinite there.
    beyond = np.where(array > 160, 1e300, array.astype(float))
    assert "NaN or infinite" in synthetic_patient(t1gd=Volume(beyond, COARSE)).warnings[0]


def test_an_image_of_one_value_and_complex_numbers_are_refused(synthetic_patient):
    with pytest.raises(InputError, match="same value 3 everywhere"):
        synthetic_patient(t1gd=Volume(np.full(COARSE.shape, 3), COARSE))
    with pytest.raises(InputError, match="holds complex128"):
        synthetic_patient(flair=Volume(np.zeros(COARSE.shape, dtype=complex), COARSE))


def test_a_mask_is_boolean(synthetic_patient):
    with pytest.raises(InputError, match="core has to be a mask of truth values, it holds uint8"):
        synthetic_patient(core=Volume(np.zeros(COARSE.shape, np.uint8), COARSE))


def test_a_grid_in_other_units_is_refused(synthetic_patient):
    volumes = synthetic_volumes()
    metres = Grid(COARSE.shape, np.diag([0.001, 0.001, 0.001, 1.0]) @ COARSE.affine)
    with pytest.raises(InputError, match="wrong unit"):
        synthetic_patient(t1gd=Volume(volumes["t1gd"].array, metres))


@pytest.fixture
def patient_files(tmp_path):
    """The small patient as files: NIfTI, NRRD and MetaImage, under a name beyond ASCII."""
    folder = tmp_path / "Paciente Muñoz"
    folder.mkdir()
    volumes = synthetic_volumes()
    labels = np.where(volumes["core"].array, 4, np.where(volumes["whole"].array, 2, 0)).astype(np.uint8)
    labels[tuple(np.rint(COARSE.to_index((20, 10, 5))).astype(int))] = 1
    written = {
        "t1gd.nii.gz": volumes["t1gd"],
        "flair.nrrd": volumes["flair"],
        "t1.mha": volumes["t1gd"],
        "seg.nii.gz": Volume(labels, COARSE),
        "core.nrrd": Volume(volumes["core"].array.astype(np.uint8) * 255, COARSE),
        "whole.nrrd": Volume(volumes["whole"].array.astype(np.float32) * 0.9999, COARSE),
    }
    for name, volume in written.items():
        sitk.WriteImage(image_from_volume(volume), str(folder / name))
    return folder


def test_the_convention_of_the_labels_is_kept(patient_files):
    patient = Patient.load(
        patient_files / "t1gd.nii.gz", segmentation=patient_files / "seg.nii.gz", labels="core=1,4/whole=1,2,4"
    )
    assert patient.labels == "core=1,4/whole=1,2,4"
    mistyped = Patient.load(
        patient_files / "t1gd.nii.gz", segmentation=patient_files / "seg.nii.gz", labels="core=3,4/whole=2,3,4"
    )
    assert any("has no label 3" in warning for warning in mistyped.warnings)


def test_files_and_arrays_give_the_same_patient(patient_files, synthetic_patient):
    expected = synthetic_patient()
    from_labels = Patient.load(
        patient_files / "t1gd.nii.gz",
        patient_files / "flair.nrrd",
        patient_files / "t1.mha",
        segmentation=patient_files / "seg.nii.gz",
        labels="brats2018",
    )
    from_masks = Patient.load(
        str(patient_files / "t1gd.nii.gz"), core=patient_files / "core.nrrd", whole=patient_files / "whole.nrrd"
    )
    for patient in (from_labels, from_masks):
        assert patient.warnings == ()
        assert np.array_equal(patient.core.array, expected.core.array)
        assert np.array_equal(patient.whole.array, expected.whole.array)
        assert np.allclose(patient.t1gd.array, expected.t1gd.array)
        assert patient.t1gd.grid.matches(expected.t1gd.grid)
    assert [record["role"] for record in from_labels.inputs] == ["t1gd", "flair", "t1", "segmentation"]
    assert "Muñoz" not in json.dumps(from_labels.inputs, ensure_ascii=False)


def test_the_whole_tumour_alone_is_enough(patient_files):
    patient = Patient.load(patient_files / "t1gd.nii.gz", whole=patient_files / "whole.nrrd")
    assert not patient.core.array.any()
    assert "no core" in patient.warnings[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Give a segmentation, or masks"),
        ({"core": "core.nrrd"}, "Give a segmentation, or masks"),
        ({"segmentation": "seg.nii.gz", "whole": "whole.nrrd"}, "not both"),
        ({"whole": "whole.nrrd", "labels": "brats2018"}, "need none"),
        ({"core": "seg.nii.gz", "whole": "whole.nrrd"}, "core mask holds values from 1 to 4"),
        ({"segmentation": "t1gd.nii.gz"}, "Is this file an image"),
        ({"segmentation": "seg.nii.gz"}, "numbers do not say what they mean: .*brats2018 .*brats-peds"),
        ({"segmentation": "seg.nii.gz", "flair": ""}, "path of flair is empty"),
        ({"study": ""}, "path of study is empty"),
        ({"segmentation": "nothing.nii.gz"}, "segmentation file .* does not exist"),
        ({"segmentation": "seg.nii.gz", "labels": "brats2023"}, "does not know 4"),
    ],
)
def test_calls_that_do_not_fit_are_refused_in_a_sentence(patient_files, given, said):
    files = {name: value if name == "labels" or not value else patient_files / value for name, value in given.items()}
    with pytest.raises(InputError, match=said) as caught:
        Patient.load(patient_files / "t1gd.nii.gz", **files)
    assert "\n" not in str(caught.value)


def test_one_file_for_two_roles_is_said(patient_files):
    copy = patient_files / "copy.nii.gz"
    copy.write_bytes((patient_files / "t1gd.nii.gz").read_bytes())
    patient = Patient.load(patient_files / "t1gd.nii.gz", copy, whole=patient_files / "whole.nrrd")
    assert any("T1Gd and the FLAIR are one file or copies of it" in warning for warning in patient.warnings)


def test_a_mask_of_shares_is_cut_at_one_half(patient_files):
    """As a brain mask that was resampled: 0.99999997 inside, fractions at the edge."""
    array = synthetic_volumes()["t1gd"].array
    share = np.clip(array / 100, 0, 1)
    nibabel.save(nibabel.Nifti1Image(share, COARSE.affine), patient_files / "brain.nii.gz")
    patient = Patient.load(
        patient_files / "t1gd.nii.gz",
        segmentation=patient_files / "seg.nii.gz",
        labels="brats2018",
        brain_mask=patient_files / "brain.nii.gz",
    )
    assert patient.brain_mask is not None
    assert np.array_equal(patient.brain_mask.array, share > 0.5)
    assert patient.warnings == ("The brain mask holds shares between 0 and 1; what is above 0.5 is taken as the mask.",)


def test_a_mask_of_small_shares_is_refused_and_nan_outside_is_none(tmp_path):
    inside = synthetic_volumes()["whole"].array
    path = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(inside * np.linspace(0.3, 0.45, inside.shape[2]), COARSE.affine), path)
    with pytest.raises(
        InputError, match=r"whole tumour holds shares that are nowhere above 0\.5 \(the highest is 0\.3"
    ):
        read_mask_file(path, "whole tumour")
    nibabel.save(nibabel.Nifti1Image(np.where(inside, 1.0, np.nan), COARSE.affine), path)
    warnings = []
    assert np.array_equal(read_mask_file(path, "whole tumour", warnings).array, inside)
    assert f"The whole tumour is NaN or infinite in {np.count_nonzero(~inside)} of its" in warnings[0]


# Volumes in ml, counted in the segmentation files.
REAL = {
    "TCIA02_135": ("brats2018", 37.1, 81.8),
    "TCIA02_606": ("brats2018", 100.0, 184.7),
    "TCIA01_201": ("brats2018", 70.5, 154.5),
    "TCIA10_628": ("brats2018", 105.6, 157.3),
    "TCIA10_639": ("brats2018", 83.6, 171.0),
    "BRATS2013_pat0001": ("brats2013", 58.7, 111.7),
    "BRATS2013_pat0004": ("brats2013", 75.5, 120.7),
    "TCGA-FG-6692_native": ("brats2018", 9.1, 30.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_patients_are_read(test_data, name):
    folder = test_data / "patients" / name
    labels, core, whole = REAL[name]
    optional = {
        role: folder / file
        for role, file in (("t1", "t1.nii.gz"), ("brain_mask", "brainmask.nii.gz"))
        if (folder / file).exists()
    }
    patient = Patient.load(
        folder / "t1gd.nii.gz", folder / "flair.nii.gz", segmentation=folder / "seg.nii.gz", labels=labels, **optional
    )
    voxel = patient.whole.grid.voxel_volume_ml
    assert patient.core.array.sum() * voxel == pytest.approx(core, abs=0.1)
    assert patient.whole.array.sum() * voxel == pytest.approx(whole, abs=0.1)
    if name == "TCGA-FG-6692_native":
        # Its FLAIR was taken with the head turned by some 20 degrees and is not registered.
        assert len(patient.warnings) == 1
        assert "the patient moved" in patient.warnings[0]
    else:
        assert patient.warnings == ()


@pytest.mark.slow
def test_brats2013_labels_do_not_speak_for_themselves(test_data):
    folder = test_data / "patients" / "BRATS2013_pat0001"
    with pytest.raises(InputError, match=r"labels 1, 2, 3, 4.*Name the convention"):
        Patient.load(folder / "t1gd.nii.gz", segmentation=folder / "seg.nii.gz")


def test_another_patients_segmentation_in_native_space_is_refused(test_data):
    patients = test_data / "patients"
    with pytest.raises(InputError, match="elsewhere in space"):
        Patient.load(
            patients / "TCIA02_135" / "t1gd.nii.gz",
            segmentation=patients / "TCGA-FG-6692_native" / "seg.nii.gz",
            labels="brats2018",
        )


def test_a_resection_cavity_is_taken_from_the_segmentation_or_from_a_file_of_its_own(tmp_path):
    volumes = synthetic_volumes()
    labels = np.where(volumes["core"].array, 3, 2 * volumes["whole"].array).astype(np.uint8)
    hollow = np.zeros(labels.shape, bool)
    hollow[2:4, 2:5, 3:5] = True
    assert not (hollow & volumes["whole"].array).any()
    grid = volumes["whole"].grid
    sitk.WriteImage(image_from_volume(volumes["t1gd"]), tmp_path / "t1gd.nrrd")
    sitk.WriteImage(
        image_from_volume(Volume(np.where(hollow, 4, labels).astype(np.uint8), grid)), tmp_path / "seg.nrrd"
    )
    patient = Patient.load(tmp_path / "t1gd.nrrd", segmentation=tmp_path / "seg.nrrd", labels="brats2024")
    np.testing.assert_array_equal(patient.cavity.array, hollow)
    assert not (patient.whole.array & hollow).any()
    assert [told["role"] for told in patient.inputs] == ["t1gd", "segmentation"]
    other = np.roll(hollow, 1, axis=0)
    sitk.WriteImage(image_from_volume(Volume(other, grid)), tmp_path / "cavity.nrrd")
    patient = Patient.load(
        tmp_path / "t1gd.nrrd",
        segmentation=tmp_path / "seg.nrrd",
        labels="brats2024",
        cavity=tmp_path / "cavity.nrrd",
    )
    np.testing.assert_array_equal(patient.cavity.array, other)
    assert [told["role"] for told in patient.inputs] == ["t1gd", "segmentation", "cavity"]


def test_a_cavity_that_lies_elsewhere_is_refused(synthetic_patient):
    far = moved(
        Volume(np.ones((3, 3, 3), bool), synthetic_volumes()["whole"].grid.cropped((0, 0, 0), (3, 3, 3))), (900, 0, 0)
    )
    with pytest.raises(InputError, match="resection cavity is empty, or lies elsewhere"):
        synthetic_patient(cavity=far)


def test_a_cavity_that_is_the_tumour_or_the_brain_is_refused_and_an_overlap_is_said(synthetic_patient):
    volumes = synthetic_volumes()
    brain = Volume(volumes["t1gd"].array > 0, COARSE)
    with pytest.raises(InputError, match="resection cavity holds 100% of the whole tumour"):
        synthetic_patient(cavity=volumes["whole"])
    with pytest.raises(InputError, match=r"resection cavity holds \d\d% of the brain"):
        synthetic_patient(cavity=Volume(brain.array & ~volumes["whole"].array, COARSE))
    (warning,) = synthetic_patient(cavity=ball(COARSE, (20, 10, 26), 10)).warnings
    assert "of the resection cavity is tumour by the segmentation" in warning
    assert synthetic_patient(cavity=ball(COARSE, (20, 10, 34), 10)).warnings == ()


def test_a_cavity_moves_with_the_image_that_it_was_drawn_on(synthetic_patient):
    volumes = synthetic_volumes()
    flair = moved(volumes["flair"], (0.0, 1.3, 0.7))
    cavity = Volume(np.roll(volumes["core"].array, 3, axis=1), flair.grid)
    patient = synthetic_patient(flair=flair, cavity=cavity)
    shift = np.eye(4)
    shift[:3, 3] = (0.0, -1.3, -0.7)
    assert patient.moved({"flair": shift}).cavity.grid.matches(volumes["flair"].grid, 1e-6)


def test_a_cavity_of_its_own_file_goes_by_its_own_grid(synthetic_patient):
    """The segmentation is said to be drawn on the FLAIR, the cavity lies on the T1Gd's voxels."""
    volumes = synthetic_volumes()
    flair = moved(volumes["flair"], (0.0, 1.3, 0.7))
    cavity = Volume(np.roll(volumes["core"].array, 3, axis=1), volumes["t1gd"].grid)
    on_flair = {name: Volume(volumes[name].array, flair.grid) for name in ("core", "whole")}
    patient = synthetic_patient(flair=flair, cavity=cavity, segmentation_on="flair", **on_flair)
    assert patient.drawn_on["cavity"] == "t1gd"
    assert patient.drawn_on["whole"] == "flair"
    of_segmentation = synthetic_patient(
        flair=flair, cavity=Volume(cavity.array, flair.grid), segmentation_on="flair", **on_flair
    )
    assert of_segmentation.drawn_on["cavity"] == "flair"


def test_a_cavity_smaller_than_a_voxel_is_said(synthetic_patient):
    grid = synthetic_volumes()["t1gd"].grid
    tiny = np.diag([0.1, 0.1, 0.1, 1.0])
    tiny[:3, 3] = grid.to_ras((3.3, 3.3, 3.3))
    patient = synthetic_patient(cavity=Volume(np.ones((1, 1, 1), bool), Grid((1, 1, 1), tiny)))
    assert any("smaller than the T1Gd's voxels" in said for said in patient.warnings)
