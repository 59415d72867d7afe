"""Reading medical image files, with the checks that SimpleITK leaves to its caller.

SimpleITK fills the rest of a truncated NIfTI file with zeros without a word, takes
a header's size at its word, and keeps 4-D files and slices as they are; here such
files end in an `InputError` that says what to do.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.geometry.grid import Grid, Volume, volume_from_image

#: Larger images are no MRI of a head and would exhaust the memory.
LARGEST_VOXEL_COUNT = 512 * 512 * 1024
#: Shortest and longest plausible edge of a voxel, and of the imaged box, in mm.
SPACING_RANGE = (0.05, 20.0)
EXTENT_RANGE = (20.0, 1000.0)

ACCEPTED_FORMATS = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .seg.nrrd), MetaImage (.mha) and a folder with one DICOM series"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What one input file (or DICOM series) holds.

    Parameters
    ----------
    volume : Volume
        The voxels; of a segmentation with several layers, the first layer.
    sha256 : str
        SHA-256 of the file; of a DICOM series, of its files' sums in sorted order.
    segments : tuple of (name, mask)
        The segments of a Slicer segmentation, boolean arrays on the volume's grid;
        empty for any other file.
    warnings : tuple of str
    """

    volume: Volume
    sha256: str
    segments: tuple[tuple[str, NDArray[np.bool_]], ...] = ()
    warnings: tuple[str, ...] = ()


def read_image_file(path: str | Path, role: str) -> ImageFile:
    """Read an image: NIfTI, NRRD, MetaImage, one file or a folder of a DICOM series.

    Of a folder that holds several DICOM series, one is chosen by naming any one of
    its files instead of the folder.

    Parameters
    ----------
    path : str or Path
    role : str
        What the file is for, such as "T1Gd"; errors name it.

    Raises
    ------
    InputError
        When the file is missing, unreadable, truncated, not one three-dimensional
        volume, or of an implausible size.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"The {role} file {path} does not exist.")
    try:
        if path.is_dir():
            return _read_dicom_series(path, None, role)
        return _read_single_file(path, role)
    except PermissionError as error:
        raise InputError(f"The {role} file {path} may not be read: permission denied.") from error
    except (RuntimeError, OSError) as error:
        reason = "its header describes sheared axes, so resample it to a grid with right angles first"
        if "orthonormal" not in str(error):
            reason = f"it is damaged or of another format; accepted are {ACCEPTED_FORMATS}"
        raise InputError(f"The {role} file {path} cannot be read: {reason}.") from error


def check_plausible_grid(grid: Grid, role: str) -> None:
    """Refuse a grid that cannot be an MRI of a head in millimetres.

    Raises
    ------
    InputError
        For slices without a third dimension, and for voxels or boxes so small or
        large that the unit must be another one.
    """
    if min(grid.shape) < 2:
        raise InputError(f"The {role} is a single slice ({_times(grid.shape)} voxels); a volume is needed.")
    if np.prod(grid.shape, dtype=float) > LARGEST_VOXEL_COUNT:
        raise InputError(f"The {role} has {_times(grid.shape)} voxels, far more than an MRI of a head; is it damaged?")
    spacing = grid.spacing
    extent = spacing * grid.shape
    if not (
        SPACING_RANGE[0] <= spacing.min()
        and spacing.max() <= SPACING_RANGE[1]
        and EXTENT_RANGE[0] <= extent.min()
        and extent.max() <= EXTENT_RANGE[1]
    ):
        raise InputError(
            f"The {role} has voxels of {_times(spacing)} mm and spans {_times(extent)} mm, which is no head: "
            "its header probably has the wrong unit (metres for millimetres or the reverse); correct the header."
        )


def _times(numbers: Sequence[float] | NDArray) -> str:
    return " x ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in np.asarray(numbers).tolist())


def _read_single_file(path: Path, role: str) -> ImageFile:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _quiet_itk():
        reader.ReadImageInformation()
        keys = set(reader.GetMetaDataKeys())
        size = reader.GetSize()
        if "0020|000e" in keys and size[2:3] in ((), (1,)):
            return _read_dicom_series(path.parent, path, role)
        _check_dimension(size, reader.GetNumberOfComponents(), keys, role)
        data = path.read_bytes()
        is_nifti = reader.GetImageIOFromFileName(str(path)) == "NiftiImageIO"
        if is_nifti:
            _check_complete(reader, data, path, role)
        image = reader.Execute()
    # A fourth dimension of length one, which SRI24's T1 has, is dropped.
    if image.GetDimension() == 4:
        image = image[..., 0]
    segments = _slicer_segments(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    volume = volume_from_image(image)
    check_plausible_grid(volume.grid, role)
    warnings = _nifti_warnings(reader, volume.grid, role) if is_nifti else ()
    return ImageFile(volume, hashlib.sha256(data).hexdigest(), segments, warnings)


def _check_dimension(size: Sequence[int], components: int, keys: set[str], role: str) -> None:
    if len(size) < 3:
        raise InputError(f"The {role} is a single slice ({_times(size)} voxels); a volume is needed.")
    if any(n > 1 for n in size[3:]):
        raise InputError(
            f"The {role} holds {int(np.prod(size[3:]))} volumes in one file ({_times(size)}); "
            "save the one that is meant as a file of its own."
        )
    if components > 1 and "Segment0_Name" not in keys:
        raise InputError(
            f"The {role} has {components} values in each voxel (colour or vectors); a scalar volume is needed."
        )
    if np.prod(size, dtype=float) > LARGEST_VOXEL_COUNT:
        raise InputError(f"The {role} has {_times(size)} voxels, far more than an MRI of a head; is it damaged?")


def _check_complete(reader, data: bytes, path: Path, role: str) -> None:
    """Refuse a NIfTI file that is cut off or damaged: ITK would give zeros for what is missing."""
    length = len(data)
    if data[:2] == b"\x1f\x8b":
        try:
            length = len(gzip.decompress(data))
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"The {role} file {path} is truncated or damaged; copy or download it again.") from error
    bits = int(reader.GetMetaData("bitpix")) * int(np.prod(reader.GetSize()))
    # A header of its own (.hdr beside .img) has no voxels behind it.
    if path.suffix != ".hdr" and length < float(reader.GetMetaData("vox_offset")) + bits / 8:
        raise InputError(f"The {role} file {path} is truncated; copy or download it again.")


def _nifti_warnings(reader, grid: Grid, role: str) -> tuple[str, ...]:
    """What a NIfTI header leaves open about the place of the voxels: it can hold none or two."""
    if all(reader.GetMetaData(key) == "0" for key in ("qform_code", "sform_code")):
        return (f"The {role} file's header does not say where its voxels lie in space; their place is a guess.",)
    if reader.GetMetaData("sform_code") == "0":
        return ()
    millimetres = {1: 1000.0, 3: 0.001}.get(int(reader.GetMetaData("xyzt_units")) & 7, 1.0)
    sform = np.array([reader.GetMetaData(f"srow_{axis}").split() for axis in "xyz"], dtype=float) * millimetres
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    distance = float(np.abs(corners @ sform[:, :3].T + sform[:, 3] - grid.to_ras(corners)).max())
    if distance < 1:
        return ()
    return (
        f"The {role} file's header describes two places (sform, and qform with voxel sizes) up to {distance:.0f} mm "
        "apart; compare the result with the image in a viewer.",
    )


def _slicer_segments(image) -> tuple[tuple[str, NDArray[np.bool_]], ...]:
    """Segments that a Slicer segmentation file (.seg.nrrd) describes in its header."""
    import SimpleITK as sitk

    array = sitk.GetArrayViewFromImage(image)
    layers = [array] if image.GetNumberOfComponentsPerPixel() == 1 else np.moveaxis(array, -1, 0)
    segments: list[tuple[str, NDArray[np.bool_]]] = []
    while image.HasMetaDataKey(f"Segment{len(segments)}_Name"):
        prefix = f"Segment{len(segments)}_"
        text = {
            key: image.GetMetaData(prefix + key) if image.HasMetaDataKey(prefix + key) else default
            # Files written before Slicer 4.11 hold one segment in each layer, with value 1.
            for key, default in (("Name", ""), ("LabelValue", "1"), ("Layer", str(min(len(segments), len(layers) - 1))))
        }
        try:
            mask = layers[int(text["Layer"])] == int(text["LabelValue"])
        except (ValueError, IndexError) as error:
            raise InputError(
                f"The segmentation's header is damaged: segment {text['Name']!r} is in layer {text['Layer']} with "
                f"value {text['LabelValue']}, and the file has {len(layers)} layers. Save it from Slicer again."
            ) from error
        segments.append((text["Name"], np.ascontiguousarray(mask.transpose(2, 1, 0))))
    return tuple(segments)


def _read_dicom_series(folder: Path, member: Path | None, role: str) -> ImageFile:
    """Read the DICOM series in a folder, or the one that a member file belongs to."""
    import SimpleITK as sitk

    with _quiet_itk():
        series = {
            uid: list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
            for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        }
        if member is not None:
            series = {uid: files for uid, files in series.items() if any(Path(f).name == member.name for f in files)}
        if not series:
            raise InputError(f"The {role} folder {folder} holds no DICOM series; accepted are {ACCEPTED_FORMATS}.")
        if len(series) > 1:
            described = [
                f"{_dicom_text(files[0], '0008|103e') or 'without description'} "
                f"({len(files)} files, such as {Path(files[0]).name})"
                for files in series.values()
            ]
            raise InputError(
                f"The {role} folder {folder} holds {len(series)} DICOM series: {'; '.join(sorted(described))}. "
                "Name one file of the series that is meant instead of the folder."
            )
        (files,) = series.values()
        if len(files) < 2:
            raise InputError(f"The {role} in {folder} is a single DICOM slice; a series of slices is needed.")
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        positions = np.array([_dicom_position(file, role) for file in files])
        _check_even_slices(positions, role)
        image = reader.Execute()
    last = image.TransformIndexToPhysicalPoint((0, 0, len(files) - 1))
    if np.abs(positions[-1] - last).max() > 0.5:
        raise InputError(f"The {role} series has slices that are not stacked at right angles; resample it first.")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"The {role} is a colour image; a scalar volume is needed.")
    volume = volume_from_image(image)
    check_plausible_grid(volume.grid, role)
    sums = sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files)
    return ImageFile(volume, hashlib.sha256("".join(sums).encode()).hexdigest())


def _dicom_text(file: str, tag: str) -> str:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _dicom_position(file: str, role: str) -> list[float]:
    """Image Position (Patient) of a slice, LPS mm."""
    text = _dicom_text(file, "0020|0032")
    try:
        x, y, z = (float(number) for number in text.split("\\"))
    except ValueError as error:
        raise InputError(f"The {role} slice {file} does not say where it lies in space (tag 0020,0032).") from error
    return [x, y, z]


def _check_even_slices(positions: NDArray[np.float64], role: str) -> None:
    """Refuse slices that are missing, doubled or of several volumes: ITK would squeeze them into one."""
    if len(np.unique(positions.round(2), axis=0)) < len(positions):
        raise InputError(
            f"The {role} series holds several slices at the same place, so it is more than one volume; "
            "export the one that is meant."
        )
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    # A tenth of a slice is more than scanners' rounding and less than any missing slice.
    if np.abs(steps - np.median(steps, axis=0)).max() > 0.1 * np.median(lengths):
        raise InputError(
            f"The {role} series has slices missing or unevenly spaced ({lengths.min():.3g} to {lengths.max():.3g} mm); "
            "export the complete series."
        )


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """ITK writes warnings to the console that would stand beside our one sentence."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
