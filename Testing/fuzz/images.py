"""Image files of every kind that is read, their headers altered field by field, their bytes damaged.

A header is all that says where voxels lie and what they mean, so what is read as the header says is right;
readers of others (nibabel, pynrrd) say what that is.
"""

import gzip
import random
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import SimpleITK as sitk
from mutations import damaged_bytes

from TumorQueryLib.inputs.image_files import read_image_file

#: Name of each file, and how many bytes of it are header.
NAMES = ("a.nii", "b.nii.gz", "c.nrrd", "d.nrrd", "e.mha", "f.mha", "g.seg.nrrd")


@dataclass
class Prepared:
    folder: Path
    contents: dict[str, bytes]
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
    contents = {name: (folder / name).read_bytes() for name in NAMES}
    return Prepared(folder, contents, {name: answer_of(folder / name) for name in NAMES})


def answer_of(path: Path) -> Any:
    file = read_image_file(path, "T1Gd")
    segments = tuple((segment.name, segment.code, segment.mask.tobytes()) for segment in file.segments)
    return file.volume.array, file.volume.grid, segments, bool(file.warnings)


def attempt(prepared: Prepared, generator: random.Random) -> str:
    name = generator.choice(NAMES)
    path = prepared.folder / f"altered{name[1:]}"
    content = prepared.contents[name]
    if generator.random() < 0.35:
        content = damaged_bytes(content, generator)
    elif ".nii" in name:
        content = altered_nifti(content, generator)
    else:
        content = altered_text_header(content, generator)
    path.write_bytes(content)
    array, grid, segments, warned = answer_of(path)
    base = prepared.expected[name]
    if np.array_equal(array, base[0], equal_nan=True) and grid == base[1] and segments == base[2]:
        return "same"
    if ".seg" in name:
        return "another segmentation, as its header says"
    return compared(path, array, grid, warned)


def compared(path: Path, array: Any, grid: Any, warned: bool) -> str:
    """The same file by a reader of others; MetaImage has none here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if ".nii" in path.name:
                image = nibabel.load(path)
                values = np.asarray(image.dataobj)
                while values.ndim > 3 and values.shape[-1] == 1:
                    values = values[..., 0]
                place = image.affine if image.header["sform_code"] or image.header["qform_code"] else None
            elif path.suffix == ".nrrd":
                values, _ = nrrd.read(str(path))
                place = None
            else:
                return "another image, as its header says"
    except Exception as error:
        return f"another image, that another reader refuses ({type(error).__name__})"
    if values.shape != array.shape or not np.allclose(values.astype(float), array.astype(float), equal_nan=True):
        return f"wrong: other voxels than another reader's ({path.suffix})"
    if place is not None and not np.allclose(place, grid.affine, atol=1e-2):
        return "another image, with a warning about its place" if warned else "wrong: another reader puts it elsewhere"
    return "another image, as another reader has it"


#: Of a NIfTI-1 header: where its fields are, and how they are packed.
NIFTI = {
    "sizeof_hdr": (0, "<i"), "dim0": (40, "<h"), "dim1": (42, "<h"), "dim2": (44, "<h"), "dim3": (46, "<h"),
    "dim4": (48, "<h"), "intent": (68, "<h"), "datatype": (70, "<h"), "bitpix": (72, "<h"), "slice_start": (74, "<h"),
    "pixdim0": (76, "<f"), "pixdim1": (80, "<f"), "pixdim3": (88, "<f"), "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"), "scl_inter": (116, "<f"), "units": (123, "<b"), "qform_code": (252, "<h"),
    "sform_code": (254, "<h"), "quatern_b": (256, "<f"), "qoffset_x": (268, "<f"), "srow_x0": (280, "<f"),
    "srow_y1": (300, "<f"), "srow_z3": (324, "<f"), "magic": (344, "<i"),
}  # fmt: skip
INTEGERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 24, 32, 64, 128, 255, 256, 512, 768, 1024, 2304, 32767, -32768)
FLOATS = (0.0, -1.0, 1.0, 0.5, 2.0, 1e-30, 1e30, 100.0, 351.0, 352.0, 353.0, 400.0, 1e6, float("nan"), float("inf"))


def altered_nifti(content: bytes, generator: random.Random) -> bytes:
    packed = content[:2] == b"\x1f\x8b"
    header = bytearray(gzip.decompress(content) if packed else content)
    for _ in range(generator.choice((1, 1, 2, 3))):
        place, kind = NIFTI[generator.choice(list(NIFTI))]
        value = generator.choice(FLOATS if kind == "<f" else INTEGERS)
        if kind == "<b":
            value = max(-128, min(127, value))
        header[place : place + struct.calcsize(kind)] = struct.pack(kind, value)
    return gzip.compress(bytes(header), 1) if packed else bytes(header)


WORDS = (
    "0", "1", "-1", "2", "3", "4", "1.5", "4294967296", "18446744073709551616", "99999999999999999999", "nan", "inf",
    "none", "(1,0,0)", "(nan,nan,nan)", "%s%n", "", "x" * 5000, "raw", "gzip", "bzip2", "hex", "ascii", "little",
    "big", "short", "float", "uint8", "double", "block", "MET_FLOAT", "MET_UCHAR", "MET_SHORT", "MET_STRING", "True",
    "False", "LOCAL", "LIST", "/etc/passwd", "../x", "left-posterior-superior", "right-anterior-superior",
    "scanner-xyz", "space",
)  # fmt: skip


def altered_text_header(content: bytes, generator: random.Random) -> bytes:
    end = content.find(b"\n\n") + 1 or content.find(b"LOCAL\n") + 6
    lines = content[:end].decode("latin-1").split("\n")
    for _ in range(generator.choice((1, 1, 2, 3))):
        number = generator.randrange(len(lines))
        line = lines[number]
        kind = generator.choice(("word", "word", "word", "drop", "double", "swap", "value", "noise"))
        separator = " = " if " = " in line else ":=" if ":=" in line else ": "
        key, _, value = line.partition(separator)
        if kind == "word":
            words = value.split(" ")
            words[generator.randrange(len(words))] = generator.choice(WORDS)
            lines[number] = key + separator + " ".join(words)
        elif kind == "value":
            lines[number] = key + separator + generator.choice(WORDS)
        elif kind == "drop":
            del lines[number]
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
