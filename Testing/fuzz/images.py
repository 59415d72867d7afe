"""Image files of every kind that is read, their headers altered field by field, their bytes damaged.

A header is all that says where voxels lie and what they mean, so what is read as the header says is right;
readers of others (nibabel, pynrrd, pydicom) say what that is, and of MetaImage a few lines here.
"""

import gzip
import io
import itertools
import random
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from mutations import damaged_bytes

from TumorQueryLib.inputs.image_files import read_image_file

NAMES = ("a.nii", "b.nii.gz", "c.nrrd", "d.nrrd", "e.mha", "f.mha", "g.seg.nrrd")
#: NIfTI-2, headers with their voxels beside them, a segmentation in layers, and one slice of a DICOM series.
FURTHER_NAMES = ("k.nii", "h.nhdr", "i.mhd", "j.hdr", "l.seg.nrrd", "m.dcm")


@dataclass
class Prepared:
    """`beside` are the names of voxel files and their bytes, by the name of the header."""

    folder: Path
    contents: dict[str, bytes]
    beside: dict[str, tuple[str, bytes]]
    expected: dict[str, Any]


def prepare(folder: Path) -> Prepared:
    generator = np.random.default_rng(5)
    array = generator.integers(1, 1000, (20, 22, 24)).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.5, 3.0))
    image.SetOrigin((-20.0, -30.0, 15.0))
    labels = sitk.GetImageFromArray((array % 3).astype(np.uint8))
    labels.CopyInformation(image)
    for n, (name, value) in enumerate((("core", "1"), ("whole", "2"))):
        for key, text in (("ID", name), ("Name", name), ("LabelValue", value), ("Layer", "0")):
            labels.SetMetaData(f"Segment{n}_{key}", text)
        labels.SetMetaData(f"Segment{n}_Extent", "0 23 0 21 0 19")
    for name in NAMES:
        compressed = name[0] in "bdfg"
        sitk.WriteImage(labels if ".seg" in name else image, str(folder / name), useCompression=compressed)
    for name in ("h.nhdr", "i.mhd"):
        sitk.WriteImage(image, str(folder / name))
    affine = np.array([[-2.0, 0, 0, 20], [0, -2.5, 0, 30], [0, 0, 3.0, 15], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti2Image(array.transpose(2, 1, 0), affine), folder / "k.nii")
    nibabel.save(nibabel.Nifti1Pair(array.transpose(2, 1, 0), affine), folder / "j.img")
    write_layers(folder / "l.seg.nrrd", array.transpose(2, 1, 0))
    series = folder / "series"
    series.mkdir()
    for number, slice_ in enumerate(array):
        write_slice(series / f"{number:02d}.dcm", slice_, number)
    # Of a series, one slice is altered.
    (folder / "m.dcm").write_bytes((series / "07.dcm").read_bytes())
    names = (*NAMES, *FURTHER_NAMES)
    contents = {name: (folder / name).read_bytes() for name in names}
    beside = {"h.nhdr": "h.raw", "i.mhd": "i.raw", "j.hdr": "altered.img"}
    (folder / "altered.img").write_bytes((folder / "j.img").read_bytes())
    expected = {name: answer_of(series if name == "m.dcm" else folder / name) for name in names}
    voxels = {name: (voxels, (folder / voxels).read_bytes()) for name, voxels in beside.items()}
    return Prepared(folder, contents, voxels, expected)


def write_layers(path: Path, array: Any) -> None:
    """Two layers as Slicer writes them; two segments share the first."""
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [2.0, 0, 0], [0, 2.5, 0], [0, 0, 3.0]]),
        "space origin": [-20.0, -30.0, 15.0],
    }
    for n, (name, value, layer) in enumerate((("core", 2, 0), ("edema", 1, 0), ("all", 7, 1))):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value), f"Segment{n}_Layer": str(layer)}
    nrrd.write(str(path), np.stack([array % 3, array % 2 * 7]).astype(np.uint8), header)


def write_slice(path: Path, array: Any, number: int) -> None:
    """One slice of an MR series; the numbers of the rest of its file are those of the standard."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = (
        pydicom.uid.MRImageStorage,
        pydicom.uid.ExplicitVRLittleEndian,
    )
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    slice_ = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    slice_.SOPClassUID, slice_.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    slice_.SeriesInstanceUID, slice_.Modality, slice_.InstanceNumber = "1.2.4", "MR", number
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [-20, -30, 15 + 3 * number], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, (slice_.Rows, slice_.Columns) = [2.5, 2], array.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation, slice_.PixelRepresentation = 1, "MONOCHROME2", 0
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
    slice_.PixelData = array.astype("<u2").tobytes()
    slice_.save_as(path, enforce_file_format=True)


def answer_of(path: Path) -> Any:
    file = read_image_file(path, "T1Gd")
    segments = tuple((segment.name, segment.code, segment.mask.tobytes()) for segment in file.segments)
    return file.volume.array, file.volume.grid, segments, bool(file.warnings)


def attempt(prepared: Prepared, generator: random.Random) -> str:
    name = generator.choice((*NAMES, *FURTHER_NAMES))
    path = prepared.folder / f"altered{name[1:]}"
    content = prepared.contents[name]
    if name in prepared.beside:
        voxels, whole = prepared.beside[name]
        changed = generator.random() < 0.1
        (prepared.folder / voxels).write_bytes(damaged_bytes(whole, generator) if changed else whole)
    if generator.random() < 0.35:
        content = damaged_bytes(content, generator)
    elif name in ("a.nii", "b.nii.gz", "j.hdr", "k.nii"):
        content = altered_nifti(content, generator)
    elif name == "m.dcm":
        content = altered_dicom(content, generator)
    else:
        content = altered_text_header(content, generator)
    if name == "m.dcm":
        path = prepared.folder / "series"
        (path / "07.dcm").write_bytes(content)
    else:
        path.write_bytes(content)
    array, grid, segments, warned = answer_of(path)
    base = prepared.expected[name]
    if np.array_equal(array, base[0], equal_nan=True) and grid == base[1] and segments == base[2]:
        return "same"
    if name == "m.dcm":
        return compared_with_slices(path, array, grid)
    if ".seg" in name and segments:
        return compared_segments(path, segments)
    return compared(path, array, grid, warned)


def compared(path: Path, array: Any, grid: Any, warned: bool) -> str:
    """The same file by another reader."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.name.endswith((".nii", ".nii.gz", ".hdr")):
                image = nibabel.load(path)
                values = np.asarray(image.dataobj)
                while values.ndim > 3 and values.shape[-1] == 1:
                    values = values[..., 0]
                place = image.affine if image.header["sform_code"] or image.header["qform_code"] else None
            elif path.suffix in (".nrrd", ".nhdr"):
                values, header = nrrd.read(str(path))
                values, place = values.squeeze(), place_of_nrrd(header)
            else:
                values, place = values_of_metaimage(path)
    except Exception as error:
        return f"another image, that another reader refuses ({type(error).__name__})"
    if values.shape != array.shape or not np.allclose(values.astype(float), array.astype(float), equal_nan=True):
        return f"wrong: other voxels than another reader's ({path.suffix})"
    is_nifti = path.name.endswith((".nii", ".nii.gz", ".hdr"))
    corners = np.array(list(itertools.product(*((0, n - 1) for n in grid.shape))))
    if place is not None:
        away = np.abs(corners @ place[:3, :3].T + place[:3, 3] - grid.to_ras(corners)).max()
        # A NIfTI header can say its place twice, of which nothing is said below a millimetre.
        if not away < (1.0 if is_nifti else 0.01):
            told = warned and is_nifti
            return (
                "another image, with a warning about its place" if told else "wrong: another reader puts it elsewhere"
            )
    return "another image, as another reader has it"


SIGNS = {
    "right-anterior-superior": (-1, -1), "ras": (-1, -1), "left-anterior-superior": (1, -1), "las": (1, -1),
}  # fmt: skip
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def place_of_nrrd(header: Any) -> Any:
    """The affine to RAS that a header gives, by the definition of the format; None where it gives none."""
    directions = header.get("space directions")
    if directions is None or "space" not in header or np.isnan(header.get("space origin", np.nan)).all():
        return None
    rows = [row for row in directions if row is not None and not np.isnan(row).any()]
    signs = np.array([*SIGNS.get(header["space"].lower(), (1, 1)), 1.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.transpose(rows) * signs[:, None], header["space origin"] * signs
    return LPS_TO_RAS @ affine


def header_lines(path: Path) -> list[str]:
    """The lines of an NRRD header."""
    return path.read_bytes().partition(b"\n\n")[0].decode("latin-1").split("\n")


def compared_segments(path: Path, segments: Any) -> str:
    """The segments by pynrrd's header and voxels."""
    try:
        values, header = nrrd.read(str(path))
    except Exception as error:
        return f"another segmentation, that another reader refuses ({type(error).__name__})"
    if not all(line.isascii() for line in header_lines(path)):
        return "another segmentation, with names that another reader shortens"
    spatial = [axis for axis, size in enumerate(values.shape) if values.ndim == 3 or size != min(values.shape)]
    layers = [values] if values.ndim == 3 else list(np.moveaxis(values, spatial, (1, 2, 3)))
    numbers = sorted({int(found[1]) for key in header if (found := re.match(r"Segment(\d+)_", key))})
    for (name, _, mask), position in zip(segments, range(len(numbers)), strict=True):
        said = {
            key: header.get(f"Segment{numbers[position]}_{key}", default)
            for key, default in (("ID", ""), ("LabelValue", "1"), ("Layer", min(position, len(layers) - 1)))
        }
        if name != header.get(f"Segment{numbers[position]}_Name", said["ID"]):
            return "wrong: another segment's name than another reader's"
        if mask != (layers[int(said["Layer"])] == int(said["LabelValue"])).tobytes():
            return "wrong: another segment than another reader's"
    return "another segmentation, as another reader has it"


META_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip


def values_of_metaimage(path: Path) -> Any:
    """Voxels and affine of a MetaImage that its reader took, by the definition of the format."""
    content = path.read_bytes()
    end = re.search(rb"^\s*ElementDataFile\s*[=:][^\n]*\n?", content, re.MULTILINE)
    lines = (re.split("[=:]", line, maxsplit=1) for line in content[: end.end()].decode("latin-1").split("\n") if line)
    said = {key.strip(): value.strip() for key, value in lines}
    local = said["ElementDataFile"].upper() == "LOCAL"
    data = content[end.end() :] if local else (path.parent / said["ElementDataFile"]).read_bytes()
    size = [int(float(n)) for n in said["DimSize"].split()]
    big = said.get("BinaryDataByteOrderMSB", said.get("ElementByteOrderMSB", "F"))[:1] in ("T", "t", "1")
    dtype = np.dtype((">" if big else "<") + META_TYPES[said["ElementType"].removeprefix("MET_")])
    if said.get("CompressedData", "F")[:1] in ("T", "t", "1"):
        data = zlib.decompressobj(47).decompress(data)
    skipped = int(float(said.get("HeaderSize", "0")))
    values = np.frombuffer(data[-int(np.prod(size)) * dtype.itemsize :] if skipped else data, dtype)
    numbers = {key: np.array([float(n) for n in value.split()]) for key, value in said.items() if key in META_PLACE}
    spacing = numbers.get("ElementSpacing", numbers.get("ElementSize", np.ones(len(size))))
    axes, origin = (next((numbers[key] for key in keys if key in numbers), None) for keys in (META_AXES, META_ORIGIN))
    affine = np.eye(4)
    axes = np.eye(len(size)) if axes is None else axes.reshape(len(size), len(size))
    affine[:3, :3] = axes[:3, :3].T * spacing[:3]
    affine[:3, 3] = 0 if origin is None else origin[:3]
    return values.reshape([n for n in size if n > 1], order="F"), LPS_TO_RAS @ affine


META_AXES, META_ORIGIN = ("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin")
META_PLACE = (*META_AXES, *META_ORIGIN, "ElementSpacing", "ElementSize")


def compared_with_slices(folder: Path, array: Any, grid: Any) -> str:
    """Each slice of a series by pydicom, at the place that it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(folder.iterdir()):
            try:
                slice_ = pydicom.dcmread(path, force=True)
                if slice_.SeriesInstanceUID != "1.2.4":
                    continue
                pixels = slice_.pixel_array * float(slice_.get("RescaleSlope", 1) or 1)
                pixels = pixels + float(slice_.get("RescaleIntercept", 0))
                corner = np.array(slice_.ImagePositionPatient, float) * (-1, -1, 1)
            except Exception:
                if path.name == "07.dcm":
                    continue
                raise
            index = grid.to_index(corner)
            k = int(np.rint(index[2]))
            down, right = (float(step) for step in slice_.PixelSpacing)
            along, across = np.reshape(np.array(slice_.ImageOrientationPatient, float), (2, 3)) * (-1, -1, 1)
            last = (pixels.shape[1] - 1, pixels.shape[0] - 1)
            end = grid.to_index(corner + along * right * last[0] + across * down * last[1]) - (*last, k)
            inside = pixels.T.shape == array.shape[:2] and 0 <= k < array.shape[2]
            if (
                not inside
                or np.abs([*(index - (0, 0, k)), *end]).max() > 0.2
                or not np.allclose(array[:, :, k], pixels.T, rtol=1e-5)
            ):
                return f"wrong: slice {path.name} is not where it says"
    return "another image, as another reader has it"


#: Elements of a slice, and what may stand in them.
ELEMENTS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SamplesPerPixel",
    "NumberOfFrames",
)
DECIMALS = ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept")
TEXTS = ("SeriesInstanceUID", "SOPClassUID", "PhotometricInterpretation")


def altered_dicom(content: bytes, generator: random.Random) -> bytes:
    """A slice with elements of its header exchanged or left out, or written in another syntax."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slice_ = pydicom.dcmread(io.BytesIO(content))
        for _ in range(generator.choice((1, 1, 2))):
            name = generator.choice((*ELEMENTS, *DECIMALS, *TEXTS, "TransferSyntaxUID", "PixelData"))
            if name == "TransferSyntaxUID":
                syntaxes = (
                    "DeflatedExplicitVRLittleEndian",
                    "ImplicitVRLittleEndian",
                    "RLELossless",
                    "JPEG2000Lossless",
                )
                syntax = generator.choice(syntaxes).encode()
                uid = str(getattr(pydicom.uid, syntax.decode())).encode()
                # The name alone, while the rest is written as before.
                return content.replace(b"1.2.840.10008.1.2.1\0", uid[:20].ljust(20, b"\0"))
            if name in slice_ and generator.random() < 0.15:
                del slice_[name]
            elif name in ELEMENTS:
                value = generator.choice((0, 1, 2, 8, 12, 16, 22, 24, 32, 512, 65535))
                setattr(slice_, name, str(value) if name == "NumberOfFrames" else value)
            elif name in DECIMALS:
                old = slice_.get(name)
                count = len(old) if isinstance(old, pydicom.multival.MultiValue) else 1
                values = [
                    generator.choice(("0", "1", "-1", "2.5", "2", "1e30", "0.5", "36", "3", "-20"))
                    for _ in range(count)
                ]
                kept = [str(v) for v in old] if count > 1 and generator.random() < 0.7 else values
                kept[generator.randrange(count)] = values[0]
                setattr(slice_, name, kept if count > 1 else values[0])
            elif name == "PixelData":
                slice_.PixelData = (
                    slice_.PixelData[: generator.choice((0, 2, 100, len(slice_.PixelData) - 2))] + b"\1" * 2
                )
            else:
                setattr(slice_, name, generator.choice(("1.2.5", "1.2.840.10008.5.1.4.1.1.66.4", "7", "RGB", "")))
        written = io.BytesIO()
        try:
            slice_.save_as(written)
        except Exception:
            return content[: generator.randrange(len(content))]
        return written.getvalue()


#: Of a NIfTI-1 header: where its fields are, and how they are packed.
NIFTI = {
    "sizeof_hdr": (0, "<i"), "dim0": (40, "<h"), "dim1": (42, "<h"), "dim2": (44, "<h"), "dim3": (46, "<h"),
    "dim4": (48, "<h"), "intent": (68, "<h"), "datatype": (70, "<h"), "bitpix": (72, "<h"), "slice_start": (74, "<h"),
    "pixdim0": (76, "<f"), "pixdim1": (80, "<f"), "pixdim3": (88, "<f"), "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"), "scl_inter": (116, "<f"), "units": (123, "<b"), "qform_code": (252, "<h"),
    "sform_code": (254, "<h"), "quatern_b": (256, "<f"), "qoffset_x": (268, "<f"), "srow_x0": (280, "<f"),
    "srow_y1": (300, "<f"), "srow_z3": (324, "<f"), "magic": (344, "<i"),
}  # fmt: skip
NIFTI2 = {
    "sizeof_hdr": (0, "<i"), "magic": (4, "<i"), "datatype": (12, "<h"), "bitpix": (14, "<h"), "dim0": (16, "<q"),
    "dim1": (24, "<q"), "dim3": (40, "<q"), "dim4": (48, "<q"), "pixdim0": (104, "<d"), "pixdim1": (112, "<d"),
    "vox_offset": (168, "<q"), "scl_slope": (176, "<d"), "scl_inter": (184, "<d"), "qform_code": (344, "<i"),
    "sform_code": (348, "<i"), "quatern_b": (352, "<d"), "qoffset_x": (376, "<d"), "srow_x0": (400, "<d"),
    "srow_z3": (488, "<d"), "units": (500, "<i"),
}  # fmt: skip
INTEGERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 24, 32, 64, 128, 255, 256, 512, 768, 1024, 2304, 32767, -32768)
FLOATS = (0.0, -1.0, 1.0, 0.5, 2.0, 1e-30, 1e30, 100.0, 351.0, 352.0, 353.0, 400.0, 1e6, float("nan"), float("inf"))


def altered_nifti(content: bytes, generator: random.Random) -> bytes:
    packed = content[:2] == b"\x1f\x8b"
    header = bytearray(gzip.decompress(content) if packed else content)
    fields = NIFTI2 if header[:4] == b"\x1c\x02\0\0" else NIFTI
    for _ in range(generator.choice((1, 1, 2, 3))):
        place, kind = fields[generator.choice(list(fields))]
        value = generator.choice(FLOATS if kind in ("<f", "<d") else INTEGERS)
        if kind == "<q" and generator.random() < 0.3:
            value = generator.choice((2**31, 2**40, 2**63 - 1, -(2**63), 540, 544, 545))
        if kind == "<b":
            value = max(-128, min(127, value))
        header[place : place + struct.calcsize(kind)] = struct.pack(kind, value)
    return gzip.compress(bytes(header), 1) if packed else bytes(header)


WORDS = (
    "0", "1", "-1", "2", "3", "4", "1.5", "4294967296", "18446744073709551616", "99999999999999999999", "nan", "inf",
    "none", "(1,0,0)", "(nan,nan,nan)", "%s%n", "", "x" * 5000, "raw", "gzip", "bzip2", "hex", "ascii", "little",
    "big", "short", "float", "uint8", "double", "block", "MET_FLOAT", "MET_UCHAR", "MET_SHORT", "MET_STRING", "True",
    "False", "LOCAL", "LIST", "/etc/passwd", "../x", "left-posterior-superior", "right-anterior-superior",
    "scanner-xyz", "space", "right-anterior-superior", "RAS", "LAS", "a\rb: c", "\x0c", "\x85", "\x1c", "\x00",
    "1\rbyte skip: 9", "left-anterior-superior",
)  # fmt: skip


#: Lines that are added: control characters that end a line for one reader and not for another, and further fields.
LINES = (
    "# a\rbyte skip: 100", "# a\rspacings: " + "1 " * 60_000, "# a\x0cdata file: e.mha", "# \x1cencoding: gzip", "\r",
    "a:=b\x85c", "byte skip: 3000000000", "byte skip: -1", "line skip: 1", "data file: c.nrrd", "data file: LIST",
    "encoding: gzip", "spacings: 2 3 4", "HeaderSize = -1", "HeaderSize = 100", "ElementDataFile = c.nrrd",
    "Comment: x", "Segment9_Name:=x", "Segment0_LabelValue:=99999999999999999999", "unknown: 1",
)  # fmt: skip


def altered_text_header(content: bytes, generator: random.Random) -> bytes:
    """Words exchanged; lines left out, doubled, exchanged, added; seldom a comment beyond the longest header."""
    local, detached = content.find(b"LOCAL\n"), content.find(b"\n\n") < 0
    end = content.find(b"\n\n") + 1 if not detached else local + 6 if local >= 0 else len(content)
    lines = content[:end].decode("latin-1").split("\n")
    for _ in range(generator.choice((1, 1, 2, 3))):
        number = generator.randrange(len(lines))
        line = lines[number]
        kind = generator.choice(("word", "word", "word", "space", "drop", "double", "swap", "value", "noise", "line"))
        separator = " = " if " = " in line else ":=" if ":=" in line else ": "
        key, _, value = line.partition(separator)
        if kind == "word":
            words = value.split(" ")
            words[generator.randrange(len(words))] = generator.choice(WORDS)
            lines[number] = key + separator + " ".join(words)
        elif kind == "space":
            # In which axes a place is meant; of MetaImage, where the first voxel lies and how the axes are turned.
            other = generator.choice(("right-anterior-superior", "left-anterior-superior", "LAS", "scanner-xyz"))
            turned = {"0 1 0 0 0 1 1 0 0": "1 0 0 0 1 0 0 0 1", "7 8 9": "-20 -30 15"}
            lines = [line.replace("left-posterior-superior", other) for line in lines]
            for new, old in turned.items():
                lines = [line.replace(f" = {old}", f" = {new}") for line in lines]
        elif kind == "value":
            lines[number] = key + separator + generator.choice(WORDS)
        elif kind == "drop":
            del lines[number]
        elif kind == "line":
            longest = "# " + "c" * 4_100_000
            lines.insert(number, longest if generator.random() < 0.1 else generator.choice(LINES))
        elif kind == "double":
            lines.insert(number, line)
        elif kind == "swap":
            other = generator.randrange(len(lines))
            lines[number], lines[other] = lines[other], lines[number]
        else:
            place = generator.randrange(len(line) + 1)
            lines[number] = line[:place] + chr(generator.randrange(256)) + line[place:]
        if not lines:
            return content
    return "\n".join(lines).encode("latin-1") + content[end:]
