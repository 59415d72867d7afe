"""What every reader of image files gives and checks: sizes, units, sums, promised bytes, places that are missing."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume

#: Larger images are no MRI of a head and would exhaust the memory.
LARGEST_VOXEL_COUNT = 512 * 512 * 1024
#: Shortest and longest plausible edge of a voxel, and of the imaged box, in mm.
SPACING_RANGE = (0.05, 20.0)
EXTENT_RANGE = (20.0, 1000.0)
#: Voxels; a first one no further from 0, 0, 0 than this along each axis is where a place that was lost is.
LOST_PLACE = 1.5
#: Headers are text of a few kilobytes; a segmentation's can be longer.
LARGEST_HEADER = 4_000_000

ACCEPTED_FORMATS = (
    "NIfTI (.nii, .nii.gz, .hdr with .img), NRRD (.nrrd, .seg.nrrd, .nhdr), MetaImage (.mha, .mhd), a folder with "
    "one DICOM series and, for the tumour, a DICOM segmentation (SEG) or contours (RTSTRUCT)"
)


@dataclass(frozen=True, eq=False)
class Segment:
    """One structure of a segmentation that has several.

    Parameters
    ----------
    name : str
    voxels : ndarray
        On the grid of the file's volume: the segment's mask, or a layer that it shares with others.
    code : str
        What it is by a terminology, scheme and value, such as "SCT 86049000"; empty
        where the file does not say.
    value : int
        What the segment's voxels have.
    """

    name: str
    voxels: NDArray
    code: str = ""
    value: int = 1

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The segment's voxels, bool; made whenever it is asked for, since a file may hold hundreds of segments."""
        return np.ascontiguousarray(self.voxels == self.value)


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What one input file (or DICOM series) holds.

    Parameters
    ----------
    volume : Volume
        The voxels; of a segmentation with several layers, the first layer; of a DICOM
        segmentation or of contours, the voxels of any segment.
    sha256 : str
        SHA-256 of the file; of several files (header and voxels, a DICOM series), of
        their sums in sorted order.
    segments : tuple of Segment
        Of a Slicer segmentation, a DICOM segmentation or contours; empty for any other
        file.
    warnings : tuple of str
    frame_of_reference, series : str, optional
        DICOM's UIDs of the space that the voxels lie in and of the series that this
        is; None for any other file. They stand in no result.
    drawn_on : str, optional
        UID of the series that a DICOM segmentation or contours say they were drawn on.
    slices : tuple of (Path, int)
        Of a DICOM series, for each slice along the third axis its file and its frame in that, from 0.
    """

    volume: Volume
    sha256: str
    segments: tuple[Segment, ...] = ()
    warnings: tuple[str, ...] = ()
    frame_of_reference: str | None = None
    series: str | None = None
    drawn_on: str | None = None
    slices: tuple[tuple[Path, int], ...] = ()


def check_plausible_grid(grid: Grid, role: str, *, is_mask: bool = False) -> None:
    """Refuse a grid that cannot be an MRI of a head in millimetres.

    Parameters
    ----------
    grid : Grid
    role : str
        What the grid is of; errors name it.
    is_mask : bool
        A mask may be cropped to the tumour, even to one slice, so only its voxels and
        its largest extent tell the unit.

    Raises
    ------
    InputError
        For slices without a third dimension, and for voxels or boxes so small or
        large that the unit must be another one.
    """
    if min(grid.shape) < 2 and not is_mask:
        raise InputError(f"The {role} is a single slice ({times(grid.shape)} voxels); a volume is needed.")
    check_voxel_count(grid.shape, role)
    spacing = grid.spacing
    extent = spacing * grid.shape
    shortest = 0.0 if is_mask else EXTENT_RANGE[0]

    def plausible(scale: float) -> bool:
        return bool(
            SPACING_RANGE[0] <= scale * spacing.min()
            and scale * spacing.max() <= SPACING_RANGE[1]
            and shortest <= scale * extent.min()
            and scale * extent.max() <= EXTENT_RANGE[1]
        )

    if not plausible(1.0):
        accepted = (
            "its header probably has the wrong unit (metres for millimetres or the reverse); correct the header."
            if plausible(1000.0) or plausible(0.001)
            else f"accepted are voxels of {SPACING_RANGE[0]:g} to {SPACING_RANGE[1]:g} mm in a box of "
            f"{shortest:g} to {EXTENT_RANGE[1]:g} mm; give an image of the whole head, or correct the header."
        )
        raise InputError(
            f"The {role} has voxels of {times(spacing)} mm and spans {times(extent)} mm, which is no head: {accepted}"
        )


def check_voxel_count(size: Sequence[int], role: str) -> None:
    """Refuse sizes that would exhaust the memory.

    Raises
    ------
    InputError
    """
    if np.prod([float(n) for n in size]) > LARGEST_VOXEL_COUNT:
        raise InputError(f"The {role} has {times(size)} voxels, far more than an MRI of a head; is it damaged?")


def three_dimensions(size: Sequence[int], role: str) -> tuple[int, int, int]:
    """The size of the one volume in a file; further dimensions of length one, which SRI24's T1 has, are dropped.

    Raises
    ------
    InputError
        For a slice, for several volumes in one file and for more voxels than memory.
    """
    if len(size) < 3:
        raise InputError(f"The {role} is a single slice ({times(size)} voxels); a volume is needed.")
    if any(n > 1 for n in size[3:]):
        raise InputError(
            f"The {role} holds {int(np.prod([float(n) for n in size[3:]]))} volumes in one file ({times(size)}); "
            "save the one that is meant as a file of its own."
        )
    check_voxel_count(size, role)
    i, j, k = (int(n) for n in size[:3])
    return i, j, k


def place_warnings(grid: Grid, role: str, *, said: bool, sized: bool = True) -> tuple[str, ...]:
    """Warnings where a header says nothing of the voxels' place or size, or what files say that have lost it.

    Parameters
    ----------
    grid : Grid
        Where the voxels were read to lie.
    role : str
    said : bool
        Whether the header holds a place at all.
    sized : bool
        Whether it holds the voxels' size.
    """
    guessed = (
        f"The {role} file's header does not say how large its voxels are; {times(grid.spacing)} mm is a guess, and "
        "with it every volume and length."
    )
    size = () if sized else (guessed,)
    if not said:
        return f"The {role} file's header does not say where its voxels lie in space; their place is a guess.", *size
    axes = grid.affine[:3, :3] / grid.spacing
    unturned = any(np.abs(axes - matrix).max() < 1e-6 for matrix in (np.eye(3), LPS_FROM_RAS[:3, :3]))
    # Some tools write the first voxel's number for its place, from 0 or from 1.
    if unturned and (np.abs(grid.affine[:3, 3]) <= LOST_PLACE * grid.spacing).all():
        return (
            f"The {role} file's header puts the first voxel at 0, 0, 0 or beside it and turns no axis, as headers do "
            "that have lost their place; compare left, right, front and back of the result with the image in a viewer.",
            *size,
        )
    return size


def check_right_angles(directions: NDArray, path: Path, role: str) -> None:
    """Refuse directions of axes, the columns of a matrix (3, 3) of length 1, that are not at right angles.

    Raises
    ------
    InputError
    """
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3:
        raise InputError(
            f"The {role} file {path} cannot be read: its header describes sheared axes, so resample it to a grid with "
            "right angles first."
        )


def values_in_voxels(
    data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, int, int], scale: tuple[float, float] = (1.0, 0.0)
) -> NDArray:
    """Voxels stored with the first axis fastest, as a C-contiguous array [i, j, k] in native byte order.

    Parameters
    ----------
    data : bytes
        Exactly the voxels.
    dtype : dtype
        As stored; its byte order is heeded.
    shape : tuple of int
    scale : (slope, intercept)
        Anything but (1, 0) gives float32, or float64 where that is stored.
    """
    array = np.frombuffer(data, dtype).reshape(shape, order="F")
    if scale != (1.0, 0.0):
        exact = array.astype(np.float64) * scale[0] + scale[1]
        array = exact if dtype.kind == "f" and dtype.itemsize == 8 else exact.astype(np.float32)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def finite_values(array: NDArray, name: str, kind: str, warnings: list[str]) -> NDArray[np.float32]:
    """Voxels as float32, 0 where they are NaN or infinite, as tools mark what is outside the brain.

    Parameters
    ----------
    array : ndarray
    name, kind : str
        Of what, and what it is called where it holds no finite number: "image", "map".
    warnings : list of str
        Are told how many there were.

    Raises
    ------
    InputError
        When no voxel is finite.
    """
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    finite = np.isfinite(values)
    missing = finite.size - np.count_nonzero(finite)
    if missing == finite.size:
        raise InputError(f"The {name} holds no finite number; export the {kind} again.")
    if missing:
        warnings.append(
            f"The {name} is NaN or infinite in {missing} of its {finite.size} voxels, and taken as 0 there."
        )
        values = np.where(finite, values, np.float32(0))
    return values


def head_of(path: Path, length: int = 1024) -> bytes:
    """The first bytes of a file, those within where it is compressed by gzip; empty where it is damaged."""
    with open(path, "rb") as file:
        start = file.read(length)
    if start[:2] != b"\x1f\x8b":
        return start
    try:
        with gzip.open(path) as unpacked:
            return unpacked.read(length)
    except (EOFError, OSError, zlib.error):
        return b""


def promised_bytes(path: Path, start: int, length: int, role: str) -> bytes:
    """The bytes of a file that its header promises, unpacked where it is compressed by gzip.

    No more than that is unpacked, whatever the file holds.

    Raises
    ------
    InputError
        When the file holds fewer bytes, or more, or is damaged.
    """
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            complete = len(file.read(start)) == start
            data = file.read(length)
            surplus = bool(file.read(1))
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"The {role} file {path} is truncated or damaged; copy or download it again.") from error
    if not complete or len(data) < length:
        raise InputError(f"The {role} file {path} is truncated; copy or download it again.")
    if surplus:
        raise InputError(
            f"The {role} file {path} is damaged: it holds more voxels than its header says; copy or download it again."
        )
    return data


def file_beside(header: Path, name: str, role: str) -> Path:
    """The voxel file that a detached header names, which has to lie in its folder or below it.

    Raises
    ------
    InputError
        When it is elsewhere, a pattern for many files, or not there.
    """
    # LIST, in NRRD and MetaImage, stands for names that follow.
    several = name.split()[:1] == ["LIST"] or any(character in name for character in "%@\0")
    if not name or several or os.path.isabs(name) or ".." in Path(name).parts:
        raise InputError(
            f"The {role} header {header} names {name[:60]!r} for its voxels; one file beside the header is accepted. "
            "Save the image as one file, such as .nrrd."
        )
    path = header.parent / name
    if not os.path.isfile(path):
        raise InputError(f"The {role} header {header} has lost its voxels: there is no file {name[:60]} beside it.")
    return path


#: Folders that a system keeps for itself on a disk, beside those whose names begin with a point.
SYSTEM_FOLDERS = ("lost+found", "System Volume Information", "$RECYCLE.BIN")


def walked(folder: Path, closed: Callable[[Path], object]) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, in order, each with the names of what else is in it.

    Folders that may not be read are told to `closed`: `os.walk` passes over them without a word.
    """

    def told(error: OSError) -> None:
        if not _is_systems(os.path.basename(error.filename)):
            closed(Path(error.filename))

    for below, folders, names in os.walk(folder, onerror=told):
        folders.sort()
        if names and not _may_be_entered(below):
            closed(Path(below))
        else:
            yield Path(below), sorted(names)


def entries_of(folder: Path, closed: Callable[[Path], object]) -> list[Path]:
    """What is in a folder, in order; none of one that may not be read, which is told to `closed`."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        found = None
    if found is not None and (not found or _may_be_entered(folder)):
        return found
    if not _is_systems(folder.name):
        closed(folder)
    return []


def _is_systems(name: str) -> bool:
    """Whether a closed folder is one that systems keep on a disk, such as .Trash-1000 and .Spotlight-V100."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _may_be_entered(folder: str | os.PathLike) -> bool:
    """Whether what a folder lists can be looked at as well."""
    return os.access(folder, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


class ClosedFolderError(InputError):
    """A folder may not be read, and what it holds could be what is looked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"The folder {folder} may not be read; make it readable, or move it out of there.")
        self.folder = folder


def refuse_closed(folder: Path) -> NoReturn:
    """Raise `ClosedFolderError`."""
    raise ClosedFolderError(folder)


def sha256_of(paths: Iterable[Path]) -> str:
    """SHA-256 of a file; of several, that of their sums in sorted order."""
    sums = []
    for path in paths:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        sums.append(digest.hexdigest())
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()


def times(numbers: Sequence[float] | NDArray) -> str:
    """Numbers as "240 x 240 x 155"."""
    return " x ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in np.asarray(numbers).tolist())


@contextmanager
def quiet_itk() -> Iterator[None]:
    """ITK writes warnings to the console that would stand beside our one sentence."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
