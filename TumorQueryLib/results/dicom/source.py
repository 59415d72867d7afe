"""The T1Gd series that a result was made from: its place, its slices, its patient and study."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.version import __version__
from TumorQueryLib.geometry.grid import Grid, Volume
from TumorQueryLib.inputs.checks import ImageFile
from TumorQueryLib.inputs.dicom.own_objects import MANUFACTURER, MODEL
from TumorQueryLib.inputs.image_files import read_image_file

#: What makes up a patient and a study in DICOM: those that every object has, be it empty, and those that some have.
REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
OPTIONAL = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyDescription", "PatientAge", "PatientSize", "PatientWeight"),
)
#: Voxels of two grids are the same when they lie no further apart than this share of a voxel.
SAME_PLACE = 0.1


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A DICOM series, its slices in the order of its volume.

    Parameters
    ----------
    image : ImageFile
    slices : tuple of (Dataset, int)
        For each slice along the grid's third axis the header of its file and its frame in that, from 0.
    """

    image: ImageFile
    slices: tuple[tuple[Dataset, int], ...]

    @property
    def grid(self) -> Grid:
        """The series' own grid: its third axis runs from slice to slice."""
        return self.image.volume.grid

    @property
    def first(self) -> Dataset:
        """Header of the first slice."""
        return self.slices[0][0]

    @property
    def frame_of_reference(self) -> str:
        """UID of the space that patient and slices lie in."""
        return str(self.image.frame_of_reference)

    @property
    def headers(self) -> list[Dataset]:
        """Headers of the files, each once, in the order of the slices."""
        return list({id(header): header for header, _ in self.slices}.values())

    @cached_property
    def unnamed_headers(self) -> list[Dataset]:
        """The files' headers with patient and study left empty, for tools that take over less than all of it.

        What stands there can be of any kind; it is put into an object as it is by `describe`.
        """
        found = []
        for header in self.headers:
            unnamed = Dataset()
            left_out = {tag_for_keyword(name) for name in ("SpecificCharacterSet", *REQUIRED, *OPTIONAL)}
            unnamed.update({tag: header.get_item(tag) for tag in header.keys() - left_out})
            for name in REQUIRED:
                setattr(unnamed, name, None)
            found.append(unnamed)
        return found

    def describe(self, dataset: Dataset) -> None:
        """Put the series' own patient and study into an object, as they stand there."""
        source = self.first
        dataset.StudyInstanceUID = source.StudyInstanceUID
        for name in ("SpecificCharacterSet", *REQUIRED, *OPTIONAL):
            if name in source:
                dataset[name] = source[name]
            elif name in REQUIRED:
                setattr(dataset, name, None)

    def on_grid(self, volume: Volume) -> NDArray[Any] | None:
        """A volume's voxels in the order of the series' grid; None where they are not the same voxels.

        The two may count along other axes, or from their other ends.
        """
        axes = self.grid.axes_in(volume.grid, SAME_PLACE * float(self.grid.spacing.min()))
        if axes is None:
            return None
        order, signs = axes
        array = volume.array.transpose(order)
        return np.ascontiguousarray(array[tuple(slice(None, None, int(sign)) for sign in signs)])


def read_source_series(series: str | os.PathLike | Sequence[str | os.PathLike]) -> SourceSeries:
    """Read the series of a T1Gd.

    Parameters
    ----------
    series : path, or sequence of path
        Its folder or one of its files; or all of its files.

    Raises
    ------
    InputError
        When it is no DICOM series of one volume, is several multi-frame files, or says no space, study or instances
        that others could refer to.
    """
    given = Path(series) if isinstance(series, (str, os.PathLike)) else tuple(Path(path) for path in series)
    image = read_image_file(given, "T1Gd")
    if not image.slices:
        raise InputError(
            f"The T1Gd {given} is no DICOM series, and DICOM objects belong to a patient's study; give the "
            "folder of the T1Gd's series (--dicom SERIES)."
        )
    headers: dict[Path, Dataset] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in dict.fromkeys(path for path, _ in image.slices):
            headers[path] = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        lacking = [
            name
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
            if not all(header.get(name) for header in headers.values())
        ]
    if lacking or image.frame_of_reference is None:
        said = f"says no {', '.join(lacking)}" if lacking else "lies in more than one frame of reference"
        raise InputError(
            f"The T1Gd series {said}, and nothing can be laid over it in DICOM without; export the original images."
        )
    if len(headers) > 1 and any(int(header.get("NumberOfFrames", 1) or 1) > 1 for header in headers.values()):
        raise InputError(
            f"The T1Gd series is {len(headers)} files, some of which hold several slices (multi-frame), and no "
            "segmentation or map can refer to more than one such file; export the series as one file, or as a file for "
            "each slice."
        )
    return SourceSeries(image, tuple((headers[path], number) for path, number in image.slices))


def equipment() -> dict[str, str]:
    """What wrote an object, as highdicom's constructors and `Dataset.update` name it."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": __version__,
        "device_serial_number": "0",
    }


def new_uid() -> str:
    """A UID that nothing else has (2.25: made of random bits)."""
    return pydicom.uid.generate_uid(prefix=None)


def now() -> tuple[str, str]:
    """Date and time as DICOM writes them."""
    moment = datetime.now()
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
