"""NRRD files, .nhdr with its voxels beside it, and Slicer's segmentations (.seg.nrrd)."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import volume_from_image
from TumorQueryLib.inputs.checks import (
    ACCEPTED_FORMATS,
    LARGEST_HEADER,
    ImageFile,
    Segment,
    check_voxel_count,
    file_beside,
    itk_name,
    place_warnings,
    quiet_itk,
    sha256_of,
    three_dimensions,
)

#: Characters of a field of the header; comments, key-value pairs and the content may be longer.
LONGEST_FIELD = 500


@dataclass(frozen=True)
class Header:
    """Fields (`name: value`) by lower-case name, and key-value pairs (`name:=value`)."""

    fields: dict[str, str]
    pairs: dict[str, str]


def is_nrrd(head: bytes) -> bool:
    """Whether a file begins like NRRD."""
    return head.startswith(b"NRRD000")


def parse_header(text: bytes) -> Header:
    """The header: everything up to the first empty line."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    header = re.split(rb"\r?\n\r?\n", text, maxsplit=1)[0]
    for line in header.decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if value.startswith("="):
            pairs[key] = value[1:]
        elif colon:
            fields[key.strip().lower()] = value.strip()
    return Header(fields, pairs)


def read_nrrd(path: Path, role: str) -> ImageFile:
    """Read an NRRD file; of a Slicer segmentation, its segments too.

    Parameters
    ----------
    path : Path
    role : str
        What the file is for; errors name it.

    Raises
    ------
    InputError
        When it is damaged, truncated, no scalar volume, or its segments do not fit
        its voxels.
    """
    import SimpleITK as sitk

    with open(path, "rb") as file:
        text = file.read(LARGEST_HEADER)
    _check_lines(text, path, role)
    header = parse_header(text)
    files = [path]
    detached = header.fields.get("data file", header.fields.get("datafile"))
    if detached is not None:
        files.append(file_beside(path, detached, role))
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(itk_name(path))
    with quiet_itk():
        try:
            reader.ReadImageInformation()
            size, layers = reader.GetSize(), reader.GetNumberOfComponents()
            three_dimensions(size, role)
            check_voxel_count([*size, layers], role)
            if layers > 1 and not _segment_numbers(header):
                raise InputError(
                    f"The {role} has {layers} values in each voxel (colour or vectors); a scalar volume is needed."
                )
            _check_length(files[-1], text if detached is None else None, header, reader, role)
            image = reader.Execute()
        except RuntimeError as error:
            reason = "its header describes sheared axes, so resample it to a grid with right angles first"
            if "orthonormal" not in str(error):
                reason = f"it is truncated, damaged or of another format; accepted are {ACCEPTED_FORMATS}"
            raise InputError(f"The {role} file {path} cannot be read: {reason}.") from error
    if image.GetDimension() > 3:
        image = image[(slice(None),) * 3 + (0,) * (image.GetDimension() - 3)]
    segments = _segments(image, header)
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    volume = volume_from_image(image)
    # Without a space ITK takes the axes as they come.
    said = "space" in header.fields and "space origin" in header.fields and "space directions" in header.fields
    warnings = place_warnings(volume.grid, role, said=said)
    return ImageFile(volume, sha256_of(files), segments, warnings)


def _check_length(path: Path, text: bytes | None, header: Header, reader: Any, role: str) -> None:
    """Refuse voxels that are more than the header says, which ITK leaves unread; `text` begins an attached header."""
    encoding = header.fields.get("encoding", "").lower()
    skips = {"byte skip", "byteskip", "line skip", "lineskip"} & header.fields.keys()
    if encoding not in ("raw", "gzip", "gz") or skips:
        return
    end = re.search(rb"\r?\n\r?\n", text) if text is not None else None
    values = int(np.prod(reader.GetSize())) * reader.GetNumberOfComponents()
    with open(path, "rb") as raw:
        raw.seek(end.end() if end else 0)
        file = raw if encoding == "raw" else gzip.GzipFile(fileobj=raw)
        missing = values * _bytes_of(reader.GetPixelID())
        try:
            while missing > 0 and (block := file.read(min(missing, 1 << 24))):
                missing -= len(block)
            surplus = bool(file.read(1))
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"The {role} file {path} is truncated or damaged; copy or download it again.") from error
    if missing or surplus:
        said = "is truncated" if missing else "is damaged: it holds more voxels than its header says"
        raise InputError(f"The {role} file {path} {said}; copy or download it again.")


def _bytes_of(pixel: int) -> int:
    """Length of one value of SimpleITK's type of pixel, a vector's too."""
    import SimpleITK as sitk

    return sitk.Image(
        [1, 1], pixel, 1 if "vector" in sitk.GetPixelIDValueAsString(pixel) else 0
    ).GetSizeOfPixelComponent()


def _check_lines(text: bytes, path: Path, role: str) -> None:
    """Refuse fields longer than any is: over such, ITK's reader writes beyond a buffer of its own."""
    for line in re.split(rb"\r?\n\r?\n", text, maxsplit=1)[0].split(b"\n"):
        free = line.startswith((b"#", b"content: ")) or line.partition(b":")[2].startswith(b"=")
        if len(line) > LONGEST_FIELD and not free:
            raise InputError(
                f"The {role} file {path} cannot be read: a field of its header has {len(line):,} characters, so it is "
                "damaged; copy or download it again."
            )


def terminology_code(tags: str) -> str:
    """The code of a segment's type, such as "SCT 86049000", in what Slicer stores as its tags; empty where none is.

    The entry is a list's name, category, type, its modifier, and the same of the anatomy, each
    "scheme^value^meaning", put between "~".
    """
    entry = re.search(r"(?:^|\|)\s*(?:Segmentation\.)?TerminologyEntry:([^|]*)", tags)
    parts = entry[1].split("~") if entry else []
    scheme, value = (*parts[2].split("^"), "", "")[:2] if len(parts) > 2 else ("", "")
    return f"{scheme.strip()} {value.strip()}" if scheme.strip() and value.strip() else ""


def _segment_numbers(header: Header) -> list[int]:
    """The numbers of the segments that a header describes, in order; a gap in them is none in the list."""
    found = (re.fullmatch(r"Segment(\d{1,6})_\w+", key) for key in header.pairs)
    return sorted({int(match[1]) for match in found if match})


def _segments(image: Any, header: Header) -> tuple[Segment, ...]:
    """Segments that a Slicer segmentation describes in its header, which have to account for every voxel."""
    import SimpleITK as sitk

    numbers = _segment_numbers(header)
    if not numbers:
        return ()
    array = sitk.GetArrayViewFromImage(image)
    layers = [array] if image.GetNumberOfComponentsPerPixel() == 1 else np.moveaxis(array, -1, 0)
    segments: list[Segment] = []
    taken: dict[tuple[int, int], str] = {}
    for position, number in enumerate(numbers):
        text = {
            key: header.pairs.get(f"Segment{number}_{key}", default)
            # Files written before Slicer 4.11 hold one segment in each layer, with value 1.
            for key, default in (("ID", ""), ("LabelValue", "1"), ("Layer", str(min(position, len(layers) - 1))))
        }
        name = header.pairs.get(f"Segment{number}_Name", text["ID"])
        try:
            layer, value = int(text["Layer"]), int(text["LabelValue"])
        except ValueError:
            layer = value = -1
        if not (0 <= layer < len(layers) and value >= 1):
            raise InputError(
                f"The segmentation's header is damaged: segment {name!r} is in layer {text['Layer']} with value "
                f"{text['LabelValue']}, and the file has {len(layers)} layers with values from 1. Save it from Slicer "
                "again."
            )
        if (layer, value) in taken:
            raise InputError(
                f"The segmentation's header is damaged: segments {taken[layer, value]!r} and {name!r} both are value "
                f"{value} in layer {layer}. Save it from Slicer again."
            )
        taken[layer, value] = name
        mask = np.ascontiguousarray((layers[layer] == value).transpose(2, 1, 0))
        segments.append(Segment(name, mask, terminology_code(header.pairs.get(f"Segment{number}_Tags", ""))))
    for number, layer_array in enumerate(layers):
        nameless = set(np.unique(layer_array).tolist()) - {0} - {value for layer, value in taken if layer == number}
        if nameless:
            raise InputError(
                f"The segmentation's header is damaged: no segment is the value {min(nameless):g}, which voxels in "
                f"layer {number} have. Save it from Slicer again."
            )
    return tuple(segments)
