"""The headers of the DICOM files in a folder, gathered by series: what `series_kind` tells a series by.

Only what is asked for is read, and no pixel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress
from TumorQueryLib.inputs.checks import refuse_closed, walked
from TumorQueryLib.inputs.dicom.series import is_cut_off, is_dicom, is_file_or_link, is_lost, read_header
from TumorQueryLib.inputs.dicom.series_kind import (
    KINDS_BY_CLASS,
    KINDS_BY_MODALITY,
    SeriesHeader,
)

#: Folders with more files than this are no export of one patient.
MOST_FILES = 50_000
DICOMDIR = "1.2.840.10008.1.3.10"
#: cos of the tilt up to which a slice has a plane's name.
TILT = np.cos(np.radians(30.0))
#: What a person means who fills in the contrast agent to say that there was none.
NO_AGENT = {
    *("none", "no", "n", "na", "n/a", "nil", "0", "without", "ohne", "nein", "kein", "sin", "sans", "non"),
    *("no contrast", "sin contraste", "ohne km"),
}

TAGS = [
    "SpecificCharacterSet", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality",
    "SeriesNumber", "SeriesDescription", "ProtocolName", "ImageType", "SequenceName", "PulseSequenceName",
    "ScanningSequence", "EchoPulseSequence", "MRAcquisitionType", "VolumetricProperties", "AcquisitionContrast",
    "EchoTime", "RepetitionTime", "InversionTime", "ContrastBolusAgent", "ContrastBolusAgentSequence",
    "ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusIngredient", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionDateTime", "SeriesDate", "SeriesTime", "StudyDate", "ContentDate", "ContentTime", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness",
    "FrameOfReferenceUID", "Rows", "ReferencedFrameOfReferenceSequence", "SegmentSequence", "StructureSetROISequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files, and links that lead nowhere, in a folder and below it, in order.

    Raises
    ------
    InputError
        When there are too many, or a folder may not be read.
    """
    count = 0
    for below, names in walked(folder, refuse_closed):
        for name in names:
            path = below / name
            if is_file_or_link(path):
                count += 1
                if count > MOST_FILES:
                    raise InputError(
                        f"The folder {folder} holds more than {MOST_FILES:,} files; name the folder of one patient."
                    )
                yield path


def gathered_series(
    paths: Sequence[Path], broken: list[Path], *, progress: Progress
) -> tuple[list[GatheredSeries], int]:
    """The DICOM files by series, and how many files are none; those that cannot be read are added to `broken`."""
    gathered: dict[tuple[str, str], GatheredSeries] = {}
    others = 0
    for number, path in enumerate(paths):
        if number % 50 == 0:
            progress(number / len(paths), f"Reading headers: {number} of {len(paths)} files")
        try:
            header = _header(path)
        except Exception as error:  # pydicom raises whatever a damaged file leads it to
            lost = isinstance(error, PermissionError) or is_lost(path)
            broken += [path] * lost
            others += not lost
            continue
        if header is None:
            others += 1
            continue
        uid = text_of(header, "SeriesInstanceUID") or str(path)
        key = text_of(header, "StudyInstanceUID"), uid
        if key not in gathered:
            gathered[key] = GatheredSeries(uid, header)
        gathered[key].add(path, header)
    return list(gathered.values()), others


def _header(path: Path) -> Any:
    """What of a file's header is asked for; None for what is no DICOM object or a list of files.

    Raises
    ------
    Exception
        Of any kind, when the file begins as DICOM and cannot be read, or its content is lost.
    """
    if not path.exists() or not is_dicom(path):
        if is_lost(path):
            raise ValueError("no content")
        return None
    header = read_header(path, TAGS)
    kind = str(header.get("SOPClassUID", "") or header.file_meta.get("MediaStorageSOPClassUID", ""))
    if kind == DICOMDIR:
        return None
    if not kind or is_cut_off(kind, header):
        raise ValueError("no SOP class, or no image")
    int(header.get("NumberOfFrames", 1) or 1)
    return header


def _value(header: Any, name: str) -> Any:
    """A value of a header; None where it is absent or cannot be read."""
    try:
        return header.get(name)
    except Exception:
        return None


def shown_text(text: str, longest: int = 40) -> str:
    """A header's text on one line, without control characters, cut where it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def text_of(header: Any, name: str) -> str:
    """A text of a header; empty where it is not there."""
    value = _value(header, name)
    if value is None:
        return ""
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        return "\\".join(str(one) for one in value)
    return str(value).strip()


def _number(header: Any, name: str) -> float | None:
    value = _value(header, name)
    if not isinstance(value, str) and hasattr(value, "__getitem__"):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _numbers(header: Any, name: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(one) for one in _value(header, name))
    except (TypeError, ValueError):
        return ()
    return values if len(values) == count and np.isfinite(values).all() else ()


def _items(header: Any, name: str) -> list[Any]:
    value = _value(header, name)
    return list(value) if isinstance(value, pydicom.sequence.Sequence) else []


def date_of(header: Any) -> str:
    """Date of a series, or else of its study, YYYYMMDD."""
    for name in ("SeriesDate", "AcquisitionDate", "ContentDate", "StudyDate"):
        digits = text_of(header, name).replace(".", "")
        if re.fullmatch(r"\d{8}", digits):
            return digits
    return ""


def _taken_at(header: Any) -> str:
    """Date and time of an image, YYYYMMDDHHMMSS.ffffff; empty where it is not known."""
    both = re.fullmatch(r"(\d{8})(\d{6})(\.\d{1,6})?.*", text_of(header, "AcquisitionDateTime"))
    if both:
        return f"{both[1]}{both[2]}.{(both[3] or '.')[1:].ljust(6, '0')}"
    for prefix in ("Acquisition", "Series", "Content"):
        time = re.fullmatch(r"(\d{6})(?:\.(\d{1,6}))?", text_of(header, f"{prefix}Time").replace(":", ""))
        if time:
            date = text_of(header, f"{prefix}Date").replace(".", "")
            date = date if re.fullmatch(r"\d{8}", date) else date_of(header)
            return f"{date}{time[1]}.{(time[2] or '').ljust(6, '0')}" if date else ""
    return ""


def frame_of_reference(header: Any) -> str:
    """The UID of the frame of reference, of what is referenced too; empty where there is none."""
    uid = text_of(header, "FrameOfReferenceUID")
    for item in _items(header, "ReferencedFrameOfReferenceSequence"):
        uid = uid or text_of(item, "FrameOfReferenceUID")
    return uid


def _contrast(header: Any, in_frames: Callable[[str, str], Any]) -> bool | None:
    """Whether the contrast tags say that an agent was given; None where they say nothing."""
    administered = str(in_frames("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered") or "").upper()
    if administered in ("YES", "NO"):
        return administered == "YES"
    if _items(header, "ContrastBolusAgentSequence"):
        return True
    agents = [text_of(header, name).lower() for name in ("ContrastBolusAgent", "ContrastBolusIngredient")]
    if any(agent and agent not in NO_AGENT for agent in agents):
        return True
    if any(agents):
        return False
    if any((_number(header, name) or 0) > 0 for name in ("ContrastBolusVolume", "ContrastBolusTotalDose")):
        return True
    return None


class GatheredSeries:
    """The files of one series while a folder is read."""

    def __init__(self, uid: str, first: Any) -> None:
        self.uid = uid
        self.first = first
        self.files: list[Path] = []
        self.images = 0
        self.times: list[str] = []
        self.positions: list[tuple[float, ...]] = []
        #: Orientations, rounded: how often, and one as it is.
        self.axes: dict[tuple[float, ...], list[tuple[float, ...]]] = {}

    def add(self, path: Path, header: Any) -> None:
        """Take in a file."""
        self.files.append(path)
        frames = int(_number(header, "NumberOfFrames") or 1)
        self.images += frames
        if time := _taken_at(header):
            self.times.append(time)
        if (
            text_of(header, "Modality") in KINDS_BY_MODALITY
            or KINDS_BY_CLASS.get(text_of(header, "SOPClassUID")) is not None
        ):
            return
        each = _items(header, "PerFrameFunctionalGroupsSequence") or [header]
        shared = _items(header, "SharedFunctionalGroupsSequence")
        for group in each:
            where = [group, *shared, header]
            position = _in_groups(where, "PlanePositionSequence", "ImagePositionPatient", 3)
            axes = _in_groups(where, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
            if position:
                self.positions.append(position)
            if axes:
                self.axes.setdefault(tuple(round(x, 1) + 0.0 for x in axes), []).append(axes)

    def series_header(self) -> SeriesHeader:
        """What the series' headers say."""
        first = self.first
        groups = [
            *_items(first, "PerFrameFunctionalGroupsSequence")[:1],
            *_items(first, "SharedFunctionalGroupsSequence"),
        ]

        def in_frames(sequence: str, name: str) -> Any:
            for group in groups:
                for item in _items(group, sequence)[:1]:
                    if (value := _value(item, name)) is not None:
                        return value
            return None

        def number(sequence: str, name: str, plain: str) -> float | None:
            value = in_frames(sequence, name)
            try:
                return float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
            except (TypeError, ValueError, IndexError):
                return _number(first, plain)

        names = [text_of(item, "SegmentLabel") for item in _items(first, "SegmentSequence")]
        names += [text_of(item, "ROIName") for item in _items(first, "StructureSetROISequence")]
        number_of_series = _number(first, "SeriesNumber")
        return SeriesHeader(
            uid=self.uid,
            study_uid=text_of(first, "StudyInstanceUID"),
            sop_class=text_of(first, "SOPClassUID"),
            modality=text_of(first, "Modality"),
            number=None if number_of_series is None else int(number_of_series),
            description=text_of(first, "SeriesDescription"),
            protocol=text_of(first, "ProtocolName"),
            image_type=tuple(text_of(first, "ImageType").upper().split("\\")),
            sequence_name=text_of(first, "SequenceName") or text_of(first, "PulseSequenceName"),
            scanning_sequence=text_of(first, "ScanningSequence") or text_of(first, "EchoPulseSequence"),
            acquisition_type=text_of(first, "MRAcquisitionType").upper(),
            acquisition_contrast=text_of(first, "AcquisitionContrast").upper(),
            echo_time=number("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
            repetition_time=number("MRTimingAndRelatedParametersSequence", "RepetitionTime", "RepetitionTime"),
            inversion_time=number("MRModifierSequence", "InversionTimes", "InversionTime"),
            contrast=_contrast(first, in_frames),
            taken_at=min(self.times, default=""),
            plane=self._plane(),
            images=self.images,
            voxel_mm=self._voxel(groups),
            parts=tuple(shown_text(name) for name in names if name),
        )

    def _plane(self) -> str:
        """The plane of the slices, by the axis that their normal is nearest to."""
        if not self.axes:
            return ""
        most, count = max(self.axes.values(), key=len), sum(map(len, self.axes.values()))
        normal = self._normal(most[0])
        # Slices about one plane, turned a little, are not a localizer; nor are a few others within a series.
        turned = sum(len(axes) for axes in self.axes.values() if abs(normal @ self._normal(axes[0])) < TILT)
        if turned > max(3, 0.2 * len(most)) or (turned and count < 8):
            return "several"
        normal = np.abs(normal)
        axis = int(np.argmax(normal))
        return ("sagittal", "coronal", "axial")[axis] if normal[axis] >= TILT else "oblique"

    @staticmethod
    def _normal(axes: Sequence[float]) -> NDArray[np.float64]:
        normal = np.cross(axes[:3], axes[3:])
        return normal / (np.linalg.norm(normal) or 1.0)

    def _voxel(self, groups: Sequence[Any]) -> tuple[float, ...]:
        """Voxel size in mm: along a row, along a column, from slice to slice."""
        spacing = _in_groups([*groups, self.first], "PixelMeasuresSequence", "PixelSpacing", 2)
        if not spacing:
            return ()
        step = None
        if self.axes and len(self.positions) > 1:
            normal = self._normal(max(self.axes.values(), key=len)[0])
            along = np.unique(np.round(np.array(self.positions) @ normal, 2))
            if len(along) > 1:
                step = float(np.median(np.diff(along)))
        if step is None:
            for name in ("SpacingBetweenSlices", "SliceThickness"):
                step = step or _number(self.first, name)
        down, right = spacing
        return (right, down, step) if step else ()


def _in_groups(groups: Sequence[Any], sequence: str, name: str, count: int) -> tuple[float, ...]:
    """Numbers of the first functional group that has them, or else of the header itself."""
    for group in groups:
        for item in _items(group, sequence)[:1]:
            if numbers := _numbers(item, name, count):
                return numbers
    return _numbers(groups[-1], name, count)
