"""The experiment: made-up patients through the pipeline, and what each step of it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from TumorQueryLib.anatomy.anatomy import Anatomy
from TumorQueryLib.anatomy.atlas import Atlas
from TumorQueryLib.base.errors import Cancelled, InputError
from TumorQueryLib.base.files import staged_folder, write_json
from TumorQueryLib.base.method import DEFAULT_SOLVES, Method
from TumorQueryLib.base.parallel import available_cores, in_order
from TumorQueryLib.base.progress import Progress, no_progress, part
from TumorQueryLib.base.timing import Stopwatch
from TumorQueryLib.database import TumorDatabase, sample_synthetic
from TumorQueryLib.estimates.estimate import Estimate
from TumorQueryLib.estimates.matches import estimate_of_match
from TumorQueryLib.geometry.transforms import SpaceMap, in_turn
from TumorQueryLib.inference import refine_match, register_patient
from TumorQueryLib.registration import register
from TumorQueryLib.strategies import Strategy, create_strategy
from TumorQueryLib.studies.cross_anatomy.errors import density_errors
from TumorQueryLib.studies.cross_anatomy.tables import as_markdown, draw, summarise, write_rows
from TumorQueryLib.studies.phantom import Phantom, grown_phantom

MODES = ("none", "atlas", "patient")
#: Beside the pipeline's own registration: one from MNI152's clean T1, without tumour, noise or tilt; and the
#: refinement in the patient's anatomy with the true tissue maps instead of SRI24's.
VARIANTS = ("pipeline", "clean registration", "true tissue maps")


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
    between : SpaceMap
        Of the anatomy's own T1 to the atlas; after the true map it is the registration without tumour, noise and
        tilt (two anatomies have no map free of error).
    method : Method
        Of the pipeline; the experiment varies where it refines.
    """

    anatomy: Atlas
    atlas: Atlas
    database: TumorDatabase
    engine: Strategy
    between: SpaceMap
    method: Method


def run_cross_anatomy(
    count: int,
    database: TumorDatabase,
    out: Path | None = None,
    *,
    random_seed: int = 0,
    mass_effect: bool = False,
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure the pipeline on made-up patients of MNI152.

    Parameters
    ----------
    count : int
        Number of tumours, all with a visible core.
    database : TumorDatabase
        In SRI24.
    out : Path, optional
        Folder for cross_anatomy.json, cross_anatomy.csv (a row for each tumour, variant and mode),
        cross_anatomy.md (the table) and cross_anatomy.png.
    random_seed : int
    mass_effect : bool
    budget_solves : int
        Of each refinement.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `measure_case`; `summary`: see `tables.summarise`.

    Raises
    ------
    InputError
        When `count` is below 1.
    DatabaseError
        When the database is not of SRI24.
    """
    if count < 1:
        raise InputError(f"The truth experiment needs at least one tumour, not {count}.")
    atlas, anatomy = database.load_atlas(Atlas.load("SRI24")), Atlas.load("MNI152")
    setting = Setting(
        anatomy,
        atlas,
        database,
        create_strategy("direct", database),
        register(anatomy.t1, atlas, progress=part(progress, 0.0, 0.02)),
        Method(refine_solves=budget_solves),
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
    with Stopwatch() as registering:
        own, _ = register_patient(
            case.patient, setting.atlas, setting.method.registration, progress=part(progress, 0.0, 0.4)
        )
    clean = _chained(case.truth, setting.between)
    plans = [_Plan("pipeline", mode, own, setting.atlas, own) for mode in MODES]
    plans += [_Plan("clean registration", mode, clean, setting.atlas, clean) for mode in MODES]
    plans += [_Plan("true tissue maps", "patient", own, setting.anatomy, case.truth)]
    rows = []
    for number, plan in enumerate(plans):
        step = part(progress, 0.4 + 0.6 * number / len(plans), 0.4 + 0.6 * (number + 1) / len(plans))
        step(0.0, f"{plan.variant}, {plan.mode}")
        with Stopwatch() as taken:
            estimate = _estimate(case, setting, plan, step)
        seconds = taken.wall + (registering.wall if plan.space is own else 0.0)
        rows.append({"variant": plan.variant, "mode": plan.mode, **_errors(estimate, case), "seconds": seconds})
    return rows


@dataclass(frozen=True, eq=False)
class _Plan:
    """A row of the experiment: by which map the patient is queried, and whose tissue is carried to the patient how."""

    variant: str
    mode: str
    space: SpaceMap
    carried: Atlas
    carried_by: SpaceMap


def _estimate(case: Phantom, setting: Setting, plan: _Plan, progress: Progress) -> Estimate:
    """What the pipeline chooses, as `inference.infer` does, by the plan's map."""
    patient = case.patient
    query = plan.space.masks_in_atlas(patient.core, patient.whole, setting.atlas.grid)
    matches = setting.engine.query(query, setting.method.top)
    ranked = tuple(setting.database.parameters(match.entry) for match in matches)
    anatomy = Anatomy.of_atlas(setting.atlas, plan.space, patient.whole)
    match = estimate_of_match(
        ranked[0],
        anatomy,
        query,
        patient.regions_on_t1gd,
        case.thresholds,
        solver_version=setting.database.solver_version,
    )
    if plan.mode == "none":
        return match
    found = refine_match(
        patient,
        replace(setting.method, refine=plan.mode),
        match,
        ranked,
        plan.carried,
        plan.carried_by,
        query,
        case.thresholds,
        progress=progress,
    )
    return match if found is None else match.or_better(found[1])


def _errors(estimate: Estimate, case: Phantom) -> dict[str, float]:
    found = estimate.parameters[0]
    true_length = case.parameters.infiltration_length * case.truth.length_scale(case.patient.whole)
    true_seed = case.truth.point_in_patient(case.parameters.seed)
    return {
        **density_errors(estimate.in_patient.array, case),
        "seed_error_mm": float(np.linalg.norm(estimate.anatomy.point_in_patient(found.seed) - true_seed)),
        "length_ratio": estimate.infiltration_lengths_mm[0] / true_length,
        "rho_t_ratio": found.rho_t / case.parameters.rho_t,
    }


def _chained(first: SpaceMap, second: SpaceMap) -> SpaceMap:
    """Patient to the atlas of `second` by way of the anatomy of `first`."""
    return SpaceMap(
        patient_to_atlas=in_turn(first.patient_to_atlas, second.patient_to_atlas),
        atlas_to_patient=in_turn(second.atlas_to_patient, first.atlas_to_patient),
    )
