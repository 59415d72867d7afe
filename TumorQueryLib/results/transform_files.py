"""Transforms in ITK's HDF5 files, written by ITK and read without it.

ITK's reader can crash or read for ever on a damaged file. The files written here hold affine
transforms and displacement fields, alone or one after the other; such are rebuilt from the
file's plain tables of numbers, each looked at before it is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError, OutputError
from TumorQueryLib.base.files import itk_name

#: Transforms in a row that a file may hold, and voxels of a displacement field.
MOST_TRANSFORMS = 8
MOST_VOXELS = 2**29


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Write a transform such that SimpleITK and 3D Slicer read it, into an existing folder.

    The same transform gives the same bytes: of what ITK writes, the times and the name of the system are left out.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    aside = path.with_name(f"itk-{path.name}")
    try:
        sitk.WriteTransform(transform, itk_name(aside))
        with h5py.File(aside, "r") as written, h5py.File(path, "w", libver=("earliest", "v110")) as file:

            def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
                if isinstance(item, h5py.Dataset) and name not in ("OSName", "OSVersion"):
                    file.create_dataset(name, data=item[()], dtype=item.dtype, track_times=False)

            written.visititems(copy)
    except (RuntimeError, OSError) as error:
        raise OutputError(
            f"{path} cannot be written: the folder is missing, not writable or the disk is full."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def read_transform(path: Path) -> sitk.Transform:
    """Read a transform that `write_transform` wrote.

    Raises
    ------
    InputError
        When the file is missing or damaged, or holds another kind of transform.
    """
    try:
        with h5py.File(path, "r") as file:
            found = [_parameters(file, number) for number in range(_count(file))]
        if len(found) > 1 and found[0] is None:
            return sitk.CompositeTransform([_transform(parameters) for parameters in found[1:]])
        if len(found) != 1:
            raise ValueError("it holds several transforms")
        return _transform(found[0])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no transform of this software, or is damaged ({reason}).") from error


def _count(file: h5py.File) -> int:
    count = len(_inside(file, "TransformGroup", h5py.Group))
    if not 1 <= count <= MOST_TRANSFORMS:
        raise ValueError(f"it holds {count} transforms")
    return count


def _parameters(file: h5py.File, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Fixed and other parameters of one transform; None for the head of a row of transforms."""
    # TransformType is not read: HDF5 keeps it in a heap whose damage can go unnoticed. The numbers tell the kind.
    group = _inside(_inside(file, "TransformGroup", h5py.Group), str(number), h5py.Group)
    if "TransformParameters" not in group:
        return None
    fixed, parameters = (_numbers(group, name) for name in ("TransformFixedParameters", "TransformParameters"))
    return fixed, parameters


def _numbers(group: h5py.Group, name: str) -> NDArray[np.float64]:
    dataset = _inside(group, name, h5py.Dataset)
    plist = dataset.id.get_create_plist()
    if (
        dataset.ndim != 1
        or dataset.dtype != np.dtype("<f8")
        or plist.get_layout() == h5py.h5d.VIRTUAL
        or plist.get_external_count()
        or plist.get_nfilters()
        or dataset.nbytes > dataset.file.id.get_filesize()
    ):
        raise ValueError(f"its {name} are no plain numbers")
    values = dataset[:]
    if not np.isfinite(values).all():
        raise ValueError(f"its {name} are not finite")
    return values


def _inside(group: h5py.Group, name: str, kind: type) -> Any:
    """A member of a group that lies in the same file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], kind):
        raise ValueError(f"it has no {name}")
    return group[name]


def _transform(found: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> sitk.Transform:
    if found is None:
        raise ValueError("it holds a row of no transforms")
    fixed, parameters = found
    if (len(fixed), len(parameters)) == (3, 12):
        if np.linalg.det(parameters[:9].reshape(3, 3)) == 0:
            raise ValueError("its matrix is singular")
        affine = sitk.AffineTransform(3)
        affine.SetFixedParameters(fixed.tolist())
        affine.SetParameters(parameters.tolist())
        return affine
    size, origin, spacing, direction = fixed[:3], fixed[3:6], fixed[6:9], fixed[9:]
    if len(fixed) != 18 or (size < 1).any() or (size % 1 != 0).any() or size.prod() > MOST_VOXELS:
        raise ValueError("it is neither affine nor a displacement field")
    if len(parameters) != 3 * size.prod() or (spacing <= 0).any() or np.linalg.det(direction.reshape(3, 3)) == 0:
        raise ValueError("its displacement field does not fit its grid")
    shape = (*size[::-1].astype(int).tolist(), 3)
    image = sitk.GetImageFromArray(parameters.reshape(shape), isVector=True)
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.tolist())
    return sitk.DisplacementFieldTransform(image)
