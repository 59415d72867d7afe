"""NIfTI-1, NIfTI-2 and Analyze files, one file or a pair, compressed or not, whatever their names.

The voxels are read here: SimpleITK fills what is missing with zeros, takes NaN for 0
and unpacks without limit. Only the place of the voxels is asked of it, by a header
without voxels, so that it is the same as in every program that reads by ITK.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import itk_name
from TumorQueryLib.geometry.grid import Grid, Volume, grid_from_image
from TumorQueryLib.inputs.checks import (
    ImageFile,
    head_of,
    place_warnings,
    promised_bytes,
    quiet_itk,
    sha256_of,
    three_dimensions,
    times,
    values_in_voxels,
)

#: Types of voxels by their number in the header.
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
COLOURS = {128: 3, 2304: 4}
#: Two places of one voxel further apart than this (mm) are two places.
SAME_PLACE = 1.0
#: Sizes of one voxel that differ by more than this share are two sizes.
SAME_SIZE = 1e-3
#: No number of a header that places voxels is larger, in whatever unit.
FURTHEST = 1e7
MILLIMETRES = {1: 1000.0, 3: 0.001}


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI header that say what and where the voxels are; `order` is that of its bytes."""

    order: str
    length: int
    in_one_file: bool
    voxels_at: float
    dim: tuple[int, ...]
    datatype: int
    bits: int
    pixdim: tuple[float, ...]
    scale: tuple[float, float]
    units: int
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    rows: tuple[float, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Sizes of the dimensions in use; a fourth or later one of 0 is one of 1, as NIfTI's library reads it."""
        return *self.dim[1:4][: self.dim[0]], *(n or 1 for n in self.dim[4 : 1 + self.dim[0]])

    @property
    def says_sform(self) -> bool:
        """Whether the sform is a place; some tools give it a code and nothing but zeros."""
        return self.sform_code > 0 and any(self.rows)

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """The voxel's edges in the header's unit.

        By NIfTI's rules they stand in the sform's columns where there is no qform, to which `pixdim` belongs and
        which sizes of 0 do not make. ITK takes `pixdim`, and 1 for 0, in any case.
        """
        if self.says_sform and (self.qform_code <= 0 or 0 in self.pixdim[1:4]):
            columns = np.linalg.norm(np.reshape(self.rows, (3, 4))[:, :3], axis=0)
            if not np.allclose(columns, np.abs(self.pixdim[1:4]), rtol=SAME_SIZE, atol=0):
                return tuple(columns.tolist())
        return self.pixdim[1:4]


def is_nifti(head: bytes) -> bool:
    """Whether a file (unpacked) begins like NIfTI or Analyze."""
    return _order(head) is not None


def _order(head: bytes) -> tuple[str, int] | None:
    """Byte order and length of the header; None for other files."""
    for order in "<>":
        length = struct.unpack_from(order + "i", head)[0] if len(head) >= 348 else 0
        if length == 348 or (length == 540 and len(head) >= 540 and head[4:6] in (b"n+", b"ni")):
            return order, length
    return None


def parse_header(head: bytes) -> Header:
    """The header in a file's first bytes (unpacked), for which `is_nifti` holds."""
    found = _order(head)
    assert found is not None
    order, length = found

    def field(kind: str, at: int) -> tuple:
        return struct.unpack_from(order + kind, head, at)

    if length == 540:
        datatype, bits = field("2h", 12)
        qform, sform = field("2i", 344)
        return Header(
            order=order,
            length=length,
            in_one_file=head[5:6] == b"+",
            voxels_at=float(field("q", 168)[0]),
            dim=field("8q", 16),
            datatype=datatype,
            bits=bits,
            pixdim=field("8d", 104),
            scale=field("2d", 176),
            units=field("i", 500)[0],
            qform_code=qform,
            sform_code=sform,
            quaternion=field("6d", 352),
            rows=field("12d", 400),
        )
    # Analyze has other fields where NIfTI has the place.
    named = head[344:347] in (b"n+1", b"ni1")
    datatype, bits = field("2h", 70)
    return Header(
        order=order,
        length=length,
        in_one_file=head[345:346] == b"+" if named else False,
        voxels_at=field("f", 108)[0],
        dim=field("8h", 40),
        datatype=datatype,
        bits=bits,
        pixdim=field("8f", 76),
        scale=field("2f", 112) if named else (1.0, 0.0),
        units=head[123] if named else 2,
        qform_code=field("h", 252)[0] if named else 0,
        sform_code=field("h", 254)[0] if named else 0,
        quaternion=field("6f", 256),
        rows=field("12f", 280),
    )


def read_nifti(path: Path, role: str, voxels: Path | None = None) -> ImageFile:
    """Read a NIfTI file, or a pair of which either file is named.

    Parameters
    ----------
    path : Path
    role : str
        What the file is for; errors name it.
    voxels : Path, optional
        The voxel file of a pair, where it is the one that was named.

    Raises
    ------
    InputError
        When it is damaged, truncated, no scalar volume, or its axes are sheared.
    """
    header = parse_header(head_of(path))
    damaged = f"The {role} file {path} is damaged: its header says"
    if not 1 <= header.dim[0] <= 7 or min(header.size) < 1:
        raise InputError(f"{damaged} that its size is {header.dim}; copy or download it again.")
    shape = three_dimensions(header.size, role)
    if header.datatype in COLOURS:
        raise InputError(
            f"The {role} has {COLOURS[header.datatype]} values in each voxel (colour); a scalar volume is needed."
        )
    if header.datatype not in TYPES:
        raise InputError(
            f"The {role} file {path} holds voxels of NIfTI's type {header.datatype} (complex, bits or unknown); save "
            "it as whole numbers or as floating point."
        )
    dtype = np.dtype(header.order + TYPES[header.datatype])
    if header.bits != 8 * dtype.itemsize:
        raise InputError(f"{damaged} two types of voxels ({dtype} and {header.bits} bits); copy or download it again.")
    # The header is followed by four bytes that say whether extensions follow.
    least = header.length + 4 if header.in_one_file else 0
    if not least <= header.voxels_at < 1e6 or header.voxels_at % 1:
        raise InputError(f"{damaged} that its voxels begin at byte {header.voxels_at:g}; copy or download it again.")
    voxels = path if header.in_one_file else voxels or _voxel_file(path, role)
    data = promised_bytes(voxels, int(header.voxels_at), int(np.prod(shape)) * dtype.itemsize, role)
    # A slope of 0 stands for values as they are.
    scaled = header.scale[0] != 0 and np.isfinite(header.scale).all()
    grid = _grid(header, shape, path, role)
    volume = Volume(values_in_voxels(data, dtype, shape, header.scale if scaled else (1.0, 0.0)), grid)
    files = [path] if header.in_one_file else [path, voxels]
    return ImageFile(volume, sha256_of(files), warnings=_warnings(header, grid, role))


def _voxel_file(header: Path, role: str) -> Path:
    """The .img or .img.gz of an .hdr, whichever is there, in the header's letter case or else in the other."""
    name = header.name[: -len(".gz")] if header.name.lower().endswith(".gz") else header.name
    stem = header.with_name(name).stem
    upper = name.endswith(".HDR")
    for endings in sorted(((".img", ".img.gz"), (".IMG", ".IMG.GZ")), reverse=not upper):
        there = [path for ending in endings if (path := header.with_name(stem + ending)).is_file()]
        if len(there) > 1:
            raise InputError(
                f"The {role} header {header} has two voxel files beside it, {there[0].name} and {there[1].name}; name "
                "the one that is meant instead of the header."
            )
        if there:
            return there[0]
    raise InputError(
        f"The {role} header {header} has lost its voxels: there is no {stem}{'.IMG' if upper else '.img'} beside it."
    )


def _grid(header: Header, shape: tuple[int, int, int], path: Path, role: str) -> Grid:
    """Where ITK puts the voxels of this header."""
    import SimpleITK as sitk

    used = [
        *header.pixdim[1:4],
        *(header.quaternion if header.qform_code > 0 else ()),
        *(header.rows if header.says_sform else ()),
    ]
    finite = np.isfinite(used).all() and np.abs(used).max() <= FURTHEST
    if not finite or max(shape) > 32767 or 0 in header.voxel_size:
        raise InputError(f"The {role} file {path} is damaged: its header puts the voxels nowhere; correct the header.")
    data = bytearray(352)
    struct.pack_into("<i", data, 0, 348)
    struct.pack_into("<8h", data, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", data, 70, 2, 8)
    struct.pack_into("<4f", data, 76, -1 if header.pixdim[0] < 0 else 1, *header.voxel_size)
    struct.pack_into("<f", data, 108, 352)
    data[123] = header.units & 7
    # Codes beyond the standard's are places of an unknown kind, like its last.
    codes = (header.qform_code, header.sform_code if header.says_sform else 0)
    struct.pack_into("<2h", data, 252, *(min(max(code, 0), 5) for code in codes))
    if header.qform_code > 0:
        struct.pack_into("<6f", data, 256, *header.quaternion)
    if header.says_sform:
        struct.pack_into("<12f", data, 280, *header.rows)
    data[344:348] = b"n+1\0"
    reader: Any = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    with tempfile.TemporaryDirectory(prefix="tumorquery-") as folder, quiet_itk():
        alone = Path(folder, "header.nii")
        alone.write_bytes(data)
        reader.SetFileName(itk_name(alone))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            if "orthonormal" in str(error):
                raise InputError(
                    f"The {role} file {path} cannot be read: its header describes sheared axes, so resample it to a "
                    "grid with right angles first."
                ) from error
            raise InputError(f"The {role} file {path} is damaged: its header says no place of the voxels.") from error
    return grid_from_image(reader)


def _warnings(header: Header, grid: Grid, role: str) -> tuple[str, ...]:
    """What the header leaves open about the place of the voxels: it can hold none or two."""
    if header.qform_code <= 0 and not header.says_sform:
        return place_warnings(grid, role, said=False)
    if not header.says_sform and min(header.pixdim[1:4]) < 0:
        return (
            f"The {role} file's header says that its voxels are {times(np.array(header.pixdim[1:4]))} long, and NIfTI "
            "allows no size below 0: it is read as 3D Slicer and others that read by ITK do, mirrored along that axis, "
            "and programs that heed the size alone show it unmirrored; compare left and right with another image of "
            "the patient, and correct the header.",
        )
    unit = MILLIMETRES.get(header.units & 7, 1.0)
    if header.voxel_size != header.pixdim[1:4]:
        return (
            f"The {role} file's header says twice how large its voxels are: {times(grid.spacing)} mm by its sform, "
            f"which is used, and {times(np.array(header.pixdim[1:4]) * unit)} mm by its pixdim, by which 3D Slicer and "
            "others that read by ITK show it; correct the header.",
        )
    places = {}
    if header.qform_code > 0:
        places["qform"] = _qform(header) * unit
    if header.says_sform:
        places["sform"] = np.reshape(header.rows, (3, 4)) * unit
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    used = grid.to_ras(corners)
    away = {
        name: float(np.abs(corners @ place[:, :3].T + place[:, 3] - used).max())
        for name, place in places.items()
        if np.isfinite(place).all()
    }
    furthest = max(away, key=lambda name: away[name], default=None)
    if furthest is None or away[furthest] < SAME_PLACE:
        return place_warnings(grid, role, said=True)
    chosen = {"qform": "sform", "sform": "qform"}[furthest]
    if chosen not in places:
        chosen = "voxel sizes"
    size = np.linalg.norm(places[furthest][:, :3], axis=0)
    of_another_size = (
        ""
        if np.allclose(size, grid.spacing, rtol=SAME_SIZE)
        else (f", and its voxels of {times(size)} mm instead of {times(grid.spacing)} mm make other volumes")
    )
    return (
        f"The {role} file's header describes two places: by its {chosen}, which is used, and by its {furthest}, up to "
        f"{away[furthest]:.0f} mm from it{of_another_size}; compare the result with the image in a viewer.",
    )


def _qform(header: Header) -> NDArray[np.float64]:
    """The affine (3, 4) to RAS that the quaternion describes, in the header's unit."""
    b, c, d, *offset = header.quaternion
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    if a == 0.0:
        b, c, d = np.array([b, c, d]) / np.linalg.norm([b, c, d])
    turned = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sizes = np.array(header.voxel_size)
    sizes[2] *= -1 if header.pixdim[0] < 0 else 1
    return np.column_stack([turned * sizes, offset])
