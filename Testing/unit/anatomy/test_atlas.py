"""The bundled atlases against the published maps, and folders that are no atlas."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from TumorQueryLib.anatomy.atlas import ATLAS_FILES, Atlas, find_atlas_folder
from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, resample, volume_from_image


def test_sri24_has_the_published_volumes(atlas):
    voxel = atlas.grid.voxel_volume_ml
    volumes = [m.sum(dtype=float) * voxel for m in (atlas.white_matter, atlas.grey_matter, atlas.csf)]
    assert volumes == pytest.approx([510, 586, 259], rel=0.01)
    total = atlas.white_matter + atlas.grey_matter + atlas.csf
    assert (total > 0.5).sum() * voxel == pytest.approx(1393.5, rel=0.005)
    assert total.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["SRI24", "MNI152"])
def test_an_atlas_is_whole_and_carries_its_licence(name):
    atlas = Atlas.load(name)
    assert atlas.name == name
    assert atlas.grid.shape == (128, 128, 128)
    assert atlas.grid.spacing == pytest.approx([1.5] * 3)
    assert atlas.t1.grid.spacing == pytest.approx([1.0] * 3)
    total = atlas.white_matter + atlas.grey_matter + atlas.csf
    for axis in range(3):
        faces = np.take(total, [0, -1], axis=axis)
        assert faces.max() < 0.5, "tissue touches the edge of the grid"
    assert "Derived from" in atlas.attribution
    assert atlas.licence
    assert any(path.suffix == ".txt" for path in find_atlas_folder(name).iterdir())


@pytest.mark.parametrize("name", ["SRI24", "MNI152"])
def test_maps_and_t1_lie_over_one_another(name):
    """White matter is bright in T1 and fluid dark only if both are in the same place, sides included."""
    atlas = Atlas.load(name)
    t1 = resample(atlas.t1, atlas.grid).array
    means = [t1[m > 0.9].mean() for m in (atlas.white_matter, atlas.grey_matter, atlas.csf)]
    assert means[0] > 1.1 * means[1] > 1.1 * 1.2 * means[2]
    brain = resample(Volume(atlas.brain_mask.array.astype(np.float32), atlas.t1.grid), atlas.grid).array > 0.5
    tissue = atlas.white_matter + atlas.grey_matter > 0.9
    assert (brain & tissue).sum() > 0.97 * tissue.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("SRI24", "sri24", ("pbmap_wm.nii.gz", "pbmap_gm.nii.gz", "pbmap_csf.nii.gz", "t1_stripped.nii.gz")),
        (
            "MNI152",
            "mni152",
            tuple(f"mni_icbm152_{part}.nii.gz" for part in ("wm_pbmap", "gm_pbmap", "csf_pbmap", "t1_stripped")),
        ),
    ],
)
def test_the_bundled_maps_are_the_published_ones(test_data, name, folder, files):
    atlas = Atlas.load(name)
    published = []
    for file in files:
        image = sitk.ReadImage(str(test_data / "atlas" / folder / file), sitk.sitkFloat32)
        published.append(volume_from_image(image[..., 0] if image.GetDimension() == 4 else image))
    total = np.maximum(published[0].array + published[1].array + published[2].array, 1)
    for found, volume in zip((atlas.white_matter, atlas.grey_matter, atlas.csf), published):
        expected = resample(Volume(volume.array / total, volume.grid), atlas.grid).array
        # Stored in eight bits, and once more divided where rounding takes the sum above 1.
        assert np.abs(found - expected).max() < 2 / 255
    at_bundled = resample(published[3], atlas.t1.grid).array
    assert np.corrcoef(at_bundled.ravel(), atlas.t1.array.ravel())[0, 1] > 0.999


def test_the_sum_tells_the_two_atlases_apart_and_not_their_files(tmp_path, atlas):
    assert atlas.sha256 == Atlas.load("SRI24").sha256
    assert atlas.sha256 != Atlas.load("MNI152").sha256
    copied = tmp_path / "another place"
    shutil.copytree(find_atlas_folder("SRI24"), copied)
    wm = sitk.ReadImage(str(copied / "wm.nii.gz"))
    sitk.WriteImage(wm, str(copied / "wm.nii.gz"), useCompression=True, compressionLevel=1)
    assert Atlas.load(copied).sha256 == atlas.sha256


@pytest.fixture
def atlas_folder(tmp_path):
    """An atlas of the smallest size, in a folder with a name beyond ASCII."""
    folder = tmp_path / "Gehirnatlas für Ratten"
    folder.mkdir()
    grid = Grid.isotropic(8, 2.0, (0, 0, 0))
    for file in ATLAS_FILES[:3]:
        sitk.WriteImage(image_from_volume(Volume(np.full(grid.shape, 85, np.uint8), grid)), str(folder / file))
    t1 = Grid.isotropic(16, 1.0, (0, 0, 0))
    sitk.WriteImage(image_from_volume(Volume(np.ones(t1.shape, np.float32), t1)), str(folder / ATLAS_FILES[3]))
    about = {"name": "Rat", "licence": "CC0", "attribution": "made for this test"}
    (folder / "atlas.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def test_another_atlas_folder_is_accepted(atlas_folder):
    atlas = Atlas.load(atlas_folder)
    assert atlas.name == "Rat"
    assert atlas.white_matter == pytest.approx(np.full((8, 8, 8), 1 / 3))
    assert atlas.brain_mask.array.all()


def test_maps_whose_sum_exceeds_one_are_divided_by_it(atlas_folder):
    grid = Grid.isotropic(8, 2.0, (0, 0, 0))
    sitk.WriteImage(
        image_from_volume(Volume(np.full(grid.shape, 255, np.uint8), grid)), str(atlas_folder / "wm.nii.gz")
    )
    atlas = Atlas.load(atlas_folder)
    assert atlas.white_matter == pytest.approx(np.full((8, 8, 8), 0.6))
    assert atlas.grey_matter == pytest.approx(np.full((8, 8, 8), 0.2))


def test_an_unknown_atlas_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="bundled are MNI152, SRI24"):
        Atlas.load("Talairach")


def _other_grid(folder):
    grid = Grid.isotropic(8, 2.0, (1, 0, 0))
    sitk.WriteImage(image_from_volume(Volume(np.zeros(grid.shape, np.uint8), grid)), str(folder / "gm.nii.gz"))


def _floating(folder):
    grid = Grid.isotropic(8, 2.0, (0, 0, 0))
    sitk.WriteImage(image_from_volume(Volume(np.zeros(grid.shape, np.float32), grid)), str(folder / "csf.nii.gz"))


def _voxels(name, shape, **options):
    image = sitk.GetImageFromArray(np.full(shape, 85, np.uint8), **options)
    return lambda folder: sitk.WriteImage(image, str(folder / name))


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (lambda folder: (folder / "csf.nii.gz").unlink(), "lacks csf.nii.gz"),
        (lambda folder: (folder / "atlas.json").unlink(), "lacks atlas.json"),
        (lambda folder: (folder / "atlas.json").write_text("{"), "atlas.json must be"),
        (lambda folder: (folder / "atlas.json").write_text('{"name": "Rat"}'), "licence"),
        (lambda folder: (folder / "t1.nii.gz").write_text("no image"), "cannot be read"),
        (_other_grid, "gm.nii.gz.*another grid"),
        (lambda folder: (folder / "atlas.json").write_text("[" * 10**5), "atlas.json must be .*nested too deeply"),
        (lambda folder: (folder / "atlas.json").write_text('{"name": "\\ud800"}'), "atlas.json must be .*not Unicode"),
        (_floating, "csf.nii.gz.*uint8"),
        (_voxels("wm.nii.gz", (2, 8, 8, 8), isVector=False), "wm.nii.gz has 8 x 8 x 8 x 2 voxels.*three sizes"),
        (_voxels("wm.nii.gz", (8, 8)), "wm.nii.gz has 8 x 8 voxels"),
        (_voxels("t1.nii.gz", (8, 8, 8, 3), isVector=True), "t1.nii.gz has 8 x 8 x 8 voxels, numbers in each: 3"),
    ],
)
def test_a_broken_atlas_folder_is_refused(atlas_folder, breaking, said):
    breaking(atlas_folder)
    with pytest.raises(InputError, match=said):
        Atlas.load(atlas_folder)


def test_a_t1_without_a_brain_is_refused(tmp_path, world):
    folder = shutil.copytree(world.atlas_folder, tmp_path / "atlas")
    dark = Volume(np.zeros_like(world.atlas.t1.array), world.atlas.t1.grid)
    sitk.WriteImage(image_from_volume(dark), str(folder / "t1.nii.gz"))
    with pytest.raises(InputError, match=r"t1.nii.gz of the atlas in .* is nowhere above 0"):
        Atlas.load(folder)
