"""The experiment: made-up patients through the pipeline, and what each step of it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.base.files import staged_folder, write_json
from TumorQueryLib.base.parallel import available_cores, in_order
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.database import TumorDatabase, sample_synthetic
from TumorQueryLib.estimates.refine import DEFAULT_SOLVES, refine
from TumorQueryLib.geometry.grid import Volume, resample
from TumorQueryLib.geometry.transforms import in_turn
from TumorQueryLib.growth import GrowthParameters, simulate
from TumorQueryLib.registration import Registration, register
from TumorQueryLib.strategies import Strategy, create_strategy
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.cross_anatomy.tables import as_markdown, draw, summarise, write_rows
from TumorQueryLib.studies.phantom import Phantom, grown_phantom

MODES = ("none", "atlas", "patient")
#: Beside the pipeline's own registration: one from MNI152's clean T1, without tumour, noise or tilt; and the
#: refinement in the patient's anatomy with the true tissue maps instead of SRI24's.
VARIANTS = ("pipeline", "clean registration", "true tissue maps")
#: Matches that a refinement starts from.
MATCHES = 15


@dataclass(frozen=True, eq=False)
class Setting:
    """What all made-up patients of an experiment have in common.

    Parameters
    ----------
    anatomy : Atlas
        Where the tumours grow.
    atlas : Atlas
        The database's.
    database : TumorDatabase
    engine : Strategy
        Ready to query the database.
    between : Registration
        Of the anatomy's own T1 to the atlas; after the true map it is the registration without tumour, noise and
        tilt (two anatomies have no map free of error).
    budget_solves : int
        Of each refinement.
    """

    anatomy: Atlas
    atlas: Atlas
    database: TumorDatabase
    engine: Strategy
    between: Registration
    budget_solves: int = DEFAULT_SOLVES


def run_cross_anatomy(
    count: int,
    database: TumorDatabase | str = "starter",
    out: Path | None = None,
    *,
    random_seed: int = 0,
    mass_effect: bool = False,
    budget_solves: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure the pipeline on made-up patients of MNI152.

    Parameters
    ----------
    count : int
        Number of tumours, all with a visible core.
    database : TumorDatabase or str
        In SRI24.
    out : Path, optional
        Folder for cross_anatomy.json, cross_anatomy.csv (a row for each tumour, variant and mode),
        cross_anatomy.md (the table) and cross_anatomy.png.
    random_seed : int
    mass_effect : bool
    budget_solves : int, optional
        Of each refinement; its default otherwise.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `measure_case`; `summary`: see `tables.summarise`.

    Raises
    ------
    InputError
        When `count` is below 1 or the database is not of SRI24.
    """
    if count < 1:
        raise InputError(f"The truth experiment needs at least one tumour, not {count}.")
    if not isinstance(database, TumorDatabase):
        database = TumorDatabase.open(database)
    atlas, anatomy = Atlas.load("SRI24"), Atlas.load("MNI152")
    database.check_atlas(atlas)
    setting = Setting(
        anatomy,
        atlas,
        database,
        create_strategy("direct", database),
        register(anatomy.t1, atlas, progress=part(progress, 0, 0.02)),
        budget_solves or DEFAULT_SOLVES,
    )
    tumours = sample_synthetic(anatomy, count, random_seed=random_seed, with_visible_core=True)
    all_parameters = [tumour.parameters for tumour in tumours]
    thresholds = (database.threshold_core, database.threshold_whole)

    def measure(number: int, report: Progress) -> list[dict[str, Any]]:
        case = grown_phantom(
            anatomy, all_parameters[number], thresholds, random_seed=random_seed + number, mass_effect=mass_effect
        )
        return measure_case(case, setting, progress=report)

    rows: list[dict[str, Any]] = []
    for number, found in enumerate(_on_all_cores(measure, count)):
        rows += [{"tumour": number, **row} for row in found]
        progress(0.02 + 0.98 * (number + 1) / count, f"Tumour {number + 1} of {count}")
    result = {
        "count": count,
        "seed": random_seed,
        "mass_effect": mass_effect,
        "summary": summarise(rows),
        "cases": rows,
    }
    if out is not None:
        with staged_folder(out) as stage:
            write_json(result, stage / "cross_anatomy.json")
            write_rows(rows, stage / "cross_anatomy.csv")
            (stage / "cross_anatomy.md").write_text(as_markdown(result) + "\n", encoding="utf-8")
            draw(rows, stage / "cross_anatomy.png")
    return result


def _on_all_cores(
    measure: Callable[[int, Progress], list[dict[str, Any]]], count: int
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each tumour in their order; the tumours at work end when the caller does."""
    stopped = Event()

    def stop_here(value: float, message: str) -> None:
        if stopped.is_set():
            raise Cancelled("The experiment was cancelled.")

    cores = available_cores()
    with ThreadPoolExecutor(cores) as executor:
        try:
            yield from in_order(executor, lambda number: measure(number, stop_here), range(count), cores)
        finally:
            stopped.set()


def measure_case(case: Phantom, setting: Setting, *, progress: Progress = no_progress) -> list[dict[str, Any]]:
    """One made-up patient through the pipeline, without and with refinement.

    Parameters
    ----------
    case : Phantom
    setting : Setting
    progress : Progress

    Returns
    -------
    list of dict
        A row for each variant and mode: `variant`, `mode`, the figures of `errors.density_errors`,
        `seed_error_mm`, `length_ratio`, `rho_t_ratio` (found / true) and `seconds`.
    """
    patient = case.patient
    started = time.perf_counter()
    own = register(patient.registration_image, setting.atlas, tumour=patient.whole, progress=part(progress, 0.0, 0.4))
    registration_s = time.perf_counter() - started
    clean = _chained(case.truth, setting.between)
    plans: list[tuple[str, str, Registration, tuple[Atlas, Registration] | None]]
    plans = [("pipeline", mode, own, None) for mode in MODES]
    plans += [("clean registration", mode, clean, None) for mode in MODES]
    plans += [("true tissue maps", "patient", own, (setting.anatomy, case.truth))]
    rows = []
    for number, (variant, mode, registration, known) in enumerate(plans):
        step = part(progress, 0.4 + 0.6 * number / len(plans), 0.4 + 0.6 * (number + 1) / len(plans))
        step(0.0, f"{variant}, {mode}")
        started = time.perf_counter()
        answer = _answer(case, setting, mode, registration, known, step)
        seconds = time.perf_counter() - started + (registration_s if registration is own else 0.0)
        rows.append({"variant": variant, "mode": mode, **_errors(answer, case), "seconds": seconds})
    return rows


@dataclass(frozen=True, eq=False)
class _Answer:
    """The tumour that was found: as it grew, and in the patient (density on the true one's grid, RAS mm, mm)."""

    parameters: GrowthParameters
    density: Volume
    seed: tuple[float, float, float]
    infiltration_length: float


def _answer(
    case: Phantom,
    setting: Setting,
    mode: str,
    registration: Registration,
    known: tuple[Atlas, Registration] | None,
    progress: Progress,
) -> _Answer:
    patient, atlas, database = case.patient, setting.atlas, setting.database
    masks = registration.masks_in_atlas(patient.core, patient.whole, atlas)
    matches = setting.engine.query(masks, MATCHES)
    found, frame = database.parameters(matches[0].entry), "atlas"
    if mode == "none":
        density = Volume(simulate(found, atlas), atlas.grid)
    else:
        refined = refine(
            matches,
            database,
            atlas,
            masks,
            frame=mode,
            patient=patient,
            registration=registration,
            anatomy=known,
            budget_solves=setting.budget_solves,
            progress=progress,
        )
        found, frame, density = refined.parameters[0], refined.frame, refined.density
    grid = case.density.grid
    if frame == "patient":
        return _Answer(found, resample(density, grid), found.seed, found.infiltration_length)
    x, y, z = registration.seed_in_patient(found.seed).tolist()
    return _Answer(
        found,
        registration.density_in_patient(density.array, density.grid, grid),
        (x, y, z),
        found.infiltration_length * registration.length_scale(patient.whole),
    )


def _errors(answer: _Answer, case: Phantom) -> dict[str, float]:
    true_length = case.parameters.infiltration_length * case.truth.length_scale(case.patient.whole)
    true_seed = case.truth.seed_in_patient(case.parameters.seed)
    return {
        **density_errors(answer.density.array, case),
        "seed_error_mm": float(np.linalg.norm(answer.seed - true_seed)),
        "length_ratio": answer.infiltration_length / true_length,
        "rho_t_ratio": answer.parameters.rho_t / case.parameters.rho_t,
    }


def _chained(first: Registration, second: Registration) -> Registration:
    """Patient to the atlas of `second` by way of the anatomy of `first`."""
    return Registration(
        "deformable",
        in_turn(first.patient_to_atlas, second.patient_to_atlas),
        in_turn(second.atlas_to_patient, first.atlas_to_patient),
        {},
        (),
    )
