"""A folder of DICOM as an archive exports it: what its series are, and which would be taken for what.

Only headers are read. `series_kind` says what each series is; here they are read, shown
and chosen from. Nothing is chosen that another series could be as well.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.inputs.dicom.series import is_dicom
from TumorQueryLib.inputs.dicom.series_kind import (
    CERTAIN,
    CONTOURS,
    DERIVED,
    EITHER_T1,
    FLAIR,
    KINDS_BY_CLASS,
    KINDS_BY_MODALITY,
    SEGMENTATION,
    T1,
    T1GD,
    UNCLEAR,
    Kind,
    SeriesHeader,
    classify_series,
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
#: Words of the roles for sentences, with the option that names a series.
#: What stands for a FLAIR or T1 that is to be left out.
NO_SERIES = "none"
ROLE_NAMES = {"t1gd": "T1Gd", "flair": "FLAIR", "t1": "T1", "segmentation": "segmentation"}

TAGS = [
    "SpecificCharacterSet", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality",
    "SeriesNumber", "SeriesDescription", "ProtocolName", "ImageType", "SequenceName", "PulseSequenceName",
    "ScanningSequence", "EchoPulseSequence", "MRAcquisitionType", "VolumetricProperties", "AcquisitionContrast",
    "EchoTime", "RepetitionTime", "InversionTime", "ContrastBolusAgent", "ContrastBolusAgentSequence",
    "ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusIngredient", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionDateTime", "SeriesDate", "SeriesTime", "StudyDate", "ContentDate", "ContentTime", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness",
    "FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence", "SegmentSequence", "StructureSetROISequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class StudySeries:
    """A series of a study folder.

    Parameters
    ----------
    header : SeriesHeader
    kind : Kind
    files : tuple of Path
    date : str
        YYYYMMDD, of the series or else of its study; empty where it is not known.
    frame_of_reference : str
    patient : str
        Only to see whether two series are of one patient; never shown.
    """

    header: SeriesHeader
    kind: Kind
    files: tuple[Path, ...]
    date: str = ""
    frame_of_reference: str = ""
    patient: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The series without the words of its description, which result.json does not keep."""
        return f"series {self.header.number}" if self.header.number is not None else "a series without number"

    @property
    def described(self) -> str:
        """The series as a user finds it again: number, description, plane, date and UID."""
        words = [f'"{shown_text(self.header.description)}"'] if self.header.description else []
        where = f"{self.header.plane or 'no plane'}, {shown_date(self.date)}, UID {self.header.uid}"
        return f"{' '.join([self.name, *words])} ({where})"


@dataclass(frozen=True, eq=False)
class Study(os.PathLike):
    """What a DICOM folder holds.

    Parameters
    ----------
    folder : Path
    series : tuple of StudySeries
        By study, time and number.
    broken : tuple of Path
        Files that begin as DICOM and cannot be read.
    other_files : int
        Files that are no DICOM, or lists of files (DICOMDIR).
    """

    folder: Path
    series: tuple[StudySeries, ...]
    broken: tuple[Path, ...] = ()
    other_files: int = 0

    def __fspath__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True, eq=False)
class Choice:
    """What is taken from a study for what.

    Parameters
    ----------
    files : dict
        Role to what `read_image_file` takes: the files of a series, or a path that the user named.
    series : dict
        Role to the series, where it is one of the study's.
    warnings : tuple of str
        What was taken although it is not certain, and what was left out; without names and paths.
    """

    files: dict[str, Any]
    series: dict[str, StudySeries]
    warnings: tuple[str, ...] = ()


def read_study(folder: str | os.PathLike, *, progress: Progress = no_progress) -> Study:
    """Read the headers of all DICOM files in a folder and below it.

    Parameters
    ----------
    folder : path
        Any layout; names of files do not matter.
    progress : Progress

    Raises
    ------
    InputError
        When there is no such folder, or no DICOM series in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no study folder {folder}; name a folder of DICOM files.")
    paths = list(_files_below(folder))
    broken: list[Path] = []
    # pydicom warns about oddities that do not matter here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts, others = _gathered(paths, broken, progress)
        headers = [part.series_header() for part in parts]
    if not parts:
        why = f"; {len(broken)} files begin as DICOM but cannot be read, such as {broken[0]}" if broken else ""
        raise InputError(f"The folder {folder} holds no DICOM series{why}; name the folder of a DICOM export.")
    series = [
        StudySeries(
            header,
            kind,
            tuple(sorted(part.files)),
            date=header.taken_at[:8] or _date(part.first),
            frame_of_reference=_frame_of_reference(part.first),
            patient=_text(part.first, "PatientID"),
        )
        for part, header, kind in zip(parts, headers, classify_series(headers))
    ]
    earliest = {
        uid: min(one.date for one in series if one.header.study_uid == uid)
        for uid in {one.header.study_uid for one in series}
    }
    series.sort(
        key=lambda one: (
            earliest[one.header.study_uid],
            one.header.study_uid,
            one.header.number if one.header.number is not None else 10**9,
            one.header.taken_at,
            one.header.uid,
        )
    )
    progress(1.0, "Headers read")
    return Study(folder, tuple(series), tuple(broken), others)


def choose_series(
    study: Study,
    *,
    t1gd: str | os.PathLike | None = None,
    flair: str | os.PathLike | None = None,
    t1: str | os.PathLike | None = None,
    segmentation: str | os.PathLike | None = None,
    needs_segmentation: bool = True,
) -> Choice:
    """Take a T1Gd, and as far as there are any FLAIR, T1 and segmentation, from a study.

    Parameters
    ----------
    study : Study
    t1gd, flair, t1, segmentation : optional
        What the user names: the UID of a series, its number where only one has it, or a path; `NO_SERIES`
        leaves FLAIR or T1 out. The others are then taken from the T1Gd's study.
    needs_segmentation : bool
        Whether a segmentation is looked for; not where the user gives masks.

    Raises
    ------
    InputError
        When several series could be meant, or none is known to be the T1Gd; the text names them
        and says what to write.
    """
    given = {"t1gd": t1gd, "flair": flair, "t1": t1, "segmentation": segmentation}
    files: dict[str, Any] = {}
    series: dict[str, StudySeries] = {}
    said: list[str] = []

    def take(role: str, one: StudySeries | Path) -> None:
        if isinstance(one, Path):
            files[role] = one
            return
        series[role] = one
        files[role] = _one_file(one) if one.kind.role in (SEGMENTATION, CONTOURS) else one.files

    for role, value in given.items():
        if value is not None and not (role in ("flair", "t1") and str(value) == NO_SERIES):
            take(role, _named(study, role, value))
    if "t1gd" not in files:
        take("t1gd", _the_t1gd(study, said))
    chosen = series.get("t1gd")
    of_study = [one for one in study.series if chosen is None or one.header.study_uid == chosen.header.study_uid]
    for role, kind in (("flair", FLAIR), ("t1", T1)):
        if role not in files and str(given[role]) != NO_SERIES:
            found = _only(of_study, role, kind, study, said, taken=list(series.values()))
            if found is not None:
                take(role, found)
    if needs_segmentation and "segmentation" not in files:
        series["segmentation"], files["segmentation"] = _the_segmentation(study, of_study)
    for role, one in series.items():
        if chosen is not None and one.header.study_uid != chosen.header.study_uid and role != "segmentation":
            said.append(
                f"The {ROLE_NAMES[role]} ({one.name}) is of another study than the T1Gd "
                f"({shown_date(one.date)}, {shown_date(chosen.date)})."
            )
        if chosen is not None and one.patient != chosen.patient:
            said.append(f"The {ROLE_NAMES[role]} ({one.name}) bears another patient's ID than the T1Gd.")
    return Choice(files, series, tuple(said))


def _the_t1gd(study: Study, said: list[str]) -> StudySeries:
    """The one series that can be the T1Gd."""
    found = [one for one in study.series if one.kind.role == T1GD and one.kind.confidence != UNCLEAR]
    unclear = [one for one in study.series if one.kind.role in (T1GD, EITHER_T1) and one not in found]
    studies = {one.header.study_uid for one in (*found, *unclear)}
    how = "name the one that is meant with --t1gd UID (or its number)"
    if len(studies) > 1:
        raise InputError(
            f"The folder {study.folder} holds {len(studies)} studies with a series that may be the T1Gd: "
            f"{_listed([*found, *unclear])}; {how}, which settles the study."
        )
    if len(found) > 1:
        raise InputError(
            f"The study in {study.folder} holds {len(found)} series that may be the T1Gd: {_listed(found)}; {how}."
        )
    if not found:
        derived = [one for one in study.series if one.kind.role == DERIVED and " of a T1" in one.kind.why]
        plain = [one for one in study.series if one.kind.role == T1]
        candidates = unclear or derived or plain
        listed = f"it may be one of {_listed(candidates)}; {how}" if candidates else "give it with --t1gd F"
        raise InputError(f"No series in {study.folder} is known to be a T1 with contrast; {listed}.")
    (one,) = found
    if one.kind.confidence != CERTAIN:
        if unclear:
            raise InputError(
                f"The study in {study.folder} holds {len(unclear) + 1} series that may be the T1Gd: "
                f"{_listed([one, *unclear])}; {how}."
            )
        said.append(f"{_capital(one.name)} was taken for the T1Gd, which is likely and not certain: {one.kind.why}.")
    if unclear:
        said.append(
            f"{_capital(_names(unclear))} may be T1 with or without contrast and "
            f"{'was' if len(unclear) == 1 else 'were'} left out; {one.name} is the only one known to be a T1Gd."
        )
    return one


def _only(
    series: Sequence[StudySeries],
    role: str,
    kind: str,
    study: Study,
    said: list[str],
    *,
    taken: Sequence[StudySeries],
) -> StudySeries | None:
    """The one series of a kind; None where there is none that is not already taken."""
    found = [one for one in series if one.kind.role == kind and one not in taken]
    unclear = [one for one in found if one.kind.confidence == UNCLEAR]
    found = [one for one in found if one not in unclear]
    if len(found) > 1:
        raise InputError(
            f"The study in {study.folder} holds {len(found)} series that may be the {ROLE_NAMES[role]}: "
            f"{_listed(found)}; name the one that is meant with --{role} UID (or its number), or leave it out "
            f"with --{role} {NO_SERIES}."
        )
    if unclear:
        said.append(
            f"{_capital(_names(unclear))} may be {ROLE_NAMES[role]} and {'was' if len(unclear) == 1 else 'were'} left "
            f"out (--{role} takes it): {unclear[0].kind.why}."
        )
    if not found:
        return None
    (one,) = found
    if one.kind.confidence != CERTAIN:
        said.append(
            f"{_capital(one.name)} was taken for the {ROLE_NAMES[role]}, which is likely and not certain: "
            f"{one.kind.why}."
        )
    return one


def _one_file(series: StudySeries) -> Path:
    """The file of a segmentation that is named by its series."""
    if len(series.files) > 1:
        raise InputError(
            f"The segmentation, {series.described}, has {len(series.files)} files, such as {series.files[0]}; name the "
            "file that is meant with --segmentation F."
        )
    return series.files[0]


def _the_segmentation(study: Study, of_study: Sequence[StudySeries]) -> tuple[StudySeries, Path]:
    """The one file with a segmentation or contours, and its series."""

    def files(series: Sequence[StudySeries]) -> list[tuple[StudySeries, Path]]:
        return [(one, path) for one in series if one.kind.role in (SEGMENTATION, CONTOURS) for path in one.files]

    frames = {one.frame_of_reference for one in of_study if one.kind.role not in (SEGMENTATION, CONTOURS)} - {""}
    # Some tools put what was drawn into a study of its own, in the images' frame of reference.
    found = files(of_study) or files([one for one in study.series if one.frame_of_reference in frames])
    if not found:
        raise InputError(
            f"The study in {study.folder} holds no segmentation of the tumour (SEG or RTSTRUCT); give one with "
            "--segmentation F, or masks with --core and --whole."
        )
    if len(found) > 1:
        listed = ", ".join(f"{one.name} in {path}" for one, path in found[:6]) + (", ..." if len(found) > 6 else "")
        raise InputError(
            f"The study in {study.folder} holds {len(found)} segmentations: {listed}; name the file that is meant with "
            "--segmentation F."
        )
    return found[0]


def _named(study: Study, role: str, value: str | os.PathLike) -> StudySeries | Path:
    """What a user names for a role: a series of the study, or a path beyond it."""
    text = os.fspath(value)
    found = [one for one in study.series if one.header.uid == text]
    if not found and text.isdigit():
        found = [one for one in study.series if str(one.header.number) == text]
    path = Path(text)
    if not found and path.exists():
        if role == "segmentation":
            return path
        real = path.resolve()
        within = [
            one
            for one in study.series
            if any(real == file or real in file.parents for file in (file.resolve() for file in one.files))
        ]
        # A folder beside other kinds of series is what `read_image_file` makes of it.
        found = within if len(within) == 1 else [one for one in within if one.kind.role in (T1GD, T1, EITHER_T1, FLAIR)]
        if not found:
            return path
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"The {ROLE_NAMES[role]} {shown_text(text)} can be {_listed(found)} in {study.folder}; name its UID."
        )
    raise InputError(
        f"The {ROLE_NAMES[role]} {shown_text(text)} is neither a file nor the UID or number of a series in "
        f"{study.folder}; 'tumorquery study' shows what there is."
    )


def _names(series: Sequence[StudySeries]) -> str:
    return " and ".join(one.name for one in series)


def _listed(series: Sequence[StudySeries]) -> str:
    return ", ".join(one.described for one in series[:6]) + (f" and {len(series) - 6} more" if len(series) > 6 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def shown_text(text: str, longest: int = 40) -> str:
    """A header's text on one line, without control characters, cut where it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def shown_date(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if re.fullmatch(r"\d{8}", date) else "no date"


def describe_study(study: Study) -> dict[str, Any]:
    """What a study folder holds, for JSON: the series by study, and what would be taken; no name or ID of a patient."""
    studies: dict[str, dict[str, Any]] = {}
    for one in study.series:
        header = one.header
        entry = studies.setdefault(
            header.study_uid, {"uid": header.study_uid, "date": shown_date(one.date), "series": []}
        )
        entry["series"].append(
            {
                "uid": header.uid,
                "number": header.number,
                "description": shown_text(header.description, 200),
                "date": shown_date(one.date),
                "plane": header.plane or None,
                "images": header.images,
                "voxel_mm": [round(x, 4) for x in header.voxel_mm] or None,
                "taken_for": one.kind.role,
                "confidence": one.kind.confidence,
                "why": one.kind.why,
            }
        )
    taken, said = _proposal(study)
    return {
        "studies": list(studies.values()),
        "chosen": taken,
        "remarks": said,
        "broken_files": [str(path.relative_to(study.folder)) for path in study.broken],
        "other_files": study.other_files,
    }


def _proposal(study: Study) -> tuple[dict[str, str] | None, list[str]]:
    """UIDs by role of what `infer --study` would take, and what there is to say; None where one has to be named."""
    try:
        choice = choose_series(study, needs_segmentation=False)
    except InputError as error:
        return None, [str(error)]
    said = list(choice.warnings)
    try:
        choice = choose_series(study)
    except InputError as error:
        said.append(str(error))
    return {role: one.header.uid for role, one in choice.series.items()}, said


def study_as_text(study: Study) -> str:
    """A table of the series, by study, and what would be taken."""
    head = ("No.", "Description", "Date", "Plane", "Images", "Voxel (mm)", "Taken for", "Sure", "Why")
    rows = [
        (
            "-" if one.header.number is None else str(one.header.number),
            shown_text(one.header.description) or "-",
            shown_date(one.date),
            one.header.plane or "-",
            str(one.header.images),
            " x ".join(f"{x:.3g}" for x in one.header.voxel_mm) or "-",
            one.kind.role,
            one.kind.confidence,
            one.kind.why,
        )
        for one in study.series
    ]
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()

    lines: list[str] = []
    uid = None
    for one, row in zip(study.series, rows):
        if one.header.study_uid != uid:
            uid = one.header.study_uid
            lines += [*([""] if lines else []), f"Study of {shown_date(one.date)}, UID {uid or 'none'}", line(head)]
        lines.append(line(row))
    if study.broken:
        some = ", ".join(str(path.relative_to(study.folder)) for path in study.broken[:4])
        more = ", ..." if len(study.broken) > 4 else ""
        lines += ["", f"{len(study.broken)} files begin as DICOM but cannot be read: {some}{more}"]
    taken, said = _proposal(study)
    lines.append("")
    if taken is not None:
        by_uid = {one.header.uid: one for one in study.series}
        words = ", ".join(f"{by_uid[taken[role]].name} as {name}" for role, name in ROLE_NAMES.items() if role in taken)
        lines.append(f"'tumorquery infer --study' takes {words}.")
    return "\n".join([*lines, *said])


def choice_as_text(choice: Choice) -> str:
    """One line that says what is taken for what."""
    words = []
    for role, name in ROLE_NAMES.items():
        if role in choice.series:
            one = choice.series[role]
            quoted = f' "{shown_text(one.header.description)}"' if one.header.description else ""
            words.append(f"{name}: {one.name}{quoted} of {shown_date(one.date)} ({one.kind.confidence})")
        elif role in choice.files:
            words.append(f"{name}: {choice.files[role]}")
    return f"Taken from the study: {'; '.join(words)}."


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files in a folder and below it, in order."""
    count = 0
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(below, name)
            if path.is_file():
                count += 1
                if count > MOST_FILES:
                    raise InputError(
                        f"The folder {folder} holds more than {MOST_FILES:,} files; name the folder of one patient."
                    )
                yield path


def _gathered(paths: Sequence[Path], broken: list[Path], progress: Progress) -> tuple[list[_Gathered], int]:
    """The DICOM files by series, and how many files are none; those that cannot be read are added to `broken`."""
    gathered: dict[tuple[str, str], _Gathered] = {}
    others = 0
    for number, path in enumerate(paths):
        if number % 50 == 0:
            progress(number / len(paths), f"Reading headers: {number} of {len(paths)} files")
        try:
            header = _header(path)
        except Exception:  # pydicom raises whatever a damaged file leads it to
            broken.append(path)
            continue
        if header is None:
            others += 1
            continue
        uid = _text(header, "SeriesInstanceUID") or str(path)
        key = _text(header, "StudyInstanceUID"), uid
        if key not in gathered:
            gathered[key] = _Gathered(uid, header)
        gathered[key].add(path, header)
    return list(gathered.values()), others


def _header(path: Path) -> Any:
    """What of a file's header is asked for; None for what is no DICOM object or a list of files.

    Raises
    ------
    Exception
        Of any kind, when the file begins as DICOM and cannot be read.
    """
    if not is_dicom(path):
        return None
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=TAGS)
    kind = str(header.get("SOPClassUID", "") or header.file_meta.get("MediaStorageSOPClassUID", ""))
    if kind == DICOMDIR:
        return None
    if not kind:
        raise ValueError("no SOP class")
    int(header.get("NumberOfFrames", 1) or 1)
    return header


def _value(header: Any, name: str) -> Any:
    """A value of a header; None where it is absent or cannot be read."""
    try:
        return header.get(name)
    except Exception:
        return None


def _text(header: Any, name: str) -> str:
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


def _date(header: Any) -> str:
    """Date of a series, or else of its study, YYYYMMDD."""
    for name in ("SeriesDate", "AcquisitionDate", "ContentDate", "StudyDate"):
        digits = _text(header, name).replace(".", "")
        if re.fullmatch(r"\d{8}", digits):
            return digits
    return ""


def _taken_at(header: Any) -> str:
    """Date and time of an image, YYYYMMDDHHMMSS.ffffff; empty where it is not known."""
    both = re.fullmatch(r"(\d{8})(\d{6})(\.\d{1,6})?.*", _text(header, "AcquisitionDateTime"))
    if both:
        return f"{both[1]}{both[2]}.{(both[3] or '.')[1:].ljust(6, '0')}"
    for prefix in ("Acquisition", "Series", "Content"):
        time = re.fullmatch(r"(\d{6})(?:\.(\d{1,6}))?", _text(header, f"{prefix}Time").replace(":", ""))
        if time:
            date = _text(header, f"{prefix}Date").replace(".", "")
            date = date if re.fullmatch(r"\d{8}", date) else _date(header)
            return f"{date}{time[1]}.{(time[2] or '').ljust(6, '0')}" if date else ""
    return ""


def _frame_of_reference(header: Any) -> str:
    uid = _text(header, "FrameOfReferenceUID")
    for item in _items(header, "ReferencedFrameOfReferenceSequence"):
        uid = uid or _text(item, "FrameOfReferenceUID")
    return uid


def _contrast(header: Any, in_frames: Callable[[str, str], Any]) -> bool | None:
    """Whether the contrast tags say that an agent was given; None where they say nothing."""
    administered = str(in_frames("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered") or "").upper()
    if administered in ("YES", "NO"):
        return administered == "YES"
    if _items(header, "ContrastBolusAgentSequence"):
        return True
    agents = [_text(header, name).lower() for name in ("ContrastBolusAgent", "ContrastBolusIngredient")]
    if any(agent and agent not in NO_AGENT for agent in agents):
        return True
    if any(agents):
        return False
    if any((_number(header, name) or 0) > 0 for name in ("ContrastBolusVolume", "ContrastBolusTotalDose")):
        return True
    return None


class _Gathered:
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
            _text(header, "Modality") in KINDS_BY_MODALITY
            or KINDS_BY_CLASS.get(_text(header, "SOPClassUID")) is not None
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

        names = [_text(item, "SegmentLabel") for item in _items(first, "SegmentSequence")]
        names += [_text(item, "ROIName") for item in _items(first, "StructureSetROISequence")]
        number_of_series = _number(first, "SeriesNumber")
        return SeriesHeader(
            uid=self.uid,
            study_uid=_text(first, "StudyInstanceUID"),
            sop_class=_text(first, "SOPClassUID"),
            modality=_text(first, "Modality"),
            number=None if number_of_series is None else int(number_of_series),
            description=_text(first, "SeriesDescription"),
            protocol=_text(first, "ProtocolName"),
            image_type=tuple(_text(first, "ImageType").upper().split("\\")),
            sequence_name=_text(first, "SequenceName") or _text(first, "PulseSequenceName"),
            scanning_sequence=_text(first, "ScanningSequence") or _text(first, "EchoPulseSequence"),
            acquisition_type=_text(first, "MRAcquisitionType").upper(),
            acquisition_contrast=_text(first, "AcquisitionContrast").upper(),
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
