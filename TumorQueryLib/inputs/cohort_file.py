"""The cohort file: a CSV file with a row for each patient.

Columns: `patient` (a name, unique, also the name of the output folder), `t1gd` or
`study` (a DICOM folder), and as far as they apply `flair`, `t1`, `segmentation`, `core`,
`whole`, `labels`, `brain_mask`, `cavity`, `wm`, `gm`, `csf` (tissue maps), `segmentation_on`. Paths are relative to
the CSV file;
beside a study an image may be the UID or number of one of its series. What spreadsheets make of such a
file is read too: semicolons or tabs, headings with capitals or spaces, empty rows and
columns, UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.files import regular_bytes
from TumorQueryLib.inputs.patient import Patient

MASK_COLUMNS = ("segmentation", "core", "whole", "brain_mask", "cavity")
FILE_COLUMNS = ("t1gd", "flair", "t1", *MASK_COLUMNS, "wm", "gm", "csf", "study")
#: Arguments of `Patient.load` that have another name than their column.
ARGUMENTS = {"wm": "white_matter", "gm": "grey_matter"}
FILE_ARGUMENTS = tuple(ARGUMENTS.get(column, column) for column in FILE_COLUMNS)
COLUMNS = ("patient", *FILE_COLUMNS, "labels", "segmentation_on")
DELIMITERS = ",;\t"

#: What a cohort found in a folder is written to.
COHORT_FILE = "cohort.csv"
#: Files that a cohort writes beside the patients' folders.
RESERVED_NAMES = ("summary.csv", "summary.csv.partial", COHORT_FILE)
#: Names that Windows keeps for devices.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
#: A row needs no more than this; without a limit a stray quotation mark makes one cell of the whole file.
LONGEST_CELL = 4000
LONGEST_NAME = 120
#: Unicode's categories of characters that no cell holds, and of those that no patient's name does.
CONTROL_CATEGORIES = ("Cc", "Zl", "Zp", "Cs")
UNSEEN_CATEGORIES = ("Cf",)


@dataclass(frozen=True)
class CohortRow:
    """One patient of a cohort file.

    Parameters
    ----------
    patient : str
    files : dict
        Arguments of `Patient.load`: paths as strings, `labels` and `segmentation_on`.
    """

    patient: str
    files: dict[str, str]

    def load(self) -> Patient:
        """The patient, read and checked (see `Patient.load` for what it raises)."""
        return Patient.load(**self.files)

    def with_paths(self, changed: Callable[[str], str]) -> CohortRow:
        """The same row with its paths changed; the names of a study's series and words stay."""
        return CohortRow(
            self.patient,
            {
                name: changed(value) if name in FILE_ARGUMENTS and not self._is_series(name) else value
                for name, value in self.files.items()
            },
        )

    def _is_series(self, name: str) -> bool:
        """Whether a value is the UID or the number of a series of the row's study, or says that none is wanted."""
        return (
            "study" in self.files
            and name in ("t1gd", "flair", "t1", "segmentation")
            and re.fullmatch(r"\d+(\.\d+)*|none", self.files[name]) is not None
        )


def read_cohort(path: str | os.PathLike) -> list[CohortRow]:
    """Read a cohort file.

    Raises
    ------
    InputError
        What `read_table` refuses, and a row without `t1gd` and `study`. Files that it names are not looked at here.
    """
    path = Path(path)
    patients = []
    for line, name, values in read_table(path, COLUMNS, (("patient",), ("t1gd", "study"))):
        if not {"t1gd", "study"} & set(values):
            raise InputError(f"Line {line} of {path} (patient {name}) names no t1gd file and no study.")
        files = {ARGUMENTS.get(column, column): value for column, value in values.items()}
        patients.append(CohortRow(name, files).with_paths(lambda value: str(path.parent / value)))
    return patients


def files_of_cohort(path: str | os.PathLike) -> list[str]:
    """A cohort file and what its rows name as files; see `read_cohort` for what it raises."""
    values = [row.files[name] for row in read_cohort(path) for name in FILE_ARGUMENTS if name in row.files]
    return [os.fspath(path), *values]


def read_table(
    path: str | os.PathLike, columns: Sequence[str], needed: Sequence[tuple[str, ...]]
) -> list[tuple[int, str, dict[str, str]]]:
    """Read a CSV file with a row for each patient, in whatever form a spreadsheet gave it.

    Parameters
    ----------
    path : path
    columns : sequence of str
        All that there are; `patient` is one of them.
    needed : sequence of tuple of str
        Columns of which the file needs one of each tuple.

    Returns
    -------
    list of tuple
        Line, patient, and the values of the other columns that are not empty, by column.

    Raises
    ------
    InputError
        When the file cannot be read, has unknown columns or lacks a needed one, has no rows, cells beyond its columns,
        a name that cannot be a folder's, or a patient twice.
    """
    path = Path(path)
    rows = _cells(_text(path), path, columns)
    if not rows:
        raise InputError(f"The cohort file {path} is empty; its first row names the columns {', '.join(columns)}.")
    heading = rows[0][1]
    there = [_column(cell) for cell in heading]
    unknown = [cell.strip() for cell, column in zip(heading, there) if column and column not in columns]
    twice = sorted({column for column in there if column and there.count(column) > 1})
    if unknown or twice or not all(set(one) & set(there) for one in needed):
        wrong = f"; {', '.join(unknown or twice)[:200]} is {'unknown' if unknown else 'there twice'}"
        said = ", ".join(filter(None, there))[:200] or "(none)"
        wanted = [one[0] + (f" (or {', '.join(one[1:])})" if one[1:] else "") for one in needed]
        raise InputError(
            f"The cohort file {path} has the columns {said}{wrong if unknown or twice else ''}; accepted are "
            f"{', '.join(columns)}, of which {', '.join(wanted[:-1])} and {wanted[-1]} are needed."
        )
    patients = [_patient(line, cells, there, path) for line, cells in rows[1:]]
    names = [folded(name) for _, name, _ in patients]
    twice = sorted({name for (_, name, _), folded in zip(patients, names) if names.count(folded) > 1})
    if twice:
        raise InputError(
            f"The cohort file {path} names {', '.join(twice)} more than once (upper and lower case are alike, since "
            "the names become folders); patients have unique names."
        )
    if not patients:
        raise InputError(f"The cohort file {path} has no row below its heading.")
    return patients


def _text(path: Path) -> str:
    """The file's text: UTF-8, or what Excel calls Unicode text."""
    try:
        data = regular_bytes(path)
    except OSError as error:
        raise InputError(f"The cohort file {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"The cohort file {str(path)!r} cannot be read: no file has such a name.") from error
    if data.startswith(b"PK\x03\x04"):
        raise InputError(f"The cohort file {path} is a workbook; save it as 'CSV UTF-8'.")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        # Joined and saved again, a file has its mark more than once.
        text = data.decode("utf-16" if wide else "utf-8-sig").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The cohort file {path} cannot be read: it must be a CSV file in UTF-8 (in Excel: save as 'CSV UTF-8')."
        ) from error
    if "\0" in text[:2]:
        raise InputError(
            f"The cohort file {path} cannot be read: it holds zero bytes, as UTF-16 without its mark does; save it as "
            "'CSV UTF-8'."
        )
    return text


def _cells(text: str, path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line on which it ends."""
    # Rows of nothing but delimiters may stand before the heading.
    filler = {*DELIMITERS, '"'}
    first = next((line for line in text.splitlines() if set("".join(line.split())) - filler), "")
    if first.lower().startswith("sep=") and len(first.strip("\r\n")) <= 5:
        # Excel's own line that names the delimiter.
        delimiter, skipped = first[4:5] or "\t", True
    else:
        delimiter, skipped = max(DELIMITERS, key=lambda one: len(_known(first.split(one), columns))), False
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t")
    rows = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if skipped:
                skipped = False
                continue
            for cell in cells:
                _check_cell(cell, reader.line_num, path)
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num} of {path} cannot be read ({error}); is a quotation mark not closed?"
        ) from error
    return rows


def _check_cell(cell: str, line: int, path: Path) -> None:
    """Refuse cells that no name or path of a file is."""
    if any(unicodedata.category(character) in CONTROL_CATEGORIES for character in cell.strip()):
        raise InputError(
            f"Line {line} of {path} has a cell with a line break or another control character "
            f"({cell.strip()[:40]!r}); is a quotation mark not closed?"
        )
    if len(cell) > LONGEST_CELL:
        raise InputError(
            f"Line {line} of {path} has a cell of {len(cell):,} characters; is a quotation mark not closed?"
        )


def _column(cell: str) -> str:
    """A heading without capitals, spaces and hyphens: "Brain mask" is brain_mask."""
    return "_".join(cell.strip().strip('"').casefold().replace("-", " ").split())


def _known(cells: list[str], columns: Sequence[str]) -> set[str]:
    return {column for cell in cells if (column := _column(cell)) in columns}


def _patient(line: int, cells: list[str], columns: list[str], path: Path) -> tuple[int, str, dict[str, str]]:
    """Line, name and other values of one row."""
    nameless = [
        (number, cell.strip())
        for number, (column, cell) in enumerate(zip(columns + [""] * len(cells), cells), 1)
        if not column and cell.strip()
    ]
    named = [number for number, column in enumerate(columns, 1) if column]
    if nameless and nameless[0][0] < max(named):
        number, cell = nameless[0]
        raise InputError(
            f"Line {line} of {path} has {cell[:60]!r} in column {number}, which has no heading; remove the column (an "
            "index that pandas writes: to_csv(..., index=False)), or name it."
        )
    if nameless:
        raise InputError(
            f"Line {line} of {path} has more cells than the heading has columns ({nameless[0][1][:60]!r} is beyond "
            'them); a cell that holds the delimiter is put in quotes, like "core=1,4/whole=1,2,4".'
        )
    values = {column: cell.strip() for column, cell in zip(columns, cells) if column and cell.strip()}
    name = values.pop("patient", "")
    _check_name(name, line, path)
    return line, name, values


def _check_name(name: str, line: int, path: Path) -> None:
    """Refuse a patient's name that cannot be a folder's, or that a spreadsheet would run from summary.csv."""
    wrong = wrong_name(name)
    if wrong is not None:
        raise InputError(f"Line {line} of {path} has the patient {name[:60]!r}, which {wrong}.")


def wrong_name(name: str) -> str | None:
    """Why a text cannot be a patient's name, to follow "which"; None where it can."""
    if not name or name[0] == "." or name[-1] == "." or any(character in name for character in '/\\:*?"<>|'):
        return "cannot be the name of a folder"
    if len(name.encode("utf-8")) > LONGEST_NAME:
        return f"is too long for the name of a folder; {LONGEST_NAME} bytes are accepted"
    if name[0] in "=+-@":
        return "a spreadsheet would take for a formula; begin it with a letter or a number"
    if folded(name) in RESERVED_NAMES or folded(name).partition(".")[0] in DEVICES:
        return "is the name of a file of the cohort or of a device; choose another name"
    unseen = [one for one in name if unicodedata.category(one) in UNSEEN_CATEGORIES]
    if unseen:
        return f"holds a character that is not seen (U+{ord(unseen[0]):04X}) and would look like another; remove it"
    return None


def folded(name: str) -> str:
    """Alike for names that are one folder on some file systems."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
