"""Headers that are damaged, detached, without a place or with two: read right, warned about, or refused."""

import bz2
import gzip
import lzma
import os
import resource
import struct
import subprocess
import sys
import zlib

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, image_from_volume, volume_from_image
from TumorQueryLib.inputs.image_files import read_image_file

SHAPE = (34, 32, 30)
AFFINE = np.array([[-1.0, 0, 0, 20.5], [0, -1.0, 0, 30.25], [0, 0, 2.0, -12.0], [0, 0, 0, 1]])


@pytest.fixture
def voxels():
    return np.random.default_rng(3).integers(1, 1000, SHAPE).astype(np.int16)


def write(voxels, path):
    """By SimpleITK, in any format."""
    sitk.WriteImage(image_from_volume(Volume(voxels, Grid(SHAPE, AFFINE))), str(path))


def refused(path, said, role="T1Gd"):
    with pytest.raises(InputError, match=said) as caught:
        read_image_file(path, role)
    assert "\n" not in str(caught.value)


def assert_same(file, voxels, affine=AFFINE):
    assert np.array_equal(file.volume.array, voxels)
    assert file.volume.array.flags.c_contiguous
    assert np.allclose(file.volume.grid.affine, affine, atol=1e-5)


def double_place(voxels, path, qform_code, sform_code, shift=8.0):
    moved = AFFINE.copy()
    moved[0, 3] += shift
    image = nibabel.Nifti1Image(voxels, None)
    image.set_qform(AFFINE, qform_code)
    image.set_sform(moved, sform_code)
    nibabel.save(image, path)


@pytest.mark.parametrize(("sform_code", "used", "other"), [(1, "sform", "qform"), (2, "qform", "sform")])
def test_two_places_are_told_whichever_is_used(voxels, tmp_path, sform_code, used, other):
    """Public reports' row 7: qform and sform several mm apart."""
    path = tmp_path / "two.nii.gz"
    double_place(voxels, path, 1, sform_code)
    file = read_image_file(path, "T1Gd")
    (warning,) = file.warnings
    assert f"by its {used}, which is used, and by its {other}, up to 8 mm from it" in warning
    assert file.volume.grid.affine[0, 3] == pytest.approx(20.5 + 8 * (used == "sform"))
    # ITK, and so Slicer, puts it there too.
    assert sitk.ReadImage(str(path)).GetOrigin()[0] == pytest.approx(-file.volume.grid.affine[0, 3])
    double_place(voxels, path, 1, sform_code, shift=0.3)
    assert read_image_file(path, "T1Gd").warnings == ()


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1), (2, 3), (4, 1)])
def test_nifti_lies_where_itk_puts_it(voxels, tmp_path, codes):
    image = nibabel.Nifti1Image(voxels, None)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    image.header["qform_code"], image.header["sform_code"] = codes
    nibabel.save(image, tmp_path / "image.nii.gz")
    file = read_image_file(tmp_path / "image.nii.gz", "T1Gd")
    assert file.warnings == ()
    assert_same(file, voxels)


def test_a_place_that_is_missing_is_warned_about_in_every_format(voxels, tmp_path):
    lost = nibabel.Nifti1Image(voxels, None)
    lost.header["qform_code"] = lost.header["sform_code"] = 0
    nibabel.save(lost, tmp_path / "lost.nii.gz")
    nibabel.save(nibabel.AnalyzeImage(voxels, None), tmp_path / "lost.img")
    nrrd.write(str(tmp_path / "lost.nrrd"), voxels)
    header = {"space directions": np.eye(3), "space origin": [5, 6, 7], "space": "left-posterior-superior"}
    nrrd.write(str(tmp_path / "none.nrrd"), voxels, {"spacings": [1, 1, 1]})
    (tmp_path / "lost.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nDimSize = 34 32 30\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        + voxels.tobytes(order="F")
    )
    (tmp_path / "size.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nDimSize = 34 32 30\nElementType = MET_SHORT\nOffset = 50 60 70\n"
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = LOCAL\n" + voxels.tobytes(order="F")
    )
    (warning,) = read_image_file(tmp_path / "size.mha", "T1Gd").warnings
    assert "does not say how large its voxels are; 1 x 1 x 1 mm is a guess" in warning
    for name in ("lost.nrrd", "lost.mha"):
        assert "does not say how large" in read_image_file(tmp_path / name, "T1Gd").warnings[1]
    for name, origin in (("without.nrrd", None), ("not.nrrd", "none"), ("nan.nrrd", "(nan,nan,nan)")):
        write_nrrd(tmp_path / name, stored(voxels), space_origin=origin, space_directions="(0,1,0) (1,0,0) (0,0,-1)")
    names = ("lost.nii.gz", "lost.img", "lost.nrrd", "none.nrrd", "lost.mha", "without.nrrd", "not.nrrd", "nan.nrrd")
    for name in names:
        file = read_image_file(tmp_path / name, "T1Gd")
        assert "does not say where its voxels lie" in file.warnings[0], name
        assert np.array_equal(file.volume.array, voxels), name
    nrrd.write(str(tmp_path / "said.nrrd"), voxels, header)
    assert read_image_file(tmp_path / "said.nrrd", "T1Gd").warnings == ()


@pytest.mark.parametrize("name", ["eye.nii.gz", "eye.nrrd", "eye.mha"])
def test_a_place_that_looks_lost_is_warned_about(voxels, tmp_path, name):
    """An identity is what the Medical Decathlon's Task01 and files made from bare arrays say."""
    if name.endswith(".gz"):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels.transpose(2, 1, 0)), str(tmp_path / name))
    (warning,) = read_image_file(tmp_path / name, "T1Gd").warnings
    assert "lost their place" in warning


@pytest.mark.parametrize(("voxels_off", "is_lost"), [(1.0, True), (1e-6, True), (-1.0, True), (2.0, False)])
def test_a_place_counted_from_one_looks_lost_too(voxels, tmp_path, voxels_off, is_lost):
    affine = np.diag([2.0, 2.0, 2.2, 1.0])
    affine[:3, 3] = voxels_off * np.array([2.0, 2.0, 2.2])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "one.nii.gz")
    warnings = read_image_file(tmp_path / "one.nii.gz", "T1Gd").warnings
    assert ["lost their place" in warning for warning in warnings] == [True] * is_lost


@pytest.mark.parametrize("axis", [0, 2])
def test_a_size_below_zero_that_mirrors_is_told(voxels, tmp_path, axis):
    image = nibabel.Nifti1Image(voxels, None)
    image.set_qform(AFFINE, 1)
    image.set_sform(None, 0)
    path = tmp_path / "mirrored.nii"
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 80 + 4 * axis, -AFFINE[2, 2] if axis == 2 else -1.0)
    path.write_bytes(content)
    file = read_image_file(path, "T1Gd")
    assert "NIfTI allows no size below 0" in file.warnings[0]
    # As Slicer shows it.
    other = volume_from_image(sitk.ReadImage(str(path)))
    assert np.allclose(file.volume.grid.affine, other.grid.affine, atol=1e-5)


@pytest.mark.parametrize("name", ["image.mhd", "image.nhdr", "image.hdr", "image.img"])
def test_of_a_detached_header_both_files_count(voxels, tmp_path, name):
    if name in ("image.hdr", "image.img"):
        nibabel.save(nibabel.Nifti1Pair(voxels, AFFINE), tmp_path / "image.img")
    else:
        write(voxels, tmp_path / name)
    (stored,) = [path for path in tmp_path.iterdir() if path.suffix in (".raw", ".img") or ".raw" in path.name]
    file = read_image_file(tmp_path / name, "segmentation")
    assert_same(file, voxels)
    whole = stored.read_bytes()
    if not stored.name.endswith(".gz"):
        stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert read_image_file(tmp_path / name, "segmentation").sha256 != file.sha256
    for kept in (0.6, 0.999):
        stored.write_bytes(whole[: int(len(whole) * kept)])
        refused(tmp_path / name, "truncated")
    stored.unlink()
    refused(tmp_path / name, r"lost its voxels|does not exist")


def test_the_voxel_file_that_is_named_is_the_one_that_is_read(voxels, tmp_path):
    nibabel.save(nibabel.Nifti1Pair(voxels, AFFINE), tmp_path / "image.img")
    (tmp_path / "image.img.gz").write_bytes(gzip.compress((voxels + 1).tobytes(order="F")))
    assert_same(read_image_file(tmp_path / "image.img", "T1Gd"), voxels)
    assert_same(read_image_file(tmp_path / "image.img.gz", "T1Gd"), voxels + 1)
    refused(tmp_path / "image.hdr", r"image\.img and image\.img\.gz; name the one that is meant")
    (tmp_path / "image.img.gz").unlink()
    (tmp_path / "image.img").rename(tmp_path / "image.IMG")
    for name in ("image.IMG", "image.hdr"):
        assert_same(read_image_file(tmp_path / name, "T1Gd"), voxels)


@pytest.mark.parametrize("name", ["image.nrrd", "image.mha"])
def test_what_is_packed_as_a_whole_is_to_be_unpacked(voxels, tmp_path, name):
    write(voxels, tmp_path / name)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    refused(packed, "packed with gzip as a whole; unpack it first")


def test_a_detached_header_names_one_file_beside_it(voxels, tmp_path):
    write(voxels, tmp_path / "image.mhd")
    write(voxels, tmp_path / "image.nhdr")
    for name, key in (("image.mhd", "ElementDataFile = "), ("image.nhdr", "data file: ")):
        text = (tmp_path / name).read_text()
        stored = next(line for line in text.splitlines() if line.startswith(key))
        for other in ("/etc/passwd", "../image.raw", "%s%n", "slice%03d.raw 0 29 1", "@image.raw"):
            (tmp_path / name).write_text(text.replace(stored, key + other))
            refused(tmp_path / name, "one file beside the header is accepted")


def test_files_are_told_apart_by_their_content(voxels, tmp_path):
    image = nibabel.Nifti1Image(voxels, AFFINE)
    nibabel.save(image, tmp_path / "image.nii.gz")
    nibabel.save(image, tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti2Image(voxels, AFFINE), tmp_path / "two.nii.gz")
    nibabel.save(nibabel.Nifti2Image(voxels, AFFINE), tmp_path / "two.nii")
    big = nibabel.Nifti1Header(endianness=">")
    big.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE, big), tmp_path / "big.nii")
    (tmp_path / "packed.nii").write_bytes((tmp_path / "image.nii.gz").read_bytes())
    (tmp_path / "image.nii.gz.nii").write_bytes((tmp_path / "image.nii.gz").read_bytes())
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "image.nii").read_bytes())
    half = (tmp_path / "image.nii").read_bytes()
    (tmp_path / "members.nii.gz").write_bytes(gzip.compress(half[:20000]) + gzip.compress(half[20000:]))
    write(voxels, tmp_path / "volume.mha")
    (tmp_path / "volume.dat").write_bytes((tmp_path / "volume.mha").read_bytes())
    for path in sorted(tmp_path.iterdir()):
        file = read_image_file(path, "T1Gd")
        assert_same(file, voxels)
        assert file.volume.array.dtype == np.int16, path.name
        assert file.warnings == (), path.name


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4", "i8", "u8"])
def test_every_number_type_of_nifti_is_read(tmp_path, dtype):
    voxels = np.random.default_rng(1).integers(0, 100, SHAPE).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE, dtype=voxels.dtype), tmp_path / "image.nii.gz")
    assert_same(read_image_file(tmp_path / "image.nii.gz", "T1Gd"), voxels)


def test_scaled_values_and_nan_are_those_of_the_file(tmp_path):
    """ITK reads NaN in NIfTI as 0, so that nothing could be said of it."""
    values = np.random.default_rng(1).normal(size=SHAPE)
    image = nibabel.Nifti1Image(values, AFFINE)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    found = read_image_file(tmp_path / "scaled.nii.gz", "T1Gd").volume.array
    assert np.allclose(found, nibabel.load(tmp_path / "scaled.nii.gz").get_fdata(), atol=1e-6)
    values[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), tmp_path / "nan.nii.gz")
    assert np.isnan(read_image_file(tmp_path / "nan.nii.gz", "T1Gd").volume.array[3, 4, 5])


@pytest.mark.parametrize(
    ("at", "kind", "value", "said"),
    [
        (108, "f", 300.0, "begin at byte 300"),
        (108, "f", 0.0, "begin at byte 0"),
        (108, "f", 360.5, "begin at byte 360.5"),
        (108, "f", float("nan"), "begin at byte nan"),
        (42, "h", 17, "more voxels than its header says"),
        (42, "h", 68, "truncated"),
        (42, "h", -34, "its size is"),
        (40, "h", 9, "its size is"),
        (72, "h", 32, "two types of voxels"),
        (70, "h", 32, "type 32"),
        (70, "h", 2, "two types of voxels"),
        (80, "f", float("inf"), "puts the voxels nowhere"),
        (280, "f", float("nan"), "puts the voxels nowhere"),
    ],
)
def test_a_nifti_header_that_does_not_fit_its_file_is_refused(voxels, tmp_path, at, kind, value, said):
    path = tmp_path / "image.nii"
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, data, at, value)
    path.write_bytes(data)
    refused(path, said)
    path.write_bytes(gzip.compress(data))
    refused(path, said)


@pytest.mark.slow
def test_a_bomb_is_not_unpacked(voxels, tmp_path):
    """A sound image with zeros without end behind it: what the header promises is read and no more."""
    image = nibabel.Nifti1Image(voxels, AFFINE).to_bytes()
    for name, sound in (("bomb.nii.gz", image), ("bomb.hdr", image[:348])):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        with open(tmp_path / name, "wb") as file:
            file.write(packer.compress(sound))
            for _ in range(24):
                file.write(packer.compress(bytes(16 << 20)))
            file.write(packer.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path / "bomb.nii.gz", "more voxels than its header says")
    header = (
        b"ObjectType = Image\nNDims = 3\nDimSize = 34 32 30\nElementType = MET_UCHAR\nCompressedData = True\n"
        b"ElementDataFile = LOCAL\n"
    )
    (tmp_path / "bomb.mha").write_bytes(header + (tmp_path / "bomb.nii.gz").read_bytes())
    refused(tmp_path / "bomb.mha", "more voxels than its header says")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, "kilobytes; the file would be 400 megabytes"


META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-20.5 -30.25 -12",
    "ElementSpacing": "1 1 2",
    "DimSize": "34 32 30",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def write_meta(path, voxels, **changes):
    fields = META | changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last line of a header
    header = "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)
    path.write_bytes(header.encode() + voxels.tobytes(order="F"))


@pytest.mark.parametrize("axes", [np.eye(3), np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0.0]])])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_a_metaimage_is_read_as_itk_reads_it(voxels, tmp_path, axes, compressed, ending):
    turned = np.eye(4)
    cosine, sine = np.cos(0.3), np.sin(0.3)
    turned[:3, :3] = axes @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ np.diag([1.0, 1.5, 2.0])
    turned[:3, 3] = 5, 6, 7
    path = tmp_path / f"image{ending}"
    sitk.WriteImage(image_from_volume(Volume(voxels, Grid(SHAPE, turned))), str(path), compressed)
    assert_same(read_image_file(path, "T1Gd"), voxels, turned)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"NDims": "-1"}, "NDims = -1"),
        ({"NDims": "4294967296"}, "NDims = 4294967296"),
        ({"NDims": "three"}, "NDims = 'three'"),
        ({"NDims": ""}, "NDims = "),
        ({"DimSize": "34 32"}, "DimSize = 34 32"),
        ({"DimSize": "34 32 -30"}, "DimSize = 34 32 -30"),
        ({"DimSize": "34 32 nan"}, "DimSize = 34 32 nan"),
        ({"DimSize": "34 32 1e300"}, "DimSize = 34 32 1e300"),
        ({"DimSize": "34 32 60"}, "truncated"),
        ({"DimSize": "34 32 20"}, "more voxels"),
        ({"DimSize": "30000 30000 30000"}, "far more than an MRI"),
        ({"ElementDataFile": "%s%n"}, "one file beside"),
        ({"ElementDataFile": "LIST"}, "one file beside"),
        ({"ElementDataFile": "/etc/passwd"}, "one file beside"),
        ({"ElementDataFile": None}, "does not say where its voxels are"),
        ({"ElementType": "MET_STRING"}, "'MET_STRING'"),
        ({"ElementNumberOfChannels": "3"}, "3 values in each voxel"),
        ({"BinaryData": "False"}, "written as text"),
        ({"HeaderSize": "-7"}, "HeaderSize = -7"),
        ({"HeaderSize": "1e12"}, r"HeaderSize = 1e\+12"),
        ({"ElementSpacing": "0 1 2"}, "voxels of"),
        ({"ElementSpacing": "1 1"}, "too few or too many numbers"),
        ({"Offset": "nan 0 0"}, "no number"),
        ({"TransformMatrix": "1 0.2 0 0 1 0 0 0 1"}, "sheared axes"),
        ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "sheared axes"),
        ({"CompressedData": "True"}, "truncated or damaged"),
    ],
)
def test_a_damaged_metaimage_header_is_refused(voxels, tmp_path, changes, said):
    """Several of these end the process where ITK reads them."""
    write_meta(tmp_path / "image.mha", voxels, **changes)
    refused(tmp_path / "image.mha", said)


@pytest.mark.parametrize("sound", [True, False])
def test_a_compressed_metaimage_is_read_to_the_sum_at_its_end(voxels, tmp_path, sound):
    """More than a megabyte behind the voxels, as where a large stream is cut into what is read at a time."""
    packer = zlib.compressobj()
    stream = packer.compress(voxels.tobytes(order="F")) + packer.flush(zlib.Z_FULL_FLUSH)
    stream += b"\0\0\0\xff\xff" * (1 << 18) + packer.flush()  # blocks of nothing
    write_meta(tmp_path / "image.mha", np.frombuffer(stream if sound else stream[:-1], np.uint8), CompressedData="True")
    if sound:
        np.testing.assert_array_equal(read_image_file(tmp_path / "image.mha", "T1Gd").volume.array, voxels)
    else:
        refused(tmp_path / "image.mha", "truncated")


def test_random_damage_to_a_metaimage_is_refused_or_read(voxels, tmp_path):
    write_meta(tmp_path / "image.mha", voxels)
    whole = (tmp_path / "image.mha").read_bytes()
    rng = np.random.default_rng(11)
    end = whole.index(b"LOCAL\n")
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, end + 6, rng.integers(1, 5)):
            data[at] = rng.integers(0, 256)
        (tmp_path / "image.mha").write_bytes(data)
        try:
            said = str(read_image_file(tmp_path / "image.mha", "T1Gd").volume.array.size)
        except InputError as error:
            said = str(error)
        assert 0 < len(said) < 1000


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize(("size", "said"), [("34 32 20", "more voxels"), ("34 32 60", "truncated"), ("34 20", "slice")])
def test_an_nrrd_whose_size_does_not_fit_is_refused(voxels, tmp_path, encoding, size, said):
    path = tmp_path / "image.nrrd"
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": [1, 2, 3]}
    nrrd.write(str(path), voxels, header | {"encoding": encoding})
    assert np.array_equal(read_image_file(path, "T1Gd").volume.array, voxels)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"sizes: 34 32 30", b"sizes: " + size.encode()))
    if said == "slice":
        said = "single slice|damaged"
    refused(path, said)


def test_paths_that_are_no_text_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    refused(tmp_path / "pipe.nii.gz", "a pipe or a device")
    (tmp_path / "caf\udce9").mkdir()
    refused(tmp_path / "caf\udce9" / "image.nii.gz", "is not UTF-8")
    refused(tmp_path / ("x" * 300 + ".nii.gz"), "does not exist")
    refused("a\0b.nii.gz", "does not exist")


def test_any_name_is_read_in_the_c_locale(voxels, tmp_path):
    """Where Python takes file names for ASCII, ITK would end the process."""
    write(voxels, tmp_path / "Kopf é.nrrd")
    code = (
        "import sys\nfrom TumorQueryLib.inputs.image_files import read_image_file\n"
        "print(read_image_file(sys.argv[1], 'T1Gd').volume.array.shape)"
    )
    environment = os.environ | {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "Kopf é.nrrd"], env=environment, capture_output=True, encoding="utf-8"
    )
    assert ended.stdout.strip() == str(SHAPE), ended.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "pointer of Git LFS"),
        (b"/annex/objects/MD5E-s12--00.nii.gz\n", "git-annex"),
        (gzip.compress(b"\0\0\0\x01" + struct.pack(">3i", 34, 32, 30) + bytes(400), mtime=0), "FreeSurfer"),
        (b"PK\x03\x04" + bytes(400), "ZIP"),
        (b"\x89PNG\r\n" + bytes(400), "PNG"),
        (b"", "it is empty"),
        (gzip.compress(b"text", mtime=0), "of another format"),
        (gzip.compress(gzip.compress(bytes(400), mtime=0), mtime=0), "packed with gzip twice.*unpack it once"),
        (bz2.compress(bytes(400)), "packed with bzip2; unpack it first"),
        (lzma.compress(bytes(400)), "packed with xz; unpack it first"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, said):
    (tmp_path / "image.nii.gz").write_bytes(content)
    refused(tmp_path / "image.nii.gz", said)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("image.img", ".hdr"),
        ("image.IMG.GZ", ".hdr"),
        ("image.zraw", ".mhd or .nhdr"),
        ("image.raw.gz", ".mhd or .nhdr"),
    ],
)
def test_of_voxels_alone_the_header_is_asked_for(voxels, tmp_path, name, header):
    (tmp_path / name).write_bytes(voxels.tobytes())
    refused(tmp_path / name, rf"holds voxels alone; their header \({header}\).*is named instead")


@pytest.mark.parametrize("field", ["space directions", "sizes", "kinds", "unknown"])
def test_an_nrrd_whose_field_is_longer_than_any_is_refused(voxels, tmp_path, field):
    write(voxels, tmp_path / "whole.nrrd")
    header, end, data = (tmp_path / "whole.nrrd").read_bytes().partition(b"\n\n")
    lines = [line for line in header.split(b"\n") if not line.startswith(field.encode())]
    lines.append(field.encode() + b": " + b"x" * 5000)
    (tmp_path / "long.nrrd").write_bytes(b"\n".join(lines) + end + data)
    refused(tmp_path / "long.nrrd", r"a field of its header has 5,\d+ characters")
    free = header + b"\ncontent: " + b"x" * 5000 + b"\nkey:=" + b"x" * 5000
    (tmp_path / "free.nrrd").write_bytes(free + end + data)
    assert_same(read_image_file(tmp_path / "free.nrrd", "T1Gd"), voxels)


NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "34 32 30",
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,1,0) (0,0,2)",
    "space origin": "(-20.5,-30.25,-12)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
}


def write_nrrd(path, data, text="", **changes):
    """Fields with underscores for spaces; None leaves one out; `text` is put behind them."""
    fields = NRRD | {name.replace("_", " "): value for name, value in changes.items()}
    # ITK wants the space before what lies in it.
    names = sorted(fields, key=lambda name: name not in ("space", "space dimension"))
    lines = "".join(f"{name}: {fields[name]}\n" for name in names if fields[name] is not None)
    path.write_bytes(b"NRRD0004\n" + lines.encode() + text.encode() + b"\n" + data)


def stored(voxels):
    return voxels.tobytes(order="F")


def assert_as_itk(path):
    file, image = read_image_file(path, "T1Gd"), sitk.ReadImage(str(path))
    expected = volume_from_image(image)
    assert file.volume.array.dtype == expected.array.dtype
    assert_same(file, expected.array, expected.grid.affine)


OBLIQUE = np.array([[0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)], [-1, 0, 0]]) * [[1.0], [1.5], [2.0]]


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "LPS", "scanner-xyz"])
@pytest.mark.parametrize(("encoding", "order"), [("raw", "<"), ("gzip", ">")])
def test_an_nrrd_is_read_as_itk_reads_it(voxels, tmp_path, encoding, order, space):
    if space == "left-anterior-superior" and sitk.__version__.startswith("2.4."):
        pytest.skip("SimpleITK 2.4 reads this space otherwise")
    header = {"space": space, "space directions": OBLIQUE, "space origin": [5.5, 6, -7], "encoding": encoding}
    nrrd.write(str(tmp_path / "image.nrrd"), voxels.astype(order + "i2"), header)
    assert_as_itk(tmp_path / "image.nrrd")
    nrrd.write(str(tmp_path / "image.nhdr"), voxels.astype(order + "f4"), header, detached_header=True)
    assert_as_itk(tmp_path / "image.nhdr")


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4", "i8", "u8"])
def test_every_number_type_of_nrrd_is_read(voxels, tmp_path, dtype):
    nrrd.write(str(tmp_path / "image.nrrd"), (voxels % 100).astype(dtype), {"encoding": "raw"})
    assert_as_itk(tmp_path / "image.nrrd")
    # SimpleITK's build has no bzip2.
    nrrd.write(str(tmp_path / "packed.nrrd"), (voxels % 100).astype(">" + dtype), {"encoding": "bzip2"})
    assert np.array_equal(read_image_file(tmp_path / "packed.nrrd", "T1Gd").volume.array, voxels % 100)


@pytest.mark.parametrize(
    "changes",
    [
        {"space_directions": None, "spacings": "1 1.5 2", "space": None, "space_origin": None},
        {"space_directions": None, "space_origin": None, "kinds": None},
        {"space_origin": None},
        {"space_origin": "none"},
        {"space": None, "space_dimension": "3"},
        {"space_directions": "(1, 0, 0)  (0,0,-1) (0, 2,0)"},
        {"type": "SIGNED short INT", "encoding": "RAW", "kinds": "space space space"},
        {"space": "Left Posterior Superior"},
        {"spacedirections": "(1,0,0) (0,3,0) (0,0,2)", "space_directions": None},
        {"content": "x" * 5000, "thicknesses": "nan nan 2", "space_units": '"mm" "mm" "mm"', "number": "5"},
        {"measurement_frame": "(1,0,0) (0,1,0) (0,0,1)", "line_skip": "0", "byte_skip": "0"},
        {"byte_skip": "-1"},
    ],
)
def test_what_an_nrrd_may_say_is_read_as_itk_reads_it(voxels, tmp_path, changes):
    write_nrrd(tmp_path / "image.nrrd", stored(voxels), **changes)
    assert_as_itk(tmp_path / "image.nrrd")


@pytest.mark.parametrize("first", [True, False])
def test_an_axis_of_length_one_is_dropped(voxels, tmp_path, first):
    """Kinds or not, before the axes of space or after them; ITK refuses some of these."""
    fields = {"sizes": ("1", "34 32 30"), "space_directions": ("none", NRRD["space directions"])}
    for kind in (None, "domain", "list"):
        if kind:
            fields["kinds"] = (kind, NRRD["kinds"])
        changes = {name: " ".join(words if first else words[::-1]) for name, words in fields.items()}
        changes = {"kinds": None, "dimension": "4"} | changes
        write_nrrd(tmp_path / "image.nrrd", stored(voxels), **changes)
        assert_same(read_image_file(tmp_path / "image.nrrd", "T1Gd"), voxels)


@pytest.mark.parametrize(
    ("changes", "text", "said"),
    [
        # What ITK takes for further lines: over a long one of them it writes beyond a buffer of its own.
        ({}, "# a\rspacings: " + "1 " * 60000 + "\n", "has control characters"),
        ({}, "# a\x0cdata file: image.raw\n", "has control characters"),
        ({}, "key:=a\x85b\n", "has control characters"),
        ({}, "\x1c\n", "has control characters"),
        ({}, "# " + "c" * 4_100_000 + "\ndata file: /etc/passwd\n", "does not end within 4,000,000 bytes"),
        ({}, "encoding: gzip\n", "says 'encoding' twice"),
        ({}, "Byte Skip: 1\nbyteskip: 2\n", "says 'byteskip' twice"),
        ({}, "key:=a\nkey:=b\n", "says 'key' twice"),
        ({}, "space direction: (1,0,0)\n", "which is no field"),
        ({}, "no field\n", "which is no field"),
        ({}, "data file: LIST\n", "one file beside"),
        ({}, "data file: LIST 2\n", "one file beside"),
        ({"type": "block"}, "", "type: 'block'"),
        ({"type": None}, "", "type: ''"),
        ({"endian": None}, "", "endian: ''"),
        ({"encoding": "ascii"}, "", "'ascii', which is not accepted"),
        ({"encoding": "hex"}, "", "'hex', which is not accepted"),
        ({"encoding": None}, "", "'', which is not accepted"),
        ({"dimension": "4"}, "", "do not fit them"),
        ({"kinds": "domain domain"}, "", "do not fit them"),
        ({"sizes": "34 32 -30"}, "", "do not fit them"),
        ({"sizes": "34 32 99999999999999999999"}, "", "sizes: '34 32 9999"),
        ({"sizes": "34 32 nan"}, "", "sizes: '34 32 nan'"),
        ({"sizes": "30000 30000 30000"}, "", "far more than an MRI"),
        ({"sizes": "34 32 60"}, "", "truncated"),
        ({"sizes": "34 32 20"}, "", "more voxels"),
        ({"space": "left"}, "", "space: 'left'"),
        ({"space": "left-posterior-superior-time"}, "", "space: 'left-posterior-superior-time'"),
        ({"space_directions": "(1,0,0) (0,1,0) none"}, "", "2 axes a direction"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0)"}, "", "three numbers"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,nan)"}, "", "three numbers"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,a)"}, "", "space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) 0,0,1"}, "", "space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,0)"}, "", "voxels of"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0.5,1)"}, "", "sheared axes"),
        ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, "", "sheared axes"),
        ({"space_origin": "(nan,0,0)"}, "", "space origin"),
        ({"space_origin": "(0,0,0) (1,1,1)"}, "", "space origin"),
        ({"spacings": "1 1 2"}, "", "twice"),
        ({"spacings": "1 -1 2", "space_directions": None}, "", "voxels of"),
        ({"spacings": "1 2", "space_directions": None}, "", "spacings: '1 2'"),
        ({"dimension": "4", "sizes": "34 32 15 2", "kinds": None, "space_directions": None}, "", "2 volumes in one"),
        (
            {
                "dimension": "4",
                "sizes": "2 17 32 30",
                "kinds": "vector domain domain domain",
                "space_directions": "none (1,0,0) (0,1,0) (0,0,1)",
            },
            "",
            "2 values in each voxel",
        ),
        # Skips are lengths that nothing has checked.
        ({"byte_skip": "-2"}, "", "passes over 0 lines and -2 bytes"),
        ({"byte_skip": "999999999"}, "", "passes over 0 lines and 999999999 bytes"),
        ({"byte_skip": "3000000000"}, "", "byteskip: '3000000000'"),
        ({"line_skip": "-1"}, "", "passes over -1 lines"),
        ({"line_skip": "20000"}, "", "passes over 20000 lines"),
        ({"byte_skip": "100"}, "", "truncated"),
        ({"byte_skip": "1", "encoding": "gzip"}, "", "passes over 0 lines and 1 bytes"),
        ({"line_skip": "1", "encoding": "gzip"}, "", "passes over 1 lines"),
        ({"byte_skip": "-1", "encoding": "bzip2"}, "", "passes over 0 lines and -1 bytes"),
    ],
)
def test_a_damaged_nrrd_header_is_refused(voxels, tmp_path, changes, text, said):
    """Several of these end the process, fill the memory or read another file where ITK reads them."""
    (tmp_path / "image.raw").write_bytes(stored(voxels))
    write_nrrd(tmp_path / "image.nrrd", stored(voxels), text, **changes)
    refused(tmp_path / "image.nrrd", said)


def test_what_lies_before_the_voxels_is_passed_over(voxels, tmp_path):
    changes = {"data_file": "image.raw", "line_skip": "2", "byte_skip": "3"}
    (tmp_path / "image.raw").write_bytes(b"one\ntwo\nabc" + stored(voxels))
    write_nrrd(tmp_path / "image.nhdr", b"", **changes)
    assert_as_itk(tmp_path / "image.nhdr")
    (tmp_path / "image.raw").write_bytes(b"one\ntwo\nabc" + stored(voxels) + b"more")
    refused(tmp_path / "image.nhdr", "more voxels than its header says")
    write_nrrd(tmp_path / "image.nhdr", b"", **changes | {"byte_skip": "-1", "line_skip": "0"})
    (tmp_path / "image.raw").write_bytes(b"any length" + stored(voxels))
    assert_as_itk(tmp_path / "image.nhdr")


@pytest.mark.slow
def test_an_nrrd_bomb_is_not_unpacked(voxels, tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(stored(voxels)) + b"".join(packer.compress(bytes(16 << 20)) for _ in range(32))
    packed += packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_nrrd(tmp_path / "image.nrrd", packed, encoding="gzip")
    refused(tmp_path / "image.nrrd", "more voxels than its header says")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes of half a gigabyte"


def test_a_metaimage_with_colons_is_read_as_itk_reads_it(voxels, tmp_path):
    write_meta(tmp_path / "image.mha", voxels)
    header, local, data = (tmp_path / "image.mha").read_bytes().partition(b"LOCAL\n")
    (tmp_path / "image.mha").write_bytes(header.replace(b" = ", b": ") + local + data)
    assert_as_itk(tmp_path / "image.mha")
    (tmp_path / "image.mha").write_bytes(b"NDims = 3\n" + header.replace(b" = ", b": ") + local + data)
    refused(tmp_path / "image.mha", "says 'NDims' twice")
