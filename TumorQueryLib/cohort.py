"""Many patients in one go, from a CSV file with a row for each.

Columns: `patient` (a name, unique, also the name of the output folder), `t1gd`, and
as far as they apply `flair`, `t1`, `segmentation`, `core`, `whole`, `labels`,
`brain_mask`. Paths are relative to the CSV file. One patient's failure never stops
the rest; `summary.csv` says what failed and why.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from TumorQueryLib.base.errors import Cancelled, InputError, MissingDependencyError, TumorQueryError
from TumorQueryLib.base.files import output_errors
from TumorQueryLib.base.progress import Progress, no_progress

FILE_COLUMNS = ("t1gd", "flair", "t1", "segmentation", "core", "whole", "brain_mask")
COLUMNS = ("patient", *FILE_COLUMNS, "labels")
SUMMARY_COLUMNS = (
    "patient",
    "status",
    "entry",
    "dice_core",
    "dice_whole",
    "dice_sum",
    "patient_dice_core",
    "patient_dice_whole",
    "infiltration_length_patient_mm",
    "rho_t",
    "seconds",
    "warnings",
    "error",
)


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

    def load(self):
        """The patient, read and checked (see `Patient.load` for what it raises)."""
        from TumorQueryLib.inputs.patient import Patient

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


def infer_row(row: CohortRow, method: dict[str, Any], out: str, progress: Progress = no_progress) -> dict[str, Any]:
    """Infer one patient into the folder `out`/patient; a failure becomes a row, not an exception.

    Returns
    -------
    dict
        A row of summary.csv; status is "done" or "failed".
    """
    from TumorQueryLib.inference import infer_files

    try:
        inference = infer_files(row.files, method, Path(out) / row.patient, progress)
    except Cancelled:
        raise
    except TumorQueryError as error:
        return {"patient": row.patient, "status": "failed", "error": str(error)}
    except Exception as error:
        return {"patient": row.patient, "status": "failed", "error": f"defect: {type(error).__name__}: {error}"}
    best = inference.to_json()["matches"][0]
    space = inference.patient_space
    return {
        "patient": row.patient,
        "status": "done",
        "entry": best["entry"],
        "dice_core": best["dice_core"],
        "dice_whole": best["dice_whole"],
        "dice_sum": best["dice_sum"],
        "patient_dice_core": space["dice_core"],
        "patient_dice_whole": space["dice_whole"],
        "infiltration_length_patient_mm": best["parameters"]["infiltration_length_patient_mm"],
        "rho_t": best["parameters"]["rho_t"],
        "seconds": inference.timings["total"],
        "warnings": " ".join(inference.warnings),
        "error": "",
    }


def run_cohort(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    method: dict[str, Any] | None = None,
    workers: int = 1,
    dask: str | None = None,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Infer every patient of a cohort file.

    Parameters
    ----------
    path : path
        The cohort file.
    out : path
        Gets a folder for each patient, and summary.csv, which grows as patients end.
    method : dict, optional
        Keyword arguments of `infer`: database, strategy, registration, top.
    workers : int
        Patients at a time on this machine; each keeps its own images in memory.
    dask : str, optional
        Address of a Dask scheduler whose workers share the file system; `workers` is
        then the cluster's affair.
    progress : callable

    Returns
    -------
    list of dict
        The rows of summary.csv, in the order of the cohort file.

    Raises
    ------
    InputError
        When the cohort file is not what is accepted.
    OutputError
        When `out` cannot be written.
    """
    rows = read_cohort(path)
    method = dict(method or {})
    out = Path(out).absolute()
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    finished: dict[str, dict[str, Any]] = {}
    progress(0.0, f"0 of {len(rows)} patients")
    ended = (
        _ended_on_dask(rows, method, str(out), dask)
        if dask is not None
        else _ended_on_threads(rows, method, str(out), workers, progress)
    )
    for summary in ended:
        finished[summary["patient"]] = summary
        ordered = [finished[row.patient] for row in rows if row.patient in finished]
        _write_summary(ordered, out / "summary.csv")
        progress(len(finished) / len(rows), f"{len(finished)} of {len(rows)} patients")
    return [finished[row.patient] for row in rows]


def _ended_on_threads(
    rows: list[CohortRow], method: dict[str, Any], out: str, workers: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Rows of the summary as patients end, several patients at a time on this machine."""
    done = 0

    def watched(value: float, message: str) -> None:
        # Only to learn of a cancellation: a patient's own progress is not the cohort's.
        progress(done / len(rows), message)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(infer_row, row, method, out, watched) for row in rows]
        try:
            for future in as_completed(futures):
                done += 1
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _ended_on_dask(rows: list[CohortRow], method: dict[str, Any], out: str, address: str) -> Iterator[dict[str, Any]]:
    """Rows of the summary as patients end, on the workers of a Dask cluster."""
    try:
        from distributed import Client
        from distributed import as_completed as as_completed_on_dask
    except ImportError as error:
        raise MissingDependencyError(
            "Running on a Dask cluster needs the package distributed: pip install 'tumorquery[distributed]'."
        ) from error
    absolute = [CohortRow(row.patient, _with_absolute_paths(row.files)) for row in rows]
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"There is no Dask scheduler at {address}; start one with 'dask scheduler'.") from error
    with client:
        futures = {
            client.submit(infer_row, row, method, out, key=f"tumorquery-{row.patient}", retries=2, pure=False): row
            for row in absolute
        }
        for future in as_completed_on_dask(futures):
            if future.status == "finished":
                yield future.result()
            else:
                lost = f"the worker was lost: {future.exception()}"
                yield {"patient": futures[future].patient, "status": "failed", "error": lost}


def _with_absolute_paths(files: dict[str, str]) -> dict[str, str]:
    """The same files by absolute paths, since workers have working folders of their own."""
    return {name: os.path.abspath(value) if name in FILE_COLUMNS else value for name, value in files.items()}


def _write_summary(rows: list[dict[str, Any]], path: Path) -> None:
    """Write summary.csv aside and rename it, so that it is whole at any moment."""
    with output_errors(path):
        aside = path.with_suffix(".csv.partial")
        with open(aside, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, SUMMARY_COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(aside, path)
