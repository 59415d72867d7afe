"""DICOM: series of slices and multi-frame files, every frame put where it says it lies.

Segmentations and contours are read where a mask is wanted, by modules of their own;
other objects that are no plain image (doses, maps) are refused by what they are.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.filereader import read_dataset, read_preamble

from TumorQueryLib.base.errors import InputError, TumorQueryError
from TumorQueryLib.base.files import itk_name
from TumorQueryLib.geometry.grid import LPS_FROM_RAS, Grid, Volume
from TumorQueryLib.inputs.checks import (
    ACCEPTED_FORMATS,
    ImageFile,
    check_plausible_grid,
    check_voxel_count,
    entries_of,
    place_warnings,
    quiet_itk,
    refuse_closed,
    sha256_of,
    walked,
)
from TumorQueryLib.inputs.dicom.contours import STRUCTURE_SET_CLASS, frame_of_contours, read_contours
from TumorQueryLib.inputs.dicom.segmentation import SEGMENTATION_CLASSES, read_segmentation, referenced_series

#: Folders with more files than this are no export of one patient.
MOST_FILES = 20_000
#: Text that stands in a file's place until Git LFS or git-annex fetches it.
POINTERS = (b"version https://git-lfs", b"/annex/objects")
#: Endings of slices, beside none and those without a letter, as of names that are UIDs.
SLICE_ENDINGS = (".dcm", ".dicom", ".ima")
NOT_READ = "cannot be read (damaged, empty, or a link or pointer without its content)"
#: Bytes of a file in which its series' UID is looked for before its header is read.
HEAD_BYTES = 1 << 16

AS_LABEL_MAP = (
    "convert it to a label map first, for example in 3D Slicer: load it from the DICOM database, then export the "
    "segmentation as a .seg.nrrd file"
)
#: Voxels (mm) and directions of two slices of one volume differ by no more than this.
SAME_SPACING = 0.002
SAME_AXES = 0.01
#: First voxels of slices that lie one behind the other, whatever their size, and the centres of those of one size, are
#: no further apart (mm) across their normal.
IN_LINE = 5.0
#: Bytes that the deflated files of a folder may unpack to, 512^3 voxels of 16 bits.
LARGEST_DEFLATED = 1 << 28

NO_IMAGE = "give it as the segmentation (--segmentation), and the MRI as the image"
#: What is no plain image, by its SOP class: what it is, and what to do.
OTHER_OBJECTS = {
    "1.2.840.10008.5.1.4.1.1.66.4": ("a DICOM segmentation (SEG)", NO_IMAGE),
    "1.2.840.10008.5.1.4.1.1.66.7": ("a DICOM label map segmentation (SEG)", NO_IMAGE),
    "1.2.840.10008.5.1.4.1.1.66.5": ("a DICOM surface segmentation", AS_LABEL_MAP),
    STRUCTURE_SET_CLASS: ("contours of radiotherapy (DICOM RTSTRUCT)", NO_IMAGE),
    "1.2.840.10008.5.1.4.1.1.481.2": (
        "a dose of radiotherapy (DICOM RTDOSE)",
        "give the MRI or, for a segmentation, a label map",
    ),
    "1.2.840.10008.5.1.4.1.1.30": (
        "a DICOM parametric map",
        "give the MRI itself, or save the map as a .nrrd or .nii.gz file",
    ),
}

#: Beginnings of the photometric interpretations of colour images.
COLOURS = ("PALETTE", "RGB", "YBR", "HSV", "ARGB", "CMYK")

#: What a frame may differ in from another at the same place, and what that is called.
DIFFERENCES = {
    "stack": "stacks",
    "time": "temporal positions",
    "acquisition": "acquisitions",
    "echo": "echo times",
    "b": "diffusion b-values",
    "part": "kinds (magnitude, phase, real or imaginary part)",
}


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: where it is in its file, and what its header says of it.

    Parameters
    ----------
    path : Path
    number : int
        Of the frame in its file, from 0.
    size : (columns, rows)
    position : ndarray, shape (3,)
        Of the first voxel, LPS mm.
    axes : ndarray, shape (2, 3)
        Directions of a row's and of a column's run, LPS.
    spacing : (along a row, along a column)
        mm.
    scale : (slope, intercept)
    stacked_at : int
        Number of the slice in its stack, by the file; 0 where it does not say.
    marks : dict
        Values of what `DIFFERENCES` names, as far as the file says them.
    """

    path: Path
    number: int
    size: tuple[int, int]
    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    spacing: tuple[float, float]
    scale: tuple[float, float]
    stacked_at: int
    marks: dict[str, str]

    @property
    def shape(self) -> tuple:
        """Size, voxel and orientation, rounded: nearly alike for the frames of one volume."""
        return self.size, tuple(np.round(self.spacing, 3)), tuple(np.round(self.axes, 2).ravel() + 0.0)

    def is_like(self, other: Frame) -> bool:
        """Whether size, voxel and orientation are those of another frame, but for the rounding of headers."""
        return (
            self.size == other.size
            and bool(np.abs(np.subtract(self.spacing, other.spacing)).max() <= SAME_SPACING)
            and bool(np.abs(self.axes - other.axes).max() <= SAME_AXES)
        )

    def is_in_line_with(self, other: Frame) -> bool:
        """Whether it lies before or behind another frame, turned in its plane or not, as a slice of its volume does.

        Its first voxel lies there, or all of it does.
        """
        normal = np.cross(*other.axes)

        def is_beside(away: NDArray[np.float64]) -> bool:
            return bool(np.linalg.norm(away - away @ normal * normal) < IN_LINE)

        edges, edges_of_other = (np.sort(np.multiply(one.size, one.spacing)) for one in (self, other))
        as_large = np.abs(edges - edges_of_other).max() < IN_LINE
        return bool(abs(np.cross(*self.axes) @ normal) >= 1 - SAME_AXES) and (
            is_beside(self.position - other.position) or bool(as_large and is_beside(self.centre - other.centre))
        )

    @property
    def area(self) -> float:
        """Of the slice, mm^2."""
        return float(np.prod(self.size) * np.prod(self.spacing))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Of the slice, LPS mm."""
        return self.position + (np.array(self.spacing) * (np.array(self.size) - 1) / 2) @ self.axes


@dataclass(frozen=True, eq=False)
class Dataset:
    """One file's header without its voxels."""

    path: Path
    header: Any
    frames: int

    @property
    def series(self) -> str:
        """UID of the series; the file alone where there is none."""
        return str(self.header.get("SeriesInstanceUID", "") or self.path)

    @property
    def is_drawn(self) -> bool:
        """Whether the file is a segmentation or contours, which are read where a mask is wanted."""
        return str(self.header.get("SOPClassUID", "")) in (*SEGMENTATION_CLASSES, STRUCTURE_SET_CLASS)

    @property
    def other_object(self) -> tuple[str, str] | None:
        """What the file is and what to do, where it is no plain image."""
        kind = str(self.header.get("SOPClassUID", ""))
        if kind in OTHER_OBJECTS:
            return OTHER_OBJECTS[kind]
        if not (self.header.get("Rows") and self.header.get("Columns")):
            name = pydicom.uid.UID(kind).name.removesuffix(" Storage") or "object"
            return f"DICOM of another kind ({name})", f"accepted are {ACCEPTED_FORMATS}"
        return None


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, with the usual preamble or without."""
    with open(path, "rb") as file:
        start = file.read(132)
    # Without preamble: a first element of group 0002 or 0008 with a short number, little endian.
    return start[128:] == b"DICM" or (
        start[:2] in (b"\x02\0", b"\x08\0") and start[2:4] in (b"\0\0", b"\5\0", b"\x08\0")
    )


def is_lost(path: Path) -> bool:
    """Whether a file stands where a slice was: empty, a pointer, a link that leads nowhere, or DICOM that is damaged.

    To be asked of what could not be read.
    """
    if path.name.startswith("."):
        return False
    start = b""
    if path.exists():
        with open(path, "rb") as file:
            start = file.read(132)
    ending = path.suffix.lower()
    named_so = ending in SLICE_ENDINGS or not any(one.isalpha() for one in ending)
    return start[128:] == b"DICM" or (named_so and (not start or start.startswith(POINTERS) or is_dicom(path)))


def is_cut_off(kind: str, header: Any) -> bool:
    """Whether a slice's header, of a SOP class by its UID, ends before it says how large it is."""
    return pydicom.uid.UID(kind).name.endswith(("MR Image Storage", "CT Image Storage")) and not header.get("Rows")


def lost_slices(series: Sequence[Path], beside: Sequence[Path], lost: Sequence[Path], role: str) -> list[str]:
    """What is to be said of files that cannot be read and may be slices of a series.

    Parameters
    ----------
    series : sequence of Path
        Its files.
    beside : sequence of Path
        DICOM files of the same folders that are not of the series.
    lost : sequence of Path
    role : str

    Raises
    ------
    InputError
        When they lie where nothing but slices of the series does.
    """
    if not lost:
        return []
    folders = {path.parent for path in series} - {path.parent for path in beside}
    near = [path for path in lost if path.parent in folders] if len(series) > 1 else []
    if near:
        raise InputError(
            f"The {role} series may have lost slices: beside its {len(series)} files lie {len(near)} that {NOT_READ}, "
            f"such as {near[0]}; copy or export the series again, or move away what is not of it."
        )
    return [
        f"{len(lost)} file{'s' * (len(lost) > 1)} in the folder of the {role} {NOT_READ}; if slices of it are among "
        "them, only a part of it was read."
    ]


def deflated_length(path: Path, limit: int) -> int:
    """Bytes that a deflated file unpacks to, counted no further than just beyond a limit; 0 for a file that is not.

    pydicom unpacks such a file whole and without limit, its header alone too.
    """
    with open(path, "rb") as file:
        read_preamble(file, force=True)
        # As pydicom does, which sees by itself where group 2 is written without the kinds of its values.
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
        if meta.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
            return 0
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        length = 0
        while length <= limit and not unpacker.eof and (block := unpacker.unconsumed_tail or file.read(1 << 16)):
            length += len(unpacker.decompress(block, 1 << 22))
        return length


def read_header(path: Path, tags: list[str]) -> Any:
    """Some elements of a file's header.

    Raises
    ------
    Exception
        Of any kind, when the file cannot be read; `InputError`, when it is deflated and
        unpacks to too much.
    """
    if deflated_length(path, LARGEST_DEFLATED) > LARGEST_DEFLATED:
        raise InputError(f"The DICOM file {path} unpacks to more than {LARGEST_DEFLATED >> 20} MB; export it again.")
    return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)


def read_dicom(path: Path, role: str, *, is_mask: bool = False, references: Sequence[ImageFile] = ()) -> ImageFile:
    """Read the DICOM series in a folder or below it, or the one that a file belongs to.

    Parameters
    ----------
    path : Path
        A folder, or one file of a series; a multi-frame file is read alone.
    role : str
        What the image is for; errors name it.
    is_mask : bool
        See `check_plausible_grid`; a segmentation (SEG) or contours (RTSTRUCT) are then
        read, in a folder the one that is there, whatever images lie beside it.
    references : sequence of ImageFile
        Images that a segmentation may be drawn on.

    Raises
    ------
    InputError
        When there is not exactly one series of images, when it is not one volume whose
        slices are complete, even and at right angles, or when it is no plain image.
    MissingDependencyError
        When it is a segmentation and highdicom is not installed.
    """
    try:
        return _read(path, role, is_mask, references)
    except (TumorQueryError, OSError, MemoryError):
        raise
    except Exception as error:
        # pydicom looks at most of a header only when it is asked for, and raises whatever that leads it to.
        raise InputError(f"The {role} in {path} is damaged DICOM; copy or export it again.") from error


def read_series(paths: Sequence[Path], role: str, *, is_mask: bool = False) -> ImageFile:
    """Read the files of one series, wherever they lie; see `read_dicom`."""
    where = f"folder {os.path.commonpath([path.parent for path in paths])}"
    try:
        files = [one for one in _datasets(paths) if one.other_object is None]
        if len(files) < len(paths):
            raise InputError(
                f"The {role} series in the {where} has {len(paths) - len(files)} files that cannot be read or are no "
                "images; copy or export it again."
            )
        return _read_series(files, role, where, is_mask)
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"The {role} series in the {where} is damaged DICOM; copy or export it again.") from error


def _read(path: Path, role: str, is_mask: bool, references: Sequence[ImageFile]) -> ImageFile:
    """The one series in a folder, or of a file."""
    lost: list[Path] = []
    said: list[str] = []
    if path.is_dir():
        found = list(_datasets(_files_below(path), lost))
        where = f"folder {path}"
        drawn = [one for one in found if one.is_drawn] if is_mask else []
        if len(drawn) > 1:
            listed = "; ".join(
                f"{str(one.header.get('SeriesDescription', '') or 'without description')[:60]} "
                f"({one.path.relative_to(path)})"
                for one in drawn[:8]
            )
            raise InputError(
                f"The {role} {where} holds {len(drawn)} segmentations or sets of contours: {listed}. Name the file "
                "that is meant instead of the folder."
            )
        if drawn:
            return _read_drawn(drawn[0], role, references)
        images = [one for one in found if one.other_object is None]
    else:
        member = next(_datasets([path]), None)
        if member is None:
            raise InputError(f"The {role} file {path} is damaged DICOM; copy or export it again.")
        if member.is_drawn and is_mask:
            return _read_drawn(member, role, references)
        if member.other_object is not None:
            what, remedy = member.other_object
            raise InputError(f"The {role} file {path} holds {what}, which is not read; {remedy}.")
        found = list(_datasets(sorted(one for one in path.parent.iterdir() if is_file_or_link(one)), lost))
        where = f"file {path}"
        images = [one for one in found if one.series == member.series and one.other_object is None]
        images = _series_of_file(member, images, role, said)
        for folder in sorted({one.path.parent for one in images} - {path.parent}):
            found += _datasets(sorted(one for one in folder.iterdir() if is_file_or_link(one)), lost)
    if not images:
        others = Counter(other for one in found if (other := one.other_object) is not None)
        if not others:
            raise InputError(f"The {role} {where} holds no DICOM series; accepted are {ACCEPTED_FORMATS}.")
        what, remedy = others.most_common(1)[0][0]
        raise InputError(f"The {role} {where} holds {what}, which is not read; {remedy}.")
    series: dict[str, list[Dataset]] = {}
    for one in images:
        series.setdefault(one.series, []).append(one)
    if len(series) > 1:
        described = [
            f"{str(files[0].header.get('SeriesDescription', '') or 'without description')[:60]} "
            f"({len(files)} file{'s' * (len(files) > 1)}, such as {files[0].path.relative_to(path)})"
            for files in series.values()
        ]
        raise InputError(
            f"The {role} {where} holds {len(series)} DICOM series: {'; '.join(sorted(described))}. Name one file of "
            "the series that is meant instead of the folder (of a series in several folders that do not lie side by "
            "side, copy the files into one)."
        )
    (files,) = series.values()
    names = {one.path for one in files}
    said += lost_slices(list(names), [one.path for one in found if one.path not in names], lost, role)
    return _read_series(files, role, where, is_mask, said)


def is_file_or_link(path: Path) -> bool:
    """Whether there is a regular file, or a link that leads nowhere, or where it may not be followed."""
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _series_of_file(member: Dataset, beside: list[Dataset], role: str, said: list[str]) -> list[Dataset]:
    """The files of the series that a file belongs to: a multi-frame file alone or the slices beside it, and what of
    it lies at other places in the same folder, the folders below and those beside it; adds to what is to be `said`.
    """
    own = [one for one in beside if one.path == member.path or member.frames == one.frames == 1]
    folder = member.path.absolute().parent
    more = [one for one in beside if one not in own]
    closed: list[Path] = []
    around = [one for place in (folder, folder.parent) for one in entries_of(place, closed.append)]
    folders = [one for one in around if one != folder and os.path.isdir(one)]
    paths = [path for one in folders for path in entries_of(one, closed.append) if os.path.isfile(path)]
    if any(one.parent == folder for one in closed):
        said.append(f"A folder in the {role}'s may not be read, so slices of it that may lie there are left out.")
    uid = member.series.encode()
    if len(paths) > MOST_FILES:
        said.append(f"The folders beside the {role}'s hold too many files to see whether slices of it lie there.")
        paths = []
    more += _datasets([path for path in paths if _begins_with(path, uid)])
    more = [one for one in more if one.series == member.series and one.other_object is None]
    if not more:
        return own
    # Copies, and other volumes of a series that was parted by hand, are not what was named.
    taken = {tuple(frame.position.round(2)) for one in own for frame in _frames_of(one, role)}
    named = _frames_of(member, role)[0]
    unlike = []
    for one in more:
        try:
            frames = _frames_of(one, role)
        except InputError:
            frames = []
        if not frames or not all(frame.is_like(named) for frame in frames):
            unlike.append(one.path)
            continue
        places = {tuple(frame.position.round(2)) for frame in frames}
        if not places & taken:
            own.append(one)
            taken |= places
    if unlike:
        said.append(
            f"The {role}'s series has {len(unlike)} more files beside it that are no slices like the named one's, such "
            f"as {unlike[0]}; they were left out."
        )
    return own


def _begins_with(path: Path, text: bytes) -> bool:
    """Whether a text stands in the first bytes of a file; cheaper than its header."""
    try:
        # Files without content, as those of the system's own folders, may never end.
        if not path.stat().st_size:
            return False
        with open(path, "rb") as file:
            return text in file.read(HEAD_BYTES)
    except OSError:
        return False


def _read_drawn(file: Dataset, role: str, references: Sequence[ImageFile]) -> ImageFile:
    """A segmentation or contours; of the images that it may be drawn on, those of its own space."""
    is_contours = str(file.header.SOPClassUID) == STRUCTURE_SET_CLASS
    frame = frame_of_contours(file.header) if is_contours else str(file.header.get("FrameOfReferenceUID", "")) or None
    # Images that say that they lie in the same space come before those that say nothing.
    likely = [one for one in references if frame is not None and one.frame_of_reference == frame]
    likely += [one for one in references if one.frame_of_reference is None or frame is None]
    # The series that it names is taken for its own in whatever space it says that it lies (`image_drawn_on`).
    drawn_on = referenced_series(file.header)
    likely += [one for one in references if drawn_on is not None and one.series == drawn_on and one not in likely]
    if is_contours:
        return read_contours(
            file.path, file.header, role, likely, lambda series: _grid_of_series_beside(file.path, series)
        )
    return read_segmentation(file.path, file.header, role, likely)


def _grid_of_series_beside(path: Path, series: str) -> Grid | None:
    """The grid of a series whose files lie beside a file, below that or one folder up; None where there is none."""
    for folder in dict.fromkeys((path.parent, path.absolute().parent.parent)):
        # It was not asked for, and contours can do without it: nothing here is an error.
        try:
            files = list(_datasets([one for one in _files_below(folder) if _series_of(one) == series]))
            if files:
                frames = _frames_of_one_volume(files, "series", f"folder {folder}", [])
                once = {tuple(frame.position.round(2)): frame for frame in frames}
                return _grid_of(_in_order(list(once.values())), "series") if len(once) > 1 else None
        except (InputError, OSError):
            continue
    return None


def _series_of(path: Path) -> str | None:
    """UID of the series that a file belongs to, of which no more is read; None for what is no image in DICOM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if not is_dicom(path):
                return None
            tags = ["SeriesInstanceUID", "Rows"]
            header = read_header(path, tags)
            return str(header.SeriesInstanceUID) if header.get("Rows") else None
        except Exception:
            return None


def _files_below(folder: Path) -> list[Path]:
    """Regular files, and links that lead nowhere, in a folder and below it, in order."""
    files = []
    for below, names in walked(folder, refuse_closed):
        files += [path for name in names if is_file_or_link(path := below / name)]
        if len(files) > MOST_FILES:
            raise InputError(
                f"The folder {folder} holds more than {MOST_FILES:,} files; name the folder of one DICOM series."
            )
    return files


def _datasets(paths: Sequence[Path], lost: list[Path] | None = None) -> Iterator[Dataset]:
    """The files among these that are DICOM, read up to their voxels; those that may have been are added to `lost`."""
    unpacked = 0
    lost = [] if lost is None else lost
    for path in paths:
        # It also warns about oddities that do not matter here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if not path.exists() or not is_dicom(path):
                    lost += [path] if is_lost(path) else []
                    continue
                unpacked += deflated_length(path, LARGEST_DEFLATED - unpacked)
                if unpacked > LARGEST_DEFLATED:
                    raise InputError(
                        f"The DICOM file {path} and those before it are deflated and unpack to more than "
                        f"{LARGEST_DEFLATED >> 20:,} MB; export them without that, or name a folder of one series."
                    )
                header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
                kind = str(header.get("SOPClassUID", "") or header.file_meta.get("MediaStorageSOPClassUID", ""))
                kind = "" if is_cut_off(kind, header) else kind
                frames = int(header.get("NumberOfFrames", 1) or 1)
            except (PermissionError, InputError):
                raise
            except Exception:
                kind, frames = "", 1
        if not kind:
            lost += [path] if is_lost(path) else []
        # A DICOMDIR is a list of files.
        elif kind != "1.2.840.10008.1.3.10":
            yield Dataset(path, header, frames)


def _read_series(files: Sequence[Dataset], role: str, where: str, is_mask: bool, said: Sequence[str] = ()) -> ImageFile:
    """The one volume of a series; `said` are warnings of what was found before."""
    said = list(said)
    frames = _frames_of_one_volume(files, role, where, said)
    check_voxel_count([*frames[0].size, len(frames)], role)
    pixels = {path: _pixels(path, role) for path in dict.fromkeys(frame.path for frame in frames)}
    frames, copies = _without_copies(frames, pixels)
    if copies:
        said.append(f"The {role} series holds {copies} copies of slices; one of each was read.")
    if len(frames) < 2:
        raise InputError(f"The {role} in the {where} is a single DICOM slice; a series of slices is needed.")
    frames = _in_order(frames)
    grid = _grid_of(frames, role)
    check_plausible_grid(grid, role, is_mask=is_mask)
    array = np.stack([_scaled(pixels[frame.path][frame.number], frame.scale).T for frame in frames], axis=-1)
    if array.shape != grid.shape:
        raise InputError(f"The {role} series in the {where} is damaged: its voxels do not fit its header.")
    said += place_warnings(grid, role, said=True)
    used = sorted({frame.path for frame in frames})
    spaces = {str(one.header.get("FrameOfReferenceUID", "")) for one in files if one.path in used} - {""}
    return ImageFile(
        Volume(np.ascontiguousarray(array), grid),
        sha256_of(used),
        warnings=tuple(said),
        frame_of_reference=spaces.pop() if len(spaces) == 1 else None,
        series=str(files[0].header.get("SeriesInstanceUID", "")) or None,
        slices=tuple((frame.path, frame.number) for frame in frames),
    )


def _frames_of_one_volume(files: Sequence[Dataset], role: str, where: str, said: list[str]) -> list[Frame]:
    """The frames of a series but for a localizer's; adds to what is to be `said`."""
    return _main_frames([frame for one in files for frame in _frames_of(one, role)], role, where, said)


def _in_order(frames: Sequence[Frame]) -> list[Frame]:
    """Frames one behind the other along their normal, or against it where the file counts them that way."""
    normal = np.cross(*frames[0].axes)
    ordered = sorted(frames, key=lambda frame: float(frame.position @ normal))
    counted = [frame.stacked_at for frame in ordered]
    if len(set(counted)) == len(counted) and counted == sorted(counted, reverse=True):
        ordered.reverse()
    return ordered


def _grid_of(frames: Sequence[Frame], role: str) -> Grid:
    """The grid of frames in their order.

    Raises `InputError` where they are no even stack at right angles.
    """
    normal = np.cross(*frames[0].axes)
    positions = np.array([frame.position for frame in frames])
    _check_one_volume(frames, positions, role)
    step = float((positions[-1] - positions[0]) @ normal) / (len(frames) - 1)
    expected = positions[0] + normal * step * (len(frames) - 1)
    if np.abs(positions[-1] - expected).max() > 0.5:
        raise InputError(f"The {role} series has slices that are not stacked at right angles; resample it first.")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = frames[0].axes[0] * frames[0].spacing[0], frames[0].axes[1] * frames[0].spacing[1]
    lps[:3, 2], lps[:3, 3] = normal * step, positions[0]
    return Grid((*frames[0].size, len(frames)), LPS_FROM_RAS @ lps)


def _main_frames(frames: list[Frame], role: str, where: str, said: list[str]) -> list[Frame]:
    """The frames without those of a localizer; adds to what is to be `said`.

    Raises `InputError` where the others are more than a localizer, or lie in line with the frames and are no smaller
    than half of them.
    """
    kinds = Counter(frame.shape for frame in frames)
    first = {frame.shape: frame for frame in reversed(frames)}
    # Rounding parts what lies at its edge, so the frames are compared with one of each common kind.
    main = max((first[kind] for kind, _ in kinds.most_common(8)), key=lambda one: sum(map(one.is_like, frames)))
    kept = [frame for frame in frames if frame.is_like(main)]
    others = [frame for frame in frames if not frame.is_like(main)]
    if len(others) > max(3, 0.2 * len(kept)):
        sizes = ", ".join(f"{number} of {size[0]} x {size[1]}" for (size, _, _), number in kinds.most_common(4))
        raise InputError(
            f"The {role} series in the {where} holds slices of {len(kinds)} sizes or orientations ({sizes}), so it is "
            "more than one volume; export the one that is meant."
        )
    in_line = [frame for frame in others if frame.is_in_line_with(main) and frame.area > main.area / 2]
    if in_line:
        raise InputError(
            f"The {role} series in the {where} holds {len(in_line)} of {len(frames)} slices in line with the others "
            f"but of another size, voxel or tilt or turned in their plane, such as {in_line[0].path}; export the "
            "complete series, or one volume of it."
        )
    if others:
        said.append(
            f"The {role} series holds {len(others)} of {len(frames)} slices in another size or orientation (a "
            "localizer); they were left out."
        )
    return kept


def _frames_of(file: Dataset, role: str) -> list[Frame]:
    """The frames of a file, each with its own place where the file has several."""
    header = file.header
    # A palette's voxels are numbers of colours.
    kind = str(header.get("PhotometricInterpretation", "")).upper()
    if int(header.get("SamplesPerPixel", 1) or 1) > 1 or kind.startswith(COLOURS):
        raise InputError(f"The {role} is a colour image; a scalar volume is needed.")
    shared = _first(header, "SharedFunctionalGroupsSequence")
    single = header.get("PerFrameFunctionalGroupsSequence") or []
    if file.frames > 1 and len(single) != file.frames:
        raise InputError(
            f"The {role} file {file.path} holds {file.frames} frames that do not say where they lie; export it as one "
            "file a slice, or as NIfTI."
        )
    return [_frame(file, number, [*single[number : number + 1], shared], role) for number in range(file.frames)]


def _first(dataset: Any, name: str) -> Any:
    """The first item of a sequence; None where there is none."""
    sequence = None if dataset is None else dataset.get(name)
    return sequence[0] if sequence else None


def _frame(file: Dataset, number: int, groups: Sequence[Any], role: str) -> Frame:
    """One frame; `groups` are its own and the shared functional groups."""

    def value(sequence: str, name: str, default: Any = None) -> Any:
        for group in groups:
            item = _first(group, sequence)
            if item is not None and item.get(name) is not None:
                return item.get(name)
        return file.header.get(name, default)

    slice_ = f"slice {file.path}" if file.frames == 1 else f"frame {number + 1} of {file.path}"
    try:
        position = np.array(value("PlanePositionSequence", "ImagePositionPatient"), dtype=float).reshape(3)
        axes = np.array(value("PlaneOrientationSequence", "ImageOrientationPatient"), dtype=float).reshape(2, 3)
        down, right = (float(x) for x in value("PixelMeasuresSequence", "PixelSpacing"))
        scale = tuple(
            float(value("PixelValueTransformationSequence", name, default))
            for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
        )
        size = int(file.header.Columns), int(file.header.Rows)
        stacked_at = int(value("FrameContentSequence", "InStackPositionNumber", 0))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The {role} {slice_} does not say where it lies in space (position, orientation and spacing of its "
            "voxels); export the original images."
        ) from error
    numbers = [*position, *axes.ravel(), down, right, *scale]
    lengths = np.linalg.norm(axes, axis=1)
    if not np.isfinite(numbers).all() or min(down, right) <= 0 or np.abs(lengths - 1).max() > 1e-2:
        raise InputError(f"The {role} {slice_} says a place that cannot be; export it again.")
    along, across = axes / lengths[:, None]
    if abs(along @ across) > 1e-3:
        raise InputError(f"The {role} {slice_} has sheared axes; resample it to a grid with right angles first.")
    across = across - (along @ across) * along
    marks = {
        "stack": value("FrameContentSequence", "StackID"),
        "time": value("FrameContentSequence", "TemporalPositionIndex", file.header.get("TemporalPositionIdentifier")),
        "acquisition": file.header.get("AcquisitionNumber"),
        "echo": value("MREchoSequence", "EffectiveEchoTime", file.header.get("EchoTime")),
        "b": value("MRDiffusionSequence", "DiffusionBValue"),
        "part": value("MRImageFrameTypeSequence", "ComplexImageComponent"),
    }
    return Frame(
        path=file.path,
        number=number,
        size=size,
        position=position,
        axes=np.array([along, across / np.linalg.norm(across)]),
        spacing=(right, down),
        scale=(scale[0] or 1.0, scale[1]),
        stacked_at=stacked_at,
        marks={name: str(mark) for name, mark in marks.items() if mark is not None and str(mark)},
    )


def _without_copies(frames: list[Frame], pixels: dict[Path, NDArray]) -> tuple[list[Frame], int]:
    """The frames without those whose like, voxel for voxel, lies at the same place; and how many were left out."""
    kept: dict[tuple, list[Frame]] = {}
    for frame in frames:
        alike = kept.setdefault(tuple(frame.position.round(2)), [])
        voxels = pixels[frame.path][frame.number]
        if not any(
            frame.scale == other.scale and np.array_equal(voxels, pixels[other.path][other.number]) for other in alike
        ):
            alike.append(frame)
    left = [frame for alike in kept.values() for frame in alike]
    return left, len(frames) - len(left)


def _check_one_volume(frames: Sequence[Frame], positions: NDArray[np.float64], role: str) -> None:
    """Refuse slices that are missing, doubled or of several volumes."""
    places = Counter(map(tuple, positions.round(2)))
    if len(places) < len(frames):
        told = []
        for name, words in DIFFERENCES.items():
            found = sorted({frame.marks[name] for frame in frames if name in frame.marks})
            if 1 < len(found) < len(frames):
                told.append(f"{words} {', '.join(found[:6])}")
        why = f" ({'; '.join(told)})" if told else ""
        raise InputError(
            f"The {role} series holds {max(places.values())} different slices at the same place{why}, so it is more "
            "than one volume; export the one that is meant."
        )
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    # A tenth of a slice is more than scanners' rounding and less than any missing slice.
    if np.abs(steps - np.median(steps, axis=0)).max() > 0.1 * np.median(lengths):
        raise InputError(
            f"The {role} series has slices missing or unevenly spaced ({lengths.min():.3g} to {lengths.max():.3g} mm); "
            "export the complete series."
        )


def _pixels(path: Path, role: str) -> NDArray:
    """Stored values of a file's frames, shape (frames, rows, columns)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
            rle = dataset.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
            deflated = dataset.file_meta.TransferSyntaxUID == pydicom.uid.DeflatedExplicitVRLittleEndian
            array = dataset.pixel_array if not compressed or rle or deflated else _decompressed(path, dataset)
        except MemoryError:
            raise
        except Exception as error:
            raise InputError(
                f"The {role} slice {path} cannot be read: it is truncated, damaged or compressed in an unknown way; "
                "export it again."
            ) from error
    return array if array.ndim == 3 else array[None]


def _decompressed(path: Path, dataset: Any) -> NDArray:
    """Stored values of a file in JPEG or the like, by GDCM, whose scale is taken back."""
    import SimpleITK as sitk

    with quiet_itk():
        array = sitk.GetArrayFromImage(sitk.ReadImage(itk_name(path), imageIO="GDCMImageIO"))
    slope, intercept = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        groups = [
            item
            for group in (
                _first(dataset, "SharedFunctionalGroupsSequence"),
                *(dataset.get("PerFrameFunctionalGroupsSequence") or []),
            )
            if (item := _first(group, "PixelValueTransformationSequence")) is not None
        ]
        scales = {(float(item.RescaleSlope), float(item.RescaleIntercept)) for item in groups}
        if len(scales) > 1:
            raise ValueError("frames scaled each in its own way can be told apart only uncompressed")
        slope, intercept = next(iter(scales), (1.0, 0.0))
    return np.rint((array - intercept) / slope).astype(np.int32)


def _scaled(array: NDArray, scale: tuple[float, float]) -> NDArray:
    """Stored values as the header scales them; as they are where it does not."""
    return array if scale == (1.0, 0.0) else (array.astype(np.float64) * scale[0] + scale[1]).astype(np.float32)
