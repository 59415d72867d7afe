"""MetaImage files: .mha, and .mhd with its voxels beside it.

Read here and not by ITK, which a damaged header can crash.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume
from TumorQueryLib.inputs.checks import (
    LARGEST_HEADER,
    ImageFile,
    check_right_angles,
    file_beside,
    place_warnings,
    sha256_of,
    three_dimensions,
    values_in_voxels,
)

TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
#: What stands between a name and its value.
SEPARATOR = re.compile("[=:]")
#: Names that the format has for one thing.
PLACE = ("Offset", "Position", "Origin")
AXES = ("TransformMatrix", "Rotation", "Orientation")


def is_metaimage(head: bytes) -> bool:
    """Whether a file begins like a MetaImage header."""
    first = SEPARATOR.split(head[:200].decode("latin-1"), maxsplit=1)[0].strip()
    return first in ("ObjectType", "NDims", "Comment") and b"NDims" in head


def read_metaimage(path: Path, role: str) -> ImageFile:
    """Read a MetaImage.

    Parameters
    ----------
    path : Path
        .mha or .mhd.
    role : str
        What the file is for; errors name it.

    Raises
    ------
    InputError
        When it is damaged, truncated, no scalar volume, or its axes are sheared.
    """
    fields, voxels_at = _header(path, role)
    damaged = f"The {role} file {path} is damaged: its header"

    def numbers(*keys: str) -> list[float]:
        text = next((fields[key] for key in keys if key in fields), "")
        try:
            return [float(number) for number in text.split()]
        except ValueError as error:
            raise InputError(f"{damaged} says {keys[0]} = {text[:60]!r}; copy or download it again.") from error

    dimensions, size = numbers("NDims"), numbers("DimSize")
    if not dimensions or dimensions[0] != len(size) or not all(1 <= n < 2**31 and n == int(n) for n in size):
        raise InputError(
            f"{damaged} says NDims = {fields.get('NDims', '')[:20]}, DimSize = {fields.get('DimSize', '')[:60]}; copy "
            "or download it again."
        )
    shape = three_dimensions([int(n) for n in size], role)
    channels = numbers("ElementNumberOfChannels") or [1.0]
    if channels != [1.0]:
        raise InputError(
            f"The {role} has {channels[0]:g} values in each voxel (colour or vectors); a scalar volume is needed."
        )
    kind = fields.get("ElementType", "")
    if kind not in TYPES or _said(fields.get("BinaryData", "True")) is not True:
        raise InputError(
            f"The {role} file {path} holds voxels of the type {kind[:40]!r} or written as text, which is not accepted; "
            "save it as a binary .nrrd or .mha."
        )
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype((">" if _said(big) else "<") + TYPES[kind])
    length = int(np.prod(shape)) * dtype.itemsize

    named = fields["ElementDataFile"]
    skipped = (numbers("HeaderSize") or [0.0])[0]
    if named.upper() == "LOCAL":
        voxels, start = path, voxels_at
    else:
        voxels, start = file_beside(path, named, role), 0
    stored = voxels.stat().st_size
    compressed = _said(fields.get("CompressedData", "False"))
    if skipped == -1 and not compressed:
        start = max(0, stored - length)
    elif 0 < skipped < stored:
        start += int(skipped)
    elif skipped != 0:
        raise InputError(f"{damaged} says HeaderSize = {skipped:g}; copy or download it again.")
    data = _voxels(voxels, start, length, bool(compressed), role)

    space = len(size)
    spacing = numbers("ElementSpacing") or numbers("ElementSize") or [1.0] * space
    origin, matrix = numbers(*PLACE), numbers(*AXES)
    if [len(spacing), len(origin or size), len(matrix or [0.0] * space**2)] != [space, space, space**2]:
        raise InputError(f"{damaged} gives its place by too few or too many numbers; copy or download it again.")
    if not np.isfinite([*spacing, *origin, *matrix]).all() or min(spacing[:3]) <= 0:
        raise InputError(f"{damaged} has voxels of {spacing[:3]} mm or a place that is no number; correct the header.")
    affine = np.eye(4)
    # Each row of the file's matrix is the direction of one of the image's axes.
    directions = np.reshape(matrix or np.eye(space).ravel(), (space, space))[:3, :3].T
    check_right_angles(directions, path, role)
    affine[:3, :3] = directions * spacing[:3]
    affine[:3, 3] = (origin or [0.0] * space)[:3]
    grid = Grid(shape, LPS_FROM_RAS @ affine)
    sized = bool({"ElementSpacing", "ElementSize"} & set(fields))
    warnings = place_warnings(grid, role, said=bool(origin and matrix), sized=sized)
    files = [path] if voxels == path else [path, voxels]
    return ImageFile(Volume(values_in_voxels(data, dtype, shape), grid), sha256_of(files), warnings=warnings)


def _header(path: Path, role: str) -> tuple[dict[str, str], int]:
    """The header's fields, and where it ends: ElementDataFile is the last one."""
    with open(path, "rb") as file:
        text = file.read(LARGEST_HEADER)
    fields: dict[str, str] = {}
    at = 0
    while at < len(text):
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        key, *value = (part.strip() for part in SEPARATOR.split(text[at:end].decode("utf-8", "replace"), maxsplit=1))
        at = end + 1
        if not value:
            break
        if key in fields and key != "Comment":
            raise InputError(
                f"The {role} file {path} is damaged: its header says {key[:60]!r} twice; copy or download it again."
            )
        fields[key] = value[0]
        if key == "ElementDataFile":
            return fields, at
    raise InputError(f"The {role} file {path} is damaged: its header does not say where its voxels are.")


def _said(text: str) -> bool | None:
    """A truth value of the header; None for anything else."""
    return {"t": True, "1": True, "f": False, "0": False}.get(text[:1].lower())


def _voxels(path: Path, start: int, length: int, compressed: bool, role: str) -> bytes:
    """The voxels' bytes, no more than `length` of them."""
    with open(path, "rb") as file:
        file.seek(start)
        if not compressed:
            data = file.read(length)
            surplus = file.read(1)
        else:
            # zlib's own format or gzip's, as ITK takes them.
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
            parts, missing = [], length
            try:
                while missing and not unpacker.eof and (block := unpacker.unconsumed_tail or file.read(1 << 20)):
                    parts.append(unpacker.decompress(block, missing))
                    missing -= len(parts[-1])
                # Only at its end does the stream show whether it is sound.
                surplus = b""
                while not surplus and not unpacker.eof and (block := unpacker.unconsumed_tail or file.read(1 << 20)):
                    surplus = unpacker.decompress(block, 1)
                if not (surplus or unpacker.eof):
                    missing = -1
            except zlib.error as error:
                raise InputError(
                    f"The {role} file {path} is truncated or damaged; copy or download it again."
                ) from error
            data = b"" if missing else b"".join(parts)
    if len(data) < length:
        raise InputError(f"The {role} file {path} is truncated or damaged; copy or download it again.")
    if surplus:
        raise InputError(
            f"The {role} file {path} is damaged: it holds more voxels than its header says; copy or download it again."
        )
    return data
