"""Many patients in one go. One patient's failure never stops the rest; `summary.csv` says what failed and why."""

from __future__ import annotations

import csv
import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

from TumorQueryLib.base.errors import Cancelled, InputError, MissingDependencyError, TumorQueryError
from TumorQueryLib.base.files import output_errors, replaced_file
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.inputs.cohort_file import FILE_COLUMNS, CohortRow, read_cohort
from TumorQueryLib.jobs import infer_files

SUMMARY_COLUMNS = (
    "patient",
    "status",
    "estimate",
    "dice_core",
    "dice_whole",
    "dice_sum",
    "infiltration_length_patient_mm",
    "rho_t",
    "entry",
    "match_dice_sum",
    "seconds",
    "warnings",
    "error",
)


def summary_row(patient: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The row of summary.csv for a patient that is done.

    Parameters
    ----------
    patient : str
    content : mapping
        What the patient's result.json holds.

    Returns
    -------
    dict
        Dice, length (mm in the patient) and rho T of the chosen estimate, counted on the T1Gd image's grid; of
        several foci the first one's. `entry` and `match_dice_sum` are the best match's, in the atlas.
    """
    estimate = content["estimates"][content["chosen"]]
    best = content["query"]["matches"][0]
    return {
        "patient": patient,
        "status": "done",
        "estimate": content["chosen"],
        **{name: estimate["fit"][name] for name in ("dice_core", "dice_whole", "dice_sum")},
        **{name: estimate["parameters"][0][name] for name in ("infiltration_length_patient_mm", "rho_t")},
        "entry": best["entry"],
        "match_dice_sum": best["dice_sum"],
        "seconds": content["timings_s"]["total"],
        "warnings": " ".join(content["warnings"]),
        "error": "",
    }


def failed_row(patient: str, error: Exception) -> dict[str, Any]:
    """The row of summary.csv for a patient that failed: the sentence of the error, or that it is a defect."""
    sentence = str(error) if isinstance(error, TumorQueryError) else f"defect: {type(error).__name__}: {error}"
    return {"patient": patient, "status": "failed", "error": sentence}


def infer_row(row: CohortRow, method: Method, out: str, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Infer one patient into the folder `out`/patient; a failure becomes a row of summary.csv, not an exception."""
    try:
        result = infer_files(row.files, method, Path(out) / row.patient, progress=progress)
    except Exception as error:
        return failed_row(row.patient, error)
    return summary_row(row.patient, result.to_json())


def run_cohort(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    method: Method | None = None,
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
    method : Method, optional
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
    method = Method() if method is None else method
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
    # Closed at once where this loop is left, so that the patients still running end.
    with closing(ended):
        for summary in ended:
            finished[summary["patient"]] = summary
            ordered = [finished[row.patient] for row in rows if row.patient in finished]
            write_summary(ordered, out / "summary.csv")
            progress(len(finished) / len(rows), f"{len(finished)} of {len(rows)} patients")
    return [finished[row.patient] for row in rows]


def _ended_on_threads(
    rows: list[CohortRow], method: Method, out: str, workers: int, progress: Progress
) -> Generator[dict[str, Any], None, None]:
    """Rows of the summary as patients end, several patients at a time on this machine."""
    done = 0
    halted = Event()

    def watched(value: float, message: str) -> None:
        if halted.is_set():
            raise Cancelled("The cohort was cancelled.")
        # Only to learn of a cancellation: a patient's own progress is not the cohort's.
        progress(done / len(rows), message)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(infer_row, row, method, out, progress=watched) for row in rows]
        try:
            for future in as_completed(futures):
                done += 1
                yield future.result()
        finally:
            halted.set()
            pool.shutdown(cancel_futures=True)


def _ended_on_dask(
    rows: list[CohortRow], method: Method, out: str, address: str
) -> Generator[dict[str, Any], None, None]:
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


def write_summary(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write summary.csv aside and rename it, so that it is whole at any moment."""
    with output_errors(path), replaced_file(path) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, SUMMARY_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
