"""NRRD files, .nhdr with its voxels beside it, and Slicer's segmentations (.seg.nrrd).

Read here and not by ITK, which a crafted header can crash and which would read it a second time in its own way.
"""

from __future__ import annotations

import bz2
import gzip
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume
from TumorQueryLib.inputs.checks import (
    LARGEST_HEADER,
    ImageFile,
    Segment,
    check_right_angles,
    check_voxel_count,
    file_beside,
    place_warnings,
    sha256_of,
    three_dimensions,
)

#: Characters of a field of the header; comments, key-value pairs and the content may be longer.
LONGEST_FIELD = 500
#: Segments of one layer.
MOST_SEGMENTS = 255
#: Lines before the voxels that a header may pass over.
MOST_LINES = 10_000

TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    **{"signed long long int": "i8", "float": "f4", "double": "f8"},
}
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
#: Spaces, without hyphens: what turns the first two of their axes into LPS; None where nothing says so, and ITK, as
#: here, takes them for LPS.
SPACES = {
    **dict.fromkeys(("rightanteriorsuperior", "ras"), (-1.0, -1.0)),
    **dict.fromkeys(("leftanteriorsuperior", "las"), (1.0, -1.0)),
    **dict.fromkeys(("leftposteriorsuperior", "lps"), (1.0, 1.0)),
    **dict.fromkeys(("scannerxyz", "3drighthanded", "3dlefthanded"), None),
}
#: Kinds of axes along which voxels lie; along others lie the values of one voxel.
DOMAIN_KINDS = ("domain", "space", "time", "none", "???")
#: Every field of the format, without spaces.
FIELDS = {
    "content", "number", "type", "blocksize", "dimension", "sizes", "spacings", "thicknesses", "axismins", "axismaxs",
    "centers", "centerings", "kinds", "labels", "units", "min", "max", "oldmin", "oldmax", "endian", "encoding",
    "lineskip", "byteskip", "sampleunits", "space", "spacedimension", "spaceunits", "spaceorigin", "spacedirections",
    "measurementframe", "datafile",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """Fields (`name: value`) by name in lower case without spaces, key-value pairs (`name:=value`), and its length."""

    fields: dict[str, str]
    pairs: dict[str, str]
    length: int


@dataclass(frozen=True)
class Layout:
    """How the stored array is laid out: its sizes, which of its axes are those of space, and which that of layers."""

    sizes: tuple[int, ...]
    space: tuple[int, int, int]
    layers: int | None

    @property
    def layer_count(self) -> int:
        """Number of layers of a segmentation."""
        return 1 if self.layers is None else self.sizes[self.layers]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of one layer."""
        i, j, k = (self.sizes[axis] for axis in self.space)
        return i, j, k


def is_nrrd(head: bytes) -> bool:
    """Whether a file begins like NRRD."""
    return head.startswith(b"NRRD000")


def read_header(path: Path, role: str) -> Header:
    """The header: everything up to the first empty line.

    Raises
    ------
    InputError
        When it has no end, control characters, a field or key twice or that the format
        does not know, or a field longer than any is.
    """
    with open(path, "rb") as file:
        text = file.read(LARGEST_HEADER)
    end = re.search(rb"\n\r?\n", text)
    damaged = f"The {role} file {path} is damaged: its header"
    if not re.match(rb"NRRD000[1-5]\r?\n", text):
        raise InputError(f"{damaged} does not begin like NRRD 1 to 5; copy or download it again.")
    if end is None and len(text) == LARGEST_HEADER:
        raise InputError(f"{damaged} does not end within {LARGEST_HEADER:,} bytes; copy or download it again.")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    # One kind of end of line alone: whatever else could be taken for one is refused.
    lines = text[: end.start() if end else len(text)].decode("utf-8", "replace").split("\n")
    for line in (line.removesuffix("\r") for line in lines[1:]):
        if any(unicodedata.category(character) == "Cc" and character != "\t" for character in line):
            raise InputError(f"{damaged} has control characters ({line[:60]!r}); copy or download it again.")
        if line.startswith("#") or not line:
            continue
        key, colon, value = line.partition(":")
        is_pair = value.startswith("=")
        name = key if is_pair else "".join(key.lower().split())
        if len(line) > LONGEST_FIELD and not is_pair and name != "content":
            raise InputError(
                f"The {role} file {path} cannot be read: a field of its header has {len(line):,} characters, so it is "
                "damaged; copy or download it again."
            )
        if not colon or (not is_pair and name not in FIELDS):
            raise InputError(f"{damaged} has the line {line[:60]!r}, which is no field; copy or download it again.")
        found = pairs if is_pair else fields
        if name in found:
            raise InputError(f"{damaged} says {key.strip()[:60]!r} twice; copy or download it again.")
        found[name] = value[1:] if is_pair else value.strip()
    return Header(fields, pairs, end.end() if end else len(text))


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
        When it is damaged, truncated, no scalar volume, its axes are sheared, or its
        segments do not fit its voxels.
    """
    header = read_header(path, role)
    damaged = f"The {role} file {path} is damaged: its header"
    directions = _directions(header, damaged)
    numbers = _segment_numbers(header)
    layout = _layout(header, directions, bool(numbers), damaged, role)
    if len(numbers) > MOST_SEGMENTS * layout.layer_count:
        raise InputError(
            f"The {role} file {path} describes {len(numbers):,} segments, more than can be read; save those of the "
            "tumour alone."
        )
    grid, said = _grid(header, layout, directions, path, role)
    dtype = _type(header, damaged)
    voxels, start = path, header.length
    if "datafile" in header.fields:
        voxels, start = file_beside(path, header.fields["datafile"], role), 0
    data = _voxels(voxels, start, int(np.prod(layout.sizes)) * dtype.itemsize, header, damaged, role)
    array = np.frombuffer(data, dtype).reshape(layout.sizes, order="F")
    rest = [axis for axis in range(array.ndim) if axis not in (*layout.space, layout.layers)]
    leading = [] if layout.layers is None else [layout.layers]
    array = array.transpose([*rest, *leading, *layout.space])[(0,) * len(rest)]
    layers = [array] if layout.layers is None else list(array)
    volume = Volume(np.array(layers[0], dtype=dtype.newbyteorder("="), order="C"), grid)
    files = [path] if voxels == path else [path, voxels]
    sized = bool(directions) or "spacings" in header.fields
    warnings = place_warnings(grid, role, said=said, sized=sized)
    return ImageFile(volume, sha256_of(files), _segments(layers, header), warnings)


def _whole(text: str, damaged: str, name: str) -> list[int]:
    """Whole numbers of a field, up to nine digits each."""
    words = text.split()
    if not words or not all(re.fullmatch(r"[+-]?[0-9]{1,9}", word) for word in words):
        raise InputError(f"{damaged} says {name}: {text[:60]!r}; copy or download it again.")
    return [int(word) for word in words]


def _numbers(words: Sequence[str], damaged: str, name: str) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{damaged} says {name}: {' '.join(words)[:60]!r}; copy or download it again.") from error


def _type(header: Header, damaged: str) -> np.dtype:
    """Type of the stored values, in their byte order."""
    named = " ".join(header.fields.get("type", "").lower().split())
    if named not in TYPES:
        raise InputError(f"{damaged} says type: {named[:40]!r}; accepted are whole numbers, float and double.")
    dtype = np.dtype(TYPES[named])
    order = header.fields.get("endian", "little" if dtype.itemsize == 1 else "").lower()
    if order not in ("little", "big"):
        raise InputError(f"{damaged} says endian: {order[:40]!r}, where little or big is accepted; correct the header.")
    return dtype.newbyteorder("<" if order == "little" else ">")


def _vectors(text: str, damaged: str, name: str) -> list[NDArray[np.float64] | None]:
    """Vectors such as "(1,0,0) none"; None for none, which is also written as numbers that are none (nan)."""
    if not re.fullmatch(r"(\s*(none|\([^()]*\)))+\s*", text):
        raise InputError(f"{damaged} says {name}: {text[:60]!r}; copy or download it again.")
    found = [
        None if word == "none" else np.array(_numbers(word[1:-1].split(","), damaged, name))
        for word in re.findall(r"none|\([^()]*\)", text)
    ]
    return [None if vector is None or np.isnan(vector).all() else vector for vector in found]


def _directions(header: Header, damaged: str) -> list[NDArray[np.float64] | None]:
    """Step of one voxel along each axis, mm in the header's space; empty where it says none."""
    text = header.fields.get("spacedirections")
    vectors = [] if text is None else _vectors(text, damaged, "space directions")
    if len(vectors) == 4 and all(vector is not None and vector.shape == (4,) for vector in vectors):
        # A space of four dimensions, as ITK writes a series of volumes; only one volume of it is read.
        vectors = [None if vector is None else vector[:3] for vector in vectors[:3]] + [None]
    if any(vector is not None and (vector.shape != (3,) or not np.isfinite(vector).all()) for vector in vectors):
        raise InputError(f"{damaged} says space directions: {str(text)[:60]!r}; three numbers for each are accepted.")
    return vectors if any(vector is not None for vector in vectors) else []


def _layout(
    header: Header, directions: list[NDArray[np.float64] | None], has_segments: bool, damaged: str, role: str
) -> Layout:
    """Which axes of the stored array are what."""
    sizes = tuple(_whole(header.fields.get("sizes", ""), damaged, "sizes"))
    kinds = [kind.lower() for kind in header.fields.get("kinds", "none " * len(sizes)).split()]
    dimension = _whole(header.fields.get("dimension", ""), damaged, "dimension")
    fitting = dimension == [len(sizes)] and len(kinds) == len(sizes) and len(directions) in (0, len(sizes))
    if not fitting or min(sizes) < 1:
        raise InputError(
            f"{damaged} has sizes {' '.join(map(str, sizes))[:60]} and a dimension, kinds or space directions that do "
            "not fit them; copy or download it again."
        )
    of_space = [
        axis
        for axis, kind in enumerate(kinds)
        if kind in DOMAIN_KINDS and (not directions or directions[axis] is not None)
    ]
    if len(of_space) != 3:
        # Without directions the first three are those of space.
        if directions:
            raise InputError(f"{damaged} gives {len(of_space)} axes a direction in space; three are accepted.")
        three_dimensions([sizes[axis] for axis in of_space], role)
    space = tuple(of_space[:3])
    others = [axis for axis in range(len(sizes)) if axis not in space]
    several = [axis for axis in others if sizes[axis] > 1]
    check_voxel_count(sizes, role)
    i, j, k = space
    if has_segments and len(several) <= 1:
        return Layout(sizes, (i, j, k), several[0] if several else None)
    values = [sizes[axis] for axis in several if kinds[axis] not in DOMAIN_KINDS]
    if values:
        count = int(np.prod(values))
        raise InputError(f"The {role} has {count} values in each voxel (colour or vectors); a scalar volume is needed.")
    three_dimensions([*(sizes[axis] for axis in space), *(sizes[axis] for axis in others)], role)
    return Layout(sizes, (i, j, k), None)


def _to_lps(header: Header, damaged: str) -> tuple[float, float] | None:
    """Signs that turn the first two axes of the header's space into LPS; None where it does not say."""
    named = header.fields.get("space")
    if named is None:
        return None
    plain = re.sub(r"[\s-]", "", named.lower())
    if plain not in SPACES:
        raise InputError(
            f"{damaged} says space: {named[:60]!r}; accepted are right-anterior-superior, left-anterior-superior and "
            "left-posterior-superior."
        )
    return SPACES[plain]


def _grid(
    header: Header, layout: Layout, directions: list[NDArray[np.float64] | None], path: Path, role: str
) -> tuple[Grid, bool]:
    """Where ITK puts the voxels of this header, and whether that is what it says."""
    damaged = f"The {role} file {path} is damaged: its header"
    fields = header.fields
    to_lps = _to_lps(header, damaged)
    signs = np.array([*(to_lps or (1.0, 1.0)), 1.0])
    axes = [None if not directions else directions[axis] for axis in layout.space]
    origin, *more = _vectors(fields.get("spaceorigin", "none"), damaged, "space origin")
    if origin is not None and len(directions) == 4 and origin.shape == (4,):
        origin = origin[:3]
    if more or (origin is not None and (origin.shape != (3,) or not np.isfinite(origin).all())):
        raise InputError(f"{damaged} says space origin: {fields['spaceorigin'][:60]!r}; correct the header.")
    spacing = _numbers(fields.get("spacings", "nan " * len(layout.sizes)).split(), damaged, "spacings")
    if len(spacing) != len(layout.sizes):
        raise InputError(f"{damaged} says spacings: {fields['spacings'][:60]!r}; copy or download it again.")
    given = np.array([spacing[axis] for axis in layout.space])
    steps = np.diag(np.where(np.isnan(given), 1.0, given))
    if axes[0] is not None:
        if not np.isnan(given).all():
            raise InputError(f"{damaged} says the size of the voxels twice (spacings, space directions); correct it.")
        steps = np.column_stack([axis for axis in axes if axis is not None]) * signs[:, None]
    lengths = np.linalg.norm(steps, axis=0)
    if not (np.isfinite(lengths).all() and np.all(np.diag(steps) > 0 if axes[0] is None else lengths > 0)):
        raise InputError(f"{damaged} has voxels of {lengths.tolist()} mm; correct the header.")
    check_right_angles(steps / lengths, path, role)
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = 0.0 if origin is None else origin * signs
    return Grid(layout.shape, LPS_FROM_RAS @ affine), bool(directions) and origin is not None and to_lps is not None


def _voxels(path: Path, start: int, length: int, header: Header, damaged: str, role: str) -> bytes:
    """The voxels' bytes, no more than `length` of them; they begin at `start` or, where the header says so, later."""
    named = header.fields.get("encoding", "")
    encoding = ENCODINGS.get(named.lower())
    if encoding is None:
        raise InputError(
            f"The {role} file {path} holds voxels in the encoding {named[:40]!r}, which is not accepted; save it "
            "as raw or gzip."
        )
    lines, skipped = (_whole(header.fields.get(name, "0"), damaged, name)[0] for name in ("lineskip", "byteskip"))
    stored = path.stat().st_size
    if (encoding != "raw" and (lines or skipped)) or not (0 <= lines <= MOST_LINES and -1 <= skipped <= stored):
        raise InputError(
            f"{damaged} passes over {lines} lines and {skipped} bytes before its voxels; save the image as one file "
            "without them."
        )
    with open(path, "rb") as raw:
        raw.seek(start)
        for _ in range(lines):
            raw.readline()
        raw.seek(max(start, stored - length) if skipped == -1 else raw.tell() + skipped)
        try:
            file: Any = raw
            if encoding != "raw":
                file = gzip.GzipFile(fileobj=raw) if encoding == "gzip" else bz2.BZ2File(raw)
            data = file.read(min(length, stored) if encoding == "raw" else length)
            surplus = len(data) == length and bool(file.read(1))
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise InputError(f"The {role} file {path} is truncated or damaged; copy or download it again.") from error
    if len(data) < length or surplus:
        said = "is damaged: it holds more voxels than its header says" if surplus else "is truncated"
        raise InputError(f"The {role} file {path} {said}; copy or download it again.")
    return data


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


def _segments(layers: Sequence[NDArray], header: Header) -> tuple[Segment, ...]:
    """Segments that a Slicer segmentation describes in its header, which have to account for every voxel."""
    numbers = _segment_numbers(header)
    if not numbers:
        return ()
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
                f"The segmentation's header is damaged: segment {name[:60]!r} is in layer {text['Layer'][:20]} with "
                f"value {text['LabelValue'][:20]}, and the file has {len(layers)} layers with values from 1. Save it "
                "from Slicer again."
            )
        if (layer, value) in taken:
            raise InputError(
                f"The segmentation's header is damaged: segments {taken[layer, value][:60]!r} and {name[:60]!r} both "
                f"are value {value} in layer {layer}. Save it from Slicer again."
            )
        taken[layer, value] = name
        code = terminology_code(header.pairs.get(f"Segment{number}_Tags", ""))
        segments.append(Segment(name, layers[layer], code, value))
    for number, layer_array in enumerate(layers):
        nameless = set(np.unique(layer_array).tolist()) - {0} - {value for layer, value in taken if layer == number}
        if nameless:
            raise InputError(
                f"The segmentation's header is damaged: no segment is the value {min(nameless):g}, which voxels in "
                f"layer {number} have. Save it from Slicer again."
            )
    return tuple(segments)
