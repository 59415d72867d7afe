"""Cohort files: bytes damaged, cells exchanged, quotation marks left open, other delimiters and encodings.

What is read has to name patients whose folders lie below the output folder, each once.
"""

import csv
import io
import random
from dataclasses import dataclass
from pathlib import Path

from mutations import ODD_VALUES, damaged_bytes

from TumorQueryLib.inputs.cohort_file import COLUMNS, read_cohort

ROWS = [
    ["patient", "t1gd", "flair", "segmentation", "labels"],
    *(
        [f"Patient {n}", f"p{n}/t1gd.nii.gz", f"p{n}/flair.nrrd", f"p{n}/seg.nii", "core=1,4/whole=1,2,4"]
        for n in "123"
    ),
]
CELLS = (
    *(value for value in ODD_VALUES if isinstance(value, str)), *COLUMNS, "Patient 1", "PATIENT 1", "=cmd()", "+1",
    "@x", "..", "summary.csv", "summary.csv.partial", "con", "nul.txt", "a\nb", "a\rb", "\x85", "\u2028", "\u202e",
    "ﬁ", "é", "e\u0301", "sep=;", "x" * 5000, "y" * 200_000,
)  # fmt: skip


@dataclass
class Prepared:
    folder: Path


def prepare(folder: Path) -> Prepared:
    return Prepared(folder)


def written(rows: list[list[str]], generator: random.Random, odd: bool) -> bytes:
    # Writing hundreds of megabytes would take the seconds that reading may take.
    longest = max((sum(map(len, row)) for row in rows), default=0)
    rows = rows[: max(2, 5_000_000 // max(1, longest))]
    file = io.StringIO(newline="")
    delimiter = generator.choice((",", ",", ";", "\t", "|")) if odd else ","
    quoting = generator.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)) if odd else csv.QUOTE_MINIMAL
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(rows)
    text = file.getvalue()
    if odd and generator.random() < 0.2:
        text = generator.choice(("sep=;\n", "\n\n", "\ufeff", "#")) + text
    if odd and generator.random() < 0.2:
        place = generator.randrange(len(text))
        text = text[:place] + '"' + text[place:]
    encoding = generator.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32")) if odd else "utf-8"
    return text.encode(encoding, "backslashreplace")


def attempt(prepared: Prepared, generator: random.Random) -> str:
    path = prepared.folder / "cohort.csv"
    rows = [list(row) for row in ROWS]
    if generator.random() < 0.4:
        path.write_bytes(damaged_bytes(written(rows, generator, False), generator))
    else:
        for _ in range(generator.choice((0, 1, 1, 2, 4))):
            row = generator.choice(rows)
            kind = generator.choice(("cell", "cell", "cell", "add", "drop", "double", "empty", "long"))
            if kind == "cell" and row:
                row[generator.randrange(len(row))] = generator.choice(CELLS)
            elif kind == "add":
                row.append(generator.choice(CELLS))
            elif kind == "drop" and row:
                del row[generator.randrange(len(row))]
            elif kind == "double":
                rows.append(list(row))
            elif kind == "empty":
                row.clear()
            elif kind == "long":
                rows += [list(row) for _ in range(2000)]
        path.write_bytes(written(rows, generator, True))
    found = read_cohort(path)
    names = [row.patient for row in found]
    out = Path("/out")
    if any(Path(out, name).parent != out or name in (".", "..") for name in names):
        return "wrong: a folder elsewhere"
    if len({name.casefold() for name in names}) < len(names):
        return "wrong: a patient twice"
    expected = [row[0] for row in ROWS[1:]]
    return "same" if names == expected else "another cohort, as the file says"
