"""The study of the plans: tumours whose true density is known, planned as a patient's are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from TumorQueryLib.base.errors import InputError
from TumorQueryLib.base.method import DEFAULT_SOLVES
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.inference import find_patient_brain
from TumorQueryLib.studies.known_truth.run import run_studies
from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.known_truth.tables import write_rows
from TumorQueryLib.studies.known_truth.tumour import Found, Tumour
from TumorQueryLib.studies.plans.coverage import Planned, cells_outside
from TumorQueryLib.studies.plans.tables import as_markdown, by_tumour, summarise

#: The pipeline's answers that plans follow, by the name that they have as an estimate.
MODES = {"match": "none", "refined": "patient", "assimilated": "assimilated"}


@dataclass(frozen=True)
class PlansStudy:
    """The study "plans" of a run (see `known_truth.run.Study`).

    Parameters
    ----------
    count : int
        Number of tumours.
    """

    count: int
    name = "plans"
    takes_patients = False
    takes_sample = True
    needs_clean_registration = False

    def choices(self) -> dict[str, Any]:
        """Nothing but the run's conditions."""
        return {}

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """A row for each plan, see `measure_plans`."""
        return measure_plans(tumour)

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """See `tables.summarise`."""
        return {"summary": summarise(rows)}

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """plans.csv and plans.md."""
        write_rows(by_tumour(result["cases"]), folder / "plans.csv")
        (folder / "plans.md").write_text(as_markdown(result) + "\n", encoding="utf-8")


def run_plans(
    count: int,
    database: TumorDatabase,
    out: str | os.PathLike | None = None,
    *,
    random_seed: int = 0,
    mass_effect: bool = False,
    outline_error_mm: float = 0.0,
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Plan made-up patients of MNI152, and count the true cells outside each plan.

    Parameters
    ----------
    count : int
        Number of tumours: the first ones of `run_cross_anatomy` with the same random seed. Where outlines are exact
        and there is no mass effect the bundled sample case comes beside them.
    database : TumorDatabase
        In SRI24.
    out : path, optional
        Folder for plans.json, plans.csv (a row for each tumour) and plans.md. An interrupted run is taken up
        there by the same call.
    random_seed, mass_effect, outline_error_mm, budget_solves
        See `run_cross_anatomy`.
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `coverage.cells_outside`; `summary`: see `tables.summarise`; the conditions.

    Raises
    ------
    InputError
        When `count` is below 1, or `out` holds another interrupted run.
    DatabaseError
        When the database is not of SRI24.
    """
    study = PlansStudy(count)
    conditions = Conditions(random_seed, mass_effect, outline_error_mm)
    results = run_studies([study], database, out, conditions=conditions, budget_solves=budget_solves, progress=progress)
    return results[study.name]


def measure_plans(tumour: Tumour) -> list[dict[str, Any]]:
    """The plans of one tumour: as the pipeline sees the patient, counted against the truth.

    Parameters
    ----------
    tumour : Tumour
        With its true density.

    Returns
    -------
    list of dict
        See `coverage.cells_outside`; the densities are the keys of `MODES`. Where nothing can be said of how sure the
        density is, there is no probable plan.
    """
    if tumour.true_density is None:
        raise ValueError("The truth of a real patient is not known.")
    plans = {}
    for name, mode in MODES.items():
        tumour.progress(0.0, f"planning, {name}")
        plans[name] = _planned(tumour, name, tumour.way.found(mode))
    return cells_outside(plans, tumour.true_density)


def _planned(tumour: Tumour, name: str, found: Found) -> Planned:
    patient = tumour.way.patient
    brain = find_patient_brain(patient).on(patient.t1gd.grid, patient.registration_image, patient.whole)
    uncertainty = None
    if name == "assimilated":
        try:
            uncertainty = tumour.way.uncertainty
        except InputError:
            # No outline in tissue: the probable plan is missing from this tumour's rows, and counted as missing.
            uncertainty = None
    return Planned(
        chosen=name,
        density=found.estimate.in_patient,
        observed=patient.regions_on_t1gd,
        tissue=found.model.anatomy.tissue_in_patient(brain),
        uncertainty=uncertainty,
    )
