"""Medical image files, told apart by what they hold and not by their names.

Each kind has a reader of its own, which refuses in an `InputError` what is
truncated, damaged, no volume, or lies nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.checks import ACCEPTED_FORMATS, ImageFile, check_plausible_grid, head_of
from TumorQueryLib.inputs.dicom.series import is_dicom, read_dicom, read_series
from TumorQueryLib.inputs.metaimage import is_metaimage, read_metaimage
from TumorQueryLib.inputs.nifti import is_nifti, read_nifti
from TumorQueryLib.inputs.nrrd import is_nrrd, read_nrrd

#: Files that are often given by mistake, by their first bytes (unpacked): what they are, and what to do.
OTHER_FILES = {
    b"version https://git-lfs": ("a pointer of Git LFS and not the image", "fetch the image with 'git lfs pull'"),
    b"/annex/objects": ("a pointer of git-annex and not the image", "fetch the image with 'git annex get'"),
    b"PK\x03\x04": ("a ZIP archive", "unpack it first"),
    b"\x1f\x8b": ("packed with gzip twice, or with gzip and damaged", "unpack it once, or copy it again"),
    b"BZh": ("packed with bzip2", "unpack it first"),
    b"\xfd7zXZ\0": ("packed with xz", "unpack it first"),
    b"\x89PNG": ("a picture (PNG)", "give the volume that it was made from"),
    b"\xff\xd8\xff": ("a picture (JPEG)", "give the volume that it was made from"),
    b"\x89HDF": ("an HDF5 or MINC file", "convert it to NIfTI"),
    b"CDF": ("a MINC file", "convert it to NIfTI"),
    b"\0\0\0\x01\0\0": ("a FreeSurfer file (.mgh, .mgz)", "convert it with 'mri_convert in.mgz out.nii.gz'"),
}
#: Endings of files of voxels alone, and of their headers.
VOXEL_FILES = {(".img", ".img.gz"): ".hdr", (".raw", ".zraw", ".raw.gz", ".raw.bz2"): ".mhd or .nhdr"}


def read_image_file(
    path: str | Path | tuple[Path, ...], role: str, *, is_mask: bool = False, references: Sequence[ImageFile] = ()
) -> ImageFile:
    """Read an image: NIfTI, NRRD, MetaImage, one file or a folder of a DICOM series, a mask from SEG or RTSTRUCT too.

    Of a folder that holds several DICOM series, one is chosen by naming any one of
    its files instead of the folder.

    Parameters
    ----------
    path : str or Path, or tuple of Path
        A tuple holds the files of one DICOM series.
    role : str
        What the file is for, such as "T1Gd"; errors name it.
    is_mask : bool
        Whether the file is a segmentation or mask, which may be cropped to the tumour
        and may be a DICOM segmentation or contours.
    references : sequence of ImageFile
        Images that it may be drawn on: contours are filled on the slices of the one
        they were drawn on.

    Raises
    ------
    InputError
        When the file is missing, unreadable, truncated, not one three-dimensional
        volume, or of an implausible size.
    MissingDependencyError
        When it is a DICOM segmentation and highdicom is not installed.
    """
    if isinstance(path, tuple):
        return _read_series(path, role, is_mask)
    path = Path(path)
    try:
        os.fsencode(path).decode("utf-8")
        mode = path.stat().st_mode
    except UnicodeError as error:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise InputError(f"The name of the {role} file {shown} is not UTF-8; rename it or its folder.") from error
    except PermissionError as error:
        raise InputError(f"The {role} file {path} may not be read: permission denied.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"The {role} file {path} does not exist.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"The {role} {path} is no file (a pipe or a device); accepted are {ACCEPTED_FORMATS}.")
    try:
        file = _read(path, role, is_mask, references)
    except PermissionError as error:
        raise InputError(f"The {role} file {path} may not be read: permission denied.") from error
    except OSError as error:
        raise InputError(f"The {role} file {path} cannot be read: {error.strerror or error}.") from error
    check_plausible_grid(file.volume.grid, role, is_mask=is_mask)
    return file


def _read_series(paths: tuple[Path, ...], role: str, is_mask: bool) -> ImageFile:
    """The files of one DICOM series."""
    try:
        return read_series(paths, role, is_mask=is_mask)
    except OSError as error:
        raise InputError(
            f"The {role} file {error.filename or paths[0]} cannot be read: {error.strerror or error}."
        ) from error


def _read(path: Path, role: str, is_mask: bool, references: Sequence[ImageFile]) -> ImageFile:
    """The file by the reader of its kind."""
    if path.is_dir() or is_dicom(path):
        return read_dicom(path, role, is_mask=is_mask, references=references)
    head = head_of(path)
    if is_nifti(head):
        return read_nifti(path, role)
    if is_nrrd(head) or is_metaimage(head):
        with open(path, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise InputError(f"The {role} file {path} is packed with gzip as a whole; unpack it first.")
        return read_nrrd(path, role) if is_nrrd(head) else read_metaimage(path, role)
    header = _header_beside(path)
    if header is not None:
        return read_nifti(header, role, path)
    if not path.stat().st_size:
        raise InputError(f"The {role} file {path} cannot be read: it is empty; copy or download it again.")
    for start, (what, remedy) in OTHER_FILES.items():
        if head.startswith(start):
            raise InputError(f"The {role} file {path} is {what}; {remedy}.")
    for endings, header_endings in VOXEL_FILES.items():
        if path.name.lower().endswith(endings):
            raise InputError(
                f"The {role} file {path} holds voxels alone; their header ({header_endings}) says what and where they "
                "are, so it has to lie beside them, and is named instead."
            )
    raise InputError(
        f"The {role} file {path} cannot be read: it is damaged or of another format; accepted are {ACCEPTED_FORMATS}."
    )


def _header_beside(path: Path) -> Path | None:
    """The .hdr of an .img or .img.gz."""
    name = path.name.lower()
    if not name.endswith((".img", ".img.gz")):
        return None
    stem = path.name[: name.rindex(".img")]
    for ending in (".hdr", ".hdr.gz", ".HDR", ".HDR.GZ"):
        header = path.with_name(stem + ending)
        if header.is_file() and is_nifti(head_of(header)):
            return header
    return None
