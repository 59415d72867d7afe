"""The jobs that command line, worker and cohort have done: from file names to files."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import InputError, shown
from TumorQueryLib.base.files import output_errors, staged_folder, write_json
from TumorQueryLib.base.method import Method
from TumorQueryLib.base.plan_choices import PlanChoices
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import timed
from TumorQueryLib.database import build_database, describe_database
from TumorQueryLib.geometry.grid import Volume, read_volume
from TumorQueryLib.growth import simulate
from TumorQueryLib.inference import infer, refuse_tissue_maps_without_effect
from TumorQueryLib.inputs.dicom.choice import Choice, choose_series
from TumorQueryLib.inputs.dicom.study import Study, read_study
from TumorQueryLib.inputs.given_tissue import TISSUE_NAMES
from TumorQueryLib.inputs.patient import Patient, read_mask_file
from TumorQueryLib.registration.stripping import strip_images
from TumorQueryLib.results.dicom.export import check_exportable, export_dicom
from TumorQueryLib.results.files import OUTPUTS, add_plans, read_result, write_result_files, write_volume
from TumorQueryLib.results.folder import RESULT_FILE, finish_leftovers, refuse_inputs_in_export, result_folder
from TumorQueryLib.results.plan import Plans, plan
from TumorQueryLib.results.result import Result
from TumorQueryLib.strategies.base import parse_strategy_options

#: Images that the job "strip" takes, by role, the first one needed; and what it leaves beside them.
STRIPPED_ROLES = ("t1gd", "flair", "t1", "t2")
STRIP_FILE = "strip.json"


def infer_files(
    patient_files: Mapping[str, Any], method: Method, out: str | os.PathLike, *, progress: Progress = no_progress
) -> Result:
    """Load a patient, infer and write the results to a folder.

    The output folder is opened first, so that a folder that cannot be written fails
    before the work and not after it.

    Parameters
    ----------
    patient_files : mapping
        Arguments of `Patient.load`.
    method : Method
    out : path
        Folder of the results.
    progress : Progress

    Raises
    ------
    TumorQueryError
        When the input, the method or the folder is not what is accepted.
    """
    # What can be refused without reading an image is refused first.
    parse_strategy_options(method.strategy, method.strategy_options)
    if any(patient_files.get(name) is not None for name in TISSUE_NAMES):
        refuse_tissue_maps_without_effect(method)
    files = [
        value
        for name, value in patient_files.items()
        if name not in ("labels", "segmentation_on") and value is not None
    ]
    reading: dict[str, float] = {}
    if patient_files.get("study"):
        progress(0.0, "Reading the study")
        with timed(reading, "load"):
            study, choice = _taken_of_study(patient_files)
        patient_files = {**patient_files, "study": study}
        for taken in choice.files.values():
            files += taken if isinstance(taken, tuple) else [taken]
    with result_folder(out, inputs=files) as stage:
        progress(0.0, "Reading the patient's files")
        with timed(reading, "load"):
            patient = Patient.load(**patient_files)
        result = infer(patient, method, progress=part(progress, 0.03, 0.93))
        added = {name: result.timings[name] + reading["load"] for name in ("load", "total")}
        result = replace(result, timings=result.timings | added)
        with output_errors(Path(out)):
            write_result_files(result, stage, progress=part(progress, 0.93, 1.0))
    return result


def series_to_export_to(patient_files: Mapping[str, Any]) -> Any:
    """The T1Gd's DICOM series of an inference whose result is to be exported, as `export_dicom` takes it.

    To be asked before the inference, so that what cannot be exported is refused before the work.

    Parameters
    ----------
    patient_files : mapping
        Arguments of `Patient.load`.

    Raises
    ------
    InputError
        When the T1Gd is no DICOM series.
    MissingDependencyError
        When highdicom is not installed.
    """
    series = patient_files["t1gd"]
    if patient_files.get("study") is not None:
        series = _taken_of_study(patient_files)[1].files["t1gd"]
    check_exportable(series)
    return series


def _taken_of_study(patient_files: Mapping[str, Any]) -> tuple[Study, Choice]:
    """A patient's study, and what `Patient.load` takes from it."""
    study = patient_files["study"]
    study = study if isinstance(study, Study) else read_study(study)
    named = {name: patient_files.get(name) for name in ("t1gd", "flair", "t1", "segmentation")}
    masks = patient_files.get("core") is not None or patient_files.get("whole") is not None
    return study, choose_series(study, **named, needs_segmentation=not masks)


def show_match(
    folder: str | os.PathLike, rank: int, *, atlas: str | None = None, progress: Progress = no_progress
) -> Path:
    """Grow another match of an earlier result and map it to the patient.

    Parameters
    ----------
    folder : path
        Where an earlier `Result.write` put its files.
    rank : int
        0 for the best match.
    atlas : str, optional
        Name or folder of the atlas, where the result's is not bundled.
    progress : Progress

    Returns
    -------
    Path
        `match_<rank>/density.nrrd` below `folder`; rank counts from 0.

    Raises
    ------
    InputError
        When the folder holds no result, the result no such match, or the atlas is another one.
    """
    folder = Path(folder)
    finish_leftovers(folder)
    result = read_result(folder)
    if not 0 <= rank < len(result.matches):
        raise InputError(f"The result in {folder} ranks {len(result.matches)} matches; there is none of rank {rank}.")
    made_in = result.content["database"]
    loaded = Atlas.load(made_in["atlas"] if atlas is None else atlas)
    if loaded.sha256 != made_in["atlas_sha256"]:
        raise InputError(f"The result in {folder} was made in another atlas than this version of {loaded.name}.")
    progress(0.1, f"Growing match {rank + 1}")
    # Results of the time before this was said are of databases of version 1.
    version = made_in.get("solver_version", "1")
    density = Volume(simulate(result.matched_parameters[rank], loaded, solver_version=version), loaded.grid)
    progress(0.6, "Mapping the density to the patient")
    mapped = result.space.in_patient(density, result.density.grid)
    with staged_folder(folder / f"match_{rank}") as stage:
        write_volume(mapped, stage / OUTPUTS["density"])
    progress(1.0, "Done")
    return folder / f"match_{rank}" / OUTPUTS["density"]


def plan_result(
    folder: str | os.PathLike,
    choices: PlanChoices,
    *,
    cavity: str | os.PathLike | None = None,
    progress: Progress = no_progress,
) -> tuple[Plans, Path]:
    """Make the plans of an earlier result and write them beside it, in the place of earlier ones.

    Parameters
    ----------
    folder : path
        Where an earlier `Result.write` put its files.
    choices : PlanChoices
    cavity : path, optional
        Mask of the resection cavity, drawn on the T1Gd; by default the result's own.
    progress : Progress

    Returns
    -------
    plans : Plans
    path : Path
        Of plan.json.

    Raises
    ------
    InputError
        When the folder holds no result, or no such plan can be made.
    OutputError
        When the folder cannot be written, or the cavity is one of its DICOM objects, which go with new plans.
    """
    progress(0.0, "Reading the result")
    refuse_inputs_in_export(folder, [] if cavity is None else [cavity])
    finish_leftovers(Path(folder))
    result = read_result(folder)
    said: list[str] = []
    drawn = None if cavity is None else read_mask_file(os.fspath(cavity), "resection cavity", said, on=result.density)
    plans = plan(result, choices, cavity=drawn, progress=part(progress, 0.1, 0.8))
    plans = replace(plans, warnings=(*said, *plans.warnings))
    progress(0.8, "Writing the plans")
    return plans, add_plans(plans, result)


def run_plan(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "plan": the plans of an earlier result; returns the path of plan.json."""
    names = [one.name for one in fields(PlanChoices)]
    arguments = _only(job["arguments"], ("result", "cavity", *names))
    choices = PlanChoices(**{name: arguments[name] for name in names if name in arguments})
    folder, cavity = _text(arguments, "result"), _text(arguments, "cavity", needed=False)
    return plan_result(folder, choices, cavity=cavity, progress=progress)[1]


def run_infer(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "infer": arguments of `Patient.load` and the choices of a `Method`; returns the path of result.json."""
    arguments, out = dict(job["arguments"]), Path(_text(job, "out"))
    known = inspect.signature(Patient.load).parameters
    files = {name: arguments.pop(name) for name in known if name in arguments}
    _text(files, "t1gd", needed="study" not in files)
    for name in files:
        _text(files, name, needed=False)
    for name, value in arguments.items():
        if isinstance(value, str):
            _text(arguments, name)
    infer_files(files, Method.from_json(arguments), out, progress=progress)
    return out / RESULT_FILE


def run_match(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "match": the density of another match of an earlier result; returns its path."""
    arguments = _only(job["arguments"], ("result", "rank", "atlas"))
    folder, rank = _text(arguments, "result"), _whole_number(arguments, "rank", 0)
    return show_match(folder, rank, atlas=_text(arguments, "atlas", needed=False), progress=progress)


def run_strip(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "strip": a patient's images without skull, on the T1Gd's grid; returns the path of strip.json.

    Its `files` are the brain's and, by role, the images' that were given beside the T1Gd and the T1Gd's own.
    """
    arguments, out = _only(job["arguments"], (*STRIPPED_ROLES, "brain_mask", "align")), Path(_text(job, "out"))
    align = arguments.get("align", True)
    if not isinstance(align, bool):
        raise InputError(f"The job's argument align is true or false, not {shown(align)}.")
    paths = {role: _text(arguments, role, needed=role == "t1gd") for role in (*STRIPPED_ROLES, "brain_mask")}
    progress(0.0, "Reading the patient's files")
    volumes = {role: _finite(read_volume(path)) for role, path in paths.items() if path is not None}
    mask, t1gd = volumes.pop("brain_mask", None), volumes.pop("t1gd")
    brain_mask = None if mask is None else Volume(mask.array > 0, mask.grid)
    stripped = strip_images(t1gd, volumes, brain_mask=brain_mask, align=align, progress=part(progress, 0.05, 0.95))
    written = {"brain": stripped.brain, **stripped.images}
    files = {role: f"{role}.nrrd" for role in written}
    with staged_folder(out) as stage, output_errors(out):
        for role, volume in written.items():
            write_volume(volume, stage / files[role])
        alignment = {role: found.as_json() for role, found in stripped.alignment.items()}
        write_json({"source": stripped.source, "alignment": alignment, "files": files}, stage / STRIP_FILE)
    return out / STRIP_FILE


def run_export(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "export": a result as DICOM objects; returns the path of the segmentation, beside which the others lie.

    `dicom` is the folder or a file of the T1Gd's series, or a list of its files; `t1gd` the image file that the
    result was made from, where it was not that series itself. `notes` is a file, outside the folder of the objects,
    for the list of what is not among them (JSON); where it is given its path is returned.
    """
    arguments, out = _only(job["arguments"], ("result", "dicom", "t1gd", "notes")), Path(_text(job, "out"))
    files = arguments.get("dicom")
    if isinstance(files, list) and files:
        series: Any = [_text({"dicom": file}, "dicom") for file in files]
    else:
        series = _text(arguments, "dicom")
    t1gd = _text(arguments, "t1gd", needed=False)
    notes = _text(arguments, "notes", needed=False)
    export = export_dicom(_text(arguments, "result"), series, out, t1gd=t1gd, progress=progress)
    if notes is None:
        return export.files["segmentation"]
    with output_errors(Path(notes)):
        write_json(list(export.notes), Path(notes))
    return Path(notes)


def run_build(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "build": a database; returns its path."""
    arguments = _only(
        job["arguments"], ("path", "entries", "atlas", "sampling", "random_seed", "workers", "dask", "resume")
    )
    path, entries = Path(_text(arguments, "path")), _whole_number(arguments, "entries", 1)
    options = {name: arguments[name] for name in arguments if name not in ("path", "entries", "atlas")}
    for name in ("sampling", "dask"):
        _text(options, name, needed=False)
    for name in ("random_seed", "workers"):
        if options.get(name) is not None:
            _whole_number(options, name, 0)
    if not isinstance(options.get("resume", False), bool):
        raise InputError(f"The job's argument resume is true or false, not {shown(options['resume'])}.")
    given = {name: value for name, value in options.items() if value is not None}
    atlas = Atlas.load(_text(arguments, "atlas", needed=False) or "SRI24")
    build_database(path, atlas, entries, progress=progress, **given)
    return path


def run_info(job: Mapping[str, Any], *, progress: Progress) -> Path:
    """Job "info": what a database holds; returns the path of a JSON file."""
    out, database = Path(_text(job, "out")), _text(_only(job["arguments"], ("database",)), "database")
    with staged_folder(out) as stage:
        described = describe_database(database, progress=progress)
        with output_errors(out):
            write_json(described, stage / "info.json")
    return out / "info.json"


def _finite(volume: Volume) -> Volume:
    return Volume(np.nan_to_num(volume.array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0), volume.grid)


def _only(arguments: Mapping[str, Any], known: Sequence[str]) -> Mapping[str, Any]:
    """The arguments of a job, all of them known; `InputError` names those that are not."""
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise InputError(f"The job has no argument {shown(', '.join(unknown))}; there are {', '.join(known)}.")
    return arguments


def _text(values: Mapping[str, Any], name: str, *, needed: bool = True) -> Any:
    """A text of a job, such as a path; None where it is absent and not needed."""
    value = values.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or not value or min(value) < " ":
        said = "absent" if value is None else shown(value)
        raise InputError(f"The job's {name} is a text without control characters, not {said}.")
    return value


def _whole_number(values: Mapping[str, Any], name: str, least: int) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(
            f"The job's {name} is a whole number from {least}, not {'absent' if value is None else shown(value)}."
        )
    return value


JOBS = {
    "infer": run_infer,
    "match": run_match,
    "plan": run_plan,
    "strip": run_strip,
    "export": run_export,
    "build": run_build,
    "info": run_info,
}
