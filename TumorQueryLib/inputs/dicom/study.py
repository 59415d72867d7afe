"""A folder of DICOM as an archive exports it: its series, and what `series_kind` says that they are.

Only headers are read (`headers`); `choice` takes series for what they are needed for, `study_table` shows them.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.inputs.dicom.headers import (
    date_of,
    files_below,
    frame_of_reference,
    gathered_series,
    shown_text,
    text_of,
)
from TumorQueryLib.inputs.dicom.series import NOT_READ
from TumorQueryLib.inputs.dicom.series_kind import (
    Kind,
    SeriesHeader,
    classify_series,
)


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
        Files that cannot be read and may have been slices: damaged, empty, a link or pointer without its content.
    other_files : int
        Files that are no DICOM, or lists of files (DICOMDIR).
    """

    folder: Path
    series: tuple[StudySeries, ...]
    broken: tuple[Path, ...] = ()
    other_files: int = 0

    def __fspath__(self) -> str:
        return str(self.folder)


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
    if not os.path.isdir(folder):
        raise InputError(f"There is no study folder {folder}; name a folder of DICOM files.")
    paths = list(files_below(folder))
    broken: list[Path] = []
    # pydicom warns about oddities that do not matter here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts, others = gathered_series(paths, broken, progress=progress)
        headers = [part.series_header() for part in parts]
    if not parts:
        why = f"; {len(broken)} files {NOT_READ}, such as {broken[0]}" if broken else ""
        raise InputError(f"The folder {folder} holds no DICOM series{why}; name the folder of a DICOM export.")
    series = [
        StudySeries(
            header,
            kind,
            tuple(sorted(part.files)),
            date=header.taken_at[:8] or date_of(part.first),
            frame_of_reference=frame_of_reference(part.first),
            patient=text_of(part.first, "PatientID"),
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


def shown_date(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if re.fullmatch(r"\d{8}", date) else "no date"
