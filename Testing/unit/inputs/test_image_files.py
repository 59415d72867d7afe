"""Image files as scanners and other tools write them: every voxel in its place, and damage said in a sentence."""

import struct

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from awkward_grids import AWKWARD_AFFINES, placed_affine
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import ras_to_lps
from TumorQueryLib.inputs.image_files import read_image_file

SHAPE = (34, 32, 30)


@pytest.fixture
def voxels():
    """Whole numbers that differ in every voxel's neighbourhood, of a type that every format holds."""
    return np.random.default_rng(3).integers(1, 1000, SHAPE).astype(np.uint16)


def write_nifti(array, affine, path):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def write_nrrd(array, affine, path):
    """As Slicer does, in LPS."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    header = {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}
    nrrd.write(str(path), array, header)


def write_nrrd_in_ras(array, affine, path):
    header = {"space": "right-anterior-superior", "space directions": affine[:3, :3].T, "space origin": affine[:3, 3]}
    nrrd.write(str(path), array, header)


def write_dicom_series(folder, array, affine, *, description="T1 GD", prefix="IM", series=None, positions=None):
    """One MR slice a file, written with pydicom from the standard's definitions, files named out of order."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    directions = axes / spacing
    series = series or generate_uid()
    for k in range(array.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_ = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.SOPClassUID, slice_.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID = series, generate_uid()
        slice_.Modality, slice_.SeriesDescription, slice_.InstanceNumber = "MR", description, k + 1
        position = affine[:3, :3] @ [0, 0, k if positions is None else positions[k]] + affine[:3, 3]
        slice_.ImagePositionPatient = [f"{x:.6f}" for x in ras_to_lps(position)]
        slice_.ImageOrientationPatient = [f"{x:.8f}" for x in (*directions[:, 0], *directions[:, 1])]
        slice_.PixelSpacing, slice_.SliceThickness = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"], f"{spacing[2]:.6f}"
        slice_.Rows, slice_.Columns = array.shape[1], array.shape[0]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        slice_.PixelData = np.ascontiguousarray(array[:, :, k].T.astype("<u2")).tobytes()
        slice_.save_as(folder / f"{prefix}{(k * 7) % array.shape[2]:03d}", enforce_file_format=True)
    return series


def assert_voxels_in_place(volume, array, affine):
    """Every voxel of `array` (affine to RAS) is found at its point of the volume, whichever way that is stored."""
    index = np.moveaxis(np.indices(array.shape), 0, -1).reshape(-1, 3)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    found = volume.grid.to_index(points)
    assert np.abs(found - np.rint(found)).max() < 1e-3
    assert np.array_equal(volume.array[tuple(np.rint(found).astype(int).T)], array.ravel())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("image.nii.gz", write_nifti),
        ("image.nii", write_nifti),
        ("image.nrrd", write_nrrd),
        ("ras.nrrd", write_nrrd_in_ras),
        ("Größe 脳 с.nii.gz", write_nifti),
        ("脳.nrrd", write_nrrd),
    ],
)
def test_other_tools_files_are_read_in_their_place(awkward_affine, voxels, tmp_path, name, write):
    affine = awkward_affine.copy()
    affine[:3, 3] = (-80.5, 33.25, 12.0)
    write(voxels, affine, tmp_path / name)
    assert_voxels_in_place(read_image_file(tmp_path / name, "T1Gd").volume, voxels, affine)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_metaimage_made_from_nifti_is_read(voxels, tmp_path, compressed):
    """SimpleITK copies NIfTI's header fields into it, which say nothing about this file."""
    affine = placed_affine(spacing=(1, 1, 2.5), angles=(5, 10, 15), centre=(3, 4, 5))
    write_nifti(np.zeros_like(voxels) + 7, affine, tmp_path / "image.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "image.nii.gz")), str(tmp_path / "image.mha"), compressed)
    assert_voxels_in_place(read_image_file(tmp_path / "image.mha", "T1Gd").volume, np.zeros_like(voxels) + 7, affine)


@pytest.mark.parametrize("name", ["lps", "oblique", "oblique-flipped", "sagittal"])
def test_a_dicom_series_is_read_in_its_place(voxels, tmp_path, name):
    affine = AWKWARD_AFFINES[name].copy()
    affine[:3, 3] = (40.0, -20.0, 10.0)
    folder = tmp_path / "Ärztin 画像"
    write_dicom_series(folder, voxels, affine)
    file = read_image_file(folder, "T1Gd")
    assert_voxels_in_place(file.volume, voxels, affine)
    assert read_image_file(next(folder.iterdir()), "T1Gd").sha256 == file.sha256


def test_of_several_dicom_series_one_is_chosen_by_a_file(voxels, tmp_path):
    affine = AWKWARD_AFFINES["lps"]
    write_dicom_series(tmp_path, voxels, affine)
    write_dicom_series(tmp_path, voxels + 1, affine, description="FLAIR", prefix="FL")
    with pytest.raises(InputError, match=r"2 DICOM series: FLAIR \(30 files.*T1 GD \(30 files.*Name one file"):
        read_image_file(tmp_path, "T1Gd")
    assert_voxels_in_place(read_image_file(tmp_path / "FL004", "FLAIR").volume, voxels + 1, affine)


def test_a_dicom_series_with_a_slice_missing_is_refused(voxels, tmp_path):
    write_dicom_series(tmp_path, voxels, AWKWARD_AFFINES["lps"])
    (tmp_path / "IM007").unlink()
    with pytest.raises(InputError, match="slices missing or unevenly spaced"):
        read_image_file(tmp_path, "T1Gd")


def test_a_dicom_series_of_two_volumes_is_refused(voxels, tmp_path):
    series = write_dicom_series(tmp_path, voxels, AWKWARD_AFFINES["lps"])
    write_dicom_series(tmp_path, voxels + 1, AWKWARD_AFFINES["lps"], series=series, prefix="SECOND")
    with pytest.raises(InputError, match="more than one volume"):
        read_image_file(tmp_path, "T1Gd")


def test_a_tilted_gantry_is_refused(voxels, tmp_path):
    """Slices that shift as they rise are a sheared stack, which ITK would straighten without a word."""
    affine = np.eye(4)
    affine[1, 2] = 0.3
    write_dicom_series(tmp_path, voxels, affine)
    with pytest.raises(InputError, match="right angles"):
        read_image_file(tmp_path, "T1Gd")


def test_a_single_dicom_slice_and_a_folder_without_images_are_refused(voxels, tmp_path):
    write_dicom_series(tmp_path / "one", voxels[:, :, :1], np.eye(4))
    with pytest.raises(InputError, match="single DICOM slice"):
        read_image_file(tmp_path / "one", "T1Gd")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no DICOM series"):
        read_image_file(tmp_path / "none", "T1Gd")


@pytest.mark.parametrize("time", ["unknown", "sec"])
def test_nifti_in_metres_is_read_in_millimetres(voxels, tmp_path, time):
    """The unit of time shares a byte with that of space."""
    image = nibabel.Nifti1Image(voxels, None)
    for place in (image.set_qform, image.set_sform):
        place(np.diag([0.001, 0.001, 0.002, 1.0]), 1)
    image.header.set_xyzt_units("meter", time)
    nibabel.save(image, tmp_path / "metres.nii.gz")
    file = read_image_file(tmp_path / "metres.nii.gz", "T1Gd")
    assert_voxels_in_place(file.volume, voxels, np.diag([1.0, 1.0, 2.0, 1.0]))
    assert not any("two places" in warning for warning in file.warnings)


@pytest.mark.parametrize(("scale", "unit"), [(0.001, "mm"), (1.0, "meter")])
def test_a_wrong_unit_is_said(voxels, tmp_path, scale, unit):
    image = nibabel.Nifti1Image(voxels, np.diag([scale, scale, scale, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "unit.nii.gz")
    with pytest.raises(InputError, match="wrong unit"):
        read_image_file(tmp_path / "unit.nii.gz", "T1Gd")


@pytest.mark.parametrize(("shape", "step"), [((34, 32, 2), 2.2), ((34, 32, 4), 22.0), ((34, 32, 600), 2.0)])
def test_a_slab_is_no_wrong_unit(tmp_path, shape, step):
    write_nifti(np.ones(shape, np.uint8), np.diag([1.0, 1.0, step, 1.0]), tmp_path / "slab.nii.gz")
    with pytest.raises(InputError, match=r"no head: accepted are voxels of 0\.05 to 20 mm in a box of 20 to 1000 mm;"):
        read_image_file(tmp_path / "slab.nii.gz", "T1Gd")


def test_a_fourth_dimension_of_one_is_dropped_and_more_is_refused(voxels, tmp_path):
    write_nifti(voxels[..., None], np.eye(4), tmp_path / "one.nii.gz")
    assert_voxels_in_place(read_image_file(tmp_path / "one.nii.gz", "T1Gd").volume, voxels, np.eye(4))
    # NIfTI's library reads a dimension of 0 so too.
    write_nifti(voxels[..., None], np.eye(4), tmp_path / "none.nii")
    data = bytearray((tmp_path / "none.nii").read_bytes())
    data[40:50] = struct.pack("<5h", 4, *voxels.shape, 0)
    (tmp_path / "none.nii").write_bytes(data)
    assert_voxels_in_place(read_image_file(tmp_path / "none.nii", "T1Gd").volume, voxels, np.eye(4))
    write_nifti(np.stack([voxels] * 3, axis=-1), np.eye(4), tmp_path / "three.nii.gz")
    with pytest.raises(InputError, match="3 volumes in one file"):
        read_image_file(tmp_path / "three.nii.gz", "T1Gd")


def test_a_fourth_dimension_of_one_in_nrrd_is_dropped(voxels, tmp_path):
    nrrd.write(str(tmp_path / "one.nrrd"), voxels[..., None])
    volume = read_image_file(tmp_path / "one.nrrd", "T1Gd").volume
    np.testing.assert_array_equal(volume.array, voxels)


def test_a_series_of_volumes_that_itk_writes_as_nrrd(voxels, tmp_path):
    """Its space has four dimensions."""
    for count in (1, 2):
        image = sitk.JoinSeries([sitk.GetImageFromArray(voxels.transpose(2, 1, 0))] * count)
        image.SetOrigin((4.0, 5.0, 6.0, 0.0))
        sitk.WriteImage(image, str(tmp_path / f"{count}.nrrd"))
    volume = read_image_file(tmp_path / "1.nrrd", "T1Gd").volume
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_allclose(volume.grid.affine[:3, 3], (-4.0, -5.0, 6.0))
    with pytest.raises(InputError, match="2 volumes in one file"):
        read_image_file(tmp_path / "2.nrrd", "T1Gd")


def test_only_a_mask_may_be_as_small_as_a_tumour(tmp_path):
    """An image of 6 x 6 x 6 voxels is none of a head, unless it is said to be a mask."""
    write_nifti(np.ones((6, 6, 6), np.uint8), np.eye(4), tmp_path / "small.nii.gz")
    assert read_image_file(tmp_path / "small.nii.gz", "core mask", is_mask=True).volume.array.all()
    with pytest.raises(InputError, match="T1Gd"):
        read_image_file(tmp_path / "small.nii.gz", "T1Gd")


@pytest.mark.parametrize("name", ["image.nii.gz", "image.nii", "image.nrrd", "image.mha"])
def test_a_truncated_file_is_refused(voxels, tmp_path, name):
    path = tmp_path / name
    if ".nii" in name:
        write_nifti(voxels, np.eye(4), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=True)
    whole = path.read_bytes()
    for kept in (0.5, 0.999):
        path.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(InputError, match=r"truncated|damaged"):
            read_image_file(path, "T1Gd")


def test_a_flipped_byte_in_compressed_nifti_is_noticed(voxels, tmp_path):
    path = tmp_path / "image.nii.gz"
    write_nifti(voxels, np.eye(4), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_image_file(path, "T1Gd")


def test_a_header_that_claims_terabytes_is_refused_before_memory_is_taken(voxels, tmp_path):
    path = tmp_path / "image.nii"
    write_nifti(voxels, np.eye(4), path)
    data = bytearray(path.read_bytes())
    data[40:56] = struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    path.write_bytes(data)
    with pytest.raises(InputError, match="far more than an MRI"):
        read_image_file(path, "T1Gd")


def test_what_is_no_volume_is_refused(voxels, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_image_file(tmp_path / "nothing.nii.gz", "FLAIR")
    for name in ("text.nii.gz", "text.nrrd", "text"):
        (tmp_path / name).write_text("not an image\n" * 200)
        with pytest.raises(InputError, match="accepted are NIfTI"):
            read_image_file(tmp_path / name, "FLAIR")
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(InputError, match="cannot be read"):
        read_image_file(tmp_path / "empty.nii.gz", "FLAIR")
    write_nifti(voxels[:, :, 0], np.eye(4), tmp_path / "slice.nii.gz")
    with pytest.raises(InputError, match="single slice"):
        read_image_file(tmp_path / "slice.nii.gz", "FLAIR")
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    write_nifti(colours, np.eye(4), tmp_path / "colour.nii.gz")
    with pytest.raises(InputError, match="3 values in each voxel"):
        read_image_file(tmp_path / "colour.nii.gz", "FLAIR")
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    image = nibabel.Nifti1Image(voxels, None)
    image.set_sform(sheared, 1)
    nibabel.save(image, tmp_path / "sheared.nii.gz")
    with pytest.raises(InputError, match="sheared"):
        read_image_file(tmp_path / "sheared.nii.gz", "FLAIR")


def test_a_nifti_header_without_a_place_or_with_two_is_said(voxels, tmp_path):
    lost = nibabel.Nifti1Image(voxels, None)
    lost.header["qform_code"] = lost.header["sform_code"] = 0
    nibabel.save(lost, tmp_path / "lost.nii.gz")
    assert "does not say where" in read_image_file(tmp_path / "lost.nii.gz", "T1Gd").warnings[0]
    # The sform has voxels of 2 mm, the voxel sizes say 1 mm: alone it wins (NIfTI), beside a qform ITK's choice stays.
    double = nibabel.Nifti1Image(voxels, None)
    double.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    for sizes, qform, used in ((1, 0, 2), (0, 0, 2), (0, 1, 2), (1, 1, 1)):
        double.header["pixdim"][1:4] = sizes
        double.header["qform_code"] = qform
        nibabel.save(double, tmp_path / "double.nii.gz")
        file = read_image_file(tmp_path / "double.nii.gz", "T1Gd")
        assert file.volume.grid.spacing == pytest.approx([used] * 3)
        twice = f"2 x 2 x 2 mm by its sform, which is used, and {sizes} x {sizes} x {sizes} mm by its pixdim"
        assert (twice if used == 2 else "its voxels of 2 x 2 x 2 mm instead of 1 x 1 x 1 mm") in file.warnings[0]


def test_an_sform_of_zeros_is_no_place(voxels, tmp_path):
    for qform, said in ((0, True), (1, False)):
        image = nibabel.Nifti1Image(voxels, None)
        image.set_qform(np.diag([2.0, 2, 3, 1]) + np.eye(4, k=3), 1)
        nibabel.save(image, tmp_path / "image.nii")
        data = bytearray((tmp_path / "image.nii").read_bytes())
        struct.pack_into("<2h", data, 252, qform, 1)
        (tmp_path / "image.nii").write_bytes(data)
        file = read_image_file(tmp_path / "image.nii", "T1Gd")
        assert file.volume.grid.spacing == pytest.approx([2, 2, 3])
        assert any("does not say where" in warning for warning in file.warnings) == said


def test_a_nifti_header_with_a_good_place_is_not_warned_about(voxels, tmp_path):
    write_nifti(voxels, placed_affine(spacing=(1, 1, 2), angles=(3, 2, 1)), tmp_path / "good.nii.gz")
    assert read_image_file(tmp_path / "good.nii.gz", "T1Gd").warnings == ()


def test_the_sum_is_that_of_the_file(voxels, tmp_path):
    import hashlib

    path = tmp_path / "image.nii.gz"
    write_nifti(voxels, np.eye(4), path)
    assert read_image_file(path, "T1Gd").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_reading_leaves_simpleitks_warnings_as_they_were(voxels, tmp_path):
    write_nifti(voxels, np.eye(4), tmp_path / "image.nii.gz")
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    read_image_file(tmp_path / "image.nii.gz", "T1Gd")
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == before
