"""DICOM as scanners, archives and people hand it on: multi-frame files, copies, localizers, what is no image."""

import resource
import shutil
import struct
import zlib

import numpy as np
import pydicom
import pytest
from awkward_grids import AWKWARD_AFFINES
from made_up_studies import item, new_file
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from test_image_files import assert_voxels_in_place, write_dicom_series

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import ras_to_lps
from TumorQueryLib.inputs.dicom.series import deflated_length
from TumorQueryLib.inputs.image_files import read_image_file

SHAPE = (34, 32, 30)
AFFINE = AWKWARD_AFFINES["oblique-flipped"].copy()
AFFINE[:3, 3] = (40.0, -20.0, 10.0)


@pytest.fixture
def voxels():
    return np.random.default_rng(3).integers(1, 1000, SHAPE).astype(np.uint16)


def refused(path, said, role="T1Gd"):
    with pytest.raises(InputError, match=said) as caught:
        read_image_file(path, role)
    assert "\n" not in str(caught.value)


def empty_file(kind, **values):
    return new_file(kind, **{"SeriesInstanceUID": generate_uid(), "Modality": "MR"} | values)


def write_enhanced(path, array, affine, frames, **values):
    """Enhanced MR; `frames` has for each frame its slice k and further functional groups."""
    axes = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    file = empty_file(pydicom.uid.EnhancedMRImageStorage, **values)
    file.Rows, file.Columns, file.NumberOfFrames = array.shape[1], array.shape[0], len(frames)
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    orientation = [f"{x:.8f}" for x in (*(axes[:, 0] / spacing[0]), *(axes[:, 1] / spacing[1]))]
    file.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=orientation)]),
                PixelMeasuresSequence=Sequence([item(PixelSpacing=[f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"])]),
            )
        ]
    )
    each = []
    for k, groups in frames:
        position = ras_to_lps(affine[:3, :3] @ [0, 0, k] + affine[:3, 3])
        place = Sequence([item(ImagePositionPatient=[f"{x:.6f}" for x in position])])
        each.append(item(PlanePositionSequence=place, **groups))
    file.PerFrameFunctionalGroupsSequence = Sequence(each)
    file.PixelData = b"".join(np.ascontiguousarray(array[:, :, k].T.astype("<u2")).tobytes() for k, _ in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


ORDERS = {
    "ascending": list(range(30)),
    "descending": list(range(29, -1, -1)),
    "interleaved": [*range(0, 30, 2), *range(1, 30, 2)],
    "shuffled": np.random.default_rng(0).permutation(30).tolist(),
}


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_frames_lie_where_they_say(voxels, tmp_path, order):
    path = tmp_path / "folder" / "MR0001.dcm"
    write_enhanced(path, voxels, AFFINE, [(k, {}) for k in ORDERS[order]])
    for named in (path, path.parent):
        file = read_image_file(named, "T1Gd")
        assert file.warnings == ()
        assert_voxels_in_place(file.volume, voxels, AFFINE)


def test_each_frame_has_its_own_scale(voxels, tmp_path):
    def scaled(k):
        values = item(RescaleSlope=f"{k + 1}", RescaleIntercept="-3")
        return {"PixelValueTransformationSequence": Sequence([values])}

    write_enhanced(tmp_path / "MR.dcm", voxels, AFFINE, [(k, scaled(k)) for k in range(30)])
    expected = voxels * (np.arange(30) + 1.0) - 3
    assert_voxels_in_place(read_image_file(tmp_path / "MR.dcm", "T1Gd").volume, expected, AFFINE)


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        (
            lambda n: {"FrameContentSequence": Sequence([item(TemporalPositionIndex=n + 1)])},
            r"temporal positions 1, 2\)",
        ),
        (lambda n: {"MREchoSequence": Sequence([item(EffectiveEchoTime=[4.5, 90.0][n])])}, r"echo times 4\.5, 90"),
        (
            lambda n: {"MRImageFrameTypeSequence": Sequence([item(ComplexImageComponent=["MAGNITUDE", "PHASE"][n])])},
            "MAGNITUDE, PHASE",
        ),
        (lambda n: {"MRDiffusionSequence": Sequence([item(DiffusionBValue=[0.0, 1000.0][n])])}, "b-values 0.0, 1000"),
    ],
)
def test_two_volumes_in_one_file_are_refused_by_what_they_are(voxels, tmp_path, mark, said):
    both = np.concatenate([voxels, voxels + 1], axis=2)
    half = both.shape[2] // 2
    path = tmp_path / "MR.dcm"
    write_enhanced(path, both, AFFINE, [(k, mark(k // half)) for k in range(2 * half)])
    data = pydicom.dcmread(path)
    for k, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        first = data.PerFrameFunctionalGroupsSequence[k % half].PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = first
    data.save_as(path)
    refused(path, f"2 different slices at the same place.*{said}.*more than one volume")


@pytest.mark.parametrize("places", [0, 29, 31])
def test_frames_without_places_of_their_own_are_refused(voxels, tmp_path, places):
    write_enhanced(tmp_path / "MR.dcm", voxels, AFFINE, [(k, {}) for k in range(30)])
    data = pydicom.dcmread(tmp_path / "MR.dcm")
    said = list(data.PerFrameFunctionalGroupsSequence)
    data.PerFrameFunctionalGroupsSequence = Sequence([*said, said[-1]][:places])
    data.save_as(tmp_path / "MR.dcm")
    refused(tmp_path / "MR.dcm", "30 frames that do not say where they lie")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", r"DICOM segmentation \(SEG\).*give it as the segmentation"),
        ("1.2.840.10008.5.1.4.1.1.66.5", r"surface segmentation.*convert it to a label map"),
        ("1.2.840.10008.5.1.4.1.1.66.7", r"label map segmentation \(SEG\).*give it as the segmentation"),
        ("1.2.840.10008.5.1.4.1.1.481.3", r"RTSTRUCT.*give it as the segmentation"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
        ("1.2.840.10008.5.1.4.1.1.30", "parametric map"),
        ("1.2.840.10008.5.1.4.1.1.88.22", r"of another kind \(Enhanced SR\)"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"),
    ],
)
def test_what_is_no_plain_image_is_refused_by_what_it_is(tmp_path, kind, said):
    (tmp_path / "folder").mkdir()
    empty_file(kind, Modality="OT").save_as(tmp_path / "folder" / "object.dcm", enforce_file_format=True)
    refused(tmp_path / "folder" / "object.dcm", said, "segmentation")
    refused(tmp_path / "folder", said, "segmentation")


def test_an_export_with_folders_reports_and_junk_is_one_series(voxels, tmp_path):
    write_dicom_series(tmp_path / "DICOM" / "S0001" / "SER0003", voxels, AFFINE)
    report = empty_file("1.2.840.10008.5.1.4.1.1.88.22", Modality="SR")
    report.save_as(tmp_path / "DICOM" / "report.dcm", enforce_file_format=True)
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "DICOM" / "S0001" / "SER0003" / "._IM001").write_bytes(b"\0\5\x16\7" + b"\0" * 200)
    (tmp_path / "README.txt").write_text("hello")
    file = read_image_file(tmp_path, "T1Gd")
    assert file.warnings == ()
    assert_voxels_in_place(file.volume, voxels, AFFINE)


@pytest.mark.parametrize("left", ["cut", "empty", "Git LFS", "a link"])
def test_a_series_with_lost_slices_is_refused_and_no_shorter_head(voxels, tmp_path, left):
    write_dicom_series(tmp_path / "t1gd", voxels, AFFINE)
    last = tmp_path / "t1gd" / "IM023"  # of the uppermost slice
    content = {"cut": last.read_bytes()[:200], "empty": b"", "Git LFS": b"version https://git-lfs.github.com/spec/v1\n"}
    last.unlink()
    if left in content:
        last.write_bytes(content[left])
    else:
        last.symlink_to("../.git/annex/objects/none")
    said = rf"may have lost slices: beside its 29 files lie 1 that .* such as .*{last.name}"
    refused(tmp_path / "t1gd", said)
    refused(last.with_name("IM000"), said)
    # Beside the series' own folder, it may be of anything.
    last.rename(tmp_path / "t1gd.dcm")
    (warning,) = read_image_file(tmp_path, "T1Gd").warnings
    assert warning.startswith("1 file in the folder of the T1Gd cannot be read")
    assert str(tmp_path) not in warning


def test_slices_that_say_their_class_before_the_header_alone_are_read(voxels, tmp_path):
    write_dicom_series(tmp_path, voxels, AFFINE)
    for path in sorted(tmp_path.iterdir())[20:]:
        data = pydicom.dcmread(path)
        del data.SOPClassUID
        data.save_as(path)
    assert_voxels_in_place(read_image_file(tmp_path, "T1Gd").volume, voxels, AFFINE)


def test_a_series_in_several_folders_is_named_by_one_of_its_files(voxels, tmp_path):
    write_dicom_series(tmp_path / "A", voxels, AFFINE)
    write_dicom_series(tmp_path / "A", voxels[..., ::-1], AFFINE, description="other", prefix="other")
    moved = [path for path in sorted((tmp_path / "A").iterdir()) if path.name.endswith(("0", "1", "2", "3"))]
    (tmp_path / "B").mkdir()
    for path in moved:
        path.rename(tmp_path / "B" / path.name)
    refused(tmp_path, "Name one file of the series that is meant")
    for name in ("A/IM004", "B/IM000"):
        assert_voxels_in_place(read_image_file(tmp_path / name, "T1Gd").volume, voxels, AFFINE)
    (tmp_path / "B" / "IM000").write_bytes(b"")
    assert "1 file in the folder" in read_image_file(tmp_path / "A" / "IM004", "T1Gd").warnings[0]


def test_another_volume_of_the_series_in_a_folder_beside_is_not_what_was_named(voxels, tmp_path):
    series = write_dicom_series(tmp_path / "before", voxels, AFFINE)
    write_dicom_series(tmp_path / "after", voxels + 1, AFFINE, series=series)
    file = read_image_file(tmp_path / "before" / "IM000", "T1Gd")
    assert file.warnings == ()
    assert_voxels_in_place(file.volume, voxels, AFFINE)
    write_enhanced(tmp_path / "lower" / "1.dcm", voxels, AFFINE, [(k, {}) for k in range(20)], SeriesInstanceUID="1.2")
    upper = [(k, {}) for k in range(20, 30)]
    write_enhanced(tmp_path / "upper" / "2.dcm", voxels, AFFINE, upper, SeriesInstanceUID="1.2")
    assert_voxels_in_place(read_image_file(tmp_path / "lower" / "1.dcm", "T1Gd").volume, voxels, AFFINE)


@pytest.mark.parametrize("changes", [{"ImagePositionPatient": None}, {"PixelSpacing": ["2.5", "2.5"]}])
def test_what_is_unlike_the_named_file_in_a_folder_beside_does_not_matter(voxels, tmp_path, changes):
    series = write_dicom_series(tmp_path / "named", voxels, AFFINE)
    beyond = AFFINE.copy()
    beyond[:3, 3] += 30 * AFFINE[:3, 2]
    write_dicom_series(tmp_path / "other", voxels[..., :3], beyond, series=series)
    for path in (tmp_path / "other").iterdir():
        slice_ = pydicom.dcmread(path)
        for name, value in changes.items():
            setattr(slice_, name, value) if value else delattr(slice_, name)
        slice_.save_as(path)
    file = read_image_file(tmp_path / "named" / "IM004", "T1Gd")
    assert "has 3 more files beside it that are no slices like the named one's" in file.warnings[0]
    assert_voxels_in_place(file.volume, voxels, AFFINE)


def test_copies_of_slices_are_left_out(voxels, tmp_path):
    write_dicom_series(tmp_path, voxels, AFFINE)
    alone = read_image_file(tmp_path, "T1Gd")
    for path in sorted(tmp_path.iterdir())[:7]:
        shutil.copy(path, path.with_name(path.name + " (1)"))
    file = read_image_file(tmp_path, "T1Gd")
    assert file.warnings == ("The T1Gd series holds 7 copies of slices; one of each was read.",)
    assert_voxels_in_place(file.volume, voxels, AFFINE)
    assert file.sha256 == alone.sha256


@pytest.mark.parametrize("size", [(34, 32), (20, 24)])
def test_a_localizer_in_the_series_is_left_out(voxels, tmp_path, size):
    series = write_dicom_series(tmp_path, voxels, AFFINE)
    turned = AWKWARD_AFFINES["sagittal"].copy()
    write_dicom_series(tmp_path, voxels[: size[0], : size[1], :2], turned, series=series, prefix="LOC")
    file = read_image_file(tmp_path, "T1Gd")
    assert "2 of 32 slices in another size or orientation (a localizer)" in file.warnings[0]
    assert_voxels_in_place(file.volume, voxels, AFFINE)


def test_two_stacks_in_one_series_are_refused(voxels, tmp_path):
    series = write_dicom_series(tmp_path, voxels, AFFINE)
    write_dicom_series(tmp_path, voxels, AWKWARD_AFFINES["sagittal"], series=series, prefix="OTHER")
    refused(tmp_path, "slices of 2 sizes or orientations.*more than one volume")


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless])
def test_a_compressed_series_is_read(voxels, tmp_path, syntax):
    write_dicom_series(tmp_path, voxels, AFFINE)
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = "0.5", "10"
        data.compress(syntax)
        data.save_as(path)
    assert_voxels_in_place(read_image_file(tmp_path, "T1Gd").volume, voxels * 0.5 + 10, AFFINE)


def test_jpeg_2000_is_read(voxels, tmp_path):
    import SimpleITK as sitk

    write_dicom_series(tmp_path / "plain", voxels, AFFINE)
    (tmp_path / "packed").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(True)
    for path in (tmp_path / "plain").iterdir():
        writer.SetFileName(str(tmp_path / "packed" / f"{path.name}.dcm"))
        writer.Execute(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    first = next((tmp_path / "packed").iterdir())
    assert pydicom.dcmread(first).file_meta.TransferSyntaxUID.is_compressed
    assert_voxels_in_place(read_image_file(tmp_path / "packed", "T1Gd").volume, voxels, AFFINE)


@pytest.mark.slow
def test_damaged_dicom_is_refused(voxels, tmp_path):
    write_dicom_series(tmp_path, voxels, AFFINE)
    path = tmp_path / "IM007"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "truncated, damaged or compressed")
    path.write_bytes(whole[:140])
    refused(path, "damaged DICOM")
    rng = np.random.default_rng(2)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(128, 900, 4):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            said = str(read_image_file(tmp_path, "T1Gd").volume.array.size)
        except InputError as error:
            said = str(error)
        assert 0 < len(said) < 1500


def change_slices(folder, changed, **values):
    """Set elements of the slices whose numbers are in `changed`."""
    for path in folder.iterdir():
        slice_ = pydicom.dcmread(path)
        if slice_.InstanceNumber - 1 in changed:
            for name, value in values.items():
                setattr(slice_, name, value)
            slice_.save_as(path)


@pytest.mark.parametrize("changed", [range(27, 30), range(0, 30, 2)])
@pytest.mark.parametrize("edge", ["spacing", "axes"])
def test_slices_at_the_edge_of_rounding_are_one_volume(voxels, tmp_path, changed, edge):
    """Spacing 0.9375 rounds up or down in the third decimal; axes about 0.005 in the second."""
    write_dicom_series(tmp_path, voxels, np.diag([-1.0, -1.0, 2.0, 1.0]))
    if edge == "spacing":
        change_slices(tmp_path, range(30), PixelSpacing=["0.9374999", "0.9375"])
        change_slices(tmp_path, changed, PixelSpacing=["0.93750001", "0.9375"])
    else:
        tilted = "0.9999875 {} 0 -0.005 0.9999875 0"
        change_slices(tmp_path, range(30), ImageOrientationPatient=tilted.format("0.00500001").split())
        change_slices(tmp_path, changed, ImageOrientationPatient=tilted.format("0.00499999").split())
    file = read_image_file(tmp_path, "T1Gd")
    assert file.volume.array.shape == SHAPE
    assert not [warning for warning in file.warnings if "localizer" in warning]


@pytest.mark.parametrize("changed", [(28, 29), (10,)])
def test_odd_slices_of_the_stack_are_no_localizer(voxels, tmp_path, changed):
    write_dicom_series(tmp_path, voxels, AFFINE)
    change_slices(tmp_path, changed, PixelSpacing=["2.5", "2.5"])
    refused(tmp_path, f"holds {len(changed)} of 30 slices in line with the others but of another size, voxel or tilt")


@pytest.mark.parametrize("moved", [True, False])
def test_slices_turned_in_their_plane_are_no_localizer(voxels, tmp_path, moved):
    """Half a turn, as their voxels and first voxel say too, or by their orientation alone."""
    write_dicom_series(tmp_path, voxels, AFFINE)
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        if slice_.InstanceNumber <= 4:
            axes = np.array(slice_.ImageOrientationPatient, dtype=float).reshape(2, 3)
            last = np.array(slice_.PixelSpacing[::-1], dtype=float) * (np.array([slice_.Columns, slice_.Rows]) - 1)
            slice_.ImageOrientationPatient = [f"{-x:.8f}" for x in axes.ravel()]
            if moved:
                position = np.array(slice_.ImagePositionPatient, dtype=float) + last @ axes
                slice_.ImagePositionPatient = [f"{x:.6f}" for x in position]
                slice_.PixelData = slice_.pixel_array[::-1, ::-1].tobytes()
            slice_.save_as(path)
    refused(tmp_path, "holds 4 of 30 slices in line with the others but of another.*or turned in their plane")


def test_a_small_image_in_line_is_a_localizer(voxels, tmp_path):
    """What shows less than half of a slice is none of the stack."""
    series = write_dicom_series(tmp_path, voxels, AFFINE)
    beyond = AFFINE.copy()
    beyond[:3, 3] -= AFFINE[:3, 2]
    write_dicom_series(tmp_path, voxels[:12, :12, :1], beyond, series=series, prefix="LOC")
    file = read_image_file(tmp_path, "T1Gd")
    assert "1 of 31 slices in another size or orientation (a localizer)" in file.warnings[0]
    assert_voxels_in_place(file.volume, voxels, AFFINE)


@pytest.mark.parametrize("kind", ["PALETTE COLOR", "RGB"])
def test_colours_are_refused_with_one_number_for_each_voxel_too(voxels, tmp_path, kind):
    write_dicom_series(tmp_path, voxels, AFFINE)
    change_slices(tmp_path, range(30), PhotometricInterpretation=kind)
    refused(tmp_path, "T1Gd is a colour image")


@pytest.mark.parametrize("size", [20, 40])
def test_a_parallel_localizer_beside_the_stack_is_left_out(voxels, tmp_path, size):
    series = write_dicom_series(tmp_path, voxels, AFFINE)
    beside = AFFINE.copy()
    beside[:3, 3] += 60 * AFFINE[:3, 0] / np.linalg.norm(AFFINE[:3, 0])
    write_dicom_series(tmp_path, np.resize(voxels, (size, size, 2)), beside, series=series, prefix="LOC")
    file = read_image_file(tmp_path, "T1Gd")
    assert "2 of 32 slices in another size or orientation (a localizer)" in file.warnings[0]
    assert_voxels_in_place(file.volume, voxels, AFFINE)


def deflate(path, more=()):
    """Write a file of the series again, deflated, with zeros behind what it holds."""
    slice_ = pydicom.dcmread(path)
    slice_.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    slice_.save_as(path, enforce_file_format=True)
    if more:
        raw = path.read_bytes()
        end = 144 + int.from_bytes(raw[140:144], "little")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        parts = [packer.compress(zlib.decompress(raw[end:], -15))] + [packer.compress(part) for part in more]
        path.write_bytes(raw[:end] + b"".join(parts) + packer.flush())


def test_what_pydicom_would_unpack_is_counted_however_its_header_is_written(tmp_path):
    """Group 2 without the kinds of its values, against the standard: pydicom reads it all the same."""
    syntax = pydicom.uid.DeflatedExplicitVRLittleEndian.encode() + b"\0"
    meta = struct.pack("<HHI", 2, 0x10, len(syntax)) + syntax
    content = struct.pack("<HH2sH", 0x10, 0x4000, b"LT", 5000) + b"x" * 5000  # PatientComments
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    path = tmp_path / "implicit.dcm"
    path.write_bytes(bytes(128) + b"DICM" + meta + packer.compress(content) + packer.flush())
    assert len(pydicom.dcmread(path).PatientComments) == 5000
    assert deflated_length(path, 10_000) == len(content)


@pytest.mark.slow
def test_deflated_slices_are_read_and_a_bomb_among_them_is_not_unpacked(voxels, tmp_path):
    write_dicom_series(tmp_path, voxels, AFFINE)
    paths = sorted(tmp_path.iterdir())
    for path in paths:
        deflate(path)
    assert_voxels_in_place(read_image_file(tmp_path, "T1Gd").volume, voxels, AFFINE)
    zeros = [bytes(1 << 26)] * 5
    # An element of its own, of a length that fits.
    element = b"\xe0\x7f\x11\x00OB\0\0" + (5 << 26).to_bytes(4, "little")
    deflate(paths[3], [element, *zeros])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, "deflated and unpack to more than 256 MB")
    refused(paths[3], "deflated and unpack to more than 256 MB")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes of 320 MB"
