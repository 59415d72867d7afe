"""The study of the sensitivity: patients refined again under other assumptions about the tissue."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from TumorQueryLib.base.method import DEFAULT_SOLVES
from TumorQueryLib.base.progress import Progress, no_progress
from TumorQueryLib.database import TumorDatabase
from TumorQueryLib.estimates.sensitivity import SENSITIVITY_SOLVES, SensitivityRow, sensitivity
from TumorQueryLib.studies.known_truth.run import run_studies
from TumorQueryLib.studies.known_truth.setting import Conditions
from TumorQueryLib.studies.known_truth.tables import write_rows
from TumorQueryLib.studies.known_truth.tumour import Tumour
from TumorQueryLib.studies.sensitivity.tables import as_markdown, summarise


@dataclass(frozen=True)
class SensitivityStudy:
    """The study "sensitivity" of a run (see `known_truth.run.Study`).

    Parameters
    ----------
    count : int
        Number of made-up tumours; 0 where only a cohort's patients are looked at.
    """

    count: int
    name = "sensitivity"
    takes_patients = True
    takes_sample = False
    needs_clean_registration = False

    def choices(self) -> dict[str, Any]:
        """Nothing but the run's conditions."""
        return {}

    def measure(self, tumour: Tumour) -> list[dict[str, Any]]:
        """A row for each assumption, see `measure_sensitivity`."""
        return measure_sensitivity(tumour)

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """See `tables.summarise`."""
        return {"summary": summarise(rows)}

    def write(self, result: Mapping[str, Any], folder: Path) -> None:
        """sensitivity.csv and sensitivity.md."""
        write_rows(result["cases"], folder / "sensitivity.csv")
        (folder / "sensitivity.md").write_text(as_markdown(result) + "\n", encoding="utf-8")


def run_sensitivity(
    count: int,
    database: TumorDatabase,
    out: str | os.PathLike | None = None,
    *,
    cohort: str | os.PathLike | None = None,
    random_seed: int = 0,
    mass_effect: bool = False,
    outline_error_mm: float = 0.0,
    budget_solves: int = DEFAULT_SOLVES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Refine patients, then each again under other assumptions about the tissue.

    Parameters
    ----------
    count : int
        Number of made-up tumours: the first ones of `run_cross_anatomy` with the same random seed. 0 with a cohort.
    database : TumorDatabase
        In SRI24.
    out : path, optional
        Folder for sensitivity.json, sensitivity.csv (a row for each tumour and assumption) and sensitivity.md. An
        interrupted run is taken up there by the same call.
    cohort : path, optional
        A CSV file of real patients (see `inputs.cohort_file.read_cohort`).
    random_seed, mass_effect, outline_error_mm
        See `run_cross_anatomy`.
    budget_solves : int
        Of each refinement, and at most of each assumption (`estimates.sensitivity.SENSITIVITY_SOLVES`).
    progress : Progress

    Returns
    -------
    dict
        `cases`: a list of rows, see `measure_sensitivity`; `summary`: see `tables.summarise`; the conditions.

    Raises
    ------
    InputError
        When there is no tumour to look at, the cohort file is not accepted, or `out` holds another interrupted run.
    DatabaseError
        When the database is not of SRI24.
    """
    study = SensitivityStudy(count)
    results = run_studies(
        [study],
        database,
        out,
        conditions=Conditions(random_seed, mass_effect, outline_error_mm),
        cohort=cohort,
        budget_solves=budget_solves,
        progress=progress,
    )
    return results[study.name]


def measure_sensitivity(tumour: Tumour) -> list[dict[str, Any]]:
    """One patient's tumour, refined in the patient's anatomy, again under each assumption.

    Parameters
    ----------
    tumour : Tumour

    Returns
    -------
    list of dict
        Of each of `estimates.sensitivity.assumed_tissues`: `kind` ("made up" or "patient"), `assumption`; `length_mm`
        in the patient and `rho_t` of the first focus, `second_length_mm` and `second_rho_t` (None without one);
        `core_ml`, `whole_ml` and `above_level_ml` (above the density `level`) of the density; `dice_sum` on the T1Gd
        image's grid; `stopped`; `true_length_mm` and `true_rho_t` (None for a patient).
    """
    found = tumour.way.found("patient")
    rows = sensitivity(
        found.model,
        tumour.way.patient.regions_on_t1gd,
        found.observed,
        tumour.setting.thresholds,
        solves=min(SENSITIVITY_SOLVES, tumour.setting.method.refine_solves),
        progress=tumour.progress,
    )
    true = tumour.phantom
    return [
        {
            "kind": "patient" if true is None else "made up",
            "assumption": row.assumption,
            **_of_foci(row),
            "core_ml": row.core_ml,
            "whole_ml": row.whole_ml,
            "above_level_ml": row.above_level_ml,
            "level": row.level,
            "dice_sum": row.dice_sum,
            "stopped": row.stopped,
            "true_length_mm": None if true is None else true.infiltration_length,
            "true_rho_t": None if true is None else true.parameters.rho_t,
        }
        for row in rows
    ]


def _of_foci(row: SensitivityRow) -> dict[str, float | None]:
    lengths, ages = (*row.infiltration_lengths_mm, None), (*row.rho_t, None)
    return {"length_mm": lengths[0], "rho_t": ages[0], "second_length_mm": lengths[1], "second_rho_t": ages[1]}
