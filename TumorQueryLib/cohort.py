"""Many patients in one go. One patient's failure never stops the rest; `summary.csv` says what failed and why."""

from __future__ import annotations

import csv
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from TumorQueryLib.anatomy.atlas import bundled_atlases
from TumorQueryLib.base.child import Child
from TumorQueryLib.base.errors import InputError, TumorQueryError
from TumorQueryLib.base.files import output_errors, refuse_to_replace, replaced_file
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.parallel import dask_client
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database.store import bundled_databases
from TumorQueryLib.estimates.fit import Fit
from TumorQueryLib.inputs.cohort_file import CohortRow, read_cohort
from TumorQueryLib.results.files import read_result
from TumorQueryLib.results.folder import RESULT_FILE, remove_leftovers
from TumorQueryLib.strategies.base import parse_strategy_options, strategy_info

SUMMARY_FILE = "summary.csv"
REPORT_EVERY = 0.2  # s, between two calls of progress
DASK_POLL = 1.0  # s, between two looks of a task whether its run is being ended
DASK_PATIENCE = 15.0  # s, that the tasks of a run have to end by themselves
RESULT_PATIENCE = "60s"  # for a row to come from its Dask worker
SUMMARY_COLUMNS = (
    "patient",
    "status",
    "estimate",
    "quality",
    "dice_core",
    "dice_whole",
    "dice_sum",
    "residual_rms",
    "infiltration_length_patient_mm",
    "rho_t",
    "length_p05_mm",
    "length_p95_mm",
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
        `estimate` is the chosen one. Dice, residual, length (mm in the patient) and rho T are of the grown tumour
        behind it, counted on the T1Gd image's grid; of several foci the first one's. `quality` is `Fit.quality` of it:
        well, fairly or poorly. The 90 % interval of the length stands there where uncertainty was asked for. `entry`
        and `match_dice_sum` are the best match's, in the atlas.
    """
    estimate = content["estimates"][content["model"]]
    bounds = dict.fromkeys(("length_p05_mm", "length_p95_mm"), "")
    if content["uncertainty"] is not None and content["uncertainty"]["model"] == content["model"]:
        interval = content["uncertainty"]["foci"][0]["infiltration_length_patient_mm"]
        bounds = {"length_p05_mm": interval["p05"], "length_p95_mm": interval["p95"]}
    best = content["query"]["matches"][0]
    return {
        "patient": patient,
        "status": "done",
        "estimate": content["chosen"],
        "quality": Fit.from_json(estimate["fit"]).quality,
        **{name: estimate["fit"][name] for name in ("dice_core", "dice_whole", "dice_sum")},
        "residual_rms": estimate["residual_rms"],
        **{name: estimate["parameters"][0][name] for name in ("infiltration_length_patient_mm", "rho_t")},
        **bounds,
        "entry": best["entry"],
        "match_dice_sum": best["dice_sum"],
        "seconds": content["timings_s"]["total"],
        "warnings": " ".join([*content["warnings"], *(content.get("plan") or {}).get("warnings", [])]),
        "error": "",
    }


def failed_row(patient: str, error: str) -> dict[str, Any]:
    """The row of summary.csv for a patient that failed, with the sentence that says why."""
    return {"patient": patient, "status": "failed", "error": error}


def infer_row(
    row: CohortRow, method: Method, out: str, running: Running | None = None, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Infer one patient in a process of its own, into the folder `out`/patient.

    Parameters
    ----------
    row : CohortRow
    method : Method
    out : path
    running : Running, optional
        Where the process is kept, to be ended from outside.
    progress : Progress

    Returns
    -------
    dict
        The row of summary.csv; a failure becomes one too, a crash inside a library included.
    """
    folder = Path(out) / row.patient
    job = {"command": "infer", "out": str(folder), "arguments": {**row.files, **method.as_json()}}
    # What an earlier run left is none of this one's.
    remove_leftovers(folder)
    before = _written(folder)
    try:
        with Child(job) as child, (Running() if running is None else running).kept(child):
            event = child.wait(progress=progress)
        if event["event"] == "result":
            return summary_row(row.patient, read_result(folder).content)
        remove_leftovers(folder)
        # A process that was ended as its files moved into place may not have said that it was done.
        if event["kind"] in ("crash", "Cancelled") and _written(folder) not in (None, before):
            return summary_row(row.patient, read_result(folder).content)
    except TumorQueryError as error:  # no process could be started, or its result was taken away
        return failed_row(row.patient, str(error))
    return failed_row(row.patient, ("defect: " if event["kind"] == "defect" else "") + event["message"])


def _written(folder: Path) -> tuple[int, int] | None:
    """What tells one result.json of a folder from another; None where there is none."""
    try:
        found = os.stat(folder / RESULT_FILE)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class Running:
    """The processes of a cohort that run now."""

    def __init__(self) -> None:
        self._children: set[Child] = set()
        self._lock = threading.Lock()
        self._ending = False

    @contextmanager
    def kept(self, child: Child) -> Iterator[None]:
        """A block in which a process may be ended by `end`."""
        with self._lock:
            self._children.add(child)
            ending = self._ending
        if ending:
            child.end()
        try:
            yield
        finally:
            with self._lock:
                self._children.discard(child)

    def end(self) -> None:
        """End them all, and whatever is started from now on."""
        with self._lock:
            self._ending = True
            children = list(self._children)
        threads = [threading.Thread(target=child.end) for child in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


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
        Patients at a time on this machine, each in a process of its own.
    dask : str, optional
        Address of a Dask scheduler whose workers share the file system; `workers` is
        then the cluster's affair.
    progress : Progress
        Called every fifth of a second. What it raises, and an interrupt, end the running patients at once, on a Dask
        cluster within a few seconds; the rows of those that are done stand in summary.csv.

    Returns
    -------
    list of dict
        The rows of summary.csv, in the order of the cohort file.

    Raises
    ------
    InputError
        When the cohort file, the strategy with its options, or the number of workers is not what is accepted.
    OutputError
        When `out` cannot be written.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers, the number of patients at a time, is a whole number from 1, not {workers!r}.")
    rows = read_cohort(path)
    method = Method() if method is None else method
    parse_strategy_options(method.strategy, method.strategy_options)
    out = Path(out).absolute()
    refuse_foreign_summary(out / SUMMARY_FILE, Path(path))
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    finished: dict[str, dict[str, Any]] = {}

    def record(summary: dict[str, Any]) -> None:
        finished[summary["patient"]] = summary
        ordered = [finished[row.patient] for row in rows if row.patient in finished]
        write_summary(ordered, out / SUMMARY_FILE)

    progress(0.0, f"0 of {len(rows)} patients")
    if dask is None:
        _infer_in_children(rows, method, str(out), workers, record, progress=progress)
    else:
        for summary in _ended_on_dask(rows, method, str(out), dask, progress):
            record(summary)
    progress(1.0, f"{len(rows)} of {len(rows)} patients")
    return [finished[row.patient] for row in rows]


def _infer_in_children(
    rows: list[CohortRow],
    method: Method,
    out: str,
    workers: int,
    record: Callable[[dict[str, Any]], None],
    *,
    progress: Progress,
) -> None:
    """Infer several patients at a time on this machine; `record` gets the summary's row of each as it ends."""
    shares = dict.fromkeys((row.patient for row in rows), 0.0)
    running = Running()

    def infer(row: CohortRow) -> dict[str, Any]:
        def told(value: float, message: str) -> None:
            shares[row.patient] = value

        return infer_row(row, method, out, running, progress=told)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = {pool.submit(infer, row): row.patient for row in rows}
        try:
            while waiting:
                ended, _ = wait(waiting, timeout=REPORT_EVERY, return_when=FIRST_COMPLETED)
                for future in ended:
                    record(future.result())
                    shares[waiting.pop(future)] = 1.0
                progress(sum(shares.values()) / len(rows), f"{len(rows) - len(waiting)} of {len(rows)} patients")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            running.end()
            _remove_all_leftovers(rows, out)
            # Patients that were done when the end came, and were not looked at any more.
            for future in waiting:
                if not future.cancelled() and future.exception() is None and future.result()["status"] == "done":
                    record(future.result())


def _remove_all_leftovers(rows: list[CohortRow], out: str) -> None:
    for row in rows:
        remove_leftovers(Path(out) / row.patient)


def _ended_on_dask(
    rows: list[CohortRow], method: Method, out: str, address: str, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Rows of the summary as patients end, on the workers of a Dask cluster."""
    with dask_client(address) as client:
        from distributed import Event

        # Others may use the scheduler for patients of the same names.
        run = f"tumorquery-{uuid.uuid4().hex}"
        ending = Event(f"{run}-ending", client=client)
        method = _with_absolute_paths(method)
        futures = {
            client.submit(
                _infer_on_dask,
                row.with_paths(os.path.abspath),  # workers have working folders of their own
                method,
                out,
                ending.name,
                key=f"{run}-{row.patient}",
                retries=2,
                pure=False,
            ): row.patient
            for row in rows
        }
        waiting = set(futures)
        try:
            while waiting:
                # Not distributed.wait: it raises where the scheduler was lost, and would not say whose row that is.
                for future in [future for future in waiting if future.done()]:
                    waiting.discard(future)
                    yield _row_of_dask(future, futures[future])
                done = len(rows) - len(waiting)
                progress(done / len(rows), f"{done} of {len(rows)} patients")
                time.sleep(REPORT_EVERY)
        finally:
            if waiting:
                _end_on_dask(client, ending, waiting)
            _remove_all_leftovers(rows, out)


def _infer_on_dask(row: CohortRow, method: Method, out: str, ending: str) -> dict[str, Any]:
    """`infer_row` in a task of a Dask worker, ended when the event named `ending` is set."""
    from distributed import Event, get_client

    event = Event(ending, client=get_client())
    if event.is_set():
        return failed_row(row.patient, "The run was cancelled.")
    running, done = Running(), threading.Event()

    def watch() -> None:
        while not done.wait(DASK_POLL):
            # A scheduler that does not answer at this moment ends nothing.
            with suppress(Exception):
                if event.is_set():
                    running.end()
                    return

    watcher = threading.Thread(target=watch, daemon=True, name="watch-ending")
    watcher.start()
    try:
        return infer_row(row, method, out, running)
    finally:
        done.set()
        watcher.join()


def _row_of_dask(future: Any, patient: str) -> dict[str, Any]:
    """The row of a patient whose future is done, however it ended."""
    try:
        return future.result(timeout=RESULT_PATIENCE)
    except Exception as error:
        return failed_row(patient, f"The Dask worker was lost: {error or type(error).__name__}")


def _end_on_dask(client: Any, ending: Any, futures: set[Any]) -> None:
    """Have the tasks of a run end by themselves, and take back those that did not begin."""
    # A scheduler that went away has no tasks to end.
    with suppress(Exception):
        ending.set()
        deadline = time.monotonic() + DASK_PATIENCE
        while not all(future.done() for future in futures) and time.monotonic() < deadline:
            time.sleep(REPORT_EVERY)
        ended = all(future.done() for future in futures)
        client.cancel(list(futures), force=True)
        if ended:  # else a task that hangs is to find it still set
            ending.clear()


def refuse_foreign_summary(summary: Path, cohort: Path) -> None:
    """Refuse to write summary.csv over the cohort file itself, or over a file that no run wrote, by `OutputError`."""

    def ours(path: Path) -> bool:
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return file.readline().strip() == ",".join(SUMMARY_COLUMNS)
        except (OSError, UnicodeDecodeError):
            return False

    refuse_to_replace([summary], [cohort], ours)


def _with_absolute_paths(method: Method) -> Method:
    """The same method with its files by absolute paths, since workers have working folders of their own."""
    named = method.atlas in bundled_atlases()
    kinds = {name: option.kind for name, option in strategy_info(method.strategy).options.items()}
    return replace(
        method,
        database=method.database if method.database in bundled_databases() else os.path.abspath(method.database),
        atlas=method.atlas if named or method.atlas is None else os.path.abspath(method.atlas),
        strategy_options={
            name: os.path.abspath(value) if kinds[name] is Path else value
            for name, value in method.strategy_options.items()
        },
    )


def write_summary(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write summary.csv aside and rename it, so that it is whole at any moment."""
    with output_errors(path), replaced_file(path) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, SUMMARY_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
