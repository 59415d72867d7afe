"""The cohort file: a CSV file with a row for each patient.

Columns: `patient` (a name, unique, also the name of the output folder), `t1gd`, and
as far as they apply `flair`, `t1`, `segmentation`, `core`, `whole`, `labels`,
`brain_mask`. Paths are relative to the CSV file.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.inputs.patient import Patient

FILE_COLUMNS = ("t1gd", "flair", "t1", "segmentation", "core", "whole", "brain_mask")
COLUMNS = ("patient", *FILE_COLUMNS, "labels")


@dataclass(frozen=True)
class CohortRow:
    """One patient of a cohort file.

    Parameters
    ----------
    patient : str
    files : dict
        Arguments of `Patient.load`: paths as strings, and `labels`.
    """

    patient: str
    files: dict[str, str]

    def load(self) -> Patient:
        """The patient, read and checked (see `Patient.load` for what it raises)."""
        return Patient.load(**self.files)


def read_cohort(path: str | os.PathLike) -> list[CohortRow]:
    """Read a cohort file.

    Raises
    ------
    InputError
        When the file cannot be read, has unknown columns or no `patient` and `t1gd`, no
        rows, or names a patient twice. Files that it names are not looked at here.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The cohort file {path} cannot be read: it must be a CSV file in UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text))
    columns = list(reader.fieldnames or [])
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or not {"patient", "t1gd"} <= set(columns):
        raise InputError(
            f"The cohort file {path} has the columns {', '.join(columns) or '(none)'}; "
            f"accepted are {', '.join(COLUMNS)}, of which patient and t1gd are needed."
        )
    rows = []
    for line, row in enumerate(reader, start=2):
        name = (row["patient"] or "").strip()
        if not name or name in (".", "..") or any(character in name for character in '/\\:*?"<>|\0'):
            raise InputError(f"Line {line} of {path} has the patient {name!r}, which cannot be the name of a folder.")
        files = {column: value.strip() for column in COLUMNS[1:] if (value := row.get(column)) and value.strip()}
        if "t1gd" not in files:
            raise InputError(f"Line {line} of {path} (patient {name}) names no t1gd file.")
        for column in FILE_COLUMNS:
            if column in files:
                files[column] = str(path.parent / files[column])
        rows.append(CohortRow(name, files))
    names = [row.patient for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"The cohort file {path} names {', '.join(twice)} more than once; patients have unique names.")
    if not rows:
        raise InputError(f"The cohort file {path} has no row below its heading.")
    return rows
