"""A run: every tumour is made once and looked at by each study, on all cores; finished tumours are kept aside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, InputError, TumorQueryError
from TumorQueryLib.base.files import holds_json, output_errors, refuse_to_replace, staged_folder, write_json
from TumorQueryLib.base.method import DEFAULT_SOLVES, Method
from TumorQueryLib.base.parallel import available_cores, in_order, release_memory
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.version import __version__
from TumorQueryLib.database import TumorDatabase, sample_synthetic
from TumorQueryLib.inputs.cohort_file import CohortRow, files_of_cohort, read_cohort
from TumorQueryLib.inputs.patient import Patient
from TumorQueryLib.registration import register
from TumorQueryLib.strategies import create_strategy
from TumorQueryLib.studies.known_truth.saved_rows import Rows, SavedRows
from TumorQueryLib.studies.known_truth.setting import Conditions, Setting
from TumorQueryLib.studies.known_truth.study import Study
from TumorQueryLib.studies.known_truth.tumour import Tumour
from TumorQueryLib.studies.sample import load_truth, sample_files

ROWS_FILE = "rows.jsonl"
#: In place of a study's name, where a tumour could not be measured.
LEFT_OUT = "left_out"
#: Name of the bundled sample case, whose true density is known too.
SAMPLE = "bundled sample"


def run_studies(
    studies: Sequence[Study],
    database: TumorDatabase,
    out: str | os.PathLike | None = None,
    *,
    conditions: Conditions | None = None,
    cohort: str | os.PathLike | None = None,
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, dict[str, Any]]:
    """Run studies on the same made-up tumours of MNI152, and on real patients.

    Parameters
    ----------
    studies : sequence of Study
        The study of most tumours says how many there are; each looks at the first ones.
    database : TumorDatabase
        In SRI24.
    out : path, optional
        Folder for each study's files. Until all is done the finished tumours are kept there in rows.jsonl, and the
        same call goes on with them.
    conditions : Conditions, optional
    cohort : path, optional
        A CSV file of real patients (see `inputs.cohort_file.read_cohort`), for the studies that take them.
    budget_solves : int
        Of each refinement.
    progress : Progress

    Returns
    -------
    dict
        By the study's name, as its JSON file holds it: the conditions, `count`, `left_out` (tumours that could not be
        measured, and why), what `Study.summarise` makes of the rows, and `cases`, the rows, each with its `tumour`.

    Raises
    ------
    InputError
        When there is no tumour to look at, the cohort file is not accepted, or `out` holds another interrupted run.
    DatabaseError
        When the database is not of SRI24.
    OutputError
        When a study's file would replace a file that is read, or that no run wrote.
    """
    conditions = conditions or Conditions()
    patients = {} if cohort is None else {row.patient: row for row in read_cohort(cohort)}
    if min((study.count for study in studies), default=0) < (0 if patients else 1):
        raise InputError("The studies of known truth need at least one tumour each.")
    if out is not None:
        read = [database.path, *(() if cohort is None else files_of_cohort(cohort))]
        files = [Path(out, f"{study.name}.{ending}") for study in studies for ending in ("json", "csv", "md", "png")]
        refuse_to_replace(files, read, lambda path: holds_json(path.with_suffix(".json"), ("count", LEFT_OUT, "cases")))
    call = {
        "version": __version__,
        "database": database.sha256,
        **asdict(conditions),
        "budget_solves": budget_solves,
        "cohort": list(patients),
        "studies": {study.name: {"count": study.count, **study.choices()} for study in studies},
    }
    with (
        nullcontext() if out is None else staged_folder(out) as stage,
        nullcontext() if out is None else SavedRows(Path(out) / ROWS_FILE, call) as saved,
    ):
        setting = _setting(studies, database, budget_solves, part(progress, 0.0, 0.02))
        makers = _makers(studies, setting, conditions, patients)
        finished = _finished(studies, makers, saved, part(progress, 0.02, 1.0))
        described = {**asdict(conditions), "budget_solves": budget_solves}
        results = {study.name: _result(study, finished, list(makers), described) for study in studies}
        if stage is not None:
            with output_errors(stage.parent):
                for study in studies:
                    write_json(results[study.name], stage / f"{study.name}.json")
                    study.write(results[study.name], stage)
    if saved is not None:
        saved.remove()
    return results


def _setting(studies: Sequence[Study], database: TumorDatabase, solves: int, progress: Progress) -> Setting:
    atlas, anatomy = database.load_atlas(Atlas.load("SRI24")), Atlas.load("MNI152")
    clean = any(study.needs_clean_registration for study in studies)
    return Setting(
        anatomy,
        atlas,
        database,
        create_strategy("direct", database),
        Method(refine_solves=solves),
        register(anatomy.t1, atlas, progress=progress) if clean else None,
    )


Maker = Callable[[Progress], Tumour]


def _makers(
    studies: Sequence[Study], setting: Setting, conditions: Conditions, patients: Mapping[str, CohortRow]
) -> dict[int | str, Maker]:
    """Of every tumour, by number or name; none is made before it is its turn."""
    count = max(study.count for study in studies)
    tumours = sample_synthetic(setting.anatomy, count, random_seed=conditions.random_seed, with_visible_core=True)

    def made_up(number: int, parameters: Any) -> Maker:
        return lambda progress: Tumour.made_up(number, parameters, setting, conditions, progress=progress)

    def real(row: CohortRow) -> Maker:
        return lambda progress: Tumour(row.patient, row.load(), setting, progress=progress)

    def sample(progress: Progress) -> Tumour:
        files: dict[str, Any] = dict(sample_files())
        return Tumour(SAMPLE, Patient.load(**files), setting, true_density=load_truth().density, progress=progress)

    makers: dict[int | str, Maker] = {n: made_up(n, tumour.parameters) for n, tumour in enumerate(tumours)}
    if any(study.takes_patients for study in studies):
        makers |= {name: real(row) for name, row in patients.items()}
    exact = not (conditions.mass_effect or conditions.outline_error_mm)
    if exact and any(study.takes_sample for study in studies):
        makers[SAMPLE] = sample
    return makers


def _finished(
    studies: Sequence[Study], makers: Mapping[int | str, Maker], saved: SavedRows | None, progress: Progress
) -> dict[int | str, Rows]:
    """The rows of all tumours, those of an interrupted run first."""
    finished = {} if saved is None else dict(saved.finished)
    left = [name for name in makers if name not in finished]

    def measure(name: int | str, report: Progress) -> Rows:
        rows = _measure(studies, makers, name, report)
        # One that failed is tried again when the call is repeated.
        if saved is not None and LEFT_OUT not in rows:
            saved.add(name, rows)
        return rows

    for name, rows in zip(left, _on_all_cores(measure, left)):
        finished[name] = rows
        progress(len(finished) / len(makers), f"Tumour {len(finished)} of {len(makers)}")
    return finished


def _looks_at(study: Study, name: int | str) -> bool:
    if isinstance(name, int):
        return name < study.count
    return study.takes_sample if name == SAMPLE else study.takes_patients


def _measure(studies: Sequence[Study], makers: Mapping[int | str, Maker], name: int | str, progress: Progress) -> Rows:
    """Rows by study; under "left_out" the studies that have none, and why."""
    looking = [study for study in studies if _looks_at(study, name)]
    rows: Rows = {}
    left_out = []
    try:
        tumour = makers[name](progress)
    except TumorQueryError as error:
        return {LEFT_OUT: [{"study": study.name, "reason": str(error)} for study in looking]}
    for study in looking:
        try:
            rows[study.name] = study.measure(tumour)
        except TumorQueryError as error:
            left_out.append({"study": study.name, "reason": str(error)})
    release_memory()
    return rows | {LEFT_OUT: left_out} if left_out else rows


def _result(
    study: Study, finished: Mapping[int | str, Rows], order: Sequence[int | str], described: Mapping[str, Any]
) -> dict[str, Any]:
    names = [name for name in order if _looks_at(study, name)]
    rows = [{"tumour": name, **row} for name in names for row in finished[name].get(study.name, [])]
    left_out = {
        str(name): one["reason"]
        for name in names
        for one in finished[name].get(LEFT_OUT, [])
        if one["study"] == study.name
    }
    if not rows:
        raise InputError(f"None of the tumours could be measured: {next(iter(left_out.values()))}")
    return {
        "count": len(names) - len(left_out),
        **described,
        **study.choices(),
        "left_out": left_out,
        **study.summarise(rows),
        "cases": rows,
    }


def _on_all_cores(measure: Callable[[int | str, Progress], Rows], names: Sequence[int | str]) -> Iterator[Rows]:
    """The rows of each tumour in their order; the tumours at work end when the caller does."""
    stopped = Event()

    def stop_here(value: float, message: str) -> None:
        if stopped.is_set():
            raise Cancelled("The run was cancelled.")

    cores = available_cores()
    with ThreadPoolExecutor(cores) as executor:
        try:
            # Some are ahead of the one that is waited for, so that a slow tumour leaves no core idle.
            yield from in_order(executor, lambda n: measure(names[n], stop_here), range(len(names)), 3 * cores)
        finally:
            stopped.set()
